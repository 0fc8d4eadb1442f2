/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * send and recv: a plan of one step, written on the spot, on a lane of every pair that
 * carries nothing else. So messages of a pair and direction are received in the order
 * of sending, whatever collectives run in between.
 *
 * The tag of a message has its type in the clear, so that a receiver can name what
 * came in the place of what it waits for.
 */
#include <stdio.h>

#include "base/base.h"
#include "comm.h"

enum { TYPE_MASK = 15, LATE_MS = 500 };
_Static_assert((int)COLLX_TYPE_COUNT <= (int)TYPE_MASK, "a type fits into a tag");

static const struct cx_algo one_step[] = {
	{ .coll = CX_SEND, .name = "send" },
	{ .coll = CX_RECV, .name = "recv" },
};

int cx_p2p_init(struct cx_p2p *p, int ranks)
{
	p->after = -1;
	p->plan = (struct cx_plan){ .nblocks = 1, .nsteps = 1, .room = 1, .steps = &p->step,
				    .after = &p->after };
	p->messages = cx_alloc((size_t)ranks, sizeof(*p->messages));
	return p->messages ? 0 : COLLX_ERR_NOMEM;
}

void cx_p2p_fini(struct cx_p2p *p)
{
	cx_free(p->messages);
	p->messages = NULL;
}

static uint32_t tag_of(uint64_t number, size_t count, unsigned type)
{
	uint64_t h = (number * 0xbf58476d1ce4e5b9u ^ count) * 0x9e3779b97f4a7c15u;

	return ((uint32_t)(h >> 32) & ~(uint32_t)TYPE_MASK) | type;
}

static int has_left(const struct collx_comm *c, int peer)
{
	return cx_guard_has_left(c->guard, peer);
}

static int fail_left(const struct collx_comm *c, const char *what, int peer, uint64_t number)
{
	return cx_fail(COLLX_ERR_PEER_LEFT, "rank %d left the communicator before rank %d's %s "
		       "number %llu, which needs it", peer, c->rank, what,
		       (unsigned long long)number);
}

int cx_p2p_prepare(struct collx_comm *c, const struct cx_request *r, struct cx_call *call)
{
	struct cx_p2p *p = &c->p2p;
	int recv = r->coll == CX_RECV;
	uint64_t number = ++p->messages[r->root][recv];

	if (!recv && has_left(c, r->root))
		return fail_left(c, "send", r->root, number);
	p->stood = 0;
	p->step = (struct cx_step){ .op = recv ? CX_OP_RECV : CX_OP_SEND,
				    .dst_buf = recv ? CX_OUT : CX_NONE,
				    .a_buf = recv ? CX_NONE : CX_IN, .peer = r->root, .nblk = 1 };
	p->plan.algo = &one_step[recv];
	*call = (struct cx_call){ .plan = &p->plan, .in = r->in, .out = r->out,
				  .count = r->count, .block_bytes = SIZE_MAX / 2, .type = r->type,
				  .lane = CX_P2P_LANE, .number = number,
				  .tag = tag_of(number, r->count, r->type) };
	return 0;
}

/* ---- when the other end is gone ---- */

static const struct cx_xfer *message(const struct collx_comm *c)
{
	return &c->exec.cursor[0].flight[0].x;
}

/*
 * In shared memory nothing is on its way: what a rank sent before it left is there when
 * the word of its leaving comes, and moves at the next poll or never. A connection ends
 * by itself behind what was sent over it.
 */
int cx_p2p_watch(struct collx_comm *c)
{
	const struct cx_call *call = &c->exec.call;
	int peer = c->p2p.step.peer;
	size_t stands = message(c)->done + 1;

	if (call->plan != &c->p2p.plan || !has_left(c, peer) ||
	    c->exec.links[peer * CX_LANES + CX_P2P_LANE].transport->wants_connection)
		return 0;
	if (c->p2p.stood == stands)
		return fail_left(c, cx_coll_name(call->plan->algo->coll), peer, call->number);
	c->p2p.stood = stands;
	return 0;
}

/* The connection ended: its rank left, and the word of that may still be under way, or
 * it died. */
static int left_or_dead(struct collx_comm *c, const struct cx_request *r, int code)
{
	uint64_t until = cx_now_ns() + LATE_MS * (uint64_t)1000000;
	char text[CX_FAULT_TEXT_MAX];

	snprintf(text, sizeof(text), "%s", cx_error_text());
	while (!cx_guard_verdict(c->guard) && !has_left(c, r->root) && cx_now_ns() < until)
		cx_sys->poll(NULL, 0, 1);
	if (has_left(c, r->root))
		return fail_left(c, cx_coll_name(r->coll), r->root, c->exec.call.number);
	return cx_fail(code, "%s", text);
}

static int name_both(const struct collx_comm *c, const struct cx_request *r)
{
	const struct cx_xfer *x = message(c);
	unsigned type = x->tag & TYPE_MASK;
	size_t size = collx_type_size((collx_type)type), count = size ? x->done / size : 0;
	char came[64] = "what is no message of this number";

	if (size && x->tag == tag_of(c->exec.call.number, count, type))
		snprintf(came, sizeof(came), "%zu %s", count, cx_type_name(type));
	return cx_fail(COLLX_ERR_MISMATCH, "rank %d received %zu %s from rank %d, message %llu: "
		       "rank %d sent %s", c->rank, r->count, cx_type_name(r->type), r->root,
		       (unsigned long long)c->exec.call.number, r->root, came);
}

int cx_p2p_explain(struct collx_comm *c, const struct cx_request *r, int code)
{
	if (message(c)->status != code) /* told by others */
		return code;
	if (code == COLLX_ERR_MISMATCH)
		return name_both(c, r);
	if (code == COLLX_ERR_PEER_DEAD || code == COLLX_ERR_LINK)
		return left_or_dead(c, r, code);
	return code;
}
