/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How ranks decide and go on: recover.c and uid.c of the library, over the communicators of
 * create.c here. The linker puts __wrap_cx_guard_decide in the way of all that is decided, so
 * that what any rank is told is compared with what others were told, and with what the rank
 * makes of it.
 */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "job.h"

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
		c->member[r] = c->origin[r] = r;
}

int sim_comm_seat(const struct sim_comm *c, int rank)
{
	for (int r = 0; r < c->ranks; r++)
		if (c->member[r] == rank)
			return r;
	return -1;
}

/* Whoever comes first adds it. */
struct sim_comm *sim_comm_of(struct sim_comm *c, const collx_unique_id *id,
			     const struct cx_set *out, int joiners)
{
	struct sim_comm *next;

	for (int i = 0; i < sim_job.comms; i++)
		if (sim_job.comm[i]->parent == c &&
		    !memcmp(&sim_job.comm[i]->id, id, sizeof(*id)))
			return sim_job.comm[i];
	next = add_comm(c);
	next->id = *id;
	for (int r = 0; r < c->ranks; r++)
		if (!cx_set_has(out, r)) {
			next->origin[next->ranks] = joiners ? r : c->origin[r];
			next->member[next->ranks++] = c->member[r];
		}
	for (int i = 0; i < joiners; i++) {
		next->origin[next->ranks] = next->ranks;
		next->member[next->ranks++] = sim_job.plan->ranks + i;
	}
	return next;
}

/* ---- decisions ---- */

/* Flags are the and of the votes of all who have not failed. */
static void check_flags(const struct sim_comm *c, const struct cx_motion *m)
{
	uint64_t flags = UINT64_MAX;

	if (sim_job.players > sim_job.all)
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
	if (sim_job.players > sim_job.all || c->unsure)
		return;
	for (int r = 0; r < c->ranks; r++)
		if (!cx_set_has(&m->out, r) && c->kind[r] == CX_MOTION_SHRINK &&
		    c->exclude[r] & ~m->out.word[0])
			sim_broken("decision %d ignores whom rank %d excludes", (int)m->number, r);
}

/* Where the connection was full others' ends may be without a leave. */
static bool had_no_room(const struct sim_player *p)
{
	return sim_job.plan->params.buffer <= 4096 &&
	       p->proc->paused_ns > sim_job.plan->silence_ns;
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
	ended |= had_no_room(p);
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
	if (!known->kind && m->kind != CX_MOTION_SHRINK && m->kind <= CX_MOTION_GROW &&
	    !m->outvoted)
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

	if (sim_job.players > sim_job.all || sim_schedule_find(sim_job.plan, SIM_RESET, -1))
		return;
	if (had_no_room(p))
		return;
	for (int r = 0; p->at->council && r < c->ranks; r++) {
		const struct sim_player *q = &sim_job.player[c->member[r]];

		if (cx_set_has(&p->at->council->dead, r) && q->proc->alive && q->at &&
		    q->at->comm == c && q->at->lib.guard && !q->at->closed)
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

static void note_vote(const struct sim_player *p, const struct cx_motion *vote)
{
	struct sim_comm *c = p->at->comm;
	int me = sim_comm_seat(c, p->rank);

	if (cx_guard_barred(p->at->lib.guard)) /* it is none then */
		return;
	c->kind[me] = vote->kind;
	c->flags[me] = vote->flags;
	c->exclude[me] = vote->out.word[0];
}

/* How many joiners all name; 0: not the same. */
static int joiners_of(const struct cx_motion *m)
{
	uint32_t n = (uint32_t)m->flags;

	return n <= SIM_RANKS && m->flags >> 32 == (uint32_t)~n ? (int)n : 0;
}

/* What is to be made, as this rank was told. */
static void plan_next(struct sim_player *p, const struct cx_motion *m)
{
	struct sim_comm *c = p->at->comm;
	int joiners = m->kind == CX_MOTION_GROW ? joiners_of(m) : 0;

	p->told = *m;
	if (m->kind == CX_MOTION_GROW)
		p->growth.told = *m;
	if (m->kind != CX_MOTION_SHRINK && m->kind != CX_MOTION_GROW)
		return;
	p->making = NULL;
	if (cx_set_has(&m->out, sim_comm_seat(c, p->rank)) ||
	    (m->kind == CX_MOTION_GROW && (!joiners || cx_set_count(&m->out))))
		return;
	p->making = sim_comm_of(c, &m->id, &m->out, joiners);
}

/* A decision that was told. */
static int hear(struct sim_player *p, const struct cx_motion *vote, const struct cx_motion *m)
{
	if (m->kind <= CX_MOTION_GROW && !m->outvoted &&
	    (m->kind != vote->kind || m->flags & ~vote->flags))
		sim_broken("rank %d was told decision %d, which does not count its vote", p->rank,
			   (int)m->number);
	if (m->number >= SIM_DECISIONS) {
		sim_broken("rank %d was told decision %d", p->rank, (int)m->number);
		return cx_fail(COLLX_ERR_INTERNAL, "too many decisions");
	}
	check_decision(p, p->at->comm, m);
	sim_trace(p->proc, "DECIDED %d: kind %d%s, flags %llx, out %llx", (int)m->number,
		  (int)m->kind, m->outvoted ? " outvoted" : "", (unsigned long long)m->flags,
		  (unsigned long long)m->out.word[0]);
	plan_next(p, m);
	sim_job_strike(p, SIM_AT_TOLD);
	return 0;
}

/* In the way of all calls of cx_guard_decide, which the linker knows as the second one. */
int __wrap_cx_guard_decide(struct cx_ward *w, const struct cx_motion *vote, uint64_t until_ns,
			   struct cx_motion *out);
int __real_cx_guard_decide(struct cx_ward *w, const struct cx_motion *vote, uint64_t until_ns,
			   struct cx_motion *out);

int __wrap_cx_guard_decide(struct cx_ward *w, const struct cx_motion *vote, uint64_t until_ns,
			   struct cx_motion *out)
{
	struct sim_player *p = sim_job_me();
	struct sim_comm *c = p->at->comm;
	uint64_t since, now = cx_now_ns(), left = until_ns > now ? until_ns - now : 0;
	/* A commit waits for chairs that fall silent one after the other. */
	uint64_t silences = vote->kind == CX_MOTION_COMMIT ? 2 * (uint64_t)c->ranks + 4 : 2;
	int rc;

	p->told = (struct cx_motion){ 0 };
	note_vote(p, vote);
	strike_deciders(p);
	sim_job_strike(p, SIM_AT_DECIDING);
	sim_job_begin_timing(p, &since);
	rc = __real_cx_guard_decide(w, vote, until_ns, out);
	sim_judge_duration(p, "a decision", since,
			   (left < SIM_S * 1000 ? left : 0) +
				   silences * sim_job.plan->silence_ns + 1500 * SIM_MS);
	check_dead(p);
	if (rc == COLLX_ERR_TIMEOUT)
		check_answer(p);
	c->unsure |= rc == COLLX_ERR_TIMEOUT;
	return rc ? rc : hear(p, vote, out);
}

/* What the pages say of a decision that was told last: behind a success, which kind it had;
 * and which error the others have. */
static void check_told(const struct sim_player *p, uint32_t kind, int rc)
{
	const struct cx_motion *m = &p->told;
	bool mine = m->kind == kind || (kind == CX_MOTION_COMMIT && m->kind == CX_MOTION_AGREE);
	int want = m->kind == CX_MOTION_LATE ? COLLX_ERR_TIMEOUT
		   : m->kind && !mine        ? COLLX_ERR_MISMATCH
					     : rc;

	/* To shrink and to grow end with what all have. */
	if (m->kind == CX_MOTION_AGREE && (kind == CX_MOTION_SHRINK || kind == CX_MOTION_GROW))
		return;
	if (rc != want || (!rc && !m->kind))
		sim_broken("rank %d was told a decision of kind %d, wanted %d, and makes %s of it",
			   p->rank, (int)m->kind, (int)kind, collx_strerror((collx_result)rc));
}

/* On a communicator that is well, as far as this rank knows: as a call of the user's, or at
 * the end of a careful one, in one job of two. */
int sim_agree(struct sim_player *p)
{
	uint64_t flags = sim_rng_next(&p->proc->random) | 1;
	uint64_t until = cx_now_ns() + sim_job.plan->decide_ns;
	bool ok = flags & 2, outvoted = false;
	struct cx_set failed;
	int rc;

	if (sim_job.plan->seed % 2) {
		rc = cx_recover_agree(&p->at->lib, &flags, &failed, until);
		check_told(p, CX_MOTION_AGREE, rc);
		return rc;
	}
	rc = cx_recover_commit(&p->at->lib, &ok, &failed, &outvoted, until);
	check_told(p, CX_MOTION_COMMIT, rc);
	if (!rc && outvoted) /* as in careful.c */
		return cx_fail(COLLX_ERR_REVOKED, "others repair the communicator");
	return rc;
}

/* ---- the next communicator ---- */

/* What was decided last has to give the right to it: all have it, and nobody of it failed. */
static void check_having(const struct sim_player *p, const struct sim_comm *c)
{
	const struct sim_comm *parent = p->at->comm;
	const struct cx_motion *m = &p->told;

	if (m->kind != CX_MOTION_AGREE || !m->flags)
		sim_broken("rank %d goes on, and it is not decided that all do", p->rank);
	for (int r = 0; r < parent->ranks; r++) {
		if (sim_comm_seat(c, parent->member[r]) < 0)
			continue;
		if (cx_set_has(&m->out, r))
			sim_broken("rank %d goes on with rank %d, of which all know that it failed",
				   p->rank, parent->member[r]);
		if (!(c->have >> parent->member[r] & 1) && !parent->parted)
			sim_broken("rank %d goes on, and rank %d has no next communicator", p->rank,
				   parent->member[r]);
	}
}

void sim_check_next(const struct sim_player *p, const struct sim_stay *next)
{
	struct sim_comm *parent = p->at->comm, *c = next->comm;

	if (parent->child && parent->child != c && !is_excused(p, parent, 1))
		sim_broken("the brain is split: rank %d goes on without those who went on before",
			   p->rank);
	parent->child = c;
	check_having(p, c);
	if (memcmp(next->origin, c->origin, (size_t)c->ranks * sizeof(*c->origin)))
		sim_broken("rank %d has wrong origins", p->rank);
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
static bool abort_instead(struct sim_player *p)
{
	const struct sim_fault *f = sim_schedule_find(sim_job.plan, SIM_END, p->rank);

	if (!f || f->when || f->n || p->at->comm->generation)
		return false;
	p->at->comm->aborter = 1 + p->rank;
	cx_guard_end_now(p->at->lib.guard, COLLX_ERR_ABORTED);
	return true;
}

int sim_shrink(struct sim_player *p, struct sim_stay **next)
{
	struct sim_rescue *r = &p->rescue;
	struct collx_comm *made = NULL;
	struct cx_set exclude = { { 0 } };
	uint64_t until = cx_now_ns() + sim_job.plan->decide_ns;
	bool aborted;
	int rc;

	add_excluded(p, &exclude);
	aborted = abort_instead(p) || p->code == COLLX_ERR_ABORTED;
	r->tried = true;
	r->begun_ns = sim.now;
	do { /* others may have called agree, not knowing of the error yet */
		p->told = (struct cx_motion){ 0 };
		rc = cx_recover_shrink(&p->at->lib, &exclude, until, &made);
		check_told(p, CX_MOTION_SHRINK, rc);
	} while (rc == COLLX_ERR_MISMATCH && cx_now_ns() < until);
	if (!rc)
		sim_check_next(p, (struct sim_stay *)made);
	if (!rc && aborted)
		sim_broken("rank %d goes on from what was aborted", p->rank);
	*next = (struct sim_stay *)made;
	sim_job_note(r, rc);
	sim_trace(p->proc, rc ? "DOES NOT GO ON: %s" : "shrinks%s", rc ? r->text : "");
	return rc;
}
