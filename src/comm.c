/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One call after the other, and the first error, which ends the communicator. After
 * an error the lanes are closed before the call returns, so that nothing touches the
 * caller's buffers any more.
 */
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "comm.h"

/* ---- waiting ---- */

enum {
	SLEEP_NS = 5000000,
	NUDGE_AFTER_NS = 20000000, /* of waiting */
	NUDGE_NEXT_NS = 100000000,   /* between two calls' nudges */
	NUDGE_AGAIN_NS = 1000000000, /* in one call */
	EAGER_POLLS = 32, /* without a pause, which costs as much as a message */
	POLLS_A_LOOK = 64 /* polls for each reading of the clock */
};

/* The longest wait when nobody would tell that who is waited for died or left. */
static const uint64_t blind_ns = 60000000000;

struct wait {
	uint64_t since;   /* nothing moved since then; 0: not measured yet */
	uint64_t start;   /* of the call, as first looked at */
	unsigned idle;    /* polls since anything moved */
	unsigned busy;    /* polls that moved something */
	bool in_vain;     /* the spin of this pause is over */
	bool held;        /* from being cancelled, since the first system call, */
	int was;          /* as it was not before */
};

/* Is it a send or recv that runs, and no collective? */
static bool is_message(const struct collx_comm *c)
{
	return c->exec.call.plan == &c->p2p.plan;
}

static int timed_out(struct collx_comm *c, uint64_t waited_ns)
{
	struct cx_sign signs[CX_SIGNS];
	char where[160], call[128];
	uint64_t state;
	unsigned n;

	c->waited_ns = waited_ns;
	cx_exec_describe(&c->exec, where, sizeof(where));
	if (is_message(c))
		return cx_fail(COLLX_ERR_TIMEOUT, "%s, message %llu: rank %d waited %.1f s, %s",
			       cx_coll_name(c->p2p.plan.algo->coll),
			       (unsigned long long)c->exec.call.number, c->rank,
			       (double)waited_ns / 1e9, where);
	n = cx_calls_read(&c->calls, &state, signs);
	cx_sign_words(&signs[n - 1], call, sizeof(call));
	return cx_fail(COLLX_ERR_TIMEOUT, "%s, operation %llu: rank %d waited %.1f s, %s", call,
		       (unsigned long long)c->seq, c->rank, (double)waited_ns / 1e9, where);
}

/* Somebody may have called something else that never meets this. */
static void nudge(struct collx_comm *c, const struct wait *w, uint64_t now)
{
	uint64_t again_ns = c->nudged_ns > w->start ? NUDGE_AGAIN_NS : NUDGE_NEXT_NS;

	if (now - w->start < NUDGE_AFTER_NS || now - c->nudged_ns < again_ns)
		return;
	c->nudged_ns = now;
	cx_guard_nudge(c->guard);
}

/* Here and not before: it costs as much as a fiftieth of a small message. */
static void hold(struct wait *w)
{
	if (!w->held)
		w->was = cx_cancel_hold();
	w->held = true;
}

/* The clock's part of waiting: verdict, deadline and guard, now and then. */
static int look(struct collx_comm *c, struct wait *w, uint64_t now, uint64_t timeout_ns)
{
	hold(w);
	if (!w->start)
		w->start = now;
	if (is_message(c) ? cx_guard_verdict(c->guard) || cx_guard_is_dropped(c->guard)
			  : cx_calls_last(&c->calls) < c->seq)
		return COLLX_ERR_PEER_LEFT; /* or what the verdict is */
	if (cx_guard_is_blind(c->guard))
		timeout_ns = cx_min(timeout_ns, blind_ns);
	if (now - w->start > timeout_ns)
		return timed_out(c, now - w->start);
	nudge(c, w, now);
	return cx_p2p_watch(c);
}

/*
 * Spinning pays while the peers run on other cores. Where they wait for this very
 * core, as when somebody else's process has taken one, each spin is lost time for
 * both; the next one is shorter then, and grows again as it succeeds.
 */
static void spun_in_vain(struct collx_comm *c, struct wait *w)
{
	if (!w->in_vain)
		c->spin_ns /= 4;
	w->in_vain = true;
}

/* Something moved. */
static void go_on(struct collx_comm *c, struct wait *w)
{
	if (w->idle && !w->in_vain)
		c->spin_ns = (unsigned)cx_min(2 * c->spin_ns + 1000, c->limits.spin_ns);
	w->since = w->idle = 0;
	w->in_vain = false;
}

/* Sleeps until something may have changed, unless it already did. */
static int doze(struct collx_comm *c, int *moved)
{
	int rc;

	cx_exec_arm(&c->exec);
	rc = cx_exec_poll(&c->exec, moved);
	cx_exec_sleep(&c->exec, rc || *moved ? 0 : SLEEP_NS);
	return rc;
}

/* Nothing moved: spin, then yield, then sleep. As cx_exec_poll. */
static int idle(struct collx_comm *c, struct wait *w, uint64_t timeout_ns, int *moved)
{
	uint64_t now;
	int rc;

	if (c->limits.spin_ns && ++w->idle % POLLS_A_LOOK) {
		if (w->idle > EAGER_POLLS)
			cx_pause();
		return 0;
	}
	now = cx_now_ns();
	if (!w->since)
		w->since = now;
	rc = look(c, w, now, timeout_ns);
	if (rc || now - w->since < c->spin_ns)
		return rc;
	spun_in_vain(c, w);
	if (now - w->since < (uint64_t)c->spin_ns + c->limits.yield_ns) {
		w->idle = POLLS_A_LOOK - 1; /* look again after each yield */
		sched_yield();
		return 0;
	}
	w->idle = POLLS_A_LOOK - 1;
	return doze(c, moved);
}

static int wait_for_call(struct collx_comm *c, struct wait *w, uint64_t timeout_ns)
{
	int moved, rc;

	for (;;) {
		rc = cx_exec_poll(&c->exec, &moved);
		if (rc || moved)
			go_on(c, w);
		if (!rc && !moved)
			rc = idle(c, w, timeout_ns, &moved);
		else if (!rc && ++w->busy % 4096 == 0)
			rc = look(c, w, cx_now_ns(), timeout_ns);
		if (rc)
			return rc < 0 ? rc : 0;
	}
}

/* ---- the first error ---- */

static bool is_hearsay(int code)
{
	return code == COLLX_ERR_PEER_DEAD || code == COLLX_ERR_LINK;
}

/* Who it is about, where a call knows that by itself: a message needs its peer. */
static int to_blame(const struct collx_comm *c, const struct cx_request *r, int code)
{
	return r->coll > CX_NCOLL && code == COLLX_ERR_PEER_LEFT &&
			       cx_guard_has_left(c->guard, r->root)
		       ? r->root
		       : -1;
}

/* How far this rank was. The guard knows of collectives alone. */
static struct cx_where stands(const struct collx_comm *c, const struct cx_request *r)
{
	struct cx_where w = cx_calls_where(&c->calls);
	bool message = r->coll > CX_NCOLL;

	if (c->decides && !message)
		return (struct cx_where){ .phase = COLLX_PHASE_DECIDING };
	if (message)
		w = (struct cx_where){ .call = r->coll };
	if (w.call)
		w.phase = cx_exec_has_moved(&c->exec, message ? c->exec.call.number : c->seq,
					    message ? CX_P2P_LANE : 0)
				  ? COLLX_PHASE_TRANSFERRING
				  : COLLX_PHASE_WAITING;
	return w;
}

int cx_comm_die(struct collx_comm *c, const struct cx_request *r, int code)
{
	struct cx_report m = { .code = code, .about = to_blame(c, r, code),
			       .hearsay = is_hearsay(code), .where = stands(c, r) };

	if (c->error)
		return cx_fail(c->error, "%s", c->text);
	m.fault_ns = (int64_t)(cx_now_ns() - (code == COLLX_ERR_TIMEOUT ? c->waited_ns : 0));
	if (r->coll < CX_NCOLL && (code == COLLX_ERR_MISMATCH || code == COLLX_ERR_CORRUPT))
		snprintf(m.text, sizeof(m.text), "rank %d in %s of %zu, operation %llu: %.300s",
			 c->rank, cx_coll_name(r->coll), r->count, (unsigned long long)c->seq,
			 cx_error_text());
	else
		snprintf(m.text, sizeof(m.text), "%.*s", (int)sizeof(m.text) - 1, cx_error_text());
	cx_exec_fence(&c->exec);
	code = cx_guard_report(c->guard, &m);
	snprintf(c->text, sizeof(c->text), "%.*s", (int)sizeof(c->text) - 1, cx_error_text());
	c->error = code; /* the last that is done with it: see leave.c */
	return code;
}

static int start_message(struct collx_comm *c, const struct cx_request *r)
{
	struct cx_call call;
	int rc = cx_guard_verdict(c->guard) ? COLLX_ERR_PEER_LEFT : cx_p2p_prepare(c, r, &call);

	if (!rc)
		return cx_exec_start(&c->exec, &call);
	c->exec.segments = 0; /* none of it has begun; the numbers of messages are not unique */
	return rc;
}

int cx_comm_start(struct collx_comm *c, const struct cx_request *r)
{
	struct cx_call call;
	int rc;

	if (r->coll > CX_NCOLL)
		return start_message(c, r);
	c->seq++;
	rc = cx_comm_prepare(c, r, &call);
	if (rc)
		return rc;
	if (cx_calls_last(&c->calls) < c->seq)
		return COLLX_ERR_PEER_LEFT; /* or what the verdict is: the report will tell */
	return cx_exec_start(&c->exec, &call);
}

static int fail(struct collx_comm *c, const struct cx_request *r, int rc)
{
	if (r->coll > CX_NCOLL)
		rc = cx_p2p_explain(c, r, rc);
	return cx_comm_die(c, r, rc);
}

int cx_comm_run(struct collx_comm *c, const struct cx_request *r, uint64_t timeout_ns)
{
	struct wait w = { 0 };
	int rc;

	/* Shared memory makes no system call that is a cancellation point, but to wait. */
	if (c->wired)
		hold(&w);
	rc = cx_comm_start(c, r);
	if (!rc)
		rc = wait_for_call(c, &w, timeout_ns);
	if (rc) {
		hold(&w);
		rc = fail(c, r, rc);
	} else {
		cx_comm_finish(c);
	}
	if (w.held)
		cx_cancel_release(w.was);
	return rc;
}
