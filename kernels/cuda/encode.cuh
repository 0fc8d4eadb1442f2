/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A warp's tile, from floats to the wire: scales and quanta by element.h.
 */
#ifndef CX_CUDA_ENCODE_CUH
#define CX_CUDA_ENCODE_CUH

#include "kernels/cuda/device.cuh"

/*
 * v[r] for each round r; the result is, over the lanes of block number lane_id(), the
 * largest. 7 shuffles bring the 8 lanes of a block in step: each time a lane hands half
 * of its rounds over and keeps the other half; at the end lane s of 8 has round s.
 */
DEVICE uint32_t largest_of_block(uint32_t v[ROUNDS])
{
	UNROLL
	for (unsigned half = ROUNDS / 2; half; half /= 2) {
		bool upper = lane_id() & half;

		UNROLL
		for (unsigned i = 0; i < half; i++) {
			uint32_t keep = upper ? v[i + half] : v[i];
			uint32_t give = upper ? v[i] : v[i + half];

			v[i] = max(keep, __shfl_xor_sync(~0u, give, half));
		}
	}
	return __shfl_sync(~0u, v[0], lane_id() % 4 * 8 + lane_id() / 4);
}

/* How elements are weighed. TURNED: by magnitude, of equals the negative one, whose sign is the
 * last bit. */
enum { MAGNITUDE, TURNED, POSITIVE, NEGATIVE };

template <int BY> DEVICE uint32_t weight(uint32_t u)
{
	if (BY == TURNED)
		return u << 1 | u >> 31;
	return BY == MAGNITUDE || u >> 31 == (BY == NEGATIVE) ? u & 0x7fffffffu : 0;
}

template <int BY> DEVICE uint32_t largest(const quad x[ROUNDS])
{
	uint32_t v[ROUNDS];

	UNROLL
	for (int r = 0; r < ROUNDS; r++) {
		v[r] = 0;
		for (int i = 0; i < QUAD; i++)
			v[r] = max(v[r], weight<BY>(cx_float_bits(x[r].f[i])));
	}
	return largest_of_block(v);
}

/* To nearest, Q4 asks for the larger magnitude and its sign alone: one search in place of two. */
template <int F> DEVICE uint16_t scale_of(const quad x[ROUNDS], bool stochastic)
{
	uint32_t most;

	if (F == CX_Q8)
		return cx_q8_scale(largest<MAGNITUDE>(x));
	if (stochastic)
		return cx_q4_scale(largest<POSITIVE>(x), largest<NEGATIVE>(x), 1);
	most = largest<TURNED>(x);
	return most & 1 ? cx_q4_scale(0, most >> 1, 0) : cx_q4_scale(most >> 1, 0, 0);
}

/*
 * The random numbers of this lane's quads in rounds r and r + 1, 2 words each. Lanes
 * 2 j and 2 j + 1 share the 8 elements of a counter: the even one draws for round r,
 * the odd one for r + 1, and they swap halves.
 */
DEVICE void draw(uint32_t words[4], const cx_rounding &rounding, size_t tile, unsigned r)
{
	bool odd = lane_id() & 1;
	uint32_t w[4], a, b;

	cx_philox(w, (rounding.index + tile * CX_TILE + quad_at(r + odd)) / 8, rounding.seed);
	a = __shfl_xor_sync(~0u, odd ? w[0] : w[2], 1);
	b = __shfl_xor_sync(~0u, odd ? w[1] : w[3], 1);
	words[0] = odd ? a : w[0];
	words[1] = odd ? b : w[1];
	words[2] = odd ? w[2] : a;
	words[3] = odd ? w[3] : b;
}

/* Element i of a quad; random: 2 words. */
template <int F> DEVICE int32_t quantum(float x, float inverse, bool stochastic, uint32_t random16)
{
	if (F == CX_Q8)
		return stochastic ? cx_q8_stochastic(x, inverse, random16) :
				    cx_q8_nearest(x, inverse);
	if (F == CX_Q4)
		return stochastic ? cx_q4_stochastic(x, inverse, random16) :
				    cx_q4_nearest(x, inverse);
	return stochastic ? cx_bf16_stochastic(x, random16) : cx_bf16_nearest(x);
}

template <int F>
DEVICE payload quantize(const quad &x, float inverse, bool stochastic, const uint32_t random[2])
{
	const unsigned bits = F == CX_Q8 ? 8 : F == CX_Q4 ? 4 : 16;
	payload v = {0, 0};

	for (unsigned i = 0; i < QUAD; i++) {
		uint32_t q = (uint32_t)quantum<F>(x.f[i], inverse, stochastic,
						  random[i / 2] >> i % 2 * 16 & 0xffff);

		q &= (1u << bits) - 1;
		if (F == CX_BF16 && i >= 2)
			v.high |= q << bits * (i - 2);
		else
			v.low |= q << bits * i;
	}
	if (F != CX_BF16 && inverse == 0.0f) /* whatever it was */
		v.low = 0;
	return v;
}

/* x to the wire; v gets what was sent, and the scale of block lane_id() is returned. */
template <int F>
DEVICE uint16_t encode_tile(const tile &t, void *wire, const quad x[ROUNDS],
			    const cx_rounding &rounding, payload v[ROUNDS])
{
	bool stochastic = rounding.stochastic != 0;
	uint16_t scale = 0;
	unsigned char *out = wire_out<F>(t, wire);
	uint32_t random[4] = {0, 0, 0, 0};
	float inverse = 0.0f;

	if constexpr (F != CX_BF16) {
		scale = scale_of<F>(x, stochastic);
		inverse = cx_scale_inverse(scale);
		store_scale<F>(out, scale);
	}
	UNROLL
	for (unsigned r = 0; r < ROUNDS; r++) {
		float own = F == CX_BF16 ? 0.0f : of_block(inverse, r);

		if (stochastic && r % 2 == 0)
			draw(random, rounding, t.number, r);
		v[r] = quantize<F>(x[r], own, stochastic, random + r % 2 * 2);
		store_payload<F>(out, r, v[r]);
	}
	wire_done<F>(t, wire);
	return scale;
}

/* What is left of a in the residual, once v of it was sent. */
template <int F>
DEVICE void leave_quad(unsigned char *residual, unsigned round, const quad &a, payload v,
		       uint16_t scale)
{
	quad q = numbers<F>(v, cx_scale_value(scale)), old;
	uint32_t left[QUAD];
	bool all = true;

	if (F != CX_BF16 && scale == CX_POISON)
		return;
	for (int i = 0; i < QUAD; i++) {
		left[i] = cx_float_bits(cx_left(a.f[i], q.f[i]));
		all = all && (F != CX_BF16 || cx_abs_bits(a.f[i]) < CX_INF32);
	}
	if (!all) {
		old = load_quad<F32>(residual, round);
		for (int i = 0; i < QUAD; i++)
			if (cx_abs_bits(a.f[i]) >= CX_INF32)
				left[i] = cx_float_bits(old.f[i]);
	}
	store_quad<F32>(residual, round, left);
}

/* x encoded; with a residual, x is what it was added to already. */
template <int F>
DEVICE void send_tile(const tile &t, void *wire, const quad x[ROUNDS], float *residual,
		      const cx_rounding &rounding)
{
	payload v[ROUNDS];
	uint16_t scale = encode_tile<F>(t, wire, x, rounding, v);
	unsigned char *out;

	if (!residual)
		return;
	/* Not all of it is written: in the room, what stays must be there. */
	out = t.room ? (unsigned char *)array_in<F32>(t, residual) : array_out<F32>(t, residual);
	UNROLL
	for (unsigned r = 0; r < ROUNDS; r++)
		leave_quad<F>(out, r, x[r], v[r], F == CX_BF16 ? 0 : of_block(scale, r));
	array_done<F32>(t, residual);
}

/* x = cx_feedback(x, residual). */
DEVICE void add_residual(quad x[ROUNDS], const tile &t, const float *residual, float decay)
{
	quad e[ROUNDS];

	load_array<F32>(e, t, residual);
	UNROLL
	for (int r = 0; r < ROUNDS; r++)
		for (int i = 0; i < QUAD; i++)
			x[r].f[i] = cx_feedback(x[r].f[i], e[r].f[i], decay);
}

#endif
