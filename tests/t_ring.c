/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Many hosts: who is next to whom in the ring of their leaders; and, on real processes
 * with a ring of few, that who stops is known to all, whoever it is.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <criterion/criterion.h>

#include "src/base/base.h"
#include "src/ring.h"
#include "tests/world.h"

/* ---- the shape ---- */

Test(ring, distances)
{
	/* Leaders 0, 2, 3, 6: the others are of their hosts. */
	int leader[] = { 0, 0, 2, 3, 3, 2, 6, 0 };
	struct cx_tree t = { .ranks = 8, .leader = leader };
	static const int from_2[] = { 3, -1, 0, 1, -1, -1, 2, -1 };

	t.rank = 2;
	for (int r = 0; r < 8; r++)
		cr_expect_eq(cx_ring_distance(&t, r), from_2[r], "rank %d", r);
	cr_expect(cx_ring_is_next(&t, 0) && cx_ring_is_next(&t, 3));
	cr_expect(!cx_ring_is_next(&t, 6) && !cx_ring_is_next(&t, 2) && !cx_ring_is_next(&t, 1));
	t.rank = 1;
	for (int r = 0; r < 8; r++)
		cr_expect(cx_ring_distance(&t, r) == -1 && !cx_ring_is_next(&t, r));
}

/* ---- on real processes ---- */

enum { RANKS = 7, SILENCE_MS = 1500, SLACK_MS = 3000 };

struct notes {
	unsigned stopped; /* bit r: that rank stops itself */
	atomic_int know;
	pid_t pid[RANKS];
	_Atomic uint64_t since_ms;
	char text[RANKS][448];
};

static int alone(int rank, int ranks)
{
	(void)ranks;
	return rank;
}

static int in_pairs(int rank, int ranks)
{
	(void)ranks;
	return rank / 2;
}

static collx_comm_t join_ring(const collx_unique_id *id, int rank, int size)
{
	collx_config config = COLLX_CONFIG_INIT;
	collx_comm_t c = NULL;

	setenv("COLLX_RING_HOSTS", "2", 1);
	config.heartbeat_ms = 100;
	config.silence_ms = SILENCE_MS;
	config.op_timeout_ms = 30000;
	EXPECT(!collx_comm_create(&c, size, id, rank, &config), "rank %d: %s", rank,
	       collx_last_error(NULL));
	return c;
}

static collx_result sum_up(collx_comm_t c)
{
	float x = 1, sum = 0;
	collx_result rc = collx_allreduce(&x, &sum, 1, COLLX_FLOAT32, COLLX_SUM, c, NULL);

	EXPECT(rc || sum == (float)collx_comm_size(c), "the sum is %g", (double)sum);
	return rc;
}

/* Who lives waits in a call, and who knows last wakes the stopped ones. */
static void wait_for_stopped(collx_comm_t c, struct notes *n, int rank, int size)
{
	collx_result rc = sum_up(c);
	int live = size - __builtin_popcount(n->stopped);
	uint64_t took_ms = now_ms() - n->since_ms;
	collx_error e = COLLX_ERROR_INIT;

	collx_comm_error(c, &e);
	snprintf(n->text[rank], sizeof(n->text[rank]), "%s", e.text);
	EXPECT(rc == COLLX_ERR_PEER_SILENT && e.rank >= 0 && n->stopped >> e.rank & 1,
	       "rank %d: %s", rank, e.text);
	EXPECT(took_ms > SILENCE_MS / 2 && took_ms < 2 * SILENCE_MS + SLACK_MS,
	       "rank %d knows after %d ms", rank, (int)took_ms);
	if (atomic_fetch_add(&n->know, 1) == live - 1)
		for (int r = 0; r < size; r++)
			if (n->stopped >> r & 1)
				kill(n->pid[r], SIGCONT);
}

static void stop_or_wait(const collx_unique_id *id, int rank, int size, void *arg)
{
	collx_comm_t c = join_ring(id, rank, size);
	struct notes *n = arg;
	collx_result rc;

	if (!c)
		return;
	n->pid[rank] = getpid();
	EXPECT(!sum_up(c), "rank %d: %s", rank, collx_last_error(c));
	if (n->stopped >> rank & 1) {
		n->since_ms = now_ms();
		raise(SIGSTOP);
		while (!(rc = sum_up(c))) /* all that it takes may have come for the first */
			;
		EXPECT(rc == COLLX_ERR_EXCLUDED || rc == COLLX_ERR_PEER_SILENT,
		       "rank %d, stopped: %s: %s", rank, collx_strerror(rc), collx_last_error(c));
	} else {
		wait_for_stopped(c, n, rank, size);
	}
	collx_comm_destroy(c);
}

static void check(unsigned stopped, int (*host)(int, int))
{
	struct notes *n = mmap(NULL, sizeof(*n), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const struct world w = { .size = RANKS, .raw = stop_or_wait, .arg = n, .host = host };
	const char *first = NULL;

	cr_assert_neq(n, MAP_FAILED);
	n->stopped = stopped;
	cr_assert_eq(world_run(&w), 0, "stopped: %x", stopped);
	for (int r = 0; r < RANKS; r++)
		if (!(stopped >> r & 1)) {
			first = first ? first : n->text[r];
			cr_expect_str_eq(n->text[r], first);
		}
	munmap(n, sizeof(*n));
}

Test(ring, rank_0_stops, .timeout = 120)
{
	check(1u << 0, alone);
	check(1u << 0, in_pairs);
}

Test(ring, another_leader_stops, .timeout = 120)
{
	check(1u << 3, alone);
	check(1u << 4, in_pairs);
}

Test(ring, neighbours_stop, .timeout = 120)
{
	check(3u << 2, alone);
}

/* ---- who hears whom ---- */

static void look_around(const collx_unique_id *id, int rank, int size, void *arg)
{
	collx_comm_t c = join_ring(id, rank, size);
	collx_rank_health h[RANKS];
	int *left = arg;

	if (!c)
		return;
	EXPECT(!sum_up(c), "rank %d: %s", rank, collx_last_error(c));
	nap_ms(SILENCE_MS);
	collx_comm_health(c, h, size);
	/* 1 and 6 are next to rank 0. */
	for (int r = 1; !rank && r < size; r++)
		EXPECT((h[r].heard_ms < 700) == (r == 1 || r == 6),
		       "rank %d was heard %d ms ago", r, (int)h[r].heard_ms);
	EXPECT(!sum_up(c), "rank %d: %s", rank, collx_last_error(c));
	if (rank == 3) {
		collx_comm_destroy(c);
		return;
	}
	nap_ms(2 * SILENCE_MS);
	collx_comm_health(c, h, size);
	for (int r = 1; !rank && r < size; r++)
		*left |= h[r].heard_ms < 700 || r == 3 ? 0 : 1 << r;
	EXPECT(!*left, "not heard though a leader left: %x", (unsigned)*left);
	collx_comm_destroy(c);
}

Test(ring, rank_0_hears_two_and_all_when_one_has_left, .timeout = 120)
{
	int left = 0;
	const struct world w = { .size = RANKS, .raw = look_around, .arg = &left, .host = alone };

	cr_assert_eq(world_run(&w), 0);
}

/* ---- found by review ---- */

enum { FEW = 5 };

/* Its neighbours leave, and rank 0 has stopped: nobody calls, and yet it is to be known. */
static void leave_one_alone(const collx_unique_id *id, int rank, int size, void *arg)
{
	collx_comm_t c = join_ring(id, rank, size);
	collx_error e = COLLX_ERROR_INIT;
	uint64_t start;

	if (!c)
		return;
	*((pid_t *)arg + rank) = getpid();
	EXPECT(!sum_up(c), "rank %d: %s", rank, collx_last_error(c));
	ranks_meet(size);
	start = now_ms();
	if (rank == 0) {
		raise(SIGSTOP);
	} else if (rank == 2) {
		while (!collx_comm_error(c, &e) && !e.code && now_ms() - start < 20000)
			nap_ms(20);
		EXPECT(e.code == COLLX_ERR_PEER_SILENT && e.rank == 0, "rank 2: %s", e.text);
		EXPECT(now_ms() - start < 2 * SILENCE_MS + SLACK_MS, "rank 2 knows after %d ms",
		       (int)(now_ms() - start));
		kill(*(pid_t *)arg, SIGCONT);
	} else {
		nap_ms(100);
	}
	collx_comm_destroy(c);
}

Test(ring, who_is_left_alone_in_it_learns_of_rank_0, .timeout = 120)
{
	pid_t *pids = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const struct world w = { .size = 4, .raw = leave_one_alone, .arg = pids, .host = alone };

	cr_assert_neq(pids, MAP_FAILED);
	cr_assert_eq(world_run(&w), 0);
	munmap(pids, 4096);
}

static collx_comm_t kept;

static void destroy_late(void)
{
	nap_ms(500); /* the neighbours have left meanwhile */
	collx_comm_destroy(kept);
}

/* Its handler of exit was there before the guard's: there is no thread any more. */
static void destroy_at_exit(const collx_unique_id *id, int rank, int size, void *arg)
{
	collx_comm_t c;
	int failures;

	if (rank == 2)
		atexit(destroy_late);
	c = join_ring(id, rank, size);
	if (!c)
		return;
	*((pid_t *)arg + rank) = getpid();
	EXPECT(!sum_up(c), "rank %d: %s", rank, collx_last_error(c));
	failures = expect_failures();
	kept = c;
	if (rank == 2)
		exit(failures != 0);
	if (rank == 0)
		raise(SIGSTOP); /* what others say does not come over it */
	if (rank == 4) {
		nap_ms(1500);
		kill(*(pid_t *)arg, SIGCONT);
	}
	collx_comm_destroy(c);
}

Test(ring, may_be_left_as_the_process_ends, .timeout = 120)
{
	pid_t *pids = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const struct world w = { .size = FEW, .raw = destroy_at_exit, .arg = pids, .host = alone };

	cr_assert_neq(pids, MAP_FAILED);
	cr_assert_eq(world_run(&w), 0);
	munmap(pids, 4096);
}

static void be_late_once(const collx_unique_id *id, int rank, int size, void *arg)
{
	collx_comm_t c = join_ring(id, rank, size);
	collx_rank_health h[FEW];

	(void)arg;
	if (!c)
		return;
	EXPECT(!sum_up(c), "rank %d: %s", rank, collx_last_error(c));
	if (rank == 3)
		nap_ms(1500);
	EXPECT(!sum_up(c), "rank %d: %s", rank, collx_last_error(c));
	nap_ms(3000);
	collx_comm_health(c, h, size);
	EXPECT(!h[3].awaited_ms, "at rank %d: rank 3 is awaited for %d ms", rank,
	       (int)h[3].awaited_ms);
	EXPECT(!sum_up(c), "rank %d: %s", rank, collx_last_error(c));
	collx_comm_destroy(c);
}

Test(ring, who_came_is_awaited_no_more, .timeout = 120)
{
	const struct world w = { .size = FEW, .raw = be_late_once, .host = alone };

	cr_assert_eq(world_run(&w), 0);
}

/* Rank 4 dies, and rank 2 stops before it could join those who go on. */
static void stop_behind_a_death(const collx_unique_id *id, int rank, int size, void *arg)
{
	collx_comm_t c = join_ring(id, rank, size), next = NULL;
	atomic_int *done = (atomic_int *)((pid_t *)arg + WORLD_MAX);
	collx_result rc = COLLX_OK;
	uint64_t start;

	if (!c)
		return;
	*((pid_t *)arg + rank) = getpid();
	EXPECT(!sum_up(c), "rank %d: %s", rank, collx_last_error(c));
	ranks_meet(size);
	start = now_ms();
	if (rank == 4)
		raise(SIGKILL);
	if (rank == 2)
		raise(SIGSTOP);
	while (!rc)
		rc = sum_up(c);
	rc = collx_comm_shrink(c, NULL, 0, &next, NULL);
	if (rank != 2) {
		EXPECT(!rc && collx_comm_size(next) == size - 2, "rank %d: %s", rank,
		       collx_last_error(c));
		EXPECT(now_ms() - start < SILENCE_MS + SLACK_MS, "rank %d: %d ms", rank,
		       (int)(now_ms() - start));
		if (atomic_fetch_add(done, 1) == size - 3)
			kill(*((pid_t *)arg + 2), SIGCONT);
	} else {
		EXPECT(rc < 0, "rank 2: %s",
		       collx_strerror(rc));
	}
	if (next)
		collx_comm_destroy(next);
	collx_comm_destroy(c);
}

Test(ring, silence_behind_a_verdict_is_seen, .timeout = 120)
{
	pid_t *pids = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const struct world w = { .size = 6, .raw = stop_behind_a_death, .arg = pids, .host = alone,
				 .killed = 1u << 4 };

	cr_assert_neq(pids, MAP_FAILED);
	cr_assert_eq(world_run(&w), 0);
	munmap(pids, 4096);
}
