/* SPDX-License-Identifier: BSD-3-Clause */
/* The codecs' front: which variants there are and which one this processor gets. */
#include <string.h>

#include "kernels/codec_list.h"

const struct cx_codecs *const cx_codec_variants[] = {
	&cx_codecs_portable,
	&cx_codecs_vector,
#ifdef CX_HAVE_AVX2
	&cx_codecs_avx2,
#endif
#ifdef CX_HAVE_AVX512
	&cx_codecs_avx512,
#endif
#ifdef CX_HAVE_AVX512BF16
	&cx_codecs_avx512bf16,
#endif
	NULL,
};

const struct cx_codecs *cx_codecs_pick(const char *name)
{
	const struct cx_codecs *best = NULL;

	for (size_t i = 0; cx_codec_variants[i]; i++) {
		const struct cx_codecs *c = cx_codec_variants[i];

		if ((!name || !strcmp(name, c->name)) && c->usable())
			best = c;
	}
	return best;
}
