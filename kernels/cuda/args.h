/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What host and device agree on: the kernels' names and arguments. A kernel is named
 * cx_k_GROUP_ROW_COLUMN and takes one structure by value. Compiles as C, C++ and CUDA.
 */
#ifndef CX_CUDA_ARGS_H
#define CX_CUDA_ARGS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/codec.h"
#include "kernels/kernel.h"

enum { CX_CUDA_BLOCK = 256, CX_CUDA_WARPS = CX_CUDA_BLOCK / 32 };
enum { CX_ROOM = CX_TILE * 4 }; /* shared memory of a warp whose tile is not whole or aligned */

/* Group, image it is in, rows, columns. Rows are formats or types, columns float slots or
 * operations. */
#define CX_CUDA_GROUPS(F) \
	F(encode, CODEC, CX_FORMATS, CX_FLOATS) \
	F(decode, CODEC, CX_FORMATS, CX_FLOATS) \
	F(accumulate, CODEC, CX_FORMATS, 1) \
	F(feedback, CODEC, CX_FORMATS, CX_FLOATS) \
	F(fuse, FUSE, CX_FORMATS, CX_FUSE_RESULTS) \
	F(fold, FOLD, COLLX_TYPE_COUNT, CX_FOLD_OPS)

enum { CX_FUSE_RESULTS = CX_FLOATS + 1 }; /* an array of a type; last: encoded */
enum { CX_FOLD_OPS = COLLX_AVG }; /* an average is a sum with a divisor */

struct cx_encode_args { /* feedback, too */
	void *wire;
	const void *src;
	float *residual;
	size_t n;
	struct cx_rounding rounding;
	float decay;
	int aligned; /* every pointer to 16 bytes */
};

struct cx_decode_args { /* accumulate, too */
	void *dst;
	const void *wire;
	size_t n;
	int aligned;
};

struct cx_fuse_args {
	void *dst;
	const void *inputs[CX_INPUTS];
	float *residual;
	size_t n;
	struct cx_rounding rounding;
	float decay;
	uint32_t count, own, own_slot, divisor;
	int aligned;
};

struct cx_fold_args {
	void *dst;
	const void *in[CX_INPUTS];
	size_t n;
	uint32_t count, divisor; /* divisor 0 or 1: none */
	int aligned;
};

#endif
