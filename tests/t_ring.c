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
		EXPECT((h[r].heard_ms < 700) == (r == 1 || r == 6), "rank %d was heard %d ms ago", r,
		       (int)h[r].heard_ms);
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
