/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory for what holds secrets: zeroed pages of their own that are in no core dump,
 * empty in a forked child, and not swapped out where the system allows that much.
 */
#ifndef CX_VAULT_H
#define CX_VAULT_H

#include <stddef.h>

/* NULL, with a line, when there is no memory. */
void *cx_vault_create(size_t len);
/* Overwrites it first. NULL is fine. */
void cx_vault_destroy(void *p, size_t len);

#endif
