/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rings: every rank sends to the next and receives from the one before. First
 * used for large allreduce by Patarasu and Yuan (2009), then Baidu and NCCL.
 *
 * 4 ranks, allreduce; a letter is a block, a capital one is finished:
 *
 *   round     rank 0 -> 1   1 -> 2   2 -> 3   3 -> 0
 *     0            d           a        b        c     reduce-scatter:
 *     1            c           d        a        b     the receiver adds
 *     2            b           c        d        a     its own block
 *     3            A           B        C        D     allgather: the
 *     4            D           A        B        C     receiver forwards
 *     5            C           D        A        B
 *
 * 2(P-1) rounds, 2n(P-1)/P bytes a rank, each half of it alone P-1 and n(P-1)/P.
 * Block b is summed in the order b+1, b+2, .. P-1, 0, .. b.
 */
#include "algo.h"

/*
 * A receive is posted before the send that waits for the one before it, so the
 * link is never idle. Three slots make that free: while slot k is sent on and
 * k+1 is being filled, k-1's send may still be on its way.
 */
enum { SLOTS = 3 };

static uint32_t wrap(const struct cx_plan *p, int rank)
{
	return (uint32_t)((rank + 2 * p->shape.ranks) % p->shape.ranks);
}

static void setup(struct cx_plan *p, int slots)
{
	p->nblocks = (uint32_t)p->shape.ranks;
	p->nslots = (uint32_t)(slots < SLOTS ? slots : SLOTS);
}

/* Ends with block r finished in rank r's OUT. */
static void scatter(struct cx_plan *p)
{
	int rank = p->shape.rank, rounds = p->shape.ranks - 1;
	int next = (int)wrap(p, rank + 1), prev = (int)wrap(p, rank - 1);
	struct cx_operand part = cx_in;

	for (int i = 0; i < rounds; i++) {
		bool last = i == rounds - 1;
		struct cx_operand dst = last ? cx_out : cx_tmp((uint32_t)(i % SLOTS));
		unsigned flags = CX_LEFT | (i ? CX_WIDE : 0) | (last ? CX_LAST : 0);

		cx_plan_recv_reduce(p, prev, dst, cx_in, wrap(p, rank - 2 - i), 1, flags);
		cx_plan_send(p, next, part, wrap(p, rank - 1 - i), 1);
		part = dst;
	}
}

/* Starts with block r of rank r in `own`. */
static void gather(struct cx_plan *p, struct cx_operand own)
{
	int rank = p->shape.rank;
	int next = (int)wrap(p, rank + 1), prev = (int)wrap(p, rank - 1);

	for (int i = 0; i < p->shape.ranks - 1; i++) {
		cx_plan_recv(p, prev, cx_out, wrap(p, rank - 1 - i), 1, 0);
		cx_plan_send(p, next, i ? cx_out : own, wrap(p, rank - i), 1);
	}
}

static void allreduce(struct cx_plan *p)
{
	setup(p, p->shape.ranks - 2);
	scatter(p);
	gather(p, cx_out);
}

static void reduce_scatter(struct cx_plan *p)
{
	setup(p, p->shape.ranks - 2);
	scatter(p);
}

/* The copy comes last: others wait for the sends, nobody for it. */
static void allgather(struct cx_plan *p)
{
	setup(p, 0);
	gather(p, cx_in);
	cx_plan_copy(p, cx_out, cx_in, (uint32_t)p->shape.rank, 1);
}

const struct cx_algo cx_allreduce_ring = {
	CX_ALLREDUCE, "ring", allreduce, 0, "2(P-1)", "2n(P-1)/P",
};
const struct cx_algo cx_reduce_scatter_ring = {
	CX_REDUCE_SCATTER, "ring", reduce_scatter, 0, "P-1", "n(P-1)/P",
};
const struct cx_algo cx_allgather_ring = {
	CX_ALLGATHER, "ring", allgather, 0, "P-1", "n(P-1)/P",
};
