/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The codecs of a vector variant, written once. A variant's file includes its
 * words_NAME.h and defines for blocks of NV vectors of L lanes:
 *
 *   larger, smaller              of two signed integers; larger_unsigned, larger_short
 *   limit                        to between -top and top; NaN stays
 *   product_of, add_product      of an integer and a scale: exact, not -0; and added
 *   rounded_product              of an integer of 8 bits and a scale below 2^STEEP, rounded
 *                                to bf16, not -0
 *   canonical                    any NaN becomes CX_NAN32
 *   turn                         lanes rotated by a bit to the left
 *   fold_max                     the largest lane of each of L unsigned vectors, in a vector
 *   nearest                      floats to the nearest integers, ties to even
 *   pack8, pack4                 the integers of two blocks, -128 to 127, to their payloads
 *                                of q8 and, cut to at most 7, q4
 *   unpack8                      and back
 *   decode4                      a block of q4 times its scale, by one of these products
 *   interleave                   two vectors of 64-bit lanes, lane by lane, to memory
 *   upper_halves                 of the lanes of two vectors, in one
 *   lanes_of                     a bit for each lane of a mask
 *   keep                         selected lanes of a vector, and their indices, to memory;
 *                                room for L is there
 *
 * A tile goes through in two steps: the extremes of its blocks, then, with the
 * scales of all blocks from a few divisions, the quanta. In between the elements
 * stay in the L1 cache: where they lie if they are floats, else as floats in a
 * buffer. The rest at the end of an array is the portable variant's.
 */
#include "kernels/codec_list.h"
#include "kernels/element.h"

#define CACHE_LINE 64
enum { BLOCKS = CX_TILE / CX_BLOCK };

/* What a tile is made of; pointers and numbers are the tile's own. */
struct tile {
	const char *src;
	float *residual;
	float decay;
	const struct cx_fuse *fuse; /* at whose element `at` the tile begins */
	size_t at;
	struct cx_rounding rounding;
	const struct inputs *inputs; /* fuse's, at this tile */
};

/* The encoded inputs of a tile. */
struct inputs {
	const unsigned char *payload[CX_INPUTS];
	float scale[CX_INPUTS][BLOCKS] __attribute__((aligned(CACHE_LINE)));
};

/* What is known of the blocks of a tile. */
struct blocks {
	float inverse[BLOCKS] __attribute__((aligned(CACHE_LINE)));
	float scale[BLOCKS] __attribute__((aligned(CACHE_LINE)));
	uint16_t wire[BLOCKS] __attribute__((aligned(CACHE_LINE)));
	bool poisoned; /* one at least */
};

ALWAYS size_t bytes_of(collx_type t)
{
	return t == COLLX_FLOAT32 ? 4 : 2;
}

ALWAYS vf32 splat(float f)
{
	return f - (vf32){0}; /* not plus: that would be an addition, because of -0 */
}

ALWAYS vf32 load_float(const void *p)
{
	return (vf32)*(const mem *)p;
}

/*
 * Asks for the cache lines of len bytes a while after p, since the processor stops
 * looking ahead where a page ends. What lies beyond an array is not touched by it.
 * Streams of a few bytes an element gain most (4 inputs fused: 2.5 to 3.7 G elements/s
 * from memory, Zen 4); floats that are quantized want it no nearer than the L2 and no farther
 * than this, others not at all.
 */
enum { AHEAD = 2048 };

ALWAYS void look_ahead(const void *p, size_t len)
{
	for (size_t i = 0; i < len; i += CACHE_LINE)
		__builtin_prefetch((const void *)((uintptr_t)p + AHEAD + i));
}

ALWAYS void look_ahead_l2(const void *p, size_t len)
{
	for (size_t i = 0; i < len; i += CACHE_LINE)
		__builtin_prefetch((const void *)((uintptr_t)p + AHEAD + i), 0, 2);
}

/* Several streams at once need requests farther away than the L1 has room for (4 inputs of
 * q8: 0.58 to 0.74 of what memory permits, Zen 4; Zen 5: with 1 KiB in place of the nearer one
 * 0.85, as it is 0.91). */
ALWAYS void look_far_ahead(const void *p)
{
	__builtin_prefetch((const void *)((uintptr_t)p + 2560));
	__builtin_prefetch((const void *)((uintptr_t)p + 4096), 0, 2);
}

ALWAYS vf32 load_as(collx_type t, const char *array, size_t i)
{
	if (t == COLLX_FLOAT32)
		return load_float(array + i * 4);
	return t == COLLX_FLOAT16 ? load_f16(array + i * 2) : load_bf16(array + i * 2);
}

/* ---- stochastic rounding ---- */

/* The random numbers of a tile. */
static void draw(uint16_t random[CX_TILE], const struct cx_rounding *r)
{
	enum { AT_ONCE = VEC / 8 };
	vu64 counter = {0};

	for (unsigned i = 0; i < AT_ONCE; i++)
		counter[i] = r->index / 8 + i;
	for (size_t i = 0; i < CX_TILE; i += AT_ONCE * 8, counter += AT_ONCE) {
		vu64 c0 = counter, c1 = counter >> 32, c2 = {0}, c3 = {0};
		uint32_t k0 = (uint32_t)r->seed, k1 = (uint32_t)(r->seed >> 32);

		for (unsigned round = 0; round < 7; round++) {
			vu64 p0 = product(c0, (vu64){0} + 0xd2511f53u);
			vu64 p1 = product(c2, (vu64){0} + 0xcd9e8d57u);

			c0 = (p1 >> 32) ^ c1 ^ k0;
			c2 = (p0 >> 32) ^ c3 ^ k1;
			c1 = p1;
			c3 = p0;
			k0 += 0x9e3779b9u;
			k1 += 0xbb67ae85u;
		}
		interleave(random + i, (c0 & 0xffffffff) | c1 << 32, (c2 & 0xffffffff) | c3 << 32);
	}
}

/* ---- where elements come from ---- */

/* The elements of two blocks: more to do at once than those of one. */
enum { PAIR = 2 * NV };
typedef void make_fn(vf32 x[PAIR], const struct tile *t, size_t block);

ALWAYS void make_as(collx_type type, vf32 x[PAIR], const struct tile *t, size_t block)
{
	for (unsigned v = 0; v < PAIR; v++)
		x[v] = load_as(type, t->src, block * CX_BLOCK + v * L);
}

ALWAYS void feed_back(vf32 x[PAIR], const struct tile *t, size_t block)
{
	for (unsigned v = 0; v < PAIR; v++)
		x[v] = x[v] + t->decay * load_float(t->residual + block * CX_BLOCK + v * L);
}

ALWAYS void decode_block(enum cx_format f, vf32 y[NV], const unsigned char *payload, float scale)
{
	vi32 q[NV];

	if (f == CX_Q4) {
		decode4(y, payload, splat(scale), product_of);
		return;
	}
	if (f == CX_Q8)
		unpack8(q, payload);
	for (unsigned v = 0; v < NV; v++)
		y[v] = f == CX_BF16 ? load_bf16(payload + v * L * 2) :
				      product_of(q[v], splat(scale));
}

/* The same rounded to bf16, of q8 and q4 with scales below 2^STEEP. */
ALWAYS void decode_rounded(enum cx_format f, vf32 y[NV], const unsigned char *payload, float scale)
{
	vi32 q[NV];

	if (f == CX_Q4) {
		decode4(y, payload, splat(scale), rounded_product);
		return;
	}
	unpack8(q, payload);
	for (unsigned v = 0; v < NV; v++)
		y[v] = rounded_product(q[v], splat(scale));
}

/* As cx_scale_value. Returns whether all but NaN are below 2^exponent. */
ALWAYS bool scale_values(float value[BLOCKS], const unsigned char *wire, int exponent)
{
	const uint32_t bound = (uint32_t)(exponent + 127) << 7;
	vi32 large = {0};

	for (unsigned b = 0; b < BLOCKS; b += L) {
		vu32 s = load_short(wire + b * 2), e = s & 0x7f80;

		large |= (vi32)(e >= bound) & (vi32)(e != 0x7f80);
		s = (vu32)PICK(e == 0x7f80, (vu32){0} + CX_NAN32, s << 16);
		*(mem *)(value + b) = (mem)(s & (vu32)(e != 0));
	}
	return !lanes_of(large);
}

/* Scales from which on 128 times one may not be finite in a type: a product of them is no
 * longer exact, or has to be limited. */
ALWAYS int safe_exponent(collx_type t)
{
	return t == COLLX_FLOAT16 ? 8 : 120;
}

/* Adds encoded inputs to sums, which are never -0: it does not matter whether a product is. */
ALWAYS void add_encoded(enum cx_format f, vf32 x[PAIR], const struct inputs *in, unsigned first,
			unsigned end, size_t block)
{
	for (unsigned k = first; k < end; k++) {
		const unsigned char *payload = in->payload[k] + block * cx_wire_block(f);

		look_ahead(payload, 2 * cx_wire_block(f));
		for (unsigned b = 0; b < 2; b++, payload += cx_wire_block(f)) {
			vf32 scale = splat(f == CX_BF16 ? 0 : in->scale[k][block + b]);
			vf32 y[NV];
			vi32 q[NV];

			if (f == CX_Q8)
				unpack8(q, payload);
			if (f == CX_Q4)
				decode4(y, payload, scale, product_of);
			for (unsigned v = 0; v < NV; v++) {
				vf32 *to = &x[b * NV + v];

				if (f == CX_Q8)
					*to = add_product(*to, q[v], scale);
				else
					*to += f == CX_Q4 ? y[v] : load_bf16(payload + v * L * 2);
			}
		}
	}
}

/* By a power of two a product is the same to the bit, in a fifth of the time. */
ALWAYS void divide(vf32 *x, unsigned vectors, uint32_t divisor)
{
	const float inverse = 1.0f / (float)divisor;

	for (unsigned v = 0; v < vectors && divisor > 1; v++)
		x[v] = divisor & (divisor - 1) ? x[v] / (float)divisor : x[v] * inverse;
}

/* Adds up the inputs; a NaN that results is not yet canonical. */
ALWAYS void make_sum(enum cx_format f, vf32 x[PAIR], const struct tile *t, size_t block)
{
	const struct cx_fuse *fuse = t->fuse;

	for (unsigned v = 0; v < PAIR; v++)
		x[v] = splat(0);
	add_encoded(f, x, t->inputs, 0, fuse->own, block);
	if (fuse->own < fuse->count) {
		look_ahead((const char *)fuse->inputs[fuse->own] +
				   (t->at + block * CX_BLOCK) * bytes_of(fuse->own_type),
			   2 * CX_BLOCK * bytes_of(fuse->own_type));
		for (unsigned v = 0; v < PAIR; v++)
			x[v] += load_as(fuse->own_type, fuse->inputs[fuse->own],
					t->at + block * CX_BLOCK + v * L);
		add_encoded(f, x, t->inputs, fuse->own + 1, fuse->count, block);
	}
	divide(x, PAIR, fuse->divisor);
}

/* ---- scales ---- */

/*
 * How the extremes of a block are found. Q8 needs the largest magnitude. Q4 needs
 * the element of largest magnitude, the negative one of equals: bits rotated to the
 * left, magnitude above sign, order that way. Stochastic q4 needs both extremes.
 */
ALWAYS vu32 key_of(enum cx_format f, vf32 x)
{
	return f == CX_Q4 ? turn((vu32)x) : (vu32)x & INT32_MAX;
}

/* The scales of L blocks as bf16 without a sign, from what is to be q8's 127 or q4's 8 and,
 * q4 only, 7. */
ALWAYS vi32 scales_of(enum cx_format f, bool stochastic, vi32 most, vi32 least)
{
	const vi32 top = (vi32){0} + (int32_t)(f == CX_Q8 ? CX_Q8_TOP : CX_Q4_TOP);
	vi32 s;

	if (f == CX_Q8)
		s = (vi32)((vf32)most * cx_float_from_bits(CX_127TH));
	else
		s = most - (3 << 23);
	if (f == CX_Q4 && stochastic)
		s = larger(s, (vi32)((vf32)least * cx_float_from_bits(CX_SEVENTH)));
	s = smaller((vi32)((vu32)s + 0xffff) >> 16, top) & (vi32)(most >= (int32_t)CX_TINY);
	return (vi32)PICK(most >= (int32_t)CX_INF32, (vu32){0} + CX_POISON, (vu32)s);
}

/* Notes the scales of L blocks; negative: a mask, where they are. */
ALWAYS void note_scales(struct blocks *to, unsigned block, vi32 s, vi32 negative)
{
	vf32 value;

	to->poisoned |= lanes_of((vi32)(s == CX_POISON)) != 0;
	s |= negative & (vi32)(s != 0) & (vi32)(s != CX_POISON) & 0x8000;
	value = (vf32)(s << 16);
	*(mem *)(to->scale + block) = (mem)value;
	*(mem *)(to->inverse + block) = (mem)PICK(s != 0, (vu32)(1.0f / value), (vu32)s);
	*(mem_short *)(to->wire + block) = (mem_short)narrow_short((vu32)s);
}

/* The extremes of L blocks from block g on; elements go to `room` unless that is NULL. Both:
 * of each sign by itself, the larger one of all elements where the sign bit is clear first. */
ALWAYS void extremes(enum cx_format f, bool both, vu32 most[2], make_fn *make,
		     const struct tile *t, unsigned g, float *room)
{
	vu32 key[L], other[L];

	for (unsigned b = 0; b < L; b += 2) {
		vf32 x[PAIR];

		if (!room)
			look_ahead_l2(t->src + (g + b) * CX_BLOCK * 4, 2 * CX_BLOCK * 4);
		make(x, t, g + b);
		for (unsigned v = 0; v < PAIR; v++) {
			vu32 *k = &key[b + v / NV], *o = &other[b + v / NV];
			vu32 mine = both ? (vu32)larger((vi32)x[v], (vi32){0}) : key_of(f, x[v]);
			vu32 minus = (vu32)larger((vi32)x[v] ^ INT32_MIN, (vi32){0});

			if (room)
				*(mem *)(room + (g + b) * CX_BLOCK + v * L) = (mem)x[v];
			*k = v % NV ? larger_unsigned(*k, mine) : mine;
			*o = v % NV ? larger_unsigned(*o, minus) : minus;
		}
	}
	most[0] = fold_max(key);
	most[1] = both ? fold_max(other) : most[0];
}

/* The scales of q8, or of q4 to nearest, from the keys of L blocks. */
ALWAYS void note_keys(enum cx_format f, struct blocks *to, unsigned g, vi32 magnitude, vi32 sign)
{
	note_scales(to, g, scales_of(f, false, magnitude, magnitude),
		    f == CX_Q4 ? (vi32)(sign == 0) : (vi32){0});
}

/* Key of a block of short floats as they lie in memory, in the upper halves of lanes. */
ALWAYS vu32 short_key(enum cx_format f, const char *src)
{
	vu16 key = {0};

	for (unsigned i = 0; i < CX_BLOCK * 2; i += VEC) {
		vu16 u = (vu16)*(const mem *)(src + i);

		key = larger_short(key, f == CX_Q4 ? u << 1 | u >> 15 : u & 0x7fff);
	}
	return larger_unsigned((vu32)key, (vu32)key << 16);
}

/* The first step for short floats: where they lie, and as they are. */
ALWAYS void measure_short(enum cx_format f, collx_type type, struct blocks *to, const char *src)
{
	to->poisoned = false;
	for (unsigned g = 0; g < BLOCKS; g += L) {
		vu32 key[L], most;
		vshort h;

		for (unsigned b = 0; b < L; b++)
			key[b] = short_key(f, src + (g + b) * CX_BLOCK * 2);
		most = fold_max(key) >> 16;
		h = narrow_short(f == CX_Q4 ? most >> 1 : most);
		note_keys(f, to, g, (vi32)load_as(type, (const char *)&h, 0), (vi32)(most & 1));
	}
}

/* The first step. */
ALWAYS void measure(enum cx_format f, bool stochastic, struct blocks *to, make_fn *make,
		    const struct tile *t, float *room)
{
	const bool both = f == CX_Q4 && stochastic;

	to->poisoned = false;
	for (unsigned g = 0; g < BLOCKS; g += L) {
		vi32 pos, neg;
		vu32 most[2];

		extremes(f, both, most, make, t, g, room);
		pos = (vi32)most[0];
		neg = (vi32)most[1];
		if (both)
			note_scales(to, g, scales_of(f, true, larger(pos, neg), smaller(pos, neg)),
				    (vi32)(pos > neg));
		else
			note_keys(f, to, g, f == CX_Q4 ? (vi32)(most[0] >> 1) : pos, pos & 1);
	}
}

/* ---- quanta ---- */

/* The second step, one block of it: quanta of x; and y, what they stand for, unless NULL. */
ALWAYS void quantize(enum cx_format f, vi32 q[NV], const vf32 x[NV], float inverse,
		     const uint16_t *random)
{
	const int32_t low = f == CX_Q8 ? -127 : -8, high = f == CX_Q8 ? 127 : 7;

	for (unsigned v = 0; v < NV; v++) {
		vf32 t = x[v] * inverse;

		q[v] = nearest(random ? t * 32768.0f : t);
		if (random) {
			q[v] = (q[v] + (vi32)(load_short(random + v * L) >> 1)) >> 15;
			q[v] = larger(smaller(q[v], (vi32){0} + high), (vi32){0} + low);
		}
	}
}

ALWAYS void leave(enum cx_format f, float *residual, const vf32 x[NV], const vi32 q[NV],
		  float scale)
{
	for (unsigned v = 0; v < NV; v++) {
		vi32 cut = f == CX_Q4 ? smaller(q[v], (vi32){0} + 7) : q[v];
		vf32 y = product_of(cut, splat(scale));

		*(mem *)(residual + v * L) = (mem)(x[v] - y);
	}
}

ALWAYS void put(char *dst, mem v, bool around)
{
	if (around)
		stream(dst, v);
	else
		*(mem *)dst = v;
}

/* A tile's scales. Around the caches they go like all the rest: a store that waits for its
 * cache line holds up those after it. */
ALWAYS void put_scales(unsigned char *wire, const uint16_t scales[BLOCKS], bool around)
{
	for (unsigned i = 0; i < BLOCKS * 2; i += VEC)
		put((char *)wire + i, *(const mem *)((const char *)scales + i), around);
}

/* Writes a whole tile that lies in memory, two blocks at once: a cache line of q8. */
ALWAYS void write_tile(enum cx_format f, unsigned char *wire, collx_type type, const char *x,
		       const struct blocks *b, float *residual, const uint16_t *random,
		       bool around)
{
	const size_t payload = cx_wire_block(f);

	for (unsigned k = 0; k < BLOCKS; k += 2) {
		vi32 q[PAIR] = {0};

		for (unsigned i = k; i < k + 2; i++) {
			vi32 *mine = &q[(i - k) * NV];
			vf32 e[NV];

			if (b->poisoned && b->wire[i] == CX_POISON)
				continue;
			for (unsigned v = 0; v < NV; v++)
				e[v] = load_as(type, x, i * CX_BLOCK + v * L);
			quantize(f, mine, e, b->inverse[i], random ? random + i * CX_BLOCK : NULL);
			if (residual)
				leave(f, residual + i * CX_BLOCK, e, mine, b->scale[i]);
		}
		if (f == CX_Q8)
			pack8(wire + k * payload, q, around);
		else
			pack4(wire + k * payload, q, around);
	}
	put_scales(wire + BLOCKS * payload, b->wire, around);
}

/* Of a type: what is encoded are the elements at src; NULL: what is made, as floats. */
ALWAYS void encode_scaled(enum cx_format f, bool stochastic, make_fn *make, const collx_type *type,
			  unsigned char *wire, const struct tile *t, float *residual, bool around)
{
	float room[CX_TILE] __attribute__((aligned(CACHE_LINE)));
	uint16_t random[CX_TILE] __attribute__((aligned(CACHE_LINE)));
	const bool both = f == CX_Q4 && stochastic;
	const bool shorts = type && *type != COLLX_FLOAT32 && !both;
	const bool there = shorts || (type && *type == COLLX_FLOAT32);
	struct blocks b;

	if (shorts)
		measure_short(f, *type, &b, t->src);
	else
		measure(f, stochastic, &b, make, t, there ? NULL : room);
	if (stochastic)
		draw(random, &t->rounding);
	write_tile(f, wire, there ? *type : COLLX_FLOAT32, there ? t->src : (const char *)room, &b,
		   residual, stochastic ? random : NULL, around);
}

/* ---- bf16 ---- */

/* The same where all elements of a block are below the largest bfloat16. */
ALWAYS vu32 to_bf16_small(vu32 u, const uint16_t *random)
{
	return (u + (random ? load_short(random) : 0x7fff + (u >> 16 & 1))) >> 16;
}

/* As cx_bf16_nearest and cx_bf16_stochastic. */
ALWAYS vu32 to_bf16(vf32 x, const uint16_t *random)
{
	vi32 u = (vi32)x, rest = u & INT32_MAX, h;
	vi32 special = rest | ((vi32)(rest > (int32_t)CX_INF32) & 0x00400000);

	/* Unsigned: what is no number may run over, and is not picked. */
	h = (vi32)((vu32)rest +
		   (random ? (vu32)load_short(random) : 0x7fff + ((vu32)rest >> 16 & 1)));
	h = smaller(h >> 16, (vi32){0} + CX_BF16_TOP);
	h = (vi32)PICK(rest < (int32_t)CX_INF32, (vu32)h, (vu32)(special >> 16));
	return (vu32)h | ((vu32)u >> 16 & 0x8000);
}

/* Two blocks. */
ALWAYS void write_bf16(unsigned char *wire, const vf32 x[PAIR], const uint16_t *random,
		       float *residual, bool small, bool around)
{
	for (unsigned v = 0; v < PAIR; v++) {
		const uint16_t *r = random ? random + v * L : NULL;
		vu32 h = small ? to_bf16_small((vu32)x[v], r) : to_bf16(x[v], r);
		vi32 special = ((vi32)x[v] & INT32_MAX) >= (int32_t)CX_INF32;
		vf32 left = x[v] - (vf32)(h << 16);
		float *rest = residual ? residual + v * L : NULL;

		if (around)
			stream_half(wire + v * L * 2, (mem_half)narrow_short(h));
		else
			*(mem_short *)(wire + v * L * 2) = (mem_short)narrow_short(h);
		if (residual)
			*(mem *)rest = (mem)(small ? (vu32)left :
					     PICK(special, (vu32)load_float(rest), (vu32)left));
	}
}

ALWAYS void encode_bf16(bool stochastic, make_fn *make, unsigned char *wire, const struct tile *t,
			float *residual, bool around)
{
	const size_t payload = cx_wire_block(CX_BF16);
	uint16_t random[CX_TILE] __attribute__((aligned(CACHE_LINE)));

	if (stochastic)
		draw(random, &t->rounding);
	for (unsigned k = 0; k < BLOCKS; k += 2) {
		const uint16_t *r = stochastic ? random + k * CX_BLOCK : NULL;
		float *rest = residual ? residual + k * CX_BLOCK : NULL;
		vf32 x[PAIR];
		vi32 large = {0};

		make(x, t, k);
		for (unsigned v = 0; v < PAIR; v++)
			large |= ((vi32)x[v] & INT32_MAX) >= (int32_t)(CX_BF16_TOP << 16);
		if (lanes_of(large)) {
			for (unsigned v = 0; v < PAIR && (t->fuse || residual); v++)
				x[v] = canonical(x[v]);
			write_bf16(wire + k * payload, x, r, rest, false, around);
		} else {
			write_bf16(wire + k * payload, x, r, rest, true, around);
		}
	}
}

/* ---- whole arrays ---- */

/* One whole tile. */
ALWAYS void encode_tile(enum cx_format f, make_fn *make, const collx_type *type,
			unsigned char *wire, const struct tile *t, float *residual, bool around)
{
	if (f == CX_BF16) {
		if (t->rounding.stochastic)
			encode_bf16(true, make, wire, t, residual, around);
		else
			encode_bf16(false, make, wire, t, residual, around);
	} else if (t->rounding.stochastic) {
		encode_scaled(f, true, make, type, wire, t, residual, around);
	} else {
		encode_scaled(f, false, make, type, wire, t, residual, around);
	}
}

/* Is a result of len bytes at p better written around the caches? */
ALWAYS bool far_away(const void *p, size_t len)
{
	return len >= CX_STREAM_BYTES && (uintptr_t)p % CACHE_LINE == 0;
}

static const struct cx_rounding to_nearest;

#define MAKE(name, body) \
	ALWAYS void name(vf32 x[PAIR], const struct tile *t, size_t block) \
	{ \
		body; \
	}
MAKE(make_f32, make_as(COLLX_FLOAT32, x, t, block))
MAKE(make_f16, make_as(COLLX_FLOAT16, x, t, block))
MAKE(make_bf16, make_as(COLLX_BFLOAT16, x, t, block))
MAKE(make_f32_left, make_as(COLLX_FLOAT32, x, t, block); feed_back(x, t, block))
MAKE(make_f16_left, make_as(COLLX_FLOAT16, x, t, block); feed_back(x, t, block))
MAKE(make_bf16_left, make_as(COLLX_BFLOAT16, x, t, block); feed_back(x, t, block))
MAKE(sum_q8, make_sum(CX_Q8, x, t, block))
MAKE(sum_q4, make_sum(CX_Q4, x, t, block))
MAKE(sum_bf16, make_sum(CX_BF16, x, t, block))
MAKE(sum_q8_left, make_sum(CX_Q8, x, t, block); feed_back(x, t, block))
MAKE(sum_q4_left, make_sum(CX_Q4, x, t, block); feed_back(x, t, block))
MAKE(sum_bf16_left, make_sum(CX_BF16, x, t, block); feed_back(x, t, block))

#if VEC == 64
#include "kernels/codec_exact.h"
#include "kernels/codec_held.h"
#include "kernels/codec_short.h"
#include "kernels/codec_ahead.h"

/* Whole tiles to q8 or q4, to nearest. Returns how many it took. */
ALWAYS size_t encode_ahead(enum cx_format f, collx_type type, unsigned char *wire,
			   const char *src, size_t tiles, bool around)
{
	if (f == CX_BF16 || !tiles)
		return 0;
	if (!around)
		encode_groups(f, type, wire, src, tiles, false);
	else if (type == COLLX_FLOAT32)
		encode_held(f, wire, src, tiles);
	else
		encode_groups(f, type, wire, src, tiles, true);
	return tiles;
}
#else
struct exact {
	unsigned char *wire;
};

ALWAYS size_t encode_ahead(enum cx_format f, collx_type type, unsigned char *wire,
			   const char *src, size_t tiles, bool around)
{
	(void)f, (void)type, (void)wire, (void)src, (void)tiles, (void)around;
	return 0;
}

ALWAYS void exact_begin(struct exact *x)
{
	x->wire = NULL;
}

ALWAYS bool exact_next(enum cx_format f, struct exact *x, unsigned char *wire,
		       const struct tile *t, bool around)
{
	(void)f, (void)x, (void)wire, (void)t, (void)around;
	return false;
}

ALWAYS void exact_end(enum cx_format f, struct exact *x, bool around)
{
	(void)f, (void)x, (void)around;
}
#endif

ALWAYS void encode(enum cx_format f, collx_type type, void *wire, const void *src, size_t n,
		   const struct cx_rounding *r)
{
	make_fn *make = type == COLLX_FLOAT32 ? make_f32 : type == COLLX_FLOAT16 ? make_f16 :
			make_bf16;
	const size_t step = CX_TILE * bytes_of(type), out = cx_wire_bytes(f, CX_TILE);
	struct tile t = { .src = src, .rounding = r ? *r : to_nearest };
	const bool around = far_away(wire, cx_wire_bytes(f, n));
	cx_encode_fn rest = cx_codecs_portable.encode[f][cx_float_slot(type)];
	unsigned char *w = wire;
	size_t ahead = 0;

	if (!t.rounding.stochastic)
		ahead = encode_ahead(f, type, w, src, n / CX_TILE, around);
	w += ahead * out;
	t.src += ahead * step;
	n -= ahead * CX_TILE;
	for (; n >= CX_TILE; n -= CX_TILE) {
		encode_tile(f, make, &type, w, &t, NULL, around);
		t.src += step;
		t.rounding.index += CX_TILE;
		w += out;
	}
	if (around)
		stream_end();
	if (n)
		rest(w, t.src, n, &t.rounding);
}

ALWAYS void feedback(enum cx_format f, collx_type type, void *wire, const void *gradient,
		     float *residual, size_t n, float decay, const struct cx_rounding *r)
{
	make_fn *make = type == COLLX_FLOAT32 ? make_f32_left : type == COLLX_FLOAT16 ?
			make_f16_left : make_bf16_left;
	const size_t step = CX_TILE * bytes_of(type), out = cx_wire_bytes(f, CX_TILE);
	struct tile t = { .src = gradient, .residual = residual, .decay = decay,
			  .rounding = r ? *r : to_nearest };
	const bool around = far_away(wire, cx_wire_bytes(f, n));
	cx_feedback_fn rest = cx_codecs_portable.feedback[f][cx_float_slot(type)];
	unsigned char *w = wire;

	for (; n >= CX_TILE; n -= CX_TILE) {
		encode_tile(f, make, NULL, w, &t, t.residual, around);
		t.src += step;
		t.residual += CX_TILE;
		t.rounding.index += CX_TILE;
		w += out;
	}
	if (around)
		stream_end();
	if (n)
		rest(w, t.src, t.residual, n, decay, &t.rounding);
}

/* ---- decoding ---- */

/* Writes two vectors of results; of short floats they are one. */
ALWAYS void put_as(collx_type type, char *dst, const vf32 y[2], bool around)
{
	if (type == COLLX_FLOAT32) {
		put(dst, (mem)y[0], around);
		put(dst + VEC, (mem)y[1], around);
	} else if (type == COLLX_FLOAT16) {
		put(dst, join_short(narrow_f16(y[0]), narrow_f16(y[1])), around);
	} else {
		put(dst, upper_halves(round_bf16(y[0]), round_bf16(y[1])), around);
	}
}

ALWAYS vf32 fit(collx_type type, vf32 y)
{
	if (type == COLLX_FLOAT32)
		return y;
	return limit(y, splat(type == COLLX_FLOAT16 ? CX_F16_TOP : cx_bf16_to_f32(CX_BF16_TOP)));
}

/* The blocks of a tile; limited: to what the type has. */
ALWAYS void decode_blocks(enum cx_format f, collx_type type, char *dst, const unsigned char *wire,
			  const float *scale, bool limited, bool around)
{
	const bool rounded = f != CX_BF16 && type == COLLX_BFLOAT16 && !limited;
	const size_t size = bytes_of(type);

	for (unsigned k = 0; k < BLOCKS; k++) {
		const unsigned char *payload = wire + k * cx_wire_block(f);
		vf32 y[NV];

		look_ahead(payload, cx_wire_block(f));
		if (rounded)
			decode_rounded(f, y, payload, scale[k]);
		else
			decode_block(f, y, payload, scale[k]);
		for (unsigned v = 0; v < NV && limited; v++)
			y[v] = fit(type, y[v]);
		for (unsigned v = 0; v < NV; v += 2) {
			char *to = dst + (k * CX_BLOCK + v * L) * size;

			if (rounded)
				put(to, upper_halves((vu32)y[v], (vu32)y[v + 1]), around);
			else
				put_as(type, to, &y[v], around);
		}
	}
}

ALWAYS void decode_tile(enum cx_format f, collx_type type, char *dst, const unsigned char *wire,
			bool around)
{
	const int most = type == COLLX_BFLOAT16 ? STEEP : safe_exponent(type);
	float scale[BLOCKS] __attribute__((aligned(CACHE_LINE))) = {0};
	bool safe = true;

	if (f != CX_BF16)
		safe = scale_values(scale, wire + cx_wire_scales(f, CX_TILE), most);
	if (safe || type == COLLX_FLOAT32)
		decode_blocks(f, type, dst, wire, scale, false, around);
	else
		decode_blocks(f, type, dst, wire, scale, true, around);
}

/* What is the same on the wire and in memory. Around the caches memcpy goes as well, but, by its
 * own measure of what is large, later, and without looking ahead. */
ALWAYS void copy(char *dst, const char *src, size_t len, bool around)
{
	size_t i = 0;

	for (; around && i + 4 * CACHE_LINE <= len; i += 4 * CACHE_LINE) {
		look_ahead(src + i, 4 * CACHE_LINE);
		for (size_t v = 0; v < 4 * CACHE_LINE; v += VEC)
			put(dst + i + v, *(const mem *)(src + i + v), true);
	}
	if (around)
		stream_end();
	memcpy(dst + i, src + i, len - i);
}

ALWAYS void decode(enum cx_format f, collx_type type, void *dst, const void *wire, size_t n)
{
	const size_t step = CX_TILE * bytes_of(type), in = cx_wire_bytes(f, CX_TILE);
	const bool around = far_away(dst, n * bytes_of(type));
	const unsigned char *w = wire;
	char *d = dst;

	if (f == CX_BF16 && type == COLLX_BFLOAT16) {
		copy(dst, wire, n * 2, around);
		return;
	}
	for (; n >= CX_TILE; n -= CX_TILE) {
		if (around)
			decode_tile(f, type, d, w, true);
		else
			decode_tile(f, type, d, w, false);
		d += step;
		w += in;
	}
	if (around)
		stream_end();
	if (n)
		cx_codecs_portable.decode[f][cx_float_slot(type)](d, w, n);
}

ALWAYS void accumulate(enum cx_format f, float *dst, const void *wire, size_t n)
{
	const unsigned char *w = wire;
	float scale[BLOCKS] __attribute__((aligned(CACHE_LINE))) = {0};

	for (; n >= CX_TILE; n -= CX_TILE) {
		if (f != CX_BF16)
			scale_values(scale, w + cx_wire_scales(f, CX_TILE), 0);
		for (unsigned k = 0; k < BLOCKS; k++) {
			vf32 y[NV];

			look_ahead(w + k * cx_wire_block(f), cx_wire_block(f));
			decode_block(f, y, w + k * cx_wire_block(f), scale[k]);
			for (unsigned v = 0; v < NV; v++) {
				float *p = dst + k * CX_BLOCK + v * L;

				*(mem *)p = (mem)canonical(load_float(p) + y[v]);
			}
		}
		dst += CX_TILE;
		w += cx_wire_bytes(f, CX_TILE);
	}
	if (n)
		cx_codecs_portable.accumulate[f](dst, w, n);
}

/* ---- several inputs ---- */

/* The same for the elements from i on. */
static struct cx_fuse fuse_from(const struct cx_fuse *f, enum cx_format format, size_t i,
				const void *inputs[CX_INPUTS])
{
	struct cx_fuse g = *f;

	for (unsigned k = 0; k < f->count; k++)
		inputs[k] = (const char *)f->inputs[k] +
			    (k == f->own ? i * bytes_of(f->own_type) :
					   cx_wire_bytes(format, i));
	g.inputs = inputs;
	g.rounding.index += i;
	if (g.residual)
		g.residual += i;
	return g;
}

/* n elements from element i on, as the portable variant does them. */
static void fuse_rest(enum cx_format format, void *dst, const struct cx_fuse *f, size_t i, size_t n)
{
	const void *inputs[CX_INPUTS];
	struct cx_fuse g = fuse_from(f, format, i, inputs);

	cx_codecs_portable.fuse[format](dst, &g, n);
}

static void sum_rest(enum cx_format format, collx_type type, void *dst, const struct cx_fuse *f,
		     size_t i, size_t n)
{
	const void *inputs[CX_INPUTS];
	struct cx_fuse g = fuse_from(f, format, i, inputs);

	cx_codecs_portable.sum[format][cx_float_slot(type)](dst, &g, n);
}

/* Looks up the inputs of the tile at t->at; false where a product may overflow. */
ALWAYS bool find_inputs(enum cx_format format, struct inputs *in, const struct tile *t)
{
	const size_t at = cx_wire_bytes(format, t->at), scales = cx_wire_scales(format, CX_TILE);
	bool safe = true;

	for (unsigned k = 0; k < t->fuse->count; k++) {
		if (k == t->fuse->own)
			continue;
		in->payload[k] = (const unsigned char *)t->fuse->inputs[k] + at;
		if (format != CX_BF16)
			safe &= scale_values(in->scale[k], in->payload[k] + scales,
					     safe_exponent(COLLX_FLOAT32));
	}
	return safe;
}

#include "kernels/codec_pairs.h"

/* A whole tile; its inputs are looked up on the way. */
ALWAYS void fuse_tile(enum cx_format format, unsigned char *wire, struct tile *t, bool around)
{
	make_fn *make = format == CX_Q8 ? sum_q8 : format == CX_Q4 ? sum_q4 : sum_bf16;
	make_fn *make_left = format == CX_Q8 ? sum_q8_left : format == CX_Q4 ? sum_q4_left :
			     sum_bf16_left;
	struct inputs in;

	t->inputs = &in;
	if (format == CX_BF16 && fuse_pairs(wire, t, around))
		return;
	if (!find_inputs(format, &in, t))
		fuse_rest(format, wire, t->fuse, t->at, CX_TILE);
	else if (t->residual)
		encode_tile(format, make_left, NULL, wire, t, t->residual, around);
	else
		encode_tile(format, make, NULL, wire, t, NULL, around);
}

ALWAYS void fuse(enum cx_format format, void *dst, const struct cx_fuse *f, size_t n)
{
	struct tile t = { .residual = f->residual, .decay = f->decay, .fuse = f,
			  .rounding = f->rounding };
	const bool around = far_away(dst, cx_wire_bytes(format, n));
	unsigned char *w = dst;
	struct exact exact;

	exact_begin(&exact);
	for (; n - t.at >= CX_TILE; t.at += CX_TILE) {
		if (!exact_next(format, &exact, w, &t, around)) {
			exact_end(format, &exact, around);
			fuse_tile(format, w, &t, around);
		}
		t.rounding.index += CX_TILE;
		t.residual = t.residual ? t.residual + CX_TILE : NULL;
		w += cx_wire_bytes(format, CX_TILE);
	}
	exact_end(format, &exact, around);
	if (around)
		stream_end();
	if (t.at < n)
		fuse_rest(format, w, f, t.at, n - t.at);
}

ALWAYS void sum_tile(enum cx_format format, collx_type type, char *dst, const struct tile *t,
		     bool around)
{
	for (unsigned b = 0; b < BLOCKS; b += 2) {
		vf32 x[PAIR];

		make_sum(format, x, t, b);
		for (unsigned v = 0; v < PAIR; v++)
			x[v] = canonical(x[v]);
		for (unsigned v = 0; v < PAIR; v += 2)
			put_as(type, dst + (b * CX_BLOCK + v * L) * bytes_of(type), &x[v], around);
	}
}

ALWAYS void sum(enum cx_format format, collx_type type, void *dst, const struct cx_fuse *f,
		size_t n)
{
	const size_t size = bytes_of(type);
	struct inputs in;
	struct tile t = { .fuse = f, .inputs = &in };
	const bool around = far_away(dst, n * size) &&
			    !(f->own < f->count && f->inputs[f->own] == dst);
	char *d = dst;

	for (; n - t.at >= CX_TILE; t.at += CX_TILE, d += CX_TILE * size) {
		if (find_inputs(format, &in, &t))
			sum_tile(format, type, d, &t, around);
		else
			sum_rest(format, type, d, f, t.at, CX_TILE);
	}
	if (around)
		stream_end();
	if (t.at < n)
		sum_rest(format, type, d, f, t.at, n - t.at);
}

#include "kernels/codec_choose.h"
#include "kernels/codec_table.h"
