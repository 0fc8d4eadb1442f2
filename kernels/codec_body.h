/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The codecs of a vector variant, written once. A variant's file includes its
 * words_NAME.h and defines for blocks of NV vectors of L lanes:
 *
 *   fold_max                     the largest lane of each of L vectors, in a vector
 *   nearest                      floats to the nearest integers, ties to even
 *   pack8, pack4                 integers to the payload of q8 and, cut to at most 7, q4
 *   unpack8, unpack4             and back
 *   interleave                   two vectors of 64-bit lanes, lane by lane, to memory
 *   lanes_of                     a bit for each lane of a mask
 *   keep                         selected lanes of a vector, and their indices, to memory;
 *                                room for L is there
 *
 * A tile goes through in two steps: the extremes of its blocks, then, with the
 * scales of all blocks from a few divisions, the quanta. In between the elements
 * stay in the L1 cache: where they lie if they are floats, else as floats in a
 * buffer. A tile with a NaN or an infinity and the rest at the end of an array
 * are the portable variant's.
 */
#include "kernels/codec_list.h"
#include "kernels/element.h"
#include "kernels/words_bf16.h"

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
	float (*scales)[BLOCKS];    /* of each of fuse's inputs */
};

/* What is known of the blocks of a tile. */
struct blocks {
	float inverse[BLOCKS] __attribute__((aligned(CACHE_LINE)));
	float scale[BLOCKS] __attribute__((aligned(CACHE_LINE)));
	uint16_t wire[BLOCKS] __attribute__((aligned(CACHE_LINE)));
};

ALWAYS size_t bytes_of(collx_type t)
{
	return t == COLLX_FLOAT32 ? 4 : 2;
}

ALWAYS vf32 splat(float f)
{
	return (vf32){0} + f;
}

ALWAYS vf32 canonical(vf32 v)
{
	return (vf32)PICK(v != v, (vu32){0} + CX_NAN32, (vu32)v);
}

ALWAYS vi32 larger(vi32 x, vi32 y)
{
	return (vi32)PICK(x > y, (vu32)x, (vu32)y);
}

ALWAYS vi32 smaller(vi32 x, vi32 y)
{
	return (vi32)PICK(x < y, (vu32)x, (vu32)y);
}

ALWAYS vf32 load_float(const void *p)
{
	return (vf32)*(const mem *)p;
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

/* The elements of a block. */
typedef void make_fn(vf32 x[NV], const struct tile *t, size_t block);

ALWAYS void make_as(collx_type type, vf32 x[NV], const struct tile *t, size_t block)
{
	for (unsigned v = 0; v < NV; v++)
		x[v] = load_as(type, t->src, block * CX_BLOCK + v * L);
}

ALWAYS void feed_back(vf32 x[NV], const struct tile *t, size_t block)
{
	for (unsigned v = 0; v < NV; v++)
		x[v] = x[v] + t->decay * load_float(t->residual + block * CX_BLOCK + v * L);
}

ALWAYS void decode_block(enum cx_format f, vf32 y[NV], const unsigned char *payload, float scale)
{
	vi32 q[NV];

	if (f == CX_BF16) {
		for (unsigned v = 0; v < NV; v++)
			y[v] = load_bf16(payload + v * L * 2);
		return;
	}
	if (f == CX_Q8)
		unpack8(q, payload);
	else
		unpack4(q, payload);
	for (unsigned v = 0; v < NV; v++)
		y[v] = __builtin_convertvector(q[v], vf32) * scale + 0.0f;
}

/* As cx_scale_value. */
static void scale_values(float value[BLOCKS], const unsigned char *wire)
{
	for (unsigned b = 0; b < BLOCKS; b += L) {
		vu32 s = load_short(wire + b * 2), e = s & 0x7f80;

		s = (vu32)PICK(e == 0x7f80, (vu32){0} + CX_NAN32, s << 16);
		*(mem *)(value + b) = (mem)(s & (vu32)(e != 0));
	}
}

ALWAYS void add_input(enum cx_format f, vf32 x[NV], const struct tile *t, unsigned k, size_t block)
{
	const unsigned char *wire = (const unsigned char *)t->fuse->inputs[k] +
				    cx_wire_bytes(f, t->at) + block * cx_wire_block(f);
	size_t i = t->at + block * CX_BLOCK;
	vf32 y[NV];

	if (k != t->fuse->own)
		decode_block(f, y, wire, f == CX_BF16 ? 0 : t->scales[k][block]);
	for (unsigned v = 0; v < NV; v++) {
		if (k == t->fuse->own)
			y[v] = load_as(t->fuse->own_type, t->fuse->inputs[k], i + v * L);
		x[v] += y[v];
	}
}

/* Adds up the inputs; a NaN that results is not yet canonical. */
ALWAYS void make_sum(enum cx_format f, vf32 x[NV], const struct tile *t, size_t block)
{
	for (unsigned v = 0; v < NV; v++)
		x[v] = splat(0);
	for (unsigned k = 0; k < t->fuse->count; k++)
		add_input(f, x, t, k, block);
	if (t->fuse->divisor > 1)
		for (unsigned v = 0; v < NV; v++)
			x[v] /= (float)t->fuse->divisor;
}

/* ---- scales ---- */

/* scale and inverse of L blocks whose extremes, sign bit clear and set, these are; false
 * where one is poisoned. */
ALWAYS bool make_scales(enum cx_format f, bool stochastic, struct blocks *to, unsigned block,
			vi32 pos, vi32 neg)
{
	vi32 most = larger(pos, neg), poison = most >= (int32_t)CX_INF32, s;
	vf32 value;

	for (unsigned i = 0; i < L; i++)
		if (poison[i])
			return false;
	if (f == CX_Q8) {
		s = (vi32)((vf32)most * cx_float_from_bits(CX_127TH));
	} else {
		s = most - (3 << 23);
		if (stochastic)
			s = larger(s, (vi32)((vf32)smaller(pos, neg) *
					     cx_float_from_bits(CX_SEVENTH)));
	}
	s = smaller((s + 0xffff) >> 16, (vi32){0} + (int32_t)(f == CX_Q8 ? CX_Q8_TOP : CX_Q4_TOP));
	if (f == CX_Q4)
		s |= (vi32)(pos > neg) & 0x8000;
	s &= (vi32)(most >= (int32_t)CX_TINY);
	value = (vf32)(s << 16);
	*(mem *)(to->scale + block) = (mem)value;
	*(mem *)(to->inverse + block) = (mem)PICK(s != 0, (vu32)(1.0f / value), (vu32)s);
	*(mem_short *)(to->wire + block) = (mem_short)narrow_short((vu32)s);
	return true;
}

/* The first step. The elements go to `room` unless that is NULL. */
ALWAYS bool measure(enum cx_format f, bool stochastic, struct blocks *to, make_fn *make,
		    const struct tile *t, float *room)
{
	for (unsigned g = 0; g < BLOCKS; g += L) {
		vi32 pos[L], neg[L];

		for (unsigned b = 0; b < L; b++) {
			vf32 x[NV];

			make(x, t, g + b);
			for (unsigned v = 0; v < NV; v++) {
				vi32 u = (vi32)x[v], m = u ^ INT32_MIN;

				if (room)
					*(mem *)(room + (g + b) * CX_BLOCK + v * L) = (mem)u;
				if (f == CX_Q8)
					u &= INT32_MAX;
				pos[b] = v ? larger(pos[b], u) : u;
				neg[b] = f == CX_Q8 ? pos[b] : v ? larger(neg[b], m) : m;
			}
		}
		pos[0] = larger(fold_max(pos), (vi32){0});
		neg[0] = f == CX_Q8 ? pos[0] : larger(fold_max(neg), (vi32){0});
		if (!make_scales(f, stochastic, to, g, pos[0], neg[0]))
			return false;
	}
	return true;
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
		vf32 y = __builtin_convertvector(cut, vf32) * scale + 0.0f;

		*(mem *)(residual + v * L) = (mem)(x[v] - y);
	}
}

/* Writes a whole tile that lies in memory as floats. */
ALWAYS void write_tile(enum cx_format f, unsigned char *wire, const char *x, const struct blocks *b,
		       float *residual, const uint16_t *random, bool around)
{
	const size_t payload = cx_wire_block(f);

	for (unsigned k = 0; k < BLOCKS; k++) {
		vf32 e[NV];
		vi32 q[NV];

		for (unsigned v = 0; v < NV; v++)
			e[v] = load_float(x + (k * CX_BLOCK + v * L) * 4);
		quantize(f, q, e, b->inverse[k], random ? random + k * CX_BLOCK : NULL);
		if (residual)
			leave(f, residual + k * CX_BLOCK, e, q, b->scale[k]);
		if (f == CX_Q8)
			pack8(wire + k * payload, q, around);
		else
			pack4(wire + k * payload, q, around);
	}
	memcpy(wire + BLOCKS * payload, b->wire, sizeof(b->wire));
}

ALWAYS bool encode_scaled(enum cx_format f, bool stochastic, make_fn *make, bool in_place,
			  unsigned char *wire, const struct tile *t, float *residual, bool around)
{
	float room[CX_TILE] __attribute__((aligned(CACHE_LINE)));
	uint16_t random[CX_TILE] __attribute__((aligned(CACHE_LINE)));
	struct blocks b;

	if (!measure(f, stochastic, &b, make, t, in_place ? NULL : room))
		return false;
	if (stochastic)
		draw(random, &t->rounding);
	write_tile(f, wire, in_place ? t->src : (const char *)room, &b, residual,
		   stochastic ? random : NULL, around);
	return true;
}

/* ---- bf16 ---- */

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

ALWAYS void encode_bf16(bool stochastic, make_fn *make, unsigned char *wire, const struct tile *t,
			float *residual, bool around)
{
	uint16_t random[CX_TILE] __attribute__((aligned(CACHE_LINE)));

	if (stochastic)
		draw(random, &t->rounding);
	for (unsigned k = 0; k < BLOCKS; k++) {
		vf32 x[NV];

		make(x, t, k);
		for (unsigned v = 0; v < NV; v++) {
			size_t i = k * CX_BLOCK + v * L;
			vf32 a = t->fuse || residual ? canonical(x[v]) : x[v];
			vu32 h = to_bf16(a, stochastic ? random + i : NULL);
			vshort out = narrow_short(h);
			vf32 left = a - (vf32)(h << 16);

			if (around)
				stream_half(wire + i * 2, (mem_half)out);
			else
				*(mem_short *)(wire + i * 2) = (mem_short)out;
			if (residual)
				*(mem *)(residual + i) = (mem)PICK(
					((vi32)a & INT32_MAX) < (int32_t)CX_INF32, (vu32)left,
					(vu32)load_float(residual + i));
		}
	}
}

/* ---- whole arrays ---- */

/* One whole tile; false where the portable variant has to do it. */
ALWAYS bool encode_tile(enum cx_format f, make_fn *make, bool in_place, unsigned char *wire,
			const struct tile *t, float *residual, bool around)
{
	if (f == CX_BF16) {
		if (t->rounding.stochastic)
			encode_bf16(true, make, wire, t, residual, around);
		else
			encode_bf16(false, make, wire, t, residual, around);
		return true;
	}
	if (t->rounding.stochastic)
		return encode_scaled(f, true, make, in_place, wire, t, residual, around);
	return encode_scaled(f, false, make, in_place, wire, t, residual, around);
}

/* Is a result of len bytes at p better written around the caches? */
ALWAYS bool far_away(const void *p, size_t len)
{
	return len >= CX_STREAM_BYTES && (uintptr_t)p % CACHE_LINE == 0;
}

static const struct cx_rounding to_nearest;

#define MAKE(name, body) \
	ALWAYS void name(vf32 x[NV], const struct tile *t, size_t block) \
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

	for (; n >= CX_TILE; n -= CX_TILE) {
		if (!encode_tile(f, make, type == COLLX_FLOAT32, w, &t, NULL, around))
			rest(w, t.src, CX_TILE, &t.rounding);
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
		if (!encode_tile(f, make, false, w, &t, t.residual, around))
			rest(w, t.src, t.residual, CX_TILE, decay, &t.rounding);
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

ALWAYS vf32 limit(vf32 y, float top)
{
	y = (vf32)PICK(y > top, (vu32)splat(top), (vu32)y);
	return (vf32)PICK(y < -top, (vu32)splat(-top), (vu32)y);
}

ALWAYS void put_as(collx_type type, char *dst, vf32 y, bool around)
{
	mem_half h;

	if (type == COLLX_FLOAT32) {
		if (around)
			stream(dst, (mem)y);
		else
			*(mem *)dst = (mem)y;
		return;
	}
	h = (mem_half)(type == COLLX_FLOAT16 ? narrow_f16(y) : narrow_bf16(y));
	if (around)
		stream_half(dst, h);
	else
		*(mem_half *)dst = h;
}

ALWAYS void decode_tile(enum cx_format f, collx_type type, char *dst, const unsigned char *wire,
			bool around)
{
	float scale[BLOCKS] __attribute__((aligned(CACHE_LINE))) = {0};
	const size_t size = bytes_of(type);

	if (f != CX_BF16)
		scale_values(scale, wire + cx_wire_scales(f, CX_TILE));
	for (unsigned k = 0; k < BLOCKS; k++) {
		vf32 y[NV];

		decode_block(f, y, wire + k * cx_wire_block(f), scale[k]);
		for (unsigned v = 0; v < NV; v++) {
			if (f != CX_BF16 && type == COLLX_FLOAT16)
				y[v] = limit(y[v], CX_F16_TOP);
			if (f != CX_BF16 && type == COLLX_BFLOAT16)
				y[v] = limit(y[v], cx_bf16_to_f32(CX_BF16_TOP));
			put_as(type, dst + (k * CX_BLOCK + v * L) * size, y[v], around);
		}
	}
}

ALWAYS void decode(enum cx_format f, collx_type type, void *dst, const void *wire, size_t n)
{
	const size_t step = CX_TILE * bytes_of(type), in = cx_wire_bytes(f, CX_TILE);
	const bool around = far_away(dst, n * bytes_of(type));
	const unsigned char *w = wire;
	char *d = dst;

	if (f == CX_BF16 && type == COLLX_BFLOAT16) {
		memcpy(dst, wire, n * 2);
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
			scale_values(scale, w + cx_wire_scales(f, CX_TILE));
		for (unsigned k = 0; k < BLOCKS; k++) {
			vf32 y[NV];

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

/* Of all encoded inputs of the tile. */
ALWAYS void fuse_scales(enum cx_format format, const struct tile *t)
{
	const size_t at = cx_wire_bytes(format, t->at) + cx_wire_scales(format, CX_TILE);

	if (format == CX_BF16)
		return;
	for (unsigned k = 0; k < t->fuse->count; k++)
		if (k != t->fuse->own)
			scale_values(t->scales[k], (const unsigned char *)t->fuse->inputs[k] + at);
}

ALWAYS void fuse(enum cx_format format, void *dst, const struct cx_fuse *f, size_t n)
{
	make_fn *make = format == CX_Q8 ? sum_q8 : format == CX_Q4 ? sum_q4 : sum_bf16;
	make_fn *make_left = format == CX_Q8 ? sum_q8_left : format == CX_Q4 ? sum_q4_left :
			     sum_bf16_left;
	float scales[CX_INPUTS][BLOCKS] __attribute__((aligned(CACHE_LINE)));
	struct tile t = { .residual = f->residual, .decay = f->decay, .fuse = f,
			  .rounding = f->rounding, .scales = scales };
	const bool around = far_away(dst, cx_wire_bytes(format, n));
	const void *inputs[CX_INPUTS];
	unsigned char *w = dst;

	while (t.at < n) {
		size_t m = n - t.at < CX_TILE ? n - t.at : CX_TILE;
		bool done = false;

		if (m == CX_TILE) {
			fuse_scales(format, &t);
			done = t.residual ? encode_tile(format, make_left, false, w, &t,
							t.residual, around) :
					    encode_tile(format, make, false, w, &t, NULL, around);
		}
		if (!done) {
			struct cx_fuse g = fuse_from(f, format, t.at, inputs);

			cx_codecs_portable.fuse[format](w, &g, m);
		}
		t.at += m;
		t.rounding.index += m;
		t.residual = t.residual ? t.residual + m : NULL;
		w += cx_wire_bytes(format, CX_TILE);
	}
	if (around)
		stream_end();
}

ALWAYS void sum_tile(enum cx_format format, collx_type type, char *dst, const struct tile *t,
		     bool around)
{
	for (unsigned b = 0; b < BLOCKS; b++) {
		vf32 x[NV];

		make_sum(format, x, t, b);
		for (unsigned v = 0; v < NV; v++)
			put_as(type, dst + (b * CX_BLOCK + v * L) * bytes_of(type),
			       canonical(x[v]), around);
	}
}

ALWAYS void sum(enum cx_format format, collx_type type, void *dst, const struct cx_fuse *f,
		size_t n)
{
	const size_t size = bytes_of(type);
	float scales[CX_INPUTS][BLOCKS] __attribute__((aligned(CACHE_LINE)));
	struct tile t = { .fuse = f, .scales = scales };
	const bool around = far_away(dst, n * size) &&
			    !(f->own < f->count && f->inputs[f->own] == dst);
	const void *inputs[CX_INPUTS];
	char *d = dst;

	for (; n - t.at >= CX_TILE; t.at += CX_TILE, d += CX_TILE * size) {
		fuse_scales(format, &t);
		sum_tile(format, type, d, &t, around);
	}
	if (around)
		stream_end();
	if (t.at < n) {
		struct cx_fuse g = fuse_from(f, format, t.at, inputs);

		cx_codecs_portable.sum[format][cx_float_slot(type)](d, &g, n - t.at);
	}
}

/* ---- top-k ---- */

/* A block of which some elements are to be kept or unfit. */
ALWAYS void choose_from(struct cx_select *s, const vf32 a[NV], const vf32 e[NV], bool left)
{
	for (unsigned v = 0; v < NV; v++) {
		vi32 key = (vi32)a[v] & INT32_MAX, unfit = key >= (int32_t)CX_INF32;
		vi32 taken = (key > (int32_t)s->least - 1) & ~unfit;
		vf32 rest = (vf32)((vi32)a[v] & ~taken);
		unsigned lanes = lanes_of(taken);

		if (left)
			*(mem *)(s->residual + s->at + v * L) =
				(mem)PICK(unfit, (vu32)e[v], (vu32)rest);
		keep(s->bits + s->found, s->index + s->found, (vu32)a[v],
		     (uint32_t)(s->at + v * L), lanes);
		s->found += (unsigned)__builtin_popcount(lanes);
		s->unfit += (unsigned)__builtin_popcount(lanes_of(unfit));
	}
}

ALWAYS void choose_blocks(struct cx_select *s, collx_type type, bool given, bool left)
{
	for (; s->at + CX_BLOCK <= s->n && s->room - s->found >= CX_SELECT_ROOM;
	     s->at += CX_BLOCK) {
		vf32 a[NV], e[NV];
		vi32 some = {0};

		for (unsigned v = 0; v < NV; v++) {
			e[v] = left ? load_float(s->residual + s->at + v * L) : splat(0);
			a[v] = given ? load_as(type, s->gradient, s->at + v * L) : e[v];
			if (given && left)
				a[v] += s->decay * e[v];
			some |= ((vi32)a[v] & INT32_MAX) > (int32_t)s->least - 1;
		}
		if (lanes_of(some)) {
			choose_from(s, a, e, left);
			continue;
		}
		for (unsigned v = 0; v < NV && left; v++)
			*(mem *)(s->residual + s->at + v * L) = (mem)a[v];
	}
}

ALWAYS void choose(struct cx_select *s, collx_type type)
{
	if (s->gradient && s->residual)
		choose_blocks(s, type, true, true);
	else if (s->gradient)
		choose_blocks(s, type, true, false);
	else
		choose_blocks(s, type, false, true);
	cx_codecs_portable.select[cx_float_slot(type)](s);
}

#include "kernels/codec_table.h"
