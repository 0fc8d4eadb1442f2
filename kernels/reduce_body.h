/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The arithmetic of a variant, written once. A variant file defines VEC, the
 * bytes of its vectors, includes reduce_vec.h, says what its processor does in
 * a way of its own, and includes this:
 *
 *   pick                                see PICK
 *   quotient8, quotient32, quotient64   unsigned division by a struct divider,
 *   divider_init                        prepared for lanes of so many bits
 *   load_short, store_short             VEC / 4 elements of 16 bits to and from 32
 *   load_f16, store_f16                 and from FLOAT16 to and from float
 *   KERNELS, KERNELS_NAME, kernels_usable   the table and its head
 *
 * From the inside out: reduce_int.h and reduce_float.h combine two vectors, a
 * step does that in memory, run does steps over an array, REDUCE makes a
 * function of run by giving it constants.
 */
#define CANONICAL32 0x7fc00000u
#define CANONICAL64 0x7ff8000000000000u

#define LANE 8
#include "kernels/reduce_int.h"
#define LANE 32
#include "kernels/reduce_int.h"
#define LANE 64
#include "kernels/reduce_int.h"
#define LANE 16
#include "kernels/reduce_float.h"
#define LANE 32
#include "kernels/reduce_float.h"
#define LANE 64
#include "kernels/reduce_float.h"

ALWAYS vf32 load_bf16(const void *p)
{
	return (vf32)(load_short(p) << 16);
}

/* For results of arith32: their only NaN survives the rounding. */
ALWAYS void store_bf16(void *p, vf32 v)
{
	vu32 u = (vu32)v;

	store_short(p, (u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

ALWAYS void store_bf16_any(void *p, vf32 v)
{
	vu32 u = (vu32)v;

	store_bf16(p, (vf32)PICK(v != v, (u | 0x00400000) & 0xffff0000, u));
}

typedef void step_fn(void *dst, const void *a, const void *b, collx_op op, unsigned wide,
		     const struct divider *d);

ALWAYS void step_f64(void *dst, const void *a, const void *b, collx_op op, unsigned wide,
		     const struct divider *d)
{
	mem x = *(const mem *)a, y = *(const mem *)b;

	(void)wide;
	if (op == COLLX_MIN || op == COLLX_MAX)
		x = (mem)extreme64((vi64)x, (vi64)y, op, 0x7ff0000000000000, 0x0008000000000000);
	else
		x = (mem)arith64((vf64)x, (vf64)y, op, d);
	*(mem *)dst = x;
}

ALWAYS void step_f32(void *dst, const void *a, const void *b, collx_op op, unsigned wide,
		     const struct divider *d)
{
	mem x = *(const mem *)a, y = *(const mem *)b;

	(void)wide;
	if (op == COLLX_MIN || op == COLLX_MAX)
		x = (mem)extreme32((vi32)x, (vi32)y, op, 0x7f800000, 0x00400000);
	else
		x = (mem)arith32((vf32)x, (vf32)y, op, d);
	*(mem *)dst = x;
}

ALWAYS void step_f16(void *dst, const void *a, const void *b, collx_op op, unsigned wide,
		     const struct divider *d)
{
	vf32 x = wide & CX_WIDE_A ? (vf32)*(const mem *)a : load_f16(a);
	vf32 y = wide & CX_WIDE_B ? (vf32)*(const mem *)b : load_f16(b);

	x = arith32(x, y, op, d);
	if (wide & CX_WIDE_DST)
		*(mem *)dst = (mem)x;
	else
		store_f16(dst, x);
}

ALWAYS void step_bf16(void *dst, const void *a, const void *b, collx_op op, unsigned wide,
		      const struct divider *d)
{
	vf32 x = wide & CX_WIDE_A ? (vf32)*(const mem *)a : load_bf16(a);
	vf32 y = wide & CX_WIDE_B ? (vf32)*(const mem *)b : load_bf16(b);

	x = arith32(x, y, op, d);
	if (wide & CX_WIDE_DST)
		*(mem *)dst = (mem)x;
	else
		store_bf16(dst, x);
}

/* The extremes of short floats need no float32. */
ALWAYS void step_f16_own(void *dst, const void *a, const void *b, collx_op op, unsigned wide,
			 const struct divider *d)
{
	(void)wide;
	(void)d;
	*(mem *)dst = (mem)extreme16((vi16)*(const mem *)a, (vi16)*(const mem *)b, op, 0x7c00,
				     0x0200);
}

ALWAYS void step_bf16_own(void *dst, const void *a, const void *b, collx_op op, unsigned wide,
			  const struct divider *d)
{
	(void)wide;
	(void)d;
	*(mem *)dst = (mem)extreme16((vi16)*(const mem *)a, (vi16)*(const mem *)b, op, 0x7f80,
				     0x0040);
}

/*
 * size is the bytes of an element, acc those of a wide one. What is left over
 * when all whole vectors are done is part of a last vector that overlaps them;
 * it is computed first, because dst may be a or b.
 */
ALWAYS void run(step_fn *step, collx_op op, unsigned wide, size_t size, size_t acc, char *dst,
		const char *a, const char *b, size_t n, uint32_t divisor)
{
	const size_t lanes = VEC / acc, sd = wide & CX_WIDE_DST ? acc : size;
	const size_t sa = wide & CX_WIDE_A ? acc : size, sb = wide & CX_WIDE_B ? acc : size;
	struct divider d = {0};
	mem last, x = {0}, y = {0};

	if (op == COLLX_AVG && divisor > 1)
		divider_init(&d, (unsigned)acc * 8, divisor);
	if (n == 0)
		return;
	if (n < lanes) {
		memcpy(&x, a, n * sa);
		memcpy(&y, b, n * sb);
		step(&last, &x, &y, op, wide, &d);
		memcpy(dst, &last, n * sd);
		return;
	}
	n -= lanes;
	step(&last, a + n * sa, b + n * sb, op, wide, &d);
	for (size_t i = 0; i < n; i += lanes)
		step(dst + i * sd, a + i * sa, b + i * sb, op, wide, &d);
	memcpy(dst + n * sd, &last, lanes * sd);
}

#define REDUCE(fn, step, op, wide, size, acc) \
	static void fn(void *dst, const void *a, const void *b, size_t n, uint32_t divisor) \
	{ \
		run(step, op, wide, size, acc, dst, a, b, n, divisor); \
	}
#define REDUCE_TYPE(t, step, size) \
	REDUCE(t##_sum, step, COLLX_SUM, 0, size, size) \
	REDUCE(t##_prod, step, COLLX_PROD, 0, size, size) \
	REDUCE(t##_max, step, COLLX_MAX, 0, size, size) \
	REDUCE(t##_min, step, COLLX_MIN, 0, size, size) \
	REDUCE(t##_avg, step, COLLX_AVG, 0, size, size)
#define REDUCE_WIDTHS(fn, step, op) \
	REDUCE(fn##0, step, op, 0, 2, 4) REDUCE(fn##1, step, op, 1, 2, 4) \
	REDUCE(fn##2, step, op, 2, 2, 4) REDUCE(fn##3, step, op, 3, 2, 4) \
	REDUCE(fn##4, step, op, 4, 2, 4) REDUCE(fn##5, step, op, 5, 2, 4) \
	REDUCE(fn##6, step, op, 6, 2, 4) REDUCE(fn##7, step, op, 7, 2, 4)
#define REDUCE_SHORT(t) \
	REDUCE_WIDTHS(t##_sum, step_##t, COLLX_SUM) \
	REDUCE_WIDTHS(t##_prod, step_##t, COLLX_PROD) \
	REDUCE(t##_max, step_##t##_own, COLLX_MAX, 0, 2, 2) \
	REDUCE(t##_min, step_##t##_own, COLLX_MIN, 0, 2, 2) \
	REDUCE_WIDTHS(t##_avg, step_##t, COLLX_AVG)

REDUCE_TYPE(i8, step_i8, 1)
REDUCE_TYPE(u8, step_u8, 1)
REDUCE_TYPE(i32, step_i32, 4)
REDUCE_TYPE(u32, step_u32, 4)
REDUCE_TYPE(i64, step_i64, 8)
REDUCE_TYPE(u64, step_u64, 8)
REDUCE_SHORT(f16)
REDUCE_TYPE(f32, step_f32, 4)
REDUCE_TYPE(f64, step_f64, 8)
REDUCE_SHORT(bf16)

ALWAYS void widen(vf32 (*load)(const void *p), float (*one)(uint16_t h), char *dst,
		  const char *src, size_t n)
{
	size_t i;

	for (i = 0; i + VEC / 4 <= n; i += VEC / 4)
		*(mem *)(dst + i * 4) = (mem)load(src + i * 2);
	for (; i < n; i++) {
		uint16_t h;
		float f;

		memcpy(&h, src + i * 2, 2);
		f = one(h);
		memcpy(dst + i * 4, &f, 4);
	}
}

ALWAYS void narrow(void (*store)(void *p, vf32 v), uint16_t (*one)(float f), char *dst,
		   const char *src, size_t n)
{
	size_t i;

	for (i = 0; i + VEC / 4 <= n; i += VEC / 4)
		store(dst + i * 2, (vf32)*(const mem *)(src + i * 4));
	for (; i < n; i++) {
		uint16_t h;
		float f;

		memcpy(&f, src + i * 4, 4);
		h = one(f);
		memcpy(dst + i * 2, &h, 2);
	}
}

static void widen_f16(void *dst, const void *src, size_t n)
{
	widen(load_f16, cx_f16_to_f32, dst, src, n);
}

static void widen_bf16(void *dst, const void *src, size_t n)
{
	widen(load_bf16, cx_bf16_to_f32, dst, src, n);
}

static void narrow_f16(void *dst, const void *src, size_t n)
{
	narrow(store_f16, cx_f16_from_f32, dst, src, n);
}

static void narrow_bf16(void *dst, const void *src, size_t n)
{
	narrow(store_bf16_any, cx_bf16_from_f32, dst, src, n);
}

#define TABLE_TYPE(t) {{t##_sum}, {t##_prod}, {t##_max}, {t##_min}, {t##_avg}}
#define TABLE_WIDTHS(fn) {fn##0, fn##1, fn##2, fn##3, fn##4, fn##5, fn##6, fn##7}
#define TABLE_SHORT(t) { \
	TABLE_WIDTHS(t##_sum), TABLE_WIDTHS(t##_prod), {t##_max}, {t##_min}, TABLE_WIDTHS(t##_avg) \
}

const struct cx_kernels KERNELS = {
	.name = KERNELS_NAME,
	.usable = kernels_usable,
	.reduce = {
		[COLLX_INT8] = TABLE_TYPE(i8),
		[COLLX_UINT8] = TABLE_TYPE(u8),
		[COLLX_INT32] = TABLE_TYPE(i32),
		[COLLX_UINT32] = TABLE_TYPE(u32),
		[COLLX_INT64] = TABLE_TYPE(i64),
		[COLLX_UINT64] = TABLE_TYPE(u64),
		[COLLX_FLOAT16] = TABLE_SHORT(f16),
		[COLLX_FLOAT32] = TABLE_TYPE(f32),
		[COLLX_FLOAT64] = TABLE_TYPE(f64),
		[COLLX_BFLOAT16] = TABLE_SHORT(bf16),
	},
	.widen = {[COLLX_FLOAT16] = widen_f16, [COLLX_BFLOAT16] = widen_bf16},
	.narrow = {[COLLX_FLOAT16] = narrow_f16, [COLLX_BFLOAT16] = narrow_bf16},
};
