/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gpu_bench [MIB [ROUNDS [FILE]]]: perf_kernels_cuda alone, for tools/gpu-check.
 */
#include <stdlib.h>

#include "perf/perf_kernels_cuda.h"

int main(int argc, char **argv)
{
	uint64_t mib = argc > 1 ? strtoull(argv[1], NULL, 0) : 1024;
	unsigned rounds = argc > 2 ? (unsigned)atoi(argv[2]) : 5;
	FILE *json = argc > 3 ? fopen(argv[3], "w") : NULL;
	int rc = perf_kernels_cuda(mib << 20, rounds, json);

	if (json)
		fclose(json);
	return rc;
}
