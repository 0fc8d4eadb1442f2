/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The public functions with COLLX_MEMORY_CUDA: each call gives the bytes that the same call gives
 * on the host, and what cannot be done is refused with nothing launched and no byte changed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "codec_cases.h"
#include "gpu.h"
#include "gpu_cases.h"

enum { N = 2500, K = 70, INPUTS = 3, MOST = 1 << 18 };

static unsigned asked, bad;

static void need(int line, int holds, const char *what)
{
	asked++;
	if (holds && !gpu_wrong())
		return;
	printf("tests/gpu_api.c:%d: not so: %s; the last line was: %s; %s\n", line, what,
	       cx_error_text(), gpu_wrong() ? gpu_wrong() : "no fault");
	gpu_forgive();
	bad++;
}

#define NEED(cond) need(__LINE__, (cond) ? 1 : 0, #cond)

/* An array on both sides. */
struct both {
	unsigned char host[MOST];
	void *gpu;
	size_t len;
};

static void put(struct both *b, size_t len)
{
	b->len = len;
	b->gpu = gpu_make(b->host, len, 4);
}

static int same(const struct both *b)
{
	static unsigned char mine[MOST];

	gpu_take(mine, b->gpu, b->len);
	return !memcmp(mine, b->host, b->len);
}

static struct both in[INPUTS], wire[INPUTS], out, residual;

static collx_codec_opts on_gpu(collx_codec_opts o)
{
	o.memory = COLLX_MEMORY_CUDA;
	o.stream = gpu_stream();
	if (o.residual)
		o.residual = residual.gpu;
	return o;
}

static void begin(void)
{
	float x[N];

	gpu_reset();
	for (unsigned i = 0; i < INPUTS; i++) {
		codec_fill(x, N, i % 2, i + 1);
		memcpy(in[i].host, x, sizeof(x));
		put(&in[i], sizeof(x));
		collx_encode(wire[i].host, MOST, x, N, COLLX_FLOAT32, COLLX_Q8, NULL);
		put(&wire[i], collx_encoded_size(N, COLLX_Q8));
	}
	codec_fill(x, N, 0, 9);
	memcpy(residual.host, x, sizeof(x));
	put(&residual, sizeof(x));
	memset(out.host, 0x33, sizeof(out.host));
	put(&out, sizeof(x));
}

static void test_encode(uint32_t flags, int feedback)
{
	collx_codec_opts o = COLLX_CODEC_OPTS_INIT, g;

	begin();
	o.flags = flags;
	o.seed = 7;
	o.index = 4096;
	o.residual = feedback ? (float *)(void *)residual.host : NULL;
	g = on_gpu(o);
	NEED(collx_encode(out.host, MOST, in[0].host, N, COLLX_FLOAT32, COLLX_Q4, &o) == 0);
	NEED(collx_encode(out.gpu, MOST, in[0].gpu, N, COLLX_FLOAT32, COLLX_Q4, &g) == 0);
	NEED(same(&out) && same(&residual) && same(&in[0]));
}

static void test_decode(uint32_t flags)
{
	collx_codec_opts o = COLLX_CODEC_OPTS_INIT, g;

	begin();
	o.flags = flags;
	g = on_gpu(o);
	if (flags) { /* a sum with what is there, which must be numbers */
		memcpy(out.host, in[1].host, in[1].len);
		put(&out, in[1].len);
	}
	NEED(collx_decode(out.host, N, COLLX_FLOAT32, wire[0].host, MOST, COLLX_Q8, &o) == 0);
	NEED(collx_decode(out.gpu, N, COLLX_FLOAT32, wire[0].gpu, MOST, COLLX_Q8, &g) == 0);
	NEED(same(&out));
}

static void test_reduce(collx_op op)
{
	collx_codec_opts g = on_gpu((collx_codec_opts)COLLX_CODEC_OPTS_INIT);
	const void *host[INPUTS], *gpu[INPUTS];

	begin();
	for (unsigned i = 0; i < INPUTS; i++) {
		host[i] = in[i].host;
		gpu[i] = in[i].gpu;
	}
	NEED(collx_reduce_local(out.host, host, INPUTS, N, COLLX_FLOAT32, op, NULL) == 0);
	NEED(collx_reduce_local(out.gpu, gpu, INPUTS, N, COLLX_FLOAT32, op, &g) == 0);
	NEED(same(&out));
}

static void test_reduce_encoded(uint32_t flags, int own, int feedback)
{
	collx_codec_opts o = COLLX_CODEC_OPTS_INIT, g;
	const void *host[INPUTS], *gpu[INPUTS];

	begin();
	o.flags = flags;
	o.own = own;
	o.residual = feedback ? (float *)(void *)residual.host : NULL;
	g = on_gpu(o);
	for (int i = 0; i < INPUTS; i++) {
		host[i] = i == own ? in[i].host : wire[i].host;
		gpu[i] = i == own ? in[i].gpu : wire[i].gpu;
	}
	NEED(collx_reduce_encoded(out.host, MOST, host, INPUTS, N, COLLX_Q8, COLLX_AVG, &o) == 0);
	NEED(collx_reduce_encoded(out.gpu, MOST, gpu, INPUTS, N, COLLX_Q8, COLLX_AVG, &g) == 0);
	NEED(same(&out) && same(&residual));
}

/* Twice: the second call has the first one's hint. Then of nothing. */
static void test_topk(size_t n, size_t k, collx_type value_type)
{
	collx_topk_opts o = COLLX_TOPK_OPTS_INIT, g;
	collx_topk_info info = COLLX_TOPK_INFO_INIT, mine = info, *there;
	size_t work = collx_topk_work(n, k);

	begin();
	o.value_type = value_type;
	o.residual = (float *)(void *)residual.host;
	there = gpu_make(&info, sizeof(info), 0);
	g = o;
	g.memory = COLLX_MEMORY_CUDA;
	g.stream = gpu_stream();
	g.residual = residual.gpu;
	g.work = gpu_make(NULL, work, 3);
	g.work_len = work;
	for (int i = 0; i < 2; i++) {
		NEED(collx_topk(out.host, MOST, in[0].host, n, COLLX_FLOAT32, k, &o, &info) == 0);
		NEED(collx_topk(out.gpu, MOST, in[0].gpu, n, COLLX_FLOAT32, k, &g, there) == 0);
		gpu_take(&mine, there, sizeof(mine));
		NEED(mine.len == info.len && mine.entries == info.entries);
		NEED(mine.hint == info.hint && mine.unfit == info.unfit);
		out.len = info.len;
		NEED(same(&out) && same(&residual));
	}
}

/* ---- sparse messages ---- */

enum { LONG = 40000 }; /* three chunks: a list, a bitmap, all */

static struct both msg[INPUTS], sum;
static collx_topk_info *told;

static collx_topk_opts sparse_opts(collx_type value_type, size_t count)
{
	collx_topk_opts g = COLLX_TOPK_OPTS_INIT;

	g.memory = COLLX_MEMORY_CUDA;
	g.stream = gpu_stream();
	g.value_type = value_type;
	g.work_len = collx_sparse_work(count);
	g.work = gpu_make(NULL, g.work_len, 5);
	return g;
}

/* Arrays of `count` elements, of which the last chunk is full, as messages on both sides. */
static void begin_sparse(size_t count, size_t extra)
{
	static float x[LONG];
	collx_topk_opts o = COLLX_TOPK_OPTS_INIT;
	collx_topk_info info = COLLX_TOPK_INFO_INIT;

	gpu_reset();
	for (unsigned i = 0; i < INPUTS; i++) {
		codec_fill(x, LONG, 0, i + 3);
		for (size_t j = 0; j < count; j++)
			if (j / 16384 < 2 && j % (j / 16384 ? 7 : 300) != i)
				x[j] = 0;
		o.value_type = i % 2 ? COLLX_BFLOAT16 : COLLX_FLOAT32;
		memset(msg[i].host, 0xee, MOST);
		NEED(collx_topk(msg[i].host, MOST, x, count, COLLX_FLOAT32, count / 4, &o,
				&info) == 0);
		put(&msg[i], info.len + extra);
	}
	codec_fill(x, LONG, 0, 9);
	memset(sum.host, 0, MOST);
	memcpy(sum.host, x, sizeof(x));
	put(&sum, count * sizeof(float));
	memset(out.host, 0x33, MOST);
	put(&out, MOST);
	told = gpu_make(NULL, sizeof(*told), 0);
}

static int told_is(const collx_topk_info *right)
{
	collx_topk_info mine;

	gpu_take(&mine, told, sizeof(mine));
	return mine.status == right->status && mine.len == right->len &&
	       mine.entries == right->entries && mine.hint == 0 && mine.unfit == 0;
}

/* extra: bytes behind the messages that belong to none. */
static void test_sparse_add(size_t count, size_t extra)
{
	collx_topk_info info = COLLX_TOPK_INFO_INIT;
	collx_topk_opts g;

	begin_sparse(count, extra);
	g = sparse_opts(COLLX_FLOAT32, count);
	for (unsigned i = 0; i < INPUTS; i++) {
		NEED(collx_sparse_add((float *)(void *)sum.host, count, msg[i].host, msg[i].len,
				      NULL, &info) == 0);
		NEED(collx_sparse_add(sum.gpu, count, msg[i].gpu, msg[i].len, &g, told) == 0);
		NEED(told_is(&info) && same(&sum) && same(&msg[i]));
	}
}

/* The merged message is the next call's, whose length the host need not know. */
static void test_sparse_merge(size_t count, int inputs, collx_type value_type)
{
	collx_topk_info info = COLLX_TOPK_INFO_INIT;
	collx_topk_opts o = COLLX_TOPK_OPTS_INIT, g;
	const void *host[INPUTS], *gpu[INPUTS];
	size_t len[INPUTS];

	begin_sparse(count, 0);
	o.value_type = value_type;
	g = sparse_opts(value_type, count);
	for (int i = 0; i < inputs; i++) {
		host[i] = msg[i].host;
		gpu[i] = msg[i].gpu;
		len[i] = msg[i].len;
	}
	NEED(collx_sparse_merge(out.host, MOST, host, len, inputs, count, &o, &info) == 0);
	NEED(collx_sparse_merge(out.gpu, MOST, gpu, len, inputs, count, &g, told) == 0);
	NEED(told_is(&info) && same(&out));
	NEED(collx_sparse_add((float *)(void *)sum.host, count, out.host, info.len, NULL,
			      NULL) == 0);
	NEED(collx_sparse_add(sum.gpu, count, out.gpu, MOST, &g, told) == 0);
	NEED(told_is(&info) && same(&sum));
}

/* What the device finds wrong: the host's code as status, outputs untouched. */
static void test_hostile(void)
{
	static const size_t bytes[] = {0, 4, 6, 8, 16, 24, 32, 36, 38, 39, 47, 48};
	collx_topk_info wrong = COLLX_TOPK_INFO_INIT;
	const void *these[INPUTS];
	size_t len[INPUTS];
	collx_topk_opts g;

	for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
		begin_sparse(LONG, 0);
		msg[1].host[bytes[i]] ^= 1;
		put(&msg[1], msg[1].len);
		g = sparse_opts(COLLX_FLOAT32, LONG);
		wrong.status = collx_sparse_add((float *)(void *)sum.host, LONG, msg[1].host,
						msg[1].len, NULL, NULL);
		NEED(wrong.status == COLLX_ERR_CORRUPT);
		NEED(collx_sparse_add(sum.gpu, LONG, msg[1].gpu, msg[1].len, &g, told) == 0);
		NEED(told_is(&wrong) && same(&sum));
		for (unsigned k = 0; k < INPUTS; k++) {
			these[k] = msg[k].gpu;
			len[k] = msg[k].len;
		}
		NEED(collx_sparse_merge(out.gpu, MOST, these, len, INPUTS, LONG, &g, told) == 0);
		NEED(told_is(&wrong) && same(&out));
	}
	/* A byte less than all of it. */
	NEED(collx_sparse_add(sum.gpu, LONG, msg[0].gpu, msg[0].len - 1, &g, told) == 0);
	NEED(told_is(&wrong) && same(&sum));
	NEED(collx_sparse_add(sum.gpu, LONG, msg[0].gpu, 8, &g, told) == 0);
	NEED(told_is(&wrong) && same(&sum));
	NEED(collx_sparse_add(sum.gpu, LONG - 1, msg[0].gpu, msg[0].len, &g, told) == 0);
	NEED(told_is(&wrong) && same(&sum));
}

/* One byte of room less than the host asks for. */
static void test_small_room(void)
{
	collx_topk_info info = COLLX_TOPK_INFO_INIT, wrong = info;
	const void *host[] = {msg[0].host, msg[1].host}, *gpu[2];
	size_t len[2], entries = 0, room;
	collx_topk_opts g;

	begin_sparse(LONG, 0);
	g = sparse_opts(COLLX_FLOAT32, LONG);
	for (unsigned i = 0; i < 2; i++) {
		gpu[i] = msg[i].gpu;
		len[i] = msg[i].len;
		NEED(collx_sparse_add((float *)(void *)sum.host, LONG, host[i], len[i], NULL,
				      &info) == 0);
		entries += info.entries;
	}
	room = collx_sparse_size(LONG, cx_min(entries, LONG), COLLX_FLOAT32);
	wrong.status = collx_sparse_merge(out.host, room - 1, host, len, 2, LONG, NULL, NULL);
	NEED(wrong.status == COLLX_ERR_INVALID);
	NEED(collx_sparse_merge(out.gpu, room - 1, gpu, len, 2, LONG, &g, told) == 0);
	NEED(told_is(&wrong) && same(&out));
	NEED(collx_sparse_merge(out.host, room, host, len, 2, LONG, NULL, &info) == 0);
	NEED(collx_sparse_merge(out.gpu, room, gpu, len, 2, LONG, &g, told) == 0);
	NEED(told_is(&info) && same(&out));
}

static int add_to(void *to, collx_topk_opts g, collx_topk_info *info)
{
	return collx_sparse_add(to, LONG, msg[0].gpu, msg[0].len, &g, info);
}

static int merge_to(void *to, size_t room, collx_topk_opts g, collx_topk_info *info)
{
	const void *these[] = {msg[0].gpu, msg[1].gpu};
	size_t len[] = {msg[0].len, msg[1].len};

	return collx_sparse_merge(to, room, these, len, 2, LONG, &g, info);
}

static void test_sparse_refused(void)
{
	collx_topk_opts g, bad_opts;
	const void *these[] = {NULL, NULL};
	unsigned long before;

	begin_sparse(LONG, 0);
	g = bad_opts = sparse_opts(COLLX_FLOAT32, LONG);
	before = gpu_launched();
	NEED(add_to(sum.gpu, g, NULL) == COLLX_ERR_INVALID);
	NEED(strstr(cx_error_text(), "info"));
	NEED(merge_to(out.gpu, MOST, g, NULL) == COLLX_ERR_INVALID);
	NEED(add_to(sum.gpu, g, (collx_topk_info *)(void *)((char *)told + 4)) ==
	     COLLX_ERR_INVALID);
	NEED(merge_to(out.gpu, 10, g, told) == COLLX_ERR_INVALID);
	NEED(merge_to(msg[1].gpu, MOST, g, told) == COLLX_ERR_INVALID); /* overlaps */
	NEED(collx_sparse_merge(out.gpu, MOST, these, &msg[0].len, 1, LONG, &g, told) ==
	     COLLX_ERR_INVALID);
	these[0] = msg[0].gpu;
	NEED(collx_sparse_merge(out.gpu, MOST, these, &msg[0].len, 1, (size_t)1 << 31, &g, told) ==
	     COLLX_ERR_INVALID); /* the work is too small */
	bad_opts.work_len = SIZE_MAX;
	NEED(collx_sparse_merge(out.gpu, SIZE_MAX / 2, these, &msg[0].len, 1, (size_t)1 << 31,
				&bad_opts, told) < 0);
	bad_opts.work_len = g.work_len - 1;
	NEED(add_to(sum.gpu, bad_opts, told) == COLLX_ERR_INVALID);
	bad_opts.work_len = g.work_len;
	bad_opts.work = NULL;
	NEED(merge_to(out.gpu, MOST, bad_opts, told) == COLLX_ERR_INVALID);
	bad_opts.work = msg[0].gpu;
	NEED(add_to(sum.gpu, bad_opts, told) == COLLX_ERR_INVALID);
	NEED(gpu_launched() == before && same(&out) && same(&sum));
}

/* ---- refused ---- */

static void test_host_messages(void)
{
	static collx_topk_info here = COLLX_TOPK_INFO_INIT;
	unsigned long before = gpu_launched();
	const void *these[1];
	collx_topk_opts g;

	begin_sparse(LONG, 0);
	g = sparse_opts(COLLX_FLOAT32, LONG);
	NEED(add_to(sum.gpu, g, &here) == COLLX_ERR_INVALID);
	NEED(add_to(sum.host, g, told) == COLLX_ERR_INVALID);
	NEED(merge_to(out.host, MOST, g, told) == COLLX_ERR_INVALID);
	these[0] = msg[0].host;
	NEED(collx_sparse_merge(out.gpu, MOST, these, &msg[0].len, 1, LONG, &g, told) ==
	     COLLX_ERR_INVALID);
	g.work = sum.host;
	NEED(add_to(sum.gpu, g, told) == COLLX_ERR_INVALID);
	NEED(gpu_launched() == before && same(&out) && same(&sum));
}

static void test_host_pointers(void)
{
	static unsigned char mine[MOST];
	collx_codec_opts g = on_gpu((collx_codec_opts)COLLX_CODEC_OPTS_INIT);
	const void *mixed[] = {in[0].gpu, in[1].host};
	unsigned long before;

	begin();
	mixed[0] = in[0].gpu;
	before = gpu_launched();
	memcpy(mine, out.host, MOST);
	NEED(collx_encode(out.host, MOST, in[0].gpu, N, COLLX_FLOAT32, COLLX_Q8, &g) ==
	     COLLX_ERR_INVALID);
	NEED(strstr(cx_error_text(), "host memory"));
	NEED(collx_encode(out.gpu, MOST, in[0].host, N, COLLX_FLOAT32, COLLX_Q8, &g) ==
	     COLLX_ERR_INVALID);
	NEED(collx_decode(out.host, N, COLLX_FLOAT32, wire[0].gpu, MOST, COLLX_Q8, &g) ==
	     COLLX_ERR_INVALID);
	NEED(collx_reduce_local(out.gpu, mixed, 2, N, COLLX_FLOAT32, COLLX_SUM, &g) ==
	     COLLX_ERR_INVALID);
	NEED(collx_reduce_encoded(out.gpu, MOST, mixed, 2, N, COLLX_Q8, COLLX_SUM, &g) ==
	     COLLX_ERR_INVALID);
	g.residual = (float *)(void *)residual.host;
	NEED(collx_encode(out.gpu, MOST, in[0].gpu, N, COLLX_FLOAT32, COLLX_Q8, &g) ==
	     COLLX_ERR_INVALID);
	NEED(gpu_launched() == before && !memcmp(mine, out.host, MOST) && same(&out));
}

/* Device memory in a call for the host: each place of each function, nothing read or written. */
static void test_device_pointers(void)
{
	static collx_topk_info info = COLLX_TOPK_INFO_INIT;
	collx_codec_opts o = COLLX_CODEC_OPTS_INIT;
	collx_topk_opts t = COLLX_TOPK_OPTS_INIT;
	collx_result no = COLLX_ERR_INVALID;
	const void *mixed[2];
	void *there;

	begin();
	mixed[0] = in[0].host;
	mixed[1] = in[1].gpu;
	there = gpu_make(&info, sizeof(info), 0);
	NEED(collx_encode(out.gpu, MOST, in[0].host, N, COLLX_FLOAT32, COLLX_Q8, NULL) == no);
	NEED(strstr(cx_error_text(), "COLLX_MEMORY_CUDA"));
	NEED(collx_encode(out.host, MOST, in[0].gpu, N, COLLX_FLOAT32, COLLX_Q8, NULL) == no);
	o.residual = residual.gpu;
	NEED(collx_encode(out.host, MOST, in[0].host, N, COLLX_FLOAT32, COLLX_Q8, &o) == no);
	NEED(collx_decode(out.gpu, N, COLLX_FLOAT32, wire[0].host, MOST, COLLX_Q8, NULL) == no);
	NEED(collx_decode(out.host, N, COLLX_FLOAT32, wire[0].gpu, MOST, COLLX_Q8, NULL) == no);
	NEED(collx_reduce_local(out.host, mixed, 2, N, COLLX_FLOAT32, COLLX_SUM, NULL) == no);
	NEED(collx_reduce_encoded(out.host, MOST, mixed, 2, N, COLLX_Q8, COLLX_SUM, NULL) == no);
	NEED(collx_topk(out.host, MOST, in[0].gpu, N, COLLX_FLOAT32, K, NULL, &info) == no);
	NEED(collx_topk(out.host, MOST, in[0].host, N, COLLX_FLOAT32, K, NULL, there) == no);
	t.residual = residual.gpu;
	NEED(collx_topk(out.host, MOST, in[0].host, N, COLLX_FLOAT32, K, &t, &info) == no);
	NEED(same(&out) && same(&in[0]) && same(&residual));
}

static void test_device_messages(void)
{
	collx_result no = COLLX_ERR_INVALID;
	const void *mixed[2];
	size_t len[2];

	begin_sparse(LONG, 0);
	for (int i = 0; i < 2; i++) {
		mixed[i] = i ? msg[i].gpu : msg[i].host;
		len[i] = msg[i].len;
	}
	NEED(collx_sparse_add(sum.gpu, LONG, msg[0].host, len[0], NULL, NULL) == no);
	NEED(collx_sparse_add((float *)(void *)sum.host, LONG, msg[0].gpu, len[0], NULL,
			      NULL) == no);
	NEED(collx_sparse_add((float *)(void *)sum.host, LONG, msg[0].host, len[0], NULL,
			      told) == no);
	NEED(collx_sparse_merge(out.host, MOST, mixed, len, 2, LONG, NULL, NULL) == no);
	NEED(collx_sparse_merge(out.gpu, MOST, mixed, len, 1, LONG, NULL, NULL) == no);
	NEED(same(&out) && same(&sum));
}

static void test_topk_refused(void)
{
	collx_topk_opts g = COLLX_TOPK_OPTS_INIT;
	collx_topk_info info = COLLX_TOPK_INFO_INIT;
	size_t work = collx_topk_work(N, K);
	unsigned long before;

	begin();
	before = gpu_launched();
	g.memory = COLLX_MEMORY_CUDA;
	g.stream = gpu_stream();
	NEED(collx_topk(out.gpu, MOST, in[0].gpu, N, COLLX_FLOAT32, K, &g, NULL) ==
	     COLLX_ERR_INVALID); /* no work */
	g.work = gpu_make(NULL, work, 0);
	g.work_len = work - 1;
	NEED(collx_topk(out.gpu, MOST, in[0].gpu, N, COLLX_FLOAT32, K, &g, NULL) ==
	     COLLX_ERR_INVALID);
	g.work_len = work;
	if (!gpu_reaches_host())
		NEED(collx_topk(out.gpu, MOST, in[0].gpu, N, COLLX_FLOAT32, K, &g, &info) ==
		     COLLX_ERR_INVALID);
	NEED(collx_topk(out.gpu, MOST, in[0].gpu, N, COLLX_FLOAT32, N + 1, &g, NULL) ==
	     COLLX_ERR_INVALID);
	NEED(gpu_launched() == before && same(&out));
}

static void test_others(void)
{
	collx_codec_opts g = on_gpu((collx_codec_opts)COLLX_CODEC_OPTS_INIT);
	unsigned long before;

	begin();
	before = gpu_launched();
	NEED(collx_encode(out.gpu, 3, in[0].gpu, N, COLLX_FLOAT32, COLLX_Q8, &g) ==
	     COLLX_ERR_INVALID);
	NEED(collx_encode(out.gpu, MOST, out.gpu, N, COLLX_FLOAT32, COLLX_Q8, &g) ==
	     COLLX_ERR_INVALID);
	NEED(collx_encode(NULL, 0, NULL, 0, COLLX_FLOAT32, COLLX_Q8, &g) == 0);
	g.memory = COLLX_MEMORY_COUNT;
	NEED(collx_encode(out.gpu, MOST, in[0].gpu, N, COLLX_FLOAT32, COLLX_Q8, &g) ==
	     COLLX_ERR_INVALID);
	NEED(gpu_launched() == before && same(&out));
}

int gpu_api_case(uint64_t i, size_t most, char why[GPU_WHY])
{
	(void)i;
	(void)most;
	asked = bad = 0;
	test_encode(0, 0);
	test_encode(COLLX_STOCHASTIC, 1);
	test_decode(0);
	test_decode(COLLX_ACCUMULATE);
	test_reduce(COLLX_MAX);
	test_reduce(COLLX_AVG);
	test_reduce_encoded(COLLX_STOCHASTIC, -1, 1);
	test_reduce_encoded(COLLX_DECODED, 1, 0);
	test_topk(N, K, COLLX_FLOAT32);
	test_topk(N, 0, COLLX_BFLOAT16);
	test_topk(0, 0, COLLX_FLOAT32);
	test_sparse_add(LONG, 0);
	test_sparse_add(LONG, 77);
	test_sparse_add(1, 0);
	test_sparse_merge(LONG, INPUTS, COLLX_FLOAT32);
	test_sparse_merge(LONG, 2, COLLX_FLOAT16);
	test_sparse_merge(100, 1, COLLX_BFLOAT16);
	test_sparse_merge(0, 2, COLLX_FLOAT32);
	test_hostile();
	test_small_room();
	test_sparse_refused();
	if (gpu_reaches_host()) {
		puts("api: the GPU follows the host's page tables, host memory is not refused");
	} else {
		test_host_pointers();
		test_host_messages();
	}
	test_device_pointers();
	test_device_messages();
	test_topk_refused();
	test_others();
	gpu_reset();
	if (bad)
		snprintf(why, GPU_WHY, "%u of %u claims about the public functions", bad, asked);
	return bad ? -1 : 0;
}
