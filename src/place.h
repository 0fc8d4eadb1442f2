/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where processes meet: unix:/PATH, tcp:HOST:PORT or tcp:[ADDRESS]:PORT.
 * Listening and connecting there, through cx_sys, with deadlines.
 */
#ifndef CX_PLACE_H
#define CX_PLACE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum { CX_MEET_MAX = 96 /* bytes of a place's name with its final 0 */ };

struct cx_place {
	char name[CX_MEET_MAX];
	struct sockaddr_storage addr;
	socklen_t len;
	int made_folder; /* of a unix socket: ours to remove */
};

/* COLLX_ERR_INVALID for a malformed name, COLLX_ERR_SYSTEM for an unknown host. */
int cx_place_parse(struct cx_place *p, const char *name);

/* A listening descriptor, or an error. A unix socket lies in a folder that is made
 * private, where it must be; tcp port 0 becomes a free one. */
int cx_place_listen(struct cx_place *p);
void cx_place_unlisten(const struct cx_place *p, int fd);

/* Begins to connect, without waiting: a descriptor or -errno. When it is writable,
 * cx_place_knocked says 0, or -errno. */
int cx_place_knock(const struct cx_place *p);
int cx_place_knocked(const struct cx_place *p, int fd);
/* Is that errno worth another try, as where nobody listens yet? */
int cx_place_may_come(int err);

/* Is it an address of this host? */
int cx_place_is_here(const struct cx_place *p);

/* The address by which this connection reaches us, as a place with that port (its
 * own where port is -1). */
int cx_place_of_connection(struct cx_place *p, int fd, int port);

int cx_place_set_port(struct cx_place *p, int port);

#endif
