/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Uniform calls: careful.c of the library, over a call without data (lanes.c) and a decision
 * that is looked at (recover.c).
 */
#include "base/base.h"
#include "comm.h"
#include "job.h"

/* ---- what careful.c calls ---- */

int cx_comm_run(struct collx_comm *c, const struct cx_request *r, uint64_t timeout_ns)
{
	(void)r;
	(void)timeout_ns; /* lanes.c has the schedule's */
	return sim_lanes_call(sim_job_me(), c->seq);
}

int cx_comm_die(struct collx_comm *c, const struct cx_request *r, int code)
{
	(void)c;
	(void)r;
	return sim_lanes_die(sim_job_me(), code);
}

/* Of COLLX_CONTINUE, which no schedule has. */
void cx_comm_replace(struct collx_comm *c, struct collx_comm *next, int own)
{
	(void)c;
	(void)next;
	(void)own;
}

/* Nothing is kept where no data are. */
size_t collx_type_size(collx_type type)
{
	(void)type;
	return 0;
}

/* ---- the call ---- */

int sim_uniform_call(struct sim_player *p, uint64_t seq)
{
	const struct cx_request r = { .coll = CX_BARRIER };
	struct collx_comm *c = &p->at->lib;

	c->seq = seq;
	return cx_careful_run(c, &r, COLLX_UNIFORM, sim_job.plan->op_ns);
}
