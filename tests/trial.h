/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Trials: a job of a few processes, something that happens to it, and what every rank
 * must make of it. Each operation's payload follows from (seed, epoch, operation, rank,
 * index) and is checked wherever the operation succeeds; after an error the buffers are
 * locked, so that whoever still wrote to them would end with a signal; after a repair the
 * communicator must give the same bits as a fresh one of the same ranks.
 */
#ifndef TRIAL_H
#define TRIAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "collx.h"

enum { TRIAL_RANKS = 8, TRIAL_JOINERS = 1, TRIAL_PEOPLE = TRIAL_RANKS + TRIAL_JOINERS };

enum trial_path { PATH_SHM, PATH_TCP, PATH_MIXED, PATHS };
enum trial_how { HOW_CALL, HOW_THREAD, HOW_IDLE, HOWS };
enum trial_op { OP_ALLREDUCE, OP_BROADCAST, OP_REDUCE, OP_ALLGATHER, OP_REDUCE_SCATTER,
		OP_BARRIER, OP_MESSAGE, OPS };
enum trial_fault {
	/* by a signal from outside */
	FAULT_NONE, FAULT_KILL, FAULT_STOP, FAULT_SIGNAL,
	/* by another thread of the victim, whatever the calling one does */
	FAULT_EXIT, FAULT_ABORT, FAULT_SEGV, FAULT_EXEC, FAULT_CHILD, FAULT_ABORT_COMM,
	FAULT_ABORT_TWICE, FAULT_REVOKE,
	/* by the thread that calls */
	FAULT_LEAVE, FAULT_COUNT, FAULT_TYPE, FAULT_OP, FAULT_ROOT, FAULT_COLL, FAULT_SKIP
};

/* What a rank tells; by its first number, joiners last. */
struct trial_note {
	int ready, step;     /* how far it came; the case's own numbers */
	int size;            /* of its communicator, after the last repair */
	int code, rank;      /* of the first error */
	collx_error error;   /* that one, where it was looked at */
	uint64_t known_ns;   /* when it knew of that, and */
	uint64_t again_ns;   /* had its next communicator */
	uint64_t ops;        /* that succeeded before */
	uint64_t flags[64];  /* decisions */
	pid_t child;
};

/* A job that loses and wins ranks. */
struct churn {
	int join, leave;     /* one more is wanted, or one less, by the driver */
	int slot;            /* the joiner's */
	int asked, size;     /* how often rank 0 asked for one, and to be how many */
	int kills, grown, shrunk;
	uint64_t ops, gap_ms; /* operations, and the longest time without */
};

/* Shared by all its processes. */
struct trial {
	/* the variation */
	enum trial_path path;
	enum trial_how how;
	enum trial_op op;
	enum trial_fault fault;
	size_t count;
	uint64_t seed;
	int ranks, root;        /* root -1: another one each time */
	unsigned victims;       /* those who are lost */
	int actor;              /* who does what the others suffer; -1: nobody */
	int calls;              /* after which a rank ends itself; 0: it does not */
	unsigned bound;         /* those who share one processor with who is busy */
	int want;               /* the first error's code */
	bool together;          /* the error names all victims */
	collx_config config;
	void (*live)(struct trial *t, int rank);
	int (*drive)(struct trial *t); /* beside them; NULL: as the fault is */
	/* the course */
	struct trial_note note[TRIAL_PEOPLE];
	pid_t pids[TRIAL_PEOPLE];
	collx_unique_id id, second;
	uint64_t hit_ns;
	int go, stop, token;
	struct churn churn;
	char base[64];
	/* the outcome */
	double told_ms, again_ms; /* until the last one knew, and after that; 0: not measured */
};

struct trial *trial_make(void);
void trial_free(struct trial *t);
/* Runs it; 0 when all was right, else stderr has what was not. */
int trial_run(struct trial *t);

/* ---- for drivers ---- */

uint64_t trial_now_ns(void);
int trial_load(const int *p);
/* Waits until all of these have come to `step`; 0, or 1 when they did not in 60 s. */
int trial_await(struct trial *t, unsigned who, int step);
/* Naps. 1 when rank p has ended, or that time has come. */
int trial_check(const struct trial *t, int p, uint64_t end_ms);
void trial_signal(struct trial *t, unsigned who, int sig);
pid_t trial_join(struct trial *t, void (*live)(struct trial *t, int rank), int rank);
unsigned trial_all(const struct trial *t);
/* A number below n, another one for each `what`. */
unsigned trial_draw(const struct trial *t, unsigned what, unsigned n);

/* ---- for ranks ---- */

struct worker {
	struct trial *t;
	int me;              /* its first number */
	collx_comm_t c, fresh; /* fresh: of the same ranks, to compare with; or NULL */
	unsigned epoch;
	uint64_t op;
	const collx_opts *opts;
	float *in, *out;
	size_t room;         /* elements of each */
};

int worker_open(struct worker *w, struct trial *t, int rank);
/* The same, and waits until all have: who repairs at once would end others' first calls. */
int worker_open_with_all(struct worker *w, struct trial *t, int rank);
void worker_close(struct worker *w);
/* Says that it came so far. */
void worker_step(struct worker *w, int step);
/* One operation, checked; its code. */
int worker_call(struct worker *w);
/* The same, in the midst of which the fault is that it differs from the others'. */
int worker_call_odd(struct worker *w);
/* Calls, or waits as the variation has it, until there is an error, and notes it. */
int worker_until_error(struct worker *w);
/* The error is the expected one, about somebody who is to blame. */
void worker_expect_error(struct worker *w, int rc);
/* Locks the buffers, and takes new ones. */
void worker_lock(struct worker *w);
/* Repairs as often as somebody is lost, until `size` ranks are left and work. */
int worker_settle(struct worker *w, int size);
/* Calls until the driver says stop: no error is right. */
void worker_until_stop(struct worker *w);
/* Makes w->fresh. */
int worker_refresh(struct worker *w);
/* One call of n fractions, always the same; its code. */
int worker_fractions(struct worker *w, enum trial_op op, size_t n);
/* The same call on both, of n fractions: are the results the same bits? */
void worker_compare_call(struct worker *w, enum trial_op op, size_t n);
/* The same of each operation, on a fresh one of its own. */
void worker_compare(struct worker *w);
/* The common life: suffers the fault, settles, compares, leaves. */
void worker_live(struct trial *t, int rank);

/* ---- the cases: trials.c ---- */

struct trial_case {
	const char *id, *what;
	/* Makes the i-th variation of it. */
	void (*vary)(struct trial *t, int i);
	double bound_ms[2];  /* until the last one knows: one host, TCP; 0: none */
	double again_ms;
	int ranks;           /* 0: 4 */
	bool slow;           /* seconds each: in make check once */
	int times;           /* variations in make check-faults at least */
};

extern const struct trial_case trial_cases[];
extern const int ntrial_cases;
/* Runs variation i of the case. */
int trial_case_run(const struct trial_case *k, int i, struct trial *t);

/* ---- between the files of the cases ---- */

enum { SMALL = 1, MIDDLE = 3000, LARGE = 1 << 18, BIG = 4 << 20, BIGGEST = 16 << 20 };

void trial_vary(struct trial *t, enum trial_fault fault, collx_result want, int i);
/* The same; the actor is lost by it. */
void trial_lose(struct trial *t, enum trial_fault fault, collx_result want, int i);
/* The victim goes on, and is told that it is out. */
int trial_wake(struct trial *t);
/* A driver that does nothing. */
int trial_wait(struct trial *t);

void trial_i2(struct trial *t, int i);
void trial_i3(struct trial *t, int i);
void trial_a3(struct trial *t, int i);
void trial_i8(struct trial *t, int i);
void trial_i8_haste(struct trial *t, int i);
void trial_i6(struct trial *t, int i);
void trial_i7(struct trial *t, int i);
void trial_continue(struct trial *t, int i);
void trial_i5(struct trial *t, int i);
void trial_g9(struct trial *t, int i);
void trial_healthy(struct trial *t, int i);
void trial_abort_beside(struct trial *t, int i);
void trial_callback(struct trial *t, int i);
void trial_deciding(struct trial *t, int i);
void trial_called_early(struct trial *t, int i);
void trial_watched(struct trial *t, int i);
void trial_aborted(struct trial *t, int i);
void trial_losing(struct trial *t, int i);
void trial_a9(struct trial *t, int i);
void trial_b8(struct trial *t, int i);
void trial_h4(struct trial *t, int i);
void trial_i4(struct trial *t, int i);
void trial_h7(struct trial *t, int i);
void trial_h8(struct trial *t, int i);
void trial_exit(struct trial *t, int i);
void trial_a6(struct trial *t, int i);
void trial_i11(struct trial *t, int i);

#endif
