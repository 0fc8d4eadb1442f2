/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Top-k as kernels/topk.h defines it, in a row of kernels that need no word from the
 * host in between. The first `select` takes candidates of at least the last call's k-th
 * key less a tenth, while it makes the sums and leaves them: 12 bytes an element. Is
 * there room for them and are there k, the others work on the candidates alone, and the
 * second `select` ends at once. Otherwise `restore` puts them back, the k-th key is found
 * by counting over all sums, and the second `select` takes what it says.
 *
 *   select 0, restore, count 0..2, select 1, pick, starts, emit
 */
#include "kernels/cuda/message.cuh"
#include "kernels/cuda/order.cuh"

/* Are the candidates all that can be chosen? The same in every kernel. */
DEVICE uint32_t least_key(const cx_topk_args &a)
{
	uint32_t hint = a.head->hint ? a.head->hint : CX_INF32;

	return max(hint, a.floor);
}

DEVICE bool is_good(const cx_topk_args &a)
{
	uint32_t found = a.head->found;

	return found <= a.room && (found >= a.k || least_key(a) == a.floor);
}

/* ---- select ---- */

/* Positions of a lane's marked elements among those of its warp. */
struct ranks {
	uint32_t before[2]; /* marked in lower lanes, 8 bits for each round */
	uint32_t round[2];  /* marked in the whole round, so */
	uint32_t marks;     /* bit 4 r + i */
	uint32_t total;
};

DEVICE ranks rank(uint32_t marks)
{
	ranks k = {{0, 0}, {0, 0}, marks, 0};

	for (unsigned r = 0; r < ROUNDS; r++)
		k.before[r / 4] |= (uint32_t)__popc(marks >> 4 * r & 15) << r % 4 * 8;
	for (unsigned h = 0; h < 2; h++) {
		uint32_t own = k.before[h];

		for (unsigned by = 1; by < 32; by *= 2) {
			uint32_t up = __shfl_up_sync(~0u, k.before[h], by);

			k.before[h] += lane_id() >= by ? up : 0;
		}
		k.round[h] = __shfl_sync(~0u, k.before[h], 31);
		k.before[h] -= own;
		for (unsigned r = 0; r < 4; r++)
			k.total += k.round[h] >> r * 8 & 255;
	}
	return k;
}

/* How many are marked before element i of round r, of whose rounds before `earlier` are. */
DEVICE uint32_t rank_of(const ranks &k, uint32_t earlier, unsigned r, unsigned i)
{
	return earlier + (k.before[r / 4] >> r % 4 * 8 & 255) +
	       (uint32_t)__popc(k.marks >> 4 * r & ((1u << i) - 1));
}

struct choice {
	uint32_t above, places; /* keys above the first, and that many equal to it */
};

/* An element: what it is, and whether it is above or equal. Returns what stays of it. */
DEVICE float weigh(float *x, float e, bool sums, const cx_topk_args &a, const choice &c,
		   unsigned bit, uint32_t *above, uint32_t *equal, uint32_t *unfit)
{
	uint32_t key;

	if (sums && a.residual)
		*x = cx_feedback(*x, e, a.decay);
	if (cx_abs_bits(*x) >= CX_INF32) {
		(*unfit)++;
		*x = e;
	}
	key = cx_abs_bits(*x);
	*above |= (uint32_t)(key > c.above && key < CX_INF32) << bit;
	*equal |= (uint32_t)(c.places && key == c.above) << bit;
	return key < CX_INF32 && (key > c.above || (c.places && key == c.above)) ? 0.0f : *x;
}

/* Half of a tile's rounds: what is read of the residual is under way before it is written. */
DEVICE void weigh_half(const cx_topk_args &a, const unsigned char *in, unsigned first, bool sums,
		       const choice &c, quad x[ROUNDS / 2], uint32_t *above, uint32_t *equal,
		       uint32_t *unfit)
{
	quad e[ROUNDS / 2] = {};

	UNROLL
	for (unsigned r = 0; r < ROUNDS / 2; r++) {
		if (a.residual)
			e[r] = load_quad<F32>(in, first + r);
		if (!sums)
			x[r] = e[r];
	}
	UNROLL
	for (unsigned r = 0; r < ROUNDS / 2; r++) {
		uint32_t left[QUAD];

		for (unsigned i = 0; i < QUAD; i++)
			left[i] = cx_float_bits(weigh(&x[r].f[i], e[r].f[i], sums, a, c,
						      4 * (first + r) + i, above, equal, unfit));
		if (a.residual) /* where it was read, by the same lane */
			store_quad<F32>((unsigned char *)in, first + r, left);
	}
}

/* A tile of sums, of which what is not marked stays in the residual. */
template <int T>
DEVICE void sum_tile(const cx_topk_args &a, const tile &t, bool again, const choice &c,
		     quad x[ROUNDS], uint32_t *above, uint32_t *equal)
{
	const bool sums = !again || !a.residual;
	const unsigned char *in = nullptr;
	uint32_t unfit = 0;

	if (sums)
		load_array<T>(x, t, a.gradient);
	if (a.residual)
		in = array_in<F32>(t, a.residual);
	UNROLL
	for (unsigned half = 0; half < ROUNDS; half += ROUNDS / 2)
		weigh_half(a, in, half, sums, c, x + half, above, equal, &unfit);
	if (a.residual)
		array_done<F32>(t, a.residual);
	unfit = __reduce_add_sync(~0u, unfit);
	if (unfit && !again && lane_id() == 0)
		atomicAdd(&a.head->unfit, (unsigned long long)unfit);
}

/* One that was marked: into the list, or back. */
DEVICE void keep(const cx_topk_args &a, bool again, bool take, size_t place, size_t at, float sum)
{
	if (take && place < a.room) {
		(again ? a.final_bits : a.bits)[place] = cx_float_bits(sum);
		(again ? a.final_index : a.index)[place] = (uint32_t)at;
	} else if (a.residual) {
		store_any<uint32_t>(a.residual + at, cx_float_bits(sum));
	}
}

DEVICE void keep_tile(const cx_topk_args &a, bool again, const choice &c, size_t number,
		      const quad x[ROUNDS], const ranks &above, const ranks &equal, counts before)
{
	uint32_t first = first_of(before), second = second_of(before);

	UNROLL
	for (unsigned r = 0; r < ROUNDS; r++) {
		for (unsigned i = 0; i < QUAD; i++) {
			uint32_t more = rank_of(above, first, r, i);
			uint32_t same = rank_of(equal, second, r, i);
			bool is_equal = equal.marks >> (4 * r + i) & 1;

			if ((above.marks >> (4 * r + i) & 1) || is_equal)
				keep(a, again, !is_equal || same < c.places,
				     (size_t)more + min(same, c.places),
				     number * CX_TILE + quad_at(r) + i, x[r].f[i]);
		}
		first += above.round[r / 4] >> r % 4 * 8 & 255;
		second += equal.round[r / 4] >> r % 4 * 8 & 255;
	}
}

template <int T> DEVICE void select(const cx_topk_args &a, bool again)
{
	const size_t tiles = (a.n + CX_SELECT_TILE - 1) / CX_SELECT_TILE;
	const choice c = {again ? a.head->key : least_key(a) - 1, again ? a.head->places : 0};
	uint32_t block;

	if (again && is_good(a))
		return;
	while ((block = take_tile(&a.head->ticket[again])) < tiles) {
		size_t number = (size_t)block * CX_CUDA_WARPS + threadIdx.x / 32;
		uint32_t above = 0, equal = 0;
		ranks more = {}, same = {};
		quad x[ROUNDS];
		counts before, all;

		if (number * CX_TILE < a.n) {
			sum_tile<T>(a, tile_of(number, a.n, a.aligned), again, c, x, &above,
				    &equal);
			more = rank(above);
			if (c.places)
				same = rank(equal);
		}
		before = place_of(a.states[again], block, counts_of(more.total, same.total), &all);
		if (more.total + same.total)
			keep_tile(a, again, c, number, x, more, same, before);
		if (block == tiles - 1 && threadIdx.x == 0)
			(again ? a.head->chosen : a.head->found) =
				first_of(all) + min(second_of(all), c.places);
	}
}

/* ---- the k-th key ---- */

DEVICE void restore(const cx_topk_args &a)
{
	size_t found = min((size_t)a.head->found, a.room);

	if (is_good(a) || !a.residual)
		return;
	for (size_t i = (size_t)blockIdx.x * CX_CUDA_BLOCK + threadIdx.x; i < found;
	     i += (size_t)gridDim.x * CX_CUDA_BLOCK)
		store_any<uint32_t>(a.residual + a.index[i], a.bits[i]);
}

/* Digits of a key, the highest first: 11, 10 and 10 bits. */
DEVICE unsigned digit_shift(int digit)
{
	return digit == 0 ? 20 : digit == 1 ? 10 : 0;
}

DEVICE void count_key(const cx_topk_args &a, int digit, uint32_t key, uint32_t *bins)
{
	const uint32_t shift = digit_shift(digit);
	const uint32_t bin = key >> shift & (digit ? 1023 : 2047);
	const bool known = digit == 0 || key >> (shift + 10) == a.head->key >> (shift + 10);
	const bool mine = key >= a.floor && key < CX_INF32 && known;

	const uint32_t first = __shfl_sync(~0u, bin, 0);

	/* Where all are the same, once for the warp. */
	if (__all_sync(~0u, mine && bin == first)) {
		if (lane_id() == 0)
			atomicAdd(&bins[bin], 32u);
	} else if (mine) {
		atomicAdd(&bins[bin], 1u);
	}
}

DEVICE void count_candidates(const cx_topk_args &a, int digit, uint32_t *bins)
{
	size_t step = (size_t)gridDim.x * CX_CUDA_BLOCK, found = a.head->found;
	size_t first = (size_t)blockIdx.x * CX_CUDA_BLOCK + threadIdx.x / 32 * 32;

	for (; first < found; first += step) {
		size_t i = first + lane_id();

		count_key(a, digit, i < found ? a.bits[i] & 0x7fffffffu : 0, bins);
	}
}

template <int T> DEVICE void count_all(const cx_topk_args &a, int digit, uint32_t *bins)
{
	const void *sums = a.residual ? (const void *)a.residual : a.gradient;
	bool aligned = a.residual ? a.residual_aligned : a.aligned;

	for (size_t number = tile_id(); number * CX_TILE < a.n;
	     number += (size_t)gridDim.x * CX_CUDA_WARPS) {
		quad x[ROUNDS];

		load_array<T>(x, tile_of(number, a.n, aligned, CX_SHARED + CX_BINS * 4), sums);
		UNROLL
		for (unsigned r = 0; r < ROUNDS; r++)
			for (int i = 0; i < QUAD; i++)
				count_key(a, digit, cx_abs_bits(x[r].f[i]), bins);
	}
}

/* By one warp: the bin that the k-th from the top is in, its place there, and the sum. */
DEVICE void find_bin(const uint32_t *bins, uint32_t k, uint32_t *bin, uint32_t *place,
		     uint32_t *total)
{
	const unsigned top = CX_BINS - 1 - lane_id() * (CX_BINS / 32);
	uint32_t mine = 0, upto, b = top, rest;
	unsigned here;

	for (unsigned i = 0; i < CX_BINS / 32; i++)
		mine += bins[top - i];
	upto = mine;
	for (unsigned by = 1; by < 32; by *= 2) {
		uint32_t up = __shfl_up_sync(~0u, upto, by);

		upto += lane_id() >= by ? up : 0;
	}
	rest = k - (upto - mine);
	here = __ballot_sync(~0u, upto >= k && upto - mine < k);
	if (here >> lane_id() & 1)
		for (; bins[b] < rest; b--)
			rest -= bins[b];
	here = here ? (unsigned)__ffs((int)here) - 1 : 0;
	*bin = __shfl_sync(~0u, b, here);
	*place = __shfl_sync(~0u, rest, here);
	*total = __shfl_sync(~0u, upto, 31);
}

/* The last block to come has all counts: it decides the digit. */
DEVICE void decide(const cx_topk_args &a, int digit, uint32_t *bins)
{
	cx_topk_head *h = a.head;
	uint32_t bin, place, total, k = digit ? h->places : (uint32_t)a.k;

	for (unsigned i = threadIdx.x; i < CX_BINS; i += CX_CUDA_BLOCK)
		bins[i] = __ldcg(&a.bins[digit * CX_BINS + i]);
	__syncthreads();
	if (threadIdx.x >= 32)
		return;
	find_bin(bins, k, &bin, &place, &total);
	if (lane_id())
		return;
	if (digit == 0 && (total < k || k == 0)) {
		h->fewer = 1;
		h->key = a.floor - 1;
		h->places = 0;
	} else {
		h->key |= bin << digit_shift(digit);
		h->places = place;
	}
}

template <int T> DEVICE void count(const cx_topk_args &a, int digit)
{
	uint32_t *bins = (uint32_t *)((char *)shared_memory() + CX_SHARED);

	if (a.head->fewer)
		return;
	for (unsigned i = threadIdx.x; i < CX_BINS; i += CX_CUDA_BLOCK)
		bins[i] = 0;
	__syncthreads();
	if (is_good(a))
		count_candidates(a, digit, bins);
	else
		count_all<T>(a, digit, bins);
	__syncthreads();
	for (unsigned i = threadIdx.x; i < CX_BINS; i += CX_CUDA_BLOCK)
		if (bins[i])
			atomicAdd(&a.bins[digit * CX_BINS + i], bins[i]);
	if (is_last(&a.head->done[digit]))
		decide(a, digit, bins);
}

/* ---- pick: from the candidates ---- */

/* Candidate number `at` of the list, in its warp's 8 rounds of 32. */
DEVICE void pick_round(const cx_topk_args &a, size_t at, counts *before)
{
	const cx_topk_head *h = a.head;
	bool there = at < h->found;
	uint32_t bits = there ? a.bits[at] : 0, key = bits & 0x7fffffffu;
	unsigned lower = (1u << lane_id()) - 1;
	unsigned above = __ballot_sync(~0u, there && key > h->key);
	unsigned equal = __ballot_sync(~0u, there && key == h->key);
	uint32_t more = first_of(*before) + (uint32_t)__popc(above & lower);
	uint32_t same = second_of(*before) + (uint32_t)__popc(equal & lower);
	size_t place = (size_t)more + min(same, h->places);

	*before += counts_of((uint32_t)__popc(above), (uint32_t)__popc(equal));
	if (!there)
		return;
	if (key > h->key || (key == h->key && same < h->places)) {
		a.final_bits[place] = bits;
		a.final_index[place] = a.index[at];
	} else if (a.residual) {
		store_any<uint32_t>(a.residual + a.index[at], bits);
	}
}

DEVICE void pick(const cx_topk_args &a)
{
	const cx_topk_head *h = a.head;
	const size_t tiles = ((size_t)h->found + CX_PICK_TILE - 1) / CX_PICK_TILE;
	uint32_t block;

	if (!is_good(a))
		return;
	while ((block = take_tile(&a.head->ticket[2])) < tiles) {
		size_t first = (size_t)block * CX_PICK_TILE + threadIdx.x / 32 * 256 + lane_id();
		counts own = 0, before, all;

		for (unsigned r = 0; r < 8; r++) {
			bool there = first + r * 32 < h->found;
			uint32_t key = there ? a.bits[first + r * 32] & 0x7fffffffu : 0;

			own += counts_of(
				(uint32_t)__popc(__ballot_sync(~0u, there && key > h->key)),
				(uint32_t)__popc(__ballot_sync(~0u, there && key == h->key)));
		}
		before = place_of(a.states[2], block, own, &all);
		for (unsigned r = 0; r < 8; r++)
			pick_round(a, first + r * 32, &before);
		if (block == tiles - 1 && threadIdx.x == 0)
			a.head->chosen = first_of(all) + min(second_of(all), h->places);
	}
}

/* ---- the message ---- */

DEVICE void starts(const cx_topk_args &a)
{
	size_t chunk = (size_t)blockIdx.x * CX_CUDA_BLOCK + threadIdx.x;
	size_t low = 0, high = a.head->chosen;

	if (chunk > cx_sparse_chunks(a.n))
		return;
	while (low < high) {
		size_t middle = (low + high) / 2;

		if (a.final_index[middle] / CX_CHUNK < chunk)
			low = middle + 1;
		else
			high = middle;
	}
	a.starts[chunk] = (uint32_t)low;
}

/* What the head and the result say, once all is known. */
DEVICE void finish(const cx_topk_args &a, size_t len)
{
	cx_topk_head *h = a.head;
	float last = h->fewer ? 0.0f : cx_float_from_bits(h->key);

	h->hint = h->fewer ? a.floor : max(cx_float_bits(cx_mul(last, 0.9f)), 1u);
	if (!a.info)
		return;
	a.info->len = len;
	a.info->entries = h->chosen;
	a.info->hint = last;
	a.info->unfit = h->unfit;
	a.info->status = COLLX_OK;
}

/* Rounded to the message's type; what that lost goes to the residual. */
template <int T> DEVICE uint32_t sent(const cx_topk_args &a, size_t i)
{
	float x = cx_float_from_bits(a.final_bits[i]);
	uint32_t bits = value_bits<T>(x);

	if (T != F32 && a.residual)
		store_any<uint32_t>(a.residual + a.final_index[i],
				    cx_float_bits(cx_left(x, widened<T>(bits))));
	return bits;
}

/* By one warp: the body of a chunk of n elements, `entries` of them from `from` on. */
template <int T>
DEVICE void emit_body(const cx_topk_args &a, uint8_t *body, enum cx_sparse_kind kind, unsigned n,
		      uint32_t from, uint32_t entries)
{
	uint32_t *map = (uint32_t *)((char *)shared_memory() + CX_SHARED) + threadIdx.x / 32 * 512;
	uint8_t *values = body + cx_sparse_places(kind, n, entries);

	clear_padding<T>(body, kind, n, entries);
	if (kind == CX_SPARSE_BITMAP)
		for (unsigned i = lane_id(); i < 512; i += 32)
			map[i] = 0;
	__syncwarp();
	for (uint32_t i = lane_id(); i < entries; i += 32) {
		uint32_t place = a.final_index[from + i] % CX_CHUNK, at = i;

		if (kind == CX_SPARSE_LIST)
			store_any<uint16_t>(body + 2 * i, (uint16_t)place);
		else if (kind == CX_SPARSE_BITMAP)
			atomicOr(&map[place / 32], 1u << place % 32);
		else
			at = place;
		store_value<T>(values, at, sent<T>(a, from + i));
	}
	__syncwarp();
	if (kind == CX_SPARSE_BITMAP)
		store_map(body, map, n);
}

template <int T> DEVICE void emit(const cx_topk_args &a)
{
	const size_t chunks = cx_sparse_chunks(a.n);
	const size_t tiles = (chunks + CX_EMIT_TILE - 1) / CX_EMIT_TILE;
	const size_t begin = cx_sparse_bodies(a.n) / CX_WIRE_ALIGN;
	uint32_t block;

	if (!chunks && threadIdx.x == 0) { /* of nothing, by the one block there is */
		store_head(a.msg, a.type, 0, begin, 0);
		finish(a, begin * CX_WIRE_ALIGN);
	}
	while ((block = take_tile(&a.head->ticket[3])) < tiles) {
		size_t chunk = (size_t)block * CX_EMIT_TILE + threadIdx.x / 32;
		uint32_t from = 0, entries = 0, units = 0;
		enum cx_sparse_kind kind = CX_SPARSE_LIST;
		unsigned n = 0;
		counts before, all;

		if (chunk < chunks) {
			from = a.starts[chunk];
			entries = a.starts[chunk + 1] - from;
			n = chunk_elements(a.n, chunk);
			kind = chunk_kind<T>(n, entries);
			units = body_units<T>(kind, n, entries);
		}
		before = place_of(a.states[3], block, counts_of(units, 0), &all);
		units = (uint32_t)begin + first_of(before);
		if (chunk < chunks && lane_id() == 0)
			store_chunk(a.msg, chunk, units, entries, kind);
		if (entries)
			emit_body<T>(a, (uint8_t *)a.msg + (size_t)units * CX_WIRE_ALIGN, kind, n,
				     from, entries);
		if (block == tiles - 1 && threadIdx.x == 0) {
			store_head(a.msg, a.type, a.n, begin + first_of(all), a.head->chosen);
			finish(a, (begin + first_of(all)) * CX_WIRE_ALIGN);
		}
	}
}

#define OF_SLOT(t) \
	CX_KERNEL(cx_k_select_0_##t, cx_topk_args) { select<t>(a, false); } \
	CX_KERNEL(cx_k_select_1_##t, cx_topk_args) { select<t>(a, true); } \
	CX_KERNEL(cx_k_count_0_##t, cx_topk_args) { count<t>(a, 0); } \
	CX_KERNEL(cx_k_count_1_##t, cx_topk_args) { count<t>(a, 1); } \
	CX_KERNEL(cx_k_count_2_##t, cx_topk_args) { count<t>(a, 2); } \
	CX_KERNEL(cx_k_emit_0_##t, cx_topk_args) { emit<t>(a); }

OF_SLOT(0)
OF_SLOT(1)
OF_SLOT(2)
CX_KERNEL(cx_k_restore_0_0, cx_topk_args) { restore(a); }
CX_KERNEL(cx_k_pick_0_0, cx_topk_args) { pick(a); }
CX_KERNEL(cx_k_starts_0_0, cx_topk_args) { starts(a); }
