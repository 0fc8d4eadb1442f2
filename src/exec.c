/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs plans. Steps of a segment start strictly in order, each as soon as the
 * steps it depends on are finished, so both ends of a lane see its messages in
 * the same order; they finish in any order. A receiving step either posts its
 * buffer or, where the data must be combined or converted, takes the pieces
 * from the transport's memory; the two never mix on one lane at a time.
 */
#include <assert.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/base.h"
#include "exec.h"

enum { BLOCK_ALIGN = 16 /* elements: blocks of a free layout begin at multiples */ };

/* ---- where things are ---- */

static const struct cx_step *step_of(const struct cx_exec *e, const struct cx_flight *f)
{
	return &e->call.plan->steps[f->step];
}

/* Elements that a step works on. */
static size_t step_elems(const struct cx_exec *e, const struct cx_cursor *c,
			 const struct cx_step *s)
{
	size_t from, to;

	if (e->call.fixed_blocks)
		return s->nblk * c->len;
	from = cx_min(s->blk * c->chunk, c->len);
	to = cx_min(((size_t)s->blk + s->nblk) * c->chunk, c->len);
	return to - from;
}

/* Element at which block blk of the segment begins, from the start of block `first`. */
static size_t block_elem(const struct cx_exec *e, const struct cx_cursor *c, uint32_t blk,
			 uint32_t first)
{
	if (e->call.fixed_blocks)
		return (size_t)(blk - first) * e->call.count + c->offset;
	return c->offset + cx_min(blk * c->chunk, c->len);
}

static const char *operand(const struct cx_exec *e, const struct cx_cursor *c,
			   const struct cx_step *s, unsigned buf, uint32_t slot)
{
	const struct cx_call *call = &e->call;

	if (buf == CX_IN)
		return (const char *)call->in + block_elem(e, c, s->blk, call->in_first) * e->elem;
	if (buf == CX_OUT)
		return (char *)call->out + block_elem(e, c, s->blk, call->out_first) * e->elem;
	return c->tmp + slot * c->chunk * e->acc;
}

static char *destination(const struct cx_exec *e, const struct cx_cursor *c,
			 const struct cx_step *s)
{
	return (char *)operand(e, c, s, s->dst_buf, s->dst);
}

/* Bytes of an element in that buffer. */
static size_t width_in(const struct cx_exec *e, unsigned buf)
{
	return buf == CX_TMP ? e->acc : e->elem;
}

static size_t message_width(const struct cx_exec *e, const struct cx_step *s)
{
	return s->flags & CX_WIDE ? e->acc : e->elem;
}

static struct cx_link *link_to(const struct cx_exec *e, const struct cx_cursor *c, int peer)
{
	int real = peer + e->call.root;

	if (real >= e->ranks)
		real -= e->ranks;
	return &e->links[real * CX_LANES + c->lane];
}

/* ---- arithmetic ---- */

static void combine(const struct cx_exec *e, const struct cx_step *s, void *dst, const void *a,
		    unsigned a_wide, const void *b, unsigned b_wide, size_t n)
{
	unsigned widths = 0;
	uint32_t divisor = s->flags & CX_LAST ? (uint32_t)e->ranks : 1;

	if (e->acc != e->elem)
		widths = (s->dst_buf == CX_TMP ? CX_WIDE_DST : 0u) | (a_wide ? CX_WIDE_A : 0u) |
			 (b_wide ? CX_WIDE_B : 0u);
	e->kernels->reduce[e->call.type][e->call.op][widths](dst, a, b, n, divisor);
}

static void convert(const struct cx_exec *e, void *dst, size_t dst_width, const void *src,
		    size_t src_width, size_t n)
{
	if (dst_width == src_width) {
		if (dst != src)
			memcpy(dst, src, n * src_width);
	} else if (dst_width > src_width) {
		e->kernels->widen[e->call.type](dst, src, n);
	} else {
		e->kernels->narrow[e->call.type](dst, src, n);
	}
}

/* n elements of an incoming message, from element `at` of the step on. */
static void take(const struct cx_exec *e, const struct cx_cursor *c, const struct cx_step *s,
		 size_t at, const void *data, size_t n)
{
	char *dst = destination(e, c, s) + at * width_in(e, s->dst_buf);
	const char *local;

	if (s->op == CX_OP_RECV) {
		convert(e, dst, width_in(e, s->dst_buf), data, message_width(e, s), n);
		return;
	}
	local = operand(e, c, s, s->a_buf, s->src) + at * width_in(e, s->a_buf);
	if (s->flags & CX_LEFT)
		combine(e, s, dst, data, s->flags & CX_WIDE, local, s->a_buf == CX_TMP, n);
	else
		combine(e, s, dst, local, s->a_buf == CX_TMP, data, s->flags & CX_WIDE, n);
}

static void local_step(const struct cx_exec *e, const struct cx_cursor *c, const struct cx_step *s)
{
	size_t n = step_elems(e, c, s);
	char *dst = destination(e, c, s);

	if (s->op == CX_OP_COPY)
		convert(e, dst, width_in(e, s->dst_buf), operand(e, c, s, s->a_buf, s->src),
			width_in(e, s->a_buf), n);
	else
		combine(e, s, dst, operand(e, c, s, s->a_buf, s->dst), s->a_buf == CX_TMP,
			operand(e, c, s, s->b_buf, s->src), s->b_buf == CX_TMP, n);
}

/* ---- one step ---- */

static int takes_pieces(const struct cx_exec *e, const struct cx_step *s)
{
	return s->op == CX_OP_RECV_REDUCE || message_width(e, s) != width_in(e, s->dst_buf);
}

/* Takes the next piece of a message. 1: moved; 0: nothing there yet; or an error. */
static int take_piece(struct cx_exec *e, struct cx_cursor *c, struct cx_flight *f,
		      const struct cx_step *s)
{
	size_t width = message_width(e, s);
	const void *data;
	long n = f->link->transport->peek(f->link->lane, &f->x, &data);

	if (n <= 0)
		return (int)n;
	take(e, c, s, f->x.done / width, data, (size_t)n / width);
	f->link->transport->release(f->link->lane, &f->x, (size_t)n);
	return 1;
}

/* Moves a receiving step on, when it is its turn on the lane. */
static int receive(struct cx_exec *e, struct cx_cursor *c, struct cx_flight *f)
{
	const struct cx_step *s = step_of(e, f);
	int rc = 0;

	if (f->ticket != f->link->turn)
		return 0;
	if (takes_pieces(e, s)) {
		rc = take_piece(e, c, f, s);
		f->done = f->x.status == 1;
	} else if (f->posted) {
		rc = f->x.status;
		f->done = rc == 1;
	} else {
		f->x.buf = destination(e, c, s);
		f->posted = 1;
		rc = f->link->transport->recv(f->link->lane, &f->x);
		f->done = rc == 1;
	}
	if (f->done)
		f->link->turn++;
	return rc;
}

static int start_message(struct cx_exec *e, struct cx_cursor *c, struct cx_flight *f,
			 const struct cx_step *s)
{
	size_t width = s->op == CX_OP_SEND ? width_in(e, s->a_buf) : message_width(e, s);
	int rc;

	f->link = link_to(e, c, s->peer);
	f->x = (struct cx_xfer){ .len = step_elems(e, c, s) * width, .tag = e->call.tag };
	if (f->x.len == 0 && c->lane != CX_P2P_LANE) { /* both ends know, and leave it out */
		f->done = 1;
		return 0;
	}
	if (s->op != CX_OP_SEND) {
		f->ticket = f->link->next++;
		f->posted = 0;
		return receive(e, c, f);
	}
	f->x.buf = (void *)operand(e, c, s, s->a_buf, s->src);
	rc = f->link->transport->send(f->link->lane, &f->x);
	f->done = rc == 1;
	return rc;
}

/* Starts the cursor's next step; it may be done at once. Negative: an error. */
static int start_step(struct cx_exec *e, struct cx_cursor *c)
{
	struct cx_flight *f = &c->flight[c->next % CX_WINDOW];
	const struct cx_step *s = &e->call.plan->steps[c->next];

	f->step = c->next++;
	f->done = 0;
	if (s->peer >= 0)
		return start_message(e, c, f, s);
	local_step(e, c, s);
	f->done = 1;
	return 0;
}

/* Looks after a step under way. 1: it moved; 0: it did not; or an error. */
static int tend_step(struct cx_exec *e, struct cx_cursor *c, struct cx_flight *f)
{
	if (step_of(e, f)->op != CX_OP_SEND)
		return receive(e, c, f);
	f->done = f->x.status == 1;
	return f->x.status;
}

/* ---- segments ---- */

static void begin_segment(struct cx_exec *e, struct cx_cursor *c, size_t segment)
{
	const struct cx_call *call = &e->call;
	uint32_t nblocks = call->plan->nblocks;

	if (segment >= e->segments) {
		c->segment = SIZE_MAX;
		return;
	}
	c->segment = segment;
	c->offset = segment * e->segment_elems;
	c->len = cx_min(e->segment_elems, call->count - c->offset);
	if (call->fixed_blocks)
		c->chunk = c->len;
	else
		c->chunk = cx_round_up((c->len + nblocks - 1) / nblocks, BLOCK_ALIGN);
	c->done = c->next = 0;
}

static void retire(struct cx_cursor *c)
{
	while (c->done < c->next && c->flight[c->done % CX_WINDOW].done)
		c->done++;
}

/* 0, with *moved counted up; or an error. */
static int advance(struct cx_exec *e, struct cx_cursor *c, int *moved)
{
	const struct cx_plan *p = e->call.plan;
	int rc;

	for (uint32_t i = c->done; i < c->next; i++) {
		struct cx_flight *f = &c->flight[i % CX_WINDOW];

		if (f->done)
			continue;
		rc = tend_step(e, c, f);
		if (rc < 0)
			return rc;
		*moved += rc;
	}
	retire(c);
	while (c->next < p->nsteps && c->next - c->done < CX_WINDOW &&
	       p->after[c->next] < (int32_t)c->done) {
		rc = start_step(e, c);
		if (rc < 0)
			return rc;
		++*moved;
		retire(c);
	}
	return 0;
}

/* Most communicators have one medium; they pay for one comparison here. */
static int progress(struct cx_exec *e)
{
	int more, moved = e->media[0].transport->progress(e->media[0].port);

	if (e->nmedia == 1 || moved < 0)
		return moved;
	more = e->media[1].transport->progress(e->media[1].port);
	return more < 0 ? more : moved | more;
}

int cx_exec_poll(struct cx_exec *e, int *moved)
{
	int rc, live = 0;

	*moved = 0;
	for (int i = 0; i < CX_CURSORS; i++) {
		struct cx_cursor *c = &e->cursor[i];

		while (c->segment != SIZE_MAX) {
			rc = advance(e, c, moved);
			if (rc < 0)
				return rc;
			if (c->done < e->call.plan->nsteps) {
				live++;
				break;
			}
			begin_segment(e, c, c->segment + CX_CURSORS);
		}
	}
	if (!live)
		return 1;
	rc = progress(e);
	*moved += rc > 0;
	return rc < 0 ? rc : 0;
}

/* ---- calls ---- */

static int reduces(const struct cx_plan *p)
{
	enum cx_coll coll = p->algo->coll;

	return coll == CX_ALLREDUCE || coll == CX_REDUCE_SCATTER || coll == CX_REDUCE;
}

/* Cuts the call into segments. Plans with steps of several blocks want a
 * caller's layout whole: a piece of each block would not be one range. */
static void cut(struct cx_exec *e)
{
	const struct cx_call *call = &e->call;
	const struct cx_plan *p = call->plan;
	size_t block = cx_max(cx_round_up(call->block_bytes / e->elem, BLOCK_ALIGN), BLOCK_ALIGN);

	if (!call->fixed_blocks)
		e->segment_elems = block * p->nblocks;
	else
		e->segment_elems = p->algo->flags & CX_ALGO_MULTI_BLOCK ? call->count : block;
	if (e->segment_elems >= call->count)
		e->segment_elems = call->count;
	e->segments = call->count ? (call->count + e->segment_elems - 1) / e->segment_elems
				  : call->lane == CX_P2P_LANE; /* an empty message is one */
}

static int reserve_tmp(struct cx_exec *e)
{
	const struct cx_plan *p = e->call.plan;
	size_t chunk = e->segment_elems, need;
	char *grown;

	if (!e->call.fixed_blocks)
		chunk = cx_round_up((chunk + p->nblocks - 1) / p->nblocks, BLOCK_ALIGN);
	if (__builtin_mul_overflow(chunk * e->acc, (size_t)p->nslots, &need))
		return cx_fail(COLLX_ERR_NOMEM, "scratch of %u slots of %zu elements", p->nslots,
			       chunk);
	need = cx_round_up(need, 4096);
	if (need > e->tmp_bytes) {
		grown = cx_alloc(CX_CURSORS, need);
		if (!grown)
			return COLLX_ERR_NOMEM;
		cx_free(e->tmp);
		e->tmp = grown;
		e->tmp_bytes = need;
	}
	for (int i = 0; i < CX_CURSORS; i++)
		e->cursor[i].tmp = e->tmp + (size_t)i * e->tmp_bytes;
	return 0;
}

int cx_exec_start(struct cx_exec *e, const struct cx_call *call)
{
	int rc;

	e->call = *call;
	e->elem = collx_type_size(call->type);
	e->acc = reduces(call->plan) ? collx_type_size(cx_acc_type(call->type, call->op)) : e->elem;
	cut(e);
	rc = reserve_tmp(e);
	if (rc) {
		e->segments = 0; /* none of it has begun */
		return rc;
	}
	for (int i = 0; i < CX_CURSORS; i++) {
		e->cursor[i].lane = call->lane + i;
		begin_segment(e, &e->cursor[i], (size_t)i);
	}
	return 0;
}

void cx_exec_describe(const struct cx_exec *e, char *text, size_t len)
{
	static const char *const doing[] = { "sending to", "receiving from",
					     "receiving from" };

	snprintf(text, len, "finished");
	for (int i = 0; i < CX_CURSORS; i++) {
		const struct cx_cursor *c = &e->cursor[i];
		const struct cx_flight *f = &c->flight[c->done % CX_WINDOW];
		const struct cx_step *s;

		if (c->segment == SIZE_MAX || c->done == c->next)
			continue;
		s = step_of(e, f);
		snprintf(text, len,
			 "%s rank %d (step %u of %u, segment %zu of %zu, %zu of %zu bytes)",
			 doing[s->op], (s->peer + e->call.root) % e->ranks, f->step + 1,
			 e->call.plan->nsteps, c->segment + 1, e->segments, f->x.done, f->x.len);
		return;
	}
}

static bool only_sends(const struct cx_plan *p)
{
	for (uint32_t i = 0; i < p->nsteps; i++)
		if (p->steps[i].op == CX_OP_RECV || p->steps[i].op == CX_OP_RECV_REDUCE)
			return false;
	return true;
}

/* Step i of the cursor's segment, which was started: did bytes move that count? */
static bool step_has_moved(const struct cx_exec *e, const struct cx_cursor *c, uint32_t i,
			   bool sends)
{
	const struct cx_step *s = &e->call.plan->steps[i];
	const struct cx_flight *f = &c->flight[i % CX_WINDOW];
	bool empty = c->lane != CX_P2P_LANE && !step_elems(e, c, s);

	if (s->peer < 0 || empty || (s->op == CX_OP_SEND) != sends)
		return false;
	/* A failed one may tell in `done` how much came that does not fit. */
	return i < c->done || f->done || (f->x.status >= 0 && f->x.done);
}

bool cx_exec_has_moved(const struct cx_exec *e, uint64_t number, int lane)
{
	bool sends;

	if (!e->segments || e->call.number != number || e->call.lane != lane)
		return false;
	sends = only_sends(e->call.plan);
	for (int i = 0; i < CX_CURSORS; i++) {
		const struct cx_cursor *c = &e->cursor[i];

		/* One of its segments is finished. */
		if (c->segment == SIZE_MAX ? (size_t)i < e->segments : c->segment >= CX_CURSORS)
			return true;
		for (uint32_t k = 0; c->segment != SIZE_MAX && k < c->next; k++)
			if (step_has_moved(e, c, k, sends))
				return true;
	}
	return false;
}

/* ---- sleeping ---- */

void cx_exec_arm(struct cx_exec *e)
{
	for (int i = 0; i < e->nmedia; i++)
		e->media[i].transport->arm(e->media[i].port);
}

/* Waits for all media at once, and disarms them. */
static void sleep_on_all(struct cx_exec *e, uint64_t timeout_ns)
{
	struct timespec t = { .tv_sec = (time_t)(timeout_ns / 1000000000u),
			      .tv_nsec = (long)(timeout_ns % 1000000000u) };
	unsigned all = 0, n;
	int ready = timeout_ns == 0;

	for (int i = 0; i < e->nmedia && !ready; i++) {
		n = 0;
		ready = e->media[i].transport->wait_fds(e->media[i].port, e->fds + all, &n);
		all += n;
	}
	if (!ready)
		ppoll(e->fds, all, &t, NULL);
	for (int i = 0; i < e->nmedia; i++)
		e->media[i].transport->sleep(e->media[i].port, 0);
}

void cx_exec_sleep(struct cx_exec *e, uint64_t timeout_ns)
{
	if (e->nmedia == 1)
		e->media[0].transport->sleep(e->media[0].port, timeout_ns);
	else
		sleep_on_all(e, timeout_ns);
}

/* ---- life ---- */

static int open_lanes(struct cx_exec *e, const struct cx_way *ways)
{
	int rc = 0;

	for (int i = 0; !rc && i < e->ranks * CX_LANES; i++) {
		const struct cx_medium *m = &e->media[ways[i].medium];

		if (i / CX_LANES == e->rank)
			continue;
		e->links[i].transport = m->transport;
		rc = m->transport->lane_open(m->port, i / CX_LANES, &ways[i].addr, i % CX_LANES,
					     &e->links[i].lane);
	}
	return rc;
}

int cx_exec_init(struct cx_exec *e, int rank, int ranks, const struct cx_medium *media, int nmedia,
		 const struct cx_way *ways, const struct cx_kernels *kernels)
{
	size_t lanes = (size_t)ranks * CX_LANES;
	int rc = COLLX_ERR_NOMEM;

	assert(nmedia <= CX_MEDIA);
	*e = (struct cx_exec){ .rank = rank, .ranks = ranks, .nmedia = nmedia,
			       .kernels = kernels };
	memcpy(e->media, media, (size_t)nmedia * sizeof(*media));
	for (int i = 0; i < CX_CURSORS; i++)
		e->cursor[i].segment = SIZE_MAX;
	e->links = cx_alloc(lanes, sizeof(*e->links));
	if (e->links && nmedia > 1)
		e->fds = cx_alloc(lanes + CX_MEDIA, sizeof(*e->fds));
	if (e->links && (e->fds || nmedia == 1))
		rc = open_lanes(e, ways);
	if (rc)
		cx_exec_fini(e);
	return rc;
}

void cx_exec_fence(struct cx_exec *e)
{
	for (int i = 0; e->links && i < e->ranks * CX_LANES; i++) {
		if (e->links[i].lane)
			e->links[i].transport->lane_close(e->links[i].lane);
		e->links[i] = (struct cx_link){ 0 };
	}
}

void cx_exec_fini(struct cx_exec *e)
{
	cx_exec_fence(e);
	cx_free(e->links);
	cx_free(e->fds);
	cx_free(e->tmp);
	e->links = NULL;
	e->fds = NULL;
	e->tmp = NULL;
}
