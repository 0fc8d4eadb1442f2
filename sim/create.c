/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How the ranks of a job make a communicator, in the place of create.c of the library; see
 * job.h.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "boot.h"
#include "job.h"
#include "mesh.h"
#include "ring.h"

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

static void check_records(const struct sim_player *p, const struct sim_stay *at,
			  const unsigned char *all, size_t len, int round)
{
	unsigned char want[SIM_RECORD];

	for (int r = 0; r < at->comm->ranks; r++) {
		fill_record(want, len, at->comm->member[r], round);
		if (memcmp(want, all + (size_t)r * len, len))
			sim_broken("rank %d has a wrong record of rank %d", p->rank, r);
	}
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

static int exchange(struct sim_player *p, struct sim_stay *at, int round, uint64_t deadline_ns)
{
	const struct sim_schedule *s = sim_job.plan;
	size_t len = record_len(round);
	unsigned char mine[SIM_RECORD], *all = cx_alloc((size_t)at->comm->ranks, len);
	int fds[SIM_RANKS], bell = -1, rc = all ? 0 : COLLX_ERR_NOMEM;
	bool gifts = s->passes_fds && !round && !at->comm->generation;

	fill_record(mine, len, p->rank, round);
	if (!rc && gifts) {
		bell = cx_sys->bell();
		rc = bell < 0 ? cx_fail_errno(-bell, "a bell") : 0;
		p->gift = bell < 0 ? NULL : sim_fd_get(p->proc, bell);
	}
	if (!rc)
		rc = cx_boot_exchange(at->lib.boot, mine, len, bell, all, gifts ? fds : NULL,
				      deadline_ns);
	if (!rc)
		check_records(p, at, all, len, round);
	if (!rc && gifts)
		check_gifts(p, fds);
	if (bell >= 0)
		cx_sys->close(bell);
	cx_free(all);
	return rc;
}

/* Of one host they have memory; in the first one all are connected. */
static bool is_wanted(const struct sim_comm *c, int a, int b)
{
	const int *host = sim_job.plan->host;

	return a != b && (!c->generation || host[c->member[a]] != host[c->member[b]]);
}

static void check_lanes(struct sim_player *p, struct sim_comm *c, const int *fds)
{
	int me = sim_comm_seat(c, p->rank);

	for (int i = 0; i < c->ranks * SIM_LANES; i++) {
		int r = i / SIM_LANES;
		struct sim_sock *mine = fds[i] < 0 ? NULL : sim_fd_get(p->proc, fds[i]);
		struct sim_sock *other = c->mesh[r][me * SIM_LANES + i % SIM_LANES];

		c->mesh[me][i] = mine;
		if (is_wanted(c, me, r) && !mine)
			sim_broken("rank %d has no lane to rank %d", p->rank, c->member[r]);
		if (other && mine && !sim_sock_is_pair(mine, other) &&
		    sim_job.players == sim_job.all &&
		    !sim_schedule_find(sim_job.plan, SIM_RESET, -1))
			sim_broken("a lane of rank %d leads elsewhere than to rank %d", p->rank,
				   c->member[r]);
	}
}

static int connect_lanes(struct sim_player *p, struct sim_stay *at, const struct cx_meeting *m)
{
	unsigned char wanted[SIM_RANKS];
	int fds[SIM_RANKS * SIM_LANES], rc;

	for (int r = 0; r < at->comm->ranks; r++)
		wanted[r] = is_wanted(at->comm, m->rank, r);
	rc = cx_mesh_open(at->lib.boot, m, sim_job.plan->seed, SIM_LANES, wanted, fds);
	if (!rc)
		check_lanes(p, at->comm, fds);
	for (int i = 0; !rc && i < at->comm->ranks * SIM_LANES; i++)
		if (fds[i] >= 0)
			cx_sys->close(fds[i]);
	return rc;
}

int sim_job_meeting(struct cx_meeting *m, const struct sim_player *p)
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

/* ---- where the ranks will find each other when something has failed ---- */

struct introduction {
	char nest[CX_MEET_MAX];
	uint64_t nonce;
	int32_t rank, generation;
	struct cx_process process;
};

static int make_rally(struct sim_stay *at, const struct cx_meeting *m,
		      const struct introduction *all)
{
	const struct sim_schedule *s = sim_job.plan;
	int n = at->comm->ranks, rc;
	char (*names)[CX_MEET_MAX] = cx_alloc((size_t)n, sizeof(*names));
	struct cx_secret secret;
	struct cx_process near[SIM_RANKS] = { 0 };
	const struct cx_rally_config config = {
		.rank = m->rank, .ranks = n, .secret = &secret,
		.names = names, .near = s->near ? near : NULL,
		.beat_ns = s->beat_ns, .silence_ns = s->silence_ns,
		.straggler_ns = s->straggler_ns,
	};

	rc = names ? cx_secret_derive(&secret, &m->secret, ~all[0].nonce) : COLLX_ERR_NOMEM;
	for (int r = 0; !rc && r < n; r++)
		memcpy(names[r], all[r].nest, sizeof(names[r]));
	for (int r = 0; r < n; r++)
		if (s->meeting != SIM_TCP &&
		    s->host[at->comm->member[r]] == s->host[at->comm->member[m->rank]])
			near[r] = all[r].process;
	if (!rc)
		rc = cx_rally_create(&at->lib.rally, &config, &at->lib.nest);
	cx_free(names);
	return rc;
}

/* The ranks' nests; and whether each is who it should be. */
static int introduce(struct sim_player *p, struct sim_stay *at, const struct cx_meeting *m)
{
	struct introduction mine = { .rank = p->rank, .generation = at->comm->generation };
	struct introduction *all = cx_alloc((size_t)at->comm->ranks, sizeof(*all));
	int rc = all ? cx_nest_open(&at->lib.nest, m) : COLLX_ERR_NOMEM;

	cx_sys->process(&mine.process);
	memcpy(mine.nest, at->lib.nest.place.name, sizeof(mine.nest));
	if (!rc)
		rc = cx_sys->random(&mine.nonce, sizeof(mine.nonce));
	if (!rc)
		rc = cx_boot_exchange(at->lib.boot, &mine, sizeof(mine), -1, all, NULL,
				      m->deadline_ns);
	for (int r = 0; !rc && r < at->comm->ranks; r++)
		if (all[r].rank != at->comm->member[r] ||
		    all[r].generation != at->comm->generation)
			sim_broken("rank %d met rank %d of the job as rank %d", p->rank,
				   (int)all[r].rank, r);
	if (!rc)
		rc = make_rally(at, m, all);
	if (!rc)
		rc = cx_ring_open(&at->beside, at->lib.boot, m, all[0].nonce + 1,
				  sim_job.plan->ring_hosts);
	cx_free(all);
	return rc;
}

static int end_together(struct sim_player *p, struct sim_stay *at, uint64_t deadline_ns)
{
	struct sim_comm *c = at->comm;
	int rc;

	c->came |= (uint64_t)1 << sim_comm_seat(c, p->rank);
	if (sim_rogue_is_early(p))
		sim_rogue_record(p, (struct cx_wire *)&cx_boot_tree(at->lib.boot)->up);
	rc = cx_boot_barrier(at->lib.boot, deadline_ns);
	if (!rc && c->came + 1 != (uint64_t)1 << c->ranks &&
	    !sim_schedule_find(sim_job.plan, SIM_ROGUE, -1))
		sim_broken("rank %d has a communicator, and not all have come so far", p->rank);
	return rc;
}

static int connect_all(struct sim_player *p, struct sim_stay *at, struct cx_meeting *m)
{
	const struct sim_schedule *s = sim_job.plan;
	bool first = !at->comm->generation;
	int rc = cx_boot_open(&at->lib.boot, m);

	if (!rc && at->comm->ranks > 1)
		rc = introduce(p, at, m);
	for (int i = 0; !rc && first && i < s->exchanges; i++)
		rc = exchange(p, at, i, m->deadline_ns);
	if (!rc && (first ? s->mesh : s->lanes))
		rc = connect_lanes(p, at, m);
	return rc ? rc : end_together(p, at, m->deadline_ns);
}

static int fail_to_create(struct sim_stay *at, int rc)
{
	if (at->lib.boot)
		cx_boot_tell(at->lib.boot, rc, cx_error_text());
	if (at->lib.boot)
		cx_boot_close(at->lib.boot);
	if (at->lib.rally)
		cx_rally_destroy(at->lib.rally);
	cx_nest_close(&at->lib.nest);
	cx_tree_part(at->beside, at->comm->ranks);
	at->beside = NULL;
	at->lib.boot = NULL;
	at->lib.rally = NULL;
	return rc;
}

static int create(struct sim_player *p, struct sim_stay *at, struct cx_meeting *m)
{
	const struct sim_fault *rogue = sim_schedule_find(sim_job.plan, SIM_ROGUE, p->rank);
	struct cx_tree tree;
	int rc;

	at->lib.nest.fd = -1;
	rc = connect_all(p, at, m);
	if (rc)
		return fail_to_create(at, rc);
	cx_boot_finish(at->lib.boot, &tree);
	tree.beside = at->beside;
	at->beside = NULL;
	at->lib.boot = NULL;
	if (!at->comm->generation)
		check_leaders(&tree);
	if (!rogue) {
		at->council = at->lib.rally ? &at->lib.rally->council : NULL;
		rc = cx_guard_open(&at->lib.guard, &tree, &at->lib.calls, at->lib.rally);
		at->lib.rally = NULL;
		return rc;
	}
	sim_rogue_speak(p, &tree.up, rogue->n);
	cx_tree_fini(&tree);
	fail_to_create(at, 0);
	return 0;
}

static struct sim_stay *create_stay(struct sim_comm *c, const struct cx_meeting *m,
				    const struct cx_terms *terms)
{
	struct sim_stay *at = sim_memory(sizeof(*at));

	at->comm = c;
	at->lib.rank = m->rank;
	at->lib.size = m->ranks;
	at->lib.terms = *terms;
	at->lib.handle = &at->lib;
	at->lib.origin = at->origin;
	for (int r = 0; r < c->ranks; r++)
		at->origin[r] = r;
	return at;
}

/* The members of c are known by what was decided, whatever this rank makes of that. */
static bool is_of(const struct sim_player *p, const struct sim_comm *c, const struct cx_meeting *m)
{
	if (!c)
		sim_broken("rank %d makes a communicator that nobody decided on", p->rank);
	else if (m->rank != sim_comm_seat(c, p->rank) || m->ranks != c->ranks)
		sim_broken("rank %d makes its part as rank %d of %d, and is rank %d of %d", p->rank,
			   m->rank, m->ranks, sim_comm_seat(c, p->rank), c->ranks);
	else
		return true;
	return false;
}

int cx_comm_open(struct collx_comm **out, struct cx_meeting *m, const struct cx_terms *terms)
{
	struct sim_player *p = sim_job_me();
	struct sim_comm *c = p->making;
	uint64_t since, now = cx_now_ns();
	struct sim_stay *at;
	int rc;

	p->making = NULL;
	p->growth.opened = true;
	if (!is_of(p, c, m))
		return cx_fail(COLLX_ERR_INTERNAL, "no communicator");
	at = create_stay(c, m, terms);
	if (!p->at && !sim_is_joiner(p)) /* which has none before it is made */
		p->at = at;
	sim_job_begin_timing(p, &since);
	rc = create(p, at, m);
	cx_secret_wipe(&m->secret);
	sim_judge_duration(p, "creation", since,
			   (m->deadline_ns > now ? m->deadline_ns - now : 0) + 2500 * SIM_MS);
	sim_trace(p->proc, rc ? "NO COMMUNICATOR: %s" : "has its communicator%s",
		  rc ? cx_error_text() : "");
	if (rc)
		return rc;
	if (!c->lanes)
		c->lanes = sim_lanes_create();
	c->have |= (uint64_t)1 << p->rank;
	*out = &at->lib;
	return 0;
}

void cx_comm_close(struct collx_comm *c)
{
	struct sim_stay *at = (struct sim_stay *)c;

	if (!c)
		return;
	at->closed = true;
	cx_guard_close(c->guard, true);
}

int sim_job_create(struct cx_meeting *m, struct sim_stay **out)
{
	const struct sim_schedule *s = sim_job.plan;
	const struct cx_terms terms = {
		.op_timeout_ns = s->op_ns,
		.heartbeat_ms = (uint32_t)(s->beat_ns / SIM_MS),
		.silence_ms = (uint32_t)(s->silence_ns / SIM_MS),
		.straggler_ms = (uint32_t)(s->straggler_ns / SIM_MS),
		.ring_hosts = s->ring_hosts,
	};
	struct collx_comm *c;
	int rc = cx_comm_open(&c, m, &terms);

	if (!rc)
		*out = (struct sim_stay *)c;
	return rc;
}
