/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A simulated job: processes that create a communicator's control plane, make calls
 * and leave, all by the real code; strangers; and a judge of how it went.
 */
#ifndef SIM_JOB_H
#define SIM_JOB_H

#include "auth.h"
#include "boot.h"
#include "council.h"
#include "guard.h"
#include "rally.h"
#include "schedule.h"
#include "wire.h"

enum { SIM_LANES = 2, SIM_RECORD = 512, SIM_PLAYERS = SIM_RANKS + SIM_FAULTS,
       SIM_COMMS = 64, SIM_GENERATIONS = 3, SIM_DECISIONS = 128,
       SIM_CALLS = 64 /* of a communicator */ };

struct cx_boot;

/* What became of one rank's call. */
struct sim_call {
	uint64_t begun_ns, moved_ns, ended_ns; /* moved: its data were, or failed; 0: not yet */
	int code;                    /* 0: it succeeded */
	bool barred;                 /* when it ended, its rank took part in no decision more */
	uint64_t told_ns;            /* when it heard that somebody is late for it; 0 */
};

/* A communicator, as its ranks have it or try to make it. */
struct sim_comm {
	int generation;
	const struct sim_comm *parent;
	struct sim_comm *child;  /* that ranks of it went on in */
	collx_unique_id id;
	int ranks, member[SIM_RANKS]; /* [rank in it]: rank in the job */
	struct cx_motion decided[SIM_DECISIONS]; /* [number]; of kind 0: not known */
	uint32_t kind[SIM_RANKS];   /* [rank in it]: of its last vote */
	uint64_t flags[SIM_RANKS], exclude[SIM_RANKS];
	struct cx_set out;          /* by any decision */
	int aborter;                /* 1 + the rank of the job that aborted it first; 0 */
	bool unsure;                /* somebody did not wait for the answer to a vote */
	uint64_t told[SIM_DECISIONS]; /* [number]: ranks of the job that were told it */
	bool parted;                /* and may go on in two, see recover.c */
	struct sim_lanes *lanes;
	struct sim_sock *mesh[SIM_RANKS][SIM_RANKS * SIM_LANES]; /* [rank in it] */
	struct sim_call call[SIM_CALLS][SIM_RANKS]; /* [operation][rank of the job] */
};

/* A rank's part in a communicator. */
struct sim_stay {
	struct sim_comm *comm;
	struct cx_boot *boot;
	struct cx_nest nest;
	struct cx_rally *rally;  /* until the guard has it */
	int *beside;             /* the same */
	struct cx_ward *ward;
	const struct cx_council *council; /* while the ward is there */
	bool closed;             /* it leaves, or has left */
	struct cx_calls calls;
	struct collx_comm *handle; /* of uniform calls; NULL: there was none yet */
	uint64_t stragglers;     /* that it was told of */
};

/* How the way to the next communicator went. */
struct sim_rescue {
	bool tried, done;
	int unreached;           /* 1 + a lower rank that did not answer this one */
	int code;                /* 0: there is a next one */
	uint64_t begun_ns, ended_ns;
	char text[CX_FAULT_TEXT_MAX];
};

/* A process of the job. */
struct sim_player {
	int rank;
	bool second;           /* of two with this number */
	struct sim_proc *proc;
	struct sim_stay *at;
	const struct sim_player *before; /* as it was in the communicator before this one */
	struct sim_rescue rescue;
	struct sim_sock *gift; /* that it passed to the others in an exchange */
	uint64_t begun_ns;     /* creation */
	uint64_t paused_before_ns;
	bool created;
	uint64_t created_ns;
	bool in_call;
	uint64_t call_ns;      /* when it began, or the last one ended */
	uint64_t done;         /* calls that succeeded */
	bool undecided;        /* its error is one of agree, not of the communicator */
	bool left;             /* of its own will, after all its calls */
	int code;              /* its error; 0: none */
	char text[CX_FAULT_TEXT_MAX];
	struct cx_cause cause; /* the communicator's error; of code 0: there was none */
	uint64_t error_ns;     /* when it was returned */
};

struct sim_job {
	struct sim_schedule *plan;
	struct cx_secret secret, wrong;
	struct sim_player player[SIM_PLAYERS];
	int players;
	struct sim_comm *comm[SIM_COMMS]; /* the first one, and all that came of it */
	int comms;
};
extern struct sim_job sim_job;

/* Runs a schedule. NULL, or what went wrong, as text until the next run. */
const char *sim_job_run(struct sim_schedule *s, bool verbose);

/* job.c: what a player does, and a record of when it took too long. */
void sim_job_start(void);
void sim_job_begin_timing(struct sim_player *p, uint64_t *since);
/* That player does this now: faults that wait for it strike. */
void sim_job_strike(const struct sim_player *p, enum sim_when when);
/* create.c: as create.c of the library. at->ward NULL: for a rogue. */
int sim_job_meeting(struct cx_meeting *m, const struct sim_player *p);
int sim_job_create(struct sim_player *p, struct sim_stay *at, struct cx_meeting *m);
/* recover.c: as recover.c of the library, with an eye on what is decided. */
void sim_comm_begin(void);
struct sim_stay *sim_stay_create(struct sim_comm *c);
/* That rank of the job in it; -1: it is none of its. */
int sim_comm_seat(const struct sim_comm *c, int rank);
int sim_agree(struct sim_player *p);
/* 0: next is the next communicator. */
int sim_shrink(struct sim_player *p, struct sim_stay **next);
/* What is decided at the end of a careful call; as cx_recover_commit. */
int sim_commit(struct sim_player *p, bool *ok, struct cx_set *lost, bool *outvoted,
	       uint64_t until_ns);
/* lanes.c: calls without data. 0, or the error. */
struct sim_lanes *sim_lanes_create(void);
int sim_lanes_call(struct sim_player *p, uint64_t seq);
/* An error of its own: the lanes end before it is told. What all make of it. */
int sim_lanes_die(struct sim_player *p, int code);
void sim_lanes_close(struct sim_player *p);
/* uniform.c: the same, by careful.c of the library. */
int sim_uniform_call(struct sim_player *p, uint64_t seq);
/* stranger.c */
void sim_strangers_start(void);
void sim_rogue_speak(struct sim_player *p, struct cx_wire *up, uint64_t how);
bool sim_rogue_is_early(const struct sim_player *p);
void sim_rogue_record(struct sim_player *p, struct cx_wire *up, size_t len);
/* judge.c */
/* The text of what went wrong, until the next one. */
const char *sim_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
const char *sim_job_judge(void);
/* judge_next.c: how survivors went on; NULL, or what was wrong. */
const char *sim_judge_rescues(void);
/* Was that rank, which others wait for, kept in creation by one that was stopped? */
bool sim_judge_was_held_back(int rank);
/* Can ranks lose sight of others who live? */
bool sim_judge_may_part(void);
/* May a decision of that rank end with this code? */
bool sim_judge_may_fail(const struct sim_player *p, int code);
/* May that rank have others below it in the tree? */
bool sim_job_leads(int rank);
/* judge_calls.c: what calls came to, on all ranks; NULL. */
const char *sim_judge_calls(void);
/* That rank is told that another one is late. */
void sim_judge_straggler(struct sim_player *p);
/* Nothing but one rank that is late; NULL. */
const struct sim_fault *sim_judge_lone(enum sim_fault_kind kind);
/* A call that lasted longer than it may. */
void sim_judge_duration(const struct sim_player *p, const char *what, uint64_t since_ns,
			uint64_t most_ns);

#endif
