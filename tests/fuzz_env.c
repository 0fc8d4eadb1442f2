/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Environment variables of all launchers: every text is understood or refused with a line
 * that says why. Input: lines of NAME=VALUE; the value of COLLX_SECRET_FILE is what the
 * file holds.
 */
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/base/base.h"
#include "src/launch.h"
#include "src/uid.h"
#include "tests/fuzz_world.h"

enum { LINE_MAX_BYTES = 500 };

static void clear_environment(void)
{
	for (int v = 0; v < CX_ENV_COUNT; v++)
		unsetenv(cx_env_entry((enum cx_env)v)->name);
}

/* By its name, else by the first letter of what stands in its place. */
static const char *find_name(const char *name)
{
	for (int v = 0; v < CX_ENV_COUNT; v++)
		if (!strcmp(cx_env_entry((enum cx_env)v)->name, name))
			return cx_env_entry((enum cx_env)v)->name;
	return cx_env_entry((enum cx_env)((unsigned char)name[0] % CX_ENV_COUNT))->name;
}

/* The secret's file: memory, which is private unless it begins with '!'. */
static int set_secret(const char *text)
{
	int fd = memfd_create("secret", MFD_CLOEXEC);
	char path[64];

	FUZZ_MUST(fd >= 0 && !fchmod(fd, text[0] == '!' ? 0644 : 0600), "no memory");
	FUZZ_MUST(write(fd, text, strlen(text)) == (ssize_t)strlen(text), "no room");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	setenv("COLLX_SECRET_FILE", path, 1);
	return fd;
}

static int set_line(char *line, int secret)
{
	char *value = strchr(line, '=');
	const char *name;

	if (value)
		*value++ = '\0';
	name = find_name(line);
	if (strcmp(name, "COLLX_SECRET_FILE")) {
		setenv(name, value ? value : "", 1);
		return secret;
	}
	if (secret >= 0)
		close(secret);
	return set_secret(value ? value : "");
}

/* The descriptor of the secret, or -1. */
static int set_environment(struct fuzz_input *in)
{
	int secret = -1;

	while (fuzz_left(in)) {
		char line[LINE_MAX_BYTES];
		size_t n = 0;
		uint8_t c;

		while (n < sizeof(line) - 1 && (c = fuzz_byte(in)) && c != '\n')
			line[n++] = (char)c;
		line[n] = '\0';
		secret = set_line(line, secret);
	}
	return secret;
}

static void try_integers(void)
{
	for (int v = 0; v < CX_ENV_COUNT; v++) {
		const char *text = cx_env_text((enum cx_env)v);
		long n = LONG_MIN;
		int rc = cx_env_int((enum cx_env)v, -5, 1 << 20, &n);

		FUZZ_MUST(rc == 0 || rc == 1 || rc == COLLX_ERR_INVALID, "%d", rc);
		FUZZ_MUST((rc == 0) == !text, "%s is %sset: %d", cx_env_entry(v)->name,
			  text ? "" : "not ", rc);
		FUZZ_MUST(rc != 1 || (n >= -5 && n <= 1 << 20 && n == atol(text)), "%s is %ld",
			  text, n);
		FUZZ_MUST(rc == 1 || n == LONG_MIN, "written in spite of %d", rc);
	}
}

static void check_place(const struct cx_place *p, const char *name)
{
	FUZZ_MUST(!strcmp(p->name, name), "'%s' became '%s'", name, p->name);
	FUZZ_MUST(p->len > 0 && p->len <= sizeof(p->addr), "an address of %u bytes", p->len);
	FUZZ_MUST(p->addr.ss_family == AF_UNIX || p->addr.ss_family == AF_INET ||
			  p->addr.ss_family == AF_INET6,
		  "a family of %d", p->addr.ss_family);
}

static void try_places(void)
{
	for (int v = 0; v < CX_ENV_COUNT; v++) {
		const char *text = cx_env_text((enum cx_env)v);
		struct cx_place p;
		int rc;

		if (!text)
			continue;
		cx_error_clear();
		rc = cx_place_parse(&p, text);
		FUZZ_MUST(rc == 0 || (rc < 0 && cx_error_text()[0]), "%d without a line", rc);
		if (!rc)
			check_place(&p, text);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, data + size };
	struct cx_meeting m = { .rank = 0 };
	struct cx_launch l = { .rank = -1, .ranks = -1 };
	collx_unique_id id;
	int rc, secret;

	clear_environment();
	fuzz_world_begin();
	secret = set_environment(&in);
	try_integers();
	try_places();
	/* They lead to real processes. */
	unsetenv("PMIX_NAMESPACE");
	unsetenv("PMI_FD");
	cx_error_clear();
	rc = cx_launch_read(&l);
	FUZZ_MUST(rc == 0 ? l.rank >= 0 && l.rank < l.ranks && cx_launch_name(&l)[0]
			  : rc < 0 && l.rank == -1 && cx_error_text()[0],
		  "%d, rank %d of %d: '%s'", rc, l.rank, l.ranks, cx_error_text());
	if (!rc) {
		cx_error_clear();
		rc = cx_launch_meet(&l, &m);
		FUZZ_MUST(rc == 0 || (rc < 0 && cx_error_text()[0]), "%d without a line", rc);
		if (!rc)
			check_place(&m.place, m.place.name);
	}
	cx_error_clear();
	rc = collx_get_unique_id(&id);
	FUZZ_MUST(rc == 0 || (rc < 0 && cx_error_text()[0]), "%d without a line", rc);
	if (!rc && !cx_secret_init(&m.secret, id.bytes + 4)) /* the port that is kept for it */
		cx_uid_release(m.secret.job);
	fuzz_world_end();
	if (secret >= 0)
		close(secret);
	clear_environment();
	return 0;
}
