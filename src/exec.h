/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The executor: the only place where plans, transports and kernels meet. It cuts
 * a call into segments, runs the plan once per segment with several segments
 * under way (one cursor and one lane each), and combines incoming pieces while
 * they are in cache. It never blocks; comm.c waits.
 */
#ifndef CX_EXEC_H
#define CX_EXEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../kernels/kernel.h"
#include "../transports/transport.h"
#include "collx.h"
#include "plan.h"

enum {
	CX_CURSORS = 2, /* segments under way; each has a lane of every pair */
	CX_P2P_LANE = CX_CURSORS, /* send and recv have one of their own */
	CX_LANES,
	CX_MEDIA = 2,   /* transports of a communicator */
	CX_WINDOW = 16  /* steps under way in a segment; plan_check.c proves this window */
};

/* A transport, and this rank's port of it. */
struct cx_medium {
	const struct cx_transport *transport;
	struct cx_port *port;
};

/* How a lane's other end is reached: by which of the media, and its address there. */
struct cx_way {
	int medium;
	struct cx_addr addr;
};

/* One call, as the executor sees it. */
struct cx_call {
	const struct cx_plan *plan;
	const void *in;
	void *out;
	size_t count;        /* elements: of a block when fixed_blocks, else of the whole */
	size_t block_bytes;  /* wanted size of a segment's block */
	collx_type type;
	collx_op op;
	int root;            /* 0 where there is none */
	int fixed_blocks;    /* block b belongs to rank b, by the caller's layout */
	uint32_t in_first;   /* the block at which `in` points */
	uint32_t out_first;
	uint32_t tag;        /* what all ranks must agree on, hashed */
	int lane;            /* of the first cursor: 0, or CX_P2P_LANE where it is the only one */
	uint64_t number;     /* of the operation, for error lines */
};

/* One end of a lane. Receiving steps queue up: tickets in order of starting. */
struct cx_link {
	struct cx_lane *lane;
	const struct cx_transport *transport;
	uint32_t turn; /* the ticket that may receive now */
	uint32_t next; /* the next ticket to give */
};

/* A step under way. */
struct cx_flight {
	uint32_t step;
	uint32_t ticket;
	int posted; /* its receive was handed to the transport */
	int done;
	struct cx_link *link;
	struct cx_xfer x;
};

/* A segment under way. */
struct cx_cursor {
	size_t segment;       /* SIZE_MAX: none */
	int lane;
	size_t offset;        /* elements: of the segment in the call, or in each block */
	size_t len;           /* elements of the segment, or of its piece of each block */
	size_t chunk;         /* elements of one block of the segment */
	uint32_t done, next;  /* steps finished in a row; next one to start */
	char *tmp;
	struct cx_flight flight[CX_WINDOW];
};

struct cx_exec {
	int rank, ranks;
	struct cx_medium media[CX_MEDIA]; /* the caller's */
	int nmedia;
	const struct cx_kernels *kernels;
	struct cx_link *links; /* [peer * CX_LANES + lane] */
	struct pollfd *fds;    /* to wait for several media */
	char *tmp;             /* CX_CURSORS pieces of tmp_bytes */
	size_t tmp_bytes;
	/* the running call */
	struct cx_call call;
	size_t elem, acc;      /* bytes of an element, and of a partial result */
	size_t segment_elems;
	size_t segments;
	struct cx_cursor cursor[CX_CURSORS];
};

/* Lanes to all peers over open ports, pollable ones where there are several;
 * ways[peer * CX_LANES + lane]. */
int cx_exec_init(struct cx_exec *e, int rank, int ranks, const struct cx_medium *media, int nmedia,
		 const struct cx_way *ways, const struct cx_kernels *kernels);

/* Closes the lanes: from here nothing touches a caller's buffer. Twice is fine. */
void cx_exec_fence(struct cx_exec *e);
void cx_exec_fini(struct cx_exec *e);

/* Begins a call; takes scratch memory when it needs more than ever before. */
int cx_exec_start(struct cx_exec *e, const struct cx_call *call);

/* Moves on what can be moved. 1: the call is finished; 0: not yet, and *moved
 * says if anything happened; negative: the call failed. */
int cx_exec_poll(struct cx_exec *e, int *moved);

/* From arm on, whatever lets a call move on ends the next sleep at once, if the caller
 * polled once more in between. timeout_ns 0: only disarms. */
void cx_exec_arm(struct cx_exec *e);
void cx_exec_sleep(struct cx_exec *e, uint64_t timeout_ns);

/* Has something of the running call come from others or, where it only sends, gone out? It
 * is the running one if it was started with this number, on that lane. */
bool cx_exec_has_moved(const struct cx_exec *e, uint64_t number, int lane);

/* Where a call stands, for an error line: writes "receiving from rank 3 (1/2)". */
void cx_exec_describe(const struct cx_exec *e, char *text, size_t len);

#endif
