/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line of collx-perf: the flags of nccl-tests, in two tables. */
#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "perf.h"

static const struct argp_option options[] = {
	{ "minbytes", 'b', "BYTES", 0, "Smallest size; K, M, G are binary (32M)", 0 },
	{ "maxbytes", 'e', "BYTES", 0, "Largest size (32M, or the smallest)", 0 },
	{ "stepbytes", 'i', "BYTES", 0, "Step between sizes (1M)", 0 },
	{ "stepfactor", 'f', "FACTOR", 0, "Multiply sizes by this instead", 0 },
	{ "iters", 'n', "COUNT", 0, "Timed iterations (20)", 0 },
	{ "warmup-iters", 'w', "COUNT", 0, "Iterations before them (1)", 0 },
	{ "check", 'c', "COUNT", 0, "Checked iterations; 0: no check (1)", 0 },
	{ "op", 'o', "OP", 0, "sum, prod, max, min, avg or all (sum)", 0 },
	{ "datatype", 'd', "TYPE", 0,
	  "int8, uint8, int32, uint32, int64, uint64, half, float, double, bfloat16 or all (float)",
	  0 },
	{ "root", 'r', "RANK", 0, "Root of rooted collectives, or all (0)", 0 },
	{ "average", 'a', "MODE", 0,
	  "Time over ranks: 0 rank 0's, 1 average, 2 minimum, 3 maximum (1)", 0 },
	{ "per-iter-timing", 'I', "0|1", 0, "Time each iteration too: min, p50, p99 (0)", 0 },
	{ "output-file", 'J', "FILE", 0, "Write the results as JSON too", 0 },
	{ "memory", 'm', "host|cuda", 0, "kernels: which ones (host)", 0 },
	{ NULL, 'h', NULL, 0, "The same as --help", -1 },
	/* as nccl-tests writes them */
	{ "warmup_iters", 'w', "COUNT", OPTION_HIDDEN, NULL, 0 },
	{ "per_iter_timing", 'I', "0|1", OPTION_HIDDEN, NULL, 0 },
	{ "output_file", 'J', "FILE", OPTION_HIDDEN, NULL, 0 },
	{ NULL, 0, NULL, 0, NULL, 0 },
};

/* Options that are a number and where it goes. */
static const struct number {
	int key;
	uint64_t least, most;
	size_t offset;
} numbers[] = {
	{ 'b', 0, UINT64_MAX >> 8, offsetof(struct perf_opts, min_bytes) },
	{ 'e', 0, UINT64_MAX >> 8, offsetof(struct perf_opts, max_bytes) },
	{ 'i', 1, UINT64_MAX >> 8, offsetof(struct perf_opts, step_bytes) },
	{ 'f', 1, 1 << 30, offsetof(struct perf_opts, factor) },
	{ 'n', 1, 100 * 1000 * 1000, offsetof(struct perf_opts, iters) },
	{ 'w', 0, 100 * 1000 * 1000, offsetof(struct perf_opts, warmup) },
	{ 'c', 0, 100 * 1000 * 1000, offsetof(struct perf_opts, check) },
	{ 'a', 0, 3, offsetof(struct perf_opts, average) },
	{ 'I', 0, 1, offsetof(struct perf_opts, per_iter) },
};

/* A name beside the one that is printed. */
static const struct alias {
	const char *name;
	collx_type type;
} aliases[] = {
	{ "float16", COLLX_FLOAT16 },
	{ "float32", COLLX_FLOAT32 },
	{ "float64", COLLX_FLOAT64 },
	{ "bf16", COLLX_BFLOAT16 },
};

/* "12", "4K", "1.5M"; -1 when it is no such thing. */
static int parse_number(const char *text, uint64_t *out)
{
	static const char units[] = "KMGT";
	const char *unit;
	double value;
	char *end;

	errno = 0;
	value = strtod(text, &end);
	if (errno || end == text || !(value >= 0))
		return -1;
	unit = *end ? strchr(units, *end & ~0x20) : NULL;
	if (unit) {
		value *= (double)(1024ull << 10 * (unit - units));
		end++;
	}
	if (*end || value >= 9e18)
		return -1;
	*out = (uint64_t)value;
	return 0;
}

static const struct number *find_number(int key)
{
	size_t i;

	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (numbers[i].key == key)
			return &numbers[i];
	return NULL;
}

static int find_name(const char *const names[], int n, const char *text)
{
	int i;

	for (i = 0; i < n; i++)
		if (!strcmp(names[i], text))
			return i;
	return strcmp(text, "all") ? n : PERF_ALL;
}

static int find_type(const char *text)
{
	size_t i;

	for (i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++)
		if (!strcmp(aliases[i].name, text))
			return (int)aliases[i].type;
	return find_name(perf_type_names, COLLX_TYPE_COUNT, text);
}

static void take_number(const struct number *n, const char *text, struct argp_state *state)
{
	struct perf_opts *opts = state->input;
	uint64_t value;

	if (parse_number(text, &value) || value < n->least || value > n->most)
		argp_error(state, "-%c %s: a number from %llu to %llu is needed", n->key, text,
			   (unsigned long long)n->least, (unsigned long long)n->most);
	*(uint64_t *)((char *)opts + n->offset) = value;
}

static void take_root(const char *text, struct argp_state *state)
{
	struct perf_opts *opts = state->input;
	uint64_t value;

	if (!strcmp(text, "all"))
		opts->root = PERF_ALL;
	else if (parse_number(text, &value) || value > INT32_MAX)
		argp_error(state, "-r %s: a rank or 'all' is needed", text);
	else
		opts->root = (int)value;
}

/* What was not given: -b and -n have other defaults for kernels. */
static void set_defaults(struct perf_opts *opts)
{
	const uint64_t kernels = opts->cuda ? 1 << 30 : 128 << 20;

	if (opts->min_bytes == UINT64_MAX)
		opts->min_bytes = opts->kernels ? kernels : 32 << 20;
	if (opts->iters == 0)
		opts->iters = opts->kernels ? 5 : 20;
}

static void finish_kernels(struct perf_opts *opts, struct argp_state *state)
{
	const uint64_t least = 4 << 20, most = UINT64_C(1) << 36;

	if (opts->min_bytes < least || opts->min_bytes > most || opts->iters > 10000)
		argp_error(state, "kernels: -b from 4M to 64G, -n up to 10000");
}

static void finish(struct argp_state *state)
{
	struct perf_opts *opts = state->input;

	set_defaults(opts);
	if (opts->kernels) {
		finish_kernels(opts, state);
		return;
	}
	if (!opts->coll)
		argp_error(state, "which collective?");
	if (opts->max_bytes == UINT64_MAX)
		opts->max_bytes = opts->min_bytes > 32 << 20 ? opts->min_bytes : 32 << 20;
	if (opts->max_bytes < opts->min_bytes)
		argp_error(state, "the largest size (-e) is below the smallest (-b)");
	if (opts->factor > 1 && !opts->min_bytes && opts->max_bytes)
		argp_error(state, "-f needs a smallest size (-b) above 0");
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct perf_opts *opts = state->input;
	const struct number *number = find_number(key);

	if (number) {
		take_number(number, arg, state);
		return 0;
	}
	switch (key) {
	case 'o':
		opts->op = find_name(perf_op_names, COLLX_OP_COUNT, arg);
		if (opts->op == COLLX_OP_COUNT)
			argp_error(state, "-o %s: no such operation", arg);
		return 0;
	case 'd':
		opts->type = find_type(arg);
		if (opts->type == COLLX_TYPE_COUNT)
			argp_error(state, "-d %s: no such type", arg);
		return 0;
	case 'r':
		take_root(arg, state);
		return 0;
	case 'J':
		opts->json = arg;
		return 0;
	case 'm':
		opts->cuda = !strcmp(arg, "cuda");
		if (!opts->cuda && strcmp(arg, "host"))
			argp_error(state, "-m %s: host or cuda", arg);
		return 0;
	case 'h':
		argp_state_help(state, stdout, ARGP_HELP_STD_HELP);
		return 0;
	case ARGP_KEY_ARG:
		if (opts->coll || opts->kernels)
			argp_error(state, "%s: one collective at a time", arg);
		opts->kernels = !strcmp(arg, "kernels");
		if (opts->kernels)
			return 0;
		opts->coll = perf_coll_find(arg);
		if (!opts->coll)
			argp_error(state, "%s: no such collective", arg);
		return 0;
	case ARGP_KEY_END:
		finish(state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp parser = {
	.options = options,
	.parser = parse_option,
	.args_doc = "[allreduce|reduce_scatter|allgather|broadcast|reduce|barrier|p2p|kernels]",
	.doc = "Times and checks a collective of libcollx over the ranks that collx-run "
	       "started.\vSee collx-perf(1) for the columns.",
};

void perf_opts_parse(struct perf_opts *opts, int argc, char **argv)
{
	const char *base = strrchr(argv[0], '/');

	base = base ? base + 1 : argv[0];
	if (!strncmp(base, "lt-", 3)) /* libtool's name for a program not installed yet */
		base += 3;
	*opts = (struct perf_opts){ .coll = perf_coll_find(base), .min_bytes = UINT64_MAX,
				    .max_bytes = UINT64_MAX, .step_bytes = 1 << 20,
				    .warmup = 1, .check = 1, .average = 1,
				    .type = COLLX_FLOAT32, .op = COLLX_SUM };
	argp_parse(&parser, argc, argv, 0, NULL, opts);
}
