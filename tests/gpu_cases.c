/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "codec_cases.h"
#include "gpu.h"
#include "gpu_cases.h"
#include "gpu_codecs.h"
#include "lies.h"
#include "kernels/cuda/cuda.h"
#include "kernels/element.h"
#include "kernels/topk.h"
#include "kernels/variants.h"

extern const struct cx_codecs cx_codecs_portable;

/* ---- what cases share ---- */

static uint64_t next(uint64_t *seed)
{
	return *seed = codec_mix(*seed);
}

/* Memory that is there for one case. */
enum { MOST = 48 };
static void *made[MOST];
static unsigned nmade;

static void *room(size_t len)
{
	void *p = malloc(len + 1);

	if (!p || nmade == MOST)
		abort();
	memset(p, 0x5a, len);
	return made[nmade++] = p;
}

static void done(void)
{
	while (nmade)
		free(made[--nmade]);
	gpu_reset();
}

static unsigned offset(uint64_t *seed)
{
	static const unsigned offsets[] = {0, 0, 0, 0, 4, 8, 16, 2, 1, 33, 7};

	return offsets[next(seed) % (sizeof(offsets) / sizeof(offsets[0]))];
}

static size_t length(uint64_t *seed, size_t most)
{
	size_t n = next(seed) % most;

	return next(seed) % 2 ? n : n % 3000;
}

static int differ(char *why, const char *what, uint64_t i, const void *mine, const void *right,
		  size_t len)
{
	const unsigned char *a = mine, *b = right;

	for (size_t at = 0; at < len; at++) {
		if (a[at] == b[at])
			continue;
		snprintf(why, GPU_WHY, "%s, case %llu: byte %zu of %zu is %02x, not %02x", what,
			 (unsigned long long)i, at, len, a[at], b[at]);
		return -1;
	}
	return 0;
}

/* Compares len bytes of the device's with ours. */
static int compare(char *why, const char *what, uint64_t i, const void *device, const void *right,
		   size_t len)
{
	void *mine = room(len);

	if (gpu_wrong())
		return 0;
	gpu_take(mine, device, len);
	return differ(why, what, i, mine, right, len);
}

static const collx_type floats[CX_FLOATS] = {COLLX_FLOAT32, COLLX_FLOAT16, COLLX_BFLOAT16};

static void *numbers(size_t n, collx_type type, uint64_t *seed)
{
	unsigned kind = (unsigned)(next(seed) % CODEC_KINDS);
	float *x = room(n * sizeof(*x));
	uint16_t *h = room(n * sizeof(*h));

	codec_fill(x, n, kind, next(seed));
	for (size_t i = 0; i < n; i++)
		h[i] = type == COLLX_FLOAT16 ? cx_f16_from_f32(x[i]) : cx_bf16_from_f32(x[i]);
	return type == COLLX_FLOAT32 ? (void *)x : (void *)h;
}

/* ---- folds ---- */

static bool is_float(collx_type type)
{
	return cx_float_slot(type) >= 0 || type == COLLX_FLOAT64;
}

/* Any bits; of floats one in four is a NaN, each another one. */
static void *operand(size_t n, collx_type type, uint64_t *seed)
{
	size_t size = collx_type_size(type), len = n * size;
	unsigned char *p = room(len);

	for (size_t i = 0; i < len; i++)
		p[i] = (unsigned char)next(seed);
	for (size_t i = size; is_float(type) && i <= len; i += size) {
		if (next(seed) % 4)
			continue;
		p[i - 1] |= 0x7f;
		p[i - 2] |= 0xf0;
	}
	return p;
}

int gpu_fold_case(uint64_t i, size_t most, char why[GPU_WHY])
{
	uint64_t seed = i;
	collx_type type = (collx_type)(i % COLLX_TYPE_COUNT);
	collx_op op = (collx_op)(i / COLLX_TYPE_COUNT % COLLX_OP_COUNT);
	unsigned count = 2 + (unsigned)(next(&seed) % (next(&seed) % 2 ? 3 : 15));
	size_t n = length(&seed, most), len = n * collx_type_size(type);
	uint32_t divisor = (uint32_t)(next(&seed) % 400);
	unsigned mask = next(&seed) % 2 ? ~15u : ~0u; /* half of them aligned */
	const void *in[CX_INPUTS], *there[CX_INPUTS];
	bool pleasant = cx_float_slot(type) >= 0 && next(&seed) % 2;
	void *right = room(len), *out;
	int rc;

	for (unsigned k = 0; k < count; k++) {
		in[k] = pleasant ? numbers(n, type, &seed) : operand(n, type, &seed);
		there[k] = gpu_make(in[k], len, offset(&seed) & mask);
	}
	out = next(&seed) % 3 ? gpu_make(NULL, len, offset(&seed) & mask) :
				(void *)(uintptr_t)there[0];
	cx_kernels_portable.fold[type][op](right, in, count, n, divisor);
	GPU_LAUNCH(cx_cuda_fold(out, there, count, n, type, op, divisor, gpu_stream()));
	rc = compare(why, "fold", i, out, right, len);
	done();
	return rc;
}

/* ---- top-k ---- */

/* Both sides of a case. */
struct topk {
	struct cx_topk cpu;
	struct cx_cuda_topk gpu;
	size_t bound;
	void *msg, *residual;
};

static void set_up(struct topk *t, uint64_t *seed, size_t most)
{
	size_t n = next(seed) % 40 ? length(seed, most) : 0, size;
	collx_type type = floats[next(seed) % CX_FLOATS];
	struct cx_topk *c = &t->cpu;
	struct cx_cuda_topk *g = &t->gpu;

	memset(t, 0, sizeof(*t));
	size = collx_type_size(type);
	*c = (struct cx_topk){.codecs = &cx_codecs_portable, .type = type, .n = n};
	c->k = next(seed) % 4 ? n / (1 + next(seed) % 200) : next(seed) % (n + 1);
	c->decay = next(seed) % 2 ? 1.0f : 0.5f;
	c->floor = next(seed) % 3 ? 1 : 0x3f000000;
	c->gradient = numbers(n, type, seed);
	*g = (struct cx_cuda_topk){.type = type, .decay = c->decay, .n = n, .k = c->k,
				   .floor = c->floor, .value_type = floats[next(seed) % CX_FLOATS]};
	g->gradient = gpu_make(c->gradient, n * size, offset(seed));
	if (next(seed) % 3) {
		c->residual = numbers(n, COLLX_FLOAT32, seed);
		t->residual = room(n * 4);
		g->residual = gpu_make(c->residual, n * 4, offset(seed));
	}
	t->bound = cx_sparse_bound(n, c->k, g->value_type);
	t->msg = room(t->bound);
	g->msg = gpu_make(NULL, t->bound, offset(seed));
	g->info = gpu_make(NULL, sizeof(*g->info), 0);
	g->work = gpu_make(NULL, cx_cuda_topk_work(n, c->k), 0);
	c->room = cx_topk_room(n, c->k);
	c->bits = room(c->room * 4);
	c->index = room(c->room * 4);
}

static int same_topk(struct topk *t, uint64_t i, char *why)
{
	collx_topk_info chosen;
	size_t len;

	cx_topk(&t->cpu);
	len = cx_sparse_write(t->msg, t->gpu.value_type, t->cpu.n, t->cpu.bits, t->cpu.index,
			      t->cpu.found, t->cpu.residual);
	if (gpu_wrong())
		return 0;
	gpu_take(&chosen, t->gpu.info, sizeof(chosen));
	if (chosen.len != len || chosen.entries != t->cpu.found || chosen.unfit != t->cpu.unfit ||
	    cx_float_bits(chosen.hint) != t->cpu.least) {
		snprintf(why, GPU_WHY, "top-k, case %llu, %zu of %zu: %zu bytes, %zu entries, "
			 "%llu unfit, last %08x; not %zu, %zu, %llu, %08x", (unsigned long long)i,
			 t->cpu.k, t->cpu.n, chosen.len, chosen.entries,
			 (unsigned long long)chosen.unfit,
			 cx_float_bits(chosen.hint), len, t->cpu.found,
			 (unsigned long long)t->cpu.unfit, t->cpu.least);
		return -1;
	}
	if (compare(why, "top-k's message", i, t->gpu.msg, t->msg, len))
		return -1;
	return t->cpu.residual ? compare(why, "top-k's residual", i, t->gpu.residual,
					 t->cpu.residual, t->cpu.n * 4) : 0;
}

/* Twice, so that the second call has the first one's hint, which may be good or bad. */
int gpu_topk_case(uint64_t i, size_t most, char why[GPU_WHY])
{
	uint64_t seed = i + 77;
	struct topk t;
	int rc;

	set_up(&t, &seed, most);
	if (next(&seed) % 4 == 0)
		t.gpu.hint = (uint32_t)next(&seed) % CX_INF32;
	GPU_LAUNCH(cx_cuda_topk(&t.gpu, gpu_stream()));
	rc = same_topk(&t, i, why);
	if (!rc && !gpu_wrong()) {
		t.gpu.keep = 1;
		GPU_LAUNCH(cx_cuda_topk(&t.gpu, gpu_stream()));
		rc = same_topk(&t, i, why);
	}
	done();
	return rc;
}

/* ---- sparse messages ---- */

/* A message; how dense differs from chunk to chunk, so that all kinds come up. */
static void *message(size_t n, collx_type type, uint64_t *seed, size_t *len)
{
	uint32_t *bits = room((n + 1) * 4), *index = room((n + 1) * 4);
	size_t entries = 0;
	unsigned rare = 1;
	void *msg;

	for (size_t i = 0; i < n; i++) {
		if (i % CX_CHUNK == 0)
			rare = 1 + (unsigned)(next(seed) % 3 ? next(seed) % 300 : next(seed) % 3);
		if (next(seed) % rare)
			continue;
		bits[entries] = next(seed) % 50 ? 0x3f000000 + (uint32_t)(next(seed) % 0x1000000) :
				(uint32_t)next(seed);
		bits[entries] |= (uint32_t)(next(seed) & 1) << 31;
		index[entries++] = (uint32_t)i;
	}
	msg = room(cx_sparse_bound(n, entries, type));
	*len = cx_sparse_write(msg, type, n, bits, index, entries, NULL);
	return msg;
}

/* Changes a byte, mostly of the head, the table or the first places. */
static void spoil(unsigned char *msg, size_t len, uint64_t *seed)
{
	size_t most = next(seed) % 2 ? len : cx_min(len, 64);

	msg[next(seed) % most] ^= (unsigned char)(1u << next(seed) % 8);
}

/* What the device says of messages that may be none. */
struct verdict {
	int32_t status;
	size_t len, entries;
};

static int same_info(const void *device, const struct verdict *right, const char *what, uint64_t i,
		     char *why)
{
	collx_topk_info said;

	gpu_take(&said, device, sizeof(said));
	if (said.status == right->status && said.len == right->len &&
	    said.entries == right->entries && said.unfit == 0)
		return 0;
	snprintf(why, GPU_WHY, "%s, case %llu: status %d, %zu bytes, %zu entries; not %d, %zu, %zu",
		 what, (unsigned long long)i, said.status, said.len, said.entries, right->status,
		 right->len, right->entries);
	return -1;
}

static size_t entries_of(const void *msg)
{
	struct cx_sparse_head head;

	memcpy(&head, msg, sizeof(head));
	return (size_t)head.entries;
}

/* A message in a room that is larger, or not large enough. */
static size_t other_len(size_t len, uint64_t *seed)
{
	uint64_t kind = next(seed) % 8;

	if (kind == 0)
		return len - next(seed) % (len + 1);
	return kind == 1 ? len + next(seed) % 200 : len;
}

static int add_case(uint64_t i, size_t n, uint64_t *seed, char *why)
{
	struct verdict right = {COLLX_ERR_CORRUPT, 0, 0};
	size_t len, whole;
	unsigned char *msg = message(n, floats[next(seed) % CX_FLOATS], seed, &len);
	float *dst = numbers(n, COLLX_FLOAT32, seed);
	void *there = gpu_make(dst, n * 4, offset(seed));
	void *info = gpu_make(NULL, sizeof(collx_topk_info), 0);
	unsigned char *in = room(len + 200);
	void *work = gpu_make(NULL, cx_cuda_sparse_work(n), 0), *in_there;

	whole = len;
	memcpy(in, msg, len);
	if (next(seed) % 2)
		spoil(in, len, seed);
	len = other_len(len, seed);
	if (cx_sparse_valid(in, len, n)) {
		cx_sparse_add(dst, in);
		right = (struct verdict){0, whole, entries_of(in)};
	}
	in_there = gpu_make(in, len, offset(seed));
	GPU_LAUNCH(cx_cuda_sparse_add(there, n, in_there, len, work, info, gpu_stream()));
	if (gpu_wrong())
		return 0;
	if (same_info(info, &right, "sparse add", i, why))
		return -1;
	return compare(why, "sparse add", i, there, dst, n * 4);
}

static int merge_case(uint64_t i, size_t n, uint64_t *seed, char *why)
{
	unsigned messages = 1 + (unsigned)(next(seed) % 6);
	collx_type type = floats[next(seed) % CX_FLOATS];
	size_t len[CX_INPUTS], bound = cx_sparse_bound(n, n, COLLX_FLOAT32), right_len;
	const void *in[CX_INPUTS], *there[CX_INPUTS];
	void *right = room(bound), *out;
	void *info = gpu_make(NULL, sizeof(collx_topk_info), 0);
	void *work = gpu_make(NULL, cx_cuda_sparse_work(n), 0);
	struct verdict verdict = {0, 0, 0};
	unsigned bad = next(seed) % 4 ? messages : (unsigned)(next(seed) % messages);

	for (unsigned m = 0; m < messages; m++) {
		unsigned char *msg = message(n, floats[next(seed) % CX_FLOATS], seed, &len[m]);

		in[m] = msg;
		if (m == bad) /* to another message, or to none */
			spoil(msg, len[m], seed);
		if (!cx_sparse_valid(in[m], len[m], n))
			verdict.status = COLLX_ERR_CORRUPT;
		verdict.entries += entries_of(in[m]);
		there[m] = gpu_make(in[m], len[m], offset(seed));
	}
	if (next(seed) % 4 == 0)
		bound = cx_sparse_bodies(n) + next(seed) % (bound - cx_sparse_bodies(n) + 1);
	out = gpu_make(NULL, bound, offset(seed));
	gpu_take(right, out, bound);
	right_len = bound; /* of none nothing is written */
	if (!verdict.status && bound < cx_sparse_bound(n, cx_min(verdict.entries, n), type))
		verdict.status = COLLX_ERR_INVALID;
	verdict.entries = 0;
	if (!verdict.status) {
		right_len = cx_sparse_merge(right, bound, type, in, messages);
		verdict = (struct verdict){0, right_len, entries_of(right)};
	}
	GPU_LAUNCH(cx_cuda_sparse_merge(out, bound, type, there, len, messages, n, work, info,
					gpu_stream()));
	if (gpu_wrong())
		return 0;
	if (same_info(info, &verdict, "sparse merge", i, why))
		return -1;
	return compare(why, "sparse merge", i, out, right, right_len);
}

/* A message that is sound but for one thing, or for none, to numbers of which some are -0. */
static int lie_case(uint64_t i, unsigned lie, uint64_t *seed, char *why)
{
	float *dst = numbers(LIE_COUNT, COLLX_FLOAT32, seed);
	struct verdict right = {COLLX_ERR_CORRUPT, 0, 0};
	unsigned char *msg = room(LIE_ROOM);
	const char *what;
	size_t len = lie_make(msg, lie, &what);
	void *info = gpu_make(NULL, sizeof(collx_topk_info), 0), *there, *in_there;
	void *work = gpu_make(NULL, cx_cuda_sparse_work(LIE_COUNT), 0);

	for (size_t k = next(seed) % 2; k < LIE_COUNT; k += 2)
		dst[k] = -0.0f;
	there = gpu_make(dst, LIE_COUNT * sizeof(*dst), offset(seed));
	in_there = gpu_make(msg, len, offset(seed));
	if (lie >= LIES) {
		right = (struct verdict){0, len, entries_of(msg)};
		cx_sparse_add(dst, msg);
	}
	GPU_LAUNCH(cx_cuda_sparse_add(there, LIE_COUNT, in_there, len, work, info, gpu_stream()));
	if (gpu_wrong())
		return 0;
	if (same_info(info, &right, what, i, why))
		return -1;
	return compare(why, what, i, there, dst, LIE_COUNT * sizeof(*dst));
}

/* One in eight goes through all lies. */
int gpu_sparse_case(uint64_t i, size_t most, char why[GPU_WHY])
{
	uint64_t seed = i + 99;
	size_t n = length(&seed, most);
	int rc = 0;

	if (i % 8 == 7) {
		for (unsigned lie = 0; !rc && !gpu_wrong() && lie <= LIES; lie++) {
			rc = lie_case(i, lie, &seed, why);
			done();
		}
		return rc;
	}
	rc = i % 2 ? add_case(i, n, &seed, why) : merge_case(i, n, &seed, why);
	done();
	return rc;
}
