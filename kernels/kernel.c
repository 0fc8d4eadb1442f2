/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The arithmetic room's front: what the types are, which variants there are and
 * which one this processor gets. The arithmetic is in reduce_*.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "kernels/variants.h"

const struct cx_kernels *const cx_kernel_variants[] = {
	&cx_kernels_portable,
#ifdef CX_HAVE_AVX2
	&cx_kernels_avx2,
#endif
#ifdef CX_HAVE_AVX512
	&cx_kernels_avx512,
#endif
	NULL,
};

size_t collx_type_size(collx_type type)
{
	static const unsigned char size[COLLX_TYPE_COUNT] = {
		[COLLX_INT8] = 1, [COLLX_UINT8] = 1, [COLLX_INT32] = 4, [COLLX_UINT32] = 4,
		[COLLX_INT64] = 8, [COLLX_UINT64] = 8, [COLLX_FLOAT16] = 2, [COLLX_FLOAT32] = 4,
		[COLLX_FLOAT64] = 8, [COLLX_BFLOAT16] = 2,
	};

	return (unsigned)type < COLLX_TYPE_COUNT ? size[type] : 0;
}

collx_type cx_acc_type(collx_type type, collx_op op)
{
	if (type != COLLX_FLOAT16 && type != COLLX_BFLOAT16)
		return type;
	return op == COLLX_MIN || op == COLLX_MAX ? type : COLLX_FLOAT32;
}

/* Variants of the codecs that have no reductions of their own, and those they go with. */
static const char *goes_with(const char *name)
{
	if (!strcmp(name, "vector"))
		return cx_kernels_portable.name;
#ifdef CX_HAVE_AVX512BF16
	if (!strcmp(name, "avx512bf16") && __builtin_cpu_supports("avx512bf16"))
		return cx_kernels_avx512.name;
#endif
	return name;
}

const struct cx_kernels *cx_kernels_pick(const char *name)
{
	const struct cx_kernels *best = NULL;

	if (name)
		name = goes_with(name);
	for (size_t i = 0; cx_kernel_variants[i]; i++) {
		const struct cx_kernels *k = cx_kernel_variants[i];

		if ((!name || !strcmp(name, k->name)) && k->usable())
			best = k;
	}
	return best;
}

struct cx_kernels_why cx_kernels_why(const char *name)
{
	static const char *const known[] = {"portable", "vector", "avx2", "avx512",
					    "avx512bf16"};
	struct cx_kernels_why why;
	const char *between = ": ";
	bool is_known = false;
	int len;

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		is_known |= !strcmp(name, known[i]);
	len = snprintf(why.text, sizeof(why.text), "is %s; usable here", is_known ?
		       "not for this processor, or not in this build" : "no arithmetic");
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++, between = ", ")
		if (cx_kernels_pick(known[i]))
			len += snprintf(why.text + len, sizeof(why.text) - (size_t)len, "%s%s",
					between, known[i]);
	return why;
}
