/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a transport must do. It moves bytes between ranks over lanes and knows
 * nothing of collectives, element types or plans. This header is its contract.
 *
 * A port is one rank's end of a transport in one communicator. A lane is an
 * ordered stream of messages between two ports, both ways; lanes are numbered
 * 0 .. lanes-1 between each pair and are independent of each other. Messages of
 * a lane and direction are received in the order in which they were sent, whole:
 * sender and receiver both state a message's length and its 32-bit tag (in
 * practice a hash of the call). Where a tag or length does not agree the
 * receiver gets COLLX_ERR_MISMATCH before a byte of that message is delivered;
 * its transfer says then what came: done is the length and tag the tag.
 *
 * Calls never block (except sleep), never call back into the core, allocate
 * nothing after lane_open, and are made by one thread per port. Results: 1 done
 * now; 0 posted or nothing yet; a negative collx_result: the lane is dead and
 * stays dead. Lengths may be 0; such a message still is a message.
 *
 * Nothing that a peer wrote is used as a length, index or bound before it was
 * checked. Only library memory is ever written by a peer.
 */
#ifndef CX_TRANSPORT_H
#define CX_TRANSPORT_H

#include <stddef.h>
#include <stdint.h>

#include "collx.h"

enum { CX_ADDR_MAX = 64 };

/* How a peer is reached: bytes, and descriptors where the medium needs them (the
 * receiver gets its own duplicates; -1: none): one for the data, and for pollable
 * ports one that wakes the peer. */
struct cx_addr {
	uint32_t len;
	unsigned char bytes[CX_ADDR_MAX];
	int fd, bell;
};

struct pollfd;

/* What a port is to be. Equal on all ranks except rank and numa_node. */
struct cx_port_attr {
	int rank;
	int ranks;
	int lanes;          /* per pair */
	size_t chunk;       /* bytes of one in-flight piece, a multiple of 64; sized to the L2 */
	int numa_node;      /* where the rank runs; -1: unknown */
	int pollable;       /* wait_fds will be used: the rank waits for other ports too */
	uint64_t nonce;     /* same on all ranks, random: guards against mix-ups */
	struct cx_sim *sim; /* transport "sim" only */
};

struct cx_port;
struct cx_lane;

/* Payload that went through a port; for tests and collx-info. */
struct cx_port_stats {
	uint64_t sent_bytes, sent_messages;
	uint64_t received_bytes, received_messages;
	uint64_t sleeps, wakes; /* times this port slept; wake-up calls it made for others */
};

/* Expected cost of a message to a peer: alpha + bytes * beta. */
struct cx_cost {
	double alpha_ns;
	double beta_ns_per_byte;
};

/*
 * One message under way. The caller owns it, fills buf, len, tag, and leaves it
 * alone until status is not 0. Posting allocates nothing.
 */
struct cx_xfer {
	void *buf;       /* peek/release users: unused */
	size_t len;
	uint32_t tag;
	int status;      /* 0 under way, 1 done, negative: failed */
	size_t done;     /* bytes moved so far; the transport's */
	struct cx_xfer *next; /* the transport's */
};

struct cx_transport {
	const char *name;

	/* lane_open wants in addr->fd a connected stream socket to that peer, made for
	 * this lane alone and authenticated; it takes its own duplicate. */
	int wants_connection;

	/* Makes a port. COLLX_ERR_UNSUPPORTED where the medium is absent. */
	int (*open)(struct cx_port **port, const struct cx_port_attr *attr);

	/* Frees it; every lane was closed before. */
	void (*close)(struct cx_port *port);

	/* The port's address for all peers. addr->fd stays owned by the port. */
	int (*addr)(struct cx_port *port, struct cx_addr *addr);

	/* What a message to that peer will cost, by model or measurement. */
	int (*cost)(struct cx_port *port, const struct cx_addr *peer, struct cx_cost *out);

	/* Opens this port's end of lane number `lane` to rank `peer`. Both ends open it;
	 * the first message may be sent before the other end did. The address (and
	 * its fd) is only borrowed. A lane number is opened once in a port's life. */
	int (*lane_open)(struct cx_port *port, int peer, const struct cx_addr *addr, int lane,
			 struct cx_lane **out);

	/* Ends it: posted transfers are forgotten, nothing touches their buffers afterwards. */
	void (*lane_close)(struct cx_lane *lane);

	/* Posts a message. Started in order of posting. 1: x->buf may be reused at
	 * once; 0: x stays with the transport until x->status is set. */
	int (*send)(struct cx_lane *lane, struct cx_xfer *x);

	/* Posts a buffer for the lane's next message. Not mixed with peek on one
	 * message; several may be posted. */
	int (*recv)(struct cx_lane *lane, struct cx_xfer *x);

	/* Moves posted transfers on. 1: something moved; 0: nothing did. */
	int (*progress)(struct cx_port *port);

	/* ---- optional; the registry fills the gaps ---- */

	/* The next readable piece of the lane's next message, described by x (len,
	 * tag; done and status 0 at first), wherever it lies: *data and its bytes
	 * (> 0, at most chunk and len - done; pieces other than the last are
	 * multiples of 64), or 0: nothing yet, or a recv is posted before it.
	 * Repeated without release it gives the same piece. A message of length 0
	 * is received with recv. */
	long (*peek)(struct cx_lane *lane, struct cx_xfer *x, const void **data);

	/* Gives the first n bytes of that piece back (n = all of it, or a multiple
	 * of 64); x->done grows by n, and x->status becomes 1 at the end. */
	void (*release)(struct cx_lane *lane, struct cx_xfer *x, size_t n);

	/* Room to write the next piece of an outgoing message in place, like peek;
	 * commit sends n bytes of it (all of it, or a multiple of 64). 0 while a send
	 * is posted on the lane. Nothing else is sent until x is complete. */
	long (*reserve)(struct cx_lane *lane, struct cx_xfer *x, void **room);
	void (*commit)(struct cx_lane *lane, struct cx_xfer *x, size_t n);

	/* From arm on, anything that could let a posted or peeked transfer move ends
	 * the next sleep at once. The caller polls everything once more between the
	 * two. sleep returns when woken or after timeout_ns (0: only disarms). */
	void (*arm)(struct cx_port *port);
	void (*sleep)(struct cx_port *port, uint64_t timeout_ns);

	/* In the place of sleep, for a caller that waits for several pollable ports at
	 * once: fills in what to poll for, at most one descriptor a lane and one more.
	 * 1: something is there already; 0: *n descriptors. After the poll the caller
	 * disarms the port by a sleep of 0. */
	int (*wait_fds)(struct cx_port *port, struct pollfd *fds, unsigned *n);

	/* Registers caller memory for direct access. */
	int (*reg)(struct cx_port *port, void *buf, size_t len, void **handle);
	void (*dereg)(struct cx_port *port, void *handle);

	void (*stats)(struct cx_port *port, struct cx_port_stats *out);
};

/* All transports compiled in, NULL-terminated; by name, or NULL. Optional slots
 * that a transport left out point at stubs: peek and reserve answer
 * COLLX_ERR_UNSUPPORTED, as does wait_fds; arm does nothing, sleep naps at most 50 us. */
extern const struct cx_transport *const cx_transports[];
const struct cx_transport *cx_transport_find(const char *name);
/* Is this optional slot really there? */
int cx_transport_has_peek(const struct cx_transport *t);
int cx_transport_has_reserve(const struct cx_transport *t);
int cx_transport_has_wait_fds(const struct cx_transport *t);

/* ---- for transport files: the stubs a table names where it has nothing ---- */

long cx_stub_peek(struct cx_lane *lane, struct cx_xfer *x, const void **data);
void cx_stub_release(struct cx_lane *lane, struct cx_xfer *x, size_t n);
long cx_stub_reserve(struct cx_lane *lane, struct cx_xfer *x, void **room);
void cx_stub_commit(struct cx_lane *lane, struct cx_xfer *x, size_t n);
void cx_stub_arm(struct cx_port *port);
void cx_stub_sleep(struct cx_port *port, uint64_t timeout_ns);
int cx_stub_wait_fds(struct cx_port *port, struct pollfd *fds, unsigned *n);
int cx_stub_reg(struct cx_port *port, void *buf, size_t len, void **handle);
void cx_stub_dereg(struct cx_port *port, void *handle);
void cx_stub_stats(struct cx_port *port, struct cx_port_stats *out);

/* ---- sim.c: a world of ports in one process under virtual time ---- */

struct cx_sim_attr {
	uint64_t seed;
	uint64_t min_delay_ns, max_delay_ns; /* of every message, drawn by seed */
	double beta_ns_per_byte;
	uint32_t window;      /* messages in flight per lane and direction; then senders wait */
	uint32_t short_io;    /* 1: deliver messages in random pieces */
};
struct cx_sim *cx_sim_create(const struct cx_sim_attr *attr, int ranks);
void cx_sim_destroy(struct cx_sim *sim);
uint64_t cx_sim_now_ns(const struct cx_sim *sim);
/* Goes to the next event. 0: there is none (with transfers posted: a deadlock). */
int cx_sim_advance(struct cx_sim *sim);
/* A random number below n from the world's seed; for the order in which a test
 * runs its ranks. */
uint32_t cx_sim_random(struct cx_sim *sim, uint32_t n);
/* Faults, from now on. kill: its lanes die at every peer (COLLX_ERR_PEER_DEAD).
 * cut: messages from a to b vanish. flip: the next message a -> b is damaged. */
void cx_sim_kill(struct cx_sim *sim, int rank);
void cx_sim_cut(struct cx_sim *sim, int from, int to);
void cx_sim_flip(struct cx_sim *sim, int from, int to);

#endif
