/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Calls that keep their promises when ranks are lost in them: values of those who are
 * left and of nobody else, alike to the bit, whatever was overwritten before; inputs as
 * they were; no link after an error; and no way into the next communicator by its id alone.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>
#include <criterion/criterion.h>

#include "src/base/base.h"
#include "src/comm.h"
#include "tests/cases.h"
#include "tests/world.h"

enum { RANKS = 5, LARGE = 200000, FRACTIONS = 1000, CALLS_AFTER = 3 };

static collx_config impatient(unsigned flags)
{
	collx_config config = COLLX_CONFIG_INIT;

	config.heartbeat_ms = 100;
	config.silence_ms = 3000;
	config.flags = flags;
	return config;
}

static void end_now(int sig)
{
	(void)sig;
	kill(getpid(), SIGKILL);
}

/* This process is killed then, wherever it is. */
static void die_in(unsigned us)
{
	const struct itimerval t = { .it_value = { 0, (suseconds_t)us } };

	signal(SIGALRM, end_now);
	setitimer(ITIMER_REAL, &t, NULL);
}

/* ---- a communicator that goes on ---- */

struct scene {
	unsigned killed;   /* ranks */
	collx_op op;
	bool in_place;
	const char *transport;
};

static float share_of(int origin)
{
	return (float)(1 << origin);
}

static float total(collx_comm_t c, collx_op op)
{
	int n = collx_comm_size(c);
	float sum = 0;

	for (int r = 0; r < n; r++)
		sum += share_of(collx_comm_origin(c, r));
	return op == COLLX_AVG ? sum / (float)n : sum;
}

/* The shares of those who are in it after the call, each once. */
static int sum_up(collx_comm_t c, int rank, const struct scene *s, float *in, float *out)
{
	float want;
	int rc;

	for (int i = 0; i < LARGE; i++)
		in[i] = share_of(rank);
	rc = collx_allreduce(in, s->in_place ? in : out, LARGE, COLLX_FLOAT32, s->op, c, NULL);
	if (!EXPECT(!rc, "rank %d: %s", rank, collx_last_error(c)))
		return rc;
	want = total(c, s->op);
	for (int i = 0; i < LARGE; i++) {
		float got = s->in_place ? in[i] : out[i];

		if (!EXPECT(got == want, "rank %d: element %d of %d ranks' is %g, not %g", rank, i,
			    collx_comm_size(c), got, want))
			return -1;
	}
	return 0;
}

static uint64_t hash(const void *data, size_t len)
{
	const unsigned char *at = data;
	uint64_t h = len;

	for (size_t i = 0; i < len; i++)
		h = mix64(h ^ at[i]);
	return h >> 1;
}

/* Sums that depend on the order in which they are made. */
static void compare_bits(collx_comm_t c, int rank, float *x)
{
	int64_t mine, most = 0, least = 0;

	for (int i = 0; i < FRACTIONS; i++)
		x[i] = 1.0f / (float)(1 + (i * 7919 + rank * 104729) % 99991);
	EXPECT(!collx_allreduce(x, x, FRACTIONS, COLLX_FLOAT32, COLLX_SUM, c, NULL), "rank %d: %s",
	       rank, collx_last_error(c));
	mine = (int64_t)hash(x, FRACTIONS * sizeof(*x));
	EXPECT(!collx_allreduce(&mine, &most, 1, COLLX_INT64, COLLX_MAX, c, NULL) &&
	       !collx_allreduce(&mine, &least, 1, COLLX_INT64, COLLX_MIN, c, NULL), "rank %d: %s",
	       rank, collx_last_error(c));
	EXPECT(most == least, "rank %d: ranks have other bits", rank);
}

static void go_on(collx_comm_t c, int rank, int size, void *arg)
{
	static float in[LARGE], out[LARGE];
	const struct scene *s = arg;
	int left = size - __builtin_popcount(s->killed), rc = 0;

	if (s->killed >> rank & 1)
		die_in(20000 + 7000 * (unsigned)rank);
	for (int after = 0; !rc && after < CALLS_AFTER; after += collx_comm_size(c) == left) {
		rc = sum_up(c, rank, s, in, out);
		if (!rc)
			compare_bits(c, rank, in);
	}
	EXPECT(rc || collx_comm_size(c) == left, "rank %d: %d ranks", rank, collx_comm_size(c));
}

static void goes_on(const char *transport, collx_op op, bool in_place)
{
	static const unsigned killed[] = { 1u << 2, 1u << 0, 1u << 1 | 1u << 3, 1u << 4 };
	const collx_config config = impatient(COLLX_CONTINUE);

	for (size_t i = 0; i < sizeof(killed) / sizeof(killed[0]); i++) {
		struct scene s = { killed[i], op, in_place, transport };
		const struct world w = { .size = RANKS, .killed = s.killed, .config = &config,
					 .transport = transport, .fn = go_on, .arg = &s };

		cr_assert_eq(world_run(&w), 0, "%s, %s, lost %#x", in_place ? "in place" : "apart",
			     transport, killed[i]);
	}
}

Test(continue_mode, sums_in_place_over_shm, .timeout = 300)
{
	goes_on("shm", COLLX_SUM, true);
}

Test(continue_mode, averages_in_place_over_tcp, .timeout = 300)
{
	goes_on("tcp", COLLX_AVG, true);
}

Test(continue_mode, averages_over_shm, .timeout = 300)
{
	goes_on("shm", COLLX_AVG, false);
}

/* ---- what cannot go on says so, everywhere, and what comes after it can ---- */

static void lose_shape(collx_comm_t c, int rank, int size, void *arg)
{
	static float in[RANKS * LARGE], out[RANKS * LARGE];
	enum cx_coll coll = *(enum cx_coll *)arg;
	const struct cx_request r = { coll, in, out, LARGE, COLLX_FLOAT32, COLLX_SUM,
				      coll == CX_BROADCAST ? 2 : 0 };
	int32_t one = 1, sum = 0;
	int rc = 0;

	if (rank == 2)
		die_in(20000);
	while (!rc)
		rc = case_call(c, &r, NULL);
	EXPECT(rc == COLLX_ERR_PEER_DEAD && strstr(collx_last_error(c), "the others can go on"),
	       "rank %d: %s: %s", rank, collx_strerror((collx_result)rc), collx_last_error(c));
	EXPECT(!collx_allreduce(&one, &sum, 1, COLLX_INT32, COLLX_SUM, c, NULL) && sum == size - 1,
	       "rank %d: a sum of %d: %s", rank, sum, collx_last_error(c));
}

Test(continue_mode, what_has_no_root_or_shape_any_more_fails_once, .timeout = 300)
{
	static enum cx_coll colls[] = { CX_BROADCAST, CX_ALLGATHER, CX_REDUCE_SCATTER };
	const collx_config config = impatient(COLLX_CONTINUE);

	for (int i = 0; i < 3; i++) {
		const struct world w = { .size = RANKS, .killed = 1u << 2, .config = &config,
					 .fn = lose_shape, .arg = &colls[i] };

		cr_assert_eq(world_run(&w), 0, "%s", cx_coll_name(colls[i]));
	}
}

/* ---- all ranks ask for it, or none ---- */

static void ask_alone(const collx_unique_id *id, int rank, int size, void *arg)
{
	collx_config config = impatient(rank == 1 ? COLLX_CONTINUE : 0);
	collx_comm_t c = NULL;
	int rc = collx_comm_create(&c, size, id, rank, &config);

	(void)arg;
	EXPECT(rc == COLLX_ERR_MISMATCH && strstr(collx_last_error(NULL), "rank 1 asked for"),
	       "rank %d: %s: %s", rank, collx_strerror((collx_result)rc), collx_last_error(NULL));
}

Test(continue_mode, is_asked_for_by_all, .timeout = 60)
{
	const struct world w = { .size = 3, .raw = ask_alone };

	cr_assert_eq(world_run(&w), 0);
}

/* ---- inputs that stay ---- */

/* Where the input of an in-place call begins, and how long it is. */
static float *input_of(const struct cx_request *r, float *x, int rank, size_t *n)
{
	*n = r->coll == CX_REDUCE_SCATTER ? RANKS * r->count : r->count;
	return r->coll == CX_ALLGATHER ? x + (size_t)rank * r->count : x;
}

struct loss {
	enum cx_coll coll;
	unsigned after_us;
};

static void keep_input(collx_comm_t c, int rank, int size, void *arg)
{
	static float x[RANKS * LARGE], before[RANKS * LARGE];
	const struct loss *p = arg;
	struct cx_request r = { p->coll, x, x, LARGE, COLLX_FLOAT32, COLLX_SUM, 1 };
	collx_opts opts = COLLX_OPTS_INIT;
	size_t n;
	const float *in = input_of(&r, x, rank, &n);
	int rc = 0;

	r.in = in;
	r.out = r.coll == CX_REDUCE_SCATTER ? x + rank * LARGE : x;
	opts.flags = COLLX_PRESERVE;
	for (int i = 0; i < size * LARGE; i++)
		before[i] = (float)((i * 31 + rank) % 1000);
	if (rank == 3)
		die_in(p->after_us);
	while (!rc) {
		memcpy(x, before, sizeof(x)); /* soon over: most ends come within calls */
		rc = case_call(c, &r, &opts);
	}
	if (r.coll != CX_BROADCAST || rank == r.root)
		EXPECT(!memcmp(in, before + (in - x), n * sizeof(*x)), "rank %d: %s: changed", rank,
		       cx_coll_name(r.coll));
}

Test(preserve, each_collective_s_input, .timeout = 300)
{
	static const enum cx_coll colls[] = { CX_ALLREDUCE, CX_REDUCE, CX_REDUCE_SCATTER,
					      CX_ALLGATHER, CX_BROADCAST };
	const collx_config config = impatient(0);

	for (unsigned i = 0; i < 20; i++) {
		struct loss loss = { colls[i % 5], 30000 + 3400 * i };
		const struct world w = { .size = RANKS, .killed = 1u << 3, .config = &config,
					 .transport = i / 5 % 2 ? "shm" : "tcp", .fn = keep_input,
					 .arg = &loss };

		cr_assert_eq(world_run(&w), 0, "%s", cx_coll_name(loss.coll));
	}
}

/* ---- nobody reaches a rank's buffers after it was told of an error ---- */

static void be_fenced(collx_comm_t c, int rank, int size, void *arg)
{
	static float x[LARGE];
	int rc = 0;

	(void)arg;
	if (rank == 1)
		die_in(20000);
	while (!rc)
		rc = collx_allreduce(x, x, LARGE, COLLX_FLOAT32, COLLX_SUM, c, NULL);
	for (int i = 0; i < size * CX_LANES; i++)
		EXPECT(!c->exec.links[i].lane, "rank %d: lane %d is open after '%s'", rank, i,
		       collx_last_error(c));
}

Test(fence, stands_before_an_error_is_told, .timeout = 120)
{
	static const char *const transports[] = { "shm", "tcp" };
	const collx_config config = impatient(0);

	for (int i = 0; i < 2; i++) {
		const struct world w = { .size = 3, .killed = 1u << 1, .config = &config,
					 .transport = transports[i], .fn = be_fenced };

		cr_assert_eq(world_run(&w), 0, "%s", transports[i]);
	}
}

/* ---- the next communicator is of those who know more than its id ---- */

static bool knows_the_id_only;

int __real_cx_guard_mix(const struct cx_ward *w, struct cx_secret *s);
int __wrap_cx_guard_mix(const struct cx_ward *w, struct cx_secret *s);

int __wrap_cx_guard_mix(const struct cx_ward *w, struct cx_secret *s)
{
	return knows_the_id_only ? 0 : __real_cx_guard_mix(w, s);
}

static void know_the_id(collx_comm_t c, int rank, int size, void *arg)
{
	collx_opts opts = COLLX_OPTS_INIT;
	collx_comm_t next = NULL;
	int rc;

	(void)size;
	(void)arg;
	EXPECT(!collx_comm_shrink(c, NULL, 0, &next, &opts), "rank %d: %s", rank,
	       collx_last_error(c));
	collx_comm_destroy(next);
	next = NULL;
	opts.timeout_ms = 1500;
	knows_the_id_only = rank == 1;
	rc = collx_comm_shrink(c, NULL, 0, &next, &opts);
	EXPECT(rc || (rank == 0 && collx_comm_size(next) == 1), "rank %d has one with the other",
	       rank);
	collx_comm_destroy(next);
}

Test(epoch, an_id_alone_opens_nothing, .timeout = 120)
{
	const collx_config config = impatient(0);
	const struct world w = { .size = 2, .config = &config, .fn = know_the_id };

	cr_assert_eq(world_run(&w), 0);
}

/* ---- who is destroyed while it repairs leaves; that is no abort ---- */

struct leaver {
	collx_comm_t comm;
	unsigned after_us;
};

static void *destroy_soon(void *arg)
{
	const struct leaver *l = arg;

	usleep(l->after_us);
	EXPECT(!collx_comm_destroy(l->comm), "%s", collx_last_error(NULL));
	return NULL;
}

static void be_destroyed(collx_comm_t c, unsigned after_us)
{
	struct leaver l = { c, after_us };
	pthread_t thread;

	EXPECT(!pthread_create(&thread, NULL, destroy_soon, &l), "no thread");
	collx_comm_repair(&c, NULL);
	pthread_join(thread, NULL);
}

static void lose_a_leaver(const collx_unique_id *id, int rank, int size, void *arg)
{
	const collx_config config = impatient(0);
	collx_comm_t c = NULL;
	int rc = collx_comm_create(&c, size, id, rank, &config);

	EXPECT(!rc, "rank %d: %s", rank, collx_last_error(NULL));
	if (rc)
		return;
	if (rank == size - 1) {
		be_destroyed(c, *(unsigned *)arg);
		return;
	}
	for (int tries = 0; tries < 5 && !rc && collx_comm_size(c) == size; tries++) {
		rc = collx_comm_repair(&c, NULL);
		while (!rc && collx_comm_size(c) == size)
			rc = collx_barrier(c, NULL);
		EXPECT(rc != COLLX_ERR_ABORTED, "rank %d: %s", rank, collx_last_error(c));
		rc = rc == COLLX_ERR_PEER_LEFT ? 0 : rc;
	}
	EXPECT(!rc && collx_comm_size(c) == size - 1, "rank %d, of %d: %s", rank,
	       collx_comm_size(c), collx_last_error(c));
	collx_comm_destroy(c);
}

Test(leaving, in_a_repair_aborts_nobody, .timeout = 300)
{
	for (unsigned i = 0; i < 24; i++) {
		unsigned after_us = 1000 + i * 600;
		const struct world w = { .size = 3, .raw = lose_a_leaver, .arg = &after_us };

		cr_assert_eq(world_run(&w), 0, "%u us", after_us);
	}
}
