/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a rank called, as all ranks must have called it, and its last calls where
 * another thread can read them while the rank goes on calling.
 */
#ifndef CX_SIGN_H
#define CX_SIGN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CX_SIGNS = 8 /* calls of a rank that can be read */ };

/* A collective call. */
struct cx_sign {
	uint64_t seq;  /* 1, 2, ... of the communicator's collectives */
	uint64_t count;
	uint64_t what; /* collective, type, operation and root: cx_sign_what; CX_SIGN_UNIFORM */
};
#define CX_SIGN_UNIFORM ((uint64_t)1 << 31) /* the call succeeds on all ranks or on none */

static inline uint64_t cx_sign_what(unsigned coll, unsigned type, unsigned op, int root)
{
	return (uint64_t)(uint32_t)root << 32 | coll << 16 | type << 8 | op;
}

/* Where a rank was when something happened: also what goes over the wire. */
struct cx_where {
	uint64_t seq;   /* the collective; 0: in none */
	uint32_t call;  /* collx_call: that one, or a message */
	uint32_t phase; /* collx_phase */
};
bool cx_where_is_sound(const struct cx_where *w);
/* "reduce_scatter"; "none". */
const char *cx_call_name(unsigned call);
/* "transferring". */
const char *cx_phase_name(unsigned phase);

/* "float32". */
const char *cx_type_name(unsigned type);

/* Is it a call that a rank of so many can have made? */
bool cx_sign_is_sound(const struct cx_sign *s, int ranks);

/* "broadcast(count 8, float32, root 0)". */
void cx_sign_words(const struct cx_sign *s, char *text, size_t len);

/*
 * The last calls. Written by the thread that calls, but for `last`, and read by the
 * guard. Twice as many slots as are read, so that one that is being written again
 * is known by `begun`.
 */
struct cx_calls {
	struct {
		_Atomic uint64_t count, what;
	} slot[2 * CX_SIGNS];
	_Atomic uint64_t begun, ended; /* the last operation that did */
	_Atomic uint64_t last;  /* the highest operation that may begin; the guard lowers it */
};

static inline void cx_calls_init(struct cx_calls *c)
{
	atomic_init(&c->last, UINT64_MAX);
	atomic_init(&c->begun, 0);
	atomic_init(&c->ended, 0);
}

/* 2 * operations begun, less 1 while the last one runs: as it was at some moment, and never
 * less than before. Two words, as the calling thread has the least to do so. */
static inline uint64_t cx_calls_state(const struct cx_calls *c)
{
	/* Pairs with the release in cx_calls_end: that call's begin is seen, too. */
	uint64_t ended = atomic_load_explicit(&c->ended, memory_order_acquire);
	uint64_t begun = atomic_load_explicit(&c->begun, memory_order_acquire);

	return 2 * begun - (begun != ended);
}

/* The highest operation that may go on, or begin. */
static inline uint64_t cx_calls_last(const struct cx_calls *c)
{
	/* Pairs with the release in ward.c: why no other may is written. */
	return atomic_load_explicit(&c->last, memory_order_acquire);
}

static inline bool cx_calls_may(const struct cx_calls *c, uint64_t seq)
{
	return seq <= cx_calls_last(c);
}

/*
 * Call number seq begins. Each release pairs with an acquire in cx_calls_read: who
 * reads a word of a later call from a slot finds all earlier states as well.
 */
static inline void cx_calls_begin(struct cx_calls *c, uint64_t seq, uint64_t count, uint64_t what)
{
	unsigned i = (unsigned)seq % (2 * CX_SIGNS);

	atomic_store_explicit(&c->slot[i].count, count, memory_order_release);
	atomic_store_explicit(&c->slot[i].what, what, memory_order_release);
	atomic_store_explicit(&c->begun, seq, memory_order_release);
}

/* Call number seq has ended. */
static inline void cx_calls_end(struct cx_calls *c, uint64_t seq)
{
	atomic_store_explicit(&c->ended, seq, memory_order_release);
}

/* Copies the last calls, oldest first, and the state as of them; how many: fewer
 * than there were only where the writer is faster. */
unsigned cx_calls_read(const struct cx_calls *c, uint64_t *state, struct cx_sign out[CX_SIGNS]);

/* In that call, as far as others know. */
struct cx_where cx_sign_where(const struct cx_sign *s);
/* In which collective its rank is, how far nobody else can tell; or in none. */
struct cx_where cx_calls_where(const struct cx_calls *c);

#endif
