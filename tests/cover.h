/* SPDX-License-Identifier: BSD-3-Clause */
/* A small set of cases in which every possible pair of two factors' values occurs. */
#ifndef COVER_H
#define COVER_H

#include "tests/cases.h"

/* Greedy from a fixed seed: always the same set. Returns how many; at most max. */
int cover_make(struct test_case *cases, int max);

/* Pairs of values that are possible; and of these, how many do not occur. */
int cover_pairs(const struct test_case *cases, int n, int *missing);

#endif
