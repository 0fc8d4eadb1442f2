/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs the CUDA kernels of kernels/cuda/ on the CPU, for tests of machines without
 * a GPU. The .cu files are compiled as C++ with this header in front of them and
 * with -fsanitize=thread, but linked with tests/cuda_emu.c in the place of
 * ThreadSanitizer's runtime: the compiler so hands every load and store of a kernel
 * to the emulation, which checks it.
 *
 * Every thread is a fiber; a seed decides who runs next, also in the middle of plain
 * code. A fault is: an access outside of every buffer, or misaligned; two accesses to
 * a byte, one of them a write, by two threads that nothing orders (a barrier, a warp's
 * __syncwarp, or a fence before a volatile or atomic store and one after the load that
 * saw it); shared memory read before it was written; a barrier or warp operation that
 * not all threads reach; no progress. A race is found from the order that the program
 * guarantees, not from the order that happened: a barrier or fence left out fails even
 * when the result was right by luck.
 *
 * Limits. Warp operations take whole warps, mask ~0. At most 8 accesses to each 8 bytes
 * are remembered (4 reads, 4 writes), so that a race between many can be missed in one
 * run. Shuffles and votes order nothing (on a GPU neither); fences are all device wide.
 * Blocks start in any order, `resident` at a time. There is no constant, texture or
 * local memory, no cache, no time: it says nothing about speed. Shared memory is the
 * dynamic kind only. memcpy of a variable size is not seen.
 */
#ifndef CUDA_EMU_H
#define CUDA_EMU_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- for tests ---- */

struct emu_kernel {
	const char *name;
	void (*entry)(const void *args); /* takes its argument from there */
	size_t args_len;
	struct emu_kernel *next;
};
/* Of the .cu files linked, or NULL. */
const struct emu_kernel *emu_find_kernel(const char *name);

struct emu_launch {
	const struct emu_kernel *kernel;
	unsigned grid, block;
	size_t shared;
	const void *args;
};

/* How the next launches are carried out. */
struct emu_options {
	uint64_t seed;
	unsigned resident; /* blocks at a time; 0: 4 */
	unsigned preempt;  /* one in so many accesses lets another run; 0: none */
	unsigned drop;     /* the site of this number does nothing; 0: none */
};
extern struct emu_options emu_options;

/* Where kernels synchronise: the lines with __syncthreads, __syncwarp and __threadfence
 * that were reached so far, numbered from 1. */
struct emu_site {
	const char *file, *what;
	int line;
	uint64_t reached;
};
const struct emu_site *emu_site(unsigned number); /* NULL: not that many */

/* Device memory, filled with a pattern, with known bounds. NULL when exhausted. */
void *emu_alloc(size_t len);
void emu_free(void *p);
/* The start of the allocation that p lies in, and its length; NULL: not device memory. */
void *emu_find(const void *p, size_t *len);

/* 0, or -1 after a fault: emu_fault() then says which. */
int emu_run(const struct emu_launch *launch);
const char *emu_fault(void);

/* ---- for the kernels, through the names below ---- */

void emu_list(struct emu_kernel *kernel);

struct emu_index {
	unsigned x, y, z;
};
struct emu_index emu_thread_index(void);
struct emu_index emu_block_index(void);
struct emu_index emu_block_size(void);
struct emu_index emu_grid_size(void);

void *emu_shared(void);
/* True when this line is to do nothing. */
int emu_dropped(const char *what, const char *file, int line);
void emu_syncthreads(void);
void emu_fence(void);
void emu_pause(void);
void emu_trap(void) __attribute__((noreturn));

enum emu_warp_op { EMU_SYNCWARP, EMU_SHUFFLE, EMU_BALLOT, EMU_ADD, EMU_MAX, EMU_MIN, EMU_OR };
/* All lanes give op the same value; a shuffle gets lane `from`'s. */
uint64_t emu_warp(enum emu_warp_op op, unsigned mask, uint64_t value, unsigned from);

enum emu_atomic { EMU_ATOMIC_ADD, EMU_ATOMIC_MAX, EMU_ATOMIC_OR, EMU_ATOMIC_XCHG, EMU_ATOMIC_CAS };
uint64_t emu_atomic(enum emu_atomic op, void *p, unsigned size, uint64_t value, uint64_t old);
/* A load or store that the kernel does by an intrinsic. */
void emu_touch(const void *p, size_t size, int write);
/* A vector of so many bytes is read or written there. */
void emu_aligned(const void *p, size_t size);

#ifdef __cplusplus
}
#endif

#if defined(__cplusplus) && !defined(CUDA_EMU_NO_NAMES)

#include <math.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __grid_constant__
#define __launch_bounds__(...)
#define threadIdx (emu_thread_index())
#define blockIdx (emu_block_index())
#define blockDim (emu_block_size())
#define gridDim (emu_grid_size())
#define warpSize 32

#define EMU_ENTER(symbol, args) \
	static void enter_##symbol(const void *p) { symbol(*(const args *)p); } \
	static struct emu_kernel entry_##symbol = {#symbol, enter_##symbol, sizeof(args), 0}; \
	__attribute__((constructor)) static void list_##symbol() { emu_list(&entry_##symbol); }

/* The compiler takes these apart into words, so they look at their addresses themselves. */
template <typename V> static inline V &emu_copy(V *to, const V *from)
{
	emu_aligned(to, sizeof(V));
	emu_aligned(from, sizeof(V));
	to->take(*from);
	return *to;
}

struct alignas(16) uint4 {
	unsigned x, y, z, w;

	uint4() = default;
	uint4(const uint4 &v) { emu_copy(this, &v); }
	uint4 &operator=(const uint4 &v) { return emu_copy(this, &v); }
	void take(const uint4 &v) { x = v.x, y = v.y, z = v.z, w = v.w; }
};

struct alignas(8) uint2 {
	unsigned x, y;

	uint2() = default;
	uint2(const uint2 &v) { emu_copy(this, &v); }
	uint2 &operator=(const uint2 &v) { return emu_copy(this, &v); }
	void take(const uint2 &v) { x = v.x, y = v.y; }
};

static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
	uint4 v;

	v.x = x, v.y = y, v.z = z, v.w = w;
	return v;
}

static inline uint2 make_uint2(unsigned x, unsigned y)
{
	uint2 v;

	v.x = x, v.y = y;
	return v;
}

#define EMU_SITE(what, does) (emu_dropped(what, __FILE__, __LINE__) ? (void)0 : (void)(does))
#define __syncthreads() EMU_SITE("__syncthreads", emu_syncthreads())
#define __syncwarp() EMU_SITE("__syncwarp", emu_warp(EMU_SYNCWARP, ~0u, 0, 0))
#define __threadfence() EMU_SITE("__threadfence", emu_fence())
static inline void __nanosleep(unsigned) { emu_pause(); }
static inline void __trap() { emu_trap(); }

/* The warp's lane of this thread. */
static inline unsigned emu_lane() { return emu_thread_index().x % 32; }

template <typename T> static inline T emu_shuffle(unsigned mask, T value, unsigned from)
{
	uint64_t bits = 0;

	static_assert(sizeof(T) <= 8, "a shuffle moves 8 bytes at most");
	__builtin_memcpy(&bits, &value, sizeof(T));
	bits = emu_warp(EMU_SHUFFLE, mask, bits, from);
	__builtin_memcpy(&value, &bits, sizeof(T));
	return value;
}

template <typename T>
static inline T __shfl_sync(unsigned mask, T v, unsigned lane, unsigned width = 32)
{
	return emu_shuffle(mask, v, (emu_lane() & ~(width - 1)) | (lane & (width - 1)));
}

template <typename T> static inline T __shfl_xor_sync(unsigned mask, T v, unsigned with)
{
	return emu_shuffle(mask, v, emu_lane() ^ with);
}

template <typename T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned by)
{
	return emu_shuffle(mask, v, emu_lane() >= by ? emu_lane() - by : emu_lane());
}

template <typename T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned by)
{
	return emu_shuffle(mask, v, emu_lane() + by < 32 ? emu_lane() + by : emu_lane());
}

static inline unsigned __ballot_sync(unsigned mask, int p)
{
	return (unsigned)emu_warp(EMU_BALLOT, mask, p != 0, 0);
}

static inline int __any_sync(unsigned mask, int p) { return __ballot_sync(mask, p) != 0; }
static inline int __all_sync(unsigned mask, int p) { return __ballot_sync(mask, p) == ~0u; }

static inline unsigned __reduce_add_sync(unsigned mask, unsigned v)
{
	return (unsigned)emu_warp(EMU_ADD, mask, v, 0);
}

static inline unsigned __reduce_max_sync(unsigned mask, unsigned v)
{
	return (unsigned)emu_warp(EMU_MAX, mask, v, 0);
}

static inline unsigned __reduce_min_sync(unsigned mask, unsigned v)
{
	return (unsigned)emu_warp(EMU_MIN, mask, v, 0);
}

static inline unsigned __reduce_or_sync(unsigned mask, unsigned v)
{
	return (unsigned)emu_warp(EMU_OR, mask, v, 0);
}

template <typename T> static inline T atomicAdd(T *p, T v)
{
	return (T)emu_atomic(EMU_ATOMIC_ADD, p, sizeof(T), v, 0);
}

template <typename T> static inline T atomicMax(T *p, T v)
{
	static_assert((T)-1 > 0, "of unsigned numbers");
	return (T)emu_atomic(EMU_ATOMIC_MAX, p, sizeof(T), v, 0);
}

template <typename T> static inline T atomicOr(T *p, T v)
{
	return (T)emu_atomic(EMU_ATOMIC_OR, p, sizeof(T), v, 0);
}

template <typename T> static inline T atomicExch(T *p, T v)
{
	return (T)emu_atomic(EMU_ATOMIC_XCHG, p, sizeof(T), v, 0);
}

template <typename T> static inline T atomicCAS(T *p, T old, T v)
{
	return (T)emu_atomic(EMU_ATOMIC_CAS, p, sizeof(T), v, old);
}

template <typename T> __attribute__((no_sanitize("thread"))) static inline T emu_load(const T *p)
{
	emu_touch(p, sizeof(T), 0);
	return *p;
}

template <typename T>
__attribute__((no_sanitize("thread"))) static inline void emu_store(T *p, T v)
{
	emu_touch(p, sizeof(T), 1);
	*p = v;
}

#define __ldg emu_load
#define __ldcs emu_load
#define __ldcg emu_load
#define __stcs emu_store
#define __stcg emu_store

static inline unsigned __float_as_uint(float f)
{
	unsigned u;

	__builtin_memcpy(&u, &f, 4);
	return u;
}

static inline float __uint_as_float(unsigned u)
{
	float f;

	__builtin_memcpy(&f, &u, 4);
	return f;
}

/* Compiled with -ffp-contract=off; the host rounds to nearest even. */
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline int __popc(unsigned a) { return __builtin_popcount(a); }
/* Byte i of the result is byte s >> 4 i & 7 of y and x, x's the lower 4. */
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned s)
{
	unsigned long long both = (unsigned long long)y << 32 | x;
	unsigned r = 0;

	for (int i = 0; i < 4; i++)
		r |= (unsigned)(both >> (s >> 4 * i & 7) * 8 & 0xff) << 8 * i;
	return r;
}

static inline int __ffs(int a) { return __builtin_ffs(a); }
static inline int __clz(int a) { return a ? __builtin_clz((unsigned)a) : 32; }
template <typename T> static inline T min(T a, T b) { return b < a ? b : a; }
template <typename T> static inline T max(T a, T b) { return a < b ? b : a; }

#endif
#endif
