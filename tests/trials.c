/* SPDX-License-Identifier: BSD-3-Clause */
/* The cases of faults; the ids are those of the reference's tables. */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/trial.h"
#include "tests/world.h"

static const size_t counts[] = { MIDDLE, SMALL, LARGE };

/* ---- variations ---- */

void trial_vary(struct trial *t, enum trial_fault fault, collx_result want, int i)
{
	t->fault = fault;
	t->want = want;
	t->how = (enum trial_how)(i / PATHS % HOWS);
	t->count = counts[(i + i / 3 + i / 9) % 3]; /* of each size on each path, in each way */
	t->op = (enum trial_op)((unsigned)i * 5 % OPS);
	t->actor = (int)trial_draw(t, 2, (unsigned)t->ranks);
}

void trial_lose(struct trial *t, enum trial_fault fault, collx_result want, int i)
{
	trial_vary(t, fault, want, i);
	t->victims = 1u << t->actor;
}

static void vary_a1(struct trial *t, int i)
{
	trial_lose(t, FAULT_KILL, COLLX_ERR_PEER_DEAD, i);
	t->how = HOW_IDLE;
}

static void vary_a2(struct trial *t, int i)
{
	trial_lose(t, FAULT_KILL, COLLX_ERR_PEER_DEAD, i);
	t->how = i % 2 ? HOW_THREAD : HOW_CALL;
	t->op = OP_ALLREDUCE;
	t->count = i == 3 ? BIGGEST : BIG;
}

static void vary_a4(struct trial *t, int i)
{
	trial_lose(t, FAULT_KILL, COLLX_ERR_PEER_DEAD, i);
	t->how = i % 2 ? HOW_THREAD : HOW_CALL;
	t->op = i % 2 ? OP_REDUCE : OP_BROADCAST;
	t->root = t->actor;
}

static void vary_a5(struct trial *t, int i)
{
	trial_lose(t, FAULT_KILL, COLLX_ERR_PEER_DEAD, i);
	t->victims |= 1u << (t->actor + 1) % t->ranks;
	t->together = true;
}

static void vary_a5_all(struct trial *t, int i)
{
	trial_lose(t, FAULT_KILL, COLLX_ERR_PEER_DEAD, i);
	t->victims ^= trial_all(t);
	t->actor = -1;
	t->together = true;
	/* On another host the end of who hangs on a dead leader is no fact, but silence. */
	if (t->path == PATH_MIXED)
		t->path = PATH_TCP;
}

static void vary_a7(struct trial *t, int i)
{
	static const enum trial_fault ways[] = { FAULT_EXIT, FAULT_ABORT, FAULT_SEGV, FAULT_EXEC };

	trial_lose(t, ways[i % 4], COLLX_ERR_PEER_DEAD, i / 4 + i);
}

static void vary_a8(struct trial *t, int i)
{
	trial_lose(t, FAULT_CHILD, COLLX_ERR_PEER_DEAD, i);
}

static void vary_a11(struct trial *t, int i)
{
	trial_lose(t, FAULT_LEAVE, COLLX_ERR_PEER_LEFT, i);
	t->how = HOW_CALL;
	/* Who hung on a leader that left and ended is cut off, and so is its message's error. */
	if (t->path == PATH_MIXED && t->op == OP_MESSAGE)
		t->op = OP_BARRIER;
}

/* What its guard saw of it is in the line; another host's sees nothing. */
static void vary_b1(struct trial *t, int i)
{
	trial_lose(t, FAULT_STOP, COLLX_ERR_PEER_SILENT, i);
	t->how = i % 2 ? HOW_IDLE : HOW_CALL;
}

/* ---- B2, I5: who was given up wakes ---- */

int trial_wake(struct trial *t)
{
	int status = -1;

	trial_signal(t, t->victims, SIGCONT);
	if (trial_await(t, t->victims, 9))
		return 1;
	waitpid(t->pids[t->actor], &status, 0);
	t->pids[t->actor] = 0;
	__atomic_store_n(&t->stop, 1, __ATOMIC_RELEASE);
	return status != 0;
}

static int stop_and_wake(struct trial *t)
{
	if (trial_await(t, trial_all(t), 1))
		return 1;
	t->hit_ns = trial_now_ns();
	trial_signal(t, t->victims, SIGSTOP);
	if (trial_await(t, trial_all(t) & ~t->victims, 8))
		return 1;
	while (trial_now_ns() < t->hit_ns + 5000000000)
		nap_ms(10);
	return trial_wake(t);
}

static void vary_b2(struct trial *t, int i)
{
	vary_b1(t, i);
	t->how = HOW_CALL;
	t->drive = stop_and_wake;
}

/* ---- B3, B4, B7: no false verdict ---- */

static void live_until_stop(struct trial *t, int rank)
{
	struct worker w;

	if (worker_open(&w, t, rank))
		return;
	worker_until_stop(&w);
	worker_close(&w);
	worker_step(&w, 9);
}

static int strobe(struct trial *t)
{
	unsigned who = t->victims ? t->victims : trial_all(t);
	int times = t->victims ? 10 : 1;

	t->victims = 0;
	if (trial_await(t, trial_all(t), 1))
		return 1;
	for (int i = 0; i < times; i++) {
		trial_signal(t, who, SIGSTOP);
		nap_ms(times > 1 ? 500 : 10000);
		trial_signal(t, who, SIGCONT);
		nap_ms(300);
	}
	t->hit_ns = trial_now_ns();
	__atomic_store_n(&t->stop, 1, __ATOMIC_RELEASE);
	return trial_await(t, trial_all(t), 9);
}

static void vary_b3(struct trial *t, int i)
{
	trial_lose(t, FAULT_NONE, COLLX_OK, i);
	t->live = live_until_stop;
	t->drive = strobe;
}

static void vary_b4(struct trial *t, int i)
{
	vary_b3(t, i);
	t->victims = 0;
}

enum { BUSY = 16, ITS_NICE = -10 };

/* From here on this thread, and those that it makes, have one processor. */
static void bind_to_one(void)
{
	cpu_set_t set;
	int first = 0;

	sched_getaffinity(0, sizeof(set), &set);
	while (!CPU_ISSET(first, &set))
		first++;
	CPU_ZERO(&set);
	CPU_SET(first, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static pid_t be_busy(bool bound)
{
	pid_t pid = rank_fork();

	if (pid)
		return pid;
	if (bound)
		bind_to_one();
	for (;;)
		__asm__ volatile("");
}

static int starve(struct trial *t)
{
	const char *seconds = getenv("COLLX_TRIAL_SECONDS");
	pid_t busy[BUSY];
	int rc = trial_await(t, trial_all(t), 1), nice = 0;

	for (int i = 0; i < BUSY; i++) {
		busy[i] = be_busy(t->bound != 0);
		if (t->bound)
			nice |= setpriority(PRIO_PROCESS, (id_t)busy[i], ITS_NICE);
	}
	if (nice)
		fprintf(stderr, "who is busy has nice 0, as %d is root's to give\n", ITS_NICE);
	nap_ms(1000 * (unsigned)(seconds ? atoi(seconds) : 4));
	for (int i = 0; i < BUSY; i++) {
		kill(busy[i], SIGKILL);
		waitpid(busy[i], NULL, 0);
	}
	__atomic_store_n(&t->stop, 1, __ATOMIC_RELEASE);
	return rc || trial_await(t, trial_all(t), 9);
}

static void live_bound(struct trial *t, int rank)
{
	if (t->bound >> rank & 1)
		bind_to_one();
	live_until_stop(t, rank);
}

/* Beside all, or on the processor that all guards have to share with them, or one guard. */
static void vary_b7(struct trial *t, int i)
{
	vary_b4(t, i);
	t->bound = (i + i / 3) % 3 == 1 ? trial_all(t) : (i + i / 3) % 3 ? 1u << t->actor : 0;
	setenv("COLLX_SPIN_US", "1000000", 1); /* ranks that wait want a processor, too */
	t->count = SMALL;
	t->op = OP_ALLREDUCE;
	t->config.op_timeout_ms = 60000;
	t->live = live_bound;
	t->drive = starve;
}

/* ---- B5, B6: late for a call ---- */

static void count_stragglers(collx_comm_t c, collx_event event, void *arg)
{
	struct worker *w = arg;
	collx_straggler s = COLLX_STRAGGLER_INIT;

	if (event == COLLX_EVENT_STRAGGLER && !collx_comm_straggler(c, &s) &&
	    s.rank == w->t->actor)
		w->t->note[w->me].flags[1]++;
}

/* The descriptor tells all ranks, and that is no error. */
static void hear_of_the_late(struct worker *w)
{
	struct pollfd p = { .fd = collx_comm_event_fd(w->c), .events = POLLIN };
	collx_straggler s = COLLX_STRAGGLER_INIT;
	collx_error e = COLLX_ERROR_INIT;

	EXPECT(poll(&p, 1, 10000) == 1, "rank %d was told nothing", w->me);
	w->t->note[w->me].known_ns = trial_now_ns();
	EXPECT(!collx_comm_straggler(w->c, &s) && s.number >= 1 && s.rank == w->t->actor &&
	       s.op == 4 && s.waited_ms >= w->t->config.straggler_ms &&
	       !strncmp(s.call, "allreduce(count ", 16), "rank %d: %d times, rank %d, op %d: %s",
	       w->me, (int)s.number, s.rank, (int)s.op, s.call);
	EXPECT(poll(&p, 1, 0) == 0, "rank %d: the descriptor is readable for ever", w->me);
	EXPECT(!collx_comm_error(w->c, &e) && e.code == COLLX_OK, "rank %d: %s", w->me, e.text);
}

/* What a rank that waits can know of the late one. */
static void *look_at_the_late(void *arg)
{
	struct worker *w = arg;
	collx_rank_health h[TRIAL_RANKS];
	int rc, late = w->t->actor;

	if (w->t->want)
		nap_ms(700);
	else
		hear_of_the_late(w);
	rc = collx_comm_health(w->c, h, w->t->ranks);
	EXPECT(rc == 0 && h[late].state == COLLX_RANK_ALIVE, "rank %d: rank %d is %d", w->me, late,
	       h[late].state);
	w->t->note[w->me].flags[0] = h[w->me].begun > h[late].begun;
	return (void *)(intptr_t)expect_failures();
}

static void be_late(struct trial *t, int rank)
{
	struct worker w;
	pthread_t thread;
	void *failures;
	int rc;

	if (worker_open(&w, t, rank))
		return;
	EXPECT(!collx_comm_set_callback(w.c, count_stragglers, &w), "%s", collx_last_error(NULL));
	EXPECT(!pthread_create(&thread, NULL, look_at_the_late, &w), "no thread");
	if (rank == t->actor)
		nap_ms(t->want ? 2500 : 1500);
	else if (!t->hit_ns)
		t->hit_ns = trial_now_ns();
	rc = worker_call(&w);
	for (int i = 0; !rc && i < 3; i++)
		rc = worker_call(&w);
	pthread_join(thread, &failures);
	EXPECT(!failures, "rank %d: what it was told was not right", rank);
	if (t->want) {
		t->note[rank].known_ns = trial_now_ns();
		worker_expect_error(&w, rc);
	} else {
		EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(w.c));
		for (int i = 0; !t->note[rank].flags[1] && i < 5000; i++)
			nap_ms(1);
		EXPECT(t->note[rank].flags[1] == 1, "rank %d: called back %d times", rank,
		       (int)t->note[rank].flags[1]);
	}
	if (t->want && t->note[rank].code == COLLX_ERR_TIMEOUT) {
		char who[32];

		snprintf(who, sizeof(who), "missing: rank %d ", t->actor);
		EXPECT(strstr(collx_last_error(w.c), who), "rank %d: %s", rank,
		       collx_last_error(w.c));
	}
	if (t->want && worker_settle(&w, t->ranks))
		return;
	worker_close(&w);
	worker_step(&w, 9);
}

int trial_wait(struct trial *t)
{
	return trial_await(t, trial_all(t), 9);
}

static void vary_b5(struct trial *t, int i)
{
	trial_vary(t, FAULT_NONE, COLLX_OK, i);
	t->op = OP_ALLREDUCE;
	t->live = be_late;
	t->drive = trial_wait;
}

static void vary_b6(struct trial *t, int i)
{
	vary_b5(t, i);
	t->config.op_timeout_ms = 1000;
	t->want = COLLX_ERR_TIMEOUT;
}

/* ---- D: calls that differ ---- */

static void vary_d(struct trial *t, int i)
{
	static const enum trial_op ops[] = { OP_ALLREDUCE, OP_REDUCE, OP_REDUCE_SCATTER };

	trial_vary(t, (enum trial_fault)(FAULT_COUNT + i % 6), COLLX_ERR_MISMATCH, i / 6 + i);
	t->op = t->fault == FAULT_ROOT ? OP_REDUCE : ops[i % 3];
	t->how = HOW_CALL;
	t->count = t->count < 3 ? 3 : t->count;
}

/* D7: two communicators in another order. The first of the two errors names both calls; by
 * the second one ranks have left the first call, and may have come to this one. */
static void note_both_calls(struct trial_note *n, int rc, collx_comm_t c)
{
	const char *line = collx_last_error(c), *other = strstr(line, "missing: ");
	static const char call[] = "allreduce(count 1, int32, sum), operation ";

	if (rc == COLLX_ERR_TIMEOUT)
		n->flags[2] |= !strncmp(line, call, strlen(call)) && other &&
			       strstr(other, call) && strstr(other, "of another communicator");
}

static int expect_both_calls(struct trial *t)
{
	int both = 0, rc = trial_wait(t);

	for (int r = 0; r < t->ranks; r++)
		both += t->note[r].flags[2] != 0;
	if (!rc && !both)
		fprintf(stderr, "nobody was told both calls\n");
	return rc || !both;
}

static void call_crosswise(struct trial *t, int rank)
{
	struct worker w;
	int32_t one = 1, sum = 0;
	collx_comm_t other = NULL, first, second;
	int rc, again;

	if (worker_open(&w, t, rank))
		return;
	rc = rank ? 0 : collx_get_unique_id(&t->second);
	if (!rc)
		rc = collx_broadcast(&t->second, &w.t->second, sizeof(t->second), COLLX_UINT8, 0,
				     w.c, NULL);
	if (!rc)
		rc = collx_comm_create(&other, t->ranks, &t->second, rank, &t->config);
	EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(NULL));
	first = rank == t->actor ? w.c : other;
	second = rank == t->actor ? other : w.c;
	/* One of them can still come about, when the others give up the other one first. */
	rc = collx_allreduce(&one, &sum, 1, COLLX_INT32, COLLX_SUM, first, NULL);
	EXPECT(rc == COLLX_ERR_TIMEOUT || (rc == 0 && sum == t->ranks), "rank %d: %s", rank,
	       collx_last_error(first));
	note_both_calls(&t->note[rank], rc, first);
	again = collx_allreduce(&one, &sum, 1, COLLX_INT32, COLLX_SUM, second, NULL);
	EXPECT(again == COLLX_ERR_TIMEOUT || (again == 0 && rc && sum == t->ranks),
	       "rank %d: %s, then %s: %s", rank, collx_strerror(rc), collx_strerror(again),
	       collx_last_error(second));
	note_both_calls(&t->note[rank], again, second);
	t->note[rank].known_ns = trial_now_ns();
	EXPECT(!collx_comm_repair(&other, NULL), "rank %d: %s", rank, collx_last_error(NULL));
	if (worker_settle(&w, t->ranks))
		return;
	rc = collx_allreduce(&one, &sum, 1, COLLX_INT32, COLLX_SUM, other, NULL);
	EXPECT(rc == 0 && sum == t->ranks, "rank %d: %s", rank, collx_last_error(other));
	collx_comm_destroy(other);
	worker_close(&w);
	worker_step(&w, 9);
}

static void vary_d7(struct trial *t, int i)
{
	trial_vary(t, FAULT_NONE, COLLX_ERR_TIMEOUT, i);
	t->config.op_timeout_ms = 700;
	t->live = call_crosswise;
	t->drive = expect_both_calls;
}

/* D8: they do not agree on who they are. Who met nobody any more waits until the deadline. */
static void come_wrongly(struct trial *t, int rank)
{
	collx_config config = t->config;
	collx_comm_t c = NULL;
	int size = t->ranks, as = rank, rc;

	if (rank == t->actor && t->seed % 2)
		size++;
	else if (rank == t->actor)
		as = (rank + 1) % t->ranks;
	config.create_timeout_ms = 900;
	t->note[rank].step = 1;
	while (!trial_load(&t->go))
		nap_ms(1);
	rc = collx_comm_create(&c, size, &t->id, as, &config);
	t->note[rank].known_ns = trial_now_ns();
	t->note[rank].code = rc;
	EXPECT((rc == COLLX_ERR_INVALID || rc == COLLX_ERR_INIT_TIMEOUT ||
		rc == COLLX_ERR_PEER_DEAD) && !c && strlen(collx_last_error(NULL)) > 10,
	       "rank %d: %s: %s", rank, collx_strerror(rc), collx_last_error(NULL));
	collx_comm_destroy(c);
	t->note[rank].step = 9;
}

static int expect_refusals(struct trial *t)
{
	bool rank_0_is_missing = t->actor == 0 && t->seed % 2 == 0;
	int refused = 0, rc = trial_await(t, trial_all(t), 1);

	t->hit_ns = trial_now_ns();
	__atomic_store_n(&t->go, 1, __ATOMIC_RELEASE);
	rc |= trial_wait(t);
	for (int r = 0; r < t->ranks; r++)
		refused += t->note[r].code == COLLX_ERR_INVALID;
	if (!rc && !refused && !rank_0_is_missing)
		fprintf(stderr, "nobody was told what was wrong\n");
	return rc || (!refused && !rank_0_is_missing);
}

static void vary_d8(struct trial *t, int i)
{
	trial_vary(t, FAULT_NONE, COLLX_OK, i);
	t->live = come_wrongly;
	t->drive = expect_refusals;
}

/* Two communicators, of all and of those who stay: the second one knows nothing. */
static void lose_one_of_two(struct trial *t, int rank)
{
	struct worker w;
	int32_t one = 1, sum = 0;
	collx_comm_t few = NULL;
	collx_unique_id *id = &t->second;
	int rc, n = t->ranks - 1, mine = rank - (rank > t->actor);

	if (worker_open(&w, t, rank))
		return;
	rc = rank == 0 ? collx_get_unique_id(id) : 0;
	EXPECT(!rc && !collx_barrier(w.c, NULL), "rank %d: %s", rank, collx_last_error(NULL));
	rc = rank == t->actor ? 0 : collx_comm_create(&few, n, id, mine, &t->config);
	EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(NULL));
	worker_step(&w, 2);
	for (int i = 0; i < 400 && few; i++) {
		rc = collx_allreduce(&one, &sum, 1, COLLX_INT32, COLLX_SUM, few, NULL);
		if (!EXPECT(rc == 0 && sum == n, "rank %d: the other communicator: %s", rank,
			    collx_last_error(few)))
			return;
		nap_ms(i > 200);
	}
	rc = worker_until_error(&w);
	worker_expect_error(&w, rc);
	if (worker_settle(&w, n))
		return;
	rc = collx_allreduce(&one, &sum, 1, COLLX_INT32, COLLX_SUM, few, NULL);
	EXPECT(rc == 0 && sum == n, "rank %d: the other communicator: %s", rank,
	       collx_last_error(few));
	collx_comm_destroy(few);
	worker_close(&w);
	worker_step(&w, 9);
}

static int kill_one_of_two(struct trial *t)
{
	if (trial_await(t, trial_all(t), 2))
		return 1;
	t->hit_ns = trial_now_ns();
	trial_signal(t, t->victims, SIGKILL);
	return trial_await(t, trial_all(t) & ~t->victims, 9);
}

static void vary_two(struct trial *t, int i)
{
	trial_lose(t, FAULT_KILL, COLLX_ERR_PEER_DEAD, i);
	t->how = HOW_CALL;
	t->live = lose_one_of_two;
	t->drive = kill_one_of_two;
}

/* ---- H: fork, abort, revoke ---- */

static void expect_forked(collx_comm_t c)
{
	collx_straggler s = COLLX_STRAGGLER_INIT;
	collx_error e = COLLX_ERROR_INIT;
	collx_rank_health h;
	uint64_t flags = 1;
	collx_comm_t out = c;
	int bad = 0;

	bad |= collx_comm_error(c, &e) != COLLX_ERR_FORKED;
	bad |= collx_comm_event_fd(c) != COLLX_ERR_FORKED;
	bad |= collx_comm_straggler(c, &s) != COLLX_ERR_FORKED;
	bad |= collx_comm_health(c, &h, 1) != COLLX_ERR_FORKED;
	bad |= collx_comm_dump(c, 2) != COLLX_ERR_FORKED;
	bad |= collx_comm_abort(c) != COLLX_ERR_FORKED;
	bad |= collx_comm_revoke(c) != COLLX_ERR_FORKED;
	bad |= collx_comm_agree(c, &flags, NULL, NULL) != COLLX_ERR_FORKED;
	bad |= collx_comm_shrink(c, NULL, 0, &out, NULL) != COLLX_ERR_FORKED;
	bad |= collx_comm_repair(&out, NULL) != COLLX_ERR_FORKED;
	bad |= collx_comm_destroy(c) != COLLX_ERR_FORKED;
	collx_comm_abort_from_signal(c); /* the parent's, so nothing */
	_exit(bad);
}

static void fork_and_go_on(struct trial *t, int rank)
{
	struct worker w;
	int status = -1;
	pid_t pid;

	if (worker_open(&w, t, rank))
		return;
	if (rank == t->actor) {
		guard_begins(w.c);
		pid = rank_fork();
		if (pid == 0)
			expect_forked(w.c);
		waitpid(pid, &status, 0);
		EXPECT(status == 0, "the child: %#x", (unsigned)status);
		__atomic_store_n(&t->stop, 1, __ATOMIC_RELEASE);
	}
	worker_until_stop(&w);
	for (int i = 0; i < 20; i++)
		EXPECT(!worker_call(&w), "rank %d: %s", rank, collx_last_error(w.c));
	worker_close(&w);
	worker_step(&w, 9);
}

static void vary_h3(struct trial *t, int i)
{
	trial_vary(t, FAULT_NONE, COLLX_OK, i);
	t->live = fork_and_go_on;
	t->drive = trial_wait;
}

static void vary_h5(struct trial *t, int i)
{
	trial_vary(t, FAULT_ABORT_COMM, COLLX_ERR_ABORTED, i);
}

static void vary_h5_twice(struct trial *t, int i)
{
	trial_vary(t, FAULT_ABORT_TWICE, COLLX_ERR_ABORTED, i);
}

static void vary_h6(struct trial *t, int i)
{
	trial_vary(t, FAULT_SIGNAL, COLLX_ERR_ABORTED, i);
}

static void vary_revoke(struct trial *t, int i)
{
	trial_vary(t, FAULT_REVOKE, COLLX_ERR_REVOKED, i);
}

/* H5: in creation, which nobody else comes to. */
static int wish;

static void *wish_it(void *arg)
{
	nap_ms(100);
	*(uint64_t *)arg = trial_now_ns();
	__atomic_store_n(&wish, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void abort_creation(struct trial *t, int rank)
{
	collx_config config = t->config;
	collx_comm_t c = NULL;
	pthread_t thread;
	uint64_t hit;
	int rc;

	config.abort = &wish;
	pthread_create(&thread, NULL, wish_it, &hit);
	rc = rank == t->actor ? COLLX_ERR_ABORTED
			      : collx_comm_create(&c, t->ranks, &t->id, rank, &config);
	pthread_join(thread, NULL);
	t->hit_ns = hit;
	t->note[rank].known_ns = trial_now_ns();
	EXPECT(rc == COLLX_ERR_ABORTED && !c, "rank %d: %s: %s", rank, collx_strerror(rc),
	       collx_last_error(NULL));
	t->note[rank].step = 9;
}

static void vary_h5_init(struct trial *t, int i)
{
	trial_vary(t, FAULT_NONE, COLLX_ERR_ABORTED, i);
	t->live = abort_creation;
	t->drive = trial_wait;
}

/* ---- the table ---- */

const struct trial_case trial_cases[] = {
	{ "A1", "killed, all outside", vary_a1, { 100, 250 }, 1000, 0, false, 0 },
	{ "A2", "killed in a large allreduce", vary_a2, { 100, 250 }, 1000, 0, true, 0 },
	{ "A3", "killed before it returns", trial_a3, { 100, 250 }, 1000, 0, false, 0 },
	{ "A4", "the root killed", vary_a4, { 100, 250 }, 1000, 0, false, 0 },
	{ "A5", "two killed at once", vary_a5, { 500, 500 }, 1000, 0, false, 0 },
	{ "A5x", "all killed but one", vary_a5_all, { 500, 500 }, 1000, 0, false, 0 },
	{ "A6", "another killed in the repair", trial_a6, { 100, 250 }, 2000, 5, false, 20 },
	{ "A7", "exit, abort, segfault, exec", vary_a7, { 250, 250 }, 1000, 0, false, 0 },
	{ "A8", "killed, its child lives", vary_a8, { 250, 250 }, 1000, 0, false, 0 },
	{ "A9", "killed and replaced", trial_a9, { 0, 0 }, 0, 0, true, 0 },
	{ "A11", "left, the others call", vary_a11, { 250, 250 }, 1000, 0, false, 0 },
	{ "B1", "stopped", vary_b1, { 1500, 1500 }, 1000, 0, true, 0 },
	{ "B2", "stopped, given up, woken", vary_b2, { 1500, 1500 }, 1000, 0, true, 0 },
	{ "B3", "stopped 0.5 s, 10 times", vary_b3, { 0, 0 }, 0, 0, true, 0 },
	{ "B4", "all stopped 10 s", vary_b4, { 0, 0 }, 0, 0, true, 0 },
	{ "B5", "late by 1.5 s", vary_b5, { 1000, 1000 }, 0, 0, true, 0 },
	{ "B6", "later than the deadline", vary_b6, { 2600, 2600 }, 1000, 0, true, 0 },
	{ "B7", "16 busy processes", vary_b7, { 0, 0 }, 0, 0, true, 0 },
	{ "B8", "100 times slower", trial_b8, { 0, 0 }, 0, 0, true, 0 },
	{ "D1-6", "calls that differ", vary_d, { 250, 250 }, 1000, 0, false, 0 },
	{ "D7", "two communicators crosswise", vary_d7, { 0, 0 }, 1000, 0, true, 0 },
	{ "D8", "wrong rank or size", vary_d8, { 1000, 1000 }, 0, 0, true, 0 },
	{ "one2", "one of two communicators fails", vary_two, { 0, 0 }, 1000, 0, false, 0 },
	{ "H3", "fork", vary_h3, { 0, 0 }, 0, 0, false, 0 },
	{ "H4", "a thread forks, one calls", trial_h4, { 0, 0 }, 0, 0, true, 0 },
	{ "H5", "abort by another thread", vary_h5, { 50, 250 }, 1000, 0, false, 0 },
	{ "H5b", "abort twice, by two threads", vary_h5_twice, { 50, 250 }, 1000, 0, false, 0 },
	{ "H5c", "abort of a creation", vary_h5_init, { 50, 50 }, 0, 0, false, 0 },
	{ "H5d", "abort beside a death", trial_abort_beside, { 0, 0 }, 0, 0, false, 0 },
	{ "H6", "abort in a signal handler", vary_h6, { 50, 250 }, 1000, 0, false, 0 },
	{ "H7", "destroyed beside a call", trial_h7, { 50, 50 }, 0, 0, false, 0 },
	{ "H8", "cancelled in a call", trial_h8, { 0, 0 }, 0, 0, false, 0 },
	{ "exit", "two are destroyed at exit", trial_exit, { 0, 0 }, 0, 0, false, 0 },
	{ "rev", "revoke", vary_revoke, { 50, 250 }, 1000, 0, false, 0 },
	{ "I2", "one shrinks, the others call", trial_i2, { 250, 250 }, 1000, 0, false, 0 },
	{ "I3", "8 ranks, killed one by one", trial_i3, { 0, 0 }, 0, 8, true, 0 },
	{ "I4", "100 or 500 steps up and down", trial_i4, { 0, 0 }, 0, 1, true, 0 },
	{ "I5", "replaced by a new rank", trial_i5, { 0, 0 }, 0, 0, true, 0 },
	{ "I6", "an in-place input stays", trial_i6, { 100, 250 }, 1000, 0, false, 0 },
	{ "I7", "all succeed or none", trial_i7, { 100, 250 }, 1000, 0, false, 0 },
	{ "I8", "killed while they agree", trial_i8, { 0, 0 }, 1000, 5, false, 0 },
	{ "I8b", "one is hasty with the next one", trial_i8_haste, { 0, 0 }, 0, 0, false, 0 },
	{ "I11", "the failed call again", trial_i11, { 100, 250 }, 1000, 0, false, 20 },
	{ "cont", "the call goes on by itself", trial_continue, { 1000, 1000 }, 0, 0, false, 0 },
	{ "G9", "a joiner dies, lies, is late", trial_g9, { 0, 0 }, 0, 3, true, 0 },
	{ "well", "shrink in health, aborted", trial_healthy, { 0, 0 }, 0, 0, false, 0 },
	{ "I13", "repair during repair", trial_deciding, { 0, 0 }, 0, 0, false, 0 },
	{ "call2", "called back at once", trial_called_early, { 0, 0 }, 0, 0, false, 0 },
	{ "I14", "repaired while a thread asks", trial_watched, { 0, 0 }, 0, 0, true, 0 },
	{ "H6b", "aborted within a repair", trial_aborted, { 0, 0 }, 0, 0, false, 0 },
	{ "cont2", "each loss is told of", trial_losing, { 0, 0 }, 0, 0, false, 0 },
	{ "call", "wrong use in the callback", trial_callback, { 100, 250 }, 1000, 0, false, 0 },
};
const int ntrial_cases = sizeof(trial_cases) / sizeof(trial_cases[0]);

int trial_case_run(const struct trial_case *k, int i, struct trial *t)
{
	collx_config config = COLLX_CONFIG_INIT;

	unsetenv("COLLX_SPIN_US");
	unsetenv("COLLX_ALGO");
	config.heartbeat_ms = 100;
	config.silence_ms = 1000;
	config.straggler_ms = 500;
	config.op_timeout_ms = 20000;
	config.create_timeout_ms = 20000;
	*t = (struct trial){ .ranks = k->ranks ? k->ranks : 4, .root = -1, .actor = -1,
			     .config = config, .live = worker_live };
	t->path = (enum trial_path)(i % PATHS);
	for (const char *p = k->id; *p; p++)
		t->seed = t->seed * 31 + (unsigned char)*p;
	t->seed = t->seed % 1000 * 1000 + (unsigned)i;
	k->vary(t, i);
	return trial_run(t);
}
