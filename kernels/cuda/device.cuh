/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the kernels have in common: a warp works on a tile of CX_TILE elements in
 * ROUNDS rounds; in round r lane l has the 4 elements from r * 128 + l * 4 on, a
 * "quad". So arrays of every type and payloads of every format are read and written
 * by whole warps without gaps, 8 lanes have a block, and all that a warp reads is
 * under way before the first of it is used.
 *
 * A tile that is not whole, or not at a multiple of 16 bytes, goes through the warp's
 * room in shared memory, where it is both: filled up with zeros on the way in, cut on the
 * way out. So the arithmetic knows aligned whole tiles only.
 */
#ifndef CX_CUDA_DEVICE_CUH
#define CX_CUDA_DEVICE_CUH

#include "kernels/cuda/args.h"
#include "kernels/element.h"

#ifdef __CUDACC__
#define CX_KERNEL(symbol, args) \
	extern "C" __global__ void __launch_bounds__(CX_CUDA_BLOCK, 3) \
	symbol(const __grid_constant__ struct args a)
#else /* tests/cuda_emu.h: a kernel is entered in its list when the program starts */
#define CX_KERNEL(symbol, args) \
	static void symbol(const struct args &a); \
	EMU_ENTER(symbol, struct args) \
	static void symbol(const struct args &a)
#endif

#define DEVICE static __device__ __forceinline__

#ifdef __CUDACC__
#define UNROLL _Pragma("unroll")
DEVICE void *shared_memory()
{
	extern __shared__ uint4 room[];

	return room;
}
#else
#define UNROLL
#define shared_memory emu_shared
#endif

enum { ROUNDS = CX_TILE / 128, QUAD = 4 };
enum { F32 = 0, F16 = 1, BF16 = 2 }; /* float slots */

struct quad {
	float f[QUAD];
};

DEVICE unsigned lane_id()
{
	return threadIdx.x % 32;
}

/* The tile of this warp, when each has one. */
DEVICE size_t tile_id()
{
	return (size_t)blockIdx.x * CX_CUDA_WARPS + threadIdx.x / 32;
}

/* First element of this lane's quad in a tile. */
DEVICE unsigned quad_at(unsigned round)
{
	return round * 128 + lane_id() * QUAD;
}

/* ---- memory of any alignment ---- */

template <class M> DEVICE M load_any(const void *p)
{
	M m = 0;

	if ((uintptr_t)p % sizeof(M) == 0)
		return *(const M *)p;
	for (unsigned i = 0; i < sizeof(M); i++)
		m |= (M)((M)((const uint8_t *)p)[i] << 8 * i);
	return m;
}

template <class M> DEVICE void store_any(void *p, M m)
{
	if ((uintptr_t)p % sizeof(M) == 0) {
		*(M *)p = m;
		return;
	}
	for (unsigned i = 0; i < sizeof(M); i++)
		((uint8_t *)p)[i] = (uint8_t)((uint64_t)m >> 8 * i);
}

/* ---- tiles in memory ---- */

/* A warp's view of tile `number` of arrays of n elements. */
struct tile {
	size_t number;
	unsigned n, blocks;  /* elements and blocks that there are */
	unsigned char *room; /* NULL: whole and aligned, used where it is */
};

/* Rooms begin at `at` in shared memory: for all warps if not aligned, else for the last tile. */
DEVICE tile tile_of(size_t number, size_t n, bool aligned, unsigned at = CX_SHARED)
{
	unsigned char *rooms = (unsigned char *)shared_memory() + at;
	tile t;

	n -= number * CX_TILE;
	t.number = number;
	t.n = (unsigned)(n < CX_TILE ? n : (size_t)CX_TILE);
	t.blocks = (t.n + CX_BLOCK - 1) / CX_BLOCK;
	t.room = aligned ? t.n < CX_TILE ? rooms : nullptr : rooms + threadIdx.x / 32 * CX_ROOM;
	return t;
}

/* to[0..whole) = from[0..len), then zeros. By words where both have some. */
DEVICE void copy_tile(unsigned char *to, const unsigned char *from, unsigned len, unsigned whole)
{
	unsigned i = lane_id() * 4;

	if ((uintptr_t)from % 4 == 0 && (uintptr_t)to % 4 == 0)
		for (; i + 4 <= len; i += 128)
			*(uint32_t *)(to + i) = *(const uint32_t *)(from + i);
	for (; i < whole; i += 128)
		for (unsigned j = i; j < i + 4 && j < whole; j++)
			to[j] = j < len ? from[j] : 0;
}

/* ---- arrays of floats ---- */

template <int T> DEVICE unsigned float_bytes()
{
	return T == F32 ? 4 : 2;
}

/*
 * cx_f16_to_f32 and cx_f16_from_f32 by the GPU's own instructions, an eighth of the work: to
 * the nearest, subnormals too. Of NaN they keep nothing; that is put right. The emulation has
 * the others, so what shows here is seen on a GPU only.
 */
DEVICE float half_to_float(uint16_t h)
{
#ifdef __CUDACC__
	float f;

	asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
	if ((h & 0x7fffu) > 0x7c00u)
		f = cx_float_from_bits((h & 0x8000u) << 16 | 0x7fc00000u | (h & 0x3ffu) << 13);
	return f;
#else
	return cx_f16_to_f32(h);
#endif
}

DEVICE uint16_t float_to_half(float f)
{
#ifdef __CUDACC__
	uint32_t u = cx_float_bits(f);
	uint16_t h;

	asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
	if ((u & 0x7fffffffu) > CX_INF32)
		h = (uint16_t)((u >> 16 & 0x8000u) | 0x7e00u | (u >> 13 & 0x3ffu));
	return h;
#else
	return cx_f16_from_f32(f);
#endif
}

template <int T> DEVICE float widened(uint32_t bits)
{
	if (T == F32)
		return cx_float_from_bits(bits);
	return T == F16 ? half_to_float((uint16_t)bits) : cx_bf16_to_f32((uint16_t)bits);
}

template <int T> DEVICE uint32_t narrowed(float f)
{
	if (T == F32)
		return cx_float_bits(f);
	return T == F16 ? float_to_half(f) : cx_bf16_from_f32(f);
}

/* Where a tile of an array is to be read; the room is free again after the next __syncwarp. */
template <int T> DEVICE const unsigned char *array_in(const tile &t, const void *array)
{
	const unsigned size = float_bytes<T>();
	const unsigned char *p = (const unsigned char *)array + t.number * CX_TILE * size;

	if (!t.room)
		return p;
	__syncwarp();
	copy_tile(t.room, p, t.n * size, CX_TILE * size);
	__syncwarp();
	return t.room;
}

template <int T> DEVICE unsigned char *array_out(const tile &t, void *array)
{
	if (!t.room)
		return (unsigned char *)array + t.number * CX_TILE * float_bytes<T>();
	__syncwarp();
	return t.room;
}

template <int T> DEVICE void array_done(const tile &t, void *array)
{
	const unsigned size = float_bytes<T>();

	if (!t.room)
		return;
	__syncwarp();
	copy_tile((unsigned char *)array + t.number * CX_TILE * size, t.room, t.n * size,
		  t.n * size);
}

template <int T> DEVICE quad load_quad(const unsigned char *tile, unsigned round)
{
	uint32_t w[4];
	quad q;

	if (T == F32) {
		uint4 v = ((const uint4 *)tile)[quad_at(round) / QUAD];

		w[0] = v.x, w[1] = v.y, w[2] = v.z, w[3] = v.w;
	} else {
		uint2 v = ((const uint2 *)tile)[quad_at(round) / QUAD];

		w[0] = v.x & 0xffff, w[1] = v.x >> 16, w[2] = v.y & 0xffff, w[3] = v.y >> 16;
	}
	for (int i = 0; i < QUAD; i++)
		q.f[i] = widened<T>(w[i]);
	return q;
}

template <int T> DEVICE void load_array(quad x[ROUNDS], const tile &t, const void *array)
{
	const unsigned char *p = array_in<T>(t, array);

	UNROLL
	for (unsigned r = 0; r < ROUNDS; r++)
		x[r] = load_quad<T>(p, r);
}

/* The bits of a quad, each as narrowed<T> gives them. */
template <int T>
DEVICE void store_quad(unsigned char *tile, unsigned round, const uint32_t bits[QUAD])
{
	if (T == F32)
		((uint4 *)tile)[quad_at(round) / QUAD] =
			make_uint4(bits[0], bits[1], bits[2], bits[3]);
	else
		((uint2 *)tile)[quad_at(round) / QUAD] =
			make_uint2(bits[0] | bits[1] << 16, bits[2] | bits[3] << 16);
}

template <int T> DEVICE void store_array(const tile &t, void *array, const quad x[ROUNDS])
{
	unsigned char *p = array_out<T>(t, array);

	UNROLL
	for (unsigned r = 0; r < ROUNDS; r++) {
		uint32_t bits[QUAD];

		for (int i = 0; i < QUAD; i++)
			bits[i] = narrowed<T>(x[r].f[i]);
		store_quad<T>(p, r, bits);
	}
	array_done<T>(t, array);
}

/* ---- tiles on the wire ---- */

/* Payload of a quad: CX_Q8 4 bytes, CX_Q4 2, CX_BF16 8. */
struct payload {
	uint32_t low, high;
};

template <int F> DEVICE unsigned quad_bytes()
{
	return F == CX_Q8 ? 4 : F == CX_Q4 ? 2 : 8;
}

template <int F> DEVICE unsigned plane_bytes()
{
	return CX_TILE / QUAD * quad_bytes<F>();
}

template <int F> DEVICE size_t tile_bytes()
{
	return plane_bytes<F>() + (F == CX_BF16 ? 0 : CX_TILE / CX_BLOCK * 2);
}

/* In the room the scales stand after a whole payload; in memory after what there is of it. */
template <int F> DEVICE const unsigned char *wire_in(const tile &t, const void *wire)
{
	const unsigned char *p = (const unsigned char *)wire + t.number * tile_bytes<F>();
	const unsigned len = t.blocks * (plane_bytes<F>() / 32);

	if (!t.room)
		return p;
	__syncwarp();
	copy_tile(t.room, p, len, plane_bytes<F>());
	if (F != CX_BF16)
		copy_tile(t.room + plane_bytes<F>(), p + len, t.blocks * 2, 64);
	__syncwarp();
	return t.room;
}

template <int F> DEVICE unsigned char *wire_out(const tile &t, void *wire)
{
	if (!t.room)
		return (unsigned char *)wire + t.number * tile_bytes<F>();
	__syncwarp();
	return t.room;
}

template <int F> DEVICE void wire_done(const tile &t, void *wire)
{
	unsigned char *p = (unsigned char *)wire + t.number * tile_bytes<F>();
	const unsigned len = t.blocks * (plane_bytes<F>() / 32);

	if (!t.room)
		return;
	__syncwarp();
	copy_tile(p, t.room, len, len);
	if (F != CX_BF16)
		copy_tile(p + len, t.room + plane_bytes<F>(), (t.blocks + 7) / 8 * 16,
			  (t.blocks + 7) / 8 * 16);
}

template <int F> DEVICE payload load_payload(const unsigned char *tile, unsigned round)
{
	const unsigned i = quad_at(round) / QUAD;
	payload v = {0, 0};

	if (F == CX_BF16) {
		uint2 both = ((const uint2 *)tile)[i];

		v.low = both.x;
		v.high = both.y;
	} else {
		v.low = F == CX_Q8 ? ((const uint32_t *)tile)[i] : ((const uint16_t *)tile)[i];
	}
	return v;
}

template <int F> DEVICE void store_payload(unsigned char *tile, unsigned round, payload v)
{
	const unsigned i = quad_at(round) / QUAD;

	if (F == CX_BF16)
		((uint2 *)tile)[i] = make_uint2(v.low, v.high);
	else if (F == CX_Q8)
		((uint32_t *)tile)[i] = v.low;
	else
		((uint16_t *)tile)[i] = (uint16_t)v.low;
}

/* The scale of block number lane_id(). */
template <int F> DEVICE uint16_t load_scale(const unsigned char *tile)
{
	return F == CX_BF16 ? 0 : ((const uint16_t *)(tile + plane_bytes<F>()))[lane_id()];
}

template <int F> DEVICE void store_scale(unsigned char *tile, uint16_t scale)
{
	if (F != CX_BF16)
		((uint16_t *)(tile + plane_bytes<F>()))[lane_id()] = scale;
}

/* What lane `number of the block` has, for the block of this lane's quad. */
template <class V> DEVICE V of_block(V v, unsigned round)
{
	return __shfl_sync(~0u, v, round * 4 + lane_id() / 8);
}

/* The 4 quanta of a quad as floats: 2^23 + the quantum above its least, in the last places of
 * a float, by one instruction, and less 2^23 and the least, exactly, by another. */
template <int F> DEVICE quad quanta(payload v)
{
	quad q;

	for (int i = 0; i < QUAD; i++) {
		if (F == CX_BF16) {
			q.f[i] = cx_bf16_to_f32((uint16_t)((i < 2 ? v.low : v.high) >> i % 2 * 16));
		} else if (F == CX_Q8) {
			q.f[i] = cx_add(cx_float_from_bits(__byte_perm(v.low ^ 0x80808080u,
				0x4b000000u, 0x7440u + (unsigned)i)), -8388736.0f);
		} else { /* where it stands, 2^4i too large: the multiply-add puts that right */
			const float unit = 1.0f / (float)(1u << 4 * i);

			q.f[i] = fmaf(cx_float_from_bits((v.low & 0xfu << 4 * i) ^
							 (0x4b000000u | 8u << 4 * i)),
				      unit, -8388608.0f * unit - 8.0f);
		}
	}
	return q;
}

/* The numbers that they stand for; scale is their block's. */
template <int F> DEVICE quad numbers(payload v, float scale)
{
	quad q = quanta<F>(v);

	for (int i = 0; F != CX_BF16 && i < QUAD; i++)
		q.f[i] = cx_add(cx_mul(q.f[i], scale), 0.0f);
	return q;
}

/* A tile from the wire: v, and the scale of block number lane_id() is returned. */
template <int F> DEVICE float load_wire(payload v[ROUNDS], const tile &t, const void *wire)
{
	const unsigned char *in = wire_in<F>(t, wire);
	float scale = cx_scale_value(load_scale<F>(in));

	UNROLL
	for (unsigned r = 0; r < ROUNDS; r++)
		v[r] = load_payload<F>(in, r);
	return scale;
}

#endif
