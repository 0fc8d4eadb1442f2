/* SPDX-License-Identifier: BSD-3-Clause */
/* From votes to one decision; see council.h. */
#include <string.h>

#include "base/base.h"
#include "council.h"

/* ---- sets ---- */

int cx_set_count(const struct cx_set *s)
{
	int n = 0;

	for (size_t i = 0; i < sizeof(s->word) / sizeof(s->word[0]); i++)
		n += __builtin_popcountll(s->word[i]);
	return n;
}

int cx_set_nth_but(const struct cx_set *s, int n)
{
	int r = 0;

	while (r < CX_COUNCIL_RANKS && (cx_set_has(s, r) || n--))
		r++;
	return r;
}

static void unite(struct cx_set *s, const struct cx_set *more)
{
	for (size_t i = 0; i < sizeof(s->word) / sizeof(s->word[0]); i++)
		s->word[i] |= more->word[i];
}

static bool is_within(const struct cx_set *s, int ranks)
{
	for (int r = ranks; r < CX_COUNCIL_RANKS; r += 64 - r % 64)
		if (s->word[r / 64] >> r % 64)
			return false;
	return true;
}

/* ---- who is there ---- */

static bool is_out(const struct cx_council *c, int r)
{
	return cx_set_has(&c->dead, r) || cx_set_has(&c->silent, r);
}

static bool is_in(const struct cx_council *c, int r)
{
	return r == c->rank || (c->seat[r].sits && !is_out(c, r) && !cx_set_has(&c->gone, r));
}

static bool has_voted(const struct cx_council *c, int r)
{
	return r == c->rank ? c->voted : c->seat[r].voted;
}

struct tally {
	bool all_here;  /* who is neither dead nor silent */
	bool quorum;    /* of those who are here */
	bool voted;     /* all who are here */
	bool accepted;
};

static struct tally count(const struct cx_council *c)
{
	struct tally t = { true, false, true, true };
	int here = 0, electors = 0, lowest = -1;

	for (int r = 0; r < c->ranks; r++) {
		if (cx_set_has(&c->dead, r) || cx_set_has(&c->gone, r))
			continue;
		electors++;
		if (lowest < 0)
			lowest = r;
		if (!is_in(c, r)) {
			t.all_here &= is_out(c, r);
			continue;
		}
		here++;
		t.voted &= has_voted(c, r);
		t.accepted &= r == c->rank ? c->proposing : c->seat[r].accepted;
	}
	t.quorum = 2 * here > electors || (2 * here == electors && is_in(c, lowest));
	return t;
}

static void tell(struct cx_council *c, int rank, enum cx_frame_kind kind, const void *body,
		 size_t len)
{
	c->send(c->ctx, rank, kind, body, len);
}

static void tell_all(struct cx_council *c, enum cx_frame_kind kind, const void *body, size_t len)
{
	for (int r = 0; r < c->ranks; r++)
		if (c->seat[r].sits)
			tell(c, r, kind, body, len);
}

/* Turns to the lowest rank that may be there, though it may be out: if it does not know,
 * others who do not may sit with it, and are told. */
static void turn(struct cx_council *c, uint64_t now_ns)
{
	int r = 0;

	while (r < c->rank && is_out(c, r))
		r++;
	if (r == c->chair)
		return;
	c->chair = r;
	c->seated = false;
	c->since_ns = now_ns;
}

static void mark_dead(struct cx_council *c, int r)
{
	cx_set_add(&c->dead, r);
	c->seat[r] = (struct cx_councillor){ 0 };
}

/* Deaths, to those who do not know of them from this `source`. */
static void tell_deaths(struct cx_council *c, int source)
{
	for (int r = 0; r < c->ranks; r++)
		if (r != source && c->seat[r].sits)
			tell(c, r, CX_FRAME_LOST, &c->dead, sizeof(c->dead));
	if (c->seated && c->chair != source)
		tell(c, c->chair, CX_FRAME_LOST, &c->dead, sizeof(c->dead));
}

static bool learn_deaths(struct cx_council *c, const struct cx_set *dead)
{
	bool more = false;

	for (int r = 0; r < c->ranks; r++)
		if (cx_set_has(dead, r) && r != c->rank && !cx_set_has(&c->dead, r)) {
			mark_dead(c, r);
			more = true;
		}
	return more;
}

/* ---- decisions ---- */

static void clear_votes(struct cx_council *c)
{
	c->proposing = c->voted = false;
	c->accepted.ballot = c->found.ballot = 0;
	c->late_ns = UINT64_MAX;
	memset(&c->exclude, 0, sizeof(c->exclude));
	for (int r = 0; r < c->ranks; r++)
		c->seat[r].voted = c->seat[r].accepted = false;
}

/* Takes what was decided, from `source`, and passes it on to all who may not know. */
static void decide(struct cx_council *c, const struct cx_motion *m, int source)
{
	bool excludes = m->kind <= CX_MOTION_GROW;

	if (m->number != c->decided + 1 || (excludes && cx_set_has(&m->out, c->rank)))
		c->code = COLLX_ERR_EXCLUDED;
	if (c->voted)
		c->answer = *m;
	c->last = *m;
	c->decided = m->number;
	clear_votes(c);
	tell_all(c, CX_FRAME_DECIDED, &c->last, sizeof(c->last));
	if (c->seated && c->chair != source)
		tell(c, c->chair, CX_FRAME_DECIDED, &c->last, sizeof(c->last));
	if (!excludes)
		return;
	/* Who is not out sat with the chair, though this rank may have held it for silent. */
	for (int r = c->chair + 1; c->seated && r < c->ranks; r++)
		if (!cx_set_has(&c->last.out, r))
			cx_set_drop(&c->silent, r);
	unite(&c->gone, &c->last.out);
	if (c->seated && cx_set_has(&c->gone, c->chair))
		cx_set_add(&c->silent, c->chair);
}

static void resign(struct cx_council *c)
{
	struct cx_council_resign r = { COLLX_ERR_NO_QUORUM };

	c->code = COLLX_ERR_NO_QUORUM;
	tell_all(c, CX_FRAME_RESIGN, &r, sizeof(r));
}

static void tell_abort(struct cx_council *c, int rank)
{
	const struct cx_council_abort a = { c->aborter };

	tell(c, rank, CX_FRAME_ABORT, &a, sizeof(a));
}

/* From `source`: all others are told. */
static bool be_aborted(struct cx_council *c, int by, int source)
{
	if (c->code || cx_set_has(&c->gone, by))
		return c->code == COLLX_ERR_ABORTED;
	c->code = COLLX_ERR_ABORTED;
	c->aborter = by;
	for (int r = 0; r < c->ranks; r++)
		if (r != source && c->seat[r].sits)
			tell_abort(c, r);
	if (c->seated && c->chair != source)
		tell_abort(c, c->chair);
	return true;
}

/* ---- motions ---- */

static void make_late(const struct cx_council *c, struct cx_motion *m)
{
	m->kind = CX_MOTION_LATE;
	for (int r = 0; r < c->ranks; r++)
		if (is_in(c, r) && !has_voted(c, r))
			cx_set_add(&m->out, r);
}

/* What votes of these kinds, a bit for each, come to; committed: the and of COMMITs. */
static uint32_t kind_of(uint32_t kinds, uint64_t committed, uint32_t *outvoted)
{
	uint32_t others = kinds & ~(1u << CX_MOTION_COMMIT);
	bool mixed = others & (others - 1);

	*outvoted = 0;
	if (!others)
		return CX_MOTION_COMMIT;
	if (!mixed && (others == kinds || others == 1u << CX_MOTION_AGREE))
		return (uint32_t)__builtin_ctz(others);
	if (mixed || (others != 1u << CX_MOTION_SHRINK && committed))
		return CX_MOTION_MIXED;
	*outvoted = 1;
	return CX_MOTION_COMMIT;
}

/* Who could not connect with a lower rank goes, for the sake of that one: not where it has died or
 * fallen silent since, or goes itself, or those who lost one rank would all go. All that are lower
 * than the chair are out. */
static void part_pairs(const struct cx_council *c, struct cx_set *out)
{
	for (int r = c->rank + 1; r < c->ranks; r++) {
		uint64_t lower = c->seat[r].unreached;

		if (lower && !cx_set_has(out, (int)lower - 1))
			cx_set_add(out, r);
	}
}

/* From the votes of all who are here. */
static void make_motion(const struct cx_council *c, struct cx_motion *m)
{
	uint64_t flags = UINT64_MAX, committed = UINT64_MAX;
	uint32_t kinds = 0;
	int r;

	for (r = 0; r < c->ranks; r++) {
		uint32_t kind = r == c->rank ? c->vote.kind : c->seat[r].kind;
		uint64_t of = r == c->rank ? c->vote.flags : c->seat[r].flags;

		if (!is_in(c, r))
			continue;
		*(kind == CX_MOTION_COMMIT ? &committed : &flags) &= of;
		kinds |= 1u << kind;
	}
	m->kind = kind_of(kinds, committed, &m->outvoted);
	if (m->kind == CX_MOTION_MIXED)
		return;
	m->flags = m->outvoted ? 0 : m->kind == CX_MOTION_COMMIT ? committed : flags;
	m->out = c->dead;
	unite(&m->out, &c->silent);
	unite(&m->out, &c->gone);
	if (m->kind <= CX_MOTION_COMMIT)
		return;
	unite(&m->out, &c->exclude);
	if (m->kind == CX_MOTION_SHRINK)
		part_pairs(c, &m->out);
	for (r = 0; r < c->ranks && cx_set_has(&m->out, r); r++)
		;
	if (r < c->ranks)
		m->id = r == c->rank ? c->vote.id : c->seat[r].id;
}

static void propose(struct cx_council *c, const struct cx_motion *m)
{
	c->accepted = (struct cx_council_proposal){ .ballot = (uint64_t)c->rank + 1, .motion = *m };
	c->proposing = true;
	for (int r = 0; r < c->ranks; r++)
		if (r != c->rank && is_in(c, r))
			tell(c, r, CX_FRAME_PROPOSE, &c->accepted, sizeof(c->accepted));
}

static void find_motion(struct cx_council *c, struct tally t, uint64_t now_ns)
{
	const struct cx_council_proposal *p =
		c->found.ballot > c->accepted.ballot ? &c->found : &c->accepted;
	struct cx_motion m = { .number = c->decided + 1 };

	if (p->ballot) {
		m = p->motion;
	} else if (!t.all_here) {
		return;
	} else if (t.voted) {
		make_motion(c, &m);
	} else if (now_ns >= c->late_ns) {
		make_late(c, &m);
	} else {
		return;
	}
	propose(c, &m);
}

/* ---- the chair ---- */

/* Until when a chair waits for a rank. Who comes may have been patient with lower
 * chairs before, here with two at most. */
static uint64_t missed_ns(const struct cx_council *c, int r)
{
	uint64_t from = cx_max(c->since_ns, c->seat[r].left_ns);

	uint64_t until = from + c->patience_ns * (2 + cx_min((size_t)c->rank, 2));

	if (c->rank == 0 && c->seat[r].grace_ns) /* nobody goes elsewhere before */
		until = cx_min(until, cx_max(from, c->seat[r].doubted_ns) + c->seat[r].grace_ns);
	return until;
}

static bool is_missing(const struct cx_council *c, int r)
{
	return !is_in(c, r) && !is_out(c, r);
}

static void preside(struct cx_council *c, uint64_t now_ns)
{
	struct tally t;

	for (int r = 0; r < c->ranks; r++)
		if (is_missing(c, r) && now_ns >= missed_ns(c, r))
			cx_set_add(&c->silent, r);
	t = count(c);
	if (t.quorum && !c->proposing)
		find_motion(c, t, now_ns);
	t = count(c);
	if (t.all_here && !t.quorum) {
		resign(c);
	} else if (t.all_here && c->proposing && t.accepted) {
		struct cx_motion m = c->accepted.motion;

		decide(c, &m, c->rank);
	}
}

static uint64_t chair_due_ns(const struct cx_council *c)
{
	struct tally t = count(c);
	uint64_t due = UINT64_MAX;

	for (int r = 0; r < c->ranks; r++)
		if (is_missing(c, r))
			due = cx_min(due, missed_ns(c, r));
	return t.all_here && !c->proposing ? cx_min(due, c->late_ns) : due;
}

/* Does what has become due, and says when more will. */
static void settle(struct cx_council *c, uint64_t now_ns)
{
	c->due_ns = UINT64_MAX;
	if (cx_council_is_over(c) || c->chair < 0)
		return;
	turn(c, now_ns);
	while (c->chair != c->rank && !c->seated && now_ns >= c->since_ns + c->patience_ns) {
		cx_set_add(&c->silent, c->chair);
		turn(c, now_ns);
	}
	if (c->chair == c->rank && !c->code)
		preside(c, now_ns);
	if (c->chair == c->rank && c->code)
		return;
	if (c->chair == c->rank)
		c->due_ns = chair_due_ns(c);
	else if (!c->seated)
		c->due_ns = c->since_ns + c->patience_ns;
}

/* ---- frames ---- */

static bool is_motion(const struct cx_council *c, const struct cx_motion *m)
{
	return m->kind >= CX_MOTION_AGREE && m->kind <= CX_MOTION_MIXED && m->number &&
	       m->outvoted <= (m->kind == CX_MOTION_COMMIT) && is_within(&m->out, c->ranks);
}

static bool hear_join(struct cx_council *c, int rank, const struct cx_council_join *j)
{
	struct cx_councillor *s = &c->seat[rank];
	struct cx_council_resign over = { c->code };

	if (rank < c->rank || s->sits || (j->decided > c->decided && !c->code) ||
	    !is_within(&j->dead, c->ranks) || cx_set_has(&j->dead, rank))
		return false;
	if (j->decided < c->decided)
		tell(c, rank, CX_FRAME_DECIDED, &c->last, sizeof(c->last));
	if (c->code == COLLX_ERR_ABORTED)
		tell_abort(c, rank);
	else if (c->code)
		tell(c, rank, CX_FRAME_RESIGN, &over, sizeof(over));
	if (c->code)
		return true;
	if (learn_deaths(c, &j->dead))
		tell_deaths(c, rank);
	if (cx_set_has(&c->gone, rank) || c->decided - j->decided > 1)
		return true;
	cx_set_drop(&c->silent, rank);
	s->sits = true;
	if (c->proposing)
		tell(c, rank, CX_FRAME_PROPOSE, &c->accepted, sizeof(c->accepted));
	return true;
}

static bool hear_accepted(struct cx_council *c, int rank, const struct cx_council_proposal *p)
{
	if (rank < c->rank || c->seat[rank].sits || !is_motion(c, &p->motion) || !p->ballot ||
	    p->ballot > (uint64_t)c->rank + 1 || p->motion.number > c->decided + 1)
		return false;
	if (p->motion.number == c->decided + 1 && p->ballot > c->found.ballot)
		c->found = *p;
	return true;
}

static bool hear_vote(struct cx_council *c, int rank, const struct cx_council_vote *v,
		      uint64_t now_ns)
{
	struct cx_councillor *s = &c->seat[rank];
	const struct cx_motion *m = &v->motion;

	if (rank < c->rank || !is_motion(c, m) || m->kind > CX_MOTION_GROW ||
	    m->number > c->decided + 1 ||
	    m->unreached > (m->kind == CX_MOTION_SHRINK ? (uint64_t)rank : 0))
		return false;
	if (m->number <= c->decided)
		return true;
	s->unreached = m->unreached;
	s->voted = true;
	s->kind = m->kind;
	s->flags = m->flags;
	s->id = m->id;
	unite(&c->exclude, &m->out);
	if (v->within_ns < UINT64_MAX - now_ns)
		c->late_ns = cx_min(c->late_ns, now_ns + v->within_ns);
	return true;
}

static bool hear_propose(struct cx_council *c, int rank, const struct cx_council_proposal *p)
{
	struct cx_council_accept a = { p->ballot, p->motion.number };

	if (rank > c->rank || !is_motion(c, &p->motion) || p->ballot != (uint64_t)rank + 1)
		return false;
	if (rank != c->chair || !c->seated || p->motion.number <= c->decided)
		return true;
	if (p->motion.number != c->decided + 1)
		return false;
	c->accepted = *p;
	tell(c, rank, CX_FRAME_ACCEPT, &a, sizeof(a));
	return true;
}

static bool hear_accept(struct cx_council *c, int rank, const struct cx_council_accept *a)
{
	if (rank < c->rank || a->ballot != (uint64_t)c->rank + 1 || a->number > c->decided + 1 ||
	    (a->number == c->decided + 1 && !c->proposing))
		return false;
	if (a->number == c->decided + 1 && c->seat[rank].sits)
		c->seat[rank].accepted = true;
	return true;
}

static bool hear_decided(struct cx_council *c, int rank, const struct cx_motion *m)
{
	if (!is_motion(c, m))
		return false;
	if (m->number > c->decided)
		decide(c, m, rank);
	return true;
}

/* A chair that has no quorum is one that few can reach: the next one may do better. */
static bool hear_resign(struct cx_council *c, int rank, const struct cx_council_resign *r)
{
	bool alone = true;

	if (rank > c->rank || (r->code != COLLX_ERR_NO_QUORUM && r->code != COLLX_ERR_EXCLUDED))
		return false;
	if (rank != c->chair)
		return true;
	for (int i = 0; i < c->ranks; i++)
		alone &= !c->seat[i].sits;
	if (r->code == COLLX_ERR_NO_QUORUM && c->resigned++ && alone)
		c->code = COLLX_ERR_NO_QUORUM;
	else
		cx_set_add(&c->silent, rank);
	return true;
}

static bool hear_abort(struct cx_council *c, int rank, const struct cx_council_abort *a)
{
	if (a->rank < 0 || a->rank >= c->ranks || a->rank == c->rank)
		return false;
	/* Whomever it heard: those who went on without it were not asked. */
	if (cx_set_has(&c->gone, rank))
		return true;
	/* Who believed one that is out, not knowing that yet, takes part no more itself. */
	be_aborted(c, cx_set_has(&c->gone, (int)a->rank) ? rank : (int)a->rank, rank);
	return true;
}

static bool hear_lost(struct cx_council *c, int rank, const struct cx_set *dead)
{
	if (!is_within(dead, c->ranks) || cx_set_has(dead, rank))
		return false;
	if (!c->seat[rank].sits && (rank != c->chair || !c->seated))
		return true;
	if (learn_deaths(c, dead))
		tell_deaths(c, rank);
	return true;
}

static bool hear(struct cx_council *c, int rank, enum cx_frame_kind kind, const void *body,
		 size_t len, uint64_t now_ns)
{
	union {
		struct cx_council_join join;
		struct cx_council_vote vote;
		struct cx_council_proposal proposal;
		struct cx_council_accept accept;
		struct cx_council_resign resign;
		struct cx_council_abort abort;
		struct cx_motion motion;
		struct cx_set dead;
	} b;

	if (len > sizeof(b))
		return false;
	memcpy(&b, body, len);
	switch (kind) {
	case CX_FRAME_JOIN:
		return len == sizeof(b.join) && hear_join(c, rank, &b.join);
	case CX_FRAME_ACCEPTED:
		return len == sizeof(b.proposal) && hear_accepted(c, rank, &b.proposal);
	case CX_FRAME_VOTE:
		return len == sizeof(b.vote) && hear_vote(c, rank, &b.vote, now_ns);
	case CX_FRAME_PROPOSE:
		return len == sizeof(b.proposal) && hear_propose(c, rank, &b.proposal);
	case CX_FRAME_ACCEPT:
		return len == sizeof(b.accept) && hear_accept(c, rank, &b.accept);
	case CX_FRAME_DECIDED:
		return len == sizeof(b.motion) && hear_decided(c, rank, &b.motion);
	case CX_FRAME_RESIGN:
		return len == sizeof(b.resign) && hear_resign(c, rank, &b.resign);
	case CX_FRAME_ABORT:
		return len == sizeof(b.abort) && hear_abort(c, rank, &b.abort);
	case CX_FRAME_LOST:
		return len == sizeof(b.dead) && hear_lost(c, rank, &b.dead);
	default:
		return false;
	}
}

bool cx_council_hear(struct cx_council *c, int rank, enum cx_frame_kind kind, const void *body,
		     size_t len, uint64_t now_ns)
{
	bool sound;

	if (rank < 0 || rank >= c->ranks || rank == c->rank)
		return false;
	if ((cx_set_has(&c->dead, rank) && kind != CX_FRAME_DECIDED && kind != CX_FRAME_ABORT) ||
	    (c->code && kind != CX_FRAME_JOIN))
		return true;
	cx_council_begin(c, now_ns);
	sound = hear(c, rank, kind, body, len, now_ns);
	settle(c, now_ns);
	return sound;
}

/* ---- events ---- */

void cx_council_begin(struct cx_council *c, uint64_t now_ns)
{
	if (c->chair >= 0)
		return;
	turn(c, now_ns);
	settle(c, now_ns);
}

void cx_council_dead(struct cx_council *c, int rank, uint64_t now_ns)
{
	if (rank == c->rank || cx_set_has(&c->dead, rank))
		return;
	mark_dead(c, rank);
	if (!c->code)
		tell_deaths(c, rank);
	settle(c, now_ns);
}

void cx_council_silent(struct cx_council *c, int rank, uint64_t now_ns)
{
	if (rank == c->rank)
		return;
	cx_set_add(&c->silent, rank);
	settle(c, now_ns);
}

void cx_council_doubt(struct cx_council *c, int rank, uint64_t grace_ns, uint64_t now_ns)
{
	if (rank == c->rank || c->seat[rank].sits)
		return;
	c->seat[rank].grace_ns = grace_ns;
	c->seat[rank].doubted_ns = now_ns;
	settle(c, now_ns);
}

void cx_council_forgive(struct cx_council *c, uint64_t now_ns)
{
	c->since_ns = now_ns;
	if (c->late_ns != UINT64_MAX)
		c->late_ns = cx_max(c->late_ns, now_ns + c->patience_ns / 2);
}

static void send_vote(struct cx_council *c, uint64_t now_ns)
{
	struct cx_council_vote v = { .motion = c->vote };

	v.within_ns = c->vote_by_ns > now_ns ? c->vote_by_ns - now_ns : 0;
	tell(c, c->chair, CX_FRAME_VOTE, &v, sizeof(v));
}

int cx_council_losses(const struct cx_council *c)
{
	struct cx_set lost = c->dead;

	unite(&lost, &c->silent);
	unite(&lost, &c->gone);
	return cx_set_count(&lost);
}

void cx_council_bar(struct cx_council *c, int code)
{
	if (!c->code)
		c->code = code;
}

bool cx_council_abort(struct cx_council *c, int rank, uint64_t now_ns)
{
	bool counts = be_aborted(c, rank, -1);

	settle(c, now_ns);
	return counts;
}

void cx_council_seated(struct cx_council *c, uint64_t now_ns)
{
	struct cx_council_join j = { .decided = c->decided, .dead = c->dead };

	if (cx_council_is_over(c) || c->chair < 0 || c->chair == c->rank || c->seated)
		return;
	c->seated = true;
	if (c->decided)
		tell(c, c->chair, CX_FRAME_DECIDED, &c->last, sizeof(c->last));
	if (c->code) {
		tell_abort(c, c->chair);
		settle(c, now_ns);
		return;
	}
	if (c->accepted.ballot)
		tell(c, c->chair, CX_FRAME_ACCEPTED, &c->accepted, sizeof(c->accepted));
	if (c->voted)
		send_vote(c, now_ns);
	tell(c, c->chair, CX_FRAME_JOIN, &j, sizeof(j));
	settle(c, now_ns);
}

void cx_council_parted(struct cx_council *c, int rank, uint64_t now_ns)
{
	c->seat[rank] = (struct cx_councillor){ .left_ns = now_ns };
	if (rank == c->chair && c->seated) {
		c->seated = false;
		c->since_ns = now_ns;
	}
	settle(c, now_ns);
}

/* It was decided without this rank's vote: it was late, or it is out, and `code` says so. */
static void come_too_late(struct cx_council *c, const struct cx_motion *vote)
{
	if (vote->number == c->decided) {
		c->answer = c->last;
		return;
	}
	c->answer = (struct cx_motion){ .kind = CX_MOTION_LATE, .number = vote->number };
	cx_set_add(&c->answer.out, c->rank);
}

void cx_council_vote(struct cx_council *c, const struct cx_motion *vote, uint64_t by_ns,
		     uint64_t now_ns)
{
	if (vote->number <= c->decided && vote->number > c->answer.number)
		come_too_late(c, vote);
	if (c->code || c->voted || vote->number != c->decided + 1)
		return;
	cx_council_begin(c, now_ns);
	c->voted = true;
	c->vote = *vote;
	c->vote_by_ns = by_ns;
	c->late_ns = cx_min(c->late_ns, by_ns);
	unite(&c->exclude, &vote->out);
	if (c->seated)
		send_vote(c, now_ns);
	settle(c, now_ns);
}

void cx_council_tick(struct cx_council *c, uint64_t now_ns)
{
	settle(c, now_ns);
}

/* ---- life ---- */

int cx_council_init(struct cx_council *c, int rank, int ranks, uint64_t patience_ns)
{
	*c = (struct cx_council){ .rank = rank, .ranks = ranks, .patience_ns = patience_ns,
				  .chair = -1, .aborter = -1, .late_ns = UINT64_MAX,
				  .due_ns = UINT64_MAX };
	c->seat = cx_alloc((size_t)ranks, sizeof(*c->seat));
	return c->seat ? 0 : COLLX_ERR_NOMEM;
}

void cx_council_fini(struct cx_council *c)
{
	cx_free(c->seat);
	c->seat = NULL;
}
