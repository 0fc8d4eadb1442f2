/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collx-perf: for each size, type, operation and root, out of place and in
 * place: warm up, time, check, print. Exit status: 0 all right, 1 wrong data,
 * 2 the library or the system failed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "perf.h"
#include "perf_kernels_cuda.h"

double perf_now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

void perf_must(struct perf *p, const char *what, collx_result rc)
{
	const char *why;

	if (rc == COLLX_OK)
		return;
	why = collx_last_error(p->comm);
	perf_report_close(p, *why ? why : collx_strerror(rc));
	fprintf(stderr, "collx-perf: rank %d: %s: %s: %s\n", p->rank, what, collx_strerror(rc),
		why);
	exit(2);
}

/* A rank without a job is a job of one. */
static collx_result create_alone(collx_comm_t *comm)
{
	collx_unique_id id;
	collx_result rc = collx_get_unique_id(&id);

	fprintf(stderr, "collx-perf: COLLX_RANK is not set: running as one rank; "
		"see collx-run(1)\n");
	return rc ? rc : collx_comm_create(comm, 1, &id, 0, NULL);
}

/* Room for `bytes` after a page whose end is the guard before them; touched. */
static unsigned char *allocate(struct perf *p, uint64_t bytes)
{
	const size_t page = 4096;
	size_t len = (bytes + PERF_GUARD + page - 1) / page * page + page;
	unsigned char *room = aligned_alloc(page, len);

	if (!room) {
		perf_report_close(p, "out of memory");
		fprintf(stderr, "collx-perf: rank %d: no memory for a buffer of %zu bytes: %s\n",
			p->rank, len, strerror(errno));
		exit(2);
	}
	memset(room, 0, len);
	return room + page;
}

static double over_ranks(struct perf *p, const struct perf_case *c, double us)
{
	static const collx_op ops[] = { 0, COLLX_AVG, COLLX_MIN, COLLX_MAX };
	bool odd_one = c->coll->flags & PERF_PAIRS && c->ranks % 2;
	double all;

	if (perf_case_idle(c)) /* what changes neither mean nor minimum nor maximum */
		us = ops[p->opts.average] == COLLX_MIN ? 1e300 : 0;
	all = us;

	if (p->opts.average) /* 0: only rank 0 prints, so its own */
		perf_must(p, "allreduce of times",
			  collx_allreduce(&us, &all, 1, COLLX_FLOAT64, ops[p->opts.average],
					  p->comm, NULL));
	if (odd_one && ops[p->opts.average] == COLLX_AVG)
		all *= (double)c->ranks / (c->ranks - 1);
	return all;
}

static void repeat(struct perf *p, const struct perf_case *c, uint64_t times, const void *send,
		   void *recv)
{
	collx_result rc = COLLX_OK;
	uint64_t i;

	for (i = 0; i < times && rc == COLLX_OK; i++)
		rc = c->coll->run(c, send, recv, p->comm);
	if (!rc && times && c->coll->end)
		rc = c->coll->end(c, p->comm);
	perf_must(p, c->coll->name, rc);
}

/* Back to back with one reading of the clock around, as nccl-tests does. */
static void time_loop(struct perf *p, const struct perf_case *c, const void *send, void *recv,
		      struct perf_time *t)
{
	double start, sec;

	perf_must(p, "barrier", collx_barrier(p->comm, NULL));
	start = perf_now_us();
	repeat(p, c, p->opts.iters, send, recv);
	t->us = (perf_now_us() - start) / (double)p->opts.iters / c->coll->messages;
	t->us = over_ranks(p, c, t->us);
	sec = t->us / 1e6;
	t->alg_bw = sec > 0 ? (double)perf_case_bytes(c) / 1e9 / sec : 0;
	t->bus_bw = t->alg_bw * c->coll->bus_factor(c->ranks);
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Each iteration by itself after a barrier; its time is the slowest rank's. */
static void time_each(struct perf *p, const struct perf_case *c, const void *send, void *recv,
		      struct perf_time *t)
{
	uint64_t n = p->opts.iters, i;
	double start, shown = perf_now_us();

	for (i = 0; i < n; i++) {
		perf_must(p, "barrier", collx_barrier(p->comm, NULL));
		start = perf_now_us();
		repeat(p, c, 1, send, recv);
		p->each_us[i] = (perf_now_us() - start) / c->coll->messages;
		if (p->tty && start - shown > 1e5) {
			perf_report_progress(p, c, "each iteration", i + 1);
			shown = start;
		}
	}
	perf_must(p, "allreduce of times",
		  collx_allreduce(p->each_us, p->each_us, n, COLLX_FLOAT64, COLLX_MAX, p->comm,
				  NULL));
	qsort(p->each_us, n, sizeof(*p->each_us), compare_doubles);
	t->min_us = p->each_us[0];
	t->p50_us = p->each_us[n / 2];
	t->p99_us = p->each_us[(n * 99 + 99) / 100 - 1];
}

/* One run on new data; a rank that saw wrong data itself never reports less. */
static uint64_t check_once(struct perf *p, struct perf_case *c, bool in_place)
{
	uint64_t own, all = 0;

	c->seed = p->seed++;
	perf_fill(c, &p->mem, in_place);
	repeat(p, c, 1, perf_send_at(c, &p->mem, in_place), perf_recv_at(c, &p->mem, in_place));
	own = perf_count_wrong(c, &p->mem, in_place);
	perf_must(p, "allreduce of errors",
		  collx_allreduce(&own, &all, 1, COLLX_UINT64, COLLX_SUM, p->comm, NULL));
	return all > own ? all : own;
}

static void measure(struct perf *p, struct perf_case *c, bool in_place, struct perf_time *t)
{
	const char *form = c->coll->flags & PERF_PAIRS ? "messages"
			   : in_place                   ? "in place" : "out of place";
	unsigned char *send = perf_send_at(c, &p->mem, in_place);
	unsigned char *recv = perf_recv_at(c, &p->mem, in_place);
	uint64_t i;

	*t = (struct perf_time){ .checked = p->opts.check && !(c->coll->flags & PERF_NO_DATA) };
	perf_report_progress(p, c, form, 0);
	perf_fill(c, &p->mem, in_place);
	repeat(p, c, p->opts.warmup, send, recv);
	time_loop(p, c, send, recv, t);
	if (p->opts.per_iter)
		time_each(p, c, send, recv, t);
	perf_report_progress(p, c, "checking", 0);
	for (i = 0; t->checked && i < p->opts.check; i++)
		t->wrong += check_once(p, c, in_place);
	p->wrong += t->wrong;
	p->bus_bw_sum += t->bus_bw;
	p->rows++;
}

static void run_case(struct perf *p, uint64_t bytes, collx_type type, collx_op op, int root)
{
	struct perf_case c = { .coll = p->opts.coll, .type = type, .op = op, .root = root,
			       .rank = p->rank, .ranks = p->ranks,
			       .elem = collx_type_size(type) };
	struct perf_case second;
	struct perf_time out, in;

	c.coll->layout(&c, bytes / c.elem);
	second = c;
	measure(p, &c, false, &out);
	if (c.coll->second)
		second.coll = c.coll->second;
	measure(p, &second, !c.coll->second, &in);
	perf_report_row(p, &c, &out, &in);
}

static void run_sizes(struct perf *p, collx_type type, collx_op op, int root)
{
	const struct perf_opts *o = &p->opts;
	uint64_t bytes, next;

	for (bytes = o->min_bytes; bytes <= o->max_bytes; bytes = next) {
		run_case(p, bytes, type, op, root);
		if (o->factor > 1 && bytes > o->max_bytes / o->factor)
			break;
		next = o->factor > 1 ? bytes * o->factor : bytes + o->step_bytes;
		if (next == bytes) /* 0 times anything */
			break;
	}
}

/* An option that may be "all", as the first and last of its values. */
struct span {
	int first, last;
};

static struct span span_of(int value, int count, bool matters)
{
	if (!matters)
		return (struct span){ 0, 0 };
	if (value == PERF_ALL)
		return (struct span){ 0, count - 1 };
	return (struct span){ value, value };
}

static void run_all(struct perf *p)
{
	unsigned flags = p->opts.coll->flags;
	struct span types = span_of(p->opts.type, COLLX_TYPE_COUNT, !(flags & PERF_NO_DATA));
	struct span ops = span_of(p->opts.op, COLLX_OP_COUNT, flags & PERF_REDUCES);
	struct span roots = span_of(p->opts.root, p->ranks, flags & PERF_ROOTED);
	int type, op, root;

	for (type = types.first; type <= types.last; type++)
		for (op = ops.first; op <= ops.last; op++)
			for (root = roots.first; root <= roots.last; root++)
				run_sizes(p, (collx_type)type, (collx_op)op, root);
}

static void prepare(struct perf *p)
{
	struct perf_opts *o = &p->opts;

	perf_must(p, "creating the communicator", getenv("COLLX_RANK")
		  ? collx_comm_create_from_env(&p->comm, NULL) : create_alone(&p->comm));
	p->rank = collx_comm_rank(p->comm);
	p->ranks = collx_comm_size(p->comm);
	if (o->root >= p->ranks) {
		fprintf(stderr, "collx-perf: root %d: there are %d ranks\n", o->root, p->ranks);
		exit(2);
	}
	if (o->coll->flags & PERF_PAIRS && p->ranks < 2) {
		fprintf(stderr, "collx-perf: %s needs two ranks; see collx-run(1)\n",
			o->coll->name);
		exit(2);
	}
	if (o->coll->flags & PERF_NO_DATA)
		o->min_bytes = o->max_bytes = 0;
	p->mem.send = allocate(p, o->max_bytes);
	p->mem.recv = allocate(p, o->max_bytes);
	if (o->per_iter)
		p->each_us = (double *)allocate(p, o->iters * sizeof(double));
}

static int kernels_on_gpu(const struct perf_opts *opts)
{
#ifdef CX_HAVE_CUDA
	FILE *json = opts->json ? fopen(opts->json, "w") : NULL;
	int rc;

	if (opts->json && !json) {
		fprintf(stderr, "collx-perf: cannot write %s\n", opts->json);
		return 2;
	}
	rc = perf_kernels_cuda(opts->min_bytes, (unsigned)opts->iters, json);
	if (json)
		fclose(json);
	return rc ? 2 : 0;
#else
	(void)opts;
	fprintf(stderr, "collx-perf: this libcollx was built without GPU kernels\n");
	return 2;
#endif
}

int main(int argc, char **argv)
{
	static struct perf p;

	perf_opts_parse(&p.opts, argc, argv);
	if (p.opts.kernels && p.opts.cuda)
		return kernels_on_gpu(&p.opts);
	if (p.opts.kernels) {
		perf_kernels(&p.opts);
		return 0;
	}
	prepare(&p);
	perf_report_open(&p, argc, argv);
	run_all(&p);
	perf_report_close(&p, NULL);
	collx_comm_destroy(p.comm);
	return p.wrong ? 1 : 0;
}
