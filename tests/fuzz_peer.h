/* SPDX-License-Identifier: BSD-3-Clause */
/* Peers of a fuzzed world that know the job's secret, or almost. */
#ifndef FUZZ_PEER_H
#define FUZZ_PEER_H

#include "src/auth.h"
#include "tests/fuzz_world.h"

enum { FUZZ_FLIPS = 6 };

/* Bytes changed on their way: at[i] (modulo the length) is xor-ed with with[i]. */
struct fuzz_flips {
	unsigned n;
	uint8_t at[FUZZ_FLIPS], with[FUZZ_FLIPS];
};

/* Often none. */
void fuzz_flips_take(struct fuzz_flips *f, struct fuzz_input *in);
/* Did it change anything? */
int fuzz_flips_apply(const struct fuzz_flips *f, uint8_t *bytes, size_t len);

extern struct cx_secret fuzz_secret, fuzz_other_secret;
void fuzz_secrets_make(void);

/* What a peer sends after its handshake, of c->tag. */
extern void (*fuzz_after_handshake)(struct fuzz_conn *c);

/* The other end is a door: proves itself as this claim when the challenge is there. */
void fuzz_prove(struct fuzz_conn *c, const struct cx_secret *secret, const struct cx_claim *claim,
		const struct fuzz_flips *flips);
/* The other end wants in: challenges it, and confirms its proof whatever that is. */
void fuzz_host(struct fuzz_conn *c, const struct cx_secret *secret,
	       const struct fuzz_flips *challenge, const struct fuzz_flips *confirm);

/* MAC of a proof, as auth.c makes it: for proofs that are changed and sealed again. */
void fuzz_seal(const struct cx_secret *secret, const uint8_t challenge[CX_CHALLENGE_BYTES],
	       uint8_t proof[CX_PROOF_BYTES]);

#endif
