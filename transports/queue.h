/* SPDX-License-Identifier: BSD-3-Clause */
/* The transfers posted on one direction of a lane, oldest first; for transport files. */
#ifndef CX_QUEUE_H
#define CX_QUEUE_H

#include <stdbool.h>

#include "transports/transport.h"

struct cx_queue {
	struct cx_xfer *head;
	struct cx_xfer **tail;
};

static inline void cx_queue_init(struct cx_queue *q)
{
	q->head = NULL;
	q->tail = &q->head;
}

static inline void cx_queue_push(struct cx_queue *q, struct cx_xfer *x)
{
	x->next = NULL;
	*q->tail = x;
	q->tail = &x->next;
}

static inline struct cx_xfer *cx_queue_pop(struct cx_queue *q)
{
	struct cx_xfer *x = q->head;

	q->head = x->next;
	if (!q->head)
		q->tail = &q->head;
	return x;
}

/* The lane is dead: all that was posted fails with err. */
static inline void cx_queue_fail(struct cx_queue *q, int err)
{
	while (q->head)
		cx_queue_pop(q)->status = err;
}

/* Works the queue off as far as `move` gets, which answers 1 for done, 0 for not yet,
 * or an error and has failed the queue then. True if anything moved. */
static inline bool cx_queue_advance(struct cx_queue *q, struct cx_lane *lane,
				    int (*move)(struct cx_lane *, struct cx_xfer *))
{
	bool moved = false;

	while (q->head) {
		size_t before = q->head->done;
		int r = move(lane, q->head);

		if (r == 1)
			cx_queue_pop(q);
		moved |= r != 0 || q->head->done != before;
		if (r != 1)
			break;
	}
	return moved;
}

#endif
