/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ranks as threads of one process, two communicators at once, all collectives:
 * for ThreadSanitizer, which Criterion does not survive, so a program of its own.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cases.h"
#include "tests/hosts.h"
#include "tests/world.h"

enum { GROUPS = 2, RANKS = 3, ROUNDS = 3 };

struct rank {
	const collx_unique_id *id;
	int rank, group;
	int failed;
	pthread_t thread;
};

static struct test_case case_of(int what, int count, int round, int group)
{
	struct test_case k = { .v = { [F_WHAT] = (unsigned char)what, [F_RANKS] = RANKS - 1,
				      [F_COUNT] = (unsigned char)count,
				      [F_TYPE] = (unsigned char)((what + round * 3 + group) % 10),
				      [F_OP] = (unsigned char)((what + round) % 5),
				      [F_PLACE] = (unsigned char)(round % 2),
				      [F_ROOT] = (unsigned char)(round % 3),
				      [F_MODE] = MODE_THREADS },
			       .seed = (uint32_t)(1000 * what + 10 * round + group) };

	for (int f = 0; f < FACTORS; f++)
		if (!factor_allowed((enum factor)f, k.v[f], what))
			k.v[f] = 0;
	return k;
}

static void run_case(collx_comm_t c, const struct case_memory *m, const struct test_case *k,
		     int rank)
{
	struct cx_request r = case_begin(m, k, rank);
	int rc;

	c->agreed.forced[r.coll] = (int8_t)case_algo(k);
	rc = case_call(c, &r, NULL);
	if (EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(c)))
		case_check(m, k, rank, &r);
}

/* A message to the next rank, and one from the one before. */
static void pass_on(collx_comm_t c, int rank, uint32_t n)
{
	uint32_t out = n, in = ~n;
	int rc = collx_send(&out, 1, COLLX_UINT32, (rank + 1) % RANKS, c, NULL);

	if (!rc)
		rc = collx_recv(&in, 1, COLLX_UINT32, (rank + RANKS - 1) % RANKS, c, NULL);
	EXPECT(rc == 0 && in == n, "rank %d: message %u is %u: %s", rank, n, in,
	       collx_last_error(c));
}

static void *run_rank(void *arg)
{
	struct rank *me = arg;
	struct case_memory m = { 0 };
	collx_comm_t c = NULL;
	int rc;

	hosts_enter(me->rank, RANKS);
	for (int round = 0; round < ROUNDS; round++) {
		rc = collx_comm_create(&c, RANKS, &me->id[round], me->rank, NULL);
		if (!EXPECT(rc == 0, "%s", collx_last_error(NULL)))
			break;
		if (!m.room && case_memory_make(&m, 100003, RANKS))
			break;
		for (int what = 0; what < factor_values(F_WHAT); what++)
			for (int count = 0; count < factor_values(F_COUNT); count++) {
				struct test_case k = case_of(what, count, round, me->group);

				run_case(c, &m, &k, me->rank);
				pass_on(c, me->rank, k.seed);
			}
		collx_comm_destroy(c);
	}
	case_memory_free(&m);
	me->failed = expect_failures();
	return NULL;
}

static int two_hosts(int rank, int ranks)
{
	return rank == ranks - 1;
}

/* On one host, or on two: with shared memory alone or TCP beside it. */
static int run_groups(int (*host)(int rank, int ranks))
{
	static collx_unique_id ids[GROUPS][ROUNDS];
	static struct rank ranks[GROUPS * RANKS];
	char base[64];
	int failed = folder_make(base) || hosts_lay_out(host, RANKS);

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
	failed |= folder_gone(base);
	printf("%d ranks in %d communicators: %s\n", GROUPS * RANKS, GROUPS,
	       failed ? "failed" : "all is well");
	return failed != 0;
}

int main(void)
{
	return run_groups(NULL) || run_groups(two_hosts);
}
