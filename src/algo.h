/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the plans' room share beyond plan.h: the list of
 * algorithms, where a step's operands lie, and the canonical tree. A builder
 * never sees fewer than two ranks; plan.c has that case.
 */
#ifndef CX_ALGO_H
#define CX_ALGO_H

#include <stdbool.h>

#include "plan.h"

extern const struct cx_algo cx_allreduce_ring, cx_allreduce_tree, cx_allreduce_rdbl;
extern const struct cx_algo cx_allreduce_rhalving, cx_allreduce_direct, cx_allreduce_flat;
extern const struct cx_algo cx_reduce_scatter_ring, cx_reduce_scatter_rhalving;
extern const struct cx_algo cx_reduce_scatter_direct;
extern const struct cx_algo cx_allgather_ring, cx_allgather_rdbl, cx_allgather_direct;
extern const struct cx_algo cx_broadcast_binomial, cx_broadcast_tree, cx_broadcast_flat;
extern const struct cx_algo cx_reduce_binomial, cx_reduce_tree, cx_reduce_flat;
extern const struct cx_algo cx_barrier_dissemination, cx_barrier_flat;

/* ---- steps ---- */

bool cx_coll_reduces(enum cx_coll coll);

/* COLLX_ERR_INTERNAL with a line that names the first step that is malformed. */
int cx_plan_validate(const struct cx_plan *plan);
/* Validates and (again) computes `after`; cx_plan_create has done so. */
int cx_plan_finish(struct cx_plan *plan);

/* An operand of a step; its slot is the first cell: a block number of IN and OUT. */
static inline struct cx_operand cx_step_operand(const struct cx_step *s, unsigned buf,
						uint32_t slot)
{
	return (struct cx_operand){ (enum cx_buf)buf, buf == CX_TMP ? slot : s->blk };
}

static inline struct cx_operand cx_step_dst(const struct cx_step *s)
{
	return cx_step_operand(s, s->dst_buf, s->dst);
}

static inline struct cx_operand cx_step_a(const struct cx_step *s)
{
	return cx_step_operand(s, s->a_buf, s->op == CX_OP_REDUCE ? s->dst : s->src);
}

static inline struct cx_operand cx_step_b(const struct cx_step *s)
{
	return cx_step_operand(s, s->b_buf, s->src);
}

/* ---- the canonical tree: algo_canon.c ---- */

/*
 * Ranks in groups of two and one so that the groups are a power of two:
 * (0,1) .. (2rem-2,2rem-1) (2rem) (2rem+1) ..  The first of a group acts for it.
 */
struct cx_groups {
	int count;
	int rem;     /* groups of two ranks; the first ones */
	int self;    /* this rank's group */
	bool pair;   /* it has two ranks */
	bool folded; /* and this rank is the second */
};
struct cx_groups cx_groups(const struct cx_shape *shape);

/* The first rank of a group; the number of ranks for `count`. */
static inline int cx_group_head(const struct cx_groups *g, int group)
{
	return group < g->rem ? 2 * group : group + g->rem;
}

/* OUT[blk] <- this rank's IN[blk] and what the others sent into the slots of
 * their rank, combined by the canonical tree. Needs a slot for every rank. */
void cx_fold(struct cx_plan *p, uint32_t blk);

#endif
