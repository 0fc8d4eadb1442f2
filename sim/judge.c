/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Was it a good run? Of the invariants of reliability: every call returned by its bound
 * (I1); records and descriptors are the givers' (I2, seen in job.c); where one survivor
 * got an error, all did, the same and soon (I3); what it blames is an injected fault,
 * never an innocent rank (I4); nothing is left behind (I6).
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "job.h"

static char why[2048];

const char *sim_say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	return why;
}

void sim_judge_duration(const struct sim_player *p, const char *what, uint64_t since_ns,
			uint64_t most_ns)
{
	uint64_t took = sim.now - since_ns - (p->proc->paused_ns - p->paused_before_ns);

	if (took > most_ns + most_ns / 50)
		sim_broken("rank %d: %s took %.3f s, %.3f s are allowed", p->rank, what,
			   (double)took / 1e9, (double)most_ns / 1e9);
}

/* ---- what a line says ---- */

/* The ranks in lists behind the words rank and ranks: "ranks 1, 3-5". */
static uint64_t ranks_in(const char *text)
{
	uint64_t set = 0;

	while ((text = strstr(text, "rank"))) {
		text += 4 + (text[4] == 's');
		while (*text == ' ' && isdigit((unsigned char)text[1])) {
			char *end;
			unsigned long from = strtoul(text, &end, 10), to = from;

			if (*end == '-')
				to = strtoul(end + 1, &end, 10);
			for (; from <= to && from < 64; from++)
				set |= (uint64_t)1 << from;
			text = *end == ',' ? end + 1 : end;
		}
	}
	return set;
}

/* A line has the numbers of its communicator; `rank` is the job's. */
static bool names(const struct sim_player *p, const char *text, int rank)
{
	int seat = sim_comm_seat(p->at->comm, rank);

	return seat >= 0 && ranks_in(text) >> seat & 1;
}

/* ---- which fault explains an error ---- */

/* How long ranks may hear nothing of others because of all that there is. */
static uint64_t quiet_ns(void)
{
	uint64_t ns = 0;

	for (int i = 0; i < sim_job.plan->nfaults; i++) {
		const struct sim_fault *f = &sim_job.plan->fault[i];

		if (f->kind == SIM_PAUSE || f->kind == SIM_PAUSE_ALL || f->kind == SIM_CUT ||
		    f->kind == SIM_CUT_ONE_WAY || f->kind == SIM_CUT_PAIR)
			ns += cx_min(f->for_ns, 100 * SIM_S);
	}
	return ns;
}

/* As it was in the first communicator. */
static const struct sim_player *as_it_began(const struct sim_player *p)
{
	while (p->before)
		p = p->before;
	return p;
}

/* Had everybody a communicator so long after the beginning? */
static bool all_created(uint64_t ns)
{
	for (int i = 0; i < sim_job.players; i++)
		if (!sim_is_joiner(&sim_job.player[i]) &&
		    (!sim_job.player[i].created_ns ||
		     as_it_began(&sim_job.player[i])->created_ns > SIM_BEGINNING + ns))
			return false;
	return true;
}

/* A fault that everybody should be able to sit out. */
static bool is_harmless(const struct sim_fault *f)
{
	const struct sim_schedule *s = sim_job.plan;

	if (f->when && !(f->kind == SIM_KILL ? sim_job.player[f->rank].proc->killed : f->struck))
		return true; /* what it waits for did not come */
	switch (f->kind) {
	case SIM_PAUSE:
	case SIM_PAUSE_ALL:
	case SIM_CUT:
	case SIM_CUT_ONE_WAY:
	case SIM_CUT_PAIR:
		return quiet_ns() < cx_min(s->op_ns, s->silence_ns) / 2;
	case SIM_JUMP:
		return f->for_ns < s->op_ns / 2 &&
		       (f->for_ns < s->create_ns / 2 || all_created(f->at_ns));
	case SIM_STRAGGLER:
		return f->for_ns < s->op_ns / 2 || f->n > (uint64_t)s->ops || f->meets;
	case SIM_KILL_DECIDER:
		return !f->struck;
	case SIM_VOTE_OUT:
		return true; /* for all calls */
	case SIM_END:
		return f->n > (uint64_t)s->ops;
	case SIM_LATE:
		return f->for_ns < s->create_ns / 2;
	case SIM_MISMATCH:
	case SIM_LEAVE_EARLY:
		return f->n > (uint64_t)s->ops || s->ranks == 1 ||
		       (f->kind == SIM_LEAVE_EARLY && f->n == (uint64_t)s->ops);
	case SIM_WRONG_SECRET:
		return s->ranks == 1;
	case SIM_GARBLE:
		return !sim_job.player[f->rank].proc->garbled;
	default:
		return false;
	}
}

int sim_judge_harmful(int from)
{
	int n = 0;

	for (int i = 0; i < sim_job.plan->nfaults; i++)
		n += !is_harmless(&sim_job.plan->fault[i]) && sim_job.plan->fault[i].rank >= from;
	return n;
}

static int harmful(void)
{
	return sim_judge_harmful(0);
}

/* The rank above ended creation, which is for its own error to explain. Whose connection
 * is full of records is not told, as nobody waits for it; nor is, over tcp, who sent
 * something that came when the other end was closed, as that breaks the connection. */
static bool came_after_the_end(const struct sim_player *p)
{
	const struct sim_player *zero = &sim_job.player[0];
	if (p->rank && !p->created && zero->code && !zero->created &&
	    strstr(p->text, "rank 0 did not open its door"))
		return true;
	for (int r = 0; r < sim_job.plan->ranks; r++)
		if (sim_job_leads(r) && names(p, p->text, r) && sim_job.player[r].code &&
		    !sim_job.player[r].created)
			return true;
	return false;
}

/* Creation that does not come about, as others see it. */
static bool is_no_creation(const struct sim_player *p, int rank)
{
	switch (p->code) {
	case COLLX_ERR_INIT_TIMEOUT:
	case COLLX_ERR_PEER_DEAD:
	case COLLX_ERR_PEER_LEFT:
		if (came_after_the_end(p))
			return true;
		return !p->created && (names(p, p->text, rank) || p->rank == rank || rank == 0 ||
				       sim_job_leads(rank) || strstr(p->text, "closed before") ||
				       strstr(p->text, "nobody answered"));
	case COLLX_ERR_AUTH:
		return !p->created && strstr(p->text, "turned rank");
	default:
		return false;
	}
}

static bool is_slow(const struct sim_player *p)
{
	return p->code == COLLX_ERR_TIMEOUT || p->code == COLLX_ERR_INIT_TIMEOUT;
}

/* No heartbeat came from there; or from here, for the others. */
static bool is_silence(const struct sim_player *p, int rank)
{
	return (p->code == COLLX_ERR_PEER_SILENT && names(p, p->text, rank)) ||
	       (p->code == COLLX_ERR_EXCLUDED && p->rank == rank);
}

/* The ranks that a cut of hosts can silence: those of the host, and who leads the others. */
static bool is_silence_by_cut(const struct sim_player *p, const struct sim_fault *f)
{
	const struct sim_schedule *s = sim_job.plan;
	int zero = p->at->comm->member[0];

	for (int r = 0; r < sim_job.all; r++)
		if (is_silence(p, r) && (s->host[r] == f->host || sim_job_leads(r) || r == zero ||
					 s->host[zero] == f->host || f->kind == SIM_CUT_PAIR))
			return true;
	return false;
}

/* Joiners call already while the others have their last word on it, and wait for one that does
 * not. */
static bool is_grown(const struct sim_comm *c)
{
	return c->member[c->ranks - 1] >= sim_job.plan->ranks;
}

/* Where the line says who is missing it must be that one, and only those who have a
 * reason to be: who is not in the call but neither stopped nor slow is innocent. */
static bool is_slow_for(const struct sim_player *p, int rank)
{
	const char *list = strstr(p->text, "missing: ");

	if (!is_slow(p))
		return false;
	return !list || names(p, list, rank) || sim_job_leads(rank) || is_grown(p->at->comm);
}

static bool is_death(const struct sim_player *p, int rank)
{
	return p->code == COLLX_ERR_PEER_DEAD && names(p, p->text, rank);
}

/* Somebody had finished the call that p waits in, not knowing that it was another one. */
static bool left_before(const struct sim_player *p)
{
	for (int i = 0; i < sim_job.players; i++)
		if (sim_job.player[i].left && sim_job.player[i].proc->ended_ns < p->error_ns)
			return true;
	return false;
}

/* Rank 0 holds it for a second one with its number, and it rank 0's list for nonsense. */
static bool is_one_too_many(const struct sim_player *p)
{
	return p->code == COLLX_ERR_INVALID ||
	       (p->code == COLLX_ERR_CORRUPT && strstr(p->text, "has a wrong seat for rank"));
}

/* A rank that lost its leader came anew before rank 0 heard of the leader's end. */
static bool outran_the_end_of(int leader, const struct sim_player *p)
{
	const struct sim_params *w = &sim.params;
	uint64_t ended = sim_job.player[leader].proc->ended_ns;
	const int *host = sim_job.plan->host;

	bool cut = sim_schedule_find(sim_job.plan, SIM_CUT, -1) ||
		   sim_schedule_find(sim_job.plan, SIM_CUT_ONE_WAY, -1);

	uint64_t most_ns = 8 * w->net_ns + (w->spike_in ? 2 * w->spike_ns : 0) + 100 * SIM_US;

	if (!cut && p->error_ns - p->proc->paused_ns > ended + most_ns)
		return false;
	for (int r = 1; r < sim_job.plan->ranks; r++)
		if (sim_job_leads(leader) && is_one_too_many(p) && !p->created &&
		    host[r] == host[leader] && names(p, p->text, r) && r != leader)
			return true;
	return false;
}

/* Whose connection is full holds back who leads it into creation. */
bool sim_judge_was_held_back(int rank)
{
	const struct sim_fault *f = sim_schedule_find(sim_job.plan, SIM_PAUSE, -1);
	const struct sim_player *p = &sim_job.player[rank];

	return f && sim_job_leads(rank) &&
	       (p->created ? p->created_ns > f->at_ns + f->for_ns + SIM_BEGINNING
			   : p->code == COLLX_ERR_INIT_TIMEOUT);
}

/* A chair that could not let others in went on without them. */
static bool is_left_outside(const struct sim_player *p, int chair)
{
	for (int q = chair + 1; q < sim_job.plan->ranks; q++)
		if (is_silence(p, q))
			return true;
	return false;
}

/* Of creation others may see no more than that it ended. */
static bool is_garbled(const struct sim_player *p, int by)
{
	if (!p->created)
		return p->code == COLLX_ERR_CORRUPT || p->code == COLLX_ERR_AUTH ||
		       p->code == COLLX_ERR_VERSION || p->code == COLLX_ERR_INVALID ||
		       is_no_creation(p, by) || is_no_creation(p, p->rank);
	/* Some were through with creation, another one was not, and told them. */
	if (is_grown(p->at->comm) && p->code == COLLX_ERR_CORRUPT)
		return true;
	for (int i = 0; i < sim_job.players; i++)
		if (!sim_job.player[i].created && sim_job.player[i].code == p->code &&
		    (p->code == COLLX_ERR_CORRUPT || p->code == COLLX_ERR_VERSION))
			return true;
	return (p->code == COLLX_ERR_CORRUPT && names(p, p->text, by)) || is_silence(p, by);
}

static bool is_roguery(const struct sim_player *p, int by)
{
	if (sim_rogue_is_early(&sim_job.player[by]) && !p->created)
		return p->code == COLLX_ERR_VERSION || p->code == COLLX_ERR_CORRUPT ||
		       is_no_creation(p, by);
	/* Nor does it pass on anything, or send heartbeats. */
	if (sim_job_leads(by) && (is_silence(p, by) || p->code == COLLX_ERR_LINK) &&
	    sim_job.plan->host[by] == sim_job.plan->host[p->rank])
		return true;
	return (p->code == COLLX_ERR_CORRUPT ||
		(p->code == COLLX_ERR_PEER_DEAD && (sim_job_leads(by) || harmful() > 1))) &&
	       names(p, p->text, by);
}

/* Its end is seen when no host is cut off any more. */
static uint64_t end_seen_ns(int rank)
{
	uint64_t at_ns = sim_job.player[rank].proc->ended_ns;

	for (int i = 0; i < sim_job.plan->nfaults; i++) {
		const struct sim_fault *f = &sim_job.plan->fault[i];

		if (f->kind == SIM_CUT && f->for_ns != UINT64_MAX &&
		    SIM_BEGINNING + f->at_ns < at_ns)
			at_ns = cx_max(at_ns, SIM_BEGINNING + f->at_ns + f->for_ns);
	}
	return at_ns;
}

/* Who met and ended has 1 s to come again, which is soon, and long enough for a restart. */
static bool is_named_late(const struct sim_player *p, int rank)
{
	return strstr(p->text, "had come, and its process ended") &&
	       p->error_ns > end_seen_ns(rank) + 1500 * SIM_MS;
}

static bool is_out_of_time(const struct sim_player *p, const struct sim_fault *jump)
{
	if (p->code == COLLX_ERR_INIT_TIMEOUT && !all_created(jump->at_ns))
		return true;
	if (!p->created)
		return is_no_creation(p, jump->rank);
	return p->code == COLLX_ERR_TIMEOUT && jump->for_ns >= sim_job.plan->op_ns / 2;
}

static bool explains(const struct sim_fault *f, const struct sim_player *p)
{
	int r = f->rank;

	if (is_named_late(p, r) || (f->kind == SIM_RESTART && strstr(p->text, "come again")))
		return false;
	switch (f->kind) {
	case SIM_KILL_DECIDER:
	case SIM_KILL:
		return is_death(p, r) || is_no_creation(p, r) || outran_the_end_of(r, p);
	case SIM_RESTART: /* whose end a cut may hide */
		return is_death(p, r) || is_no_creation(p, r) || outran_the_end_of(r, p) ||
		       (p->code == COLLX_ERR_INVALID && names(p, p->text, r) &&
			(sim_schedule_find(sim_job.plan, SIM_CUT, -1) ||
			 sim_schedule_find(sim_job.plan, SIM_CUT_ONE_WAY, -1)));
	case SIM_PAUSE:
		for (int q = 0; q < sim_job.plan->ranks; q++)
			if (is_silence(p, q) && sim_judge_was_held_back(q))
				return true;
		return is_slow_for(p, r) || (p->code == COLLX_ERR_LINK && sim_job_leads(r)) ||
		       is_silence(p, r) || is_no_creation(p, r);
	case SIM_JUMP: /* by that clock the time was over */
		return is_out_of_time(p, f);
	case SIM_LATE:
	case SIM_STRAGGLER: /* who comes to grow when the others gave that up does so alone */
		return is_slow_for(p, r) || is_no_creation(p, r) ||
		       (p->code == COLLX_ERR_MISMATCH && f->n == sim_job.plan->grow_at);
	case SIM_PAUSE_ALL:
		return is_slow(p) || p->code == COLLX_ERR_LINK || is_no_creation(p, p->rank);
	case SIM_CUT:
	case SIM_CUT_ONE_WAY:
	case SIM_CUT_PAIR:
		return is_slow(p) || p->code == COLLX_ERR_LINK || is_silence_by_cut(p, f) ||
		       is_no_creation(p, p->rank);
	case SIM_END:
		return p->code == (f->meets ? COLLX_ERR_ABORTED : COLLX_ERR_REVOKED);
	case SIM_RESET:
		if (is_slow(p) && (sim_job.plan->agree_every || sim_job.plan->generations > 1))
			return true; /* of the council's, who then agrees, or shrinks, late */
		if (p->code == COLLX_ERR_PEER_LEFT && p->at->comm->parent &&
		    p->at->comm->parent->parted)
			return true; /* and the other end went on alone */
		return p->code == COLLX_ERR_PEER_DEAD || p->code == COLLX_ERR_LINK || !p->created;
	case SIM_NO_MEMORY:
		return p->code == COLLX_ERR_NOMEM || is_death(p, r) || is_slow_for(p, r) ||
		       is_no_creation(p, r);
	case SIM_FEW_FILES:
		return is_left_outside(p, r) || is_silence(p, r) || is_death(p, r) ||
		       p->code == COLLX_ERR_NOFILES || is_slow_for(p, r) ||
		       is_no_creation(p, r);
	case SIM_WRONG_SECRET:
		return (p->code == COLLX_ERR_AUTH && p->rank == r) || is_no_creation(p, r);
	case SIM_TWICE:
		return (p->code == COLLX_ERR_INVALID && names(p, p->text, r)) || is_death(p, r) ||
		       is_no_creation(p, r);
	case SIM_MISMATCH:
		return (p->code == COLLX_ERR_MISMATCH && names(p, p->text, r)) ||
		       (p->code == COLLX_ERR_TIMEOUT && left_before(p)) ||
		       (p->code == COLLX_ERR_LINK && !f->meets && left_before(p));
	case SIM_LEAVE_EARLY: /* who is the last to be told may find all gone who knew of it */
		return (p->code == COLLX_ERR_PEER_LEFT && names(p, p->text, r)) ||
		       (p->code == COLLX_ERR_REVOKED && sim_job.plan->uniform && left_before(p));
	case SIM_GARBLE:
		return is_garbled(p, r);
	case SIM_ROGUE:
		return is_roguery(p, r);
	default:
		return false;
	}
}

/* Those whom the line names had got errors of their own before, while the rank that
 * decides was stopped, cut off, or held back by one that was; it took their farewells
 * for the cause, or their ends where the farewell found no room in a small buffer. */
static bool had_failed(int rank, const struct sim_player *p)
{
	const struct sim_player *q = &sim_job.player[rank];

	while (q->before && q->at->comm != p->at->comm)
		q = q->before;
	return q->code && q->error_ns < p->error_ns;
}

static bool blames_the_failed(const struct sim_player *p)
{
	const struct sim_schedule *s = sim_job.plan;

	for (int i = 0; i < s->nfaults; i++) {
		const struct sim_fault *f = &s->fault[i];
		bool parts = f->kind == SIM_CUT || f->kind == SIM_CUT_ONE_WAY ||
			     f->kind == SIM_CUT_PAIR ||
			     f->kind == SIM_PAUSE_ALL || f->kind == SIM_PAUSE;

		for (int r = 0; parts && !is_harmless(f) && r < sim_job.all; r++)
			if ((p->code == COLLX_ERR_PEER_LEFT || p->code == COLLX_ERR_TIMEOUT ||
			     (p->code == COLLX_ERR_PEER_DEAD && s->params.buffer <= 4096)) &&
			    names(p, p->text, r) &&
			    had_failed(r, p))
				return true;
	}
	return false;
}

/* A rank that could not agree has left, or ended without a word, and others need it. After an
 * abort it ends what it has first. */
static bool left_undecided(const struct sim_player *p)
{
	for (int i = 0; i < sim_job.players; i++) {
		const struct sim_player *q = &sim_job.player[i];

		if (q->undecided && q->code != COLLX_ERR_ABORTED && names(p, p->text, q->rank) &&
		    (p->code == COLLX_ERR_PEER_LEFT ||
		     (p->code == COLLX_ERR_PEER_DEAD && sim_job.plan->abrupt[q->rank])))
			return true;
	}
	return false;
}

/* A rank that has the verdict and ends at once may leave bytes unread: its connections are
 * reset then, and over tcp the verdict that it passed on is lost with them. */
static bool lost_the_verdict(const struct sim_player *p)
{
	const struct sim_schedule *s = sim_job.plan;

	for (int i = 0; p->code == COLLX_ERR_PEER_DEAD && i < sim_job.players; i++) {
		const struct sim_player *q = &sim_job.player[i];

		if (s->meeting != SIM_UNIX && s->abrupt[q->rank] && q->code && q->proc->killed &&
		    q->proc->ended_ns < p->error_ns && sim_job_leads(q->rank) &&
		    names(p, p->text, q->rank))
			return true;
	}
	return false;
}

bool sim_judge_is_given_up(const struct sim_player *p)
{
	const struct sim_comm *c = p->at->comm;

	return sim_is_joiner(p) && c->parent && c->parent->child != c &&
	       (p->code == COLLX_ERR_PEER_LEFT || p->code == COLLX_ERR_PEER_DEAD);
}

static bool has_excuse(const struct sim_player *p)
{
	if (sim_judge_is_given_up(p))
		return true;
	if (lost_the_verdict(p))
		return true;
	if (left_undecided(p))
		return true;
	if (sim_job.plan->uniform && sim_judge_may_part() &&
	    (p->code == COLLX_ERR_EXCLUDED || p->code == COLLX_ERR_NO_QUORUM))
		return true;
	if (blames_the_failed(p))
		return true;
	for (int i = 0; i < sim_job.plan->nfaults; i++)
		if (!is_harmless(&sim_job.plan->fault[i]) &&
		    explains(&sim_job.plan->fault[i], p))
			return true;
	return false;
}

/* As it was in that communicator; NULL. */
static const struct sim_player *view(int player, const struct sim_comm *c)
{
	const struct sim_player *p = &sim_job.player[player];

	while (p && (!p->at || p->at->comm != c))
		p = p->before;
	return p;
}

/* ---- one player ---- */

/* Is it told of another rank's exclusion, as if it were its own? */
static bool is_others_exclusion(const struct sim_player *p)
{
	const char *who = strstr(p->text, "go on without rank ");

	return p->code == COLLX_ERR_EXCLUDED && who &&
	       atoi(who + strlen("go on without rank ")) != sim_comm_seat(p->at->comm, p->rank);
}

static bool is_survivor(const struct sim_player *p)
{
	return !p->proc->killed || p->code;
}

static uint64_t calls_of(const struct sim_player *p)
{
	const struct sim_schedule *s = sim_job.plan;
	const struct sim_fault *early = p->at->comm->generation
						? NULL
						: sim_schedule_find(s, SIM_LEAVE_EARLY, p->rank);

	if (p->growth.way.done && !p->growth.way.code)
		return s->grow_at - 1; /* and the rest in that one */
	return early ? cx_min((uint64_t)s->ops, early->n) : (uint64_t)s->ops;
}

static const char *judge_player(const struct sim_player *p, bool last)
{
	const struct sim_schedule *s = sim_job.plan;
	uint64_t calls = calls_of(p);

	if (p->proc->alive && last)
		return sim_say("rank %d never ended: %s", p->rank,
			       !p->created ? "it is in creation still"
			       : p->rescue.tried && !p->rescue.done ? "it decides still"
			       : p->in_call ? "it is in a call still" : "it has not left");
	if (!is_survivor(p) || sim_schedule_find(s, SIM_ROGUE, p->rank))
		return NULL;
	if (!p->code && ((last && !p->left) || p->done != calls))
		return sim_say("rank %d made %llu calls of %llu and has no error", p->rank,
			       (unsigned long long)p->done, (unsigned long long)calls);
	if (p->code > 0 || (p->code && !p->text[0]))
		return sim_say("rank %d has the code %d and the line '%s'", p->rank, p->code,
			       p->text);
	if (is_others_exclusion(p))
		return sim_say("rank %d is not meant, and got %s (%s)", p->rank,
			       collx_strerror((collx_result)p->code), p->text);
	if (p->undecided && p->growth.way.code == p->code)
		return NULL; /* see judge_grow.c */
	if (p->undecided ? !sim_judge_may_fail(p, p->code) : p->code && !has_excuse(p))
		return sim_say("rank %d got %s (%s), which nothing that happened explains", p->rank,
			       collx_strerror((collx_result)p->code), p->text);
	return NULL;
}

/* Ranks that are said to have died, or to be silent: the line names those that the error
 * lists, and, unless connections broke, each of the dead has ended. */
/* Both saw rank 0 die, each for itself, and looked who died with it: at different times. */
static bool saw_the_decider_die(const struct sim_player *p, const struct sim_player *q)
{
	return p->code == COLLX_ERR_PEER_DEAD && q->code == COLLX_ERR_PEER_DEAD &&
	       p->cause.who.word[0] & q->cause.who.word[0] & 1;
}

static const char *judge_losses(const struct sim_player *p)
{
	const struct sim_comm *c = p->at->comm;
	char head[CX_FAULT_TEXT_MAX];
	uint64_t named;

	if (p->code != COLLX_ERR_PEER_DEAD && p->code != COLLX_ERR_PEER_SILENT)
		return NULL;
	snprintf(head, sizeof(head), "%.*s", (int)strcspn(p->text, ":"), p->text);
	named = ranks_in(head);
	if (named != p->cause.who.word[0])
		return sim_say("rank %d got '%s', and its error lists %#llx", p->rank, p->text,
			       (unsigned long long)p->cause.who.word[0]);
	for (int r = 0; p->code == COLLX_ERR_PEER_DEAD && r < c->ranks; r++) {
		const struct sim_proc *proc = sim_job.player[c->member[r]].proc;

		/* Whose creation failed behind the others' is gone as if it had died. */
		if (named >> r & 1 && !sim_job.player[c->member[r]].created)
			continue;
		/* All see rank 0 die for themselves, and some may have ended since. */
		if (named & named >> r & 1 && !proc->alive && proc->ended_ns <= p->error_ns)
			continue;
		if (named >> r & 1 && (!proc->killed || proc->ended_ns > p->error_ns))
			return sim_say("rank %d got '%s', but rank %d lived", p->rank, p->text, r);
	}
	return NULL;
}

/* ---- all survivors the same ---- */

/* Has that rank others below it? */
bool sim_job_leads(int rank)
{
	const struct sim_schedule *s = sim_job.plan;

	if (rank == 0)
		return true;
	/* Who leads a host is a race; so anybody with a rank beside it may. */
	for (int r = 0; s->meeting == SIM_TCP_AND_LOCAL && r < s->ranks; r++)
		if (r != rank && s->host[r] == s->host[rank] && s->host[r] != s->host[0])
			return true;
	return false;
}

static bool leads_in(const struct sim_comm *c, int rank)
{
	const struct sim_schedule *s = sim_job.plan;

	/* A next communicator's ranks meet by host, too, and its rank 0 may be anybody. */
	for (int i = 0; c->generation && i < sim_job.players; i++) {
		const struct sim_player *p = view(i, c);

		if (p && c->member[0] == rank)
			return true;
		if (p && s->meeting != SIM_UNIX && p->rank != rank &&
		    s->host[p->rank] == s->host[rank])
			return true;
	}
	return sim_job_leads(rank);
}

/*
 * Not yet promised, as the verdict is one rank's to take: when a rank with others below
 * it ends, stops or leaves while there is something else to decide, or is held back in
 * creation by another one; when the network parts the ranks; where a broken connection
 * looks like a death.
 */
static bool must_agree(const struct sim_comm *c, uint64_t first_error_ns)
{
	const struct sim_schedule *s = sim_job.plan;

	for (int i = 0; i < s->nfaults; i++) {
		const struct sim_fault *f = &s->fault[i];

		if (is_harmless(f))
			continue;
		if (f->kind == SIM_CUT || f->kind == SIM_CUT_ONE_WAY ||
		    f->kind == SIM_CUT_PAIR || f->kind == SIM_RESET ||
		    f->kind == SIM_PAUSE_ALL || f->kind == SIM_TWICE || f->kind == SIM_RESTART)
			return false;
		if (leads_in(c, f->rank) && (harmful() > 1 || f->kind == SIM_PAUSE ||
					       f->kind == SIM_ROGUE))
			return false;
	}
	/* Some were through with its creation, others told them of an error in that. */
	for (int r = 0; c->parent && r < c->ranks; r++)
		if (!(c->have >> c->member[r] & 1))
			return false;
	for (int i = 0; i < sim_job.players; i++) {
		const struct sim_player *p = view(i, c);

		if (!p || !leads_in(c, p->rank))
			continue;
		if ((p->left || p->undecided) && p->proc->ended_ns < first_error_ns)
			return false;
		if (p->created ? p->created_ns > first_error_ns : !p->proc->killed)
			return false;
	}
	return true;
}

/* Who ends a communicator has that error at once, as do those who hear of it before they
 * hear of something else that happened. */
static bool is_end_among_others(const struct sim_player *p, const struct sim_player *q)
{
	int end = p->code == COLLX_ERR_REVOKED || p->code == COLLX_ERR_ABORTED ? p->code : q->code;

	return (end == COLLX_ERR_REVOKED || end == COLLX_ERR_ABORTED) && p->code != q->code &&
	       harmful() > 1 && sim_schedule_find(sim_job.plan, SIM_END, -1);
}

/* Who aborts says so of itself, though another one did it as well; and an abort beside the
 * making of a communicator is that of whoever passes it on to this one. */
static bool are_other_aborts(const struct sim_player *p, const struct sim_player *q)
{
	int ends = 0;

	for (int i = 0; i < sim_job.plan->nfaults; i++)
		ends += sim_job.plan->fault[i].kind == SIM_END;
	return p->code == COLLX_ERR_ABORTED && q->code == p->code &&
	       (ends > 1 || p->at->comm->parent);
}

static bool has_verdict(const struct sim_player *p)
{
	return p->created && p->code && !p->undecided;
}

static const struct sim_player *first_error(const struct sim_comm *c)
{
	const struct sim_player *first = NULL;

	for (int i = 0; i < sim_job.players; i++) {
		const struct sim_player *p = view(i, c);

		if (p && has_verdict(p) && p->code != COLLX_ERR_EXCLUDED &&
		    (!first || p->error_ns < first->error_ns))
			first = p;
	}
	return first;
}

/* Has something happened that can make this rank miss a call? */
static bool may_miss(int rank)
{
	const struct sim_schedule *s = sim_job.plan;

	for (int i = 0; i < s->nfaults; i++) {
		enum sim_fault_kind k = s->fault[i].kind;

		if (k == SIM_CUT || k == SIM_CUT_ONE_WAY || k == SIM_CUT_PAIR ||
		    k == SIM_PAUSE_ALL ||
		    s->fault[i].rank == rank)
			return true;
		/* It waits to agree, at the door of one that cannot let it in. */
		if (k == SIM_FEW_FILES && (s->agree_every || s->uniform) &&
		    s->fault[i].rank < rank)
			return true;
	}
	return false;
}

/* The ranks that a timeout says are missing. */
static const char *judge_missing(const struct sim_player *p)
{
	const char *list = p->code == COLLX_ERR_TIMEOUT ? strstr(p->text, "missing: ") : NULL;

	for (int r = 0; list && !is_grown(p->at->comm) && r < sim_job.plan->ranks; r++)
		if (names(p, list, r) && !may_miss(r))
			return sim_say("rank %d got %s (%s), but rank %d was well", p->rank,
				       collx_strerror((collx_result)p->code), p->text, r);
	return NULL;
}

/* A rank that was stopped for long, and whose connection was full: the verdict found no room. */
static bool had_no_room(const struct sim_player *p)
{
	return p->proc->paused_ns > sim_job.plan->silence_ns && sim_job.plan->params.buffer <= 4096;
}

/* All that an error says besides its code, its line and when it was. */
static bool is_same_error(const struct sim_player *p, const struct sim_player *q)
{
	const struct cx_cause *a = &p->cause, *b = &q->cause;

	return a->code == b->code && a->origin == b->origin && a->about == b->about &&
	       a->sys_errno == b->sys_errno && !memcmp(&a->who, &b->who, sizeof(a->who)) &&
	       !memcmp(&a->where, &b->where, sizeof(a->where));
}

static const char *say_difference(const struct sim_player *p, const struct sim_player *q)
{
	const struct cx_cause *a = &p->cause, *b = &q->cause;

	return sim_say("rank %d and rank %d got '%s', the one with code %d of %d about %d, errno "
		       "%d, %s %llu, %s; the other one with code %d of %d about %d, errno %d, "
		       "%s %llu, %s", p->rank, q->rank, p->text, a->code, a->origin, a->about,
		       a->sys_errno, cx_call_name(a->where.call), (unsigned long long)a->where.seq,
		       cx_phase_name(a->where.phase), b->code, b->origin, b->about, b->sys_errno,
		       cx_call_name(b->where.call), (unsigned long long)b->where.seq,
		       cx_phase_name(b->where.phase));
}

static const char *judge_agreement(const struct sim_comm *c)
{
	const struct sim_player *first = first_error(c);
	bool excused;

	if (!first || !must_agree(c, first->error_ns))
		return NULL;
	for (int i = 0; i < sim_job.players; i++) {
		const struct sim_player *p = view(i, c);

		if (!p || !has_verdict(p) || p->code == COLLX_ERR_EXCLUDED)
			continue;
		if (judge_missing(p))
			return why;
		if (!lost_the_verdict(p) && !had_no_room(p) && judge_losses(p))
			return why;
		excused = is_end_among_others(p, first) || are_other_aborts(p, first) ||
			  lost_the_verdict(p) || had_no_room(p) || saw_the_decider_die(p, first);
		if (!excused && (p->code != first->code || strcmp(p->text, first->text)))
			return sim_say("rank %d got %s (%s), rank %d got %s (%s)", first->rank,
				       collx_strerror((collx_result)first->code), first->text,
				       p->rank, collx_strerror((collx_result)p->code), p->text);
		if (!excused && !is_same_error(p, first))
			return say_difference(first, p);
		if (p->call_ns <= first->error_ns && !p->proc->paused_ns &&
		    p->error_ns - first->error_ns > 400 * SIM_MS)
			return sim_say("rank %d heard of the error %.3f s after rank %d", p->rank,
				       (double)(p->error_ns - first->error_ns) / 1e9, first->rank);
	}
	return NULL;
}

/* Where nothing else happens than that ranks stop, all know soon after the silence. In a
 * ring, that it is rank 0's is looked at twice; and when it is one of several, the others'
 * may have been told it. */
static const char *judge_silence(void)
{
	const struct sim_schedule *s = sim_job.plan;
	uint64_t from_ns = 0, most_ns = s->silence_ns + 500 * SIM_MS;

	if (sim_schedule_find(s, SIM_PAUSE, 0) && s->ring_hosts < SIM_RANKS)
		most_ns += 500 * SIM_MS;
	if (sim_schedule_find(s, SIM_PAUSE, 0) && s->nfaults > 1)
		most_ns += cx_max(s->silence_ns, SIM_S);
	for (int i = 0; i < s->nfaults; i++)
		if (s->fault[i].kind != SIM_PAUSE || s->fault[i].for_ns < most_ns ||
		    s->fault[i].when || s->fault[i].rank >= s->ranks)
			return NULL;
		else
			from_ns = cx_max(from_ns, SIM_BEGINNING + s->fault[i].at_ns);
	for (int i = 0; s->nfaults && s->op_ns > most_ns && i < sim_job.players; i++) {
		const struct sim_player *p = view(i, sim_job.comm[0]);

		if (!p || !p->created || p->created_ns > from_ns || p->proc->paused_ns ||
		    p->growth.way.tried ||
		    (!has_verdict(p) && s->ops < SIM_MANY_OPS))
			continue;
		if (!has_verdict(p) || p->error_ns > from_ns + most_ns)
			return sim_say("rank %d did not hear of the silence for %.3f s", p->rank,
				       (double)((has_verdict(p) ? p->error_ns : sim.now) -
						from_ns) / 1e9);
	}
	return NULL;
}

/* Why creation failed is told to all: nobody has to guess that rank 0 died. */
static const char *judge_creation(void)
{
	const struct sim_schedule *s = sim_job.plan;
	const struct sim_player *zero = &sim_job.player[0];

	/* Over tcp what is said last may be lost with what was on its way to who says it. */
	if (s->nfaults != 1 || !zero->code || zero->created || s->meeting != SIM_UNIX ||
	    s->params.buffer < 16384)
		return NULL;
	for (int i = 1; i < sim_job.players; i++) {
		const struct sim_player *p = &sim_job.player[i];

		if (p->code && !p->created && p->code != zero->code &&
		    strstr(p->text, "rank 0 died"))
			return sim_say("rank %d got %s (%s), rank 0 got %s (%s)", p->rank,
				       collx_strerror((collx_result)p->code), p->text,
				       collx_strerror((collx_result)zero->code), zero->text);
	}
	return NULL;
}

/* ---- all ---- */

static bool any_killed(void)
{
	for (int i = 0; i < sim_job.players; i++)
		if (sim_job.player[i].proc->killed)
			return true;
	return false;
}

const char *sim_job_judge(void)
{
	const char *bad = sim.broken;

	for (int i = 0; !bad && i < sim_job.players; i++) {
		const struct sim_player *p = &sim_job.player[i];

		if (!p->at && p->proc->alive)
			bad = sim_say("rank %d never ended: it begins still", p->rank);
		if (!p->at)
			continue; /* it was killed before it began, or nobody wanted it */
		bad = judge_player(p, true);
		for (p = p->before; p && !bad; p = p->before)
			bad = judge_player(p, false);
	}
	for (int i = 0; !bad && i < sim_job.comms; i++)
		bad = judge_agreement(sim_job.comm[i]);
	if (!bad)
		bad = judge_creation();
	if (!bad)
		bad = judge_silence();
	if (!bad)
		bad = sim_judge_calls();
	if (!bad)
		bad = sim_judge_rescues();
	if (!bad)
		bad = sim_judge_growths();
	if (!bad && !any_killed() && sim_name_count())
		bad = sim_say("%d names of sockets are left", sim_name_count());
	return bad;
}
