/* SPDX-License-Identifier: BSD-3-Clause */
/* What jobs do to each other, to the user's folders and to forked children: nothing. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
	guard_begins(comm);
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

/* ---- other launchers ---- */

struct variables {
	const char *set[12]; /* name, value, ... */
	int want;
	const char *line; /* a part of the error */
};

/* For rank r of 2: "%d" stands for r. */
static void set_variables(const struct variables *v, int r)
{
	for (int i = 0; i < 12 && v->set[i]; i += 2) {
		char value[64];
		const char *digit = strstr(v->set[i + 1], "%d");

		snprintf(value, sizeof(value), "%s", v->set[i + 1]);
		if (digit)
			snprintf(value, sizeof(value), "%d", r);
		setenv(v->set[i], value, 1);
	}
}

static void come_from_env(const struct variables *v, int r)
{
	collx_config config = COLLX_CONFIG_INIT;
	collx_comm_t c = NULL;
	int rc, sum = 0, one = 1;

	set_variables(v, r);
	config.create_timeout_ms = 20000;
	rc = collx_comm_create_from_env(&c, &config);
	EXPECT(rc == v->want && strstr(collx_last_error(c), v->line), "rank %d: %s: '%s', not %s",
	       r, collx_strerror((collx_result)rc), collx_last_error(c), v->line);
	if (!rc)
		EXPECT(!collx_allreduce(&one, &sum, 1, COLLX_INT32, COLLX_SUM, c, NULL) && sum == 2,
		       "rank %d: a sum of %d", r, sum);
	collx_comm_destroy(c);
}

static const struct variables settings[] = {
	{ { "RANK", "%d", "WORLD_SIZE", "2", "LOCAL_RANK", "%d", "LOCAL_WORLD_SIZE", "2",
	    "MASTER_ADDR", "127.0.0.1", "MASTER_PORT", "29500" }, 0, "" },
	{ { "OMPI_COMM_WORLD_RANK", "%d", "OMPI_COMM_WORLD_SIZE", "2",
	    "OMPI_COMM_WORLD_LOCAL_RANK", "%d", "OMPI_COMM_WORLD_LOCAL_SIZE", "2",
	    "PMIX_NAMESPACE", "17" }, 0, "" },
	{ { "SLURM_PROCID", "%d", "SLURM_NTASKS", "2", "SLURM_LOCALID", "%d",
	    "SLURM_STEP_NUM_NODES", "1", "SLURM_JOB_ID", "3", "SLURM_STEP_ID", "0" }, 0, "" },
	/* half a launcher's variables do not hide a whole one's */
	{ { "WORLD_SIZE", "2", "OMPI_COMM_WORLD_RANK", "%d", "OMPI_COMM_WORLD_SIZE", "2",
	    "OMPI_COMM_WORLD_LOCAL_SIZE", "2", "PMIX_NAMESPACE", "17" }, 0, "" },
	/* of several hosts: no secret */
	{ { "RANK", "%d", "WORLD_SIZE", "2", "LOCAL_WORLD_SIZE", "1", "MASTER_ADDR",
	    "127.0.0.1", "MASTER_PORT", "29500" }, COLLX_ERR_INVALID, "COLLX_SECRET_FILE" },
	{ { "SLURM_PROCID", "%d", "SLURM_NTASKS", "2", "SLURM_STEP_NUM_NODES", "2" },
	  COLLX_ERR_INVALID, "COLLX_SECRET_FILE" },
	/* incomplete or contradicting */
	{ { "RANK", "%d" }, COLLX_ERR_INVALID, "WORLD_SIZE is not set" },
	{ { "WORLD_SIZE", "2" }, COLLX_ERR_INVALID, "RANK is not set" },
	{ { "RANK", "2", "WORLD_SIZE", "2" }, COLLX_ERR_INVALID,
	  "RANK=2 contradicts WORLD_SIZE=2" },
	{ { "OMPI_COMM_WORLD_RANK", "0", "OMPI_COMM_WORLD_SIZE", "2",
	    "OMPI_COMM_WORLD_LOCAL_RANK", "1" }, COLLX_ERR_INVALID,
	  "OMPI_COMM_WORLD_LOCAL_RANK=1 contradicts OMPI_COMM_WORLD_RANK=0" },
	{ { "RANK", "x", "WORLD_SIZE", "2" }, COLLX_ERR_INVALID, "RANK=x" },
	{ { "OMPI_COMM_WORLD_RANK", "%d", "OMPI_COMM_WORLD_SIZE", "2",
	    "OMPI_COMM_WORLD_LOCAL_SIZE", "2" }, COLLX_ERR_INVALID, "COLLX_SECRET_FILE" },
};

Test(launchers, are_recognised_and_their_mistakes_named, .timeout = 120)
{
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		pid_t pids[2];
		char base[64];

		cr_assert_eq(folder_make(base), 0);
		for (int r = 0; r < 2; r++) {
			pids[r] = rank_fork();
			if (pids[r] == 0) {
				come_from_env(&settings[i], r);
				rank_exit();
			}
		}
		cr_expect_eq(ranks_wait(pids, 2, 0, 60), 0, "settings %zu", i);
		cr_assert_eq(folder_gone(base), 0);
	}
}
