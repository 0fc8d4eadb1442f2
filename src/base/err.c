/* SPDX-License-Identifier: BSD-3-Clause */
/* One line of text per thread for the last error, and the names of the codes. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base.h"

enum { LINE_MAX_BYTES = 512 };

static _Thread_local char line[LINE_MAX_BYTES];
static _Thread_local int line_errno;

static const char *const names[] = {
	[0] = "COLLX_OK",
	[-COLLX_ERR_INVALID] = "COLLX_ERR_INVALID",
	[-COLLX_ERR_NOMEM] = "COLLX_ERR_NOMEM",
	[-COLLX_ERR_SYSTEM] = "COLLX_ERR_SYSTEM",
	[-COLLX_ERR_TIMEOUT] = "COLLX_ERR_TIMEOUT",
	[-COLLX_ERR_INIT_TIMEOUT] = "COLLX_ERR_INIT_TIMEOUT",
	[-COLLX_ERR_MISMATCH] = "COLLX_ERR_MISMATCH",
	[-COLLX_ERR_AUTH] = "COLLX_ERR_AUTH",
	[-COLLX_ERR_VERSION] = "COLLX_ERR_VERSION",
	[-COLLX_ERR_PEER_DEAD] = "COLLX_ERR_PEER_DEAD",
	[-COLLX_ERR_PEER_LEFT] = "COLLX_ERR_PEER_LEFT",
	[-COLLX_ERR_PEER_SILENT] = "COLLX_ERR_PEER_SILENT",
	[-COLLX_ERR_LINK] = "COLLX_ERR_LINK",
	[-COLLX_ERR_CORRUPT] = "COLLX_ERR_CORRUPT",
	[-COLLX_ERR_ABORTED] = "COLLX_ERR_ABORTED",
	[-COLLX_ERR_REVOKED] = "COLLX_ERR_REVOKED",
	[-COLLX_ERR_EXCLUDED] = "COLLX_ERR_EXCLUDED",
	[-COLLX_ERR_NO_QUORUM] = "COLLX_ERR_NO_QUORUM",
	[-COLLX_ERR_NOFILES] = "COLLX_ERR_NOFILES",
	[-COLLX_ERR_DEVICE] = "COLLX_ERR_DEVICE",
	[-COLLX_ERR_FORKED] = "COLLX_ERR_FORKED",
	[-COLLX_ERR_UNSUPPORTED] = "COLLX_ERR_UNSUPPORTED",
	[-COLLX_ERR_INTERNAL] = "COLLX_ERR_INTERNAL",
};

const char *collx_strerror(collx_result code)
{
	if (code == COLLX_IN_PROGRESS)
		return "COLLX_IN_PROGRESS";
	if (code > 0 || -(int)code >= (int)(sizeof(names) / sizeof(names[0])))
		return "unknown collx_result";
	return names[-(int)code];
}

/* The bytes of a character of UTF-8 that is no control; 0: there is none. */
static int printable(const unsigned char *c)
{
	int more = *c < 0xe0 ? 1 : *c < 0xf0 ? 2 : 3;

	if (*c < 0x80)
		return *c >= ' ' && *c != 0x7f;
	if (*c < 0xc2 || *c > 0xf4 || (*c == 0xc2 && c[1] < 0xa0) || (*c == 0xe0 && c[1] < 0xa0) ||
	    (*c == 0xed && c[1] > 0x9f) || (*c == 0xf0 && c[1] < 0x90) ||
	    (*c == 0xf4 && c[1] > 0x8f))
		return 0;
	for (int i = 1; i <= more; i++)
		if (c[i] >> 6 != 2)
			return 0;
	return more + 1;
}

void cx_line_clean(char *text)
{
	unsigned char *c = (unsigned char *)text;

	for (int n; *c; c += cx_max(n, 1)) {
		n = printable(c);
		if (!n)
			*c = '?';
	}
}

int cx_fail(int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	cx_line_clean(line);
	line_errno = 0;
	return code;
}

int cx_fail_errno(int err, const char *fmt, ...)
{
	char text[96], reason[160];
	size_t room, used;
	va_list ap;
	int n;

	snprintf(reason, sizeof(reason), ": %s%s", strerror_r(err, text, sizeof(text)),
		 err == EMFILE ? ": raise the limit of open files (ulimit -n)" : "");
	room = sizeof(line) - strlen(reason) - strlen("...");
	va_start(ap, fmt);
	n = vsnprintf(line, room, fmt, ap);
	va_end(ap);
	used = strlen(line);
	snprintf(line + used, sizeof(line) - used, "%s%s", n >= (int)room ? "..." : "", reason);
	cx_line_clean(line);
	line_errno = err;
	if (err == EMFILE || err == ENFILE)
		return COLLX_ERR_NOFILES;
	return err == ENOMEM ? COLLX_ERR_NOMEM : COLLX_ERR_SYSTEM;
}

int cx_error_errno(void)
{
	return line_errno;
}

const char *cx_error_text(void)
{
	return line;
}

void cx_error_clear(void)
{
	line[0] = '\0';
}
