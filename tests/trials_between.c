/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A3: killed between the last byte and the return of a call that all succeed in or none.
 * Linked with --wrap of what such a call is made of, so that the victim ends where it is to:
 *
 *      the collective   |   the vote and the decision   |   return
 *                     DONE           VOTING            DECIDED
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "src/comm.h"
#include "tests/trial.h"
#include "tests/world.h"

enum point { NOWHERE, DONE, VOTING, DECIDED, POINTS };

/* Of the victim's process. */
static struct {
	struct trial *t;
	enum point point;
	int calls; /* until then */
	unsigned within_us;
} doom;

int __real_cx_comm_run(struct collx_comm *c, const struct cx_request *r, uint64_t timeout_ns);
int __wrap_cx_comm_run(struct collx_comm *c, const struct cx_request *r, uint64_t timeout_ns);
int __real_cx_recover_commit(struct collx_comm *c, bool *ok, struct cx_set *failed,
			     bool *outvoted, uint64_t until_ns);
int __wrap_cx_recover_commit(struct collx_comm *c, bool *ok, struct cx_set *failed,
			     bool *outvoted, uint64_t until_ns);

static void end_here(void)
{
	doom.t->hit_ns = trial_now_ns();
	raise(SIGKILL);
}

static void *end_soon(void *arg)
{
	(void)arg;
	usleep(doom.within_us);
	end_here();
	return NULL;
}

int __wrap_cx_comm_run(struct collx_comm *c, const struct cx_request *r, uint64_t timeout_ns)
{
	int rc = __real_cx_comm_run(c, r, timeout_ns);

	if (doom.point && doom.calls)
		doom.calls--;
	if (doom.point == DONE && !doom.calls && !rc)
		end_here();
	return rc;
}

int __wrap_cx_recover_commit(struct collx_comm *c, bool *ok, struct cx_set *failed,
			     bool *outvoted, uint64_t until_ns)
{
	pthread_t thread;
	int rc;

	if (doom.point == VOTING && !doom.calls)
		EXPECT(!pthread_create(&thread, NULL, end_soon, NULL), "no thread");
	rc = __real_cx_recover_commit(c, ok, failed, outvoted, until_ns);
	if (doom.point == DECIDED && !doom.calls)
		end_here();
	return rc;
}

static void all_or_none(struct trial *t, int rank)
{
	static collx_opts o = COLLX_OPTS_INIT;
	unsigned i = (unsigned)(t->seed % 1000); /* the variation */
	struct worker w;
	int rc;

	if (worker_open(&w, t, rank))
		return;
	if (rank == t->actor) {
		doom.t = t;
		doom.point = (enum point)(DONE + (i + i / PATHS) % (POINTS - DONE));
		doom.calls = 1 + (int)trial_draw(t, 3, 20);
		doom.within_us = trial_draw(t, 4, 400);
	}
	o.flags = COLLX_UNIFORM;
	w.opts = &o;
	while (!(rc = worker_call(&w)))
		t->note[rank].ops++;
	t->note[rank].known_ns = trial_now_ns();
	EXPECT(rank != t->actor, "rank %d lives on", rank);
	w.opts = NULL;
	worker_expect_error(&w, rc);
	if (!worker_settle(&w, t->ranks - 1))
		worker_close(&w);
	worker_step(&w, 9);
}

/* Nobody is killed from here; those who are left must have had as many successes. */
static int compare_successes(struct trial *t)
{
	unsigned others = trial_all(t) & ~t->victims;
	int first = __builtin_ctz(others);

	if (trial_await(t, others, 9))
		return 1;
	for (int r = first; r < t->ranks; r++)
		if (others >> r & 1 && t->note[r].ops != t->note[first].ops) {
			fprintf(stderr, "rank %d: %d successes, rank %d: %d\n", first,
				(int)t->note[first].ops, r, (int)t->note[r].ops);
			return 1;
		}
	return 0;
}

void trial_a3(struct trial *t, int i)
{
	trial_lose(t, FAULT_NONE, COLLX_ERR_PEER_DEAD, i);
	t->how = HOW_CALL;
	if (t->op == OP_MESSAGE) /* which is not everybody's */
		t->op = OP_BARRIER;
	t->live = all_or_none;
	t->drive = compare_successes;
}
