/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What this process may really use of the machine, and what follows from it.
 * Facts are read once (hwloc, cgroup); decisions are pure functions of facts,
 * so that tests can feed machines nobody owns.
 */
#ifndef CX_TOPO_H
#define CX_TOPO_H

#include <stddef.h>
#include <stdio.h>

enum { CX_CPU_BYTES = 128 /* processing units 0..1023 */ };

struct cx_topo {
	unsigned char cpus[CX_CPU_BYTES]; /* those that affinity allows, by OS index */
	int cores;         /* how many, at least 1 */
	int milli_cores;   /* 1000 * cores, less where a cgroup quota says so */
	int packages;      /* sockets among the allowed cores */
	int numa_nodes;    /* NUMA nodes among the allowed cores */
	int numa_node;     /* the one node all allowed cores are on; -1: several, or unknown */
	size_t l2_bytes;   /* of the smallest L2; 0: unknown */
	size_t l3_bytes;   /* 0: unknown */
	int l2_sharers;    /* processing units under one L2, at least 1 */
	int l3_sharers;
};

/* The machine as it is. 0 or a negative collx_result. */
int cx_topo_read(struct cx_topo *topo);

/* The same from a synthetic hwloc description ("package:2 core:4 pu:1"), an
 * allowed set ("0-3"; NULL: all) and a quota in thousandths of a core (0: none). */
int cx_topo_read_synthetic(struct cx_topo *topo, const char *description, const char *allowed,
			   int quota_milli);

/* cgroup v2 "max 100000" / "50000 100000" or v1 quota and period: thousandths of
 * a core, 0 for none. Pure; for the test. */
int cx_topo_parse_quota(const char *text);

/* Adds what another rank of this host may use: bound each to its own core, ranks
 * have many together. Any order of ranks gives the same sum. */
void cx_topo_join(struct cx_topo *topo, const struct cx_topo *other);

/* How a rank waits: spin, then yield, then sleep. */
struct cx_wait_limits {
	unsigned spin_ns;  /* spinning with pause; 0: never spin */
	unsigned yield_ns; /* then sched_yield for that long; then sleep */
};

/* local_ranks: ranks of this communicator on this host. When they fit the
 * cores (as quota leaves them) they may spin; otherwise they yield at once. */
struct cx_wait_limits cx_topo_wait_limits(const struct cx_topo *topo, int local_ranks);

/* Bytes of one in-flight piece in shared memory: so that the pieces under way
 * between two ranks stay in the L2; a power of two from 4 KiB to 64 KiB, smaller
 * when many ranks share memory. */
size_t cx_topo_chunk(const struct cx_topo *topo, int local_ranks, int lanes);

/* The processing unit (OS index) for helper thread number i of local rank r: beyond
 * the first local_ranks ones where there are spare ones, -1 where there are none. */
int cx_topo_helper_cpu(const struct cx_topo *topo, int local_ranks, int local_rank, int i);

void cx_topo_print(const struct cx_topo *topo, FILE *to);

#endif
