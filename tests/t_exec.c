/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The executor over simulated ranks: many small segments, faults of the medium,
 * and the promises about numbers: identical bits, one canonical order, one
 * rounding to a short type.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <criterion/criterion.h>

#include "kernels/convert.h"
#include "src/base/base.h"
#include "tests/cases.h"
#include "tests/simworld.h"
#include "tests/world.h"

/* ---- segments ---- */

enum { LARGE = 4 /* value of F_COUNT: 100003 elements */ };

static struct test_case case_of(int what, int ranks, int count, collx_type type, collx_op op,
				uint32_t seed)
{
	struct test_case k = { .v = { [F_WHAT] = (unsigned char)what,
				      [F_RANKS] = (unsigned char)(ranks - 1),
				      [F_COUNT] = (unsigned char)count,
				      [F_TYPE] = (unsigned char)type, [F_OP] = (unsigned char)op,
				      [F_PLACE] = seed % 2,
				      [F_ROOT] = (unsigned char)(seed / 2 % 3) },
			       .seed = seed };

	for (int f = 0; f < FACTORS; f++)
		if (!factor_allowed((enum factor)f, k.v[f], what))
			k.v[f] = 0;
	return k;
}

/* One case over a simulated world, segments of blocks of block_bytes. Returns the
 * segments that rank 0 ran; 0: it failed. */
static size_t run_segments(const struct test_case *k, struct case_memory *m, size_t block_bytes)
{
	struct cx_sim_attr attr = simworld_attr(k->seed);
	struct cx_request r[RANKS_MAX];
	struct simworld w;
	char text[160];
	int ranks = case_ranks(k), rc = simworld_open(&w, ranks, &attr, 1024), ok;
	size_t segments;

	for (int i = 0; i < ranks; i++)
		r[i] = case_begin(&m[i], k, i);
	case_text(k, text, sizeof(text));
	if (!rc) {
		simworld_force(&w, r[0].coll, case_algo(k));
		rc = simworld_run(&w, r, block_bytes);
	}
	ok = EXPECT(rc == 0, "%s, blocks of %zu: %s: %s", text, block_bytes, collx_strerror(rc),
		    cx_error_text());
	for (int i = 0; i < ranks; i++)
		ok &= case_check(&m[i], k, i, &r[i]);
	segments = ok ? w.comms[0].exec.segments : 0;
	simworld_close(&w);
	return segments;
}

static void run_all_segments(int ranks)
{
	static const collx_type types[] = { COLLX_FLOAT32, COLLX_BFLOAT16, COLLX_INT8 };
	struct case_memory m[RANKS_MAX];
	size_t most = 0;

	for (int r = 0; r < ranks; r++)
		cr_assert_eq(case_memory_make(&m[r], 100003, ranks), 0);
	for (int what = 0; what < factor_values(F_WHAT); what++)
		for (uint32_t i = 0; i < 3; i++) {
			uint32_t seed = (uint32_t)(what * 100 + ranks * 10) + i;
			int count = i || (ranks > 5 && ranks % 2) ? 3 : LARGE;
			struct test_case k = case_of(what, ranks, count, types[i],
						     i == 1 ? COLLX_AVG : COLLX_SUM, seed);
			size_t segments = run_segments(&k, m, i ? 64 : 4096 + 64 * seed);

			cr_assert_gt(segments, 0);
			most = segments > most ? segments : most;
		}
	for (int r = 0; r < ranks; r++)
		case_memory_free(&m[r]);
	cr_assert_gt(most, 20, "the largest had %zu segments only", most);
}

Test(exec, segments_of_few_ranks, .timeout = 300)
{
	for (int ranks = 2; ranks <= 5; ranks++)
		run_all_segments(ranks);
}

Test(exec, segments_of_more_ranks, .timeout = 300)
{
	for (int ranks = 6; ranks <= RANKS_MAX; ranks++)
		run_all_segments(ranks);
}

/* ---- a medium that fails ---- */

enum { FLOATS = 5000 };

struct sums {
	float in[RANKS_MAX][FLOATS], out[RANKS_MAX][FLOATS];
	struct cx_request r[RANKS_MAX];
};

static struct sums *sums_make(int ranks)
{
	struct sums *s = calloc(1, sizeof(*s));

	cr_assert_not_null(s);
	for (int r = 0; r < ranks; r++) {
		for (int i = 0; i < FLOATS; i++)
			s->in[r][i] = (float)(r + i);
		s->r[r] = (struct cx_request){ CX_ALLREDUCE, s->in[r], s->out[r], FLOATS,
					       COLLX_FLOAT32, COLLX_SUM, 0 };
	}
	return s;
}

/* Runs an allreduce of 4 ranks after `harm`; its code. */
static int run_harmed(int algo, uint64_t seed, void (*harm)(struct simworld *, struct sums *))
{
	struct cx_sim_attr attr = simworld_attr(seed);
	struct sums *s = sums_make(4);
	struct simworld w;
	int rc;

	cr_assert_eq(simworld_open(&w, 4, &attr, 1024), 0);
	simworld_force(&w, CX_ALLREDUCE, algo);
	harm(&w, s);
	rc = simworld_run(&w, s->r, 256);
	simworld_close(&w);
	free(s);
	return rc;
}

static void do_flip(struct simworld *w, struct sums *s)
{
	(void)s;
	for (int r = 1; r < 4; r++)
		cx_sim_flip(w->sim, r, 0);
}

static void do_kill(struct simworld *w, struct sums *s)
{
	(void)s;
	cx_sim_kill(w->sim, 2);
}

static void do_cut(struct simworld *w, struct sums *s)
{
	(void)s;
	for (int r = 1; r < 4; r++)
		cx_sim_cut(w->sim, r, 0);
}

static void do_mismatch(struct simworld *w, struct sums *s)
{
	(void)w;
	s->r[3].type = COLLX_INT32;
}

Test(exec, faults_of_the_medium)
{
	for (int a = 0; cx_algos[a]; a++) {
		if (cx_algos[a]->coll != CX_ALLREDUCE)
			continue;
		for (uint64_t seed = 0; seed < 5; seed++) {
			cr_expect_eq(run_harmed(a, seed, do_flip), COLLX_ERR_CORRUPT);
			cr_expect_eq(run_harmed(a, seed, do_kill), COLLX_ERR_PEER_DEAD);
			cr_expect_eq(run_harmed(a, seed, do_mismatch), COLLX_ERR_MISMATCH);
		}
	}
	cr_assert_eq(run_harmed(0, 1, do_cut), COLLX_ERR_TIMEOUT, "a cut wire is no deadlock?");
}

/* ---- numbers ---- */

enum { N = 999 };

/* Random floats of very different sizes, so that every order rounds differently. */
static float random_float(uint64_t seed, int rank, int i)
{
	uint64_t h = mix64(seed << 40 ^ (uint64_t)rank << 32 ^ (uint64_t)i);
	float x = (float)((double)(h >> 11) / (double)(1ull << 53)) - 0.5f;

	return ldexpf(x, (int)(h % 7));
}

struct numbers {
	collx_type type;
	size_t size;
	int ranks;
	unsigned char in[RANKS_MAX][RANKS_MAX * N * 4];
	unsigned char out[RANKS_MAX][RANKS_MAX * N * 4];
};

static void put(struct numbers *x, int rank, int i, float f)
{
	uint16_t h = x->type == COLLX_FLOAT16 ? cx_f16_from_f32(f) : cx_bf16_from_f32(f);

	if (x->type == COLLX_FLOAT32)
		memcpy(x->in[rank] + 4 * i, &f, 4);
	else
		memcpy(x->in[rank] + 2 * i, &h, 2);
}

static double get(const struct numbers *x, const unsigned char *from, int i)
{
	uint16_t h;
	float f;

	if (x->type == COLLX_FLOAT32) {
		memcpy(&f, from + 4 * i, 4);
		return (double)f;
	}
	memcpy(&h, from + 2 * i, 2);
	return (double)(x->type == COLLX_FLOAT16 ? cx_f16_to_f32(h) : cx_bf16_to_f32(h));
}

/* count elements a rank; a reduce_scatter has count of each block. */
static void compute(struct numbers *x, int algo, collx_op op, int count, uint64_t seed)
{
	enum cx_coll coll = cx_algos[algo]->coll;
	struct cx_sim_attr attr = simworld_attr(seed);
	struct cx_request r[RANKS_MAX];
	struct simworld w;
	int rc;

	cr_assert_eq(simworld_open(&w, x->ranks, &attr, 1024), 0);
	simworld_force(&w, coll, algo);
	for (int i = 0; i < x->ranks; i++) {
		memset(x->out[i], 0, sizeof(x->out[i]));
		r[i] = (struct cx_request){ coll, x->in[i], x->out[i], (size_t)count, x->type, op,
					    0 };
	}
	rc = simworld_run(&w, r, seed % 2 ? 512 : 0);
	cr_assert_eq(rc, 0, "%s:%s: %s", cx_coll_name(coll), cx_algos[algo]->name, cx_error_text());
	simworld_close(&w);
}

/* The result's element i of all `total`, wherever the collective left it. */
static const unsigned char *where(const struct numbers *x, enum cx_coll coll, int *i)
{
	int block = *i / N;

	if (coll != CX_REDUCE_SCATTER)
		return x->out[0];
	*i %= N;
	return x->out[block];
}

static struct numbers *numbers_make(collx_type type, int ranks, int total, uint64_t seed)
{
	struct numbers *x = calloc(1, sizeof(*x));

	cr_assert_not_null(x);
	x->type = type;
	x->size = collx_type_size(type);
	x->ranks = ranks;
	for (int r = 0; r < ranks; r++)
		for (int i = 0; i < total; i++)
			put(x, r, i, random_float(seed, r, i));
	return x;
}

static const collx_type floats[] = { COLLX_FLOAT32, COLLX_FLOAT16, COLLX_BFLOAT16 };

static void check_identical(int algo, int ranks, collx_type type, collx_op op)
{
	struct numbers *x = numbers_make(type, ranks, ranks * N, 7);
	unsigned char *first = malloc(sizeof(x->out));
	int all = cx_algos[algo]->coll == CX_ALLREDUCE;

	cr_assert_not_null(first);
	compute(x, algo, op, N, 2);
	memcpy(first, x->out, sizeof(x->out));
	for (int r = 1; all && r < ranks; r++)
		cr_assert_eq(memcmp(x->out[0], x->out[r], N * x->size), 0,
			     "%s: rank %d of %d has other bits than rank 0", cx_algos[algo]->name,
			     r, ranks);
	compute(x, algo, op, N, 4); /* other delays, same segments */
	cr_assert_eq(memcmp(first, x->out, sizeof(x->out)), 0,
		     "%s:%s, %d ranks: a second run differs",
		     cx_coll_name(cx_algos[algo]->coll), cx_algos[algo]->name, ranks);
	free(first);
	free(x);
}

static int sums_up(int algo)
{
	enum cx_coll c = cx_algos[algo]->coll;

	return c == CX_ALLREDUCE || c == CX_REDUCE_SCATTER || c == CX_REDUCE;
}

Test(numbers, identical_on_all_ranks_and_in_every_run, .timeout = 300)
{
	for (int a = 0; cx_algos[a]; a++)
		for (int ranks = 2; sums_up(a) && ranks <= RANKS_MAX; ranks++)
			for (int t = 0; t < 3; t++)
				check_identical(a, ranks, floats[t],
						t == 1 ? COLLX_AVG : t ? COLLX_PROD : COLLX_SUM);
}

/* The tree of doc/DESIGN section 10 written down once more, for element i. */
static float canonical(const struct numbers *x, int i)
{
	float part[RANKS_MAX];
	int groups = 1, rem, n = 0;

	while (groups * 2 <= x->ranks)
		groups *= 2;
	rem = x->ranks - groups;
	for (int g = 0; g < groups; g++) {
		part[g] = (float)get(x, x->in[n++], i);
		if (g < rem)
			part[g] += (float)get(x, x->in[n++], i);
	}
	for (; groups > 1; groups /= 2)
		for (int g = 0; g < groups / 2; g++)
			part[g] = part[2 * g] + part[2 * g + 1];
	return part[0];
}

static void check_canonical(int algo, int ranks, collx_type type)
{
	enum cx_coll coll = cx_algos[algo]->coll;
	int total = coll == CX_REDUCE_SCATTER ? ranks * N : N;
	struct numbers *x = numbers_make(type, ranks, total, 11);

	compute(x, algo, COLLX_SUM, N, (uint64_t)(3 + ranks));
	for (int i = 0; i < total; i++) {
		unsigned char want[4];
		int at = i;
		const unsigned char *out = where(x, coll, &at);
		float f = canonical(x, i);
		uint16_t h = type == COLLX_FLOAT16 ? cx_f16_from_f32(f) : cx_bf16_from_f32(f);

		memcpy(want, type == COLLX_FLOAT32 ? (void *)&f : (void *)&h, x->size);
		cr_assert_eq(memcmp(out + (size_t)at * x->size, want, x->size), 0,
			     "%s:%s, %d ranks: element %d is %a, canonically %a",
			     cx_coll_name(coll), cx_algos[algo]->name, ranks, i, get(x, out, at),
			     (double)f);
	}
	free(x);
}

Test(numbers, canonical_algorithms_agree, .timeout = 300)
{
	int latency = 0, bandwidth = 0;

	for (int a = 0; cx_algos[a]; a++) {
		if (!(cx_algos[a]->flags & CX_ALGO_CANONICAL))
			continue;
		cr_assert(sums_up(a), "%s is called canonical", cx_algos[a]->name);
		if (cx_algos[a]->coll == CX_ALLREDUCE)
			*(strstr(cx_algos[a]->bytes, "2n(P-1)/P") ? &bandwidth : &latency) += 1;
		for (int ranks = 2; ranks <= RANKS_MAX; ranks++)
			for (int t = 0; t < 3; t++)
				check_canonical(a, ranks, floats[t]);
	}
	cr_assert_gt(latency, 0);
	cr_assert_gt(bandwidth, 0);
}

/* Of several NaNs the left operand's goes on: so it shows whose stood leftmost. */
static void check_rank_order(int algo, int ranks)
{
	enum cx_coll coll = cx_algos[algo]->coll;
	int total = coll == CX_REDUCE_SCATTER ? ranks * N : N;
	struct numbers *x = numbers_make(COLLX_FLOAT32, ranks, 0, 0);

	for (int r = 0; r < ranks; r++)
		for (int i = 0; i < total; i++) {
			uint32_t nan = 0x7fc00000u | (uint32_t)(r + 1);

			memcpy(x->in[r] + 4 * i, &nan, 4);
		}
	compute(x, algo, COLLX_MAX, N, (uint64_t)ranks);
	for (int i = 0; i < total; i++) {
		uint32_t got;
		int at = i;
		const unsigned char *out = where(x, coll, &at);

		memcpy(&got, out + 4 * at, 4);
		cr_assert_eq(got, 0x7fc00001u, "%s:%s, %d ranks: element %d is %08x",
			     cx_coll_name(coll), cx_algos[algo]->name, ranks, i, got);
	}
	free(x);
}

Test(numbers, operands_in_rank_order, .timeout = 300)
{
	int n = 0;

	for (int a = 0; cx_algos[a]; a++)
		if (cx_algos[a]->flags & CX_ALGO_RANK_ORDER) {
			n++;
			for (int ranks = 2; ranks <= RANKS_MAX; ranks++)
				check_rank_order(a, ranks);
		}
	cr_assert_gt(n, 5);
}

/* Half a unit of the short type's last place at x, subnormals included. */
static double half_unit(collx_type type, double x)
{
	int bits = type == COLLX_FLOAT16 ? 11 : 8, least = type == COLLX_FLOAT16 ? -14 : -126, e;

	frexp(x, &e);
	return ldexp(0.5, (e - 1 > least ? e - 1 : least) - (bits - 1));
}

static void check_rounding(int algo, int ranks, collx_type type, collx_op op)
{
	enum cx_coll coll = cx_algos[algo]->coll;
	int total = coll == CX_REDUCE_SCATTER ? ranks * N : N;
	struct numbers *x = numbers_make(type, ranks, total, 13);

	compute(x, algo, op, N, (uint64_t)(5 + ranks));
	for (int i = 0; i < total; i++) {
		long double exact = 0, size = 0, err, bound;
		int at = i;
		const unsigned char *out = where(x, coll, &at);

		for (int r = 0; r < ranks; r++) {
			exact += (long double)get(x, x->in[r], i);
			size += fabsl((long double)get(x, x->in[r], i));
		}
		if (op == COLLX_AVG) {
			exact /= ranks;
			size /= ranks;
		}
		bound = (long double)half_unit(type, (double)exact) * (1 + 0x1p-10L) +
			size * ranks * 0x1p-24L;
		err = fabsl((long double)get(x, out, at) - exact);
		cr_assert(err <= bound, "%s:%s, %d ranks: element %d is off by %Lg, more than %Lg",
			  cx_coll_name(coll), cx_algos[algo]->name, ranks, i, err, bound);
	}
	free(x);
}

Test(numbers, one_rounding_to_the_short_type, .timeout = 300)
{
	for (int a = 0; cx_algos[a]; a++)
		for (int ranks = 2; sums_up(a) && ranks <= RANKS_MAX; ranks++)
			for (int t = 1; t < 3; t++) {
				check_rounding(a, ranks, floats[t], COLLX_SUM);
				check_rounding(a, ranks, floats[t], COLLX_AVG);
			}
}

/* ---- what really went over the transport ---- */

enum { EACH = 4096 };

static void count_bytes(collx_comm_t comm, enum cx_coll coll, const char *algo, uint64_t want)
{
	static _Thread_local float in[9 * EACH], out[9 * EACH];
	struct cx_request r = { coll, in, out, EACH, COLLX_FLOAT32, COLLX_SUM, 0 };
	struct cx_port_stats before, after;
	uint64_t mine[3], all[27], sent = 0, received = 0, messages = 0;
	int rc;

	for (int i = 0; cx_algos[i]; i++)
		if (cx_algos[i] == cx_algo_find(coll, algo))
			comm->agreed.forced[coll] = (int8_t)i;
	comm->media[0].transport->stats(comm->media[0].port, &before);
	rc = case_call(comm, &r, NULL);
	comm->media[0].transport->stats(comm->media[0].port, &after);
	EXPECT(rc == 0, "%s", collx_last_error(comm));
	mine[0] = after.sent_bytes - before.sent_bytes;
	mine[1] = after.received_bytes - before.received_bytes;
	mine[2] = after.sent_messages - before.sent_messages;
	rc = collx_allgather(mine, all, 3, COLLX_UINT64, comm, NULL);
	EXPECT(rc == 0, "%s", collx_last_error(comm));
	for (int q = 0; q < comm->size; q++) {
		sent += all[3 * q];
		received += all[3 * q + 1];
		messages += all[3 * q + 2];
	}
	EXPECT(sent == want && received == want && messages > 0,
	       "%s:%s moved %llu and %llu bytes, not %llu", cx_coll_name(coll), algo,
	       (unsigned long long)sent, (unsigned long long)received, (unsigned long long)want);
	EXPECT(mine[0] + mine[1] > 0, "rank %d had no part in it", comm->rank);
}

static void count_all(collx_comm_t comm, int rank, int size, void *arg)
{
	uint64_t n = EACH * sizeof(float), p = (uint64_t)size;

	(void)rank;
	(void)arg;
	EXPECT(comm->nmedia == 1 && !strcmp(comm->media[0].transport->name, "shm"),
	       "the transport is %s", comm->media[0].transport->name);
	count_bytes(comm, CX_ALLREDUCE, "ring", 2 * (p - 1) * n);
	count_bytes(comm, CX_ALLREDUCE, "flat", p * (p - 1) * n);
	count_bytes(comm, CX_ALLREDUCE, "direct", 2 * (p - 1) * n);
	count_bytes(comm, CX_REDUCE_SCATTER, "direct", p * (p - 1) * n);
	count_bytes(comm, CX_ALLGATHER, "ring", p * (p - 1) * n);
	count_bytes(comm, CX_BROADCAST, "flat", (p - 1) * n);
	count_bytes(comm, CX_REDUCE, "flat", (p - 1) * n);
}

Test(exec, payload_is_what_the_plan_says)
{
	for (int size = 2; size <= 8; size *= 2) {
		const struct world w = { .size = size, .fn = count_all };

		cr_assert_eq(world_run(&w), 0);
	}
}
