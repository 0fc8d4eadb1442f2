/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Hosts that are network namespaces, with a router between them that can lose what it is
 * given: a cut is silent, as in a network, no link goes down and nobody answers. The calling
 * process becomes the router. All of it ends with the process, however that ends.
 *
 *   host 0 cx0 --- h0 router h1 --- cx0 host 1      10.77.0.1 + host
 *                  h2   |    h3 ...
 *
 * Functions return 0, or 1 where stderr has the reason.
 */
#ifndef NETCUT_H
#define NETCUT_H

#include <stdbool.h>

enum { NETCUT_HOSTS = 4 };

/* This process gets a namespace of its own, the router's. 77: it may not. */
int netcut_init(void);
int netcut_host_up(int host);
/* It is gone, with the processes' connections, which must have ended. */
void netcut_host_down(int host);
/* The calling process moves there. */
int netcut_enter(int host);

/* From now on the router drops what comes from a host of the one set for one of the other,
 * and with `both` what goes the other way. */
int netcut_part(unsigned from, unsigned to, bool both);
int netcut_heal(void);
/* The host's own end of its cable. */
int netcut_link(int host, bool up);
/* What the router sends to that host, in Mbit/s; 0: as fast as can be. */
int netcut_slow(int host, int mbit);

#endif
