/* SPDX-License-Identifier: BSD-3-Clause */
/* The thread that calls back when a communicator has its first error. */
#include <poll.h>
#include <pthread.h>

#include "base/base.h"
#include "comm.h"

struct cx_herald {
	struct collx_comm *comm;
	collx_event_fn fn;
	void *ctx;
	int bell;        /* of the communicator */
	int stop;        /* rung when it is to end */
	pthread_t thread;
};

static void *run(void *arg)
{
	struct cx_herald *h = arg;
	struct pollfd fds[] = { { .fd = h->bell, .events = POLLIN },
				{ .fd = h->stop, .events = POLLIN } };

	while (!fds[0].revents && !fds[1].revents)
		if (cx_sys->poll(fds, 2, -1) < 0)
			cx_sys->poll(NULL, 0, 5);
	if (fds[0].revents)
		h->fn(h->comm, h->ctx);
	return NULL;
}

static int start(struct cx_herald *h)
{
	int rc;

	h->bell = cx_guard_bell(cx_comm_now(h->comm)->guard);
	if (h->bell < 0)
		return h->bell;
	h->stop = cx_sys->bell();
	if (h->stop < 0)
		return cx_fail_errno(-h->stop, "set_callback: an eventfd");
	rc = cx_sys->spawn(&h->thread, run, h);
	if (!rc)
		return 0;
	cx_sys->close(h->stop);
	return cx_fail_errno(-rc, "set_callback: the thread that calls back");
}

int cx_herald_start(struct collx_comm *c, collx_event_fn fn, void *ctx)
{
	struct cx_herald *h, *none = NULL;
	int rc;

	h = cx_alloc(1, sizeof(*h));
	if (!h)
		return COLLX_ERR_NOMEM;
	h->comm = c;
	h->fn = fn;
	h->ctx = ctx;
	if (!atomic_compare_exchange_strong(&c->herald, &none, h)) {
		cx_free(h);
		return cx_fail(COLLX_ERR_INVALID, "set_callback: there is one already");
	}
	rc = start(h);
	if (rc) {
		c->herald = NULL;
		cx_free(h);
	}
	return rc;
}

bool cx_herald_is_here(const struct cx_herald *h)
{
	return pthread_equal(pthread_self(), h->thread);
}

void cx_herald_stop(struct cx_herald *h)
{
	cx_sys->ring(h->stop);
	cx_sys->join(h->thread);
	cx_sys->close(h->stop);
	cx_free(h);
}
