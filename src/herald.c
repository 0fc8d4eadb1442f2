/* SPDX-License-Identifier: BSD-3-Clause */
/* The thread that calls back: for stragglers, and for the first error, its last. */
#include <poll.h>
#include <pthread.h>

#include "base/base.h"
#include "comm.h"

struct cx_herald {
	struct collx_comm *comm;
	collx_event_fn fn;
	void *ctx;
	struct cx_ward *guard;
	uint64_t told;   /* number of the last straggler */
	int bell;        /* of the communicator */
	int stop;        /* rung when it is to end */
	pthread_t thread;
};

/* What the bell was rung for. False: there is nothing to come. */
static bool tell(struct cx_herald *h)
{
	struct cx_straggler s;

	cx_guard_straggler(h->guard, CX_BELL_HERALD, &s);
	if (s.number != h->told) {
		h->told = s.number;
		h->fn(h->comm, COLLX_EVENT_STRAGGLER, h->ctx);
	}
	if (!cx_guard_verdict(h->guard))
		return true;
	h->fn(h->comm, COLLX_EVENT_ERROR, h->ctx);
	return false;
}

static void *run(void *arg)
{
	struct cx_herald *h = arg;
	struct pollfd fds[] = { { .fd = h->bell, .events = POLLIN },
				{ .fd = h->stop, .events = POLLIN } };
	bool goes_on = true;

	while (goes_on && !fds[1].revents) {
		fds[0].revents = 0;
		if (cx_sys->poll(fds, 2, -1) < 0)
			cx_sys->poll(NULL, 0, 5);
		else if (fds[0].revents)
			goes_on = tell(h);
	}
	return NULL;
}

static int start(struct cx_herald *h)
{
	int rc;

	h->guard = cx_comm_now(h->comm)->guard;
	h->bell = cx_guard_bell(h->guard, CX_BELL_HERALD);
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
	rc = c->herald ? COLLX_ERR_INVALID : start(h);
	if (rc)
		cx_free(h);
	else if (!atomic_compare_exchange_strong(&c->herald, &none, h))
		cx_herald_stop(h); /* another thread was faster */
	if (rc == COLLX_ERR_INVALID || none)
		return cx_fail(COLLX_ERR_INVALID, "set_callback: there is one already");
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
