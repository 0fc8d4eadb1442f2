/* SPDX-License-Identifier: BSD-3-Clause */
/* The real world behind struct cx_sys. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base.h"

static uint64_t real_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int real_random(void *buf, size_t len)
{
	char *p = buf;

	while (len) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static void *real_alloc(size_t len)
{
	size_t bytes = cx_round_up(len ? len : 1, CX_LINE);
	void *p = aligned_alloc(CX_LINE, bytes);

	if (p)
		memset(p, 0, bytes);
	return p;
}

static int real_socket(int domain, int type)
{
	int fd = socket(domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	cx_fd_own(fd);
	return fd;
}

static int real_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	return bind(fd, addr, len) ? -errno : 0;
}

static int real_listen(int fd, int backlog)
{
	return listen(fd, backlog) ? -errno : 0;
}

static int real_accept(int fd)
{
	int got;

	do
		got = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	while (got < 0 && (errno == EINTR || errno == ECONNABORTED));
	if (got < 0)
		return -errno;
	cx_fd_own(got);
	return got;
}

static int real_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	return connect(fd, addr, len) ? -errno : 0;
}

static long real_sendmsg(int fd, const struct msghdr *msg)
{
	ssize_t n;

	do
		n = sendmsg(fd, msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static long real_recvmsg(int fd, struct msghdr *msg)
{
	ssize_t n;

	do
		n = recvmsg(fd, msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static int real_connected(int fd)
{
	int err = 0;
	socklen_t len = sizeof(err);

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) ? -errno : -err;
}

static int real_setopt(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) ? -errno : 0;
}

static int real_local_name(int fd, struct sockaddr *addr, socklen_t *len)
{
	return getsockname(fd, addr, len) ? -errno : 0;
}

static int real_peer_uid(int fd, uint32_t *uid)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return -errno;
	*uid = cred.uid;
	return 0;
}

static int real_poll(struct pollfd *fds, unsigned n, int timeout_ms)
{
	int ready = poll(fds, n, timeout_ms);

	return ready < 0 ? (errno == EINTR ? 0 : -errno) : ready;
}

static int real_close(int fd)
{
	cx_fd_disown(fd);
	return close(fd) ? -errno : 0;
}

const struct cx_sys cx_sys_real = {
	.now_ns = real_now_ns,
	.random = real_random,
	.alloc = real_alloc,
	.release = free,
	.socket = real_socket,
	.bind = real_bind,
	.listen = real_listen,
	.accept = real_accept,
	.connect = real_connect,
	.sendmsg = real_sendmsg,
	.recvmsg = real_recvmsg,
	.connected = real_connected,
	.setopt = real_setopt,
	.local_name = real_local_name,
	.peer_uid = real_peer_uid,
	.poll = real_poll,
	.close = real_close,
};

const struct cx_sys *cx_sys = &cx_sys_real;

void *cx_alloc(size_t n, size_t size)
{
	size_t bytes;
	void *p = NULL;

	if (!__builtin_mul_overflow(n, size, &bytes) && bytes <= SIZE_MAX - CX_LINE)
		p = cx_sys->alloc(bytes);
	if (!p)
		cx_fail(COLLX_ERR_NOMEM, "out of memory: %zu x %zu bytes", n, size);
	return p;
}

void cx_free(void *p)
{
	cx_sys->release(p);
}
