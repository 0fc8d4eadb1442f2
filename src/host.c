/* SPDX-License-Identifier: BSD-3-Clause */
/* What names a host; see host.h. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "host.h"

enum { FOLDER_MAX = 108 };

/* FNV-1a: no secret hangs on it. */
static uint64_t mix(uint64_t hash, const void *bytes, size_t len)
{
	const unsigned char *p = bytes;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ p[i]) * 0x100000001b3u;
	return hash;
}

static uint64_t mix_file(uint64_t hash, const char *path)
{
	struct stat st;
	uint64_t id[2] = { 0, 0 };

	if (!stat(path, &st)) {
		id[0] = st.st_dev;
		id[1] = st.st_ino;
	}
	return mix(hash, id, sizeof(id));
}

static uint64_t network(void)
{
	return mix_file(0xcbf29ce484222325u, "/proc/self/ns/net");
}

/* COLLX_RUNTIME_DIR, or this user's folder in /tmp. */
static int runtime_folder(char folder[FOLDER_MAX])
{
	const char *set = cx_env_text(CX_ENV_RUNTIME_DIR);
	int n = set ? snprintf(folder, FOLDER_MAX, "%s", set)
		    : snprintf(folder, FOLDER_MAX, "/tmp/collx-%u", (unsigned)geteuid());

	return n < FOLDER_MAX && folder[0] == '/' ? 0 : COLLX_ERR_INVALID;
}

uint64_t cx_host_id(void)
{
	char boot[36] = "", folder[FOLDER_MAX];
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	unsigned user = geteuid();
	uint64_t hash = network();

	if (fd >= 0 && read(fd, boot, sizeof(boot)) < 0)
		boot[0] = '\0';
	if (fd >= 0)
		close(fd);
	hash = mix(hash, boot, sizeof(boot));
	hash = mix(hash, &user, sizeof(user));
	if (!runtime_folder(folder)) {
		hash = mix(hash, folder, strlen(folder));
		/* Containers have other folders of that name. It comes and goes; what it
		 * lies in stays. */
		*(strrchr(folder, '/') + (strrchr(folder, '/') == folder)) = '\0';
		hash = mix_file(hash, folder);
	}
	return hash ? hash : 1;
}

int cx_host_meeting(char *where, size_t len, const unsigned char name[CX_HOST_NAME_BYTES])
{
	char folder[FOLDER_MAX], digits[2 * CX_HOST_NAME_BYTES + 1];
	uint64_t net = network();
	int n;

	for (int i = 0; i < CX_HOST_NAME_BYTES; i++)
		snprintf(digits + 2 * i, 3, "%02x",
			 name[i] ^ (i < 8 ? (unsigned)(net >> 8 * i) & 0xff : 0));
	if (!runtime_folder(folder)) {
		n = snprintf(where, len, "unix:%s/%s", folder, digits);
		if (n > 0 && (size_t)n < len)
			return 0;
	}
	return cx_fail(COLLX_ERR_INVALID,
		       "COLLX_RUNTIME_DIR must be an absolute path of at most %zu characters",
		       len - 7 - 2 * CX_HOST_NAME_BYTES);
}
