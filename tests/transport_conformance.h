/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One suite for every transport: cases that drive two ports of one process from
 * one thread by polling. No test framework inside, so that it runs anywhere.
 */
#ifndef CX_TRANSPORT_CONFORMANCE_H
#define CX_TRANSPORT_CONFORMANCE_H

#include "src/base/base.h"
#include "transports/transport.h"

enum { WORLD_LANES = 4 };

/* What a case may ask for; zeros: nonce 1, chunk 1024, plain sim. */
struct world_attr {
	uint64_t nonce;
	size_t chunk;
	int pollable;
	struct cx_sim_attr sim;
};

/* Two ports and their lanes: lane[end][number]. */
struct world {
	const struct cx_transport *t;
	struct cx_sim *sim;
	bool wired; /* lanes are connections made here */
	struct cx_port *port[2];
	struct cx_lane *lane[2][WORLD_LANES];
};

/* What "tcp" runs over: AF_INET at first, AF_INET6 or AF_UNIX. */
extern int conformance_family;
/* A pair of connected stream sockets on this host; 0 or -1. */
int stream_pair(int family, int fd[2]);

/* 0, or the error; then nothing is left open. */
int world_open(struct world *w, const char *transport, const struct world_attr *attr);
void world_close(struct world *w);
/* Polls both ends, and lets virtual time pass when nothing moved. 1: something
 * happened. */
int world_step(struct world *w);
/* Steps until x is done or failed: its status; 0: it never will. */
int world_wait(struct world *w, struct cx_xfer *x);

/* A message's bytes, and whether they are there with nothing written behind. */
enum { GUARD = 64 };
void fill(unsigned char *p, size_t len, uint32_t seed);
int holds(const unsigned char *p, size_t len, uint32_t seed);
void clear(unsigned char *p, size_t len); /* len + GUARD bytes */

/* Entries of a folder of /proc/self, or lines of a file of it. */
int count_proc(const char *name);

/* A case ends here unless cond holds; what it opened stays open. */
#define NEED(cond) ((cond) ? (void)0 : conformance_failed(__func__, __LINE__, #cond))
void conformance_failed(const char *func, int line, const char *what) __attribute__((noreturn));

struct conformance_case {
	const char *name;
	void (*run)(const char *transport);
};
extern const struct conformance_case conformance_cases[]; /* name NULL ends it */
/* NULL: passed; else what failed, and the process is best left. */
const char *conformance_run(const struct conformance_case *c, const char *transport);

#endif
