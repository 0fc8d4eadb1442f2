/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How ranks decide and go on, as recover.c of the library does: that file stands on
 * collx_comm with its plans and data, and on uid.c, which keeps ports in one table a
 * process; so its steps are here once more, over the same guard, council and meeting.
 *
 * All that any rank is told was decided is compared here with what others were told.
 */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "host.h"
#include "job.h"

/* What stands in an id here. */
struct id {
	unsigned char key[CX_SECRET_BYTES];
	char where[CX_MEET_MAX];
};
_Static_assert(sizeof(struct id) <= COLLX_UNIQUE_ID_BYTES, "an id");

/* ---- communicators ---- */

static struct sim_comm *add_comm(const struct sim_comm *parent)
{
	struct sim_comm *c = sim_memory(sizeof(*c));

	c->parent = parent;
	c->generation = parent ? parent->generation + 1 : 0;
	if (sim_job.comms < SIM_COMMS)
		sim_job.comm[sim_job.comms++] = c;
	else
		sim_broken("more than %d communicators were tried", (int)SIM_COMMS);
	return c;
}

void sim_comm_begin(void)
{
	struct sim_comm *c;

	sim_job.comms = 0;
	c = add_comm(NULL);
	c->lanes = sim_lanes_create();
	c->ranks = sim_job.plan->ranks;
	for (int r = 0; r < c->ranks; r++)
		c->member[r] = r;
}

int sim_comm_seat(const struct sim_comm *c, int rank)
{
	for (int r = 0; r < c->ranks; r++)
		if (c->member[r] == rank)
			return r;
	return -1;
}

struct sim_stay *sim_stay_create(struct sim_comm *c)
{
	struct sim_stay *at = sim_memory(sizeof(*at));

	at->comm = c;
	at->nest.fd = -1;
	return at;
}

/* The one that this motion makes; whoever comes first adds it. */
static struct sim_comm *comm_of(struct sim_comm *c, const struct cx_motion *m)
{
	struct sim_comm *next;

	for (int i = 0; i < sim_job.comms; i++)
		if (sim_job.comm[i]->parent == c &&
		    !memcmp(&sim_job.comm[i]->id, &m->id, sizeof(m->id)))
			return sim_job.comm[i];
	next = add_comm(c);
	next->id = m->id;
	for (int r = 0; r < c->ranks; r++)
		if (!cx_set_has(&m->out, r))
			next->member[next->ranks++] = c->member[r];
	return next;
}

/* ---- decisions ---- */

/* Flags are the and of the votes of all who have not failed. */
static void check_flags(const struct sim_comm *c, const struct cx_motion *m)
{
	uint64_t flags = UINT64_MAX;

	if (sim_job.players > sim_job.plan->ranks)
		return; /* two with one number, of whom one was let in */
	if (c->unsure)
		return;
	for (int r = 0; r < c->ranks; r++) {
		if (cx_set_has(&m->out, r))
			continue;
		if (m->kind == CX_MOTION_AGREE && c->kind[r] == CX_MOTION_COMMIT)
			continue; /* which counts for nothing then */
		if (c->kind[r] != m->kind)
			sim_broken("decision %d counts rank %d, which did not vote so",
				   (int)m->number, r);
		flags &= c->flags[r];
	}
	if (flags != m->flags)
		sim_broken("decision %d has the flags %llx, the votes give %llx", (int)m->number,
			   (unsigned long long)m->flags, (unsigned long long)flags);
}

/* Whom a voter wants to be out is out. */
static void check_exclusions(const struct sim_comm *c, const struct cx_motion *m)
{
	if (sim_job.players > sim_job.plan->ranks || c->unsure)
		return;
	for (int r = 0; r < c->ranks; r++)
		if (!cx_set_has(&m->out, r) && c->kind[r] == CX_MOTION_SHRINK &&
		    c->exclude[r] & ~m->out.word[0])
			sim_broken("decision %d ignores whom rank %d excludes", (int)m->number, r);
}

/*
 * What council.h says does not hold: ranks that were cut off or stopped find that those
 * who decided without them have ended, which is as good as having died. And a reset is as
 * good as a death to those at both its ends.
 */
static bool is_excused(const struct sim_player *p, struct sim_comm *c, uint64_t from)
{
	bool ended = sim_judge_may_part();
	uint64_t told = 0;

	for (uint64_t n = from; n < SIM_DECISIONS; n++)
		told |= c->told[n];
	for (int r = 0; r < c->ranks; r++) {
		const struct sim_player *q = &sim_job.player[c->member[r]];

		if (!(told >> c->member[r] & 1) || c->member[r] == p->rank)
			continue;
		if (!q->left)
			ended &= !q->proc->alive;
		/* Behind a cut no end can be seen. */
		ended &= !sim.cut[q->proc->host][p->proc->host];
	}
	/* Where the connection was full its end may be without a leave. */
	if (sim_job.plan->params.buffer <= 4096 && p->proc->paused_ns > sim_job.plan->silence_ns)
		ended = true;
	c->parted |= ended || sim_schedule_find(sim_job.plan, SIM_RESET, -1);
	return c->parted;
}

/* Who aborts ends it for all, and nobody goes on without it. */
static void check_aborter(const struct sim_comm *c, const struct cx_motion *m)
{
	const struct sim_player *q = c->aborter ? &sim_job.player[c->aborter - 1] : NULL;

	if (q && q->proc->alive && m->kind <= CX_MOTION_GROW &&
	    cx_set_has(&m->out, sim_comm_seat(c, q->rank)) && !sim_judge_may_part() &&
	    !sim_judge_was_held_back(q->rank))
		sim_broken("decision %d leaves out rank %d, which aborted", (int)m->number,
			   q->rank);
}

static void check_decision(const struct sim_player *p, struct sim_comm *c,
			   const struct cx_motion *m)
{
	struct cx_motion *known = &c->decided[m->number];

	if (known->kind && memcmp(known, m, sizeof(*m)) && !is_excused(p, c, m->number))
		sim_broken("rank %d was told another decision %d than a rank before", p->rank,
			   (int)m->number);
	for (uint64_t n = 1; n <= m->number; n++) {
		const struct cx_motion *d = n == m->number ? m : &c->decided[n];

		if (d->kind && d->kind <= CX_MOTION_GROW &&
		    cx_set_has(&d->out, sim_comm_seat(c, p->rank)) && !is_excused(p, c, n))
			sim_broken("rank %d takes part in decision %d, and decision %d excludes it",
				   p->rank, (int)m->number, (int)n);
	}
	if (!known->kind)
		check_aborter(c, m);
	if (!known->kind && m->kind <= CX_MOTION_COMMIT && !m->outvoted)
		check_flags(c, m);
	if (!known->kind && m->kind == CX_MOTION_SHRINK)
		check_exclusions(c, m);
	for (int r = 0; m->kind <= CX_MOTION_GROW && r < c->ranks; r++)
		if (cx_set_has(&m->out, r))
			cx_set_add(&c->out, r);
	*known = *m;
	c->told[m->number] |= (uint64_t)1 << p->rank;
}

/* A death is a fact. */
static void check_dead(const struct sim_player *p)
{
	const struct sim_comm *c = p->at->comm;

	if (sim_job.players > sim_job.plan->ranks || sim_schedule_find(sim_job.plan, SIM_RESET, -1))
		return;
	for (int r = 0; p->at->council && r < c->ranks; r++) {
		const struct sim_player *q = &sim_job.player[c->member[r]];

		if (cx_set_has(&p->at->council->dead, r) && q->proc->alive && q->at->comm == c &&
		    q->at->ward && !q->at->closed)
			sim_broken("rank %d takes rank %d for dead, which lives", p->rank, q->rank);
	}
}

/* Who waits in vain does not know the decision. */
static void check_answer(const struct sim_player *p)
{
	const struct cx_council *c = p->at->council;

	if (c && !c->code && c->decided >= c->vote.number && c->answer.number != c->vote.number)
		sim_broken("rank %d waited for decision %d in vain, and knows decision %d", p->rank,
			   (int)c->vote.number, (int)c->decided);
}

/* Faults of those who decide: at the n-th system call from here on, say. */
static void strike_deciders(struct sim_player *p)
{
	struct sim_schedule *s = sim_job.plan;

	for (int i = 0; i < s->nfaults; i++) {
		struct sim_fault *f = &s->fault[i];

		if (f->kind != SIM_KILL_DECIDER || f->struck || (!f->meets && f->rank != p->rank) ||
		    (f->meets && sim_comm_seat(p->at->comm, p->rank)) || f->passed++ < f->pass)
			continue;
		f->struck = true;
		f->rank = p->rank;
		p->proc->kill_at_call = p->proc->calls + f->at_call;
	}
}

static int decide_once(struct sim_player *p, const struct cx_motion *vote, uint64_t until_ns,
		       struct cx_motion *out)
{
	struct sim_stay *at = p->at;
	int me = sim_comm_seat(at->comm, p->rank), rc;
	uint64_t since, left = until_ns - cx_now_ns();
	/* A commit waits for chairs that fall silent one after the other. */
	uint64_t silences = vote->kind == CX_MOTION_COMMIT ? 2 * (uint64_t)at->comm->ranks + 4 : 2;

	if (!cx_guard_barred(at->ward)) { /* or it is no vote */
		at->comm->kind[me] = vote->kind;
		at->comm->flags[me] = vote->flags;
		at->comm->exclude[me] = vote->out.word[0];
	}
	strike_deciders(p);
	sim_job_strike(p, SIM_AT_DECIDING);
	sim_job_begin_timing(p, &since);
	rc = cx_guard_decide(at->ward, vote, until_ns, out);
	sim_judge_duration(p, "a decision", since,
			   (left < SIM_S * 1000 ? left : 0) +
				   silences * sim_job.plan->silence_ns + 1500 * SIM_MS);
	check_dead(p);
	if (rc == COLLX_ERR_TIMEOUT)
		check_answer(p);
	at->comm->unsure |= rc == COLLX_ERR_TIMEOUT;
	if (rc)
		return rc == COLLX_ERR_TIMEOUT ? cx_fail(rc, "no decision in time") : rc;
	if (out->kind <= CX_MOTION_GROW && !out->outvoted &&
	    (out->kind != vote->kind || out->flags & ~vote->flags))
		sim_broken("rank %d was told decision %d, which does not count its vote", p->rank,
			   (int)out->number);
	if (out->number >= SIM_DECISIONS) {
		sim_broken("rank %d was told decision %d", p->rank, (int)out->number);
		return cx_fail(COLLX_ERR_INTERNAL, "too many decisions");
	}
	check_decision(p, at->comm, out);
	sim_trace(p->proc, "DECIDED %d: kind %d%s, flags %llx, out %llx", (int)out->number,
		  (int)out->kind, out->outvoted ? " outvoted" : "",
		  (unsigned long long)out->flags, (unsigned long long)out->out.word[0]);
	sim_job_strike(p, SIM_AT_TOLD);
	return 0;
}

static int decide(struct sim_player *p, const struct cx_motion *vote, uint64_t until_ns,
		  struct cx_motion *out)
{
	int rc;

	do
		rc = decide_once(p, vote, until_ns, out);
	while (!rc && out->outvoted && vote->kind != CX_MOTION_COMMIT);
	if (rc)
		return rc;
	if (out->kind == CX_MOTION_LATE)
		return cx_fail(COLLX_ERR_TIMEOUT, "not called in time by a rank that lives");
	if (out->kind != vote->kind &&
	    (vote->kind != CX_MOTION_COMMIT || out->kind != CX_MOTION_AGREE))
		return cx_fail(COLLX_ERR_MISMATCH, "ranks called different decisions");
	return 0;
}

static int agree(struct sim_player *p, uint32_t kind, uint64_t *flags, struct cx_set *failed,
		 uint64_t until_ns)
{
	const struct cx_motion vote = { .kind = kind, .flags = *flags };
	struct cx_motion m;
	int rc = decide(p, &vote, until_ns, &m);

	if (rc)
		return rc;
	*flags = m.flags;
	*failed = m.out;
	if (m.outvoted || m.kind != kind) /* as in careful.c */
		return cx_fail(COLLX_ERR_REVOKED, "others repair the communicator");
	return 0;
}

int sim_commit(struct sim_player *p, bool *ok, struct cx_set *lost, bool *outvoted,
	       uint64_t until_ns)
{
	const struct cx_motion vote = { .kind = CX_MOTION_COMMIT, .flags = *ok };
	struct cx_motion m;
	int rc = decide(p, &vote, until_ns, &m);

	if (rc)
		return rc;
	*ok = m.kind == CX_MOTION_COMMIT && m.flags;
	*lost = m.out;
	*outvoted = m.outvoted || m.kind == CX_MOTION_AGREE;
	return 0;
}

/* On a communicator that is well, as far as this rank knows: as a call of the user's, or at
 * the end of a careful one, in one job of two. */
int sim_agree(struct sim_player *p)
{
	uint64_t flags = sim_rng_next(&p->proc->random) | 1;
	struct cx_set failed;

	return agree(p, sim_job.plan->seed % 2 ? CX_MOTION_AGREE : CX_MOTION_COMMIT, &flags,
		     &failed, cx_now_ns() + sim_job.plan->decide_ns);
}

/* ---- the next communicator ---- */

static int offer(const struct sim_player *p, struct cx_motion *vote, int *kept)
{
	struct cx_place own = *cx_guard_place(p->at->ward);
	struct cx_secret secret;
	struct id id = { 0 };
	int rc = cx_sys->random(id.key, sizeof(id.key));

	if (!rc)
		rc = cx_secret_init(&secret, id.key);
	if (!rc && cx_place_is_local(&own)) {
		rc = cx_host_meeting(id.where, sizeof(id.where), secret.job);
	} else if (!rc) {
		rc = cx_place_set_port(&own, 0);
		if (!rc)
			*kept = cx_place_reserve(&own);
		rc = rc ? rc : *kept < 0 ? *kept : 0;
		memcpy(id.where, own.name, sizeof(id.where));
	}
	memcpy(&vote->id, &id, sizeof(id));
	return rc;
}

static int describe_next(const struct sim_player *p, const struct sim_comm *c,
			 const struct cx_motion *motion, uint64_t until_ns, struct cx_meeting *m)
{
	char near[CX_MEET_MAX];
	struct id id;
	int rc;

	memcpy(&id, &motion->id, sizeof(id));
	id.where[sizeof(id.where) - 1] = '\0';
	*m = (struct cx_meeting){ .rank = sim_comm_seat(c, p->rank), .ranks = c->ranks,
				  .deadline_ns = until_ns };
	rc = cx_place_parse(&m->place, id.where);
	if (!rc)
		rc = cx_secret_init(&m->secret, id.key);
	if (!rc)
		rc = cx_guard_mix(p->at->ward, &m->secret);
	if (rc || m->place.addr.ss_family == AF_UNIX)
		return rc;
	rc = cx_host_meeting(near, sizeof(near), m->secret.job);
	return rc ? rc : cx_place_parse(&m->local, near);
}

static int meet_again(struct sim_player *p, const struct cx_motion *m, uint64_t until_ns,
		      struct sim_stay **next)
{
	struct sim_comm *c = comm_of(p->at->comm, m);
	struct cx_losses losses = { p->at->ward, cx_set_count(&m->out) };
	struct cx_meeting meeting;
	uint64_t since, begun = cx_now_ns();
	int rc;

	*next = NULL;
	if (sim_comm_seat(c, p->rank) < 0)
		return cx_fail(COLLX_ERR_EXCLUDED, "out");
	*next = sim_stay_create(c);
	sim_job_begin_timing(p, &since);
	rc = describe_next(p, c, m, until_ns, &meeting);
	meeting.stop = cx_guard_lost_more;
	meeting.stop_ctx = &losses;
	p->rescue.unreached = 0;
	meeting.unreached = &p->rescue.unreached;
	if (!rc)
		rc = sim_job_create(p, *next, &meeting);
	if (p->rescue.unreached) /* as this communicator counts */
		p->rescue.unreached = 1 + cx_set_nth_but(&m->out, p->rescue.unreached - 1);
	sim_judge_duration(p, "another creation", since,
			   (until_ns > begun ? until_ns - begun : 0) + 2500 * SIM_MS);
	sim_trace(p->proc, rc ? "NO NEXT ONE: %s" : "has the next one%s",
		  rc ? cx_error_text() : "");
	return rc;
}

/* Those who go on, go on together. */
static void check_next(const struct sim_player *p, struct sim_comm *c)
{
	struct sim_comm *parent = p->at->comm;

	if (parent->child && parent->child != c && !is_excused(p, parent, 1))
		sim_broken("the brain is split: rank %d goes on without those who went on before",
			   p->rank);
	parent->child = c;
	if (!c->lanes)
		c->lanes = sim_lanes_create();
}

static int all_have(struct sim_player *p, bool mine, const struct cx_set *out, uint64_t until_ns,
		    bool *all)
{
	uint64_t flags = mine;
	struct cx_set failed;
	int rc = agree(p, CX_MOTION_AGREE, &flags, &failed, until_ns);

	*all = !rc && flags;
	for (int r = 0; *all && r < p->at->comm->ranks; r++)
		if (cx_set_has(&failed, r) && !cx_set_has(out, r))
			*all = false;
	return rc;
}

static void note_rescue(struct sim_rescue *r, int code)
{
	r->code = code;
	r->text[0] = '\0';
	if (code)
		snprintf(r->text, sizeof(r->text), "%.*s", (int)sizeof(r->text) - 1,
			 cx_error_text());
}

static int shrink_once(struct sim_player *p, struct cx_motion *vote, uint64_t until_ns,
		       struct sim_stay **next, bool *all)
{
	uint64_t patience = 2 * sim_job.plan->silence_ns;
	struct cx_motion m;
	int kept = -1, rc = offer(p, vote, &kept), made = 0;

	*next = NULL;
	if (!rc)
		rc = decide(p, vote, until_ns, &m);
	if (!rc)
		made = meet_again(p, &m, cx_min(until_ns, cx_now_ns() + patience), next);
	note_rescue(&p->rescue, made);
	if (kept >= 0)
		cx_sys->close(kept);
	if (!rc)
		rc = all_have(p, !made, &m.out, until_ns, all);
	if (!rc && *all)
		check_next(p, (*next)->comm);
	if (!rc && *all)
		return 0;
	if (*next && (*next)->ward && rc == COLLX_ERR_ABORTED)
		cx_guard_end_now((*next)->ward, rc);
	if (*next && (*next)->ward)
		cx_guard_close((*next)->ward, true);
	return rc;
}

/* Whom the schedule wants this rank to give up. */
static void add_excluded(const struct sim_player *p, struct cx_set *out)
{
	const struct sim_fault *f = sim_schedule_find(sim_job.plan, SIM_VOTE_OUT, -1);
	int seat = f && !p->at->comm->generation ? sim_comm_seat(p->at->comm, f->rank) : -1;

	if (seat >= 0 && f->rank != p->rank &&
	    (f->meets || p->rank == (int)(f->n % (uint64_t)p->at->comm->ranks)))
		cx_set_add(out, seat);
}

/* Behind an error, which stays that of the calls. */
static void abort_instead(struct sim_player *p)
{
	const struct sim_fault *f = sim_schedule_find(sim_job.plan, SIM_END, p->rank);

	if (!f || f->n || p->at->comm->generation)
		return;
	p->at->comm->aborter = 1 + p->rank;
	cx_guard_end_now(p->at->ward, COLLX_ERR_ABORTED);
}

enum { TRIES = 8 /* as there */ };

int sim_shrink(struct sim_player *p, struct sim_stay **next)
{
	struct cx_motion vote = { .kind = CX_MOTION_SHRINK };
	struct sim_rescue *r = &p->rescue;
	bool all = false;
	uint64_t until = cx_now_ns() + sim_job.plan->decide_ns;
	int rc, tries = 0;

	add_excluded(p, &vote.out);
	abort_instead(p);
	r->tried = true;
	r->begun_ns = sim.now;
	do { /* others may have called agree, not knowing of the error yet */
		vote.unreached = (uint64_t)r->unreached;
		rc = shrink_once(p, &vote, until, next, &all);
	} while ((rc == COLLX_ERR_MISMATCH || (!rc && !all && ++tries < TRIES)) &&
	       cx_now_ns() < until);
	if (!rc && !all && tries == TRIES)
		rc = cx_fail(r->code ? r->code : COLLX_ERR_PEER_DEAD, "tried %d times: %s",
			     tries, r->text);
	if (!rc && !all)
		rc = cx_fail(COLLX_ERR_TIMEOUT, "no next communicator in time");
	if (!rc && (p->code == COLLX_ERR_ABORTED || p->at->comm->aborter == 1 + p->rank))
		sim_broken("rank %d goes on from what was aborted", p->rank);
	note_rescue(r, rc);
	r->done = true;
	r->ended_ns = sim.now;
	sim_trace(p->proc, rc ? "DOES NOT GO ON: %s" : "shrinks%s", rc ? r->text : "");
	return rc;
}
