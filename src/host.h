/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which host this process is on, in the sense that counts here: processes of one
 * host share a kernel, a network namespace, a user and the folder where unix sockets
 * lie, so that they can meet there.
 */
#ifndef CX_HOST_H
#define CX_HOST_H

#include <stddef.h>
#include <stdint.h>

enum { CX_HOST_NAME_BYTES = 16 /* of a job's public name */ };

/* The same in all processes of one host, and hardly ever in others; never 0. */
uint64_t cx_host_id(void);

/* "unix:PATH" in this user's runtime folder where this host's ranks of a job meet;
 * ranks of another network namespace, which count as another host, meet elsewhere. */
int cx_host_meeting(char *where, size_t len, const unsigned char name[CX_HOST_NAME_BYTES]);

#endif
