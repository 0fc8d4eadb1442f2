/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The GPU's kernels against the CPU's, linked with the emulation (emu_kernels) or with a
 * real GPU (gpu_kernels). gpu_test [-s SECONDS] [-n LEAST] [-m MOST] [-r SEED] [-l LENGTH] [-a 1]
 * [KIND [CASE]]: of the codecs the lengths at which kernels change first, then as many random
 * cases as there is time for, of each kind LEAST in any case; or one. MOST: elements. The seed
 * is another one at each run, unless given. -l: the codecs with each length up to that. -a: each
 * array is an allocation of its own. A fourth of the cases is captured and replayed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "codec_cases.h"
#include "gpu.h"
#include "gpu_cases.h"
#include "gpu_codecs.h"

static int codec(uint64_t i, size_t most, char why[GPU_WHY])
{
	(void)most;
	return codec_case(&gpu_codecs, i, why);
}

/* Cases are drawn far apart, so that lengths, types and kinds differ from one to the next. */
static const struct kind {
	const char *name;
	gpu_case_fn *run;
	size_t emulated_most, most; /* elements */
	double share;               /* of the time; 0: one case */
} kinds[] = {
	{"capture", gpu_capture_case, 0, 0, 0},
	{"api", gpu_api_case, 0, 0, 0},
	{"codec", codec, 0, 0, 0.4},
	{"fold", gpu_fold_case, 9000, 1 << 20, 0.15},
	{"topk", gpu_topk_case, 60000, 1 << 21, 0.25},
	{"sparse", gpu_sparse_case, 50000, 1 << 20, 0.2},
};


static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static size_t most = SIZE_MAX;
static uint64_t seed;

static int run(const struct kind *k, uint64_t i)
{
	size_t usual = gpu_is_emulated ? k->emulated_most : k->most;
	char why[GPU_WHY] = "";
	int rc;

	gpu_seed(i);
	gpu_captures = k->share > 0 && codec_mix(i + 1) % 4 == 0;
	rc = k->run(i, usual < most ? usual : most, why);
	if (gpu_wrong()) {
		printf("%s, case %llu%s: %s\n", k->name, (unsigned long long)i,
		       gpu_captures ? ", captured" : "", gpu_wrong());
		return 1;
	}
	if (rc)
		printf("%s, case %llu%s: %s\n", k->name, (unsigned long long)i,
		       gpu_captures ? ", captured" : "", why);
	return rc ? 1 : 0;
}

/* Ends of blocks, warps and tiles. codec_case takes its length from the case's number. */
static const unsigned lengths[] = {0, 1, 2, 31, 32, 33, 63, 64, 65, 1023, 1024, 1025, 2047, 2048,
				   2049, 2080, 2100};
enum { LENGTHS = sizeof(lengths) / sizeof(lengths[0]), CODEC_LENGTHS = 2101 };

/* A case of that length, which codec_case does not lengthen, with other numbers each run. */
static uint64_t case_of(unsigned length)
{
	uint64_t i = length + (codec_mix(seed + length) >> 24) * CODEC_LENGTHS;

	while (codec_mix(i) % 64 == 0)
		i += CODEC_LENGTHS;
	return i;
}

static int run_lengths(const struct kind *k, unsigned last)
{
	for (unsigned n = 0; n <= last; n++)
		if (run(k, case_of(n)))
			return 1;
	printf("%s: each length up to %u, seed %llu\n", k->name, last, (unsigned long long)seed);
	return 0;
}

static int run_some(const struct kind *k, double budget, uint64_t least)
{
	double from = seconds();
	uint64_t i = 0;

	if (k->share == 0) {
		if (run(k, 0))
			return 1;
		printf("%s: as on the host\n", k->name);
		return 0;
	}
	for (; k->run == codec && i < LENGTHS && i < least; i++)
		if (run(k, case_of(lengths[i])))
			return 1;
	for (; i < least || seconds() - from < budget * k->share; i++)
		if (run(k, codec_mix(seed + i) >> 20))
			return 1;
	printf("%s: %llu cases, seed %llu\n", k->name, (unsigned long long)i,
	       (unsigned long long)seed);
	return 0;
}

int main(int argc, char **argv)
{
	double budget = 20;
	uint64_t least = 80; /* cases of a kind, whatever the time */
	int last = -1;
	const char *name = NULL;
	char why[GPU_WHY];
	int rc = gpu_open(why, sizeof(why));

	if (rc) {
		puts(why);
		return rc;
	}
	seed = (uint64_t)time(NULL);
	for (; argc > 2 && argv[1][0] == '-'; argv += 2, argc -= 2) {
		if (argv[1][1] == 's')
			budget = atof(argv[2]);
		else if (argv[1][1] == 'm')
			most = strtoull(argv[2], NULL, 0);
		else if (argv[1][1] == 'r')
			seed = strtoull(argv[2], NULL, 0);
		else if (argv[1][1] == 'l')
			last = atoi(argv[2]);
		else if (argv[1][1] == 'a' && atoi(argv[2]))
			gpu_apart();
		else
			least = strtoull(argv[2], NULL, 0);
	}
	if (last >= 0)
		return run_lengths(&kinds[2], (unsigned)last);
	if (argc > 1)
		name = argv[1];
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		if (name && strcmp(name, kinds[k].name))
			continue;
		gpu_forgive();
		rc |= argc > 2 ? run(&kinds[k], strtoull(argv[2], NULL, 0)) :
				 run_some(&kinds[k], budget, least);
	}
	return rc;
}
