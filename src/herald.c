/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The thread that calls back: for stragglers, and for the error of each communicator that the
 * handle leads to.
 */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/base.h"
#include "comm.h"

struct cx_herald {
	struct collx_comm *comm;
	collx_event_fn fn;
	void *ctx;
	unsigned errors;     /* told of: one of each communicator, up to that number */
	unsigned number;     /* of the present one */
	uint64_t stragglers; /* told of, of that one */
	int bell;        /* of the handle */
	int stop;        /* rung when it is to end */
	pthread_t thread;
	_Atomic int state; /* enum */
};

enum { TO_SPAWN, SPAWNED, NO_THREAD };

/* The one whose thread this is; NULL. Known here before anybody can ask, as `thread` is not. */
static _Thread_local const struct cx_herald *here;

/* What the bell was rung for, as the handle leads there now. Each error is told of once, also
 * where the communicator went on meanwhile; several that came in between are one. */
static void tell(struct cx_herald *h)
{
	struct cx_straggler s;
	struct collx_comm *c;
	unsigned number;
	bool failed;

	cx_sys->hush(h->bell);
	c = cx_comm_hold(h->comm);
	number = c->number;
	cx_guard_straggler(c->guard, CX_BELLS, &s);
	failed = cx_guard_verdict(c->guard) != 0;
	cx_comm_let(c);
	if (number != h->number) {
		h->number = number;
		h->stragglers = 0;
	}
	if (h->errors < number) {
		h->errors = number;
		h->fn(h->comm, COLLX_EVENT_ERROR, h->ctx);
	}
	if (h->errors == number && s.number != h->stragglers) {
		h->stragglers = s.number;
		h->fn(h->comm, COLLX_EVENT_STRAGGLER, h->ctx);
	}
	if (failed && h->errors == number) {
		h->errors = number + 1;
		h->fn(h->comm, COLLX_EVENT_ERROR, h->ctx);
	}
}

static void *run(void *arg)
{
	struct cx_herald *h = arg;
	struct pollfd fds[] = { { .fd = h->bell, .events = POLLIN },
				{ .fd = h->stop, .events = POLLIN } };

	here = h;
	while (!fds[1].revents) {
		fds[0].revents = 0;
		if (cx_sys->poll(fds, 2, -1) < 0)
			cx_sys->poll(NULL, 0, 5);
		else if (fds[0].revents)
			tell(h);
	}
	return NULL;
}

/* What it waits for. */
static int prepare(struct cx_herald *h)
{
	struct collx_comm *c = cx_comm_hold(h->comm);

	h->errors = c->number; /* of those before it the program knows */
	cx_comm_let(c);
	h->bell = cx_comm_bell(h->comm, CX_BELL_HERALD);
	if (h->bell < 0)
		return h->bell;
	h->stop = cx_sys->bell();
	return h->stop < 0 ? cx_fail_errno(-h->stop, "set_callback: an eventfd") : 0;
}

static void discard(struct cx_herald *h)
{
	cx_sys->close(h->stop);
	cx_free(h);
}

/* It is the communicator's before its thread begins: who ends the one finds the other, also
 * when the first callback brings that about. */
static int publish(struct cx_herald *h)
{
	struct collx_comm *c = h->comm;
	struct cx_herald *none = NULL, *self = h;
	int rc;

	if (!atomic_compare_exchange_strong(&c->herald, &none, h)) {
		discard(h);
		return cx_fail(COLLX_ERR_INVALID, "set_callback: there is one already");
	}
	rc = cx_sys->spawn(&h->thread, run, h);
	if (!rc) {
		/* Pairs with the acquire in cx_herald_stop: `thread` is written. */
		atomic_store_explicit(&h->state, SPAWNED, memory_order_release);
		return 0;
	}
	if (atomic_compare_exchange_strong(&c->herald, &self, NULL))
		discard(h);
	else /* who stops it waits for that */
		atomic_store_explicit(&h->state, NO_THREAD, memory_order_release);
	return cx_fail_errno(-rc, "set_callback: the thread that calls back");
}

int cx_herald_start(struct collx_comm *c, collx_event_fn fn, void *ctx)
{
	struct cx_herald *h = cx_alloc(1, sizeof(*h));
	int rc;

	if (!h)
		return COLLX_ERR_NOMEM;
	h->comm = c;
	h->fn = fn;
	h->ctx = ctx;
	rc = prepare(h);
	if (!rc)
		return publish(h);
	cx_free(h);
	return rc;
}

bool cx_herald_is_here(const struct collx_comm *c)
{
	return here && here->comm == c;
}

void cx_herald_stop(struct collx_comm *c)
{
	struct cx_herald *h = atomic_exchange(&c->herald, NULL);
	int state;

	if (!h)
		return;
	while (!(state = atomic_load_explicit(&h->state, memory_order_acquire)))
		cx_sys->poll(NULL, 0, 1); /* another thread makes it this moment */
	if (state == SPAWNED) {
		cx_sys->ring(h->stop);
		cx_sys->join(h->thread);
	}
	discard(h);
}
