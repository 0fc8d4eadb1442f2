/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A connection for every lane to other ranks, for transports that want them made:
 * a rank connects to the lower ones and lets the higher ones in, every connection
 * proved by a secret of this communicator alone.
 */
#ifndef CX_MESH_H
#define CX_MESH_H

#include "boot.h"

/* Connects with those ranks for whom wanted[peer] is not 0, and who want this one;
 * all ranks call it. fds[peer * lanes + lane] become connected descriptors, the
 * caller's; -1 for others. On an error none is left open. */
int cx_mesh_open(struct cx_boot *b, const struct cx_meeting *m, uint64_t nonce, int lanes,
		 const unsigned char *wanted, int *fds);

#endif
