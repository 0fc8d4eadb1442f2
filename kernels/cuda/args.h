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
#include "kernels/cuda/cuda.h"
#include "kernels/kernel.h"

enum { CX_CUDA_BLOCK = 256, CX_CUDA_WARPS = CX_CUDA_BLOCK / 32 };
/* Shared memory: what a block shares to order its work, then what a kernel needs, then rooms of
 * warps whose tile is not whole or aligned. */
enum { CX_SHARED = 256, CX_ROOM = CX_TILE * 4 };

/* Group, image it is in, rows, columns. Rows are formats or types, columns float slots or
 * operations. */
#define CX_CUDA_GROUPS(F) \
	CX_CUDA_GROUPS_DENSE(F) CX_CUDA_GROUPS_TOPK(F) CX_CUDA_GROUPS_SPARSE(F)
#define CX_CUDA_GROUPS_DENSE(F) \
	F(encode, CODEC, CX_FORMATS, CX_FLOATS) F(decode, CODEC, CX_FORMATS, CX_FLOATS) \
	F(accumulate, CODEC, CX_FORMATS, 1) F(feedback, CODEC, CX_FORMATS, CX_FLOATS) \
	F(fuse, FUSE, CX_FORMATS, CX_FUSE_RESULTS) \
	F(fold, FOLD, COLLX_TYPE_COUNT, CX_FOLD_OPS)
#define CX_CUDA_GROUPS_TOPK(F) \
	F(select, TOPK, 2, CX_FLOATS) F(restore, TOPK, 1, 1) \
	F(count, TOPK, CX_DIGITS, CX_FLOATS) F(pick, TOPK, 1, 1) \
	F(starts, TOPK, 1, 1) F(emit, TOPK, 1, CX_FLOATS)
#define CX_CUDA_GROUPS_SPARSE(F) \
	F(check, SPARSE, 1, 1) F(add, SPARSE, 1, 1) F(merge, SPARSE, 1, CX_FLOATS)

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

/* ---- top-k: topk.cu ---- */

enum { CX_DIGITS = 3, CX_BINS = 2048 };
enum { CX_SELECT_TILE = CX_CUDA_WARPS * CX_TILE }; /* elements of a block of `select` */
enum { CX_PICK_TILE = CX_CUDA_WARPS * 256 };       /* candidates of a block of `pick` */
enum { CX_EMIT_TILE = CX_CUDA_WARPS };             /* chunks of a block of `emit` */

/* At the beginning of the work memory. All but the hint begins a call as 0. */
struct cx_topk_head {
	uint32_t hint;     /* a key that the k-th is probably not below; kept between calls */
	uint32_t ticket[4]; /* next tile: first and second select, pick, emit */
	uint32_t done[CX_DIGITS]; /* blocks that have counted the digit */
	uint32_t found;    /* candidates of the first pass, more than there is room for too */
	uint32_t chosen;   /* elements in the end */
	uint32_t key;      /* of the k-th: the digits found so far */
	uint32_t places;   /* of its equals that many are chosen */
	uint32_t fewer;    /* there are fewer than k */
	uint32_t pad;
	unsigned long long unfit;
};

struct cx_topk_args {
	const void *gradient;
	float *residual;
	size_t n, k, room;
	float decay;
	uint32_t floor;
	uint32_t *bits, *index;         /* candidates */
	uint32_t *final_bits, *final_index;
	struct cx_topk_head *head;
	uint32_t *bins;                 /* CX_DIGITS of CX_BINS */
	unsigned long long *states[4];  /* of the tiles, for each ticket */
	uint32_t *starts;               /* of each chunk in the final list, and the end */
	void *msg;
	collx_type type;                /* of the values */
	collx_topk_info *info;          /* or NULL */
	int aligned, residual_aligned;
};

/* ---- sparse messages: sparse.cu ---- */

struct cx_sparse_args {
	const void *in[CX_INPUTS];
	size_t len[CX_INPUTS];
	uint32_t messages;
	uint64_t count;
	void *out; /* add: floats; merge: a message */
	size_t room;
	collx_type type; /* of the merged values */
	struct cx_sparse_work *work;
	collx_topk_info *info; /* or NULL */
};

enum { CX_MERGE_SHARED = CX_SHARED + CX_CHUNK * 4 };

struct cx_sparse_work {
	uint32_t bad;    /* a message is none */
	int32_t status;  /* what check came to; nothing is done unless it is 0 */
	uint32_t done, ticket;
	unsigned long long entries[CX_INPUTS];
	/* merge: a state for each chunk follows */
};

#endif
