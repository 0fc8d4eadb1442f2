/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kernels in a CUDA context: loaded at first use, kept. Private to kernels/cuda/.
 */
#ifndef CX_CUDA_MODULE_H
#define CX_CUDA_MODULE_H

#include "kernels/cuda/args.h"
#include "kernels/cuda/driver.h"

#define CX_CUDA_GROUP(name, image, rows, columns) CX_CUDA_##name,
enum cx_cuda_group { CX_CUDA_GROUPS(CX_CUDA_GROUP) CX_CUDA_GROUP_COUNT };

enum cx_cuda_image {
	CX_CUDA_CODEC, CX_CUDA_FUSE, CX_CUDA_FOLD, CX_CUDA_TOPK, CX_CUDA_SPARSE, CX_CUDA_IMAGES
};
/* Fat binaries: machine code for the GPUs of configure and PTX; image.c. */
extern const unsigned char cx_cuda_image_codec[], cx_cuda_image_fuse[], cx_cuda_image_fold[],
	cx_cuda_image_topk[], cx_cuda_image_sparse[];

/* The context of a stream, current for the calling thread until cx_cuda_leave. */
struct cx_cuda_place {
	const struct cx_cuda_driver *driver;
	struct cx_cuda_context *context;
	CUstream stream;
	int pushed;
};
int cx_cuda_enter(struct cx_cuda_place *place, void *stream);
void cx_cuda_leave(struct cx_cuda_place *place);

/* Loads an image, or finds that it is. */
int cx_cuda_load(struct cx_cuda_place *place, enum cx_cuda_image image);

/* Blocks that are busy at once on this GPU, for kernels that take tiles until none is left; at
 * most `most`, at least 1. After cx_cuda_load. */
size_t cx_cuda_busy(const struct cx_cuda_place *place, size_t most);

/* n words of device memory become `value`. */
int cx_cuda_set(struct cx_cuda_place *place, void *p, uint32_t value, size_t n);

/* One kernel of `grid` blocks of CX_CUDA_BLOCK threads with that much shared memory. */
int cx_cuda_launch(struct cx_cuda_place *place, enum cx_cuda_group group, unsigned row,
		   unsigned column, size_t grid, size_t shared, const void *args);

#endif
