/* SPDX-License-Identifier: BSD-3-Clause */
/* Names of meeting points; see place.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/base.h"
#include "host.h"
#include "place.h"

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

/* ---- tcp ---- */

/* A name and what it is asked for, as the thread that asks has it. */
struct lookup {
	struct cx_aside aside;
	char host[CX_MEET_MAX], port[8];
	int flags;
	int rc, err; /* of getaddrinfo */
	struct addrinfo *got;
};

/* Splits "HOST:PORT" or "[ADDRESS]:PORT". */
static int split(const char *text, struct lookup *l)
{
	const char *end = strrchr(text, ':'), *host = text;
	size_t len = end ? (size_t)(end - text) : 0;

	if (text[0] == '[') {
		host = text + 1;
		end = strchr(text, ']');
		if (!end || end[1] != ':')
			return COLLX_ERR_INVALID;
		len = (size_t)(end++ - host);
	} else if (strchr(text, ':') != end) {
		return COLLX_ERR_INVALID;
	}
	if (!len || !end[1] || strspn(end + 1, "0123456789") != strlen(end + 1) ||
	    strlen(end + 1) >= sizeof(l->port) || strtol(end + 1, NULL, 10) > 65535)
		return COLLX_ERR_INVALID;
	memcpy(l->host, host, len); /* a place's name has room for it */
	l->host[len] = '\0';
	strcpy(l->port, end + 1);
	return 0;
}

static bool is_v6(const char *text)
{
	struct in6_addr addr;

	return inet_pton(AF_INET6, text, &addr) == 1;
}

/* Without brackets nobody knows where an IPv6 address ends and a port begins. */
static int not_split(const char *text)
{
	const char *end = strrchr(text, ':'), *port = end && end[1] ? end + 1 : "PORT";
	char host[CX_MEET_MAX];

	snprintf(host, sizeof(host), "%.*s", end ? (int)(end - text) : 0, text);
	if (!is_v6(host) && is_v6(text)) {
		snprintf(host, sizeof(host), "%s", text);
		port = "PORT";
	}
	if (is_v6(host))
		return cx_fail(COLLX_ERR_INVALID,
			       "meeting point tcp:%s is ambiguous: an IPv6 address stands in "
			       "brackets, tcp:[%s]:%s", text, host, port);
	return cx_fail(COLLX_ERR_INVALID,
		       "meeting point tcp:%s is not tcp:HOST:PORT or tcp:[ADDRESS]:PORT", text);
}

static void lookup_run(struct cx_aside *a)
{
	struct lookup *l = (struct lookup *)a;
	const struct addrinfo want = { .ai_socktype = SOCK_STREAM,
				       .ai_flags = AI_NUMERICSERV | l->flags };

	l->rc = getaddrinfo(l->host, l->port, &want, &l->got);
	l->err = errno;
}

static void lookup_drop(struct cx_aside *a)
{
	struct lookup *l = (struct lookup *)a;

	if (l->got)
		freeaddrinfo(l->got);
	free(l);
}

/* Why an address that means another host to each host is no meeting point; or NULL. */
static const char *objection(const struct sockaddr *addr, const char *host)
{
	const struct in6_addr *v6 = &((const struct sockaddr_in6 *)addr)->sin6_addr;
	uint32_t a = ntohl(((const struct sockaddr_in *)addr)->sin_addr.s_addr);
	int is_v4 = addr->sa_family == AF_INET, named = host[strspn(host, "0123456789.")];

	if (is_v4 ? a == 0 : IN6_IS_ADDR_UNSPECIFIED(v6))
		return "give rank 0's address, not a wildcard";
	if (!is_v4 && IN6_IS_ADDR_LINKLOCAL(v6))
		return "a link-local address differs by host";
	if (named && strcmp(host, "localhost") && !strchr(host, ':') &&
	    (is_v4 ? a >> 24 == 127 : IN6_IS_ADDR_LOOPBACK(v6)))
		return "the host's name means the loopback here (see /etc/hosts): give an address "
		       "that the other hosts reach";
	return NULL;
}

static void add_address(struct cx_place *p, const struct addrinfo *a)
{
	if (!p->len) {
		memcpy(&p->addr, a->ai_addr, a->ai_addrlen);
		p->len = a->ai_addrlen;
	} else if (p->nmore < CX_PLACE_ADDRS - 1) {
		memcpy(&p->more[p->nmore++], a->ai_addr, a->ai_addrlen);
	}
}

/* A job's names may appear after its processes, and a name server that is away now may be
 * back in a moment. What has the form of an address is no name. */
static bool may_become_known(const struct lookup *l)
{
	if (l->rc == EAI_AGAIN)
		return true;
	return (l->rc == EAI_NONAME || l->rc == EAI_NODATA || l->rc == EAI_FAIL) &&
	       l->host[strspn(l->host, "0123456789.")] && !strchr(l->host, ':');
}

static int take_addresses(struct cx_place *p, const struct lookup *l)
{
	const char *why = NULL;

	if (l->rc == EAI_NONAME && l->flags & AI_NUMERICHOST)
		return cx_fail(COLLX_ERR_INVALID, "rank 0 at %s: %s is no address", p->name,
			       l->host);
	if (may_become_known(l))
		return cx_fail(COLLX_ERR_INIT_TIMEOUT,
			       "rank 0 at %s: host %s was not known before the deadline: %s",
			       p->name, l->host, gai_strerror(l->rc));
	if (l->rc == EAI_SYSTEM)
		return cx_fail_errno(l->err, "rank 0 at %s: host %s", p->name, l->host);
	if (l->rc)
		return cx_fail(COLLX_ERR_SYSTEM, "rank 0 at %s: host %s: %s", p->name, l->host,
			       gai_strerror(l->rc));
	for (const struct addrinfo *a = l->got; a; a = a->ai_next) {
		const char *bad = a->ai_addrlen > sizeof(p->more[0])
					  ? "neither IPv4 nor IPv6"
					  : objection(a->ai_addr, l->host);

		if (bad)
			why = bad;
		else
			add_address(p, a);
	}
	return p->len ? 0
		      : cx_fail(COLLX_ERR_INVALID, "rank 0 at %s: %s", p->name,
				why ? why : "no address");
}

/* Of a creation: its deadline, and whether it is to end before. */
struct patience {
	uint64_t deadline_ns;
	int (*stop)(void *ctx);
	void *stop_ctx;
};

static int is_stopped(const struct patience *p)
{
	return p->stop ? p->stop(p->stop_ctx) : 0;
}

/* Between two questions. 0; or why there shall be no other. */
static int take_nap(const struct patience *p, int ms)
{
	uint64_t until = cx_min(cx_now_ns() + (uint64_t)ms * 1000000, p->deadline_ns);
	int rc = 0;

	while (!rc && cx_now_ns() < until) {
		cx_sys->poll(NULL, 0, 50);
		rc = is_stopped(p);
	}
	return rc;
}

/* No answer came: the thread that waits for it has taken what it works on. */
static int no_answer(const char *host, const char *name, const struct patience *p)
{
	int rc = is_stopped(p);

	return rc ? rc : cx_fail(COLLX_ERR_INIT_TIMEOUT,
				 "rank 0 at %s: no answer about host %s before the deadline: do "
				 "the name servers of this host run?", name, host);
}

static int ask(struct lookup **l, const char *name, const struct patience *p)
{
	char host[sizeof((*l)->host)];
	int nap_ms = 50, rc;

	strcpy(host, (*l)->host);
	if (cx_now_ns() >= p->deadline_ns)
		return cx_fail(COLLX_ERR_INIT_TIMEOUT,
			       "rank 0 at %s: no time is left to look up host %s", name,
			       (*l)->host);
	(*l)->aside.stop = p->stop;
	(*l)->aside.stop_ctx = p->stop_ctx;
	for (;;) {
		rc = cx_aside_run(&(*l)->aside, p->deadline_ns);
		if (rc == 0) {
			*l = NULL;
			return no_answer(host, name, p);
		}
		if (rc < 0 || !may_become_known(*l))
			return rc < 0 ? rc : 0;
		rc = take_nap(p, nap_ms);
		if (rc || cx_now_ns() >= p->deadline_ns)
			return rc;
		nap_ms = nap_ms < 1000 ? 2 * nap_ms : nap_ms;
	}
}

static int parse_tcp(struct cx_place *p, const char *text, const struct patience *patience)
{
	struct lookup *l = calloc(1, sizeof(*l)); /* its thread may outlive cx_sys's user */
	int rc = 0;

	if (!l)
		return cx_fail(COLLX_ERR_NOMEM, "out of memory");
	*l = (struct lookup){ .aside = { .run = lookup_run, .drop = lookup_drop },
			      .flags = AI_NUMERICHOST };
	if (split(text, l))
		rc = not_split(text);
	if (!rc)
		lookup_run(&l->aside);
	if (!rc && l->rc == EAI_NONAME && patience) {
		l->flags = 0;
		rc = ask(&l, p->name, patience);
	}
	if (!rc)
		rc = take_addresses(p, l);
	if (l)
		lookup_drop(&l->aside);
	return rc;
}

/* Without patience nobody is asked. */
static int parse(struct cx_place *p, const char *name, const struct patience *patience)
{
	memset(p, 0, sizeof(*p));
	if (strlen(name) >= sizeof(p->name))
		return cx_fail(COLLX_ERR_INVALID,
			       "meeting point %.20s... is longer than %d characters", name,
			       CX_MEET_MAX - 1);
	strcpy(p->name, name);
	p->ports = 1;
	if (!strncmp(name, "unix:", 5))
		return parse_unix(p, name + 5);
	if (!strncmp(name, "tcp:", 4))
		return parse_tcp(p, name + 4, patience);
	return cx_fail(COLLX_ERR_INVALID,
		       "meeting point '%s' is neither unix:/PATH nor tcp:HOST:PORT", name);
}

int cx_place_parse(struct cx_place *p, const char *name)
{
	return parse(p, name, NULL);
}

int cx_place_find(struct cx_place *p, const char *name, uint64_t deadline_ns,
		  int (*stop)(void *ctx), void *stop_ctx)
{
	const struct patience patience = { deadline_ns, stop, stop_ctx };

	return parse(p, name, &patience);
}

/* ---- addresses ---- */

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
	int rc = getnameinfo((const struct sockaddr *)&p->addr, p->len, host, sizeof(host), port,
			     sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV);

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

int cx_place_port(const struct cx_place *p)
{
	struct cx_place copy = *p;

	return p->addr.ss_family == AF_UNIX ? 0 : ntohs(*port_of(&copy));
}

int cx_place_of_address(struct cx_place *p, const struct sockaddr *addr, int port)
{
	memset(p, 0, sizeof(*p));
	p->ports = 1;
	p->len = addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
					     : sizeof(struct sockaddr_in);
	memcpy(&p->addr, addr, p->len);
	return port < 0 ? rename_tcp(p) : cx_place_set_port(p, port);
}

int cx_place_of_connection(struct cx_place *p, int fd, int port)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	int rc = cx_sys->local_name(fd, (struct sockaddr *)&addr, &len);

	if (rc)
		return cx_fail_errno(-rc, "the address of a connection");
	return cx_place_of_address(p, (const struct sockaddr *)&addr, port);
}

static int ports_of(const struct cx_place *p)
{
	return p->ports > 1 ? p->ports : 1;
}

int cx_place_count(const struct cx_place *p)
{
	return ports_of(p) * (1 + p->nmore);
}

/* All addresses at the first port, then at the next: rank 0 mostly has the first. */
void cx_place_nth(const struct cx_place *p, int i, struct cx_place *out)
{
	int addr = i % (1 + p->nmore), port = cx_place_port(p) + i / (1 + p->nmore);

	if (cx_place_count(p) == 1) {
		*out = *p;
		return;
	}
	cx_place_of_address(out, addr ? (const struct sockaddr *)&p->more[addr - 1]
				      : (const struct sockaddr *)&p->addr, port);
	out->host = p->host;
}

/* ---- here or elsewhere ---- */

bool cx_place_is_local(const struct cx_place *p)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&p->addr;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&p->addr;

	if (p->addr.ss_family == AF_INET)
		return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
	return p->addr.ss_family == AF_UNIX || IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

static bool same_address(const struct sockaddr *a, const struct sockaddr *b)
{
	if (!a || a->sa_family != b->sa_family)
		return false;
	if (a->sa_family == AF_INET)
		return ((const struct sockaddr_in *)a)->sin_addr.s_addr ==
		       ((const struct sockaddr_in *)b)->sin_addr.s_addr;
	return IN6_ARE_ADDR_EQUAL(&((const struct sockaddr_in6 *)a)->sin6_addr,
				  &((const struct sockaddr_in6 *)b)->sin6_addr);
}

bool cx_place_is_here(const struct cx_place *p)
{
	struct ifaddrs *all = NULL;
	bool here = false;

	if (cx_place_is_local(p))
		return true;
	if (p->host)
		return p->host == cx_host_id();
	if (cx_sys->interfaces(&all))
		return false;
	for (int i = 0; i <= p->nmore; i++)
		for (const struct ifaddrs *a = all; a; a = a->ifa_next)
			here |= same_address(a->ifa_addr,
					     i ? (const struct sockaddr *)&p->more[i - 1]
					       : (const struct sockaddr *)&p->addr);
	cx_sys->release_interfaces(all);
	return here;
}
