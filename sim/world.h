/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The simulated world: hosts, processes with threads, virtual time and what of a
 * kernel the control plane uses (cx_sys). Everything that happens is an event at a
 * time; the same seed gives the same events.
 *
 *   world.c   time, events, chance, memory, trace
 *   task.c    processes and their threads: started, killed, paused
 *   sock.c    stream sockets of both kinds; links between hosts
 *   files.c   the names of unix sockets
 *   sys.c     the table that the control plane sees
 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "fiber.h"

enum { SIM_HOSTS = 8, SIM_PROCS = 96, SIM_TASKS = 3 /* of a process */, SIM_LINE = 512 };

static const uint64_t SIM_US = 1000, SIM_MS = 1000000, SIM_S = 1000000000;
static const uint64_t SIM_BEGINNING = 1000000000000; /* when the world begins */

/* ---- chance ---- */

struct sim_rng {
	uint64_t state;
};

uint64_t sim_rng_next(struct sim_rng *r);
/* Below n; 0 when n is 0. */
uint64_t sim_rng_below(struct sim_rng *r, uint64_t n);
/* Once in n times. */
bool sim_rng_once_in(struct sim_rng *r, uint64_t n);

/* ---- the world ---- */

struct sim_sock;
struct sim_proc;
struct sim_waiter;

/* A thread of a process. */
struct sim_task {
	struct sim_proc *proc;
	struct sim_fiber *fiber;
	void *(*run)(void *arg);
	void *arg;
	int id;
	bool started, done;
	bool waiting;              /* for somebody to wake it */
	bool deferred;             /* its turn came while the process was paused */
	uint64_t ticket;           /* of the event that resumes it; 0: none */
	struct sim_waiter *waiters;
	unsigned waiters_room;
	struct sim_task *joiner;
	char line[SIM_LINE];       /* the thread's error line while another one runs */
};

struct sim_proc {
	int number, host;
	char name[16];             /* in the trace */
	bool alive;
	int pauses;                /* > 0: stopped */
	uint64_t paused_at_ns, paused_ns; /* since when; for how long in all */
	uint64_t ended_ns;         /* when it ended or was killed */
	bool killed;
	int64_t clock_ppm;         /* by which its clock is fast */
	uint64_t clock_base_ns;
	uint32_t uid;
	struct sim_rng random;
	struct sim_sock **fds;
	int nfds, fds_room, open_fds, max_fds;
	uint64_t calls;            /* system calls so far */
	uint64_t kill_at_call;     /* 0: never */
	uint64_t kill_when_told;   /* so many times what was decided; 0: never */
	uint64_t allocs, fail_alloc_at;
	enum { SIM_SOUND, SIM_FLIP, SIM_REPEAT } garble; /* what it sends next over tcp */
	bool garbled;              /* and that has happened */
	struct sim_block *blocks;  /* allocated and not released */
	void *statics;             /* what guard.c and uid.c keep for a process */
	struct sim_task tasks[SIM_TASKS];
	int ntasks;
};

/* How the world is; set by the schedule before anything runs. */
struct sim_params {
	uint64_t call_ns;          /* what a system call costs */
	uint64_t preempt_in;       /* once in so many calls another one runs */
	uint64_t preempt_ns;       /* for up to so long */
	uint64_t local_ns, net_ns; /* up to so long does a byte take: within a host, between */
	uint64_t spike_in, spike_ns; /* once in so many times, up to so long instead */
	uint64_t short_io_in;      /* once in so many times a call moves fewer bytes */
	size_t buffer;             /* bytes a connection holds in each direction */
	bool reuse_fds;            /* the lowest free one, as a kernel does */
};

struct sim_world {
	uint64_t now;
	struct sim_rng chance;
	struct sim_params params;
	bool verbose;
	uint64_t digest;           /* of all that happened */
	uint64_t events;           /* handled so far */
	const char *broken;        /* the first rule of use that the code broke; NULL: none */
	char broken_text[256];
	struct sim_proc procs[SIM_PROCS];
	int nprocs;
	struct sim_task *running;
	bool cut[SIM_HOSTS][SIM_HOSTS]; /* [from][to] */
	uint64_t extra_ns[SIM_HOSTS][SIM_HOSTS];
};
extern struct sim_world sim;

/* An empty world; everything of the last one is forgotten. */
void sim_world_reset(uint64_t seed, bool verbose);
/* Handles events until none is left, or until the limits. */
void sim_world_run(uint64_t until_ns, uint64_t max_events);
/* Calls fn(arg) after so long; the number of that event. */
uint64_t sim_after(uint64_t delay_ns, void (*fn)(void *arg), void *arg);
/* Memory until the next reset, zeroed. */
void *sim_memory(size_t len);

/* What happened, for -v and for the digest. p may be NULL. */
void sim_trace(const struct sim_proc *p, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void sim_digest(uint64_t a, uint64_t b);
/* The code under test did what no program may: a call on a closed descriptor, say. */
void sim_broken(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- processes ---- */

struct sim_proc *sim_proc_create(const char *name, int host);
/* A new thread of it, which begins after so long; NULL: it has enough. */
struct sim_task *sim_task_create(struct sim_proc *p, void *(*run)(void *arg), void *arg,
				 uint64_t delay_ns);
void sim_proc_kill(struct sim_proc *p);
void sim_proc_pause(struct sim_proc *p);
void sim_proc_resume(struct sim_proc *p);
/* Its own clock. */
uint64_t sim_proc_now(const struct sim_proc *p);
uint64_t sim_proc_duration(const struct sim_proc *p, uint64_t ns);

/* From within a task: others run for so long, which nobody can shorten. */
void sim_task_nap(uint64_t ns);
/* Pauses until somebody wakes it or the time is over; UINT64_MAX: for good. */
void sim_task_wait(uint64_t ns);
/* Soon it is its turn, if it waits. */
void sim_task_wake(struct sim_task *t);

/* A program's main function. The process ends when it returns. */
void sim_proc_exit(void);

/* Memory of a process. */
struct sim_block {
	struct sim_block *next, **link;
	uint64_t number; /* of its process's allocations */
	size_t len;
};
void *sim_proc_alloc(struct sim_proc *p, size_t len);
void sim_proc_release(struct sim_proc *p, void *mem);

/* What is one a process and lies in static memory: guard.c's and uid.c's. */
void sim_statics_load(struct sim_proc *p);

/* ---- sockets: what sys.c calls; 0 or more, or -errno ---- */

int sim_fd_put(struct sim_proc *p, struct sim_sock *s);
struct sim_sock *sim_fd_get(struct sim_proc *p, int fd);
void sim_sock_ref(struct sim_sock *s);
/* One descriptor less; the last one closes it. */
void sim_sock_drop(struct sim_sock *s);

struct sim_sock *sim_sock_create(struct sim_proc *p, int domain, int type);
struct sim_sock *sim_bell_create(struct sim_proc *p);
void sim_bell_ring(struct sim_sock *s);
void sim_bell_hush(struct sim_sock *s);
int sim_sock_bind(struct sim_proc *p, struct sim_sock *s, const struct sockaddr *a, socklen_t len);
int sim_sock_listen(struct sim_sock *s, int backlog);
int sim_sock_accept(struct sim_proc *p, struct sim_sock *s);
int sim_sock_connect(struct sim_proc *p, struct sim_sock *s, const struct sockaddr *a,
		     socklen_t len);
long sim_sock_send(struct sim_proc *p, struct sim_sock *s, const struct msghdr *msg);
long sim_sock_recv(struct sim_proc *p, struct sim_sock *s, struct msghdr *msg);
int sim_sock_finish(struct sim_sock *s);
int sim_sock_error(struct sim_sock *s);
int sim_sock_name(const struct sim_sock *s, struct sockaddr *a, socklen_t *len);
int sim_sock_peer_uid(const struct sim_sock *s, uint32_t *uid);
short sim_sock_ready(const struct sim_sock *s);
/* t is woken when s changes; n waiters must be room for one. */
struct sim_waiter {
	struct sim_task *task;
	struct sim_waiter *next, **link;
};
void sim_sock_wait(struct sim_sock *s, struct sim_waiter *w);
void sim_sock_unwait(struct sim_waiter *w);
/* Is it one end of what b is the other end of? */
bool sim_sock_is_pair(const struct sim_sock *a, const struct sim_sock *b);

/* The network: after a change of sim.cut or sim.extra_ns. */
void sim_net_changed(void);
/* Breaks one of the connections of that process with other hosts or, where there are
 * none, of tcp: both ends see a reset. */
bool sim_net_reset_one(struct sim_proc *p);
/* The address of a host, port 0. */
void sim_net_address(int host, struct sockaddr_storage *a, socklen_t *len);
/* Somebody who listens, on this host's unix sockets or anywhere by tcp; false: nobody. */
bool sim_net_listener(int host, bool near, struct sockaddr_storage *a, socklen_t *len);
/* Bytes that looked like a proof when they passed by; 0: there were none. */
size_t sim_net_overheard(char *out, size_t room);
void sim_net_forget(void);

/* ---- names of unix sockets ---- */

int sim_name_bind(int host, const char *path, struct sim_sock *s);
struct sim_sock *sim_name_find(int host, const char *path);
int sim_name_mkdir(int host, const char *path, uint32_t uid);
int sim_name_rmdir(int host, const char *path);
int sim_name_link(int host, const char *from, const char *to);
int sim_name_unlink(int host, const char *path);
struct stat;
int sim_name_lstat(int host, const char *path, struct stat *st);
/* The i-th name in that folder; NULL behind the last one. */
const char *sim_name_in(int host, const char *folder, int i);
/* That socket's name, if it has one. */
void sim_name_of(const struct sim_sock *s, char path[108]);
/* How many names there are on all hosts. */
int sim_name_count(void);
void sim_name_forget(void);

/* ---- the table ---- */

extern const struct cx_sys sim_sys;

#endif
