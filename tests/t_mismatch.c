/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ranks that call different things: each field of a call alone, for each collective,
 * 2 to 9 ranks, the odd one at every place, over shared memory and TCP. Every rank
 * fails with the same line, which names both calls and who made them, soon; and no
 * byte that does not belong there is in anybody's buffer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <criterion/criterion.h>

#include "src/base/base.h"
#include "src/comm.h"
#include "tests/cases.h"
#include "tests/world.h"

enum { RANKS_MOST = 9, COUNT = 700, OTHER = 300, BYTES = 8 * RANKS_MOST * COUNT, FILL = 0xa5 };
/* An answer is waited for 200 ms. */
enum { TRIES = 3, WAITED_MS = 190 };

enum field { OF_COUNT, OF_TYPE, OF_OP, OF_ROOT, OF_COLL, OF_PROMISE, OF_SKIPPED, FIELDS };

static const char *const field_names[FIELDS] = { "count", "type", "op", "root", "collective",
						 "promise", "skipped call" };

static bool has_field(enum cx_coll coll, enum field f)
{
	switch (f) {
	case OF_COUNT: case OF_TYPE:
		return coll != CX_BARRIER;
	case OF_OP:
		return coll == CX_ALLREDUCE || coll == CX_REDUCE_SCATTER || coll == CX_REDUCE;
	case OF_ROOT:
		return coll == CX_BROADCAST || coll == CX_REDUCE;
	case OF_PROMISE:
		return coll == CX_ALLREDUCE || coll == CX_BROADCAST || coll == CX_BARRIER;
	default:
		return true;
	}
}

struct call {
	enum cx_coll coll;
	size_t count;
	collx_type type;
	collx_op op;
	int root;
	bool uniform;
};

static struct call base_call(enum cx_coll coll, int size)
{
	struct call k = { coll, COUNT, COLLX_FLOAT32, COLLX_SUM, 0, false };

	if (coll == CX_BARRIER)
		k = (struct call){ coll, 1, COLLX_UINT8, COLLX_SUM, 0, false };
	if (has_field(coll, OF_ROOT))
		k.root = 1 % size;
	return k;
}

/* The odd rank's call. */
static struct call other_call(struct call k, enum field f, int size)
{
	switch (f) {
	case OF_COUNT: k.count = OTHER; break;
	case OF_TYPE: k.type = COLLX_INT32; break;
	case OF_OP: k.op = COLLX_MAX; break;
	case OF_ROOT: k.root = (k.root + 1) % size; break;
	case OF_PROMISE: k.uniform = true; break;
	case OF_COLL: return base_call((enum cx_coll)((k.coll + 1) % CX_NCOLL), size);
	default: return base_call(CX_ALLREDUCE, size); /* what comes after the skipped one */
	}
	return k;
}

static struct call call_after_skipped(int size)
{
	struct call k = base_call(CX_ALLREDUCE, size);

	k.count = OTHER + 1;
	return k;
}

static int make_call(collx_comm_t c, const struct call *k, const void *in, void *out)
{
	const struct cx_request r = { k->coll, in, out, k->count, k->type, k->op, k->root };
	collx_opts opts = COLLX_OPTS_INIT;

	opts.flags = k->uniform ? COLLX_UNIFORM : 0;
	return case_call(c, &r, &opts);
}

/* ---- the line that must come ---- */

static void words(const struct call *k, char *text, size_t len)
{
	static const char *const names[CX_NCOLL] = { "allreduce", "reduce_scatter", "allgather",
						     "broadcast", "reduce", "barrier" };
	const char *type = k->type == COLLX_INT32 ? "int32" : "float32";
	const char *op = k->op == COLLX_MAX ? "max" : "sum";
	int n;

	if (k->coll == CX_BARRIER) {
		snprintf(text, len, k->uniform ? "barrier(uniform)" : "barrier()");
		return;
	}
	n = snprintf(text, len, "%s(count %zu, %s", names[k->coll], k->count, type);
	if (has_field(k->coll, OF_OP))
		n += snprintf(text + n, len - (size_t)n, ", %s", op);
	if (has_field(k->coll, OF_ROOT))
		n += snprintf(text + n, len - (size_t)n, ", root %d", k->root);
	snprintf(text + n, len - (size_t)n, k->uniform ? ", uniform)" : ")");
}

/* "rank 0", "ranks 0, 1, 3-5": all but `odd`. */
static void others(int size, int odd, char *text, size_t len)
{
	int n = snprintf(text, len, size == 2 ? "rank" : "ranks"), first = 1;

	for (int r = 0, end; r < size; r = end + 1) {
		for (end = r; end < size && end != odd; end++)
			;
		if (end == r)
			continue;
		n += snprintf(text + n, len - (size_t)n, first ? " %d" : ", %d", r);
		if (end - r == 2)
			n += snprintf(text + n, len - (size_t)n, ", %d", r + 1);
		else if (end - r > 2)
			n += snprintf(text + n, len - (size_t)n, "-%d", end - 1);
		first = 0;
	}
}

static void expected_line(const struct call *mine, const struct call *odds, int size, int odd,
			  char *text, size_t len)
{
	char a[96], b[96], who[64];

	words(odds, a, sizeof(a));
	words(mine, b, sizeof(b));
	others(size, odd, who, sizeof(who));
	if (size == 2 && odd == 0)
		snprintf(text, len, "rank 1 called %s as operation 2; rank 0 called %s", b, a);
	else
		snprintf(text, len, "rank %d called %s as operation 2; %s called %s", odd, a, who,
			 b);
}

/* ---- a case ---- */

/* Shared by the ranks. */
struct plan {
	int odd;
	int slowest_ms; /* from a rank's call to its error */
	int cases;
};

static void fill(unsigned char *in, unsigned char *out, int rank)
{
	memset(in, 0x40 + rank, BYTES);
	memset(out, FILL, BYTES);
}

/* Mine, nobody's, or where data is only copied that of ranks who called the same. */
static void check_bytes(const unsigned char *out, const struct call *k, int rank, int odd,
			const char *what)
{
	bool copies = k->coll == CX_ALLGATHER || k->coll == CX_BROADCAST;

	for (size_t i = 0; i < BYTES; i++) {
		int from = out[i] - 0x40;

		if (out[i] == FILL || from == rank)
			continue;
		if (!EXPECT(copies && from >= 0 && from < RANKS_MOST && from != odd && rank != odd,
			    "%s: rank %d: byte %zu is %02x", what, rank, i, out[i]))
			return;
	}
}

/* Calls until the error comes: who needs nothing of the others has it a call later. */
static int call_until_error(collx_comm_t c, const struct call *first, const struct call *next,
			    const void *in, void *out)
{
	int rc = make_call(c, first, in, out);

	for (int i = 0; !rc && i < 3; i++)
		rc = next ? make_call(c, next, in, out) : collx_barrier(c, NULL);
	return rc;
}

/* How long it took; negative: the error is not the right one. */
static int run_case(collx_comm_t c, int rank, int size, struct plan *p, enum cx_coll coll,
		    enum field f, bool last)
{
	static unsigned char in[BYTES], out[BYTES];
	struct call mine = base_call(coll, size), odds = other_call(mine, f, size);
	struct call after = call_after_skipped(size);
	char line[512], what[128];
	uint64_t start, took;
	int rc = collx_barrier(c, NULL), transport = c->media[0].transport->name[0];
	bool right;

	if (f == OF_SKIPPED)
		odds = after;
	snprintf(what, sizeof(what), "%s, %s of rank %d, %d ranks, %s", cx_coll_name(coll),
		 field_names[f], p->odd, size, transport == 's' ? "shm" : "tcp");
	EXPECT(rc == 0, "%s: %s", what, collx_last_error(c));
	fill(in, out, rank);
	start = now_ms();
	if (rank == p->odd)
		rc = call_until_error(c, &odds, NULL, in, out);
	else
		rc = call_until_error(c, &mine, f == OF_SKIPPED ? &after : NULL, in, out);
	took = now_ms() - start;
	expected_line(&mine, &odds, size, p->odd, line, sizeof(line));
	right = !strcmp(collx_last_error(c), line);
	if (!right && !rank)
		fprintf(stderr, "%s: after %d ms: %s\n", what, (int)took, collx_last_error(c));
	EXPECT(rc == COLLX_ERR_MISMATCH && (right || !last),
	       "%s: rank %d: %s\n  '%s', not\n  '%s'", what, rank, collx_strerror(rc),
	       collx_last_error(c), line);
	snprintf(line, sizeof(line), "%s", collx_last_error(c));
	EXPECT(took < 10000, "%s: rank %d took %d ms", what, rank, (int)took);
	check_bytes(out, rank == p->odd ? &odds : &mine, rank, p->odd, what);
	rc = collx_barrier(c, NULL);
	EXPECT(rc == COLLX_ERR_MISMATCH && !strcmp(collx_last_error(c), line), "%s: again: %s",
	       what, collx_last_error(c));
	if ((int)took > __atomic_load_n(&p->slowest_ms, __ATOMIC_RELAXED))
		__atomic_store_n(&p->slowest_ms, (int)took, __ATOMIC_RELAXED);
	__atomic_fetch_add(&p->cases, rank == 0 && right, __ATOMIC_RELAXED);
	return right ? (int)took : -1 - (int)took;
}

static int make_comm(collx_comm_t through, int rank, int size, collx_comm_t *c)
{
	collx_unique_id id;
	int rc = rank ? 0 : collx_get_unique_id(&id);

	if (!rc)
		rc = collx_broadcast(&id, &id, sizeof(id), COLLX_UINT8, 0, through, NULL);
	return rc ? rc : collx_comm_create(c, size, &id, rank, NULL);
}

/* Whose guard had no processor to answer in time is not in the line: then the case is tried
 * again. Each ends its communicator; the one that they are made through lives on. */
static void try_case(collx_comm_t through, int rank, int size, struct plan *p, enum cx_coll coll,
		     enum field f)
{
	int32_t took, least = -1, most = 0; /* of all ranks; least: negative where one is wrong */

	for (int tries = 1; least < 0 && tries <= TRIES; tries++) {
		collx_comm_t c;
		int rc = make_comm(through, rank, size, &c);

		if (!EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(NULL)))
			return;
		took = run_case(c, rank, size, p, coll, f, tries == TRIES);
		collx_comm_destroy(c);
		rc = collx_allreduce(&took, &least, 1, COLLX_INT32, COLLX_MIN, through, NULL);
		took = took < 0 ? -1 - took : took;
		if (!rc)
			rc = collx_allreduce(&took, &most, 1, COLLX_INT32, COLLX_MAX, through,
					     NULL);
		EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(through));
		if (least < 0)
			EXPECT(most >= WAITED_MS, "rank %d: nobody was waited for", rank);
	}
}

static void run_cases(collx_comm_t through, int rank, int size, void *arg)
{
	struct plan *p = arg;
	int rc;

	for (int coll = 0; coll < CX_NCOLL; coll++)
		for (int f = 0; f < FIELDS; f++)
			if (has_field((enum cx_coll)coll, (enum field)f))
				try_case(through, rank, size, p, (enum cx_coll)coll, (enum field)f);
	rc = collx_barrier(through, NULL);
	EXPECT(rc == 0, "the communicator through which others were made: %s",
	       collx_last_error(through));
}

static struct plan *plan_make(void)
{
	struct plan *p = mmap(NULL, sizeof(*p), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(p, MAP_FAILED);
	return p;
}

static void run_sizes(int from, int to, const char *transport, int step)
{
	struct plan *p = plan_make();
	for (int size = from; size <= to; size++)
		for (p->odd = (size * 5 + from) % step; p->odd < size; p->odd += step) {
			const struct world w = { .size = size, .fn = run_cases, .arg = p,
						 .transport = transport, .deadline_s = 300 };

			cr_assert_eq(world_run(&w), 0, "%d ranks, odd %d", size, p->odd);
		}
	cr_log_info("%s: %d cases, the slowest took %d ms", transport, p->cases, p->slowest_ms);
	munmap(p, sizeof(*p));
}

Test(mismatch, of_2_to_5_ranks_over_shm, .timeout = 600)
{
	run_sizes(2, 5, "shm", 1);
}

Test(mismatch, of_6_to_9_ranks_over_shm, .timeout = 600)
{
	run_sizes(6, 9, "shm", 1);
}

Test(mismatch, of_2_to_4_ranks_over_tcp, .timeout = 600)
{
	run_sizes(2, 4, "tcp", 1);
}

Test(mismatch, of_5_to_9_ranks_over_tcp, .timeout = 600)
{
	run_sizes(5, 9, "tcp", 3);
}
