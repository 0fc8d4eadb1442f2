/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The arithmetic room: combining and converting arrays. No communication, no
 * state. This header is its contract.
 *
 * Types. Sums, products and averages of FLOAT16 and BFLOAT16 accumulate in
 * FLOAT32 (cx_acc_type); partial results then have the accumulation type, and
 * an operand is "wide" when it does. Everything else accumulates in its type.
 *
 * Numerics (doc/DESIGN section 10; in the default floating-point environment all
 * variants give the same bits, whatever the compiler):
 *   - Integers wrap; an integer average truncates toward zero, after wrapping
 *     sums. A float average is the sum divided by the divisor as a float.
 *   - A sum, product or average that is NaN is the canonical one: positive,
 *     quiet, no payload (0x7e00, 0x7fc0, 0x7fc00000, 0x7ff8000000000000).
 *   - NaN propagates through min and max, its payload too: the result is the left
 *     operand if that is NaN, else the right one, quieted. -0 is below +0.
 *   - Widening is exact; it quiets a NaN of FLOAT16, not of BFLOAT16. Narrowing
 *     rounds to nearest even, keeps the sign and top payload bits of a NaN and
 *     quiets it.
 */
#ifndef CX_KERNEL_H
#define CX_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "collx.h"

/* The type in which partial results of this reduction are kept. */
collx_type cx_acc_type(collx_type type, collx_op op);

/* Which operands of a reduction have the accumulation type. Meaningful only
 * where that differs from the element type; otherwise 0. */
enum { CX_WIDE_DST = 1, CX_WIDE_A = 2, CX_WIDE_B = 4, CX_WIDTHS = 8 };

/*
 * dst[i] = a[i] op b[i] for n elements. For COLLX_AVG this is the sum, and with
 * divisor > 1 (the last addition) the sum divided by it; other operations
 * ignore divisor. dst may be a or b where it has the same width; otherwise they
 * do not overlap. Any alignment.
 */
typedef void (*cx_reduce_fn)(void *dst, const void *a, const void *b, size_t n, uint32_t divisor);

enum { CX_INPUTS = 16 }; /* most operands of one pass */

/*
 * dst[i] = ((in[0][i] op in[1][i]) op in[2][i]) ...: 2 to CX_INPUTS inputs of the
 * element type in one pass, partial results in the accumulation type, one rounding.
 * COLLX_AVG as above. dst may be any of the inputs. Any alignment.
 */
typedef void (*cx_fold_fn)(void *dst, const void *const *in, unsigned count, size_t n,
			   uint32_t divisor);

/* dst[i] = a[i], converted; for pairs (FLOAT16|BFLOAT16 <-> FLOAT32). Any
 * alignment; no overlap. */
typedef void (*cx_convert_fn)(void *dst, const void *src, size_t n);

struct cx_kernels {
	const char *name; /* "portable", "avx2", "avx512" */
	int (*usable)(void); /* does this processor have it */
	cx_reduce_fn reduce[COLLX_TYPE_COUNT][COLLX_OP_COUNT][CX_WIDTHS]; /* NULL: no such width */
	cx_fold_fn fold[COLLX_TYPE_COUNT][COLLX_OP_COUNT];
	cx_convert_fn widen[COLLX_TYPE_COUNT];  /* to the accumulation type; NULL where equal */
	cx_convert_fn narrow[COLLX_TYPE_COUNT]; /* from it */
};

/* All variants compiled in, best last, NULL-terminated. */
extern const struct cx_kernels *const cx_kernel_variants[];

/* The best usable one, or the one of that name (NULL: any); NULL if unusable or
 * unknown. The reductions of "vector", a variant of the codecs, are the portable ones, which are
 * made of the compiler's vectors, too. Cheap, pure. */
const struct cx_kernels *cx_kernels_pick(const char *name);
/* Why a name gave none, as the end of a line: "is no arithmetic; usable here: portable". */
struct cx_kernels_why {
	char text[120];
};
struct cx_kernels_why cx_kernels_why(const char *name);

#endif
