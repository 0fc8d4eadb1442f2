/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The transport contract as cases. Every case opens its own world of two ports,
 * so that a failed one spoils no other; whatever is written into a buffer is
 * compared with what its seed says, and so are GUARD bytes behind it.
 */
#include <dirent.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/transport_conformance.h"

enum { CHUNK = 1024, TAG = 0x1234abcd, IDLE_STEPS = 1000 };

static char why[400];
static jmp_buf leave;

void conformance_failed(const char *func, int line, const char *what)
{
	snprintf(why, sizeof(why), "%s:%d: %s (last error: %s)", func, line, what, cx_error_text());
	longjmp(leave, 1);
}

const char *conformance_run(const struct conformance_case *c, const char *transport)
{
	if (setjmp(leave))
		return why;
	c->run(transport);
	return NULL;
}

/* ---- two ports ---- */

static int open_port(struct world *w, int rank, const struct world_attr *attr)
{
	struct cx_port_attr a = { .rank = rank, .ranks = 2, .lanes = WORLD_LANES,
				  .chunk = attr->chunk ? attr->chunk : CHUNK, .numa_node = 0,
				  .nonce = attr->nonce ? attr->nonce : 1,
				  .pollable = attr->pollable, .sim = w->sim };

	return w->t->open(&w->port[rank], &a);
}

int conformance_family = AF_INET;

int stream_pair(int family, int fd[2])
{
	union {
		struct sockaddr any;
		struct sockaddr_in6 room;
	} a = { .any = { .sa_family = (sa_family_t)family } };
	socklen_t len = sizeof(a);
	int l, bad;

	if (family == AF_UNIX)
		return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd);
	if (family == AF_INET)
		((struct sockaddr_in *)&a.any)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		a.room.sin6_addr = in6addr_loopback;
	l = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	fd[0] = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bad = bind(l, &a.any, len) || getsockname(l, &a.any, &len) || listen(l, 1) ||
	      connect(fd[0], &a.any, len);
	fd[1] = bad ? -1 : accept4(l, NULL, NULL, SOCK_CLOEXEC);
	close(l);
	if (fd[1] < 0)
		close(fd[0]);
	return fd[1] < 0 ? -1 : 0;
}

/* Lane i at both ends, over a new connection where the transport has no addresses. */
static int open_lane(struct world *w, int i)
{
	int rank, err = 0, fd[2];
	struct cx_addr addr[2];

	for (rank = 0; rank < 2 && !err; rank++)
		err = w->t->addr(w->port[!rank], &addr[rank]);
	w->wired = addr[0].len == 0;
	if (!err && w->wired)
		err = stream_pair(conformance_family, fd);
	if (err)
		return err;
	for (rank = 0; rank < 2 && !err; rank++) {
		if (w->wired)
			addr[rank].fd = fd[rank];
		err = w->t->lane_open(w->port[rank], !rank, &addr[rank], i, &w->lane[rank][i]);
	}
	if (w->wired) {
		close(fd[0]);
		close(fd[1]);
	}
	return err;
}

int world_open(struct world *w, const char *transport, const struct world_attr *attr)
{
	static const struct world_attr plain;
	struct cx_sim_attr sim;
	int rank, i, err = 0;

	if (!attr)
		attr = &plain;
	memset(w, 0, sizeof(*w));
	w->t = cx_transport_find(transport);
	if (!strcmp(transport, "sim")) {
		sim = attr->sim;
		sim.max_delay_ns = sim.max_delay_ns ? sim.max_delay_ns : 1000;
		sim.window = sim.window ? sim.window : 8;
		w->sim = cx_sim_create(&sim, 2);
		if (!w->sim)
			return COLLX_ERR_NOMEM;
	}
	for (rank = 0; rank < 2 && !err; rank++)
		err = open_port(w, rank, attr);
	for (i = 0; i < WORLD_LANES && !err; i++)
		err = open_lane(w, i);
	if (err)
		world_close(w);
	return err;
}

void world_close(struct world *w)
{
	int rank, i;

	for (rank = 0; rank < 2; rank++) {
		for (i = 0; i < WORLD_LANES; i++)
			if (w->lane[rank][i])
				w->t->lane_close(w->lane[rank][i]);
		if (w->port[rank])
			w->t->close(w->port[rank]);
	}
	if (w->sim)
		cx_sim_destroy(w->sim);
}

int world_step(struct world *w)
{
	int moved = w->t->progress(w->port[0]) | w->t->progress(w->port[1]);

	if (!moved && w->sim)
		moved = cx_sim_advance(w->sim);
	if (!moved && w->wired)
		usleep(10); /* the kernel's thread may have the rest of it */
	return moved;
}

int world_wait(struct world *w, struct cx_xfer *x)
{
	int idle = 0;

	while (!x->status && idle < IDLE_STEPS)
		idle = world_step(w) ? 0 : idle + 1;
	return x->status;
}

/* ---- bytes ---- */

static unsigned char byte_at(size_t i, uint32_t seed)
{
	return (unsigned char)((i * 2654435761u + seed * 40503u) >> 7 ^ i);
}

void fill(unsigned char *p, size_t len, uint32_t seed)
{
	size_t i;

	for (i = 0; i < len; i++)
		p[i] = byte_at(i, seed);
}

void clear(unsigned char *p, size_t len)
{
	memset(p, 0xee, len + GUARD);
}

static int untouched(const unsigned char *p, size_t len)
{
	while (len && *p == 0xee)
		p++, len--;
	return len == 0;
}

int holds(const unsigned char *p, size_t len, uint32_t seed)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (p[i] != byte_at(i, seed))
			return 0;
	return untouched(p + len, GUARD);
}

int count_proc(const char *name)
{
	char path[64];
	FILE *f;
	DIR *d;
	int n = 0, c;

	snprintf(path, sizeof(path), "/proc/self/%s", name);
	d = opendir(path);
	if (d) {
		while (readdir(d))
			n++;
		closedir(d);
		return n;
	}
	f = fopen(path, "r");
	while (f && (c = fgetc(f)) != EOF)
		n += c == '\n';
	if (f)
		fclose(f);
	return n;
}

/* ---- one message ---- */

static const size_t sizes[] = { 0, 1, 7, 8, 55, 56, 57, 63, 64, 65, 127, 128, 129, CHUNK - 1, CHUNK,
				CHUNK + 1, 8 * CHUNK - 1, 8 * CHUNK, 8 * CHUNK + 1, 16 * CHUNK - 1,
				16 * CHUNK, 16 * CHUNK + 1, 100 * CHUNK + 13 };
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]), BIGGEST = 100 * CHUNK + 13 };

static unsigned char src[2][BIGGEST + GUARD], dst[2][BIGGEST + GUARD];

static void exchange(const char *transport, const struct world_attr *attr, int recv_first)
{
	struct world w;
	size_t i;

	NEED(world_open(&w, transport, attr) == 0);
	for (i = 0; i < 2 * SIZES; i++) {
		size_t len = sizes[i % SIZES];
		int from = (int)(i / SIZES), s, r;
		struct cx_lane *out = w.lane[from][1], *in = w.lane[!from][1];
		struct cx_xfer tx = { .buf = src[0], .len = len, .tag = TAG };
		struct cx_xfer rx = { .buf = dst[0], .len = len, .tag = TAG };

		fill(src[0], len, (uint32_t)i);
		clear(dst[0], len);
		r = recv_first ? w.t->recv(in, &rx) : 0;
		s = w.t->send(out, &tx);
		r = recv_first ? r : w.t->recv(in, &rx);
		NEED(s == tx.status && r >= 0 && (r == 0 || rx.status == 1));
		NEED(world_wait(&w, &rx) == 1 && world_wait(&w, &tx) == 1);
		NEED(tx.done == len && rx.done == len && holds(dst[0], len, (uint32_t)i));
	}
	world_close(&w);
}

static void case_sizes(const char *transport)
{
	exchange(transport, NULL, 1);
	exchange(transport, NULL, 0);
}

static void case_chunks(const char *transport)
{
	static const size_t chunks[] = { 64, 128, 4096, 65536, 1 << 20 };
	size_t i;

	for (i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
		struct world_attr a = { .chunk = chunks[i] };

		exchange(transport, &a, i & 1);
	}
}

static void case_both_ways(const char *transport)
{
	struct cx_xfer tx[2], rx[2];
	struct world w;
	int r;

	NEED(world_open(&w, transport, NULL) == 0);
	for (r = 0; r < 2; r++) {
		tx[r] = (struct cx_xfer){ .buf = src[r], .len = BIGGEST, .tag = TAG };
		rx[r] = (struct cx_xfer){ .buf = dst[r], .len = BIGGEST, .tag = TAG };
		fill(src[r], BIGGEST, (uint32_t)r);
		clear(dst[r], BIGGEST);
		NEED(w.t->send(w.lane[r][0], &tx[r]) >= 0 && w.t->recv(w.lane[r][0], &rx[r]) >= 0);
	}
	for (r = 0; r < 2; r++) {
		NEED(world_wait(&w, &tx[r]) == 1 && world_wait(&w, &rx[r]) == 1);
		NEED(holds(dst[r], BIGGEST, (uint32_t)!r));
	}
	world_close(&w);
}

/* ---- many messages: flows of random lengths, moved in every way there is ---- */

enum { FLOW_DEPTH = 5, FLOW_MAX = 20 * CHUNK, FLOW_PATIENCE = 50000 };

/* One lane and direction; message k's length, and how it moves, follow from its seed. */
struct flow {
	struct cx_lane *out, *in;
	uint32_t seed, posted, gone, asked, come; /* messages, in order of life */
	struct cx_xfer tx[FLOW_DEPTH], rx[FLOW_DEPTH];
	unsigned char *txbuf[FLOW_DEPTH], *rxbuf[FLOW_DEPTH];
	bool reserving, peeking;
};

static uint32_t mix(uint32_t a, uint32_t b)
{
	a = (a ^ b * 0x9e3779b9u) * 0x85ebca6bu;
	a = (a ^ a >> 13) * 0xc2b2ae35u;
	return a ^ a >> 16;
}

static size_t flow_len(const struct flow *f, uint32_t k)
{
	uint32_t r = mix(f->seed, k);

	switch (r & 3) {
	case 0:
		return (r >> 2) % 66;
	case 1:
		return (r >> 2) % (3 * CHUNK);
	case 2:
		return (r >> 2) % 3 * CHUNK + CHUNK / 2 * (r >> 9 & 1);
	default:
		return r >> 8 & 7 ? 8 : (r >> 11) % FLOW_MAX;
	}
}

static bool flow_in_place(const struct flow *f, uint32_t k, uint32_t salt)
{
	return flow_len(f, k) && mix(f->seed ^ salt, k) & 1;
}

static struct cx_xfer flow_xfer(const struct flow *f, uint32_t k, unsigned char *buf)
{
	struct cx_xfer x = { .buf = buf, .len = flow_len(f, k), .tag = mix(k, f->seed) };

	return x;
}

/* Writes some of the message at tx in place. */
static void flow_reserve(struct world *w, struct flow *f, struct cx_xfer *tx, uint32_t r)
{
	void *room;
	long n = w->t->reserve(f->out, tx, &room);

	NEED(n >= 0 && (size_t)n <= tx->len - tx->done);
	if (!n)
		return;
	NEED(tx->done + (size_t)n == tx->len || n % 64 == 0);
	if (n > 64 && r & 1)
		n = 64 + n / 2 / 64 * 64 - (n / 2 >= 64 ? 64 : 0);
	memcpy(room, (unsigned char *)tx->buf + tx->done, (size_t)n);
	w->t->commit(f->out, tx, (size_t)n);
	f->reserving = !tx->status;
	f->gone += tx->status == 1;
}

static void flow_send(struct world *w, struct flow *f, uint32_t count, uint32_t r)
{
	uint32_t k = f->posted;
	unsigned i = k % FLOW_DEPTH;

	while (f->gone < f->posted && f->tx[f->gone % FLOW_DEPTH].status == 1)
		f->gone++;
	if (f->reserving)
		flow_reserve(w, f, &f->tx[(k - 1) % FLOW_DEPTH], r);
	if (f->reserving || k == count || f->posted - f->gone == FLOW_DEPTH)
		return;
	f->tx[i] = flow_xfer(f, k, f->txbuf[i]);
	fill(f->txbuf[i], f->tx[i].len, f->tx[i].tag);
	f->posted++;
	if (cx_transport_has_reserve(w->t) && f->gone == k && flow_in_place(f, k, 1)) {
		f->reserving = true;
		flow_reserve(w, f, &f->tx[i], r);
		return;
	}
	NEED(w->t->send(f->out, &f->tx[i]) >= 0);
}

/* Reads some of the message at rx in place. */
static void flow_peek(struct world *w, struct flow *f, struct cx_xfer *rx, uint32_t r)
{
	const void *data, *again;
	long n = w->t->peek(f->in, rx, &data);

	NEED(n >= 0 && (size_t)n <= rx->len - rx->done);
	if (!n)
		return;
	NEED(rx->done + (size_t)n == rx->len || n % 64 == 0);
	NEED(w->t->peek(f->in, rx, &again) == n && again == data);
	if (n > 64 && r & 1)
		n = 64;
	memcpy((unsigned char *)rx->buf + rx->done, data, (size_t)n);
	w->t->release(f->in, rx, (size_t)n);
	f->peeking = !rx->status;
}

static void flow_recv(struct world *w, struct flow *f, uint32_t count, uint32_t r)
{
	uint32_t k = f->asked;
	unsigned i = k % FLOW_DEPTH;

	for (; f->come < f->asked && f->rx[f->come % FLOW_DEPTH].status == 1; f->come++) {
		struct cx_xfer *x = &f->rx[f->come % FLOW_DEPTH];

		NEED(x->done == x->len && holds(x->buf, x->len, x->tag));
	}
	if (f->peeking)
		flow_peek(w, f, &f->rx[(k - 1) % FLOW_DEPTH], r);
	if (f->peeking || k == count || f->asked - f->come == FLOW_DEPTH)
		return;
	f->rx[i] = flow_xfer(f, k, f->rxbuf[i]);
	clear(f->rxbuf[i], f->rx[i].len);
	f->asked++;
	if (cx_transport_has_peek(w->t) && flow_in_place(f, k, 2)) {
		f->peeking = true;
		flow_peek(w, f, &f->rx[i], r);
		return;
	}
	NEED(w->t->recv(f->in, &f->rx[i]) >= 0);
}

static void flows_run(struct world *w, struct flow *flows, int n, uint32_t count, uint32_t seed)
{
	uint32_t r = seed, idle = 0;
	int i, left = n;

	while (left) {
		NEED(idle < FLOW_PATIENCE * (uint32_t)n);
		idle++;
		for (i = 0, left = 0; i < n; i++) {
			uint32_t before = flows[i].gone + flows[i].come;

			r = mix(r, (uint32_t)i);
			/* Now the sender runs far ahead, now the receiver. */
			if ((r & 15) < (flows[i].come >> 6 & 1 ? 3 : 12))
				flow_send(w, &flows[i], count, r >> 8);
			if ((r >> 4 & 15) < (flows[i].come >> 6 & 1 ? 12 : 3))
				flow_recv(w, &flows[i], count, r >> 8);
			left += flows[i].gone < count || flows[i].come < count;
			if (flows[i].gone + flows[i].come != before)
				idle = 0;
		}
		if (r & 1 << 20)
			world_step(w);
	}
}

static void flows(const char *transport, const struct world_attr *attr, uint32_t count)
{
	static struct flow flow[2 * WORLD_LANES];
	static unsigned char bufs[2 * WORLD_LANES][2 * FLOW_DEPTH][FLOW_MAX + GUARD];
	struct world w;
	int i, k;

	NEED(world_open(&w, transport, attr) == 0);
	for (i = 0; i < 2 * WORLD_LANES; i++) {
		flow[i] = (struct flow){ .seed = (uint32_t)i * 77 + count };
		flow[i].out = w.lane[i & 1][i / 2];
		flow[i].in = w.lane[!(i & 1)][i / 2];
		for (k = 0; k < FLOW_DEPTH; k++) {
			flow[i].txbuf[k] = bufs[i][2 * k];
			flow[i].rxbuf[k] = bufs[i][2 * k + 1];
		}
	}
	flows_run(&w, flow, 1, count, 1);
	flows_run(&w, flow + 1, 2 * WORLD_LANES - 1, count, 2);
	world_close(&w);
}

static void case_flows(const char *transport)
{
	struct world_attr a = { .sim = { .seed = 3, .max_delay_ns = 50 } };

	flows(transport, &a, 2000);
}

static void case_flows_short(const char *transport)
{
	struct world_attr a = { .chunk = 64, .sim = { .seed = 4, .window = 1, .short_io = 1 } };

	flows(transport, &a, 300);
}

static void case_flows_wrap(const char *transport)
{
	struct world_attr a = { .nonce = 0xdead00fffff0f5u };

	flows(transport, &a, 700);
}

/* ---- order, credit ---- */

/* n messages of 8 bytes each way before anything is received, then all of them. */
static void ahead(struct world *w, struct cx_xfer *x, uint64_t *v, unsigned n)
{
	struct cx_xfer rx;
	uint64_t got;
	unsigned i;

	for (i = 0; i < n; i++) {
		v[i] = i * 3 + 1;
		x[i] = (struct cx_xfer){ .buf = &v[i], .len = 8, .tag = i };
		NEED(w->t->send(w->lane[0][2], &x[i]) >= 0);
	}
	for (i = 0; i < 5; i++)
		world_step(w);
	NEED(n <= 64 || w->wired || x[n - 1].status == 0);
	for (i = 0; i < n; i++) {
		rx = (struct cx_xfer){ .buf = &got, .len = 8, .tag = i };
		NEED(w->t->recv(w->lane[1][2], &rx) >= 0 && world_wait(w, &rx) == 1);
		NEED(got == i * 3 + 1);
	}
	for (i = 0; i < n; i++)
		NEED(world_wait(w, &x[i]) == 1);
}

static void case_credit(const char *transport)
{
	static struct cx_xfer x[1000];
	static uint64_t v[1000];
	struct world w;
	unsigned n;

	NEED(world_open(&w, transport, NULL) == 0);
	for (n = 1; n < 40; n++)
		ahead(&w, x, v, n);
	ahead(&w, x, v, 1000);
	world_close(&w);
}

/* More messages than the sequence has numbers, nearly: it starts anywhere. */
static void case_wrap(const char *transport)
{
	static const uint64_t nonces[] = { 0, 0xfffffff0, 0xfffff0, 0xffffe0, 0xffff00 };
	uint64_t v = 0, got = 1;
	struct world w;
	size_t k;
	uint32_t i;

	for (k = 0; k < sizeof(nonces) / sizeof(nonces[0]); k++) {
		struct world_attr a = { .nonce = nonces[k] };

		NEED(world_open(&w, transport, &a) == 0);
		for (i = 0; i < (k ? 70000 : 200000); i++) {
			struct cx_xfer tx = { .buf = &v, .len = 8, .tag = i };
			struct cx_xfer rx = { .buf = &got, .len = 8, .tag = i };

			v = mix(i, 5);
			NEED(w.t->send(w.lane[0][0], &tx) >= 0);
			NEED(w.t->recv(w.lane[1][0], &rx) >= 0);
			NEED(world_wait(&w, &rx) == 1 && world_wait(&w, &tx) == 1 && got == v);
		}
		world_close(&w);
	}
}

/* ---- in place ---- */

static void case_peek_waits(const char *transport)
{
	struct cx_xfer tx[2], rx = { .buf = dst[0], .len = 300, .tag = 1 };
	struct cx_xfer px = { .len = 8, .tag = 2 };
	const void *data;
	struct world w;
	long n = 0;
	int i;

	NEED(world_open(&w, transport, NULL) == 0);
	if (cx_transport_has_peek(w.t)) {
		fill(src[0], 300, 9);
		clear(dst[0], 300);
		tx[0] = (struct cx_xfer){ .buf = src[0], .len = 300, .tag = 1 };
		tx[1] = (struct cx_xfer){ .buf = src[0], .len = 8, .tag = 2 };
		NEED(w.t->peek(w.lane[1][0], &px, &data) == 0);
		NEED(w.t->recv(w.lane[1][0], &rx) == 0);
		NEED(w.t->send(w.lane[0][0], &tx[0]) >= 0 && w.t->send(w.lane[0][0], &tx[1]) >= 0);
		/* The first message is the posted one's. */
		NEED(w.t->peek(w.lane[1][0], &px, &data) == 0);
		NEED(world_wait(&w, &rx) == 1 && holds(dst[0], 300, 9));
		for (i = 0; i < IDLE_STEPS && n == 0; i++) {
			world_step(&w);
			n = w.t->peek(w.lane[1][0], &px, &data);
		}
		NEED(n == 8 && px.done == 0 && !memcmp(data, src[0], 8));
		w.t->release(w.lane[1][0], &px, 8);
		NEED(px.status == 1 && px.done == 8);
	}
	world_close(&w);
}

static void case_reserve(const char *transport)
{
	struct cx_xfer tx = { .len = 200, .tag = 5 }, rx = { .buf = dst[0], .len = 200, .tag = 5 };
	struct cx_xfer late = { .buf = src[0], .len = 8, .tag = 6 };
	struct world w;
	void *room, *again;

	NEED(world_open(&w, transport, NULL) == 0);
	if (cx_transport_has_reserve(w.t)) {
		fill(src[0], 200, 3);
		clear(dst[0], 200);
		NEED(w.t->reserve(w.lane[0][0], &tx, &room) == 200);
		NEED(w.t->reserve(w.lane[0][0], &tx, &again) == 200 && room == again);
		memcpy(room, src[0], 128);
		w.t->commit(w.lane[0][0], &tx, 128);
		NEED(tx.status == 0 && tx.done == 128);
		NEED(w.t->reserve(w.lane[0][0], &tx, &room) == 72);
		memcpy(room, src[0] + 128, 72);
		w.t->commit(w.lane[0][0], &tx, 72);
		NEED(tx.status == 1 && tx.done == 200);
		NEED(w.t->recv(w.lane[1][0], &rx) >= 0 && world_wait(&w, &rx) == 1);
		NEED(holds(dst[0], 200, 3));
		/* Behind a posted send there is no room. */
		do
			late = (struct cx_xfer){ .buf = src[0], .len = BIGGEST, .tag = 6 };
		while (w.t->send(w.lane[0][0], &late) == 1);
		tx = (struct cx_xfer){ .len = 8, .tag = 7 };
		NEED(w.t->reserve(w.lane[0][0], &tx, &room) == 0);
	}
	world_close(&w);
}

/* ---- waiting by the caller's own poll ---- */

enum { READY_MS = 5000 };

/* What poll says of a port that was armed, and looked at once more. */
static int polled(struct world *w, int rank, int timeout_ms)
{
	struct pollfd fds[WORLD_LANES + 1];
	unsigned n = 99;
	int ready = w->t->wait_fds(w->port[rank], fds, &n);

	NEED(ready >= 0 && (ready || n <= WORLD_LANES + 1));
	return ready ? 1 : poll(fds, n, timeout_ms) > 0;
}

static void wait_for_message(struct world *w, uint64_t v)
{
	struct cx_xfer tx = { .buf = &v, .len = 8, .tag = TAG };
	uint64_t got = ~v;
	struct cx_xfer rx = { .buf = &got, .len = 8, .tag = TAG };

	NEED(w->t->recv(w->lane[1][0], &rx) == 0);
	w->t->arm(w->port[1]);
	NEED(!w->t->progress(w->port[1]) && !polled(w, 1, 0));
	NEED(w->t->send(w->lane[0][0], &tx) >= 0);
	NEED(polled(w, 1, READY_MS));
	w->t->sleep(w->port[1], 0);
	NEED(world_wait(w, &rx) == 1 && world_wait(w, &tx) == 1 && got == v);
}

enum { HEAP = 50000, HEAPS = 2000 };

/* Takes in what has come of message i, and of those after it; returns the next one. */
static int take_heaps(struct world *w, int i, struct cx_xfer *rx)
{
	while (w->t->progress(w->port[1]) || rx->status) {
		NEED(rx->status >= 0);
		if (!rx->status)
			continue;
		*rx = (struct cx_xfer){ .buf = dst[0], .len = HEAP, .tag = (uint32_t)++i };
		NEED(w->t->recv(w->lane[1][1], rx) >= 0);
	}
	return i;
}

/* A sender that found no room is woken when there is some. */
static void wait_for_room(struct world *w)
{
	static struct cx_xfer tx[HEAPS], rx; /* one too many stays posted */
	uint64_t end = cx_now_ns() + READY_MS * (uint64_t)1000000;
	int n = 0, i = 0;

	do
		tx[n] = (struct cx_xfer){ .buf = src[0], .len = HEAP, .tag = (uint32_t)n };
	while (w->t->send(w->lane[0][1], &tx[n++]) == 1 && n < HEAPS);
	NEED(n < HEAPS);
	while (world_step(w))
		;
	w->t->arm(w->port[0]);
	NEED(!w->t->progress(w->port[0]) && !polled(w, 0, 0));
	rx = (struct cx_xfer){ .buf = dst[0], .len = HEAP };
	NEED(w->t->recv(w->lane[1][1], &rx) >= 0);
	do
		i = take_heaps(w, i, &rx);
	while (!polled(w, 0, 1) && cx_now_ns() < end);
	NEED(cx_now_ns() < end);
	w->t->sleep(w->port[0], 0);
	while (i < n && cx_now_ns() < end) {
		w->t->progress(w->port[0]);
		i = take_heaps(w, i, &rx);
	}
	NEED(i == n && tx[n - 1].status == 1);
}

static void case_wait_fds(const char *transport)
{
	struct world_attr a = { .pollable = 1 };
	struct world w;
	uint64_t v;

	NEED(world_open(&w, transport, &a) == 0);
	if (cx_transport_has_wait_fds(w.t)) {
		for (v = 0; v < 20; v++)
			wait_for_message(&w, v);
		wait_for_room(&w);
		wait_for_message(&w, v);
	}
	world_close(&w);
}

/* ---- errors ---- */

/* Sends one thing, expects another: an error before delivery, that stays. */
static void mismatch(const char *transport, size_t sent, size_t expected, uint32_t tag, int how)
{
	struct cx_xfer tx = { .buf = src[0], .len = sent, .tag = TAG };
	struct cx_xfer rx = { .buf = dst[0], .len = expected, .tag = tag }, rx2 = rx, tx2 = tx;
	const int bad = COLLX_ERR_MISMATCH;
	struct world w;
	const void *data;
	long n = 0;
	int i;

	NEED(world_open(&w, transport, NULL) == 0);
	clear(dst[0], BIGGEST);
	NEED(w.t->send(w.lane[0][3], &tx) >= 0);
	for (i = 0; how && i < IDLE_STEPS && n == 0; i++) {
		n = w.t->peek(w.lane[1][3], &rx, &data);
		world_step(&w);
	}
	if (!how) {
		n = w.t->recv(w.lane[1][3], &rx);
		NEED(n == 0 || n == bad);
		NEED((n == 0 && w.t->recv(w.lane[1][3], &rx2) == 0) || n == bad);
		NEED(world_wait(&w, &rx) == bad && (n || world_wait(&w, &rx2) == bad));
		n = rx.status;
	}
	NEED(n == bad && untouched(dst[0], BIGGEST));
	NEED(rx.tag == TAG && rx.done == sent);
	NEED(strstr(cx_error_text(), "rank 0") && strstr(cx_error_text(), "lane 3"));
	NEED(w.t->recv(w.lane[1][3], &rx2) == bad && rx2.status == bad);
	NEED(w.t->send(w.lane[1][3], &tx2) == bad && tx2.status == bad);
	NEED(!cx_transport_has_peek(w.t) || w.t->peek(w.lane[1][3], &rx2, &data) == bad);
	/* Other lanes live on. */
	tx2 = (struct cx_xfer){ .buf = src[0], .len = 8, .tag = 1 };
	rx2 = (struct cx_xfer){ .buf = dst[0], .len = 8, .tag = 1 };
	NEED(w.t->send(w.lane[1][2], &tx2) >= 0 && w.t->recv(w.lane[0][2], &rx2) >= 0);
	NEED(world_wait(&w, &rx2) == 1);
	world_close(&w);
}

static void case_mismatch(const char *transport)
{
	static const size_t lens[][2] = { { 8, 16 }, { 16, 8 }, { 56, 57 }, { 57, 56 }, { 8, 4000 },
					  { 4000, 8 }, { 4000, 4001 }, { 50000, 49936 }, { 8, 1 } };
	int how, hows = 1 + cx_transport_has_peek(cx_transport_find(transport));
	size_t i;

	for (how = 0; how < hows; how++) {
		mismatch(transport, 8, 8, TAG + 1, how);
		mismatch(transport, 56, 56, ~(uint32_t)TAG, how);
		mismatch(transport, 5000, 5000, 0, how);
		for (i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
			mismatch(transport, lens[i][0], lens[i][1], TAG, how);
	}
	mismatch(transport, 0, 8, TAG, 0);
	mismatch(transport, 8, 0, TAG, 0);
	mismatch(transport, 0, 0, TAG ^ 1, 0);
	mismatch(transport, 0, 5000, TAG, 0);
}

static void case_lane_close(const char *transport)
{
	struct cx_xfer tx = { .buf = src[0], .len = BIGGEST, .tag = TAG }, tx2 = tx;
	struct cx_xfer rx = { .buf = dst[0], .len = BIGGEST, .tag = TAG }, rx2 = rx;
	struct cx_xfer on = { .buf = dst[1], .len = 8, .tag = 1 };
	struct world w;
	int i;

	for (i = 0; i < 4; i++) {
		NEED(world_open(&w, transport, NULL) == 0);
		clear(dst[0], BIGGEST);
		clear(src[0], BIGGEST);
		/* Lanes 1, 2, 3 have something posted; they close in several orders. */
		NEED(w.t->recv(w.lane[1][i & 1], &rx) == 0 && w.t->recv(w.lane[1][3], &rx2) == 0);
		NEED(w.t->recv(w.lane[1][2], &on) == 0);
		w.t->lane_close(w.lane[1][i & 2 ? 3 : i & 1]);
		w.t->lane_close(w.lane[1][i & 2 ? i & 1 : 3]);
		w.lane[1][i & 1] = w.lane[1][3] = NULL;
		w.t->send(w.lane[0][i & 1], &tx);
		w.t->send(w.lane[0][3], &tx2);
		while (world_step(&w))
			;
		NEED(untouched(dst[0], BIGGEST) && rx.status == 0 && rx2.status == 0);
		tx = (struct cx_xfer){ .buf = src[0], .len = 8, .tag = 1 };
		NEED(w.t->send(w.lane[0][2], &tx) >= 0 && world_wait(&w, &on) == 1);
		world_close(&w);
		tx = tx2 = (struct cx_xfer){ .buf = src[0], .len = BIGGEST, .tag = TAG };
	}
}

static void case_arguments(const char *transport)
{
	struct cx_lane *lane;
	struct cx_addr addr;
	struct cx_cost cost = { -1, -1 };
	struct world w;

	NEED(world_open(&w, transport, NULL) == 0);
	NEED(w.t->addr(w.port[1], &addr) == 0 && addr.len <= CX_ADDR_MAX);
	NEED(w.t->cost(w.port[0], &addr, &cost) == 0);
	NEED(cost.alpha_ns > 0 && cost.beta_ns_per_byte >= 0);
	NEED(w.t->lane_open(w.port[0], 2, &addr, 0, &lane) == COLLX_ERR_INVALID);
	NEED(w.t->lane_open(w.port[0], -1, &addr, 0, &lane) == COLLX_ERR_INVALID);
	NEED(w.t->lane_open(w.port[0], 0, &addr, 0, &lane) == COLLX_ERR_INVALID);
	NEED(w.t->lane_open(w.port[0], 1, &addr, WORLD_LANES, &lane) == COLLX_ERR_INVALID);
	NEED(w.t->lane_open(w.port[0], 1, &addr, 0, &lane) == COLLX_ERR_INVALID);
	world_close(&w);
}

/* ---- accounts ---- */

static void case_stats(const char *transport)
{
	static const size_t lens[] = { 0, 8, 56, 57, 4096, 5000 };
	struct cx_port_stats s[2];
	uint64_t bytes = 0;
	struct world w;
	unsigned i;

	NEED(world_open(&w, transport, NULL) == 0);
	for (i = 0; i < 60; i++) {
		size_t len = lens[i % 6];
		struct cx_xfer tx = { .buf = src[0], .len = len, .tag = i };
		struct cx_xfer rx = { .buf = dst[0], .len = len, .tag = i };

		bytes += len;
		NEED(w.t->send(w.lane[0][i % 4], &tx) >= 0);
		NEED(w.t->recv(w.lane[1][i % 4], &rx) >= 0);
		NEED(world_wait(&w, &tx) == 1 && world_wait(&w, &rx) == 1);
	}
	w.t->stats(w.port[0], &s[0]);
	w.t->stats(w.port[1], &s[1]);
	NEED(s[0].sent_bytes == bytes && s[0].sent_messages == 60);
	NEED(s[1].received_bytes == bytes && s[1].received_messages == 60);
	NEED(s[1].sent_bytes == 0 && s[1].sent_messages == 0);
	NEED(s[0].received_bytes == 0 && s[0].received_messages == 0);
	NEED(s[0].sleeps == 0 && s[0].wakes == 0 && s[1].sleeps == 0 && s[1].wakes == 0);
	world_close(&w);
}

static void case_leaks(const char *transport)
{
	int i, fds = 0, maps = 0;
	struct world w;

	for (i = 0; i < 60; i++) {
		struct world_attr a = { .pollable = i & 1 };
		struct cx_xfer tx = { .buf = src[0], .len = 5000, .tag = 0 };

		NEED(world_open(&w, transport, &a) == 0);
		NEED(w.t->send(w.lane[0][0], &tx) >= 0);
		world_close(&w);
		if (i == 9) {
			fds = count_proc("fd");
			maps = count_proc("maps");
		}
	}
	NEED(fds == count_proc("fd"));
	NEED(count_proc("maps") <= maps + 3); /* the heap may grow a little; a leak is 100 */
}

static struct cx_sys poor_sys;
static int allocs_left, allocs_open;

static void *poor_alloc(size_t len)
{
	void *p = allocs_left-- > 0 ? cx_sys_real.alloc(len) : NULL;

	allocs_open += p != NULL;
	return p;
}

static void poor_release(void *p)
{
	allocs_open -= p != NULL;
	cx_sys_real.release(p);
}

static void case_no_memory(const char *transport)
{
	int n, fds = count_proc("fd"), err = COLLX_ERR_NOMEM;
	struct world_attr a = { .pollable = 1 };
	struct world w;

	poor_sys = cx_sys_real;
	poor_sys.alloc = poor_alloc;
	poor_sys.release = poor_release;
	for (n = 0; err && n < 200; n++) {
		allocs_left = n;
		allocs_open = 0;
		cx_sys = &poor_sys;
		err = world_open(&w, transport, &a);
		if (!err)
			world_close(&w);
		cx_sys = &cx_sys_real;
		NEED(err == 0 || err == COLLX_ERR_NOMEM);
		NEED(allocs_open == 0 && count_proc("fd") == fds);
	}
	NEED(err == 0 && n > 5);
}

/* In steady state nothing is allocated; in sim messages are. */
static void case_steady(const char *transport)
{
	struct world w;
	unsigned i;

	poor_sys = cx_sys_real;
	poor_sys.alloc = poor_alloc;
	poor_sys.release = poor_release;
	NEED(world_open(&w, transport, NULL) == 0);
	allocs_left = w.sim ? 1000 : 0;
	cx_sys = &poor_sys;
	for (i = 0; i < 100; i++) {
		struct cx_xfer tx = { .buf = src[0], .len = i * 97, .tag = i };
		struct cx_xfer rx = { .buf = dst[0], .len = i * 97, .tag = i };
		int s = w.t->send(w.lane[0][0], &tx), r = w.t->recv(w.lane[1][0], &rx);

		if (s < 0 || r < 0 || world_wait(&w, &tx) != 1 || world_wait(&w, &rx) != 1)
			break;
	}
	cx_sys = &cx_sys_real;
	NEED(i == 100);
	world_close(&w);
}

const struct conformance_case conformance_cases[] = {
	{ "sizes", case_sizes },
	{ "chunks", case_chunks },
	{ "both ways", case_both_ways },
	{ "flows", case_flows },
	{ "flows in short pieces", case_flows_short },
	{ "flows over the sequence's end", case_flows_wrap },
	{ "credit", case_credit },
	{ "wrap", case_wrap },
	{ "peek waits", case_peek_waits },
	{ "reserve", case_reserve },
	{ "wait fds", case_wait_fds },
	{ "mismatch", case_mismatch },
	{ "lane close", case_lane_close },
	{ "arguments", case_arguments },
	{ "stats", case_stats },
	{ "leaks", case_leaks },
	{ "no memory", case_no_memory },
	{ "steady state", case_steady },
	{ NULL, NULL },
};
