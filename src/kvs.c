/* SPDX-License-Identifier: BSD-3-Clause */
/* Which exchange there is; see kvs.h. */
#include <pthread.h>

#include "base/base.h"
#include "kvs.h"

static const struct cx_kvs *const all[] = { &cx_kvs_pmix, &cx_kvs_pmi2 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned number;

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
	pthread_mutex_lock(&lock);
	rc = kvs->share(rank, ranks, ++number, text, deadline_ns);
	pthread_mutex_unlock(&lock);
	return rc;
}
