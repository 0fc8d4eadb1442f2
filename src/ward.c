/* SPDX-License-Identifier: BSD-3-Clause */
/* One communicator under guard, step by step; see ward.h. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "ward.h"

enum { FRAMES = 256 /* of a wire in one step */ };

static const uint64_t answer_ns = 2000000000, late_ms = 800;

static uint64_t left(const struct cx_ward *w, int rank)
{
	return atomic_load_explicit(&w->left[rank], memory_order_acquire);
}

void cx_ward_lower_last(struct cx_ward *w, uint64_t seq)
{
	uint64_t last = atomic_load_explicit(&w->calls->last, memory_order_relaxed);

	/* Pairs with the acquire in cx_calls_last. */
	while (last > seq && !atomic_compare_exchange_weak_explicit(&w->calls->last, &last, seq,
								    memory_order_release,
								    memory_order_relaxed))
		;
}

static void ring(const struct cx_ward *w)
{
	for (int i = 0; i < CX_BELLS; i++) {
		int bell = atomic_load(&w->bell[i]);

		if (bell >= 0)
			cx_sys->ring(bell);
	}
}

void cx_ward_adopt(struct cx_ward *w, const struct cx_cause *cause)
{
	int none = 0;

	if (!atomic_compare_exchange_strong(&w->verdict, &none, 1))
		return;
	w->cause = *cause;
	cx_line_clean(w->cause.text);
	w->cause.known_ns = cx_now_ns();
	cx_ward_lower_last(w, 0); /* before: who knows the verdict finds that no call may begin */
	/* Pairs with the acquire in verdict() and cx_guard_verdict: the cause is there; and
	 * in total order with the bell, which whoever asks for it rings if this came first. */
	atomic_store(&w->verdict, cause->code);
	ring(w);
}

/* ---- sending ---- */

static void broke(struct cx_ward *w, struct cx_strand *s, int code, const char *why,
		  uint64_t now_ns);

/* May it be left out when the other end is slow? */
static bool is_light(enum cx_frame_kind kind)
{
	return kind == CX_FRAME_SIGNS || kind == CX_FRAME_STATUS || kind == CX_FRAME_ASK;
}

void cx_ward_tell(struct cx_ward *w, struct cx_strand *s, enum cx_frame_kind kind, int arg,
		  const void *body, size_t len, uint64_t now_ns)
{
	if (is_light(kind) && cx_strand_room(s) < s->room / 2)
		return;
	if (!cx_strand_say(s, kind, arg, body, len, now_ns))
		broke(w, s, COLLX_ERR_PEER_SILENT, "does not read its control connection", now_ns);
}

static void tell_below(struct cx_ward *w, const struct cx_strand *but, enum cx_frame_kind kind,
		       int arg, const void *body, size_t len, uint64_t now_ns)
{
	for (int i = 0; i < w->nstrands; i++)
		if (cx_ward_is_below(w, &w->strands[i]) && &w->strands[i] != but)
			cx_ward_tell(w, &w->strands[i], kind, arg, body, len, now_ns);
}

/* ---- causes and verdicts ---- */

static void tell_verdict(struct cx_ward *w, const struct cx_cause *c, uint64_t now_ns)
{
	struct cx_verdict_body b;

	if (w->told)
		return;
	w->told = true;
	if (cx_set_count(&c->who) > 1)
		tell_below(w, NULL, CX_FRAME_BLAMED, 0, &c->who, sizeof(c->who), now_ns);
	tell_below(w, NULL, CX_FRAME_VERDICT, c->code, &b, cx_ward_pack_verdict(&b, c, now_ns),
		   now_ns);
}

bool cx_ward_mark(struct cx_ward *w, int rank, collx_rank_state fate, uint64_t now_ns)
{
	int was = atomic_load_explicit(&w->news[rank].fate, memory_order_relaxed);

	if (was == COLLX_RANK_DEAD || was == COLLX_RANK_LEFT || rank == w->tree.rank)
		return false;
	atomic_store_explicit(&w->news[rank].fate, fate, memory_order_relaxed);
	if (fate != COLLX_RANK_LEFT)
		cx_verdict_lost(&w->decider, rank,
				fate == COLLX_RANK_DEAD ? CX_LOSS_DEATH : CX_LOSS_SILENCE);
	if (w->rally && fate == COLLX_RANK_SILENT)
		cx_council_silent(&w->rally->council, rank, now_ns);
	else if (w->rally && fate == COLLX_RANK_DEAD)
		cx_rally_left(w->rally, rank, 0, now_ns); /* behind its last words */
	return true;
}

static bool blames(const struct cx_cause *c, int rank)
{
	return rank == c->about || (rank < CX_COUNCIL_RANKS && cx_set_has(&c->who, rank));
}

/* Who hangs on a silent rank may be cut off with it. If not, its own clock says so within two
 * heartbeats: it may have heard one more, and waits for others for another one. They are those of
 * its host, a third of the silence each at most. */
static void doubt_behind(struct cx_ward *w, int rank, uint64_t now_ns)
{
	const struct cx_rally *r = w->rally;

	for (int i = 0; r && r->silence_ns != UINT64_MAX && i < w->tree.ranks; i++)
		if (i != rank && w->tree.leader[i] == rank)
			cx_council_doubt(&w->rally->council, i,
					 r->silence_ns - r->silence_ns / 12, now_ns);
}

/* The others gave this rank up. */
static void be_excluded(struct cx_ward *w, struct cx_cause *c)
{
	char why[CX_FAULT_TEXT_MAX];

	if (c->code != COLLX_ERR_PEER_SILENT || !blames(c, w->tree.rank))
		return;
	c->about = w->tree.rank;
	c->who = (struct cx_set){ { 0 } };
	if (c->about < CX_COUNCIL_RANKS)
		cx_set_add(&c->who, c->about);
	if (w->rally)
		cx_council_bar(&w->rally->council, COLLX_ERR_EXCLUDED);
	memcpy(why, c->text, sizeof(why));
	c->code = COLLX_ERR_EXCLUDED;
	snprintf(c->text, sizeof(c->text), "the other ranks go on without this one: %.380s", why);
}

static void convene(struct cx_ward *w, uint64_t now_ns)
{
	if (w->convened || !w->rally)
		return;
	w->convened = true;
	if (cx_ward_up(w))
		cx_ward_tell(w, cx_ward_up(w), CX_FRAME_CONVENE, 0, NULL, 0, now_ns);
	tell_below(w, NULL, CX_FRAME_CONVENE, 0, NULL, 0, now_ns);
	cx_rally_convene(w->rally, now_ns);
}

static struct cx_report report_of_abort(int by, uint64_t now_ns)
{
	const struct cx_cause c = cx_cause_of_wish(COLLX_ERR_ABORTED, by, now_ns);
	struct cx_report r = { .origin = by, .about = by, .code = c.code,
			       .fault_ns = c.fault_ns };

	memcpy(r.text, c.text, sizeof(r.text));
	return r;
}

/* Somebody wants no more of this, whatever the verdict is: all are told, once. False where it
 * counts for nothing. */
static bool pass_abort(struct cx_ward *w, const struct cx_strand *from, int by, uint64_t now_ns)
{
	const struct cx_report r = report_of_abort(by, now_ns);

	if (w->aborted)
		return true;
	if (w->rally && !cx_council_abort(&w->rally->council, by, now_ns))
		return false;
	w->aborted = true;
	if (cx_ward_up(w) && !cx_ward_code(w))
		cx_ward_expect_verdict(w, now_ns);
	if (cx_ward_up(w) && cx_ward_up(w) != from)
		cx_ward_tell(w, cx_ward_up(w), CX_FRAME_ABORT, by, NULL, 0, now_ns);
	tell_below(w, from, CX_FRAME_ABORT, by, NULL, 0, now_ns);
	if (!cx_ward_up(w) && !cx_ward_code(w))
		cx_verdict_report(&w->decider, &r, now_ns);
	return true;
}

/* The verdict is known. It goes down first: once the caller knows it, the process
 * may end any moment, which must not look like the cause. */
static void conclude(struct cx_ward *w, const struct cx_cause *verdict_of, uint64_t now_ns)
{
	struct cx_cause c = *verdict_of;

	if (cx_ward_code(w))
		return;
	tell_verdict(w, &c, now_ns);
	cx_ward_part(w, now_ns);
	for (int i = 0; i < w->nstrands; i++)
		cx_strand_flush(&w->strands[i]);
	for (int r = 0; r < w->tree.ranks; r++) {
		if (blames(&c, r) && c.code == COLLX_ERR_PEER_DEAD)
			cx_ward_mark(w, r, COLLX_RANK_DEAD, now_ns);
		if (blames(&c, r) && c.code == COLLX_ERR_PEER_SILENT) {
			cx_ward_mark(w, r, COLLX_RANK_SILENT, now_ns);
			doubt_behind(w, r, now_ns);
		}
	}
	if (c.code == COLLX_ERR_ABORTED)
		pass_abort(w, NULL, c.origin < 0 ? w->tree.rank : c.origin, now_ns);
	be_excluded(w, &c);
	cx_ward_adopt(w, &c);
	convene(w, now_ns);
}

static void conclude_report(struct cx_ward *w, const struct cx_report *r, uint64_t now_ns)
{
	struct cx_cause c = cx_cause_of_report(r);

	cx_ward_leave_out(w, &c);
	conclude(w, &c, now_ns);
}

void cx_ward_settle(struct cx_ward *w, const struct cx_report *r)
{
	const struct cx_cause c = cx_cause_of_report(r);

	cx_ward_adopt(w, &c);
}

static void pass_up(struct cx_ward *w, const struct cx_report *r, uint64_t now_ns)
{
	struct cx_report_body b;

	/* The first cause counts, so one of each kind will do. */
	if (w->passed_cause || (r->hearsay && w->passed_hearsay))
		return;
	*(r->hearsay ? &w->passed_hearsay : &w->passed_cause) = true;
	cx_ward_expect_verdict(w, now_ns);
	cx_ward_tell(w, cx_ward_up(w), CX_FRAME_REPORT, r->origin, &b,
		     cx_ward_pack_report(&b, r, now_ns), now_ns);
}

static void consider(struct cx_ward *w, const struct cx_report *r, uint64_t now_ns)
{
	if (cx_ward_code(w))
		return;
	if (cx_ward_up(w))
		pass_up(w, r, now_ns);
	else
		cx_verdict_report(&w->decider, r, now_ns);
}

struct cx_report cx_ward_sight(const struct cx_ward *w, int code, int about, const char *text,
			       uint64_t now_ns)
{
	struct cx_report r = { .origin = w->tree.rank, .about = about, .code = code,
			       .where = cx_calls_where(w->calls), .fault_ns = (int64_t)now_ns };

	if (!r.where.call && w->voted > atomic_load_explicit(&w->answered, memory_order_relaxed))
		r.where.phase = COLLX_PHASE_DECIDING;
	snprintf(r.text, sizeof(r.text), "%s", text);
	return r;
}

/* The same of creation, which failed somewhere after it had succeeded here. */
static struct cx_report sight_of_creation(const struct cx_ward *w, int code, int about,
					  const char *text, uint64_t now_ns)
{
	struct cx_report r = cx_ward_sight(w, code, about, text, now_ns);

	r.where = (struct cx_where){ .phase = COLLX_PHASE_CREATION };
	return r;
}

void cx_ward_refuse(struct cx_ward *w, int code, const char *text)
{
	/* text may be the thread's error line */
	const struct cx_report r = sight_of_creation(w, code, w->tree.rank, text, cx_now_ns());

	consider(w, &r, cx_now_ns());
	conclude_report(w, &r, cx_now_ns());
	cx_fail(code, "%s", r.text);
}

/* A wait, or a lane that closed, for somebody who has left has that reason. */
static void blame_leaver(const struct cx_ward *w, struct cx_report *m)
{
	bool soft = m->hearsay || m->code == COLLX_ERR_TIMEOUT || m->code == COLLX_ERR_PEER_LEFT;

	for (int r = 0; soft && r < w->tree.ranks; r++) {
		if (!left(w, r) || left(w, r) > m->where.seq)
			continue;
		m->code = COLLX_ERR_PEER_LEFT;
		m->about = r;
		m->hearsay = soft = false;
		cx_verdict_left_line(m->text, r, m->where.seq);
	}
}

/* The caller's report. That a rank left may have been heard since it was posted; and of what an
 * abort ended the caller knows less, as others may have left over it. */
static struct cx_report mine_by_now(const struct cx_ward *w, uint64_t now_ns)
{
	int by = atomic_load_explicit(&w->aborter, memory_order_relaxed);
	struct cx_report r = w->mine;

	if (by)
		return report_of_abort(by - 1, now_ns);
	blame_leaver(w, &r);
	return r;
}

static void consider_mine(struct cx_ward *w, uint64_t now_ns)
{
	const struct cx_report r = mine_by_now(w, now_ns);

	consider(w, &r, now_ns);
}

/* Who was to tell of deaths that all know has left, and its process ended meanwhile. */
static void settle_deaths(struct cx_ward *w, uint64_t now_ns)
{
	const struct cx_verdict *v = &w->decider;
	struct cx_report r = { .origin = w->tree.rank, .code = COLLX_ERR_PEER_DEAD,
			       .fault_ns = (int64_t)now_ns };

	if (cx_ward_code(w) || !cx_set_count(&v->dead))
		return;
	while (!cx_set_has(&v->dead, r.about))
		r.about++;
	cx_verdict_death_line(r.text, r.about);
	cx_verdict_report(&w->decider, &r, now_ns);
}

/* The rank above is gone. Who left had no part in what is still under way, but for
 * passing on what others say: those below go on without it, and decide for themselves. */
static void lost_above(struct cx_ward *w, const struct cx_report *r, uint64_t now_ns)
{
	if (!left(w, w->tree.above) && r->code == COLLX_ERR_PEER_DEAD && !cx_ward_code(w)) {
		cx_verdict_report(&w->decider, r, now_ns); /* who died with it? */
		return;
	}
	if (!left(w, w->tree.above)) {
		conclude_report(w, r, now_ns);
		return;
	}
	atomic_store_explicit(&w->blind, true, memory_order_relaxed);
	settle_deaths(w, now_ns);
	if (w->reported)
		consider_mine(w, now_ns);
}

static void lost(struct cx_ward *w, const struct cx_report *r, uint64_t now_ns)
{
	if (r->about == w->tree.above)
		lost_above(w, r, now_ns);
	else if (!left(w, r->about))
		consider(w, r, now_ns);
}

static void broke(struct cx_ward *w, struct cx_strand *s, int code, const char *why,
		  uint64_t now_ns)
{
	struct cx_report r = cx_ward_sight(w, code, s->rank, "", now_ns);

	cx_strand_cut(s);
	snprintf(r.text, sizeof(r.text), "rank %d %s", s->rank, why);
	lost(w, &r, now_ns);
}

/* A death that was seen at one place, for all: the verdict may be about something else. */
static void tell_death(struct cx_ward *w, const struct cx_strand *from, int rank, uint64_t now_ns)
{
	if (!cx_ward_mark(w, rank, COLLX_RANK_DEAD, now_ns))
		return;
	if (cx_ward_up(w) && cx_ward_up(w) != from)
		cx_ward_tell(w, cx_ward_up(w), CX_FRAME_LOST, rank, NULL, 0, now_ns);
	tell_below(w, from, CX_FRAME_LOST, rank, NULL, 0, now_ns);
}

static bool hear_lost(struct cx_ward *w, const struct cx_strand *s, uint64_t now_ns)
{
	int rank = s->wire.head.arg;

	if (s->beside || s->wire.head.len || rank < 0 || rank >= w->tree.ranks || rank == s->rank)
		return false;
	tell_death(w, s, rank, now_ns);
	return true;
}

static bool hear_abort(struct cx_ward *w, const struct cx_strand *s, uint64_t now_ns)
{
	int by = s->wire.head.arg;

	if (s->beside || s->wire.head.len || by < 0 || by >= w->tree.ranks)
		return false;
	if (by != w->tree.rank)
		pass_abort(w, s, by, now_ns);
	return true;
}

static void ended(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	struct cx_report r = cx_ward_sight(w, COLLX_ERR_PEER_DEAD, s->rank, "", now_ns);

	cx_strand_cut(s);
	cx_verdict_death_line(r.text, s->rank);
	tell_death(w, s, s->rank, now_ns);
	lost(w, &r, now_ns);
}

/* ---- heartbeats ---- */

void cx_ward_give_up_on(struct cx_ward *w, struct cx_strand *s, const struct cx_report *r,
			uint64_t now_ns)
{
	struct cx_report_body b;

	s->silent = true;
	if (s->rank == w->tree.above && cx_ward_up(w))
		cx_ward_tell(w, cx_ward_up(w), CX_FRAME_REPORT, w->tree.rank, &b,
			     cx_ward_pack_report(&b, r, now_ns), now_ns);
	lost(w, r, now_ns);
}

/* Nothing more is believed from there. Closed, the connection would look like this rank's
 * death at its other end. */
static void talked_nonsense(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	struct cx_report r = cx_ward_sight(w, COLLX_ERR_CORRUPT, s->rank, "", now_ns);

	s->deaf = true;
	snprintf(r.text, sizeof(r.text), "rank %d sent a damaged control frame", s->rank);
	cx_ward_give_up_on(w, s, &r, now_ns);
}

/* ---- accounts ---- */

static void observe(struct cx_ward *w, uint64_t now_ns)
{
	uint64_t state = cx_calls_state(w->calls);

	if (state == w->state)
		return;
	w->state = state;
	w->since_ns = now_ns;
}

/* Two communicators may be called in another order here than elsewhere. A call that has just
 * failed there, for that reason, counts. */
static struct cx_sign look_elsewhere(const struct cx_ward *w, uint64_t now_ns)
{
	const uint64_t just_ns = 200000000;
	struct cx_sign signs[CX_SIGNS];
	uint64_t state;
	unsigned n;

	for (const struct cx_ward *o = w->served ? *w->served : NULL; o; o = o->next) {
		if (o == w || !o->rally || !w->rally || cx_rally_is_same(o->rally, w->rally) ||
		    (cx_ward_code(o) && now_ns - o->cause.known_ns > just_ns))
			continue;
		n = cx_calls_read(o->calls, &state, signs);
		if (n && state % 2)
			return signs[n - 1];
	}
	return (struct cx_sign){ 0 };
}

static struct cx_account give_account(struct cx_ward *w, uint64_t now_ns)
{
	struct cx_account a = { .answers = w->asked };

	a.signs = cx_calls_read(w->calls, &a.state, a.sign);
	if (a.state % 2 == 0)
		a.elsewhere = look_elsewhere(w, now_ns);
	if (a.state == w->state)
		a.still_ms = (now_ns - w->since_ns) / 1000000;
	return a;
}

void cx_ward_account(struct cx_ward *w, enum cx_frame_kind kind, uint64_t now_ns)
{
	struct cx_account a = give_account(w, now_ns);

	if (cx_ward_code(w))
		return;
	if (cx_ward_up(w))
		cx_ward_tell(w, cx_ward_up(w), kind, w->tree.rank, &a, cx_account_len(&a), now_ns);
	else
		cx_verdict_account(&w->decider, w->tree.rank, &a, now_ns);
}

/* ---- hearing ---- */

/* Each returns false where the frame is damaged, or not its sender's to send. */

static bool hear_leave(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	int who = s->wire.head.arg, towards;
	struct cx_leave_body b;

	if (s->wire.head.len != sizeof(b) || who < 0 || who >= w->tree.ranks ||
	    who == w->tree.rank)
		return false;
	towards = cx_tree_towards(&w->tree, who);
	if (s->beside || (cx_ward_is_up(w, s) ? towards >= 0 : towards != s->rank))
		return false;
	memcpy(&b, s->wire.body, sizeof(b));
	if (left(w, who) || b.seq == UINT64_MAX)
		return b.seq != UINT64_MAX;
	atomic_store_explicit(&w->left[who], b.seq + 1, memory_order_release);
	cx_ward_lower_last(w, b.seq);
	cx_ward_mark(w, who, COLLX_RANK_LEFT, now_ns);
	if (w->tree.leader[who] == who)
		cx_ward_open_ring(w, now_ns);
	if (w->rally)
		cx_rally_left(w->rally, who, b.decided, now_ns);
	if (!cx_ward_up(w))
		cx_verdict_left(&w->decider, who, b.seq, now_ns);
	else if (!cx_ward_is_up(w, s))
		cx_ward_tell(w, cx_ward_up(w), CX_FRAME_LEAVE, who, &b, sizeof(b), now_ns);
	tell_below(w, s, CX_FRAME_LEAVE, who, &b, sizeof(b), now_ns);
	return true;
}

static bool hear_report(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	struct cx_report r;

	if (!cx_ward_is_below(w, s) ||
	    !cx_ward_unpack_report(&s->wire, w->tree.ranks, &r, now_ns) ||
	    cx_tree_towards(&w->tree, r.origin) != s->rank)
		return false;
	/* Of a pair one is enough. */
	if (r.code == COLLX_ERR_PEER_SILENT && r.about != r.origin && cx_ward_lost(w, r.origin))
		return true;
	consider(w, &r, now_ns);
	return true;
}

/* Once for each operation, as they only become later ones. */
void cx_ward_note_straggler(struct cx_ward *w, const struct cx_late *late, uint64_t now_ns)
{
	struct cx_ward_straggler *s = &w->straggler;
	uint64_t number = atomic_load_explicit(&s->number, memory_order_relaxed);

	/* Each release pairs with the acquire in cx_guard_straggler. */
	atomic_store_explicit(&s->number, number + 1, memory_order_relaxed);
	atomic_store_explicit(&s->rank, late->rank, memory_order_release);
	atomic_store_explicit(&s->seq, late->sign.seq, memory_order_release);
	atomic_store_explicit(&s->count, late->sign.count, memory_order_release);
	atomic_store_explicit(&s->what, late->sign.what, memory_order_release);
	atomic_store_explicit(&s->since_ns, now_ns - (uint64_t)late->waited_ms * 1000000,
			      memory_order_release);
	/* And in total order with the bell, as in cx_ward_adopt. */
	atomic_store(&s->number, number + 2);
	ring(w);
}

/* Who is waited for now: for the caller to see, and for those below. */
static void note_late(struct cx_ward *w, const struct cx_strand *from, const struct cx_late *late,
		      bool too_late, uint64_t now_ns)
{
	bool same = w->late.rank == late->rank && w->late.sign.seq == late->sign.seq;

	too_late &= late->rank >= 0 &&
		    late->sign.seq > atomic_load_explicit(&w->straggler.seq, memory_order_relaxed);
	if (same && !too_late)
		return;
	if (w->late.rank >= 0)
		atomic_store_explicit(&w->news[w->late.rank].awaited_ns, 0, memory_order_relaxed);
	if (late->rank >= 0)
		atomic_store_explicit(&w->news[late->rank].awaited_ns,
				      now_ns - (uint64_t)late->waited_ms * 1000000,
				      memory_order_relaxed);
	w->late = *late;
	if (too_late)
		cx_ward_note_straggler(w, late, now_ns);
	tell_below(w, from, CX_FRAME_LATE, too_late, late, sizeof(*late), now_ns);
}

static bool hear_late(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	struct cx_late late;

	if (!cx_ward_is_up(w, s) || s->wire.head.len != sizeof(late) || s->wire.head.arg < 0 ||
	    s->wire.head.arg > 1)
		return false;
	memcpy(&late, s->wire.body, sizeof(late));
	if (late.rank < -1 || late.rank >= w->tree.ranks ||
	    !cx_sign_is_sound(&late.sign, w->tree.ranks))
		return false;
	note_late(w, s, &late, s->wire.head.arg, now_ns);
	return true;
}

static void look_for_late(struct cx_ward *w, uint64_t now_ns)
{
	uint64_t limit_ns = w->rally && w->rally->straggler_ns ? w->rally->straggler_ns
							       : UINT64_MAX;
	struct cx_late late;

	if (!w->rally || cx_ward_up(w) || cx_ward_code(w))
		return;
	late = cx_verdict_late(&w->decider, cx_min(late_ms, limit_ns / 1000000));
	note_late(w, NULL, &late, (uint64_t)late.waited_ms * 1000000 >= limit_ns, now_ns);
}

static bool hear_signs(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	enum cx_frame_kind kind = (enum cx_frame_kind)s->wire.head.kind;
	int origin = s->wire.head.arg;
	size_t len = s->wire.head.len;
	struct cx_account a = { 0 };

	if (!cx_ward_is_below(w, s) || cx_tree_towards(&w->tree, origin) != s->rank ||
	    len > sizeof(a))
		return false;
	memcpy(&a, s->wire.body, len);
	if (!cx_account_is_sound(&a, len, w->tree.ranks))
		return false;
	atomic_store_explicit(&w->news[origin].state, a.state, memory_order_relaxed);
	if (cx_ward_code(w))
		return true;
	if (cx_ward_up(w)) {
		if (kind == CX_FRAME_SIGNS || !cx_ward_up(w)->quiet)
			cx_ward_tell(w, cx_ward_up(w), kind, origin, &a, len, now_ns);
		return true;
	}
	cx_ward_account(w, CX_FRAME_SIGNS, now_ns);
	cx_verdict_account(&w->decider, origin, &a, now_ns);
	look_for_late(w, now_ns);
	if (kind == CX_FRAME_SIGNS)
		cx_verdict_ask(&w->decider, now_ns);
	return true;
}

static bool copy_line(const struct cx_strand *s, char text[CX_FAULT_TEXT_MAX])
{
	size_t len = s->wire.head.len;

	if (s->wire.head.arg >= 0 || s->wire.head.arg < COLLX_ERR_INTERNAL ||
	    len >= CX_FAULT_TEXT_MAX)
		return false;
	memcpy(text, s->wire.body, len);
	text[len] = '\0';
	return true;
}

static bool hear_verdict(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	struct cx_cause c;

	if (!cx_ward_is_up(w, s) ||
	    !cx_ward_unpack_verdict(&s->wire, w->tree.ranks, &w->blamed, &c, now_ns))
		return false;
	conclude(w, &c, now_ns);
	return true;
}

static bool hear_blamed(struct cx_ward *w, const struct cx_strand *s)
{
	if (!cx_ward_is_up(w, s) || s->wire.head.len != sizeof(w->blamed))
		return false;
	memcpy(&w->blamed, s->wire.body, sizeof(w->blamed));
	return true; /* the verdict's check is of both */
}

/* Creation failed there, after it had succeeded here. */
static bool hear_fault(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	char text[CX_FAULT_TEXT_MAX];
	struct cx_report r;

	if (s->beside || !copy_line(s, text))
		return false;
	r = sight_of_creation(w, s->wire.head.arg, -1, text, now_ns);
	if (cx_ward_is_up(w, s))
		conclude_report(w, &r, now_ns);
	else
		consider(w, &r, now_ns);
	return true;
}

static bool hear_ask(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	if (!cx_ward_is_up(w, s) || s->wire.head.len || s->wire.head.arg <= 0)
		return false;
	w->asked = (uint32_t)s->wire.head.arg;
	tell_below(w, NULL, CX_FRAME_ASK, s->wire.head.arg, NULL, 0, now_ns);
	cx_ward_account(w, CX_FRAME_SIGNS, now_ns);
	return true;
}

static bool hear_frame(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	switch (s->wire.head.kind) {
	case CX_FRAME_LEAVE: return hear_leave(w, s, now_ns);
	case CX_FRAME_REPORT: return hear_report(w, s, now_ns);
	case CX_FRAME_STATUS:
	case CX_FRAME_SIGNS: return hear_signs(w, s, now_ns);
	case CX_FRAME_VERDICT: return hear_verdict(w, s, now_ns);
	case CX_FRAME_BLAMED: return hear_blamed(w, s);
	case CX_FRAME_ASK: return hear_ask(w, s, now_ns);
	case CX_FRAME_FAULT: return hear_fault(w, s, now_ns);
	case CX_FRAME_LATE: return hear_late(w, s, now_ns);
	case CX_FRAME_BEAT: return true;
	case CX_FRAME_LOST: return hear_lost(w, s, now_ns);
	case CX_FRAME_ABORT: return hear_abort(w, s, now_ns);
	case CX_FRAME_SILENT: return cx_ward_hear_silent(w, s, now_ns);
	case CX_FRAME_PART: return cx_ward_hear_part(w, s, now_ns);
	case CX_FRAME_CONVENE: convene(w, now_ns); return !s->beside;
	case CX_FRAME_OVERDUE: return cx_ward_is_below(w, s); /* of creation, which came about */
	default: return false;
	}
}

static void hear(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	if ((s->deaf || s->ends) && cx_wire_drop(&s->wire)) {
		cx_strand_cut(s);
		if (!s->ends)
			cx_ward_mark(w, s->rank, COLLX_RANK_SILENT, now_ns);
	}
	for (int i = 0; i < FRAMES && s->wire.fd >= 0 && !s->deaf && !s->ends; i++) {
		int rc = cx_wire_receive(&s->wire);

		if (rc == 0)
			return;
		s->heard_ns = now_ns;
		s->silent = false;
		if (cx_ward_is_up(w, s))
			cx_ward_above_spoke(w, now_ns);
		atomic_store_explicit(&w->news[s->rank].heard_ns, now_ns, memory_order_relaxed);
		if (rc == COLLX_ERR_PEER_DEAD) {
			ended(w, s, now_ns);
			return;
		}
		if (rc < 0 && rc != COLLX_ERR_CORRUPT) {
			broke(w, s, COLLX_ERR_LINK, "lost its control connection", now_ns);
			return;
		}
		if (rc < 0 || !hear_frame(w, s, now_ns)) {
			talked_nonsense(w, s, now_ns);
			return;
		}
		cx_wire_next(&s->wire);
	}
}

/* ---- the caller's wishes ---- */

void cx_ward_post(struct cx_ward *w, const struct cx_report *r)
{
	struct cx_report *m = &w->mine;

	if (atomic_load_explicit(&w->posted, memory_order_relaxed))
		return;
	*m = *r;
	m->origin = w->tree.rank;
	m->sys_errno = cx_max(cx_error_errno(), 0);
	blame_leaver(w, m);
	/* Pairs with the acquire in listen_to_caller: mine is written. */
	atomic_store_explicit(&w->posted, true, memory_order_release);
}

/* No verdict came: the report must do. A lane that closed is no proof of a death. */
static void give_up(struct cx_ward *w, uint64_t now_ns)
{
	struct cx_report r = mine_by_now(w, now_ns);

	if (r.hearsay && r.code == COLLX_ERR_PEER_DEAD) {
		r.code = COLLX_ERR_LINK;
		snprintf(r.text, sizeof(r.text),
			 "rank %d lost a connection, and rank 0 did not say why: %.300s",
			 w->tree.rank, w->mine.text);
	}
	conclude_report(w, &r, now_ns);
}

/* The caller wants it to end: here at once, for the others when they hear of it. */
static void grant(struct cx_ward *w, int code, uint64_t now_ns)
{
	struct cx_cause c;
	struct cx_report r;
	bool passed = code == COLLX_ERR_ABORTED && pass_abort(w, NULL, w->tree.rank, now_ns);

	if (!code || w->granted)
		return;
	w->granted = true;
	c = cx_cause_of_wish(code, w->tree.rank, now_ns);
	r = (struct cx_report){ .origin = w->tree.rank, .about = w->tree.rank, .code = code,
				.fault_ns = c.fault_ns };
	memcpy(r.text, c.text, sizeof(r.text));
	if (cx_ward_up(w) && !passed)
		pass_up(w, &r, now_ns);
	tell_verdict(w, &c, now_ns);
	cx_ward_part(w, now_ns);
	for (int i = 0; i < w->nstrands; i++)
		cx_strand_flush(&w->strands[i]);
	cx_ward_adopt(w, &c);
	convene(w, now_ns);
}

static void decide(struct cx_ward *w, uint64_t now_ns);

/* Its votes go to the council, whose decisions come back. */
static void hold_council(struct cx_ward *w, uint64_t now_ns)
{
	struct cx_council *c = w->rally ? &w->rally->council : NULL;
	uint64_t votes = atomic_load_explicit(&w->votes, memory_order_acquire);

	if (!c)
		return;
	if (votes != w->votes_taken) {
		w->votes_taken = votes;
		w->voted = w->vote.number;
		convene(w, now_ns);
		cx_council_vote(c, &w->vote, w->vote_by_ns, now_ns);
	}
	if (c->aborter >= 0 && !w->aborted) {
		pass_abort(w, NULL, c->aborter, now_ns);
		decide(w, now_ns);
	}
	atomic_store_explicit(&w->aborter, c->aborter + 1, memory_order_relaxed);
	/* Ahead of a decision that excludes this rank. What was decided before an abort stays. */
	if (c->code != COLLX_ERR_ABORTED)
		atomic_store_explicit(&w->barred, c->code, memory_order_release);
	atomic_store_explicit(&w->decisions, c->decided, memory_order_relaxed);
	if (c->answer.number > atomic_load_explicit(&w->answered, memory_order_relaxed)) {
		w->decision = c->answer; /* until the next vote nobody writes it again */
		/* Pairs with the acquire in cx_guard_decide: the decision is there. */
		atomic_store_explicit(&w->answered, c->answer.number, memory_order_release);
		if (w->reply >= 0)
			cx_sys->ring(w->reply);
	}
	if (w->convened)
		atomic_store_explicit(&w->losses, cx_council_losses(c), memory_order_relaxed);
	atomic_store_explicit(&w->barred, c->code, memory_order_release);
}

static void listen_to_caller(struct cx_ward *w, uint64_t now_ns)
{
	if (atomic_exchange_explicit(&w->nudged, false, memory_order_acquire)) {
		cx_ward_account(w, CX_FRAME_SIGNS, now_ns);
		look_for_late(w, now_ns);
		if (!cx_ward_up(w))
			cx_verdict_ask(&w->decider, now_ns);
	}
	grant(w, atomic_load_explicit(&w->wish, memory_order_relaxed), now_ns);
	if (!w->reported && atomic_load_explicit(&w->posted, memory_order_acquire)) {
		w->reported = true;
		w->give_up_ns = now_ns + answer_ns;
		consider_mine(w, now_ns);
	}
	if (now_ns >= w->give_up_ns)
		give_up(w, now_ns);
	if (cx_ward_code(w))
		w->give_up_ns = UINT64_MAX;
}

static void conclude_decision(struct cx_ward *w, uint64_t now_ns)
{
	const struct cx_verdict *v = &w->decider;
	struct cx_report r = v->first;
	struct cx_cause c;

	r.code = v->code;
	r.about = v->about;
	memcpy(r.text, v->text, sizeof(r.text));
	c = cx_cause_of_report(&r);
	c.who = v->who;
	cx_ward_leave_out(w, &c);
	conclude(w, &c, now_ns);
}

static bool is_connected(const struct cx_ward *w, int rank)
{
	for (int i = 0; i < w->nstrands; i++)
		if (w->strands[i].rank == rank && w->strands[i].wire.fd >= 0)
			return true;
	return false;
}

/* Before the dead are told of: who of this host has ended too, or is about to? Without it
 * those who lost rank 0, and all that it would hear, would name it alone. */
static void look_around(struct cx_ward *w, uint64_t now_ns)
{
	for (int r = 0; w->rally && r < w->tree.ranks; r++) {
		int state = left(w, r) || r == w->tree.rank
				    ? CX_PROCESS_UNKNOWN
				    : cx_rally_process_state(w->rally, r);
		bool gone = state == CX_PROCESS_GONE;

		/* A connection's end says how, and may be behind a leave. */
		if (gone && !is_connected(w, r))
			tell_death(w, NULL, r, now_ns);
		else if (gone || state == CX_PROCESS_ENDS)
			cx_verdict_wait(&w->decider, now_ns);
	}
}

static void decide(struct cx_ward *w, uint64_t now_ns)
{
	struct cx_verdict *v = &w->decider;

	if (v->phase == CX_COUNTING && now_ns >= v->due_ns &&
	    v->first.code == COLLX_ERR_PEER_DEAD && !cx_ward_code(w))
		look_around(w, now_ns);
	cx_verdict_tick(v, now_ns);
	while (v->ranks && !v->code && w->asked != v->question) {
		w->asked = v->question;
		tell_below(w, NULL, CX_FRAME_ASK, (int)v->question, NULL, 0, now_ns);
		cx_ward_account(w, CX_FRAME_SIGNS, now_ns);
	}
	if (v->code)
		conclude_decision(w, now_ns);
	if (cx_ward_code(w)) {
		v->due_ns = UINT64_MAX;
		tell_verdict(w, &w->cause, now_ns);
	}
}

/* ---- a step ---- */

unsigned cx_ward_room(const struct cx_ward *w)
{
	return (unsigned)w->nstrands + (w->rally ? cx_rally_room(w->tree.ranks) : 0);
}

void cx_ward_watch(struct cx_ward *w, struct cx_poll *p)
{
	for (int i = 0; i < w->nstrands; i++) {
		struct cx_strand *s = &w->strands[i];

		s->number = cx_poll_add(p, s->wire.fd,
					cx_strand_waits(s) ? POLLIN | POLLOUT : POLLIN);
	}
	if (w->rally)
		cx_rally_watch(w->rally, p);
}

uint64_t cx_ward_step(struct cx_ward *w, const struct cx_poll *p, uint64_t now_ns)
{
	uint64_t due;

	if (w->rally)
		cx_ward_forgive(w, now_ns);
	observe(w, now_ns);
	for (int i = 0; i < w->nstrands; i++)
		if (cx_strand_has_word(&w->strands[i], !p || cx_poll_came(p, w->strands[i].number)))
			hear(w, &w->strands[i], now_ns);
	listen_to_caller(w, now_ns);
	decide(w, now_ns);
	due = cx_ward_beat(w, now_ns);
	if (w->rally)
		due = cx_min(due, cx_rally_step(w->rally, p, now_ns));
	hold_council(w, now_ns);
	cx_ward_say_farewell(w, now_ns);
	for (int i = 0; i < w->nstrands; i++)
		cx_strand_flush(&w->strands[i]);
	cx_ward_depart(w, now_ns);
	due = cx_min(due, cx_min(w->give_up_ns, w->leave_by_ns));
	if (now_ns < w->alone_ns)
		due = cx_min(due, w->alone_ns);
	if (w->said_farewell && now_ns < w->linger_ns)
		due = cx_min(due, w->linger_ns);
	w->due_ns = cx_min(due, w->decider.due_ns);
	return w->due_ns;
}

bool cx_ward_has_gone(const struct cx_ward *w)
{
	for (int i = 0; i < w->nstrands; i++)
		if (w->strands[i].wire.fd >= 0)
			return false;
	/* A rally has others to talk to than the tree's neighbours. */
	return w->said_farewell && (w->departed || !w->rally);
}
