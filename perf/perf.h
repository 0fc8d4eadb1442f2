/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collx-perf: times and checks the collectives, in the words of nccl-tests. It
 * sees the library through collx.h alone, as any program would.
 *
 * Every buffer is thought of as a part of one "whole" vector that all ranks
 * share: rank r's input of an allgather is elements r * count .. of it, and so
 * is its output of a reduce_scatter. The same positions are the offsets of the
 * in-place form.
 */
#ifndef PERF_H
#define PERF_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "collx.h"

enum {
	PERF_REDUCES = 1, /* combines: has an operation */
	PERF_ROOTED = 2,
	PERF_NO_DATA = 4,
	PERF_PAIRS = 8, /* ranks (0, 1), (2, 3), ...; an odd last one looks on */
	PERF_TO_ODD = 16 /* of each pair, only the odd rank's output is written */
};

enum { PERF_ALL = -1 }; /* every type, operation or root in turn */

/* One collective. */
struct perf_case;
struct perf_coll {
	const char *name;
	const char *program; /* called by this name, the tool measures it */
	unsigned flags;
	/* From about `elements` in the larger buffer: count, nsend, nrecv and where they begin. */
	void (*layout)(struct perf_case *c, size_t elements);
	double (*bus_factor)(int ranks);
	collx_result (*run)(const struct perf_case *c, const void *send, void *recv,
			    collx_comm_t comm);
	/* The rest is for messages. A run has that many in a row; the time is of one. */
	int messages;
	/* Within the time, after all runs; NULL: nothing. */
	collx_result (*end)(const struct perf_case *c, collx_comm_t comm);
	const struct perf_coll *second; /* measured in the place of the in-place form */
};

/* One line of the table. */
struct perf_case {
	const struct perf_coll *coll;
	collx_type type;
	collx_op op;
	int root;
	int rank, ranks;
	size_t elem;                /* bytes of an element */
	size_t count;               /* as the library's call takes it */
	size_t nsend, nrecv;        /* elements of the two buffers */
	size_t send_from, recv_from; /* where in the whole vector they begin */
	uint64_t seed;              /* of the data; same on all ranks */
};

struct perf_opts {
	const struct perf_coll *coll;
	uint64_t min_bytes, max_bytes;
	uint64_t step_bytes, factor; /* factor 0 or 1: step_bytes is added */
	uint64_t iters, warmup, check;
	uint64_t average; /* time over ranks: 0 rank 0's, 1 mean, 2 least, 3 most */
	uint64_t per_iter;
	int type, op, root; /* or PERF_ALL */
	const char *json;
	bool kernels; /* instead of a collective */
	bool cuda;    /* the GPU's */
};

/* What was measured of one form (out of place or in place; for messages there and
 * back or one way) of a case. */
struct perf_time {
	double us, alg_bw, bus_bw; /* GB/s */
	double min_us, p50_us, p99_us; /* with -I 1 */
	uint64_t wrong;
	bool checked;
};

/* Memory of both buffers, each with PERF_GUARD bytes before and after it. */
enum { PERF_GUARD = 64 };
struct perf_memory {
	unsigned char *send, *recv;
};

struct perf {
	struct perf_opts opts;
	struct perf_memory mem;
	collx_comm_t comm;
	int rank, ranks;
	uint64_t seed;
	double *each_us;   /* opts.iters times; with -I 1 */
	FILE *json;        /* rank 0's, or NULL */
	bool tty;          /* show on stderr what is under way */
	uint64_t rows;     /* measured so far: lines of the table times two forms */
	uint64_t wrong;    /* over all rows; what this rank saw counts in any case */
	double bus_bw_sum;
};

/* ---- perf_opts.c ---- */

/* Fills opts from the command line; exits on wrong ones and after --help. */
void perf_opts_parse(struct perf_opts *opts, int argc, char **argv);

/* ---- perf_coll.c ---- */

extern const struct perf_coll perf_colls[]; /* ends with a NULL name */
extern const char *const perf_type_names[COLLX_TYPE_COUNT];
extern const char *const perf_op_names[COLLX_OP_COUNT];
/* By name of the collective or of the program; NULL when there is none. */
const struct perf_coll *perf_coll_find(const char *name);
/* Bytes of the larger buffer. */
size_t perf_case_bytes(const struct perf_case *c);
/* Does this rank's output get written? */
bool perf_case_writes(const struct perf_case *c);
/* Does this rank have no part in it? */
bool perf_case_idle(const struct perf_case *c);

/* ---- perf_verify.c ---- */

/* The buffers of the next run: input of this case, the rest a fixed pattern. */
void perf_fill(const struct perf_case *c, const struct perf_memory *mem, bool in_place);
/* Elements that differ from what they have to be after the run, in the output, in
 * an input that had to stay, and in the guards around both. */
uint64_t perf_count_wrong(const struct perf_case *c, const struct perf_memory *mem, bool in_place);
/* Where the call's arguments point. */
unsigned char *perf_send_at(const struct perf_case *c, const struct perf_memory *mem,
			    bool in_place);
unsigned char *perf_recv_at(const struct perf_case *c, const struct perf_memory *mem,
			    bool in_place);

/* ---- perf_report.c; all of it prints on rank 0 only ---- */

void perf_report_open(struct perf *p, int argc, char **argv);
void perf_report_row(struct perf *p, const struct perf_case *c, const struct perf_time *out,
		     const struct perf_time *in);
/* error: NULL, or why the run ends early. */
void perf_report_close(struct perf *p, const char *error);
/* The one line on a terminal; done 0: no count is shown; what NULL: erases it. */
void perf_report_progress(const struct perf *p, const struct perf_case *c, const char *what,
			  uint64_t done);

/* ---- perf_kernels.c ---- */

/* Measures the kernels and prints; opts: bytes of an array of floats, and rounds. */
void perf_kernels(const struct perf_opts *opts);

/* ---- perf.c ---- */

double perf_now_us(void);

/* Ends the program with status 2 when rc is an error. */
void perf_must(struct perf *p, const char *what, collx_result rc);

#endif
