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
		if (!p->plan || (oldest->plan && p->used < oldest->used))
			oldest = p;
	}
	rc = make_plan(c, oldest, algo, rank);
	oldest->used = c->seq;
	*out = oldest->plan;
	return rc;
}

/* ---- one call ---- */

static uint32_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15u;
	return (uint32_t)(h >> 32);
}

/* What every rank must have called alike; the plan follows from it. */
static uint32_t tag_of(const struct collx_comm *c, const struct cx_request *r)
{
	uint64_t h = mix(c->seq, r->count);

	return mix(h << 32 | (uint32_t)r->root,
		   (uint64_t)r->coll << 16 | (uint64_t)r->type << 8 | (uint64_t)r->op);
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
	call->tag = tag_of(c, r);
	return find_plan(c, choice.algo, rank, &call->plan);
}
