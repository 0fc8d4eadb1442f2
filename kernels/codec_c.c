/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The portable variant of the codecs: element.h, block by block. It is short
 * rather than fast, being what the others are tested against and what they call
 * for a tile that holds a NaN or an infinity.
 */
#include <stdbool.h>
#include <string.h>

#include "kernels/codec_list.h"
#include "kernels/element.h"

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* ---- arrays ---- */

static size_t size_of(collx_type t)
{
	return t == COLLX_FLOAT32 ? 4 : 2;
}

static float get(const void *array, size_t i, collx_type t)
{
	const char *p = (const char *)array + i * size_of(t);
	uint16_t h;
	float f;

	if (t == COLLX_FLOAT32) {
		memcpy(&f, p, 4);
		return f;
	}
	memcpy(&h, p, 2);
	return t == COLLX_FLOAT16 ? cx_f16_to_f32(h) : cx_bf16_to_f32(h);
}

static void put(void *array, size_t i, collx_type t, float f)
{
	char *p = (char *)array + i * size_of(t);
	uint16_t h;

	if (t == COLLX_FLOAT32) {
		memcpy(p, &f, 4);
		return;
	}
	h = t == COLLX_FLOAT16 ? cx_f16_from_f32(f) : cx_bf16_from_f32(f);
	memcpy(p, &h, 2);
}

/* ---- one block ---- */

/* Where a block of an encoded array of n elements is. */
struct place {
	size_t payload, scale;
	size_t first, elements; /* in the array */
};

static struct place place_of(enum cx_format f, size_t block, size_t n)
{
	size_t tile = block * CX_BLOCK / CX_TILE, in_tile = block % (CX_TILE / CX_BLOCK);
	size_t begin = cx_wire_bytes(f, tile * CX_TILE), first = block * CX_BLOCK;
	size_t whole = least(n - tile * CX_TILE, CX_TILE);

	return (struct place){ begin + in_tile * cx_wire_block(f),
			       begin + cx_wire_scales(f, whole) + in_tile * 2, first,
			       least(n - first, CX_BLOCK) };
}

/* The 16-bit random numbers of a block. */
static void draw(uint32_t random[CX_BLOCK], const struct cx_rounding *r, size_t first)
{
	uint32_t words[4];

	for (unsigned i = 0; i < CX_BLOCK; i++) {
		if (i % 8 == 0)
			cx_philox(words, (r->index + first + i) / 8, r->seed);
		random[i] = cx_random16(words, i);
	}
}

static uint16_t scale_of(enum cx_format f, const float x[CX_BLOCK], bool stochastic)
{
	uint32_t pos = 0, neg = 0;

	for (unsigned i = 0; i < CX_BLOCK; i++) {
		uint32_t *most = cx_float_bits(x[i]) >> 31 ? &neg : &pos;

		if (cx_abs_bits(x[i]) > *most)
			*most = cx_abs_bits(x[i]);
	}
	return f == CX_Q4 ? cx_q4_scale(pos, neg, stochastic) : cx_q8_scale(pos > neg ? pos : neg);
}

static int32_t quantum(enum cx_format f, float x, float inverse, bool stochastic, uint32_t random)
{
	if (f == CX_Q8)
		return stochastic ? cx_q8_stochastic(x, inverse, random) :
				    cx_q8_nearest(x, inverse);
	return stochastic ? cx_q4_stochastic(x, inverse, random) : cx_q4_nearest(x, inverse);
}

static void encode_bf16(unsigned char *payload, const float x[CX_BLOCK], bool stochastic,
			const uint32_t random[CX_BLOCK])
{
	for (unsigned i = 0; i < CX_BLOCK; i++) {
		uint16_t h = stochastic ? cx_bf16_stochastic(x[i], random[i]) :
					  cx_bf16_nearest(x[i]);

		memcpy(payload + i * 2, &h, 2);
	}
}

static void encode_block(enum cx_format f, unsigned char *wire, const struct place *at,
			 const float x[CX_BLOCK], const struct cx_rounding *r)
{
	bool stochastic = r && r->stochastic;
	uint32_t random[CX_BLOCK] = {0};
	unsigned char *payload = wire + at->payload;
	uint16_t scale;
	float inverse;

	if (stochastic)
		draw(random, r, at->first);
	if (f == CX_BF16) {
		encode_bf16(payload, x, stochastic, random);
		return;
	}
	scale = scale_of(f, x, stochastic);
	inverse = cx_scale_inverse(scale);
	memcpy(wire + at->scale, &scale, 2);
	memset(payload, 0, cx_wire_block(f));
	if (scale == CX_POISON)
		return;
	for (unsigned i = 0; i < CX_BLOCK; i++) {
		int32_t q = quantum(f, x[i], inverse, stochastic, random[i]);

		if (f == CX_Q8)
			payload[i] = (unsigned char)q;
		else
			payload[i / 2] |= (unsigned char)((q & 15) << i % 2 * 4);
	}
}

static void decode_block(enum cx_format f, float y[CX_BLOCK], const unsigned char *wire,
			 const struct place *at)
{
	const unsigned char *payload = wire + at->payload;
	uint16_t h;
	float scale = 0;

	if (f != CX_BF16) {
		memcpy(&h, wire + at->scale, 2);
		scale = cx_scale_value(h);
	}
	for (unsigned i = 0; i < CX_BLOCK; i++) {
		if (f == CX_BF16) {
			memcpy(&h, payload + i * 2, 2);
			y[i] = cx_bf16_to_f32(h);
		} else if (f == CX_Q8) {
			y[i] = cx_dequantize((int8_t)payload[i], scale);
		} else {
			y[i] = cx_dequantize(cx_q4_signed((uint32_t)payload[i / 2] >> i % 2 * 4),
					     scale);
		}
	}
}

/* Encoders write the padding after the scales of a rest. */
static void pad(enum cx_format f, unsigned char *wire, size_t n)
{
	size_t rest = n % CX_TILE, scales = (rest + CX_BLOCK - 1) / CX_BLOCK * 2;
	size_t end = cx_wire_bytes(f, n);

	if (f != CX_BF16 && rest)
		memset(wire + end - cx_wire_pad(scales) + scales, 0, cx_wire_pad(scales) - scales);
}

/* ---- arrays of blocks ---- */

static void encode(enum cx_format f, collx_type t, void *wire, const void *src, size_t n,
		   const struct cx_rounding *r)
{
	for (size_t b = 0; b * CX_BLOCK < n; b++) {
		struct place at = place_of(f, b, n);
		float x[CX_BLOCK] = {0};

		for (size_t i = 0; i < at.elements; i++)
			x[i] = get(src, at.first + i, t);
		encode_block(f, wire, &at, x, r);
	}
	pad(f, wire, n);
}

/* bf16 is widened or narrowed, the others are made to fit the type. */
static float fit(enum cx_format f, collx_type t, float y)
{
	if (f == CX_BF16 || t == COLLX_FLOAT32)
		return y;
	return cx_limit(y, t == COLLX_FLOAT16 ? CX_F16_TOP : cx_bf16_to_f32(CX_BF16_TOP));
}

static void decode(enum cx_format f, collx_type t, void *dst, const void *wire, size_t n)
{
	for (size_t b = 0; b * CX_BLOCK < n; b++) {
		struct place at = place_of(f, b, n);
		float y[CX_BLOCK];

		decode_block(f, y, wire, &at);
		if (f == CX_BF16 && t == COLLX_BFLOAT16)
			memcpy((char *)dst + at.first * 2, (const char *)wire + at.payload,
			       at.elements * 2);
		else
			for (size_t i = 0; i < at.elements; i++)
				put(dst, at.first + i, t, fit(f, t, y[i]));
	}
}

static void accumulate(enum cx_format f, float *dst, const void *wire, size_t n)
{
	for (size_t b = 0; b * CX_BLOCK < n; b++) {
		struct place at = place_of(f, b, n);
		float y[CX_BLOCK];

		decode_block(f, y, wire, &at);
		for (size_t i = 0; i < at.elements; i++)
			put(dst, at.first + i, COLLX_FLOAT32,
			    cx_sum(get(dst, at.first + i, COLLX_FLOAT32), y[i]));
	}
}

/* Sends a, leaves the rest of it in the residual. */
static void encode_left(enum cx_format f, void *wire, const struct place *at,
			const float a[CX_BLOCK], float *residual, const struct cx_rounding *r)
{
	float y[CX_BLOCK];

	encode_block(f, wire, at, a, r);
	decode_block(f, y, wire, at);
	for (size_t i = 0; i < at->elements; i++)
		if (cx_abs_bits(y[i]) < CX_INF32)
			put(residual, at->first + i, COLLX_FLOAT32, cx_left(a[i], y[i]));
}

static void feedback(enum cx_format f, collx_type t, void *wire, const void *gradient,
		     float *residual, size_t n, float decay, const struct cx_rounding *r)
{
	for (size_t b = 0; b * CX_BLOCK < n; b++) {
		struct place at = place_of(f, b, n);
		float a[CX_BLOCK] = {0};

		for (size_t i = 0; i < at.elements; i++)
			a[i] = cx_feedback(get(gradient, at.first + i, t),
					   get(residual, at.first + i, COLLX_FLOAT32), decay);
		encode_left(f, wire, &at, a, residual, r);
	}
	pad(f, wire, n);
}

/* ---- several inputs ---- */

static void add_block(enum cx_format format, float sum[CX_BLOCK], const struct cx_fuse *f,
		      const struct place *at)
{
	float y[CX_BLOCK];

	memset(sum, 0, CX_BLOCK * sizeof(*sum));
	for (unsigned k = 0; k < f->count; k++) {
		if (k != f->own)
			decode_block(format, y, f->inputs[k], at);
		for (size_t i = 0; i < at->elements; i++)
			sum[i] = cx_sum(sum[i], k != f->own ? y[i] :
					get(f->inputs[k], at->first + i, f->own_type));
	}
	for (size_t i = 0; i < CX_BLOCK && f->divisor > 1; i++)
		sum[i] = cx_canonical(cx_div(sum[i], (float)f->divisor));
}

static void fuse(enum cx_format format, void *dst, const struct cx_fuse *f, size_t n)
{
	for (size_t b = 0; b * CX_BLOCK < n; b++) {
		struct place at = place_of(format, b, n);
		float a[CX_BLOCK];

		add_block(format, a, f, &at);
		for (size_t i = 0; i < at.elements && f->residual; i++)
			a[i] = cx_feedback(a[i], get(f->residual, at.first + i, COLLX_FLOAT32),
					   f->decay);
		if (f->residual)
			encode_left(format, dst, &at, a, f->residual, &f->rounding);
		else
			encode_block(format, dst, &at, a, &f->rounding);
	}
	pad(format, dst, n);
}

static void sum(enum cx_format format, collx_type t, void *dst, const struct cx_fuse *f, size_t n)
{
	for (size_t b = 0; b * CX_BLOCK < n; b++) {
		struct place at = place_of(format, b, n);
		float a[CX_BLOCK];

		add_block(format, a, f, &at);
		for (size_t i = 0; i < at.elements; i++)
			put(dst, at.first + i, t, a[i]);
	}
}

/* ---- top-k ---- */

static void choose(struct cx_select *s, collx_type t)
{
	for (; s->at < s->n && s->room - s->found >= CX_SELECT_ROOM; s->at++) {
		float e = s->residual ? get(s->residual, s->at, COLLX_FLOAT32) : 0;
		float a = s->gradient ? get(s->gradient, s->at, t) : e;

		if (s->gradient && s->residual)
			a = cx_feedback(a, e, s->decay);
		if (cx_abs_bits(a) >= CX_INF32) {
			s->unfit++;
			continue;
		}
		if (cx_eligible(a, s->least)) {
			s->bits[s->found] = cx_float_bits(a);
			s->index[s->found++] = (uint32_t)s->at;
			a = 0;
		}
		if (s->residual)
			put(s->residual, s->at, COLLX_FLOAT32, a);
	}
}

/* ---- the table ---- */

static int machine_usable(void)
{
	return 1;
}

#define CODECS cx_codecs_portable
#define CODECS_NAME "portable"
#include "kernels/codec_table.h"
