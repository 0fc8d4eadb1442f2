/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A collective as data: an array of fixed-size steps over named buffers and
 * numbered blocks. No addresses, byte counts, types or transports; those meet
 * the plan in exec.c only. This header is the room's contract.
 *
 * The model. A call's data is cut into segments, a segment into plan->nblocks
 * blocks. The plan is run once per segment. Three buffers:
 *
 *   IN   the caller's input, never written        IN[b]  is block b
 *   OUT  the caller's output, finished values only OUT[b] is block b
 *   TMP  library scratch, plan->nslots slots of one block each; holds partial
 *        results in the accumulation type (float32 for 16-bit floats)
 *
 * IN and OUT may be the same memory (block b of one on block b of the other).
 * A message is "wide" (in the accumulation type) when it is sent from TMP by a
 * reducing collective; the receiving step says so too (CX_WIDE).
 *
 * Every step works on blocks blk .. blk + nblk - 1. Where an operand is IN or
 * OUT, it is those blocks of it. Where it is TMP, it is nblk slots from a slot
 * number that the step names: slot `dst` for the destination, `src` for the
 * source. REDUCE reads two operands: a (slot `dst` when TMP) and b (slot `src`).
 *
 *   SEND         to peer <- a                      (a in TMP: slot src)
 *   RECV         dst <- from peer
 *   RECV_REDUCE  dst <- a (op) incoming             (a in TMP: slot src);
 *                with CX_LEFT: dst <- incoming (op) a
 *   COPY         dst <- a                           (a in TMP: slot src)
 *   REDUCE       dst <- a (op) b                    (a in TMP: slot dst)
 *
 * CX_LAST marks the step whose result is the finished value of its blocks (all
 * ranks combined): there an average is divided. OUT is never written with
 * anything that is not finished.
 */
#ifndef CX_PLAN_H
#define CX_PLAN_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum cx_coll {
	CX_ALLREDUCE,
	CX_REDUCE_SCATTER,
	CX_ALLGATHER,
	CX_BROADCAST,
	CX_REDUCE,
	CX_BARRIER,
	CX_NCOLL,
	CX_SEND, /* these two are no collectives: p2p.c makes their one step */
	CX_RECV
};
const char *cx_coll_name(enum cx_coll coll);
/* By name; CX_NCOLL when there is none. */
enum cx_coll cx_coll_find(const char *name);

enum cx_opcode { CX_OP_SEND, CX_OP_RECV, CX_OP_RECV_REDUCE, CX_OP_COPY, CX_OP_REDUCE };
enum cx_buf { CX_NONE, CX_IN, CX_OUT, CX_TMP };
enum {
	CX_LEFT = 1, /* RECV_REDUCE: the incoming operand stands left */
	CX_WIDE = 2, /* SEND, RECV, RECV_REDUCE: the message is a partial result */
	CX_LAST = 4  /* RECV_REDUCE, REDUCE: the result is finished */
};

struct cx_step {
	uint8_t op;    /* enum cx_opcode */
	uint8_t flags;
	uint16_t dst_buf : 4, a_buf : 4, b_buf : 4, unused : 4; /* enum cx_buf */
	int32_t peer;  /* -1 where there is none */
	uint32_t blk, nblk;
	uint32_t dst, src; /* slots of TMP */
};
_Static_assert(sizeof(struct cx_step) == 24, "a step is 24 bytes");

/* What a builder may look at. Rooted collectives are built for root 0. */
struct cx_shape {
	int ranks;
	int rank;
};

/* What a plan needs beyond its steps, filled by the builder. */
struct cx_plan {
	const struct cx_algo *algo;
	struct cx_shape shape;
	uint32_t nblocks; /* blocks of a segment */
	uint32_t nslots;  /* slots of TMP */
	uint32_t nsteps;
	uint32_t room;    /* steps allocated */
	struct cx_step *steps;
	int32_t *after;   /* steps 0..after[i] must be done before i starts; -1: none */
	int err;          /* sticky: first error of the builder */
};

/* ---- algorithms: algo_*.c, listed in plan.c ---- */

enum {
	CX_ALGO_CANONICAL = 1,   /* reduces by the canonical tree (DESIGN section 10) */
	CX_ALGO_RANK_ORDER = 2,  /* operands stay in rank order */
	CX_ALGO_MULTI_BLOCK = 4  /* has steps of more than one block */
};

struct cx_algo {
	enum cx_coll coll;
	const char *name;
	void (*build)(struct cx_plan *plan);
	unsigned flags;
	const char *steps; /* cost in words for tables: "2(P-1)" */
	const char *bytes; /* sent per rank: "2n(P-1)/P" */
};

extern const struct cx_algo *const cx_algos[]; /* NULL-terminated */
/* By name; NULL when that collective has no such algorithm. */
const struct cx_algo *cx_algo_find(enum cx_coll coll, const char *name);

/* ---- building; for algorithm files ---- */

/* Appends return nothing: the first error sticks in plan->err. A TMP operand's
 * slot is given with cx_tmp(), IN and OUT with cx_in and cx_out. */
struct cx_operand {
	enum cx_buf buf;
	uint32_t slot;
};
#define cx_in ((struct cx_operand){ CX_IN, 0 })
#define cx_out ((struct cx_operand){ CX_OUT, 0 })
#define cx_tmp(slot_) ((struct cx_operand){ CX_TMP, (slot_) })

void cx_plan_send(struct cx_plan *p, int peer, struct cx_operand a, uint32_t blk, uint32_t nblk);
/* flags: CX_WIDE, when the peer sends from TMP. */
void cx_plan_recv(struct cx_plan *p, int peer, struct cx_operand dst, uint32_t blk, uint32_t nblk,
		  unsigned flags);
/* flags: CX_WIDE, CX_LEFT, CX_LAST. */
void cx_plan_recv_reduce(struct cx_plan *p, int peer, struct cx_operand dst, struct cx_operand a,
			 uint32_t blk, uint32_t nblk, unsigned flags);
void cx_plan_copy(struct cx_plan *p, struct cx_operand dst, struct cx_operand a, uint32_t blk,
		  uint32_t nblk);
/* dst = a op b; where dst and a are both TMP they are the same slot. flags: CX_LAST. */
void cx_plan_reduce(struct cx_plan *p, struct cx_operand dst, struct cx_operand a,
		    struct cx_operand b, uint32_t blk, uint32_t nblk, unsigned flags);

/* ---- for everybody ---- */

/*
 * Builds and finishes a plan: validates every step and computes `after`, with
 * IN and OUT taken as the same memory so that one plan serves both forms.
 * Errors: COLLX_ERR_INVALID (bad shape), COLLX_ERR_NOMEM, COLLX_ERR_INTERNAL.
 */
int cx_plan_create(struct cx_plan **out, const struct cx_algo *algo, const struct cx_shape *shape);
void cx_plan_destroy(struct cx_plan *plan);

/* The plan as text, one step a line; the tests' golden files are this. */
void cx_plan_print(const struct cx_plan *plan, FILE *to);

/* Proves an algorithm for `ranks` ranks, apart and in place (plan_check.c); 0, or
 * COLLX_ERR_INTERNAL with the reason as this thread's error line. */
int cx_plan_check(const struct cx_algo *algo, int ranks);
/* The same for given plans (one a rank), which a test may have damaged. */
int cx_plan_check_set(struct cx_plan *const *plans, int ranks);

#endif
