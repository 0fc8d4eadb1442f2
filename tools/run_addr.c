/* SPDX-License-Identifier: BSD-3-Clause */
/* Where the ranks of several hosts meet: an address of this host, a free port. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/base.h"
#include "net.h"
#include "run.h"

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* The library's choice; but the loopback, which other hosts do not reach, only where
 * COLLX_INTERFACE asks for it. */
static int choose_address(union address *out, char why[RUN_TEXT_MAX])
{
	static struct cx_net net;
	struct cx_place own;
	char reason[128];

	if (cx_net_read(&net) || cx_net_choose(&net, NULL, &own, reason, sizeof(reason))) {
		snprintf(why, RUN_TEXT_MAX, "%s", cx_error_text());
		return -1;
	}
	if (cx_place_is_local(&own) && !cx_env_text(CX_ENV_INTERFACE)) {
		snprintf(why, RUN_TEXT_MAX, "no interface but the loopback is up with an address: "
			 "say with --addr where the ranks can meet");
		return -1;
	}
	memcpy(out, &own.addr, cx_min((size_t)own.len, sizeof(*out)));
	return 0;
}

void run_addr_forget_first(void)
{
	static struct cx_net net;

	if (!cx_net_read(&net) && cx_net_wish_is_elsewhere(&net))
		unsetenv(cx_env_entry(CX_ENV_INTERFACE)->name);
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
