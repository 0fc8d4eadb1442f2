/* SPDX-License-Identifier: BSD-3-Clause */
/* The bottom room: error lines, the table of variables, memory. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <criterion/criterion.h>

#include "src/base/base.h"

/* ---- errors ---- */

Test(err, line_and_code)
{
	char longer[2000];

	cr_assert_str_eq(cx_error_text(), "");
	cr_assert_eq(cx_fail(COLLX_ERR_LINK, "rank %d: %s", 7, "gone"), COLLX_ERR_LINK);
	cr_assert_str_eq(cx_error_text(), "rank 7: gone");
	cr_assert_str_eq(collx_last_error(NULL), "rank 7: gone");
	cx_error_clear();
	cr_assert_str_eq(cx_error_text(), "");
	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	cx_fail(COLLX_ERR_LINK, "%s", longer);
	cr_assert_gt(strlen(cx_error_text()), 300);
	cr_assert_lt(strlen(cx_error_text()), 1000);
	cx_fail(COLLX_ERR_LINK, "host %s", "a\nb\033[2J\177\303\244");
	cr_assert_str_eq(cx_error_text(), "host a?b?[2J?\303\244");
	cx_fail_errno(EPERM, "file %s", "\r");
	cr_assert_str_eq(cx_error_text(), "file ?: Operation not permitted");
}

/* Nor has it a control of UTF-8 or of an old terminal, or a piece of a character. */
Test(err, is_text)
{
	static const char *const lines[][2] = {
		{ "\302\2332J", "??2J" }, { "\2332J", "?2J" }, { "\302\240", "\302\240" },
		{ "\342\202\254!", "\342\202\254!" }, { "\342\202", "??" }, { "\303", "?" },
		{ "\360\237\230\200", "\360\237\230\200" }, { "\360\237\230", "???" },
		{ "\300\212", "??" }, { "\340\200\212", "???" }, { "\355\240\200", "???" },
		{ "\364\220\200\200", "????" }, { "\303\303\244", "?\303\244" },
		{ "\377\376x", "??x" }, { "\342\nx", "??x" },
	};
	char name[701];

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		cx_fail(COLLX_ERR_LINK, "%s", lines[i][0]);
		cr_assert_str_eq(cx_error_text(), lines[i][1], "line %zu: %s", i, cx_error_text());
	}
	for (size_t i = 0; i < sizeof(name) - 1; i += 2)
		memcpy(name + i, "\303\244", 3);
	for (int before = 0; before < 2; before++) {
		const char *cut;

		cx_fail_errno(EACCES, "%.*s%s", before, "x", name);
		cut = strstr(cx_error_text(), "...: Permission denied");
		cr_assert(cut && (cut[-1] == '?' || cut[-1] == '\244'), "%s", cx_error_text());
	}
}

Test(err, errno_picks_the_code)
{
	cr_assert_eq(cx_fail_errno(EPERM, "door %d", 3), COLLX_ERR_SYSTEM);
	cr_assert_str_eq(cx_error_text(), "door 3: Operation not permitted");
	cr_assert_eq(cx_fail_errno(EMFILE, "x"), COLLX_ERR_NOFILES);
	cr_assert_eq(cx_fail_errno(ENFILE, "x"), COLLX_ERR_NOFILES);
	cr_assert_eq(cx_fail_errno(ENOMEM, "x"), COLLX_ERR_NOMEM);
}

/* Whatever a line is about, its end is the reason. */
Test(err, a_long_line_keeps_the_reason)
{
	char name[600];

	memset(name, 'x', sizeof(name));
	for (size_t len = 440; len < sizeof(name); len++) {
		const char *text, *dots, *end;

		cx_fail_errno(EACCES, "file %.*s", (int)len, name);
		text = cx_error_text();
		dots = strstr(text, "...");
		end = strstr(text, ": Permission denied");
		cr_assert(end && !end[19] && strlen(text) < 512, "%zu: %s", len, text);
		cr_assert(dots ? dots + 3 == end : end == text + 5 + len, "%zu: %s", len, text);
	}
	cr_assert_not_null(strstr(cx_error_text(), "..."));
}

Test(err, every_code_has_its_name)
{
	cr_assert_str_eq(collx_strerror(COLLX_OK), "COLLX_OK");
	cr_assert_str_eq(collx_strerror(COLLX_IN_PROGRESS), "COLLX_IN_PROGRESS");
	cr_assert_str_eq(collx_strerror(COLLX_ERR_TIMEOUT), "COLLX_ERR_TIMEOUT");
	cr_assert_str_eq(collx_strerror(COLLX_ERR_INTERNAL), "COLLX_ERR_INTERNAL");
	for (int code = -1; code >= COLLX_ERR_INTERNAL; code--) {
		cr_assert_eq(strncmp(collx_strerror(code), "COLLX_ERR_", 10), 0, "%d", code);
		for (int other = -1; other > code; other--)
			cr_assert_str_neq(collx_strerror(code), collx_strerror(other));
	}
	cr_assert_str_eq(collx_strerror(COLLX_ERR_INTERNAL - 1), "unknown collx_result");
	cr_assert_str_eq(collx_strerror(2), "unknown collx_result");
	cr_assert_str_eq(collx_strerror((collx_result)-2147483647), "unknown collx_result");
}

static void *fail_elsewhere(void *arg)
{
	(void)arg;
	cx_fail(COLLX_ERR_LINK, "of the other thread");
	return NULL;
}

Test(err, a_thread_has_its_own_line)
{
	pthread_t t;

	cx_fail(COLLX_ERR_LINK, "mine");
	cr_assert_eq(pthread_create(&t, NULL, fail_elsewhere, NULL), 0);
	pthread_join(t, NULL);
	cr_assert_str_eq(cx_error_text(), "mine");
}

/* ---- variables ---- */

Test(env, every_entry_is_filled)
{
	for (int v = 0; v < CX_ENV_COUNT; v++) {
		const struct cx_env_entry *e = cx_env_entry((enum cx_env)v);

		cr_assert_not_null(e->name);
		cr_assert_eq(strncmp(e->name, "COLLX_", 6) != 0, v > CX_ENV_RUNTIME_DIR,
			     "%s: others' variables come last", e->name);
		cr_assert_gt(strlen(e->help), 10, "%s", e->name);
		cr_assert_not_null(e->type);
		cr_assert_not_null(e->fallback);
	}
}

Test(env, text)
{
	unsetenv("COLLX_ALGO");
	cr_assert_null(cx_env_text(CX_ENV_ALGO));
	setenv("COLLX_ALGO", "", 1);
	cr_assert_null(cx_env_text(CX_ENV_ALGO));
	setenv("COLLX_ALGO", "x", 1);
	cr_assert_str_eq(cx_env_text(CX_ENV_ALGO), "x");
}

Test(env, integers)
{
	static const char *const bad[] = { "x", "1x", "1 ", "-1", "101", "1e1", "0x10",
					   "99999999999999999999", "1,2" };
	long n = 55;

	unsetenv("COLLX_RANK");
	cr_assert_eq(cx_env_int(CX_ENV_RANK, 0, 100, &n), 0);
	cr_assert_eq(n, 55);
	setenv("COLLX_RANK", "100", 1);
	cr_assert_eq(cx_env_int(CX_ENV_RANK, 0, 100, &n), 1);
	cr_assert_eq(n, 100);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		setenv("COLLX_RANK", bad[i], 1);
		cr_assert_eq(cx_env_int(CX_ENV_RANK, 0, 100, &n), COLLX_ERR_INVALID, "%s", bad[i]);
		cr_assert_not_null(strstr(cx_error_text(), "COLLX_RANK"));
		cr_assert_not_null(strstr(cx_error_text(), bad[i]));
		cr_assert_eq(n, 100);
	}
}

/* ---- memory ---- */

static struct cx_sys poor;

static void *no_memory(size_t len)
{
	(void)len;
	return NULL;
}

Test(alloc, zeroed_and_aligned)
{
	for (size_t n = 1; n < 5000; n = n * 3 + 1) {
		unsigned char *p = cx_alloc(n, 3);

		cr_assert_not_null(p);
		cr_assert_eq((uintptr_t)p % CX_LINE, 0);
		for (size_t i = 0; i < 3 * n; i++)
			cr_assert_eq(p[i], 0);
		memset(p, 255, 3 * n);
		cx_free(p);
	}
	cx_free(NULL);
}

Test(alloc, products_that_overflow)
{
	static const size_t bad[][2] = {
		{ SIZE_MAX, 2 }, { SIZE_MAX / 2 + 1, 2 }, { SIZE_MAX, 1 }, { SIZE_MAX - 63, 1 },
		{ (size_t)1 << 32, (size_t)1 << 32 }, { 3, SIZE_MAX / 2 },
	};
	char want[64];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cx_error_clear();
		cr_assert_null(cx_alloc(bad[i][0], bad[i][1]));
		snprintf(want, sizeof(want), "%zu x %zu", bad[i][0], bad[i][1]);
		cr_assert_not_null(strstr(cx_error_text(), want), "%s", cx_error_text());
	}
}

Test(alloc, exhausted)
{
	poor = cx_sys_real;
	poor.alloc = no_memory;
	cx_sys = &poor;
	cr_assert_null(cx_alloc(12345, 8));
	cx_sys = &cx_sys_real;
	cr_assert_not_null(strstr(cx_error_text(), "12345"));
}

Test(small, helpers)
{
	cr_assert_eq(cx_min(3, 4), 3);
	cr_assert_eq(cx_max(3, 4), 4);
	cr_assert_eq(cx_round_up(0, 64), 0);
	cr_assert_eq(cx_round_up(1, 64), 64);
	cr_assert_eq(cx_round_up(64, 64), 64);
	cr_assert_leq(cx_now_ns(), cx_now_ns());
}
