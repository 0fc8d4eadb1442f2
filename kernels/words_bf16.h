/* SPDX-License-Identifier: BSD-3-Clause */
/* BFLOAT16 in the words of any variant. */
ALWAYS vf32 load_bf16(const void *p)
{
	return (vf32)(load_short(p) << 16);
}

/* In the upper halves. For results of arith32: their only NaN survives the rounding. */
ALWAYS vu32 round_bf16(vf32 v)
{
	vu32 u = (vu32)v;

	return u + 0x7fff + ((u >> 16) & 1);
}

ALWAYS vshort narrow_bf16(vf32 v)
{
	return narrow_short(round_bf16(v) >> 16);
}

ALWAYS vshort narrow_bf16_any(vf32 v)
{
	vu32 u = (vu32)v;

	return narrow_bf16((vf32)PICK(v != v, (u | 0x00400000) & 0xffff0000, u));
}

/* As many as fill a vector: those at even places, and at odd ones. */
ALWAYS void load_bf16_pair(vf32 x[2], const void *p)
{
	vu32 u = (vu32)*(const mem *)p;

	x[0] = (vf32)(u << 16);
	x[1] = (vf32)(u & 0xffff0000);
}

ALWAYS vu32 narrow_bf16_pair(const vf32 x[2])
{
	return round_bf16(x[0]) >> 16 | (round_bf16(x[1]) & 0xffff0000);
}
