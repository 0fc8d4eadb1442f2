/* SPDX-License-Identifier: BSD-3-Clause */
/* What ranks do after a fault: decisions, promises of calls, those who join. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/comm.h"
#include "src/ward.h"
#include "tests/trial.h"
#include "tests/world.h"

/* ---- I: membership ---- */

/* Rank 0 shrinks though everybody lives and calls: the others are told, and come. */
static void shrink_alone(struct trial *t, int rank)
{
	struct worker w;
	collx_comm_t next = NULL;
	int out = t->actor, rc;

	if (worker_open(&w, t, rank))
		return;
	if (rank == 0) {
		nap_ms(30);
		t->hit_ns = trial_now_ns();
		rc = collx_comm_revoke(w.c);
		EXPECT(rc == 0, "revoke: %s", collx_last_error(w.c));
		rc = COLLX_ERR_REVOKED;
	} else {
		rc = worker_until_error(&w);
	}
	EXPECT(rc == COLLX_ERR_REVOKED, "rank %d: %s", rank, collx_last_error(w.c));
	t->note[rank].known_ns = trial_now_ns();
	rc = collx_comm_shrink(w.c, &out, t->seed % 2, &next, NULL);
	t->note[rank].again_ns = trial_now_ns();
	worker_lock(&w);
	EXPECT(worker_call(&w) == COLLX_ERR_REVOKED, "rank %d: the old one works?", rank);
	worker_close(&w);
	if (t->seed % 2 && rank == out) {
		EXPECT(rc == COLLX_ERR_EXCLUDED && !next, "rank %d, out: %s", rank,
		       collx_strerror(rc));
		worker_step(&w, 9);
		return;
	}
	EXPECT(rc == 0, "rank %d: shrink: %s: %s", rank, collx_strerror(rc),
	       collx_last_error(NULL));
	w.c = next;
	w.epoch++;
	w.op = 0;
	if (rc)
		return;
	EXPECT(collx_comm_size(next) == t->ranks - (int)(t->seed % 2), "%d ranks",
	       collx_comm_size(next));
	for (int i = 0; i < 4; i++)
		EXPECT(!worker_call(&w), "rank %d: %s", rank, collx_last_error(w.c));
	worker_compare(&w);
	worker_close(&w);
	worker_step(&w, 9);
}

void trial_i2(struct trial *t, int i)
{
	trial_vary(t, FAULT_NONE, COLLX_ERR_REVOKED, i);
	t->how = HOW_CALL;
	t->live = shrink_alone;
	t->drive = trial_wait;
}

static int kill_down_to_one(struct trial *t)
{
	unsigned left = trial_all(t);

	if (trial_await(t, left, 1))
		return 1;
	for (int size = t->ranks; size > 1; size--) {
		int victim = (int)trial_draw(t, (unsigned)size, (unsigned)t->ranks);
		uint64_t end = now_ms() + 60000;

		while (!(left >> victim & 1) || !(t->victims >> victim & 1))
			victim = (victim + 1) % t->ranks;
		for (int r = 0; r < t->ranks; r++)
			while (left >> r & 1 && trial_load(&t->note[r].size) > size)
				if (trial_check(t, r, end))
					return 1;
		usleep(trial_draw(t, 20 + (unsigned)size, 50000));
		trial_signal(t, 1u << victim, SIGKILL);
		left &= ~(1u << victim);
	}
	if (trial_await(t, left, 8))
		return 1;
	__atomic_store_n(&t->stop, 1, __ATOMIC_RELEASE);
	return 0;
}

void trial_i3(struct trial *t, int i)
{
	trial_lose(t, FAULT_KILL, COLLX_ERR_PEER_DEAD, i);
	t->victims ^= trial_all(t);
	t->actor = -1;
	t->how = HOW_CALL;
	t->count = MIDDLE;
	t->drive = kill_down_to_one;
}

/* I8: decisions in the midst of which somebody dies. */
static void agree_often(struct trial *t, int rank)
{
	struct trial_note *n = &t->note[rank];
	unsigned char alive[TRIAL_RANKS];
	struct worker w;
	uint64_t flags;
	int rc, size = t->ranks - __builtin_popcount(t->victims);

	if (worker_open(&w, t, rank))
		return;
	for (int i = 0; i < 32; i++) {
		flags = mix64(t->seed * 99 + (unsigned)i) | 1u << rank;
		rc = collx_comm_agree(w.c, &flags, alive, NULL);
		if (!EXPECT(rc == 0, "rank %d: agree: %s: %s", rank, collx_strerror(rc),
			    collx_last_error(NULL)))
			return;
		n->flags[i] = flags << 8;
		for (int r = 0; r < t->ranks; r++)
			n->flags[i] |= (uint64_t)alive[r] << r;
		worker_step(&w, 10 + i);
		if (i > 20)
			nap_ms(2);
	}
	t->note[rank].known_ns = trial_now_ns();
	if (!worker_settle(&w, size))
		worker_close(&w);
	worker_step(&w, 99);
}

static int kill_while_they_agree(struct trial *t)
{
	unsigned others = trial_all(t) & ~t->victims;
	int first = __builtin_ctz(others);

	if (trial_await(t, trial_all(t), 10 + (int)trial_draw(t, 6, 12)))
		return 1;
	usleep(trial_draw(t, 7, 4000));
	t->hit_ns = trial_now_ns();
	trial_signal(t, t->victims, SIGKILL);
	if (trial_await(t, others, 99))
		return 1;
	for (int r = first; r < t->ranks; r++)
		for (int i = 0; others >> r & 1 && i < 32; i++)
			if (t->note[r].flags[i] != t->note[first].flags[i]) {
				fprintf(stderr, "decision %d: rank %d has %llx, rank %d %llx\n", i,
					first, (unsigned long long)t->note[first].flags[i], r,
					(unsigned long long)t->note[r].flags[i]);
				return 1;
			}
	return 0;
}

void trial_i8(struct trial *t, int i)
{
	trial_lose(t, FAULT_KILL, COLLX_ERR_PEER_DEAD, i);
	if (i % 2)
		t->victims |= 1u << (t->actor + 1) % t->ranks;
	t->live = agree_often;
	t->drive = kill_while_they_agree;
}

static void dawdle(int sig)
{
	(void)sig;
	usleep(6000);
}

/* One is so impatient with the next decision that it is over before the others have looked
 * at this one, whose threads are held up by signals: they have theirs all the same. */
static void agree_in_haste(struct trial *t, int rank)
{
	const struct itimerval often = { { 0, 10000 }, { 0, 10000 } }, never = { { 0 }, { 0 } };
	collx_opts hasty = COLLX_OPTS_INIT;
	struct worker w;
	uint64_t flags, more = 1;
	int rc;

	hasty.timeout_ms = 1;
	if (worker_open(&w, t, rank))
		return;
	signal(SIGALRM, dawdle);
	setitimer(ITIMER_REAL, &often, NULL);
	for (int i = 0; i < 100; i++) {
		flags = mix64(t->seed * 99 + (unsigned)i);
		rc = collx_comm_agree(w.c, &flags, NULL, NULL);
		EXPECT(rc == 0 && flags == mix64(t->seed * 99 + (unsigned)i),
		       "rank %d: decision %d: %s: %s", rank, i, collx_strerror(rc),
		       collx_last_error(NULL));
		if (rank == i % t->ranks)
			EXPECT(collx_comm_agree(w.c, &more, NULL, &hasty) == COLLX_ERR_TIMEOUT,
			       "rank %d: decision %d alone", rank, i);
		/* Else the next call is a vote for the hasty one's. */
		while (w.c->guard->decisions < 2 * (uint64_t)i + 2 && !expect_failures())
			usleep(200);
	}
	setitimer(ITIMER_REAL, &never, NULL);
	worker_close(&w);
	worker_step(&w, 9);
}

void trial_i8_haste(struct trial *t, int i)
{
	trial_vary(t, FAULT_NONE, COLLX_OK, i);
	t->live = agree_in_haste;
	t->drive = trial_wait;
}

/* ---- I6, I7, continue: what a call promises besides ---- */

/* In place and large: a failure leaves the input. */
static void preserve(struct trial *t, int rank)
{
	collx_opts o = COLLX_OPTS_INIT;
	struct worker w;
	size_t n = t->count;
	int rc = 0;

	o.flags = COLLX_PRESERVE;
	if (worker_open(&w, t, rank))
		return;
	while (!rc) {
		for (size_t i = 0; i < n; i++)
			w.out[i] = w.in[i] = (float)(i % 1000 + (size_t)rank);
		rc = collx_allreduce(w.out, w.out, n, COLLX_FLOAT32, COLLX_SUM, w.c, &o);
	}
	t->note[rank].known_ns = trial_now_ns();
	EXPECT(!memcmp(w.in, w.out, n * sizeof(float)), "rank %d: the input is not what it was",
	       rank);
	worker_expect_error(&w, rc);
	if (!worker_settle(&w, t->ranks - 1))
		worker_close(&w);
	worker_step(&w, 9);
}

void trial_i6(struct trial *t, int i)
{
	trial_lose(t, FAULT_KILL, COLLX_ERR_PEER_DEAD, i);
	t->op = OP_ALLREDUCE;
	t->count = i % 2 ? LARGE : BIG;
	t->live = preserve;
}

/* All who live have the same number of successes. */
static void uniform(struct trial *t, int rank)
{
	static collx_opts o = COLLX_OPTS_INIT;
	struct worker w;
	int rc = 0;

	if (worker_open(&w, t, rank))
		return;
	o.flags = COLLX_UNIFORM;
	w.opts = &o;
	while (!(rc = worker_call(&w)))
		t->note[rank].ops++;
	t->note[rank].known_ns = trial_now_ns();
	w.opts = NULL;
	worker_expect_error(&w, rc);
	if (!worker_settle(&w, t->ranks - 1))
		worker_close(&w);
	worker_step(&w, 9);
}

static int kill_uniformly(struct trial *t)
{
	unsigned others = trial_all(t) & ~t->victims;
	int first = __builtin_ctz(others);

	if (trial_await(t, trial_all(t), 1))
		return 1;
	usleep(20000 + trial_draw(t, 7, 20000));
	t->hit_ns = trial_now_ns();
	trial_signal(t, t->victims, SIGKILL);
	if (trial_await(t, others, 9))
		return 1;
	for (int r = first; r < t->ranks; r++)
		if (others >> r & 1 && t->note[r].ops != t->note[first].ops) {
			fprintf(stderr, "rank %d: %d successes, rank %d: %d\n", first,
				(int)t->note[first].ops, r, (int)t->note[r].ops);
			return 1;
		}
	return 0;
}

void trial_i7(struct trial *t, int i)
{
	trial_lose(t, FAULT_KILL, COLLX_ERR_PEER_DEAD, i);
	/* Where some have their part before the others' is missed. */
	t->op = i % 2 ? OP_REDUCE : OP_BROADCAST;
	t->live = uniform;
	t->drive = kill_uniformly;
}

/* Nobody has an error; who is left has the sum of those who are. */
static void go_on(struct trial *t, int rank)
{
	struct worker w;
	int rc = 0, all = t->ranks, after = 0;
	float x, y;

	if (worker_open(&w, t, rank))
		return;
	while (!rc && after < 5) {
		float want = 0;

		x = (float)(1 << rank);
		rc = collx_allreduce(&x, &y, 1, COLLX_FLOAT32, COLLX_SUM, w.c, NULL);
		for (int r = 0; r < collx_comm_size(w.c); r++)
			want += (float)(1 << collx_comm_origin(w.c, r));
		EXPECT(rc || y == want, "rank %d: %g, not %g", rank, (double)y, (double)want);
		after += collx_comm_size(w.c) == all - 1;
		if (after == 1 && !t->note[rank].known_ns)
			t->note[rank].known_ns = trial_now_ns();
	}
	EXPECT(rc == 0, "rank %d: %s: %s", rank, collx_strerror(rc), collx_last_error(w.c));
	worker_close(&w);
	worker_step(&w, 9);
}

void trial_continue(struct trial *t, int i)
{
	trial_lose(t, FAULT_KILL, COLLX_OK, i);
	t->op = OP_ALLREDUCE;
	t->config.flags = COLLX_CONTINUE;
	t->live = go_on;
}

/* ---- I5: a new rank in the place of a lost one ---- */

/* The new one, behind those who were left. */
static void join(struct trial *t, int number)
{
	struct worker w = { .t = t, .me = number, .epoch = 100, .room = t->count };
	int size = t->ranks + (t->fault == FAULT_NONE), rc; /* in the place of a lost one */

	w.in = calloc(t->count * TRIAL_PEOPLE, sizeof(float));
	w.out = calloc(t->count * TRIAL_PEOPLE, sizeof(float));
	w.room *= TRIAL_PEOPLE;
	rc = collx_comm_create(&w.c, size, &t->second, size - 1, &t->config);
	if (!EXPECT(rc == 0, "the joiner: %s", collx_last_error(NULL)))
		return;
	worker_step(&w, 8);
	worker_until_stop(&w);
	worker_close(&w);
	free(w.in);
	free(w.out);
}

/* Makes the id known where this is rank 0, and grows. */
static int grow(struct worker *w, collx_comm_t *next, const collx_opts *opts)
{
	struct trial *t = w->t;

	if (collx_comm_rank(w->c) == 0) {
		EXPECT(!collx_get_unique_id(&t->second), "%s", collx_last_error(NULL));
		__atomic_store_n(&t->token, 1, __ATOMIC_RELEASE);
	}
	return collx_comm_grow(w->c, 1, &t->second, next, opts);
}

static void live_and_grow(struct trial *t, int rank)
{
	struct worker w;
	collx_comm_t next = NULL;
	int rc;

	if (worker_open(&w, t, rank))
		return;
	rc = worker_until_error(&w);
	if (t->victims >> rank & 1) {
		EXPECT(rc == COLLX_ERR_EXCLUDED, "back: %s", collx_last_error(w.c));
		EXPECT(grow(&w, &next, NULL) == COLLX_ERR_EXCLUDED, "back: grow: %s",
		       collx_last_error(NULL));
		worker_close(&w);
		worker_step(&w, 9);
		return;
	}
	worker_expect_error(&w, rc);
	if (worker_settle(&w, t->ranks - 1))
		return;
	rc = grow(&w, &next, NULL);
	if (!EXPECT(rc == 0, "rank %d: grow: %s: %s", rank, collx_strerror(rc),
		    collx_last_error(NULL)))
		return;
	worker_close(&w);
	w.c = next;
	w.epoch = 100;
	w.op = 0;
	worker_step(&w, 8);
	worker_until_stop(&w);
	worker_close(&w);
	worker_step(&w, 9);
}

static int replace(struct trial *t)
{
	unsigned others = trial_all(t) & ~t->victims;

	if (trial_await(t, trial_all(t), 1))
		return 1;
	t->hit_ns = trial_now_ns();
	trial_signal(t, t->victims, t->fault == FAULT_STOP ? SIGSTOP : SIGKILL);
	for (int i = 0; !trial_load(&t->token) && i < 30000; i++)
		nap_ms(1);
	trial_join(t, join, t->ranks);
	if (trial_await(t, others | 1u << t->ranks, 8))
		return 1;
	return t->fault == FAULT_STOP ? trial_wake(t) : 0;
}

void trial_i5(struct trial *t, int i)
{
	bool stopped = i % 2;

	trial_lose(t, stopped ? FAULT_STOP : FAULT_KILL,
	     stopped ? COLLX_ERR_PEER_SILENT : COLLX_ERR_PEER_DEAD, i);
	t->how = HOW_CALL;
	t->live = live_and_grow;
	t->drive = replace;
}

/* ---- G9: whoever was to join does not ---- */

static void join_and_die(struct trial *t, int number)
{
	(void)number;
	/* Somewhere on its way. */
	if (fork() == 0) {
		usleep(trial_draw(t, 8, 20000));
		kill(getppid(), SIGKILL);
		_exit(0);
	}
	join(t, t->ranks);
	pause();
}

static void join_wrongly(struct trial *t, int number)
{
	collx_config config = t->config;
	collx_comm_t c = NULL;

	(void)number;
	config.create_timeout_ms = 1000;
	t->second.bytes[40] ^= 1; /* of the secret */
	EXPECT(collx_comm_create(&c, t->ranks + 1, &t->second, t->ranks, &config) < 0,
	       "a wrong id lets in");
	collx_comm_destroy(c);
}

static void grow_in_vain(struct trial *t, int rank)
{
	collx_opts o = COLLX_OPTS_INIT;
	struct worker w;
	collx_comm_t next = NULL;
	int rc;

	o.timeout_ms = 1500;
	if (worker_open(&w, t, rank))
		return;
	rc = grow(&w, &next, &o);
	/* Who dies may have joined before. */
	EXPECT(rc < 0 ? !next : t->root == 0, "rank %d: grown: %s", rank, collx_strerror(rc));
	collx_comm_destroy(next);
	t->note[rank].code = rc;
	for (int i = 0; i < 5; i++)
		EXPECT(!worker_call(&w), "rank %d: the old one: %s", rank, collx_last_error(w.c));
	worker_close(&w);
	worker_step(&w, 9);
}

static int send_a_bad_joiner(struct trial *t)
{
	void (*const lives[])(struct trial *, int) = { join_and_die, join_wrongly };
	int status;

	for (int i = 0; !trial_load(&t->token) && i < 30000; i++)
		nap_ms(1);
	if (t->root < 2) {
		trial_join(t, lives[t->root], t->ranks);
		waitpid(t->pids[t->ranks], &status, 0);
		t->pids[t->ranks] = 0;
		if (t->root == 1 && status) {
			fprintf(stderr, "the joiner: %#x\n", (unsigned)status);
			return 1;
		}
	}
	if (trial_await(t, trial_all(t), 9))
		return 1;
	for (int r = 1; r < t->ranks; r++)
		if (!t->note[r].code != !t->note[0].code) {
			fprintf(stderr, "rank 0 has %d, rank %d %d\n", t->note[0].code, r,
				t->note[r].code);
			return 1;
		}
	return 0;
}

void trial_g9(struct trial *t, int i)
{
	trial_vary(t, FAULT_NONE, COLLX_OK, i);
	t->root = i % 3; /* the last one never comes */
	t->op = OP_ALLREDUCE;
	t->live = grow_in_vain;
	t->drive = send_a_bad_joiner;
}

/* ---- wrong use ---- */

static void *repair_with_everybody(void *arg)
{
	struct worker *w = arg;

	nap_ms(trial_draw(w->t, 9, 20));
	EXPECT(!collx_comm_abort(w->c), "abort");
	return NULL;
}

/* The next one works, or an abort that came as it was decided on has ended it. */
static int use_next(struct worker *w, collx_comm_t next)
{
	int rc = 0;

	worker_until_error(w);
	EXPECT(collx_barrier(w->c, NULL) == COLLX_ERR_ABORTED, "rank %d: %s", w->me,
	       collx_last_error(w->c));
	collx_comm_destroy(w->c);
	w->c = next;
	w->epoch++;
	w->op = 0;
	for (int i = 0; !rc && i < 4; i++)
		rc = worker_call(w);
	return rc;
}

/* Everybody is alive; somebody aborts what is just being shrunk. */
static void shrink_in_health(struct trial *t, int rank)
{
	collx_comm_t next = NULL;
	struct worker w;
	pthread_t thread;
	int rc;

	if (worker_open_with_all(&w, t, rank))
		return;
	if (rank == t->actor)
		pthread_create(&thread, NULL, repair_with_everybody, &w);
	rc = collx_comm_shrink(w.c, NULL, 0, &next, NULL);
	if (rank == t->actor)
		pthread_join(thread, NULL);
	EXPECT(rc == COLLX_ERR_ABORTED || (rc == 0 && next && collx_comm_size(next) == t->ranks),
	       "rank %d: %s: %s", rank, collx_strerror(rc), collx_last_error(NULL));
	t->note[rank].code = next ? use_next(&w, next) : rc;
	worker_close(&w);
	worker_step(&w, 9);
}

/* All go on, or nobody does. */
static int all_shrank_or_none(struct trial *t)
{
	if (trial_await(t, trial_all(t), 9))
		return 1;
	for (int r = 0; r < t->ranks; r++)
		if (t->note[r].code != t->note[0].code ||
		    (t->note[r].code && t->note[r].code != COLLX_ERR_ABORTED)) {
			fprintf(stderr, "rank %d: %d, rank 0: %d\n", r, t->note[r].code,
				t->note[0].code);
			return 1;
		}
	return 0;
}

void trial_healthy(struct trial *t, int i)
{
	trial_vary(t, FAULT_NONE, COLLX_OK, i);
	t->how = HOW_CALL;
	t->live = shrink_in_health;
	t->drive = all_shrank_or_none;
}

/* ---- an abort beside a death, or a repair ---- */

static void *abort_soon(void *arg)
{
	struct worker *w = arg;

	while (!trial_load(&w->t->go))
		nap_ms(1);
	nap_ms(trial_draw(w->t, 9, 51));
	EXPECT(!collx_comm_abort(w->c), "rank %d: abort: %s", w->me, collx_last_error(NULL));
	return NULL;
}

/* Whatever the calls made of it: nobody goes on, and nobody is left behind. */
static void abort_beside(struct trial *t, int rank)
{
	pthread_t thread;
	struct worker w;
	int rc;

	if (worker_open_with_all(&w, t, rank))
		return;
	if (rank == t->actor)
		pthread_create(&thread, NULL, abort_soon, &w);
	if (t->victims) {
		rc = worker_until_error(&w);
		EXPECT(rc == COLLX_ERR_ABORTED || rc == COLLX_ERR_PEER_DEAD, "rank %d: %s: %s",
		       rank, collx_strerror(rc), collx_last_error(w.c));
	}
	if (rank == t->actor) /* else its repair may be through before */
		pthread_join(thread, NULL);
	rc = collx_comm_repair(&w.c, NULL);
	EXPECT(rc == COLLX_ERR_ABORTED, "rank %d: repair: %s: %s", rank, collx_strerror(rc),
	       collx_last_error(NULL));
	worker_close(&w);
	worker_step(&w, 9);
}

static int kill_beside_abort(struct trial *t)
{
	if (trial_await(t, trial_all(t), 1))
		return 1;
	__atomic_store_n(&t->go, 1, __ATOMIC_RELEASE);
	trial_signal(t, t->victims, SIGKILL);
	return trial_await(t, trial_all(t) & ~t->victims, 9);
}

void trial_abort_beside(struct trial *t, int i)
{
	int dead;

	trial_vary(t, FAULT_NONE, COLLX_ERR_ABORTED, i);
	dead = (t->actor + 1 + (int)trial_draw(t, 10, (unsigned)t->ranks - 1)) % t->ranks;
	t->how = HOW_CALL;
	t->victims = i % 4 == 3 ? 0 : 1u << dead; /* or nobody, and the others repair */
	t->live = abort_beside;
	t->drive = kill_beside_abort;
}

static void in_callback(collx_comm_t c, collx_event event, void *arg)
{
	struct worker *w = arg;
	collx_comm_t copy = c;
	collx_error e = COLLX_ERROR_INIT;

	if (event == COLLX_EVENT_STRAGGLER) /* of a busy machine */
		return;
	w->t->note[w->me].known_ns = trial_now_ns();
	EXPECT(collx_comm_destroy(c) == COLLX_ERR_INVALID, "destroyed in its own callback");
	EXPECT(collx_comm_repair(&copy, NULL) == COLLX_ERR_INVALID && copy == c, "repaired there");
	EXPECT(!collx_comm_error(c, &e) && e.code == w->t->want, "%s", e.text);
	w->t->note[w->me].flags[0]++;
}

static void live_with_callback(struct trial *t, int rank)
{
	struct worker w;
	int rc;

	if (worker_open(&w, t, rank))
		return;
	rc = collx_comm_set_callback(w.c, in_callback, &w);
	EXPECT(rc == 0, "%s", collx_last_error(NULL));
	EXPECT(collx_comm_set_callback(w.c, in_callback, &w) == COLLX_ERR_INVALID, "two of them");
	rc = worker_until_error(&w);
	worker_expect_error(&w, rc);
	for (int i = 0; !t->note[rank].flags[0] && i < 10000; i++)
		nap_ms(1);
	if (!worker_settle(&w, t->ranks - 1))
		worker_close(&w);
	EXPECT(t->note[rank].flags[0] == 1, "rank %d: called back %d times", rank,
	       (int)t->note[rank].flags[0]);
	worker_step(&w, 9);
}

void trial_callback(struct trial *t, int i)
{
	trial_lose(t, FAULT_KILL, COLLX_ERR_PEER_DEAD, i);
	t->live = live_with_callback;
}

/* ---- H7: destroyed while another thread is in a call ---- */

enum beside { BESIDE_CALL, BESIDE_RECV, BESIDE_AGREE, BESIDE_UNIFORM, BESIDE_SHRINK, BESIDES };

struct waiter {
	struct worker *w;
	enum beside what;
	int rc, failures;
	uint64_t back_ns;
};

static int call_what(struct worker *w, enum beside what)
{
	collx_opts uniform = COLLX_OPTS_INIT;
	collx_comm_t out = NULL;
	uint64_t flags = 1;
	int peer = (w->me + 1) % w->t->ranks, rc;

	uniform.flags = COLLX_UNIFORM;
	switch (what) {
	case BESIDE_RECV: return collx_recv(w->out, 1, COLLX_FLOAT32, peer, w->c, NULL);
	case BESIDE_AGREE: return collx_comm_agree(w->c, &flags, NULL, NULL);
	case BESIDE_SHRINK:
		rc = collx_comm_shrink(w->c, NULL, 0, &out, NULL);
		collx_comm_destroy(out);
		return rc;
	case BESIDE_UNIFORM:
		w->opts = &uniform;
		rc = worker_call(w);
		w->opts = NULL;
		return rc;
	default: return worker_call(w);
	}
}

/* What nobody else comes to. Afterwards the communicator is not there any more. */
static void *wait_beside(void *arg)
{
	struct waiter *k = arg;
	struct worker *w = k->w;

	k->rc = call_what(w, k->what);
	k->back_ns = trial_now_ns();
	EXPECT(k->rc == COLLX_ERR_ABORTED, "rank %d, destroyed beside %d: %s: %s", w->me, k->what,
	       collx_strerror(k->rc), collx_last_error(NULL));
	return (void *)(intptr_t)expect_failures();
}

static void destroy_beside(struct worker *w)
{
	struct waiter k = { .w = w, .what = (enum beside)(w->t->seed % BESIDES) };
	collx_comm_t c = w->c;
	pthread_t thread;
	uint64_t done;
	void *failed;
	int rc;

	EXPECT(!pthread_create(&thread, NULL, wait_beside, &k), "no thread");
	call_begins(c);
	nap_ms(60 + trial_draw(w->t, 6, 100));
	if (w->t->seed / BESIDES % 2) /* which does not end it in the call */
		EXPECT(!pthread_cancel(thread), "cancel");
	w->t->hit_ns = trial_now_ns();
	rc = collx_comm_destroy(c);
	done = trial_now_ns();
	pthread_join(thread, &failed);
	EXPECT(rc == 0 && !failed, "rank %d: destroy: %s: %s", w->me, collx_strerror(rc),
	       collx_last_error(NULL));
	EXPECT(k.back_ns <= done, "rank %d: it was destroyed before the call returned", w->me);
	EXPECT(collx_comm_destroy(c) == COLLX_ERR_INVALID, "destroyed twice");
	w->t->note[w->me].known_ns = k.back_ns;
	worker_lock(w);
	worker_step(w, 9);
}

static void live_beside(struct trial *t, int rank)
{
	struct worker w;
	int rc;

	if (worker_open(&w, t, rank))
		return;
	if (rank == t->actor) {
		destroy_beside(&w);
		return;
	}
	while (trial_load(&t->note[t->actor].step) < 9)
		nap_ms(1);
	rc = worker_call(&w);
	worker_expect_error(&w, rc);
	if (worker_settle(&w, t->ranks - 1))
		return;
	worker_close(&w);
	worker_step(&w, 9);
}

void trial_h7(struct trial *t, int i)
{
	trial_vary(t, FAULT_NONE, COLLX_ERR_PEER_LEFT, i);
	t->live = live_beside;
	t->drive = trial_wait;
	/* Of which some wait for nobody. */
	if (t->op == OP_BROADCAST || t->op == OP_REDUCE || t->op == OP_MESSAGE)
		t->op = OP_ALLREDUCE;
}

/* ---- H8: cancelled in a call ---- */

static __attribute__((noinline)) void call_and_look(struct waiter *k)
{
	collx_straggler late = COLLX_STRAGGLER_INIT;

	k->rc = call_what(k->w, k->what);
	/* These do not wait, but read and write. */
	EXPECT(collx_comm_event_fd(k->w->c) >= 0 && !collx_comm_straggler(k->w->c, &late),
	       "rank %d: %s", k->w->me, collx_last_error(NULL));
	k->failures = expect_failures();
	__atomic_store_n(&k->back_ns, trial_now_ns(), __ATOMIC_RELEASE);
}

/* AddressSanitizer forgets a cancelled thread's variables, not where they were: it has none. */
static void *be_cancelled(void *k)
{
	call_and_look(k);
	pthread_testcancel();
	return NULL;
}

static void cancel_beside(struct worker *w, enum beside what)
{
	struct waiter k = { .w = w, .what = what };
	pthread_t thread;
	void *ended = NULL;

	EXPECT(!pthread_create(&thread, NULL, be_cancelled, &k), "no thread");
	call_begins(w->c);
	nap_ms(60 + trial_draw(w->t, 6, 100));
	EXPECT(!pthread_cancel(thread), "cancel");
	nap_ms(50);
	EXPECT(!__atomic_load_n(&k.back_ns, __ATOMIC_ACQUIRE), "it is not in the call any more");
	worker_step(w, 2);
	pthread_join(thread, &ended);
	EXPECT(ended == PTHREAD_CANCELED && k.back_ns && k.rc == 0 && !k.failures,
	       "rank %d, cancelled in %d: %s, ended %d", w->me, what, collx_strerror(k.rc),
	       ended == PTHREAD_CANCELED);
}

/* The others come to the call later, which is not the worse for it. */
static void live_with_cancelled(struct trial *t, int rank)
{
	enum beside what = (enum beside)(t->seed % BESIDES);
	struct worker w;
	int rc = 0;

	if (worker_open(&w, t, rank))
		return;
	while (rank != t->actor && trial_load(&t->note[t->actor].step) < 2)
		nap_ms(1);
	if (rank == t->actor)
		cancel_beside(&w, what);
	else if (what != BESIDE_RECV)
		rc = call_what(&w, what);
	else if (rank == (t->actor + 1) % t->ranks)
		rc = collx_send(w.in, 1, COLLX_FLOAT32, t->actor, w.c, NULL);
	EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(w.c));
	for (int i = 0; i < 4; i++)
		EXPECT(!worker_call(&w), "rank %d: %s", rank, collx_last_error(w.c));
	worker_close(&w);
	worker_step(&w, 9);
}

void trial_h8(struct trial *t, int i)
{
	trial_h7(t, i);
	t->want = COLLX_OK;
	t->live = live_with_cancelled;
}

/* ---- two communicators, destroyed while their process ends ---- */

static collx_comm_t lasting[2];

/* When the guard's thread is gone: this handler was there before the library's. */
static void destroy_at_exit(void)
{
	bool bad = false;

	for (int i = 0; i < 2; i++)
		bad |= collx_comm_destroy(lasting[i]) != COLLX_OK;
	_exit(bad || expect_failures());
}

static int open_another(struct worker *w, collx_comm_t *out)
{
	collx_unique_id id;
	int rc = w->me ? 0 : collx_get_unique_id(&id);

	if (!rc)
		rc = collx_broadcast(&id, &id, sizeof(id), COLLX_UINT8, 0, w->c, NULL);
	return rc ? rc : collx_comm_create(out, w->t->ranks, &id, w->me, &w->t->config);
}

static void expect_it_left(struct worker *w, collx_comm_t c)
{
	collx_error e = COLLX_ERROR_INIT;
	int32_t one = 1, sum;
	int rc;

	do
		rc = collx_allreduce(&one, &sum, 1, COLLX_INT32, COLLX_SUM, c, NULL);
	while (!rc && sum == w->t->ranks);
	EXPECT(rc == COLLX_ERR_PEER_LEFT && !collx_comm_error(c, &e) && e.rank == w->t->actor,
	       "rank %d: %s, of %d: %s", w->me, collx_strerror(rc), e.rank, collx_last_error(c));
}

static void live_until_exit(struct trial *t, int rank)
{
	collx_comm_t other = NULL;
	struct worker w;

	if (rank == t->actor)
		atexit(destroy_at_exit);
	if (worker_open(&w, t, rank))
		return;
	EXPECT(!open_another(&w, &other), "rank %d: %s", rank, collx_last_error(NULL));
	worker_step(&w, 2);
	if (rank == t->actor) {
		lasting[t->seed % 2] = w.c;
		lasting[!(t->seed % 2)] = other;
		worker_step(&w, 9);
		exit(0);
	}
	expect_it_left(&w, other);
	expect_it_left(&w, w.c);
	collx_comm_destroy(other);
	if (worker_settle(&w, t->ranks - 1))
		return;
	worker_close(&w);
	worker_step(&w, 9);
}

void trial_exit(struct trial *t, int i)
{
	trial_vary(t, FAULT_NONE, COLLX_ERR_PEER_LEFT, i);
	t->live = live_until_exit;
	t->drive = trial_wait;
}
