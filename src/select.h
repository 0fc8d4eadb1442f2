/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which algorithm runs: one table, a pure function of what all ranks know. What
 * varies (forced algorithms) is decided by rank 0 at creation and taken over by everybody,
 * or found by all from the same facts (more ranks than cores, the way between them).
 */
#ifndef CX_SELECT_H
#define CX_SELECT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "plan.h"

/* The longest way between two ranks: shared memory alone; TCP over a network; TCP between
 * ranks that all are of one host. */
enum cx_span { CX_SPAN_MEMORY, CX_SPAN_NETWORK, CX_SPAN_LOOPBACK, CX_SPANS };

/* What rank 0 decides; travels in the creation's first exchange. */
struct cx_select_agreed {
	int8_t forced[CX_NCOLL]; /* index in cx_algos, or -1 */
	uint8_t crowded;         /* more ranks than cores; found by all from the same facts, */
	uint8_t span;            /* as is this */
};

struct cx_choice {
	const struct cx_algo *algo;
	size_t block_bytes; /* of a segment's block */
};

/* Reads COLLX_ALGO; not crowded, by shared memory. */
int cx_select_decide(struct cx_select_agreed *a);

/* Rank 0's word is checked before it is taken: 0 or COLLX_ERR_CORRUPT. */
int cx_select_check(const struct cx_select_agreed *a);

/* bytes: of the whole vector (allgather, reduce_scatter: of all blocks together). */
struct cx_choice cx_select(const struct cx_select_agreed *a, enum cx_coll coll, int ranks,
			   size_t bytes);

/* The table; with ranks > 0 only rows for that number; coll CX_NCOLL: all. */
void cx_select_print(FILE *to, enum cx_coll coll, int ranks);

#endif
