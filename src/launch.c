/* SPDX-License-Identifier: BSD-3-Clause */
/* The launchers' variables, a row each; see launch.h. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "launch.h"

#define NONE CX_ENV_COUNT
enum { JOB_VARS = 2 };

struct launcher {
	const char *name;
	enum cx_env rank, ranks;
	enum cx_env local_rank;
	enum cx_env local_ranks; /* the job is on one host when this equals ranks, */
	enum cx_env hosts;       /* or this is 1 */
	enum cx_env job[JOB_VARS]; /* what tells this job from others of this user */
};

static const struct launcher launchers[] = {
	{ "collx-run", CX_ENV_RANK, CX_ENV_SIZE, CX_ENV_LOCAL_RANK, NONE, NONE, { NONE, NONE } },
	{ "torchrun", CX_ENV_TORCH_RANK, CX_ENV_TORCH_SIZE, CX_ENV_TORCH_LOCAL_RANK,
	  CX_ENV_TORCH_LOCAL_SIZE, NONE, { CX_ENV_MASTER_ADDR, CX_ENV_MASTER_PORT } },
	{ "Open MPI's mpirun", CX_ENV_OMPI_RANK, CX_ENV_OMPI_SIZE, CX_ENV_OMPI_LOCAL_RANK,
	  CX_ENV_OMPI_LOCAL_SIZE, NONE, { CX_ENV_PMIX_NAMESPACE, NONE } },
	{ "Slurm", CX_ENV_SLURM_RANK, CX_ENV_SLURM_SIZE, CX_ENV_SLURM_LOCAL_RANK, NONE,
	  CX_ENV_SLURM_HOSTS, { CX_ENV_SLURM_JOB, CX_ENV_SLURM_STEP } },
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

/* The first that is complete, else the first of which a variable is set; without any,
 * collx-run, which is missed then. Half of collx-run's own is always a mistake. */
static const struct launcher *find_launcher(void)
{
	if (text_of(launchers[0].rank) || text_of(launchers[0].ranks))
		return &launchers[0];
	for (int i = 0; i < LAUNCHERS; i++)
		if (text_of(launchers[i].rank) && text_of(launchers[i].ranks))
			return &launchers[i];
	for (int i = 0; i < LAUNCHERS; i++)
		if (text_of(launchers[i].rank) || text_of(launchers[i].ranks))
			return &launchers[i];
	return &launchers[0];
}

static int need_int(const struct launcher *l, enum cx_env v, long lo, int *out)
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

static int is_tcp(const char *where)
{
	return where && !strncmp(where, "tcp:", 4);
}

/* Are all ranks of this host? Those that meet at a unix socket must be. */
static int one_host(const struct launcher *l, int ranks)
{
	const char *where = cx_env_text(CX_ENV_ADDR);
	long n;

	if (where || l == &launchers[0])
		return !is_tcp(where);
	if (l->local_ranks != NONE)
		return cx_env_int(l->local_ranks, 1, INT_MAX, &n) > 0 && n == ranks;
	return cx_env_int(l->hosts, 1, INT_MAX, &n) > 0 && n == 1;
}

static int contradiction(enum cx_env a, long va, enum cx_env b, long vb, const char *why)
{
	return cx_fail(COLLX_ERR_INVALID, "%s=%ld contradicts %s=%ld%s", name_of(a), va, name_of(b),
		       vb, why);
}

static int check(const struct launcher *l, int rank, int ranks)
{
	int here = one_host(l, ranks), rc;
	long local;

	if (rank >= ranks)
		return contradiction(l->rank, rank, l->ranks, ranks, "");
	rc = cx_env_int(l->local_rank, 0, INT_MAX, &local);
	if (rc > 0 && (local > rank || (here && local != rank)))
		return contradiction(l->local_rank, local, l->rank, rank,
				     here ? " where all ranks are of one host" : "");
	return rc < 0 ? rc : 0;
}

int cx_launch_read(struct cx_launch *out)
{
	const struct launcher *l = find_launcher();
	int rank = 0, ranks = 0;
	int rc = need_int(l, l->ranks, 1, &ranks);

	if (!rc)
		rc = need_int(l, l->rank, 0, &rank);
	if (!rc)
		rc = check(l, rank, ranks);
	if (!rc)
		*out = (struct cx_launch){ l->name, rank, ranks };
	return rc;
}

/* ---- meeting ---- */

/* All that names this job on this host, as one text; 0 when nothing does. */
static int job_text(const struct launcher *l, char *text, size_t len)
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
static int secret_of_job(const struct launcher *l, struct cx_meeting *m)
{
	char text[256];

	if (!job_text(l, text, sizeof(text)))
		return cx_fail(COLLX_ERR_INVALID, "COLLX_SECRET_FILE is not set, and nothing names "
			       "the job of %s", l->name);
	return cx_secret_from_text(&m->secret, text);
}

static int read_secret(const struct launcher *l, int here, struct cx_meeting *m)
{
	const char *file = cx_env_text(CX_ENV_SECRET_FILE);

	if (file)
		return cx_secret_read(&m->secret, file);
	if (l == &launchers[0])
		return cx_fail(COLLX_ERR_INVALID,
			       "COLLX_SECRET_FILE is not set: start the program with collx-run");
	if (!here)
		return cx_fail(COLLX_ERR_INVALID,
			       "COLLX_SECRET_FILE is not set: ranks of several hosts need one, "
			       "which %s does not hand over",
			       l->name);
	return secret_of_job(l, m);
}

static int usual_place(const struct launcher *l, int here, struct cx_meeting *m)
{
	const char *host = cx_env_text(CX_ENV_MASTER_ADDR);
	char where[CX_MEET_MAX];
	long port;
	int rc;

	if (here) {
		rc = cx_boot_place(where, m->secret.job);
		return rc ? rc : cx_place_parse(&m->place, where);
	}
	rc = cx_env_int(CX_ENV_MASTER_PORT, 1, 65534, &port);
	if (rc < 0)
		return rc;
	if (l->job[0] != CX_ENV_MASTER_ADDR || !host || !rc)
		return cx_fail(COLLX_ERR_INVALID,
			       "COLLX_ADDR is not set: ranks of several hosts need "
			       "tcp:HOST:PORT of rank 0");
	if ((size_t)snprintf(where, sizeof(where),
			     strchr(host, ':') ? "tcp:[%s]:%ld" : "tcp:%s:%ld", host,
			     port + 1) >= sizeof(where))
		return cx_fail(COLLX_ERR_INVALID, "MASTER_ADDR is too long");
	return cx_place_parse(&m->place, where);
}

int cx_launch_meet(const struct cx_launch *launch, struct cx_meeting *m)
{
	const struct launcher *l = find_launcher();
	const char *where = cx_env_text(CX_ENV_ADDR);
	int here = one_host(l, launch->ranks), rc;

	if (!where && l == &launchers[0])
		return cx_fail(COLLX_ERR_INVALID,
			       "COLLX_ADDR is not set: start the program with collx-run");
	rc = where ? cx_place_parse(&m->place, where) : 0;
	if (!rc)
		rc = read_secret(l, here, m);
	return rc || where ? rc : usual_place(l, here, m);
}
