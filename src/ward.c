/* SPDX-License-Identifier: BSD-3-Clause */
/* One communicator under guard, step by step; see ward.h. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "ward.h"

enum { FRAMES = 256 /* of a wire in one step */ };

static const uint64_t answer_ns = 2000000000, farewell_ns = 2000000000, late_ms = 800;
static const uint64_t alone_ns = 50000000; /* for which a caller waits for its connections' end */

static int verdict(const struct cx_ward *w)
{
	int code = atomic_load_explicit(&w->verdict, memory_order_acquire);

	return code < 0 ? code : 0;
}

static uint64_t left(const struct cx_ward *w, int rank)
{
	return atomic_load_explicit(&w->left[rank], memory_order_acquire);
}

/* Upwards; NULL when there is nobody (any more): this rank decides then. */
static struct cx_strand *up(const struct cx_ward *w)
{
	return w->tree.above >= 0 && w->strands[0].wire.fd >= 0 ? &w->strands[0] : NULL;
}

static bool is_up(const struct cx_ward *w, const struct cx_strand *s)
{
	return w->tree.above >= 0 && s == &w->strands[0];
}

static void lower_last(struct cx_ward *w, uint64_t seq)
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
	w->cause.known_ns = cx_now_ns();
	/* Pairs with the acquire in verdict() and cx_guard_verdict: the cause is there; and
	 * in total order with the bell, which whoever asks for it rings if this came first. */
	atomic_store(&w->verdict, cause->code);
	lower_last(w, 0);
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

static void tell(struct cx_ward *w, struct cx_strand *s, enum cx_frame_kind kind, int arg,
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
		if (!is_up(w, &w->strands[i]) && &w->strands[i] != but)
			tell(w, &w->strands[i], kind, arg, body, len, now_ns);
}

/* ---- causes and verdicts ---- */

static void tell_verdict(struct cx_ward *w, const struct cx_cause *c, uint64_t now_ns)
{
	struct cx_verdict_body b = { .origin = c->origin, .about = c->about,
				  .sys_errno = c->sys_errno, .seq = c->seq };
	size_t len = strnlen(c->text, sizeof(b.text) - 1);

	if (w->told)
		return;
	w->told = true;
	memcpy(b.text, c->text, len);
	tell_below(w, NULL, CX_FRAME_VERDICT, c->code, &b,
		   offsetof(struct cx_verdict_body, text) + len, now_ns);
}

/* That rank's fate, where it is known as a fact or by its silence. Is it news? */
static bool mark(struct cx_ward *w, int rank, collx_rank_state fate, uint64_t now_ns)
{
	int was = atomic_load_explicit(&w->news[rank].fate, memory_order_relaxed);

	if (was == COLLX_RANK_DEAD || was == COLLX_RANK_LEFT || rank == w->tree.rank)
		return false;
	atomic_store_explicit(&w->news[rank].fate, fate, memory_order_relaxed);
	if (w->rally && fate == COLLX_RANK_SILENT)
		cx_council_silent(&w->rally->council, rank, now_ns);
	else if (w->rally && fate == COLLX_RANK_DEAD)
		cx_rally_left(w->rally, rank, 0, now_ns); /* behind its last words */
	return true;
}

/* The others gave this rank up. */
static void be_excluded(struct cx_ward *w, struct cx_cause *c)
{
	char why[CX_FAULT_TEXT_MAX];

	if (c->code != COLLX_ERR_PEER_SILENT || c->about != w->tree.rank)
		return;
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
	if (up(w))
		tell(w, up(w), CX_FRAME_CONVENE, 0, NULL, 0, now_ns);
	tell_below(w, NULL, CX_FRAME_CONVENE, 0, NULL, 0, now_ns);
	cx_rally_convene(w->rally, now_ns);
}

/* The verdict is known. It goes down first: once the caller knows it, the process
 * may end any moment, which must not look like the cause. */
static void conclude(struct cx_ward *w, const struct cx_cause *verdict_of, uint64_t now_ns)
{
	struct cx_cause c = *verdict_of;

	if (verdict(w))
		return;
	tell_verdict(w, &c, now_ns);
	for (int i = 0; i < w->nstrands; i++)
		cx_strand_flush(&w->strands[i]);
	if (c.about >= 0 && c.code == COLLX_ERR_PEER_DEAD)
		mark(w, c.about, COLLX_RANK_DEAD, now_ns);
	if (c.about >= 0 && c.code == COLLX_ERR_PEER_SILENT)
		mark(w, c.about, COLLX_RANK_SILENT, now_ns);
	if (c.code == COLLX_ERR_ABORTED && w->rally)
		cx_council_bar(&w->rally->council, c.code);
	be_excluded(w, &c);
	cx_ward_adopt(w, &c);
	convene(w, now_ns);
}

static void conclude_report(struct cx_ward *w, const struct cx_report *r, uint64_t now_ns)
{
	const struct cx_cause c = cx_cause_of_report(r);

	conclude(w, &c, now_ns);
}

void cx_ward_settle(struct cx_ward *w, const struct cx_report *r)
{
	const struct cx_cause c = cx_cause_of_report(r);

	cx_ward_adopt(w, &c);
}

static void pass_up(struct cx_ward *w, const struct cx_report *r, uint64_t now_ns)
{
	struct cx_report_body b = { .about = r->about, .code = r->code, .hearsay = r->hearsay,
				 .sys_errno = r->sys_errno, .seq = r->seq };
	size_t len = strnlen(r->text, sizeof(b.text) - 1);

	/* The first cause counts, so one of each kind will do. */
	if (w->passed_cause || (r->hearsay && w->passed_hearsay))
		return;
	*(r->hearsay ? &w->passed_hearsay : &w->passed_cause) = true;
	memcpy(b.text, r->text, len);
	tell(w, up(w), CX_FRAME_REPORT, r->origin, &b, offsetof(struct cx_report_body, text) + len,
	     now_ns);
}

static void consider(struct cx_ward *w, const struct cx_report *r, uint64_t now_ns)
{
	if (verdict(w))
		return;
	if (up(w))
		pass_up(w, r, now_ns);
	else
		cx_verdict_report(&w->decider, r, now_ns);
}

static struct cx_report sight(const struct cx_ward *w, int code, int about, const char *text)
{
	struct cx_report r = { .origin = w->tree.rank, .about = about, .code = code };

	snprintf(r.text, sizeof(r.text), "%s", text);
	return r;
}

/* What this guard sees itself. */
static void notice(struct cx_ward *w, int code, int about, const char *text, uint64_t now_ns)
{
	const struct cx_report r = sight(w, code, about, text);

	consider(w, &r, now_ns);
}

void cx_ward_refuse(struct cx_ward *w, int code, const char *text)
{
	/* text may be the thread's error line */
	const struct cx_report r = sight(w, code, w->tree.rank, text);

	consider(w, &r, cx_now_ns());
	conclude_report(w, &r, cx_now_ns());
	cx_fail(code, "%s", r.text);
}

/* A wait, or a lane that closed, for somebody who has left has that reason. */
static void blame_leaver(const struct cx_ward *w, struct cx_report *m)
{
	bool soft = m->hearsay || m->code == COLLX_ERR_TIMEOUT || m->code == COLLX_ERR_PEER_LEFT;

	for (int r = 0; soft && r < w->tree.ranks; r++) {
		if (!left(w, r) || left(w, r) > m->seq)
			continue;
		m->code = COLLX_ERR_PEER_LEFT;
		m->about = r;
		m->hearsay = soft = false;
		cx_verdict_left_line(m->text, r, m->seq);
	}
}

/* The caller's report. That a rank left may have been heard since it was posted. */
static void consider_mine(struct cx_ward *w, uint64_t now_ns)
{
	struct cx_report r = w->mine;

	blame_leaver(w, &r);
	consider(w, &r, now_ns);
}

/* The rank above is gone. Who left had no part in what is still under way, but for
 * passing on what others say: those below go on without it, and decide for themselves. */
static void lost_above(struct cx_ward *w, int code, const char *text, uint64_t now_ns)
{
	const struct cx_report r = sight(w, code, w->tree.above, text);

	if (!left(w, w->tree.above)) {
		conclude_report(w, &r, now_ns);
		return;
	}
	atomic_store_explicit(&w->blind, true, memory_order_relaxed);
	if (w->reported)
		consider_mine(w, now_ns);
}

static void lost(struct cx_ward *w, const struct cx_strand *s, int code, const char *text,
		 uint64_t now_ns)
{
	if (is_up(w, s))
		lost_above(w, code, text, now_ns);
	else if (!left(w, s->rank))
		notice(w, code, s->rank, text, now_ns);
}

static void broke(struct cx_ward *w, struct cx_strand *s, int code, const char *why,
		  uint64_t now_ns)
{
	char text[CX_FAULT_TEXT_MAX];

	cx_strand_cut(s);
	snprintf(text, sizeof(text), "rank %d %s", s->rank, why);
	lost(w, s, code, text, now_ns);
}

/* A death that was seen at one place, for all: the verdict may be about something else. */
static void tell_death(struct cx_ward *w, const struct cx_strand *from, int rank, uint64_t now_ns)
{
	if (!mark(w, rank, COLLX_RANK_DEAD, now_ns) || !w->rally)
		return;
	if (up(w) && up(w) != from)
		tell(w, up(w), CX_FRAME_LOST, rank, NULL, 0, now_ns);
	tell_below(w, from, CX_FRAME_LOST, rank, NULL, 0, now_ns);
}

static bool hear_lost(struct cx_ward *w, const struct cx_strand *s, uint64_t now_ns)
{
	int rank = s->wire.head.arg;

	if (!w->rally || s->wire.head.len || rank < 0 || rank >= w->tree.ranks || rank == s->rank)
		return false;
	tell_death(w, s, rank, now_ns);
	return true;
}

static void ended(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	char text[CX_FAULT_TEXT_MAX];

	cx_strand_cut(s);
	cx_verdict_death_line(text, s->rank);
	tell_death(w, s, s->rank, now_ns);
	lost(w, s, COLLX_ERR_PEER_DEAD, text, now_ns);
}

/* ---- heartbeats ---- */

/* It stays connected, and is to hear what was decided. */
static void give_up_on(struct cx_ward *w, struct cx_strand *s, int code, const char *text,
		       uint64_t now_ns)
{
	struct cx_report_body b = { .about = s->rank, .code = code };
	size_t len = strnlen(text, sizeof(b.text) - 1);

	s->silent = true;
	memcpy(b.text, text, len);
	if (is_up(w, s))
		tell(w, s, CX_FRAME_REPORT, w->tree.rank, &b,
		     offsetof(struct cx_report_body, text) + len, now_ns);
	lost(w, s, code, b.text, now_ns);
}

static void fell_silent(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	char text[CX_FAULT_TEXT_MAX];

	mark(w, s->rank, COLLX_RANK_SILENT, now_ns);
	cx_verdict_silence_line(text, s->rank, w->rally->silence_ns);
	give_up_on(w, s, COLLX_ERR_PEER_SILENT, text, now_ns);
}

/* Nothing more is believed from there. Closed, the connection would look like this rank's
 * death at its other end. */
static void talked_nonsense(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	char text[CX_FAULT_TEXT_MAX];

	s->deaf = true;
	snprintf(text, sizeof(text), "rank %d sent a damaged control frame", s->rank);
	give_up_on(w, s, COLLX_ERR_CORRUPT, text, now_ns);
}

/* Who was stopped itself, had no processor, or has just begun has heard nothing for that reason. */
static void forgive(struct cx_ward *w, uint64_t now_ns)
{
	if (now_ns - w->stepped_ns > w->rally->silence_ns / 2)
		for (int i = 0; i < w->nstrands; i++)
			w->strands[i].heard_ns = now_ns;
}

static void account(struct cx_ward *w, enum cx_frame_kind kind, uint64_t now_ns);

/* When to come again. */
static uint64_t beat(struct cx_ward *w, uint64_t now_ns)
{
	uint64_t due = UINT64_MAX, beat_ns, silence_ns;

	if (!w->rally)
		return due;
	beat_ns = w->rally->beat_ns;
	silence_ns = w->rally->silence_ns;
	if (up(w) && now_ns - w->accounted_ns >= beat_ns) {
		w->accounted_ns = now_ns;
		account(w, CX_FRAME_STATUS, now_ns);
	}
	if (up(w))
		due = w->accounted_ns + beat_ns;
	for (int i = 0; i < w->nstrands; i++) {
		struct cx_strand *s = &w->strands[i];

		if (s->wire.fd < 0 || s->ends)
			continue;
		if (now_ns - s->said_ns >= beat_ns)
			tell(w, s, CX_FRAME_BEAT, 0, NULL, 0, now_ns);
		due = cx_min(due, s->said_ns + beat_ns);
		if (s->silent || silence_ns == UINT64_MAX)
			continue;
		if (now_ns - s->heard_ns >= silence_ns)
			fell_silent(w, s, now_ns);
		else
			due = cx_min(due, s->heard_ns + silence_ns);
	}
	return due;
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

static struct cx_account give_account(struct cx_ward *w, uint64_t now_ns)
{
	struct cx_account a = { .answers = w->asked };

	a.signs = cx_calls_read(w->calls, &a.state, a.sign);
	if (a.state == w->state)
		a.still_ms = (now_ns - w->since_ns) / 1000000;
	return a;
}

/* Gives the decider, or the rank above, this rank's account. */
static void account(struct cx_ward *w, enum cx_frame_kind kind, uint64_t now_ns)
{
	struct cx_account a = give_account(w, now_ns);

	if (verdict(w))
		return;
	if (up(w))
		tell(w, up(w), kind, w->tree.rank, &a, cx_account_len(&a), now_ns);
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
	if (is_up(w, s) ? towards >= 0 : towards != s->rank)
		return false;
	memcpy(&b, s->wire.body, sizeof(b));
	if (left(w, who) || b.seq == UINT64_MAX)
		return b.seq != UINT64_MAX;
	atomic_store_explicit(&w->left[who], b.seq + 1, memory_order_release);
	lower_last(w, b.seq);
	mark(w, who, COLLX_RANK_LEFT, now_ns);
	if (w->rally)
		cx_rally_left(w->rally, who, b.decided, now_ns);
	if (!up(w))
		cx_verdict_left(&w->decider, who, b.seq, now_ns);
	else if (!is_up(w, s))
		tell(w, up(w), CX_FRAME_LEAVE, who, &b, sizeof(b), now_ns);
	tell_below(w, s, CX_FRAME_LEAVE, who, &b, sizeof(b), now_ns);
	return true;
}

static bool hear_report(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	const size_t least = offsetof(struct cx_report_body, text);
	struct cx_report r = { .origin = s->wire.head.arg };
	struct cx_report_body b;
	size_t len = s->wire.head.len;

	if (is_up(w, s) || cx_tree_towards(&w->tree, r.origin) != s->rank || len < least ||
	    len - least >= sizeof(r.text))
		return false;
	memcpy(&b, s->wire.body, len);
	if (b.code >= 0 || b.about < -1 || b.about >= w->tree.ranks || b.hearsay > 1)
		return false;
	r.about = b.about;
	r.code = b.code;
	r.hearsay = b.hearsay;
	r.sys_errno = b.sys_errno;
	r.seq = b.seq;
	memcpy(r.text, b.text, len - least);
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

	if (!is_up(w, s) || s->wire.head.len != sizeof(late) || s->wire.head.arg < 0 ||
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

	if (!w->rally || up(w) || verdict(w))
		return;
	late = cx_verdict_late(&w->decider, cx_min(late_ms, limit_ns / 1000000));
	note_late(w, NULL, &late, (uint64_t)late.waited_ms * 1000000 >= limit_ns, now_ns);
}

static bool hear_signs(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	int origin = s->wire.head.arg;
	size_t len = s->wire.head.len;
	struct cx_account a = { 0 };

	if (is_up(w, s) || cx_tree_towards(&w->tree, origin) != s->rank || len > sizeof(a))
		return false;
	memcpy(&a, s->wire.body, len);
	if (!cx_account_is_sound(&a, len, w->tree.ranks))
		return false;
	atomic_store_explicit(&w->news[origin].state, a.state, memory_order_relaxed);
	if (verdict(w))
		return true;
	if (up(w)) {
		tell(w, up(w), (enum cx_frame_kind)s->wire.head.kind, origin, &a, len, now_ns);
		return true;
	}
	account(w, CX_FRAME_SIGNS, now_ns);
	cx_verdict_account(&w->decider, origin, &a, now_ns);
	look_for_late(w, now_ns);
	if (s->wire.head.kind == CX_FRAME_SIGNS)
		cx_verdict_ask(&w->decider, now_ns);
	return true;
}

static bool copy_line(const struct cx_strand *s, char text[CX_FAULT_TEXT_MAX])
{
	size_t len = s->wire.head.len;

	if (s->wire.head.arg >= 0 || len >= CX_FAULT_TEXT_MAX)
		return false;
	memcpy(text, s->wire.body, len);
	text[len] = '\0';
	return true;
}

static bool hear_verdict(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	const size_t least = offsetof(struct cx_verdict_body, text), len = s->wire.head.len;
	struct cx_cause c = { .code = s->wire.head.arg };
	struct cx_verdict_body b;

	if (!is_up(w, s) || c.code >= 0 || len < least || len - least >= sizeof(c.text))
		return false;
	memcpy(&b, s->wire.body, len);
	if (b.about < -1 || b.about >= w->tree.ranks || b.origin < -1 || b.origin >= w->tree.ranks)
		return false;
	c.origin = b.origin;
	c.about = b.about;
	c.sys_errno = b.sys_errno;
	c.seq = b.seq;
	memcpy(c.text, b.text, len - least);
	conclude(w, &c, now_ns);
	return true;
}

/* Creation failed there, after it had succeeded here. */
static bool hear_fault(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	char text[CX_FAULT_TEXT_MAX];
	struct cx_report r;

	if (!copy_line(s, text))
		return false;
	r = sight(w, s->wire.head.arg, -1, text);
	if (is_up(w, s))
		conclude_report(w, &r, now_ns);
	else
		consider(w, &r, now_ns);
	return true;
}

static bool hear_ask(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	if (!is_up(w, s) || s->wire.head.len || s->wire.head.arg <= 0)
		return false;
	w->asked = (uint32_t)s->wire.head.arg;
	tell_below(w, NULL, CX_FRAME_ASK, s->wire.head.arg, NULL, 0, now_ns);
	account(w, CX_FRAME_SIGNS, now_ns);
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
	case CX_FRAME_ASK: return hear_ask(w, s, now_ns);
	case CX_FRAME_FAULT: return hear_fault(w, s, now_ns);
	case CX_FRAME_LATE: return hear_late(w, s, now_ns);
	case CX_FRAME_BEAT: return true;
	case CX_FRAME_LOST: return hear_lost(w, s, now_ns);
	case CX_FRAME_CONVENE: convene(w, now_ns); return true;
	case CX_FRAME_OVERDUE: return !is_up(w, s); /* of creation, which came about at last */
	default: return false;
	}
}

static void hear(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	if ((s->deaf || s->ends) && cx_wire_drop(&s->wire)) {
		cx_strand_cut(s);
		if (!s->ends)
			mark(w, s->rank, COLLX_RANK_SILENT, now_ns);
	}
	for (int i = 0; i < FRAMES && s->wire.fd >= 0 && !s->deaf && !s->ends; i++) {
		int rc = cx_wire_receive(&s->wire);

		if (rc == 0)
			return;
		s->heard_ns = now_ns;
		s->silent = false;
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

void cx_ward_post(struct cx_ward *w, int code, int about, bool hearsay, const char *text)
{
	struct cx_report *m = &w->mine;

	if (atomic_load_explicit(&w->posted, memory_order_relaxed))
		return;
	*m = (struct cx_report){ .origin = w->tree.rank, .about = about, .code = code,
				 .hearsay = hearsay, .sys_errno = cx_error_errno() };
	m->seq = cx_calls_state(w->calls);
	m->seq = m->seq % 2 ? m->seq / 2 + 1 : 0;
	snprintf(m->text, sizeof(m->text), "%s", text);
	blame_leaver(w, m);
	/* Pairs with the acquire in listen_to_caller: mine is written. */
	atomic_store_explicit(&w->posted, true, memory_order_release);
}

/* No verdict came: the report must do. A lane that closed is no proof of a death. */
static void give_up(struct cx_ward *w, uint64_t now_ns)
{
	struct cx_report r = w->mine;

	blame_leaver(w, &r);
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

	if (code == COLLX_ERR_ABORTED && w->rally && !w->rally->council.code) {
		cx_rally_going(w->rally, now_ns); /* who waits for it goes on without */
		cx_council_bar(&w->rally->council, code);
	}
	if (!code || w->granted)
		return;
	w->granted = true;
	c = cx_cause_of_wish(code, w->tree.rank);
	r = sight(w, code, w->tree.rank, c.text);
	if (up(w))
		pass_up(w, &r, now_ns);
	tell_verdict(w, &c, now_ns);
	for (int i = 0; i < w->nstrands; i++)
		cx_strand_flush(&w->strands[i]);
	cx_ward_adopt(w, &c);
	convene(w, now_ns);
}

/* Its votes go to the council, whose decisions come back. */
static void hold_council(struct cx_ward *w, uint64_t now_ns)
{
	struct cx_council *c = w->rally ? &w->rally->council : NULL;
	uint64_t votes = atomic_load_explicit(&w->votes, memory_order_acquire);

	if (!c)
		return;
	if (votes != w->votes_taken) {
		w->votes_taken = votes;
		convene(w, now_ns);
		cx_council_vote(c, &w->vote, w->vote_by_ns, now_ns);
	}
	/* Ahead of a decision that excludes this rank. */
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
		account(w, CX_FRAME_SIGNS, now_ns);
		look_for_late(w, now_ns);
		if (!up(w))
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
	if (verdict(w))
		w->give_up_ns = UINT64_MAX;
}

static void conclude_decision(struct cx_ward *w, uint64_t now_ns)
{
	const struct cx_verdict *v = &w->decider;
	struct cx_report r = v->first;

	r.code = v->code;
	r.about = v->about;
	memcpy(r.text, v->text, sizeof(r.text));
	conclude_report(w, &r, now_ns);
}

static void decide(struct cx_ward *w, uint64_t now_ns)
{
	struct cx_verdict *v = &w->decider;

	cx_verdict_tick(v, now_ns);
	while (v->ranks && !v->code && w->asked != v->question) {
		w->asked = v->question;
		tell_below(w, NULL, CX_FRAME_ASK, (int)v->question, NULL, 0, now_ns);
		account(w, CX_FRAME_SIGNS, now_ns);
	}
	if (v->code)
		conclude_decision(w, now_ns);
	if (verdict(w)) {
		v->due_ns = UINT64_MAX;
		tell_verdict(w, &w->cause, now_ns);
	}
}

static bool all_is_said(const struct cx_ward *w)
{
	for (int i = 0; i < w->nstrands; i++)
		if (cx_strand_waits(&w->strands[i]) && !w->strands[i].silent)
			return false;
	return !w->rally || cx_rally_all_said(w->rally);
}

static void say_farewell(struct cx_ward *w, uint64_t now_ns)
{
	const struct cx_leave_body b = {
		.seq = cx_calls_state(w->calls) / 2,
		.decided = w->rally ? w->rally->council.decided : 0,
	};
	int leaving = atomic_load_explicit(&w->leaving, memory_order_acquire);

	if (!leaving || w->said_farewell)
		return;
	w->said_farewell = true;
	w->linger_ns = now_ns + (w->rally ? cx_min(w->rally->silence_ns, farewell_ns) : 0);
	w->leave_by_ns = now_ns;
	if (leaving != 1)
		return;
	w->leave_by_ns += farewell_ns;
	for (int i = 0; i < w->nstrands; i++)
		tell(w, &w->strands[i], CX_FRAME_LEAVE, w->tree.rank, &b, sizeof(b), now_ns);
	if (w->rally)
		cx_rally_going(w->rally, now_ns);
	if (!up(w))
		cx_verdict_left(&w->decider, w->tree.rank, b.seq, now_ns);
}

/* Is there somebody below who may have something to say yet? */
static bool is_needed(const struct cx_ward *w)
{
	bool below = false;

	for (int i = 0; i < w->nstrands; i++)
		below |= !is_up(w, &w->strands[i]) && w->strands[i].wire.fd >= 0;
	return below && !verdict(w) &&
	       atomic_load_explicit(&w->leaving, memory_order_relaxed) == 1;
}

/* Who decided with others stays for a while: they may not know the decision yet, and the
 * chair that told it may have died. */
static bool lingers(const struct cx_ward *w, uint64_t now_ns)
{
	return w->convened && cx_rally_is_needed(w->rally) && now_ns < w->linger_ns;
}

/* The caller may go, and take with it what is its own. */
static void be_alone(struct cx_ward *w)
{
	if (w->calls == &w->own)
		return;
	memcpy(&w->own, w->calls, sizeof(w->own));
	w->calls = &w->own;
	/* Pairs with the acquire in await_fate: nothing of the caller's is used now. */
	if (w->fate)
		atomic_store_explicit(w->fate, CX_ALONE, memory_order_release);
}

/* The other ends hang up as well when they have read the farewell. Closed before, over what
 * came meanwhile, a connection is reset, and what is on its way may be lost. */
static bool hang_up(struct cx_ward *w, uint64_t now_ns)
{
	bool waits = atomic_load_explicit(&w->leaving, memory_order_relaxed) == 1 &&
		     now_ns < w->leave_by_ns;
	bool all = true;

	w->alone_ns = cx_min(w->alone_ns, now_ns + alone_ns);
	for (int i = 0; i < w->nstrands; i++) {
		struct cx_strand *s = &w->strands[i];

		if (s->wire.fd >= 0 && !waits)
			cx_strand_cut(s);
		if (s->wire.fd < 0)
			continue;
		all = false;
		if (!s->ends)
			cx_wire_finish(&s->wire);
		s->ends = s->mute = true;
	}
	if (!all && now_ns >= w->alone_ns)
		be_alone(w);
	return all;
}

/* Once the farewell is said, or its time is over. */
static void depart(struct cx_ward *w, uint64_t now_ns)
{
	bool done = all_is_said(w) || now_ns >= w->leave_by_ns;

	if (!w->said_farewell)
		return;
	if (is_needed(w) || lingers(w, now_ns)) {
		if (done) {
			be_alone(w);
			w->leave_by_ns = UINT64_MAX;
		}
		return;
	}
	w->leave_by_ns = cx_min(w->leave_by_ns, now_ns + farewell_ns);
	if (w->convened)
		done &= cx_rally_leave(w->rally, now_ns) || now_ns >= w->leave_by_ns;
	if (done)
		w->departed = hang_up(w, now_ns);
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
		forgive(w, now_ns);
	w->stepped_ns = now_ns;
	observe(w, now_ns);
	for (int i = 0; i < w->nstrands; i++)
		if (w->strands[i].wire.fd >= 0 && (!p || cx_poll_came(p, w->strands[i].number)))
			hear(w, &w->strands[i], now_ns);
	listen_to_caller(w, now_ns);
	decide(w, now_ns);
	due = beat(w, now_ns);
	if (w->rally)
		due = cx_min(due, cx_rally_step(w->rally, p, now_ns));
	hold_council(w, now_ns);
	say_farewell(w, now_ns);
	for (int i = 0; i < w->nstrands; i++)
		cx_strand_flush(&w->strands[i]);
	depart(w, now_ns);
	due = cx_min(due, cx_min(w->give_up_ns, w->leave_by_ns));
	if (now_ns < w->alone_ns)
		due = cx_min(due, w->alone_ns);
	if (w->said_farewell && now_ns < w->linger_ns)
		due = cx_min(due, w->linger_ns);
	return cx_min(due, w->decider.due_ns);
}

bool cx_ward_has_gone(const struct cx_ward *w)
{
	for (int i = 0; i < w->nstrands; i++)
		if (w->strands[i].wire.fd >= 0)
			return false;
	/* A rally has others to talk to than the tree's neighbours. */
	return w->said_farewell && (w->departed || !w->rally);
}
