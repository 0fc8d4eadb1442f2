/* SPDX-License-Identifier: BSD-3-Clause */
/* One handle and several threads of its rank: what they do to it, and it to them. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "src/base/base.h"
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

	if (worker_open(&w, t, rank))
		return;
	for (int r = 0; r < t->ranks; r++)
		while (trial_load(&t->note[r].step) < 1)
			nap_ms(1);
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
