/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a communicator is destroyed, whoever does it and whatever other threads do with it.
 * All handles that callers have are in a list, so that a second destroy, or two at once, find
 * nothing to destroy. A call that another thread is in ends first, with COLLX_ERR_ABORTED and
 * for this rank alone: the others hear that it left.
 */
#include <pthread.h>

#include "base/base.h"
#include "comm.h"

static struct {
	pthread_mutex_t lock;
	struct collx_comm *first;
} handles = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- the handles ---- */

static void lock(void)
{
	pthread_mutex_lock(&handles.lock);
}

static void unlock(void)
{
	pthread_mutex_unlock(&handles.lock);
}

/* The child has the list as it was, and no other thread that could hold the lock. */
static void in_child(void)
{
	handles.lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}

static void watch_forks(void)
{
	pthread_atfork(lock, unlock, in_child);
}

void cx_comm_hand_out(struct collx_comm *c)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, watch_forks);
	lock();
	c->next_handle = handles.first;
	handles.first = c;
	unlock();
}

/* Where it hangs; NULL: it is no handle. Only the pointer is looked at. */
static struct collx_comm **find(const struct collx_comm *c)
{
	struct collx_comm **at = &handles.first;

	while (*at && *at != c)
		at = &(*at)->next_handle;
	return *at ? at : NULL;
}

/* 0: it is the caller's to destroy, who is the only one now. */
static int take(struct collx_comm *c)
{
	struct collx_comm **at;
	int rc = 0;

	lock();
	at = find(c);
	if (!at)
		rc = cx_fail(COLLX_ERR_INVALID, "destroy: this is no communicator; it may have "
						"been destroyed already");
	if (!rc)
		rc = cx_comm_check_fork(c, "destroy");
	if (!rc && cx_herald_is_here(c))
		rc = cx_fail(COLLX_ERR_INVALID, "destroy: called by the communicator's own "
						"callback, which cannot end itself");
	if (!rc)
		*at = c->next_handle;
	unlock();
	return rc;
}

/* ---- calls of other threads ---- */

int cx_comm_claim(struct collx_comm *c, const char *name)
{
	if (!atomic_exchange_explicit(&c->deciding, true, memory_order_acquire))
		return 0;
	return cx_fail(COLLX_ERR_INVALID, "%s: another thread decides on this communicator; one at "
					  "a time can", name);
}

static bool is_inside(const struct collx_comm *c)
{
	/* Pairs with the release in cx_comm_exit, cx_comm_unclaim and cx_calls_end: that thread
	 * is out. A collective that failed never ends, but has left its error. */
	return atomic_load_explicit(&c->inside, memory_order_acquire) ||
	       atomic_load_explicit(&c->deciding, memory_order_acquire) ||
	       (cx_calls_state(&c->calls) % 2 && !atomic_load(&c->error));
}

/* Ends what runs on any communicator that the handle stands for, also on one that comes to
 * stand for it meanwhile. */
static bool all_are_out(struct collx_comm *c)
{
	bool inside = false;

	for (; c; c = atomic_load_explicit(&c->heir, memory_order_acquire)) {
		if (is_inside(c)) {
			cx_guard_drop(c->guard);
			inside = true;
		}
	}
	return !inside;
}

static void close_all(struct collx_comm *c)
{
	while (c) {
		struct collx_comm *next = c->heir;

		cx_comm_close(c);
		c = next;
	}
}

int cx_comm_leave(struct collx_comm *c)
{
	const uint64_t patience_ns = 10000000000;
	uint64_t until = cx_now_ns() + patience_ns;
	int rc = take(c);

	if (rc)
		return rc;
	while (!all_are_out(c)) {
		if (cx_now_ns() > until) { /* it is stopped, say: nothing is freed */
			cx_comm_hand_out(c);
			return cx_fail(COLLX_ERR_TIMEOUT,
				       "destroy: another thread is in a call, and does not return");
		}
		cx_sys->poll(NULL, 0, 1);
	}
	close_all(c);
	return 0;
}
