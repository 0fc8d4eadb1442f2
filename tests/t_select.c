/* SPDX-License-Identifier: BSD-3-Clause */
/* The selection table has an answer for everything, and the same one everywhere. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <criterion/criterion.h>

#include "src/base/base.h"
#include "src/select.h"

static struct cx_select_agreed agreed(const char *algo, int crowded)
{
	struct cx_select_agreed a;

	if (algo)
		setenv("COLLX_ALGO", algo, 1);
	else
		unsetenv("COLLX_ALGO");
	cr_assert_eq(cx_select_decide(&a), 0, "%s", cx_error_text());
	a.crowded = (uint8_t)crowded;
	return a;
}

Test(select, always_an_algorithm_of_that_collective)
{
	for (int crowded = 0; crowded < 2; crowded++) {
		struct cx_select_agreed a = agreed(NULL, crowded);

		for (int coll = 0; coll < CX_NCOLL; coll++)
			for (int ranks = 1; ranks <= 300; ranks++)
				for (size_t n = 1; n; n = n > SIZE_MAX / 3 ? 0 : n * 3 + n % 2) {
					struct cx_choice c =
						cx_select(&a, (enum cx_coll)coll, ranks, n);

					cr_assert_not_null(c.algo, "%s, %d ranks, %zu bytes",
							   cx_coll_name((enum cx_coll)coll), ranks,
							   n);
					cr_assert_eq(c.algo->coll, (enum cx_coll)coll);
					cr_assert_geq(c.block_bytes, 4096);
				}
	}
}

/* What few ranks say to each other over TCP they say in large messages; over shared memory a
 * block stays in the cache, and the algorithm is the same. */
Test(select, blocks_are_larger_over_tcp)
{
	struct cx_select_agreed a = agreed(NULL, 0);
	static const size_t want[CX_SPANS] = { 65536, 131072, 524288 };

	for (int span = 0; span < CX_SPANS; span++)
		for (int coll = 0; coll < CX_NCOLL; coll++)
			for (int ranks = 2; ranks <= 64; ranks *= 2) {
				struct cx_choice near, far;

				a.span = CX_SPAN_MEMORY;
				near = cx_select(&a, (enum cx_coll)coll, ranks, 1 << 20);
				a.span = (uint8_t)span;
				far = cx_select(&a, (enum cx_coll)coll, ranks, 1 << 20);
				cr_expect_eq(near.algo, far.algo);
				cr_expect_geq(far.block_bytes, near.block_bytes);
				if (coll == CX_ALLREDUCE && ranks == 2)
					cr_expect_eq(far.block_bytes, want[span]);
			}
}

/* Who forces what is chosen anyway gets the same, and algorithms can be compared. */
Test(select, a_forced_algorithm_has_its_blocks)
{
	struct cx_select_agreed a = agreed(NULL, 0);

	for (a.span = 0; a.span < CX_SPANS; a.span++)
		for (int coll = 0; coll < CX_NCOLL; coll++)
			for (int ranks = 1; ranks <= 64; ranks++) {
				struct cx_choice own, c;
				int i = 0;

				a.forced[coll] = -1;
				own = cx_select(&a, (enum cx_coll)coll, ranks, 64 << 20);
				while (cx_algos[i] != own.algo)
					i++;
				a.forced[coll] = (int8_t)i;
				for (size_t n = 1; n <= 64 << 20; n *= 4) {
					c = cx_select(&a, (enum cx_coll)coll, ranks, n);
					cr_assert_eq(c.algo, own.algo);
					cr_assert_eq(c.block_bytes, own.block_bytes,
						     "%s of %d: %zu", own.algo->name, ranks,
						     c.block_bytes);
				}
				a.forced[coll] = -1;
			}
}

Test(select, allreduce_of_8_uses_several)
{
	for (int crowded = 0; crowded < 2; crowded++) {
		struct cx_select_agreed a = agreed(NULL, crowded);
		const struct cx_algo *seen[16] = { NULL };
		int n = 0;

		for (size_t bytes = 4; bytes < (size_t)1 << 31; bytes *= 2) {
			const struct cx_algo *algo = cx_select(&a, CX_ALLREDUCE, 8, bytes).algo;
			int i = 0;

			while (i < n && seen[i] != algo)
				i++;
			cr_assert(i == n || i == n - 1, "%s comes back at %zu bytes", algo->name,
				  bytes);
			if (i == n)
				seen[n++] = algo;
		}
		cr_assert_geq(n, 3, "only %d", n);
	}
}

/* Latency of many ranks must grow with their logarithm. */
Test(select, small_calls_of_many_ranks_take_few_steps)
{
	struct cx_select_agreed a = agreed(NULL, 0);
	struct cx_plan *p;

	for (int coll = 0; coll < CX_NCOLL; coll++)
		for (int ranks = 17; ranks <= 300; ranks += 40) {
			const struct cx_shape shape = { .ranks = ranks, .rank = ranks - 1 };
			struct cx_choice c = cx_select(&a, (enum cx_coll)coll, ranks, 64);

			cr_assert_eq(cx_plan_create(&p, c.algo, &shape), 0);
			cr_assert_leq(p->nsteps, 60, "%s:%s has %u steps for %d ranks",
				      cx_coll_name((enum cx_coll)coll), c.algo->name, p->nsteps,
				      ranks);
			cx_plan_destroy(p);
		}
}

Test(select, forcing_each)
{
	char text[80];

	for (int i = 0; cx_algos[i]; i++) {
		struct cx_select_agreed a;

		snprintf(text, sizeof(text), "%s:%s", cx_coll_name(cx_algos[i]->coll),
			 cx_algos[i]->name);
		a = agreed(text, 0);
		for (size_t n = 1; n < (size_t)1 << 40; n *= 64)
			cr_assert_eq(cx_select(&a, cx_algos[i]->coll, 5, n).algo, cx_algos[i]);
		for (int coll = 0; coll < CX_NCOLL; coll++)
			cr_assert_eq(a.forced[coll], coll == (int)cx_algos[i]->coll ? i : -1);
	}
}

Test(select, forcing_several)
{
	struct cx_select_agreed a = agreed("allreduce:ring,,barrier:flat,broadcast:tree", 1);

	cr_assert_str_eq(cx_select(&a, CX_ALLREDUCE, 4, 8).algo->name, "ring");
	cr_assert_str_eq(cx_select(&a, CX_BARRIER, 300, 1).algo->name, "flat");
	cr_assert_str_eq(cx_select(&a, CX_BROADCAST, 2, 8).algo->name, "tree");
	cr_assert_eq(a.forced[CX_REDUCE], -1);
	cr_assert_eq(a.crowded, 1);
}

Test(select, what_does_not_exist_is_named)
{
	static const char *const bad[][2] = {
		{ "ring", "'ring'" }, { "allreduce:rign", "allreduce:rign" },
		{ "allreduc:ring", "allreduc:ring" }, { "barrier:ring", "barrier:ring" },
		{ "allreduce:ring,x", "'x'" }, { "allreduce:", "allreduce:" }, { ":", ":" },
	};
	struct cx_select_agreed a;
	char longer[400];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		setenv("COLLX_ALGO", bad[i][0], 1);
		cr_assert_eq(cx_select_decide(&a), COLLX_ERR_INVALID, "%s", bad[i][0]);
		cr_assert_not_null(strstr(cx_error_text(), "COLLX_ALGO"), "%s", cx_error_text());
		cr_assert_not_null(strstr(cx_error_text(), bad[i][1]), "%s", cx_error_text());
	}
	memset(longer, ',', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	setenv("COLLX_ALGO", longer, 1);
	cr_assert_eq(cx_select_decide(&a), COLLX_ERR_INVALID);
}

Test(select, prints_its_table)
{
	char *text = NULL;
	size_t len = 0, all;
	FILE *f = open_memstream(&text, &len);

	cx_select_print(f, CX_NCOLL, 0);
	fflush(f);
	all = len;
	for (int coll = 0; coll < CX_NCOLL; coll++)
		cr_assert_not_null(strstr(text, cx_coll_name((enum cx_coll)coll)));
	rewind(f);
	cx_select_print(f, CX_BARRIER, 100);
	fclose(f);
	cr_assert_lt(len, all);
	cr_assert_not_null(strstr(text, "dissemination"));
	cr_assert_null(strstr(text, "allreduce"));
	free(text);
}
