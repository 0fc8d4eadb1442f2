/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The canonical tree: which rank stands where in a reduction whose result must
 * not depend on the algorithm. Neighbours first, lower ranks left; 6 ranks:
 *
 *            ( + )
 *         /         \
 *      ( + )       ( + )
 *      /   \       /   \
 *    0+1   2+3    4     5       groups: (0,1) (2,3) (4) (5)
 */
#include "algo.h"

struct cx_groups cx_groups(const struct cx_shape *shape)
{
	struct cx_groups g = { .count = 1 };

	while (g.count <= shape->ranks / 2)
		g.count *= 2;
	g.rem = shape->ranks - g.count;
	g.pair = shape->rank < 2 * g.rem;
	g.folded = g.pair && shape->rank % 2;
	g.self = g.pair ? shape->rank / 2 : shape->rank - g.rem;
	return g;
}

/* Where the sum of two operands goes: left's own slot, or the caller's when left is IN. */
static struct cx_operand add(struct cx_plan *p, struct cx_operand a, struct cx_operand b,
			     uint32_t blk)
{
	struct cx_operand dst = a.buf == CX_TMP ? a : cx_tmp((uint32_t)p->shape.rank);

	cx_plan_reduce(p, dst, a, b, blk, 1, 0);
	return dst;
}

static struct cx_operand leaf(const struct cx_plan *p, int rank)
{
	return rank == p->shape.rank ? cx_in : cx_tmp((uint32_t)rank);
}

static struct cx_operand subtree(struct cx_plan *p, const struct cx_groups *g, int group, int n,
				 uint32_t blk)
{
	int head = cx_group_head(g, group);
	struct cx_operand left;

	if (n == 1 && group < g->rem)
		return add(p, leaf(p, head), leaf(p, head + 1), blk);
	if (n == 1)
		return leaf(p, head);
	left = subtree(p, g, group, n / 2, blk);
	return add(p, left, subtree(p, g, group + n / 2, n / 2, blk), blk);
}

void cx_fold(struct cx_plan *p, uint32_t blk)
{
	struct cx_groups g = cx_groups(&p->shape);
	struct cx_operand left = subtree(p, &g, 0, g.count / 2, blk);
	struct cx_operand right = subtree(p, &g, g.count / 2, g.count / 2, blk);

	cx_plan_reduce(p, cx_out, left, right, blk, 1, CX_LAST);
}
