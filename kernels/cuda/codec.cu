/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Encoding, with and without error feedback, and decoding: a warp a tile.
 */
#include "kernels/cuda/encode.cuh"

template <int F, int T, bool FEEDBACK> DEVICE void encode(const cx_encode_args &a)
{
	quad x[ROUNDS];
	tile t;

	if (tile_id() * CX_TILE >= a.n)
		return;
	t = tile_of(tile_id(), a.n, a.aligned);
	load_array<T>(x, t, a.src);
	if (FEEDBACK)
		add_residual(x, t, a.residual, a.decay);
	send_tile<F>(t, a.wire, x, FEEDBACK ? a.residual : nullptr, a.rounding);
}

/* A decoded number, as an array of type T takes it. */
template <int F, int T> DEVICE uint32_t decoded(float y)
{
	if (F == CX_BF16) /* as it is, a NaN too */
		return T == BF16 ? cx_float_bits(y) >> 16 : narrowed<T>(y);
	y = cx_canonical(y);
	return T == F32 ? cx_float_bits(y) : T == F16 ? narrowed<F16>(cx_limit(y, CX_F16_TOP)) :
	       cx_bf16_limited(y);
}

template <int F, int T> DEVICE void decode(const cx_decode_args &a)
{
	payload v[ROUNDS];
	unsigned char *out;
	float scale;
	tile t;

	if (tile_id() * CX_TILE >= a.n)
		return;
	t = tile_of(tile_id(), a.n, a.aligned);
	scale = load_wire<F>(v, t, a.wire);
	out = array_out<T>(t, a.dst);
	UNROLL
	for (unsigned r = 0; r < ROUNDS; r++) {
		quad y = numbers<F>(v[r], F == CX_BF16 ? 0.0f : of_block(scale, r));
		uint32_t bits[QUAD];

		for (unsigned i = 0; i < QUAD; i++)
			bits[i] = decoded<F, T>(y.f[i]);
		store_quad<T>(out, r, bits);
	}
	array_done<T>(t, a.dst);
}

template <int F> DEVICE void accumulate(const cx_decode_args &a)
{
	quad x[ROUNDS];
	payload v[ROUNDS];
	float scale;
	tile t;

	if (tile_id() * CX_TILE >= a.n)
		return;
	t = tile_of(tile_id(), a.n, a.aligned);
	scale = load_wire<F>(v, t, a.wire);
	load_array<F32>(x, t, a.dst);
	UNROLL
	for (unsigned r = 0; r < ROUNDS; r++) {
		quad y = numbers<F>(v[r], F == CX_BF16 ? 0.0f : of_block(scale, r));

		for (int i = 0; i < QUAD; i++)
			x[r].f[i] = cx_sum(x[r].f[i], y.f[i]);
	}
	store_array<F32>(t, a.dst, x);
}

#define CODEC(f, t) \
	CX_KERNEL(cx_k_encode_##f##_##t, cx_encode_args) { encode<f, t, false>(a); } \
	CX_KERNEL(cx_k_feedback_##f##_##t, cx_encode_args) { encode<f, t, true>(a); } \
	CX_KERNEL(cx_k_decode_##f##_##t, cx_decode_args) { decode<f, t>(a); }
#define CODECS(f) \
	CODEC(f, 0) CODEC(f, 1) CODEC(f, 2) \
	CX_KERNEL(cx_k_accumulate_##f##_0, cx_decode_args) { accumulate<f>(a); }

CODECS(0)
CODECS(1)
CODECS(2)
