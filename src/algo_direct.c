/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One hop: everybody talks to everybody. Rank r starts with r+1, so no two
 * ranks send to the same one at once. In MPI as "pairwise" or "linear with
 * shift", in NCCL's symmetric kernels as "one-shot" (flat) and "two-shot".
 *
 * 4 ranks, direct allreduce (letters are blocks):   flat:
 *
 *   hop 1   r sends its block q to q for q = r+1,   hop 1   r sends all of IN
 *           r+2, r+3; r sums block r                        to r+1, r+2, r+3;
 *   hop 2   r sends the finished block r to all             each sums all
 *
 * direct: 2 hops, 2n(P-1)/P bytes a rank. flat: 1 hop, n(P-1) bytes. Sums are
 * folded by the canonical tree out of one slot for each rank.
 */
#include "algo.h"

static int from(const struct cx_plan *p, int k)
{
	return (p->shape.rank + p->shape.ranks - k) % p->shape.ranks;
}

static int to(const struct cx_plan *p, int k)
{
	return (p->shape.rank + k) % p->shape.ranks;
}

/* OUT[r] <- the sum of everybody's block r. */
static void scatter(struct cx_plan *p)
{
	uint32_t own = (uint32_t)p->shape.rank;

	p->nblocks = (uint32_t)p->shape.ranks;
	p->nslots = p->nblocks;
	for (int k = 1; k < p->shape.ranks; k++) {
		cx_plan_send(p, to(p, k), cx_in, (uint32_t)to(p, k), 1);
		cx_plan_recv(p, from(p, k), cx_tmp((uint32_t)from(p, k)), own, 1, 0);
	}
	cx_fold(p, own);
}

static void gather(struct cx_plan *p, struct cx_operand own)
{
	for (int k = 1; k < p->shape.ranks; k++) {
		cx_plan_send(p, to(p, k), own, (uint32_t)p->shape.rank, 1);
		cx_plan_recv(p, from(p, k), cx_out, (uint32_t)from(p, k), 1, 0);
	}
}

static void allreduce(struct cx_plan *p)
{
	scatter(p);
	gather(p, cx_out);
}

static void allgather(struct cx_plan *p)
{
	p->nblocks = (uint32_t)p->shape.ranks;
	gather(p, cx_in);
	cx_plan_copy(p, cx_out, cx_in, (uint32_t)p->shape.rank, 1);
}

static void flat_allreduce(struct cx_plan *p)
{
	p->nblocks = 1;
	p->nslots = (uint32_t)p->shape.ranks;
	for (int k = 1; k < p->shape.ranks; k++) {
		cx_plan_send(p, to(p, k), cx_in, 0, 1);
		cx_plan_recv(p, from(p, k), cx_tmp((uint32_t)from(p, k)), 0, 1, 0);
	}
	cx_fold(p, 0);
}

static void flat_broadcast(struct cx_plan *p)
{
	p->nblocks = 1;
	if (p->shape.rank) {
		cx_plan_recv(p, 0, cx_out, 0, 1, 0);
		return;
	}
	for (int k = 1; k < p->shape.ranks; k++)
		cx_plan_send(p, k, cx_in, 0, 1);
	cx_plan_copy(p, cx_out, cx_in, 0, 1);
}

static void flat_reduce(struct cx_plan *p)
{
	p->nblocks = 1;
	p->nslots = (uint32_t)p->shape.ranks;
	if (p->shape.rank) {
		cx_plan_send(p, 0, cx_in, 0, 1);
		return;
	}
	for (int k = 1; k < p->shape.ranks; k++)
		cx_plan_recv(p, k, cx_tmp((uint32_t)k), 0, 1, 0);
	cx_fold(p, 0);
}

const struct cx_algo cx_allreduce_direct = {
	CX_ALLREDUCE, "direct", allreduce, CX_ALGO_CANONICAL | CX_ALGO_RANK_ORDER,
	"2", "2n(P-1)/P",
};
const struct cx_algo cx_reduce_scatter_direct = {
	CX_REDUCE_SCATTER, "direct", scatter, CX_ALGO_CANONICAL | CX_ALGO_RANK_ORDER,
	"1", "n(P-1)/P",
};
const struct cx_algo cx_allgather_direct = {
	CX_ALLGATHER, "direct", allgather, 0, "1", "n(P-1)/P",
};
const struct cx_algo cx_allreduce_flat = {
	CX_ALLREDUCE, "flat", flat_allreduce, CX_ALGO_CANONICAL | CX_ALGO_RANK_ORDER,
	"1", "n(P-1)",
};
const struct cx_algo cx_broadcast_flat = {
	CX_BROADCAST, "flat", flat_broadcast, 0, "1", "n(P-1) at the root",
};
const struct cx_algo cx_reduce_flat = {
	CX_REDUCE, "flat", flat_reduce, CX_ALGO_CANONICAL | CX_ALGO_RANK_ORDER,
	"1", "n",
};
