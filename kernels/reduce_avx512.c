/* SPDX-License-Identifier: BSD-3-Clause */
/* The AVX-512 variant. */
#include "kernels/words_avx512.h"

#define KERNELS cx_kernels_avx512
#define KERNELS_NAME "avx512"
#include "kernels/reduce_body.h"
