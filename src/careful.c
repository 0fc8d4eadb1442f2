/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Calls that promise more than others: an in-place input is there again after a
 * failure (COLLX_PRESERVE), all succeed or none does (COLLX_UNIFORM), and a
 * communicator that goes on by itself (COLLX_CONTINUE): what a loss hit is done again
 * by those who are left, over the communicator that succeeds the present one.
 *
 * The last two end each call with a decision of all that live, as without it some may
 * have a result that others have not.
 */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "comm.h"

/* ---- inputs ---- */

/* Bytes that the call writes over its own input. */
static size_t overwritten(const struct collx_comm *c, const struct cx_request *r)
{
	size_t one = r->count * collx_type_size(r->type);
	const char *in = r->in, *out = r->out;

	switch (r->coll) {
	case CX_ALLREDUCE: return in == out ? one : 0;
	case CX_REDUCE: return in == out && c->rank == r->root ? one : 0;
	case CX_REDUCE_SCATTER: return out == in + one * (size_t)c->rank ? one : 0;
	default: return 0;
	}
}

static int keep(struct collx_comm *c, const struct cx_request *r, size_t len)
{
	if (len > c->kept_len) {
		cx_free(c->kept);
		c->kept = cx_alloc(len, 1);
		c->kept_len = c->kept ? len : 0;
		if (!c->kept)
			return COLLX_ERR_NOMEM;
	}
	if (len)
		memcpy(c->kept, r->out, len);
	return 0;
}

/* ---- all or none ---- */

/* Somebody failed, and everybody knows it soon. */
static int share_failure(struct collx_comm *c, const struct cx_request *r, int rc)
{
	const uint64_t patience_ns = 1000000000;
	uint64_t until = cx_now_ns() + patience_ns;

	while (!rc && !cx_guard_verdict(c->guard) && !cx_guard_is_dropped(c->guard) &&
	       cx_now_ns() < until)
		cx_sys->poll(NULL, 0, 1);
	if (!rc)
		cx_fail(COLLX_ERR_REVOKED, "%s: it did not succeed on all ranks",
			cx_coll_name(r->coll));
	return rc ? rc : cx_comm_die(c, r, COLLX_ERR_REVOKED);
}

/* This rank has no part in what the others decide. For them it is lost, not they. */
static void tell_of_exclusion(struct collx_comm *c)
{
	struct cx_report r = { .code = COLLX_ERR_PEER_SILENT, .about = c->rank,
			       .where.phase = COLLX_PHASE_DECIDING,
			       .fault_ns = (int64_t)cx_now_ns() };

	snprintf(r.text, sizeof(r.text), "rank %d is given up: it could not be reached when the "
					 "others decided", c->rank);
	cx_guard_report(c->guard, &r);
}

/* The call's result on all ranks that live; 1: it did not succeed, as some were lost, or the
 * others repair the communicator already. */
static int commit(struct collx_comm *c, const struct cx_request *r, int rc, unsigned flags,
		  uint64_t until_ns, struct cx_set *lost)
{
	bool ok = rc == 0, outvoted;
	int agreed;

	c->decides = true;
	agreed = cx_recover_commit(c, &ok, lost, &outvoted, until_ns);
	if (agreed == COLLX_ERR_EXCLUDED)
		tell_of_exclusion(c);
	if (agreed == COLLX_ERR_ABORTED && flags & CX_GOES_ON) { /* no loss ends it, but this */
		cx_comm_die(c, r, agreed);
		return cx_guard_barred(c->guard);
	}
	if (agreed) /* the line is the communicator's error, not that of the decision */
		return cx_comm_die(c, r, rc ? rc : agreed);
	if (ok)
		return 0;
	rc = share_failure(c, r, rc);
	return cx_set_count(lost) || outvoted ? 1 : rc;
}

/* ---- going on ---- */

static bool has_another_shape(const struct cx_request *r)
{
	return r->coll == CX_ALLGATHER || r->coll == CX_REDUCE_SCATTER;
}

/* The communicator of those who are left takes this one's place. */
static int succeed(struct collx_comm **c, struct cx_request *r, uint64_t until_ns)
{
	static const struct cx_set nobody;
	struct collx_comm *next;
	int root = -1, rc;

	rc = cx_recover_shrink(*c, &nobody, until_ns, &next);
	if (rc)
		return rc;
	for (int i = 0; i < next->size; i++)
		if (next->origin[i] == (*c)->origin[r->root])
			root = i;
	cx_comm_replace(*c, next, 0);
	if (root < 0 && (r->coll == CX_BROADCAST || r->coll == CX_REDUCE))
		return cx_fail(COLLX_ERR_PEER_DEAD, "%s: its root, rank %d, is lost; the others "
						    "can go on", cx_coll_name(r->coll), r->root);
	if (has_another_shape(r) && next->size < (*c)->size)
		return cx_fail(COLLX_ERR_PEER_DEAD, "%s: %d ranks are lost, and its buffers have "
						    "another shape without them; the others can "
						    "go on",
			       cx_coll_name(r->coll), (*c)->size - next->size);
	r->root = root < 0 ? 0 : root;
	*c = next;
	return 0;
}

static uint64_t deadline(uint64_t timeout_ns)
{
	return timeout_ns == UINT64_MAX ? UINT64_MAX : cx_now_ns() + timeout_ns;
}

int cx_careful_run(struct collx_comm *c, const struct cx_request *request, unsigned flags,
		   uint64_t timeout_ns)
{
	struct cx_request r = *request;
	size_t len = overwritten(c, &r);
	struct cx_set lost;
	int rc = flags & (COLLX_PRESERVE | CX_GOES_ON) ? keep(c, &r, len) : 0, over;
	struct collx_comm *first = c;

	if (rc)
		return cx_comm_die(c, &r, rc);
	for (;;) {
		c->promise = flags & COLLX_UNIFORM ? CX_SIGN_UNIFORM : 0;
		rc = cx_comm_run(c, &r, timeout_ns);
		c->promise = 0;
		over = flags & (COLLX_UNIFORM | CX_GOES_ON)
			       ? commit(c, &r, rc, flags, deadline(timeout_ns), &lost)
			       : rc;
		c->decides = false; /* plain calls may follow */
		if (over && len && flags & (COLLX_PRESERVE | CX_GOES_ON))
			memcpy(r.out, first->kept, len);
		if (over != 1)
			return over;
		if (!(flags & CX_GOES_ON))
			return cx_guard_fail(c->guard);
		rc = succeed(&c, &r, deadline(timeout_ns));
		if (rc)
			return rc;
	}
}
