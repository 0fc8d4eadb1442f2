/* SPDX-License-Identifier: BSD-3-Clause */
/* Where the ranks of several hosts meet: an address of this host, a free port. */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "run.h"

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* IPv4 before IPv6; 0: not one that other hosts reach. */
static int worth(const struct ifaddrs *i, const char *wanted)
{
	const union address *a = (const union address *)i->ifa_addr;

	if (!a || !(i->ifa_flags & IFF_UP) || !(i->ifa_flags & IFF_RUNNING))
		return 0;
	if (wanted ? strcmp(i->ifa_name, wanted) != 0 : (i->ifa_flags & IFF_LOOPBACK) != 0)
		return 0;
	if (a->any.sa_family == AF_INET)
		return 2;
	return a->any.sa_family == AF_INET6 && !IN6_IS_ADDR_LINKLOCAL(&a->v6.sin6_addr);
}

static int choose_address(union address *out, char why[RUN_TEXT_MAX])
{
	const char *wanted = getenv("COLLX_INTERFACE");
	struct ifaddrs *list, *i;
	int best = 0, value;

	if (wanted && !*wanted)
		wanted = NULL;
	if (getifaddrs(&list)) {
		snprintf(why, RUN_TEXT_MAX, "the list of interfaces: %s", strerror(errno));
		return -1;
	}
	for (i = list; i; i = i->ifa_next) {
		value = worth(i, wanted);
		if (value <= best)
			continue;
		best = value;
		memcpy(out, i->ifa_addr,
		       value == 2 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
	}
	freeifaddrs(list);
	if (best)
		return 0;
	if (wanted)
		snprintf(why, RUN_TEXT_MAX, "COLLX_INTERFACE=%s: no such interface is up with an "
			 "address", wanted);
	else
		snprintf(why, RUN_TEXT_MAX, "no interface but the loopback is up with an address: "
			 "say with --addr where the ranks can meet");
	return -1;
}

/* The ports that listeners may have: COLLX_PORT, COLLX_PORT_RANGE=LOW-HIGH, or any (0). */
static int read_ports(int *low, int *high, char why[RUN_TEXT_MAX])
{
	const char *one = getenv("COLLX_PORT"), *range = getenv("COLLX_PORT_RANGE");
	bool is_one = one && *one, is_range = !is_one && range && *range;
	char end;

	*low = *high = 0;
	if (is_one && sscanf(one, "%d%c", low, &end) == 1)
		*high = *low;
	else if (is_one || (is_range && sscanf(range, "%d-%d%c", low, high, &end) != 2))
		*low = -1;
	if (*low >= 0 && *low <= *high && *high <= 65535)
		return 0;
	snprintf(why, RUN_TEXT_MAX, is_one ? "COLLX_PORT=%s is not a port"
					   : "COLLX_PORT_RANGE=%s is not LOW-HIGH",
		 is_one ? one : range);
	return -1;
}

/*
 * Bound but not listening, with SO_REUSEADDR as rank 0's listener: Linux then lets that
 * one bind and listen, and gives the port to nobody else by itself.
 */
static int bind_port(union address *a, int port)
{
	socklen_t len = a->any.sa_family == AF_INET ? sizeof(a->v4) : sizeof(a->v6);
	int fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (a->any.sa_family == AF_INET)
		a->v4.sin_port = htons((uint16_t)port);
	else
		a->v6.sin6_port = htons((uint16_t)port);
	if (fd < 0)
		return -1;
	if (!setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) &&
	    !bind(fd, &a->any, len) && !getsockname(fd, &a->any, &len))
		return fd;
	close(fd);
	return -1;
}

/* Somebody may listen there by SO_REUSEADDR, too: then rank 0 could not. */
static int is_free(int fd)
{
	union address a;
	socklen_t len = sizeof(a);
	int probe, rc = -1;

	if (getsockname(fd, &a.any, &len))
		return 0;
	probe = bind_port(&a, ntohs(a.any.sa_family == AF_INET ? a.v4.sin_port : a.v6.sin6_port));
	if (probe >= 0) {
		rc = listen(probe, 1);
		close(probe);
	}
	return rc == 0;
}

int run_addr_choose(char addr[RUN_ADDR_BYTES], char why[RUN_TEXT_MAX])
{
	union address a;
	char host[INET6_ADDRSTRLEN];
	int low, high, port, fd = -1;

	memset(&a, 0, sizeof(a));
	if (choose_address(&a, why) || read_ports(&low, &high, why))
		return -1;
	for (port = low; port <= high && fd < 0; port++) {
		fd = bind_port(&a, port);
		if (fd >= 0 && !is_free(fd)) {
			close(fd);
			fd = -1;
		}
	}
	if (fd < 0) {
		snprintf(why, RUN_TEXT_MAX, "no port from %d to %d is free: %s", low, high,
			 strerror(errno));
		return -1;
	}
	if (a.any.sa_family == AF_INET)
		snprintf(addr, RUN_ADDR_BYTES, "tcp:%s:%d",
			 inet_ntop(AF_INET, &a.v4.sin_addr, host, sizeof(host)),
			 ntohs(a.v4.sin_port));
	else
		snprintf(addr, RUN_ADDR_BYTES, "tcp:[%s]:%d",
			 inet_ntop(AF_INET6, &a.v6.sin6_addr, host, sizeof(host)),
			 ntohs(a.v6.sin6_port));
	return fd;
}
