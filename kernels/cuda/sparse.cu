/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sparse messages, read. `check` comes first and nothing else does anything unless every
 * message is one, to its last byte, as cx_sparse_valid decides; messages must not change
 * until the last of the kernels has ended. `add` and `merge` have one writer for each
 * element: no atomics, and sums in the order of the messages.
 */
#include "kernels/cuda/message.cuh"
#include "kernels/cuda/order.cuh"

/* One chunk of a message. */
struct chunk {
	const uint8_t *body;
	enum cx_sparse_kind kind;
	unsigned n;
	uint32_t entries;
};

DEVICE uint64_t table_entry(const void *msg, uint64_t number)
{
	return load_any<uint64_t>((const uint8_t *)msg + sizeof(struct cx_sparse_head) +
				  number * sizeof(struct cx_sparse_chunk));
}

DEVICE chunk chunk_of(const void *msg, uint64_t count, uint64_t number)
{
	uint64_t entry = table_entry(msg, number);
	chunk c;

	c.body = (const uint8_t *)msg + (size_t)(uint32_t)entry * CX_WIRE_ALIGN;
	c.entries = (uint32_t)(entry >> 32) & 0xffff;
	c.kind = (enum cx_sparse_kind)(entry >> 48 & 0xff);
	c.n = chunk_elements(count, number);
	return c;
}

DEVICE unsigned value_type(const void *msg)
{
	return load_any<uint16_t>((const uint8_t *)msg + 4);
}

DEVICE float load_value(const uint8_t *values, unsigned type, size_t at)
{
	if (type == COLLX_FLOAT32)
		return cx_float_from_bits(load_any<uint32_t>(values + 4 * at));
	return type == COLLX_FLOAT16 ? cx_f16_to_f32(load_any<uint16_t>(values + 2 * at)) :
				       cx_bf16_to_f32(load_any<uint16_t>(values + 2 * at));
}

/* 32 bits of a bitmap, those beyond n as 0. */
DEVICE uint32_t map_word(const chunk &c, unsigned word)
{
	uint32_t bits = 0;

	for (unsigned i = 0; i < 4 && word * 4 + i < (c.n + 7) / 8; i++)
		bits |= (uint32_t)c.body[word * 4 + i] << 8 * i;
	return bits;
}

/* ---- check ---- */

DEVICE uint64_t bytes_of(const void *msg)
{
	return load_any<uint64_t>((const uint8_t *)msg + 16);
}

DEVICE uint64_t entries_of(const void *msg)
{
	return load_any<uint64_t>((const uint8_t *)msg + 24);
}

DEVICE bool head_bad(const void *msg, size_t len, uint64_t count)
{
	const uint8_t *p = (const uint8_t *)msg;
	unsigned type = load_any<uint16_t>(p + 4);

	return load_any<uint32_t>(p) != CX_SPARSE_MAGIC || load_any<uint16_t>(p + 6) != 0 ||
	       (type != COLLX_FLOAT32 && type != COLLX_FLOAT16 && type != COLLX_BFLOAT16) ||
	       load_any<uint64_t>(p + 8) != count || bytes_of(msg) > len;
}

DEVICE bool is_nonzero(const uint8_t *values, unsigned size, size_t at)
{
	return size == 4 ? load_any<uint32_t>(values + 4 * at) != 0
			 : load_any<uint16_t>(values + 2 * at) != 0;
}

/* By a warp; each lane says what it sees. */
DEVICE bool places_bad(const chunk &c, unsigned size)
{
	uint32_t seen = 0;
	bool bad = false;

	if (c.kind == CX_SPARSE_LIST) {
		for (uint32_t i = lane_id(); i < c.entries; i += 32) {
			unsigned at = load_any<uint16_t>(c.body + 2 * i);

			bad |= i ? at <= load_any<uint16_t>(c.body + 2 * i - 2) : false;
			bad |= at >= c.n;
		}
	} else if (c.kind == CX_SPARSE_BITMAP) {
		for (unsigned i = lane_id(); i < (c.n + 31) / 32; i += 32) {
			uint32_t bits = map_word(c, i);

			seen += (uint32_t)__popc(bits);
			bad |= c.n - i * 32 < 32 && bits >> (c.n - i * 32);
		}
		bad |= __reduce_add_sync(~0u, seen) != c.entries;
	} else {
		for (uint32_t i = lane_id(); i < c.n; i += 32)
			seen += is_nonzero(c.body, size, i);
		bad |= __reduce_add_sync(~0u, seen) > c.entries;
	}
	return bad;
}

/* By a warp. The chunks' places are a chain: each begins where the one before it ends. */
DEVICE bool chunk_bad(const void *msg, size_t len, uint64_t count, uint64_t number, unsigned type)
{
	const uint64_t chunks = cx_sparse_chunks(count);
	uint64_t entry = table_entry(msg, number);
	uint64_t at = (uint64_t)(uint32_t)entry * CX_WIRE_ALIGN, end = len;
	chunk c = chunk_of(msg, count, number);
	const unsigned size = type == COLLX_FLOAT32 ? 4 : 2;
	size_t bytes;

	if (c.kind > CX_SPARSE_DENSE || entry >> 56 || c.entries > c.n || (!c.entries && c.kind))
		return true;
	bytes = cx_sparse_body(c.kind, c.n, c.entries, size);
	if (number + 1 < chunks)
		end = (uint64_t)(uint32_t)table_entry(msg, number + 1) * CX_WIRE_ALIGN;
	if ((number == 0 && at != cx_sparse_bodies(count)) || at + bytes != end || end > len)
		return true;
	return c.entries && __any_sync(~0u, places_bad(c, size));
}

DEVICE void tell(const cx_sparse_args &a, int32_t status, uint64_t len, uint64_t entries)
{
	if (!a.info)
		return;
	a.info->len = len;
	a.info->entries = entries;
	a.info->hint = 0.0f;
	a.info->unfit = 0;
	a.info->status = status;
}

/* By one thread, once all chunks were seen: may the messages be used? */
DEVICE void judge(const cx_sparse_args &a)
{
	uint64_t entries = 0;
	int32_t status = a.work->bad ? COLLX_ERR_CORRUPT : COLLX_OK;

	for (unsigned i = 0; i < a.messages && !status; i++) {
		if (a.work->entries[i] != entries_of(a.in[i]))
			status = COLLX_ERR_CORRUPT;
		entries += a.work->entries[i];
	}
	if (!status && a.room < cx_sparse_most(a.count, min(entries, a.count),
					       a.type == COLLX_FLOAT32 ? 4 : 2))
		status = COLLX_ERR_INVALID;
	a.work->status = status;
	tell(a, status, status ? 0 : bytes_of(a.in[0]), status ? 0 : entries);
}

/* Grid: blocks for the chunks, for each message. */
DEVICE void check(const cx_sparse_args &a)
{
	const uint64_t chunks = cx_sparse_chunks(a.count);
	const unsigned blocks = gridDim.x / a.messages, which = blockIdx.x / blocks;
	const void *msg = a.in[which];
	uint64_t number = (uint64_t)(blockIdx.x % blocks) * CX_CUDA_WARPS + threadIdx.x / 32, len;
	bool bad = a.len[which] < cx_sparse_bodies(a.count) || head_bad(msg, a.len[which], a.count);

	len = bad ? 0 : bytes_of(msg);
	if (!bad && chunks == 0)
		bad = len != cx_sparse_bodies(a.count);
	for (; !bad && number < chunks; number += (uint64_t)blocks * CX_CUDA_WARPS) {
		bad = chunk_bad(msg, len, a.count, number, value_type(msg));
		if (!bad && lane_id() == 0)
			atomicAdd(&a.work->entries[which], (unsigned long long)chunk_of(
					msg, a.count, number).entries);
	}
	if (bad && lane_id() == 0)
		atomicOr(&a.work->bad, 1u);
	if (is_last(&a.work->done) && threadIdx.x == 0)
		judge(a);
}

/* ---- add ---- */

DEVICE void add_to(float *at, float y)
{
	store_any<uint32_t>(at, cx_float_bits(cx_sum(
		cx_float_from_bits(load_any<uint32_t>(at)), y)));
}

/* By `threads` threads, of which this is number `self`: the entries of a list or of a dense
 * body into dst. */
DEVICE void add_list(float *dst, const chunk &c, unsigned type, unsigned self, unsigned threads)
{
	const uint8_t *values = c.body + cx_sparse_places(c.kind, c.n, c.entries);

	if (c.kind == CX_SPARSE_LIST) {
		for (uint32_t i = self; i < c.entries; i += threads)
			add_to(dst + load_any<uint16_t>(c.body + 2 * i),
			       load_value(values, type, i));
	} else {
		for (uint32_t i = self; i < c.n; i += threads) {
			float y = load_value(values, type, i);

			if (cx_float_bits(y))
				add_to(dst + i, y);
		}
	}
}

/* By a warp: words from `from` to `to` of a bitmap, before whose entries there are `seen`. */
DEVICE void add_map(float *dst, const chunk &c, unsigned type, unsigned from, unsigned to,
		    uint32_t seen)
{
	const uint8_t *values = c.body + cx_sparse_places(c.kind, c.n, c.entries);

	for (unsigned first = from; first < to; first += 32) {
		unsigned word = first + lane_id();
		uint32_t bits = word < to ? map_word(c, word) : 0;
		uint32_t own = (uint32_t)__popc(bits), upto = own;

		for (unsigned by = 1; by < 32; by *= 2) {
			uint32_t up = __shfl_up_sync(~0u, upto, by);

			upto += lane_id() >= by ? up : 0;
		}
		for (uint32_t at = seen + upto - own; bits; bits &= bits - 1, at++)
			add_to(dst + word * 32 + (unsigned)__ffs((int)bits) - 1,
			       load_value(values, type, at));
		seen += __shfl_sync(~0u, upto, 31);
	}
}

/* A warp a chunk. */
DEVICE void add(const cx_sparse_args &a)
{
	const uint64_t chunks = cx_sparse_chunks(a.count);
	uint64_t number = (uint64_t)blockIdx.x * CX_CUDA_WARPS + threadIdx.x / 32;
	unsigned type;

	if (a.work->status)
		return;
	type = value_type(a.in[0]);
	for (; number < chunks; number += (uint64_t)gridDim.x * CX_CUDA_WARPS) {
		chunk c = chunk_of(a.in[0], a.count, number);
		float *dst = (float *)a.out + number * CX_CHUNK;

		if (!c.entries)
			continue;
		if (c.kind == CX_SPARSE_BITMAP)
			add_map(dst, c, type, 0, (c.n + 31) / 32, 0);
		else
			add_list(dst, c, type, lane_id(), 32);
	}
}

/* ---- merge ---- */

/* Words of a bitmap that a warp of a block has, and elements of a chunk. */
enum { WARP_WORDS = CX_CHUNK / 32 / CX_CUDA_WARPS, WARP_SUMS = CX_CHUNK / CX_CUDA_WARPS };

/* By a block: a message's chunk into the sums. A warp first counts the bits before its own. */
DEVICE void add_chunk(float *sums, const chunk &c, unsigned type)
{
	unsigned from = threadIdx.x / 32 * WARP_WORDS, words = (c.n + 31) / 32;
	uint32_t seen = 0;

	if (!c.entries)
		return;
	if (c.kind != CX_SPARSE_BITMAP) {
		add_list(sums, c, type, threadIdx.x, CX_CUDA_BLOCK);
		return;
	}
	for (unsigned i = lane_id(); i < from && i < words; i += 32)
		seen += (uint32_t)__popc(map_word(c, i));
	seen = __reduce_add_sync(~0u, seen);
	add_map(sums, c, type, from, min(from + WARP_WORDS, words), seen);
}

/* By a warp: its sums that are not 0, as entries from number `at` on of a body. */
template <int T>
DEVICE void merge_body(const float *sums, uint8_t *body, enum cx_sparse_kind kind, unsigned n,
		       uint32_t entries, uint32_t at)
{
	uint8_t *values = body + cx_sparse_places(kind, n, entries);
	unsigned first = threadIdx.x / 32 * WARP_SUMS;

	for (unsigned i = first; i < first + WARP_SUMS && i < n; i += 32) {
		float x = i + lane_id() < n ? sums[i + lane_id()] : 0.0f;
		bool there = cx_abs_bits(x) != 0;
		uint32_t map = __ballot_sync(~0u, there);
		uint32_t place = at + (uint32_t)__popc(map & ((1u << lane_id()) - 1));

		if (kind == CX_SPARSE_DENSE)
			place = i + lane_id();
		if (there && kind == CX_SPARSE_LIST)
			store_any<uint16_t>(body + 2 * place, (uint16_t)(i + lane_id()));
		if (kind == CX_SPARSE_BITMAP && lane_id() < 4 && i / 8 + lane_id() < (n + 7) / 8)
			body[i / 8 + lane_id()] = (uint8_t)(map >> 8 * lane_id());
		if (there)
			store_value<T>(values, place, value_bits<T>(x));
		at += (uint32_t)__popc(map);
	}
}

/* By a block: the sums of a chunk. */
DEVICE void merge_sums(const cx_sparse_args &a, float *sums, uint64_t number)
{
	for (unsigned i = threadIdx.x; i < CX_CHUNK; i += CX_CUDA_BLOCK)
		sums[i] = 0.0f;
	for (unsigned m = 0; m < a.messages; m++) {
		__syncthreads();
		add_chunk(sums, chunk_of(a.in[m], a.count, number), value_type(a.in[m]));
	}
	__syncthreads();
}

DEVICE uint32_t count_sums(const float *sums, unsigned n)
{
	unsigned first = threadIdx.x / 32 * WARP_SUMS + lane_id();
	uint32_t own = 0;

	for (unsigned i = first; i < first + WARP_SUMS && i < n; i += 32)
		own += cx_abs_bits(sums[i]) != 0;
	return __reduce_add_sync(~0u, own);
}

/* Entries of the warps before this one, and of the block. */
DEVICE uint32_t entries_before(uint32_t own, uint32_t *all)
{
	control *c = control_of();
	uint32_t before = 0;

	if (lane_id() == 0)
		c->warps[threadIdx.x / 32] = own;
	__syncthreads();
	*all = 0;
	for (unsigned w = 0; w < CX_CUDA_WARPS; w++) {
		before += w < threadIdx.x / 32 ? (uint32_t)c->warps[w] : 0;
		*all += (uint32_t)c->warps[w];
	}
	__syncthreads();
	return before;
}

DEVICE void merge_end(const cx_sparse_args &a, size_t units, uint64_t entries)
{
	store_head(a.out, a.type, a.count, units, entries);
	tell(a, COLLX_OK, units * CX_WIRE_ALIGN, entries);
}

template <int T> DEVICE void merge(const cx_sparse_args &a)
{
	const uint64_t chunks = cx_sparse_chunks(a.count);
	const size_t begin = cx_sparse_bodies(a.count) / CX_WIRE_ALIGN;
	float *sums = (float *)((char *)shared_memory() + CX_SHARED);
	uint64_t number;

	if (a.work->status)
		return;
	if (chunks == 0 && blockIdx.x == 0 && threadIdx.x == 0)
		merge_end(a, begin, 0);
	while ((number = take_tile(&a.work->ticket)) < chunks) {
		unsigned n = chunk_elements(a.count, number);
		uint32_t entries, own, units;
		enum cx_sparse_kind kind;
		counts before, all;
		uint8_t *body;

		merge_sums(a, sums, number);
		own = entries_before(count_sums(sums, n), &entries);
		kind = chunk_kind<T>(n, entries);
		units = body_units<T>(kind, n, entries);
		before = place_of((counts *)(a.work + 1), (uint32_t)number, threadIdx.x / 32 ? 0 :
				  counts_of(units, entries), &all);
		before = all - counts_of(units, entries);
		body = (uint8_t *)a.out + (begin + first_of(before)) * CX_WIRE_ALIGN;
		if (threadIdx.x == 0)
			store_chunk(a.out, number, begin + first_of(before), entries, kind);
		if (entries) {
			if (threadIdx.x < 32)
				clear_padding<T>(body, kind, n, entries);
			__syncthreads();
			merge_body<T>(sums, body, kind, n, entries, own);
		}
		if (number == chunks - 1 && threadIdx.x == 0)
			merge_end(a, begin + first_of(all), second_of(all));
	}
}

CX_KERNEL(cx_k_check_0_0, cx_sparse_args) { check(a); }
CX_KERNEL(cx_k_add_0_0, cx_sparse_args) { add(a); }
CX_KERNEL(cx_k_merge_0_0, cx_sparse_args) { merge<0>(a); }
CX_KERNEL(cx_k_merge_0_1, cx_sparse_args) { merge<1>(a); }
CX_KERNEL(cx_k_merge_0_2, cx_sparse_args) { merge<2>(a); }
