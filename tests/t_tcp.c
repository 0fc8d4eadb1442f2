/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Transport tcp: the conformance suite over each kind of socket, and what only
 * it promises. In most tests one end is a lane and the other a bare socket, the
 * hand, which says anything at any pace.
 */
#include <criterion/criterion.h>
#include <endian.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/transport_conformance.h"

enum { RANKS = 4, ME = 1, PEER = 3, LANES = 3, LANE = 2, NONCE = 0x7777, HEADER = 16 };
static const uint64_t second = 1000000000u;

/* ---- the suite ---- */

static void conformance(int family, bool all)
{
	const struct conformance_case *c;

	conformance_family = family;
	for (c = conformance_cases; c->name; c++) {
		const char *why;

		if (!all && (!strcmp(c->name, "wrap") || !strncmp(c->name, "flows over", 10)))
			continue;
		why = conformance_run(c, "tcp");
		cr_assert(!why, "family %d, %s: %s", family, c->name, why);
	}
}

Test(tcp, conformance, .timeout = 300)
{
	conformance(AF_INET, true);
}

Test(tcp, conformance_ipv6, .timeout = 300)
{
	int fd[2];

	if (stream_pair(AF_INET6, fd))
		cr_skip_test("no ::1 here");
	close(fd[0]);
	close(fd[1]);
	conformance(AF_INET6, false);
}

Test(tcp, conformance_unix, .timeout = 300)
{
	conformance(AF_UNIX, false);
}

/* ---- a lane and the hand ---- */

struct hand {
	const struct cx_transport *t;
	struct cx_port *port;
	struct cx_lane *lane;
	int fd;
};

static int port_open(struct cx_port **port, int rank)
{
	struct cx_port_attr a = { .rank = rank, .ranks = RANKS, .lanes = LANES, .chunk = 1 << 20,
				  .numa_node = -1, .nonce = NONCE };

	return cx_transport_find("tcp")->open(port, &a);
}

/* The port's end takes fd[0]. */
static int hand_open_with(struct hand *h, int fd[2])
{
	struct cx_addr addr = { .fd = fd[0] };
	int err;

	h->t = cx_transport_find("tcp");
	h->fd = fd[1];
	err = port_open(&h->port, ME);
	if (!err)
		err = h->t->lane_open(h->port, PEER, &addr, LANE, &h->lane);
	close(fd[0]);
	return err;
}

static void hand_open(struct hand *h, int family)
{
	int fd[2];

	cr_assert_eq(stream_pair(family, fd), 0);
	cr_assert_eq(hand_open_with(h, fd), 0, "%s", cx_error_text());
}

static void hand_close(struct hand *h)
{
	h->t->lane_close(h->lane);
	h->t->close(h->port);
	if (h->fd >= 0)
		close(h->fd);
}

static void hand_say(struct hand *h, const void *bytes, size_t len)
{
	cr_assert_eq(send(h->fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* The header of message `count` from a rank, as doc and peers on other machines have it. */
static void header(unsigned char *out, int from, uint64_t count, uint32_t tag, uint64_t len)
{
	uint64_t hash = (NONCE ^ (uint64_t)from << 32 ^ LANE) * 0x9e3779b97f4a7c15u;
	uint64_t h = (hash + count) * 0xbf58476d1ce4e5b9u;
	uint32_t word[2];

	h = (h ^ h >> 29 ^ len) * 0x94d049bb133111ebu;
	h = (h ^ h >> 32 ^ tag) * 0x9e3779b97f4a7c15u;
	word[0] = htole32(tag);
	word[1] = htole32((uint32_t)(h >> 32));
	len = htole64(len);
	memcpy(out, word, 8);
	memcpy(out + 8, &len, 8);
}

/* Polls for up to five seconds. */
static int hand_wait(struct hand *h, struct cx_xfer *x)
{
	uint64_t end = cx_now_ns() + 5 * second;

	while (!x->status && cx_now_ns() < end)
		h->t->progress(h->port);
	return x->status;
}

Test(tcp, wire)
{
	unsigned char got[3 * HEADER + 64], want[HEADER];
	struct cx_xfer x[2] = { { .buf = "hello", .len = 5, .tag = 0x01020304 }, { .tag = 9 } };
	struct hand h;

	hand_open(&h, AF_INET);
	cr_assert(h.t->send(h.lane, &x[0]) == 1 && h.t->send(h.lane, &x[1]) == 1);
	cr_assert_eq(recv(h.fd, got, 2 * HEADER + 5, MSG_WAITALL), 2 * HEADER + 5);
	header(want, ME, 0, 0x01020304, 5);
	cr_assert_eq(want[0], 4);
	cr_assert_arr_eq(got, want, HEADER);
	cr_assert_arr_eq(got + HEADER, "hello", 5);
	header(want, ME, 1, 9, 0);
	cr_assert_arr_eq(got + HEADER + 5, want, HEADER);
	cr_assert_eq(recv(h.fd, got, 1, MSG_DONTWAIT), -1);
	hand_close(&h);
}

/* A lane closes with bytes unread; what it sent before must arrive all the same. */
Test(tcp, closing_over_unread_bytes, .timeout = 60)
{
	enum { LEN = 150000, ALL = LEN + HEADER };
	unsigned char *out = malloc(LEN), *in = malloc(ALL);
	struct cx_xfer x = { .buf = out, .len = LEN, .tag = 4 };
	struct hand h;
	ssize_t n, got = 0;

	cr_assert(out && in);
	fill(out, LEN, 8);
	hand_open(&h, AF_INET);
	hand_say(&h, "nobody will read this", 21);
	h.t->send(h.lane, &x);
	cr_assert_eq(hand_wait(&h, &x), 1);
	h.t->lane_close(h.lane);
	h.t->close(h.port);
	while (got < ALL && (n = recv(h.fd, in + got, (size_t)(ALL - got), 0)) > 0)
		got += n;
	cr_assert_eq(got, ALL, "%zd bytes came", got);
	cr_assert_arr_eq(in + HEADER, out, LEN);
	cr_assert_eq(recv(h.fd, in, 1, 0), 0, "the end is an error");
	close(h.fd);
	free(out);
	free(in);
}

/* Three messages, byte by byte: posted, taken in pieces, empty. */
static void dribble(int family)
{
	unsigned char bytes[3 * HEADER + 300 + 200], in[300 + GUARD];
	struct cx_xfer rx = { .buf = in, .len = 300, .tag = 1 }, px = { .len = 200, .tag = 2 };
	struct cx_xfer ex = { .tag = 3 };
	const void *data;
	struct hand h;
	size_t i;
	long n;

	hand_open(&h, family);
	header(bytes, PEER, 0, 1, 300);
	fill(bytes + HEADER, 300, 5);
	header(bytes + HEADER + 300, PEER, 1, 2, 200);
	fill(bytes + 2 * HEADER + 300, 200, 6);
	header(bytes + 2 * HEADER + 500, PEER, 2, 3, 0);
	clear(in, 300);
	cr_assert_eq(h.t->recv(h.lane, &rx), 0);
	for (i = 0; i < sizeof(bytes); i++) {
		hand_say(&h, bytes + i, 1);
		if (!rx.status) {
			h.t->progress(h.port);
			cr_assert(i < HEADER + 300 && rx.done <= cx_max(i + 1, HEADER) - HEADER);
			continue;
		}
		n = px.status ? 0 : h.t->peek(h.lane, &px, &data);
		cr_assert(n >= 0 && (n % 64 == 0 || px.done + (size_t)n == 200));
		cr_assert(!n || !memcmp(data, bytes + 2 * HEADER + 300 + px.done, (size_t)n));
		if (n)
			h.t->release(h.lane, &px, (size_t)n);
	}
	for (i = 0; i < 100000 && !px.status; i++) {
		n = h.t->peek(h.lane, &px, &data);
		if (n)
			h.t->release(h.lane, &px, (size_t)n);
	}
	cr_assert(rx.status == 1 && holds(in, 300, 5) && px.status == 1);
	cr_assert(h.t->recv(h.lane, &ex) >= 0 && hand_wait(&h, &ex) == 1);
	hand_close(&h);
}

Test(tcp, dribble, .timeout = 60)
{
	dribble(AF_INET);
	dribble(AF_UNIX);
}

/* Long pieces begin on whole lines, and no piece is longer than the chunk. */
Test(tcp, aligned_pieces, .timeout = 60)
{
	enum { LEN = 100000, COUNT = 20 };
	static unsigned char bytes[COUNT][HEADER + LEN];
	const struct cx_transport *t = cx_transport_find("tcp");
	struct cx_port_attr a = { .ranks = 2, .lanes = 1, .chunk = 4096 };
	size_t sent = 0, odd = 0, k;
	struct world w = { .t = t };
	const void *data;
	int i, fd[2];

	cr_assert_eq(stream_pair(AF_INET, fd), 0);
	for (i = 0; i < 2; i++) {
		struct cx_addr addr = { .fd = fd[i] };

		a.rank = i;
		cr_assert_eq(t->open(&w.port[i], &a), 0);
		cr_assert_eq(t->lane_open(w.port[i], !i, &addr, 0, &w.lane[i][0]), 0);
		close(fd[i]);
	}
	for (k = 0; k < COUNT; k++) {
		struct cx_xfer tx = { .buf = bytes[k], .len = LEN - k, .tag = 7 }, rx = tx;

		fill(bytes[k], LEN, (uint32_t)k);
		cr_assert_geq(t->send(w.lane[0][0], &tx), 0);
		while (!rx.status) {
			long n = t->peek(w.lane[1][0], &rx, &data);

			cr_assert(n >= 0 && n <= 4096, "%s", cx_error_text());
			t->progress(w.port[0]);
			if (!n)
				continue;
			odd += (uintptr_t)data % 64 != 0;
			cr_assert(!memcmp(data, bytes[k] + rx.done, (size_t)n));
			sent += (size_t)n;
			t->release(w.lane[1][0], &rx, (size_t)n);
		}
		cr_assert_eq(world_wait(&w, &tx), 1);
	}
	cr_assert(sent && !odd, "%zu pieces not on a line", odd);
	for (i = 0; i < 2; i++) {
		t->lane_close(w.lane[i][0]);
		t->close(w.port[i]);
	}
}

/* ---- errors ---- */

/* The hand says some bytes; what x, expecting 100 bytes tagged 5, makes of them. */
static void hears(const void *bytes, size_t len, bool peek, int expected, const char *text)
{
	unsigned char in[100 + GUARD];
	struct cx_xfer x = { .buf = in, .len = 100, .tag = 5 }, next = x;
	const void *data;
	struct hand h;
	long n = 0;

	hand_open(&h, AF_INET);
	clear(in, 100);
	hand_say(&h, bytes, len);
	shutdown(h.fd, SHUT_WR);
	if (peek) {
		while ((n = h.t->peek(h.lane, &x, &data)) == 0)
			;
	} else {
		n = h.t->recv(h.lane, &x);
		n = n ? n : hand_wait(&h, &x);
	}
	cr_assert_eq(n, expected, "%ld: %s", n, cx_error_text());
	cr_assert(strstr(cx_error_text(), text), "%s", cx_error_text());
	cr_assert(peek || expected == COLLX_ERR_PEER_DEAD || in[0] == 0xee);
	cr_assert_eq(h.t->recv(h.lane, &next), expected);
	cr_assert_eq(h.t->peek(h.lane, &next, &data), expected);
	cr_assert_eq(h.t->send(h.lane, &next), expected);
	cr_assert_eq(h.t->progress(h.port), 0);
	hand_close(&h);
}

Test(tcp, bad_headers, .timeout = 60)
{
	unsigned char b[HEADER + 100] = { 0 };
	int peek;

	for (peek = 0; peek < 2; peek++) {
		hears(b, 0, peek, COLLX_ERR_PEER_DEAD, "rank 3 closed its connection");
		header(b, PEER, 0, 5, 100);
		hears(b, HEADER - 1, peek, COLLX_ERR_PEER_DEAD, "rank 3 closed");
		hears(b, HEADER + 50, peek, COLLX_ERR_PEER_DEAD, "rank 3 closed");
		header(b, PEER, 0, 6, 100);
		hears(b, HEADER + 100, peek, COLLX_ERR_MISMATCH,
		      "rank 3 lane 2 sent 100 bytes tagged 00000006, expected 100 tagged 00000005");
		header(b, PEER, 0, 5, 99);
		hears(b, HEADER, peek, COLLX_ERR_MISMATCH, "sent 99 bytes");
		header(b, PEER, 0, 5, (uint64_t)1 << 63);
		hears(b, HEADER, peek, COLLX_ERR_CORRUPT, "rank 3 lane 2");
		header(b, PEER, 1, 5, 100); /* a message is missing */
		hears(b, HEADER + 100, peek, COLLX_ERR_CORRUPT, "message 0");
		header(b, ME, 0, 5, 100); /* a mirror */
		hears(b, HEADER + 100, peek, COLLX_ERR_CORRUPT, "message 0");
		memset(b, 0, sizeof(b));
		hears(b, sizeof(b), peek, COLLX_ERR_CORRUPT, "damaged header");
	}
}

Test(tcp, bad_sockets)
{
	int pair[2], next, fds = count_proc("fd");
	const struct cx_transport *t = cx_transport_find("tcp");
	struct cx_addr addr = { .fd = -1 };
	struct cx_xfer x = { .buf = pair, .len = 4 };
	struct cx_lane *lane;
	struct cx_port *port;
	struct hand h;

	cr_assert_eq(port_open(&port, ME), 0);
	cr_assert_eq(t->lane_open(port, PEER, &addr, 0, &lane), COLLX_ERR_SYSTEM);
	addr.fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	cr_assert_eq(t->lane_open(port, PEER, &addr, 0, &lane), COLLX_ERR_SYSTEM);
	close(addr.fd);
	addr.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(t->lane_open(port, PEER, &addr, 0, &lane), COLLX_ERR_SYSTEM);
	close(addr.fd);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
	addr.fd = pair[0];
	cr_assert_eq(t->lane_open(port, PEER, &addr, 0, &lane), COLLX_ERR_INVALID);
	close(pair[0]);
	close(pair[1]);
	t->close(port);
	cr_assert_eq(count_proc("fd"), fds);
	/* What the system says of a connection goes into the line. */
	cr_assert_eq(stream_pair(AF_INET, pair), 0);
	next = dup(pair[0]);
	close(next);
	cr_assert_eq(hand_open_with(&h, pair), 0);
	addr.fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(addr.fd, next);
	close(addr.fd);
	cr_assert_eq(h.t->send(h.lane, &x), COLLX_ERR_LINK);
	cr_assert(strstr(cx_error_text(), "rank 3 lane 2") && strstr(cx_error_text(), "socket"));
	hand_close(&h);
}

/* It may end while the ranks still open lanes: who died, and why, comes another way. */
Test(tcp, a_connection_that_was_reset_is_an_error_once_it_is_used)
{
	struct linger now = { .l_onoff = 1 };
	int pair[2], buf = 0;
	struct cx_xfer x = { .buf = &buf, .len = sizeof(buf) };
	struct hand h;

	cr_assert_eq(stream_pair(AF_INET, pair), 0);
	cr_assert_eq(setsockopt(pair[1], SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	close(pair[1]);
	pair[1] = -1;
	cr_assert_eq(hand_open_with(&h, pair), 0, "%s", cx_error_text());
	cr_assert_eq(h.t->send(h.lane, &x), COLLX_ERR_PEER_DEAD, "%s", cx_error_text());
	hand_close(&h);
}

Test(tcp, socket_options)
{
	struct hand h;
	int pair[2], next, on = 0, timeout = -1;
	socklen_t len = sizeof(int);
	char name[16] = "";

	cr_assert_eq(stream_pair(AF_INET, pair), 0);
	next = dup(pair[0]);
	close(next);
	cr_assert_eq(hand_open_with(&h, pair), 0);
	cr_assert_eq(fcntl(next, F_GETFD), FD_CLOEXEC);
	getsockopt(next, IPPROTO_TCP, TCP_NODELAY, &on, &len);
	getsockopt(next, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, &len);
	cr_assert(on);
	cr_assert_eq(timeout, 0, "it would end the connection to a peer that is merely late");
	len = sizeof(name);
	getsockopt(next, IPPROTO_TCP, TCP_CONGESTION, name, &len);
	cr_assert(!strcmp(name, "cubic") || !strcmp(name, "reno"), "%s", name);
	hand_close(&h);
}

/* ---- garbage ---- */

struct dice {
	uint32_t state;
};

static uint32_t roll(struct dice *d)
{
	d->state = d->state * 1664525 + 1013904223;
	return d->state >> 8;
}

/* A stream that a peer might send: nonsense, or nearly right. Its length; *right: the
 * first message is the expected one. */
static size_t nonsense(struct dice *d, unsigned char *b, size_t room, uint32_t tag, size_t len,
		       bool *right)
{
	size_t n = roll(d) % room, i;
	unsigned char want[HEADER];

	for (i = 0; i < n; i++)
		b[i] = (unsigned char)roll(d);
	if (roll(d) % 4 && n >= HEADER) {
		header(b, PEER, 0, roll(d) % 4 ? tag : tag + 1, roll(d) % 4 ? len : roll(d));
		if (roll(d) % 4 == 0)
			b[roll(d) % HEADER] ^= (unsigned char)(1u << roll(d) % 8);
	}
	header(want, PEER, 0, tag, len);
	*right = n >= HEADER && !memcmp(b, want, HEADER);
	return n;
}

/* Takes the message as it comes; 1, 0 or the error. */
static int swallow(struct hand *h, struct cx_xfer *x, bool peek)
{
	const void *data;
	int i;
	long n = 0;

	if (!peek) {
		n = h->t->recv(h->lane, x);
		for (i = 0; i < 10 && !x->status; i++)
			h->t->progress(h->port);
		return x->status;
	}
	for (i = 0; i < 10 && !x->status && n >= 0; i++) {
		n = h->t->peek(h->lane, x, &data);
		if (n <= 0)
			continue;
		memcpy((char *)x->buf + x->done, data, (size_t)n);
		h->t->release(h->lane, x, (size_t)n);
	}
	return n < 0 ? (int)n : x->status;
}

Test(tcp, garbage, .timeout = 120)
{
	enum { ROOM = 40000 };
	static unsigned char bytes[ROOM], in[ROOM + GUARD];
	struct dice d = { 20261122 };
	int i, got, seen[32] = { 0 };

	for (i = 0; i < 10000; i++) {
		size_t room = i % 16 ? 600 : ROOM, len = 1 + roll(&d) % room, n, k;
		struct cx_xfer x = { .buf = in, .len = len, .tag = roll(&d) };
		struct hand h;
		bool right;

		n = nonsense(&d, bytes, room, x.tag, len, &right);
		clear(in, len);
		hand_open(&h, AF_UNIX);
		hand_say(&h, bytes, n);
		shutdown(h.fd, SHUT_WR);
		got = swallow(&h, &x, i & 1);
		cr_assert(got == (right && n - HEADER >= len) || got < 0, "%d: %d", i, got);
		cr_assert(got != 1 || !memcmp(in, bytes + HEADER, len));
		for (k = right ? len : 0; k < len + GUARD; k++)
			cr_assert_eq(in[k], 0xee, "%d: byte %zu was written", i, k);
		cr_assert(got == 1 || got == COLLX_ERR_CORRUPT || got == COLLX_ERR_MISMATCH ||
			  got == COLLX_ERR_PEER_DEAD, "%d: %d %s", i, got, cx_error_text());
		seen[got == 1 ? 0 : -got]++;
		hand_close(&h);
	}
	cr_assert(seen[0] > 500 && seen[-COLLX_ERR_CORRUPT] > 500 &&
		  seen[-COLLX_ERR_MISMATCH] > 500 && seen[-COLLX_ERR_PEER_DEAD] > 500);
}

/* ---- short writes ---- */

static void tiny(int family)
{
	static unsigned char out[300000], in[300000 + GUARD];
	struct world w = { .wired = true, .t = cx_transport_find("tcp") };
	int i, small = 1, fd[2];
	struct dice d = { 5 };

	cr_assert_eq(stream_pair(family, fd), 0);
	for (i = 0; i < 2; i++) {
		struct cx_addr addr = { .fd = fd[i] };

		setsockopt(fd[i], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
		cr_assert_eq(port_open(&w.port[i], i), 0);
		cr_assert_eq(w.t->lane_open(w.port[i], !i, &addr, 0, &w.lane[i][0]), 0);
		close(fd[i]);
	}
	for (i = 0; i < 80; i++) {
		size_t len = roll(&d) % (i % 8 ? 6000 : 300000);
		struct cx_xfer tx = { .buf = out, .len = len, .tag = 1 }, t2 = tx;
		struct cx_xfer rx = { .buf = in, .len = len, .tag = 1 }, r2 = rx;

		fill(out, len, (uint32_t)i);
		clear(in, len);
		cr_assert(w.t->send(w.lane[i & 1][0], &tx) >= 0);
		cr_assert(w.t->send(w.lane[i & 1][0], &t2) >= 0);
		cr_assert(w.t->recv(w.lane[!(i & 1)][0], &rx) >= 0);
		cr_assert(world_wait(&w, &rx) == 1 && holds(in, len, (uint32_t)i));
		clear(in, len);
		cr_assert(w.t->recv(w.lane[!(i & 1)][0], &r2) >= 0);
		cr_assert(world_wait(&w, &r2) == 1 && holds(in, len, (uint32_t)i));
		cr_assert(world_wait(&w, &tx) == 1 && world_wait(&w, &t2) == 1);
	}
	for (i = 0; i < 2; i++) {
		w.t->lane_close(w.lane[i][0]);
		w.t->close(w.port[i]);
	}
}

Test(tcp, tiny_buffers, .timeout = 120)
{
	tiny(AF_INET);
	tiny(AF_UNIX);
}

/* ---- sleeping ---- */

static uint64_t slept(struct hand *h, uint64_t timeout_ns)
{
	uint64_t start = cx_now_ns();

	h->t->sleep(h->port, timeout_ns);
	return cx_now_ns() - start;
}

Test(tcp, sleep, .timeout = 30)
{
	unsigned char b[2 * HEADER + 8] = { 0 };
	struct cx_xfer rx = { .buf = b, .len = 4, .tag = 1 }, px = { .len = 4, .tag = 1 };
	struct cx_port_stats s;
	const void *data;
	struct hand h;

	hand_open(&h, AF_INET);
	header(b, PEER, 0, 1, 4);
	header(b + HEADER + 4, PEER, 1, 1, 4);
	h.t->arm(h.port);
	cr_assert_lt(slept(&h, 0), second);
	hand_say(&h, b, sizeof(b));
	h.t->arm(h.port);
	cr_assert_geq(slept(&h, second / 50), second / 60, "nobody waits for what came");
	cr_assert_eq(h.t->recv(h.lane, &rx), 1);
	h.t->arm(h.port);
	cr_assert_eq(h.t->peek(h.lane, &px, &data), 4);
	h.t->release(h.lane, &px, 4);
	px = (struct cx_xfer){ .len = 4, .tag = 2 };
	h.t->arm(h.port);
	cr_assert_eq(h.t->peek(h.lane, &px, &data), 0);
	cr_assert_geq(slept(&h, second / 50), second / 60, "nothing came");
	header(b, PEER, 2, 2, 4);
	hand_say(&h, b, HEADER + 4);
	h.t->arm(h.port);
	cr_assert_eq(h.t->peek(h.lane, &px, &data), 4);
	h.t->release(h.lane, &px, 4);
	h.t->stats(h.port, &s);
	cr_assert(s.sleeps == 2 && s.wakes == 0 && s.received_messages == 3);
	hand_close(&h);
}

/* A message that came into staging with the one before it, after its peek. */
Test(tcp, sleep_on_staged, .timeout = 30)
{
	unsigned char b[2 * HEADER + 8] = { 0 };
	struct cx_xfer rx = { .buf = b, .len = 4, .tag = 1 }, px = { .len = 4, .tag = 1 };
	const void *data;
	struct hand h;

	hand_open(&h, AF_INET);
	cr_assert_eq(h.t->recv(h.lane, &rx), 0);
	h.t->arm(h.port);
	cr_assert_eq(h.t->peek(h.lane, &px, &data), 0);
	header(b, PEER, 0, 1, 4);
	header(b + HEADER + 4, PEER, 1, 1, 4);
	hand_say(&h, b, sizeof(b));
	while (!h.t->progress(h.port))
		;
	cr_assert_eq(rx.status, 1);
	cr_assert_lt(slept(&h, 10 * second), 5 * second);
	cr_assert_eq(h.t->peek(h.lane, &px, &data), 4);
	hand_close(&h);
}

Test(tcp, sleep_on_room, .timeout = 60)
{
	static unsigned char big[64 << 20];
	struct cx_xfer x = { .buf = big, .len = sizeof(big), .tag = 1 };
	size_t gone = 1;
	struct hand h;

	hand_open(&h, AF_INET);
	cr_assert_eq(h.t->send(h.lane, &x), 0);
	while (gone != x.done) {
		gone = x.done;
		usleep(2000);
		h.t->progress(h.port);
	}
	cr_assert(gone < sizeof(big));
	h.t->arm(h.port);
	cr_assert_geq(slept(&h, second / 50), second / 60);
	while (recv(h.fd, big, sizeof(big), MSG_DONTWAIT) > 0)
		;
	h.t->arm(h.port);
	cr_assert_lt(slept(&h, 10 * second), 5 * second);
	cr_assert_eq(h.t->progress(h.port), 1);
	cr_assert_gt(x.done, gone);
	hand_close(&h);
}

/* ---- two processes ---- */

/* Waits with few polls and then sleep. 0: done; 1: error; 2: a wake-up got lost. */
static int doze(struct hand *e, struct cx_xfer *x, uint32_t spins)
{
	uint64_t start;

	while (!x->status) {
		if (e->t->progress(e->port) || spins-- > 0)
			continue;
		spins = 3;
		e->t->arm(e->port);
		start = cx_now_ns();
		e->t->sleep(e->port, e->t->progress(e->port) ? 0 : 10 * second);
		if (cx_now_ns() - start > 9 * second)
			return 2;
	}
	return x->status != 1;
}

static int stream(struct hand *e, int rank)
{
	static unsigned char out[200000], in[200000 + GUARD];
	struct dice d = { 99 };
	int i, bad = 0;

	for (i = 0; i < 4000 && !bad; i++) {
		size_t len = roll(&d) % (i % 16 ? 300 : 200000);
		uint32_t spins = roll(&d) % 64;
		bool both = roll(&d) & 1;
		struct cx_xfer tx = { .buf = out, .len = len, .tag = (uint32_t)i }, rx = tx;

		rx.buf = in;
		fill(out, len, (uint32_t)(2 * i + rank));
		clear(in, len);
		if ((both || rank == 0) && e->t->send(e->lane, &tx) < 0)
			return 4;
		if ((both || rank == 1) && e->t->recv(e->lane, &rx) < 0)
			return 5;
		if (both || rank == 1)
			bad = doze(e, &rx, spins);
		if (!bad && (both || rank == 0))
			bad = doze(e, &tx, 0);
		if (!bad && (both || rank == 1) && !holds(in, len, (uint32_t)(2 * i + !rank)))
			bad = 3;
	}
	return bad;
}

static int wait_forever(struct hand *e, int rank)
{
	(void)e, (void)rank;
	return pause();
}

/* Rank `rank` in a process of its own. */
static pid_t start(int rank, int fd[2], int (*body)(struct hand *, int))
{
	struct hand e = { .t = cx_transport_find("tcp"), .fd = -1 };
	struct cx_addr addr = { .fd = fd[rank] };
	pid_t parent = getpid(), pid = fork();
	int code;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || port_open(&e.port, rank) ||
	    e.t->lane_open(e.port, !rank, &addr, 0, &e.lane))
		_exit(9);
	close(fd[0]);
	close(fd[1]);
	code = body(&e, rank);
	e.t->lane_close(e.lane);
	e.t->close(e.port);
	_exit(code);
}

Test(tcp, two_processes, .timeout = 200)
{
	static const int families[] = { AF_INET, AF_UNIX };
	int k, r, fd[2], status;
	pid_t pid[2];

	for (k = 0; k < 2; k++) {
		cr_assert_eq(stream_pair(families[k], fd), 0);
		for (r = 0; r < 2; r++)
			pid[r] = start(r, fd, stream);
		close(fd[0]);
		close(fd[1]);
		for (r = 0; r < 2; r++) {
			waitpid(pid[r], &status, 0);
			cr_assert_eq(status, 0, "rank %d: %#x", r, (unsigned)status);
		}
	}
}

/* Rank 1 is killed; how long until rank 0's transfer fails. */
static uint64_t killed(bool sending)
{
	static unsigned char buf[64 << 20];
	struct cx_xfer x = { .buf = buf, .len = sizeof(buf), .tag = 1 };
	struct hand e = { .t = cx_transport_find("tcp"), .fd = -1 };
	struct cx_addr addr;
	uint64_t before;
	int fd[2];
	pid_t pid;

	cr_assert_eq(stream_pair(AF_INET, fd), 0);
	pid = start(1, fd, wait_forever);
	addr.fd = fd[0];
	cr_assert_eq(port_open(&e.port, 0), 0);
	cr_assert_eq(e.t->lane_open(e.port, 1, &addr, 0, &e.lane), 0);
	close(fd[0]);
	close(fd[1]);
	cr_assert_geq((sending ? e.t->send : e.t->recv)(e.lane, &x), 0);
	usleep(100000);
	before = cx_now_ns();
	kill(pid, SIGKILL);
	cr_assert_eq(doze(&e, &x, 0), 1);
	before = cx_now_ns() - before;
	cr_assert_eq(x.status, COLLX_ERR_PEER_DEAD, "%s", cx_error_text());
	cr_assert(strstr(cx_error_text(), "rank 1 closed its connection"));
	e.t->lane_close(e.lane);
	e.t->close(e.port);
	waitpid(pid, NULL, 0);
	return before;
}

/* The quickest of three: the machine may be busy. */
Test(tcp, killed, .timeout = 60)
{
	int i, sending;

	for (sending = 0; sending < 2; sending++) {
		uint64_t best = second;

		for (i = 0; i < 3; i++)
			best = cx_min(best, killed(sending));
		cr_assert_lt(best, second / 10);
	}
}
