/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where there are many hosts rank 0 does not hear a heartbeat of each. Their leaders stand
 * in a ring, by rank: each beats for its two neighbours and watches them. Who falls silent
 * is reported to rank 0, as everything is; that rank 0 did goes over chords to all, each
 * of which passes it on once: leaders are connected at distances 1, 2, 4, 8...
 *
 *         0 --- 2          leaders 0, 2, 3, 5, 7, 9, and the chords of 0
 *       / |  \   \
 *      9  |   \   3
 *       \ |    \ /         after G. Bosilca, A. Bouteiller, A. Guermouche, T. Herault,
 *         7 --- 5          Y. Robert, P. Sens, J. Dongarra, "Failure detection and
 *                          propagation in HPC systems", SC 2016
 */
#ifndef CX_RING_H
#define CX_RING_H

#include "boot.h"

/* Leaders behind t->rank around the ring until r, 0 and more; -1 where either is none. */
int cx_ring_distance(const struct cx_tree *t, int r);
/* Next to t->rank? */
bool cx_ring_is_next(const struct cx_tree *t, int r);

/* Connects the leaders, where they are more than `few`; all ranks call it.
 * beside[rank] become connected descriptors, -1 for the others, of who calls; NULL where
 * there is no ring, or nobody beside this rank. Closed with cx_tree_part. */
int cx_ring_open(int **beside, struct cx_boot *b, const struct cx_meeting *m, uint64_t nonce,
		 unsigned few);

#endif
