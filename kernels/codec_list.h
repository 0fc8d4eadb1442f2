/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The tables of the codecs' variants; codec.c lists them. Private to the room:
 * others see cx_codec_variants.
 */
#ifndef CX_CODEC_LIST_H
#define CX_CODEC_LIST_H

#include "kernels/codec.h"

extern const struct cx_codecs cx_codecs_portable;
extern const struct cx_codecs cx_codecs_vector;
extern const struct cx_codecs cx_codecs_avx2;
extern const struct cx_codecs cx_codecs_avx512;
extern const struct cx_codecs cx_codecs_avx512bf16; /* the same but for a few functions */

#endif
