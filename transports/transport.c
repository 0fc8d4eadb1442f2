/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The registry of transports, and the stubs that stand where a transport has
 * nothing to offer. A table is always complete: nobody tests a slot for NULL.
 */
#include <string.h>
#include <time.h>

#include "src/base/base.h"
#include "transports/transport.h"

enum { NAP_NS = 50000 };

extern const struct cx_transport cx_transport_shm, cx_transport_sim, cx_transport_tcp;

const struct cx_transport *const cx_transports[] = { &cx_transport_shm, &cx_transport_tcp,
						     &cx_transport_sim, NULL };

const struct cx_transport *cx_transport_find(const char *name)
{
	const struct cx_transport *const *t = cx_transports;

	while (*t && strcmp((*t)->name, name))
		t++;
	return *t;
}

int cx_transport_has_peek(const struct cx_transport *t)
{
	return t->peek != cx_stub_peek;
}

int cx_transport_has_reserve(const struct cx_transport *t)
{
	return t->reserve != cx_stub_reserve;
}

int cx_transport_has_wait_fds(const struct cx_transport *t)
{
	return t->wait_fds != cx_stub_wait_fds;
}

static int absent(const char *what)
{
	return cx_fail(COLLX_ERR_UNSUPPORTED, "this transport has no %s", what);
}

long cx_stub_peek(struct cx_lane *lane, struct cx_xfer *x, const void **data)
{
	(void)lane, (void)x, (void)data;
	return absent("peek");
}

void cx_stub_release(struct cx_lane *lane, struct cx_xfer *x, size_t n)
{
	(void)lane, (void)x, (void)n;
}

long cx_stub_reserve(struct cx_lane *lane, struct cx_xfer *x, void **room)
{
	(void)lane, (void)x, (void)room;
	return absent("reserve");
}

void cx_stub_commit(struct cx_lane *lane, struct cx_xfer *x, size_t n)
{
	(void)lane, (void)x, (void)n;
}

void cx_stub_arm(struct cx_port *port)
{
	(void)port;
}

void cx_stub_sleep(struct cx_port *port, uint64_t timeout_ns)
{
	struct timespec nap = { .tv_nsec = (long)cx_min(timeout_ns, NAP_NS) };

	(void)port;
	if (timeout_ns)
		nanosleep(&nap, NULL);
}

int cx_stub_wait_fds(struct cx_port *port, struct pollfd *fds, unsigned *n)
{
	(void)port, (void)fds, (void)n;
	return absent("descriptors to wait for");
}

int cx_stub_reg(struct cx_port *port, void *buf, size_t len, void **handle)
{
	(void)port, (void)buf, (void)len, (void)handle;
	return absent("registered memory");
}

void cx_stub_dereg(struct cx_port *port, void *handle)
{
	(void)port, (void)handle;
}

void cx_stub_stats(struct cx_port *port, struct cx_port_stats *out)
{
	(void)port;
	memset(out, 0, sizeof(*out));
}
