/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The GPU's kernels behind the tables of the CPU's, so that the CPU's cases test them:
 * every call copies its buffers to the device, at the same alignment, and back.
 */
#ifndef GPU_CODECS_H
#define GPU_CODECS_H

#include "kernels/codec.h"
#include "kernels/kernel.h"

extern const struct cx_codecs gpu_codecs;
extern const struct cx_kernels gpu_kernels; /* folds alone */

/* Longest array of a call. */
enum { GPU_MOST = 1 << 22 };

#endif
