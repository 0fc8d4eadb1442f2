/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Short floats to q8 and q4, to nearest, for AVX-512: what codec_ahead.h needs of them. A block
 * is a vector. Of the four pipes of a Zen 4 two shift, shuffle and pack, and were what others
 * waited for. So BFLOAT16 at even and odd places is told apart by a shift and an "and", and two
 * quanta become a word by an addition.
 */

/* The larger words of two vectors, in turn one, two or four of each. */
ALWAYS __m512i larger_words(__m512i a, __m512i b)
{
	return _mm512_max_epu16(_mm512_unpacklo_epi16(a, b), _mm512_unpackhi_epi16(a, b));
}

ALWAYS __m512i larger_twos(__m512i a, __m512i b)
{
	return _mm512_max_epu16(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
}

ALWAYS __m512i larger_fours(__m512i a, __m512i b)
{
	return _mm512_max_epu16(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

/* As key_of, of a block. */
ALWAYS __m512i word_keys(enum cx_format f, const char *src)
{
	__m512i u = _mm512_loadu_si512(src);

	if (f == CX_Q8)
		return _mm512_and_si512(u, _mm512_set1_epi16(INT16_MAX));
	return _mm512_or_si512(_mm512_add_epi16(u, u), _mm512_srli_epi16(u, 15));
}

/* The largest keys of four blocks, of some elements each. */
ALWAYS __m512i measure_words(enum cx_format f, const char *src)
{
	__m512i a = larger_words(word_keys(f, src), word_keys(f, src + VEC));
	__m512i b = larger_words(word_keys(f, src + 2 * VEC), word_keys(f, src + 3 * VEC));

	return larger_twos(a, b);
}

/* The largest keys of L blocks, of which each vector has four. */
ALWAYS __m256i fold_words(const __m512i m[4])
{
	const __m512i lanes = _mm512_setr_epi64(0, 1, 4, 5, 0, 1, 4, 5);
	__m512i a = larger_fours(m[0], m[1]), b = larger_fours(m[2], m[3]);

	a = _mm512_max_epu16(_mm512_shuffle_i32x4(a, b, 0x44), _mm512_shuffle_i32x4(a, b, 0xee));
	a = _mm512_max_epu16(a, _mm512_shuffle_i64x2(a, a, 0xb1));
	return _mm512_castsi512_si256(_mm512_permutexvar_epi64(lanes, a));
}

/*
 * The quanta of a block as words, in the lower halves of lanes: of an element at an even place
 * plus 128, and in the upper byte of that at the odd one. Both sums round to an integer, ties
 * to even, as their last place is 1; what is between them is exact.
 */
ALWAYS __m512i words_of(const char *src, float inverse)
{
	const __m512 odd_base = _mm512_set1_ps(0x1p23f + 128);
	const __m512 shift = _mm512_set1_ps(0x1.8p23f + 128 - 0x1p31f - 0x1p15f);
	__m512i u = _mm512_loadu_si512(src);
	__m512 by = _mm512_set1_ps(inverse);
	__m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(u, 16));
	__m512 odd = _mm512_castsi512_ps(_mm512_and_si512(u, _mm512_set1_epi32(INT32_MIN >> 15)));

	odd = _mm512_add_ps(_mm512_mul_ps(odd, by), odd_base);
	odd = _mm512_fmadd_ps(odd, _mm512_set1_ps(256), shift);
	return _mm512_castps_si512(_mm512_add_ps(_mm512_mul_ps(even, by), odd));
}

/* Two blocks' bytes. */
ALWAYS __m512i bytes_of_bf16(const char *src, const float inverse[2])
{
	const __m512i lower = _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38,
					       36, 34, 32, 30, 28, 26, 24, 22, 20, 18, 16, 14, 12,
					       10, 8, 6, 4, 2, 0);
	__m512i words = _mm512_permutex2var_epi16(words_of(src, inverse[0]), lower,
						  words_of(src + VEC, inverse[1]));

	return _mm512_xor_si512(words, _mm512_set1_epi16(128));
}

ALWAYS __m512i bytes_of_f16(const char *src, const float inverse[2])
{
	vi32 q[PAIR];

	for (unsigned v = 0; v < PAIR; v++)
		q[v] = nearest(load_f16(src + v * L * 2) * inverse[v / NV]);
	return to_bytes(q);
}
