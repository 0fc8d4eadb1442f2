/* SPDX-License-Identifier: BSD-3-Clause */
/* The world of fuzz_world.h. */
#include <dirent.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "src/base/base.h"
#include "tests/fuzz_world.h"

enum { UNUSED, COMING, OPEN, BARE /* a socket without a connection, or a passed file */ };

static struct fuzz_conn conns[FUZZ_CONNS];
static uint64_t clock_ns, seed;
static int in_world; /* else the wrapped functions are the real ones */

int (*fuzz_on_connect)(struct fuzz_conn *c);

void fuzz_must(int ok, const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	if (ok)
		return;
	fprintf(stderr, "%s:%d: ", file, line);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	abort();
}

/* ---- input ---- */

uint8_t fuzz_byte(struct fuzz_input *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

unsigned fuzz_below(struct fuzz_input *in, unsigned n)
{
	return fuzz_byte(in) % n;
}

size_t fuzz_left(const struct fuzz_input *in)
{
	return (size_t)(in->end - in->at);
}

size_t fuzz_bytes(struct fuzz_input *in, void *out, size_t len)
{
	len = cx_min(len, fuzz_left(in));
	if (len)
		memcpy(out, in->at, len);
	in->at += len;
	return len;
}

/* ---- connections ---- */

struct fuzz_conn *fuzz_conn_of(int fd)
{
	int i = fd - FUZZ_FD_FIRST;

	FUZZ_MUST(i >= 0 && i < FUZZ_CONNS && conns[i].state >= OPEN,
		  "descriptor %d is not open", fd);
	return &conns[i];
}

int fuzz_fd_of(const struct fuzz_conn *c)
{
	return (int)(c - conns) + FUZZ_FD_FIRST;
}

static struct fuzz_conn *find(int state)
{
	for (int i = 0; i < FUZZ_CONNS; i++)
		if (conns[i].state == state)
			return &conns[i];
	return NULL;
}

static struct fuzz_conn *make(int state)
{
	struct fuzz_conn *c = find(UNUSED);

	if (!c)
		return NULL;
	memset(&c->state, 0, sizeof(*c) - offsetof(struct fuzz_conn, state));
	c->state = state;
	return c;
}

struct fuzz_conn *fuzz_conn_come(void)
{
	return make(COMING);
}

void fuzz_conn_feed(struct fuzz_conn *c, const void *bytes, size_t len)
{
	len = cx_min(len, sizeof(c->in) - c->in_len);
	if (len)
		memcpy(c->in + c->in_len, bytes, len);
	c->in_len += len;
}

static int is_readable(const struct fuzz_conn *c)
{
	if (c->state == BARE)
		return find(COMING) != NULL;
	return c->in_at < c->in_len ? clock_ns >= c->ready_ns : c->end != FUZZ_SILENT;
}

/* ---- struct cx_sys ---- */

static uint64_t fake_now_ns(void)
{
	return clock_ns += 1000;
}

static int fake_random(void *buf, size_t len)
{
	uint8_t *p = buf;

	for (size_t i = 0; i < len; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		p[i] = (uint8_t)(seed >> 56);
	}
	return 0;
}

static int fake_socket(int domain, int type)
{
	struct fuzz_conn *c = make(BARE);

	(void)domain;
	(void)type;
	return c ? fuzz_fd_of(c) : -EMFILE;
}

static int fake_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	(void)fuzz_conn_of(fd);
	return addr && len ? 0 : -EINVAL;
}

static int fake_listen(int fd, int backlog)
{
	(void)fuzz_conn_of(fd);
	(void)backlog;
	return 0;
}

static int fake_accept(int fd)
{
	struct fuzz_conn *c = find(COMING);

	(void)fuzz_conn_of(fd);
	if (!c)
		return -EAGAIN;
	c->state = OPEN;
	return fuzz_fd_of(c);
}

static int fake_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	struct fuzz_conn *c = fuzz_conn_of(fd);
	int rc = fuzz_on_connect && addr && len ? fuzz_on_connect(c) : -ECONNREFUSED;

	if (!rc)
		c->state = OPEN;
	return rc;
}

static long fake_sendmsg(int fd, const struct msghdr *msg)
{
	struct fuzz_conn *c = fuzz_conn_of(fd);
	long n = 0;

	if (c->state != OPEN)
		return -ENOTCONN;
	if (c->end != FUZZ_SILENT && c->in_at == c->in_len)
		return -EPIPE;
	if (c->full)
		return -EAGAIN;
	for (size_t i = 0; i < msg->msg_iovlen; i++) {
		size_t len = msg->msg_iov[i].iov_len;
		size_t part = cx_min(len, sizeof(c->out) - c->out_len);

		if (part)
			memcpy(c->out + c->out_len, msg->msg_iov[i].iov_base, part);
		c->out_len += part;
		n += (long)len;
	}
	if (c->wrote)
		c->wrote(c);
	return n;
}

/* As the kernel: as many as there is room for, and MSG_CTRUNC when there were more. */
static void pass_descriptors(struct fuzz_conn *c, struct msghdr *msg)
{
	size_t room = msg->msg_controllen >= CMSG_LEN(sizeof(int)) ? 1 : 0;
	struct fuzz_conn *file = room && c->passes ? make(BARE) : NULL;
	size_t had = msg->msg_controllen;
	struct cmsghdr *head = CMSG_FIRSTHDR(msg);
	int fd;

	msg->msg_controllen = 0;
	if (c->passes > (file ? 1 : 0))
		msg->msg_flags |= MSG_CTRUNC;
	c->passes = 0;
	if (!file)
		return;
	fd = fuzz_fd_of(file);
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(head), &fd, sizeof(fd));
	msg->msg_controllen = had;
}

static long fake_recvmsg(int fd, struct msghdr *msg)
{
	struct fuzz_conn *c = fuzz_conn_of(fd);
	size_t room = 0, n;

	msg->msg_flags = 0;
	if (c->state != OPEN)
		return -ENOTCONN;
	if (!is_readable(c))
		return -EAGAIN;
	if (c->in_at == c->in_len)
		return c->end == FUZZ_EOF ? 0 : -ECONNRESET;
	for (size_t i = 0; i < msg->msg_iovlen; i++)
		room += msg->msg_iov[i].iov_len;
	n = cx_min(room, c->in_len - c->in_at);
	n = c->chunk ? cx_min(n, c->chunk) : n;
	for (size_t i = 0, at = 0; i < msg->msg_iovlen && at < n; i++) {
		size_t part = cx_min(msg->msg_iov[i].iov_len, n - at);

		memcpy(msg->msg_iov[i].iov_base, c->in + c->in_at + at, part);
		at += part;
	}
	c->in_at += n;
	c->ready_ns = clock_ns + c->pause_ns;
	pass_descriptors(c, msg);
	return (long)n;
}

static int fake_connected(int fd)
{
	return fuzz_conn_of(fd)->state == OPEN ? 0 : -ECONNREFUSED;
}

static int fake_untaken(int fd)
{
	(void)fuzz_conn_of(fd);
	return 0;
}

static int fake_setopt(int fd, int level, int name, int value)
{
	(void)fuzz_conn_of(fd);
	(void)level;
	(void)name;
	(void)value;
	return 0;
}

static void fake_insist(int fd)
{
	(void)fd;
}

static int fake_local_name(int fd, struct sockaddr *addr, socklen_t *len)
{
	struct sockaddr_in a = { .sin_family = AF_INET };

	(void)fuzz_conn_of(fd);
	a.sin_port = htons((uint16_t)(40000 + fd - FUZZ_FD_FIRST));
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	memcpy(addr, &a, cx_min(*len, sizeof(a)));
	*len = sizeof(a);
	return 0;
}

static void fake_say(const char *line)
{
	(void)line;
}

static int fake_peer_uid(int fd, uint32_t *uid)
{
	(void)fuzz_conn_of(fd);
	*uid = geteuid();
	return 0;
}

static int look(struct pollfd *fds, unsigned n)
{
	int ready = 0;

	for (unsigned i = 0; i < n; i++) {
		struct fuzz_conn *c = fds[i].fd >= 0 ? fuzz_conn_of(fds[i].fd) : NULL;

		fds[i].revents = 0;
		if (c && is_readable(c))
			fds[i].revents = fds[i].events & POLLIN;
		if (c && c->state == OPEN && !c->full)
			fds[i].revents |= fds[i].events & POLLOUT;
		ready += fds[i].revents != 0;
	}
	return ready;
}

/* The clock moves to the next thing that happens, or by the whole timeout. */
static int fake_poll(struct pollfd *fds, unsigned n, int timeout_ms)
{
	uint64_t until = clock_ns + (timeout_ms < 0 ? 1000000000u
						    : (uint64_t)timeout_ms * 1000000u);
	int ready = look(fds, n);

	if (ready)
		return ready;
	for (unsigned i = 0; i < n; i++) {
		const struct fuzz_conn *c = fds[i].fd >= 0 ? fuzz_conn_of(fds[i].fd) : NULL;

		if (c && c->state == OPEN && c->in_at < c->in_len && c->ready_ns > clock_ns)
			until = c->ready_ns < until ? c->ready_ns : until;
	}
	clock_ns = until;
	return look(fds, n);
}

static int fake_close(int fd)
{
	fuzz_conn_of(fd)->state = UNUSED;
	return 0;
}

static void *fake_alloc(size_t len)
{
	return cx_sys_real.alloc(len);
}

static void fake_release(void *p)
{
	cx_sys_real.release(p);
}

static struct cx_sys fake;

/* What is not here is the library's own, and meets the wrapped functions below. */
static void fake_fill(void)
{
	fake = cx_sys_real;
	fake.now_ns = fake_now_ns;
	fake.random = fake_random;
	fake.alloc = fake_alloc;
	fake.release = fake_release;
	fake.socket = fake_socket;
	fake.bind = fake_bind;
	fake.listen = fake_listen;
	fake.accept = fake_accept;
	fake.connect = fake_connect;
	fake.sendmsg = fake_sendmsg;
	fake.recvmsg = fake_recvmsg;
	fake.connected = fake_connected;
	fake.untaken = fake_untaken;
	fake.setopt = fake_setopt;
	fake.insist = fake_insist;
	fake.local_name = fake.peer_name = fake_local_name;
	fake.say = fake_say;
	fake.peer_uid = fake_peer_uid;
	fake.poll = fake_poll;
	fake.close = fake_close;
}

void fuzz_world_begin(void)
{
	for (int i = 0; i < FUZZ_CONNS; i++)
		conns[i].state = UNUSED;
	clock_ns = 1000000000;
	seed = 1;
	fuzz_on_connect = NULL;
	fake_fill();
	cx_sys = &fake;
	in_world = 1;
}

void fuzz_world_end(void)
{
	in_world = 0;
	cx_sys = &cx_sys_real;
	for (int i = 0; i < FUZZ_CONNS; i++)
		FUZZ_MUST(conns[i].state == UNUSED || conns[i].state == COMING,
			  "descriptor %d was left open", i + FUZZ_FD_FIRST);
}

/* ---- what is asked for without cx_sys ---- */

int __real_getaddrinfo(const char *host, const char *port, const struct addrinfo *want,
		       struct addrinfo **got);
int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *want,
		       struct addrinfo **got);
int __real_nanosleep(const struct timespec *t, struct timespec *left);
int __wrap_nanosleep(const struct timespec *t, struct timespec *left);
int __real_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode);
int __real_rmdir(const char *path);
int __wrap_rmdir(const char *path);
int __real_unlink(const char *path);
int __wrap_unlink(const char *path);
int __real_link(const char *from, const char *to);
int __wrap_link(const char *from, const char *to);
int __real_lstat(const char *path, struct stat *st);
int __wrap_lstat(const char *path, struct stat *st);
DIR *__real_opendir(const char *path);
DIR *__wrap_opendir(const char *path);

int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *want,
		       struct addrinfo **got)
{
	struct addrinfo numeric = { 0 };

	if (want)
		numeric = *want;
	if (in_world)
		numeric.ai_flags |= AI_NUMERICHOST;
	return __real_getaddrinfo(host, port, &numeric, got);
}

int __wrap_nanosleep(const struct timespec *t, struct timespec *left)
{
	if (!in_world)
		return __real_nanosleep(t, left);
	clock_ns += (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec;
	return 0;
}

int __wrap_mkdir(const char *path, mode_t mode)
{
	return in_world ? 0 : __real_mkdir(path, mode);
}

int __wrap_rmdir(const char *path)
{
	return in_world ? 0 : __real_rmdir(path);
}

int __wrap_unlink(const char *path)
{
	return in_world ? 0 : __real_unlink(path);
}

int __wrap_link(const char *from, const char *to)
{
	return in_world ? 0 : __real_link(from, to);
}

int __wrap_lstat(const char *path, struct stat *st)
{
	if (!in_world)
		return __real_lstat(path, st);
	memset(st, 0, sizeof(*st));
	st->st_mode = S_IFDIR | 0700;
	st->st_uid = geteuid();
	return 0;
}

DIR *__wrap_opendir(const char *path)
{
	if (!in_world)
		return __real_opendir(path);
	errno = ENOENT;
	return NULL;
}
