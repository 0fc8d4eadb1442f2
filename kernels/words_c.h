/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The words of a variant for any processor: vectors of 16 bytes, which the
 * compiler makes of what the processor has, be it SSE2, NEON or single elements.
 * See words.h.
 */
#define VEC 16
#include "kernels/words.h"

ALWAYS vu8 pick(vu8 mask, vu8 x, vu8 y)
{
	return (mask & x) | (~mask & y);
}

ALWAYS vu64 product(vu64 x, vu64 y)
{
	return (x & 0xffffffff) * (y & 0xffffffff);
}

ALWAYS void divider_init(struct divider *d, unsigned bits, uint32_t by)
{
	(void)bits;
	d->by = by;
}

ALWAYS vu8 quotient8(vu8 x, const struct divider *d)
{
	return d->by > UINT8_MAX ? (vu8){0} : x / (uint8_t)d->by;
}

ALWAYS vu32 quotient32(vu32 x, const struct divider *d)
{
	return x / d->by;
}

ALWAYS vu64 quotient64(vu64 x, const struct divider *d)
{
	return x / d->by;
}

ALWAYS vu32 load_short(const void *p)
{
	return __builtin_convertvector(*(const mem_short *)p, vu32);
}

ALWAYS vshort narrow_short(vu32 v)
{
	return __builtin_convertvector(v, vshort);
}

/* The next two are those of convert.h, with choices in place of branches. */
ALWAYS vf32 load_f16(const void *p)
{
	vi32 h = (vi32)load_short(p), rest = h & 0x7fff;
	vi32 tiny = (vi32)(__builtin_convertvector(rest, vf32) * 5.9604644775390625e-8f);
	vi32 u = (rest << 13) + ((127 - 15) << 23);

	u = PICK(rest < 0x0400, tiny, u);
	u = PICK(rest >= 0x7c00, (rest << 13) | 0x7f800000, u);
	u |= (vi32)(rest > 0x7c00) & 0x00400000;
	return (vf32)((vu32)u | (vu32)(h & 0x8000) << 16);
}

ALWAYS vshort narrow_f16(vf32 v)
{
	vi32 u = (vi32)v & 0x7fffffff, sign = ((vi32)v >> 16) & 0x8000;
	/* The float's last place becomes that of a subnormal, 2^-24: the sum rounds. */
	vi32 tiny = (vi32)((vf32)u + 0.5f) - 0x3f000000;
	vi32 h = (vi32)((vu32)u - ((127 - 15) << 23) + 0x0fff + (((vu32)u >> 13) & 1)) >> 13;

	h = PICK(u < 0x38800000, tiny, h);
	h = PICK(u >= 0x477ff000, (vi32){0} + 0x7c00, h);
	h = PICK(u > 0x7f800000, 0x7e00 | ((u >> 13) & 0x03ff), h);
	return narrow_short((vu32)(sign | h));
}

ALWAYS mem join_short(vshort a, vshort b)
{
	vshort both[2] = { a, b };
	mem m;

	memcpy(&m, both, sizeof(m));
	return m;
}

ALWAYS mem load_far(const void *p)
{
	return *(const mem *)p;
}

/* Where the compiler knows no way around the caches, a store is a store. */
ALWAYS void stream(void *p, mem v)
{
	*(mem *)p = v;
}

ALWAYS void stream_half(void *p, mem_half v)
{
	*(mem_half *)p = v;
}

ALWAYS void stream_end(void)
{
}

static int machine_usable(void)
{
	return 1;
}
