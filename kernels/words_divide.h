/* SPDX-License-Identifier: BSD-3-Clause */
/* Division of integer lanes for variants that have product, and their own quotient8. */
/*
 * Division by multiplication with the reciprocal: Granlund and Montgomery,
 * "Division by Invariant Integers using Multiplication" (1994), figure 4.1.
 * Eight bits have room to spare in sixteen: a divisor above 255 gives 0, as 256.
 */
ALWAYS void divider_init(struct divider *d, unsigned bits, uint32_t by)
{
	uint64_t rest, high;

	d->by = by;
	if (bits == 8) {
		d->factor = 65536 / (by < 256 ? by : 256) + 1;
		return;
	}
	d->shift = 31 - (unsigned)__builtin_clz(by - 1); /* one less than log2, rounded up */
	rest = (UINT64_C(2) << d->shift) - by;
	high = (rest << 32) / by;
	d->factor = high + 1;
	if (bits == 64)
		d->factor = (high << 32 | (((rest << 32) % by) << 32) / by) + 1;
}

ALWAYS vu32 quotient32(vu32 x, const struct divider *d)
{
	const vu64 factor = (vu64){0} + d->factor;
	vu64 even = product((vu64)x, factor) >> 32, odd = product((vu64)x >> 32, factor);
	vu32 t = (vu32)(even | (odd & UINT64_C(0xffffffff00000000)));

	return (t + ((x - t) >> 1)) >> d->shift;
}

ALWAYS vu64 quotient64(vu64 x, const struct divider *d)
{
	const vu64 low = (vu64){0} + d->factor, high = low >> 32;
	vu64 t = product(x >> 32, low) + (product(x, low) >> 32);
	vu64 u = product(x, high) + (t & 0xffffffff);

	t = product(x >> 32, high) + (t >> 32) + (u >> 32);
	return (t + ((x - t) >> 1)) >> d->shift;
}
