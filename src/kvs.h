/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The launcher's key-value exchange: how a text of rank 0, a fresh unique id, comes to
 * ranks of other hosts. The launcher sees it, as it sees all of the job. Ranks of one
 * host need none: there the kernel vouches for a unix socket's user, and an exchange
 * would only cost time and tie the library to the launcher.
 */
#ifndef CX_KVS_H
#define CX_KVS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CX_KVS_TEXT_MAX = 512 /* with the final 0; of hexadecimal digits */ };

struct cx_kvs {
	const char *name;
	bool (*is_offered)(void); /* as the environment says */
	/* Rank 0's text comes to all. Every rank calls it as often, in the same order; the
	 * number counts the calls. text is a vault's and has room for CX_KVS_TEXT_MAX. */
	int (*share)(int rank, int ranks, unsigned number, char *text, uint64_t deadline_ns);
};
extern const struct cx_kvs cx_kvs_pmix, cx_kvs_pmi2;

/* The first that is offered, or NULL. */
const struct cx_kvs *cx_kvs_find(void);

int cx_kvs_share(const struct cx_kvs *kvs, int rank, int ranks, char *text, uint64_t deadline_ns);

/* How many ranks the job has, and how many of them are of this host, as PMIx knows. */
int cx_kvs_sizes(int *ranks, int *local, uint64_t deadline_ns);
/* The same for kvs.c, which sees to it that one exchange runs at a time. */
int cx_kvs_pmix_sizes(int *ranks, int *local, uint64_t deadline_ns);

#endif
