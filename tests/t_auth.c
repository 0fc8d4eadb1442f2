/* SPDX-License-Identifier: BSD-3-Clause */
/* The handshake: only who knows the secret passes, and only once, and only as said. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <criterion/criterion.h>

#include "src/auth.h"
#include "src/base/base.h"

static const struct cx_claim claim = { .rank = 3, .ranks = 9, .kind = 1, .conn = 5, .to = 2 };

struct talk {
	struct cx_secret server, client;
	unsigned char challenge[CX_CHALLENGE_BYTES], proof[CX_PROOF_BYTES];
	unsigned char confirm[CX_CONFIRM_BYTES];
	struct cx_claim heard;
};

static void secret(struct cx_secret *s, unsigned char seed)
{
	unsigned char key[CX_SECRET_BYTES];

	memset(key, seed, sizeof(key));
	cr_assert_eq(cx_secret_init(s, key), 0);
}

/* A whole handshake that succeeds. */
static struct talk talk(void)
{
	struct talk t;

	secret(&t.server, 1);
	secret(&t.client, 1);
	cr_assert_eq(cx_auth_challenge(t.challenge), 0);
	cr_assert_eq(cx_auth_prove(&t.client, t.challenge, &claim, t.proof), 0);
	cr_assert_eq(cx_auth_check(&t.server, t.challenge, t.proof, &t.heard), 0);
	cr_assert_eq(cx_auth_confirm(&t.server, t.challenge, t.proof, t.confirm), 0);
	cr_assert_eq(cx_auth_confirmed(&t.client, t.challenge, t.proof, t.confirm), 0);
	return t;
}

Test(auth, who_knows_the_secret_passes)
{
	struct talk t = talk();

	cr_assert_eq(memcmp(&t.heard, &claim, sizeof(claim)), 0);
}

Test(auth, another_secret_does_not)
{
	struct talk t = talk();
	unsigned char key[CX_SECRET_BYTES];

	/* Another job, and then a stranger who knows this job's public name. */
	secret(&t.client, 2);
	cr_assert_eq(cx_auth_prove(&t.client, t.challenge, &claim, t.proof), 0);
	cr_assert_eq(cx_auth_check(&t.server, t.challenge, t.proof, &t.heard), COLLX_ERR_AUTH);
	cr_assert_not_null(strstr(cx_error_text(), "another job"), "%s", cx_error_text());
	memcpy(t.client.job, t.server.job, CX_JOB_BYTES);
	cr_assert_eq(cx_auth_prove(&t.client, t.challenge, &claim, t.proof), 0);
	cr_assert_eq(cx_auth_check(&t.server, t.challenge, t.proof, &t.heard), COLLX_ERR_AUTH);
	cr_assert_not_null(strstr(cx_error_text(), "secret"), "%s", cx_error_text());
	for (int bit = 0; bit < 8 * CX_SECRET_BYTES; bit++) {
		memcpy(key, t.server.key, sizeof(key));
		key[bit / 8] ^= (unsigned char)(1 << bit % 8);
		cr_assert_eq(cx_secret_init(&t.client, key), 0);
		cr_assert_neq(memcmp(t.client.job, t.server.job, CX_JOB_BYTES), 0);
	}
}

Test(auth, a_server_without_the_secret_is_found_out)
{
	struct talk t = talk();

	secret(&t.server, 2);
	cr_assert_eq(cx_auth_confirm(&t.server, t.challenge, t.proof, t.confirm), 0);
	cr_assert_eq(cx_auth_confirmed(&t.client, t.challenge, t.proof, t.confirm),
		     COLLX_ERR_AUTH);
}

Test(auth, every_flipped_bit_is_noticed)
{
	struct talk t = talk();

	for (int i = 0; i < 8 * CX_PROOF_BYTES; i++) {
		int rc;

		t.proof[i / 8] ^= (unsigned char)(1 << i % 8);
		rc = cx_auth_check(&t.server, t.challenge, t.proof, &t.heard);
		cr_assert_eq(rc, i / 32 == 1 ? COLLX_ERR_VERSION : COLLX_ERR_AUTH, "bit %d: %d", i,
			     rc);
		t.proof[i / 8] ^= (unsigned char)(1 << i % 8);
	}
	for (int i = 0; i < 8 * CX_CONFIRM_BYTES; i++) {
		t.confirm[i / 8] ^= (unsigned char)(1 << i % 8);
		cr_assert_eq(cx_auth_confirmed(&t.client, t.challenge, t.proof, t.confirm),
			     COLLX_ERR_AUTH, "bit %d", i);
		t.confirm[i / 8] ^= (unsigned char)(1 << i % 8);
	}
	cr_assert_eq(cx_auth_check(&t.server, t.challenge, t.proof, &t.heard), 0);
	cr_assert_eq(cx_auth_confirmed(&t.client, t.challenge, t.proof, t.confirm), 0);
}

/* Somebody in between changes the challenge: the client answers another question. */
Test(auth, every_flipped_bit_of_the_challenge_is_noticed)
{
	struct talk t = talk();

	for (int i = 0; i < 8 * CX_CHALLENGE_BYTES; i++) {
		unsigned char seen[CX_CHALLENGE_BYTES], proof[CX_PROOF_BYTES];
		int rc;

		memcpy(seen, t.challenge, sizeof(seen));
		seen[i / 8] ^= (unsigned char)(1 << i % 8);
		rc = cx_auth_prove(&t.client, seen, &claim, proof);
		if (i < 64) { /* magic and version */
			cr_assert_eq(rc, i < 32 ? COLLX_ERR_AUTH : COLLX_ERR_VERSION, "bit %d", i);
			continue;
		}
		cr_assert_eq(rc, 0);
		cr_assert_eq(cx_auth_check(&t.server, t.challenge, proof, &t.heard),
			     COLLX_ERR_AUTH, "bit %d", i);
	}
}

Test(auth, a_proof_works_for_its_challenge_only)
{
	struct talk t = talk();
	unsigned char fresh[CX_CHALLENGE_BYTES], proof[CX_PROOF_BYTES];

	cr_assert_eq(cx_auth_challenge(fresh), 0);
	cr_assert_neq(memcmp(fresh, t.challenge, sizeof(fresh)), 0);
	cr_assert_eq(cx_auth_check(&t.server, fresh, t.proof, &t.heard), COLLX_ERR_AUTH);
	/* A confirmation of that old talk does not confirm a new one either. */
	cr_assert_eq(cx_auth_prove(&t.client, fresh, &claim, proof), 0);
	cr_assert_eq(cx_auth_confirmed(&t.client, fresh, proof, t.confirm), COLLX_ERR_AUTH);
	cr_assert_eq(cx_auth_prove(&t.client, t.challenge, &claim, proof), 0);
	cr_assert_eq(cx_auth_confirmed(&t.client, t.challenge, proof, t.confirm),
		     COLLX_ERR_AUTH);
}

/* A stranger without the secret sends the prover's own words back. */
Test(auth, reflection_does_not_confirm)
{
	struct talk t = talk();
	unsigned char mac[CX_CONFIRM_BYTES];

	memcpy(mac, t.proof + CX_PROOF_BYTES - CX_CONFIRM_BYTES, sizeof(mac));
	cr_assert_eq(cx_auth_confirmed(&t.client, t.challenge, t.proof, mac), COLLX_ERR_AUTH);
	memcpy(t.proof + CX_PROOF_BYTES - CX_CONFIRM_BYTES, t.confirm, sizeof(t.confirm));
	cr_assert_eq(cx_auth_check(&t.server, t.challenge, t.proof, &t.heard), COLLX_ERR_AUTH);
}

/* What a connection is for cannot be made another thing: swapped words of a claim. */
Test(auth, a_swapped_rank_is_noticed)
{
	enum { CLAIM_AT = 8 + CX_JOB_BYTES, WORDS = 5 };
	struct talk t = talk();

	for (int i = 0; i < WORDS; i++)
		for (int k = i + 1; k < WORDS; k++) {
			unsigned char proof[CX_PROOF_BYTES];

			memcpy(proof, t.proof, sizeof(proof));
			memcpy(proof + CLAIM_AT + 4 * i, t.proof + CLAIM_AT + 4 * k, 4);
			memcpy(proof + CLAIM_AT + 4 * k, t.proof + CLAIM_AT + 4 * i, 4);
			cr_assert_eq(cx_auth_check(&t.server, t.challenge, proof, &t.heard),
				     COLLX_ERR_AUTH, "words %d and %d", i, k);
		}
}

Test(auth, another_version_is_said_to_be_one)
{
	struct talk t = talk();
	char mine[16];

	snprintf(mine, sizeof(mine), "%d", CX_WIRE_VERSION);
	t.challenge[4]++;
	cr_assert_eq(cx_auth_prove(&t.client, t.challenge, &claim, t.proof), COLLX_ERR_VERSION);
	cr_assert_not_null(strstr(cx_error_text(), mine), "%s", cx_error_text());
	t = talk();
	t.proof[7] = 9;
	cr_assert_eq(cx_auth_check(&t.server, t.challenge, t.proof, &t.heard), COLLX_ERR_VERSION);
	cr_assert_not_null(strstr(cx_error_text(), "version"), "%s", cx_error_text());
}

static int random_fails(void *buf, size_t len)
{
	(void)buf;
	(void)len;
	return -5;
}

Test(auth, no_randomness_no_handshake)
{
	struct talk t = talk();
	struct cx_sys sys = cx_sys_real;

	sys.random = random_fails;
	cx_sys = &sys;
	cr_assert_eq(cx_auth_challenge(t.challenge), COLLX_ERR_SYSTEM);
	cr_assert_eq(cx_auth_prove(&t.client, t.challenge, &claim, t.proof), COLLX_ERR_SYSTEM);
	cx_sys = &cx_sys_real;
}

Test(auth, wiped_is_wiped)
{
	struct cx_secret s;

	secret(&s, 7);
	cx_secret_wipe(&s);
	for (size_t i = 0; i < sizeof(s); i++)
		cr_assert_eq(((unsigned char *)&s)[i], 0);
}

/* ---- the secret's file ---- */

static const char good[] = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F\n";

static int read_file(const char *text, mode_t mode, struct cx_secret *s)
{
	char path[] = "/tmp/collx-t-secret-XXXXXX";
	int fd = mkstemp(path), rc;

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	cr_assert_eq(fchmod(fd, mode), 0);
	close(fd);
	rc = cx_secret_read(s, path);
	if (rc)
		cr_assert_not_null(strstr(cx_error_text(), path), "%s", cx_error_text());
	unlink(path);
	return rc;
}

Test(secret, file)
{
	struct cx_secret s, same;
	char bad[80];

	cr_assert_eq(read_file(good, 0600, &s), 0);
	for (int i = 0; i < CX_SECRET_BYTES; i++)
		cr_assert_eq(s.key[i], i);
	cr_assert_eq(cx_secret_init(&same, s.key), 0);
	cr_assert_eq(memcmp(s.job, same.job, CX_JOB_BYTES), 0);
	for (mode_t bit = 1; bit <= 040; bit *= 2)
		cr_assert_eq(read_file(good, 0600 | bit, &s), COLLX_ERR_AUTH, "bit %o", bit);
	cr_assert_eq(read_file("", 0600, &s), COLLX_ERR_INVALID);
	cr_assert_eq(read_file("00", 0600, &s), COLLX_ERR_INVALID);
	for (size_t i = 0; i < 64; i++) {
		strcpy(bad, good);
		bad[i] = 'g';
		cr_assert_eq(read_file(bad, 0600, &s), COLLX_ERR_INVALID, "at %zu", i);
		bad[i] = '\0';
		cr_assert_eq(read_file(bad, 0600, &s), COLLX_ERR_INVALID, "at %zu", i);
	}
	cr_assert_eq(cx_secret_read(&s, "/nonexistent/secret"), COLLX_ERR_SYSTEM);
	cr_assert_not_null(strstr(cx_error_text(), "/nonexistent/secret"));
}

/* What is wrong is told, and both ends of the name. */
Test(secret, file_with_a_long_name)
{
	static const char *const names[] = { "none", "wide", "short" };
	static const char *const said[] = { ": No such file or directory", "chmod 600 it",
					    "does not begin with 64 hex digits" };
	char folder[] = "/tmp/collx-t-secret-XXXXXX", path[900], dots[800] = "";
	struct cx_secret s;

	cr_assert_not_null(mkdtemp(folder));
	while (strlen(dots) < sizeof(dots) - 3)
		strcat(dots, "./");
	for (size_t i = 0; i < 3; i++) {
		int fd;

		snprintf(path, sizeof(path), "%s/%s%s", folder, dots, names[i]);
		fd = i ? open(path, O_CREAT | O_WRONLY, i == 1 ? 0644 : 0600) : -1;
		cr_assert_neq(cx_secret_read(&s, path), 0);
		cr_expect(strstr(cx_error_text(), said[i]) && strstr(cx_error_text(), names[i]) &&
			  strstr(cx_error_text(), folder), "%s", cx_error_text());
		if (i)
			cr_assert(fd >= 0 && !close(fd) && !unlink(path));
	}
	cr_assert_eq(rmdir(folder), 0);
}
