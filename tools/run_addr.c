/* SPDX-License-Identifier: BSD-3-Clause */
/* Where the ranks of several hosts meet: an address of this host, a free port. */
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"
#include "net.h"
#include "run.h"

/* The library's choice; but the loopback, which other hosts do not reach, only where
 * COLLX_INTERFACE asks for it. */
static int choose_address(struct cx_place *own)
{
	static struct cx_net net;
	char reason[128];
	int rc = cx_net_read(&net);

	if (!rc)
		rc = cx_net_choose(&net, NULL, own, reason, sizeof(reason));
	if (!rc && cx_place_is_local(own) && !cx_env_text(CX_ENV_INTERFACE))
		rc = cx_fail(COLLX_ERR_INVALID, "no interface but the loopback is up with an "
			     "address: say with --addr where the ranks can meet");
	return rc;
}

/* Rank 0 can listen there, and others' reservations of the same range pass it by. */
static int reserve(struct cx_place *own)
{
	long port;
	int rc = cx_env_int(CX_ENV_PORT, 1, 65535, &port);

	if (rc > 0)
		rc = cx_place_set_port(own, (int)port);
	return rc < 0 ? rc : cx_place_reserve(own);
}

int run_addr_choose(char addr[RUN_ADDR_BYTES], char why[RUN_TEXT_MAX])
{
	struct cx_place own;
	int fd = choose_address(&own);

	if (!fd)
		fd = reserve(&own);
	if (fd < 0)
		snprintf(why, RUN_TEXT_MAX, "%s", cx_error_text());
	else
		snprintf(addr, RUN_ADDR_BYTES, "%s", own.name);
	return fd < 0 ? -1 : fd;
}

void run_addr_forget_first(void)
{
	static struct cx_net net;

	if (!cx_net_read(&net) && cx_net_wish_is_elsewhere(&net))
		unsetenv(cx_env_entry(CX_ENV_INTERFACE)->name);
}
