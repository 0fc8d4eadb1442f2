/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The AVX2 variant, with F16C. Needs -mavx2 -mf16c, and must not get -mfma.
 */
#ifdef __x86_64__

#include <cpuid.h>
#include <immintrin.h>

#define VEC 32
#include "kernels/reduce_vec.h"

ALWAYS vu8 pick(vu8 mask, vu8 x, vu8 y)
{
	return (vu8)_mm256_blendv_epi8((__m256i)y, (__m256i)x, (__m256i)mask);
}

/*
 * Division by multiplication with the reciprocal: Granlund and Montgomery,
 * "Division by Invariant Integers using Multiplication" (1994), figure 4.1.
 * Eight bits have room to spare in sixteen: a divisor above 255 gives 0, as 256.
 */
ALWAYS void divider_init(struct divider *d, unsigned bits, uint32_t by)
{
	uint64_t rest, high;

	d->by = by;
	if (bits == 8) {
		d->factor = 65536 / (by < 256 ? by : 256) + 1;
		return;
	}
	d->shift = 31 - (unsigned)__builtin_clz(by - 1); /* one less than log2, rounded up */
	rest = (UINT64_C(2) << d->shift) - by;
	high = (rest << 32) / by;
	d->factor = high + 1;
	if (bits == 64)
		d->factor = (high << 32 | (((rest << 32) % by) << 32) / by) + 1;
}

ALWAYS vu8 quotient8(vu8 x, const struct divider *d)
{
	const __m256i factor = _mm256_set1_epi16((short)d->factor), zero = _mm256_setzero_si256();
	__m256i low = _mm256_unpacklo_epi8((__m256i)x, zero);
	__m256i high = _mm256_unpackhi_epi8((__m256i)x, zero);

	return (vu8)_mm256_packus_epi16(_mm256_mulhi_epu16(low, factor),
					_mm256_mulhi_epu16(high, factor));
}

/* The product of the lower halves of 64-bit lanes. */
ALWAYS vu64 product(vu64 x, vu64 y)
{
	return (vu64)_mm256_mul_epu32((__m256i)x, (__m256i)y);
}

ALWAYS vu32 quotient32(vu32 x, const struct divider *d)
{
	const vu64 factor = (vu64){0} + d->factor;
	vu64 even = product((vu64)x, factor) >> 32, odd = product((vu64)x >> 32, factor);
	vu32 t = (vu32)_mm256_blend_epi32((__m256i)even, (__m256i)odd, 0xaa);

	return (t + ((x - t) >> 1)) >> d->shift;
}

ALWAYS vu64 quotient64(vu64 x, const struct divider *d)
{
	const vu64 low = (vu64){0} + d->factor, high = low >> 32;
	vu64 t = product(x >> 32, low) + (product(x, low) >> 32);
	vu64 u = product(x, high) + (t & 0xffffffff);

	t = product(x >> 32, high) + (t >> 32) + (u >> 32);
	return (t + ((x - t) >> 1)) >> d->shift;
}

ALWAYS vu32 load_short(const void *p)
{
	return (vu32)_mm256_cvtepu16_epi32(_mm_loadu_si128(p));
}

ALWAYS void store_short(void *p, vu32 v)
{
	__m256i twice = _mm256_packus_epi32((__m256i)v, (__m256i)v);

	_mm_storeu_si128(p, _mm256_castsi256_si128(_mm256_permute4x64_epi64(twice, 0x08)));
}

ALWAYS vf32 load_f16(const void *p)
{
	return (vf32)_mm256_cvtph_ps(_mm_loadu_si128(p));
}

ALWAYS void store_f16(void *p, vf32 v)
{
	_mm_storeu_si128(p, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
}

static int kernels_usable(void)
{
	unsigned a, b, c, d;

	return __builtin_cpu_supports("avx2") && __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

#define KERNELS cx_kernels_avx2
#define KERNELS_NAME "avx2"
#include "kernels/reduce_body.h"

#else
typedef int cx_no_avx2; /* an empty file is not C */
#endif
