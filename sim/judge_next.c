/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Did the survivors go on as they should? That what they decide is the same everywhere,
 * and that they do not part, is seen in recover.c. Here: who is well and can reach most
 * of the others is in the next communicator, soon; who is not in it has a reason.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "job.h"

/* Nothing but processes that end: of their own will, or without a word. */
static bool only_ends(void)
{
	const struct sim_schedule *s = sim_job.plan;

	for (int i = 0; i < s->nfaults; i++) {
		enum sim_fault_kind k = s->fault[i].kind;

		if (k != SIM_KILL && k != SIM_KILL_DECIDER && k != SIM_LEAVE_EARLY &&
		    k != SIM_MISMATCH && k != SIM_END)
			return false;
	}
	return true;
}

/* Is there something by which others may lose sight of that rank? */
static bool may_be_lost(int rank)
{
	const struct sim_schedule *s = sim_job.plan;

	for (int i = 0; i < s->nfaults; i++) {
		const struct sim_fault *f = &s->fault[i];

		switch (f->kind) {
		case SIM_CUT:
		case SIM_CUT_ONE_WAY:
		case SIM_CUT_PAIR:
			return true;
		case SIM_FEW_FILES: /* as the chair it cannot let all in */
			if (f->rank <= rank)
				return true;
			break;
		case SIM_GARBLE: /* who got that hears no more of it */
			if (sim_job.player[f->rank].proc->garbled && f->rank <= rank)
				return true;
			break;
		case SIM_PAUSE: /* who gave a chair up that comes back for the others */
			if (f->rank == rank ||
			    (f->rank < rank && f->for_ns > s->silence_ns / 2 &&
			     f->for_ns < 4 * s->silence_ns))
				return true;
			break;
		case SIM_VOTE_OUT:
		case SIM_NO_MEMORY:
		case SIM_ROGUE:
		case SIM_TWICE:
		case SIM_RESTART:
		case SIM_RESET:
			if (f->rank == rank || f->kind == SIM_RESET)
				return true;
			break;
		default:
			break;
		}
	}
	return false;
}

bool sim_judge_may_part(void)
{
	for (int r = 0; r < sim_job.all; r++)
		if (may_be_lost(r))
			return true;
	return false;
}

static bool has_ended(int rank, uint64_t before_ns)
{
	for (int i = 0; i < sim_job.players; i++) {
		const struct sim_player *p = &sim_job.player[i];

		if (p->rank == rank && (!p->proc->alive || p->left) &&
		    p->proc->ended_ns < before_ns)
			return true;
	}
	return false;
}

/* Whom a decision leaves out without a reason; -1. */
static int lost_without_reason(const struct sim_comm *c, const struct cx_motion *m)
{
	for (int r = 0; m->kind <= CX_MOTION_GROW && r < c->ranks; r++)
		if (cx_set_has(&m->out, r) && !may_be_lost(c->member[r]) &&
		    (!c->parent || c->have >> c->member[r] & 1) &&
		    !sim_judge_was_held_back(c->member[r]) &&
		    !has_ended(c->member[r], sim.now) && !sim_job.player[c->member[r]].left)
			return c->member[r];
	return -1;
}

static const char *judge_decisions(const struct sim_comm *c)
{
	for (int n = 1; n < SIM_DECISIONS; n++) {
		int r = c->decided[n].kind ? lost_without_reason(c, &c->decided[n]) : -1;

		if (r >= 0)
			return sim_say("decision %d of generation %d leaves rank %d out, which was "
				       "well", n, c->generation, r);
	}
	return NULL;
}

static uint64_t last_end_ns(uint64_t before_ns)
{
	uint64_t last = 0;

	for (int i = 0; i < sim_job.players; i++) {
		const struct sim_proc *p = sim_job.player[i].proc;

		if (!p->alive && p->ended_ns < before_ns)
			last = cx_max(last, p->ended_ns);
	}
	return last;
}

/* When the last of those who went on together began to. */
static uint64_t last_begin_ns(const struct sim_comm *c)
{
	uint64_t last = 0;

	for (int i = 0; i < sim_job.players; i++)
		for (const struct sim_player *p = &sim_job.player[i]; p; p = p->before)
			if (p->at && p->at->comm == c && p->rescue.tried)
				last = cx_max(last, p->rescue.begun_ns);
	return last;
}

/* Has everybody who was well come to decide? Who left before is of no help, and whose
 * end nobody was connected to see is waited for. */
static bool all_came(const struct sim_comm *c, uint64_t by_ns, int *ends)
{
	bool all = true;

	*ends = 0;
	for (int i = 0; i < sim_job.players; i++) {
		const struct sim_player *p = &sim_job.player[i];

		while (p->before && p->at->comm != c)
			p = p->before;
		if (p->at && p->at->comm != c && sim_comm_seat(c, p->rank) >= 0)
			*ends += sim_job.player[i].proc->ended_ns < by_ns; /* before it was there */
		if (!p->at || p->at->comm != c)
			continue;
		if (!p->rescue.done || !p->created || sim_job.player[i].proc->ended_ns < by_ns)
			++*ends;
		all &= p->rescue.done || p->proc->killed || !p->created;
	}
	return all;
}

/* Where processes end and nothing else happens, all others go on, and soon. */
static const char *judge_after_ends(const struct sim_player *p)
{
	const struct sim_rescue *r = &p->rescue;
	uint64_t since = cx_max(last_end_ns(r->ended_ns), last_begin_ns(p->at->comm));
	uint64_t most = SIM_S + (uint64_t)sim_job.plan->joiners * 100 * SIM_MS;
	int ends;

	if (!only_ends() || !all_came(p->at->comm, p->rescue.ended_ns, &ends) ||
	    r->code == COLLX_ERR_ABORTED)
		return NULL;
	if (ends > 1)
		most += 5 * sim_job.plan->silence_ns;
	if (r->code == COLLX_ERR_TIMEOUT && sim_job.plan->decide_ns < most)
		return NULL;
	if (2 * ends >= p->at->comm->ranks && r->code == COLLX_ERR_NO_QUORUM && ends > 1)
		return NULL;
	if (r->code)
		return sim_say("rank %d did not go on: %s (%s), though others only ended", p->rank,
			       collx_strerror((collx_result)r->code), r->text);
	since = cx_max(since, r->begun_ns);
	if (r->ended_ns > since + most)
		return sim_say("rank %d went on %.3f s after the last one was there, or had ended",
			       p->rank, (double)(r->ended_ns - since) / 1e9);
	return NULL;
}

/* Whom nothing that comes to pass can keep from it. */
static const char *judge_heir(const struct sim_player *p)
{
	const struct sim_rescue *r = &p->rescue;
	uint64_t since = cx_max(last_end_ns(r->ended_ns), last_begin_ns(p->at->comm));

	if (!(sim_job.plan->go_on >> p->rank & 1) || p->at->comm->generation)
		return NULL;
	for (int i = 0; i < sim_job.players; i++)
		if (!sim_job.player[i].created)
			return NULL;
	if (p->undecided && !p->growth.way.code)
		return sim_say("rank %d could not agree: %s (%s), though others knew", p->rank,
			       collx_strerror((collx_result)p->code), p->text);
	if (!r->done)
		return NULL;
	if (r->code)
		return sim_say("rank %d did not go on: %s (%s), though it could", p->rank,
			       collx_strerror((collx_result)r->code), r->text);
	if (r->ended_ns > since + SIM_S)
		return sim_say("rank %d went on %.3f s after the last one was there, or had ended",
			       p->rank, (double)(r->ended_ns - since) / 1e9);
	return NULL;
}

static bool any_kind(enum sim_fault_kind a, enum sim_fault_kind b)
{
	return sim_schedule_find(sim_job.plan, a, -1) || sim_schedule_find(sim_job.plan, b, -1);
}

/* A straggler makes the others late, who are told so. */
static bool any_straggler(void)
{
	const struct sim_fault *f = sim_schedule_find(sim_job.plan, SIM_STRAGGLER, -1);

	return f && f->for_ns > SIM_S;
}

static bool somebody_left(const struct sim_player *p)
{
	int ends;

	return !all_came(p->at->comm, p->rescue.ended_ns, &ends) || ends > 1;
}

bool sim_judge_may_fail(const struct sim_player *p, int code)
{
	switch (code) {
	case COLLX_ERR_EXCLUDED:
		return may_be_lost(p->rank) || sim_judge_was_held_back(p->rank);
	case COLLX_ERR_TIMEOUT:
		return !only_ends() || any_straggler() || somebody_left(p);
	case COLLX_ERR_NO_QUORUM:
		return sim_judge_may_part() || somebody_left(p);
	case COLLX_ERR_ABORTED:
		return sim_schedule_find(sim_job.plan, SIM_END, -1);
	case COLLX_ERR_MISMATCH: /* others shrink, who know more; they outvote commits */
		if (sim_job.plan->joiners && !only_ends())
			return true; /* or grow yet, until their time is over */
		return sim_job.plan->agree_every && sim_job.plan->seed % 2 &&
		       sim_job.plan->generations > 1 && sim_job.plan->nfaults;
	case COLLX_ERR_REVOKED:
		return sim_job.plan->agree_every && sim_job.plan->seed % 2 == 0 &&
		       sim_job.plan->generations > 1 && sim_job.plan->nfaults;
	case COLLX_ERR_NOMEM:
	case COLLX_ERR_NOFILES:
	case COLLX_ERR_INIT_TIMEOUT: /* on the others, when all tries to go on have failed */
	case COLLX_ERR_PEER_DEAD:
		return any_kind(SIM_NO_MEMORY, SIM_FEW_FILES);
	default:
		return false;
	}
}

static const char *judge_code(const struct sim_player *p)
{
	const struct sim_rescue *r = &p->rescue;

	if (sim_judge_may_fail(p, r->code))
		return NULL;
	return sim_say("rank %d could not go on: %s (%s), which nothing that happened explains",
		       p->rank, collx_strerror((collx_result)r->code), r->text);
}

static const char *judge_rescue(const struct sim_player *p)
{
	const struct sim_rescue *r = &p->rescue;
	const char *bad;

	bad = judge_heir(p);
	if (!r->done || bad || sim_judge_is_given_up(p))
		return bad;
	bad = judge_after_ends(p);
	if (!bad && r->code)
		bad = judge_code(p);
	return bad;
}

/* ---- a cut that nothing else comes with ---- */

static const struct sim_fault *lone_cut(void)
{
	const struct sim_schedule *s = sim_job.plan;
	const struct sim_fault *f = &s->fault[0];

	if (s->nfaults != 1 || f->kind != SIM_CUT || f->when || f->for_ns != UINT64_MAX)
		return NULL;
	return f;
}

static bool was_there(const struct sim_player *p, const struct sim_fault *f)
{
	return p->created && p->created_ns < f->at_ns + SIM_BEGINNING;
}

/* The side with more ranks goes on, or of equal ones that with rank 0; no other. */
static const char *judge_cut(const struct sim_fault *f)
{
	const struct sim_schedule *s = sim_job.plan;
	int inside = 0, rescued = 0;
	bool wins;

	for (int r = 0; r < s->ranks; r++) {
		const struct sim_player *p = &sim_job.player[r];

		while (p->before)
			p = p->before;
		if (!was_there(p, f) || !p->code || !p->rescue.tried || p->left)
			return NULL;
		inside += s->host[r] == f->host;
		rescued++;
	}
	wins = 2 * inside > s->ranks || (2 * inside == s->ranks && s->host[0] == f->host);
	for (int r = 0; rescued && r < s->ranks; r++) {
		const struct sim_player *p = &sim_job.player[r];
		bool should = (s->host[r] == f->host) == wins;

		while (p->before)
			p = p->before;
		if (should != !p->rescue.code && p->rescue.code != COLLX_ERR_TIMEOUT)
			return sim_say("rank %d is of the side that should%s go on, and got %d "
				       "(%s)", r, should ? "" : " not", p->rescue.code,
				       p->rescue.text);
		if (should && p->rescue.code && s->decide_ns > 8 * s->silence_ns)
			return sim_say("rank %d had %.0f s to go on after a cut: %s", r,
				       (double)s->decide_ns / 1e9, p->rescue.text);
	}
	return NULL;
}

/* ---- a pair of leaders in the ring that is cut ---- */

static const struct sim_player *as_it_began(int rank)
{
	const struct sim_player *p = &sim_job.player[rank];

	while (p->before)
		p = p->before;
	return p;
}

static const struct sim_fault *lone_pair(void)
{
	const struct sim_schedule *s = sim_job.plan;
	const struct sim_fault *f = sim_judge_lone(SIM_CUT_PAIR);

	/* Each rank leads its host then. */
	if (!f || f->when || f->for_ns != UINT64_MAX || s->hosts != s->ranks || s->joiners ||
	    s->ring_hosts >= (unsigned)s->hosts || s->op_ns < 4 * s->silence_ns ||
	    s->ops < SIM_MANY_OPS)
		return NULL;
	for (int r = 0; r < s->ranks; r++)
		if (!was_there(as_it_began(r), f))
			return NULL;
	return f;
}

static bool is_of(const struct sim_fault *pair, int rank)
{
	int host = sim_job.plan->host[rank];

	return host == pair->host || host == (int)pair->n;
}

/* Those in the ring who hear each other: by rank. */
static bool are_neighbours(const struct sim_fault *pair)
{
	const struct sim_schedule *s = sim_job.plan;
	int first = -1, last = -1;

	for (int r = 0; r < s->ranks; r++)
		if (is_of(pair, r)) {
			first = first < 0 ? r : first;
			last = r;
		}
	return last - first == 1 || (first == 0 && last == s->ranks - 1);
}

/* What all others get, who are all well and connected. */
static const char *judge_witness(const struct sim_fault *f, const struct sim_player *p,
				 const struct sim_player *first)
{
	const struct sim_schedule *s = sim_job.plan;
	uint64_t at = SIM_BEGINNING + f->at_ns, known = s->silence_ns + s->beat_ns + 700 * SIM_MS;

	if (!p->code || strcmp(p->text, first->text))
		return sim_say("a pair is cut: rank %d got '%s', rank %d '%s'", first->rank,
			       first->text, p->rank, p->text);
	for (int r = 0; r < p->at->comm->ranks; r++)
		if (cx_set_has(&p->cause.who, r) && !is_of(f, r) && are_neighbours(f))
			return sim_say("a pair is cut, and rank %d blames rank %d: %s", p->rank, r,
				       p->text);
	if (are_neighbours(f) && (p->code != COLLX_ERR_PEER_SILENT ||
				  cx_set_count(&p->cause.who) != 1 || p->error_ns > at + known))
		return sim_say("a pair that hears each other is cut, and rank %d got '%s' after "
			       "%.3f s", p->rank, p->text, (double)(p->error_ns - at) / 1e9);
	if (!are_neighbours(f) && p->error_ns < at + s->op_ns - 600 * SIM_MS)
		return sim_say("a pair that has nothing to say is cut, and rank %d got '%s' after "
			       "%.3f s", p->rank, p->text, (double)(p->error_ns - at) / 1e9);
	/* Else they do not know whom to go on without. */
	if (are_neighbours(f) && p->rescue.done && p->rescue.code)
		return sim_say("a pair is cut, and rank %d did not go on: %s", p->rank,
			       p->rescue.text);
	if (are_neighbours(f) && p->rescue.ended_ns > p->error_ns + 6 * s->silence_ns)
		return sim_say("a pair is cut, and rank %d went on %.3f s after it knew", p->rank,
			       (double)(p->rescue.ended_ns - p->error_ns) / 1e9);
	return NULL;
}

/* One of the two is given up, where they hear each other; all others have one error, in
 * time, and go on. */
static const char *judge_pair(const struct sim_fault *f)
{
	const struct sim_player *first = NULL;
	const char *bad = NULL;
	int left = 0;

	for (int r = 0; r < sim_job.plan->ranks && !first; r++)
		if (!is_of(f, r))
			first = as_it_began(r);
	for (int r = 0; !bad && r < sim_job.plan->ranks; r++) {
		const struct sim_player *p = as_it_began(r);

		if (is_of(f, r))
			left += p->rescue.code != 0;
		else
			bad = judge_witness(f, p, first);
	}
	if (!bad && left > 1 && are_neighbours(f))
		bad = sim_say("a pair is cut, and neither of the two goes on");
	return bad;
}

/* ---- pairs of hosts that are cut from each other, in the midst of the others ---- */

/*
 * What the reference asks for: not all are given up but the higher one of a pair goes, and
 * all agree (C3); who is left has a next communicator, the same everywhere (3.9, I1), in which
 * the job continues (invariant I7). So of those who live exactly these go: each for the sake of
 * a lower one that it is cut from, and that stays.
 */
static bool only_pairs(void)
{
	const struct sim_schedule *s = sim_job.plan;

	for (int i = 0; i < s->nfaults; i++) {
		const struct sim_fault *f = &s->fault[i];

		if (f->kind == SIM_KILL && !f->when && !f->at_call)
			continue;
		if (f->kind != SIM_CUT_PAIR || f->for_ns != UINT64_MAX || (f->when && !f->struck))
			return false;
		for (int r = 0; r < s->ranks; r++)
			if (f->when ? !as_it_began(r)->created : !was_there(as_it_began(r), f))
				return false;
	}
	return s->lanes && s->decide_ns >= 8 * s->silence_ns &&
	       sim_schedule_find(s, SIM_CUT_PAIR, -1);
}

static bool are_parted(int a, int b)
{
	const int *host = sim_job.plan->host;

	return sim.cut[host[a]][host[b]];
}

static bool goes_on(int rank)
{
	const struct sim_player *p = &sim_job.player[rank];

	return p->at->comm->generation && !(p->rescue.tried && p->rescue.code);
}

/* A chair waits two silences for who cannot come, and two are the time for a communicator that
 * does not come about. */
static const char *judge_pace(const struct sim_player *p)
{
	const struct sim_rescue *r = &p->rescue;
	uint64_t since = cx_max(last_end_ns(r->ended_ns), last_begin_ns(p->at->comm));

	if (r->ended_ns <= since + 4 * sim_job.plan->silence_ns + SIM_S / 2)
		return NULL;
	return sim_say("pairs are cut, and rank %d went on %.3f s after the last one was there",
		       p->rank, (double)(r->ended_ns - since) / 1e9);
}

/* Whose going the pairs account for. False: with the dead they are so many that who sits with
 * rank 0 is no quorum. */
static bool parted(struct cx_set *out)
{
	int n = sim_job.plan->ranks, gone = 0;

	*out = (struct cx_set){ { 0 } };
	for (int r = 0; r < n; r++) {
		for (int lower = 0; lower < r; lower++)
			if (are_parted(lower, r) && !cx_set_has(out, lower))
				cx_set_add(out, r);
		gone += cx_set_has(out, r) || sim_job.player[r].proc->killed;
	}
	return 2 * gone < n;
}

/* Are all cut before anybody has to go on, and does nobody die? */
static bool are_known_at_once(void)
{
	const struct sim_schedule *s = sim_job.plan;

	for (int i = 0; i < s->nfaults; i++)
		if (s->fault[i].kind == SIM_KILL || (s->fault[i].when && s->nfaults > 1))
			return false;
	return true;
}

/* A lower one may have died, or gone, since; and in a ring the first word of a pair counts, but
 * that it is rank 0 who is silent is looked at twice. */
static bool has_reason_to_go(int rank, const struct cx_set *out)
{
	const struct sim_schedule *s = sim_job.plan;
	bool ring = s->ring_hosts < (unsigned)s->ranks; /* each leads itself over tcp */

	if (!ring && are_known_at_once())
		return cx_set_has(out, rank);
	for (int r = 0; r < (ring && rank ? s->ranks : rank); r++)
		if (are_parted(r, rank))
			return true;
	return false;
}

static const char *judge_parted(int rank, const struct cx_set *out)
{
	const struct sim_player *p = &sim_job.player[rank];
	const struct sim_rescue *r = &p->rescue;

	for (int other = 0; goes_on(rank) && other < rank; other++)
		if (goes_on(other) && are_parted(rank, other))
			return sim_say("rank %d goes on with rank %d, which it is cut from", rank,
				       other);
	if (goes_on(rank) && p->code && !sim_schedule_find(sim_job.plan, SIM_KILL, -1))
		return sim_say("pairs are cut, and rank %d goes on, but its calls do not: %s",
			       rank, p->text);
	/* Who is cut from the chair may not meet anybody who could tell it more. */
	if (goes_on(rank) || (has_reason_to_go(rank, out) && (r->code == COLLX_ERR_EXCLUDED ||
							      r->code == COLLX_ERR_NO_QUORUM)))
		return NULL;
	return sim_say("pairs are cut, and rank %d, which has to %s, got %d (%s)", rank,
		       cx_set_has(out, rank) ? "go" : "stay", r->code, r->text);
}

static const char *judge_pairs(void)
{
	const char *bad = NULL;
	struct cx_set out;

	for (int r = 0; r < sim_job.plan->ranks; r++)
		if (!sim_job.player[r].proc->killed && !as_it_began(r)->rescue.tried)
			return NULL;
	if (!parted(&out))
		return NULL;
	for (int r = 0; !bad && r < sim_job.plan->ranks; r++)
		if (!sim_job.player[r].proc->killed)
			bad = judge_parted(r, &out);
	for (int r = 0; !bad && r < sim_job.plan->ranks; r++)
		bad = goes_on(r) ? judge_pace(as_it_began(r)) : NULL;
	return bad;
}

/* ---- all ---- */

const char *sim_judge_rescues(void)
{
	const char *bad = NULL;

	for (int i = 0; !bad && i < sim_job.comms; i++)
		bad = judge_decisions(sim_job.comm[i]);
	for (int i = 0; !bad && i < sim_job.players; i++)
		for (const struct sim_player *p = &sim_job.player[i]; p && !bad; p = p->before)
			bad = p->at ? judge_rescue(p) : NULL;
	if (!bad && lone_cut())
		bad = judge_cut(lone_cut());
	if (!bad && lone_pair())
		bad = judge_pair(lone_pair());
	if (!bad && only_pairs())
		bad = judge_pairs();
	return bad;
}
