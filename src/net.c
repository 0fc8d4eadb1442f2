/* SPDX-License-Identifier: BSD-3-Clause */
/* The choice of net.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "net.h"

/* ---- what there is ---- */

static const unsigned char *bytes_of(const struct sockaddr *addr, int *len)
{
	int is_v4 = addr->sa_family == AF_INET;

	*len = is_v4 ? 4 : 16;
	return is_v4 ? (const unsigned char *)&((const struct sockaddr_in *)addr)->sin_addr
		     : (const unsigned char *)&((const struct sockaddr_in6 *)addr)->sin6_addr;
}

static int count_bits(const struct sockaddr *mask)
{
	int len, bits = 0;
	const unsigned char *p = bytes_of(mask, &len);

	for (int i = 0; i < len; i++)
		bits += __builtin_popcount(p[i]);
	return bits;
}

static const char *objection(const struct ifaddrs *a)
{
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)a->ifa_addr;
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)a->ifa_addr;

	if (!(a->ifa_flags & IFF_UP))
		return "the interface is down";
	if (!(a->ifa_flags & IFF_RUNNING))
		return "no carrier";
	if (a->ifa_addr->sa_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr))
		return "link-local";
	if (a->ifa_addr->sa_family == AF_INET && ntohl(v4->sin_addr.s_addr) >> 16 == 0xa9fe)
		return "link-local";
	return a->ifa_flags & IFF_LOOPBACK ? "loopback: this host alone" : NULL;
}

static int add_address(struct cx_net *net, const struct ifaddrs *a)
{
	struct cx_net_addr *to = &net->addrs[net->n];
	char host[INET6_ADDRSTRLEN];
	int len, rc;

	memset(to, 0, sizeof(*to));
	rc = cx_place_of_address(&to->at, a->ifa_addr, 0);
	if (rc)
		return rc;
	snprintf(to->interface, sizeof(to->interface), "%s", a->ifa_name);
	to->bits = a->ifa_netmask ? count_bits(a->ifa_netmask) : 0;
	inet_ntop(a->ifa_addr->sa_family, bytes_of(a->ifa_addr, &len), host, sizeof(host));
	snprintf(to->text, sizeof(to->text), "%s/%d", host, to->bits);
	to->why_not = objection(a);
	net->n++;
	return 0;
}

static bool has_address(const struct cx_net *net, const char *interface)
{
	for (int i = 0; i < net->n; i++)
		if (!strcmp(net->addrs[i].interface, interface))
			return true;
	return false;
}

static void add_bare(struct cx_net *net, const struct ifaddrs *a)
{
	struct cx_net_addr *to = &net->addrs[net->n];

	if (has_address(net, a->ifa_name))
		return;
	memset(to, 0, sizeof(*to));
	snprintf(to->interface, sizeof(to->interface), "%s", a->ifa_name);
	to->why_not = a->ifa_flags & IFF_UP ? "no address" : "the interface is down";
	net->n++;
}

static bool is_inet(const struct ifaddrs *a)
{
	return a->ifa_addr &&
	       (a->ifa_addr->sa_family == AF_INET || a->ifa_addr->sa_family == AF_INET6);
}

int cx_net_read(struct cx_net *net)
{
	struct ifaddrs *all;
	int rc = 0;

	net->n = 0;
	if (cx_sys->interfaces(&all))
		return cx_fail(COLLX_ERR_SYSTEM, "the interfaces of this host cannot be listed");
	for (const struct ifaddrs *a = all; !rc && a && net->n < CX_NET_MAX; a = a->ifa_next)
		if (is_inet(a))
			rc = add_address(net, a);
	for (const struct ifaddrs *a = all; !rc && a && net->n < CX_NET_MAX; a = a->ifa_next)
		if (!is_inet(a))
			add_bare(net, a);
	cx_sys->release_interfaces(all);
	return rc;
}

/* ---- COLLX_INTERFACE ---- */

struct wish {
	const char *text; /* NULL: none */
	bool exact;       /* an interface has this very name */
	int family;       /* of an address; 0: it is a name */
	int bits;
	unsigned char bytes[16];
};

/* ADDRESS or ADDRESS/BITS; leaves family 0 when it is neither. */
static void parse_address(struct wish *w)
{
	char host[64];
	const char *slash = strchr(w->text, '/');
	size_t len = slash ? (size_t)(slash - w->text) : strlen(w->text);
	int family, most;

	if (len >= sizeof(host))
		return;
	memcpy(host, w->text, len);
	host[len] = '\0';
	family = strchr(host, ':') ? AF_INET6 : AF_INET;
	most = family == AF_INET6 ? 128 : 32;
	if (inet_pton(family, host, w->bytes) != 1)
		return;
	w->bits = most;
	if (slash) {
		char *end;
		long bits = strtol(slash + 1, &end, 10);

		if (*end || !slash[1] || bits < 0 || bits > most)
			return;
		w->bits = (int)bits;
	}
	w->family = family;
}

static struct wish read_wish(const struct cx_net *net)
{
	struct wish w = { .text = cx_env_text(CX_ENV_INTERFACE) };

	for (int i = 0; w.text && i < net->n; i++)
		w.exact |= !strcmp(net->addrs[i].interface, w.text);
	if (w.text && !w.exact)
		parse_address(&w);
	return w;
}

static bool same_network(const unsigned char *a, const unsigned char *b, int bits)
{
	int whole = bits / 8, rest = bits % 8;

	return !memcmp(a, b, (size_t)whole) &&
	       (!rest || ((a[whole] ^ b[whole]) & 0xff << (8 - rest) & 0xff) == 0);
}

static bool is_wished(const struct wish *w, const struct cx_net_addr *a)
{
	int len;

	if (!w->text)
		return true;
	if (w->family)
		return a->at.addr.ss_family == w->family &&
		       same_network(bytes_of((const struct sockaddr *)&a->at.addr, &len), w->bytes,
				    w->bits);
	return w->exact ? !strcmp(a->interface, w->text)
			: !strncmp(a->interface, w->text, strlen(w->text));
}

bool cx_net_wish_is_elsewhere(const struct cx_net *net)
{
	struct wish w = read_wish(net);

	if (!w.family || w.bits != (w.family == AF_INET6 ? 128 : 32))
		return false;
	for (int i = 0; i < net->n; i++)
		if (net->addrs[i].text[0] && is_wished(&w, &net->addrs[i]))
			return false;
	return true;
}

/* The loopback is for those who ask for it. */
static bool is_usable(const struct wish *w, const struct cx_net_addr *a, int family)
{
	bool objects = a->why_not && !(w->text && !strncmp(a->why_not, "loopback", 8));

	return a->text[0] && !objects && (!family || a->at.addr.ss_family == family) &&
	       is_wished(w, a);
}

/* ---- the choice ---- */

static int no_candidate(const struct cx_net *net, const struct wish *w, int family,
			const char *what)
{
	char list[400];
	size_t at = 0;

	list[0] = '\0';
	for (int i = 0; i < net->n && at < sizeof(list); i++) {
		const struct cx_net_addr *a = &net->addrs[i];
		const char *why = a->why_not;

		if (w->text && (!why || !strncmp(why, "loopback", 8)))
			why = is_wished(w, a) ? NULL : "not of that name";
		if (!why && family && a->at.addr.ss_family != family)
			why = family == AF_INET6 ? "not IPv6" : "not IPv4";
		at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%s%s%s (%s)",
				       i ? ", " : "", a->interface, a->text[0] ? " " : "", a->text,
				       why ? why : "usable");
	}
	if (at >= sizeof(list))
		strcpy(list + sizeof(list) - 4, "...");
	return cx_fail(COLLX_ERR_INVALID, "%s: %s", what, list[0] ? list : "there is no interface");
}

static const struct cx_net_addr *find_address(const struct cx_net *net, const struct cx_place *p)
{
	int len, other;
	const unsigned char *want = bytes_of((const struct sockaddr *)&p->addr, &len);

	for (int i = 0; i < net->n; i++) {
		const struct cx_net_addr *a = &net->addrs[i];
		const unsigned char *has = bytes_of((const struct sockaddr *)&a->at.addr, &other);

		if (a->at.addr.ss_family == p->addr.ss_family && !memcmp(has, want, (size_t)len))
			return a;
	}
	return NULL;
}

/* The address that the kernel would send from. No packet goes out. 0 or -errno. */
static int source_of_route(const struct cx_place *to, struct cx_place *own)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	int fd = cx_sys->socket(to->addr.ss_family, SOCK_DGRAM), rc;

	if (fd < 0)
		return fd;
	rc = cx_sys->connect(fd, (const struct sockaddr *)&to->addr, to->len);
	if (!rc)
		rc = cx_sys->local_name(fd, (struct sockaddr *)&addr, &len);
	cx_sys->close(fd);
	if (!rc && cx_place_of_address(own, (const struct sockaddr *)&addr, 0))
		rc = -1;
	return rc;
}

static void explain(const struct cx_net *net, const struct cx_place *own, const char *reason,
		    char *why, size_t len)
{
	const struct cx_net_addr *a = find_address(net, own);

	snprintf(why, len, "%s%s%s", a ? a->interface : "", a ? ", " : "", reason);
}

/* The first of the place's addresses that can be reached counts. */
static int choose_by_route(const struct cx_net *net, const struct cx_place *to,
			   struct cx_place *own, char *why, size_t len)
{
	const struct wish none = { 0 };
	char what[200];
	int rc = 0;

	for (int i = 0; i <= to->nmore; i++) {
		struct cx_place one;

		cx_place_nth(to, i, &one);
		if (cx_place_port(&one) == 0) /* any will do to ask for the route */
			cx_place_set_port(&one, 1);
		rc = source_of_route(&one, own);
		if (!rc) {
			explain(net, own, "the route to it", why, len);
			return 0;
		}
	}
	if (rc == -EMFILE || rc == -ENFILE)
		return cx_fail_errno(-rc, "looking for the way to %s", to->name);
	snprintf(what, sizeof(what), "no route to %s (%s)", to->name, strerror(-rc));
	return no_candidate(net, &none, to->addr.ss_family, what);
}

static int choose_wished(const struct cx_net *net, const struct wish *w, int family,
			 struct cx_place *own, char *why, size_t len)
{
	char what[200];

	for (int i = 0; i < net->n; i++)
		if (is_usable(w, &net->addrs[i], family)) {
			*own = net->addrs[i].at;
			explain(net, own, "COLLX_INTERFACE names it", why, len);
			return 0;
		}
	snprintf(what, sizeof(what), "COLLX_INTERFACE=%.100s: no usable%s address", w->text,
		 family == AF_INET6 ? " IPv6" : family == AF_INET ? " IPv4" : "");
	return no_candidate(net, w, family, what);
}

/* Addresses that are reserved for texts: the default route leads there, or none. */
static int choose_default(const struct cx_net *net, struct cx_place *own, char *why, size_t len)
{
	static const char *const far[] = { "tcp:198.51.100.77:9", "tcp:[2001:db8::77]:9" };
	const struct wish none = { 0 };
	struct cx_place to;

	for (size_t i = 0; i < sizeof(far) / sizeof(far[0]); i++) {
		if (!cx_place_parse(&to, far[i]) && !source_of_route(&to, own) &&
		    !cx_place_is_local(own) && find_address(net, own) &&
		    is_usable(&none, find_address(net, own), 0)) {
			explain(net, own, "the default route", why, len);
			return 0;
		}
	}
	for (int i = 0; i < net->n; i++)
		if (is_usable(&none, &net->addrs[i], 0)) {
			*own = net->addrs[i].at;
			explain(net, own, "the first usable one: there is no default route", why,
				len);
			return 0;
		}
	snprintf(why, len, "there is no other usable one");
	return cx_place_parse(own, "tcp:127.0.0.1:0");
}

int cx_net_choose(const struct cx_net *net, const struct cx_place *to, struct cx_place *own,
		  char *why, size_t len)
{
	struct wish w = read_wish(net);
	int family = to && !to->nmore ? to->addr.ss_family : 0;

	if (w.text)
		return choose_wished(net, &w, family, own, why, len);
	return to ? choose_by_route(net, to, own, why, len) : choose_default(net, own, why, len);
}

int cx_net_own_place(const struct cx_meeting *m, struct cx_place *own)
{
	struct cx_net *net;
	char why[128];
	int rc;

	if (m->place.addr.ss_family == AF_UNIX)
		return cx_place_parse(own, "tcp:127.0.0.1:0");
	net = cx_alloc(1, sizeof(*net));
	rc = net ? cx_net_read(net) : COLLX_ERR_NOMEM;
	if (!rc)
		rc = cx_net_choose(net, &m->place, own, why, sizeof(why));
	cx_free(net);
	return rc;
}
