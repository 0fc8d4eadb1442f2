/* SPDX-License-Identifier: BSD-3-Clause */
/* The public functions for when something failed: collx_faults(7). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "comm.h"

/* The communicator is the one to which the handle leads now: of the thread that calls. */
static int check(collx_comm_t *comm, const char *name)
{
	*comm = cx_comm_now(*comm);
	if (!*comm)
		return cx_fail(COLLX_ERR_INVALID, "%s: comm is NULL", name);
	return cx_comm_check_fork(*comm, name);
}

/* The same for any thread: *c, unless it is NULL, is let go of by asked(). */
static int ask(collx_comm_t handle, const char *name, struct collx_comm **c)
{
	int rc;

	*c = NULL;
	if (!handle)
		return cx_fail(COLLX_ERR_INVALID, "%s: comm is NULL", name);
	rc = cx_comm_check_fork(handle, name);
	if (!rc)
		*c = cx_comm_hold(handle);
	return rc;
}

static int asked(struct collx_comm *c, int rc)
{
	if (c)
		cx_comm_let(c);
	return rc;
}

/* ---- what happened ---- */

static collx_evidence evidence_of(int code)
{
	switch (code) {
	case COLLX_ERR_PEER_DEAD: return COLLX_EVIDENCE_CONNECTION;
	case COLLX_ERR_PEER_SILENT:
	case COLLX_ERR_EXCLUDED: return COLLX_EVIDENCE_SILENCE;
	case COLLX_ERR_TIMEOUT: return COLLX_EVIDENCE_DEADLINE;
	case COLLX_ERR_MISMATCH: return COLLX_EVIDENCE_DIFFERENCE;
	case COLLX_ERR_PEER_LEFT:
	case COLLX_ERR_ABORTED:
	case COLLX_ERR_REVOKED: return COLLX_EVIDENCE_WISH;
	default: return COLLX_EVIDENCE_CALL;
	}
}

static void list_blamed(const struct cx_cause *c, int size, collx_error *error)
{
	error->rank = c->about;
	for (int r = 0; r < size; r++) {
		if (r != c->about && (r >= CX_COUNCIL_RANKS || !cx_set_has(&c->who, r)))
			continue;
		if (error->nranks < COLLX_ERROR_RANKS)
			error->ranks[error->nranks] = r;
		error->nranks++;
	}
}

/* It may have happened before this host's clock began, and not later than it was known. */
static uint64_t age_us(const struct cx_cause *c, uint64_t now_ns)
{
	int64_t fault_ns = cx_min(c->fault_ns, (int64_t)c->known_ns);

	return (uint64_t)((int64_t)now_ns - fault_ns) / 1000;
}

/* cause NULL, or of code 0: there is none. size: of the communicator that had it. */
static void fill_error(const struct cx_cause *cause, int size, collx_error *error)
{
	uint64_t now_ns = cx_now_ns();
	size_t bytes = error->size;

	*error = (collx_error)COLLX_ERROR_INIT;
	error->size = bytes;
	if (!cause || !cause->code)
		return;
	error->code = (collx_result)cause->code;
	error->origin = cause->origin;
	list_blamed(cause, size, error);
	error->evidence = evidence_of(cause->code);
	error->sys_errno = cause->sys_errno;
	error->call = (collx_call)cause->where.call;
	error->op = cause->where.seq;
	error->phase = (collx_phase)cause->where.phase;
	error->since_us = age_us(cause, now_ns); /* never less than known_us */
	error->known_us = (now_ns - cause->known_ns) / 1000;
	memcpy(error->text, cause->text, sizeof(error->text));
}

static void fill_own_error(const struct collx_comm *c, collx_error *error)
{
	struct cx_cause cause;

	fill_error(cx_guard_cause(c->guard, &cause) ? &cause : NULL, c->size, error);
}

static int check_error(const char *name, const collx_error *error)
{
	if (error && error->size >= sizeof(*error))
		return 0;
	return cx_fail(COLLX_ERR_INVALID, "%s: begin with COLLX_ERROR_INIT", name);
}

collx_result collx_comm_error(collx_comm_t comm, collx_error *error)
{
	struct collx_comm *c;
	int rc = ask(comm, "error", &c);

	if (!rc)
		rc = check_error("error", error);
	if (!rc)
		fill_own_error(c, error);
	return asked(c, rc);
}

collx_result collx_comm_past_error(collx_comm_t comm, collx_error *error)
{
	struct collx_comm *c;
	int rc = ask(comm, "past_error", &c);

	if (!rc)
		rc = check_error("past_error", error);
	if (!rc)
		fill_error(&c->why, c->past ? c->past->size : 0, error);
	return asked(c, rc);
}

int collx_comm_event_fd(collx_comm_t comm)
{
	struct collx_comm *c;
	int was = cx_cancel_hold(), rc = ask(comm, "event_fd", &c);

	asked(c, rc);
	if (!rc)
		rc = cx_comm_bell(comm, CX_BELL_PROGRAM);
	cx_cancel_release(was);
	return rc;
}

/* The callback looks for itself: whoever polls is to be told, too. */
static void read_straggler(const struct collx_comm *handle, const struct collx_comm *c,
			   collx_straggler *out)
{
	struct cx_straggler s;
	size_t size = out->size;

	*out = (collx_straggler)COLLX_STRAGGLER_INIT;
	out->size = size;
	cx_guard_straggler(c->guard, cx_herald_is_here(handle) ? CX_BELLS : CX_BELL_PROGRAM, &s);
	if (!s.number)
		return;
	out->number = s.number;
	out->rank = s.rank;
	out->op = s.sign.seq;
	out->waited_ms = (cx_now_ns() - s.since_ns) / 1000000;
	cx_sign_words(&s.sign, out->call, sizeof(out->call));
}

collx_result collx_comm_straggler(collx_comm_t comm, collx_straggler *straggler)
{
	struct collx_comm *c;
	int was = cx_cancel_hold(), rc = ask(comm, "straggler", &c);

	if (!rc && (!straggler || straggler->size < sizeof(*straggler)))
		rc = cx_fail(COLLX_ERR_INVALID, "straggler: begin with COLLX_STRAGGLER_INIT");
	if (!rc)
		read_straggler(comm, c, straggler);
	rc = asked(c, rc);
	cx_cancel_release(was);
	return rc;
}

collx_result collx_comm_set_callback(collx_comm_t comm, collx_event_fn fn, void *ctx)
{
	struct collx_comm *c;
	int was = cx_cancel_hold(), rc = ask(comm, "set_callback", &c);

	if (!rc && !fn)
		rc = cx_fail(COLLX_ERR_INVALID, "set_callback: fn is NULL");
	if (!rc)
		rc = cx_herald_start(comm, fn, ctx);
	rc = asked(c, rc);
	cx_cancel_release(was);
	return rc;
}

collx_result collx_comm_health(collx_comm_t comm, collx_rank_health *health, int n)
{
	struct collx_comm *c;
	int rc = ask(comm, "health", &c);

	if (!rc && (!health || n < 0 || n > c->size))
		rc = cx_fail(COLLX_ERR_INVALID, "health: room for %d of %d ranks", n, c->size);
	for (int r = 0; !rc && r < n; r++)
		cx_guard_health(c->guard, r, &health[r]);
	return asked(c, rc);
}

static const char *state_name(collx_rank_state s)
{
	static const char *const names[] = { "alive", "dead", "silent", "left" };

	return names[s];
}

/* A string as JSON has it. */
static void print_string(FILE *f, const char *text)
{
	fputc('"', f);
	for (; *text; text++)
		if (*text == '"' || *text == '\\')
			fprintf(f, "\\%c", *text);
		else if ((unsigned char)*text < 0x20)
			fprintf(f, "\\u%04x", (unsigned)*text);
		else
			fputc(*text, f);
	fputc('"', f);
}

static void print_error(FILE *f, const struct collx_comm *comm)
{
	collx_error e = COLLX_ERROR_INIT;

	fill_own_error(comm, &e);
	fprintf(f, "\"error\": {\"code\": %d, \"name\": \"%s\", \"origin\": %d, \"rank\": %d, "
		   "\"nranks\": %d, \"ranks\": [",
		e.code, collx_strerror(e.code), e.origin, e.rank, e.nranks);
	for (int i = 0; i < e.nranks && i < COLLX_ERROR_RANKS; i++)
		fprintf(f, i ? ", %d" : "%d", e.ranks[i]);
	fprintf(f, "], \"evidence\": %d, \"errno\": %d, \"call\": \"%s\", \"op\": %llu, "
		   "\"phase\": \"%s\", \"since_us\": %llu, \"known_us\": %llu, \"text\": ",
		e.evidence, e.sys_errno, cx_call_name(e.call), (unsigned long long)e.op,
		cx_phase_name(e.phase), (unsigned long long)e.since_us,
		(unsigned long long)e.known_us);
	print_string(f, e.text);
	fputc('}', f);
}

static void print_ranks(FILE *f, const struct collx_comm *comm)
{
	collx_rank_health h;

	fprintf(f, "\"ranks\": [");
	for (int r = 0; r < comm->size; r++) {
		cx_guard_health(comm->guard, r, &h);
		fprintf(f, "%s\n  {\"rank\": %d, \"state\": \"%s\", ", r ? "," : "", r,
			state_name(h.state));
		fprintf(f, "\"heard_ms\": ");
		fprintf(f, h.hears_us ? "%llu" : "null", (unsigned long long)h.heard_ms);
		fprintf(f, ", \"awaited_ms\": %llu", (unsigned long long)h.awaited_ms);
		fprintf(f, ", \"begun\": %llu, \"done\": %llu}", (unsigned long long)h.begun,
			(unsigned long long)h.done);
	}
	fprintf(f, "]");
}

static void print_all(FILE *f, const struct collx_comm *comm)
{
	fprintf(f, "{\"version\": %d, \"rank\": %d, \"size\": %d, \"heartbeat_ms\": %u, "
		   "\"beat_ms\": %u, \"silence_ms\": %u, \"wrong_proofs\": %u,\n",
		COLLX_VERSION, comm->rank, comm->size, comm->terms.heartbeat_ms, comm->beat_ms,
		comm->terms.silence_ms, comm->wrong_proofs);
	print_error(f, comm);
	fprintf(f, ",\n");
	print_ranks(f, comm);
	fprintf(f, "}\n");
}

/* In memory: who reads it may be slow, and a repair waits for who looks. */
static int describe(const struct collx_comm *comm, char **text, size_t *len)
{
	FILE *f = open_memstream(text, len);

	if (!f)
		return cx_fail_errno(ENOMEM, "dump");
	print_all(f, comm);
	return fclose(f) ? cx_fail_errno(ENOMEM, "dump") : 0;
}

static int put(const char *text, size_t len, int fd)
{
	int copy = cx_sys->dup(fd);
	FILE *f = copy < 0 ? NULL : fdopen(copy, "w");
	bool lost;

	if (!f) {
		if (copy >= 0)
			cx_sys->close(copy);
		return cx_fail_errno(copy < 0 ? -copy : ENOMEM, "dump: descriptor %d", fd);
	}
	lost = fwrite(text, 1, len, f) != len;
	cx_fd_disown(copy); /* it is closed by number, not by us */
	lost |= fclose(f) != 0;
	return lost ? cx_fail_errno(errno, "dump: writing") : COLLX_OK;
}

collx_result collx_comm_dump(collx_comm_t comm, int fd)
{
	struct collx_comm *c;
	char *text = NULL;
	size_t len = 0;
	int was = cx_cancel_hold(), rc = ask(comm, "dump", &c);

	if (!rc)
		rc = describe(c, &text, &len);
	asked(c, rc);
	if (!rc)
		rc = put(text, len, fd);
	free(text);
	cx_cancel_release(was);
	return rc;
}

/* ---- ending it ---- */

/* Where the handle leads to another one by then, that one is ended, too: it may have missed
 * the wish that came on the one before. A revoke is what a repair brings anyhow. */
static void end_all(collx_comm_t handle, int code, void (*end)(struct cx_ward *w, int code))
{
	struct collx_comm *c;
	bool again;

	do {
		c = cx_comm_hold(handle);
		end(c->guard, code);
		again = code == COLLX_ERR_ABORTED || c->terms.flags & COLLX_CONTINUE;
		cx_comm_let(c);
	} while (again && !cx_comm_leads_to(handle, c));
}

static int end_now(collx_comm_t comm, const char *name, int code)
{
	struct collx_comm *c;
	int was = cx_cancel_hold(), rc = ask(comm, name, &c);

	asked(c, rc);
	if (!rc)
		end_all(comm, code, cx_guard_end_now);
	cx_cancel_release(was);
	return rc;
}

collx_result collx_comm_abort(collx_comm_t comm)
{
	return end_now(comm, "abort", COLLX_ERR_ABORTED);
}

void collx_comm_abort_from_signal(collx_comm_t comm)
{
	int was = cx_cancel_hold(); /* no more than two words of the thread's own */

	if (comm && comm->forks == cx_fork_count())
		end_all(comm, COLLX_ERR_ABORTED, cx_guard_end);
	cx_cancel_release(was);
}

collx_result collx_comm_revoke(collx_comm_t comm)
{
	return end_now(comm, "revoke", COLLX_ERR_REVOKED);
}

/* ---- going on ---- */

static int deadline(const struct collx_comm *c, const char *name, const collx_opts *o,
		    uint64_t *until_ns)
{
	uint64_t ns;
	int rc = cx_comm_check_opts(c, name, o, &ns);

	*until_ns = ns == UINT64_MAX ? UINT64_MAX : cx_now_ns() + ns;
	return rc;
}

/* A thread that is cancelled meanwhile decides with the others first. */
static int enter(struct collx_comm *c, const char *name, int *was)
{
	int rc = cx_comm_claim(c, name);

	if (!rc)
		*was = cx_cancel_hold();
	return rc;
}

static int leave(struct collx_comm *c, int rc, int was)
{
	cx_comm_unclaim(c, rc);
	cx_cancel_release(was);
	return rc;
}

collx_result collx_comm_agree(collx_comm_t comm, uint64_t *flags, unsigned char *alive,
			      const collx_opts *opts)
{
	int rc = check(&comm, "agree"), size = rc ? 0 : comm->size;
	struct cx_set failed;
	uint64_t until, value;
	int was;

	if (!rc && !flags)
		rc = cx_fail(COLLX_ERR_INVALID, "agree: flags is NULL");
	if (!rc)
		rc = deadline(comm, "agree", opts, &until);
	if (!rc)
		rc = enter(comm, "agree", &was);
	if (rc)
		return rc;
	value = *flags;
	rc = leave(comm, cx_recover_agree(comm, &value, &failed, until), was);
	if (rc)
		return rc;
	*flags = value;
	for (int r = 0; alive && r < size; r++)
		alive[r] = !cx_set_has(&failed, r);
	return COLLX_OK;
}

/* out, if it came about, is the caller's. */
static int finish(struct collx_comm *c, int rc, collx_comm_t *out, int was)
{
	if (!rc)
		cx_comm_hand_out(*out);
	return leave(c, rc, was);
}

static int read_exclude(const struct collx_comm *c, const int *exclude, int n, struct cx_set *out)
{
	if (n < 0 || n > c->size || (n && !exclude))
		return cx_fail(COLLX_ERR_INVALID, "shrink: %d ranks to exclude of %d", n, c->size);
	*out = (struct cx_set){ { 0 } };
	for (int i = 0; i < n; i++) {
		if (exclude[i] < 0 || exclude[i] >= c->size)
			return cx_fail(COLLX_ERR_INVALID, "shrink: rank %d of %d ranks",
				       exclude[i], c->size);
		cx_set_add(out, exclude[i]);
	}
	return 0;
}

collx_result collx_comm_shrink(collx_comm_t comm, const int *exclude, int nexclude,
			       collx_comm_t *out, const collx_opts *opts)
{
	int rc = check(&comm, "shrink"), was;
	uint64_t until;
	struct cx_set set;

	if (!rc && !out)
		rc = cx_fail(COLLX_ERR_INVALID, "shrink: out is NULL");
	if (!rc)
		rc = deadline(comm, "shrink", opts, &until);
	if (!rc)
		rc = read_exclude(comm, exclude, nexclude, &set);
	if (!rc)
		rc = enter(comm, "shrink", &was);
	if (rc)
		return rc;
	return finish(comm, cx_recover_shrink(comm, &set, until, out), out, was);
}

collx_result collx_comm_repair(collx_comm_t *comm, const collx_opts *opts)
{
	const struct cx_set nobody = { { 0 } };
	collx_comm_t now = comm ? *comm : NULL, next;
	int rc = check(&now, "repair"), was;
	uint64_t until;

	if (!rc && cx_herald_is_here(*comm))
		rc = cx_fail(COLLX_ERR_INVALID, "repair: the communicator's own callback cannot "
						"destroy it");
	if (!rc)
		rc = deadline(now, "repair", opts, &until);
	if (!rc)
		rc = enter(now, "repair", &was);
	if (rc)
		return rc;
	cx_guard_end_now(now->guard, COLLX_ERR_REVOKED);
	rc = cx_recover_shrink(now, &nobody, until, &next);
	if (!rc) {
		cx_comm_replace(now, next, COLLX_ERR_REVOKED);
		cx_comm_retire_past(next);
	}
	return leave(now, rc, was);
}

collx_result collx_comm_grow(collx_comm_t comm, int joiners, const collx_unique_id *id,
			     collx_comm_t *out, const collx_opts *opts)
{
	int rc = check(&comm, "grow"), was;
	uint64_t until;

	if (!rc && (!out || joiners < 1 || (comm->rank == 0 && !id)))
		rc = cx_fail(COLLX_ERR_INVALID, !out       ? "grow: out is NULL"
						: joiners < 1 ? "grow: no joiners"
							      : "grow: rank 0 gives the id");
	if (!rc && joiners > CX_COUNCIL_RANKS)
		rc = cx_fail(COLLX_ERR_INVALID, "grow: %d joiners are too many", joiners);
	if (!rc)
		rc = deadline(comm, "grow", opts, &until);
	if (!rc)
		rc = enter(comm, "grow", &was);
	if (rc)
		return rc;
	return finish(comm, cx_recover_grow(comm, joiners, id, until, out), out, was);
}
