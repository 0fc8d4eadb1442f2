/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Transport between processes, or threads, of one host through shared memory.
 *
 * A port owns one sealed memfd, its inbound memory: a header, and for every peer
 * and lane a ring of SLOTS slots that the peer fills. A slot is one line of 64
 * bytes and a data area of `chunk` bytes. A message of at most INLINE_MAX bytes
 * rides in the line; a longer one goes as pieces, a slot each.
 *
 *   sender   -> data, then line (tag, lengths, at last head)   in the peer's memory
 *   receiver -> consumed: how many slots it gave back          in its own memory
 *   both     -> sleeping, doorbell of whom they let go on
 *
 * Counters run from 0 and wrap at 32 bits; slot number = counter % SLOTS. head is
 * 24 bits of sequence (base + counter + 1, base drawn from the nonce) and 8 bits
 * of code: an inline message's length, or CODE_PIECE.
 *
 * Invariants: consumed <= taken <= sent <= consumed + SLOTS. A slot's head is
 * what it was SLOTS pieces ago (0 on fresh memory) or the one awaited; anything
 * else is damage. A word that a peer wrote is loaded once, then checked.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <linux/mempolicy.h>
#include <poll.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "src/base/base.h"
#include "transports/queue.h"
#include "transports/transport.h"

enum {
	MAGIC = 0x6d687863, /* "cxhm" */
	VERSION = 1,
	SLOTS = 16,
	INLINE_MAX = 56,
	CODE_PIECE = 0xff,
	PIECE_MIN = 8192,
	PREFETCH = 1024,
	PAGE = 4096,
	CHUNK_MAX = 1 << 28,
	SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL,
	SEQ_MASK = 0xffffff
};

struct line {
	_Atomic uint32_t head;
	_Atomic uint32_t tag;
	union {
		unsigned char bytes[INLINE_MAX];
		struct {
			_Atomic uint64_t total, len;
		} piece;
	} body;
};
_Static_assert(sizeof(struct line) == CX_LINE, "one message, one cache line");
_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "words shared between processes");

struct ring {
	struct line line[SLOTS];
	alignas(CX_LINE) _Atomic uint32_t consumed;
};

/* Goes round as the address too; equal but for rank on all ports. */
struct geometry {
	uint32_t magic, version;
	uint64_t nonce;
	uint32_t rank, ranks, lanes, slots;
	uint64_t chunk;
};
_Static_assert(sizeof(struct geometry) <= CX_ADDR_MAX, "an address holds it");

struct header {
	struct geometry geo;
	uint32_t expedited; /* the owner sleeps with a membarrier: wakers need no fence */
	alignas(CX_LINE) _Atomic uint32_t sleeping;
	_Atomic uint32_t doorbell;
};
_Static_assert(sizeof(struct header) <= PAGE, "rings start on the next page");

struct cx_lane {
	/* receiving */
	struct ring *in;
	unsigned char *in_data;
	unsigned char *at;      /* what is left of the piece in hand */
	size_t left;
	uint32_t taken, shown;  /* slots given back; as far as the sender knows */
	bool held;              /* a piece is in hand */
	bool busy;              /* on the port's list */
	bool fence;             /* waking this peer needs one */
	int err;
	struct cx_queue recvs;
	/* sending */
	struct ring *out;
	unsigned char *out_data;
	uint32_t sent, credit;  /* slots filled; consumed when last looked at */
	struct cx_queue sends;
	/* both */
	struct cx_port *port;
	struct header *bell;
	int peer, number;
	struct cx_lane *next, **link;
};

struct peer {
	unsigned char *mem;
	int users;
	int bell;                /* -1: it sleeps on a futex */
};

struct cx_port {
	struct cx_port_attr attr;
	struct cx_port_stats stats;
	struct header *head;
	struct cx_lane *busy;    /* lanes with something posted */
	uint32_t base;           /* first sequence number; a multiple of SLOTS */
	uint32_t heard;          /* doorbell as of arm */
	bool expedited;
	int fd;
	int bell;                /* what a pollable port waits for; -1: a futex */
	size_t bytes;            /* of anyone's inbound memory */
	struct peer *peers;
	unsigned char *opened;   /* [peer][lane]: opened once */
};

/* ---- the words in shared memory ---- */

static uint32_t head_of(const struct cx_port *port, uint32_t count, uint32_t code)
{
	return (port->base + count + 1) << 8 | code;
}

/* Where the ring and the data of sender `from`, lane `lane` lie in any port's memory. */
static struct ring *ring_at(const struct cx_port *port, unsigned char *mem, int from, int lane)
{
	size_t i = (size_t)from * (size_t)port->attr.lanes + (size_t)lane;

	return (struct ring *)(void *)(mem + PAGE + i * sizeof(struct ring));
}

static unsigned char *data_at(const struct cx_port *port, unsigned char *mem, int from, int lane)
{
	size_t n = (size_t)port->attr.ranks * (size_t)port->attr.lanes;
	size_t i = (size_t)from * (size_t)port->attr.lanes + (size_t)lane;

	return mem + PAGE + cx_round_up(n * sizeof(struct ring), PAGE) +
	       i * SLOTS * port->attr.chunk;
}

/* fd: of a pollable port, else -1. */
static void wake(struct cx_port *port, struct header *bell, int fd)
{
	/* Of several wakers one makes the call. Pairs with the exchange in shm_arm. */
	if (!atomic_exchange_explicit(&bell->sleeping, 0, memory_order_acq_rel))
		return;
	port->stats.wakes++;
	if (fd >= 0) {
		eventfd_write(fd, 1);
		return;
	}
	/* Before the call, so that a sleeper that has not slept yet does not. */
	atomic_fetch_add_explicit(&bell->doorbell, 1, memory_order_release);
	syscall(SYS_futex, &bell->doorbell, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/*
 * Called after each store that may let a peer go on. That store must be visible
 * before `sleeping` is read, as the sleeper sets `sleeping` before it looks at the
 * words once more. Mostly the sleeper sees to it: its membarrier in shm_arm makes
 * every running registered process order its accesses, and a plain load will do.
 * Otherwise the read-modify-write pairs with the exchange in shm_arm: whichever is
 * second sees what the first did.
 */
static void ring_bell(struct cx_lane *l)
{
	uint32_t sleeping;

	atomic_signal_fence(memory_order_seq_cst);
	if (l->fence)
		sleeping = atomic_fetch_or_explicit(&l->bell->sleeping, 0, memory_order_acq_rel);
	else
		sleeping = atomic_load_explicit(&l->bell->sleeping, memory_order_relaxed);
	if (__builtin_expect(sleeping != 0, 0))
		wake(l->port, l->bell, l->port->peers[l->peer].bell);
}

/* ---- posted transfers ---- */

static void busy_add(struct cx_lane *l)
{
	struct cx_port *port = l->port;

	if (l->busy)
		return;
	l->busy = true;
	l->next = port->busy;
	l->link = &port->busy;
	if (l->next)
		l->next->link = &l->next;
	port->busy = l;
}

static void busy_del(struct cx_lane *l)
{
	if (!l->busy)
		return;
	l->busy = false;
	*l->link = l->next;
	if (l->next)
		l->next->link = l->link;
}

static int post(struct cx_lane *l, struct cx_queue *q, struct cx_xfer *x)
{
	cx_queue_push(q, x);
	busy_add(l);
	return 0;
}

/* The lane is dead; all that was posted on it fails with err. */
static int fail(struct cx_lane *l, int err)
{
	assert(err < 0);
	l->err = err;
	cx_queue_fail(&l->recvs, err);
	cx_queue_fail(&l->sends, err);
	busy_del(l);
	return err;
}

static int fail_corrupt(struct cx_lane *l, const char *what, unsigned long long value)
{
	return fail(l, cx_fail(COLLX_ERR_CORRUPT, "rank %d lane %d: impossible %s %#llx", l->peer,
			       l->number, what, value));
}

static __attribute__((cold, noinline)) int
fail_mismatch(struct cx_lane *l, struct cx_xfer *x, uint32_t tag, uint64_t len)
{
	cx_fail(COLLX_ERR_MISMATCH, "rank %d lane %d sent %llu bytes tagged %08x, expected %zu "
		"tagged %08x", l->peer, l->number, (unsigned long long)len, tag, x->len, x->tag);
	x->tag = tag;
	x->done = (size_t)len;
	return fail(l, COLLX_ERR_MISMATCH);
}

/*
 * For data that is another core's or nobody's in cache. Plain vector moves: the C
 * library's `rep movsb` was 20 to 40 % slower here, non-temporal stores more.
 */
static void copy(void *to, const void *from, size_t n)
{
	typedef uint64_t vec __attribute__((vector_size(16)));
	const size_t step = sizeof(vec);
	unsigned char *d = to;
	const unsigned char *s = from;
	vec v0, v1, v2, v3;

	for (; n >= 4 * step; n -= 4 * step, d += 4 * step, s += 4 * step) {
		__builtin_prefetch(s + PREFETCH); /* also keeps it from becoming a memcpy */
		memcpy(&v0, s, step);
		memcpy(&v1, s + step, step);
		memcpy(&v2, s + 2 * step, step);
		memcpy(&v3, s + 3 * step, step);
		memcpy(d, &v0, step);
		memcpy(d + step, &v1, step);
		memcpy(d + 2 * step, &v2, step);
		memcpy(d + 3 * step, &v3, step);
	}
	if (n)
		memcpy(d, s, n);
}

/* ---- sending ---- */

/* 1: a slot is free; 0: none; negative: error. */
static int has_room(struct cx_lane *l)
{
	uint32_t consumed;

	if (l->sent - l->credit < SLOTS)
		return 1;
	/* Pairs with the release in give_back: the receiver has read those slots. */
	consumed = atomic_load_explicit(&l->out->consumed, memory_order_acquire);
	if (l->sent - consumed > SLOTS)
		return fail_corrupt(l, "credit", consumed);
	l->credit = consumed;
	return l->sent - consumed < SLOTS;
}

static struct line *out_line(struct cx_lane *l)
{
	return &l->out->line[l->sent % SLOTS];
}

static unsigned char *out_room(struct cx_lane *l)
{
	return l->out_data + l->sent % SLOTS * l->port->attr.chunk;
}

/* Short enough that a message of a few pieces is written and read at the same time. */
static size_t piece_room(const struct cx_lane *l, const struct cx_xfer *x)
{
	size_t n = cx_max(cx_round_up(x->len / (SLOTS / 2), CX_LINE), PIECE_MIN);

	return cx_min(cx_min(n, l->port->attr.chunk), x->len - x->done);
}

static void publish(struct cx_lane *l, struct cx_xfer *x, size_t n, uint32_t code)
{
	struct line *s = out_line(l);

	atomic_store_explicit(&s->tag, x->tag, memory_order_relaxed);
	/* Pairs with the acquire in take: the slot is filled. */
	atomic_store_explicit(&s->head, head_of(l->port, l->sent, code), memory_order_release);
	l->sent++;
	ring_bell(l);
	x->done += n;
	l->port->stats.sent_bytes += n;
	if (x->done == x->len) {
		l->port->stats.sent_messages++;
		x->status = 1;
	}
}

static void publish_piece(struct cx_lane *l, struct cx_xfer *x, size_t n)
{
	struct line *s = out_line(l);

	atomic_store_explicit(&s->body.piece.total, x->len, memory_order_relaxed);
	atomic_store_explicit(&s->body.piece.len, n, memory_order_relaxed);
	publish(l, x, n, CODE_PIECE);
}

/* Moves x as far as there is room. 1: done; 0: ring full; negative: error. */
static int push(struct cx_lane *l, struct cx_xfer *x)
{
	int room = has_room(l);

	if (room == 1 && x->len <= INLINE_MAX) {
		if (x->len)
			memcpy(out_line(l)->body.bytes, x->buf, x->len);
		publish(l, x, x->len, (uint32_t)x->len);
		return 1;
	}
	while (room == 1) {
		size_t n = piece_room(l, x);

		copy(out_room(l), (const char *)x->buf + x->done, n);
		publish_piece(l, x, n);
		if (x->status)
			return 1;
		room = has_room(l);
	}
	return room;
}

static int shm_send(struct cx_lane *l, struct cx_xfer *x)
{
	int moved;

	x->done = 0;
	x->status = l->err;
	if (l->err)
		return l->err;
	if (l->sends.head)
		return post(l, &l->sends, x);
	moved = push(l, x);
	if (moved < 0)
		x->status = moved;
	return moved ? moved : post(l, &l->sends, x);
}

static long shm_reserve(struct cx_lane *l, struct cx_xfer *x, void **room)
{
	int free_slot;

	if (l->err || l->sends.head)
		return l->err;
	assert(x->done < x->len);
	free_slot = has_room(l);
	if (free_slot <= 0)
		return free_slot;
	if (x->len <= INLINE_MAX) {
		*room = out_line(l)->body.bytes;
		return (long)x->len;
	}
	*room = out_room(l);
	return (long)piece_room(l, x);
}

static void shm_commit(struct cx_lane *l, struct cx_xfer *x, size_t n)
{
	assert(l->sent - l->credit < SLOTS && n > 0 && n <= x->len - x->done);
	assert(x->done + n == x->len || n % CX_LINE == 0);
	if (x->len <= INLINE_MAX)
		publish(l, x, n, (uint32_t)n);
	else
		publish_piece(l, x, n);
}

/* ---- receiving ---- */

/* A head that is not the awaited one: 0 if it is the slot's last, else damage. */
static int nothing_new(struct cx_lane *l, uint32_t head)
{
	uint32_t old = head_of(l->port, l->taken - SLOTS, 0);

	if ((head ^ old) >> 8 == 0 || (l->taken < SLOTS && head == 0))
		return 0;
	return fail_corrupt(l, "sequence", head);
}

/* As take, where the slot is not simply the inline message that x describes. */
static int take_piece(struct cx_lane *l, struct cx_xfer *x, struct line *s, uint32_t code,
		      uint32_t tag)
{
	uint64_t total = code, len = code, rest;

	if (code == CODE_PIECE) {
		total = atomic_load_explicit(&s->body.piece.total, memory_order_relaxed);
		len = atomic_load_explicit(&s->body.piece.len, memory_order_relaxed);
		if (total <= INLINE_MAX || len == 0 || len > l->port->attr.chunk)
			return fail_corrupt(l, "length", total <= INLINE_MAX ? total : len);
	} else if (code > INLINE_MAX) {
		return fail_corrupt(l, "code", code);
	}
	if (tag != x->tag || total != x->len)
		return fail_mismatch(l, x, tag, total);
	rest = total - x->done;
	if (len > rest || (len < rest && len % CX_LINE))
		return fail_corrupt(l, "piece length", len);
	l->at = l->in_data + l->taken % SLOTS * l->port->attr.chunk;
	l->left = len;
	l->held = true;
	return 1;
}

/* Takes the next slot in hand. 1: done; 0: nothing came; negative: error. */
static int take(struct cx_lane *l, struct cx_xfer *x)
{
	struct line *s = &l->in->line[l->taken % SLOTS];
	/* Pairs with the release in publish: all of the slot can be read. */
	uint32_t head = atomic_load_explicit(&s->head, memory_order_acquire);
	uint32_t code = head & 0xff, tag;

	if ((head ^ head_of(l->port, l->taken, 0)) >> 8)
		return nothing_new(l, head);
	tag = atomic_load_explicit(&s->tag, memory_order_relaxed);
	if (code > INLINE_MAX || code != x->len || tag != x->tag)
		return take_piece(l, x, s, code, tag);
	l->at = s->body.bytes;
	l->left = code;
	l->held = true;
	return 1;
}

/*
 * Done with the slot in hand. The word that says so is the sender's to read, so
 * writing it costs both of us a line: for short messages only each half turn.
 */
static void give_back(struct cx_lane *l, bool at_once)
{
	assert(l->held && l->left == 0);
	l->held = false;
	l->taken++;
	if (!at_once && l->taken - l->shown < SLOTS / 2)
		return;
	l->shown = l->taken;
	/* Pairs with the acquire in has_room: our reads of those slots are over. */
	atomic_store_explicit(&l->in->consumed, l->taken, memory_order_release);
	ring_bell(l);
}

static void shm_release(struct cx_lane *l, struct cx_xfer *x, size_t n)
{
	assert(l->held && n <= l->left && (n == l->left || n % CX_LINE == 0));
	l->at += n;
	l->left -= n;
	x->done += n;
	l->port->stats.received_bytes += n;
	if (l->left == 0)
		give_back(l, x->len > INLINE_MAX);
	if (x->done == x->len) {
		l->port->stats.received_messages++;
		x->status = 1;
	}
}

/* Moves x as far as it has come. 1: done; 0: not yet; negative: error. */
static int pull(struct cx_lane *l, struct cx_xfer *x)
{
	int taken;

	while ((taken = take(l, x)) == 1) {
		copy((char *)x->buf + x->done, l->at, l->left);
		shm_release(l, x, l->left);
		if (x->status)
			return 1;
	}
	return taken;
}

static int shm_recv(struct cx_lane *l, struct cx_xfer *x)
{
	int moved;

	assert(!l->held);
	x->done = 0;
	x->status = l->err;
	if (l->err)
		return l->err;
	if (l->recvs.head)
		return post(l, &l->recvs, x);
	moved = pull(l, x);
	if (moved < 0)
		x->status = moved;
	return moved ? moved : post(l, &l->recvs, x);
}

static long shm_peek(struct cx_lane *l, struct cx_xfer *x, const void **data)
{
	int taken;

	if (l->err || l->recvs.head)
		return l->err;
	assert(x->done < x->len);
	if (!l->held) {
		taken = take(l, x);
		if (taken <= 0)
			return taken;
	}
	*data = l->at;
	return (long)l->left;
}

/* ---- progress ---- */

static int shm_progress(struct cx_port *port)
{
	struct cx_lane *l, *next;
	bool moved = false;

	for (l = port->busy; l; l = next) {
		next = l->next;
		moved |= cx_queue_advance(&l->recvs, l, pull);
		moved |= cx_queue_advance(&l->sends, l, push);
		if (!l->recvs.head && !l->sends.head)
			busy_del(l);
	}
	return moved;
}

/* ---- sleeping ---- */

static int membarrier(int cmd)
{
	return (int)syscall(SYS_membarrier, cmd, 0, 0);
}

static void shm_arm(struct cx_port *port)
{
	port->heard = atomic_load_explicit(&port->head->doorbell, memory_order_relaxed);
	/* Pairs with the exchange in wake and the read-modify-write in ring_bell. */
	atomic_exchange_explicit(&port->head->sleeping, 1, memory_order_acq_rel);
	/* Pairs with the plain load in ring_bell. */
	if (port->expedited)
		membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED);
}

static void shm_sleep(struct cx_port *port, uint64_t timeout_ns)
{
	struct timespec t = { .tv_sec = (time_t)(timeout_ns / 1000000000u),
			      .tv_nsec = (long)(timeout_ns % 1000000000u) };

	eventfd_t rung;

	if (timeout_ns && port->bell < 0)
		syscall(SYS_futex, &port->head->doorbell, FUTEX_WAIT, port->heard, &t, NULL, 0);
	else if (timeout_ns)
		ppoll(&(struct pollfd){ .fd = port->bell, .events = POLLIN }, 1, &t, NULL);
	port->stats.sleeps += timeout_ns > 0;
	atomic_store_explicit(&port->head->sleeping, 0, memory_order_relaxed);
	/* A late ring is taken for the next sleep's, which then ends at once. */
	if (port->bell >= 0)
		eventfd_read(port->bell, &rung);
}

static int shm_wait_fds(struct cx_port *port, struct pollfd *fds, unsigned *n)
{
	fds[0] = (struct pollfd){ .fd = port->bell, .events = POLLIN };
	*n = 1;
	return 0;
}

/* ---- ports ---- */

static struct geometry geometry_of(const struct cx_port *port, int rank)
{
	const struct cx_port_attr *a = &port->attr;
	struct geometry g = { .magic = MAGIC, .version = VERSION, .nonce = a->nonce,
			      .rank = (uint32_t)rank, .ranks = (uint32_t)a->ranks,
			      .lanes = (uint32_t)a->lanes, .slots = SLOTS, .chunk = a->chunk };

	return g;
}

/* How much inbound memory a port has; 0: the attributes make no sense. */
static size_t memory_size(const struct cx_port_attr *a)
{
	size_t rings, lines, data;

	if (a->ranks < 1 || a->rank < 0 || a->rank >= a->ranks || a->lanes < 1 ||
	    a->chunk < CX_LINE || a->chunk > CHUNK_MAX || a->chunk % CX_LINE)
		return 0;
	rings = (size_t)a->ranks * (size_t)a->lanes;
	if (__builtin_mul_overflow(rings, sizeof(struct ring), &lines) ||
	    __builtin_mul_overflow(rings, SLOTS * a->chunk, &data) ||
	    data > INT64_MAX - PAGE || lines > INT64_MAX - 3 * PAGE - data)
		return 0;
	return PAGE + cx_round_up(lines, PAGE) + cx_round_up(data, PAGE);
}

static void *map_shared(int fd, size_t bytes)
{
	void *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (mem == MAP_FAILED)
		return NULL;
	/* A forked child must neither write here nor keep it alive. */
	madvise(mem, bytes, MADV_DONTFORK);
	return mem;
}

/* Pages of the receiver's node, whoever touches them first. Merely a wish. */
static void prefer_node(void *mem, size_t bytes, int node)
{
	unsigned long mask[16] = { 0 };
	const int bits = 8 * (int)sizeof(mask[0]);

	if (node < 0 || node >= 16 * bits)
		return;
	mask[node / bits] = 1ul << node % bits;
	syscall(SYS_mbind, mem, bytes, MPOL_PREFERRED, mask, 16 * bits + 1, 0);
}

static int make_bell(struct cx_port *port)
{
	if (!port->attr.pollable)
		return 0;
	port->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (port->bell < 0)
		return cx_fail_errno(errno, "eventfd");
	cx_fd_own(port->bell);
	return 0;
}

static int make_memory(struct cx_port *port)
{
	port->fd = memfd_create("collx", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (port->fd < 0)
		return cx_fail_errno(errno, "memfd_create");
	cx_fd_own(port->fd);
	if (ftruncate(port->fd, (off_t)port->bytes) || fcntl(port->fd, F_ADD_SEALS, SEALS))
		return cx_fail_errno(errno, "shared memory of %zu bytes", port->bytes);
	port->head = map_shared(port->fd, port->bytes);
	if (!port->head)
		return cx_fail_errno(errno, "mmap of %zu bytes of shared memory", port->bytes);
	prefer_node(port->head, port->bytes, port->attr.numa_node);
	port->head->geo = geometry_of(port, port->attr.rank);
	port->head->expedited = port->expedited;
	return 0;
}

static void shm_close(struct cx_port *port)
{
	assert(!port->busy);
	if (port->head)
		munmap(port->head, port->bytes);
	if (port->fd >= 0)
		cx_sys->close(port->fd);
	if (port->bell >= 0)
		cx_sys->close(port->bell);
	cx_free(port->opened);
	cx_free(port->peers);
	cx_free(port);
}

static int shm_port_open(struct cx_port **out, const struct cx_port_attr *attr)
{
	size_t bytes = memory_size(attr);
	struct cx_port *port;
	int err = COLLX_ERR_NOMEM;

	if (!bytes)
		return cx_fail(COLLX_ERR_INVALID, "shm: rank %d of %d, %d lanes, chunk %zu",
			       attr->rank, attr->ranks, attr->lanes, attr->chunk);
	port = cx_alloc(1, sizeof(*port));
	if (!port)
		return COLLX_ERR_NOMEM;
	port->attr = *attr;
	port->bytes = bytes;
	port->fd = port->bell = -1;
	port->base = (uint32_t)attr->nonce & (SEQ_MASK - SLOTS + 1);
	/* The first heads must differ from fresh memory. */
	if (((port->base + SLOTS) & SEQ_MASK) == 0)
		port->base = 0;
	port->expedited = !membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED);
	port->peers = cx_alloc((size_t)attr->ranks, sizeof(*port->peers));
	port->opened = cx_alloc((size_t)attr->ranks, (size_t)attr->lanes);
	if (port->peers && port->opened)
		err = make_memory(port);
	if (!err)
		err = make_bell(port);
	if (err)
		shm_close(port);
	else
		*out = port;
	return err;
}

static int shm_addr(struct cx_port *port, struct cx_addr *addr)
{
	struct geometry g = geometry_of(port, port->attr.rank);

	memset(addr, 0, sizeof(*addr));
	addr->len = sizeof(g);
	memcpy(addr->bytes, &g, sizeof(g));
	addr->fd = port->fd;
	addr->bell = port->bell;
	return 0;
}

static int shm_cost(struct cx_port *port, const struct cx_addr *peer, struct cx_cost *out)
{
	(void)port, (void)peer;
	out->alpha_ns = 150;
	out->beta_ns_per_byte = 0.15;
	return 0;
}

static void shm_stats(struct cx_port *port, struct cx_port_stats *out)
{
	*out = port->stats;
}

/* ---- lanes ---- */

static int check_geometry(const struct cx_port *port, int peer, const struct geometry *g)
{
	struct geometry want = geometry_of(port, peer);

	if (g->magic != want.magic || g->version != want.version)
		return cx_fail(COLLX_ERR_VERSION, "rank %d: shared memory of another version",
			       peer);
	if (memcmp(g, &want, sizeof(want)))
		return cx_fail(COLLX_ERR_MISMATCH, "rank %d: shared memory of another "
			       "communicator or geometry", peer);
	return 0;
}

/* Memory that cannot shrink under us, of the size we will index. */
static int check_memory(const struct cx_port *port, int peer, int fd)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	if (fstat(fd, &st) || seals < 0)
		return cx_fail_errno(errno, "the shared memory of rank %d", peer);
	if ((seals & SEALS) != SEALS || (uint64_t)st.st_size != port->bytes)
		return cx_fail(COLLX_ERR_CORRUPT,
			       "rank %d: shared memory of %lld bytes, seals %#x; expected %zu, %#x",
			       peer, (long long)st.st_size, (unsigned)seals, port->bytes, SEALS);
	return 0;
}

/* All ports of a communicator are pollable, or none is. */
static int take_bell(struct cx_port *port, int peer, int fd)
{
	struct peer *p = &port->peers[peer];

	p->bell = -1;
	if (!port->attr.pollable)
		return 0;
	if (fd < 0)
		return cx_fail(COLLX_ERR_CORRUPT, "rank %d: no descriptor to wake it by", peer);
	p->bell = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (p->bell < 0)
		return cx_fail_errno(errno, "a descriptor to wake rank %d by", peer);
	cx_fd_own(p->bell);
	return 0;
}

static int map_peer(struct cx_port *port, int peer, const struct cx_addr *addr)
{
	struct geometry g;
	struct header *h;
	int err;

	if (addr->len != sizeof(g))
		return cx_fail(COLLX_ERR_CORRUPT, "rank %d: shm address of %u bytes", peer,
			       addr->len);
	memcpy(&g, addr->bytes, sizeof(g));
	err = check_geometry(port, peer, &g);
	if (err || port->peers[peer].mem)
		return err;
	err = check_memory(port, peer, addr->fd);
	if (err)
		return err;
	h = map_shared(addr->fd, port->bytes);
	if (!h)
		return cx_fail_errno(errno, "mmap of rank %d's shared memory", peer);
	memcpy(&g, &h->geo, sizeof(g));
	err = check_geometry(port, peer, &g);
	if (!err)
		err = take_bell(port, peer, addr->bell);
	if (err)
		munmap(h, port->bytes);
	else
		port->peers[peer].mem = (unsigned char *)h;
	return err;
}

static void lane_init(struct cx_lane *l, struct cx_port *port, int peer, int number)
{
	unsigned char *mine = (unsigned char *)port->head, *theirs = port->peers[peer].mem;

	l->port = port;
	l->peer = peer;
	l->number = number;
	l->bell = (struct header *)(void *)theirs;
	/* A peer that lies here only loses its own wake-ups. */
	l->fence = !port->expedited || !l->bell->expedited;
	l->in = ring_at(port, mine, peer, number);
	l->in_data = data_at(port, mine, peer, number);
	l->out = ring_at(port, theirs, port->attr.rank, number);
	l->out_data = data_at(port, theirs, port->attr.rank, number);
	cx_queue_init(&l->recvs);
	cx_queue_init(&l->sends);
}

static int shm_lane_open(struct cx_port *port, int peer, const struct cx_addr *addr, int number,
			 struct cx_lane **out)
{
	const struct cx_port_attr *a = &port->attr;
	unsigned char *opened;
	struct cx_lane *l;
	int err;

	if (peer < 0 || peer >= a->ranks || peer == a->rank || number < 0 || number >= a->lanes)
		return cx_fail(COLLX_ERR_INVALID, "shm: lane %d to rank %d", number, peer);
	opened = &port->opened[(size_t)peer * (size_t)a->lanes + (size_t)number];
	if (*opened)
		return cx_fail(COLLX_ERR_INVALID, "shm: lane %d to rank %d was open before",
			       number, peer);
	l = cx_alloc(1, sizeof(*l));
	if (!l)
		return COLLX_ERR_NOMEM;
	err = map_peer(port, peer, addr);
	if (err) {
		cx_free(l);
		return err;
	}
	*opened = 1;
	port->peers[peer].users++;
	lane_init(l, port, peer, number);
	*out = l;
	return 0;
}

static void shm_lane_close(struct cx_lane *l)
{
	struct peer *p = &l->port->peers[l->peer];

	busy_del(l);
	if (--p->users == 0) {
		munmap(p->mem, l->port->bytes);
		if (p->bell >= 0)
			cx_sys->close(p->bell);
		p->mem = NULL;
	}
	cx_free(l);
}

const struct cx_transport cx_transport_shm = {
	.name = "shm",
	.open = shm_port_open,
	.close = shm_close,
	.addr = shm_addr,
	.cost = shm_cost,
	.lane_open = shm_lane_open,
	.lane_close = shm_lane_close,
	.send = shm_send,
	.recv = shm_recv,
	.progress = shm_progress,
	.peek = shm_peek,
	.release = shm_release,
	.reserve = shm_reserve,
	.commit = shm_commit,
	.arm = shm_arm,
	.sleep = shm_sleep,
	.wait_fds = shm_wait_fds,
	.reg = cx_stub_reg,
	.dereg = cx_stub_dereg,
	.stats = shm_stats,
};
