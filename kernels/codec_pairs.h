/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sums of arrays in bf16, to bf16 and to nearest; codec_body.h includes this. Elements at even
 * and at odd places are two vectors of floats: one is a shift of what lies in memory, the other
 * a mask of it, and so is the way back. Nothing is moved between lanes.
 */

/* Rounded, in the upper halves of lanes, for what is below the largest bfloat16; else it comes to
 * infinity or NaN, of which these inputs leave the lower half clear. */
ALWAYS vu32 rounded_half(vf32 x)
{
	vu32 u = (vu32)x;

	return u + 0x7fff + (u >> 16 & 1);
}

/* Adds a vector of bf16. */
ALWAYS void add_pairs(vf32 x[2], const char *p)
{
	vu32 u = (vu32)*(const mem *)p;

	x[0] += (vf32)(u << 16);
	x[1] += (vf32)(u & 0xffff0000);
}

/*
 * As many elements as a vector of bf16 has, of all inputs from byte `at` on. Of up to OWN inputs
 * each is read, and asked for, by instructions of its own: the processor's own prefetching goes by
 * these. With one for all inputs sums had 0.37 of what memory permits where inputs lay at
 * different places of their pages, with their own 0.92 (Zen 5).
 */
ALWAYS vu32 sum_pairs(const struct cx_fuse *f, size_t at)
{
	enum { OWN = 8 };
	vf32 x[2] = {splat(0), splat(0)};

	for (unsigned k = 0; k < OWN && k < f->count; k++) {
		if (at % CACHE_LINE == 0)
			look_ahead_streams((const char *)f->inputs[k] + at);
		add_pairs(x, (const char *)f->inputs[k] + at);
	}
	for (unsigned k = OWN; k < f->count; k++)
		add_pairs(x, (const char *)f->inputs[k] + at);
	divide(x, 2, f->divisor);
	return rounded_half(x[0]) >> 16 | (rounded_half(x[1]) & 0xffff0000);
}

/* A tile of inputs that are all encoded; false: it is to be done otherwise, over what was
 * written. */
ALWAYS bool fuse_pairs(unsigned char *wire, const struct tile *t, bool around)
{
	const size_t first = cx_wire_bytes(CX_BF16, t->at);
	vu16 most = {0};

	if (t->residual || t->rounding.stochastic || t->fuse->own < t->fuse->count)
		return false;
	for (size_t i = 0; i < cx_wire_bytes(CX_BF16, CX_TILE); i += VEC) {
		vu32 h = sum_pairs(t->fuse, first + i);

		most = larger_short(most, (vu16)h & 0x7fff);
		put((char *)wire + i, (mem)h, around);
	}
	return !lanes_of((vi32)((vu32)(most >= 0x7f80) != 0));
}
