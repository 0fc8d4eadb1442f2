/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A world of ports in one process under virtual time, for tests: random delays,
 * deliveries in pieces, crashes, cuts and damage. Everything is drawn from one
 * seed, so the same seed and the same calls are the same run, bit for bit. One
 * thread only.
 *
 * Messages of a lane and direction form a stream, a ring of at most `window`
 * messages: [read, sent) exist; of the first, arrived bytes can be read. Streams
 * with something still under way are in the world's heap, ordered by the time of
 * their next event. Ports with one nonce are a group and share its streams, so
 * that a message can be sent to an end that is not yet open.
 *
 * Invariant: a stream is in the heap exactly when moving < sent; events of a
 * stream have rising times; ties fall to the order in which they were drawn.
 */
#include <assert.h>
#include <string.h>

#include "src/base/base.h"
#include "transports/queue.h"
#include "transports/transport.h"

struct message {
	unsigned char *data;
	size_t len, arrived;
	uint32_t tag;
	bool whole;      /* all of it has arrived, also with length 0 */
	uint64_t due;    /* of its next event */
	uint64_t sum;
};

struct stream {
	struct cx_sim *sim;
	struct message *ring;            /* window of them */
	uint64_t read, moving, sent;     /* counts; read <= moving <= sent <= read + window */
	uint64_t last_due, order;
	size_t place;                    /* in the heap, + 1; 0: not there */
	bool drafting;                   /* slot `sent` has data that is not sent yet */
};

struct group {
	uint64_t nonce;
	int ranks, lanes, ports;
	struct stream **streams; /* [from][to][lane]; made by the end that opens first */
	struct group *next;
};

struct cx_sim {
	struct cx_sim_attr attr;
	int ranks;
	uint64_t now, random, drawn;
	struct group *groups;
	struct stream **heap;
	size_t heap_len, heap_room, streams; /* room for all streams there are */
	unsigned char *dead;         /* [rank] */
	unsigned char *cut, *flip;   /* [from][to] */
};

/* A port's address. */
struct place {
	uint64_t nonce, rank;
};

struct cx_lane {
	struct cx_port *port;
	int peer, number, err;
	struct stream *in, *out;
	struct cx_queue recvs, sends;
	struct cx_lane *next, **link; /* all lanes of the port */
};

struct cx_port {
	struct cx_port_attr attr;
	struct cx_port_stats stats;
	struct group *group;
	struct cx_lane *lanes;
	unsigned char *opened; /* [peer][lane]: opened once */
};

/* ---- chance ---- */

static uint64_t draw(struct cx_sim *sim)
{
	uint64_t z = sim->random += 0x9e3779b97f4a7c15u; /* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

uint32_t cx_sim_random(struct cx_sim *sim, uint32_t n)
{
	assert(n > 0);
	return (uint32_t)((draw(sim) >> 32) * n >> 32);
}

static uint64_t draw_delay(struct cx_sim *sim)
{
	uint64_t span = sim->attr.max_delay_ns - sim->attr.min_delay_ns;

	return sim->attr.min_delay_ns + (span == UINT64_MAX ? draw(sim) : draw(sim) % (span + 1));
}

static uint64_t checksum(const struct message *m)
{
	uint64_t h = m->len ^ (uint64_t)m->tag << 32, word;
	size_t i;

	for (i = 0; i < m->len; i += sizeof(word)) {
		word = 0;
		memcpy(&word, m->data + i, cx_min(sizeof(word), m->len - i));
		h = (h ^ word) * 0x9fb21c651e98df25u;
		h ^= h >> 29;
	}
	return h;
}

/* ---- events: a binary heap of streams ---- */

static struct message *at(const struct stream *s, uint64_t count)
{
	return &s->ring[count % s->sim->attr.window];
}

static bool before(const struct stream *a, const struct stream *b)
{
	uint64_t ta = at(a, a->moving)->due, tb = at(b, b->moving)->due;

	return ta != tb ? ta < tb : a->order < b->order;
}

static void heap_set(struct cx_sim *sim, size_t i, struct stream *s)
{
	sim->heap[i] = s;
	s->place = i + 1;
}

/* Puts s at place i or, where it belongs elsewhere, above or below. */
static void heap_settle(struct cx_sim *sim, size_t i, struct stream *s)
{
	size_t kid;

	for (; i > 0 && before(s, sim->heap[(i - 1) / 2]); i = (i - 1) / 2)
		heap_set(sim, i, sim->heap[(i - 1) / 2]);
	for (; (kid = 2 * i + 1) < sim->heap_len; i = kid) {
		if (kid + 1 < sim->heap_len && before(sim->heap[kid + 1], sim->heap[kid]))
			kid++;
		if (!before(sim->heap[kid], s))
			break;
		heap_set(sim, i, sim->heap[kid]);
	}
	heap_set(sim, i, s);
}

static void heap_add(struct stream *s)
{
	struct cx_sim *sim = s->sim;

	assert(!s->place && sim->heap_len < sim->heap_room);
	s->order = sim->drawn++;
	heap_settle(sim, sim->heap_len++, s);
}

static void heap_del(struct stream *s)
{
	struct cx_sim *sim = s->sim;
	size_t i = s->place - 1;
	struct stream *last = sim->heap[--sim->heap_len];

	assert(s->place && sim->heap[i] == s);
	s->place = 0;
	if (last != s)
		heap_settle(sim, i, last);
}

/* Makes room for one stream more. */
static int heap_reserve(struct cx_sim *sim)
{
	size_t room = cx_max(64, 2 * sim->heap_room);
	struct stream **heap;

	if (sim->streams < sim->heap_room)
		return 0;
	heap = cx_alloc(room, sizeof(struct stream *));
	if (!heap)
		return COLLX_ERR_NOMEM;
	if (sim->heap_len)
		memcpy(heap, sim->heap, sim->heap_len * sizeof(struct stream *));
	cx_free(sim->heap);
	sim->heap = heap;
	sim->heap_room = room;
	return 0;
}

/* ---- streams ---- */

static size_t pair(const struct cx_sim *sim, int from, int to)
{
	assert(from >= 0 && from < sim->ranks && to >= 0 && to < sim->ranks);
	return (size_t)from * (size_t)sim->ranks + (size_t)to;
}

static void stream_schedule(struct stream *s, struct message *m, uint64_t due)
{
	m->due = s->last_due = cx_max(due, s->last_due);
}

static void stream_free(struct stream *s)
{
	if (!s)
		return;
	if (s->place)
		heap_del(s);
	for (; s->read < s->sent + s->drafting; s->read++)
		cx_free(at(s, s->read)->data);
	s->sim->streams--;
	cx_free(s->ring);
	cx_free(s);
}

/* Sends the draft off, damaged or into the void where that was asked for. */
static void stream_send(struct stream *s, int from, int to)
{
	struct cx_sim *sim = s->sim;
	struct message *m = at(s, s->sent);
	size_t way = pair(sim, from, to);

	assert(s->drafting);
	s->drafting = false;
	m->sum = checksum(m);
	m->arrived = 0;
	m->whole = false;
	if (sim->cut[way]) {
		cx_free(m->data);
		m->data = NULL;
		return;
	}
	if (sim->flip[way]) {
		sim->flip[way] = 0;
		if (m->len)
			m->data[draw(sim) % m->len] ^= (unsigned char)(1u << cx_sim_random(sim, 8));
		else
			m->tag ^= 1u << cx_sim_random(sim, 32);
	}
	stream_schedule(s, m, sim->now + draw_delay(sim) +
			(uint64_t)((double)m->len * sim->attr.beta_ns_per_byte));
	s->sent++;
	if (!s->place)
		heap_add(s);
}

/* Some of the stream's moving message arrives. */
static void stream_arrive(struct stream *s)
{
	struct cx_sim *sim = s->sim;
	struct message *m = at(s, s->moving);
	size_t n = m->len - m->arrived;

	heap_del(s);
	sim->now = m->due;
	if (sim->attr.short_io && n > CX_LINE)
		n = cx_min(n, CX_LINE * (1 + (size_t)(draw(sim) % (n / CX_LINE))));
	m->arrived += n;
	m->whole = m->arrived == m->len;
	if (m->whole)
		s->moving++;
	else
		stream_schedule(s, m, sim->now + draw_delay(sim));
	if (s->moving == s->sent)
		return;
	/* The pieces of the one before may have come later than it was due. */
	at(s, s->moving)->due = cx_max(at(s, s->moving)->due, sim->now);
	heap_add(s);
}

/* ---- posted transfers ---- */

static int post(struct cx_queue *q, struct cx_xfer *x)
{
	cx_queue_push(q, x);
	return 0;
}

static int fail(struct cx_lane *l, int err)
{
	assert(err < 0);
	l->err = err;
	cx_queue_fail(&l->recvs, err);
	cx_queue_fail(&l->sends, err);
	return err;
}

/* The lane's error, looking at who died meanwhile. */
static int lane_err(struct cx_lane *l)
{
	const unsigned char *dead = l->port->attr.sim->dead;

	if (!l->err && (dead[l->peer] || dead[l->port->attr.rank]))
		fail(l, cx_fail(COLLX_ERR_PEER_DEAD, "rank %d died",
				dead[l->peer] ? l->peer : l->port->attr.rank));
	return l->err;
}

static void account(uint64_t *bytes, uint64_t *messages, struct cx_xfer *x, size_t n)
{
	x->done += n;
	*bytes += n;
	if (x->done == x->len) {
		++*messages;
		x->status = 1;
	}
}

/* ---- sending ---- */

/* The slot in which x is written. 1: there it is; 0: window full; negative: error. */
static int draft(struct cx_lane *l, const struct cx_xfer *x, struct message **m)
{
	struct stream *s = l->out;

	if (s->sent - s->read == s->sim->attr.window)
		return 0;
	*m = at(s, s->sent);
	if (s->drafting)
		return 1;
	(*m)->data = cx_alloc(x->len, 1);
	if (!(*m)->data)
		return fail(l, COLLX_ERR_NOMEM);
	(*m)->len = x->len;
	(*m)->tag = x->tag;
	s->drafting = true;
	return 1;
}

/* n more bytes of x are in the draft. */
static void written(struct cx_lane *l, struct cx_xfer *x, size_t n)
{
	account(&l->port->stats.sent_bytes, &l->port->stats.sent_messages, x, n);
	if (x->status)
		stream_send(l->out, l->port->attr.rank, l->peer);
}

static int push(struct cx_lane *l, struct cx_xfer *x)
{
	struct message *m;
	int room = draft(l, x, &m);

	if (room <= 0)
		return room;
	if (x->len)
		memcpy(m->data, x->buf, x->len);
	written(l, x, x->len);
	return 1;
}

static int start(struct cx_lane *l, struct cx_queue *q, struct cx_xfer *x,
		 int (*move)(struct cx_lane *, struct cx_xfer *))
{
	int moved;

	x->done = 0;
	x->status = lane_err(l);
	if (x->status)
		return x->status;
	if (q->head)
		return post(q, x);
	moved = move(l, x);
	if (moved < 0)
		x->status = moved;
	return moved ? moved : post(q, x);
}

static int sim_send(struct cx_lane *l, struct cx_xfer *x)
{
	return start(l, &l->sends, x, push);
}

static size_t piece(const struct cx_lane *l, size_t n)
{
	return cx_min(n, l->port->attr.chunk);
}

static long sim_reserve(struct cx_lane *l, struct cx_xfer *x, void **room)
{
	struct message *m;
	int r;

	if (lane_err(l) || l->sends.head)
		return l->err;
	assert(x->done < x->len);
	r = draft(l, x, &m);
	if (r <= 0)
		return r;
	*room = m->data + x->done;
	return (long)piece(l, x->len - x->done);
}

static void sim_commit(struct cx_lane *l, struct cx_xfer *x, size_t n)
{
	assert(n > 0 && n <= piece(l, x->len - x->done));
	assert(x->done + n == x->len || n % CX_LINE == 0);
	written(l, x, n);
}

/* ---- receiving ---- */

/* What of x can be read, or that it is whole though empty; checked before its first byte. */
static long readable(struct cx_lane *l, struct cx_xfer *x)
{
	struct stream *s = l->in;
	struct message *m = at(s, s->read);

	if (s->read == s->sent || (!m->arrived && !m->whole))
		return 0;
	if (x->done == 0 && checksum(m) != m->sum)
		return fail(l, cx_fail(COLLX_ERR_CORRUPT, "rank %d lane %d: damaged message",
				       l->peer, l->number));
	if (m->tag != x->tag || m->len != x->len) {
		cx_fail(COLLX_ERR_MISMATCH, "rank %d lane %d sent %zu bytes tagged %08x, expected "
			"%zu tagged %08x", l->peer, l->number, m->len, m->tag, x->len, x->tag);
		x->tag = m->tag;
		x->done = m->len;
		return fail(l, COLLX_ERR_MISMATCH);
	}
	return (long)(m->arrived - x->done);
}

static void sim_release(struct cx_lane *l, struct cx_xfer *x, size_t n)
{
	struct message *m = at(l->in, l->in->read);

	assert(n <= m->arrived - x->done && (n % CX_LINE == 0 || x->done + n == x->len));
	account(&l->port->stats.received_bytes, &l->port->stats.received_messages, x, n);
	if (!x->status)
		return;
	cx_free(m->data);
	m->data = NULL;
	l->in->read++;
}

static int pull(struct cx_lane *l, struct cx_xfer *x)
{
	struct message *m = at(l->in, l->in->read);
	long n = readable(l, x);

	if (n < 0 || (n == 0 && !(x->len == 0 && l->in->read < l->in->moving)))
		return (int)n;
	if (n)
		memcpy((char *)x->buf + x->done, m->data + x->done, (size_t)n);
	sim_release(l, x, (size_t)n);
	return x->status;
}

static int sim_recv(struct cx_lane *l, struct cx_xfer *x)
{
	return start(l, &l->recvs, x, pull);
}

static long sim_peek(struct cx_lane *l, struct cx_xfer *x, const void **data)
{
	long n;

	if (lane_err(l) || l->recvs.head)
		return l->err;
	assert(x->done < x->len);
	n = readable(l, x);
	if (n > 0)
		*data = at(l->in, l->in->read)->data + x->done;
	return n > 0 ? (long)piece(l, (size_t)n) : n;
}

/* ---- progress ---- */

static int sim_progress(struct cx_port *port)
{
	struct cx_lane *l;
	bool moved = false;

	for (l = port->lanes; l; l = l->next) {
		bool posted = l->recvs.head || l->sends.head;

		moved |= posted && lane_err(l);
		moved |= cx_queue_advance(&l->recvs, l, pull);
		moved |= cx_queue_advance(&l->sends, l, push);
	}
	return moved;
}

/* Nothing else runs while a rank sleeps: whoever drives the world goes on. */
static void sim_sleep(struct cx_port *port, uint64_t timeout_ns)
{
	port->stats.sleeps += timeout_ns != 0;
}

/* ---- ports ---- */

static struct group *group_find(struct cx_sim *sim, uint64_t nonce)
{
	struct group *g = sim->groups;

	while (g && g->nonce != nonce)
		g = g->next;
	return g;
}

static int group_join(struct cx_sim *sim, const struct cx_port_attr *a, struct group **out)
{
	struct group *g = group_find(sim, a->nonce);
	size_t pairs = (size_t)a->ranks * (size_t)a->ranks;

	if (g && (g->ranks != a->ranks || g->lanes != a->lanes))
		return cx_fail(COLLX_ERR_MISMATCH, "sim: rank %d wants %d ranks and %d lanes, "
			       "others %d and %d", a->rank, a->ranks, a->lanes, g->ranks, g->lanes);
	if (!g) {
		g = cx_alloc(1, sizeof(*g));
		if (!g)
			return COLLX_ERR_NOMEM;
		g->nonce = a->nonce;
		g->ranks = a->ranks;
		g->lanes = a->lanes;
		g->streams = cx_alloc(pairs, (size_t)a->lanes * sizeof(struct stream *));
		if (!g->streams) {
			cx_free(g);
			return COLLX_ERR_NOMEM;
		}
		g->next = sim->groups;
		sim->groups = g;
	}
	g->ports++;
	*out = g;
	return 0;
}

static void group_leave(struct cx_sim *sim, struct group *g)
{
	size_t n = (size_t)g->ranks * (size_t)g->ranks * (size_t)g->lanes;
	struct group **link = &sim->groups;

	if (--g->ports)
		return;
	while (n--)
		stream_free(g->streams[n]);
	while (*link != g)
		link = &(*link)->next;
	*link = g->next;
	cx_free(g->streams);
	cx_free(g);
}

static int sim_open(struct cx_port **out, const struct cx_port_attr *a)
{
	struct cx_port *port;
	int err = COLLX_ERR_NOMEM;

	if (!a->sim)
		return cx_fail(COLLX_ERR_UNSUPPORTED, "sim: there is no simulated world");
	if (a->ranks < 1 || a->ranks > a->sim->ranks || a->rank < 0 || a->rank >= a->ranks ||
	    a->lanes < 1 || a->chunk < CX_LINE || a->chunk % CX_LINE)
		return cx_fail(COLLX_ERR_INVALID, "sim: rank %d of %d, %d lanes, chunk %zu",
			       a->rank, a->ranks, a->lanes, a->chunk);
	port = cx_alloc(1, sizeof(*port));
	if (!port)
		return COLLX_ERR_NOMEM;
	port->attr = *a;
	port->opened = cx_alloc((size_t)a->ranks, (size_t)a->lanes);
	if (port->opened)
		err = group_join(a->sim, a, &port->group);
	if (err) {
		cx_free(port->opened);
		cx_free(port);
		return err;
	}
	*out = port;
	return 0;
}

static void sim_close(struct cx_port *port)
{
	assert(!port->lanes);
	group_leave(port->attr.sim, port->group);
	cx_free(port->opened);
	cx_free(port);
}

static int sim_addr(struct cx_port *port, struct cx_addr *addr)
{
	struct place here = { port->attr.nonce, (uint64_t)port->attr.rank };

	memset(addr, 0, sizeof(*addr));
	addr->fd = addr->bell = -1;
	addr->len = sizeof(here);
	memcpy(addr->bytes, &here, sizeof(here));
	return 0;
}

static int sim_cost(struct cx_port *port, const struct cx_addr *peer, struct cx_cost *out)
{
	const struct cx_sim_attr *a = &port->attr.sim->attr;

	(void)peer;
	out->alpha_ns = ((double)a->min_delay_ns + (double)a->max_delay_ns) / 2;
	out->beta_ns_per_byte = a->beta_ns_per_byte;
	return 0;
}

static void sim_stats(struct cx_port *port, struct cx_port_stats *out)
{
	*out = port->stats;
}

/* ---- lanes ---- */

static int stream_open(struct cx_port *port, int from, int to, int lane, struct stream **out)
{
	struct cx_sim *sim = port->attr.sim;
	struct group *g = port->group;
	size_t i = ((size_t)from * (size_t)g->ranks + (size_t)to) * (size_t)g->lanes + (size_t)lane;
	struct stream *s = g->streams[i];

	if (s) {
		*out = s;
		return 0;
	}
	if (heap_reserve(sim))
		return COLLX_ERR_NOMEM;
	s = cx_alloc(1, sizeof(*s));
	if (!s)
		return COLLX_ERR_NOMEM;
	s->ring = cx_alloc(sim->attr.window, sizeof(*s->ring));
	if (!s->ring) {
		cx_free(s);
		return COLLX_ERR_NOMEM;
	}
	s->sim = sim;
	sim->streams++;
	g->streams[i] = s;
	*out = s;
	return 0;
}

/* Streams stay with the group if this fails half way. */
static int lane_init(struct cx_lane *l, struct cx_port *port, int peer, int number)
{
	int err = stream_open(port, port->attr.rank, peer, number, &l->out);

	if (!err)
		err = stream_open(port, peer, port->attr.rank, number, &l->in);
	if (err)
		return err;
	l->port = port;
	l->peer = peer;
	l->number = number;
	cx_queue_init(&l->recvs);
	cx_queue_init(&l->sends);
	l->next = port->lanes;
	l->link = &port->lanes;
	if (l->next)
		l->next->link = &l->next;
	port->lanes = l;
	return 0;
}

static int sim_lane_open(struct cx_port *port, int peer, const struct cx_addr *addr, int number,
			 struct cx_lane **out)
{
	const struct cx_port_attr *a = &port->attr;
	struct place there = { a->nonce, (uint64_t)peer };
	unsigned char *opened;
	struct cx_lane *l;
	int err;

	if (peer < 0 || peer >= a->ranks || peer == a->rank || number < 0 || number >= a->lanes)
		return cx_fail(COLLX_ERR_INVALID, "sim: lane %d to rank %d", number, peer);
	if (addr->len != sizeof(there) || memcmp(addr->bytes, &there, sizeof(there)))
		return cx_fail(COLLX_ERR_MISMATCH, "sim: not the address of rank %d", peer);
	opened = &port->opened[(size_t)peer * (size_t)a->lanes + (size_t)number];
	if (*opened)
		return cx_fail(COLLX_ERR_INVALID, "sim: lane %d to rank %d was open before",
			       number, peer);
	l = cx_alloc(1, sizeof(*l));
	if (!l)
		return COLLX_ERR_NOMEM;
	err = lane_init(l, port, peer, number);
	if (err) {
		cx_free(l);
		return err;
	}
	*opened = 1;
	*out = l;
	return 0;
}

static void sim_lane_close(struct cx_lane *l)
{
	*l->link = l->next;
	if (l->next)
		l->next->link = l->link;
	cx_free(l);
}

/* ---- worlds ---- */

struct cx_sim *cx_sim_create(const struct cx_sim_attr *attr, int ranks)
{
	struct cx_sim *sim;

	if (ranks < 1 || attr->window < 1 || attr->min_delay_ns > attr->max_delay_ns) {
		cx_fail(COLLX_ERR_INVALID, "sim: %d ranks, window %u, delays %llu to %llu", ranks,
			attr->window, (unsigned long long)attr->min_delay_ns,
			(unsigned long long)attr->max_delay_ns);
		return NULL;
	}
	sim = cx_alloc(1, sizeof(*sim));
	if (!sim)
		return NULL;
	sim->attr = *attr;
	sim->ranks = ranks;
	sim->random = attr->seed;
	sim->dead = cx_alloc((size_t)ranks, 1);
	sim->cut = cx_alloc((size_t)ranks, (size_t)ranks);
	sim->flip = cx_alloc((size_t)ranks, (size_t)ranks);
	if (!sim->dead || !sim->cut || !sim->flip) {
		cx_sim_destroy(sim);
		return NULL;
	}
	return sim;
}

void cx_sim_destroy(struct cx_sim *sim)
{
	assert(!sim->groups && !sim->streams);
	cx_free(sim->dead);
	cx_free(sim->cut);
	cx_free(sim->flip);
	cx_free(sim->heap);
	cx_free(sim);
}

uint64_t cx_sim_now_ns(const struct cx_sim *sim)
{
	return sim->now;
}

int cx_sim_advance(struct cx_sim *sim)
{
	if (!sim->heap_len)
		return 0;
	assert(at(sim->heap[0], sim->heap[0]->moving)->due >= sim->now);
	stream_arrive(sim->heap[0]);
	return 1;
}

void cx_sim_kill(struct cx_sim *sim, int rank)
{
	sim->dead[rank] = 1;
}

void cx_sim_cut(struct cx_sim *sim, int from, int to)
{
	sim->cut[pair(sim, from, to)] = 1;
}

void cx_sim_flip(struct cx_sim *sim, int from, int to)
{
	sim->flip[pair(sim, from, to)] = 1;
}

const struct cx_transport cx_transport_sim = {
	.name = "sim",
	.open = sim_open,
	.close = sim_close,
	.addr = sim_addr,
	.cost = sim_cost,
	.lane_open = sim_lane_open,
	.lane_close = sim_lane_close,
	.send = sim_send,
	.recv = sim_recv,
	.progress = sim_progress,
	.peek = sim_peek,
	.release = sim_release,
	.reserve = sim_reserve,
	.commit = sim_commit,
	.arm = cx_stub_arm,
	.sleep = sim_sleep,
	.wait_fds = cx_stub_wait_fds,
	.reg = cx_stub_reg,
	.dereg = cx_stub_dereg,
	.stats = sim_stats,
};
