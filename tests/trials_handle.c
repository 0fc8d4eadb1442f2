/* SPDX-License-Identifier: BSD-3-Clause */
/* One handle and several threads of its rank: what they do to it, and it to them. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/base/base.h"
#include "src/comm.h"
#include "tests/trial.h"
#include "tests/world.h"

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

	if (worker_open_with_all(&w, t, rank))
		return;
	c = w.c;
	if (rank == t->actor) {
		EXPECT(!pthread_create(&thread, NULL, settle, &w), "no thread");
		for (int i = 0; !atomic_load(&c->deciding) && i < 10000; i++)
			nap_ms(1);
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

	if (worker_open_with_all(&w, t, rank))
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
	collx_comm_t c;  /* the same all the time, */
	int fd;          /* as its descriptor */
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
	EXPECT(fd >= 0 && (!k->fd || k->fd == fd), "descriptor %d, before: %d", fd, k->fd);
	k->fd = fd;
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

	if (worker_open_with_all(&w, t, rank))
		return;
	k.w = &w;
	k.c = w.c;
	fds = count_descriptors(); /* with all connections, as at the end */
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
	}
	/* The guard closes those of the last one a little later. */
	for (int i = 0; count_descriptors() >= fds + 8 && i < 1000; i++)
		nap_ms(10);
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
	int rc;

	if (worker_open_with_all(&w, t, rank))
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
	EXPECT(rc == COLLX_ERR_ABORTED, "rank %d, aborted after %u us: %s: %s", rank,
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

/* ---- a communicator that goes on tells of each loss, and by the same descriptor ---- */

struct listener {
	struct worker *w;
	int fd;
	int errors, stragglers;
	int origin[TRIAL_RANKS]; /* before the next loss */
};

static void hear(collx_comm_t c, collx_event event, void *arg)
{
	struct listener *l = arg;

	EXPECT(c == l->w->c, "another handle");
	__atomic_fetch_add(event == COLLX_EVENT_ERROR ? &l->errors : &l->stragglers, 1,
			   __ATOMIC_RELEASE);
}

static bool is_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void expect_count(const int *count, int n, const char *what)
{
	for (int i = 0; trial_load(count) < n && i < 10000; i++)
		nap_ms(1);
	EXPECT(trial_load(count) >= n, "called back for %d %s, not %d", trial_load(count), what, n);
}

/* Until one more is lost, whom all know by then. */
static void lose_one(struct listener *l, int victim)
{
	collx_straggler s = COLLX_STRAGGLER_INIT;
	collx_error e = COLLX_ERROR_INIT, past = COLLX_ERROR_INIT;
	collx_comm_t c = l->w->c;
	int size = collx_comm_size(c), one = 1, sum, rc = 0;

	for (int r = 0; r < size; r++)
		l->origin[r] = collx_comm_origin(c, r);
	while (!rc && collx_comm_size(c) == size)
		rc = collx_allreduce(&one, &sum, 1, COLLX_INT32, COLLX_SUM, c, NULL);
	EXPECT(!rc && sum == size - 1, "rank %d: %s", l->w->me, collx_last_error(c));
	EXPECT(!collx_comm_error(c, &e) && !e.code, "it went on, and has: %s", e.text);
	EXPECT(!collx_comm_past_error(c, &past), "%s", collx_last_error(NULL));
	EXPECT(past.code == COLLX_ERR_PEER_DEAD && past.rank >= 0 && past.rank < size &&
	       l->origin[past.rank] == victim, "%d, rank %d: %s", past.code, past.rank, past.text);
	EXPECT(collx_comm_event_fd(c) == l->fd, "another descriptor");
	EXPECT(is_readable(l->fd), "no loss is seen by poll");
	for (int i = 0; is_readable(l->fd) && i < 1000; i++) {
		EXPECT(!collx_comm_straggler(c, &s), "%s", collx_last_error(NULL));
		nap_ms(1);
	}
	EXPECT(!is_readable(l->fd), "it stays readable");
}

/* Of the last two. */
static void be_late(struct listener *l)
{
	int before = trial_load(&l->stragglers);
	collx_comm_t c = l->w->c;

	if (collx_comm_rank(c) == 0)
		nap_ms(1500);
	EXPECT(!collx_barrier(c, NULL), "rank %d: %s", l->w->me, collx_last_error(c));
	expect_count(&l->stragglers, before + 1, "stragglers");
	EXPECT(is_readable(l->fd), "no straggler is seen by poll");
}

static void live_losing(struct trial *t, int rank)
{
	struct worker w;
	struct listener l = { .w = &w };
	int rc, one = 1, sum;

	if (worker_open_with_all(&w, t, rank))
		return;
	if (t->victims >> rank & 1) {
		worker_step(&w, 2);
		while (!(rc = collx_allreduce(&one, &sum, 1, COLLX_INT32, COLLX_SUM, w.c, NULL)))
			continue;
		EXPECT(false, "rank %d, to be killed: %s", rank, collx_last_error(w.c));
		return;
	}
	EXPECT(!collx_comm_set_callback(w.c, hear, &l), "%s", collx_last_error(NULL));
	l.fd = collx_comm_event_fd(w.c);
	EXPECT(l.fd >= 0 && !is_readable(l.fd), "descriptor %d", l.fd);
	worker_step(&w, 2);
	for (int i = 0; i < 2; i++) {
		lose_one(&l, (t->actor + i) % t->ranks);
		expect_count(&l.errors, i + 1, "losses");
		EXPECT(l.errors == i + 1, "called back for %d losses", l.errors);
		worker_step(&w, 3 + i);
	}
	EXPECT(collx_comm_set_callback(w.c, hear, &l) == COLLX_ERR_INVALID, "two callbacks");
	be_late(&l);
	EXPECT(l.errors == 2, "called back for %d losses", l.errors);
	t->note[rank].size = 2;
	worker_close(&w);
	worker_step(&w, 9);
}

static int kill_two(struct trial *t)
{
	unsigned left = trial_all(t);

	for (int i = 0; i < 2; i++) {
		unsigned victim = 1u << (t->actor + i) % t->ranks;

		if (trial_await(t, i ? left & ~t->victims : left, 2 + i))
			return 1;
		usleep(trial_draw(t, 7 + (unsigned)i, 50000));
		trial_signal(t, victim, SIGKILL);
		left &= ~victim;
	}
	return trial_await(t, left, 9);
}

void trial_losing(struct trial *t, int i)
{
	trial_lose(t, FAULT_KILL, COLLX_OK, i);
	t->victims |= 1u << (t->actor + 1) % t->ranks;
	t->config.flags = COLLX_CONTINUE;
	t->config.straggler_ms = 300;
	t->how = HOW_CALL;
	t->op = OP_ALLREDUCE;
	t->count = SMALL;
	t->live = live_losing;
	t->drive = kill_two;
}
