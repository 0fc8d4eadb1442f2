/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `guard_time ON.so OFF.so ROUNDS BYTES...`: allreduces of two processes with the one
 * library and with the other. Each round makes a communicator of the one, times all sizes
 * and destroys it, then the same with the other; which is first changes. A time is the best
 * of a few batches of about 20 ms. perf/guard-cost runs it.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "collx.h"

enum { ON, OFF, SIDES, SIZES = 32, ROUNDS = 200, BATCHES = 5 };

struct side {
	__typeof__(collx_get_unique_id) *get_unique_id;
	__typeof__(collx_comm_create) *create;
	__typeof__(collx_comm_destroy) *destroy;
	__typeof__(collx_allreduce) *allreduce;
	__typeof__(collx_last_error) *last_error;
};

static struct shared {
	collx_unique_id id;
	atomic_int published; /* ids so far */
	int batch[SIZES];     /* calls, as found in the first round */
	double us[SIDES][SIZES][ROUNDS];
} *shared;

static struct side sides[SIDES];
static size_t bytes[SIZES];
static int sizes, rounds;

static void need(int ok, const char *what, const char *why)
{
	if (ok)
		return;
	fprintf(stderr, "guard_time: %s: %s\n", what, why);
	exit(1);
}

static void *symbol(void *lib, const char *name)
{
	void *p = dlsym(lib, name);

	need(p != NULL, name, "not there");
	return p;
}

static void load(struct side *s, const char *path)
{
	void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);

	need(lib != NULL, path, lib ? "" : dlerror());
	s->get_unique_id = symbol(lib, "collx_get_unique_id");
	s->create = symbol(lib, "collx_comm_create");
	s->destroy = symbol(lib, "collx_comm_destroy");
	s->allreduce = symbol(lib, "collx_allreduce");
	s->last_error = symbol(lib, "collx_last_error");
}

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static double time_calls(const struct side *s, collx_comm_t c, const float *in, float *out,
			 size_t count, int n)
{
	double start = now_us();

	for (int i = 0; i < n; i++)
		need(!s->allreduce(in, out, count, COLLX_FLOAT32, COLLX_SUM, c, NULL), "allreduce",
		     s->last_error(c));
	return (now_us() - start) / n;
}

static double time_size(const struct side *s, collx_comm_t c, int rank, int size)
{
	size_t count = bytes[size] / sizeof(float);
	float *in = calloc(count, sizeof(*in)), *out = calloc(count, sizeof(*out)), one = 1;
	double best = INFINITY, us;

	need(in && out, "memory", "");
	us = time_calls(s, c, in, out, count, 3);
	if (rank == 0 && !shared->batch[size])
		shared->batch[size] = (int)(20e3 / (us + 0.2)) + 3;
	time_calls(s, c, &one, out, 1, 1); /* the batch is known */
	for (int b = 0; b < BATCHES; b++) {
		us = time_calls(s, c, in, out, count, shared->batch[size]);
		best = us < best ? us : best;
	}
	free(in);
	free(out);
	return best;
}

static int threads(void)
{
	DIR *d = opendir("/proc/self/task");
	int n = -2; /* . and .. */

	need(d != NULL, "/proc", "not there");
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static collx_comm_t meet(const struct side *s, int rank, int number)
{
	collx_comm_t c = NULL;

	if (rank == 0) {
		need(!s->get_unique_id(&shared->id), "id", s->last_error(NULL));
		atomic_store(&shared->published, number);
	}
	while (atomic_load(&shared->published) < number)
		usleep(200);
	need(!s->create(&c, 2, &shared->id, rank, NULL), "creation", s->last_error(NULL));
	return c;
}

static void take_part(int rank)
{
	int number = 0;

	for (int round = 0; round < rounds; round++)
		for (int k = 0; k < SIDES; k++) {
			int which = (round + k) % SIDES;
			const struct side *s = &sides[which];
			collx_comm_t c = meet(s, rank, ++number);

			need(threads() == 1 + (which == ON), "threads", "one too many or few");
			for (int i = 0; i < sizes; i++) {
				double us = time_size(s, c, rank, i);

				if (rank == 0)
					shared->us[which][i][round] = us;
			}
			s->destroy(c);
		}
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

static void report(void)
{
	double sum = 0, worst = 0, ratio[ROUNDS];

	printf("# allreduce, 2 ranks, %d rounds in turn, best of %d batches each; medians\n",
	       rounds, BATCHES);
	printf("# %10s %14s %14s %8s\n", "bytes", "with, us", "without, us", "ratio");
	for (int i = 0; i < sizes; i++) {
		double r, on, off;

		for (int n = 0; n < rounds; n++)
			ratio[n] = shared->us[ON][i][n] / shared->us[OFF][i][n];
		r = median(ratio, rounds);
		on = median(shared->us[ON][i], rounds);
		off = median(shared->us[OFF][i], rounds);
		sum += log(r);
		worst = r > worst ? r : worst;
		printf("%12zu %14.3f %14.3f %8.3f\n", bytes[i], on, off, r);
	}
	printf("geometric mean of the ratios %.3f, the largest %.3f\n", exp(sum / sizes), worst);
}

int main(int argc, char **argv)
{
	int failed = 0, status;
	pid_t pids[2];

	rounds = argc > 4 ? atoi(argv[3]) : 0;
	sizes = argc - 4;
	need(rounds >= 1 && rounds <= ROUNDS && sizes >= 1 && sizes <= SIZES, "usage",
	     "guard_time ON.so OFF.so ROUNDS BYTES...");
	for (int i = 0; i < sizes; i++)
		bytes[i] = strtoull(argv[4 + i], NULL, 10);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	need(shared != MAP_FAILED, "mmap", "no memory");
	for (int rank = 0; rank < 2; rank++) {
		pids[rank] = fork();
		if (pids[rank])
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (int i = 0; i < SIDES; i++)
			load(&sides[i], argv[1 + i]);
		take_part(rank);
		exit(0);
	}
	for (int rank = 0; rank < 2; rank++)
		failed |= waitpid(pids[rank], &status, 0) < 0 || status;
	if (!failed)
		report();
	return failed;
}
