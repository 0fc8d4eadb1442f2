/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collx-perf kernels --memory cuda, and tools/gpu-check.
 */
#ifndef PERF_KERNELS_CUDA_H
#define PERF_KERNELS_CUDA_H

#include <stdint.h>
#include <stdio.h>

/*
 * Times the kernels on the first GPU, over arrays of `bytes` (as floats), best of
 * `rounds`, each as a share of the bandwidth that a device-to-device copy of the same
 * round has. Prints a table, and to json, if not NULL, an object. 0; 77: no GPU; 2: failed.
 */
int perf_kernels_cuda(uint64_t bytes, unsigned rounds, FILE *json);

#endif
