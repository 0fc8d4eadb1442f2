/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * In each round a copy on the device is timed and then every kernel once, by events on
 * one stream; the best round of each counts. C is what the copy reads and writes in a
 * second; a kernel's share is its bytes / (C * time). Top-k's is its floor of 12 bytes an
 * element over its time.
 */
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/driver.h"
#include "kernels/topk.h"
#include "perf/perf_kernels_cuda.h"

enum { INPUTS = 8, SPARSE = 100 };
#define F32 COLLX_FLOAT32
#define F16 COLLX_FLOAT16
#define B16 COLLX_BFLOAT16

struct bench {
	const struct cx_cuda_driver *d;
	CUstream stream;
	CUevent from, to;
	size_t n;
	void *x[INPUTS], *shorts[INPUTS]; /* x as `type`, where that is not float */
	void *out, *residual, *wire[INPUTS], *encoded;
	collx_type type;
	enum cx_format format;
	void *msg[INPUTS], *work, *sparse_work;
	collx_topk_info *chosen;
	size_t msg_len[INPUTS];
	int failed;
	char name[64];
};

/* ---- the kernels ---- */

static int copy(struct bench *b)
{
	CUresult r = b->d->cuMemcpyDtoDAsync((CUdeviceptr)(uintptr_t)b->out,
					     (CUdeviceptr)(uintptr_t)b->x[0], b->n * 4, b->stream);

	return r == CUDA_SUCCESS ? 0 : cx_cuda_fail(b->d, r, "copying");
}

static int fold(struct bench *b, unsigned inputs, collx_op op)
{
	const void *const *in = (const void *const *)(b->type == F32 ? b->x : b->shorts);

	return cx_cuda_fold(b->out, in, inputs, b->n, b->type, op == COLLX_AVG ? COLLX_SUM : op,
			    op == COLLX_AVG ? inputs : 1, b->stream);
}

static int fold_2(struct bench *b)
{
	return fold(b, 2, COLLX_SUM);
}

static int fold_8(struct bench *b)
{
	return fold(b, 8, COLLX_SUM);
}

static int average_8(struct bench *b)
{
	return fold(b, 8, COLLX_AVG);
}

static int encode_by(struct bench *b, int stochastic)
{
	struct cx_rounding r = {.stochastic = stochastic, .seed = 1};

	return cx_cuda_encode(b->format, b->type, b->encoded,
			      b->type == F32 ? b->x[0] : b->shorts[0], b->n, &r, b->stream);
}

static int encode(struct bench *b)
{
	return encode_by(b, 0);
}

static int encode_random(struct bench *b)
{
	return encode_by(b, 1);
}

static int feedback(struct bench *b)
{
	return cx_cuda_feedback(b->format, F32, b->encoded, b->x[0], b->residual, b->n, 1.0f,
				NULL, b->stream);
}

static int decode(struct bench *b)
{
	return cx_cuda_decode(b->format, b->type, b->out, b->wire[0], b->n, b->stream);
}

static int accumulate(struct bench *b)
{
	return cx_cuda_accumulate(b->format, b->out, b->wire[0], b->n, b->stream);
}

static int fuse(struct bench *b)
{
	struct cx_fuse u = {.inputs = (const void *const *)b->wire, .count = INPUTS, .own = INPUTS,
			    .divisor = 1};

	return cx_cuda_fuse(b->format, b->encoded, &u, b->n, b->stream);
}

/* The residual grows by the gradient at each call, and the k-th key with it, by less and less. */
static int topk(struct bench *b)
{
	struct cx_cuda_topk t = {.gradient = b->x[1], .type = COLLX_FLOAT32, .decay = 0.5f,
				 .residual = b->residual, .n = b->n, .k = b->n / SPARSE,
				 .floor = 1, .keep = 1, .msg = b->msg[0], .info = b->chosen,
				 .value_type = COLLX_FLOAT32, .work = b->work};

	return cx_cuda_topk(&t, b->stream);
}

static int sparse_add(struct bench *b)
{
	return cx_cuda_sparse_add(b->out, b->n, b->msg[1], b->msg_len[1], b->sparse_work, NULL,
				  b->stream);
}

static int sparse_merge(struct bench *b)
{
	size_t room = cx_sparse_bound(b->n, b->n / SPARSE * (INPUTS - 1), COLLX_FLOAT32);

	return cx_cuda_sparse_merge(b->out, room, COLLX_FLOAT32, (const void *const *)b->msg + 1,
				    b->msg_len + 1, INPUTS - 1, b->n, b->sparse_work, NULL,
				    b->stream);
}

/* Bytes of an element, those of encoded arrays apart; goal 0: none is promised. A sparse sum
 * reads and writes sectors of 8 floats: 1 - 0.99^8 of all. */
static const struct kernel {
	const char *name;
	int (*run)(struct bench *b);
	collx_type type;
	enum cx_format format;
	double bytes, wires, goal;
} kernels[] = {
	{"copy", copy, F32, CX_Q8, 8, 0, 0},
	{"reduce 2 float", fold_2, F32, CX_Q8, 12, 0, 0.93},
	{"reduce 2 bfloat16", fold_2, B16, CX_Q8, 6, 0, 0.93},
	{"reduce 2 half", fold_2, F16, CX_Q8, 6, 0, 0.93},
	{"reduce 8 bfloat16", fold_8, B16, CX_Q8, 18, 0, 0.93},
	{"average 8 float", average_8, F32, CX_Q8, 36, 0, 0.93},
	{"quantize float q8", encode, F32, CX_Q8, 4, 1, 0.93},
	{"quantize float q4", encode, F32, CX_Q4, 4, 1, 0.93},
	{"quantize float bf16", encode, F32, CX_BF16, 4, 1, 0.93},
	{"quantize bfloat16 q8", encode, B16, CX_Q8, 2, 1, 0.93},
	{"quantize bfloat16 q4", encode, B16, CX_Q4, 2, 1, 0.93},
	{"quantize half q8", encode, F16, CX_Q8, 2, 1, 0.93},
	{"quantize half q4", encode, F16, CX_Q4, 2, 1, 0.93},
	{"stochastic float q8", encode_random, F32, CX_Q8, 4, 1, 0},
	{"stochastic float q4", encode_random, F32, CX_Q4, 4, 1, 0},
	{"feedback float q8", feedback, F32, CX_Q8, 12, 1, 0},
	{"feedback float q4", feedback, F32, CX_Q4, 12, 1, 0},
	{"dequantize q8 float", decode, F32, CX_Q8, 4, 1, 0},
	{"dequantize q4 float", decode, F32, CX_Q4, 4, 1, 0},
	{"dequantize bf16 float", decode, F32, CX_BF16, 4, 1, 0},
	{"dequantize q8 bfloat16", decode, B16, CX_Q8, 2, 1, 0},
	{"dequantize q4 half", decode, F16, CX_Q4, 2, 1, 0},
	{"dequantize bf16 bfloat16", decode, B16, CX_BF16, 2, 1, 0},
	{"accumulate q8", accumulate, F32, CX_Q8, 8, 1, 0},
	{"accumulate q4", accumulate, F32, CX_Q4, 8, 1, 0},
	{"accumulate bf16", accumulate, F32, CX_BF16, 8, 1, 0},
	{"fused reduce 8 q8", fuse, F32, CX_Q8, 0, INPUTS + 1, 0.90},
	{"fused reduce 8 q4", fuse, F32, CX_Q4, 0, INPUTS + 1, 0.90},
	{"fused reduce 8 bf16", fuse, F32, CX_BF16, 0, INPUTS + 1, 0.90},
	{"top-k 1% (of its floor)", topk, F32, CX_Q8, 12, 0, 1 / 1.15},
	{"sparse add 1%", sparse_add, F32, CX_Q8, 0.68, 0, 0},
	{"sparse merge 7 of 1%", sparse_merge, F32, CX_Q8, 0.82, 0, 0},
};
enum { KERNELS = sizeof(kernels) / sizeof(kernels[0]) };

/* ---- setting up ---- */

static void must(struct bench *b, CUresult r, const char *what)
{
	if (r == CUDA_SUCCESS || b->failed)
		return;
	cx_cuda_fail(b->d, r, what);
	b->failed = 1;
}

static void *allocate(struct bench *b, size_t len)
{
	CUdeviceptr p = 0;

	must(b, b->d->cuMemAlloc(&p, len), "allocating");
	if (!b->failed)
		must(b, b->d->cuMemsetD32Async(p, 0, len / 4, b->stream), "clearing");
	/* What comes next may not be on our stream, which waits for no other. */
	if (!b->failed)
		must(b, b->d->cuStreamSynchronize(b->stream), "clearing");
	return (void *)(uintptr_t)p;
}

/* About normal numbers, another sequence for each array. */
static void fill(struct bench *b, void *to, uint32_t seed)
{
	float *x = malloc(b->n * 4);

	for (size_t i = 0; x && i < b->n; i++) {
		float sum = -2.0f;

		for (unsigned k = 0; k < 4; k++) {
			seed = seed * 1664525u + 1013904223u;
			sum += (float)(seed >> 8) * 0x1p-24f;
		}
		x[i] = sum * 1e-3f;
	}
	must(b, x ? b->d->cuMemcpyHtoD((CUdeviceptr)(uintptr_t)to, x, b->n * 4) :
	     CUDA_ERROR_OUT_OF_MEMORY, "filling an array");
	/* The copy may be on its way yet. */
	if (!b->failed)
		must(b, b->d->cuStreamSynchronize(CU_STREAM_LEGACY), "filling an array");
	free(x);
}

static int open_device(struct bench *b)
{
	CUdevice device;
	CUcontext ctx;

	if (!cx_cuda_built() || cx_cuda_driver(&b->d))
		return 77;
	must(b, b->d->cuDeviceGet(&device, 0), "cuDeviceGet");
	if (!b->failed)
		must(b, b->d->cuDeviceGetName(b->name, sizeof(b->name), device), "cuDeviceGetName");
	if (!b->failed)
		must(b, b->d->cuDevicePrimaryCtxRetain(&ctx, device), "cuDevicePrimaryCtxRetain");
	if (!b->failed)
		must(b, b->d->cuCtxPushCurrent(ctx), "cuCtxPushCurrent");
	if (!b->failed)
		must(b, b->d->cuStreamCreate(&b->stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
	if (!b->failed)
		must(b, b->d->cuEventCreate(&b->from, CU_EVENT_DEFAULT), "cuEventCreate");
	if (!b->failed)
		must(b, b->d->cuEventCreate(&b->to, CU_EVENT_DEFAULT), "cuEventCreate");
	return b->failed ? 2 : 0;
}

/* Messages of the largest elements of every array, made by top-k itself. */
static void make_messages(struct bench *b)
{
	collx_topk_info chosen = COLLX_TOPK_INFO_INIT;

	for (unsigned i = 1; i < INPUTS && !b->failed; i++) {
		struct cx_cuda_topk t = {.gradient = b->x[i], .type = COLLX_FLOAT32, .n = b->n,
					 .k = b->n / SPARSE, .floor = 1, .msg = b->msg[i],
					 .value_type = COLLX_FLOAT32, .info = b->chosen,
					 .work = b->work};

		b->failed = cx_cuda_topk(&t, b->stream) != 0;
		if (!b->failed)
			must(b, b->d->cuStreamSynchronize(b->stream), "top-k");
		if (!b->failed)
			must(b, b->d->cuMemcpyDtoH(&chosen, (CUdeviceptr)(uintptr_t)b->chosen,
						   sizeof(chosen)), "reading what top-k chose");
		b->msg_len[i] = chosen.len;
	}
}

static void prepare(struct bench *b)
{
	size_t wire = cx_wire_bytes(CX_BF16, b->n), k = b->n / SPARSE;

	b->out = allocate(b, b->n * 4);
	b->residual = allocate(b, b->n * 4);
	b->encoded = allocate(b, wire);
	b->work = allocate(b, cx_cuda_topk_work(b->n, k));
	b->sparse_work = allocate(b, cx_cuda_sparse_work(b->n));
	b->chosen = allocate(b, sizeof(*b->chosen));
	for (unsigned i = 0; i < INPUTS && !b->failed; i++) {
		b->x[i] = allocate(b, b->n * 4);
		b->shorts[i] = allocate(b, b->n * 2);
		b->wire[i] = allocate(b, wire);
		b->msg[i] = allocate(b, cx_sparse_bound(b->n, k, COLLX_FLOAT32));
		if (!b->failed)
			fill(b, b->x[i], i + 1);
	}
	make_messages(b);
}

/* ---- measuring ---- */

/* What a kernel reads: encoded inputs, or short ones, narrowed on the way through bf16. */
static void set_up(struct bench *b, const struct kernel *k)
{
	b->type = k->type;
	b->format = k->format;
	for (unsigned i = 0; i < INPUTS && k->type != F32 && !b->failed; i++)
		b->failed |= cx_cuda_encode(CX_BF16, F32, b->encoded, b->x[i], b->n, NULL,
					    b->stream) ||
			     cx_cuda_decode(CX_BF16, k->type, b->shorts[i], b->encoded, b->n,
					    b->stream);
	for (unsigned i = 0; i < INPUTS && k->wires > 0 && !b->failed; i++)
		b->failed |= cx_cuda_encode(k->format, F32, b->wire[i], b->x[i], b->n, NULL,
					    b->stream) != 0;
}

static void measure(struct bench *b, const struct kernel *k, double *best)
{
	float ms = 0;

	set_up(b, k);
	for (int turn = 0; turn < 4 && !b->failed; turn++) {
		must(b, b->d->cuEventRecord(b->from, b->stream), "cuEventRecord");
		b->failed |= k->run(b) != 0;
		if (b->failed)
			return;
		must(b, b->d->cuEventRecord(b->to, b->stream), "cuEventRecord");
		must(b, b->d->cuEventSynchronize(b->to), k->name);
		must(b, b->d->cuEventElapsedTime(&ms, b->from, b->to), "cuEventElapsedTime");
		if (turn && (*best == 0 || ms < *best))
			*best = ms;
	}
}

static double bytes_of(const struct bench *b, const struct kernel *k)
{
	return k->bytes * (double)b->n + k->wires * (double)cx_wire_bytes(k->format, b->n);
}

static void report(const struct bench *b, const double best[KERNELS], FILE *json)
{
	double c = bytes_of(b, &kernels[0]) / best[0];

	printf("# %s, driver for CUDA %d.%d, %zu elements, copy %.0f GB/s (read and written)\n",
	       b->name, b->d->version / 1000, b->d->version % 1000 / 10, b->n, c / 1e6);
	printf("# %-26s %9s %9s %7s %6s\n", "kernel", "ms", "GB/s", "share", "goal");
	if (json)
		fprintf(json, "{\"device\": \"%s\", \"driver\": %d, \"elements\": %zu, "
			"\"copy_bytes_per_s\": %.6g, \"kernels\": [", b->name, b->d->version, b->n,
			c * 1e3);
	for (unsigned i = 0; i < KERNELS; i++) {
		const struct kernel *k = &kernels[i];
		double rate = bytes_of(b, k) / best[i], share = rate / c;

		printf("%-28s %9.4f %9.0f %7.3f", k->name, best[i], rate / 1e6, share);
		printf(k->goal > 0 ? " %6.2f%s\n" : "\n", k->goal,
		       share < k->goal ? "  missed" : "");
		if (json)
			fprintf(json, "%s\n  {\"kernel\": \"%s\", \"ms\": %.5g, \"bytes\": %.0f, "
				"\"share\": %.4f, \"goal\": %.3f}", i ? "," : "", k->name, best[i],
				bytes_of(b, k), share, k->goal);
	}
	if (json)
		fprintf(json, "\n]}");
}

int perf_kernels_cuda(uint64_t bytes, unsigned rounds, FILE *json)
{
	static double best[KERNELS];
	static struct bench b;
	int rc;

	b.n = cx_max(bytes / 4 / CX_CHUNK, 1) * CX_CHUNK;
	rc = open_device(&b);
	if (rc == 0)
		prepare(&b);
	for (unsigned i = 0; rc == 0 && i < rounds; i++)
		for (unsigned k = 0; k < KERNELS && !b.failed; k++) {
			measure(&b, &kernels[0], &best[0]);
			measure(&b, &kernels[k], &best[k]);
		}
	if (rc || b.failed) {
		fprintf(stderr, "collx-perf: %s\n", cx_cuda_built() ? cx_error_text() :
			"this libcollx was built without GPU kernels");
		return rc ? rc : 2;
	}
	report(&b, best, json);
	return 0;
}
