/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a communicator comes and goes: the ranks meet, agree and connect; nobody has
 * one before all have.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h> /* AF_UNIX */

#include "base/base.h"
#include "comm.h"
#include "host.h"
#include "mesh.h"
#include "ring.h"

enum { HOST_BYTES = 36 /* of the boot id */ };

/* What the ranks tell each other first. Rank 0's `agreed` part counts for all. */
struct hello {
	uint32_t version;
	uint32_t cursors;
	uint64_t nonce;
	uint64_t chunk;
	char transport[16]; /* the one for all ranks; empty: by where they lie */
	unsigned char host[HOST_BYTES];
	char nest[CX_MEET_MAX];
	uint64_t home;           /* cx_host_id */
	struct cx_process process;
	uint32_t heartbeat_ms, silence_ms, straggler_ms, ring_hosts;
	uint32_t flags;          /* COLLX_CONTINUE */
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

static int say_hello(struct collx_comm *c, struct hello *h)
{
	const char *forced = cx_env_text(CX_ENV_TRANSPORT);
	int rc;

	*h = (struct hello){ .version = COLLX_VERSION, .cursors = CX_CURSORS };
	h->chunk = cx_topo_chunk(&c->topo, c->size, CX_LANES);
	snprintf(h->transport, sizeof(h->transport), "%s", forced ? forced : "");
	memcpy(h->nest, c->nest.place.name, sizeof(h->nest));
	h->home = cx_host_id();
	cx_sys->process(&h->process);
	h->heartbeat_ms = c->terms.heartbeat_ms;
	h->silence_ms = c->terms.silence_ms;
	h->straggler_ms = c->terms.straggler_ms;
	h->ring_hosts = c->terms.ring_hosts;
	h->flags = c->terms.flags;
	h->topo = c->topo;
	read_host(h->host);
	rc = cx_sys->random(&h->nonce, sizeof(h->nonce));
	if (rc)
		return cx_fail_errno(-rc, "random numbers");
	return cx_select_decide(&h->agreed);
}

static int check_hello(const struct hello *all, int ranks)
{
	for (int r = 1; r < ranks; r++) {
		if (all[r].version != all[0].version || all[r].cursors != all[0].cursors)
			return cx_fail(COLLX_ERR_VERSION, "rank %d runs libcollx %u, rank 0 %u", r,
				       all[r].version, all[0].version);
		if (all[r].flags != all[0].flags)
			return cx_fail(COLLX_ERR_MISMATCH, "rank %d asked for COLLX_CONTINUE, rank "
				       "%d did not: all ranks must, or none",
				       all[r].flags ? r : 0, all[r].flags ? 0 : r);
	}
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

static int by_host(const void *a, const void *b)
{
	const struct hello *const *x = a, *const *y = b;

	return memcmp((*x)->host, (*y)->host, HOST_BYTES);
}

/* What all ranks find alike: is there a host with more ranks than cores? */
static int is_crowded(const struct hello *all, int ranks)
{
	const struct hello **of = cx_alloc((size_t)ranks, sizeof(*of));
	int crowded = 0;

	if (!of)
		return COLLX_ERR_NOMEM;
	for (int r = 0; r < ranks; r++)
		of[r] = &all[r];
	qsort(of, (size_t)ranks, sizeof(*of), by_host);
	for (int i = 0, end; i < ranks && !crowded; i = end) {
		struct cx_topo topo = of[i]->topo;

		for (end = i + 1; end < ranks && !by_host(&of[i], &of[end]); end++)
			cx_topo_join(&topo, &of[end]->topo);
		crowded = 1000 * (end - i) > topo.milli_cores;
	}
	cx_free(of);
	return crowded;
}

/* What joins ranks that are connected. */
static enum cx_span span_of(const struct hello *all, int ranks)
{
	for (int r = 1; r < ranks; r++)
		if (all[r].home != all[0].home)
			return CX_SPAN_NETWORK;
	return CX_SPAN_LOOPBACK;
}

/* Takes over what rank 0 decided, and finds what the facts of all ranks say. */
static int settle(struct collx_comm *c, const struct hello *all)
{
	struct cx_topo topo = c->topo;
	int rc = check_hello(all, c->size);

	if (rc)
		return rc;
	rc = is_crowded(all, c->size);
	if (rc < 0)
		return rc;
	c->agreed = all[0].agreed;
	c->agreed.crowded = (uint8_t)rc;
	c->agreed.span = (uint8_t)span_of(all, c->size);
	c->nonce = all[0].nonce;
	c->terms.heartbeat_ms = all[0].heartbeat_ms;
	c->terms.silence_ms = all[0].silence_ms;
	c->terms.straggler_ms = all[0].straggler_ms;
	c->terms.ring_hosts = all[0].ring_hosts;
	return decide_waiting(c, ranks_of_host(all, c->size, c->rank, &topo));
}

/* A larger one has neither heartbeats nor decisions. */
static bool holds_council(const struct collx_comm *c)
{
	return c->size > 1 && c->size <= CX_COUNCIL_RANKS;
}

/* Signs of life are rarer where ranks share cores, up to a third of the silence. */
static uint64_t beat_ns(const struct collx_comm *c, const struct hello *all)
{
	struct cx_topo topo = c->topo;
	int ranks = ranks_of_host(all, c->size, c->rank, &topo);
	int cores = topo.milli_cores;
	uint64_t many = (uint64_t)((1000 * ranks + cores - 1) / cores);

	return cx_min(cx_max(many, 1) * c->terms.heartbeat_ms, c->terms.silence_ms / 3) * 1000000;
}

/* The processes of this host, as far as they can be told. */
static void find_near(const struct collx_comm *c, const struct hello *all,
		      struct cx_process *near)
{
	const struct hello *own = &all[c->rank];

	for (int r = 0; r < c->size; r++)
		if (all[r].home == own->home && all[r].process.space == own->process.space)
			near[r] = all[r].process;
}

/* Where the ranks will find each other when something has failed. */
static int make_rally(struct collx_comm *c, const struct cx_meeting *m, const struct hello *all)
{
	char (*names)[CX_MEET_MAX] = cx_alloc((size_t)c->size, sizeof(*names));
	struct cx_process *near = cx_alloc((size_t)c->size, sizeof(*near));
	struct cx_secret secret;
	struct cx_rally_config config = {
		.rank = c->rank, .ranks = c->size, .secret = &secret, .names = names, .near = near,
		.beat_ns = beat_ns(c, all),
		.silence_ns = c->terms.silence_ms == COLLX_NO_TIMEOUT
				      ? (uint64_t)1 << 55 /* a year */
				      : (uint64_t)c->terms.silence_ms * 1000000,
		.straggler_ns = c->terms.straggler_ms == COLLX_NO_TIMEOUT
					? 0
					: (uint64_t)c->terms.straggler_ms * 1000000,
	};
	int rc = names && near ? cx_secret_derive(&secret, &m->secret, ~c->nonce)
			       : COLLX_ERR_NOMEM;

	for (int r = 0; !rc && r < c->size; r++)
		memcpy(names[r], all[r].nest, sizeof(names[r]));
	if (!rc)
		find_near(c, all, near);
	if (!rc)
		rc = cx_rally_create(&c->rally, &config, &c->nest);
	c->beat_ms = (uint32_t)(config.beat_ns / 1000000);
	cx_secret_wipe(&secret);
	cx_free(near);
	cx_free(names);
	return rc;
}

static int agree(struct collx_comm *c, const struct cx_meeting *m, struct hello *zero)
{
	struct hello mine, *all = cx_alloc((size_t)c->size, sizeof(*all));
	int rc = all ? say_hello(c, &mine) : COLLX_ERR_NOMEM;

	if (!rc)
		rc = cx_boot_exchange(c->boot, &mine, sizeof(mine), -1, all, NULL, m->deadline_ns);
	if (!rc)
		rc = settle(c, all);
	if (!rc && holds_council(c))
		rc = make_rally(c, m, all);
	if (!rc)
		*zero = all[0];
	cx_free(all);
	return rc;
}

/* ---- who reaches whom by what ---- */

/* How to reach the others. */
struct reach {
	unsigned char *far;    /* [rank]: not by shared memory, but over a connection */
	struct cx_addr *addrs; /* [rank] */
	int *memory, *bells;   /* [rank]: descriptors of the near ones */
	int *conns;            /* [rank * CX_LANES + lane]: connections to the far ones */
	struct cx_way *ways;   /* the same */
	int near_pairs, far_pairs; /* are there any, of whatever ranks? */
};

static void close_fds(int *fds, int n)
{
	for (int i = 0; fds && i < n; i++)
		if (fds[i] >= 0)
			cx_sys->close(fds[i]);
	cx_free(fds);
}

static void reach_fini(const struct collx_comm *c, struct reach *way)
{
	close_fds(way->memory, c->size);
	close_fds(way->bells, c->size);
	close_fds(way->conns, c->size * CX_LANES);
	cx_free(way->far);
	cx_free(way->addrs);
	cx_free(way->ways);
}

static int *no_fds(int n)
{
	int *fds = cx_alloc((size_t)n, sizeof(*fds));

	for (int i = 0; fds && i < n; i++)
		fds[i] = -1;
	return fds;
}

static int reach_init(const struct collx_comm *c, struct reach *way)
{
	size_t ranks = (size_t)c->size;

	*way = (struct reach){
		.far = cx_alloc(ranks, 1),
		.addrs = cx_alloc(ranks, sizeof(*way->addrs)),
		.memory = no_fds(c->size),
		.bells = no_fds(c->size),
		.conns = no_fds(c->size * CX_LANES),
		.ways = cx_alloc(ranks * CX_LANES, sizeof(*way->ways)),
	};
	return way->far && way->addrs && way->memory && way->bells && way->conns && way->ways
		       ? 0
		       : COLLX_ERR_NOMEM;
}

/* Can descriptors pass between these two, as they met at one unix socket? */
static int is_near(const struct collx_comm *c, int a, int b)
{
	const int *leader = cx_boot_tree(c->boot)->leader;

	return leader[a] == leader[b];
}

static void find_pairs(const struct collx_comm *c, struct reach *way)
{
	const int *leader = cx_boot_tree(c->boot)->leader;

	for (int r = 0; r < c->size; r++) {
		way->near_pairs |= leader[r] != r;
		way->far_pairs |= leader[r] != leader[0];
	}
}

/* Sorts the ranks into near and far ones; COLLX_TRANSPORT, of rank 0, overrules. */
static int sort_out(struct collx_comm *c, const struct cx_transport *forced, struct reach *way)
{
	int all_far = forced && forced->wants_connection;

	for (int r = 0; r < c->size; r++) {
		if (forced && !all_far && !is_near(c, 0, r))
			return cx_fail(COLLX_ERR_INVALID,
				       "rank 0: COLLX_TRANSPORT=%s: rank %d is not of its host",
				       forced->name, r);
		way->far[r] = r != c->rank && (all_far || !is_near(c, c->rank, r));
	}
	if (!all_far)
		find_pairs(c, way);
	else
		way->far_pairs = c->size > 1;
	if (!way->far_pairs)
		c->agreed.span = CX_SPAN_MEMORY;
	return 0;
}

/* ---- ports ---- */

static int open_port(struct collx_comm *c, const struct cx_transport *t,
		     const struct cx_port_attr *attr)
{
	struct cx_medium *m = &c->media[c->nmedia];
	int rc = t->open(&m->port, attr);

	if (rc)
		return rc;
	m->transport = t;
	c->nmedia++;
	return 0;
}

/* Near ranks' medium comes first. */
static int open_ports(struct collx_comm *c, const struct hello *zero,
		      const struct cx_transport *forced, const struct reach *way)
{
	const struct cx_port_attr attr = {
		.rank = c->rank, .ranks = c->size, .lanes = CX_LANES, .chunk = zero->chunk,
		.numa_node = c->topo.numa_node, .nonce = zero->nonce,
		.pollable = way->near_pairs && way->far_pairs,
	};
	const struct cx_transport *t;
	int far = 0, rc = 0;

	for (int r = 0; r < c->size; r++)
		far += way->far[r];
	t = forced ? forced : cx_transport_find("shm");
	if (far < c->size - 1 || !far)
		rc = open_port(c, t, &attr);
	t = forced ? forced : cx_transport_find("tcp");
	if (!rc && far)
		rc = open_port(c, t, &attr);
	c->wired = far && t->wants_connection;
	return rc;
}

/* The name is rank 0's; out is NULL when it left the choice to us. */
static int find_forced(const struct hello *zero, const struct cx_transport **out)
{
	char name[sizeof(zero->transport)];

	memcpy(name, zero->transport, sizeof(name));
	name[sizeof(name) - 1] = '\0';
	*out = cx_transport_find(name);
	if (*name && (!*out || !strcmp(name, "sim")))
		return cx_fail(COLLX_ERR_INVALID,
			       "rank 0: COLLX_TRANSPORT=%s: there is no such transport", name);
	return 0;
}

/* ---- lanes ---- */

/* Near ranks tell each other where their memory is, and how to wake them. */
static int exchange_addresses(struct collx_comm *c, const struct cx_meeting *m, struct reach *way)
{
	struct cx_addr mine = { .fd = -1, .bell = -1 };
	const struct cx_medium *first = &c->media[0];
	int rc = 0, fd;

	if (!way->near_pairs)
		return 0;
	if (!first->transport->wants_connection)
		rc = first->transport->addr(first->port, &mine);
	fd = mine.fd;
	if (!rc)
		rc = cx_boot_exchange(c->boot, &mine, sizeof(mine), fd, way->addrs, way->memory,
				      m->deadline_ns);
	fd = mine.bell;
	if (!rc && way->far_pairs)
		rc = cx_boot_exchange(c->boot, &mine, sizeof(mine), fd, way->addrs, way->bells,
				      m->deadline_ns);
	return rc;
}

static int find_ways(struct collx_comm *c, const struct cx_meeting *m, struct reach *way)
{
	int rc = exchange_addresses(c, m, way);

	if (!rc && way->far_pairs)
		rc = cx_mesh_open(c->boot, m, c->nonce, CX_LANES, way->far, way->conns);
	for (int i = 0; !rc && i < c->size * CX_LANES; i++) {
		struct cx_way *w = &way->ways[i];
		int peer = i / CX_LANES;

		if (way->far[peer]) {
			w->medium = c->nmedia - 1;
			w->addr = (struct cx_addr){ .fd = way->conns[i], .bell = -1 };
		} else {
			w->addr = way->addrs[peer];
			w->addr.fd = way->memory[peer];
			w->addr.bell = way->bells[peer];
		}
	}
	return rc;
}

static int open_lanes(struct collx_comm *c, const struct cx_meeting *m, const struct hello *zero,
		      struct reach *way)
{
	const struct cx_kernels *kernels = cx_kernels_pick(cx_env_text(CX_ENV_KERNEL));
	const struct cx_transport *forced = NULL;
	int rc = find_forced(zero, &forced);

	if (!kernels)
		return cx_fail(COLLX_ERR_INVALID, "COLLX_KERNEL=%s %s", cx_env_text(CX_ENV_KERNEL),
			       cx_kernels_why(cx_env_text(CX_ENV_KERNEL)).text);
	if (!rc)
		rc = sort_out(c, forced, way);
	if (!rc)
		rc = open_ports(c, zero, forced, way);
	if (!rc)
		rc = find_ways(c, m, way);
	return rc ? rc
		  : cx_exec_init(&c->exec, c->rank, c->size, c->media, c->nmedia, way->ways,
				 kernels);
}

static int connect_ranks(struct collx_comm *c, const struct cx_meeting *m,
			 const struct hello *zero)
{
	struct reach way;
	int rc = reach_init(c, &way);

	if (!rc)
		rc = open_lanes(c, m, zero, &way);
	reach_fini(c, &way);
	return rc;
}

/* As the first of its line; who makes a next one of it says otherwise. */
static int number_ranks(struct collx_comm *c)
{
	c->origin = cx_alloc((size_t)c->size, sizeof(*c->origin));
	for (int r = 0; c->origin && r < c->size; r++)
		c->origin[r] = r;
	return c->origin ? 0 : COLLX_ERR_NOMEM;
}

static int build(struct collx_comm *c, struct cx_meeting *m)
{
	struct cx_tree tree;
	struct hello zero;
	int *beside = NULL;
	int rc = cx_boot_open(&c->boot, m);

	c->wrong_proofs = m->wrong_proofs;
	if (!rc)
		rc = cx_topo_read(&c->topo);
	if (!rc && holds_council(c))
		rc = cx_nest_open(&c->nest, m);
	if (!rc)
		rc = agree(c, m, &zero);
	if (!rc)
		rc = connect_ranks(c, m, &zero);
	if (!rc && holds_council(c))
		rc = cx_ring_open(&beside, c->boot, m, c->nonce + 1, c->terms.ring_hosts);
	if (!rc)
		rc = cx_p2p_init(&c->p2p, c->size);
	if (!rc)
		rc = number_ranks(c);
	if (!rc)
		rc = cx_boot_barrier(c->boot, m->deadline_ns); /* all have one, or nobody */
	if (rc && c->boot)
		cx_boot_tell(c->boot, rc, cx_error_text());
	if (rc) {
		cx_tree_part(beside, c->size);
		return rc;
	}
	cx_boot_finish(c->boot, &tree);
	tree.beside = beside;
	c->boot = NULL;
	rc = cx_guard_open(&c->guard, &tree, &c->calls, c->rally);
	c->rally = NULL;
	return rc;
}

int cx_comm_open(struct collx_comm **out, struct cx_meeting *m, const struct cx_terms *terms)
{
	struct collx_comm *c = cx_alloc(1, sizeof(*c));
	int rc = COLLX_ERR_NOMEM;

	if (c) {
		c->rank = m->rank;
		c->size = m->ranks;
		c->terms = *terms;
		c->nest.fd = -1;
		c->handle = c;
		for (int i = 0; i < CX_BELLS; i++)
			atomic_init(&c->bell[i], -1);
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

void cx_comm_shut(struct collx_comm *c)
{
	if (c->guard)
		cx_guard_close(c->guard, true);
	if (c->rally)
		cx_rally_destroy(c->rally);
	cx_nest_close(&c->nest);
	cx_exec_fini(&c->exec);
	for (int i = 0; i < c->nmedia; i++)
		c->media[i].transport->close(c->media[i].port);
	cx_p2p_fini(&c->p2p);
	for (int i = 0; i < CX_PLANS; i++)
		if (c->plans[i].plan)
			cx_plan_destroy(c->plans[i].plan);
	if (c->boot)
		cx_boot_close(c->boot);
	cx_free(c->kept);
	c->kept = NULL;
}

void cx_comm_close(struct collx_comm *c)
{
	if (!c)
		return;
	if (!c->retired)
		cx_comm_shut(c);
	for (int i = 0; i < CX_BELLS; i++)
		if (c->bell[i] >= 0)
			cx_sys->close(c->bell[i]);
	cx_free(c->origin);
	cx_free(c);
}
