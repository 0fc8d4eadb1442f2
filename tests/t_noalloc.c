/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory: none is taken once a communicator is warm, and where there is none at
 * all, at each single allocation in turn, ranks get an error and leave nothing.
 * Linked with --wrap for the malloc family.
 */
#include <execinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <criterion/criterion.h>

#include "src/base/base.h"
#include "src/comm.h"
#include "tests/cases.h"
#include "tests/world.h"

/* ---- who calls the allocator ---- */

static int counting;
static long calls;
static void *caller[8]; /* of the first one */
static int callers;

static void count(void)
{
	if (__atomic_load_n(&counting, __ATOMIC_RELAXED) &&
	    !__atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED))
		callers = backtrace(caller, 8);
}

static void count_from_now(void)
{
	backtrace(caller, 8); /* which loads a library the first time */
	calls = 0;
	counting = 1;
}

static bool none_called(void)
{
	if (calls)
		backtrace_symbols_fd(caller, callers, STDERR_FILENO);
	return !calls;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
int __real_posix_memalign(void **p, size_t align, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);
int __wrap_posix_memalign(void **p, size_t align, size_t n);
void __wrap_free(void *p);

void *__wrap_malloc(size_t n)
{
	count();
	return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	count();
	return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	count();
	return __real_realloc(p, n);
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
	count();
	return __real_aligned_alloc(align, n);
}

int __wrap_posix_memalign(void **p, size_t align, size_t n)
{
	count();
	return __real_posix_memalign(p, align, n);
}

void __wrap_free(void *p)
{
	count();
	__real_free(p);
}

Test(noalloc, the_count_counts)
{
	void *p;

	count_from_now();
	p = cx_alloc(1, 100);
	cx_free(p);
	counting = 0;
	cr_assert_eq(calls, 2, "%ld: is this linked with --wrap?", calls);
}

/* ---- a warm communicator ---- */

enum { ROUNDS = 1000, LARGEST = 60000 };

static const size_t sizes[] = { 1, 14, 700, 9000, LARGEST };
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

/* Now and then a large one. */
static size_t size_of(int i)
{
	return i % 20 ? sizes[i % 3] : sizes[i / 20 % SIZES];
}

static int call_one(collx_comm_t c, int coll, size_t n, int i)
{
	static _Thread_local float in[2 * LARGEST], out[2 * LARGEST];
	const struct cx_request r = { (enum cx_coll)coll, in, out, n / (coll ? 2 : 1) + 1,
				      i % 3 ? COLLX_FLOAT32 : COLLX_BFLOAT16, COLLX_SUM,
				      coll == CX_BROADCAST || coll == CX_REDUCE ? i % 2 : 0 };

	return case_call(c, &r, NULL);
}

/* Rank 0 sends to 1, which answers; others look on. */
static int message_round(collx_comm_t c, size_t n, int i)
{
	static _Thread_local float buf[LARGEST];
	int rc = 0;

	for (int way = 0; !rc && way < 2 && c->rank < 2; way++)
		rc = c->rank == way ? collx_send(buf, n, COLLX_FLOAT32, !way, c, NULL)
				    : collx_recv(buf, n, COLLX_FLOAT32, way, c, NULL);
	return rc || i % 16 ? rc : collx_barrier(c, NULL);
}

static void stay_warm(collx_comm_t c, int rank, int size, void *arg)
{
	int rc = 0;

	(void)size;
	(void)arg;
	for (int coll = 0; coll < CX_NCOLL; coll++)
		for (int i = 0; !rc && i < 6 * SIZES; i++)
			rc = call_one(c, coll, sizes[i / 6], i);
	count_from_now();
	for (int coll = 0; coll < CX_NCOLL; coll++) {
		for (int i = 0; !rc && i < ROUNDS; i++)
			rc = call_one(c, coll, size_of(i), i);
		EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(c));
		EXPECT(none_called(), "rank %d: %ld calls of the allocator in %d times %s", rank,
		       calls, ROUNDS, cx_coll_name((enum cx_coll)coll));
		calls = 0;
	}
	for (int i = 0; !rc && i < ROUNDS; i++)
		rc = message_round(c, size_of(i), i);
	EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(c));
	EXPECT(none_called(), "rank %d: %ld calls of the allocator in %d messages", rank, calls,
	       ROUNDS);
	counting = 0;
}

static int two_hosts(int rank, int ranks)
{
	return rank < ranks - 1;
}

Test(noalloc, a_thousand_of_each_collective, .timeout = 300)
{
	for (int size = 2; size <= 3; size++) {
		struct world w = { .size = size, .fn = stay_warm };

		cr_assert_eq(world_run(&w), 0);
		w.host = two_hosts;
		cr_assert_eq(world_run(&w), 0);
	}
}

/* ---- no memory ---- */

static struct cx_sys poor;
static int left = -1; /* allocations that still succeed; -1: all */
static _Atomic int held;      /* not given back yet */

static void *poor_alloc(size_t len)
{
	if (left == 0)
		return NULL;
	left -= left > 0;
	held++;
	return cx_sys_real.alloc(len);
}

static void poor_release(void *p)
{
	held -= p != NULL;
	cx_sys_real.release(p);
}

struct sweep {
	int algo;    /* in cx_algos; -1: creation is what fails */
	int victim;
	int n;       /* allocations that the victim is allowed */
	unsigned timeout_ms; /* of creation */
	int code[2];
	char text[2][256];
};

static int call_algo(collx_comm_t c, int algo)
{
	static float in[40000], out[40000];
	struct cx_request r = { CX_ALLREDUCE, in, out, 20000, COLLX_FLOAT32, COLLX_SUM, 0 };

	if (algo >= 0) {
		r.coll = cx_algos[algo]->coll;
		c->agreed.forced[r.coll] = (int8_t)algo;
	}
	return case_call(c, &r, NULL);
}

static void run_out(const collx_unique_id *id, int rank, int size, void *arg)
{
	collx_config config = COLLX_CONFIG_INIT;
	struct sweep *s = arg;
	int fds = open_fds(), rc;
	uint64_t start = now_ms();
	collx_comm_t c = NULL;

	poor = cx_sys_real;
	poor.alloc = poor_alloc;
	poor.release = poor_release;
	cx_sys = &poor;
	config.create_timeout_ms = s->timeout_ms;
	left = s->algo < 0 && rank == s->victim ? s->n : -1;
	rc = collx_comm_create(&c, size, id, rank, &config);
	if (s->algo >= 0)
		left = rank == s->victim ? s->n : -1;
	if (!rc)
		rc = call_algo(c, s->algo);
	/* A call that needs nothing from the victim ends well; the next one tells. */
	if (!rc && s->algo >= 0)
		rc = collx_barrier(c, NULL);
	s->code[rank] = rc;
	snprintf(s->text[rank], sizeof(s->text[rank]), "%s", collx_last_error(c));
	collx_comm_destroy(c);
	while (held && now_ms() - start < 10000) /* until the guard has done with those below */
		nap_ms(1);
	EXPECT(held == 0, "rank %d: %d allocations not given back", rank, held);
	EXPECT(fds_return(fds), "rank %d: %d descriptors, %d before", rank, open_fds(), fds);
	EXPECT(now_ms() - start < 10000, "rank %d took long", rank);
	cx_sys = &cx_sys_real;
}

/* A creation again, and longer, where time ran out at the victim before its memory did. */
static int run_sweep(struct sweep *s, const struct world *w)
{
	const struct sweep first = *s;
	int rc = 0;

	for (int tries = 0; !rc && tries < 3; tries++) {
		*s = first;
		s->timeout_ms = s->algo < 0 ? 500u << 2 * tries : 0;
		rc = world_run(w);
		if (s->code[s->victim] != COLLX_ERR_INIT_TIMEOUT)
			break;
	}
	return rc;
}

/* Returns how many failures there were until it went well. */
static int sweep(int algo, int victim)
{
	struct sweep *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const struct world w = { .size = 2, .raw = run_out, .arg = s, .deadline_s = 60 };
	const char *name = algo < 0 ? "creation" : cx_algos[algo]->name;
	int n = 0;

	cr_assert_neq(s, MAP_FAILED);
	for (;; n++) {
		cr_assert_lt(n, 200, "%s never succeeds", name);
		*s = (struct sweep){ .algo = algo, .victim = victim, .n = n };
		cr_assert_eq(run_sweep(s, &w), 0, "%s: rank %d after %d allocations", name, victim,
			     n);
		if (!s->code[0] && !s->code[1])
			break;
		cr_expect(s->code[victim] == COLLX_ERR_NOMEM && strstr(s->text[victim], "memory"),
			  "%s: rank %d after %d allocations: %s: %s", name, victim, n,
			  collx_strerror(s->code[victim]), s->text[victim]);
		cr_expect(s->code[!victim] == COLLX_ERR_NOMEM ||
			  (algo < 0 && s->code[!victim] == COLLX_ERR_INIT_TIMEOUT),
			  "%s: the other rank after %d allocations: %s: %s", name, n,
			  collx_strerror(s->code[!victim]), s->text[!victim]);
	}
	munmap(s, sizeof(*s));
	return n;
}

Test(nomem, at_each_point_of_creation, .timeout = 300)
{
	for (int victim = 0; victim < 2; victim++) {
		int n = sweep(-1, victim);

		fprintf(stderr, "nomem: creation by rank %d: %d allocations\n", victim, n);
		cr_assert_gt(n, 10);
	}
}

Test(nomem, at_each_point_of_each_algorithm, .timeout = 300)
{
	int n = 0;

	for (int a = 0; cx_algos[a]; a++)
		for (int victim = 0; victim < 2; victim++)
			n += sweep(a, victim);
	fprintf(stderr, "nomem: algorithms: %d allocations\n", n);
	cr_assert_gt(n, 40);
}
