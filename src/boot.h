/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How the ranks of a communicator meet and agree: in a tree of authenticated
 * connections (tree.h), over which the exchanges of creation go, and the first
 * error, which every rank passes on once. Afterwards the tree is the guard's.
 */
#ifndef CX_BOOT_H
#define CX_BOOT_H

#include <stddef.h>
#include <stdint.h>

#include "auth.h"
#include "place.h"
#include "tree.h"

enum {
	CX_RECORD_MAX = 512,  /* bytes that a rank gives to one exchange */
	CX_RANKS_MAX = 65536  /* beyond that rank 0 alone would not be ready in time */
};

enum cx_conn_kind { CX_CONN_CONTROL = 1, CX_CONN_LANE = 2, CX_CONN_COUNCIL = 3 };

/* What it takes to meet. */
struct cx_meeting {
	struct cx_secret secret;
	struct cx_place place; /* rank 0's: tcp:..., or unix:... where all are of one host */
	struct cx_place local; /* unix:..., where ranks of this host meet; no name: nowhere */
	int rank, ranks;
	char several[96]; /* which variables say that there are other hosts; "": none does */
	uint64_t deadline_ns;
	int (*stop)(void *ctx); /* a code and its line once creation is to end; NULL: never */
	void *stop_ctx;
	int *unreached;        /* set to 1 + a lower rank that did not answer this one, which
				* wanted a connection of its own with it; NULL: nobody asks */
	unsigned wrong_proofs; /* set: connections that came with one while the ranks met */
};

/* Asked now and then by all that waits in creation. */
static inline int cx_meeting_stops(const struct cx_meeting *m)
{
	return m->stop ? m->stop(m->stop_ctx) : 0;
}

struct cx_boot;

/* Returns when all ranks have come, see meet.h. Of m's places rank 0 fills in what was
 * left open. */
int cx_boot_open(struct cx_boot **out, struct cx_meeting *m);
void cx_boot_close(struct cx_boot *b);

const struct cx_tree *cx_boot_tree(const struct cx_boot *b);

/* Hands the tree over, its wires open, and frees the rest. */
void cx_boot_finish(struct cx_boot *b, struct cx_tree *out);

/*
 * Every rank gives len bytes (the same len everywhere, <= CX_RECORD_MAX) and a
 * descriptor or -1; every rank gets all of them in rank order. fds may be NULL
 * when no rank gives one; else the caller owns fds[0..ranks-1] afterwards (its
 * own comes back as a duplicate, those of ranks with another leader are -1).
 * Until deadline_ns, and a second more where rank 0 must say who is missing.
 */
int cx_boot_exchange(struct cx_boot *b, const void *mine, size_t len, int fd, void *all, int *fds,
		     uint64_t deadline_ns);

/*
 * Returns when all have called it. The word that they have is one short frame, for which
 * there is room wherever the ranks have exchanged something before: a rank that stopped
 * reading holds nobody else up, who would be missed by those that are through.
 */
int cx_boot_barrier(struct cx_boot *b, uint64_t deadline_ns);

/* Between exchanges: the first error that any rank told or that the tree itself shows,
 * always the same from then on. Records wait for the exchange that takes them. */
int cx_boot_heard(struct cx_boot *b);

/* Tells all ranks of this error; the first one told counts everywhere. */
void cx_boot_tell(struct cx_boot *b, int code, const char *text);

#endif
