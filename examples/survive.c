/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Training that survives a death: collx-run --keep-going -n 4 ./survive [--continue] [VICTIM]
 *
 * Least squares by gradient descent. Every rank has a part of the rows, and in each
 * step the ranks add up their float32 gradients. At step 100 VICTIM kills itself. The
 * others repair the communicator, share its rows among them and go on; at step 200
 * they admit a new rank, which rank 0 starts. Before that and at the end every rank
 * compares the weights with the closed form.
 *
 *   step 0       100                    200                      400
 *   rank 0 -------+- 0 ------------------+- 0 --------------------- 0
 *   rank 1 -------+- 1 ------------------+- 1 --------------------- 1
 *   rank 2 ---- dies    collx_comm_      |  collx_comm_
 *   rank 3 -------+- 2    repair --------+- 2  grow --------------- 2
 *                             new rank --+- 3 --------------------- 3
 *
 * With --continue nobody repairs: the call that the death hits goes on by itself, over
 * those who are left. In that one step the gradient lacks the victim's rows.
 */
#include <collx.h>
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROWS = 4096, DIM = 8, STEPS = 400, DEATH = 100, GROWTH = 200 };

extern char **environ;

struct run {
	collx_comm_t comm;
	int64_t step;     /* steps done; -1: nothing is known yet */
	float w[DIM];
	int wanted, size; /* ranks that there should be, and that there were */
	uint32_t flags;   /* of the configuration */
	int wrong;        /* some rank's weights were */
	int victim;       /* -1: nobody */
	pid_t started;    /* a new rank that this one started; 0: none */
};

static int die(const char *what)
{
	fprintf(stderr, "survive: %s: %s\n", what, collx_last_error(NULL));
	return 1;
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* ---- the problem ---- */

/* -1 to 1; always the same for the same number. */
static double noise(uint64_t n)
{
	n = (n + 1) * 0x9e3779b97f4a7c15;
	n = (n ^ n >> 31) * 0xbf58476d1ce4e5b9;
	n = (n ^ n >> 29) * 0x94d049bb133111eb;
	return (double)(n >> 11) / (double)(1ull << 52) - 1;
}

static double row(int r, double x[DIM])
{
	double y = noise((uint64_t)r * (DIM + 1) + DIM);

	for (int i = 0; i < DIM; i++) {
		x[i] = noise((uint64_t)r * (DIM + 1) + (uint64_t)i);
		y += x[i] * (i + 1);
	}
	return y;
}

/* The rows are shared out among the ranks that there are. */
static void gradient(const struct run *r, float g[DIM])
{
	int rank = collx_comm_rank(r->comm), size = collx_comm_size(r->comm);
	double x[DIM], y, sum[DIM] = { 0 };

	for (int k = rank; k < ROWS; k += size) {
		y = row(k, x);
		for (int i = 0; i < DIM; i++)
			y -= x[i] * (double)r->w[i];
		for (int i = 0; i < DIM; i++)
			sum[i] -= x[i] * y / ROWS;
	}
	for (int i = 0; i < DIM; i++)
		g[i] = (float)sum[i];
}

static void eliminate(double a[DIM][DIM + 1])
{
	for (int k = 0; k < DIM; k++)
		for (int i = 0; i < DIM; i++) {
			double f = a[i][k] / a[k][k];

			for (int j = k; i != k && j <= DIM; j++)
				a[i][j] -= f * a[k][j];
		}
}

/* The largest difference of a weight from the solution of the normal equations. */
static double error_of(const float w[DIM])
{
	double a[DIM][DIM + 1] = { { 0 } }, x[DIM + 1], most = 0;

	for (int r = 0; r < ROWS; r++) {
		x[DIM] = row(r, x);
		for (int i = 0; i < DIM; i++)
			for (int j = 0; j <= DIM; j++)
				a[i][j] += x[i] * x[j];
	}
	eliminate(a);
	for (int i = 0; i < DIM; i++)
		most = fmax(most, fabs(a[i][DIM] / a[i][i] - (double)w[i]));
	return most;
}

/* ---- steps ---- */

static int take_step(struct run *r)
{
	double start = now_ms();
	float g[DIM], sum[DIM];
	int rc;

	gradient(r, g);
	rc = collx_allreduce(g, sum, DIM, COLLX_FLOAT32, COLLX_SUM, r->comm, NULL);
	if (rc)
		return rc;
	for (int i = 0; i < DIM; i++)
		r->w[i] -= 0.3f * sum[i];
	if (collx_comm_size(r->comm) != r->size && collx_comm_rank(r->comm) == 0)
		printf("step %d: the call went on as %d ranks, and took %.0f ms\n", (int)r->step,
		       collx_comm_size(r->comm), now_ms() - start);
	r->size = collx_comm_size(r->comm);
	r->step++;
	return 0;
}

/*
 * When a rank dies, one may have finished the step that another one has not, and who is
 * new knows nothing: all take the weights of one that is furthest.
 */
static int catch_up(struct run *r)
{
	int64_t mine[2] = { r->step, -collx_comm_rank(r->comm) }, most[2];
	int rc = collx_allreduce(&mine[0], &most[0], 1, COLLX_INT64, COLLX_MAX, r->comm, NULL);

	if (mine[0] != most[0])
		mine[1] = -collx_comm_size(r->comm);
	if (!rc)
		rc = collx_allreduce(&mine[1], &most[1], 1, COLLX_INT64, COLLX_MAX, r->comm, NULL);
	if (!rc)
		rc = collx_broadcast(r->w, r->w, DIM, COLLX_FLOAT32, (int)-most[1], r->comm, NULL);
	if (!rc)
		r->step = most[0];
	return rc;
}

/* The same bits everywhere, and the right ones. */
static int check(struct run *r)
{
	float first[DIM];
	double error = error_of(r->w);
	int32_t bad, any;
	int rc;

	rc = collx_broadcast(r->w, first, DIM, COLLX_FLOAT32, 0, r->comm, NULL);
	bad = rc || memcmp(first, r->w, sizeof(first)) || !(error < 1e-4);
	if (!rc)
		rc = collx_allreduce(&bad, &any, 1, COLLX_INT32, COLLX_SUM, r->comm, NULL);
	if (rc)
		return rc;
	r->wrong |= any;
	if (collx_comm_rank(r->comm) == 0)
		printf("step %d: %d ranks, largest error of a weight %.0e: %s\n", (int)r->step,
		       collx_comm_size(r->comm), error, any ? "wrong" : "right");
	return 0;
}

/* ---- a death ---- */

static int repair(struct run *r)
{
	collx_error e = COLLX_ERROR_INIT;
	double start = now_ms();
	int rc;

	collx_comm_error(r->comm, &e);
	rc = collx_comm_repair(&r->comm, NULL);
	r->victim = -1; /* ranks have new numbers */
	if (!rc && collx_comm_rank(r->comm) == 0)
		printf("step %d: %s: %s\n"
		       "step %d: going on as %d ranks, %.0f ms after the error was known\n",
		       (int)r->step, collx_strerror(e.code), e.text, (int)r->step,
		       collx_comm_size(r->comm), now_ms() - start + (double)e.known_us / 1e3);
	return rc;
}

/* ---- a birth ---- */

/* The new rank gets the id, which is secret, over a pipe as its input. */
static int start_joiner(struct run *r, const collx_unique_id *id)
{
	char rank[16], *more = r->flags ? "--continue" : NULL;
	char *argv[] = { "survive", "--join", rank, more, NULL };
	posix_spawn_file_actions_t actions;
	int ends[2], rc;

	if (pipe(ends))
		return -1;
	snprintf(rank, sizeof(rank), "%d", collx_comm_size(r->comm));
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, ends[0], STDIN_FILENO);
	posix_spawn_file_actions_addclose(&actions, ends[0]);
	posix_spawn_file_actions_addclose(&actions, ends[1]);
	rc = posix_spawn(&r->started, "/proc/self/exe", &actions, NULL, argv, environ);
	if (!rc && write(ends[1], id, sizeof(*id)) != (ssize_t)sizeof(*id))
		rc = -1; /* nobody comes: all ranks are told so at the deadline */
	posix_spawn_file_actions_destroy(&actions);
	close(ends[0]);
	close(ends[1]);
	return rc;
}

static int admit(struct run *r)
{
	collx_opts opts = COLLX_OPTS_INIT;
	double start = now_ms();
	collx_unique_id id = { { 0 } };
	collx_comm_t grown;
	int rc;

	opts.timeout_ms = 20000;
	if (collx_comm_rank(r->comm) == 0 && (collx_get_unique_id(&id) || start_joiner(r, &id)))
		die("starting a new rank");
	rc = collx_comm_grow(r->comm, 1, &id, &grown, &opts);
	explicit_bzero(&id, sizeof(id));
	if (rc) { /* for all; this communicator goes on */
		r->wanted = collx_comm_size(r->comm);
		die("growing");
		return 0;
	}
	collx_comm_destroy(r->comm);
	r->comm = grown;
	if (collx_comm_rank(r->comm) == 0)
		printf("step %d: a new rank is admitted, going on as %d after %.0f ms\n",
		       (int)r->step, collx_comm_size(r->comm), now_ms() - start);
	r->size = collx_comm_size(r->comm);
	return catch_up(r);
}

/* ---- all of it ---- */

static int grow(struct run *r)
{
	int rc = check(r);

	return rc ? rc : admit(r);
}

static int train(struct run *r)
{
	int rc = catch_up(r);

	r->size = collx_comm_size(r->comm);
	while (!rc && r->step < STEPS) {
		if (r->step == DEATH && collx_comm_rank(r->comm) == r->victim)
			raise(SIGKILL);
		if (r->step == GROWTH && collx_comm_size(r->comm) < r->wanted)
			rc = grow(r);
		if (!rc)
			rc = take_step(r);
	}
	return rc ? rc : check(r);
}

static int finish(struct run *r)
{
	int status = 0;

	collx_comm_destroy(r->comm);
	if (r->started && (waitpid(r->started, &status, 0) < 0 || status))
		return 1;
	return r->wrong != 0;
}

static int join(struct run *r, int rank, const collx_config *config)
{
	collx_unique_id id;
	int rc;

	if (read(STDIN_FILENO, &id, sizeof(id)) != (ssize_t)sizeof(id))
		return COLLX_ERR_SYSTEM;
	rc = collx_comm_create(&r->comm, rank + 1, &id, rank, config);
	explicit_bzero(&id, sizeof(id));
	return rc;
}

static int begin(struct run *r, int joins, int victim)
{
	collx_config config = COLLX_CONFIG_INIT;
	int rc;

	config.flags = r->flags;
	r->step = joins >= 0 ? -1 : 0;
	rc = joins >= 0 ? join(r, joins, &config) : collx_comm_create_from_env(&r->comm, &config);
	if (rc)
		return rc;
	r->wanted = collx_comm_size(r->comm);
	r->victim = joins >= 0 ? -1 : victim >= 0 ? victim : r->wanted / 2;
	return 0;
}

int main(int argc, char **argv)
{
	struct run r = { .flags = 0 };
	int joins = -1, victim = -1;

	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--continue"))
			r.flags = COLLX_CONTINUE;
		else if (!strcmp(argv[i], "--join") && argv[i + 1])
			joins = atoi(argv[++i]);
		else
			victim = atoi(argv[i]);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (begin(&r, joins, victim))
		return die("beginning");
	while (train(&r))
		if (repair(&r))
			return die("repair");
	return finish(&r);
}
