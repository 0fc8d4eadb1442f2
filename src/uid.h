/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unique ids: where rank 0 is to listen, the job's secret, and which host that is.
 * The port is kept from others from here on, until a communicator was made from the
 * id in this process.
 */
#ifndef CX_UID_H
#define CX_UID_H

#include "boot.h"
#include "collx.h"

/*
 * COLLX_ADDR's place where that is set; else an address of this host, chosen as net.h
 * says, with COLLX_PORT or a free port; where there is none but the loopback, or
 * COLLX_ADDR is a unix place, one at which only ranks of this host meet.
 */
int cx_uid_make(collx_unique_id *id, uint64_t deadline_ns);

/* The same for a rank that others find at this address, whose port does not matter. */
int cx_uid_make_at(collx_unique_id *id, const struct cx_place *at);

/* What a rank hands on in the place of an id: the code of its failure, and the beginning of
 * its error's line; and what another rank has of it: that failure, or 0 when it is none. */
void cx_uid_put_failure(collx_unique_id *id, int code);
int cx_uid_failure(const collx_unique_id *id, int rank);

/* Fills in place, local and secret; looks names up until the meeting's deadline. */
int cx_uid_read(const collx_unique_id *id, struct cx_meeting *m);

/* Where ranks of this host meet for a job whose rank 0 may be elsewhere. */
int cx_uid_local(struct cx_meeting *m);

/* Gives the port kept for that job back. */
void cx_uid_release(const unsigned char job[CX_JOB_BYTES]);
/* The same for an id that cx_uid_make made here and that nobody will use. Leaves the
 * thread's error line as it is. */
void cx_uid_drop(const collx_unique_id *id);

/* For a simulator with many processes in one: stores the ports that one keeps, and gives it
 * another's; NULL: none. Returns their bytes. */
size_t cx_uid_swap(void *save, const void *load);

#endif
