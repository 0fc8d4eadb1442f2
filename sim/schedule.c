/* SPDX-License-Identifier: BSD-3-Clause */
/* Drawing and printing schedules; see schedule.h. */
#include <stdio.h>
#include <string.h>

#include "schedule.h"

static const char *const kinds[SIM_FAULT_KINDS] = {
	[SIM_KILL] = "kill", [SIM_PAUSE] = "pause", [SIM_PAUSE_ALL] = "pause all",
	[SIM_CUT] = "cut", [SIM_CUT_ONE_WAY] = "cut one way", [SIM_RESET] = "reset",
	[SIM_NO_MEMORY] = "no memory", [SIM_FEW_FILES] = "few files", [SIM_LATE] = "late",
	[SIM_WRONG_SECRET] = "wrong secret", [SIM_TWICE] = "twice", [SIM_RESTART] = "restart",
	[SIM_MISMATCH] = "mismatch", [SIM_STRAGGLER] = "straggler",
	[SIM_LEAVE_EARLY] = "leave early", [SIM_ROGUE] = "rogue",
	[SIM_KILL_DECIDER] = "kill a decider", [SIM_CUT_PAIR] = "cut a pair of hosts",
	[SIM_VOTE_OUT] = "vote out", [SIM_END] = "end",
	[SIM_GARBLE] = "garble", [SIM_JUMP] = "clock jumps",
	[SIM_MISCOUNT] = "miscount",
};

static const char *const whens[] = {
	[SIM_AT_DECIDING] = "decides", [SIM_AT_TOLD] = "was told a decision",
	[SIM_AT_LEAVING] = "leaves", [SIM_AT_TELLING] = "has told others",
	[SIM_AT_GROWING] = "begins to grow",
};

/* How often each kind is drawn. */
static const unsigned char weights[SIM_FAULT_KINDS] = {
	[SIM_KILL] = 10, [SIM_PAUSE] = 4, [SIM_PAUSE_ALL] = 1, [SIM_CUT] = 3,
	[SIM_CUT_ONE_WAY] = 2, [SIM_RESET] = 3, [SIM_NO_MEMORY] = 4, [SIM_FEW_FILES] = 1,
	[SIM_LATE] = 2, [SIM_WRONG_SECRET] = 2, [SIM_TWICE] = 2, [SIM_RESTART] = 4,
	[SIM_MISMATCH] = 4, [SIM_STRAGGLER] = 3, [SIM_LEAVE_EARLY] = 4, [SIM_ROGUE] = 8,
	[SIM_KILL_DECIDER] = 10, [SIM_CUT_PAIR] = 3, [SIM_VOTE_OUT] = 3, [SIM_END] = 4,
};

/* Those without a weight come in rare.c alone. */

static uint64_t pick(struct sim_rng *r, const uint64_t *from, size_t n)
{
	return from[sim_rng_below(r, n)];
}

static struct sim_params draw_params(struct sim_rng *r)
{
	static const uint64_t preempt[] = { 0, 4, 16, 64 };
	static const uint64_t local[] = { 2, 10, 50 }, net[] = { 30, 100, 1000 };
	static const uint64_t spikes[] = { 0, 0, 10, 100 };
	static const uint64_t shorts[] = { 0, 2, 5, 30 };
	static const uint64_t buffers[] = { 700, 4096, 16384, 65536 };
	struct sim_params p = {
		.call_ns = 200,
		.preempt_in = pick(r, preempt, 4),
		.preempt_ns = 1000 << sim_rng_below(r, 8),
		.local_ns = pick(r, local, 3) * SIM_US,
		.net_ns = pick(r, net, 3) * SIM_US,
		.spike_in = pick(r, spikes, 4),
		.spike_ns = 20 * SIM_MS,
		.short_io_in = pick(r, shorts, 4),
		.buffer = pick(r, buffers, 4),
		.reuse_fds = sim_rng_once_in(r, 2),
	};

	return p;
}

static void draw_hosts(struct sim_schedule *s, struct sim_rng *r)
{
	s->meeting = (enum sim_meeting)sim_rng_below(r, SIM_MEETINGS);
	s->hosts = s->meeting == SIM_UNIX ? 1 : 1 + (int)sim_rng_below(r, 4);
	if (s->hosts > s->ranks)
		s->hosts = s->ranks;
	for (int i = 0; i < s->ranks; i++)
		s->host[i] = i < s->hosts ? i : (int)sim_rng_below(r, (uint64_t)s->hosts);
	/* Rank 0 is on host 0; else a host's ranks have any numbers. */
	for (int i = s->ranks - 1; i > 1; i--) {
		int j = 1 + (int)sim_rng_below(r, (uint64_t)i), t = s->host[i];

		s->host[i] = s->host[j];
		s->host[j] = t;
	}
}

static void draw_strangers(struct sim_schedule *s, struct sim_rng *r)
{
	s->nstrangers = sim_rng_once_in(r, 3) ? (int)sim_rng_below(r, SIM_STRANGERS + 1) : 0;
	for (int i = 0; i < s->nstrangers; i++) {
		s->stranger[i].host = (int)sim_rng_below(r, (uint64_t)s->hosts);
		s->stranger[i].how = (int)sim_rng_below(r, 16);
		s->stranger[i].at_ns = sim_rng_below(r, 30 * SIM_MS);
	}
}

static void draw_recovery(struct sim_schedule *s, struct sim_rng *r)
{
	static const uint64_t silences[] = { 1000, 1000, 1500, 3000 };
	static const uint64_t op[] = { 1, 1, 3 }, decide[] = { 3, 12, 30 };

	s->beat_ns = 100 * SIM_MS;
	s->silence_ns = pick(r, silences, 4) * SIM_MS;
	s->op_ns = pick(r, op, 3) * SIM_S;
	s->decide_ns = pick(r, decide, 3) * SIM_S;
	s->generations = sim_rng_once_in(r, 3) ? 1 : 2 + (int)sim_rng_below(r, 2);
	s->shrinks_well = sim_rng_once_in(r, 4);
	s->agree_every = sim_rng_once_in(r, 3) ? 1 + sim_rng_below(r, 4) : 0;
}

static void draw_fault(struct sim_schedule *s, struct sim_rng *r)
{
	static const uint64_t spans[] = { 1, 20, 300, 1500, 4000, 9000 };
	struct sim_fault *f = &s->fault[s->nfaults++];
	uint64_t at = 0, total = 0;
	int kind = 0;

	for (int k = 0; k < SIM_FAULT_KINDS; k++)
		total += weights[k];
	at = sim_rng_below(r, total);
	while (at >= weights[kind])
		at -= weights[kind++];
	*f = (struct sim_fault){ .kind = (enum sim_fault_kind)kind };
	f->rank = (int)sim_rng_below(r, (uint64_t)s->ranks);
	f->host = (int)sim_rng_below(r, (uint64_t)s->hosts);
	f->at_ns = sim_rng_below(r, 1 << (10 + sim_rng_below(r, 18))) * 1000 / 2;
	f->for_ns = pick(r, spans, 6) * SIM_MS + sim_rng_below(r, 20 * SIM_MS);
	if ((kind == SIM_CUT || kind == SIM_CUT_ONE_WAY || kind == SIM_CUT_PAIR) &&
	    sim_rng_once_in(r, 3))
		f->for_ns = UINT64_MAX;
	f->n = sim_rng_below(r, s->ops ? (uint64_t)s->ops : 1) + 1;
	f->meets = sim_rng_once_in(r, 2);
	if (kind == SIM_KILL && sim_rng_once_in(r, 2))
		f->at_call = 1 + sim_rng_below(r, 1 << (4 + sim_rng_below(r, 8)));
	if (kind == SIM_KILL_DECIDER) {
		f->at_call = 1 + sim_rng_below(r, 1 << (2 + sim_rng_below(r, 10)));
		if (s->generations < 2)
			f->kind = SIM_KILL;
	}
	if (kind == SIM_CUT_PAIR)
		f->n = (uint64_t)(f->host + 1) % (uint64_t)s->hosts;
	if (kind == SIM_VOTE_OUT)
		f->n = sim_rng_below(r, 32);
	if (kind == SIM_NO_MEMORY)
		f->n = 1 + sim_rng_below(r, 24);
	if (kind == SIM_FEW_FILES)
		f->n = 1 + sim_rng_below(r, 8);
	if (kind == SIM_ROGUE)
		f->n = sim_rng_below(r, 64);
	/* Two such would be a second process with its number. */
	if (kind == SIM_RESTART && sim_schedule_find(s, SIM_RESTART, f->rank) != f)
		f->kind = SIM_KILL;
	if (kind == SIM_RESTART) { /* while ranks come, mostly */
		f->at_ns = s->start_ns[f->rank] + sim_rng_below(r, 300 * SIM_US);
		f->for_ns = 60 * SIM_MS + sim_rng_below(r, 100 * SIM_MS);
	}
	if ((kind == SIM_WRONG_SECRET || kind == SIM_ROGUE || kind == SIM_TWICE) && !f->rank &&
	    s->ranks > 1)
		f->rank = 1;
}

/* Their own dice, so that other draws do not change with them. */
static bool draw_lanes(uint64_t seed)
{
	struct sim_rng r = { seed * 11 + 5 };

	return sim_rng_once_in(&r, 4);
}

static unsigned draw_ring(uint64_t seed)
{
	struct sim_rng r = { seed * 3 + 2 };

	return sim_rng_once_in(&r, 3) ? 2 + (unsigned)sim_rng_below(&r, 3) : SIM_RANKS;
}

void sim_schedule_draw(struct sim_schedule *s, uint64_t seed, int ranks, bool faults)
{
	static const uint64_t few[] = { 2, 2, 3, 3, 4, 4, 5, 6, 7, 8, 9, 12 };
	struct sim_rng r = { seed * 2 + 1 };

	memset(s, 0, sizeof(*s));
	s->seed = seed;
	s->params = draw_params(&r);
	s->ranks = ranks ? ranks : (int)pick(&r, few, 12);
	draw_hosts(s, &r);
	s->create_ns = 5 * SIM_S;
	s->exchanges = (int)sim_rng_below(&r, 3);
	s->passes_fds = s->exchanges && sim_rng_once_in(&r, 2);
	s->mesh = s->ranks <= 6 && sim_rng_once_in(&r, 3);
	s->ops = (int)sim_rng_below(&r, 12);
	s->think_ns = SIM_US << sim_rng_below(&r, 16);
	for (int i = 0; i < s->ranks; i++) {
		s->start_ns[i] = sim_rng_below(&r, 1 << (5 + sim_rng_below(&r, 17))) * 1000 / 2;
		s->ppm[i] = (int64_t)sim_rng_below(&r, 20001) - 10000;
		s->abrupt[i] = s->params.buffer > 4096 && sim_rng_once_in(&r, 4);
	}
	draw_strangers(s, &r);
	draw_recovery(s, &r);
	for (int n = faults ? (int)sim_rng_below(&r, 8) : 0; n > 0 && s->nfaults < 3; n -= 4)
		draw_fault(s, &r);
	s->near = sim_rng_once_in(&r, 2);
	s->ring_hosts = draw_ring(seed);
	s->lanes = draw_lanes(seed);
	s->uniform = seed % 4 == 3;
	if (faults && !ranks && seed % 4 == 1)
		sim_schedule_draw_rare(s, &r);
	if (faults && !ranks && seed % 4 == 3)
		sim_schedule_draw_more(s, &r);
	if (faults && !ranks && seed % 32 == 2)
		sim_schedule_draw_pairs(s);
	if (seed % 8 == 4)
		sim_schedule_draw_grow(s, faults);
}

const struct sim_fault *sim_schedule_find(const struct sim_schedule *s, enum sim_fault_kind kind,
					  int rank)
{
	for (int i = 0; i < s->nfaults; i++)
		if (s->fault[i].kind == kind && (rank < 0 || s->fault[i].rank == rank))
			return &s->fault[i];
	return NULL;
}

static void print_fault(const struct sim_fault *f)
{
	printf("  fault: %s", kinds[f->kind]);
	if (f->kind == SIM_CUT || f->kind == SIM_CUT_ONE_WAY || f->kind == SIM_CUT_PAIR)
		printf(" host %d", f->host);
	else if (f->kind != SIM_PAUSE_ALL)
		printf(" rank %d", f->rank);
	if (f->when)
		printf(", when it %s", whens[f->when]);
	if (f->when == SIM_AT_DECIDING || f->when == SIM_AT_GROWING)
		printf(", after %.3f ms", (double)f->at_ns / 1e6);
	else if (f->when)
		;
	else if (f->at_call)
		printf(", at its system call %llu", (unsigned long long)f->at_call);
	else if (f->kind <= SIM_RESET || f->kind == SIM_CUT_PAIR || f->kind == SIM_RESTART ||
		 f->kind == SIM_TWICE || f->kind == SIM_GARBLE || f->kind == SIM_JUMP)
		printf(", at %.3f ms", (double)f->at_ns / 1e6);
	if (f->for_ns == UINT64_MAX)
		printf(", for good");
	else if ((f->kind > SIM_KILL && f->kind < SIM_RESET) || f->kind == SIM_LATE ||
		 f->kind == SIM_CUT_PAIR || f->kind == SIM_JUMP ||
		 f->kind == SIM_STRAGGLER || f->kind == SIM_RESTART)
		printf(", for %.0f ms", (double)f->for_ns / 1e6);
	if (f->kind == SIM_NO_MEMORY || f->kind == SIM_FEW_FILES || f->kind >= SIM_MISMATCH ||
	    f->when == SIM_AT_TELLING)
		printf(", n %llu", (unsigned long long)f->n);
	if (f->pass)
		printf(", after %llu times", (unsigned long long)f->pass);
	if (f->kind == SIM_MISMATCH)
		printf(f->meets ? ", which others see" : ", which meets nobody");
	if (f->kind == SIM_STRAGGLER && f->meets)
		printf(", before it agrees");
	putchar('\n');
}

void sim_schedule_print(const struct sim_schedule *s)
{
	static const char *const meetings[] = { "a unix socket", "tcp", "tcp and by host" };

	printf("seed %llu: %d ranks meet at %s; hosts of the ranks:", (unsigned long long)s->seed,
	       s->ranks, meetings[s->meeting]);
	for (int i = 0; i < s->ranks; i++)
		printf(" %d", s->host[i]);
	printf("\n  %d exchanges%s%s, %d operations; buffers of %zu bytes; %d strangers\n",
	       s->exchanges, s->passes_fds ? " with descriptors" : "", s->mesh ? ", a mesh" : "",
	       s->ops, s->params.buffer, s->nstrangers);
	if (s->ring_hosts < SIM_RANKS)
		printf("  a ring of more than %u hosts\n", s->ring_hosts);
	printf("  heartbeats of %.1f s, silence %.1f s, operations %.0f s, decisions %.0f s; "
	       "%d generations%s, agrees every %d\n",
	       (double)s->beat_ns / 1e9, (double)s->silence_ns / 1e9, (double)s->op_ns / 1e9,
	       (double)s->decide_ns / 1e9, s->generations,
	       s->shrinks_well ? ", when well, too" : "",
	       (int)s->agree_every);
	if (s->joiners)
		printf("  %d joiners, on hosts from %d on, before operation %d\n", s->joiners,
		       s->host[s->ranks], (int)s->grow_at);
	if (s->lanes)
		printf("  next communicators connect their hosts\n");
	if (s->uniform)
		printf("  calls are uniform\n");
	if (s->straggler_ns)
		printf("  who is late for %.1f s is told of\n", (double)s->straggler_ns / 1e9);
	if (s->near)
		printf("  who is of one host can see whether a process lives\n");
	for (int i = 0; i < s->nfaults; i++)
		print_fault(&s->fault[i]);
}
