/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Does the emulation see what is missing? Each barrier, warp barrier and fence of the
 * kernels is left out in turn: a case must fail then. Races that a plain copy of the
 * right result would hide are found all the same; see cuda_emu.h.
 */
#include <stdio.h>
#include <string.h>

#include "codec_cases.h"
#include "cuda_emu.h"
#include "gpu.h"
#include "gpu_cases.h"
#include "gpu_codecs.h"

enum { CASES = 150 };

static int codec(uint64_t i, size_t most, char why[GPU_WHY])
{
	(void)most;
	return codec_case(&gpu_codecs, i, why);
}

static gpu_case_fn *const kinds[] = {gpu_sparse_case, gpu_topk_case, codec};

/* 0, or -1 and why. */
static int run(gpu_case_fn *kind, uint64_t i, char *why)
{
	int rc;

	gpu_seed(i);
	rc = kind(codec_mix(i) >> 20, 40000, why);
	if (gpu_wrong()) {
		snprintf(why, GPU_WHY, "%s", gpu_wrong());
		rc = -1;
	}
	gpu_forgive();
	return rc;
}

/* Whether a case fails while this site is left out. */
static int is_seen(unsigned site, char *why)
{
	int rc = 0;

	emu_options.drop = site;
	for (uint64_t i = 0; !rc && i < CASES; i++)
		for (size_t k = 0; !rc && k < sizeof(kinds) / sizeof(kinds[0]); k++)
			rc = k == 2 && i > 30 ? 0 : run(kinds[k], i, why);
	emu_options.drop = 0;
	return rc != 0;
}

int main(void)
{
	char why[GPU_WHY] = "";
	unsigned missed = 0, n = 0;

	if (gpu_open(why, sizeof(why))) {
		puts(why);
		return 1;
	}
	for (uint64_t i = 0; i < 40; i++) {
		for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
			if (run(kinds[k], i, why)) {
				printf("without any mutant, case %llu: %s\n",
				       (unsigned long long)i, why);
				return 1;
			}
		}
	}
	for (unsigned s = 1; emu_site(s); s++, n++) {
		int seen = is_seen(s, why);

		missed += !seen;
		printf("%s:%d: without %s: %s\n", strrchr(emu_site(s)->file, '/') + 1,
		       emu_site(s)->line, emu_site(s)->what, seen ? why : "NOTHING FAILS");
	}
	printf("%u left out in turn, %u not noticed\n", n, missed);
	return missed != 0 || n == 0;
}
