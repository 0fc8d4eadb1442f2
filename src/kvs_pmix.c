/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * PMIx, as Open MPI's and Slurm's launchers offer it. libpmix is loaded at run time, so
 * that nobody needs it who is not started that way. Its calls have no deadline that
 * every server keeps, so they run aside.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "kvs.h"
#include "vault.h"

static bool is_offered(void)
{
	return cx_env_text(CX_ENV_PMIX_NAMESPACE) != NULL;
}

#ifdef CX_HAVE_PMIX
#include <pmix.h>

/* Its functions, under their types in pmix.h. */
static struct {
	__typeof__(PMIx_Init) *init;
	__typeof__(PMIx_Finalize) *finalize;
	__typeof__(PMIx_Put) *put;
	__typeof__(PMIx_Commit) *commit;
	__typeof__(PMIx_Fence) *fence;
	__typeof__(PMIx_Get) *get;
	__typeof__(PMIx_Error_string) *error_string;
} pmix;

static const struct {
	const char *name;
	void **to;
} functions[] = {
	{ "PMIx_Init", (void **)&pmix.init },
	{ "PMIx_Finalize", (void **)&pmix.finalize },
	{ "PMIx_Put", (void **)&pmix.put },
	{ "PMIx_Commit", (void **)&pmix.commit },
	{ "PMIx_Fence", (void **)&pmix.fence },
	{ "PMIx_Get", (void **)&pmix.get },
	{ "PMIx_Error_string", (void **)&pmix.error_string },
};

/* What a thread of its own does, in a vault. */
struct job {
	struct cx_aside aside;
	int rank, ranks, local; /* rank -1: asks for the sizes alone */
	unsigned number;
	int code;
	char line[200];
	char text[CX_KVS_TEXT_MAX];
};

static int load(struct job *j)
{
	void *lib = dlopen("libpmix.so.2", RTLD_NOW | RTLD_LOCAL);

	for (size_t i = 0; lib && i < sizeof(functions) / sizeof(functions[0]); i++) {
		*functions[i].to = dlsym(lib, functions[i].name);
		if (!*functions[i].to)
			lib = NULL;
	}
	if (lib)
		return 0;
	snprintf(j->line, sizeof(j->line),
		 "the launcher offers PMIx, and libpmix.so.2 cannot be used here (%s)", dlerror());
	return COLLX_ERR_UNSUPPORTED;
}

static int check(struct job *j, pmix_status_t status, const char *what)
{
	if (status == PMIX_SUCCESS)
		return 0;
	snprintf(j->line, sizeof(j->line), "%s of the launcher's PMIx: %s", what,
		 pmix.error_string(status));
	return COLLX_ERR_SYSTEM;
}

static void release(pmix_value_t *value)
{
	if (value->type == PMIX_STRING && value->data.string) {
		explicit_bzero(value->data.string, strlen(value->data.string));
		free(value->data.string);
	}
	free(value);
}

static int put(struct job *j, const char *key)
{
	pmix_value_t value = { .type = PMIX_STRING };
	int rc;

	value.data.string = j->text;
	rc = check(j, pmix.put(PMIX_GLOBAL, key, &value), "PMIx_Put");
	return rc ? rc : check(j, pmix.commit(), "PMIx_Commit");
}

static int fence(struct job *j, const pmix_proc_t *me)
{
	pmix_proc_t everybody = *me;
	pmix_info_t *collect = calloc(1, sizeof(*collect));
	int rc;

	if (!collect)
		return COLLX_ERR_NOMEM;
	everybody.rank = PMIX_RANK_WILDCARD;
	strcpy(collect->key, PMIX_COLLECT_DATA);
	collect->value.type = PMIX_BOOL;
	collect->value.data.flag = true;
	rc = check(j, pmix.fence(&everybody, 1, collect, 1), "PMIx_Fence");
	free(collect);
	return rc;
}

static int get(struct job *j, const pmix_proc_t *me, const char *key)
{
	pmix_proc_t zero = *me;
	pmix_value_t *value = NULL;
	int rc;

	zero.rank = 0;
	rc = check(j, pmix.get(&zero, key, NULL, 0, &value), "PMIx_Get");
	if (rc)
		return rc;
	if (value->type != PMIX_STRING || !value->data.string ||
	    strlen(value->data.string) >= sizeof(j->text)) {
		snprintf(j->line, sizeof(j->line), "PMIx has something else under %s", key);
		rc = COLLX_ERR_CORRUPT;
	} else {
		strcpy(j->text, value->data.string);
	}
	release(value);
	return rc;
}

static int get_number(struct job *j, const pmix_proc_t *me, const char *key, int *out)
{
	pmix_proc_t whole = *me;
	pmix_value_t *value = NULL;
	int rc;

	whole.rank = PMIX_RANK_WILDCARD;
	rc = check(j, pmix.get(&whole, key, NULL, 0, &value), key);
	if (rc)
		return rc;
	*out = value->type == PMIX_UINT32 ? (int)value->data.uint32 : 0;
	release(value);
	return 0;
}

static int talk(struct job *j, const pmix_proc_t *me)
{
	char key[32];
	int rc;

	if (j->rank < 0) {
		rc = get_number(j, me, PMIX_JOB_SIZE, &j->ranks);
		return rc ? rc : get_number(j, me, PMIX_LOCAL_SIZE, &j->local);
	}
	if (me->rank != (unsigned)j->rank) {
		snprintf(j->line, sizeof(j->line),
			 "PMIx knows this process as rank %u, the variables say rank %d", me->rank,
			 j->rank);
		return COLLX_ERR_INVALID;
	}
	snprintf(key, sizeof(key), "collx.id.%u", j->number);
	rc = j->rank ? 0 : put(j, key);
	if (!rc)
		rc = fence(j, me);
	return rc || !j->rank ? rc : get(j, me, key);
}

/*
 * Begun once, ended with the process: an MPI_Init that comes later finds nothing when
 * PMIx was ended before. `busy` is the call that runs, or was given up.
 */
static struct {
	bool begun;
	_Atomic bool busy;
	pid_t pid;
	pmix_proc_t me;
} session;

static void end_session(void)
{
	if (session.pid == getpid() && !session.busy)
		pmix.finalize(NULL, 0);
}

static int begin(struct job *j)
{
	int rc = load(j);

	if (!rc)
		rc = check(j, pmix.init(&session.me, NULL, 0), "PMIx_Init");
	if (rc)
		return rc;
	session.begun = true;
	session.pid = getpid();
	atexit(end_session);
	return 0;
}

static void run(struct cx_aside *a)
{
	struct job *j = (struct job *)a;

	j->code = session.begun ? 0 : begin(j);
	if (!j->code)
		j->code = talk(j, &session.me);
	session.busy = false;
}

static void drop(struct cx_aside *a)
{
	cx_vault_destroy(a, sizeof(struct job));
}

/* Runs the job until the deadline; frees it unless all is well. */
static int carry_out(struct job *j, uint64_t deadline_ns)
{
	int rc;

	j->aside.run = run;
	j->aside.drop = drop;
	if (atomic_exchange(&session.busy, true)) {
		drop(&j->aside);
		return cx_fail(COLLX_ERR_SYSTEM, "an earlier call of PMIx has not returned");
	}
	if (session.begun && session.pid != getpid()) {
		drop(&j->aside);
		session.busy = false;
		return cx_fail(COLLX_ERR_FORKED, "the launcher's PMIx connection is the parent's");
	}
	rc = cx_aside_run(&j->aside, deadline_ns);
	if (rc == 0)
		return cx_fail(COLLX_ERR_INIT_TIMEOUT, "creation: nothing came from the launcher "
			       "or from other ranks through PMIx before the deadline");
	session.busy = false;
	if (rc > 0)
		rc = !j->code ? 0 : cx_fail(j->code, "%s: COLLX_SECRET_FILE and COLLX_ADDR do "
					    "without it", j->line);
	if (rc)
		drop(&j->aside);
	return rc;
}

static int share(int rank, int ranks, unsigned number, char *text, uint64_t deadline_ns)
{
	struct job *j = cx_vault_create(sizeof(*j));
	int rc;

	if (!j)
		return COLLX_ERR_NOMEM;
	j->rank = rank;
	j->ranks = ranks;
	j->number = number;
	snprintf(j->text, sizeof(j->text), "%s", text);
	rc = carry_out(j, deadline_ns);
	if (rc)
		return rc;
	strcpy(text, j->text);
	drop(&j->aside);
	return 0;
}

int cx_kvs_pmix_sizes(int *ranks, int *local, uint64_t deadline_ns)
{
	struct job *j = cx_vault_create(sizeof(*j));
	int rc;

	if (!j)
		return COLLX_ERR_NOMEM;
	j->rank = -1;
	rc = carry_out(j, deadline_ns);
	if (rc)
		return rc;
	*ranks = j->ranks;
	*local = j->local;
	drop(&j->aside);
	return 0;
}

#else

static int left_out(void)
{
	return cx_fail(COLLX_ERR_UNSUPPORTED,
		       "the launcher offers PMIx, and this libcollx was built without it: set "
		       "COLLX_SECRET_FILE and COLLX_ADDR");
}

static int share(int rank, int ranks, unsigned number, char *text, uint64_t deadline_ns)
{
	(void)rank;
	(void)ranks;
	(void)number;
	(void)text;
	(void)deadline_ns;
	return left_out();
}

int cx_kvs_pmix_sizes(int *ranks, int *local, uint64_t deadline_ns)
{
	(void)ranks;
	(void)local;
	(void)deadline_ns;
	return left_out();
}

#endif

const struct cx_kvs cx_kvs_pmix = { "PMIx", is_offered, share };
