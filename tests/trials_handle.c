/* SPDX-License-Identifier: BSD-3-Clause */
/* One handle and several threads of its rank: what they do to it, and it to them. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/base/base.h"
#include "tests/trial.h"
#include "tests/world.h"

/* As worker_open, and until all others are so far. */
static int open_with_all(struct worker *w, struct trial *t, int rank)
{
	int rc = worker_open(w, t, rank);

	for (int r = 0; !rc && r < t->ranks; r++)
		while (trial_load(&t->note[r].step) < 1)
			nap_ms(1);
	return rc;
}

/* ---- one decides, and another one would ---- */

static void *settle(void *arg)
{
	struct worker *w = arg;

	worker_settle(w, w->t->ranks);
	return (void *)(intptr_t)expect_failures();
}

static void refuse(int rank, const char *what, int rc)
{
	EXPECT(rc == COLLX_ERR_INVALID && strstr(collx_last_error(NULL), "another thread"),
	       "rank %d, %s: %s: %s", rank, what, collx_strerror(rc), collx_last_error(NULL));
}

/* While it waits for the other ranks. */
static void decide_beside(const struct worker *w, collx_comm_t c)
{
	collx_opts uniform = COLLX_OPTS_INIT;
	collx_comm_t same = c, out = NULL;
	collx_unique_id id = { { 0 } };
	uint64_t flags = 1;
	float one = 1;

	uniform.flags = COLLX_UNIFORM;
	refuse(w->me, "repair", collx_comm_repair(&same, NULL));
	EXPECT(same == c, "another handle");
	refuse(w->me, "agree", collx_comm_agree(c, &flags, NULL, NULL));
	refuse(w->me, "shrink", collx_comm_shrink(c, NULL, 0, &out, NULL));
	refuse(w->me, "grow", collx_comm_grow(c, 1, &id, &out, NULL));
	EXPECT(!out, "a communicator without a decision");
	refuse(w->me, "a uniform call", collx_allreduce(&one, &one, 1, COLLX_FLOAT32, COLLX_SUM, c,
							&uniform));
}

static void live_deciding(struct trial *t, int rank)
{
	struct worker w;
	collx_comm_t c;
	pthread_t thread;
	void *failed = NULL;

	if (worker_open(&w, t, rank))
		return;
	c = w.c;
	if (rank == t->actor) {
		EXPECT(!pthread_create(&thread, NULL, settle, &w), "no thread");
		nap_ms(100 + trial_draw(t, 6, 50));
		decide_beside(&w, c);
		worker_step(&w, 5);
		pthread_join(thread, &failed);
		EXPECT(!failed, "rank %d: the one that repairs", rank);
	} else {
		while (trial_load(&t->note[t->actor].step) < 5)
			nap_ms(1);
		worker_settle(&w, t->ranks);
	}
	worker_compare(&w);
	worker_close(&w);
	worker_step(&w, 9);
}

void trial_deciding(struct trial *t, int i)
{
	trial_vary(t, FAULT_NONE, COLLX_ERR_REVOKED, i);
	t->live = live_deciding;
	t->drive = trial_wait;
}

/* ---- the callback comes before set_callback has returned ---- */

static int spawn_slowly(pthread_t *thread, void *(*run)(void *), void *arg)
{
	int rc = cx_sys_real.spawn(thread, run, arg);

	nap_ms(30); /* it has run meanwhile */
	return rc;
}

static void destroy_within(collx_comm_t c, collx_event event, void *arg)
{
	struct worker *w = arg;
	collx_comm_t same = c;

	if (event == COLLX_EVENT_STRAGGLER)
		return;
	EXPECT(collx_comm_destroy(c) == COLLX_ERR_INVALID, "destroyed in its own callback");
	EXPECT(collx_comm_repair(&same, NULL) == COLLX_ERR_INVALID, "repaired there");
	EXPECT(!expect_failures(), "rank %d", w->me);
	__atomic_fetch_add(&w->t->note[w->me].flags[0], 1, __ATOMIC_RELEASE);
}

/* Another thread, which the callback lets go. */
static void *destroy_then(void *arg)
{
	struct worker *w = arg;

	while (!__atomic_load_n(&w->t->note[w->me].flags[0], __ATOMIC_ACQUIRE))
		usleep(100);
	EXPECT(!collx_comm_destroy(w->c), "rank %d: %s", w->me, collx_last_error(NULL));
	return (void *)(intptr_t)expect_failures();
}

static void live_called_early(struct trial *t, int rank)
{
	static struct cx_sys slow;
	const struct cx_sys *usual = cx_sys;
	struct worker w;
	pthread_t thread;
	void *failed;

	if (open_with_all(&w, t, rank))
		return;
	EXPECT(!collx_comm_revoke(w.c), "%s", collx_last_error(NULL));
	slow = cx_sys_real;
	slow.spawn = spawn_slowly;
	cx_sys = &slow;
	if (t->seed % 2)
		EXPECT(!pthread_create(&thread, NULL, destroy_then, &w), "no thread");
	EXPECT(!collx_comm_set_callback(w.c, destroy_within, &w), "%s", collx_last_error(NULL));
	cx_sys = usual;
	if (t->seed % 2) {
		pthread_join(thread, &failed);
		EXPECT(!failed, "rank %d: the other thread", rank);
	} else {
		for (int i = 0; !t->note[rank].flags[0] && i < 10000; i++)
			nap_ms(1);
		worker_close(&w);
	}
	EXPECT(t->note[rank].flags[0] == 1, "called back %d times", (int)t->note[rank].flags[0]);
	worker_step(&w, 9);
}

void trial_called_early(struct trial *t, int i)
{
	trial_vary(t, FAULT_NONE, COLLX_ERR_REVOKED, i);
	t->live = live_called_early;
	t->drive = trial_wait;
}

/* ---- a thread asks, and another one repairs ---- */

struct watcher {
	struct worker *w;
	collx_comm_t c;  /* the same all the time */
	int stop;
	uint64_t asked;
};

static void ask_all(struct watcher *k, int devnull)
{
	collx_straggler s = COLLX_STRAGGLER_INIT;
	collx_error e = COLLX_ERROR_INIT;
	collx_rank_health h[TRIAL_RANKS];
	int fd = collx_comm_event_fd(k->c);

	EXPECT(!collx_comm_error(k->c, &e) && (!e.code || e.code == COLLX_ERR_REVOKED),
	       "%d: %s", e.code, e.text);
	EXPECT(!collx_comm_health(k->c, h, k->w->t->ranks) && h[0].state != COLLX_RANK_DEAD,
	       "rank 0 is in state %d", (int)h[0].state);
	EXPECT(!collx_comm_straggler(k->c, &s), "%s", collx_last_error(NULL));
	EXPECT(collx_comm_size(k->c) == k->w->t->ranks, "size %d", collx_comm_size(k->c));
	EXPECT(collx_last_error(k->c)[0] >= 0, "no line");
	EXPECT(fd >= 0, "%s", collx_last_error(NULL));
	if (k->asked++ % 64 == 0)
		EXPECT(!collx_comm_dump(k->c, devnull), "%s", collx_last_error(NULL));
}

static void *watch(void *arg)
{
	int devnull = open("/dev/null", O_WRONLY | O_CLOEXEC);
	struct watcher *k = arg;

	while (!trial_load(&k->stop))
		ask_all(k, devnull);
	close(devnull);
	return (void *)(intptr_t)expect_failures();
}

static int count_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

static void live_watched(struct trial *t, int rank)
{
	const char *steps = getenv("COLLX_TRIAL_STEPS");
	int n = steps ? atoi(steps) : 10, fds = 0;
	struct watcher k = { 0 };
	struct worker w;
	pthread_t thread;
	void *failed;
	int rc;

	if (open_with_all(&w, t, rank))
		return;
	k.w = &w;
	k.c = w.c;
	EXPECT(!pthread_create(&thread, NULL, watch, &k), "no thread");
	for (int i = 0; i < n; i++) {
		if (!EXPECT(!collx_comm_repair(&w.c, NULL), "rank %d, repair %d: %s", rank, i,
			    collx_last_error(NULL)))
			break;
		EXPECT(w.c == k.c, "rank %d: another handle", rank);
		w.epoch++;
		w.op = 0;
		rc = worker_call(&w); /* another rank may repair again already */
		EXPECT(!rc || rc == COLLX_ERR_REVOKED, "rank %d: %s", rank,
		       collx_last_error(w.c));
		if (i == 1)
			fds = count_descriptors();
	}
	EXPECT(count_descriptors() < fds + 8, "rank %d: %d descriptors, and then %d", rank, fds,
	       count_descriptors());
	__atomic_store_n(&k.stop, 1, __ATOMIC_RELEASE);
	pthread_join(thread, &failed);
	EXPECT(!failed && k.asked > 0, "rank %d: the one that asks, %d times", rank, (int)k.asked);
	if (!worker_settle(&w, t->ranks)) /* and all of them are here */
		worker_compare(&w);
	worker_close(&w);
	worker_step(&w, 9);
}

void trial_watched(struct trial *t, int i)
{
	trial_vary(t, FAULT_NONE, COLLX_ERR_REVOKED, i);
	t->live = live_watched;
	t->drive = trial_wait;
}

/* ---- an abort in a signal handler, at any moment of a repair, is never lost ---- */

static collx_comm_t aborted;

static void abort_it(int sig)
{
	(void)sig;
	collx_comm_abort_from_signal(aborted);
}

struct alarm {
	pthread_t whom;
	unsigned after_us;
};

static void *signal_soon(void *arg)
{
	const struct alarm *a = arg;

	usleep(a->after_us);
	pthread_kill(a->whom, SIGUSR1);
	return NULL;
}

static void live_aborted(struct trial *t, int rank)
{
	struct alarm a = { .after_us = trial_draw(t, 6, t->path == PATH_SHM ? 25000 : 60000) };
	struct worker w;
	pthread_t thread;
	bool gone;
	int rc;

	if (open_with_all(&w, t, rank))
		return;
	aborted = w.c;
	a.whom = pthread_self();
	signal(SIGUSR1, abort_it);
	if (rank == t->actor)
		EXPECT(!pthread_create(&thread, NULL, signal_soon, &a), "no thread");
	rc = collx_comm_repair(&w.c, NULL);
	if (rank == t->actor)
		pthread_join(thread, NULL);
	w.epoch++;
	w.op = 0;
	for (int i = 0; !rc && i < 20000 && collx_comm_size(w.c) == t->ranks; i++)
		rc = worker_call(&w);
	/* Where it came in time the others may go on without who does not want to. */
	gone = rank != t->actor && collx_comm_size(w.c) < t->ranks;
	EXPECT(rc == COLLX_ERR_ABORTED || gone, "rank %d, aborted %u us after the beginning: %s: %s", rank,
	       a.after_us, collx_strerror(rc), collx_last_error(NULL));
	worker_close(&w);
	worker_step(&w, 9);
}

void trial_aborted(struct trial *t, int i)
{
	trial_vary(t, FAULT_NONE, COLLX_ERR_ABORTED, i);
	t->how = HOW_CALL;
	t->count = SMALL;
	t->op = OP_ALLREDUCE;
	t->live = live_aborted;
	t->drive = trial_wait;
}
