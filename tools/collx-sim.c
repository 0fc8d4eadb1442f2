/* SPDX-License-Identifier: BSD-3-Clause */
/* collx-sim: seeded faults in a simulated world, on the real control plane. */
#include <argp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "collx.h"
#include "sim/job.h"

struct options {
	const char *what;
	uint64_t seeds, first;
	bool one;          /* --seed without --seeds: that one */
	int ranks;
	bool verbose, everywhere, calm, stop, uniform, grow;
	int kill_rank;     /* -1: none */
	uint64_t kill_call;
};

static const struct argp_option options[] = {
	{ "seeds", 'n', "N", 0, "Run N schedules (1,000)", 0 },
	{ "seed", 's', "S", 0, "Begin with this seed; without --seeds it is the only one", 0 },
	{ "ranks", 'r', "P", 0, "Ranks, 1 to 32 (as the seed says)", 0 },
	{ "calm", 'c', NULL, 0, "Without faults", 0 },
	{ "kill-everywhere", 'k', NULL, 0,
	  "Kill each rank at each of its system calls, in each seed's job; 4 ranks at most", 0 },
	{ "kill", 'x', "RANK:CALL", 0, "Kill that rank at that system call, and nothing else", 0 },
	{ "uniform", 'u', NULL, 0, "Processes that end within uniform calls, and little else", 0 },
	{ "grow", 'g', NULL, 0, "New ranks join in all runs", 0 },
	{ "stop", 'e', NULL, 0, "End with the first failure (the tenth)", 0 },
	{ "verbose", 'v', NULL, 0, "Print the schedule and all that happens", 0 },
	{ 0 }
};

static uint64_t number(struct argp_state *state, const char *text, uint64_t least, uint64_t most)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 10);

	if (end == text || *end || n < least || n > most)
		argp_error(state, "'%s' is not a number from %llu to %llu", text,
			   (unsigned long long)least, (unsigned long long)most);
	return n;
}

static void parse_kill(struct argp_state *state, char *text, struct options *o)
{
	char *call = strchr(text, ':');

	if (!call)
		argp_error(state, "'%s' is not RANK:CALL", text);
	*call++ = '\0';
	o->kill_rank = (int)number(state, text, 0, SIM_RANKS - 1);
	o->kill_call = number(state, call, 1, UINT32_MAX);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 'n': o->seeds = number(state, arg, 1, UINT32_MAX); break;
	case 's': o->first = number(state, arg, 0, UINT64_MAX / 4); o->one = true; break;
	case 'r': o->ranks = (int)number(state, arg, 1, SIM_RANKS); break;
	case 'e': o->stop = true; break;
	case 'c': o->calm = true; break;
	case 'x': parse_kill(state, arg, o); break;
	case 'k': o->everywhere = true; break;
	case 'u': o->uniform = true; break;
	case 'g': o->grow = true; break;
	case 'v': o->verbose = true; break;
	case ARGP_KEY_ARG:
		if (o->what || strcmp(arg, "fault"))
			argp_error(state, "'%s' is nothing to simulate: fault is", arg);
		o->what = arg;
		break;
	case ARGP_KEY_END:
		if (!o->what)
			argp_error(state, "say what to simulate: fault");
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

/* ---- runs ---- */

struct tally {
	uint64_t runs, bad, digest, events, kills;
};

static void fail(const struct sim_schedule *s, const struct options *o, const char *why)
{
	const struct sim_fault *f = &s->fault[0];

	printf("FAILED: %s\n", why);
	sim_schedule_print(s);
	printf("  to see it: collx-sim fault --seed %llu", (unsigned long long)s->seed);
	if (o->ranks)
		printf(" --ranks %d", o->ranks);
	if (o->calm)
		printf(" --calm");
	if (o->uniform)
		printf(" --uniform");
	if (o->grow)
		printf(" --grow");
	if (o->everywhere || o->kill_rank >= 0)
		printf(" --kill %d:%llu", f->rank, (unsigned long long)f->at_call);
	printf(" -v\n");
	fflush(stdout);
}

/* Those of the schedule; a process that ends after an error does so by itself. */
static uint64_t count_kills(const struct sim_schedule *s)
{
	uint64_t n = 0;

	for (int i = 0; i < sim_job.players; i++)
		n += sim_job.player[i].proc->killed && !s->abrupt[sim_job.player[i].rank];
	return n;
}

static bool run(struct sim_schedule *s, const struct options *o, struct tally *t)
{
	const char *why;

	if (o->verbose)
		sim_schedule_print(s);
	why = sim_job_run(s, o->verbose);
	t->runs++;
	t->events += sim.events;
	t->kills += count_kills(s);
	t->digest = (t->digest ^ sim.digest) * 0x100000001b3u;
	if (!why)
		return true;
	t->bad++;
	fail(s, o, why);
	return false;
}

/* The seed's job without its faults, but with this one. */
static bool run_kill(const struct sim_schedule *calm, int rank, uint64_t at_call,
		     const struct options *o, struct tally *t)
{
	struct sim_schedule s = *calm;

	s.nfaults = 1;
	s.fault[0] = (struct sim_fault){ .kind = SIM_KILL, .rank = rank, .at_call = at_call };
	return run(&s, o, t);
}

static bool is_enough(const struct options *o, const struct tally *t)
{
	return t->bad >= (o->stop ? 1 : 10);
}

static void run_everywhere(uint64_t seed, const struct options *o, struct tally *t)
{
	struct sim_schedule plan;
	uint64_t calls[SIM_RANKS];

	sim_schedule_draw(&plan, seed, o->ranks, false);
	if (o->grow)
		sim_schedule_draw_grow(&plan, false);
	if (!run(&plan, o, t))
		return;
	for (int r = 0; r < sim_job.all; r++)
		calls[r] = sim_job.player[r].proc->calls;
	for (int r = 0; r < plan.ranks + plan.joiners; r++)
		for (uint64_t at = 1; at <= calls[r] && !is_enough(o, t); at++)
			run_kill(&plan, r, at, o, t);
}

/* A crash says whose it was; there may be little stack left. */
static void crashed(int sig)
{
	char text[64] = "CRASHED: seed ", digits[24];
	uint64_t seed = sim_job.plan ? sim_job.plan->seed : 0;
	size_t n = strlen(text), d = 0;

	do
		digits[d++] = (char)('0' + seed % 10);
	while (seed /= 10);
	while (d)
		text[n++] = digits[--d];
	text[n++] = '\n';
	if (write(1, text, n) < 0)
		n = 0;
	signal(sig, SIG_DFL);
	raise(sig);
}

static void watch_for_crashes(void)
{
	static char stack[65536];
	const stack_t other = { .ss_sp = stack, .ss_size = sizeof(stack) };
	const struct sigaction act = { .sa_handler = crashed, .sa_flags = SA_ONSTACK | SA_NODEFER };

	sigaltstack(&other, NULL);
	sigaction(SIGSEGV, &act, NULL);
	sigaction(SIGBUS, &act, NULL);
	sigaction(SIGABRT, &act, NULL);
}

static void run_seeds(const struct options *o, struct tally *t)
{
	struct sim_schedule s;

	for (uint64_t i = 0; i < o->seeds && !is_enough(o, t); i++) {
		if (o->everywhere) {
			run_everywhere(o->first + i, o, t);
			continue;
		}
		sim_schedule_draw(&s, o->first + i, o->ranks,
				  !o->calm && !o->uniform && o->kill_rank < 0);
		if (o->uniform)
			sim_schedule_draw_kills(&s);
		if (o->grow)
			sim_schedule_draw_grow(&s, !o->calm && o->kill_rank < 0);
		if (o->kill_rank >= 0)
			run_kill(&s, o->kill_rank, o->kill_call, o, t);
		else
			run(&s, o, t);
	}
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		options, parse, "fault",
		"Runs the control plane of libcollx in a simulated world with faults.", NULL, NULL,
		NULL
	};
	struct options o = { .kill_rank = -1 };
	struct tally t = { .digest = 1 };
	double took;

	argp_err_exit_status = 64;
	argp_parse(&argp, argc, argv, 0, NULL, &o);
	if (!o.seeds)
		o.seeds = o.one ? 1 : 1000;
	if (o.everywhere && (!o.ranks || o.ranks > 4))
		o.ranks = 4;
	if (o.verbose)
		setlinebuf(stdout); /* so that a crash leaves all of it */
	watch_for_crashes();
	clearenv(); /* of which no run may depend */
	took = seconds();
	run_seeds(&o, &t);
	took = seconds() - took;
	printf("%llu runs, %llu failed; %llu kills; %llu events; digest %016llx; %.1f s, "
	       "%.0f runs a second\n",
	       (unsigned long long)t.runs, (unsigned long long)t.bad,
	       (unsigned long long)t.kills, (unsigned long long)t.events,
	       (unsigned long long)t.digest, took, (double)t.runs / (took > 0 ? took : 1e-9));
	sim_world_reset(0, false);
	sim_fiber_drop_stacks();
	return t.bad != 0;
}
