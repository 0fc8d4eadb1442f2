/* SPDX-License-Identifier: BSD-3-Clause */
/* The pairwise covering array; see cover.h. */
#include <string.h>

#include "tests/cover.h"
#include "tests/world.h"

enum { TRIES = 40, UNSET = 255 };

struct cover {
	unsigned char seen[FACTORS][FACTORS][WHATS_MAX][WHATS_MAX];
	uint64_t random;
};

struct pair {
	enum factor f, g;
	unsigned char v, w;
};

static uint32_t draw(struct cover *c, uint32_t n)
{
	c->random++;
	return (uint32_t)(mix64(c->random) % n);
}

static int possible(const struct pair *p)
{
	if (p->f == F_WHAT)
		return factor_allowed(p->g, p->w, p->v);
	for (int what = 0; what < factor_values(F_WHAT); what++)
		if (factor_allowed(p->f, p->v, what) && factor_allowed(p->g, p->w, what))
			return 1;
	return 0;
}

static const struct pair first_pair = { F_WHAT, F_RANKS, 0, 0 };

/* Goes to the next pair in order; p->g is FACTORS at the end. */
static void next_pair(struct pair *p)
{
	if (++p->w < factor_values(p->g))
		return;
	p->w = 0;
	if (++p->v < factor_values(p->f))
		return;
	p->v = 0;
	if (++p->g == FACTORS && ++p->f < F_MODE)
		p->g = p->f + 1;
}

static int first_unseen(const struct cover *c, struct pair *p)
{
	for (*p = first_pair; p->g < FACTORS; next_pair(p))
		if (!c->seen[p->f][p->g][p->v][p->w] && possible(p))
			return 1;
	return 0;
}

static int is_seen(const struct cover *c, unsigned f, int v, unsigned g, int w)
{
	return f < g ? c->seen[f][g][v][w] : c->seen[g][f][w][v];
}

/* New pairs that value v of f would make with what is set already. */
static int gain(const struct cover *c, const struct test_case *k, unsigned f, int v)
{
	int n = 0;

	for (unsigned g = 0; g < FACTORS; g++)
		if (g != f && k->v[g] != UNSET)
			n += !is_seen(c, f, v, g, k->v[g]);
	return n;
}

/* Sets f to the allowed value that gains most; ties fall by chance. Returns the gain. */
static int set_best(struct cover *c, struct test_case *k, unsigned f)
{
	int values = factor_values((enum factor)f), best = -1, best_gain = -1;
	int from = (int)draw(c, (uint32_t)values);

	for (int i = 0; i < values; i++) {
		int v = (from + i) % values, g;

		if (!factor_allowed((enum factor)f, v, k->v[F_WHAT]))
			continue;
		g = gain(c, k, f, v);
		if (g > best_gain) {
			best_gain = g;
			best = v;
		}
	}
	k->v[f] = (unsigned char)best;
	return best_gain;
}

/* A case around a pair. Returns how many new pairs it has. */
static int grow_case(struct cover *c, const struct pair *p, struct test_case *k)
{
	unsigned order[FACTORS];
	int n = 1;

	memset(k->v, UNSET, sizeof(k->v));
	k->v[p->f] = p->v;
	k->v[p->g] = p->w;
	while (k->v[F_WHAT] == UNSET) {
		int what = (int)draw(c, (uint32_t)factor_values(F_WHAT));

		if (factor_allowed(p->f, p->v, what) && factor_allowed(p->g, p->w, what))
			k->v[F_WHAT] = (unsigned char)what;
	}
	if (p->f != F_WHAT)
		n += !is_seen(c, F_WHAT, k->v[F_WHAT], p->f, p->v) +
		     !is_seen(c, F_WHAT, k->v[F_WHAT], p->g, p->w);
	for (unsigned i = 0; i < FACTORS; i++) {
		unsigned j = draw(c, i + 1);

		order[i] = order[j];
		order[j] = i;
	}
	for (int i = 0; i < FACTORS; i++)
		if (k->v[order[i]] == UNSET)
			n += set_best(c, k, order[i]);
	return n;
}

static void mark(struct cover *c, const struct test_case *k)
{
	for (int f = 0; f < FACTORS; f++)
		for (int g = f + 1; g < FACTORS; g++)
			c->seen[f][g][k->v[f]][k->v[g]] = 1;
}

int cover_make(struct test_case *cases, int max)
{
	static struct cover c;
	struct pair p;
	int n = 0;

	memset(&c, 0, sizeof(c));
	while (n < max && first_unseen(&c, &p)) {
		int best = -1;

		for (int i = 0; i < TRIES; i++) {
			struct test_case k;
			int g = grow_case(&c, &p, &k);

			if (g > best) {
				best = g;
				cases[n] = k;
			}
		}
		cases[n].seed = (uint32_t)n + 1;
		mark(&c, &cases[n++]);
	}
	return n;
}

int cover_pairs(const struct test_case *cases, int n, int *missing)
{
	struct pair p;
	int pairs = 0;

	*missing = 0;
	for (p = first_pair; p.g < FACTORS; next_pair(&p)) {
		int found = 0;

		if (!possible(&p))
			continue;
		pairs++;
		for (int i = 0; i < n && !found; i++)
			found = cases[i].v[p.f] == p.v && cases[i].v[p.g] == p.w;
		*missing += !found;
	}
	return pairs;
}
