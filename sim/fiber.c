/* SPDX-License-Identifier: BSD-3-Clause */
/* The fibers of fiber.h: a switch of six registers where we know them, else ucontext. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fiber.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define WITH_ASAN 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define WITH_ASAN 0
#endif

#ifndef __x86_64__
#include <ucontext.h>
#endif

enum { STACK = 256 * 1024, GUARD = 4096 };

struct sim_fiber {
	char *stack; /* its lowest byte; below it lies a page that nobody may touch */
	void (*fn)(void *arg);
	void *arg;
	void *fake;  /* AddressSanitizer's */
	struct sim_fiber *next;
#ifdef __x86_64__
	void *sp;
#else
	ucontext_t context;
#endif
};

static struct sim_fiber *kept, *running;

/* ---- AddressSanitizer must know which stack is in use ---- */

#if WITH_ASAN
static void *main_fake;
static const void *main_bottom;
static size_t main_size;

static void leave_main(struct sim_fiber *to)
{
	__sanitizer_start_switch_fiber(&main_fake, to->stack, STACK);
}

static void back_in_main(void)
{
	__sanitizer_finish_switch_fiber(main_fake, NULL, NULL);
}

static void leave_fiber(struct sim_fiber *f)
{
	__sanitizer_start_switch_fiber(&f->fake, main_bottom, main_size);
}

static void back_in_fiber(struct sim_fiber *f)
{
	__sanitizer_finish_switch_fiber(f->fake, &main_bottom, &main_size);
}

static void clean_stack(struct sim_fiber *f)
{
	__asan_unpoison_memory_region(f->stack, STACK);
}
#else
static void leave_main(struct sim_fiber *to) { (void)to; }
static void back_in_main(void) { }
static void leave_fiber(struct sim_fiber *f) { (void)f; }
static void back_in_fiber(struct sim_fiber *f) { (void)f; }
static void clean_stack(struct sim_fiber *f) { (void)f; }
#endif

static void begin(void)
{
	back_in_fiber(running);
	running->fn(running->arg);
	abort(); /* it has paused for good before */
}

/* ---- the switch ---- */

#ifdef __x86_64__
/* Pushes what a called function must preserve, and changes stacks. */
void sim_fiber_swap(void **save, void *load);
__asm__(".text\n"
	".globl sim_fiber_swap\n"
	".type sim_fiber_swap,@function\n"
	"sim_fiber_swap:\n"
	"	push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15\n"
	"	mov %rsp, (%rdi)\n"
	"	mov %rsi, %rsp\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp\n"
	"	ret\n"
	".size sim_fiber_swap,.-sim_fiber_swap\n");

static void *main_sp;

static void prepare(struct sim_fiber *f)
{
	uintptr_t *top = (uintptr_t *)(void *)(f->stack + STACK);

	*--top = 0;                /* where begin() would return to */
	*--top = (uintptr_t)begin;
	for (int i = 0; i < 6; i++)
		*--top = 0;
	f->sp = top;
}

static void enter(struct sim_fiber *f)
{
	sim_fiber_swap(&main_sp, f->sp);
}

static void leave(struct sim_fiber *f)
{
	sim_fiber_swap(&f->sp, main_sp);
}
#else
static ucontext_t main_context;

static void prepare(struct sim_fiber *f)
{
	getcontext(&f->context);
	f->context.uc_stack.ss_sp = f->stack;
	f->context.uc_stack.ss_size = STACK;
	makecontext(&f->context, begin, 0);
}

static void enter(struct sim_fiber *f)
{
	swapcontext(&main_context, &f->context);
}

static void leave(struct sim_fiber *f)
{
	swapcontext(&f->context, &main_context);
}
#endif

void sim_fiber_run(struct sim_fiber *f)
{
	running = f;
	leave_main(f);
	enter(f);
	back_in_main();
	running = NULL;
}

void sim_fiber_pause(void)
{
	struct sim_fiber *f = running;

	leave_fiber(f);
	leave(f);
	back_in_fiber(f);
}

/* ---- life ---- */

static struct sim_fiber *map_fiber(void)
{
	struct sim_fiber *f = calloc(1, sizeof(*f));
	char *low = mmap(NULL, GUARD + STACK, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (!f || low == MAP_FAILED || mprotect(low, GUARD, PROT_NONE)) {
		fprintf(stderr, "collx-sim: no memory for a fiber\n");
		exit(70);
	}
	f->stack = low + GUARD;
	return f;
}

struct sim_fiber *sim_fiber_create(void (*fn)(void *arg), void *arg)
{
	struct sim_fiber *f = kept;

	if (f)
		kept = f->next;
	else
		f = map_fiber();
	f->fn = fn;
	f->arg = arg;
	f->fake = NULL;
	clean_stack(f);
	prepare(f);
	return f;
}

void sim_fiber_destroy(struct sim_fiber *f)
{
	f->next = kept;
	kept = f;
}

void sim_fiber_drop_stacks(void)
{
	struct sim_fiber *f;

	while ((f = kept)) {
		kept = f->next;
		munmap(f->stack - GUARD, GUARD + STACK);
		free(f);
	}
}
