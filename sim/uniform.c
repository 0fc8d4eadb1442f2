/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Uniform calls: careful.c of the library, with what lies below it replaced by what it is
 * here: a call without data (lanes.c), and a decision that is looked at (recover.c).
 */
#include "base/base.h"
#include "comm.h"
#include "job.h"

struct handle {
	struct collx_comm comm; /* first: careful.c knows no more of it */
	struct sim_player *player;
};

static struct sim_player *player_of(struct collx_comm *c)
{
	return ((struct handle *)c)->player;
}

/* ---- what careful.c calls ---- */

int cx_comm_run(struct collx_comm *c, const struct cx_request *r, uint64_t timeout_ns)
{
	(void)r;
	(void)timeout_ns; /* lanes.c has the schedule's */
	return sim_lanes_call(player_of(c), c->seq);
}

int cx_comm_die(struct collx_comm *c, const struct cx_request *r, int code)
{
	(void)r;
	return sim_lanes_die(player_of(c), code);
}

int cx_recover_commit(struct collx_comm *c, bool *ok, struct cx_set *failed, bool *outvoted,
		      uint64_t until_ns)
{
	return sim_commit(player_of(c), ok, failed, outvoted, until_ns);
}

/* Of COLLX_CONTINUE, which no schedule has. */
int cx_recover_shrink(struct collx_comm *c, const struct cx_set *exclude, uint64_t until_ns,
		      struct collx_comm **out)
{
	(void)c;
	(void)exclude;
	(void)until_ns;
	(void)out;
	return cx_fail(COLLX_ERR_UNSUPPORTED, "a communicator that goes on by itself");
}

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
	struct handle *h = (struct handle *)p->at->handle;

	if (!h) {
		h = sim_memory(sizeof(*h));
		h->comm.guard = p->at->ward;
		h->comm.rank = sim_comm_seat(p->at->comm, p->rank);
		h->comm.size = p->at->comm->ranks;
		h->player = p;
		p->at->handle = &h->comm;
	}
	h->comm.seq = seq;
	return cx_careful_run(&h->comm, &r, COLLX_UNIFORM, sim_job.plan->op_ns);
}
