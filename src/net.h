/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The interfaces of this host, and at which address it listens for other hosts: the
 * one from which the kernel would go to rank 0, or the one that COLLX_INTERFACE names.
 */
#ifndef CX_NET_H
#define CX_NET_H

#include <net/if.h>
#include <stdbool.h>

#include "boot.h"

enum { CX_NET_MAX = 64 /* addresses; further ones are not seen */ };

struct cx_net_addr {
	char interface[IF_NAMESIZE];
	char text[48];       /* "10.0.0.7/24"; "" where the interface has no address */
	struct cx_place at;  /* the address, port 0 */
	int bits;            /* of the network's part */
	const char *why_not; /* NULL: usable */
};

struct cx_net {
	int n;
	struct cx_net_addr addrs[CX_NET_MAX];
};

/* What there is, with a verdict each; COLLX_INTERFACE does not count here. */
int cx_net_read(struct cx_net *net);

/* Is COLLX_INTERFACE one whole address, which this host has not? */
bool cx_net_wish_is_elsewhere(const struct cx_net *net);

/*
 * The address to listen at, and in `why` what spoke for it, in words. `to` is where
 * others are met; NULL: not known, then the default route's counts, else the first
 * usable one, else the loopback. An error names the candidates and what is wrong with
 * each.
 */
int cx_net_choose(const struct cx_net *net, const struct cx_place *to, struct cx_place *own,
		  char *why, size_t len);

/* Where this rank listens for lanes, port 0: on the loopback when the ranks meet at a
 * unix socket, else at the address chosen for the meeting's place. */
int cx_net_own_place(const struct cx_meeting *m, struct cx_place *own);

#endif
