/* SPDX-License-Identifier: BSD-3-Clause */
/* A chair and its members, frame by frame: who is there, what is told to whom, when something is
 * due, and when it is over. */
#include "tests/council_calls.h"

Test(chair, a_chair_tells_of_deaths)
{
	struct cx_council c = chair(0, 6);

	cr_assert(join(&c, 1, 0, 0, 0) && join(&c, 2, 0, 0, 0) && join(&c, 3, 0, 0, 0));
	told_to(CX_FRAME_LOST);
	cx_council_dead(&c, 3, 0);
	cr_assert_eq(told_to(CX_FRAME_LOST), 1 << 1 | 1 << 2, "not to the dead");
	cx_council_dead(&c, 3, 0);
	cx_council_dead(&c, 0, 0);
	cr_assert(sent.frames == 0 && !cx_set_has(&c.dead, 0));
	cr_assert(tell_dead(&c, 2, 1 << 3 | 1 << 4));
	cr_assert_eq(told_to(CX_FRAME_LOST), 1 << 1, "not to who told it");
	cr_assert(cx_set_has(&c.dead, 4));
	cr_assert(tell_dead(&c, 2, 1 << 3 | 1 << 4));
	cr_assert_eq(sent.frames, 0, "they are known");
	cr_assert(tell_dead(&c, 5, 1 << 1) && !cx_set_has(&c.dead, 1), "it did not join");
	cr_assert(!tell_dead(&c, 2, 1 << 2) && !tell_dead(&c, 2, 1 << 6));
	cr_assert(tell_dead(&c, 2, 1 << 0) && !cx_set_has(&c.dead, 0), "this rank is not");
	cr_assert(join(&c, 5, 0, 1 << 1, 0), "who comes may know more");
	cr_assert_eq(told_to(CX_FRAME_LOST), 1 << 2);
	cx_council_fini(&c);
}

Test(chair, a_member_tells_its_chair_of_deaths)
{
	struct cx_council c = member(2, 6);

	cr_assert(join(&c, 4, 0, 0, 0));
	cx_council_dead(&c, 5, 0);
	cr_assert_eq(told_to(CX_FRAME_LOST), 1 << 0 | 1 << 4);
	cr_assert(tell_dead(&c, 0, 1 << 3));
	cr_assert_eq(told_to(CX_FRAME_LOST), 1 << 4, "not to the chair, who told it");
	cr_assert(tell_dead(&c, 1, 1 << 4) && !cx_set_has(&c.dead, 4), "neither chair nor here");
	cr_assert(tell_dead(&c, 4, 1 << 1));
	cr_assert_eq(told_to(CX_FRAME_LOST), 1 << 0);
	cx_council_parted(&c, 0, 0);
	cr_assert(tell_dead(&c, 0, 1 << 4) && !cx_set_has(&c.dead, 4), "it has parted");
	cx_council_fini(&c);
}

Test(chair, decisions_and_aborts_do_not_go_back)
{
	struct cx_council c = member(2, 5);

	cr_assert(join(&c, 3, 0, 0, 0) && join(&c, 4, 0, 0, 0));
	told_to(CX_FRAME_DECIDED);
	cr_assert(tell_decided(&c, 0, CX_MOTION_AGREE, 1, 0));
	cr_assert_eq(told_to(CX_FRAME_DECIDED), 1 << 3 | 1 << 4);
	cr_assert(tell_decided(&c, 3, CX_MOTION_AGREE, 2, 0));
	cr_assert_eq(told_to(CX_FRAME_DECIDED), 1 << 0 | 1 << 3 | 1 << 4);
	cr_assert(tell_decided(&c, 3, CX_MOTION_AGREE, 2, 0));
	cr_assert_eq(sent.frames, 0, "it is known");
	cr_assert(abort_of(&c, 0, 1));
	cr_assert_eq(told_to(CX_FRAME_ABORT), 1 << 3 | 1 << 4);
	cx_council_fini(&c);

	c = member(2, 5);
	cr_assert(join(&c, 3, 0, 0, 0));
	told_to(CX_FRAME_ABORT);
	cr_assert(abort_of(&c, 3, 1));
	cr_assert_eq(told_to(CX_FRAME_ABORT), 1 << 0);
	cx_council_fini(&c);
}

/* What is decided without a rank bars it by kinds that exclude, by others not. */
Test(chair, kinds_that_exclude)
{
	for (uint32_t kind = CX_MOTION_AGREE; kind <= CX_MOTION_MIXED; kind++) {
		bool excludes = kind <= CX_MOTION_GROW;
		struct cx_council c = member(2, 5);

		cr_assert(tell_decided(&c, 0, kind, 1, 1 << 3));
		cr_expect_eq(cx_set_has(&c.gone, 3), excludes, "kind %u", kind);
		cr_expect_eq(c.code, 0);
		cr_assert(tell_decided(&c, 0, kind, 2, 1 << 2));
		cr_expect_eq(c.code, excludes ? COLLX_ERR_EXCLUDED : 0, "kind %u", kind);
		cx_council_fini(&c);
	}
}

/* Who sat with the chair when it decided is heard again, though it was silent here. */
Test(chair, a_chair_knows_better_who_is_there)
{
	struct cx_council c = member(1, 6);

	for (int r = 2; r < 5; r++)
		cx_council_silent(&c, r, 0);
	cr_assert(tell_decided(&c, 0, CX_MOTION_AGREE, 1, 1 << 3));
	cr_assert_eq(c.silent.word[0], 1 << 3);
	cx_council_silent(&c, 4, 0);
	cr_assert(tell_decided(&c, 0, CX_MOTION_LATE, 2, 1 << 5));
	cr_assert_eq(c.silent.word[0], 1 << 3 | 1 << 4, "of those who are late no more is known");
	cr_assert(tell_decided(&c, 0, CX_MOTION_AGREE, 3, 1 << 0));
	cr_assert(c.chair == 1, "the chair is out itself");
	cx_council_fini(&c);

	c = member(2, 5); /* not with this rank: the decision is to be told there */
	cx_council_parted(&c, 0, 0);
	cx_council_silent(&c, 3, 0);
	cr_assert(tell_decided(&c, 4, CX_MOTION_AGREE, 1, 1 << 0));
	cr_assert(c.chair == 0 && !c.seated && cx_set_has(&c.silent, 3));
	cx_council_fini(&c);
}

static bool resign_of(struct cx_council *c, int rank, int code)
{
	const struct cx_council_resign r = { code };

	return cx_council_hear(c, rank, CX_FRAME_RESIGN, &r, sizeof(r), 0);
}

/* How many are here decides, not how many there were. */
Test(chair, quorums)
{
	const struct {
		int rank, ranks, silent; /* those from `silent` on are */
		bool quorum;
	} row[] = {
		{ 0, 4, 2, true }, /* half, with the lowest */
		{ 1, 4, 3, false }, /* half, without it */
		{ 1, 5, 4, true },
		{ 0, 5, 2, false },
		{ 1, 3, 3, true },
		{ 0, 3, 1, false },
	};

	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct cx_council c = chair(row[i].rank, row[i].ranks);

		for (int r = row[i].rank + 1; r < row[i].silent; r++)
			cr_assert(join(&c, r, 0, 0, 0));
		cr_assert_eq(c.code, 0, "row %zu: it may come yet", i);
		for (int r = row[i].silent; r < row[i].ranks; r++)
			cx_council_silent(&c, r, 0);
		cx_council_tick(&c, 0);
		cr_expect_eq(c.code, row[i].quorum ? 0 : COLLX_ERR_NO_QUORUM, "row %zu", i);
		if (row[i].quorum || row[i].silent == row[i].rank + 1) {
			cx_council_fini(&c);
			continue;
		}
		cr_expect_eq(sent.resign.code, COLLX_ERR_NO_QUORUM, "row %zu: it says so", i);
		memset(&sent, 0, sizeof(sent));
		cx_council_parted(&c, row[i].silent, 0);
		cr_assert(join(&c, row[i].silent, 0, 0, 0), "who comes still");
		cr_expect_eq(sent.resign.code, COLLX_ERR_NO_QUORUM, "row %zu", i);
		cx_council_fini(&c);
	}
}

/* Death is a fact: of three who are left two may go on. */
Test(chair, the_dead_are_no_electors)
{
	struct cx_council c = chair(1, 5);

	cr_assert(join(&c, 2, 0, 0, 0));
	cx_council_dead(&c, 0, 0);
	cx_council_dead(&c, 4, 0);
	cx_council_silent(&c, 3, 0);
	cr_assert_eq(c.code, 0);
	cx_council_dead(&c, 2, 0);
	cr_assert_eq(c.code, 0, "the lowest of two");
	cx_council_fini(&c);
}

/* A chair that resigned is as one that is silent; the second one ends it for who is alone. */
Test(chair, resignations)
{
	const struct cx_council_resign cut = { COLLX_ERR_NO_QUORUM };
	struct cx_council c = member(3, 6);

	cr_assert(!resign_of(&c, 0, COLLX_ERR_TIMEOUT) && !resign_of(&c, 4, COLLX_ERR_NO_QUORUM));
	cr_assert(resign_of(&c, 1, COLLX_ERR_NO_QUORUM) && c.chair == 0, "it is no chair");
	cr_assert(!cx_council_hear(&c, 0, CX_FRAME_RESIGN, &cut, sizeof(cut) - 1, 0));
	cr_assert(resign_of(&c, 0, COLLX_ERR_NO_QUORUM) && !c.code && c.chair == 1);
	cr_assert(!c.seated);
	cx_council_seated(&c, 0);
	cr_assert(resign_of(&c, 1, COLLX_ERR_NO_QUORUM) && c.code == COLLX_ERR_NO_QUORUM);
	cx_council_fini(&c);

	c = member(3, 6); /* who was excluded says nothing about a quorum */
	cr_assert(resign_of(&c, 0, COLLX_ERR_EXCLUDED) && !c.resigned && c.chair == 1);
	cx_council_seated(&c, 0);
	cr_assert(resign_of(&c, 1, COLLX_ERR_NO_QUORUM) && !c.code && c.chair == 2);
	cx_council_seated(&c, 0);
	cr_assert(resign_of(&c, 2, COLLX_ERR_EXCLUDED) && !c.code && c.chair == 3);
	cx_council_fini(&c);

	c = member(3, 6); /* others sit with it */
	cr_assert(join(&c, 4, 0, 0, 0));
	cr_assert(resign_of(&c, 0, COLLX_ERR_NO_QUORUM) && !c.code);
	cx_council_seated(&c, 0);
	cr_assert(resign_of(&c, 1, COLLX_ERR_NO_QUORUM) && !c.code && c.chair == 2);
	cx_council_fini(&c);
}

/* Frames that a chair gets as somebody sits down, in this order. */
static void expect_told_at_once(const enum cx_frame_kind *kind, int n)
{
	cr_assert_eq(sent.frames, n, "%d frames, not %d", sent.frames, n);
	for (int i = 0; i < n; i++)
		cr_assert_eq(sent.kind[i], kind[i], "frame %d is %d", i, (int)sent.kind[i]);
	memset(&sent, 0, sizeof(sent));
}

Test(chair, who_sits_down_tells_what_it_knows)
{
	static const enum cx_frame_kind news[] = { CX_FRAME_DECIDED, CX_FRAME_ACCEPTED,
						   CX_FRAME_VOTE, CX_FRAME_JOIN };
	struct cx_motion mine = motion(CX_MOTION_AGREE, 2, 7);
	struct cx_council c = member(2, 4);

	cr_assert(tell_decided(&c, 0, CX_MOTION_AGREE, 1, 0) && propose_to(&c, 0, 1, 2));
	cx_council_parted(&c, 0, 500);
	memset(&sent, 0, sizeof(sent));
	cx_council_vote(&c, &mine, 900, 500);
	cr_assert(!sent.frames && c.due_ns == 500 + PATIENCE, "its patience begins anew");
	cx_council_tick(&c, 499 + PATIENCE);
	cr_assert_eq(c.chair, 0);
	cx_council_tick(&c, 500 + PATIENCE);
	cr_assert(c.chair == 1 && !c.seated);
	cx_council_seated(&c, 500 + PATIENCE);
	expect_told_at_once(news, 4);
	cx_council_seated(&c, 500 + PATIENCE);
	expect_told_at_once(news, 0);
	cx_council_vote(&c, &mine, 900, 500);
	expect_told_at_once(news, 0); /* it has voted */
	cx_council_parted(&c, 3, 0);
	cr_assert(c.seated, "somebody else has parted");
	cx_council_fini(&c);

	c = member(2, 4);
	cx_council_vote(&c, &mine, 900, 500);
	cr_assert_eq(sent.frames, 0, "a vote for a later one");
	mine.number = 1;
	cx_council_vote(&c, &mine, 900, 500);
	expect_told_at_once(news + 2, 1);
	cx_council_fini(&c);
}

/* Who comes while something is proposed is asked as well. */
Test(chair, who_comes_hears_the_proposal)
{
	struct cx_motion mine = motion(CX_MOTION_AGREE, 1, 7);
	struct cx_council c = chair(0, 3);

	cr_assert(hear_of(&c, 1, 1, 1, 5) && join(&c, 1, 0, 0, 0));
	cx_council_vote(&c, &mine, 900, 0);
	cr_assert_eq(told_to(CX_FRAME_PROPOSE), 1 << 1, "found, and a quorum is here");
	cr_assert(accept_of(&c, 1, 1, 1) && !c.decided, "rank 2 may come");
	cr_assert(accept_of(&c, 2, 1, 1) && !c.decided, "it has not joined");
	cr_assert(join(&c, 2, 0, 0, 0) && !c.decided);
	cr_assert_eq(told_to(CX_FRAME_PROPOSE), 1 << 2);
	cr_assert(accept_of(&c, 2, 1, 1) && c.decided == 1);
	cx_council_fini(&c);
}

/* When a tick is needed, and when not: who is asked to come too early comes again and again. */
Test(chair, when_something_is_due)
{
	struct cx_motion mine = motion(CX_MOTION_AGREE, 1, 7);
	struct cx_council c = chair(0, 3);

	cr_assert(join(&c, 1, 0, 0, 0));
	cr_assert_eq(c.due_ns, 2 * PATIENCE, "rank 2 is missing");
	cx_council_vote(&c, &mine, 300, 0);
	cr_assert_eq(c.due_ns, 2 * PATIENCE, "who is late is known when all are here");
	cx_council_doubt(&c, 2, PATIENCE / 2, 0);
	cr_assert_eq(c.due_ns, PATIENCE / 2);
	cr_assert(join(&c, 2, 0, 0, 0));
	cr_assert_eq(c.due_ns, 300);
	cx_council_tick(&c, 300);
	cr_assert(c.proposing && c.due_ns == UINT64_MAX);
	cx_council_parted(&c, 2, 400);
	cr_assert_eq(c.due_ns, 400 + 2 * PATIENCE);
	cx_council_dead(&c, 2, 400);
	cr_assert(c.due_ns == UINT64_MAX && !cx_set_has(&c.silent, 2));
	cx_council_parted(&c, 1, 400);
	cr_assert_eq(c.due_ns, 400 + 2 * PATIENCE);
	cx_council_abort(&c, 0, 400);
	cr_assert_eq(c.due_ns, UINT64_MAX);
	cx_council_fini(&c);

	cr_assert_eq(cx_council_init(&c, 2, 4, PATIENCE), 0);
	c.send = record;
	cx_council_silent(&c, 0, 0);
	cr_assert(c.chair == -1 && c.due_ns == UINT64_MAX, "not in session");
	cx_council_begin(&c, 0);
	cr_assert(c.chair == 1 && c.due_ns == PATIENCE);
	cx_council_parted(&c, 1, 500);
	cr_assert_eq(c.due_ns, PATIENCE, "it was not there");
	cx_council_seated(&c, 500);
	cr_assert_eq(c.due_ns, UINT64_MAX);
	cx_council_parted(&c, 1, 500);
	cr_assert_eq(c.due_ns, 500 + PATIENCE);
	cx_council_dead(&c, 1, 600);
	cr_assert_eq(c.chair, 2);
	cx_council_fini(&c);
}

Test(chair, a_vote_or_a_frame_begins_it)
{
	struct cx_motion mine = motion(CX_MOTION_AGREE, 1, 7);
	struct cx_council c;

	for (int i = 0; i < 2; i++) {
		cr_assert_eq(cx_council_init(&c, 1, 4, PATIENCE), 0);
		c.send = record;
		if (i)
			cx_council_vote(&c, &mine, 500, 0);
		else
			cr_assert(join(&c, 2, 0, 0, 0));
		cr_assert_eq(c.chair, 0);
		cx_council_fini(&c);
	}
}

Test(chair, what_is_over_is_over)
{
	struct cx_motion mine = motion(CX_MOTION_AGREE, 1, 7);
	struct cx_council c = member(2, 4);

	cx_council_parted(&c, 0, 0);
	cx_council_bar(&c, COLLX_ERR_EXCLUDED);
	cx_council_bar(&c, COLLX_ERR_NO_QUORUM);
	cr_assert_eq(c.code, COLLX_ERR_EXCLUDED, "for good");
	cx_council_tick(&c, 9 * PATIENCE);
	cr_assert(c.chair == 0 && c.due_ns == UINT64_MAX, "nobody is to be gone to");
	cx_council_seated(&c, 0);
	cx_council_vote(&c, &mine, 500, 0);
	cr_assert(!c.voted && !c.seated && !sent.frames);
	cr_assert(tell_decided(&c, 3, CX_MOTION_AGREE, 1, 0) && !c.decided);
	cr_assert(join(&c, 3, 5, 0, 0), "it may know more");
	cr_assert(!c.seat[3].sits && sent.resign.code == COLLX_ERR_EXCLUDED);
	cx_council_fini(&c);

	c = chair(0, 3); /* all who are left have accepted it, behind an abort */
	cx_council_vote(&c, &mine, 500, 0);
	for (int r = 1; r < 3; r++)
		cr_assert(vote_of(&c, r, CX_MOTION_AGREE, 1, 500) && join(&c, r, 0, 0, 0));
	cr_assert(accept_of(&c, 1, 1, 1) && cx_council_abort(&c, 0, 0));
	cx_council_dead(&c, 2, 0);
	cr_assert(!c.decided && c.code == COLLX_ERR_ABORTED);
	cx_council_fini(&c);
}

Test(chair, the_dead_may_have_aborted)
{
	struct cx_council c = chair(0, 3);

	cx_council_dead(&c, 2, 0);
	cr_assert(abort_of(&c, 2, 2) && c.code == COLLX_ERR_ABORTED && c.aborter == 2);
	cx_council_fini(&c);
}

/* The tree says that a member is silent, while it sits here still. */
Test(chair, who_is_silent_is_not_here)
{
	struct cx_motion mine = motion(CX_MOTION_SHRINK, 1, 0);
	struct cx_council c = chair(0, 3);

	cr_assert(join(&c, 1, 0, 0, 0) && join(&c, 2, 0, 0, 0));
	cx_council_silent(&c, 2, 0);
	cr_assert_eq(cx_council_losses(&c), 1);
	cx_council_vote(&c, &mine, PATIENCE, 0);
	cr_assert(vote_out(&c, 1, CX_MOTION_SHRINK, 1, 0) && c.proposing);
	cr_assert_eq(told_to(CX_FRAME_PROPOSE), 1 << 1);
	cx_council_fini(&c);

	c = chair(0, 3); /* nor late */
	cr_assert(join(&c, 1, 0, 0, 0));
	cx_council_silent(&c, 2, 0);
	cx_council_vote(&c, &mine, 300, 0);
	cx_council_tick(&c, 300);
	cr_assert(sent.proposal.motion.kind == CX_MOTION_LATE &&
		  sent.proposal.motion.out.word[0] == 1 << 1);
	cx_council_fini(&c);
}

Test(chair, its_own_vote_counts)
{
	struct cx_motion mine = motion(CX_MOTION_SHRINK, 1, 0);
	struct cx_council c = chair(0, 3);

	mine.out.word[0] = 1 << 2;
	for (int r = 1; r < 3; r++)
		cr_assert(vote_out(&c, r, CX_MOTION_SHRINK, 1, 0) && join(&c, r, 0, 0, 0));
	cx_council_vote(&c, &mine, PATIENCE, 0);
	cr_assert_eq(sent.proposal.motion.out.word[0], 1 << 2);
	cx_council_fini(&c);

	c = member(2, 3); /* in so many ns: clocks differ */
	mine.out.word[0] = 0;
	cx_council_vote(&c, &mine, 900, 500);
	cr_assert_eq(sent.vote.within_ns, 400);
	cx_council_parted(&c, 0, 950);
	cx_council_seated(&c, 950);
	cr_assert_eq(sent.vote.within_ns, 0, "it was to be before");
	cr_assert(tell_decided(&c, 0, CX_MOTION_SHRINK, 1, 0) && c.answer.kind == CX_MOTION_SHRINK);
	cr_assert(tell_decided(&c, 0, CX_MOTION_AGREE, 2, 0));
	cx_council_vote(&c, &mine, 900, 950);
	cr_assert(c.answer.number == 1 && c.answer.kind == CX_MOTION_SHRINK, "it has its answer");
	cx_council_fini(&c);
}
