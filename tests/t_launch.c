/* SPDX-License-Identifier: BSD-3-Clause */
/* What launchers' variables say and contradict, where secrets come from and that none is
 * left in memory, and the exchange over PMI-2, with a launcher of the test's own. */
#include <ctype.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <criterion/criterion.h>

#include "src/base/base.h"
#include "src/launch.h"
#include "src/uid.h"
#include "tests/world.h"

enum { RANKS = 3, VARS = 20 };

static void set_all(const char *const *set, int rank)
{
	for (int i = 0; i + 1 < VARS && set[i]; i += 2) {
		char value[200];

		snprintf(value, sizeof(value), "%s", set[i + 1]);
		if (!strcmp(value, "%d"))
			snprintf(value, sizeof(value), "%d", rank);
		setenv(set[i], value, 1);
	}
}

/* One creation and one sum; returns the code, the line in `line`. */
static int come(unsigned timeout_ms, int ranks, char *line, size_t len)
{
	collx_config config = COLLX_CONFIG_INIT;
	collx_comm_t c = NULL;
	int32_t one = 1, sum = 0;
	int rc;

	config.create_timeout_ms = timeout_ms;
	rc = collx_comm_create_from_env(&c, &config);
	snprintf(line, len, "%s", collx_last_error(c));
	if (!rc)
		EXPECT(!collx_allreduce(&one, &sum, 1, COLLX_INT32, COLLX_SUM, c, NULL) &&
		       sum == ranks, "a sum of %d: %s", sum, collx_last_error(c));
	collx_comm_destroy(c);
	return rc;
}

/* ---- contradictions: seen by one rank alone ---- */

struct wrong {
	const char *set[VARS];
	const char *line, *also;
};

#define TORCH "RANK", "0", "WORLD_SIZE", "4"
#define TORCH_FAR TORCH, "LOCAL_WORLD_SIZE", "2", "MASTER_ADDR", "127.0.0.1"
#define DIGITS "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static const struct wrong wrongs[] = {
	{ { TORCH, "LOCAL_WORLD_SIZE", "5" }, "LOCAL_WORLD_SIZE=5", "WORLD_SIZE=4" },
	{ { TORCH, "LOCAL_WORLD_SIZE", "2", "LOCAL_RANK", "1" }, "LOCAL_RANK=1", "RANK=0" },
	{ { "RANK", "3", "WORLD_SIZE", "4", "LOCAL_WORLD_SIZE", "2", "LOCAL_RANK", "2" },
	  "LOCAL_RANK=2", "LOCAL_WORLD_SIZE=2" },
	{ { "PMI_RANK", "4", "PMI_SIZE", "4" }, "PMI_RANK=4", "PMI_SIZE=4" },
	{ { "PMI_RANK", "0", "PMI_SIZE", "2", "MPI_LOCALNRANKS", "3" }, "MPI_LOCALNRANKS=3",
	  "PMI_SIZE=2" },
	{ { "SLURM_PROCID", "0", "SLURM_NTASKS", "2", "SLURM_STEP_NUM_NODES", "3" },
	  "SLURM_STEP_NUM_NODES=3", "SLURM_NTASKS=2" },
	{ { "SLURM_PROCID", "0", "SLURM_NTASKS", "2", "SLURM_STEP_NUM_NODES", "2", "COLLX_ADDR",
	    "unix:/tmp/x/y" }, "COLLX_ADDR=unix:/tmp/x/y", "SLURM_STEP_NUM_NODES=2" },
	{ { TORCH_FAR, "COLLX_ADDR", "unix:/tmp/x/y" }, "COLLX_ADDR=unix:/tmp/x/y",
	  "LOCAL_WORLD_SIZE=2" },
	{ { TORCH_FAR, "MASTER_PORT", "29500", "COLLX_SECRET", DIGITS, "COLLX_SECRET_FILE",
	    "/none" }, "COLLX_SECRET ", "COLLX_SECRET_FILE=/none" },
	{ { TORCH_FAR, "COLLX_ADDR", "tcp:127.0.0.1:7700", "COLLX_PORT", "7701",
	    "COLLX_SECRET", DIGITS }, "COLLX_PORT=7701", "COLLX_ADDR=tcp:127.0.0.1:7700" },
	{ { TORCH_FAR, "COLLX_ADDR", "tcp:127.0.0.1:7700", "COLLX_PORT_RANGE", "7701-7800",
	    "COLLX_SECRET", DIGITS }, "COLLX_PORT_RANGE=7701-7800", "COLLX_ADDR=" },
	{ { TORCH_FAR, "MASTER_PORT", "29500", "COLLX_PORT_RANGE", "29501-29515",
	    "COLLX_SECRET", DIGITS }, "COLLX_PORT_RANGE=29501-29515", "MASTER_PORT=29500" },
	{ { TORCH_FAR, "COLLX_PORT", "29500", "COLLX_PORT_RANGE", "29501-29515",
	    "COLLX_SECRET", DIGITS }, "COLLX_PORT_RANGE=29501-29515", "COLLX_PORT=29500" },
	{ { "RANK", "0", "WORLD_SIZE", "1", "OMPI_COMM_WORLD_RANK", "1", "OMPI_COMM_WORLD_SIZE",
	    "2" }, "WORLD_SIZE=1", "OMPI_COMM_WORLD_SIZE=2" },
	/* what is missing is named with what was found; before names are looked up */
	{ { TORCH, "LOCAL_WORLD_SIZE", "2", "MASTER_ADDR", "a..b", "MASTER_PORT", "29500" },
	  "COLLX_SECRET_FILE is not set", "torchrun" },
	{ { TORCH_FAR, "COLLX_SECRET", DIGITS }, "MASTER_PORT is not set", "torchrun" },
	{ { TORCH_FAR, "MASTER_PORT", "29500" }, "COLLX_SECRET_FILE is not set", "torchrun" },
	{ { "SLURM_PROCID", "0", "SLURM_NTASKS", "2", "SLURM_STEP_NUM_NODES", "2" },
	  "COLLX_SECRET_FILE is not set", "srun --mpi=pmi2" },
	{ { "PMI_RANK", "0", "PMI_SIZE", "2", "MPI_LOCALNRANKS", "1" },
	  "COLLX_SECRET_FILE is not set", "PMI_FD" },
	{ { "OMPI_COMM_WORLD_RANK", "0", "OMPI_COMM_WORLD_SIZE", "2",
	    "OMPI_COMM_WORLD_LOCAL_SIZE", "1" }, "COLLX_SECRET_FILE is not set", "PMIx" },
	{ { "SLURM_PROCID", "0", "SLURM_NTASKS", "2", "SLURM_STEP_NUM_NODES", "2",
	    "COLLX_SECRET", DIGITS }, "COLLX_ADDR is not set", "tcp:HOST:PORT" },
	{ { "PMI_RANK", "0" }, "PMI_SIZE is not set", "MPICH" },
	{ { "COLLX_RANK", "0", "COLLX_SIZE", "2" }, "COLLX_ADDR is not set", "collx-run" },
	{ { "PMIX_RANK", "0" }, "PMIX_NAMESPACE is not set", "PMIx" },
	/* values that mean nothing */
	{ { TORCH_FAR, "MASTER_PORT", "29500", "COLLX_SECRET", "0123" }, "COLLX_SECRET",
	  "64 hex digits" },
	{ { TORCH_FAR, "MASTER_PORT", "29500", "COLLX_SECRET", DIGITS "00" }, "COLLX_SECRET",
	  "64 hex digits" },
	{ { TORCH_FAR, "MASTER_PORT", "29500", "COLLX_INSECURE", "yes" }, "COLLX_INSECURE=yes",
	  "integer" },
	{ { TORCH_FAR, "MASTER_PORT", "70000", "COLLX_SECRET", DIGITS }, "MASTER_PORT=70000",
	  "integer" },
	{ { TORCH_FAR, "COLLX_PORT", "0", "COLLX_SECRET", DIGITS }, "COLLX_PORT=0", "integer" },
	{ { TORCH_FAR, "COLLX_ADDR", "tcp:127.0.0.1:0", "COLLX_SECRET", DIGITS },
	  "COLLX_ADDR=tcp:127.0.0.1:0", "port" },
	{ { "RANK", "1", "WORLD_SIZE", "4", "LOCAL_WORLD_SIZE", "2", "MASTER_ADDR", "0.0.0.0",
	    "MASTER_PORT", "29500", "COLLX_SECRET", DIGITS }, "0.0.0.0", "wildcard" },
};

static void all_wrongs(void)
{
	for (size_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++) {
		const struct wrong *w = &wrongs[i];
		char base[64], line[512];
		uint64_t start = now_ms();
		int fds = open_fds(), rc;

		if (folder_make(base))
			abort();
		set_all(w->set, 0);
		rc = come(20000, 0, line, sizeof(line));
		EXPECT(rc == COLLX_ERR_INVALID && strstr(line, w->line) && strstr(line, w->also),
		       "%zu: %s: '%s', not %s and %s", i, collx_strerror((collx_result)rc), line,
		       w->line, w->also);
		EXPECT(!strstr(line, "0011223344556677"), "%zu: a secret is told: %s", i, line);
		EXPECT(now_ms() - start < 5000, "%zu: took %d ms", i, (int)(now_ms() - start));
		EXPECT(fds_return(fds), "%zu: %d descriptors, %d before", i, open_fds(), fds);
		EXPECT(!folder_gone(base), "%zu: something stays", i);
	}
}

Test(variables, that_contradict_are_both_named, .timeout = 120)
{
	pid_t pid = rank_fork();

	if (pid == 0) {
		all_wrongs();
		rank_exit();
	}
	cr_assert_eq(ranks_wait(&pid, 1, 0, 100), 0);
}

/* ---- one rank: there is nobody to meet, wherever that would be ---- */

static const char *const alone[][VARS] = {
	{ "COLLX_RANK", "0", "COLLX_SIZE", "1" },
	{ "COLLX_RANK", "0", "COLLX_SIZE", "1", "COLLX_ADDR", "tcp:192.0.2.1:7700" },
	{ "RANK", "0", "WORLD_SIZE", "1", "MASTER_ADDR", "192.0.2.1", "MASTER_PORT", "29500" },
	{ "RANK", "0", "WORLD_SIZE", "1", "LOCAL_WORLD_SIZE", "1" },
	{ "OMPI_COMM_WORLD_RANK", "0", "OMPI_COMM_WORLD_SIZE", "1" },
	{ "SLURM_PROCID", "0", "SLURM_NTASKS", "1" },
	{ "PMI_RANK", "0", "PMI_SIZE", "1", "PMI_FD", "99" },
};

Test(alone, a_rank_needs_nothing, .timeout = 60)
{
	for (size_t i = 0; i < sizeof(alone) / sizeof(alone[0]); i++) {
		char base[64];
		pid_t pid;

		cr_assert_eq(folder_make(base), 0);
		pid = rank_fork();
		if (pid == 0) {
			char line[512];
			int rc;

			set_all(alone[i], 0);
			rc = come(5000, 1, line, sizeof(line));
			EXPECT(rc == 0, "%zu: %s", i, line);
			rank_exit();
		}
		cr_expect_eq(ranks_wait(&pid, 1, 0, 30), 0, "%zu", i);
		cr_expect_eq(folder_gone(base), 0);
	}
}

/* ---- a secret file that is none ---- */

Test(secrets, are_not_waited_for, .timeout = 60)
{
	char base[64], path[80], line[512];
	uint64_t start = now_ms();

	cr_assert_eq(folder_make(base), 0);
	snprintf(path, sizeof(path), "%s/secret", base);
	cr_assert_eq(mkfifo(path, 0600), 0);
	setenv("COLLX_RANK", "0", 1);
	setenv("COLLX_SIZE", "2", 1);
	setenv("COLLX_ADDR", "tcp:127.0.0.1:7700", 1);
	setenv("COLLX_SECRET_FILE", path, 1);
	cr_expect_eq(come(2000, 2, line, sizeof(line)), COLLX_ERR_INVALID);
	cr_expect(strstr(line, path) && strstr(line, "regular"), "%s", line);
	cr_expect_lt(now_ms() - start, 10000);
	unlink(path);
	cr_expect_eq(folder_gone(base), 0);
}

/* ---- several hosts, as far as the variables say ---- */

struct job {
	const char *set[VARS];
	unsigned timeout_ms; /* 0: 20 s */
	int code;
	const char *line;
	int others_code; /* of all but rank 0 */
	const char *others_line;
};

static void come_to(const struct job *j, int rank)
{
	char line[512];
	int rc, code = rank ? j->others_code : j->code;
	const char *want = rank ? j->others_line : j->line;

	set_all(j->set, rank);
	rc = come(j->timeout_ms ? j->timeout_ms : 20000, RANKS, line, sizeof(line));
	EXPECT(rc == code && strstr(line, want), "rank %d: %s: '%s', not %s", rank,
	       collx_strerror((collx_result)rc), line, want);
}

/* Runs its ranks; what they write to stderr goes to the file when there is one. */
static int run_job(const struct job *j, const char *output)
{
	pid_t pids[RANKS];
	char base[64];
	int rc;

	if (folder_make(base))
		return 1;
	for (int r = 0; r < RANKS; r++) {
		pids[r] = rank_fork();
		if (pids[r] == 0) {
			int fd = output ? open(output, O_WRONLY | O_APPEND) : -1;

			if (fd >= 0)
				dup2(fd, STDERR_FILENO);
			come_to(j, r);
			rank_exit();
		}
	}
	rc = ranks_wait(pids, RANKS, 0, 60);
	return folder_gone(base) || rc;
}

/* Seventeen neighbouring ports of which the first is ours, as torchrun's own is. */
static int hold_port(char text[16])
{
	struct cx_place p;
	int fd;

	do {
		cr_assert_eq(cx_place_parse(&p, "tcp:127.0.0.1:0"), 0);
		fd = cx_place_listen(&p);
	} while (fd >= 0 && cx_place_port(&p) > 65000 && !close(fd));
	cr_assert_geq(fd, 0);
	snprintf(text, 16, "%d", cx_place_port(&p));
	return fd;
}

Test(torchrun, ranks_of_several_hosts_meet_at_a_port_after_its_own, .timeout = 120)
{
	char port[16];
	int fd = hold_port(port), taken;
	struct job j = { { "RANK", "%d", "WORLD_SIZE", "3", "LOCAL_WORLD_SIZE", "1", "MASTER_ADDR",
			   "localhost", "MASTER_PORT", port, "COLLX_SECRET", DIGITS },
			 0, 0, "", 0, "" };
	struct cx_place p;
	char next[64];

	cr_assert_eq(run_job(&j, NULL), 0);
	/* The next one is somebody else's, who says nothing. */
	snprintf(next, sizeof(next), "tcp:127.0.0.1:%d", atoi(port) + 1);
	cr_assert_eq(cx_place_parse(&p, next), 0);
	taken = cx_place_listen(&p); /* unless another program was faster: as good */
	cr_assert_eq(run_job(&j, NULL), 0);
	if (taken >= 0)
		close(taken);
	close(fd);
}

Test(insecure, is_allowed_by_one_variable_and_said_once, .timeout = 120)
{
	char port[16], path[] = "/tmp/collx-said-XXXXXX", said[1024] = "";
	int fd = hold_port(port), file = mkstemp(path);
	const struct job j = { { "RANK", "%d", "WORLD_SIZE", "3", "LOCAL_WORLD_SIZE", "1",
				 "MASTER_ADDR", "127.0.0.1", "MASTER_PORT", port,
				 "COLLX_INSECURE", "1" }, 0, 0, "", 0, "" };
	const char *first;

	cr_assert_geq(file, 0);
	cr_assert_eq(run_job(&j, path), 0);
	cr_assert_geq(pread(file, said, sizeof(said) - 1, 0), 1);
	first = strstr(said, "COLLX_INSECURE=1");
	cr_assert(first && !strstr(first + 1, "COLLX_INSECURE=1"), "said: %s", said);
	unlink(path);
	close(file);
	close(fd);
}

/* A loopback is rank 0's place on its own host alone: whoever waits in vain is told so, and
 * by which variables there are other hosts. */
Test(places, of_the_loopback_are_called_so, .timeout = 120)
{
	static const char *const local = "an address of this host alone";
	static const struct {
		const char *set[VARS];
		const char *line, *others; /* rank 0's, rank 1's where it differs; NULL: no word */
	} jobs[] = {
		{ { "RANK", "%d", "WORLD_SIZE", "3", "LOCAL_WORLD_SIZE", "2", "MASTER_ADDR",
		    "localhost" }, "by WORLD_SIZE=3 and LOCAL_WORLD_SIZE=2 there are others",
		  NULL },
		{ { "RANK", "%d", "WORLD_SIZE", "3", "LOCAL_WORLD_SIZE", "2", "MASTER_ADDR",
		    "::1" }, "by WORLD_SIZE=3 and LOCAL_WORLD_SIZE=2 there are others", NULL },
		{ { "OMPI_COMM_WORLD_RANK", "%d", "OMPI_COMM_WORLD_SIZE", "2",
		    "OMPI_COMM_WORLD_LOCAL_SIZE", "1", "COLLX_ADDR", "tcp:127.0.0.1:%s" },
		  "by OMPI_COMM_WORLD_SIZE=2 and OMPI_COMM_WORLD_LOCAL_SIZE=1 there are", NULL },
		{ { "SLURM_PROCID", "%d", "SLURM_NTASKS", "2", "SLURM_STEP_NUM_NODES", "2",
		    "COLLX_ADDR", "tcp:[::1]:%s" }, "by SLURM_STEP_NUM_NODES=2 there are others",
		  NULL },
		{ { "COLLX_RANK", "%d", "COLLX_SIZE", "2", "COLLX_LOCAL_RANK", "0", "COLLX_ADDR",
		    "tcp:127.0.0.2:%s" }, "host alone: no other host reaches it",
		  "by COLLX_RANK=1 and COLLX_LOCAL_RANK=0 there are others" },
		{ { "COLLX_RANK", "%d", "COLLX_SIZE", "2", "COLLX_ADDR", "tcp:127.0.0.1:%s" },
		  "host alone: no other host reaches it", NULL },
		{ { "COLLX_RANK", "%d", "COLLX_SIZE", "2", "COLLX_ADDR", "tcp:10.66.0.1:%s" },
		  NULL, NULL },
	};

	for (int i = 0; i < 14; i++) {
		char base[64], line[512], port[16], addr[64];
		const char *others = jobs[i / 2].others;
		const char *want = i % 2 && others ? others : jobs[i / 2].line;
		pid_t pid;

		cr_assert_eq(folder_make(base), 0);
		close(hold_port(port));
		pid = rank_fork();
		if (pid == 0) {
			int rank = i % 2, rc;

			set_all(jobs[i / 2].set, rank);
			if (getenv("COLLX_ADDR")) {
				snprintf(addr, sizeof(addr), getenv("COLLX_ADDR"), port);
				setenv("COLLX_ADDR", addr, 1);
			}
			setenv("MASTER_PORT", port, 1);
			setenv("COLLX_SECRET", DIGITS, 1);
			rc = come(500, 2, line, sizeof(line));
			EXPECT(rc == (rank || want ? COLLX_ERR_INIT_TIMEOUT : COLLX_ERR_INVALID) &&
			       (want ? strstr(line, local) && strstr(line, want)
				     : !strstr(line, local)), "%d: %d: %s", i, rc, line);
			rank_exit();
		}
		cr_expect_eq(ranks_wait(&pid, 1, 0, 30), 0, "%d", i);
		cr_expect_eq(folder_gone(base), 0);
	}
}

/* A place without an answer: the address, rank 0 and the cause, within the deadline. */
Test(places, that_do_not_answer_are_named, .timeout = 60)
{
	static const struct {
		const char *addr;
		int code;
		const char *line;
	} bad[] = {
		{ "tcp:127.0.0.1:%s", COLLX_ERR_INIT_TIMEOUT, "Connection refused" },
		{ "tcp:[::1]:%s", COLLX_ERR_INIT_TIMEOUT, "tcp:[::1]" },
		{ "tcp:a..b:%s", COLLX_ERR_INIT_TIMEOUT, "host a..b was not known before" },
		{ "tcp:300.1.1.1:%s", COLLX_ERR_SYSTEM, "host 300.1.1.1" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char base[64], line[512], port[16], addr[64];
		uint64_t start = now_ms();
		int rc;

		cr_assert_eq(folder_make(base), 0);
		close(hold_port(port));
		snprintf(addr, sizeof(addr), bad[i].addr, port);
		setenv("COLLX_ADDR", addr, 1);
		setenv("COLLX_SECRET", DIGITS, 1);
		setenv("COLLX_RANK", "1", 1);
		setenv("COLLX_SIZE", "2", 1);
		rc = come(700, 2, line, sizeof(line));
		cr_expect(rc == bad[i].code && strstr(line, bad[i].line), "%s: %d: %s", addr, rc,
			  line);
		cr_expect(now_ms() - start < 6000, "%s: %d ms", addr, (int)(now_ms() - start));
		cr_expect_eq(folder_gone(base), 0);
	}
}

/* ---- a PMI-2 launcher ---- */

enum fault { GOOD, OLD, OTHER_RANK, MUTE, CLOSED, LONG, NO_NUMBER, LOST, REFUSES };

struct server {
	enum fault fault;
	int fds[RANKS], fenced, begun[RANKS], ended;
	char keys[4][64], values[4][600];
	int stored;
	bool named; /* the job has a name */
};

static int get_all(int fd, char *to, size_t len)
{
	while (len) {
		ssize_t n = read(fd, to, len);

		if (n <= 0)
			return -1;
		to += n;
		len -= (size_t)n;
	}
	return 0;
}

static void answer(const struct server *s, int r, const char *body)
{
	char message[1024];
	int n = snprintf(message, sizeof(message), "%-6zu%s",
			 s->fault == LONG ? (size_t)999999 : strlen(body), body);

	if (s->fault == NO_NUMBER)
		memcpy(message, "twelve", 6);
	if (write(s->fds[r], message, (size_t)n) != n && s->fault == GOOD)
		_exit(9);
}

/* The value of a key; NULL without. */
static const char *value_of(const char *body, const char *key, char value[600])
{
	char wanted[64];
	const char *at;

	snprintf(wanted, sizeof(wanted), ";%s=", key);
	at = strstr(body, wanted);
	if (!at || sscanf(at + strlen(wanted), "%599[^;]", value) != 1)
		return NULL;
	return value;
}

static void fence(struct server *s)
{
	if (++s->fenced < RANKS)
		return;
	s->fenced = 0;
	for (int r = 0; r < RANKS; r++)
		answer(s, r, "cmd=kvs-fence-response;rc=0;");
}

static void serve_get(struct server *s, int r, const char *body)
{
	char key[600], job[600], text[800];

	if (!value_of(body, "key", key) || !value_of(body, "jobid", job) || strcmp(job, "j17"))
		_exit(8);
	for (int i = 0; i < s->stored && s->fault != LOST; i++)
		if (!strcmp(s->keys[i], key)) {
			snprintf(text, sizeof(text), "cmd=kvs-get-response;rc=0;found=TRUE;"
				 "value=%s;", s->values[i]);
			answer(s, r, text);
			return;
		}
	answer(s, r, "cmd=kvs-get-response;rc=0;found=FALSE;");
}

static void serve_put(struct server *s, int r, const char *body)
{
	char key[600];

	if (r || !value_of(body, "key", key) || s->stored == 4 ||
	    !value_of(body, "value", s->values[s->stored]))
		_exit(7);
	snprintf(s->keys[s->stored++], sizeof(s->keys[0]), "%.63s", key);
	answer(s, r, s->fault == REFUSES ? "cmd=kvs-put-response;rc=1;errmsg=full;"
					 : "cmd=kvs-put-response;rc=0;");
}

static void serve_init(struct server *s, int r, const char *body)
{
	char rank[600], job[600], text[200];

	if (!value_of(body, "pmirank", rank) || atoi(rank) != r ||
	    s->named != (value_of(body, "pmijobid", job) && !strcmp(job, "17.0")))
		_exit(6);
	snprintf(text, sizeof(text), "cmd=fullinit-response;rc=0;pmi-version=2;pmi-subversion=0;"
		 "rank=%d;size=%d;appnum=0;debugged=FALSE;pmiverbose=FALSE;",
		 s->fault == OTHER_RANK ? r + 1 : r, RANKS);
	answer(s, r, text);
}

/* The agreement on a version is a line each way. */
static void serve_hello(struct server *s, int r)
{
	static const char hello[] = "cmd=init pmi_version=2 pmi_subversion=0\n";
	char line[sizeof(hello)] = "";
	const char *reply = "cmd=response_to_init pmi_version=2 pmi_subversion=0 rc=0\n";

	if (get_all(s->fds[r], line, sizeof(hello) - 1) || strcmp(line, hello))
		_exit(5);
	if (s->fault == OLD)
		reply = "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=-1\n";
	if (write(s->fds[r], reply, strlen(reply)) < 0)
		_exit(4);
	s->begun[r] = 1;
}

/* One request of rank r. 0, or -1 when it is gone. */
static int serve(struct server *s, int r)
{
	char head[7] = "", body[1024] = ";";
	long len;

	if (!s->begun[r]) {
		serve_hello(s, r);
		return 0;
	}
	if (get_all(s->fds[r], head, 6))
		return -1;
	len = strtol(head, NULL, 10);
	if (!isdigit(head[0]) || len < 1 || len > 1000 ||
	    get_all(s->fds[r], body + 1, (size_t)len) || body[len] != ';')
		_exit(3);
	body[len + 1] = '\0';
	if (!strncmp(body, ";cmd=fullinit;", 14))
		serve_init(s, r, body);
	else if (!strncmp(body, ";cmd=job-getid;", 15))
		answer(s, r, "cmd=job-getid-response;rc=0;jobid=j17;");
	else if (!strncmp(body, ";cmd=kvs-put;", 13))
		serve_put(s, r, body);
	else if (!strncmp(body, ";cmd=kvs-fence;", 15))
		fence(s);
	else if (!strncmp(body, ";cmd=kvs-get;", 13))
		serve_get(s, r, body);
	else if (!strncmp(body, ";cmd=finalize;", 14))
		answer(s, r, "cmd=finalize-response;rc=0;"), s->ended++;
	else
		_exit(2);
	return 0;
}

/* In a process of its own; ends well when every rank said finalize, or has to fail. */
static void run_server(struct server *s)
{
	struct pollfd p[RANKS];
	int open = RANKS;

	signal(SIGPIPE, SIG_IGN);
	for (int r = 0; r < RANKS; r++)
		p[r] = (struct pollfd){ s->fds[r], s->fault == MUTE ? 0 : POLLIN, 0 };
	while (open && s->fault != CLOSED && poll(p, RANKS, 30000) > 0)
		for (int r = 0; r < RANKS; r++)
			if (p[r].revents && (s->fault == MUTE || serve(s, r))) {
				p[r].fd = -1;
				open--;
			}
	_exit(s->fault == GOOD && s->ended != RANKS ? 1 : 0);
}

struct exchange_case {
	enum fault fault;
	struct job job;
	int times;
};

static void rank_of_launcher(const struct exchange_case *c, int r, int fd)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", fd);
	setenv("PMI_FD", number, 1);
	for (int i = 0; i < c->times; i++)
		come_to(&c->job, r);
	if (expect_failures())
		rank_exit();
	exit(0); /* as a program does, so that the launcher hears of it */
}

#define PMI "PMI_RANK", "%d", "PMI_SIZE", "3", "MPI_LOCALNRANKS", "1", "PMI_JOBID", "17.0"

static const struct exchange_case exchanges[] = {
	{ GOOD, { { PMI }, 0, 0, "", 0, "" }, 2 },
	{ GOOD, { { "SLURM_PROCID", "%d", "SLURM_NTASKS", "3", "SLURM_STEP_NUM_NODES", "3", PMI },
		  0, 0, "", 0, "" }, 1 },
	/* as MPICH's mpiexec: no name of the job, another descriptor for each rank */
	{ GOOD, { { "PMI_RANK", "%d", "PMI_SIZE", "3", "MPI_LOCALNRANKS", "3",
		    "MPI_LOCALRANKID", "%d" }, 0, 0, "", 0, "" }, 2 },
	{ GOOD, { { PMI, "COLLX_ADDR", "tcp:127.0.0.1:0" }, 0, COLLX_ERR_INVALID, "port",
		  COLLX_ERR_INVALID, "port" }, 1 },
	{ OLD, { { PMI }, 0, COLLX_ERR_UNSUPPORTED, "PMI-2", COLLX_ERR_UNSUPPORTED, "PMI-2" }, 1 },
	{ OTHER_RANK, { { PMI }, 0, COLLX_ERR_INVALID, "PMI_FD is for rank 1 of 3",
			COLLX_ERR_INVALID, "the variables say rank" }, 1 },
	{ MUTE, { { PMI }, 500, COLLX_ERR_INIT_TIMEOUT, "did not answer init",
		  COLLX_ERR_INIT_TIMEOUT, "did not answer init" }, 1 },
	{ LONG, { { PMI }, 0, COLLX_ERR_SYSTEM, "damaged", COLLX_ERR_SYSTEM, "damaged" }, 1 },
	{ NO_NUMBER, { { PMI }, 0, COLLX_ERR_SYSTEM, "damaged", COLLX_ERR_SYSTEM, "damaged" }, 1 },
	{ LOST, { { PMI }, 1000, COLLX_ERR_INIT_TIMEOUT, "did not come", COLLX_ERR_SYSTEM,
		  "nothing from rank 0" }, 1 },
	{ REFUSES, { { PMI }, 1000, COLLX_ERR_SYSTEM, "refused kvs-put", COLLX_ERR_INIT_TIMEOUT,
		     "did one not come?" }, 1 },
};

static int run_exchange(const struct exchange_case *c)
{
	struct server s = { .fault = c->fault };
	int theirs[RANKS], rc, status = -1;
	pid_t pids[RANKS + 1];
	char base[64];

	if (folder_make(base))
		return 1;
	for (int i = 0; i < VARS && c->job.set[i]; i++)
		s.named |= !strcmp(c->job.set[i], "PMI_JOBID");
	for (int r = 0; r < RANKS; r++) {
		int ends[2];

		if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
			return 1;
		s.fds[r] = ends[0];
		theirs[r] = ends[1];
	}
	pids[RANKS] = rank_fork();
	if (pids[RANKS] == 0) {
		for (int r = 0; r < RANKS; r++)
			close(theirs[r]);
		run_server(&s);
	}
	for (int r = 0; r < RANKS; r++) {
		pids[r] = rank_fork();
		if (pids[r] == 0) {
			for (int i = 0; i < RANKS; i++)
				if (close(s.fds[i]) || (i != r && close(theirs[i])))
					_exit(90);
			rank_of_launcher(c, r, theirs[r]);
		}
	}
	for (int r = 0; r < RANKS; r++)
		close(s.fds[r]), close(theirs[r]);
	rc = ranks_wait(pids, RANKS, 0, 60);
	if (waitpid(pids[RANKS], &status, 0) < 0 || status)
		fprintf(stderr, "the launcher ended with %#x\n", (unsigned)status);
	return folder_gone(base) || rc || (c->fault == GOOD && c->job.code == 0 && status);
}

Test(pmi2, hands_an_id_on_or_says_why_not, .timeout = 300)
{
	for (size_t i = 0; i < sizeof(exchanges) / sizeof(exchanges[0]); i++)
		cr_expect_eq(run_exchange(&exchanges[i]), 0, "case %zu", i);
}

/* ---- secrets in memory ---- */

enum { MASK = 0x5a };

/* How often the masked key is in [from, to) of our own memory. */
static int count_in(int mem, unsigned long from, unsigned long to, const unsigned char *masked)
{
	static unsigned char chunk[1 << 16];
	int n = 0;

	for (unsigned long at = from; at + CX_SECRET_BYTES <= to;) {
		ssize_t got = pread(mem, chunk, cx_min(sizeof(chunk), to - at), (off_t)at);

		if (got < CX_SECRET_BYTES)
			return n;
		for (ssize_t i = 0; i + CX_SECRET_BYTES <= got; i++) {
			int k = 0;

			while (k < CX_SECRET_BYTES && (chunk[i + k] ^ MASK) == masked[k])
				k++;
			n += k == CX_SECRET_BYTES;
		}
		at += (unsigned long)got - (CX_SECRET_BYTES - 1);
	}
	explicit_bzero(chunk, sizeof(chunk)); /* else it finds itself */
	return n;
}

static int count_copies(const unsigned char *masked)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC), n = 0;
	char line[512], mode[8];
	unsigned long from, to;

	while (maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %7s", &from, &to, mode) == 3 && mode[1] == 'w' &&
		    to - from < 1ul << 30) /* larger is a sanitizer's own */
			n += count_in(mem, from, to, masked);
	if (maps)
		fclose(maps);
	close(mem);
	return n;
}

static void mask(unsigned char *to, const unsigned char *from)
{
	for (int i = 0; i < CX_SECRET_BYTES; i++)
		to[i] = from[i] ^ MASK;
}

static void look_for_secret(const collx_unique_id *shared, int rank)
{
	unsigned char masked[CX_SECRET_BYTES];
	collx_unique_id *id = malloc(sizeof(*id));
	collx_comm_t c = NULL;
	int32_t one = 1, sum = 0;

	/* The id is the caller's: here it is unmasked for the creation alone. */
	memcpy(id, shared, sizeof(*id));
	mask(id->bytes + 4, id->bytes + 4);
	EXPECT(!collx_comm_create(&c, 2, id, rank, NULL), "%s", collx_last_error(NULL));
	mask(id->bytes + 4, id->bytes + 4);
	memcpy(masked, id->bytes + 4, sizeof(masked));
	EXPECT(count_copies(masked) == 0, "rank %d: %d copies of the secret are left", rank,
	       count_copies(masked));
	EXPECT(!collx_allreduce(&one, &sum, 1, COLLX_INT32, COLLX_SUM, c, NULL) && sum == 2,
	       "a sum of %d", sum);
	collx_comm_destroy(c);
	mask(id->bytes + 4, id->bytes + 4);
	EXPECT(count_copies(masked) >= 1, "the search finds nothing at all");
	free(id);
}

static void run_look(const char *addr)
{
	collx_unique_id id;
	pid_t pids[2];
	char base[64];

	cr_assert_eq(folder_make(base), 0);
	if (addr)
		setenv("COLLX_ADDR", addr, 1);
	cr_assert_eq(collx_get_unique_id(&id), 0, "%s", cx_error_text());
	mask(id.bytes + 4, id.bytes + 4);
	unsetenv("COLLX_ADDR");
	for (int r = 0; r < 2; r++) {
		pids[r] = rank_fork();
		if (pids[r] == 0) {
			look_for_secret(&id, r);
			rank_exit();
		}
	}
	cr_assert_eq(ranks_wait(pids, 2, 0, 60), 0);
	cr_assert_eq(folder_gone(base), 0);
}

Test(secret, is_nowhere_in_memory_after_creation, .timeout = 120)
{
	run_look(NULL);
	run_look("tcp:127.0.0.1:0");
}

/* Below what the search itself writes to the stack. */
static int __attribute__((noinline)) ask_for_failure(const collx_unique_id *id)
{
	volatile char pad[1 << 15];

	pad[0] = 0;
	return cx_uid_failure(id, 0) + pad[0];
}

Test(secret, of_an_exchange_is_nowhere_on_the_stack, .timeout = 120)
{
	unsigned char masked[CX_SECRET_BYTES];
	collx_unique_id *id = malloc(sizeof(*id));
	char base[64];

	cr_assert_eq(folder_make(base), 0);
	/* Once before: a function's first call stores registers, in which a key may be. */
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(collx_get_unique_id(id), 0, "%s", cx_error_text());
		memset(masked, i, sizeof(masked));
		cr_expect_geq(count_copies(masked), 0);
	}
	cr_expect_eq(ask_for_failure(id), 0);
	mask(id->bytes + 4, id->bytes + 4);
	memcpy(masked, id->bytes + 4, sizeof(masked));
	cr_expect_eq(count_copies(masked), 0);
	free(id);
	cr_assert_eq(folder_gone(base), 0);
}

/* Whatever a rank hands on in the place of an id. */
Test(failure, of_another_rank_is_looked_at, .timeout = 60)
{
	collx_unique_id id;

	cx_fail(COLLX_ERR_INVALID, "a\033[31m line\nof two");
	cx_uid_put_failure(&id, COLLX_ERR_INVALID);
	cr_expect_eq(cx_uid_failure(&id, 7), COLLX_ERR_INVALID);
	cr_expect_str_eq(cx_error_text(), "rank 7: a?[31m line?of two");
	memset(id.bytes + 8, 'x', sizeof(id.bytes) - 8); /* without an end */
	cr_expect_eq(cx_uid_failure(&id, 7), COLLX_ERR_INVALID);
	cr_expect_eq(strspn(cx_error_text() + 8, "x"), sizeof(id.bytes) - 9);
	id.bytes[4] = 0; /* -256: no code of ours */
	cr_expect_eq(cx_uid_failure(&id, 7), COLLX_ERR_CORRUPT);
	memset(&id, 0, sizeof(id));
	cr_expect_eq(cx_uid_failure(&id, 7), 0);
}

/* The same for a file's secret, which nothing but creation has read. */
Test(secret, of_a_file_is_nowhere_in_memory, .timeout = 120)
{
	unsigned char masked[CX_SECRET_BYTES];
	char base[64], path[80];
	pid_t pids[2];
	FILE *f;

	cr_assert_eq(folder_make(base), 0);
	snprintf(path, sizeof(path), "%s/secret", base);
	cr_assert_eq(cx_sys_real.random(masked, sizeof(masked)), 0);
	f = fopen(path, "w");
	cr_assert(f && !chmod(path, 0600));
	for (int i = 0; i < CX_SECRET_BYTES; i++)
		fprintf(f, "%02x", masked[i] ^ MASK);
	fclose(f);
	for (int r = 0; r < 2; r++) {
		pids[r] = rank_fork();
		if (pids[r] == 0) {
			char addr[96], line[512];
			const char *const set[VARS] = { "COLLX_SECRET_FILE", path, "COLLX_ADDR",
							addr, "COLLX_RANK", "%d", "COLLX_SIZE",
							"2" };

			snprintf(addr, sizeof(addr), "unix:%s/run/meet", base);
			set_all(set, r);
			EXPECT(!come(20000, 2, line, sizeof(line)), "%s", line);
			EXPECT(count_copies(masked) == 0, "%d copies of the secret are left",
			       count_copies(masked));
			rank_exit();
		}
	}
	cr_assert_eq(ranks_wait(pids, 2, 0, 60), 0);
	unlink(path);
	cr_assert_eq(folder_gone(base), 0);
}
