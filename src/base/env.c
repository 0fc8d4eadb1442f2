/* SPDX-License-Identifier: BSD-3-Clause */
/* The one table of environment variables. */
#include <errno.h>
#include <stdlib.h>

#include "base.h"

static const struct cx_env_entry entries[CX_ENV_COUNT] = {
	[CX_ENV_RANK] = { "COLLX_RANK", "integer", "",
			  "This process's rank, 0 to COLLX_SIZE - 1; set by collx-run." },
	[CX_ENV_SIZE] = { "COLLX_SIZE", "integer", "", "Number of ranks; set by collx-run." },
	[CX_ENV_LOCAL_RANK] = { "COLLX_LOCAL_RANK", "integer", "",
				"Rank among the ranks of this host; set by collx-run." },
	[CX_ENV_ADDR] = { "COLLX_ADDR", "text", "",
			  "Where the ranks meet: unix:PATH, or tcp:HOST:PORT at rank 0's host; "
			  "set by collx-run. Where it is tcp:..., unique ids meet there too." },
	[CX_ENV_SECRET_FILE] = { "COLLX_SECRET_FILE", "path", "",
				 "File (mode 0600, own user) with the job's secret, 32 bytes as 64 "
				 "hexadecimal digits; set by collx-run." },
	[CX_ENV_TIMEOUT_MS] = { "COLLX_TIMEOUT_MS", "integer", "60000",
				"Deadline of one operation in milliseconds." },
	[CX_ENV_CREATE_TIMEOUT_MS] = { "COLLX_CREATE_TIMEOUT_MS", "integer", "60000",
				       "Deadline of communicator creation in milliseconds." },
	[CX_ENV_ALGO] = { "COLLX_ALGO", "text", "chosen by size",
			  "Forces algorithms: COLL:NAME[,COLL:NAME...]. Rank 0's value counts." },
	[CX_ENV_TRANSPORT] = { "COLLX_TRANSPORT", "text",
			       "shm at a unix meeting point, else tcp",
			       "Forces the transport: shm or tcp. Rank 0's value counts." },
	[CX_ENV_KERNEL] = { "COLLX_KERNEL", "text", "best of this processor",
			    "Forces the reduction kernels: portable or avx2." },
	[CX_ENV_SPIN_US] = { "COLLX_SPIN_US", "integer", "by cores and local ranks",
			     "Microseconds that a waiting rank spins before it yields." },
	[CX_ENV_RUNTIME_DIR] = { "COLLX_RUNTIME_DIR", "path", "/tmp/collx-UID",
				 "Folder (mode 0700, own user) of the unix sockets at which ranks "
				 "of one host meet." },
};

const struct cx_env_entry *cx_env_entry(enum cx_env v)
{
	return &entries[v];
}

const char *cx_env_text(enum cx_env v)
{
	const char *s = getenv(entries[v].name);

	return s && *s ? s : NULL;
}

int cx_env_int(enum cx_env v, long lo, long hi, long *out)
{
	const char *s = cx_env_text(v);
	char *end;
	long n;

	if (!s)
		return 0;
	errno = 0;
	n = strtol(s, &end, 10);
	if (errno || *end || n < lo || n > hi)
		return cx_fail(COLLX_ERR_INVALID, "%s=%s is not an integer from %ld to %ld",
			       entries[v].name, s, lo, hi);
	*out = n;
	return 1;
}
