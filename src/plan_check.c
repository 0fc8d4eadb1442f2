/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs the plans of all ranks on symbols and proves what plan.h promises.
 *
 * A value is an expression: a leaf (a rank's block) or the sum of two; equal
 * expressions are one node, so comparing trees is comparing numbers. A message
 * passes only when both its ends are posted (no buffering), in order for each
 * ordered pair of ranks. `after` must be what plan.h defines, found here from
 * who used a cell last; hence no transfer's cells are touched by another step,
 * values do not depend on the interleaving, and one run stands for all. More
 * steps in flight never block anybody, so the least window stands for all too.
 */
#include <stdarg.h>
#include <string.h>

#include "algo.h"
#include "base/base.h"

/* With one step at a time two partners that both send first would wait for ever. */
enum { LEAST_WINDOW = 2, WINDOW = 16 };

/* Leaves first: node rank * nblocks + blk. */
struct node {
	int32_t left, right; /* leaf: the rank, -1 */
	uint32_t blk;
	int32_t leaves;
	uint32_t met; /* the last walk that came here */
};

/* All counted from 1, so that zeroed memory is "none". */
struct cell {
	int32_t value;
	int32_t wrote, read; /* the last step that did */
};

struct progress {
	uint32_t next;   /* in the link's queue, from 1 */
	int32_t message; /* barrier: what the sender knew */
	bool done;
};

struct rank {
	const struct cx_plan *plan;
	struct cell *in, *out, *tmp;
	struct progress *steps;
	uint32_t started, done; /* steps 0 .. done - 1 are done */
	int32_t known;          /* barrier: the ranks heard of, and by steps 0 .. heard - 1 */
	int32_t heard;
};

/* What is posted between two ranks and not yet matched, from 1: all sends or all receives. */
struct link {
	uint32_t head, tail;
	bool sends;
};

struct check {
	enum cx_coll coll;
	const char *name;
	int ranks;
	uint32_t nblocks;
	int32_t full; /* leaves of a finished value */
	bool in_place;
	uint32_t window;
	int turn; /* ranks are served upwards (1) or downwards (-1) */

	struct rank *rank;
	struct cell *cells;
	struct progress *progress;
	struct link *links;
	struct node *nodes;
	int32_t *table; /* of sums, by hash, from 1 */
	uint32_t nnodes, table_mask;
	uint32_t walk;
};

__attribute__((format(printf, 4, 5)))
static int fail(const struct check *c, int rank, int64_t step, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return cx_fail(COLLX_ERR_INTERNAL, "%s %s of %d ranks, %s: rank %d, step %lld: %s",
		       cx_coll_name(c->coll), c->name, c->ranks, c->in_place ? "in place" : "apart",
		       rank, (long long)step, text);
}

/* ---- expressions ---- */

static int32_t leaf(const struct check *c, int rank, uint32_t blk)
{
	return (int32_t)((uint32_t)rank * c->nblocks + blk);
}

static int32_t sum(struct check *c, int32_t left, int32_t right)
{
	uint32_t h = ((uint32_t)left * 0x9e3779b1u) ^ ((uint32_t)right * 0x85ebca6bu);
	const struct node *l = &c->nodes[left], *r = &c->nodes[right];
	int32_t *slot = &c->table[(h ^ h >> 15) & c->table_mask];

	for (; *slot; slot = slot == c->table + c->table_mask ? c->table : slot + 1) {
		const struct node *n = &c->nodes[*slot - 1];

		if (n->left == left && n->right == right)
			return *slot - 1;
	}
	c->nodes[c->nnodes] = (struct node){ left, right, l->blk, l->leaves + r->leaves, 0 };
	*slot = (int32_t)++c->nnodes;
	return *slot - 1;
}

/* The canonical tree again, written apart from algo_canon.c on purpose. */
static int32_t canonical(struct check *c, uint32_t blk, int group, int n, int rem)
{
	int first = group + (group < rem ? group : rem);
	int32_t left;

	if (n == 1 && group < rem)
		return sum(c, leaf(c, first, blk), leaf(c, first + 1, blk));
	if (n == 1)
		return leaf(c, first, blk);
	left = canonical(c, blk, group, n / 2, rem);
	return sum(c, left, canonical(c, blk, group + n / 2, n / 2, rem));
}

static int32_t canonical_sum(struct check *c, uint32_t blk)
{
	int groups = 1;

	while (groups <= c->ranks / 2)
		groups *= 2;
	return canonical(c, blk, 0, groups, c->ranks - groups);
}

/* Walks a tree from left to right; the number of leaves met, each once. */
static int visit(struct check *c, int32_t id, int *last, bool *ordered)
{
	struct node *n = &c->nodes[id];
	int found;

	if (n->met == c->walk)
		return 0;
	n->met = c->walk;
	if (n->right >= 0) {
		found = visit(c, n->left, last, ordered);
		return found + visit(c, n->right, last, ordered);
	}
	*ordered = *ordered && n->left > *last;
	*last = n->left;
	return 1;
}

/* ---- memory ---- */

static bool in_exists(const struct check *c, int rank, uint32_t blk)
{
	if (c->coll == CX_ALLGATHER)
		return blk == (uint32_t)rank;
	return c->coll == CX_BROADCAST ? !rank : c->coll != CX_BARRIER;
}

static bool out_exists(const struct check *c, int rank, uint32_t blk)
{
	if (c->coll == CX_REDUCE_SCATTER)
		return blk == (uint32_t)rank;
	return c->coll == CX_REDUCE ? !rank : c->coll != CX_BARRIER;
}

static struct cell *cell_of(const struct rank *r, struct cx_operand o)
{
	struct cell *base = o.buf == CX_IN ? r->in : o.buf == CX_OUT ? r->out : r->tmp;

	return base + o.slot;
}

static int load(const struct check *c, int rank, uint32_t step, struct cx_operand o, uint32_t k,
		int32_t *value)
{
	const struct rank *r = &c->rank[rank];
	uint32_t blk = r->plan->steps[step].blk + k;

	if ((o.buf == CX_IN && !in_exists(c, rank, blk)) ||
	    (o.buf == CX_OUT && !out_exists(c, rank, blk)))
		return fail(c, rank, step, "reads block %u, which it has not", blk);
	*value = cell_of(r, o)[k].value - 1;
	if (*value < 0)
		return fail(c, rank, step, "reads what was never written (block %u)", blk);
	if (c->coll != CX_BARRIER && c->nodes[*value].blk != blk)
		return fail(c, rank, step, "takes block %u for %u", c->nodes[*value].blk, blk);
	return 0;
}

static int store(const struct check *c, int rank, uint32_t step, uint32_t k, int32_t value)
{
	const struct rank *r = &c->rank[rank];
	struct cx_operand dst = cx_step_dst(&r->plan->steps[step]);
	uint32_t blk = r->plan->steps[step].blk + k;
	struct cell *cell = cell_of(r, dst) + k;

	if (dst.buf == CX_OUT && !out_exists(c, rank, blk))
		return fail(c, rank, step, "writes block %u, which it has not", blk);
	if (dst.buf == CX_OUT && c->nodes[value].leaves != c->full)
		return fail(c, rank, step, "unfinished block %u in OUT", blk);
	if (c->coll == CX_BARRIER && cell->value)
		return fail(c, rank, step, "writes a barrier's slot again");
	cell->value = value + 1;
	return 0;
}

static int combine(struct check *c, int rank, uint32_t step, uint32_t k, int32_t left,
		   int32_t right)
{
	const struct cx_step *s = &c->rank[rank].plan->steps[step];
	int32_t value = sum(c, left, right), leaves = c->nodes[value].leaves;

	if (leaves > c->full)
		return fail(c, rank, step, "more contributions than ranks");
	if ((leaves == c->full) != !!(s->flags & CX_LAST))
		return fail(c, rank, step, "a sum of %d must%s be marked last", leaves,
			    leaves == c->full ? "" : " not");
	return store(c, rank, step, k, value);
}

/* ---- dependencies ---- */

static int32_t last_use(const struct cell *cell, uint32_t n, bool write)
{
	int32_t last = 0;

	for (uint32_t k = 0; k < n; k++) {
		int32_t use = write && cell[k].read > cell[k].wrote ? cell[k].read : cell[k].wrote;

		last = use > last ? use : last;
	}
	return last;
}

/* In place IN and OUT are the same cells, which is what `after` is defined for. */
static int claim(const struct check *c, int rank, uint32_t step)
{
	const struct rank *r = &c->rank[rank];
	const struct cx_step *s = &r->plan->steps[step];
	struct cx_operand o[] = { cx_step_dst(s), cx_step_a(s), cx_step_b(s) };
	int32_t last = 0;

	for (int i = 0; i < 3; i++) {
		int32_t use = o[i].buf ? last_use(cell_of(r, o[i]), s->nblk, !i) : 0;

		last = use > last ? use : last;
	}
	for (int i = 0; i < 3; i++)
		for (uint32_t k = 0; o[i].buf && k < s->nblk; k++)
			*(i ? &cell_of(r, o[i])[k].read : &cell_of(r, o[i])[k].wrote) =
				(int32_t)step + 1;
	if (c->in_place && r->plan->after[step] != last - 1)
		return fail(c, rank, step, "starts after step %d, must after %d",
			    r->plan->after[step], last - 1);
	return 0;
}

/* ---- steps ---- */

static void complete(struct rank *r, uint32_t step)
{
	r->steps[step].done = true;
	while (r->done < r->started && r->steps[r->done].done)
		r->done++;
}

static int arrive(struct check *c, int rank, uint32_t step, uint32_t k, int32_t value)
{
	const struct cx_step *s = &c->rank[rank].plan->steps[step];
	int32_t own;
	int rc;

	if (s->op == CX_OP_RECV)
		return store(c, rank, step, k, value);
	rc = load(c, rank, step, cx_step_a(s), k, &own);
	if (rc)
		return rc;
	return s->flags & CX_LEFT ? combine(c, rank, step, k, value, own) :
				    combine(c, rank, step, k, own, value);
}

static int transfer(struct check *c, int from, uint32_t send, int to, uint32_t recv)
{
	const struct cx_step *s = &c->rank[from].plan->steps[send];
	const struct cx_step *r = &c->rank[to].plan->steps[recv];
	int32_t value;
	int rc = 0;

	if (s->blk != r->blk || s->nblk != r->nblk || (s->flags ^ r->flags) & CX_WIDE)
		return fail(c, to, recv, "expects %u from %u%s, but step %u of %d sends %u from %u",
			    r->nblk, r->blk, r->flags & CX_WIDE ? " wide" : "", send, from, s->nblk,
			    s->blk);
	for (uint32_t k = 0; k < s->nblk && !rc; k++) {
		rc = load(c, from, send, cx_step_a(s), k, &value);
		if (!rc && c->coll == CX_BARRIER) /* not what is sent counts but who was heard */
			value = c->rank[from].steps[send].message;
		if (!rc)
			rc = arrive(c, to, recv, k, value);
	}
	complete(&c->rank[from], send);
	complete(&c->rank[to], recv);
	return rc;
}

static void enqueue(struct rank *r, struct link *link, uint32_t step, bool is_send)
{
	if (link->head)
		r->steps[link->tail - 1].next = step + 1;
	else
		link->head = step + 1;
	link->tail = step + 1;
	link->sends = is_send;
}

static int post(struct check *c, int rank, uint32_t step)
{
	const struct cx_step *s = &c->rank[rank].plan->steps[step];
	bool is_send = s->op == CX_OP_SEND;
	size_t from = (size_t)(is_send ? rank : s->peer), to = (size_t)(is_send ? s->peer : rank);
	struct link *link = &c->links[from * (size_t)c->ranks + to];
	uint32_t other = link->head - 1;

	if (!link->head || link->sends == is_send) {
		enqueue(&c->rank[rank], link, step, is_send);
		return 0;
	}
	link->head = c->rank[s->peer].steps[other].next;
	if (is_send)
		return transfer(c, rank, step, s->peer, other);
	return transfer(c, s->peer, other, rank, step);
}

static int run_local(struct check *c, int rank, uint32_t step)
{
	const struct cx_step *s = &c->rank[rank].plan->steps[step];
	int rc = 0;

	for (uint32_t k = 0; k < s->nblk && !rc; k++) {
		int32_t a, b;

		rc = load(c, rank, step, cx_step_a(s), k, &a);
		if (!rc && s->op == CX_OP_COPY) {
			rc = store(c, rank, step, k, a);
			continue;
		}
		if (!rc)
			rc = load(c, rank, step, cx_step_b(s), k, &b);
		if (!rc)
			rc = combine(c, rank, step, k, a, b);
	}
	complete(&c->rank[rank], step);
	return rc;
}

/* What a rank is sure to have heard when steps 0 .. upto are done. */
static void hear(struct check *c, struct rank *r, int32_t upto)
{
	for (; r->heard <= upto; r->heard++) {
		const struct cx_step *s = &r->plan->steps[r->heard];

		if (s->op == CX_OP_RECV)
			r->known = sum(c, r->known, cell_of(r, cx_step_dst(s))->value - 1);
	}
}

static int start(struct check *c, int rank)
{
	struct rank *r = &c->rank[rank];
	uint32_t step = r->started++;
	int rc = claim(c, rank, step);

	if (rc)
		return rc;
	if (c->coll == CX_BARRIER) {
		hear(c, r, r->plan->after[step]);
		r->steps[step].message = r->known;
	}
	if (r->plan->steps[step].peer < 0)
		return run_local(c, rank, step);
	return post(c, rank, step);
}

static bool ready(const struct check *c, const struct rank *r)
{
	return r->started < r->plan->nsteps && r->started - r->done < c->window &&
	       r->plan->after[r->started] < (int32_t)r->done;
}

static int run(struct check *c)
{
	bool moved = true;
	int rc = 0;

	while (moved) {
		moved = false;
		for (int i = 0; i < c->ranks; i++) {
			int rank = c->turn > 0 ? i : c->ranks - 1 - i;

			for (; ready(c, &c->rank[rank]) && !rc; moved = true)
				rc = start(c, rank);
		}
		if (rc)
			return rc;
	}
	for (int i = 0; i < c->ranks; i++)
		if (c->rank[i].done < c->rank[i].plan->nsteps)
			return fail(c, i, c->rank[i].done, "waits for ever");
	return 0;
}

/* ---- results ---- */

static int verify_sum(struct check *c, int rank, uint32_t blk, int32_t value)
{
	unsigned flags = c->rank[0].plan->algo->flags;
	bool ordered = true;
	int last = -1;

	c->walk++;
	if (visit(c, value, &last, &ordered) != c->ranks)
		return fail(c, rank, -1, "block %u lacks a rank", blk);
	if (flags & CX_ALGO_RANK_ORDER && !ordered)
		return fail(c, rank, -1, "block %u is not summed in rank order", blk);
	if (flags & CX_ALGO_CANONICAL && value != canonical_sum(c, blk))
		return fail(c, rank, -1, "block %u has not the canonical tree", blk);
	return 0;
}

static int verify_block(struct check *c, int rank, uint32_t blk)
{
	int32_t value = c->rank[rank].out[blk].value - 1;

	if (value < 0)
		return fail(c, rank, -1, "block %u was never written", blk);
	if (!cx_coll_reduces(c->coll)) {
		int source = c->coll == CX_ALLGATHER ? (int)blk : 0;

		return value == leaf(c, source, blk) ? 0 :
						       fail(c, rank, -1, "block %u is wrong", blk);
	}
	if (c->nodes[value].blk != blk || c->nodes[value].leaves != c->full)
		return fail(c, rank, -1, "block %u is not finished", blk);
	if (c->coll == CX_ALLREDUCE && rank)
		return value == c->rank[0].out[blk].value - 1 ? 0 :
			fail(c, rank, -1, "block %u has another tree than on rank 0", blk);
	return verify_sum(c, rank, blk, value);
}

/* A rank may leave when its steps are done; it must have heard of all by then. */
static int verify_barrier(struct check *c, int rank)
{
	struct rank *r = &c->rank[rank];
	bool ordered = true;
	int last = -1;

	hear(c, r, (int32_t)r->plan->nsteps - 1);
	c->walk++;
	if (visit(c, r->known, &last, &ordered) != c->ranks)
		return fail(c, rank, -1, "leaves before all have come");
	return 0;
}

static int verify(struct check *c)
{
	int rc = 0;

	for (int i = 0; i < c->ranks && !rc; i++) {
		if (c->coll == CX_BARRIER)
			rc = verify_barrier(c, i);
		for (uint32_t b = 0; b < c->nblocks && !rc; b++)
			if (out_exists(c, i, b))
				rc = verify_block(c, i, b);
	}
	return rc;
}

/* ---- setting up ---- */

static int validate(struct cx_plan *const *plans, int ranks)
{
	for (int i = 0; i < ranks; i++) {
		const struct cx_plan *p = plans[i];
		int rc = cx_plan_validate(p);

		if (rc)
			return rc;
		if (p->algo != plans[0]->algo || p->nblocks != plans[0]->nblocks ||
		    p->shape.ranks != ranks || p->shape.rank != i)
			return cx_fail(COLLX_ERR_INTERNAL, "plan %d is not one of a set", i);
	}
	return 0;
}

/* Room for the worst case, so that nothing grows while running. */
static int allocate(struct check *c, struct cx_plan *const *plans)
{
	size_t ranks = (size_t)c->ranks, leaves = ranks * c->nblocks;
	size_t cells = 0, steps = 0, sums = leaves, table = 2;

	for (int i = 0; i < c->ranks; i++) {
		cells += 2 * (size_t)c->nblocks + plans[i]->nslots;
		steps += plans[i]->nsteps;
		for (uint32_t k = 0; k < plans[i]->nsteps; k++)
			sums += plans[i]->steps[k].nblk;
	}
	while (table < 2 * sums)
		table *= 2;
	if (table > INT32_MAX)
		return cx_fail(COLLX_ERR_NOMEM, "too many ranks to check: %d", c->ranks);
	c->table_mask = (uint32_t)table - 1;
	c->rank = cx_alloc(ranks, sizeof(*c->rank));
	c->cells = cx_alloc(cells, sizeof(*c->cells));
	c->progress = cx_alloc(steps, sizeof(*c->progress));
	c->links = cx_alloc(ranks * ranks, sizeof(*c->links));
	c->nodes = cx_alloc(leaves + sums, sizeof(*c->nodes));
	c->table = cx_alloc(table, sizeof(*c->table));
	return c->rank && c->cells && c->progress && c->links && c->nodes && c->table ?
		       0 : COLLX_ERR_NOMEM;
}

static void release(struct check *c)
{
	cx_free(c->rank);
	cx_free(c->cells);
	cx_free(c->progress);
	cx_free(c->links);
	cx_free(c->nodes);
	cx_free(c->table);
}

static void prepare_rank(struct check *c, int rank, struct cell *cells, struct progress *steps)
{
	struct rank *r = &c->rank[rank];

	r->steps = steps;
	r->out = cells;
	r->in = c->in_place ? r->out : cells + c->nblocks;
	r->tmp = cells + 2 * (size_t)c->nblocks;
	r->known = leaf(c, rank, 0);
	for (uint32_t b = 0; b < c->nblocks; b++) {
		int32_t id = leaf(c, rank, b);

		c->nodes[id] = (struct node){ .left = rank, .right = -1, .blk = b, .leaves = 1 };
		if (in_exists(c, rank, b))
			r->in[b].value = id + 1;
	}
	if (c->coll == CX_BARRIER && r->plan->nslots)
		r->tmp[0].value = r->known + 1;
}

static void prepare(struct check *c, struct cx_plan *const *plans)
{
	struct cell *cells = c->cells;
	struct progress *steps = c->progress;

	c->nnodes = (uint32_t)c->ranks * c->nblocks;
	for (int i = 0; i < c->ranks; i++) {
		c->rank[i].plan = plans[i];
		prepare_rank(c, i, cells, steps);
		cells += 2 * (size_t)c->nblocks + plans[i]->nslots;
		steps += plans[i]->nsteps;
	}
}

static int check(struct check c, struct cx_plan *const *plans)
{
	int rc = allocate(&c, plans);

	if (!rc) {
		prepare(&c, plans);
		rc = run(&c);
	}
	if (!rc)
		rc = verify(&c);
	release(&c);
	return rc;
}

int cx_plan_check_set(struct cx_plan *const *plans, int ranks)
{
	const struct cx_algo *algo = plans[0]->algo;
	struct check c = { .coll = algo->coll, .name = algo->name, .ranks = ranks,
			   .nblocks = plans[0]->nblocks, .window = LEAST_WINDOW, .turn = 1 };
	int rc = validate(plans, ranks);

	c.full = cx_coll_reduces(c.coll) ? ranks : 1;
	if (!rc)
		rc = check(c, plans);
	c.in_place = true;
	c.window = WINDOW;
	c.turn = -1;
	return rc ? rc : check(c, plans);
}

int cx_plan_check(const struct cx_algo *algo, int ranks)
{
	struct cx_plan **plans;
	int rc = 0;

	if (ranks < 1)
		return cx_fail(COLLX_ERR_INVALID, "no plan for %d ranks", ranks);
	plans = cx_alloc((size_t)ranks, sizeof(*plans));
	if (!plans)
		return COLLX_ERR_NOMEM;
	for (int i = 0; i < ranks && !rc; i++)
		rc = cx_plan_create(&plans[i], algo, &(struct cx_shape){ ranks, i });
	if (!rc)
		rc = cx_plan_check_set(plans, ranks);
	for (int i = 0; i < ranks; i++)
		cx_plan_destroy(plans[i]);
	cx_free(plans);
	return rc;
}
