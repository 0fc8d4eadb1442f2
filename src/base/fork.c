/* SPDX-License-Identifier: BSD-3-Clause */
/* Counts forks, so that a child knows a communicator for its parent's. */
#include <pthread.h>
#include <stdatomic.h>

#include "base.h"

static atomic_uint forks;
static pthread_once_t watching = PTHREAD_ONCE_INIT;

static void in_child(void)
{
	atomic_fetch_add_explicit(&forks, 1, memory_order_relaxed);
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
