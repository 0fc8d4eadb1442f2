/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What collx-perf prints: the table of nccl-tests on stdout, the same as JSON in
 * a file, and on a terminal one line that says what is under way.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "perf.h"

struct host {
	int32_t pid;
	char name[60];
};

/* Seven characters wide with as many decimals as fit. */
static void print_time(double us)
{
	printf("  %7.*f", us < 9999.995 ? 2 : us < 99999.95 ? 1 : 0, us);
}

static void json_text(FILE *to, const char *s)
{
	putc('"', to);
	for (; *s; s++)
		if (*s == '"' || *s == '\\')
			fprintf(to, "\\%c", *s);
		else if ((unsigned char)*s < 0x20)
			fprintf(to, "\\u%04x", (unsigned char)*s);
		else
			putc(*s, to);
	putc('"', to);
}

static const char *name_or_all(const char *const names[], int which)
{
	return which == PERF_ALL ? "all" : names[which];
}

/* Every rank's process, asked through the library itself. */
static struct host *gather_hosts(struct perf *p)
{
	struct host *all = calloc((size_t)p->ranks, sizeof(*all));
	struct host own = { .pid = (int32_t)getpid() };

	perf_must(p, "memory for the names of hosts", all ? COLLX_OK : COLLX_ERR_NOMEM);
	if (gethostname(own.name, sizeof(own.name) - 1))
		strcpy(own.name, "?");
	perf_must(p, "allgather of host names",
		  collx_allgather(&own, all, sizeof(own), COLLX_UINT8, p->comm, NULL));
	return all;
}

static void json_head(const struct perf *p, int argc, char **argv, const struct host *hosts)
{
	const struct perf_opts *o = &p->opts;
	FILE *to = p->json;
	int i;

	fprintf(to, "{\"version\": 1, \"collx_version\": %d, \"collective\": \"%s\", \"args\": [",
		collx_version(), o->coll->name);
	for (i = 0; i < argc; i++) {
		fputs(i ? ", " : "", to);
		json_text(to, argv[i]);
	}
	fputs("],\n\"ranks\": [", to);
	for (i = 0; i < p->ranks; i++) {
		fprintf(to, "%s\n {\"rank\": %d, \"pid\": %" PRId32 ", \"hostname\": ",
			i ? "," : "", i, hosts[i].pid);
		json_text(to, hosts[i].name);
		putc('}', to);
	}
	fprintf(to, "],\n\"config\": {\"minbytes\": %" PRIu64 ", \"maxbytes\": %" PRIu64
		", \"stepbytes\": %" PRIu64 ", \"stepfactor\": %" PRIu64 ", \"iters\": %" PRIu64
		", \"warmup_iters\": %" PRIu64 ", \"check\": %" PRIu64 ", \"average\": %" PRIu64
		", \"per_iter_timing\": %" PRIu64, o->min_bytes, o->max_bytes, o->step_bytes,
		o->factor, o->iters, o->warmup, o->check, o->average, o->per_iter);
	fprintf(to, ", \"datatype\": \"%s\", \"op\": \"%s\", \"root\": %d},\n\"results\": [",
		name_or_all(perf_type_names, o->type), name_or_all(perf_op_names, o->op), o->root);
}

static void head_side(const char *time, const char *bw, const char *wrong, const char *const more[],
		      bool per_iter)
{
	int i;

	printf("  %7s  %6s  %6s  %6s", time, bw, bw[0] == '(' ? bw : "busbw", wrong);
	for (i = 0; per_iter && i < 3; i++)
		printf("  %7s", more[i]);
}

static void table_head(const struct perf *p)
{
	static const char *const names[] = { "min", "p50", "p99" };
	static const char *const units[] = { "(us)", "(us)", "(us)" };
	bool per_iter = p->opts.per_iter, pairs = p->opts.coll->flags & PERF_PAIRS;
	int wide = per_iter ? 60 : 33;

	printf("#\n# %10s  %12s  %8s  %6s  %6s  %*s  %*s\n", "", "", "", "", "",
	       (wide + 12) / 2, pairs ? "ping-pong" : "out-of-place", wide - 1,
	       pairs ? "stream" : "in-place");
	printf("# %10s  %12s  %8s  %6s  %6s", "size", "count", "type", "redop", "root");
	head_side("time", "algbw", "#wrong", names, per_iter);
	head_side("time", "algbw", "#wrong", names, per_iter);
	printf("\n# %10s  %12s  %8s  %6s  %6s", "(B)", "(elements)", "", "", "");
	head_side("(us)", "(GB/s)", "", units, per_iter);
	head_side("(us)", "(GB/s)", "", units, per_iter);
	printf("\n");
	fflush(stdout);
}

void perf_report_open(struct perf *p, int argc, char **argv)
{
	const struct perf_opts *o = &p->opts;
	struct host *hosts = gather_hosts(p);
	int v = collx_version(), i;

	if (p->rank)
		goto out;
	p->tty = isatty(STDERR_FILENO);
	printf("# collx-perf %d.%d.%d: %s\n", v / 10000, v / 100 % 100, v % 100, o->coll->name);
	printf("# minBytes %" PRIu64 " maxBytes %" PRIu64 " step: %" PRIu64 "(%s) warmup iters: %"
	       PRIu64 " iters: %" PRIu64 " validation: %" PRIu64 "\n", o->min_bytes, o->max_bytes,
	       o->factor > 1 ? o->factor : o->step_bytes, o->factor > 1 ? "factor" : "bytes",
	       o->warmup, o->iters, o->check);
	printf("#\n# Using %d rank%s\n", p->ranks, p->ranks > 1 ? "s" : "");
	for (i = 0; i < p->ranks; i++)
		printf("#  Rank %3d Pid %6" PRId32 " on %.*s\n", i, hosts[i].pid,
		       (int)sizeof(hosts[i].name), hosts[i].name);
	table_head(p);
	if (o->json) {
		p->json = fopen(o->json, "we");
		if (!p->json) {
			fprintf(stderr, "collx-perf: %s: %s\n", o->json, strerror(errno));
			exit(2);
		}
		json_head(p, argc, argv, hosts);
	}
out:
	free(hosts);
}

static void row_side(const struct perf *p, const struct perf_time *t)
{
	print_time(t->us);
	printf("  %6.2f  %6.2f", t->alg_bw, t->bus_bw);
	if (t->checked)
		printf("  %6" PRIu64, t->wrong);
	else
		printf("  %6s", "N/A");
	if (p->opts.per_iter) {
		print_time(t->min_us);
		print_time(t->p50_us);
		print_time(t->p99_us);
	}
}

static void json_side(const struct perf *p, const char *name, const struct perf_time *t)
{
	fprintf(p->json, ",\n  \"%s\": {\"time_us\": %.3f, \"alg_bw\": %.4f, \"bus_bw\": %.4f, ",
		name, t->us, t->alg_bw, t->bus_bw);
	if (t->checked)
		fprintf(p->json, "\"nwrong\": %" PRIu64, t->wrong);
	else
		fprintf(p->json, "\"nwrong\": null");
	if (p->opts.per_iter)
		fprintf(p->json, ", \"min_us\": %.3f, \"p50_us\": %.3f, \"p99_us\": %.3f",
			t->min_us, t->p50_us, t->p99_us);
	putc('}', p->json);
}

void perf_report_row(struct perf *p, const struct perf_case *c, const struct perf_time *out,
		     const struct perf_time *in)
{
	unsigned flags = c->coll->flags;
	const char *type = flags & PERF_NO_DATA ? "none" : perf_type_names[c->type];
	const char *op = flags & PERF_REDUCES ? perf_op_names[c->op] : "none";
	int root = flags & PERF_ROOTED ? c->root : -1;

	if (p->rank)
		return;
	perf_report_progress(p, c, NULL, 0);
	printf("%12zu  %12zu  %8s  %6s  %6d", perf_case_bytes(c), c->count, type, op, root);
	row_side(p, out);
	row_side(p, in);
	printf("\n");
	fflush(stdout);
	if (!p->json)
		return;
	fprintf(p->json, "%s\n {\"size\": %zu, \"count\": %zu, \"type\": \"%s\", "
		"\"redop\": \"%s\", \"root\": %d", p->rows > 2 ? "," : "", perf_case_bytes(c),
		c->count, type, op, root);
	json_side(p, flags & PERF_PAIRS ? "ping_pong" : "out_of_place", out);
	json_side(p, flags & PERF_PAIRS ? "stream" : "in_place", in);
	putc('}', p->json);
}

static void json_close(struct perf *p, double average, const char *error)
{
	fprintf(p->json, "],\n\"out_of_bounds\": %" PRIu64 ", \"average_bus_bw\": %.4f", p->wrong,
		average);
	if (error) {
		fputs(", \"error\": ", p->json);
		json_text(p->json, error);
	}
	fputs("}\n", p->json);
	if (fclose(p->json))
		fprintf(stderr, "collx-perf: %s: %s\n", p->opts.json, strerror(errno));
	p->json = NULL;
}

void perf_report_close(struct perf *p, const char *error)
{
	double average = p->rows ? p->bus_bw_sum / (double)p->rows : 0;

	if (p->rank)
		return;
	perf_report_progress(p, NULL, NULL, 0);
	if (!error) {
		printf("# Out of bounds values : %" PRIu64 " %s\n", p->wrong,
		       p->wrong ? "FAILED" : "OK");
		printf("# Avg bus bandwidth    : %g\n#\n", average);
	}
	fflush(stdout);
	if (p->json)
		json_close(p, average, error);
}

void perf_report_progress(const struct perf *p, const struct perf_case *c, const char *what,
			  uint64_t done)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double size = c ? (double)perf_case_bytes(c) : 0;
	int unit = 0;

	if (!p->tty)
		return;
	for (; size >= 1024 && unit < 4; unit++)
		size /= 1024;
	fputs("\r\033[K", stderr);
	if (what)
		fprintf(stderr, "size %.4g %s, %s", size, units[unit], what);
	if (what && done)
		fprintf(stderr, ", iteration %" PRIu64 "/%" PRIu64, done, p->opts.iters);
	fflush(stderr);
}
