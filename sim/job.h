/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A simulated job: processes that create a communicator's control plane, make calls
 * and leave, all by the real code; strangers; and a judge of how it went.
 */
#ifndef SIM_JOB_H
#define SIM_JOB_H

#include "auth.h"
#include "guard.h"
#include "schedule.h"
#include "wire.h"

enum { SIM_LANES = 2, SIM_RECORD = 512, SIM_PLAYERS = SIM_RANKS + SIM_FAULTS };

struct cx_boot;

/* A process of the job. */
struct sim_player {
	int rank;
	bool second;           /* of two with this number */
	struct sim_proc *proc;
	struct cx_boot *boot;
	struct cx_ward *ward;
	struct cx_calls calls;
	struct sim_sock *gift; /* that it passed to the others in an exchange */
	struct sim_sock *lanes[SIM_RANKS * SIM_LANES];
	uint64_t begun_ns;     /* creation */
	uint64_t paused_before_ns;
	bool created;
	uint64_t created_ns;
	bool in_call;
	uint64_t call_ns;      /* when it began, or the last one ended */
	uint64_t done;         /* calls that succeeded */
	bool left;             /* of its own will, after all its calls */
	int code;              /* its error; 0: none */
	char text[CX_FAULT_TEXT_MAX];
	uint64_t error_ns;     /* when it was returned */
};

struct sim_job {
	struct sim_schedule *plan;
	struct cx_secret secret, wrong;
	struct sim_player player[SIM_PLAYERS];
	int players;
};
extern struct sim_job sim_job;

/* Runs a schedule. NULL, or what went wrong, as text until the next run. */
const char *sim_job_run(struct sim_schedule *s, bool verbose);

/* job.c: what a player does, and a record of when it took too long. */
void sim_job_start(void);
/* lanes.c: calls without data. 0, or the error. */
void sim_lanes_reset(void);
int sim_lanes_call(struct sim_player *p, uint64_t seq);
void sim_lanes_close(struct sim_player *p);
/* stranger.c */
void sim_strangers_start(void);
void sim_rogue_speak(struct sim_player *p, struct cx_wire *up, uint64_t how);
bool sim_rogue_is_early(const struct sim_player *p);
void sim_rogue_record(struct sim_player *p, struct cx_wire *up, size_t len);
/* judge.c */
const char *sim_job_judge(void);
/* May that rank have others below it in the tree? */
bool sim_job_leads(int rank);
/* A call that lasted longer than it may. */
void sim_judge_duration(const struct sim_player *p, const char *what, uint64_t since_ns,
			uint64_t most_ns);

#endif
