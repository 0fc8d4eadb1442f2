/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames of authenticated peers at a ward: as rank 0, as the leader of a host and as a
 * rank below one, while the caller calls, waits, reports and leaves. There is one verdict,
 * with a line, and it stays; a farewell takes 2 s at most, whoever does not listen.
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "src/base/base.h"
#include "src/ward.h"
#include "tests/fuzz_world.h"

enum { RANKS = 5, STEPS_MAX = 300 };

/* Hosts {0, 1, 2} and {3, 4}. */
static const int leader[RANKS] = { 0, 0, 0, 3, 3 };

static struct {
	struct cx_ward *ward;
	struct cx_calls calls;
	struct fuzz_conn *conn[4]; /* of its wires */
	int conns;
	int code; /* the verdict, once there is one */
	char text[CX_FAULT_TEXT_MAX];
	bool posted;
} at;

static void connect_wire(struct cx_wire *w)
{
	struct fuzz_conn *c = fuzz_conn_come();
	int listener = cx_sys->socket(0, 0);

	cx_wire_init(w, cx_sys->accept(listener));
	cx_sys->close(listener);
	at.conn[at.conns++] = c;
}

/* With the other leader, in a ring of the two. */
static void connect_beside(struct cx_tree *t)
{
	struct cx_wire w;

	t->beside = cx_alloc(RANKS, sizeof(*t->beside));
	FUZZ_MUST(t->beside, "no memory");
	connect_wire(&w);
	for (int r = 0; r < RANKS; r++)
		t->beside[r] = r != t->rank && leader[r] == r ? w.fd : -1;
}

static void ward_open(int rank, bool ringed)
{
	struct cx_tree t = { .rank = rank, .ranks = RANKS, .above = rank ? leader[rank] : -1 };

	memset(&at, 0, sizeof(at));
	if (rank == leader[rank] && rank)
		t.above = 0;
	cx_wire_init(&t.up, -1);
	t.leader = cx_alloc(RANKS, sizeof(*t.leader));
	t.down = cx_alloc(RANKS, sizeof(*t.down));
	FUZZ_MUST(t.leader && t.down, "no memory");
	memcpy(t.leader, leader, sizeof(leader));
	for (int r = 0; r < RANKS; r++) {
		cx_wire_init(&t.down[r], -1);
		if (r != rank && (leader[r] == rank || (!rank && leader[r] == r)))
			connect_wire(&t.down[r]);
	}
	if (rank)
		connect_wire(&t.up);
	if (ringed && rank == leader[rank])
		connect_beside(&t);
	cx_calls_init(&at.calls);
	FUZZ_MUST(!cx_ward_create(&at.ward, &t, &at.calls, NULL), "no ward: %s", cx_error_text());
}

/* ---- frames ---- */

static const uint16_t kinds[] = {
	CX_FRAME_LEAVE, CX_FRAME_REPORT, CX_FRAME_SIGNS, CX_FRAME_VERDICT, CX_FRAME_ASK,
	CX_FRAME_FAULT, CX_FRAME_RECORD, 9, CX_FRAME_STATUS, CX_FRAME_LATE, CX_FRAME_SILENT,
	CX_FRAME_BLAMED, CX_FRAME_LOST, CX_FRAME_BEAT, CX_FRAME_CONVENE, CX_FRAME_PART,
	CX_FRAME_ABORT,
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static uint64_t number_take(struct fuzz_input *in)
{
	uint64_t n = 0;

	if (fuzz_byte(in) & 1)
		return fuzz_byte(in) % 8;
	fuzz_bytes(in, &n, sizeof(n));
	return n;
}

static size_t account_take(struct fuzz_input *in, uint8_t *body)
{
	struct cx_account a = { .state = number_take(in), .still_ms = number_take(in) };

	a.answers = fuzz_below(in, 3);
	a.signs = fuzz_byte(in) % (CX_SIGNS + 2);
	for (unsigned i = 0; i < a.signs && i < CX_SIGNS; i++) {
		a.sign[i].seq = (a.state + 1) / 2 - a.signs + 1 + i;
		a.sign[i].count = number_take(in);
		a.sign[i].what = cx_sign_what(fuzz_below(in, 8), fuzz_below(in, 12),
					      fuzz_below(in, 8), (int)fuzz_below(in, RANKS + 1));
	}
	memcpy(body, &a, sizeof(a));
	return a.signs > CX_SIGNS ? sizeof(a) : cx_account_len(&a);
}

static void where_take(struct fuzz_input *in, struct cx_where *w)
{
	w->seq = number_take(in);
	w->call = w->seq ? COLLX_CALL_BROADCAST : COLLX_CALL_NONE;
	w->phase = w->seq ? COLLX_PHASE_WAITING : COLLX_PHASE_NONE;
	if (w->seq == 7) {
		w->call = fuzz_byte(in);
		w->phase = fuzz_byte(in);
	}
}

static size_t report_take(struct fuzz_input *in, uint8_t *body)
{
	struct cx_report_body b = { .about = (int)fuzz_below(in, RANKS + 2) - 1,
				    .code = 1 - fuzz_byte(in) % 28 };

	b.hearsay = fuzz_below(in, 3);
	where_take(in, &b.where);
	b.age_us = number_take(in);
	memcpy(body, &b, sizeof(b));
	memset(body + offsetof(struct cx_report_body, text), 'x', 40);
	return offsetof(struct cx_report_body, text) + 1 + fuzz_below(in, 40);
}

static size_t late_take(struct fuzz_input *in, uint8_t *body)
{
	struct cx_late late = { .rank = (int)fuzz_below(in, RANKS + 2) - 1,
				.waited_ms = (uint32_t)number_take(in) };

	late.sign.seq = number_take(in);
	late.sign.what = cx_sign_what(fuzz_below(in, 8), fuzz_below(in, 12), fuzz_below(in, 8),
				      (int)fuzz_below(in, RANKS + 1));
	memcpy(body, &late, sizeof(late));
	return sizeof(late);
}

static size_t body_take(struct fuzz_input *in, struct cx_frame_head *head, uint8_t *body)
{
	static const int codes[] = { COLLX_ERR_PEER_DEAD, COLLX_ERR_TIMEOUT, COLLX_ERR_MISMATCH,
				     COLLX_ERR_CORRUPT, -1000, 0, 1 };
	uint64_t seq = number_take(in);

	switch (head->kind) {
	case CX_FRAME_LEAVE:
		memset(body, 0, 2 * sizeof(seq));
		memcpy(body, &seq, sizeof(seq));
		return 2 * sizeof(seq);
	case CX_FRAME_REPORT: return report_take(in, body);
	case CX_FRAME_STATUS:
	case CX_FRAME_SIGNS: return account_take(in, body);
	case CX_FRAME_LATE: return late_take(in, body);
	case CX_FRAME_BLAMED:
		memset(body, 0, sizeof(struct cx_set));
		body[0] = fuzz_byte(in);
		return sizeof(struct cx_set);
	case CX_FRAME_PART:
		head->arg = fuzz_below(in, 2) ? head->arg : 0;
		return 0;
	case CX_FRAME_ASK:
	case CX_FRAME_SILENT:
	case CX_FRAME_LOST:
	case CX_FRAME_BEAT:
	case CX_FRAME_ABORT:
	case CX_FRAME_CONVENE: return 0;
	default:
		head->arg = codes[fuzz_below(in, 7)];
		memset(body, 'y', CX_FRAME_MAX);
		return 1 + seq % CX_FRAME_MAX;
	}
}

static void feed(struct fuzz_input *in, struct fuzz_conn *c)
{
	uint8_t frame[sizeof(struct cx_frame_head) + CX_FRAME_MAX];
	struct cx_frame_head head = { .kind = kinds[fuzz_below(in, KINDS)] };
	unsigned odd;

	head.arg = (int)fuzz_below(in, RANKS + 2) - 1;
	head.len = (uint16_t)body_take(in, &head, frame + sizeof(head));
	odd = fuzz_byte(in);
	memset(frame + sizeof(head) + head.len, 'z', CX_FRAME_MAX - head.len);
	if (odd == 1)
		head.len ^= fuzz_byte(in);
	if (odd == 2)
		head.len = (uint16_t)(CX_FRAME_MAX - fuzz_below(in, 64));
	if (head.len <= CX_FRAME_MAX)
		head = cx_frame_head((enum cx_frame_kind)head.kind, head.arg,
				     frame + sizeof(head), head.len);
	memcpy(frame, &head, sizeof(head));
	fuzz_conn_feed(c, frame, cx_min(sizeof(frame), sizeof(head) + head.len));
}

/* ---- the ward at work ---- */

static void step(void)
{
	int code;

	cx_ward_step(at.ward, NULL, cx_now_ns());
	code = cx_guard_verdict(at.ward);
	FUZZ_MUST(!at.code || (code == at.code && !strcmp(at.text, at.ward->cause.text)),
		  "verdict %d '%s' became %d '%s'", at.code, at.text, code, at.ward->cause.text);
	FUZZ_MUST(code <= 0, "a verdict of %d", code);
	if (code && !at.code) {
		at.code = code;
		snprintf(at.text, sizeof(at.text), "%s", at.ward->cause.text);
	}
}

static void call(bool ends)
{
	uint64_t state = cx_calls_state(&at.calls);

	if (ends && state % 2)
		cx_calls_end(&at.calls, (state + 1) / 2);
	else if (!ends && state % 2 == 0 && cx_calls_may(&at.calls, state / 2 + 1))
		cx_calls_begin(&at.calls, state / 2 + 1, 8, cx_sign_what(0, 0, 0, 0));
}

static void post(struct fuzz_input *in)
{
	static const int codes[] = { COLLX_ERR_TIMEOUT, COLLX_ERR_MISMATCH, COLLX_ERR_PEER_DEAD };
	int code = codes[fuzz_below(in, 3)], about = (int)fuzz_below(in, RANKS + 1) - 1;

	struct cx_report r = { .code = code, .about = about, .text = "a report of the caller",
			       .where = cx_calls_where(&at.calls),
			       .fault_ns = (int64_t)cx_now_ns() };

	if (!at.posted) {
		r.hearsay = fuzz_byte(in) & 1;
		cx_ward_post(at.ward, &r);
	}
	at.posted = true;
}

static void event(struct fuzz_input *in)
{
	unsigned what = fuzz_byte(in);
	struct fuzz_conn *c = at.conn[(what >> 4) % (unsigned)at.conns];

	switch (what & 15) {
	case 0: cx_sys->poll(NULL, 0, fuzz_byte(in) * 4); break;
	case 1: call(false); break;
	case 2: call(true); break;
	case 3: atomic_store(&at.ward->nudged, true); break;
	case 4: post(in); break;
	case 5: c->end = (enum fuzz_end)fuzz_below(in, 3); break;
	case 6: c->full ^= 1; break;
	case 7: c->chunk = fuzz_below(in, 20); break;
	case 8: c->passes = 1; break;
	default: feed(in, c);
	}
}

/* Its caller is free to go; those below may need the ward itself on. */
static bool lets_go(void)
{
	return cx_ward_has_gone(at.ward) || at.ward->calls == &at.ward->own;
}

/* It lets go within 2 s, and the guard's own delays. */
static void leave(bool farewell)
{
	uint64_t start = cx_now_ns();

	atomic_store(&at.ward->leaving, farewell ? 1 : 2);
	while (!lets_go() && cx_now_ns() - start < 5000000000u) {
		step();
		cx_sys->poll(NULL, 0, 10);
	}
	FUZZ_MUST(lets_go(), "a ward that stays");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int ranks[] = { 0, 3, 4, 1 };
	struct fuzz_input in = { data, data + size };
	unsigned how = fuzz_byte(&in);

	fuzz_world_begin();
	ward_open(ranks[how & 3], how & 16);
	for (int i = 0; i < STEPS_MAX && fuzz_left(&in); i++) {
		event(&in);
		step();
	}
	if (how & 4)
		leave(how & 8);
	cx_ward_destroy(at.ward);
	fuzz_world_end();
	return 0;
}
