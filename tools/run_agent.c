/* SPDX-License-Identifier: BSD-3-Clause */
/* Agents: the commands that reach another host and start the serving side there. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run.h"

enum { WORDS_MAX = 32, CHATTER_MAX = 1 << 16 };

extern char **environ;

/* ---- the start ---- */

/* This program, under the name that it has here. */
static int own_path(char path[RUN_TEXT_MAX], char why[RUN_TEXT_MAX])
{
	ssize_t n = readlink("/proc/self/exe", path, RUN_TEXT_MAX - 1);

	if (n < 0) {
		snprintf(why, RUN_TEXT_MAX, "/proc/self/exe: %s", strerror(errno));
		return -1;
	}
	path[n] = '\0';
	for (const char *c = path; *c; c++) {
		if (isalnum((unsigned char)*c) || strchr("/._-+,@", *c))
			continue;
		snprintf(why, RUN_TEXT_MAX, "%.400s: a shell would not leave this path as it is",
			 path);
		return -1;
	}
	return 0;
}

/* The agent's words, the host, and what to start there. */
static int split_words(char *agent, char *host, char *self, char *words[WORDS_MAX])
{
	static char serve[] = "--serve";
	int n = 0;
	char *word;

	while ((word = strsep(&agent, " \t")))
		if (*word && n < WORDS_MAX - 4)
			words[n++] = word;
	words[n] = host;
	words[n + 1] = self;
	words[n + 2] = serve;
	words[n + 3] = NULL;
	return n;
}

/* In the child: without a terminal, which several agents would ask for passwords. */
static void become_agent(char **words, const int in[2], const int out[2], int report)
{
	sigset_t none;
	int err;

	setsid();
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	dup2(in[0], STDIN_FILENO);
	dup2(out[1], STDOUT_FILENO);
	execvp(words[0], words);
	err = errno;
	if (write(report, &err, sizeof(err)) < 0)
		_exit(RUN_EXIT_NOCMD);
	_exit(RUN_EXIT_NOCMD);
}

static void close_pair(const int ends[2])
{
	close(ends[0]);
	close(ends[1]);
}

/* 0, or errno of what went wrong. */
static int spawn(struct run_host *h, char **words)
{
	int in[2] = { -1, -1 }, out[2] = { -1, -1 }, report[2] = { -1, -1 }, err = 0;

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(report, O_CLOEXEC))
		err = errno;
	if (!err) {
		h->agent = fork();
		if (h->agent == 0)
			become_agent(words, in, out, report[1]);
		err = h->agent < 0 ? errno : 0;
	}
	close(report[1]);
	if (!err && read(report[0], &err, sizeof(err)) != sizeof(err))
		err = 0;
	close(report[0]);
	if (h->agent <= 0 || err) {
		h->agent = h->agent < 0 ? 0 : h->agent;
		close_pair(in);
		close_pair(out);
		return err;
	}
	close(in[0]);
	close(out[1]);
	fcntl(in[1], F_SETFL, O_NONBLOCK);
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	h->link.out = in[1];
	h->link.in = out[0];
	return 0;
}

int run_agent_start(struct run_host *h, const struct run_options *opts, char why[RUN_TEXT_MAX])
{
	char agent[RUN_TEXT_MAX], path[RUN_TEXT_MAX], *words[WORDS_MAX];
	int err;

	if (own_path(path, why))
		return 1;
	snprintf(agent, sizeof(agent), "%s", opts->agent);
	if (!split_words(agent, h->share->name, path, words)) {
		snprintf(why, RUN_TEXT_MAX, "the agent has no name");
		return 1;
	}
	err = spawn(h, words);
	if (!err)
		return 0;
	snprintf(why, RUN_TEXT_MAX, "agent %.100s: %s", words[0],
		 err == ENOENT ? "command not found" : strerror(err));
	return err == ENOENT ? RUN_EXIT_NOCMD : err == EACCES ? RUN_EXIT_NOEXEC : 1;
}

/* ---- the job ---- */

static void add_string(struct run_buffer *b, const char *s)
{
	run_buffer_add(b, s, strlen(s) + 1);
}

static void add_number(struct run_buffer *b, int n)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", n);
	add_string(b, text);
}

/* What names this host or this login, and not the job; and another job's secret. */
static bool stays_here(const char *entry)
{
	static const char *const names[] = {
		"HOSTNAME=", "SSH_", "XDG_", "DBUS_", "PWD=", "OLDPWD=", "SHLVL=", "_=", "MAIL=",
		"COLLX_SECRET",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strncmp(entry, names[i], strlen(names[i])))
			return true;
	return false;
}

void run_agent_send_job(struct run_host *h, const struct run_options *opts, const char *place,
			const char *secret)
{
	struct run_buffer b = { 0 };
	char *folder = getcwd(NULL, 0);
	int n = 0;

	add_number(&b, opts->ranks);
	add_number(&b, h->share->first);
	add_number(&b, h->share->count);
	add_string(&b, place);
	add_string(&b, secret);
	add_string(&b, folder ? folder : "/");
	while (opts->cmd[n])
		n++;
	add_number(&b, n);
	for (int i = 0; i < n; i++)
		add_string(&b, opts->cmd[i]);
	for (char **e = environ; *e; e++)
		if (!stays_here(*e))
			add_string(&b, *e);
	run_link_put(&h->link, RUN_FRAME_JOB, 0, b.data, b.len);
	run_buffer_free(&b);
	free(folder);
}

int run_agent_find_mark(struct run_host *h, struct run_buffer *chatter)
{
	struct run_buffer *from = &h->link.from;
	char *at = from->data + from->at, *mark;
	size_t have = from->len - from->at, mark_len = strlen(run_link_mark);

	mark = have ? memmem(at, have, run_link_mark, mark_len) : NULL;
	if (!mark)
		return have > CHATTER_MAX ? -1 : 0;
	run_buffer_add(chatter, at, (size_t)(mark - at));
	run_buffer_take(from, (size_t)(mark - at) + mark_len);
	h->marked = true;
	return 0;
}
