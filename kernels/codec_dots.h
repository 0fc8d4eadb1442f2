/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sums of inputs in q4 by dot products of bfloat16, for the AVX-512 that has them (BF16);
 * codec_avx512.c includes this.
 *
 * A scale is a bfloat16, and so is a quantum. Where the scales of a block lie within 2^NEAR,
 * every partial sum is a multiple of the smallest one's last place and below 2^24 times it:
 * exact, whatever the order, as in codec_exact.h, but a float at once, without a factor or a
 * unit of its own. A quantum q goes in as -(136 + q), which is its nibble with other bits put
 * in; for it a sum begins as 136 times all scales. So what comes out is the opposite of the
 * sum. Of equal magnitudes the positive one is taken for the larger: the negative one of sums.
 *
 * A line of payload is four blocks, a lane of 128 bits each. A vector of sums is one nibble of
 * each word of half of each lane.
 */
#define DOTS ALWAYS __attribute__((target("avx512bf16")))

enum { NEAR = 5, LINES = BLOCKS / 4, LINE = LINE_Q4, LAG = 2 };

/*
 * Two tiles are under way: sums of the next one are written LAG lines behind, so that there is
 * something to do while scales are divided. Numbers of blocks are in the order of words that were
 * unpacked, those of scales and inverses in that of lines within lanes.
 */
struct dots {
	uint32_t pair[EXACT_INPUTS / 2][BLOCKS] __attribute__((aligned(CACHE_LINE)));
	float start[BLOCKS] __attribute__((aligned(CACHE_LINE)));
	const unsigned char *payload[EXACT_INPUTS];
	unsigned char *wire; /* where the tile before goes, NULL: there is none */
	__m512 share;        /* 1 / divisor */
	__m512 most[LINES];
	__m512 inverse[2];
	__m512i scale;
	__m512 room[2][SUMS + 10];
	unsigned now; /* the room of the tile before */
};

/* ---- inputs ---- */

/* The numbers of a line's blocks, a lane each: in the first half are those of the lines 0, 2, 4
 * and 6. */
ALWAYS __m512i spread_line(const void *numbers, unsigned line)
{
	const __m512i lanes = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
	const uint32_t *of_line = (const uint32_t *)numbers + line % 2 * L + line / 2 * 4;

	return _mm512_permutexvar_epi32(lanes, _mm512_castsi128_si512(
		_mm_load_si128((const __m128i *)of_line)));
}

/* Of the scales of a block, twice as words, without their signs; least: less 1, so that 0 is the
 * largest. */
struct bounds {
	__m512i most, least;
};

/* The scales of an input. */
ALWAYS __m512i take_scales(struct dots *x, const struct tile *t, unsigned k, struct bounds *to)
{
	const unsigned char *p = t->fuse->inputs[k];
	__m512i scale, u;

	x->payload[k] = p + cx_wire_bytes(CX_Q4, t->at);
	scale = _mm512_loadu_si512(x->payload[k] + cx_wire_scales(CX_Q4, CX_TILE));
	u = _mm512_add_epi16(scale, scale);
	to->most = _mm512_max_epu16(to->most, u);
	to->least = _mm512_min_epu16(to->least, _mm512_sub_epi16(u, _mm512_set1_epi16(1)));
	return scale;
}

/* Are all scales 0, or ones of which sums are exact? Of a power of two that is the least, the
 * exponent is taken for one less. */
ALWAYS bool near_enough(const struct bounds *b)
{
	__m512i apart = _mm512_sub_epi16(_mm512_srli_epi16(b->most, 8),
					 _mm512_srli_epi16(b->least, 8));

	return !(_mm512_cmpgt_epi16_mask(apart, _mm512_set1_epi16(NEAR)) |
		 _mm512_cmplt_epu16_mask(b->least, _mm512_set1_epi16((LOWEST << 8) - 1)) |
		 _mm512_cmpge_epu16_mask(b->most, _mm512_set1_epi16((short)((HIGHEST + 1) << 8))));
}

DOTS bool find_dots(struct dots *x, const struct tile *t, unsigned count)
{
	const __m512bh offset = (__m512bh)_mm512_set1_epi16(0x4308); /* 136 */
	struct bounds bounds = { _mm512_setzero_si512(), _mm512_set1_epi16(-1) };
	__m512 start[2] = { _mm512_setzero_ps(), _mm512_setzero_ps() };

	for (unsigned k = 0; k < count; k += 2) {
		__m512i a = take_scales(x, t, k, &bounds), b = _mm512_setzero_si512(), low, high;

		x->payload[k + 1] = x->payload[k];
		if (k + 1 < count)
			b = take_scales(x, t, k + 1, &bounds);
		low = _mm512_unpacklo_epi16(a, b);
		high = _mm512_unpackhi_epi16(a, b);
		_mm512_store_si512(x->pair[k / 2], low);
		_mm512_store_si512(x->pair[k / 2] + L, high);
		start[0] = _mm512_dpbf16_ps(start[0], (__m512bh)low, offset);
		start[1] = _mm512_dpbf16_ps(start[1], (__m512bh)high, offset);
	}
	_mm512_store_ps(x->start, start[0]);
	_mm512_store_ps(x->start + L, start[1]);
	return near_enough(&bounds);
}

/* ---- sums ---- */

/* Adds the lowest nibbles of words, of two inputs in turn. */
DOTS __m512 add_dot(__m512 sum, __m512i nibbles, __m512i scales)
{
	const __m512i lowest = _mm512_set1_epi16(15), rest = _mm512_set1_epi16((short)0xc308);
	__m512i quanta = _mm512_ternarylogic_epi32(nibbles, lowest, rest, 0x6a);

	return _mm512_dpbf16_ps(sum, (__m512bh)quanta, (__m512bh)scales);
}

DOTS void add_dots(__m512 s[4], __m512i words, __m512i scales)
{
	s[1] = add_dot(s[1], _mm512_srli_epi16(words, 4), scales);
	s[2] = add_dot(s[2], _mm512_srli_epi16(words, 8), scales);
	s[3] = add_dot(s[3], _mm512_srli_epi16(words, 12), scales);
	s[0] = add_dot(s[0], words, scales);
}

/* The larger magnitude, with its sign; of two the same, the positive one. */
ALWAYS __m512 larger_of(__m512 a, __m512 b)
{
	return _mm512_range_ps(a, b, 7);
}

DOTS void sum_dots(struct dots *x, __m512 *room, unsigned count, unsigned line)
{
	const __m512 start = (__m512)spread_line(x->start, line);
	__m512 s[LINE] = { start, start, start, start, start, start, start, start };

	for (unsigned k = 0; k < count; k += 2) {
		const unsigned char *pa = x->payload[k] + line * CACHE_LINE;
		const unsigned char *pb = x->payload[k + 1] + line * CACHE_LINE;
		__m512i a = _mm512_loadu_si512(pa), b = _mm512_loadu_si512(pb);
		__m512i scales = spread_line(x->pair[k / 2], line);

		look_ahead(pa, 1);
		look_ahead(pb, 1);
		add_dots(s, _mm512_unpacklo_epi16(a, b), scales);
		add_dots(s + 4, _mm512_unpackhi_epi16(a, b), scales);
	}
	for (unsigned v = 0; v < LINE; v++)
		room[line * LINE + v] = s[v];
	for (unsigned v = 0; v < 4; v++)
		s[v] = larger_of(s[v], s[v + 4]);
	x->most[line] = larger_of(larger_of(s[0], s[1]), larger_of(s[2], s[3]));
}

/* ---- scales ---- */

/* The largest of the blocks of four lines, a lane's in the order of the lines. */
ALWAYS __m512 fold_dots(const __m512 m[4])
{
	__m512 a = larger_of(_mm512_unpacklo_ps(m[0], m[1]), _mm512_unpackhi_ps(m[0], m[1]));
	__m512 b = larger_of(_mm512_unpacklo_ps(m[2], m[3]), _mm512_unpackhi_ps(m[2], m[3]));

	return larger_of((__m512)_mm512_unpacklo_pd((__m512d)a, (__m512d)b),
			 (__m512)_mm512_unpackhi_pd((__m512d)a, (__m512d)b));
}

/* As scales_of and note_scales, for opposites of sums: no poison comes of them, nor a scale that
 * is too large. */
ALWAYS __m512i scales_of_dots(__m512 most, __m512 share, __m512 *inverse)
{
	const __m512i sign = _mm512_set1_epi32(INT32_MIN), rest = _mm512_set1_epi32(0x7fff0000);
	__m512i key = (__m512i)_mm512_mul_ps(most, share);
	__m512i size = _mm512_andnot_si512(sign, key), s;
	__mmask16 live = _mm512_cmpgt_epi32_mask(size, _mm512_set1_epi32(CX_TINY - 1));

	s = _mm512_add_epi32(size, _mm512_set1_epi32(0xffff - (3 << 23)));
	s = _mm512_ternarylogic_epi32(rest, s, _mm512_and_si512(sign, key), 0xea);
	*inverse = _mm512_maskz_div_ps(live, _mm512_sub_ps(_mm512_setzero_ps(), share), (__m512)s);
	return _mm512_maskz_srli_epi32(live, s, 16);
}

ALWAYS void note_dots(struct dots *x, __m512i *scale, __m512 inverse[2])
{
	const __m512i by_line = _mm512_set_epi16(31, 23, 15, 7, 30, 22, 14, 6, 29, 21, 13, 5, 28,
						 20, 12, 4, 27, 19, 11, 3, 26, 18, 10, 2, 25, 17,
						 9, 1, 24, 16, 8, 0);
	__m512i first = scales_of_dots(fold_dots(x->most), x->share, &inverse[0]);
	__m512i second = scales_of_dots(fold_dots(x->most + 4), x->share, &inverse[1]);

	*scale = _mm512_permutexvar_epi16(by_line, _mm512_packus_epi32(first, second));
}

/* ---- quanta ---- */

/* Half a lane's sums each: the quanta of a nibble as words. */
ALWAYS __m512i dot_words(const __m512 *s, __m512 by)
{
	return _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(s[0], by)),
				  _mm512_cvtps_epi32(_mm512_mul_ps(s[4], by)));
}

/* A lane's quanta of one nibble, then those of the next but one. */
ALWAYS __m512i dot_bytes(const __m512 *s, __m512 by)
{
	return _mm512_min_epi8(_mm512_packs_epi16(dot_words(s, by), dot_words(s + 2, by)),
			       _mm512_set1_epi8(7));
}

ALWAYS void write_dots(unsigned char *wire, const __m512 *room, const __m512 inverse[2],
		       unsigned line, bool around)
{
	const __m512i in_turn = _mm512_broadcast_i32x4(
		_mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15));
	__m512 by = _mm512_permutevar_ps(inverse[line / 4], _mm512_set1_epi32((int)line % 4));
	__m512i even = dot_bytes(room + line * LINE, by);
	__m512i odd = _mm512_slli_epi16(dot_bytes(room + line * LINE + 1, by), 4);
	__m512i out = _mm512_ternarylogic_epi32(even, odd, _mm512_set1_epi8(15), 0xe4);

	put((char *)wire + line * CACHE_LINE, (mem)_mm512_shuffle_epi8(out, in_turn), around);
}

/* ---- tiles ---- */

/*
 * Goes through the lines of the next tile of so many inputs, if that is not 0, and of the one
 * before, if there is one. The loop over lines is not to be unrolled: the processor's own
 * prefetching goes by instructions (from memory a tenth slower, Zen 5).
 */
DOTS void dots_lines(struct dots *x, unsigned count, bool before, bool around)
{
	const __m512 *from = x->room[x->now];
	const __m512 inverse[2] = { x->inverse[0], x->inverse[1] };
	const __m512i scale = x->scale;

	for (unsigned i = 0; i < LAG && count; i++)
		sum_dots(x, x->room[!x->now], count, i);
	for (unsigned i = LAG; i < LINES && count; i++) {
		sum_dots(x, x->room[!x->now], count, i);
		if (before)
			write_dots(x->wire, from, inverse, i - LAG, around);
	}
	if (count)
		note_dots(x, &x->scale, x->inverse);
	if (!before)
		return;
	for (unsigned i = count ? LINES - LAG : 0; i < LINES; i++)
		write_dots(x->wire, from, inverse, i, around);
	put((char *)x->wire + LINES * CACHE_LINE, (mem)scale, around);
}

DOTS void dots_end(struct dots *x, bool around)
{
	if (x->wire)
		dots_lines(x, 0, true, around);
	x->wire = NULL;
}

/* As exact_next. */
DOTS bool dots_next(struct dots *x, unsigned char *wire, const struct tile *t, bool around)
{
	const struct cx_fuse *fuse = t->fuse;
	const unsigned count = fuse->count;

	if (t->residual || t->rounding.stochastic || fuse->own < count || count > EXACT_INPUTS ||
	    fuse->divisor > 16 || (fuse->divisor & (fuse->divisor - 1)))
		return false;
	if (!(count == 4 ? find_dots(x, t, 4) : find_dots(x, t, count)))
		return false;
	if (!x->wire)
		dots_lines(x, count, false, around);
	else if (count == 4)
		dots_lines(x, 4, true, around);
	else
		dots_lines(x, count, true, around);
	x->wire = wire;
	x->now = !x->now;
	return true;
}

/* As fuse. */
__attribute__((target("avx512bf16")))
static void fuse_q4_dots(void *dst, const struct cx_fuse *f, size_t n)
{
	struct tile t = { .residual = f->residual, .decay = f->decay, .fuse = f,
			  .rounding = f->rounding };
	const bool around = far_away(dst, cx_wire_bytes(CX_Q4, n));
	unsigned char *w = dst;
	struct dots x;

	x.wire = NULL;
	x.now = 0;
	x.share = _mm512_set1_ps(1.0f / (float)(f->divisor ? f->divisor : 1));
	for (; n - t.at >= CX_TILE; t.at += CX_TILE) {
		if (!dots_next(&x, w, &t, around)) {
			dots_end(&x, around);
			fuse_tile(CX_Q4, w, &t, around);
		}
		t.rounding.index += CX_TILE;
		t.residual = t.residual ? t.residual + CX_TILE : NULL;
		w += cx_wire_bytes(CX_Q4, CX_TILE);
	}
	dots_end(&x, around);
	if (around)
		stream_end();
	if (t.at < n)
		fuse_rest(CX_Q4, w, f, t.at, n - t.at);
}
