/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Cases for the GPU's kernels that codec_cases.h does not have: folds, top-k, sparse
 * messages, hostile ones too. Each is compared byte by byte with the CPU.
 */
#ifndef GPU_CASES_H
#define GPU_CASES_H

#include <stddef.h>
#include <stdint.h>

enum { GPU_WHY = 400 };

/* Case number i, of arrays of up to `most` elements. 0, or -1 and what differs in why; what
 * gpu_wrong says is for the caller to ask. */
typedef int gpu_case_fn(uint64_t i, size_t most, char why[GPU_WHY]);
gpu_case_fn gpu_fold_case;
gpu_case_fn gpu_topk_case;
gpu_case_fn gpu_sparse_case;

/* The public functions, once: gpu_api.c prints what is not so; gpu_capture.c. */
gpu_case_fn gpu_api_case;
gpu_case_fn gpu_capture_case;

#endif
