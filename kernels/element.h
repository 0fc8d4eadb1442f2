/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The arithmetic of the codecs and of top-k, one element at a time: what every
 * variant, on CPU and GPU, computes bit for bit. Compiles as C, C++ and CUDA.
 *
 * Every operation on floats here is one IEEE operation rounded to nearest. Where
 * a compiler could contract two of them (CUDA does) cx_mul and its like forbid
 * it; a product of a quantum and a scale is exact, so there it makes no
 * difference. The default floating-point environment is assumed: subnormals are
 * not flushed. doc/WIRE has the same definitions in words.
 */
#ifndef CX_ELEMENT_H
#define CX_ELEMENT_H

#include <stdint.h>

#include "kernels/convert.h"

#define CX_NAN32 0x7fc00000u   /* the NaN that results */
#define CX_INF32 0x7f800000u
#define CX_POISON 0x7fc0u      /* scale of a block that holds a NaN or an infinity */
#define CX_TINY 0x04000000u    /* 2^-119: a block whose elements are all below is zero */
#define CX_Q8_TOP 0x7c01u      /* largest scales: 127 and 8 times them are finite */
#define CX_Q4_TOP 0x7dffu
#define CX_127TH 0x3c010204u   /* 1/127 as a float, rounded to nearest */
#define CX_SEVENTH 0x3e124925u /* 1/7, rounded up */
#define CX_BF16_TOP 0x7f7fu    /* largest finite numbers */
#define CX_F16_TOP 65504.0f

/* ---- single operations ---- */

CX_CONVERT float cx_mul(float a, float b)
{
#ifdef __CUDA_ARCH__
	return __fmul_rn(a, b);
#else
	return a * b;
#endif
}

CX_CONVERT float cx_add(float a, float b)
{
#ifdef __CUDA_ARCH__
	return __fadd_rn(a, b);
#else
	return a + b;
#endif
}

CX_CONVERT uint32_t cx_mul_bits(uint32_t a, uint32_t b)
{
	return cx_float_bits(cx_mul(cx_float_from_bits(a), cx_float_from_bits(b)));
}

CX_CONVERT float cx_div(float a, float b)
{
#ifdef __CUDA_ARCH__
	return __fdiv_rn(a, b);
#else
	return a / b;
#endif
}

CX_CONVERT uint32_t cx_abs_bits(float f)
{
	return cx_float_bits(f) & 0x7fffffffu;
}

/* Any NaN becomes the canonical one. */
CX_CONVERT float cx_canonical(float f)
{
	return cx_abs_bits(f) > CX_INF32 ? cx_float_from_bits(CX_NAN32) : f;
}

/* A sum as the library defines it: the NaN that results is canonical. */
CX_CONVERT float cx_sum(float a, float b)
{
	return cx_canonical(cx_add(a, b));
}

/* The nearest integer, ties to even, of |t| <= 2^22: the sum has no room for a fraction. */
CX_CONVERT int32_t cx_round(float t)
{
	return (int32_t)(cx_float_bits(cx_add(t, 12582912.0f)) - 0x4b400000u);
}

CX_CONVERT int32_t cx_clamp(int32_t q, int32_t low, int32_t high)
{
	return q < low ? low : q > high ? high : q;
}

/* ---- random numbers: Philox4x32 of 7 rounds ---- */

/*
 * The 128 bits for elements 8 * counter to 8 * counter + 7 of the whole array:
 * as 8 numbers of 16 bits, each word's lower half first, one an element. Salmon
 * et al., "Parallel random numbers: as easy as 1, 2, 3" (2011).
 */
CX_CONVERT void cx_philox(uint32_t out[4], uint64_t counter, uint64_t seed)
{
	uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = 0, c3 = 0;
	uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
	int round;

	for (round = 0; round < 7; round++) {
		uint64_t p0 = (uint64_t)c0 * 0xd2511f53u, p1 = (uint64_t)c2 * 0xcd9e8d57u;

		c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
		c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
		c1 = (uint32_t)p1;
		c3 = (uint32_t)p0;
		k0 += 0x9e3779b9u;
		k1 += 0xbb67ae85u;
	}
	out[0] = c0;
	out[1] = c1;
	out[2] = c2;
	out[3] = c3;
}

/* The number of element `index`, from the words of cx_philox(index / 8). */
CX_CONVERT uint32_t cx_random16(const uint32_t words[4], uint64_t index)
{
	return words[index / 2 % 4] >> index % 2 * 16 & 0xffffu;
}

/* ---- scales ---- */

CX_CONVERT uint32_t cx_scale_up(uint32_t bits, uint32_t top)
{
	bits = (bits + 0xffffu) >> 16;
	return bits < top ? bits : top;
}

/* The scale, a bf16, of a block whose largest cx_abs_bits is a. */
CX_CONVERT uint16_t cx_q8_scale(uint32_t a)
{
	if (a >= CX_INF32)
		return CX_POISON;
	if (a < CX_TINY)
		return 0;
	return (uint16_t)cx_scale_up(cx_mul_bits(a, CX_127TH), CX_Q8_TOP);
}

/*
 * pos: the largest cx_abs_bits of elements whose sign bit is clear, neg: of those
 * where it is set; 0 where there are none. The larger one, the negative of equals,
 * becomes -8. To nearest, its opposite may be cut to 7; stochastic rounding,
 * to be without bias, needs it to be at most 7.
 */
CX_CONVERT uint16_t cx_q4_scale(uint32_t pos, uint32_t neg, int stochastic)
{
	uint32_t most = pos > neg ? pos : neg, least = pos > neg ? neg : pos, s, seventh;

	if (most >= CX_INF32)
		return CX_POISON;
	if (most < CX_TINY)
		return 0;
	s = most - (3u << 23); /* an eighth */
	seventh = cx_mul_bits(least, CX_SEVENTH);
	if (stochastic && seventh > s)
		s = seventh;
	return (uint16_t)(cx_scale_up(s, CX_Q4_TOP) | (pos > neg ? 0x8000u : 0u));
}

/* What elements are multiplied with; 0 makes a block of zeros, for poison too (there the
 * quanta are 0 whatever the elements). Of scales made here. */
CX_CONVERT float cx_scale_inverse(uint16_t scale)
{
	if (scale == 0 || scale == CX_POISON)
		return 0.0f;
	return cx_div(1.0f, cx_bf16_to_f32(scale));
}

/* The number that a scale on the wire, of whatever origin, stands for: NaN for an
 * exponent of ones, 0 for an exponent of zeros. */
CX_CONVERT float cx_scale_value(uint16_t scale)
{
	uint32_t exponent = scale & 0x7f80u;

	if (exponent == 0x7f80u)
		return cx_float_from_bits(CX_NAN32);
	return exponent ? cx_bf16_to_f32(scale) : 0.0f;
}

/* ---- quanta ---- */

/* Of a finite x in a block of that scale; |x * inverse| is below 127.01, so nothing to clamp. */
CX_CONVERT int32_t cx_q8_nearest(float x, float inverse)
{
	return cx_round(cx_mul(x, inverse));
}

CX_CONVERT int32_t cx_q4_nearest(float x, float inverse)
{
	int32_t q = (int32_t)cx_float_bits(cx_add(cx_mul(x, inverse), 12582912.0f));

	/* As in cx_round, but cut while it is a float's bits: who keeps 4 of them is done. */
	return cx_clamp(q, 0x4b400000 - 8, 0x4b400000 + 7) - 0x4b400000;
}

/* x * inverse in units of 2^-15, rounded down after a random number below 1 was added. */
CX_CONVERT int32_t cx_stochastic(float x, float inverse, uint32_t random16)
{
	int32_t t = cx_round(cx_mul(cx_mul(x, inverse), 32768.0f));

	return (t + (int32_t)(random16 >> 1)) >> 15; /* arithmetic, with all our compilers */
}

CX_CONVERT int32_t cx_q8_stochastic(float x, float inverse, uint32_t random16)
{
	return cx_clamp(cx_stochastic(x, inverse, random16), -127, 127);
}

CX_CONVERT int32_t cx_q4_stochastic(float x, float inverse, uint32_t random16)
{
	return cx_clamp(cx_stochastic(x, inverse, random16), -8, 7);
}

/* The signed number in the lower 4 bits. */
CX_CONVERT int32_t cx_q4_signed(uint32_t nibble)
{
	return (int32_t)((nibble & 15u) ^ 8u) - 8;
}

/* What a quantum stands for: exact, never -0. scale is a cx_scale_value. */
CX_CONVERT float cx_dequantize(int32_t q, float scale)
{
	return cx_canonical(cx_add(cx_mul((float)q, scale), 0.0f));
}

/* ---- bf16 as a format: what is finite stays finite ---- */

CX_CONVERT uint16_t cx_bf16_nearest(float x)
{
	uint16_t h = cx_bf16_from_f32(x);

	if ((h & 0x7fffu) == 0x7f80u && cx_abs_bits(x) < CX_INF32)
		h--;
	return h;
}

CX_CONVERT uint16_t cx_bf16_stochastic(float x, uint32_t random16)
{
	uint32_t u = cx_float_bits(x), rest = u & 0x7fffffffu;

	if (rest >= CX_INF32)
		return cx_bf16_from_f32(x);
	rest = (rest + random16) >> 16;
	if (rest > CX_BF16_TOP)
		rest = CX_BF16_TOP;
	return (uint16_t)((u >> 16 & 0x8000u) | rest);
}

/* ---- decoded numbers as short floats: too large ones become the largest ---- */

CX_CONVERT float cx_limit(float y, float top)
{
	if (y > top)
		y = top;
	if (y < -top)
		y = -top;
	return y;
}

CX_CONVERT uint16_t cx_f16_limited(float y)
{
	return cx_f16_from_f32(cx_limit(y, CX_F16_TOP));
}

CX_CONVERT uint16_t cx_bf16_limited(float y)
{
	return cx_bf16_from_f32(cx_limit(y, cx_bf16_to_f32(CX_BF16_TOP)));
}

/* ---- error feedback and top-k ---- */

/* The element that is sent: the gradient and what was left of earlier ones. */
CX_CONVERT float cx_feedback(float gradient, float residual, float decay)
{
	return cx_sum(gradient, cx_mul(decay, residual));
}

/* What is left of a once y of it was sent. */
CX_CONVERT float cx_left(float a, float y)
{
	return cx_add(a, -y);
}

/*
 * Top-k orders elements by cx_abs_bits, the larger one first, and of equals the
 * one with the smaller index. Zeros, NaN and infinities are never chosen, whatever
 * k is. least, at least 1, is the smallest key that may be.
 */
CX_CONVERT int cx_eligible(float a, uint32_t least)
{
	return cx_abs_bits(a) - least < CX_INF32 - least;
}

#endif
