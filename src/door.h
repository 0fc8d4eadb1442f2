/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A listener that lets in only who proves the job's secret. Nothing that a
 * connection sends is looked at, beyond the fixed-size proof, before the proof
 * holds. Strangers (another user, no proof within 2 s, a wrong secret) are dropped
 * and counted, and disturb nobody.
 *
 * Doors and visits never block: one loop serves many. In each of its rounds it has
 * all of them fill in what they wait for, polls, and lets all of them go on.
 */
#ifndef CX_DOOR_H
#define CX_DOOR_H

#include <poll.h>
#include <stdbool.h>

#include "auth.h"
#include "place.h"

/* What one round of a loop waits for. */
struct cx_poll {
	struct pollfd *fds; /* with room for all */
	unsigned n;
	uint64_t until_ns;  /* at the latest */
};

void cx_poll_begin(struct cx_poll *p, unsigned slice_ms);
/* Its number, for cx_poll_came. */
int cx_poll_add(struct cx_poll *p, int fd, short events);
int cx_poll_wait(struct cx_poll *p);
/* Did that one come in this round? -1: it was not waited for. */
bool cx_poll_came(const struct cx_poll *p, int number);

/* ---- the door ---- */

/* Takes a proved connection over; negative ends the waiting with that error. The
 * descriptor is the callee's either way. */
typedef int (*cx_seat_fn)(void *ctx, const struct cx_claim *claim, int fd);

struct cx_door;

/* Listens at place, as that rank (or CX_TO_ANY): a proof for another one's door is none.
 * `expected` connections will come. */
int cx_door_open(struct cx_door **out, struct cx_place *place, const struct cx_secret *secret,
		 uint32_t rank, int expected, cx_seat_fn seat, void *ctx);
/* How many descriptors such a door waits for, at most. */
unsigned cx_door_room(int expected);
void cx_door_watch(struct cx_door *d, struct cx_poll *p);
/* Goes on; an error is the seat function's, or the listener's. */
int cx_door_serve(struct cx_door *d, const struct cx_poll *p);
/* "; 3 connections refused, the last: ..." or "". */
void cx_door_strangers(const struct cx_door *d, char *text, size_t len);
/* How many wrong proofs it saw. Says one line of them; it is for who closes it. */
unsigned cx_door_tell(const struct cx_door *d);
void cx_door_close(struct cx_door *d);

/* ---- the other side ---- */

/* Connects, trying again while nobody listens yet, proves and is confirmed. Where the
 * place stands for several, each has its turn for a while, and who is there and is not
 * the one that is looked for is passed over. */
struct cx_visit {
	const struct cx_place *place; /* NULL: no visit */
	struct cx_place at;    /* the one of them whose turn it is */
	int turn;
	uint64_t turn_ns;      /* how long a turn may take */
	uint64_t until_ns;     /* when this one ends; of a single place, the try to connect */
	char stranger[256];    /* what the last one that answered did wrong; or turned our proof
				* away */
	const struct cx_secret *secret;
	struct cx_claim claim;
	bool hold;             /* connect, but do not prove anything yet */
	int fd;                /* -1: between two tries */
	int step;
	int number;            /* in the round's poll */
	int err;               /* why the last try to connect failed */
	unsigned absent;       /* tries that found nobody there */
	bool gives_up;         /* where the door keeps closing without judging */
	bool refused;          /* the last one took the proof, and closed */
	bool challenged;       /* has one ever said what a door says? */
	unsigned refusals;     /* of proofs that were taken */
	unsigned closings;     /* other ones, */
	uint64_t closing_ns;   /* since then, */
	uint64_t rest_ns;      /* the next time with such a pause */
	uint64_t gone_ns;      /* somebody was there: nobody from then on is an end; 0: not yet */
	uint64_t next_ns, nap_ns;
	size_t have;
	unsigned char challenge[CX_CHALLENGE_BYTES];
	unsigned char proof[CX_PROOF_BYTES];
	unsigned char answer[CX_CONFIRM_BYTES];
};

void cx_visit_begin(struct cx_visit *v, const struct cx_place *place,
		    const struct cx_secret *secret, const struct cx_claim *claim);
void cx_visit_watch(struct cx_visit *v, struct cx_poll *p);
/* 1: in, v->fd is the caller's and the visit over; 0: under way; or an error. */
int cx_visit_go_on(struct cx_visit *v, const struct cx_poll *p);
/* Is somebody listening there, as far as this visit came? */
bool cx_visit_is_through(const struct cx_visit *v);
/* Was nothing heard of the place, not even a refusal? Of a single one. */
bool cx_visit_is_unanswered(const struct cx_visit *v);
/* Why it is not in yet, with the place. */
void cx_visit_why(const struct cx_visit *v, char *text, size_t len);
void cx_visit_end(struct cx_visit *v);

#endif
