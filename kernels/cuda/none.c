/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The contract of cuda.h in a build without GPU kernels: each call says so.
 */
#include "base.h"
#include "kernels/cuda/cuda.h"

static int absent(void)
{
	return cx_fail(COLLX_ERR_UNSUPPORTED, "CUDA: this libcollx was built without GPU kernels; "
		       "build it where nvcc is");
}

int cx_cuda_built(void)
{
	return 0;
}

int cx_cuda_prepare(void *stream)
{
	(void)stream;
	return absent();
}

int cx_cuda_reach(const void *const *p, unsigned n, void *stream)
{
	(void)p;
	(void)n;
	(void)stream;
	return absent();
}

int cx_cuda_fold(void *dst, const void *const *in, unsigned count, size_t n, collx_type type,
		 collx_op op, uint32_t divisor, void *stream)
{
	(void)dst;
	(void)in;
	(void)count;
	(void)n;
	(void)type;
	(void)op;
	(void)divisor;
	(void)stream;
	return absent();
}

int cx_cuda_encode(enum cx_format format, collx_type type, void *wire, const void *src, size_t n,
		   const struct cx_rounding *r,
		     void *stream)
{
	(void)format;
	(void)type;
	(void)wire;
	(void)src;
	(void)n;
	(void)r;
	(void)stream;
	return absent();
}

int cx_cuda_decode(enum cx_format format, collx_type type, void *dst, const void *wire, size_t n,
		   void *stream)
{
	(void)format;
	(void)type;
	(void)dst;
	(void)wire;
	(void)n;
	(void)stream;
	return absent();
}

int cx_cuda_accumulate(enum cx_format format, float *dst, const void *wire, size_t n, void *stream)
{
	(void)format;
	(void)dst;
	(void)wire;
	(void)n;
	(void)stream;
	return absent();
}

int cx_cuda_feedback(enum cx_format format, collx_type type, void *wire, const void *gradient,
		     float *residual, size_t n, float decay, const struct cx_rounding *r,
		     void *stream)
{
	(void)format;
	(void)type;
	(void)wire;
	(void)gradient;
	(void)residual;
	(void)n;
	(void)decay;
	(void)r;
	(void)stream;
	return absent();
}

int cx_cuda_fuse(enum cx_format format, void *wire, const struct cx_fuse *f, size_t n, void *stream)
{
	(void)format;
	(void)wire;
	(void)f;
	(void)n;
	(void)stream;
	return absent();
}

int cx_cuda_sum(enum cx_format format, collx_type type, void *dst, const struct cx_fuse *f,
		size_t n, void *stream)
{
	(void)format;
	(void)type;
	(void)dst;
	(void)f;
	(void)n;
	(void)stream;
	return absent();
}

size_t cx_cuda_topk_work(size_t n, size_t k)
{
	(void)n;
	(void)k;
	return 0;
}

int cx_cuda_topk(const struct cx_cuda_topk *t, void *stream)
{
	(void)t;
	(void)stream;
	return absent();
}

size_t cx_cuda_sparse_work(size_t count)
{
	(void)count;
	return 0;
}

int cx_cuda_sparse_add(float *dst, size_t count, const void *msg, size_t len, void *work,
		       collx_topk_info *info, void *stream)
{
	(void)dst;
	(void)count;
	(void)msg;
	(void)len;
	(void)work;
	(void)info;
	(void)stream;
	return absent();
}

int cx_cuda_sparse_merge(void *msg, size_t room, collx_type type, const void *const *in,
			 const size_t *len, unsigned messages, size_t count, void *work,
			 collx_topk_info *info, void *stream)
{
	(void)msg;
	(void)room;
	(void)type;
	(void)in;
	(void)len;
	(void)messages;
	(void)count;
	(void)work;
	(void)info;
	(void)stream;
	return absent();
}
