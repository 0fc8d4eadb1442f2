/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * New ranks: how the old ones call for them, by recover.c and uid.c of the library, and what
 * the new ones do. Rank 0 makes an id and hands it over; a joiner creates its communicator
 * with it, as any process does, and comes again with the next id where that failed.
 */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "job.h"
#include "uid.h"

bool sim_is_joiner(const struct sim_player *p)
{
	return p->rank >= sim_job.plan->ranks;
}

/* ---- the old ones ---- */

/* All members of a communicator see the same: once in each that may have a next one. */
bool sim_wants_to_grow(const struct sim_player *p, uint64_t seq)
{
	const struct sim_schedule *s = sim_job.plan;
	const struct sim_comm *c = p->at->comm;

	return s->joiners && seq == s->grow_at && c->generation + 1 < s->generations &&
	       c->member[c->ranks - 1] < s->ranks;
}

/* Where all are of one host they need no network. */
static int make_id(const struct sim_player *p, collx_unique_id *id)
{
	memset(id, 0, sizeof(*id));
	return sim_job.plan->meeting == SIM_UNIX
		       ? cx_uid_make_at(id, cx_guard_place(p->at->lib.guard))
		       : cx_uid_make(id, cx_now_ns() + sim_job.plan->create_ns);
}

static void hand_over(const struct sim_player *p, const collx_unique_id *id)
{
	if (sim_job.tokens == SIM_TOKENS) {
		sim_broken("more than %d ids were made", (int)SIM_TOKENS);
		return;
	}
	sim_job.token[sim_job.tokens++] = (struct sim_token){ *id, p->at->comm };
	for (int i = 0; i < sim_job.plan->joiners; i++)
		sim_task_wake(&sim_job.player[sim_job.plan->ranks + i].proc->tasks[0]);
}

/* How many it names. */
static int count(const struct sim_player *p)
{
	const struct sim_fault *f = sim_schedule_find(sim_job.plan, SIM_MISCOUNT, p->rank);

	return sim_job.plan->joiners + (f && !p->at->comm->generation ? (int)f->n : 0);
}

/* Two decisions, of which the second one is waited for longer; and the time to meet. */
static uint64_t most_ns(const struct sim_comm *c)
{
	const struct sim_schedule *s = sim_job.plan;

	return s->decide_ns + 6 * s->silence_ns + 6 * SIM_S + (uint64_t)c->ranks * 100 * SIM_MS;
}

/* What the page says: neither with another number of joiners, nor with somebody lost. */
static void check(const struct sim_player *p, int joiners, int rc)
{
	const struct cx_motion *m = &p->growth.told;
	uint32_t n = (uint32_t)joiners;
	int want = rc;

	if (m->kind == CX_MOTION_GROW && m->flags != ((uint64_t)~n << 32 | n))
		want = COLLX_ERR_MISMATCH;
	else if (m->kind == CX_MOTION_GROW && cx_set_count(&m->out))
		want = COLLX_ERR_PEER_DEAD;
	else if (!m->kind && p->told.kind) /* the only one then */
		want = p->told.kind == CX_MOTION_LATE ? COLLX_ERR_TIMEOUT
						      : COLLX_ERR_MISMATCH;
	if (rc != want)
		sim_broken("rank %d was told a decision of kind %d, flags %llx, out %llx to grow "
			   "by %d, and makes %s of it", p->rank, (int)m->kind,
			   (unsigned long long)m->flags, (unsigned long long)m->out.word[0],
			   joiners, collx_strerror((collx_result)rc));
}

int sim_grow(struct sim_player *p, struct sim_stay **next)
{
	struct sim_growth *g = &p->growth;
	struct collx_comm *made = NULL;
	collx_unique_id id;
	uint64_t since;
	bool first = p->at->lib.rank == 0;
	int n = count(p), rc;

	*g = (struct sim_growth){ .way = { .tried = true, .begun_ns = sim.now } };
	if (first && !make_id(p, &id))
		hand_over(p, &id);
	else if (first) /* the others hear of it so */
		memset(&id, 0, sizeof(id));
	p->told = (struct cx_motion){ 0 };
	sim_job_strike(p, SIM_AT_GROWING);
	sim_job_begin_timing(p, &since);
	rc = cx_recover_grow(&p->at->lib, n, &id, cx_now_ns() + sim_job.plan->decide_ns, &made);
	sim_judge_duration(p, "growing", since, most_ns(p->at->comm));
	check(p, n, rc);
	sim_job_note(&g->way, rc);
	sim_trace(p->proc, rc ? "DOES NOT GROW: %s" : "grows%s", rc ? g->way.text : "");
	if (first && !g->opened)
		cx_uid_drop(&id); /* nobody will use it */
	if (!rc)
		sim_check_next(p, (struct sim_stay *)made);
	*next = (struct sim_stay *)made;
	return rc;
}

/* ---- the new ones ---- */

static bool somebody_is_there(void)
{
	for (int i = 0; i < sim_job.players; i++)
		if (!sim_is_joiner(&sim_job.player[i]) && sim_job.player[i].proc->alive)
			return true;
	return false;
}

static int create(struct sim_player *p, const struct sim_token *t)
{
	const struct sim_schedule *s = sim_job.plan;
	const struct cx_set nobody = { { 0 } };
	struct cx_meeting m = {
		.rank = t->parent->ranks + p->rank - s->ranks,
		.ranks = t->parent->ranks + s->joiners,
		.deadline_ns = cx_now_ns() + cx_max(s->create_ns, s->decide_ns),
	};
	int rc = cx_uid_read(&t->id, &m);

	p->making = sim_comm_of(t->parent, &t->id, &nobody, s->joiners);
	if (!rc)
		rc = sim_job_create(&m, &p->at);
	return rc;
}

bool sim_join(struct sim_player *p)
{
	int next = 0;

	for (;;) {
		while (next == sim_job.tokens && somebody_is_there())
			sim_task_wait(500 * SIM_MS);
		if (next == sim_job.tokens)
			return false;
		next = sim_job.tokens - 1; /* the last one */
		p->growth = (struct sim_growth){ .way = { .tried = true, .begun_ns = sim.now } };
		sim_job_strike(p, SIM_AT_GROWING);
		sim_job_note(&p->growth.way, create(p, &sim_job.token[next++]));
		if (!p->growth.way.code)
			return true;
		sim_trace(p->proc, "DOES NOT JOIN: %s", p->growth.way.text);
	}
}
