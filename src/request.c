/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From a call of the API to what the executor runs: the plan, kept for the next
 * call like it, where the caller's buffers stand, and the tag that all must share.
 */
#include <string.h>

#include "base/base.h"
#include "comm.h"

/* ---- plans ---- */

static int make_plan(struct collx_comm *c, struct cx_cached_plan *slot, const struct cx_algo *algo,
		     int rank)
{
	const struct cx_shape shape = { .ranks = c->size, .rank = rank };

	if (slot->plan)
		cx_plan_destroy(slot->plan);
	slot->plan = NULL;
	return cx_plan_create(&slot->plan, algo, &shape);
}

static int find_plan(struct collx_comm *c, const struct cx_algo *algo, int rank,
		     const struct cx_plan **out)
{
	struct cx_cached_plan *oldest = &c->plans[0];
	int rc;

	for (int i = 0; i < CX_PLANS; i++) {
		struct cx_cached_plan *p = &c->plans[i];

		if (p->plan && p->plan->algo == algo && p->plan->shape.rank == rank) {
			p->used = c->seq;
			*out = p->plan;
			return 0;
		}
		if (oldest->plan && (!p->plan || p->used < oldest->used))
			oldest = p;
	}
	rc = make_plan(c, oldest, algo, rank);
	oldest->used = c->seq;
	*out = oldest->plan;
	return rc;
}

/* ---- one call ---- */

/*
 * Tells the guard of the call, and makes the tag: what every rank must have called
 * alike; the plan follows from it. All earlier calls are part of it: a reduce whose
 * ranks name different roots may end well everywhere, as nobody waits for who does
 * not send, but then the next call tells.
 */
static uint32_t sign(struct collx_comm *c, const struct cx_request *r)
{
	uint64_t what = cx_sign_what(r->coll, r->type, r->op, r->root) | c->promise;
	uint64_t h = (c->chain ^ r->count) * 0x9e3779b97f4a7c15u;

	cx_calls_begin(&c->calls, c->seq, r->count, what);
	h = (h ^ h >> 32 ^ what) * 0xbf58476d1ce4e5b9u;
	c->chain = h;
	return (uint32_t)(h >> 32);
}

/* Fills where the caller's buffers stand in terms of blocks. */
static void lay_out(const struct collx_comm *c, const struct cx_request *r, struct cx_call *call)
{
	call->fixed_blocks = r->coll == CX_ALLGATHER || r->coll == CX_REDUCE_SCATTER;
	if (r->coll == CX_ALLGATHER)
		call->in_first = (uint32_t)c->rank;
	if (r->coll == CX_REDUCE_SCATTER)
		call->out_first = (uint32_t)c->rank;
}

int cx_comm_prepare(struct collx_comm *c, const struct cx_request *r, struct cx_call *call)
{
	size_t bytes = r->count * collx_type_size(r->type);
	struct cx_choice choice;
	int rank = c->rank - r->root + (c->rank < r->root ? c->size : 0);

	*call = (struct cx_call){ .in = r->in, .out = r->out, .count = r->count, .type = r->type,
				  .op = r->op, .root = r->root, .number = c->seq };
	lay_out(c, r, call);
	choice = cx_select(&c->agreed, r->coll, c->size,
			   call->fixed_blocks ? bytes * (size_t)c->size : bytes);
	call->block_bytes = choice.block_bytes;
	call->tag = sign(c, r);
	return find_plan(c, choice.algo, rank, &call->plan);
}
