/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The k elements of largest magnitude, and sparse messages. Elements are ordered
 * by element.h: the larger magnitude first, of equals the smaller index; so what
 * is chosen does not depend on hints, room or device. No allocation. Part of the
 * contract of codec.h; the bytes are in doc/WIRE and layout.h.
 */
#ifndef CX_TOPK_H
#define CX_TOPK_H

#include "kernels/codec.h"

/* Top-k of n elements: what to choose from, and what was chosen. */
struct cx_topk {
	const struct cx_codecs *codecs;
	const void *gradient; /* never NULL */
	collx_type type;
	float *residual;      /* NULL: none */
	float decay;
	size_t n, k;          /* n at most 2^32, k at most n */
	uint32_t floor;       /* the smallest key to choose; at least 1 */
	uint32_t hint;        /* a key that the k-th is probably not below; 0: unknown */
	uint32_t *bits, *index; /* of the chosen: room for `room` each */
	size_t room;          /* at least cx_topk_room(n, k) */
	size_t found;         /* chosen: k, or all that there are of at least floor */
	uint32_t least;       /* key of the last one of k; 0 if there are fewer */
	uint64_t unfit;       /* elements whose sum was NaN or infinite */
};

size_t cx_topk_room(size_t n, size_t k);

/* Chooses; the chosen leave 0 in the residual, the others their sum. In one pass, but for a
 * hint that was too high. */
void cx_topk(struct cx_topk *t);

/* ---- sparse messages ---- */

/* The most bytes that a message of so many entries has; 0 where that is beyond SIZE_MAX. */
size_t cx_sparse_bound(uint64_t count, uint64_t entries, collx_type type);

/*
 * Writes entries, floats as bits, in ascending order of their indices, as a
 * message. What a value lost when it was rounded to the type goes to the residual,
 * if there is one. Returns its bytes.
 */
size_t cx_sparse_write(void *msg, collx_type type, uint64_t count, const uint32_t *bits,
		       const uint32_t *index, size_t entries, float *residual);

/* Whether a message for `count` elements begins at msg and ends, sound to its last byte, within
 * len bytes. Others may not be given to what follows. Reads no byte twice that decides anything
 * later: msg must not change meanwhile. */
int cx_sparse_valid(const void *msg, size_t len, uint64_t count);

/* dst[i] = cx_sum(dst[i], entry) for the entries of the message. */
void cx_sparse_add(float *dst, const void *msg);

/*
 * Adds up the entries of valid messages for the same number of elements, from the
 * first message to the last, beginning with +0; those that are not 0 are a message
 * of that type. Returns its bytes, 0 if they would be more than `len`: what is in
 * msg then means nothing.
 */
size_t cx_sparse_merge(void *msg, size_t len, collx_type type, const void *const *in,
		       unsigned messages);

#endif
