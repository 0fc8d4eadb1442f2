/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The contract of cuda.h, each call one launch or a few.
 */
#include <string.h>

#include "base.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/module.h"

int cx_cuda_built(void)
{
	return 1;
}

int cx_cuda_prepare(void *stream)
{
	struct cx_cuda_place place;
	int rc = cx_cuda_enter(&place, stream);

	if (rc)
		return rc;
	for (int i = 0; !rc && i < CX_CUDA_IMAGES; i++)
		rc = cx_cuda_load(&place, (enum cx_cuda_image)i);
	cx_cuda_leave(&place);
	return rc;
}

static int once(void *stream, enum cx_cuda_group group, unsigned row, unsigned column, size_t grid,
		size_t shared, const void *args)
{
	struct cx_cuda_place place;
	int rc;

	if (grid == 0)
		return 0;
	rc = cx_cuda_enter(&place, stream);
	if (rc)
		return rc;
	rc = cx_cuda_launch(&place, group, row, column, grid, shared, args);
	cx_cuda_leave(&place);
	return rc;
}

static int is_aligned(const void *p)
{
	return (uintptr_t)p % 16 == 0;
}

/* Kernels of a warp a tile: blocks, and shared memory for tiles that need a room. */
static size_t tile_blocks(size_t n)
{
	return (n / CX_TILE + (n % CX_TILE != 0) + CX_CUDA_WARPS - 1) / CX_CUDA_WARPS;
}

static size_t tile_rooms(size_t n, int aligned)
{
	if (!aligned)
		return CX_SHARED + CX_CUDA_WARPS * CX_ROOM;
	return n % CX_TILE ? CX_SHARED + CX_ROOM : 0;
}

static int check_format(enum cx_format format, collx_type type)
{
	if ((unsigned)format >= CX_FORMATS)
		return cx_fail(COLLX_ERR_INVALID, "format %d: there is none", (int)format);
	if (cx_float_slot(type) < 0)
		return cx_fail(COLLX_ERR_INVALID, "type %d cannot be encoded", (int)type);
	return 0;
}

static int encode(enum cx_cuda_group group, enum cx_format format, collx_type type,
		  struct cx_encode_args *a, const struct cx_rounding *r, void *stream)
{
	int rc = check_format(format, type);

	if (rc)
		return rc;
	if (r)
		a->rounding = *r;
	a->aligned = is_aligned(a->wire) && is_aligned(a->src) && is_aligned(a->residual);
	return once(stream, group, format, (unsigned)cx_float_slot(type), tile_blocks(a->n),
		    tile_rooms(a->n, a->aligned), a);
}

int cx_cuda_encode(enum cx_format format, collx_type type, void *wire, const void *src, size_t n,
		   const struct cx_rounding *r, void *stream)
{
	struct cx_encode_args a = {.wire = wire, .src = src, .n = n};

	return encode(CX_CUDA_encode, format, type, &a, r, stream);
}

int cx_cuda_feedback(enum cx_format format, collx_type type, void *wire, const void *gradient,
		     float *residual, size_t n, float decay, const struct cx_rounding *r,
		     void *stream)
{
	struct cx_encode_args a = {.wire = wire, .src = gradient, .residual = residual, .n = n,
				   .decay = decay};

	return encode(CX_CUDA_feedback, format, type, &a, r, stream);
}

static int decode(enum cx_cuda_group group, enum cx_format format, unsigned slot, void *dst,
		  const void *wire, size_t n, void *stream)
{
	struct cx_decode_args a = {.dst = dst, .wire = wire, .n = n,
				   .aligned = is_aligned(dst) && is_aligned(wire)};

	return once(stream, group, format, slot, tile_blocks(n), tile_rooms(n, a.aligned), &a);
}

int cx_cuda_decode(enum cx_format format, collx_type type, void *dst, const void *wire, size_t n,
		   void *stream)
{
	int rc = check_format(format, type);

	return rc ? rc : decode(CX_CUDA_decode, format, (unsigned)cx_float_slot(type), dst, wire, n,
				stream);
}

int cx_cuda_accumulate(enum cx_format format, float *dst, const void *wire, size_t n, void *stream)
{
	int rc = check_format(format, COLLX_FLOAT32);

	return rc ? rc : decode(CX_CUDA_accumulate, format, 0, dst, wire, n, stream);
}

static int fuse(enum cx_format format, unsigned result, void *dst, const struct cx_fuse *f,
		size_t n, void *stream)
{
	struct cx_fuse_args a = {.dst = dst, .n = n, .rounding = f->rounding, .decay = f->decay,
				 .count = f->count, .own = f->own, .divisor = f->divisor};

	if (f->count == 0 || f->count > CX_INPUTS)
		return cx_fail(COLLX_ERR_INVALID, "%u inputs of one pass, not 1 to %d", f->count,
			       CX_INPUTS);
	if (f->own < f->count && cx_float_slot(f->own_type) < 0)
		return cx_fail(COLLX_ERR_INVALID, "type %d cannot be encoded", (int)f->own_type);
	if (f->own < f->count)
		a.own_slot = (uint32_t)cx_float_slot(f->own_type);
	if (result == CX_FLOATS)
		a.residual = f->residual;
	a.aligned = is_aligned(dst) && is_aligned(a.residual);
	for (unsigned i = 0; i < f->count; i++) {
		a.inputs[i] = f->inputs[i];
		a.aligned = a.aligned && is_aligned(f->inputs[i]);
	}
	return once(stream, CX_CUDA_fuse, format, result, tile_blocks(n), tile_rooms(n, a.aligned),
		    &a);
}

int cx_cuda_fuse(enum cx_format format, void *wire, const struct cx_fuse *f, size_t n,
		 void *stream)
{
	int rc = check_format(format, COLLX_FLOAT32);

	return rc ? rc : fuse(format, CX_FLOATS, wire, f, n, stream);
}

int cx_cuda_sum(enum cx_format format, collx_type type, void *dst, const struct cx_fuse *f,
		size_t n, void *stream)
{
	int rc = check_format(format, type);

	return rc ? rc : fuse(format, (unsigned)cx_float_slot(type), dst, f, n, stream);
}

int cx_cuda_fold(void *dst, const void *const *in, unsigned count, size_t n, collx_type type,
		 collx_op op, uint32_t divisor, void *stream)
{
	struct cx_fold_args a = {.dst = dst, .n = n, .count = count, .aligned = is_aligned(dst)};
	size_t size = collx_type_size(type), block, vectors;

	if (!size || (unsigned)op >= COLLX_OP_COUNT)
		return cx_fail(COLLX_ERR_INVALID, "type %d, operation %d: there is none", (int)type,
			       (int)op);
	if (count < 2 || count > CX_INPUTS)
		return cx_fail(COLLX_ERR_INVALID, "%u inputs of one pass, not 2 to %d", count,
			       CX_INPUTS);
	for (unsigned i = 0; i < count; i++) {
		a.in[i] = in[i];
		a.aligned = a.aligned && is_aligned(in[i]);
	}
	if (op == COLLX_AVG) {
		a.divisor = divisor;
		op = COLLX_SUM;
	}
	/* A thread takes 1 vector of 1-byte numbers, 2 of others, or 8 elements one by one. */
	vectors = size == 1 ? 1 : 2;
	block = CX_CUDA_BLOCK * (a.aligned ? vectors * 16 / size : 8);
	return once(stream, CX_CUDA_fold, type, op, n / block + (n % block != 0), 0, &a);
}
