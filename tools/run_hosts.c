/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The launcher: ranks of several hosts. It never waits for one side alone: links and
 * outputs are buffered, and what a host may have under way is bounded by what it was
 * told that this side has written (RUN_CREDIT), so that the end of a rank is heard of
 * also while nobody reads the output.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run.h"

enum {
	ANSWER_MS = 60000, /* for all hosts to be prepared */
	LATE_MS = 3000,    /* beyond the grace, for the word that nothing runs any more */
	LEAVE_MS = 2000,   /* for an agent to go when its link has ended */
	SETTLE_MS = 250,   /* in which a better cause than an exit may still come */
	WRITES_MAX = 64
};

/* A rank that a signal killed, or a host that is lost, makes others fail and not the
 * other way round; but their word may come first. */
enum weight { WEIGHT_EXIT = 1, WEIGHT_LOSS, WEIGHT_LAST };

struct outlet {
	int fd; /* -1: nobody reads it */
	struct run_buffer pending;
};

struct launch {
	const struct run_options *opts;
	struct run_host *hosts;
	int n;
	int signals;
	struct pollfd *polls; /* signals, 2 outlets, 2 a host */
	struct outlet outlets[2];
	char addr[RUN_ADDR_BYTES];
	bool started, ending;
	int status; /* exit status so far */
	struct run_toll toll; /* with --keep-going */
	int sig;    /* what the ranks were sent */
	char cause[RUN_TEXT_MAX]; /* until it is said */
	enum weight weight;
	int64_t answer_ms, timeout_ms, kill_ms, settle_ms; /* deadlines; -1: none */
};

/* ---- the end and its cause ---- */

static void say(struct launch *l, const char *text)
{
	struct run_buffer *b = &l->outlets[1].pending;

	run_buffer_add(b, "collx-run: ", strlen("collx-run: "));
	run_buffer_add(b, text, strlen(text));
	run_buffer_add(b, "\n", 1);
}

static void say_cause(struct launch *l)
{
	if (l->cause[0])
		say(l, l->cause);
	l->cause[0] = '\0';
	l->settle_ms = -1;
	l->weight = WEIGHT_LAST;
}

static void end_all(struct launch *l, int sig)
{
	l->ending = true;
	l->sig = sig;
	l->answer_ms = l->timeout_ms = -1;
	l->kill_ms = run_now_ms() + RUN_GRACE_MS + LATE_MS;
	for (int i = 0; i < l->n; i++) {
		struct run_host *h = &l->hosts[i];

		if (h->marked) {
			run_link_put(&h->link, RUN_FRAME_END, sig, NULL, 0);
		} else if (h->agent) { /* it has nothing to end */
			run_link_close(&h->link);
			kill(-h->agent, SIGTERM);
		}
	}
}

static void blame(struct launch *l, enum weight weight, int status, int sig, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* Ends the job. The first cause decides, or one of more weight that comes soon after. */
static void blame(struct launch *l, enum weight weight, int status, int sig, const char *fmt, ...)
{
	va_list ap;

	if (l->ending && weight <= l->weight)
		return;
	va_start(ap, fmt);
	vsnprintf(l->cause, sizeof(l->cause), fmt, ap);
	va_end(ap);
	l->status = status;
	l->weight = weight;
	if (!l->ending)
		end_all(l, sig);
	if (weight == WEIGHT_EXIT)
		l->settle_ms = run_now_ms() + SETTLE_MS;
	else
		say_cause(l);
}

static void list_hosts(const struct launch *l, bool (*which)(const struct run_host *), char *text,
		       size_t len)
{
	size_t at = 0;

	text[0] = '\0';
	for (int i = 0; i < l->n && at + 80 < len; i++)
		if (which(&l->hosts[i]))
			at += (size_t)snprintf(text + at, len - at, "%s%.60s", at ? ", " : "",
					       l->hosts[i].share->name);
}

static bool is_unready(const struct run_host *h)
{
	return !h->ready;
}

static bool is_left(const struct run_host *h)
{
	return h->agent && h->marked && !h->done;
}

static int count_alive(const struct launch *l)
{
	int alive = 0;

	for (int i = 0; i < l->n; i++)
		alive += l->hosts[i].alive;
	return alive;
}

static void time_is_over(struct launch *l)
{
	char hosts[RUN_TEXT_MAX - 128];

	list_hosts(l, is_unready, hosts, sizeof(hosts));
	if (l->started)
		blame(l, WEIGHT_LAST, RUN_EXIT_TIMEOUT, SIGTERM,
		      "%g s have passed: ending %d of %d ranks", l->opts->timeout_s,
		      count_alive(l), l->opts->ranks);
	else
		blame(l, WEIGHT_LAST, l->answer_ms < 0 ? RUN_EXIT_TIMEOUT : 1, SIGTERM,
		      "no answer in time from %s", hosts);
}

static void give_up(struct launch *l)
{
	char hosts[RUN_TEXT_MAX - 128], text[RUN_TEXT_MAX];

	list_hosts(l, is_left, hosts, sizeof(hosts));
	snprintf(text, sizeof(text), "no word that all ended: ranks may be left at %s", hosts);
	if (hosts[0])
		say(l, text);
	for (int i = 0; i < l->n; i++) {
		run_link_close(&l->hosts[i].link);
		if (l->hosts[i].agent)
			kill(-l->hosts[i].agent, SIGKILL);
	}
}

static bool passed(int64_t *deadline_ms, int64_t now)
{
	if (*deadline_ms < 0 || now < *deadline_ms)
		return false;
	*deadline_ms = -1;
	return true;
}

static void look_at_time(struct launch *l)
{
	int64_t now = run_now_ms();

	if (passed(&l->settle_ms, now))
		say_cause(l);
	if (l->answer_ms >= 0 && now >= l->answer_ms)
		time_is_over(l);
	if (passed(&l->timeout_ms, now)) {
		l->answer_ms = -1;
		time_is_over(l);
	}
	if (passed(&l->kill_ms, now))
		give_up(l);
	for (int i = 0; i < l->n; i++)
		if (passed(&l->hosts[i].patience_ms, now) && l->hosts[i].agent)
			kill(-l->hosts[i].agent, SIGKILL);
}

/* ---- what hosts say ---- */

static void start_ranks(struct launch *l)
{
	for (int i = 0; i < l->n; i++)
		if (!l->hosts[i].ready)
			return;
	l->started = true;
	l->answer_ms = -1;
	for (int i = 0; i < l->n; i++)
		run_link_put(&l->hosts[i].link, RUN_FRAME_START, 0, l->addr, strlen(l->addr));
}

static void take_ready(struct launch *l, struct run_host *h, const struct run_frame *f)
{
	h->ready = true;
	if (!l->addr[0] && f->len < sizeof(l->addr)) {
		memcpy(l->addr, f->body, f->len);
		l->addr[f->len] = '\0';
	}
	if (!l->started && !l->ending)
		start_ranks(l);
}

static void take_end(struct launch *l, struct run_host *h, const struct run_frame *f)
{
	siginfo_t end = { .si_pid = 0 };
	char body[64], text[RUN_TEXT_MAX - 128];
	int pid;

	snprintf(body, sizeof(body), "%.*s", (int)f->len, f->body);
	if (sscanf(body, "%d %d %d", &pid, &end.si_code, &end.si_status) != 3)
		return;
	end.si_pid = pid;
	h->alive--;
	if (l->opts->keep_going && !l->ending)
		run_toll_take(&l->toll, f->arg, &end, h->share->name);
	if (l->opts->keep_going || run_end_is_good(&end))
		return;
	run_end_text(text, sizeof(text), f->arg, &end);
	if (end.si_code == CLD_EXITED)
		blame(l, WEIGHT_EXIT, run_end_status(&end), SIGTERM, "%s on host %s", text,
		      h->share->name);
	else if (!l->ending || end.si_status != l->sig)
		blame(l, WEIGHT_LOSS, run_end_status(&end), SIGTERM, "%s on host %s", text,
		      h->share->name);
}

static void take_line(struct launch *l, struct run_host *h, const struct run_frame *f)
{
	struct outlet *o = &l->outlets[f->kind == RUN_FRAME_ERR];
	char prefix[16];
	int n = snprintf(prefix, sizeof(prefix), "[%d] ", f->arg);

	h->unacked += (long)f->len;
	if (o->fd < 0)
		return;
	if (l->opts->prefix)
		run_buffer_add(&o->pending, prefix, (size_t)n);
	run_buffer_add(&o->pending, f->body, f->len);
	if (l->opts->prefix && f->len && f->body[f->len - 1] != '\n')
		run_buffer_add(&o->pending, "\n", 1);
}

static void take_frame(struct launch *l, struct run_host *h, const struct run_frame *f)
{
	switch (f->kind) {
	case RUN_FRAME_READY:
		take_ready(l, h, f);
		break;
	case RUN_FRAME_REFUSED:
		blame(l, WEIGHT_LOSS, f->arg, SIGTERM, "host %s: %.*s", h->share->name,
		      (int)f->len, f->body);
		break;
	case RUN_FRAME_OUT:
	case RUN_FRAME_ERR:
		take_line(l, h, f);
		break;
	case RUN_FRAME_ENDED:
		take_end(l, h, f);
		break;
	case RUN_FRAME_DONE:
		h->done = true;
		run_link_close(&h->link);
		h->patience_ms = run_now_ms() + LEAVE_MS;
		break;
	default:
		blame(l, WEIGHT_LOSS, 1, SIGTERM, "host %s: a frame of kind %d is out of place",
		      h->share->name, (int)f->kind);
	}
}

/* Did something come? */
static bool hear(struct launch *l, struct run_host *h)
{
	long n = run_link_read(&h->link);
	struct run_frame f;
	int rc = 0;

	if (n < 0 && h->patience_ms < 0)
		h->patience_ms = run_now_ms() + LEAVE_MS;
	if (!h->marked)
		rc = run_agent_find_mark(h, &l->outlets[1].pending);
	while (!rc && h->marked && (rc = run_link_next(&h->link, &f)) > 0) {
		take_frame(l, h, &f);
		rc = 0;
	}
	if (rc >= 0)
		return n > 0;
	blame(l, WEIGHT_LOSS, 1, SIGTERM, "host %s: what comes from it is not collx-run's",
	      h->share->name);
	run_link_close(&h->link);
	h->patience_ms = run_now_ms() + LEAVE_MS;
	return false;
}

/* ---- agents ---- */

static void start_agents(struct launch *l)
{
	char secret[RUN_SECRET_CHARS + 1], why[RUN_TEXT_MAX];
	const char *place = l->addr[0] ? "given" : l->n == 1 ? "folder" : "choose";
	int status;

	if (run_secret_make(secret)) {
		blame(l, WEIGHT_LAST, 1, SIGTERM, "there is no secret for the job");
		return;
	}
	for (int i = 0; i < l->n && !l->ending; i++) {
		struct run_host *h = &l->hosts[i];

		status = run_agent_start(h, l->opts, why);
		if (status)
			blame(l, WEIGHT_LAST, status, SIGTERM, "host %s: %.300s", h->share->name,
			      why);
		else
			run_agent_send_job(h, l->opts, i ? "told" : place, secret);
	}
	explicit_bzero(secret, sizeof(secret));
}

/* What came before a mark that never came is most likely why. */
static void show_chatter(struct launch *l, struct run_host *h)
{
	struct run_buffer *from = &h->link.from, *to = &l->outlets[1].pending;

	run_buffer_add(to, from->data + from->at, from->len - from->at);
	if (from->len > from->at && from->data[from->len - 1] != '\n')
		run_buffer_add(to, "\n", 1);
}

/* Its ranks end as soon as they hear of it; with --keep-going the others go on. */
static void lose(struct launch *l, const char *text)
{
	if (l->opts->keep_going && l->started && !l->ending)
		run_toll_miss(&l->toll, text);
	else
		blame(l, WEIGHT_LOSS, 1, SIGTERM, "%s", text);
}

static void agent_ended(struct launch *l, struct run_host *h, int status)
{
	char text[RUN_TEXT_MAX];
	const char *when = h->marked ? "before its ranks had ended" : "before it served";
	const char *hint = WIFEXITED(status) && WEXITSTATUS(status) == 127 && !h->marked
				   ? ": is collx-run there, under the same path?"
				   : "";

	while (hear(l, h)) /* what it still said */
		;
	if (!h->marked && !l->ending)
		show_chatter(l, h);
	snprintf(text, sizeof(text), "host %.80s: its agent (pid %d) %s %d %s%s", h->share->name,
		 (int)h->agent, WIFEXITED(status) ? "exited with status" : "was killed by signal",
		 WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), when, hint);
	if (!h->done)
		lose(l, text);
	h->agent = 0;
	h->patience_ms = -1;
	run_link_close(&h->link);
}

static void reap(struct launch *l)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (int i = 0; i < l->n; i++)
			if (l->hosts[i].agent == pid)
				agent_ended(l, &l->hosts[i], status);
}

static void take_signals(struct launch *l)
{
	int sig;

	while ((sig = run_signals_next(l->signals))) {
		if (sig == SIGCHLD) {
			reap(l);
		} else if (!l->ending) {
			l->status = 128 + sig;
			l->weight = WEIGHT_LAST;
			end_all(l, sig);
		}
	}
}

/* ---- outputs ---- */

/* Nobody reads it: the ranks are to hear of it as well. */
static void go_deaf(struct launch *l, int i)
{
	l->outlets[i].fd = -1;
	run_buffer_free(&l->outlets[i].pending);
	for (int k = 0; k < l->n; k++)
		run_link_put(&l->hosts[k].link, RUN_FRAME_DEAF, i + 1, NULL, 0);
}

/* PIPE_BUF: no more is sure to find room in a shared pipe. */
static void write_outlet(struct launch *l, int i)
{
	struct outlet *o = &l->outlets[i];
	struct run_buffer *b = &o->pending;

	for (int k = 0; k < WRITES_MAX && o->fd >= 0 && b->at < b->len; k++) {
		struct pollfd p = { o->fd, POLLOUT, 0 };
		size_t left = b->len - b->at;
		ssize_t n;

		if (poll(&p, 1, 0) <= 0)
			return;
		n = write(o->fd, b->data + b->at, left < PIPE_BUF ? left : PIPE_BUF);
		if (n >= 0)
			run_buffer_take(b, (size_t)n);
		else if (errno != EINTR && errno != EAGAIN)
			go_deaf(l, i);
	}
}

static bool is_written(const struct outlet *o)
{
	return o->fd < 0 || o->pending.at == o->pending.len;
}

static void acknowledge(struct launch *l)
{
	if (!is_written(&l->outlets[0]) || !is_written(&l->outlets[1]))
		return;
	for (int i = 0; i < l->n; i++) {
		struct run_host *h = &l->hosts[i];

		if (h->unacked)
			run_link_put(&h->link, RUN_FRAME_ACK, (int)h->unacked, NULL, 0);
		h->unacked = 0;
	}
}

/* When all is over; of a failed job, a reader that pauses does not see the rest. */
static void write_rest(struct launch *l)
{
	struct pollfd polls[3] = { { l->signals, POLLIN, 0 } };

	while (!is_written(&l->outlets[0]) || !is_written(&l->outlets[1])) {
		for (int i = 0; i < 2; i++)
			polls[i + 1] = (struct pollfd){ is_written(&l->outlets[i]) ? -1 :
					l->outlets[i].fd, POLLOUT, 0 };
		if (poll(polls, 3, l->ending ? RUN_UNREAD_MS : -1) <= 0 && l->ending)
			return;
		take_signals(l);
		write_outlet(l, 0);
		write_outlet(l, 1);
	}
}

/* ---- the loop ---- */

static void sooner(int64_t *deadline_ms, int64_t other_ms)
{
	if (other_ms >= 0 && (*deadline_ms < 0 || other_ms < *deadline_ms))
		*deadline_ms = other_ms;
}

static int64_t next_deadline(const struct launch *l)
{
	int64_t next = -1;

	sooner(&next, l->answer_ms);
	sooner(&next, l->timeout_ms);
	sooner(&next, l->kill_ms);
	sooner(&next, l->settle_ms);
	for (int i = 0; i < l->n; i++)
		sooner(&next, l->hosts[i].patience_ms);
	return next;
}

static int poll_all(struct launch *l)
{
	l->polls[0] = (struct pollfd){ l->signals, POLLIN, 0 };
	for (int i = 0; i < 2; i++)
		l->polls[1 + i] = (struct pollfd){ is_written(&l->outlets[i]) ? -1 :
				l->outlets[i].fd, POLLOUT, 0 };
	for (int i = 0; i < l->n; i++) {
		const struct run_link *k = &l->hosts[i].link;

		l->polls[3 + 2 * i] = (struct pollfd){ k->in, POLLIN, 0 };
		l->polls[4 + 2 * i] = (struct pollfd){ k->to.at < k->to.len ? k->out : -1,
						       POLLOUT, 0 };
	}
	return poll(l->polls, 3 + 2 * (nfds_t)l->n, run_wait_ms(next_deadline(l)));
}

static void work_once(struct launch *l)
{
	if (poll_all(l) < 0 && errno != EINTR)
		blame(l, WEIGHT_LAST, 1, SIGTERM, "poll: %s", strerror(errno));
	for (int i = 0; i < l->n; i++)
		if (l->polls[3 + 2 * i].revents)
			hear(l, &l->hosts[i]);
	take_signals(l);
	write_outlet(l, 0);
	write_outlet(l, 1);
	acknowledge(l);
	for (int i = 0; i < l->n; i++)
		run_link_write(&l->hosts[i].link);
	look_at_time(l);
}

static bool is_over(const struct launch *l)
{
	for (int i = 0; i < l->n; i++)
		if (l->hosts[i].agent)
			return false;
	return true;
}

static int prepare(struct launch *l)
{
	l->hosts = calloc((size_t)l->n, sizeof(*l->hosts));
	l->polls = calloc(2 * (size_t)l->n + 3, sizeof(*l->polls));
	l->signals = run_signals_open();
	if (!l->hosts || !l->polls || l->signals < 0)
		return run_complain("preparing");
	for (int i = 0; i < l->n; i++)
		l->hosts[i] = (struct run_host){ .share = &l->opts->shares[i],
						 .link = { .in = -1, .out = -1 },
						 .alive = l->opts->shares[i].count,
						 .patience_ms = -1 };
	if (l->opts->addr)
		snprintf(l->addr, sizeof(l->addr), "%s", l->opts->addr);
	l->outlets[0].fd = run_output_open(STDOUT_FILENO);
	l->outlets[1].fd = run_output_open(STDERR_FILENO);
	l->answer_ms = run_now_ms() + ANSWER_MS;
	if (l->opts->timeout_s > 0)
		l->timeout_ms = run_now_ms() + (int64_t)(l->opts->timeout_s * 1000);
	return 0;
}

int run_hosts(const struct run_options *opts)
{
	struct launch l = { .opts = opts, .n = opts->nshares, .answer_ms = -1, .timeout_ms = -1,
			    .kill_ms = -1, .settle_ms = -1 };

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	while (open("/dev/null", O_RDWR | O_CLOEXEC) <= STDERR_FILENO)
		; /* pipes are not to get the numbers of what was closed */
	if (prepare(&l))
		return 1;
	start_agents(&l);
	while (!is_over(&l))
		work_once(&l);
	run_strays_kill();
	say_cause(&l);
	run_buffer_add(&l.outlets[1].pending, l.toll.lines.data, l.toll.lines.len);
	run_buffer_free(&l.toll.lines);
	if (opts->keep_going && !l.ending)
		l.status = run_toll_status(&l.toll);
	write_rest(&l);
	for (int i = 0; i < l.n; i++)
		run_link_close(&l.hosts[i].link);
	run_buffer_free(&l.outlets[0].pending);
	run_buffer_free(&l.outlets[1].pending);
	free(l.hosts);
	free(l.polls);
	return l.status;
}
