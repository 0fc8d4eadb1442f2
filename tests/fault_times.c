/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How soon all ranks know: of a killed rank, and of a call that differs. Prints for
 * each situation the median and the largest of the times until the last rank knew.
 * `fault_times [REPEATS]`.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "src/base/base.h"
#include "src/comm.h"
#include "tests/world.h"

enum { RANKS = 4, REPEATS_MOST = 1000 };

enum situation { ALL_CALL, ALL_OUTSIDE, ZERO_OUTSIDE, ONE_CALLS, DIFFERS, SITUATIONS };

static const char *const names[SITUATIONS] = {
	[ALL_CALL] = "killed, the others call",
	[ALL_OUTSIDE] = "killed, the others compute outside",
	[ZERO_OUTSIDE] = "killed, rank 0 computes outside",
	[ONE_CALLS] = "killed, only one other calls",
	[DIFFERS] = "another call (allreduce, count)",
};

/* Shared with the ranks. */
struct notes {
	enum situation situation;
	int victim;
	uint64_t since_ns, known_ns[RANKS];
	int ready;
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

static void take_part(collx_comm_t c, int rank, int size, void *arg)
{
	struct notes *n = arg;
	float x[16] = { 0 }, y[16];
	int rc = 0;

	(void)size;
	for (int i = 0; !rc && i < 100; i++)
		rc = collx_allreduce(x, y, 8, COLLX_FLOAT32, COLLX_SUM, c, NULL);
	EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(c));
	__atomic_fetch_add(&n->ready, 1, __ATOMIC_ACQ_REL);
	if (rank == n->victim) {
		while (__atomic_load_n(&n->ready, __ATOMIC_ACQUIRE) < RANKS)
			nap_ms(1);
		nap_ms(10 + (unsigned)(mix64(now_ns()) % 20));
		n->since_ns = now_ns();
		if (n->situation != DIFFERS)
			raise(SIGKILL);
		rc = collx_allreduce(x, y, 9, COLLX_FLOAT32, COLLX_SUM, c, NULL);
	} else if (stays_outside(n, rank)) {
		while (!cx_guard_verdict(c->guard))
			nap_ms(1);
	} else {
		while (!rc)
			rc = collx_allreduce(x, y, 8, COLLX_FLOAT32, COLLX_SUM, c, NULL);
	}
	n->known_ns[rank] = now_ns();
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static int measure(struct notes *n, enum situation s, const char *transport, int repeats)
{
	static double ms[REPEATS_MOST];

	for (int i = 0; i < repeats; i++) {
		struct world w = { .size = RANKS, .fn = take_part, .arg = n,
				   .transport = transport };

		*n = (struct notes){ .situation = s, .victim = i % RANKS };
		if (s == ZERO_OUTSIDE)
			n->victim = 1 + i % (RANKS - 1);
		if (s != DIFFERS)
			w.killed = 1u << n->victim;
		if (world_run(&w))
			return 1;
		ms[i] = 0;
		for (int r = 0; r < RANKS; r++)
			if (n->known_ns[r] && (double)(n->known_ns[r] - n->since_ns) / 1e6 > ms[i])
				ms[i] = (double)(n->known_ns[r] - n->since_ns) / 1e6;
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
