/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Floats to q8 and q4, to nearest, around the caches, for AVX-512; codec_body.h includes
 * this. Four blocks fit in registers, so that each element is read once and a single loop
 * reads and writes at an even pace: beside busy neighbours of the memory that gave 0.9 of
 * the bound where two steps over a tile gave 0.75, alone 0.91 and 0.88 (Zen 4). Within the
 * caches it would be slower: four scales cost nearly as much as sixteen.
 */
enum { HELD = 4 };

/* The largest lane of each of four vectors. */
ALWAYS __m128i fold_held(const vu32 m[HELD])
{
	__m512i a = max_of_four(m);
	__m256i b = _mm256_max_epu32(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1));

	return _mm_max_epu32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
}

/* From the keys of blocks: their scales, as scales_of and note_scales; and which are poisoned. */
ALWAYS __m128i held_scales(enum cx_format f, __m128i key, __mmask8 *poisoned)
{
	const __m128i top = _mm_set1_epi32(f == CX_Q8 ? CX_Q8_TOP : CX_Q4_TOP);
	__m128i most = f == CX_Q4 ? _mm_srli_epi32(key, 1) : key, s;
	__mmask8 minus;

	if (f == CX_Q8)
		s = (__m128i)((__m128)most * cx_float_from_bits(CX_127TH));
	else
		s = _mm_sub_epi32(most, _mm_set1_epi32(3 << 23));
	s = _mm_min_epi32(_mm_srai_epi32(_mm_add_epi32(s, _mm_set1_epi32(0xffff)), 16), top);
	s = _mm_maskz_mov_epi32(_mm_cmpge_epi32_mask(most, _mm_set1_epi32(CX_TINY)), s);
	*poisoned = _mm_cmpge_epi32_mask(most, _mm_set1_epi32(CX_INF32));
	if (f == CX_Q4) {
		minus = _mm_testn_epi32_mask(key, _mm_set1_epi32(1)) & _mm_test_epi32_mask(s, s);
		s = _mm_mask_or_epi32(s, minus, s, _mm_set1_epi32(0x8000));
	}
	return _mm_mask_mov_epi32(s, *poisoned, _mm_set1_epi32(CX_POISON));
}

/* One over the scales: 0 for those of 0, and for poisoned ones, whose elements become 0. */
ALWAYS vf32 held_inverses(__m128i scales, __mmask8 poisoned, vf32 x[HELD * NV])
{
	__mmask8 there = _mm_test_epi32_mask(scales, scales) & (__mmask8)~poisoned;

	for (unsigned v = 0; poisoned && v < HELD * NV; v++)
		if (poisoned >> v / NV & 1)
			x[v] = splat(0);
	return (vf32)_mm512_broadcast_f32x4(_mm_maskz_div_ps(
		there, _mm_set1_ps(1), (__m128)_mm_slli_epi32(scales, 16)));
}

ALWAYS void write_held(enum cx_format f, unsigned char *wire, const vf32 x[HELD * NV],
		       vf32 inverses)
{
	__m512 all = (__m512)inverses;
	vf32 of[HELD] = { (vf32)_mm512_permute_ps(all, 0x00), (vf32)_mm512_permute_ps(all, 0x55),
			  (vf32)_mm512_permute_ps(all, 0xaa), (vf32)_mm512_permute_ps(all, 0xff) };
	vi32 q[HELD * NV];

	for (unsigned v = 0; v < HELD * NV; v++)
		q[v] = nearest(x[v] * of[v / NV]);
	for (unsigned b = 0; b < HELD; b += 2)
		if (f == CX_Q8)
			pack8(wire + b * cx_wire_block(f), &q[b * NV], true);
		else
			pack4(wire + b * cx_wire_block(f), &q[b * NV], true);
}

ALWAYS void encode_held(enum cx_format f, unsigned char *wire, const char *src)
{
	uint16_t scales[BLOCKS] __attribute__((aligned(CACHE_LINE)));

	for (unsigned g = 0; g < BLOCKS; g += HELD, wire += HELD * cx_wire_block(f)) {
		vf32 x[HELD * NV], inverses;
		__mmask8 poisoned;
		vu32 key[HELD];
		__m128i s;

		for (unsigned v = 0; v < HELD * NV; v++, src += VEC)
			x[v] = load_float(src);
		for (unsigned b = 0; b < HELD; b++)
			key[b] = larger_unsigned(key_of(f, x[b * NV]), key_of(f, x[b * NV + 1]));
		s = held_scales(f, fold_held(key), &poisoned);
		_mm_storel_epi64((__m128i *)(scales + g), _mm_cvtepi32_epi16(s));
		inverses = held_inverses(s, poisoned, x);
		write_held(f, wire, x, inverses);
	}
	put_scales(wire, scales, true);
}
