/* SPDX-License-Identifier: BSD-3-Clause */
/* What chance seldom brings together; see schedule.h. */
#include <string.h>

#include "schedule.h"

void sim_keep_busy(struct sim_schedule *s, struct sim_rng *r)
{
	for (int i = 0; i < s->ranks; i++)
		s->start_ns[i] = sim_rng_below(r, 2 * SIM_MS);
	s->ops = 12;
	s->think_ns = 16 * SIM_MS;
	s->generations = 2 + (int)sim_rng_below(r, 2);
	s->shrinks_well = false;
	s->mesh = false;
	s->nfaults = 0;
	memset(s->abrupt, 0, sizeof(s->abrupt));
}

struct sim_fault *sim_add_fault(struct sim_schedule *s, enum sim_fault_kind kind, int rank,
				uint64_t at_ns, uint64_t for_ns)
{
	struct sim_fault *f = &s->fault[s->nfaults++];

	*f = (struct sim_fault){ .kind = kind, .rank = rank, .host = s->host[rank],
				 .at_ns = at_ns, .for_ns = for_ns };
	return f;
}

/* A cut between halves: that with the lowest rank goes on. */
static void draw_halves(struct sim_schedule *s, struct sim_rng *r)
{
	bool mixed = sim_rng_once_in(r, 2);

	s->ranks = 2 + 2 * (int)sim_rng_below(r, 3);
	s->hosts = 2;
	s->meeting = sim_rng_once_in(r, 2) ? SIM_TCP : SIM_TCP_AND_LOCAL;
	for (int i = 0; i < s->ranks; i++)
		s->host[i] = mixed ? i % 2 : i >= s->ranks / 2;
	sim_keep_busy(s, r);
	s->decide_ns = 30 * SIM_S;
	sim_add_fault(s, SIM_CUT, s->ranks - 1, 20 * SIM_MS + sim_rng_below(r, 60 * SIM_MS),
		  UINT64_MAX);
}

/* A rank is out of sight while the others agree without it; one of these is then late for
 * the next decision, which excludes nobody; and the first one comes back. */
static void draw_missed(struct sim_schedule *s, struct sim_rng *r)
{
	uint64_t n = 2 + sim_rng_below(r, 4);

	s->ranks = 5 + (int)sim_rng_below(r, 2);
	s->hosts = 2;
	s->meeting = SIM_TCP;
	for (int i = 0; i < s->ranks; i++)
		s->host[i] = i == s->ranks - 1;
	sim_keep_busy(s, r);
	s->silence_ns = SIM_S;
	s->op_ns = SIM_S;
	s->decide_ns = 1500 * SIM_MS << sim_rng_below(r, 2);
	s->agree_every = 1;
	sim_add_fault(s, SIM_CUT, s->ranks - 1, n * 8 * SIM_MS + sim_rng_below(r, 16 * SIM_MS),
		  SIM_S + (sim_rng_once_in(r, 4) ? sim_rng_below(r, 7 * SIM_S)
						 : s->decide_ns + sim_rng_below(r, SIM_S)));
	sim_add_fault(s, SIM_STRAGGLER, 1 + (int)sim_rng_below(r, 3), 0, 9 * SIM_S)->n =
		2 + sim_rng_below(r, 5);
}

/* Each rank has a host, so that nobody sees an end but by a connection. */
static void part_hosts(struct sim_schedule *s, struct sim_rng *r, int ranks)
{
	s->ranks = s->hosts = ranks;
	s->meeting = SIM_TCP;
	for (int i = 0; i < ranks; i++)
		s->host[i] = i;
	sim_keep_busy(s, r);
	s->near = false;
	s->silence_ns = SIM_S;
	s->op_ns = 3 * SIM_S;
	s->decide_ns = 30 * SIM_S;
	s->agree_every = 0;
}

/* One after the other ends while they wait for a vote; each end is seen by the chair of
 * that time alone, or by those who sit with it. */
static void draw_one_by_one(struct sim_schedule *s, struct sim_rng *r)
{
	uint64_t at = 300 * SIM_MS + sim_rng_below(r, 20 * SIM_MS), gap = 400 * SIM_MS;
	int order[SIM_RANKS], last;

	part_hosts(s, r, 4 + (int)sim_rng_below(r, 2));
	for (int i = 0; i < s->ranks; i++)
		order[i] = i;
	for (int i = s->ranks - 1; i > 1; i--) { /* rank 0, by whom all would hear, first */
		int j = 1 + (int)sim_rng_below(r, (uint64_t)i), t = order[i];

		order[i] = order[j];
		order[j] = t;
	}
	last = s->ranks - 1 - (int)sim_rng_below(r, 2);
	for (int i = 0; i < last; i++, at += gap)
		sim_add_fault(s, SIM_KILL, order[i], at, 0);
	sim_add_fault(s, SIM_STRAGGLER, order[s->ranks - 1], 0, at)->n = 2;
	for (int i = last; i < s->ranks; i++)
		s->go_on |= 1u << order[i];
}

/* Some end at once: of most of them nobody has seen it. */
static void draw_at_once(struct sim_schedule *s, struct sim_rng *r)
{
	uint64_t at = 20 * SIM_MS + sim_rng_below(r, 60 * SIM_MS);
	int more;

	part_hosts(s, r, 5 + (int)sim_rng_below(r, 4));
	more = 1 + (int)sim_rng_below(r, (uint64_t)(s->ranks - 3) / 2);
	if (sim_rng_once_in(r, 2)) { /* of one host, where it is looked up, and few suffice */
		s->meeting = SIM_UNIX;
		s->hosts = 1;
		memset(s->host, 0, sizeof(s->host));
		s->near = true;
		more = s->ranks - 2 - (int)sim_rng_below(r, 2);
		s->go_on = (1u << s->ranks) - (2u << more);
	}
	for (int i = 0; i <= more; i++)
		sim_add_fault(s, SIM_KILL, i, at + sim_rng_below(r, 200 * SIM_US), 0);
}

/* The chair decides without a rank that only itself cannot reach, and is cut off before
 * anybody hears of it: those who accepted it go to that very rank. */
static void draw_untold(struct sim_schedule *s, struct sim_rng *r)
{
	uint64_t at = 20 * SIM_MS + sim_rng_below(r, 60 * SIM_MS);

	part_hosts(s, r, 5);
	if (sim_rng_once_in(r, 4))
		s->agree_every = 1;
	sim_add_fault(s, SIM_KILL, 2 + (int)sim_rng_below(r, 3), at, 0);
	sim_add_fault(s, SIM_CUT_PAIR, 0, at + sim_rng_below(r, 4 * SIM_MS), UINT64_MAX)->n = 1;
	sim_add_fault(s, SIM_CUT, 0, 0, UINT64_MAX)->when = SIM_AT_TOLD;
}

/* The chair decides with one of two, and ends: its word gives that one the right. */
static void draw_last_words(struct sim_schedule *s, struct sim_rng *r)
{
	part_hosts(s, r, 3);
	sim_add_fault(s, SIM_CUT_PAIR, 0, 10 * SIM_MS + sim_rng_below(r, 60 * SIM_MS), UINT64_MAX)
		->n = 1;
	sim_add_fault(s, SIM_KILL, 0, 0, 0)->when = SIM_AT_TOLD;
	s->go_on = 1u << 2;
}

/* A chair is out of reach in the middle of others' coming, for longer than they wait. */
static void draw_held_visit(struct sim_schedule *s, struct sim_rng *r)
{
	uint64_t at = 200 * SIM_MS;

	part_hosts(s, r, 4 + (int)sim_rng_below(r, 2));
	if (sim_rng_once_in(r, 4)) {
		s->agree_every = 1;
		sim_add_fault(s, SIM_CUT, 0, sim_rng_below(r, 6 * s->params.net_ns),
			  SIM_S + sim_rng_below(r, 1500 * SIM_MS))->when = SIM_AT_DECIDING;
		return;
	}
	sim_add_fault(s, SIM_KILL, 0, at, 0);
	sim_add_fault(s, SIM_CUT, 1, at + sim_rng_below(r, 8 * s->params.net_ns),
		  SIM_S + sim_rng_below(r, 1600 * SIM_MS));
	/* Until the chair has seen whatever it makes of that, nobody goes on. */
	sim_add_fault(s, SIM_STRAGGLER, s->ranks - 1, 0, 4500 * SIM_MS)->n = 2;
}

/* While a vote is waited for a rank is away for longer than a silence, and comes again:
 * the chair forgets that, and so must those who have seen it. */
static void draw_away(struct sim_schedule *s, struct sim_rng *r)
{
	int away;

	part_hosts(s, r, 5 + (int)sim_rng_below(r, 2));
	s->hosts = 2;
	s->meeting = SIM_TCP_AND_LOCAL;
	for (int i = 0; i < s->ranks; i++)
		s->host[i] = i > 1;
	away = 2 + (int)sim_rng_below(r, (uint64_t)s->ranks - 2);
	sim_add_fault(s, SIM_STRAGGLER, 0, 0, 4 * SIM_S)->n = 2;
	sim_add_fault(s, SIM_KILL, 1, 200 * SIM_MS, 0);
	sim_add_fault(s, SIM_PAUSE, away, 250 * SIM_MS + sim_rng_below(r, 200 * SIM_MS),
		  1050 * SIM_MS + sim_rng_below(r, 900 * SIM_MS));
}

/* All are stopped while they come together. */
static void draw_stopped_council(struct sim_schedule *s, struct sim_rng *r)
{
	struct sim_fault *f;

	sim_keep_busy(s, r);
	s->agree_every = 1;
	f = sim_add_fault(s, SIM_PAUSE_ALL, (int)sim_rng_below(r, (uint64_t)s->ranks),
		      sim_rng_below(r, sim_rng_once_in(r, 2) ? 500 * SIM_US : 4 * SIM_MS),
		      2 * s->silence_ns + sim_rng_below(r, 2 * s->silence_ns));
	f->when = SIM_AT_DECIDING;
}

/* Others have voted, and it computes yet; nothing failed. */
static void draw_late_voter(struct sim_schedule *s, struct sim_rng *r)
{
	struct sim_fault *f;

	sim_keep_busy(s, r);
	s->agree_every = 1;
	s->op_ns = 3 * SIM_S;
	s->decide_ns = 30 * SIM_S;
	f = sim_add_fault(s, SIM_STRAGGLER, (int)sim_rng_below(r, (uint64_t)s->ranks), 0,
		      s->silence_ns + sim_rng_below(r, 3 * s->silence_ns));
	f->meets = true;
	f->n = 1 + sim_rng_below(r, 6);
}

/* The chair ends when it has told one of two, who leaves at once: it alone can tell the
 * other one. */
static void draw_sole_heir(struct sim_schedule *s, struct sim_rng *r)
{
	struct sim_fault *f;

	part_hosts(s, r, 3);
	s->ops = 1 + (int)sim_rng_below(r, 4);
	s->agree_every = (uint64_t)s->ops;
	s->stays_ns = 4 * SIM_S;
	if (sim_rng_once_in(r, 2)) { /* the one who knows comes to the other */
		f = sim_add_fault(s, SIM_CUT_PAIR, 0, 0, UINT64_MAX);
		f->when = SIM_AT_TOLD;
		f->n = 1;
		sim_add_fault(s, SIM_KILL, 0, 0, 0)->when = SIM_AT_TOLD;
		s->go_on = 1u << 1;
		return;
	}
	f = sim_add_fault(s, SIM_KILL, 0, 0, 0);
	f->when = SIM_AT_TELLING;
	f->n = 1;
	s->go_on = 1u << 2;
}

/* A rank leaves, and others see the end of its lanes first. */
static void draw_unheard_leave(struct sim_schedule *s, struct sim_rng *r)
{
	part_hosts(s, r, 2 + (int)sim_rng_below(r, 2));
	s->generations = 1;
	s->stays_ns = 3 * SIM_S;
	sim_add_fault(s, SIM_LEAVE_EARLY, 0, 0, 0)->n = 1 + sim_rng_below(r, 10);
	sim_add_fault(s, SIM_CUT, 0, 0, 60 * SIM_MS + sim_rng_below(r, 80 * SIM_MS))->when =
		SIM_AT_LEAVING;
}

static void draw_stopped(struct sim_schedule *s, struct sim_rng *r)
{
	sim_keep_busy(s, r);
	sim_add_fault(s, SIM_PAUSE_ALL, 0, 5 * SIM_MS + sim_rng_below(r, 80 * SIM_MS),
		  4 * SIM_S + sim_rng_below(r, 5 * SIM_S));
}

/* A call's time is over before the silence of whom it waits for is. */
static void draw_out_of_time(struct sim_schedule *s, struct sim_rng *r)
{
	sim_keep_busy(s, r);
	s->op_ns = SIM_S;
	s->silence_ns = 3 * SIM_S;
	s->agree_every = 0;
	if (sim_rng_once_in(r, 2)) /* and the connection with it is full */
		s->params.buffer = 700;
	sim_add_fault(s, SIM_PAUSE, (int)sim_rng_below(r, (uint64_t)s->ranks),
		  20 * SIM_MS + sim_rng_below(r, 60 * SIM_MS), 9 * SIM_S);
}

/* One of a host that is not rank 0's ends while all wait for the last one, and comes again. */
static void draw_reborn(struct sim_schedule *s, struct sim_rng *r)
{
	int who;

	s->ranks = 4 + (int)sim_rng_below(r, 3);
	s->hosts = 2;
	s->meeting = SIM_TCP_AND_LOCAL;
	for (int i = 0; i < s->ranks; i++)
		s->host[i] = i > 1;
	sim_keep_busy(s, r);
	s->start_ns[1] = 400 * SIM_MS;
	who = 2 + (int)sim_rng_below(r, (uint64_t)s->ranks - 2);
	sim_add_fault(s, SIM_RESTART, who, 10 * SIM_MS + sim_rng_below(r, 90 * SIM_MS),
		  60 * SIM_MS + sim_rng_below(r, 100 * SIM_MS));
}

static void draw_garbled(struct sim_schedule *s, struct sim_rng *r)
{
	sim_keep_busy(s, r);
	sim_add_fault(s, SIM_GARBLE, (int)sim_rng_below(r, (uint64_t)s->ranks),
		  sim_rng_below(r, sim_rng_once_in(r, 2) ? 3 * SIM_MS : 90 * SIM_MS), 0)
		->n = sim_rng_below(r, 3);
	if (sim_rng_once_in(r, 2)) /* in a council */
		sim_add_fault(s, SIM_END, (int)sim_rng_below(r, (uint64_t)s->ranks), 0, 0)->n =
			1 + sim_rng_below(r, 6);
}

/* Beside a death, which others may know first; where rank 0 ends they hear of an abort in the
 * council alone. */
static void draw_aborted(struct sim_schedule *s, struct sim_rng *r)
{
	struct sim_fault *f;
	int dies;

	if (sim_rng_once_in(r, 2))
		part_hosts(s, r, 3 + (int)sim_rng_below(r, 4));
	else
		sim_keep_busy(s, r);
	dies = sim_rng_once_in(r, 2) ? 0 : (int)sim_rng_below(r, (uint64_t)s->ranks);
	f = sim_add_fault(s, SIM_END, (int)sim_rng_below(r, (uint64_t)s->ranks), 0, 0);
	f->n = sim_rng_once_in(r, 3) ? 0 : 1 + sim_rng_below(r, 8); /* 0: instead of a repair */
	f->meets = true;
	sim_add_fault(s, SIM_KILL, dies, 10 * SIM_MS + sim_rng_below(r, 90 * SIM_MS), 0);
}

/* Nothing but that one to three neighbours of many leaders are out of sight, while calls
 * wait for long. */
static void draw_silence(struct sim_schedule *s, struct sim_rng *r)
{
	int stopped = 1 + (int)sim_rng_below(r, 3), first;
	uint64_t at_ns = 200 * SIM_MS + sim_rng_below(r, 100 * SIM_MS);

	s->ranks = 7 + (int)sim_rng_below(r, 6); /* those who stop are less than half */
	first = sim_rng_once_in(r, 2) ? s->ranks - stopped / 2 : (int)sim_rng_below(r, 6);
	s->meeting = SIM_TCP;
	s->hosts = 4;
	for (int i = 0; i < s->ranks; i++)
		s->host[i] = i % 4;
	sim_keep_busy(s, r);
	s->params.buffer = 65536; /* creation waits for nobody */
	s->agree_every = 0;
	s->ops = SIM_MANY_OPS;
	s->op_ns = 20 * SIM_S;
	s->ring_hosts = sim_rng_once_in(r, 4) ? SIM_RANKS : 2;
	for (int i = 0; i < stopped; i++)
		sim_add_fault(s, SIM_PAUSE, (first + i) % s->ranks, at_ns, 9 * SIM_S);
}

void sim_schedule_draw_rare(struct sim_schedule *s, struct sim_rng *r)
{
	static void (*const draws[])(struct sim_schedule *s, struct sim_rng *r) = {
		draw_halves, draw_stopped, draw_missed, draw_missed, draw_garbled, draw_aborted,
		draw_one_by_one, draw_at_once, draw_untold, draw_last_words, draw_held_visit,
		draw_stopped_council, draw_late_voter, draw_sole_heir, draw_unheard_leave,
		draw_out_of_time, draw_reborn, draw_away, draw_silence, draw_silence,
	};

	draws[sim_rng_below(r, sizeof(draws) / sizeof(draws[0]))](s, r);
}
