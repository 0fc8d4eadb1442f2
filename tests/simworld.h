/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Communicators over the simulated transport, all in one thread: what runs is
 * the real plan, executor and kernels; time, order and pieces come from a seed.
 */
#ifndef SIMWORLD_H
#define SIMWORLD_H

#include "src/comm.h"

struct simworld {
	int ranks;
	struct cx_sim *sim;
	struct collx_comm *comms; /* [rank] */
};

/* 0, or what went wrong stands on stderr. */
int simworld_open(struct simworld *w, int ranks, const struct cx_sim_attr *attr, size_t chunk);
void simworld_close(struct simworld *w);

/* The delays, window (1..8) and pieces that belong to a seed. */
struct cx_sim_attr simworld_attr(uint64_t seed);

/* On all ranks: algorithm number `algo` of cx_algos for that collective; -1: the table. */
void simworld_force(struct simworld *w, enum cx_coll coll, int algo);

/* Carries one call a rank through; block_bytes 0: as the table says. 0, or the
 * first error; COLLX_ERR_TIMEOUT: a deadlock, described on stderr. */
int simworld_run(struct simworld *w, const struct cx_request *requests, size_t block_bytes);

#endif
