/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One vector of floats of LANE bits, combined; reduce_body.h includes this once
 * for each LANE. There is no arithmetic on 16 bits.
 */
#define V JOIN(vu, LANE)
#define VI JOIN(vi, LANE)
#define VF JOIN(vf, LANE)

/*
 * Works on the bits: a float's bits, with all but the sign inverted where it is
 * negative, order as signed integers the way its values do, -0 below +0.
 * inf is the bits of infinity, quiet those of the smallest quiet NaN.
 */
ALWAYS V JOIN(extreme, LANE)(VI x, VI y, collx_op op, JOIN(JOIN(int, LANE), _t) inf,
			     JOIN(JOIN(int, LANE), _t) quiet)
{
	const VI rest = (VI)(~(V){0} >> 1);
	VI x_nan = (x & rest) > inf, y_nan = (y & rest) > inf;
	VI x_key = x ^ ((VI)(x < 0) & rest), y_key = y ^ ((VI)(y < 0) & rest);
	VI left = op == COLLX_MIN ? (VI)(x_key < y_key) : (VI)(y_key < x_key);

	left = x_nan | (left & ~y_nan);
	return PICK(left, (V)x, (V)y) | (V)((x_nan | y_nan) & quiet);
}

#if LANE > 16
ALWAYS VF JOIN(arith, LANE)(VF x, VF y, collx_op op, const struct divider *d)
{
	x = op == COLLX_PROD ? x * y : x + y;
	if (op == COLLX_AVG && d->by > 1)
		x = d->inverse > 0 ? x * d->inverse : x / (JOIN(float, LANE))d->by;
	return (VF)PICK(x != x, (V){0} + JOIN(CANONICAL, LANE), (V)x);
}
#endif

#undef V
#undef VI
#undef VF
#undef LANE
