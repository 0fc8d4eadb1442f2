/* SPDX-License-Identifier: BSD-3-Clause */
/* The selection table and its lookup. First row that fits wins. */
#include <stdatomic.h>
#include <string.h>

#include "base/base.h"
#include "select.h"

enum { ANY = 2, MANY = 1 << 30 };
#define K *1024u
#define REST SIZE_MAX
#define EACH(bytes) { bytes, bytes, bytes }

struct row {
	enum cx_coll coll;
	int crowded; /* 0, 1 or ANY: more ranks than cores */
	int max_ranks;
	size_t max_bytes;
	const char *algo;
	size_t block_bytes[CX_SPANS]; /* by shared memory, a network, the loopback */
};

/* Rows by measurement on 2 cores (doc/PERFORMANCE) and by the step counts of
 * doc/DESIGN section 5: latency grows with log P beyond a handful of ranks. */
static const struct row table[] = {
	{ CX_ALLREDUCE, 0, 4, 1 K, "flat", EACH(64 K) },
	{ CX_ALLREDUCE, 1, 8, 256, "flat", EACH(64 K) },
	{ CX_ALLREDUCE, ANY, MANY, 12 K, "rdbl", EACH(64 K) },
	{ CX_ALLREDUCE, ANY, MANY, 128 K, "rhalving", EACH(64 K) },
	{ CX_ALLREDUCE, ANY, 2, REST, "ring", { 64 K, 128 K, 512 K } },
	{ CX_ALLREDUCE, ANY, 4, REST, "ring", { 64 K, 64 K, 256 K } },
	{ CX_ALLREDUCE, ANY, 32, REST, "ring", EACH(64 K) },
	{ CX_ALLREDUCE, ANY, MANY, 1024 K, "rhalving", EACH(64 K) },
	{ CX_ALLREDUCE, ANY, MANY, REST, "tree", EACH(128 K) },

	{ CX_REDUCE_SCATTER, ANY, 8, 8 K, "direct", EACH(64 K) },
	{ CX_REDUCE_SCATTER, ANY, 4, REST, "ring", { 64 K, 64 K, 512 K } },
	{ CX_REDUCE_SCATTER, ANY, MANY, 512 K, "rhalving", EACH(64 K) },
	{ CX_REDUCE_SCATTER, ANY, MANY, REST, "ring", EACH(64 K) },

	{ CX_ALLGATHER, ANY, 4, 2 K, "direct", EACH(64 K) },
	{ CX_ALLGATHER, ANY, MANY, 512 K, "rdbl", EACH(64 K) },
	{ CX_ALLGATHER, ANY, 4, REST, "ring", { 64 K, 64 K, 512 K } },
	{ CX_ALLGATHER, ANY, MANY, REST, "ring", EACH(64 K) },

	{ CX_BROADCAST, ANY, 8, 2 K, "flat", EACH(64 K) },
	{ CX_BROADCAST, ANY, MANY, 32 K, "binomial", EACH(64 K) },
	{ CX_BROADCAST, ANY, 4, REST, "tree", { 64 K, 64 K, 256 K } },
	{ CX_BROADCAST, ANY, MANY, REST, "tree", EACH(64 K) },

	{ CX_REDUCE, ANY, 8, 512, "flat", EACH(64 K) },
	{ CX_REDUCE, ANY, MANY, 32 K, "binomial", EACH(64 K) },
	{ CX_REDUCE, ANY, 4, REST, "tree", { 64 K, 64 K, 256 K } },
	{ CX_REDUCE, ANY, MANY, REST, "tree", EACH(64 K) },

	{ CX_BARRIER, 1, 4, REST, "flat", EACH(64 K) },
	{ CX_BARRIER, ANY, MANY, REST, "dissemination", EACH(64 K) },
};
enum { ROWS = sizeof(table) / sizeof(table[0]) };

static int fits(const struct row *r, const struct cx_select_agreed *a, int ranks, size_t bytes)
{
	return (r->crowded == ANY || r->crowded == a->crowded) && ranks <= r->max_ranks &&
	       bytes <= r->max_bytes;
}

/* The row's algorithm, looked up by name once. */
static const struct cx_algo *algo_of(int i)
{
	static _Atomic(const struct cx_algo *) known[ROWS];
	const struct cx_algo *algo = atomic_load_explicit(&known[i], memory_order_relaxed);

	if (!algo) {
		algo = cx_algo_find(table[i].coll, table[i].algo);
		atomic_store_explicit(&known[i], algo, memory_order_relaxed);
	}
	return algo;
}

/* A forced one has the blocks that it has in the table, where it is there for so many ranks. */
struct cx_choice cx_select(const struct cx_select_agreed *a, enum cx_coll coll, int ranks,
			   size_t bytes)
{
	const struct cx_algo *forced = a->forced[coll] < 0 ? NULL : cx_algos[a->forced[coll]];

	for (int i = 0; i < ROWS; i++)
		if (table[i].coll == coll && fits(&table[i], a, ranks, forced ? 0 : bytes) &&
		    (!forced || algo_of(i) == forced))
			return (struct cx_choice){ algo_of(i), table[i].block_bytes[a->span] };
	return (struct cx_choice){ forced, 64 K };
}

/* One "COLL:NAME" of COLLX_ALGO. */
static int force(struct cx_select_agreed *a, char *item)
{
	char *name = strchr(item, ':');
	const struct cx_algo *algo;
	enum cx_coll coll;

	if (!name)
		return cx_fail(COLLX_ERR_INVALID, "COLLX_ALGO: '%s' is not COLL:NAME", item);
	*name++ = '\0';
	coll = cx_coll_find(item);
	algo = coll == CX_NCOLL ? NULL : cx_algo_find(coll, name);
	if (!algo)
		return cx_fail(COLLX_ERR_INVALID,
			       "COLLX_ALGO: there is no algorithm %s:%s; collx-info algos lists "
			       "them",
			       item, name);
	for (int i = 0; cx_algos[i]; i++)
		if (cx_algos[i] == algo)
			a->forced[coll] = (int8_t)i;
	return 0;
}

int cx_select_decide(struct cx_select_agreed *a)
{
	const char *text = cx_env_text(CX_ENV_ALGO);
	char copy[256], *rest = copy, *item;
	int rc = 0;

	memset(a->forced, -1, sizeof(a->forced));
	a->crowded = 0;
	a->span = CX_SPAN_MEMORY;
	if (!text)
		return 0;
	if (strlen(text) >= sizeof(copy))
		return cx_fail(COLLX_ERR_INVALID, "COLLX_ALGO is longer than %zu characters",
			       sizeof(copy) - 1);
	strcpy(copy, text);
	while (!rc && (item = strsep(&rest, ",")))
		rc = *item ? force(a, item) : 0;
	return rc;
}

int cx_select_check(const struct cx_select_agreed *a)
{
	int n = 0;

	while (cx_algos[n])
		n++;
	for (int coll = 0; coll < CX_NCOLL; coll++) {
		int i = a->forced[coll];

		if (i < -1 || i >= n || (i >= 0 && (int)cx_algos[i]->coll != coll))
			return cx_fail(COLLX_ERR_CORRUPT, "rank 0 forces algorithm %d for %s", i,
				       cx_coll_name((enum cx_coll)coll));
	}
	return 0;
}

void cx_select_print(FILE *to, enum cx_coll coll, int ranks)
{
	static const char *const crowds[] = { "no", "yes", "any" };

	fprintf(to, "%-15s %-9s %-9s %-12s %-14s %-8s %-8s %s\n", "collective", "crowded",
		"ranks to", "bytes to", "algorithm", "block", "network", "loopback");
	for (int i = 0; i < ROWS; i++) {
		const struct row *r = &table[i];
		char most[24] = "any", bytes[24] = "any";

		if ((coll != CX_NCOLL && r->coll != coll) || ranks > r->max_ranks)
			continue;
		if (r->max_ranks != MANY)
			snprintf(most, sizeof(most), "%d", r->max_ranks);
		if (r->max_bytes != REST)
			snprintf(bytes, sizeof(bytes), "%zu", r->max_bytes);
		fprintf(to, "%-15s %-9s %-9s %-12s %-14s %-8zu %-8zu %zu\n",
			cx_coll_name(r->coll), crowds[r->crowded], most, bytes, r->algo,
			r->block_bytes[CX_SPAN_MEMORY], r->block_bytes[CX_SPAN_NETWORK],
			r->block_bytes[CX_SPAN_LOOPBACK]);
	}
}
