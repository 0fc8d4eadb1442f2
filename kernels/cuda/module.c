/* SPDX-License-Identifier: BSD-3-Clause */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base.h"
#include "kernels/cuda/module.h"

#define GROUP(name, image, rows, columns) {#name, CX_CUDA_##image, rows, columns},
static const struct group {
	const char *name;
	enum cx_cuda_image image;
	unsigned char rows, columns;
} groups[] = {CX_CUDA_GROUPS(GROUP)};
enum { MOST_COLUMNS = 5, MOST_ROWS = COLLX_TYPE_COUNT };

static const unsigned char *const images[CX_CUDA_IMAGES] = {
	[CX_CUDA_CODEC] = cx_cuda_image_codec,
	[CX_CUDA_FUSE] = cx_cuda_image_fuse,
	[CX_CUDA_FOLD] = cx_cuda_image_fold,
	[CX_CUDA_TOPK] = cx_cuda_image_topk,
	[CX_CUDA_SPARSE] = cx_cuda_image_sparse,
};

/*
 * One for each context that was seen; none is ever taken away, since nobody tells when
 * a context ends. A new context at the address of a former one differs in its id.
 */
struct cx_cuda_context {
	CUcontext ctx;
	unsigned long long id;
	struct cx_cuda_context *next;
	/* Stored with release once functions are there; cx_cuda_load's acquire is its pair. */
	atomic_int loaded[CX_CUDA_IMAGES];
	int processors;
	CUfunction functions[CX_CUDA_GROUP_COUNT][MOST_ROWS][MOST_COLUMNS];
};

/* Stored with release, under the lock; find's acquire is its pair. */
static struct cx_cuda_context *_Atomic contexts;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct cx_cuda_context *find(CUcontext ctx, unsigned long long id)
{
	struct cx_cuda_context *c = atomic_load_explicit(&contexts, memory_order_acquire);

	while (c && (c->ctx != ctx || c->id != id))
		c = c->next;
	return c;
}

static struct cx_cuda_context *add(CUcontext ctx, unsigned long long id)
{
	struct cx_cuda_context *c;

	pthread_mutex_lock(&lock);
	c = find(ctx, id);
	if (!c) {
		c = cx_alloc(1, sizeof(*c));
		if (c) {
			c->ctx = ctx;
			c->id = id;
			c->next = atomic_load_explicit(&contexts, memory_order_relaxed);
			atomic_store_explicit(&contexts, c, memory_order_release);
		}
	}
	pthread_mutex_unlock(&lock);
	return c;
}

int cx_cuda_enter(struct cx_cuda_place *place, void *stream)
{
	CUcontext ctx = NULL, current = NULL;
	unsigned long long id = 0;
	CUresult r;
	int rc = cx_cuda_driver(&place->driver);

	if (rc)
		return rc;
	place->stream = stream;
	place->pushed = 0;
	r = place->driver->cuStreamGetCtx(place->stream, &ctx);
	if (r == CUDA_SUCCESS && place->driver->ctx_id)
		r = place->driver->ctx_id(ctx, &id);
	if (r != CUDA_SUCCESS)
		return cx_cuda_fail(place->driver, r, "finding the stream's context");
	place->context = find(ctx, id);
	if (!place->context)
		place->context = add(ctx, id);
	if (!place->context)
		return COLLX_ERR_NOMEM;
	r = place->driver->cuCtxGetCurrent(&current);
	if (r == CUDA_SUCCESS && current != ctx) {
		r = place->driver->cuCtxPushCurrent(ctx);
		place->pushed = r == CUDA_SUCCESS;
	}
	if (r != CUDA_SUCCESS)
		return cx_cuda_fail(place->driver, r, "making the stream's context current");
	return 0;
}

void cx_cuda_leave(struct cx_cuda_place *place)
{
	CUcontext ctx;

	if (place->pushed)
		place->driver->cuCtxPopCurrent(&ctx);
}

static void name_of(char *name, size_t len, const struct group *g, unsigned row, unsigned column)
{
	snprintf(name, len, "cx_k_%s_%u_%u", g->name, row, column);
}

/* One that shares more than the 48 KiB that every GPU has must ask for it. */
static CUresult find_function(struct cx_cuda_place *place, enum cx_cuda_group group, CUfunction *f,
			      CUmodule module, const char *name)
{
	CUresult r = place->driver->cuModuleGetFunction(f, module, name);

	if (r == CUDA_SUCCESS && group == CX_CUDA_merge)
		r = place->driver->cuFuncSetAttribute(
			*f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, CX_MERGE_SHARED);
	return r;
}

static int find_functions(struct cx_cuda_place *place, enum cx_cuda_group group, CUmodule module)
{
	const struct group *g = &groups[group];

	for (unsigned row = 0; row < g->rows; row++) {
		for (unsigned column = 0; column < g->columns; column++) {
			CUfunction *f = &place->context->functions[group][row][column];
			char name[64];
			CUresult r;

			name_of(name, sizeof(name), g, row, column);
			r = find_function(place, group, f, module, name);
			if (r != CUDA_SUCCESS)
				return cx_cuda_fail(place->driver, r, name);
		}
	}
	return 0;
}

static int count_processors(struct cx_cuda_place *place)
{
	CUdevice device;
	CUresult r = place->driver->cuCtxGetDevice(&device);

	if (r == CUDA_SUCCESS)
		r = place->driver->cuDeviceGetAttribute(&place->context->processors,
			CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device);
	return r == CUDA_SUCCESS ? 0 : cx_cuda_fail(place->driver, r, "asking about the GPU");
}

/* A load is no part of a capture that may be under way in this thread. */
static int load(struct cx_cuda_place *place, enum cx_cuda_image image)
{
	const struct cx_cuda_driver *d = place->driver;
	CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
	CUmodule module = NULL;
	CUresult r;
	int rc = 0;

	r = d->cuThreadExchangeStreamCaptureMode(&mode);
	if (r != CUDA_SUCCESS)
		return cx_cuda_fail(d, r, "preparing to load the kernels");
	rc = count_processors(place);
	r = rc ? CUDA_SUCCESS : d->cuModuleLoadData(&module, images[image]);
	if (r != CUDA_SUCCESS)
		rc = cx_cuda_fail(d, r, "loading the kernels");
	for (int g = 0; !rc && g < CX_CUDA_GROUP_COUNT; g++)
		if (groups[g].image == image)
			rc = find_functions(place, (enum cx_cuda_group)g, module);
	if (rc && module)
		d->cuModuleUnload(module);
	d->cuThreadExchangeStreamCaptureMode(&mode);
	if (!rc)
		atomic_store_explicit(&place->context->loaded[image], 1, memory_order_release);
	return rc;
}

int cx_cuda_load(struct cx_cuda_place *place, enum cx_cuda_image image)
{
	atomic_int *loaded = &place->context->loaded[image];
	int rc = 0;

	if (atomic_load_explicit(loaded, memory_order_acquire))
		return 0;
	pthread_mutex_lock(&lock);
	if (!atomic_load_explicit(loaded, memory_order_relaxed))
		rc = load(place, image);
	pthread_mutex_unlock(&lock);
	return rc;
}

/* Does the GPU follow the host's page tables? Then malloc's memory is as good as its own. */
static int is_shared_with_host(const struct cx_cuda_driver *d)
{
	CUdevice device;
	int yes = 0;

	return d->cuCtxGetDevice(&device) == CUDA_SUCCESS &&
	       d->cuDeviceGetAttribute(&yes, CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS, device) ==
	       CUDA_SUCCESS && yes;
}

static int reach(const struct cx_cuda_driver *d, const void *p)
{
	unsigned type = 0;
	CUresult r = d->cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
					      (CUdeviceptr)(uintptr_t)p);

	if (r == CUDA_SUCCESS || (r == CUDA_ERROR_INVALID_VALUE && is_shared_with_host(d)))
		return 0;
	if (r != CUDA_ERROR_INVALID_VALUE)
		return cx_cuda_fail(d, r, "asking whose memory it is");
	return cx_fail(COLLX_ERR_INVALID, "CUDA: %p is host memory or none; device, managed or "
		       "pinned memory is needed", p);
}

int cx_cuda_reach(const void *const *p, unsigned n, void *stream)
{
	struct cx_cuda_place place;
	int rc = cx_cuda_enter(&place, stream);

	if (rc)
		return rc;
	for (unsigned i = 0; !rc && i < n; i++)
		rc = p[i] ? reach(place.driver, p[i]) : 0;
	cx_cuda_leave(&place);
	return rc;
}

size_t cx_cuda_busy(const struct cx_cuda_place *place, size_t most)
{
	size_t busy = 3 * (size_t)cx_max((size_t)place->context->processors, 1);

	return cx_max(cx_min(busy, most), 1);
}

int cx_cuda_set(struct cx_cuda_place *place, void *p, uint32_t value, size_t n)
{
	CUresult r = place->driver->cuMemsetD32Async((CUdeviceptr)(uintptr_t)p, value, n,
						     place->stream);

	return r == CUDA_SUCCESS ? 0 : cx_cuda_fail(place->driver, r, "clearing work memory");
}

int cx_cuda_launch(struct cx_cuda_place *place, enum cx_cuda_group group, unsigned row,
		   unsigned column, size_t grid, size_t shared, const void *args)
{
	const struct group *g = &groups[group];
	void *params[] = {(void *)(uintptr_t)args};
	char name[64];
	CUresult r;
	int rc;

	if (grid > INT32_MAX)
		return cx_fail(COLLX_ERR_INVALID, "CUDA: an array too long for one launch");
	rc = cx_cuda_load(place, g->image);
	if (rc)
		return rc;
	r = place->driver->cuLaunchKernel(place->context->functions[group][row][column],
					  (unsigned)grid, 1, 1, CX_CUDA_BLOCK, 1, 1,
					  (unsigned)shared, place->stream, params, NULL);
	if (r == CUDA_SUCCESS)
		return 0;
	name_of(name, sizeof(name), g, row, column);
	return cx_cuda_fail(place->driver, r, name);
}
