/* SPDX-License-Identifier: BSD-3-Clause */
/* libcollx in the comparison. */
#include <stdio.h>
#include <stdlib.h>

#include "collx.h"
#include "compare.h"

static collx_comm_t comm;

static void need(collx_result rc)
{
	if (rc == COLLX_OK)
		return;
	fprintf(stderr, "compare-collx: %s\n", collx_last_error(comm));
	exit(1);
}

void peer_init(struct peer *p, int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	need(collx_comm_create_from_env(&comm, NULL));
	*p = (struct peer){ "collx", collx_comm_rank(comm), collx_comm_size(comm) };
}

void peer_fini(void)
{
	need(collx_comm_destroy(comm));
}

void peer_barrier(void)
{
	need(collx_barrier(comm, NULL));
}

void peer_allreduce(const float *in, float *out, size_t count)
{
	need(collx_allreduce(in, out, count, COLLX_FLOAT32, COLLX_SUM, comm, NULL));
}

double peer_max(double v)
{
	need(collx_allreduce(&v, &v, 1, COLLX_FLOAT64, COLLX_MAX, comm, NULL));
	return v;
}
