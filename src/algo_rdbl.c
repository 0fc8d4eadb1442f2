/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Recursive doubling: in round k partners are 2^k apart and exchange all they
 * have. The classic hypercube exchange; in MPI by Thakur, Rabenseifner and
 * Gropp (2005).
 *
 * 4 ranks, who holds which sum:        5 ranks: 1 folds into 0 first and is
 *                                      told at the end
 *   start    0     1     2     3
 *   round 0  01    01    23    23        0 <- 1     2 <-> 3 ..
 *   round 1  0123  0123  0123  0123      0 -> 1
 *
 * Allreduce: log2 P rounds (2 more with folding), n log2 P bytes a rank, the
 * canonical tree. Allgather: the same rounds, n(P-1)/P bytes.
 */
#include "algo.h"

/* One round; `part` is what this rank has and the result what it has then. */
static struct cx_operand exchange(struct cx_plan *p, const struct cx_groups *g,
				  struct cx_operand part, int bit)
{
	int other = g->self ^ bit, peer = cx_group_head(g, other);
	bool last = 2 * bit == g->count;
	bool wide = bit > 1 || other < g->rem;
	unsigned flags = (wide ? CX_WIDE : 0) | (other < g->self ? CX_LEFT : 0) |
			 (last ? CX_LAST : 0);
	struct cx_operand dst = cx_tmp(part.buf == CX_TMP && !part.slot);

	/* OUT may be IN: written while IN is being sent, it would make each partner
	 * wait for its own send before it receives. */
	if (last && part.buf == CX_TMP)
		dst = cx_out;
	cx_plan_send(p, peer, part, 0, 1);
	cx_plan_recv_reduce(p, peer, dst, part, 0, 1, flags);
	return dst;
}

static void allreduce(struct cx_plan *p)
{
	struct cx_groups g = cx_groups(&p->shape);
	struct cx_operand part = cx_in;
	int rank = p->shape.rank;

	p->nblocks = 1;
	p->nslots = p->shape.ranks > 4 ? 2 : 1;
	if (g.folded) {
		cx_plan_send(p, rank - 1, cx_in, 0, 1);
		cx_plan_recv(p, rank - 1, cx_out, 0, 1, 0);
		return;
	}
	if (g.pair) {
		part = cx_tmp(0);
		cx_plan_recv_reduce(p, rank + 1, part, cx_in, 0, 1, 0);
	}
	for (int bit = 1; bit < g.count; bit *= 2)
		part = exchange(p, &g, part, bit);
	if (part.buf == CX_TMP)
		cx_plan_copy(p, cx_out, part, 0, 1);
	if (g.pair)
		cx_plan_send(p, rank + 1, cx_out, 0, 1);
}

/* The blocks of n groups lie side by side. */
static uint32_t blocks(const struct cx_groups *g, int group, int n)
{
	return (uint32_t)(cx_group_head(g, group + n) - cx_group_head(g, group));
}

static void swap_halves(struct cx_plan *p, const struct cx_groups *g, int bit)
{
	int mine = g->self & -bit, other = mine ^ bit;
	int peer = cx_group_head(g, g->self ^ bit);

	cx_plan_send(p, peer, cx_out, (uint32_t)cx_group_head(g, mine), blocks(g, mine, bit));
	cx_plan_recv(p, peer, cx_out, (uint32_t)cx_group_head(g, other), blocks(g, other, bit), 0);
}

static void allgather(struct cx_plan *p)
{
	struct cx_groups g = cx_groups(&p->shape);
	int rank = p->shape.rank;

	p->nblocks = (uint32_t)p->shape.ranks;
	if (g.folded) {
		cx_plan_send(p, rank - 1, cx_in, (uint32_t)rank, 1);
		cx_plan_recv(p, rank - 1, cx_out, 0, p->nblocks, 0);
		return;
	}
	cx_plan_copy(p, cx_out, cx_in, (uint32_t)rank, 1);
	if (g.pair)
		cx_plan_recv(p, rank + 1, cx_out, (uint32_t)rank + 1, 1, 0);
	for (int bit = 1; bit < g.count; bit *= 2)
		swap_halves(p, &g, bit);
	if (g.pair)
		cx_plan_send(p, rank + 1, cx_out, 0, p->nblocks);
}

const struct cx_algo cx_allreduce_rdbl = {
	CX_ALLREDUCE, "rdbl", allreduce, CX_ALGO_CANONICAL | CX_ALGO_RANK_ORDER,
	"log2 P", "n log2 P",
};
const struct cx_algo cx_allgather_rdbl = {
	CX_ALLGATHER, "rdbl", allgather, CX_ALGO_MULTI_BLOCK, "log2 P", "n(P-1)/P",
};
