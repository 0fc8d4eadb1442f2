/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guard beside threads that make, use, lose and leave communicators at once, and
 * its view of calls while they are made: for ThreadSanitizer.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/base.h"
#include "src/comm.h"
#include "tests/world.h"

enum { GROUPS = 2, RANKS = 3, ROUNDS = 12, READS = 200000 };

struct rank {
	const collx_unique_id *id; /* [round] */
	int rank, group, failed;
	pthread_t thread;
};

/* ---- calls, read while they are made ---- */

static struct cx_calls calls;
static atomic_bool enough;

static void *read_calls(void *arg)
{
	struct cx_sign s[CX_SIGNS];
	uint64_t state, first = 0;

	for (int reads = 0; reads < READS;) {
		unsigned n = cx_calls_read(&calls, &state, s);

		reads += n > 0;
		first = first ? first : state;
		for (unsigned i = 0; i < n; i++)
			if (!EXPECT(s[i].seq == (state + 1) / 2 - n + 1 + i &&
				    s[i].count == 3 * s[i].seq && s[i].what == 5 * s[i].seq,
				    "call %llu has count %llu", (unsigned long long)s[i].seq,
				    (unsigned long long)s[i].count))
				break;
	}
	EXPECT(state > first, "no calls were made meanwhile");
	atomic_store(&enough, true);
	return expect_failures() ? arg : NULL;
}

static int calls_while_they_are_made(void)
{
	pthread_t thread;
	void *failed;

	cx_calls_init(&calls);
	if (pthread_create(&thread, NULL, read_calls, &calls))
		return 1;
	for (uint64_t seq = 1; !atomic_load_explicit(&enough, memory_order_relaxed); seq++) {
		cx_calls_begin(&calls, seq, 3 * seq, 5 * seq);
		cx_calls_end(&calls, seq);
	}
	pthread_join(thread, &failed);
	return failed != NULL;
}

/* ---- errors ---- */

static int compute(collx_comm_t c, size_t count, uint32_t timeout_ms)
{
	static _Thread_local float in[1000], out[1000];
	collx_opts o = COLLX_OPTS_INIT;

	o.timeout_ms = timeout_ms;
	return collx_allreduce(in, out, count, COLLX_FLOAT32, COLLX_SUM, c, &o);
}

/* What goes wrong in this round; the code that all who stay must have. */
static int go_wrong(collx_comm_t c, int round, int rank, int *want)
{
	int rc = 0, odd = round % RANKS;

	switch (round / RANKS % 4) {
	case 0:
		*want = COLLX_ERR_MISMATCH;
		return compute(c, rank == odd ? 7 : 8, 0);
	case 1:
		*want = COLLX_ERR_PEER_LEFT;
		return rank == odd ? 0 : compute(c, 8, 0);
	case 2:
		*want = COLLX_ERR_TIMEOUT;
		for (int i = 0; rank == odd && !cx_guard_verdict(c->guard) && i < 10000; i++)
			nap_ms(1);
		return compute(c, 8, 100);
	default:
		*want = 0;
		for (int i = 0; !rc && i < 20; i++)
			rc = compute(c, 1 + (size_t)i, 0);
		return rc;
	}
}

static void *run_rank(void *arg)
{
	struct rank *me = arg;
	collx_comm_t c;
	int rc, want = 0;

	for (int round = 0; round < ROUNDS; round++) {
		rc = collx_comm_create(&c, RANKS, &me->id[round], me->rank, NULL);
		if (!EXPECT(rc == 0, "rank %d: %s", me->rank, collx_last_error(NULL)))
			break;
		rc = compute(c, 1000, 0);
		EXPECT(rc == 0, "rank %d: %s", me->rank, collx_last_error(c));
		rc = go_wrong(c, round, me->rank, &want);
		EXPECT(rc == want || (want == COLLX_ERR_PEER_LEFT && me->rank == round % RANKS),
		       "round %d, rank %d: %s: %s", round, me->rank, collx_strerror(rc),
		       collx_last_error(c));
		collx_comm_destroy(c);
	}
	me->failed = expect_failures();
	return NULL;
}

/* ---- destroyed while another thread is in a call ---- */

enum { BESIDES = 6 };

static void *wait_in_a_call(void *arg)
{
	struct pair {
		collx_comm_t c;
		int what;
	} *p = arg;
	uint64_t flags = 1;
	float one = 1;
	int rc;

	if (p->what % 3 == 0)
		rc = compute(p->c, 8, 0);
	else if (p->what % 3 == 1)
		rc = collx_recv(&one, 1, COLLX_FLOAT32, 1, p->c, NULL);
	else
		rc = collx_comm_agree(p->c, &flags, NULL, NULL);
	EXPECT(rc == COLLX_ERR_ABORTED, "%d: %s: %s", p->what, collx_strerror(rc),
	       collx_last_error(NULL));
	return expect_failures() ? arg : NULL;
}

static void *create_second(void *arg)
{
	collx_comm_t c = NULL;

	EXPECT(!collx_comm_create(&c, 2, arg, 1, NULL), "%s", collx_last_error(NULL));
	return c;
}

/* Of two ranks, the other one comes to no call; it is destroyed twice, at once. */
static void *destroy_it(void *c)
{
	return (void *)(intptr_t)collx_comm_destroy(c);
}

static int destroyed_in_a_call(void)
{
	struct {
		collx_comm_t c;
		int what;
	} p;
	pthread_t thread, second;
	collx_unique_id id;
	void *failed, *other, *twice;
	int bad = 0, rc;

	for (p.what = 0; p.what < BESIDES && !bad; p.what++) {
		if (collx_get_unique_id(&id) ||
		    pthread_create(&thread, NULL, create_second, &id) ||
		    collx_comm_create(&p.c, 2, &id, 0, NULL))
			return 1;
		pthread_join(thread, &other);
		if (!other || pthread_create(&thread, NULL, wait_in_a_call, &p))
			return 1;
		call_begins(p.c);
		nap_ms(100);
		if (pthread_create(&second, NULL, destroy_it, p.c))
			return 1;
		rc = collx_comm_destroy(p.c);
		pthread_join(second, &twice);
		pthread_join(thread, &failed);
		bad |= failed || rc + (int)(intptr_t)twice != COLLX_ERR_INVALID;
		bad |= collx_comm_destroy(other) != 0;
	}
	if (bad)
		fprintf(stderr, "destroyed in a call: %d\n", p.what);
	return bad;
}

int main(void)
{
	static collx_unique_id ids[GROUPS][ROUNDS];
	static struct rank ranks[GROUPS * RANKS];
	char base[64];
	int failed = calls_while_they_are_made() | folder_make(base);

	for (int i = 0; i < GROUPS * ROUNDS; i++)
		failed |= collx_get_unique_id(&ids[i / ROUNDS][i % ROUNDS]);
	for (int i = 0; !failed && i < GROUPS * RANKS; i++) {
		ranks[i] = (struct rank){ .id = ids[i / RANKS], .rank = i % RANKS,
					  .group = i / RANKS };
		if (pthread_create(&ranks[i].thread, NULL, run_rank, &ranks[i]))
			return 99;
	}
	for (int i = 0; !failed && i < GROUPS * RANKS; i++)
		pthread_join(ranks[i].thread, NULL);
	for (int i = 0; i < GROUPS * RANKS; i++)
		failed |= ranks[i].failed;
	failed |= destroyed_in_a_call();
	failed |= folder_gone(base);
	printf("%d ranks in %d communicators: %s\n", GROUPS * RANKS, GROUPS,
	       failed ? "failed" : "all is well");
	return failed != 0;
}
