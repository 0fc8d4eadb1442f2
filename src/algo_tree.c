/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Double binary trees (Sanders, Speck and Traeff 2009; NCCL 2.4): each of two
 * trees carries one of two blocks, and who works in one is a leaf of the other,
 * so everybody's link is used in both directions all the time.
 *
 * A tree is in order: position i (from 1) with lowest set bit l has its children
 * at i - l/2 and i + l/2, and odd positions are leaves. 4 ranks, allreduce:
 *
 *   positions     tree 0 (block 0)     tree 1 (block 1): mirrored
 *        4              3                    0
 *       /              /                      \
 *      2              1                        2
 *     / \            / \                      / \
 *    1   3          0   2                    1   3
 *
 * With an odd number of ranks the mirror image would have the same leaves; then
 * tree 1 leaves out the first rank and hangs below it. A rooted collective does
 * so with rank 0 in both trees. Either way a subtree is a range of ranks and
 * sums are in rank order.
 *
 * Up, then down, two children one after the other: up to 4 log2 P rounds, 2n
 * bytes a rank; rooted: half of both.
 */
#include "algo.h"

/* Positions first .. ranks - 1 form the tree; those before it are a chain on top. */
struct tree {
	int first, n;
	bool mirror;
};

/* A rank's neighbours in a tree, -1 where there is none. Child 0 is the lower rank. */
struct place {
	int parent;
	int child[2];
};

enum { TREES = 2 };

static struct tree tree(const struct cx_plan *p, int t)
{
	bool rooted = p->algo->coll != CX_ALLREDUCE, odd = (p->shape.ranks - rooted) % 2;
	int first = rooted + (t && odd);

	return (struct tree){ first, p->shape.ranks - first, t && !odd };
}

static int rank_at(const struct tree *t, int position)
{
	return t->mirror ? t->first + t->n - position : t->first + position - 1;
}

static int root(const struct tree *t)
{
	int top = 1;

	while (top <= t->n / 2)
		top *= 2;
	return t->n ? rank_at(t, top) : -1;
}

/* Beyond the last position the subtree's root is the highest that exists. */
static int child(const struct tree *t, int i, int side)
{
	int half = (i & -i) / 2;

	while (half && i + side * half > t->n)
		half /= 2;
	return half ? rank_at(t, i + side * half) : -1;
}

static int parent(const struct tree *t, int i)
{
	int low = i & -i, up = (i & ~low) | 2 * low;

	if (up <= t->n)
		return rank_at(t, up);
	return i == low ? t->first - 1 : rank_at(t, i - low);
}

static struct place place(const struct tree *t, int rank)
{
	int i = t->mirror ? t->first + t->n - rank : rank - t->first + 1;
	int below = t->mirror ? 1 : -1;

	if (rank >= t->first)
		return (struct place){ parent(t, i), { child(t, i, below), child(t, i, -below) } };
	return (struct place){ rank - 1, { -1, rank + 1 < t->first ? rank + 1 : root(t) } };
}

static bool is_leaf(struct place at)
{
	return at.child[0] < 0 && at.child[1] < 0;
}

/* Adds the subtree of one child to what this rank has of block t. */
static void absorb(struct cx_plan *p, int t, struct place at, int side)
{
	struct tree shape = tree(p, t);
	bool first = !side || at.child[0] < 0;
	bool last = at.parent < 0 && (side || at.child[1] < 0);
	unsigned flags = (side ? 0 : CX_LEFT) | (last ? CX_LAST : 0);

	if (at.child[side] < 0)
		return;
	if (!is_leaf(place(&shape, at.child[side])))
		flags |= CX_WIDE;
	cx_plan_recv_reduce(p, at.child[side], last ? cx_out : cx_tmp(0), first ? cx_in : cx_tmp(0),
			    (uint32_t)t, 1, flags);
}

/*
 * Steps start in order, and a step that waits holds up those behind it. So what
 * a leaf sends, which waits for nothing, stands before what needs a child's sum;
 * otherwise the two trees would wait for each other.
 */
static void up(struct cx_plan *p, const struct place *at)
{
	for (int t = 0; t < TREES; t++)
		absorb(p, t, at[t], 0);
	for (int t = 0; t < TREES; t++)
		if (is_leaf(at[t]))
			cx_plan_send(p, at[t].parent, cx_in, (uint32_t)t, 1);
	for (int t = 0; t < TREES; t++)
		absorb(p, t, at[t], 1);
	for (int t = 0; t < TREES; t++)
		if (!is_leaf(at[t]) && at[t].parent >= 0)
			cx_plan_send(p, at[t].parent, cx_tmp(0), (uint32_t)t, 1);
}

/* What a leaf receives comes last for the same reason: nobody waits for it. */
static void down(struct cx_plan *p, const struct place *at, struct cx_operand roots)
{
	for (int t = 0; t < TREES; t++) {
		struct cx_operand from = at[t].parent < 0 ? roots : cx_out;

		if (!is_leaf(at[t]) && at[t].parent >= 0)
			cx_plan_recv(p, at[t].parent, cx_out, (uint32_t)t, 1, 0);
		for (int side = 0; side < 2; side++)
			if (at[t].child[side] >= 0)
				cx_plan_send(p, at[t].child[side], from, (uint32_t)t, 1);
	}
	for (int t = 0; t < TREES; t++)
		if (is_leaf(at[t]))
			cx_plan_recv(p, at[t].parent, cx_out, (uint32_t)t, 1, 0);
}

static void build(struct cx_plan *p)
{
	bool adds = p->algo->coll != CX_BROADCAST;
	struct place at[TREES];

	p->nblocks = TREES;
	p->nslots = adds && p->shape.ranks > 2;
	for (int t = 0; t < TREES; t++) {
		struct tree shape = tree(p, t);

		at[t] = place(&shape, p->shape.rank);
	}
	if (adds)
		up(p, at);
	if (p->algo->coll != CX_REDUCE)
		down(p, at, adds ? cx_out : cx_in);
	if (!adds && !p->shape.rank)
		cx_plan_copy(p, cx_out, cx_in, 0, TREES);
}

const struct cx_algo cx_allreduce_tree = {
	CX_ALLREDUCE, "tree", build, CX_ALGO_RANK_ORDER, "4 log2 P", "2n",
};
const struct cx_algo cx_broadcast_tree = {
	CX_BROADCAST, "tree", build, CX_ALGO_MULTI_BLOCK, "2 log2 P", "n",
};
const struct cx_algo cx_reduce_tree = {
	CX_REDUCE, "tree", build, CX_ALGO_RANK_ORDER, "2 log2 P", "n",
};
