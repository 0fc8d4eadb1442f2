/* SPDX-License-Identifier: BSD-3-Clause */
/* What jobs do to each other, to the user's folders and to forked children: nothing. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <criterion/criterion.h>

#include "tests/world.h"

enum { JOBS = 6, ROUNDS = 25 };

struct half {
	collx_unique_id id;
	int rank, rc;
	char line[300];
};

static void *create_and_leave(void *arg)
{
	collx_config config = COLLX_CONFIG_INIT;
	struct half *h = arg;
	collx_comm_t c = NULL;

	config.create_timeout_ms = 10000;
	h->rc = collx_comm_create(&c, 2, &h->id, h->rank, &config);
	snprintf(h->line, sizeof(h->line), "%s", collx_last_error(c));
	collx_comm_destroy(c);
	return NULL;
}

static void run_job(void)
{
	for (int i = 0; i < ROUNDS; i++) {
		struct half h[2] = { { .rank = 0 }, { .rank = 1 } };
		pthread_t t;

		EXPECT(!collx_get_unique_id(&h[0].id), "%s", collx_last_error(NULL));
		h[1].id = h[0].id;
		EXPECT(!pthread_create(&t, NULL, create_and_leave, &h[1]), "no thread");
		create_and_leave(&h[0]);
		pthread_join(t, NULL);
		for (int r = 0; r < 2; r++)
			EXPECT(h[r].rc == 0, "rank %d: %s", r, h[r].line);
	}
}

/* They share a folder, and each removes what dead ones left there. */
Test(jobs, side_by_side, .timeout = 300)
{
	pid_t pids[JOBS];
	char base[64];

	cr_assert_eq(folder_make(base), 0);
	for (int i = 0; i < JOBS; i++) {
		pids[i] = rank_fork();
		if (pids[i] == 0) {
			run_job();
			rank_exit();
		}
	}
	cr_assert_eq(ranks_wait(pids, JOBS, 0, 240), 0);
	cr_assert_eq(folder_gone(base), 0);
}

static void in_child(collx_comm_t comm)
{
	float x = 1, y = 0;

	EXPECT(collx_allreduce(&x, &y, 1, COLLX_FLOAT32, COLLX_SUM, comm, NULL) ==
		       COLLX_ERR_FORKED,
	       "a call in a child");
	EXPECT(collx_comm_destroy(comm) == COLLX_ERR_FORKED, "destroy in a child");
	rank_exit();
}

static void fork_and_go_on(collx_comm_t comm, int rank, int size, void *arg)
{
	float x = 1, y = 0;
	int status = -1;
	pid_t pid;

	(void)arg;
	pid = rank == 1 ? fork() : -1;
	if (pid == 0)
		in_child(comm);
	if (pid > 0)
		waitpid(pid, &status, 0);
	EXPECT(rank != 1 || status == 0, "the child ended with %#x", (unsigned)status);
	for (int i = 0; i < 3; i++)
		EXPECT(!collx_allreduce(&x, &y, 1, COLLX_FLOAT32, COLLX_SUM, comm, NULL) &&
			       y == (float)size,
		       "after a child's end: %g, %s", (double)y, collx_last_error(comm));
}

Test(jobs, a_forked_child_is_refused_and_disturbs_nobody)
{
	const struct world w = { .size = 3, .fn = fork_and_go_on };

	cr_assert_eq(world_run(&w), 0);
}

Test(jobs, a_folder_that_was_there_stays)
{
	struct half h = { .rank = 0 };
	collx_comm_t c = NULL;
	char base[64], run[80];
	struct stat st;

	cr_assert_eq(folder_make(base), 0);
	snprintf(run, sizeof(run), "%s/run", base);
	cr_assert_eq(mkdir(run, 0700), 0);
	cr_assert_eq(collx_get_unique_id(&h.id), 0);
	cr_assert_eq(collx_comm_create(&c, 1, &h.id, 0, NULL), 0);
	cr_assert_eq(collx_comm_destroy(c), 0);
	run_job();
	cr_assert_eq(expect_failures(), 0);
	cr_assert_eq(stat(run, &st), 0, "the user's own folder is gone");
	cr_assert_eq(folder_gone(base), 0);
}
