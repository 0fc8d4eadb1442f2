/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every pair of {collective and algorithm, ranks, count, type, operation, place,
 * root, world} in some case, over processes, threads and the simulated transport.
 */
#include <stdio.h>
#include <criterion/criterion.h>

#include "tests/batch.h"
#include "tests/cover.h"

enum { CASES_MAX = 2000, CASES = 264 };

static struct test_case cases[CASES_MAX];

static int in_mode(int n, enum mode mode)
{
	int found = 0;

	for (int i = 0; i < n; i++)
		found += cases[i].v[F_MODE] == mode;
	return found;
}

Test(matrix, covers_every_pair)
{
	int n = cover_make(cases, CASES_MAX), missing;
	int pairs = cover_pairs(cases, n, &missing);
	int shm = in_mode(n, MODE_PROCESSES) + in_mode(n, MODE_MIXED);
	int tcp = in_mode(n, MODE_TCP) + in_mode(n, MODE_HOSTS);

	fprintf(stderr, "matrix: %d cases for %d pairs; of processes %d over shm, %d over tcp or "
		"both; %d of threads, %d sim\n", n, pairs, shm, tcp, in_mode(n, MODE_THREADS),
		in_mode(n, MODE_SIM));
	cr_assert_eq(missing, 0);
	cr_assert_eq(n, CASES, "%d cases: with other algorithms the number changes", n);
	cr_assert_geq(3 * tcp, n - 2);
	cr_assert_geq(3 * shm, n - 2);
	cover_pairs(cases, n - 1, &missing);
	cr_assert_gt(missing, 0, "the last case adds nothing");
}

static void run_mode(enum mode mode)
{
	static struct test_case some[CASES_MAX];
	int n = cover_make(cases, CASES_MAX), ran = 0, failed = 0;

	for (int ranks = 1; ranks <= RANKS_MAX; ranks++) {
		struct batch b = { .cases = some };

		for (int i = 0; i < n; i++)
			if (case_ranks(&cases[i]) == ranks && cases[i].v[F_MODE] == mode)
				some[b.n++] = cases[i];
		ran += b.n;
		if (batch_run(&b))
			failed += b.failed ? b.failed : 1;
	}
	cr_assert_eq(failed, 0, "%d of %d cases failed", failed, ran);
	cr_assert_eq(ran, in_mode(n, mode));
	cr_assert_gt(ran, 0);
}

Test(matrix, simulated, .timeout = 600)
{
	run_mode(MODE_SIM);
}

Test(matrix, processes, .timeout = 600)
{
	run_mode(MODE_PROCESSES);
}

Test(matrix, threads, .timeout = 600)
{
	run_mode(MODE_THREADS);
}

Test(matrix, processes_over_tcp, .timeout = 600)
{
	run_mode(MODE_TCP);
}

Test(matrix, processes_of_several_hosts, .timeout = 600)
{
	run_mode(MODE_HOSTS);
}

Test(matrix, processes_with_mixed_kernels, .timeout = 600)
{
	run_mode(MODE_MIXED);
}
