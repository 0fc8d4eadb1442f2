/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Facts from hwloc, the affinity mask and the cgroup quota; decisions from facts.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <hwloc.h>

#include "base.h"
#include "topo.h"

enum { PATH_BYTES = 4096, LINE_BYTES = 4096 + 256 };

/* ---- cgroup quota ---- */

int cx_topo_parse_quota(const char *text)
{
	long long quota, period, milli;
	char *end;

	errno = 0;
	quota = strtoll(text, &end, 10);
	if (end == text || errno || quota <= 0)
		return 0;
	text = end;
	period = strtoll(text, &end, 10);
	if (end == text || errno || period <= 0)
		return 0;
	while (*end == '\n' || *end == ' ')
		end++;
	if (*end || quota > LLONG_MAX / 1000)
		return 0;
	milli = quota * 1000 / period;
	return milli < 1 ? 1 : milli > INT_MAX ? INT_MAX : (int)milli;
}

/* The first line of dir/name without its newline; -1 where it cannot be had. */
static int read_line(const char *dir, const char *name, char *buf, int size)
{
	char path[PATH_BYTES];
	FILE *f = NULL;
	int got = -1;

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) < (int)sizeof(path))
		f = fopen(path, "re");
	if (f && fgets(buf, size, f)) {
		buf[strcspn(buf, "\n")] = '\0';
		got = 0;
	}
	if (f)
		fclose(f);
	return got;
}

static int smaller_quota(int a, int b)
{
	return !a || (b && b < a) ? b : a;
}

/* The quota that the files of one cgroup state: v2's one or v1's two. */
static int quota_at(const char *dir)
{
	char quota[64], period[64], both[130];

	if (!read_line(dir, "cpu.max", quota, sizeof(quota)))
		return cx_topo_parse_quota(quota);
	if (read_line(dir, "cpu.cfs_quota_us", quota, sizeof(quota)) ||
	    read_line(dir, "cpu.cfs_period_us", period, sizeof(period)))
		return 0;
	snprintf(both, sizeof(both), "%s %s", quota, period);
	return cx_topo_parse_quota(both);
}

/* The smallest quota from a cgroup up to the root of its hierarchy. In a container
 * the path may be the host's and exist only from some level up, or not at all. */
static int quota_upwards(const char *mount, const char *path)
{
	size_t root = strlen(mount);
	char dir[PATH_BYTES];
	int quota = 0;

	if (snprintf(dir, sizeof(dir), "%s%s", mount, path) >= (int)sizeof(dir))
		return 0;
	for (;;) {
		quota = smaller_quota(quota, quota_at(dir));
		if (strlen(dir) <= root)
			return quota;
		*strrchr(dir, '/') = '\0';
	}
}

static bool names_cpu(const char *controllers)
{
	const char *p = controllers;

	while (p) {
		if (!strncmp(p, "cpu", 3) && (p[3] == ',' || !p[3]))
			return true;
		p = strchr(p, ',');
		p += p != NULL;
	}
	return false;
}

static int quota_read(void)
{
	char line[LINE_BYTES], *controllers, *path;
	FILE *f = fopen("/proc/self/cgroup", "re");
	int quota = 0;

	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		controllers = strchr(line, ':');
		path = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!path || path[1] != '/')
			continue;
		*path++ = '\0';
		controllers++;
		if (!*controllers)
			quota = smaller_quota(quota, quota_upwards("/sys/fs/cgroup", path));
		else if (names_cpu(controllers))
			quota = smaller_quota(quota, quota_upwards("/sys/fs/cgroup/cpu", path));
	}
	if (f)
		fclose(f);
	return quota;
}

/* ---- hwloc ---- */

/* hwloc loads its plugins with the first topology that there is, and unloads them with the
 * last: 7 of 8 ms where there are many. One stays, which nothing was ever read into. */
static void keep_plugins(void)
{
	static hwloc_topology_t empty;

	if (hwloc_topology_init(&empty))
		empty = NULL; /* then the next ones are slower */
}

/* Only what is asked for below: discovering the rest costs milliseconds. */
static int load(hwloc_topology_t *out, const char *synthetic)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	hwloc_topology_t t;

	pthread_once(&once, keep_plugins);
	if (hwloc_topology_init(&t))
		return cx_fail(COLLX_ERR_NOMEM, "hwloc cannot start");
	hwloc_topology_set_all_types_filter(t, HWLOC_TYPE_FILTER_KEEP_NONE);
	hwloc_topology_set_type_filter(t, HWLOC_OBJ_PACKAGE, HWLOC_TYPE_FILTER_KEEP_ALL);
	hwloc_topology_set_type_filter(t, HWLOC_OBJ_L2CACHE, HWLOC_TYPE_FILTER_KEEP_ALL);
	hwloc_topology_set_type_filter(t, HWLOC_OBJ_L3CACHE, HWLOC_TYPE_FILTER_KEEP_ALL);
#if HWLOC_API_VERSION >= 0x00020100
	/* It binds this thread to every core in turn to ask what the kernel knows. */
	hwloc_topology_set_components(t, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, "x86");
#endif
	if ((synthetic && hwloc_topology_set_synthetic(t, synthetic)) || hwloc_topology_load(t)) {
		hwloc_topology_destroy(t);
		return synthetic ? cx_fail(COLLX_ERR_INVALID, "no machine: %s", synthetic) :
				   cx_fail(COLLX_ERR_SYSTEM, "hwloc cannot read this machine");
	}
	*out = t;
	return 0;
}

static int count(hwloc_topology_t t, hwloc_const_bitmap_t allowed, hwloc_obj_type_t type)
{
	hwloc_obj_t o = NULL;
	int n = 0;

	while ((o = hwloc_get_next_obj_by_type(t, type, o)))
		n += hwloc_bitmap_intersects(o->cpuset, allowed);
	return n;
}

static void smallest_cache(hwloc_topology_t t, hwloc_const_bitmap_t allowed,
			   hwloc_obj_type_t type, size_t *bytes, int *sharers)
{
	hwloc_obj_t o = NULL;

	*bytes = 0;
	*sharers = 1;
	while ((o = hwloc_get_next_obj_by_type(t, type, o))) {
		size_t size = (size_t)o->attr->cache.size;

		if (!size || (*bytes && size >= *bytes) ||
		    !hwloc_bitmap_intersects(o->cpuset, allowed))
			continue;
		*bytes = size;
		*sharers = hwloc_bitmap_weight(o->cpuset);
	}
}

static void describe(struct cx_topo *topo, hwloc_topology_t t, hwloc_const_bitmap_t allowed,
		     int quota_milli)
{
	int cores = hwloc_bitmap_weight(allowed);
	int packages = count(t, allowed, HWLOC_OBJ_PACKAGE);
	int nodes = count(t, allowed, HWLOC_OBJ_NUMANODE);
	hwloc_obj_t o = NULL;

	memset(topo->cpus, 0, sizeof(topo->cpus));
	for (int cpu = 0; cpu < 8 * CX_CPU_BYTES; cpu++)
		if (hwloc_bitmap_isset(allowed, (unsigned)cpu))
			topo->cpus[cpu / 8] |= (unsigned char)(1 << cpu % 8);
	topo->cores = cores < 1 ? 1 : cores;
	topo->milli_cores = smaller_quota(1000 * topo->cores, quota_milli);
	topo->packages = packages < 1 ? 1 : packages;
	topo->numa_nodes = nodes < 1 ? 1 : nodes;
	topo->numa_node = -1;
	while ((o = hwloc_get_next_obj_by_type(t, HWLOC_OBJ_NUMANODE, o))) {
		if (hwloc_bitmap_isincluded(allowed, o->cpuset)) {
			topo->numa_node = (int)o->os_index;
			break;
		}
	}
	smallest_cache(t, allowed, HWLOC_OBJ_L2CACHE, &topo->l2_bytes, &topo->l2_sharers);
	smallest_cache(t, allowed, HWLOC_OBJ_L3CACHE, &topo->l3_bytes, &topo->l3_sharers);
}

int cx_topo_read(struct cx_topo *topo)
{
	hwloc_bitmap_t allowed, bound;
	hwloc_topology_t t;
	int rc = load(&t, NULL);

	if (rc)
		return rc;
	allowed = hwloc_bitmap_dup(hwloc_topology_get_allowed_cpuset(t));
	bound = hwloc_bitmap_alloc();
	if (allowed && bound) {
		/* Of the process: ranks that are threads may each be bound to one core. */
		if (!hwloc_get_cpubind(t, bound, HWLOC_CPUBIND_PROCESS) &&
		    hwloc_bitmap_intersects(allowed, bound))
			hwloc_bitmap_and(allowed, allowed, bound);
		describe(topo, t, allowed, quota_read());
	} else {
		rc = cx_fail(COLLX_ERR_NOMEM, "out of memory: processor set");
	}
	hwloc_bitmap_free(bound);
	hwloc_bitmap_free(allowed);
	hwloc_topology_destroy(t);
	return rc;
}

int cx_topo_read_synthetic(struct cx_topo *topo, const char *description, const char *allowed,
			   int quota_milli)
{
	hwloc_topology_t t;
	hwloc_bitmap_t set;
	int rc = load(&t, description);

	if (rc)
		return rc;
	set = hwloc_bitmap_dup(hwloc_topology_get_allowed_cpuset(t));
	if (!set || (allowed && hwloc_bitmap_list_sscanf(set, allowed))) {
		rc = cx_fail(COLLX_ERR_INVALID, "no processor set: %s", allowed ? allowed : "");
	} else {
		hwloc_bitmap_and(set, set, hwloc_topology_get_allowed_cpuset(t));
		describe(topo, t, set, quota_milli);
	}
	hwloc_bitmap_free(set);
	hwloc_topology_destroy(t);
	return rc;
}

static int quota_of(const struct cx_topo *topo)
{
	return topo->milli_cores < 1000 * topo->cores ? topo->milli_cores : 0;
}

void cx_topo_join(struct cx_topo *topo, const struct cx_topo *other)
{
	int quota = smaller_quota(quota_of(topo), quota_of(other)), cores = 0;

	for (int i = 0; i < CX_CPU_BYTES; i++) {
		topo->cpus[i] |= other->cpus[i];
		cores += __builtin_popcount(topo->cpus[i]);
	}
	if (cores > topo->cores)
		topo->cores = cores;
	topo->milli_cores = smaller_quota(1000 * topo->cores, quota);
}

/* ---- decisions ---- */

struct cx_wait_limits cx_topo_wait_limits(const struct cx_topo *topo, int local_ranks)
{
	/* Measured: a futex wake across idle cores costs 42 us, a lone yield 1 to 2 us.
	 * Spinning for about one wake loses at most a factor of two against the best
	 * choice. Yielding goes on for longer since it costs only whom nobody needs. */
	static const struct cx_wait_limits fits = { 50000, 200000 };
	static const struct cx_wait_limits crowded = { 0, 200000 };
	/* A quota counts yields as work: what is burnt waiting is missing later. */
	static const struct cx_wait_limits rationed = { 0, 20000 };

	if (1000LL * local_ranks <= topo->milli_cores)
		return fits;
	return topo->milli_cores < 1000 * topo->cores ? rationed : crowded;
}

enum {
	CHUNK_MIN = 4 << 10,
	CHUNK_MAX = 64 << 10,
	PIECES = 8,  /* under way in one direction of a lane */
	L2_GUESS = 1 << 20
};

size_t cx_topo_chunk(const struct cx_topo *topo, int local_ranks, int lanes)
{
	/* Both directions of a pair take at most half the L2 ... */
	size_t cache = (topo->l2_bytes ? topo->l2_bytes : L2_GUESS) / 2 / (2 * PIECES);
	/* ... and what all others can send to one rank at most 64 MiB, up to 684 ranks. */
	size_t peers = local_ranks > 1 ? (size_t)local_ranks - 1 : 1;
	size_t inbound = ((size_t)64 << 20) / (peers * (size_t)lanes * PIECES);
	size_t chunk = CHUNK_MAX;

	while (chunk > CHUNK_MIN && (chunk > cache || chunk > inbound))
		chunk /= 2;
	return chunk;
}

int cx_topo_helper_cpu(const struct cx_topo *topo, int local_ranks, int local_rank, int i)
{
	long nth = (long)local_ranks * (1 + i) + local_rank;

	if (nth >= topo->cores)
		return -1;
	for (int cpu = 0; cpu < 8 * CX_CPU_BYTES; cpu++)
		if (topo->cpus[cpu / 8] >> cpu % 8 & 1 && !nth--)
			return cpu;
	return -1;
}

void cx_topo_print(const struct cx_topo *topo, FILE *to)
{
	fprintf(to, "cores       %d (of %d package%s)\n", topo->cores, topo->packages,
		topo->packages == 1 ? "" : "s");
	fprintf(to, "quota       %d.%03d cores\n", topo->milli_cores / 1000,
		topo->milli_cores % 1000);
	fprintf(to, "NUMA nodes  %d", topo->numa_nodes);
	if (topo->numa_node >= 0)
		fprintf(to, " (all on node %d)", topo->numa_node);
	fprintf(to, "\nL2          %zu KiB, shared by %d\n", topo->l2_bytes >> 10,
		topo->l2_sharers);
	fprintf(to, "L3          %zu KiB, shared by %d\n", topo->l3_bytes >> 10,
		topo->l3_sharers);
}
