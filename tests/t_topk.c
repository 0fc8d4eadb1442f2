/* SPDX-License-Identifier: BSD-3-Clause */
/* Top-k against sorting, and sparse messages, sound ones and others. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <criterion/criterion.h>

#include "codec_cases.h"
#include "collx.h"
#include "kernels/element.h"
#include "kernels/layout.h"
#include "kernels/topk.h"
#include "lies.h"

enum { MOST = 100000 };
static float g[MOST], e[MOST], left[MOST], sum[MOST], out[MOST];
static uint32_t order[MOST];
static unsigned char msg[MOST * 8 + 1024];

/* ---- the reference ---- */

static int before(const void *p, const void *q)
{
	uint32_t i = *(const uint32_t *)p, k = *(const uint32_t *)q;
	uint32_t x = cx_abs_bits(sum[i]), y = cx_abs_bits(sum[k]);

	return x != y ? (x < y ? 1 : -1) : (i > k) - (i < k);
}

/* Puts into sum what is to be chosen from, in order the indices by rank; returns how many
 * may be chosen. */
static size_t rank_all(size_t n, bool feedback, float decay, float floor)
{
	size_t eligible = 0;

	for (size_t i = 0; i < n; i++) {
		float a = feedback ? g[i] + decay * e[i] : g[i];

		if (!isfinite(a))
			a = feedback ? e[i] : 0;
		sum[i] = isfinite(a) ? a : 0;
		order[i] = (uint32_t)i;
		eligible += sum[i] != 0 && fabsf(sum[i]) >= floor;
	}
	qsort(order, n, sizeof(*order), before);
	return eligible;
}

/* ---- choosing ---- */

struct want {
	size_t n, k;
	bool feedback;
	collx_type type; /* of the gradient */
	collx_topk_opts o;
};

static const collx_type types[] = { COLLX_FLOAT32, COLLX_BFLOAT16, COLLX_FLOAT16 };

/* The gradient as that type; g becomes what is left of it. */
static const void *gradient_as(collx_type type, size_t n)
{
	static uint16_t h[MOST];

	if (type == COLLX_FLOAT32)
		return g;
	for (size_t i = 0; i < n; i++) {
		h[i] = type == COLLX_FLOAT16 ? cx_f16_from_f32(g[i]) : cx_bf16_from_f32(g[i]);
		g[i] = type == COLLX_FLOAT16 ? cx_f16_to_f32(h[i]) : cx_bf16_to_f32(h[i]);
	}
	return h;
}

static void check_message(const struct want *w, size_t len)
{
	size_t chosen = rank_all(w->n, w->feedback, w->o.decay, w->o.floor);

	chosen = chosen < w->k ? chosen : w->k;
	memset(out, 0, w->n * sizeof(*out));
	cr_assert_eq(collx_sparse_add(out, w->n, msg, len, NULL, NULL), COLLX_OK);
	for (size_t r = 0; r < w->n; r++) {
		uint32_t i = order[r];
		float rest = r < chosen ? sum[i] - out[i] : sum[i];

		if (r >= chosen)
			cr_assert_eq(out[i], 0, "rank %zu of %zu was sent", r, chosen);
		else if (w->o.value_type == COLLX_FLOAT32)
			cr_assert_eq(out[i], sum[i], "rank %zu of %zu was not sent", r, chosen);
		if (w->feedback && isfinite(left[i]))
			cr_assert_eq(left[i], rest);
	}
}

static void check_choice(const struct want *w, float truth)
{
	collx_topk_info info = COLLX_TOPK_INFO_INIT;
	collx_topk_opts o = w->o;
	size_t room = collx_sparse_size(w->n, w->k, o.value_type);
	const void *in = gradient_as(w->type, w->n);

	memcpy(left, e, w->n * sizeof(*left));
	o.residual = w->feedback ? left : NULL;
	o.hint = truth;
	memset(msg, 0xee, sizeof(msg));
	cr_assert_eq(collx_topk(msg, room, in, w->n, w->type, w->k, &o, &info), COLLX_OK);
	cr_assert_leq(info.len, room);
	for (size_t i = info.len; i < room + 64; i++)
		cr_assert_eq(msg[i], 0xee);
	check_message(w, info.len);
}

Test(topk, is_what_sorting_finds, .timeout = 300)
{
	static const float hints[] = { 0, 1e-20f, 0.5f, 2, 5, 1e30f };

	for (uint64_t i = 0; i < 240; i++) {
		struct want w = { .n = codec_mix(i) % (i % 8 ? 3000 : MOST),
				  .feedback = i % 3 != 0, .type = types[i / 7 % 3],
				  .o = COLLX_TOPK_OPTS_INIT };
		unsigned kind = (unsigned)(i % CODEC_KINDS);

		w.k = w.n ? codec_mix(i + 1000) % (w.n + 1) : 0;
		if (i % 5 < 3)
			w.k /= 50;
		w.o.decay = i % 7 ? 1.0f : 0.5f;
		w.o.floor = i % 11 ? 0.0f : 0.7f;
		w.o.value_type = types[i / 16 % 3];
		codec_fill(g, w.n, kind, i);
		codec_fill(e, w.n, (unsigned)(codec_mix(i) % 2 ? 0 : kind), i + 77);
		check_choice(&w, hints[codec_mix(i + 5) % 6]);
	}
}

/* The message is the same whatever the hint and whatever the variant. */
Test(topk, bytes_do_not_depend_on_the_way)
{
	static uint32_t bits[MOST], index[MOST];
	static unsigned char first[sizeof(msg)];
	size_t len = 0, again;

	codec_fill(g, 70000, 0, 3);
	codec_fill(e, 70000, 0, 4);
	for (size_t v = 0; cx_codec_variants[v]; v++) {
		struct cx_topk t = { .codecs = cx_codec_variants[v], .gradient = g,
				     .type = COLLX_FLOAT32, .residual = left, .decay = 1,
				     .n = 70000, .k = 700, .floor = 1, .bits = bits,
				     .index = index };

		if (!t.codecs->usable())
			continue;
		t.room = cx_topk_room(t.n, t.k);
		for (t.hint = 0; t.hint < 0x41000000; t.hint += 0x3fffffff / 4) {
			memcpy(left, e, sizeof(left));
			cx_topk(&t);
			again = cx_sparse_write(len ? msg : first, COLLX_BFLOAT16, t.n, bits, index,
						t.found, left);
			cr_assert(!len || (again == len && !memcmp(msg, first, len)), "%s",
				  t.codecs->name);
			len = again;
		}
	}
}

Test(topk, ties_go_to_smaller_indices)
{
	collx_topk_info info = COLLX_TOPK_INFO_INIT;

	for (size_t i = 0; i < 1000; i++)
		g[i] = i % 2 ? 1.0f : -1.0f;
	cr_assert_eq(collx_topk(msg, sizeof(msg), g, 1000, COLLX_FLOAT32, 10, NULL, &info),
		     COLLX_OK);
	memset(out, 0, sizeof(out));
	cr_assert_eq(collx_sparse_add(out, 1000, msg, info.len, NULL, NULL), COLLX_OK);
	for (size_t i = 0; i < 1000; i++)
		cr_assert_eq(out[i], i < 10 ? g[i] : 0);
	cr_assert_eq(info.entries, 10);
	cr_assert_eq(info.hint, 1);
}

Test(topk, what_is_not_finite_is_counted_and_leaves_the_residual)
{
	collx_topk_info info = COLLX_TOPK_INFO_INIT;
	collx_topk_opts o = COLLX_TOPK_OPTS_INIT;

	for (size_t i = 0; i < 500; i++)
		g[i] = (float)i, left[i] = 0.25f;
	g[100] = NAN;
	g[200] = INFINITY;
	o.residual = left;
	cr_assert_eq(collx_topk(msg, sizeof(msg), g, 500, COLLX_FLOAT32, 3, &o, &info), COLLX_OK);
	cr_assert_eq(info.unfit, 2);
	cr_assert(left[100] == 0.25f && left[200] == 0.25f);
	cr_assert(left[499] == 0 && left[496] == 496.25f);
}

/* ---- sums of messages ---- */

static size_t topk_of(unsigned char *to, size_t n, size_t k, collx_type type, uint64_t seed)
{
	collx_topk_info info = COLLX_TOPK_INFO_INIT;
	collx_topk_opts o = COLLX_TOPK_OPTS_INIT;

	o.value_type = type;
	codec_fill(g, n, 0, seed);
	cr_assert_eq(collx_topk(to, collx_sparse_size(n, k, type), g, n, COLLX_FLOAT32, k, &o,
				&info), COLLX_OK);
	return info.len;
}

/* k from a few, lists, to most, dense; the same sum as adding message after message. */
Test(topk, merge_is_the_sum_in_order)
{
	static unsigned char in[5][MOST * 8];
	const void *all[5] = { in[0], in[1], in[2], in[3], in[4] };
	size_t len[5];

	for (uint64_t round = 0; round < 24; round++) {
		size_t n = 1 + codec_mix(round) % 50000;
		collx_topk_info info = COLLX_TOPK_INFO_INIT;
		size_t entries = 0;
		int messages = 1 + (int)(round % 5);

		memset(sum, 0, sizeof(sum));
		memset(out, 0, sizeof(out));
		for (int m = 0; m < messages; m++) {
			size_t k = n >> (codec_mix(round * 8 + (uint64_t)m) % 12);

			len[m] = topk_of(in[m], n, k, m % 2 ? COLLX_BFLOAT16 : COLLX_FLOAT32,
					 round * 10 + (uint64_t)m);
			cr_assert_eq(collx_sparse_add(sum, n, in[m], len[m], NULL, &info),
				     COLLX_OK);
			cr_assert(info.len == len[m] && info.entries <= k);
			entries += info.entries;
		}
		entries = entries < n ? entries : n;
		cr_assert_eq(collx_sparse_merge(msg, collx_sparse_size(n, entries, COLLX_FLOAT32),
						all, len, messages, n, NULL, &info), COLLX_OK);
		cr_assert(info.entries <= entries && info.status == COLLX_OK);
		cr_assert_eq(collx_sparse_add(out, n, msg, info.len, NULL, NULL), COLLX_OK);
		cr_assert_eq(memcmp(out, sum, n * sizeof(*out)), 0);
	}
}

/* ---- messages that lie ---- */

/* A damaged message is refused and out stays, or it is a message: never a crash. */
static void check_damage(const unsigned char *sound, size_t n, size_t len, uint64_t seed)
{
	size_t cut = seed % 5 == 0 ? codec_mix(seed) % (len + 1) : len;
	unsigned char *bad = malloc(cut ? cut : 1);
	float *to = calloc(n, sizeof(*to));
	collx_result rc;

	memcpy(bad, sound, cut);
	for (uint64_t k = 0; k < 1 + seed % 3 && cut; k++)
		bad[codec_mix(seed * 16 + k) % (k % 2 ? cut : cut < 400 ? cut : 400)] ^=
			(unsigned char)(1 << seed % 8);
	rc = collx_sparse_add(to, n, bad, cut, NULL, NULL);
	cr_assert(rc == COLLX_OK || rc == COLLX_ERR_CORRUPT);
	for (size_t i = 0; i < n && rc; i++)
		cr_assert_eq(to[i], 0);
	free(bad);
	free(to);
}

/* A dense chunk with more values than entries would make sums larger than their room. */
Test(topk, dense_values_are_counted)
{
	struct cx_sparse_chunk c;
	struct cx_sparse_head head;
	collx_topk_info info = COLLX_TOPK_INFO_INIT;
	size_t n = 1000, len = topk_of(msg, n, n, COLLX_FLOAT32, 1);
	const void *in = msg;

	cr_assert_eq(collx_sparse_add(sum, n, msg, len, NULL, NULL), COLLX_OK);
	memcpy(&head, msg, sizeof(head));
	memcpy(&c, msg + sizeof(head), sizeof(c));
	cr_assert(c.kind == CX_SPARSE_DENSE && c.entries == head.entries);
	head.entries = --c.entries;
	memcpy(msg, &head, sizeof(head));
	memcpy(msg + sizeof(head), &c, sizeof(c));
	cr_assert_eq(collx_sparse_add(sum, n, msg, len, NULL, NULL), COLLX_ERR_CORRUPT);
	cr_assert_eq(collx_sparse_merge(out, sizeof(out), &in, &len, 1, n, NULL, &info),
		     COLLX_ERR_CORRUPT);
	cr_assert(info.len == 0 && info.entries == 0 && info.status == COLLX_OK);
}

/* What stands behind a message is not looked at, what it says itself is. */
Test(topk, a_message_may_lie_in_a_larger_room)
{
	size_t n = 40000, len = topk_of(msg, n, 900, COLLX_BFLOAT16, 1);
	struct cx_sparse_head head;

	memset(out, 0, sizeof(out));
	memset(sum, 0, sizeof(sum));
	memset(msg + len, 0xee, 4096);
	cr_assert_eq(collx_sparse_add(out, n, msg, len, NULL, NULL), COLLX_OK);
	cr_assert_eq(collx_sparse_add(sum, n, msg, len + 4096, NULL, NULL), COLLX_OK);
	cr_assert_eq(memcmp(out, sum, sizeof(out)), 0);
	memcpy(&head, msg, sizeof(head));
	for (int by = -16; by <= 4096; by += by ? 4096 - 16 : 32) {
		head.bytes = len + (size_t)by;
		memcpy(msg, &head, sizeof(head));
		cr_assert_eq(collx_sparse_add(out, n, msg, len + 4096, NULL, NULL),
			     COLLX_ERR_CORRUPT, "%d bytes more", by);
	}
}

Test(topk, hostile_messages)
{
	for (uint64_t kind = 0; kind < 6; kind++) {
		size_t n = 40000 + kind, len = topk_of(msg, n, n >> kind * 2, COLLX_FLOAT32, kind);

		for (uint64_t i = 0; i < 600; i++)
			check_damage(msg, n, len, i);
	}
}

Test(topk, every_lie_of_the_table_is_seen)
{
	size_t n = 40000, len = topk_of(msg, n, 900, COLLX_FLOAT32, 1);
	static unsigned char bad[sizeof(msg)];

	cr_assert_eq(collx_sparse_add(out, n, msg, len, NULL, NULL), COLLX_OK);
	cr_assert_eq(collx_sparse_add(out, n + 1, msg, len, NULL, NULL), COLLX_ERR_CORRUPT);
	cr_assert_eq(collx_sparse_add(out, n, msg, len - 1, NULL, NULL), COLLX_ERR_CORRUPT);
	for (size_t i = 0; i < 32 + 8 * 3; i++) { /* head and table: no bit is without meaning */
		for (unsigned bit = 0; bit < 8; bit++) {
			memcpy(bad, msg, len);
			bad[i] ^= (unsigned char)(1 << bit);
			if (i == 4) /* another type may have values as long */
				continue;
			cr_assert_eq(collx_sparse_add(out, n, bad, len, NULL, NULL),
				     COLLX_ERR_CORRUPT, "byte %zu", i);
		}
	}
	memcpy(bad, msg, len); /* two indices the same */
	memcpy(bad + cx_sparse_bodies(n) + 2, bad + cx_sparse_bodies(n), 2);
	cr_assert_eq(collx_sparse_add(out, n, bad, len, NULL, NULL), COLLX_ERR_CORRUPT);
}

/* Each with a message that is sound but for it. A dense chunk's elements that are no entries stay
 * as they are, -0 too. */
Test(topk, every_lie_is_refused)
{
	_Alignas(8) static unsigned char lie[LIE_ROOM];

	for (unsigned k = 0; k <= LIES; k++) {
		const char *what;
		size_t len = lie_make(lie, k, &what);

		cr_assert(len, "%s", what);
		for (size_t i = 0; i < LIE_COUNT; i++)
			sum[i] = out[i] = -0.0f;
		cr_assert_eq(collx_sparse_add(out, LIE_COUNT, lie, len, NULL, NULL),
			     k < LIES ? COLLX_ERR_CORRUPT : COLLX_OK, "%s", what);
		if (k == LIES) /* the 6th of the 78 is no entry */
			cr_assert(out[100] == 1 && signbit(out[LIE_COUNT - 73]));
		else
			cr_assert_eq(memcmp(out, sum, LIE_COUNT * sizeof(*out)), 0, "%s", what);
	}
}

/* A length that reaches beyond the end of memory hides no overlap: neither first, nor second. */
Test(topk, endless_lengths_overlap)
{
	size_t n = 1000, len[2] = { SIZE_MAX, 0 };
	size_t whole = topk_of(msg + 500, n, 30, COLLX_FLOAT32, 1);
	const void *in[2] = { msg + 500, sum };
	static unsigned char was[sizeof(msg)];

	len[1] = topk_of((unsigned char *)sum, n, 30, COLLX_FLOAT32, 2);
	memcpy(was, msg, sizeof(was));
	cr_expect_eq(collx_sparse_merge(msg + 500, sizeof(msg) - 500, in, len, 2, n, NULL, NULL),
		     COLLX_ERR_INVALID);
	cr_expect_eq(collx_sparse_merge(msg, SIZE_MAX, in, len, 2, n, NULL, NULL),
		     COLLX_ERR_INVALID);
	len[0] = whole;
	cr_expect_eq(collx_sparse_merge(msg, SIZE_MAX, in, len, 2, n, NULL, NULL),
		     COLLX_ERR_INVALID);
	cr_expect_eq(collx_sparse_add((float *)(void *)(msg + 500), n, in[0], SIZE_MAX, NULL, NULL),
		     COLLX_ERR_INVALID);
	cr_expect_eq(collx_sparse_add((float *)(void *)(msg + 512), n, in[0], SIZE_MAX, NULL, NULL),
		     COLLX_ERR_INVALID);
	cr_expect_eq(memcmp(msg, was, sizeof(was)), 0);
	cr_expect_eq(collx_sparse_add(out, n, msg + 500, whole, NULL, NULL), COLLX_OK);
}

Test(topk, bad_arguments)
{
	collx_topk_opts o = COLLX_TOPK_OPTS_INIT;
	collx_result no = COLLX_ERR_INVALID;
	size_t len = 10;
	const void *in = msg;

	memset(g, 0, sizeof(g));
	cr_expect_eq(collx_topk(msg, sizeof(msg), g, 10, COLLX_FLOAT32, 11, NULL, NULL), no);
	cr_expect_eq(collx_topk(msg, 10, g, 10, COLLX_FLOAT32, 3, NULL, NULL), no);
	cr_expect_eq(collx_topk(msg, sizeof(msg), g, 10, COLLX_INT32, 3, NULL, NULL), no);
	o.floor = -1;
	cr_expect_eq(collx_topk(msg, sizeof(msg), g, 10, COLLX_FLOAT32, 3, &o, NULL), no);
	o.floor = 0;
	o.work = g;
	o.work_len = 10;
	cr_expect_eq(collx_topk(msg, sizeof(msg), g, 10, COLLX_FLOAT32, 3, &o, NULL), no);
	o.work_len = sizeof(g);
	cr_expect_eq(collx_topk(msg, sizeof(msg), g, 10, COLLX_FLOAT32, 3, &o, NULL), no);
	o.work = NULL;
	o.residual = g;
	cr_expect_eq(collx_topk(msg, sizeof(msg), g, 10, COLLX_FLOAT32, 3, &o, NULL), no);
	o.residual = NULL;
	o.memory = COLLX_MEMORY_COUNT;
	cr_expect_eq(collx_topk(msg, sizeof(msg), g, 10, COLLX_FLOAT32, 3, &o, NULL), no);
	len = topk_of(msg + 500, 10, 10, COLLX_FLOAT32, 1);
	in = msg + 500;
	cr_expect_eq(collx_sparse_merge(msg, 10, &in, &len, 1, 10, NULL, NULL), no);
	cr_expect_eq(collx_sparse_merge(msg, 500, &in, NULL, 1, 10, NULL, NULL), no);
	cr_expect_eq(collx_sparse_merge(msg, 501, &in, &len, 1, 10, NULL, NULL), no);
	cr_expect_eq(collx_sparse_merge(NULL, 500, &in, &len, 1, 10, NULL, NULL), no);
	cr_expect_eq(collx_sparse_merge(msg, 500, &in, &len, 17, 10, NULL, NULL), no);
	cr_expect_eq(collx_sparse_add(g, 10, NULL, len, NULL, NULL), no);
	cr_expect_eq(collx_sparse_merge(msg, 500, &in, &len, 1, 10, NULL, NULL), COLLX_OK);
	o.memory = COLLX_MEMORY_HOST;
	o.value_type = COLLX_INT32;
	cr_expect_eq(collx_sparse_merge(msg, 500, &in, &len, 1, 10, &o, NULL), no);
	cr_expect_eq(collx_sparse_work(((size_t)1 << 32) + 1), 0);
	cr_expect_eq(collx_topk_work(10, 11), 0);
	cr_expect_eq(collx_sparse_size(10, 11, COLLX_FLOAT32), 0);
	cr_expect_eq(collx_sparse_size(10, 1, COLLX_INT8), 0);
	cr_expect_eq(collx_topk(msg, sizeof(msg), NULL, 0, COLLX_FLOAT32, 0, NULL, NULL), COLLX_OK);
}
