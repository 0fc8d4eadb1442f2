/* SPDX-License-Identifier: BSD-3-Clause */
/* The codecs in AVX2. */
#include "kernels/words_avx2.h"
#include "kernels/words_bf16.h"

enum { L = VEC / 4, NV = 32 / L, STEEP = 120 };

ALWAYS vi32 larger(vi32 x, vi32 y)
{
	return (vi32)_mm256_max_epi32((__m256i)x, (__m256i)y);
}

ALWAYS vi32 smaller(vi32 x, vi32 y)
{
	return (vi32)_mm256_min_epi32((__m256i)x, (__m256i)y);
}

ALWAYS vu32 larger_unsigned(vu32 x, vu32 y)
{
	return (vu32)_mm256_max_epu32((__m256i)x, (__m256i)y);
}

ALWAYS vu16 larger_short(vu16 x, vu16 y)
{
	return (vu16)_mm256_max_epu16((__m256i)x, (__m256i)y);
}

/* Of two operands one of which is NaN, these instructions give the second. */
ALWAYS vf32 limit(vf32 y, vf32 top)
{
	return (vf32)_mm256_max_ps((__m256)-top, _mm256_min_ps((__m256)top, (__m256)y));
}

/* Products are exact; the sum keeps them from being -0. */
ALWAYS vf32 product_of(vi32 q, vf32 scale)
{
	return __builtin_convertvector(q, vf32) * scale + 0.0f;
}

ALWAYS vf32 add_product(vf32 sum, vi32 q, vf32 scale)
{
	return sum + __builtin_convertvector(q, vf32) * scale;
}

ALWAYS vf32 rounded_product(vi32 q, vf32 scale)
{
	return (vf32)round_bf16(product_of(q, scale));
}

ALWAYS vf32 canonical(vf32 v)
{
	return (vf32)_mm256_blendv_ps((__m256)v, (__m256)((vu32){0} + 0x7fc00000),
				      _mm256_cmp_ps((__m256)v, (__m256)v, _CMP_UNORD_Q));
}

ALWAYS vu32 turn(vu32 u)
{
	return u + u - (vu32)((vi32)u >> 31);
}

ALWAYS vu32 max_of_pairs32(vu32 a, vu32 b)
{
	return (vu32)_mm256_max_epu32(_mm256_unpacklo_epi32((__m256i)a, (__m256i)b),
				      _mm256_unpackhi_epi32((__m256i)a, (__m256i)b));
}

ALWAYS vu32 max_of_pairs64(vu32 a, vu32 b)
{
	return (vu32)_mm256_max_epu32(_mm256_unpacklo_epi64((__m256i)a, (__m256i)b),
				      _mm256_unpackhi_epi64((__m256i)a, (__m256i)b));
}

ALWAYS vu32 fold_max(const vu32 m[L])
{
	vu32 low = max_of_pairs64(max_of_pairs32(m[0], m[1]), max_of_pairs32(m[2], m[3]));
	vu32 high = max_of_pairs64(max_of_pairs32(m[4], m[5]), max_of_pairs32(m[6], m[7]));

	return (vu32)_mm256_max_epu32(
		_mm256_permute2x128_si256((__m256i)low, (__m256i)high, 0x20),
		_mm256_permute2x128_si256((__m256i)low, (__m256i)high, 0x31));
}

ALWAYS vi32 nearest(vf32 v)
{
	return (vi32)_mm256_cvtps_epi32((__m256)v);
}

ALWAYS __m256i to_bytes(const vi32 q[NV])
{
	const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
	__m256i a = _mm256_packs_epi32((__m256i)q[0], (__m256i)q[1]);
	__m256i b = _mm256_packs_epi32((__m256i)q[2], (__m256i)q[3]);

	return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), order);
}

ALWAYS void pack8(void *p, const vi32 q[2 * NV], bool around)
{
	for (unsigned b = 0; b < 2; b++)
		if (around)
			_mm256_stream_si256((__m256i *)p + b, to_bytes(q + b * NV));
		else
			_mm256_storeu_si256((__m256i *)p + b, to_bytes(q + b * NV));
}

/* Two blocks as words, each the quanta of a byte. */
ALWAYS void pack4(void *p, const vi32 q[2 * NV], bool around)
{
	__m256i v[2], out;

	for (unsigned b = 0; b < 2; b++) {
		v[b] = _mm256_min_epi8(to_bytes(q + b * NV), _mm256_set1_epi8(7));
		v[b] = _mm256_and_si256(v[b], _mm256_set1_epi8(15));
		v[b] = _mm256_maddubs_epi16(v[b], _mm256_set1_epi16(0x1001));
	}
	out = _mm256_permute4x64_epi64(_mm256_packus_epi16(v[0], v[1]), 0xd8);
	if (around)
		_mm256_stream_si256(p, out);
	else
		_mm256_storeu_si256(p, out);
}

ALWAYS void unpack8(vi32 q[NV], const void *p)
{
	for (unsigned v = 0; v < NV; v++)
		q[v] = (vi32)_mm256_cvtepi8_epi32(
			_mm_loadl_epi64((const __m128i *)((const char *)p + v * L)));
}

ALWAYS void unpack4(vi32 q[NV], const void *p)
{
	const __m256i up = _mm256_setr_epi32(28, 24, 20, 16, 12, 8, 4, 0);

	for (unsigned v = 0; v < NV; v++) {
		int32_t eight;

		memcpy(&eight, (const char *)p + v * 4, 4);
		q[v] = (vi32)_mm256_srai_epi32(_mm256_sllv_epi32(_mm256_set1_epi32(eight), up),
					       28);
	}
}

ALWAYS void decode4(vf32 y[NV], const void *p, vf32 scale, product_fn *multiply_by)
{
	vi32 q[NV];

	unpack4(q, p);
	for (unsigned v = 0; v < NV; v++)
		y[v] = multiply_by(q[v], scale);
}

ALWAYS void interleave(void *p, vu64 a, vu64 b)
{
	__m256i low = _mm256_unpacklo_epi64((__m256i)a, (__m256i)b);
	__m256i high = _mm256_unpackhi_epi64((__m256i)a, (__m256i)b);

	_mm256_storeu_si256(p, _mm256_permute2x128_si256(low, high, 0x20));
	_mm256_storeu_si256((__m256i *)p + 1, _mm256_permute2x128_si256(low, high, 0x31));
}

ALWAYS mem upper_halves(vu32 a, vu32 b)
{
	__m256i lanes = _mm256_packus_epi32((__m256i)(a >> 16), (__m256i)(b >> 16));

	return (mem)_mm256_permute4x64_epi64(lanes, 0xd8);
}

ALWAYS unsigned lanes_of(vi32 mask)
{
	return (unsigned)_mm256_movemask_ps((__m256)mask);
}

ALWAYS void keep(uint32_t *bits, uint32_t *index, vu32 a, uint32_t first, unsigned lanes)
{
	uint32_t each[L];

	if (!lanes)
		return;
	_mm256_storeu_si256((__m256i *)each, (__m256i)a);
	for (; lanes; lanes &= lanes - 1) {
		unsigned i = (unsigned)__builtin_ctz(lanes);

		*bits++ = each[i];
		*index++ = first + i;
	}
}

#define CODECS cx_codecs_avx2
#define CODECS_NAME "avx2"
#include "kernels/codec_body.h"
