/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * PMI-2, as MPICH's process manager and Slurm's plug-in speak it over the descriptor
 * PMI_FD: a line each way to agree on the version, then messages of six digits of
 * length and "cmd=NAME;key=value;...". A semicolon in a value is doubled.
 */
#include <dlfcn.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/base.h"
#include "kvs.h"
#include "vault.h"

enum { LEN_DIGITS = 6, BODY_MAX = 2048, JOB_MAX = 256 };

/* A message each way; in a vault, for the sake of the text. */
struct talk {
	int fd;
	uint64_t deadline_ns;
	char body[BODY_MAX];
	char job[JOB_MAX]; /* how the launcher calls it */
};

static struct {
	bool begun;
	pid_t pid; /* who talks to the launcher: not its children */
	int fd;
	char job[JOB_MAX];
} session;

/* ---- messages ---- */

static int silent(const char *what)
{
	return cx_fail(COLLX_ERR_INIT_TIMEOUT,
		       "the launcher did not answer %s over PMI-2 before the deadline%s", what,
		       strcmp(what, "kvs-fence") ? "" : ": it waits for all ranks, did one not "
							"come?");
}

static int broken(const char *what)
{
	return cx_fail(COLLX_ERR_SYSTEM, "the launcher's PMI-2 connection (PMI_FD) is %s", what);
}

static int send_all(const struct talk *t, const char *text, size_t len)
{
	while (len) {
		struct iovec v = { (void *)(uintptr_t)text, len };
		struct msghdr msg = { .msg_iov = &v, .msg_iovlen = 1 };
		long n = cx_sys->sendmsg(t->fd, &msg);

		if (n <= 0)
			return cx_fail_errno(n ? (int)-n : 1, "writing to PMI_FD=%d", t->fd);
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

static int receive(const struct talk *t, char *text, size_t len, const char *what)
{
	while (len) {
		struct iovec v = { text, len };
		struct msghdr msg = { .msg_iov = &v, .msg_iovlen = 1 };
		struct pollfd p = { .fd = t->fd, .events = POLLIN };
		uint64_t now = cx_now_ns();
		long n;

		if (now >= t->deadline_ns)
			return silent(what);
		if (cx_sys->poll(&p, 1, (int)cx_min((t->deadline_ns - now) / 1000000 + 1, 1000)) <=
		    0)
			continue;
		n = cx_sys->recvmsg(t->fd, &msg);
		if (n <= 0)
			return n ? cx_fail_errno((int)-n, "reading from PMI_FD=%d", t->fd)
				 : broken("closed");
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

/* The value of a key in the body's message, with semicolons made single again; or 0. */
static int get(const struct talk *t, const char *key, char *value, size_t room)
{
	const char *at = t->body;
	size_t len = strlen(key), n = 0;

	while (*at) {
		int found = !strncmp(at, key, len) && at[len] == '=';

		at = strchr(at, '=');
		if (!at)
			return 0;
		for (at++; *at && (*at != ';' || at[1] == ';'); at++) {
			at += *at == ';';
			if (found && n + 1 < room)
				value[n++] = *at;
		}
		if (found) {
			value[n] = '\0';
			return 1;
		}
		at += *at == ';';
	}
	return 0;
}

static int is_value(const struct talk *t, const char *key, const char *want)
{
	char value[64];

	return get(t, key, value, sizeof(value)) && !strcmp(value, want);
}

/* Sends "cmd=NAME;" and what the format says; the body becomes the good answer. */
__attribute__((format(printf, 3, 4))) static int ask(struct talk *t, const char *cmd,
						      const char *fmt, ...)
{
	char head[16], wanted[64]; /* LEN_DIGITS go out */
	va_list ap;
	long len;
	int n, rc;

	n = snprintf(t->body, BODY_MAX, "cmd=%s;", cmd);
	va_start(ap, fmt);
	n += vsnprintf(t->body + n, BODY_MAX - (size_t)n, fmt, ap);
	va_end(ap);
	if (n >= BODY_MAX)
		return cx_fail(COLLX_ERR_INTERNAL, "a PMI-2 message is too long");
	snprintf(head, sizeof(head), "%-6d", n);
	rc = send_all(t, head, LEN_DIGITS);
	if (!rc)
		rc = send_all(t, t->body, (size_t)n);
	if (!rc)
		rc = receive(t, head, LEN_DIGITS, cmd);
	if (rc)
		return rc;
	head[LEN_DIGITS] = '\0';
	len = strtol(head, NULL, 10);
	if (len < 1 || len >= BODY_MAX)
		return broken("damaged");
	rc = receive(t, t->body, (size_t)len, cmd);
	if (rc)
		return rc;
	t->body[len] = '\0';
	snprintf(wanted, sizeof(wanted), "%s-response", cmd);
	if (!is_value(t, "cmd", wanted) || !is_value(t, "rc", "0"))
		return cx_fail(COLLX_ERR_SYSTEM, "the launcher refused %s over PMI-2", cmd);
	return 0;
}

/* ---- the session ---- */

/* The version is agreed on in the older protocol, a line each way. */
static int agree_version(struct talk *t)
{
	static const char hello[] = "cmd=init pmi_version=2 pmi_subversion=0\n";
	size_t n = 0;
	int rc = send_all(t, hello, sizeof(hello) - 1);

	do {
		if (!rc)
			rc = receive(t, t->body + n, 1, "init");
	} while (!rc && t->body[n++] != '\n' && n + 1 < BODY_MAX);
	if (rc)
		return rc;
	t->body[n] = '\0';
	if (!strstr(t->body, "cmd=response_to_init") || !strstr(t->body, "rc=0"))
		return cx_fail(COLLX_ERR_UNSUPPORTED, "the launcher does not speak PMI-2");
	return 0;
}

/* Both sides must mean the same job: another program may have its own ranks. */
static int check_job(const struct talk *t, int rank, int ranks)
{
	char has_rank[32] = "?", has_ranks[32] = "?";

	get(t, "rank", has_rank, sizeof(has_rank));
	get(t, "size", has_ranks, sizeof(has_ranks));
	if (atoi(has_rank) != rank || atoi(has_ranks) != ranks)
		return cx_fail(COLLX_ERR_INVALID,
			       "PMI_FD is for rank %s of %s, the variables say rank %d of %d",
			       has_rank, has_ranks, rank, ranks);
	return 0;
}

static int begin(struct talk *t, int rank, int ranks)
{
	const char *job = cx_env_text(CX_ENV_PMI_JOB);
	int rc = agree_version(t);

	if (!rc)
		rc = ask(t, "fullinit", "%s%s%spmirank=%d;threaded=FALSE;", job ? "pmijobid=" : "",
			 job ? job : "", job ? ";" : "", rank);
	if (!rc)
		rc = check_job(t, rank, ranks);
	if (!rc)
		rc = ask(t, "job-getid", "%s", "");
	if (!rc && !get(t, "jobid", t->job, sizeof(t->job)))
		rc = broken("damaged");
	return rc;
}

/* A launcher takes a process that ends without this for a crash. */
static void end_session(void)
{
	struct talk t = { .fd = session.fd, .deadline_ns = cx_now_ns() + 1000000000 };

	if (session.begun && session.pid == getpid())
		ask(&t, "finalize", "%s", "");
}

/* Two cannot share the descriptor: the MPI library talks over it, too. */
static int check_mpi(void)
{
	int (*initialized)(int *) = NULL;
	int yes = 0;

	*(void **)&initialized = dlsym(RTLD_DEFAULT, "MPI_Initialized");
	if (initialized && !initialized(&yes) && yes)
		return cx_fail(COLLX_ERR_INVALID,
			       "MPI_Init has taken the launcher's PMI-2 connection: use "
			       "collx_comm_create_oob with MPI_Allgather");
	return 0;
}

static int open_session(struct talk *t, int rank, int ranks)
{
	long fd;
	int rc = cx_env_int(CX_ENV_PMI_FD, 0, INT_MAX, &fd);

	if (rc < 0)
		return rc;
	t->fd = (int)fd;
	if (session.begun) {
		if (session.pid != getpid())
			return cx_fail(COLLX_ERR_FORKED, "the launcher's PMI-2 connection is the "
				       "parent's");
		snprintf(t->job, sizeof(t->job), "%s", session.job);
		return 0;
	}
	rc = check_mpi();
	if (!rc)
		rc = begin(t, rank, ranks);
	if (rc)
		return rc;
	session.begun = true;
	session.pid = getpid();
	session.fd = t->fd;
	snprintf(session.job, sizeof(session.job), "%s", t->job);
	atexit(end_session);
	return 0;
}

/* ---- the exchange ---- */

static bool is_offered(void)
{
	return cx_env_text(CX_ENV_PMI_FD) != NULL;
}

static int exchange(struct talk *t, int rank, unsigned number, char *text)
{
	int rc = 0;

	if (rank == 0)
		rc = ask(t, "kvs-put", "key=collx-id-%u;value=%s;", number, text);
	if (!rc)
		rc = ask(t, "kvs-fence", "%s", "");
	if (rc || rank == 0)
		return rc;
	rc = ask(t, "kvs-get", "jobid=%s;srcid=-1;key=collx-id-%u;", t->job, number);
	if (!rc && (!is_value(t, "found", "TRUE") || !get(t, "value", text, CX_KVS_TEXT_MAX)))
		rc = cx_fail(COLLX_ERR_SYSTEM, "PMI-2 has nothing from rank 0: did it fail?");
	return rc;
}

static int share(int rank, int ranks, unsigned number, char *text, uint64_t deadline_ns)
{
	struct talk *t = cx_vault_create(sizeof(*t));
	int rc = t ? 0 : COLLX_ERR_NOMEM;

	if (!rc) {
		t->deadline_ns = deadline_ns;
		rc = open_session(t, rank, ranks);
	}
	if (!rc)
		rc = exchange(t, rank, number, text);
	cx_vault_destroy(t, sizeof(*t));
	return rc;
}

const struct cx_kvs cx_kvs_pmi2 = { "PMI-2", is_offered, share };
