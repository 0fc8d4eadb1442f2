/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The council: how the ranks of a communicator decide together though some of them are
 * gone, and more may go at any step. Pure: no clock, no connection, no memory after
 * init. Times and frames are given in; what is to be sent goes out through a function.
 *
 * Every rank goes to the chair: the lowest rank that it does not know to be dead or
 * silent. It connects there, tells what it knows, JOIN last, and stays. Whoever is the
 * lowest by its own knowledge takes the chair itself, and lets others in.
 *
 *   member                            chair
 *     DECIDED, ACCEPTED, VOTE, JOIN ->
 *                                     has the votes of all who are neither dead nor
 *                                     silent, and a quorum; or finds a motion that was
 *                                     accepted before, and a quorum
 *                                <-   PROPOSE motion
 *     ACCEPT                     ->
 *                                     has that of all who are neither dead nor silent,
 *                                     and a quorum
 *                                <-   DECIDED motion
 *
 * Deaths that one of them learns of later are told (LOST), so that nobody waits for the
 * dead whose end it could not see.
 *
 * This is Paxos with the chair's rank as the ballot. Its first phase is the going to a
 * chair: a member hears only the chair it sits with and never goes back to a lower one,
 * so by joining it promises to accept nothing of those. The next chair finds among a
 * quorum what may have been decided, that of the highest earlier chair, and proposes
 * it. A chair proposes one motion for each number. Decisions are numbered; who missed
 * the last one is told it, who missed more is excluded.
 *
 * Quorum: more than half of the ranks that are neither known to be dead nor out by an
 * earlier decision, or half with the lowest of them. Death is a fact (the other end of a
 * connection closed), silence is not: a job of two survives a kill, and a cut gives one
 * side the right at most.
 *
 * What that does not hold: ranks that were only silent are excluded; of those who
 * decided so, enough die to leave the silent ones a majority; and these, who do not
 * know of the decision, learn of the deaths. They may decide otherwise. Without cuts
 * nobody is silent but alive, and without deaths majorities meet: it takes both.
 *
 * An abort ends it: who knows of one votes for nothing and accepts nothing any more, tells
 * all who sit with it (ABORT), and goes on to its chair to tell that, too. It is neither dead
 * nor silent, so nobody decides without it, and each waits until it has come. What was accepted
 * by all before stays decided.
 *
 * A chair of lower rank may be well and out of reach for one member alone: that member
 * sits with the next one, who itself went lower, and is told there what was decided
 * without it. It is silent for the chair, and so excluded. A chair without a quorum
 * resigns: with whom others sit goes on without it.
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
/* The n-th rank that is not in it, from 0 on. */
int cx_set_nth_but(const struct cx_set *s, int n);

/* What a motion is about. The numbers go over the wire. */
enum cx_motion_kind {
	CX_MOTION_AGREE = 1,  /* flags: the and of all votes */
	CX_MOTION_COMMIT,     /* as AGREE, at the end of a careful call. Where others agree,
			       * theirs is decided; where others repair it is outvoted, and
			       * they vote again for the decision behind it. Either way it was
			       * not committed: who is in neither had its own error before. */
	CX_MOTION_SHRINK,     /* `out` are not of the next communicator, which meets at `id` */
	CX_MOTION_GROW,       /* as SHRINK, but for the caller */
	CX_MOTION_LATE,       /* somebody did not vote in time: `out` has them, they stay */
	CX_MOTION_MIXED       /* ranks voted for different kinds */
};

/* A vote, and what is decided. A vote's `out` are those to be excluded besides. */
struct cx_motion {
	uint32_t kind;
	uint32_t outvoted;    /* of COMMIT: 1 so */
	uint64_t number;      /* 1, 2, ... of the communicator's decisions */
	uint64_t flags;
	struct cx_set out;    /* AGREE: who failed */
	uint64_t unreached;   /* of a vote, SHRINK: 1 + the lower rank that this one could not
			       * connect with; 0: none. Where both are here the voter goes. */
	collx_unique_id id;   /* SHRINK: of the lowest rank that is not out */
};

/* The frames' bodies; DECIDED is a motion, LOST a set. They are checked here, whoever sent them. */
struct cx_council_join {
	uint64_t decided;     /* number of the last decision known */
	struct cx_set dead;
};
struct cx_council_vote {
	uint64_t within_ns;   /* from now, the voter wants an answer */
	struct cx_motion motion;
};
struct cx_council_proposal { /* of PROPOSE and ACCEPTED */
	uint64_t ballot;      /* 1 + the rank of the chair that proposed it; 0: none */
	struct cx_motion motion;
};
struct cx_council_accept {
	uint64_t ballot, number;
};
struct cx_council_resign {
	int64_t code;         /* the chair's */
};
struct cx_council_abort {
	int64_t rank;         /* who did it */
};
_Static_assert(sizeof(struct cx_council_proposal) <= CX_FRAME_MAX, "one frame");

/* What is known of another rank. */
struct cx_councillor {
	bool sits;            /* is connected with us, as a member, and has joined */
	bool voted, accepted; /* for the next decision; what we propose */
	uint32_t kind;
	uint64_t flags, unreached;
	collx_unique_id id;
	uint64_t left_ns;     /* when it last parted */
	uint64_t grace_ns;    /* how long rank 0 waits for it; 0: as for others */
	uint64_t doubted_ns;  /* since then */
};

struct cx_council {
	int rank, ranks;
	uint64_t patience_ns; /* for who is not there and not known to be dead */
	/* Never calls back in here. What cannot be sent is lost: the connection has parted. */
	void (*send)(void *ctx, int rank, enum cx_frame_kind kind, const void *body, size_t len);
	void *ctx;

	struct cx_set dead, silent;  /* grow; who joins is no longer silent */
	struct cx_set gone;          /* out by a decision, for good */
	struct cx_set exclude;       /* by votes */
	int chair;                   /* to go to, never lower than before; the own rank: take
				      * it; -1: not in session */
	bool seated;                 /* there, and has joined */
	int resigned;                /* chairs that did */
	uint64_t since_ns;           /* when that chair was turned to, parted from, or taken */

	uint64_t decided;            /* number of the last decision */
	struct cx_motion last;       /* it */
	struct cx_council_proposal accepted; /* by this rank, for the next decision */
	struct cx_council_proposal found;    /* by those who sit here: of the highest ballot */
	bool proposing;              /* this chair, accepted.motion */
	bool voted;                  /* for the next decision */
	struct cx_motion vote;
	struct cx_motion answer;     /* the decision that the own vote was for, the last one with
				      * an answer; later ones may be known */
	uint64_t vote_by_ns;
	uint64_t late_ns;            /* when those who have not voted are late: the first
				      * voter wants its answer */

	int code;                    /* of failure, for good: COLLX_ERR_NO_QUORUM, EXCLUDED,
				      * ABORTED */
	int aborter;                 /* of the last one: who did it; -1 */
	uint64_t due_ns;             /* cx_council_tick has something to do then */
	struct cx_councillor *seat;  /* [rank] */
};

/*
 * After every call below the caller looks at
 *   chair, seated: unless they are met or the rank is its own, connects there, again and
 *     again, and closes what led to an earlier chair;
 *   decided: it grows by one at a time, and `last` is that decision, whether voted or not;
 *   answer: the decision of the number that this rank voted for, where it is known;
 *   code: then the council is over for this rank, but for telling those who still come; with
 *     ABORTED it still goes to the chair, to tell it;
 *   due_ns.
 * A rank has one connection of the council at most with another, from the higher to the
 * lower: who comes anew has parted before.
 */
int cx_council_init(struct cx_council *c, int rank, int ranks, uint64_t patience_ns);
void cx_council_fini(struct cx_council *c);

/* A session begins: somebody wants a decision, or the communicator has failed. More
 * calls change nothing; a frame begins it, too. */
void cx_council_begin(struct cx_council *c, uint64_t now_ns);

/* That rank is dead: a fact. Silent: it does not answer, or cannot be reached. Both
 * before the session, too. */
void cx_council_dead(struct cx_council *c, int rank, uint64_t now_ns);
void cx_council_silent(struct cx_council *c, int rank, uint64_t now_ns);

/* Whom that rank hung on is silent, so it may be out of reach with it: as rank 0 this one waits
 * for it no longer than that from now on. Who lives knows of that silence by then, and comes: of
 * a session that began before it may not have heard. */
void cx_council_doubt(struct cx_council *c, int rank, uint64_t grace_ns, uint64_t now_ns);

/* This rank was stopped itself: that nobody came meanwhile says nothing, and what came may
 * not have been heard yet. Those who are waited for get their time anew. */
void cx_council_forgive(struct cx_council *c, uint64_t now_ns);

/* How many are dead, silent or out by a decision. Who is out and alive must not hide a death. */
int cx_council_losses(const struct cx_council *c);

/* This rank takes no part, as others decided without it; for good. */
void cx_council_bar(struct cx_council *c, int code);

/* Somebody aborted, this rank itself or that one: what is not decided yet never is, here and on
 * all whom this rank meets. False where it counts for nothing: by who is out, or here, where
 * it is over already. */
bool cx_council_abort(struct cx_council *c, int rank, uint64_t now_ns);

/* Is there nothing more to go to the chair for? */
static inline bool cx_council_is_over(const struct cx_council *c)
{
	return c->code && c->code != COLLX_ERR_ABORTED;
}

/* The connection with the chair is there: what is known goes out over it. */
void cx_council_seated(struct cx_council *c, uint64_t now_ns);
/* A connection of the council ended: with the chair, or that of a member. No death is
 * meant by this alone. */
void cx_council_parted(struct cx_council *c, int rank, uint64_t now_ns);

/* This rank's vote, AGREE to GROW, for the next decision, in by_ns at the latest. One
 * for a number that is decided already changes nothing. */
void cx_council_vote(struct cx_council *c, const struct cx_motion *vote, uint64_t by_ns,
		     uint64_t now_ns);
/* A frame of the council from that rank. False: damaged, or not its to send. */
bool cx_council_hear(struct cx_council *c, int rank, enum cx_frame_kind kind, const void *body,
		     size_t len, uint64_t now_ns);
void cx_council_tick(struct cx_council *c, uint64_t now_ns);

#endif
