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
#include "src/verdict.h"
#include "tests/world.h"

enum { RANKS = 4, BIG = 16 << 20 /* floats: 64 MiB */ };

/* What the ranks tell the test; shared. */
struct notes {
	int begun[RANKS];
	int code[RANKS];
	uint64_t failed_ms[RANKS];
	char text[RANKS][512];
	uint64_t killed_ms;
	uint64_t give_up_ms;
	collx_unique_id second;
	int victim;
	size_t count;
	const char *transport;
	int what;      /* which collective, or which case */
	unsigned idle; /* bit r: rank r makes no calls until it knows */
	int anew;      /* the survivors make another communicator */
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

/* One call of what the case is about; its result is checked. */
static int compute(collx_comm_t c, const struct notes *n, float *in, float *out, int rank)
{
	int root = n->victim, rc;
	float want = RANKS * (RANKS + 1) / 2;

	in[0] = in[n->count - 1] = (float)(rank + 1);
	out[0] = out[n->count - 1] = -1;
	switch (n->what) {
	case CX_BROADCAST:
		rc = collx_broadcast(in, out, n->count, COLLX_FLOAT32, root, c, NULL);
		want = (float)(root + 1);
		break;
	case CX_REDUCE:
		rc = collx_reduce(in, out, n->count, COLLX_FLOAT32, COLLX_SUM, root, c, NULL);
		want = rank == root ? want : -1;
		break;
	case CX_BARRIER:
		rc = collx_barrier(c, NULL);
		want = -1;
		break;
	default:
		rc = collx_allreduce(in, out, n->count, COLLX_FLOAT32, COLLX_SUM, c, NULL);
	}
	EXPECT(rc || (out[0] == want && out[n->count - 1] == want), "rank %d: success, and %g %g",
	       rank, (double)out[0], (double)out[n->count - 1]);
	return rc;
}

/* Outside the library, until the guard knows; then one call says so. */
static int idle_until_error(collx_comm_t c, struct notes *n, float *in, float *out, int rank)
{
	uint64_t start;
	int rc;

	__atomic_fetch_add(&n->begun[rank], 1, __ATOMIC_RELAXED);
	while (!cx_guard_verdict(c->guard) && now_ms() < n->give_up_ms)
		nap_ms(1);
	n->failed_ms[rank] = now_ms();
	start = now_ms();
	rc = compute(c, n, in, out, rank);
	EXPECT(now_ms() - start < 1000, "rank %d: a later call took %d ms", rank,
	       (int)(now_ms() - start));
	return rc;
}

static int work_until_error(collx_comm_t c, struct notes *n, float *in, float *out, int rank)
{
	int rc = 0;

	if (n->idle >> rank & 1)
		return idle_until_error(c, n, in, out, rank);
	while (!rc && now_ms() < n->give_up_ms) {
		rc = compute(c, n, in, out, rank);
		__atomic_fetch_add(&n->begun[rank], 1, __ATOMIC_RELAXED);
	}
	n->failed_ms[rank] = now_ms();
	return rc;
}

static void compute_until_error(const collx_unique_id *id, int rank, int size, void *arg)
{
	struct notes *n = arg;
	size_t bytes = n->count * sizeof(float);
	float *in = big_buffer(n->count), *out = big_buffer(n->count);
	int fds = open_fds(), rc;
	collx_comm_t c = NULL;

	rc = collx_comm_create(&c, size, id, rank, NULL);
	if (!EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(NULL)))
		return;
	n->give_up_ms = now_ms() + 30000;
	rc = work_until_error(c, n, in, out, rank);
	n->code[rank] = rc;
	mprotect(in, bytes, PROT_NONE); /* nobody is to touch these any more */
	mprotect(out, bytes, PROT_NONE);
	snprintf(n->text[rank], sizeof(n->text[rank]), "%s", collx_last_error(c));
	nap_ms(5);
	collx_comm_destroy(c);
	EXPECT(fds_return(fds), "rank %d: %d descriptors, %d before", rank, open_fds(), fds);
	if (n->anew)
		begin_anew(n, rank);
}

/* All of them in one line. */
static void death_line(char line[CX_FAULT_TEXT_MAX], unsigned victims)
{
	char list[64] = "";
	size_t at = 0;

	for (int v = 0, end; v < RANKS; v = end + 1) {
		for (end = v; end < RANKS && victims >> end & 1; end++)
			;
		if (end > v)
			at += (size_t)snprintf(list + at, sizeof(list) - at,
					       end - v > 2   ? "%s%d-%d"
					       : end - v > 1 ? "%s%d, %d"
							     : "%s%d",
					       at ? ", " : "", v, end - 1);
	}
	if (__builtin_popcount(victims) == 1)
		cx_verdict_death_line(line, __builtin_ctz(victims));
	else
		snprintf(line, CX_FAULT_TEXT_MAX, "ranks %s died: their processes ended without "
			 "leaving (control connections closed)", list);
}

/* The same on all who are left, whoever died. */
static void expect_one_error(const struct notes *n, unsigned victims)
{
	char line[CX_FAULT_TEXT_MAX];

	death_line(line, victims);
	for (int r = 0; r < RANKS; r++) {
		if (victims >> r & 1)
			continue;
		cr_expect(n->code[r] == COLLX_ERR_PEER_DEAD && !strcmp(n->text[r], line),
			  "rank %d: %s: %s", r, collx_strerror(n->code[r]), n->text[r]);
		cr_expect_lt((int64_t)(n->failed_ms[r] - n->killed_ms), 20000, "rank %d took %d ms",
			     r, (int)(n->failed_ms[r] - n->killed_ms));
	}
}

/* Those who are idle; or, where nobody is, everybody has made a call. */
static int all_have_begun(const struct notes *n)
{
	for (int r = 0; r < RANKS; r++)
		if ((!n->idle || n->idle >> r & 1) && !__atomic_load_n(&n->begun[r],
								       __ATOMIC_RELAXED))
			return 0;
	return 1;
}

/* Kills the victims after a drawn time of computing. */
static void kill_some(struct notes *n, unsigned victims, uint64_t seed)
{
	char base[64];
	collx_unique_id id;
	pid_t pids[RANKS], group;
	int tiny = own_dev_shm();

	n->victim = __builtin_ctz(victims);
	cr_assert_eq(folder_make(base), 0);
	if (n->transport)
		setenv("COLLX_TRANSPORT", n->transport, 1);
	cr_assert(!collx_get_unique_id(&id) && !collx_get_unique_id(&n->second));
	for (int r = 0; r < RANKS; r++) {
		pids[r] = rank_fork();
		if (pids[r] == 0) {
			compute_until_error(&id, r, RANKS, n);
			rank_exit();
		}
	}
	group = ranks_group(pids, RANKS, victims);
	cr_assert_neq(group, 0, "setpgid: %s", strerror(errno));
	for (int tries = 0; !all_have_begun(n) && tries < 60000; tries++)
		nap_ms(1);
	nap_ms((unsigned)(mix64(seed) % 50));
	n->killed_ms = now_ms();
	kill(group, SIGKILL);
	cr_assert_eq(ranks_wait(pids, RANKS, victims, 60), 0, "%s, victims %x, idle %x",
		     n->transport, victims, n->idle);
	cr_assert_eq(folder_gone(base), 0);
	cr_assert(!tiny || shm_files() == 0);
	cr_assert(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "a child is left");
	expect_one_error(n, victims);
}

static void kill_cases(const char *transport, int what, size_t count, unsigned idle, int anew,
		       unsigned victims)
{
	struct notes *n = notes_make();

	n->transport = transport;
	n->what = what;
	n->count = count;
	n->idle = idle;
	n->anew = anew;
	kill_some(n, victims, victims * 100 + count + (unsigned)what);
	munmap(n, sizeof(*n));
}

/* A2: in the midst of a call, any rank, small and large. */
Test(death, in_a_call_over_shm, .timeout = 300)
{
	for (int victim = 0; victim < RANKS; victim++) {
		kill_cases("shm", CX_ALLREDUCE, BIG / (victim ? 16 : 1), 0, 1, 1u << victim);
		kill_cases("shm", CX_ALLREDUCE, 3, 0, 1, 1u << victim);
		kill_cases("shm", CX_ALLREDUCE, 3000, 0, 1, 1u << victim);
	}
}

Test(death, in_a_call_over_tcp, .timeout = 300)
{
	for (int victim = 0; victim < RANKS; victim++) {
		kill_cases("tcp", CX_ALLREDUCE, BIG / (victim ? 16 : 1), 0, 1, 1u << victim);
		kill_cases("tcp", CX_ALLREDUCE, 3, 0, 1, 1u << victim);
	}
}

/* A4: the root of a rooted call, which others may not even wait for. */
Test(death, of_a_root, .timeout = 300)
{
	for (int victim = 0; victim < RANKS; victim++)
		for (int tcp = 0; tcp < 2; tcp++) {
			const char *transport = tcp ? "tcp" : "shm";

			kill_cases(transport, CX_BROADCAST, 300000, 0, 0, 1u << victim);
			kill_cases(transport, CX_REDUCE, 300000, 0, 0, 1u << victim);
			kill_cases(transport, CX_BARRIER, 1, 0, 0, 1u << victim);
		}
}

/* A1: nobody calls; and rank 0, or all but one, computes outside while others wait. */
Test(death, while_others_are_outside, .timeout = 300)
{
	for (int victim = 0; victim < RANKS; victim++)
		for (int tcp = 0; tcp < 2; tcp++) {
			const char *transport = tcp ? "tcp" : "shm";

			kill_cases(transport, CX_ALLREDUCE, 3, 15, 0, 1u << victim);
			kill_cases(transport, CX_ALLREDUCE, 3, 1, 0, 1u << victim);
			kill_cases(transport, CX_ALLREDUCE, 3, 13, 0, 1u << victim);
		}
}

/* A5: several at once. */
Test(death, of_several_at_once, .timeout = 300)
{
	for (unsigned victims = 3; victims < 15; victims++)
		if (__builtin_popcount(victims) > 1)
			kill_cases(victims % 2 ? "shm" : "tcp", CX_ALLREDUCE, 3000,
				   victims % 3 ? 0 : 15, 0, victims);
}

/* A7: a process ends in another way, without leaving. */
static void end_without_leaving(const collx_unique_id *id, int rank, int size, void *arg)
{
	int how = *(int *)arg, rc = 0;
	char line[CX_FAULT_TEXT_MAX];
	collx_comm_t c = NULL;

	rc = collx_comm_create(&c, size, id, rank, NULL);
	EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(NULL));
	if (rank == 1) {
		EXPECT(!collx_barrier(c, NULL), "%s", collx_last_error(c));
		if (how == 0)
			_exit(0);
		if (how == 1)
			exit(expect_failures());
		execl("/bin/sleep", "sleep", "0.5", (char *)NULL);
		_exit(9);
	}
	while (!rc)
		rc = collx_barrier(c, NULL);
	cx_verdict_death_line(line, 1);
	EXPECT(rc == COLLX_ERR_PEER_DEAD && !strcmp(collx_last_error(c), line), "rank %d: %s: %s",
	       rank, collx_strerror(rc), collx_last_error(c));
	collx_comm_destroy(c);
}

Test(death, is_any_end_without_leaving)
{
	for (int how = 0; how < 3; how++)
		for (int tcp = 0; tcp < 2; tcp++) {
			const struct world w = { .size = 3, .raw = end_without_leaving, .arg = &how,
						 .transport = tcp ? "tcp" : "shm" };

			cr_assert_eq(world_run(&w), 0, "way %d", how);
		}
}

/* ---- one verdict ---- */

/* Rank 1's deadline passes about when rank 3 dies; who is first may differ, not what
 * the ranks say. */
static void two_errors(const collx_unique_id *id, int rank, int size, void *arg)
{
	struct notes *n = arg;
	collx_opts o = COLLX_OPTS_INIT;
	collx_comm_t c = NULL;
	float x = 1, y = 0;
	int rc = collx_comm_create(&c, size, id, rank, NULL);

	EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(NULL));
	rc = collx_barrier(c, NULL);
	if (rank == 3) {
		nap_ms(20);
		raise(SIGKILL);
	}
	o.timeout_ms = rank == 1 ? 15 + (uint32_t)n->what % 9 : 10000;
	for (int i = 0; !rc && i < 3; i++)
		rc = collx_allreduce(&x, &y, 1, COLLX_FLOAT32, COLLX_SUM, c, &o);
	n->code[rank] = rc;
	snprintf(n->text[rank], sizeof(n->text[rank]), "%s", collx_last_error(c));
	collx_comm_destroy(c);
}

Test(verdict, of_two_errors_at_once_is_one, .timeout = 300)
{
	struct notes *n = notes_make();
	int dead = 0, late = 0;

	for (n->what = 0; n->what < 60; n->what++) {
		const struct world w = { .size = 4, .raw = two_errors, .arg = n, .killed = 8,
					 .transport = n->what % 2 ? "tcp" : "shm" };

		cr_assert_eq(world_run(&w), 0);
		dead += n->code[0] == COLLX_ERR_PEER_DEAD;
		late += n->code[0] == COLLX_ERR_TIMEOUT;
		for (int r = 0; r < 3; r++)
			cr_assert(n->code[r] && n->code[r] == n->code[0] &&
				  !strcmp(n->text[r], n->text[0]), "rank 0: %s, rank %d: %s",
				  n->text[0], r, n->text[r]);
	}
	cr_log_info("%d deaths, %d timeouts", dead, late);
	cr_expect_eq(dead + late, 60);
	munmap(n, sizeof(*n));
}

/* Whoever knows of an error may end at once; its end must not be taken for the cause. */
static void end_upon_an_error(const collx_unique_id *id, int rank, int size, void *arg)
{
	struct notes *n = arg;
	collx_opts o = COLLX_OPTS_INIT;
	collx_comm_t c = NULL;
	float x = 1, y = 0;
	int rc = collx_comm_create(&c, size, id, rank, NULL);

	EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(NULL));
	rc = collx_barrier(c, NULL);
	o.timeout_ms = rank == n->victim ? 10 : 10000;
	if (rank != 3)
		rc = collx_allreduce(&x, &y, 1, COLLX_FLOAT32, COLLX_SUM, c, &o);
	while (rank == 3 && !cx_guard_verdict(c->guard))
		nap_ms(1);
	if (rank == 3)
		rc = collx_allreduce(&x, &y, 1, COLLX_FLOAT32, COLLX_SUM, c, &o);
	n->code[rank] = rc;
	snprintf(n->text[rank], sizeof(n->text[rank]), "%s", collx_last_error(c));
	_exit(expect_failures() != 0);
}

Test(verdict, comes_before_the_end_of_who_knows_it, .timeout = 120)
{
	struct notes *n = notes_make();

	for (int i = 0; i < 24; i++) {
		const struct world w = { .size = 4, .raw = end_upon_an_error, .arg = n,
					 .transport = i / 3 % 2 ? "tcp" : "shm" };

		n->victim = i % 3;
		cr_assert_eq(world_run(&w), 0);
		for (int r = 0; r < 4; r++)
			cr_assert(n->code[r] == COLLX_ERR_TIMEOUT &&
				  !strcmp(n->text[r], n->text[0]), "rank 0: %s, rank %d: %s",
				  n->text[0], r, n->text[r]);
	}
	munmap(n, sizeof(*n));
}

/* Two communicators of a process: one loses a rank that the other lacks. */
static void two_communicators(const collx_unique_id *id, int rank, int size, void *arg)
{
	const collx_unique_id *of_two = arg;
	collx_comm_t three = NULL, two = NULL;
	int32_t one = 1, sum = 0;
	int rc = collx_comm_create(&three, size, id, rank, NULL);

	if (!rc && rank < 2)
		rc = collx_comm_create(&two, 2, of_two, rank, NULL);
	EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(NULL));
	rc = collx_barrier(three, NULL);
	EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(three));
	ranks_meet(size);
	if (rank == 2)
		raise(SIGKILL);
	while (!cx_guard_verdict(three->guard))
		nap_ms(1);
	for (int i = 0; i < 100; i++) {
		rc = collx_allreduce(&one, &sum, 1, COLLX_INT32, COLLX_SUM, two, NULL);
		EXPECT(rc == 0 && sum == 2, "rank %d: %s", rank, collx_last_error(two));
	}
	EXPECT(collx_barrier(three, NULL) == COLLX_ERR_PEER_DEAD, "%s", collx_last_error(three));
	collx_comm_destroy(three);
	EXPECT(collx_barrier(two, NULL) == 0, "%s", collx_last_error(two));
	collx_comm_destroy(two);
}

Test(verdict, is_of_one_communicator_alone)
{
	collx_unique_id id;
	char base[64];

	for (int tcp = 0; tcp < 2; tcp++) {
		const struct world w = { .size = 3, .raw = two_communicators, .arg = &id,
					 .killed = 4, .transport = tcp ? "tcp" : "shm" };

		cr_assert(!folder_make(base) && !collx_get_unique_id(&id));
		setenv("COLLX_RUNTIME_DIR", base, 1);
		cr_assert_eq(collx_get_unique_id(&id), 0);
		cr_assert_eq(world_run(&w), 0);
		folder_gone(base);
	}
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
	EXPECT(now_ms() - start < 20000, "rank %d took long", rank);
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

/* Rank 0's end of the connection does not end, as its process is stopped: the guard waits for
 * it, up to 2 s, and the caller for 50 ms of that. */
static void leave_a_stopped_one(const collx_unique_id *id, int rank, int size, void *arg)
{
	struct notes *n = arg;
	collx_comm_t c = NULL;
	uint64_t begin;
	int took, rc = collx_comm_create(&c, size, id, rank, NULL);

	EXPECT(rc == 0 && !collx_barrier(c, NULL), "rank %d: %s", rank, collx_last_error(c));
	if (!rank) {
		__atomic_store_n(&n->victim, getpid(), __ATOMIC_RELEASE);
		while (!__atomic_load_n(&n->anew, __ATOMIC_ACQUIRE))
			nap_ms(1);
	} else {
		while (!__atomic_load_n(&n->victim, __ATOMIC_ACQUIRE))
			nap_ms(1);
		kill(n->victim, SIGSTOP);
		nap_ms(50);
	}
	begin = now_ms();
	rc = collx_comm_destroy(c);
	took = (int)(now_ms() - begin);
	EXPECT(rc == 0 && took < 1000 && (!rank || took >= 40), "rank %d: %d ms", rank, took);
	__atomic_store_n(&n->anew, 1, __ATOMIC_RELEASE);
	if (rank)
		kill(n->victim, SIGCONT);
}

Test(leaving, takes_no_longer_where_another_rank_is_stopped)
{
	struct notes *n = notes_make();
	const struct world w = { .size = 2, .raw = leave_a_stopped_one, .arg = n };

	cr_assert_eq(world_run(&w), 0);
	munmap(n, sizeof(*n));
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

/* Rank 2 leaves without a call that the others finish: messages of these go on. */
static void talk_behind_a_back(collx_comm_t c, int rank, int size, void *arg)
{
	int32_t x = 7, y = 0;
	int rc;

	(void)arg;
	EXPECT(!collx_barrier(c, NULL), "rank %d: %s", rank, collx_last_error(c));
	if (rank == 2) {
		ranks_meet(size);
		return;
	}
	rc = collx_broadcast(&x, &y, 1, COLLX_INT32, 0, c, NULL);
	EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(c));
	ranks_meet(size);
	nap_ms(rank ? 400 : 200); /* rank 0 waits, knowing of the leave */
	if (rank)
		rc = collx_send(&x, 1, COLLX_INT32, 0, c, NULL);
	else
		rc = collx_recv(&y, 1, COLLX_INT32, 1, c, NULL);
	EXPECT(rc == 0 && y == 7, "rank %d: %s: %d: %s", rank, collx_strerror(rc), y,
	       collx_last_error(c));
	rc = collx_barrier(c, NULL);
	EXPECT(rc == COLLX_ERR_PEER_LEFT &&
	       strstr(collx_last_error(c), "rank 2 left the communicator before operation 3"),
	       "rank %d: %s: %s", rank, collx_strerror(rc), collx_last_error(c));
}

Test(leaving, does_not_end_messages_of_others)
{
	const struct world w = { .size = 3, .fn = talk_behind_a_back, .transport = "shm" };

	cr_assert_eq(world_run(&w), 0);
}

static void dawdle(collx_comm_t c, int rank, int size, void *arg)
{
	struct notes *n = arg;
	float x = 1, y = 0;
	uint64_t start = now_ms();

	(void)size;
	while (rank == 1 && !cx_guard_verdict(c->guard) && now_ms() - start < 10000)
		nap_ms(1);
	for (int i = 0; !n->code[rank] && i < 3; i++)
		n->code[rank] = collx_allreduce(&x, &y, 1, COLLX_FLOAT32, COLLX_SUM, c, NULL);
	snprintf(n->text[rank], sizeof(n->text[rank]), "%s", collx_last_error(c));
	EXPECT(now_ms() - start < 20000, "rank %d took %d ms", rank, (int)(now_ms() - start));
}

/* Does it say so, and at least 0.3 s? More, where a thread got no processor. */
static void expect_seconds(const char *line, const char *before, const char *behind)
{
	const char *at = strstr(line, before);
	char *end = NULL;
	double s = at ? strtod(at + strlen(before), &end) : 0;

	cr_expect(s >= 0.29 && s < 5 && !strncmp(end, behind, strlen(behind)), "no '%s...%s' in %s",
		  before, behind, line);
}

Test(dawdling, ends_by_the_deadline_and_the_line_says_whom_for)
{
	collx_config config = COLLX_CONFIG_INIT;
	struct notes *n = notes_make();
	const struct world w = { .size = 3, .fn = dawdle, .arg = n, .config = &config };

	config.op_timeout_ms = 300;
	cr_assert_eq(world_run(&w), 0);
	for (int r = 0; r < 3; r++)
		cr_expect(n->code[r] == COLLX_ERR_TIMEOUT && !strcmp(n->text[r], n->text[0]),
			  "rank %d: %s: %s", r, collx_strerror(n->code[r]), n->text[r]);
	cr_expect(strstr(n->text[0], "allreduce(count 1, float32, sum), operation 1: rank "), "%s",
		  n->text[0]);
	expect_seconds(n->text[0], " waited ", " s, ");
	expect_seconds(n->text[0], "; missing: rank 1 (in no collective for ", " s, no operation");
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

	config.create_timeout_ms = 300u << 2 * n->what;
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
	EXPECT(fds_return(fds), "rank %d: %d descriptors, %d before", rank, open_fds(), fds);
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
		/* Longer, where time ran out for it when the other one had all. */
		n->what = 0;
		do
			cr_assert_eq(world_run(&w), 0, "%zu descriptors", n->count);
		while (n->code[victim] == COLLX_ERR_INIT_TIMEOUT && !n->code[!victim] &&
		       n->what++ < 2);
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
