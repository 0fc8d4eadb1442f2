/* SPDX-License-Identifier: BSD-3-Clause */
/* The public functions: arguments are checked here, and handed on. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "comm.h"
#include "launch.h"
#include "uid.h"
#include "vault.h"

/* ---- small ones ---- */

int collx_version(void)
{
	return COLLX_VERSION;
}

const char *collx_last_error(collx_comm_t comm)
{
	comm = cx_comm_now(comm);
	return comm && comm->error ? comm->text : cx_error_text();
}

int collx_comm_rank(collx_comm_t comm)
{
	comm = cx_comm_now(comm);
	return comm ? comm->rank : cx_fail(COLLX_ERR_INVALID, "collx_comm_rank: comm is NULL");
}

int collx_comm_size(collx_comm_t comm)
{
	comm = cx_comm_now(comm);
	return comm ? comm->size : cx_fail(COLLX_ERR_INVALID, "collx_comm_size: comm is NULL");
}

int collx_comm_origin(collx_comm_t comm, int rank)
{
	comm = cx_comm_now(comm);
	if (!comm || rank < 0 || rank >= comm->size)
		return cx_fail(COLLX_ERR_INVALID, "collx_comm_origin: rank %d of %d ranks", rank,
			       comm ? comm->size : 0);
	return comm->origin[rank];
}

/* ---- creation ---- */

enum {
	DEFAULT_TIMEOUT_MS = 60000,
	DEFAULT_HEARTBEAT_MS = 500,
	DEFAULT_SILENCE_MS = 3000,
	DEFAULT_STRAGGLER_MS = 1000,
	DEFAULT_RING_HOSTS = 64
};

static uint64_t ms_to_ns(uint32_t ms)
{
	return ms == COLLX_NO_TIMEOUT ? UINT64_MAX : (uint64_t)ms * 1000000;
}

/* The configuration's value, else the variable's, else the default. */
static int choose_ms(uint32_t config_ms, enum cx_env variable, long usual, uint32_t *out)
{
	const char *text = cx_env_text(variable);
	long ms = usual;
	int rc = 0;

	if (!config_ms && text && !strcmp(text, "never"))
		config_ms = COLLX_NO_TIMEOUT;
	if (!config_ms)
		rc = cx_env_int(variable, 1, 1000000000, &ms);
	if (rc < 0)
		return rc;
	*out = config_ms ? config_ms : (uint32_t)ms;
	return 0;
}

static int choose_timeout(uint32_t config_ms, enum cx_env variable, uint64_t *ns)
{
	uint32_t ms;
	int rc = choose_ms(config_ms, variable, DEFAULT_TIMEOUT_MS, &ms);

	if (!rc)
		*ns = ms_to_ns(ms);
	return rc;
}

static int choose_ring(uint32_t *hosts)
{
	long n = DEFAULT_RING_HOSTS;
	int rc = cx_env_int(CX_ENV_RING_HOSTS, 2, 1000000, &n);

	*hosts = (uint32_t)n;
	return rc < 0 ? rc : 0;
}

static int choose_terms(const collx_config *config, struct cx_terms *t)
{
	int rc = choose_timeout(config->op_timeout_ms, CX_ENV_TIMEOUT_MS, &t->op_timeout_ns);

	if (!rc)
		rc = choose_ms(config->heartbeat_ms, CX_ENV_HEARTBEAT_MS, DEFAULT_HEARTBEAT_MS,
			       &t->heartbeat_ms);
	if (!rc)
		rc = choose_ms(config->silence_ms, CX_ENV_SILENCE_MS, DEFAULT_SILENCE_MS,
			       &t->silence_ms);
	if (!rc)
		rc = choose_ms(config->straggler_ms, CX_ENV_STRAGGLER_MS, DEFAULT_STRAGGLER_MS,
			       &t->straggler_ms);
	if (!rc)
		rc = choose_ring(&t->ring_hosts);
	if (!rc && t->heartbeat_ms > t->silence_ms / 2)
		rc = cx_fail(COLLX_ERR_INVALID,
			     "creation: a heartbeat each %u ms and silence after %u ms: at least "
			     "two heartbeats must fit", t->heartbeat_ms, t->silence_ms);
	return rc;
}

/* In a vault, for the sake of the secret. */
struct creation {
	struct cx_meeting meeting;
	collx_unique_id id; /* where it comes through an exchange */
	struct cx_terms terms;
};

collx_result collx_get_unique_id(collx_unique_id *id)
{
	uint64_t limit_ns;
	int rc, was;

	if (!id)
		return cx_fail(COLLX_ERR_INVALID, "collx_get_unique_id: id is NULL");
	rc = choose_timeout(0, CX_ENV_CREATE_TIMEOUT_MS, &limit_ns);
	was = cx_cancel_hold();
	if (!rc)
		rc = cx_uid_make(id, cx_now_ns() + limit_ns);
	cx_cancel_release(was);
	return rc;
}

static bool is_rank(int rank, int size)
{
	return size <= CX_RANKS_MAX && rank >= 0 && rank < size;
}

static int check_creation(const collx_comm_t *comm, int size, int rank, const collx_config *config)
{
	if (!comm)
		return cx_fail(COLLX_ERR_INVALID, "creation: comm is NULL");
	if (!is_rank(rank, size))
		return cx_fail(COLLX_ERR_INVALID, "creation: rank %d of %d ranks%s", rank, size,
			       size > CX_RANKS_MAX ? ": 65536 are the most" : "");
	if (config->size < sizeof(*config) || config->flags & ~COLLX_CONTINUE)
		return cx_fail(COLLX_ERR_INVALID,
			       "creation: config has unknown members or flags; begin with "
			       "COLLX_CONFIG_INIT");
	return 0;
}

/* The caller's word that it does not want the communicator any more. */
static int asked_to_abort(void *ctx)
{
	return __atomic_load_n((const int *)ctx, __ATOMIC_RELAXED)
		       ? cx_fail(COLLX_ERR_ABORTED, "creation: aborted by the caller")
		       : 0;
}

/* Each is ended by end_creation, also after an error. */
static int begin_creation(struct creation **out, const collx_comm_t *comm, int size, int rank,
			  const collx_config *config)
{
	static const collx_config defaults = COLLX_CONFIG_INIT;
	uint64_t now = cx_now_ns(), limit_ns = 0;
	struct cx_terms terms;
	int rc;

	*out = NULL;
	if (!config)
		config = &defaults;
	rc = check_creation(comm, size, rank, config);
	if (!rc)
		rc = choose_timeout(config->create_timeout_ms, CX_ENV_CREATE_TIMEOUT_MS, &limit_ns);
	if (!rc)
		rc = choose_terms(config, &terms);
	if (rc)
		return rc;
	*out = cx_vault_create(sizeof(**out));
	if (!*out)
		return COLLX_ERR_NOMEM;
	terms.flags = config->flags;
	(*out)->terms = terms;
	if (config->abort) {
		(*out)->meeting.stop = asked_to_abort;
		(*out)->meeting.stop_ctx = (void *)config->abort;
	}
	(*out)->meeting.rank = rank;
	(*out)->meeting.ranks = size;
	(*out)->meeting.deadline_ns = limit_ns == UINT64_MAX ? UINT64_MAX : now + limit_ns;
	return 0;
}

static int end_creation(struct creation *k, int rc, collx_comm_t *comm)
{
	unsigned char job[CX_JOB_BYTES];

	if (!k)
		return rc;
	if (!rc) {
		memcpy(job, k->meeting.secret.job, sizeof(job));
		rc = cx_comm_open(comm, &k->meeting, &k->terms);
		cx_uid_release(job);
		if (!rc)
			cx_comm_hand_out(*comm);
	}
	cx_vault_destroy(k, sizeof(*k));
	return rc;
}

collx_result collx_comm_create(collx_comm_t *comm, int size, const collx_unique_id *id, int rank,
			       const collx_config *config)
{
	struct creation *k;
	int was = cx_cancel_hold(), rc = begin_creation(&k, comm, size, rank, config);

	if (!rc && !id)
		rc = cx_fail(COLLX_ERR_INVALID, "creation: id is NULL");
	if (!rc)
		rc = cx_uid_read(id, &k->meeting);
	rc = end_creation(k, rc, comm);
	cx_cancel_release(was);
	return rc;
}

collx_result collx_comm_create_from_env(collx_comm_t *comm, const collx_config *config)
{
	struct creation *k = NULL;
	struct cx_launch launch;
	int was = cx_cancel_hold(), rc = cx_launch_read(&launch);

	if (!rc)
		rc = begin_creation(&k, comm, launch.ranks, launch.rank, config);
	if (!rc)
		rc = cx_launch_meet(&launch, &k->meeting);
	rc = end_creation(k, rc, comm);
	cx_cancel_release(was);
	return rc;
}

/* The first rank that failed; 0 when none did. */
static int find_failure(const collx_unique_id *all, int ranks)
{
	int rc = 0;

	for (int r = 0; !rc && r < ranks; r++)
		rc = cx_uid_failure(&all[r], r);
	return rc;
}

/* Rank 0's id, or a rank's failure, through the caller's exchange; and what it says. */
static int share_id(collx_allgather_fn allgather, void *ctx, struct cx_meeting *m,
		    collx_unique_id *id)
{
	size_t len = (size_t)m->ranks * sizeof(*id);
	collx_unique_id *all = cx_vault_create(len);
	int rc = all ? 0 : COLLX_ERR_NOMEM, made = 0;
	char line[CX_FAULT_TEXT_MAX];

	if (!rc && m->rank == 0)
		made = cx_uid_make(id, m->deadline_ns);
	snprintf(line, sizeof(line), "%s", made ? cx_error_text() : "");
	if (made)
		cx_uid_put_failure(id, made);
	if (!rc && allgather(ctx, id, all, sizeof(*id)))
		rc = cx_fail(COLLX_ERR_SYSTEM, "creation: the caller's allgather failed");
	if (!rc)
		rc = made ? cx_fail(made, "%s", line) : find_failure(all, m->ranks);
	if (!rc)
		rc = cx_uid_read(&all[0], m);
	if (rc && all && !made && m->rank == 0)
		cx_uid_drop(id);
	cx_vault_destroy(all, len);
	return rc;
}

/* This rank failed before the exchange, for which the others wait. */
static int share_failure(collx_allgather_fn allgather, void *ctx, int size, int rc)
{
	size_t len = (size_t)size * sizeof(collx_unique_id);
	collx_unique_id id, *all;
	char line[CX_FAULT_TEXT_MAX];

	snprintf(line, sizeof(line), "%s", cx_error_text());
	cx_uid_put_failure(&id, rc);
	all = cx_vault_create(len); /* rank 0's is in it */
	if (all)
		allgather(ctx, &id, all, sizeof(id));
	cx_vault_destroy(all, len);
	return cx_fail(rc, "%s", line);
}

collx_result collx_comm_create_oob(collx_comm_t *comm, int size, collx_allgather_fn allgather,
				   void *ctx, int rank, const collx_config *config)
{
	struct creation *k;
	int was = cx_cancel_hold(), rc = begin_creation(&k, comm, size, rank, config);

	if (!rc && !allgather)
		rc = cx_fail(COLLX_ERR_INVALID, "creation: allgather is NULL");
	if (!rc)
		rc = share_id(allgather, ctx, &k->meeting, &k->id);
	else if (allgather && is_rank(rank, size))
		rc = share_failure(allgather, ctx, size, rc);
	rc = end_creation(k, rc, comm);
	cx_cancel_release(was);
	return rc;
}

/* A forked child has neither the memory nor the say of its parent. */
int cx_comm_check_fork(const struct collx_comm *c, const char *name)
{
	if (c->forks == cx_fork_count())
		return 0;
	return cx_fail(COLLX_ERR_FORKED, "%s: the communicator was made before fork, by the parent",
		       name);
}

collx_result collx_comm_destroy(collx_comm_t comm)
{
	int was = cx_cancel_hold(), rc = comm ? cx_comm_leave(comm) : COLLX_OK;

	cx_cancel_release(was);
	return rc;
}

/* ---- calls ---- */

int cx_comm_check_opts(const struct collx_comm *c, const char *name, const collx_opts *o,
		       uint64_t *timeout_ns)
{
	*timeout_ns = c->terms.op_timeout_ns;
	if (!o)
		return 0;
	if (o->size < sizeof(*o) || o->flags & ~(COLLX_PRESERVE | COLLX_UNIFORM))
		return cx_fail(COLLX_ERR_INVALID,
			       "%s: opts has unknown members or flags; begin with COLLX_OPTS_INIT",
			       name);
	if (o->timeout_ms)
		*timeout_ns = ms_to_ns(o->timeout_ms);
	return 0;
}

/* Bytes of one rank's input and output; COLLX_ERR_INVALID where they overflow. */
static int check_extent(const struct collx_comm *c, const struct cx_request *r, const char *name,
			size_t *in_bytes, size_t *out_bytes)
{
	size_t one, all;

	if (__builtin_mul_overflow(r->count, collx_type_size(r->type), &one) ||
	    __builtin_mul_overflow(one, (size_t)c->size, &all) || all > SIZE_MAX / 4)
		return cx_fail(COLLX_ERR_INVALID, "%s: %zu elements a rank overflow", name,
			       r->count);
	*in_bytes = r->coll == CX_REDUCE_SCATTER ? all : one;
	*out_bytes = r->coll == CX_ALLGATHER ? all : one;
	return 0;
}

/* Where an in-place output must lie, from the input on. */
static ptrdiff_t in_place_offset(const struct collx_comm *c, const struct cx_request *r, size_t one)
{
	if (r->coll == CX_ALLGATHER)
		return -(ptrdiff_t)(one * (size_t)c->rank);
	return r->coll == CX_REDUCE_SCATTER ? (ptrdiff_t)(one * (size_t)c->rank) : 0;
}

static int check_buffers(const struct collx_comm *c, const struct cx_request *r, const char *name)
{
	int reads = r->coll != CX_BROADCAST || c->rank == r->root;
	int writes = r->coll != CX_REDUCE || c->rank == r->root;
	size_t in_bytes = 0, out_bytes = 0;
	uintptr_t in = (uintptr_t)r->in, out = (uintptr_t)r->out;
	ptrdiff_t offset;
	int rc = check_extent(c, r, name, &in_bytes, &out_bytes);

	if (rc)
		return rc;
	if (r->count && ((reads && !r->in) || (writes && !r->out)))
		return cx_fail(COLLX_ERR_INVALID, "%s: %s is NULL", name,
			       reads && !r->in ? "sendbuf" : "recvbuf");
	offset = in_place_offset(c, r, cx_min(in_bytes, out_bytes));
	if (!reads || !writes || out == in + (uintptr_t)offset)
		return 0;
	if (in < out + out_bytes && out < in + in_bytes)
		return cx_fail(COLLX_ERR_INVALID,
			       "%s: sendbuf and recvbuf overlap but are not in place", name);
	return 0;
}

static int check_request(const struct collx_comm *c, const struct cx_request *r, const char *name)
{
	if ((unsigned)r->type >= COLLX_TYPE_COUNT)
		return cx_fail(COLLX_ERR_INVALID, "%s: unknown type %d", name, (int)r->type);
	if ((unsigned)r->op >= COLLX_OP_COUNT)
		return cx_fail(COLLX_ERR_INVALID, "%s: unknown operation %d", name, (int)r->op);
	if (r->root < 0 || r->root >= c->size)
		return cx_fail(COLLX_ERR_INVALID, "%s: root %d of %d ranks", name, r->root,
			       c->size);
	return check_buffers(c, r, name);
}

static int check_message(const struct collx_comm *c, const struct cx_request *r, const char *name,
			 const collx_opts *opts)
{
	size_t bytes;

	if (opts && opts->flags)
		return cx_fail(COLLX_ERR_INVALID, "%s: no flags but a collective's", name);

	if ((unsigned)r->type >= COLLX_TYPE_COUNT)
		return cx_fail(COLLX_ERR_INVALID, "%s: unknown type %d", name, (int)r->type);
	if (r->root < 0 || r->root >= c->size)
		return cx_fail(COLLX_ERR_INVALID, "%s: peer %d of %d ranks", name, r->root,
			       c->size);
	if (r->root == c->rank)
		return cx_fail(COLLX_ERR_INVALID, "%s: peer %d is the calling rank itself", name,
			       r->root);
	if (__builtin_mul_overflow(r->count, collx_type_size(r->type), &bytes) ||
	    bytes > SIZE_MAX / 4)
		return cx_fail(COLLX_ERR_INVALID, "%s: %zu elements overflow", name, r->count);
	if (r->count && !r->in && !r->out)
		return cx_fail(COLLX_ERR_INVALID, "%s: buf is NULL", name);
	return 0;
}

/* What is promised of this call. */
static unsigned promises(const struct collx_comm *c, const struct cx_request *r,
			 const collx_opts *opts)
{
	unsigned flags = opts ? opts->flags : 0;

	if (r->coll > CX_NCOLL) /* no message is everybody's */
		return 0;
	return c->terms.flags & COLLX_CONTINUE ? flags | CX_GOES_ON : flags;
}

static collx_result run(collx_comm_t comm, const struct cx_request *r, const collx_opts *opts)
{
	const char *name = cx_coll_name(r->coll);
	uint64_t timeout_ns;
	unsigned flags;
	int rc, was;

	comm = cx_comm_now(comm);
	if (!comm)
		return cx_fail(COLLX_ERR_INVALID, "%s: comm is NULL", name);
	rc = cx_comm_check_fork(comm, name);
	if (rc)
		return rc;
	flags = promises(comm, r, opts);
	if (comm->error && !(flags & CX_GOES_ON))
		return cx_fail(comm->error, "%s", comm->text);
	rc = cx_comm_check_opts(comm, name, opts, &timeout_ns);
	if (!rc && r->coll > CX_NCOLL)
		rc = check_message(comm, r, name, opts);
	else if (!rc && r->coll != CX_BARRIER)
		rc = check_request(comm, r, name);
	if (rc || (r->count == 0 && r->coll < CX_NCOLL))
		return rc;
	if (!flags && r->coll < CX_NCOLL)
		return cx_comm_run(comm, r, timeout_ns);
	if (!flags) {
		cx_comm_enter(comm);
		return cx_comm_exit(comm, cx_comm_run(comm, r, timeout_ns));
	}
	rc = cx_comm_claim(comm, name);
	if (rc)
		return rc;
	was = cx_cancel_hold();
	rc = cx_careful_run(comm, r, flags, timeout_ns);
	if (flags & CX_GOES_ON)
		cx_comm_retire_past(cx_comm_now(comm->handle));
	cx_comm_unclaim(comm, rc);
	cx_cancel_release(was);
	return rc;
}

collx_result collx_allreduce(const void *sendbuf, void *recvbuf, size_t count, collx_type type,
			     collx_op op, collx_comm_t comm, const collx_opts *opts)
{
	const struct cx_request r = { CX_ALLREDUCE, sendbuf, recvbuf, count, type, op, 0 };

	return run(comm, &r, opts);
}

collx_result collx_reduce_scatter(const void *sendbuf, void *recvbuf, size_t recvcount,
				  collx_type type, collx_op op, collx_comm_t comm,
				  const collx_opts *opts)
{
	const struct cx_request r = { CX_REDUCE_SCATTER, sendbuf, recvbuf, recvcount, type, op, 0 };

	return run(comm, &r, opts);
}

collx_result collx_allgather(const void *sendbuf, void *recvbuf, size_t sendcount, collx_type type,
			     collx_comm_t comm, const collx_opts *opts)
{
	const struct cx_request r = { CX_ALLGATHER, sendbuf, recvbuf, sendcount, type, COLLX_SUM,
				      0 };

	return run(comm, &r, opts);
}

collx_result collx_broadcast(const void *sendbuf, void *recvbuf, size_t count, collx_type type,
			     int root, collx_comm_t comm, const collx_opts *opts)
{
	const struct cx_request r = { CX_BROADCAST, sendbuf, recvbuf, count, type, COLLX_SUM,
				      root };

	return run(comm, &r, opts);
}

collx_result collx_reduce(const void *sendbuf, void *recvbuf, size_t count, collx_type type,
			  collx_op op, int root, collx_comm_t comm, const collx_opts *opts)
{
	const struct cx_request r = { CX_REDUCE, sendbuf, recvbuf, count, type, op, root };

	return run(comm, &r, opts);
}

collx_result collx_barrier(collx_comm_t comm, const collx_opts *opts)
{
	const struct cx_request r = { CX_BARRIER, NULL, NULL, 1, COLLX_UINT8, COLLX_SUM, 0 };

	return run(comm, &r, opts);
}

collx_result collx_send(const void *buf, size_t count, collx_type type, int peer,
			collx_comm_t comm, const collx_opts *opts)
{
	const struct cx_request r = { CX_SEND, buf, NULL, count, type, COLLX_SUM, peer };

	return run(comm, &r, opts);
}

collx_result collx_recv(void *buf, size_t count, collx_type type, int peer, collx_comm_t comm,
			const collx_opts *opts)
{
	const struct cx_request r = { CX_RECV, NULL, buf, count, type, COLLX_SUM, peer };

	return run(comm, &r, opts);
}
