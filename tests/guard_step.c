/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `guard_step CALLS`: 8-byte allreduces of two ranks that one thread drives in lock-step,
 * so that each has the same number of polls each time. perf/guard-cost counts the
 * instructions of lock_step.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "comm.h"

static collx_unique_id id;
static collx_comm_t comms[2];

static void need(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "guard_step: %s: %s\n", what, collx_last_error(NULL));
	exit(1);
}

static void *create(void *arg)
{
	int rank = (int)(intptr_t)arg;

	need(!collx_comm_create(&comms[rank], 2, &id, rank, NULL), "creation");
	return NULL;
}

static void call(void)
{
	static float in[2][2] = { { 1, 2 }, { 3, 4 } }, out[2][2];
	int done[2] = { 0, 0 }, moved;

	for (int r = 0; r < 2; r++) {
		const struct cx_request q = { CX_ALLREDUCE, in[r], out[r], 2, COLLX_FLOAT32,
					      COLLX_SUM, 0 };

		need(!cx_comm_start(comms[r], &q), "start");
	}
	while (!done[0] || !done[1])
		for (int r = 0; r < 2; r++) {
			if (done[r])
				continue;
			done[r] = cx_exec_poll(&comms[r]->exec, &moved);
			need(done[r] >= 0, "poll");
			if (done[r])
				cx_comm_finish(comms[r]);
		}
	need(out[0][0] == 4 && out[1][1] == 6, "wrong");
}

static __attribute__((noinline)) void lock_step(int n)
{
	for (int i = 0; i < n; i++)
		call();
}

int main(int argc, char **argv)
{
	pthread_t other;

	need(argc == 2, "usage: guard_step CALLS");
	need(!collx_get_unique_id(&id), "id");
	need(!pthread_create(&other, NULL, create, (void *)1), "thread");
	create(NULL);
	pthread_join(other, NULL);
	for (int i = 0; i < 100; i++)
		call(); /* plans and pages are there from now on */
	lock_step(atoi(argv[1]));
	collx_comm_destroy(comms[1]);
	collx_comm_destroy(comms[0]);
	return 0;
}
