/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who may talk to this job: mutual HMAC-SHA256 challenge and response over the
 * job's secret, as pure functions on fixed-size messages. The client proves
 * first, so a stranger learns nothing and costs one HMAC.
 *
 *   server -> client  challenge   magic, version, nonce
 *   client -> server  proof       magic, version, job, claim (rank, ranks, kind, conn, to),
 *                                 nonce, MAC("c", both so far)
 *   server -> client  confirm     MAC("s", both so far)
 *
 * Direction labels stop reflection, both nonces stop replay, and everything a
 * connection is for stands inside the MAC.
 */
#ifndef CX_AUTH_H
#define CX_AUTH_H

#include <stdbool.h>
#include <stdint.h>

enum {
	CX_WIRE_VERSION = 4,
	CX_SECRET_BYTES = 32,
	CX_JOB_BYTES = 16,
	CX_CHALLENGE_BYTES = 40,
	CX_PROOF_BYTES = 108,
	CX_CONFIRM_BYTES = 32
};

struct cx_secret {
	unsigned char key[CX_SECRET_BYTES];
	unsigned char job[CX_JOB_BYTES]; /* public name, derived from the key */
};

/* What a connection claims to be. */
struct cx_claim {
	uint32_t rank;
	uint32_t ranks;
	uint32_t kind; /* enum cx_conn_kind of boot.h */
	uint32_t conn; /* which of several connections */
	uint32_t to;   /* whose door it is for, by rank, */
};
#define CX_TO_ANY UINT32_MAX /* or whoever opened it */

/* Derives the job's public name. */
int cx_secret_init(struct cx_secret *s, const unsigned char key[CX_SECRET_BYTES]);
/* The key from a file: 64 hexadecimal digits, mode without group and others, own user. */
int cx_secret_read(struct cx_secret *s, const char *path);
/* From the digits themselves. */
int cx_secret_from_hex(struct cx_secret *s, const char *digits);
/* The secret of the lanes of one communicator. */
int cx_secret_derive(struct cx_secret *out, const struct cx_secret *from, uint64_t nonce);
/* Makes it one that can be known only with the other as well. */
int cx_secret_mix(struct cx_secret *s, const struct cx_secret *with);
/* One that whoever knows the text can make: where a unix socket's user is proof enough. */
int cx_secret_from_text(struct cx_secret *s, const char *text);
/* Overwrites it for good. */
void cx_secret_wipe(struct cx_secret *s);

int cx_auth_challenge(unsigned char out[CX_CHALLENGE_BYTES]);
/* COLLX_ERR_VERSION when the server speaks another version; `out` then proves nothing, and
 * shows that server the version of this one. */
int cx_auth_prove(const struct cx_secret *s, const unsigned char challenge[CX_CHALLENGE_BYTES],
		  const struct cx_claim *claim, unsigned char out[CX_PROOF_BYTES]);
/* Does it look like one, of this version? */
bool cx_auth_is_proof(const unsigned char proof[CX_PROOF_BYTES]);
/* 0 and the claim, or COLLX_ERR_AUTH, COLLX_ERR_VERSION. */
int cx_auth_check(const struct cx_secret *s, const unsigned char challenge[CX_CHALLENGE_BYTES],
		  const unsigned char proof[CX_PROOF_BYTES], struct cx_claim *claim);
int cx_auth_confirm(const struct cx_secret *s, const unsigned char challenge[CX_CHALLENGE_BYTES],
		    const unsigned char proof[CX_PROOF_BYTES], unsigned char out[CX_CONFIRM_BYTES]);
int cx_auth_confirmed(const struct cx_secret *s, const unsigned char challenge[CX_CHALLENGE_BYTES],
		      const unsigned char proof[CX_PROOF_BYTES],
		      const unsigned char confirm[CX_CONFIRM_BYTES]);

#endif
