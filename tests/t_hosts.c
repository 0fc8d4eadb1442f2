/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shared memory and TCP in one communicator: which rank is reached by what, how a
 * rank waits for both, and what happens when one of them dies.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <criterion/criterion.h>

#include "src/base/base.h"
#include "src/comm.h"
#include "tests/cases.h"
#include "tests/hosts.h"
#include "tests/world.h"

static int halves(int rank, int ranks)
{
	return rank >= (ranks + 1) / 2;
}

static int in_turn(int rank, int ranks)
{
	return rank % (ranks > 4 ? 3 : 2);
}

static int alone(int rank, int ranks)
{
	(void)ranks;
	return rank;
}

/* ---- who is reached by what ---- */

static int host(const collx_comm_t c, int rank)
{
	return hosts_of(rank, c->size);
}

/* All ranks find the same: what they select by hangs on it. */
static enum cx_span span(const collx_comm_t c, int far)
{
	int several = 0;

	for (int r = 1; r < c->size; r++)
		several |= host(c, r) != host(c, 0);
	return !far ? CX_SPAN_MEMORY : several ? CX_SPAN_NETWORK : CX_SPAN_LOOPBACK;
}

static void check_links(collx_comm_t c, int rank, int size, void *arg)
{
	const char *forced = arg;
	int near = 0, far = 0;

	for (int i = 0; i < size * CX_LANES; i++) {
		const struct cx_link *l = &c->exec.links[i];
		int shm = host(c, i / CX_LANES) == host(c, rank);
		const char *want = forced ? forced : shm ? "shm" : "tcp";

		if (i / CX_LANES == rank)
			continue;
		EXPECT(!strcmp(l->transport->name, want), "rank %d reaches %d by %s, not %s", rank,
		       i / CX_LANES, l->transport->name, want);
		near += !strcmp(want, "shm");
		far += strcmp(want, "shm") != 0;
	}
	EXPECT(c->nmedia == (near > 0) + (far > 0), "rank %d has %d ports", rank, c->nmedia);
	EXPECT(c->agreed.span == span(c, far), "rank %d: span %d", rank, c->agreed.span);
}

Test(hosts, near_by_shm_far_by_tcp)
{
	static int (*const layouts[])(int, int) = { NULL, halves, in_turn, alone };

	for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++)
		for (int size = 2; size <= 7; size++)
			for (int threads = 0; threads < 2; threads++) {
				const struct world w = { .size = size, .threads = threads,
							 .fn = check_links, .host = layouts[i] };

				cr_assert_eq(world_run(&w), 0, "layout %zu of %d", i, size);
			}
}

Test(hosts, a_forced_transport)
{
	struct world w = { .size = 4, .fn = check_links, .host = halves, .transport = "tcp",
			   .arg = "tcp" };

	cr_assert_eq(world_run(&w), 0);
	w = (struct world){ .size = 4, .fn = check_links, .transport = "tcp", .arg = "tcp" };
	cr_assert_eq(world_run(&w), 0);
	w = (struct world){ .size = 4, .fn = check_links, .transport = "shm", .arg = "shm" };
	cr_assert_eq(world_run(&w), 0);
}

static void cannot(const collx_unique_id *id, int rank, int size, void *arg)
{
	collx_comm_t c = NULL;
	int rc = collx_comm_create(&c, size, id, rank, NULL);

	(void)arg;
	EXPECT(rc == COLLX_ERR_INVALID && strstr(collx_last_error(NULL), "COLLX_TRANSPORT=shm") &&
		       strstr(collx_last_error(NULL), "rank 2"),
	       "rank %d: %s: %s", rank, collx_strerror(rc), collx_last_error(NULL));
	collx_comm_destroy(c);
}

Test(hosts, shm_does_not_reach_another_host)
{
	const struct world w = { .size = 4, .raw = cannot, .host = halves, .transport = "shm" };

	cr_assert_eq(world_run(&w), 0);
}

/* ---- waiting for both ---- */

/* Rank 0 is late; the others must sleep meanwhile, and wake at once, whichever way the
 * word comes. */
static void wait_for_rank_0(collx_comm_t c, int rank, int size, void *arg)
{
	struct rusage before, after;
	float x = 1, y = 0;
	uint64_t cpu_ms;
	int rc = 0;

	(void)size;
	(void)arg;
	for (int i = 0; !rc && i < 20; i++)
		rc = collx_allreduce(&x, &y, 1, COLLX_FLOAT32, COLLX_SUM, c, NULL);
	getrusage(RUSAGE_SELF, &before);
	for (int i = 0; !rc && i < 10; i++) {
		if (rank == 0)
			nap_ms(50);
		rc = collx_allreduce(&x, &y, 1, COLLX_FLOAT32, COLLX_SUM, c, NULL);
	}
	getrusage(RUSAGE_SELF, &after);
	cpu_ms = (uint64_t)(after.ru_utime.tv_sec - before.ru_utime.tv_sec +
			    after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1000 +
		 (uint64_t)(after.ru_utime.tv_usec - before.ru_utime.tv_usec +
			    after.ru_stime.tv_usec - before.ru_stime.tv_usec) / 1000;
	EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(c));
	EXPECT(cpu_ms < 150, "rank %d worked %d ms of 500", rank, (int)cpu_ms);
}

Test(hosts, who_waits_sleeps, .timeout = 120)
{
	for (int size = 3; size <= 8; size += 5) {
		const struct world w = { .size = size, .fn = wait_for_rank_0, .host = halves };

		cr_assert_eq(world_run(&w), 0);
	}
}

/* A port's own test of its wake-ups: without them each turn takes until the next look,
 * 5 ms later. */
enum { TURNS = 400 };

static void pass_round(collx_comm_t c, int rank, int size, void *arg)
{
	uint64_t start = now_ms();
	int token = 0, rc = 0;

	(void)arg;
	c->limits = (struct cx_wait_limits){ 0, 0 }; /* no spin, no yield */
	c->spin_ns = 0;
	for (int i = 0; !rc && i < TURNS; i++) {
		if (rank || i)
			rc = collx_recv(&token, 1, COLLX_INT32, (rank + size - 1) % size, c, NULL);
		EXPECT(token == i * size + (rank ? rank : 0) || rc, "rank %d, turn %d: %d", rank,
		       i, token);
		token++;
		if (!rc && (rank < size - 1 || i < TURNS - 1))
			rc = collx_send(&token, 1, COLLX_INT32, (rank + 1) % size, c, NULL);
	}
	EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(c));
	EXPECT(now_ms() - start < (uint64_t)(TURNS * size * 2), "rank %d: %d turns took %d ms",
	       rank, TURNS, (int)(now_ms() - start));
}

Test(hosts, who_is_woken_wakes_at_once, .timeout = 120)
{
	for (int threads = 0; threads < 2; threads++) {
		const struct world w = { .size = 4, .threads = threads, .fn = pass_round,
					 .host = halves };

		cr_assert_eq(world_run(&w), 0);
	}
}

/* ---- what really went over which ---- */

enum { EACH = 4096 };

static void count_ring(collx_comm_t c, int rank, int size, void *arg)
{
	static float in[EACH], out[EACH];
	struct cx_request r = { CX_ALLREDUCE, in, out, EACH, COLLX_FLOAT32, COLLX_SUM, 0 };
	struct cx_port_stats before[2], after[2];
	uint64_t part = 2 * (uint64_t)(size - 1) * EACH * sizeof(float) / (uint64_t)size;
	int next = (rank + 1) % size, far = host(c, next) != host(c, rank), rc;

	(void)arg;
	for (int i = 0; cx_algos[i]; i++)
		if (cx_algos[i] == cx_algo_find(CX_ALLREDUCE, "ring"))
			c->agreed.forced[CX_ALLREDUCE] = (int8_t)i;
	for (int i = 0; i < 2; i++)
		c->media[i].transport->stats(c->media[i].port, &before[i]);
	rc = case_call(c, &r, NULL);
	for (int i = 0; i < 2; i++)
		c->media[i].transport->stats(c->media[i].port, &after[i]);
	EXPECT(rc == 0, "%s", collx_last_error(c));
	for (int i = 0; i < 2; i++) {
		uint64_t sent = after[i].sent_bytes - before[i].sent_bytes;

		EXPECT(sent == (i == far ? part : 0), "rank %d sent %llu bytes by %s", rank,
		       (unsigned long long)sent, c->media[i].transport->name);
	}
}

Test(hosts, payload_goes_where_the_plan_says)
{
	const struct world w = { .size = 4, .fn = count_ring, .host = halves };

	cr_assert_eq(world_run(&w), 0);
}

/* ---- what one rank lacks ---- */

enum { FOUR = 4 };

struct lack {
	int victim;
	int descriptors;         /* that it may have; 0: as many as others */
	int used;                /* that it had open with a communicator */
	const char *name, *text; /* of a variable that is wrong there */
	int code[FOUR];
	char line[FOUR][512];
};

static void lack_something(const collx_unique_id *id, int rank, int size, void *arg)
{
	collx_config config = COLLX_CONFIG_INIT;
	struct lack *l = arg;
	struct rlimit all, few;
	collx_comm_t c = NULL;

	config.create_timeout_ms = 20000;
	getrlimit(RLIMIT_NOFILE, &all);
	few = all;
	few.rlim_cur = (rlim_t)l->descriptors;
	if (rank == l->victim && l->name)
		setenv(l->name, l->text, 1);
	if (rank == l->victim && l->descriptors)
		EXPECT(!setrlimit(RLIMIT_NOFILE, &few), "setrlimit");
	l->code[rank] = collx_comm_create(&c, size, id, rank, &config);
	setrlimit(RLIMIT_NOFILE, &all);
	if (rank == l->victim)
		l->used = open_fds();
	snprintf(l->line[rank], sizeof(l->line[rank]), "%s", collx_last_error(NULL));
	collx_comm_destroy(c);
}

/* All say the same, and begin with the rank at fault. */
static void expect_named(const struct lack *l, int code, const char *what)
{
	char who[32];

	snprintf(who, sizeof(who), "rank %d: ", l->victim);
	for (int r = 0; r < FOUR; r++) {
		cr_expect(l->code[r] == code && strstr(l->line[r], what) &&
				  !strncmp(l->line[r], who, strlen(who)),
			  "%s at rank %d: rank %d: %s: %s", what, l->victim, r,
			  collx_strerror(l->code[r]), l->line[r]);
		cr_expect_str_eq(l->line[r], l->line[0]);
	}
}

static struct lack *lack_make(void)
{
	struct lack *l = mmap(NULL, sizeof(*l), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(l, MAP_FAILED);
	return l;
}

/* From enough downwards, until what is lacking is the lanes' connections. */
static void sweep_to_lanes(struct lack *l, const struct world *w)
{
	l->descriptors = 0;
	cr_assert_eq(world_run(w), 0);
	for (l->descriptors = l->used + 3; l->descriptors > 8; l->descriptors--) {
		cr_assert_eq(world_run(w), 0, "%d descriptors", l->descriptors);
		if (!l->code[(l->victim + 1) % FOUR])
			continue;
		expect_named(l, COLLX_ERR_NOFILES, "raise the limit");
		if (strstr(l->line[0], "the connection with rank"))
			return;
	}
	cr_expect_fail("rank %d: never lacked a descriptor for a lane", l->victim);
}

Test(lack, of_descriptors_for_lanes_is_of_the_rank_that_has_few, .timeout = 300)
{
	struct lack *l = lack_make();

	for (l->victim = 0; l->victim < FOUR; l->victim++) {
		struct world w = { .size = FOUR, .raw = lack_something, .arg = l,
				   .transport = "tcp" };

		sweep_to_lanes(l, &w);
		w = (struct world){ .size = FOUR, .raw = lack_something, .arg = l,
				    .host = halves };
		sweep_to_lanes(l, &w);
	}
	munmap(l, sizeof(*l));
}

Test(lack, of_a_right_setting_is_of_the_rank_that_has_a_wrong_one, .timeout = 120)
{
	static const struct {
		const char *name, *text;
		bool between_hosts;
	} wrong[] = {
		{ "COLLX_INTERFACE", "cxnone", true },
		{ "COLLX_KERNEL", "abacus", false },
		{ "COLLX_SPIN_US", "x1", false },
		{ "COLLX_ALGO", "allreduce:bogus", false },
	};
	struct lack *l = lack_make();

	for (size_t i = 0; i < 2 * sizeof(wrong) / sizeof(wrong[0]); i++)
		for (l->victim = 0; l->victim < FOUR; l->victim++) {
			const struct world w = { .size = FOUR, .raw = lack_something, .arg = l,
						 .host = i % 2 ? halves : NULL };

			l->name = wrong[i / 2].name;
			l->text = wrong[i / 2].text;
			if (wrong[i / 2].between_hosts && !w.host)
				continue;
			cr_assert_eq(world_run(&w), 0);
			expect_named(l, COLLX_ERR_INVALID, l->name);
		}
	munmap(l, sizeof(*l));
}

/* ---- death ---- */

enum { RANKS = 5, BIG = 1 << 20 };

struct notes {
	int victim, begun;
	uint64_t killed_ms, known_ms[RANKS];
};

enum { FDS = 256 };

static void note_files(ino_t files[FDS])
{
	struct stat st;

	for (int fd = 0; fd < FDS; fd++)
		files[fd] = fstat(fd, &st) ? 0 : st.st_ino;
}

/* How many of them are closed. What was opened since, as by a council, does not count. */
static int closed_of(const ino_t before[FDS])
{
	ino_t now[FDS];
	int n = 0;

	note_files(now);
	for (int fd = 0; fd < FDS; fd++)
		n += before[fd] && before[fd] != now[fd];
	return n;
}

/* Nothing may change a buffer once the call has returned. */
static void compute_until_death(collx_comm_t c, int rank, int size, void *arg)
{
	struct notes *n = arg;
	float *in = calloc(BIG, sizeof(float)), *out = calloc(BIG, sizeof(float));
	float *copy = malloc(BIG * sizeof(float));
	int far = 0, rc = 0;
	ino_t files[FDS];
	char who[32];

	note_files(files);
	for (int i = 0; !rc; i++) {
		if (rank == n->victim && i == 3) {
			n->killed_ms = now_ms();
			raise(SIGKILL);
		}
		for (int k = 0; k < BIG; k++)
			in[k] = (float)(i + rank);
		rc = collx_allreduce(in, out, BIG, COLLX_FLOAT32, COLLX_SUM, c, NULL);
	}
	n->known_ms[rank] = now_ms();
	memcpy(copy, out, BIG * sizeof(float));
	snprintf(who, sizeof(who), "rank %d", n->victim);
	EXPECT(rc == COLLX_ERR_PEER_DEAD && strstr(collx_last_error(c), who), "rank %d: %s: %s",
	       rank, collx_strerror(rc), collx_last_error(c));
	for (int r = 0; r < size; r++)
		far += CX_LANES * (host(c, r) != host(c, rank));
	EXPECT(closed_of(files) >= far, "rank %d: connections stay open", rank);
	nap_ms(200);
	EXPECT(!memcmp(copy, out, BIG * sizeof(float)), "rank %d: the buffer changed", rank);
	free(in);
	free(out);
	free(copy);
}

Test(hosts, a_killed_rank_is_named_on_both, .timeout = 120)
{
	struct notes *n = mmap(NULL, sizeof(*n), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(n, MAP_FAILED);
	for (n->victim = 0; n->victim < RANKS; n->victim++) {
		const struct world w = { .size = RANKS, .killed = 1u << n->victim,
					 .fn = compute_until_death, .arg = n, .host = halves };
		uint64_t most = 0;

		cr_assert_eq(world_run(&w), 0, "rank %d killed", n->victim);
		for (int r = 0; r < RANKS; r++)
			if (r != n->victim)
				most = cx_max(most, n->known_ms[r] - n->killed_ms);
		fprintf(stderr, "rank %d killed: known to all after %d ms\n", n->victim, (int)most);
		cr_expect_lt(most, 3000);
	}
	munmap(n, sizeof(*n));
}
