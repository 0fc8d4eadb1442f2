/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What calls came to, seen over all ranks. A uniform one succeeds on all that live or on
 * none (I7). Who is late is told of, in time and by the right name, and costs nobody
 * anything before the deadline.
 */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "job.h"

const struct sim_fault *sim_judge_lone(enum sim_fault_kind kind)
{
	const struct sim_schedule *s = sim_job.plan;

	return s->nfaults == 1 && s->fault[0].kind == kind ? &s->fault[0] : NULL;
}

/* ---- uniform calls ---- */

/* Those whom the others gave up, then or a little later, or that aborted, may see another
 * end than these: they have no part in any decision from then on. */
static bool is_given_up(const struct sim_comm *c, int rank, const struct sim_call *call)
{
	return call->barred || cx_set_has(&c->out, sim_comm_seat(c, rank));
}

static const char *judge_uniform(const struct sim_comm *c, int seq)
{
	int well = -1;

	for (int r = 0; r < sim_job.all; r++) {
		const struct sim_call *call = &c->call[seq][r];

		if (call->ended_ns && !call->code && !is_given_up(c, r, call))
			well = r;
	}
	for (int r = 0; well >= 0 && r < sim_job.all; r++) {
		const struct sim_call *call = &c->call[seq][r];

		if (call->ended_ns && call->code && !is_given_up(c, r, call))
			return sim_say("the uniform operation %d of generation %d succeeded on "
				       "rank %d, and rank %d got %s", seq, c->generation, well, r,
				       collx_strerror((collx_result)call->code));
	}
	return NULL;
}

/* ---- stragglers ---- */

/* The first who began that operation, but for one. */
static uint64_t first_begin_ns(const struct sim_comm *c, uint64_t seq, int but)
{
	uint64_t first = UINT64_MAX;

	for (int r = 0; r < sim_job.all; r++)
		if (r != but && c->call[seq][r].begun_ns)
			first = cx_min(first, c->call[seq][r].begun_ns);
	return first;
}

/* Clocks differ by 1 %. */
static uint64_t least(uint64_t ns)
{
	return ns - ns / 50;
}

void sim_judge_straggler(struct sim_player *p)
{
	const uint64_t limit_ns = sim_job.plan->straggler_ns;
	struct sim_comm *c = p->at->comm;
	struct cx_straggler s;
	uint64_t first;
	int who;

	if (!limit_ns)
		return;
	cx_guard_straggler(p->at->lib.guard, CX_BELLS, &s);
	if (s.number == p->at->stragglers)
		return;
	p->at->stragglers = s.number;
	sim_trace(p->proc, "TOLD that rank %d is late for operation %d", s.rank, (int)s.sign.seq);
	who = s.rank < c->ranks ? c->member[s.rank] : -1;
	if (who < 0 || s.sign.seq >= SIM_CALLS) {
		sim_broken("rank %d is told that rank %d is late, which is none", p->rank, s.rank);
		return;
	}
	first = first_begin_ns(c, s.sign.seq, who);
	if (first > sim.now || sim.now - first < least(limit_ns))
		sim_broken("rank %d is told that rank %d is late for operation %d, for which "
			   "nobody waits that long", p->rank, who, (int)s.sign.seq);
	if (c->call[s.sign.seq][who].begun_ns &&
	    c->call[s.sign.seq][who].begun_ns < first + least(limit_ns))
		sim_broken("rank %d is told that rank %d is late for operation %d, which it was "
			   "not", p->rank, who, (int)s.sign.seq);
	c->call[s.sign.seq][p->rank].told_ns = sim.now;
}

/* Nothing but a rank that came late: whoever waited for so long was told of it. */
static const char *judge_told(const struct sim_comm *c, const struct sim_fault *f)
{
	const struct sim_schedule *s = sim_job.plan;
	uint64_t seq = f->n, first = first_begin_ns(c, seq, f->rank), by;

	if (!s->straggler_ns || first == UINT64_MAX)
		return NULL;
	by = first + s->straggler_ns + s->straggler_ns / 50 + s->beat_ns + 200 * SIM_MS;
	if (s->ring_hosts < SIM_RANKS)
		by += SIM_S;
	for (int r = 0; r < s->ranks; r++) {
		const struct sim_call *call = &c->call[seq][r];
		uint64_t least_by = cx_max(by, call->begun_ns + 50 * SIM_MS);

		if (r == f->rank || !call->begun_ns || call->moved_ns < least_by ||
		    (c->call[seq][f->rank].begun_ns && c->call[seq][f->rank].begun_ns < least_by))
			continue;
		if (!call->told_ns || call->told_ns > least_by)
			return sim_say("rank %d waited in operation %d for rank %d, and was %s", r,
				       (int)seq, f->rank,
				       call->told_ns ? "told so too late" : "never told so");
	}
	return NULL;
}

/* Nobody's call ends for that before somebody's time is over. */
static const char *judge_patience(const struct sim_comm *c, const struct sim_fault *f)
{
	uint64_t first = first_begin_ns(c, f->n, f->rank);

	for (int r = 0; r < sim_job.plan->ranks; r++) {
		const struct sim_call *call = &c->call[f->n][r];

		if (call->ended_ns && call->code && call->ended_ns < first +
								    least(sim_job.plan->op_ns))
			return sim_say("rank %d got %s %.3f s after the first one called, as rank "
				       "%d was late", r, collx_strerror((collx_result)call->code),
				       (double)(call->ended_ns - first) / 1e9, f->rank);
	}
	return NULL;
}

static const char *judge_stragglers(void)
{
	const struct sim_fault *f = sim_judge_lone(SIM_STRAGGLER);
	const struct sim_comm *c = sim_job.comm[0];
	const char *bad;

	if (!f || f->meets || f->n >= SIM_CALLS || f->n == sim_job.plan->grow_at)
		return NULL;
	bad = judge_told(c, f);
	return bad ? bad : judge_patience(c, f);
}

/* ---- all ---- */

const char *sim_judge_calls(void)
{
	const char *bad = NULL;

	for (int i = 0; sim_job.plan->uniform && i < sim_job.comms; i++)
		for (int seq = 1; !bad && seq < SIM_CALLS; seq++)
			bad = judge_uniform(sim_job.comm[i], seq);
	return bad ? bad : judge_stragglers();
}
