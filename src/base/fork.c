/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Counts forks, so that a child knows a communicator for its parent's, and closes
 * the library's descriptors in the child. Nothing is sent or unlinked there.
 *
 * A bit stands for each descriptor. It is set after a descriptor was opened and
 * cleared before it is closed: a fork between the two leaves one open in the child,
 * where the other order could close somebody else's.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base.h"

enum {
	FDS = 1 << 20, /* the kernel's usual most; one above is not closed in a child */
	BITS = 64
};

static atomic_uint forks;
static pthread_once_t watching = PTHREAD_ONCE_INIT;
static _Atomic uint64_t owned[FDS / BITS];
static atomic_uint words; /* of owned that were ever used */

void cx_fd_own(int fd)
{
	unsigned word = (unsigned)fd / BITS, seen = atomic_load(&words);

	if (fd < 0 || fd >= FDS)
		return;
	while (seen <= word && !atomic_compare_exchange_weak(&words, &seen, word + 1))
		;
	atomic_fetch_or(&owned[word], (uint64_t)1 << fd % BITS);
}

void cx_fd_disown(int fd)
{
	if (fd >= 0 && fd < FDS)
		atomic_fetch_and(&owned[fd / BITS], ~((uint64_t)1 << fd % BITS));
}

static void close_owned(void)
{
	for (unsigned i = 0; i < atomic_load(&words); i++) {
		uint64_t bits = atomic_exchange(&owned[i], 0);

		for (; bits; bits &= bits - 1)
			close((int)i * BITS + __builtin_ctzll(bits));
	}
}

static void in_child(void)
{
	atomic_fetch_add_explicit(&forks, 1, memory_order_relaxed);
	close_owned();
}

static void watch(void)
{
	pthread_atfork(NULL, NULL, in_child);
}

void cx_fork_watch(void)
{
	pthread_once(&watching, watch);
}

unsigned cx_fork_count(void)
{
	return atomic_load_explicit(&forks, memory_order_relaxed);
}
