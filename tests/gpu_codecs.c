/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>

#include "base.h"
#include "gpu.h"
#include "gpu_codecs.h"
#include "kernels/cuda/cuda.h"

static int usable(void)
{
	return 1;
}

/* A copy on the device, as far from a multiple of 16 as the original. */
static void *there(const void *host, size_t len)
{
	return gpu_make(host, len, (uintptr_t)host % 16);
}

static void back(void *host, const void *device, size_t len)
{
	if (!gpu_wrong())
		gpu_take(host, device, len);
}

static void encode(enum cx_format f, collx_type t, void *wire, const void *src, size_t n,
		   const struct cx_rounding *r)
{
	size_t len = cx_wire_bytes(f, n);
	void *w = there(wire, len), *x = there(src, n * collx_type_size(t));

	GPU_LAUNCH(cx_cuda_encode(f, t, w, x, n, r, gpu_stream()));
	back(wire, w, len);
	gpu_reset();
}

static void decode(enum cx_format f, collx_type t, void *dst, const void *wire, size_t n)
{
	size_t len = n * collx_type_size(t);
	void *w = there(wire, cx_wire_bytes(f, n)), *y = there(dst, len);

	GPU_LAUNCH(cx_cuda_decode(f, t, y, w, n, gpu_stream()));
	back(dst, y, len);
	gpu_reset();
}

static void accumulate(enum cx_format f, float *dst, const void *wire, size_t n)
{
	void *w = there(wire, cx_wire_bytes(f, n)), *y = there(dst, n * 4);

	GPU_LAUNCH(cx_cuda_accumulate(f, y, w, n, gpu_stream()));
	back(dst, y, n * 4);
	gpu_reset();
}

static void feedback(enum cx_format f, collx_type t, void *wire, const void *gradient,
		     float *residual, size_t n, float decay, const struct cx_rounding *r)
{
	size_t len = cx_wire_bytes(f, n);
	void *w = there(wire, len), *g = there(gradient, n * collx_type_size(t));
	void *e = there(residual, n * 4);

	GPU_LAUNCH(cx_cuda_feedback(f, t, w, g, e, n, decay, r, gpu_stream()));
	back(wire, w, len);
	back(residual, e, n * 4);
	gpu_reset();
}

/* dst may be the own input: then it is one buffer there, too. */
static void fuse(enum cx_format f, int encoded, collx_type t, void *dst, const struct cx_fuse *u,
		 size_t n)
{
	size_t len = encoded ? cx_wire_bytes(f, n) : n * collx_type_size(t);
	const void *in[CX_INPUTS];
	struct cx_fuse v = *u;
	void *y = there(dst, len), *e = u->residual ? there(u->residual, n * 4) : NULL;

	for (unsigned i = 0; i < u->count; i++) {
		size_t size = i == u->own ? n * collx_type_size(u->own_type) : cx_wire_bytes(f, n);

		in[i] = u->inputs[i] == dst ? y : there(u->inputs[i], size);
	}
	v.inputs = in;
	v.residual = e;
	GPU_LAUNCH(encoded ? cx_cuda_fuse(f, y, &v, n, gpu_stream()) :
			     cx_cuda_sum(f, t, y, &v, n, gpu_stream()));
	back(dst, y, len);
	if (encoded && e)
		back(u->residual, e, n * 4);
	gpu_reset();
}

static void fold(collx_type t, collx_op op, void *dst, const void *const *in, unsigned count,
		 size_t n, uint32_t divisor)
{
	size_t len = n * collx_type_size(t);
	const void *x[CX_INPUTS];
	void *y = there(dst, len);

	for (unsigned i = 0; i < count; i++)
		x[i] = in[i] == dst ? y : there(in[i], len);
	GPU_LAUNCH(cx_cuda_fold(y, x, count, n, t, op, divisor, gpu_stream()));
	back(dst, y, len);
	gpu_reset();
}

#define OF_TYPE(f, t) \
	static void encode_##f##_##t(void *w, const void *x, size_t n, \
				     const struct cx_rounding *r) { encode(f, t, w, x, n, r); } \
	static void decode_##f##_##t(void *y, const void *w, size_t n) { decode(f, t, y, w, n); } \
	static void feedback_##f##_##t(void *w, const void *g, float *e, size_t n, float decay, \
		const struct cx_rounding *r) { feedback(f, t, w, g, e, n, decay, r); }
#define SUM(f, t) \
	static void sum_##f##_##t(void *y, const struct cx_fuse *u, size_t n) \
		{ fuse(f, 0, t, y, u, n); }
#define OF_FORMAT(f) \
	OF_TYPE(f, COLLX_FLOAT32) OF_TYPE(f, COLLX_FLOAT16) OF_TYPE(f, COLLX_BFLOAT16) \
	SUM(f, COLLX_FLOAT32) SUM(f, COLLX_FLOAT16) SUM(f, COLLX_BFLOAT16) \
	static void accumulate_##f(float *y, const void *w, size_t n) { accumulate(f, y, w, n); } \
	static void fuse_##f(void *y, const struct cx_fuse *u, size_t n) \
		{ fuse(f, 1, COLLX_FLOAT32, y, u, n); }
OF_FORMAT(CX_Q8)
OF_FORMAT(CX_Q4)
OF_FORMAT(CX_BF16)

#define TYPES(what, f) \
	[f] = {what##_##f##_COLLX_FLOAT32, what##_##f##_COLLX_FLOAT16, what##_##f##_COLLX_BFLOAT16}
#define FORMATS(what) {TYPES(what, CX_Q8), TYPES(what, CX_Q4), TYPES(what, CX_BF16)}
#define ALONE(what) \
	{[CX_Q8] = what##_CX_Q8, [CX_Q4] = what##_CX_Q4, [CX_BF16] = what##_CX_BF16}

const struct cx_codecs gpu_codecs = {
	.name = "cuda",
	.usable = usable,
	.encode = FORMATS(encode),
	.decode = FORMATS(decode),
	.accumulate = ALONE(accumulate),
	.feedback = FORMATS(feedback),
	.fuse = ALONE(fuse),
	.sum = FORMATS(sum),
};

#define FOLD(t, op) \
	static void fold_##t##_##op(void *y, const void *const *x, unsigned count, size_t n, \
				    uint32_t by) { fold(t, op, y, x, count, n, by); }
#define FOLDS(t) \
	FOLD(t, COLLX_SUM) FOLD(t, COLLX_PROD) FOLD(t, COLLX_MAX) FOLD(t, COLLX_MIN) \
	FOLD(t, COLLX_AVG)
FOLDS(COLLX_INT8)
FOLDS(COLLX_UINT8)
FOLDS(COLLX_INT32)
FOLDS(COLLX_UINT32)
FOLDS(COLLX_INT64)
FOLDS(COLLX_UINT64)
FOLDS(COLLX_FLOAT16)
FOLDS(COLLX_FLOAT32)
FOLDS(COLLX_FLOAT64)
FOLDS(COLLX_BFLOAT16)

#define TABLE(t) \
	[t] = {fold_##t##_COLLX_SUM, fold_##t##_COLLX_PROD, fold_##t##_COLLX_MAX, \
	       fold_##t##_COLLX_MIN, fold_##t##_COLLX_AVG}
const struct cx_kernels gpu_kernels = {
	.name = "cuda",
	.usable = usable,
	.fold = {
		TABLE(COLLX_INT8), TABLE(COLLX_UINT8), TABLE(COLLX_INT32), TABLE(COLLX_UINT32),
		TABLE(COLLX_INT64), TABLE(COLLX_UINT64), TABLE(COLLX_FLOAT16),
		TABLE(COLLX_FLOAT32), TABLE(COLLX_FLOAT64), TABLE(COLLX_BFLOAT16),
	},
};
