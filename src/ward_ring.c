/* SPDX-License-Identifier: BSD-3-Clause */
/* A ward's part in the ring of leaders: what goes beside the tree; see ring.h. */
#include "base/base.h"
#include "ward.h"

static const uint64_t decides_ns = 1000000000, ask_ns = 1000000000, answers_ns = 500000000;

void cx_ward_tell_beside(struct cx_ward *w, const struct cx_strand *but, enum cx_frame_kind kind,
			 int arg, uint64_t now_ns)
{
	for (int i = 0; i < w->nstrands; i++) {
		struct cx_strand *s = &w->strands[i];

		if (s->beside && !s->ends && s != but)
			cx_ward_tell(w, s, kind, arg, NULL, 0, now_ns);
	}
}

void cx_ward_part(struct cx_ward *w, uint64_t now_ns)
{
	cx_ward_tell_beside(w, NULL, CX_FRAME_PART, 0, now_ns);
	for (int i = 0; i < w->nstrands; i++)
		w->strands[i].ends |= w->strands[i].beside;
	cx_ward_open_ring(w, now_ns);
}

static uint64_t patience_ns(const struct cx_ward *w)
{
	return cx_min(w->rally->silence_ns, cx_max(answers_ns, 2 * w->rally->beat_ns));
}

/* Whom this rank heard in the ring it need not hear anew for a whole silence: it is heard by
 * now, or soon. Else one of two that are cut would give up the other one long before. */
static uint64_t heard_ns(const struct cx_ward *w, int rank, uint64_t now_ns)
{
	for (int i = 0; w->rally && i < w->nstrands; i++) {
		const struct cx_strand *s = &w->strands[i];

		if (s->rank == rank && s->beside && !s->quiet && s->wire.fd >= 0)
			return cx_max(s->heard_ns + w->rally->silence_ns,
				      now_ns + patience_ns(w)) - w->rally->silence_ns;
	}
	return now_ns;
}

void cx_ward_open_ring(struct cx_ward *w, uint64_t now_ns)
{
	if (!w->ringed)
		return;
	w->ringed = false;
	w->above_by_ns = UINT64_MAX;
	w->accounted_ns = now_ns;
	for (int i = 0; i < w->nstrands; i++) {
		struct cx_strand *s = &w->strands[i];

		if (!s->beside && s->quiet) {
			s->heard_ns = heard_ns(w, s->rank, now_ns);
			s->said_ns = 0; /* a heartbeat at once, as it may be waited for */
		}
	}
	for (int i = 0; i < w->nstrands; i++)
		w->strands[i].quiet = w->strands[i].beside;
}

/* ---- does rank 0 answer? ---- */

void cx_ward_expect_verdict(struct cx_ward *w, uint64_t now_ns)
{
	if (w->above_by_ns == UINT64_MAX && w->rally && cx_ward_up(w) && cx_ward_up(w)->quiet)
		w->above_by_ns = now_ns + cx_max(w->rally->silence_ns, decides_ns);
}

void cx_ward_above_spoke(struct cx_ward *w, uint64_t now_ns)
{
	if (w->above_by_ns == UINT64_MAX)
		return;
	w->above_by_ns = UINT64_MAX;
	cx_ward_expect_verdict(w, now_ns);
}

void cx_ward_doubt_above(struct cx_ward *w, const struct cx_strand *from, uint64_t now_ns)
{
	if (!w->ringed || !cx_ward_up(w))
		return;
	cx_ward_tell_beside(w, from, CX_FRAME_SILENT, w->tree.above, now_ns);
	cx_ward_open_ring(w, now_ns);
	w->above_by_ns = now_ns + patience_ns(w);
}

uint64_t cx_ward_await_above(struct cx_ward *w, uint64_t now_ns)
{
	if (cx_ward_code(w))
		w->above_by_ns = UINT64_MAX;
	if (now_ns < w->above_by_ns)
		return w->above_by_ns;
	w->above_by_ns = UINT64_MAX;
	if (cx_ward_up(w) && w->ringed) { /* it may owe no answer, and lives */
		cx_ward_tell(w, cx_ward_up(w), CX_FRAME_SILENT, w->tree.above, NULL, 0, now_ns);
		cx_ward_doubt_above(w, NULL, now_ns);
	} else if (cx_ward_up(w)) {
		cx_ward_give_up_above(w, now_ns);
	}
	return w->above_by_ns;
}

uint64_t cx_ward_ask_for_late(struct cx_ward *w, uint64_t now_ns)
{
	struct cx_verdict *v = &w->decider;

	if (!w->ringed || cx_ward_up(w) || w->late.rank < 0 || v->code || v->phase >= CX_COUNTING)
		return UINT64_MAX;
	if (now_ns >= v->asked_ns + ask_ns) {
		cx_verdict_ask(v, now_ns);
		return now_ns; /* it is told in the next step */
	}
	return v->asked_ns + ask_ns;
}

/* ---- hearing ---- */

bool cx_ward_hear_part(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	if (!s->beside || s->wire.head.len || s->wire.head.arg)
		return false;
	cx_strand_cut(s);
	cx_ward_expect_verdict(w, now_ns);
	return true;
}

bool cx_ward_hear_silent(struct cx_ward *w, struct cx_strand *s, uint64_t now_ns)
{
	int who = s->wire.head.arg;
	bool leads;

	if (s->wire.head.len || cx_ward_is_up(w, s) || who < 0 || who >= w->tree.ranks ||
	    who == s->rank)
		return false;
	leads = w->tree.leader[who] == who;
	if (s->beside && !leads)
		return false;
	if (!s->beside && cx_tree_towards(&w->tree, who) != s->rank && !(w->has_ring && leads))
		return false;
	/* And all, who have done so, will hear that it is not. Another rank goes on as it is: it
	 * would wait for rank 0, which did not, and not see that it is cut from who said this. */
	if (who == w->tree.rank && w->tree.above < 0)
		cx_ward_open_ring(w, now_ns);
	if (cx_ward_lost(w, s->rank))
		return true;
	if (!w->rally ||
	    atomic_load_explicit(&w->news[who].fate, memory_order_relaxed) == COLLX_RANK_SILENT)
		return true;
	/* Rank 0 hears it of those who saw it. Of two that are cut from each other the first
	 * one's word counts, and what is passed on does not say whose it is. */
	if (s->beside && w->tree.above < 0)
		return true;
	if (who == w->tree.above)
		cx_ward_doubt_above(w, s, now_ns);
	else if (cx_ward_mark(w, who, COLLX_RANK_SILENT, now_ns) && s->beside)
		cx_ward_tell_beside(w, s, CX_FRAME_SILENT, who, now_ns);
	return true;
}
