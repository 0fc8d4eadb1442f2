/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is done again: a repair in which another rank dies, at each of its steps, and the
 * call that failed, by each algorithm.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "src/base/base.h"
#include "src/plan.h"
#include "tests/trial.h"
#include "tests/world.h"

/* ---- A6: another one dies in the repair ---- */

/* So many system calls of the control plane are left to this process; 0: any number. */
static _Atomic int left;

static void count(void)
{
	if (atomic_load(&left) > 0 && atomic_fetch_sub(&left, 1) == 1)
		raise(SIGKILL);
}

static int counted_poll(struct pollfd *fds, unsigned n, int timeout_ms)
{
	count();
	return cx_sys_real.poll(fds, n, timeout_ms);
}

static long counted_sendmsg(int fd, const struct msghdr *msg)
{
	count();
	return cx_sys_real.sendmsg(fd, msg);
}

static long counted_recvmsg(int fd, struct msghdr *msg)
{
	count();
	return cx_sys_real.recvmsg(fd, msg);
}

static int counted_accept(int fd)
{
	count();
	return cx_sys_real.accept(fd);
}

static int counted_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	count();
	return cx_sys_real.connect(fd, addr, len);
}

static int counted_close(int fd)
{
	count();
	return cx_sys_real.close(fd);
}

/* Before anything of the library runs here. */
static void count_calls(void)
{
	static struct cx_sys counted;

	counted = cx_sys_real;
	counted.poll = counted_poll;
	counted.sendmsg = counted_sendmsg;
	counted.recvmsg = counted_recvmsg;
	counted.accept = counted_accept;
	counted.connect = counted_connect;
	counted.close = counted_close;
	cx_sys = &counted;
}

static int second(const struct trial *t)
{
	return __builtin_ctz(t->victims & ~(1u << t->actor));
}

/* The second one dies so many calls after its error, or when the driver wants it. */
static void live_and_die(struct trial *t, int rank)
{
	struct worker w;
	int rc;

	if (rank == second(t))
		count_calls();
	if (worker_open(&w, t, rank))
		return;
	rc = worker_until_error(&w);
	if (rank == second(t) && t->calls)
		atomic_store(&left, t->calls);
	worker_expect_error(&w, rc);
	worker_step(&w, 2);
	if (worker_settle(&w, t->ranks - 2))
		return;
	worker_compare(&w);
	worker_step(&w, 8);
	worker_until_stop(&w);
	worker_close(&w);
	worker_step(&w, 9);
}

/* From 10 us to 80 ms, each length as likely as its double. */
static void wait_for_a_while(const struct trial *t)
{
	unsigned us = 10u << trial_draw(t, 5, 13);

	usleep(us + trial_draw(t, 6, us));
}

static int kill_again(struct trial *t)
{
	unsigned others = trial_all(t) & ~t->victims;
	int who = second(t);
	uint64_t end = now_ms() + 60000;

	if (trial_await(t, trial_all(t), 1))
		return 1;
	t->hit_ns = trial_now_ns();
	trial_signal(t, 1u << t->actor, SIGKILL);
	if (!t->calls && trial_await(t, trial_all(t) & ~t->victims, 2))
		return 1;
	if (!t->calls)
		wait_for_a_while(t);
	/* Else it dies by itself, but where it gets through the repair with fewer calls. */
	while (t->calls && trial_load(&t->note[who].size) == t->ranks && !trial_check(t, who, end))
		;
	trial_signal(t, 1u << who, SIGKILL);
	if (trial_await(t, others, 8))
		return 1;
	__atomic_store_n(&t->stop, 1, __ATOMIC_RELEASE);
	return 0;
}

void trial_a6(struct trial *t, int i)
{
	int first = i % t->ranks, other = (first + 1 + (int)trial_draw(t, 4, 3)) % t->ranks;

	trial_lose(t, FAULT_KILL, COLLX_ERR_PEER_DEAD, i);
	t->actor = first;
	t->victims = 1u << first | 1u << other;
	t->how = HOW_CALL;
	t->calls = i % 4 ? 1 + (int)trial_draw(t, 3, 200) : 0;
	t->live = live_and_die;
	t->drive = kill_again;
}

/* ---- I11: the call that failed, again ---- */

static enum trial_op op_of(enum cx_coll coll)
{
	switch (coll) {
	case CX_REDUCE_SCATTER: return OP_REDUCE_SCATTER;
	case CX_ALLGATHER: return OP_ALLGATHER;
	case CX_BROADCAST: return OP_BROADCAST;
	case CX_REDUCE: return OP_REDUCE;
	case CX_BARRIER: return OP_BARRIER;
	default: return OP_ALLREDUCE;
	}
}

static void live_and_retry(struct trial *t, int rank)
{
	struct worker w;
	int rc;

	if (worker_open(&w, t, rank))
		return;
	do
		rc = worker_fractions(&w, t->op, t->count);
	while (!rc);
	t->note[rank].known_ns = trial_now_ns();
	worker_expect_error(&w, rc);
	if (worker_settle(&w, t->ranks - 1))
		return;
	if (!worker_refresh(&w))
		worker_compare_call(&w, t->op, t->count);
	worker_close(&w);
	worker_step(&w, 9);
}

/* By the i-th algorithm of all. */
void trial_i11(struct trial *t, int i)
{
	const struct cx_algo *algo;
	char forced[64];
	int n = 0;

	while (cx_algos[n])
		n++;
	algo = cx_algos[i % n];
	snprintf(forced, sizeof(forced), "%s:%s", cx_coll_name(algo->coll), algo->name);
	setenv("COLLX_ALGO", forced, 1);
	trial_lose(t, FAULT_KILL, COLLX_ERR_PEER_DEAD, i);
	t->op = op_of(algo->coll);
	t->live = live_and_retry;
}
