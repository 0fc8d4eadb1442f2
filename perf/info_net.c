/* SPDX-License-Identifier: BSD-3-Clause */
/* collx-info net: at which address this host would listen, and what it reaches. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "info.h"
#include "net.h"

static const uint64_t patience_ns = 3000000000; /* for one address */

static int failed(void)
{
	fprintf(stderr, "collx-info: %s\n", cx_error_text());
	return 1;
}

static void print_interfaces(const struct cx_net *net)
{
	printf("%-11s %-30s %s\n", "interface", "address", "verdict");
	for (int i = 0; i < net->n; i++) {
		const struct cx_net_addr *a = &net->addrs[i];

		printf("%-11s %-30s %s\n", a->interface, a->text[0] ? a->text : "-",
		       a->why_not ? a->why_not : "usable");
	}
}

static int print_choice(const struct cx_net *net, const struct cx_place *to)
{
	struct cx_place own;
	char why[128];

	if (cx_net_choose(net, to, &own, why, sizeof(why)))
		return failed();
	*strrchr(own.name, ':') = '\0';
	printf("\n%-11s %s (%s)\n", "listens at", own.name + 4, why);
	return 0;
}

static const char *verdict(int err)
{
	switch (err) {
	case 0:
		return "answers";
	case ECONNREFUSED:
		return "refused: the host is there, nobody listens at the port";
	case ETIMEDOUT:
		return "timed out: no such host, or something on the way drops packets";
	case ENETUNREACH:
	case EHOSTUNREACH:
		return "no route";
	default:
		return strerror(err);
	}
}

/* Connects to each of its addresses, sends nothing. */
static int try_place(const struct cx_place *to)
{
	int answers = 0;

	for (int i = 0; i < cx_place_count(to); i++) {
		struct cx_place one;
		int fd;

		cx_place_nth(to, i, &one);
		fd = cx_place_try(&one, cx_now_ns() + patience_ns);
		printf("%-11s %s: %s\n", i ? "" : "connects to",
		       one.name, verdict(fd < 0 ? -fd : 0));
		if (fd >= 0)
			answers += !cx_sys->close(fd);
	}
	return answers ? 0 : 1;
}

int info_net(const char *place)
{
	static struct cx_net net;
	struct cx_place to;

	if (cx_net_read(&net))
		return failed();
	print_interfaces(&net);
	if (!place)
		return print_choice(&net, NULL);
	if (cx_place_find(&to, place, cx_now_ns() + 2 * patience_ns, NULL, NULL))
		return failed();
	if (to.addr.ss_family != AF_UNIX && print_choice(&net, &to))
		return 1;
	return try_place(&to);
}
