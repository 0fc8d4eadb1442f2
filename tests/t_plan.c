/* SPDX-License-Identifier: BSD-3-Clause */
/* Every algorithm proven for 1 to 64 ranks, and the prover proven by breaking plans. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <criterion/criterion.h>

#include "algo.h"
#include "base.h"

enum { MAX_RANKS = 64 };

/* ---- sets of plans, one a rank ---- */

static void create_set(struct cx_plan **plans, const struct cx_algo *algo, int ranks)
{
	for (int r = 0; r < ranks; r++) {
		int rc = cx_plan_create(&plans[r], algo, &(struct cx_shape){ ranks, r });

		cr_assert_eq(rc, 0, "%s", cx_error_text());
	}
}

static void destroy_set(struct cx_plan **plans, int ranks)
{
	for (int r = 0; r < ranks; r++)
		cx_plan_destroy(plans[r]);
}

static const struct cx_algo *find(enum cx_coll coll, const char *name)
{
	const struct cx_algo *algo = cx_algo_find(coll, name);

	cr_assert_not_null(algo, "%s %s", cx_coll_name(coll), name);
	return algo;
}

/* ---- the list ---- */

Test(plan, names_find_what_they_name)
{
	for (int i = 0; cx_algos[i]; i++) {
		const struct cx_algo *a = cx_algos[i];

		cr_assert_eq(cx_algo_find(a->coll, a->name), a);
		cr_assert_eq(cx_coll_find(cx_coll_name(a->coll)), a->coll);
		cr_assert(a->steps && a->bytes);
	}
	cr_assert_null(cx_algo_find(CX_BARRIER, "ring"));
	cr_assert_eq(cx_coll_find("alltoall"), CX_NCOLL);
	cr_assert_str_eq(cx_coll_name(CX_NCOLL), "unknown");
}

Test(plan, every_algorithm_is_proven_for_1_to_64_ranks, .timeout = 120)
{
	uint64_t all = cx_now_ns();

	for (int i = 0; cx_algos[i]; i++) {
		uint64_t begin = cx_now_ns();

		for (int n = 1; n <= MAX_RANKS; n++)
			cr_expect_eq(cx_plan_check(cx_algos[i], n), 0, "%s", cx_error_text());
		fprintf(stderr, "%-14s %-13s 1..%d ranks proven in %4" PRIu64 " ms\n",
			cx_coll_name(cx_algos[i]->coll), cx_algos[i]->name, MAX_RANKS,
			(cx_now_ns() - begin) / 1000000);
	}
	all = (cx_now_ns() - all) / 1000000;
	fprintf(stderr, "all algorithms proven in %" PRIu64 " ms\n", all);
	cr_expect_lt(all, 20000);
}

/* ---- what an algorithm says of itself ---- */

static int proven_with(const struct cx_algo *algo, unsigned flag)
{
	struct cx_algo bold = *algo;
	int ok = 1;

	bold.flags |= flag;
	for (int n = 1; n <= 16 && ok; n++)
		ok = cx_plan_check(&bold, n) == 0;
	return ok;
}

Test(plan, an_order_is_promised_exactly_where_it_is_kept)
{
	static const unsigned orders[] = { CX_ALGO_CANONICAL, CX_ALGO_RANK_ORDER };

	for (int i = 0; cx_algos[i]; i++)
		for (int k = 0; k < 2 && cx_coll_reduces(cx_algos[i]->coll); k++)
			cr_expect_eq(proven_with(cx_algos[i], orders[k]),
				     !!(cx_algos[i]->flags & orders[k]), "%s %s",
				     cx_coll_name(cx_algos[i]->coll), cx_algos[i]->name);
}

static uint32_t slots_of(const struct cx_step *s)
{
	struct cx_operand o[] = { cx_step_dst(s), cx_step_a(s), cx_step_b(s) };
	uint32_t most = 0;

	for (int i = 0; i < 3; i++)
		if (o[i].buf == CX_TMP && o[i].slot + s->nblk > most)
			most = o[i].slot + s->nblk;
	return most;
}

static void check_extent(const struct cx_algo *algo, int ranks, uint32_t *widest)
{
	struct cx_plan *plans[MAX_RANKS];
	uint32_t slots = 0;

	create_set(plans, algo, ranks);
	for (int r = 0; r < ranks; r++) {
		cr_expect_eq(plans[r]->nslots, plans[0]->nslots);
		for (uint32_t i = 0; i < plans[r]->nsteps; i++) {
			const struct cx_step *s = &plans[r]->steps[i];

			slots = slots_of(s) > slots ? slots_of(s) : slots;
			*widest = s->nblk > *widest ? s->nblk : *widest;
		}
	}
	cr_expect_eq(plans[0]->nslots, slots, "%s %s of %d: %u slots, %u used",
		     cx_coll_name(algo->coll), algo->name, ranks, plans[0]->nslots, slots);
	destroy_set(plans, ranks);
}

Test(plan, slots_are_as_many_as_used_and_wide_steps_are_announced)
{
	for (int i = 0; cx_algos[i]; i++) {
		uint32_t widest = 0;

		for (int n = 1; n <= MAX_RANKS; n++)
			check_extent(cx_algos[i], n, &widest);
		cr_expect_eq(widest > 1, !!(cx_algos[i]->flags & CX_ALGO_MULTI_BLOCK), "%s %s",
			     cx_coll_name(cx_algos[i]->coll), cx_algos[i]->name);
	}
}

/* ---- rounds and messages ---- */

/* Time in rounds: a message takes one from when both ends are posted, the rest nothing. */
struct clock {
	const struct cx_plan *plan;
	int *posted, *done; /* by step; -1: not known yet */
	uint32_t next;
};

/* The step of `peer` that meets step i: as many messages of that direction before it. */
static uint32_t partner(const struct clock *me, uint32_t i, const struct clock *peer)
{
	const struct cx_step *s = &me->plan->steps[i];
	int is_send = s->op == CX_OP_SEND, before = 0;
	uint32_t k = 0;

	for (uint32_t j = 0; j < i; j++)
		before += me->plan->steps[j].peer == s->peer &&
			  (me->plan->steps[j].op == CX_OP_SEND) == is_send;
	for (;; k++)
		if (peer->plan->steps[k].peer == me->plan->shape.rank &&
		    (peer->plan->steps[k].op == CX_OP_SEND) != is_send && !before--)
			return k;
}

static int post(struct clock *c, struct clock *all)
{
	uint32_t i = c->next;
	int at = i ? c->posted[i - 1] : 0;

	for (int32_t j = 0; j <= c->plan->after[i]; j++) {
		if (c->done[j] < 0)
			return 0;
		at = c->done[j] > at ? c->done[j] : at;
	}
	c->posted[i] = at;
	c->next++;
	if (c->plan->steps[i].peer < 0) {
		c->done[i] = at;
	} else {
		struct clock *peer = &all[c->plan->steps[i].peer];
		uint32_t k = partner(c, i, peer);

		if (peer->posted[k] >= 0)
			c->done[i] = peer->done[k] = 1 + (at > peer->posted[k] ? at :
								peer->posted[k]);
	}
	return 1;
}

static int last_round(const struct clock *c)
{
	int last = 0;

	for (uint32_t i = 0; i < c->plan->nsteps; i++)
		last = c->done[i] > last ? c->done[i] : last;
	return last;
}

static int count_rounds(struct cx_plan *const *plans, int ranks)
{
	struct clock *c = cx_alloc((size_t)ranks, sizeof(*c));
	int moved = 1, rounds = 0;

	for (int r = 0; r < ranks; r++) {
		size_t bytes = plans[r]->nsteps * sizeof(int);

		c[r] = (struct clock){ plans[r], cx_alloc(1, bytes), cx_alloc(1, bytes), 0 };
		memset(c[r].posted, -1, bytes);
		memset(c[r].done, -1, bytes);
	}
	while (moved) {
		moved = 0;
		for (int r = 0; r < ranks; r++)
			while (c[r].next < plans[r]->nsteps && post(&c[r], c))
				moved = 1;
	}
	for (int r = 0; r < ranks; r++) {
		rounds = last_round(&c[r]) > rounds ? last_round(&c[r]) : rounds;
		cx_free(c[r].posted);
		cx_free(c[r].done);
	}
	cx_free(c);
	return rounds;
}

static int most_sends(struct cx_plan *const *plans, int ranks)
{
	int most = 0;

	for (int r = 0; r < ranks; r++) {
		int sends = 0;

		for (uint32_t i = 0; i < plans[r]->nsteps; i++)
			sends += plans[r]->steps[i].op == CX_OP_SEND;
		most = sends > most ? sends : most;
	}
	return most;
}

/* others * (P - 1) + low * floor(log2 P) + high * ceil(log2 P) + fold * (P not 2^k) + fixed */
struct law {
	int others, low, high, fold, fixed;
};

static int bound(const struct law *l, int ranks)
{
	int low = 31 - __builtin_clz((unsigned)ranks), fold = ranks != 1 << low;

	return l->others * (ranks - 1) + l->low * low + l->high * (low + fold) + l->fold * fold +
	       l->fixed;
}

static const struct {
	enum cx_coll coll;
	const char *name;
	struct law rounds, sends; /* at most, and met by some number of ranks */
} laws[] = {
	{ CX_ALLREDUCE, "ring", { 2, 0, 0, 0, 0 }, { 2, 0, 0, 0, 0 } },
	{ CX_ALLREDUCE, "tree", { 0, 4, 0, 0, 0 }, { 0, 0, 0, 0, 4 } },
	{ CX_ALLREDUCE, "rdbl", { 0, 1, 0, 2, 0 }, { 0, 1, 0, 1, 0 } },
	{ CX_ALLREDUCE, "rhalving", { 0, 2, 0, 2, 0 }, { 0, 2, 0, 1, 0 } },
	{ CX_ALLREDUCE, "direct", { 0, 0, 0, 0, 2 }, { 2, 0, 0, 0, 0 } },
	{ CX_ALLREDUCE, "flat", { 0, 0, 0, 0, 1 }, { 1, 0, 0, 0, 0 } },
	{ CX_REDUCE_SCATTER, "ring", { 1, 0, 0, 0, 0 }, { 1, 0, 0, 0, 0 } },
	{ CX_REDUCE_SCATTER, "rhalving", { 0, 1, 0, 1, 1 }, { 0, 1, 0, 1, 1 } },
	{ CX_REDUCE_SCATTER, "direct", { 0, 0, 0, 0, 1 }, { 1, 0, 0, 0, 0 } },
	{ CX_ALLGATHER, "ring", { 1, 0, 0, 0, 0 }, { 1, 0, 0, 0, 0 } },
	{ CX_ALLGATHER, "rdbl", { 0, 1, 0, 2, 0 }, { 0, 1, 0, 1, 0 } },
	{ CX_ALLGATHER, "direct", { 0, 0, 0, 0, 1 }, { 1, 0, 0, 0, 0 } },
	{ CX_BROADCAST, "binomial", { 0, 0, 1, 0, 0 }, { 0, 0, 1, 0, 0 } },
	{ CX_BROADCAST, "tree", { 0, 2, 0, 0, 0 }, { 0, 0, 0, 0, 2 } },
	{ CX_BROADCAST, "flat", { 0, 0, 0, 0, 1 }, { 1, 0, 0, 0, 0 } },
	{ CX_REDUCE, "binomial", { 0, 0, 1, 0, 0 }, { 0, 0, 0, 0, 1 } },
	{ CX_REDUCE, "tree", { 0, 2, 0, 0, 2 }, { 0, 0, 0, 0, 2 } },
	{ CX_REDUCE, "flat", { 0, 0, 0, 0, 1 }, { 0, 0, 0, 0, 1 } },
	{ CX_BARRIER, "dissemination", { 0, 0, 1, 0, 0 }, { 0, 0, 1, 0, 0 } },
	{ CX_BARRIER, "flat", { 0, 0, 0, 0, 1 }, { 1, 0, 0, 0, 0 } },
};

Test(plan, rounds_and_messages_are_as_few_as_promised)
{
	struct cx_plan *plans[MAX_RANKS];

	for (size_t i = 0; i < sizeof(laws) / sizeof(laws[0]); i++) {
		int round_slack = INT32_MAX, send_slack = INT32_MAX;

		for (int n = 2; n <= MAX_RANKS; n++) {
			int rounds, sends;

			create_set(plans, find(laws[i].coll, laws[i].name), n);
			rounds = bound(&laws[i].rounds, n) - count_rounds(plans, n);
			sends = bound(&laws[i].sends, n) - most_sends(plans, n);
			cr_expect(rounds >= 0 && sends >= 0, "%s %s of %d: %d rounds, %d sends",
				  cx_coll_name(laws[i].coll), laws[i].name, n,
				  count_rounds(plans, n), most_sends(plans, n));
			round_slack = rounds < round_slack ? rounds : round_slack;
			send_slack = sends < send_slack ? sends : send_slack;
			destroy_set(plans, n);
		}
		cr_expect(round_slack == 0 && send_slack == 0, "%s %s: slack %d, %d",
			  cx_coll_name(laws[i].coll), laws[i].name, round_slack, send_slack);
	}
}

/* ---- double trees ---- */

/* Counts a plan's messages by tree; the trees in which the rank is not a leaf. */
static unsigned inside(const struct cx_plan *p, int *sends)
{
	unsigned op = p->algo->coll == CX_BROADCAST ? CX_OP_SEND : CX_OP_RECV_REDUCE, trees = 0;
	int children[2] = { 0, 0 };

	for (uint32_t i = 0; i < p->nsteps; i++) {
		const struct cx_step *s = &p->steps[i];

		sends[s->blk] += s->op == CX_OP_SEND;
		if (s->op != op)
			continue;
		trees |= 1u << s->blk;
		cr_expect_leq(++children[s->blk], 2);
	}
	return trees;
}

static void check_trees(const struct cx_algo *algo, int ranks)
{
	int sends[2] = { 0, 0 }, each = (algo->coll == CX_ALLREDUCE ? 2 : 1) * (ranks - 1);
	struct cx_plan *plans[MAX_RANKS];

	create_set(plans, algo, ranks);
	cr_expect_eq(plans[0]->nblocks, 2);
	for (int r = 0; r < ranks; r++) {
		int both = inside(plans[r], sends) == 3;

		cr_expect(!both || (r == 0 && algo->coll != CX_ALLREDUCE),
			  "%s of %d: rank %d is inside both trees", cx_coll_name(algo->coll),
			  ranks, r);
	}
	cr_expect(sends[0] == each && sends[1] == each, "%s of %d: %d and %d messages",
		  cx_coll_name(algo->coll), ranks, sends[0], sends[1]);
	destroy_set(plans, ranks);
}

Test(plan, who_works_in_one_tree_is_a_leaf_of_the_other)
{
	for (int n = 2; n <= MAX_RANKS; n++) {
		check_trees(find(CX_ALLREDUCE, "tree"), n);
		check_trees(find(CX_BROADCAST, "tree"), n);
		check_trees(find(CX_REDUCE, "tree"), n);
	}
}

/* ---- mutations ---- */

enum { FIELDS = 10, FLAG_BITS = 8, MUTATIONS = 2 * FIELDS + FLAG_BITS };

static const char *const field_names[] = {
	"op", "dst_buf", "a_buf", "b_buf", "unused", "peer", "blk", "nblk", "dst", "src", "flag",
};

static int field_of(int mutation)
{
	return mutation < 2 * FIELDS ? mutation / 2 : FIELDS;
}

static void mutate(struct cx_step *s, int mutation)
{
	int by = mutation % 2 ? 1 : -1;

	switch (field_of(mutation)) {
	case 0: s->op = (uint8_t)(s->op + by); break;
	case 1: s->dst_buf = (s->dst_buf + by) & 15; break;
	case 2: s->a_buf = (s->a_buf + by) & 15; break;
	case 3: s->b_buf = (s->b_buf + by) & 15; break;
	case 4: s->unused = (s->unused + by) & 15; break;
	case 5: s->peer += by; break;
	case 6: s->blk += (uint32_t)by; break;
	case 7: s->nblk += (uint32_t)by; break;
	case 8: s->dst += (uint32_t)by; break;
	case 9: s->src += (uint32_t)by; break;
	default: s->flags ^= (uint8_t)(1u << (mutation - 2 * FIELDS));
	}
}

/* An earlier step that put into `dst` what the later one reads there. */
static int filled(const struct cx_plan *p, const struct cx_step *reader, unsigned op,
		  struct cx_operand dst)
{
	for (const struct cx_step *s = p->steps; s < reader; s++)
		if (s->op == op && s->dst_buf == dst.buf && cx_step_dst(s).slot == dst.slot)
			return 1;
	return 0;
}

/*
 * Why a plan that the prover still takes is indeed right; NULL: it has no business
 * to be. `is` stands in the plan, `was` before it was damaged.
 */
static const char *equivalent(const struct cx_plan *p, const struct cx_step *was,
			      const struct cx_step *is)
{
	struct cx_step a = *was, b = *was, c = *was;

	a.flags ^= CX_LEFT;
	if (!memcmp(&a, is, sizeof(a)) && !(p->algo->flags & CX_ALGO_RANK_ORDER))
		return "another order where none is promised, the same on all ranks";
	b.a_buf = CX_IN;
	if (!memcmp(&b, is, sizeof(b)) && was->a_buf == CX_OUT && was->nblk == 1 &&
	    filled(p, is, CX_OP_COPY, (struct cx_operand){ CX_OUT, was->blk }))
		return "IN instead of its copy in OUT";
	c.src = is->src;
	if (!memcmp(&c, is, sizeof(c)) && p->algo->coll == CX_BARRIER && is->op == CX_OP_SEND &&
	    (!is->src || filled(p, is, CX_OP_RECV, (struct cx_operand){ CX_TMP, is->src })))
		return "waits for another message, and all are heard of all the same";
	return NULL;
}

struct tally {
	int tried, survived, unexplained;
};

static void survive(const struct cx_plan *p, uint32_t step, int mutation,
		    const struct cx_step *was, struct tally *t)
{
	const char *kind = equivalent(p, was, &p->steps[step]);

	t->survived++;
	t->unexplained += !kind;
	fprintf(stderr, "  survives: %s %s, rank %d of %d, step %u, %s%s: %s\n",
		cx_coll_name(p->algo->coll), p->algo->name, p->shape.rank, p->shape.ranks, step,
		field_names[field_of(mutation)], mutation % 2 ? "+" : "-",
		kind ? kind : "NOT EXPLAINED");
}

static void mutate_step(struct cx_plan **plans, int ranks, int rank, uint32_t step,
			struct tally *t)
{
	struct cx_plan *p = plans[rank];
	struct cx_step was = p->steps[step];

	for (int m = 0; m < MUTATIONS; m++) {
		mutate(&p->steps[step], m);
		t->tried++;
		if (!cx_plan_finish(p) && !cx_plan_check_set(plans, ranks))
			survive(p, step, m, &was, t);
		p->steps[step] = was;
	}
	cr_assert_eq(cx_plan_finish(p), 0);
}

static void mutate_after(struct cx_plan **plans, int ranks, int rank, uint32_t step,
			 struct tally *t)
{
	int32_t *after = &plans[rank]->after[step], was = *after;

	for (int by = -1; by <= 1; by += 2) {
		*after = was + by;
		t->tried++;
		if (!cx_plan_check_set(plans, ranks)) {
			t->survived++;
			t->unexplained++;
		}
	}
	*after = was;
}

static void drop_step(struct cx_plan **plans, int ranks, int rank, uint32_t step,
		      struct tally *t)
{
	struct cx_plan *p = plans[rank];
	struct cx_step was = p->steps[step], *at = &p->steps[step];
	size_t rest = (--p->nsteps - step) * sizeof(*at);

	memmove(at, at + 1, rest);
	t->tried++;
	if (!cx_plan_finish(p) && !cx_plan_check_set(plans, ranks)) {
		t->survived++;
		t->unexplained++;
	}
	memmove(at + 1, at, rest);
	*at = was;
	p->nsteps++;
	cr_assert_eq(cx_plan_finish(p), 0);
}

static struct tally mutate_all(const struct cx_algo *algo, int ranks)
{
	struct cx_plan *plans[MAX_RANKS];
	struct tally t = { 0, 0, 0 };

	create_set(plans, algo, ranks);
	for (int r = 0; r < ranks; r++)
		for (uint32_t i = 0; i < plans[r]->nsteps; i++) {
			mutate_step(plans, ranks, r, i, &t);
			mutate_after(plans, ranks, r, i, &t);
			drop_step(plans, ranks, r, i, &t);
		}
	cr_assert_eq(cx_plan_check_set(plans, ranks), 0);
	destroy_set(plans, ranks);
	return t;
}

Test(plan, broken_plans_are_caught, .timeout = 120)
{
	static const int sizes[] = { 5, 6, 8 };
	struct tally all = { 0, 0, 0 };

	for (int i = 0; cx_algos[i]; i++)
		for (int k = 0; k < 3; k++) {
			struct tally t = mutate_all(cx_algos[i], sizes[k]);

			cr_expect_geq((t.tried - t.survived) * 100, t.tried * 98, "%s %s of %d",
				      cx_coll_name(cx_algos[i]->coll), cx_algos[i]->name,
				      sizes[k]);
			all.tried += t.tried;
			all.survived += t.survived;
			all.unexplained += t.unexplained;
		}
	fprintf(stderr, "%d of %d mutations caught (%.2f %%)\n", all.tried - all.survived,
		all.tried, 100.0 * (all.tried - all.survived) / all.tried);
	cr_expect_eq(all.unexplained, 0);
}

/* ---- text ---- */

static const struct golden {
	enum cx_coll coll;
	const char *name;
	int ranks, rank;
} goldens[] = {
	{ CX_ALLREDUCE, "ring", 4, 1 },	     { CX_ALLREDUCE, "tree", 8, 3 },
	{ CX_ALLREDUCE, "tree", 5, 2 },	     { CX_ALLREDUCE, "rdbl", 6, 2 },
	{ CX_ALLREDUCE, "rhalving", 8, 5 },  { CX_ALLREDUCE, "direct", 4, 2 },
	{ CX_ALLREDUCE, "flat", 6, 3 },	     { CX_REDUCE_SCATTER, "rhalving", 6, 2 },
	{ CX_ALLGATHER, "rdbl", 8, 6 },	     { CX_BROADCAST, "binomial", 6, 0 },
	{ CX_BROADCAST, "tree", 7, 0 },	     { CX_REDUCE, "binomial", 8, 0 },
	{ CX_REDUCE, "tree", 8, 4 },	     { CX_BARRIER, "dissemination", 5, 2 },
};

static char *printed(const struct golden *g)
{
	struct cx_plan *plan;
	char *text;
	size_t len;
	FILE *to = open_memstream(&text, &len);
	int rc = cx_plan_create(&plan, find(g->coll, g->name),
				&(struct cx_shape){ g->ranks, g->rank });

	cr_assert(to && !rc);
	cx_plan_print(plan, to);
	fclose(to);
	cx_plan_destroy(plan);
	return text;
}

Test(plan, prints_as_it_did)
{
	const char *srcdir = getenv("srcdir");
	int renew = getenv("COLLX_GOLDEN_WRITE") != NULL;

	for (size_t i = 0; i < sizeof(goldens) / sizeof(goldens[0]); i++) {
		const struct golden *g = &goldens[i];
		char path[512], *text = printed(g), was[8192] = "";
		FILE *f;

		snprintf(path, sizeof(path), "%s/tests/golden/%s-%s-%d-%d.plan",
			 srcdir ? srcdir : ".", cx_coll_name(g->coll), g->name, g->ranks,
			 g->rank);
		f = fopen(path, renew ? "w" : "r");
		cr_assert_not_null(f, "%s", path);
		if (renew)
			fputs(text, f);
		else
			was[fread(was, 1, sizeof(was) - 1, f)] = '\0';
		fclose(f);
		cr_expect(renew || !strcmp(text, was), "%s differs; now:\n%s", path, text);
		free(text);
	}
}

/* ---- builders' mistakes, big plans, no memory ---- */

static void build_to_itself(struct cx_plan *p)
{
	p->nblocks = 1;
	cx_plan_send(p, p->shape.rank, cx_in, 0, 1);
}

static void build_two_slots(struct cx_plan *p)
{
	p->nblocks = 1;
	p->nslots = 2;
	cx_plan_reduce(p, cx_tmp(0), cx_tmp(1), cx_in, 0, 1, 0);
	cx_plan_copy(p, cx_out, cx_tmp(0), 0, 1);
}

static void build_shifted(struct cx_plan *p)
{
	p->nblocks = 2;
	p->nslots = 3;
	cx_plan_copy(p, cx_tmp(1), cx_tmp(0), 0, 2);
}

Test(plan, a_builders_mistake_is_an_error)
{
	static void (*const builds[])(struct cx_plan *) = { build_to_itself, build_two_slots,
							    build_shifted };
	static const int shapes[][2] = { { 0, 0 }, { -1, 0 }, { 4, -1 }, { 4, 4 } };
	struct cx_plan *untouched = NULL;

	for (size_t i = 0; i < sizeof(builds) / sizeof(builds[0]); i++) {
		struct cx_algo bad = { CX_ALLREDUCE, "bad", builds[i], 0, "", "" };

		cr_expect_eq(cx_plan_create(&untouched, &bad, &(struct cx_shape){ 4, 1 }),
			     COLLX_ERR_INTERNAL);
		cr_expect_neq(cx_error_text()[0], '\0');
	}
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		struct cx_shape shape = { shapes[i][0], shapes[i][1] };

		cr_expect_eq(cx_plan_create(&untouched, cx_algos[0], &shape), COLLX_ERR_INVALID);
	}
	cr_expect_eq(cx_plan_check(cx_algos[0], 0), COLLX_ERR_INVALID);
	cr_expect_null(untouched);
	cx_plan_destroy(NULL);
}

Test(plan, big_plans_are_made_at_once)
{
	for (int i = 0; cx_algos[i]; i++) {
		uint64_t begin = cx_now_ns();
		struct cx_plan *plan;

		cr_assert_eq(cx_plan_create(&plan, cx_algos[i], &(struct cx_shape){ 1024, 5 }), 0);
		begin = (cx_now_ns() - begin) / 1000;
		fprintf(stderr, "%-14s %-13s 1024 ranks: %4u steps made in %4" PRIu64 " us\n",
			cx_coll_name(plan->algo->coll), plan->algo->name, plan->nsteps, begin);
		cr_expect_lt(begin, 50000);
		cx_plan_destroy(plan);
	}
}

static int allowed, live;

static void *stingy_alloc(size_t len)
{
	void *p = allowed-- > 0 ? cx_sys_real.alloc(len) : NULL;

	live += p != NULL;
	return p;
}

static void counting_release(void *p)
{
	live -= p != NULL;
	cx_sys_real.release(p);
}

static int create_and_destroy(const struct cx_algo *algo)
{
	struct cx_plan *plan;
	int rc = cx_plan_create(&plan, algo, &(struct cx_shape){ 40, 3 });

	if (!rc)
		cx_plan_destroy(plan);
	return rc;
}

static int check_six(const struct cx_algo *algo)
{
	return cx_plan_check(algo, 6);
}

Test(plan, memory_may_run_out_anywhere)
{
	static int (*const jobs[])(const struct cx_algo *) = { create_and_destroy, check_six };
	struct cx_sys poor = cx_sys_real;

	poor.alloc = stingy_alloc;
	poor.release = counting_release;
	cx_sys = &poor;
	for (int i = 0; cx_algos[i]; i++)
		for (int k = 0; k < 2; k++) {
			int rc = COLLX_ERR_NOMEM;

			for (int n = 0; rc; n++) {
				allowed = n;
				rc = jobs[k](cx_algos[i]);
				cr_assert(rc == 0 || rc == COLLX_ERR_NOMEM, "%d", rc);
				cr_assert_eq(live, 0);
			}
		}
	cx_sys = &cx_sys_real;
}
