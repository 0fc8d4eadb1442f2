/* SPDX-License-Identifier: BSD-3-Clause */
/* Which host a thread is on; see hosts.h. Linked with --wrap. */
#include <sys/socket.h>

#include "src/host.h"
#include "src/place.h"
#include "tests/hosts.h"

static _Thread_local int here;
static _Atomic int are_several;

uint64_t __real_cx_host_id(void);
uint64_t __wrap_cx_host_id(void);
int __real_cx_host_meeting(char *where, size_t len, const unsigned char name[CX_HOST_NAME_BYTES]);
int __wrap_cx_host_meeting(char *where, size_t len, const unsigned char name[CX_HOST_NAME_BYTES]);
bool __real_cx_place_is_local(const struct cx_place *p);
bool __wrap_cx_place_is_local(const struct cx_place *p);
bool __real_cx_place_is_here(const struct cx_place *p);
bool __wrap_cx_place_is_here(const struct cx_place *p);

uint64_t __wrap_cx_host_id(void)
{
	return __real_cx_host_id() + (uint64_t)here;
}

int __wrap_cx_host_meeting(char *where, size_t len, const unsigned char name[CX_HOST_NAME_BYTES])
{
	unsigned char own[CX_HOST_NAME_BYTES];

	for (int i = 0; i < CX_HOST_NAME_BYTES; i++)
		own[i] = (unsigned char)(name[i] ^ (i ? 0 : here));
	return __real_cx_host_meeting(where, len, own);
}

/* Here the loopback leads from host to host. */
bool __wrap_cx_place_is_local(const struct cx_place *p)
{
	return are_several ? p->addr.ss_family == AF_UNIX : __real_cx_place_is_local(p);
}

bool __wrap_cx_place_is_here(const struct cx_place *p)
{
	if (!are_several || !p->host)
		return __real_cx_place_is_here(p);
	return p->host == __wrap_cx_host_id();
}

static void move(int host, int several)
{
	here = host;
	are_several = several;
}

static void __attribute__((constructor)) introduce(void)
{
	hosts_move = move;
}
