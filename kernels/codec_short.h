/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * BFLOAT16 to q8 and q4, to nearest, for AVX-512; codec_body.h includes this. A block is a
 * vector. Of the four pipes of a Zen 4 two shift, shuffle and pack; what took three quarters
 * of their time is done elsewhere here: elements at even and odd places are told apart by a
 * shift and an "and", and two quanta become a word by an addition.
 */

/* The largest words of eight blocks: of each 128 bits by themselves, in the blocks' order. */
ALWAYS __m512i max_of_eight(const __m512i m[8])
{
	__m512i a[4], b[2];

	for (unsigned i = 0; i < 4; i++)
		a[i] = _mm512_max_epu16(_mm512_unpacklo_epi16(m[2 * i], m[2 * i + 1]),
					_mm512_unpackhi_epi16(m[2 * i], m[2 * i + 1]));
	for (unsigned i = 0; i < 2; i++)
		b[i] = _mm512_max_epu16(_mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]),
					_mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]));
	return _mm512_max_epu16(_mm512_unpacklo_epi64(b[0], b[1]),
				_mm512_unpackhi_epi64(b[0], b[1]));
}

ALWAYS __m512i max_of_lanes(__m512i a, __m512i b, __m512i c, __m512i d)
{
	a = _mm512_max_epu16(_mm512_shuffle_i32x4(a, b, 0x44), _mm512_shuffle_i32x4(a, b, 0xee));
	c = _mm512_max_epu16(_mm512_shuffle_i32x4(c, d, 0x44), _mm512_shuffle_i32x4(c, d, 0xee));
	return _mm512_max_epu16(_mm512_shuffle_i32x4(a, c, 0x88),
				_mm512_shuffle_i32x4(a, c, 0xdd));
}

/* As key_of, of a block. */
ALWAYS __m512i word_keys(enum cx_format f, const char *src)
{
	__m512i u = _mm512_loadu_si512(src);

	if (f == CX_Q8)
		return _mm512_and_si512(u, _mm512_set1_epi16(INT16_MAX));
	return _mm512_or_si512(_mm512_add_epi16(u, u), _mm512_srli_epi16(u, 15));
}

/* The first step. */
ALWAYS void measure_bfloat(enum cx_format f, struct blocks *to, const char *src)
{
	__m512i part[4], most;

	for (unsigned g = 0; g < 4; g++) {
		__m512i key[8];

		for (unsigned b = 0; b < 8; b++, src += VEC)
			key[b] = word_keys(f, src);
		part[g] = max_of_eight(key);
	}
	most = max_of_lanes(part[0], part[1], part[2], part[3]);
	to->poisoned = false;
	for (unsigned g = 0; g < BLOCKS; g += L, most = _mm512_shuffle_i64x2(most, most, 0xe)) {
		vi32 key = (vi32)_mm512_cvtepu16_epi32(_mm512_castsi512_si256(most));

		note_keys(f, to, g, (f == CX_Q4 ? key >> 1 : key) << 16, key & 1);
	}
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
ALWAYS __m512i bytes_from(const char *src, const float inverse[2])
{
	const __m512i lower = _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38,
					       36, 34, 32, 30, 28, 26, 24, 22, 20, 18, 16, 14, 12,
					       10, 8, 6, 4, 2, 0);
	__m512i words = _mm512_permutex2var_epi16(words_of(src, inverse[0]), lower,
						  words_of(src + VEC, inverse[1]));

	return _mm512_xor_si512(words, _mm512_set1_epi16(128));
}

ALWAYS void write_bfloat(enum cx_format f, unsigned char *wire, const char *src,
			 const struct blocks *b, bool around)
{
	const size_t payload = cx_wire_block(f);

	for (unsigned k = 0; k < BLOCKS; k += 2, src += 2 * VEC) {
		__m512i q = bytes_from(src, b->inverse + k);

		if (f == CX_Q8)
			put((char *)wire + k * payload, (mem)q, around);
		else
			put_nibbles(wire + k * payload, q, around);
	}
	put_scales(wire + BLOCKS * payload, b->wire, around);
}

/* A tile. */
ALWAYS void encode_bfloat(enum cx_format f, unsigned char *wire, const char *src, bool around)
{
	struct blocks b;

	measure_bfloat(f, &b, src);
	if (b.poisoned)
		write_tile(f, wire, COLLX_BFLOAT16, src, &b, NULL, NULL, around);
	else
		write_bfloat(f, wire, src, &b, around);
}
