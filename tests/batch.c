/* SPDX-License-Identifier: BSD-3-Clause */
/* Many cases, one world; see batch.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "src/base/base.h"
#include "tests/batch.h"
#include "tests/simworld.h"
#include "tests/world.h"

enum { OK = 1, BAD = 2 }; /* bits in bad[]; neither: it did not run */

static size_t largest(const struct batch *b)
{
	size_t most = 1;

	for (int i = 0; i < b->n; i++)
		most = cx_max(most, case_count(&b->cases[i]));
	return most;
}

static void verdict(struct batch *b, int i, int ok)
{
	__atomic_fetch_or(&b->bad[i], ok ? OK : BAD, __ATOMIC_RELAXED);
}

/* ---- real worlds ---- */

static int run_case(collx_comm_t comm, const struct case_memory *m, const struct test_case *k,
		    int rank)
{
	struct cx_request r = case_begin(m, k, rank);
	char text[160];
	int rc;

	comm->agreed.forced[r.coll] = (int8_t)case_algo(k);
	if (k->v[F_MODE] == MODE_MIXED)
		comm->exec.kernels = cx_kernels_pick(rank % 2 ? "portable" : NULL);
	rc = case_call(comm, &r, NULL);
	comm->agreed.forced[r.coll] = -1;
	if (rc) {
		case_text(k, text, sizeof(text));
		return EXPECT(0, "%s: rank %d: %s: %s", text, rank, collx_strerror(rc),
			      collx_last_error(comm));
	}
	return case_check(m, k, rank, &r);
}

static void run_rank(collx_comm_t comm, int rank, int size, void *arg)
{
	struct batch *b = arg;
	struct case_memory m;

	if (!case_memory_make(&m, largest(b), size))
		for (int i = 0; i < b->n; i++)
			verdict(b, i, run_case(comm, &m, &b->cases[i], rank));
	case_memory_free(&m);
}

/* ---- the simulated world: a new one each case, for it has that case's seed ---- */

static int sim_case(const struct test_case *k, const struct case_memory *m)
{
	struct cx_sim_attr attr = simworld_attr(k->seed);
	struct cx_request r[RANKS_MAX];
	struct simworld w;
	char text[160];
	int rc = simworld_open(&w, case_ranks(k), &attr, k->seed % 3 ? 4096 : 64), ok;

	for (int i = 0; i < case_ranks(k); i++)
		r[i] = case_begin(&m[i], k, i);
	if (!rc) {
		simworld_force(&w, r[0].coll, case_algo(k));
		rc = r[0].count ? simworld_run(&w, r, 0) : 0;
	}
	case_text(k, text, sizeof(text));
	ok = EXPECT(rc == 0, "%s: %s: %s", text, collx_strerror(rc), cx_error_text());
	for (int i = 0; i < case_ranks(k); i++)
		ok &= case_check(&m[i], k, i, &r[i]);
	simworld_close(&w);
	return ok;
}

static int run_sim(struct batch *b)
{
	struct case_memory m[RANKS_MAX];
	int ranks = case_ranks(&b->cases[0]), rc = 0;

	for (int r = 0; r < ranks; r++)
		rc |= case_memory_make(&m[r], largest(b), ranks);
	for (int i = 0; !rc && i < b->n; i++)
		verdict(b, i, sim_case(&b->cases[i], m));
	for (int r = 0; r < ranks; r++)
		case_memory_free(&m[r]);
	return rc;
}

/* ---- either ---- */

/* Blocks of ranks, or every so manieth. */
static int host_of(int rank, int ranks)
{
	int hosts = ranks > 5 ? 3 : 2;

	return ranks % 2 ? rank % hosts : rank * hosts / ranks;
}

static int run_world(struct batch *b)
{
	enum mode mode = (enum mode)b->cases[0].v[F_MODE];
	const struct world w = {
		.size = case_ranks(&b->cases[0]), .threads = mode == MODE_THREADS,
		.transport = mode == MODE_TCP ? "tcp" : NULL,
		.host = mode == MODE_HOSTS ? host_of : NULL,
		.deadline_s = 600, .fn = run_rank, .arg = b,
	};

	return world_run(&w);
}

int batch_run(struct batch *b)
{
	size_t bytes = cx_round_up((size_t)b->n + 1, 4096);
	int rc;

	b->bad = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (b->bad == MAP_FAILED)
		return 1;
	b->failed = 0;
	rc = b->n ? b->cases[0].v[F_MODE] == MODE_SIM ? run_sim(b) : run_world(b) : 0;
	for (int i = 0; i < b->n; i++)
		b->failed += b->bad[i] != OK;
	munmap(b->bad, bytes);
	b->bad = NULL;
	return rc || b->failed;
}
