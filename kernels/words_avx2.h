/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What AVX2 with F16C does in a way of its own; see words.h. Needs -mavx2 -mf16c,
 * and must not get -mfma.
 */
#include <cpuid.h>
#include <immintrin.h>

#define VEC 32
#include "kernels/words.h"

ALWAYS vu8 pick(vu8 mask, vu8 x, vu8 y)
{
	return (vu8)_mm256_blendv_epi8((__m256i)y, (__m256i)x, (__m256i)mask);
}

/* The product of the lower halves of 64-bit lanes. */
ALWAYS vu64 product(vu64 x, vu64 y)
{
	return (vu64)_mm256_mul_epu32((__m256i)x, (__m256i)y);
}

ALWAYS vu8 quotient8(vu8 x, const struct divider *d)
{
	const __m256i factor = _mm256_set1_epi16((short)d->factor), zero = _mm256_setzero_si256();
	__m256i low = _mm256_unpacklo_epi8((__m256i)x, zero);
	__m256i high = _mm256_unpackhi_epi8((__m256i)x, zero);

	return (vu8)_mm256_packus_epi16(_mm256_mulhi_epu16(low, factor),
					_mm256_mulhi_epu16(high, factor));
}

#include "kernels/words_divide.h"

ALWAYS vu32 load_short(const void *p)
{
	return (vu32)_mm256_cvtepu16_epi32(_mm_loadu_si128(p));
}

ALWAYS vshort narrow_short(vu32 v)
{
	__m256i twice = _mm256_packus_epi32((__m256i)v, (__m256i)v);

	return (vshort)_mm256_castsi256_si128(_mm256_permute4x64_epi64(twice, 0x08));
}

ALWAYS vf32 load_f16(const void *p)
{
	return (vf32)_mm256_cvtph_ps(_mm_loadu_si128(p));
}

ALWAYS vshort narrow_f16(vf32 v)
{
	return (vshort)_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT);
}

ALWAYS mem join_short(vshort a, vshort b)
{
	return (mem)_mm256_inserti128_si256(_mm256_castsi128_si256((__m128i)a), (__m128i)b, 1);
}

ALWAYS mem load_far(const void *p)
{
	return *(const mem *)p;
}

ALWAYS void stream(void *p, mem v)
{
	_mm256_stream_si256(p, (__m256i)v);
}

ALWAYS void stream_half(void *p, mem_half v)
{
	_mm_stream_si128(p, (__m128i)v);
}

ALWAYS void stream_end(void)
{
	_mm_sfence();
}

static int machine_usable(void)
{
	unsigned a, b, c, d;

	return __builtin_cpu_supports("avx2") && __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
