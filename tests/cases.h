/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One case of the matrix: a collective by one algorithm, with everything about
 * the call that can vary; its inputs, and what every byte must be afterwards.
 *
 * Inputs follow from (case, rank, index) alone. Integers, and whatever is only
 * moved or compared, are random bits. Floats to be added or multiplied are such
 * that every order is exact, so the result is one pattern of bits: that of the
 * portable kernels in rank order.
 */
#ifndef CASES_H
#define CASES_H

#include <stddef.h>
#include <stdint.h>

#include "src/comm.h"

enum factor {
	F_WHAT,  /* collective and algorithm */
	F_RANKS, /* 1 + value */
	F_COUNT,
	F_TYPE,
	F_OP,
	F_PLACE, /* 1: in place */
	F_ROOT,  /* first, last, middle rank */
	F_MODE,
	FACTORS
};
enum mode {
	MODE_SIM,
	MODE_PROCESSES,
	MODE_THREADS,
	MODE_TCP,   /* processes; every lane a TCP connection */
	MODE_HOSTS, /* processes of two or three hosts: shared memory and TCP */
	MODE_MIXED, /* processes; every other rank computes with the portable kernels */
	MODES
};
enum { WHATS_MAX = 64, RANKS_MAX = 9 };

struct test_case {
	unsigned char v[FACTORS];
	uint32_t seed;
};

/* How many values a factor has. */
int factor_values(enum factor f);
/* Does value v of f make sense with value `what` of F_WHAT? */
int factor_allowed(enum factor f, int v, int what);

enum cx_coll case_coll(const struct test_case *k);
int case_algo(const struct test_case *k); /* index in cx_algos; -1: the table chooses */
int case_ranks(const struct test_case *k);
size_t case_count(const struct test_case *k);
int case_root(const struct test_case *k);
void case_text(const struct test_case *k, char *text, size_t len);

/* The memory of one rank for its cases. */
struct case_memory {
	size_t room;
	unsigned char *a, *b, *want;
};
int case_memory_make(struct case_memory *m, size_t max_count, int ranks);
void case_memory_free(struct case_memory *m);

/* Lays a case out in the memory and says what to call. */
struct cx_request case_begin(const struct case_memory *m, const struct test_case *k, int rank);
/* Compares every byte; EXPECT fails where one is wrong. 1: all is well. */
int case_check(const struct case_memory *m, const struct test_case *k, int rank,
	       const struct cx_request *r);

/* The same through the public function of that collective. */
int case_call(collx_comm_t comm, const struct cx_request *r, const collx_opts *opts);

/* Folds the ranks' n elements, inputs[rank], by the portable kernels in rank order. */
void fold_in_rank_order(void *out, const void *const *inputs, int ranks, size_t n, collx_type type,
			collx_op op);

#endif
