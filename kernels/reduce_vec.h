/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The words in which a variant is written: the compiler's vectors of VEC bytes.
 * See reduce_body.h.
 */
#ifndef CX_REDUCE_VEC_H
#define CX_REDUCE_VEC_H

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

/* Half a vector of short floats, as many as fit in a vector once they are wide. */
typedef uint16_t short_mem __attribute__((vector_size(VEC / 2), aligned(1), may_alias));

/* x where the mask, a comparison's result, is true, y elsewhere. */
#define PICK(mask, x, y) ((__typeof__(x))pick((vu8)(mask), (vu8)(x), (vu8)(y)))

/* How to divide unsigned lanes by a number: the variant's business but for by. */
struct divider {
	uint32_t by; /* 0 or 1: not at all */
	unsigned shift;
	uint64_t factor;
};

#endif
