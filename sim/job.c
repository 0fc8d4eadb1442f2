/* SPDX-License-Identifier: BSD-3-Clause */
/* What the processes of a job do, and when faults strike; see job.h. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "job.h"
#include "uid.h"

struct sim_job sim_job;

/* ---- what is static in guard.c and uid.c is one a process ---- */

static struct sim_proc *loaded;
static size_t guard_len, ports_len;

/* Of the first process. */
static void clear_statics(void)
{
	loaded = NULL;
	guard_len = cx_round_up(cx_guard_swap(NULL, NULL), 64);
	ports_len = cx_uid_swap(NULL, NULL);
}

void sim_statics_load(struct sim_proc *p)
{
	char *from = loaded ? loaded->statics : NULL, *to = p->statics;

	if (loaded == p)
		return;
	if (loaded && !from)
		from = loaded->statics = sim_memory(guard_len + ports_len);
	cx_guard_swap(from, to);
	cx_uid_swap(from ? from + guard_len : NULL, to ? to + guard_len : NULL);
	loaded = p;
}

struct sim_player *sim_job_me(void)
{
	for (int i = 0; i < sim_job.players; i++)
		if (sim_job.player[i].proc == sim.running->proc)
			return &sim_job.player[i];
	return NULL;
}

/* ---- a rank's life ---- */

static void note_error(struct sim_player *p, int code)
{
	p->code = code;
	p->error_ns = sim.now;
	p->cause.code = 0;
	p->cause.who = (struct cx_set){ { 0 } };
	if (p->at && p->at->lib.guard)
		cx_guard_cause(p->at->lib.guard, &p->cause);
	snprintf(p->text, sizeof(p->text), "%.*s", (int)sizeof(p->text) - 1, cx_error_text());
	sim_trace(p->proc, "ERROR %s: %s", collx_strerror((collx_result)code), p->text);
	sim_digest((uint64_t)p->rank, (uint64_t)-code);
}

/* Computes, outside of the library. */
static void think(const struct sim_player *p, uint64_t seq)
{
	const struct sim_schedule *s = sim_job.plan;
	const struct sim_fault *f = sim_schedule_find(s, SIM_STRAGGLER, p->rank);

	f = p->at->comm->generation ? NULL : f;
	sim_task_nap(sim_rng_below(&p->proc->random, s->think_ns) + 1);
	if (f && f->n == seq && !f->meets)
		sim_task_nap(f->for_ns);
}

void sim_job_note(struct sim_rescue *r, int code)
{
	r->code = code;
	r->text[0] = '\0';
	if (code)
		snprintf(r->text, sizeof(r->text), "%.*s", (int)sizeof(r->text) - 1,
			 cx_error_text());
	r->done = true;
	r->ended_ns = sim.now;
}

void sim_job_begin_timing(struct sim_player *p, uint64_t *since)
{
	*since = sim.now;
	p->paused_before_ns = p->proc->paused_ns;
}

/* In the first communicator alone, where operations are numbered from 1 again in each. */
static const struct sim_fault *first_fault(const struct sim_player *p, enum sim_fault_kind kind)
{
	return p->at->comm->generation ? NULL : sim_schedule_find(sim_job.plan, kind, p->rank);
}

/* A decision while nothing is wrong, for all that its callers know. */
static int agree_now_and_then(struct sim_player *p, uint64_t seq)
{
	const struct sim_schedule *s = sim_job.plan;
	const struct sim_fault *late = first_fault(p, SIM_STRAGGLER);
	int rc;

	if (!s->agree_every || seq % s->agree_every)
		return 0;
	if (late && late->meets && late->n == seq)
		sim_task_nap(late->for_ns);
	rc = sim_agree(p);
	p->undecided = rc != 0;
	return rc;
}

static int make_call(struct sim_player *p, uint64_t seq)
{
	const struct sim_fault *end = first_fault(p, SIM_END);
	const struct sim_schedule *s = sim_job.plan;
	struct sim_call *call = &p->at->comm->call[seq % SIM_CALLS][p->rank];
	/* A uniform one has its time once more to be decided, and some to tell what failed. */
	uint64_t more_ns = s->uniform ? s->op_ns + (2 * (uint64_t)s->ranks + 4) * s->silence_ns +
				       3 * SIM_S : 0;
	int rc;

	if (end && end->n == seq && end->meets && !p->at->comm->aborter)
		p->at->comm->aborter = 1 + p->rank;
	if (end && end->n == seq)
		cx_guard_end_now(p->at->lib.guard,
				 end->meets ? COLLX_ERR_ABORTED : COLLX_ERR_REVOKED);
	p->in_call = true;
	sim_job_begin_timing(p, &p->call_ns);
	call->begun_ns = sim.now;
	rc = s->uniform ? sim_uniform_call(p, seq) : sim_lanes_call(p, seq);
	call->ended_ns = sim.now;
	call->code = rc;
	call->barred = p->at->council && p->at->council->code;
	p->in_call = false;
	sim_judge_duration(p, "a call", p->call_ns, s->op_ns + 3500 * SIM_MS + more_ns);
	p->call_ns = sim.now;
	p->done += !rc;
	return rc ? rc : agree_now_and_then(p, seq);
}

/* Where it does not come about the communicator goes on as it was; with a loss they shrink, and
 * where they do not know what became of it. */
static int grow(struct sim_player *p, struct sim_stay **next)
{
	int rc = sim_grow(p, next);

	p->call_ns = sim.now;
	p->undecided = rc && (!p->told.kind || cx_set_count(&p->growth.told.out));
	return p->undecided ? rc : 0;
}

/* next: what it grew to; NULL. */
static int make_calls(struct sim_player *p, struct sim_stay **next)
{
	const struct sim_fault *f = first_fault(p, SIM_LEAVE_EARLY);
	uint64_t calls = (uint64_t)sim_job.plan->ops;
	int rc = 0;

	*next = NULL;
	if (f)
		calls = cx_min(calls, f->n);
	for (uint64_t seq = 1; !rc && seq <= calls; seq++) {
		think(p, seq);
		if (sim_wants_to_grow(p, seq))
			rc = grow(p, next);
		if (!rc && *next)
			return 0;
		if (!rc)
			rc = make_call(p, seq);
	}
	return rc;
}

static void leave(struct sim_player *p)
{
	uint64_t since;

	sim_job_begin_timing(p, &since);
	p->left = !p->code;
	while (p->aborting)
		sim_task_nap(SIM_MS);
	if (p->code && sim_job.plan->abrupt[p->rank])
		sim_proc_kill(p->proc);
	p->at->closed = true;
	sim_job_strike(p, SIM_AT_LEAVING);
	cx_guard_close(p->at->lib.guard, true);
	if (p->left)
		sim_lanes_close(p);
	sim_judge_duration(p, "leaving", since, 2500 * SIM_MS);
}

/* Does this rank want a next communicator? */
static bool goes_on(const struct sim_player *p)
{
	const struct sim_schedule *s = sim_job.plan;

	if (p->at->comm->generation + 1 >= s->generations || p->at->comm->ranks < 2)
		return false;
	/* The others had to give it up, see collx_comm_grow. */
	if (sim_is_joiner(p) && p->code == COLLX_ERR_PEER_LEFT && !p->done)
		return false;
	return p->code || (s->shrinks_well && !first_fault(p, SIM_LEAVE_EARLY));
}

/* What it was, for the judge; and what it is from now on. */
static void move_on(struct sim_player *p, struct sim_stay *next)
{
	struct sim_player *before = sim_memory(sizeof(*before));
	uint64_t since;

	*before = *p;
	p->before = before;
	while (p->aborting)
		sim_task_nap(SIM_MS);
	sim_job_begin_timing(p, &since);
	cx_comm_close(&p->at->lib);
	sim_judge_duration(p, "leaving", since, 2500 * SIM_MS);
	p->at = next;
	p->code = 0;
	p->undecided = false;
	p->text[0] = '\0';
	p->done = p->error_ns = 0;
	p->created_ns = sim.now;
	p->rescue = (struct sim_rescue){ 0 };
	p->growth = (struct sim_growth){ 0 };
	sim_trace(p->proc, "goes on as rank %d of %d", sim_comm_seat(next->comm, p->rank),
		  next->comm->ranks);
}

static void live_in_communicators(struct sim_player *p)
{
	struct sim_stay *next;
	int rc;

	for (;;) {
		rc = make_calls(p, &next);
		if (rc)
			note_error(p, rc);
		think(p, 0);
		if (!next && (!goes_on(p) || sim_shrink(p, &next)))
			break;
		move_on(p, next);
	}
	leave(p);
}

/* False: it has none. */
static bool get_communicator(struct sim_player *p)
{
	struct cx_meeting m;
	int rc;

	if (sim_is_joiner(p))
		return sim_join(p);
	sim_job_begin_timing(p, &p->begun_ns);
	p->making = sim_job.comm[0];
	rc = sim_job_meeting(&m, p);
	if (!rc)
		rc = sim_job_create(&m, &p->at);
	if (rc)
		note_error(p, rc);
	return !rc && p->at->lib.guard; /* or it is the rogue */
}

static void live(struct sim_player *p)
{
	if (!get_communicator(p))
		return;
	p->created = true;
	p->created_ns = sim.now;
	p->growth = (struct sim_growth){ 0 };
	live_in_communicators(p);
}

/* Some programs have something else to do when they have left. */
static void *live_and_end(void *arg)
{
	struct sim_player *p = arg;
	struct sim_rng r = { sim_job.plan->seed ^ (uint64_t)p->rank << 40 };

	live(p);
	if (sim_job.plan->stays_ns)
		sim_task_nap(sim_job.plan->stays_ns);
	else if (p->left && sim_rng_next(&r) % 2)
		sim_task_nap(sim_rng_below(&r, 500 * SIM_MS) + 1);
	cx_guard_exit();
	return NULL;
}

/* ---- faults strike ---- */

static void for_all_players(void (*fn)(struct sim_proc *p))
{
	for (int i = 0; i < sim_job.players; i++)
		fn(sim_job.player[i].proc);
}

static void cut(const struct sim_fault *f, bool on)
{
	for (int h = 0; h < SIM_HOSTS; h++) {
		if (h == f->host || (f->kind == SIM_CUT_PAIR && h != (int)f->n))
			continue;
		sim.cut[f->host][h] = on;
		if (f->kind != SIM_CUT_ONE_WAY)
			sim.cut[h][f->host] = on;
	}
	sim_trace(NULL, on ? "HOST %d IS CUT OFF" : "host %d is connected again", f->host);
	sim_net_changed();
}

static void cease(void *arg)
{
	const struct sim_fault *f = arg;

	if (f->kind == SIM_PAUSE)
		sim_proc_resume(sim_job.player[f->rank].proc);
	else if (f->kind == SIM_PAUSE_ALL)
		for_all_players(sim_proc_resume);
	else
		cut(f, false);
}

/* Another thread of that process ends what it has then. */
static void *abort_beside(void *arg)
{
	struct sim_player *p = arg;

	p->aborting = true;
	if (p->at && p->at->lib.guard && !p->at->closed) {
		if (!p->at->comm->aborter)
			p->at->comm->aborter = 1 + p->rank;
		cx_guard_end_now(p->at->lib.guard, COLLX_ERR_ABORTED);
	}
	p->aborting = false;
	return NULL;
}

static void strike(void *arg)
{
	struct sim_fault *f = arg;
	struct sim_proc *p = sim_job.player[f->rank].proc;

	switch (f->kind) {
	case SIM_KILL:
	case SIM_RESTART: sim_proc_kill(p); break;
	case SIM_PAUSE: sim_proc_pause(p); break;
	case SIM_PAUSE_ALL: for_all_players(sim_proc_pause); break;
	case SIM_RESET: sim_net_reset_one(p); break;
	case SIM_GARBLE: p->garble = f->n % 2 ? SIM_REPEAT : SIM_FLIP; break;
	case SIM_JUMP:
		p->clock_base_ns += f->for_ns;
		sim_trace(p, "ITS CLOCK JUMPS");
		break;
	case SIM_END:
		sim_trace(p, "ABORTS");
		sim_task_create(p, abort_beside, &sim_job.player[f->rank], 0);
		break;
	default: cut(f, true);
	}
	if (((f->kind > SIM_KILL && f->kind < SIM_RESET) || f->kind == SIM_CUT_PAIR) &&
	    f->for_ns != UINT64_MAX)
		sim_after(f->for_ns, cease, f);
}

void sim_job_strike(const struct sim_player *p, enum sim_when when)
{
	for (int i = 0; i < sim_job.plan->nfaults; i++) {
		struct sim_fault *f = &sim_job.plan->fault[i];

		if (f->when != when || f->struck || f->rank != p->rank || f->passed++ < f->pass)
			continue;
		f->struck = true;
		if (f->at_ns)
			sim_after(f->at_ns, strike, f);
		else
			strike(f);
	}
}

/* What is there from the beginning, and when the rest will come. */
static void plan_fault(struct sim_fault *f)
{
	struct sim_proc *p = sim_job.player[f->rank].proc;

	if (f->kind == SIM_KILL && f->at_call)
		p->kill_at_call = f->at_call;
	else if (f->when == SIM_AT_TELLING)
		p->kill_when_told = f->n;
	else if (f->when)
		; /* sim_job_strike */
	else if (f->kind <= SIM_RESET || f->kind == SIM_RESTART || f->kind == SIM_CUT_PAIR ||
		 f->kind == SIM_GARBLE || f->kind == SIM_JUMP)
		sim_after(f->at_ns, strike, f);
	if (f->kind == SIM_NO_MEMORY)
		p->fail_alloc_at = f->n;
	if (f->kind == SIM_FEW_FILES)
		p->max_fds = (int)f->n;
}

/* ---- the job ---- */

static void add_player(int rank, bool second, uint64_t start_ns)
{
	const struct sim_schedule *s = sim_job.plan;
	struct sim_player *p = &sim_job.player[sim_job.players++];
	char name[16];

	*p = (struct sim_player){ .rank = rank, .second = second };
	snprintf(name, sizeof(name), second ? "rank %d'" : "rank %d", rank);
	p->proc = sim_proc_create(name, s->host[rank]);
	p->proc->clock_ppm = s->ppm[rank];
	p->proc->clock_base_ns = sim_rng_below(&sim.chance, 1000000) * SIM_MS;
	sim_task_create(p->proc, live_and_end, p, start_ns);
}

void sim_job_start(void)
{
	struct sim_schedule *s = sim_job.plan;

	for (int r = 0; r < sim_job.all; r++) {
		const struct sim_fault *f = sim_schedule_find(s, SIM_LATE, r);

		add_player(r, false, s->start_ns[r] + (f ? f->for_ns : 0));
	}
	for (int i = 0; i < s->nfaults; i++)
		if (s->fault[i].kind == SIM_TWICE)
			add_player(s->fault[i].rank, true, s->fault[i].at_ns);
		else if (s->fault[i].kind == SIM_RESTART)
			add_player(s->fault[i].rank, true, s->fault[i].at_ns + s->fault[i].for_ns);
	for (int i = 0; i < s->nfaults; i++)
		plan_fault(&s->fault[i]);
	sim_strangers_start();
}

const char *sim_job_run(struct sim_schedule *s, bool verbose)
{
	static bool has_secrets;

	cx_sys = &sim_sys;
	sim_world_reset(s->seed, verbose);
	clear_statics();
	sim.params = s->params;
	sim_job.plan = s;
	sim_job.players = sim_job.tokens = 0;
	sim_job.all = s->ranks + s->joiners;
	sim_comm_begin();
	if (!has_secrets && (cx_secret_from_text(&sim_job.secret, "the job's") ||
			     cx_secret_from_text(&sim_job.wrong, "another job's")))
		return cx_error_text();
	has_secrets = true;
	sim_job_start();
	sim_world_run(sim.now + 100 * SIM_S, 3000000);
	clear_statics(); /* not for the end of this process */
	return sim_job_judge();
}
