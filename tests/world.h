/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ranks for the tests: processes or threads that meet in a private folder, each
 * with a communicator. Ranks check with EXPECT, never with Criterion's asserts: a
 * failing one in a forked process hangs the runner for ever.
 */
#ifndef WORLD_H
#define WORLD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "collx.h"

enum { WORLD_MAX = 16 };

typedef void world_fn(collx_comm_t comm, int rank, int size, void *arg);
typedef void world_raw_fn(const collx_unique_id *id, int rank, int size, void *arg);

struct world {
	int size;
	int threads;                /* threads of this process instead of processes */
	unsigned killed;            /* bit r: rank r ends by SIGKILL */
	unsigned deadline_s;        /* 0: 120 s */
	const collx_config *config; /* of the communicators */
	const char *transport;      /* NULL: the library's choice */
	int (*host)(int rank, int ranks); /* puts ranks on different hosts; NULL: on one */
	world_fn *fn;               /* with a communicator that world_run made */
	world_raw_fn *raw;          /* instead of fn: the rank makes its own */
	void *arg;
};

/* Runs a world to its end in a new private folder. 0 when every rank succeeded and
 * left nothing behind; else what was wrong stands on stderr. */
int world_run(const struct world *w);

/* ---- the parts, for tests that arrange things themselves ---- */

/* Unsets every COLLX_ variable and sets COLLX_RUNTIME_DIR to base/run. */
int folder_make(char base[64]);
/* 0 when nothing is left in the folder; removes it. */
int folder_gone(const char *base);

/* The file has this text then, all of it, or what it had. 0, or -1 and errno. */
int file_replace(const char *path, const char *text);

/* fork; the child dies with its parent and forgets earlier failures. */
pid_t rank_fork(void);
/* Ends a forked rank with what EXPECT found. */
_Noreturn void rank_exit(void);
/* Makes those of the n whose bit is set a process group; the number for kill(), which then has
 * them all at one time, however soon the caller loses its processor. 0: there are none. */
pid_t ranks_group(const pid_t *pids, int n, unsigned who);
/* Waits for n ranks; kills the rest when one fails or the deadline passes. Those
 * in `killed` must die by SIGKILL, the others must exit with 0. */
int ranks_wait(pid_t *pids, int n, unsigned killed, unsigned deadline_s);

/* Prints file:line and the text unless ok; the calling rank has failed then. Returns ok. */
#define EXPECT(ok, ...) expect_at(!!(ok), __FILE__, __LINE__, __VA_ARGS__)
int expect_at(int ok, const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Failures of the calling thread so far. */
int expect_failures(void);

uint64_t now_ms(void);
void nap_ms(unsigned ms);
int open_fds(void);
/* An address of the loopback that no other process has, so that nobody else is at its ports. */
void own_loopback(char address[16]);
/* Are as many open again? Those that serve the ranks below one that left may close
 * some seconds later. */
int fds_return(int before);
/* Are there no threads but those before folder_make? The guard's, which serves on after a
 * communicator was destroyed, has 10 s to end. */
int threads_end(void);
/* Before a fork: until the guard's thread has begun with this communicator. A sanitizer's
 * allocator does not bear a fork beside a thread that begins. */
void guard_begins(collx_comm_t comm);
/* Until all of a world's ranks are here, without the library: whoever then ends or stops does
 * so in nobody's call. */
void ranks_meet(int size);
/* Until another thread is in a call with it, which had to be started first. */
void call_begins(collx_comm_t comm);
uint64_t mix64(uint64_t x);

#endif
