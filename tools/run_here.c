/* SPDX-License-Identifier: BSD-3-Clause */
/* The keeper: all ranks are of this host. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run.h"

struct here {
	struct run_job job; /* first: its functions get a pointer to it */
	const struct run_options *opts;
	struct pollfd *polls;
	int to[2];    /* stdout and stderr; -1: nobody reads what we write */
	char cause[160]; /* of the end, until it has been said */
	int status;   /* exit code so far */
	int failed;   /* the rank that failed first, of those found ended at once; or -1 */
	siginfo_t how;
	struct run_toll toll; /* with --keep-going */
};

static void end_job(struct here *h, int status, int sig)
{
	if (h->job.ending)
		return;
	h->status = status; /* the first cause decides */
	run_ranks_end(&h->job, sig);
}

/* ---- output with --prefix ---- */

/*
 * The same output, opened anew so that O_NONBLOCK is ours alone: others who write there
 * may take the room that poll saw, and a terminal promises no more than a byte. What
 * cannot be had twice (a socket, another user's pipe) or has a position stays shared.
 */
int run_output_open(int fd)
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
static void say_cause(struct here *h)
{
	size_t len = strlen(h->cause);
	ssize_t n;

	if (!len || poll(&(struct pollfd){ .fd = h->to[1], .events = POLLOUT }, 1, 0) <= 0)
		return;
	n = write(h->to[1], h->cause, len);
	if (n > 0)
		memmove(h->cause, h->cause + n, len - (size_t)n + 1);
}

static void attend(struct here *h);

/* A reader may pause for as long as it likes, but the job's end does not wait for it. */
static bool wait_for_room(struct here *h, int *to)
{
	struct pollfd polls[2] = { { *to, POLLOUT, 0 }, { h->job.signals, POLLIN, 0 } };
	bool over = h->job.ending && h->job.deadline_ms < 0;
	int n = poll(polls, over ? 1 : 2, over ? RUN_UNREAD_MS : run_wait_ms(h->job.deadline_ms));

	if (polls[0].revents && !polls[1].revents && run_wait_ms(h->job.deadline_ms))
		return true;
	if (over && n == 0)
		*to = -1;
	attend(h);
	if (!polls[0].revents) /* else it could come into the middle of a line */
		say_cause(h);
	return false;
}

/* PIPE_BUF: no more is sure to find room in a shared pipe. */
static void write_all(struct here *h, int *to, const char *data, size_t len)
{
	ssize_t n;

	while (len && *to >= 0) {
		if (!wait_for_room(h, to))
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

static bool write_line(struct run_job *job, const struct run_stream *s, int rank,
		       const char *line, size_t len)
{
	struct here *h = (struct here *)job;
	int *to = &h->to[s->which - 1];
	char head[PIPE_BUF]; /* with the prefix: most lines are one write */
	size_t n = (size_t)snprintf(head, sizeof(head), "[%d] ", rank);
	size_t part = len < sizeof(head) - n ? len : sizeof(head) - n;

	memcpy(head + n, line, part);
	write_all(h, to, head, n + part);
	write_all(h, to, line + part, len - part);
	if (line[len - 1] != '\n')
		write_all(h, to, "\n", 1);
	return *to >= 0;
}

/* ---- starting and ending ---- */

/* All of them, or none for long. */
static void start_all(struct here *h)
{
	char text[RUN_TEXT_MAX];
	int i, err, status;

	for (i = 0; i < h->job.count && !h->job.ending; i++) {
		err = run_ranks_start(&h->job, i);
		if (!err)
			continue;
		status = run_start_error(&h->job, i, err, text, sizeof(text));
		fprintf(stderr, "collx-run: %s\n", text);
		end_job(h, status, SIGTERM);
	}
}

/* Of ranks that are found failed at once, one that a signal killed is the likelier cause. */
static void note_end(struct run_job *job, int rank, const siginfo_t *end)
{
	struct here *h = (struct here *)job;

	if (h->opts->keep_going && !job->ending)
		run_toll_take(&h->toll, rank, end, NULL);
	if (h->opts->keep_going || run_end_is_good(end))
		return;
	if (h->failed >= 0 && (h->how.si_code != CLD_EXITED || end->si_code == CLD_EXITED))
		return;
	h->failed = rank;
	h->how = *end;
}

static void reap(struct here *h)
{
	char text[sizeof(h->cause) - 16];

	h->failed = -1;
	run_ranks_reap(&h->job);
	if (h->failed < 0 || h->job.ending)
		return;
	run_end_text(text, sizeof(text), h->failed, &h->how);
	snprintf(h->cause, sizeof(h->cause), "collx-run: %s\n", text);
	end_job(h, run_end_status(&h->how), SIGTERM);
}

static void deadline_passed(struct here *h)
{
	if (!h->job.ending) {
		snprintf(h->cause, sizeof(h->cause),
			 "collx-run: %g s have passed: ending %d of %d ranks\n",
			 h->opts->timeout_s, h->job.alive, h->job.count);
		end_job(h, RUN_EXIT_TIMEOUT, SIGTERM);
		return;
	}
	run_ranks_signal(&h->job, SIGKILL);
	h->job.deadline_ms = -1;
}

/* To all but the output; it neither waits nor writes, as the output may call it. */
static void attend(struct here *h)
{
	int sig;

	while ((sig = run_signals_next(h->job.signals))) {
		if (sig == SIGCHLD)
			reap(h);
		else
			end_job(h, 128 + sig, sig);
	}
	if (h->job.deadline_ms >= 0 && run_now_ms() >= h->job.deadline_ms)
		deadline_passed(h);
}

static void watch_ranks(struct here *h)
{
	struct run_rank *ranks = h->job.ranks;
	int i, n = h->job.count;

	h->polls[0] = (struct pollfd){ .fd = h->job.signals, .events = POLLIN };
	for (i = 0; i < n; i++) {
		h->polls[1 + 2 * i] = (struct pollfd){ ranks[i].out.fd, POLLIN, 0 };
		h->polls[2 + 2 * i] = (struct pollfd){ ranks[i].err.fd, POLLIN, 0 };
	}
	if (poll(h->polls, h->job.piped ? 1 + 2 * (nfds_t)n : 1,
		 run_wait_ms(h->job.deadline_ms)) < 0) {
		if (errno == EINTR)
			return;
		run_complain("poll");
		end_job(h, 1, SIGKILL);
	}
	for (i = 0; i < n; i++) {
		if (h->polls[1 + 2 * i].revents)
			run_stream_pump(&h->job, &ranks[i].out, i);
		if (h->polls[2 + 2 * i].revents)
			run_stream_pump(&h->job, &ranks[i].err, i);
	}
	attend(h);
	say_cause(h);
}

static void keep(struct here *h)
{
	int i;

	while (h->job.alive)
		watch_ranks(h);
	run_strays_kill();
	for (i = 0; i < h->job.count; i++) {
		run_stream_drain(&h->job, &h->job.ranks[i].out, i);
		run_stream_drain(&h->job, &h->job.ranks[i].err, i);
	}
	write_all(h, &h->to[1], h->cause, strlen(h->cause));
	write_all(h, &h->to[1], h->toll.lines.data, h->toll.lines.len);
	run_buffer_free(&h->toll.lines);
	if (h->opts->keep_going && !h->job.ending)
		h->status = run_toll_status(&h->toll);
}

static int prepare(struct here *h)
{
	char secret[RUN_SECRET_CHARS + 1];
	int rc;

	h->to[0] = run_output_open(STDOUT_FILENO);
	h->to[1] = run_output_open(STDERR_FILENO);
	h->polls = calloc(2 * (size_t)h->job.count + 1, sizeof(*h->polls));
	if (run_ranks_init(&h->job) || !h->polls || run_secret_make(secret))
		return -1;
	rc = run_secret_open(&h->job, secret);
	explicit_bzero(secret, sizeof(secret));
	return rc ? rc : run_folder_make(&h->job);
}

int run_here(const struct run_options *opts)
{
	struct here h = { .opts = opts,
			  .job = { .size = opts->ranks, .count = opts->ranks,
				   .piped = opts->prefix, .feeds = true, .line_max = 1 << 20,
				   .cmd = opts->cmd, .line = write_line, .ended = note_end } };

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (prepare(&h))
		return 1;
	if (opts->timeout_s > 0)
		h.job.deadline_ms = run_now_ms() + (int64_t)(opts->timeout_s * 1000);
	start_all(&h);
	close(h.job.secret);
	h.job.secret = -1;
	keep(&h);
	run_folder_remove(&h.job);
	run_ranks_fini(&h.job);
	free(h.polls);
	return h.status;
}
