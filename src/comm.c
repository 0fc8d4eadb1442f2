/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A communicator's life: meet, agree, connect; then one call after the other;
 * and the first error, which ends it. After an error the lanes are closed before
 * the call returns, so that nothing touches the caller's buffers any more.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/base.h"
#include "comm.h"
#include "mesh.h"

/* ---- plans ---- */

static int make_plan(struct collx_comm *c, struct cx_cached_plan *slot, const struct cx_algo *algo,
		     int rank)
{
	const struct cx_shape shape = { .ranks = c->size, .rank = rank };

	if (slot->plan)
		cx_plan_destroy(slot->plan);
	slot->plan = NULL;
	return cx_plan_create(&slot->plan, algo, &shape);
}

static int find_plan(struct collx_comm *c, const struct cx_algo *algo, int rank,
		     const struct cx_plan **out)
{
	struct cx_cached_plan *oldest = &c->plans[0];
	int rc;

	for (int i = 0; i < CX_PLANS; i++) {
		struct cx_cached_plan *p = &c->plans[i];

		if (p->plan && p->plan->algo == algo && p->plan->shape.rank == rank) {
			p->used = c->seq;
			*out = p->plan;
			return 0;
		}
		if (!p->plan || (oldest->plan && p->used < oldest->used))
			oldest = p;
	}
	rc = make_plan(c, oldest, algo, rank);
	oldest->used = c->seq;
	*out = oldest->plan;
	return rc;
}

/* ---- one call ---- */

static uint32_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15u;
	return (uint32_t)(h >> 32);
}

/* What every rank must have called alike; the plan follows from it. */
static uint32_t tag_of(const struct collx_comm *c, const struct cx_request *r)
{
	uint64_t h = mix(c->seq, r->count);

	return mix(h << 32 | (uint32_t)r->root,
		   (uint64_t)r->coll << 16 | (uint64_t)r->type << 8 | (uint64_t)r->op);
}

/* Fills where the caller's buffers stand in terms of blocks. */
static void lay_out(const struct collx_comm *c, const struct cx_request *r, struct cx_call *call)
{
	call->fixed_blocks = r->coll == CX_ALLGATHER || r->coll == CX_REDUCE_SCATTER;
	if (r->coll == CX_ALLGATHER)
		call->in_first = (uint32_t)c->rank;
	if (r->coll == CX_REDUCE_SCATTER)
		call->out_first = (uint32_t)c->rank;
}

int cx_comm_prepare(struct collx_comm *c, const struct cx_request *r, struct cx_call *call)
{
	size_t bytes = r->count * collx_type_size(r->type);
	struct cx_choice choice;
	int rank = (c->rank - r->root + c->size) % c->size;

	*call = (struct cx_call){ .in = r->in, .out = r->out, .count = r->count, .type = r->type,
				  .op = r->op, .root = r->root };
	lay_out(c, r, call);
	choice = cx_select(&c->agreed, r->coll, c->size,
			   call->fixed_blocks ? bytes * (size_t)c->size : bytes);
	call->block_bytes = choice.block_bytes;
	call->tag = tag_of(c, r);
	return find_plan(c, choice.algo, rank, &call->plan);
}

/* ---- waiting ---- */

enum {
	WATCH_NS = 1000000,
	SLEEP_NS = 5000000,
	EAGER_POLLS = 32, /* without a pause, which costs as much as a message */
	POLLS_A_LOOK = 64 /* polls for each reading of the clock */
};

struct wait {
	uint64_t since;   /* nothing moved since then; 0: not measured yet */
	uint64_t start;   /* of the call, as first looked at */
	uint64_t watched;
	unsigned idle;  /* polls since anything moved */
	unsigned busy;  /* polls that moved something */
	bool in_vain;   /* the spin of this pause is over */
};

static int timed_out(const struct collx_comm *c, uint64_t waited_ns)
{
	char where[160];

	cx_exec_describe(&c->exec, where, sizeof(where));
	return cx_fail(COLLX_ERR_TIMEOUT, "rank %d waited %.1f s for %s, operation %llu: %s",
		       c->rank, (double)waited_ns / 1e9,
		       cx_coll_name(c->exec.call.plan->algo->coll), (unsigned long long)c->seq,
		       where);
}

/* The clock's part of waiting: deadline and control channel, now and then. */
static int look(struct collx_comm *c, struct wait *w, uint64_t now, uint64_t timeout_ns)
{
	if (!w->start)
		w->start = w->watched = now;
	if (now - w->watched < WATCH_NS)
		return 0;
	w->watched = now;
	if (now - w->start > timeout_ns)
		return timed_out(c, now - w->start);
	return cx_boot_watch(c->boot, c->seq);
}

/*
 * Spinning pays while the peers run on other cores. Where they wait for this very
 * core, as when somebody else's process has taken one, each spin is lost time for
 * both; the next one is shorter then, and grows again as it succeeds.
 */
static void spun_in_vain(struct collx_comm *c, struct wait *w)
{
	if (!w->in_vain)
		c->spin_ns /= 4;
	w->in_vain = true;
}

/* Something moved. */
static void go_on(struct collx_comm *c, struct wait *w)
{
	if (w->idle && !w->in_vain)
		c->spin_ns = (unsigned)cx_min(2 * c->spin_ns + 1000, c->limits.spin_ns);
	w->since = w->idle = 0;
	w->in_vain = false;
}

/* Sleeps until something may have changed, unless it already did. */
static int doze(struct collx_comm *c, int *moved)
{
	int rc;

	c->transport->arm(c->port);
	rc = cx_exec_poll(&c->exec, moved);
	c->transport->sleep(c->port, rc || *moved ? 0 : SLEEP_NS);
	return rc;
}

/* Nothing moved: spin, then yield, then sleep. As cx_exec_poll. */
static int idle(struct collx_comm *c, struct wait *w, uint64_t timeout_ns, int *moved)
{
	uint64_t now;
	int rc;

	if (c->limits.spin_ns && ++w->idle % POLLS_A_LOOK) {
		if (w->idle > EAGER_POLLS)
			cx_pause();
		return 0;
	}
	now = cx_now_ns();
	if (!w->since)
		w->since = now;
	rc = look(c, w, now, timeout_ns);
	if (rc || now - w->since < c->spin_ns)
		return rc;
	spun_in_vain(c, w);
	if (now - w->since < (uint64_t)c->spin_ns + c->limits.yield_ns) {
		w->idle = POLLS_A_LOOK - 1; /* look again after each yield */
		sched_yield();
		return 0;
	}
	w->idle = POLLS_A_LOOK - 1;
	return doze(c, moved);
}

static int wait_for_call(struct collx_comm *c, uint64_t timeout_ns)
{
	struct wait w = { 0 };
	int moved, rc;

	for (;;) {
		rc = cx_exec_poll(&c->exec, &moved);
		if (rc || moved)
			go_on(c, &w);
		if (!rc && !moved)
			rc = idle(c, &w, timeout_ns, &moved);
		else if (!rc && ++w.busy % 4096 == 0)
			rc = look(c, &w, cx_now_ns(), timeout_ns);
		if (rc)
			return rc < 0 ? rc : 0;
	}
}

/* ---- the first error ---- */

/* A lane that ended says little: mostly its other end had heard of an error first.
 * Somebody's word comes soon then. */
enum { HEARSAY_MS = 500 };

static int die(struct collx_comm *c, const struct cx_request *r, int code)
{
	int hearsay = code == COLLX_ERR_PEER_DEAD || code == COLLX_ERR_LINK;
	int told;

	if (code == COLLX_ERR_MISMATCH || code == COLLX_ERR_CORRUPT)
		snprintf(c->text, sizeof(c->text), "rank %d in %s of %zu, operation %llu: %s",
			 c->rank, cx_coll_name(r->coll), r->count, (unsigned long long)c->seq,
			 cx_error_text());
	else
		snprintf(c->text, sizeof(c->text), "%s", cx_error_text());
	cx_exec_fence(&c->exec);
	told = cx_boot_listen(c->boot, c->seq, hearsay ? HEARSAY_MS : 0);
	if (told) {
		code = told;
		snprintf(c->text, sizeof(c->text), "%s", cx_error_text());
	}
	cx_boot_tell(c->boot, code, c->text);
	c->error = code;
	return cx_fail(code, "%s", c->text);
}

int cx_comm_run(struct collx_comm *c, const struct cx_request *r, uint64_t timeout_ns)
{
	struct cx_call call;
	int rc;

	if (c->error)
		return cx_fail(c->error, "%s", c->text);
	c->seq++;
	rc = cx_comm_prepare(c, r, &call);
	if (!rc)
		rc = cx_exec_start(&c->exec, &call);
	if (!rc)
		rc = wait_for_call(c, timeout_ns);
	return rc ? die(c, r, rc) : 0;
}

/* ---- creation ---- */

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
	int rc = cx_boot_open(&c->boot, m);

	if (!rc)
		rc = cx_topo_read(&c->topo);
	if (!rc)
		rc = agree(c, m);
	if (!rc)
		rc = connect_ranks(c, m);
	if (!rc)
		rc = all_ready(c, m->deadline_ns);
	if (!rc)
		return 0;
	c->error = rc; /* to close without a farewell, whose failure would be the line */
	if (c->boot)
		cx_boot_tell(c->boot, rc, cx_error_text());
	return rc;
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
	if (c->boot && !c->error)
		cx_boot_leave(c->boot, c->seq);
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
