/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a communicator comes and goes: the ranks meet, agree and connect; nobody has
 * one before all have.
 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/base.h"
#include "comm.h"
#include "mesh.h"

enum { HOST_BYTES = 36 /* of the boot id */ };

/* What the ranks tell each other first. Rank 0's `agreed` part counts for all. */
struct hello {
	uint32_t version;
	uint32_t cursors;
	uint64_t nonce;
	uint64_t chunk;
	char transport[16];
	unsigned char host[HOST_BYTES];
	struct cx_topo topo;
	struct cx_select_agreed agreed;
};
_Static_assert(sizeof(struct hello) <= CX_RECORD_MAX, "a record is one frame");
_Static_assert(sizeof(struct cx_addr) <= CX_RECORD_MAX, "a record is one frame");

/* Names the running kernel; empty where that cannot be had. */
static void read_host(unsigned char host[HOST_BYTES])
{
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

	memset(host, 0, HOST_BYTES);
	if (f && fread(host, 1, HOST_BYTES, f) != HOST_BYTES)
		memset(host, 0, HOST_BYTES);
	if (f)
		fclose(f);
}

static int say_hello(struct collx_comm *c, const struct cx_meeting *m, struct hello *h)
{
	const char *usual = m->place.addr.ss_family == AF_UNIX ? "shm" : "tcp";
	const char *transport = cx_env_text(CX_ENV_TRANSPORT);
	int rc;

	*h = (struct hello){ .version = COLLX_VERSION, .cursors = CX_CURSORS };
	h->chunk = cx_topo_chunk(&c->topo, c->size);
	snprintf(h->transport, sizeof(h->transport), "%s", transport ? transport : usual);
	h->topo = c->topo;
	read_host(h->host);
	rc = cx_sys->random(&h->nonce, sizeof(h->nonce));
	if (rc)
		return cx_fail_errno(-rc, "random numbers");
	return cx_select_decide(&h->agreed);
}

static int check_hello(const struct hello *all, int ranks)
{
	for (int r = 1; r < ranks; r++)
		if (all[r].version != all[0].version || all[r].cursors != all[0].cursors)
			return cx_fail(COLLX_ERR_VERSION, "rank %d runs libcollx %u, rank 0 %u", r,
				       all[r].version, all[0].version);
	return cx_select_check(&all[0].agreed);
}

static int decide_waiting(struct collx_comm *c, int local_ranks)
{
	long spin_us;
	int rc = cx_env_int(CX_ENV_SPIN_US, 0, 1000000, &spin_us);

	c->limits = cx_topo_wait_limits(&c->topo, local_ranks);
	if (rc > 0)
		c->limits.spin_ns = (unsigned)spin_us * 1000;
	c->spin_ns = c->limits.spin_ns;
	return rc < 0 ? rc : 0;
}

static int open_port(struct collx_comm *c, const struct hello *zero)
{
	const struct cx_port_attr attr = {
		.rank = c->rank, .ranks = c->size, .lanes = CX_CURSORS,
		.chunk = zero->chunk, .numa_node = c->topo.numa_node, .nonce = zero->nonce,
	};
	char name[sizeof(zero->transport)];

	memcpy(name, zero->transport, sizeof(name));
	name[sizeof(name) - 1] = '\0';
	c->agreed = zero->agreed;
	c->nonce = zero->nonce;
	c->transport = cx_transport_find(name);
	if (!c->transport || !strcmp(name, "sim"))
		return cx_fail(COLLX_ERR_INVALID, "COLLX_TRANSPORT=%s: there is no such transport",
			       name);
	return c->transport->open(&c->port, &attr);
}

/* The ranks of r's host: how many, and what they may use together. */
static int ranks_of_host(const struct hello *all, int ranks, int r, struct cx_topo *topo)
{
	int n = 0;

	*topo = all[r].topo;
	for (int i = 0; i < ranks; i++)
		if (!memcmp(all[i].host, all[r].host, HOST_BYTES)) {
			cx_topo_join(topo, &all[i].topo);
			n++;
		}
	return n;
}

static int is_first_of_host(const struct hello *all, int r)
{
	for (int i = 0; i < r; i++)
		if (!memcmp(all[i].host, all[r].host, HOST_BYTES))
			return 0;
	return 1;
}

/* What all ranks find alike: is there a host with more ranks than cores? */
static int is_crowded(const struct hello *all, int ranks)
{
	struct cx_topo topo;

	for (int r = 0; r < ranks; r++)
		if (is_first_of_host(all, r) &&
		    1000 * ranks_of_host(all, ranks, r, &topo) > topo.milli_cores)
			return 1;
	return 0;
}

static int agree(struct collx_comm *c, const struct cx_meeting *m)
{
	struct hello mine, *all = cx_alloc((size_t)c->size, sizeof(*all));
	int rc = all ? say_hello(c, m, &mine) : COLLX_ERR_NOMEM;

	if (!rc)
		rc = cx_boot_exchange(c->boot, &mine, sizeof(mine), -1, all, NULL, m->deadline_ns);
	if (!rc)
		rc = check_hello(all, c->size);
	if (!rc)
		rc = decide_waiting(c, ranks_of_host(all, c->size, c->rank, &c->topo));
	if (!rc)
		rc = open_port(c, &all[0]);
	if (!rc)
		c->agreed.crowded = (uint8_t)is_crowded(all, c->size);
	cx_free(all);
	return rc;
}

/* How to reach a lane's other end: [peer * CX_CURSORS + lane]. */
struct reach {
	struct cx_addr *addrs;
	int *fds;
};

static void reach_fini(const struct collx_comm *c, struct reach *way)
{
	for (int i = 0; way->fds && i < c->size * CX_CURSORS; i++)
		if (way->fds[i] >= 0)
			cx_sys->close(way->fds[i]);
	cx_free(way->fds);
	cx_free(way->addrs);
}

static int reach_init(const struct collx_comm *c, struct reach *way)
{
	size_t n = (size_t)c->size * CX_CURSORS;

	way->addrs = cx_alloc(n, sizeof(*way->addrs));
	way->fds = cx_alloc(n, sizeof(*way->fds));
	for (size_t i = 0; way->fds && i < n; i++)
		way->fds[i] = -1;
	return way->addrs && way->fds ? 0 : COLLX_ERR_NOMEM;
}

/* Fills in the addresses, and the connections where the transport wants them. */
static int find_ways(struct collx_comm *c, const struct cx_meeting *m, struct reach *way)
{
	struct cx_addr mine = { .fd = -1 };
	int rc = c->transport->addr(c->port, &mine);

	if (!rc)
		rc = cx_boot_exchange(c->boot, &mine, sizeof(mine), mine.fd, way->addrs,
				      way->fds, m->deadline_ns);
	for (int i = c->size * CX_CURSORS; !rc && i-- > 0;)
		way->addrs[i] = way->addrs[i / CX_CURSORS];
	if (!rc && c->transport->wants_connection)
		rc = cx_mesh_open(c->boot, m, c->nonce, CX_CURSORS, way->fds);
	for (int i = 0; !rc && i < c->size * CX_CURSORS; i++)
		way->addrs[i].fd =
			way->fds[c->transport->wants_connection ? i : i / CX_CURSORS];
	return rc;
}

static int connect_ranks(struct collx_comm *c, const struct cx_meeting *m)
{
	const struct cx_kernels *kernels = cx_kernels_pick(cx_env_text(CX_ENV_KERNEL));
	struct reach way;
	int rc;

	if (!kernels)
		return cx_fail(COLLX_ERR_INVALID, "COLLX_KERNEL=%s is not usable here",
			       cx_env_text(CX_ENV_KERNEL));
	rc = reach_init(c, &way);
	if (!rc)
		rc = find_ways(c, m, &way);
	if (!rc)
		rc = cx_exec_init(&c->exec, c->rank, c->size, c->transport, c->port, way.addrs,
				  kernels);
	reach_fini(c, &way);
	return rc;
}

/* The last step: nobody returns a communicator before all have one. */
static int all_ready(struct collx_comm *c, uint64_t deadline_ns)
{
	uint32_t mine = 1, *all = cx_alloc((size_t)c->size, sizeof(*all));
	int rc = COLLX_ERR_NOMEM;

	if (all)
		rc = cx_boot_exchange(c->boot, &mine, sizeof(mine), -1, all, NULL, deadline_ns);
	cx_free(all);
	return rc;
}

static int build(struct collx_comm *c, struct cx_meeting *m)
{
	struct cx_tree tree;
	int rc = cx_boot_open(&c->boot, m);

	if (!rc)
		rc = cx_topo_read(&c->topo);
	if (!rc)
		rc = agree(c, m);
	if (!rc)
		rc = connect_ranks(c, m);
	if (!rc)
		rc = all_ready(c, m->deadline_ns);
	if (rc && c->boot)
		cx_boot_tell(c->boot, rc, cx_error_text());
	if (rc)
		return rc;
	cx_boot_finish(c->boot, &tree);
	c->boot = NULL;
	return cx_guard_open(&c->guard, &tree, &c->calls);
}

int cx_comm_open(struct collx_comm **out, struct cx_meeting *m, uint64_t op_timeout_ns)
{
	struct collx_comm *c = cx_alloc(1, sizeof(*c));
	int rc = COLLX_ERR_NOMEM;

	if (c) {
		c->rank = m->rank;
		c->size = m->ranks;
		c->op_timeout_ns = op_timeout_ns;
		cx_fork_watch();
		c->forks = cx_fork_count();
		rc = build(c, m);
	}
	cx_secret_wipe(&m->secret);
	if (!rc)
		*out = c;
	else
		cx_comm_close(c);
	return rc;
}

void cx_comm_close(struct collx_comm *c)
{
	if (!c)
		return;
	if (c->guard)
		cx_guard_close(c->guard, true);
	cx_exec_fini(&c->exec);
	if (c->port)
		c->transport->close(c->port);
	for (int i = 0; i < CX_PLANS; i++)
		if (c->plans[i].plan)
			cx_plan_destroy(c->plans[i].plan);
	if (c->boot)
		cx_boot_close(c->boot);
	cx_free(c);
}
