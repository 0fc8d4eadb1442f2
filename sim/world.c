/* SPDX-License-Identifier: BSD-3-Clause */
/* Time, events, chance, memory and the trace of the world; see world.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

struct sim_world sim;

/* ---- chance ---- */

/* splitmix64: every seed is as good as any other. */
uint64_t sim_rng_next(struct sim_rng *r)
{
	uint64_t z = r->state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

uint64_t sim_rng_below(struct sim_rng *r, uint64_t n)
{
	return n ? sim_rng_next(r) % n : 0;
}

bool sim_rng_once_in(struct sim_rng *r, uint64_t n)
{
	return n && sim_rng_next(r) % n == 0;
}

/* ---- memory until the next reset ---- */

enum { CHUNK = 1 << 20 };

struct chunk {
	struct chunk *next;
	size_t used, len;
	_Alignas(64) char bytes[];
};

static struct chunk *chunks, *current;

static struct chunk *new_chunk(size_t len)
{
	struct chunk *c = malloc(sizeof(*c) + len);

	if (!c) {
		fprintf(stderr, "collx-sim: out of memory\n");
		exit(70);
	}
	c->next = NULL;
	c->used = 0;
	c->len = len;
	return c;
}

void *sim_memory(size_t len)
{
	void *p;

	len = (len + 15) & ~(size_t)15;
	while (!current || current->used + len > current->len) {
		struct chunk **next = current ? &current->next : &chunks;

		if (!*next || (*next)->len < len) {
			struct chunk *c = new_chunk(len > CHUNK ? len : CHUNK);

			c->next = *next;
			*next = c;
		}
		current = *next;
		current->used = 0;
	}
	p = current->bytes + current->used;
	current->used += len;
	memset(p, 0, len);
	return p;
}

static void forget_memory(void)
{
	current = NULL;
}

/* ---- events: a heap by time, then by order of their making ---- */

struct event {
	uint64_t at, order;
	void (*fn)(void *arg);
	void *arg;
};

static struct event *heap;
static size_t heap_n, heap_room;
static uint64_t order;

static bool before(const struct event *a, const struct event *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

uint64_t sim_after(uint64_t delay_ns, void (*fn)(void *arg), void *arg)
{
	struct event e = { sim.now + delay_ns, ++order, fn, arg };
	size_t i = heap_n++;

	if (heap_n > heap_room) {
		heap_room = heap_room ? 2 * heap_room : 1024;
		heap = realloc(heap, heap_room * sizeof(*heap));
		if (!heap) {
			fprintf(stderr, "collx-sim: out of memory\n");
			exit(70);
		}
	}
	for (; i && before(&e, &heap[(i - 1) / 2]); i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = e;
	return e.order;
}

static struct event take_event(void)
{
	struct event first = heap[0], last = heap[--heap_n];
	size_t i = 0, child;

	for (; (child = 2 * i + 1) < heap_n; i = child) {
		if (child + 1 < heap_n && before(&heap[child + 1], &heap[child]))
			child++;
		if (!before(&heap[child], &last))
			break;
		heap[i] = heap[child];
	}
	heap[i] = last;
	return first;
}

uint64_t sim_event_order; /* of the event being handled */

void sim_world_run(uint64_t until_ns, uint64_t max_events)
{
	while (heap_n && heap[0].at <= until_ns && sim.events < max_events) {
		struct event e = take_event();

		if (e.at > sim.now)
			sim.now = e.at;
		sim.events++;
		sim_event_order = e.order;
		e.fn(e.arg);
	}
}

/* ---- the world ---- */

void sim_world_reset(uint64_t seed, bool verbose)
{
	for (int i = 0; i < sim.nprocs; i++) {
		struct sim_proc *p = &sim.procs[i];

		while (p->blocks)
			sim_proc_release(p, p->blocks + 1);
		for (int t = 0; t < p->ntasks; t++)
			if (p->tasks[t].fiber)
				sim_fiber_destroy(p->tasks[t].fiber);
	}
	memset(&sim, 0, offsetof(struct sim_world, procs));
	memset(sim.procs, 0, sizeof(sim.procs[0]) * (size_t)sim.nprocs);
	memset(&sim.nprocs, 0, sizeof(sim) - offsetof(struct sim_world, nprocs));
	sim_net_forget();
	sim_name_forget();
	forget_memory();
	heap_n = 0;
	order = 0;
	sim.now = SIM_BEGINNING;
	sim.chance.state = seed;
	sim.verbose = verbose;
	sim.digest = 0xcbf29ce484222325u;
}

/* ---- trace ---- */

void sim_digest(uint64_t a, uint64_t b)
{
	sim.digest = (sim.digest ^ a) * 0x100000001b3u;
	sim.digest = (sim.digest ^ b ^ sim.digest >> 29) * 0x100000001b3u;
}

void sim_trace(const struct sim_proc *p, const char *fmt, ...)
{
	va_list ap;

	if (!sim.verbose)
		return;
	printf("%12.6f  %-10s ", (double)(sim.now - 1000 * SIM_S) / 1e6, p ? p->name : "");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

void sim_broken(const char *fmt, ...)
{
	va_list ap;

	if (sim.broken)
		return;
	va_start(ap, fmt);
	vsnprintf(sim.broken_text, sizeof(sim.broken_text), fmt, ap);
	va_end(ap);
	sim.broken = sim.broken_text;
	sim_trace(NULL, "BROKEN: %s", sim.broken);
}
