/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guard without its thread: wards over socket pairs as trees of several shapes,
 * where ranks die, leave, err and lie at every point: all survivors have one error,
 * word for word.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <criterion/criterion.h>

#include "src/base/base.h"
#include "src/plan.h"
#include "tests/calls.h"
#include "tests/grove.h"
#include "tests/world.h"

/* ---- trees ---- */

struct shape {
	const char *name;
	int ranks;
	int leader[GROVE_MAX];
};

static const struct shape shapes[] = {
	{ "a pair", 2, { 0, 0 } },
	{ "two hosts of one", 2, { 0, 1 } },
	{ "a star", 5, { 0 } },
	{ "hosts of one", 5, { 0, 1, 2, 3, 4 } },
	{ "two hosts", 6, { 0, 0, 0, 3, 3, 3 } },
	{ "hosts in turn", 6, { 0, 1, 0, 1, 0, 1 } },
	{ "three hosts", 9, { 0, 0, 0, 5, 5, 5, 8, 8, 8 } },
	{ "rank 0 alone", 5, { 0, 4, 4, 4, 4 } },
};
enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

static bool is_leader(const struct shape *s, int r)
{
	return s->leader[r] == r;
}

static void expect_same_cause(const struct grove *g, int a, int b, const char *what)
{
	const struct cx_cause *x = &g->ward[a]->cause, *y = &g->ward[b]->cause;

	cr_assert(x->origin == y->origin && x->about == y->about &&
		  x->sys_errno == y->sys_errno && !memcmp(&x->who, &y->who, sizeof(x->who)) &&
		  !memcmp(&x->where, &y->where, sizeof(x->where)),
		  "%s: '%s': rank %d: of %d about %d, %s %d, %s; rank %d: of %d about %d, %s %d, "
		  "%s", what, x->text, a, x->origin, x->about, cx_call_name(x->where.call),
		  (int)x->where.seq, cx_phase_name(x->where.phase), b, y->origin, y->about,
		  cx_call_name(y->where.call), (int)y->where.seq, cx_phase_name(y->where.phase));
}

/* Everybody who is there has the first one's verdict; that verdict's code. */
static int expect_one_verdict(const struct grove *g, const char *what)
{
	int first = -1;

	for (int r = 0; r < g->ranks; r++) {
		if (!g->ward[r])
			continue;
		if (first < 0)
			first = r;
		cr_assert(grove_code(g, r) && grove_code(g, r) == grove_code(g, first) &&
			  !strcmp(grove_text(g, r), grove_text(g, first)),
			  "%s: rank %d: %s '%s', rank %d: %s '%s'", what, first,
			  collx_strerror(grove_code(g, first)), grove_text(g, first), r,
			  collx_strerror(grove_code(g, r)), grove_text(g, r));
		expect_same_cause(g, first, r, what);
	}
	return first < 0 ? 0 : grove_code(g, first);
}

static const char *any_text(const struct grove *g)
{
	for (int r = 0; r < g->ranks; r++)
		if (g->ward[r])
			return grove_text(g, r);
	return "";
}

Test(trees, one_death_is_known_to_all_in_any_shape)
{
	struct grove g;
	char text[CX_FAULT_TEXT_MAX], what[96];

	for (int i = 0; i < SHAPES; i++)
		for (int victim = 0; victim < shapes[i].ranks; victim++) {
			grove_open(&g, shapes[i].ranks, shapes[i].leader, (uint64_t)victim);
			grove_run(&g, 5);
			grove_kill(&g, victim);
			grove_settle(&g, 50);
			snprintf(what, sizeof(what), "%s, death of %d", shapes[i].name, victim);
			cr_expect_eq(expect_one_verdict(&g, what), COLLX_ERR_PEER_DEAD);
			cx_verdict_death_line(text, victim);
			cr_expect_str_eq(any_text(&g), text, "%s", what);
			grove_close(&g);
		}
}

/* Does somebody hang on that rank? */
static bool leads(const struct shape *s, int rank)
{
	bool any = rank == 0;

	for (int r = 0; r < s->ranks; r++)
		any |= r != rank && s->leader[r] == rank;
	return any;
}

/* It says in which call who saw it was, and how long ago, wherever one rank told all. */
Test(trees, a_death_is_told_with_the_call_that_it_hit)
{
	for (int i = 0; i < SHAPES; i++)
		for (int victim = 0; victim < shapes[i].ranks; victim++) {
			const struct shape *s = &shapes[i];
			struct cx_where want = { 1, COLLX_CALL_ALLREDUCE, COLLX_PHASE_CALL };
			int64_t at;
			struct grove g;

			grove_open(&g, s->ranks, s->leader, (uint64_t)victim);
			for (int r = 0; r < s->ranks; r++)
				grove_begin(&g, r, 8, allreduce_f32());
			grove_run(&g, 5);
			at = (int64_t)grove_now_ms() * MS;
			grove_kill(&g, victim);
			grove_settle(&g, 50);
			cr_expect_eq(expect_one_verdict(&g, s->name), COLLX_ERR_PEER_DEAD);
			if (leads(s, victim))
				want = (struct cx_where){ 0 };
			for (int r = 0; r < s->ranks; r++) {
				const struct cx_cause *c = g.ward[r] ? &g.ward[r]->cause : NULL;

				cr_expect(!c || (!memcmp(&c->where, &want, sizeof(want)) &&
						 c->fault_ns >= at &&
						 c->fault_ns < at + 2 * (int64_t)MS),
					  "%s, death of %d: rank %d: %s %d, %d us after it",
					  s->name, victim, r, cx_call_name(c->where.call),
					  (int)c->where.seq, (int)((c->fault_ns - at) / 1000));
			}
			grove_close(&g);
		}
}

/* What took long before it was an error is that old for all, however they hear of it. */
Test(trees, an_error_is_as_old_everywhere)
{
	const int64_t age_ns = 60000 * (int64_t)MS;

	for (int i = 0; i < SHAPES; i++) {
		const struct shape *s = &shapes[i];
		struct cx_report m = { .code = COLLX_ERR_NOMEM, .about = -1, .text = "old",
				       .where = { 1, COLLX_CALL_REDUCE,
						  COLLX_PHASE_TRANSFERRING } };
		int64_t at;
		struct grove g;

		grove_open(&g, s->ranks, s->leader, 7);
		grove_run(&g, 5);
		/* Before the clock began. */
		m.fault_ns = at = (int64_t)grove_now_ms() * MS - age_ns;
		cx_ward_post(g.ward[s->ranks - 1], &m);
		g.due[s->ranks - 1] = 0;
		grove_settle(&g, 50);
		cr_expect_eq(expect_one_verdict(&g, s->name), COLLX_ERR_NOMEM);
		for (int r = 0; r < s->ranks; r++) {
			const struct cx_cause *c = &g.ward[r]->cause;

			cr_expect(c->fault_ns >= at && c->fault_ns < at + 5 * (int64_t)MS &&
				  c->where.phase == COLLX_PHASE_TRANSFERRING,
				  "%s: rank %d: %d us after it, %s", s->name, r,
				  (int)((c->fault_ns - at) / 1000), cx_phase_name(c->where.phase));
		}
		grove_close(&g);
	}
}

/* A rank that has no communicator, while the others have one. */
Test(trees, creation_that_failed_is_one_error)
{
	struct grove g;

	for (int who = 0; who < 6; who++) {
		grove_open(&g, 6, shapes[4].leader, 3);
		grove_run(&g, 5);
		for (int i = 0; i < g.ward[who]->nstrands; i++)
			cr_assert_eq(cx_wire_send(&g.ward[who]->strands[i].wire, CX_FRAME_FAULT,
						  COLLX_ERR_NOMEM, "no", 2, -1, 0), 0);
		grove_kill(&g, who);
		grove_settle(&g, 50);
		cr_expect_eq(expect_one_verdict(&g, "creation"), COLLX_ERR_NOMEM);
		cr_expect_eq(g.ward[who ? 0 : 1]->cause.where.phase, COLLX_PHASE_CREATION);
		cr_expect_eq(g.ward[who ? 0 : 1]->cause.origin, -1);
		grove_close(&g);
	}
}

/* What the error lists, as bits. */
static uint64_t blamed(const struct grove *g, int r)
{
	struct cx_cause c;

	return cx_guard_cause(g->ward[r], &c) ? c.who.word[0] : 0;
}

/* Whoever they are, unless others hang on them: these know of that one alone. */
Test(trees, several_deaths_are_one_error)
{
	struct grove g;
	char what[96];

	for (int i = 0; i < SHAPES; i++)
		for (unsigned dead = 1; dead < 1u << (shapes[i].ranks - 1); dead++) {
			const struct shape *s = &shapes[i];
			uint64_t leaders = 0;

			for (int r = 0; r < s->ranks; r++)
				leaders |= (uint64_t)1 << s->leader[r];
			for (int r = 0; r < s->ranks; r++) /* of a host of one, it is none */
				if (is_leader(s, r) && r) {
					bool alone = true;

					for (int q = 0; q < s->ranks; q++)
						alone &= q == r || s->leader[q] != r;
					leaders &= ~((uint64_t)alone << r);
				}
			if ((uint64_t)dead << 1 & leaders)
				continue;
			grove_open(&g, s->ranks, s->leader, dead);
			grove_run(&g, 5);
			for (int r = 1; r < s->ranks; r++)
				if (dead >> (r - 1) & 1)
					grove_kill(&g, r);
			grove_settle(&g, 50);
			snprintf(what, sizeof(what), "%s, deaths of %#x", s->name, 2 * dead);
			cr_expect_eq(expect_one_verdict(&g, what), COLLX_ERR_PEER_DEAD);
			for (int r = 0; r < s->ranks; r++)
				cr_assert(!g.ward[r] || blamed(&g, r) == (uint64_t)dead << 1,
					  "%s: rank %d: %s", what, r, grove_text(&g, r));
			grove_close(&g);
		}
}

/* To whom nothing can be sent all is said: who looks when that was last comes no earlier. */
Test(strands, a_mute_one_asks_for_no_heartbeats)
{
	struct cx_strand s;

	cx_strand_open(&s, 1, -1, 5);
	cr_expect(cx_strand_say(&s, CX_FRAME_BEAT, 0, NULL, 0, 9) && s.said_ns == 9);
	s.wire.fd = 99;
	s.mute = true;
	cr_expect(cx_strand_say(&s, CX_FRAME_BEAT, 0, NULL, 0, 12) && s.said_ns == 12);
}

/* While rank 0 waits for more deaths it dies itself, or its process ends after it left. */
Test(trees, a_death_that_rank_0_had_no_time_to_tell_of)
{
	struct grove g;

	for (int leaves = 0; leaves < 2; leaves++) {
		grove_open(&g, 5, (const int[]){ 0, 0, 0, 0, 0 }, (uint64_t)leaves);
		grove_run(&g, 5);
		grove_kill(&g, 2);
		grove_run(&g, 2);
		cr_expect(!grove_code(&g, 1), "rank 0 did not wait");
		if (leaves)
			grove_leave(&g, 0);
		grove_run(&g, 1);
		grove_kill(&g, 0);
		grove_settle(&g, 50);
		cr_expect_eq(expect_one_verdict(&g, "rank 0 goes"), COLLX_ERR_PEER_DEAD);
		cr_expect(blamed(&g, 1) == (leaves ? 4 : 5), "%s", grove_text(&g, 1));
		grove_close(&g);
	}
}

/* What goes on while somebody dies: all are in a call, two report what they see, rank
 * 0 asks. `step` counts the steps of wards until `victim` dies. */
static uint64_t kill_at(struct grove *g, const struct shape *s, int victim, uint64_t step, int code)
{
	int a = s->ranks - 1, b = s->ranks / 2;

	grove_open(g, s->ranks, s->leader, step * 31 + (uint64_t)victim);
	for (int r = 0; r < s->ranks; r++)
		grove_begin(g, r, r == a && code == COLLX_ERR_MISMATCH ? 9 : 8, allreduce_f32());
	grove_post(g, a, code, false, "what the last rank saw");
	grove_post(g, b, COLLX_ERR_PEER_DEAD, true, "what another rank heard");
	g->due[a] = g->due[b] = 0;
	while (g->steps < step && grove_now_ms() < 4000)
		grove_step(g);
	grove_kill(g, victim);
	grove_settle(g, 3000);
	return g->steps;
}

/* Whoever dies, and when: one verdict, of the two that are true. Where a rank dies
 * that others hang on, these know of that alone when the verdict had not come down. */
Test(trees, a_kill_at_every_step, .timeout = 300)
{
	static const int codes[] = { COLLX_ERR_NOMEM, COLLX_ERR_MISMATCH, COLLX_ERR_TIMEOUT };
	uint64_t steps, cases = 0;
	char what[128], dead[CX_FAULT_TEXT_MAX];
	struct grove g;

	for (int i = 0; i < SHAPES; i++)
		for (int victim = 0; victim < shapes[i].ranks; victim++)
			for (uint64_t k = 0, last = 1; k <= last; k++, cases++) {
				int code = codes[(k + (uint64_t)victim) % 3];

				steps = kill_at(&g, &shapes[i], victim, k, code);
				last = steps > last ? cx_min(steps, 120) : last;
				snprintf(what, sizeof(what), "%s, %s, death of %d at step %llu",
					 shapes[i].name, collx_strerror(code), victim,
					 (unsigned long long)k);
				cx_verdict_death_line(dead, victim);
				for (int r = 0; r < g.ranks; r++)
					cr_assert(!g.ward[r] || grove_code(&g, r) == code ||
						  !strcmp(grove_text(&g, r), dead),
						  "%s: rank %d: %s", what, r, grove_text(&g, r));
				if (!is_leader(&shapes[i], victim))
					expect_one_verdict(&g, what);
				for (int r = 1; r < g.ranks; r++) /* all but those below it */
					cr_assert(!victim || !g.ward[r] || !g.ward[0] ||
						  shapes[i].leader[r] == victim ||
						  !strcmp(grove_text(&g, r), grove_text(&g, 0)),
						  "%s: rank %d: %s", what, r, grove_text(&g, r));
				grove_close(&g);
			}
	cr_log_info("%llu kills", (unsigned long long)cases);
	cr_assert_gt(cases, 500);
}

/* Two errors at once at different ranks: 200 times, all shapes, in drawn order. */
Test(trees, two_errors_at_once_give_one_verdict, .timeout = 300)
{
	static const int codes[] = { COLLX_ERR_NOMEM, COLLX_ERR_CORRUPT, COLLX_ERR_TIMEOUT,
				     COLLX_ERR_MISMATCH, COLLX_ERR_SYSTEM };
	int seen[2] = { 0 };
	char what[64];
	struct grove g;

	for (uint64_t seed = 0; seed < 200; seed++)
		for (int i = 0; i < SHAPES; i++) {
			const struct shape *s = &shapes[i];
			uint64_t x = mix64(seed * 100 + (uint64_t)i);
			int a = (int)(x % (uint64_t)s->ranks);
			int b = (a + 1 + (int)(x >> 16 & 255) % (s->ranks - 1)) % s->ranks;
			int c = -1;

			grove_open(&g, s->ranks, s->leader, seed);
			for (int r = 0; r < s->ranks; r++)
				grove_begin(&g, r, 8, allreduce_f32());
			grove_post(&g, a, codes[x >> 32 & 3], false, "what one saw");
			grove_post(&g, b, codes[1 + (x >> 34 & 3)], x >> 40 & 1,
				     "what the other saw");
			g.due[a] = g.due[b] = 0;
			for (int r = 0; x >> 41 & 1 && r < s->ranks; r++)
				if (!is_leader(s, r) && r != a && r != b)
					c = r;
			if (c >= 0)
				grove_kill(&g, c);
			grove_settle(&g, 3000);
			snprintf(what, sizeof(what), "seed %llu, %s", (unsigned long long)seed,
				 s->name);
			expect_one_verdict(&g, what);
			seen[strstr(any_text(&g), "one saw") != NULL]++;
			grove_close(&g);
		}
	cr_assert(seen[0] > 100 && seen[1] > 100, "%d and %d: the order is not drawn", seen[0],
		  seen[1]);
}

Test(trees, ranks_leave_in_any_order_without_an_error)
{
	struct grove g;

	for (int i = 0; i < SHAPES; i++)
		for (uint64_t seed = 0; seed < 40; seed++) {
			int n = shapes[i].ranks;

			grove_open(&g, n, shapes[i].leader, seed);
			for (int r = 0; r < n; r++) {
				grove_begin(&g, r, 8, allreduce_f32());
				grove_end(&g, r);
			}
			for (int k = 0; k < n; k++) {
				int r = (k * 7 + (int)seed) % n;

				for (int left = 0; !g.ward[r] && left < n; left++)
					r = (r + 1) % n;
				grove_leave(&g, r);
				grove_run(&g, seed % 3);
			}
			grove_run(&g, 10);
			for (int r = 0; r < n; r++)
				cr_assert_null(g.ward[r], "%s: rank %d is there: %s",
					       shapes[i].name, r, grove_text(&g, r));
			grove_close(&g);
		}
}

/* The others go on in the call that the leaver has finished; the next one fails. */
Test(trees, who_left_is_missed_by_later_calls_only)
{
	struct grove g;

	for (int i = 0; i < SHAPES; i++)
		for (int leaver = 0; leaver < shapes[i].ranks; leaver++) {
			int n = shapes[i].ranks, next = (leaver + 1) % n;
			char text[CX_FAULT_TEXT_MAX];

			grove_open(&g, n, shapes[i].leader, (uint64_t)leaver);
			for (int r = 0; r < n; r++)
				grove_begin(&g, r, 8, allreduce_f32());
			grove_end(&g, leaver);
			grove_leave(&g, leaver);
			grove_run(&g, 20);
			for (int r = 0; r < n; r++)
				cr_assert(r == leaver ||
					  (!grove_code(&g, r) && cx_calls_may(&g.calls[r], 1) &&
					   !cx_calls_may(&g.calls[r], 2) &&
					   cx_guard_has_left(g.ward[r], leaver)),
					  "%s, %d left: rank %d", shapes[i].name, leaver, r);
			for (int r = 0; r < n; r++) {
				if (r == leaver)
					continue;
				grove_end(&g, r);
				grove_begin(&g, r, 8, allreduce_f32());
				grove_post(&g, r, COLLX_ERR_PEER_DEAD, true, "a lane");
			}
			grove_settle(&g, 100);
			cr_expect_eq(expect_one_verdict(&g, shapes[i].name), COLLX_ERR_PEER_LEFT);
			cx_verdict_left_line(text, leaver, 2);
			cr_expect_str_eq(grove_text(&g, next), text);
			grove_close(&g);
		}
}

/* A rank that others hang on has left; then somebody dies, or leaves. */
static void go_after(const struct shape *s, int leader, int next, bool dies)
{
	char text[CX_FAULT_TEXT_MAX], what[96];
	struct grove g;

	snprintf(what, sizeof(what), "%s, %d left, then %d", s->name, leader, next);
	grove_open(&g, s->ranks, s->leader, (uint64_t)next);
	grove_leave(&g, leader);
	grove_run(&g, 3000);
	(dies ? grove_kill : grove_leave)(&g, next);
	grove_run(&g, 50);
	if (dies && any_text(&g)[0]) {
		cx_verdict_death_line(text, next);
		cr_expect_eq(expect_one_verdict(&g, what), COLLX_ERR_PEER_DEAD, "%s", what);
		cr_expect_str_eq(any_text(&g), text, "%s", what);
	}
	for (int r = 0; r < g.ranks; r++)
		cr_expect(r == leader || r == next || (dies ? grove_code(&g, r) != 0 :
			  cx_guard_has_left(g.ward[r], leader) &&
			  cx_guard_has_left(g.ward[r], next) && !cx_guard_is_blind(g.ward[r])),
			  "%s: rank %d", what, r);
	grove_run(&g, 2100);
	cr_expect(!g.ward[leader] || (!dies && g.ranks > 2), "%s: it goes on", what);
	grove_close(&g);
}

Test(trees, who_left_passes_on_what_those_below_say)
{
	for (int i = 0; i < SHAPES; i++)
		for (int a = 0; a < shapes[i].ranks; a++)
			for (int b = 0; b < shapes[i].ranks; b++)
				if (is_leader(&shapes[i], a) && a != b) {
					go_after(&shapes[i], a, b, true);
					go_after(&shapes[i], a, b, false);
				}
}

/* Its guard goes on, and hears those below: of their silence nobody else can tell. */
Test(trees, who_left_tells_of_silence_below)
{
	const int leader[] = { 0, 0, 2, 2 };
	struct cx_report silent;
	struct grove g;
	struct cx_ward *w;

	grove_open(&g, 4, leader, 1);
	grove_leave(&g, 2);
	grove_run(&g, 100);
	w = g.ward[2];
	cr_assert(w && cx_guard_has_left(g.ward[0], 2));
	silent = cx_ward_sight(w, COLLX_ERR_PEER_SILENT, 3, "rank 3 is silent", cx_now_ns());
	for (int i = 0; i < w->nstrands; i++)
		if (w->strands[i].rank == 3)
			cx_ward_give_up_on(w, &w->strands[i], &silent, cx_now_ns());
	g.due[2] = 0;
	grove_run(&g, 600);
	cr_expect_eq(grove_code(&g, 0), COLLX_ERR_PEER_SILENT);
	cr_expect_eq(grove_code(&g, 1), COLLX_ERR_PEER_SILENT);
	grove_close(&g);
}

/* The caller has what it gave back as soon as the farewell is said. */
Test(trees, who_left_keeps_nothing_of_its_caller)
{
	const int leader[] = { 0, 0, 0 };
	struct grove g;

	grove_open(&g, 3, leader, 1);
	grove_leave(&g, 0);
	grove_run(&g, 1);
	cr_assert(g.ward[0] && g.ward[0]->calls == &g.ward[0]->own);
	grove_leave(&g, 1);
	grove_run(&g, 5);
	cr_expect(g.ward[0] && !g.ward[1]);
	grove_close(&g);
}

/* Rank 0 has left, having done its part, and its process ended; then another one dies:
 * its lanes tell. */
Test(trees, those_below_who_left_decide_for_themselves)
{
	const int leader[] = { 0, 0, 0, 0 };
	struct grove g;

	grove_open(&g, 4, leader, 1);
	for (int r = 0; r < 4; r++)
		grove_begin(&g, r, 8, allreduce_f32());
	grove_end(&g, 0);
	grove_leave(&g, 0);
	grove_run(&g, 20);
	cr_expect(!cx_guard_is_blind(g.ward[1]));
	grove_kill(&g, 0);
	grove_run(&g, 20);
	cr_expect(cx_guard_is_blind(g.ward[1]) && !grove_code(&g, 1));
	grove_kill(&g, 2);
	grove_post(&g, 1, COLLX_ERR_PEER_DEAD, true, "rank 2 closed its connection");
	grove_post(&g, 3, COLLX_ERR_TIMEOUT, false, "rank 3 waited 60.0 s");
	g.due[1] = g.due[3] = 0;
	grove_settle(&g, 600);
	cr_expect_eq(grove_code(&g, 1), COLLX_ERR_LINK);
	cr_expect_eq(grove_code(&g, 3), COLLX_ERR_TIMEOUT);
	cr_expect_str_eq(grove_text(&g, 3), "rank 3 waited 60.0 s");
	grove_close(&g);
}

Test(trees, calls_that_never_meet_are_found_by_a_nudge)
{
	struct grove g;

	for (int i = 0; i < SHAPES; i++)
		for (int odd = 0; odd < shapes[i].ranks; odd++) {
			int n = shapes[i].ranks;
			char rank[32];
			uint64_t start;

			grove_open(&g, n, shapes[i].leader, (uint64_t)odd);
			for (int r = 0; r < n; r++)
				grove_begin(&g, r, 8,
					    r == odd ? broadcast_f32(0) : allreduce_f32());
			start = grove_now_ms();
			/* Half the ranks wait, the odd one does not. */
			for (int r = 0; r < n; r++)
				if (r != odd && (n < 3 || r % 2))
					grove_nudge(&g, r);
			grove_settle(&g, 300);
			cr_expect_eq(expect_one_verdict(&g, shapes[i].name), COLLX_ERR_MISMATCH);
			snprintf(rank, sizeof(rank), n > 2 ? "rank %d called broadcast" : "rank %d",
				 odd);
			cr_expect_not_null(strstr(any_text(&g), rank), "%s", any_text(&g));
			cr_expect_leq(grove_now_ms() - start, 1, "%s: it took %llu ms",
				      shapes[i].name, (unsigned long long)(grove_now_ms() - start));
			grove_close(&g);
		}
}

Test(trees, equal_calls_stay_equal)
{
	struct grove g;

	for (int i = 0; i < SHAPES; i++) {
		int n = shapes[i].ranks;

		grove_open(&g, n, shapes[i].leader, (uint64_t)i);
		for (int k = 0; k < 300; k++)
			for (int r = 0; r < n; r++) {
				grove_begin(&g, r, (uint64_t)k, allreduce_f32());
				if (mix64((uint64_t)(k * 17 + r)) % 3)
					grove_nudge(&g, r);
				grove_run(&g, (unsigned)(r + k) % 5 ? 0 : 7);
				grove_end(&g, r);
			}
		grove_run(&g, 3000);
		for (int r = 0; r < n; r++)
			cr_assert_eq(grove_code(&g, r), 0, "%s: rank %d: %s", shapes[i].name, r,
				     grove_text(&g, r));
		grove_close(&g);
	}
}

Test(trees, a_timeout_says_since_when_somebody_is_outside)
{
	const int leader[] = { 0, 0, 2, 2 };
	struct grove g;

	grove_open(&g, 4, leader, 1);
	for (int r = 0; r < 4; r++) {
		grove_begin(&g, r, 8, allreduce_f32());
		grove_end(&g, r);
	}
	for (int r = 0; r < 3; r++)
		grove_begin(&g, r, 8, allreduce_f32());
	grove_nudge(&g, 1);
	grove_run(&g, 30000);
	grove_post(&g, 1, COLLX_ERR_TIMEOUT, false, "it took long");
	g.due[1] = 0;
	grove_settle(&g, 1000);
	cr_expect_eq(expect_one_verdict(&g, "timeout"), COLLX_ERR_TIMEOUT);
	cr_expect_str_eq(grove_text(&g, 3), "it took long; missing: rank 3 (in no collective for "
			 "30 s after operation 1)");
	grove_close(&g);
}

/* ---- ranks that stop, and ranks that lie ---- */

Test(trees, without_an_answer_a_report_is_its_own_verdict)
{
	const int leader[] = { 0, 0, 0 };
	struct grove g;

	grove_open(&g, 3, leader, 1);
	grove_post(&g, 2, COLLX_ERR_NOMEM, false, "no memory");
	cx_ward_step(g.ward[2], NULL, grove_now_ms() * MS);
	cr_expect_eq(cx_ward_step(g.ward[2], NULL, (grove_now_ms() + 1999) * MS),
		     (grove_now_ms() + 2000) * MS);
	cr_expect_eq(grove_code(&g, 2), 0);
	cx_ward_step(g.ward[2], NULL, (grove_now_ms() + 2000) * MS);
	cr_expect_eq(grove_code(&g, 2), COLLX_ERR_NOMEM);
	cr_expect(!cx_calls_may(&g.calls[2], 1));
	grove_close(&g);
}

Test(trees, a_rank_that_does_not_read)
{
	const int leader[] = { 0, 0, 0 };
	struct cx_account a = account_of(9, true, 0);
	struct cx_strand *s;
	struct grove g;
	int least = 1;

	grove_open(&g, 3, leader, 1);
	grove_run(&g, 3);
	s = &g.ward[0]->strands[0];
	cr_assert_eq(s->rank, 1);
	setsockopt(s->wire.fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof(least));
	while (cx_wire_push(&s->wire, &a, sizeof(a)) > 0)
		; /* rank 1's guard would take this for damage, but it does not run */
	/* Questions are left out then, and never fill more than half the buffer. */
	for (uint64_t i = 0; i < 4000; i++) {
		atomic_store(&g.ward[0]->nudged, true);
		cx_ward_step(g.ward[0], NULL, (grove_now_ms() + 1000 * i) * MS);
	}
	cr_expect(s->len > 100 && s->len - s->at <= g.ward[0]->out_room / 2 + 8, "%zu bytes wait",
		  s->len - s->at);
	cr_expect(s->wire.fd >= 0 && !grove_code(&g, 0));
	/* What may not be left out ends it. */
	s->room = s->len - s->at + 10;
	atomic_store(&g.ward[2]->leaving, 1);
	cx_ward_step(g.ward[2], NULL, grove_now_ms() * MS);
	cx_ward_step(g.ward[0], NULL, grove_now_ms() * MS);
	cr_expect(s->wire.fd < 0 && grove_code(&g, 0) == COLLX_ERR_PEER_SILENT, "%d: %s",
		  grove_code(&g, 0), grove_text(&g, 0));
	cr_expect_str_eq(grove_text(&g, 0), "rank 1 does not read its control connection");
	grove_close(&g);
}

/* Sends from rank 4 of "two hosts" to its leader 3, as a liar would. */
static void lie(struct grove *g, int kind, int arg, const void *body, size_t len)
{
	struct cx_wire *w = &g->ward[4]->strands[0].wire;

	cr_assert_eq(cx_wire_send(w, (enum cx_frame_kind)kind, arg, body, len, -1, 0), 0);
}

static void expect_lie_found(struct grove *g, const char *what)
{
	grove_settle(g, 50);
	cr_expect_eq(grove_code(g, 0), COLLX_ERR_CORRUPT, "%s: %s", what, grove_text(g, 0));
	for (int r = 0; r <= 4; r += 4) /* the liar is told, too */
		cr_expect_str_eq(grove_text(g, r), "rank 4 sent a damaged control frame", "%s",
				 what);
	grove_close(g);
}

Test(trees, lies_are_not_believed)
{
	struct cx_report_body b = { -1, COLLX_ERR_NOMEM, 0, 0,
				    { 1, COLLX_CALL_BARRIER, COLLX_PHASE_WAITING }, 5, "ouch" };
	const size_t len = offsetof(struct cx_report_body, text) + 4;
	struct cx_account a = account_of(9, true, 0);
	uint64_t leave[2] = { 3, 0 };
	struct grove g;
	const struct {
		const char *what;
		int kind, arg;
		const void *body;
		size_t len;
	} lies[] = {
		{ "another's report", CX_FRAME_REPORT, 5, &b, len },
		{ "rank 0's report", CX_FRAME_REPORT, 0, &b, len },
		{ "rank 99's report", CX_FRAME_REPORT, 99, &b, len },
		{ "nobody's report", CX_FRAME_REPORT, -5, &b, len },
		{ "a short report", CX_FRAME_REPORT, 4, &b, len - 5 },
		{ "another's leave", CX_FRAME_LEAVE, 5, &leave, sizeof(leave) },
		{ "a far leave", CX_FRAME_LEAVE, 1, &leave, sizeof(leave) },
		{ "a short leave", CX_FRAME_LEAVE, 4, &leave, 4 },
		{ "another's signs", CX_FRAME_SIGNS, 3, &a, sizeof(a) },
		{ "short signs", CX_FRAME_SIGNS, 4, &a, sizeof(a) - 1 },
		{ "a verdict", CX_FRAME_VERDICT, COLLX_ERR_NOMEM, "ha", 2 },
		{ "a question", CX_FRAME_ASK, 1, NULL, 0 },
		{ "a record", CX_FRAME_RECORD, 4, "ha", 2 },
		{ "a fault that is none", CX_FRAME_FAULT, 0, "ha", 2 },
		{ "what is unknown", 31, 0, "ha", 2 },
	};

	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		grove_open(&g, 6, shapes[4].leader, i);
		lie(&g, lies[i].kind, lies[i].arg, lies[i].body, lies[i].len);
		expect_lie_found(&g, lies[i].what);
	}
}

/* A report of rank 4 in which one word is none that a rank can say. */
static void spoil(struct cx_report_body *b, int how)
{
	switch (how) {
	case 0: b->code = 0; break;
	case 1: b->code = COLLX_ERR_INTERNAL - 1; break;
	case 2: b->about = 6; break;
	case 3: b->about = -2; break;
	case 4: b->hearsay = 2; break;
	case 5: b->sys_errno = -1; break;
	case 6: b->where.call = COLLX_CALL_COUNT; break;
	case 7: b->where.call = COLLX_CALL_SEND; break; /* which has no number */
	case 8: b->where.call = COLLX_CALL_NONE; break;
	case 9: b->where.seq = 0; break;
	case 10: b->where.phase = COLLX_PHASE_COUNT; break;
	case 11: b->where.phase = COLLX_PHASE_NONE; break; /* in a call */
	case 12: b->where.phase = UINT32_MAX; break;
	default: b->age_us = UINT64_MAX; break;
	}
}
enum { SPOILT = 14 };

Test(trees, of_a_report_every_word_is_looked_at)
{
	for (int how = 0; how <= SPOILT; how++) {
		struct cx_report_body b = { -1, COLLX_ERR_NOMEM, 0, 0,
					    { 1, COLLX_CALL_BARRIER, COLLX_PHASE_WAITING }, 5,
					    "ouch" };
		struct grove g;

		if (how < SPOILT)
			spoil(&b, how);
		grove_open(&g, 6, shapes[4].leader, 1);
		lie(&g, CX_FRAME_REPORT, 4, &b, offsetof(struct cx_report_body, text) + 4);
		if (how < SPOILT) {
			expect_lie_found(&g, "a bad report");
			continue;
		}
		grove_settle(&g, 50); /* and that one is right */
		cr_expect_eq(expect_one_verdict(&g, "a good report"), COLLX_ERR_NOMEM);
		cr_expect_str_eq(grove_text(&g, 1), "ouch");
		grove_close(&g);
	}
}

/* Of a verdict, which comes from above, the same. */
Test(trees, of_a_verdict_every_word_is_looked_at)
{
	static const struct cx_set nobody;
	struct cx_verdict_body good = { 1, 2, 0, 0,
					{ 3, COLLX_CALL_REDUCE, COLLX_PHASE_TRANSFERRING }, 7,
					"ouch" };

	for (int how = 0; how < 9; how++) {
		struct cx_verdict_body b = good;
		struct cx_wire w = { .head.len = offsetof(struct cx_verdict_body, text) + 4,
				     .head.arg = how == 0 ? -1000 : COLLX_ERR_NOMEM };
		struct cx_cause c;

		b.origin = how == 1 ? 6 : b.origin;
		b.about = how == 2 ? 6 : b.about;
		b.sys_errno = how == 3 ? INT32_MIN : 0;
		b.unused = how == 4;
		b.where.call = how == 5 ? COLLX_CALL_RECV : b.where.call;
		b.where.phase = how == 6 ? COLLX_PHASE_CREATION : b.where.phase;
		b.age_us = how == 7 ? UINT64_MAX / 2 : b.age_us;
		memcpy(w.body, &b, sizeof(b));
		cr_expect_eq(cx_ward_unpack_verdict(&w, 6, &nobody, &c, 1000000), how == 8,
			     "variation %d", how);
		if (how < 8)
			continue;
		cr_expect(c.origin == 1 && c.about == 2 && cx_set_count(&c.who) == 1 &&
			  c.where.seq == 3 && c.fault_ns == 1000000 - 7000 &&
			  !strcmp(c.text, "ouch"));
	}
}

Test(trees, what_another_rank_says_is_one_line_of_text)
{
	struct grove g;

	grove_open(&g, 6, shapes[4].leader, 1);
	grove_begin(&g, 3, 8, 1);
	grove_post(&g, 3, COLLX_ERR_NOMEM, false, "a\nb\033[2J");
	grove_settle(&g, 1000);
	for (int r = 0; r < 6; r++)
		cr_expect(strstr(grove_text(&g, r), "a?b?[2J"), "rank %d: %s", r,
			  grove_text(&g, r));
	grove_close(&g);
}

/* Random bytes down and up every wire: nothing breaks but the wire. */
Test(trees, noise)
{
	struct grove g;

	for (uint64_t seed = 0; seed < 400; seed++) {
		int from = (int)(mix64(seed) % 6), n;
		unsigned char noise[700];
		struct cx_frame_head head;
		struct cx_strand *s;

		grove_open(&g, 6, shapes[4].leader, seed);
		s = &g.ward[from]->strands[mix64(seed + 7) % (uint64_t)g.ward[from]->nstrands];
		for (size_t i = 0; i < sizeof(noise); i++)
			noise[i] = (unsigned char)mix64(seed * 1000 + i);
		head = cx_frame_head(1 + seed % 9, (int32_t)(mix64(seed + 2) % 14) - 7,
				     noise + sizeof(head), mix64(seed + 1) % 513);
		if (seed % 4)
			memcpy(noise, &head, sizeof(head));
		n = (int)cx_wire_push(&s->wire, noise, sizeof(noise));
		cr_assert_gt(n, 0);
		grove_run(&g, 20);
		grove_close(&g);
	}
}

/* A rank's deadline passed while it was given the last record. */
Test(trees, a_late_word_of_creation)
{
	struct grove g;

	grove_open(&g, 6, shapes[4].leader, 1);
	lie(&g, CX_FRAME_OVERDUE, 4, NULL, 0);
	grove_run(&g, 50);
	for (int r = 0; r < 6; r++)
		cr_expect_eq(grove_code(&g, r), 0, "rank %d: %s", r, grove_text(&g, r));
	grove_close(&g);
}

/* Creation failed at a rank after it had succeeded at the others. */
Test(trees, a_rank_that_could_not_begin)
{
	struct grove g;

	for (int i = 0; i < SHAPES; i++)
		for (int poor = 0; poor < shapes[i].ranks; poor++) {
			grove_open(&g, shapes[i].ranks, shapes[i].leader, (uint64_t)poor);
			cx_ward_refuse(g.ward[poor], COLLX_ERR_NOMEM, "out of memory");
			cr_expect_str_eq(cx_error_text(), "out of memory");
			grove_kill(&g, poor);
			grove_settle(&g, 50);
			cr_expect_eq(expect_one_verdict(&g, shapes[i].name), COLLX_ERR_NOMEM);
			grove_close(&g);
		}
}
