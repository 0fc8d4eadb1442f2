/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collx-run, on this host and with a list of hosts. These are names for this machine: the
 * agent is a script that drops the name, or does what its name says. Every process of a
 * job inherits a mark in its environment, by which the test sees that none is left.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include "tests/world.h"

enum { WORDS = 24, OUTPUT = 1 << 16, PATIENCE_MS = 60000 };

static const char agent[] =
	"#!/bin/sh\n"
	"host=$1\n"
	"shift\n"
	"case $host in\n"
	"bad*) echo \"no route to $host\" >&2; exit 255 ;;\n"
	"mute*) exec sleep 1000 ;;\n"
	"talk*) echo \"welcome to $host\"; exec \"$@\" ;;\n"
	"junk*) exec tr '\\0' j </dev/zero ;;\n"
	"half*) echo hello; exit 0 ;;\n"
	"die*) exec 3<&0; \"$@\" <&3 3<&- & exec 3<&-; p=/proc/$!; p=$p/task/$!/children\n"
	"  until ! test -e $p || grep -q . $p; do sleep 0.05; done; sleep 0.2; kill -9 $$ ;;\n"
	"gone*) exec /no/such/collx-run --serve ;;\n"
	"*) exec \"$@\" ;;\n"
	"esac\n";

/* ---- a run ---- */

struct run {
	char base[64];
	char mark[96]; /* NAME=VALUE in the environment of all its processes */
	pid_t pid;
	int out;       /* both outputs, or -1 */
	char text[OUTPUT];
	int status; /* as a shell shows it */
	int ms;
};

static void run_prepare(struct run *r)
{
	char path[96];
	FILE *f;

	memset(r, 0, sizeof(*r));
	r->out = -1;
	cr_assert_eq(folder_make(r->base), 0);
	setenv("COLLX_RUNTIME_DIR", r->base, 1);
	setenv("COLLX_INTERFACE", "lo", 1);
	setenv("COLLX_T_MARK", r->base, 1);
	snprintf(r->mark, sizeof(r->mark), "COLLX_T_MARK=%s", r->base);
	snprintf(path, sizeof(path), "%s/agent", r->base);
	f = fopen(path, "w");
	cr_assert_not_null(f);
	cr_assert(fputs(agent, f) >= 0);
	cr_assert_eq(fclose(f), 0);
	cr_assert_eq(chmod(path, 0700), 0);
}

/* "AGENT" stands for the path of the script. */
static void become_run(const struct run *r, const char *const words[WORDS], int out)
{
	char *argv[WORDS + 2], path[96];
	int n = 0;

	snprintf(path, sizeof(path), "%s/agent", r->base);
	argv[n++] = (char *)"collx-run";
	for (int i = 0; i < WORDS && words[i]; i++)
		argv[n++] = strcmp(words[i], "AGENT") ? (char *)words[i] : path;
	argv[n] = NULL;
	signal(SIGPIPE, SIG_DFL);
	dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	close_range(3, ~0U, 0); /* what may be left must not hold Criterion's pipes */
	execv("./collx-run", argv);
	_exit(99);
}

static void run_start(struct run *r, const char *const words[WORDS])
{
	int ends[2];

	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	r->ms = (int)now_ms();
	r->pid = fork();
	cr_assert_geq(r->pid, 0);
	if (r->pid == 0)
		become_run(r, words, ends[1]);
	close(ends[1]);
	r->out = ends[0];
}

static int times_in(const char *text, const char *part)
{
	int n = 0;

	for (; (text = strstr(text, part)); text += strlen(part))
		n++;
	return n;
}

/* Reads until `part` is there so often, or to the end where it is NULL. */
static void run_read_times(struct run *r, const char *part, int times)
{
	uint64_t start = now_ms();
	size_t len = strlen(r->text);

	while (now_ms() - start < PATIENCE_MS && !(part && times_in(r->text, part) >= times)) {
		struct pollfd p = { r->out, POLLIN, 0 };
		ssize_t n;

		if (poll(&p, 1, 100) <= 0)
			continue;
		n = read(r->out, r->text + len, OUTPUT - 1 - len);
		if (n <= 0)
			return;
		len += (size_t)n;
		r->text[len] = '\0';
	}
}

static void run_read(struct run *r, const char *part)
{
	run_read_times(r, part, 1);
}

static void run_wait(struct run *r)
{
	uint64_t start = now_ms();
	int status = 0;
	pid_t pid;

	while ((pid = waitpid(r->pid, &status, WNOHANG)) == 0 && now_ms() - start < PATIENCE_MS)
		nap_ms(5);
	if (pid == 0) {
		kill(r->pid, SIGKILL);
		waitpid(r->pid, NULL, 0);
		r->status = -1;
		return;
	}
	r->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	r->ms = (int)now_ms() - r->ms;
}

/* Does this process have the mark in its environment? */
static int is_marked(const char *pid, const char *mark)
{
	static char text[1 << 20];
	char path[300];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/environ", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	n = fread(text, 1, sizeof(text), f);
	fclose(f);
	return memmem(text, n, mark, strlen(mark) + 1) != NULL;
}

/* How many processes of the run there are, without this one. */
static int count_left(const struct run *r)
{
	DIR *dir = opendir("/proc");
	struct dirent *d;
	int n = 0;

	while (dir && (d = readdir(dir)))
		if (isdigit((unsigned char)d->d_name[0]) && atoi(d->d_name) != (int)getpid())
			n += is_marked(d->d_name, r->mark);
	if (dir)
		closedir(dir);
	return n;
}

static void run_gone(struct run *r)
{
	char path[96];
	uint64_t start = now_ms();

	unsetenv("COLLX_T_MARK");
	while (count_left(r) && now_ms() - start < 20000)
		nap_ms(20);
	cr_expect_eq(count_left(r), 0, "%d processes are left; output:\n%s", count_left(r),
		     r->text);
	if (r->out >= 0)
		close(r->out);
	snprintf(path, sizeof(path), "%s/agent", r->base);
	unlink(path);
	cr_expect_eq(folder_gone(r->base), 0);
}

static void run_whole(struct run *r, const char *const words[WORDS])
{
	run_prepare(r);
	run_start(r, words);
	run_read(r, NULL);
	run_wait(r);
	run_gone(r);
}

/* ---- what holds on one host and on several ---- */

struct scene {
	const char *script; /* of each rank */
	const char *options[4];
	int status;
	const char *says[3];
	int sig;            /* sent when all who are to said "ready"; 0: none */
	int silent;         /* how many are not to */
	int most_ms;
};

/* Until the signal comes: sleep, in pieces, as a shell's trap waits for its command. */
#define LINGER "while :; do sleep 0.02; done"

static const struct scene scenes[] = {
	{ .script = "echo rank $COLLX_RANK/$COLLX_SIZE", .says = { "rank 0/4\n", "rank 3/4\n" } },
	{ .script = "echo rank $COLLX_RANK >&2", .options = { "--prefix" },
	  .says = { "[0] rank 0\n", "[3] rank 3\n" } },
	{ .script = "printf x$COLLX_RANK", .options = { "--prefix" },
	  .says = { "[0] x0\n", "[3] x3\n" } },
	{ .script = "test $COLLX_RANK != 3 || exit 7; sleep 1000", .status = 7,
	  .says = { "collx-run: rank 3 (pid ", ") exited with status 7" }, .most_ms = 20000 },
	{ .script = "test $COLLX_RANK != 2 || kill -SEGV $$; sleep 1000", .status = 139,
	  .says = { "collx-run: rank 2 (pid ", "killed by signal 11" }, .most_ms = 20000 },
	{ .script = "setsid sleep 1000 & test $COLLX_RANK != 0 || { sleep 0.3; exit 3; }; " LINGER,
	  .status = 3, .says = { "rank 0 (pid " }, .most_ms = 20000 },
	/* a stray, its child, and the child of that one */
	{ .script = "setsid sh -c 'sh -c \"sleep 1000; :\"; :' & test $COLLX_RANK != 0 || exit 3; "
		    LINGER, .status = 3, .most_ms = 20000 },
	{ .script = "trap '' TERM; while :; do sleep 1000; done", .options = { "--timeout", "1.7" },
	  .status = 124, .says = { "1.7 s have passed: ending 4 of 4 ranks" }, .most_ms = 30000 },
	{ .script = "trap 'echo got INT; exit 0' INT; echo ready; " LINGER, .sig = SIGINT,
	  .status = 130, .says = { "got INT" }, .most_ms = 30000 },
	{ .script = "trap 'echo got TERM; exit 0' TERM; echo ready; " LINGER, .sig = SIGTERM,
	  .status = 143, .says = { "got TERM" }, .most_ms = 30000 },
	{ .script = "trap '' TERM INT HUP; echo ready; setsid sleep 1000", .sig = SIGKILL,
	  .status = 137 },
	{ .script = "/no/such/command", .status = 127 },
	/* --keep-going: the rest comes after those who failed */
	{ .script = "case $COLLX_RANK in 1) kill -9 $$ ;; 2) exit 7 ;; esac; sleep 1; echo went on",
	  .options = { "--keep-going" },
	  .says = { "went on\nwent on\ncollx-run: rank ", "collx-run: rank 1 (pid ",
		    ") exited with status 7" } },
	{ .script = "test $COLLX_RANK = 2 || { sleep 1; kill -9 $$; }; exit 5",
	  .options = { "--keep-going" }, .status = 5,
	  .says = { "collx-run: rank 0 (pid ", "collx-run: rank 2 (pid ", "killed by signal 9" } },
	{ .script = "test $COLLX_RANK != 1 || exit 7; sleep 1000",
	  .options = { "--keep-going", "--timeout", "2.2" }, .status = 124,
	  .says = { "2.2 s have passed: ending 3 of 4 ranks", "collx-run: rank 1 (pid " },
	  .most_ms = 30000 },
	{ .script = "trap 'exit 0' INT; test $COLLX_RANK != 1 || exit 7; echo ready; " LINGER,
	  .options = { "--keep-going" }, .sig = SIGINT, .silent = 1, .status = 130,
	  .most_ms = 30000 },
};
enum { SCENES = sizeof(scenes) / sizeof(scenes[0]) };

static void play(const struct scene *s, int hosts)
{
	static const char *const heads[2][7] = {
		{ "-n", "4" },
		{ "--hosts", "a:2,b:1,c:1", "--agent", "AGENT" },
	};
	const char *words[WORDS] = { NULL };
	static struct run r;
	int n = 0;

	for (int i = 0; heads[hosts][i]; i++)
		words[n++] = heads[hosts][i];
	for (int i = 0; i < 4 && s->options[i]; i++)
		words[n++] = s->options[i];
	words[n++] = "sh";
	words[n++] = "-c";
	words[n++] = s->script;
	run_prepare(&r);
	run_start(&r, words);
	if (s->sig) {
		run_read_times(&r, "ready", 4 - s->silent);
		nap_ms(100);
		kill(r.pid, s->sig);
	}
	run_read(&r, NULL);
	run_wait(&r);
	cr_expect(r.status == s->status, "'%s', hosts %d: status %d:\n%s", s->script, hosts,
		  r.status, r.text);
	cr_expect(!s->most_ms || r.ms < s->most_ms, "'%s', hosts %d: %d ms", s->script, hosts,
		  r.ms);
	for (int i = 0; i < 3 && s->says[i]; i++)
		cr_expect(strstr(r.text, s->says[i]), "'%s', hosts %d: no '%s' in:\n%s",
			  s->script, hosts, s->says[i], r.text);
	run_gone(&r);
}

/* As under `ulimit -n`. */
static void run_with_files(struct run *r, rlim_t most, const char *const words[WORDS])
{
	struct rlimit all, few;

	getrlimit(RLIMIT_NOFILE, &all);
	few = (struct rlimit){ most, all.rlim_max };
	run_prepare(r);
	setrlimit(RLIMIT_NOFILE, &few);
	run_start(r, words);
	setrlimit(RLIMIT_NOFILE, &all);
	run_read(r, NULL);
	run_wait(r);
	run_gone(r);
}

Test(run, with_few_files, .timeout = 120)
{
	static const char *const four[WORDS] = { "-n", "4", "./examples/allreduce" };
	static const char *const many[WORDS] = { "-n", "16", "./examples/allreduce" };
	static struct run r;

	run_with_files(&r, 32, four);
	cr_expect(r.status == 0 && strstr(r.text, "rank 3 of 4: 4"), "%d:\n%s", r.status, r.text);
	run_with_files(&r, 16, many);
	cr_expect(r.status && strstr(r.text, "rank ") && strstr(r.text, "(ulimit -n)"), "%d:\n%s",
		  r.status, r.text);
	cr_expect(r.ms < 20000, "%d ms", r.ms);
}

Test(run, scenes_on_one_host, .timeout = 400)
{
	for (int i = 0; i < SCENES; i++)
		play(&scenes[i], 0);
}

Test(run, scenes_on_hosts, .timeout = 400)
{
	for (int i = 0; i < SCENES; i++)
		play(&scenes[i], 1);
}

/* Rank 3's exit is heard of first; that a signal killed rank 0 is the likelier cause. */
Test(hosts, a_rank_that_a_signal_killed_is_the_cause, .timeout = 300)
{
	static const char *const words[WORDS] = {
		"--hosts", "a:2,b:2", "--agent", "AGENT", "sh", "-c",
		"test $COLLX_RANK != 3 || { sleep 0.3; exit 7; };"
		"test $COLLX_RANK != 0 || trap 'kill -9 $$' TERM; " LINGER };
	static struct run r;
	int tries;

	for (tries = 0; tries < 10 && r.status != 137; tries++)
		run_whole(&r, words); /* again where this machine was too busy for 250 ms */
	cr_expect_eq(r.status, 137, "status %d:\n%s", r.status, r.text);
	cr_expect(strstr(r.text, "rank 0 (pid ") && !strstr(r.text, "rank 3"), "%s", r.text);
}

/* Its ranks end, the others go on. */
Test(hosts, a_host_that_is_lost_does_not_end_the_others, .timeout = 120)
{
	static const char *const words[WORDS] = {
		"--hosts", "die:2,b:2", "--keep-going", "--agent", "AGENT", "sh", "-c",
		"test $COLLX_RANK -lt 2 && sleep 1000; sleep 3; echo $COLLX_RANK went on" };
	static struct run r;

	run_whole(&r, words);
	cr_expect_eq(r.status, 0, "status %d:\n%s", r.status, r.text);
	cr_expect(strstr(r.text, "2 went on\n") && strstr(r.text, "3 went on\n"), "%s", r.text);
	cr_expect(strstr(r.text, "collx-run: host die: its agent (pid "), "%s", r.text);
}

/* ---- what ranks get ---- */

static void each_said(const struct run *r, const char *fmt, int first, int last)
{
	char line[128];

	for (int i = first; i <= last; i++) {
		snprintf(line, sizeof(line), fmt, i);
		cr_expect(strstr(r->text, line), "no '%s' in:\n%s", line, r->text);
	}
}

Test(hosts, ranks_get_what_they_need)
{
	static const char *const words[WORDS] = {
		"--hosts", "a:2,b:2", "--agent", "AGENT", "--prefix", "sh", "-c",
		"echo $COLLX_RANK of $COLLX_SIZE, here $COLLX_LOCAL_RANK, at $COLLX_ADDR;"
		"echo \"says $SOME_VARIABLE in $PWD with $1, input $(cat | wc -c)\";"
		"md5sum <$COLLX_SECRET_FILE; wc -c <$COLLX_SECRET_FILE", "-", "a  'word'" };
	static struct run r;
	char line[256], cwd[128], *at, *sum;

	setenv("SOME_VARIABLE", "x = \"1\"", 1);
	run_whole(&r, words);
	cr_assert_eq(r.status, 0, "status %d:\n%s", r.status, r.text);
	cr_assert_not_null(getcwd(cwd, sizeof(cwd)));
	at = strstr(r.text, "tcp:127.0.0.1:");
	cr_assert_not_null(at, "%s", r.text);
	for (int i = 0; i < 4; i++) {
		snprintf(line, sizeof(line), "[%d] %d of 4, here %d, at %.*s\n", i, i, i % 2,
			 (int)strcspn(at, "\n"), at);
		cr_expect(strstr(r.text, line), "no '%s' in:\n%s", line, r.text);
		snprintf(line, sizeof(line), "[%d] says x = \"1\" in %s with a  'word', input 0\n",
			 i, cwd);
		cr_expect(strstr(r.text, line), "no '%s' in:\n%s", line, r.text);
	}
	each_said(&r, "[%d] 65\n", 0, 3);
	sum = strstr(r.text, "  -\n");
	cr_assert(sum && sum - r.text > 32);
	for (int i = 0; i < 4; i++) {
		snprintf(line, sizeof(line), "[%d] %.32s  -\n", i, sum - 32);
		cr_expect(strstr(r.text, line), "no '%s' in:\n%s", line, r.text);
	}
}

/* A name, an address, the network of one. */
Test(hosts, the_place_to_meet_is_where_the_interface_says)
{
	static const struct {
		const char *wish, *at;
	} cases[] = {
		{ "lo", "tcp:127.0.0.1:" },
		{ "127.0.0.1", "tcp:127.0.0.1:" },
		{ "127.0.0.0/8", "tcp:127.0.0.1:" },
	};
	static const char *const words[WORDS] = { "--hosts", "a,b", "--agent", "AGENT", "sh", "-c",
						  "echo meets at $COLLX_ADDR" };
	static struct run r;
	char line[64];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		run_prepare(&r);
		setenv("COLLX_INTERFACE", cases[i].wish, 1);
		run_start(&r, words);
		run_read(&r, NULL);
		run_wait(&r);
		snprintf(line, sizeof(line), "meets at %s", cases[i].at);
		cr_expect(r.status == 0 && strstr(r.text, line), "%s: status %d: %s",
			  cases[i].wish, r.status, r.text);
		run_gone(&r);
	}
}

/* What was exported for other jobs is not this one's, and stays where it is. */
Test(hosts, another_job_s_secret_is_not_handed_on)
{
	static const char *const here[WORDS] = { "-n", "2", "sh", "-c",
						 "echo \"${COLLX_SECRET-none}\"" };
	static const char *const hosts[WORDS] = { "--hosts", "a,b", "--agent", "AGENT", "sh", "-c",
						  "echo \"${COLLX_SECRET-none}\"" };
	static struct run r;

	setenv("COLLX_SECRET", "0123", 1);
	setenv("COLLX_SECRET_FILE", "/none", 1);
	run_whole(&r, here);
	cr_assert_eq(r.status, 0, "%s", r.text);
	cr_expect_str_eq(r.text, "none\nnone\n");
	run_whole(&r, hosts);
	cr_assert_eq(r.status, 0, "%s", r.text);
	cr_expect(strstr(r.text, "none") && !strstr(r.text, "0123"), "%s", r.text);
}

/* grep -f: its own command line does not hold it. */
Test(hosts, the_secret_is_in_no_command_line_environment_or_file)
{
	static const char *const words[WORDS] = {
		"--hosts", "a,b", "--agent", "AGENT", "sh", "-c",
		"grep -lFf $COLLX_SECRET_FILE /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>&-;"
		"grep -rlFf $COLLX_SECRET_FILE $COLLX_RUNTIME_DIR;"
		"tr -d '\\n' <$COLLX_SECRET_FILE | grep -cEx '[0-9a-f]{64}'" };
	static struct run r;

	run_whole(&r, words);
	cr_assert_eq(r.status, 0);
	cr_assert_str_eq(r.text, "1\n1\n");
}

static const char *const collectives[] = {
	"allreduce", "reduce_scatter", "allgather", "broadcast", "reduce", "barrier",
};

Test(hosts, all_collectives_compute, .timeout = 300)
{
	static struct run r;

	for (size_t i = 0; i < sizeof(collectives) / sizeof(collectives[0]); i++) {
		const char *const words[WORDS] = {
			"--hosts", "a:2,b:1", "--agent", "AGENT", "./collx-perf", collectives[i],
			"-b", "8", "-e", "64K", "-f", "16", "-n", "2" };

		run_whole(&r, words);
		cr_expect_eq(r.status, 0, "%s: status %d:\n%s", collectives[i], r.status, r.text);
		cr_expect(strstr(r.text, "Using 3 ranks"), "%s", r.text);
		cr_expect(!strcmp(collectives[i], "barrier") ||
				  strstr(r.text, "Out of bounds values : 0 OK"),
			  "%s:\n%s", collectives[i], r.text);
	}
}

/* One host alone: a unix socket in a folder there, which goes with the job. */
Test(hosts, one_host)
{
	static const char *const words[WORDS] = {
		"--hosts", "talk", "-n", "3", "--agent", "AGENT", "sh", "-c",
		"echo at $COLLX_ADDR; exec ./collx-perf allreduce -b 8 -e 8 -n 1" };
	static struct run r;

	run_whole(&r, words);
	cr_expect_eq(r.status, 0, "status %d:\n%s", r.status, r.text);
	cr_expect(strstr(r.text, "at unix:/tmp/collx-t-"), "%s", r.text);
	cr_expect(strstr(r.text, "welcome to talk\n"), "%s", r.text);
	cr_expect(strstr(r.text, "Out of bounds values : 0 OK"), "%s", r.text);
}

Test(hosts, a_place_to_meet_that_was_given)
{
	static const char *const words[WORDS] = {
		"--hosts", "a,b", "--agent", "AGENT", "--addr", "tcp:[::1]:7799", "sh", "-c",
		"echo at $COLLX_ADDR" };
	static struct run r;

	run_whole(&r, words);
	cr_expect_eq(r.status, 0);
	cr_expect_str_eq(r.text, "at tcp:[::1]:7799\nat tcp:[::1]:7799\n");
}

/* ---- bad input ---- */

struct mistake {
	const char *hosts;
	const char *more[6];
	const char *env[2];
	int status;
	const char *says;
};

static const struct mistake mistakes[] = {
	{ "", { NULL }, { NULL }, 64, "a host without a name" },
	{ "a,,b", { NULL }, { NULL }, 64, "a host without a name" },
	{ "a:0", { NULL }, { NULL }, 64, "host a: '0' is not a number of ranks" },
	{ "a:-1", { NULL }, { NULL }, 64, "host a: '-1' is not a number of ranks" },
	{ "a:2x", { NULL }, { NULL }, 64, "host a: '2x' is not a number of ranks" },
	{ "a:99999999999999999999", { NULL }, { NULL }, 64, "is not a number of ranks" },
	{ "a:4000,b:4000", { NULL }, { NULL }, 64, "8000 ranks are more than 4096" },
	{ "-oProxyCommand=date", { NULL }, { NULL }, 64, "does not begin with '-'" },
	{ "a;date", { NULL }, { NULL }, 64, "';' is in no name" },
	{ "a:1,b,a:2", { NULL }, { NULL }, 64, "host a stands twice" },
	{ "fd77::1:2", { NULL }, { NULL }, 64, "needs brackets" },
	{ "[fd77::1:2", { NULL }, { NULL }, 64, "[ADDRESS]:COUNT is needed" },
	{ "a,b,c", { "-n", "2" }, { NULL }, 64, "3 hosts for 2 ranks: each host needs one" },
	{ "a:1,b:1", { "-n", "3" }, { NULL }, 64, "the hosts have 2 ranks, but -n says 3" },
	{ "a,b", { "--addr", "10.0.0.1:7" }, { NULL }, 64, "tcp:HOST:PORT is needed" },
	{ NULL, { "--agent", "x" }, { NULL }, 64, "--agent and --addr go with --hosts" },
	{ "a,b", { "--agent", "/no/such/agent -v" }, { NULL }, 127,
	  "host a: agent /no/such/agent: command not found" },
	{ "a,b", { "--agent", "/etc/passwd" }, { NULL }, 126, "host a: agent /etc/passwd: Perm" },
	{ "a,b", { "--agent", " " }, { NULL }, 1, "host a: the agent has no name" },
	{ "a,bad", { NULL }, { NULL }, 1, "host bad: its agent (pid " },
	{ "a,bad", { NULL }, { NULL }, 1, "no route to bad" },
	{ "gone,b", { NULL }, { NULL }, 1, "is collx-run there, under the same path?" },
	{ "half,b", { NULL }, { NULL }, 1, "hello\ncollx-run: host half: its agent (pid " },
	{ "a,junk", { NULL }, { NULL }, 1, "host junk: what comes from it is not collx-run's" },
	{ "a,mute", { "--timeout", "6" }, { NULL }, 124, "no answer in time from mute" },
	{ "a,b", { NULL }, { "COLLX_INTERFACE", "nope" }, 1, "host a: COLLX_INTERFACE=nope: no " },
	{ "a,b", { NULL }, { "COLLX_INTERFACE", "198.51.100.0/24" }, 1,
	  "host a: COLLX_INTERFACE=198.51.100.0/24: no usable address: " },
	{ "a,b", { NULL }, { "COLLX_PORT_RANGE", "9-8" }, 1, "COLLX_PORT_RANGE=9-8 is not FIRST" },
	{ "a,b", { NULL }, { "COLLX_PORT", "many" }, 1, "COLLX_PORT=many is not an integ" },
	{ "die,b", { NULL }, { NULL }, 1, "was killed by signal 9 before its ranks had ended" },
};

Test(hosts, mistakes_are_named, .timeout = 400)
{
	static struct run r;

	for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
		const struct mistake *m = &mistakes[i];
		const char *words[WORDS] = { "--hosts", m->hosts, "--agent", "AGENT" };
		int n = m->hosts ? 4 : 0;

		for (int k = 0; k < 6 && m->more[k]; k++)
			words[n++] = m->more[k];
		words[n++] = "sleep";
		words[n++] = "1000";
		words[n] = NULL;
		run_prepare(&r);
		if (m->env[0])
			setenv(m->env[0], m->env[1], 1);
		run_start(&r, words);
		run_read(&r, NULL);
		run_wait(&r);
		cr_expect(r.status == m->status && strstr(r.text, m->says) && r.ms < 30000,
			  "%s: status %d after %d ms, not %d with '%s':\n%s", m->hosts, r.status,
			  r.ms, m->status, m->says, r.text);
		run_gone(&r);
		if (m->env[0])
			unsetenv(m->env[0]);
	}
}

/* The command is there or not on each host for itself. */
Test(hosts, a_command_that_is_not_there)
{
	static const char *const words[WORDS] = { "--hosts", "a:2,b", "--agent", "AGENT",
						  "no-such-command" };
	static struct run r;

	run_whole(&r, words);
	cr_expect_eq(r.status, 127);
	cr_expect(strstr(r.text, ": no-such-command: command not found\n"), "%s", r.text);
}

/* ---- output ---- */

/* Lines come whole, all of them, and a long one in pieces in order. */
static void count_lines(const char *const words[WORDS], long want)
{
	static char line[1 << 20];
	static struct run r;
	long count[4] = { 0 }, n, k;
	FILE *f;
	int rank;

	run_prepare(&r);
	run_start(&r, words);
	f = fdopen(r.out, "r");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "[%d] line %ld of %ld", &rank, &k, &n) == 3 && rank >= 0 &&
		    rank < 4 && n == rank && k == count[rank] + 1)
			count[rank]++;
		else
			cr_expect(0, "a line that is none: %.200s", line);
	}
	fclose(f);
	r.out = -1;
	run_wait(&r);
	cr_expect_eq(r.status, 0);
	for (int i = 0; i < 4; i++)
		cr_expect_eq(count[i], want, "rank %d: %ld lines of %ld", i, count[i], want);
	run_gone(&r);
}

#define COUNT_SCRIPT "seq 1 100000 | sed \"s/.*/line & of $COLLX_RANK/\""

Test(output, comes_whole, .timeout = 300)
{
	static const char *const here[WORDS] = { "-n", "4", "--prefix", "sh", "-c",
						 COUNT_SCRIPT };
	static const char *const hosts[WORDS] = { "--hosts", "a:3,b:1", "--agent", "AGENT",
						  "--prefix", "sh", "-c", COUNT_SCRIPT };

	count_lines(here, 100000);
	count_lines(hosts, 100000);
}

/* The one child of the process: the launcher itself. */
static pid_t child_of(pid_t pid)
{
	char path[64];
	FILE *f;
	int child = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	f = fopen(path, "re");
	if (f && fscanf(f, "%d", &child) != 1)
		child = 0;
	if (f)
		fclose(f);
	return child;
}

static long resident_mib(pid_t pid)
{
	char path[64], line[256];
	long kib = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmRSS: %ld", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib / 1024;
}

/* Rank 0 fills the pipe that nobody reads; the others' end and the signals still count. */
static void nobody_reads(const char *const words[WORDS], int sig, int status)
{
	static struct run r;

	run_prepare(&r);
	run_start(&r, words);
	if (sig) {
		nap_ms(2500);
		cr_expect_lt(resident_mib(child_of(r.pid)), 100, "it holds all that is written");
		kill(r.pid, sig);
	}
	run_wait(&r);
	cr_expect(r.status == status && r.ms < 30000, "%s: status %d after %d ms", words[1],
		  r.status, r.ms);
	run_gone(&r);
}

#define FULL_SCRIPT "test $COLLX_RANK != 0 || exec yes; sleep 1.5; exit 9"
#define YES_SCRIPT "test $COLLX_RANK != 0 || exec yes $(seq 1 1000); sleep 1000"

Test(output, that_nobody_reads_stops_nothing, .timeout = 300)
{
	static const char *const here[WORDS] = { "-n", "4", "--prefix", "sh", "-c", FULL_SCRIPT };
	static const char *const hosts[WORDS] = { "--hosts", "a:2,b:2", "--agent", "AGENT",
						  "sh", "-c", FULL_SCRIPT };
	static const char *const sent[WORDS] = { "--hosts", "a:2,b:2", "--agent", "AGENT",
						 "sh", "-c", YES_SCRIPT };
	static const char *const late[WORDS] = { "--hosts", "a:2,b:2", "--timeout", "2",
						 "--agent", "AGENT", "sh", "-c", YES_SCRIPT };

	nobody_reads(here, 0, 9);
	nobody_reads(hosts, 0, 9);
	nobody_reads(sent, SIGTERM, 143);
	nobody_reads(late, 0, 124);
}

/* As a rank's own write into a pipe that was closed. */
static void reader_leaves(const char *const words[WORDS])
{
	static struct run r;

	run_prepare(&r);
	run_start(&r, words);
	run_read(&r, "y\n");
	close(r.out);
	r.out = -1;
	run_wait(&r);
	cr_expect(r.status == 141 && r.ms < 30000, "status %d after %d ms", r.status, r.ms);
	run_gone(&r);
}

Test(output, whose_reader_leaves_ends_the_job, .timeout = 120)
{
	static const char *const here[WORDS] = { "-n", "2", "--prefix", "yes" };
	static const char *const hosts[WORDS] = { "--hosts", "a,b", "--agent", "AGENT", "yes" };

	reader_leaves(here);
	reader_leaves(hosts);
}

/* ---- ends ---- */

/* Not the process that the user started, but the one that holds the links. */
Test(hosts, nothing_outlives_a_launcher_that_is_killed, .timeout = 120)
{
	static const char *const words[WORDS] = {
		"--hosts", "a:2,b:2", "--agent", "AGENT", "sh", "-c",
		"trap '' TERM; setsid sleep 1000 & echo ready; sleep 1000; sleep 1000" };
	static struct run r;
	pid_t launcher;

	run_prepare(&r);
	run_start(&r, words);
	run_read(&r, "ready\nready\nready\nready\n");
	launcher = child_of(r.pid);
	cr_assert_gt(launcher, 1);
	while (count_left(&r) < 2 + 2 + 4 * 3)
		nap_ms(5); /* the last sleep comes after "ready" */
	kill(launcher, SIGKILL);
	run_wait(&r);
	cr_expect_eq(r.status, 137);
	run_gone(&r);
}

Test(hosts, nothing_outlives_a_serving_side_that_is_killed, .timeout = 120)
{
	static const char *const words[WORDS] = { "--hosts", "a:2,b:2", "--agent", "AGENT", "sh",
						  "-c", "echo ready; sleep 1000" };
	static struct run r;
	pid_t launcher, serving;

	run_prepare(&r);
	run_start(&r, words);
	run_read(&r, "ready\nready\nready\nready\n");
	launcher = child_of(r.pid);
	serving = launcher ? child_of(launcher) : 0;
	cr_assert_gt(serving, 1);
	kill(serving, SIGKILL);
	run_read(&r, NULL);
	run_wait(&r);
	cr_expect_eq(r.status, 1);
	cr_expect(strstr(r.text, "host a: its agent (pid") && strstr(r.text, "killed by signal 9"),
		  "%s", r.text);
	run_gone(&r);
}

/* ---- the serving side and garbage ---- */

/* Its exit status with this input; it must say no more than its mark and a refusal. */
static int serve(const void *input, size_t len, char *text, size_t room)
{
	int in[2], out[2], status;
	size_t at = 0;
	ssize_t n;
	pid_t pid;

	cr_assert(!pipe2(in, O_CLOEXEC) && !pipe2(out, O_CLOEXEC));
	pid = fork();
	if (pid == 0) {
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		execl("./collx-run", "collx-run", "--serve", NULL);
		_exit(99);
	}
	close(in[0]);
	close(out[1]);
	signal(SIGPIPE, SIG_IGN);
	n = write(in[1], input, len);
	cr_assert(n == (ssize_t)len || errno == EPIPE);
	close(in[1]);
	while (at < room && (n = read(out[0], text + at, room - at)) > 0)
		at += (size_t)n;
	close(out[0]);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

Test(serve, survives_garbage, .timeout = 120)
{
	static char text[1 << 16], junk[20000];
	char job[64] = { 1, 0, 0, 0, 0, 0, 0, 0, 20 }; /* a JOB of 20 bytes */

	cr_expect_eq(serve("", 0, text, sizeof(text)), 0);
	for (int k = 0; k < 60; k++) {
		for (size_t i = 0; i < sizeof(junk); i++)
			junk[i] = (char)mix64((uint64_t)k << 32 | i);
		if (k % 3) { /* that pass for frames, of some kind and length */
			memset(junk, 0, 12);
			junk[0] = (char)(1 + k % 11);
			junk[8] = (char)k;
		}
		cr_expect_lt(serve(junk, sizeof(junk) >> k % 12, text, sizeof(text)), 2);
	}
	memcpy(job + 12, "4\0" "0\0" "9\0" "told\0" "x\0", 13);
	cr_expect_lt(serve(job, 32, text, sizeof(text)), 2);
	cr_expect(memmem(text, sizeof(text), "the job is damaged", 18) != NULL);
}
