/* SPDX-License-Identifier: BSD-3-Clause */
/* The one table of environment variables. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base.h"

static const struct cx_env_entry entries[CX_ENV_COUNT] = {
	[CX_ENV_RANK] = { "COLLX_RANK", "integer", "",
			  "This process's rank, 0 to COLLX_SIZE - 1; set by collx-run." },
	[CX_ENV_SIZE] = { "COLLX_SIZE", "integer", "", "Number of ranks; set by collx-run." },
	[CX_ENV_LOCAL_RANK] = { "COLLX_LOCAL_RANK", "integer", "",
				"Rank among the ranks of this host; set by collx-run." },
	[CX_ENV_ADDR] = { "COLLX_ADDR", "text", "",
			  "Where the ranks meet: unix:PATH, or tcp:HOST:PORT at rank 0's host; "
			  "set by collx-run. Counts for unique ids, too." },
	[CX_ENV_SECRET_FILE] = { "COLLX_SECRET_FILE", "path", "",
				 "File (mode 0600, own user) with the job's secret, 32 bytes as 64 "
				 "hexadecimal digits; set by collx-run." },
	[CX_ENV_SECRET] = { "COLLX_SECRET", "text", "",
			    "The secret itself, instead of a file: 64 hexadecimal digits." },
	[CX_ENV_INSECURE] = { "COLLX_INSECURE", "integer", "0",
			      "1: ranks of several hosts may meet without a secret, and anybody "
			      "who reaches rank 0 may join." },
	[CX_ENV_INTERFACE] = { "COLLX_INTERFACE", "text", "by the route to rank 0",
			       "Where ranks listen for other hosts: the name of an interface or "
			       "its beginning, an address, or ADDRESS/BITS." },
	[CX_ENV_PORT] = { "COLLX_PORT", "integer", "of the launcher, else a free one",
			  "The TCP port at which rank 0 waits for other hosts, 1 to 65535." },
	[CX_ENV_PORT_RANGE] = { "COLLX_PORT_RANGE", "text", "any free one",
				"LO-HI: ranks listen at TCP ports of this range alone." },
	[CX_ENV_TIMEOUT_MS] = { "COLLX_TIMEOUT_MS", "integer", "60000",
				"Deadline of one operation in milliseconds, or never." },
	[CX_ENV_CREATE_TIMEOUT_MS] = { "COLLX_CREATE_TIMEOUT_MS", "integer", "60000",
				       "Deadline of communicator creation in milliseconds." },
	[CX_ENV_HEARTBEAT_MS] = { "COLLX_HEARTBEAT_MS", "integer", "500",
				  "Milliseconds between two signs of life of a rank. Rank 0's "
				  "value counts; more ranks than cores make it longer." },
	[CX_ENV_SILENCE_MS] = { "COLLX_SILENCE_MS", "integer", "3000",
				"Milliseconds without a sign of life after which a rank is given "
				"up, or never. Rank 0's value counts." },
	[CX_ENV_STRAGGLER_MS] = { "COLLX_STRAGGLER_MS", "integer", "1000",
				  "Milliseconds of waiting for a rank to come to a collective, "
				  "after which all are told, or never. Rank 0's value counts." },
	[CX_ENV_RING_HOSTS] = { "COLLX_RING_HOSTS", "integer", "64",
				"Beyond so many hosts rank 0 does not hear a heartbeat of each: "
				"each is watched by two others. Rank 0's value counts." },
	[CX_ENV_ALGO] = { "COLLX_ALGO", "text", "chosen by size",
			  "Forces algorithms: COLL:NAME[,COLL:NAME...]. Rank 0's value counts." },
	[CX_ENV_TRANSPORT] = { "COLLX_TRANSPORT", "text",
			       "shm between ranks of a host, else tcp",
			       "Forces one transport for all: shm or tcp. Rank 0's value counts." },
	[CX_ENV_KERNEL] = { "COLLX_KERNEL", "text", "best of this processor",
			    "Forces the arithmetic: portable, vector, avx2, avx512 or "
			    "avx512bf16." },
	[CX_ENV_SPIN_US] = { "COLLX_SPIN_US", "integer", "by cores and local ranks",
			     "Microseconds that a waiting rank spins before it yields." },
	[CX_ENV_RUNTIME_DIR] = { "COLLX_RUNTIME_DIR", "path", "/tmp/collx-UID",
				 "Folder (mode 0700, own user) of the unix sockets at which ranks "
				 "of one host meet." },
	[CX_ENV_TORCH_RANK] = { "RANK", "integer", "", "torchrun: the rank." },
	[CX_ENV_TORCH_SIZE] = { "WORLD_SIZE", "integer", "", "torchrun: number of ranks." },
	[CX_ENV_TORCH_LOCAL_RANK] = { "LOCAL_RANK", "integer", "",
				      "torchrun: rank among those of this host." },
	[CX_ENV_TORCH_LOCAL_SIZE] = { "LOCAL_WORLD_SIZE", "integer", "",
				      "torchrun: number of ranks of this host." },
	[CX_ENV_MASTER_ADDR] = { "MASTER_ADDR", "text", "",
				 "torchrun: host of rank 0; ranks of several hosts meet there." },
	[CX_ENV_MASTER_PORT] = { "MASTER_PORT", "integer", "",
				 "torchrun: its own port; rank 0 takes one of the next 16." },
	[CX_ENV_OMPI_RANK] = { "OMPI_COMM_WORLD_RANK", "integer", "", "Open MPI: the rank." },
	[CX_ENV_OMPI_SIZE] = { "OMPI_COMM_WORLD_SIZE", "integer", "",
			       "Open MPI: number of ranks." },
	[CX_ENV_OMPI_LOCAL_RANK] = { "OMPI_COMM_WORLD_LOCAL_RANK", "integer", "",
				     "Open MPI: rank among those of this host." },
	[CX_ENV_OMPI_LOCAL_SIZE] = { "OMPI_COMM_WORLD_LOCAL_SIZE", "integer", "",
				     "Open MPI: number of ranks of this host." },
	[CX_ENV_PMIX_NAMESPACE] = { "PMIX_NAMESPACE", "text", "",
				    "Open MPI, PMIx: names the job." },
	[CX_ENV_PMIX_RANK] = { "PMIX_RANK", "integer", "", "PMIx: the rank." },
	[CX_ENV_SLURM_RANK] = { "SLURM_PROCID", "integer", "", "Slurm: the rank." },
	[CX_ENV_SLURM_SIZE] = { "SLURM_NTASKS", "integer", "", "Slurm: number of ranks." },
	[CX_ENV_SLURM_LOCAL_RANK] = { "SLURM_LOCALID", "integer", "",
				      "Slurm: rank among those of this host." },
	[CX_ENV_SLURM_HOSTS] = { "SLURM_STEP_NUM_NODES", "integer", "",
				 "Slurm: number of hosts of the job step." },
	[CX_ENV_SLURM_JOB] = { "SLURM_JOB_ID", "text", "", "Slurm: names the job." },
	[CX_ENV_SLURM_STEP] = { "SLURM_STEP_ID", "text", "", "Slurm: names the job step." },
	[CX_ENV_PMI_RANK] = { "PMI_RANK", "integer", "", "MPICH: the rank." },
	[CX_ENV_PMI_SIZE] = { "PMI_SIZE", "integer", "", "MPICH: number of ranks." },
	[CX_ENV_PMI_FD] = { "PMI_FD", "integer", "",
			    "MPICH, Slurm (--mpi=pmi2): the connection to the launcher." },
	[CX_ENV_PMI_JOB] = { "PMI_JOBID", "text", "",
			     "MPICH, Slurm: names the job towards the launcher." },
	[CX_ENV_MPI_LOCAL_RANK] = { "MPI_LOCALRANKID", "integer", "",
				    "MPICH: rank among those of this host." },
	[CX_ENV_MPI_LOCAL_SIZE] = { "MPI_LOCALNRANKS", "integer", "",
				    "MPICH: number of ranks of this host." },
};

const struct cx_env_entry *cx_env_entry(enum cx_env v)
{
	return &entries[v];
}

const char *cx_env_text(enum cx_env v)
{
	const char *s = getenv(entries[v].name);

	return s && *s ? s : NULL;
}

int cx_env_int(enum cx_env v, long lo, long hi, long *out)
{
	const char *s = cx_env_text(v);
	char *end;
	long n;

	if (!s)
		return 0;
	errno = 0;
	n = strtol(s, &end, 10);
	if (errno || *end || n < lo || n > hi)
		return cx_fail(COLLX_ERR_INVALID, "%s=%.100s is not an integer from %ld to %ld",
			       entries[v].name, s, lo, hi);
	*out = n;
	return 1;
}

int cx_env_range(enum cx_env v, long lo, long hi, long *first, long *last)
{
	const char *s = cx_env_text(v);
	long a, b;
	int end = 0;

	if (!s)
		return 0;
	if (sscanf(s, "%ld-%ld%n", &a, &b, &end) != 2 || s[end] || a < lo || b > hi || a > b)
		return cx_fail(COLLX_ERR_INVALID, "%s=%.100s is not FIRST-LAST within %ld-%ld",
			       entries[v].name, s, lo, hi);
	*first = a;
	*last = b;
	return 1;
}
