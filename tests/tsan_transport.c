/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two threads, a port each, streaming both ways with sleep and wake: for the
 * thread sanitizer, which knows neither processes nor test frameworks. The main
 * thread makes both ends; then each thread touches its own alone.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "tests/transport_conformance.h"

enum { COUNT = 3000, BIG = 9000 };

struct end {
	struct world *w;
	int rank;
	const char *bad;
};

static size_t len_of(uint32_t i)
{
	return i % 7 == 0 ? i * 31 % BIG : i % 70;
}

static int wait_for(struct end *e, struct cx_xfer *x, uint32_t spins)
{
	const struct cx_transport *t = e->w->t;
	struct cx_port *port = e->w->port[e->rank];
	const uint64_t second = 1000000000u;
	uint64_t start;

	while (!x->status) {
		if (t->progress(port) || spins-- > 0)
			continue;
		t->arm(port);
		start = cx_now_ns();
		t->sleep(port, t->progress(port) ? 0 : 20 * second);
		if (cx_now_ns() - start > 19 * second)
			return 0;
		spins = 100;
	}
	return x->status == 1;
}

static void *run(void *arg)
{
	struct end *e = arg;
	struct cx_lane *lane = e->w->lane[e->rank][0];
	unsigned char out[BIG + GUARD], in[BIG + GUARD];
	uint32_t i;

	for (i = 0; i < COUNT && !e->bad; i++) {
		struct cx_xfer tx = { .buf = out, .len = len_of(i), .tag = i }, rx = tx;

		rx.buf = in;
		fill(out, tx.len, i * 2 + (uint32_t)e->rank);
		clear(in, rx.len);
		if (e->w->t->send(lane, &tx) < 0 || e->w->t->recv(lane, &rx) < 0)
			e->bad = "posting failed";
		else if (!wait_for(e, &rx, i % 60) || !wait_for(e, &tx, 0))
			e->bad = "an error or a lost wake-up";
		else if (!holds(in, rx.len, i * 2 + (uint32_t)!e->rank))
			e->bad = "wrong bytes";
	}
	return NULL;
}

int main(void)
{
	struct end end[2];
	pthread_t thread[2];
	struct world w;
	int r, bad = 0;

	if (world_open(&w, "shm", NULL)) {
		fprintf(stderr, "%s\n", cx_error_text());
		return 1;
	}
	for (r = 0; r < 2; r++) {
		end[r] = (struct end){ .w = &w, .rank = r };
		if (pthread_create(&thread[r], NULL, run, &end[r]))
			return 1;
	}
	for (r = 0; r < 2; r++) {
		pthread_join(thread[r], NULL);
		if (end[r].bad)
			fprintf(stderr, "rank %d: %s\n", r, end[r].bad);
		bad |= end[r].bad != NULL;
	}
	world_close(&w);
	return bad;
}
