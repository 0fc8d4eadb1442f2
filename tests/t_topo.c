/* SPDX-License-Identifier: BSD-3-Clause */
/* Facts of machines nobody owns, and what follows from them. */
#include <limits.h>
#include <stdbool.h>
#include <criterion/criterion.h>

#include "base.h"
#include "src/exec.h"
#include "topo.h"

static const char two_sockets[] =
	"package:2 numa:1 l3:1(size=32MiB) l2:4(size=1MiB) core:1 pu:2";

static struct cx_topo machine(const char *description, const char *allowed, int quota_milli)
{
	struct cx_topo t;
	int rc = cx_topo_read_synthetic(&t, description, allowed, quota_milli);

	cr_assert_eq(rc, 0, "%s", cx_error_text());
	return t;
}

Test(topo, two_sockets)
{
	struct cx_topo t = machine(two_sockets, NULL, 0);

	cr_assert_eq(t.cores, 16);
	cr_assert_eq(t.milli_cores, 16000);
	cr_assert_eq(t.packages, 2);
	cr_assert_eq(t.numa_nodes, 2);
	cr_assert_eq(t.numa_node, -1);
	cr_assert_eq(t.l2_sharers, 2);
	cr_assert_eq(t.l3_sharers, 8);
	cr_assert_eq(cx_topo_wait_limits(&t, 16).spin_ns, 50000);
	cr_assert_eq(cx_topo_wait_limits(&t, 17).spin_ns, 0);
	cr_assert_gt(cx_topo_wait_limits(&t, 17).yield_ns, 0);
}

Test(topo, affinity_to_the_second_socket)
{
	struct cx_topo t = machine(two_sockets, "8-11", 0);

	cr_assert_eq(t.cores, 4);
	cr_assert_eq(t.packages, 1);
	cr_assert_eq(t.numa_nodes, 1);
	cr_assert_eq(t.numa_node, 1);
	cr_assert_eq(cx_topo_wait_limits(&t, 5).spin_ns, 0);
}

Test(topo, affinity_across_sockets)
{
	struct cx_topo t = machine(two_sockets, "7-8", 0);

	cr_assert_eq(t.cores, 2);
	cr_assert_eq(t.packages, 2);
	cr_assert_eq(t.numa_node, -1);
}

Test(topo, one_core)
{
	struct cx_topo t = machine("core:1 pu:1", NULL, 0);

	cr_assert_eq(t.cores, 1);
	cr_assert_eq(t.packages, 1);
	cr_assert_eq(t.l2_bytes, 0);
	cr_assert_eq(t.l2_sharers, 1);
	cr_assert_eq(cx_topo_wait_limits(&t, 2).spin_ns, 0);
	cr_assert_eq(cx_topo_chunk(&t, 2, CX_LANES), 32 << 10, "an unknown L2 counts as 1 MiB");
	cr_assert_eq(cx_topo_helper_cpu(&t, 1, 0, 0), -1);
}

Test(topo, half_a_core)
{
	struct cx_topo t = machine("package:1 core:4 pu:1", NULL, 500);
	struct cx_wait_limits alone = cx_topo_wait_limits(&t, 1);

	cr_assert_eq(t.cores, 4);
	cr_assert_eq(t.milli_cores, 500);
	cr_assert_eq(alone.spin_ns, 0);
	cr_assert_gt(alone.yield_ns, 0);
	t.milli_cores = t.cores * 1000;
	cr_assert_lt(alone.yield_ns, cx_topo_wait_limits(&t, 5).yield_ns);
}

Test(topo, quota_above_the_cores_changes_nothing)
{
	cr_assert_eq(machine("core:2 pu:1", NULL, 6000).milli_cores, 2000);
}

Test(topo, chunk)
{
	static const struct {
		size_t l2, chunk;
		int ranks;
	} rows[] = {
		{ 256 << 10, 8 << 10, 2 },   { 512 << 10, 16 << 10, 2 }, { 1 << 20, 32 << 10, 2 },
		{ 2 << 20, 64 << 10, 2 },    { 64 << 20, 64 << 10, 2 },  { 1, 4 << 10, 2 },
		{ 0, 32 << 10, 1 },          { 2 << 20, 64 << 10, 43 },  { 2 << 20, 32 << 10, 44 },
		{ 2 << 20, 4 << 10, 1000 },  { 2 << 20, 4 << 10, 100000 },
	};
	struct cx_topo t = machine("core:2 pu:1", NULL, 0);

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		t.l2_bytes = rows[i].l2;
		cr_expect_eq(cx_topo_chunk(&t, rows[i].ranks, CX_LANES), rows[i].chunk,
			     "row %zu", i);
	}
}

Test(topo, chunk_bounds_memory)
{
	struct cx_topo t = machine("core:2 pu:1", NULL, 0);

	t.l2_bytes = 64 << 20;
	for (size_t ranks = 2; ranks <= 1024; ranks++) {
		size_t chunk = cx_topo_chunk(&t, (int)ranks, CX_LANES);

		cr_assert_eq(chunk & (chunk - 1), 0);
		cr_assert(chunk == 4 << 10 ||
			  (ranks - 1) * CX_LANES * 8 * chunk <= (size_t)64 << 20,
			  "%zu ranks", ranks);
	}
}

Test(topo, many_ranks)
{
	struct cx_topo t = machine("package:2 core:64 pu:2", NULL, 0);

	cr_assert_eq(t.cores, 256);
	cr_assert_gt(cx_topo_wait_limits(&t, 256).spin_ns, 0);
	cr_assert_eq(cx_topo_wait_limits(&t, INT_MAX).spin_ns, 0);
	cr_assert_eq(cx_topo_helper_cpu(&t, 256, 255, 0), -1);
	cr_assert_eq(cx_topo_helper_cpu(&t, INT_MAX, 0, INT_MAX - 1), -1);
}

Test(topo, helpers_stand_beyond_the_ranks_and_within_the_affinity)
{
	struct cx_topo t = machine("package:1 core:8 pu:1", "2-7", 0);

	cr_assert_eq(cx_topo_helper_cpu(&t, 2, 0, 0), 4);
	cr_assert_eq(cx_topo_helper_cpu(&t, 2, 1, 0), 5);
	cr_assert_eq(cx_topo_helper_cpu(&t, 2, 1, 1), 7);
	cr_assert_eq(cx_topo_helper_cpu(&t, 2, 0, 2), -1);
	cr_assert_eq(cx_topo_helper_cpu(&t, 6, 0, 0), -1);
}

/* Ranks bound to a core each, as launchers do, still may spin. */
Test(topo, bound_ranks_have_their_cores_together)
{
	struct cx_topo a = machine("package:1 core:4 pu:1", "0", 0);
	struct cx_topo b = machine("package:1 core:4 pu:1", "3", 0);
	struct cx_topo rationed = machine("package:1 core:4 pu:1", "1", 500), both = b;

	cr_assert_eq(cx_topo_wait_limits(&a, 2).spin_ns, 0);
	cx_topo_join(&a, &b);
	cr_assert_eq(a.cores, 2);
	cr_assert_eq(a.milli_cores, 2000);
	cr_assert_gt(cx_topo_wait_limits(&a, 2).spin_ns, 0);
	cx_topo_join(&a, &a);
	cr_assert_eq(a.cores, 2);
	cx_topo_join(&a, &rationed);
	cx_topo_join(&rationed, &both);
	cr_assert_eq(a.milli_cores, 500);
	cr_assert_eq(rationed.milli_cores, 500);
}

Test(topo, quota_parser)
{
	static const struct {
		const char *text;
		int milli;
	} rows[] = {
		{ "50000 100000", 500 },  { "150000 100000\n", 1500 }, { "max 100000", 0 },
		{ "-1 100000", 0 },       { "1 100000", 1 },           { "0 100000", 0 },
		{ "50000", 0 },           { "50000 0", 0 },            { "50000 -5", 0 },
		{ "50000 max", 0 },       { "50000 100000 x", 0 },     { "", 0 },
		{ "\n", 0 },              { "x", 0 },                  { " ", 0 },
		{ "99999999999999999999 1", 0 },
		{ "9223372036854775807 1", 0 },
		{ "9000000000000000 1", INT_MAX },
		{ "1 99999999999999999999", 0 },
		{ "50000x 100000", 0 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_expect_eq(cx_topo_parse_quota(rows[i].text), rows[i].milli, "\"%s\" gave %d",
			     rows[i].text, cx_topo_parse_quota(rows[i].text));
}

Test(topo, bad_descriptions)
{
	struct cx_topo t;

	cr_assert_eq(cx_topo_read_synthetic(&t, "nonsense", NULL, 0), COLLX_ERR_INVALID);
	cr_assert_eq(cx_topo_read_synthetic(&t, "core:2 pu:1", "x", 0), COLLX_ERR_INVALID);
}

Test(topo, real_machine)
{
	struct cx_topo t;

	cr_assert_eq(cx_topo_read(&t), 0, "%s", cx_error_text());
	cr_assert_geq(t.cores, 1);
	cr_assert(t.milli_cores >= 1 && t.milli_cores <= 1000 * t.cores);
	cr_assert_geq(t.packages, 1);
	cr_assert_geq(t.numa_nodes, 1);
	cr_assert_geq(t.l2_sharers, 1);
	cr_assert_geq(t.l3_sharers, 1);
}

Test(topo, prints)
{
	struct cx_topo t = machine(two_sockets, NULL, 2500);
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	cx_topo_print(&t, f);
	fclose(f);
	cr_assert_str_eq(text, "cores       16 (of 2 packages)\n"
			       "quota       2.500 cores\n"
			       "NUMA nodes  2\n"
			       "L2          1024 KiB, shared by 2\n"
			       "L3          32768 KiB, shared by 8\n");
	free(text);
}
