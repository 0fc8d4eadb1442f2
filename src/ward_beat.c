/* SPDX-License-Identifier: BSD-3-Clause */
/* Heartbeats, and those that do not come; see ward.h. */
#include "base/base.h"
#include "ward.h"

static const uint64_t rare_ns = 60000000000; /* so that no firewall forgets a quiet one */

/* What others did not say while this guard was away, or its clock jumped, they may have said. */
static void wait_on(struct cx_ward *w, uint64_t now_ns)
{
	const uint64_t much_ns = 100000000;
	uint64_t late_ns = w->due_ns && now_ns > w->due_ns ? now_ns - w->due_ns : 0;

	if (late_ns < much_ns)
		return;
	if (w->give_up_ns != UINT64_MAX)
		w->give_up_ns += late_ns;
	cx_verdict_wait_on(&w->decider, late_ns);
}

void cx_ward_forgive(struct cx_ward *w, uint64_t now_ns)
{
	wait_on(w, now_ns);
	if (now_ns <= w->due_ns || now_ns - w->due_ns <= w->rally->silence_ns / 2)
		return;
	for (int i = 0; i < w->nstrands; i++)
		w->strands[i].heard_ns = now_ns;
	cx_ward_above_spoke(w, now_ns);
}

/* ---- silence ---- */

static bool may_fall_silent(const struct cx_strand *s)
{
	return s->wire.fd >= 0 && !s->ends && !s->silent && !s->quiet;
}

static bool is_silent(const struct cx_ward *w, const struct cx_strand *s, uint64_t now_ns)
{
	const uint64_t silence_ns = w->rally->silence_ns;

	return may_fall_silent(s) && now_ns - s->heard_ns >= silence_ns;
}

/* Has it missed a heartbeat, so that its silence would come within the next one's time? */
static bool is_overdue(const struct cx_ward *w, const struct cx_strand *s, uint64_t now_ns)
{
	const struct cx_rally *r = w->rally;

	return may_fall_silent(s) && !is_silent(w, s, now_ns) && r->silence_ns >= 3 * r->beat_ns &&
	       now_ns - s->heard_ns >= r->silence_ns - r->beat_ns - r->beat_ns / 4;
}

/* Those who stopped together, with their host, say, are to be told of together; and what
 * they said last was up to a heartbeat apart. Until when to wait for the others; 0: not. */
static uint64_t wait_for_others(const struct cx_ward *w, uint64_t now_ns)
{
	uint64_t until = UINT64_MAX;
	bool others = false;

	for (int i = 0; i < w->nstrands; i++) {
		const struct cx_strand *s = &w->strands[i];

		others |= is_overdue(w, s, now_ns);
		if (is_silent(w, s, now_ns))
			until = cx_min(until,
				       s->heard_ns + w->rally->silence_ns + w->rally->beat_ns);
	}
	return others && until > now_ns ? until : 0;
}

/* Before its own report, and that of the others, goes up. */
static void note_silence(struct cx_ward *w, struct cx_strand *s, int state, uint64_t now_ns)
{
	bool stopped = state == 'T' || state == 't';

	cx_ward_mark(w, s->rank, COLLX_RANK_SILENT, now_ns);
	if (w->tree.leader[s->rank] == s->rank) /* of others nobody beside wants to hear */
		cx_ward_tell_beside(w, s, CX_FRAME_SILENT, s->rank, now_ns);
	if (stopped)
		cx_verdict_lost(&w->decider, s->rank, CX_LOSS_STOP);
	if (cx_ward_up(w) && s->rank != w->tree.above)
		cx_ward_tell(w, cx_ward_up(w), CX_FRAME_SILENT, s->rank, NULL, 0, now_ns);
}

static void fell_silent(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	struct cx_report r = cx_ward_sight(w, COLLX_ERR_PEER_SILENT, s->rank, "", now_ns);
	int state = CX_PROCESS_UNKNOWN;

	/* Of the rank above each tells by itself, and all are to have one line. */
	if (s->rank != w->tree.above || cx_rally_is_near(w->rally))
		state = cx_rally_process_state(w->rally, s->rank);
	r.fault_ns = (int64_t)s->heard_ns; /* it was well then */
	cx_verdict_silence_line(r.text, s->rank, w->rally->silence_ns, state);
	cx_ward_give_up_on(w, s, &r, now_ns);
}

void cx_ward_give_up_above(struct cx_ward *w, uint64_t now_ns)
{
	struct cx_strand *s = cx_ward_up(w);

	note_silence(w, s, cx_rally_process_state(w->rally, s->rank), now_ns);
	fell_silent(w, s, now_ns);
}

/* When to come again. */
static uint64_t look_for_silence(struct cx_ward *w, uint64_t now_ns)
{
	uint64_t due = UINT64_MAX, wait;

	if (w->rally->silence_ns == UINT64_MAX)
		return due;
	for (int i = 0; i < w->nstrands; i++) {
		struct cx_strand *s = &w->strands[i];

		if (s->beside && s->rank == w->tree.above && is_silent(w, s, now_ns)) {
			s->silent = true;
			cx_ward_doubt_above(w, s, now_ns);
		}
	}
	wait = wait_for_others(w, now_ns);
	for (int i = 0; !wait && i < w->nstrands; i++)
		if (is_silent(w, &w->strands[i], now_ns))
			note_silence(w, &w->strands[i],
				     cx_rally_process_state(w->rally, w->strands[i].rank), now_ns);
	for (int i = 0; i < w->nstrands; i++) {
		struct cx_strand *s = &w->strands[i];

		if (is_silent(w, s, now_ns) && !wait)
			fell_silent(w, s, now_ns);
		else if (is_silent(w, s, now_ns))
			due = cx_min(due, wait);
		else if (may_fall_silent(s))
			due = cx_min(due, s->heard_ns + w->rally->silence_ns);
	}
	return due;
}

/* ---- heartbeats ---- */

uint64_t cx_ward_beat(struct cx_ward *w, uint64_t now_ns)
{
	uint64_t due = UINT64_MAX, beat_ns;

	if (!w->rally)
		return due;
	beat_ns = w->rally->beat_ns;
	if (cx_ward_up(w) && !cx_ward_up(w)->quiet && now_ns - w->accounted_ns >= beat_ns) {
		w->accounted_ns = now_ns;
		cx_ward_account(w, CX_FRAME_STATUS, now_ns);
	}
	if (cx_ward_up(w) && !cx_ward_up(w)->quiet)
		due = w->accounted_ns + beat_ns;
	for (int i = 0; i < w->nstrands; i++) {
		struct cx_strand *s = &w->strands[i];
		uint64_t period_ns = s->quiet ? cx_max(beat_ns, rare_ns) : beat_ns;

		if (s->wire.fd < 0 || s->ends)
			continue;
		if (now_ns - s->said_ns >= period_ns)
			cx_ward_tell(w, s, CX_FRAME_BEAT, 0, NULL, 0, now_ns);
		due = cx_min(due, s->said_ns + period_ns);
	}
	due = cx_min(due, cx_ward_ask_for_late(w, now_ns));
	due = cx_min(due, cx_ward_await_above(w, now_ns));
	return cx_min(due, look_for_silence(w, now_ns));
}
