/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One vector of integers of LANE bits, combined; reduce_body.h includes this
 * once for each LANE. Signed integers are computed as unsigned, so that they
 * wrap.
 */
#define V JOIN(vu, LANE)
#define VI JOIN(vi, LANE)

ALWAYS V JOIN(quotient_signed, LANE)(V x, const struct divider *d)
{
	V minus = (V)((VI)x < 0);

	return (JOIN(quotient, LANE)((x ^ minus) - minus, d) ^ minus) - minus;
}

ALWAYS V JOIN(combine_int, LANE)(V x, V y, collx_op op, bool is_signed, const struct divider *d)
{
	V left;

	if (op == COLLX_PROD)
		return x * y;
	if (op == COLLX_MIN || op == COLLX_MAX) {
		left = is_signed ? (V)((VI)x < (VI)y) : (V)(x < y);
		return op == COLLX_MIN ? PICK(left, x, y) : PICK(left, y, x);
	}
	x += y;
	if (op == COLLX_SUM || d->by <= 1)
		return x;
	return is_signed ? JOIN(quotient_signed, LANE)(x, d) : JOIN(quotient, LANE)(x, d);
}

ALWAYS void JOIN(step_i, LANE)(void *dst, const void *a, const void *b, collx_op op,
			       unsigned wide, const struct divider *d)
{
	(void)wide;
	*(mem *)dst = (mem)JOIN(combine_int, LANE)((V)*(const mem *)a, (V)*(const mem *)b, op,
						   true, d);
}

ALWAYS void JOIN(step_u, LANE)(void *dst, const void *a, const void *b, collx_op op,
			       unsigned wide, const struct divider *d)
{
	(void)wide;
	*(mem *)dst = (mem)JOIN(combine_int, LANE)((V)*(const mem *)a, (V)*(const mem *)b, op,
						   false, d);
}

#undef V
#undef VI
#undef LANE
