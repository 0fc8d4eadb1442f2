/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How soon all ranks know: of a rank that was killed or stopped, of a call that differs, of
 * an abort; and how soon those who are left have their next communicator then. Prints for
 * each situation the median and the largest of the times until the last rank was so far.
 * `fault_times [REPEATS]`.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "src/base/base.h"
#include "src/comm.h"
#include "tests/world.h"

enum { RANKS = 4, REPEATS_MOST = 1000 };

enum situation { ALL_CALL, ALL_OUTSIDE, ZERO_OUTSIDE, ONE_CALLS, DIFFERS, STOPPED,
		 ABORT_HERE, ABORT_THERE, REPAIRED, SITUATIONS };

static const char *const names[SITUATIONS] = {
	[ALL_CALL] = "killed, the others call",
	[ALL_OUTSIDE] = "killed, the others compute outside",
	[ZERO_OUTSIDE] = "killed, rank 0 computes outside",
	[ONE_CALLS] = "killed, only one other calls",
	[DIFFERS] = "another call (allreduce, count)",
	[STOPPED] = "stopped, the others call",
	[ABORT_HERE] = "abort, where it is called",
	[ABORT_THERE] = "abort, on the others",
	[REPAIRED] = "repair, from the last one's error",
};

/* Shared with the ranks. */
struct notes {
	enum situation situation;
	int victim;
	uint64_t since_ns, known_ns[RANKS], again_ns[RANKS];
	int ready, known;
	pid_t pid;
};

static uint64_t now_ns(void)
{
	return cx_sys_real.now_ns();
}

static bool stays_outside(const struct notes *n, int rank)
{
	switch (n->situation) {
	case ALL_OUTSIDE: return true;
	case ZERO_OUTSIDE: return rank == 0;
	case ONE_CALLS: return rank != (n->victim + 1) % RANKS;
	default: return false;
	}
}

static bool is_lost(enum situation s)
{
	return s != DIFFERS && s != ABORT_HERE && s != ABORT_THERE;
}

/* The victim's part; its call's result. */
static int suffer(collx_comm_t c, struct notes *n, const float *x, float *y)
{
	while (__atomic_load_n(&n->ready, __ATOMIC_ACQUIRE) < RANKS)
		nap_ms(1);
	nap_ms(10 + (unsigned)(mix64(now_ns()) % 20));
	n->pid = getpid();
	n->since_ns = now_ns();
	if (is_lost(n->situation))
		raise(n->situation == STOPPED ? SIGSTOP : SIGKILL);
	if (n->situation != DIFFERS)
		collx_comm_abort(c);
	return collx_allreduce(x, y, 9, COLLX_FLOAT32, COLLX_SUM, c, NULL);
}

/* After the error. */
static void go_on(collx_comm_t c, struct notes *n, int rank)
{
	if (__atomic_add_fetch(&n->known, 1, __ATOMIC_ACQ_REL) == RANKS - 1 &&
	    n->situation == STOPPED)
		kill(n->pid, SIGKILL);
	if (n->situation != REPAIRED)
		return;
	EXPECT(!collx_comm_repair(&c, NULL), "rank %d: %s", rank, collx_last_error(NULL));
	n->again_ns[rank] = now_ns();
	EXPECT(!collx_barrier(c, NULL), "rank %d: %s", rank, collx_last_error(c));
	collx_comm_destroy(c);
}

static void take_part(const collx_unique_id *id, int rank, int size, void *arg)
{
	collx_config config = COLLX_CONFIG_INIT;
	struct notes *n = arg;
	float x[16] = { 0 }, y[16];
	collx_comm_t c = NULL;
	int rc;

	config.heartbeat_ms = 100;
	config.silence_ms = 1000;
	rc = collx_comm_create(&c, size, id, rank, &config);
	for (int i = 0; !rc && i < 100; i++)
		rc = collx_allreduce(x, y, 8, COLLX_FLOAT32, COLLX_SUM, c, NULL);
	EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(c));
	__atomic_fetch_add(&n->ready, 1, __ATOMIC_ACQ_REL);
	if (rank == n->victim) {
		rc = suffer(c, n, x, y);
	} else if (stays_outside(n, rank)) {
		while (!cx_guard_verdict(c->guard))
			nap_ms(1);
	} else {
		while (!rc)
			rc = collx_allreduce(x, y, 8, COLLX_FLOAT32, COLLX_SUM, c, NULL);
	}
	n->known_ns[rank] = now_ns();
	go_on(c, n, rank);
	if (n->situation != REPAIRED)
		collx_comm_destroy(c);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* Until the last one was so far. */
static double time_of(const struct notes *n)
{
	uint64_t known = 0, again = 0;

	for (int r = 0; r < RANKS; r++) {
		if (n->situation == ABORT_HERE ? r != n->victim
					       : n->situation == ABORT_THERE && r == n->victim)
			continue;
		if (n->known_ns[r] > known)
			known = n->known_ns[r];
		if (n->again_ns[r] > again)
			again = n->again_ns[r];
	}
	return (n->situation == REPAIRED ? (double)(again - known)
					 : (double)(known - n->since_ns)) / 1e6;
}

static int measure(struct notes *n, enum situation s, const char *transport, int repeats)
{
	static double ms[REPEATS_MOST];

	for (int i = 0; i < repeats; i++) {
		struct world w = { .size = RANKS, .raw = take_part, .arg = n,
				   .transport = transport };

		*n = (struct notes){ .situation = s, .victim = i % RANKS };
		if (s == ZERO_OUTSIDE)
			n->victim = 1 + i % (RANKS - 1);
		if (is_lost(s))
			w.killed = 1u << n->victim;
		if (world_run(&w))
			return 1;
		ms[i] = time_of(n);
	}
	qsort(ms, (size_t)repeats, sizeof(ms[0]), by_size);
	printf("%-10s %-36s %8.1f %8.1f\n", transport, names[s], ms[repeats / 2],
	       ms[repeats - 1]);
	return 0;
}

int main(int argc, char **argv)
{
	int repeats = argc > 1 ? atoi(argv[1]) : 30, failed = 0;
	struct notes *n = mmap(NULL, sizeof(*n), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (repeats < 1 || repeats > REPEATS_MOST || n == MAP_FAILED)
		return 2;
	printf("%d ranks, %d times each, ms until the last rank knew\n", RANKS, repeats);
	printf("%-10s %-36s %8s %8s\n", "transport", "situation", "median", "most");
	fflush(stdout);
	for (int tcp = 0; tcp < 2; tcp++)
		for (int s = 0; s < SITUATIONS; s++)
			failed |= measure(n, (enum situation)s, tcp ? "tcp" : "shm", repeats);
	return failed;
}
