/* SPDX-License-Identifier: BSD-3-Clause */
/* Control connections at their end: what was said last is heard. */
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <criterion/criterion.h>

#include "src/base/base.h"
#include "src/wire.h"

enum { SAID = 20 /* frames that are not read */ };

/* Two ends of a connection over loopback, with little room for what is not read. */
static void connect_tcp(int fds[2])
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener = cx_sys->socket(AF_INET, SOCK_STREAM), little = 4096;
	socklen_t len = sizeof(a);
	struct pollfd p = { .fd = listener, .events = POLLIN };

	cr_assert(!setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &little, sizeof(little)));
	cr_assert(!bind(listener, (struct sockaddr *)&a, len) && !listen(listener, 1));
	cr_assert(!getsockname(listener, (struct sockaddr *)&a, &len));
	fds[0] = cx_sys->socket(AF_INET, SOCK_STREAM);
	cx_sys->connect(fds[0], (struct sockaddr *)&a, len);
	cr_assert_eq(poll(&p, 1, 5000), 1);
	fds[1] = cx_sys->accept(listener);
	cr_assert_geq(fds[1], 0);
	p = (struct pollfd){ .fd = fds[0], .events = POLLOUT };
	cr_assert_eq(poll(&p, 1, 5000), 1);
	cx_sys->close(listener);
}

static void connect_unix(int fds[2])
{
	cr_assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds));
	cx_fd_own(fds[0]);
	cx_fd_own(fds[1]);
}

/* Fills the connection with frames; how many. */
static int say_much(struct cx_wire *w)
{
	char body[CX_FRAME_MAX] = { 0 };
	int n = 0;

	for (; n < 100000; n++) {
		memcpy(body, &n, sizeof(n));
		if (cx_wire_send(w, CX_FRAME_RECORD, n, body, sizeof(body), -1, 0))
			break;
	}
	return n;
}

/* Reads all frames to the end. */
static int hear_all(struct cx_wire *w)
{
	struct pollfd p = { .fd = w->fd, .events = POLLIN };
	int n = 0, rc;

	while ((rc = cx_wire_receive(w)) >= 0 && poll(&p, 1, 5000) == 1) {
		if (!rc)
			continue;
		cr_assert_eq(w->head.arg, n);
		n++;
		cx_wire_next(w);
	}
	cr_expect_eq(rc, COLLX_ERR_PEER_DEAD);
	return n;
}

/* `passed` goes along, where descriptors can. */
static void close_over_unread(int fds[2], int passed, const char *what)
{
	struct cx_wire a, b;
	int said, n, here = 0;

	cx_wire_init(&a, fds[0]);
	cx_wire_init(&b, fds[1]);
	said = say_much(&a);
	cr_assert_gt(said, 4);
	for (int i = 0; i < SAID; i++)
		cr_assert_eq(cx_wire_send(&b, CX_FRAME_LEAVE, i, NULL, 0, passed, 0), 0);
	while (!ioctl(fds[0], FIONREAD, &here) && here < SAID * (int)sizeof(struct cx_frame_head))
		cx_sys->poll(NULL, 0, 1);
	cx_wire_close(&a);
	/* The last frame may have been cut off in the middle, as nobody waits. */
	n = hear_all(&b);
	cr_expect_eq(n, said, "%s: %d of %d frames", what, n, said);
	cx_wire_close(&b);
}

Test(wires, what_was_said_last_is_heard, .timeout = 30)
{
	int fds[2];

	connect_unix(fds);
	close_over_unread(fds, fds[1], "unix");
	connect_tcp(fds);
	close_over_unread(fds, -1, "tcp");
}

/* A flood does not hold the one who closes. */
Test(wires, a_flood_is_not_read_to_its_end, .timeout = 30)
{
	struct cx_wire a, b;
	uint64_t start = cx_now_ns();
	int fds[2];

	connect_tcp(fds);
	cx_wire_init(&a, fds[0]);
	cx_wire_init(&b, fds[1]);
	say_much(&b);
	cx_wire_close(&a);
	cr_expect_lt(cx_now_ns() - start, 2000000000u);
	cx_wire_close(&b);
	cx_wire_close(&b);
}

Test(wires, a_changed_byte_is_found, .timeout = 30)
{
	unsigned char frame[100], bad[100];
	size_t n = cx_wire_pack(frame, sizeof(frame), CX_FRAME_LEAVE, 3, "what was said", 13);
	struct cx_wire w;
	int fds[2], rc;

	for (size_t at = 0; at <= n; at++) {
		connect_unix(fds);
		memcpy(bad, frame, n);
		if (at < n)
			bad[at] ^= (unsigned char)(1 << at % 8);
		cr_assert_eq(write(fds[0], bad, n), (ssize_t)n);
		cx_wire_init(&w, fds[1]);
		rc = cx_wire_receive(&w);
		/* It may claim to be longer, and is waited for. */
		cr_expect(at == n ? rc == 1 : rc == COLLX_ERR_CORRUPT || rc == 0, "byte %zu: %d",
			  at, rc);
		cx_wire_close(&w);
		cx_sys->close(fds[0]);
	}
}

/* The other end would take the error for the rest of what was cut off. */
Test(wires, nothing_follows_a_torn_frame, .timeout = 30)
{
	static char much[1 << 22];
	struct cx_wire w;
	int fds[2];

	connect_unix(fds);
	cx_wire_init(&w, fds[0]);
	cr_assert_eq(cx_wire_send_packed(&w, much, sizeof(much), cx_now_ns()),
		     COLLX_ERR_INIT_TIMEOUT);
	cr_assert(w.torn);
	while (read(fds[1], much, sizeof(much)) > 0)
		;
	cr_expect_eq(cx_wire_send(&w, CX_FRAME_FAULT, -1, "late", 4, -1, 0), COLLX_ERR_PEER_DEAD);
	cr_expect_lt(read(fds[1], much, 1), 0);
	cx_wire_close(&w);
	cx_sys->close(fds[1]);
}
