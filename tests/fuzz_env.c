/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Environment variables of all launchers: every text is understood or refused with a line
 * that says why. Input: entries of a byte (which variable), a text and a zero.
 */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/base.h"
#include "src/launch.h"
#include "tests/fuzz_world.h"

enum { TEXT_MAX = 400 };

static void clear_environment(void)
{
	for (int v = 0; v < CX_ENV_COUNT; v++)
		unsetenv(cx_env_entry((enum cx_env)v)->name);
}

static void set_environment(struct fuzz_input *in)
{
	while (fuzz_left(in)) {
		unsigned v = fuzz_below(in, CX_ENV_COUNT);
		char text[TEXT_MAX];
		size_t n = 0;
		uint8_t c;

		while (n < sizeof(text) - 1 && (c = fuzz_byte(in)))
			text[n++] = (char)c;
		text[n] = '\0';
		/* A file of this machine, a pipe even, is not for fuzzing. */
		if (v == CX_ENV_SECRET_FILE && n)
			strcpy(text, text[0] & 1 ? "/proc/self/cmdline" : "/no/such/file");
		setenv(cx_env_entry((enum cx_env)v)->name, text, 1);
	}
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
	struct cx_launch l = { "", -1, -1 };
	collx_unique_id id;
	int rc;

	clear_environment();
	fuzz_world_begin();
	set_environment(&in);
	try_integers();
	try_places();
	cx_error_clear();
	rc = cx_launch_read(&l);
	FUZZ_MUST(rc == 0 ? l.rank >= 0 && l.rank < l.ranks && l.launcher[0]
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
	fuzz_world_end();
	clear_environment();
	return 0;
}
