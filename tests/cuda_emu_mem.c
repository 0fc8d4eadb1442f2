/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The emulation's memory: which buffers there are, and who touched what in which
 * order. The compiler calls the __tsan_ functions at the end before every load and
 * store of a kernel. See cuda_emu.h and cuda_emu_int.h.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/cuda_emu_int.h"

/* ---- device memory ---- */

enum { MAX_BUFFERS = 512, AROUND = 512 };
static struct buffer {
	char *start, *room;
	size_t len;
} buffers[MAX_BUFFERS];
static unsigned nbuffers;

void *emu_alloc(size_t len)
{
	struct buffer *b = &buffers[nbuffers];

	if (nbuffers == MAX_BUFFERS)
		return NULL;
	b->room = aligned_alloc(AROUND, (len + 3 * AROUND) / AROUND * AROUND);
	if (!b->room)
		return NULL;
	b->start = b->room + AROUND;
	b->len = len;
	memset(b->start, 0xa5, len);
	nbuffers++;
	return b->start;
}

void emu_free(void *p)
{
	for (unsigned i = 0; i < nbuffers; i++) {
		if (buffers[i].start == p) {
			free(buffers[i].room);
			buffers[i] = buffers[--nbuffers];
			return;
		}
	}
}

static const struct buffer *buffer_of(const void *p)
{
	static unsigned last;

	if (last < nbuffers && (const char *)p >= buffers[last].start &&
	    (const char *)p < buffers[last].start + buffers[last].len)
		return &buffers[last];
	for (unsigned i = 0; i < nbuffers; i++) {
		if ((const char *)p >= buffers[i].start &&
		    (const char *)p < buffers[i].start + buffers[i].len) {
			last = i;
			return &buffers[i];
		}
	}
	return NULL;
}

void *emu_find(const void *p, size_t *len)
{
	const struct buffer *b = buffer_of(p);

	if (b && len)
		*len = b->len;
	return b ? b->start : NULL;
}

/* ---- who touched it ---- */

/* One access to some bytes of 8. tick 0: none. */
struct cell {
	uint64_t tick : 32, thread : 16, bytes : 8, write : 1, atomic : 1;
};
enum { READS = 4, CELLS = 8, WORDS = 64 }; /* cells of a word: READS reads, then writes */

/* What is known of 512 bytes. */
struct page {
	uintptr_t number;
	uint32_t generation;
	struct cell cells[WORDS][CELLS];
	struct page *next;
};
enum { SLOTS = 1 << 14 };
static struct page *pages[SLOTS];

static struct page *page_of(uintptr_t address)
{
	uintptr_t number = address / (8 * WORDS);
	struct page **slot = &pages[number % SLOTS], *p;

	for (p = *slot; p && p->number != number; p = p->next)
		;
	if (!p) {
		p = calloc(1, sizeof(*p));
		if (!p)
			abort();
		p->number = number;
		p->next = *slot;
		*slot = p;
	}
	if (p->generation != emu.generation) {
		memset(p->cells, 0, sizeof(p->cells));
		p->generation = emu.generation;
	}
	return p;
}

void emu_mem_forget(const void *p, size_t len)
{
	uintptr_t from = (uintptr_t)p / 8, to = ((uintptr_t)p + len + 7) / 8;

	for (; from < to; from++)
		memset(page_of(from * 8)->cells[from % WORDS], 0, CELLS * sizeof(struct cell));
}

static uint32_t fact(const struct emu_known *k, enum emu_scope scope, unsigned number)
{
	for (unsigned i = 0; i < k->n; i++)
		if (k->facts[i].who == ((uint32_t)scope << 30 | number))
			return k->facts[i].tick;
	return 0;
}

static bool listed(const struct emu_known *k, const struct emu_thread *t, uint32_t tick)
{
	unsigned warp = t->number / EMU_LANES;

	return k->n && (tick <= fact(k, EMU_OF_THREAD, t->number) ||
			tick < fact(k, EMU_OF_WARP, warp) ||
			tick < fact(k, EMU_OF_BLOCK, t->block->number));
}

/* Does the running thread know this access? */
static bool ordered(const struct cell *c)
{
	const struct emu_thread *self = emu.self, *t = &emu.threads[c->thread];

	if (t == self || (t->block == self->block && c->tick < self->block->barrier_tick) ||
	    (t->warp == self->warp && c->tick < self->warp->sync_tick))
		return true;
	return listed(&self->known, t, c->tick) || listed(&self->block->known, t, c->tick) ||
	       listed(&self->warp->known, t, c->tick);
}

static void touch_word(uintptr_t word, struct cell now)
{
	struct cell *cells = page_of(word * 8)->cells[word % WORDS], *mine, *free_one = NULL;

	for (unsigned i = 0; i < CELLS; i++) {
		struct cell *c = &cells[i];

		if (!c->tick || !(c->bytes & now.bytes) || (!c->write && !now.write) ||
		    (c->atomic && now.atomic) || ordered(c))
			continue;
		emu_fail("a race: %s of block %u, thread %u and %s of block %u, thread %u "
			 "at %p have no order",
			 now.write ? "a write" : "a read", emu.self->block->number,
			 emu.self->in_block, c->write ? "a write" : "a read",
			 emu.threads[c->thread].block->number, emu.threads[c->thread].in_block,
			 (void *)(word * 8));
	}
	mine = now.write ? cells + READS : cells;
	for (unsigned i = 0; i < CELLS / 2; i++) {
		if (mine[i].tick && mine[i].thread == now.thread && mine[i].bytes == now.bytes &&
		    mine[i].atomic == now.atomic) {
			mine[i] = now;
			return;
		}
		if (!mine[i].tick)
			free_one = &mine[i];
	}
	*(free_one ? free_one : &mine[emu_random() % (CELLS / 2)]) = now;
}

static void touch(uintptr_t a, size_t size, bool write, bool atomic)
{
	struct cell now = {.tick = emu.self->block->tick, .thread = emu.self->number,
			   .write = write, .atomic = atomic};

	while (size) {
		size_t n = 8 - a % 8;

		n = n < size ? n : size;
		now.bytes = ((1u << n) - 1) << (a % 8);
		touch_word(a / 8, now);
		a += n;
		size -= n;
	}
}

/* ---- hand-over by volatile and atomic accesses ---- */

struct place {
	uintptr_t address;
	struct emu_known known;
	struct place *next;
};
enum { PLACES = 1024 };
static struct place *places[PLACES];

void emu_mem_begin(void)
{
	emu.generation++;
	for (unsigned i = 0; i < PLACES; i++) {
		while (places[i]) {
			struct place *p = places[i];

			places[i] = p->next;
			free(p->known.facts);
			free(p);
		}
	}
}

static struct place *place_of(uintptr_t a)
{
	struct place **slot = &places[a / 4 % PLACES], *p;

	for (p = *slot; p && p->address != a; p = p->next)
		;
	if (!p) {
		p = calloc(1, sizeof(*p));
		if (!p)
			abort();
		p->address = a;
		p->next = *slot;
		*slot = p;
	}
	return p;
}

/* A store replaces what the place hands over, a read-modify-write adds to it. */
static void hand_over(uintptr_t a, bool load, bool store)
{
	struct place *p = place_of(a);

	if (load)
		emu_learn(&emu.self->seen, &p->known);
	if (!store)
		return;
	if (!load)
		emu_known_reset(&p->known);
	emu_learn(&p->known, &emu.self->released);
}

/* ---- one access ---- */

extern char __executable_start, _end;

/* Is it in the shared memory of the running block? Fails when it is not all written. */
static bool in_shared(uintptr_t a, size_t size, bool write)
{
	struct emu_block *b = emu.self->block;
	uintptr_t from = a - (uintptr_t)b->shared;

	if (from >= emu.launch->shared)
		return false;
	if (size > emu.launch->shared - from)
		emu_fail("%zu bytes at %zu of %zu bytes of shared memory", size, (size_t)from,
			 emu.launch->shared);
	for (size_t i = from; i < from + size; i++) {
		if (write)
			b->written[i / 8] |= 1u << i % 8;
		else if (!(b->written[i / 8] & 1u << i % 8))
			emu_fail("byte %zu of shared memory is read, but was not written "
				 "(block %u, thread %u)", i, b->number, emu.self->in_block);
	}
	return true;
}

/* Is it memory that all threads share? Fails when it is not the kernel's at all. */
static bool is_shared(uintptr_t a, size_t size, bool write)
{
	const struct emu_thread *self = emu.self;
	const struct buffer *b;

	if (a - (uintptr_t)self->stack < EMU_STACK)
		return false;
	if (in_shared(a, size, write))
		return true;
	b = buffer_of((const void *)a);
	if (b && size <= b->len - (a - (uintptr_t)b->start))
		return true;
	if (!b && !write && a >= (uintptr_t)&__executable_start && a < (uintptr_t)&_end)
		return false;
	emu_fail("a %s of %zu bytes outside of every buffer, at %p, block %u, thread %u",
		 write ? "write" : "read", size, (void *)a, self->block->number, self->in_block);
}

static void access_memory(const void *p, size_t size, bool write, bool aligned)
{
	uintptr_t a = (uintptr_t)p;

	if (!emu.self || !is_shared(a, size, write))
		return;
	if (aligned && a % size)
		emu_fail("a misaligned %s of %zu bytes at %p", write ? "write" : "read", size, p);
	if (emu_options.preempt && emu_random() % emu_options.preempt == 0)
		emu_yield();
	touch(a, size, write, false);
}

static void access_volatile(const void *p, size_t size, bool write)
{
	uintptr_t a = (uintptr_t)p;

	if (!emu.self || !is_shared(a, size, write))
		return;
	if (a % size)
		emu_fail("a misaligned volatile access of %zu bytes at %p", size, p);
	emu_yield();
	touch(a, size, write, true);
	hand_over(a, !write, write);
}

void emu_touch(const void *p, size_t size, int write)
{
	access_memory(p, size, write, true);
}

void emu_aligned(const void *p, size_t size)
{
	if (emu.self && (uintptr_t)p % size)
		emu_fail("a misaligned vector of %zu bytes at %p", size, p);
}

uint64_t emu_atomic(enum emu_atomic op, void *p, unsigned size, uint64_t value, uint64_t old)
{
	uint64_t was = 0, is;

	if (!is_shared((uintptr_t)p, size, true) || (uintptr_t)p % size || (size != 4 && size != 8))
		emu_fail("an atomic operation at %p", p);
	emu_yield();
	touch((uintptr_t)p, size, true, true);
	hand_over((uintptr_t)p, true, true);
	memcpy(&was, p, size);
	switch (op) {
	case EMU_ATOMIC_ADD: is = was + value; break;
	case EMU_ATOMIC_MAX: is = was > value ? was : value; break;
	case EMU_ATOMIC_OR: is = was | value; break;
	case EMU_ATOMIC_XCHG: is = value; break;
	default: is = was == old ? value : was; break;
	}
	memcpy(p, &is, size);
	return was;
}

/* ---- what the compiler calls ---- */

void __tsan_init(void);
void __tsan_init(void)
{
}

void __tsan_func_entry(void *pc);
void __tsan_func_entry(void *pc)
{
	(void)pc;
}

void __tsan_func_exit(void);
void __tsan_func_exit(void)
{
}

#define HOOK(name, call) \
	void __tsan_##name(void *p); \
	void __tsan_##name(void *p) \
	{ \
		call; \
	}
#define HOOKS(size) \
	HOOK(read##size, access_memory(p, size, false, true)) \
	HOOK(write##size, access_memory(p, size, true, true)) \
	HOOK(unaligned_read##size, access_memory(p, size, false, false)) \
	HOOK(unaligned_write##size, access_memory(p, size, true, false)) \
	HOOK(volatile_read##size, access_volatile(p, size, false)) \
	HOOK(volatile_write##size, access_volatile(p, size, true))
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

void __tsan_read_range(void *p, size_t size);
void __tsan_read_range(void *p, size_t size)
{
	access_memory(p, size, false, false);
}

void __tsan_write_range(void *p, size_t size);
void __tsan_write_range(void *p, size_t size)
{
	access_memory(p, size, true, false);
}
