/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One round of a side-by-side comparison: an allreduce of each given size, back
 * to back, in the same loop for every library. perf/side-by-side runs rounds of
 * several libraries in turn and prints ratios of medians.
 *
 *   compare-NAME BYTES...    prints "BYTES MICROSECONDS" a line
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "compare.h"

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* Microseconds of one call, the slowest rank's average over n. */
static double time_calls(const float *in, float *out, size_t count, int n)
{
	double start;

	peer_barrier();
	start = now_us();
	for (int i = 0; i < n; i++)
		peer_allreduce(in, out, count);
	return peer_max((now_us() - start) / n);
}

/* Enough calls for about 60 ms, agreed by all ranks. */
static double measure(const float *in, float *out, size_t count)
{
	double once = time_calls(in, out, count, 5);
	int n = (int)(60e3 / (once + 0.2)) + 3;

	return time_calls(in, out, count, n);
}

static int check(const float *out, size_t count, int ranks)
{
	for (size_t i = 0; i < count; i++)
		if (out[i] != (float)(i % 13) * (float)ranks)
			return 0;
	return 1;
}

static int run_size(const struct peer *p, size_t bytes)
{
	size_t count = bytes / sizeof(float);
	float *in = malloc(bytes + 64), *out = malloc(bytes + 64);
	double us;

	if (!in || !out)
		return 1;
	for (size_t i = 0; i < count; i++) {
		in[i] = (float)(i % 13);
		out[i] = -1;
	}
	us = measure(in, out, count);
	if (p->rank == 0)
		printf("%zu %.3f%s\n", bytes, us, check(out, count, p->size) ? "" : " WRONG");
	free(in);
	free(out);
	return 0;
}

int main(int argc, char **argv)
{
	struct peer p;
	int failed = 0;

	peer_init(&p, &argc, &argv);
	for (int i = 1; i < argc && !failed; i++)
		failed = run_size(&p, strtoull(argv[i], NULL, 10));
	peer_fini();
	return failed;
}
