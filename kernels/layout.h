/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where things lie in an encoded array, dense or sparse. The bytes are written
 * up in doc/WIRE; the arithmetic is in element.h. Compiles as C, C++ and CUDA.
 */
#ifndef CX_LAYOUT_H
#define CX_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/convert.h"

enum {
	CX_BLOCK = 32,     /* elements that share a scale */
	CX_TILE = 1024,    /* elements that are encoded by themselves */
	CX_CHUNK = 16384,  /* elements that share an entry of the sparse table */
	CX_WIRE_ALIGN = 16 /* every plane begins and ends at a multiple of it */
};

/* As COLLX_FORMAT_*. */
enum cx_format { CX_Q8 = 0, CX_Q4 = 1, CX_BF16 = 2, CX_FORMATS = 3 };

CX_CONVERT size_t cx_wire_pad(size_t len)
{
	return (len + CX_WIRE_ALIGN - 1) / CX_WIRE_ALIGN * CX_WIRE_ALIGN;
}

/* ---- dense: tiles of a payload plane and a plane of scales ---- */

/* Payload of a block. */
CX_CONVERT size_t cx_wire_block(enum cx_format f)
{
	return f == CX_Q8 ? CX_BLOCK : f == CX_Q4 ? CX_BLOCK / 2 : CX_BLOCK * 2;
}

/* Where in a tile of n elements, 1 to CX_TILE, its scales begin: after its payload. */
CX_CONVERT size_t cx_wire_scales(enum cx_format f, size_t n)
{
	return (n + CX_BLOCK - 1) / CX_BLOCK * cx_wire_block(f);
}

/* Bytes of n elements; a tile of fewer than CX_TILE elements can only be the last. */
CX_CONVERT size_t cx_wire_bytes(enum cx_format f, size_t n)
{
	size_t whole = n / CX_TILE, blocks = (n % CX_TILE + CX_BLOCK - 1) / CX_BLOCK;
	size_t scale = f == CX_BF16 ? 0 : 2;

	return whole * (CX_TILE / CX_BLOCK) * (cx_wire_block(f) + scale) +
	       blocks * cx_wire_block(f) + cx_wire_pad(blocks * scale);
}

/* ---- sparse: a head, a table of chunks, and their bodies ---- */

#define CX_SPARSE_MAGIC 0x31535843u /* "CXS1" */

struct cx_sparse_head {
	uint32_t magic;
	uint16_t type; /* of the values: the number of COLLX_FLOAT32, _BFLOAT16 or _FLOAT16 */
	uint16_t zero;
	uint64_t count; /* elements of the dense array */
	uint64_t bytes; /* of the whole message */
	uint64_t entries;
};

enum cx_sparse_kind { CX_SPARSE_LIST = 0, CX_SPARSE_BITMAP = 1, CX_SPARSE_DENSE = 2 };

struct cx_sparse_chunk {
	uint32_t at;      /* of the body, in units of CX_WIRE_ALIGN from the head on */
	uint16_t entries; /* 0 to CX_CHUNK; no entries, no body, kind 0 */
	uint8_t kind;
	uint8_t zero;
};

CX_CONVERT size_t cx_sparse_chunks(uint64_t count)
{
	return (size_t)((count + CX_CHUNK - 1) / CX_CHUNK);
}

/* Where the first body begins. */
CX_CONVERT size_t cx_sparse_bodies(uint64_t count)
{
	return cx_wire_pad(sizeof(struct cx_sparse_head) +
			   cx_sparse_chunks(count) * sizeof(struct cx_sparse_chunk));
}

/* Bytes of what stands before the values in the body of a chunk of n elements. */
CX_CONVERT size_t cx_sparse_places(enum cx_sparse_kind kind, size_t n, size_t entries)
{
	if (kind == CX_SPARSE_LIST)
		return cx_wire_pad(entries * 2);
	return kind == CX_SPARSE_BITMAP ? cx_wire_pad((n + 7) / 8) : 0;
}

/* Bytes of a body whose values have `size` bytes each. */
CX_CONVERT size_t cx_sparse_body(enum cx_sparse_kind kind, size_t n, size_t entries, size_t size)
{
	size_t values = kind == CX_SPARSE_DENSE ? n : entries;

	return entries ? cx_sparse_places(kind, n, entries) + cx_wire_pad(values * size) : 0;
}

/* The most bytes of a message with so many entries, whose values have `size` bytes each: in
 * no chunk does an encoder of ours take more than a list. */
CX_CONVERT size_t cx_sparse_most(uint64_t count, uint64_t entries, size_t size)
{
	uint64_t chunks = count / CX_CHUNK + 1;
	uint64_t pads = (entries < chunks ? entries : chunks) * 2 * (CX_WIRE_ALIGN - 1);

	return cx_wire_pad((size_t)(cx_sparse_bodies(count) + entries * (2 + size) + pads));
}

/* The kind that our encoders choose: the smallest, the first of equals. */
CX_CONVERT enum cx_sparse_kind cx_sparse_choose(size_t n, size_t entries, size_t size)
{
	size_t list = cx_sparse_body(CX_SPARSE_LIST, n, entries, size);
	size_t bitmap = cx_sparse_body(CX_SPARSE_BITMAP, n, entries, size);
	size_t dense = cx_sparse_body(CX_SPARSE_DENSE, n, entries, size);

	if (list <= bitmap)
		return list <= dense ? CX_SPARSE_LIST : CX_SPARSE_DENSE;
	return bitmap <= dense ? CX_SPARSE_BITMAP : CX_SPARSE_DENSE;
}

#endif
