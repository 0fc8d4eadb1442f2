/* SPDX-License-Identifier: BSD-3-Clause */
/* What ranks called, for tests of the guard. */
#ifndef CALLS_H
#define CALLS_H

#include "src/plan.h"
#include "src/verdict.h"

#define MS (uint64_t)1000000

static inline uint64_t allreduce_f32(void)
{
	return cx_sign_what(CX_ALLREDUCE, COLLX_FLOAT32, COLLX_SUM, 0);
}

static inline uint64_t broadcast_f32(int root)
{
	return cx_sign_what(CX_BROADCAST, COLLX_FLOAT32, COLLX_SUM, root);
}

/* A rank that made `n` calls of allreduce, and is in the last one or behind it. */
static inline struct cx_account account_of(uint64_t n, bool in_call, uint64_t still_ms)
{
	struct cx_account a = { .state = 2 * n - (n && in_call), .still_ms = still_ms };

	a.signs = (uint32_t)cx_min(n, CX_SIGNS);
	for (uint32_t i = 0; i < a.signs; i++)
		a.sign[i] = (struct cx_sign){ n - a.signs + 1 + i, 8, allreduce_f32() };
	return a;
}

#endif
