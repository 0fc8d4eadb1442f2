/* SPDX-License-Identifier: BSD-3-Clause */
/* Runs cases of one mode and number of ranks in one world. */
#ifndef BATCH_H
#define BATCH_H

#include "tests/cases.h"

struct batch {
	const struct test_case *cases; /* all of the same mode and ranks */
	int n;
	unsigned char *bad;            /* [case]; shared with the ranks by batch_run */
	int failed;                    /* cases that failed or did not run */
};

int batch_run(struct batch *b);

#endif
