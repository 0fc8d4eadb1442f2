/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a communicator is destroyed, whoever does it and whatever other threads do with it.
 * All handles that callers have are in a list, so that a second destroy, or two at once, find
 * nothing to destroy. A call that another thread is in ends first, with COLLX_ERR_ABORTED and
 * for this rank alone: the others hear that it left.
 *
 * And how one takes another's place behind a handle, while any thread may look at it, or end
 * it in a signal handler. The handle stays where it is. Whoever looks counts itself in at what
 * the handle leads to, and looks again whether it still does:
 *
 *      who asks      askers++      does the handle lead here?   looks       askers--
 *      who repairs   the handle leads to the next   waits for askers == 0   shuts the old one
 *
 * So one of the two sees the other. The structure of what was replaced stays until the handle
 * is destroyed: that is where the late ones count themselves in.
 */
#include <pthread.h>
#include <stdio.h>

#include "base/base.h"
#include "comm.h"

/* For other threads to come out of a call, or a look. */
static const uint64_t patience_ns = 10000000000;

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
	struct collx_comm *h = c->handle;

	if (!atomic_exchange_explicit(&h->deciding, true, memory_order_acquire)) {
		if (cx_comm_now(h) == c)
			return 0;
		cx_comm_unclaim(c, 0);
	}
	return cx_fail(COLLX_ERR_INVALID, "%s: another thread decides on this communicator; one at "
					  "a time can", name);
}

static bool is_inside(const struct collx_comm *c)
{
	/* Pairs with the release in cx_comm_exit and cx_calls_end: that thread is out. A
	 * collective that failed never ends, but has left its error. */
	return atomic_load_explicit(&c->inside, memory_order_acquire) ||
	       (cx_calls_state(&c->calls) % 2 && !atomic_load(&c->error));
}

/* Does a thread use it, or look at it? */
static bool is_used(const struct collx_comm *c)
{
	return !c->retired && (is_inside(c) || atomic_load(&c->askers));
}

/* Ends what runs on what the handle leads to, also where that is another one meanwhile. */
static bool all_are_out(struct collx_comm *handle)
{
	struct collx_comm *c = cx_comm_hold(handle);
	/* Pairs with the release in cx_comm_unclaim. */
	bool used = atomic_load_explicit(&handle->deciding, memory_order_acquire);

	used |= is_inside(c);
	if (used)
		cx_guard_drop(c->guard);
	cx_comm_let(c);
	/* Nobody decides, so none is replaced or retired. */
	for (c = used ? NULL : cx_comm_now(handle); c; c = c->past)
		used |= is_used(c);
	return !used;
}

static void close_all(struct collx_comm *handle)
{
	struct collx_comm *c, *past;

	cx_herald_stop(handle); /* whose call may have put another one there */
	for (c = cx_comm_now(handle); c; c = past) {
		past = c->past;
		cx_comm_close(c);
	}
}

int cx_comm_leave(struct collx_comm *c)
{
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

/* ---- another one in its place ---- */

struct collx_comm *cx_comm_hold(struct collx_comm *handle)
{
	for (;;) {
		struct collx_comm *c = cx_comm_now(handle);

		/* In total order with the store in cx_comm_replace, and the load in is_used. */
		atomic_fetch_add(&c->askers, 1);
		if (cx_comm_leads_to(handle, c))
			return c;
		cx_comm_let(c);
	}
}

void cx_comm_replace(struct collx_comm *c, struct collx_comm *next, int own)
{
	int wish;

	next->handle = c->handle;
	next->past = c;
	next->number = c->number + 1;
	cx_guard_cause(c->guard, &next->why);
	atomic_store(&c->handle->heir, next);
	/* Who attaches a bell or wishes something later than this looks where it leads then. */
	cx_guard_pass_bells(c->guard, next->guard);
	wish = cx_guard_wish(c->guard);
	if (wish && wish != own)
		cx_guard_end_now(next->guard, wish);
}

/* Only its structure is left; the error is for who comes too late. */
static void retire(struct collx_comm *c)
{
	if (!c->error) {
		snprintf(c->text, sizeof(c->text), "another communicator has its place");
		c->error = COLLX_ERR_REVOKED;
	}
	cx_comm_shut(c);
	c->retired = true;
}

void cx_comm_retire_past(struct collx_comm *c)
{
	uint64_t until = cx_now_ns() + patience_ns;

	for (c = c->past; c; c = c->past) {
		while (is_used(c) && cx_now_ns() < until)
			cx_sys->poll(NULL, 0, 1);
		if (!c->retired && !is_used(c)) /* else it has its things until it is destroyed */
			retire(c);
	}
}

/* The first that is asked for is the handle's. */
static int make_bell(struct collx_comm *handle, enum cx_bell which)
{
	int bell = atomic_load(&handle->bell[which]), made, none = -1;

	if (bell >= 0)
		return bell;
	made = cx_sys->bell();
	if (made < 0)
		return cx_fail_errno(-made, "event_fd");
	if (atomic_compare_exchange_strong(&handle->bell[which], &none, made))
		return made;
	cx_sys->close(made); /* another thread was faster */
	return none;
}

int cx_comm_bell(struct collx_comm *handle, enum cx_bell which)
{
	int bell = make_bell(handle, which), rc = bell < 0 ? bell : 0;
	struct collx_comm *c;

	if (rc)
		return rc;
	do {
		c = cx_comm_hold(handle);
		rc = cx_guard_attach(c->guard, which, bell);
		cx_comm_let(c);
	} while (!rc && !cx_comm_leads_to(handle, c));
	return rc ? rc : bell;
}
