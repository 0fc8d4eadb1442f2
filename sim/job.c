/* SPDX-License-Identifier: BSD-3-Clause */
/* What the processes of a job do, and when faults strike; see job.h. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "boot.h"
#include "job.h"
#include "mesh.h"

struct sim_job sim_job;

/* ---- the guard's state is one a process ---- */

static struct sim_proc *loaded;

void sim_guard_load(struct sim_proc *p)
{
	if (loaded == p)
		return;
	if (loaded && !loaded->guard)
		loaded->guard = sim_memory(cx_guard_swap(NULL, NULL) + 64);
	if (!loaded)
		cx_guard_swap(NULL, p->guard);
	else
		cx_guard_swap(loaded->guard, p->guard);
	loaded = p;
}

/* ---- creation ---- */

static void fill_record(unsigned char *out, size_t len, int rank, int round)
{
	struct sim_rng r = { (uint64_t)rank << 32 ^ (uint64_t)round ^ sim_job.plan->seed << 8 };

	for (size_t i = 0; i < len; i++)
		out[i] = (unsigned char)sim_rng_next(&r);
}

static size_t record_len(int round)
{
	struct sim_rng r = { sim_job.plan->seed ^ (uint64_t)round << 16 };

	return 1 + sim_rng_below(&r, SIM_RECORD);
}

static void check_records(const struct sim_player *p, const unsigned char *all, size_t len,
			  int round)
{
	unsigned char want[SIM_RECORD];

	for (int r = 0; r < sim_job.plan->ranks; r++) {
		fill_record(want, len, r, round);
		if (memcmp(want, all + (size_t)r * len, len))
			sim_broken("rank %d has a wrong record of rank %d", p->rank, r);
	}
}

static struct sim_player *first_with(int rank)
{
	return &sim_job.player[rank];
}

static bool is_gift_of(int rank, const struct sim_sock *got)
{
	for (int i = 0; i < sim_job.players; i++)
		if (sim_job.player[i].rank == rank && sim_job.player[i].gift == got)
			return true;
	return false;
}

static void check_gifts(const struct sim_player *p, const int *fds)
{
	for (int r = 0; r < sim_job.plan->ranks; r++) {
		struct sim_sock *got = fds[r] < 0 ? NULL : sim_fd_get(p->proc, fds[r]);

		if (got && !is_gift_of(r, got))
			sim_broken("rank %d has a wrong descriptor of rank %d", p->rank, r);
		if (!got && sim_job.plan->meeting == SIM_UNIX)
			sim_broken("rank %d has no descriptor of rank %d", p->rank, r);
		if (fds[r] >= 0)
			cx_sys->close(fds[r]);
	}
}

static int exchange(struct sim_player *p, int round, uint64_t deadline_ns)
{
	const struct sim_schedule *s = sim_job.plan;
	size_t len = record_len(round);
	unsigned char mine[SIM_RECORD], *all = cx_alloc((size_t)s->ranks, len);
	int fds[SIM_RANKS], bell = -1, rc = all ? 0 : COLLX_ERR_NOMEM;
	bool gifts = s->passes_fds && !round;

	fill_record(mine, len, p->rank, round);
	if (!rc && gifts) {
		bell = cx_sys->bell();
		rc = bell < 0 ? cx_fail_errno(-bell, "a bell") : 0;
		p->gift = bell < 0 ? NULL : sim_fd_get(p->proc, bell);
	}
	if (!rc && round == s->exchanges && sim_rogue_is_early(p))
		sim_rogue_record(p, (struct cx_wire *)&cx_boot_tree(p->boot)->up, len);
	if (!rc)
		rc = cx_boot_exchange(p->boot, mine, len, bell, all, gifts ? fds : NULL,
				      deadline_ns);
	if (!rc)
		check_records(p, all, len, round);
	if (!rc && gifts)
		check_gifts(p, fds);
	if (bell >= 0)
		cx_sys->close(bell);
	cx_free(all);
	return rc;
}

static void check_lanes(struct sim_player *p, const int *fds)
{
	const struct sim_schedule *s = sim_job.plan;

	for (int i = 0; i < s->ranks * SIM_LANES; i++) {
		const struct sim_player *q = first_with(i / SIM_LANES);
		struct sim_sock *other = q->lanes[p->rank * SIM_LANES + i % SIM_LANES];

		p->lanes[i] = fds[i] < 0 ? NULL : sim_fd_get(p->proc, fds[i]);
		if (q->rank != p->rank && !p->lanes[i])
			sim_broken("rank %d has no lane to rank %d", p->rank, q->rank);
		if (other && p->lanes[i] && !sim_sock_is_pair(p->lanes[i], other) &&
		    sim_job.players == s->ranks && !sim_schedule_find(s, SIM_RESET, -1))
			sim_broken("a lane of rank %d leads elsewhere than to rank %d", p->rank,
				   q->rank);
	}
}

static int connect_lanes(struct sim_player *p, const struct cx_meeting *m)
{
	int n = sim_job.plan->ranks * SIM_LANES, rc;
	unsigned char wanted[SIM_RANKS];
	int fds[SIM_RANKS * SIM_LANES];

	memset(wanted, 1, sizeof(wanted));
	rc = cx_mesh_open(p->boot, m, sim_job.plan->seed, SIM_LANES, wanted, fds);
	if (!rc)
		check_lanes(p, fds);
	for (int i = 0; !rc && i < n; i++)
		if (fds[i] >= 0)
			cx_sys->close(fds[i]);
	return rc;
}

static int describe_meeting(struct cx_meeting *m, const struct sim_player *p)
{
	const struct sim_schedule *s = sim_job.plan;
	char near[CX_MEET_MAX];
	int rc;

	snprintf(near, sizeof(near), "unix:/tmp/collx-%u/0123456789abcdef0123456789abcdef",
		 (unsigned)geteuid());
	*m = (struct cx_meeting){ .rank = p->rank, .ranks = s->ranks };
	m->secret = sim_schedule_find(s, SIM_WRONG_SECRET, p->rank) ? sim_job.wrong
								    : sim_job.secret;
	m->deadline_ns = cx_now_ns() + s->create_ns;
	rc = cx_place_parse(&m->place, s->meeting == SIM_UNIX ? near : "tcp:10.0.0.1:7000");
	if (!rc && s->meeting == SIM_TCP_AND_LOCAL)
		rc = cx_place_parse(&m->local, near);
	return rc;
}

/* When nothing is wrong a host has one leader. */
static void check_leaders(const struct cx_tree *t)
{
	const struct sim_schedule *s = sim_job.plan;

	for (int r = 0; s->meeting == SIM_TCP_AND_LOCAL && !s->nfaults && r < s->ranks; r++)
		for (int q = 0; q < r; q++)
			if (s->host[r] == s->host[q] && t->leader[r] != t->leader[q])
				sim_broken("ranks %d and %d of one host have leaders %d and %d", q,
					   r, t->leader[q], t->leader[r]);
}

/* As create.c does it. */
static int create(struct sim_player *p)
{
	const struct sim_schedule *s = sim_job.plan;
	const struct sim_fault *rogue = sim_schedule_find(s, SIM_ROGUE, p->rank);
	struct cx_meeting m;
	struct cx_tree tree;
	int rc = describe_meeting(&m, p);

	if (!rc)
		rc = cx_boot_open(&p->boot, &m);
	for (int i = 0; !rc && i < s->exchanges; i++)
		rc = exchange(p, i, m.deadline_ns);
	if (!rc && s->mesh)
		rc = connect_lanes(p, &m);
	if (!rc)
		rc = exchange(p, s->exchanges, m.deadline_ns);
	if (rc && p->boot)
		cx_boot_tell(p->boot, rc, cx_error_text());
	if (rc && p->boot)
		cx_boot_close(p->boot);
	if (rc)
		return rc;
	cx_boot_finish(p->boot, &tree);
	check_leaders(&tree);
	if (!rogue)
		return cx_guard_open(&p->ward, &tree, &p->calls, NULL);
	sim_rogue_speak(p, &tree.up, rogue->n);
	cx_tree_fini(&tree);
	return 0;
}

/* ---- a rank's life ---- */

static void note_error(struct sim_player *p, int code)
{
	p->code = code;
	p->error_ns = sim.now;
	snprintf(p->text, sizeof(p->text), "%.*s", (int)sizeof(p->text) - 1, cx_error_text());
	sim_trace(p->proc, "ERROR %s: %s", collx_strerror((collx_result)code), p->text);
	sim_digest((uint64_t)p->rank, (uint64_t)-code);
}

/* Computes, outside of the library. */
static void think(const struct sim_player *p, uint64_t seq)
{
	const struct sim_schedule *s = sim_job.plan;
	const struct sim_fault *f = sim_schedule_find(s, SIM_STRAGGLER, p->rank);

	sim_task_nap(sim_rng_below(&p->proc->random, s->think_ns) + 1);
	if (f && f->n == seq)
		sim_task_nap(f->for_ns);
}

static void begin_timing(struct sim_player *p, uint64_t *since)
{
	*since = sim.now;
	p->paused_before_ns = p->proc->paused_ns;
}

static int make_calls(struct sim_player *p)
{
	const struct sim_fault *f = sim_schedule_find(sim_job.plan, SIM_LEAVE_EARLY, p->rank);
	uint64_t calls = (uint64_t)sim_job.plan->ops;
	int rc = 0;

	if (f)
		calls = cx_min(calls, f->n);
	for (uint64_t seq = 1; !rc && seq <= calls; seq++) {
		think(p, seq);
		p->in_call = true;
		begin_timing(p, &p->call_ns);
		rc = sim_lanes_call(p, seq);
		p->in_call = false;
		sim_judge_duration(p, "a call", p->call_ns, sim_job.plan->op_ns + 3500 * SIM_MS);
		p->call_ns = sim.now;
		p->done += !rc;
	}
	return rc;
}

static void leave(struct sim_player *p)
{
	uint64_t since;

	begin_timing(p, &since);
	p->left = !p->code;
	if (p->code && sim_job.plan->abrupt[p->rank])
		sim_proc_kill(p->proc);
	cx_guard_close(p->ward, true);
	if (p->left)
		sim_lanes_close(p);
	sim_judge_duration(p, "leaving", since, 2500 * SIM_MS);
}

static void live(struct sim_player *p)
{
	int rc;

	begin_timing(p, &p->begun_ns);
	rc = create(p);
	sim_judge_duration(p, "creation", p->begun_ns, sim_job.plan->create_ns + 2500 * SIM_MS);
	if (rc) {
		note_error(p, rc);
		return;
	}
	if (!p->ward)
		return; /* the rogue */
	p->created = true;
	p->created_ns = sim.now;
	sim_trace(p->proc, "has its communicator");
	rc = make_calls(p);
	if (rc)
		note_error(p, rc);
	think(p, 0);
	leave(p);
}

/* Some programs have something else to do when they have left. */
static void *live_and_end(void *arg)
{
	struct sim_player *p = arg;
	struct sim_rng r = { sim_job.plan->seed ^ (uint64_t)p->rank << 40 };

	live(p);
	if (p->left && sim_rng_next(&r) % 2)
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
		if (h == f->host)
			continue;
		sim.cut[f->host][h] = on;
		if (f->kind == SIM_CUT)
			sim.cut[h][f->host] = on;
	}
	sim_trace(NULL, on ? "HOST %d IS CUT OFF" : "host %d is connected again", f->host);
	sim_net_changed();
}

static void cease(void *arg)
{
	const struct sim_fault *f = arg;

	if (f->kind == SIM_PAUSE)
		sim_proc_resume(first_with(f->rank)->proc);
	else if (f->kind == SIM_PAUSE_ALL)
		for_all_players(sim_proc_resume);
	else
		cut(f, false);
}

static void strike(void *arg)
{
	struct sim_fault *f = arg;
	struct sim_proc *p = first_with(f->rank)->proc;

	switch (f->kind) {
	case SIM_KILL:
	case SIM_RESTART: sim_proc_kill(p); break;
	case SIM_PAUSE: sim_proc_pause(p); break;
	case SIM_PAUSE_ALL: for_all_players(sim_proc_pause); break;
	case SIM_RESET: sim_net_reset_one(p); break;
	default: cut(f, true);
	}
	if (f->kind > SIM_KILL && f->kind < SIM_RESET && f->for_ns != UINT64_MAX)
		sim_after(f->for_ns, cease, f);
}

/* What is there from the beginning, and when the rest will come. */
static void plan_fault(struct sim_fault *f)
{
	struct sim_proc *p = first_with(f->rank)->proc;

	if (f->kind == SIM_KILL && f->at_call)
		p->kill_at_call = f->at_call;
	else if (f->kind <= SIM_RESET || f->kind == SIM_RESTART)
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

	for (int r = 0; r < s->ranks; r++) {
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
	loaded = NULL;
	sim_lanes_reset();
	sim.params = s->params;
	sim_job.plan = s;
	sim_job.players = 0;
	if (!has_secrets && (cx_secret_from_text(&sim_job.secret, "the job's") ||
			     cx_secret_from_text(&sim_job.wrong, "another job's")))
		return cx_error_text();
	has_secrets = true;
	sim_job_start();
	sim_world_run(sim.now + 100 * SIM_S, 3000000);
	cx_guard_swap(NULL, NULL); /* not for the end of this process */
	return sim_job_judge();
}
