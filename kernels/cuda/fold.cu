/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reduction of 2 to CX_INPUTS arrays in one pass. A thread combines 1 or 2 times
 * 16 bytes of every input; AHEAD inputs are under way before the first is used. What is
 * left over, and arrays that are not aligned, go element by element. The numerics are
 * those of kernels/kernel.h.
 */
#include "kernels/cuda/device.cuh"

enum { AHEAD = 4 };

/* Vectors of a thread; with 16 numbers in one the registers are full. */
template <class M> DEVICE constexpr unsigned vectors_of()
{
	return sizeof(M) == 1 ? 1 : 2;
}


/* Elements as they lie in memory, M, and as they are computed with, C: sums and products
 * of floats as floats, all else as the bits. */
template <int TYPE, bool EXTREME> struct number {
	typedef uint8_t M, C; /* INT8, UINT8 */
};
#define NUMBER(type, extreme, m, c) \
	template <> struct number<type, extreme> { \
		typedef m M; \
		typedef c C; \
	};
#define NUMBERS(type, m, c) NUMBER(type, true, m, m) NUMBER(type, false, m, c)
NUMBERS(COLLX_INT32, uint32_t, uint32_t)
NUMBERS(COLLX_UINT32, uint32_t, uint32_t)
NUMBERS(COLLX_INT64, uint64_t, uint64_t)
NUMBERS(COLLX_UINT64, uint64_t, uint64_t)
NUMBERS(COLLX_FLOAT16, uint16_t, float)
NUMBERS(COLLX_BFLOAT16, uint16_t, float)
NUMBERS(COLLX_FLOAT32, uint32_t, float)
NUMBERS(COLLX_FLOAT64, uint64_t, double)

/* What the bits of a type mean to min and max; infinity 0: an integer. */
template <int TYPE> DEVICE uint64_t infinity()
{
	return TYPE == COLLX_FLOAT16 ? 0x7c00 : TYPE == COLLX_BFLOAT16 ? 0x7f80 :
	       TYPE == COLLX_FLOAT32 ? 0x7f800000 : TYPE == COLLX_FLOAT64 ? 0x7ff0000000000000 : 0;
}

template <int TYPE> DEVICE uint64_t quiet()
{
	return TYPE == COLLX_FLOAT16 ? 0x0200 : TYPE == COLLX_BFLOAT16 ? 0x0040 :
	       TYPE == COLLX_FLOAT32 ? 0x00400000 : 0x0008000000000000;
}

template <int TYPE> DEVICE constexpr bool is_signed()
{
	return TYPE != COLLX_UINT8 && TYPE != COLLX_UINT32 && TYPE != COLLX_UINT64;
}

/* Floats are ordered by their bits as signed numbers, with all but the sign inverted
 * where it is set. Flipping the sign makes that an order of unsigned numbers. */
template <int TYPE, class U> DEVICE U key(U x)
{
	const U sign = (U)((U)1 << (8 * sizeof(U) - 1));

	if (infinity<TYPE>() && (x & sign))
		x ^= (U)(sign - 1);
	return is_signed<TYPE>() ? (U)(x ^ sign) : x;
}

template <int TYPE, int OP, class U> DEVICE U extreme(U x, U y)
{
	const U rest = (U)((U)~(U)0 >> 1), inf = (U)infinity<TYPE>();
	bool x_nan = inf && (x & rest) > inf, y_nan = inf && (y & rest) > inf;
	bool left = OP == COLLX_MIN ? key<TYPE>(x) < key<TYPE>(y) : key<TYPE>(y) < key<TYPE>(x);

	left = x_nan || (left && !y_nan);
	return (U)((left ? x : y) | (x_nan || y_nan ? (U)quiet<TYPE>() : 0));
}

DEVICE float settled(float f)
{
	return cx_canonical(f);
}

DEVICE double settled(double f)
{
	uint64_t u;

	memcpy(&u, &f, 8);
	u = (u & ~(1ull << 63)) > 0x7ff0000000000000 ? 0x7ff8000000000000 : u;
	memcpy(&f, &u, 8);
	return f;
}

template <class U> DEVICE U settled(U u)
{
	return u;
}

template <int TYPE, int OP, class C> DEVICE C combine(C x, C y)
{
	if constexpr (OP == COLLX_MIN || OP == COLLX_MAX)
		return extreme<TYPE, OP>(x, y);
	else
		return settled((C)(OP == COLLX_SUM ? x + y : x * y));
}

template <int TYPE, class C> DEVICE C divided(C x, uint32_t by)
{
	if constexpr (TYPE == COLLX_FLOAT64)
		return settled(x / (double)by);
	else if constexpr ((C)0.5 != 0) /* a float */
		return cx_canonical(cx_div(x, (float)by));
	else {
		bool minus = is_signed<TYPE>() && x >> (8 * sizeof(C) - 1);
		C whole = minus ? (C)(0 - x) : x;

		whole = sizeof(C) == 8 ? (C)(whole / by) : (C)((uint32_t)whole / by);
		return minus ? (C)(0 - whole) : whole;
	}
}

/* ---- to and from memory ---- */

template <int TYPE, class C, class M> DEVICE C widen(M m)
{
	C c;

	if constexpr (sizeof(C) == sizeof(M))
		memcpy(&c, &m, sizeof(c));
	else
		c = TYPE == COLLX_FLOAT16 ? widened<F16>(m) : widened<BF16>(m);
	return c;
}

template <int TYPE, class M, class C> DEVICE M narrow(C c)
{
	M m;

	if constexpr (sizeof(C) == sizeof(M))
		memcpy(&m, &c, sizeof(m));
	else
		m = (M)(TYPE == COLLX_FLOAT16 ? narrowed<F16>(c) : narrowed<BF16>(c));
	return m;
}

template <class M> DEVICE M element_of(const uint4 &v, unsigned i)
{
	const unsigned per = 4 / sizeof(M) ? 4 / sizeof(M) : 1; /* elements in a word */
	const uint32_t w[4] = {v.x, v.y, v.z, v.w};

	if (sizeof(M) == 8)
		return (M)(w[i * 2] | (uint64_t)w[i * 2 + 1] << 32);
	return (M)(w[i / per] >> i % per * 8 * sizeof(M) % 32);
}

template <class M> DEVICE void put_element(uint32_t w[4], unsigned i, M m)
{
	const unsigned per = 4 / sizeof(M) ? 4 / sizeof(M) : 1;

	if (sizeof(M) == 8) {
		w[i * 2] = (uint32_t)m;
		w[i * 2 + 1] = (uint32_t)((uint64_t)m >> 32);
	} else {
		w[i / per] |= (uint32_t)m << i % per * 8 * sizeof(M) % 32;
	}
}

/* ---- the pass ---- */

template <int TYPE, int OP> DEVICE void fold_element(const cx_fold_args &a, size_t at)
{
	typedef number<TYPE, OP >= COLLX_MAX> N;
	typedef typename N::M M;
	typedef typename N::C C;
	C acc = widen<TYPE, C>(load_any<M>((const M *)a.in[0] + at));

	for (unsigned i = 1; i < a.count; i++)
		acc = combine<TYPE, OP>(acc, widen<TYPE, C>(load_any<M>((const M *)a.in[i] + at)));
	if (OP == COLLX_SUM && a.divisor > 1)
		acc = divided<TYPE>(acc, a.divisor);
	store_any<M>((M *)a.dst + at, narrow<TYPE, M>(acc));
}

/* This thread's vectors are number at, at + step ... of `end`. */
template <int TYPE, int OP>
DEVICE void fold_vectors(const cx_fold_args &a, size_t at, unsigned step, size_t end)
{
	typedef number<TYPE, OP >= COLLX_MAX> N;
	typedef typename N::M M;
	typedef typename N::C C;
	const unsigned per = 16 / sizeof(M), VECTORS = vectors_of<M>();
	uint4 next[AHEAD][VECTORS];
	C acc[VECTORS][per];

	for (unsigned i = 0; i < a.count; i += AHEAD) {
		UNROLL
		for (unsigned j = 0; j < AHEAD; j++)
			UNROLL
			for (unsigned v = 0; v < VECTORS; v++)
				if (i + j < a.count && at + v * step < end)
					next[j][v] = ((const uint4 *)a.in[i + j])[at + v * step];
		UNROLL
		for (unsigned j = 0; j < AHEAD; j++) {
			if (i + j >= a.count)
				break;
			UNROLL
			for (unsigned v = 0; v < VECTORS; v++)
				UNROLL
				for (unsigned e = 0; e < per; e++) {
					C c = widen<TYPE, C>(element_of<M>(next[j][v], e));

					acc[v][e] = i + j ? combine<TYPE, OP>(acc[v][e], c) : c;
				}
		}
	}
	UNROLL
	for (unsigned v = 0; v < VECTORS; v++) {
		uint32_t w[4] = {0, 0, 0, 0};

		UNROLL
		for (unsigned e = 0; e < per; e++) {
			if (OP == COLLX_SUM && a.divisor > 1)
				acc[v][e] = divided<TYPE>(acc[v][e], a.divisor);
			put_element<M>(w, e, narrow<TYPE, M>(acc[v][e]));
		}
		if (at + v * step < end)
			((uint4 *)a.dst)[at + v * step] = make_uint4(w[0], w[1], w[2], w[3]);
	}
}

template <int TYPE, int OP> DEVICE void fold(const cx_fold_args &a)
{
	typedef typename number<TYPE, true>::M M;
	const unsigned per = 16 / sizeof(M);
	const size_t vectors = a.aligned ? a.n / per : 0;
	const size_t first = (size_t)blockIdx.x * CX_CUDA_BLOCK;

	if (first * vectors_of<M>() < vectors)
		fold_vectors<TYPE, OP>(a, first * vectors_of<M>() + threadIdx.x, CX_CUDA_BLOCK,
				       vectors);
	for (size_t i = vectors * per + first + threadIdx.x; i < a.n;
	     i += (size_t)gridDim.x * CX_CUDA_BLOCK)
		fold_element<TYPE, OP>(a, i);
}

#define FOLD(type, op) CX_KERNEL(cx_k_fold_##type##_##op, cx_fold_args) { fold<type, op>(a); }
#define FOLDS(type) FOLD(type, 0) FOLD(type, 1) FOLD(type, 2) FOLD(type, 3)
FOLDS(0)
FOLDS(1)
FOLDS(2)
FOLDS(3)
FOLDS(4)
FOLDS(5)
FOLDS(6)
FOLDS(7)
FOLDS(8)
FOLDS(9)
