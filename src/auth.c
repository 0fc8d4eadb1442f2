/* SPDX-License-Identifier: BSD-3-Clause */
/* The handshake of auth.h on libcrypto. Integers on the wire are little-endian. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth.h"
#include "base/base.h"

enum {
	NONCE_BYTES = 32,
	MAC_BYTES = 32,
	PROOF_JOB = 8,
	PROOF_CLAIM = PROOF_JOB + CX_JOB_BYTES,
	PROOF_NONCE = PROOF_CLAIM + 20,
	PROOF_MAC = PROOF_NONCE + NONCE_BYTES,
	PATH_SHOWN = 200
};
_Static_assert(PROOF_MAC + MAC_BYTES == CX_PROOF_BYTES, "proof layout");

static const unsigned char magic[4] = { 'C', 'L', 'X', '1' };

static void put32(unsigned char *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (unsigned char)(v >> 8 * i);
}

static uint32_t get32(const unsigned char *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put_head(unsigned char *p)
{
	memcpy(p, magic, 4);
	put32(p + 4, CX_WIRE_VERSION);
}

static int check_head(const unsigned char *p)
{
	if (memcmp(p, magic, 4))
		return cx_fail(COLLX_ERR_AUTH, "a connection does not speak libcollx's protocol");
	if (get32(p + 4) != CX_WIRE_VERSION)
		return cx_fail(COLLX_ERR_VERSION,
			       "a peer speaks wire version %u, this libcollx %d: "
			       "use one version of libcollx on all ranks",
			       get32(p + 4), CX_WIRE_VERSION);
	return 0;
}

bool cx_auth_is_proof(const unsigned char proof[CX_PROOF_BYTES])
{
	return !memcmp(proof, magic, 4) && get32(proof + 4) == CX_WIRE_VERSION;
}

int cx_secret_init(struct cx_secret *s, const unsigned char key[CX_SECRET_BYTES])
{
	static const char label[] = "collx job";
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	memcpy(s->key, key, CX_SECRET_BYTES);
	if (!HMAC(EVP_sha256(), key, CX_SECRET_BYTES, (const unsigned char *)label, sizeof(label),
		  digest, &len))
		return cx_fail(COLLX_ERR_NOMEM, "libcrypto could not compute an HMAC");
	memcpy(s->job, digest, CX_JOB_BYTES);
	return 0;
}

int cx_secret_derive(struct cx_secret *out, const struct cx_secret *from, uint64_t nonce)
{
	static const char label[] = "collx lanes";
	unsigned char text[sizeof(label) + 8], key[CX_SECRET_BYTES];
	unsigned len = sizeof(key);
	int rc = 0;

	memcpy(text, label, sizeof(label));
	put32(text + sizeof(label), (uint32_t)nonce);
	put32(text + sizeof(label) + 4, (uint32_t)(nonce >> 32));
	if (!HMAC(EVP_sha256(), from->key, CX_SECRET_BYTES, text, sizeof(text), key, &len))
		rc = cx_fail(COLLX_ERR_NOMEM, "libcrypto could not compute an HMAC");
	if (!rc)
		rc = cx_secret_init(out, key);
	OPENSSL_cleanse(key, sizeof(key));
	return rc;
}

int cx_secret_mix(struct cx_secret *s, const struct cx_secret *with)
{
	unsigned char key[CX_SECRET_BYTES];
	unsigned len = sizeof(key);
	int rc = 0;

	if (!HMAC(EVP_sha256(), with->key, CX_SECRET_BYTES, s->key, sizeof(s->key), key, &len))
		rc = cx_fail(COLLX_ERR_NOMEM, "libcrypto could not compute an HMAC");
	if (!rc)
		rc = cx_secret_init(s, key);
	OPENSSL_cleanse(key, sizeof(key));
	return rc;
}

int cx_secret_from_text(struct cx_secret *s, const char *text)
{
	static const char label[] = "collx job by name";
	unsigned char key[CX_SECRET_BYTES];
	unsigned len = sizeof(key);

	if (!HMAC(EVP_sha256(), label, sizeof(label), (const unsigned char *)text, strlen(text),
		  key, &len))
		return cx_fail(COLLX_ERR_NOMEM, "libcrypto could not compute an HMAC");
	return cx_secret_init(s, key);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int parse_hex_key(const char *text, unsigned char key[CX_SECRET_BYTES])
{
	for (int i = 0; i < CX_SECRET_BYTES; i++) {
		int hi = hex_digit(text[2 * i]), lo = hi < 0 ? -1 : hex_digit(text[2 * i + 1]);

		if (lo < 0)
			return COLLX_ERR_INVALID;
		key[i] = (unsigned char)(hi << 4 | lo);
	}
	return 0;
}

int cx_secret_from_hex(struct cx_secret *s, const char *digits)
{
	unsigned char key[CX_SECRET_BYTES];
	int rc;

	if (strlen(digits) != 2 * CX_SECRET_BYTES || parse_hex_key(digits, key))
		rc = cx_fail(COLLX_ERR_INVALID, "COLLX_SECRET is not %d hex digits",
			     2 * CX_SECRET_BYTES);
	else
		rc = cx_secret_init(s, key);
	OPENSSL_cleanse(key, sizeof(key));
	return rc;
}

/* Of a long path the middle is left out, so that the line has room for the reason. */
static void shorten(const char *path, char out[PATH_SHOWN])
{
	const size_t part = PATH_SHOWN / 2 - 2, len = strlen(path);

	if (len < PATH_SHOWN)
		strcpy(out, path);
	else
		snprintf(out, PATH_SHOWN, "%.*s...%s", (int)part, path, path + len - part);
}

static int check_secret_file(int fd, const char *path)
{
	struct stat st;

	if (fstat(fd, &st))
		return cx_fail_errno(errno, "secret file %s", path);
	if (!S_ISREG(st.st_mode))
		return cx_fail(COLLX_ERR_INVALID, "secret file %s is no regular file", path);
	if (st.st_uid != geteuid() || (st.st_mode & 077))
		return cx_fail(COLLX_ERR_AUTH,
			       "secret file %s must belong to user %u and be closed to others: "
			       "chmod 600 it",
			       path, (unsigned)geteuid());
	return 0;
}

int cx_secret_read(struct cx_secret *s, const char *path)
{
	char text[2 * CX_SECRET_BYTES] = { 0 }, shown[PATH_SHOWN];
	unsigned char key[CX_SECRET_BYTES];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), rc = errno;
	ssize_t n = 0;

	shorten(path, shown);
	if (fd < 0)
		return cx_fail_errno(rc, "secret file %s", shown);
	rc = check_secret_file(fd, shown);
	if (!rc)
		n = pread(fd, text, sizeof(text), 0);
	close(fd);
	if (rc)
		return rc;
	if (n != (ssize_t)sizeof(text) || parse_hex_key(text, key))
		rc = cx_fail(COLLX_ERR_INVALID, "secret file %s does not begin with %d hex digits",
			     shown, 2 * CX_SECRET_BYTES);
	else
		rc = cx_secret_init(s, key);
	OPENSSL_cleanse(text, sizeof(text));
	OPENSSL_cleanse(key, sizeof(key));
	return rc;
}

void cx_secret_wipe(struct cx_secret *s)
{
	OPENSSL_cleanse(s, sizeof(*s));
}

int cx_auth_challenge(unsigned char out[CX_CHALLENGE_BYTES])
{
	int rc;

	put_head(out);
	rc = cx_sys->random(out + 8, NONCE_BYTES);
	return rc ? cx_fail_errno(-rc, "random numbers") : 0;
}

/* MAC over label, challenge and the first len bytes of the proof. */
static int mac(const struct cx_secret *s, char label, const unsigned char *challenge,
	       const unsigned char *proof, size_t len, unsigned char out[MAC_BYTES])
{
	unsigned char text[1 + CX_CHALLENGE_BYTES + CX_PROOF_BYTES];
	unsigned n = MAC_BYTES;

	text[0] = (unsigned char)label;
	memcpy(text + 1, challenge, CX_CHALLENGE_BYTES);
	memcpy(text + 1 + CX_CHALLENGE_BYTES, proof, len);
	if (!HMAC(EVP_sha256(), s->key, CX_SECRET_BYTES, text, 1 + CX_CHALLENGE_BYTES + len, out,
		  &n))
		return cx_fail(COLLX_ERR_NOMEM, "libcrypto could not compute an HMAC");
	return 0;
}

int cx_auth_prove(const struct cx_secret *s, const unsigned char challenge[CX_CHALLENGE_BYTES],
		  const struct cx_claim *claim, unsigned char out[CX_PROOF_BYTES])
{
	int rc = check_head(challenge);

	memset(out, 0, CX_PROOF_BYTES);
	put_head(out);
	if (rc)
		return rc;
	memcpy(out + PROOF_JOB, s->job, CX_JOB_BYTES);
	put32(out + PROOF_CLAIM, claim->rank);
	put32(out + PROOF_CLAIM + 4, claim->ranks);
	put32(out + PROOF_CLAIM + 8, claim->kind);
	put32(out + PROOF_CLAIM + 12, claim->conn);
	put32(out + PROOF_CLAIM + 16, claim->to);
	rc = cx_sys->random(out + PROOF_NONCE, NONCE_BYTES);
	if (rc)
		return cx_fail_errno(-rc, "random numbers");
	return mac(s, 'c', challenge, out, PROOF_MAC, out + PROOF_MAC);
}

int cx_auth_check(const struct cx_secret *s, const unsigned char challenge[CX_CHALLENGE_BYTES],
		  const unsigned char proof[CX_PROOF_BYTES], struct cx_claim *claim)
{
	unsigned char want[MAC_BYTES];
	int rc = check_head(proof);

	if (rc)
		return rc;
	if (CRYPTO_memcmp(proof + PROOF_JOB, s->job, CX_JOB_BYTES))
		return cx_fail(COLLX_ERR_AUTH, "a connection is for another job");
	rc = mac(s, 'c', challenge, proof, PROOF_MAC, want);
	if (rc)
		return rc;
	if (CRYPTO_memcmp(want, proof + PROOF_MAC, MAC_BYTES))
		return cx_fail(COLLX_ERR_AUTH, "a connection does not know the job's secret");
	claim->rank = get32(proof + PROOF_CLAIM);
	claim->ranks = get32(proof + PROOF_CLAIM + 4);
	claim->kind = get32(proof + PROOF_CLAIM + 8);
	claim->conn = get32(proof + PROOF_CLAIM + 12);
	claim->to = get32(proof + PROOF_CLAIM + 16);
	return 0;
}

int cx_auth_confirm(const struct cx_secret *s, const unsigned char challenge[CX_CHALLENGE_BYTES],
		    const unsigned char proof[CX_PROOF_BYTES], unsigned char out[CX_CONFIRM_BYTES])
{
	return mac(s, 's', challenge, proof, CX_PROOF_BYTES, out);
}

int cx_auth_confirmed(const struct cx_secret *s, const unsigned char challenge[CX_CHALLENGE_BYTES],
		      const unsigned char proof[CX_PROOF_BYTES],
		      const unsigned char confirm[CX_CONFIRM_BYTES])
{
	unsigned char want[MAC_BYTES];
	int rc = mac(s, 's', challenge, proof, CX_PROOF_BYTES, want);

	if (!rc && CRYPTO_memcmp(want, confirm, CX_CONFIRM_BYTES))
		rc = cx_fail(COLLX_ERR_AUTH, "the meeting point does not know the job's secret");
	return rc;
}
