/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The arithmetic room on a GPU: what kernel.h, codec.h and layout.h define, over
 * device memory, with the same bytes as the CPU's variants. Contract.
 *
 * Every function launches on the caller's stream, a CUstream (or cudaStream_t) of
 * the context that the pointers belong to, and returns at once; it can be captured in
 * a CUDA graph. Nothing is allocated but once a context, at its first call, when the
 * kernels are loaded. Any alignment; 16 bytes for all pointers is fast. Results are 0
 * or negative with a recorded line; what was refused has launched nothing and touched
 * no buffer. Pointers are not checked: cx_cuda_memory and cx_cuda_reach do that.
 */
#ifndef CX_CUDA_H
#define CX_CUDA_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/codec.h"
#include "kernels/kernel.h"

/* "libcuda.so.1"; a test puts its double here before the first call. */
extern const char *cx_cuda_library;

/* 1 in a build with GPU kernels; else every function below is COLLX_ERR_UNSUPPORTED. */
int cx_cuda_built(void);

/*
 * The first of these that is memory which only a GPU can touch, where the processor would end
 * the program; or NULL. Never loads the driver: while nobody has, there is no such memory. Some
 * ns without a driver; with one it is asked, for each.
 */
const void *cx_cuda_memory(const void *const *p, int n);

/*
 * 0 when kernels on this stream may touch what these pointers lead to, NULL aside: memory
 * of a GPU, managed or pinned memory, or any where the GPU follows the host's page tables.
 * A kernel that touched other memory would end the process's use of the GPU. Memory of
 * another GPU passes: whether this one may reach it, the kernel finds out.
 */
int cx_cuda_reach(const void *const *p, unsigned n, void *stream);

/* Loads the kernels for the context of this stream, so that no later call does: some
 * milliseconds; with PTX alone for that GPU, seconds. */
int cx_cuda_prepare(void *stream);

/* As cx_fold_fn. */
int cx_cuda_fold(void *dst, const void *const *in, unsigned count, size_t n, collx_type type,
		 collx_op op, uint32_t divisor, void *stream);

/* As cx_encode_fn, cx_decode_fn, cx_accumulate_fn and cx_feedback_fn. */
int cx_cuda_encode(enum cx_format format, collx_type type, void *wire, const void *src, size_t n,
		   const struct cx_rounding *r, void *stream);
int cx_cuda_decode(enum cx_format format, collx_type type, void *dst, const void *wire, size_t n,
		   void *stream);
int cx_cuda_accumulate(enum cx_format format, float *dst, const void *wire, size_t n,
		       void *stream);
int cx_cuda_feedback(enum cx_format format, collx_type type, void *wire, const void *gradient,
		     float *residual, size_t n, float decay, const struct cx_rounding *r,
		     void *stream);

/* As cx_fuse_fn: the result encoded, and as an array of `type`. */
int cx_cuda_fuse(enum cx_format format, void *wire, const struct cx_fuse *f, size_t n,
		 void *stream);
int cx_cuda_sum(enum cx_format format, collx_type type, void *dst, const struct cx_fuse *f,
		size_t n, void *stream);

/*
 * As cx_topk followed by cx_sparse_write: the same message, the same residual. Everything
 * lies in device memory. The work memory keeps the last call's k-th key as a hint for the
 * next one; a graph's replays so have it, too. Without a good hint it takes twice as long.
 */
struct cx_cuda_topk {
	const void *gradient;
	collx_type type;
	float *residual;         /* NULL: none */
	float decay;
	size_t n, k;             /* n below 2^31 */
	uint32_t floor;          /* the smallest key to choose; at least 1 */
	uint32_t hint;           /* a key that the k-th is probably not below; 0: unknown */
	int keep;                /* in the place of hint: what the last call left in work */
	void *msg;               /* room for cx_sparse_bound(n, k, value_type) */
	collx_type value_type;
	collx_topk_info *info;   /* NULL: not wanted; all but its size is written */
	void *work;              /* cx_cuda_topk_work(n, k) bytes */
};
size_t cx_cuda_topk_work(size_t n, size_t k);
int cx_cuda_topk(const struct cx_cuda_topk *t, void *stream);

/*
 * Sparse messages as in topk.h, checked on the device first: what is none, COLLX_ERR_CORRUPT,
 * leaves the result untouched, as does a `room` below cx_sparse_bound of the entries of all,
 * at most count, COLLX_ERR_INVALID. *info, device memory or NULL, gets that status and the
 * length and entries of the message that was added or written, which are 0 where it was
 * refused. work has cx_cuda_sparse_work(count) bytes.
 */
size_t cx_cuda_sparse_work(size_t count);
int cx_cuda_sparse_add(float *dst, size_t count, const void *msg, size_t len, void *work,
		       collx_topk_info *info, void *stream);
/* count below 2^31. */
int cx_cuda_sparse_merge(void *msg, size_t room, collx_type type, const void *const *in,
			 const size_t *len, unsigned messages, size_t count, void *work,
			 collx_topk_info *info, void *stream);

#endif
