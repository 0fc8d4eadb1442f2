/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Signals that interrupt everything, and forks: a child's calls are refused, its end
 * disturbs nobody, and it keeps nothing open that belongs to its parent's ranks.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include <criterion/criterion.h>

#include "src/base/base.h"
#include "src/comm.h"
#include "src/verdict.h"
#include "tests/world.h"

/* What ranks and their children tell the test; shared. */
struct notes {
	pid_t pids[3], child;
	int ready, code[3], killed_ms;
	uint64_t known_ms[3];
};

static struct notes *notes_make(void)
{
	struct notes *n = mmap(NULL, sizeof(*n), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(n, MAP_FAILED);
	return n;
}

static const char *transport_of(int tcp)
{
	return tcp ? "tcp" : "shm";
}

static void sum_up(collx_comm_t c, int rank, int size, size_t count)
{
	static _Thread_local int64_t in[40000], out[40000];
	int rc;

	for (size_t i = 0; i < count; i++)
		in[i] = (int64_t)i * (rank + 1);
	rc = collx_allreduce(in, out, count, COLLX_INT64, COLLX_SUM, c, NULL);
	EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(c));
	for (size_t i = 0; i < count; i++)
		if (!EXPECT(out[i] == (int64_t)i * size * (size + 1) / 2, "rank %d: element %zu",
			    rank, i))
			return;
}

/* ---- H1: signals ---- */

static volatile sig_atomic_t alarms;

static void on_alarm(int sig)
{
	(void)sig;
	alarms++;
}

/* A timer interrupts every system call; creation and leaving too. */
static void under_alarms(const collx_unique_id *id, int rank, int size, void *arg)
{
	struct sigaction act = { .sa_handler = on_alarm };
	const struct itimerval each_ms = { { 0, 1000 }, { 0, 1000 } };
	const struct itimerval never = { { 0, 0 }, { 0, 0 } };
	collx_comm_t c = NULL;
	uint64_t end;
	int rc;

	(void)arg;
	alarms = 0;
	EXPECT(!sigaction(SIGALRM, &act, NULL) && !setitimer(ITIMER_REAL, &each_ms, NULL), "%s",
	       strerror(errno));
	rc = collx_comm_create(&c, size, id, rank, NULL);
	if (!EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(NULL)))
		return;
	end = now_ms() + 500;
	for (int i = 0, more = 1; more; i++) {
		int32_t here = now_ms() < end, all = 0;

		sum_up(c, rank, size, i % 7 ? 1 + (size_t)i % 9 : 40000);
		if (i % 5 == rank) /* the others wait, asleep */
			for (int k = 0; k < 8; k++)
				nap_ms(1);
		rc = collx_allreduce(&here, &all, 1, COLLX_INT32, COLLX_MIN, c, NULL);
		EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(c));
		more = !rc && all;
	}
	EXPECT(alarms > 20, "rank %d: %d alarms", rank, (int)alarms);
	collx_comm_destroy(c);
	setitimer(ITIMER_REAL, &never, NULL);
}

Test(signals, each_millisecond_without_restart, .timeout = 120)
{
	for (int tcp = 0; tcp < 2; tcp++) {
		const struct world w = { .size = 3, .raw = under_alarms,
					 .transport = transport_of(tcp) };

		cr_assert_eq(world_run(&w), 0);
	}
}

static unsigned long long blocked_by(const char *tid)
{
	unsigned long long blocked = 0;
	char text[384];
	FILE *f;

	snprintf(text, sizeof(text), "/proc/self/task/%s/status", tid);
	f = fopen(text, "r");
	while (f && fgets(text, sizeof(text), f))
		sscanf(text, "SigBlk: %llx", &blocked);
	if (f)
		fclose(f);
	return blocked;
}

/* The guard takes none, whatever the program's threads do with theirs. */
static void guard_blocks(collx_comm_t c, int rank, int size, void *arg)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *d;
	int others = 0;

	(void)rank, (void)size, (void)arg;
	while (tasks && (d = readdir(tasks))) {
		if (d->d_name[0] == '.' || atoi(d->d_name) == getpid())
			continue;
		others++;
		/* But for those that cannot be: 9, 19, and the C library's 32 and 33. */
		EXPECT((blocked_by(d->d_name) | 1ull << 8 | 1ull << 18 | 3ull << 31) == ~0ull,
		       "thread %s blocks %llx", d->d_name, blocked_by(d->d_name));
	}
	if (tasks)
		closedir(tasks);
	EXPECT(others == 1, "%d more threads", others);
	EXPECT(collx_barrier(c, NULL) == 0, "%s", collx_last_error(c));
}

Test(signals, are_blocked_by_the_guard)
{
	const struct world w = { .size = 2, .fn = guard_blocks };

	cr_assert_eq(world_run(&w), 0);
}

/* ---- H2: writing to who is gone ---- */

static void write_to_the_dead(collx_comm_t c, int rank, int size, void *arg)
{
	static char big[1 << 20];
	int rc = 0;

	(void)arg;
	signal(SIGPIPE, SIG_DFL);
	EXPECT(!collx_barrier(c, NULL), "%s", collx_last_error(c));
	ranks_meet(size);
	if (rank == size - 1)
		raise(SIGKILL);
	while (!rc)
		rc = collx_broadcast(big, big, sizeof(big), COLLX_UINT8, 0, c, NULL);
	EXPECT(rc == COLLX_ERR_PEER_DEAD, "rank %d: %s", rank, collx_last_error(c));
}

Test(signals, sigpipe_kills_nobody)
{
	for (int i = 0; i < 6; i++) {
		const struct world w = { .size = 2 + i % 2, .fn = write_to_the_dead,
					 .killed = 2u << i % 2, .transport = transport_of(i / 3) };

		cr_assert_eq(world_run(&w), 0);
	}
}

/* ---- H3: children ---- */

/* Descriptors of this process that are sockets, memfds or eventfds. */
static int special_fds(void)
{
	char path[64], to[256];
	int n = 0;

	for (int fd = 3; fd < 1024; fd++) {
		ssize_t len;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		len = readlink(path, to, sizeof(to) - 1);
		to[len > 0 ? len : 0] = '\0';
		n += !strncmp(to, "socket:", 7) || strstr(to, "memfd:collx") ||
		     strstr(to, "eventfd");
	}
	return n;
}

static int reap(pid_t pid)
{
	int status = -1;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

static void child_of_a_rank(collx_comm_t c, int rank, int before)
{
	int32_t x = 1, y = 0;
	int bad = 0;

	bad |= collx_allreduce(&x, &y, 1, COLLX_INT32, COLLX_SUM, c, NULL) != COLLX_ERR_FORKED;
	bad |= collx_comm_destroy(c) != COLLX_ERR_FORKED;
	bad |= collx_comm_rank(c) != rank;
	bad |= special_fds() != before;
	_exit(bad);
}

/* Counts what is open in a program that a child became. */
static void child_execs(int before)
{
	char script[256];

	snprintf(script, sizeof(script),
		 "n=$(ls -l /proc/self/fd | grep -cE 'socket:|memfd:collx|eventfd'); [ $n -le %d ]",
		 before);
	execl("/bin/sh", "sh", "-c", script, (char *)NULL);
	_exit(99);
}

static void fork_and_go_on(const collx_unique_id *id, int rank, int size, void *arg)
{
	int before = special_fds(), status;
	collx_comm_t c = NULL;
	pid_t pid;

	(void)arg;
	if (!EXPECT(!collx_comm_create(&c, size, id, rank, NULL), "rank %d: %s", rank,
		    collx_last_error(NULL)))
		return;
	sum_up(c, rank, size, 100);
	guard_begins(c);
	EXPECT(special_fds() > before, "rank %d has no connections?", rank);
	for (int kind = 0; kind < 2; kind++) {
		pid = rank_fork();
		if (pid == 0 && kind == 0)
			child_of_a_rank(c, rank, before);
		if (pid == 0)
			child_execs(before);
		status = reap(pid);
		EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0, "rank %d, child %d: %x", rank,
		       kind, (unsigned)status);
		sum_up(c, rank, size, 40000);
	}
	sum_up(c, rank, size, 100);
	collx_comm_destroy(c);
}

Test(forks, a_child_holds_nothing_and_disturbs_nobody)
{
	for (int tcp = 0; tcp < 2; tcp++) {
		const struct world w = { .size = 3, .raw = fork_and_go_on,
					 .transport = transport_of(tcp) };

		cr_assert_eq(world_run(&w), 0);
	}
}

/* A child may have communicators of its own, while its parent's live on. */
static void child_begins_anew(collx_comm_t c, int rank, int size, void *arg)
{
	const collx_unique_id *second = arg;
	collx_comm_t own = NULL;
	int status;
	pid_t pid;

	guard_begins(c);
	pid = rank_fork();
	if (pid == 0) {
		int rc = collx_comm_create(&own, size, second, rank, NULL);

		EXPECT(rc == 0, "child of rank %d: %s", rank, collx_last_error(NULL));
		if (!rc)
			sum_up(own, rank, size, 1000);
		collx_comm_destroy(own);
		_exit(expect_failures() != 0);
	}
	for (int i = 0; i < 50; i++)
		sum_up(c, rank, size, 1000);
	status = reap(pid);
	EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child: %x", (unsigned)status);
	sum_up(c, rank, size, 1000);
}

Test(forks, a_child_begins_anew)
{
	collx_unique_id second;
	char base[64];

	cr_assert(!folder_make(base) && !setenv("COLLX_RUNTIME_DIR", base, 1));
	cr_assert_eq(collx_get_unique_id(&second), 0);
	for (int tcp = 0; tcp < 2; tcp++) {
		const struct world w = { .size = 3, .fn = child_begins_anew, .arg = &second,
					 .transport = transport_of(tcp) };

		cr_assert_eq(world_run(&w), 0);
	}
	folder_gone(base);
}

/* A8: the rank is killed, its child lives on, and must not keep its connections open. */
static void killed_parent(collx_comm_t c, int rank, int size, void *arg)
{
	struct notes *n = arg;
	char line[CX_FAULT_TEXT_MAX];
	uint64_t start;
	int rc;

	sum_up(c, rank, size, 100);
	guard_begins(c);
	ranks_meet(size);
	if (rank == 1) {
		pid_t pid = fork();

		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, 0);
			__atomic_store_n(&n->child, getpid(), __ATOMIC_RELEASE);
			for (;;)
				pause();
		}
		while (!__atomic_load_n(&n->child, __ATOMIC_ACQUIRE))
			nap_ms(1);
		raise(SIGKILL);
	}
	while (!__atomic_load_n(&n->child, __ATOMIC_ACQUIRE))
		nap_ms(1);
	start = now_ms();
	while (!(rc = cx_guard_verdict(c->guard)) && now_ms() - start < 5000)
		nap_ms(1);
	cx_verdict_death_line(line, 1);
	rc = collx_barrier(c, NULL);
	EXPECT(rc == COLLX_ERR_PEER_DEAD && !strcmp(collx_last_error(c), line), "rank %d: %s: %s",
	       rank, collx_strerror(rc), collx_last_error(c));
	EXPECT(now_ms() - start < 2000, "rank %d knew after %d ms", rank, (int)(now_ms() - start));
	EXPECT(!kill(n->child, 0), "the child is gone?");
}

Test(forks, a_parents_death_is_known_while_the_child_lives)
{
	for (int tcp = 0; tcp < 2; tcp++) {
		struct notes *n = notes_make();
		const struct world w = { .size = 3, .fn = killed_parent, .arg = n, .killed = 2,
					 .transport = transport_of(tcp) };

		cr_assert_eq(world_run(&w), 0);
		cr_assert_gt(n->child, 0);
		kill(n->child, SIGKILL);
		munmap(n, sizeof(*n));
	}
}

/* ---- H4: a fork in the midst ---- */

static void *fork_often(void *arg)
{
	int *stop = arg, bad = 0, n = 0;

	while (!__atomic_load_n(stop, __ATOMIC_ACQUIRE) || n < 5) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		bad += pid < 0 || reap(pid) != 0;
		n++;
	}
	return (void *)(intptr_t)bad;
}

static void forks_beside(collx_comm_t c, int rank, int size, void *arg)
{
	pthread_t thread;
	int stop = 0;
	void *bad;

	(void)arg;
	guard_begins(c);
	EXPECT(!pthread_create(&thread, NULL, fork_often, &stop), "no thread");
	for (int i = 0; i < 200; i++)
		sum_up(c, rank, size, i % 3 ? 5 : 40000);
	__atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
	pthread_join(thread, &bad);
	EXPECT(!bad, "rank %d: %d children went wrong", rank, (int)(intptr_t)bad);
	sum_up(c, rank, size, 100);
}

Test(forks, in_the_midst_of_calls, .timeout = 120)
{
	for (int tcp = 0; tcp < 2; tcp++) {
		const struct world w = { .size = 3, .fn = forks_beside,
					 .transport = transport_of(tcp) };

		cr_assert_eq(world_run(&w), 0);
	}
}

/* ---- the end of the process ---- */

/* exit() with a communicator that lives, from a thread beside others that call. */
static void exit_with_a_guard(const collx_unique_id *id, int rank, int size, void *arg)
{
	collx_comm_t c = NULL;
	int rc = collx_comm_create(&c, size, id, rank, NULL);

	(void)arg;
	EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(NULL));
	sum_up(c, rank, size, 100);
	ranks_meet(size);
	if (rank == 0)
		nap_ms(20);
	exit(expect_failures() != 0);
}

Test(forks, exit_ends_the_guard_too)
{
	for (int i = 0; i < 6; i++) {
		const struct world w = { .size = 3, .raw = exit_with_a_guard, .deadline_s = 20 };

		cr_assert_eq(world_run(&w), 0);
	}
}

/* ---- an id that the parent made ---- */

/* The port that the id keeps is the parent's: its number may be another's in a child. */
static void create_from_parents_id(const collx_unique_id *id, int rank)
{
	int others = open("/dev/null", O_RDONLY | O_CLOEXEC), rc;
	collx_comm_t c = NULL;

	rc = collx_comm_create(&c, 2, id, rank, NULL);
	if (!EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(NULL)))
		return;
	for (int i = 0; i < 20; i++) {
		sum_up(c, rank, 2, 100);
		nap_ms(5);
	}
	EXPECT(fcntl(others, F_GETFD) >= 0, "rank %d: libcollx closed the caller's file", rank);
	collx_comm_destroy(c);
}

Test(forks, children_use_the_id_that_their_parent_made)
{
	collx_unique_id id;
	pid_t pids[2];
	char base[64];

	cr_assert_eq(folder_make(base), 0);
	cr_assert_eq(setenv("COLLX_ADDR", "tcp:127.0.0.1:0", 1), 0);
	cx_fork_watch(); /* as a communicator before it would have */
	cr_assert_eq(collx_get_unique_id(&id), 0, "%s", collx_last_error(NULL));
	for (int r = 0; r < 2; r++) {
		pids[r] = rank_fork();
		if (pids[r] == 0) {
			create_from_parents_id(&id, r);
			rank_exit();
		}
	}
	cr_assert_eq(ranks_wait(pids, 2, 0, 60), 0);
	cr_assert_eq(folder_gone(base), 0);
}
