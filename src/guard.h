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
 *   signs    what a rank called lately. Sent up when a call waits long, and when
 *            rank 0 asks for them to explain a mismatch or a timeout: ranks whose
 *            calls of equal number differ are a mismatch, though they never meet.
 *   leave    a rank goes, having finished operation n: an error only for those who
 *            need it later.
 *
 * When the connection to the rank above ends without a leave, that rank is dead, and
 * everybody below knows by that alone. Who has left goes on to pass on what those below
 * say, rank 0 to decide, for as long as its process lives and somebody is there. When
 * that process ends, those below decide for themselves: no new collective can begin
 * then, and whoever dies is known only to who has a connection to it; so that nobody
 * waits for ever, cx_guard_is_blind puts a limit to their waiting.
 *
 * The thread blocks all signals, writes no log and calls nobody back. It allocates
 * nothing until a council begins, whose door and proofs take memory. It begins with a
 * process's first communicator and ends when the last one was left and nobody is below
 * it; at the latest when the process does. In a forked child there is none; its first
 * communicator makes one.
 *
 * sign.h has what a call costs; the decision is verdict.h, the frames are ward.h.
 */
#ifndef CX_GUARD_H
#define CX_GUARD_H

#include <stdbool.h>

#include "rally.h"
#include "sign.h"
#include "tree.h"
#include "verdict.h"

struct cx_ward; /* a communicator, as the guard sees it */

/* Takes the tree's wires and the rally (NULL: there is none, nor heartbeats) over,
 * whatever comes of it; where it fails, the others are told. `calls` is what the guard
 * reads; it stays where it is until the ward is closed. */
int cx_guard_open(struct cx_ward **out, struct cx_tree *tree, struct cx_calls *calls,
		  struct cx_rally *rally);

/* Leaves, when `leave` (waiting at most 2 s for those whose connection is full); `calls`
 * is the caller's again. The ward itself may go on for those below. */
void cx_guard_close(struct cx_ward *w, bool leave);

/* As the process ends, or the library is unloaded: ends what goes on for those below,
 * where no communicator is open. */
void cx_guard_exit(void);

/* ---- for the thread that calls collectives ---- */

/* 0, or the code of the verdict. A call that waits asks cx_calls_may instead, which
 * also says when somebody left who would be needed. */
int cx_guard_verdict(const struct cx_ward *w);
/* Has that rank left? */
bool cx_guard_has_left(const struct cx_ward *w, int rank);
/* Is there nobody above any more who would tell of deaths and leaves? */
bool cx_guard_is_blind(const struct cx_ward *w);

/* This rank's call has waited long: the others' may differ. Now and then. */
void cx_guard_nudge(struct cx_ward *w);

/* Reports an error and waits for the verdict, some 2 s at most; without one the report
 * itself becomes this rank's. Where a rank has left that this call needs, that is reported
 * instead of a hearsay or a timeout. Returns the verdict's code, with its line as the
 * thread's error line. The report's origin and errno are the guard's to fill in. */
int cx_guard_report(struct cx_ward *w, const struct cx_report *r);

/* ---- for any thread ---- */

/* Ends the communicator on all ranks with that code; safe in a signal handler. */
void cx_guard_end(struct cx_ward *w, int code);

/* The same, and it holds here when this returns. */
void cx_guard_end_now(struct cx_ward *w, int code);

/* What it was to be ended with; 0. */
int cx_guard_wish(const struct cx_ward *w);

/* Its calls, of another thread, end with COLLX_ERR_ABORTED, here alone: for who is about to
 * close it. */
void cx_guard_drop(struct cx_ward *w);
/* Was that said? The calls that wait look. */
bool cx_guard_is_dropped(const struct cx_ward *w);

/* Is there a verdict? What it is about. */
bool cx_guard_cause(const struct cx_ward *w, struct cx_cause *out);

/* A descriptor that is readable from the verdict on, and from a straggler until it is
 * looked at. One for the program, one for the thread that calls back. The ward has a copy of
 * it, as the guard may ring for longer than the caller has its own. 0, or an error. */
enum cx_bell { CX_BELL_PROGRAM, CX_BELL_HERALD, CX_BELLS };
int cx_guard_attach(struct cx_ward *w, enum cx_bell which, int bell);
/* The next one rings them from now on, and does where it has something to tell already. */
void cx_guard_pass_bells(struct cx_ward *w, struct cx_ward *next);

/* Who was too late last. */
struct cx_straggler {
	uint64_t number;   /* how many there were; 0: nobody, and the rest is 0 */
	int rank;
	struct cx_sign sign;
	uint64_t since_ns; /* somebody waits, or waited */
};
/* Looks, and lets that bell (CX_BELLS: none) be quiet until there is something new. */
void cx_guard_straggler(struct cx_ward *w, enum cx_bell which, struct cx_straggler *out);

void cx_guard_health(const struct cx_ward *w, int rank, collx_rank_health *out);

/* ---- decisions ---- */

/* Votes, and waits for the decision: 0, or TIMEOUT, NO_QUORUM, EXCLUDED. After a TIMEOUT
 * the vote stands, as the others may count on it: the next call waits for that decision
 * before it votes for the one behind it. */
int cx_guard_decide(struct cx_ward *w, const struct cx_motion *vote, uint64_t until_ns,
		    struct cx_motion *out);
/* Why this rank takes part in no decision any more; 0: it does. */
int cx_guard_barred(const struct cx_ward *w);
/* For a meeting's stop (boot.h) after a decision: somebody else than those who are out by
 * it was lost, or this rank takes part no more. */
struct cx_losses {
	const struct cx_ward *guard;
	int out; /* by the decision */
};
int cx_guard_lost_more(void *losses);
/* Where this rank can be met. */
const struct cx_place *cx_guard_place(const struct cx_ward *w);
/* Makes a secret one that only ranks of this communicator can know. */
int cx_guard_mix(const struct cx_ward *w, struct cx_secret *s);

/* Records the verdict's line as the calling thread's, and returns its code. */
int cx_guard_fail(const struct cx_ward *w);

/* For a simulator with many processes in one: stores what the guard keeps for one, and
 * gives it another's; NULL: as at a process's start. Returns its bytes. */
size_t cx_guard_swap(void *save, const void *load);

#endif
