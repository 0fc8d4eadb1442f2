/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ten thousand strays at rank 0's door while it waits for the last rank, and as many at
 * every port of the ranks while they compute: the results are right, nobody was let in,
 * and nothing is left open. How much time they cost is perf/strays' to say.
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <criterion/criterion.h>

#include "src/auth.h"
#include "src/base/base.h"
#include "tests/strays.h"
#include "tests/world.h"

enum { RANKS = 4, COUNT = 10000, ELEMENTS = 5000 };

struct shared {
	atomic_int up;   /* ranks that have their communicator */
	atomic_int stop;
	atomic_int rounds;
	struct strays strays; /* of the stray maker, with what became of them */
};

static struct shared *shared;
static char base[64], secret_path[96];
static struct cx_secret secret;
static pid_t ranks[RANKS];

static void job_make(const char *addr)
{
	static const char digits[] = "0123456789abcdef";
	FILE *f;

	cr_assert_eq(folder_make(base), 0);
	snprintf(secret_path, sizeof(secret_path), "%s/secret", base);
	f = fopen(secret_path, "w");
	cr_assert_not_null(f);
	for (int i = 0; i < 64; i++)
		fputc(digits[i * 7 % 16], f);
	fclose(f);
	cr_assert_eq(chmod(secret_path, 0600), 0);
	cr_assert_eq(cx_secret_read(&secret, secret_path), 0, "%s", cx_error_text());
	setenv("COLLX_ADDR", addr, 1);
	setenv("COLLX_SECRET_FILE", secret_path, 1);
	setenv("COLLX_SIZE", "4", 1);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	cr_assert_neq(shared, MAP_FAILED);
}

static void job_end(void)
{
	cr_assert_eq(ranks_wait(ranks, RANKS, 0, 120), 0);
	cr_assert_eq(unlink(secret_path), 0);
	cr_assert_eq(folder_gone(base), 0);
	munmap(shared, sizeof(*shared));
}

/* One sum of numbers that differ by round and rank. */
static void add_up(collx_comm_t c, int rank, int round)
{
	static int32_t in[ELEMENTS], out[ELEMENTS];
	int bad = 0;

	for (int i = 0; i < ELEMENTS; i++)
		in[i] = (i % 100 + round) * (rank + 1);
	EXPECT(!collx_allreduce(in, out, ELEMENTS, COLLX_INT32, COLLX_SUM, c, NULL),
	       "rank %d, round %d: %s", rank, round, collx_last_error(c));
	for (int i = 0; i < ELEMENTS; i++)
		bad += out[i] != (i % 100 + round) * 10;
	EXPECT(!bad, "rank %d, round %d: %d wrong", rank, round, bad);
}

/* Rounds until rank 0 was told to stop, which all agree on. */
static void compute(collx_comm_t c, int rank)
{
	int32_t more = 1;

	for (int round = 0; more && !expect_failures(); round++) {
		add_up(c, rank, round);
		more = !atomic_load(&shared->stop);
		EXPECT(!collx_broadcast(&more, &more, 1, COLLX_INT32, 0, c, NULL), "rank %d: %s",
		       rank, collx_last_error(c));
		if (rank == 0)
			atomic_fetch_add(&shared->rounds, 1);
	}
}

static void rank_start(int rank)
{
	collx_config config = COLLX_CONFIG_INIT;
	collx_comm_t c = NULL;
	char text[16];
	int fds;

	ranks[rank] = rank_fork();
	cr_assert_geq(ranks[rank], 0);
	if (ranks[rank])
		return;
	fds = open_fds();
	snprintf(text, sizeof(text), "%d", rank);
	setenv("COLLX_RANK", text, 1);
	config.create_timeout_ms = 60000;
	if (EXPECT(!collx_comm_create_from_env(&c, &config), "rank %d: %s", rank,
		   collx_last_error(NULL))) {
		atomic_fetch_add(&shared->up, 1);
		compute(c, rank);
	}
	collx_comm_destroy(c);
	EXPECT(fds_return(fds), "rank %d: %d descriptors, %d before", rank, open_fds(), fds);
	rank_exit();
}

static pid_t strays_start(const struct sockaddr_in *to, int nto, unsigned count)
{
	struct strays *s = &shared->strays;
	pid_t pid;

	memset(s, 0, sizeof(*s));
	memcpy(s->to, to, (size_t)nto * sizeof(*to));
	s->nto = nto;
	s->count = count;
	s->secret = &secret;
	pid = rank_fork();
	if (pid == 0) {
		strays_make(s);
		rank_exit();
	}
	cr_assert_geq(pid, 0);
	return pid;
}

static void all_up(int n)
{
	uint64_t start = now_ms();

	while (atomic_load(&shared->up) < n && now_ms() - start < 60000)
		nap_ms(1);
	cr_expect_eq(atomic_load(&shared->up), n, "%d of %d ranks came up",
		     atomic_load(&shared->up), n);
}

static struct sockaddr_in loopback(int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return a;
}

static void wait_for_door(const struct sockaddr_in *door)
{
	struct sockaddr_in found[8];
	uint64_t start = now_ms();

	while (now_ms() - start < 30000) {
		for (int n = strays_ports_of(ranks[0], found, 8); n-- > 0;)
			if (found[n].sin_port == door->sin_port)
				return;
		nap_ms(5);
	}
	cr_assert_fail("rank 0 did not open its door");
}

Test(strays, at_the_door, .timeout = 300)
{
	const struct sockaddr_in door = loopback(27431);
	pid_t maker;

	job_make("tcp:127.0.0.1:27431");
	for (int r = 0; r < RANKS - 1; r++)
		rank_start(r);
	wait_for_door(&door);
	maker = strays_start(&door, 1, COUNT);
	cr_assert_eq(ranks_wait(&maker, 1, 0, 120), 0);
	cr_expect_eq(shared->strays.made, COUNT, "%u came, %u did not", shared->strays.made,
		     shared->strays.refused);
	cr_expect_eq(shared->strays.let_in, 0);
	cr_expect_eq(atomic_load(&shared->up), 0);
	/* The last rank comes through a crowd as well. */
	maker = strays_start(&door, 1, COUNT);
	rank_start(RANKS - 1);
	all_up(RANKS);
	atomic_store(&shared->stop, 1);
	cr_assert_eq(ranks_wait(&maker, 1, 0, 120), 0);
	cr_expect_eq(shared->strays.let_in, 0);
	job_end();
}

Test(strays, while_ranks_compute, .timeout = 300)
{
	struct sockaddr_in ports[64];
	pid_t maker;
	int n = 1;

	ports[0] = loopback(27432);
	job_make("tcp:127.0.0.1:27432");
	cr_assert_eq(setenv("COLLX_TRANSPORT", "tcp", 1), 0); /* so that there are ports */
	for (int r = 0; r < RANKS; r++)
		rank_start(r);
	all_up(RANKS);
	for (int r = 0; r < RANKS; r++)
		n += strays_ports_of(ranks[r], ports + n, 64 - n);
	cr_assert_gt(n, RANKS);
	maker = strays_start(ports, n, COUNT);
	cr_assert_eq(ranks_wait(&maker, 1, 0, 120), 0);
	cr_expect_eq(shared->strays.made + shared->strays.refused, COUNT);
	cr_expect_eq(shared->strays.let_in, 0);
	atomic_store(&shared->stop, 1);
	cr_expect_gt(atomic_load(&shared->rounds), 0);
	job_end();
}
