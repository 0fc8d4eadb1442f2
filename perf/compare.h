/* SPDX-License-Identifier: BSD-3-Clause */
/* What compare.c times, in the same loop for every library: one file each. */
#ifndef COMPARE_H
#define COMPARE_H

#include <stddef.h>

struct peer {
	const char *name;
	int rank, size;
};

void peer_init(struct peer *p, int *argc, char ***argv);
void peer_fini(void);
void peer_barrier(void);
/* float32 sums over count elements. */
void peer_allreduce(const float *in, float *out, size_t count);
/* The largest of the ranks' values, on all ranks. */
double peer_max(double v);

#endif
