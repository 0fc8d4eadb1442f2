/* SPDX-License-Identifier: BSD-3-Clause */
/* One communicator under guard, step by step; see ward.h. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "ward.h"

enum { FRAMES = 256 /* of a wire in one step */, OUT_ROOM = 4096, OUT_ROOM_A_RANK = 24 };

static const uint64_t answer_ns = 2000000000, farewell_ns = 2000000000;

/* The body of a report, cut behind its text. */
struct report_body {
	int32_t about, code;
	uint32_t hearsay, unused;
	uint64_t seq;
	char text[CX_FAULT_TEXT_MAX];
};
_Static_assert(sizeof(struct report_body) <= CX_FRAME_MAX, "a report is one frame");
_Static_assert(sizeof(struct cx_account) <= CX_FRAME_MAX, "an account is one frame");

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

	/* Pairs with the acquire in cx_calls_may. */
	while (last > seq && !atomic_compare_exchange_weak_explicit(&w->calls->last, &last, seq,
								    memory_order_release,
								    memory_order_relaxed))
		;
}

void cx_ward_adopt(struct cx_ward *w, int code, const char *text)
{
	int none = 0;

	if (!atomic_compare_exchange_strong(&w->verdict, &none, 1))
		return;
	snprintf(w->text, sizeof(w->text), "%s", text);
	/* Pairs with the acquire in verdict() and cx_guard_verdict: the text is there. */
	atomic_store_explicit(&w->verdict, code, memory_order_release);
	lower_last(w, 0);
}

/* ---- sending ---- */

static void cut(struct cx_strand *s)
{
	cx_wire_close(&s->wire);
	s->at = s->len = 0;
}

static void flush(struct cx_strand *s)
{
	while (s->wire.fd >= 0 && !s->mute && s->at < s->len) {
		long n = cx_wire_push(&s->wire, s->out + s->at, s->len - s->at);

		if (n == 0)
			return;
		if (n < 0)
			s->mute = true; /* what it said before may still be read */
		else
			s->at += (size_t)n;
	}
	s->at = s->len = 0;
}

static void broke(struct cx_ward *w, struct cx_strand *s, int code, const char *why,
		  uint64_t now_ns);

/* May it be left out when the other end is slow? */
static bool is_light(enum cx_frame_kind kind)
{
	return kind == CX_FRAME_SIGNS || kind == CX_FRAME_ASK;
}

static void tell(struct cx_ward *w, struct cx_strand *s, enum cx_frame_kind kind, int arg,
		 const void *body, size_t len, uint64_t now_ns)
{
	const struct cx_frame_head head = { (uint16_t)kind, (uint16_t)len, arg };
	size_t waiting = s->len - s->at;

	if (s->wire.fd < 0 || s->mute || (is_light(kind) && waiting > w->out_room / 2))
		return;
	if (waiting + sizeof(head) + len > w->out_room) {
		broke(w, s, COLLX_ERR_PEER_SILENT, "does not read its control connection", now_ns);
		return;
	}
	memmove(s->out, s->out + s->at, waiting);
	memcpy(s->out + waiting, &head, sizeof(head));
	if (len)
		memcpy(s->out + waiting + sizeof(head), body, len);
	s->at = 0;
	s->len = waiting + sizeof(head) + len;
}

static void tell_below(struct cx_ward *w, const struct cx_strand *but, enum cx_frame_kind kind,
		       int arg, const void *body, size_t len, uint64_t now_ns)
{
	for (int i = 0; i < w->nstrands; i++)
		if (!is_up(w, &w->strands[i]) && &w->strands[i] != but)
			tell(w, &w->strands[i], kind, arg, body, len, now_ns);
}

/* ---- causes and verdicts ---- */

static void tell_verdict(struct cx_ward *w, int code, const char *text, uint64_t now_ns)
{
	if (w->told)
		return;
	w->told = true;
	tell_below(w, NULL, CX_FRAME_VERDICT, code, text, strlen(text), now_ns);
}

/* The verdict is known. It goes down first: once the caller knows it, the process
 * may end any moment, which must not look like the cause. */
static void conclude(struct cx_ward *w, int code, const char *text, uint64_t now_ns)
{
	if (verdict(w))
		return;
	tell_verdict(w, code, text, now_ns);
	for (int i = 0; i < w->nstrands; i++)
		flush(&w->strands[i]);
	cx_ward_adopt(w, code, text);
}

static void pass_up(struct cx_ward *w, const struct cx_report *r, uint64_t now_ns)
{
	struct report_body b = { .about = r->about, .code = r->code, .hearsay = r->hearsay,
				 .seq = r->seq };
	size_t len = strnlen(r->text, sizeof(b.text) - 1);

	/* The first cause counts, so one of each kind will do. */
	if (w->passed_cause || (r->hearsay && w->passed_hearsay))
		return;
	*(r->hearsay ? &w->passed_hearsay : &w->passed_cause) = true;
	memcpy(b.text, r->text, len);
	tell(w, up(w), CX_FRAME_REPORT, r->origin, &b, offsetof(struct report_body, text) + len,
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

/* What this guard sees itself. */
static void notice(struct cx_ward *w, int code, int about, const char *text, uint64_t now_ns)
{
	struct cx_report r = { .origin = w->tree.rank, .about = about, .code = code };

	snprintf(r.text, sizeof(r.text), "%s", text);
	consider(w, &r, now_ns);
}

void cx_ward_refuse(struct cx_ward *w, int code, const char *text)
{
	char line[CX_FAULT_TEXT_MAX];

	snprintf(line, sizeof(line), "%s", text); /* text may be the thread's error line */
	notice(w, code, w->tree.rank, line, cx_now_ns());
	conclude(w, code, line, cx_now_ns());
	cx_fail(code, "%s", line);
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
	if (!left(w, w->tree.above)) {
		conclude(w, code, text, now_ns);
		return;
	}
	atomic_store_explicit(&w->blind, true, memory_order_relaxed);
	if (w->reported)
		consider_mine(w, now_ns);
}

static void broke(struct cx_ward *w, struct cx_strand *s, int code, const char *why,
		  uint64_t now_ns)
{
	char text[CX_FAULT_TEXT_MAX];

	cut(s);
	snprintf(text, sizeof(text), "rank %d %s", s->rank, why);
	if (is_up(w, s))
		lost_above(w, code, text, now_ns);
	else if (!left(w, s->rank))
		notice(w, code, s->rank, text, now_ns);
}

static void ended(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	char text[CX_FAULT_TEXT_MAX];

	cut(s);
	cx_verdict_death_line(text, s->rank);
	if (is_up(w, s))
		lost_above(w, COLLX_ERR_PEER_DEAD, text, now_ns);
	else if (!left(w, s->rank))
		notice(w, COLLX_ERR_PEER_DEAD, s->rank, text, now_ns);
}

/* ---- accounts ---- */

static void observe(struct cx_ward *w, uint64_t now_ns)
{
	uint64_t state = atomic_load_explicit(&w->calls->state, memory_order_relaxed);

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
static void account(struct cx_ward *w, uint64_t now_ns)
{
	struct cx_account a = give_account(w, now_ns);

	if (verdict(w))
		return;
	if (up(w))
		tell(w, up(w), CX_FRAME_SIGNS, w->tree.rank, &a, cx_account_len(&a), now_ns);
	else
		cx_verdict_account(&w->decider, w->tree.rank, &a, now_ns);
}

/* ---- hearing ---- */

/* Each returns false where the frame is damaged, or not its sender's to send. */

static bool hear_leave(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	int who = s->wire.head.arg, towards;
	uint64_t seq;

	if (s->wire.head.len != sizeof(seq) || who < 0 || who >= w->tree.ranks ||
	    who == w->tree.rank)
		return false;
	towards = cx_tree_towards(&w->tree, who);
	if (is_up(w, s) ? towards >= 0 : towards != s->rank)
		return false;
	memcpy(&seq, s->wire.body, sizeof(seq));
	if (left(w, who) || seq == UINT64_MAX)
		return seq != UINT64_MAX;
	atomic_store_explicit(&w->left[who], seq + 1, memory_order_release);
	lower_last(w, seq);
	if (!up(w))
		cx_verdict_left(&w->decider, who, seq, now_ns);
	else if (!is_up(w, s))
		tell(w, up(w), CX_FRAME_LEAVE, who, &seq, sizeof(seq), now_ns);
	tell_below(w, s, CX_FRAME_LEAVE, who, &seq, sizeof(seq), now_ns);
	return true;
}

static bool hear_report(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	const size_t least = offsetof(struct report_body, text);
	struct cx_report r = { .origin = s->wire.head.arg };
	struct report_body b;
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
	r.seq = b.seq;
	memcpy(r.text, b.text, len - least);
	consider(w, &r, now_ns);
	return true;
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
	if (verdict(w))
		return true;
	if (up(w)) {
		tell(w, up(w), CX_FRAME_SIGNS, origin, &a, len, now_ns);
		return true;
	}
	account(w, now_ns);
	cx_verdict_account(&w->decider, origin, &a, now_ns);
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
	char text[CX_FAULT_TEXT_MAX];

	if (!is_up(w, s) || !copy_line(s, text))
		return false;
	conclude(w, s->wire.head.arg, text, now_ns);
	return true;
}

/* Creation failed there, after it had succeeded here. */
static bool hear_fault(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	char text[CX_FAULT_TEXT_MAX];

	if (!copy_line(s, text))
		return false;
	if (is_up(w, s))
		conclude(w, s->wire.head.arg, text, now_ns);
	else
		notice(w, s->wire.head.arg, s->rank, text, now_ns);
	return true;
}

static bool hear_ask(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	if (!is_up(w, s) || s->wire.head.len || s->wire.head.arg <= 0)
		return false;
	w->asked = (uint32_t)s->wire.head.arg;
	tell_below(w, NULL, CX_FRAME_ASK, s->wire.head.arg, NULL, 0, now_ns);
	account(w, now_ns);
	return true;
}

static bool hear_frame(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	switch (s->wire.head.kind) {
	case CX_FRAME_LEAVE: return hear_leave(w, s, now_ns);
	case CX_FRAME_REPORT: return hear_report(w, s, now_ns);
	case CX_FRAME_SIGNS: return hear_signs(w, s, now_ns);
	case CX_FRAME_VERDICT: return hear_verdict(w, s, now_ns);
	case CX_FRAME_ASK: return hear_ask(w, s, now_ns);
	case CX_FRAME_FAULT: return hear_fault(w, s, now_ns);
	case CX_FRAME_OVERDUE: return !is_up(w, s); /* of creation, which came about at last */
	default: return false;
	}
}

static void hear(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	for (int i = 0; i < FRAMES && s->wire.fd >= 0; i++) {
		int rc = cx_wire_receive(&s->wire);

		if (rc == 0)
			return;
		if (rc == COLLX_ERR_PEER_DEAD) {
			ended(w, s, now_ns);
			return;
		}
		if (rc < 0 && rc != COLLX_ERR_CORRUPT) {
			broke(w, s, COLLX_ERR_LINK, "lost its control connection", now_ns);
			return;
		}
		if (rc < 0 || !hear_frame(w, s, now_ns)) {
			broke(w, s, COLLX_ERR_CORRUPT, "sent a damaged control frame", now_ns);
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
				 .hearsay = hearsay };
	m->seq = atomic_load_explicit(&w->calls->state, memory_order_relaxed);
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
	conclude(w, r.code, r.text, now_ns);
}

static void listen_to_caller(struct cx_ward *w, uint64_t now_ns)
{
	if (atomic_exchange_explicit(&w->nudged, false, memory_order_acquire)) {
		account(w, now_ns);
		if (!up(w))
			cx_verdict_ask(&w->decider, now_ns);
	}
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

static void decide(struct cx_ward *w, uint64_t now_ns)
{
	struct cx_verdict *v = &w->decider;

	cx_verdict_tick(v, now_ns);
	while (v->ranks && !v->code && w->asked != v->question) {
		w->asked = v->question;
		tell_below(w, NULL, CX_FRAME_ASK, (int)v->question, NULL, 0, now_ns);
		account(w, now_ns);
	}
	if (v->code)
		conclude(w, v->code, v->text, now_ns);
	if (verdict(w)) {
		v->due_ns = UINT64_MAX;
		tell_verdict(w, verdict(w), w->text, now_ns);
	}
}

static bool all_is_said(const struct cx_ward *w)
{
	for (int i = 0; i < w->nstrands; i++)
		if (w->strands[i].at < w->strands[i].len && !w->strands[i].mute)
			return false;
	return true;
}

static void say_farewell(struct cx_ward *w, uint64_t now_ns)
{
	uint64_t seq = atomic_load_explicit(&w->calls->state, memory_order_relaxed) / 2;
	int leaving = atomic_load_explicit(&w->leaving, memory_order_acquire);

	if (!leaving || w->said_farewell)
		return;
	w->said_farewell = true;
	w->leave_by_ns = now_ns;
	if (leaving != 1)
		return;
	w->leave_by_ns += farewell_ns;
	for (int i = 0; i < w->nstrands; i++)
		tell(w, &w->strands[i], CX_FRAME_LEAVE, w->tree.rank, &seq, sizeof(seq), now_ns);
	if (!up(w))
		cx_verdict_left(&w->decider, w->tree.rank, seq, now_ns);
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

/* The caller may go, and take with it what is its own. */
static void be_alone(struct cx_ward *w)
{
	if (w->calls == &w->own)
		return;
	memcpy(&w->own, w->calls, sizeof(w->own));
	w->calls = &w->own;
	/* Pairs with the acquire in cx_guard_close: nothing of the caller's is used now. */
	atomic_store_explicit(&w->fate, CX_ALONE, memory_order_release);
}

/* Once the farewell is said, or its time is over. */
static void depart(struct cx_ward *w, uint64_t now_ns)
{
	bool done = all_is_said(w) || now_ns >= w->leave_by_ns;

	if (!w->said_farewell)
		return;
	if (is_needed(w)) {
		if (done) {
			be_alone(w);
			w->leave_by_ns = UINT64_MAX;
		}
		return;
	}
	w->leave_by_ns = cx_min(w->leave_by_ns, now_ns + farewell_ns);
	for (int i = 0; done && i < w->nstrands; i++)
		cut(&w->strands[i]);
}

/* ---- a step ---- */

void cx_ward_await(const struct cx_ward *w, struct pollfd *fds)
{
	for (int i = 0; i < w->nstrands; i++) {
		const struct cx_strand *s = &w->strands[i];

		fds[i] = (struct pollfd){ .fd = s->wire.fd, .events = POLLIN };
		if (s->at < s->len)
			fds[i].events |= POLLOUT;
	}
}

uint64_t cx_ward_step(struct cx_ward *w, const struct pollfd *fds, uint64_t now_ns)
{
	observe(w, now_ns);
	for (int i = 0; i < w->nstrands; i++)
		if (w->strands[i].wire.fd >= 0 && (!fds || fds[i].revents))
			hear(w, &w->strands[i], now_ns);
	listen_to_caller(w, now_ns);
	decide(w, now_ns);
	say_farewell(w, now_ns);
	for (int i = 0; i < w->nstrands; i++)
		flush(&w->strands[i]);
	depart(w, now_ns);
	return cx_min(cx_min(w->decider.due_ns, w->give_up_ns), w->leave_by_ns);
}

bool cx_ward_has_gone(const struct cx_ward *w)
{
	for (int i = 0; i < w->nstrands; i++)
		if (w->strands[i].wire.fd >= 0)
			return false;
	return w->said_farewell;
}

/* ---- life ---- */

static int count_wires(const struct cx_tree *t)
{
	int n = t->up.fd >= 0;

	for (int r = 0; t->down && r < t->ranks; r++)
		n += t->down[r].fd >= 0;
	return n;
}

static void take_wire(struct cx_ward *w, struct cx_wire *from, int rank)
{
	struct cx_strand *s = &w->strands[w->nstrands];

	if (from->fd < 0)
		return;
	s->wire = *from;
	s->rank = rank;
	s->out = w->outs + w->out_room * (size_t)w->nstrands++;
	cx_wire_init(from, -1);
}

static int allocate(struct cx_ward *w, const struct cx_tree *t)
{
	size_t n = (size_t)count_wires(t);

	w->out_room = OUT_ROOM + OUT_ROOM_A_RANK * (size_t)t->ranks;
	w->left = cx_alloc((size_t)t->ranks, sizeof(*w->left));
	w->strands = cx_alloc(n, sizeof(*w->strands));
	w->outs = cx_alloc(n, w->out_room);
	if (!w->left || !w->strands || !w->outs)
		return COLLX_ERR_NOMEM;
	return cx_verdict_init(&w->decider, t->rank ? 0 : t->ranks);
}

int cx_ward_create(struct cx_ward **out, struct cx_tree *tree, struct cx_calls *calls)
{
	struct cx_ward *w = cx_alloc(1, sizeof(*w));
	int rc = w ? allocate(w, tree) : COLLX_ERR_NOMEM;

	if (rc) {
		if (w)
			cx_ward_destroy(w);
		return rc;
	}
	assert(tree->above < 0 || tree->up.fd >= 0);
	w->calls = calls;
	w->since_ns = cx_now_ns();
	w->give_up_ns = w->leave_by_ns = UINT64_MAX;
	take_wire(w, &tree->up, tree->above);
	for (int r = 0; tree->down && r < tree->ranks; r++)
		take_wire(w, &tree->down[r], r);
	w->tree = *tree;
	w->tree.down = NULL;
	cx_free(tree->down);
	*tree = (struct cx_tree){ .above = -1, .up.fd = -1, .up.passed_fd = -1 };
	*out = w;
	return 0;
}

void cx_ward_destroy(struct cx_ward *w)
{
	for (int i = 0; i < w->nstrands; i++)
		cut(&w->strands[i]);
	cx_verdict_fini(&w->decider);
	cx_free(w->tree.leader);
	cx_free(w->room);
	cx_free(w->outs);
	cx_free(w->strands);
	cx_free(w->left);
	cx_free(w);
}
