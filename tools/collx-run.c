/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collx-run: starts the ranks of a job on this host, gives them what
 * collx_comm_create_from_env wants to know, and sees to it that they end
 * together and leave nothing behind.
 *
 * Two processes: the one the user started only waits and passes signals on; its
 * child, the keeper, starts the ranks and hears from the kernel when the first
 * dies, be it by SIGKILL, and then ends the job as for SIGTERM. Each rank is the
 * leader of a process group, which ends with it.
 */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
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

enum {
	MAX_RANKS = 4096,
	ADDR_BYTES = 96,      /* what libcollx takes as COLLX_ADDR */
	GRACE_MS = 2000,      /* between asking ranks to end and killing them */
	UNREAD_MS = 500,      /* without room after that: the output has no reader */
	SECRET_FD_LEAST = 100, /* above what shell scripts use for themselves */
	LINE_MAX_BYTES = 1 << 20, /* longer lines are cut, with --prefix */
	EXIT_TIMEOUT = 124,   /* as timeout(1) */
	EXIT_NOEXEC = 126,    /* as the shells */
	EXIT_NOCMD = 127
};

/* One output of one rank, with --prefix; what came since the last newline. */
struct stream {
	int fd; /* -1: at its end */
	int *to; /* one of job.to */
	char *line;
	size_t len, room;
};

struct rank {
	pid_t pid; /* also its process group; 0: ended */
	struct stream out, err;
};

struct options {
	int ranks;
	bool prefix;
	double timeout_s; /* 0: none */
	char **cmd;
};

struct job {
	struct options opts;
	struct rank *ranks;
	struct pollfd *polls;
	int alive;
	int signals;  /* signalfd */
	int secret;
	int to[2];    /* stdout and stderr; -1: nobody reads what we write */
	char cause[160]; /* of the end, until it has been said */
	char dir[ADDR_BYTES];
	char addr[ADDR_BYTES]; /* "unix:" and the socket in dir */
	int status;         /* exit code so far */
	bool ending;
	int64_t deadline_ms; /* of the next step: timeout, then end of the grace; -1: none */
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int wait_ms(const struct job *job)
{
	int64_t left = job->deadline_ms - now_ms();

	if (job->deadline_ms < 0)
		return -1;
	return left < 0 ? 0 : left < 60 * 1000 ? (int)left + 1 : 60 * 1000;
}

static int complain(const char *what)
{
	fprintf(stderr, "collx-run: %s: %s\n", what, strerror(errno));
	return -1;
}

/* ---- what the ranks need ---- */

/* Memory without a name: a copy of the descriptor is the only way to it. */
static int make_secret(struct job *job)
{
	const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	unsigned char key[32];
	char text[2 * sizeof(key) + 2];
	size_t i;
	int fd;

	if (getrandom(key, sizeof(key), 0) != (ssize_t)sizeof(key))
		return complain("getrandom");
	for (i = 0; i < sizeof(key); i++)
		sprintf(text + 2 * i, "%02x", key[i]);
	strcat(text, "\n");
	fd = memfd_create("collx-secret", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || fchmod(fd, 0600) || write(fd, text, strlen(text)) != (ssize_t)strlen(text) ||
	    fcntl(fd, F_ADD_SEALS, seals))
		return complain("memory for the secret");
	explicit_bzero(key, sizeof(key));
	explicit_bzero(text, sizeof(text));
	job->secret = fcntl(fd, F_DUPFD, SECRET_FD_LEAST);
	close(fd);
	return job->secret < 0 ? complain("a descriptor for the secret") : 0;
}

/* The folder (mkdtemp: mode 0700) of the socket that rank 0 binds. */
static int make_dir(struct job *job)
{
	const char *root = getenv("COLLX_RUNTIME_DIR");
	char template[ADDR_BYTES];
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
	sprintf(job->addr, "unix:%.*s/meet", ADDR_BYTES - 11, template);
	return 0;
}

static void remove_dir(struct job *job)
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

static void set_environment(const struct job *job, int rank)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", job->secret);
	setenv("COLLX_SECRET_FILE", path, 1);
	setenv("COLLX_ADDR", job->addr, 1);
	set_number("COLLX_RANK", rank);
	set_number("COLLX_LOCAL_RANK", rank);
	set_number("COLLX_SIZE", job->opts.ranks);
}

/* ---- starting ---- */

/* A terminal's reader would be stopped: ranks are background process groups. */
static void set_stdin(int rank)
{
	int fd;

	if (rank == 0 && !isatty(STDIN_FILENO))
		return;
	fd = open("/dev/null", O_RDONLY);
	if (fd > STDIN_FILENO) {
		dup2(fd, STDIN_FILENO);
		close(fd);
	}
}

/* In the child: becomes the rank, or says on `report` why it cannot. */
static void become_rank(const struct job *job, int rank, pid_t keeper, const int outputs[2],
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
	set_stdin(rank);
	if (job->opts.prefix) {
		dup2(outputs[0], STDOUT_FILENO);
		dup2(outputs[1], STDERR_FILENO);
	}
	set_environment(job, rank);
	execvp(job->opts.cmd[0], job->opts.cmd);
	err = errno;
	if (write(report, &err, sizeof(err)) < 0)
		_exit(EXIT_NOCMD);
	_exit(EXIT_NOCMD);
}

static int open_stream(struct stream *s, int *to, int *writer)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC))
		return -1;
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	*s = (struct stream){ .fd = ends[0], .to = to };
	*writer = ends[1];
	return 0;
}

/* 0 when the rank runs; errno of what went wrong otherwise. */
static int start_rank(struct job *job, int rank)
{
	struct rank *r = &job->ranks[rank];
	int outputs[2] = { -1, -1 }, report[2], err = 0;
	pid_t keeper = getpid();

	if (pipe2(report, O_CLOEXEC))
		return errno;
	if (job->opts.prefix && (open_stream(&r->out, &job->to[0], &outputs[0]) ||
				 open_stream(&r->err, &job->to[1], &outputs[1])))
		err = errno;
	if (!err) {
		r->pid = fork();
		if (r->pid == 0)
			become_rank(job, rank, keeper, outputs, report[1]);
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

static void end_job(struct job *job, int status, int sig);

/* All of them, or none for long. */
static void start_all(struct job *job)
{
	const char *cmd = job->opts.cmd[0];
	int i, err;

	for (i = 0; i < job->opts.ranks && !job->ending; i++) {
		err = start_rank(job, i);
		if (!err)
			continue;
		if (job->ranks[i].pid) /* it was forked, so it is the command that failed */
			fprintf(stderr, "collx-run: %s: %s\n", cmd,
				err == ENOENT ? "command not found" : strerror(err));
		else
			fprintf(stderr, "collx-run: starting rank %d: %s\n", i, strerror(err));
		end_job(job, err == ENOENT ? EXIT_NOCMD : EXIT_NOEXEC, SIGTERM);
	}
}

/* ---- output with --prefix ---- */

/*
 * The same output, opened anew so that O_NONBLOCK is ours alone: others who write there
 * may take the room that poll saw, and a terminal promises no more than a byte. What
 * cannot be had twice (a socket, another user's pipe) or has a position stays shared.
 */
static int open_output(int fd)
{
	char path[32];
	struct stat st;
	int own = -1;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (fstat(fd, &st))
		return -1; /* closed; its number will soon be something else's */
	if (S_ISFIFO(st.st_mode) || isatty(fd))
		own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return own < 0 ? fd : own;
}

/* Not waited for, as stderr may be what is full; keep() says what is left. */
static void say_cause(struct job *job)
{
	size_t len = strlen(job->cause);
	ssize_t n;

	if (!len || poll(&(struct pollfd){ .fd = job->to[1], .events = POLLOUT }, 1, 0) <= 0)
		return;
	n = write(job->to[1], job->cause, len);
	if (n > 0)
		memmove(job->cause, job->cause + n, len - (size_t)n + 1);
}

static void attend(struct job *job);

/* A reader may pause for as long as it likes, but the job's end does not wait for it. */
static bool wait_for_room(struct job *job, int *to)
{
	struct pollfd polls[2] = { { *to, POLLOUT, 0 }, { job->signals, POLLIN, 0 } };
	bool over = job->ending && job->deadline_ms < 0;
	int n = poll(polls, over ? 1 : 2, over ? UNREAD_MS : wait_ms(job));

	if (polls[0].revents && !polls[1].revents && wait_ms(job))
		return true;
	if (over && n == 0)
		*to = -1;
	attend(job);
	if (!polls[0].revents) /* else it could come into the middle of a line */
		say_cause(job);
	return false;
}

/* PIPE_BUF: no more is sure to find room in a shared pipe. */
static void write_all(struct job *job, int *to, const char *data, size_t len)
{
	ssize_t n;

	while (len && *to >= 0) {
		if (!wait_for_room(job, to))
			continue;
		n = write(*to, data, len < PIPE_BUF ? len : PIPE_BUF);
		if (n >= 0) {
			data += n;
			len -= (size_t)n;
		} else if (errno != EINTR && errno != EAGAIN) {
			*to = -1;
		}
	}
}

static void write_line(struct job *job, struct stream *s, int rank, const char *line, size_t len)
{
	char head[PIPE_BUF]; /* with the prefix: most lines are one write */
	size_t n = (size_t)snprintf(head, sizeof(head), "[%d] ", rank);
	size_t part = len < sizeof(head) - n ? len : sizeof(head) - n;

	memcpy(head + n, line, part);
	write_all(job, s->to, head, n + part);
	write_all(job, s->to, line + part, len - part);
	if (line[len - 1] != '\n')
		write_all(job, s->to, "\n", 1);
}

/* Passes whole lines on and keeps the rest, unless it is the last or too long. */
static void write_lines(struct job *job, struct stream *s, int rank, bool last)
{
	char *line = s->line, *end = s->line + s->len, *newline;

	while (line < end && (newline = memchr(line, '\n', (size_t)(end - line)))) {
		write_line(job, s, rank, line, (size_t)(newline + 1 - line));
		line = newline + 1;
	}
	if (line < end && (last || end - line >= LINE_MAX_BYTES)) {
		write_line(job, s, rank, line, (size_t)(end - line));
		line = end;
	}
	s->len = (size_t)(end - line);
	if (s->len)
		memmove(s->line, line, s->len);
}

static bool make_room(struct stream *s)
{
	size_t room = s->room ? 2 * s->room : 4096;
	char *line;

	if (s->len < s->room)
		return true;
	line = realloc(s->line, room);
	if (!line)
		return false;
	s->line = line;
	s->room = room;
	return true;
}

/* Reads once; false when there was nothing. Closed when one side has ended, so
 * that a rank which still writes is told by SIGPIPE. */
static bool pump(struct job *job, struct stream *s, int rank)
{
	ssize_t n = 0;

	if (s->fd < 0)
		return false;
	if (make_room(s)) {
		n = read(s->fd, s->line + s->len, s->room - s->len);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return false;
		s->len += n > 0 ? (size_t)n : 0;
		write_lines(job, s, rank, n <= 0);
	}
	if (n > 0 && *s->to >= 0)
		return true;
	close(s->fd);
	s->fd = -1;
	return false;
}

/* What is left when all ranks have ended. */
static void drain(struct job *job, struct stream *s, int rank)
{
	while (pump(job, s, rank))
		;
	write_lines(job, s, rank, true);
	free(s->line);
}

/* ---- ending ---- */

static void signal_all(struct job *job, int sig)
{
	int i;

	for (i = 0; i < job->opts.ranks; i++)
		if (job->ranks[i].pid)
			kill(-job->ranks[i].pid, sig);
}

/* The first cause decides the exit code. */
static void end_job(struct job *job, int status, int sig)
{
	if (job->ending)
		return;
	job->ending = true;
	job->status = status;
	signal_all(job, sig);
	signal_all(job, SIGCONT); /* a stopped rank would not hear the first */
	job->deadline_ms = now_ms() + GRACE_MS;
}

static void deadline_passed(struct job *job)
{
	if (!job->ending) {
		snprintf(job->cause, sizeof(job->cause),
			 "collx-run: %g s have passed: ending %d of %d ranks\n",
			 job->opts.timeout_s, job->alive, job->opts.ranks);
		end_job(job, EXIT_TIMEOUT, SIGTERM);
		return;
	}
	signal_all(job, SIGKILL);
	job->deadline_ms = -1;
}

static int find_rank(const struct job *job, pid_t pid)
{
	int i;

	for (i = 0; i < job->opts.ranks; i++)
		if (job->ranks[i].pid == pid)
			return i;
	return -1;
}

static void report_end(struct job *job, const siginfo_t *end, int rank)
{
	int pid = (int)end->si_pid, status = end->si_status;

	if (end->si_code == CLD_EXITED)
		snprintf(job->cause, sizeof(job->cause),
			 "collx-run: rank %d (pid %d) exited with status %d\n", rank, pid, status);
	else
		snprintf(job->cause, sizeof(job->cause),
			 "collx-run: rank %d (pid %d) was killed by signal %d (%s)\n", rank, pid,
			 status, strsignal(status));
}

/*
 * Takes in all that ended. Of ranks that are found failed at once, one that a
 * signal killed is the likelier cause. A leader is looked at first and reaped
 * last: while it is a zombie, its number still names its group and no other.
 */
static void reap(struct job *job)
{
	siginfo_t end, first = { .si_pid = 0 };
	int rank, first_rank = -1;

	for (;;) {
		end.si_pid = 0;
		if (waitid(P_ALL, 0, &end, WEXITED | WNOHANG | WNOWAIT) || !end.si_pid)
			break;
		rank = find_rank(job, end.si_pid);
		if (rank >= 0) {
			kill(-end.si_pid, SIGKILL);
			job->ranks[rank].pid = 0;
			job->alive--;
			if ((end.si_code != CLD_EXITED || end.si_status) &&
			    (first_rank < 0 ||
			     (first.si_code == CLD_EXITED && end.si_code != CLD_EXITED))) {
				first = end;
				first_rank = rank;
			}
		}
		waitpid(end.si_pid, NULL, 0);
	}
	if (first_rank < 0 || job->ending)
		return;
	report_end(job, &first, first_rank);
	end_job(job, first.si_status + (first.si_code == CLD_EXITED ? 0 : 128), SIGTERM);
}

/* Processes that left their rank's group; as subreaper this one inherits them. */
static void kill_strays(void)
{
	char path[64];
	FILE *children;
	int pid, left = 1;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	while (left) {
		left = 0;
		children = fopen(path, "re");
		while (children && fscanf(children, "%d", &pid) == 1)
			left += kill(pid, SIGKILL) == 0;
		if (children)
			fclose(children);
		while (left && waitpid(-1, NULL, 0) > 0)
			left--;
	}
}

/* ---- the keeper ---- */

static void take_signals(struct job *job)
{
	struct signalfd_siginfo info;

	while (read(job->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			reap(job);
		else
			end_job(job, 128 + (int)info.ssi_signo, (int)info.ssi_signo);
	}
}

/* To all but the output; it neither waits nor writes, as the output may call it. */
static void attend(struct job *job)
{
	take_signals(job);
	if (job->deadline_ms >= 0 && now_ms() >= job->deadline_ms)
		deadline_passed(job);
}

static void watch_ranks(struct job *job)
{
	int i, n = job->opts.ranks;

	job->polls[0] = (struct pollfd){ .fd = job->signals, .events = POLLIN };
	for (i = 0; i < n; i++) {
		job->polls[1 + 2 * i] = (struct pollfd){ job->ranks[i].out.fd, POLLIN, 0 };
		job->polls[2 + 2 * i] = (struct pollfd){ job->ranks[i].err.fd, POLLIN, 0 };
	}
	if (poll(job->polls, job->opts.prefix ? 1 + 2 * (nfds_t)n : 1, wait_ms(job)) < 0) {
		if (errno == EINTR)
			return;
		complain("poll");
		end_job(job, 1, SIGKILL);
	}
	for (i = 0; i < n; i++) {
		if (job->polls[1 + 2 * i].revents)
			pump(job, &job->ranks[i].out, i);
		if (job->polls[2 + 2 * i].revents)
			pump(job, &job->ranks[i].err, i);
	}
	attend(job);
	say_cause(job);
}

static void keep(struct job *job)
{
	int i;

	while (job->alive)
		watch_ranks(job);
	kill_strays();
	for (i = 0; i < job->opts.ranks; i++) {
		drain(job, &job->ranks[i].out, i);
		drain(job, &job->ranks[i].err, i);
	}
	write_all(job, &job->to[1], job->cause, strlen(job->cause));
}

/* The signals this program acts on: not those it was started to ignore (nohup). */
static sigset_t own_signals(void)
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

static int keeper(const struct options *opts, pid_t parent)
{
	struct job job = { .opts = *opts, .deadline_ms = -1 };
	size_t n = (size_t)opts->ranks, i;
	sigset_t set = own_signals();

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (getppid() != parent)
		return 1;
	signal(SIGPIPE, SIG_IGN);
	job.to[0] = open_output(STDOUT_FILENO);
	job.to[1] = open_output(STDERR_FILENO);
	job.ranks = calloc(n, sizeof(*job.ranks));
	job.polls = calloc(2 * n + 1, sizeof(*job.polls));
	job.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (!job.ranks || !job.polls || job.signals < 0) {
		complain("preparing");
		return 1;
	}
	for (i = 0; i < n; i++)
		job.ranks[i].out.fd = job.ranks[i].err.fd = -1;
	if (make_secret(&job) || make_dir(&job))
		return 1;
	if (opts->timeout_s > 0)
		job.deadline_ms = now_ms() + (int64_t)(opts->timeout_s * 1000);
	start_all(&job);
	close(job.secret);
	keep(&job);
	remove_dir(&job);
	return job.status;
}

/* ---- the process the user started ---- */

static int watch(pid_t child)
{
	sigset_t set = own_signals();
	int sig, status;

	for (;;) {
		if (sigwait(&set, &sig))
			continue;
		if (sig != SIGCHLD) {
			kill(child, sig);
			continue;
		}
		if (waitpid(child, &status, WNOHANG) == child &&
		    (WIFEXITED(status) || WIFSIGNALED(status)))
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	}
}

static const struct argp_option options[] = {
	{ "ranks", 'n', "N", 0, "Ranks to start (as many as this process may use processors)", 0 },
	{ "prefix", 'p', NULL, 0, "Begin each line of output with the rank that wrote it", 0 },
	{ "timeout", 't', "SECONDS", 0, "End the job after this time, with status 124", 0 },
	{ NULL, 0, NULL, 0, NULL, 0 },
};

static double parse_number(const char *text, double least, double most, struct argp_state *state,
			   const char *what)
{
	double value;
	char *end;

	errno = 0;
	value = strtod(text, &end);
	if (errno || end == text || *end || !(value >= least && value <= most))
		argp_error(state, "%s %s: a number from %g to %g is needed", what, text, least,
			   most);
	return value;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *opts = state->input;
	double ranks;

	switch (key) {
	case 'n':
		ranks = parse_number(arg, 1, MAX_RANKS, state, "-n");
		opts->ranks = (int)ranks;
		if (opts->ranks != ranks)
			argp_error(state, "-n %s: a whole number is needed", arg);
		return 0;
	case 'p':
		opts->prefix = true;
		return 0;
	case 't':
		opts->timeout_s = parse_number(arg, 0.001, 1e9, state, "--timeout");
		return 0;
	case ARGP_KEY_ARG:
		return ARGP_ERR_UNKNOWN; /* comes back as ARGP_KEY_ARGS with all that follow */
	case ARGP_KEY_ARGS:
		opts->cmd = state->argv + state->next;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which command?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp parser = {
	.options = options,
	.parser = parse_option,
	.args_doc = "[--] COMMAND [ARGUMENT...]",
	.doc = "Starts COMMAND as the ranks of a libcollx job on this host.\v"
	       "The exit status is that of the rank that failed first, 128 + the signal that "
	       "killed it, or 0. See collx-run(1).",
};

int main(int argc, char **argv)
{
	struct options opts = { 0 };
	sigset_t set = own_signals();
	pid_t child, self = getpid();
	cpu_set_t cpus;

	opts.ranks = sched_getaffinity(0, sizeof(cpus), &cpus) ? 1 : CPU_COUNT(&cpus);
	argp_parse(&parser, argc, argv, ARGP_IN_ORDER, NULL, &opts);
	sigprocmask(SIG_BLOCK, &set, NULL);
	child = fork();
	if (child == 0)
		exit(keeper(&opts, self));
	if (child < 0) {
		complain("fork");
		return 1;
	}
	return watch(child);
}
