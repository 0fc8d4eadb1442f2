/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The reductions of a variant, written once, in the words of words.h. A variant's
 * file includes its words_NAME.h, defines KERNELS and KERNELS_NAME, the table and
 * its name, and includes this.
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

#include "kernels/words_bf16.h"

static struct divider divider_of(unsigned bits, uint32_t by)
{
	struct divider d = {0};

	divider_init(&d, bits, by);
	d.inverse = by & (by - 1) ? 0 : 1.0f / (float)by;
	return d;
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
		*(mem_short *)dst = narrow_f16(x);
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
		*(mem_short *)dst = narrow_bf16(x);
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
		d = divider_of((unsigned)acc * 8, divisor);
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

/* ---- several inputs ---- */

/*
 * Folds go by vectors of elements as they lie in memory. While they are added up,
 * short floats are two wide vectors, in an order of its own: CX_WIDE_A and _DST of
 * their steps.
 */
ALWAYS void combine_pair(vf32 x[2], const vf32 y[2], collx_op op, const struct divider *d)
{
	for (unsigned i = 0; i < 2; i++)
		x[i] = arith32(x[i], y[i], op, d);
}

ALWAYS void step_f16_pair(void *dst, const void *a, const void *b, collx_op op, unsigned wide,
			  const struct divider *d)
{
	vf32 x[2] = { 0 }, y[2] = { load_f16(b), load_f16((const char *)b + VEC / 2) };

	if (wide & CX_WIDE_A) {
		memcpy(x, a, sizeof(x));
	} else {
		x[0] = load_f16(a);
		x[1] = load_f16((const char *)a + VEC / 2);
	}
	combine_pair(x, y, op, d);
	if (wide & CX_WIDE_DST) /* else in one: who reads all of it would wait for two stores */
		memcpy(dst, x, sizeof(x));
	else
		*(mem *)dst = join_short(narrow_f16(x[0]), narrow_f16(x[1]));
}

ALWAYS void step_bf16_pair(void *dst, const void *a, const void *b, collx_op op, unsigned wide,
			   const struct divider *d)
{
	vf32 x[2], y[2];

	if (wide & CX_WIDE_A)
		memcpy(x, a, sizeof(x));
	else
		load_bf16_pair(x, a);
	load_bf16_pair(y, b);
	combine_pair(x, y, op, d);
	if (wide & CX_WIDE_DST)
		memcpy(dst, x, sizeof(x));
	else
		*(mem *)dst = (mem)narrow_bf16_pair(x);
}

/* What a fold does not know until it runs. */
struct fold {
	const char *const *in;
	unsigned count;
	struct divider divider;
};

ALWAYS struct fold fold_of(collx_op op, unsigned acc, const void *const *in, unsigned count,
			   uint32_t divisor)
{
	struct fold f = { (const char *const *)in, count, {0} };

	if (op == COLLX_AVG && divisor > 1)
		f.divider = divider_of(acc * 8, divisor);
	return f;
}

/* The vector that lies `at` bytes into the inputs. */
ALWAYS mem fold_vector(step_fn *step, collx_op op, bool wide, const struct fold *f, size_t at)
{
	const char *a = f->in[0] + at, *b = f->in[1] + at;
	const struct divider none = {0};
	mem sum[2], out;

	if (f->count == 2) {
		step(&out, a, b, op, 0, &f->divider);
		return out;
	}
	step(sum, a, b, op, wide ? CX_WIDE_DST : 0, &none);
	for (unsigned k = 2; k < f->count - 1; k++)
		step(sum, sum, f->in[k] + at, op, wide ? CX_WIDE_DST | CX_WIDE_A : 0, &none);
	step(&out, sum, f->in[f->count - 1] + at, op, wide ? CX_WIDE_A : 0, &f->divider);
	return out;
}

/* Fewer elements, the last ones, than a vector has: as a vector. */
static void fold_few(cx_fold_fn fold, size_t lanes, size_t size, char *dst, const char *const *in,
		     unsigned count, size_t i, size_t n, uint32_t divisor)
{
	const void *copies[CX_INPUTS] = {0};
	mem copy[CX_INPUTS], out;

	for (unsigned k = 0; k < count; k++) {
		copy[k] = (mem){0};
		memcpy(&copy[k], in[k] + i * size, (n - i) * size);
		copies[k] = &copy[k];
	}
	fold(&out, copies, count, lanes, divisor);
	memcpy(dst + i * size, &out, (n - i) * size);
}

static bool far_from(const char *dst, const char *const *in, unsigned count, size_t len)
{
	for (unsigned k = 0; k < count; k++)
		if (in[k] == dst)
			return false;
	return len >= CX_STREAM_BYTES && (uintptr_t)dst % VEC == 0;
}

/* Two inputs to a result in memory. For all the compiler knows f is stored to: what is needed of
 * it is copied. */
ALWAYS void stream_two(step_fn *step, collx_op op, char *dst, const struct fold *f, size_t end)
{
	const char *a = f->in[0], *b = f->in[1];
	const struct divider d = f->divider;

	for (size_t at = 0; at < end; at += VEC) {
		const mem x = load_far(a + at), y = load_far(b + at);
		mem out;

		step(&out, &x, &y, op, 0, &d);
		stream(dst + at, out);
	}
}

/* Four inputs, each read, and asked for if of short floats, by an instruction of its own: the
 * processor's own prefetching goes by these. Others, and two inputs, lose by requests (Zen 5). */
ALWAYS void stream_four(step_fn *step, collx_op op, bool wide, char *dst, const struct fold *f,
			size_t end)
{
	const char *in[4] = { f->in[0], f->in[1], f->in[2], f->in[3] };
	const struct fold four = { in, 4, f->divider };

	for (size_t at = 0; at < end; at += VEC) {
		for (unsigned k = 0; k < 4 && wide && at % 64 == 0; k++)
			look_ahead_streams(in[k] + at);
		stream(dst + at, fold_vector(step, op, wide, &four, at));
	}
}

ALWAYS void run_fold(cx_fold_fn self, step_fn *step, collx_op op, bool wide, size_t size,
		     char *dst, const struct fold *f, size_t n, uint32_t divisor)
{
	const size_t end = n * size / VEC * VEC, lanes = VEC / size;
	size_t at = 0;

	if (far_from(dst, f->in, f->count, n * size)) {
		if (f->count == 2) {
			stream_two(step, op, dst, f, end);
			at = end;
		} else if (f->count == 4) {
			stream_four(step, op, wide, dst, f, end);
			at = end;
		}
		for (; at < end; at += VEC)
			stream(dst + at, fold_vector(step, op, wide, f, at));
		stream_end();
	}
	for (; at < end; at += VEC)
		*(mem *)(dst + at) = fold_vector(step, op, wide, f, at);
	if (end < n * size)
		fold_few(self, lanes, size, dst, f->in, f->count, end / size, n, divisor);
}

#define REDUCE(fn, step, op, wide, size, acc) \
	static void fn(void *dst, const void *a, const void *b, size_t n, uint32_t divisor) \
	{ \
		run(step, op, wide, size, acc, dst, a, b, n, divisor); \
	}
#define FOLD(fn, step, op, wide, size, acc) \
	static void fn##_fold(void *dst, const void *const *in, unsigned count, size_t n, \
			      uint32_t divisor) \
	{ \
		const struct fold f = fold_of(op, acc, in, count, divisor); \
		run_fold(fn##_fold, step, op, wide, size, dst, &f, n, divisor); \
	}
#define REDUCE_OWN(fn, step, op, size) \
	REDUCE(fn, step, op, 0, size, size) FOLD(fn, step, op, false, size, size)
#define REDUCE_TYPE(t, step, size) \
	REDUCE_OWN(t##_sum, step, COLLX_SUM, size) \
	REDUCE_OWN(t##_prod, step, COLLX_PROD, size) \
	REDUCE_OWN(t##_max, step, COLLX_MAX, size) \
	REDUCE_OWN(t##_min, step, COLLX_MIN, size) \
	REDUCE_OWN(t##_avg, step, COLLX_AVG, size)
#define REDUCE_WIDTHS(fn, step, op) \
	REDUCE(fn##0, step, op, 0, 2, 4) REDUCE(fn##1, step, op, 1, 2, 4) \
	REDUCE(fn##2, step, op, 2, 2, 4) REDUCE(fn##3, step, op, 3, 2, 4) \
	REDUCE(fn##4, step, op, 4, 2, 4) REDUCE(fn##5, step, op, 5, 2, 4) \
	REDUCE(fn##6, step, op, 6, 2, 4) REDUCE(fn##7, step, op, 7, 2, 4)
#define REDUCE_WIDE(fn, t, op) \
	REDUCE_WIDTHS(fn, step_##t, op) FOLD(fn, step_##t##_pair, op, true, 2, 4)
#define REDUCE_SHORT(t) \
	REDUCE_WIDE(t##_sum, t, COLLX_SUM) \
	REDUCE_WIDE(t##_prod, t, COLLX_PROD) \
	REDUCE_OWN(t##_max, step_##t##_own, COLLX_MAX, 2) \
	REDUCE_OWN(t##_min, step_##t##_own, COLLX_MIN, 2) \
	REDUCE_WIDE(t##_avg, t, COLLX_AVG)

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

ALWAYS void narrow(vshort (*narrow_vector)(vf32 v), uint16_t (*one)(float f), char *dst,
		   const char *src, size_t n)
{
	size_t i;

	for (i = 0; i + VEC / 4 <= n; i += VEC / 4)
		*(mem_short *)(dst + i * 2) = narrow_vector((vf32)*(const mem *)(src + i * 4));
	for (; i < n; i++) {
		uint16_t h;
		float f;

		memcpy(&f, src + i * 4, 4);
		h = one(f);
		memcpy(dst + i * 2, &h, 2);
	}
}

static void array_from_f16(void *dst, const void *src, size_t n)
{
	widen(load_f16, cx_f16_to_f32, dst, src, n);
}

static void array_from_bf16(void *dst, const void *src, size_t n)
{
	widen(load_bf16, cx_bf16_to_f32, dst, src, n);
}

static void array_to_f16(void *dst, const void *src, size_t n)
{
	narrow(narrow_f16, cx_f16_from_f32, dst, src, n);
}

static void array_to_bf16(void *dst, const void *src, size_t n)
{
	narrow(narrow_bf16_any, cx_bf16_from_f32, dst, src, n);
}

#define TABLE_TYPE(t) {{t##_sum}, {t##_prod}, {t##_max}, {t##_min}, {t##_avg}}
#define TABLE_WIDTHS(fn) {fn##0, fn##1, fn##2, fn##3, fn##4, fn##5, fn##6, fn##7}
#define TABLE_SHORT(t) { \
	TABLE_WIDTHS(t##_sum), TABLE_WIDTHS(t##_prod), {t##_max}, {t##_min}, TABLE_WIDTHS(t##_avg) \
}

#define TABLE_FOLD(t) {t##_sum_fold, t##_prod_fold, t##_max_fold, t##_min_fold, t##_avg_fold}

const struct cx_kernels KERNELS = {
	.name = KERNELS_NAME,
	.usable = machine_usable,
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
	.fold = {
		[COLLX_INT8] = TABLE_FOLD(i8),
		[COLLX_UINT8] = TABLE_FOLD(u8),
		[COLLX_INT32] = TABLE_FOLD(i32),
		[COLLX_UINT32] = TABLE_FOLD(u32),
		[COLLX_INT64] = TABLE_FOLD(i64),
		[COLLX_UINT64] = TABLE_FOLD(u64),
		[COLLX_FLOAT16] = TABLE_FOLD(f16),
		[COLLX_FLOAT32] = TABLE_FOLD(f32),
		[COLLX_FLOAT64] = TABLE_FOLD(f64),
		[COLLX_BFLOAT16] = TABLE_FOLD(bf16),
	},
	.widen = {[COLLX_FLOAT16] = array_from_f16, [COLLX_BFLOAT16] = array_from_bf16},
	.narrow = {[COLLX_FLOAT16] = array_to_f16, [COLLX_BFLOAT16] = array_to_bf16},
};
