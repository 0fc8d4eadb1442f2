/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sparse messages, written: their bytes are in doc/WIRE and kernels/layout.h. A message
 * may begin at any address.
 */
#ifndef CX_CUDA_MESSAGE_CUH
#define CX_CUDA_MESSAGE_CUH

#include "kernels/cuda/device.cuh"

template <int T> DEVICE uint32_t value_bits(float x)
{
	return T == F32 ? cx_float_bits(x) : T == F16 ? cx_f16_limited(x) : cx_bf16_nearest(x);
}

template <int T> DEVICE void store_value(uint8_t *values, size_t at, uint32_t bits)
{
	if (T == F32)
		store_any<uint32_t>(values + 4 * at, bits);
	else
		store_any<uint16_t>(values + 2 * at, (uint16_t)bits);
}

DEVICE unsigned chunk_elements(uint64_t count, uint64_t chunk)
{
	return (unsigned)min(count - chunk * CX_CHUNK, (uint64_t)CX_CHUNK);
}

template <int T> DEVICE enum cx_sparse_kind chunk_kind(unsigned n, uint32_t entries)
{
	return entries ? cx_sparse_choose(n, entries, float_bytes<T>()) : CX_SPARSE_LIST;
}

template <int T>
DEVICE uint32_t body_units(enum cx_sparse_kind kind, unsigned n, uint32_t entries)
{
	return (uint32_t)(cx_sparse_body(kind, n, entries, float_bytes<T>()) / CX_WIRE_ALIGN);
}

/* By a warp: zeros where a body has padding, and in all of a dense one. */
template <int T>
DEVICE void clear_padding(uint8_t *body, enum cx_sparse_kind kind, unsigned n, uint32_t entries)
{
	size_t places = cx_sparse_places(kind, n, entries), used = (n + 7) / 8;
	size_t end = cx_sparse_body(kind, n, entries, float_bytes<T>());
	size_t values = kind == CX_SPARSE_DENSE ? 0 : entries * float_bytes<T>();

	if (kind == CX_SPARSE_LIST)
		used = entries * 2;
	for (size_t i = used + lane_id(); i < places; i += 32)
		body[i] = 0;
	for (size_t i = places + values + lane_id(); i < end; i += 32)
		body[i] = 0;
}

/* By a warp: a bitmap of n bits. */
DEVICE void store_map(uint8_t *body, const uint32_t *map, unsigned n)
{
	for (unsigned i = lane_id(); i < (n + 7) / 8; i += 32)
		body[i] = (uint8_t)(map[i / 4] >> i % 4 * 8);
}

DEVICE void store_chunk(void *msg, uint64_t chunk, size_t at, uint32_t entries,
			enum cx_sparse_kind kind)
{
	uint8_t *p = (uint8_t *)msg + sizeof(struct cx_sparse_head) +
		     chunk * sizeof(struct cx_sparse_chunk);

	store_any<uint32_t>(p, (uint32_t)at);
	store_any<uint32_t>(p + 4, entries | (uint32_t)kind << 16);
}

/* The head, and the padding after the table. */
DEVICE void store_head(void *msg, collx_type type, uint64_t count, size_t units, uint64_t entries)
{
	uint8_t *p = (uint8_t *)msg;
	size_t table = sizeof(struct cx_sparse_head) +
		       cx_sparse_chunks(count) * sizeof(struct cx_sparse_chunk);

	store_any<uint32_t>(p, CX_SPARSE_MAGIC);
	store_any<uint32_t>(p + 4, (uint32_t)type);
	store_any<uint64_t>(p + 8, count);
	store_any<uint64_t>(p + 16, units * CX_WIRE_ALIGN);
	store_any<uint64_t>(p + 24, entries);
	for (size_t i = table; i < cx_sparse_bodies(count); i++)
		p[i] = 0;
}

#endif
