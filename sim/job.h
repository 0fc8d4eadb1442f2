/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A simulated job: processes that create a communicator's control plane, make calls
 * and leave, all by the real code; strangers; and a judge of how it went.
 */
#ifndef SIM_JOB_H
#define SIM_JOB_H

#include "auth.h"
#include "boot.h"
#include "comm.h"
#include "council.h"
#include "guard.h"
#include "rally.h"
#include "schedule.h"
#include "wire.h"

enum { SIM_LANES = 2, SIM_RECORD = 512, SIM_PLAYERS = SIM_RANKS + SIM_FAULTS,
       SIM_COMMS = 64, SIM_GENERATIONS = 3, SIM_DECISIONS = 128,
       SIM_CALLS = 64 /* of a communicator */, SIM_TOKENS = 8 };

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
	int origin[SIM_RANKS];      /* [rank in it]: what it is to say of that */
	uint64_t have;              /* ranks of the job, whose part of it was made */
	uint64_t came;              /* ranks of it, to creation's last step */
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
	struct collx_comm lib;   /* first: recover.c and careful.c of the library know no more */
	struct sim_comm *comm;
	int *beside;             /* until the guard has it */
	int origin[SIM_RANKS];
	const struct cx_council *council; /* while the ward is there */
	bool closed;             /* it leaves, or has left */
	uint64_t stragglers;     /* that it was told of */
};

/* How the way to the next communicator went. */
struct sim_rescue {
	bool tried, done;
	int code;                /* 0: there is a next one */
	uint64_t begun_ns, ended_ns;
	char text[CX_FAULT_TEXT_MAX];
};

/* And to one with more ranks. */
struct sim_growth {
	struct sim_rescue way;
	struct cx_motion told;   /* the decision to grow; kind 0: it was told none */
	bool opened;             /* it tried to make the next one */
};

/* A process of the job. */
struct sim_player {
	int rank;
	bool second;           /* of two with this number */
	struct sim_proc *proc;
	struct sim_stay *at;
	const struct sim_player *before; /* as it was in the communicator before this one */
	struct sim_rescue rescue;
	struct sim_growth growth;
	struct cx_motion told; /* the last decision that it was told */
	struct sim_comm *making; /* what it is to make next; NULL: nothing */
	bool aborting;         /* another thread of it does */
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
	struct sim_player player[SIM_PLAYERS]; /* ranks, joiners, and seconds of some */
	int players, all;      /* all: ranks and joiners, who have the numbers behind them */
	struct sim_token {
		collx_unique_id id;
		struct sim_comm *parent;
	} token[SIM_TOKENS];   /* what joiners are given, one after the other */
	int tokens;
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
/* Whose process this is. */
struct sim_player *sim_job_me(void);
/* What became of a way to another communicator. */
void sim_job_note(struct sim_rescue *r, int code);
/* create.c: cx_comm_open and cx_comm_close, as create.c of the library has them. Without a
 * guard: for a rogue. */
int sim_job_meeting(struct cx_meeting *m, const struct sim_player *p);
int sim_job_create(struct cx_meeting *m, struct sim_stay **out);
/* recover.c: that of the library, with an eye on what is decided. */
void sim_comm_begin(void);
/* The one that this motion of c's makes. */
struct sim_comm *sim_comm_of(struct sim_comm *c, const collx_unique_id *id,
			     const struct cx_set *out, int joiners);
/* That rank of the job in it; -1: it is none of its. */
int sim_comm_seat(const struct sim_comm *c, int rank);
int sim_agree(struct sim_player *p);
/* 0: next is the next communicator. */
int sim_shrink(struct sim_player *p, struct sim_stay **next);
/* That player goes on in next: those who go on, go on together. */
void sim_check_next(const struct sim_player *p, const struct sim_stay *next);
/* grow.c: the same with new ranks behind the old ones; what these do. */
int sim_grow(struct sim_player *p, struct sim_stay **next);
bool sim_wants_to_grow(const struct sim_player *p, uint64_t seq);
bool sim_is_joiner(const struct sim_player *p);
/* Until it has a communicator, or nobody wants it any more. */
bool sim_join(struct sim_player *p);
/* judge_grow.c; NULL, or what was wrong. */
const char *sim_judge_growths(void);
/* A joiner whose communicator did not come about for those who were there before. */
bool sim_judge_is_given_up(const struct sim_player *p);
/* Is there a fault that not everybody should be able to sit out, of ranks from that one on? */
int sim_judge_harmful(int from);
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
void sim_rogue_record(struct sim_player *p, struct cx_wire *up);
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
