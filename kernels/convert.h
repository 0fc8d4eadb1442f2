/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * FLOAT16 and BFLOAT16 from and to float, one element at a time, in integer
 * arithmetic: the result depends on neither the rounding mode nor flushing of
 * subnormals. Compiles as C, C++ and CUDA. The rules are in kernel.h.
 */
#ifndef CX_CONVERT_H
#define CX_CONVERT_H

#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define CX_CONVERT static inline __host__ __device__
#else
#define CX_CONVERT static inline
#endif

CX_CONVERT uint32_t cx_float_bits(float f)
{
	uint32_t u;

	memcpy(&u, &f, sizeof(u));
	return u;
}

CX_CONVERT float cx_float_from_bits(uint32_t u)
{
	float f;

	memcpy(&f, &u, sizeof(f));
	return f;
}

CX_CONVERT float cx_f16_to_f32(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
	uint32_t rest = h & 0x7fffu;

	if (rest < 0x0400u) /* zero or subnormal: a multiple of 2^-24, normal as a float */
		rest = cx_float_bits((float)rest * 5.9604644775390625e-8f);
	else if (rest < 0x7c00u)
		rest = (rest << 13) + ((127u - 15u) << 23);
	else
		rest = (rest << 13) | 0x7f800000u | (rest > 0x7c00u ? 0x00400000u : 0u);
	return cx_float_from_bits(sign | rest);
}

CX_CONVERT uint16_t cx_f16_from_f32(float f)
{
	uint32_t u = cx_float_bits(f), sign = (u >> 16) & 0x8000u, h;

	u &= 0x7fffffffu;
	if (u > 0x7f800000u) {
		h = 0x7e00u | ((u >> 13) & 0x03ffu);
	} else if (u >= 0x477ff000u) { /* halfway from 65504, the largest, to 65536 */
		h = 0x7c00u;
	} else if (u >= 0x38800000u) { /* 2^-14, the smallest normal */
		u -= (127u - 15u) << 23;
		h = (u + 0x0fffu + ((u >> 13) & 1u)) >> 13;
	} else if (u >= 0x33000000u) { /* 2^-25, half of the smallest subnormal */
		uint32_t shift = 126u - (u >> 23);
		uint32_t whole = (u & 0x007fffffu) | 0x00800000u;

		h = whole >> shift;
		h = (whole + (1u << (shift - 1)) - 1u + (h & 1u)) >> shift;
	} else {
		h = 0;
	}
	return (uint16_t)(sign | h);
}

CX_CONVERT float cx_bf16_to_f32(uint16_t h)
{
	return cx_float_from_bits((uint32_t)h << 16);
}

CX_CONVERT uint16_t cx_bf16_from_f32(float f)
{
	uint32_t u = cx_float_bits(f);

	if ((u & 0x7fffffffu) > 0x7f800000u)
		return (uint16_t)((u >> 16) | 0x0040u);
	return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

#endif
