/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Control frames of a peer that is in: cut anywhere, with descriptors or without, of any
 * kind and length. What cx_wire_receive gives is what was sent, up to the first frame that
 * cannot be; and creation ends in time, with an error and a line, whatever comes.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "src/base/base.h"
#include "src/boot.h"
#include "src/wire.h"
#include "tests/fuzz_peer.h"

enum { HEAD = sizeof(struct cx_frame_head), RECORD = 24, RANKS = 4, SCRIPT_MAX = 3000 };

/* ---- what a peer says ---- */

static const uint16_t kinds[] = {
	CX_FRAME_RECORD, CX_FRAME_FAULT, CX_FRAME_WELCOME, CX_FRAME_SEATED, CX_FRAME_GONE,
	CX_FRAME_SEATS, CX_FRAME_OVERDUE, CX_FRAME_LEAVE, CX_FRAME_REPORT, CX_FRAME_VERDICT,
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static size_t usual_len(unsigned kind)
{
	switch (kind) {
	case CX_FRAME_RECORD: return RECORD;
	case CX_FRAME_SEATS: return RANKS * sizeof(int32_t);
	case CX_FRAME_LEAVE: return 16;
	case CX_FRAME_FAULT: return 5;
	default: return 0;
	}
}

static void body_take(struct fuzz_input *in, unsigned kind, int odd, uint8_t *body, size_t len)
{
	memset(body, 'x', len);
	for (int32_t r = 0; kind == CX_FRAME_SEATS && (size_t)r < len / sizeof(r); r++) {
		int32_t leader = odd ? (int32_t)fuzz_below(in, RANKS + 2) - 1 : r;

		memcpy(body + (size_t)r * sizeof(r), &leader, sizeof(leader));
	}
	if (kind == CX_FRAME_RECORD)
		fuzz_bytes(in, body, cx_min(len, odd ? len : 2));
	else if (odd && kind != CX_FRAME_SEATS && kind != CX_FRAME_FAULT)
		fuzz_bytes(in, body, len); /* an error that is told without a line has none */
}

/* A frame that is one, mostly: kind, rank, and what is odd about it. */
static size_t frame_take(struct fuzz_input *in, uint8_t *at, size_t room)
{
	struct cx_frame_head head = { .kind = kinds[fuzz_below(in, KINDS)] };
	unsigned odd;
	size_t len;

	head.arg = (int)fuzz_below(in, RANKS);
	odd = fuzz_byte(in);
	head.len = (uint16_t)usual_len(head.kind);
	if (head.kind == CX_FRAME_FAULT)
		head.arg = odd & 32 ? -1000 : COLLX_ERR_PEER_DEAD;
	if (odd & 1)
		head.arg = (int8_t)fuzz_byte(in);
	if (odd & 2)
		head.len = (uint16_t)(1 + fuzz_byte(in) * 3);
	if (odd & 4)
		head.kind = fuzz_byte(in);
	if (odd & 8)
		head.len = (uint16_t)(head.len << 8);
	if (room < HEAD)
		return 0;
	if (head.kind == CX_FRAME_FAULT && !head.len)
		head.len = 1;
	len = cx_min(head.len, room - HEAD);
	body_take(in, head.kind, odd & 16, at + HEAD, len);
	if (len == head.len && len <= CX_FRAME_MAX)
		head = cx_frame_head((enum cx_frame_kind)head.kind, head.arg, at + HEAD, len);
	memcpy(at, &head, HEAD);
	return HEAD + len;
}

static size_t script_take(struct fuzz_input *in, uint8_t *script, unsigned frames)
{
	size_t n = 0;

	for (unsigned i = 0; i < frames; i++)
		n += frame_take(in, script + n, SCRIPT_MAX - n);
	return n;
}

static void manners_take(struct fuzz_input *in, struct fuzz_conn *c)
{
	unsigned m = fuzz_byte(in);

	c->chunk = m & 1 ? 1 + fuzz_below(in, 60) : 0;
	c->pause_ns = m & 2 ? 2000000 : 0;
	c->end = (enum fuzz_end)(m / 4 % 3);
	c->passes = m & 32 ? (int)(m >> 6) : 0;
}

/* ---- the wire ---- */

/* Compares one received frame with the bytes that were sent; where the next begins. */
static size_t check_frame(const struct cx_wire *w, const uint8_t *sent, size_t at, size_t len)
{
	struct cx_frame_head head;

	FUZZ_MUST(len - at >= HEAD, "a frame after the last");
	memcpy(&head, sent + at, HEAD);
	FUZZ_MUST(w->head.kind == head.kind && w->head.len == head.len && w->head.arg == head.arg,
		  "another head");
	FUZZ_MUST(head.len <= CX_FRAME_MAX && len - at - HEAD >= head.len, "a frame too long");
	FUZZ_MUST(!memcmp(w->body, sent + at + HEAD, head.len), "another body");
	return at + HEAD + head.len;
}

/* Why a receive failed. */
static void check_failure(int rc, const uint8_t *sent, size_t at, size_t len)
{
	struct cx_frame_head head;

	if (rc != COLLX_ERR_CORRUPT)
		return;
	FUZZ_MUST(len - at >= HEAD, "corrupt before its head was there");
	memcpy(&head, sent + at, HEAD);
	FUZZ_MUST(head.len > CX_FRAME_MAX, "a good frame was called corrupt");
}

static void try_wire(struct fuzz_input *in)
{
	static uint8_t sent[SCRIPT_MAX];
	struct fuzz_conn *c = fuzz_conn_come();
	size_t len, at = 0;
	struct cx_wire w;
	int rc = 0;

	manners_take(in, c);
	len = script_take(in, sent, 1 + fuzz_below(in, 6));
	fuzz_conn_feed(c, sent, len);
	cx_wire_init(&w, cx_sys->accept(cx_sys->socket(0, 0)));
	for (int tries = 0; tries < 20000 && rc >= 0 && at < len; tries++) {
		rc = cx_wire_receive(&w);
		if (rc == 1) {
			at = check_frame(&w, sent, at, len);
			cx_wire_next(&w);
		} else if (rc == 0 && cx_wire_wait(w.fd, POLLIN, cx_now_ns() + 1000000000) == 0) {
			break; /* silent in the middle of a frame */
		}
	}
	check_failure(rc, sent, at, len);
	FUZZ_MUST(rc >= 0 || cx_error_text()[0], "%d without a line", rc);
	cx_wire_close(&w);
	cx_sys->close(FUZZ_FD_FIRST + 1); /* the listener */
}

/* ---- creation ---- */

static uint8_t scripts[RANKS][SCRIPT_MAX];
static size_t script_len[RANKS];

static enum fuzz_end ends[RANKS];

static void go_on(struct fuzz_conn *c)
{
	fuzz_conn_feed(c, scripts[c->tag], script_len[c->tag]);
	c->end = ends[c->tag];
}

static int said(int peer, int who, const uint8_t *got)
{
	const uint8_t *s = scripts[peer];
	struct cx_frame_head head;

	for (size_t at = 0; at + HEAD <= script_len[peer]; at += HEAD + head.len) {
		memcpy(&head, s + at, HEAD);
		if (head.kind == CX_FRAME_RECORD && head.arg == who && head.len == RECORD &&
		    at + HEAD + RECORD <= script_len[peer] && !memcmp(s + at + HEAD, got, RECORD))
			return 1;
	}
	return 0;
}

/* A record that came is one that somebody gave, whole. */
static void check_record(int who, const uint8_t *got)
{
	int found = 0;

	for (int peer = 0; peer < RANKS; peer++)
		found |= said(peer, who, got);
	FUZZ_MUST(found, "nobody gave this record of rank %d", who);
}

static struct fuzz_input *host_input;

static int host(struct fuzz_conn *c)
{
	static const struct fuzz_flips none;

	manners_take(host_input, c);
	ends[0] = c->end;
	c->end = FUZZ_SILENT;
	fuzz_host(c, &fuzz_secret, &none, &none);
	return 0;
}

static int exchange(struct cx_boot *b, int rank, int with_fds)
{
	uint8_t mine[RECORD] = { 1 }, all[RANKS * RECORD];
	uint64_t start = cx_now_ns();
	int fds[RANKS], rc;

	cx_error_clear();
	rc = cx_boot_exchange(b, mine, sizeof(mine), -1, all, with_fds ? fds : NULL,
			      start + 1000000000);
	FUZZ_MUST(rc == 0 || (rc < 0 && cx_error_text()[0]), "%d without a line", rc);
	FUZZ_MUST(cx_now_ns() - start < 5000000000u, "an exchange of %g s",
		  (double)(cx_now_ns() - start) * 1e-9);
	for (int r = 0; !rc && with_fds && r < RANKS; r++)
		if (fds[r] >= 0)
			cx_sys->close(fds[r]);
	for (int r = 0; !rc && r < RANKS; r++)
		if (r != rank)
			check_record(r, all + r * RECORD);
	return rc;
}

/* The other ranks, and who says so but is another. */
static void ranks_come(struct fuzz_input *in, unsigned odd, uint32_t to)
{
	static const struct fuzz_flips none;

	for (int r = 1; r < RANKS; r++) {
		struct cx_claim claim = { (uint32_t)r, RANKS, CX_CONN_CONTROL, 0, to };
		struct fuzz_conn *c = fuzz_conn_come();

		if (odd == (unsigned)r) {
			claim.rank = fuzz_below(in, RANKS + 1);
			claim.ranks = fuzz_below(in, 6);
			claim.kind = fuzz_below(in, 3);
		}
		manners_take(in, c);
		c->tag = r;
		ends[r] = c->end;
		c->end = FUZZ_SILENT; /* until it has proved itself */
		fuzz_prove(c, &fuzz_secret, &claim, &none);
	}
}

/* As rank 0, whom three others reach, or as rank 1 at a rank 0. */
static void try_creation(struct fuzz_input *in)
{
	unsigned how = fuzz_byte(in);
	struct cx_meeting m = { .secret = fuzz_secret, .rank = how & 1, .ranks = RANKS,
				.deadline_ns = cx_now_ns() + 3000000000 };
	struct cx_boot *b;
	int rc;

	for (int r = 0; r < RANKS; r++)
		script_len[r] = script_take(in, scripts[r], fuzz_below(in, 12));
	if (!m.rank)
		ranks_come(in, how >> 4, how & 8 ? CX_TO_ANY : 0); /* the local door first */
	host_input = in;
	fuzz_on_connect = host;
	fuzz_after_handshake = go_on;
	FUZZ_MUST(!cx_place_parse(&m.place, "tcp:127.0.0.1:7"), "no place");
	if (how & 8)
		FUZZ_MUST(!cx_place_parse(&m.local, "unix:/tmp/collx-f/x"), "no place");
	cx_error_clear();
	rc = cx_boot_open(&b, &m);
	FUZZ_MUST(rc == 0 || (rc < 0 && cx_error_text()[0]), "%d without a line", rc);
	if (rc)
		return;
	if (!exchange(b, m.rank, how & 2))
		exchange(b, m.rank, how & 4);
	cx_boot_close(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, data + size };

	fuzz_world_begin();
	fuzz_secrets_make();
	fuzz_after_handshake = NULL;
	if (fuzz_byte(&in) & 1)
		try_wire(&in);
	else
		try_creation(&in);
	fuzz_world_end();
	return 0;
}
