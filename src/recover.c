/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * After a fault, and before one: what is known, how a communicator is ended, and how
 * those who are left decide together and go on. The decisions are the council's
 * (council.h); a next communicator is made as any other, and counts only when all have
 * agreed that all have it.
 */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "comm.h"
#include "uid.h"

/* ---- decisions ---- */

static int explain_late(const struct collx_comm *c, const struct cx_motion *m, const char *name)
{
	char ranks[120] = "";
	size_t at = 0;

	for (int r = 0; r < c->size && at < sizeof(ranks) - 8; r++)
		if (cx_set_has(&m->out, r))
			at += (size_t)snprintf(ranks + at, sizeof(ranks) - at,
					       at ? ", %d" : "%d", r);
	return cx_fail(COLLX_ERR_TIMEOUT, "%s: not called in time by %s %s", name,
		       strchr(ranks, ',') ? "ranks" : "rank", ranks);
}

/* A decision of all that live. `name` is the caller's, for error lines. */
static int decide(struct collx_comm *c, const char *name, const struct cx_motion *vote,
		  uint64_t until_ns, struct cx_motion *out)
{
	int rc;

	do
		rc = cx_guard_decide(c->guard, vote, until_ns, out);
	while (!rc && out->outvoted && vote->kind != CX_MOTION_COMMIT);
	if (rc == COLLX_ERR_TIMEOUT)
		return cx_fail(rc, "%s: no decision before the deadline", name);
	if (rc)
		return rc;
	if (out->kind == CX_MOTION_LATE)
		return explain_late(c, out, name);
	if (out->kind != vote->kind &&
	    (vote->kind != CX_MOTION_COMMIT || out->kind != CX_MOTION_AGREE))
		return cx_fail(COLLX_ERR_MISMATCH, "%s: other ranks called another decision", name);
	return 0;
}

static int agree(struct collx_comm *c, const char *name, uint64_t *flags, struct cx_set *failed,
		 uint64_t until_ns)
{
	const struct cx_motion vote = { .kind = CX_MOTION_AGREE, .flags = *flags };
	struct cx_motion m;
	int rc = decide(c, name, &vote, until_ns, &m);

	if (rc)
		return rc;
	*flags = m.flags;
	if (failed)
		*failed = m.out;
	return 0;
}

int cx_recover_agree(struct collx_comm *c, uint64_t *flags, struct cx_set *failed,
		     uint64_t until_ns)
{
	return agree(c, "agree", flags, failed, until_ns);
}

int cx_recover_commit(struct collx_comm *c, bool *ok, struct cx_set *failed, bool *outvoted,
		      uint64_t until_ns)
{
	const struct cx_motion vote = { .kind = CX_MOTION_COMMIT, .flags = *ok };
	struct cx_motion m;
	int rc = decide(c, "commit", &vote, until_ns, &m);

	if (rc)
		return rc;
	*ok = m.kind == CX_MOTION_COMMIT && m.flags;
	*failed = m.out;
	*outvoted = m.outvoted || m.kind == CX_MOTION_AGREE;
	return 0;
}

/* ---- the next communicator ---- */

/* Where it meets, should this rank be its rank 0. */
static int offer(const struct collx_comm *c, struct cx_motion *vote)
{
	return cx_uid_make_at(&vote->id, cx_guard_place(c->guard));
}

static int rank_among(const struct cx_set *out, int r)
{
	int n = 0;

	for (int i = 0; i < r; i++)
		n += !cx_set_has(out, i);
	return n;
}

/* The next communicator's rank, and 1, as this one counts. */
static uint64_t as_here(const struct cx_motion *m, int unreached)
{
	return 1 + (uint64_t)cx_set_nth_but(&m->out, unreached - 1);
}

static int meet_again(struct collx_comm *c, const struct cx_motion *m, bool mix, int joiners,
		      uint64_t until_ns, int *unreached, struct collx_comm **out)
{
	struct cx_losses losses = { c->guard, cx_set_count(&m->out) };
	struct cx_meeting meeting = {
		.rank = rank_among(&m->out, c->rank),
		.ranks = rank_among(&m->out, c->size) + joiners,
		.deadline_ns = until_ns,
		.stop = cx_guard_lost_more,
		.stop_ctx = &losses,
		.unreached = unreached,
	};
	int rc = cx_uid_read(&m->id, &meeting);

	if (!rc && mix)
		rc = cx_guard_mix(c->guard, &meeting.secret);
	if (!rc)
		rc = cx_uid_local(&meeting);
	if (!rc)
		rc = cx_comm_open(out, &meeting, &c->terms);
	cx_secret_wipe(&meeting.secret);
	return rc;
}

/* Has everybody who is to have the next communicator got it? All know the same. */
static int all_have(struct collx_comm *c, bool mine, const char *name, const struct cx_set *out,
		    uint64_t until_ns, bool *all)
{
	uint64_t flags = mine;
	struct cx_set failed = { { 0 } };
	int rc = agree(c, name, &flags, &failed, until_ns);

	*all = !rc && flags;
	for (int r = 0; r < c->size; r++)
		if (cx_set_has(&failed, r) && !cx_set_has(out, r))
			*all = false;
	return rc;
}

/* Where somebody aborted, others may have got it, and it ends for these too. Who is destroyed
 * meanwhile only leaves. */
static void drop_next(const struct collx_comm *c, struct collx_comm *next, int rc)
{
	if (next && rc == COLLX_ERR_ABORTED &&
	    (!cx_guard_is_dropped(c->guard) || cx_guard_wish(c->guard) == COLLX_ERR_ABORTED))
		cx_guard_end_now(next->guard, rc);
	cx_comm_close(next);
}

static void keep_origins(const struct collx_comm *c, const struct cx_set *out,
			 struct collx_comm *next)
{
	for (int r = 0, n = 0; r < c->size; r++)
		if (!cx_set_has(out, r))
			next->origin[n++] = c->origin[r];
}

/* How long the next one may take to be made: all are there, or it is not worth a wait. Where
 * many ranks share cores each one costs time: 128 on 2 busy cores some 15 s. */
static uint64_t patience_ns(const struct collx_comm *c)
{
	const uint64_t each_ms = 100;

	return (cx_min(2 * (uint64_t)c->terms.silence_ms, 20000) + each_ms * (uint64_t)c->size) *
	       1000000;
}

static int be_left(const struct collx_comm *c, const struct cx_motion *vote, const char *why)
{
	bool known = vote->unreached != 0;

	return cx_fail(COLLX_ERR_EXCLUDED, "the other ranks go on without rank %d%s%.300s", c->rank,
		       known ? ": " : "", known ? why : "");
}

enum { TRIES = 8 /* at a next communicator that does not come about */ };

int cx_recover_shrink(struct collx_comm *c, const struct cx_set *exclude, uint64_t until_ns,
		      struct collx_comm **out)
{
	struct cx_motion vote = { .kind = CX_MOTION_SHRINK, .out = *exclude }, m;
	char why[CX_FAULT_TEXT_MAX] = "a rank failed to";
	struct collx_comm *next;
	int rc, made, unreached, tries = 0;
	bool all;

	for (;;) {
		rc = offer(c, &vote);
		if (!rc)
			rc = decide(c, "shrink", &vote, until_ns, &m);
		if (rc) {
			cx_uid_drop(&vote.id);
			return rc == COLLX_ERR_EXCLUDED ? be_left(c, &vote, why) : rc;
		}
		/* It must not come, in the place of the first one who is to. */
		if (cx_set_has(&m.out, c->rank)) {
			cx_uid_drop(&vote.id);
			return be_left(c, &vote, why);
		}
		next = NULL;
		unreached = 0;
		made = meet_again(c, &m, true, 0, cx_min(until_ns, cx_now_ns() + patience_ns(c)),
				  &unreached, &next);
		if (made)
			snprintf(why, sizeof(why), "%.*s", (int)sizeof(why) - 1, cx_error_text());
		vote.unreached = made && unreached ? as_here(&m, unreached) : 0;
		cx_uid_drop(&vote.id);
		rc = all_have(c, !made, "shrink", &m.out, until_ns, &all);
		if (!rc && all) {
			keep_origins(c, &m.out, next);
			*out = next;
			return 0;
		}
		drop_next(c, next, rc);
		if (rc)
			return rc;
		if (++tries == TRIES) /* on all ranks alike */
			return cx_fail(made ? made : COLLX_ERR_PEER_DEAD, "shrink: %s", why);
	}
}

/* All must want the same; the and of flags shows it. */
static uint64_t both_ways(uint32_t n)
{
	return (uint64_t)(uint32_t)~n << 32 | n;
}

int cx_recover_grow(struct collx_comm *c, int joiners, const collx_unique_id *id,
		    uint64_t until_ns, struct collx_comm **out)
{
	struct cx_motion vote = { .kind = CX_MOTION_GROW, .flags = both_ways((uint32_t)joiners) };
	char why[CX_FAULT_TEXT_MAX] = "a rank failed to";
	struct collx_comm *next = NULL;
	struct cx_motion m;
	bool all = false;
	int rc, made;

	if (c->rank == 0)
		vote.id = *id;
	rc = decide(c, "grow", &vote, until_ns, &m);
	if (rc)
		return rc;
	if (m.flags != vote.flags)
		return cx_fail(COLLX_ERR_MISMATCH,
			       "grow: the ranks differ in the number of joiners");
	if (cx_set_count(&m.out))
		return cx_fail(COLLX_ERR_PEER_DEAD, "grow: a rank has failed: shrink first");
	made = meet_again(c, &m, false, joiners, until_ns, NULL, &next);
	if (made)
		snprintf(why, sizeof(why), "%.*s", (int)sizeof(why) - 1, cx_error_text());
	if (c->rank == 0) /* the port that the id kept, as after any creation */
		cx_uid_drop(id);
	/* Its time is over where somebody did not come, and the last word needs some. */
	until_ns = cx_max(until_ns, cx_now_ns());
	rc = all_have(c, !made, "grow", &m.out,
		      cx_min(until_ns, UINT64_MAX - patience_ns(c)) + patience_ns(c), &all);
	if (!rc && all) {
		*out = next;
		return 0;
	}
	drop_next(c, next, rc);
	return rc ? rc : cx_fail(made ? made : COLLX_ERR_PEER_DEAD, "grow: %s", why);
}
