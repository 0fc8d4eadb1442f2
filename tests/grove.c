/* SPDX-License-Identifier: BSD-3-Clause */
/* Wards in one process; see grove.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/base/base.h"
#include "tests/grove.h"
#include "tests/world.h"

static struct cx_sys timed;
static uint64_t clock_ns;

static uint64_t grove_now_ns(void)
{
	return clock_ns;
}

uint64_t grove_now_ms(void)
{
	return clock_ns / 1000000;
}

static void connect_pair(struct cx_tree *above, struct cx_tree *below)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds))
		abort();
	if (!above->down)
		above->down = cx_alloc((size_t)above->ranks, sizeof(*above->down));
	if (!above->down)
		abort();
	cx_wire_init(&above->down[below->rank], fds[0]);
	cx_wire_init(&below->up, fds[1]);
	below->above = above->rank;
}

static void plant(struct cx_tree *t, int rank, int ranks, const int *leader)
{
	*t = (struct cx_tree){ .rank = rank, .ranks = ranks, .above = -1 };
	cx_wire_init(&t->up, -1);
	t->leader = cx_alloc((size_t)ranks, sizeof(*t->leader));
	if (!t->leader)
		abort();
	memcpy(t->leader, leader, (size_t)ranks * sizeof(*leader));
	t->down = cx_alloc((size_t)ranks, sizeof(*t->down));
	for (int r = 0; r < ranks; r++)
		cx_wire_init(&t->down[r], -1);
}

void grove_open(struct grove *g, int ranks, const int *leader, uint64_t seed)
{
	struct cx_tree trees[GROVE_MAX];

	*g = (struct grove){ .ranks = ranks, .seed = seed };
	timed = cx_sys_real;
	timed.now_ns = grove_now_ns;
	cx_sys = &timed;
	clock_ns = 1000000000;
	for (int r = 0; r < ranks; r++)
		plant(&trees[r], r, ranks, leader);
	for (int r = 1; r < ranks; r++)
		connect_pair(&trees[leader[r] == r ? 0 : leader[r]], &trees[r]);
	for (int r = 0; r < ranks; r++) {
		cx_calls_init(&g->calls[r]);
		if (cx_ward_create(&g->ward[r], &trees[r], &g->calls[r], NULL))
			abort();
	}
}

void grove_close(struct grove *g)
{
	for (int r = 0; r < g->ranks; r++)
		if (g->ward[r])
			grove_kill(g, r);
	cx_sys = &cx_sys_real;
}

/* Has it something to do now? */
static int is_due(struct grove *g, int r)
{
	struct pollfd fds[GROVE_MAX];
	struct cx_poll p = { .fds = fds };
	struct cx_ward *w = g->ward[r];

	if (!w)
		return 0;
	cx_ward_watch(w, &p);
	return g->due[r] <= clock_ns || poll(fds, p.n, 0) > 0;
}

void grove_step(struct grove *g)
{
	int due[GROVE_MAX], n = 0, r;

	for (r = 0; r < g->ranks; r++)
		if (is_due(g, r))
			due[n++] = r;
	if (!n) {
		clock_ns += 1000000;
		return;
	}
	r = due[mix64(g->seed ^ ++g->steps << 20) % (uint64_t)n];
	g->due[r] = cx_ward_step(g->ward[r], NULL, clock_ns);
	if (cx_ward_has_gone(g->ward[r])) {
		cx_ward_destroy(g->ward[r]);
		g->ward[r] = NULL;
	}
}

void grove_run(struct grove *g, unsigned ms)
{
	uint64_t end = clock_ns + ms * (uint64_t)1000000;

	while (clock_ns < end)
		grove_step(g);
}

void grove_settle(struct grove *g, unsigned ms)
{
	uint64_t end = clock_ns + ms * (uint64_t)1000000;
	int open = 1;

	while (open && clock_ns < end) {
		grove_step(g);
		open = 0;
		for (int r = 0; r < g->ranks; r++)
			open |= g->ward[r] && !cx_guard_verdict(g->ward[r]);
	}
}

void grove_kill(struct grove *g, int rank)
{
	cx_ward_destroy(g->ward[rank]);
	g->ward[rank] = NULL;
}

void grove_leave(struct grove *g, int rank)
{
	atomic_store(&g->ward[rank]->leaving, 1);
	g->due[rank] = 0;
}

void grove_begin(struct grove *g, int rank, uint64_t count, uint64_t what)
{
	struct cx_calls *c = &g->calls[rank];

	cx_calls_begin(c, (cx_calls_state(c) + 2) / 2, count, what);
	g->due[rank] = 0;
}

void grove_end(struct grove *g, int rank)
{
	struct cx_calls *c = &g->calls[rank];

	cx_calls_end(c, (cx_calls_state(c) + 1) / 2);
	g->due[rank] = 0;
}

void grove_post(struct grove *g, int rank, int code, bool hearsay, const char *text)
{
	struct cx_report r = { .code = code, .about = -1, .hearsay = hearsay,
			       .where = cx_calls_where(&g->calls[rank]),
			       .fault_ns = (int64_t)clock_ns };

	snprintf(r.text, sizeof(r.text), "%s", text);
	cx_ward_post(g->ward[rank], &r);
	g->due[rank] = 0;
}

void grove_nudge(struct grove *g, int rank)
{
	atomic_store(&g->ward[rank]->nudged, true);
	g->due[rank] = 0;
}

int grove_code(const struct grove *g, int rank)
{
	return cx_guard_verdict(g->ward[rank]);
}

const char *grove_text(const struct grove *g, int rank)
{
	return g->ward[rank]->cause.text;
}
