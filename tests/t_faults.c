/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ranks that die, leave or dawdle while the others compute: every survivor says
 * who it was, within a bound, leaves nothing behind, and can begin anew.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <criterion/criterion.h>

#include "src/base/base.h"
#include "src/comm.h"
#include "tests/world.h"

enum { RANKS = 4, BIG = 16 << 20 /* floats: 64 MiB */ };

/* What the ranks tell the test; shared. */
struct notes {
	int begun[RANKS];
	int code[RANKS];
	uint64_t failed_ms[RANKS];
	char text[RANKS][512];
	uint64_t killed_ms;
	collx_unique_id second;
	int victim;
	size_t count;
};

static struct notes *notes_make(void)
{
	struct notes *n = mmap(NULL, sizeof(*n), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(n, MAP_FAILED);
	return n;
}

/* Gives this process a /dev/shm of its own, and a small one, where it may. */
static int own_dev_shm(void)
{
	return !unshare(CLONE_NEWNS) && !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
	       !mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=64k");
}

static int shm_files(void)
{
	DIR *dir = opendir("/dev/shm");
	int n = -2; /* . and .. */

	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

/* ---- death ---- */

static float *big_buffer(size_t count)
{
	float *p = mmap(NULL, count * sizeof(*p), PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return EXPECT(p != MAP_FAILED, "no memory") ? p : NULL;
}

/* The survivors, with new numbers, make a new communicator and use it. */
static void begin_anew(struct notes *n, int rank)
{
	int32_t one = 1, sum = 0;
	collx_comm_t c = NULL;
	int rc = collx_comm_create(&c, RANKS - 1, &n->second, rank - (rank > n->victim), NULL);

	if (!EXPECT(rc == 0, "anew: rank %d: %s", rank, collx_last_error(NULL)))
		return;
	rc = collx_allreduce(&one, &sum, 1, COLLX_INT32, COLLX_SUM, c, NULL);
	EXPECT(rc == 0 && sum == RANKS - 1, "anew: rank %d: sum %d: %s", rank, sum,
	       collx_last_error(c));
	collx_comm_destroy(c);
}

static void compute_until_error(const collx_unique_id *id, int rank, int size, void *arg)
{
	struct notes *n = arg;
	float *in = big_buffer(n->count), *out = big_buffer(n->count);
	int fds = open_fds(), rc;
	collx_comm_t c = NULL;

	rc = collx_comm_create(&c, size, id, rank, NULL);
	EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(NULL));
	while (!rc) {
		rc = collx_allreduce(in, out, n->count, COLLX_FLOAT32, COLLX_SUM, c, NULL);
		__atomic_fetch_add(&n->begun[rank], 1, __ATOMIC_RELAXED);
	}
	n->failed_ms[rank] = now_ms();
	n->code[rank] = rc;
	snprintf(n->text[rank], sizeof(n->text[rank]), "%s", collx_last_error(c));
	collx_comm_destroy(c);
	EXPECT(open_fds() == fds, "rank %d: %d descriptors, %d before", rank, open_fds(), fds);
	begin_anew(n, rank);
}

/* Kills rank n->victim after a drawn time of computing. */
static void kill_one(struct notes *n, uint64_t seed)
{
	char base[64], who[32];
	collx_unique_id id;
	pid_t pids[RANKS];
	int tiny = own_dev_shm(), most = 0;

	cr_assert_eq(folder_make(base), 0);
	cr_assert(!collx_get_unique_id(&id) && !collx_get_unique_id(&n->second));
	for (int r = 0; r < RANKS; r++) {
		pids[r] = rank_fork();
		if (pids[r] == 0) {
			compute_until_error(&id, r, RANKS, n);
			rank_exit();
		}
	}
	for (int tries = 0; most < 1 && tries < 60000; tries++, nap_ms(1))
		for (int r = 0; r < RANKS; r++)
			most = n->begun[r] > most ? n->begun[r] : most;
	nap_ms((unsigned)(mix64(seed) % 150));
	n->killed_ms = now_ms();
	kill(pids[n->victim], SIGKILL);
	cr_assert_eq(ranks_wait(pids, RANKS, 1u << n->victim, 60), 0);
	cr_assert_eq(folder_gone(base), 0);
	cr_assert(!tiny || shm_files() == 0);
	cr_assert(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "a child is left");
	snprintf(who, sizeof(who), "rank %d died", n->victim);
	for (int r = 0; r < RANKS; r++)
		cr_expect(r == n->victim || (n->code[r] == COLLX_ERR_PEER_DEAD &&
					     strstr(n->text[r], who) &&
					     n->failed_ms[r] - n->killed_ms < 5000),
			  "rank %d: %s after %d ms: %s", r, collx_strerror(n->code[r]),
			  (int)(n->failed_ms[r] - n->killed_ms), n->text[r]);
}

static void kill_some(int victim, size_t count, int times)
{
	for (int i = 0; i < times; i++) {
		struct notes *n = notes_make();

		n->victim = victim;
		n->count = count;
		kill_one(n, (uint64_t)(victim * 100 + i));
		munmap(n, sizeof(*n));
	}
}

Test(death, of_rank_0, .timeout = 300)
{
	kill_some(0, BIG, 2);
	kill_some(0, 3, 3);
}

Test(death, of_rank_2, .timeout = 300)
{
	kill_some(2, BIG, 2);
	kill_some(2, 3, 3);
}

Test(death, of_the_last_rank, .timeout = 300)
{
	kill_some(3, BIG / 16, 3);
	kill_some(3, 3000, 3);
}

/* ---- leaving and dawdling ---- */

static void leave_early(collx_comm_t c, int rank, int size, void *arg)
{
	int leaver = *(int *)arg, rc = collx_barrier(c, NULL);
	char who[32];
	float x = 1, y = 0;
	uint64_t start = now_ms();

	(void)size;
	EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(c));
	if (rank == leaver)
		return;
	nap_ms(100);
	rc = collx_allreduce(&x, &y, 1, COLLX_FLOAT32, COLLX_SUM, c, NULL);
	snprintf(who, sizeof(who), "rank %d left", leaver);
	EXPECT(rc == COLLX_ERR_PEER_LEFT && strstr(collx_last_error(c), who), "rank %d: %s: %s",
	       rank, collx_strerror(rc), collx_last_error(c));
	EXPECT(now_ms() - start < 5000, "rank %d took long", rank);
}

Test(leaving, before_the_others_call)
{
	for (int leaver = 0; leaver < 3; leaver++)
		for (int threads = 0; threads < 2; threads++) {
			const struct world w = { .size = 3, .threads = threads, .fn = leave_early,
						 .arg = &leaver };

			cr_assert_eq(world_run(&w), 0);
		}
}

/* Whoever has finished may go at once: it is no error for those still at work. */
static void leave_after_the_last_call(collx_comm_t c, int rank, int size, void *arg)
{
	static _Thread_local float in[30000], out[30000];
	int rc;

	(void)size;
	(void)arg;
	for (int i = 0; i < 30000; i++)
		in[i] = (float)rank;
	for (size_t n = 1; n <= 30000; n *= 30) {
		rc = collx_allreduce(in, out, n, COLLX_FLOAT32, COLLX_SUM, c, NULL);
		EXPECT(rc == 0, "rank %d: %s: %s", rank, collx_strerror(rc), collx_last_error(c));
	}
	rc = collx_broadcast(in, out, 30000, COLLX_FLOAT32, 1, c, NULL);
	EXPECT(rc == 0 && out[29999] == 1, "rank %d: %s: %s", rank, collx_strerror(rc),
	       collx_last_error(c));
}

Test(leaving, after_the_last_call)
{
	for (int i = 0; i < 40; i++) {
		const struct world w = { .size = 2 + i % 4, .threads = i % 2,
					 .fn = leave_after_the_last_call };

		cr_assert_eq(world_run(&w), 0);
	}
}

/* Rank 2 goes when it has given its part. Rank 0 hears of it while it waits for
 * rank 1, and passes it on, so that rank 1 knows also when rank 0 is away. */
static void leave_behind_a_back(collx_comm_t c, int rank, int size, void *arg)
{
	uint64_t start;
	int32_t one = 1, sum = 0;
	int rc;

	(void)size;
	(void)arg;
	if (rank == 1)
		nap_ms(300);
	rc = collx_reduce(&one, &sum, 1, COLLX_INT32, COLLX_SUM, 0, c, NULL);
	EXPECT(rc == 0 && sum == (rank ? 0 : 3), "rank %d: %s: %d", rank, collx_last_error(c), sum);
	if (rank == 0)
		nap_ms(3000);
	if (rank != 1)
		return;
	start = now_ms();
	rc = collx_barrier(c, NULL);
	EXPECT(rc == COLLX_ERR_PEER_LEFT && strstr(collx_last_error(c), "rank 2 left"), "%s: %s",
	       collx_strerror(rc), collx_last_error(c));
	EXPECT(now_ms() - start < 2000, "it took %d ms", (int)(now_ms() - start));
}

Test(leaving, is_passed_on_by_rank_0)
{
	const struct world w = { .size = 3, .fn = leave_behind_a_back };

	cr_assert_eq(world_run(&w), 0);
}

static void dawdle(collx_comm_t c, int rank, int size, void *arg)
{
	struct notes *n = arg;
	float x = 1, y = 0;
	uint64_t start;

	(void)size;
	if (rank == 1)
		nap_ms(1200);
	start = now_ms();
	for (int i = 0; !n->code[rank] && i < 3; i++)
		n->code[rank] = collx_allreduce(&x, &y, 1, COLLX_FLOAT32, COLLX_SUM, c, NULL);
	snprintf(n->text[rank], sizeof(n->text[rank]), "%s", collx_last_error(c));
	EXPECT(now_ms() - start < 5000, "rank %d took %d ms", rank, (int)(now_ms() - start));
}

Test(dawdling, ends_by_the_deadline_and_the_line_says_whom_for)
{
	collx_config config = COLLX_CONFIG_INIT;
	struct notes *n = notes_make();
	const struct world w = { .size = 3, .fn = dawdle, .arg = n, .config = &config };

	config.op_timeout_ms = 300;
	cr_assert_eq(world_run(&w), 0);
	for (int r = 0; r < 3; r++)
		cr_expect(n->code[r] == COLLX_ERR_TIMEOUT && strstr(n->text[r], "allreduce") &&
			  strstr(n->text[r], "waited 0.3 s"), "rank %d: %s: %s", r,
			  collx_strerror(n->code[r]), n->text[r]);
	cr_expect_not_null(strstr(n->text[0], "receiving from rank"), "%s", n->text[0]);
	munmap(n, sizeof(*n));
}

static void one_call_with_its_own_deadline(collx_comm_t c, int rank, int size, void *arg)
{
	collx_opts o = COLLX_OPTS_INIT;
	uint64_t start = now_ms();
	int rc;

	(void)size;
	(void)arg;
	o.timeout_ms = rank ? COLLX_NO_TIMEOUT : 60000;
	if (rank == 0)
		nap_ms(900); /* longer than the communicator's deadline */
	rc = collx_barrier(c, &o);
	EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(c));
	if (rank == 0)
		return;
	o.timeout_ms = 200;
	start = now_ms();
	while (!(rc = collx_barrier(c, &o)) && now_ms() - start < 3000)
		nap_ms(1);
	EXPECT(rc == COLLX_ERR_TIMEOUT || rc == COLLX_ERR_PEER_LEFT, "rank %d: %s", rank,
	       collx_strerror(rc));
}

Test(dawdling, within_a_calls_own_deadline_is_fine)
{
	collx_config config = COLLX_CONFIG_INIT;
	const struct world w = { .size = 2, .fn = one_call_with_its_own_deadline,
				 .config = &config };

	config.op_timeout_ms = 300;
	cr_assert_eq(world_run(&w), 0);
}

/* ---- poor surroundings ---- */

static void allreduce_megabytes(collx_comm_t c, int rank, int size)
{
	size_t n = 4 << 20;
	float *in = big_buffer(n), *out = big_buffer(n);
	int rc;

	for (size_t i = 0; i < n; i++)
		in[i] = (float)(i % 100) + (float)rank;
	rc = collx_allreduce(in, out, n, COLLX_FLOAT32, COLLX_SUM, c, NULL);
	EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(c));
	for (size_t i = 0; i < n; i++) {
		float want = (float)(i % 100 * (size_t)size) + (float)(size * (size - 1) / 2);

		if (!EXPECT(out[i] == want, "rank %d: element %zu is %f", rank, i, (double)out[i]))
			break;
	}
}

/* Descriptors that lead into /dev/shm. */
static int shm_fds(void)
{
	char path[64], to[256];
	int n = 0;

	for (int fd = 0; fd < 256; fd++) {
		ssize_t len;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		len = readlink(path, to, sizeof(to) - 1);
		to[len > 0 ? len : 0] = '\0';
		n += !strncmp(to, "/dev/shm", 8);
	}
	return n;
}

/* Opens nothing there; where it may, the test makes /dev/shm tiny as well. */
static void with_tiny_dev_shm(const collx_unique_id *id, int rank, int size, void *arg)
{
	int fds = shm_fds(), tiny, rc;
	collx_comm_t c = NULL;

	(void)arg;
	tiny = own_dev_shm();
	rc = collx_comm_create(&c, size, id, rank, NULL);
	if (!EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(NULL)))
		return;
	allreduce_megabytes(c, rank, size);
	EXPECT(shm_fds() == fds, "rank %d opened something in /dev/shm", rank);
	EXPECT(!tiny || shm_files() == 0, "rank %d: a file in /dev/shm", rank);
	collx_comm_destroy(c);
}

Test(surroundings, a_dev_shm_of_64_kib)
{
	const struct world w = { .size = 4, .raw = with_tiny_dev_shm };

	cr_assert_eq(world_run(&w), 0);
}

/* With this, and in many containers, ranks may not read each other's memory. */
static void without_ptrace(const collx_unique_id *id, int rank, int size, void *arg)
{
	collx_comm_t c = NULL;
	int rc;

	(void)arg;
	EXPECT(!prctl(PR_SET_DUMPABLE, 0), "prctl: %s", strerror(errno));
	rc = collx_comm_create(&c, size, id, rank, NULL);
	if (!EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(NULL)))
		return;
	allreduce_megabytes(c, rank, size);
	collx_comm_destroy(c);
	EXPECT(!prctl(PR_SET_DUMPABLE, 1), "prctl: %s", strerror(errno));
}

Test(surroundings, no_permission_to_ptrace)
{
	const struct world w = { .size = 3, .raw = without_ptrace };

	cr_assert_eq(world_run(&w), 0);
}

/* Descriptors run out at each point of creation in turn: an error, and no leak. */
static void few_descriptors(const collx_unique_id *id, int rank, int size, void *arg)
{
	collx_config config = COLLX_CONFIG_INIT;
	struct notes *n = arg;
	int fds = open_fds(), rc;
	struct rlimit limit;
	collx_comm_t c = NULL;

	config.create_timeout_ms = 300;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = (rlim_t)n->count;
	if (rank == n->victim)
		EXPECT(!setrlimit(RLIMIT_NOFILE, &limit), "setrlimit: %s", strerror(errno));
	rc = collx_comm_create(&c, size, id, rank, &config);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	EXPECT(!rc == !!c, "rank %d: %d", rank, rc);
	EXPECT(!rc || strlen(collx_last_error(NULL)) > 10, "rank %d: no line", rank);
	n->code[rank] = rc;
	snprintf(n->text[rank], sizeof(n->text[rank]), "%s", collx_last_error(c));
	collx_comm_destroy(c);
	EXPECT(open_fds() == fds, "rank %d: %d descriptors, %d before", rank, open_fds(), fds);
}

static void sweep_descriptors(int victim)
{
	struct notes *n = notes_make();
	const struct world w = { .size = 2, .raw = few_descriptors, .arg = n };
	int failed = 0;

	n->victim = victim;
	/* Not so few that not even the message of an error could be written. */
	for (n->count = 3;; n->count++) {
		cr_assert_lt(n->count, 100);
		cr_assert_eq(world_run(&w), 0, "%zu descriptors", n->count);
		if (!n->code[0] && !n->code[1])
			break;
		failed++;
		cr_expect(n->code[victim] == COLLX_ERR_NOFILES ||
			  n->code[victim] == COLLX_ERR_INIT_TIMEOUT, "%zu descriptors: %s: %s",
			  n->count, collx_strerror(n->code[victim]), n->text[victim]);
		cr_expect_lt(n->code[!victim], 0, "%zu descriptors", n->count);
	}
	cr_assert_geq(failed, 2);
	munmap(n, sizeof(*n));
}

Test(surroundings, few_descriptors, .timeout = 120)
{
	sweep_descriptors(0);
	sweep_descriptors(1);
}
