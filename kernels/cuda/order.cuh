/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What keeps an order among blocks without waiting for all of them: each takes the next
 * tile by a ticket, says how much it has, and adds up what the tiles before it said
 * ("decoupled look-back": Merrill and Garland, 2016). So results lie in the order of the
 * tiles whatever the order of the blocks.
 */
#ifndef CX_CUDA_ORDER_CUH
#define CX_CUDA_ORDER_CUH

#include "kernels/cuda/device.cuh"

/* Two counts of 31 bits, and in a tile's state what they are. One word, so that whoever
 * sees the state has the counts, too: no fence. */
typedef unsigned long long counts;
enum { STATE_NONE = 0, STATE_OWN = 1, STATE_ALL = 2 }; /* of this tile; of all up to it */

DEVICE counts counts_of(uint32_t first, uint32_t second)
{
	return (counts)first << 31 | second;
}

DEVICE uint32_t first_of(counts c)
{
	return (uint32_t)(c >> 31) & 0x7fffffffu;
}

DEVICE uint32_t second_of(counts c)
{
	return (uint32_t)c & 0x7fffffffu;
}

/* What a block shares, at the beginning of its shared memory. */
struct control {
	counts warps[CX_CUDA_WARPS], base;
	uint32_t tile, last;
};

DEVICE control *control_of()
{
	static_assert(sizeof(control) <= CX_SHARED, "there is room for it");
	return (control *)shared_memory();
}

/* The next tile, the same for all threads of the block, which meet in place_of before they
 * come here again. */
DEVICE uint32_t take_tile(uint32_t *ticket)
{
	control *c = control_of();

	if (threadIdx.x == 0)
		c->tile = atomicAdd(ticket, 1u);
	__syncthreads();
	return c->tile;
}

DEVICE void publish(counts *state, unsigned kind, counts c)
{
	*(volatile counts *)state = (counts)kind << 62 | c;
}

/* By a whole warp: what all tiles before this one have, which itself has `own`. */
DEVICE counts look_back(counts *states, uint32_t tile, counts own)
{
	counts before = 0;

	if (lane_id() == 0)
		publish(&states[tile], tile ? STATE_OWN : STATE_ALL, own);
	for (long long at = (long long)tile - 1 - lane_id();; at -= 32) {
		counts s = (counts)STATE_ALL << 62;
		unsigned ends, take;

		do {
			if (at >= 0)
				s = *(volatile counts *)&states[at];
		} while (__any_sync(~0u, s >> 62 == STATE_NONE));
		ends = __ballot_sync(~0u, s >> 62 == STATE_ALL);
		take = ends ? __ffs((int)ends) : 32;
		if (lane_id() >= take)
			s = 0;
		before += counts_of(__reduce_add_sync(~0u, first_of(s)),
				    __reduce_add_sync(~0u, second_of(s)));
		if (ends)
			break;
	}
	if (tile && lane_id() == 0)
		publish(&states[tile], STATE_ALL, before + own);
	return before;
}

/*
 * Each warp has `own` in tile number `tile`, a block's; returns what is before the warp
 * in all tiles, and in *all what there is up to this tile's end.
 */
DEVICE counts place_of(counts *states, uint32_t tile, counts own, counts *all)
{
	control *c = control_of();
	unsigned warp = threadIdx.x / 32;
	counts before = 0, sum = 0;

	if (lane_id() == 0)
		c->warps[warp] = own;
	__syncthreads();
	for (unsigned w = 0; w < CX_CUDA_WARPS; w++) {
		before += w < warp ? c->warps[w] : 0;
		sum += c->warps[w];
	}
	if (warp == 0) {
		counts base = look_back(states, tile, sum);

		if (lane_id() == 0)
			c->base = base;
	}
	__syncthreads();
	*all = c->base + sum;
	return c->base + before;
}

/*
 * True in the last block that comes here, for all its threads, which then see what all
 * blocks did before: the fence before the count hands it over, the one after it takes it.
 */
DEVICE bool is_last(uint32_t *done)
{
	control *c = control_of();

	__syncthreads();
	if (threadIdx.x == 0) {
		__threadfence();
		c->last = atomicAdd(done, 1u) == gridDim.x - 1;
		__threadfence();
	}
	__syncthreads();
	return c->last;
}

#endif
