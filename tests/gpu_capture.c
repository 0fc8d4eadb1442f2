/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The public functions captured into graphs: a graph is run several times, each time over other
 * contents of the same memory, and gives what the calls would have given on the host. Where this
 * is the first that a process does, the kernels are loaded within the capture.
 */
#include <stdio.h>
#include <string.h>

#include "base.h"
#include "codec_cases.h"
#include "collx.h"
#include "gpu.h"
#include "gpu_cases.h"

enum { N = 20000, K = 300, ROOM = N * 6 + 256, RUNS = 3, INPUTS = 2 };

/* An array on both sides. */
struct both {
	unsigned char host[ROOM];
	void *gpu;
	size_t len;
};

static struct both x[INPUTS], wire[INPUTS], sum, coded, residual, msg, merged, told;
static unsigned char work[1 << 20];
static void *work_there;
static size_t work_len;
static char *reason;
static unsigned long launches;

static int need(int holds, const char *what)
{
	if (holds && !gpu_wrong())
		return 0;
	snprintf(reason, GPU_WHY, "not so: %s; the last line was: %s; %s", what, cx_error_text(),
		 gpu_wrong() ? gpu_wrong() : "no fault");
	return -1;
}

#define NEED(cond) need((cond) ? 1 : 0, #cond)

static void make(struct both *b, size_t len)
{
	b->len = len;
	b->gpu = gpu_make(NULL, len, 0);
}

/* Other numbers, on both sides. */
static void renew(struct both *b, unsigned run, unsigned seed)
{
	static float now[N];

	codec_fill(now, N, run % 2, seed + 10 * run);
	memcpy(b->host, now, sizeof(now));
	gpu_put(b->gpu, b->host, b->len);
}

static int same(const struct both *b)
{
	static unsigned char mine[ROOM];

	gpu_take(mine, b->gpu, b->len);
	return !memcmp(mine, b->host, b->len);
}

static int begin(char *why)
{
	struct both *const floats[] = {&x[0], &x[1], &sum, &residual};

	reason = why;
	launches = gpu_launched();
	gpu_reset();
	for (size_t i = 0; i < sizeof(floats) / sizeof(floats[0]); i++)
		make(floats[i], N * sizeof(float));
	for (unsigned i = 0; i < INPUTS; i++)
		make(&wire[i], collx_encoded_size(N, COLLX_Q8));
	make(&coded, collx_encoded_size(N, COLLX_Q8));
	make(&msg, collx_sparse_size(N, K, COLLX_FLOAT32));
	make(&merged, ROOM);
	make(&told, sizeof(collx_topk_info));
	work_len = cx_max(collx_topk_work(N, K), collx_sparse_work(N));
	work_there = gpu_make(NULL, work_len, 0);
	return NEED(work_len <= sizeof(work));
}

static void *in(struct both *b, int there)
{
	return there ? b->gpu : b->host;
}

/* ---- what is captured, here or there ---- */

/* Two arrays encoded, one of them with its residual; their sum, decoded and encoded. */
static int dense(int there)
{
	collx_codec_opts o = COLLX_CODEC_OPTS_INIT;
	const void *wires[] = {in(&wire[0], there), in(&wire[1], there)};
	int rc = 0;

	o.memory = there ? COLLX_MEMORY_CUDA : COLLX_MEMORY_HOST;
	o.stream = gpu_stream();
	for (unsigned i = 0; !rc && i < INPUTS; i++) {
		o.residual = i ? in(&residual, there) : NULL;
		rc = collx_encode(in(&wire[i], there), wire[i].len, in(&x[i], there), N,
				  COLLX_FLOAT32, COLLX_Q8, &o);
	}
	o.residual = NULL;
	if (!rc)
		rc = collx_reduce_encoded(in(&coded, there), coded.len, wires, INPUTS, N, COLLX_Q8,
					  COLLX_AVG, &o);
	o.flags = COLLX_ACCUMULATE;
	if (!rc)
		rc = collx_decode(in(&sum, there), N, COLLX_FLOAT32, in(&coded, there), coded.len,
				  COLLX_Q8, &o);
	wires[0] = in(&x[0], there);
	wires[1] = in(&sum, there);
	o.flags = 0;
	return rc ? rc : collx_reduce_local(in(&sum, there), wires, INPUTS, N, COLLX_FLOAT32,
					    COLLX_SUM, &o);
}

/* The largest of an array, merged with themselves, added to another. */
static int sparse(int there)
{
	collx_topk_opts o = COLLX_TOPK_OPTS_INIT;
	const void *two[] = {in(&msg, there), in(&msg, there)};
	const size_t len[] = {msg.len, msg.len};
	collx_topk_info *info = in(&told, there);
	int rc;

	o.memory = there ? COLLX_MEMORY_CUDA : COLLX_MEMORY_HOST;
	o.stream = gpu_stream();
	o.residual = in(&residual, there);
	o.work = there ? work_there : work;
	o.work_len = work_len;
	rc = collx_topk(in(&msg, there), msg.len, in(&x[0], there), N, COLLX_FLOAT32, K, &o, info);
	if (!rc)
		rc = collx_sparse_merge(in(&merged, there), ROOM, two, len, 2, N, &o, info);
	return rc ? rc : collx_sparse_add(in(&sum, there), N, in(&merged, there), ROOM, &o, info);
}

static int told_same(void)
{
	collx_topk_info mine, right;

	gpu_take(&mine, told.gpu, sizeof(mine));
	memcpy(&right, told.host, sizeof(right));
	return mine.status == right.status && mine.len == right.len &&
	       mine.entries == right.entries;
}

static int compare(int is_sparse)
{
	int bad = NEED(same(&sum)) | NEED(same(&residual));

	if (is_sparse)
		return bad | NEED(told_same());
	return bad | NEED(same(&wire[0])) | NEED(same(&wire[1])) | NEED(same(&coded));
}

/* Each run has other inputs, and the sums and residuals that the last one left. */
static int replay(int (*calls)(int there), int is_sparse)
{
	struct gpu_graph *g;
	int rc, bad;

	renew(&sum, 0, 1);
	renew(&residual, 0, 2);
	memcpy(told.host, &(collx_topk_info)COLLX_TOPK_INFO_INIT, sizeof(collx_topk_info));
	gpu_capture();
	rc = calls(1);
	g = gpu_graph();
	bad = NEED(rc == 0 && g);
	for (unsigned run = 0; !bad && run < RUNS; run++) {
		for (unsigned i = 0; i < INPUTS; i++)
			renew(&x[i], run, i + 3);
		bad = NEED(calls(0) == 0);
		gpu_run(g);
		bad |= compare(is_sparse);
	}
	gpu_drop(g);
	return bad;
}

int gpu_capture_case(uint64_t i, size_t most, char why[GPU_WHY])
{
	int bad = begin(why);

	(void)i;
	(void)most;
	if (!bad)
		bad = replay(dense, 0);
	if (!bad)
		bad = replay(sparse, 1);
	if (!bad)
		bad = NEED(gpu_launched() > launches);
	gpu_reset();
	return bad;
}
