/* SPDX-License-Identifier: BSD-3-Clause */
/* Trials; see trial.h. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/base/base.h"
#include "src/comm.h"
#include "src/topo.h"
#include "tests/hosts.h"
#include "tests/trial.h"
#include "tests/world.h"

enum { PATIENCE_MS = 60000, CALLS_AFTER = 4 };

/* ---- small things ---- */

uint64_t trial_now_ns(void)
{
	return cx_sys_real.now_ns();
}

unsigned trial_all(const struct trial *t)
{
	return (1u << t->ranks) - 1;
}

unsigned trial_draw(const struct trial *t, unsigned what, unsigned n)
{
	return (unsigned)(mix64(t->seed * 64 + what) % n);
}

int trial_load(const int *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void store(int *p, int v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

struct trial *trial_make(void)
{
	struct trial *t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (t == MAP_FAILED)
		abort();
	/* hwloc's plugins, for all the ranks to come, who would load them one after the other. */
	cx_topo_read(&(struct cx_topo){ 0 });
	return t;
}

void trial_free(struct trial *t)
{
	munmap(t, sizeof(*t));
}

/* ---- beside the ranks ---- */

/* Without its end being taken note of. */
static bool has_ended(const struct trial *t, int p)
{
	siginfo_t info = { 0 };

	return t->pids[p] > 0 && !waitid(P_PID, (id_t)t->pids[p], &info,
					 WEXITED | WNOHANG | WNOWAIT) && info.si_pid;
}

int trial_check(const struct trial *t, int p, uint64_t end_ms)
{
	nap_ms(1);
	return now_ms() >= end_ms || has_ended(t, p);
}

int trial_await(struct trial *t, unsigned who, int step)
{
	uint64_t end = now_ms() + PATIENCE_MS;

	for (int p = 0; p < TRIAL_PEOPLE; p++)
		while (who >> p & 1 && trial_load(&t->note[p].step) < step) {
			if (!trial_check(t, p, end) || trial_load(&t->note[p].step) >= step)
				continue;
			fprintf(stderr, "rank %d came to step %d, not to %d\n", p,
				trial_load(&t->note[p].step), step);
			return 1;
		}
	return 0;
}

void trial_signal(struct trial *t, unsigned who, int sig)
{
	for (int p = 0; p < TRIAL_PEOPLE; p++)
		if (who >> p & 1 && t->pids[p] > 0)
			kill(t->pids[p], sig);
}

pid_t trial_join(struct trial *t, void (*live)(struct trial *t, int rank), int rank)
{
	pid_t pid = rank_fork();

	if (pid == 0) {
		hosts_enter(rank, t->ranks);
		live(t, rank);
		rank_exit();
	}
	t->pids[rank] = pid;
	return pid;
}

/* The usual course: all are ready, it happens, and those who are left go on. */
static int drive(struct trial *t)
{
	unsigned others = trial_all(t) & ~t->victims;
	pid_t group = ranks_group(t->pids, t->ranks, t->victims);

	if (trial_await(t, trial_all(t), 1))
		return 1;
	nap_ms(trial_draw(t, 1, 40));
	t->hit_ns = trial_now_ns();
	store(&t->go, 1);
	if (group && (t->fault == FAULT_KILL || t->fault == FAULT_STOP))
		kill(group, t->fault == FAULT_KILL ? SIGKILL : SIGSTOP);
	if (t->fault == FAULT_SIGNAL)
		trial_signal(t, 1u << t->actor, SIGUSR1);
	return trial_await(t, others, 9);
}

static void end_victims(struct trial *t)
{
	for (int p = 0; p < t->ranks; p++)
		if (t->victims >> p & 1 && t->pids[p] > 0) {
			kill(t->pids[p], SIGKILL);
			waitpid(t->pids[p], NULL, 0);
			t->pids[p] = 0;
		}
	for (int p = 0; p < TRIAL_PEOPLE; p++)
		if (t->note[p].child)
			kill(t->note[p].child, SIGKILL);
}

/* How long it took the last of those who are left. */
static void measure(struct trial *t)
{
	uint64_t known = 0, again = 0;

	for (int r = 0; r < t->ranks; r++) {
		if (t->victims >> r & 1)
			continue;
		known = cx_max(known, t->note[r].known_ns);
		again = cx_max(again, t->note[r].again_ns);
	}
	if (t->hit_ns && known > t->hit_ns)
		t->told_ms = (double)(known - t->hit_ns) / 1e6;
	if (again > known && known)
		t->again_ms = (double)(again - known) / 1e6;
}

/* All who looked at their first error had one, but for the times. Where a host's first rank
 * is lost with others, no one place knows of all. */
static int compare_errors(const struct trial *t)
{
	const collx_error *first = NULL;
	int bad = 0;

	for (int r = 0; r < t->ranks && t->path != PATH_MIXED; r++) {
		collx_error e = t->note[r].error;

		if (!e.code)
			continue;
		first = first ? first : &t->note[r].error;
		e.since_us = first->since_us;
		e.known_us = first->known_us;
		if (!memcmp(&e, first, offsetof(collx_error, text)) && !strcmp(e.text, first->text))
			continue;
		fprintf(stderr, "rank %d: of %d about %d, call %d, operation %d, phase %d: %s; "
			"but: of %d about %d, call %d, operation %d, phase %d: %s\n", r, e.origin,
			e.rank, e.call, (int)e.op, e.phase, e.text, first->origin, first->rank,
			first->call, (int)first->op, first->phase, first->text);
		bad = 1;
	}
	return bad;
}

static int two_hosts(int rank, int ranks)
{
	return rank >= ranks / 2;
}

int trial_run(struct trial *t)
{
	int rc, bad;

	if (folder_make(t->base) ||
	    hosts_lay_out(t->path == PATH_MIXED ? two_hosts : NULL, t->ranks))
		return 1;
	if (t->path != PATH_MIXED)
		setenv("COLLX_TRANSPORT", t->path == PATH_TCP ? "tcp" : "shm", 1);
	if (collx_get_unique_id(&t->id)) {
		fprintf(stderr, "unique id: %s\n", collx_last_error(NULL));
		return 1;
	}
	fflush(stdout);
	fflush(stderr);
	for (int r = 0; r < t->ranks; r++)
		trial_join(t, t->live, r);
	bad = t->drive ? t->drive(t) : drive(t);
	store(&t->stop, 1);
	end_victims(t);
	rc = ranks_wait(t->pids, TRIAL_PEOPLE, 0, bad ? 2 : PATIENCE_MS / 1000);
	measure(t);
	bad |= compare_errors(t);
	/* Who was killed while it made a communicator leaves its socket there. */
	if (t->victims || bad || rc) {
		char line[80];

		snprintf(line, sizeof(line), "rm -rf %s", t->base);
		return system(line) || rc || bad;
	}
	return folder_gone(t->base) || rc;
}

/* ---- payloads ---- */

static uint64_t key_of(const struct worker *w, uint64_t op, int rank)
{
	return mix64(mix64(w->t->seed << 32 | w->epoch << 24 | op) + (uint64_t)rank);
}

/* Integers: any order of eight of them is exact. */
static float value(uint64_t key, size_t i)
{
	return (float)((key + i * 0x9e3779b97f4a7c15u) >> 54);
}

static float *room_for(size_t n)
{
	float *p = mmap(NULL, n * sizeof(*p), PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

/* What element i of the result must be. */
static float expected(const struct worker *w, enum trial_op op, const uint64_t *keys, int root,
		      size_t i)
{
	int size = collx_comm_size(w->c), rank = collx_comm_rank(w->c);
	size_t count = w->t->count;
	float sum = 0;

	if (op == OP_BROADCAST)
		return value(keys[root], i);
	if (op == OP_ALLGATHER)
		return value(keys[i / count], i % count);
	if (op == OP_MESSAGE)
		return value(keys[(rank + size - 1) % size], i);
	if (op == OP_REDUCE_SCATTER)
		i += (size_t)rank * count;
	for (int r = 0; r < size; r++)
		sum += value(keys[r], i);
	return sum;
}

static void check_result(const struct worker *w, enum trial_op op, int root)
{
	int size = collx_comm_size(w->c), rank = collx_comm_rank(w->c);
	size_t n = op == OP_ALLGATHER ? w->t->count * (size_t)size : w->t->count;
	uint64_t keys[TRIAL_PEOPLE];

	if (op == OP_BARRIER || (op == OP_REDUCE && rank != root))
		return;
	for (int r = 0; r < size; r++)
		keys[r] = key_of(w, w->op, r);
	for (size_t i = 0; i < n; i++) {
		float want = expected(w, op, keys, root, i);

		if (!EXPECT(w->out[i] == want, "rank %d: operation %d of epoch %u: success, but "
			    "element %zu is %g, not %g", w->me, (int)w->op, w->epoch, i,
			    (double)w->out[i], (double)want))
			return;
	}
}

/* To the next rank, from the one before; ranks of odd number receive first. */
static int pass_on(struct worker *w, size_t n, collx_type type)
{
	int rank = collx_comm_rank(w->c), size = collx_comm_size(w->c), rc = 0;
	int before = (rank + size - 1) % size, after = (rank + 1) % size;

	if (size == 1)
		memcpy(w->out, w->in, n * sizeof(float));
	if (size > 1 && rank % 2)
		rc = collx_recv(w->out, n, type, before, w->c, w->opts);
	if (size > 1 && !rc)
		rc = collx_send(w->in, n, type, after, w->c, w->opts);
	if (size > 1 && !rc && rank % 2 == 0)
		rc = collx_recv(w->out, n, type, before, w->c, w->opts);
	return rc;
}

static int call(struct worker *w, enum trial_op op, size_t n, collx_type type, collx_op with,
		int root)
{
	switch (op) {
	case OP_BROADCAST: return collx_broadcast(w->in, w->out, n, type, root, w->c, w->opts);
	case OP_REDUCE: return collx_reduce(w->in, w->out, n, type, with, root, w->c, w->opts);
	case OP_ALLGATHER: return collx_allgather(w->in, w->out, n, type, w->c, w->opts);
	case OP_REDUCE_SCATTER:
		return collx_reduce_scatter(w->in, w->out, n, type, with, w->c, w->opts);
	case OP_BARRIER: return collx_barrier(w->c, w->opts);
	case OP_MESSAGE: return pass_on(w, n, type);
	default: return collx_allreduce(w->in, w->out, n, type, with, w->c, w->opts);
	}
}

static int begin(struct worker *w)
{
	int size = collx_comm_size(w->c);
	uint64_t key = key_of(w, ++w->op, collx_comm_rank(w->c));

	for (size_t i = 0; i < w->room && i < w->t->count * (size_t)size; i++)
		w->in[i] = value(key, i);
	memset(w->out, 0xa5, w->t->count * sizeof(float));
	return w->t->root >= 0 && w->t->root < size ? w->t->root : (int)(w->op % (unsigned)size);
}

int worker_call(struct worker *w)
{
	int root = begin(w), rc;

	rc = call(w, w->t->op, w->t->count, COLLX_FLOAT32, COLLX_SUM, root);
	if (!rc)
		check_result(w, w->t->op, root);
	return rc;
}

int worker_call_odd(struct worker *w)
{
	enum trial_op op = w->t->op;
	collx_type type = COLLX_FLOAT32;
	collx_op with = COLLX_SUM;
	size_t n = w->t->count;
	int root = begin(w);

	switch (w->t->fault) {
	case FAULT_COUNT: n--; break;
	case FAULT_TYPE: type = COLLX_INT32; break;
	case FAULT_OP: with = COLLX_MAX; break;
	case FAULT_ROOT: root = (root + 1) % collx_comm_size(w->c); break;
	case FAULT_COLL: op = op == OP_ALLREDUCE ? OP_REDUCE : OP_ALLREDUCE; break;
	default: n -= 2; /* the call after the one that was skipped */
	}
	return call(w, op, n, type, with, root);
}

/* ---- what the actor does ---- */

static collx_comm_t actors_comm;

static void on_signal(int sig)
{
	(void)sig;
	collx_comm_abort_from_signal(actors_comm);
}

/* A data loader, say, which lives on. */
static void leave_child(struct worker *w)
{
	pid_t pid;

	guard_begins(w->c);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, 0);
		store(&w->t->note[w->me].child, getpid());
		for (;;)
			pause();
	}
	while (!trial_load(&w->t->note[w->me].child))
		nap_ms(1);
	w->t->hit_ns = trial_now_ns();
	raise(SIGKILL);
}

static void *abort_it(void *arg)
{
	struct worker *w = arg;

	for (int i = 0; i < 2; i++) {
		int rc = collx_comm_abort(w->c);

		EXPECT(rc == 0, "rank %d: abort: %s", w->me, collx_strerror(rc));
	}
	return NULL;
}

static void abort_twice(struct worker *w)
{
	pthread_t other;

	EXPECT(!pthread_create(&other, NULL, abort_it, w), "no thread");
	abort_it(w);
	pthread_join(other, NULL);
}

static void *act(void *arg)
{
	struct worker *w = arg;

	while (!trial_load(&w->t->go))
		nap_ms(1);
	w->t->hit_ns = trial_now_ns();
	switch (w->t->fault) {
	case FAULT_EXIT: _exit(0);
	case FAULT_ABORT: signal(SIGABRT, SIG_DFL); abort();
	case FAULT_SEGV: signal(SIGSEGV, SIG_DFL); raise(SIGSEGV); break;
	case FAULT_EXEC: execl("/bin/sleep", "sleep", "60", (char *)NULL); break;
	case FAULT_CHILD: leave_child(w); break;
	case FAULT_ABORT_COMM: collx_comm_abort(w->c); break;
	case FAULT_ABORT_TWICE: abort_twice(w); break;
	case FAULT_REVOKE: collx_comm_revoke(w->c); break;
	default: break;
	}
	return NULL;
}

static bool acts_beside(const struct trial *t)
{
	return t->fault >= FAULT_EXIT && t->fault <= FAULT_REVOKE;
}

static bool acts_itself(const struct trial *t)
{
	return t->fault >= FAULT_LEAVE;
}

/* ---- a rank's life ---- */

int worker_open(struct worker *w, struct trial *t, int rank)
{
	int rc;

	*w = (struct worker){ .t = t, .me = rank };
	w->room = t->count * (t->op == OP_ALLGATHER || t->op == OP_REDUCE_SCATTER ||
			      t->op == OP_ALLREDUCE ? TRIAL_PEOPLE : 1);
	if (t->op == OP_ALLREDUCE)
		w->room = t->count;
	w->in = room_for(w->room);
	w->out = room_for(w->room);
	rc = collx_comm_create(&w->c, t->ranks, &t->id, rank, &t->config);
	if (!EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(NULL)))
		return rc;
	t->note[rank].size = t->ranks;
	for (int i = 0; !rc && i < 3; i++)
		rc = worker_call(w);
	if (!EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(w->c)))
		return rc;
	actors_comm = w->c;
	signal(SIGUSR1, on_signal);
	worker_step(w, 1);
	return 0;
}

int worker_open_with_all(struct worker *w, struct trial *t, int rank)
{
	int rc = worker_open(w, t, rank);

	for (int r = 0; !rc && r < t->ranks; r++)
		while (trial_load(&t->note[r].step) < 1)
			nap_ms(1);
	return rc;
}

void worker_close(struct worker *w)
{
	int rc = collx_comm_destroy(w->c);

	EXPECT(rc == 0, "rank %d: destroy: %s", w->me, collx_last_error(NULL));
	EXPECT(!collx_comm_destroy(w->fresh), "rank %d: %s", w->me, collx_last_error(NULL));
	w->c = w->fresh = NULL;
}

void worker_step(struct worker *w, int step)
{
	store(&w->t->note[w->me].step, step);
}

static int call_until_error(struct worker *w)
{
	bool odd = w->me == w->t->actor && acts_itself(w->t);
	int rc = 0;

	while (!rc) {
		if (odd && trial_load(&w->t->go)) {
			odd = false;
			w->t->hit_ns = trial_now_ns();
			rc = worker_call_odd(w);
		} else {
			rc = worker_call(w);
		}
		w->t->note[w->me].ops += rc == 0;
	}
	return rc;
}

static void *call_in_thread(void *arg)
{
	return (void *)(intptr_t)call_until_error(arg);
}

/* Meanwhile the descriptor tells: of whom they wait for, too, who may have stopped. */
static int watch_bell(struct worker *w)
{
	struct pollfd p = { .fd = collx_comm_event_fd(w->c), .events = POLLIN };
	collx_straggler s = COLLX_STRAGGLER_INIT;
	collx_error e = COLLX_ERROR_INIT;
	bool interrupted;
	int n;

	EXPECT(p.fd >= 0, "rank %d: event_fd: %s", w->me, collx_last_error(w->c));
	do {
		n = poll(&p, 1, PATIENCE_MS);
		interrupted = n < 0 && errno == EINTR;
		EXPECT(!collx_comm_straggler(w->c, &s) && !collx_comm_error(w->c, &e),
		       "rank %d: %s", w->me, collx_last_error(NULL));
	} while (interrupted || (n > 0 && !e.code));
	w->t->note[w->me].known_ns = trial_now_ns();
	return EXPECT(p.revents & POLLIN, "rank %d was told nothing", w->me) ? 0 : 1;
}

static int wait_variously(struct worker *w)
{
	pthread_t thread;
	void *rc;

	if (w->t->how == HOW_CALL || acts_itself(w->t))
		return call_until_error(w);
	if (w->t->how == HOW_IDLE) {
		watch_bell(w);
		return worker_call(w);
	}
	EXPECT(!pthread_create(&thread, NULL, call_in_thread, w), "no thread");
	watch_bell(w);
	pthread_join(thread, &rc);
	return (int)(intptr_t)rc;
}

int worker_until_error(struct worker *w)
{
	struct trial_note *n = &w->t->note[w->me];
	pthread_t actor;
	int rc;

	if (w->me == w->t->actor && acts_beside(w->t))
		EXPECT(!pthread_create(&actor, NULL, act, w), "no thread");
	rc = wait_variously(w);
	if (!n->known_ns)
		n->known_ns = trial_now_ns();
	if (w->me == w->t->actor && acts_beside(w->t))
		pthread_join(actor, NULL);
	return rc;
}

/* With it a process takes long to end, and no rank waits longer than 50 ms for another death. */
#ifdef __SANITIZE_ADDRESS__
static const bool ends_slowly = true;
#else
static const bool ends_slowly = false;
#endif

/* Nobody is blamed without a reason; of those who died together, all are. Where a leader
 * died with a rank that hung on it, the other host cannot know of both. */
static void expect_blame(const struct worker *w, const collx_error *e, unsigned blamed)
{
	unsigned listed = 0;

	for (int i = 0; i < e->nranks && i < COLLX_ERROR_RANKS; i++)
		listed |= 1u << e->ranks[i];
	EXPECT((e->nranks ? e->rank == e->ranks[0] : e->rank == -1) && !(listed & ~blamed) &&
	       __builtin_popcount(listed) == e->nranks, "rank %d blames %#x of %#x: %s", w->me,
	       listed, blamed, e->text);
	if (w->t->together && w->t->path != PATH_MIXED && !ends_slowly)
		EXPECT(listed == w->t->victims, "rank %d blames %#x, not %#x: %s", w->me, listed,
		       w->t->victims, e->text);
}

void worker_expect_error(struct worker *w, int rc)
{
	collx_error e = COLLX_ERROR_INIT;
	unsigned blamed = w->t->victims;
	int got = collx_comm_error(w->c, &e);

	if (w->t->actor >= 0)
		blamed |= 1u << w->t->actor;
	w->t->note[w->me].code = e.code;
	w->t->note[w->me].rank = e.rank;
	w->t->note[w->me].error = e;
	EXPECT(got == 0 && rc == w->t->want && e.code == rc &&
	       !strcmp(e.text, collx_last_error(w->c)), "rank %d: %s, not %s: %s; %s", w->me,
	       collx_strerror(rc), collx_strerror(w->t->want), collx_last_error(w->c), e.text);
	EXPECT(e.rank < 0 ? !w->t->victims : blamed >> e.rank & 1, "rank %d blames %d: %s", w->me,
	       e.rank, e.text);
	expect_blame(w, &e, blamed);
	if (w->t->fault == FAULT_STOP && w->t->path != PATH_MIXED)
		EXPECT(strstr(e.text, "state T"), "rank %d: %s", w->me, e.text);
	EXPECT(worker_call(w) == rc, "rank %d: another code later", w->me);
}

void worker_lock(struct worker *w)
{
	mprotect(w->in, w->room * sizeof(float), PROT_NONE);
	mprotect(w->out, w->room * sizeof(float), PROT_NONE);
	w->in = room_for(w->room);
	w->out = room_for(w->room);
}

/* Numbers are in the old order, and those who are said to be there are. */
static void check_origins(struct worker *w)
{
	int last = -1, size = collx_comm_size(w->c);

	EXPECT(collx_comm_origin(w->c, collx_comm_rank(w->c)) == w->me, "rank %d: who am I", w->me);
	for (int r = 0; r < size; r++) {
		int o = collx_comm_origin(w->c, r);

		EXPECT(o > last && o < w->t->ranks, "rank %d: rank %d was %d", w->me, r, o);
		last = o;
	}
}

int worker_settle(struct worker *w, int size)
{
	collx_opts patient = COLLX_OPTS_INIT;
	struct trial_note *n = &w->t->note[w->me];
	int rc;

	patient.timeout_ms = 20000;
	for (;;) {
		worker_lock(w);
		rc = collx_comm_repair(&w->c, &patient);
		if (!EXPECT(rc == 0, "rank %d: repair: %s: %s", w->me, collx_strerror(rc),
			    collx_last_error(NULL)))
			return rc;
		if (collx_comm_size(w->c) == size || !n->again_ns)
			n->again_ns = trial_now_ns();
		w->epoch++;
		w->op = 0;
		store(&n->size, collx_comm_size(w->c));
		check_origins(w);
		for (int i = 0; !rc && (i < CALLS_AFTER || collx_comm_size(w->c) > size); i++)
			rc = worker_call(w);
		if (!rc)
			return EXPECT(collx_comm_size(w->c) == size, "rank %d: %d ranks are left, "
				      "not %d", w->me, collx_comm_size(w->c), size) ? 0 : 1;
		EXPECT(collx_comm_size(w->c) > size, "rank %d: after the repair, of %d: %s", w->me,
		       collx_comm_size(w->c), collx_last_error(w->c));
		if (collx_comm_size(w->c) <= size)
			return rc;
	}
}

void worker_until_stop(struct worker *w)
{
	int rc = 0, more = 1;

	while (!rc && more) {
		rc = worker_call(w);
		more = !trial_load(&w->t->stop);
		if (!rc)
			rc = collx_broadcast(&more, &more, 1, COLLX_INT32, 0, w->c, w->opts);
	}
	EXPECT(rc == 0, "rank %d: %s: %s", w->me, collx_strerror(rc), collx_last_error(w->c));
}

int worker_refresh(struct worker *w)
{
	collx_unique_id id;
	int rank = collx_comm_rank(w->c), rc = rank ? 0 : collx_get_unique_id(&id);

	if (!rc)
		rc = collx_broadcast(&id, &id, sizeof(id), COLLX_UINT8, 0, w->c, NULL);
	if (!rc)
		rc = collx_comm_create(&w->fresh, collx_comm_size(w->c), &id, rank, &w->t->config);
	EXPECT(rc == 0, "rank %d: to compare: %s", w->me, collx_last_error(NULL));
	return rc;
}

/* By the communicator c; what comes out, to be unmapped. */
static int call_with_fractions(struct worker *w, collx_comm_t c, enum trial_op op, size_t n,
			       float **out)
{
	struct worker copy = *w;
	size_t all = n * (size_t)collx_comm_size(c);
	int rc;

	copy.c = c;
	copy.in = room_for(all);
	copy.out = *out = room_for(all);
	for (size_t i = 0; i < all; i++) /* their sum depends on the order */
		copy.in[i] = 1.0f / (float)(1 + mix64(i * 16 + (unsigned)w->me) % 99999);
	rc = call(&copy, op, n, COLLX_FLOAT32, COLLX_SUM, (int)(n % (size_t)collx_comm_size(c)));
	munmap(copy.in, all * sizeof(float));
	return rc;
}

int worker_fractions(struct worker *w, enum trial_op op, size_t n)
{
	size_t all = n * (size_t)collx_comm_size(w->c);
	float *out;
	int rc = call_with_fractions(w, w->c, op, n, &out);

	munmap(out, all * sizeof(float));
	return rc;
}

void worker_compare_call(struct worker *w, enum trial_op op, size_t n)
{
	size_t len = n * (size_t)collx_comm_size(w->c) * sizeof(float);
	float *here, *there;
	int rc = call_with_fractions(w, w->c, op, n, &here);

	rc |= call_with_fractions(w, w->fresh, op, n, &there);
	EXPECT(rc == 0, "rank %d: to compare: %s", w->me, collx_last_error(NULL));
	EXPECT(!memcmp(here, there, len), "rank %d: operation %d of %zu: other bits than a fresh "
	       "communicator's", w->me, op, n);
	munmap(here, len);
	munmap(there, len);
}

void worker_compare(struct worker *w)
{
	if (!worker_refresh(w))
		for (int op = 0; op < OPS; op++)
			worker_compare_call(w, (enum trial_op)op, 5000);
	collx_comm_destroy(w->fresh);
	w->fresh = NULL;
}

/* A zombie's: the others went on. */
static void be_excluded(struct worker *w, int rc)
{
	EXPECT(rc == COLLX_ERR_EXCLUDED, "rank %d, back: %s: %s", w->me, collx_strerror(rc),
	       collx_last_error(w->c));
	rc = collx_comm_repair(&w->c, NULL);
	EXPECT(rc == COLLX_ERR_EXCLUDED, "rank %d, back: repair: %s: %s", w->me, collx_strerror(rc),
	       collx_last_error(w->c));
	worker_close(w);
	worker_step(w, 9);
}

/* What was aborted is over. */
static void refuse_to_repair(struct worker *w)
{
	int rc = collx_comm_repair(&w->c, NULL);
	char line[64];

	snprintf(line, sizeof(line), "rank %d aborted the communicator", w->t->actor);
	EXPECT(rc == COLLX_ERR_ABORTED && strstr(collx_last_error(NULL), line),
	       "rank %d: repaired what was aborted: %s: %s", w->me, collx_strerror(rc),
	       collx_last_error(NULL));
	worker_lock(w);
	worker_close(w);
	worker_step(w, 9);
}

void worker_live(struct trial *t, int rank)
{
	struct worker w;
	int rc;

	if (worker_open(&w, t, rank))
		return;
	if (rank == t->actor && t->fault == FAULT_LEAVE) {
		while (!trial_load(&t->go))
			worker_call(&w);
		t->hit_ns = trial_now_ns();
		worker_close(&w);
		worker_step(&w, 9);
		return;
	}
	rc = worker_until_error(&w);
	if (t->fault == FAULT_STOP && t->victims >> rank & 1) {
		be_excluded(&w, rc);
		return;
	}
	worker_expect_error(&w, rc);
	worker_step(&w, 2);
	if (t->want == COLLX_ERR_ABORTED) {
		refuse_to_repair(&w);
		return;
	}
	if (worker_settle(&w, t->ranks - __builtin_popcount(t->victims)))
		return;
	worker_compare(&w);
	worker_step(&w, 8);
	if (t->drive)
		worker_until_stop(&w);
	worker_close(&w);
	worker_step(&w, 9);
}
