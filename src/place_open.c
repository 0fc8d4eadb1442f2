/* SPDX-License-Identifier: BSD-3-Clause */
/* The sockets at meeting points; see place.h. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/base.h"
#include "place.h"
#include "wire.h"

enum {
	SOCKET_NAME_CHARS = 32, /* hexadecimal digits: a job's name */
	BACKLOG = 1024
};

static const struct sockaddr *sockaddr_of(const struct cx_place *p)
{
	return (const struct sockaddr *)&p->addr;
}

static const char *path_of(const struct cx_place *p)
{
	return ((const struct sockaddr_un *)&p->addr)->sun_path;
}

/* ---- unix sockets lie in a private folder ---- */

static void folder_of(const struct cx_place *p, char folder[sizeof(p->name)])
{
	snprintf(folder, sizeof(p->name), "%s", p->name + 5);
	*strrchr(folder, '/') = '\0';
}

/* It must be ours alone. 0; -ENOENT: it is not there; or an error. */
static int check_folder(const char *folder)
{
	struct stat st;
	int rc = cx_sys->lstat(folder, &st);

	if (rc)
		return rc == -ENOENT ? rc : cx_fail_errno(-rc, "folder %s", folder);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077))
		return cx_fail(COLLX_ERR_AUTH,
			       "folder %s must be a directory of user %u with mode 0700; "
			       "COLLX_RUNTIME_DIR names another one",
			       folder, (unsigned)geteuid());
	return 0;
}

/* Makes or accepts the folder. 1: made; 0: it was there; -ENOENT: another job removed it
 * meanwhile; or an error. */
static int private_folder(const char *folder)
{
	int made = cx_sys->mkdir(folder), rc;

	if (made && made != -EEXIST)
		return cx_fail_errno(-made, "folder %s for the ranks to meet in", folder);
	rc = check_folder(folder);
	return rc ? rc : !made;
}

int cx_place_check(const struct cx_place *p)
{
	char folder[sizeof(p->name)];
	int rc;

	if (p->addr.ss_family != AF_UNIX)
		return 0;
	folder_of(p, folder);
	rc = check_folder(folder);
	return rc == -ENOENT ? 0 : rc;
}

/* Does somebody listen there? */
static int answers(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = cx_sys->socket(AF_UNIX, SOCK_STREAM);
	int rc;

	if (fd < 0)
		return 1;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	rc = cx_sys->connect(fd, (const struct sockaddr *)&addr, sizeof(addr));
	cx_sys->close(fd);
	return rc != -ECONNREFUSED && rc != -ENOENT;
}

/* Removes the socket of a job that was killed while it met. */
static void sweep(void *folder, const char *name)
{
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];

	if (strspn(name, "0123456789abcdef") < SOCKET_NAME_CHARS)
		return;
	if ((size_t)snprintf(path, sizeof(path), "%s/%s", (char *)folder, name) < sizeof(path) &&
	    !answers(path))
		cx_sys->unlink(path);
}

/*
 * Binds and listens under a name of this thread's own and gives the socket its
 * real name only then: whoever finds that finds a listener, so a socket that does
 * not answer is a dead job's, and may go. 1: done; 0: try again; or an error.
 */
static int listen_unix(struct cx_place *p, int fd)
{
	struct sockaddr_un own = { .sun_family = AF_UNIX };
	int rc;

	if ((size_t)snprintf(own.sun_path, sizeof(own.sun_path), "%s.%d", path_of(p),
			     cx_sys->thread_id()) >= sizeof(own.sun_path))
		return cx_fail(COLLX_ERR_INVALID, "meeting point %s is too long", p->name);
	cx_sys->unlink(own.sun_path);
	rc = cx_sys->bind(fd, (const struct sockaddr *)&own, sizeof(own));
	if (!rc)
		rc = cx_sys->listen(fd, BACKLOG);
	if (!rc)
		rc = cx_sys->link(own.sun_path, path_of(p));
	cx_sys->unlink(own.sun_path);
	if (!rc)
		return 1;
	if (rc == -EEXIST && answers(path_of(p)))
		return cx_fail(COLLX_ERR_INVALID, "rank 0 is taken: another process meets at %s",
			       p->name);
	if (rc == -EEXIST)
		cx_sys->unlink(path_of(p));
	/* ENOENT: another job removed the folder, or took the silent socket for a dead one's. */
	return rc == -EEXIST || rc == -ENOENT ? 0
					      : cx_fail_errno(-rc, "meeting point %s", p->name);
}

static int open_unix(struct cx_place *p)
{
	char folder[sizeof(p->name)];
	int fd = 0, rc = 0;

	folder_of(p, folder);
	for (int tries = 0; tries < 16 && rc == 0; tries++) {
		rc = private_folder(folder);
		if (rc == -ENOENT)
			rc = 0;
		if (rc < 0)
			return rc;
		p->made_folder |= rc;
		cx_sys->list(folder, sweep, folder);
		fd = cx_sys->socket(AF_UNIX, SOCK_STREAM);
		if (fd < 0)
			break;
		rc = listen_unix(p, fd);
		if (rc == 1)
			return fd;
		cx_sys->close(fd);
	}
	if (p->made_folder)
		cx_sys->rmdir(folder); /* fails where others meet there meanwhile */
	if (fd < 0)
		return cx_fail_errno(-fd, "socket for %s", p->name);
	return rc ? rc : cx_fail(COLLX_ERR_SYSTEM, "meeting point %s keeps vanishing", p->name);
}

/* ---- tcp ---- */

struct ports {
	long first, last; /* of COLLX_PORT_RANGE; first 0: it is not set */
	bool listens;     /* or reserves */
};

/*
 * A bound socket, *p with its port, or -errno. SO_REUSEADDR lets in past those that
 * are bound and do not listen: where a port is free to choose they go first, as it
 * may be another job's reservation. Set afterwards it lets others in past this one.
 */
static int bind_one(struct cx_place *p, bool reuse, const struct ports *want)
{
	int fd = cx_sys->socket(p->addr.ss_family, SOCK_STREAM);
	int rc = 0;

	if (fd < 0)
		return fd;
	if (p->addr.ss_family == AF_INET6)
		rc = cx_sys->setopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	if (!rc && reuse)
		rc = cx_sys->setopt(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (!rc)
		rc = cx_sys->bind(fd, sockaddr_of(p), p->len);
	if (!rc && !reuse)
		rc = cx_sys->setopt(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (!rc && want->listens)
		rc = cx_sys->listen(fd, BACKLOG);
	if (!rc)
		rc = cx_sys->local_name(fd, (struct sockaddr *)&p->addr, &p->len);
	if (!rc)
		return fd;
	cx_sys->close(fd);
	return rc;
}

/* From a drawn port on round the range, first past nobody. A descriptor or -errno. */
static int bind_in_range(struct cx_place *p, const struct ports *want)
{
	uint32_t drawn, n = (uint32_t)(want->last - want->first + 1);
	int rc = cx_sys->random(&drawn, sizeof(drawn));

	if (rc)
		return rc;
	rc = -EADDRINUSE;
	for (uint32_t i = 0; rc == -EADDRINUSE && i < 2 * n; i++) {
		struct cx_place one;

		cx_place_of_address(&one, sockaddr_of(p),
				    (int)(want->first + (drawn % n + i) % n));
		rc = bind_one(&one, i >= n, want);
		if (rc >= 0)
			*p = one;
	}
	return rc;
}

static int cannot_bind(const struct cx_place *p, int rc, const struct ports *want)
{
	if (rc == -EADDRINUSE && want->first && cx_place_port(p) == 0)
		return cx_fail(COLLX_ERR_SYSTEM,
			       "COLLX_PORT_RANGE=%ld-%ld: no port of the range is free at %s",
			       want->first, want->last, p->name);
	if (rc == -EADDRINUSE && cx_place_port(p) == 0)
		return cx_fail(COLLX_ERR_SYSTEM,
			       "no port is free at %s: connections, or what is left of them for a "
			       "minute, have all of net.ipv4.ip_local_port_range", p->name);
	if (rc == -EADDRINUSE && p->ports > 1)
		return cx_fail(COLLX_ERR_INVALID,
			       "rank 0 is taken, or its ports: others listen at %s and at the next "
			       "%d ports",
			       p->name, p->ports - 1);
	if (rc == -EADDRINUSE)
		return cx_fail(COLLX_ERR_INVALID, "rank 0 is taken: another process listens at %s",
			       p->name);
	if (rc == -EADDRNOTAVAIL)
		return cx_fail(COLLX_ERR_INVALID,
			       "rank 0 cannot listen at %s: its host has no such address "
			       "(collx-info net shows them)",
			       p->name);
	return cx_fail_errno(-rc, "listening at %s", p->name);
}

/* The first of the places that can be had; *p becomes it. */
static int open_tcp(struct cx_place *p, bool listens)
{
	struct ports want = { .listens = listens };
	int rc = cx_env_range(CX_ENV_PORT_RANGE, 1, 65535, &want.first, &want.last);
	int n = rc < 0 ? 0 : cx_place_count(p), worst = -EADDRNOTAVAIL;
	struct cx_place one;

	if (rc < 0)
		return rc;
	rc = -EADDRNOTAVAIL;
	for (int i = 0; (rc == -EADDRNOTAVAIL || rc == -EADDRINUSE) && i < n; i++) {
		bool free_port = cx_place_port(p) == 0;

		cx_place_nth(p, i, &one);
		rc = free_port && want.first ? bind_in_range(&one, &want)
					     : bind_one(&one, !free_port, &want);
		if (rc < 0 && rc != -EADDRNOTAVAIL)
			worst = rc;
	}
	if (rc < 0)
		return cannot_bind(p, worst, &want);
	one.host = p->host;
	*p = one;
	cx_place_set_port(p, cx_place_port(p)); /* with the name that belongs to it */
	return rc;
}

int cx_place_reserve(struct cx_place *p)
{
	return open_tcp(p, false);
}

int cx_place_listen(struct cx_place *p)
{
	return p->addr.ss_family == AF_UNIX ? open_unix(p) : open_tcp(p, true);
}

void cx_place_unlisten(const struct cx_place *p, int fd)
{
	char folder[sizeof(p->name)], usual[32];

	if (p->addr.ss_family == AF_UNIX)
		cx_sys->unlink(path_of(p));
	cx_sys->close(fd);
	if (p->addr.ss_family != AF_UNIX)
		return;
	folder_of(p, folder);
	snprintf(usual, sizeof(usual), "/tmp/collx-%u", (unsigned)geteuid());
	if (p->made_folder || !strcmp(folder, usual))
		cx_sys->rmdir(folder); /* fails while other jobs meet there */
}

/* ---- connecting ---- */

/* A rank 0 that starts late, or whose queue is full, is worth another try. */
bool cx_place_may_come(int err)
{
	return err == ENOENT || err == ECONNREFUSED || err == EAGAIN || err == ETIMEDOUT ||
	       err == EHOSTUNREACH || err == ENETUNREACH || err == ECONNRESET ||
	       err == EADDRNOTAVAIL;
}

/* Trying a port of our own host that nobody listens at may draw it as our own. */
static bool is_itself(const struct cx_place *p, int fd)
{
	struct cx_place own;

	return p->addr.ss_family != AF_UNIX && !cx_place_of_connection(&own, fd, -1) &&
	       own.addr.ss_family == p->addr.ss_family &&
	       !memcmp(&own.addr, &p->addr, p->len);
}

int cx_place_knock(const struct cx_place *p)
{
	int fd = cx_sys->socket(p->addr.ss_family, SOCK_STREAM);
	int rc;

	if (fd < 0)
		return fd;
	if (p->addr.ss_family != AF_UNIX)
		cx_sys->setopt(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	rc = cx_sys->connect(fd, sockaddr_of(p), p->len);
	if (!rc || rc == -EINPROGRESS)
		return fd;
	cx_sys->close(fd);
	return rc;
}

int cx_place_knocked(const struct cx_place *p, int fd)
{
	int rc = cx_sys->connected(fd);

	return !rc && is_itself(p, fd) ? -ECONNREFUSED : rc;
}

int cx_place_try(const struct cx_place *p, uint64_t deadline_ns)
{
	int fd = cx_place_knock(p), rc;

	if (fd < 0)
		return fd;
	rc = cx_wire_wait(fd, POLLOUT, deadline_ns);
	rc = rc == 1 ? cx_place_knocked(p, fd) : rc == 0 ? -ETIMEDOUT : -EIO;
	if (!rc)
		return fd;
	cx_sys->close(fd);
	return rc;
}
