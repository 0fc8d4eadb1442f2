/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Jobs that lose and win ranks all the time, and ranks that are slow or fork. Each round
 * of a churning job begins with a word of rank 0, what to do and the operation's number,
 * so that whoever is there agrees; every operation is checked.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/base/base.h"
#include "tests/trial.h"
#include "tests/world.h"

enum { STEPS = 100, STEPS_MOST = 500, LEAST = 2, JOIN_MS = 5000, GAP_MS = 10000, ANYBODY = 31 };
enum deed { CALL, GROW, SHRINK, STOP };

/* What rank 0 says. */
struct word {
	int32_t deed, whom;
	uint64_t op, magic;
};

static const uint64_t magic = 0x6368757263680a0d;

/* ---- a rank of it ---- */

/* Rank 0's next word, as the driver wants it. */
static struct word next_word(struct worker *w)
{
	struct trial *t = w->t;
	struct word word = { .op = w->op, .magic = magic };
	int size = collx_comm_size(w->c);

	if (trial_load(&t->stop))
		word.deed = STOP;
	else if (t->fault == FAULT_NONE && !w->fresh)
		word.deed = CALL; /* each communicator is compared */
	else if (trial_load(&t->churn.join) && size < TRIAL_RANKS)
		word.deed = GROW;
	else if (trial_load(&t->churn.leave) && size > 1)
		word.deed = SHRINK;
	word.whom = (int32_t)(mix64(t->seed + w->op) % (unsigned)size);
	return word;
}

static void go_over(struct worker *w, collx_comm_t next)
{
	worker_close(w);
	w->c = next;
}

/* A joiner may come too late or die, and then the old one goes on. A rank may be lost while
 * the word is told: who has not got it repairs meanwhile, and that is a mismatch. */
static int grow(struct worker *w)
{
	struct churn *k = &w->t->churn;
	collx_opts o = COLLX_OPTS_INIT;
	collx_comm_t next = NULL;
	int rank = collx_comm_rank(w->c), rc;

	o.timeout_ms = JOIN_MS;
	if (rank == 0) {
		EXPECT(!collx_get_unique_id(&w->t->second), "%s", collx_last_error(NULL));
		k->size = collx_comm_size(w->c) + 1;
		__atomic_add_fetch(&k->asked, 1, __ATOMIC_ACQ_REL);
	}
	rc = collx_comm_grow(w->c, 1, &w->t->second, &next, &o);
	EXPECT(rc || next, "rank %d: grown to nothing", rank);
	if (rc) /* the next word tells whether the old one is well */
		return rc == COLLX_ERR_MISMATCH ? rc : 0;
	if (rank == 0) {
		__atomic_store_n(&k->join, 0, __ATOMIC_RELEASE);
		__atomic_add_fetch(&k->grown, 1, __ATOMIC_ACQ_REL);
	}
	go_over(w, next);
	return 0;
}

/* 1: this one is out. */
static int shrink(struct worker *w, int whom)
{
	struct churn *k = &w->t->churn;
	int rank = collx_comm_rank(w->c), rc;
	collx_comm_t next = NULL;

	rc = collx_comm_shrink(w->c, &whom, 1, &next, NULL);
	if (rank == whom) {
		EXPECT(rc == COLLX_ERR_EXCLUDED && !next, "rank %d, out: %s", rank,
		       collx_strerror(rc));
		return 1;
	}
	if (!EXPECT(rc == 0 && next, "rank %d: shrink: %s", rank, collx_last_error(NULL)))
		return 1;
	go_over(w, next);
	if (collx_comm_rank(w->c) == 0) {
		__atomic_store_n(&k->leave, 0, __ATOMIC_RELEASE);
		__atomic_add_fetch(&k->shrunk, 1, __ATOMIC_ACQ_REL);
	}
	return 0;
}

/* Where somebody was lost. */
static int repair(struct worker *w)
{
	collx_opts patient = COLLX_OPTS_INIT;
	collx_error e = COLLX_ERROR_INIT;
	int rc;

	patient.timeout_ms = 20000;
	EXPECT(!collx_comm_error(w->c, &e) && e.code == COLLX_ERR_PEER_DEAD && w->t->churn.kills,
	       "rank %d: %s", w->me, e.text);
	do
		rc = collx_comm_repair(&w->c, &patient);
	while (rc == COLLX_ERR_MISMATCH); /* with who was told to grow: grow() */
	return EXPECT(rc == 0, "rank %d: repair: %s: %s", w->me, collx_strerror(rc),
		      collx_last_error(NULL)) ? 0 : 1;
}

/* 0: on; 1: this rank is done; negative: somebody was lost. */
static int one_round(struct worker *w)
{
	struct word word = { 0 };
	int rc;

	if (collx_comm_rank(w->c) == 0)
		word = next_word(w);
	rc = collx_broadcast(&word, &word, sizeof(word), COLLX_UINT8, 0, w->c, NULL);
	if (rc)
		return rc;
	if (!EXPECT(word.magic == magic, "rank %d: rank 0's word is another", w->me))
		return 1;
	w->op = word.op;
	if (word.deed == STOP)
		return 1;
	if (word.deed == GROW)
		return grow(w);
	if (word.deed == SHRINK)
		return shrink(w, word.whom);
	rc = worker_call(w);
	if (!rc && collx_comm_rank(w->c) == 0)
		__atomic_add_fetch(&w->t->churn.ops, 1, __ATOMIC_RELAXED);
	if (!rc && w->t->fault == FAULT_NONE && !w->fresh)
		rc = worker_refresh(w);
	if (!rc && w->fresh)
		worker_compare_call(w, (enum trial_op)(word.op % OPS), w->t->count);
	return rc;
}

static void go_round(struct worker *w)
{
	int rc = 0;

	while (rc <= 0 && !expect_failures())
		if ((rc = one_round(w)) < 0)
			rc = repair(w);
	worker_close(w);
}

static void churn(struct trial *t, int rank)
{
	struct worker w;

	if (!worker_open(&w, t, rank))
		go_round(&w);
}

/* Whom the others gave up, or who came to a job that had lost somebody, just goes. */
static void join(struct trial *t, int slot)
{
	struct worker w = { .t = t, .me = slot, .room = t->count * TRIAL_PEOPLE };
	collx_config config = t->config;
	int size = t->churn.size;

	config.create_timeout_ms = JOIN_MS;
	w.in = calloc(w.room, sizeof(float));
	w.out = calloc(w.room, sizeof(float));
	if (!collx_comm_create(&w.c, size, &t->second, size - 1, &config))
		go_round(&w);
	free(w.in);
	free(w.out);
}

/* ---- who drives it ---- */

static int end_slot(struct trial *t, int slot, int sig)
{
	int status;

	if (t->pids[slot] <= 0)
		return 0;
	if (sig)
		kill(t->pids[slot], sig);
	if (waitpid(t->pids[slot], &status, sig ? 0 : WNOHANG) <= 0)
		return 0;
	t->pids[slot] = 0;
	if (sig || (WIFEXITED(status) && !WEXITSTATUS(status)))
		return 0;
	fprintf(stderr, "slot %d ended with %#x\n", slot, (unsigned)status);
	return 1;
}

static int living(const struct trial *t)
{
	int n = 0;

	for (int i = 0; i < TRIAL_RANKS; i++)
		n += t->pids[i] > 0;
	return n;
}

static int slot_with(const struct trial *t, bool lives, unsigned draw)
{
	int i = (int)(draw % TRIAL_RANKS);

	while ((t->pids[i] > 0) != lives)
		i = (i + 1) % TRIAL_RANKS;
	return i;
}

/* Those who ended are noticed, and who is asked for comes. */
static int attend(struct trial *t, int *asked)
{
	struct churn *k = &t->churn;
	int bad = 0;

	for (int i = 0; i < TRIAL_RANKS; i++)
		bad |= end_slot(t, i, 0);
	if (trial_load(&k->asked) == *asked || !trial_load(&k->join))
		return bad;
	*asked = trial_load(&k->asked);
	bad |= end_slot(t, k->slot, SIGKILL); /* it was to come to a job that is over */
	trial_join(t, join, k->slot);
	return bad;
}

/* Something finished lately? */
static int check_gap(struct trial *t, uint64_t *ops, uint64_t *since)
{
	uint64_t now = now_ms(), done = __atomic_load_n(&t->churn.ops, __ATOMIC_RELAXED);

	if (done != *ops)
		*since = now;
	*ops = done;
	t->churn.gap_ms = cx_max(t->churn.gap_ms, now - *since);
	if (now - *since < GAP_MS)
		return 0;
	fprintf(stderr, "no operation in %d s, %d processes, after %llu\n", GAP_MS / 1000,
		living(t), (unsigned long long)done);
	return 1;
}

static void want_one_more(struct trial *t, unsigned draw)
{
	t->churn.slot = slot_with(t, false, draw);
	__atomic_store_n(&t->churn.join, 1, __ATOMIC_RELEASE);
}

/* A kill, or one more; sometimes neither can be. When the next strike is due: often while
 * somebody is just let in, else between 0.2 and 1 s later. */
static uint64_t strike(struct trial *t, unsigned draw)
{
	bool grows = trial_load(&t->churn.join);
	int n = living(t), slot;

	if (n > LEAST && (n == TRIAL_RANKS || grows || draw % 10 < 4)) {
		slot = slot_with(t, true, draw >> 8);
		t->churn.kills++;
		end_slot(t, slot, SIGKILL);
	} else if (n < TRIAL_RANKS && !grows) {
		want_one_more(t, draw >> 8);
		if (draw >> 16 & 3)
			return now_ms() + (draw >> 18) % 30;
	}
	return now_ms() + 200 + (draw >> 18) % 800;
}

static int finish(struct trial *t)
{
	__atomic_store_n(&t->stop, 1, __ATOMIC_RELEASE);
	t->victims = 1u << ANYBODY; /* what was killed left its names */
	return 0;
}

static int kill_and_grow(struct trial *t)
{
	const char *seconds = getenv("COLLX_TRIAL_SECONDS");
	uint64_t usual = t->seed % 1000 ? 3 : 10; /* the first variation is longer */
	uint64_t start = now_ms(), next = start + 200, since = start, ops = 0;
	uint64_t end = start + 1000 * (seconds ? (uint64_t)atoi(seconds) : usual);
	int asked = 0, bad = trial_await(t, trial_all(t), 1);

	for (unsigned i = 0; !bad && now_ms() < end; i++) {
		nap_ms(2);
		bad = attend(t, &asked) || check_gap(t, &ops, &since);
		if (now_ms() < next)
			continue;
		next = strike(t, (unsigned)mix64(t->seed * 977 + i));
	}
	finish(t);
	/* Who is on its way may still be let in, and is told to stop then. */
	for (unsigned i = 0; !bad && living(t) && i < 15000; i++) {
		nap_ms(2);
		bad = attend(t, &asked);
	}
	return bad;
}

void trial_a9(struct trial *t, int i)
{
	trial_vary(t, FAULT_KILL, COLLX_ERR_PEER_DEAD, i);
	t->actor = -1;
	t->count = i % 2 ? SMALL : MIDDLE;
	t->live = churn;
	t->drive = kill_and_grow;
}

/* One variation has as many as the reference. */
static int how_many_steps(const struct trial *t)
{
	const char *wanted = getenv("COLLX_TRIAL_STEPS");

	return wanted ? atoi(wanted) : t->seed % 1000 == 1 ? STEPS_MOST : STEPS;
}

/* Up to all, then up and down; each step begins when the last one is done. */
static int grow_and_shrink(struct trial *t)
{
	uint64_t since = now_ms(), ops = 0;
	int asked = 0, bad = trial_await(t, trial_all(t), 1), steps = how_many_steps(t);

	for (int i = 0, size = 1; !bad && i < steps; i++) {
		unsigned draw = (unsigned)mix64(t->seed * 977 + (unsigned)i);
		bool up = size == 1 || i < TRIAL_RANKS - 1 || (size < TRIAL_RANKS && draw % 2);

		while (!bad && living(t) > size) { /* who is out ends */
			nap_ms(1);
			bad = attend(t, &asked) || check_gap(t, &ops, &since);
		}
		if (up)
			want_one_more(t, draw >> 8);
		else
			__atomic_store_n(&t->churn.leave, 1, __ATOMIC_RELEASE);
		while (!bad && (trial_load(&t->churn.join) || trial_load(&t->churn.leave))) {
			nap_ms(1);
			bad = attend(t, &asked) || check_gap(t, &ops, &since);
		}
		size += up ? 1 : -1;
	}
	finish(t);
	return bad;
}

void trial_i4(struct trial *t, int i)
{
	trial_vary(t, FAULT_NONE, COLLX_OK, i);
	t->actor = -1;
	t->count = MIDDLE;
	t->live = churn;
	t->drive = grow_and_shrink;
}

/* ---- B8: a hundred times slower, and going on ---- */

static void measure_calls(struct trial *t, int rank)
{
	collx_opts o = COLLX_OPTS_INIT;
	struct trial_note *n = &t->note[rank];
	struct worker w;
	int rc = 0, more = 1;

	if (worker_open(&w, t, rank))
		return;
	o.timeout_ms = t->want ? 2000 : 0;
	w.opts = &o;
	while (!rc && more) {
		uint64_t start = trial_now_ns();

		__atomic_store_n(&n->flags[0], start, __ATOMIC_RELEASE);
		rc = worker_call(&w);
		__atomic_store_n(&n->flags[0], 0, __ATOMIC_RELEASE);
		n->flags[1] = cx_max(n->flags[1], trial_now_ns() - start);
		more = !trial_load(&t->stop);
		if (!rc)
			rc = collx_broadcast(&more, &more, 1, COLLX_INT32, 0, w.c, NULL);
	}
	n->known_ns = trial_now_ns();
	worker_step(&w, 2);
	w.opts = NULL;
	if (t->want)
		worker_expect_error(&w, rc);
	else
		EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(w.c));
	if (!t->want || !worker_settle(&w, t->ranks))
		worker_close(&w);
	worker_step(&w, 9);
}

/* One millisecond of a hundred is the actor's, until its call has taken longer than the
 * silence, or all have the error of the deadline. */
static int slow_down(struct trial *t)
{
	struct trial_note *n = &t->note[t->actor];
	uint64_t most_ns = t->config.silence_ms * (uint64_t)1200000, end = now_ms() + 40000, from;
	int bad = trial_await(t, trial_all(t), 1), known = 0;

	while (!bad && known < t->ranks && now_ms() < end) {
		trial_signal(t, 1u << t->actor, SIGSTOP);
		nap_ms(99);
		trial_signal(t, 1u << t->actor, SIGCONT);
		nap_ms(1);
		from = __atomic_load_n(&n->flags[0], __ATOMIC_ACQUIRE);
		if (!t->want && from && trial_now_ns() - from > most_ns)
			break;
		known = 0;
		for (int r = 0; r < t->ranks; r++)
			known += trial_load(&t->note[r].step) >= 2;
	}
	__atomic_store_n(&t->stop, 1, __ATOMIC_RELEASE);
	bad |= trial_await(t, trial_all(t), 9);
	if (bad || t->want || n->flags[1] > most_ns)
		return bad;
	fprintf(stderr, "no call took long\n");
	return 1;
}

void trial_b8(struct trial *t, int i)
{
	trial_vary(t, FAULT_NONE, i % 2 ? COLLX_ERR_TIMEOUT : COLLX_OK, i);
	t->op = OP_ALLREDUCE;
	t->count = BIGGEST;
	t->live = measure_calls;
	t->drive = slow_down;
}

/* ---- H4: a thread forks, another one calls ---- */

static void *fork_often(void *arg)
{
	struct worker *w = arg;
	uint64_t end = now_ms() + 500;
	uintptr_t bad = 0;

	guard_begins(w->c);
	while (now_ms() < end || w->t->note[w->me].flags[0] < 3) {
		int status = -1;
		pid_t pid = fork();

		if (pid == 0)
			_exit(collx_barrier(w->c, NULL) != COLLX_ERR_FORKED);
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
			bad++;
		__atomic_add_fetch(&w->t->note[w->me].flags[0], 1, __ATOMIC_RELAXED);
	}
	__atomic_store_n(&w->t->stop, 1, __ATOMIC_RELEASE);
	return (void *)bad;
}

static void fork_in_calls(struct trial *t, int rank)
{
	struct worker w;
	pthread_t thread;
	void *bad = NULL;

	if (worker_open(&w, t, rank))
		return;
	if (rank == t->actor)
		EXPECT(!pthread_create(&thread, NULL, fork_often, &w), "no thread");
	worker_until_stop(&w);
	if (rank == t->actor)
		pthread_join(thread, &bad);
	EXPECT(!bad, "%d children had another code", (int)(uintptr_t)bad);
	EXPECT(rank != t->actor || t->note[rank].flags[0] >= 3, "it hardly forked");
	for (int i = 0; i < 20; i++)
		EXPECT(!worker_call(&w), "rank %d: %s", rank, collx_last_error(w.c));
	worker_close(&w);
	worker_step(&w, 9);
}

void trial_h4(struct trial *t, int i)
{
	trial_vary(t, FAULT_NONE, COLLX_OK, i);
	t->live = fork_in_calls;
	t->drive = trial_wait;
}
