/* SPDX-License-Identifier: BSD-3-Clause */
/* BFLOAT16 in the words of any variant. */
ALWAYS vf32 load_bf16(const void *p)
{
	return (vf32)(load_short(p) << 16);
}

/* For results of arith32: their only NaN survives the rounding. */
ALWAYS vshort narrow_bf16(vf32 v)
{
	vu32 u = (vu32)v;

	return narrow_short((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

ALWAYS vshort narrow_bf16_any(vf32 v)
{
	vu32 u = (vu32)v;

	return narrow_bf16((vf32)PICK(v != v, (u | 0x00400000) & 0xffff0000, u));
}
