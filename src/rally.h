/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where the council (council.h) meets: each rank keeps a port for it from creation on,
 * bound but not listened at, so that nobody can connect before there is need. In a
 * session the port becomes a door, and the rank goes to the door of its chair.
 *
 * Steps that never wait, called by the guard's thread through ward.c. What ends
 * without PART or LEAVE is dead; what says nothing for long is silent.
 */
#ifndef CX_RALLY_H
#define CX_RALLY_H

#include "auth.h"
#include "boot.h"
#include "council.h"
#include "door.h"
#include "strand.h"

/* Where a rank can be found later. */
struct cx_nest {
	struct cx_place place;
	int fd;               /* keeps the port; -1: none */
};

/* Of a communicator that meets so; the port is kept until the rally is there. */
int cx_nest_open(struct cx_nest *n, const struct cx_meeting *m);
void cx_nest_close(struct cx_nest *n);

struct cx_rally_config {
	int rank, ranks;
	const struct cx_secret *secret;  /* of the communicator; copied into a vault */
	char (*names)[CX_MEET_MAX];      /* [rank]: the nests' places; copied */
	uint64_t beat_ns, silence_ns;
	uint64_t straggler_ns;           /* all are told whom they wait for so long; 0: never */
	const struct cx_process *near;   /* [rank]: of this host; number 0: of another. Copied;
					    NULL: not known */
};

struct cx_rally {
	struct cx_council council;
	struct cx_nest nest;
	struct cx_secret *secret;
	char (*names)[CX_MEET_MAX];
	uint64_t beat_ns, silence_ns, straggler_ns;
	bool convened, left;
	uint64_t *left_at;          /* [rank]: 1 + decisions known when it left; 0: it has not */
	bool going;                 /* this rank has left, and tells those who know the rest */
	struct cx_door *door;
	struct cx_visit visit;
	struct cx_place goal;       /* of the visit */
	int visits;                 /* that rank; -1: nobody */
	struct cx_strand *strands;  /* [rank] */
	unsigned char *outs;
	const struct cx_poll *poll; /* of the step */
	uint64_t now_ns;            /* of the step */
	uint64_t due_ns;            /* when it was to come again */
	struct cx_process *near;    /* [rank]; NULL */
	uint64_t parted_ns;         /* from a chair, when last; 0: never */
	uint64_t looked_ns;         /* which of them are gone, when last */
	unsigned looked;            /* how many were looked at so far */
};

/* Takes the nest over. */
int cx_rally_create(struct cx_rally **out, const struct cx_rally_config *config,
		    struct cx_nest *nest);
void cx_rally_destroy(struct cx_rally *r);

/* How many descriptors it waits for, at most. */
unsigned cx_rally_room(int ranks);

/* A session begins. */
void cx_rally_convene(struct cx_rally *r, uint64_t now_ns);

void cx_rally_watch(struct cx_rally *r, struct cx_poll *p);
/* p NULL: whatever is there. When to come again; UINT64_MAX: not for the clock. */
uint64_t cx_rally_step(struct cx_rally *r, const struct cx_poll *p, uint64_t now_ns);

/* The state of that rank's process, where it is of this host: see cx_sys->process_state. */
int cx_rally_process_state(const struct cx_rally *r, int rank);
/* Are all ranks of this host, and known to be? */
bool cx_rally_is_near(const struct cx_rally *r);

/* Are these of one communicator, with ranks of one process? */
bool cx_rally_is_same(const struct cx_rally *a, const struct cx_rally *b);

/* Is there somebody who is neither dead nor silent, and may come yet? */
bool cx_rally_is_needed(const struct cx_rally *r);

/* That rank has left, knowing so many decisions. Where it is connected its last words
 * come first, and that it left behind them. Where it knows more than this rank, it is
 * not as good as dead: others go on by what it decided with them. */
void cx_rally_left(struct cx_rally *r, int rank, uint64_t decided, uint64_t now_ns);
/* This rank has left, and stays for a while for those who still come. */
void cx_rally_going(struct cx_rally *r, uint64_t now_ns);
/* Is nothing on its way out? */
bool cx_rally_all_said(const struct cx_rally *r);

/* This rank goes: others do not take its end for a death. True when all was said. */
bool cx_rally_leave(struct cx_rally *r, uint64_t now_ns);

#endif
