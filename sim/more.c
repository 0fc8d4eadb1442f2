/* SPDX-License-Identifier: BSD-3-Clause */
/* What is drawn where calls are uniform, ranks dawdle or clocks jump; see schedule.h. */
#include "base/base.h"
#include "schedule.h"

/* ---- ends within uniform calls ---- */

static uint64_t some_time(const struct sim_schedule *s, struct sim_rng *r)
{
	uint64_t call_ns = s->think_ns / 2 + 12 * s->params.net_ns + 2 * SIM_MS;

	return SIM_MS + sim_rng_below(r, (uint64_t)s->ops * call_ns);
}

static void add_kill(struct sim_schedule *s, struct sim_rng *r)
{
	int rank = sim_rng_once_in(r, 3) ? 0 : (int)sim_rng_below(r, (uint64_t)s->ranks);
	struct sim_fault *f = sim_add_fault(s, SIM_KILL, rank, some_time(s, r), 0);

	switch (sim_rng_below(r, 6)) {
	case 0:
		break;
	case 1:
	case 2:
		f->kind = SIM_KILL_DECIDER;
		f->at_call = 1 + sim_rng_below(r, 1u << (1 + sim_rng_below(r, 7)));
		f->meets = sim_rng_once_in(r, 3);
		f->pass = sim_rng_below(r, 8);
		break;
	case 3:
		f->when = SIM_AT_TELLING;
		f->n = 1 + sim_rng_below(r, 2 * (uint64_t)s->ranks);
		break;
	case 4:
		f->when = SIM_AT_TOLD;
		f->at_ns = 0;
		f->pass = sim_rng_below(r, 8);
		break;
	default:
		f->when = SIM_AT_DECIDING;
		f->at_ns = 1 + sim_rng_below(r, 1u << (10 + sim_rng_below(r, 13)));
		f->pass = sim_rng_below(r, 8);
	}
}

/* A rank is out of sight, for a while or for good. */
static void add_absence(struct sim_schedule *s, struct sim_rng *r)
{
	static const enum sim_fault_kind kinds[] = { SIM_PAUSE, SIM_PAUSE, SIM_CUT,
						     SIM_CUT_ONE_WAY, SIM_CUT_PAIR };
	enum sim_fault_kind kind = kinds[sim_rng_below(r, 5)];
	uint64_t for_ns = SIM_MS << sim_rng_below(r, 14);
	struct sim_fault *f = sim_add_fault(s, kind, (int)sim_rng_below(r, (uint64_t)s->ranks),
					    some_time(s, r), for_ns);

	if (kind == SIM_CUT_PAIR)
		f->n = (uint64_t)(f->host + 1) % (uint64_t)s->hosts;
	if (kind != SIM_PAUSE && sim_rng_once_in(r, 3))
		f->for_ns = UINT64_MAX;
	if (sim_rng_once_in(r, 3))
		return;
	f->when = sim_rng_once_in(r, 3) ? SIM_AT_TOLD : SIM_AT_DECIDING;
	f->at_ns = 1 + sim_rng_below(r, 6 * s->params.net_ns);
	f->pass = sim_rng_below(r, 8);
}

void sim_schedule_draw_kills(struct sim_schedule *s)
{
	struct sim_rng r = { s->seed * 5 + 4 };
	int kills;

	sim_keep_busy(s, &r);
	s->think_ns = SIM_US << sim_rng_below(&r, 14);
	s->uniform = true;
	if (s->params.buffer < 16384) /* less than any kernel has loses decisions that are told */
		s->params.buffer = 16384;
	if (sim_rng_once_in(&r, 3))
		s->agree_every = 0;
	kills = 1 + (int)sim_rng_below(&r, (uint64_t)(s->ranks > 3 ? 3 : s->ranks - 1));
	for (int i = 0; i < kills; i++)
		add_kill(s, &r);
	if (sim_rng_once_in(&r, 3))
		add_absence(s, &r);
}

static void draw_kills(struct sim_schedule *s, struct sim_rng *r)
{
	(void)r;
	sim_schedule_draw_kills(s);
}

/* The one who counts the votes has a communicator, and too few descriptors to let all in. */
static void draw_narrow_door(struct sim_schedule *s, struct sim_rng *r)
{
	s->ranks = 3 + (int)sim_rng_below(r, 3);
	s->meeting = SIM_TCP;
	s->hosts = 2;
	for (int i = 0; i < s->ranks; i++)
		s->host[i] = i % 2;
	sim_keep_busy(s, r);
	s->exchanges = 0;
	s->nstrangers = 0;
	sim_add_fault(s, SIM_FEW_FILES, 0, 0, 0)->n =
		(uint64_t)s->ranks + 1 + sim_rng_below(r, (uint64_t)s->ranks + 3);
}

/* ---- who lives and does not come ---- */

static void draw_dawdler(struct sim_schedule *s, struct sim_rng *r)
{
	struct sim_fault *f;

	sim_keep_busy(s, r);
	s->uniform = sim_rng_once_in(r, 3);
	s->silence_ns = SIM_S;
	s->op_ns = sim_rng_once_in(r, 2) ? 3 * SIM_S : SIM_S;
	s->straggler_ns = 300 * SIM_MS << sim_rng_below(r, 3);
	s->agree_every = 0;
	s->nstrangers = 0;
	f = sim_add_fault(s, SIM_STRAGGLER, (int)sim_rng_below(r, (uint64_t)s->ranks), 0,
			  100 * SIM_MS + sim_rng_below(r, 4 * SIM_S));
	f->n = 1 + sim_rng_below(r, (uint64_t)s->ops);
}

/* ---- clocks ---- */

/* Beside a death, mostly: what is only doubted then has a clock behind it. */
static void draw_jump(struct sim_schedule *s, struct sim_rng *r)
{
	uint64_t at_ns = 30 * SIM_MS + sim_rng_below(r, 60 * SIM_MS);
	int who = sim_rng_once_in(r, 2) ? 0 : (int)sim_rng_below(r, (uint64_t)s->ranks);
	uint64_t apart = sim_rng_once_in(r, 2) ? 4 * s->params.net_ns : 700 * SIM_MS;

	sim_keep_busy(s, r);
	s->uniform = sim_rng_once_in(r, 2);
	s->silence_ns = SIM_S;
	s->op_ns = 20 * SIM_S;
	s->decide_ns = 30 * SIM_S;
	s->agree_every = 0;
	s->lanes_end = true;
	if (sim_rng_once_in(r, 2))
		s->ops = SIM_MANY_OPS;
	sim_add_fault(s, SIM_JUMP, who, at_ns + sim_rng_below(r, apart),
		      100 * SIM_MS + sim_rng_below(r, 8 * SIM_S));
	if (s->ranks < 3 || sim_rng_once_in(r, 4))
		return;
	who += 1 + (int)sim_rng_below(r, (uint64_t)s->ranks - 1);
	sim_add_fault(s, SIM_KILL, who % s->ranks, at_ns, 0);
}

/* ---- a pair of the ring's ---- */

/* With the heartbeats that the library has by default. */
static void draw_parted_pair(struct sim_schedule *s, struct sim_rng *r)
{
	int a, b;

	s->ranks = s->hosts = 5 + (int)sim_rng_below(r, 4);
	s->meeting = sim_rng_once_in(r, 2) ? SIM_TCP : SIM_TCP_AND_LOCAL;
	for (int i = 0; i < s->ranks; i++)
		s->host[i] = i;
	a = (int)sim_rng_below(r, (uint64_t)s->ranks);
	b = (a + 1 + (sim_rng_once_in(r, 3) ? (int)sim_rng_below(r, (uint64_t)s->ranks - 2) : 0)) %
	    s->ranks;
	sim_keep_busy(s, r);
	s->near = s->uniform = false;
	s->params.buffer = 65536;
	s->beat_ns = 500 * SIM_MS;
	s->silence_ns = 3 * SIM_S;
	s->straggler_ns = SIM_S;
	s->op_ns = 20 * SIM_S;
	s->decide_ns = 30 * SIM_S;
	s->agree_every = 0;
	s->ops = SIM_MANY_OPS;
	s->ring_hosts = 2;
	sim_add_fault(s, SIM_CUT_PAIR, a, 200 * SIM_MS + sim_rng_below(r, 100 * SIM_MS),
		      UINT64_MAX)->n = (uint64_t)b;
}

/* Who is not in the ring stops, and then the one who has to tell of that ends. */
static void draw_lost_below(struct sim_schedule *s, struct sim_rng *r)
{
	uint64_t at_ns = 200 * SIM_MS + sim_rng_below(r, 100 * SIM_MS);

	s->ranks = 8 + (int)sim_rng_below(r, 5);
	s->hosts = 4;
	s->meeting = SIM_TCP_AND_LOCAL;
	for (int i = 0; i < s->ranks; i++)
		s->host[i] = i / 2 % 4; /* rank 1 is of rank 0's */
	sim_keep_busy(s, r);
	s->uniform = false;
	s->params.buffer = 65536;
	s->agree_every = 0;
	s->silence_ns = SIM_S;
	s->op_ns = 20 * SIM_S;
	s->ops = SIM_MANY_OPS;
	s->ring_hosts = 2;
	sim_add_fault(s, SIM_PAUSE, 1, at_ns, 9 * SIM_S);
	if (sim_rng_once_in(r, 4))
		return;
	sim_add_fault(s, SIM_KILL, 0, at_ns + 890 * SIM_MS + sim_rng_below(r, 130 * SIM_MS), 0);
}

/* ---- pairs of hosts ---- */

static struct sim_fault *part_pair(struct sim_schedule *s, struct sim_rng *r, int a, int b)
{
	struct sim_fault *f = sim_add_fault(s, SIM_CUT_PAIR, 0, 5 * SIM_MS +
					    sim_rng_below(r, 80 * SIM_MS), UINT64_MAX);

	f->host = a;
	f->n = (uint64_t)b;
	if (!s->shrinks_well)
		return f;
	/* While they come together, and nothing else is wrong. */
	f->when = SIM_AT_DECIDING;
	f->rank = (int)sim_rng_below(r, (uint64_t)s->ranks);
	f->at_ns = 1 + sim_rng_below(r, 1u << (10 + sim_rng_below(r, 14)));
	return f;
}

/* Some have one end in common. */
static void part_some(struct sim_schedule *s, struct sim_rng *r)
{
	int most = s->hosts == s->ranks ? 3 : 1, centre = 1 + (int)sim_rng_below(r, 2);

	for (int n = 1 + (int)sim_rng_below(r, (uint64_t)most); n; n--) {
		int a = sim_rng_once_in(r, 2) ? centre : (int)sim_rng_below(r, (uint64_t)s->hosts);

		part_pair(s, r, a,
			  (a + 1 + (int)sim_rng_below(r, (uint64_t)s->hosts - 1)) % s->hosts);
	}
}

/* In the ring one of a pair cannot tell rank 0 of the other one, who hears of that. */
static void part_teller(struct sim_schedule *s, struct sim_rng *r)
{
	bool low = sim_rng_once_in(r, 2); /* the other one is a neighbour of rank 0's */
	int teller = low ? 2 : s->ranks - 2, other = low ? 1 : s->ranks - 1;
	struct sim_fault *f;

	s->ring_hosts = 2;
	f = part_pair(s, r, s->host[teller], s->host[0]);
	*part_pair(s, r, s->host[teller], s->host[other]) = *f;
	s->fault[s->nfaults - 1].n = (uint64_t)s->host[other];
}

static void shuffle_hosts(struct sim_schedule *s, struct sim_rng *r)
{
	for (int i = 0; i < s->ranks; i++)
		s->host[i] = i < s->hosts ? i : (int)sim_rng_below(r, (uint64_t)s->hosts);
	for (int i = s->ranks - 1; i > 1; i--) {
		int j = 1 + (int)sim_rng_below(r, (uint64_t)i), t = s->host[i];

		s->host[i] = s->host[j];
		s->host[j] = t;
	}
}

void sim_schedule_draw_pairs(struct sim_schedule *s)
{
	struct sim_rng r = { s->seed * 7 + 6 };

	s->ranks = 4 + (int)sim_rng_below(&r, 5);
	s->hosts = sim_rng_once_in(&r, 3) ? 3 + (int)sim_rng_below(&r, 2) : s->ranks;
	s->meeting = sim_rng_once_in(&r, 2) ? SIM_TCP : SIM_TCP_AND_LOCAL;
	shuffle_hosts(s, &r);
	sim_keep_busy(s, &r);
	s->lanes = true;
	if (sim_rng_once_in(&r, 2))
		s->ring_hosts = SIM_RANKS;
	s->generations = 3;
	s->uniform = sim_rng_once_in(&r, 3);
	s->shrinks_well = sim_rng_once_in(&r, 4);
	s->ops = s->shrinks_well ? 4 : 30;
	s->decide_ns = 30 * SIM_S;
	if (s->params.buffer < 16384)
		s->params.buffer = 16384;
	if (s->hosts == s->ranks && sim_rng_once_in(&r, 5))
		part_teller(s, &r);
	else
		part_some(s, &r);
	if (sim_rng_once_in(&r, 4))
		sim_add_fault(s, SIM_KILL, (int)sim_rng_below(&r, (uint64_t)s->ranks),
			      sim_rng_below(&r, 5 * SIM_S), 0);
}

/* ---- new ranks ---- */

static int some_rank(const struct sim_schedule *s, struct sim_rng *r)
{
	return (int)sim_rng_below(r, (uint64_t)s->ranks);
}

static int some_joiner(const struct sim_schedule *s, struct sim_rng *r)
{
	return s->ranks + (int)sim_rng_below(r, (uint64_t)s->joiners);
}

/* While somebody grows, or joins; the one that it is about, mostly. */
static struct sim_fault *add_while_growing(struct sim_schedule *s, struct sim_rng *r,
					   enum sim_fault_kind kind, int rank)
{
	uint64_t some_ns = sim_rng_once_in(r, 2) ? 8 * s->params.net_ns + SIM_MS
						 : 2 * s->silence_ns;
	struct sim_fault *f = sim_add_fault(s, kind, rank, 1 + sim_rng_below(r, some_ns),
					    SIM_MS << sim_rng_below(r, 14));

	f->when = SIM_AT_GROWING;
	return f;
}

static void hit_joiner(struct sim_schedule *s, struct sim_rng *r)
{
	int who = some_joiner(s, r);

	switch (sim_rng_below(r, 5)) {
	case 0: /* it never comes */
		sim_add_fault(s, SIM_KILL, who, 0, 0)->at_call = 1;
		break;
	case 1:
		sim_add_fault(s, SIM_LATE, who, 0, sim_rng_below(r, 2 * s->decide_ns));
		break;
	case 2:
		sim_add_fault(s, SIM_KILL, who, 0, 0)->at_call = 1 + sim_rng_below(r, 300);
		break;
	case 3:
		add_while_growing(s, r, SIM_PAUSE, who);
		break;
	default:
		add_while_growing(s, r, SIM_KILL, who);
	}
}

static void hit_net(struct sim_schedule *s, struct sim_rng *r)
{
	static const enum sim_fault_kind kinds[] = { SIM_CUT, SIM_CUT_ONE_WAY, SIM_CUT_PAIR };
	struct sim_fault *f = add_while_growing(s, r, kinds[sim_rng_below(r, 3)], some_rank(s, r));

	f->host = s->host[sim_rng_once_in(r, 2) ? f->rank : some_joiner(s, r)];
	if (f->kind == SIM_CUT_PAIR)
		f->n = (uint64_t)(f->host + 1) % cx_min((uint64_t)s->hosts + 1, SIM_HOSTS);
	if (sim_rng_once_in(r, 3))
		f->for_ns = UINT64_MAX;
}

static void hit_member(struct sim_schedule *s, struct sim_rng *r)
{
	int who = sim_rng_once_in(r, 3) ? 0 : some_rank(s, r);
	struct sim_fault *f;

	switch (sim_rng_below(r, 9)) {
	case 0: add_while_growing(s, r, SIM_KILL, who); break;
	case 1: add_while_growing(s, r, SIM_PAUSE, who); break;
	case 2: hit_net(s, r); break;
	case 3: add_while_growing(s, r, SIM_END, who)->meets = true; break;
	case 4: /* while the others have their last word */
		f = add_while_growing(s, r, SIM_END, who);
		f->meets = true;
		f->pass = 1;
		f->when = SIM_AT_DECIDING;
		f->at_ns = 1 + sim_rng_below(r, 6 * s->params.net_ns);
		break;
	case 5:
		sim_add_fault(s, SIM_MISCOUNT, who, 0, 0)->n = 1 + sim_rng_below(r, 2);
		break;
	case 6: sim_add_fault(s, SIM_STRAGGLER, who, 0, s->silence_ns)->n = s->grow_at; break;
	case 7: sim_add_fault(s, SIM_NO_MEMORY, who, 0, 0)->n = 20 + sim_rng_below(r, 40); break;
	default: /* at one of its two decisions */
		f = sim_add_fault(s, sim_rng_once_in(r, 3) ? SIM_PAUSE : SIM_KILL, who, 0,
				  SIM_MS << sim_rng_below(r, 14));
		f->when = sim_rng_once_in(r, 2) ? SIM_AT_TOLD : SIM_AT_DECIDING;
		f->at_ns = sim_rng_once_in(r, 2) ? 0 : 1 + sim_rng_below(r, 6 * s->params.net_ns);
		f->pass = sim_rng_below(r, 2);
	}
}

void sim_schedule_draw_grow(struct sim_schedule *s, bool faults)
{
	struct sim_rng r = { s->seed * 13 + 3 };

	if (s->ranks + 3 > SIM_RANKS)
		return;
	s->joiners = 1 + (int)sim_rng_below(&r, 3);
	s->ops = s->ops ? s->ops : 2;
	s->grow_at = 1 + sim_rng_below(&r, cx_min((uint64_t)s->ops, 4));
	s->generations = 2 + (int)sim_rng_below(&r, 2);
	s->decide_ns = sim_rng_once_in(&r, 3) ? 12 * SIM_S : 3 * SIM_S;
	for (int i = s->ranks; i < s->ranks + s->joiners; i++) {
		bool apart = s->meeting != SIM_UNIX && s->hosts < SIM_HOSTS &&
			     sim_rng_once_in(&r, 3);

		s->host[i] = apart ? s->hosts : (int)sim_rng_below(&r, (uint64_t)s->hosts);
		s->start_ns[i] = sim_rng_below(&r, 30 * SIM_MS);
		s->ppm[i] = (int64_t)sim_rng_below(&r, 20001) - 10000;
	}
	if (!faults || sim_rng_once_in(&r, 4))
		return; /* what was drawn */
	s->nfaults = 0;
	s->go_on = 0;
	s->agree_every = 0;
	if (sim_rng_once_in(&r, 2))
		hit_joiner(s, &r);
	if (!s->nfaults || sim_rng_once_in(&r, 2))
		hit_member(s, &r);
}

/* ---- all ---- */

/* The faults that were drawn, and calls that are uniform. */
static void draw_as_it_is(struct sim_schedule *s, struct sim_rng *r)
{
	s->lanes_end = true;
	if (sim_rng_once_in(r, 2))
		s->straggler_ns = 300 * SIM_MS;
}

void sim_schedule_draw_more(struct sim_schedule *s, struct sim_rng *r)
{
	static void (*const draws[])(struct sim_schedule *s, struct sim_rng *r) = {
		draw_as_it_is, draw_as_it_is, draw_narrow_door, draw_kills, draw_kills, draw_kills,
		draw_dawdler, draw_dawdler, draw_jump, draw_jump, draw_parted_pair,
		draw_lost_below,
	};

	draws[sim_rng_below(r, sizeof(draws) / sizeof(draws[0]))](s, r);
}
