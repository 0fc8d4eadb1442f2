/* SPDX-License-Identifier: BSD-3-Clause */
/* Names of unix sockets and the folders that they lie in, host by host; see world.h. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "world.h"

enum { NAMES = 512, PATH = 108 };

struct name {
	int host;
	char path[PATH];
	struct sim_sock *sock; /* NULL: a folder */
	uint32_t uid;
};

static struct name names[NAMES];
static int nnames;

void sim_name_forget(void)
{
	nnames = 0;
}

int sim_name_count(void)
{
	return nnames;
}

static struct name *find(int host, const char *path)
{
	for (int i = 0; i < nnames; i++)
		if (names[i].host == host && !strcmp(names[i].path, path))
			return &names[i];
	return NULL;
}

/* Is it right in that folder? */
static bool is_in(const struct name *n, int host, const char *folder)
{
	size_t len = strlen(folder);

	return n->host == host && !strncmp(n->path, folder, len) && n->path[len] == '/' &&
	       !strchr(n->path + len + 1, '/');
}

/* The folder above a name must be there; those above folders are. */
static bool has_folder(int host, const char *path)
{
	char folder[PATH];
	size_t len = (size_t)(strrchr(path, '/') - path);

	memcpy(folder, path, len);
	folder[len] = '\0';
	return find(host, folder) != NULL;
}

static int add(int host, const char *path, struct sim_sock *s, uint32_t uid)
{
	if (find(host, path))
		return -EEXIST;
	if (s && !has_folder(host, path))
		return -ENOENT;
	if (nnames == NAMES)
		return -ENOSPC;
	names[nnames] = (struct name){ .host = host, .sock = s, .uid = uid };
	strncpy(names[nnames].path, path, PATH - 1);
	nnames++;
	return 0;
}

static void forget(struct name *n)
{
	memmove(n, n + 1, (size_t)(names + --nnames - n) * sizeof(*n));
}

int sim_name_bind(int host, const char *path, struct sim_sock *s)
{
	int rc = add(host, path, s, 0);

	return rc == -EEXIST ? -EADDRINUSE : rc;
}

struct sim_sock *sim_name_find(int host, const char *path)
{
	struct name *n = find(host, path);

	return n ? n->sock : NULL;
}

int sim_name_mkdir(int host, const char *path, uint32_t uid)
{
	return add(host, path, NULL, uid);
}

int sim_name_rmdir(int host, const char *path)
{
	struct name *n = find(host, path);

	if (!n)
		return -ENOENT;
	for (int i = 0; i < nnames; i++)
		if (is_in(&names[i], host, path))
			return -ENOTEMPTY;
	forget(n);
	return 0;
}

int sim_name_link(int host, const char *from, const char *to)
{
	struct name *n = find(host, from);

	return n ? add(host, to, n->sock, n->uid) : -ENOENT;
}

int sim_name_unlink(int host, const char *path)
{
	struct name *n = find(host, path);

	if (!n)
		return -ENOENT;
	forget(n);
	return 0;
}

int sim_name_lstat(int host, const char *path, struct stat *st)
{
	const struct name *n = find(host, path);

	if (!n)
		return -ENOENT;
	memset(st, 0, sizeof(*st));
	st->st_mode = n->sock ? S_IFSOCK | 0700 : S_IFDIR | 0700;
	st->st_uid = n->uid;
	return 0;
}

const char *sim_name_in(int host, const char *folder, int i)
{
	for (int n = 0; n < nnames; n++)
		if (is_in(&names[n], host, folder) && i-- == 0)
			return strrchr(names[n].path, '/') + 1;
	return NULL;
}

void sim_name_of(const struct sim_sock *s, char path[108])
{
	for (int i = 0; i < nnames; i++)
		if (names[i].sock == s)
			memcpy(path, names[i].path, PATH);
}
