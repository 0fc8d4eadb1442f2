/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The meeting: all ranks come together in a tree. Used by boot.c only.
 *
 * Rank 0 listens at m->place, and before that, where it is a tcp place, at m->local
 * for the ranks of its own host. Of every other host whoever can listen at m->local
 * leads that host: it goes to rank 0 and lets the others in meanwhile. A rank that
 * finds no use in m->local goes to rank 0 itself, as a leader of its own.
 *
 *   claim, proof  ->   to a leader or rank 0, see auth.h
 *   WELCOME       <-   "I am rank n", from a leader once rank 0 has welcomed it
 *   SEATED, GONE  ->   from a leader: who came to it, and who of those ended
 *   SEATS         <-   from rank 0 to all when all have come: the leader of every rank
 *   OVERDUE       ->   the deadline of a rank has passed; rank 0 ends the meeting then,
 *                      since only it knows who is missing
 *   FAULT         <->  why there will be no communicator; passed on to everybody
 *
 * A rank that ends meanwhile may come again; where a leader ends, its ranks meet anew. Who
 * does not for 1 s is dead to all: rank 0 ends the meeting and names it.
 * Strangers are dropped and counted; a rank that is there twice, or of another size,
 * ends the meeting. All doors close when the meeting is complete.
 */
#ifndef CX_MEET_H
#define CX_MEET_H

#include "boot.h"
#include "tree.h"

/* Returns when all have come, with t's wires open and the leaders filled in. On an
 * error the caller tells those whose wires are open. */
int cx_meet(struct cx_meeting *m, struct cx_tree *t);

/* A fault's frame: records its line, returns its code. */
int cx_meet_fault(const struct cx_wire *w);
/* Tells one connection, without waiting, why there will be no communicator. */
void cx_meet_send_fault(struct cx_wire *w, int code, const char *text);

/* How long after its deadline a rank waits for the word of rank 0, who knows more. Those
 * right below it give up first, so that a leader's ranks hear who it was that said nothing. */
uint64_t cx_meet_patience_ns(const struct cx_tree *t);

/* "rank 3", "ranks 2, 5-7": the ranks r where has(ctx, r) is 0. */
void cx_meet_missing(int (*has)(const void *ctx, int r), const void *ctx, int ranks, char *text,
		     size_t len);

#endif
