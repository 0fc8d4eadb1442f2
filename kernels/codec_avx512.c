/* SPDX-License-Identifier: BSD-3-Clause */
/* The codecs in AVX-512. */
#include "kernels/words_avx512.h"
#include "kernels/words_bf16.h"

enum { L = VEC / 4, NV = 32 / L, STEEP = 100 };

ALWAYS vi32 larger(vi32 x, vi32 y)
{
	return (vi32)_mm512_max_epi32((__m512i)x, (__m512i)y);
}

ALWAYS vi32 smaller(vi32 x, vi32 y)
{
	return (vi32)_mm512_min_epi32((__m512i)x, (__m512i)y);
}

ALWAYS vu32 larger_unsigned(vu32 x, vu32 y)
{
	return (vu32)_mm512_max_epu32((__m512i)x, (__m512i)y);
}

ALWAYS vu16 larger_short(vu16 x, vu16 y)
{
	return (vu16)_mm512_max_epu16((__m512i)x, (__m512i)y);
}

/* Of two operands one of which is NaN, these instructions give the second. */
ALWAYS vf32 limit(vf32 y, vf32 top)
{
	return (vf32)_mm512_max_ps((__m512)-top, _mm512_min_ps((__m512)top, (__m512)y));
}

/* Products are exact: fused or not is the same. The sum keeps them from being -0. */
ALWAYS vf32 add_product(vf32 sum, vi32 q, vf32 scale)
{
	return (vf32)_mm512_fmadd_ps(_mm512_cvtepi32_ps((__m512i)q), (__m512)scale, (__m512)sum);
}

ALWAYS vf32 product_of(vi32 q, vf32 scale)
{
	return add_product((vf32){0}, q, scale);
}

/*
 * A product P of 16 bits times 65537 is P * 2^16 + P, of 32 bits: rounding to 24 leaves of the
 * second P its upper 8, ties to even, and the first one is then taken away.
 */
ALWAYS vf32 rounded_product(vi32 q, vf32 scale)
{
	const __m512 up = _mm512_set1_ps(65536);
	__m512 p = _mm512_mul_ps(_mm512_cvtepi32_ps((__m512i)q), (__m512)scale);

	return (vf32)_mm512_fnmadd_ps(p, up, _mm512_fmadd_ps(p, up, p));
}

ALWAYS vf32 canonical(vf32 v)
{
	__mmask16 nan = _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q);

	return (vf32)_mm512_mask_set1_epi32((__m512i)v, nan, 0x7fc00000);
}

ALWAYS vu32 turn(vu32 u)
{
	return (vu32)_mm512_rol_epi32((__m512i)u, 1);
}

ALWAYS __m512i max_of_pairs32(vu32 a, vu32 b)
{
	return _mm512_max_epu32(_mm512_unpacklo_epi32((__m512i)a, (__m512i)b),
				_mm512_unpackhi_epi32((__m512i)a, (__m512i)b));
}

/* Lanes of 4 vectors: a quarter of each, of which another lane of 128 bits has the rest. */
ALWAYS __m512i max_of_four(const vu32 m[4])
{
	__m512i a = max_of_pairs32(m[0], m[1]), b = max_of_pairs32(m[2], m[3]);

	return _mm512_max_epu32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

ALWAYS __m512i max_of_halves(__m512i a, __m512i b)
{
	return _mm512_max_epu32(_mm512_shuffle_i32x4(a, b, 0x44),
				_mm512_shuffle_i32x4(a, b, 0xee));
}

ALWAYS vu32 fold_max(const vu32 m[L])
{
	__m512i a = max_of_halves(max_of_four(m), max_of_four(m + 4));
	__m512i b = max_of_halves(max_of_four(m + 8), max_of_four(m + 12));

	return (vu32)_mm512_max_epu32(_mm512_shuffle_i32x4(a, b, 0x88),
				      _mm512_shuffle_i32x4(a, b, 0xdd));
}

ALWAYS vi32 nearest(vf32 v)
{
	return (vi32)_mm512_cvtps_epi32((__m512)v);
}

/* Packing leaves the four lanes of four vectors by lane; they are wanted by vector. */
ALWAYS __m512i to_bytes(const vi32 q[2 * NV])
{
	const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11,
						15);
	__m512i a = _mm512_packs_epi32((__m512i)q[0], (__m512i)q[1]);
	__m512i b = _mm512_packs_epi32((__m512i)q[2], (__m512i)q[3]);

	return _mm512_permutexvar_epi32(order, _mm512_packs_epi16(a, b));
}

ALWAYS void pack8(void *p, const vi32 q[2 * NV], bool around)
{
	if (around)
		_mm512_stream_si512(p, to_bytes(q));
	else
		_mm512_storeu_si512(p, to_bytes(q));
}

/* Narrowed where it stands: clang goes on with it elsewhere, and then floats to q4 have 0.94 of
 * what memory permits in place of 1.1 (Zen 5). */
ALWAYS __m256i narrowed(__m256i v)
{
	__asm__("" : "+v"(v));
	return v;
}

/* Bytes of two blocks as q4. */
ALWAYS void put_nibbles(void *p, __m512i bytes, bool around)
{
	__m512i v = _mm512_min_epi8(bytes, _mm512_set1_epi8(7));
	__m256i out;

	v = _mm512_and_si512(v, _mm512_set1_epi8(15));
	v = _mm512_maddubs_epi16(v, _mm512_set1_epi16(0x1001));
	out = narrowed(_mm512_cvtepi16_epi8(v));
	if (around)
		_mm256_stream_si256(p, out);
	else
		_mm256_storeu_si256(p, out);
}

ALWAYS void pack4(void *p, const vi32 q[2 * NV], bool around)
{
	put_nibbles(p, to_bytes(q), around);
}

ALWAYS void unpack8(vi32 q[NV], const void *p)
{
	for (unsigned v = 0; v < NV; v++)
		q[v] = (vi32)_mm512_cvtepi8_epi32(
			_mm_loadu_si128((const __m128i *)((const char *)p + v * L)));
}

/* What a lane's lower 4 bits stand for is looked up. */
ALWAYS void decode4(vf32 y[NV], const void *p, vf32 scale, product_fn *multiply_by)
{
	const __m512i eight = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
	const __m512i down = _mm512_set_epi32(28, 24, 20, 16, 12, 8, 4, 0, 28, 24, 20, 16, 12, 8,
					      4, 0);
	const vi32 signed_ = { 0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1 };
	__m512 each = (__m512)multiply_by(signed_, scale);

	for (unsigned v = 0; v < NV; v++) {
		__m128i half = _mm_loadl_epi64((const __m128i *)((const char *)p + v * 8));
		__m512i all = _mm512_permutexvar_epi32(eight, _mm512_castsi128_si512(half));

		y[v] = (vf32)_mm512_permutexvar_ps(_mm512_srlv_epi32(all, down), each);
	}
}

ALWAYS void interleave(void *p, vu64 a, vu64 b)
{
	const __m512i low = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
	const __m512i high = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);

	_mm512_storeu_si512(p, _mm512_permutex2var_epi64((__m512i)a, low, (__m512i)b));
	_mm512_storeu_si512((__m512i *)p + 1,
			    _mm512_permutex2var_epi64((__m512i)a, high, (__m512i)b));
}

ALWAYS mem upper_halves(vu32 a, vu32 b)
{
	const __m512i odd = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37,
					     35, 33, 31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9,
					     7, 5, 3, 1);

	return (mem)_mm512_permutex2var_epi16((__m512i)a, odd, (__m512i)b);
}

ALWAYS unsigned lanes_of(vi32 mask)
{
	return _mm512_movepi32_mask((__m512i)mask);
}

ALWAYS void keep(uint32_t *bits, uint32_t *index, vu32 a, uint32_t first, unsigned lanes)
{
	const __m512i count = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
						15);
	__m512i at = _mm512_add_epi32(count, _mm512_set1_epi32((int)first));

	_mm512_storeu_si512(bits, _mm512_maskz_compress_epi32((__mmask16)lanes, (__m512i)a));
	_mm512_storeu_si512(index, _mm512_maskz_compress_epi32((__mmask16)lanes, at));
}

#define CODECS cx_codecs_avx512
#define CODECS_NAME "avx512"
#include "kernels/codec_body.h"

#ifdef CX_HAVE_AVX512BF16
#include "kernels/codec_dots.h"

static int machine_has_dots(void)
{
	return machine_usable() && __builtin_cpu_supports("avx512bf16");
}

CODEC_TABLE(cx_codecs_avx512bf16, "avx512bf16", machine_has_dots, fuse_q4_dots);
#endif
