/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What collx-perf knows of each collective: one record. Sizes and factors are
 * those of nccl-tests, so that figures can be put side by side.
 */
#include <string.h>

#include "perf.h"

const char *const perf_type_names[COLLX_TYPE_COUNT] = {
	[COLLX_INT8] = "int8",     [COLLX_UINT8] = "uint8",   [COLLX_INT32] = "int32",
	[COLLX_UINT32] = "uint32", [COLLX_INT64] = "int64",   [COLLX_UINT64] = "uint64",
	[COLLX_FLOAT16] = "half",  [COLLX_FLOAT32] = "float", [COLLX_FLOAT64] = "double",
	[COLLX_BFLOAT16] = "bfloat16",
};

const char *const perf_op_names[COLLX_OP_COUNT] = {
	[COLLX_SUM] = "sum", [COLLX_PROD] = "prod", [COLLX_MAX] = "max",
	[COLLX_MIN] = "min", [COLLX_AVG] = "avg",
};

static double factor_one(int ranks)
{
	(void)ranks;
	return 1;
}

static double factor_part(int ranks)
{
	return (double)(ranks - 1) / ranks;
}

static double factor_twice(int ranks)
{
	return 2.0 * (ranks - 1) / ranks;
}

static void layout_same(struct perf_case *c, size_t elements)
{
	c->count = c->nsend = c->nrecv = elements;
}

/* A rank's share, cut to multiples of 16 bytes as nccl-tests does. */
static size_t share(const struct perf_case *c, size_t elements)
{
	size_t unit = 16 / c->elem;

	return elements / (size_t)c->ranks / unit * unit;
}

static void layout_reduce_scatter(struct perf_case *c, size_t elements)
{
	c->count = c->nrecv = share(c, elements);
	c->nsend = c->count * (size_t)c->ranks;
	c->recv_from = c->count * (size_t)c->rank;
}

static void layout_allgather(struct perf_case *c, size_t elements)
{
	c->count = c->nsend = share(c, elements);
	c->nrecv = c->count * (size_t)c->ranks;
	c->send_from = c->count * (size_t)c->rank;
}

static collx_result run_allreduce(const struct perf_case *c, const void *send, void *recv,
				  collx_comm_t comm)
{
	return collx_allreduce(send, recv, c->count, c->type, c->op, comm, NULL);
}

static collx_result run_reduce_scatter(const struct perf_case *c, const void *send, void *recv,
				       collx_comm_t comm)
{
	return collx_reduce_scatter(send, recv, c->count, c->type, c->op, comm, NULL);
}

static collx_result run_allgather(const struct perf_case *c, const void *send, void *recv,
				  collx_comm_t comm)
{
	return collx_allgather(send, recv, c->count, c->type, comm, NULL);
}

static collx_result run_broadcast(const struct perf_case *c, const void *send, void *recv,
				  collx_comm_t comm)
{
	return collx_broadcast(send, recv, c->count, c->type, c->root, comm, NULL);
}

static collx_result run_reduce(const struct perf_case *c, const void *send, void *recv,
			       collx_comm_t comm)
{
	return collx_reduce(send, recv, c->count, c->type, c->op, c->root, comm, NULL);
}

static collx_result run_barrier(const struct perf_case *c, const void *send, void *recv,
				collx_comm_t comm)
{
	(void)c;
	(void)send;
	(void)recv;
	return collx_barrier(comm, NULL);
}

/* ---- messages between pairs of ranks ---- */

bool perf_case_idle(const struct perf_case *c)
{
	return c->coll->flags & PERF_PAIRS && (c->rank ^ 1) >= c->ranks;
}

static collx_result run_ping_pong(const struct perf_case *c, const void *send, void *recv,
				  collx_comm_t comm)
{
	int peer = c->rank ^ 1;
	collx_result rc;

	if (perf_case_idle(c))
		return COLLX_OK;
	if (c->rank % 2) {
		rc = collx_recv(recv, c->count, c->type, peer, comm, NULL);
		return rc ? rc : collx_send(recv, c->count, c->type, peer, comm, NULL);
	}
	rc = collx_send(send, c->count, c->type, peer, comm, NULL);
	return rc ? rc : collx_recv(recv, c->count, c->type, peer, comm, NULL);
}

static collx_result run_stream(const struct perf_case *c, const void *send, void *recv,
			       collx_comm_t comm)
{
	if (perf_case_idle(c))
		return COLLX_OK;
	if (c->rank % 2)
		return collx_recv(recv, c->count, c->type, c->rank ^ 1, comm, NULL);
	return collx_send(send, c->count, c->type, c->rank ^ 1, comm, NULL);
}

/* The receiver's answer: all has come. */
static collx_result end_stream(const struct perf_case *c, collx_comm_t comm)
{
	unsigned char answer = 0;

	if (perf_case_idle(c))
		return COLLX_OK;
	if (c->rank % 2)
		return collx_send(&answer, 1, COLLX_UINT8, c->rank ^ 1, comm, NULL);
	return collx_recv(&answer, 1, COLLX_UINT8, c->rank ^ 1, comm, NULL);
}

static const struct perf_coll stream = {
	"p2p", NULL, PERF_PAIRS | PERF_TO_ODD, layout_same, factor_one, run_stream, 1, end_stream,
	NULL
};

/* ---- all of them ---- */

const struct perf_coll perf_colls[] = {
	{ "allreduce", "all_reduce_perf", PERF_REDUCES, layout_same, factor_twice, run_allreduce,
	  1, NULL, NULL },
	{ "reduce_scatter", "reduce_scatter_perf", PERF_REDUCES, layout_reduce_scatter, factor_part,
	  run_reduce_scatter, 1, NULL, NULL },
	{ "allgather", "all_gather_perf", 0, layout_allgather, factor_part, run_allgather, 1,
	  NULL, NULL },
	{ "broadcast", "broadcast_perf", PERF_ROOTED, layout_same, factor_one, run_broadcast,
	  1, NULL, NULL },
	{ "reduce", "reduce_perf", PERF_REDUCES | PERF_ROOTED, layout_same, factor_one,
	  run_reduce, 1, NULL, NULL },
	{ "barrier", "barrier_perf", PERF_NO_DATA, layout_same, factor_one, run_barrier, 1, NULL,
	  NULL },
	{ "p2p", "sendrecv_perf", PERF_PAIRS, layout_same, factor_one, run_ping_pong, 2, NULL,
	  &stream },
	{ NULL, NULL, 0, NULL, NULL, NULL, 0, NULL, NULL },
};

const struct perf_coll *perf_coll_find(const char *name)
{
	const struct perf_coll *c;

	for (c = perf_colls; c->name; c++)
		if (!strcmp(name, c->name) || !strcmp(name, c->program))
			return c;
	return NULL;
}

size_t perf_case_bytes(const struct perf_case *c)
{
	return (c->nsend > c->nrecv ? c->nsend : c->nrecv) * c->elem;
}

bool perf_case_writes(const struct perf_case *c)
{
	const unsigned reduce = PERF_REDUCES | PERF_ROOTED;

	if (perf_case_idle(c) || (c->coll->flags & PERF_TO_ODD && c->rank % 2 == 0))
		return false;
	return (c->coll->flags & reduce) != reduce || c->rank == c->root;
}
