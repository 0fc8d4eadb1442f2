/* SPDX-License-Identifier: BSD-3-Clause */
/* A world of simulated ranks; see simworld.h. */
#include <stdio.h>
#include <string.h>

#include "src/base/base.h"
#include "tests/simworld.h"
#include "tests/world.h"

struct cx_sim_attr simworld_attr(uint64_t seed)
{
	uint64_t x = mix64(seed);

	return (struct cx_sim_attr){
		.seed = seed,
		.min_delay_ns = x % 3 ? 100 : 0,
		.max_delay_ns = (x >> 8) % 3 == 0 ? 100 : (x >> 8) % 3 == 1 ? 5000 : 1000000,
		.beta_ns_per_byte = (x >> 16) % 2 ? 0.1 : 0,
		.window = 1 + (uint32_t)((x >> 24) % 8),
		.short_io = (uint32_t)(x >> 32) & 1,
	};
}

static int open_port(struct simworld *w, int r, size_t chunk)
{
	const struct cx_port_attr attr = {
		.rank = r, .ranks = w->ranks, .lanes = CX_LANES, .chunk = chunk,
		.numa_node = -1, .nonce = 0x51a5, .sim = w->sim,
	};
	struct collx_comm *c = &w->comms[r];
	int rc;

	c->rank = r;
	c->size = w->ranks;
	memset(c->agreed.forced, -1, sizeof(c->agreed.forced));
	c->media[0].transport = cx_transport_find("sim");
	c->nmedia = 1;
	rc = cx_p2p_init(&c->p2p, w->ranks);
	return rc ? rc : c->media[0].transport->open(&c->media[0].port, &attr);
}

static int open_lanes(struct simworld *w)
{
	struct cx_way ways[WORLD_MAX * CX_LANES] = { 0 };
	int rc = 0;

	for (int i = 0; !rc && i < w->ranks * CX_LANES; i++) {
		const struct cx_medium *m = &w->comms[i / CX_LANES].media[0];

		rc = m->transport->addr(m->port, &ways[i].addr);
	}
	for (int r = 0; !rc && r < w->ranks; r++) {
		struct collx_comm *c = &w->comms[r];

		rc = cx_exec_init(&c->exec, r, w->ranks, c->media, 1, ways, cx_kernels_pick(NULL));
	}
	return rc;
}

int simworld_open(struct simworld *w, int ranks, const struct cx_sim_attr *attr, size_t chunk)
{
	int rc = 0;

	*w = (struct simworld){ .ranks = ranks, .sim = cx_sim_create(attr, ranks) };
	w->comms = cx_alloc((size_t)ranks, sizeof(*w->comms));
	if (!w->sim || !w->comms)
		rc = COLLX_ERR_NOMEM;
	for (int r = 0; !rc && r < ranks; r++)
		rc = open_port(w, r, chunk);
	if (!rc)
		rc = open_lanes(w);
	if (rc)
		fprintf(stderr, "simulated world of %d: %s\n", ranks, cx_error_text());
	return rc;
}

void simworld_close(struct simworld *w)
{
	for (int r = 0; w->comms && r < w->ranks; r++)
		cx_exec_fini(&w->comms[r].exec);
	for (int r = 0; w->comms && r < w->ranks; r++) {
		struct collx_comm *c = &w->comms[r];

		if (c->media[0].port)
			c->media[0].transport->close(c->media[0].port);
		cx_p2p_fini(&c->p2p);
		for (int i = 0; i < CX_PLANS; i++)
			cx_plan_destroy(c->plans[i].plan);
	}
	cx_free(w->comms);
	if (w->sim)
		cx_sim_destroy(w->sim);
	*w = (struct simworld){ 0 };
}

void simworld_force(struct simworld *w, enum cx_coll coll, int algo)
{
	for (int r = 0; r < w->ranks; r++)
		w->comms[r].agreed.forced[coll] = (int8_t)algo;
}

static int start(struct simworld *w, const struct cx_request *requests, size_t block_bytes)
{
	int rc = 0;

	for (int r = 0; !rc && r < w->ranks; r++) {
		struct collx_comm *c = &w->comms[r];
		struct cx_call call;

		c->seq++;
		rc = cx_comm_prepare(c, &requests[r], &call);
		if (block_bytes)
			call.block_bytes = block_bytes;
		if (!rc)
			rc = cx_exec_start(&c->exec, &call);
	}
	return rc;
}

static int deadlock(const struct simworld *w, unsigned done)
{
	char where[160];

	for (int r = 0; r < w->ranks; r++) {
		cx_exec_describe(&w->comms[r].exec, where, sizeof(where));
		fprintf(stderr, "deadlock: rank %d: %s\n", r, done >> r & 1 ? "done" : where);
	}
	return COLLX_ERR_TIMEOUT;
}

/* Polls every unfinished rank once, in a drawn order. Negative: an error. */
static int round_of_polls(struct simworld *w, unsigned *done, int *moved)
{
	int order[WORLD_MAX];

	*moved = 0;
	for (int i = 0; i < w->ranks; i++) {
		int j = (int)cx_sim_random(w->sim, (uint32_t)i + 1);

		order[i] = order[j];
		order[j] = i;
	}
	for (int i = 0; i < w->ranks; i++) {
		int r = order[i], m = 0, rc;

		if (*done >> r & 1)
			continue;
		rc = cx_exec_poll(&w->comms[r].exec, &m);
		if (rc < 0)
			return rc;
		*moved += m + rc;
		*done |= (unsigned)rc << r;
	}
	return 0;
}

int simworld_run(struct simworld *w, const struct cx_request *requests, size_t block_bytes)
{
	unsigned done = 0, all = (1u << w->ranks) - 1;
	int rc = start(w, requests, block_bytes), moved;

	while (!rc && done != all) {
		rc = round_of_polls(w, &done, &moved);
		if (!rc && !moved && done != all && !cx_sim_advance(w->sim))
			rc = deadlock(w, done);
	}
	return rc;
}
