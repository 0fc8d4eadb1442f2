/* SPDX-License-Identifier: BSD-3-Clause */
/* The pages of vault.h. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/base.h"
#include "vault.h"

void *cx_vault_create(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		cx_fail_errno(errno, "%zu bytes for a secret", len);
		return NULL;
	}
	madvise(p, len, MADV_DONTDUMP);
	madvise(p, len, MADV_WIPEONFORK);
	mlock(p, len); /* refused beyond RLIMIT_MEMLOCK */
	return p;
}

void cx_vault_destroy(void *p, size_t len)
{
	if (!p)
		return;
	explicit_bzero(p, len);
	munmap(p, len);
}
