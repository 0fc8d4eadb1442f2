/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What rank 0 makes of what it is told: the one error of a communicator. Pure: no
 * clock, no connection, no memory after init. Times are given in, and due_ns says
 * when to come again.
 *
 *    watching --- hearsay ---> doubting --- 500 ms ---+
 *       |  |                      |                   |
 *       |  +--- timeout, mismatch-+-> asking --- answers of all, or 200 ms ---+
 *       |                         |                   |                       |
 *       +- death, silence --------+-> counting --- 5 ms, or all are lost -----+
 *       |                         |                   |                       |
 *       +------- any other cause -+-------------------+------> decided <------+
 *
 * The first cause counts, and hearsay is none while something better may come. A
 * timeout or a mismatch is explained by what each rank called: where that differs,
 * the earliest such operation is the verdict, in words; for a rank that has not come
 * to it the 200 ms are waited out.
 *
 * Deaths come seldom alone: a machine ends, a launcher kills. So the first one is told
 * of when others had time to be known, and the verdict names all; silences, too.
 */
#ifndef CX_VERDICT_H
#define CX_VERDICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "council.h"
#include "sign.h"
#include "wire.h"

/* What a rank saw. */
struct cx_report {
	int32_t origin;
	int32_t about;    /* -1: nobody */
	int32_t code;
	bool hearsay;
	int32_t sys_errno; /* 0: no system call's */
	struct cx_where where; /* it was then */
	int64_t fault_ns; /* when it happened, by this host's clock; may be before that began */
	char text[CX_FAULT_TEXT_MAX];
};

/* The error that a communicator ends with. */
struct cx_cause {
	int32_t code;
	int32_t origin;    /* who saw it */
	int32_t about;     /* the first that is to blame; -1: nobody */
	int32_t sys_errno; /* 0: no system call's */
	struct cx_where where; /* who saw it first was then */
	struct cx_set who; /* all that are to blame, as far as a set goes: from about on */
	int64_t fault_ns;  /* as of a report */
	uint64_t known_ns; /* since when, here */
	char text[CX_FAULT_TEXT_MAX];
};

/* Where a rank is: also what goes over the wire, cut behind the last sign. */
struct cx_account {
	uint64_t state;    /* as of struct cx_calls */
	uint64_t still_ms; /* for which it has been so, at least */
	uint32_t answers;  /* the question; 0: it was not asked */
	uint32_t signs;
	struct cx_sign elsewhere; /* while it is in none here: its process's call on another
				   * communicator; seq 0: none */
	struct cx_sign sign[CX_SIGNS]; /* up to the last operation begun, oldest first */
};

/* Bytes of an account on the wire. */
size_t cx_account_len(const struct cx_account *a);
/* Is it one that a rank of so many can have given? */
bool cx_account_is_sound(const struct cx_account *a, size_t len, int ranks);

struct cx_known; /* about a rank */

struct cx_verdict {
	int ranks;            /* 0: of none the calls are known, so a report is the verdict */
	int code;             /* 0: not decided */
	int about;            /* then: the first that is to blame; -1: nobody */
	struct cx_set who;    /* and all of them */
	char text[CX_FAULT_TEXT_MAX];
	uint64_t due_ns;      /* cx_verdict_tick has something to do then */
	enum { CX_WATCHING, CX_DOUBTING, CX_COUNTING, CX_ASKING } phase;
	struct cx_report first;
	uint64_t settle_ns;   /* the end of asking, or counting */
	struct cx_set dead, silent, stopped; /* as far as is known */
	uint64_t silence_ns;  /* how long the silent were, for the line */
	uint32_t question;    /* number of the last one: to be sent to all when it grows */
	uint64_t asked_ns;
	struct cx_known *known;
	struct cx_sign seen[64]; /* [seq % 64]: somebody's call */
};

int cx_verdict_init(struct cx_verdict *v, int ranks);
void cx_verdict_fini(struct cx_verdict *v);

void cx_verdict_report(struct cx_verdict *v, const struct cx_report *r, uint64_t now_ns);
void cx_verdict_account(struct cx_verdict *v, int rank, const struct cx_account *a,
			uint64_t now_ns);
/* Somebody waits long: asks all, once a second at most. */
void cx_verdict_ask(struct cx_verdict *v, uint64_t now_ns);
/* A rank left, having finished operation seq. */
void cx_verdict_left(struct cx_verdict *v, int rank, uint64_t seq, uint64_t now_ns);
/* How a rank was lost, which may be told before the report of it, or without one. */
enum cx_loss { CX_LOSS_DEATH, CX_LOSS_SILENCE, CX_LOSS_STOP /* silence, and the reason */ };
void cx_verdict_lost(struct cx_verdict *v, int rank, enum cx_loss how);
/* Somebody is dying, and will be dead in a moment: to be counted, if that is soon. */
void cx_verdict_wait(struct cx_verdict *v, uint64_t now_ns);
void cx_verdict_tick(struct cx_verdict *v, uint64_t now_ns);
/* The clock went on for so long without the decider, which is to wait for that longer. */
void cx_verdict_wait_on(struct cx_verdict *v, uint64_t more_ns);

/* Who is waited for: it lives, and has not begun an operation that others are in. */
struct cx_late {
	int32_t rank;     /* -1: nobody */
	uint32_t waited_ms;
	struct cx_sign sign; /* the operation */
};

/* Among those that were waited for so long at least, the one that is furthest behind. */
struct cx_late cx_verdict_late(const struct cx_verdict *v, uint64_t least_ms);

struct cx_cause cx_cause_of_report(const struct cx_report *r);
/* That a rank aborted or revoked it, now; safe in a signal handler. */
struct cx_cause cx_cause_of_wish(int code, int rank, uint64_t now_ns);

/* Of ranks that died or fell silent. */
bool cx_cause_is_loss(const struct cx_cause *c);
/* Are its numbers in their ranges, and is it true that `about` is the first of `who`? Of a
 * cause from another rank. */
bool cx_cause_is_sound(const struct cx_cause *c, int ranks);

/* The lines that more than one place writes. */
void cx_verdict_death_line(char text[CX_FAULT_TEXT_MAX], int rank);
/* state: of its process, if that is known; 0. */
void cx_verdict_silence_line(char text[CX_FAULT_TEXT_MAX], int rank, uint64_t silence_ns,
			     int state);
void cx_verdict_left_line(char text[CX_FAULT_TEXT_MAX], int rank, uint64_t seq);

#endif
