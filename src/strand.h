/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A wire, and what waits to go over it in a bounded buffer; nothing here waits. Where
 * the buffer is full the other end has not read for long.
 */
#ifndef CX_STRAND_H
#define CX_STRAND_H

#include <stdbool.h>

#include "wire.h"

struct cx_strand {
	struct cx_wire wire;
	int rank;           /* at the other end */
	bool mute;          /* which takes nothing more */
	bool silent;        /* and was given up, for its owner */
	bool deaf;          /* what comes from there does not count, for its owner */
	bool ends;          /* all was said, for its owner: its end is waited for */
	bool spoke;         /* something came from there, for its owner */
	bool beside;        /* neither above nor below, for its owner */
	bool quiet;         /* no heartbeats go over it, either way, for its owner */
	size_t at, len, room; /* out[at] to out[len - 1] wait */
	unsigned char *out; /* the owner's */
	uint64_t heard_ns, said_ns; /* when last */
	int number;         /* in a round's poll, for its owner */
};

/* Over this descriptor from now on. */
void cx_strand_open(struct cx_strand *s, int rank, int fd, uint64_t now_ns);

/* Bytes that still fit. */
static inline size_t cx_strand_room(const struct cx_strand *s)
{
	return s->room - (s->len - s->at);
}

/* False: it does not fit. To one that is closed or mute everything fits. */
bool cx_strand_say(struct cx_strand *s, enum cx_frame_kind kind, int arg, const void *body,
		   size_t len, uint64_t now_ns);
/* Something came: now, or a frame before the wire was this strand's. */
static inline bool cx_strand_has_word(const struct cx_strand *s, bool came)
{
	return s->wire.fd >= 0 &&
	       (came || (!s->deaf && !s->ends && cx_wire_is_full(&s->wire)));
}
/* Gives the kernel what it takes. */
void cx_strand_flush(struct cx_strand *s);
/* Does something wait that may still be taken? */
bool cx_strand_waits(const struct cx_strand *s);
void cx_strand_cut(struct cx_strand *s);

#endif
