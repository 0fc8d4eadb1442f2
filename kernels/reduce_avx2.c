/* SPDX-License-Identifier: BSD-3-Clause */
/* The AVX2 variant, with F16C. */
#include "kernels/words_avx2.h"

#define KERNELS cx_kernels_avx2
#define KERNELS_NAME "avx2"
#include "kernels/reduce_body.h"
