/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collx-perf kernels: how near the arithmetic comes to what memory permits. In
 * each round the bandwidths of reading (R), writing (W) and copying (C, both
 * directions counted) are measured before every kernel. No kernel can be faster
 * than
 *
 *   bound = max(bytes read / R, bytes written / W, all bytes / C)
 *
 * and what is printed is bound / time. Of each kernel the best round counts, and of
 * the bandwidths the best of the same rounds: the best of all rounds would be that
 * of twenty times as many, and the higher for it the more others use the memory.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif

#include "perf.h"

enum { INPUTS = 4, CACHED = 96 << 10, SPARSE = 100 };

/* The arrays: n floats each, encoded ones beside them. */
struct bench {
	size_t n;
	float *x[INPUTS], *out, *residual;
	void *shorts[INPUTS]; /* x as b->type where that is not float */
	unsigned char *wire[INPUTS], *encoded, *message, *work;
	unsigned char *messages[INPUTS], *merged; /* the largest of each x */
	size_t wire_len, message_len, messages_len[INPUTS], merged_len, work_len;
	float hint;
	collx_type type;
	collx_format format;
	collx_result rc;
};

/* ---- the bandwidths ---- */

typedef float lane4 __attribute__((vector_size(16)));

/* Keeps the compiler from leaving out what computes it. */
static void use(lane4 v)
{
	__asm__ volatile("" : : "x"(v));
}

static void read_plain(struct bench *b)
{
	const lane4 *p = (const lane4 *)(const void *)b->x[0], *end = p + b->n / 4;
	lane4 s[4] = {{0}};

	for (; p < end; p += 16)
		for (unsigned k = 0; k < 4; k++)
			s[k] += p[k] + p[k + 4] + p[k + 8] + p[k + 12];
	use(s[0] + s[1] + s[2] + s[3]);
}

/* Reads with requests ahead. */
static void read_ahead(struct bench *b)
{
	const char *p = (const char *)b->x[0], *end = p + b->n * 4;
	lane4 s = {0};

	for (; p < end; p += 256) {
		for (unsigned k = 0; k < 256; k += 64)
			__builtin_prefetch(p + 4096 + k);
		for (unsigned k = 0; k < 256; k += 16)
			s += *(const lane4 *)(const void *)(p + k);
	}
	use(s);
}

static void write_plain(struct bench *b)
{
	memset(b->out, 1, b->n * 4);
}

static void copy_plain(struct bench *b)
{
	memcpy(b->out, b->x[0], b->n * 4);
}

#ifdef __SSE2__
static void write_around(struct bench *b)
{
	__m128i one = _mm_set1_epi32(1), *p = (__m128i *)(void *)b->out;

	for (size_t i = 0; i < b->n / 4; i++)
		_mm_stream_si128(p + i, one);
	_mm_sfence();
}

static void copy_around(struct bench *b)
{
	const __m128i *from = (const __m128i *)(const void *)b->x[0];
	__m128i *to = (__m128i *)(void *)b->out;

	for (size_t i = 0; i < b->n / 4; i += 4) {
		__builtin_prefetch(from + i + 256);
		for (unsigned k = 0; k < 4; k++)
			_mm_stream_si128(to + i + k, _mm_load_si128(from + i + k));
	}
	_mm_sfence();
}

/* A whole line an instruction: what 16 bytes each reach is a tenth less (Zen 5). */
#define WIDE __attribute__((target("avx512f")))

WIDE static void read_lines(struct bench *b)
{
	const char *p = (const char *)b->x[0];
	__m512i s = _mm512_setzero_si512(), t = s;

	for (size_t i = 0; i < b->n * 4; i += 128) {
		s = _mm512_add_epi32(s, _mm512_load_si512(p + i));
		t = _mm512_add_epi32(t, _mm512_load_si512(p + i + 64));
	}
	__asm__ volatile("" : : "v"(_mm512_add_epi32(s, t)));
}

WIDE static void write_lines(struct bench *b)
{
	for (size_t i = 0; i < b->n * 4; i += 64)
		_mm512_stream_si512((__m512i *)(void *)((char *)b->out + i), _mm512_set1_epi32(1));
	_mm_sfence();
}

WIDE static void copy_lines(struct bench *b)
{
	for (size_t i = 0; i < b->n * 4; i += 64)
		_mm512_stream_si512((__m512i *)(void *)((char *)b->out + i),
				    _mm512_load_si512((const char *)b->x[0] + i));
	_mm_sfence();
}

static int has_lines(void)
{
	return __builtin_cpu_supports("avx512f");
}
#else
#define write_around write_plain
#define copy_around copy_plain
#define read_lines read_plain
#define write_lines write_plain
#define copy_lines copy_plain
static int has_lines(void)
{
	return 0;
}
#endif

/* ---- the kernels ---- */

static void reduce(struct bench *b, int inputs, collx_op op)
{
	const void *in[INPUTS];

	for (unsigned k = 0; k < INPUTS; k++)
		in[k] = b->type == COLLX_FLOAT32 ? (void *)b->x[k] : b->shorts[k];
	b->rc = collx_reduce_local(b->out, in, inputs, b->n, b->type, op, NULL);
}

static void reduce_2(struct bench *b)
{
	reduce(b, 2, COLLX_SUM);
}

static void reduce_4(struct bench *b)
{
	reduce(b, 4, COLLX_SUM);
}

static void average_4(struct bench *b)
{
	reduce(b, 4, COLLX_AVG);
}

static void encode(struct bench *b, uint32_t flags, float *residual)
{
	collx_codec_opts o = COLLX_CODEC_OPTS_INIT;

	o.flags = flags;
	o.residual = residual;
	b->rc = collx_encode(b->encoded, b->wire_len,
			     b->type == COLLX_FLOAT32 ? (void *)b->x[0] : b->shorts[0], b->n,
			     b->type, b->format, &o);
}

static void quantize(struct bench *b)
{
	encode(b, 0, NULL);
}

static void quantize_random(struct bench *b)
{
	encode(b, COLLX_STOCHASTIC, NULL);
}

static void quantize_feedback(struct bench *b)
{
	encode(b, 0, b->residual);
}

static void dequantize(struct bench *b)
{
	b->rc = collx_decode(b->out, b->n, b->type, b->wire[0], b->wire_len, b->format, NULL);
}

static void accumulate(struct bench *b)
{
	collx_codec_opts o = COLLX_CODEC_OPTS_INIT;

	o.flags = COLLX_ACCUMULATE;
	b->rc = collx_decode(b->out, b->n, b->type, b->wire[0], b->wire_len, b->format, &o);
}

static void fused(struct bench *b)
{
	const void *in[INPUTS] = { b->wire[0], b->wire[1], b->wire[2], b->wire[3] };

	b->rc = collx_reduce_encoded(b->encoded, b->wire_len, in, INPUTS, b->n, b->format,
				     COLLX_SUM, NULL);
}

/* floor, hint: that these are known. */
static void topk(struct bench *b, float floor, float hint)
{
	collx_topk_opts o = COLLX_TOPK_OPTS_INIT;
	collx_topk_info info = COLLX_TOPK_INFO_INIT;

	o.residual = b->residual;
	o.floor = floor;
	o.hint = hint;
	o.work = b->work;
	o.work_len = b->work_len;
	b->rc = collx_topk(b->message, b->message_len, b->x[1], b->n, COLLX_FLOAT32, b->n / SPARSE,
			   &o, &info);
	b->hint = info.hint;
}

static void topk_floor(struct bench *b)
{
	topk(b, b->hint, 0);
}

static void topk_hint(struct bench *b)
{
	topk(b, 0, b->hint);
}

static void topk_cold(struct bench *b)
{
	topk(b, 0, 0);
}

static void sparse_add(struct bench *b)
{
	b->rc = collx_sparse_add(b->out, b->n, b->messages[0], b->messages_len[0], NULL, NULL);
}

static void sparse_merge(struct bench *b)
{
	b->rc = collx_sparse_merge(b->merged, b->merged_len, (const void *const *)b->messages,
				   b->messages_len, INPUTS, b->n, NULL, NULL);
}

/* What a kernel reads and writes: bytes for an element, and encoded arrays. */
struct kernel {
	const char *name;
	void (*run)(struct bench *b);
	collx_type type;
	collx_format format;
	double reads, writes;
	int wires_read, wires_written;
	double goal; /* the least share of the bound that we promise; 0: none */
};

#define F32 COLLX_FLOAT32
#define F16 COLLX_FLOAT16
#define B16 COLLX_BFLOAT16
#define Q8 COLLX_Q8
#define Q4 COLLX_Q4
/*
 * An entry of a message is 6 bytes, one element in 100. Adding one reads and writes the cache
 * lines of what it adds to, of 16 floats each: 1 - 0.99^16 of all.
 */
static const struct kernel kernels[] = {
	{ "reduce 2 float", reduce_2, F32, Q8, 8, 4, 0, 0, 0.9 },
	{ "reduce 4 float", reduce_4, F32, Q8, 16, 4, 0, 0, 0.9 },
	{ "average 4 float", average_4, F32, Q8, 16, 4, 0, 0, 0.9 },
	{ "reduce 2 bfloat16", reduce_2, B16, Q8, 4, 2, 0, 0, 0.9 },
	{ "reduce 2 half", reduce_2, F16, Q8, 4, 2, 0, 0, 0.9 },
	{ "average 4 bfloat16", average_4, B16, Q8, 8, 2, 0, 0, 0.9 },
	{ "quantize float q8", quantize, F32, Q8, 4, 0, 0, 1, 0.9 },
	{ "quantize float q4", quantize, F32, Q4, 4, 0, 0, 1, 0.9 },
	{ "quantize float bf16", quantize, F32, COLLX_BF16, 4, 0, 0, 1, 0.9 },
	{ "quantize bfloat16 q8", quantize, B16, Q8, 2, 0, 0, 1, 0.9 },
	{ "quantize bfloat16 q4", quantize, B16, Q4, 2, 0, 0, 1, 0.9 },
	{ "quantize bfloat16 bf16", quantize, B16, COLLX_BF16, 2, 0, 0, 1, 0.9 },
	{ "quantize half q8", quantize, F16, Q8, 2, 0, 0, 1, 0.9 },
	{ "quantize half q4", quantize, F16, Q4, 2, 0, 0, 1, 0.9 },
	{ "quantize half bf16", quantize, F16, COLLX_BF16, 2, 0, 0, 1, 0.9 },
	{ "stochastic float q8", quantize_random, F32, Q8, 4, 0, 0, 1, 0 },
	{ "stochastic float q4", quantize_random, F32, Q4, 4, 0, 0, 1, 0 },
	{ "stochastic float bf16", quantize_random, F32, COLLX_BF16, 4, 0, 0, 1, 0 },
	{ "feedback float q8", quantize_feedback, F32, Q8, 8, 4, 0, 1, 0 },
	{ "feedback float q4", quantize_feedback, F32, Q4, 8, 4, 0, 1, 0 },
	{ "dequantize q8 float", dequantize, F32, Q8, 0, 4, 1, 0, 0.9 },
	{ "dequantize q4 float", dequantize, F32, Q4, 0, 4, 1, 0, 0.9 },
	{ "dequantize bf16 float", dequantize, F32, COLLX_BF16, 0, 4, 1, 0, 0.9 },
	{ "dequantize q8 bfloat16", dequantize, B16, Q8, 0, 2, 1, 0, 0.9 },
	{ "dequantize q4 bfloat16", dequantize, B16, Q4, 0, 2, 1, 0, 0.9 },
	{ "dequantize bf16 bfloat16", dequantize, B16, COLLX_BF16, 0, 2, 1, 0, 0.9 },
	{ "dequantize q8 half", dequantize, F16, Q8, 0, 2, 1, 0, 0.9 },
	{ "dequantize q4 half", dequantize, F16, Q4, 0, 2, 1, 0, 0.9 },
	{ "dequantize bf16 half", dequantize, F16, COLLX_BF16, 0, 2, 1, 0, 0.9 },
	{ "accumulate q8", accumulate, F32, Q8, 4, 4, 1, 0, 0.9 },
	{ "accumulate q4", accumulate, F32, Q4, 4, 4, 1, 0, 0.9 },
	{ "accumulate bf16", accumulate, F32, COLLX_BF16, 4, 4, 1, 0, 0.9 },
	{ "fused reduce 4 q8", fused, F32, Q8, 0, 0, INPUTS, 1, 0.85 },
	{ "fused reduce 4 q4", fused, F32, Q4, 0, 0, INPUTS, 1, 0.85 },
	{ "fused reduce 4 bf16", fused, F32, COLLX_BF16, 0, 0, INPUTS, 1, 0.85 },
	{ "top-k 1%, threshold known", topk_floor, F32, Q8, 8, 4.06, 0, 0, 0.8 },
	{ "top-k 1%, about known", topk_hint, F32, Q8, 8, 4.06, 0, 0, 0 },
	{ "top-k 1%, unknown", topk_cold, F32, Q8, 8, 4.06, 0, 0, 0 },
	{ "sparse add 1%", sparse_add, F32, Q8, 0.65, 0.59, 0, 0, 0 },
	{ "sparse merge 4 of 1%", sparse_merge, F32, Q8, 0.24, 0.236, 0, 0, 0 },
};

enum { KERNELS = sizeof(kernels) / sizeof(kernels[0]), RATES = 9, ALL_HAVE = 6 };

/* What is measured before the kernels in every round. */
static const struct rate {
	void (*run)(struct bench *b);
	unsigned kind; /* 0 R, 1 W, 2 C */
} rates[RATES] = {
	{ read_plain, 0 }, { read_ahead, 0 }, { write_plain, 1 }, { write_around, 1 },
	{ copy_plain, 2 }, { copy_around, 2 },
	{ read_lines, 0 }, { write_lines, 1 }, { copy_lines, 2 }, /* where has_lines() */
};

/* ---- the run ---- */

static void *allocate(size_t len)
{
	void *p = mmap(NULL, len + (2 << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	if (p == MAP_FAILED) {
		fprintf(stderr, "collx-perf: no memory for %zu bytes\n", len);
		exit(2);
	}
	p = (char *)p + (-(uintptr_t)p & ((2 << 20) - 1));
	madvise(p, len, MADV_HUGEPAGE);
	memset(p, 0, len);
	return p;
}

/* About normal numbers, of both signs. */
static void fill(float *x, size_t n, uint32_t seed)
{
	for (size_t i = 0; i < n; i++) {
		float sum = -2.0f;

		for (unsigned k = 0; k < 4; k++) {
			seed = seed * 1664525u + 1013904223u;
			sum += (float)(seed >> 8) * 0x1p-24f;
		}
		x[i] = sum * 1e-3f;
	}
}

/* The largest of an array as a message. */
static void pick(struct bench *b, unsigned k)
{
	collx_topk_opts o = COLLX_TOPK_OPTS_INIT;
	collx_topk_info info = COLLX_TOPK_INFO_INIT;

	o.work = b->work;
	o.work_len = b->work_len;
	b->rc = collx_topk(b->messages[k], b->message_len, b->x[k], b->n, COLLX_FLOAT32,
			   b->n / SPARSE, &o, &info);
	b->messages_len[k] = info.len;
}

static void prepare(struct bench *b, size_t n)
{
	b->n = n;
	b->wire_len = collx_encoded_size(n, COLLX_BF16);
	b->message_len = collx_sparse_size(n, n / SPARSE, COLLX_FLOAT32);
	b->work_len = collx_topk_work(n, n / SPARSE);
	b->out = allocate(n * 4);
	b->residual = allocate(n * 4);
	b->merged_len = collx_sparse_size(n, INPUTS * (n / SPARSE), COLLX_FLOAT32);
	b->merged = allocate(b->merged_len);
	b->encoded = allocate(b->wire_len);
	b->message = allocate(b->message_len);
	b->work = allocate(b->work_len);
	for (unsigned k = 0; k < INPUTS; k++) {
		b->x[k] = allocate(n * 4);
		b->shorts[k] = allocate(n * 2);
		b->wire[k] = allocate(b->wire_len);
		b->messages[k] = allocate(b->message_len);
		fill(b->x[k], n, k + 1);
		pick(b, k);
	}
	topk_cold(b); /* for its hint */
}

/* Time of this thread on a processor: what others take from it does not count. */
static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double seconds(struct bench *b, void (*run)(struct bench *b))
{
	double start = now();

	run(b);
	if (b->rc) {
		fprintf(stderr, "collx-perf: %s\n", collx_last_error(NULL));
		exit(2);
	}
	return now() - start;
}

/* Sets up for a kernel what it reads: encoded inputs of its format. */
static void set_up(struct bench *b, const struct kernel *k)
{
	b->type = k->type;
	for (unsigned i = 0; k->type != COLLX_FLOAT32 && i < INPUTS; i++) {
		/* narrowed on the way through bf16 */
		collx_encode(b->encoded, b->wire_len, b->x[i], b->n, COLLX_FLOAT32, COLLX_BF16,
			     NULL);
		collx_decode(b->shorts[i], b->n, k->type, b->encoded, b->wire_len, COLLX_BF16,
			     NULL);
	}
	if (k->wires_read)
		for (unsigned i = 0; i < INPUTS; i++)
			collx_encode(b->wire[i], b->wire_len, b->x[i], b->n, COLLX_FLOAT32,
				     k->format, NULL);
	b->format = k->format;
}

static void keep_least(double *best, double t)
{
	if (*best == 0 || t < *best)
		*best = t;
}

/* What was measured: seconds of the best rounds. */
struct result {
	double least[KERNELS][3]; /* seconds of R, W and C in its rounds, for 4 n bytes */
	double best[KERNELS];
	double cached, cached_copy; /* bytes/s */
	unsigned rounds;
};

/* Bandwidths and a kernel in turn, so that whatever else the machine does hits both. */
static void measure(struct bench *b, struct result *r)
{
	enum { IN_TURN = 3 };

	for (unsigned i = 0; i < r->rounds * KERNELS; i++) {
		const struct kernel *k = &kernels[i % KERNELS];
		double *least = r->least[i % KERNELS];

		set_up(b, k);
		for (unsigned turn = 0; turn < IN_TURN; turn++) {
			/* First, so that it leaves nothing in the caches that a kernel would
			 * have to write back. */
			memset(b->residual, 0, b->n * 4);
			for (unsigned t = 0; t < (has_lines() ? RATES : ALL_HAVE); t++)
				keep_least(&least[rates[t].kind], seconds(b, rates[t].run));
			keep_least(&r->best[k - kernels], seconds(b, k->run));
		}
	}
}

/* Within the L2: traffic of quantizing float to q8 and of memcpy, the same bytes. */
static void measure_cached(struct bench *b, struct result *r)
{
	enum { REPEAT = 100 };
	const size_t n = b->n, wire = collx_encoded_size(CACHED, COLLX_Q8);
	const size_t bytes = CACHED * 4 + wire;
	double encode_s = 0, copy_s = 0;

	b->type = COLLX_FLOAT32;
	b->format = COLLX_Q8;
	b->n = CACHED;
	for (unsigned i = 0; i < r->rounds * 20; i++) {
		double start = now(), middle;

		for (unsigned k = 0; k < REPEAT; k++)
			quantize(b);
		middle = now();
		for (unsigned k = 0; k < REPEAT; k++) {
			memcpy(b->out, b->x[0], bytes / 2);
			__asm__ volatile("" : : "r"(b->out) : "memory");
		}
		keep_least(&encode_s, middle - start);
		keep_least(&copy_s, now() - middle);
	}
	b->n = n;
	r->cached = (double)bytes * REPEAT / encode_s;
	r->cached_copy = (double)bytes * REPEAT / copy_s;
}

/* ---- the report ---- */

static double larger(double a, double b)
{
	return a > b ? a : b;
}

static void report_kernel(const struct bench *b, const struct kernel *k, const struct result *r,
			  FILE *json)
{
	double wire = (double)collx_encoded_size(b->n, k->format);
	double reads = k->reads * (double)b->n + k->wires_read * wire;
	double writes = k->writes * (double)b->n + k->wires_written * wire;
	const double *least = r->least[k - kernels];
	double bound = larger(larger(reads * least[0], writes * least[1]),
			      (reads + writes) * least[2] / 2) / ((double)b->n * 4);
	double t = r->best[k - kernels], share = bound / t;

	printf("%-26s %9.3f %9.2f %9.2f %7.2f", k->name, t * 1e3, (reads + writes) / t / 1e9,
	       (double)b->n / t / 1e9, share);
	printf(k->goal > 0 ? " %6.2f%s\n" : "\n", k->goal, share < k->goal ? "  missed" : "");
	if (json)
		fprintf(json, ",\n  {\"kernel\": \"%s\", \"seconds\": %.6g, \"bytes\": %.0f, "
			"\"share_of_bound\": %.3f, \"goal\": %.2f}", k->name, t, reads + writes,
			share, k->goal);
}

/* R, W or C in bytes/s, of the best round of all. */
static double best_rate(const struct bench *b, const struct result *r, unsigned kind)
{
	double least = 0;

	for (unsigned k = 0; k < KERNELS; k++)
		keep_least(&least, r->least[k][kind]);
	return (double)b->n * 4 * (kind == 2 ? 2 : 1) / least;
}

static void report(const struct bench *b, const struct result *r, FILE *json)
{
	double share = r->cached / r->cached_copy, rate[3];

	for (unsigned i = 0; i < 3; i++)
		rate[i] = best_rate(b, r, i);
	printf("# collx-perf kernels: %zu elements, %u rounds, one core, GB/s: R %.2f  W %.2f  "
	       "C %.2f\n", b->n, r->rounds, rate[0] / 1e9, rate[1] / 1e9, rate[2] / 1e9);
	printf("# %-24s %9s %9s %9s %7s %6s\n", "kernel", "ms", "GB/s", "Gelem/s", "share", "goal");
	if (json)
		fprintf(json, "[\n  {\"elements\": %zu, \"rounds\": %u, \"R\": %.6g, \"W\": %.6g, "
			"\"C\": %.6g, \"cached_quantize\": %.6g, \"cached_memcpy\": %.6g}",
			b->n, r->rounds, rate[0], rate[1], rate[2], r->cached, r->cached_copy);
	for (unsigned k = 0; k < KERNELS; k++)
		report_kernel(b, &kernels[k], r, json);
	printf("%-26s %9s %9.2f %9s %7.2f %6.2f%s\n", "quantize q8 in L2", "", r->cached / 1e9, "",
	       share, 0.45, share < 0.45 ? "  missed" : "");
	printf("# in L2 the share is that of memcpy's traffic, %.2f GB/s\n", r->cached_copy / 1e9);
	if (json)
		fprintf(json, "\n]\n");
}

void perf_kernels(const struct perf_opts *opts)
{
	static struct bench b;
	static struct result r;
	FILE *json = opts->json ? fopen(opts->json, "w") : NULL;

	if (opts->json && !json) {
		fprintf(stderr, "collx-perf: cannot write %s\n", opts->json);
		exit(2);
	}
	prepare(&b, opts->min_bytes / 4 / 1024 * 1024);
	r.rounds = (unsigned)opts->iters;
	measure(&b, &r);
	measure_cached(&b, &r);
	report(&b, &r, json);
	if (json)
		fclose(json);
}
