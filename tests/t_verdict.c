/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a rank called, as another thread reads it, and what rank 0 makes of every kind
 * of news.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <criterion/criterion.h>

#include "src/base/base.h"
#include "src/plan.h"
#include "tests/calls.h"

Test(signs, in_words)
{
	static const struct {
		struct cx_sign s;
		const char *words;
	} table[] = {
		{ { 1, 8, CX_BROADCAST << 16 | COLLX_FLOAT32 << 8 | 3ull << 32 },
		  "broadcast(count 8, float32, root 3)" },
		{ { 1, 1, CX_ALLREDUCE << 16 | COLLX_BFLOAT16 << 8 | COLLX_AVG },
		  "allreduce(count 1, bfloat16, avg)" },
		{ { 1, 0, CX_REDUCE << 16 | COLLX_INT8 << 8 | COLLX_MAX | 7ull << 32 },
		  "reduce(count 0, int8, max, root 7)" },
		{ { 1, 3, CX_REDUCE_SCATTER << 16 | COLLX_INT64 << 8 | COLLX_PROD },
		  "reduce_scatter(count 3, int64, prod)" },
		{ { 1, 9, CX_ALLGATHER << 16 | COLLX_UINT8 << 8 }, "allgather(count 9, uint8)" },
		{ { 1, 1, CX_BARRIER << 16 }, "barrier()" },
	};
	char text[128];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		cx_sign_words(&table[i].s, text, sizeof(text));
		cr_expect_str_eq(text, table[i].words);
		cr_expect(cx_sign_is_sound(&table[i].s, 8));
	}
	cr_expect(!cx_sign_is_sound(&table[0].s, 3), "root 3 of 3 ranks");
}

Test(signs, are_read_as_they_were_written)
{
	struct cx_sign out[CX_SIGNS];
	struct cx_calls c;
	uint64_t state;

	cx_calls_init(&c);
	cr_expect(cx_calls_read(&c, &state, out) == 0 && state == 0);
	for (uint64_t seq = 1; seq < 100; seq++) {
		unsigned n = (unsigned)cx_min(seq, CX_SIGNS);

		cx_calls_begin(&c, seq, 10 * seq, 7 * seq);
		cr_assert(cx_calls_read(&c, &state, out) == n && state == 2 * seq - 1);
		for (unsigned i = 0; i < n; i++)
			cr_assert(out[i].seq == seq - n + 1 + i &&
				  out[i].count == 10 * out[i].seq && out[i].what == 7 * out[i].seq);
		cx_calls_end(&c, seq);
		cr_assert(cx_calls_read(&c, &state, out) == n && state == 2 * seq);
	}
}

/* A timer's handler makes 1 to 40 calls wherever it finds the reader. */
static struct cx_calls busy_calls;
static volatile sig_atomic_t interrupts;

static void make_calls(int sig)
{
	uint64_t seq = cx_calls_state(&busy_calls) / 2;

	(void)sig;
	for (int i = 1 + ++interrupts % 40; i > 0; i--) {
		seq++;
		cx_calls_begin(&busy_calls, seq, 10 * seq, 7 * seq);
		cx_calls_end(&busy_calls, seq);
	}
}

Test(signs, are_read_while_they_are_written, .timeout = 60)
{
	const struct itimerval often = { { 0, 100 }, { 0, 100 } }, never = { { 0, 0 }, { 0, 0 } };
	struct cx_sign out[CX_SIGNS];
	uint64_t state, torn = 0;

	cx_calls_init(&busy_calls);
	signal(SIGALRM, make_calls);
	cr_assert_eq(setitimer(ITIMER_REAL, &often, NULL), 0);
	while (interrupts < 4000 && !torn) {
		unsigned n = cx_calls_read(&busy_calls, &state, out);

		for (unsigned i = 0; i < n; i++)
			torn += out[i].seq != (state + 1) / 2 - n + 1 + i ||
				out[i].count != 10 * out[i].seq || out[i].what != 7 * out[i].seq;
	}
	setitimer(ITIMER_REAL, &never, NULL);
	cr_expect_eq(torn, 0);
}

Test(signs, unsound_accounts_are_refused)
{
	struct cx_account good = account_of(9, true, 0), a;
	size_t len = cx_account_len(&good);

	cr_expect(cx_account_is_sound(&good, len, 4));
	for (size_t other = 0; other < 2 * len; other++)
		cr_expect(other == len || !cx_account_is_sound(&good, other, 4));
	a = good;
	a.signs = CX_SIGNS + 1;
	cr_expect(!cx_account_is_sound(&a, cx_account_len(&a), 4));
	a = good;
	a.signs = UINT32_MAX;
	cr_expect(!cx_account_is_sound(&a, len, 4));
	a = good;
	a.state = 3;
	cr_expect(!cx_account_is_sound(&a, len, 4));
	a = good;
	a.state = UINT64_MAX;
	cr_expect(!cx_account_is_sound(&a, len, 4));
	a = good;
	a.sign[3].seq++;
	cr_expect(!cx_account_is_sound(&a, len, 4));
	a = good;
	a.sign[0].what = broadcast_f32(4);
	cr_expect(!cx_account_is_sound(&a, len, 4));
	a = good;
	a.sign[7].what = (uint64_t)CX_NCOLL << 16;
	cr_expect(!cx_account_is_sound(&a, len, 4));
	a = good;
	a.elsewhere = (struct cx_sign){ 1, 8, broadcast_f32(4) }; /* that may be larger */
	cr_expect(cx_account_is_sound(&a, len, 4));
	a.elsewhere.what = (uint64_t)CX_NCOLL << 16;
	cr_expect(!cx_account_is_sound(&a, len, 4));
}

/* ---- rank 0's mind ---- */

static struct cx_report report_of(int origin, int code, bool hearsay, uint64_t seq,
				  const char *text)
{
	struct cx_report r = { .origin = origin, .about = -1, .code = code, .hearsay = hearsay,
			       .where = { seq, COLLX_CALL_ALLREDUCE, COLLX_PHASE_WAITING } };

	snprintf(r.text, sizeof(r.text), "%s", text);
	return r;
}

static void report(struct cx_verdict *v, int origin, int code, bool hearsay, uint64_t seq,
		   const char *text, uint64_t ms)
{
	struct cx_report r = report_of(origin, code, hearsay, seq, text);

	cx_verdict_report(v, &r, ms * MS);
}

/* Rank 0 sees it lost. */
static void lose(struct cx_verdict *v, int rank, int code, uint64_t ms)
{
	struct cx_report r = { .about = rank, .code = code };

	snprintf(r.text, sizeof(r.text), "rank %d %s", rank,
		 code == COLLX_ERR_PEER_DEAD ? "died" : "is silent");
	cx_verdict_report(v, &r, ms * MS);
}

/* What a rank answers to the last question. */
static void answer(struct cx_verdict *v, int rank, struct cx_account a, uint64_t ms)
{
	a.answers = v->question;
	cx_verdict_account(v, rank, &a, ms * MS);
}

static void expect_verdict(struct cx_verdict *v, int code, const char *text)
{
	cr_expect(v->code == code, "%s, not %s: %s", collx_strerror(v->code), collx_strerror(code),
		  v->text);
	cr_expect_str_eq(v->text, text);
	cx_verdict_fini(v);
}

Test(verdict, the_first_cause_counts)
{
	struct cx_verdict v;

	cx_verdict_init(&v, 4);
	report(&v, 3, COLLX_ERR_NOMEM, false, 5, "rank 3 is out of memory", 10);
	report(&v, 1, COLLX_ERR_PEER_DEAD, false, 5, "rank 2 died", 10);
	report(&v, 1, COLLX_ERR_TIMEOUT, false, 5, "late", 11);
	cx_verdict_left(&v, 1, 4, 12 * MS);
	cx_verdict_tick(&v, 9000 * MS);
	expect_verdict(&v, COLLX_ERR_NOMEM, "rank 3 is out of memory");
}

Test(verdict, hearsay_waits_for_better)
{
	struct cx_verdict v;

	cx_verdict_init(&v, 4);
	report(&v, 1, COLLX_ERR_PEER_DEAD, true, 5, "rank 2 closed its connection", 10);
	report(&v, 3, COLLX_ERR_LINK, true, 5, "rank 2 lane 1: reset", 11);
	cx_verdict_tick(&v, 509 * MS);
	cr_expect(!v.code && v.due_ns == 510 * MS);
	lose(&v, 2, COLLX_ERR_PEER_DEAD, 509);
	cr_expect(!v.code && v.due_ns == 514 * MS);
	cx_verdict_tick(&v, 514 * MS);
	expect_verdict(&v, COLLX_ERR_PEER_DEAD, "rank 2 died");
}

Test(verdict, hearsay_alone_is_a_lost_connection)
{
	struct cx_verdict v;

	cx_verdict_init(&v, 4);
	report(&v, 1, COLLX_ERR_PEER_DEAD, true, 5, "rank 2 closed its connection", 10);
	cx_verdict_tick(&v, 510 * MS);
	expect_verdict(&v, COLLX_ERR_LINK, "rank 1 lost a connection, though no process ended: "
		       "rank 2 closed its connection");
	cx_verdict_init(&v, 4);
	report(&v, 1, COLLX_ERR_LINK, true, 5, "rank 2 lane 1: no route", 10);
	cx_verdict_tick(&v, 510 * MS);
	expect_verdict(&v, COLLX_ERR_LINK, "rank 2 lane 1: no route");
}

Test(verdict, hearsay_of_one_who_left)
{
	for (int order = 0; order < 2; order++) {
		struct cx_verdict v;

		cx_verdict_init(&v, 4);
		cx_verdict_left(&v, 3, 9, 1 * MS); /* finished it: no reason */
		if (order)
			cx_verdict_left(&v, 2, 4, 5 * MS);
		report(&v, 1, COLLX_ERR_PEER_DEAD, true, 5, "rank 2 closed its connection", 10);
		cr_expect_eq(!v.code, !order);
		if (!order)
			cx_verdict_left(&v, 2, 4, 20 * MS);
		expect_verdict(&v, COLLX_ERR_PEER_LEFT,
			       "rank 2 left the communicator before operation 5, which needs it");
	}
}

Test(verdict, a_timeout_names_who_is_missing)
{
	struct cx_verdict v;

	cx_verdict_init(&v, 5);
	report(&v, 1, COLLX_ERR_TIMEOUT, false, 17, "allreduce, operation 17: rank 1 waited 60.0 s",
	       10);
	cr_expect(v.question == 1 && v.due_ns == 210 * MS);
	answer(&v, 0, account_of(17, true, 60000), 11);
	answer(&v, 1, account_of(17, true, 60000), 12);
	answer(&v, 2, account_of(16, false, 58000), 13);
	report(&v, 0, COLLX_ERR_TIMEOUT, false, 17, "rank 0 waited", 14);
	answer(&v, 4, account_of(15, true, 61000), 15);
	cx_verdict_tick(&v, 209 * MS);
	cr_expect(!v.code);
	cx_verdict_tick(&v, 210 * MS);
	expect_verdict(&v, COLLX_ERR_TIMEOUT,
		       "allreduce, operation 17: rank 1 waited 60.0 s; missing: rank 2 (in no "
		       "collective for 58 s after operation 16), rank 3 (does not answer), rank 4 "
		       "(in allreduce(count 8, float32, sum), operation 15)");
}

Test(verdict, a_timeout_with_all_in_it)
{
	struct cx_verdict v;

	cx_verdict_init(&v, 2);
	report(&v, 1, COLLX_ERR_TIMEOUT, false, 17, "rank 1 waited 60.0 s", 10);
	answer(&v, 0, account_of(17, true, 60000), 11);
	cr_expect(!v.code);
	answer(&v, 1, account_of(17, true, 60000), 12);
	expect_verdict(&v, COLLX_ERR_TIMEOUT, "rank 1 waited 60.0 s; all ranks are in it");
	cx_verdict_init(&v, 2);
	report(&v, 1, COLLX_ERR_TIMEOUT, false, 1, "rank 1 waited 0.3 s", 10);
	answer(&v, 0, account_of(0, false, 320), 11);
	answer(&v, 1, account_of(1, true, 300), 12);
	expect_verdict(&v, COLLX_ERR_TIMEOUT, "rank 1 waited 0.3 s; missing: rank 0 (in no "
		       "collective for 0.3 s, no operation yet)");
}

Test(verdict, a_timeout_names_the_call_elsewhere)
{
	struct cx_account a = account_of(3, false, 700);
	struct cx_verdict v;

	cx_verdict_init(&v, 2);
	report(&v, 1, COLLX_ERR_TIMEOUT, false, 4, "rank 1 waited 0.7 s", 10);
	a.elsewhere = (struct cx_sign){ 1, 8, broadcast_f32(1) };
	answer(&v, 0, a, 11);
	answer(&v, 1, account_of(4, true, 700), 12);
	expect_verdict(&v, COLLX_ERR_TIMEOUT, "rank 1 waited 0.7 s; missing: rank 0 (in no "
		       "collective for 0.7 s after operation 3, but in broadcast(count 8, float32, "
		       "root 1), operation 1, of another communicator)");
}

Test(verdict, a_mismatch_names_the_calls_and_the_ranks)
{
	struct cx_verdict v;

	cx_verdict_init(&v, 8);
	report(&v, 1, COLLX_ERR_MISMATCH, false, 17, "rank 2 lane 0 sent 8 bytes", 10);
	for (int r = 0; r < 8; r++) {
		/* They are not equally far, and rank 2 differs from operation 17 on. */
		struct cx_account a = account_of(17 + (uint64_t)r % 3, true, 0);

		for (uint32_t i = 0; i < a.signs; i++)
			if (r == 2 && a.sign[i].seq >= 17)
				a.sign[i].what = broadcast_f32(0);
		answer(&v, r, a, 11);
	}
	expect_verdict(&v, COLLX_ERR_MISMATCH,
		       "rank 2 called broadcast(count 8, float32, root 0) as operation 17; ranks "
		       "0, 1, 3-7 called allreduce(count 8, float32, sum)");
}

/* Rank r calls `count[r]` elements. */
static void expect_groups(int ranks, const uint64_t *counts, const char *text)
{
	struct cx_verdict v;

	cx_verdict_init(&v, ranks);
	report(&v, 1, COLLX_ERR_MISMATCH, false, 1, "rank 2 lane 0 sent 8 bytes", 10);
	for (int r = 0; r < ranks; r++) {
		struct cx_account a = account_of(1, true, 0);

		a.sign[0].count = counts[r];
		if (counts[r])
			answer(&v, r, a, 11);
	}
	cx_verdict_tick(&v, 999 * MS);
	expect_verdict(&v, COLLX_ERR_MISMATCH, text);
}

Test(verdict, a_mismatch_of_several_groups)
{
	expect_groups(2, (const uint64_t[]){ 7, 9 },
		      "rank 1 called allreduce(count 9, float32, sum) as operation 1; rank 0 "
		      "called allreduce(count 7, float32, sum)");
	expect_groups(4, (const uint64_t[]){ 7, 9, 7, 9 },
		      "ranks 1, 3 called allreduce(count 9, float32, sum) as operation 1; ranks 0, "
		      "2 called allreduce(count 7, float32, sum)");
	expect_groups(5, (const uint64_t[]){ 5, 5, 4, 4, 3 },
		      "rank 4 called allreduce(count 3, float32, sum) as operation 1; ranks 2, 3 "
		      "called allreduce(count 4, float32, sum); ranks 0, 1 called "
		      "allreduce(count 5, float32, sum)");
	expect_groups(3, (const uint64_t[]){ 5, 0, 6 }, /* rank 1 does not answer */
		      "rank 2 called allreduce(count 6, float32, sum) as operation 1; rank 0 "
		      "called allreduce(count 5, float32, sum)");
	expect_groups(3, (const uint64_t[]){ 5, 5, 5 }, "rank 2 lane 0 sent 8 bytes");
}

Test(verdict, a_list_of_many_ranks_is_cut)
{
	enum { RANKS = 400 };
	struct cx_verdict v;

	cx_verdict_init(&v, RANKS);
	report(&v, 1, COLLX_ERR_MISMATCH, false, 1, "x", 10);
	for (int r = 0; r < RANKS; r++) {
		struct cx_account a = account_of(1, true, 0);

		a.sign[0].count = r % 2 ? 7 : 9;
		answer(&v, r, a, 11);
	}
	cr_expect(strstr(v.text, "ranks 1, 3, 5, ") && strstr(v.text, " more called allreduce") &&
		  strstr(v.text, "(count 7,") && strstr(v.text, "(count 9,"), "%s", v.text);
	cx_verdict_fini(&v);
}

Test(verdict, calls_that_never_meet_are_compared_as_they_come)
{
	struct cx_verdict v;
	struct cx_account a = account_of(3, true, 0);

	cx_verdict_init(&v, 3);
	cx_verdict_account(&v, 0, &a, 10 * MS);
	a.sign[2].count = 9;
	cx_verdict_account(&v, 2, &a, 11 * MS);
	cr_expect(!v.code && v.question == 1, "others may have called either: they are asked");
	answer(&v, 0, account_of(3, true, 0), 12);
	answer(&v, 1, account_of(3, true, 0), 12);
	answer(&v, 2, a, 12);
	expect_verdict(&v, COLLX_ERR_MISMATCH,
		       "rank 2 called allreduce(count 9, float32, sum) as operation 3; ranks 0, 1 "
		       "called allreduce(count 8, float32, sum)");
}

Test(verdict, a_mismatch_waits_for_late_ranks)
{
	struct cx_account a = account_of(3, true, 0);
	struct cx_verdict v;

	cx_verdict_init(&v, 3);
	report(&v, 1, COLLX_ERR_MISMATCH, false, 3, "rank 0 lane 0 sent 8 bytes", 10);
	a.sign[2].count = 9;
	answer(&v, 0, account_of(3, true, 0), 11);
	answer(&v, 1, a, 11);
	answer(&v, 2, account_of(2, false, 5), 12);
	cr_expect(!v.code && v.question == 1 && v.due_ns == 32 * MS);
	cx_verdict_tick(&v, 31 * MS);
	cr_expect(!v.code && v.question == 1);
	cx_verdict_tick(&v, 32 * MS);
	cr_expect(!v.code && v.question == 2 && v.due_ns == 210 * MS);
	answer(&v, 1, a, 33);
	answer(&v, 2, account_of(3, true, 0), 33);
	cr_expect(!v.code);
	answer(&v, 0, account_of(3, true, 0), 34);
	expect_verdict(&v, COLLX_ERR_MISMATCH,
		       "rank 1 called allreduce(count 9, float32, sum) as operation 3; ranks 0, 2 "
		       "called allreduce(count 8, float32, sum)");
}

Test(verdict, a_timeout_may_turn_out_a_mismatch)
{
	struct cx_account a = account_of(20, true, 0);
	struct cx_verdict v;

	cx_verdict_init(&v, 2);
	report(&v, 1, COLLX_ERR_TIMEOUT, false, 17, "rank 1 waited 60.0 s", 10);
	a.sign[4].count = 9;
	answer(&v, 0, a, 11);
	answer(&v, 1, account_of(17, true, 0), 12);
	expect_verdict(&v, COLLX_ERR_MISMATCH,
		       "rank 1 called allreduce(count 8, float32, sum) as operation 17; rank 0 "
		       "called allreduce(count 9, float32, sum)");
}

/* Are these the ones that it blames? */
static void expect_blamed(const struct cx_verdict *v, uint64_t who)
{
	cr_expect(v->who.word[0] == who && v->about == __builtin_ctzll(who), "%#llx, from %d on",
		  (unsigned long long)v->who.word[0], v->about);
}

Test(verdict, names_all_who_die_together)
{
	struct cx_verdict v;

	cx_verdict_init(&v, 8);
	lose(&v, 5, COLLX_ERR_PEER_DEAD, 10);
	cx_verdict_lost(&v, 2, CX_LOSS_DEATH);
	report(&v, 1, COLLX_ERR_TIMEOUT, false, 5, "late", 11);
	report(&v, 1, COLLX_ERR_PEER_DEAD, true, 5, "rank 7 closed its connection", 11);
	lose(&v, 4, COLLX_ERR_PEER_SILENT, 12);
	lose(&v, 3, COLLX_ERR_PEER_DEAD, 14);
	cx_verdict_tick(&v, 14 * MS);
	cr_expect(!v.code && v.due_ns == 15 * MS);
	cx_verdict_tick(&v, 15 * MS);
	expect_blamed(&v, 1 << 2 | 1 << 3 | 1 << 5);
	cx_verdict_lost(&v, 6, CX_LOSS_DEATH);
	expect_blamed(&v, 1 << 2 | 1 << 3 | 1 << 5);
	expect_verdict(&v, COLLX_ERR_PEER_DEAD,
		       "ranks 2, 3, 5 died: their processes ended without leaving (control "
		       "connections closed)");
}

Test(verdict, waits_for_no_more_deaths_than_there_can_be)
{
	struct cx_verdict v;

	cx_verdict_init(&v, 5);
	cx_verdict_left(&v, 4, 7, 1 * MS);
	lose(&v, 3, COLLX_ERR_PEER_DEAD, 10);
	lose(&v, 1, COLLX_ERR_PEER_DEAD, 10);
	cx_verdict_tick(&v, 10 * MS);
	cr_expect(!v.code, "rank 2 may have died");
	lose(&v, 2, COLLX_ERR_PEER_DEAD, 10);
	cx_verdict_tick(&v, 10 * MS);
	expect_verdict(&v, COLLX_ERR_PEER_DEAD,
		       "ranks 1-3 died: their processes ended without leaving (control "
		       "connections closed)");
	cx_verdict_init(&v, 2);
	lose(&v, 1, COLLX_ERR_PEER_DEAD, 10);
	expect_verdict(&v, COLLX_ERR_PEER_DEAD, "rank 1 died");
}

/* While somebody is known to die, but not for ever. */
Test(verdict, waits_for_the_dying)
{
	struct cx_verdict v;
	uint64_t ms;

	cx_verdict_init(&v, 5);
	lose(&v, 3, COLLX_ERR_PEER_DEAD, 10);
	for (ms = 10; !v.code && ms < 1000; ms++) {
		if (v.due_ns <= ms * MS)
			cx_verdict_wait(&v, ms * MS);
		cx_verdict_tick(&v, ms * MS);
	}
	cr_expect(ms == 61, "%d ms", (int)ms);
	expect_blamed(&v, 1 << 3);
	expect_verdict(&v, COLLX_ERR_PEER_DEAD, "rank 3 died");
}

Test(verdict, names_all_who_fall_silent_together)
{
	for (int stopped = 1; stopped <= 2; stopped++) {
		struct cx_verdict v;

		cx_verdict_init(&v, 8);
		v.silence_ns = 3000 * MS;
		lose(&v, 6, COLLX_ERR_PEER_SILENT, 10);
		cx_verdict_lost(&v, 6, CX_LOSS_STOP);
		cx_verdict_lost(&v, 1, stopped == 2 ? CX_LOSS_STOP : CX_LOSS_SILENCE);
		cx_verdict_tick(&v, 15 * MS);
		expect_blamed(&v, 1 << 1 | 1 << 6);
		expect_verdict(&v, COLLX_ERR_PEER_SILENT,
			       stopped == 2 ? "ranks 1, 6 are silent: no heartbeat for 3.0 s, "
					      "though their connections are open (their processes "
					      "are stopped: state T)"
					    : "ranks 1, 6 are silent: no heartbeat for 3.0 s, "
					      "though their connections are open (stopped, or "
					      "cut off?)");
	}
}

/* Of a rank that a set has no room for the verdict is as of one alone. */
Test(verdict, of_a_rank_beyond_all_sets)
{
	struct cx_verdict v;

	cx_verdict_init(&v, 3000);
	lose(&v, 2500, COLLX_ERR_PEER_DEAD, 10);
	cr_expect(v.about == 2500 && !cx_set_count(&v.who));
	expect_verdict(&v, COLLX_ERR_PEER_DEAD, "rank 2500 died");
}

Test(verdict, where_a_rank_was)
{
	static const struct {
		struct cx_where w;
		bool sound;
	} table[] = {
		{ { 0, COLLX_CALL_NONE, COLLX_PHASE_NONE }, true },
		{ { 0, COLLX_CALL_NONE, COLLX_PHASE_CREATION }, true },
		{ { 0, COLLX_CALL_NONE, COLLX_PHASE_DECIDING }, true },
		{ { 5, COLLX_CALL_ALLREDUCE, COLLX_PHASE_CALL }, true },
		{ { 5, COLLX_CALL_BARRIER, COLLX_PHASE_TRANSFERRING }, true },
		{ { 0, COLLX_CALL_SEND, COLLX_PHASE_WAITING }, true },
		{ { 0, COLLX_CALL_RECV, COLLX_PHASE_TRANSFERRING }, true },
		{ { 0, COLLX_CALL_NONE, COLLX_PHASE_CALL }, false },
		{ { 5, COLLX_CALL_NONE, COLLX_PHASE_NONE }, false },
		{ { 0, COLLX_CALL_ALLREDUCE, COLLX_PHASE_CALL }, false },
		{ { 5, COLLX_CALL_SEND, COLLX_PHASE_WAITING }, false },
		{ { 5, COLLX_CALL_REDUCE, COLLX_PHASE_DECIDING }, false },
		{ { 5, COLLX_CALL_COUNT, COLLX_PHASE_CALL }, false },
		{ { 0, COLLX_CALL_NONE, COLLX_PHASE_COUNT }, false },
	};
	struct cx_calls c;
	struct cx_where w;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		cr_expect_eq(cx_where_is_sound(&table[i].w), table[i].sound, "row %zu", i);
	cx_calls_init(&c);
	w = cx_calls_where(&c);
	cr_expect(!w.seq && !w.call && !w.phase);
	for (unsigned coll = 0; coll < CX_NCOLL; coll++) {
		cx_calls_begin(&c, coll + 1, 8, cx_sign_what(coll, COLLX_FLOAT32, 0, 3) |
							 CX_SIGN_UNIFORM);
		w = cx_calls_where(&c);
		cr_expect(w.seq == coll + 1 && w.phase == COLLX_PHASE_CALL &&
			  cx_where_is_sound(&w));
		cr_expect_str_eq(cx_call_name(w.call), cx_coll_name((enum cx_coll)coll));
		cx_calls_end(&c, coll + 1);
		w = cx_calls_where(&c);
		cr_expect(!w.seq && !w.call && !w.phase);
	}
	cr_expect_str_eq(cx_call_name(COLLX_CALL_RECV), "recv");
	cr_expect_str_eq(cx_call_name(99), "none");
	cr_expect_str_eq(cx_phase_name(COLLX_PHASE_DECIDING), "deciding");
}

Test(verdict, a_wish_names_whose_it_is)
{
	static const int ranks[] = { 0, 9, 10, 2047, 1234567 };
	char text[64];

	for (size_t i = 0; i < sizeof(ranks) / sizeof(ranks[0]); i++) {
		struct cx_cause c = cx_cause_of_wish(COLLX_ERR_ABORTED, ranks[i], 5);

		snprintf(text, sizeof(text), "rank %d aborted the communicator", ranks[i]);
		cr_expect_str_eq(c.text, text);
		cr_expect(c.fault_ns == 5 && !c.where.call && !c.where.phase);
	}
}

Test(verdict, causes_of_others_are_checked)
{
	struct cx_cause c = cx_cause_of_wish(COLLX_ERR_ABORTED, 2, 5);

	cr_expect(cx_cause_is_sound(&c, 4) && !cx_cause_is_sound(&c, 2));
	cx_set_add(&c.who, 3);
	cr_expect(cx_cause_is_sound(&c, 4) && !cx_cause_is_sound(&c, 3));
	cx_set_add(&c.who, 1);
	cr_expect(!cx_cause_is_sound(&c, 4), "rank 1 is before the first");
	c.about = 1;
	cr_expect(cx_cause_is_sound(&c, 4) && cx_cause_is_sound(&c, 3000));
	cx_set_add(&c.who, 2047);
	cr_expect(!cx_cause_is_sound(&c, 2047) && cx_cause_is_sound(&c, 2048));
	c.about = -1;
	cr_expect(!cx_cause_is_sound(&c, 3000), "nobody, and somebody");
	c.who = (struct cx_set){ { 0 } };
	cr_expect(cx_cause_is_sound(&c, 4));
	c.about = 2;
	cr_expect(!cx_cause_is_sound(&c, 4), "somebody, and nobody");
	c.about = 2500;
	cr_expect(cx_cause_is_sound(&c, 3000) && !cx_cause_is_sound(&c, 2500));
}

/* What is known of a rank is as old as its last heartbeat. */
Test(verdict, nobody_is_late_by_old_news)
{
	struct cx_account waits = account_of(9, true, 60), old = account_of(3, false, 0);
	struct cx_late late;
	struct cx_verdict v;

	cx_verdict_init(&v, 2);
	cx_verdict_account(&v, 1, &old, 100 * MS);
	cx_verdict_account(&v, 0, &waits, 400 * MS); /* since 340 */
	cr_expect_eq(cx_verdict_late(&v, 50).rank, -1, "rank 1 was behind 300 ms ago");
	old = account_of(8, false, 20);
	cx_verdict_account(&v, 1, &old, 389 * MS);
	cr_expect_eq(cx_verdict_late(&v, 50).rank, -1);
	cx_verdict_account(&v, 1, &old, 390 * MS);
	late = cx_verdict_late(&v, 50);
	cr_expect(late.rank == 1 && late.sign.seq == 9 && late.waited_ms == 60, "rank %d, %d",
		  late.rank, (int)late.sign.seq);
	cx_verdict_fini(&v);
}

Test(verdict, questions_are_rare)
{
	struct cx_verdict v;

	cx_verdict_init(&v, 2);
	for (uint64_t ms = 10; ms < 3000; ms++)
		cx_verdict_ask(&v, ms * MS);
	cr_expect_eq(v.question, 3, "%u questions in 3 s", v.question);
	cx_verdict_fini(&v);
}

/* ---- what tests of whole councils of wards seldom meet ---- */

Test(signs, accounts_at_their_bounds)
{
	struct cx_account a = account_of(9, true, 0);
	size_t least = offsetof(struct cx_account, sign);

	a.signs = 0;
	cr_expect(cx_account_is_sound(&a, least, 4), "none is known");
	cr_expect(!cx_account_is_sound(&a, least - 1, 4));
	a = account_of(CX_SIGNS, true, 0);
	cr_expect(a.signs == CX_SIGNS && cx_account_is_sound(&a, cx_account_len(&a), 4),
		  "all that it ever called");
}

Test(verdict, causes_of_reports)
{
	static const int code[] = { COLLX_ERR_PEER_DEAD, COLLX_ERR_PEER_SILENT, COLLX_ERR_NOMEM };
	struct cx_cause c;

	for (int i = 0; i < 3; i++) {
		struct cx_report r = report_of(3, code[i], false, 5, "why");

		r.about = 0;
		r.sys_errno = 7;
		c = cx_cause_of_report(&r);
		cr_expect(c.code == code[i] && c.about == 0 && c.sys_errno == 7);
		cr_expect_eq(c.who.word[0], 1);
		cr_expect_eq(c.origin, i < 2 ? -1 : 3, "whose, is of no interest");
		cr_expect_eq(c.where.seq, 5);
		cr_expect_str_eq(c.text, "why");
	}
	c = cx_cause_of_wish(COLLX_ERR_REVOKED, 2, 0);
	cr_expect_str_eq(c.text, "a rank revoked the communicator, for it to be repaired");
	c = cx_cause_of_wish(COLLX_ERR_ABORTED, 2, 0);
	cr_expect_str_eq(c.text, "rank 2 aborted the communicator");
	cr_expect(c.origin == 2 && c.about == 2 && c.who.word[0] == 1 << 2);
	c.origin = -1;
	cr_expect(cx_cause_is_sound(&c, 4));
	c.origin = -2;
	cr_expect(!cx_cause_is_sound(&c, 4));
	c.origin = 3;
	cr_expect(cx_cause_is_sound(&c, 4) && !cx_cause_is_sound(&c, 3));
	c = (struct cx_cause){ .code = COLLX_ERR_NOMEM, .about = -2 };
	cr_expect(!cx_cause_is_sound(&c, 4));
}

Test(verdict, lines)
{
	char text[CX_FAULT_TEXT_MAX];

	cx_verdict_death_line(text, 3);
	cr_expect_str_eq(text, "rank 3 died: its process ended without leaving (control "
			       "connection closed)");
	for (const char *state = "TtSR"; *state; state++) {
		cx_verdict_silence_line(text, 3, 1500 * MS, *state);
		cr_expect(strstr(text, "rank 3 is silent: no heartbeat for 1.5 s, though its "
				       "connection is open ("), "%s", text);
		cr_expect_eq(strstr(text, "(its process is stopped: state") != NULL,
			     *state == 'T' || *state == 't', "%s", text);
		cr_expect_eq(strstr(text, "(stopped, or cut off?)") != NULL,
			     *state != 'T' && *state != 't', "%s", text);
	}
}

/* A loss that comes again as hearsay, or while another error is looked into, is none. */
Test(verdict, losses_that_count)
{
	struct cx_report r = { .about = 2, .code = COLLX_ERR_PEER_DEAD, .hearsay = true };
	struct cx_verdict v;

	cx_verdict_init(&v, 8);
	lose(&v, 5, COLLX_ERR_PEER_DEAD, 10);
	cx_verdict_report(&v, &r, 11 * MS);
	r = (struct cx_report){ .about = 3, .code = COLLX_ERR_NOMEM };
	cx_verdict_report(&v, &r, 11 * MS);
	cx_verdict_tick(&v, 15 * MS);
	expect_blamed(&v, 1 << 5);
	cr_expect_eq(v.due_ns, UINT64_MAX);
	lose(&v, 6, COLLX_ERR_PEER_DEAD, 16);
	cr_expect(!cx_set_has(&v.dead, 6), "it is decided");
	expect_verdict(&v, COLLX_ERR_PEER_DEAD, "rank 5 died");

	cx_verdict_init(&v, 3); /* of all others one is dead, one silent */
	lose(&v, 1, COLLX_ERR_PEER_SILENT, 10);
	cr_expect(!v.code);
	lose(&v, 2, COLLX_ERR_PEER_DEAD, 10);
	cx_verdict_tick(&v, 10 * MS);
	cr_expect(v.code == COLLX_ERR_PEER_SILENT && v.who.word[0] == 1 << 1, "the first one");
	cx_verdict_fini(&v);

	cx_verdict_init(&v, 0); /* nobody's calls are known: everybody may be lost yet */
	lose(&v, 1, COLLX_ERR_PEER_DEAD, 10);
	cx_verdict_tick(&v, 14 * MS);
	cr_expect(!v.code);
	report(&v, 1, COLLX_ERR_ABORTED, false, 0, "aborted", 14);
	expect_verdict(&v, COLLX_ERR_ABORTED, "aborted");

	cx_verdict_init(&v, 0); /* and nobody can be asked */
	cx_verdict_ask(&v, 1 * MS);
	cr_expect_eq(v.question, 0);
	report(&v, 1, COLLX_ERR_TIMEOUT, false, 5, "late", 10);
	expect_verdict(&v, COLLX_ERR_TIMEOUT, "late");

	cx_verdict_init(&v, 0);
	report(&v, 1, COLLX_ERR_PEER_DEAD, true, 5, "rank 2 closed it", 10);
	cx_verdict_tick(&v, 510 * MS);
	expect_verdict(&v, COLLX_ERR_LINK, "rank 1 lost a connection, and rank 0, who knows why, "
					   "left: rank 2 closed it");
}

/* The clock went on without the decider: what it waits for has that time besides. */
Test(verdict, waits_on)
{
	struct cx_verdict v;

	cx_verdict_init(&v, 4);
	cx_verdict_wait_on(&v, 100 * MS);
	cx_verdict_wait(&v, 5 * MS);
	cr_expect_eq(v.due_ns, UINT64_MAX, "nothing is waited for");
	report(&v, 1, COLLX_ERR_LINK, true, 5, "lane 1", 10);
	cx_verdict_wait_on(&v, 100 * MS);
	cr_expect_eq(v.due_ns, 610 * MS);
	cx_verdict_wait(&v, 20 * MS);
	cr_expect_eq(v.due_ns, 610 * MS, "deaths are not counted");
	report(&v, 1, COLLX_ERR_TIMEOUT, false, 5, "late", 20);
	cx_verdict_ask(&v, 9000 * MS);
	cr_expect_eq(v.question, 1, "all are asked already");
	cx_verdict_wait_on(&v, 100 * MS);
	cr_expect(v.due_ns == 320 * MS && v.settle_ns == 320 * MS);
	cx_verdict_tick(&v, 319 * MS);
	cr_expect(!v.code);
	cx_verdict_tick(&v, 320 * MS);
	cr_expect(v.code == COLLX_ERR_TIMEOUT && v.about == 0 && v.who.word[0] == 15,
		  "nobody answered");
	cx_verdict_wait_on(&v, 100 * MS);
	cr_expect_eq(v.due_ns, UINT64_MAX);
	cx_verdict_fini(&v);
}

Test(verdict, a_mismatch_blames_those_whom_fewest_agree_with)
{
	struct cx_verdict v;

	cx_verdict_init(&v, 5);
	report(&v, 1, COLLX_ERR_TIMEOUT, false, 5, "late", 10);
	for (int r = 0; r < 5; r++) {
		struct cx_account a = account_of(5, true, 0);

		if (r == 2 || r == 4)
			a.sign[a.signs - 1].count++;
		answer(&v, r, a, 11);
	}
	cr_expect_eq(v.code, COLLX_ERR_MISMATCH);
	expect_blamed(&v, 1 << 2 | 1 << 4);
	cx_verdict_fini(&v);
}

/* Who left is neither waited for nor late. */
Test(verdict, who_left_is_not_late)
{
	struct cx_account waits = account_of(9, true, 60), more = account_of(9, true, 80), old;
	struct cx_late late;
	struct cx_verdict v;

	cx_verdict_init(&v, 4);
	cr_expect_eq(cx_verdict_late(&v, 0).rank, -1, "nobody is waited for");
	more.sign[more.signs - 1].count = 99; /* operation 9 */
	more.sign[more.signs - 2].count = 88;
	cx_verdict_account(&v, 0, &more, 400 * MS);
	cx_verdict_account(&v, 3, &waits, 400 * MS);
	for (int r = 2; r > 0; r--) {
		old = account_of(4, false, 500);
		cx_verdict_account(&v, r, &old, 400 * MS);
	}
	cr_expect_eq(cx_verdict_late(&v, 50).rank, 1, "the first of two");
	old = account_of(7, false, 500);
	cx_verdict_account(&v, 2, &old, 400 * MS);
	late = cx_verdict_late(&v, 50);
	cr_expect(late.rank == 1 && late.waited_ms == 80 && late.sign.seq == 5,
		  "rank %d, %u ms, operation %d", late.rank, late.waited_ms, (int)late.sign.seq);
	cx_verdict_account(&v, 0, &waits, 400 * MS);
	cx_verdict_account(&v, 3, &more, 400 * MS);
	cr_expect_eq(cx_verdict_late(&v, 50).waited_ms, 80, "the longest wait");
	cx_verdict_left(&v, 1, 4, 400 * MS);
	late = cx_verdict_late(&v, 80);
	cr_expect(late.rank == 2 && late.waited_ms == 80 && late.sign.seq == 8 &&
		  late.sign.count == more.sign[more.signs - 2].count);
	cr_expect_eq(cx_verdict_late(&v, 81).rank, -1);
	cx_verdict_left(&v, 4, 4, 400 * MS); /* and there is no such rank */
	cx_verdict_account(&v, 4, &old, 400 * MS);
	cx_verdict_left(&v, 2, 7, 400 * MS);
	cr_expect_eq(cx_verdict_late(&v, 50).rank, -1, "who is left waits in the same one");
	cx_verdict_fini(&v);
}

Test(verdict, rank_0_may_be_late_for_what_is_forgotten)
{
	struct cx_account waits = account_of(9, true, 60), old = account_of(0, false, 500);
	struct cx_late late;
	struct cx_verdict v;

	cx_verdict_init(&v, 2);
	waits.sign[waits.signs - 1].count = 99;
	cx_verdict_account(&v, 0, &old, 400 * MS);
	cx_verdict_account(&v, 1, &waits, 400 * MS);
	late = cx_verdict_late(&v, 50); /* operation 1; but the last eight are known of */
	cr_expect(late.rank == 0 && late.sign.seq == 1 && late.sign.count == 99);
	cx_verdict_fini(&v);
}

/* A death is no longer looked into: neither do calls that differ replace it. */
Test(verdict, a_death_stays_one)
{
	struct cx_account a = account_of(5, true, 0), b = a;
	struct cx_verdict v;

	cx_verdict_init(&v, 4);
	cx_verdict_account(&v, 0, &a, 1 * MS);
	cx_verdict_account(&v, 1, &a, 1 * MS);
	cr_expect(v.phase == CX_WATCHING && !v.question, "they called the same");
	lose(&v, 3, COLLX_ERR_PEER_DEAD, 10);
	b.sign[b.signs - 1].count++;
	cx_verdict_account(&v, 2, &b, 11 * MS);
	cx_verdict_ask(&v, 11 * MS);
	cr_expect(v.phase == CX_COUNTING && !v.question);
	cx_verdict_tick(&v, 15 * MS);
	expect_verdict(&v, COLLX_ERR_PEER_DEAD, "rank 3 died");
}

Test(verdict, the_earliest_difference_counts)
{
	struct cx_account a = account_of(6, true, 0), b = a, c = a;
	struct cx_verdict v;

	cx_verdict_init(&v, 3);
	b.sign[b.signs - 1].count = 7;
	c.sign[c.signs - 3].count = 7;
	cx_verdict_account(&v, 0, &a, 1 * MS);
	cx_verdict_account(&v, 1, &b, 2 * MS);
	cr_expect(v.phase == CX_ASKING && v.first.origin == 1 && v.first.where.seq == 6);
	answer(&v, 0, a, 3);
	answer(&v, 1, b, 3);
	answer(&v, 2, c, 3);
	cr_expect(v.code == COLLX_ERR_MISMATCH && strstr(v.text, "as operation 4"), "%s", v.text);
	expect_blamed(&v, 1 << 2);
	cx_verdict_fini(&v);

	cx_verdict_init(&v, 3); /* rank 0 alone */
	cx_verdict_account(&v, 0, &b, 1 * MS);
	cx_verdict_account(&v, 1, &a, 2 * MS);
	answer(&v, 0, b, 3);
	answer(&v, 1, a, 3);
	answer(&v, 2, a, 3);
	cr_expect_eq(v.code, COLLX_ERR_MISMATCH);
	expect_blamed(&v, 1 << 0);
	cx_verdict_fini(&v);
}

/* Who has left answers nothing, nor comes to what it did not call. */
Test(verdict, answers_of_those_who_left_are_not_waited_for)
{
	struct cx_account a = account_of(5, true, 0), b = a, old = account_of(3, false, 0);
	struct cx_verdict v;

	cx_verdict_init(&v, 3);
	report(&v, 1, COLLX_ERR_TIMEOUT, false, 5, "late", 10);
	answer(&v, 0, a, 11);
	answer(&v, 1, a, 11);
	cr_expect(!v.code);
	cx_verdict_left(&v, 2, 3, 12 * MS);
	cr_expect(v.code == COLLX_ERR_TIMEOUT && v.about == 2);
	cx_verdict_fini(&v);

	cx_verdict_init(&v, 3);
	cx_verdict_account(&v, 2, &old, 1 * MS);
	cx_verdict_left(&v, 2, 3, 2 * MS);
	b.sign[b.signs - 1].count++;
	report(&v, 1, COLLX_ERR_TIMEOUT, false, 5, "late", 10);
	answer(&v, 0, a, 11);
	answer(&v, 1, b, 11);
	cr_expect(v.code == COLLX_ERR_MISMATCH, "at once");
	cx_verdict_fini(&v);

	cx_verdict_init(&v, 2); /* it had finished that one; and the other one none */
	cx_verdict_left(&v, 1, 5, 1 * MS);
	report(&v, 0, COLLX_ERR_PEER_DEAD, true, 5, "rank 1 closed its connection", 10);
	cr_expect(!v.code);
	cx_verdict_left(&v, 0, 0, 11 * MS);
	cr_expect(v.code == COLLX_ERR_PEER_LEFT && v.about == 0);
	cx_verdict_fini(&v);

	cx_verdict_init(&v, 0);
	cx_verdict_left(&v, 0, 5, 1 * MS);
	cx_verdict_account(&v, 0, &a, 1 * MS);
	cr_expect_eq(v.phase, CX_WATCHING);
	cx_verdict_fini(&v);
}

/* That it was in it says little of a rank that does not answer any more. */
Test(verdict, who_does_not_answer_is_missing)
{
	struct cx_account a = account_of(5, true, 0);
	struct cx_verdict v;

	for (int silent = 0; silent < 2; silent++) {
		cx_verdict_init(&v, 2);
		cx_verdict_account(&v, 1, &a, 1 * MS);
		report(&v, 0, COLLX_ERR_TIMEOUT, false, silent ? 5 : 0, "late", 10);
		answer(&v, 0, a, 11);
		if (!silent)
			answer(&v, 1, a, 11);
		cx_verdict_tick(&v, 210 * MS);
		cr_expect_eq(v.about, silent ? 1 : -1);
		expect_verdict(&v, COLLX_ERR_TIMEOUT,
			       silent ? "late; missing: rank 1 (does not answer)" : "late");
	}
}

Test(verdict, long_lists_of_the_lost_are_cut)
{
	struct cx_verdict v;

	for (int dead = 0; dead < 2; dead++) {
		cx_verdict_init(&v, 400);
		if (dead)
			lose(&v, 0, COLLX_ERR_PEER_DEAD, 10);
		for (int r = 2; r < 200 && dead; r += 2)
			cx_verdict_lost(&v, r, CX_LOSS_DEATH);
		if (!dead)
			report(&v, 0, COLLX_ERR_TIMEOUT, false, 5, "late", 10);
		cx_verdict_tick(&v, 300 * MS);
		cr_expect_eq(cx_set_count(&v.who), dead ? 100 : 400);
		cr_expect(strstr(v.text, " more") && strlen(v.text) < 300, "%s", v.text);
		if (dead)
			cr_expect(strstr(v.text, "ranks 0, 2, 4, 6, 8") &&
				  strstr(v.text, " more died: their processes ended"));
		cx_verdict_fini(&v);
	}
}

Test(verdict, hearsay_of_anything_else_keeps_its_code)
{
	struct cx_verdict v;

	cx_verdict_init(&v, 4);
	report(&v, 1, COLLX_ERR_SYSTEM, true, 5, "rank 1: no descriptors", 10);
	cx_verdict_tick(&v, 510 * MS);
	expect_verdict(&v, COLLX_ERR_SYSTEM, "rank 1: no descriptors");
}
