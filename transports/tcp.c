/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Transport over connected stream sockets: TCP, or a pair of unix sockets. The
 * control plane makes and authenticates one connection per lane; lane_open takes
 * its own duplicate of it. A message on the wire is a header and the payload:
 *
 *   u32 tag | u32 check | u64 len          little-endian
 *
 * check is a hash of the other fields, the communicator's nonce, the sender, the
 * lane and the message's number: a stray connection or a lost byte shows at the
 * next header. Nothing is delivered before a header was compared.
 *
 * What is read goes into the lane's staging memory:
 *
 *   staging      at            end          staging + STAGING
 *      |  given   |   unread    |    free    |
 *
 * A long message that is to go to a posted buffer is read straight to there once
 * its header is known. Nobody reads further than the header behind a long
 * message, so that one is not copied twice and its pieces lie on whole lines.
 *
 * Invariants: before each read less than a line is unread, and it moves to the
 * front; header and payload are placed so that the payload begins on a line.
 * Every call makes at most one read for a header and one for payload.
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "src/base/base.h"
#include "transports/queue.h"
#include "transports/transport.h"

enum {
	STAGING = 65536,
	LONG = 16384,  /* where a read more costs less than copying */
	TURN = 262144 /* most payload of one system call: the other way waits meanwhile */
};

struct header {
	uint32_t tag, check;
	uint64_t len;
};
_Static_assert(sizeof(struct header) == 16, "as on the wire");

struct cx_lane {
	/* receiving */
	unsigned char *staging, *at, *end;
	bool begun;              /* the next message's header was compared */
	uint64_t in_hash, begins; /* messages begun so far */
	uint64_t peeked;         /* port->armed when a peek last found nothing */
	struct cx_queue recvs;
	/* sending */
	size_t headed;           /* bytes of the first message's header that are gone */
	uint64_t out_hash, sent;
	struct cx_queue sends;
	/* both */
	struct cx_port *port;
	int fd, peer, number, err;
	bool busy;               /* on the port's list */
	struct cx_lane *next, **link;
};

struct cx_port {
	struct cx_port_attr attr;
	struct cx_port_stats stats;
	struct cx_lane *busy;    /* lanes with something posted */
	struct cx_lane **lanes;  /* [peer][number] */
	struct pollfd *fds;      /* as many */
	uint64_t armed;          /* times, from 1 */
};

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

static int fail_errno(struct cx_lane *l, int err)
{
	if (err == 0 || err == EPIPE || err == ECONNRESET)
		return fail(l, cx_fail(COLLX_ERR_PEER_DEAD, "rank %d closed its connection",
				       l->peer));
	cx_fail_errno(err, "rank %d lane %d: the connection", l->peer, l->number);
	return fail(l, COLLX_ERR_LINK);
}

/* Moves x on at once if nothing is before it, and posts what is left of it. */
static int start(struct cx_lane *l, struct cx_queue *q, struct cx_xfer *x,
		 int (*move)(struct cx_lane *, struct cx_xfer *))
{
	int moved = 0;

	x->done = 0;
	x->status = l->err;
	if (l->err)
		return l->err;
	if (!q->head)
		moved = move(l, x);
	if (moved < 0)
		x->status = moved;
	if (moved)
		return moved;
	cx_queue_push(q, x);
	busy_add(l);
	return 0;
}

/* ---- headers ---- */

/* What the headers of one lane and direction have in common. */
static uint64_t hash_of(const struct cx_port *port, int from, int number)
{
	return (port->attr.nonce ^ (uint64_t)from << 32 ^ (uint64_t)number) * 0x9e3779b97f4a7c15u;
}

static struct header header_of(uint64_t hash, uint64_t count, uint32_t tag, uint64_t len)
{
	uint64_t h = (hash + count) * 0xbf58476d1ce4e5b9u;

	h = (h ^ h >> 29 ^ len) * 0x94d049bb133111ebu;
	h = (h ^ h >> 32 ^ tag) * 0x9e3779b97f4a7c15u;
	return (struct header){ htole32(tag), htole32((uint32_t)(h >> 32)), htole64(len) };
}

/* Is the header that came in x's? 1, or an error. */
static int compare(struct cx_lane *l, struct cx_xfer *x, const struct header *got)
{
	struct header want = header_of(l->in_hash, l->begins, x->tag, x->len);
	uint32_t tag = le32toh(got->tag);
	uint64_t len = le64toh(got->len);

	if (!memcmp(got, &want, sizeof(want)))
		return 1;
	want = header_of(l->in_hash, l->begins, tag, len);
	if (got->check == want.check && len <= PTRDIFF_MAX) {
		cx_fail(COLLX_ERR_MISMATCH, "rank %d lane %d sent %llu bytes tagged %08x, "
			"expected %zu tagged %08x", l->peer, l->number, (unsigned long long)len,
			tag, x->len, x->tag);
		x->tag = tag;
		x->done = (size_t)len;
		return fail(l, COLLX_ERR_MISMATCH);
	}
	return fail(l, cx_fail(COLLX_ERR_CORRUPT, "rank %d lane %d: damaged header of message "
			       "%llu: tag %08x, length %llu", l->peer, l->number,
			       (unsigned long long)l->begins, tag, (unsigned long long)len));
}

/* ---- sending ---- */

/* Gives the socket what it takes of x. 1: all; 0: not all; negative: error. */
static int push(struct cx_lane *l, struct cx_xfer *x)
{
	struct header h = header_of(l->out_hash, l->sent, x->tag, x->len);
	size_t left = sizeof(h) - l->headed, n = cx_min(x->len - x->done, TURN);
	struct iovec v[2] = { { (char *)&h + l->headed, left } };
	struct msghdr m = { .msg_iov = v, .msg_iovlen = 1 + (n > 0) };
	ssize_t gone;

	if (n)
		v[1] = (struct iovec){ (char *)x->buf + x->done, n };
	do
		gone = sendmsg(l->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (gone < 0 && errno == EINTR);
	if (gone < 0)
		return errno == EAGAIN ? 0 : fail_errno(l, errno);
	left = cx_min(left, (size_t)gone);
	n = (size_t)gone - left;
	l->headed += left;
	x->done += n;
	l->port->stats.sent_bytes += n;
	if (l->headed < sizeof(h) || x->done < x->len)
		return 0;
	l->headed = 0;
	l->sent++;
	l->port->stats.sent_messages++;
	x->status = 1;
	return 1;
}

static int tcp_send(struct cx_lane *l, struct cx_xfer *x)
{
	return start(l, &l->sends, x, push);
}

/* ---- receiving ---- */

static size_t unread(const struct cx_lane *l)
{
	return (size_t)(l->end - l->at);
}

/* One read. Bytes; 0: nothing there; negative: error. */
static ssize_t read_into(struct cx_lane *l, struct iovec *v, size_t n)
{
	struct msghdr m = { .msg_iov = v, .msg_iovlen = n };
	ssize_t got;

	do
		got = n > 1 ? recvmsg(l->fd, &m, MSG_DONTWAIT)
			    : recv(l->fd, v->iov_base, v->iov_len, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got > 0)
		return got;
	if (got < 0 && errno == EAGAIN)
		return 0;
	return fail_errno(l, got < 0 ? errno : 0);
}

/* Reads until `most` bytes are unread, or less. 1: some came; 0: none; negative: error. */
static int stage(struct cx_lane *l, size_t most)
{
	size_t have = unread(l), before = l->begun ? 0 : CX_LINE - sizeof(struct header);
	struct iovec v;
	ssize_t got;

	assert(have < CX_LINE && have < most);
	l->at = memmove(l->staging + before, l->at, have);
	l->end = l->at + have;
	v = (struct iovec){ l->end, cx_min(most, STAGING - before) - have };
	got = read_into(l, &v, 1);
	if (got <= 0)
		return (int)got;
	l->end += got;
	return 1;
}

/* Looks for the header of x's message. 1: it was seen; 0: it is not here; negative: error. */
static int begin(struct cx_lane *l, struct cx_xfer *x, size_t most)
{
	struct header h;
	int r;

	if (l->begun)
		return 1;
	assert(x->done == 0);
	if (unread(l) < sizeof(h)) {
		r = stage(l, most);
		if (r <= 0)
			return r;
		if (unread(l) < sizeof(h))
			return 0;
	}
	memcpy(&h, l->at, sizeof(h));
	r = compare(l, x, &h);
	if (r == 1) {
		l->at += sizeof(h);
		l->begun = true;
		l->begins++;
	}
	return r;
}

/* n bytes of x's message were given. */
static void account(struct cx_lane *l, struct cx_xfer *x, size_t n)
{
	x->done += n;
	l->port->stats.received_bytes += n;
	if (x->done < x->len)
		return;
	l->begun = false;
	l->port->stats.received_messages++;
	x->status = 1;
}

static void tcp_release(struct cx_lane *l, struct cx_xfer *x, size_t n)
{
	assert(l->begun && n <= unread(l) && n <= x->len - x->done);
	l->at += n;
	account(l, x, n);
}

/* Reads payload to where it belongs and, behind it, the next header. */
static int read_direct(struct cx_lane *l, struct cx_xfer *x)
{
	size_t rest = x->len - x->done, n = cx_min(rest, TURN);
	struct iovec v[2] = { { (char *)x->buf + x->done, n } };
	ssize_t got;

	assert(unread(l) == 0);
	l->at = l->end = l->staging + CX_LINE - sizeof(struct header);
	v[1] = (struct iovec){ l->at, sizeof(struct header) };
	got = read_into(l, v, n == rest ? 2 : 1);
	if (got <= 0)
		return (int)got;
	n = cx_min(n, (size_t)got);
	l->end += (size_t)got - n;
	account(l, x, n);
	return 1;
}

/* Moves x as far as it has come. 1: done; 0: not yet; negative: error. */
static int pull(struct cx_lane *l, struct cx_xfer *x)
{
	int r = begin(l, x, x->len > LONG ? sizeof(struct header) : STAGING);
	size_t n;

	if (r <= 0)
		return r;
	n = cx_min(unread(l), x->len - x->done);
	if (n)
		memcpy((char *)x->buf + x->done, l->at, n);
	tcp_release(l, x, n);
	if (!x->status)
		r = read_direct(l, x);
	return r < 0 ? r : x->status;
}

static int tcp_recv(struct cx_lane *l, struct cx_xfer *x)
{
	return start(l, &l->recvs, x, pull);
}

/* Bytes of x's message that can be shown. */
static size_t piece(const struct cx_lane *l, const struct cx_xfer *x)
{
	size_t rest = x->len - x->done, have = unread(l);

	return cx_min(have < rest ? have / CX_LINE * CX_LINE : rest, l->port->attr.chunk);
}

static long tcp_peek(struct cx_lane *l, struct cx_xfer *x, const void **data)
{
	const size_t head = sizeof(struct header);
	size_t more = x->len > LONG ? x->len - x->done + head : STAGING;
	int r = 0;

	if (l->err)
		return l->err;
	assert(x->done < x->len);
	if (!l->recvs.head)
		r = begin(l, x, more + head);
	if (r == 1 && !piece(l, x))
		r = stage(l, more);
	if (r == 1 && piece(l, x)) {
		*data = l->at;
		return (long)piece(l, x);
	}
	if (r >= 0)
		l->peeked = l->port->armed;
	return r < 0 ? r : 0;
}

/* ---- progress ---- */

static int tcp_progress(struct cx_port *port)
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

static void tcp_arm(struct cx_port *port)
{
	port->armed++;
}

static size_t table_len(const struct cx_port *port)
{
	return (size_t)port->attr.ranks * (size_t)port->attr.lanes;
}

/* What to wait for: a lane that nobody waits for would only keep us awake. */
static short awaited(const struct cx_lane *l)
{
	bool in = l->recvs.head || l->peeked == l->port->armed;

	return (short)((in ? POLLIN : 0) | (l->sends.head ? POLLOUT : 0));
}

/* Behind a posted receive that is done, a message may have come into staging, or an
 * error, that a peek before it did not see. */
static bool unseen(const struct cx_lane *l)
{
	return l->err || (!l->begun && unread(l) >= sizeof(struct header));
}

static int tcp_wait_fds(struct cx_port *port, struct pollfd *fds, unsigned *n)
{
	size_t i;

	*n = 0;
	for (i = 0; i < table_len(port); i++) {
		const struct cx_lane *l = port->lanes[i];
		short events = l ? awaited(l) : 0;

		if (!events)
			continue;
		if (unseen(l))
			return 1;
		fds[(*n)++] = (struct pollfd){ .fd = l->fd, .events = events };
	}
	return 0;
}

static void tcp_sleep(struct cx_port *port, uint64_t timeout_ns)
{
	struct timespec t = { .tv_sec = (time_t)(timeout_ns / 1000000000u),
			      .tv_nsec = (long)(timeout_ns % 1000000000u) };
	unsigned n;

	if (!timeout_ns || tcp_wait_fds(port, port->fds, &n))
		return;
	port->stats.sleeps++;
	ppoll(port->fds, n, &t, NULL);
}

/* ---- ports ---- */

static void tcp_close(struct cx_port *port)
{
	assert(!port->busy);
	cx_free(port->fds);
	cx_free(port->lanes);
	cx_free(port);
}

static int tcp_open(struct cx_port **out, const struct cx_port_attr *attr)
{
	struct cx_port *port;

	if (attr->ranks < 1 || attr->rank < 0 || attr->rank >= attr->ranks || attr->lanes < 1 ||
	    attr->chunk < CX_LINE || attr->chunk % CX_LINE)
		return cx_fail(COLLX_ERR_INVALID, "tcp: rank %d of %d, %d lanes, chunk %zu",
			       attr->rank, attr->ranks, attr->lanes, attr->chunk);
	port = cx_alloc(1, sizeof(*port));
	if (!port)
		return COLLX_ERR_NOMEM;
	port->attr = *attr;
	port->armed = 1;
	port->lanes = cx_alloc(table_len(port), sizeof(*port->lanes));
	port->fds = cx_alloc(table_len(port), sizeof(*port->fds));
	if (!port->lanes || !port->fds) {
		tcp_close(port);
		return COLLX_ERR_NOMEM;
	}
	*out = port;
	return 0;
}

/* There is none to tell: connections come from the control plane. */
static int tcp_addr(struct cx_port *port, struct cx_addr *addr)
{
	(void)port;
	*addr = (struct cx_addr){ .fd = -1, .bell = -1 };
	return 0;
}

static int tcp_cost(struct cx_port *port, const struct cx_addr *peer, struct cx_cost *out)
{
	(void)port, (void)peer;
	out->alpha_ns = 15000;
	out->beta_ns_per_byte = 0.4;
	return 0;
}

static void tcp_stats(struct cx_port *port, struct cx_port_stats *out)
{
	*out = port->stats;
}

/* ---- lanes ---- */

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_storage room;
};

static bool same_host(const union address *a, const union address *b)
{
	if (a->any.sa_family == AF_INET)
		return a->in.sin_addr.s_addr == b->in.sin_addr.s_addr ||
		       ntohl(b->in.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	return a->any.sa_family == AF_INET6 &&
	       IN6_ARE_ADDR_EQUAL(&a->in6.sin6_addr, &b->in6.sin6_addr);
}

/* Wishes: a socket that has no such option will do without. */
static void tune(int fd, bool local)
{
	static const struct {
		int level, name, value;
	} wishes[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, 5 },
		{ IPPROTO_TCP, TCP_KEEPINTVL, 5 },
		{ IPPROTO_TCP, TCP_KEEPCNT, 5 },
	};
	size_t i;

	for (i = 0; i < sizeof(wishes) / sizeof(wishes[0]); i++)
		setsockopt(fd, wishes[i].level, wishes[i].name, &wishes[i].value,
			   sizeof(wishes[i].value));
	/* bbr, where it is the default, paces a stream that no link slows down. */
	if (local && setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5))
		setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
}

/* The other end is gone: that shows where it is used, and why may be told before. */
static bool was_reset(int fd)
{
	socklen_t len = sizeof(int);
	int err = 0;

	return !getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) && err;
}

/* A duplicate of the lane's connection, made fit; or an error. */
static int take_socket(struct cx_lane *l, int fd)
{
	union address here = { 0 }, there = { 0 };
	socklen_t n = sizeof(here), m = sizeof(there), len = sizeof(int);
	int type = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) || getsockname(fd, &here.any, &n) ||
	    (getpeername(fd, &there.any, &m) && !(errno == ENOTCONN && was_reset(fd))))
		return cx_fail_errno(errno, "the connection with rank %d, lane %d", l->peer,
				     l->number);
	if (type != SOCK_STREAM)
		return cx_fail(COLLX_ERR_INVALID,
			       "the connection with rank %d, lane %d: not a stream socket", l->peer,
			       l->number);
	/* Not one of the numbers that a careless program prints to. */
	l->fd = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (l->fd < 0)
		return cx_fail_errno(errno, "the connection with rank %d, lane %d", l->peer,
				     l->number);
	cx_fd_own(l->fd);
	tune(l->fd, same_host(&here, &there));
	return 0;
}

static void lane_free(struct cx_lane *l)
{
	if (l->fd >= 0)
		cx_sys->close(l->fd);
	cx_free(l->staging);
	cx_free(l);
}

static int lane_make(struct cx_port *port, int peer, int number, int fd, struct cx_lane **out)
{
	struct cx_lane *l = cx_alloc(1, sizeof(*l));
	int err = COLLX_ERR_NOMEM;

	if (!l)
		return err;
	l->port = port;
	l->peer = peer;
	l->number = number;
	l->fd = -1;
	l->in_hash = hash_of(port, peer, number);
	l->out_hash = hash_of(port, port->attr.rank, number);
	cx_queue_init(&l->recvs);
	cx_queue_init(&l->sends);
	l->at = l->end = l->staging = cx_buffer(1, STAGING);
	if (l->staging)
		err = take_socket(l, fd);
	if (err)
		lane_free(l);
	else
		*out = l;
	return err;
}

static int tcp_lane_open(struct cx_port *port, int peer, const struct cx_addr *addr, int number,
			 struct cx_lane **out)
{
	const struct cx_port_attr *a = &port->attr;
	struct cx_lane **slot;
	int err;

	if (peer < 0 || peer >= a->ranks || peer == a->rank || number < 0 || number >= a->lanes)
		return cx_fail(COLLX_ERR_INVALID, "tcp: lane %d to rank %d", number, peer);
	slot = &port->lanes[(size_t)peer * (size_t)a->lanes + (size_t)number];
	if (*slot)
		return cx_fail(COLLX_ERR_INVALID, "tcp: lane %d to rank %d is open", number, peer);
	err = lane_make(port, peer, number, addr->fd, slot);
	if (!err)
		*out = *slot;
	return err;
}

/* A connection that is closed over unread bytes is reset, and what was sent last may be
 * lost with it. So they are read, as far as they have come. */
static void discard(struct cx_lane *l)
{
	int reads = 64;

	while (reads-- > 0 && recv(l->fd, l->staging, STAGING, MSG_DONTWAIT) > 0)
		;
}

static void tcp_lane_close(struct cx_lane *l)
{
	const struct cx_port_attr *a = &l->port->attr;

	busy_del(l);
	discard(l);
	l->port->lanes[(size_t)l->peer * (size_t)a->lanes + (size_t)l->number] = NULL;
	lane_free(l);
}

const struct cx_transport cx_transport_tcp = {
	.name = "tcp",
	.wants_connection = 1,
	.open = tcp_open,
	.close = tcp_close,
	.addr = tcp_addr,
	.cost = tcp_cost,
	.lane_open = tcp_lane_open,
	.lane_close = tcp_lane_close,
	.send = tcp_send,
	.recv = tcp_recv,
	.progress = tcp_progress,
	.peek = tcp_peek,
	.release = tcp_release,
	.reserve = cx_stub_reserve,
	.commit = cx_stub_commit,
	.arm = tcp_arm,
	.sleep = tcp_sleep,
	.wait_fds = tcp_wait_fds,
	.reg = cx_stub_reg,
	.dereg = cx_stub_dereg,
	.stats = tcp_stats,
};
