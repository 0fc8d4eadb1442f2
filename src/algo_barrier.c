/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Barriers: blocks of one byte whose arrival is all that matters. Slot 0 stands
 * for "I am here", every receive has a slot of its own, and a send names the
 * slot of the receive it waits for.
 *
 * dissemination (Hensgen, Finkel and Manber 1988), 4 ranks:
 *
 *   round 0   0 -> 1 -> 2 -> 3 -> 0      each knows of itself and 1 before
 *   round 1   0 <-> 2, 1 <-> 3           each knows of all 4
 *
 * ceil(log2 P) rounds of one byte. flat: everybody tells everybody, one round.
 */
#include "algo.h"

static void dissemination(struct cx_plan *p)
{
	int rank = p->shape.rank, ranks = p->shape.ranks;
	uint32_t round = 0;

	for (int far = 1; far < ranks; far *= 2, round++) {
		cx_plan_send(p, (rank + far) % ranks, cx_tmp(round), 0, 1);
		cx_plan_recv(p, (rank + ranks - far) % ranks, cx_tmp(round + 1), 0, 1, 0);
	}
	p->nblocks = 1;
	p->nslots = round + 1;
}

static void flat(struct cx_plan *p)
{
	int rank = p->shape.rank, ranks = p->shape.ranks;

	p->nblocks = 1;
	p->nslots = (uint32_t)ranks;
	for (int k = 1; k < ranks; k++) {
		cx_plan_send(p, (rank + k) % ranks, cx_tmp(0), 0, 1);
		cx_plan_recv(p, (rank + ranks - k) % ranks, cx_tmp((uint32_t)k), 0, 1, 0);
	}
}

const struct cx_algo cx_barrier_dissemination = {
	CX_BARRIER, "dissemination", dissemination, 0, "log2 P", "log2 P",
};
const struct cx_algo cx_barrier_flat = {
	CX_BARRIER, "flat", flat, 0, "1", "P-1",
};
