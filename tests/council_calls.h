/* SPDX-License-Identifier: BSD-3-Clause */
/* One council, whose frames are recorded, and what others may tell it. */
#ifndef COUNCIL_CALLS_H
#define COUNCIL_CALLS_H

#include <string.h>
#include <criterion/criterion.h>

#include "src/council.h"

enum { PATIENCE = 1000 };

static struct {
	int frames, to[64];
	enum cx_frame_kind kind[64];
	struct cx_council_proposal proposal; /* the last */
	struct cx_council_resign resign;
	struct cx_motion decided;
	struct cx_council_vote vote;
} sent;

static inline void record(void *ctx, int to, enum cx_frame_kind kind, const void *body, size_t len)
{
	(void)ctx;
	if (kind == CX_FRAME_PROPOSE)
		memcpy(&sent.proposal, body, len);
	if (kind == CX_FRAME_RESIGN)
		memcpy(&sent.resign, body, len);
	if (kind == CX_FRAME_DECIDED)
		memcpy(&sent.decided, body, len);
	if (kind == CX_FRAME_VOTE)
		memcpy(&sent.vote, body, len);
	sent.to[sent.frames % 64] = to;
	sent.kind[sent.frames++ % 64] = kind;
}

/* Frames of that kind sent since the last look. */
static inline int told(enum cx_frame_kind kind)
{
	int n = 0;

	for (int i = 0; i < sent.frames && i < 64; i++)
		n += sent.kind[i] == kind;
	return n;
}

/* A rank that finds all lower ones silent: the chair, at time 0. */
static inline struct cx_council chair(int rank, int ranks)
{
	struct cx_council c;

	memset(&sent, 0, sizeof(sent));
	cr_assert_eq(cx_council_init(&c, rank, ranks, PATIENCE), 0);
	c.send = record;
	for (int r = 0; r < rank; r++)
		cx_council_silent(&c, r, 0);
	cx_council_begin(&c, 0);
	cr_assert_eq(c.chair, rank);
	return c;
}

static inline struct cx_motion motion(uint32_t kind, uint64_t number, uint64_t flags)
{
	return (struct cx_motion){ .kind = kind, .number = number, .flags = flags };
}

static inline bool join(struct cx_council *c, int rank, uint64_t decided, uint64_t dead,
			uint64_t now)
{
	struct cx_council_join j = { .decided = decided, .dead.word[0] = dead };

	return cx_council_hear(c, rank, CX_FRAME_JOIN, &j, sizeof(j), now);
}

static inline bool hear_of(struct cx_council *c, int rank, uint64_t ballot, uint64_t number,
			   uint64_t flags)
{
	struct cx_council_proposal p = { ballot, motion(CX_MOTION_AGREE, number, flags) };

	return cx_council_hear(c, rank, CX_FRAME_ACCEPTED, &p, sizeof(p), 0);
}

static inline bool propose_to(struct cx_council *c, int rank, uint64_t ballot, uint64_t number)
{
	struct cx_council_proposal p = { ballot, motion(CX_MOTION_AGREE, number, 5) };

	return cx_council_hear(c, rank, CX_FRAME_PROPOSE, &p, sizeof(p), 0);
}

static inline bool accept_of(struct cx_council *c, int rank, uint64_t ballot, uint64_t number)
{
	struct cx_council_accept a = { ballot, number };

	return cx_council_hear(c, rank, CX_FRAME_ACCEPT, &a, sizeof(a), 0);
}

static inline bool vote_of(struct cx_council *c, int rank, uint32_t kind, uint64_t number,
			   uint64_t by)
{
	struct cx_council_vote v = { by, motion(kind, number, 7) };

	return cx_council_hear(c, rank, CX_FRAME_VOTE, &v, sizeof(v), 0);
}

static inline bool tell_decided(struct cx_council *c, int rank, uint32_t kind, uint64_t number,
				uint64_t out)
{
	struct cx_motion m = motion(kind, number, 3);

	m.out.word[0] = out;
	return cx_council_hear(c, rank, CX_FRAME_DECIDED, &m, sizeof(m), 0);
}

static inline bool abort_of(struct cx_council *c, int from, int64_t by)
{
	const struct cx_council_abort a = { by };

	return cx_council_hear(c, from, CX_FRAME_ABORT, &a, sizeof(a), 0);
}

/* To whom frames of that kind went since the last look. */
static inline uint64_t told_to(enum cx_frame_kind kind)
{
	uint64_t who = 0;

	for (int i = 0; i < sent.frames && i < 64; i++)
		who |= sent.kind[i] == kind ? (uint64_t)1 << sent.to[i] : 0;
	memset(&sent, 0, sizeof(sent));
	return who;
}

static inline bool tell_dead(struct cx_council *c, int rank, uint64_t dead)
{
	const struct cx_set d = { { dead } };

	return cx_council_hear(c, rank, CX_FRAME_LOST, &d, sizeof(d), 0);
}

/* A member of that rank, whose chair is rank 0: at time 0. */
static inline struct cx_council member(int rank, int ranks)
{
	struct cx_council c;

	memset(&sent, 0, sizeof(sent));
	cr_assert_eq(cx_council_init(&c, rank, ranks, PATIENCE), 0);
	c.send = record;
	cx_council_begin(&c, 0);
	cx_council_seated(&c, 0);
	cr_assert(c.chair == 0 && c.seated && told_to(CX_FRAME_JOIN) == 1);
	return c;
}

static inline bool vote_out(struct cx_council *c, int rank, uint32_t kind, uint64_t number,
			    uint64_t out)
{
	struct cx_council_vote v = { PATIENCE, motion(kind, number, 0) };

	v.motion.id.bytes[0] = (unsigned char)('0' + rank);
	v.motion.out.word[0] = out;
	return cx_council_hear(c, rank, CX_FRAME_VOTE, &v, sizeof(v), 0);
}

#endif
