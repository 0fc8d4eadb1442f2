/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where processes meet: unix:/PATH, tcp:HOST:PORT or tcp:[ADDRESS]:PORT.
 * Listening and connecting there, through cx_sys, with deadlines.
 *
 * A tcp place may stand for several: a host's name has up to CX_PLACE_ADDRS
 * addresses, and `ports` ports from the named one on. Rank 0 takes the first that is
 * its own and free; the others try them in turn until one proves to be rank 0.
 */
#ifndef CX_PLACE_H
#define CX_PLACE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
	CX_MEET_MAX = 96, /* bytes of a place's name with its final 0 */
	CX_PLACE_ADDRS = 8
};

struct cx_place {
	char name[CX_MEET_MAX];
	struct sockaddr_storage addr; /* the first one */
	socklen_t len;
	int made_folder; /* of a unix socket: ours to remove */
	int ports;       /* 1 mostly, and where it is 0 */
	int nmore;       /* further addresses of the name, IPv4 or IPv6 */
	struct sockaddr_in6 more[CX_PLACE_ADDRS - 1];
	uint64_t host;   /* cx_host_id of the host it is at; 0: not known */
};

/* From a name without a host's name: COLLX_ERR_INVALID for any other. Asks nobody. */
int cx_place_parse(struct cx_place *p, const char *name);

/* The same, with hosts' names looked up, again and again until the deadline, as rank 0's
 * may become known late: COLLX_ERR_INVALID for a malformed name, COLLX_ERR_INIT_TIMEOUT,
 * COLLX_ERR_SYSTEM where nothing can be looked up. Ends with stop's code as soon as it has
 * one; NULL: never. */
int cx_place_find(struct cx_place *p, const char *name, uint64_t deadline_ns,
		  int (*stop)(void *ctx), void *stop_ctx);

/* How many a place stands for, and the i-th of them as a place of its own. */
int cx_place_count(const struct cx_place *p);
void cx_place_nth(const struct cx_place *p, int i, struct cx_place *out);

/* Is a process that listens there one of this host? */
bool cx_place_is_here(const struct cx_place *p);
/* Can processes of this host alone reach it? A unix socket, or the loopback. */
bool cx_place_is_local(const struct cx_place *p);

/* A listening descriptor, or an error. A unix socket lies in a folder that is made
 * private, where it must be. Of several places *p becomes the one taken; tcp port 0
 * becomes a free one, in COLLX_PORT_RANGE where that is set. */
int cx_place_listen(struct cx_place *p);
void cx_place_unlisten(const struct cx_place *p, int fd);
/* Can nobody ever listen there, as the folder of a unix socket is not ours alone? Then an
 * error. */
int cx_place_check(const struct cx_place *p);

/* Keeps a tcp port (0: a free one) from being given to others, for as long as the
 * descriptor is open; a process of any kind can still listen there by name. */
int cx_place_reserve(struct cx_place *p);

/* Begins to connect to a single place, without waiting: a descriptor or -errno. When it
 * is writable, cx_place_knocked says 0, or -errno. */
int cx_place_knock(const struct cx_place *p);
int cx_place_knocked(const struct cx_place *p, int fd);
/* Is that errno worth another try, as where nobody listens yet? */
bool cx_place_may_come(int err);
/* Both, waiting: a connected descriptor, or -errno. */
int cx_place_try(const struct cx_place *p, uint64_t deadline_ns);

/* The address by which this connection reaches us, as a place with that port (its
 * own where port is -1). */
int cx_place_of_connection(struct cx_place *p, int fd, int port);

/* Of a single tcp place. */
int cx_place_set_port(struct cx_place *p, int port);
int cx_place_port(const struct cx_place *p);

/* From a socket's address; the name is the numeric one. */
int cx_place_of_address(struct cx_place *p, const struct sockaddr *addr, int port);

#endif
