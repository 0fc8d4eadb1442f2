/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Short floats to q8 and q4, to nearest, for AVX-512; codec_body.h includes this. A block is a
 * vector. Of the four pipes of a Zen 4 two shift, shuffle and pack, and were what others waited
 * for. So BFLOAT16 at even and odd places is told apart by a shift and an "and", and two quanta
 * become a word by an addition.
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

/* The largest keys of eight blocks. */
ALWAYS __m512i measure_eight(enum cx_format f, const char *src)
{
	__m512i key[8];

	for (unsigned b = 0; b < 8; b++)
		key[b] = word_keys(f, src + b * VEC);
	return max_of_eight(key);
}

/* Notes the scales of a tile, from the keys of its blocks. */
ALWAYS void note_shorts(enum cx_format f, collx_type type, struct blocks *to,
			const __m512i part[4])
{
	__m512i most = max_of_lanes(part[0], part[1], part[2], part[3]);

	to->poisoned = false;
	for (unsigned g = 0; g < BLOCKS; g += L, most = _mm512_shuffle_i64x2(most, most, 0xe)) {
		__m256i key = _mm512_castsi512_si256(most);
		__m256i h = f == CX_Q4 ? _mm256_srli_epi16(key, 1) : key;

		note_keys(f, to, g, (vi32)load_as(type, (const char *)&h, 0),
			  (vi32)_mm512_cvtepu16_epi32(key) & 1);
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

/* Eight blocks. */
ALWAYS void write_eight(enum cx_format f, collx_type type, unsigned char *wire, const char *src,
			const float *inverse, bool around)
{
	for (unsigned k = 0; k < 8; k += 2, src += 2 * VEC, wire += 2 * cx_wire_block(f)) {
		__m512i q = type == COLLX_BFLOAT16 ? bytes_of_bf16(src, inverse + k) :
						     bytes_of_f16(src, inverse + k);

		if (f == CX_Q8)
			put((char *)wire, (mem)q, around);
		else
			put_nibbles(wire, q, around);
	}
}

/* Tiles: while one is written, the next is measured, so that no division is waited for. */
ALWAYS void encode_shorts(enum cx_format f, collx_type type, unsigned char *wire,
			  const char *src, size_t tiles, bool around)
{
	const size_t payload = 8 * cx_wire_block(f), step = 8 * VEC;
	struct blocks b;
	__m512i part[4];

	for (unsigned g = 0; g < 4 && tiles; g++)
		part[g] = measure_eight(f, src + g * step);
	for (; tiles; tiles--, src += 4 * step, wire += cx_wire_bytes(f, CX_TILE)) {
		note_shorts(f, type, &b, part);
		for (unsigned g = 0; g < 4; g++) {
			if (tiles > 1)
				part[g] = measure_eight(f, src + (4 + g) * step);
			if (!b.poisoned)
				write_eight(f, type, wire + g * payload, src + g * step,
					    b.inverse + g * 8, around);
		}
		if (b.poisoned)
			write_tile(f, wire, type, src, &b, NULL, NULL, around);
		else
			put_scales(wire + 4 * payload, b.wire, around);
	}
}
