/* SPDX-License-Identifier: BSD-3-Clause */
/* Names of meeting points, and the sockets at them; see place.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/base.h"
#include "place.h"

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

/* ---- names ---- */

static int parse_unix(struct cx_place *p, const char *path)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&p->addr;

	if (path[0] != '/' || strlen(path) >= sizeof(un->sun_path) || strrchr(path, '/') == path)
		return cx_fail(COLLX_ERR_INVALID, "meeting point unix:%s is not unix:/FOLDER/NAME",
			       path);
	un->sun_family = AF_UNIX;
	strcpy(un->sun_path, path);
	p->len = sizeof(*un);
	return 0;
}

/* Splits "HOST:PORT" or "[ADDRESS]:PORT" in place. */
static int split_host(char *text, char **host, char **port)
{
	char *end;

	*host = text;
	end = strrchr(text, ':');
	if (text[0] == '[') {
		*host = text + 1;
		end = strchr(text, ']');
		if (!end || end[1] != ':')
			return COLLX_ERR_INVALID;
		*end++ = '\0';
	}
	if (!end || !**host || !end[1] || strspn(end + 1, "0123456789") != strlen(end + 1))
		return COLLX_ERR_INVALID;
	*end = '\0';
	*port = end + 1;
	return strtol(*port, NULL, 10) > 65535 ? COLLX_ERR_INVALID : 0;
}

/* An address that means another host to each host is no meeting point. */
static int check_reachable(const struct cx_place *p, const char *text, const char *host)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&p->addr;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&p->addr;
	int is_v4 = p->addr.ss_family == AF_INET;
	uint32_t a = is_v4 ? ntohl(v4->sin_addr.s_addr) : 1;

	if (a == 0 || (!is_v4 && IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr)))
		return cx_fail(COLLX_ERR_INVALID,
			       "meeting point tcp:%s: give rank 0's address, not a wildcard", text);
	if (!is_v4 && IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr))
		return cx_fail(COLLX_ERR_INVALID,
			       "meeting point tcp:%s: a link-local address differs by host", text);
	if (is_v4 && a >> 24 == 127 && strcmp(host, "localhost") &&
	    host[strspn(host, "0123456789.")])
		return cx_fail(COLLX_ERR_INVALID,
			       "meeting point tcp:%s: %s is a loopback address here (see "
			       "/etc/hosts): give an address that the other hosts reach",
			       text, host);
	return 0;
}

static int parse_tcp(struct cx_place *p, const char *text)
{
	const struct addrinfo want = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
	char copy[CX_MEET_MAX], *host, *port;
	struct addrinfo *got;
	int rc;

	snprintf(copy, sizeof(copy), "%s", text);
	if (split_host(copy, &host, &port))
		return cx_fail(COLLX_ERR_INVALID,
			       "meeting point tcp:%s is not tcp:HOST:PORT or tcp:[ADDRESS]:PORT",
			       text);
	rc = getaddrinfo(host, port, &want, &got);
	if (rc)
		return cx_fail(COLLX_ERR_SYSTEM, "meeting point tcp:%s: host %s: %s", text, host,
			       gai_strerror(rc));
	memcpy(&p->addr, got->ai_addr, got->ai_addrlen);
	p->len = got->ai_addrlen;
	freeaddrinfo(got);
	return check_reachable(p, text, host);
}

int cx_place_parse(struct cx_place *p, const char *name)
{
	memset(p, 0, sizeof(*p));
	if (strlen(name) >= sizeof(p->name))
		return cx_fail(COLLX_ERR_INVALID,
			       "meeting point %.20s... is longer than %d characters", name,
			       CX_MEET_MAX - 1);
	strcpy(p->name, name);
	if (!strncmp(name, "unix:", 5))
		return parse_unix(p, name + 5);
	if (!strncmp(name, "tcp:", 4))
		return parse_tcp(p, name + 4);
	return cx_fail(COLLX_ERR_INVALID,
		       "meeting point '%s' is neither unix:/PATH nor tcp:HOST:PORT", name);
}

static in_port_t *port_of(struct cx_place *p)
{
	if (p->addr.ss_family == AF_INET6)
		return &((struct sockaddr_in6 *)&p->addr)->sin6_port;
	return &((struct sockaddr_in *)&p->addr)->sin_port;
}


/* Writes the name that belongs to the address. */
static int rename_tcp(struct cx_place *p)
{
	char host[INET6_ADDRSTRLEN + 20], port[8];
	int rc = getnameinfo(sockaddr_of(p), p->len, host, sizeof(host), port, sizeof(port),
			     NI_NUMERICHOST | NI_NUMERICSERV);

	if (rc)
		return cx_fail(COLLX_ERR_SYSTEM, "an address has no name: %s", gai_strerror(rc));
	snprintf(p->name, sizeof(p->name),
		 p->addr.ss_family == AF_INET6 ? "tcp:[%s]:%s" : "tcp:%s:%s", host, port);
	return 0;
}

int cx_place_set_port(struct cx_place *p, int port)
{
	*port_of(p) = htons((in_port_t)port);
	return rename_tcp(p);
}

int cx_place_of_connection(struct cx_place *p, int fd, int port)
{
	int rc;

	memset(p, 0, sizeof(*p));
	p->len = sizeof(p->addr);
	rc = cx_sys->local_name(fd, (struct sockaddr *)&p->addr, &p->len);
	if (rc)
		return cx_fail_errno(-rc, "the address of a connection");
	return port < 0 ? rename_tcp(p) : cx_place_set_port(p, port);
}

/* ---- unix sockets lie in a private folder ---- */

static void folder_of(const struct cx_place *p, char folder[sizeof(p->name)])
{
	snprintf(folder, sizeof(p->name), "%s", p->name + 5);
	*strrchr(folder, '/') = '\0';
}

/* Makes or accepts the folder, which must be ours alone. 1: made; 0: it was there;
 * -ENOENT: another job removed it meanwhile; or an error. */
static int private_folder(const char *folder)
{
	struct stat st;
	int rc = cx_sys->mkdir(folder), made = !rc;

	if (rc && rc != -EEXIST)
		return cx_fail_errno(-rc, "folder %s for the ranks to meet in", folder);
	rc = cx_sys->lstat(folder, &st);
	if (rc)
		return rc == -ENOENT ? rc : cx_fail_errno(-rc, "folder %s", folder);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077))
		return cx_fail(COLLX_ERR_AUTH,
			       "folder %s must be a directory of user %u with mode 0700; "
			       "COLLX_RUNTIME_DIR names another one",
			       folder, (unsigned)geteuid());
	return made;
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
	int fd, rc = 0;

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
			return cx_fail_errno(-fd, "socket for %s", p->name);
		rc = listen_unix(p, fd);
		if (rc == 1)
			return fd;
		cx_sys->close(fd);
	}
	return rc ? rc : cx_fail(COLLX_ERR_SYSTEM, "meeting point %s keeps vanishing", p->name);
}

static int bind_tcp(struct cx_place *p, int fd)
{
	int rc = cx_sys->setopt(fd, SOL_SOCKET, SO_REUSEADDR, 1);

	if (!rc)
		rc = cx_sys->bind(fd, sockaddr_of(p), p->len);
	if (!rc)
		rc = cx_sys->listen(fd, BACKLOG);
	if (rc == -EADDRINUSE)
		return cx_fail(COLLX_ERR_INVALID,
			       "rank 0 is taken: another process listens at %s", p->name);
	if (!rc && *port_of(p) == 0)
		rc = cx_sys->local_name(fd, (struct sockaddr *)&p->addr, &p->len);
	return rc ? cx_fail_errno(-rc, "meeting point %s", p->name) : rename_tcp(p);
}

static int open_tcp(struct cx_place *p)
{
	int fd = cx_sys->socket(p->addr.ss_family, SOCK_STREAM);
	int rc;

	if (fd < 0)
		return cx_fail_errno(-fd, "socket for %s", p->name);
	rc = bind_tcp(p, fd);
	if (!rc)
		return fd;
	cx_sys->close(fd);
	return rc;
}

int cx_place_listen(struct cx_place *p)
{
	return p->addr.ss_family == AF_UNIX ? open_unix(p) : open_tcp(p);
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
int cx_place_may_come(int err)
{
	return err == ENOENT || err == ECONNREFUSED || err == EAGAIN || err == ETIMEDOUT ||
	       err == EHOSTUNREACH || err == ENETUNREACH || err == ECONNRESET;
}

/* Trying a port of our own host that nobody listens at may draw it as our own. */
static int is_itself(const struct cx_place *p, int fd)
{
	struct cx_place own;

	return p->addr.ss_family != AF_UNIX && !cx_place_of_connection(&own, fd, -1) &&
	       !strcmp(own.name, p->name);
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

int cx_place_is_here(const struct cx_place *p)
{
	struct cx_place own = *p;
	int fd, rc;

	if (p->addr.ss_family == AF_UNIX)
		return 1;
	fd = cx_sys->socket(p->addr.ss_family, SOCK_STREAM);
	if (fd < 0)
		return 0;
	*port_of(&own) = 0;
	rc = cx_sys->bind(fd, sockaddr_of(&own), own.len);
	cx_sys->close(fd);
	return !rc;
}
