/* SPDX-License-Identifier: BSD-3-Clause */
/* The communicator: who its ranks are, and how one call is carried through. */
#ifndef CX_COMM_H
#define CX_COMM_H

#include <stdint.h>

#include "boot.h"
#include "collx.h"
#include "exec.h"
#include "guard.h"
#include "select.h"
#include "topo.h"

enum { CX_PLANS = 32 /* plans kept; the least recently used makes room */ };

struct cx_cached_plan {
	struct cx_plan *plan;
	uint64_t used; /* operation that used it last */
};

struct collx_comm {
	int rank, size;
	unsigned forks;        /* cx_fork_count when it was made: a child's is higher */
	int error;             /* sticky: why this communicator is dead */
	char text[CX_FAULT_TEXT_MAX];
	uint64_t seq;          /* operations begun */
	uint64_t op_timeout_ns;
	struct cx_wait_limits limits;
	unsigned spin_ns;      /* of the next wait: less after spinning in vain */
	struct cx_select_agreed agreed;
	struct cx_exec exec;
	struct cx_cached_plan plans[CX_PLANS];
	struct cx_calls calls;
	struct cx_ward *guard;
	uint64_t nudged_ns;    /* when it last was */
	struct cx_boot *boot;  /* until it is made */
	const struct cx_transport *transport;
	struct cx_port *port;
	struct cx_topo topo;
	uint64_t nonce;        /* of this communicator, drawn by rank 0 */
};

/* One call as the API gives it. Arguments are checked here. */
struct cx_request {
	enum cx_coll coll;
	const void *in;
	void *out;
	size_t count;
	collx_type type;
	collx_op op;
	int root;
};

/* Creates a communicator over a meeting; wipes the meeting's secret. */
int cx_comm_open(struct collx_comm **out, struct cx_meeting *m, uint64_t op_timeout_ns);
void cx_comm_close(struct collx_comm *c);

/* Begins a call: its plan, and what the guard must know of it. 0, or an error. */
int cx_comm_start(struct collx_comm *c, const struct cx_request *r);
/* The call that was begun is done. */
static inline void cx_comm_finish(struct collx_comm *c)
{
	cx_calls_end(&c->calls, c->seq);
}

/* Carries a call through, blocking. timeout_ns UINT64_MAX: none. */
int cx_comm_run(struct collx_comm *c, const struct cx_request *r, uint64_t timeout_ns);

/* The call as the executor wants it, with its plan; for cx_comm_run and for
 * tests that drive executors themselves. */
int cx_comm_prepare(struct collx_comm *c, const struct cx_request *r, struct cx_call *call);

#endif
