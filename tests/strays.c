/* SPDX-License-Identifier: BSD-3-Clause */
/* The strays of strays.h. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/base/base.h"
#include "tests/strays.h"

enum { HELD = 128, POKES = 8, CONNECT_MS = 2000 };

struct conn {
	int fd;
	enum stray kind;
	int spoke;
	size_t sent;
	size_t got;
	uint8_t challenge[CX_CHALLENGE_BYTES];
	uint8_t proof[CX_PROOF_BYTES];
};

static struct cx_secret other;
static uint8_t good[CX_PROOF_BYTES]; /* a proof for the first challenge that was seen */
static int has_good;

static void say(struct conn *c, const void *bytes, size_t len)
{
	c->spoke = 1;
	if (send(c->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return; /* it was closed: that is what they want */
}

/* What it says unasked. */
static void open_mouth(struct conn *c)
{
	static const char http[] = "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";
	uint8_t junk[200];

	if (c->kind == STRAY_HTTP)
		say(c, http, sizeof(http) - 1);
	if (c->kind != STRAY_GARBAGE || cx_sys_real.random(junk, sizeof(junk)))
		return;
	say(c, junk, sizeof(junk));
}

/* What it says to a challenge. */
static void answer(const struct strays *s, struct conn *c)
{
	const struct cx_claim claim = { .rank = 1, .ranks = 4, .kind = 1 };
	const struct cx_secret *secret = c->kind == STRAY_OTHER_JOB ? &other : s->secret;
	uint8_t mirror[CX_PROOF_BYTES] = { 0 };

	memcpy(mirror, c->challenge, sizeof(c->challenge));
	memcpy(mirror + sizeof(c->challenge), c->challenge, sizeof(c->challenge));
	if (cx_auth_prove(secret, c->challenge, &claim, c->proof))
		return;
	if (!has_good) {
		memcpy(good, c->proof, sizeof(good));
		has_good = c->kind != STRAY_OTHER_JOB;
		c->spoke = 1; /* it stays silent: nobody said this proof yet */
	} else if (c->kind == STRAY_REPLAYED) {
		say(c, good, sizeof(good));
	} else if (c->kind == STRAY_REFLECTED) {
		say(c, mirror, sizeof(mirror));
	} else if (c->kind == STRAY_OTHER_JOB) {
		say(c, c->proof, sizeof(c->proof));
	} else if (c->kind == STRAY_WRONG_MAC) {
		c->proof[CX_PROOF_BYTES - 1] ^= 1;
		say(c, c->proof, sizeof(c->proof));
	}
}

static void poke(struct strays *s, struct conn *c)
{
	uint8_t more[64];
	ssize_t n;

	if (c->fd < 0)
		return;
	n = c->got < sizeof(c->challenge)
		    ? recv(c->fd, c->challenge + c->got, sizeof(c->challenge) - c->got,
			   MSG_DONTWAIT)
		    : recv(c->fd, more, sizeof(more), MSG_DONTWAIT);
	if (n > 0 && c->got == sizeof(c->challenge))
		s->let_in++;
	c->got += n > 0 ? (size_t)n : 0;
	if (c->kind == STRAY_SLOW && c->got >= sizeof(c->challenge) && c->sent < 100)
		say(c, &c->proof[c->sent++ % CX_PROOF_BYTES], 1);
	if (c->got == sizeof(c->challenge) && !c->spoke && c->kind >= STRAY_SLOW)
		answer(s, c);
}

static void leave(struct strays *s, struct conn *c)
{
	poke(s, c);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

/* Where nobody listens at a port that the kernel gives out, too, a socket may meet itself. */
static int unless_itself(int fd, const struct sockaddr_in *to)
{
	struct sockaddr_in own;
	socklen_t len = sizeof(own);

	if (!getsockname(fd, (struct sockaddr *)&own, &len) && own.sin_port != to->sin_port)
		return fd;
	close(fd);
	return -1;
}

static int knock(const struct sockaddr_in *to)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), err = 0;
	struct pollfd p = { fd, POLLOUT, 0 };
	socklen_t len = sizeof(err);

	if (fd < 0)
		return -1;
	if (!connect(fd, (const struct sockaddr *)to, sizeof(*to)) ||
	    (errno == EINPROGRESS && poll(&p, 1, CONNECT_MS) > 0 &&
	     !getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) && !err))
		return unless_itself(fd, to);
	close(fd);
	return -1;
}

void strays_make(struct strays *s)
{
	static const unsigned char key[CX_SECRET_BYTES] = "another job's secret, 32 bytes ";
	static struct conn conns[HELD];

	for (int i = 0; i < HELD; i++)
		conns[i].fd = -1;
	if (cx_secret_init(&other, key))
		abort();
	for (unsigned i = 0; i < s->count; i++) {
		struct conn *c = &conns[i % HELD];

		leave(s, c);
		*c = (struct conn){ .fd = knock(&s->to[i % (unsigned)s->nto]),
				    .kind = (enum stray)(i % STRAYS) };
		if (c->fd < 0) {
			s->refused++;
			continue;
		}
		s->made++;
		open_mouth(c);
		if (c->kind == STRAY_CLOSES)
			leave(s, c);
		for (unsigned k = 0; k < POKES; k++)
			poke(s, &conns[(i + k * (HELD / POKES)) % HELD]);
	}
	for (int i = 0; i < HELD; i++)
		leave(s, &conns[i]);
}

/* ---- ports ---- */

/* Is socket:[inode] among the descriptors of pid? */
static int holds(int pid, unsigned long inode)
{
	char path[300], want[64], link[64];
	struct dirent *d;
	int found = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	snprintf(want, sizeof(want), "socket:[%lu]", inode);
	dir = opendir(path);
	while (dir && !found && (d = readdir(dir))) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/fd/%.32s", pid, d->d_name);
		n = readlink(path, link, sizeof(link) - 1);
		if (n > 0) {
			link[n] = '\0';
			found = !strcmp(link, want);
		}
	}
	if (dir)
		closedir(dir);
	return found;
}

int strays_ports_of(int pid, struct sockaddr_in *out, int max)
{
	FILE *f = fopen("/proc/net/tcp", "re");
	unsigned long inode;
	unsigned addr, port;
	char line[512];
	int n = 0;

	while (f && n < max && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*d: %8X:%4X %*8X:%*4X %*X %*X:%*X %*X:%*X %*X %*u %*u %lu",
			   &addr, &port, &inode) != 3 || !inode || !holds(pid, inode))
			continue;
		out[n] = (struct sockaddr_in){ .sin_family = AF_INET,
					       .sin_port = htons((uint16_t)port) };
		out[n++].sin_addr.s_addr = addr;
	}
	if (f)
		fclose(f);
	return n;
}
