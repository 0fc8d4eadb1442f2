/* SPDX-License-Identifier: BSD-3-Clause */
/* An MPI in the comparison. */
#include <mpi.h>

#include "compare.h"

void peer_init(struct peer *p, int *argc, char ***argv)
{
	MPI_Init(argc, argv);
	p->name = "mpi";
	MPI_Comm_rank(MPI_COMM_WORLD, &p->rank);
	MPI_Comm_size(MPI_COMM_WORLD, &p->size);
}

void peer_fini(void)
{
	MPI_Finalize();
}

void peer_barrier(void)
{
	MPI_Barrier(MPI_COMM_WORLD);
}

void peer_allreduce(const float *in, float *out, size_t count)
{
	MPI_Allreduce(in, out, (int)count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

double peer_max(double v)
{
	MPI_Allreduce(MPI_IN_PLACE, &v, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
	return v;
}
