/* SPDX-License-Identifier: BSD-3-Clause */
/* The portable variant. Being plain, it is what other variants are tested against. */
#include "kernels/words_c.h"

#define KERNELS cx_kernels_portable
#define KERNELS_NAME "portable"
#include "kernels/reduce_body.h"
