/* SPDX-License-Identifier: BSD-3-Clause */
/* How a ward ends: the farewell, those below, the other ends; see ward.h. */
#include <string.h>

#include "base/base.h"
#include "ward.h"

static const uint64_t farewell_ns = 2000000000;
static const uint64_t alone_ns = 50000000; /* for which a caller waits for its connections' end */

static bool all_is_said(const struct cx_ward *w)
{
	for (int i = 0; i < w->nstrands; i++)
		if (cx_strand_waits(&w->strands[i]) && !w->strands[i].silent)
			return false;
	return !w->rally || cx_rally_all_said(w->rally);
}

void cx_ward_say_farewell(struct cx_ward *w, uint64_t now_ns)
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
	cx_ward_part(w, now_ns);
	for (int i = 0; i < w->nstrands; i++)
		if (!w->strands[i].beside)
			cx_ward_tell(w, &w->strands[i], CX_FRAME_LEAVE, w->tree.rank, &b,
				     sizeof(b), now_ns);
	if (w->rally)
		cx_rally_going(w->rally, now_ns);
	if (!cx_ward_up(w))
		cx_verdict_left(&w->decider, w->tree.rank, b.seq, now_ns);
}

/* Is there somebody below who may have something to say yet? */
static bool is_needed(const struct cx_ward *w)
{
	bool below = false;

	for (int i = 0; i < w->nstrands; i++)
		below |= cx_ward_is_below(w, &w->strands[i]) && w->strands[i].wire.fd >= 0;
	return below && !cx_ward_code(w) &&
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
		if (!s->mute)
			cx_wire_finish(&s->wire);
		s->ends = s->mute = true;
	}
	if (!all && now_ns >= w->alone_ns)
		be_alone(w);
	return all;
}

/* Once the farewell is said, or its time is over. */
void cx_ward_depart(struct cx_ward *w, uint64_t now_ns)
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
