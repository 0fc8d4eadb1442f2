/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The emulation's threads: fibers, who runs next, barriers, warp operations, fences.
 * See cuda_emu.h and cuda_emu_int.h.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/cuda_emu_int.h"

struct emu emu;
struct emu_options emu_options;

static struct {
	void *context; /* of emu_run */
	struct emu_thread **runnable;
	unsigned nrunnable, alive;
	char *stacks;
	size_t nstacks;
	unsigned idle; /* switches since anything was achieved */
	bool failed;
	char fault[512];
	_Alignas(16) char args[4096];
} run;

enum { PATIENCE = 4000000 };

static struct emu_kernel *kernels;

void emu_list(struct emu_kernel *kernel)
{
	kernel->next = kernels;
	kernels = kernel;
}

const struct emu_kernel *emu_find_kernel(const char *name)
{
	const struct emu_kernel *k = kernels;

	while (k && strcmp(k->name, name))
		k = k->next;
	return k;
}

/* ---- fibers ---- */

#ifdef __x86_64__
/* Callee-saved registers go on the stack; *save keeps where. */
void emu_switch(void **save, void *to);
__asm__(".text\n"
	".globl emu_switch\n"
	".type emu_switch, @function\n"
	"emu_switch:\n"
	"	push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15\n"
	"	mov %rsp, (%rdi)\n"
	"	mov %rsi, %rsp\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp\n"
	"	ret\n"
	".size emu_switch, . - emu_switch\n");

static void fiber_init(struct emu_thread *t, void (*entry)(void))
{
	void **top = (void **)(t->stack + EMU_STACK) - 2;

	top[0] = (void *)entry;
	top[1] = NULL; /* keeps the alignment of a called function */
	memset(top - 6, 0, 6 * sizeof(*top));
	t->context = top - 6;
}

static void fiber_fini(struct emu_thread *t)
{
	t->context = NULL;
}
#else
#include <ucontext.h>

static ucontext_t main_context;

static void emu_switch(void **save, void *to)
{
	*save = *save ? *save : &main_context;
	swapcontext(*save, to);
}

static void fiber_init(struct emu_thread *t, void (*entry)(void))
{
	ucontext_t *c = calloc(1, sizeof(*c));

	getcontext(c);
	c->uc_stack.ss_sp = t->stack;
	c->uc_stack.ss_size = EMU_STACK;
	makecontext(c, entry, 0);
	t->context = c;
}

static void fiber_fini(struct emu_thread *t)
{
	free(t->context);
	t->context = NULL;
}
#endif

static void leave(void)
{
	struct emu_thread *self = emu.self;

	emu.self = NULL;
	emu_switch(&self->context, run.context);
}

static void make_runnable(struct emu_thread *t)
{
	t->state = EMU_RUNS;
	run.runnable[run.nrunnable++] = t;
}

void emu_yield(void)
{
	make_runnable(emu.self);
	leave();
}

static void wait_in(enum emu_state state)
{
	emu.self->state = state;
	leave();
}

void emu_fail(const char *fmt, ...)
{
	va_list args;
	int n = snprintf(run.fault, sizeof(run.fault), "%s: ", emu.launch->kernel->name);

	va_start(args, fmt);
	vsnprintf(run.fault + n, sizeof(run.fault) - (size_t)n, fmt, args);
	va_end(args);
	run.failed = true;
	leave();
	abort();
}

const char *emu_fault(void)
{
	return run.fault;
}

static void thread_main(void)
{
	emu.launch->kernel->entry(run.args);
	emu.self->state = EMU_ENDED;
	emu.self->block->alive--;
	run.alive--;
	run.idle = 0;
	leave();
}

/* ---- where a thread is ---- */

struct emu_index emu_thread_index(void)
{
	return (struct emu_index){emu.self->in_block, 0, 0};
}

struct emu_index emu_block_index(void)
{
	return (struct emu_index){emu.self->block->number, 0, 0};
}

struct emu_index emu_block_size(void)
{
	return (struct emu_index){emu.launch->block, 1, 1};
}

struct emu_index emu_grid_size(void)
{
	return (struct emu_index){emu.launch->grid, 1, 1};
}

void *emu_shared(void)
{
	return emu.self->block->shared;
}

void emu_pause(void)
{
	emu_yield();
}

void emu_trap(void)
{
	emu_fail("__trap() by block %u, thread %u", emu.self->block->number, emu.self->in_block);
}

/* ---- what orders threads ---- */

enum { MOST_SITES = 128 };
static struct emu_site sites[MOST_SITES];
static unsigned nsites;

const struct emu_site *emu_site(unsigned number)
{
	return number && number <= nsites ? &sites[number - 1] : NULL;
}

int emu_dropped(const char *what, const char *file, int line)
{
	unsigned i = 0;

	while (i < nsites && (sites[i].line != line || strcmp(sites[i].file, file)))
		i++;
	if (i == MOST_SITES)
		emu_fail("more than %d places that synchronise", MOST_SITES);
	if (i == nsites)
		sites[nsites++] = (struct emu_site){file, what, line, 0};
	sites[i].reached++;
	return emu_options.drop == i + 1;
}

void emu_known_reset(struct emu_known *k)
{
	k->n = 0;
}

void emu_learn_fact(struct emu_known *to, enum emu_scope scope, unsigned number, uint32_t tick)
{
	uint32_t who = (uint32_t)scope << 30 | number;

	for (unsigned i = 0; i < to->n; i++) {
		if (to->facts[i].who != who)
			continue;
		if (to->facts[i].tick < tick)
			to->facts[i].tick = tick;
		return;
	}
	if (to->n == to->room) {
		to->room = to->room ? 2 * to->room : 8;
		to->facts = realloc(to->facts, to->room * sizeof(*to->facts));
		if (!to->facts)
			abort();
	}
	to->facts[to->n++] = (struct emu_fact){who, tick};
}

void emu_learn(struct emu_known *to, const struct emu_known *from)
{
	for (unsigned i = 0; i < from->n; i++)
		emu_learn_fact(to, from->facts[i].who >> 30, from->facts[i].who & 0x3fffffff,
			       from->facts[i].tick);
}

void emu_fence(void)
{
	struct emu_thread *self = emu.self;
	struct emu_block *b = self->block;
	struct emu_warp *w = self->warp;

	emu_yield();
	emu_learn(&self->known, &self->seen);
	emu_known_reset(&self->seen);
	emu_known_reset(&self->released);
	emu_learn(&self->released, &self->known);
	emu_learn(&self->released, &b->known);
	emu_learn(&self->released, &w->known);
	emu_learn_fact(&self->released, EMU_OF_BLOCK, b->number, b->barrier_tick);
	emu_learn_fact(&self->released, EMU_OF_WARP, (unsigned)(w - b->warps) +
		       b->number * (emu.launch->block / EMU_LANES), w->sync_tick);
	emu_learn_fact(&self->released, EMU_OF_THREAD, self->number, b->tick++);
}

static void open_barrier(struct emu_block *b)
{
	run.idle = 0;
	b->at_barrier = 0;
	b->barrier_tick = ++b->tick;
	for (unsigned i = 0; i < emu.launch->block; i++) {
		emu_learn(&b->known, &b->threads[i].known);
		emu_known_reset(&b->threads[i].known);
		if (b->threads[i].state == EMU_AT_BARRIER)
			make_runnable(&b->threads[i]);
	}
}

void emu_syncthreads(void)
{
	struct emu_block *b = emu.self->block;

	b->at_barrier++;
	wait_in(EMU_AT_BARRIER);
}

static uint64_t combine(enum emu_warp_op op, uint64_t a, uint64_t b)
{
	switch (op) {
	case EMU_ADD: return (uint32_t)(a + b);
	case EMU_MAX: return a > b ? a : b;
	case EMU_MIN: return a < b ? a : b;
	default: return a | b;
	}
}

static void finish_warp(struct emu_block *b, struct emu_warp *w)
{
	uint64_t all = w->op == EMU_MIN ? UINT64_MAX : 0;
	struct emu_thread *first = &b->threads[(w - b->warps) * EMU_LANES];

	run.idle = 0;
	w->arrived = 0;
	if (w->op == EMU_SYNCWARP) {
		w->sync_tick = ++b->tick;
		for (unsigned i = 0; i < EMU_LANES; i++)
			emu_learn(&w->known, &first[i].known);
	}
	for (unsigned i = 0; i < EMU_LANES; i++)
		all = combine(w->op, all, w->op == EMU_BALLOT ? w->in[i] << i : w->in[i]);
	for (unsigned i = 0; i < EMU_LANES; i++) {
		w->out[i] = w->op == EMU_SHUFFLE ? w->in[w->from[i]] : all;
		if (&first[i] != emu.self)
			make_runnable(&first[i]);
	}
}

uint64_t emu_warp(enum emu_warp_op op, unsigned mask, uint64_t value, unsigned from)
{
	struct emu_thread *self = emu.self;
	struct emu_warp *w = self->warp;
	unsigned lane = self->in_block % EMU_LANES;

	if (mask != ~0u)
		emu_fail("a warp operation with mask 0x%x: not emulated", mask);
	if (w->arrived && w->op != op)
		emu_fail("lanes of one warp in different warp operations (block %u, warp %u)",
			 self->block->number, self->in_block / EMU_LANES);
	w->op = op;
	w->in[lane] = value;
	w->from[lane] = from % EMU_LANES;
	if (++w->arrived == EMU_LANES)
		finish_warp(self->block, w);
	else
		wait_in(EMU_IN_WARP);
	return w->out[lane];
}

/* ---- a launch ---- */

static void start_block(struct emu_block *b, unsigned slot, char *shared, unsigned char *written)
{
	const struct emu_launch *l = emu.launch;

	b->shared = shared;
	b->written = written;
	memset(shared, (int)emu_random() | 1, l->shared);
	memset(written, 0, l->shared / 8 + 1);
	emu_mem_forget(shared, l->shared);
	b->alive = l->block;
	b->tick = 1;
	for (unsigned i = 0; i < l->block; i++) {
		struct emu_thread *t = &b->threads[i];

		t->stack = run.stacks + ((size_t)slot * l->block + i) * EMU_STACK;
		fiber_init(t, thread_main);
		make_runnable(t);
	}
}

/* Runs who can run, until one block has ended; NULL after a fault. */
static struct emu_block *run_until_block_ends(void)
{
	while (run.nrunnable) {
		unsigned i = emu_random() % run.nrunnable;
		struct emu_thread *t = run.runnable[i];
		struct emu_block *b = t->block;

		run.runnable[i] = run.runnable[--run.nrunnable];
		emu.self = t;
		emu_switch(&run.context, t->context);
		if (!run.failed && ++run.idle > PATIENCE) {
			emu.self = NULL;
			snprintf(run.fault, sizeof(run.fault), "%s: no progress",
				 emu.launch->kernel->name);
			run.failed = true;
		}
		if (run.failed)
			return NULL;
		if (b->alive && b->at_barrier == b->alive)
			open_barrier(b);
		if (t->state == EMU_ENDED)
			fiber_fini(t);
		if (!b->alive)
			return b;
	}
	snprintf(run.fault, sizeof(run.fault),
		 "%s: nobody can go on: a barrier or warp operation that not all threads reach",
		 emu.launch->kernel->name);
	run.failed = true;
	return NULL;
}

static void run_blocks(unsigned resident, const unsigned *order, char *shared,
		       unsigned char *written)
{
	const struct emu_launch *l = emu.launch;
	size_t len = (l->shared + 255) / 128 * 128;
	unsigned next = 0, *slot_of = calloc(l->grid, sizeof(*slot_of));
	struct emu_block *ended;

	for (; next < resident; next++) {
		slot_of[order[next]] = next;
		start_block(&emu.blocks[order[next]], next, shared + next * len,
			    written + next * len);
	}
	while (run.alive) {
		unsigned slot;

		ended = run_until_block_ends();
		if (!ended)
			break;
		slot = slot_of[ended->number];
		if (next < l->grid) {
			slot_of[order[next]] = slot;
			start_block(&emu.blocks[order[next++]], slot, shared + slot * len,
				    written + slot * len);
		}
	}
	free(slot_of);
}

static void lay_out(const struct emu_launch *l)
{
	unsigned warps = l->block / EMU_LANES;

	emu.blocks = calloc(l->grid, sizeof(*emu.blocks));
	emu.threads = calloc((size_t)l->grid * l->block, sizeof(*emu.threads));
	for (unsigned i = 0; i < l->grid; i++) {
		emu.blocks[i].number = i;
		emu.blocks[i].threads = emu.threads + (size_t)i * l->block;
		emu.blocks[i].warps = calloc(warps, sizeof(*emu.blocks[i].warps));
	}
	for (unsigned i = 0; i < l->grid * l->block; i++) {
		struct emu_thread *t = &emu.threads[i];

		t->number = i;
		t->in_block = i % l->block;
		t->block = &emu.blocks[i / l->block];
		t->warp = &t->block->warps[t->in_block / EMU_LANES];
	}
}

static void take_down(const struct emu_launch *l)
{
	for (unsigned i = 0; i < l->grid * l->block; i++) {
		fiber_fini(&emu.threads[i]);
		free(emu.threads[i].known.facts);
		free(emu.threads[i].seen.facts);
		free(emu.threads[i].released.facts);
	}
	for (unsigned i = 0; i < l->grid; i++) {
		for (unsigned w = 0; w < l->block / EMU_LANES; w++)
			free(emu.blocks[i].warps[w].known.facts);
		free(emu.blocks[i].known.facts);
		free(emu.blocks[i].warps);
	}
	free(emu.blocks);
	free(emu.threads);
}

static unsigned *shuffled(unsigned n)
{
	unsigned *order = calloc(n, sizeof(*order));

	for (unsigned i = 0; i < n; i++) {
		unsigned j = emu_random() % (i + 1);

		order[i] = order[j];
		order[j] = i;
	}
	return order;
}

static bool refuses(const struct emu_launch *l)
{
	const char *why = NULL;

	if (!l->grid || !l->block || l->block % EMU_LANES || l->block > 1024)
		why = "a grid or block that is not emulated";
	else if ((uint64_t)l->grid * l->block > EMU_MAX_THREADS)
		why = "too many threads for the emulation";
	else if (l->kernel->args_len > sizeof(run.args))
		why = "more than 4096 bytes of arguments";
	if (why)
		snprintf(run.fault, sizeof(run.fault), "%s: %s", l->kernel->name, why);
	return why != NULL;
}

int emu_run(const struct emu_launch *l)
{
	unsigned resident = emu_options.resident ? emu_options.resident : 4, *order;
	size_t len = (l->shared + 255) / 128 * 128;
	unsigned char *written;
	char *shared;

	run.failed = false;
	run.fault[0] = '\0';
	run.nrunnable = run.idle = 0;
	if (refuses(l))
		return -1;
	resident = resident < l->grid ? resident : l->grid;
	if (run.nstacks < (size_t)resident * l->block) {
		if (run.stacks)
			munmap(run.stacks, run.nstacks * EMU_STACK);
		run.nstacks = (size_t)resident * l->block;
		run.stacks = mmap(NULL, run.nstacks * EMU_STACK, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (run.stacks == MAP_FAILED)
			abort();
	}
	emu.launch = l;
	emu.random = (emu_options.seed + 1) * 0x9e3779b97f4a7c15;
	memcpy(run.args, l->args, l->kernel->args_len);
	lay_out(l);
	run.alive = l->grid * l->block;
	run.runnable = calloc((size_t)resident * l->block, sizeof(struct emu_thread *));
	shared = aligned_alloc(128, len * resident);
	written = malloc(len * resident);
	order = shuffled(l->grid);
	emu_mem_begin();
	run_blocks(resident, order, shared, written);
	take_down(l);
	free(order);
	free(written);
	free(shared);
	free(run.runnable);
	emu.launch = NULL;
	return run.failed ? -1 : 0;
}
