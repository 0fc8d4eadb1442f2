/* SPDX-License-Identifier: BSD-3-Clause */
/* Processes and their threads: whose turn it is, and how they end; see world.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "world.h"

/* Of AddressSanitizer, when it is there: stale memory shows at once anyway. */
enum { STALE = 0xdd };

extern uint64_t sim_event_order;

/* ---- turns ---- */

static void give_turn(struct sim_task *t)
{
	sim.running = t;
	sim_statics_load(t->proc);
	cx_fail(0, "%s", t->line);
	sim_fiber_run(t->fiber);
	snprintf(t->line, sizeof(t->line), "%s", cx_error_text());
	sim.running = NULL;
}

static void resume(void *arg)
{
	struct sim_task *t = arg;

	if (sim_event_order != t->ticket || !t->proc->alive || t->done)
		return;
	t->ticket = 0;
	t->waiting = false;
	if (t->proc->pauses) {
		t->deferred = true;
		return;
	}
	sim_digest((uint64_t)t->id, sim.now);
	give_turn(t);
}

static void schedule(struct sim_task *t, uint64_t delay_ns)
{
	t->ticket = sim_after(delay_ns, resume, t);
}

void sim_task_nap(uint64_t ns)
{
	schedule(sim.running, ns);
	sim_fiber_pause();
}

void sim_task_wait(uint64_t ns)
{
	struct sim_task *t = sim.running;

	t->ticket = 0;
	t->waiting = true;
	if (ns != UINT64_MAX)
		schedule(t, ns);
	sim_fiber_pause();
}

void sim_task_wake(struct sim_task *t)
{
	if (!t->waiting || !t->proc->alive)
		return;
	t->waiting = false;
	schedule(t, 1000 + sim_rng_below(&sim.chance, 15000));
}

/* ---- threads ---- */

static void task_main(void *arg)
{
	struct sim_task *t = arg;

	t->started = true;
	t->run(t->arg);
	t->done = true;
	if (t->joiner)
		sim_task_wake(t->joiner);
	if (t == &t->proc->tasks[0])
		sim_proc_exit();
	sim_fiber_pause();
}

struct sim_task *sim_task_create(struct sim_proc *p, void *(*run)(void *arg), void *arg,
				 uint64_t delay_ns)
{
	struct sim_task *t = NULL;

	for (int i = 0; i < SIM_TASKS && !t; i++)
		if (i >= p->ntasks || (p->tasks[i].done && i))
			t = &p->tasks[i];
	if (!t)
		return NULL;
	if (t == &p->tasks[p->ntasks])
		p->ntasks++;
	else
		sim_fiber_destroy(t->fiber);
	*t = (struct sim_task){ .proc = p, .run = run, .arg = arg };
	t->id = 1000 + p->number * SIM_TASKS + (int)(t - p->tasks);
	t->fiber = sim_fiber_create(task_main, t);
	schedule(t, delay_ns);
	return t;
}

/* ---- processes ---- */

struct sim_proc *sim_proc_create(const char *name, int host)
{
	struct sim_proc *p = &sim.procs[sim.nprocs];

	if (sim.nprocs == SIM_PROCS) {
		fprintf(stderr, "collx-sim: too many processes\n");
		exit(70);
	}
	memset(p, 0, sizeof(*p));
	p->number = sim.nprocs++;
	p->host = host;
	p->alive = true;
	p->max_fds = 1024;
	p->uid = (uint32_t)geteuid();
	p->random.state = sim_rng_next(&sim.chance);
	snprintf(p->name, sizeof(p->name), "%s", name);
	return p;
}

uint64_t sim_proc_now(const struct sim_proc *p)
{
	int64_t skew = (int64_t)(sim.now / 1000) * p->clock_ppm / 1000;

	return sim.now + (uint64_t)skew + p->clock_base_ns;
}

uint64_t sim_proc_duration(const struct sim_proc *p, uint64_t ns)
{
	return ns - (uint64_t)((int64_t)(ns / 1000) * p->clock_ppm / 1000);
}

static void close_all(struct sim_proc *p)
{
	for (int fd = 0; fd < p->nfds; fd++) {
		struct sim_sock *s = p->fds[fd];

		p->fds[fd] = NULL;
		if (s)
			sim_sock_drop(s);
	}
	p->open_fds = 0;
}

static void end(struct sim_proc *p)
{
	p->alive = false;
	p->ended_ns = sim.now;
	sim_digest((uint64_t)p->number, sim.now);
	close_all(p);
}

void sim_proc_kill(struct sim_proc *p)
{
	if (!p->alive)
		return;
	p->killed = true;
	sim_trace(p, "KILLED at its call %llu", (unsigned long long)p->calls);
	end(p);
	if (sim.running && sim.running->proc == p)
		sim_fiber_pause(); /* for good */
}

void sim_proc_exit(void)
{
	struct sim_proc *p = sim.running->proc;
	int n = 0;

	for (struct sim_block *b = p->blocks; b; b = b->next)
		n++;
	if (n)
		sim_broken("%s ended with %d allocations left, the last: number %llu, %zu bytes",
			   p->name, n, (unsigned long long)p->blocks->number, p->blocks->len);
	if (p->open_fds)
		sim_broken("%s ended with %d descriptors left", p->name, p->open_fds);
	for (int i = 1; i < p->ntasks; i++)
		if (!p->tasks[i].done)
			sim_broken("%s ended with a thread at work, its guard's say", p->name);
	sim_trace(p, "ends");
	end(p);
}

void sim_proc_pause(struct sim_proc *p)
{
	if (!p->alive)
		return;
	sim_trace(p, "STOPPED");
	if (!p->pauses++)
		p->paused_at_ns = sim.now;
}

void sim_proc_resume(struct sim_proc *p)
{
	if (!p->alive || --p->pauses)
		return;
	sim_trace(p, "goes on");
	p->paused_ns += sim.now - p->paused_at_ns;
	for (int i = 0; i < p->ntasks; i++) {
		if (!p->tasks[i].deferred)
			continue;
		p->tasks[i].deferred = false;
		schedule(&p->tasks[i], sim_rng_below(&sim.chance, 100 * SIM_US));
	}
}

/* ---- memory ---- */

void *sim_proc_alloc(struct sim_proc *p, size_t len)
{
	size_t head = 64;
	char *raw;
	struct sim_block *b;

	_Static_assert(sizeof(struct sim_block) <= 64, "the head of a block");
	if (++p->allocs == p->fail_alloc_at) {
		sim_trace(p, "ALLOCATION %llu of %zu bytes FAILS", (unsigned long long)p->allocs,
			  len);
		return NULL;
	}
	raw = aligned_alloc(64, head + cx_round_up(len ? len : 1, 64));
	if (!raw)
		return NULL;
	memset(raw, 0, head + len);
	b = (struct sim_block *)(void *)(raw + head) - 1;
	*b = (struct sim_block){ p->blocks, &p->blocks, p->allocs, len };
	if (b->next)
		b->next->link = &b->next;
	p->blocks = b;
	return b + 1;
}

void sim_proc_release(struct sim_proc *p, void *mem)
{
	struct sim_block *b;

	(void)p;
	if (!mem)
		return;
	b = (struct sim_block *)mem - 1;
	*b->link = b->next;
	if (b->next)
		b->next->link = b->link;
	memset(mem, STALE, b->len < 256 ? b->len : 256);
	free((char *)(b + 1) - 64);
}
