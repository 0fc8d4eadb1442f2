/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The council: how the ranks of a communicator decide together though some of them are
 * gone, and more may go at any step. Pure: no clock, no connection, no memory after
 * init. Times and frames are given in; what is to be sent goes out through a function.
 *
 * Every rank goes to the chair: the lowest rank that it does not know to be dead or
 * silent. It connects there, tells what it knows (JOIN) and stays. Whoever is the
 * lowest by its own knowledge takes the chair itself, and lets others in.
 *
 *   member                        chair
 *     JOIN, ACCEPTED, VOTE  ->
 *                                 has the votes of all who are neither dead nor silent,
 *                                 and a quorum, or finds something accepted before
 *                           <-    PROPOSE ballot, motion
 *     ACCEPT ballot         ->
 *                                 has that of all who are still there, and a quorum
 *                           <-    DECIDED motion
 *
 * This is Paxos, whose first phase is the going to a chair: a member hears only the
 * chair it sits with, so it has left all earlier ones when it joins. The next chair
 * finds among a quorum what may have been decided, and proposes that. Decisions are
 * numbered; who missed the last one is told it.
 *
 * Quorum: more than half of the ranks that are not known to be dead, or half with the
 * lowest of them. Death is a fact (the other end of a connection closed), silence is
 * not: a job of two survives a kill, and a cut gives one side the right at most.
 *
 * A chair of lower rank may be well and out of reach for one member alone: that member
 * sits with the next one, who itself went lower, and is told there what was decided
 * without it. It is silent for the chair, and so excluded.
 */
#ifndef CX_COUNCIL_H
#define CX_COUNCIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collx.h"
#include "wire.h"

enum { CX_COUNCIL_RANKS = 2048 /* more cannot hold one */ };

/* A set of ranks, also as it goes over a wire. */
struct cx_set {
	uint64_t word[CX_COUNCIL_RANKS / 64];
};

static inline bool cx_set_has(const struct cx_set *s, int r)
{
	return s->word[r / 64] >> r % 64 & 1;
}

static inline void cx_set_add(struct cx_set *s, int r)
{
	s->word[r / 64] |= (uint64_t)1 << r % 64;
}

static inline void cx_set_drop(struct cx_set *s, int r)
{
	s->word[r / 64] &= ~((uint64_t)1 << r % 64);
}

int cx_set_count(const struct cx_set *s);

/* What a motion is about. The numbers go over the wire. */
enum cx_motion_kind {
	CX_MOTION_AGREE = 1,  /* flags: the and of all votes */
	CX_MOTION_SHRINK,     /* `out` are not of the next communicator, which meets at `id` */
	CX_MOTION_LATE,       /* somebody did not vote in time: `out` has them */
	CX_MOTION_MIXED       /* ranks voted for different kinds */
};

/* A vote, and what is decided. A vote's `out` are those to be excluded besides. */
struct cx_motion {
	uint32_t kind;
	uint32_t unused;
	uint64_t number;      /* 1, 2, ... of the communicator's decisions */
	uint64_t flags;
	struct cx_set out;    /* AGREE: who failed */
	collx_unique_id id;   /* of the lowest rank that is not out */
};

struct cx_ballot {
	uint64_t number;      /* 0: none */
	uint64_t rank;
};

/* The frames' bodies. They are checked here, whoever sent them. */
struct cx_council_join {
	uint64_t decided;     /* number of the last decision known */
	uint64_t highest;     /* ballot number seen */
	struct cx_set dead;
};
struct cx_council_proposal { /* of PROPOSE and ACCEPTED; ACCEPT is the ballot alone */
	struct cx_ballot ballot;
	struct cx_motion motion;
};
_Static_assert(sizeof(struct cx_council_proposal) <= CX_FRAME_MAX, "one frame");

/* What is known of another rank. */
struct cx_councillor {
	bool sits;            /* is connected with us, as a member, and has joined */
	bool voted, accepted; /* for the next decision; at our present ballot */
	uint64_t flags;
	uint32_t kind;
	collx_unique_id id;
	uint64_t decided;
};

struct cx_council {
	int rank, ranks;
	uint64_t patience_ns; /* for who is not there and not known to be dead */
	void (*send)(void *ctx, int rank, enum cx_frame_kind kind, const void *body, size_t len);
	void *ctx;

	struct cx_set dead, silent;  /* grow; who joins is no longer silent */
	struct cx_set exclude;       /* by votes */
	int chair;                   /* to go to; the own rank: take it; -1: not in session */
	bool seated;                 /* there, and has joined */
	uint64_t since_ns;           /* when that chair was turned to, or taken */

	uint64_t decided;            /* number of the last decision */
	struct cx_motion last;       /* it */
	uint64_t highest;            /* ballot number seen */
	struct cx_council_proposal accepted; /* for the next decision; ballot.number 0: none */
	bool voted;                  /* for the next decision */
	struct cx_motion vote;
	uint64_t vote_by_ns;         /* when those who have not voted are late */

	struct cx_ballot mine;       /* what is proposed now; number 0: nothing */
	int code;                    /* of failure, for good: COLLX_ERR_NO_QUORUM, EXCLUDED */
	uint64_t due_ns;             /* cx_council_tick has something to do then */
	struct cx_councillor *seat;  /* [rank] */
};

int cx_council_init(struct cx_council *c, int rank, int ranks, uint64_t patience_ns);
void cx_council_fini(struct cx_council *c);

/* A session begins: somebody wants a decision, or the communicator has failed. More
 * calls change nothing. Afterwards c->chair says where to go. */
void cx_council_begin(struct cx_council *c, uint64_t now_ns);

/* That rank is dead: a fact. Silent: it does not answer, or cannot be reached. Both
 * before the session, too. */
void cx_council_dead(struct cx_council *c, int rank, uint64_t now_ns);
void cx_council_silent(struct cx_council *c, int rank, uint64_t now_ns);

/* The connection with the chair is there: JOIN and what follows go out over it. */
void cx_council_seated(struct cx_council *c, uint64_t now_ns);
/* A connection of the council ended: with the chair, or that of a member. No death is
 * meant by this alone. */
void cx_council_parted(struct cx_council *c, int rank, uint64_t now_ns);

/* This rank's vote for the next decision, in by_ns at the latest. */
void cx_council_vote(struct cx_council *c, const struct cx_motion *vote, uint64_t by_ns,
		     uint64_t now_ns);
/* A frame of the council from that rank. False: damaged, or not its to send. */
bool cx_council_hear(struct cx_council *c, int rank, enum cx_frame_kind kind, const void *body,
		     size_t len, uint64_t now_ns);
void cx_council_tick(struct cx_council *c, uint64_t now_ns);

#endif
