/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The meeting: rank 0 listens at a place, the others come and prove the job's
 * secret. Used by boot.c only.
 */
#ifndef CX_MEET_H
#define CX_MEET_H

#include "boot.h"
#include "wire.h"

/* Rank 0: accepts until every other rank is in wires[rank], then closes the door.
 * Strangers (another user, no proof within 2 s, a wrong secret) are dropped and
 * counted; a rank that is there twice, or of another size, ends the meeting. */
int cx_meet_host(struct cx_meeting *m, struct cx_wire *wires);

/* Others: comes to rank 0, trying again while it is not there yet. */
int cx_meet_join(const struct cx_meeting *m, struct cx_wire *wire);

/* Tells one connection, without waiting, why there will be no communicator. */
void cx_boot_send_fault(struct cx_wire *w, int code, const char *text);

/* "2, 5-7" for the ranks r in 1..ranks-1 where wires[r] is closed. */
void cx_meet_missing(const struct cx_wire *wires, int ranks, char *text, size_t len);

#endif
