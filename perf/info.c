/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collx-info: shows what the library is made of and how it sees this machine.
 * One function a subcommand, all in one table.
 */
#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "info.h"
#include "kernels/kernel.h"
#include "plan.h"
#include "select.h"
#include "topo.h"
#include "transports/transport.h"

enum { MAX_RANKS = 1 << 17, MAX_WORDS = 2 };

struct query {
	const struct command *command;
	const char *words[MAX_WORDS]; /* after the subcommand */
	int nwords;
	int ranks, rank; /* ranks 0: not given */
};

static int failed(void)
{
	fprintf(stderr, "collx-info: %s\n", cx_error_text());
	return 1;
}

/* ---- subcommands: 0, or 1 with the reason on stderr ---- */

static void print_variables(bool help)
{
	int i;

	for (i = 0; i < CX_ENV_COUNT; i++) {
		const struct cx_env_entry *e = cx_env_entry((enum cx_env)i);
		const char *value = cx_env_text((enum cx_env)i);

		if (value && i == CX_ENV_SECRET)
			value = "(set, and told to nobody)";
		if (help)
			printf("%s\n\ttype     %s\n\tdefault  %s\n\tvalue    %s\n\t%s\n", e->name,
			       e->type, *e->fallback ? e->fallback : "-", value ? value : "-",
			       e->help);
		else
			printf("%-24s %s%s%s\n", e->name, value ? value : "(",
			       value ? "" : *e->fallback ? e->fallback : "not set",
			       value ? "" : ")");
	}
}

static int show_env(const struct query *q)
{
	(void)q;
	print_variables(true);
	return 0;
}

static int show_all(const struct query *q)
{
	const struct cx_kernels *best = cx_kernels_pick(cx_env_text(CX_ENV_KERNEL));
	int v = collx_version(), i;
	struct cx_topo topo;

	(void)q;
	printf("libcollx    %d.%d.%d\n", v / 10000, v / 100 % 100, v % 100);
	if (cx_topo_read(&topo) < 0)
		return failed();
	cx_topo_print(&topo, stdout);
	printf("kernels    ");
	for (i = 0; cx_kernel_variants[i]; i++)
		printf(" %s%s", cx_kernel_variants[i]->name,
		       cx_kernel_variants[i] == best ? " (used)"
		       : cx_kernel_variants[i]->usable() ? "" : " (not on this processor)");
	printf("\ntransports ");
	for (i = 0; cx_transports[i]; i++)
		printf(" %s", cx_transports[i]->name);
	printf("\n\n");
	print_variables(false);
	return 0;
}

static int show_algos(const struct query *q)
{
	const struct cx_algo *a;
	int i;

	(void)q;
	printf("%-15s %-14s %-12s %-19s %s\n", "collective", "algorithm", "steps", "sent a rank",
	       "order of operands");
	for (i = 0; (a = cx_algos[i]); i++)
		printf("%-15s %-14s %-12s %-19s %s\n", cx_coll_name(a->coll), a->name, a->steps,
		       a->bytes, a->flags & CX_ALGO_CANONICAL ? "canonical"
		       : a->flags & CX_ALGO_RANK_ORDER ? "by rank" : "-");
	return 0;
}

static enum cx_coll find_coll(const char *name)
{
	enum cx_coll coll = cx_coll_find(name);

	if (coll == CX_NCOLL)
		fprintf(stderr, "collx-info: %s: no such collective\n", name);
	return coll;
}

static const struct cx_algo *find_algo(const struct query *q)
{
	enum cx_coll coll = find_coll(q->words[0]);
	const struct cx_algo *algo;

	if (coll == CX_NCOLL)
		return NULL;
	algo = cx_algo_find(coll, q->words[1]);
	if (!algo)
		fprintf(stderr, "collx-info: %s has no algorithm %s; see 'collx-info algos'\n",
			q->words[0], q->words[1]);
	return algo;
}

static int show_plan(const struct query *q)
{
	struct cx_shape shape = { .ranks = q->ranks, .rank = q->rank };
	const struct cx_algo *algo = find_algo(q);
	struct cx_plan *plan;

	if (!algo)
		return 1;
	if (cx_plan_create(&plan, algo, &shape))
		return failed();
	cx_plan_print(plan, stdout);
	cx_plan_destroy(plan);
	return 0;
}

static int check_plan(const struct query *q)
{
	const struct cx_algo *algo = find_algo(q);

	if (!algo)
		return 1;
	if (cx_plan_check(algo, q->ranks))
		return failed();
	printf("%s %s, %d ranks: right, apart and in place\n", q->words[0], algo->name, q->ranks);
	return 0;
}

static int show_select(const struct query *q)
{
	enum cx_coll coll = q->nwords ? find_coll(q->words[0]) : CX_NCOLL;

	if (q->nwords && coll == CX_NCOLL)
		return 1;
	cx_select_print(stdout, coll, q->ranks);
	return 0;
}

static int show_net(const struct query *q)
{
	return info_net(q->nwords ? q->words[0] : NULL);
}

static const struct command {
	const char *name;
	int least, most; /* words after it */
	bool ranks;      /* needs --ranks */
	int (*run)(const struct query *q);
} commands[] = {
	{ "", 0, 0, false, show_all },
	{ "algos", 0, 0, false, show_algos },
	{ "check", 2, 2, true, check_plan },
	{ "env", 0, 0, false, show_env },
	{ "net", 0, 1, false, show_net },
	{ "plan", 2, 2, true, show_plan },
	{ "select", 0, 1, false, show_select },
};

/* ---- the command line ---- */

static const struct argp_option options[] = {
	{ "ranks", 'n', "N", 0, "Number of ranks, for plan, check and select", 0 },
	{ "rank", 'r', "R", 0, "The rank whose plan is shown (0)", 0 },
	{ NULL, 0, NULL, 0, NULL, 0 },
};

static int take_number(const char *text, long least, long most, struct argp_state *state)
{
	long value;
	char *end;

	errno = 0;
	value = strtol(text, &end, 10);
	if (errno || end == text || *end || value < least || value > most)
		argp_error(state, "%s: a number from %ld to %ld is needed", text, least, most);
	return (int)value;
}

static const struct command *find_command(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static void finish(const struct query *q, struct argp_state *state)
{
	const struct command *c = q->command;

	if (q->nwords < c->least)
		argp_error(state, "%s: a collective and an algorithm are needed", c->name);
	if (c->ranks && !q->ranks)
		argp_error(state, "%s: --ranks is needed", c->name);
	if (q->rank >= (q->ranks ? q->ranks : 1))
		argp_error(state, "rank %d: there are %d ranks", q->rank, q->ranks);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct query *q = state->input;

	switch (key) {
	case 'n':
		q->ranks = take_number(arg, 1, MAX_RANKS, state);
		return 0;
	case 'r':
		q->rank = take_number(arg, 0, MAX_RANKS - 1, state);
		return 0;
	case ARGP_KEY_ARG:
		if (!*q->command->name) {
			q->command = find_command(arg);
			if (!q->command || !*arg)
				argp_error(state, "%s: no such subcommand", arg);
		} else if (q->nwords == q->command->most) {
			argp_error(state, "%s: one word too many", arg);
		} else {
			q->words[q->nwords++] = arg;
		}
		return 0;
	case ARGP_KEY_END:
		finish(q, state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp parser = {
	.options = options,
	.parser = parse_option,
	.args_doc = "\nalgos\ncheck COLLECTIVE ALGORITHM --ranks N\nenv\nnet [tcp:HOST:PORT]\n"
		    "plan COLLECTIVE ALGORITHM --ranks N --rank R\nselect [COLLECTIVE] [--ranks N]",
	.doc = "Shows what libcollx is made of and how it sees this machine.\v"
	       "Without a subcommand: version, machine, kernels, transports, variables.",
};

int main(int argc, char **argv)
{
	struct query q = { .command = &commands[0] };

	argp_parse(&parser, argc, argv, 0, NULL, &q);
	return q.command->run(&q);
}
