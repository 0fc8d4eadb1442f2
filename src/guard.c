/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The thread around the wards; see guard.h. Callers meet under a lock that the
 * thread never takes: a new ward comes to it through a list that it empties with
 * one exchange, and one that is to go is marked, and given back by its fate, or is the
 * thread's from then on.
 *
 * The thread ends in two ways: the last caller stops it, or it has ended the last ward
 * itself, after its caller went. Who finds `users` at 0 knows that it will ring no more.
 */
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "ward.h"

static struct {
	pthread_mutex_t lock;
	int callers;          /* who have a ward */
	_Atomic int users;    /* of the thread and its bell: the wards, and their callers */
	_Atomic size_t need;  /* for the descriptors of all wards */
	pthread_t thread;
	bool started;         /* and not joined */
	int bell;             /* wakes the thread */
	_Atomic bool stop;
	_Atomic(struct cx_ward *) incoming;
	_Atomic bool over;      /* the process is ending, and there is no thread any more */
	struct cx_ward *served; /* the thread's */
	struct pollfd *room;    /* the thread's fds */
	struct {                /* a child's, of its parent: for checkers of leaks */
		struct cx_ward *served;
		struct pollfd *room;
	} inherited;
} guard = { .lock = PTHREAD_MUTEX_INITIALIZER, .bell = -1 };

/* ---- the thread ---- */

struct watch {
	struct cx_poll poll;  /* the bell's, then each ward's */
	struct pollfd bell;   /* its room while there are no wards */
	uint64_t due_ns;
	bool last;            /* it has ended the last ward of all */
};

/* Wards that came since, in the order in which they came. Each brings room for the
 * wires of all that there were with it. */
static void take_in(struct watch *t)
{
	struct cx_ward *w = atomic_exchange_explicit(&guard.incoming, NULL, memory_order_acquire);
	struct cx_ward *first = NULL, *next;
	struct pollfd *older;

	for (; w; w = next) {
		next = w->next;
		w->next = first;
		first = w;
	}
	for (w = first; w; w = next) {
		next = w->next;
		w->next = guard.served;
		w->served = &guard.served;
		guard.served = w;
		older = t->poll.fds;
		t->poll.fds = guard.room = w->room;
		w->room = older == &t->bell ? NULL : older;
	}
}

/* Its wires are closed. */
static void let_go(struct watch *t, struct cx_ward *w)
{
	if (w->calls == &w->own) {
		guard.need -= cx_ward_room(w);
		cx_ward_destroy(w);
		t->last = atomic_fetch_sub(&guard.users, 1) == 1;
		return;
	}
	/* Pairs with the acquire in await_fate: not touched from here. */
	atomic_store_explicit(w->fate, CX_CLOSED, memory_order_release);
}

static void step_all(struct watch *t, bool polled)
{
	struct cx_ward **at = &guard.served, *w;
	uint64_t now = cx_now_ns(), due;

	t->due_ns = UINT64_MAX;
	while ((w = *at)) {
		due = cx_ward_step(w, polled ? &t->poll : NULL, now);
		if (cx_ward_has_gone(w)) {
			*at = w->next;
			let_go(t, w);
		} else {
			t->due_ns = cx_min(t->due_ns, due);
			at = &w->next;
		}
	}
}

/* Sleeps until a wire has something, the bell rings or the clock says so. False: the
 * kernel does not say which. */
static bool await(struct watch *t)
{
	struct cx_poll *p = &t->poll;
	uint64_t now = cx_now_ns(), until;
	int rc;

	p->n = 0;
	p->until_ns = t->due_ns;
	cx_poll_add(p, guard.bell, POLLIN);
	for (struct cx_ward *w = guard.served; w; w = w->next)
		cx_ward_watch(w, p);
	until = p->until_ns > now ? p->until_ns - now : 0;
	rc = cx_sys->poll(p->fds, p->n,
			  p->until_ns == UINT64_MAX ? -1 : (int)cx_min(until / 1000000 + 1,
								       INT_MAX));
	if (rc < 0) { /* more wires than the limit of open files is now: look at all of them */
		cx_sys->poll(NULL, 0, 5);
		return false;
	}
	if (p->fds[0].revents)
		cx_sys->hush(guard.bell);
	return true;
}

static void *run(void *arg)
{
	struct watch t = { .due_ns = UINT64_MAX };

	(void)arg;
	cx_sys->hurry();
	t.poll.fds = &t.bell;
	cx_error_clear(); /* its line is there from now on, without an allocation */
	while (!t.last && !atomic_load_explicit(&guard.stop, memory_order_acquire)) {
		if (atomic_load_explicit(&guard.incoming, memory_order_relaxed)) {
			take_in(&t);
			step_all(&t, false);
		} else {
			step_all(&t, await(&t));
		}
	}
	if (t.last) { /* nobody rings any more */
		cx_sys->close(guard.bell);
		guard.bell = -1;
	}
	cx_free(guard.room);
	guard.room = NULL;
	return NULL;
}

static void ring(void)
{
	cx_sys->ring(guard.bell);
}

/* ---- its life; under the lock ---- */

/* The thread has ended, or will at once. */
static void join(void)
{
	if (guard.started)
		cx_sys->join(guard.thread);
	guard.started = false;
	if (guard.bell >= 0)
		cx_sys->close(guard.bell);
	guard.bell = -1;
}

static void stop(void)
{
	atomic_store_explicit(&guard.stop, true, memory_order_release);
	ring();
	join();
}

/*
 * The thread proves itself to others in a council, by libcrypto, which does not outlive
 * exit(). So the thread ends first: this handler came after libcrypto's, which was used
 * to create the communicator, and handlers are called in the other order.
 */
static void at_exit(void)
{
	if (pthread_mutex_trylock(&guard.lock))
		return; /* another thread opens or closes a communicator while the process ends */
	if (guard.started)
		stop();
	guard.over = true; /* from here on who waits for the thread does not */
	pthread_mutex_unlock(&guard.lock);
}

static int start(void)
{
	static bool registered;
	int rc;

	if (guard.over)
		return cx_fail(COLLX_ERR_SYSTEM, "the process is ending");
	if (!registered && atexit(at_exit))
		return cx_fail(COLLX_ERR_NOMEM, "no room for a handler of exit");
	registered = true;
	join();
	guard.bell = cx_sys->bell();
	if (guard.bell < 0)
		return cx_fail_errno(-guard.bell, "the guard's eventfd");
	atomic_store(&guard.stop, false);
	rc = cx_sys->spawn(&guard.thread, run, NULL);
	guard.started = !rc;
	if (!rc)
		return 0;
	cx_sys->close(guard.bell);
	guard.bell = -1;
	return cx_fail_errno(-rc, "the guard's thread");
}

/* In a child: its parent's thread and wards are none of its. */
static void in_child(void)
{
	guard.lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	guard.callers = 0;
	guard.users = 0;
	guard.need = 0;
	guard.started = false;
	guard.bell = -1;
	atomic_store(&guard.incoming, NULL);
	guard.inherited.served = guard.served;
	guard.inherited.room = guard.room;
	guard.served = NULL;
	guard.room = NULL;
}

size_t cx_guard_swap(void *save, const void *load)
{
	if (save)
		memcpy(save, &guard, sizeof(guard));
	if (load)
		memcpy(&guard, load, sizeof(guard));
	else
		in_child();
	return sizeof(guard);
}

static void watch_forks(void)
{
	pthread_atfork(NULL, NULL, in_child);
}

static void push(struct cx_ward *w)
{
	struct cx_ward *first = atomic_load_explicit(&guard.incoming, memory_order_relaxed);

	do
		w->next = first;
	/* Pairs with the exchange in take_in: the ward is whole. */
	while (!atomic_compare_exchange_weak_explicit(&guard.incoming, &first, w,
						      memory_order_release,
						      memory_order_relaxed));
}

/* Hands the ward to the thread, which the first one starts. */
static int hand_over(struct cx_ward *w)
{
	int rc = 0;

	pthread_mutex_lock(&guard.lock);
	guard.need += cx_ward_room(w);
	w->room = cx_alloc(guard.need + 1, sizeof(*w->room));
	if (!w->room)
		rc = COLLX_ERR_NOMEM;
	/* The thread does not end from here on. */
	if (!rc && !atomic_fetch_add(&guard.users, 2)) {
		rc = start();
		if (rc)
			guard.users = 0;
	}
	if (!rc) {
		guard.callers++;
		push(w);
		ring();
	} else {
		guard.need -= cx_ward_room(w);
	}
	pthread_mutex_unlock(&guard.lock);
	return rc;
}

/* Tells those who have a communicator already that there will be none here. */
static void excuse(struct cx_tree *t, int code, const char *text)
{
	char line[CX_FAULT_TEXT_MAX];
	size_t len;

	snprintf(line, sizeof(line), "%s", text);
	len = strlen(line);
	if (t->up.fd >= 0)
		cx_wire_send(&t->up, CX_FRAME_FAULT, code, line, len, -1, 0);
	for (int r = 0; t->down && r < t->ranks; r++)
		if (t->down[r].fd >= 0)
			cx_wire_send(&t->down[r], CX_FRAME_FAULT, code, line, len, -1, 0);
	cx_tree_fini(t);
	cx_fail(code, "%s", line);
}

int cx_guard_open(struct cx_ward **out, struct cx_tree *tree, struct cx_calls *calls,
		  struct cx_rally *rally)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct cx_ward *w;
	int rc;

	pthread_once(&once, watch_forks);
	cx_calls_init(calls);
	rc = cx_ward_create(&w, tree, calls, rally);
	if (rc) {
		excuse(tree, rc, cx_error_text());
		if (rally)
			cx_rally_destroy(rally);
		return rc;
	}
	if (w->nstrands)
		rc = hand_over(w);
	if (rc) {
		cx_ward_refuse(w, rc, cx_error_text());
		cx_ward_destroy(w);
		return rc;
	}
	*out = w;
	return 0;
}

/* Until the guard has done with the ward, or with us; then it may be gone. */
static enum cx_fate await_fate(const _Atomic int *fate)
{
	for (int i = 0;; i++) {
		int now = atomic_load_explicit(fate, memory_order_acquire);

		if (now != CX_SERVED)
			return (enum cx_fate)now;
		if (guard.over)
			return CX_SERVED;
		if (i < 100)
			cx_sys->yield();
		else
			cx_sys->poll(NULL, 0, 1);
	}
}

/* Without the thread: a farewell as far as it can be said at once. */
static void close_at_exit(struct cx_ward *w, bool leave)
{
	if (w->rally)
		cx_rally_destroy(w->rally);
	w->rally = NULL;
	w->served = NULL; /* nobody takes what has gone out of that list */
	w->convened = false;
	atomic_store(&w->leaving, leave ? 1 : 2);
	cx_ward_step(w, NULL, cx_now_ns());
	cx_ward_destroy(w);
}

void cx_guard_close(struct cx_ward *w, bool leave)
{
	size_t need = cx_ward_room(w);
	enum cx_fate fate = CX_CLOSED;
	_Atomic int told = CX_SERVED;
	int users;

	if (guard.over) {
		close_at_exit(w, leave);
		return;
	}
	if (w->nstrands) {
		w->fate = &told;
		atomic_store_explicit(&w->leaving, leave ? 1 : 2, memory_order_release);
		ring();
		fate = await_fate(&told);
		if (fate == CX_SERVED) { /* exit() came between */
			close_at_exit(w, leave);
			return;
		}
		pthread_mutex_lock(&guard.lock);
		guard.callers--;
		if (fate == CX_CLOSED)
			guard.need -= need;
		users = fate == CX_CLOSED ? 2 : 1;
		if (atomic_fetch_sub(&guard.users, users) == users)
			stop();
		pthread_mutex_unlock(&guard.lock);
	}
	if (fate == CX_CLOSED)
		cx_ward_destroy(w);
}

void cx_guard_exit(void)
{
	struct cx_ward *w, *next;

	if (pthread_mutex_trylock(&guard.lock))
		return; /* another thread is at it while the process ends */
	if (!guard.callers && guard.started) {
		if (atomic_fetch_add(&guard.users, 1))
			stop();
		else
			join();
		for (w = guard.served; w; w = next) {
			next = w->next;
			cx_ward_destroy(w);
		}
		guard.served = NULL;
		guard.users = 0;
		guard.need = 0;
	}
	pthread_mutex_unlock(&guard.lock);
}

static void __attribute__((destructor)) end_with_the_process(void)
{
	cx_guard_exit();
}

/* ---- for callers ---- */

int cx_guard_verdict(const struct cx_ward *w)
{
	int code = atomic_load_explicit(&w->verdict, memory_order_acquire);

	return code < 0 ? code : 0;
}

bool cx_guard_has_left(const struct cx_ward *w, int rank)
{
	return atomic_load_explicit(&w->left[rank], memory_order_acquire) != 0;
}

bool cx_guard_is_blind(const struct cx_ward *w)
{
	return atomic_load_explicit(&w->blind, memory_order_relaxed);
}

void cx_guard_nudge(struct cx_ward *w)
{
	if (!w->nstrands)
		return;
	atomic_store_explicit(&w->nudged, true, memory_order_release);
	ring();
}

int cx_guard_fail(const struct cx_ward *w)
{
	return cx_fail(cx_guard_verdict(w), "%s", w->cause.text);
}

static int fail_dropped(void)
{
	return cx_fail(COLLX_ERR_ABORTED, "another thread of this rank destroys the communicator");
}

/* A millisecond; how much longer it took, where that is much: this process was stopped, or
 * its clock jumped, and the verdict may be here in a moment. What counts is enough to end a wait
 * on a processor that is so busy each time. */
static uint64_t nap(void)
{
	const uint64_t much_ns = 100000000;
	uint64_t before = cx_now_ns(), took;

	cx_sys->poll(NULL, 0, 1);
	took = cx_now_ns() - before;
	return took > much_ns ? took - much_ns : 0;
}

int cx_guard_report(struct cx_ward *w, const struct cx_report *r)
{
	const uint64_t patience_ns = 3000000000; /* the guard itself gives up after 2 s */
	uint64_t until;

	if (cx_guard_verdict(w))
		return cx_guard_fail(w);
	if (cx_guard_is_dropped(w))
		return fail_dropped();
	cx_ward_post(w, r);
	if (w->nstrands)
		ring();
	until = w->nstrands && !guard.over ? cx_now_ns() + patience_ns : 0;
	while (!cx_guard_verdict(w) && !cx_guard_is_dropped(w) && cx_now_ns() < until)
		until += nap();
	if (!cx_guard_verdict(w) && cx_guard_is_dropped(w))
		return fail_dropped();
	cx_ward_settle(w, &w->mine);
	while (!cx_guard_verdict(w)) /* the thread is writing it this moment */
		cx_sys->yield();
	return cx_guard_fail(w);
}

/* ---- for any thread ---- */

void cx_guard_end(struct cx_ward *w, int code)
{
	struct cx_cause c;
	int none = 0;

	/* An abort is more than a revoke. */
	if (code == COLLX_ERR_ABORTED)
		atomic_store(&w->wish, code);
	else
		atomic_compare_exchange_strong(&w->wish, &none, code);
	if (w->nstrands) {
		ring();
		return;
	}
	c = cx_cause_of_wish(code, w->tree.rank, cx_now_ns());
	cx_ward_adopt(w, &c);
}

/* Behind a verdict an abort still has to reach the council, and others. */
static bool has_ended(const struct cx_ward *w, int code)
{
	return cx_guard_verdict(w) &&
	       (code != COLLX_ERR_ABORTED || !w->rally ||
		atomic_load_explicit(&w->barred, memory_order_acquire));
}

void cx_guard_end_now(struct cx_ward *w, int code)
{
	const uint64_t patience_ns = 50000000;
	uint64_t until = cx_now_ns() + patience_ns;
	struct cx_cause c;

	cx_guard_end(w, code);
	/* The others are told first: the process may end when this returns. */
	while (!has_ended(w, code) && !guard.over && cx_now_ns() < until)
		cx_sys->poll(NULL, 0, 1);
	c = cx_cause_of_wish(code, w->tree.rank, until - patience_ns);
	cx_ward_adopt(w, &c);
}

int cx_guard_wish(const struct cx_ward *w)
{
	return atomic_load(&w->wish);
}

void cx_guard_drop(struct cx_ward *w)
{
	atomic_store_explicit(&w->dropped, true, memory_order_release);
	cx_ward_lower_last(w, 0);
}

bool cx_guard_is_dropped(const struct cx_ward *w)
{
	return atomic_load_explicit(&w->dropped, memory_order_acquire);
}

bool cx_guard_cause(const struct cx_ward *w, struct cx_cause *out)
{
	if (!cx_guard_verdict(w))
		return false;
	*out = w->cause;
	return true;
}

static void ring_for_news(const struct cx_ward *w, int bell)
{
	/* As cx_ward_adopt: the later one of the two rings. */
	if (atomic_load(&w->verdict) < 0 || atomic_load(&w->straggler.number))
		cx_sys->ring(bell);
}

int cx_guard_attach(struct cx_ward *w, enum cx_bell which, int bell)
{
	int made, none = -1;

	if (atomic_load(&w->bell[which]) >= 0)
		return 0;
	made = cx_sys->dup(bell);
	if (made < 0)
		return cx_fail_errno(-made, "event_fd: a copy of the eventfd");
	if (!atomic_compare_exchange_strong(&w->bell[which], &none, made))
		cx_sys->close(made); /* another thread was faster */
	else
		ring_for_news(w, made);
	return 0;
}

void cx_guard_pass_bells(struct cx_ward *w, struct cx_ward *next)
{
	for (int i = 0; i < CX_BELLS; i++) {
		int bell = atomic_load(&w->bell[i]), none = -1;

		if (bell < 0 || !atomic_compare_exchange_strong(&next->bell[i], &none, bell))
			continue; /* it has a copy of its own */
		/* Who rings it by this number at this moment rings what stays open. */
		atomic_store(&w->bell[i], -1);
		ring_for_news(next, bell);
	}
}

/* False: it was being written. */
static bool read_straggler(const struct cx_ward_straggler *s, struct cx_straggler *out)
{
	uint64_t number = atomic_load_explicit(&s->number, memory_order_acquire);

	*out = (struct cx_straggler){
		.number = number / 2,
		.rank = atomic_load_explicit(&s->rank, memory_order_acquire),
		.sign.seq = atomic_load_explicit(&s->seq, memory_order_acquire),
		.sign.count = atomic_load_explicit(&s->count, memory_order_acquire),
		.sign.what = atomic_load_explicit(&s->what, memory_order_acquire),
		.since_ns = atomic_load_explicit(&s->since_ns, memory_order_acquire),
	};
	return number % 2 == 0 &&
	       number == atomic_load_explicit(&s->number, memory_order_relaxed);
}

void cx_guard_straggler(struct cx_ward *w, enum cx_bell which, struct cx_straggler *out)
{
	int bell = which < CX_BELLS ? atomic_load(&w->bell[which]) : -1;

	if (bell >= 0)
		cx_sys->hush(bell);
	/* From here on a new one rings. */
	while (!read_straggler(&w->straggler, out))
		cx_sys->yield();
	if (bell >= 0 && atomic_load(&w->verdict) < 0)
		cx_sys->ring(bell);
}

void cx_guard_health(const struct cx_ward *w, int rank, collx_rank_health *out)
{
	const struct cx_ward_news *n = &w->news[rank];
	uint64_t heard = atomic_load_explicit(&n->heard_ns, memory_order_relaxed);
	uint64_t now = cx_now_ns();
	uint64_t awaited = atomic_load_explicit(&n->awaited_ns, memory_order_relaxed);
	uint64_t state = atomic_load_explicit(&n->state, memory_order_relaxed);

	if (rank == w->tree.rank)
		state = cx_calls_state(w->calls);
	*out = (collx_rank_health){
		.state = (collx_rank_state)atomic_load_explicit(&n->fate, memory_order_relaxed),
		.hears_us = heard != 0,
		.heard_ms = heard && now > heard ? (now - heard) / 1000000 : 0,
		.awaited_ms = awaited && now > awaited ? (now - awaited) / 1000000 : 0,
		.begun = state / 2 + state % 2,
		.done = state / 2,
	};
}

/* ---- decisions ---- */

int cx_guard_barred(const struct cx_ward *w)
{
	int code = atomic_load_explicit(&w->barred, memory_order_acquire);
	int by = atomic_load_explicit(&w->aborter, memory_order_relaxed);

	if (cx_guard_is_dropped(w))
		return fail_dropped();
	if (code == COLLX_ERR_NO_QUORUM)
		return cx_fail(code, "rank %d cannot reach enough of the others, who may be alive "
				     "and go on without it", w->tree.rank);
	if (code == COLLX_ERR_ABORTED && by)
		return cx_fail(code, "rank %d aborted the communicator", by - 1);
	if (code == COLLX_ERR_ABORTED)
		return cx_fail(code, "the communicator was aborted");
	return code ? cx_fail(code, "the other ranks go on without rank %d", w->tree.rank) : 0;
}

/* Until the vote of that number has its answer. */
static int await_answer(struct cx_ward *w, uint64_t number, uint64_t last_ns)
{
	struct pollfd answer = { .fd = w->reply, .events = POLLIN };
	int rc;

	while (atomic_load_explicit(&w->answered, memory_order_acquire) != number) {
		rc = cx_guard_barred(w);
		if (rc)
			return rc;
		if (cx_now_ns() > last_ns || guard.over)
			return COLLX_ERR_TIMEOUT;
		cx_sys->poll(&answer, w->reply >= 0, w->reply >= 0 ? 20 : 1);
		if (w->reply >= 0)
			cx_sys->hush(w->reply);
	}
	return 0;
}

/* Votes for the next decision. A vote that was waited for in vain stands, as the others may
 * count on it, and has its answer first. */
static int cast(struct cx_ward *w, const struct cx_motion *vote, uint64_t until_ns,
		uint64_t last_ns)
{
	int rc = await_answer(w, w->vote.number, last_ns);

	if (rc)
		return rc;
	w->vote = *vote;
	w->vote.number = 1 + atomic_load_explicit(&w->decisions, memory_order_relaxed);
	w->vote_by_ns = until_ns;
	/* Pairs with the acquire in hold_council: the vote is there, and where to ring. */
	atomic_fetch_add_explicit(&w->votes, 1, memory_order_release);
	ring();
	return 0;
}

/* How long behind its deadline a decision is waited for. The guard decides by then that
 * somebody is late, which takes a moment. */
static uint64_t patience_ns(const struct cx_ward *w, const struct cx_motion *vote)
{
	const uint64_t most_ns = 10000000000, some_ns = 1000000000;
	uint64_t silence_ns = w->rally ? w->rally->silence_ns : 0;
	uint64_t usual_ns = 2 * cx_min(silence_ns, most_ns) + some_ns;
	/* Two for each chair that falls silent in its turn, and four until the last one goes on
	 * without who is missing. */
	uint64_t silences = 2 * (uint64_t)w->tree.ranks + 4;

	/* Who gave up before the others have committed would fail what they did. */
	if (vote->kind == CX_MOTION_COMMIT && silence_ns < UINT64_MAX / 2 / silences)
		return silences * silence_ns + some_ns;
	return cx_min(usual_ns, most_ns);
}

int cx_guard_decide(struct cx_ward *w, const struct cx_motion *vote, uint64_t until_ns,
		    struct cx_motion *out)
{
	const uint64_t more_ns = patience_ns(w, vote);
	uint64_t last = until_ns > UINT64_MAX - more_ns ? UINT64_MAX : until_ns + more_ns;
	int rc;

	if (guard.over || (!w->rally && w->tree.ranks > 1))
		return cx_fail(COLLX_ERR_UNSUPPORTED, "this communicator holds no council");
	if (!w->rally && cx_guard_verdict(w) == COLLX_ERR_ABORTED)
		return cx_guard_fail(w);
	if (!w->rally) {
		w->vote.number++;
		*out = *vote;
		out->number = w->vote.number;
		return 0;
	}
	if (w->reply < 0) /* still below 0: it is looked for each millisecond */
		w->reply = cx_sys->bell();
	rc = cast(w, vote, until_ns, last);
	if (!rc)
		rc = await_answer(w, w->vote.number, last);
	if (rc)
		return rc;
	*out = w->decision;
	/* What was decided is the others' then. */
	return out->kind <= CX_MOTION_GROW && cx_set_has(&out->out, w->tree.rank)
		       ? cx_guard_barred(w)
		       : 0;
}

int cx_guard_lost_more(void *losses)
{
	const struct cx_losses *l = losses;
	int rc = cx_guard_barred(l->guard);

	/* Whom this rank meets hears of it, a joiner say, and is not barred from anything. */
	if (rc && rc != COLLX_ERR_ABORTED)
		return cx_fail(COLLX_ERR_PEER_DEAD, rc == COLLX_ERR_EXCLUDED
			       ? "the other ranks go on without rank %d"
			       : "rank %d cannot reach enough of the others",
			       l->guard->tree.rank);
	if (rc)
		return rc;
	return atomic_load_explicit(&l->guard->losses, memory_order_relaxed) > l->out
		       ? cx_fail(COLLX_ERR_PEER_DEAD, "a rank was lost meanwhile")
		       : 0;
}

const struct cx_place *cx_guard_place(const struct cx_ward *w)
{
	return w->rally ? &w->rally->nest.place : NULL;
}

int cx_guard_mix(const struct cx_ward *w, struct cx_secret *s)
{
	return w->rally ? cx_secret_mix(s, w->rally->secret) : 0;
}
