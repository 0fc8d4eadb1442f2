/* SPDX-License-Identifier: BSD-3-Clause */
/* The council's connections; see rally.h. */
#include <poll.h>
#include <string.h>

#include "base/base.h"
#include "boot.h"
#include "net.h"
#include "rally.h"
#include "vault.h"

enum { FRAMES = 64 /* of a strand in one step */, OUT_ROOM = 4096, SLICE_MS = 1000 };
enum { LOOKS = 8 /* at processes, at a time */ };
static const uint64_t again_ns = 20000000; /* after a visit that failed */
static const uint64_t look_ns = 20000000; /* while a decision is waited for */

/* ---- nests ---- */

int cx_nest_open(struct cx_nest *n, const struct cx_meeting *m)
{
	int rc = cx_net_own_place(m, &n->place);

	n->fd = -1;
	if (rc)
		return rc;
	rc = cx_place_reserve(&n->place);
	if (rc < 0)
		return rc;
	n->fd = rc;
	return 0;
}

void cx_nest_close(struct cx_nest *n)
{
	if (n->fd >= 0)
		cx_sys->close(n->fd);
	n->fd = -1;
}

/* ---- strands ---- */

static void part(struct cx_rally *r, int rank)
{
	struct cx_strand *s = &r->strands[rank];

	if (s->wire.fd < 0)
		return;
	if (rank < r->council.rank)
		r->parted_ns = r->now_ns;
	cx_strand_flush(s);
	cx_strand_cut(s);
	cx_council_parted(&r->council, rank, r->now_ns);
}

static void say(struct cx_rally *r, int rank, enum cx_frame_kind kind, const void *body, size_t len)
{
	struct cx_strand *s = &r->strands[rank];

	if (cx_strand_say(s, kind, r->council.rank, body, len, r->now_ns))
		return;
	cx_strand_flush(s);
	/* It has not read for long, and is silent from here on. */
	if (!cx_strand_say(s, kind, r->council.rank, body, len, r->now_ns))
		s->heard_ns = 0;
}

/* Gives the connection up. The other end may live, though it said nothing or nonsense: without
 * this word it would take the end for this rank's death, and tell others of it. */
static void turn_away(struct cx_rally *r, int rank)
{
	say(r, rank, CX_FRAME_PART, NULL, 0);
	part(r, rank);
}

static void send_for_council(void *ctx, int rank, enum cx_frame_kind kind, const void *body,
			     size_t len)
{
	say(ctx, rank, kind, body, len);
}

static void ended(struct cx_rally *r, int rank)
{
	/* Who proved itself and said nothing yet may not have liked the answer, or have gone
	 * elsewhere meanwhile. */
	bool died = r->strands[rank].spoke;

	part(r, rank);
	if (died)
		cx_council_dead(&r->council, rank, r->now_ns);
}

static void hear(struct cx_rally *r, int rank)
{
	struct cx_strand *s = &r->strands[rank];

	for (int i = 0; i < FRAMES && s->wire.fd >= 0; i++) {
		int rc = cx_wire_receive(&s->wire);
		enum cx_frame_kind kind = (enum cx_frame_kind)s->wire.head.kind;

		if (rc == 0)
			return;
		if (rc == COLLX_ERR_PEER_DEAD) {
			ended(r, rank);
			return;
		}
		s->heard_ns = r->now_ns;
		s->spoke = true;
		if (rc < 0) {
			turn_away(r, rank);
			return;
		}
		if (kind == CX_FRAME_PART) {
			part(r, rank);
			return;
		}
		if (kind == CX_FRAME_LEAVE) {
			say(r, rank, CX_FRAME_PART, NULL, 0);
			ended(r, rank);
			return;
		}
		if (kind != CX_FRAME_BEAT &&
		    !cx_council_hear(&r->council, rank, kind, s->wire.body, s->wire.head.len,
				     r->now_ns)) {
			turn_away(r, rank);
			cx_council_silent(&r->council, rank, r->now_ns);
			return;
		}
		if (kind == CX_FRAME_JOIN) /* from here on this rank's end is a death there */
			say(r, rank, CX_FRAME_BEAT, NULL, 0);
		if (kind == CX_FRAME_JOIN && r->going)
			say(r, rank, CX_FRAME_LEAVE, NULL, 0);
		cx_wire_next(&s->wire);
	}
}

/* ---- coming and going ---- */

static int seat(void *ctx, const struct cx_claim *claim, int fd)
{
	struct cx_rally *r = ctx;

	if (claim->kind != CX_CONN_COUNCIL || claim->ranks != (uint32_t)r->council.ranks ||
	    claim->rank >= claim->ranks || claim->rank == (uint32_t)r->council.rank) {
		cx_sys->close(fd);
		return 0;
	}
	/* Whose connection broke unseen comes again. */
	part(r, (int)claim->rank);
	cx_strand_open(&r->strands[claim->rank], (int)claim->rank, fd, r->now_ns);
	return 0;
}

static void open_door(struct cx_rally *r)
{
	/* In the place of what kept the port; not let in, this rank can still go elsewhere. */
	if (r->door || cx_door_open(&r->door, &r->nest.place, r->secret, (uint32_t)r->council.rank,
				    r->council.ranks, seat, r))
		return;
	cx_nest_close(&r->nest);
}

static void visit(struct cx_rally *r, int rank)
{
	const struct cx_claim claim = { .rank = (uint32_t)r->council.rank,
					.ranks = (uint32_t)r->council.ranks,
					.kind = CX_CONN_COUNCIL, .to = (uint32_t)rank };

	cx_visit_end(&r->visit);
	r->visits = -1;
	if (cx_place_parse(&r->goal, r->names[rank]))
		return;
	r->visits = rank;
	cx_visit_begin(&r->visit, &r->goal, r->secret, &claim);
}

/* Leaves whoever was the chair before. */
static void leave_old_chairs(struct cx_rally *r)
{
	int chair = r->council.chair;

	for (int i = 0; i < r->council.rank; i++)
		if (i != chair && r->strands[i].wire.fd >= 0)
			turn_away(r, i);
}

/* Goes where the council wants to. */
static void go(struct cx_rally *r)
{
	int chair = r->council.chair, rc;

	if (chair < 0 || chair >= r->council.rank || r->strands[chair].wire.fd >= 0 ||
	    r->council.code) {
		cx_visit_end(&r->visit);
		r->visits = -1;
		return;
	}
	if (r->visits != chair) {
		visit(r, chair);
		r->visit.next_ns = r->parted_ns ? r->parted_ns + again_ns : 0;
	}
	rc = r->visits < 0 ? 0 : cx_visit_go_on(&r->visit, r->poll);
	if (rc < 0) { /* it is the council that loses patience */
		visit(r, chair);
		r->visit.next_ns = r->now_ns + again_ns;
	}
	if (rc != 1)
		return;
	cx_strand_open(&r->strands[chair], chair, r->visit.fd, r->now_ns);
	r->visits = -1;
	cx_council_seated(&r->council, r->now_ns);
	if (r->going)
		say(r, chair, CX_FRAME_LEAVE, NULL, 0);
}

static void go_where_council_wants(struct cx_rally *r)
{
	int chair;

	do { /* a chair that is given up makes room for the next one */
		chair = r->council.chair;
		leave_old_chairs(r);
		go(r);
	} while (chair != r->council.chair);
}

/* ---- the clock ---- */

static uint64_t keep_alive(struct cx_rally *r)
{
	uint64_t due = UINT64_MAX;

	for (int i = 0; i < r->council.ranks; i++) {
		struct cx_strand *s = &r->strands[i];

		if (s->wire.fd >= 0 && r->now_ns - s->heard_ns >= r->silence_ns) {
			turn_away(r, i);
			cx_council_silent(&r->council, i, r->now_ns);
		}
		if (s->wire.fd < 0)
			continue;
		if (r->now_ns - s->said_ns >= r->beat_ns)
			say(r, i, CX_FRAME_BEAT, NULL, 0);
		cx_strand_flush(s);
		due = cx_min(due, cx_min(s->said_ns + r->beat_ns, s->heard_ns + r->silence_ns));
	}
	return due;
}

/* This rank was stopped itself: what others said meanwhile counts first. */
static void forgive(struct cx_rally *r, uint64_t now_ns)
{
	if (now_ns < r->due_ns || now_ns - r->due_ns <= r->silence_ns / 2)
		return;
	for (int i = 0; i < r->council.ranks; i++)
		r->strands[i].heard_ns = now_ns;
	cx_council_forgive(&r->council, now_ns);
}

/* ---- a step ---- */

static void settle_left(struct cx_rally *r, int rank, uint64_t now_ns)
{
	if (r->left_at[rank] && r->left_at[rank] <= r->council.decided + 1 &&
	    r->strands[rank].wire.fd < 0)
		cx_council_dead(&r->council, rank, now_ns);
}

bool cx_rally_is_same(const struct cx_rally *a, const struct cx_rally *b)
{
	return !strcmp(a->names[0], b->names[0]); /* where rank 0 would be met: nobody else is */
}

int cx_rally_process_state(const struct cx_rally *r, int rank)
{
	return r->near && r->near[rank].number ? cx_sys->process_state(&r->near[rank])
					       : CX_PROCESS_UNKNOWN;
}

bool cx_rally_is_near(const struct cx_rally *r)
{
	for (int i = 0; i < r->council.ranks; i++)
		if (!r->near || !r->near[i].number)
			return false;
	return true;
}

static bool may_be_gone(const struct cx_rally *r, int rank)
{
	return r->near[rank].number && rank != r->council.rank && r->strands[rank].wire.fd < 0 &&
	       !cx_set_has(&r->council.dead, rank);
}

/* A rank of this host that has not come: does its process live? Without a connection its
 * end is known by nothing else. Some at a time, as every rank looks. When to go on. */
static uint64_t look_for_the_gone(struct cx_rally *r)
{
	const struct cx_council *c = &r->council;
	int looks = LOOKS;

	if (!r->near || !c->voted)
		return UINT64_MAX;
	if (r->now_ns - r->looked_ns < look_ns)
		return r->looked_ns + look_ns;
	r->looked_ns = r->now_ns;
	for (int n = 0; n < c->ranks && looks; n++) {
		int i = (int)(r->looked++ % (unsigned)c->ranks);

		if (!may_be_gone(r, i))
			continue;
		looks--;
		if (cx_rally_process_state(r, i) == CX_PROCESS_GONE)
			cx_council_dead(&r->council, i, r->now_ns);
	}
	return r->now_ns + look_ns;
}

void cx_rally_convene(struct cx_rally *r, uint64_t now_ns)
{
	if (r->convened)
		return;
	r->convened = true;
	r->now_ns = r->due_ns = now_ns;
	open_door(r);
	cx_council_begin(&r->council, now_ns);
}

unsigned cx_rally_room(int ranks)
{
	return cx_door_room(ranks) + (unsigned)ranks + 1;
}

void cx_rally_watch(struct cx_rally *r, struct cx_poll *p)
{
	if (!r->convened)
		return;
	if (r->door)
		cx_door_watch(r->door, p);
	cx_visit_watch(&r->visit, p);
	for (int i = 0; i < r->council.ranks; i++) {
		struct cx_strand *s = &r->strands[i];
		short events = cx_strand_waits(s) ? POLLIN | POLLOUT : POLLIN;

		s->number = s->wire.fd < 0 ? -1 : cx_poll_add(p, s->wire.fd, events);
	}
}

uint64_t cx_rally_step(struct cx_rally *r, const struct cx_poll *p, uint64_t now_ns)
{
	static const struct cx_poll nothing;
	uint64_t due;

	if (!r->convened)
		return UINT64_MAX;
	forgive(r, now_ns);
	r->now_ns = now_ns;
	r->poll = p ? p : &nothing;
	if (!p) /* its number is of an earlier round */
		r->visit.number = -1;
	for (int i = 0; i < r->council.ranks; i++)
		if (r->strands[i].wire.fd >= 0 && (!p || cx_poll_came(p, r->strands[i].number)))
			hear(r, i);
	if (p && r->door)
		cx_door_serve(r->door, p);
	for (int i = 0; i < r->council.ranks; i++)
		settle_left(r, i, now_ns);
	due = look_for_the_gone(r);
	cx_council_tick(&r->council, now_ns);
	go_where_council_wants(r);
	due = cx_min(due, cx_min(keep_alive(r), r->council.due_ns));
	/* Often enough to see its own stop, by coming late. */
	r->due_ns = cx_min(due, now_ns + (r->visits >= 0 ? again_ns : r->silence_ns / 4));
	return r->due_ns;
}

bool cx_rally_is_needed(const struct cx_rally *r)
{
	const struct cx_council *c = &r->council;

	for (int i = 0; i < c->ranks; i++)
		if (i != c->rank && !cx_set_has(&c->dead, i) && !cx_set_has(&c->silent, i))
			return true;
	return false;
}

void cx_rally_left(struct cx_rally *r, int rank, uint64_t decided, uint64_t now_ns)
{
	r->left_at[rank] = cx_min(decided, UINT64_MAX - 1) + 1;
	settle_left(r, rank, now_ns);
}

void cx_rally_going(struct cx_rally *r, uint64_t now_ns)
{
	const struct cx_council *c = &r->council;

	r->now_ns = now_ns;
	r->going = true;
	for (int i = 0; i < c->ranks; i++)
		if (c->seat[i].sits || (i == c->chair && c->seated))
			say(r, i, CX_FRAME_LEAVE, NULL, 0);
}

bool cx_rally_all_said(const struct cx_rally *r)
{
	for (int i = 0; i < r->council.ranks; i++)
		if (cx_strand_waits(&r->strands[i]))
			return false;
	return true;
}

bool cx_rally_leave(struct cx_rally *r, uint64_t now_ns)
{
	bool all = true;

	r->now_ns = now_ns;
	for (int i = 0; i < r->council.ranks; i++) {
		struct cx_strand *s = &r->strands[i];

		if (!r->left)
			say(r, i, CX_FRAME_PART, NULL, 0);
		cx_strand_flush(s);
		all = all && !cx_strand_waits(s);
	}
	r->left = true;
	return all;
}

/* ---- life ---- */

static int allocate(struct cx_rally *r, const struct cx_rally_config *c)
{
	size_t n = (size_t)c->ranks;

	r->secret = cx_vault_create(sizeof(*r->secret));
	r->names = cx_alloc(n, sizeof(*r->names));
	r->strands = cx_alloc(n, sizeof(*r->strands));
	r->outs = cx_buffer(n, OUT_ROOM);
	r->left_at = cx_alloc(n, sizeof(*r->left_at));
	if (!r->secret || !r->names || !r->strands || !r->outs || !r->left_at)
		return COLLX_ERR_NOMEM;
	if (c->near) {
		r->near = cx_alloc(n, sizeof(*r->near));
		if (!r->near)
			return COLLX_ERR_NOMEM;
		memcpy(r->near, c->near, n * sizeof(*r->near));
	}
	*r->secret = *c->secret;
	memcpy(r->names, c->names, n * sizeof(*r->names));
	for (size_t i = 0; i < n; i++) {
		cx_strand_open(&r->strands[i], (int)i, -1, 0);
		r->strands[i].out = r->outs + i * OUT_ROOM;
		r->strands[i].room = OUT_ROOM;
		r->names[i][CX_MEET_MAX - 1] = '\0';
	}
	return cx_council_init(&r->council, c->rank, c->ranks, c->silence_ns);
}

int cx_rally_create(struct cx_rally **out, const struct cx_rally_config *config,
		    struct cx_nest *nest)
{
	struct cx_rally *r;
	int rc;

	if (config->ranks > CX_COUNCIL_RANKS)
		return cx_fail(COLLX_ERR_UNSUPPORTED, "more than %d ranks hold no council",
			       (int)CX_COUNCIL_RANKS);
	r = cx_alloc(1, sizeof(*r));
	if (!r)
		return COLLX_ERR_NOMEM;
	r->nest.fd = r->visits = r->visit.fd = -1;
	r->beat_ns = config->beat_ns;
	r->straggler_ns = config->straggler_ns;
	r->silence_ns = config->silence_ns;
	rc = allocate(r, config);
	if (rc) {
		cx_rally_destroy(r);
		return rc;
	}
	r->council.send = send_for_council;
	r->council.ctx = r;
	r->nest = *nest;
	nest->fd = -1;
	*out = r;
	return 0;
}

void cx_rally_destroy(struct cx_rally *r)
{
	cx_visit_end(&r->visit);
	for (int i = 0; r->strands && i < r->council.ranks; i++)
		cx_strand_cut(&r->strands[i]);
	if (r->door)
		cx_door_close(r->door);
	cx_nest_close(&r->nest);
	cx_council_fini(&r->council);
	cx_vault_destroy(r->secret, sizeof(*r->secret));
	cx_free(r->names);
	cx_free(r->strands);
	cx_free(r->outs);
	cx_free(r->left_at);
	cx_free(r->near);
	cx_free(r);
}
