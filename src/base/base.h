/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The bottom room: what every other room may use. Knows libc only.
 */
#ifndef CX_BASE_H
#define CX_BASE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "collx.h"

struct ifaddrs;
struct pollfd;
struct stat;

/* ---- errors: err.c ---- */

/*
 * Records one line for the calling thread and returns code. The function that
 * decides an error calls it; everybody above only passes the code up.
 */
int cx_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same with ": <text of err>" appended; EMFILE and ENOMEM pick their own code. */
int cx_fail_errno(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The calling thread's last line, "" if none. */
const char *cx_error_text(void);
/* What others said, and names, may hold anything: one line it is, and no terminal's command. */
void cx_line_clean(char *text);
/* The system call's errno that the line is about; 0: none. */
int cx_error_errno(void);
void cx_error_clear(void);

/* ---- the world outside: sys.c ---- */

/*
 * Time, randomness, memory, sockets, their names and threads of the control plane,
 * in one table so that a test or the simulator (sim/) can stand in for the world.
 * Never NULL.
 */
/* Which process: its number in a space of numbers, and when it began. */
struct cx_process {
	uint64_t space, start;
	int32_t number; /* 0: none */
};

/* Its state: /proc's letter, T where it is stopped, t where it is traced; or */
enum {
	CX_PROCESS_UNKNOWN = 0,
	CX_PROCESS_GONE = 'X', /* it has ended */
	CX_PROCESS_ENDS = 'E'  /* it is killed, or ends, and will be gone in a moment */
};

struct cx_sys {
	uint64_t (*now_ns)(void);                /* monotonic */
	int (*random)(void *buf, size_t len);    /* 0 or -errno */
	void *(*alloc)(size_t len);              /* 64-byte aligned; NULL: exhausted */
	void (*release)(void *p);
	int (*socket)(int domain, int type);     /* CLOEXEC and non-blocking; fd or -errno */
	int (*bind)(int fd, const struct sockaddr *addr, socklen_t len);
	int (*listen)(int fd, int backlog);
	int (*accept)(int fd);                   /* CLOEXEC and non-blocking; fd or -errno */
	int (*connect)(int fd, const struct sockaddr *addr, socklen_t len);
	long (*sendmsg)(int fd, const struct msghdr *msg); /* no SIGPIPE; bytes or -errno */
	long (*recvmsg)(int fd, struct msghdr *msg);       /* bytes, 0 at the end, or -errno */
	int (*finish)(int fd);                             /* sends no more; 0 or -errno */
	int (*connected)(int fd);                          /* after EINPROGRESS; 0 or -errno */
	int (*untaken)(int fd); /* bytes sent that the other end's system has not; 0: unknown */
	int (*setopt)(int fd, int level, int name, int value);
	/* Of a connection that says little, and waits for answers: what the network loses is sent
	 * again soon, and soon again. As far as this system can. */
	void (*insist)(int fd);
	int (*local_name)(int fd, struct sockaddr *addr, socklen_t *len);
	int (*peer_name)(int fd, struct sockaddr *addr, socklen_t *len);
	int (*peer_uid)(int fd, uint32_t *uid);            /* of a unix socket; 0 or -errno */
	int (*poll)(struct pollfd *fds, unsigned n, int timeout_ms);
	int (*dup)(int fd);                      /* CLOEXEC; fd or -errno */
	int (*close)(int fd);                    /* of a descriptor that is the library's */

	int (*interfaces)(struct ifaddrs **all); /* as getifaddrs; 0 or -errno */
	void (*release_interfaces)(struct ifaddrs *all);

	/* names of unix sockets; 0 or -errno */
	int (*mkdir)(const char *path);          /* mode 0700 */
	int (*rmdir)(const char *path);
	int (*link)(const char *from, const char *to);
	int (*unlink)(const char *path);
	int (*lstat)(const char *path, struct stat *st);
	int (*list)(const char *folder, void (*each)(void *ctx, const char *name), void *ctx);

	/* threads, and a descriptor that one wakes the other by */
	int (*spawn)(pthread_t *thread, void *(*run)(void *arg), void *arg); /* signals blocked */
	void (*join)(pthread_t thread);
	void (*hurry)(void);                     /* this thread seldom runs; then, soon, please */
	int (*thread_id)(void);                  /* no other thread of this host has it */
	void (*yield)(void);
	int (*bell)(void);                       /* readable once it was rung; fd or -errno */
	void (*ring)(int bell);
	void (*hush)(int bell);                  /* not readable until it is rung again */

	/* processes of this host; both may be NULL where there is no way to know */
	void (*process)(struct cx_process *own); /* number 0: it cannot be known */
	int (*process_state)(const struct cx_process *p); /* of the same space */

	void (*say)(const char *line);           /* to a person, whatever becomes of it */
};
extern const struct cx_sys *cx_sys;
extern const struct cx_sys cx_sys_real;

static inline uint64_t cx_now_ns(void)
{
	return cx_sys->now_ns();
}

/* n * size bytes, zeroed, 64-byte aligned; NULL (and a recorded line) when
 * exhausted or when the product overflows. */
void *cx_alloc(size_t n, size_t size);
/* The same without zeroing: pages that are never written cost nothing. */
void *cx_buffer(size_t n, size_t size);
void cx_free(void *p);

/* ---- environment: env.c ---- */

/* Every variable libcollx reads, in one table: collx-info and collx_env(7)
 * print it, and no other file calls getenv. */
enum cx_env {
	CX_ENV_RANK,
	CX_ENV_SIZE,
	CX_ENV_LOCAL_RANK,
	CX_ENV_ADDR,
	CX_ENV_SECRET_FILE,
	CX_ENV_SECRET,
	CX_ENV_INSECURE,
	CX_ENV_INTERFACE,
	CX_ENV_PORT,
	CX_ENV_PORT_RANGE,
	CX_ENV_TIMEOUT_MS,
	CX_ENV_CREATE_TIMEOUT_MS,
	CX_ENV_HEARTBEAT_MS,
	CX_ENV_SILENCE_MS,
	CX_ENV_STRAGGLER_MS,
	CX_ENV_RING_HOSTS,
	CX_ENV_ALGO,
	CX_ENV_TRANSPORT,
	CX_ENV_KERNEL,
	CX_ENV_SPIN_US,
	CX_ENV_RUNTIME_DIR,
	/* other launchers' */
	CX_ENV_TORCH_RANK,
	CX_ENV_TORCH_SIZE,
	CX_ENV_TORCH_LOCAL_RANK,
	CX_ENV_TORCH_LOCAL_SIZE,
	CX_ENV_MASTER_ADDR,
	CX_ENV_MASTER_PORT,
	CX_ENV_OMPI_RANK,
	CX_ENV_OMPI_SIZE,
	CX_ENV_OMPI_LOCAL_RANK,
	CX_ENV_OMPI_LOCAL_SIZE,
	CX_ENV_PMIX_NAMESPACE,
	CX_ENV_PMIX_RANK,
	CX_ENV_SLURM_RANK,
	CX_ENV_SLURM_SIZE,
	CX_ENV_SLURM_LOCAL_RANK,
	CX_ENV_SLURM_HOSTS,
	CX_ENV_SLURM_JOB,
	CX_ENV_SLURM_STEP,
	CX_ENV_PMI_RANK,
	CX_ENV_PMI_SIZE,
	CX_ENV_PMI_FD,
	CX_ENV_PMI_JOB,
	CX_ENV_MPI_LOCAL_RANK,
	CX_ENV_MPI_LOCAL_SIZE,
	CX_ENV_COUNT
};
struct cx_env_entry {
	const char *name;
	const char *type;    /* "integer", "text", "path" */
	const char *fallback; /* what counts when it is not set */
	const char *help;
};
const struct cx_env_entry *cx_env_entry(enum cx_env v);
/* The value, or NULL when unset or empty. */
const char *cx_env_text(enum cx_env v);
/* 1 and *out when set and an integer in [lo, hi]; 0 when unset; COLLX_ERR_INVALID otherwise. */
int cx_env_int(enum cx_env v, long lo, long hi, long *out);

/* 1 with *first <= *last when set to FIRST-LAST within [lo, hi]; 0 when unset;
 * COLLX_ERR_INVALID otherwise. */
int cx_env_range(enum cx_env v, long lo, long hi, long *first, long *last);

/* ---- pthread_cancel: sys.c ---- */

/* A thread that is cancelled within the library ends after the call, which it would else
 * leave half done: between these two. They nest. */
int cx_cancel_hold(void);      /* what the other one is given */
void cx_cancel_release(int was);

/* ---- calls that may block for long: aside.c ---- */

/* Foreign code without a deadline of its own. Embedded in what it works on, which
 * holds copies of all that it needs. */
struct cx_aside {
	void (*run)(struct cx_aside *a);  /* in a thread of its own; records no error line */
	void (*drop)(struct cx_aside *a); /* frees it */
	int state;
	int (*stop)(void *ctx);           /* asked by who waits: not 0 ends that; NULL: never */
	void *stop_ctx;
};

/* 1: it has run, and is the caller's; 0: the deadline passed, or it was stopped, and the
 * thread will drop it; or an error: it did not run and is the caller's. */
int cx_aside_run(struct cx_aside *a, uint64_t deadline_ns);

/* ---- forks: fork.c ---- */

/* From the first cx_fork_watch on, cx_fork_count grows in every forked child, and
 * the descriptors that this library owns are closed there: a child must not keep
 * a connection alive whose process died. */
void cx_fork_watch(void);
unsigned cx_fork_count(void);

/* Is this descriptor the library's? cx_sys sees to what it opens and closes, so
 * that only other ways (memfd_create, fcntl, SCM_RIGHTS) must be told of. */
void cx_fd_own(int fd);
void cx_fd_disown(int fd);

/* ---- small things ---- */

#define CX_LINE 64 /* bytes of a cache line */

static inline size_t cx_min(size_t a, size_t b)
{
	return a < b ? a : b;
}

static inline size_t cx_max(size_t a, size_t b)
{
	return a > b ? a : b;
}

static inline size_t cx_round_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

static inline void cx_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield" ::: "memory");
#endif
}

#endif
