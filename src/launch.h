/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who started this process as which rank of how many: read from the variables of
 * collx-run, torchrun, Open MPI or Slurm, whichever is found first in this order.
 */
#ifndef CX_LAUNCH_H
#define CX_LAUNCH_H

#include "boot.h"

struct cx_launch {
	const char *launcher;
	int rank, ranks;
};

/* COLLX_ERR_INVALID with a line naming the variable to set, or the two that contradict. */
int cx_launch_read(struct cx_launch *l);

/*
 * Where the ranks meet and by what secret. COLLX_ADDR and COLLX_SECRET_FILE count
 * for every launcher. Without them the ranks of one host meet at a unix socket named
 * after the job, where the kernel vouches for the user; ranks of several hosts need
 * the file, and with torchrun meet at MASTER_ADDR, port MASTER_PORT + 1.
 */
int cx_launch_meet(const struct cx_launch *l, struct cx_meeting *m);

#endif
