/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The structured error, of real processes: whatever happens, all who are left have the same
 * one in all members but the times, and it says in which call who saw it first was, how far,
 * and how long ago it happened.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <criterion/criterion.h>

#include "tests/world.h"

enum { RANKS = 4, LATE_MS = 300, SILENCE_MS = 900, DEADLINE_MS = 400 };

enum what { DIES, STOPS, NEVER_COMES, COMES_LATE_TO_A_REDUCE, CALLS_ANOTHER, ABORTS, REVOKES,
	    LEAVES, DIES_IN_A_DECISION, SENDS_NOTHING, BREAKS_A_PROMISE_LATER,
	    LEAVES_AFTER_A_MESSAGE };

struct mishap {
	const char *name;
	enum what what;
	int ranks, who;
	collx_result code;
	collx_call call;
	uint64_t op;
	unsigned phases;      /* that are true, as bits */
	unsigned since_ms;    /* at least so long ago when it is known */
	const char *text;     /* in the line */
	int origin;           /* -2: anybody */
};

/* Shared by the ranks. */
struct outcome {
	const struct mishap *t;
	pid_t pid[RANKS];
	int coming; /* who are about to call */
	int known;
	collx_error error[RANKS];
};

#define PHASE(p) (1u << COLLX_PHASE_##p)
static const struct mishap mishaps[] = {
	{ "a death in an allreduce", DIES, 4, 2, COLLX_ERR_PEER_DEAD, COLLX_CALL_ALLREDUCE, 2,
	  PHASE(CALL), 0, "rank 2 died", -1 },
	/* Each sees it for itself, from wherever it is. */
	{ "the death of rank 0", DIES, 4, 0, COLLX_ERR_PEER_DEAD, COLLX_CALL_NONE, 0, PHASE(NONE),
	  0, "rank 0 died", -1 },
	{ "a stop", STOPS, 4, 3, COLLX_ERR_PEER_SILENT, COLLX_CALL_ALLREDUCE, 2, PHASE(CALL),
	  SILENCE_MS, "rank 3 is silent", -1 },
	{ "the stop of rank 0", STOPS, 4, 0, COLLX_ERR_PEER_SILENT, COLLX_CALL_NONE, 0,
	  PHASE(NONE), SILENCE_MS, "rank 0 is silent", -1 },
	{ "a deadline", NEVER_COMES, 2, 1, COLLX_ERR_TIMEOUT, COLLX_CALL_ALLREDUCE, 2,
	  PHASE(WAITING), DEADLINE_MS, "missing: rank 1", 0 },
	{ "the deadline of a reduce to which one came", COMES_LATE_TO_A_REDUCE, 3, 2,
	  COLLX_ERR_TIMEOUT, COLLX_CALL_REDUCE, 2, PHASE(TRANSFERRING), DEADLINE_MS,
	  "missing: rank 2", 0 },
	{ "another call", CALLS_ANOTHER, 3, 1, COLLX_ERR_MISMATCH, COLLX_CALL_ALLREDUCE, 2,
	  PHASE(WAITING) | PHASE(TRANSFERRING) | PHASE(CALL), 0, "rank 1 called", -2 },
	{ "an abort", ABORTS, 4, 1, COLLX_ERR_ABORTED, COLLX_CALL_NONE, 0, PHASE(NONE), 0,
	  "rank 1 aborted the communicator", 1 },
	{ "a revoke", REVOKES, 4, 2, COLLX_ERR_REVOKED, COLLX_CALL_NONE, 0, PHASE(NONE), 0,
	  "revoked", 2 },
	{ "a rank that left", LEAVES, 3, 2, COLLX_ERR_PEER_LEFT, COLLX_CALL_ALLREDUCE, 2,
	  PHASE(WAITING) | PHASE(TRANSFERRING), 0, "rank 2 left", -2 },
	{ "a death in a decision", DIES_IN_A_DECISION, 4, 3, COLLX_ERR_PEER_DEAD, COLLX_CALL_NONE,
	  0, PHASE(DECIDING), 0, "rank 3 died", -1 },
	{ "a message that does not come", SENDS_NOTHING, 3, 2, COLLX_ERR_TIMEOUT, COLLX_CALL_RECV,
	  0, PHASE(WAITING), DEADLINE_MS, "recv", 0 },
	/* The decision before is over, and so is the message. */
	{ "a deadline after a promise that was kept", BREAKS_A_PROMISE_LATER, 2, 1,
	  COLLX_ERR_TIMEOUT, COLLX_CALL_ALLREDUCE, 2, PHASE(WAITING), DEADLINE_MS,
	  "missing: rank 1", 0 },
	{ "a message to one that left", LEAVES_AFTER_A_MESSAGE, 2, 1, COLLX_ERR_PEER_LEFT,
	  COLLX_CALL_SEND, 0, PHASE(WAITING), 0, "left", 0 },
};
enum { MISHAPS = sizeof(mishaps) / sizeof(mishaps[0]) };

static int sum(collx_comm_t c, size_t count)
{
	static float in[8], out[8];

	return collx_allreduce(in, out, count, COLLX_FLOAT32, COLLX_SUM, c, NULL);
}

static int first_sum(const struct mishap *t, collx_comm_t c)
{
	collx_opts o = COLLX_OPTS_INIT;
	float in[8] = { 0 }, out[8];

	o.flags = t->what == BREAKS_A_PROMISE_LATER ? COLLX_UNIFORM : 0;
	return collx_allreduce(in, out, 8, COLLX_FLOAT32, COLLX_SUM, c, &o);
}

static void send_to_leaver(collx_comm_t c, int to)
{
	collx_rank_health h[RANKS];
	float one = 0;

	EXPECT(!collx_recv(&one, 1, COLLX_FLOAT32, to, c, NULL), "%s", collx_last_error(c));
	while (!collx_comm_health(c, h, to + 1) && h[to].state != COLLX_RANK_LEFT)
		nap_ms(1);
	collx_send(&one, 1, COLLX_FLOAT32, to, c, NULL);
}

/* What those do whose error is looked at. */
static void suffer(const struct mishap *t, collx_comm_t c, int rank)
{
	collx_opts o = COLLX_OPTS_INIT;
	collx_error e = COLLX_ERROR_INIT;
	float in[8] = { 0 }, out[8];
	uint64_t flags = 1;

	o.timeout_ms = DEADLINE_MS;
	switch (t->what) {
	case LEAVES_AFTER_A_MESSAGE: send_to_leaver(c, t->who); break;
	case BREAKS_A_PROMISE_LATER:
	case NEVER_COMES: collx_allreduce(in, out, 8, COLLX_FLOAT32, COLLX_SUM, c, &o); break;
	case COMES_LATE_TO_A_REDUCE:
		nap_ms(rank == 0 ? 100 : 0); /* the other one's part is there */
		collx_reduce(in, out, 8, COLLX_FLOAT32, COLLX_SUM, 0, c, &o);
		break;
	case DIES_IN_A_DECISION:
		o.timeout_ms = 20000;
		while (rank == 1 && !collx_comm_error(c, &e) && !e.code) /* they wait for it */
			nap_ms(1);
		collx_comm_agree(c, &flags, NULL, &o);
		break;
	case SENDS_NOTHING:
		if (rank == 0)
			collx_recv(out, 8, COLLX_FLOAT32, t->who, c, &o);
		break;
	default: sum(c, 8);
	}
}

static bool leaves(const struct mishap *t)
{
	return t->what == LEAVES || t->what == LEAVES_AFTER_A_MESSAGE;
}

/* What it is that happens; false: its error is looked at, too. */
static bool act(struct outcome *o, collx_comm_t c)
{
	const struct mishap *t = o->t;
	const float one = 1;

	while (__atomic_load_n(&o->coming, __ATOMIC_SEQ_CST) < t->ranks - 1)
		nap_ms(1);
	if (t->what != CALLS_ANOTHER)
		nap_ms(LATE_MS); /* the others are in their calls */
	switch (t->what) {
	case DIES:
	case DIES_IN_A_DECISION: raise(SIGKILL); return true;
	case STOPS: raise(SIGSTOP); return true; /* for good */
	case LEAVES: return true;
	case LEAVES_AFTER_A_MESSAGE:
		EXPECT(!collx_send(&one, 1, COLLX_FLOAT32, 0, c, NULL), "%s", collx_last_error(c));
		return true;
	case CALLS_ANOTHER: sum(c, 7); break;
	case ABORTS: EXPECT(!collx_comm_abort(c), "%s", collx_last_error(c)); break;
	case REVOKES: EXPECT(!collx_comm_revoke(c), "%s", collx_last_error(c)); break;
	default:;
	}
	return false;
}

static void await_error(collx_comm_t c, collx_error *e)
{
	uint64_t end = now_ms() + 30000;

	while (!collx_comm_error(c, e) && !e->code && now_ms() < end)
		nap_ms(1);
	EXPECT(e->since_us >= e->known_us && e->known_us < 30000000, "known for %llu of %llu us",
	       (unsigned long long)e->known_us, (unsigned long long)e->since_us);
	nap_ms(5);
	EXPECT(!collx_comm_error(c, e), "%s", collx_last_error(NULL));
}

static void live(collx_comm_t c, int rank, int size, void *arg)
{
	struct outcome *o = arg;
	const struct mishap *t = o->t;
	collx_error *e = &o->error[rank];
	int others = size - (t->what == DIES || t->what == STOPS || t->what == DIES_IN_A_DECISION);

	o->pid[rank] = getpid();
	EXPECT(!first_sum(t, c), "rank %d: %s", rank, collx_last_error(c));
	ranks_meet(size);
	*e = (collx_error)COLLX_ERROR_INIT;
	if (rank != t->who) {
		__atomic_fetch_add(&o->coming, 1, __ATOMIC_SEQ_CST);
		suffer(t, c, rank);
	} else if (act(o, c)) {
		return;
	}
	await_error(c, e);
	/* Who ends is not to be taken for another death, nor freed before all have looked. */
	__atomic_fetch_add(&o->known, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&o->known, __ATOMIC_SEQ_CST) < others - leaves(t))
		nap_ms(1);
	if (t->what == STOPS)
		kill(o->pid[t->who], SIGKILL);
}

static bool is_same(const collx_error *a, const collx_error *b)
{
	return a->size == b->size && a->code == b->code && a->origin == b->origin &&
	       a->rank == b->rank && a->nranks == b->nranks &&
	       !memcmp(a->ranks, b->ranks, sizeof(a->ranks)) && a->evidence == b->evidence &&
	       a->sys_errno == b->sys_errno && a->call == b->call && a->op == b->op &&
	       a->phase == b->phase && !strcmp(a->text, b->text);
}

static void expect_error(const struct mishap *t, const collx_error *e, int rank)
{
	cr_expect(e->code == t->code && strstr(e->text, t->text) &&
		  (t->origin == -2 ? e->origin >= 0 : e->origin == t->origin),
		  "%s: rank %d: %s of rank %d: %s", t->name, rank, collx_strerror(e->code),
		  e->origin, e->text);
	cr_expect(e->call == t->call && e->op == t->op && t->phases >> e->phase & 1,
		  "%s: rank %d: call %d, operation %d, phase %d", t->name, rank, (int)e->call,
		  (int)e->op, (int)e->phase);
	cr_expect(e->since_us >= t->since_ms * 1000ull && e->since_us - e->known_us <
		  (t->since_ms + 8000) * 1000ull,
		  "%s: rank %d: %d us ago, known for %d", t->name, rank, (int)e->since_us,
		  (int)e->known_us);
}

static void run(const struct mishap *t, const char *transport)
{
	struct outcome *o = mmap(NULL, sizeof(*o), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	bool ends = t->what == DIES || t->what == STOPS || t->what == DIES_IN_A_DECISION;
	collx_config config = COLLX_CONFIG_INIT;
	struct world w = { .size = t->ranks, .fn = live, .arg = o, .config = &config,
			   .transport = transport,
			   .killed = ends ? 1u << t->who : 0 };
	int first = t->who == 0;

	cr_assert(o != MAP_FAILED);
	o->t = t;
	config.heartbeat_ms = 100;
	config.silence_ms = t->what == STOPS ? SILENCE_MS : 10000;
	cr_assert_eq(world_run(&w), 0, "%s", t->name);
	for (int r = 0; r < t->ranks; r++) {
		if (r == t->who && (ends || leaves(t)))
			continue;
		expect_error(t, &o->error[r], r);
		cr_expect(is_same(&o->error[r], &o->error[first]),
			  "%s: rank %d and rank %d have not the same: %s; %s", t->name, r, first,
			  o->error[r].text, o->error[first].text);
	}
	munmap(o, sizeof(*o));
}

Test(errors, are_the_same_in_all_members, .timeout = 300)
{
	for (int i = 0; i < MISHAPS; i++)
		run(&mishaps[i], NULL);
}

Test(errors, are_the_same_over_tcp, .timeout = 300)
{
	for (int i = 0; i < MISHAPS; i++)
		run(&mishaps[i], "tcp");
}
