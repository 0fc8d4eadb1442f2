/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * many_hosts FILE SECONDS: one rank of a job that perf/many-hosts starts, each on a host of
 * its own. What the control tree costs while nothing happens, how soon all know when a rank
 * dies, and how soon the others go on, beside the first creation. The ranks share FILE;
 * rank 0 prints.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "collx.h"
#include "src/base/base.h"

enum { RANKS_MOST = 1024 };

struct notes {
	double idle_s[RANKS_MOST]; /* CPU time */
	uint64_t begun_ns[RANKS_MOST], made_ns, dies_ns, known_ns[RANKS_MOST], again_ns[RANKS_MOST];
};

static uint64_t now_ns(void)
{
	return cx_sys_real.now_ns();
}

static double cpu_s(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static struct notes *share(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	void *p = MAP_FAILED;

	if (fd >= 0 && !ftruncate(fd, sizeof(struct notes)))
		p = mmap(NULL, sizeof(struct notes), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return p == MAP_FAILED ? NULL : p;
}

static int lose_one(struct notes *n, collx_comm_t *c, int rank, int size)
{
	struct pollfd p = { .fd = collx_comm_event_fd(*c), .events = POLLIN };

	if (rank == size / 2) {
		usleep(200000); /* until the others wait */
		n->dies_ns = now_ns();
		raise(SIGKILL);
	}
	if (poll(&p, 1, 30000) != 1)
		return 1;
	n->known_ns[rank] = now_ns();
	if (collx_comm_repair(c, NULL))
		return 1;
	n->again_ns[rank] = now_ns();
	return collx_barrier(*c, NULL);
}

static void print(const struct notes *n, int size, double seconds)
{
	uint64_t begun = 0, known = 0, again = 0;
	double most = 0;

	for (int r = 0; r < size; r++) {
		begun = n->begun_ns[r] > begun ? n->begun_ns[r] : begun;
		known = n->known_ns[r] > known ? n->known_ns[r] : known;
		again = n->again_ns[r] > again ? n->again_ns[r] : again;
		if (r && n->idle_s[r] > most)
			most = n->idle_s[r];
	}
	printf("%d hosts; made in %.0f ms; idle: rank 0 %.2f %% of a core, the others %.3f %% at "
	       "most; death known to all %.1f ms; all went on %.0f ms later\n", size,
	       (double)(n->made_ns - begun) * 1e-6,
	       100 * n->idle_s[0] / seconds, 100 * most / seconds,
	       (double)(known - n->dies_ns) * 1e-6, (double)(again - known) * 1e-6);
}

int main(int argc, char **argv)
{
	double seconds = argc > 2 ? atof(argv[2]) : 0, before;
	struct notes *n = argc > 1 ? share(argv[1]) : NULL;
	uint64_t begun = now_ns();
	collx_comm_t c = NULL;
	int rank, size;

	if (!n || collx_comm_create_from_env(&c, NULL)) {
		fprintf(stderr, "many_hosts: %s\n", n ? collx_last_error(NULL) : "no file");
		return 1;
	}
	rank = collx_comm_rank(c);
	size = collx_comm_size(c);
	if (size > RANKS_MOST || collx_barrier(c, NULL))
		return 1;
	n->begun_ns[rank] = begun;
	if (rank == 0)
		n->made_ns = now_ns();
	before = cpu_s();
	usleep((useconds_t)(seconds * 1e6));
	n->idle_s[rank] = cpu_s() - before;
	if (collx_barrier(c, NULL) || lose_one(n, &c, rank, size)) {
		fprintf(stderr, "many_hosts: rank %d: %s\n", rank, collx_last_error(c));
		return 1;
	}
	if (rank == 0)
		print(n, size, seconds);
	collx_comm_destroy(c);
	return 0;
}
