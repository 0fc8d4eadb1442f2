/* SPDX-License-Identifier: BSD-3-Clause */
/* One council, frame by frame: the corners that tests/t_councils.c seldom meets. */
#include "tests/council_calls.h"

Test(council, proposes_the_highest_of_a_quorum)
{
	struct cx_council c = chair(2, 5);

	cr_assert(hear_of(&c, 3, 1, 1, 11) && join(&c, 3, 0, 0, 0));
	cr_assert_eq(told(CX_FRAME_PROPOSE), 0, "2 of 5 are no quorum");
	cr_assert(hear_of(&c, 4, 2, 1, 22) && join(&c, 4, 0, 0, 0));
	cr_assert_eq(told(CX_FRAME_PROPOSE), 2);
	cr_assert(sent.proposal.ballot == 3 && sent.proposal.motion.flags == 22);
	cx_council_fini(&c);

	c = chair(2, 5); /* its own is of a higher ballot than what it finds */
	c.accepted = (struct cx_council_proposal){ 2, motion(CX_MOTION_AGREE, 1, 22) };
	cr_assert(hear_of(&c, 3, 1, 1, 11) && join(&c, 3, 0, 0, 0) && join(&c, 4, 0, 0, 0));
	cr_assert_eq(sent.proposal.motion.flags, 22);
	cx_council_fini(&c);
}

Test(council, hears_its_chair_alone)
{
	struct cx_council c = chair(0, 4);
	struct cx_council_proposal cut = { 2, motion(CX_MOTION_AGREE, 1, 5) };

	c.rank = 3; /* a member's side */
	c.chair = -1;
	cx_council_begin(&c, 0);
	cr_assert(propose_to(&c, 0, 1, 1), "not seated");
	cr_assert_eq(c.accepted.ballot, 0);
	cx_council_seated(&c, 0);
	cx_council_silent(&c, 0, 0);
	cr_assert_eq(c.chair, 1);
	cx_council_seated(&c, 0);
	cr_assert(propose_to(&c, 0, 1, 1), "the old chair");
	cr_assert_eq(c.accepted.ballot, 0);
	cr_assert(!cx_council_hear(&c, 1, CX_FRAME_PROPOSE, &cut, sizeof(cut) - 1, 0));
	cr_assert(propose_to(&c, 1, 2, 1));
	cr_assert(c.accepted.ballot == 2 && told(CX_FRAME_ACCEPT) == 1);
	cr_assert(tell_decided(&c, 2, CX_MOTION_AGREE, 1, 0));
	cr_assert(propose_to(&c, 1, 2, 1), "one that is decided");
	cr_assert(c.accepted.ballot == 0 && told(CX_FRAME_ACCEPT) == 1);
	cx_council_dead(&c, 1, 0);
	cr_assert(tell_decided(&c, 1, CX_MOTION_AGREE, 2, 0), "what the dead knew");
	cr_assert_eq(c.decided, 2);
	cx_council_fini(&c);
}

Test(council, late_is_what_the_first_voter_says)
{
	struct cx_motion v = motion(CX_MOTION_AGREE, 1, 7);
	struct cx_council c = chair(0, 3);

	cr_assert(join(&c, 1, 0, 0, 0) && join(&c, 2, 0, 0, 0));
	cx_council_vote(&c, &v, 500, 0);
	cr_assert(vote_of(&c, 1, CX_MOTION_AGREE, 1, 300));
	cr_assert_eq(c.due_ns, 300);
	cx_council_tick(&c, 299);
	cr_assert_eq(told(CX_FRAME_PROPOSE), 0);
	cx_council_tick(&c, 300);
	cr_assert_eq(told(CX_FRAME_PROPOSE), 2);
	cr_assert_eq(sent.proposal.motion.kind, CX_MOTION_LATE);
	cr_assert_eq(sent.proposal.motion.out.word[0], 4);
	cx_council_fini(&c);
}

Test(council, the_own_vote_has_an_answer_of_its_own)
{
	struct cx_motion v = motion(CX_MOTION_AGREE, 1, 7), w = motion(CX_MOTION_AGREE, 2, 7);
	struct cx_council c = chair(1, 3);

	cx_council_vote(&c, &v, 500, 0);
	cr_assert_eq(c.answer.number, 0);
	cr_assert(tell_decided(&c, 2, CX_MOTION_AGREE, 1, 0));
	cr_assert(tell_decided(&c, 2, CX_MOTION_LATE, 2, 1 << 1));
	cr_assert(c.decided == 2 && c.answer.number == 1 && c.answer.kind == CX_MOTION_AGREE);
	cr_assert(tell_decided(&c, 2, CX_MOTION_LATE, 3, 1 << 1));
	cx_council_vote(&c, &w, 500, 0);
	cr_assert(c.answer.number == 2 && c.answer.kind == CX_MOTION_LATE);
	cr_assert(!c.voted && cx_set_has(&c.answer.out, 1));
	w.number = 3;
	cx_council_vote(&c, &w, 500, 0);
	cr_assert(c.answer.number == 3 && c.answer.kind == CX_MOTION_LATE && !c.voted);
	cx_council_fini(&c);
}

Test(council, joins_tell_of_the_dead)
{
	struct cx_council c = chair(1, 6);

	cr_assert(join(&c, 3, 0, 1 << 2 | 1 << 1, 0));
	cr_assert(cx_set_has(&c.dead, 2) && !cx_set_has(&c.dead, 1));
	cx_council_silent(&c, 3, 0);
	cx_council_parted(&c, 3, 0);
	cr_assert(join(&c, 3, 0, 0, 0));
	cr_assert(!cx_set_has(&c.silent, 3), "who joins is not silent");
	cx_council_parted(&c, 3, 3 * PATIENCE);
	cx_council_tick(&c, 5 * PATIENCE);
	cr_assert(!cx_set_has(&c.silent, 3), "it may come again");
	cx_council_tick(&c, 7 * PATIENCE);
	cr_assert(cx_set_has(&c.silent, 3));
	cx_council_fini(&c);
}

Test(council, who_is_out_stays_out)
{
	struct cx_council c = chair(0, 4);
	struct cx_motion v = motion(CX_MOTION_AGREE, 3, 7);

	cr_assert(tell_decided(&c, 1, CX_MOTION_AGREE, 1, 0));
	cr_assert(tell_decided(&c, 1, CX_MOTION_SHRINK, 2, 1 << 3));
	cr_assert(join(&c, 3, 1, 0, 0) && !c.seat[3].sits && told(CX_FRAME_DECIDED) == 1);
	cr_assert(join(&c, 2, 0, 0, 0) && !c.seat[2].sits, "it missed two");
	cr_assert(join(&c, 1, 2, 0, 0) && c.seat[1].sits);
	cx_council_dead(&c, 2, 0);
	cr_assert(vote_of(&c, 1, CX_MOTION_AGREE, 2, 300) && !c.seat[1].voted);
	cr_assert(vote_of(&c, 1, CX_MOTION_AGREE, 3, 300));
	cx_council_vote(&c, &v, 500, 0);
	cr_assert_eq(told(CX_FRAME_PROPOSE), 1, "nobody waits for who is out");
	cr_assert(accept_of(&c, 1, 1, 2));
	cr_assert_eq(c.decided, 2, "that was an earlier proposal");
	cr_assert(accept_of(&c, 1, 1, 3));
	cr_assert_eq(c.decided, 3);
	cr_assert(tell_decided(&c, 1, CX_MOTION_AGREE, 4, 1));
	cr_assert_eq(c.code, COLLX_ERR_EXCLUDED);
	cr_assert(join(&c, 2, 3, 0, 0), "of the dead");
	cr_assert_eq(told(CX_FRAME_RESIGN), 0);
	cx_council_fini(&c);
}

Test(council, refuses_what_is_damaged)
{
	struct cx_council c = chair(1, 4);
	struct cx_council_join bad = { .dead.word[31] = 1 };
	struct cx_council_resign r = { COLLX_ERR_TIMEOUT };
	unsigned char zeros[CX_FRAME_MAX] = { 0 };

	for (int kind = 0; kind < 128; kind++)
		for (size_t len = 0; len <= CX_FRAME_MAX; len++)
			if ((kind != CX_FRAME_ABORT || len != sizeof(struct cx_council_abort)) &&
			    cx_council_hear(&c, 3, (enum cx_frame_kind)kind, zeros, len, 0))
				cr_assert((kind == CX_FRAME_JOIN && len == sizeof(bad)) ||
					  (kind == CX_FRAME_LOST && len == sizeof(bad.dead)));
	cr_assert(c.seat[3].sits);
	cr_assert(!join(&c, 3, 0, 0, 0), "twice");
	cr_assert(!join(&c, 0, 0, 0, 0) && !join(&c, 1, 0, 0, 0) && !join(&c, 4, 0, 0, 0) &&
		  !join(&c, -1, 0, 0, 0));
	cr_assert(!join(&c, 2, 1, 0, 0), "ahead of what it told");
	cr_assert(!join(&c, 2, 0, 1 << 2, 0), "dead itself");
	cr_assert(!join(&c, 2, 0, 1 << 4, 0));
	cr_assert(!cx_council_hear(&c, 2, CX_FRAME_JOIN, &bad, sizeof(bad), 0));
	cr_assert(!hear_of(&c, 2, 0, 1, 0) && !hear_of(&c, 2, 3, 1, 0) &&
		  !hear_of(&c, 2, 1, 2, 0) && !hear_of(&c, 0, 1, 1, 0));
	cr_assert(!vote_of(&c, 2, 0, 1, 0) && !vote_of(&c, 2, CX_MOTION_LATE, 1, 0) &&
		  !vote_of(&c, 2, CX_MOTION_AGREE, 2, 0) && !vote_of(&c, 0, CX_MOTION_AGREE, 1, 0));
	cr_assert(!propose_to(&c, 2, 3, 1) && !propose_to(&c, 0, 2, 1) && !propose_to(&c, 0, 0, 1));
	cr_assert(!accept_of(&c, 3, 2, 1), "nothing is proposed");
	cr_assert(!accept_of(&c, 3, 1, 0) && !accept_of(&c, 0, 2, 0) && !accept_of(&c, 3, 2, 2));
	cr_assert(!tell_decided(&c, 3, 0, 1, 0) && !tell_decided(&c, 3, 7, 1, 0) &&
		  !tell_decided(&c, 3, CX_MOTION_AGREE, 0, 0) &&
		  !tell_decided(&c, 3, CX_MOTION_AGREE, 1, 1 << 4));
	cr_assert(!cx_council_hear(&c, 0, CX_FRAME_RESIGN, &r, sizeof(r), 0));
	r.code = COLLX_ERR_NO_QUORUM;
	cr_assert(!cx_council_hear(&c, 2, CX_FRAME_RESIGN, &r, sizeof(r), 0));
	cr_assert(c.decided == 0 && c.code == 0 && !c.seat[2].sits);
	cx_council_fini(&c);
}

Test(council, a_chair_passes_an_abort_on)
{
	struct cx_council c = chair(1, 5);
	struct cx_motion mine = motion(CX_MOTION_AGREE, 1, 7);

	cr_assert(!abort_of(&c, 3, -1) && !abort_of(&c, 3, 5) && !abort_of(&c, 3, 1));
	cr_assert(join(&c, 2, 0, 0, 0) && join(&c, 3, 0, 0, 0));
	cx_council_vote(&c, &mine, PATIENCE, 0);
	memset(&sent, 0, sizeof(sent));
	cr_assert(abort_of(&c, 3, 4));
	cr_assert(c.code == COLLX_ERR_ABORTED && c.aborter == 4);
	cr_assert(sent.frames == 1 && sent.to[0] == 2 && sent.kind[0] == CX_FRAME_ABORT,
		  "not to who said it");
	cr_assert(vote_of(&c, 4, CX_MOTION_AGREE, 1, PATIENCE) && join(&c, 4, 0, 0, 0));
	cr_assert(sent.frames == 2 && sent.to[1] == 4 && sent.kind[1] == CX_FRAME_ABORT);
	cx_council_tick(&c, 99 * PATIENCE);
	cr_assert(c.code == COLLX_ERR_ABORTED && !c.decided && c.due_ns == UINT64_MAX);
	cx_council_fini(&c);
}

/* It has a chair to tell, and another one where that does not answer. */
Test(council, who_aborted_goes_to_the_chair)
{
	struct cx_motion mine = motion(CX_MOTION_AGREE, 1, 7);
	struct cx_council c;

	memset(&sent, 0, sizeof(sent));
	cr_assert_eq(cx_council_init(&c, 2, 4, PATIENCE), 0);
	c.send = record;
	cx_council_begin(&c, 0);
	cx_council_vote(&c, &mine, PATIENCE, 0);
	cr_assert(cx_council_abort(&c, 2, 0) && c.code == COLLX_ERR_ABORTED);
	cr_assert(c.chair == 0 && c.due_ns == PATIENCE && !sent.frames);
	cx_council_tick(&c, PATIENCE);
	cr_assert_eq(c.chair, 1);
	cx_council_seated(&c, PATIENCE);
	cr_assert(sent.frames == 1 && sent.to[0] == 1 && sent.kind[0] == CX_FRAME_ABORT);
	cr_assert(c.seated && c.due_ns == UINT64_MAX);
	cr_assert(cx_council_abort(&c, 3, 0) && c.aborter == 2, "the first one counts");
	cx_council_fini(&c);
}

Test(council, an_abort_changes_no_decision)
{
	struct cx_council c = chair(1, 4);
	struct cx_motion mine = motion(CX_MOTION_SHRINK, 1, 3);

	cr_assert(join(&c, 2, 0, 0, 0) && join(&c, 3, 0, 0, 0));
	cx_council_vote(&c, &mine, PATIENCE, 0);
	cr_assert(tell_decided(&c, 3, CX_MOTION_SHRINK, 1, 1));
	cr_assert(abort_of(&c, 0, 0) && !c.code && !cx_council_abort(&c, 0, 0),
		  "of who is out by it");
	cr_assert(abort_of(&c, 0, 2) && !c.code, "of whomever one that is out heard");
	cr_assert(abort_of(&c, 2, 0) && c.code == COLLX_ERR_ABORTED && c.aborter == 2,
		  "a member that believed one that is out");
	cr_assert(c.decided == 1 && c.answer.number == 1);
	cx_council_fini(&c);

	c = chair(1, 4); /* a member tells of another one */
	cr_assert(join(&c, 2, 0, 0, 0) && tell_decided(&c, 2, CX_MOTION_SHRINK, 1, 1));
	cr_assert(abort_of(&c, 2, 3) && c.code == COLLX_ERR_ABORTED && c.aborter == 3);
	cx_council_fini(&c);

	c = chair(1, 4);
	cx_council_bar(&c, COLLX_ERR_EXCLUDED);
	cr_assert(!cx_council_abort(&c, 1, 0) && c.code == COLLX_ERR_EXCLUDED);
	cx_council_fini(&c);
}

/* What a chair's own stop looks like: nobody came, and a deadline has passed. */
Test(council, its_own_stop_is_nobodys_absence)
{
	struct cx_council c = chair(0, 3);
	struct cx_motion mine = motion(CX_MOTION_AGREE, 1, 7);

	cx_council_vote(&c, &mine, PATIENCE, 0);
	cr_assert(vote_of(&c, 1, CX_MOTION_AGREE, 1, PATIENCE) && join(&c, 1, 0, 0, 0));
	cx_council_forgive(&c, 9 * PATIENCE);
	cx_council_tick(&c, 9 * PATIENCE + 1);
	cr_assert_not(cx_set_has(&c.silent, 2));
	cr_assert(join(&c, 2, 0, 0, 9 * PATIENCE + 2));
	cr_assert_eq(told(CX_FRAME_PROPOSE), 0, "it may have voted");
	cr_assert(vote_of(&c, 2, CX_MOTION_AGREE, 1, PATIENCE));
	cr_assert(sent.proposal.motion.kind == CX_MOTION_AGREE && told(CX_FRAME_PROPOSE) == 2);
	cx_council_fini(&c);
}

Test(council, counts_those_who_are_not_in_a_set)
{
	struct cx_set s = { { 1 << 0 | 1 << 2 | 1 << 3 } }, all;

	cr_assert_eq(cx_set_count(&s), 3);
	cr_assert_eq(cx_set_nth_but(&s, 0), 1);
	cr_assert_eq(cx_set_nth_but(&s, 1), 4);
	cr_assert_eq(cx_set_nth_but(&s, CX_COUNCIL_RANKS - 4), CX_COUNCIL_RANKS - 1);
	cr_assert_eq(cx_set_nth_but(&s, CX_COUNCIL_RANKS - 3), CX_COUNCIL_RANKS, "so many");
	memset(&all, 0xff, sizeof(all));
	cr_assert_eq(cx_set_nth_but(&all, 0), CX_COUNCIL_RANKS);
}

/* Votes of who was voted out, and for that, are none of the next decision. */
Test(council, what_is_decided_is_over)
{
	struct cx_motion mine = motion(CX_MOTION_SHRINK, 1, 0);
	struct cx_council c = chair(0, 4);

	for (int r = 1; r < 4; r++)
		cr_assert(vote_out(&c, r, CX_MOTION_SHRINK, 1, r == 1 ? 1 << 3 : 0) &&
			  join(&c, r, 0, 0, 0));
	cx_council_vote(&c, &mine, PATIENCE, 0);
	cr_assert_eq(sent.proposal.motion.out.word[0], 1 << 3);
	told_to(CX_FRAME_PROPOSE);
	for (int r = 3; r > 0; r--)
		cr_assert(!c.decided && accept_of(&c, r, 1, 1));
	cr_assert(c.decided == 1 && cx_set_has(&c.gone, 3) && c.seat[3].sits);
	cr_assert_eq(told_to(CX_FRAME_DECIDED), 1 << 1 | 1 << 2 | 1 << 3);
	mine = motion(CX_MOTION_AGREE, 2, 0);
	cx_council_vote(&c, &mine, PATIENCE, 0);
	cr_assert(vote_out(&c, 1, CX_MOTION_AGREE, 2, 0) && !c.proposing);
	cr_assert(vote_out(&c, 2, CX_MOTION_AGREE, 2, 0) && c.proposing);
	cr_assert_eq(sent.proposal.motion.kind, CX_MOTION_AGREE, "that was repaired is over");
	cr_assert_eq(told_to(CX_FRAME_PROPOSE), 1 << 1 | 1 << 2);
	for (int r = 1; r < 3; r++)
		cr_assert(accept_of(&c, r, 1, 2));
	mine = motion(CX_MOTION_SHRINK, 3, 0);
	cx_council_vote(&c, &mine, PATIENCE, 0);
	cr_assert(vote_out(&c, 1, CX_MOTION_SHRINK, 3, 0) &&
		  vote_out(&c, 2, CX_MOTION_SHRINK, 3, 0));
	cr_assert_eq(sent.proposal.motion.out.word[0], 1 << 3);
	cx_council_fini(&c);
}

/* A repair that was put off, as others agreed first, may be meant otherwise when it comes. */
Test(council, nobody_is_out_by_an_earlier_vote)
{
	struct cx_council c = chair(0, 2);
	struct cx_motion mine = motion(CX_MOTION_COMMIT, 1, 1);

	cx_council_vote(&c, &mine, PATIENCE, 0);
	cr_assert(vote_out(&c, 1, CX_MOTION_SHRINK, 1, 1) && join(&c, 1, 0, 0, 0));
	cr_assert(accept_of(&c, 1, 1, 1) && c.decided == 1 && c.last.outvoted);
	mine = motion(CX_MOTION_SHRINK, 2, 0);
	cx_council_vote(&c, &mine, PATIENCE, 0);
	cr_assert(vote_out(&c, 1, CX_MOTION_SHRINK, 2, 0));
	cr_assert(c.proposing && sent.proposal.motion.out.word[0] == 0);
	cx_council_fini(&c);
}

Test(council, frames_of_a_wrong_length)
{
	static const struct {
		enum cx_frame_kind kind;
		size_t len;
	} row[] = {
		{ CX_FRAME_JOIN, sizeof(struct cx_council_join) },
		{ CX_FRAME_ACCEPTED, sizeof(struct cx_council_proposal) },
		{ CX_FRAME_VOTE, sizeof(struct cx_council_vote) },
		{ CX_FRAME_DECIDED, sizeof(struct cx_motion) },
		{ CX_FRAME_ACCEPT, sizeof(struct cx_council_accept) },
	};

	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
		for (size_t len = 0; len <= sizeof(struct cx_council_proposal); len++) {
			union {
				struct cx_council_join join;
				struct cx_council_proposal proposal;
				struct cx_council_vote vote;
				struct cx_motion motion;
				struct cx_council_accept accept;
				unsigned char bytes[CX_FRAME_MAX];
			} b = { { 0 } };
			struct cx_council c = chair(1, 4);
			struct cx_motion m = motion(CX_MOTION_AGREE, 1, 0);

			c.proposing = true;
			if (row[i].kind == CX_FRAME_ACCEPTED)
				b.proposal = (struct cx_council_proposal){ 1, m };
			else if (row[i].kind == CX_FRAME_VOTE)
				b.vote.motion = m;
			else if (row[i].kind == CX_FRAME_DECIDED)
				b.motion = m;
			else if (row[i].kind == CX_FRAME_ACCEPT)
				b.accept = (struct cx_council_accept){ 2, 1 };
			cr_assert_eq(cx_council_hear(&c, 3, row[i].kind, &b, len, 0),
				     len == row[i].len, "row %zu, %zu bytes", i, len);
			cx_council_fini(&c);
		}
}

Test(council, what_may_have_been_accepted)
{
	struct cx_council_proposal bad = { 1, motion(7, 2, 0) };
	struct cx_council_vote v = { 0, motion(CX_MOTION_AGREE, 2, 0) };
	struct cx_motion m = motion(CX_MOTION_AGREE, 2, 0);
	struct cx_council c = chair(2, 6);

	cr_assert(tell_decided(&c, 3, CX_MOTION_AGREE, 1, 0));
	cr_assert(hear_of(&c, 3, 2, 1, 11) && !c.found.ballot, "that is decided");
	cr_assert(hear_of(&c, 3, 2, 2, 22) && hear_of(&c, 4, 1, 2, 11));
	cr_assert(c.found.ballot == 2 && c.found.motion.flags == 22, "of the later chair");
	cr_assert(!cx_council_hear(&c, 4, CX_FRAME_ACCEPTED, &bad, sizeof(bad), 0));
	cr_assert(accept_of(&c, 4, 3, 1), "as an earlier chair's proposals are, it is late");
	cr_assert(join(&c, 3, 0, 0, 0) && c.seat[3].sits, "the last decision was told to it");
	cr_assert(!hear_of(&c, 3, 2, 2, 22), "before it joins");
	v.motion.unreached = 1;
	cr_assert(!cx_council_hear(&c, 3, CX_FRAME_VOTE, &v, sizeof(v), 0), "of a repair alone");
	m.outvoted = 1;
	cr_assert(!cx_council_hear(&c, 3, CX_FRAME_DECIDED, &m, sizeof(m), 0));
	m.kind = CX_MOTION_COMMIT;
	m.outvoted = 2;
	cr_assert(!cx_council_hear(&c, 3, CX_FRAME_DECIDED, &m, sizeof(m), 0));
	cr_assert(!tell_decided(&c, -1, CX_MOTION_AGREE, 2, 0) &&
		  !tell_decided(&c, 6, CX_MOTION_AGREE, 2, 0) && c.decided == 1);
	cx_council_fini(&c);

	c = member(2, 4);
	bad.motion.number = 1;
	cr_assert(!cx_council_hear(&c, 0, CX_FRAME_PROPOSE, &bad, sizeof(bad), 0));
	cr_assert(!propose_to(&c, 0, 1, 2), "it told what it knew before");
	cr_assert_eq(c.accepted.ballot, 0);
	cx_council_fini(&c);
}

/* What a chair, rank 0 of 3, makes of these three votes. */
static struct cx_motion vote_three(const uint32_t kind[3], uint64_t out)
{
	struct cx_council c = chair(0, 3);
	struct cx_motion mine = motion(kind[0], 1, 0), m;

	mine.id.bytes[0] = '0';
	cx_council_vote(&c, &mine, PATIENCE, 0);
	cr_assert(vote_out(&c, 1, kind[1], 1, out) && join(&c, 1, 0, 0, 0));
	cr_assert(vote_out(&c, 2, kind[2], 1, 0) && join(&c, 2, 0, 0, 0));
	cr_assert_eq(told(CX_FRAME_PROPOSE), 2);
	m = sent.proposal.motion;
	cx_council_fini(&c);
	return m;
}

Test(council, makes_a_motion_of_votes)
{
	enum { A = CX_MOTION_AGREE, C = CX_MOTION_COMMIT, S = CX_MOTION_SHRINK,
	       G = CX_MOTION_GROW };
	const struct {
		uint32_t kind[3];
		uint64_t out;   /* of rank 1's vote */
		uint32_t comes; /* of it */
		char id;        /* whose; 0: nobody's */
	} row[] = {
		{ { A, A, A }, 1 << 2, A, 0 },
		{ { C, C, C }, 1 << 2, C, 0 },
		{ { S, S, S }, 1 << 2, S, '0' },
		{ { S, S, S }, 1 << 0, S, '1' },
		{ { S, S, S }, 1 << 0 | 1 << 1, S, '2' },
		{ { S, S, S }, 7, S, 0 },
		{ { G, G, G }, 1 << 0, G, '1' },
		{ { C, S, S }, 1 << 2, C, 0 },
		{ { A, S, C }, 0, CX_MOTION_MIXED, 0 },
		{ { A, G, C }, 0, CX_MOTION_MIXED, 0 },
		{ { G, C, C }, 0, C, 0 },
	};

	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct cx_motion m = vote_three(row[i].kind, row[i].out);
		bool excludes = row[i].comes == S || row[i].comes == G;

		cr_expect_eq(m.kind, row[i].comes, "row %zu: kind %u", i, m.kind);
		cr_expect_eq((char)m.id.bytes[0], row[i].id, "row %zu: id", i);
		cr_expect_eq(m.out.word[0], excludes ? row[i].out : 0, "row %zu: out", i);
	}
}

static struct cx_motion decide_by(uint32_t first, uint32_t second, uint64_t flags)
{
	struct cx_council c = chair(0, 2);
	struct cx_motion mine = motion(first, 1, 1);
	struct cx_council_vote v = { PATIENCE, motion(second, 1, flags) };

	cx_council_vote(&c, &mine, PATIENCE, 0);
	cr_assert(cx_council_hear(&c, 1, CX_FRAME_VOTE, &v, sizeof(v), 0) && join(&c, 1, 0, 0, 0));
	cr_assert_eq(told(CX_FRAME_PROPOSE), 1);
	cr_assert(accept_of(&c, 1, 1, 1));
	cx_council_fini(&c);
	return c.last;
}

/* As rank 0; who comes to another chair may have looked elsewhere first. */
Test(council, a_doubted_rank_has_less_time)
{
	for (int rank = 0; rank < 2; rank++) {
		struct cx_council c = chair(rank, 5);

		cx_council_silent(&c, 3, 0);
		cx_council_doubt(&c, 4, PATIENCE / 2, 0);
		cr_assert(join(&c, 2, 0, 0, 0));
		if (!rank)
			cr_assert(join(&c, 1, 0, 0, 0));
		cx_council_tick(&c, PATIENCE / 2 - 1);
		cr_assert(!cx_set_has(&c.silent, 4));
		cx_council_tick(&c, PATIENCE / 2);
		cr_assert_eq(cx_set_has(&c.silent, 4), rank == 0);
		cr_assert(join(&c, 4, 0, 0, PATIENCE / 2)); /* who comes is there */
		cr_assert(!cx_set_has(&c.silent, 4));
		cx_council_fini(&c);
	}
}

static bool vote_unreached(struct cx_council *c, int rank, int lower)
{
	struct cx_council_vote v = { 0, motion(CX_MOTION_SHRINK, 1, 0) };

	v.motion.unreached = 1 + (uint64_t)lower;
	return cx_council_hear(c, rank, CX_FRAME_VOTE, &v, sizeof(v), 0) && join(c, rank, 0, 0, 0);
}

/* Else they wait for each other where the next communicator is made. */
Test(council, a_death_is_seen_beside_who_was_voted_out)
{
	struct cx_council c = chair(0, 4);

	cr_assert(join(&c, 1, 0, 0, 0));
	cr_assert(tell_decided(&c, 1, CX_MOTION_SHRINK, 1, 1 << 3));
	cr_assert_eq(cx_council_losses(&c), 1);
	cx_council_dead(&c, 2, 0);
	cr_assert_eq(cx_council_losses(&c), 2);
	cx_council_fini(&c);
}

/* Whom it hung on has told it nothing since it stopped, nor that there is a session. */
Test(council, a_doubt_begins_late_in_a_session)
{
	struct cx_council c = chair(0, 3);

	cr_assert(join(&c, 1, 0, 0, 0));
	cx_council_doubt(&c, 2, PATIENCE / 2, PATIENCE);
	cr_assert(!cx_set_has(&c.silent, 2));
	cx_council_tick(&c, PATIENCE + PATIENCE / 2 - 1);
	cr_assert(!cx_set_has(&c.silent, 2));
	cx_council_tick(&c, PATIENCE + PATIENCE / 2);
	cr_assert(cx_set_has(&c.silent, 2));
	cx_council_fini(&c);
}

/* Ranks that lost one and the same rank do not all go for its sake. */
Test(council, who_cannot_connect_goes_where_the_other_one_is_here)
{
	struct cx_motion own = motion(CX_MOTION_SHRINK, 1, 0);
	struct cx_council c = chair(0, 6);

	cx_council_silent(&c, 1, 0);
	cx_council_vote(&c, &own, PATIENCE, 0);
	cr_assert(vote_out(&c, 5, CX_MOTION_SHRINK, 1, 0) && join(&c, 5, 0, 0, 0));
	cr_assert(vote_unreached(&c, 2, 1), "rank 1 is not here");
	cr_assert(vote_unreached(&c, 4, 3), "rank 3 goes itself");
	cr_assert(!vote_unreached(&c, 3, 3), "no lower one");
	cr_assert(vote_unreached(&c, 3, 2));
	cr_assert_eq(told(CX_FRAME_PROPOSE), 4);
	cr_assert_eq(sent.proposal.motion.out.word[0], 1 << 1 | 1 << 3);
	cx_council_fini(&c);
}

/* One rank is at the end of a careful call, others repair, or agree. */
Test(council, a_repair_outvotes_a_commit)
{
	const uint32_t pairs[][4] = {
		/* first, second, flags of the second; what comes of it */
		{ CX_MOTION_COMMIT, CX_MOTION_COMMIT, 1, CX_MOTION_COMMIT },
		{ CX_MOTION_COMMIT, CX_MOTION_SHRINK, 0, CX_MOTION_COMMIT },
		{ CX_MOTION_SHRINK, CX_MOTION_COMMIT, 1, CX_MOTION_COMMIT },
		{ CX_MOTION_AGREE, CX_MOTION_COMMIT, 0, CX_MOTION_AGREE },
		{ CX_MOTION_AGREE, CX_MOTION_COMMIT, 1, CX_MOTION_AGREE },
		{ CX_MOTION_GROW, CX_MOTION_COMMIT, 0, CX_MOTION_COMMIT },
		{ CX_MOTION_GROW, CX_MOTION_COMMIT, 1, CX_MOTION_MIXED },
		{ CX_MOTION_AGREE, CX_MOTION_SHRINK, 1, CX_MOTION_MIXED },
	};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		struct cx_motion m = decide_by(pairs[i][0], pairs[i][1], pairs[i][2]);
		bool outvoted = pairs[i][0] != pairs[i][1] && m.kind == CX_MOTION_COMMIT;

		cr_expect_eq(m.kind, pairs[i][3], "pair %zu: kind %u", i, m.kind);
		cr_expect_eq(m.outvoted, outvoted, "pair %zu", i);
		cr_expect_eq(m.flags, i == 0 || m.kind == CX_MOTION_AGREE, "pair %zu: flags", i);
	}
}
