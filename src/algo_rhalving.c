/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Recursive halving: in round k partners are 2^k apart, each gives away half
 * of what it still works on. Followed by the same rounds backwards it is
 * Rabenseifner's allreduce (1997, 2004).
 *
 * 4 ranks, the chunks each works on:
 *
 *   start        0: abcd     1: abcd     2: abcd     3: abcd
 *   0-1  2-3     0: ab       1: cd       2: ab       3: cd
 *   0-2  1-3     0: A        1: C        2: B        3: D
 *   allreduce: the same partners backwards, doubling; the chunks lie side by
 *   side all the way. reduce-scatter: 1 and 2 swap, for neighbours first (the
 *   canonical tree) leaves chunks in bit-reversed order.
 *
 * Ranks beyond a power of two fold into their neighbour and are sent their
 * result. Allreduce 2 log2 P rounds, 2n(P-1)/P bytes; reduce-scatter
 * log2 P + 1 rounds, n bytes.
 */
#include "algo.h"

/* Chunks are one a group; a reduce-scatter's are the blocks of the group's ranks. */
struct chunks {
	struct cx_groups g;
	bool by_rank;
};

static uint32_t first_block(const struct chunks *c, int chunk)
{
	return (uint32_t)(c->by_rank ? cx_group_head(&c->g, chunk) : chunk);
}

static uint32_t count_blocks(const struct chunks *c, int chunk, int n)
{
	return first_block(c, chunk + n) - first_block(c, chunk);
}

/* Block b is summed in slot b. */
static struct cx_operand at(enum cx_buf buf, uint32_t blk)
{
	return buf == CX_TMP ? cx_tmp(blk) : (struct cx_operand){ buf, 0 };
}

/* Works down to the one chunk it returns, whose sum goes to `result`. */
static int halve(struct cx_plan *p, const struct chunks *c, enum cx_buf result)
{
	enum cx_buf part = c->g.pair ? CX_TMP : CX_IN;
	int low = 0, n = c->g.count / 2;

	for (int bit = 1; n; bit *= 2, n /= 2) {
		int other = c->g.self ^ bit, peer = cx_group_head(&c->g, other);
		int keep = low + (c->g.self & bit ? n : 0), give = low + (other & bit ? n : 0);
		uint32_t blk = first_block(c, keep), gone = first_block(c, give);
		bool wide = bit > 1 || other < c->g.rem;
		unsigned flags = (wide ? CX_WIDE : 0) | (other < c->g.self ? CX_LEFT : 0) |
				 (n == 1 ? CX_LAST : 0);
		enum cx_buf dst = n == 1 ? result : CX_TMP;

		cx_plan_send(p, peer, at(part, gone), gone, count_blocks(c, give, n));
		cx_plan_recv_reduce(p, peer, at(dst, blk), at(part, blk), blk,
				    count_blocks(c, keep, n), flags);
		part = CX_TMP;
		low = keep;
	}
	return low;
}

static void twice(struct cx_plan *p, const struct chunks *c, int chunk)
{
	int low = chunk, n = 1;

	for (int bit = c->g.count / 2; bit; bit /= 2, n *= 2) {
		int peer = cx_group_head(&c->g, c->g.self ^ bit), missing = low ^ n;

		cx_plan_send(p, peer, cx_out, first_block(c, low), count_blocks(c, low, n));
		cx_plan_recv(p, peer, cx_out, first_block(c, missing), count_blocks(c, missing, n),
			     0);
		low &= ~n;
	}
}

static void allreduce(struct cx_plan *p)
{
	struct chunks c = { cx_groups(&p->shape), false };
	int rank = p->shape.rank;

	p->nblocks = (uint32_t)c.g.count;
	p->nslots = p->shape.ranks > 2 ? p->nblocks : 0;
	if (c.g.folded) {
		cx_plan_send(p, rank - 1, cx_in, 0, p->nblocks);
		cx_plan_recv(p, rank - 1, cx_out, 0, p->nblocks, 0);
		return;
	}
	if (c.g.pair)
		cx_plan_recv_reduce(p, rank + 1, cx_tmp(0), cx_in, 0, p->nblocks, 0);
	twice(p, &c, halve(p, &c, CX_OUT));
	if (c.g.pair)
		cx_plan_send(p, rank + 1, cx_out, 0, p->nblocks);
}

/* Chunk and group, in either direction: the same number with its bits reversed. */
static int reversed(const struct chunks *c, int group)
{
	int r = 0;

	for (int bit = 1; bit < c->g.count; bit *= 2)
		r = 2 * r + !!(group & bit);
	return r;
}

/* Hands the blocks of the chunk to their ranks, and takes this rank's own. */
static void deliver(struct cx_plan *p, const struct chunks *c, int chunk)
{
	uint32_t rank = (uint32_t)p->shape.rank, end = first_block(c, chunk + 1);
	int holder = cx_group_head(&c->g, reversed(c, c->g.self));

	if (holder != p->shape.rank)
		cx_plan_recv(p, holder, cx_out, rank, 1, CX_WIDE);
	for (uint32_t b = first_block(c, chunk); !c->g.folded && b < end; b++) {
		if (b == rank)
			cx_plan_copy(p, cx_out, cx_tmp(b), b, 1);
		else
			cx_plan_send(p, (int)b, cx_tmp(b), b, 1);
	}
}

static void reduce_scatter(struct cx_plan *p)
{
	struct chunks c = { cx_groups(&p->shape), true };
	int rank = p->shape.rank, chunk = 0;

	p->nblocks = (uint32_t)p->shape.ranks;
	p->nslots = p->nblocks;
	if (c.g.folded)
		cx_plan_send(p, rank - 1, cx_in, 0, p->nblocks);
	else if (c.g.pair)
		cx_plan_recv_reduce(p, rank + 1, cx_tmp(0), cx_in, 0, p->nblocks, 0);
	if (!c.g.folded)
		chunk = halve(p, &c, CX_TMP);
	deliver(p, &c, chunk);
}

enum { FLAGS = CX_ALGO_CANONICAL | CX_ALGO_RANK_ORDER | CX_ALGO_MULTI_BLOCK };

const struct cx_algo cx_allreduce_rhalving = {
	CX_ALLREDUCE, "rhalving", allreduce, FLAGS, "2 log2 P", "2n(P-1)/P",
};
const struct cx_algo cx_reduce_scatter_rhalving = {
	CX_REDUCE_SCATTER, "rhalving", reduce_scatter, FLAGS, "log2 P + 1", "n",
};
