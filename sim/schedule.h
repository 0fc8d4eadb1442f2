/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What happens in one simulated run, drawn from a seed before it begins: the job, the
 * state of the world, and the faults.
 */
#ifndef SIM_SCHEDULE_H
#define SIM_SCHEDULE_H

#include "world.h"

enum { SIM_RANKS = 32, SIM_FAULTS = 8, SIM_STRANGERS = 6,
       SIM_MANY_OPS = 60 /* more than are made before a fault strikes */ };

enum sim_fault_kind {
	SIM_KILL,          /* a process ends without a word */
	SIM_PAUSE,         /* it is stopped for a while */
	SIM_PAUSE_ALL,     /* all are */
	SIM_CUT,           /* a host is cut off, both ways */
	SIM_CUT_ONE_WAY,   /* only what it sends is lost */
	SIM_RESET,         /* a tcp connection breaks */
	SIM_NO_MEMORY,     /* an allocation fails */
	SIM_FEW_FILES,     /* a process may open few descriptors */
	SIM_LATE,          /* a rank starts late; for_ns */
	SIM_WRONG_SECRET,  /* a rank has another secret */
	SIM_TWICE,         /* a second process has its number */
	SIM_RESTART,       /* a process ends, and another one comes in its place */
	SIM_MISMATCH,      /* a rank calls something else as operation n */
	SIM_STRAGGLER,     /* a rank computes for long before operation n */
	SIM_LEAVE_EARLY,   /* a rank leaves after operation n */
	SIM_ROGUE,         /* a rank speaks out of turn; n: how */
	SIM_KILL_DECIDER,  /* so many system calls after it began to decide; meets: the chair */
	SIM_CUT_PAIR,      /* two hosts are cut from each other; n: the other one */
	SIM_VOTE_OUT,      /* others exclude a rank; n: who, meets: all of them */
	SIM_END,           /* a rank ends the communicator before operation n; where it waits
			    * for something, by another thread */
	SIM_GARBLE,        /* what it sends next over tcp comes with a changed bit; n odd: twice */
	SIM_JUMP,          /* a process's clock is suddenly for_ns ahead */
	SIM_MISCOUNT,      /* a rank names n joiners more than the others */
	SIM_FAULT_KINDS
};

/* When a fault strikes that is not there from the beginning. */
enum sim_when {
	SIM_AT_TIME,
	SIM_AT_DECIDING,   /* at_ns after its rank began to decide with others */
	SIM_AT_TOLD,       /* as soon as its rank is told a decision */
	SIM_AT_LEAVING,    /* as its rank leaves */
	SIM_AT_TELLING,    /* of SIM_KILL: when its rank has told n others a decision */
	SIM_AT_GROWING     /* at_ns after its rank began to grow, or to join */
};

struct sim_fault {
	enum sim_fault_kind kind;
	enum sim_when when;
	int rank;
	int host;
	uint64_t at_ns;   /* since the beginning */
	uint64_t for_ns;  /* UINT64_MAX: for good */
	uint64_t at_call; /* of SIM_KILL: not at a time but at this system call; 0: no */
	uint64_t n;
	uint64_t pass;    /* so often what it waits for has to come before */
	uint64_t passed;  /* so often it came */
	bool struck;      /* it has, where that is not known before */
	bool meets;       /* of SIM_MISMATCH: its messages reach others, who see it; of
			   * SIM_STRAGGLER: it computes behind operation n, before it agrees */
};

enum sim_meeting { SIM_UNIX, SIM_TCP, SIM_TCP_AND_LOCAL, SIM_MEETINGS };

struct sim_schedule {
	uint64_t seed;
	struct sim_params params;
	int ranks, hosts;
	int joiners;                   /* their numbers are behind the ranks' */
	uint64_t grow_at;              /* before that operation of a communicator without any */
	int host[SIM_RANKS];
	enum sim_meeting meeting;
	uint64_t create_ns, op_ns;     /* time for creation, and for an operation */
	uint64_t beat_ns, silence_ns;  /* of heartbeats */
	uint64_t decide_ns;            /* time for a decision */
	int generations;               /* communicators, at most */
	bool shrinks_well;             /* a next one also where nothing is wrong */
	uint64_t agree_every;          /* operations; 0: never */
	bool uniform;                  /* calls succeed on all or on none */
	bool lanes_end;                /* with their process: others see that, too */
	uint64_t straggler_ns;         /* who is late for so long is told of; 0: nobody is */
	int exchanges;
	bool passes_fds, mesh;
	bool lanes;                    /* next communicators connect hosts, as the library does */
	unsigned ring_hosts;           /* beyond so many leaders watch each other */
	int ops;
	uint64_t think_ns;             /* between operations, up to so long */
	uint64_t stays_ns;             /* a process, after it left; 0: by chance */
	bool near;                     /* who is of one host can look whether a process lives */
	uint32_t go_on;                /* these ranks do so in any case, and soon */
	uint64_t start_ns[SIM_RANKS];
	int64_t ppm[SIM_RANKS];
	bool abrupt[SIM_RANKS];        /* after an error the process ends without closing */
	int nfaults;
	struct sim_fault fault[SIM_FAULTS];
	int nstrangers;
	struct {
		int host, how;
		uint64_t at_ns;
	} stranger[SIM_STRANGERS];
};

/* ranks 0: as the seed says. Without faults when !faults. */
void sim_schedule_draw(struct sim_schedule *s, uint64_t seed, int ranks, bool faults);
/* rare.c: instead of what was drawn, what chance seldom brings together. */
void sim_schedule_draw_rare(struct sim_schedule *s, struct sim_rng *r);
/* more.c: the same, for what calls and clocks promise. */
void sim_schedule_draw_more(struct sim_schedule *s, struct sim_rng *r);
/* Uniform calls, and processes that end in them, at whatever moment. */
void sim_schedule_draw_kills(struct sim_schedule *s);
/* Joiners, who come or do not; faults !faults: none besides. */
void sim_schedule_draw_grow(struct sim_schedule *s, bool faults);
/* Pairs of hosts that are cut from each other for good, and little else. */
void sim_schedule_draw_pairs(struct sim_schedule *s);
/* Time for operations from the beginning, a few ms each; no faults yet. */
void sim_keep_busy(struct sim_schedule *s, struct sim_rng *r);
struct sim_fault *sim_add_fault(struct sim_schedule *s, enum sim_fault_kind kind, int rank,
				uint64_t at_ns, uint64_t for_ns);
void sim_schedule_print(const struct sim_schedule *s);
/* The fault of that kind that concerns that rank (-1: any); NULL. */
const struct sim_fault *sim_schedule_find(const struct sim_schedule *s, enum sim_fault_kind kind,
					  int rank);

#endif
