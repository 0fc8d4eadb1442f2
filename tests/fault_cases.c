/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The cases of faults, many variations each: transports, ways to call, operations, times.
 * `fault_cases [REPEATS [CASE [VARIATION]]]` prints for each case how long it took until
 * the last rank knew, and then until it had its next communicator, in ms; fails if any
 * rank did what it should not. A time above the bound is printed as slow, and fails where
 * the machine is quiet enough for it to mean something.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/trial.h"
#include "tests/world.h"

enum { REPEATS_MOST = 1000 };

struct times {
	double ms[REPEATS_MOST], ratio[REPEATS_MOST]; /* to the bound */
	int n;
};

static double load_now(void)
{
	double loads[1] = { 0 };

	return getloadavg(loads, 1) == 1 ? loads[0] : 0;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void add(struct times *t, double ms, double bound)
{
	if (ms <= 0)
		return;
	t->ms[t->n] = ms;
	t->ratio[t->n++] = bound > 0 ? ms / bound : 0;
}

/* Prints median and worst; is the median within its bound, and none above four of it? */
static bool print_times(struct times *t)
{
	if (!t->n) {
		printf(" %7s %7s", "-", "-");
		return true;
	}
	qsort(t->ms, (size_t)t->n, sizeof(t->ms[0]), by_size);
	qsort(t->ratio, (size_t)t->n, sizeof(t->ratio[0]), by_size);
	printf(" %7.1f %7.1f", t->ms[t->n / 2], t->ms[t->n - 1]);
	return t->ratio[t->n / 2] <= 1 && t->ratio[t->n - 1] <= 4;
}

static int run_case(const struct trial_case *k, int repeats, int only, struct trial *t)
{
	static struct times told, again;
	int wrong = 0;
	bool soon;

	repeats = repeats < k->times ? k->times : repeats;
	told.n = again.n = 0;
	for (int i = only < 0 ? 0 : only; i < (only < 0 ? repeats : only + 1); i++) {
		int rc = trial_case_run(k, i, t);

		if (rc)
			fprintf(stderr, "case %s, variation %d\n", k->id, i);
		wrong += rc != 0;
		add(&told, t->told_ms, k->bound_ms[t->path != PATH_SHM]);
		add(&again, t->again_ms, k->again_ms);
	}
	printf("%-6s %-32s %4d", k->id, k->what, only < 0 ? repeats : 1);
	soon = print_times(&told);
	soon &= print_times(&again);
	printf("  %s\n", wrong ? "WRONG" : soon ? "ok" : "slow");
	fflush(stdout);
	return wrong || (!soon && load_now() < 2.5);
}

int main(int argc, char **argv)
{
	int repeats = argc > 1 ? atoi(argv[1]) : 5, only = argc > 3 ? atoi(argv[3]) : -1;
	int failed = 0;
	struct trial *t = trial_make();

	if (repeats < 1 || repeats > REPEATS_MOST)
		return 2;
	printf("load %.1f\n%-6s %-32s %4s %7s %7s %7s %7s\n", load_now(), "case", "", "runs",
	       "told", "most", "again", "most");
	for (int i = 0; i < ntrial_cases; i++)
		if (argc < 3 || !strcmp(argv[2], "all") || !strcmp(argv[2], trial_cases[i].id))
			failed += run_case(&trial_cases[i], repeats, only, t) != 0;
	printf("load %.1f; %d cases failed\n", load_now(), failed);
	trial_free(t);
	return failed != 0;
}
