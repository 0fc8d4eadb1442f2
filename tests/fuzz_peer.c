/* SPDX-License-Identifier: BSD-3-Clause */
/* The peers of fuzz_peer.h. */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "tests/fuzz_peer.h"

enum { MAC_BYTES = 32 };

struct cx_secret fuzz_secret, fuzz_other_secret;
void (*fuzz_after_handshake)(struct fuzz_conn *c);

/* What a peer is about to do, by its connection's place in the world. */
static struct part {
	const struct fuzz_conn *conn;
	const struct cx_secret *secret;
	struct cx_claim claim;
	struct fuzz_flips flips;
} parts[FUZZ_CONNS];

void fuzz_secrets_make(void)
{
	unsigned char key[CX_SECRET_BYTES] = "a secret of thirty-two bytes   ";

	FUZZ_MUST(!cx_secret_init(&fuzz_secret, key), "no secret");
	key[31] ^= 1;
	FUZZ_MUST(!cx_secret_init(&fuzz_other_secret, key), "no secret");
}

void fuzz_flips_take(struct fuzz_flips *f, struct fuzz_input *in)
{
	unsigned n = fuzz_byte(in);

	f->n = n > FUZZ_FLIPS ? 0 : n;
	for (unsigned i = 0; i < f->n; i++) {
		f->at[i] = fuzz_byte(in);
		f->with[i] = fuzz_byte(in);
	}
}

int fuzz_flips_apply(const struct fuzz_flips *f, uint8_t *bytes, size_t len)
{
	uint8_t before[256];

	FUZZ_MUST(len <= sizeof(before), "%zu bytes to flip", len);
	memcpy(before, bytes, len);
	for (unsigned i = 0; i < f->n; i++)
		bytes[f->at[i] % len] ^= f->with[i];
	return memcmp(before, bytes, len) != 0;
}

static struct part *part_of(const struct fuzz_conn *c)
{
	struct part *free_part = NULL;

	for (int i = 0; i < FUZZ_CONNS; i++) {
		if (parts[i].conn == c)
			return &parts[i];
		if (!parts[i].conn)
			free_part = &parts[i];
	}
	FUZZ_MUST(free_part, "too many peers");
	free_part->conn = c;
	return free_part;
}

static void prove_now(struct fuzz_conn *c)
{
	const struct part *p = part_of(c);
	uint8_t proof[CX_PROOF_BYTES];

	if (c->out_len < CX_CHALLENGE_BYTES)
		return;
	c->wrote = NULL;
	if (cx_auth_prove(p->secret, c->out, &p->claim, proof))
		return;
	fuzz_flips_apply(&p->flips, proof, sizeof(proof));
	fuzz_conn_feed(c, proof, sizeof(proof));
	if (fuzz_after_handshake)
		fuzz_after_handshake(c);
}

void fuzz_prove(struct fuzz_conn *c, const struct cx_secret *secret, const struct cx_claim *claim,
		const struct fuzz_flips *flips)
{
	struct part *p = part_of(c);

	*p = (struct part){ c, secret, *claim, *flips };
	c->wrote = prove_now;
}

static void confirm_now(struct fuzz_conn *c)
{
	const struct part *p = part_of(c);
	uint8_t answer[CX_CONFIRM_BYTES];

	if (c->out_len < CX_PROOF_BYTES)
		return;
	c->wrote = NULL;
	/* The challenge is what it was sent. */
	if (cx_auth_confirm(p->secret, c->in, c->out, answer))
		return;
	fuzz_flips_apply(&p->flips, answer, sizeof(answer));
	fuzz_conn_feed(c, answer, sizeof(answer));
	if (fuzz_after_handshake)
		fuzz_after_handshake(c);
}

void fuzz_host(struct fuzz_conn *c, const struct cx_secret *secret,
	       const struct fuzz_flips *challenge, const struct fuzz_flips *confirm)
{
	struct part *p = part_of(c);
	uint8_t bytes[CX_CHALLENGE_BYTES];

	*p = (struct part){ .conn = c, .secret = secret, .flips = *confirm };
	FUZZ_MUST(!cx_auth_challenge(bytes), "no challenge");
	fuzz_flips_apply(challenge, bytes, sizeof(bytes));
	fuzz_conn_feed(c, bytes, sizeof(bytes));
	c->wrote = confirm_now;
}

void fuzz_seal(const struct cx_secret *secret, const uint8_t challenge[CX_CHALLENGE_BYTES],
	       uint8_t proof[CX_PROOF_BYTES])
{
	uint8_t text[1 + CX_CHALLENGE_BYTES + CX_PROOF_BYTES];
	const size_t sealed = CX_PROOF_BYTES - MAC_BYTES;
	unsigned len = MAC_BYTES;

	text[0] = 'c';
	memcpy(text + 1, challenge, CX_CHALLENGE_BYTES);
	memcpy(text + 1 + CX_CHALLENGE_BYTES, proof, sealed);
	FUZZ_MUST(HMAC(EVP_sha256(), secret->key, CX_SECRET_BYTES, text,
		       1 + CX_CHALLENGE_BYTES + sealed, proof + sealed, &len),
		  "no HMAC");
}
