/* SPDX-License-Identifier: BSD-3-Clause */
/* What names a host, in the place of host.c of the library: a process is where its world has it. */
#include <stdio.h>
#include <unistd.h>

#include "base/base.h"
#include "host.h"
#include "world.h"

uint64_t cx_host_id(void)
{
	return 1 + (uint64_t)sim.running->proc->host;
}

int cx_host_meeting(char *where, size_t len, const unsigned char name[CX_HOST_NAME_BYTES])
{
	int n = snprintf(where, len, "unix:/tmp/collx-%u/", (unsigned)geteuid());

	for (int i = 0; i < CX_HOST_NAME_BYTES; i++)
		n += snprintf(where + n, len - (size_t)n, "%02x", name[i]);
	return 0;
}
