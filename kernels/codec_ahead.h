/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whole tiles to q8 or q4, to nearest, for AVX-512; codec_body.h includes this. Floats that go
 * around the caches are codec_held.h's. All others go through in groups of L blocks, as many as
 * a vector has lanes for their scales, and a group in units of four blocks. While one group is
 * written the next is measured, unit by unit in turn:
 *
 *     measured    g+1:2   g+1:3   g+2:0   g+2:1
 *     written         g:0     g:1     g:2     g:3
 *     scales of g+1       folded  rounded inverted
 *
 * What takes long is so begun a unit before it is wanted: a processor looks ahead of what it
 * waits for by some hundred instructions, a unit or two (Zen 5: 3.8 cycles for 16 floats in the
 * L2 when a tile was measured and then written, 2.3 this way).
 *
 * From memory, short floats that were measured are kept in a room, and not read a second time
 * from where they lie: that costs bandwidth though they are in the L1 (Zen 5: bfloat16 to q4
 * has 0.82 of what memory permits without a room, 0.96 with one).
 */
enum { UNIT = 4, UNITS = L / UNIT, SHORT_ROOM = 2 * L * CX_BLOCK * 2 };

/* Units that are yet to be measured. */
struct units {
	const char *next, *last;
};

/* The largest keys of the blocks of a group as floats; and bit 31, clear: it is negative. */
struct keys {
	__m512i most, sign;
};

/* What is computed, loaded and stored before this is so for a compiler, too: left alone, clang puts
 * all that is measured after all that is written. */
ALWAYS __m512i now(__m512i v)
{
	__asm__ volatile("" : "+v"(v) : : "memory");
	return v;
}

/* Measures a unit; keeps it at `room` unless that is NULL. */
ALWAYS __m512i measure_unit(enum cx_format f, collx_type type, struct units *from, char *room)
{
	const size_t len = UNIT * CX_BLOCK * bytes_of(type);
	const char *src = from->next;
	vu32 key[UNIT];

	from->next += src < from->last ? len : 0; /* there is no next one: the same again */
	if (room)
		look_ahead_once(src, len);
	for (size_t i = 0; room && i < len; i += VEC)
		*(mem *)(room + i) = *(const mem *)(src + i);
	if (type != COLLX_FLOAT32)
		return now(measure_words(f, src));
	for (unsigned b = 0; b < UNIT; b++, src += NV * VEC)
		key[b] = larger_unsigned(key_of(f, load_float(src)),
					 key_of(f, load_float(src + VEC)));
	return now(max_of_four(key));
}

ALWAYS struct keys fold_floats(enum cx_format f, const __m512i unit[UNITS])
{
	__m512i a = max_of_halves(unit[0], unit[1]), b = max_of_halves(unit[2], unit[3]);

	a = _mm512_max_epu32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
	return (struct keys){ f == CX_Q4 ? _mm512_srli_epi32(a, 1) : a, _mm512_slli_epi32(a, 31) };
}

ALWAYS struct keys fold_shorts(enum cx_format f, collx_type type, const __m512i unit[UNITS])
{
	__m256i key = fold_words(unit), h = f == CX_Q4 ? _mm256_srli_epi16(key, 1) : key;
	__m512i wide = _mm512_cvtepu16_epi32(key), most;

	if (type == COLLX_FLOAT16)
		most = _mm512_castps_si512(_mm512_cvtph_ps(h));
	else
		most = _mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16);
	return (struct keys){ most, _mm512_slli_epi32(wide, 31) };
}

ALWAYS struct keys fold_group(enum cx_format f, collx_type type, const __m512i unit[UNITS])
{
	return type == COLLX_FLOAT32 ? fold_floats(f, unit) : fold_shorts(f, type, unit);
}

/* The scales as floats, as scales_of and note_scales but for poison. */
ALWAYS __m512i scale_group(enum cx_format f, struct keys k)
{
	const __m512i top = _mm512_set1_epi32((f == CX_Q8 ? CX_Q8_TOP : CX_Q4_TOP) << 16);
	const __m512i upper = _mm512_set1_epi32(INT32_MIN >> 15);
	__mmask16 live = _mm512_cmpge_epi32_mask(k.most, _mm512_set1_epi32(CX_TINY));
	__m512i s = k.most;

	if (f == CX_Q8)
		s = (__m512i)((vf32)s * cx_float_from_bits(CX_127TH));
	s = _mm512_add_epi32(s, _mm512_set1_epi32(0xffff - (f == CX_Q8 ? 0 : 3 << 23)));
	s = _mm512_min_epi32(_mm512_and_si512(s, upper), top);
	if (f == CX_Q4) /* s or not sign, of the upper bit */
		s = _mm512_ternarylogic_epi32(s, k.sign, _mm512_set1_epi32(INT32_MIN), 0xf2);
	return now(_mm512_maskz_mov_epi32(live, s));
}

static __attribute__((noinline)) void note_poison(enum cx_format f, struct blocks *to,
						  unsigned block, struct keys k)
{
	note_keys(f, to, block, (vi32)k.most, (vi32)k.sign);
}

/* Notes the scales of the group that begins with a block. */
ALWAYS void note_group(enum cx_format f, struct blocks *to, unsigned block, struct keys k,
		       __m512i scale)
{
	__mmask16 poisoned = _mm512_cmpge_epi32_mask(k.most, _mm512_set1_epi32(CX_INF32));
	__m512 inverse = _mm512_maskz_div_ps(_mm512_test_epi32_mask(scale, scale),
					     _mm512_set1_ps(1), _mm512_castsi512_ps(scale));

	if (block == 0)
		to->poisoned = false;
	_mm512_store_ps(to->inverse + block, inverse);
	_mm256_store_si256((__m256i *)(to->wire + block),
			   narrowed(_mm512_cvtepi32_epi16(_mm512_srli_epi32(scale, 16))));
	if (poisoned)
		note_poison(f, to, block, k);
}

ALWAYS __m512i bytes_of_f32(const char *src, const float inverse[2])
{
	vi32 q[PAIR];

	for (unsigned v = 0; v < PAIR; v++)
		q[v] = nearest(load_float(src + v * VEC) * inverse[v / NV]);
	return to_bytes(q);
}

ALWAYS void write_unit(enum cx_format f, collx_type type, unsigned char *wire, const char *src,
		       const float *inverse, bool around)
{
	for (unsigned k = 0; k < UNIT; k += 2) {
		const char *pair = src + k * CX_BLOCK * bytes_of(type);
		__m512i q = type == COLLX_FLOAT32  ? bytes_of_f32(pair, inverse + k) :
			    type == COLLX_BFLOAT16 ? bytes_of_bf16(pair, inverse + k) :
						     bytes_of_f16(pair, inverse + k);

		if (f == CX_Q8)
			put((char *)wire + k * cx_wire_block(f), (mem)q, around);
		else
			put_nibbles(wire + k * cx_wire_block(f), q, around);
	}
}

/* Where a group goes that was measured. */
struct group {
	unsigned char *wire;
	const char *src;
	const float *inverse;
	unsigned block; /* its first one's number in its tile */
};

ALWAYS void write_part(enum cx_format f, collx_type type, const struct group *g, unsigned unit,
		       bool around)
{
	const unsigned first = unit * UNIT;

	write_unit(f, type, g->wire + first * cx_wire_block(f),
		   g->src + first * CX_BLOCK * bytes_of(type), g->inverse + first, around);
}

/* Writes a group and measures what comes two units later. */
ALWAYS void step_group(enum cx_format f, collx_type type, const struct group *g,
		       struct units *from, __m512i unit[UNITS], struct blocks *next, char *room[2],
		       bool around)
{
	const size_t len = UNIT * CX_BLOCK * bytes_of(type);
	struct keys k;
	__m512i scale;

	unit[2] = measure_unit(f, type, from, around ? room[1] + 2 * len : NULL);
	write_part(f, type, g, 0, around);
	unit[3] = measure_unit(f, type, from, around ? room[1] + 3 * len : NULL);
	k = fold_group(f, type, unit);
	write_part(f, type, g, 1, around);
	scale = scale_group(f, k);
	unit[0] = measure_unit(f, type, from, around ? room[0] : NULL);
	write_part(f, type, g, 2, around);
	note_group(f, next, L - g->block, k, scale);
	unit[1] = measure_unit(f, type, from, around ? room[0] + len : NULL);
	write_part(f, type, g, 3, around);
}

static __attribute__((noinline)) void write_poisoned(enum cx_format f, collx_type type,
						     unsigned char *wire, const char *src,
						     const struct blocks *b)
{
	write_tile(f, wire, type, src, b, NULL, NULL, false);
}

/* The scales at the end of a tile; if one of its blocks is poisoned, all of it once more. */
ALWAYS void end_tile(enum cx_format f, collx_type type, unsigned char *wire, const char *src,
		     const struct blocks *b, bool around)
{
	if (b->poisoned)
		write_poisoned(f, type, wire, src, b);
	else
		put_scales(wire + BLOCKS * cx_wire_block(f), b->wire, around);
}

/* The first group, and half of the second. */
ALWAYS void first_group(enum cx_format f, collx_type type, struct units *from,
			__m512i unit[UNITS], struct blocks *b, char *room, bool around)
{
	const size_t len = UNIT * CX_BLOCK * bytes_of(type);
	struct keys k;

	for (unsigned u = 0; u < UNITS; u++)
		unit[u] = measure_unit(f, type, from, around ? room + u * len : NULL);
	k = fold_group(f, type, unit);
	note_group(f, b, 0, k, scale_group(f, k));
	for (unsigned u = 0; u < 2; u++)
		unit[u] = measure_unit(f, type, from, around ? room + (UNITS + u) * len : NULL);
}

ALWAYS void encode_groups(enum cx_format f, collx_type type, unsigned char *wire, const char *src,
			  size_t tiles, bool around)
{
	const size_t in = L * CX_BLOCK * bytes_of(type), out = L * cx_wire_block(f);
	char room[SHORT_ROOM] __attribute__((aligned(CACHE_LINE)));
	struct units from = { src, src + tiles * 2 * in - in / UNITS };
	struct blocks b[2];
	__m512i unit[UNITS];

	first_group(f, type, &from, unit, &b[0], room, around);
	for (size_t t = 0; t < tiles; t++, src += 2 * in, wire += cx_wire_bytes(f, CX_TILE)) {
		struct blocks *this = &b[t % 2];

		for (unsigned h = 0; h < 2; h++) {
			char *half[2] = { room + h * in, room + !h * in };
			struct group g = { wire + h * out, around ? half[0] : src + h * in,
					   this->inverse + h * L, h * L };

			step_group(f, type, &g, &from, unit, h ? &b[!(t % 2)] : this, half, around);
		}
		end_tile(f, type, wire, src, this, around);
	}
}
