/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames over stream sockets; see wire.h. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/base.h"
#include "wire.h"

enum { DRAIN = 64 /* times 4 KiB are read at the end; who sends more is not our peer */ };

union control {
	struct cmsghdr align;
	char room[CMSG_SPACE(sizeof(int))];
};

/* FNV-1a. */
static uint32_t sum_of(uint32_t sum, const void *bytes, size_t len)
{
	const unsigned char *b = bytes;

	for (size_t i = 0; i < len; i++)
		sum = (sum ^ b[i]) * 0x01000193u;
	return sum;
}

struct cx_frame_head cx_frame_head(enum cx_frame_kind kind, int arg, const void *body, size_t len)
{
	struct cx_frame_head h = { (uint16_t)kind, (uint16_t)len, arg, 0 };

	h.sum = sum_of(sum_of(0x811c9dc5u, &h, offsetof(struct cx_frame_head, sum)), body, len);
	return h;
}

void cx_wire_init(struct cx_wire *w, int fd)
{
	w->fd = fd;
	w->have = 0;
	w->passed_fd = -1;
	w->torn = false;
}

/* What is unread at its end makes a connection break rather than end: what the other
 * end was sent last and has not got is lost then. */
static long read_rest(int fd)
{
	char rest[4096];
	struct iovec v = { rest, sizeof(rest) };
	long n = 1;

	for (int i = 0; n > 0 && i < DRAIN; i++) {
		struct msghdr msg = { .msg_iov = &v, .msg_iovlen = 1 };

		n = cx_sys->recvmsg(fd, &msg);
	}
	return n;
}

int cx_wire_drop(struct cx_wire *w)
{
	long n = read_rest(w->fd);

	return n > 0 || n == -EAGAIN ? 0 : COLLX_ERR_PEER_DEAD;
}

void cx_wire_finish(struct cx_wire *w)
{
	cx_sys->finish(w->fd);
}

void cx_wire_close(struct cx_wire *w)
{
	if (w->passed_fd >= 0)
		cx_sys->close(w->passed_fd);
	if (w->fd >= 0) {
		cx_sys->finish(w->fd);
		read_rest(w->fd);
		cx_sys->close(w->fd);
	}
	w->fd = w->passed_fd = -1;
}

int cx_wire_wait(int fd, short events, uint64_t deadline_ns)
{
	for (;;) {
		struct pollfd p = { .fd = fd, .events = events };
		uint64_t now = cx_now_ns();
		uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
		int rc = cx_sys->poll(&p, 1, left ? (int)cx_min(left / 1000000 + 1, 1000) : 0);

		if (rc < 0)
			return cx_fail_errno(-rc, "poll");
		if (rc > 0)
			return 1;
		if (!left)
			return 0;
	}
}

static int gone(int err)
{
	return err == EPIPE || err == ECONNRESET || err == ENOTCONN;
}

/* Sends msg whole, waiting for room; the descriptor goes with the first byte. *left: bytes
 * that did not go. */
static int send_all(int fd, struct msghdr *msg, size_t *left, uint64_t deadline_ns)
{
	struct iovec *v = msg->msg_iov;
	int rc;

	while (*left) {
		long n = cx_sys->sendmsg(fd, msg);

		/* So many descriptors are under way that receivers must take some in first. */
		if (n == -ETOOMANYREFS && cx_now_ns() < deadline_ns) {
			cx_sys->poll(NULL, 0, 1);
			continue;
		}
		if (n == -EAGAIN) {
			rc = cx_wire_wait(fd, POLLOUT, deadline_ns);
			if (rc < 0)
				return rc;
			if (rc == 0)
				return cx_fail(COLLX_ERR_INIT_TIMEOUT,
					       "a peer does not read its control connection");
			continue;
		}
		if (n < 0 && gone((int)-n))
			return cx_fail(COLLX_ERR_PEER_DEAD, "a control connection was closed");
		if (n < 0)
			return cx_fail_errno((int)-n, "sending on a control connection");
		*left -= (size_t)n;
		msg->msg_control = NULL;
		msg->msg_controllen = 0;
		while (msg->msg_iovlen && (size_t)n >= v->iov_len) {
			n -= (long)v->iov_len;
			msg->msg_iov = ++v;
			msg->msg_iovlen--;
		}
		if (msg->msg_iovlen) {
			v->iov_base = (char *)v->iov_base + n;
			v->iov_len -= (size_t)n;
		}
	}
	return 0;
}

int cx_wire_put(int fd, const void *buf, size_t len, uint64_t deadline_ns)
{
	struct iovec v = { (void *)buf, len };
	struct msghdr msg = { .msg_iov = &v, .msg_iovlen = 1 };

	return send_all(fd, &msg, &len, deadline_ns);
}

int cx_wire_get(int fd, void *buf, size_t len, uint64_t deadline_ns)
{
	char *at = buf;
	int rc;

	while (len) {
		struct iovec v = { at, len };
		struct msghdr msg = { .msg_iov = &v, .msg_iovlen = 1 };
		long n = cx_sys->recvmsg(fd, &msg);

		if (n == -EAGAIN) {
			rc = cx_wire_wait(fd, POLLIN, deadline_ns);
			if (rc == 0)
				return cx_fail(COLLX_ERR_INIT_TIMEOUT,
					       "the other end of a new connection is silent");
			if (rc < 0)
				return rc;
			continue;
		}
		if (n == 0 || (n < 0 && gone((int)-n)))
			return cx_fail(COLLX_ERR_PEER_DEAD, "a control connection was closed");
		if (n < 0)
			return cx_fail_errno((int)-n, "receiving on a control connection");
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

int cx_wire_send(struct cx_wire *w, enum cx_frame_kind kind, int arg, const void *body, size_t len,
		 int fd, uint64_t deadline_ns)
{
	struct cx_frame_head head = cx_frame_head(kind, arg, body, len);
	struct iovec v[2] = { { &head, sizeof(head) }, { (void *)body, len } };
	struct msghdr msg = { .msg_iov = v, .msg_iovlen = 2 };
	size_t left = sizeof(head) + len;
	union control c;
	int rc;

	if (w->fd < 0 || w->torn)
		return cx_fail(COLLX_ERR_PEER_DEAD, "a control connection was closed");
	if (fd >= 0) {
		memset(&c, 0, sizeof(c));
		msg.msg_control = &c;
		msg.msg_controllen = sizeof(c);
		CMSG_FIRSTHDR(&msg)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&msg)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&msg)->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &fd, sizeof(fd));
	}
	rc = send_all(w->fd, &msg, &left, deadline_ns);
	w->torn = rc && left < sizeof(head) + len;
	return rc;
}

int cx_wire_send_packed(struct cx_wire *w, const void *frames, size_t len, uint64_t deadline_ns)
{
	struct iovec v = { (void *)frames, len };
	struct msghdr msg = { .msg_iov = &v, .msg_iovlen = 1 };
	size_t left = len;
	int rc = send_all(w->fd, &msg, &left, deadline_ns);

	w->torn = rc && left < len;
	return rc;
}

int cx_wire_send_some(struct cx_wire *w, const char **frames, size_t *len)
{
	struct iovec v = { (void *)*frames, *len };
	struct msghdr msg = { .msg_iov = &v, .msg_iovlen = 1 };
	size_t left = *len;
	int rc = send_all(w->fd, &msg, &left, 0);

	w->torn = left && (w->torn || left < *len);
	*frames += *len - left;
	*len = left;
	return rc;
}

long cx_wire_push(struct cx_wire *w, const void *bytes, size_t len)
{
	struct iovec v = { (void *)bytes, len };
	const struct msghdr msg = { .msg_iov = &v, .msg_iovlen = 1 };
	long n = cx_sys->sendmsg(w->fd, &msg);

	if (n == -EAGAIN)
		return 0;
	return n < 0 ? cx_fail(COLLX_ERR_PEER_DEAD, "a control connection was closed") : n;
}

size_t cx_wire_pack(void *buf, size_t room, enum cx_frame_kind kind, int arg, const void *body,
		    size_t len)
{
	struct cx_frame_head head = cx_frame_head(kind, arg, body, len);

	if (room < sizeof(head) + len)
		return 0;
	memcpy(buf, &head, sizeof(head));
	if (len)
		memcpy((char *)buf + sizeof(head), body, len);
	return sizeof(head) + len;
}

/* Keeps one passed descriptor of a frame and closes any other. */
static void keep_descriptor(struct cx_wire *w, struct msghdr *msg)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	size_t n = 0;
	int fd;

	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	for (size_t i = 0; i < n; i++) {
		memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
		cx_fd_own(fd);
		if (w->passed_fd >= 0)
			cx_sys->close(fd);
		else
			w->passed_fd = fd;
	}
}

/* Reads towards `want` bytes of the frame. 1: they are here. */
static int fill(struct cx_wire *w, size_t want)
{
	while (w->have < want) {
		char *base = w->have < sizeof(w->head) ? (char *)&w->head + w->have
						       : (char *)w->body + w->have -
								 sizeof(w->head);
		struct iovec v = { base, want - w->have };
		union control c;
		struct msghdr msg = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &c,
				      .msg_controllen = sizeof(c) };
		long n = cx_sys->recvmsg(w->fd, &msg);

		if (n == -EAGAIN)
			return 0;
		if (n == 0 || (n < 0 && gone((int)-n)))
			return cx_fail(COLLX_ERR_PEER_DEAD, "a control connection was closed");
		if (n < 0)
			return cx_fail_errno((int)-n, "receiving on a control connection");
		keep_descriptor(w, &msg);
		if (msg.msg_flags & MSG_CTRUNC)
			return cx_fail(COLLX_ERR_NOFILES,
				       "no descriptor was free to receive a peer's: raise the "
				       "limit of open files (ulimit -n)");
		w->have += (size_t)n;
	}
	return 1;
}

int cx_wire_receive(struct cx_wire *w)
{
	int rc;

	if (w->fd < 0)
		return cx_fail(COLLX_ERR_PEER_DEAD, "a control connection was closed");
	rc = fill(w, sizeof(w->head));
	if (rc <= 0)
		return rc;
	if (w->head.len > CX_FRAME_MAX)
		return cx_fail(COLLX_ERR_CORRUPT, "a control frame claims %u bytes", w->head.len);
	rc = fill(w, sizeof(w->head) + w->head.len);
	if (rc == 1 && w->head.sum != cx_frame_head((enum cx_frame_kind)w->head.kind, w->head.arg,
						    w->body, w->head.len).sum)
		return cx_fail(COLLX_ERR_CORRUPT, "a control frame is damaged");
	return rc;
}

void cx_wire_next(struct cx_wire *w)
{
	if (w->passed_fd >= 0)
		cx_sys->close(w->passed_fd);
	w->passed_fd = -1;
	w->have = 0;
}
