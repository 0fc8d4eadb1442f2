/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * send and recv over each transport and over two in one communicator: any length,
 * in order, beside collectives in any order; and what goes wrong.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <criterion/criterion.h>

#include "src/base/base.h"
#include "src/comm.h"
#include "tests/world.h"

enum { ROOM = 32 << 10, AHEAD = 8 /* what send promises to take without a receiver */ };

/* ---- worlds ---- */

static int two_hosts(int rank, int ranks)
{
	return rank >= (ranks + 1) / 2;
}

/* The same ranks over shared memory, as threads, over TCP, and over both. */
static void everywhere(struct world w)
{
	static const char *const names[] = { "shm", "threads", "tcp", "two hosts" };

	for (int i = 0; i < 4; i++) {
		w.threads = i == 1;
		w.transport = i == 2 ? "tcp" : NULL;
		w.host = i == 3 ? two_hosts : NULL;
		cr_assert_eq(world_run(&w), 0, "over %s", names[i]);
	}
}

static unsigned char byte_of(uint64_t seed, size_t i)
{
	return (unsigned char)(mix64(seed ^ i / 8) >> 8 * (i % 8));
}

static void fill(unsigned char *p, size_t len, uint64_t seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = byte_of(seed, i);
}

static int holds(const unsigned char *p, size_t len, uint64_t seed)
{
	for (size_t i = 0; i < len; i++)
		if (p[i] != byte_of(seed, i))
			return 0;
	return 1;
}

/* ---- lengths ---- */

enum { LONGEST = 9999999, EDGE = 64 };
static const size_t lengths[] = { 0, 1, 7, 56, 57, 64, 4096, 16384, 16385, 65537, 1 << 20,
				  LONGEST };
enum { LENGTHS = sizeof(lengths) / sizeof(lengths[0]) };

static void one_way(collx_comm_t c, unsigned char *buf, size_t len, int from, int to)
{
	collx_type type = len % 4 ? COLLX_INT8 : COLLX_FLOAT32;
	size_t count = len / collx_type_size(type);
	uint64_t seed = len * 100 + (uint64_t)from * 10 + (uint64_t)to;
	int rc = 0;

	if (c->rank == from) {
		fill(buf, len, seed);
		rc = collx_send(count ? buf : NULL, count, type, to, c, NULL);
	}
	if (c->rank == to) {
		memset(buf, 0xee, len + EDGE);
		rc = collx_recv(count ? buf : NULL, count, type, from, c, NULL);
		EXPECT(holds(buf, len, seed), "%zu bytes from %d to %d: other bytes", len, from,
		       to);
		for (size_t i = 0; i < EDGE; i++)
			EXPECT(buf[len + i] == 0xee, "%zu bytes: wrote behind them", len);
	}
	EXPECT(rc == 0, "%zu bytes from %d to %d: %s", len, from, to, collx_last_error(c));
}

static void all_lengths(collx_comm_t c, int rank, int size, void *arg)
{
	unsigned char *buf = malloc(LONGEST + EDGE);

	(void)rank;
	(void)arg;
	for (int i = 0; buf && i < LENGTHS; i++)
		for (int from = 0; from < size; from++)
			for (int to = 0; to < size; to++)
				if (from != to)
					one_way(c, buf, lengths[i], from, to);
	EXPECT(buf, "no memory");
	free(buf);
}

Test(p2p, any_length, .timeout = 300)
{
	everywhere((struct world){ .size = 2, .fn = all_lengths });
	everywhere((struct world){ .size = 3, .fn = all_lengths });
}

/* Both send as much as need not wait, and only then receive. */
static void send_first(collx_comm_t c, int rank, int size, void *arg)
{
	static _Thread_local unsigned char out[AHEAD][ROOM], in[ROOM];
	int n = *(int *)arg, rc = 0;

	for (int round = 0; !rc && round < 50; round++) {
		size_t len = n == 1 ? ROOM : (size_t)(ROOM / n - (round % 3 ? 4000 : 0));

		for (int i = 0; !rc && i < n; i++) {
			fill(out[i], len, (uint64_t)(rank * 1000 + round * 10 + i));
			rc = collx_send(out[i], len, COLLX_UINT8, !rank, c, NULL);
		}
		for (int i = 0; !rc && i < n; i++) {
			rc = collx_recv(in, len, COLLX_UINT8, !rank, c, NULL);
			EXPECT(holds(in, len, (uint64_t)(!rank * 1000 + round * 10 + i)),
			       "message %d of round %d", i, round);
		}
	}
	EXPECT(rc == 0, "rank %d of %d: %s", rank, size, collx_last_error(c));
}

Test(p2p, room_for_what_is_promised, .timeout = 120)
{
	static int counts[] = { 1, 2, AHEAD };

	for (int i = 0; i < 3; i++)
		everywhere((struct world){ .size = 2, .fn = send_first, .arg = &counts[i] });
}

/* ---- beside collectives ---- */

enum { EPOCHS = 300, BACKLOG = 5, MESSAGE = 4000, VECTOR = 40000 };

static uint32_t draw(uint64_t seed, int a, int b, int c, uint32_t n)
{
	return (uint32_t)(mix64(seed << 48 ^ (uint64_t)a << 32 ^ (uint64_t)b << 16 ^
				(uint64_t)c) % n);
}

/* Messages that `from` has sent to `to` up to the end of an epoch, by plan. */
static int sent_by(uint64_t seed, int epoch, int from, int to)
{
	int n = 0;

	for (int e = 0; e <= epoch; e++)
		n += (int)draw(seed, e, from, to, 3);
	return n;
}

struct talk {
	collx_comm_t c;
	uint64_t seed;
	int sent[WORLD_MAX], received[WORLD_MAX];
	int rc;
};

static void talk(struct talk *t, int peer, int sending)
{
	static _Thread_local unsigned char buf[MESSAGE];
	int n = sending ? t->sent[peer]++ : t->received[peer]++;
	int from = sending ? t->c->rank : peer, to = sending ? peer : t->c->rank;
	size_t len = draw(t->seed, n, from * 16 + to, 1, 4) ? draw(t->seed, n, from, to, 65)
							     : draw(t->seed, n, from, to, MESSAGE);
	uint64_t what = (uint64_t)n << 16 | (uint64_t)from << 8 | (uint64_t)to;

	if (t->rc)
		return;
	if (sending) {
		fill(buf, len, what);
		t->rc = collx_send(buf, len, COLLX_UINT8, peer, t->c, NULL);
		return;
	}
	t->rc = collx_recv(buf, len, COLLX_UINT8, peer, t->c, NULL);
	EXPECT(t->rc || holds(buf, len, what), "message %d from %d to %d", n, from, to);
}

static void talk_to_all(struct talk *t, int epoch, int sending)
{
	for (int p = 0; p < t->c->size; p++) {
		int all, upto;

		if (p == t->c->rank)
			continue;
		all = sending ? sent_by(t->seed, epoch, t->c->rank, p)
			      : sent_by(t->seed, epoch, p, t->c->rank);
		upto = all;
		if (!sending && epoch < EPOCHS - 1)
			upto -= (int)draw(t->seed, epoch, p, t->c->rank + 100, BACKLOG);
		while (!t->rc && (sending ? t->sent[p] : t->received[p]) < upto)
			talk(t, p, sending);
	}
}

static void meet(struct talk *t, int epoch)
{
	static _Thread_local int32_t in[VECTOR], out[VECTOR];
	size_t n = 1 + draw(t->seed, epoch, 7, 7, epoch % 8 ? 50 : VECTOR - 1);
	int what = (int)draw(t->seed, epoch, 1, 2, 3), ranks = t->c->size;

	for (size_t i = 0; i < n; i++)
		in[i] = (int32_t)i + epoch;
	if (what == 0) {
		t->rc = collx_barrier(t->c, NULL);
		return;
	}
	if (what == 1)
		t->rc = collx_allreduce(in, out, n, COLLX_INT32, COLLX_SUM, t->c, NULL);
	else
		t->rc = collx_broadcast(in, out, n, COLLX_INT32, epoch % ranks, t->c, NULL);
	EXPECT(t->rc || out[n - 1] == (what == 1 ? ranks : 1) * ((int32_t)n - 1 + epoch),
	       "epoch %d: a collective's value", epoch);
}

/* In every epoch a rank sends, before the collective or after it, and receives some of
 * what was sent to it, maybe epochs ago. */
static void interleave(collx_comm_t c, int rank, int size, void *arg)
{
	struct talk t = { .c = c, .seed = *(uint64_t *)arg + (uint64_t)size };

	for (int e = 0; e < EPOCHS && !t.rc; e++) {
		int late = (int)draw(t.seed, e, rank, 1000, 2);

		if (!late)
			talk_to_all(&t, e, 1);
		if (e && draw(t.seed, e, rank, 1001, 2))
			talk_to_all(&t, e - 1, 0);
		if (!t.rc)
			meet(&t, e);
		if (late)
			talk_to_all(&t, e, 1);
		talk_to_all(&t, e, 0);
	}
	EXPECT(t.rc == 0, "rank %d: %s", rank, collx_last_error(c));
}

Test(p2p, beside_collectives_in_any_order, .timeout = 300)
{
	for (uint64_t seed = 0; seed < 2; seed++)
		for (int size = 2; size <= 5; size++)
			everywhere((struct world){ .size = size, .fn = interleave, .arg = &seed });
}

/* ---- calls that do not fit ---- */

struct misfit {
	size_t sent, wanted;
	collx_type sent_type, wanted_type;
	const char *said[2];
};

static const struct misfit misfits[] = {
	{ 10, 11, COLLX_FLOAT32, COLLX_FLOAT32, { "11 float32", "sent 10 float32" } },
	{ 10, 10, COLLX_INT32, COLLX_FLOAT32, { "10 float32", "sent 10 int32" } },
	{ 200000, 5, COLLX_INT8, COLLX_INT8, { "5 int8", "sent 200000 int8" } },
	{ 5, 200000, COLLX_BFLOAT16, COLLX_FLOAT16, { "200000 float16", "sent 5 bfloat16" } },
	{ 0, 1, COLLX_INT64, COLLX_INT64, { "1 int64", "sent 0 int64" } },
	{ 1, 0, COLLX_INT64, COLLX_UINT8, { "0 uint8", "sent 1 int64" } },
};

static void misfit(collx_comm_t c, int rank, int size, void *arg)
{
	const struct misfit *m = arg;
	unsigned char *buf = malloc(2 << 20);
	int rc;

	(void)size;
	memset(buf, 0xee, 2 << 20);
	if (rank == 0)
		rc = collx_send(buf, m->sent, m->sent_type, 1, c, NULL);
	else
		rc = rank == 1 ? collx_recv(buf, m->wanted, m->wanted_type, 0, c, NULL) : 0;
	while (!rc && rank != 1)
		rc = collx_barrier(c, NULL);
	EXPECT(rc == COLLX_ERR_MISMATCH && strstr(collx_last_error(c), m->said[0]) &&
		       strstr(collx_last_error(c), m->said[1]),
	       "rank %d: %s: %s", rank, collx_strerror(rc), collx_last_error(c));
	for (size_t i = 0; i < 2 << 20 && EXPECT(buf[i] == 0xee, "the buffer changed");)
		i++;
	rc = collx_send(buf, 1, COLLX_INT8, !rank, c, NULL);
	EXPECT(rc == COLLX_ERR_MISMATCH, "a later call: %s", collx_strerror(rc));
	free(buf);
}

Test(p2p, calls_that_do_not_fit, .timeout = 120)
{
	for (size_t i = 0; i < sizeof(misfits) / sizeof(misfits[0]); i++)
		everywhere((struct world){ .size = 3, .fn = misfit, .arg = (void *)&misfits[i] });
}

static void refused(int rc, const char *what)
{
	EXPECT(rc == COLLX_ERR_INVALID, "%s: %s", what, collx_strerror(rc));
}

static void bad_arguments(collx_comm_t c, int rank, int size, void *arg)
{
	collx_opts o = COLLX_OPTS_INIT;
	int32_t x = 5, y = 0;
	int peer = !rank, rc;

	(void)arg;
	o.flags = 1;
	refused(collx_send(&x, 1, COLLX_INT32, rank, c, NULL), "send to itself");
	refused(collx_recv(&x, 1, COLLX_INT32, rank, c, NULL), "recv from itself");
	refused(collx_send(&x, 1, COLLX_INT32, size, c, NULL), "a rank too high");
	refused(collx_recv(&x, 1, COLLX_INT32, -1, c, NULL), "a rank below 0");
	refused(collx_send(NULL, 1, COLLX_INT32, peer, c, NULL), "send from NULL");
	refused(collx_recv(NULL, 1, COLLX_INT32, peer, c, NULL), "recv into NULL");
	refused(collx_send(&x, SIZE_MAX / 2, COLLX_INT32, peer, c, NULL), "overflow");
	refused(collx_recv(&x, 1, COLLX_TYPE_COUNT, peer, c, NULL), "a type");
	refused(collx_recv(&x, 1, COLLX_INT32, peer, c, &o), "flags");
	refused(collx_send(&x, 1, COLLX_INT32, peer, NULL, NULL), "no communicator");
	/* Nothing of that was sent, or counted. */
	rc = rank ? collx_recv(&y, 1, COLLX_INT32, 0, c, NULL)
		  : collx_send(&x, 1, COLLX_INT32, 1, c, NULL);
	EXPECT(rc == 0 && y == (rank ? 5 : 0), "after them: %s", collx_last_error(c));
}

Test(p2p, bad_arguments)
{
	everywhere((struct world){ .size = 2, .fn = bad_arguments });
}

/* ---- ranks that leave, dawdle or die ---- */

enum { LEFT_BEHIND = 3 };

static void leave_behind(collx_comm_t c, int rank, int size, void *arg)
{
	int who = *(int *)arg, rc = 0;
	collx_error e = COLLX_ERROR_INIT;
	int32_t x = 0;
	uint64_t start;
	char text[32];

	(void)size;
	for (int i = 0; rank == who && i < LEFT_BEHIND; i++)
		rc |= collx_send(&i, 1, COLLX_INT32, 1, c, NULL);
	EXPECT(rc == 0, "%s", collx_last_error(c));
	if (rank == 1)
		nap_ms(100);
	else if (rank == who || who == 0)
		return;
	if (rank == 0) {
		rc = collx_recv(&x, 1, COLLX_INT32, 1, c, NULL);
		EXPECT(rc == COLLX_ERR_PEER_LEFT, "rank 0: %s", collx_strerror(rc));
		return;
	}
	for (int i = 0; !rc && i < LEFT_BEHIND; i++) {
		rc = collx_recv(&x, 1, COLLX_INT32, who, c, NULL);
		EXPECT(rc == 0 && x == i, "message %d is %d: %s", i, x, collx_last_error(c));
	}
	start = now_ms();
	rc = collx_recv(&x, 1, COLLX_INT32, who, c, NULL);
	snprintf(text, sizeof(text), "rank %d left", who);
	EXPECT(rc == COLLX_ERR_PEER_LEFT && strstr(collx_last_error(c), text), "%s: %s",
	       collx_strerror(rc), collx_last_error(c));
	EXPECT(!collx_comm_error(c, &e) && e.rank == who && e.nranks == 1, "it blames %d", e.rank);
	EXPECT(now_ms() - start < 1000, "it took %d ms", (int)(now_ms() - start));
}

Test(p2p, what_a_rank_sent_before_it_left, .timeout = 120)
{
	static int who[] = { 0, 2 };

	for (int i = 0; i < 2; i++)
		everywhere((struct world){ .size = 3, .fn = leave_behind, .arg = &who[i] });
}

static void send_to_who_left(collx_comm_t c, int rank, int size, void *arg)
{
	size_t len = *(size_t *)arg;
	unsigned char *buf = calloc(1, len);
	uint64_t start = now_ms();
	int rc = 0;

	(void)size;
	if (rank == 0)
		nap_ms(300);
	while (rank == 1 && !rc && now_ms() - start < 5000)
		rc = collx_send(buf, len, COLLX_INT8, 0, c, NULL);
	if (rank == 1)
		EXPECT(rc == COLLX_ERR_PEER_LEFT && strstr(collx_last_error(c), "rank 0 left"),
		       "%zu bytes: %s: %s", len, collx_strerror(rc), collx_last_error(c));
	free(buf);
}

Test(p2p, to_a_rank_that_left, .timeout = 120)
{
	static size_t lens[] = { 8, 16 << 20 };

	for (int i = 0; i < 2; i++)
		everywhere((struct world){ .size = 2, .fn = send_to_who_left, .arg = &lens[i] });
}

static void wait_in_vain(collx_comm_t c, int rank, int size, void *arg)
{
	int what = *(int *)arg, rc;
	collx_opts o = COLLX_OPTS_INIT;
	unsigned char *buf = calloc(1, 8 << 20);
	uint64_t start = now_ms();

	(void)size;
	o.timeout_ms = 300;
	if (rank == 0)
		rc = what ? collx_recv(buf, 8, COLLX_INT8, 1, c, &o)
			  : collx_send(buf, 8 << 20, COLLX_INT8, 1, c, &o);
	else
		rc = collx_barrier(c, NULL);
	EXPECT(rc == COLLX_ERR_TIMEOUT && strstr(collx_last_error(c), what ? "recv" : "send") &&
		       strstr(collx_last_error(c), "rank 1"),
	       "rank %d: %s: %s", rank, collx_strerror(rc), collx_last_error(c));
	EXPECT(now_ms() - start < 3000, "it took %d ms", (int)(now_ms() - start));
	free(buf);
}

Test(p2p, deadlines, .timeout = 120)
{
	static int what[] = { 0, 1 };

	for (int i = 0; i < 2; i++)
		everywhere((struct world){ .size = 2, .fn = wait_in_vain, .arg = &what[i] });
}

/* ---- what those learn whose rank 0 has left ---- */

/* How rank 2 goes, and whether rank 0's process ends when it has left; shared. */
struct farewell {
	int dies, ends;
	int got, knows; /* rank 1 has the message, and what happened then */
	pid_t rank_0;
};

static struct farewell *farewell_make(int dies, int ends)
{
	struct farewell *f = mmap(NULL, sizeof(*f), PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(f, MAP_FAILED);
	*f = (struct farewell){ .dies = dies, .ends = ends };
	return f;
}

/* The clock of this process: it may leap. */
static _Atomic uint64_t leap_ns;

static uint64_t leaping_now(void)
{
	return cx_sys_real.now_ns() + leap_ns;
}

/* Rank 1 waits for rank 2, for ever if it must. */
static void wait_without_rank_0(collx_comm_t c, struct farewell *f)
{
	static struct cx_sys leaping;
	collx_opts o = COLLX_OPTS_INIT;
	uint64_t start = now_ms();
	int32_t x = 0;
	int want, rc;

	o.timeout_ms = COLLX_NO_TIMEOUT;
	rc = collx_recv(&x, 1, COLLX_INT32, 2, c, &o);
	EXPECT(rc == 0 && x == 77, "rank 1: %s", collx_last_error(c));
	__atomic_store_n(&f->got, 1, __ATOMIC_RELEASE);
	if (f->ends) { /* the bound for those whom nobody tells */
		leaping = cx_sys_real;
		leaping.now_ns = leaping_now;
		cx_sys = &leaping;
		alarm(2);
	}
	rc = collx_recv(&x, 1, COLLX_INT32, 2, c, &o);
	want = f->ends ? COLLX_ERR_TIMEOUT : f->dies ? COLLX_ERR_PEER_DEAD : COLLX_ERR_PEER_LEFT;
	EXPECT(rc == want && strstr(collx_last_error(c), "rank 2"), "rank 1: %s: %s",
	       collx_strerror(rc), collx_last_error(c));
	EXPECT(now_ms() - start < 5000, "it took %d ms", (int)(now_ms() - start));
	__atomic_store_n(&f->knows, 1, __ATOMIC_RELEASE);
}

static void a_minute_passes(int sig)
{
	(void)sig;
	leap_ns += 61000000000;
}

static void go_one_by_one(const collx_unique_id *id, int rank, int size, void *arg)
{
	struct farewell *f = arg;
	uint64_t end = now_ms() + 10000;
	collx_comm_t c = NULL;
	int32_t x = 77;
	int rc;

	signal(SIGALRM, a_minute_passes);
	if (rank == 0)
		__atomic_store_n(&f->rank_0, getpid(), __ATOMIC_RELEASE);
	rc = collx_comm_create(&c, size, id, rank, NULL);
	if (!EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(NULL)))
		return;
	if (rank == 2) {
		nap_ms(200);
		EXPECT(!collx_send(&x, 1, COLLX_INT32, 1, c, NULL), "%s", collx_last_error(c));
		nap_ms(200);
		while ((!__atomic_load_n(&f->got, __ATOMIC_ACQUIRE) ||
			(f->ends && !kill(f->rank_0, 0))) && now_ms() < end)
			nap_ms(1);
		if (f->dies)
			raise(SIGKILL);
	}
	if (rank == 1)
		wait_without_rank_0(c, f);
	collx_comm_destroy(c);
	while (rank == 0 && !f->ends && !__atomic_load_n(&f->knows, __ATOMIC_ACQUIRE) &&
	       now_ms() < end)
		nap_ms(1);
}

/* Processes: who left lives on, and passes on what happens to the others. */
Test(p2p, after_rank_0_left, .timeout = 120)
{
	for (int i = 0; i < 6; i++) {
		struct farewell *f = farewell_make(i % 2 == 0, 0);
		const struct world w = { .size = 3, .killed = f->dies << 2,
					 .raw = go_one_by_one,
					 .transport = i / 2 == 1 ? "tcp" : NULL,
					 .host = i / 2 == 2 ? two_hosts : NULL,
					 .arg = f };

		cr_assert_eq(world_run(&w), 0, "case %d", i);
		munmap(f, sizeof(*f));
	}
}

/* Rank 0's process is no more, and in shared memory nobody tells that rank 2 died. */
Test(p2p, after_rank_0_ended, .timeout = 120)
{
	struct farewell *f = farewell_make(1, 1);
	const struct world w = { .size = 3, .killed = 1 << 2, .raw = go_one_by_one, .arg = f };

	cr_assert_eq(world_run(&w), 0);
	munmap(f, sizeof(*f));
}

/* A process only: threads cannot be killed. */
static void wait_for_the_dead(collx_comm_t c, int rank, int size, void *arg)
{
	int sending = *(int *)arg, rc = 0;
	unsigned char *buf = malloc(1 << 20);

	(void)size;
	memset(buf, 0xee, 1 << 20);
	if (rank == 2) {
		nap_ms(200);
		raise(SIGKILL);
	}
	while (!rc)
		rc = sending ? collx_send(buf, 1 << 20, COLLX_INT8, 2, c, NULL)
			     : collx_recv(buf, 1 << 20, COLLX_INT8, 2, c, NULL);
	EXPECT(rc == COLLX_ERR_PEER_DEAD && strstr(collx_last_error(c), "rank 2"),
	       "rank %d: %s: %s", rank, collx_strerror(rc), collx_last_error(c));
	for (size_t i = 0; i < 1 << 20 && EXPECT(buf[i] == 0xee, "the buffer changed");)
		i++;
	free(buf);
}

Test(p2p, a_killed_peer_is_named, .timeout = 120)
{
	static int what[] = { 0, 1 };

	for (int i = 0; i < 6; i++) {
		const struct world w = { .size = 3, .killed = 1 << 2, .fn = wait_for_the_dead,
					 .transport = i / 2 == 1 ? "tcp" : NULL,
					 .host = i / 2 == 2 ? two_hosts : NULL,
					 .arg = &what[i % 2] };

		cr_assert_eq(world_run(&w), 0);
	}
}
