/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * strays_time [TRIALS [STRAYS [ROUNDS]]]: what strays cost. Each trial has three jobs of 4 ranks
 * over TCP on the loopback, in turn: without strays; with strays at another program, which
 * costs this machine as much; and with strays at the job. Two times of each: from the last
 * rank's start until all have their communicator, with strays at rank 0's door; and a
 * number of allreduces (ROUNDS), with strays at all ports of the ranks. perf/strays runs it.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/auth.h"
#include "src/base/base.h"
#include "tests/strays.h"
#include "tests/world.h"

enum { RANKS = 4, ELEMENTS = 16384, PORT = 27500, SINK_PORT = 27499, TRIALS_MAX = 200 };
enum where { NOWHERE, ELSEWHERE, HERE, PLACES };
enum phase { CREATION, RUN, PHASES };

static struct shared {
	atomic_int up, go;
	atomic_ullong run_ns;
	struct strays strays;
} *shared;

static double ms[PLACES][PHASES][TRIALS_MAX];
static int rounds = 60000; /* longer than all strays take */
static unsigned stray_count = 10000;
static struct cx_secret secret;
static char base[64], secret_path[96];

static void die(const char *what)
{
	fprintf(stderr, "strays_time: %s\n", what);
	exit(1);
}

static struct sockaddr_in loopback(int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return a;
}

/* Takes connections in and keeps the last hundred. */
static void sink(void)
{
	const struct sockaddr_in at = loopback(SINK_PORT);
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1, held[100];
	const char greeting[CX_CHALLENGE_BYTES] = "CLX1";

	memset(held, -1, sizeof(held));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (const struct sockaddr *)&at, sizeof(at)) || listen(fd, 1024))
		die("no port for the other program");
	for (unsigned i = 0;; i++) {
		int got = accept(fd, NULL, NULL);

		if (held[i % 100] >= 0)
			close(held[i % 100]);
		held[i % 100] = got;
		if (got >= 0 && send(got, greeting, sizeof(greeting), MSG_NOSIGNAL) < 0)
			continue;
	}
}

static void compute(collx_comm_t c, int rank)
{
	static float in[ELEMENTS], out[ELEMENTS];
	uint64_t start;

	while (!atomic_load(&shared->go))
		nap_ms(1);
	start = cx_now_ns();
	for (int i = 0; i < rounds; i++)
		EXPECT(!collx_allreduce(in, out, ELEMENTS, COLLX_FLOAT32, COLLX_SUM, c, NULL),
		       "rank %d: %s", rank, collx_last_error(c));
	if (rank == 0)
		atomic_store(&shared->run_ns, cx_now_ns() - start);
}

static pid_t rank_start(int rank, int port)
{
	collx_comm_t c = NULL;
	pid_t pid = rank_fork();
	char text[64];

	if (pid)
		return pid;
	snprintf(text, sizeof(text), "tcp:127.0.0.1:%d", port);
	setenv("COLLX_ADDR", text, 1);
	snprintf(text, sizeof(text), "%d", rank);
	setenv("COLLX_RANK", text, 1);
	if (EXPECT(!collx_comm_create_from_env(&c, NULL), "rank %d: %s", rank,
		   collx_last_error(NULL))) {
		atomic_fetch_add(&shared->up, 1);
		compute(c, rank);
	}
	collx_comm_destroy(c);
	rank_exit();
}

static pid_t strays_start(enum where where, const struct sockaddr_in *to, int nto)
{
	struct strays *s = &shared->strays;
	const struct sockaddr_in other = loopback(SINK_PORT);
	pid_t pid;

	if (where == NOWHERE)
		return 0;
	memset(s, 0, sizeof(*s));
	memcpy(s->to, where == HERE ? to : &other, sizeof(*to) * (where == HERE ? (size_t)nto : 1));
	s->nto = where == HERE ? nto : 1;
	s->count = stray_count;
	s->secret = &secret;
	pid = rank_fork();
	if (pid)
		return pid;
	strays_make(s);
	rank_exit();
}

static void strays_end(pid_t pid)
{
	if (pid && ranks_wait(&pid, 1, 0, 120))
		die("the stray maker failed");
	if (shared->strays.let_in)
		die("a stray was let in");
}

static void wait_for(int up)
{
	uint64_t start = now_ms();

	while (atomic_load(&shared->up) < up && now_ms() - start < 60000)
		usleep(200);
	if (atomic_load(&shared->up) < up)
		die("the ranks did not come up");
}

static int has_door(pid_t pid, int port)
{
	struct sockaddr_in found[8];

	for (int n = strays_ports_of(pid, found, 8); n-- > 0;)
		if (found[n].sin_port == htons((uint16_t)port))
			return 1;
	return 0;
}

static void trial(int n, enum where where)
{
	struct sockaddr_in ports[64];
	int port = PORT + (n * PLACES + (int)where) % 400, nports = 1;
	pid_t ranks[RANKS], maker;
	uint64_t start;

	atomic_store(&shared->up, 0);
	atomic_store(&shared->go, 0);
	ports[0] = loopback(port);
	for (int r = 0; r < RANKS - 1; r++)
		ranks[r] = rank_start(r, port);
	while (!has_door(ranks[0], port))
		nap_ms(2);
	maker = strays_start(where, ports, 1);
	nap_ms(200); /* until the crowd is there */
	start = cx_now_ns();
	ranks[RANKS - 1] = rank_start(RANKS - 1, port);
	wait_for(RANKS);
	ms[where][CREATION][n] = (double)(cx_now_ns() - start) * 1e-6;
	strays_end(maker);
	for (int r = 0; r < RANKS; r++)
		nports += strays_ports_of(ranks[r], ports + nports, 64 - nports);
	maker = strays_start(where, ports, nports);
	atomic_store(&shared->go, 1);
	if (ranks_wait(ranks, RANKS, 0, 300))
		die("a rank failed");
	ms[where][RUN][n] = (double)atomic_load(&shared->run_ns) * 1e-6;
	strays_end(maker);
}

static int by_size(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static double median(double *v, int n)
{
	qsort(v, (size_t)n, sizeof(*v), by_size);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static void report(int trials)
{
	static const char *const names[PHASES] = { "creation", "run" };

	printf("# %d trials, %u strays a phase, %d ranks, %d allreduces of %d bytes; medians\n",
	       trials, stray_count, RANKS, rounds, ELEMENTS * 4);
	printf("# phase      none ms  elsewhere ms  at the job ms  job/none  job/elsewhere\n");
	for (int p = 0; p < PHASES; p++) {
		double none = median(ms[NOWHERE][p], trials);
		double other = median(ms[ELSEWHERE][p], trials);
		double here = median(ms[HERE][p], trials);

		printf("%-10s %9.1f %13.1f %14.1f %9.2f %14.2f\n", names[p], none, other, here,
		       here / none, here / other);
	}
}

static void prepare(void)
{
	FILE *f;

	if (folder_make(base))
		die("no folder");
	snprintf(secret_path, sizeof(secret_path), "%s/secret", base);
	f = fopen(secret_path, "w");
	for (int i = 0; f && i < 64; i++)
		fputc("0123456789abcdef"[i * 7 % 16], f);
	if (!f || fclose(f) || chmod(secret_path, 0600) || cx_secret_read(&secret, secret_path))
		die("no secret");
	setenv("COLLX_SECRET_FILE", secret_path, 1);
	setenv("COLLX_SIZE", "4", 1);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (shared == MAP_FAILED)
		die("no memory");
}

int main(int argc, char **argv)
{
	int trials = argc > 1 ? atoi(argv[1]) : 9;
	pid_t other;

	if (argc > 2)
		stray_count = (unsigned)atoi(argv[2]);
	if (argc > 3)
		rounds = atoi(argv[3]);
	if (trials < 1 || trials > TRIALS_MAX || rounds < 1)
		die("1 to 200 trials, 1 round at least");
	prepare();
	other = rank_fork();
	if (other == 0)
		sink();
	for (int n = 0; n < trials; n++)
		for (int k = 0; k < PLACES; k++)
			trial(n, (enum where)((n + k) % PLACES));
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
	unlink(secret_path);
	report(trials);
	return folder_gone(base);
}
