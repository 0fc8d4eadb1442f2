/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A ward: one communicator of this process, as the guard serves it. Everything here
 * is steps that never wait; guard.c calls them from its thread, and a test from
 * wherever it likes. Used by guard.c only.
 *
 * Each wire has a bounded buffer of what its other end has not taken yet. Signs and
 * questions are left out when it is half full. Where the rest does not fit, the
 * other end has not read for long, and the wire is closed.
 */
#ifndef CX_WARD_H
#define CX_WARD_H

#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "guard.h"
#include "rally.h"
#include "strand.h"
#include "verdict.h"

/* The body of a report, cut behind its text. */
struct cx_report_body {
	int32_t about, code;
	uint32_t hearsay;
	int32_t sys_errno;
	struct cx_where where;
	uint64_t age_us; /* when it was sent */
	char text[CX_FAULT_TEXT_MAX];
};

/* Of a leave: the last finished operation, and the last decision that is known. */
struct cx_leave_body {
	uint64_t seq, decided;
};

/* Of a verdict, cut behind its text. */
struct cx_verdict_body {
	int32_t origin, about;
	int32_t sys_errno;
	uint32_t unused; /* 0 */
	struct cx_where where;
	uint64_t age_us; /* as of a report */
	char text[CX_FAULT_TEXT_MAX];
};
_Static_assert(sizeof(struct cx_report_body) <= CX_FRAME_MAX, "a report is one frame");
_Static_assert(sizeof(struct cx_verdict_body) <= CX_FRAME_MAX, "a verdict is one frame");
_Static_assert(sizeof(struct cx_account) <= CX_FRAME_MAX, "an account is one frame");

/* Who leaves has said so, but its ward goes on for those below until they left or died:
 * what they tell each other goes through it. */
enum cx_fate {
	CX_SERVED,
	CX_ALONE,  /* the guard's, to the end: the caller has gone */
	CX_CLOSED  /* the caller's: the guard has forgotten it */
};

/* What is known of a rank; for other threads, too. */
struct cx_ward_news {
	_Atomic uint64_t state;    /* as of its calls */
	_Atomic uint64_t heard_ns; /* over a connection of the tree; 0: there is none */
	_Atomic int fate;          /* enum collx_rank_state */
	_Atomic uint64_t awaited_ns; /* since then the others wait for it; 0: they do not */
};

/* The last straggler; written by the guard alone. Words of a later one are only seen
 * together with its odd or a later number. */
struct cx_ward_straggler {
	_Atomic uint64_t number; /* 2 * how many there were, less 1 while one is written */
	_Atomic int rank;
	_Atomic uint64_t seq, count, what, since_ns;
};

struct cx_ward {
	struct cx_tree tree; /* without its wires */
	struct cx_calls *calls;

	/* Written by the caller before the flag behind it is set. */
	struct cx_report mine;
	_Atomic bool posted;  /* mine is to be reported; once in a ward's life */
	_Atomic bool nudged;
	_Atomic int wish;     /* the code that the caller ends it with; 0: none */
	struct cx_motion vote;
	_Atomic int reply;    /* rung with a decision, for who voted; -1: none yet */
	uint64_t vote_by_ns;
	_Atomic uint64_t votes; /* how many there were */
	_Atomic bool dropped; /* calls end, as another thread is about to leave */
	_Atomic int leaving;  /* 1: with a farewell; 2: without */
	_Atomic int *fate;    /* enum cx_fate, of who waits for it: written once, and then not
			       * touched, as the waiting one may be gone */

	/* Written by whoever sets verdict from 0 to 1; read by all when it is negative. */
	_Atomic int verdict;
	struct cx_cause cause;
	_Atomic uint64_t *left; /* [rank]: 1 + the last operation it finished; 0: it is here */
	_Atomic uint64_t decisions; /* how many are known */
	struct cx_motion decision;
	_Atomic uint64_t answered;  /* the vote of that number; behind it: by that decision */
	_Atomic int losses;     /* of the council, once it is convened */
	_Atomic int barred;     /* why there will be none; 0 */
	_Atomic int aborter;    /* 1 + who aborted, where that is why; 0: unknown */
	_Atomic int bell[CX_BELLS]; /* rung with the verdict, and a straggler; -1: not asked for */
	struct cx_ward_straggler straggler;
	struct cx_ward_news *news; /* [rank] */
	_Atomic bool blind;     /* who was above has left, and its process ended */

	/* The guard's own. */
	struct cx_strand *strands;
	int nstrands;
	size_t out_room;       /* bytes of each strand's out */
	unsigned char *outs;
	struct cx_rally *rally; /* NULL: no council, and no heartbeats */
	struct cx_late late;   /* as last told */
	uint64_t votes_taken, due_ns, accounted_ns;
	uint64_t voted;        /* number of the last vote */
	bool convened;
	struct cx_verdict decider;
	uint32_t asked;        /* the decider's last question that was sent */
	bool granted;          /* the wish is known to the others */
	bool aborted;          /* by whomever, and it was passed on */
	bool told;             /* the verdict went down */
	struct cx_set blamed;  /* by the verdict that comes next; those besides its first one */
	bool reported;         /* mine was taken */
	bool passed_hearsay, passed_cause; /* such a report went up */
	bool said_farewell, departed;
	uint64_t give_up_ns;   /* no verdict has come to our report by then */
	bool has_ring;         /* of leaders; or it had */
	bool ringed;           /* it has the heartbeats of leaders */
	uint64_t above_by_ns;  /* and no verdict has come to what was passed up by then */
	uint64_t leave_by_ns, linger_ns, alone_ns;
	struct cx_calls own;   /* what calls points to once the caller has gone */
	uint64_t state, since_ns; /* the caller's state, and when it was first seen */

	/* The thread's own. */
	struct cx_ward *const *served; /* all that it serves; NULL: none other is known */
	struct cx_ward *next;
	struct pollfd *room;
};

/* How many descriptors it waits for, at most. */
unsigned cx_ward_room(const struct cx_ward *w);

/* Takes the tree's wires over, and the rally, if any; on failure they are the caller's
 * still. */
int cx_ward_create(struct cx_ward **out, struct cx_tree *tree, struct cx_calls *calls,
		   struct cx_rally *rally);
void cx_ward_destroy(struct cx_ward *w);

/* Adds what to wait for. */
void cx_ward_watch(struct cx_ward *w, struct cx_poll *p);

/* Hears, decides and tells as far as it can be done now; p after its poll, or NULL:
 * whatever is there. When to come again; UINT64_MAX: not for the clock. */
uint64_t cx_ward_step(struct cx_ward *w, const struct cx_poll *p, uint64_t now_ns);

/* A farewell was asked for, and is said, nobody is below any more; the wires are
 * closed. */
bool cx_ward_has_gone(const struct cx_ward *w);

/* Tells the others, as far as they take it now, that there will be no ward here, and
 * records the line anew. */
void cx_ward_refuse(struct cx_ward *w, int code, const char *text);

/* Makes this the verdict, unless there is one; any thread may. */
void cx_ward_adopt(struct cx_ward *w, const struct cx_cause *cause);

/* That rank is late for longer than it should: known to other threads now. */
void cx_ward_note_straggler(struct cx_ward *w, const struct cx_late *late, uint64_t now_ns);

/* No operation behind that one goes on, or begins; any thread may. */
void cx_ward_lower_last(struct cx_ward *w, uint64_t seq);

/* As cx_ward_adopt, from a report, for want of a verdict. */
void cx_ward_settle(struct cx_ward *w, const struct cx_report *r);

/* Hands the caller's report to the next step; once. Its origin and errno are known here. */
void cx_ward_post(struct cx_ward *w, const struct cx_report *r);

/* ---- between the files of a ward ---- */

/* The verdict's code; 0. */
static inline int cx_ward_code(const struct cx_ward *w)
{
	int code = atomic_load_explicit(&w->verdict, memory_order_acquire);

	return code < 0 ? code : 0;
}

/* Upwards; NULL when there is nobody (any more): this rank decides then. */
static inline struct cx_strand *cx_ward_up(const struct cx_ward *w)
{
	return w->tree.above >= 0 && w->strands[0].wire.fd >= 0 ? &w->strands[0] : NULL;
}

static inline bool cx_ward_is_up(const struct cx_ward *w, const struct cx_strand *s)
{
	return w->tree.above >= 0 && s == &w->strands[0];
}

static inline bool cx_ward_is_below(const struct cx_ward *w, const struct cx_strand *s)
{
	return !cx_ward_is_up(w, s) && !s->beside;
}

/* Was that rank given up? Then it speaks of what it did not hear itself. Who has left does not. */
static inline bool cx_ward_lost(const struct cx_ward *w, int rank)
{
	int fate = atomic_load_explicit(&w->news[rank].fate, memory_order_relaxed);

	return fate == COLLX_RANK_SILENT || fate == COLLX_RANK_DEAD;
}

void cx_ward_tell(struct cx_ward *w, struct cx_strand *s, enum cx_frame_kind kind, int arg,
		  const void *body, size_t len, uint64_t now_ns);
/* That rank's fate, where it is known as a fact or by its silence. Is it news? */
bool cx_ward_mark(struct cx_ward *w, int rank, collx_rank_state fate, uint64_t now_ns);
/* Gives the decider, or the rank above, this rank's account. */
void cx_ward_account(struct cx_ward *w, enum cx_frame_kind kind, uint64_t now_ns);
/* What this rank's guard sees itself, now. */
struct cx_report cx_ward_sight(const struct cx_ward *w, int code, int about, const char *text,
			       uint64_t now_ns);
/* The report is of that rank, which stays connected, and is to hear what was decided. */
void cx_ward_give_up_on(struct cx_ward *w, struct cx_strand *s, const struct cx_report *r,
			uint64_t now_ns);

/* Bodies: their lengths. */
size_t cx_ward_pack_report(struct cx_report_body *b, const struct cx_report *r, uint64_t now_ns);
size_t cx_ward_pack_verdict(struct cx_verdict_body *b, const struct cx_cause *c, uint64_t now_ns);
/* From the frame at that wire; false where no rank can have said so. */
bool cx_ward_unpack_report(const struct cx_wire *from, int ranks, struct cx_report *r,
			   uint64_t now_ns);
/* blamed: as told before, besides the first one. */
bool cx_ward_unpack_verdict(const struct cx_wire *from, int ranks, const struct cx_set *blamed,
			    struct cx_cause *c, uint64_t now_ns);
/* How long ago that was, as far as it can be told on. */
uint64_t cx_ward_age_us(int64_t fault_ns, uint64_t now_ns);
/* Of what ranks see each for itself: what differs among them. */
void cx_ward_leave_out(const struct cx_ward *w, struct cx_cause *c);

/* Who was stopped itself, or had no processor, has heard nothing for that reason. */
void cx_ward_forgive(struct cx_ward *w, uint64_t now_ns);
/* Heartbeats, and who sends none. When to come again. */
uint64_t cx_ward_beat(struct cx_ward *w, uint64_t now_ns);

/* Nothing is heard of the rank above. */
void cx_ward_give_up_above(struct cx_ward *w, uint64_t now_ns);

/* To all beside this rank. */
void cx_ward_tell_beside(struct cx_ward *w, const struct cx_strand *but, enum cx_frame_kind kind,
			 int arg, uint64_t now_ns);
/* The ring has no part in what comes now. */
void cx_ward_part(struct cx_ward *w, uint64_t now_ns);
/* A leader left, and its neighbours see nobody behind it any more: rank 0 and the leaders
 * hear each other from now on. */
void cx_ward_open_ring(struct cx_ward *w, uint64_t now_ns);
/* Rank 0 was told something, or will be: an answer is to come from above, where no
 * heartbeats come from. */
void cx_ward_expect_verdict(struct cx_ward *w, uint64_t now_ns);
/* A neighbour does not hear rank 0, which may be for want of a way between the two: all
 * are told, and listen to it themselves. */
void cx_ward_doubt_above(struct cx_ward *w, const struct cx_strand *from, uint64_t now_ns);
void cx_ward_above_spoke(struct cx_ward *w, uint64_t now_ns);
/* When to come again. */
uint64_t cx_ward_await_above(struct cx_ward *w, uint64_t now_ns);
/* Accounts do not come by themselves: is that rank waited for still? When to come again. */
uint64_t cx_ward_ask_for_late(struct cx_ward *w, uint64_t now_ns);
/* False where the frame is damaged, or not its sender's to send. */
bool cx_ward_hear_part(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns);
/* That one below did not answer, before the report of it; or one of the ring. */
bool cx_ward_hear_silent(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns);

void cx_ward_say_farewell(struct cx_ward *w, uint64_t now_ns);
/* Once the farewell is said, or its time is over. */
void cx_ward_depart(struct cx_ward *w, uint64_t now_ns);

#endif
