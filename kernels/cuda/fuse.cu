/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Up to CX_INPUTS encoded arrays, decoded, added and encoded again or left as an array,
 * in one pass: a warp a tile, the sums in registers, the next input under way while one
 * is added. Products of a quantum and a scale are exact unless they overflow, so that a
 * multiply-add gives the bits of cx_sum(acc, cx_dequantize(q, scale)); starting at +0 no
 * sum is -0, and which NaN it is, is settled at the end.
 */
#include "kernels/cuda/encode.cuh"

struct input {
	payload v[ROUNDS];
	float scale; /* of block lane_id() */
};

template <int F>
DEVICE void load_input(input &in, const tile &t, const cx_fuse_args &a, unsigned which)
{
	if (which < a.count && which != a.own)
		in.scale = load_wire<F>(in.v, t, a.inputs[which]);
}

template <int T> DEVICE void add_array(quad acc[ROUNDS], const tile &t, const void *array)
{
	const unsigned char *p = array_in<T>(t, array);

	UNROLL
	for (unsigned r = 0; r < ROUNDS; r++) {
		quad x = load_quad<T>(p, r);

		for (int i = 0; i < QUAD; i++)
			acc[r].f[i] = cx_add(acc[r].f[i], x.f[i]);
	}
}

DEVICE void add_own(quad acc[ROUNDS], const tile &t, const cx_fuse_args &a)
{
	if (a.own_slot == F32)
		add_array<F32>(acc, t, a.inputs[a.own]);
	else if (a.own_slot == F16)
		add_array<F16>(acc, t, a.inputs[a.own]);
	else
		add_array<BF16>(acc, t, a.inputs[a.own]);
}

template <int F, bool EXACT> DEVICE void add_quanta(quad acc[ROUNDS], const input &in)
{
	UNROLL
	for (unsigned r = 0; r < ROUNDS; r++) {
		float scale = F == CX_BF16 ? 1.0f : of_block(in.scale, r);
		quad q = quanta<F>(in.v[r]);

		for (int i = 0; i < QUAD; i++)
			acc[r].f[i] = EXACT ? fmaf(q.f[i], scale, acc[r].f[i]) :
					      cx_add(acc[r].f[i], cx_mul(q.f[i], scale));
	}
}

/* From 2^120 on, which no encoder of ours writes for numbers below 2^123, products overflow. */
template <int F> DEVICE void add_input(quad acc[ROUNDS], const input &in)
{
	if (F == CX_BF16 || __any_sync(~0u, cx_abs_bits(in.scale) >= 0x7b800000u))
		add_quanta<F, false>(acc, in);
	else
		add_quanta<F, true>(acc, in);
}

/* What the last block is filled up with on the wire, whatever it is, is 0 in the sum. */
DEVICE void clear_rest(quad acc[ROUNDS], const tile &t)
{
	UNROLL
	for (unsigned r = 0; r < ROUNDS; r++)
		for (unsigned i = 0; i < QUAD; i++)
			acc[r].f[i] = quad_at(r) + i < t.n ? acc[r].f[i] : 0.0f;
}

/* acc = the inputs, added from the first to the last and divided. */
template <int F> DEVICE void add_all(quad acc[ROUNDS], const tile &t, const cx_fuse_args &a)
{
	input now, next;

	load_input<F>(now, t, a, 0);
	for (unsigned i = 0; i < a.count; i++) {
		load_input<F>(next, t, a, i + 1);
		if (i == a.own)
			add_own(acc, t, a);
		else
			add_input<F>(acc, now);
		now = next;
	}
	UNROLL
	for (int r = 0; r < ROUNDS; r++)
		for (int i = 0; i < QUAD; i++)
			acc[r].f[i] = cx_canonical(a.divisor > 1 ?
				cx_div(acc[r].f[i], (float)a.divisor) : acc[r].f[i]);
}

/* RESULT: a float slot, or CX_FLOATS: encoded. */
template <int F, int RESULT> DEVICE void fuse(const cx_fuse_args &a)
{
	quad acc[ROUNDS] = {};
	tile t;

	if (tile_id() * CX_TILE >= a.n)
		return;
	t = tile_of(tile_id(), a.n, a.aligned);
	add_all<F>(acc, t, a);
	if constexpr (RESULT == CX_FLOATS) {
		if (t.n < CX_TILE)
			clear_rest(acc, t);
		if (a.residual)
			add_residual(acc, t, a.residual, a.decay);
		send_tile<F>(t, a.dst, acc, a.residual, a.rounding);
	} else {
		store_array<RESULT>(t, a.dst, acc);
	}
}

#define FUSE(f, result) \
	CX_KERNEL(cx_k_fuse_##f##_##result, cx_fuse_args) { fuse<f, result>(a); }
#define FUSES(f) FUSE(f, 0) FUSE(f, 1) FUSE(f, 2) FUSE(f, 3)

FUSES(0)
FUSES(1)
FUSES(2)
