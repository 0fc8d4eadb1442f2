/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Cases for the codecs: whoever implements struct cx_codecs, on whatever device,
 * is compared byte by byte with the portable variant. Knows no test framework.
 */
#ifndef CODEC_CASES_H
#define CODEC_CASES_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/codec.h"

#ifdef __SANITIZE_ADDRESS__ /* there everything is ten times as slow: each length once */
enum { CODEC_CASES = 2101 };
#else
enum { CODEC_CASES = 10000 };
#endif
enum { CODEC_WHY = 256 };

/*
 * Case number i: lengths 0 to 2100 in turn, sometimes more, any alignment, data of
 * every unpleasant kind. Runs every function of c that is not NULL. Returns 0, or
 * -1 and what differs in why.
 */
int codec_case(const struct cx_codecs *c, uint64_t i, char why[CODEC_WHY]);

/* The same, and goes on with a checksum of all bytes that came out: two machines compare. */
int codec_case_sum(const struct cx_codecs *c, uint64_t i, char why[CODEC_WHY], uint64_t *sum);
uint64_t codec_sum(uint64_t sum, const void *bytes, size_t len);

/* Numbers of a case's kind: n floats, of kind `kind` of CODEC_KINDS. */
enum { CODEC_KINDS = 16 };
void codec_fill(float *x, size_t n, unsigned kind, uint64_t seed);

/* A number that looks random. */
uint64_t codec_mix(uint64_t x);

#endif
