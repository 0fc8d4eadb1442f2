/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Arithmetic. Every function of every variant this processor has is compared,
 * bit for bit, with a naive reference that works element by element in wider
 * types; so the variants are compared with each other too.
 */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <criterion/criterion.h>

#include "kernels/convert.h"
#include "kernels/kernel.h"

/* ---- the reference ---- */

/* A binary floating-point format. */
struct format {
	int mantissa; /* bits, without the hidden one */
	int exponent;
};

static const struct format formats[COLLX_TYPE_COUNT] = {
	[COLLX_FLOAT16] = {10, 5},
	[COLLX_BFLOAT16] = {7, 8},
	[COLLX_FLOAT32] = {23, 8},
	[COLLX_FLOAT64] = {52, 11},
};

static bool is_float(collx_type t)
{
	return formats[t].mantissa != 0;
}

static bool is_short(collx_type t)
{
	return t == COLLX_FLOAT16 || t == COLLX_BFLOAT16;
}

static bool is_signed(collx_type t)
{
	return t == COLLX_INT8 || t == COLLX_INT32 || t == COLLX_INT64;
}

static unsigned bits_of(collx_type t)
{
	return (unsigned)collx_type_size(t) * 8;
}

static uint64_t infinity_of(collx_type t)
{
	return ((UINT64_C(1) << formats[t].exponent) - 1) << formats[t].mantissa;
}

static uint64_t sign_of(collx_type t)
{
	return UINT64_C(1) << (bits_of(t) - 1);
}

static uint64_t quiet_of(collx_type t)
{
	return UINT64_C(1) << (formats[t].mantissa - 1);
}

static bool is_nan(collx_type t, uint64_t u)
{
	return (u & ~sign_of(t)) > infinity_of(t);
}

/* The value of a number that is not NaN. */
static double decode(collx_type t, uint64_t u)
{
	const struct format f = formats[t];
	int bias = (1 << (f.exponent - 1)) - 1;
	uint64_t fraction = u & ((UINT64_C(1) << f.mantissa) - 1);
	int e = (int)((u & infinity_of(t)) >> f.mantissa);
	double v;

	if ((u & ~sign_of(t)) == infinity_of(t))
		v = INFINITY;
	else if (e == 0)
		v = scalbn((double)fraction, 1 - bias - f.mantissa);
	else
		v = scalbn((double)(fraction | UINT64_C(1) << f.mantissa), e - bias - f.mantissa);
	return u & sign_of(t) ? -v : v;
}

/* The nearest number of that type, ties to even; NaN becomes the canonical one. */
static uint64_t encode(collx_type t, double v)
{
	const struct format f = formats[t];
	int low = 2 - (1 << (f.exponent - 1)), e;
	uint64_t u = infinity_of(t);

	if (isnan(v))
		return u | quiet_of(t);
	if (!isinf(v)) {
		e = v != 0 && ilogb(v) > low ? ilogb(v) : low;
		u = (uint64_t)nearbyint(scalbn(fabs(v), f.mantissa - e));
		u += (uint64_t)(e - low) << f.mantissa;
		u = u < infinity_of(t) ? u : infinity_of(t);
	}
	return signbit(v) ? u | sign_of(t) : u;
}

static uint64_t convert(collx_type to, collx_type from, uint64_t u)
{
	int up = formats[to].mantissa - formats[from].mantissa;
	uint64_t payload = u & ((UINT64_C(1) << formats[from].mantissa) - 1);

	if (to == from)
		return u;
	if (!is_nan(from, u))
		return encode(to, decode(from, u));
	payload = up > 0 ? payload << up : payload >> -up;
	if (!(from == COLLX_BFLOAT16 && up > 0))
		payload |= quiet_of(to);
	return (u & sign_of(from) ? sign_of(to) : 0) | infinity_of(to) | payload;
}

static uint64_t extreme_float(collx_type t, collx_op op, uint64_t x, uint64_t y)
{
	double vx, vy;
	bool below;

	if (is_nan(t, x) || is_nan(t, y))
		return (is_nan(t, x) ? x : y) | quiet_of(t);
	vx = decode(t, x);
	vy = decode(t, y);
	below = vx < vy || (vx == vy && signbit(vx));
	return below == (op == COLLX_MIN) ? x : y;
}

/* Both in t, which is FLOAT32 or FLOAT64. For FLOAT32 double has room for a single rounding. */
static uint64_t arith_float(collx_type t, collx_op op, uint64_t x, uint64_t y, uint32_t divisor)
{
	double by = t == COLLX_FLOAT32 ? (double)(float)divisor : (double)divisor;
	double vx = is_nan(t, x) ? (double)NAN : decode(t, x);
	double vy = is_nan(t, y) ? (double)NAN : decode(t, y);
	uint64_t u = encode(t, op == COLLX_PROD ? vx * vy : vx + vy);

	if (op != COLLX_AVG || divisor <= 1 || is_nan(t, u))
		return u;
	return encode(t, decode(t, u) / by);
}

static uint64_t reduce_int(collx_type t, collx_op op, uint64_t x, uint64_t y, uint32_t divisor)
{
	unsigned spare = 64 - bits_of(t);
	bool below = is_signed(t) ? (int64_t)x < (int64_t)y : x < y;

	if (op == COLLX_MIN || op == COLLX_MAX)
		return below == (op == COLLX_MIN) ? x : y;
	x = (op == COLLX_PROD ? x * y : x + y) << spare;
	if (!is_signed(t))
		return op == COLLX_AVG && divisor > 1 ? (x >> spare) / divisor : x >> spare;
	x = (uint64_t)((int64_t)x >> spare);
	return op == COLLX_AVG && divisor > 1 ? (uint64_t)((int64_t)x / divisor) : x;
}

/* Element i of an array, signed ones extended. */
static uint64_t get(const void *p, size_t i, collx_type t)
{
	size_t size = collx_type_size(t);
	unsigned spare = 64 - (unsigned)size * 8;
	uint64_t u = 0;

	for (size_t k = 0; k < size; k++) {
		uint64_t byte = ((const unsigned char *)p)[i * size + k];

		u |= byte << 8 * k;
	}
	return is_signed(t) ? (uint64_t)((int64_t)(u << spare) >> spare) : u;
}

static void put(void *p, size_t i, collx_type t, uint64_t u)
{
	size_t size = collx_type_size(t);

	for (size_t k = 0; k < size; k++)
		((unsigned char *)p)[i * size + k] = (unsigned char)(u >> 8 * k);
}

/* ---- what a function is called with ---- */

/* One entry of the tables. */
struct call {
	collx_type type;
	collx_op op;
	unsigned wide;
	collx_type dst, a, b; /* the types of the operands */
};

/* The n-th entry that must exist, or false when there are no more. */
static bool call_at(unsigned n, struct call *c)
{
	for (unsigned i = 0; i < COLLX_TYPE_COUNT * COLLX_OP_COUNT * CX_WIDTHS; i++) {
		collx_type type = (collx_type)(i / CX_WIDTHS / COLLX_OP_COUNT);
		collx_op op = (collx_op)(i / CX_WIDTHS % COLLX_OP_COUNT);
		collx_type acc = cx_acc_type(type, op);
		unsigned w = i % CX_WIDTHS;

		if ((w && acc == type) || n--)
			continue;
		*c = (struct call){type, op, w, w & CX_WIDE_DST ? acc : type,
				   w & CX_WIDE_A ? acc : type, w & CX_WIDE_B ? acc : type};
		return true;
	}
	return false;
}

static void expect(const struct call *c, void *dst, const void *a, const void *b, size_t n,
		   uint32_t divisor)
{
	collx_type acc = cx_acc_type(c->type, c->op);

	for (size_t i = 0; i < n; i++) {
		uint64_t x = get(a, i, c->a), y = get(b, i, c->b);

		if (is_float(c->type)) {
			x = convert(acc, c->a, x);
			y = convert(acc, c->b, y);
			if (c->op == COLLX_MIN || c->op == COLLX_MAX)
				x = extreme_float(acc, c->op, x, y);
			else
				x = convert(c->dst, acc, arith_float(acc, c->op, x, y, divisor));
		} else {
			x = reduce_int(c->type, c->op, x, y, divisor);
		}
		put(dst, i, c->dst, x);
	}
}

static uint64_t scramble(uint64_t x)
{
	x = (x + 1) * UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

enum { SPECIALS = 24 };

/* Numbers at which arithmetic goes wrong. */
static uint64_t special_float(collx_type t, unsigned i)
{
	uint64_t inf = infinity_of(t), quiet = quiet_of(t), one = inf >> 1 & inf;
	uint64_t smallest = UINT64_C(1) << formats[t].mantissa; /* normal number */
	const uint64_t u[SPECIALS / 2] = {
		0, 1, quiet, smallest - 1, smallest, one, one + 1, inf - 1, inf,
		inf + 1, inf | quiet, (inf | quiet >> 1) + 5,
	};

	return u[i % (SPECIALS / 2)] | (i < SPECIALS / 2 ? 0 : sign_of(t));
}

static uint64_t special_int(collx_type t, unsigned i)
{
	uint64_t top = sign_of(t);
	const uint64_t u[SPECIALS / 3] = {0, 1, 2, 7, top - 1, top - 2, top, top + 1};
	const uint64_t flip[3] = {0, ~UINT64_C(0), top};

	return u[i % (SPECIALS / 3)] ^ flip[i / (SPECIALS / 3)];
}

static uint64_t special(collx_type t, unsigned i)
{
	return is_float(t) ? special_float(t, i) : special_int(t, i);
}

/* Specials among numbers of all magnitudes, or close to each other. */
static uint64_t sample(collx_type t, uint64_t seed)
{
	uint64_t r = scramble(seed);

	if (r % 4 == 0)
		return special(t, (unsigned)(r >> 8) % SPECIALS);
	if (is_float(t) && r % 4 == 1)
		return encode(t, (double)(int64_t)(r << 20) * 0x1p-62);
	return r >> (64 - bits_of(t));
}

/* ---- the tests ---- */

Test(kernel, types)
{
	static const size_t sizes[COLLX_TYPE_COUNT] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2};

	for (int t = 0; t < COLLX_TYPE_COUNT; t++) {
		cr_assert_eq(collx_type_size((collx_type)t), sizes[t]);
		for (int op = 0; op < COLLX_OP_COUNT; op++) {
			bool own = !is_short((collx_type)t) || op == COLLX_MIN || op == COLLX_MAX;

			cr_assert_eq(cx_acc_type((collx_type)t, (collx_op)op),
				     own ? (collx_type)t : COLLX_FLOAT32);
		}
	}
	cr_assert_eq(collx_type_size(COLLX_TYPE_COUNT), 0);
	cr_assert_eq(collx_type_size((collx_type)-1), 0);
}

Test(kernel, every_entry_is_there_and_no_other)
{
	const struct cx_kernels *portable = cx_kernel_variants[0];
	unsigned present = 0, n;

	for (size_t v = 0; cx_kernel_variants[v]; v++) {
		const struct cx_kernels *k = cx_kernel_variants[v];
		const cx_reduce_fn *fn = &k->reduce[0][0][0];
		struct call c;

		for (n = 0; call_at(n, &c); n++) {
			cx_reduce_fn f = k->reduce[c.type][c.op][c.wide];

			cr_assert(f, "%s: type %d op %d width %u", k->name, c.type, c.op, c.wide);
			cr_assert(!v || f != portable->reduce[c.type][c.op][c.wide]);
		}
		for (size_t i = 0; i < sizeof(k->reduce) / sizeof(*fn); i++)
			present += fn[i] != NULL;
		cr_assert_eq(present, n * (v + 1));
		for (int i = 0; i < COLLX_TYPE_COUNT * COLLX_OP_COUNT; i++)
			cr_assert(k->fold[i / COLLX_OP_COUNT][i % COLLX_OP_COUNT]);
		for (int t = 0; t < COLLX_TYPE_COUNT; t++) {
			cr_assert_eq(k->widen[t] != NULL, is_short((collx_type)t));
			cr_assert_eq(k->narrow[t] != NULL, is_short((collx_type)t));
		}
	}
}

Test(kernel, pick)
{
	const struct cx_kernels *best = NULL;

	for (size_t v = 0; cx_kernel_variants[v]; v++) {
		const struct cx_kernels *k = cx_kernel_variants[v];

		cr_assert_eq(cx_kernels_pick(k->name), k->usable() ? k : NULL);
		best = k->usable() ? k : best;
	}
	cr_assert_eq(cx_kernels_pick(NULL), best);
	cr_assert_str_eq(cx_kernels_pick("portable")->name, "portable");
	cr_assert_eq(cx_kernels_pick("vector"), cx_kernels_pick("portable"));
	cr_assert_null(cx_kernels_pick("abacus"));
	cr_assert_null(cx_kernels_pick(""));
}

/* Does f give what the reference does, for all variants? */
static void compare(const struct call *c, const void *a, const void *b, size_t n, uint32_t divisor)
{
	static unsigned char want[65536 * 8], got[65536 * 8];
	size_t size = collx_type_size(c->dst);

	cr_assert_leq(n, sizeof(want) / 8);
	expect(c, want, a, b, n, divisor);
	for (size_t v = 0; cx_kernel_variants[v]; v++) {
		const struct cx_kernels *k = cx_kernel_variants[v];

		if (!k->usable())
			continue;
		k->reduce[c->type][c->op][c->wide](got, a, b, n, divisor);
		for (size_t i = 0; i < n; i++)
			cr_assert(!memcmp(got + i * size, want + i * size, size),
				  "%s: type %d op %d width %u divisor %u: %llx, %llx give %llx "
				  "instead of %llx", k->name, c->type, c->op, c->wide, divisor,
				  (unsigned long long)get(a, i, c->a),
				  (unsigned long long)get(b, i, c->b),
				  (unsigned long long)get(got, i, c->dst),
				  (unsigned long long)get(want, i, c->dst));
	}
}

Test(kernel, special_values_meet_each_other)
{
	unsigned char a[SPECIALS * SPECIALS * 8], b[sizeof(a)];
	struct call c;

	for (unsigned n = 0; call_at(n, &c); n++) {
		for (unsigned i = 0; i < SPECIALS * SPECIALS; i++) {
			put(a, i, c.a, special(c.a, i / SPECIALS));
			put(b, i, c.b, special(c.b, i % SPECIALS));
		}
		compare(&c, a, b, SPECIALS * SPECIALS, 3);
	}
}

Test(kernel, every_short_value)
{
	static unsigned char a[65536 * 4], b[65536 * 4];
	struct call c;

	for (unsigned n = 0; call_at(n, &c); n++) {
		if (!is_short(c.type))
			continue;
		for (unsigned i = 0; i < 65536; i++) {
			put(a, i, c.a, c.a == COLLX_FLOAT32 ? sample(c.a, i) : i);
			put(b, i, c.b, c.b == COLLX_FLOAT32 ? sample(c.b, ~i) : i * 40503);
		}
		compare(&c, a, b, 65536, 5);
	}
}

Test(kernel, averages)
{
	static const uint32_t divisors[] = {
		0, 1, 2, 3, 4, 5, 6, 7, 10, 64, 100, 127, 128, 129, 255, 256, 257, 641, 65535,
		65536, 65537, 131072, 16777217, 0x7fffffff, 0x80000000, 0x80000001, 0xffffffff,
	};
	static unsigned char a[8192 * 8], b[8192 * 8];
	struct call c;

	for (unsigned n = 0; call_at(n, &c); n++) {
		if (c.op != COLLX_AVG)
			continue;
		for (size_t k = 0; k < sizeof(divisors) / sizeof(*divisors); k++) {
			for (unsigned i = 0; i < 1024; i++) {
				put(a, i, c.a, sample(c.a, i + k * 1024));
				put(b, i, c.b, sample(c.b, ~(i + k * 1024)));
			}
			compare(&c, a, b, 1024, divisors[k]);
		}
	}
}

enum { LENGTH = 257, ROOM = LENGTH * 8 + 64 };

/* One call with operands at the given offsets; where: 0 apart, 1 dst is a, 2 dst is b. */
static bool call_placed(cx_reduce_fn f, const struct call *c, const void *a, const void *b,
			const void *want, size_t n, const unsigned char *at, int where)
{
	static unsigned char room[3][ROOM];
	size_t size = collx_type_size(c->dst), wrong = 0;
	unsigned char *pa = room[1] + at[1], *pb = room[2] + at[2], *dst = room[0] + at[0];

	memset(room, 0xa5, sizeof(room));
	memcpy(pa, a, n * collx_type_size(c->a));
	memcpy(pb, b, n * collx_type_size(c->b));
	dst = where == 1 ? pa : where == 2 ? pb : dst;
	f(dst, pa, pb, n, 7);
	for (size_t i = 1; i <= 8; i++)
		wrong += dst[-(ptrdiff_t)i] != 0xa5;
	for (size_t i = 0; i < 32; i++)
		wrong += dst[n * size + i] != 0xa5;
	return !wrong && !memcmp(dst, want, n * size);
}

Test(kernel, any_length_place_and_overlap)
{
	static const unsigned char at[][3] = {
		{16, 16, 16}, {17, 19, 16}, {9, 10, 13}, {16, 24, 20}, {28, 18, 31},
	};
	unsigned char a[LENGTH * 8], b[LENGTH * 8], want[LENGTH * 8];
	struct call c;

	for (unsigned n = 0; call_at(n, &c); n++) {
		for (unsigned i = 0; i < LENGTH; i++) {
			put(a, i, c.a, sample(c.a, i + n * 1000));
			put(b, i, c.b, sample(c.b, ~(i + n * 1000)));
		}
		expect(&c, want, a, b, LENGTH, 7);
		for (unsigned i = 0; i <= LENGTH * 5 * 3; i++) {
			size_t len = i / 3 / 5;
			int where = (int)i % 3;

			if ((where == 1 && c.dst != c.a) || (where == 2 && c.dst != c.b))
				continue;
			for (size_t v = 0; cx_kernel_variants[v]; v++) {
				const struct cx_kernels *k = cx_kernel_variants[v];
				cx_reduce_fn f = k->reduce[c.type][c.op][c.wide];

				cr_assert(!k->usable() || call_placed(f, &c, a, b, want, len,
								      at[i / 3 % 5], where),
					  "%s: type %d op %d width %u length %zu at %u alias %d",
					  k->name, c.type, c.op, c.wide, len, i / 3 % 5, where);
			}
		}
	}
}

Test(kernel, nothing_from_nowhere)
{
	struct call c;

	for (unsigned n = 0; call_at(n, &c); n++)
		for (size_t v = 0; cx_kernel_variants[v]; v++)
			if (cx_kernel_variants[v]->usable())
				cx_kernel_variants[v]->reduce[c.type][c.op][c.wide](NULL, NULL,
										    NULL, 0, 2);
}

/* ---- conversions ---- */

/* n elements from one type to the other, at odd places, beside the reference. */
static void compare_convert(cx_convert_fn f, const char *name, collx_type to, collx_type from,
			    const void *src, size_t n)
{
	static unsigned char in[65536 * 4 + 8], out[65536 * 4 + 8];
	size_t size = collx_type_size(to);

	memcpy(in + 1, src, n * collx_type_size(from));
	memset(out, 0xa5, sizeof(out));
	f(out + 3, in + 1, n);
	for (size_t i = 0; i < n; i++) {
		uint64_t u = get(src, i, from);

		cr_assert_eq(get(out + 3, i, to), convert(to, from, u), "%s: %llx to type %d",
			     name, (unsigned long long)u, to);
	}
	cr_assert(out[2] == 0xa5 && out[3 + n * size] == 0xa5);
}

static void compare_both_ways(collx_type t, const void *shorts, const void *floats, size_t n)
{
	for (size_t v = 0; cx_kernel_variants[v]; v++) {
		const struct cx_kernels *k = cx_kernel_variants[v];

		if (!k->usable())
			continue;
		compare_convert(k->widen[t], k->name, COLLX_FLOAT32, t, shorts, n);
		compare_convert(k->narrow[t], k->name, t, COLLX_FLOAT32, floats, n);
	}
}

/* Every short value widened; narrowed what lies between it and the next, and beside. */
Test(kernel, conversions)
{
	static uint16_t shorts[65536], back[65536];
	static uint32_t floats[65536];

	for (int t = COLLX_FLOAT16; t <= COLLX_BFLOAT16; t += COLLX_BFLOAT16 - COLLX_FLOAT16) {
		uint32_t half = UINT32_C(1) << (22 - formats[t].mantissa);
		const uint32_t beside[] = {0, 1, half - 1, half, half + 1, 2 * half - 1, half / 2};

		for (unsigned i = 0; i < 65536; i++)
			shorts[i] = (uint16_t)i;
		for (size_t k = 0; k < sizeof(beside) / sizeof(*beside); k++) {
			for (unsigned i = 0; i < 65536; i++)
				floats[i] = (uint32_t)convert(COLLX_FLOAT32, (collx_type)t, i) +
					    beside[k];
			compare_both_ways((collx_type)t, shorts, floats, 65536);
		}
		for (unsigned i = 0; i < 65536; i++)
			floats[i] = (uint32_t)scramble(i);
		for (size_t n = 0; n < 40; n++)
			compare_both_ways((collx_type)t, shorts + n * 1600, floats + n * 1600, n);
		compare_both_ways((collx_type)t, shorts, floats, 65536);

		cx_kernels_pick(NULL)->widen[t](floats, shorts, 65536);
		cx_kernels_pick(NULL)->narrow[t](back, floats, 65536);
		for (unsigned i = 0; i < 65536; i++)
			cr_assert_eq(back[i], is_nan((collx_type)t, i) ?
				     (i | quiet_of((collx_type)t)) : i);
	}
}

Test(kernel, one_element_conversions)
{
	/* Subnormals of FLOAT16 lie coarser among floats than its normals: every 2^12th float
	 * and its neighbours meet all ties. */
	for (uint64_t u = 0; u <= UINT32_MAX; u += 0x1000) {
		for (uint32_t k = 0; k < 3; k++) {
			uint32_t bits = (uint32_t)u + k - 1;
			float f = cx_float_from_bits(bits);

			cr_assert_eq(cx_f16_from_f32(f),
				     convert(COLLX_FLOAT16, COLLX_FLOAT32, bits), "%x", bits);
			cr_assert_eq(cx_bf16_from_f32(f),
				     convert(COLLX_BFLOAT16, COLLX_FLOAT32, bits), "%x", bits);
		}
	}
	for (unsigned i = 0; i < 65536; i++) {
		cr_assert_eq(cx_float_bits(cx_f16_to_f32((uint16_t)i)),
			     convert(COLLX_FLOAT32, COLLX_FLOAT16, i));
		cr_assert_eq(cx_float_bits(cx_bf16_to_f32((uint16_t)i)),
			     convert(COLLX_FLOAT32, COLLX_BFLOAT16, i));
	}
}

/* ---- the promises of kernel.h, spelled out ---- */

static uint64_t one(collx_type t, collx_op op, uint64_t x, uint64_t y, uint32_t divisor)
{
	uint64_t a, b, dst;

	put(&a, 0, t, x);
	put(&b, 0, t, y);
	cx_kernels_pick(NULL)->reduce[t][op][0](&dst, &a, &b, 1, divisor);
	return get(&dst, 0, t);
}

Test(kernel, integers_wrap_and_averages_truncate)
{
	cr_assert_eq((int64_t)one(COLLX_INT8, COLLX_SUM, 127, 1, 1), -128);
	cr_assert_eq((int64_t)one(COLLX_INT32, COLLX_SUM, INT32_MAX, 1, 1), INT32_MIN);
	cr_assert_eq((int64_t)one(COLLX_INT64, COLLX_PROD, (uint64_t)INT64_MIN, ~UINT64_C(0), 1),
		     INT64_MIN);
	cr_assert_eq(one(COLLX_UINT8, COLLX_SUM, 200, 100, 1), 44);
	cr_assert_eq((int64_t)one(COLLX_INT32, COLLX_AVG, (uint64_t)-3, (uint64_t)-4, 2), -3);
	cr_assert_eq((int64_t)one(COLLX_INT8, COLLX_AVG, 127, 1, 2), -64);
	cr_assert_eq((int64_t)one(COLLX_INT8, COLLX_AVG, (uint64_t)-100, 0, 300), 0);
	cr_assert_eq((int64_t)one(COLLX_INT64, COLLX_AVG, (uint64_t)INT64_MIN, 0, 3),
		     INT64_MIN / 3);
	cr_assert_eq(one(COLLX_UINT32, COLLX_AVG, UINT32_MAX, 0, UINT32_MAX), 1);
	cr_assert_eq(one(COLLX_UINT8, COLLX_AVG, 200, 100, 0), 44);
	cr_assert_eq(one(COLLX_UINT8, COLLX_SUM, 1, 2, 3), 3);
}

Test(kernel, nan_and_zero)
{
	cr_assert_eq(one(COLLX_FLOAT32, COLLX_SUM, 0xffc12345, 0x7f800001, 1), 0x7fc00000);
	cr_assert_eq(one(COLLX_FLOAT32, COLLX_SUM, 0x7f800000, 0xff800000, 1), 0x7fc00000);
	cr_assert_eq(one(COLLX_FLOAT64, COLLX_PROD, 0, UINT64_C(0xfff0) << 48, 1),
		     UINT64_C(0x7ff8) << 48);
	cr_assert_eq(one(COLLX_FLOAT16, COLLX_SUM, 0xfd23, 0, 1), 0x7e00);
	cr_assert_eq(one(COLLX_BFLOAT16, COLLX_AVG, 0xff81, 0, 2), 0x7fc0);
	cr_assert_eq(one(COLLX_FLOAT32, COLLX_MIN, 0xff812345, 0x7fc00001, 1), 0xffc12345);
	cr_assert_eq(one(COLLX_FLOAT16, COLLX_MAX, 0x3c00, 0x7c01, 1), 0x7e01);
	cr_assert_eq(one(COLLX_FLOAT32, COLLX_MIN, 0, 0x80000000, 1), 0x80000000);
	cr_assert_eq(one(COLLX_BFLOAT16, COLLX_MAX, 0x8000, 0, 1), 0);
	cr_assert_eq(one(COLLX_FLOAT32, COLLX_SUM, 0x80000000, 0x80000000, 1), 0x80000000);
}

Test(kernel, short_floats_are_summed_as_floats)
{
	/* 65504 + 65504 is no FLOAT16, its half is; 2048 + 1 is a tie, to even. */
	cr_assert_eq(one(COLLX_FLOAT16, COLLX_SUM, 0x7bff, 0x7bff, 1), 0x7c00);
	cr_assert_eq(one(COLLX_FLOAT16, COLLX_AVG, 0x7bff, 0x7bff, 2), 0x7bff);
	cr_assert_eq(one(COLLX_FLOAT16, COLLX_SUM, 0x6800, 0x3c00, 1), 0x6800);
	cr_assert_eq(one(COLLX_FLOAT16, COLLX_SUM, 0x6801, 0x3c00, 1), 0x6802);
}

/* ---- many inputs in one pass ---- */

enum { FOLD = 300, FOLD_ROOM = FOLD * 8 + 64 };

/* The same, one input after the other, partial results in the accumulation type. */
static void fold_slowly(collx_type t, collx_op op, void *dst, unsigned char in[][FOLD_ROOM],
			const size_t *off, unsigned count, size_t n, uint32_t divisor)
{
	static unsigned char part[FOLD * 8];
	const struct cx_kernels *k = cx_kernel_variants[0];
	unsigned wide = cx_acc_type(t, op) != t ? CX_WIDE_DST | CX_WIDE_A : 0;

	if (count == 2) {
		k->reduce[t][op][0](dst, in[0] + off[0], in[1] + off[1], n, divisor);
		return;
	}
	k->reduce[t][op][wide & CX_WIDE_DST](part, in[0] + off[0], in[1] + off[1], n, 1);
	for (unsigned i = 2; i + 1 < count; i++)
		k->reduce[t][op][wide](part, part, in[i] + off[i], n, 1);
	k->reduce[t][op][wide & CX_WIDE_A](dst, part, in[count - 1] + off[count - 1], n, divisor);
}

/* place: the number of the input that is the output too, or count. */
static void check_fold(const struct cx_kernels *k, collx_type t, collx_op op, uint64_t seed)
{
	static unsigned char in[CX_INPUTS][FOLD_ROOM], out[FOLD_ROOM], right[FOLD * 8];
	size_t off[CX_INPUTS], n = scramble(seed) % FOLD, size = collx_type_size(t);
	unsigned count = 2 + (unsigned)(scramble(seed + 1) % (CX_INPUTS - 1));
	unsigned place = (unsigned)(scramble(seed + 2) % (count + 1));
	uint32_t divisor = seed % 3 ? count : (uint32_t)scramble(seed + 3);
	const void *all[CX_INPUTS];
	unsigned char *dst;

	for (unsigned i = 0; i < count; i++) {
		off[i] = scramble(seed + 8 + i) % 3 ? scramble(seed + 40 + i) % 64 : 0;
		all[i] = in[i] + off[i];
		for (size_t e = 0; e < n; e++)
			put(in[i] + off[i], e, t, sample(t, seed * 7919 + i * 512 + e));
	}
	fold_slowly(t, op, right, in, off, count, n, divisor);
	dst = place < count ? in[place] + off[place] : out + seed % 64;
	memset(out, 0xa5, sizeof(out));
	k->fold[t][op](dst, all, count, n, divisor);
	cr_assert(!memcmp(dst, right, n * size), "%s: type %d, op %d, %u inputs, %zu elements",
		  k->name, t, op, count, n);
	if (place == count)
		for (size_t e = 0; e < FOLD_ROOM; e++)
			cr_assert(out[e] == 0xa5 || (e >= seed % 64 && e < seed % 64 + n * size));
}

Test(kernel, fold_is_reduce_after_reduce)
{
	for (size_t v = 0; cx_kernel_variants[v]; v++) {
		if (!cx_kernel_variants[v]->usable())
			continue;
		for (uint64_t i = 0; i < 120 * COLLX_TYPE_COUNT * COLLX_OP_COUNT; i++)
			check_fold(cx_kernel_variants[v],
				   (collx_type)(i % COLLX_TYPE_COUNT),
				   (collx_op)(i / COLLX_TYPE_COUNT % COLLX_OP_COUNT), i);
	}
}

/* So large a result is written around the caches. */
enum { LARGE = 9 << 20, LARGE_INPUTS = 5 };

static void check_large_fold(const struct cx_kernels *k, collx_type type, const void *const *in,
			     unsigned inputs, unsigned char *out, unsigned char *right)
{
	const size_t size = collx_type_size(type), len = (LARGE - 30) / size * size;

	memset(out, 0xa5, LARGE + 64);
	cx_kernel_variants[0]->fold[type][COLLX_SUM](right, in, inputs, len / size, 1);
	k->fold[type][COLLX_SUM](out, in, inputs, len / size, 1);
	cr_assert(!memcmp(out, right, len), "%s: type %d, %u inputs", k->name, type, inputs);
	for (size_t e = len; e < LARGE + 64; e++)
		cr_assert_eq(out[e], 0xa5);
}

Test(kernel, large_folds)
{
	static const collx_type types[] = { COLLX_BFLOAT16, COLLX_UINT8, COLLX_FLOAT32 };
	unsigned char *in[LARGE_INPUTS], *out = aligned_alloc(64, LARGE + 64);
	unsigned char *right = malloc(LARGE + 64);

	for (unsigned i = 0; i < LARGE_INPUTS; i++) {
		in[i] = malloc(LARGE);
		for (size_t e = 0; e < LARGE / 2; e++)
			put(in[i], e, COLLX_BFLOAT16, scramble(e * 5 + i) & 0xbfff);
	}
	for (size_t v = 1; cx_kernel_variants[v]; v++)
		for (unsigned i = 2; i <= LARGE_INPUTS && cx_kernel_variants[v]->usable(); i++)
			for (unsigned t = 0; t < 3; t++)
				check_large_fold(cx_kernel_variants[v], types[t],
						 (const void *const *)in, i, out, right);
	free(out);
	free(right);
	for (unsigned i = 0; i < LARGE_INPUTS; i++)
		free(in[i]);
}
