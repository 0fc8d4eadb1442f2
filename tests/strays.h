/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections that belong to no rank: scanners, other programs, slow writers, and those
 * who saw a good handshake and try it again. For t_strays and perf/strays.
 */
#ifndef STRAYS_H
#define STRAYS_H

#include <netinet/in.h>

#include "src/auth.h"

enum stray {
	STRAY_CLOSES,    /* connects and closes */
	STRAY_SILENT,
	STRAY_GARBAGE,
	STRAY_HTTP,
	STRAY_SLOW,      /* a proof, byte by byte */
	STRAY_REPLAYED,  /* a proof that was good for another connection */
	STRAY_REFLECTED, /* the challenge sent back */
	STRAY_WRONG_MAC, /* all right but the last byte */
	STRAY_OTHER_JOB,
	STRAYS
};

struct strays {
	struct sockaddr_in to[64]; /* in turn */
	int nto;
	unsigned count;
	const struct cx_secret *secret; /* of the job: replays need a good proof */
	/* what became of them */
	unsigned made, refused; /* connected, and not */
	unsigned let_in;        /* those that were sent more than a challenge */
};

/* Makes them as fast as it goes, some hundred at a time open. */
void strays_make(struct strays *s);

/* The local ports that this process listens or is connected at, on the loopback. */
int strays_ports_of(int pid, struct sockaddr_in *out, int max);

#endif
