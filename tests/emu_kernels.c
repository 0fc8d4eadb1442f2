/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <stdlib.h>

#include "codec_cases.h"
#include "gpu.h"
#include "gpu_codecs.h"

int main(int argc, char **argv)
{
	char why[CODEC_WHY];
	uint64_t cases = argc > 1 ? strtoull(argv[1], NULL, 0) : 100;
	int rc = gpu_open(why, sizeof(why));

	if (rc) {
		puts(why);
		return rc;
	}
	for (uint64_t i = 0; i < cases; i++) {
		gpu_seed(i);
		rc = codec_case(&gpu_codecs, codec_mix(i) % 1000000, why);
		if (gpu_wrong()) {
			printf("case %llu: %s\n", (unsigned long long)i, gpu_wrong());
			return 1;
		}
		if (rc) {
			printf("case %llu: %s\n", (unsigned long long)i, why);
			return 1;
		}
	}
	return 0;
}
