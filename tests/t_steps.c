/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One rank ends, stops, or has a call or an allocation fail, at each of its steps in
 * turn, while ranks of two hosts meet and exchange: the others say whose fault it was,
 * in time, and nothing is left behind.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <criterion/criterion.h>

#include "src/base/base.h"
#include "tests/party.h"

#ifdef __SANITIZE_ADDRESS__ /* each rank looks for leaks, at length */
enum { AT_ONCE = 6, STEP_TIMEOUT_MS = 4000, STRIDE = 5 };
#else
enum { AT_ONCE = 32, STEP_TIMEOUT_MS = 2000, STRIDE = 1 };
#endif

struct sweep {
	enum fate fate;
	int victim; /* of ranks 0, 1, 2 on one host, 3, 4, 5 on another */
	bool again;
	int fail_with;
};

/* Whoever comes again has two lives to bring up, on a machine that others may load. */
static unsigned timeout_ms(const struct sweep *s)
{
	return s->again ? 4 * STEP_TIMEOUT_MS : STEP_TIMEOUT_MS;
}

static struct party *prepare(const struct sweep *s, int step)
{
	struct party *p = party_make();
	struct guest *v;

	for (int r = 0; r < 6; r++)
		invite(p, r, 6, r / 3)->timeout_ms = timeout_ms(s);
	/* Rank 3 leads, or the victim, except 5; rank 0 comes in between when it is the one. */
	for (int r = 0; r < 6; r++)
		p->guests[r].late_ms = r ? 60 : 30;
	p->guests[s->victim == 0 || s->victim == 5 ? 3 : s->victim].late_ms = 0;
	v = &p->guests[s->victim];
	v->fate = s->fate;
	v->step = step;
	v->comes_again = s->again;
	v->fail_with = s->fail_with;
	return p;
}

/* Is that a line for what happened to the victim, which may be the first of several? Of a
 * leader that stopped at its door rank 0 knows only who did not get past it. */
static bool names_victim(const struct party *p, const struct sweep *s, const char *text)
{
	char who[16], all[16], where[CX_MEET_MAX];

	if (s->fate > STOPPED)
		return strlen(text) > 10;
	snprintf(who, sizeof(who), "rank %d", s->victim);
	snprintf(all, sizeof(all), "ranks %d", s->victim);
	snprintf(where, sizeof(where), "unix:%s/host%d/meet", p->base, s->victim / 3);
	return strstr(text, who) || strstr(text, all) ||
	       (s->victim == 0 && strstr(text, p->address)) ||
	       (s->fate == STOPPED &&
		(strstr(text, where) || strstr(text, "of 6 did not come")));
}

static void judge(const struct party *p, const struct sweep *s, int at)
{
	const struct guest *v = &p->guests[s->victim];
	int before = expect_failures();

	for (int i = 0; i < p->n; i++) {
		const struct guest *g = &p->guests[i];

		if (g == v && s->fate <= STOPPED)
			continue;
		EXPECT(g->code <= 0 && g->ms < (int)timeout_ms(s) + 1000 + 4000,
		       "step %d: rank %d: %s after %d ms", at, i, collx_strerror(g->code), g->ms);
		EXPECT(!g->code || names_victim(p, s, g->text),
		       "step %d: rank %d does not name rank %d: %s: '%s'", at, i, s->victim,
		       collx_strerror(g->code), g->text);
		EXPECT(!strstr(g->text, "twice"), "step %d: rank %d: %s", at, i, g->text);
		EXPECT(s->fate != LIMITED || !g->code == !v->code,
		       "%d files: rank %d: %s: '%s', but not rank %d", at, i,
		       collx_strerror(g->code), g->text, s->victim);
	}
	EXPECT(s->fate != POOR || !v->code || v->code == COLLX_ERR_NOMEM, "step %d: %s", at,
	       v->text);
	for (int i = 0; expect_failures() > before && i < p->n; i++)
		fprintf(stderr, "step %d: rank %d said: %s\n", at, i, p->guests[i].text);
	if (s->fate == LIMITED && at == 16)
		fprintf(stderr, "16 files: '%s', for others '%s'\n", v->text, p->guests[5].text);
}

/* In a process of its own. How many system calls the victim made comes back. */
static pid_t try_step(const struct sweep *s, int at, int *steps)
{
	pid_t pid = rank_fork();
	struct party *p;

	if (pid)
		return pid;
	p = prepare(s, at);
	EXPECT(party_hold(p) == 0, "step %d: a process failed", at);
	judge(p, s, at);
	*steps = s->fate == LIMITED ? 22 : p->guests[s->victim].steps;
	if (s->again && *steps < at)
		EXPECT(!p->guests[s->victim].code, "step %d", at);
	EXPECT(party_end(p) == 0, "step %d: something is left", at);
	rank_exit();
}

static void sweep_steps(struct sweep s)
{
	int *steps = mmap(NULL, AT_ONCE * sizeof(*steps), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int stride = s.again || s.fate == STOPPED ? STRIDE : 1; /* there somebody waits long */
	int at = 1, most = 1, wrong = 0;

	for (; at <= most + 1 + stride; at += AT_ONCE * stride) {
		pid_t pids[AT_ONCE];

		for (int i = 0; i < AT_ONCE; i++)
			pids[i] = try_step(&s, at + i * stride, &steps[i]);
		wrong += ranks_wait(pids, AT_ONCE, 0, 120);
		most = 0;
		for (int i = 0; i < AT_ONCE; i++)
			most = steps[i] > most ? steps[i] : most;
	}
	fprintf(stderr, "fate %d of rank %d: %d steps\n", (int)s.fate, s.victim, most);
	cr_assert_eq(wrong, 0);
	cr_assert_gt(most, s.fate == POOR ? 4 : 10);
	munmap(steps, AT_ONCE * sizeof(*steps));
}

Test(steps, rank_0_is_killed, .timeout = 580)
{
	sweep_steps((struct sweep){ KILLED, 0, false, 0 });
}

Test(steps, a_leader_is_killed, .timeout = 580)
{
	sweep_steps((struct sweep){ KILLED, 3, false, 0 });
}

Test(steps, a_rank_below_rank_0_is_killed, .timeout = 580)
{
	sweep_steps((struct sweep){ KILLED, 2, false, 0 });
}

Test(steps, a_leader_is_killed_and_comes_again, .timeout = 580)
{
	sweep_steps((struct sweep){ KILLED, 3, true, 0 });
}

Test(steps, a_rank_below_a_leader_is_killed_and_comes_again, .timeout = 580)
{
	sweep_steps((struct sweep){ KILLED, 5, true, 0 });
}

Test(steps, rank_0_is_stopped, .timeout = 580)
{
	sweep_steps((struct sweep){ STOPPED, 0, false, 0 });
}

Test(steps, a_leader_is_stopped, .timeout = 580)
{
	sweep_steps((struct sweep){ STOPPED, 3, false, 0 });
}

Test(steps, a_call_of_rank_0_fails, .timeout = 580)
{
	sweep_steps((struct sweep){ FAILING, 0, false, ENOBUFS });
}

Test(steps, a_call_of_a_leader_fails, .timeout = 580)
{
	sweep_steps((struct sweep){ FAILING, 3, false, ENOBUFS });
}

Test(steps, a_leader_runs_out_of_memory, .timeout = 580)
{
	sweep_steps((struct sweep){ POOR, 3, false, 0 });
}

Test(steps, rank_0_runs_out_of_memory, .timeout = 580)
{
	sweep_steps((struct sweep){ POOR, 0, false, 0 });
}

Test(steps, rank_0_has_few_descriptors, .timeout = 580)
{
	sweep_steps((struct sweep){ LIMITED, 0, false, 0 });
}

Test(steps, a_leader_has_few_descriptors, .timeout = 580)
{
	sweep_steps((struct sweep){ LIMITED, 3, false, 0 });
}
