/* SPDX-License-Identifier: BSD-3-Clause */
/* The codecs: every variant against the portable one, and that against doc/WIRE. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <criterion/criterion.h>

#include "codec_cases.h"
#include "kernels/element.h"

/* ---- variants ---- */

static void compare_all(const struct cx_codecs *c)
{
	char why[CODEC_WHY];

	if (!c || !c->usable())
		return;
	for (uint64_t i = 0; i < CODEC_CASES; i++)
		cr_assert_eq(codec_case(c, i, why), 0, "case %llu: %s", (unsigned long long)i, why);
}

Test(codec, vector_is_portable, .timeout = 600)
{
	compare_all(cx_codec_variants[1]);
}

Test(codec, avx2_is_portable, .timeout = 600)
{
	compare_all(cx_codecs_pick("avx2"));
}

Test(codec, avx512_is_portable, .timeout = 600)
{
	compare_all(cx_codecs_pick("avx512"));
}
