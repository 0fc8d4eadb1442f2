/* SPDX-License-Identifier: BSD-3-Clause */
/* Ranks as processes or threads; see world.h. */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "src/base/base.h"
#include "src/comm.h"
#include "src/ward.h"
#include "tests/hosts.h"
#include "tests/world.h"

enum { DEADLINE_S = 120, PRINT_MAX = 20 };

/* ---- checks ---- */

static _Thread_local int failures;

int expect_at(int ok, const char *file, int line, const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	int n;

	if (ok)
		return 1;
	if (failures++ >= PRINT_MAX)
		return 0;
	n = snprintf(text, sizeof(text), "%s:%d: ", file, line);
	va_start(ap, fmt);
	vsnprintf(text + n, sizeof(text) - (size_t)n, fmt, ap);
	va_end(ap);
	fprintf(stderr, "%s\n", text);
	return 0;
}

int expect_failures(void)
{
	return failures;
}

/* ---- small things ---- */

uint64_t now_ms(void)
{
	return cx_sys_real.now_ns() / 1000000;
}

void nap_ms(unsigned ms)
{
	struct timespec t = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

void own_loopback(char address[16])
{
	unsigned id = (unsigned)getpid();

	snprintf(address, 16, "127.%u.%u.%u", 1 + id / 65536 % 254, id / 256 % 256, id % 256);
}

uint64_t mix64(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

int open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = -1; /* the folder's own */

	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

int fds_return(int before)
{
	uint64_t end = now_ms() + 5000;

	while (open_fds() != before && now_ms() < end)
		nap_ms(1);
	return open_fds() == before;
}

static int own_threads = 1; /* this process's, before it had a communicator */

static int count_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	int n = -2; /* . and .. */

	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

int threads_end(void)
{
	uint64_t end = now_ms() + 10000;

	while (count_threads() > own_threads && now_ms() < end)
		nap_ms(1);
	return count_threads() <= own_threads;
}

void guard_begins(collx_comm_t comm)
{
	struct cx_ward *w = comm->guard;
	uint64_t end = now_ms() + 10000;

	cx_guard_nudge(w);
	while (atomic_load(&w->nudged) && now_ms() < end)
		nap_ms(1);
}

void call_begins(collx_comm_t comm)
{
	uint64_t end = now_ms() + 10000;

	while (!atomic_load(&comm->inside) && cx_calls_state(&comm->calls) % 2 == 0 &&
	       now_ms() < end)
		nap_ms(1);
}

/* ---- files ---- */

int file_replace(const char *path, const char *text)
{
	char tmp[4096];
	FILE *f;
	int n = snprintf(tmp, sizeof(tmp), "%s.new", path), wrong;

	f = n > 0 && (size_t)n < sizeof(tmp) ? fopen(tmp, "w") : NULL;
	if (!f)
		return -1;
	wrong = fputs(text, f) < 0;
	return fclose(f) || wrong || rename(tmp, path) ? -1 : 0;
}

/* ---- the folder ---- */

int folder_make(char base[64])
{
	static int here;
	char run[72];

	if (!here++) /* a test has some of Criterion's */
		own_threads = count_threads();
	for (int v = 0; v < CX_ENV_COUNT; v++)
		unsetenv(cx_env_entry((enum cx_env)v)->name);
	setenv("COLLX_INTERFACE", "lo", 1); /* nobody listens at a real one */
	strcpy(base, "/tmp/collx-t-XXXXXX");
	if (!mkdtemp(base)) {
		perror("mkdtemp");
		return 1;
	}
	snprintf(run, sizeof(run), "%s/run", base);
	return setenv("COLLX_RUNTIME_DIR", run, 1);
}

static void list_folder(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *d;

	while (dir && (d = readdir(dir)))
		if (strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
			fprintf(stderr, "left behind: %s/%s\n", path, d->d_name);
	if (dir)
		closedir(dir);
}

int folder_gone(const char *base)
{
	char run[72];

	/* Who makes the folder removes it, unless others are there then: it may be left, empty. */
	snprintf(run, sizeof(run), "%s/run", base);
	rmdir(run);
	if (!rmdir(base))
		return 0;
	list_folder(base);
	list_folder(run);
	return 1;
}

/* ---- processes ---- */

pid_t rank_fork(void)
{
	pid_t parent = getpid(), pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(99);
	failures = 0;
	own_threads = 1;
	return 0;
}

#ifdef __SANITIZE_ADDRESS__
int __lsan_do_recoverable_leak_check(void);
static int leaks(void)
{
	cx_guard_exit(); /* as when the process ends, which no relay outlives */
	return __lsan_do_recoverable_leak_check();
}
#else
static int leaks(void)
{
	return 0;
}
#endif

void rank_exit(void)
{
	if (failures)
		_exit(1);
	_exit(leaks() ? 2 : 0);
}

pid_t ranks_group(const pid_t *pids, int n, unsigned who)
{
	pid_t first = 0;

	for (int r = 0; r < n; r++) {
		if (!(who >> r & 1) || pids[r] <= 0)
			continue;
		first = first ? first : pids[r];
		if (setpgid(pids[r], first))
			return 0;
	}
	return -first;
}

/* 0 when that is how rank r was to end. */
static int judge(int r, int status, unsigned killed)
{
	if (killed >> r & 1 ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL
			    : WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFSIGNALED(status))
		fprintf(stderr, "rank %d was killed by signal %d\n", r, WTERMSIG(status));
	else
		fprintf(stderr, "rank %d exited with status %d\n", r, WEXITSTATUS(status));
	return 1;
}

/* Reaps who has ended; returns how many ended the wrong way. */
static int reap(pid_t *pids, int n, unsigned killed, int *left)
{
	int wrong = 0, status;

	*left = 0;
	for (int r = 0; r < n; r++) {
		if (pids[r] <= 0)
			continue;
		if (waitpid(pids[r], &status, WNOHANG) == 0) {
			++*left;
			continue;
		}
		pids[r] = 0;
		wrong += judge(r, status, killed);
	}
	return wrong;
}

int ranks_wait(pid_t *pids, int n, unsigned killed, unsigned deadline_s)
{
	uint64_t end = now_ms() + 1000 * (uint64_t)(deadline_s ? deadline_s : DEADLINE_S);
	int wrong, left;

	while ((wrong = reap(pids, n, killed, &left)) == 0 && left && now_ms() < end)
		nap_ms(1);
	if (!wrong && left)
		fprintf(stderr, "%d ranks ran past the deadline\n", left);
	for (int r = 0; r < n; r++) {
		if (pids[r] <= 0)
			continue;
		if (wrong) { /* the others' words may tell why */
			uint64_t grace = now_ms() + 300;

			while (now_ms() < grace && !waitpid(pids[r], NULL, WNOHANG))
				nap_ms(1);
		}
		kill(pids[r], SIGKILL);
		waitpid(pids[r], NULL, 0);
		pids[r] = 0;
	}
	return wrong || left;
}

/* ---- hosts ---- */

void (*hosts_move)(int host, int several);
static int (*host_layout)(int rank, int ranks);

int hosts_of(int rank, int ranks)
{
	return host_layout ? host_layout(rank, ranks) : 0;
}

void hosts_enter(int rank, int ranks)
{
	if (hosts_move)
		hosts_move(hosts_of(rank, ranks), host_layout != NULL);
}

int hosts_lay_out(int (*layout)(int rank, int ranks), int ranks)
{
	if (layout && !hosts_move) {
		fprintf(stderr, "this program was linked without tests/hosts.c\n");
		return 1;
	}
	host_layout = layout;
	hosts_enter(0, ranks);
	return 0;
}

/* ---- worlds ---- */

struct seat {
	const struct world *w;
	const collx_unique_id *id;
	int rank;
	int failed;
	pthread_t thread;
};

static void take_seat(const struct world *w, const collx_unique_id *id, int rank)
{
	collx_comm_t comm = NULL;
	int rc;

	hosts_enter(rank, w->size);
	if (w->raw) {
		w->raw(id, rank, w->size, w->arg);
		return;
	}
	rc = collx_comm_create(&comm, w->size, id, rank, w->config);
	if (!EXPECT(rc == 0, "rank %d of %d: creation: %s: %s", rank, w->size, collx_strerror(rc),
		    collx_last_error(NULL)))
		return;
	w->fn(comm, rank, w->size, w->arg);
	collx_comm_destroy(comm);
}

static int *came; /* how many, to all meetings; shared */
static _Thread_local int meetings;

void ranks_meet(int size)
{
	uint64_t end = now_ms() + 30000;
	int all = ++meetings * size;

	__atomic_fetch_add(came, 1, __ATOMIC_RELAXED);
	while (__atomic_load_n(came, __ATOMIC_ACQUIRE) < all && now_ms() < end)
		nap_ms(1);
}

/* Before the ranks are there. */
static void open_meetings(void)
{
	if (!came)
		came = mmap(NULL, sizeof(*came), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (came == MAP_FAILED)
		abort();
	*came = 0;
	meetings = 0;
}

static int run_processes(const struct world *w, const collx_unique_id *id)
{
	pid_t pids[WORLD_MAX];
	int rc = 0, n = 0;

	/* A child's checkers would look for a thread's memory that only the parent has. */
	threads_end();
	fflush(stdout);
	fflush(stderr);
	for (; n < w->size; n++) {
		pids[n] = rank_fork();
		if (pids[n] < 0) {
			perror("fork");
			rc = 1;
			break;
		}
		if (pids[n] == 0) {
			take_seat(w, id, n);
			rank_exit();
		}
	}
	return ranks_wait(pids, n, w->killed, rc ? 1 : w->deadline_s) || rc;
}

static void *thread_main(void *arg)
{
	struct seat *s = arg;

	failures = 0;
	take_seat(s->w, s->id, s->rank);
	s->failed = failures;
	return NULL;
}

static int run_threads(const struct world *w, const collx_unique_id *id)
{
	static struct seat seats[WORLD_MAX]; /* outlives a thread that hangs */
	struct timespec end;
	int failed = 0;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += w->deadline_s ? w->deadline_s : DEADLINE_S;
	for (int r = 0; r < w->size; r++) {
		seats[r] = (struct seat){ .w = w, .id = id, .rank = r };
		if (pthread_create(&seats[r].thread, NULL, thread_main, &seats[r])) {
			perror("pthread_create");
			abort();
		}
	}
	for (int r = 0; r < w->size; r++) {
		if (pthread_timedjoin_np(seats[r].thread, NULL, &end)) {
			fprintf(stderr, "rank %d (a thread) ran past the deadline\n", r);
			abort();
		}
		if (seats[r].failed)
			fprintf(stderr, "rank %d (a thread) failed\n", r);
		failed += seats[r].failed;
	}
	return failed != 0;
}

int world_run(const struct world *w)
{
	collx_unique_id id;
	char base[64];
	int rc;

	if (folder_make(base) || (w->transport && setenv("COLLX_TRANSPORT", w->transport, 1)) ||
	    hosts_lay_out(w->host, w->size))
		return 1;
	open_meetings();
	rc = collx_get_unique_id(&id);
	if (rc)
		fprintf(stderr, "unique id: %s\n", collx_last_error(NULL));
	else
		rc = w->threads ? run_threads(w, &id) : run_processes(w, &id);
	return folder_gone(base) || rc;
}
