/* SPDX-License-Identifier: BSD-3-Clause */
/* The smallest program: collx-run -n 4 ./allreduce adds up one number a rank. */
#include <collx.h>
#include <stdio.h>

int main(void)
{
	collx_comm_t comm;
	float x = 1, sum;

	if (collx_comm_create_from_env(&comm, NULL) ||
	    collx_allreduce(&x, &sum, 1, COLLX_FLOAT32, COLLX_SUM, comm, NULL))
		return fprintf(stderr, "%s\n", collx_last_error(NULL)), 1;
	printf("rank %d of %d: %g\n", collx_comm_rank(comm), collx_comm_size(comm), sum);
	return collx_comm_destroy(comm) != COLLX_OK;
}
