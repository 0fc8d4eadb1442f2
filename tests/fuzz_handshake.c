/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The handshake, both sides of it: the functions on proofs that are right but for some
 * bytes, a door with strangers and ranks in front of it, and a rank at a door that may be
 * a stranger's. Whoever gets in knew the secret, and every rank that knew it gets in.
 */
#include <errno.h>
#include <string.h>

#include "src/base/base.h"
#include "src/door.h"
#include "tests/fuzz_peer.h"

enum { CLAIM_AT = 8 + CX_JOB_BYTES, GUESTS = 90 /* more than a door hears at once */,
       MINE = 3 /* the door's rank */ };

/* ---- the functions ---- */

static uint32_t get32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void claim_take(struct cx_claim *claim, struct fuzz_input *in)
{
	uint8_t bytes[16] = { 0 };

	fuzz_bytes(in, bytes, sizeof(bytes));
	*claim = (struct cx_claim){ get32(bytes), get32(bytes + 4), get32(bytes + 8),
				    get32(bytes + 12), MINE };
}

static void check_claim(const uint8_t *proof, const struct cx_claim *got)
{
	const uint8_t *p = proof + CLAIM_AT;

	FUZZ_MUST(got->rank == get32(p) && got->ranks == get32(p + 4) &&
			  got->kind == get32(p + 8) && got->conn == get32(p + 12) &&
			  got->to == get32(p + 16),
		  "a claim is not what was sealed");
}

/* A proof with changes: as it is, or sealed again by who knows the secret. */
static void try_proof(struct fuzz_input *in)
{
	uint8_t challenge[CX_CHALLENGE_BYTES], other[CX_CHALLENGE_BYTES];
	uint8_t proof[CX_PROOF_BYTES], right[CX_PROOF_BYTES];
	struct cx_claim claim, got;
	struct fuzz_flips flips;
	int changed, sealed = fuzz_byte(in) & 1, rc;

	claim_take(&claim, in);
	fuzz_flips_take(&flips, in);
	FUZZ_MUST(!cx_auth_challenge(challenge) && !cx_auth_challenge(other), "no challenge");
	FUZZ_MUST(!cx_auth_prove(&fuzz_secret, challenge, &claim, right), "no proof");
	memcpy(proof, right, sizeof(proof));
	changed = fuzz_flips_apply(&flips, proof, sizeof(proof));
	if (sealed) {
		fuzz_seal(&fuzz_secret, challenge, proof);
		changed = memcmp(proof, right, CLAIM_AT) != 0;
	}
	rc = cx_auth_check(&fuzz_secret, challenge, proof, &got);
	FUZZ_MUST(rc == 0 || rc == COLLX_ERR_AUTH || rc == COLLX_ERR_VERSION, "%d", rc);
	FUZZ_MUST((rc == 0) == !changed, "%d for a proof that was %schanged", rc,
		  changed ? "" : "not ");
	if (!rc)
		check_claim(proof, &got);
	FUZZ_MUST(cx_auth_check(&fuzz_secret, other, proof, &got), "a replay was let in");
	FUZZ_MUST(cx_auth_check(&fuzz_other_secret, challenge, proof, &got), "another job's");
}

/* Bytes of a stranger, in the place of each message. */
static void try_raw(struct fuzz_input *in)
{
	uint8_t challenge[CX_CHALLENGE_BYTES] = { 0 }, proof[CX_PROOF_BYTES] = { 0 };
	uint8_t answer[CX_CONFIRM_BYTES] = { 0 }, right[CX_CONFIRM_BYTES];
	struct cx_claim claim = { 1, 2, 1, 0, MINE };
	int rc;

	fuzz_bytes(in, challenge, sizeof(challenge));
	fuzz_bytes(in, proof, sizeof(proof));
	fuzz_bytes(in, answer, sizeof(answer));
	FUZZ_MUST(cx_auth_check(&fuzz_secret, challenge, proof, &claim), "a guess was let in");
	FUZZ_MUST(!cx_auth_confirm(&fuzz_secret, challenge, proof, right), "no answer");
	FUZZ_MUST(cx_auth_confirmed(&fuzz_secret, challenge, proof, answer), "a guess confirmed");
	FUZZ_MUST(!cx_auth_confirmed(&fuzz_secret, challenge, proof, right), "not confirmed");
	rc = cx_auth_prove(&fuzz_secret, challenge, &claim, proof);
	FUZZ_MUST(rc == 0 || rc == COLLX_ERR_AUTH || rc == COLLX_ERR_VERSION, "%d", rc);
}

/* ---- a door ---- */

enum kind { RANK, CHANGED, STRANGER, OTHER_JOB, REPLAYED, REFLECTED, KINDS };

static struct guest {
	enum kind kind;
	struct fuzz_conn *conn;
	struct cx_claim claim;
	int seated;
} guests[GUESTS];
static int nguests, missing;
static uint8_t recorded[CX_PROOF_BYTES]; /* of another time at this door */

static int seat(void *ctx, const struct cx_claim *claim, int fd)
{
	struct guest *g = &guests[fuzz_conn_of(fd)->tag];

	FUZZ_MUST(ctx == guests, "another's context");
	FUZZ_MUST(g->kind == RANK, "guest %d of kind %d was let in", fuzz_conn_of(fd)->tag,
		  (int)g->kind);
	FUZZ_MUST(!g->seated++, "a guest was let in twice");
	FUZZ_MUST(!memcmp(claim, &g->claim, sizeof(*claim)), "as somebody else");
	FUZZ_MUST(g->conn->out_len == CX_CHALLENGE_BYTES + CX_CONFIRM_BYTES &&
			  !cx_auth_confirmed(&fuzz_secret, g->conn->out, g->conn->in,
					     g->conn->out + CX_CHALLENGE_BYTES),
		  "a rank was not confirmed");
	missing--;
	cx_sys->close(fd);
	return 0;
}

/* Sends the door's own message back to it. */
static void reflect(struct fuzz_conn *c)
{
	c->wrote = NULL;
	for (int i = 0; i < 3; i++)
		fuzz_conn_feed(c, c->out, c->out_len);
}

static void guest_come(struct fuzz_input *in)
{
	static const struct fuzz_flips none;
	struct fuzz_conn *c = fuzz_conn_come();
	struct guest *g = &guests[nguests];
	struct fuzz_flips flips = none;
	uint8_t raw[64];

	*g = (struct guest){ .kind = (enum kind)fuzz_below(in, KINDS), .conn = c };
	c->tag = nguests++;
	g->claim = (struct cx_claim){ (uint32_t)c->tag, fuzz_byte(in), 1, 0, MINE };
	c->chunk = fuzz_below(in, 120);
	if (g->kind == RANK) {
		missing++;
	} else {
		c->pause_ns = (uint64_t)fuzz_byte(in) * 1000000;
		c->end = (enum fuzz_end)fuzz_below(in, 3);
	}
	if (g->kind == CHANGED) {
		fuzz_flips_take(&flips, in);
		if (!flips.n || !flips.with[0])
			flips = (struct fuzz_flips){ 1, { 77 }, { 1 } };
		flips.n = 1; /* two may undo each other */
	}
	if (g->kind != RANK && c->end != FUZZ_SILENT)
		fuzz_conn_feed(c, raw, fuzz_bytes(in, raw, fuzz_below(in, sizeof(raw))));
	if (g->kind == STRANGER)
		fuzz_conn_feed(c, raw, fuzz_bytes(in, raw, fuzz_below(in, sizeof(raw))));
	else if (g->kind == REPLAYED)
		fuzz_conn_feed(c, recorded, sizeof(recorded));
	else if (g->kind == REFLECTED)
		c->wrote = reflect;
	else
		fuzz_prove(c, g->kind == OTHER_JOB ? &fuzz_other_secret : &fuzz_secret, &g->claim,
			   &flips);
}

static void record(void)
{
	const struct cx_claim claim = { 0, 4, 1, 0, MINE };
	uint8_t challenge[CX_CHALLENGE_BYTES];

	FUZZ_MUST(!cx_auth_challenge(challenge) &&
			  !cx_auth_prove(&fuzz_secret, challenge, &claim, recorded),
		  "no proof");
}

/* Serves the door until nobody is missing. */
static int door_wait(struct cx_door *d, const int *left, uint64_t deadline_ns)
{
	static struct pollfd fds[1024];
	struct cx_poll p = { .fds = fds };
	int rc = 0;

	FUZZ_MUST(cx_door_room(GUESTS) <= sizeof(fds) / sizeof(*fds), "no room");
	while (!rc && *left) {
		if (cx_now_ns() >= deadline_ns)
			return COLLX_ERR_INIT_TIMEOUT;
		cx_poll_begin(&p, 100);
		cx_door_watch(d, &p);
		rc = cx_poll_wait(&p);
		if (!rc)
			rc = cx_door_serve(d, &p);
	}
	return rc;
}

/* A descriptor, or why there is none. */
static int door_enter(const struct cx_place *place, const struct cx_claim *claim,
		      uint64_t deadline_ns)
{
	struct pollfd fds[2];
	struct cx_poll p = { .fds = fds };
	struct cx_visit v;
	int rc = 0;

	cx_visit_begin(&v, place, &fuzz_secret, claim);
	while (!rc && cx_now_ns() < deadline_ns) {
		cx_poll_begin(&p, 100);
		cx_visit_watch(&v, &p);
		rc = cx_poll_wait(&p);
		if (!rc)
			rc = cx_visit_go_on(&v, &p);
	}
	if (rc == 1)
		return v.fd;
	cx_visit_end(&v);
	return rc ? rc : cx_fail(COLLX_ERR_INIT_TIMEOUT, "nobody answered at %s", place->name);
}

static void try_door(struct fuzz_input *in)
{
	uint64_t start, limit_ns = 10000000000;
	struct cx_place place;
	struct cx_door *d;
	char text[256];
	int rc;

	record();
	nguests = missing = 0;
	while (nguests < GUESTS && fuzz_left(in))
		guest_come(in);
	FUZZ_MUST(!cx_place_parse(&place, "tcp:127.0.0.1:7"), "no place");
	FUZZ_MUST(!cx_door_open(&d, &place, &fuzz_secret, MINE, missing, seat, guests), "no door");
	start = cx_now_ns();
	rc = door_wait(d, &missing, start + limit_ns);
	FUZZ_MUST(rc == 0 && !missing, "%d ranks did not get in: %d", missing, rc);
	FUZZ_MUST(cx_now_ns() - start < 1000000000u, "strangers held ranks up for %g s",
		  (double)(cx_now_ns() - start) * 1e-9);
	missing = 1; /* whoever may come now is a stranger */
	rc = door_wait(d, &missing, cx_now_ns() + limit_ns);
	FUZZ_MUST(rc == COLLX_ERR_INIT_TIMEOUT, "%d", rc);
	cx_door_strangers(d, text, sizeof(text));
	cx_door_close(d);
}

/* ---- a rank at a door ---- */

static struct fuzz_flips asked, answered;
static int other_job;

static int host(struct fuzz_conn *c)
{
	fuzz_host(c, other_job ? &fuzz_other_secret : &fuzz_secret, &asked, &answered);
	return 0;
}

static void try_enter(struct fuzz_input *in)
{
	const struct cx_claim claim = { 1, 4, 1, 0, MINE };
	uint8_t probe[CX_CHALLENGE_BYTES] = { 0 };
	struct cx_place place;
	int fd, honest;

	other_job = fuzz_byte(in) & 1;
	fuzz_flips_take(&asked, in);
	fuzz_flips_take(&answered, in);
	/* What the challenge's nonce is does not matter, its head does. */
	fuzz_flips_apply(&asked, probe, sizeof(probe));
	honest = !other_job && !memcmp(probe, (uint8_t[8]){ 0 }, 8);
	memset(probe, 0, sizeof(probe));
	honest &= !fuzz_flips_apply(&answered, probe, CX_CONFIRM_BYTES);
	fuzz_on_connect = host;
	FUZZ_MUST(!cx_place_parse(&place, "tcp:127.0.0.1:7"), "no place");
	cx_error_clear();
	fd = door_enter(&place, &claim, cx_now_ns() + 1000000000);
	FUZZ_MUST((fd >= 0) == honest, "%d at %s door: %s", fd, honest ? "an honest" : "a false",
		  cx_error_text());
	FUZZ_MUST(fd >= 0 || cx_error_text()[0], "%d without a line", fd);
	if (fd >= 0)
		cx_sys->close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const parts[])(struct fuzz_input *) = { try_proof, try_raw, try_door,
							      try_enter };
	struct fuzz_input in = { data, data + size };

	fuzz_world_begin();
	fuzz_secrets_make();
	fuzz_after_handshake = NULL;
	parts[fuzz_below(&in, 4)](&in);
	fuzz_world_end();
	return 0;
}
