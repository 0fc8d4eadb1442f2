/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Top-k in one pass over memory. A kernel collects candidates of at least some
 * key; when their room is full, the k best stay and the key rises above the k-th:
 * what comes later has a larger index and loses against equals. The key begins at
 * a hint, or at what a sample of the elements says.
 */
#include <string.h>

#include "kernels/element.h"
#include "kernels/topk.h"

enum { SAMPLE = 1024, ROOM = 8192 };

size_t cx_topk_room(size_t n, size_t k)
{
	return 2 * k + ROOM < n + CX_SELECT_ROOM ? 2 * k + ROOM : n + CX_SELECT_ROOM;
}

static uint32_t key_of(uint32_t bits)
{
	return bits & 0x7fffffffu;
}

/* Of the buckets, the one that holds the k-th from above; *k becomes its place there. */
static uint32_t bucket_of(const uint32_t *count, uint32_t buckets, size_t *k)
{
	uint32_t b = buckets - 1;

	while (b && count[b] < *k)
		*k -= count[b--];
	return b;
}

/* The k-th largest key of n; *k becomes its place among its equals. 1 <= k <= n. */
static uint32_t kth_key(const uint32_t *bits, size_t n, size_t *k)
{
	static const struct {
		unsigned shift, width;
	} digit[] = { { 20, 11 }, { 10, 10 }, { 0, 10 } };
	uint32_t count[2048], key = 0, known = 0;

	for (unsigned d = 0; d < 3; d++) {
		uint32_t mask = (1u << digit[d].width) - 1;

		memset(count, 0, sizeof(count));
		for (size_t i = 0; i < n; i++)
			if ((key_of(bits[i]) & known) == key)
				count[key_of(bits[i]) >> digit[d].shift & mask]++;
		key |= bucket_of(count, mask + 1, k) << digit[d].shift;
		known |= mask << digit[d].shift;
	}
	return key;
}

static void put_back(const struct cx_topk *t, uint32_t bits, uint32_t index)
{
	if (t->residual)
		memcpy(t->residual + index, &bits, sizeof(bits));
}

/* Only the k best of the candidates stay; returns the key of the last of them. */
static uint32_t prune(const struct cx_topk *t, struct cx_select *s)
{
	size_t equals = t->k, kept = 0;
	uint32_t key = kth_key(t->bits, s->found, &equals);

	for (size_t i = 0; i < s->found; i++) {
		uint32_t mine = key_of(t->bits[i]);

		if (mine > key || (mine == key && equals)) {
			equals -= mine == key;
			t->bits[kept] = t->bits[i];
			t->index[kept++] = t->index[i];
		} else {
			put_back(t, t->bits[i], t->index[i]);
		}
	}
	s->found = kept;
	return key;
}

static uint32_t least_key(const uint32_t *bits, size_t n)
{
	uint32_t least = key_of(bits[0]);

	for (size_t i = 1; i < n; i++)
		least = key_of(bits[i]) < least ? key_of(bits[i]) : least;
	return least;
}

static struct cx_select selection(const struct cx_topk *t, uint32_t least)
{
	return (struct cx_select){ .gradient = t->gradient, .residual = t->residual, .n = t->n,
				   .decay = t->decay, .bits = t->bits, .index = t->index,
				   .room = t->room,
				   .least = least > t->floor ? least : t->floor };
}

/* One pass. */
static void pass(struct cx_topk *t, cx_select_fn select, struct cx_select *s)
{
	t->least = 0;
	for (select(s); s->at < s->n; select(s))
		s->least = prune(t, s) + 1;
	if (s->found > t->k)
		t->least = prune(t, s);
	else if (s->found == t->k)
		t->least = least_key(t->bits, s->found);
	t->found = s->found;
}

/* A key that more than k elements probably have. It may be wrong: pass sees to that. */
static uint32_t guess(const struct cx_topk *t, cx_select_fn select)
{
	size_t stride = t->n / SAMPLE, rank = 0, found = 0;
	uint32_t bits[SAMPLE + CX_SELECT_ROOM], index[SAMPLE + CX_SELECT_ROOM];
	struct cx_select s = { .n = SAMPLE, .decay = t->decay, .least = 1, .bits = bits,
			       .index = index, .room = SAMPLE + CX_SELECT_ROOM };
	float gradient[SAMPLE], residual[SAMPLE];
	size_t size = t->type == COLLX_FLOAT32 ? 4 : 2;

	if (stride < 16)
		return 1;
	for (size_t i = 0; i < SAMPLE; i++) {
		/* Not one after the other at the same place of every row of a matrix. */
		size_t at = i * stride + i * 7919 % stride;

		memcpy((char *)gradient + i * size, (const char *)t->gradient + at * size, size);
		if (t->residual)
			memcpy(residual + i, t->residual + at, sizeof(*residual));
	}
	s.gradient = gradient;
	s.residual = t->residual ? residual : NULL;
	select(&s);
	found = s.found;
	rank = t->k / stride + t->k / stride / 2 + 8;
	return rank < found ? kth_key(bits, found, &rank) : 1;
}

void cx_topk(struct cx_topk *t)
{
	cx_select_fn select = t->codecs->select[cx_float_slot(t->type)];
	struct cx_select s;

	t->found = t->least = 0;
	t->unfit = 0;
	if (t->k == 0 || t->n == 0) {
		/* Still everything is left over. */
		s = selection(t, CX_INF32);
		select(&s);
		t->unfit = s.unfit;
		return;
	}
	s = selection(t, t->hint ? t->hint : guess(t, select));
	pass(t, select, &s);
	t->unfit = s.unfit;
	if (t->found >= t->k || s.least <= t->floor)
		return;
	/* Too high: again, over the sums, which are in the residual by now. */
	for (size_t i = 0; i < t->found; i++)
		put_back(t, t->bits[i], t->index[i]);
	s = selection(t, 0);
	if (t->residual)
		s.gradient = NULL;
	pass(t, select, &s);
}
