/* SPDX-License-Identifier: BSD-3-Clause */
/* The ranks of this host: what they need, their start and their end. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "run.h"

enum { SECRET_FD_LEAST = 100 /* above what shell scripts use for themselves */ };

int64_t run_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int run_wait_ms(int64_t deadline_ms)
{
	int64_t left = deadline_ms - run_now_ms();

	if (deadline_ms < 0)
		return -1;
	return left < 0 ? 0 : left < 60 * 1000 ? (int)left + 1 : 60 * 1000;
}

int run_complain(const char *what)
{
	fprintf(stderr, "collx-run: %s: %s\n", what, strerror(errno));
	return -1;
}

/* ---- signals ---- */

sigset_t run_own_signals(void)
{
	static const int list[] = { SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	struct sigaction now;
	sigset_t set;
	size_t i;

	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&set);
	for (i = 0; i < sizeof(list) / sizeof(list[0]); i++)
		if (!sigaction(list[i], NULL, &now) && now.sa_handler != SIG_IGN)
			sigaddset(&set, list[i]);
	return set;
}

int run_signals_open(void)
{
	sigset_t set = run_own_signals();

	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int run_signals_next(int signals)
{
	struct signalfd_siginfo info;

	return read(signals, &info, sizeof(info)) == (ssize_t)sizeof(info) ? (int)info.ssi_signo
									   : 0;
}

/* ---- what the ranks need ---- */

int run_secret_make(char text[RUN_SECRET_CHARS + 1])
{
	unsigned char key[RUN_SECRET_CHARS / 2];

	if (getrandom(key, sizeof(key), 0) != (ssize_t)sizeof(key))
		return run_complain("getrandom");
	for (size_t i = 0; i < sizeof(key); i++)
		sprintf(text + 2 * i, "%02x", key[i]);
	explicit_bzero(key, sizeof(key));
	return 0;
}

int run_secret_open(struct run_job *job, const char *text)
{
	const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	int fd = memfd_create("collx-secret", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || fchmod(fd, 0600) ||
	    write(fd, text, RUN_SECRET_CHARS) != RUN_SECRET_CHARS || write(fd, "\n", 1) != 1 ||
	    fcntl(fd, F_ADD_SEALS, seals))
		return run_complain("memory for the secret");
	job->secret = fcntl(fd, F_DUPFD, SECRET_FD_LEAST);
	if (job->secret < 0 && errno == EINVAL) /* fewer are allowed (ulimit -n) */
		job->secret = fcntl(fd, F_DUPFD, 3);
	close(fd);
	return job->secret < 0 ? run_complain("a descriptor for the secret") : 0;
}

int run_folder_make(struct run_job *job)
{
	const char *root = getenv("COLLX_RUNTIME_DIR");
	char template[RUN_ADDR_BYTES];
	int len;

	if (!root || !*root)
		root = "/tmp";
	len = snprintf(template, sizeof(template), "%s/collx-run-XXXXXX", root);
	if (root[0] != '/' || (size_t)len + strlen("unix:/meet") >= sizeof(job->addr)) {
		fprintf(stderr, "collx-run: COLLX_RUNTIME_DIR=%s: an absolute path of at most %zu "
			"bytes is needed\n", root,
			sizeof(job->addr) - sizeof("unix:/collx-run-XXXXXX/meet"));
		return -1;
	}
	if (!mkdtemp(template)) {
		fprintf(stderr, "collx-run: a folder in %s: %s\n", root, strerror(errno));
		return -1;
	}
	strcpy(job->dir, template);
	sprintf(job->addr, "unix:%.*s/meet", RUN_ADDR_BYTES - 11, template);
	return 0;
}

void run_folder_remove(const struct run_job *job)
{
	if (!job->dir[0])
		return;
	unlink(job->addr + strlen("unix:"));
	rmdir(job->dir);
}

static void set_number(const char *name, int value)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", value);
	setenv(name, text, 1);
}

static void set_environment(const struct run_job *job, int i)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", job->secret);
	setenv("COLLX_SECRET_FILE", path, 1);
	unsetenv("COLLX_SECRET");
	setenv("COLLX_ADDR", job->addr, 1);
	set_number("COLLX_RANK", job->first + i);
	set_number("COLLX_LOCAL_RANK", i);
	set_number("COLLX_SIZE", job->size);
}

/* ---- starting ---- */

int run_ranks_init(struct run_job *job)
{
	job->deadline_ms = -1;
	job->secret = -1;
	job->signals = run_signals_open();
	job->ranks = calloc((size_t)job->count, sizeof(*job->ranks));
	if (!job->ranks || job->signals < 0)
		return run_complain("preparing");
	for (int i = 0; i < job->count; i++)
		job->ranks[i].out.fd = job->ranks[i].err.fd = -1;
	return 0;
}

void run_ranks_fini(struct run_job *job)
{
	free(job->ranks);
	close(job->signals);
	if (job->secret >= 0)
		close(job->secret);
}

/* A terminal's reader would be stopped: ranks are background process groups. */
static void set_stdin(bool feed)
{
	int fd;

	if (feed && !isatty(STDIN_FILENO))
		return;
	fd = open("/dev/null", O_RDONLY);
	if (fd > STDIN_FILENO) {
		dup2(fd, STDIN_FILENO);
		close(fd);
	}
}

/* In the child: becomes the rank, or says on `report` why it cannot. */
static void become_rank(const struct run_job *job, int i, pid_t keeper, const int outputs[2],
			int report)
{
	sigset_t none;
	int err;

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != keeper)
		_exit(1);
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	set_stdin(job->feeds && job->first + i == 0);
	if (job->piped) {
		dup2(outputs[0], STDOUT_FILENO);
		dup2(outputs[1], STDERR_FILENO);
	}
	set_environment(job, i);
	execvp(job->cmd[0], job->cmd);
	err = errno;
	if (write(report, &err, sizeof(err)) < 0)
		_exit(RUN_EXIT_NOCMD);
	_exit(RUN_EXIT_NOCMD);
}

int run_ranks_start(struct run_job *job, int i)
{
	struct run_rank *r = &job->ranks[i];
	int outputs[2] = { -1, -1 }, report[2], err = 0;
	pid_t keeper = getpid();

	if (pipe2(report, O_CLOEXEC))
		return errno;
	if (job->piped && (run_stream_open(&r->out, 1, &outputs[0]) ||
			   run_stream_open(&r->err, 2, &outputs[1])))
		err = errno;
	if (!err) {
		r->pid = fork();
		if (r->pid == 0)
			become_rank(job, i, keeper, outputs, report[1]);
		if (r->pid < 0) {
			err = errno;
			r->pid = 0;
		}
	}
	close(report[1]);
	close(outputs[0]);
	close(outputs[1]);
	if (r->pid > 0) {
		setpgid(r->pid, r->pid); /* here too: whoever comes first */
		job->alive++;
		if (read(report[0], &err, sizeof(err)) != sizeof(err))
			err = 0;
	}
	close(report[0]);
	return err;
}

int run_start_error(const struct run_job *job, int i, int err, char *text, size_t len)
{
	if (job->ranks[i].pid)
		snprintf(text, len, "%s: %s", job->cmd[0],
			 err == ENOENT ? "command not found" : strerror(err));
	else
		snprintf(text, len, "starting rank %d: %s", job->first + i, strerror(err));
	return err == ENOENT ? RUN_EXIT_NOCMD : RUN_EXIT_NOEXEC;
}

/* ---- ending ---- */

void run_ranks_signal(const struct run_job *job, int sig)
{
	for (int i = 0; i < job->count; i++)
		if (job->ranks[i].pid)
			kill(-job->ranks[i].pid, sig);
}

void run_ranks_end(struct run_job *job, int sig)
{
	if (job->ending)
		return;
	job->ending = true;
	run_ranks_signal(job, sig);
	run_ranks_signal(job, SIGCONT); /* a stopped rank would not hear the first */
	job->deadline_ms = run_now_ms() + RUN_GRACE_MS;
}

static int find_rank(const struct run_job *job, pid_t pid)
{
	for (int i = 0; i < job->count; i++)
		if (job->ranks[i].pid == pid)
			return i;
	return -1;
}

void run_end_text(char *text, size_t len, int rank, const siginfo_t *end)
{
	int pid = (int)end->si_pid, status = end->si_status;

	if (end->si_code == CLD_EXITED)
		snprintf(text, len, "rank %d (pid %d) exited with status %d", rank, pid, status);
	else
		snprintf(text, len, "rank %d (pid %d) was killed by signal %d (%s)", rank, pid,
			 status, strsignal(status));
}

bool run_end_is_good(const siginfo_t *end)
{
	return end->si_code == CLD_EXITED && !end->si_status;
}

int run_end_status(const siginfo_t *end)
{
	return end->si_status + (end->si_code == CLD_EXITED ? 0 : 128);
}

static void add_loss(struct run_toll *t, int status, const char *text)
{
	char line[RUN_TEXT_MAX + 16];
	int n = snprintf(line, sizeof(line), "collx-run: %.*s\n", RUN_TEXT_MAX - 1, text);

	if (!t->bad++)
		t->status = status;
	run_buffer_add(&t->lines, line, (size_t)n);
}

void run_toll_take(struct run_toll *t, int rank, const siginfo_t *end, const char *host)
{
	char text[RUN_TEXT_MAX - 128], line[RUN_TEXT_MAX];

	if (run_end_is_good(end)) {
		t->good++;
		return;
	}
	run_end_text(text, sizeof(text), rank, end);
	snprintf(line, sizeof(line), host ? "%s on host %.80s" : "%s", text, host);
	add_loss(t, run_end_status(end), line);
}

void run_toll_miss(struct run_toll *t, const char *text)
{
	add_loss(t, 1, text);
}

int run_toll_status(const struct run_toll *t)
{
	return t->good ? 0 : t->status;
}

/* A leader is looked at first and reaped last: while it is a zombie, its number still
 * names its group and no other. */
void run_ranks_reap(struct run_job *job)
{
	siginfo_t end;
	int i;

	for (;;) {
		end.si_pid = 0;
		if (waitid(P_ALL, 0, &end, WEXITED | WNOHANG | WNOWAIT) || !end.si_pid)
			return;
		i = find_rank(job, end.si_pid);
		if (i >= 0) {
			kill(-end.si_pid, SIGKILL);
			job->ranks[i].pid = 0;
			job->alive--;
			job->ended(job, job->first + i, &end);
		}
		waitpid(end.si_pid, NULL, 0);
	}
}

/* How many there were. */
static int kill_children(void)
{
	char path[64];
	FILE *children;
	int pid, killed = 0, left;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	children = fopen(path, "re");
	while (children && fscanf(children, "%d", &pid) == 1)
		killed += kill(pid, SIGKILL) == 0;
	if (children)
		fclose(children);
	for (left = killed; left && waitpid(-1, NULL, 0) > 0; left--)
		;
	return killed;
}

/* Whose parent is killed comes to this process next. */
void run_strays_kill(void)
{
	while (kill_children())
		;
}
