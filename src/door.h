/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A listener that lets in only who proves the job's secret. Nothing that a
 * connection sends is looked at, beyond the fixed-size proof, before the proof
 * holds. Strangers (another user, no proof within 2 s, a wrong secret) are dropped
 * and counted, and disturb nobody.
 */
#ifndef CX_DOOR_H
#define CX_DOOR_H

#include "auth.h"
#include "place.h"

/* Takes a proved connection over; negative ends the waiting with that error. The
 * descriptor is the callee's either way. */
typedef int (*cx_seat_fn)(void *ctx, const struct cx_claim *claim, int fd);

struct cx_door;

/* Listens at place; `expected` connections will come. */
int cx_door_open(struct cx_door **out, struct cx_place *place, const struct cx_secret *secret,
		 int expected, cx_seat_fn seat, void *ctx);
/* Lets in until *missing is 0. COLLX_ERR_INIT_TIMEOUT at the deadline, without a
 * line of its own: the caller knows who is missing. */
int cx_door_wait(struct cx_door *d, const int *missing, uint64_t deadline_ns);
/* "; 3 connections refused, the last: ..." or "". */
void cx_door_strangers(const struct cx_door *d, char *text, size_t len);
void cx_door_close(struct cx_door *d);

/* The other side: connects, proves, is confirmed. A descriptor, or an error. */
int cx_door_enter(const struct cx_place *place, const struct cx_secret *secret,
		  const struct cx_claim *claim, uint64_t deadline_ns);

#endif
