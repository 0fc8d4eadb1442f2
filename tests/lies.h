/* SPDX-License-Identifier: BSD-3-Clause */
/* Sparse messages that are sound but for one thing, which whoever checks them must look at. */
#ifndef LIES_H
#define LIES_H

#include <stddef.h>

/* Elements: a chunk with a list, one without entries, and 78 elements. */
enum { LIES = 12, LIE_COUNT = 2 * 16384 + 78, LIE_ROOM = 2048 };

/* Message number `lie`, in LIE_ROOM bytes at a multiple of 8; from LIES on it is a sound one.
 * Returns its bytes, and what is wrong in name. */
size_t lie_make(unsigned char *msg, unsigned lie, const char **name);

#endif
