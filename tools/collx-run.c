/* SPDX-License-Identifier: BSD-3-Clause */
/* The process the user started: options, and waiting; see run.h. */
#include <argp.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run.h"

/* What the words said, before it is looked at as a whole. */
struct words {
	struct run_options opts;
	const char *hosts;
	bool serve;
};

enum { KEY_SERVE = 256 };

static const struct argp_option options[] = {
	{ "ranks", 'n', "N", 0, "Ranks to start (as many as this process may use processors)", 0 },
	{ "prefix", 'p', NULL, 0, "Begin each line of output with the rank that wrote it", 0 },
	{ "keep-going", 'k', NULL, 0, "A rank that fails does not end the others", 0 },
	{ "timeout", 't', "SECONDS", 0, "End the job after this time, with status 124", 0 },
	{ "hosts", 'H', "HOST[:N],...", 0, "Start ranks on these hosts, N (1) on each", 1 },
	{ "agent", 'a', "COMMAND", 0, "Reaches a host: COMMAND HOST PROGRAM... (ssh)", 1 },
	{ "addr", 'A', "tcp:HOST:PORT", 0, "Where the ranks of the hosts meet", 1 },
	{ "serve", KEY_SERVE, NULL, OPTION_HIDDEN, NULL, 1 },
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

static int default_ranks(void)
{
	cpu_set_t cpus;

	return sched_getaffinity(0, sizeof(cpus), &cpus) ? 1 : CPU_COUNT(&cpus);
}

static void finish_options(struct words *w, struct argp_state *state)
{
	struct run_options *opts = &w->opts;
	char why[RUN_TEXT_MAX];

	if (!opts->cmd && !w->serve)
		argp_error(state, "which command?");
	if (w->serve && isatty(STDIN_FILENO))
		argp_error(state, "--serve is for agents: see collx-run(1)");
	if (!w->hosts && (opts->agent || opts->addr))
		argp_error(state, "--agent and --addr go with --hosts");
	if (opts->addr && (strncmp(opts->addr, "tcp:", 4) || strlen(opts->addr) >= RUN_ADDR_BYTES))
		argp_error(state, "--addr %s: tcp:HOST:PORT is needed", opts->addr);
	if (!opts->agent)
		opts->agent = "ssh -T -oBatchMode=yes -oServerAliveInterval=10";
	if (w->hosts && run_shares_parse(w->hosts, &opts->shares, &opts->nshares, &opts->ranks,
					 why))
		argp_error(state, "--hosts %s: %s", w->hosts, why);
	if (!opts->ranks)
		opts->ranks = default_ranks();
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct words *w = state->input;
	double ranks;

	switch (key) {
	case 'n':
		ranks = parse_number(arg, 1, RUN_RANKS_MAX, state, "-n");
		w->opts.ranks = (int)ranks;
		if (w->opts.ranks != ranks)
			argp_error(state, "-n %s: a whole number is needed", arg);
		return 0;
	case 'p':
		w->opts.prefix = true;
		return 0;
	case 'k':
		w->opts.keep_going = true;
		return 0;
	case 't':
		w->opts.timeout_s = parse_number(arg, 0.001, 1e9, state, "--timeout");
		return 0;
	case 'H':
		w->hosts = arg;
		return 0;
	case 'a':
		w->opts.agent = arg;
		return 0;
	case 'A':
		w->opts.addr = arg;
		return 0;
	case KEY_SERVE:
		w->serve = true;
		return 0;
	case ARGP_KEY_ARG:
		return ARGP_ERR_UNKNOWN; /* comes back as ARGP_KEY_ARGS with all that follow */
	case ARGP_KEY_ARGS:
		w->opts.cmd = state->argv + state->next;
		return 0;
	case ARGP_KEY_END:
		finish_options(w, state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp parser = {
	.options = options,
	.parser = parse_option,
	.args_doc = "[--] COMMAND [ARGUMENT...]",
	.doc = "Starts COMMAND as the ranks of a libcollx job, on this host or on several.\v"
	       "The exit status is that of the rank that failed first, 128 + the signal that "
	       "killed it, or 0; with --keep-going 0 when any rank returned 0. See collx-run(1).",
};

/* The child that does the work; it ends the job when its parent is gone. */
static int work(const struct run_options *opts, pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		return 1;
	signal(SIGPIPE, SIG_IGN);
	return opts->shares ? run_hosts(opts) : run_here(opts);
}

/* `set` is blocked since before the child was there: asking for it again would set SIGCHLD
 * to its default, which drops one that is pending. */
static int watch(pid_t child, sigset_t set)
{
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

int main(int argc, char **argv)
{
	struct words w = { .serve = false };
	sigset_t set = run_own_signals();
	pid_t child, self = getpid();
	int status;

	argp_parse(&parser, argc, argv, ARGP_IN_ORDER, NULL, &w);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (w.serve)
		return run_serve();
	child = fork();
	if (child == 0)
		exit(work(&w.opts, self));
	if (child < 0)
		run_complain("fork");
	status = child < 0 ? 1 : watch(child, set);
	run_shares_free(w.opts.shares, w.opts.nshares);
	return status;
}
