/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The tables of the arithmetic room's variants; kernel.c lists them. Private to
 * the room: others see cx_kernel_variants.
 */
#ifndef CX_VARIANTS_H
#define CX_VARIANTS_H

#include "kernels/kernel.h"

extern const struct cx_kernels cx_kernels_portable;
extern const struct cx_kernels cx_kernels_avx2;
extern const struct cx_kernels cx_kernels_avx512;

#endif
