/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Calls as comm.c makes them, without data: who enters a call tells the others, over
 * lanes that take their time, stop at a cut and end with their process.
 */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "job.h"
#include "plan.h"

enum { CALLS = 64 };

static const uint64_t nudge_after_ns = 20000000, nudge_again_ns = 1000000000;

/* What came of another rank's calls, as one rank sees it. */
struct lane {
	uint64_t sent;   /* its last call, on its way here */
	uint64_t seen;   /* its last call that is known here */
	bool closed;
};

struct sim_lanes {
	struct lane lane[SIM_RANKS][SIM_RANKS]; /* [at][of] */
	uint64_t count[SIM_RANKS][CALLS];       /* what each rank called */
	struct sim_task *waiting[SIM_RANKS];
};

struct message {
	struct sim_lanes *on;
	int to, from;
	uint64_t seq; /* 0: the lane's end */
};

struct sim_lanes *sim_lanes_create(void)
{
	return sim_memory(sizeof(struct sim_lanes));
}

static struct sim_lanes *lanes_of(const struct sim_player *p)
{
	return p->at->comm->lanes;
}

static void arrive(void *arg)
{
	const struct message *m = arg;
	const int *host = sim_job.plan->host;
	struct lane *l = &m->on->lane[m->to][m->from];

	/* A lane's end never overtakes what was said before. */
	if (sim.cut[host[m->from]][host[m->to]] || (!m->seq && l->seen < l->sent)) {
		sim_after(50 * SIM_MS, arrive, arg);
		return;
	}
	if (m->seq)
		l->seen = cx_max(l->seen, m->seq);
	else
		l->closed = true;
	if (m->on->waiting[m->to])
		sim_task_wake(m->on->waiting[m->to]);
}

static void tell(const struct sim_player *p, uint64_t seq)
{
	struct sim_lanes *on = lanes_of(p);
	int from = p->rank;
	const struct sim_schedule *s = sim_job.plan;

	for (int to = 0; to < sim_job.all; to++) {
		uint64_t most = s->host[to] == s->host[from] ? s->params.local_ns
							     : s->params.net_ns;
		struct message *m;

		if (to == from || sim_comm_seat(p->at->comm, to) < 0)
			continue;
		m = sim_memory(sizeof(*m));
		*m = (struct message){ on, to, from, seq };
		on->lane[to][from].sent = cx_max(on->lane[to][from].sent, seq);
		sim_after(most + sim_rng_below(&sim.chance, most), arrive, m);
	}
}

void sim_lanes_close(struct sim_player *p)
{
	tell(p, 0);
}

/* Operations with and without a root take turns as the seed wants it; -1: none. */
static int root_of(const struct sim_comm *c, uint64_t seq)
{
	const struct sim_schedule *s = sim_job.plan;
	struct sim_rng r = { s->seed ^ seq << 32 };

	return sim_rng_once_in(&r, 3) ? c->member[sim_rng_below(&r, (uint64_t)c->ranks)] : -1;
}

static bool needs(const struct sim_player *p, int other, int root)
{
	return other != p->rank && (root < 0 || other == root);
}

/* What both called as that operation differs. */
static bool differ(const struct sim_player *p, int other, uint64_t seq)
{
	return lanes_of(p)->lane[p->rank][other].seen >= seq &&
	       lanes_of(p)->count[p->rank][seq % CALLS] != lanes_of(p)->count[other][seq % CALLS];
}

/* The other end's process is gone, and what it said has been read. */
static bool has_ended(const struct sim_player *p, int other, const struct lane *l)
{
	const struct sim_schedule *s = sim_job.plan;
	uint64_t at_ns = 0;

	for (int i = 0; s->lanes_end && i < sim_job.players; i++) {
		const struct sim_proc *q = sim_job.player[i].proc;

		if (sim_job.player[i].rank == other && q->alive)
			return false;
		if (sim_job.player[i].rank == other)
			at_ns = cx_max(at_ns, q->ended_ns);
	}
	return s->lanes_end && l->seen >= l->sent && sim.now > at_ns + s->params.net_ns &&
	       !sim.cut[s->host[other]][p->proc->host];
}

/* 1: it may end; 0: it must wait; or an error. */
static int look(const struct sim_player *p, uint64_t seq, int root)
{
	const struct sim_fault *f = sim_schedule_find(sim_job.plan, SIM_MISMATCH, -1);
	const struct sim_comm *c = p->at->comm;
	int missing = 0;

	for (int r = 0; r < sim_job.all; r++) {
		const struct lane *l = &lanes_of(p)->lane[p->rank][r];

		if (r == p->rank || sim_comm_seat(c, r) < 0)
			continue;
		if (differ(p, r, seq) && f && f->meets)
			return cx_fail(COLLX_ERR_MISMATCH,
				       "rank %d called something else than rank %d",
				       sim_comm_seat(c, r), sim_comm_seat(c, p->rank));
		if (!needs(p, r, root) || (l->seen >= seq && !differ(p, r, seq)))
			continue;
		missing++;
		if (l->closed || has_ended(p, r, l))
			return cx_fail(COLLX_ERR_PEER_DEAD, "rank %d closed its lane",
				       sim_comm_seat(c, r));
	}
	return !missing;
}

static int wait_for_others(struct sim_player *p, uint64_t seq, int root)
{
	uint64_t start = cx_now_ns(), nudged = 0;

	for (;;) {
		int rc = look(p, seq, root);
		uint64_t now = cx_now_ns();

		if (rc)
			return rc < 0 ? rc : 0;
		if (!cx_calls_may(&p->at->lib.calls, seq))
			return COLLX_ERR_PEER_LEFT; /* or another verdict */
		if (now - start > sim_job.plan->op_ns)
			return cx_fail(COLLX_ERR_TIMEOUT, "operation %llu: rank %d waited %.1f s",
				       (unsigned long long)seq, sim_comm_seat(p->at->comm, p->rank),
				       (double)(now - start) / 1e9);
		if (now - start > nudge_after_ns && (!nudged || now - nudged > nudge_again_ns)) {
			nudged = now;
			cx_guard_nudge(p->at->lib.guard);
		}
		lanes_of(p)->waiting[p->rank] = sim.running;
		sim_task_wait(5 * SIM_MS);
		lanes_of(p)->waiting[p->rank] = NULL;
		sim_judge_straggler(p);
	}
}

static bool is_hearsay(int code)
{
	return code == COLLX_ERR_PEER_DEAD || code == COLLX_ERR_LINK;
}

/* As comm.c: the lanes end before the error is told. */
int sim_lanes_die(struct sim_player *p, int code)
{
	struct cx_report r = { .code = code, .about = -1, .hearsay = is_hearsay(code),
			       .where = cx_calls_where(&p->at->lib.calls),
			       .fault_ns = (int64_t)cx_now_ns() };

	if (!r.where.call)
		r.where.phase = COLLX_PHASE_DECIDING;
	snprintf(r.text, sizeof(r.text), "%.*s", (int)sizeof(r.text) - 1, cx_error_text());
	sim_lanes_close(p);
	return cx_guard_report(p->at->lib.guard, &r);
}

int sim_lanes_call(struct sim_player *p, uint64_t seq)
{
	const struct sim_fault *f = sim_schedule_find(sim_job.plan, SIM_MISMATCH, p->rank);
	uint64_t count = f && f->n == seq && !p->at->comm->generation ? 77 : 8;
	int root = root_of(p->at->comm, seq), rc;

	cx_calls_begin(&p->at->lib.calls, seq, count,
		       cx_sign_what(root < 0 ? CX_ALLREDUCE : CX_BROADCAST, COLLX_FLOAT32,
				    COLLX_SUM, root < 0 ? 0 : sim_comm_seat(p->at->comm, root)));
	lanes_of(p)->count[p->rank][seq % CALLS] = count;
	if (!cx_calls_may(&p->at->lib.calls, seq))
		return sim_lanes_die(p, COLLX_ERR_PEER_LEFT);
	tell(p, seq);
	rc = wait_for_others(p, seq, root);
	p->at->comm->call[seq % SIM_CALLS][p->rank].moved_ns = sim.now;
	if (rc)
		return sim_lanes_die(p, rc);
	cx_calls_end(&p->at->lib.calls, seq);
	return 0;
}
