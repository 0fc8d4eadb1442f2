/* SPDX-License-Identifier: BSD-3-Clause */
/* The communicator: who its ranks are, and how one call is carried through. */
#ifndef CX_COMM_H
#define CX_COMM_H

#include <stdatomic.h>
#include <stdbool.h>
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

/* What send and recv keep. */
struct cx_p2p {
	struct cx_plan plan; /* of one step, written anew for each message */
	struct cx_step step;
	int32_t after;
	uint64_t (*messages)[2]; /* [peer][0: sent, 1: received] so far */
	size_t stood;            /* 1 + bytes moved when the peer was seen to have left; or 0 */
};

/* What a communicator goes by; a next one made of it inherits them. */
struct cx_terms {
	uint64_t op_timeout_ns;
	uint32_t heartbeat_ms, silence_ms, straggler_ms, ring_hosts; /* rank 0's count */
	unsigned flags;         /* COLLX_CONTINUE */
};

struct cx_herald;

struct collx_comm {
	int rank, size;
	unsigned forks;        /* cx_fork_count when it was made: a child's is higher */
	_Atomic int error;     /* sticky: why this communicator is dead */
	char text[CX_FAULT_TEXT_MAX];
	uint64_t seq;          /* collectives begun */
	uint64_t chain;        /* a hash of them all: ranks that differ once differ for ever */
	uint64_t promise;      /* of the call: CX_SIGN_UNIFORM, or 0 */
	bool wired;            /* some ranks are connected: calls send and receive */
	struct cx_terms terms;
	uint32_t beat_ms;      /* between this rank's signs of life; 0: it gives none */
	struct cx_wait_limits limits;
	unsigned spin_ns;      /* of the next wait: less after spinning in vain */
	uint64_t waited_ns;    /* by the call whose deadline passed */
	bool decides;          /* in the decision at the end of a call */
	struct cx_select_agreed agreed;
	struct cx_exec exec;
	struct cx_cached_plan plans[CX_PLANS];
	struct cx_p2p p2p;
	struct cx_calls calls;
	struct cx_ward *guard;
	uint64_t nudged_ns;    /* when it last was */
	struct cx_boot *boot;  /* until it is made */
	struct cx_nest nest;   /* the same */
	struct cx_rally *rally; /* the same */
	unsigned wrong_proofs; /* that came while the ranks met */
	struct cx_herald *_Atomic herald; /* who calls back; a handle's */
	_Atomic int bell[CX_BELLS]; /* a handle's; -1: not asked for */
	unsigned number;       /* how many came before it behind its handle */
	struct cx_cause why;   /* the one before ended; code 0: none came before */
	/* A caller's handle is its first communicator; what took its place stands behind it. */
	struct collx_comm *_Atomic heir;  /* a handle's: where it leads now; NULL: to itself */
	struct collx_comm *handle; /* that leads here, or did: itself where none came before */
	struct collx_comm *past;   /* in whose place this one is */
	_Atomic int askers;    /* threads that look at it, whoever may replace it */
	bool retired;          /* it is past, and has nothing but this structure */
	_Atomic bool inside;   /* a thread is in a message; of collectives `calls` tells */
	_Atomic bool deciding; /* in a decision, or in a call that ends with one */
	struct collx_comm *next_handle; /* leave.c's */
	int *origin;           /* [rank]: its number in the first communicator */
	void *kept;            /* a copy of an input */
	size_t kept_len;
	struct cx_medium media[CX_MEDIA]; /* the first nmedia are open */
	int nmedia;
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
	int root; /* of send and recv: the peer */
};

/* Creates a communicator over a meeting; wipes the meeting's secret. */
int cx_comm_open(struct collx_comm **out, struct cx_meeting *m, const struct cx_terms *terms);
void cx_comm_close(struct collx_comm *c);
/* All of it but the structure. */
void cx_comm_shut(struct collx_comm *c);

/* Around a message; of one thread at a time. */
static inline void cx_comm_enter(struct collx_comm *c)
{
	atomic_store_explicit(&c->inside, true, memory_order_relaxed);
}

/* From here on it may be gone. Returns rc. */
static inline int cx_comm_exit(struct collx_comm *c, int rc)
{
	/* Pairs with the acquire in leave.c: nothing of it is used any more. */
	atomic_store_explicit(&c->inside, false, memory_order_release);
	return rc;
}

/* Around a decision, and a call that ends with one: two at a time would each take the other's
 * vote for its own. 0, or COLLX_ERR_INVALID: another thread is in one, or was just now, and c
 * is past. */
int cx_comm_claim(struct collx_comm *c, const char *name);
/* As cx_comm_exit. */
static inline int cx_comm_unclaim(struct collx_comm *c, int rc)
{
	atomic_store_explicit(&c->handle->deciding, false, memory_order_release);
	return rc;
}

/* next stands behind c's handle from now on. An abort that came on c meanwhile comes on next,
 * as does any wish but `own`, which the caller has had itself. Claimed. */
void cx_comm_replace(struct collx_comm *c, struct collx_comm *next, int own);
/* The handle's bell, which rings for what it leads to, whatever that is; or an error. */
int cx_comm_bell(struct collx_comm *handle, enum cx_bell which);
/* Gives back what those hold that c has replaced, as soon as nobody looks at them. Claimed. */
void cx_comm_retire_past(struct collx_comm *c);

/* In total order with cx_comm_replace. */
static inline bool cx_comm_leads_to(const struct collx_comm *handle, const struct collx_comm *c)
{
	const struct collx_comm *heir = atomic_load(&handle->heir);

	return c == (heir ? heir : handle);
}

/* For a thread that may be another one than the caller's: where the handle leads, which is
 * not given back before cx_comm_let. Safe in a signal handler. */
struct collx_comm *cx_comm_hold(struct collx_comm *handle);
static inline void cx_comm_let(struct collx_comm *c)
{
	/* Pairs with the load in leave.c: it does not look any more. */
	atomic_fetch_sub_explicit(&c->askers, 1, memory_order_release);
}

/* A caller has it from now on. */
void cx_comm_hand_out(struct collx_comm *c);
/* As collx_comm_destroy. */
int cx_comm_leave(struct collx_comm *c);

/* COLLX_ERR_FORKED in a child; `name` is the call's. */
int cx_comm_check_fork(const struct collx_comm *c, const char *name);
/* A call's options, and its timeout; UINT64_MAX: none. */
int cx_comm_check_opts(const struct collx_comm *c, const char *name, const collx_opts *o,
		       uint64_t *timeout_ns);

/* Begins a call: its plan, and what the guard must know of it. 0, or an error. */
int cx_comm_start(struct collx_comm *c, const struct cx_request *r);
/* The call that was begun is done. */
static inline void cx_comm_finish(struct collx_comm *c)
{
	cx_calls_end(&c->calls, c->seq);
}

/* The communicator to which a handle leads now. */
static inline struct collx_comm *cx_comm_now(struct collx_comm *c)
{
	/* Pairs with the store in cx_comm_replace: it is whole. */
	struct collx_comm *heir = c ? atomic_load_explicit(&c->heir, memory_order_acquire) : NULL;

	return heir ? heir : c;
}

/* An error of this rank: closes the lanes, and returns what all make of it. */
int cx_comm_die(struct collx_comm *c, const struct cx_request *r, int code);

/* Carries a call through, blocking. timeout_ns UINT64_MAX: none. */
int cx_comm_run(struct collx_comm *c, const struct cx_request *r, uint64_t timeout_ns);

/* The same with promises: COLLX_PRESERVE, COLLX_UNIFORM, and CX_GOES_ON for a
 * communicator of that kind. */
enum { CX_GOES_ON = 1 << 16 };
int cx_careful_run(struct collx_comm *c, const struct cx_request *r, unsigned flags,
		   uint64_t timeout_ns);

/* The call as the executor wants it, with its plan; for cx_comm_run and for
 * tests that drive executors themselves. */
int cx_comm_prepare(struct collx_comm *c, const struct cx_request *r, struct cx_call *call);

/* ---- decisions: recover.c; until_ns UINT64_MAX: without a deadline ---- */

int cx_recover_agree(struct collx_comm *c, uint64_t *flags, struct cx_set *failed,
		     uint64_t until_ns);
/* Did this call succeed on all ranks? outvoted: others repair, or agree. */
int cx_recover_commit(struct collx_comm *c, bool *ok, struct cx_set *failed, bool *outvoted,
		      uint64_t until_ns);
int cx_recover_shrink(struct collx_comm *c, const struct cx_set *exclude, uint64_t until_ns,
		      struct collx_comm **out);
int cx_recover_grow(struct collx_comm *c, int joiners, const collx_unique_id *id,
		    uint64_t until_ns, struct collx_comm **out);

/* ---- the callback's thread: herald.c ---- */

int cx_herald_start(struct collx_comm *c, collx_event_fn fn, void *ctx);
/* Where there is one. */
void cx_herald_stop(struct collx_comm *c);
/* Is this its thread? */
bool cx_herald_is_here(const struct collx_comm *c);

/* ---- send and recv: p2p.c ---- */

int cx_p2p_init(struct cx_p2p *p, int ranks);
void cx_p2p_fini(struct cx_p2p *p);
int cx_p2p_prepare(struct collx_comm *c, const struct cx_request *r, struct cx_call *call);

/* Looked at now and then while a message waits: COLLX_ERR_PEER_LEFT when its other end
 * has left and nothing that it sent is on its way any more. */
int cx_p2p_watch(struct collx_comm *c);

/* An error of the running message in the words of both calls. Returns its code. */
int cx_p2p_explain(struct collx_comm *c, const struct cx_request *r, int code);

#endif
