/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Binomial trees, root 0: a rank's children are its number with one more bit
 * below its lowest set one. Textbook; in MPI since MPICH 1. Over groups (see
 * algo_canon.c), so that the reduce is the canonical tree at no extra depth.
 *
 * 4 ranks:      0            broadcast: 0 -> 2, then 0 -> 1 and 2 -> 3
 *              / \           reduce: 1 -> 0 and 3 -> 2, then 2 -> 0
 *             2   1
 *             |
 *             3
 *
 * ceil(log2 P) rounds; n bytes sent by each rank (reduce), n log2 P by the
 * root (broadcast).
 */
#include "algo.h"

static void broadcast(struct cx_plan *p)
{
	struct cx_groups g = cx_groups(&p->shape);
	int rank = p->shape.rank, reach = g.self ? g.self & -g.self : g.count;
	struct cx_operand data = rank ? cx_out : cx_in;

	p->nblocks = 1;
	if (g.folded) {
		cx_plan_recv(p, rank - 1, cx_out, 0, 1, 0);
		return;
	}
	if (g.self)
		cx_plan_recv(p, cx_group_head(&g, g.self - reach), cx_out, 0, 1, 0);
	for (int bit = reach / 2; bit; bit /= 2)
		cx_plan_send(p, cx_group_head(&g, g.self + bit), data, 0, 1);
	if (g.pair)
		cx_plan_send(p, rank + 1, data, 0, 1);
	if (!rank)
		cx_plan_copy(p, cx_out, cx_in, 0, 1);
}

static void reduce(struct cx_plan *p)
{
	struct cx_groups g = cx_groups(&p->shape);
	int rank = p->shape.rank, reach = g.self ? g.self & -g.self : g.count;
	struct cx_operand part = cx_in;

	p->nblocks = 1;
	p->nslots = p->shape.ranks > 2;
	if (g.folded) {
		cx_plan_send(p, rank - 1, cx_in, 0, 1);
		return;
	}
	if (g.pair) {
		part = cx_tmp(0);
		cx_plan_recv_reduce(p, rank + 1, part, cx_in, 0, 1, 0);
	}
	for (int bit = 1; bit < reach; bit *= 2) {
		bool last = 2 * bit == g.count;
		bool wide = bit > 1 || g.self + bit < g.rem;
		struct cx_operand dst = last ? cx_out : cx_tmp(0);

		cx_plan_recv_reduce(p, cx_group_head(&g, g.self + bit), dst, part, 0, 1,
				    (wide ? CX_WIDE : 0) | (last ? CX_LAST : 0));
		part = dst;
	}
	if (g.self)
		cx_plan_send(p, cx_group_head(&g, g.self - reach), part, 0, 1);
}

const struct cx_algo cx_broadcast_binomial = {
	CX_BROADCAST, "binomial", broadcast, 0, "log2 P", "n log2 P at the root",
};
const struct cx_algo cx_reduce_binomial = {
	CX_REDUCE, "binomial", reduce, CX_ALGO_CANONICAL | CX_ALGO_RANK_ORDER, "log2 P", "n",
};
