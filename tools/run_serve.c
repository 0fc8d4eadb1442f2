/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The serving side of a host. Its standard input tells it the job, its standard output
 * reports; both are a link to a launcher, through an agent. A job is strings, each with
 * a final 0: ranks of the job, first rank and number of ranks here, the place to meet
 * (see below), the secret, the working directory, the number of words of the command,
 * those words, the environment.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "run.h"

struct serve {
	struct run_job job; /* first: its functions get a pointer to it */
	struct run_link link;
	struct pollfd *polls;
	long credit; /* bytes of output that the launcher still takes */
	int held;    /* keeps the port of the meeting ours; or -1 */
	bool deaf[2]; /* nobody reads that output */
	bool started;
	bool refused;
};

static void refuse(struct serve *s, int status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void refuse(struct serve *s, int status, const char *fmt, ...)
{
	char why[RUN_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	s->refused = true;
	run_link_put(&s->link, RUN_FRAME_REFUSED, status, why, strlen(why));
}

/* ---- reports ---- */

static bool report_line(struct run_job *job, const struct run_stream *stream, int rank,
			const char *line, size_t len)
{
	struct serve *s = (struct serve *)job;

	run_link_put(&s->link, stream->which == 1 ? RUN_FRAME_OUT : RUN_FRAME_ERR,
		     job->first + rank, line, len);
	s->credit -= (long)len;
	return s->link.out >= 0 && !s->deaf[stream->which - 1];
}

static void report_end(struct run_job *job, int rank, const siginfo_t *end)
{
	struct serve *s = (struct serve *)job;
	char text[64];
	int n = snprintf(text, sizeof(text), "%d %d %d", (int)end->si_pid, end->si_code,
			 end->si_status);

	run_link_put(&s->link, RUN_FRAME_ENDED, rank, text, (size_t)n);
}

/* ---- the job ---- */

struct strings {
	const char *at, *end;
};

/* The next one, or NULL when there is none. */
static const char *next_string(struct strings *t)
{
	const char *s = t->at;
	const char *zero = s < t->end ? memchr(s, 0, (size_t)(t->end - s)) : NULL;

	if (!zero)
		return NULL;
	t->at = zero + 1;
	return s;
}

/* -1 where it is none from lo to hi. */
static int next_number(struct strings *t, int lo, int hi)
{
	const char *s = next_string(t);
	char *end;
	long n;

	if (!s)
		return -1;
	n = strtol(s, &end, 10);
	return end == s || *end || n < lo || n > hi ? -1 : (int)n;
}

static int read_command(struct run_job *job, struct strings *t)
{
	int n = next_number(t, 1, RUN_FRAME_MAX), i;
	const char *word;

	if (n < 0)
		return -1;
	job->cmd = calloc((size_t)n + 1, sizeof(*job->cmd));
	for (i = 0; job->cmd && i < n && (word = next_string(t)); i++)
		job->cmd[i] = strdup(word);
	return job->cmd && i == n && job->cmd[n - 1] ? 0 : -1;
}

/* Over this process's own. */
static void read_environment(struct strings *t)
{
	char *entry, *equals;
	const char *s;

	while ((s = next_string(t))) {
		entry = strdup(s);
		equals = entry ? strchr(entry, '=') : NULL;
		if (equals && equals != entry) {
			*equals = '\0';
			setenv(entry, equals + 1, 1);
		}
		free(entry);
	}
}

/* "choose": an address of this host; "folder": all ranks are of this host and meet in a
 * folder of it; else it will be told. */
static int prepare_place(struct serve *s, const char *place)
{
	char why[RUN_TEXT_MAX];

	if (!strcmp(place, "folder") && run_folder_make(&s->job)) {
		refuse(s, 1, "no folder for the ranks to meet in");
		return -1;
	}
	if (!strcmp(place, "told"))
		run_addr_forget_first();
	if (strcmp(place, "choose"))
		return 0;
	s->held = run_addr_choose(s->job.addr, why);
	if (s->held < 0)
		refuse(s, 1, "%s", why);
	return s->held < 0 ? -1 : 0;
}

static int prepare(struct serve *s, const char *place, const char *secret, const char *folder)
{
	struct run_job *job = &s->job;

	if (chdir(folder)) {
		refuse(s, 1, "%s: %s", folder, strerror(errno));
		return -1;
	}
	s->polls = calloc(2 * (size_t)job->count + 3, sizeof(*s->polls));
	if (!s->polls || run_ranks_init(job) || run_secret_open(job, secret)) {
		refuse(s, 1, "the job cannot be prepared: %s", strerror(errno));
		return -1;
	}
	return prepare_place(s, place);
}

static void take_job(struct serve *s, const struct run_frame *f)
{
	struct strings t = { f->body, f->body + f->len };
	const char *place, *secret, *folder;
	struct run_job *job = &s->job;

	job->size = next_number(&t, 1, RUN_RANKS_MAX);
	job->first = next_number(&t, 0, job->size - 1);
	job->count = next_number(&t, 1, job->size - job->first);
	place = next_string(&t);
	secret = next_string(&t);
	folder = next_string(&t);
	if (job->size < 0 || job->first < 0 || job->count < 0 || !place || !secret || !folder ||
	    strlen(secret) != RUN_SECRET_CHARS || read_command(job, &t)) {
		refuse(s, 1, "the job is damaged");
		return;
	}
	read_environment(&t);
	if (!prepare(s, place, secret, folder))
		run_link_put(&s->link, RUN_FRAME_READY, 0, job->addr, strlen(job->addr));
}

/* ---- at work ---- */

static void start(struct serve *s, const struct run_frame *f)
{
	struct run_job *job = &s->job;
	char text[RUN_TEXT_MAX];
	int i, err, status;

	s->started = true;
	if (f->len >= sizeof(job->addr)) {
		refuse(s, 1, "the place to meet is too long");
		return;
	}
	memcpy(job->addr, f->body, f->len);
	job->addr[f->len] = '\0';
	for (i = 0; i < job->count; i++) {
		err = run_ranks_start(job, i);
		if (!err)
			continue;
		status = run_start_error(job, i, err, text, sizeof(text));
		refuse(s, status, "%s", text);
		run_ranks_end(job, SIGTERM);
		break;
	}
	close(job->secret);
	job->secret = -1;
}

static void go_deaf(struct serve *s, int which)
{
	if (which != 1 && which != 2)
		return;
	s->deaf[which - 1] = true;
	for (int i = 0; i < s->job.count; i++)
		run_stream_close(which == 1 ? &s->job.ranks[i].out : &s->job.ranks[i].err);
}

/* Without ranks the end is a refusal to start any. */
static void end(struct serve *s, int sig)
{
	if (s->job.ranks)
		run_ranks_end(&s->job, sig);
	if (!s->started)
		s->refused = true;
}

static void take_frame(struct serve *s, const struct run_frame *f)
{
	bool ready = s->job.ranks && !s->refused;

	if (f->kind == RUN_FRAME_JOB && !s->job.size)
		take_job(s, f);
	else if (f->kind == RUN_FRAME_START && ready && !s->started)
		start(s, f);
	else if (f->kind == RUN_FRAME_ACK)
		s->credit += f->arg;
	else if (f->kind == RUN_FRAME_DEAF && ready)
		go_deaf(s, f->arg);
	else if (f->kind == RUN_FRAME_END && f->arg > 0 && f->arg < NSIG)
		end(s, f->arg);
	else
		refuse(s, 1, "a frame of kind %d is out of place", (int)f->kind);
}

/* Whoever launched us is gone when the link ends. */
static void attend(struct serve *s)
{
	struct run_frame f;
	int sig, rc = 0;

	while (s->job.signals >= 0 && (sig = run_signals_next(s->job.signals))) {
		if (sig == SIGCHLD)
			run_ranks_reap(&s->job);
		else
			end(s, sig);
	}
	if (s->link.in >= 0)
		run_link_read(&s->link);
	while ((rc = run_link_next(&s->link, &f)) > 0)
		take_frame(s, &f);
	if (rc < 0)
		run_link_close(&s->link);
	if (s->link.in < 0 || !run_link_write(&s->link))
		end(s, SIGTERM);
	if (s->job.deadline_ms >= 0 && run_now_ms() >= s->job.deadline_ms) {
		run_ranks_signal(&s->job, SIGKILL);
		s->job.deadline_ms = -1;
	}
}

/* Streams are left unread while the launcher has enough to do. */
static void watch(struct serve *s)
{
	struct run_rank *ranks = s->job.ranks;
	int i, n = s->job.count;
	size_t unsent = s->link.to.len - s->link.to.at;

	s->polls[0] = (struct pollfd){ s->job.signals, POLLIN, 0 };
	s->polls[1] = (struct pollfd){ s->link.in, POLLIN, 0 };
	s->polls[2] = (struct pollfd){ unsent ? s->link.out : -1, POLLOUT, 0 };
	for (i = 0; i < n; i++) {
		s->polls[3 + 2 * i] = (struct pollfd){ ranks[i].out.fd, POLLIN, 0 };
		s->polls[4 + 2 * i] = (struct pollfd){ ranks[i].err.fd, POLLIN, 0 };
	}
	if (poll(s->polls, s->credit > 0 ? 3 + 2 * (nfds_t)n : 3,
		 run_wait_ms(s->job.deadline_ms)) < 0)
		return;
	for (i = 0; i < n && s->credit > 0; i++) {
		if (s->polls[3 + 2 * i].revents)
			run_stream_pump(&s->job, &ranks[i].out, i);
		if (s->polls[4 + 2 * i].revents)
			run_stream_pump(&s->job, &ranks[i].err, i);
	}
}

static void work(struct serve *s)
{
	while (s->job.alive || (!s->started && !s->refused)) {
		watch(s);
		attend(s);
	}
	run_strays_kill();
	for (int i = 0; i < s->job.count; i++) {
		run_stream_drain(&s->job, &s->job.ranks[i].out, i);
		run_stream_drain(&s->job, &s->job.ranks[i].err, i);
	}
}

/* Before there is a job, only the link has something to say. */
static void wait_for_job(struct serve *s)
{
	struct pollfd p = { .fd = s->link.in, .events = POLLIN };

	while (!s->job.ranks && !s->refused) {
		poll(&p, 1, -1);
		attend(s);
	}
	run_buffer_free(&s->link.from); /* the secret was in it */
}

/* The last words; not for a launcher that is gone, or never reads again. */
static void say_all(struct serve *s)
{
	struct pollfd polls[2];

	while (run_link_write(&s->link) && s->link.to.at < s->link.to.len && s->link.in >= 0) {
		polls[0] = (struct pollfd){ s->link.out, POLLOUT, 0 };
		polls[1] = (struct pollfd){ s->link.in, POLLIN, 0 };
		if (poll(polls, 2, -1) > 0 && polls[1].revents)
			run_link_read(&s->link);
		run_buffer_take(&s->link.from, s->link.from.len - s->link.from.at);
	}
}

static void forget(struct serve *s)
{
	run_folder_remove(&s->job);
	if (s->job.ranks)
		run_ranks_fini(&s->job);
	for (char **word = s->job.cmd; word && *word; word++)
		free(*word);
	free(s->job.cmd);
	free(s->polls);
	if (s->held >= 0)
		close(s->held);
	run_link_close(&s->link);
}

int run_serve(void)
{
	struct serve s = { .link = { .in = STDIN_FILENO, .out = STDOUT_FILENO },
			   .credit = RUN_CREDIT, .held = -1,
			   .job = { .piped = true, .line_max = RUN_LINE_MAX, .signals = -1,
				    .deadline_ms = -1, .line = report_line,
				    .ended = report_end } };

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	signal(SIGPIPE, SIG_IGN);
	fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
	fcntl(STDOUT_FILENO, F_SETFL, O_NONBLOCK);
	run_buffer_add(&s.link.to, run_link_mark, strlen(run_link_mark));
	wait_for_job(&s);
	if (s.polls && s.job.ranks && s.job.signals >= 0)
		work(&s);
	run_link_put(&s.link, RUN_FRAME_DONE, 0, NULL, 0);
	say_all(&s);
	forget(&s);
	return 0;
}
