/* SPDX-License-Identifier: BSD-3-Clause */
/* Which exchange there is; see kvs.h. */
#include <pthread.h>
#include <time.h>

#include "base/base.h"
#include "kvs.h"

static const struct cx_kvs *const all[] = { &cx_kvs_pmix, &cx_kvs_pmi2 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t watching = PTHREAD_ONCE_INIT;
static unsigned number;

/* Who held the lock is not there. */
static void in_child(void)
{
	lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}

static void watch_forks(void)
{
	pthread_atfork(NULL, NULL, in_child);
}

/* One exchange at a time: the launchers' protocols know no more. */
static int take_turn(const struct cx_kvs *kvs, uint64_t deadline_ns)
{
	const struct timespec until = { (time_t)cx_min(deadline_ns / 1000000000, INT32_MAX),
					(long)(deadline_ns % 1000000000) };

	pthread_once(&watching, watch_forks);
	if (pthread_mutex_clocklock(&lock, CLOCK_MONOTONIC, &until))
		return cx_fail(COLLX_ERR_INIT_TIMEOUT, "no time is left to hear of rank 0 by %s: "
			       "another thread's exchange takes long", kvs->name);
	return 0;
}

const struct cx_kvs *cx_kvs_find(void)
{
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i]->is_offered())
			return all[i];
	return NULL;
}

int cx_kvs_share(const struct cx_kvs *kvs, int rank, int ranks, char *text, uint64_t deadline_ns)
{
	int rc;

	if (cx_now_ns() >= deadline_ns)
		return cx_fail(COLLX_ERR_INIT_TIMEOUT, "no time is left to hear of rank 0 by %s",
			       kvs->name);
	rc = take_turn(kvs, deadline_ns);
	if (rc)
		return rc;
	rc = kvs->share(rank, ranks, ++number, text, deadline_ns);
	pthread_mutex_unlock(&lock);
	return rc;
}

int cx_kvs_sizes(int *ranks, int *local, uint64_t deadline_ns)
{
	int rc = take_turn(&cx_kvs_pmix, deadline_ns);

	if (rc)
		return rc;
	rc = cx_kvs_pmix_sizes(ranks, local, deadline_ns);
	pthread_mutex_unlock(&lock);
	return rc;
}
