/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Floats to q8 and q4, to nearest, around the caches, for AVX-512; codec_body.h includes
 * this. Four blocks fit in registers, so that each element is read once and a single loop
 * reads and writes at an even pace. The scales of four are found while the four before are
 * written. One after the other, they are waited for: a Zen 4 has hardly more vector instructions
 * under way than four blocks take (q4: 0.76 of what memory permits, and 1.04 that way). Within
 * the caches codec_ahead.h is faster, as four scales cost nearly as much as sixteen.
 */

/*
 * Asks for lines of a stream that is read once, while results go around the caches: far ahead,
 * and not for the L2's sake (Zen 5: 0.89 of what memory permits without, 0.90 from 4 KiB ahead,
 * 0.97 from here on to 12 KiB; into the L2 0.86 and 0.79).
 */
enum { ONCE_AHEAD = 8192 };

ALWAYS void look_ahead_once(const void *p, size_t len)
{
	for (size_t i = 0; i < len; i += CACHE_LINE)
		__builtin_prefetch((const void *)((uintptr_t)p + ONCE_AHEAD + i), 0, 0);
}

enum { HELD = 4, HELD_BYTES = HELD * CX_BLOCK * 4 };

/* Blocks under way. */
struct held {
	vf32 x[HELD * NV];
	__m128i scale; /* as floats */
	__m128 inverse;
};

/* The largest lane of each of four vectors. */
ALWAYS __m128i fold_held(const vu32 m[HELD])
{
	__m512i a = max_of_four(m);
	__m256i b = _mm256_max_epu32(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1));

	return _mm_max_epu32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
}

/* From the keys of blocks: their scales, as scales_of and note_scales but for poison. */
ALWAYS void held_scales(enum cx_format f, struct held *h, __m128i key, __m128i most)
{
	const __m128i top = _mm_set1_epi32((f == CX_Q8 ? CX_Q8_TOP : CX_Q4_TOP) << 16);
	__m128i live = _mm_cmpgt_epi32(most, _mm_set1_epi32(CX_TINY - 1)), s;

	if (f == CX_Q8)
		s = (__m128i)((__m128)most * cx_float_from_bits(CX_127TH));
	else
		s = _mm_sub_epi32(most, _mm_set1_epi32(3 << 23));
	s = _mm_add_epi32(s, _mm_set1_epi32(0xffff));
	s = _mm_min_epi32(_mm_and_si128(s, _mm_set1_epi32(INT32_MIN >> 15)), top);
	if (f == CX_Q4)
		s = _mm_or_si128(s, _mm_slli_epi32(~key, 31));
	h->scale = _mm_and_si128(s, live);
	h->inverse = _mm_and_ps(_mm_div_ps(_mm_set1_ps(1), (__m128)s), (__m128)live);
}

/* Takes blocks; adds to the largest magnitudes what theirs are. */
ALWAYS void take_held(enum cx_format f, struct held *h, const char *src, __m128i *largest)
{
	vu32 key[HELD];
	__m128i all, most;

	look_ahead_once(src, HELD_BYTES);
	for (unsigned v = 0; v < HELD * NV; v++)
		h->x[v] = load_float(src + v * VEC);
	for (unsigned b = 0; b < HELD; b++)
		key[b] = larger_unsigned(key_of(f, h->x[b * NV]), key_of(f, h->x[b * NV + 1]));
	all = fold_held(key);
	most = f == CX_Q4 ? _mm_srli_epi32(all, 1) : all;
	*largest = _mm_max_epi32(*largest, most);
	held_scales(f, h, all, most);
}

ALWAYS void write_held(enum cx_format f, unsigned char *wire, const struct held *h)
{
	float inverse[HELD] __attribute__((aligned(16)));
	vi32 q[HELD * NV];

	_mm_store_ps(inverse, h->inverse);
	for (unsigned v = 0; v < HELD * NV; v++)
		q[v] = nearest(h->x[v] * inverse[v / NV]);
	for (unsigned b = 0; b < HELD; b += 2)
		if (f == CX_Q8)
			pack8(wire + b * cx_wire_block(f), &q[b * NV], true);
		else
			pack4(wire + b * cx_wire_block(f), &q[b * NV], true);
}

/* The scales at the end of a tile; if one of its blocks is poisoned, all of it once more. */
ALWAYS void end_held(enum cx_format f, unsigned char *wire, const char *src,
		     const uint16_t scales[BLOCKS], __m128i largest)
{
	const __m128i finite = _mm_set1_epi32(CX_INF32 - 1);
	const collx_type type = COLLX_FLOAT32;
	struct tile t = { .src = src };

	if (_mm_movemask_epi8(_mm_cmpgt_epi32(largest, finite)))
		encode_scaled(f, false, make_f32, &type, wire, &t, NULL, true);
	else
		put_scales(wire + BLOCKS * cx_wire_block(f), scales, true);
}

ALWAYS void encode_held(enum cx_format f, unsigned char *wire, const char *src, size_t tiles)
{
	const size_t last = tiles * CX_TILE * 4 - HELD_BYTES, step = HELD * cx_wire_block(f);
	uint16_t scales[BLOCKS] __attribute__((aligned(CACHE_LINE)));
	__m128i largest = {0}, following = {0};
	struct held now, next;

	take_held(f, &now, src, &largest);
	for (size_t at = 0; tiles; tiles--, wire += cx_wire_bytes(f, CX_TILE)) {
		const char *tile = src + at;

		for (unsigned g = 0; g < BLOCKS; g += HELD) {
			__m128i words = _mm_srli_epi32(now.scale, 16);

			at += at < last ? HELD_BYTES : 0; /* there is no next one: the same again */
			take_held(f, &next, src + at, g < BLOCKS - HELD ? &largest : &following);
			_mm_storel_epi64((__m128i *)(scales + g), _mm_packus_epi32(words, words));
			write_held(f, wire + g / HELD * step, &now);
			now = next;
		}
		end_held(f, wire, tile, scales, largest);
		largest = following;
		following = (__m128i){0};
	}
}
