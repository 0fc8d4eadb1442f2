/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the two halves of the emulation share: cuda_emu.c runs the threads,
 * cuda_emu_mem.c checks what they do to memory. See cuda_emu.h.
 *
 * Order. Every block has a tick that grows with each barrier, warp synchronisation and
 * fence in it; an access is stamped with the thread and the tick. A thread knows the
 * accesses of its block before the block's last barrier, of its warp before the warp's
 * last synchronisation, and those in lists of struct known, which fences and volatile
 * or atomic accesses hand from one thread to another. Two accesses are ordered when the
 * later one's thread knows the earlier one.
 */
#ifndef CUDA_EMU_INT_H
#define CUDA_EMU_INT_H

#include <stdbool.h>

#define CUDA_EMU_NO_NAMES
#include "tests/cuda_emu.h"

enum { EMU_LANES = 32, EMU_STACK = 48 << 10, EMU_MAX_THREADS = 1 << 16 };

/* Which accesses somebody knows: of the thread up to tick, or of the block or warp
 * before tick. */
enum emu_scope { EMU_OF_THREAD, EMU_OF_WARP, EMU_OF_BLOCK };
struct emu_known {
	struct emu_fact {
		uint32_t who, tick; /* who: scope in the upper 2 bits, then the number */
	} *facts;
	unsigned n, room;
};

struct emu_warp {
	uint32_t sync_tick;
	struct emu_known known;
	unsigned arrived;
	enum emu_warp_op op;
	uint64_t in[EMU_LANES];
	unsigned from[EMU_LANES];
	uint64_t out[EMU_LANES];
};

struct emu_block {
	unsigned number;
	uint32_t tick, barrier_tick;
	struct emu_known known;
	unsigned alive, at_barrier;
	char *shared;
	unsigned char *written; /* a bit for each byte of shared */
	struct emu_thread *threads;
	struct emu_warp *warps;
};

enum emu_state { EMU_RUNS, EMU_AT_BARRIER, EMU_IN_WARP, EMU_ENDED };
struct emu_thread {
	void *context;
	char *stack;
	enum emu_state state;
	struct emu_block *block;
	struct emu_warp *warp;
	unsigned number, in_block; /* in the grid; in the block */
	struct emu_known known;
	struct emu_known seen;     /* by volatile and atomic loads since the last fence */
	struct emu_known released; /* what was known at the last fence */
};

struct emu {
	const struct emu_launch *launch;
	struct emu_thread *self; /* NULL: no kernel runs */
	struct emu_block *blocks;
	struct emu_thread *threads; /* of the whole grid, by number */
	uint64_t random;
	uint32_t generation;
};
extern struct emu emu;

static inline uint32_t emu_random(void)
{
	emu.random ^= emu.random << 13;
	emu.random ^= emu.random >> 7;
	emu.random ^= emu.random << 17;
	return (uint32_t)(emu.random >> 16);
}

/* Ends the launch with this line. */
void emu_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
/* Lets another thread run. */
void emu_yield(void);

/* Learns all of from. */
void emu_learn(struct emu_known *to, const struct emu_known *from);
void emu_learn_fact(struct emu_known *to, enum emu_scope scope, unsigned number, uint32_t tick);
void emu_known_reset(struct emu_known *k);

/* A new launch, block: earlier accesses are of no interest. */
void emu_mem_begin(void);
void emu_mem_forget(const void *p, size_t len);

#endif
