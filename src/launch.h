/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who started this process as which rank of how many: read from the variables of
 * collx-run, torchrun, Open MPI, Slurm, MPICH or PMIx, whichever is found first in this
 * order.
 */
#ifndef CX_LAUNCH_H
#define CX_LAUNCH_H

#include <stdbool.h>

#include "boot.h"

struct cx_launch {
	const struct cx_launcher *by;
	int rank, ranks;
	int local; /* ranks of this host; 0: not known */
	bool one_host;
};

struct cx_launcher;
const char *cx_launch_name(const struct cx_launch *l);

/* COLLX_ERR_INVALID with a line naming the variable to set, or the two that contradict. */
int cx_launch_read(struct cx_launch *l);

/*
 * Where the ranks meet and by what secret; m has rank, ranks and the deadline.
 *
 * Secret: COLLX_SECRET_FILE or COLLX_SECRET; else, for several hosts, a unique id that
 * rank 0 makes and the launcher's exchange (kvs.h) hands on; else, on one host, none,
 * since the kernel vouches for a unix socket's user; else COLLX_INSECURE=1, which is
 * said once. If none of these applies the error names the one thing to set.
 *
 * Place: COLLX_ADDR; on one host a unix socket named after the job; with torchrun
 * MASTER_ADDR at COLLX_PORT, or at the first free one of MASTER_PORT+1..+16; else what
 * the exchanged id holds.
 */
int cx_launch_meet(const struct cx_launch *l, struct cx_meeting *m);

#endif
