/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames on an authenticated control connection: a fixed head, at most
 * CX_FRAME_MAX bytes after it, and at most one descriptor. Both directions are
 * non-blocking; a connection buffers one incoming frame.
 *
 * The head has a sum of all the rest: a byte that was changed on the way is always found,
 * more of them but once in 2^32. It is against accidents, not against a peer that lies.
 */
#ifndef CX_WIRE_H
#define CX_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	CX_FRAME_MAX = 512,
	CX_FAULT_TEXT_MAX = 448 /* an error's line on its way */
};

enum cx_frame_kind {
	CX_FRAME_RECORD = 1, /* arg: whose record */
	CX_FRAME_FAULT,      /* arg: code; the body is its text */
	/* while the ranks meet: meet.c, boot.c */
	CX_FRAME_WELCOME = 32, /* down; arg: who lets in */
	CX_FRAME_SEATED,       /* up; arg: who came to this leader */
	CX_FRAME_GONE,         /* up; arg: who of those ended */
	CX_FRAME_SEATS,        /* down, when all have come: the leaders of ranks arg, arg + 1... */
	CX_FRAME_OVERDUE,      /* up: a deadline has passed, rank 0 knows who is missing */
	/* afterwards, between guards */
	CX_FRAME_LEAVE = 64, /* arg: who; ward.c has the body */
	CX_FRAME_REPORT,     /* up; arg: who saw it; ward.c has the body */
	CX_FRAME_SIGNS,      /* up; arg: whose; the body is a struct cx_account */
	CX_FRAME_VERDICT,    /* down; arg: code; the body is its text */
	CX_FRAME_ASK,        /* down; arg: number of the question */
	CX_FRAME_STATUS,     /* up, with a heartbeat: as SIGNS, and nobody waits long */
	CX_FRAME_LATE,       /* down; a struct cx_late */
	CX_FRAME_SILENT,     /* up, before the report of it; and around the ring; arg: who */
	CX_FRAME_BLAMED,     /* down, before a verdict about several ranks; a struct cx_set */
	/* of the council: council.h has the bodies */
	CX_FRAME_JOIN = 96,  /* to the chair */
	CX_FRAME_ACCEPTED,   /* to the chair, behind JOIN: what was accepted before */
	CX_FRAME_VOTE,       /* to the chair */
	CX_FRAME_PROPOSE,    /* from the chair */
	CX_FRAME_ACCEPT,     /* to the chair */
	CX_FRAME_DECIDED,    /* from whoever knows */
	CX_FRAME_RESIGN,     /* from the chair */
	CX_FRAME_LOST,       /* between the chair and its members: who is dead; between
			      * guards, without a body; arg: who */
	/* of both */
	CX_FRAME_BEAT = 112, /* I am here */
	CX_FRAME_CONVENE,    /* a council begins */
	CX_FRAME_PART,       /* this connection ends, and nobody dies */
	CX_FRAME_ABORT       /* on the tree, each way; arg: who aborted. In the council, from
			      * whoever knows: a struct cx_council_abort */
};

struct cx_frame_head {
	uint16_t kind;
	uint16_t len;
	int32_t arg;
	uint32_t sum;
};

struct cx_frame_head cx_frame_head(enum cx_frame_kind kind, int arg, const void *body,
				   size_t len);

struct cx_wire {
	int fd;              /* -1: closed */
	size_t have;         /* bytes of head and body that are here */
	int passed_fd;       /* -1: none */
	bool torn;           /* what was sent last stopped in the middle */
	struct cx_frame_head head;
	unsigned char body[CX_FRAME_MAX];
};

void cx_wire_init(struct cx_wire *w, int fd);
/* What was sent comes to the other end, although it may have sent what nobody reads. */
void cx_wire_close(struct cx_wire *w);

/* Is a frame here, or what cannot be one, about which cx_wire_receive says no more? */
static inline bool cx_wire_is_full(const struct cx_wire *w)
{
	return w->have >= sizeof(w->head) &&
	       (w->head.len > CX_FRAME_MAX || w->have == sizeof(w->head) + w->head.len);
}

/* Nothing more is sent. */
void cx_wire_finish(struct cx_wire *w);

/* Sends a whole frame, waiting for room until the deadline (0: not at all).
 * 0; COLLX_ERR_PEER_DEAD when the other end is gone; COLLX_ERR_INIT_TIMEOUT. What stopped
 * in the middle is the last: the other end would take more for the rest of it. */
int cx_wire_send(struct cx_wire *w, enum cx_frame_kind kind, int arg, const void *body, size_t len,
		 int fd, uint64_t deadline_ns);

/* Puts a frame into buf, for cx_wire_send_packed to send several at once: its length, or 0
 * when room does not suffice. */
size_t cx_wire_pack(void *buf, size_t room, enum cx_frame_kind kind, int arg, const void *body,
		    size_t len);

int cx_wire_send_packed(struct cx_wire *w, const void *frames, size_t len, uint64_t deadline_ns);
/* The same without waiting. *frames and *len are what is left with COLLX_ERR_INIT_TIMEOUT. */
int cx_wire_send_some(struct cx_wire *w, const char **frames, size_t *len);

/* 1: a whole frame is in head and body (and passed_fd, now the caller's); 0: not
 * yet; COLLX_ERR_PEER_DEAD at the end; COLLX_ERR_CORRUPT for an impossible head or a
 * wrong sum. */
int cx_wire_receive(struct cx_wire *w);
/* Gives the socket what it takes of len bytes, now. Bytes; 0: none; COLLX_ERR_PEER_DEAD
 * when the other end takes nothing more. */
long cx_wire_push(struct cx_wire *w, const void *bytes, size_t len);

/* Makes room for the next frame. */
void cx_wire_next(struct cx_wire *w);
/* Reads what is there, of which nothing counts any more. COLLX_ERR_PEER_DEAD at the end. */
int cx_wire_drop(struct cx_wire *w);

/* Sends or receives exactly len raw bytes of the handshake. */
int cx_wire_put(int fd, const void *buf, size_t len, uint64_t deadline_ns);
int cx_wire_get(int fd, void *buf, size_t len, uint64_t deadline_ns);

/* Waits for an event until the deadline. 1, 0 when it passed, or an error. */
int cx_wire_wait(int fd, short events, uint64_t deadline_ns);

#endif
