/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The functions and the table of a variant of the codecs, made of encode, decode,
 * accumulate, feedback, fuse, sum and choose by giving them constants. CODECS and
 * CODECS_NAME are the table and its name; CODEC_TABLE makes a second one with another sum.
 */
#define OF_TYPE(t, type) \
	OF_BOTH(q8_##t, CX_Q8, type) OF_BOTH(q4_##t, CX_Q4, type) OF_BOTH(bf16_##t, CX_BF16, type) \
	static void choose_##t(struct cx_select *s) \
	{ \
		choose(s, type); \
	}
#define OF_BOTH(ft, f, type) ENCODES(ft, f, type) DECODES(ft, f, type) FEEDBACK(ft, f, type)
#define ENCODES(ft, f, type) \
	static void encode_##ft(void *w, const void *s, size_t n, const struct cx_rounding *r) \
	{ \
		encode(f, type, w, s, n, r); \
	}
#define FEEDBACK(ft, f, type) \
	static void feedback_##ft(void *w, const void *g, float *e, size_t n, float decay, \
				  const struct cx_rounding *r) \
	{ \
		feedback(f, type, w, g, e, n, decay, r); \
	}
#define DECODES(ft, f, type) \
	static void decode_##ft(void *d, const void *w, size_t n) { decode(f, type, d, w, n); } \
	static void sum_##ft(void *d, const struct cx_fuse *u, size_t n) { sum(f, type, d, u, n); }
#define OF_FORMAT(ft, f) \
	static void accumulate_##ft(float *d, const void *w, size_t n) { accumulate(f, d, w, n); } \
	static void fuse_##ft(void *d, const struct cx_fuse *u, size_t n) { fuse(f, d, u, n); }

OF_TYPE(f32, COLLX_FLOAT32)
OF_TYPE(f16, COLLX_FLOAT16)
OF_TYPE(bf16, COLLX_BFLOAT16)
OF_FORMAT(q8, CX_Q8)
OF_FORMAT(q4, CX_Q4)
OF_FORMAT(bf16, CX_BF16)

#define ROW(verb, format) {verb##_##format##_f32, verb##_##format##_f16, verb##_##format##_bf16}
#define ROWS(verb) {ROW(verb, q8), ROW(verb, q4), ROW(verb, bf16)}

#define CHOOSE {choose_f32, choose_f16, choose_bf16}
#define CODEC_TABLE(table, its_name, is_usable, fused_q4) \
	const struct cx_codecs table = { \
		.name = its_name, .usable = is_usable, .encode = ROWS(encode), \
		.decode = ROWS(decode), .feedback = ROWS(feedback), .sum = ROWS(sum), \
		.accumulate = {accumulate_q8, accumulate_q4, accumulate_bf16}, \
		.fuse = {fuse_q8, fused_q4, fuse_bf16}, .select = CHOOSE, \
	}

CODEC_TABLE(CODECS, CODECS_NAME, machine_usable, fuse_q4);
