/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The codecs in the compiler's vectors of 16 bytes: on AArch64 these are NEON's.
 * What AVX2 and AVX-512 do with instructions of their own is loops over lanes here.
 */
#include "kernels/words_c.h"
#include "kernels/words_bf16.h"

enum { L = VEC / 4, NV = 32 / L, STEEP = 120 };

typedef uint8_t bytes_of_lanes __attribute__((vector_size(L), aligned(1), may_alias));
typedef int8_t quanta __attribute__((vector_size(L), aligned(1), may_alias));

ALWAYS vi32 larger(vi32 x, vi32 y)
{
	return (vi32)PICK(x > y, (vu32)x, (vu32)y);
}

ALWAYS vi32 smaller(vi32 x, vi32 y)
{
	return (vi32)PICK(x < y, (vu32)x, (vu32)y);
}

ALWAYS vu32 larger_unsigned(vu32 x, vu32 y)
{
	return PICK(x > y, x, y);
}

ALWAYS vu16 larger_short(vu16 x, vu16 y)
{
	return PICK(x > y, x, y);
}

ALWAYS vf32 limit(vf32 y, vf32 top)
{
	y = (vf32)PICK(y > top, (vu32)top, (vu32)y);
	return (vf32)PICK(y < -top, (vu32)-top, (vu32)y);
}

/* Products are exact; the sum keeps them from being -0. */
ALWAYS vf32 product_of(vi32 q, vf32 scale)
{
	return __builtin_convertvector(q, vf32) * scale + 0.0f;
}

ALWAYS vf32 add_product(vf32 sum, vi32 q, vf32 scale)
{
	return sum + __builtin_convertvector(q, vf32) * scale;
}

ALWAYS vf32 rounded_product(vi32 q, vf32 scale)
{
	return (vf32)round_bf16(product_of(q, scale));
}

ALWAYS vf32 canonical(vf32 v)
{
	return (vf32)PICK(v != v, (vu32){0} + 0x7fc00000, (vu32)v);
}

ALWAYS vu32 turn(vu32 u)
{
	return u << 1 | u >> 31;
}

ALWAYS vu32 fold_max(const vu32 m[L])
{
	vu32 most = {0};

	for (unsigned i = 0; i < L; i++) {
		most[i] = m[i][0];
		for (unsigned k = 1; k < L; k++)
			most[i] = m[i][k] > most[i] ? m[i][k] : most[i];
	}
	return most;
}

/* As cx_round. */
ALWAYS vi32 nearest(vf32 v)
{
	return (vi32)(v + 12582912.0f) - 0x4b400000;
}

ALWAYS void pack8(void *p, const vi32 q[2 * NV], bool around)
{
	(void)around;
	for (unsigned v = 0; v < 2 * NV; v++)
		*(quanta *)((char *)p + v * L) = __builtin_convertvector(q[v], quanta);
}

ALWAYS void pack4(void *p, const vi32 q[2 * NV], bool around)
{
	unsigned char nibble[64];

	(void)around;
	for (unsigned v = 0; v < 2 * NV; v++) {
		vi32 over = q[v] > 7;

		*(quanta *)(nibble + v * L) =
			__builtin_convertvector((q[v] + over) & 15, quanta);
	}
	for (unsigned i = 0; i < 32; i++)
		((unsigned char *)p)[i] = (unsigned char)(nibble[i * 2] | nibble[i * 2 + 1] << 4);
}

ALWAYS void unpack8(vi32 q[NV], const void *p)
{
	for (unsigned v = 0; v < NV; v++)
		q[v] = __builtin_convertvector(*(const quanta *)((const char *)p + v * L), vi32);
}

ALWAYS void unpack4(vi32 q[NV], const void *p)
{
	signed char each[32];

	for (unsigned i = 0; i < 16; i++) {
		unsigned char byte = ((const unsigned char *)p)[i];

		each[i * 2] = (signed char)(((byte & 15) ^ 8) - 8);
		each[i * 2 + 1] = (signed char)((byte >> 4 ^ 8) - 8);
	}
	unpack8(q, each);
}

ALWAYS void decode4(vf32 y[NV], const void *p, vf32 scale, product_fn *multiply_by)
{
	vi32 q[NV];

	unpack4(q, p);
	for (unsigned v = 0; v < NV; v++)
		y[v] = multiply_by(q[v], scale);
}

ALWAYS void interleave(void *p, vu64 a, vu64 b)
{
	for (unsigned i = 0; i < VEC / 8; i++) {
		uint64_t pair[2] = { a[i], b[i] };

		memcpy((char *)p + i * 16, pair, 16);
	}
}

ALWAYS mem upper_halves(vu32 a, vu32 b)
{
	return join_short(narrow_short(a >> 16), narrow_short(b >> 16));
}

ALWAYS unsigned lanes_of(vi32 mask)
{
	unsigned lanes = 0;

	for (unsigned i = 0; i < L; i++)
		lanes |= (unsigned)(mask[i] & 1) << i;
	return lanes;
}

ALWAYS void keep(uint32_t *bits, uint32_t *index, vu32 a, uint32_t first, unsigned lanes)
{
	for (unsigned i = 0, n = 0; i < L; i++)
		if (lanes >> i & 1) {
			bits[n] = a[i];
			index[n++] = first + i;
		}
}

#define CODECS cx_codecs_vector
#define CODECS_NAME "vector"
#include "kernels/codec_body.h"
