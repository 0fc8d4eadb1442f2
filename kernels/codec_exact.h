/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sums of encoded inputs in integers, for AVX-512; codec_body.h includes this.
 *
 * A decoded number is an integer of 8 bits times one of 8 times a power of two. Where
 * the scales of a block lie within 2^SPREAD, every partial sum is a multiple of the
 * smallest of these powers below 2^24 times it: a float without rounding, whatever the
 * order. So integers give the same sums, with a third of the work. Two inputs go at
 * once, as pairs of words, quanta in their upper bits, into one multiply-add.
 *
 * Elements of a tile are in an order of their own until they are packed, in which
 * nothing but unpacking and packing takes part.
 */
enum { SPREAD = 4, EXACT_INPUTS = 14, LOWEST = 27, HIGHEST = 227, SUMS = CX_TILE / L };

/* Of each block of a tile. */
struct factors {
	uint32_t pair[EXACT_INPUTS / 2][BLOCKS] __attribute__((aligned(CACHE_LINE)));
	float unit[BLOCKS] __attribute__((aligned(CACHE_LINE))); /* what 1 of a sum stands for */
	const unsigned char *payload[EXACT_INPUTS];
	unsigned count; /* of the inputs, with one of factor 0 if that is odd */
};

/* How far the quanta are from the lower end of their words. */
ALWAYS unsigned raised(enum cx_format f)
{
	return f == CX_Q8 ? 8 : 12;
}

/* Two inputs' factors in pairs, each of all blocks of a tile. */
ALWAYS void put_pairs(uint32_t pair[BLOCKS], __m512i a, __m512i b)
{
	const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
	const __m512i second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
	__m512i low = _mm512_unpacklo_epi16(a, b), high = _mm512_unpackhi_epi16(a, b);

	_mm512_store_si512(pair, _mm512_permutex2var_epi64(low, first, high));
	_mm512_store_si512(pair + L, _mm512_permutex2var_epi64(low, second, high));
}

/* The factors of one input's blocks: of scales of which one is 1 << least. */
ALWAYS __m512i factor_of(__m512i scale, __m512i least)
{
	const __m512i one = _mm512_set1_epi16(128);
	__m512i e = _mm512_and_si512(_mm512_srli_epi16(scale, 7), _mm512_set1_epi16(255));
	__m512i m = _mm512_ternarylogic_epi32(_mm512_set1_epi16(127), scale, one, 0xca);

	m = _mm512_sllv_epi16(m, _mm512_sub_epi16(e, least));
	m = _mm512_mask_sub_epi16(m, _mm512_movepi16_mask(scale), _mm512_setzero_si512(), m);
	return _mm512_maskz_mov_epi16(_mm512_test_epi16_mask(e, e), m);
}

/* The least exponent of each block's scales; false where sums may not be exact. */
ALWAYS bool find_least(__m512i *least, const __m512i *scale, unsigned count)
{
	const __m512i all = _mm512_set1_epi16(255);
	__m512i most = _mm512_setzero_si512();

	*least = all;
	for (unsigned k = 0; k < count; k++) {
		__m512i e = _mm512_and_si512(_mm512_srli_epi16(scale[k], 7), all);

		most = _mm512_max_epi16(most, e);
		*least = _mm512_mask_min_epi16(*least, _mm512_test_epi16_mask(e, e), *least, e);
	}
	return !(_mm512_cmpgt_epi16_mask(_mm512_sub_epi16(most, *least),
					 _mm512_set1_epi16(SPREAD)) |
		 _mm512_cmpgt_epi16_mask(most, _mm512_set1_epi16(HIGHEST)) |
		 _mm512_cmplt_epi16_mask(*least, _mm512_set1_epi16(LOWEST)));
}

ALWAYS bool find_factors(enum cx_format f, struct factors *to, const struct tile *t)
{
	const size_t at = cx_wire_bytes(f, t->at), scales = cx_wire_scales(f, CX_TILE);
	const struct cx_fuse *fuse = t->fuse;
	const unsigned count = fuse->count;
	__m512i scale[EXACT_INPUTS], least;
	int down = fuse->divisor > 1 ? __builtin_ctz(fuse->divisor) : 0;

	if (fuse->own < count || count > EXACT_INPUTS || fuse->divisor > 16 ||
	    (fuse->divisor & (fuse->divisor - 1)))
		return false;
	for (unsigned k = 0; k < count; k++) {
		to->payload[k] = (const unsigned char *)fuse->inputs[k] + at;
		scale[k] = _mm512_loadu_si512(to->payload[k] + scales);
	}
	if (!find_least(&least, scale, count))
		return false;
	to->count = (count + 1) / 2 * 2;
	if (count % 2) {
		to->payload[count] = to->payload[0];
		scale[count] = _mm512_setzero_si512();
	}
	for (unsigned k = 0; k < count; k += 2)
		put_pairs(to->pair[k / 2], factor_of(scale[k], least),
			  factor_of(scale[k + 1], least));
	least = _mm512_sub_epi16(least, _mm512_set1_epi16((short)(7 + raised(f) + down)));
	for (unsigned b = 0; b < BLOCKS; b += L, least = _mm512_shuffle_i64x2(least, least, 0xe))
		_mm512_store_si512(to->unit + b, _mm512_slli_epi32(_mm512_cvtepu16_epi32(
			_mm512_castsi512_si256(least)), 23));
	return true;
}

/* Lanes of 128 bits of a line of q8 are halves of two blocks, of q4 are four blocks: each
 * gets the number of its block. */
ALWAYS __m512i by_block(enum cx_format f, const void *numbers)
{
	const __m512i q8 = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
	const __m512i q4 = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
	__m128i some = f == CX_Q8 ? _mm_loadl_epi64(numbers) : _mm_loadu_si128(numbers);

	return _mm512_permutexvar_epi32(f == CX_Q8 ? q8 : q4, _mm512_castsi128_si512(some));
}

/* Vectors of sums that a cache line of payload makes. */
enum { LINE_Q8 = 4, LINE_Q4 = 8 };

ALWAYS void multiply_q8(__m512i s[LINE_Q8], __m512i a, __m512i b, __m512i factor)
{
	const __m512i zero = _mm512_setzero_si512();
	__m512i low = _mm512_unpacklo_epi8(a, b), high = _mm512_unpackhi_epi8(a, b);

	s[0] = _mm512_madd_epi16(_mm512_unpacklo_epi8(zero, low), factor);
	s[1] = _mm512_madd_epi16(_mm512_unpackhi_epi8(zero, low), factor);
	s[2] = _mm512_madd_epi16(_mm512_unpacklo_epi8(zero, high), factor);
	s[3] = _mm512_madd_epi16(_mm512_unpackhi_epi8(zero, high), factor);
}

ALWAYS void multiply_q4(__m512i s[LINE_Q4], __m512i a, __m512i b, __m512i factor)
{
	const __m512i top = _mm512_set1_epi16((short)0xf000);

	for (unsigned h = 0; h < 2; h++, s += 4) {
		__m512i v = h ? _mm512_unpackhi_epi16(a, b) : _mm512_unpacklo_epi16(a, b);
		__m512i v1 = _mm512_and_si512(_mm512_slli_epi16(v, 8), top);
		__m512i v2 = _mm512_and_si512(_mm512_slli_epi16(v, 4), top);

		s[0] = _mm512_madd_epi16(_mm512_slli_epi16(v, 12), factor);
		s[1] = _mm512_madd_epi16(v1, factor);
		s[2] = _mm512_madd_epi16(v2, factor);
		s[3] = _mm512_madd_epi16(_mm512_and_si512(v, top), factor);
	}
}

/* Sums of two inputs from the k-th on, of the line of payload that begins with a block. */
ALWAYS void multiply(enum cx_format f, __m512i s[LINE_Q4], const struct factors *by, unsigned k,
		     unsigned block)
{
	const size_t at = block * cx_wire_block(f);
	__m512i a = _mm512_loadu_si512(by->payload[k] + at);
	__m512i b = _mm512_loadu_si512(by->payload[k + 1] + at);
	__m512i factor = by_block(f, by->pair[k / 2] + block);

	look_far_ahead(by->payload[k] + at);
	look_far_ahead(by->payload[k + 1] + at);
	if (f == CX_Q8)
		multiply_q8(s, a, b, factor);
	else
		multiply_q4(s, a, b, factor);
}

ALWAYS void add_line(enum cx_format f, __m512i s[LINE_Q4], const struct factors *by, unsigned block)
{
	const unsigned vectors = f == CX_Q8 ? LINE_Q8 : LINE_Q4;

	multiply(f, s, by, 0, block);
	for (unsigned k = 2; k < by->count; k += 2) {
		__m512i more[LINE_Q4];

		multiply(f, more, by, k, block);
		for (unsigned v = 0; v < vectors; v++)
			s[v] = _mm512_add_epi32(s[v], more[v]);
	}
}

/* The largest of the blocks of 16 / LINES lines each, in their order. */
ALWAYS vi32 fold_lines(enum cx_format f, const vu32 *m)
{
	const __m512i q8 = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
	const __m512i q4 = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
	__m512i a = max_of_four(m), b;

	if (f == CX_Q4)
		return (vi32)_mm512_permutexvar_epi32(q4, a);
	b = max_of_four(m + 4);
	a = _mm512_max_epu32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
	return (vi32)_mm512_permutexvar_epi32(q8, a);
}

/* What is known of a line: its blocks' largest sum and smallest, without their signs; of q8 the
 * larger one of these, as a float. */
struct range {
	vu32 most[16], least[16]; /* of each line of a tile */
};

/* Sums of q8 are floats from here on: the largest of floats is found whatever their signs. */
ALWAYS void sum_line_q8(__m512i *room, struct range *to, const struct factors *by, unsigned line)
{
	enum { MAGNITUDE = 11 };
	__m512i s[LINE_Q4];
	__m512 x[LINE_Q8];

	add_line(CX_Q8, s, by, line * 2);
	for (unsigned v = 0; v < LINE_Q8; v++) {
		x[v] = _mm512_cvtepi32_ps(s[v]);
		room[line * LINE_Q8 + v] = _mm512_castps_si512(x[v]);
	}
	to->most[line] = (vu32)_mm512_range_ps(_mm512_range_ps(x[0], x[1], MAGNITUDE),
					       _mm512_range_ps(x[2], x[3], MAGNITUDE), MAGNITUDE);
}

ALWAYS void sum_line_q4(__m512i *room, struct range *to, const struct factors *by, unsigned line)
{
	__m512i s[LINE_Q4], high, low;

	add_line(CX_Q4, s, by, line * 4);
	high = low = s[0];
	for (unsigned v = 0; v < LINE_Q4; v++) {
		room[line * LINE_Q4 + v] = s[v];
		high = _mm512_max_epi32(high, s[v]);
		low = _mm512_min_epi32(low, s[v]);
	}
	to->most[line] = (vu32)larger((vi32)high, (vi32){0});
	to->least[line] = (vu32)larger(-(vi32)low, (vi32){0});
}

/* Notes the scales of a tile; inverses are those of sums. */
ALWAYS void note_exact(enum cx_format f, struct blocks *to, const struct range *range,
		       const float *units)
{
	const unsigned step = f == CX_Q8 ? 2 : 4;

	to->poisoned = false;
	for (unsigned g = 0; g < BLOCKS; g += L) {
		vf32 unit = load_float(units + g), most;
		vi32 pos = fold_lines(f, range->most + g / step);
		vi32 neg = f == CX_Q8 ? pos : fold_lines(f, range->least + g / step);

		most = f == CX_Q8 ? (vf32)pos : __builtin_convertvector(larger(pos, neg), vf32);
		note_scales(to, g, scales_of(f, false, (vi32)(most * unit), neg),
			    f == CX_Q8 ? (vi32){0} : (vi32)(pos > neg));
		*(mem *)(to->inverse + g) = (mem)(load_float(to->inverse + g) * unit);
	}
}

/* Words of 4 elements each, from vectors of each word's first elements, second ones, ... */
ALWAYS __m512i nibbles(const __m512i word[4])
{
	const __m512i seven = _mm512_set1_epi16(7);
	__m512i w[4], low, high;

	for (unsigned i = 0; i < 4; i++)
		w[i] = _mm512_slli_epi16(_mm512_min_epi16(word[i], seven), i * 4);
	low = _mm512_ternarylogic_epi32(_mm512_set1_epi16(0x000f), w[0], w[1], 0xca);
	high = _mm512_ternarylogic_epi32(_mm512_set1_epi16(0x0f00), w[2], w[3], 0xca);
	return _mm512_ternarylogic_epi32(_mm512_set1_epi16(0x00ff), low, high, 0xca);
}

ALWAYS __m512i pack_line(enum cx_format f, const __m512i q[LINE_Q4])
{
	__m512i word[4];

	if (f == CX_Q8)
		return _mm512_packs_epi16(_mm512_packs_epi32(q[0], q[1]),
					  _mm512_packs_epi32(q[2], q[3]));
	for (unsigned i = 0; i < 4; i++)
		word[i] = _mm512_packs_epi32(q[i], q[4 + i]);
	return nibbles(word);
}

ALWAYS void write_line(enum cx_format f, unsigned char *wire, const __m512i *room,
		       const struct blocks *b, unsigned line, bool around)
{
	const unsigned vectors = f == CX_Q8 ? LINE_Q8 : LINE_Q4, step = f == CX_Q8 ? 2 : 4;
	vf32 inverse = (vf32)by_block(f, b->inverse + line * step);
	__m512i q[LINE_Q4], out;

	room += line * vectors;
	for (unsigned v = 0; v < vectors; v++) {
		vf32 x = f == CX_Q8 ? (vf32)room[v] : (vf32)_mm512_cvtepi32_ps(room[v]);

		q[v] = (__m512i)nearest(x * inverse);
	}
	out = pack_line(f, q);
	if (around)
		_mm512_stream_si512((__m512i *)wire + line, out);
	else
		_mm512_storeu_si512((__m512i *)wire + line, out);
}

/*
 * Two tiles are under way: while one is summed up, the one before it is encoded.
 * So memory is read at an even pace, and no division is waited for.
 */
struct exact {
	unsigned char *wire; /* where the one before goes, NULL: there is none */
	struct factors by;
	struct blocks b;
	__m512i room[2][SUMS + 10];
	unsigned now; /* the room of the one before */
};

ALWAYS void exact_begin(struct exact *x)
{
	x->wire = NULL;
	x->now = 0;
}

/* Goes through the lines of both, or one. */
ALWAYS void exact_lines(enum cx_format f, struct exact *x, struct range *range, bool next,
			bool before, bool around)
{
	const unsigned lines = f == CX_Q8 ? 16 : 8;
	__m512i *room = x->room[!x->now];
	const __m512i *from = x->room[x->now];

	for (unsigned i = 0; i < lines; i++) {
		if (next && f == CX_Q8)
			sum_line_q8(room, range, &x->by, i);
		else if (next)
			sum_line_q4(room, range, &x->by, i);
		if (before)
			write_line(f, x->wire, from, &x->b, i, around);
	}
	if (before)
		put_scales(x->wire + lines * CACHE_LINE, x->b.wire, around);
}

ALWAYS void exact_end(enum cx_format f, struct exact *x, bool around)
{
	if (f != CX_BF16 && x->wire)
		exact_lines(f, x, NULL, false, true, around);
	x->wire = NULL;
}

/* Takes a tile that is to be encoded to nearest; false: not taken, as sums would not be exact. */
ALWAYS bool exact_next(enum cx_format f, struct exact *x, unsigned char *wire,
		       const struct tile *t, bool around)
{
	struct range range;

	if (f == CX_BF16 || t->residual || t->rounding.stochastic || !find_factors(f, &x->by, t))
		return false;
	if (x->wire)
		exact_lines(f, x, &range, true, true, around);
	else
		exact_lines(f, x, &range, true, false, around);
	note_exact(f, &x->b, &range, x->by.unit);
	x->wire = wire;
	x->now = !x->now;
	return true;
}
