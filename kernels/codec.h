/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The codecs of the arithmetic room: arrays of floats to and from fewer bits, in
 * passes that do all there is to do with an element while it is in a register.
 * No communication, no state, no allocation. This header is the contract for
 * every variant; layout.h says where bytes lie, element.h what they are.
 *
 * All variants, the GPU's too, give the same bytes. An encoded array is decoded
 * in any multiple of CX_TILE elements from its beginning, and encoded so: pieces
 * put together are the same bytes as the whole. Any alignment of every pointer.
 * Buffers do not overlap unless it says so. What is read of a payload follows
 * from the count alone, so that no payload makes a decoder read or write beyond
 * its buffers.
 */
#ifndef CX_CODEC_H
#define CX_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "collx.h"
#include "kernels/kernel.h"
#include "kernels/layout.h"

/* How numbers between two quanta are rounded: to the nearest, or at random so that the
 * expectation is the number. */
struct cx_rounding {
	int stochastic;
	uint64_t seed;  /* the key of cx_philox */
	uint64_t index; /* of the first element in the whole array: a multiple of CX_TILE */
};

/* wire = the n elements of src. */
typedef void (*cx_encode_fn)(void *wire, const void *src, size_t n, const struct cx_rounding *r);

/* dst = the n elements of wire; too large ones become the largest of FLOAT16 or BFLOAT16. */
typedef void (*cx_decode_fn)(void *dst, const void *wire, size_t n);

/* dst[i] = cx_sum(dst[i], the element of wire). */
typedef void (*cx_accumulate_fn)(float *dst, const void *wire, size_t n);

/*
 * Encodes a = cx_feedback(gradient, residual, decay) and leaves in the residual
 * what was not sent, cx_left(a, decoded wire). A block with a NaN or an infinity
 * is sent as such and its residual is not changed (BF16: such an element).
 */
typedef void (*cx_feedback_fn)(void *wire, const void *gradient, float *residual, size_t n,
			       float decay, const struct cx_rounding *r);

/*
 * One pass over encoded inputs, all of one format: decoded, added to +0 from the
 * first to the last, divided by `divisor` as a float if that is above 1. One input
 * may be an array that was not encoded.
 */
struct cx_fuse {
	const void *const *inputs;
	unsigned count;      /* 1 to CX_INPUTS */
	unsigned own;        /* the input that is not encoded; count: none */
	collx_type own_type; /* FLOAT32, FLOAT16 or BFLOAT16 */
	uint32_t divisor;
	/* For a result that is encoded: */
	float *residual; /* as in cx_feedback_fn; NULL: none */
	float decay;
	struct cx_rounding rounding;
};

/* dst = the result for n elements: encoded, or as an array of a type (then the sum is
 * narrowed as by cx_kernels.narrow). dst may be the own input of the same type. */
typedef void (*cx_fuse_fn)(void *dst, const struct cx_fuse *f, size_t n);

/*
 * Top-k, the pass over memory. a = cx_feedback(gradient, residual, decay) of
 * elements from `at` on; where that is NaN or infinite the gradient counts as
 * nothing, a is the residual, and the element is counted in `unfit`. Those that are
 * cx_eligible(a, least) are appended to the candidates, bits and index, in the
 * order of their indices, and leave 0 in the residual; others leave a. Stops at n,
 * or before when fewer than CX_SELECT_ROOM places are left. Without a gradient a is
 * the residual; without a residual a is the gradient (0 if unfit) and nothing is left.
 * indices are 32 bits: n is at most 2^32. topk.h is the way to all of top-k.
 */
enum { CX_SELECT_ROOM = 64 };
struct cx_select {
	const void *gradient;
	float *residual;
	size_t n, at;
	float decay;
	uint32_t least; /* at least 1 */
	uint32_t *bits, *index;
	size_t found, room;
	uint64_t unfit;
};
typedef void (*cx_select_fn)(struct cx_select *s);

/* The types that codecs take and give. */
enum { CX_FLOATS = 3 };
static inline int cx_float_slot(collx_type type)
{
	return type == COLLX_FLOAT32 ? 0 : type == COLLX_FLOAT16 ? 1 : type == COLLX_BFLOAT16 ?
	       2 : -1;
}

/* Second indices are cx_float_slot(type). */
struct cx_codecs {
	const char *name; /* "portable", "vector", "avx2", "avx512" */
	int (*usable)(void);
	cx_encode_fn encode[CX_FORMATS][CX_FLOATS];
	cx_decode_fn decode[CX_FORMATS][CX_FLOATS];
	cx_accumulate_fn accumulate[CX_FORMATS];
	cx_feedback_fn feedback[CX_FORMATS][CX_FLOATS];
	cx_fuse_fn fuse[CX_FORMATS];             /* result in the same format */
	cx_fuse_fn sum[CX_FORMATS][CX_FLOATS];   /* result as an array */
	cx_select_fn select[CX_FLOATS];
};

/* All variants compiled in, best last, NULL-terminated; and the best usable one, or the one
 * of that name: as cx_kernel_variants and cx_kernels_pick. */
extern const struct cx_codecs *const cx_codec_variants[];
const struct cx_codecs *cx_codecs_pick(const char *name);

#endif
