/* SPDX-License-Identifier: BSD-3-Clause */
/* Calls that block for as long as they like, in a thread that is left behind when
 * the time is up; see base.h. */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "base.h"

enum { RUNS, HAS_RUN, LEFT_BEHIND };
enum { SLICE_NS = 100000000 }; /* between looks at the clock of cx_sys */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;
static pthread_once_t watching = PTHREAD_ONCE_INIT;

/* Who held the lock is not there. */
static void in_child(void)
{
	lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	ended = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
}

static void watch_forks(void)
{
	pthread_atfork(NULL, NULL, in_child);
}

static void *thread_main(void *arg)
{
	struct cx_aside *a = arg;
	int left;

	a->run(a);
	pthread_mutex_lock(&lock);
	left = a->state == LEFT_BEHIND;
	a->state = HAS_RUN;
	pthread_cond_broadcast(&ended);
	pthread_mutex_unlock(&lock);
	if (left)
		a->drop(a);
	return NULL;
}

/* The caller's signals are for the caller's threads. */
static int start(struct cx_aside *a)
{
	pthread_attr_t attr;
	sigset_t all, before;
	pthread_t thread;
	int err = pthread_attr_init(&attr);

	if (err)
		return err;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&thread, &attr, thread_main, a);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return err;
}

static void wait_slice(void)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += SLICE_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	pthread_cond_clockwait(&ended, &lock, CLOCK_MONOTONIC, &until);
}

int cx_aside_run(struct cx_aside *a, uint64_t deadline_ns)
{
	int err, done;

	pthread_once(&watching, watch_forks);
	a->state = RUNS;
	err = start(a);
	if (err)
		return cx_fail_errno(err, "a thread for a call that may block");
	pthread_mutex_lock(&lock);
	while (a->state == RUNS && cx_now_ns() < deadline_ns &&
	       !(a->stop && a->stop(a->stop_ctx)))
		wait_slice();
	done = a->state == HAS_RUN;
	if (!done)
		a->state = LEFT_BEHIND;
	pthread_mutex_unlock(&lock);
	return done;
}
