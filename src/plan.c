/* SPDX-License-Identifier: BSD-3-Clause */
/* Names, the list of algorithms, and how a plan is built, finished and printed. */
#include <string.h>

#include "algo.h"
#include "base/base.h"

static const char *const coll_names[CX_NCOLL] = {
	[CX_ALLREDUCE] = "allreduce", [CX_REDUCE_SCATTER] = "reduce_scatter",
	[CX_ALLGATHER] = "allgather", [CX_BROADCAST] = "broadcast",
	[CX_REDUCE] = "reduce",	      [CX_BARRIER] = "barrier",
};

const struct cx_algo *const cx_algos[] = {
	&cx_allreduce_ring,
	&cx_allreduce_tree,
	&cx_allreduce_rdbl,
	&cx_allreduce_rhalving,
	&cx_allreduce_direct,
	&cx_allreduce_flat,
	&cx_reduce_scatter_ring,
	&cx_reduce_scatter_rhalving,
	&cx_reduce_scatter_direct,
	&cx_allgather_ring,
	&cx_allgather_rdbl,
	&cx_allgather_direct,
	&cx_broadcast_binomial,
	&cx_broadcast_tree,
	&cx_broadcast_flat,
	&cx_reduce_binomial,
	&cx_reduce_tree,
	&cx_reduce_flat,
	&cx_barrier_dissemination,
	&cx_barrier_flat,
	NULL
};

const char *cx_coll_name(enum cx_coll coll)
{
	if (coll == CX_SEND || coll == CX_RECV)
		return coll == CX_SEND ? "send" : "recv";
	return (unsigned)coll < CX_NCOLL ? coll_names[coll] : "unknown";
}

enum cx_coll cx_coll_find(const char *name)
{
	unsigned i = 0;

	while (i < CX_NCOLL && strcmp(coll_names[i], name))
		i++;
	return (enum cx_coll)i;
}

bool cx_coll_reduces(enum cx_coll coll)
{
	return coll == CX_ALLREDUCE || coll == CX_REDUCE_SCATTER || coll == CX_REDUCE;
}

const struct cx_algo *cx_algo_find(enum cx_coll coll, const char *name)
{
	const struct cx_algo *const *a = cx_algos;

	while (*a && ((*a)->coll != coll || strcmp((*a)->name, name)))
		a++;
	return *a;
}

/* ---- building ---- */

static int grow(struct cx_plan *p)
{
	uint32_t room = p->room ? p->room * 2 : 32;
	struct cx_step *steps;

	if (room > INT32_MAX) /* after[] could not name them */
		return cx_fail(COLLX_ERR_NOMEM, "a plan of %u steps", room);
	steps = cx_alloc(room, sizeof(*steps));
	if (!steps)
		return COLLX_ERR_NOMEM;
	if (p->nsteps)
		memcpy(steps, p->steps, p->nsteps * sizeof(*steps));
	cx_free(p->steps);
	p->steps = steps;
	p->room = room;
	return 0;
}

static void append(struct cx_plan *p, struct cx_step step)
{
	if (!p->err && p->nsteps == p->room)
		p->err = grow(p);
	if (!p->err)
		p->steps[p->nsteps++] = step;
}

/* A message from TMP is a partial result where the collective has such. */
void cx_plan_send(struct cx_plan *p, int peer, struct cx_operand a, uint32_t blk, uint32_t nblk)
{
	bool wide = a.buf == CX_TMP && cx_coll_reduces(p->algo->coll);

	append(p, (struct cx_step){ .op = CX_OP_SEND, .flags = wide ? CX_WIDE : 0, .a_buf = a.buf,
				    .peer = peer, .blk = blk, .nblk = nblk, .src = a.slot });
}

void cx_plan_recv(struct cx_plan *p, int peer, struct cx_operand dst, uint32_t blk, uint32_t nblk,
		  unsigned flags)
{
	append(p, (struct cx_step){ .op = CX_OP_RECV, .flags = (uint8_t)flags, .dst_buf = dst.buf,
				    .peer = peer, .blk = blk, .nblk = nblk, .dst = dst.slot });
}

void cx_plan_recv_reduce(struct cx_plan *p, int peer, struct cx_operand dst, struct cx_operand a,
			 uint32_t blk, uint32_t nblk, unsigned flags)
{
	append(p, (struct cx_step){ .op = CX_OP_RECV_REDUCE, .flags = (uint8_t)flags,
				    .dst_buf = dst.buf, .a_buf = a.buf, .peer = peer, .blk = blk,
				    .nblk = nblk, .dst = dst.slot, .src = a.slot });
}

void cx_plan_copy(struct cx_plan *p, struct cx_operand dst, struct cx_operand a, uint32_t blk,
		  uint32_t nblk)
{
	append(p, (struct cx_step){ .op = CX_OP_COPY, .dst_buf = dst.buf, .a_buf = a.buf,
				    .peer = -1, .blk = blk, .nblk = nblk, .dst = dst.slot,
				    .src = a.slot });
}

void cx_plan_reduce(struct cx_plan *p, struct cx_operand dst, struct cx_operand a,
		    struct cx_operand b, uint32_t blk, uint32_t nblk, unsigned flags)
{
	if (!p->err && dst.buf == CX_TMP && a.buf == CX_TMP && dst.slot != a.slot)
		p->err = cx_fail(COLLX_ERR_INTERNAL, "reduce of slot %u into slot %u", a.slot,
				 dst.slot);
	append(p, (struct cx_step){ .op = CX_OP_REDUCE, .flags = (uint8_t)flags,
				    .dst_buf = dst.buf, .a_buf = a.buf, .b_buf = b.buf, .peer = -1,
				    .blk = blk, .nblk = nblk,
				    .dst = a.buf == CX_TMP ? a.slot : dst.slot, .src = b.slot });
}

/* ---- validation ---- */

enum { NONE = 1 << CX_NONE, IN = 1 << CX_IN, OUT = 1 << CX_OUT, TMP = 1 << CX_TMP };

static const struct rule {
	const char *name;
	unsigned dst, a, b; /* the buffers it may have */
	unsigned flags;
	bool peer;
} rules[] = {
	[CX_OP_SEND] = { "send", NONE, IN | OUT | TMP, NONE, CX_WIDE, true },
	[CX_OP_RECV] = { "recv", OUT | TMP, NONE, NONE, CX_WIDE, true },
	[CX_OP_RECV_REDUCE] = { "recv_reduce", OUT | TMP, IN | TMP, NONE,
				CX_LEFT | CX_WIDE | CX_LAST, true },
	[CX_OP_COPY] = { "copy", OUT | TMP, IN | OUT | TMP, NONE, 0, false },
	[CX_OP_REDUCE] = { "reduce", OUT | TMP, IN | TMP, IN | TMP, CX_LAST, false },
};

static bool buffers_ok(const struct cx_step *s, const struct rule *rule)
{
	return rule->dst >> s->dst_buf & rule->a >> s->a_buf & rule->b >> s->b_buf & 1 &&
	       !s->unused;
}

static bool fits(const struct cx_plan *p, const struct cx_step *s, struct cx_operand o)
{
	return o.buf != CX_TMP || (uint64_t)o.slot + s->nblk <= p->nslots;
}

/* The same cells are fine, element by element; shifted ones are not. */
static bool shifted(const struct cx_step *s, struct cx_operand dst, struct cx_operand from)
{
	uint32_t gap = dst.slot > from.slot ? dst.slot - from.slot : from.slot - dst.slot;

	return dst.buf == CX_TMP && from.buf == CX_TMP && gap && gap < s->nblk;
}

static bool slots_ok(const struct cx_plan *p, const struct cx_step *s)
{
	struct cx_operand dst = cx_step_dst(s), a = cx_step_a(s), b = cx_step_b(s);
	bool a_is_dst = s->op == CX_OP_REDUCE;
	bool dst_used = s->dst_buf == CX_TMP || (a_is_dst && s->a_buf == CX_TMP);
	bool src_used = s->b_buf == CX_TMP || (!a_is_dst && s->a_buf == CX_TMP);

	return fits(p, s, dst) && fits(p, s, a) && fits(p, s, b) && (dst_used || !s->dst) &&
	       (src_used || !s->src) && !shifted(s, dst, a) && !shifted(s, dst, b);
}

static bool flags_ok(const struct cx_plan *p, const struct cx_step *s, const struct rule *rule)
{
	bool wide = s->a_buf == CX_TMP && cx_coll_reduces(p->algo->coll);

	return !(s->flags & ~rule->flags) &&
	       (s->op != CX_OP_SEND || s->flags == (wide ? CX_WIDE : 0));
}

static bool peer_ok(const struct cx_plan *p, const struct cx_step *s, const struct rule *rule)
{
	if (!rule->peer)
		return s->peer == -1;
	return s->peer >= 0 && s->peer < p->shape.ranks && s->peer != p->shape.rank;
}

/* What is wrong with a step, or NULL. */
static const char *fault(const struct cx_plan *p, const struct cx_step *s)
{
	const struct rule *rule;

	if (s->op > CX_OP_REDUCE)
		return "no such opcode";
	rule = &rules[s->op];
	if (!buffers_ok(s, rule))
		return "illegal buffer";
	if (!s->nblk || (uint64_t)s->blk + s->nblk > p->nblocks)
		return "no such block";
	if (!slots_ok(p, s))
		return "bad slot";
	if (!flags_ok(p, s, rule))
		return "bad flag";
	return peer_ok(p, s, rule) ? NULL : "bad peer";
}

int cx_plan_validate(const struct cx_plan *p)
{
	for (uint32_t i = 0; i < p->nsteps; i++) {
		const char *what = fault(p, &p->steps[i]);

		if (what)
			return cx_fail(COLLX_ERR_INTERNAL, "%s %s, rank %d of %d, step %u: %s",
				       cx_coll_name(p->algo->coll), p->algo->name, p->shape.rank,
				       p->shape.ranks, i, what);
	}
	return 0;
}

/* ---- dependencies ---- */

/* The last step that wrote and that read a cell, counted from 1. */
struct cell {
	int32_t wrote, read;
};

/* IN and OUT share their cells; TMP's stand behind them. */
static struct cell *first_cell(const struct cx_plan *p, struct cell *cells, struct cx_operand o)
{
	return cells + (o.buf == CX_TMP ? p->nblocks : 0) + o.slot;
}

static int32_t last_use(const struct cell *c, uint32_t n, bool write)
{
	int32_t last = 0;

	for (; n--; c++) {
		if (c->wrote > last)
			last = c->wrote;
		if (write && c->read > last)
			last = c->read;
	}
	return last;
}

static int32_t depend(const struct cx_plan *p, struct cell *cells, int32_t i)
{
	const struct cx_step *s = &p->steps[i];
	struct cx_operand o[3] = { cx_step_dst(s), cx_step_a(s), cx_step_b(s) };
	int32_t last = 0;

	for (int k = 0; k < 3; k++) {
		int32_t use = o[k].buf ? last_use(first_cell(p, cells, o[k]), s->nblk, !k) : 0;

		last = use > last ? use : last;
	}
	for (int k = 0; k < 3; k++) {
		struct cell *c = first_cell(p, cells, o[k]);

		for (uint32_t j = 0; o[k].buf && j < s->nblk; j++)
			*(k ? &c[j].read : &c[j].wrote) = i + 1;
	}
	return last - 1;
}

int cx_plan_finish(struct cx_plan *p)
{
	struct cell *cells;
	int rc = p->err ? p->err : cx_plan_validate(p);

	if (rc)
		return rc;
	if (!p->after)
		p->after = cx_alloc(p->nsteps, sizeof(*p->after));
	cells = p->after ? cx_alloc((size_t)p->nblocks + p->nslots, sizeof(*cells)) : NULL;
	if (!cells)
		return COLLX_ERR_NOMEM;
	for (uint32_t i = 0; i < p->nsteps; i++)
		p->after[i] = depend(p, cells, (int32_t)i);
	cx_free(cells);
	return 0;
}

/* ---- a plan's life ---- */

static void build_alone(struct cx_plan *p)
{
	p->nblocks = 1;
	if (p->algo->coll != CX_BARRIER)
		cx_plan_copy(p, cx_out, cx_in, 0, 1);
}

int cx_plan_create(struct cx_plan **out, const struct cx_algo *algo, const struct cx_shape *shape)
{
	struct cx_plan *p;
	int rc;

	if (shape->ranks < 1 || shape->rank < 0 || shape->rank >= shape->ranks)
		return cx_fail(COLLX_ERR_INVALID, "no plan for rank %d of %d", shape->rank,
			       shape->ranks);
	p = cx_alloc(1, sizeof(*p));
	if (!p)
		return COLLX_ERR_NOMEM;
	p->algo = algo;
	p->shape = *shape;
	if (shape->ranks == 1)
		build_alone(p);
	else
		algo->build(p);
	rc = cx_plan_finish(p);
	if (rc)
		cx_plan_destroy(p);
	else
		*out = p;
	return rc;
}

void cx_plan_destroy(struct cx_plan *p)
{
	if (!p)
		return;
	cx_free(p->steps);
	cx_free(p->after);
	cx_free(p);
}

/* ---- printing ---- */

enum { TEXT = 128 };

static void range_text(char *to, struct cx_operand o, uint32_t n)
{
	static const char *const names[] = { "none", "in", "out", "tmp" };

	if (n == 1)
		snprintf(to, 40, "%s[%u]", names[o.buf], o.slot);
	else
		snprintf(to, 40, "%s[%u..%u]", names[o.buf], o.slot, o.slot + n - 1);
}

static void action_text(char *to, const struct cx_step *s)
{
	char dst[40], a[40], b[40] = "incoming";

	range_text(dst, cx_step_dst(s), s->nblk);
	range_text(a, cx_step_a(s), s->nblk);
	if (s->op == CX_OP_REDUCE)
		range_text(b, cx_step_b(s), s->nblk);
	if (s->op == CX_OP_SEND)
		snprintf(to, TEXT, "%s", a);
	else if (s->op == CX_OP_RECV || s->op == CX_OP_COPY)
		snprintf(to, TEXT, "%s <- %s", dst, s->op == CX_OP_RECV ? b : a);
	else if (s->flags & CX_LEFT)
		snprintf(to, TEXT, "%s <- %s + %s", dst, b, a);
	else
		snprintf(to, TEXT, "%s <- %s + %s", dst, a, b);
}

/* Block numbers show where TMP hides them. */
static void print_step(const struct cx_step *s, int32_t after, FILE *to)
{
	char action[TEXT], peer[24] = "", blocks[40] = "", wait[24] = "", line[2 * TEXT];
	int n;

	action_text(action, s);
	if (s->peer >= 0)
		snprintf(peer, sizeof(peer), "%s %d", s->op == CX_OP_SEND ? "to" : "from",
			 s->peer);
	if (s->nblk == 1)
		snprintf(blocks, sizeof(blocks), "block %u", s->blk);
	else
		snprintf(blocks, sizeof(blocks), "blocks %u..%u", s->blk, s->blk + s->nblk - 1);
	if (after >= 0)
		snprintf(wait, sizeof(wait), "after %d", after);
	n = snprintf(line, sizeof(line), "%-11s  %-7s  %-12s  %-34s  %-9s%s%s", rules[s->op].name,
		     peer, blocks, action, wait, s->flags & CX_WIDE ? "  wide" : "",
		     s->flags & CX_LAST ? "  last" : "");
	while (n && line[n - 1] == ' ')
		n--;
	fprintf(to, "%.*s\n", n, line);
}

void cx_plan_print(const struct cx_plan *p, FILE *to)
{
	fprintf(to, "%s %s: ranks %d, rank %d, blocks %u, slots %u, steps %u\n",
		cx_coll_name(p->algo->coll), p->algo->name, p->shape.ranks, p->shape.rank,
		p->nblocks, p->nslots, p->nsteps);
	for (uint32_t i = 0; i < p->nsteps; i++) {
		fprintf(to, "%4u  ", i);
		print_step(&p->steps[i], p->after[i], to);
	}
}
