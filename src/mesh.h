/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A connection for every lane to every other rank, for transports that want them
 * made: each rank listens, connects to the lower ranks and lets the higher ones
 * in, every connection proved by a secret of this communicator alone.
 */
#ifndef CX_MESH_H
#define CX_MESH_H

#include "boot.h"

/* fds[peer * lanes + lane] become connected descriptors, the caller's, where
 * wanted[peer]; else -1. Both ranks of a pair want each other or neither does; all
 * ranks call it. On an error none is left open. */
int cx_mesh_open(struct cx_boot *b, const struct cx_meeting *m, uint64_t nonce, int lanes,
		 const unsigned char *wanted, int *fds);

#endif
