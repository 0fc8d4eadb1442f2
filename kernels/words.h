/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The words in which a variant is written: the compiler's vectors of VEC bytes.
 * A words_NAME.h defines VEC, includes this and adds what its processor does in a
 * way of its own:
 *
 *   pick                                see PICK
 *   product                             of the lower halves of 64-bit lanes
 *   quotient8, quotient32, quotient64   unsigned division by a struct divider,
 *   divider_init                        prepared for lanes of so many bits
 *   load_short, narrow_short            VEC / 4 elements of 16 bits to and from 32
 *   load_f16, narrow_f16                and from FLOAT16 to and from float
 *   join_short                          two such halves of a vector
 *   load_far                            a vector from memory rather than from a cache
 *   stream, stream_half, stream_end     stores around the caches, to aligned
 *                                       addresses, and what orders them
 *   machine_usable                      has this processor what it takes
 */
#ifndef CX_WORDS_H
#define CX_WORDS_H

#include <stdbool.h>
#include <string.h>

#include "kernels/convert.h"
#include "kernels/variants.h"

/* Without inlining, vectors would travel through memory and nothing would fold. */
#define ALWAYS static inline __attribute__((always_inline))

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

typedef float float32;
typedef double float64;

typedef uint8_t vu8 __attribute__((vector_size(VEC)));
typedef int8_t vi8 __attribute__((vector_size(VEC)));
typedef uint16_t vu16 __attribute__((vector_size(VEC)));
typedef int16_t vi16 __attribute__((vector_size(VEC)));
typedef uint32_t vu32 __attribute__((vector_size(VEC)));
typedef int32_t vi32 __attribute__((vector_size(VEC)));
typedef uint64_t vu64 __attribute__((vector_size(VEC)));
typedef int64_t vi64 __attribute__((vector_size(VEC)));
typedef float32 vf32 __attribute__((vector_size(VEC)));
typedef float64 vf64 __attribute__((vector_size(VEC)));

/* A vector as it lies in the caller's buffers: anywhere, of any type. */
typedef uint8_t mem __attribute__((vector_size(VEC), aligned(1), may_alias));

/* Half a vector, and half a vector of short floats: as many as fit in a vector once
 * they are wide. */
typedef uint8_t mem_half __attribute__((vector_size(VEC / 2), aligned(1), may_alias));
typedef uint16_t mem_short __attribute__((vector_size(VEC / 2), aligned(1), may_alias));
typedef uint16_t vshort __attribute__((vector_size(VEC / 2)));

/* Results of at least so many bytes are written around the caches: who reads them next
 * would find them in memory anyway. */
enum { CX_STREAM_BYTES = 8 << 20 };

/*
 * Of several inputs in short floats, asks for the line that comes 2.5 KiB later (Zen 5, 4 inputs:
 * 1 KiB ahead 0.74 to 0.84 of what memory permits, 2 KiB 0.93, 2.5 KiB 0.93 to 0.97, 3 KiB 0.89 to
 * 0.98, 8 KiB 0.85 to 0.95).
 */
ALWAYS void look_ahead_streams(const void *p)
{
	__builtin_prefetch((const void *)((uintptr_t)p + 2560));
}

/* x where the mask, a comparison's result, is true, y elsewhere. */
#define PICK(mask, x, y) ((__typeof__(x))pick((vu8)(mask), (vu8)(x), (vu8)(y)))

/* One of the codecs' products; see codec_body.h. */
typedef vf32 product_fn(vi32 q, vf32 scale);

/* How to divide unsigned lanes by a number: the variant's business but for by. */
struct divider {
	uint32_t by; /* 0 or 1: not at all */
	unsigned shift;
	uint64_t factor;
	float inverse; /* of a power of two: by it a float is divided, to the bit; else 0 */
};

#endif
