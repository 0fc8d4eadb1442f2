/* SPDX-License-Identifier: BSD-3-Clause */
/* Inputs and expected bytes of the matrix; see cases.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/convert.h"
#include "src/base/base.h"
#include "tests/cases.h"
#include "tests/world.h"

enum { GUARD = 64, PIECE = 2048, PATTERN = 0xa5 };
#define NO_ALGO (-1)

static const size_t counts[] = { 0, 1, 3, 1000, 100003 };
static const char *const modes[MODES] = { "sim", "processes", "threads", "tcp", "hosts",
					  "mixed" };
static const char *const types[COLLX_TYPE_COUNT] = {
	"int8", "uint8", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64",
	"bfloat16",
};
static const char *const ops[COLLX_OP_COUNT] = { "sum", "prod", "max", "min", "avg" };

/* ---- factors ---- */

struct what {
	enum cx_coll coll;
	int algo;
};

/* Number `i`, and in *n how many there are: for each collective the table's choice,
 * then each algorithm. */
static struct what what(int i, int *n)
{
	struct what found = { CX_NCOLL, NO_ALGO };
	int at = 0;

	for (int c = 0; c < CX_NCOLL; c++) {
		if (at++ == i)
			found = (struct what){ (enum cx_coll)c, NO_ALGO };
		for (int a = 0; cx_algos[a]; a++)
			if (cx_algos[a]->coll == (enum cx_coll)c && at++ == i)
				found = (struct what){ (enum cx_coll)c, a };
	}
	*n = at;
	return found;
}

int factor_values(enum factor f)
{
	static const int values[FACTORS] = {
		[F_RANKS] = RANKS_MAX, [F_COUNT] = sizeof(counts) / sizeof(counts[0]),
		[F_TYPE] = COLLX_TYPE_COUNT, [F_OP] = COLLX_OP_COUNT, [F_PLACE] = 2,
		[F_ROOT] = 3, [F_MODE] = MODES,
	};
	int n = values[f];

	if (f == F_WHAT)
		what(0, &n);
	return n;
}

static int reduces(enum cx_coll c)
{
	return c == CX_ALLREDUCE || c == CX_REDUCE_SCATTER || c == CX_REDUCE;
}

static int rooted(enum cx_coll c)
{
	return c == CX_BROADCAST || c == CX_REDUCE;
}

int factor_allowed(enum factor f, int v, int w)
{
	int n;
	enum cx_coll coll = what(w, &n).coll;

	if (f == F_OP)
		return v == 0 || reduces(coll);
	if (f == F_ROOT)
		return v == 0 || rooted(coll);
	if (f == F_COUNT || f == F_TYPE || f == F_PLACE)
		return v == 0 || coll != CX_BARRIER;
	return 1;
}

enum cx_coll case_coll(const struct test_case *k)
{
	int n;

	return what(k->v[F_WHAT], &n).coll;
}

int case_algo(const struct test_case *k)
{
	int n;

	return what(k->v[F_WHAT], &n).algo;
}

int case_ranks(const struct test_case *k)
{
	return 1 + k->v[F_RANKS];
}

size_t case_count(const struct test_case *k)
{
	return case_coll(k) == CX_BARRIER ? 1 : counts[k->v[F_COUNT]];
}

int case_root(const struct test_case *k)
{
	int ranks = case_ranks(k);

	return k->v[F_ROOT] == 0 ? 0 : k->v[F_ROOT] == 1 ? ranks - 1 : ranks / 2;
}

void case_text(const struct test_case *k, char *text, size_t len)
{
	int algo = case_algo(k);

	snprintf(text, len, "%s:%s ranks %d count %zu %s %s%s root %d, %s, seed %u",
		 cx_coll_name(case_coll(k)), algo < 0 ? "selected" : cx_algos[algo]->name,
		 case_ranks(k), case_count(k), types[k->v[F_TYPE]], ops[k->v[F_OP]],
		 k->v[F_PLACE] ? " in place" : "", case_root(k), modes[k->v[F_MODE]], k->seed);
}

/* ---- inputs ---- */

static uint64_t hash(const struct test_case *k, int rank, size_t i)
{
	return mix64((uint64_t)k->seed << 32 ^ (uint64_t)rank << 56 ^ i);
}

static void store(unsigned char *to, collx_type type, double x)
{
	float f = (float)x;
	uint16_t h = type == COLLX_FLOAT16 ? cx_f16_from_f32(f) : cx_bf16_from_f32(f);

	if (type == COLLX_FLOAT64)
		memcpy(to, &x, sizeof(x));
	else if (type == COLLX_FLOAT32)
		memcpy(to, &f, sizeof(f));
	else
		memcpy(to, &h, sizeof(h));
}

/* Which of two NaNs wins depends on the order, so at most one rank has one. */
static uint64_t single_nan(uint64_t bits, collx_type type, int may)
{
	static const uint64_t exponent[COLLX_TYPE_COUNT] = {
		[COLLX_FLOAT16] = 0x7c00, [COLLX_FLOAT32] = 0x7f800000,
		[COLLX_FLOAT64] = 0x7ff0000000000000, [COLLX_BFLOAT16] = 0x7f80,
	};
	uint64_t top = 1ull << (8 * collx_type_size(type) - 1);

	if (bits >> 60 == 0)
		return bits & top; /* zeros of both signs */
	if (bits >> 60 == 1 && may)
		return bits | exponent[type];
	return (bits & exponent[type]) == exponent[type] && !may ? bits & ~exponent[type] : bits;
}

/* What the elements of an input are like; the same for all of them. */
enum kind { BITS, COMPARED, FACTOR, SUMMAND };

static enum kind kind_of(const struct test_case *k)
{
	collx_op op = (collx_op)k->v[F_OP];

	if (k->v[F_TYPE] < COLLX_FLOAT16 || !reduces(case_coll(k)))
		return BITS;
	if (op == COLLX_MAX || op == COLLX_MIN)
		return COMPARED;
	return op == COLLX_PROD ? FACTOR : SUMMAND;
}

static void input(unsigned char *to, const struct test_case *k, int rank, size_t first, size_t n)
{
	static const double factors[] = { 1, -1, 2, 0.5 };
	collx_type type = (collx_type)k->v[F_TYPE];
	size_t size = collx_type_size(type), ranks = (size_t)case_ranks(k);
	enum kind kind = kind_of(k);

	for (size_t i = first; i < first + n; i++, to += size) {
		uint64_t h = hash(k, rank, i);

		if (kind == COMPARED)
			h = single_nan(h, type, (size_t)rank == i % ranks);
		if (kind == FACTOR)
			store(to, type, factors[h % 4]);
		else if (kind == SUMMAND)
			store(to, type, (double)(h % 27) - 13);
		else
			memcpy(to, &h, size);
	}
}

/* ---- results ---- */

void fold_in_rank_order(void *out, const void *const *inputs, int ranks, size_t n, collx_type type,
			collx_op op)
{
	const struct cx_kernels *kernels = cx_kernels_pick("portable");
	size_t size = collx_type_size(type), acc = collx_type_size(cx_acc_type(type, op));
	unsigned char part[PIECE * 8];

	if (ranks == 1)
		memcpy(out, inputs[0], n * size);
	for (size_t at = 0; ranks > 1 && at < n; at += PIECE) {
		size_t len = cx_min(PIECE, n - at);
		const void *left = (const char *)inputs[0] + at * size;

		for (int r = 1; r < ranks; r++) {
			int last = r == ranks - 1;
			void *dst = last ? (char *)out + at * size : (void *)part;
			unsigned wide = (last ? 0u : CX_WIDE_DST) | (r > 1 ? CX_WIDE_A : 0u);

			kernels->reduce[type][op][acc == size ? 0 : wide](
				dst, left, (const char *)inputs[r] + at * size, len,
				last ? (uint32_t)ranks : 1);
			left = part;
		}
	}
}

static void fold_case(unsigned char *to, const struct test_case *k, size_t first, size_t n)
{
	static _Thread_local unsigned char data[RANKS_MAX][PIECE * 8];
	const void *inputs[RANKS_MAX];
	size_t size = collx_type_size((collx_type)k->v[F_TYPE]);
	int ranks = case_ranks(k);

	for (size_t at = 0; at < n; at += PIECE) {
		size_t len = cx_min(PIECE, n - at);

		for (int r = 0; r < ranks; r++) {
			input(data[r], k, r, first + at, len);
			inputs[r] = data[r];
		}
		fold_in_rank_order(to + at * size, inputs, ranks, len, (collx_type)k->v[F_TYPE],
				   (collx_op)k->v[F_OP]);
	}
}

static void result(unsigned char *to, const struct test_case *k, int rank)
{
	size_t n = case_count(k), size = collx_type_size((collx_type)k->v[F_TYPE]);
	enum cx_coll coll = case_coll(k);

	if (coll == CX_BROADCAST)
		input(to, k, case_root(k), 0, n);
	else if (coll == CX_ALLGATHER)
		for (int r = 0; r < case_ranks(k); r++)
			input(to + (size_t)r * n * size, k, r, 0, n);
	else
		fold_case(to, k, coll == CX_REDUCE_SCATTER ? (size_t)rank * n : 0, n);
}

/* ---- layout ---- */

int case_memory_make(struct case_memory *m, size_t max_count, int ranks)
{
	m->room = max_count * 8 * (size_t)ranks + 2 * GUARD + 32;
	m->a = malloc(m->room);
	m->b = malloc(m->room);
	m->want = malloc(m->room);
	return EXPECT(m->a && m->b && m->want, "no memory for the cases") ? 0 : 1;
}

void case_memory_free(struct case_memory *m)
{
	free(m->a);
	free(m->b);
	free(m->want);
}

/* Where the data lies in a region, and how far the region goes with its guards. */
struct layout {
	size_t in, out, in_bytes, out_bytes, region;
	int reads, writes;
};

static struct layout layout(const struct test_case *k, int rank)
{
	size_t size = collx_type_size((collx_type)k->v[F_TYPE]);
	size_t one = case_count(k) * size, all = one * (size_t)case_ranks(k);
	enum cx_coll coll = case_coll(k);
	struct layout l = { .in_bytes = one, .out_bytes = one };

	if (coll == CX_REDUCE_SCATTER)
		l.in_bytes = all;
	if (coll == CX_ALLGATHER)
		l.out_bytes = all;
	l.in = l.out = GUARD + k->seed % 4 * size;
	if (k->v[F_PLACE] && coll == CX_ALLGATHER)
		l.in += (size_t)rank * one;
	if (k->v[F_PLACE] && coll == CX_REDUCE_SCATTER)
		l.out += (size_t)rank * one;
	l.region = l.in + l.out - cx_min(l.in, l.out) + cx_max(l.in_bytes, l.out_bytes) + GUARD;
	l.reads = coll != CX_BARRIER && (coll != CX_BROADCAST || rank == case_root(k));
	l.writes = coll != CX_BARRIER && (coll != CX_REDUCE || rank == case_root(k));
	return l;
}

struct cx_request case_begin(const struct case_memory *m, const struct test_case *k, int rank)
{
	struct layout l = layout(k, rank);
	unsigned char *in = k->v[F_PLACE] ? m->b : m->a;
	struct cx_request r = {
		.coll = case_coll(k), .in = in + l.in, .out = m->b + l.out,
		.count = case_count(k), .type = (collx_type)k->v[F_TYPE],
		.op = (collx_op)k->v[F_OP], .root = case_root(k),
	};

	l.region = cx_min(l.region, m->room);
	memset(m->a, PATTERN, l.region);
	memset(m->b, PATTERN, l.region);
	if (l.reads)
		input(in + l.in, k, rank, 0, l.in_bytes / collx_type_size(r.type));
	else if (k->seed / 4 % 2)
		r.in = NULL;
	if (!l.writes && k->seed / 8 % 2)
		r.out = NULL;
	if (r.coll == CX_BARRIER)
		r = (struct cx_request){ .coll = CX_BARRIER, .count = 1, .type = COLLX_UINT8 };
	return r;
}

static int same(const unsigned char *got, const unsigned char *want, size_t n, const char *which,
		const struct test_case *k, int rank, size_t data)
{
	char text[160];
	size_t i = 0;

	if (!memcmp(got, want, n))
		return 1;
	while (got[i] == want[i])
		i++;
	case_text(k, text, sizeof(text));
	return EXPECT(0, "%s: rank %d: byte %td of %s is %02x, not %02x", text, rank,
		      (ptrdiff_t)i - (ptrdiff_t)data, which, got[i], want[i]);
}

int case_check(const struct case_memory *m, const struct test_case *k, int rank,
	       const struct cx_request *r)
{
	struct layout l = layout(k, rank);
	size_t size = collx_type_size((collx_type)k->v[F_TYPE]);
	int ok;

	(void)r;
	l.region = cx_min(l.region, m->room);
	memset(m->want, PATTERN, l.region);
	if (l.reads)
		input(m->want + l.in, k, rank, 0, l.in_bytes / size);
	ok = k->v[F_PLACE] || same(m->a, m->want, l.region, "sendbuf", k, rank, l.in);
	if (!k->v[F_PLACE])
		memset(m->want, PATTERN, l.region);
	if (l.writes)
		result(m->want + l.out, k, rank);
	return same(m->b, m->want, l.region, "recvbuf", k, rank, l.out) && ok;
}

/* ---- calls ---- */

int case_call(collx_comm_t comm, const struct cx_request *r, const collx_opts *o)
{
	switch (r->coll) {
	case CX_ALLREDUCE:
		return collx_allreduce(r->in, r->out, r->count, r->type, r->op, comm, o);
	case CX_REDUCE_SCATTER:
		return collx_reduce_scatter(r->in, r->out, r->count, r->type, r->op, comm, o);
	case CX_ALLGATHER:
		return collx_allgather(r->in, r->out, r->count, r->type, comm, o);
	case CX_BROADCAST:
		return collx_broadcast(r->in, r->out, r->count, r->type, r->root, comm, o);
	case CX_REDUCE:
		return collx_reduce(r->in, r->out, r->count, r->type, r->op, r->root, comm, o);
	default:
		return collx_barrier(comm, o);
	}
}
