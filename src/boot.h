/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How the ranks of a communicator meet, and the channel between them that stays
 * open afterwards: every rank holds one authenticated connection to rank 0.
 * Over it go the exchanges of creation, and later a leave, or the first error,
 * which rank 0 passes on to all.
 */
#ifndef CX_BOOT_H
#define CX_BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth.h"
#include "place.h"
#include "tree.h"

enum { CX_RECORD_MAX = 512 /* bytes that a rank gives to one exchange */ };

enum cx_conn_kind { CX_CONN_CONTROL = 1, CX_CONN_LANE = 2 };

/* What it takes to meet. */
struct cx_meeting {
	struct cx_secret secret;
	struct cx_place place; /* rank 0's: tcp:..., or unix:... where all are of one host */
	struct cx_place local; /* unix:..., where ranks of this host meet; no name: nowhere */
	int rank, ranks;
	uint64_t deadline_ns;
};

struct cx_boot;

/* Where that job meets: COLLX_ADDR when it is a tcp place, else "unix:PATH" in this
 * user's runtime folder. */
int cx_boot_place(char where[CX_MEET_MAX], const unsigned char job[CX_JOB_BYTES]);

/* Connects all ranks with rank 0; returns when all have come. */
int cx_boot_open(struct cx_boot **out, struct cx_meeting *m);
void cx_boot_close(struct cx_boot *b);

/*
 * Every rank gives len bytes (the same len everywhere, <= CX_RECORD_MAX) and a
 * descriptor or -1; every rank gets all of them in rank order. fds may be NULL
 * when no rank gives one; else the caller owns fds[0..ranks-1] afterwards (its
 * own comes back as a duplicate). Until deadline_ns.
 */
int cx_boot_exchange(struct cx_boot *b, const void *mine, size_t len, int fd, void *all, int *fds,
		     uint64_t deadline_ns);

/* Where this rank can listen so that the others reach it, port 0: rank 0 at the
 * meeting's address, another rank at the one it reached rank 0 from; all on the
 * loopback when they met at a unix socket. */
int cx_boot_own_place(const struct cx_boot *b, const struct cx_meeting *m, struct cx_place *own);

/* The first error that the channel tells; records wait for the exchange that takes
 * them, and what guards say to each other for cx_boot_finish. */
int cx_boot_heard(struct cx_boot *b);

/* Tells all ranks of this error; the first one told counts everywhere. */
void cx_boot_tell(struct cx_boot *b, int code, const char *text);

/* The connections as a tree, for the guard; frees the rest. */
void cx_boot_finish(struct cx_boot *b, struct cx_tree *out);

#endif
