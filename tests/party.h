/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ranks of several hosts that meet, for the tests: processes, each with its fate. The
 * hosts are folders of this machine, each with a place for its ranks; all but those of
 * rank 0's are made to believe that rank 0's address is another host's.
 */
#ifndef PARTY_H
#define PARTY_H

#include <stdbool.h>

#include "src/boot.h"
#include "tests/world.h"

enum { GUESTS = 132, FOLDER = 80, SEAT = 3 };
enum fate { LIVES, KILLED, STOPPED, FAILING, POOR, LIMITED };

/* One process that comes. */
struct guest {
	int rank, ranks, host;
	unsigned timeout_ms, late_ms;
	unsigned after_seat, after_end; /* bit i: before, guest i has its seat, has ended */
	enum fate fate;      /* at its system call number `step`, or its allocation; */
	int step;            /* LIMITED: to so many open files */
	int fail_with;       /* FAILING: the call's errno */
	int secret;
	bool no_local;
	bool comes_again;    /* KILLED: a second process takes its place */
	bool pauses;         /* stays in the tree until it is killed, exchanging nothing */
	bool clogs;          /* whom it gives records to first takes none */
	bool aborts;         /* 0.3 s after all have met */
	bool lanes;          /* makes a mesh, too */
	int barrier;         /* ends with one, of so many guests */
	int lanes_fail;      /* errno of its accept or bind while it does */
	/* what became of it */
	int code, ms, steps;
	int heard;           /* receipts: with the SEATth, its welcome, it has its seat */
	char text[512];
	int above, down;
	int leader[GUESTS];
	bool met;            /* was in the tree */
	size_t last;         /* bytes it sent in the barrier */
	unsigned opened;     /* places it listened at for its lanes */
	uint64_t ended_ms;
};

struct party {
	char base[64];
	char address[64];
	int here, n;         /* guests whose processes run; all */
	int at_barrier;      /* guests who have come to it */
	pid_t pids[GUESTS];
	struct guest guests[GUESTS];
};

/* At an address of its own, of all those that mean this machine. */
struct party *party_make(void);
/* Nobody and nothing is left; returns what was wrong. */
int party_end(struct party *p);

/* Where the ranks of a host meet. */
void host_folder(const struct party *p, int host, char folder[FOLDER]);

/* Adds a guest, who lives and has 20 s. */
struct guest *invite(struct party *p, int rank, int ranks, int host);

/* Starts all guests and waits for them; returns what was wrong. */
int party_hold(struct party *p);
/* The same in parts. Who was started begins when all who are invited were. */
void party_start(struct party *p, int i);
int see_off(struct party *p, int i);
int party_wait(struct party *p, int first); /* kills those that pause, last */

/* Did guest i come to this end, with that in its line? */
#define ENDED(p, i, want, part) ended(p, i, want, part, __LINE__)
int ended(const struct party *p, int i, int want, const char *part, int line);
/* Nobody waited longer than its deadline and a second; the rest is for busy machines. */
void nobody_waited(const struct party *p);

#endif
