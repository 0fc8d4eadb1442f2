/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stream sockets as Linux has them, unix and tcp, and the links between hosts.
 *
 * What one end of a tcp connection sends lies in its flight, in order, until its time
 * has come; then it is the other end's. A cut link holds it back, as a network does
 * that drops packets and a kernel that sends them again; only a reset is lost for
 * good. A unix socket has no flight: what is sent is there.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>

#include "world.h"

enum kind { UNIX_STREAM, TCP_STREAM, DATAGRAM, BELL };
enum state { FRESH, BOUND, LISTENING, CONNECTING, CONNECTED };
enum what { SYN, ACCEPTED, DATA, FIN, RST, CREDIT };

/* What is under way from one end to the other. */
struct item {
	struct item *next;
	enum what what;
	uint64_t at;
	size_t len; /* of DATA and CREDIT */
	char bytes[];
};

/* A descriptor that came with bytes of a unix socket. */
struct passed {
	struct passed *next;
	uint64_t at, end; /* of the bytes of its message, counted from the first ever */
	struct sim_sock *sock;
};

struct sim_sock {
	enum kind kind;
	enum state state;
	struct sim_proc *owner; /* who made it */
	int refs;
	bool closed;            /* no descriptor is left */
	struct sockaddr_storage local, to;
	socklen_t local_len;
	struct sim_sock *peer;
	int err;                /* told once */
	bool eof, reset;
	bool finished;          /* sends no more */
	size_t room;            /* bytes it may still send */
	char *in;               /* sim.params.buffer bytes, a ring */
	uint64_t got, read;     /* bytes that came and that were read, ever */
	struct passed *passed;
	struct item *flight, **flight_end;
	uint64_t last_at;
	bool busy, held;        /* an event will go on with flight; a cut holds it */
	struct sim_sock *queue, **queue_end, *next_queued; /* of a listener */
	int queued, backlog;
	bool rung;
	struct sim_waiter *waiters;
	struct sim_sock *next;  /* in all */
};

static struct sim_sock *all;
static uint16_t next_port[SIM_HOSTS];
static char heard[128];
static size_t heard_len;

void sim_net_forget(void)
{
	heard_len = 0;
	all = NULL;
	memset(next_port, 0, sizeof(next_port));
}

/* ---- waiting ---- */

void sim_sock_wait(struct sim_sock *s, struct sim_waiter *w)
{
	w->link = &s->waiters;
	w->next = s->waiters;
	if (w->next)
		w->next->link = &w->next;
	s->waiters = w;
}

void sim_sock_unwait(struct sim_waiter *w)
{
	*w->link = w->next;
	if (w->next)
		w->next->link = w->link;
}

static void changed(struct sim_sock *s)
{
	for (struct sim_waiter *w = s->waiters; w; w = w->next)
		sim_task_wake(w->task);
}

static bool takes_bytes(const struct sim_sock *s)
{
	size_t used = sim.params.buffer - s->room;

	return s->kind == UNIX_STREAM ? 4 * used <= sim.params.buffer
				      : 3 * s->room >= sim.params.buffer && s->room;
}

/* Does nobody read any more what is sent here, as is seen at once? */
static bool is_cut_off(const struct sim_sock *s)
{
	return s->kind == UNIX_STREAM && s->eof && s->peer->closed;
}

short sim_sock_ready(const struct sim_sock *s)
{
	short r = 0;

	if (s->kind == BELL)
		return s->rung ? POLLIN : 0;
	if (s->state == LISTENING)
		return s->queue ? POLLIN : 0;
	if (s->state == CONNECTING)
		return 0;
	if (s->state != CONNECTED && !s->err)
		return POLLOUT | POLLHUP;
	if (s->got > s->read || s->eof || s->reset || s->err)
		r |= POLLIN;
	if (s->eof || s->reset)
		r |= POLLRDHUP;
	if (s->reset || s->state != CONNECTED || is_cut_off(s))
		r |= POLLHUP | POLLOUT;
	if (s->err)
		r |= POLLERR | POLLOUT;
	return takes_bytes(s) ? r | POLLOUT : r;
}

/* ---- making and finding ---- */

static struct sim_sock *create(struct sim_proc *p, enum kind kind)
{
	struct sim_sock *s = sim_memory(sizeof(*s));

	s->kind = kind;
	s->owner = p;
	s->flight_end = &s->flight;
	s->queue_end = &s->queue;
	s->next = all;
	all = s;
	return s;
}

struct sim_sock *sim_sock_create(struct sim_proc *p, int domain, int type)
{
	struct sim_sock *s = create(p, domain == AF_UNIX     ? UNIX_STREAM
				       : type == SOCK_STREAM ? TCP_STREAM
							     : DATAGRAM);

	s->local.ss_family = (sa_family_t)domain;
	return s;
}

struct sim_sock *sim_bell_create(struct sim_proc *p)
{
	return create(p, BELL);
}

void sim_bell_ring(struct sim_sock *s)
{
	s->rung = true;
	changed(s);
}

void sim_bell_hush(struct sim_sock *s)
{
	s->rung = false;
}

static struct sockaddr_in *in_of(struct sockaddr_storage *a)
{
	return (struct sockaddr_in *)a;
}

void sim_net_address(int host, struct sockaddr_storage *a, socklen_t *len)
{
	memset(a, 0, sizeof(*a));
	in_of(a)->sin_family = AF_INET;
	in_of(a)->sin_addr.s_addr = htonl(0x0a000001u + (uint32_t)host);
	*len = sizeof(struct sockaddr_in);
}

/* The host that this address leads to from `from`; -1: nowhere. */
static int host_of(int from, const struct sockaddr_storage *a)
{
	uint32_t ip = ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr);

	if (ip >> 24 == 127)
		return from;
	return ip > 0x0a000000 && ip <= 0x0a000000 + SIM_HOSTS ? (int)(ip - 0x0a000001) : -1;
}

static int host(const struct sim_sock *s)
{
	return s->owner->host;
}

static bool same_place(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	const struct sockaddr_in *x = (const struct sockaddr_in *)a;
	const struct sockaddr_in *y = (const struct sockaddr_in *)b;

	return x->sin_addr.s_addr == y->sin_addr.s_addr && x->sin_port == y->sin_port;
}

static struct sim_sock *find_listener(int on, const struct sockaddr_storage *a)
{
	for (struct sim_sock *s = all; s; s = s->next)
		if (s->kind == TCP_STREAM && s->state == LISTENING && !s->closed && host(s) == on &&
		    same_place(&s->local, a))
			return s;
	return NULL;
}

static uint16_t free_port(int on)
{
	if (!next_port[on])
		next_port[on] = (uint16_t)(32768 + sim_rng_below(&sim.chance, 20000));
	return htons(next_port[on]++);
}

int sim_sock_bind(struct sim_proc *p, struct sim_sock *s, const struct sockaddr *a, socklen_t len)
{
	int rc = 0;

	if (s->state != FRESH)
		return -EINVAL;
	memcpy(&s->local, a, len);
	s->local_len = len;
	if (s->kind == UNIX_STREAM)
		rc = sim_name_bind(p->host, ((const struct sockaddr_un *)a)->sun_path, s);
	else if (host_of(p->host, &s->local) != p->host)
		rc = -EADDRNOTAVAIL;
	else if (!in_of(&s->local)->sin_port)
		in_of(&s->local)->sin_port = free_port(p->host);
	else if (find_listener(p->host, &s->local))
		rc = -EADDRINUSE;
	if (!rc)
		s->state = BOUND;
	return rc;
}

int sim_sock_listen(struct sim_sock *s, int backlog)
{
	if (s->state != BOUND)
		return -EINVAL;
	s->state = LISTENING;
	s->backlog = backlog;
	return 0;
}

int sim_sock_name(const struct sim_sock *s, struct sockaddr *a, socklen_t *len)
{
	*len = s->local_len;
	memcpy(a, &s->local, s->local_len);
	return 0;
}

int sim_sock_peer_uid(const struct sim_sock *s, uint32_t *uid)
{
	if (s->kind != UNIX_STREAM || !s->peer)
		return -ENOTCONN;
	*uid = s->peer->owner->uid;
	return 0;
}

bool sim_sock_is_pair(const struct sim_sock *a, const struct sim_sock *b)
{
	return a && b && a->peer == b && b->peer == a;
}

int sim_sock_error(struct sim_sock *s)
{
	int err = s->err;

	s->err = 0;
	return -err;
}

/* ---- the flight ---- */

static void deliver(void *arg);

static void connect_ends(struct sim_sock *a, struct sim_sock *b)
{
	struct sim_sock *ends[] = { a, b };

	a->peer = b;
	b->peer = a;
	for (int i = 0; i < 2; i++) {
		ends[i]->room = sim.params.buffer;
		ends[i]->in = sim_memory(sim.params.buffer);
	}
}

static uint64_t way_ns(int from, int to)
{
	const struct sim_params *p = &sim.params;
	uint64_t most = from == to ? p->local_ns : p->net_ns;

	if (sim_rng_once_in(&sim.chance, p->spike_in))
		most = p->spike_ns;
	return most / 4 + sim_rng_below(&sim.chance, most) + sim.extra_ns[from][to];
}

static int far_host(const struct sim_sock *s)
{
	return s->peer ? host(s->peer) : host_of(host(s), &s->to);
}

static void go_on(struct sim_sock *s)
{
	if (!s->flight || s->busy)
		return;
	s->busy = true;
	sim_after(s->flight->at > sim.now ? s->flight->at - sim.now : 0, deliver, s);
}

static struct item *fly(struct sim_sock *s, enum what what, size_t len, size_t bytes)
{
	struct item *i = sim_memory(sizeof(*i) + bytes);
	int to = far_host(s);

	i->what = what;
	i->len = len;
	i->at = sim.now + way_ns(host(s), to < 0 ? host(s) : to);
	if (i->at <= s->last_at)
		i->at = s->last_at + 1;
	s->last_at = i->at;
	*s->flight_end = i;
	s->flight_end = &i->next;
	go_on(s);
	return i;
}

static void fail(struct sim_sock *s, int err)
{
	s->err = err;
	s->reset = true;
	changed(s);
}

static void enqueue(struct sim_sock *listener, struct sim_sock *s)
{
	*listener->queue_end = s;
	listener->queue_end = &s->next_queued;
	listener->queued++;
	changed(listener);
}

/* A connection that nobody has accepted yet. */
static struct sim_sock *incoming(struct sim_sock *listener, struct sim_sock *from)
{
	struct sim_sock *s = create(listener->owner, listener->kind);

	s->state = CONNECTED;
	s->local = listener->local;
	s->local_len = listener->local_len;
	connect_ends(s, from);
	enqueue(listener, s);
	return s;
}

/* A SYN comes to its host. 0: to be sent again. */
static bool arrive(struct sim_sock *s)
{
	int on = far_host(s);
	struct sim_sock *listener = on < 0 ? NULL : find_listener(on, &s->to);

	if (s->closed || s->state != CONNECTING)
		return true;
	if (on < 0 || !listener) {
		s->state = BOUND;
		s->err = on < 0 ? EHOSTUNREACH : ECONNREFUSED;
		changed(s);
		return true;
	}
	if (listener->queued > listener->backlog)
		return false;
	fly(incoming(listener, s), ACCEPTED, 0, 0);
	return true;
}

static void take_bytes(struct sim_sock *to, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to->in[(to->got + i) % sim.params.buffer] = bytes[i];
	to->got += len;
	changed(to);
}

/* What comes to a socket that is no more is answered by a reset. */
static void come_to_closed(struct sim_sock *to, const struct item *i)
{
	if ((i->what == DATA || i->what == ACCEPTED) && !to->peer->closed)
		fly(to, RST, 0, 0);
}

static void come(struct sim_sock *to, const struct item *i)
{
	if (to->closed) {
		come_to_closed(to, i);
		return;
	}
	if (i->what == CREDIT)
		to->room += i->len;
	if (to->reset)
		return;
	switch (i->what) {
	case ACCEPTED:
		to->state = CONNECTED;
		break;
	case DATA:
		take_bytes(to, i->bytes, i->len);
		break;
	case FIN:
		to->eof = true;
		break;
	case RST:
		fail(to, to->state == CONNECTING ? ECONNREFUSED : to->eof ? EPIPE : ECONNRESET);
		to->state = CONNECTED;
		break;
	default:
		break;
	}
	changed(to);
}

static void deliver(void *arg)
{
	struct sim_sock *s = arg;
	struct item *i = s->flight;
	int to = far_host(s);

	s->busy = false;
	if (to >= 0 && sim.cut[host(s)][to] && i->what != RST) {
		s->held = true;
		return;
	}
	if (i->what == SYN && !arrive(s)) {
		i->at = sim.now + SIM_S;
		go_on(s);
		return;
	}
	s->flight = i->next;
	if (!s->flight)
		s->flight_end = &s->flight;
	if (i->what != SYN && (i->what != RST || !sim.cut[host(s)][to]))
		come(s->peer, i);
	go_on(s);
}

void sim_net_changed(void)
{
	for (struct sim_sock *s = all; s; s = s->next) {
		int to = s->held ? far_host(s) : -1;

		if (to < 0 || sim.cut[host(s)][to])
			continue;
		s->held = false;
		/* Sent again when its timer says so. */
		s->flight->at = sim.now + sim_rng_below(&sim.chance, 200 * SIM_MS);
		s->last_at = s->last_at < s->flight->at ? s->flight->at : s->last_at;
		go_on(s);
	}
}

bool sim_net_reset_one(struct sim_proc *p)
{
	struct sim_sock *found = NULL;
	uint64_t n = 0;

	for (struct sim_sock *s = all; s; s = s->next) {
		if (s->owner != p || s->kind != TCP_STREAM || s->state != CONNECTED || s->closed ||
		    !s->peer || s->peer->closed || s->reset)
			continue;
		if (sim_rng_once_in(&sim.chance, ++n))
			found = s;
	}
	if (!found)
		return false;
	fail(found, ECONNRESET);
	fail(found->peer, ECONNRESET);
	return true;
}

bool sim_net_listener(int on, bool near, struct sockaddr_storage *a, socklen_t *len)
{
	uint64_t n = 0;

	for (struct sim_sock *s = all; s; s = s->next) {
		bool is_near = s->kind == UNIX_STREAM;

		if (s->state != LISTENING || s->closed || is_near != near ||
		    (near && host(s) != on) || !sim_rng_once_in(&sim.chance, ++n))
			continue;
		*a = s->local;
		*len = s->local_len;
		if (near) /* its name, not the one that it was bound to at first */
			sim_name_of(s, ((struct sockaddr_un *)a)->sun_path);
	}
	return n;
}

size_t sim_net_overheard(char *out, size_t room)
{
	size_t n = heard_len < room ? heard_len : room;

	memcpy(out, heard, n);
	return n;
}

/* ---- connecting ---- */

static int connect_unix(struct sim_proc *p, struct sim_sock *s, const char *path)
{
	struct sim_sock *listener = sim_name_find(p->host, path);

	if (!listener)
		return -ENOENT;
	if (listener->closed || listener->state != LISTENING)
		return -ECONNREFUSED;
	if (listener->queued > listener->backlog)
		return -EAGAIN;
	s->state = CONNECTED;
	incoming(listener, s);
	return 0;
}

int sim_sock_connect(struct sim_proc *p, struct sim_sock *s, const struct sockaddr *a,
		     socklen_t len)
{
	uint16_t port;

	if (s->state != FRESH && s->state != BOUND)
		return -EISCONN;
	if (s->kind == UNIX_STREAM)
		return connect_unix(p, s, ((const struct sockaddr_un *)a)->sun_path);
	memcpy(&s->to, a, len);
	port = free_port(p->host);
	sim_net_address(p->host, &s->local, &s->local_len);
	if (ntohl(in_of(&s->to)->sin_addr.s_addr) >> 24 == 127)
		in_of(&s->local)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	in_of(&s->local)->sin_port = port;
	if (s->kind == DATAGRAM) {
		s->state = CONNECTED;
		return 0;
	}
	s->state = CONNECTING;
	s->err = 0;
	fly(s, SYN, 0, 0);
	return -EINPROGRESS;
}

int sim_sock_accept(struct sim_proc *p, struct sim_sock *s)
{
	struct sim_sock *got = s->queue;
	int fd;

	if (s->state != LISTENING)
		return -EINVAL;
	if (!got)
		return -EAGAIN;
	fd = sim_fd_put(p, got);
	if (fd < 0)
		return fd;
	s->queue = got->next_queued;
	if (!s->queue)
		s->queue_end = &s->queue;
	s->queued--;
	return fd;
}

/* ---- bytes ---- */

static int check_send(struct sim_sock *s)
{
	if (s->err) {
		int err = s->err;

		s->err = 0;
		return -err;
	}
	if (s->state != CONNECTED)
		return s->state == CONNECTING ? -EAGAIN : -ENOTCONN;
	if (s->reset || s->finished || is_cut_off(s))
		return -EPIPE;
	return s->room ? 0 : -EAGAIN;
}

/* Copies n bytes of msg. */
static void gather(const struct msghdr *msg, char *to, size_t n)
{
	for (size_t i = 0; n; i++) {
		size_t part = msg->msg_iov[i].iov_len < n ? msg->msg_iov[i].iov_len : n;

		memcpy(to, msg->msg_iov[i].iov_base, part);
		to += part;
		n -= part;
	}
}

static size_t length(const struct msghdr *msg)
{
	size_t n = 0;

	for (size_t i = 0; i < msg->msg_iovlen; i++)
		n += msg->msg_iov[i].iov_len;
	return n;
}

static size_t perhaps_less(size_t n)
{
	return n > 1 && sim_rng_once_in(&sim.chance, sim.params.short_io_in)
		       ? 1 + sim_rng_below(&sim.chance, n - 1)
		       : n;
}

/* Lets a descriptor travel with the next n bytes to the other end. */
static int pass(struct sim_proc *p, struct sim_sock *s, const struct msghdr *msg, size_t n)
{
	struct cmsghdr *c = msg->msg_control ? CMSG_FIRSTHDR(msg) : NULL;
	struct passed *d, **at = &s->peer->passed;
	int fd;

	if (!c)
		return 0;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	if (s->kind != UNIX_STREAM)
		return -EINVAL;
	if (!sim_fd_get(p, fd))
		return -EBADF;
	d = sim_memory(sizeof(*d));
	d->sock = sim_fd_get(p, fd);
	sim_sock_ref(d->sock);
	d->at = s->peer->got;
	d->end = d->at + n;
	while (*at)
		at = &(*at)->next;
	*at = d;
	return 0;
}

/* On its way a bit changes, or all comes twice. */
static void garble(struct sim_proc *p, struct item *i, size_t n)
{
	bool twice = i->len > n;
	size_t at = sim_rng_below(&sim.chance, n);

	if (twice)
		memcpy(i->bytes + n, i->bytes, n);
	else
		i->bytes[at] ^= (char)(1 << sim_rng_below(&sim.chance, 8));
	sim_trace(p, twice ? "%zu BYTES COME TWICE" : "OF %zu BYTES ONE CHANGES", n);
	p->garble = SIM_SOUND;
	p->garbled = true;
}

long sim_sock_send(struct sim_proc *p, struct sim_sock *s, const struct msghdr *msg)
{
	size_t n = length(msg), more;
	int rc = check_send(s);
	struct item *i;

	if (rc)
		return rc;
	n = perhaps_less(n < s->room ? n : s->room);
	rc = pass(p, s, msg, n);
	if (rc)
		return rc;
	s->room -= n;
	if (s->kind == UNIX_STREAM) {
		char *copy = sim_memory(n);

		gather(msg, copy, n);
		take_bytes(s->peer, copy, n);
		return (long)n;
	}
	more = p->garble == SIM_REPEAT && n <= s->room ? n : 0;
	s->room -= more;
	i = fly(s, DATA, n + more, n + more);
	gather(msg, i->bytes, n);
	if (p->garble == SIM_FLIP || more)
		garble(p, i, n);
	if (n > 100 && n <= sizeof(heard)) {
		memcpy(heard, i->bytes, n);
		heard_len = n;
	}
	return (long)n;
}

/* Hands over the descriptor that came with these bytes. */
static void receive_passed(struct sim_proc *p, struct sim_sock *s, struct msghdr *msg)
{
	struct passed *d = s->passed;
	struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	int fd = c && msg->msg_controllen >= CMSG_LEN(sizeof(int)) ? sim_fd_put(p, d->sock) : -1;

	s->passed = d->next;
	sim_sock_drop(d->sock);
	if (fd < 0) {
		msg->msg_flags |= MSG_CTRUNC;
		msg->msg_controllen = 0;
		return;
	}
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	msg->msg_controllen = CMSG_SPACE(sizeof(int));
}

static void scatter(struct sim_sock *s, const struct msghdr *msg, size_t n)
{
	for (size_t i = 0; n; i++) {
		char *to = msg->msg_iov[i].iov_base;
		size_t part = msg->msg_iov[i].iov_len < n ? msg->msg_iov[i].iov_len : n;

		for (size_t k = 0; k < part; k++)
			to[k] = s->in[(s->read + k) % sim.params.buffer];
		s->read += part;
		n -= part;
	}
}

long sim_sock_recv(struct sim_proc *p, struct sim_sock *s, struct msghdr *msg)
{
	size_t n = length(msg), here = s->got - s->read;
	bool passed;

	msg->msg_flags = 0;
	if (s->state != CONNECTED && !s->err)
		return s->state == CONNECTING ? -EAGAIN : -ENOTCONN;
	/* What came after the other end's farewell is no error of reading. */
	if (!here && s->err && !(s->eof && s->kind == TCP_STREAM))
		return sim_sock_error(s);
	if (!here)
		return s->eof || s->reset ? 0 : -EAGAIN;
	n = perhaps_less(n < here ? n : here);
	passed = s->passed && s->passed->at < s->read + n;
	if (passed && s->passed->end < s->read + n)
		n = s->passed->end - s->read;
	scatter(s, msg, n);
	if (passed)
		receive_passed(p, s, msg);
	else
		msg->msg_controllen = 0;
	if (s->kind == TCP_STREAM) {
		fly(s, CREDIT, n, 0);
	} else {
		s->peer->room += n;
		changed(s->peer);
	}
	return (long)n;
}

/* ---- the end ---- */

void sim_sock_ref(struct sim_sock *s)
{
	s->refs++;
}

int sim_sock_finish(struct sim_sock *s)
{
	if (s->state != CONNECTED || s->reset)
		return -ENOTCONN;
	if (s->finished)
		return 0;
	s->finished = true;
	if (s->kind == TCP_STREAM) {
		fly(s, FIN, 0, 0);
	} else {
		s->peer->eof = true;
		changed(s->peer);
	}
	return 0;
}

/* A connection that breaks: of what the other end has not got, the last part is lost. */
static void break_off(struct sim_sock *s)
{
	uint64_t n = 0, come;

	for (struct item *i = s->flight; i; i = i->next)
		n++;
	come = n ? sim_rng_below(&sim.chance, n + 1) : 0;
	for (struct item *i = s->flight; i; i = i->next, come -= come > 0) {
		if (come || i->what == ACCEPTED)
			continue;
		i->what = CREDIT;
		i->len = 0;
	}
	fly(s, RST, 0, 0);
}

static void close_stream(struct sim_sock *s)
{
	bool unread = s->got > s->read;

	if (s->kind == TCP_STREAM) {
		if (!s->reset && unread)
			break_off(s);
		else if (!s->reset && !s->finished)
			fly(s, FIN, 0, 0);
		return;
	}
	for (struct passed *d = s->passed; d; d = d->next)
		sim_sock_drop(d->sock);
	s->passed = NULL;
	if (unread && !s->peer->closed)
		s->peer->err = ECONNRESET;
	s->peer->eof = true;
	changed(s->peer);
}

/* As a connection that nobody accepted ends: always by a reset. */
static void turn_away(struct sim_sock *s)
{
	s->closed = true;
	if (s->kind == TCP_STREAM) {
		fly(s, RST, 0, 0);
		return;
	}
	s->peer->err = ECONNRESET;
	s->peer->eof = true;
	changed(s->peer);
}

void sim_sock_drop(struct sim_sock *s)
{
	if (--s->refs)
		return;
	s->closed = true;
	for (struct sim_sock *q = s->queue; q; q = q->next_queued)
		turn_away(q);
	if (s->state == CONNECTED && s->peer)
		close_stream(s);
}
