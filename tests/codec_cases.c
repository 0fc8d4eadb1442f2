/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec_cases.h"
#include "kernels/element.h"

extern const struct cx_codecs cx_codecs_portable;

uint64_t codec_mix(uint64_t x)
{
	x = (x + 1) * UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/* ---- data ---- */

/* About normal, deviation 1. */
static float bell(uint64_t r)
{
	float sum = 0;

	for (unsigned i = 0; i < 4; i++)
		sum += (float)(r >> i * 16 & 0xffff) / 65536.0f - 0.5f;
	return sum * 1.7320508f;
}

static float unpleasant(uint64_t r)
{
	static const uint32_t bits[] = {
		0, 1, 0x007fffff, 0x00800000, 0x03ffffff, 0x04000000, 0x04000001, 0x3f000000,
		0x3f7fffff, 0x3f800000, 0x40490fdb, 0x477fe000, 0x477ff000, 0x7e7fffff, 0x7f7effff,
		0x7f7f0000, 0x7f7f8000, 0x7f7fffff, 0x7f800000, 0x7f800001, 0x7fc00000, 0x7fffffff,
	};
	uint32_t u = bits[r % (sizeof(bits) / sizeof(bits[0]))];

	return cx_float_from_bits(u | (uint32_t)(r >> 32 & 1) << 31);
}

static float number(unsigned kind, uint64_t r, size_t i, uint64_t seed)
{
	switch (kind) {
	case 0:
	case 1:
		return bell(r);
	case 2: /* any bits */
		return cx_float_from_bits((uint32_t)r);
	case 3: /* a constant */
		return bell(codec_mix(seed));
	case 4:
		return r & 1 ? 0.0f : -0.0f;
	case 5: /* one outlier */
		return i % 977 == seed % 977 ? 1e30f : bell(r);
	case 6: /* subnormals */
		return cx_float_from_bits((uint32_t)r & 0x807fffffu);
	case 7: /* around 2^-119 */
		return cx_float_from_bits((0x03800000u + (uint32_t)(r % 0x01000000u)) |
					  (uint32_t)(r >> 63) << 31);
	case 8: /* around the largest */
		return cx_float_from_bits((0x7f000000u + (uint32_t)(r % 0x00800000u)) |
					  (uint32_t)(r >> 63) << 31);
	case 9: /* exact multiples of a half: ties */
		return (float)((int32_t)(r % 509) - 254) * 0.5f;
	case 10: /* the extremes are equal */
		return (float)((int32_t)(r % 3) - 1) * bell(codec_mix(seed));
	case 11: /* one NaN or infinity in a while */
		return r % 1500 == 0 ? unpleasant(18 + r / 1500 % 4) : bell(r >> 3);
	case 12: /* magnitudes of all kinds from block to block */
		return bell(r) * cx_float_from_bits((uint32_t)(codec_mix(seed + i / 32) % 250 + 2)
						    << 23);
	case 13:
		return unpleasant(r);
	case 14: /* few are not 0 */
		return r % 50 ? 0.0f : bell(r >> 8);
	default: /* of one sign */
		return cx_float_from_bits(cx_abs_bits(bell(r)) | (uint32_t)(seed & 1) << 31);
	}
}

void codec_fill(float *x, size_t n, unsigned kind, uint64_t seed)
{
	for (size_t i = 0; i < n; i++)
		x[i] = number(kind, codec_mix(seed * 0x10001 + i), i, seed);
}

/* ---- one case ---- */

enum { GUARD = 64, BUFFERS = 64 };

/* Its parameters, and the buffers that end with it. */
struct one {
	const struct cx_codecs *c;
	uint64_t seed;
	size_t n;
	struct cx_rounding rounding;
	float decay;
	uint32_t divisor;
	char *why;
	uint64_t sum; /* of all that came out */
	void *made[BUFFERS];
	unsigned buffers;
};

static uint64_t next(struct one *o)
{
	return o->seed = codec_mix(o->seed);
}

static unsigned char *allocate(struct one *o, size_t len)
{
	unsigned char *p = malloc(len ? len : 1);

	if (!p || o->buffers == BUFFERS)
		abort();
	memset(p, 0xa5, len);
	o->made[o->buffers++] = p;
	return p;
}

/* Input: begins anywhere, ends with the allocation, so that ASan sees who reads beyond. */
static unsigned char *input(struct one *o, size_t len)
{
	size_t off = next(o) % 2 ? next(o) % 64 : 0;

	return allocate(o, off + len) + off;
}

/* Output: bytes around it that must stay. */
static unsigned char *output(struct one *o, size_t len)
{
	size_t off = next(o) % 2 ? next(o) % 64 : 0;
	unsigned char *p = allocate(o, off + len + 2 * GUARD) + off;

	return p + GUARD;
}

static void done(struct one *o)
{
	while (o->buffers)
		free(o->made[--o->buffers]);
}

uint64_t codec_sum(uint64_t sum, const void *bytes, size_t len)
{
	const unsigned char *p = bytes;

	for (size_t i = 0; i < len; i++) /* FNV-1a */
		sum = (sum ^ p[i]) * UINT64_C(0x100000001b3);
	return sum;
}

/* Both outputs with their guards. */
static int same(struct one *o, const char *what, int f, int slot, const unsigned char *mine,
		const unsigned char *right, size_t len)
{
	for (size_t i = 0; i < len + 2 * GUARD; i++) {
		if (mine[i - GUARD] == right[i - GUARD])
			continue;
		snprintf(o->why, CODEC_WHY, "%s: %s, format %d, type %d, %zu elements, %s: byte "
			 "%td of %zu is %02x, not %02x", o->c->name, what, f, slot, o->n,
			 o->rounding.stochastic ? "stochastic" : "nearest",
			 (ptrdiff_t)i - GUARD, len, mine[i - GUARD], right[i - GUARD]);
		return -1;
	}
	o->sum = codec_sum(o->sum, mine, len);
	return 0;
}

static size_t size_of(int slot)
{
	return slot ? 2 : 4;
}

static const collx_type types[CX_FLOATS] = { COLLX_FLOAT32, COLLX_FLOAT16, COLLX_BFLOAT16 };

/* An array of the type with numbers of some kind. */
static unsigned char *array(struct one *o, int slot)
{
	unsigned char *a = input(o, o->n * size_of(slot));
	float *x = malloc((o->n + 1) * sizeof(*x));
	unsigned kind = (unsigned)(next(o) % CODEC_KINDS);

	if (!x)
		abort();
	codec_fill(x, o->n, kind, next(o));
	for (size_t i = 0; i < o->n; i++) {
		uint16_t h = slot == 1 ? cx_f16_from_f32(x[i]) : cx_bf16_from_f32(x[i]);

		if (kind == 2 && slot)
			h = (uint16_t)codec_mix(o->seed + i);
		memcpy(a + i * size_of(slot), slot ? (void *)&h : (void *)&x[i], size_of(slot));
	}
	free(x);
	return a;
}

/* An encoded array; at times any bytes at all. */
static unsigned char *wire(struct one *o, enum cx_format f)
{
	size_t len = cx_wire_bytes(f, o->n);
	unsigned char *w = input(o, len);
	const unsigned char *x = array(o, 0);

	cx_codecs_portable.encode[f][0](w, x, o->n, &o->rounding);
	if (next(o) % 8 == 0)
		for (size_t i = 0; i < len; i++)
			w[i] = (unsigned char)codec_mix(o->seed + i);
	return w;
}

/* A second copy of what an operation changes in place. */
static unsigned char *twin(struct one *o, const unsigned char *p, size_t len)
{
	unsigned char *q = output(o, len);

	memcpy(q, p, len);
	return q;
}

/* ---- the functions ---- */

static int try_encode(struct one *o, enum cx_format f, int slot)
{
	size_t len = cx_wire_bytes(f, o->n);
	const unsigned char *x = array(o, slot);
	unsigned char *mine = output(o, len), *right = output(o, len);

	if (!o->c->encode[f][slot])
		return 0;
	cx_codecs_portable.encode[f][slot](right, x, o->n, &o->rounding);
	o->c->encode[f][slot](mine, x, o->n, &o->rounding);
	return same(o, "encode", f, slot, mine, right, len);
}

static int try_decode(struct one *o, enum cx_format f, int slot)
{
	size_t len = o->n * size_of(slot);
	const unsigned char *w = wire(o, f);
	unsigned char *mine = output(o, len), *right = output(o, len);

	if (!o->c->decode[f][slot])
		return 0;
	cx_codecs_portable.decode[f][slot](right, w, o->n);
	o->c->decode[f][slot](mine, w, o->n);
	return same(o, "decode", f, slot, mine, right, len);
}

static int try_accumulate(struct one *o, enum cx_format f)
{
	size_t len = o->n * 4;
	const unsigned char *w = wire(o, f), *x = array(o, 0);
	unsigned char *mine = twin(o, x, len), *right = twin(o, x, len);

	if (!o->c->accumulate[f])
		return 0;
	cx_codecs_portable.accumulate[f]((float *)(void *)right, w, o->n);
	o->c->accumulate[f]((float *)(void *)mine, w, o->n);
	return same(o, "accumulate", f, 0, mine, right, len);
}

static int try_feedback(struct one *o, enum cx_format f, int slot)
{
	size_t len = cx_wire_bytes(f, o->n);
	const unsigned char *g = array(o, slot), *e = array(o, 0);
	unsigned char *mine = output(o, len), *right = output(o, len);
	unsigned char *my_left = twin(o, e, o->n * 4), *left = twin(o, e, o->n * 4);
	int rc;

	if (!o->c->feedback[f][slot])
		return 0;
	cx_codecs_portable.feedback[f][slot](right, g, (float *)(void *)left, o->n, o->decay,
					     &o->rounding);
	o->c->feedback[f][slot](mine, g, (float *)(void *)my_left, o->n, o->decay, &o->rounding);
	rc = same(o, "feedback", f, slot, mine, right, len);
	return rc ? rc : same(o, "residual", f, slot, my_left, left, o->n * 4);
}

static struct cx_fuse inputs(struct one *o, enum cx_format f, const void *in[CX_INPUTS])
{
	unsigned count = 1 + (unsigned)(next(o) % (next(o) % 4 ? 4 : CX_INPUTS));
	unsigned own = (unsigned)(next(o) % (count + 2));
	int slot = (int)(next(o) % CX_FLOATS);

	for (unsigned k = 0; k < count; k++)
		in[k] = k == own ? array(o, slot) : wire(o, f);
	return (struct cx_fuse){ .inputs = in, .count = count, .own = own < count ? own : count,
				 .own_type = types[slot], .divisor = o->divisor,
				 .decay = o->decay, .rounding = o->rounding };
}

static int try_fuse(struct one *o, enum cx_format f)
{
	size_t len = cx_wire_bytes(f, o->n);
	const void *in[CX_INPUTS];
	struct cx_fuse u = inputs(o, f, in), v = u;
	const unsigned char *e = array(o, 0);
	unsigned char *mine = output(o, len), *right = output(o, len);
	unsigned char *my_left = twin(o, e, o->n * 4), *left = twin(o, e, o->n * 4);
	int rc;

	if (!o->c->fuse[f])
		return 0;
	if (next(o) & 1) {
		u.residual = (float *)(void *)left;
		v.residual = (float *)(void *)my_left;
	}
	cx_codecs_portable.fuse[f](right, &u, o->n);
	o->c->fuse[f](mine, &v, o->n);
	rc = same(o, "fuse", f, 0, mine, right, len);
	return rc ? rc : same(o, "fused residual", f, 0, my_left, left, o->n * 4);
}

static int try_sum(struct one *o, enum cx_format f, int slot)
{
	size_t len = o->n * size_of(slot);
	const void *in[CX_INPUTS];
	struct cx_fuse u = inputs(o, f, in);
	unsigned char *mine = output(o, len), *right = output(o, len);

	if (!o->c->sum[f][slot])
		return 0;
	cx_codecs_portable.sum[f][slot](right, &u, o->n);
	if (u.own < u.count && u.own_type == types[slot] && next(o) & 1) { /* in place */
		memcpy(mine, in[u.own], len);
		in[u.own] = mine;
	}
	o->c->sum[f][slot](mine, &u, o->n);
	return same(o, "sum", f, slot, mine, right, len);
}

/* What was kept, as bytes. */
struct kept {
	uint32_t bits[4096 + CX_SELECT_ROOM], index[4096 + CX_SELECT_ROOM];
	size_t at, found;
	uint64_t unfit;
};

static void select_once(const struct cx_codecs *c, int slot, struct cx_select s, struct kept *k)
{
	s.bits = k->bits;
	s.index = k->index;
	c->select[slot](&s);
	k->at = s.at;
	k->found = s.found;
	k->unfit = s.unfit;
}

static int try_select(struct one *o, int slot)
{
	static struct kept mine, right;
	const unsigned char *g = array(o, slot), *e = array(o, 0);
	unsigned char *my_left = twin(o, e, o->n * 4), *left = twin(o, e, o->n * 4);
	struct cx_select s = { .n = o->n, .decay = o->decay, .room = 4096 + CX_SELECT_ROOM };
	uint64_t how = next(o) % 4;

	if (!o->c->select[slot])
		return 0;
	s.least = next(o) & 1 ? 1 : 0x3f800000 + (uint32_t)(next(o) % 0x01000000);
	if (next(o) % 4 == 0)
		s.room = CX_SELECT_ROOM + next(o) % 500;
	s.gradient = how == 0 ? NULL : g;
	s.residual = how == 1 ? NULL : (float *)(void *)left;
	select_once(&cx_codecs_portable, slot, s, &right);
	s.residual = how == 1 ? NULL : (float *)(void *)my_left;
	select_once(o->c, slot, s, &mine);
	if (mine.at < o->n || right.at < o->n) /* where it stops for lack of room is its affair */
		return 0;
	if (mine.found != right.found || mine.unfit != right.unfit ||
	    memcmp(mine.bits, right.bits, mine.found * 4) ||
	    memcmp(mine.index, right.index, mine.found * 4)) {
		snprintf(o->why, CODEC_WHY, "%s: select, type %d, %zu elements: %zu candidates, "
			 "not %zu", o->c->name, slot, o->n, mine.found, right.found);
		return -1;
	}
	return same(o, "select", -1, slot, my_left, left, o->n * 4);
}

/* ---- all of it ---- */

static int try_format(struct one *o, enum cx_format f)
{
	int rc = 0;

	for (int slot = 0; slot < CX_FLOATS && !rc; slot++) {
		rc = try_encode(o, f, slot);
		rc = rc ? rc : try_decode(o, f, slot);
		done(o);
		rc = rc ? rc : try_feedback(o, f, slot);
		done(o);
		rc = rc ? rc : try_sum(o, f, slot);
		done(o);
	}
	rc = rc ? rc : try_accumulate(o, f);
	done(o);
	rc = rc ? rc : try_fuse(o, f);
	done(o);
	return rc;
}

int codec_case_sum(const struct cx_codecs *c, uint64_t i, char why[CODEC_WHY], uint64_t *sum)
{
	struct one o = { .c = c, .seed = i, .n = i % 2101, .why = why, .sum = *sum };
	int rc = 0;

	if (next(&o) % 64 == 0)
		o.n += next(&o) % 8192;
	o.rounding.stochastic = next(&o) % 3 == 0;
	o.rounding.seed = next(&o);
	o.rounding.index = (next(&o) >> (next(&o) & 1 ? 8 : 40)) * CX_TILE;
	o.decay = next(&o) % 3 ? 1.0f : 0.75f;
	o.divisor = next(&o) % 2 ? 1 : 1 + (uint32_t)(next(&o) % 9);
	for (int f = 0; f < CX_FORMATS && !rc; f++)
		rc = try_format(&o, (enum cx_format)f);
	for (int slot = 0; slot < CX_FLOATS && !rc; slot++) {
		rc = try_select(&o, slot);
		done(&o);
	}
	done(&o);
	*sum = o.sum;
	return rc;
}

int codec_case(const struct cx_codecs *c, uint64_t i, char why[CODEC_WHY])
{
	uint64_t sum = 0;

	return codec_case_sum(c, i, why, &sum);
}
