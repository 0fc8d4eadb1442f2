/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Wards of all ranks of a communicator in one process, over socket pairs as its
 * control tree, stepped one by one under a clock that the test moves. For the
 * duration of a grove cx_sys has that clock.
 */
#ifndef GROVE_H
#define GROVE_H

#include <stdbool.h>
#include <stdint.h>

#include "src/ward.h"

enum { GROVE_MAX = 16 };

struct grove {
	int ranks;
	uint64_t seed;               /* of the order in which wards step */
	uint64_t steps;
	struct cx_calls calls[GROVE_MAX];
	struct cx_ward *ward[GROVE_MAX]; /* NULL: it is gone */
	uint64_t due[GROVE_MAX];
};

/* leader[r]: of r's host; its own number where it is one itself. leader[0] is 0. */
void grove_open(struct grove *g, int ranks, const int *leader, uint64_t seed);
void grove_close(struct grove *g);

uint64_t grove_now_ms(void);

/* One step of one ward that is drawn; moves the clock when nobody has anything to do
 * before. */
void grove_step(struct grove *g);
/* So many milliseconds. */
void grove_run(struct grove *g, unsigned ms);
/* Until every ward has a verdict, so many milliseconds at most. */
void grove_settle(struct grove *g, unsigned ms);

/* Its process ends. */
void grove_kill(struct grove *g, int rank);
/* It leaves, as soon as its ward steps. */
void grove_leave(struct grove *g, int rank);
/* It begins its next call, or ends the one that it is in. */
void grove_begin(struct grove *g, int rank, uint64_t count, uint64_t what);
void grove_end(struct grove *g, int rank);
/* It reports an error of its call, where it is in one. */
void grove_post(struct grove *g, int rank, int code, bool hearsay, const char *text);
/* Its call has waited long. */
void grove_nudge(struct grove *g, int rank);

int grove_code(const struct grove *g, int rank);
const char *grove_text(const struct grove *g, int rank);

#endif
