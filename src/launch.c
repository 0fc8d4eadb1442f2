/* SPDX-License-Identifier: BSD-3-Clause */
/* The launchers' variables, a row each; see launch.h. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "host.h"
#include "kvs.h"
#include "launch.h"
#include "uid.h"
#include "vault.h"

#define NONE CX_ENV_COUNT
enum {
	JOB_VARS = 2,
	PORTS_MAX = 16 /* after MASTER_PORT */
};

struct cx_launcher {
	const char *name;
	enum cx_env rank, ranks;   /* ranks NONE: PMIx is asked */
	enum cx_env local_rank;
	enum cx_env local_ranks;   /* the job is on one host when this equals ranks, */
	enum cx_env hosts;         /* or this is 1 */
	enum cx_env job[JOB_VARS]; /* what tells this job from others of this user */
	bool exchanges;            /* through kvs.h, where that is offered */
	const char *advice;        /* to those who have no secret for several hosts */
};

static const struct cx_launcher launchers[] = {
	{ "collx-run", CX_ENV_RANK, CX_ENV_SIZE, CX_ENV_LOCAL_RANK, NONE, NONE, { NONE, NONE },
	  false, "start the program with collx-run" },
	{ "torchrun", CX_ENV_TORCH_RANK, CX_ENV_TORCH_SIZE, CX_ENV_TORCH_LOCAL_RANK,
	  CX_ENV_TORCH_LOCAL_SIZE, NONE, { CX_ENV_MASTER_ADDR, CX_ENV_MASTER_PORT }, false,
	  "ranks of several hosts need one, which torchrun does not hand over" },
	{ "Open MPI's mpirun", CX_ENV_OMPI_RANK, CX_ENV_OMPI_SIZE, CX_ENV_OMPI_LOCAL_RANK,
	  CX_ENV_OMPI_LOCAL_SIZE, NONE, { CX_ENV_PMIX_NAMESPACE, NONE }, true,
	  "ranks of several hosts need one, and this mpirun offers no PMIx to hand it over" },
	{ "Slurm", CX_ENV_SLURM_RANK, CX_ENV_SLURM_SIZE, CX_ENV_SLURM_LOCAL_RANK, NONE,
	  CX_ENV_SLURM_HOSTS, { CX_ENV_SLURM_JOB, CX_ENV_SLURM_STEP }, true,
	  "ranks of several hosts need one; srun --mpi=pmi2 hands it over" },
	{ "MPICH's mpiexec", CX_ENV_PMI_RANK, CX_ENV_PMI_SIZE, CX_ENV_MPI_LOCAL_RANK,
	  CX_ENV_MPI_LOCAL_SIZE, NONE, { CX_ENV_PMI_JOB, NONE }, true,
	  "ranks of several hosts need one, and this launcher offers no PMI_FD to hand it over" },
	{ "PMIx", CX_ENV_PMIX_RANK, NONE, NONE, NONE, NONE, { CX_ENV_PMIX_NAMESPACE, NONE }, true,
	  "ranks of several hosts need one" },
};
enum { LAUNCHERS = sizeof(launchers) / sizeof(launchers[0]) };

static const char *name_of(enum cx_env v)
{
	return cx_env_entry(v)->name;
}

static const char *text_of(enum cx_env v)
{
	return v == NONE ? NULL : cx_env_text(v);
}

static int int_of(enum cx_env v, long lo, long *out)
{
	return v == NONE ? 0 : cx_env_int(v, lo, INT_MAX, out);
}

static bool is_own(const struct cx_launcher *l)
{
	return l == &launchers[0];
}

static bool is_complete(const struct cx_launcher *l)
{
	return text_of(l->rank) && (l->ranks == NONE ? text_of(l->job[0]) : text_of(l->ranks));
}

/* The first that is complete, else the first of which a variable is set; without any,
 * collx-run, which is missed then. Half of collx-run's own is always a mistake. */
static const struct cx_launcher *find_launcher(void)
{
	if (text_of(launchers[0].rank) || text_of(launchers[0].ranks))
		return &launchers[0];
	for (int i = 0; i < LAUNCHERS; i++)
		if (is_complete(&launchers[i]))
			return &launchers[i];
	for (int i = 0; i < LAUNCHERS; i++)
		if (text_of(launchers[i].rank) || text_of(launchers[i].ranks))
			return &launchers[i];
	return &launchers[0];
}

const char *cx_launch_name(const struct cx_launch *l)
{
	return l->by->name;
}

/* ---- who ---- */

static int need_int(const struct cx_launcher *l, enum cx_env v, long lo, int *out)
{
	long n;
	int rc = cx_env_int(v, lo, INT_MAX, &n);

	if (rc == 0)
		return cx_fail(COLLX_ERR_INVALID, "%s is not set: start the program with %s",
			       name_of(v), l->name);
	if (rc > 0)
		*out = (int)n;
	return rc < 0 ? rc : 0;
}

static bool is_tcp(const char *where)
{
	return where && !strncmp(where, "tcp:", 4);
}

/* Are all ranks of this host? 1, 0 or an error. */
static int one_host(const struct cx_launch *l)
{
	const char *where = cx_env_text(CX_ENV_ADDR);
	long n = 0;
	int rc;

	if (l->ranks == 1)
		return 1;
	if (where || is_own(l->by))
		return !is_tcp(where);
	if (l->local)
		return l->local == l->ranks;
	rc = int_of(l->by->hosts, 1, &n);
	return rc < 0 ? rc : rc && n == 1;
}

static int contradiction(enum cx_env a, enum cx_env b, const char *why)
{
	return cx_fail(COLLX_ERR_INVALID, "%s=%.100s contradicts %s=%.100s%s", name_of(a),
		       text_of(a), name_of(b), text_of(b), why);
}

static int check_local_rank(const struct cx_launch *l)
{
	const struct cx_launcher *by = l->by;
	long local;
	int rc = int_of(by->local_rank, 0, &local);

	if (rc <= 0)
		return rc;
	if (local > l->rank || (l->one_host && local != l->rank))
		return contradiction(by->local_rank, by->rank,
				     l->one_host ? " where all ranks are of one host" : "");
	if (l->local && local >= l->local)
		return contradiction(by->local_rank, by->local_ranks, "");
	return 0;
}

/* torchrun's variables that were there before mpirun came would make as many jobs as ranks. */
static int check_leftovers(const struct cx_launch *l)
{
	long n = 0;
	int rc = l->by->ranks == CX_ENV_TORCH_SIZE ? int_of(CX_ENV_OMPI_SIZE, 1, &n) : 0;

	return rc > 0 && n > l->ranks ? contradiction(CX_ENV_TORCH_SIZE, CX_ENV_OMPI_SIZE,
						      ": unset RANK and WORLD_SIZE, or all "
						      "OMPI_COMM_WORLD_*") : rc < 0 ? rc : 0;
}

static int check(const struct cx_launch *l)
{
	const struct cx_launcher *by = l->by;
	const char *where = cx_env_text(CX_ENV_ADDR);
	long hosts;
	int rc = check_leftovers(l);

	if (rc)
		return rc;
	if (by->ranks != NONE && l->rank >= l->ranks)
		return contradiction(by->rank, by->ranks, "");
	if (l->local > l->ranks)
		return contradiction(by->local_ranks, by->ranks, "");
	rc = int_of(by->hosts, 1, &hosts);
	if (rc > 0 && hosts > l->ranks)
		return contradiction(by->hosts, by->ranks, "");
	if (rc < 0)
		return rc;
	if (where && !is_tcp(where) && rc && hosts > 1)
		return contradiction(CX_ENV_ADDR, by->hosts, ": a unix socket is for one host");
	if (where && !is_tcp(where) && by->local_ranks != NONE && l->local && l->local < l->ranks)
		return contradiction(CX_ENV_ADDR, by->local_ranks, ": a unix socket is for one "
				     "host");
	return check_local_rank(l);
}

/* The number of ranks, and of those of this host where the launcher tells. */
static int read_sizes(struct cx_launch *l)
{
	const uint64_t patience_ns = 30000000000;
	long local = 0;
	int rc;

	if (l->by->ranks == NONE && !text_of(l->by->job[0]))
		return cx_fail(COLLX_ERR_INVALID, "%s is not set: start the program with %s",
			       name_of(l->by->job[0]), l->by->name);
	if (l->by->ranks == NONE)
		return cx_kvs_sizes(&l->ranks, &l->local, cx_now_ns() + patience_ns);
	rc = need_int(l->by, l->by->ranks, 1, &l->ranks);
	if (!rc)
		rc = int_of(l->by->local_ranks, 1, &local);
	l->local = (int)local;
	return rc < 0 ? rc : 0;
}

int cx_launch_read(struct cx_launch *out)
{
	struct cx_launch l = { .by = find_launcher() };
	int rc = read_sizes(&l);

	if (!rc)
		rc = need_int(l.by, l.by->rank, 0, &l.rank);
	if (rc)
		return rc;
	rc = one_host(&l);
	if (rc < 0)
		return rc;
	l.one_host = rc;
	rc = check(&l);
	if (!rc)
		*out = l;
	return rc;
}

/* ---- by what secret ---- */

/* All that names this job on this host, as one text; 0 when nothing does. */
static int job_text(const struct cx_launcher *l, char *text, size_t len)
{
	size_t at = (size_t)snprintf(text, len, "%s", l->name);
	int named = 0;

	for (int i = 0; i < JOB_VARS && at < len; i++) {
		const char *value = text_of(l->job[i]);

		at += (size_t)snprintf(text + at, len - at, "|%s", value ? value : "");
		named |= value != NULL;
	}
	return named;
}

/* A secret that is none: on a unix socket in a private folder the kernel vouches. */
static int secret_of_job(const struct cx_launch *l, struct cx_meeting *m)
{
	char text[256];

	if (is_own(l->by))
		return cx_fail(COLLX_ERR_INVALID, "COLLX_SECRET_FILE is not set: %s",
			       l->by->advice);
	if (!job_text(l->by, text, sizeof(text)))
		return cx_fail(COLLX_ERR_INVALID, "COLLX_SECRET_FILE is not set, and nothing names "
			       "the job of %s", l->by->name);
	return cx_secret_from_text(&m->secret, text);
}

/* 1: there is one; 0: none is set. */
static int secret_given(struct cx_meeting *m)
{
	const char *file = cx_env_text(CX_ENV_SECRET_FILE);
	const char *text = cx_env_text(CX_ENV_SECRET);
	int rc;

	if (file && text)
		return cx_fail(COLLX_ERR_INVALID,
			       "COLLX_SECRET contradicts COLLX_SECRET_FILE=%.100s: set one of "
			       "them",
			       file);
	if (!file && !text)
		return 0;
	rc = file ? cx_secret_read(&m->secret, file) : cx_secret_from_hex(&m->secret, text);
	return rc ? rc : 1;
}

/* Whoever knows the protocol can make it. */
static int no_secret(const struct cx_launch *l, struct cx_meeting *m)
{
	static bool said;
	char text[256];
	long yes = 0;
	int rc = cx_env_int(CX_ENV_INSECURE, 0, 1, &yes);

	if (rc < 0)
		return rc;
	if (!yes)
		return cx_fail(COLLX_ERR_INVALID, "COLLX_SECRET_FILE is not set: %s",
			       l->by->advice);
	if (l->rank == 0 && !__atomic_exchange_n(&said, true, __ATOMIC_RELAXED))
		fprintf(stderr, "libcollx: COLLX_INSECURE=1: this job has no secret, anybody who "
			"reaches rank 0 can join it\n");
	job_text(l->by, text, sizeof(text));
	return cx_secret_from_text(&m->secret, text);
}

/* ---- where ---- */

/* A port that is fixed lies in the range, and is the one that others name. */
static int check_port(enum cx_env by, long port, int ports)
{
	long first, last, want;
	int rc = cx_env_int(CX_ENV_PORT, 1, 65535, &want);

	if (rc > 0 && by != CX_ENV_PORT && want != port)
		return contradiction(CX_ENV_PORT, by, "");
	if (rc >= 0)
		rc = cx_env_range(CX_ENV_PORT_RANGE, 1, 65535, &first, &last);
	if (rc > 0 && (port < first || port + ports - 1 > last))
		return contradiction(CX_ENV_PORT_RANGE, by,
				     ports > 1 ? ", the next 16 ports: set COLLX_PORT" : "");
	return rc < 0 ? rc : 0;
}

/* COLLX_ADDR. */
static int place_given(struct cx_meeting *m, const char *where)
{
	int rc = cx_place_find(&m->place, where, m->deadline_ns, m->stop, m->stop_ctx);

	if (rc || !is_tcp(where))
		return rc;
	if (cx_place_port(&m->place) == 0)
		return cx_fail(COLLX_ERR_INVALID, "COLLX_ADDR=%s: the ranks cannot know which port "
			       "that becomes", where);
	return check_port(CX_ENV_ADDR, cx_place_port(&m->place), 1);
}

/* MASTER_ADDR. 1, 0 when it is not there, or an error. */
static int place_of_master(struct cx_meeting *m)
{
	const char *host = cx_env_text(CX_ENV_MASTER_ADDR);
	char where[CX_MEET_MAX];
	long port, master = 0;
	int ports = 1, rc = cx_env_int(CX_ENV_PORT, 1, 65535, &port);

	if (rc == 0) {
		rc = cx_env_int(CX_ENV_MASTER_PORT, 1, 65534, &master);
		port = master + 1;
		ports = port + PORTS_MAX > 65536 ? (int)(65536 - port) : PORTS_MAX;
	}
	if (rc <= 0 || !host)
		return rc < 0 ? rc : 0;
	if ((size_t)snprintf(where, sizeof(where),
			     strchr(host, ':') ? "tcp:[%s]:%ld" : "tcp:%s:%ld", host,
			     port) >= sizeof(where))
		return cx_fail(COLLX_ERR_INVALID, "MASTER_ADDR is too long");
	rc = check_port(master ? CX_ENV_MASTER_PORT : CX_ENV_PORT, port, ports);
	if (!rc)
		rc = cx_place_find(&m->place, where, m->deadline_ns, m->stop, m->stop_ctx);
	m->place.ports = ports;
	return rc ? rc : 1;
}

/* ---- an id through the launcher ---- */

struct exchange {
	collx_unique_id id;
	char text[CX_KVS_TEXT_MAX];
};
_Static_assert(2 * sizeof(collx_unique_id) < CX_KVS_TEXT_MAX, "an id in hexadecimal fits");

static void id_to_text(struct exchange *x)
{
	static const char digits[] = "0123456789abcdef";
	size_t n = sizeof(x->id.bytes);

	for (size_t i = 0; i < n; i++) {
		x->text[2 * i] = digits[x->id.bytes[i] >> 4];
		x->text[2 * i + 1] = digits[x->id.bytes[i] & 15];
	}
	x->text[2 * n] = '\0';
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int text_to_id(struct exchange *x)
{
	size_t n = sizeof(x->id.bytes);

	if (strlen(x->text) != 2 * n)
		return COLLX_ERR_CORRUPT;
	for (size_t i = 0; i < n; i++) {
		int hi = digit(x->text[2 * i]), lo = digit(x->text[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return COLLX_ERR_CORRUPT;
		x->id.bytes[i] = (unsigned char)(hi << 4 | lo);
	}
	return 0;
}

/* An id at the loopback serves nobody elsewhere, unless that is what was asked for. */
static int check_id_place(const struct cx_launch *l, const struct cx_meeting *m)
{
	if (l->one_host || m->place.addr.ss_family != AF_UNIX || cx_env_text(CX_ENV_INTERFACE) ||
	    cx_env_text(CX_ENV_ADDR))
		return 0;
	return cx_fail(COLLX_ERR_INVALID,
		       "rank 0's host has no address that other hosts reach (collx-info net shows "
		       "why): set COLLX_INTERFACE");
}

/* Rank 0's failure comes to the others in the place of an id, so that nobody waits. */
static int exchange_id(const struct cx_launch *l, const struct cx_kvs *kvs, struct cx_meeting *m)
{
	const struct cx_place here = { .addr.ss_family = AF_UNIX };
	struct exchange *x = cx_vault_create(sizeof(*x));
	char line[CX_FAULT_TEXT_MAX] = "";
	int made = 0, rc = x ? 0 : COLLX_ERR_NOMEM;

	if (!rc && l->rank == 0)
		made = l->one_host ? cx_uid_make_at(&x->id, &here)
				   : cx_uid_make(&x->id, m->deadline_ns);
	if (made) {
		snprintf(line, sizeof(line), "%s", cx_error_text());
		cx_uid_put_failure(&x->id, made);
	}
	if (!rc) {
		id_to_text(x);
		rc = cx_kvs_share(kvs, l->rank, l->ranks, x->text, m->deadline_ns);
	}
	if (made)
		rc = cx_fail(made, "%s", line);
	else if (!rc && text_to_id(x))
		rc = cx_fail(COLLX_ERR_CORRUPT, "%s handed on something that is no unique id",
			     kvs->name);
	if (!rc)
		rc = cx_uid_failure(&x->id, 0);
	if (!rc)
		rc = cx_uid_read(&x->id, m);
	if (!rc)
		rc = check_id_place(l, m);
	if (rc && x && !made && l->rank == 0)
		cx_uid_drop(&x->id);
	cx_vault_destroy(x, sizeof(*x));
	return rc;
}

/* ---- all together ---- */

static int meet_here(const struct cx_launch *l, struct cx_meeting *m, const char *where, bool given)
{
	const struct cx_kvs *kvs = l->by->exchanges ? cx_kvs_find() : NULL;
	char own[CX_MEET_MAX], text[256];
	int rc;

	/* MPICH's mpiexec tells the ranks no name of the job. */
	if (kvs && !given && !where && !job_text(l->by, text, sizeof(text)))
		return exchange_id(l, kvs, m);
	rc = given ? 0 : secret_of_job(l, m);
	if (!rc && !where) {
		rc = cx_host_meeting(own, sizeof(own), m->secret.job);
		where = own;
	}
	return rc ? rc : cx_place_parse(&m->place, where);
}

/* 1: m->place is known; 0: an exchange has to tell. */
static int known_place(const struct cx_launch *l, struct cx_meeting *m, const char *where)
{
	int rc;

	if (where) {
		rc = place_given(m, where);
		return rc ? rc : 1;
	}
	return l->by->job[0] == CX_ENV_MASTER_ADDR ? place_of_master(m) : 0;
}

static int no_place(const struct cx_launch *l)
{
	if (l->by->job[0] == CX_ENV_MASTER_ADDR)
		return cx_fail(COLLX_ERR_INVALID, "MASTER_ADDR or MASTER_PORT is not set: start "
			       "the program with torchrun, or set COLLX_ADDR");
	return cx_fail(COLLX_ERR_INVALID, "COLLX_ADDR is not set: ranks of several hosts need "
		       "tcp:HOST:PORT of rank 0");
}

/* At a loopback that is what a rank has to know that meets nobody. */
static void say_several(const struct cx_launch *l, char *text, size_t len)
{
	const struct cx_launcher *by = l->by;
	long n = 0;

	text[0] = '\0';
	if (l->local && l->local < l->ranks && by->local_ranks != NONE)
		snprintf(text, len, "%s=%d and %s=%d", name_of(by->ranks), l->ranks,
			 name_of(by->local_ranks), l->local);
	else if (l->local && l->local < l->ranks)
		snprintf(text, len, "PMIx (%d of %d ranks are here)", l->local, l->ranks);
	else if (int_of(by->hosts, 1, &n) > 0 && n > 1)
		snprintf(text, len, "%s=%ld", name_of(by->hosts), n);
	else if (int_of(by->local_rank, 0, &n) > 0 && n < l->rank)
		snprintf(text, len, "%s=%d and %s=%ld", name_of(by->rank), l->rank,
			 name_of(by->local_rank), n);
}

/* Names are looked up, which may take long, by those who have a secret. */
static int meet_elsewhere(const struct cx_launch *l, struct cx_meeting *m, const char *where,
			  bool given)
{
	const struct cx_kvs *kvs = l->by->exchanges && !(where && given) ? cx_kvs_find() : NULL;
	int known, rc = given || kvs ? 0 : no_secret(l, m);
	struct cx_secret own = m->secret;
	struct cx_place place;

	if (rc)
		return rc;
	known = known_place(l, m, where);
	place = m->place;
	if (known < 0)
		rc = known;
	else if (kvs)
		rc = exchange_id(l, kvs, m);
	if (!rc && !known && !kvs)
		rc = no_place(l);
	if (given)
		m->secret = own;
	if (known > 0)
		m->place = place;
	cx_secret_wipe(&own);
	if (rc)
		return rc;
	say_several(l, m->several, sizeof(m->several));
	m->local.name[0] = '\0';
	return cx_uid_local(m);
}

/* Nobody is to find it. */
static int meet_alone(struct cx_meeting *m)
{
	const struct cx_place here = { .addr.ss_family = AF_UNIX };
	collx_unique_id *id = cx_vault_create(sizeof(*id));
	int rc = id ? cx_uid_make_at(id, &here) : COLLX_ERR_NOMEM;

	if (!rc)
		rc = cx_uid_read(id, m);
	cx_vault_destroy(id, sizeof(*id));
	return rc;
}

int cx_launch_meet(const struct cx_launch *l, struct cx_meeting *m)
{
	const char *where = cx_env_text(CX_ENV_ADDR);
	int given;

	if (!where && is_own(l->by) && l->ranks > 1)
		return cx_fail(COLLX_ERR_INVALID,
			       "COLLX_ADDR is not set: start the program with collx-run");
	given = secret_given(m);
	if (given < 0)
		return given;
	if (l->ranks == 1)
		return meet_alone(m);
	return l->one_host ? meet_here(l, m, where, given)
			   : meet_elsewhere(l, m, where, given);
}
