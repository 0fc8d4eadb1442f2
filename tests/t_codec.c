/* SPDX-License-Identifier: BSD-3-Clause */
/* The codecs: every variant against the portable one, and that against doc/WIRE. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <criterion/criterion.h>

#include "base.h"
#include "codec_cases.h"
#include "collx.h"
#include "kernels/element.h"
#include "kernels/kernel.h"

/* ---- variants ---- */

static void compare_all(const struct cx_codecs *c)
{
	char why[CODEC_WHY];

	if (!c || !c->usable())
		return;
	for (uint64_t i = 0; i < CODEC_CASES; i++)
		cr_assert_eq(codec_case(c, i, why), 0, "case %llu: %s", (unsigned long long)i, why);
}

Test(codec, vector_is_portable, .timeout = 600)
{
	compare_all(cx_codec_variants[1]);
}

Test(codec, avx2_is_portable, .timeout = 600)
{
	compare_all(cx_codecs_pick("avx2"));
}

Test(codec, avx512_is_portable, .timeout = 600)
{
	compare_all(cx_codecs_pick("avx512"));
}

Test(codec, avx512bf16_is_portable, .timeout = 600)
{
	compare_all(cx_codecs_pick("avx512bf16"));
}

/* ---- sums whose scales are near each other, where shortcuts are taken ---- */

enum { NEAR_N = 3 * CX_TILE + 33, NEAR_LEN = NEAR_N * 2 };

/* A scale for a block: mostly within 2^spread above 2^(least - 127), at times anything else. */
static uint16_t near_scale(uint64_t r, unsigned least, unsigned spread)
{
	static const uint16_t odd[] = { 0, 0x8000, 1, 0x807f, 0x0080, 0x7fc0, 0x7f80, 0xff7f };

	if (spread > 3 && r % 997 == 0)
		return odd[r / 997 % 8];
	if (r % 41 == 0)
		return (uint16_t)(r / 41 % 2 << 15); /* 0 is near all */
	return (uint16_t)(((least + r / 64 % (spread + 1)) << 7 & 0x7f80) |
			  (r >> 40 & (r >> 60 & 1 ? 0 : 0x7f)) | (r >> 50 & 1) << 15);
}

/* An input of NEAR_N elements; few: quanta that are often the same but for their signs. Silent:
 * all are 0, so that of large scales nothing is left but what was not exact. */
static void near_input(unsigned char *wire, int f, uint64_t seed, unsigned least, unsigned spread,
		       int silent, int positive)
{
	static const unsigned char few[] = { 0x00, 0x88, 0x77, 0x98, 0x89, 0x97, 0x11, 0xff };
	const size_t len = cx_wire_bytes((enum cx_format)f, NEAR_N);

	for (size_t i = 0; i < len; i++) {
		uint64_t r = codec_mix(seed + i);

		wire[i] = silent ? 0 : seed % 5 ? (unsigned char)r : few[r % 8];
	}
	for (size_t at = 0; at < NEAR_N; at += CX_TILE) {
		size_t n = NEAR_N - at < CX_TILE ? NEAR_N - at : CX_TILE;
		unsigned char *s = wire + cx_wire_bytes((enum cx_format)f, at) +
				   cx_wire_scales((enum cx_format)f, n);

		for (size_t b = 0; b < (n + CX_BLOCK - 1) / CX_BLOCK; b++) {
			uint16_t h = near_scale(codec_mix(seed * 7 + at + b), least, spread);

			h &= positive ? 0x7fff : 0xffff;
			memcpy(s + b * 2, &h, 2);
		}
	}
}

/* The opposite of an input: a sum grows with half of the inputs and shrinks with the others. */
static void near_opposite(unsigned char *wire, const unsigned char *of, int f)
{
	memcpy(wire, of, cx_wire_bytes((enum cx_format)f, NEAR_N));
	for (size_t at = 0; at < NEAR_N; at += CX_TILE) {
		size_t n = NEAR_N - at < CX_TILE ? NEAR_N - at : CX_TILE;
		unsigned char *s = wire + cx_wire_bytes((enum cx_format)f, at) +
				   cx_wire_scales((enum cx_format)f, n);

		for (size_t b = 0; b < (n + CX_BLOCK - 1) / CX_BLOCK; b++)
			s[b * 2 + 1] ^= 0x80;
	}
}

/* Sums of `count` inputs by a variant and the portable one. */
static void check_near(const struct cx_codecs *c, int f, unsigned count, uint64_t seed)
{
	static const unsigned leasts[] = { 1, 26, 27, 28, 100, 127, 220, 223, 227, 249 };
	static unsigned char wires[CX_INPUTS][NEAR_LEN], mine[NEAR_LEN], right[NEAR_LEN];
	static const uint32_t divisors[] = { 1, 1, 2, 3, 4, 8, 16, 32 };
	const unsigned kind = seed % 3, least = leasts[seed % 10];
	const unsigned spread = (unsigned)(seed / 10 % 16);
	const unsigned half = (count - 1) / 2;
	const size_t len = cx_wire_bytes((enum cx_format)f, NEAR_N), off = seed % 5;
	const void *in[CX_INPUTS];
	struct cx_fuse u = { .inputs = in, .count = count, .own = count,
			     .divisor = divisors[codec_mix(seed) % 8] };

	for (unsigned k = 0; k < count; k++) {
		in[k] = wires[k] + (k + off) % 7;
		if (kind == 1 && k >= half && k < 2 * half)
			near_opposite(wires[k] + (k + off) % 7, in[k - half], f);
		else
			near_input(wires[k] + (k + off) % 7, f, seed * CX_INPUTS + k, least,
				   spread, kind == 2 && k + 1 < count, kind == 1);
	}
	memset(mine, 0x5a, sizeof(mine));
	memset(right, 0x5a, sizeof(right));
	cx_codec_variants[0]->fuse[f](right + off, &u, NEAR_N);
	c->fuse[f](mine + off, &u, NEAR_N);
	for (size_t i = 0; i < sizeof(mine); i++)
		cr_assert_eq(mine[i], right[i], "%s: format %d, %u inputs, seed %d: byte %zu of "
			     "%zu is %02x, not %02x", c->name, f, count, (int)seed, i - off, len,
			     mine[i], right[i]);
}

Test(codec, sums_of_near_scales, .timeout = 600)
{
	for (size_t v = 1; cx_codec_variants[v]; v++)
		for (uint64_t seed = 0; seed < 160 && cx_codec_variants[v]->usable(); seed++)
			for (unsigned count = 1; count <= CX_INPUTS; count++) {
				check_near(cx_codec_variants[v], CX_Q8, count, seed);
				check_near(cx_codec_variants[v], CX_Q4, count, seed);
			}
}

/* ---- by name ---- */

static int encode_by_name(const char *name)
{
	float x[100] = {1};
	unsigned char wire[256];

	setenv("COLLX_KERNEL", name, 1);
	return collx_encode(wire, sizeof(wire), x, 100, COLLX_FLOAT32, COLLX_Q8, NULL);
}

/* Each variant that there is has a name, which a person may give. */
Test(codec, names)
{
	for (size_t v = 0; cx_codec_variants[v]; v++) {
		const struct cx_codecs *c = cx_codec_variants[v];

		cr_assert_eq(cx_codecs_pick(c->name), c->usable() ? c : NULL);
		cr_assert_eq(cx_kernels_pick(c->name) != NULL, c->usable() != 0, "%s", c->name);
	}
	cr_assert_eq(encode_by_name("abacus"), COLLX_ERR_INVALID);
	cr_assert_neq(strstr(cx_error_text(), "COLLX_KERNEL=abacus is no arithmetic"), NULL);
	cr_assert_neq(strstr(cx_error_text(), "usable here: portable, vector"), NULL);
	cr_assert_neq(strstr(cx_kernels_why("avx512").text, "not for this processor"), NULL);
	cr_assert_eq(encode_by_name("vector"), 0, "%s", cx_error_text());
}

/* ---- some tiles, one block of which may be poisoned ---- */

enum { TILES = 5, SOME = TILES * CX_TILE + CX_BLOCK + 1 };

/* Encodes n elements that begin and are put anywhere, and compares. */
static void check_tiles(const struct cx_codecs *c, int slot, const void *x, size_t n)
{
	static unsigned char right[SOME + 1024], mine[SOME + 1024];

	for (int f = CX_Q8; f <= CX_Q4; f++) {
		size_t len = cx_wire_bytes((enum cx_format)f, n);

		memset(mine, 0x5a, sizeof(mine));
		cx_codec_variants[0]->encode[f][slot](right, x, n, NULL);
		c->encode[f][slot](mine + n % 3, x, n, NULL);
		cr_assert(!memcmp(right, mine + n % 3, len), "%s: %d %d, %zu", c->name, f, slot, n);
		cr_assert_eq(mine[len + n % 3], 0x5a, "%s: %d %d, %zu", c->name, f, slot, n);
	}
}

/* Elements 1 to n of x, and with a NaN in each block in turn. */
static void check_poison(const struct cx_codecs *c, int slot, const float *x, size_t n)
{
	static float wide[SOME + 1];
	uint16_t *shorts = (uint16_t *)wide;

	for (size_t at = 0; at <= n; at += CX_BLOCK + 1) {
		for (size_t i = 1; i <= n; i++)
			if (slot == 0)
				wide[i] = at && i == at ? NAN : x[i];
			else if (slot == 1)
				shorts[i] = cx_f16_from_f32(at && i == at ? INFINITY : x[i]);
			else
				shorts[i] = cx_bf16_from_f32(at && i == at ? -NAN : x[i]);
		check_tiles(c, slot, slot ? (void *)(shorts + 1) : wide + 1, n);
	}
}

Test(codec, poison_in_any_block_of_some_tiles, .timeout = 600)
{
	static float x[SOME + 1];

	for (size_t i = 1; i <= SOME; i++) /* each block another scale, some of them zero */
		x[i] = ldexpf((float)((int32_t)(codec_mix(i) % 2001) - 1000),
			      (int)(codec_mix(i / CX_BLOCK) % 20) - 20) * (float)(i / 64 % 5 != 0);
	for (size_t v = 1; cx_codec_variants[v]; v++)
		for (int slot = 0; slot < CX_FLOATS && cx_codec_variants[v]->usable(); slot++)
			for (size_t n = CX_TILE; n <= SOME; n += n % CX_TILE ? CX_TILE - 33 : 33)
				check_poison(cx_codec_variants[v], slot, x, n);
}

/* ---- arrays so large that they are written around the caches ---- */

#ifdef __SANITIZE_ADDRESS__ /* floats at least are as large */
enum { LARGE = 5 << 19, ROUNDINGS = 400 };
#else
enum { LARGE = 15 << 20, ROUNDINGS = 4000 };
#endif

struct large {
	float *x, *mine, *right;
	unsigned char *wire, *mine_wire, *right_wire;
	uint16_t *shorts;
};

static void check_large(const struct cx_codecs *c, struct large *l, int f)
{
	const struct cx_codecs *p = cx_codec_variants[0];
	struct cx_rounding r = { .stochastic = f == CX_Q8, .seed = 3 };
	size_t len = cx_wire_bytes((enum cx_format)f, LARGE);
	const void *in[2] = { l->wire, l->wire };
	struct cx_fuse u = { .inputs = in, .count = 2, .own = 2, .divisor = 2, .rounding = r };

	for (int slot = 0; slot < CX_FLOATS; slot++) {
		p->encode[f][slot](l->wire, slot ? (void *)l->shorts : l->x, LARGE, NULL);
		c->encode[f][slot](l->mine_wire, slot ? (void *)l->shorts : l->x, LARGE, NULL);
		cr_assert(!memcmp(l->wire, l->mine_wire, len), "%s: encode %d %d", c->name, f,
			  slot);
	}
	p->encode[f][0](l->wire, l->x, LARGE, &r);
	c->encode[f][0](l->mine_wire, l->x, LARGE, &r);
	cr_assert(!memcmp(l->wire, l->mine_wire, len), "%s: encode %d at random", c->name, f);
	p->fuse[f](l->right_wire, &u, LARGE);
	c->fuse[f](l->mine_wire, &u, LARGE);
	cr_assert(!memcmp(l->right_wire, l->mine_wire, len), "%s: fuse %d", c->name, f);
	for (int slot = 0; slot < CX_FLOATS; slot++) {
		p->decode[f][slot](l->right, l->wire, LARGE);
		c->decode[f][slot](l->mine, l->wire, LARGE);
		cr_assert(!memcmp(l->right, l->mine, LARGE * (slot ? 2 : 4)), "%s: decode %d %d",
			  c->name, f, slot);
		p->sum[f][slot](l->right, &u, LARGE);
		c->sum[f][slot](l->mine, &u, LARGE);
		cr_assert(!memcmp(l->right, l->mine, LARGE * (slot ? 2 : 4)), "%s: sum %d %d",
			  c->name, f, slot);
	}
}

static void *large(size_t len)
{
	void *p = aligned_alloc(64, len);

	cr_assert(p);
	return p;
}

Test(codec, large_arrays, .timeout = 600)
{
	struct large l = { large(LARGE * 4), large(LARGE * 4), large(LARGE * 4), large(LARGE * 2),
			   large(LARGE * 2), large(LARGE * 2), large(LARGE * 2) };

	for (size_t kind = 0; kind < CODEC_KINDS; kind++)
		codec_fill(l.x + kind * (LARGE / CODEC_KINDS), LARGE / CODEC_KINDS,
			   (unsigned)kind, 1);
	for (size_t i = 0; i < LARGE; i++)
		l.shorts[i] = cx_bf16_from_f32(l.x[i]);
	for (size_t v = 1; cx_codec_variants[v]; v++)
		for (int f = 0; f < CX_FORMATS && cx_codec_variants[v]->usable(); f++)
			check_large(cx_codec_variants[v], &l, f);
	free(l.x), free(l.mine), free(l.right);
	free(l.wire), free(l.mine_wire), free(l.right_wire), free(l.shorts);
}

/* ---- golden bytes: made from doc/WIRE alone, in exact rational arithmetic ---- */

enum { GOLDEN = 40 };

static void golden_numbers(float x[GOLDEN])
{
	uint32_t u = 12345;

	for (int i = 0; i < GOLDEN; i++) {
		u = u * 1103515245u + 12345u;
		x[i] = ldexpf((float)((int32_t)(u >> 8 & 0xffff) - 32768), -12 - i / 32 * 3);
	}
}

static const struct golden {
	collx_format format;
	uint32_t flags;
	const char *hex;
} golden[] = {
	{ COLLX_Q8, 0,
		"5b85e52aa02d9fdb5a642c9c9fdf94f1f9ed7d917f9a2fe19e862d349e84acc7f8f2b37f"
		"6add343d000000000000000000000000000000000000000000000000813de83b00000000"
		"0000000000000000" },
	{ COLLX_Q8, COLLX_STOCHASTIC,
		"5c85e52aa02d9fdb59642d9d9fdf94f0f9ed7d917f9a2fe19e852c359e83acc7f8f2b37f"
		"6add343d000000000000000000000000000000000000000000000000813de83b00000000"
		"0000000000000000" },
	{ COLLX_Q4, 0,
		"7ad2d626aa6d26171078682d76dd7645118529cd00000000000000000000000080bfe6bd"
		"000000000000000000000000" },
	{ COLLX_Q4, COLLX_STOCHASTIC,
		"7be1e526ab6e25061169691d75dd654511852acd00000000000000000000000090bfe6bd"
		"000000000000000000000000" },
	{ COLLX_BF16, 0,
		"b840f8c0d7bf2a40c2c03640c4c015c0b540ca403340c9c0c3c003c0d9c076bfddbe9abf"
		"fc40e0c0ff40cec03d40f9bfc5c0f6c034405340c5c0fbc0a9c067c06bbdd0bd0cbf653f"
		"3f3f80bebb3edf3e00000000000000000000000000000000000000000000000000000000"
		"0000000000000000000000000000000000000000" },
	{ COLLX_BF16, COLLX_STOCHASTIC,
		"b840f7c0d7bf2a40c2c03640c5c016c0b540ca403340c9c0c3c003c0d9c076bfddbe9abf"
		"fc40e0c00041cec03d40f9bfc5c0f6c033405440c4c0fac0a9c067c06bbdd0bd0cbf653f"
		"403f80bebb3ede3e00000000000000000000000000000000000000000000000000000000"
		"0000000000000000000000000000000000000000" },
};

Test(codec, golden_bytes)
{
	float x[GOLDEN];

	golden_numbers(x);
	for (size_t g = 0; g < sizeof(golden) / sizeof(golden[0]); g++) {
		collx_codec_opts o = COLLX_CODEC_OPTS_INIT;
		size_t len = collx_encoded_size(GOLDEN, golden[g].format);
		unsigned char wire[256];

		o.flags = golden[g].flags;
		o.seed = UINT64_C(0x0123456789abcdef);
		o.index = 2048;
		cr_assert_eq(strlen(golden[g].hex), len * 2);
		cr_assert_eq(collx_encode(wire, len, x, GOLDEN, COLLX_FLOAT32, golden[g].format,
					  &o), COLLX_OK);
		for (size_t i = 0; i < len; i++) {
			unsigned byte;

			sscanf(golden[g].hex + i * 2, "%2x", &byte);
			cr_assert_eq(wire[i], byte, "format %d, flags %u, byte %zu",
				     golden[g].format, golden[g].flags, i);
		}
	}
}

Test(codec, philox_known_answer)
{
	uint32_t w[4];

	cx_philox(w, 0, 0);
	cr_assert(w[0] == 0x5f6fb709 && w[1] == 0x0d893f64 && w[2] == 0x4f121f81 &&
		  w[3] == 0x4f730a48);
}

Test(codec, sizes)
{
	cr_assert_eq(collx_encoded_size(0, COLLX_Q8), 0);
	cr_assert_eq(collx_encoded_size(1, COLLX_Q8), 48);
	cr_assert_eq(collx_encoded_size(1, COLLX_Q4), 32);
	cr_assert_eq(collx_encoded_size(1, COLLX_BF16), 64);
	cr_assert_eq(collx_encoded_size(1024, COLLX_Q8), 1088);
	cr_assert_eq(collx_encoded_size(1025, COLLX_Q4), 576 + 32);
	cr_assert_eq(collx_encoded_size(SIZE_MAX, COLLX_Q4), 0);
	cr_assert_eq(collx_encoded_size(1, COLLX_FORMAT_COUNT), 0);
}

/* ---- errors of the formats ---- */

enum { N = 4096 };
static float x[N], y[N], left[N];
static unsigned char wire[N * 2 + 64];

static float scale_of(collx_format f, size_t i)
{
	const unsigned char *tile = wire + cx_wire_bytes((enum cx_format)f, i / CX_TILE * CX_TILE);
	uint16_t s;

	memcpy(&s, tile + cx_wire_scales((enum cx_format)f, CX_TILE) + i % CX_TILE / 32 * 2, 2);
	return fabsf(cx_scale_value(s));
}

static void round_trip(collx_format f, uint32_t flags, uint64_t seed)
{
	collx_codec_opts o = COLLX_CODEC_OPTS_INIT;

	o.flags = flags;
	o.seed = seed;
	cr_assert_eq(collx_encode(wire, sizeof(wire), x, N, COLLX_FLOAT32, f, &o), COLLX_OK);
	cr_assert_eq(collx_decode(y, N, COLLX_FLOAT32, wire, sizeof(wire), f, NULL), COLLX_OK);
}

/* The most that an element in a block of scale s may be off, and what q4 cuts. */
static void check_bound(collx_format f, uint32_t flags, size_t i)
{
	double off = fabs((double)x[i] - (double)y[i]), s = (double)scale_of(f, i);
	double bound = flags ? s : s / 2;

	if (!isfinite(x[i]) || !isfinite(y[i]))
		return;
	if (s == 0)
		bound = 0x1p-119;
	else if (f == COLLX_Q4 && !flags && fabs((double)x[i]) > 7.5 * s)
		bound = s * 1.04; /* 8 is cut to 7 */
	else if (f == COLLX_Q4 && flags && fabs((double)x[i]) > 0x1p127)
		bound = s * 1.15; /* so that -8 scales are finite the scale is limited */
	cr_assert(off <= bound * (1 + 0x1p-14), "format %d, flags %u: %a is %a, scale %a", f, flags,
		  (double)x[i], (double)y[i], s);
}

Test(codec, error_is_bounded_by_the_scale)
{
	for (unsigned kind = 0; kind < CODEC_KINDS * 4; kind++) {
		codec_fill(x, N, kind % CODEC_KINDS, kind);
		for (unsigned how = 0; how < 4; how++) {
			collx_format f = how & 1 ? COLLX_Q4 : COLLX_Q8;
			uint32_t flags = how & 2 ? COLLX_STOCHASTIC : 0;

			round_trip(f, flags, kind);
			for (size_t i = 0; i < N; i++)
				check_bound(f, flags, i);
		}
	}
}

/* A block is NaN as a whole if and only if an element of it is NaN or infinite; what is
 * finite stays finite. */
Test(codec, poison_stays_in_its_block)
{
	for (unsigned kind = 0; kind < CODEC_KINDS * 2; kind++) {
		codec_fill(x, N, kind % CODEC_KINDS, kind);
		for (int f = COLLX_Q8; f <= COLLX_Q4; f++) {
			round_trip((collx_format)f, kind & 16 ? COLLX_STOCHASTIC : 0, kind);
			for (size_t b = 0; b < N; b += 32) {
				int poisoned = 0;

				for (size_t i = b; i < b + 32; i++)
					poisoned |= !isfinite(x[i]);
				for (size_t i = b; i < b + 32; i++)
					cr_assert(poisoned ? isnan(y[i]) : isfinite(y[i]));
			}
		}
	}
}

/* The mean of many roundings is the number: off by less than 4 sigma / sqrt(K). */
static void check_unbiased(collx_format f)
{
	enum { K = ROUNDINGS, SHOWN = 96 };
	static double sum[SHOWN], squares[SHOWN];
	double off = 0, variance = 0;

	memset(sum, 0, sizeof(sum));
	memset(squares, 0, sizeof(squares));
	codec_fill(x, N, 0, 7);
	for (uint64_t k = 0; k < K; k++) {
		round_trip(f, COLLX_STOCHASTIC, codec_mix(k));
		for (size_t i = 0; i < SHOWN; i++) {
			double d = (double)y[i] - (double)x[i];

			sum[i] += d;
			squares[i] += d * d;
		}
	}
	for (size_t i = 0; i < SHOWN; i++) {
		double sigma = sqrt(squares[i] / K) + 1e-30;

		/* 96 elements: one in 16,000 is beyond 4 sigma; a bias of 2^-15 is our own. */
		cr_assert(fabs(sum[i] / K) < 4.5 * sigma / sqrt(K) + fabs((double)x[i]) * 0x1p-15,
			  "format %d, element %zu: off by %g, sigma %g", f, i, sum[i] / K, sigma);
		off += sum[i] / K;
		variance += squares[i] / K;
	}
	cr_assert(fabs(off) < 4 * sqrt(variance) / sqrt(K));
}

Test(codec, stochastic_rounding_is_unbiased)
{
	check_unbiased(COLLX_Q8);
	check_unbiased(COLLX_Q4);
	check_unbiased(COLLX_BF16);
}

/* What was sent and what is left are what went in, bit for bit: to nearest the difference
 * is exact. */
Test(codec, error_feedback_loses_nothing)
{
	static double in[N], sent[N];

	for (int f = 0; f < COLLX_FORMAT_COUNT; f++) {
		collx_codec_opts o = COLLX_CODEC_OPTS_INIT;

		memset(left, 0, sizeof(left));
		memset(in, 0, sizeof(in));
		memset(sent, 0, sizeof(sent));
		o.residual = left;
		for (uint64_t step = 0; step < 50; step++) {
			codec_fill(x, N, 0, step);
			for (size_t i = 0; i < N; i++) /* sums of these are exact */
				x[i] = rintf(x[i] * 256.0f);
			collx_encode(wire, sizeof(wire), x, N, COLLX_FLOAT32, (collx_format)f, &o);
			collx_decode(y, N, COLLX_FLOAT32, wire, sizeof(wire), (collx_format)f,
				     NULL);
			for (size_t i = 0; i < N; i++) {
				in[i] += (double)x[i];
				sent[i] += (double)y[i];
				cr_assert_eq(sent[i] + (double)left[i], in[i], "format %d", f);
			}
		}
	}
}

/* ---- the public functions ---- */

Test(codec, reduce_encoded_is_decode_add_encode)
{
	static unsigned char w[3][N * 2 + 64], out[N * 2 + 64], right[N * 2 + 64];
	static float sum[N];
	const void *in[3] = { w[0], x, w[2] };

	for (int f = 0; f < COLLX_FORMAT_COUNT; f++) {
		collx_codec_opts o = COLLX_CODEC_OPTS_INIT;
		collx_codec_opts plus = COLLX_CODEC_OPTS_INIT;

		o.own = 1;
		plus.flags = COLLX_ACCUMULATE;
		for (unsigned k = 0; k < 3; k++) {
			codec_fill(x, N, k, 99 + k);
			collx_encode(w[k], sizeof(w[k]), x, N, COLLX_FLOAT32, (collx_format)f,
				     NULL);
		}
		codec_fill(x, N, 1, 5);
		collx_decode(sum, N, COLLX_FLOAT32, w[0], sizeof(w[0]), (collx_format)f, NULL);
		for (size_t i = 0; i < N; i++)
			sum[i] += x[i];
		collx_decode(sum, N, COLLX_FLOAT32, w[2], sizeof(w[2]), (collx_format)f, &plus);
		for (size_t i = 0; i < N; i++)
			sum[i] /= 3;
		collx_encode(right, sizeof(right), sum, N, COLLX_FLOAT32, (collx_format)f, NULL);
		cr_assert_eq(collx_reduce_encoded(out, sizeof(out), in, 3, N, (collx_format)f,
						  COLLX_AVG, &o), COLLX_OK);
		cr_assert_eq(memcmp(out, right, collx_encoded_size(N, (collx_format)f)), 0);
		o.flags = COLLX_DECODED;
		cr_assert_eq(collx_reduce_encoded(y, sizeof(y), in, 3, N, (collx_format)f,
						  COLLX_AVG, &o), COLLX_OK);
		cr_assert_eq(memcmp(y, sum, sizeof(y)), 0);
	}
}

Test(codec, reduce_local_adds_in_order)
{
	const void *in[3] = { x, y, left };
	float out[3];

	x[0] = 1e30f, y[0] = -1e30f, left[0] = 1;
	x[1] = 1, y[1] = 1e30f, left[1] = -1e30f;
	x[2] = 3, y[2] = 4, left[2] = 5;
	cr_assert_eq(collx_reduce_local(out, in, 3, 3, COLLX_FLOAT32, COLLX_SUM, NULL), COLLX_OK);
	cr_assert(out[0] == 1 && out[1] == 0 && out[2] == 12);
	cr_assert_eq(collx_reduce_local(x, in, 3, 3, COLLX_FLOAT32, COLLX_AVG, NULL), COLLX_OK);
	cr_assert(x[2] == 4);
}

/* Refused with that code, and out is as it was. */
static void check_refused(collx_result want, collx_result got, const char *call)
{
	cr_expect_eq(got, want, "%s", call);
	cr_expect(*collx_last_error(NULL));
	for (size_t i = 0; i < sizeof(wire); i++)
		cr_assert_eq(wire[i], 0x5a, "%s", call);
}

#define REFUSED(code, call) check_refused(code, (memset(wire, 0x5a, sizeof(wire)), call), #call)

Test(codec, bad_arguments_change_nothing)
{
	collx_codec_opts o = COLLX_CODEC_OPTS_INIT;
	const void *in[17] = { x, y, wire + 8 };
	const size_t len = sizeof(wire);
	const collx_result no = COLLX_ERR_INVALID;

	REFUSED(no, collx_encode(wire, len, x, N, COLLX_FLOAT64, COLLX_Q8, NULL));
	REFUSED(no, collx_encode(wire, len, x, N, (collx_type)-1, COLLX_Q8, NULL));
	REFUSED(no, collx_encode(wire, len, x, N, COLLX_FLOAT32, (collx_format)3, NULL));
	REFUSED(no, collx_encode(wire, 100, x, N, COLLX_FLOAT32, COLLX_Q8, NULL));
	REFUSED(no, collx_encode(NULL, len, x, N, COLLX_FLOAT32, COLLX_Q8, NULL));
	REFUSED(no, collx_encode(wire, len, NULL, N, COLLX_FLOAT32, COLLX_Q8, NULL));
	REFUSED(no, collx_encode(wire, len, wire + 64, 512, COLLX_FLOAT32, COLLX_Q8, NULL));
	REFUSED(no, collx_encode(wire, len, x, SIZE_MAX, COLLX_FLOAT32, COLLX_Q8, NULL));
	REFUSED(no, collx_decode(wire, 512, COLLX_FLOAT32, wire + 64, len - 64, COLLX_Q8, NULL));
	REFUSED(no, collx_decode(wire, N, COLLX_FLOAT16, y, 4000, COLLX_Q8, NULL));
	o.index = 7;
	REFUSED(no, collx_encode(wire, len, x, N, COLLX_FLOAT32, COLLX_Q8, &o));
	o.index = 0;
	o.decay = NAN;
	REFUSED(no, collx_encode(wire, len, x, N, COLLX_FLOAT32, COLLX_Q8, &o));
	o.decay = 1;
	o.residual = x;
	REFUSED(no, collx_encode(wire, len, x, N, COLLX_FLOAT32, COLLX_Q8, &o));
	o.residual = NULL;
	o.flags = COLLX_ACCUMULATE;
	REFUSED(no, collx_decode(wire, N, COLLX_BFLOAT16, x, sizeof(x), COLLX_Q8, &o));
	REFUSED(no, collx_encode(wire, len, x, N, COLLX_FLOAT32, COLLX_Q8, &o));
	o.flags = 0;
	o.memory = COLLX_MEMORY_COUNT;
	REFUSED(no, collx_encode(wire, len, x, N, COLLX_FLOAT32, COLLX_Q8, &o));
	o.memory = COLLX_MEMORY_HOST;
	o.size = 8;
	REFUSED(no, collx_encode(wire, len, x, N, COLLX_FLOAT32, COLLX_Q8, &o));
	REFUSED(no, collx_reduce_local(wire, in, 1, 10, COLLX_FLOAT32, COLLX_SUM, NULL));
	REFUSED(no, collx_reduce_local(wire, in, 17, 10, COLLX_FLOAT32, COLLX_SUM, NULL));
	REFUSED(no, collx_reduce_local(wire, in, 4, 10, COLLX_FLOAT32, COLLX_SUM, NULL));
	REFUSED(no, collx_reduce_local(wire, in, 3, 10, COLLX_FLOAT32, COLLX_SUM, NULL));
	REFUSED(no, collx_reduce_local(wire, in, 2, 10, COLLX_FLOAT32, (collx_op)9, NULL));
	REFUSED(no, collx_reduce_encoded(wire, len, in, 2, 10, COLLX_Q8, COLLX_MAX, NULL));
	REFUSED(no, collx_reduce_encoded(wire, 10, in, 2, 10, COLLX_Q8, COLLX_SUM, NULL));
	REFUSED(no, collx_reduce_encoded(wire, len, in, 3, 10, COLLX_Q8, COLLX_SUM, NULL));
	o = (collx_codec_opts)COLLX_CODEC_OPTS_INIT;
	o.own = 2;
	REFUSED(no, collx_reduce_encoded(wire, len, in, 2, 10, COLLX_Q8, COLLX_SUM, &o));
}

/* Any bytes of the right length decode, and no byte beyond is read: under ASan. */
Test(codec, hostile_payloads)
{
	for (uint64_t i = 0; i < 2000; i++) {
		collx_format f = (collx_format)(i % COLLX_FORMAT_COUNT);
		size_t n = 1 + codec_mix(i) % 2500, len = collx_encoded_size(n, f);
		unsigned char *w = malloc(len);
		const void *in[2] = { w, w };

		for (size_t k = 0; k < len; k++)
			w[k] = (unsigned char)codec_mix(i * 4096 + k);
		cr_assert_eq(collx_decode(y, n, (collx_type[]){ COLLX_FLOAT32, COLLX_FLOAT16,
					  COLLX_BFLOAT16 }[i / 3 % 3], w, len, f, NULL), COLLX_OK);
		cr_assert_eq(collx_reduce_encoded(wire, sizeof(wire), in, 2, n, f, COLLX_SUM, NULL),
			     COLLX_OK);
		free(w);
	}
}
