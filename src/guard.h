/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guard: one thread of this process that serves the control trees of all its
 * communicators, whatever the caller's threads do meanwhile. Up the tree go reports
 * of what a rank saw; rank 0 decides, and the first cause becomes the verdict that
 * goes down to all ranks: every rank fails with the same code and the same line.
 *
 *   report   a rank saw an error. A cause of its own (a timeout, a mismatch, a death
 *            seen on a control connection) counts at once; hearsay (a lane that its
 *            other end closed, which mostly had heard of an error first) waits 500 ms
 *            for a better word.
 *   signs    what a rank called lately, in words. Sent up when a call waits long, and
 *            when rank 0 asks for them to explain a mismatch or a timeout: ranks whose
 *            calls of equal number differ are a mismatch, though they never meet.
 *   leave    a rank goes, having finished operation n: an error only for those who
 *            need it later.
 *
 * The decision is a pure function of what has come (verdict.h), and all of it runs
 * under cx_sys, so that a test can drive it without the thread.
 */
#ifndef CX_GUARD_H
#define CX_GUARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tree.h"

enum { CX_SIGNS = 8 /* calls that a rank remembers */ };

/* A collective call, as all ranks must have made it. */
struct cx_sign {
	uint64_t seq; /* 1, 2, ... of the communicator's collectives */
	uint64_t count;
	int32_t root;
	uint8_t coll, type, op, unused;
};

struct cx_ward; /* a communicator, as the guard sees it */

/* Takes the tree's wires over, and starts the thread for a process's first one. */
int cx_guard_open(struct cx_ward **out, struct cx_tree *tree);

/* Leaves, when `leave` (waiting at most 2 s for those whose connection is full), and
 * forgets it; ends the thread with the last one. */
void cx_guard_close(struct cx_ward *w, bool leave);

/* ---- for the thread that calls collectives; the first four cost a few instructions ---- */

/* A call begins. 0, or the error that makes it pointless: the verdict, or a rank left. */
int cx_guard_begin(struct cx_ward *w, const struct cx_sign *s);
void cx_guard_end(struct cx_ward *w);

/* 0, or the code of the verdict; one load. */
int cx_guard_verdict(const struct cx_ward *w);
/* Has that rank left? */
bool cx_guard_has_left(const struct cx_ward *w, int rank);

/* This rank's call has waited long: the others' may differ. Once a call. */
void cx_guard_nudge(struct cx_ward *w);

/* Reports an error about rank `about` (-1: none) and waits for the verdict, 2 s at
 * most; without one the report itself becomes this rank's. Returns its code, with
 * its line as the thread's error line. */
int cx_guard_report(struct cx_ward *w, int code, int about, bool hearsay, const char *text);

/* Records the verdict's line as the calling thread's, and returns its code. */
int cx_guard_fail(const struct cx_ward *w);

#endif
