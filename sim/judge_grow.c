/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Did those who called for new ranks get what collx_comm_grow(3) says? That what they make of
 * a decision is right, and that nobody goes on without the others, is seen in grow.c and
 * recover.c. Here: all of them grew or none did; what kept them from it was there.
 */
#include "base/base.h"
#include "job.h"

static const struct sim_fault *find(enum sim_fault_kind kind)
{
	return sim_schedule_find(sim_job.plan, kind, -1);
}

/* Somebody comes too late, or thinks that others do. */
static bool any_late(void)
{
	const struct sim_fault *late = find(SIM_STRAGGLER), *jump = find(SIM_JUMP);

	return (late && late->for_ns > SIM_S / 2) ||
	       (jump && jump->for_ns >= sim_job.plan->decide_ns / 2);
}

/* As the page has them. */
static bool is_of_creation(int code)
{
	switch (code) {
	case COLLX_ERR_INIT_TIMEOUT:
	case COLLX_ERR_PEER_DEAD:
	case COLLX_ERR_PEER_LEFT:
	case COLLX_ERR_NOMEM:
	case COLLX_ERR_NOFILES:
	case COLLX_ERR_SYSTEM:
	case COLLX_ERR_AUTH:
	case COLLX_ERR_CORRUPT:
	case COLLX_ERR_INVALID:
	case COLLX_ERR_VERSION:
	case COLLX_ERR_LINK:
		return true;
	default:
		return false;
	}
}

/* Where joiners alone are hit, the others know that it is for their sake. */
static bool may_have(const struct sim_player *p, int code)
{
	bool hit = sim_judge_harmful(0), among_us = sim_judge_harmful(0) >
						   sim_judge_harmful(sim_job.plan->ranks);

	switch (code) {
	case COLLX_ERR_MISMATCH:
		return find(SIM_MISCOUNT) || among_us;
	case COLLX_ERR_TIMEOUT:
		return among_us || any_late();
	case COLLX_ERR_NO_QUORUM:
	case COLLX_ERR_EXCLUDED:
		return among_us && sim_judge_may_fail(p, code);
	case COLLX_ERR_ABORTED:
		return find(SIM_END);
	case COLLX_ERR_NOMEM:
		return find(SIM_NO_MEMORY);
	case COLLX_ERR_NOFILES:
		return find(SIM_FEW_FILES);
	default:
		return is_of_creation(code) && (hit || any_late());
	}
}

static const char *judge_one(const struct sim_player *p)
{
	const struct sim_rescue *w = &p->growth.way;

	if (!w->done || !w->code || may_have(p, w->code))
		return NULL;
	return sim_say("rank %d did not %s: %s (%s), which nothing that happened explains", p->rank,
		       sim_is_joiner(p) ? "join" : "grow", collx_strerror((collx_result)w->code),
		       w->text);
}

/* Most of those who could have told it have ended. */
static bool is_left_alone(const struct sim_player *p)
{
	const struct sim_comm *c = p->at->comm;
	int ends = 0;

	for (int r = 0; r < c->ranks; r++) {
		const struct sim_proc *proc = sim_job.player[c->member[r]].proc;

		ends += !proc->alive && proc->ended_ns < p->growth.way.ended_ns;
	}
	return 2 * ends >= c->ranks;
}

/* Who has no part in what the others decide, or did not hear of it in time. */
static bool is_apart(const struct sim_player *p)
{
	switch (p->growth.way.code) {
	case COLLX_ERR_EXCLUDED:
	case COLLX_ERR_NO_QUORUM:
		return sim_judge_may_part() || is_left_alone(p);
	case COLLX_ERR_TIMEOUT:
		return sim_judge_may_part() || any_late();
	case COLLX_ERR_ABORTED:
		return true;
	default:
		return p->at->comm->parted;
	}
}

/* Those who were there before: all, or none. */
static const char *judge_together(const struct sim_comm *c)
{
	const struct sim_player *well = NULL;

	for (int pass = 0; pass < 2; pass++)
		for (int i = 0; i < sim_job.players; i++) {
			const struct sim_player *p = &sim_job.player[i];

			while (p && (!p->at || p->at->comm != c))
				p = p->before;
			if (!p || !p->growth.way.done)
				continue;
			if (!p->growth.way.code)
				well = p;
			else if (well && !is_apart(p))
				return sim_say("rank %d grew, and rank %d did not: %s (%s)",
					       well->rank, p->rank,
					       collx_strerror((collx_result)p->growth.way.code),
					       p->growth.way.text);
		}
	return NULL;
}

const char *sim_judge_growths(void)
{
	const char *bad = NULL;

	for (int i = 0; !bad && sim_job.plan->joiners && i < sim_job.players; i++)
		for (const struct sim_player *p = &sim_job.player[i]; p && !bad; p = p->before)
			bad = judge_one(p);
	for (int i = 0; !bad && sim_job.plan->joiners && i < sim_job.comms; i++)
		bad = judge_together(sim_job.comm[i]);
	return bad;
}
