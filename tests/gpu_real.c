/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The first GPU. Device memory is one allocation that gpu_make hands out piece by piece,
 * and the bytes between the pieces must stay as they are; or each piece is an allocation of its
 * own, of which compute-sanitizer sees the ends.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "gpu.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/driver.h"

const int gpu_is_emulated = 0;

enum { ROOM = 512 << 20, UNIT = 256, MOST = 64, PATTERN = 0xa5 };

static const struct cx_cuda_driver *driver;
static CUstream stream;
static CUdeviceptr arena;
static size_t used;
static struct {
	size_t at, len, room; /* in the arena; room: with what belongs to nobody */
} pieces[MOST];
static unsigned npieces;
static CUdeviceptr own[MOST];
static unsigned nown;
static int apart;
static char wrong[512];

static int is_ok(CUresult r, const char *what)
{
	if (r == CUDA_SUCCESS)
		return 1;
	cx_cuda_fail(driver, r, what);
	gpu_note(cx_error_text());
	return 0;
}

int gpu_open(char *why, size_t len)
{
	CUdevice device;
	CUcontext ctx;

	if (!cx_cuda_built() || cx_cuda_driver(&driver)) {
		snprintf(why, len, "no GPU: %s", cx_cuda_built() ? cx_error_text() :
			 "built without CUDA");
		return 77;
	}
	if (is_ok(driver->cuDeviceGet(&device, 0), "cuDeviceGet") &&
	    is_ok(driver->cuDevicePrimaryCtxRetain(&ctx, device), "cuDevicePrimaryCtxRetain") &&
	    is_ok(driver->cuCtxPushCurrent(ctx), "cuCtxPushCurrent") &&
	    is_ok(driver->cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate") &&
	    is_ok(driver->cuMemAlloc(&arena, ROOM), "cuMemAlloc"))
		return 0;
	snprintf(why, len, "%s", cx_error_text());
	return 1;
}

void *gpu_stream(void)
{
	return stream;
}

void gpu_apart(void)
{
	apart = 1;
}

/* The copy may still be on its way when the call returns, and our stream does not wait for the
 * default one. */
void gpu_put(void *device, const void *host, size_t len)
{
	if (len && is_ok(driver->cuMemcpyHtoD((CUdeviceptr)(uintptr_t)device, host, len),
			 "cuMemcpyHtoD"))
		is_ok(driver->cuStreamSynchronize(CU_STREAM_LEGACY), "cuMemcpyHtoD");
}

static void *make_own(const void *host, size_t len, unsigned offset)
{
	unsigned char *copy = malloc(len + 1);

	if (!copy || nown == MOST ||
	    !is_ok(driver->cuMemAlloc(&own[nown], offset + len + !(offset + len)), "cuMemAlloc")) {
		free(copy);
		gpu_note("no memory for a test");
		return NULL;
	}
	memset(copy, PATTERN, len);
	if (host)
		memcpy(copy, host, len);
	gpu_put((char *)(uintptr_t)own[nown] + offset, copy, len);
	free(copy);
	return (char *)(uintptr_t)own[nown++] + offset;
}

void *gpu_make(const void *host, size_t len, unsigned offset)
{
	size_t room = (offset + len + 2 * UNIT - 1) / UNIT * UNIT;
	unsigned char *copy = malloc(room);
	void *at = (void *)(uintptr_t)(arena + used);

	if (apart) {
		free(copy);
		return make_own(host, len, offset);
	}
	if (!copy || npieces == MOST || room > ROOM - used) {
		free(copy);
		gpu_note("no memory for a test");
		return NULL;
	}
	memset(copy, PATTERN, room);
	if (host)
		memcpy(copy + offset, host, len);
	gpu_put(at, copy, room);
	free(copy);
	pieces[npieces].at = used + offset;
	pieces[npieces].len = len;
	pieces[npieces++].room = used + room;
	used += room;
	return (char *)at + offset;
}

void gpu_take(void *host, const void *device, size_t len)
{
	if (is_ok(driver->cuStreamSynchronize(stream), "cuStreamSynchronize") && len)
		is_ok(driver->cuMemcpyDtoH(host, (CUdeviceptr)(uintptr_t)device, len),
		      "cuMemcpyDtoH");
}

/* Bytes `from` to `to` of the arena belong to nobody. */
static void check_nobodys(const unsigned char *all, size_t from, size_t to)
{
	for (; from < to; from++) {
		if (all[from] != PATTERN) {
			gpu_note("a kernel wrote outside of its buffers");
			return;
		}
	}
}

void gpu_reset(void)
{
	unsigned char *all = malloc(used + 1);
	size_t end = 0;

	if (!all)
		abort();
	gpu_take(all, (void *)(uintptr_t)arena, used);
	for (unsigned i = 0; i < npieces && !wrong[0]; i++) {
		check_nobodys(all, end, pieces[i].at);
		check_nobodys(all, pieces[i].at + pieces[i].len, pieces[i].room);
		end = pieces[i].room;
	}
	free(all);
	npieces = 0;
	used = 0;
	while (nown)
		is_ok(driver->cuMemFree(own[--nown]), "cuMemFree");
}

const char *gpu_wrong(void)
{
	if (!wrong[0])
		is_ok(driver->cuStreamSynchronize(stream), "cuStreamSynchronize");
	return wrong[0] ? wrong : NULL;
}

void gpu_forgive(void)
{
	wrong[0] = '\0';
}

void gpu_note(const char *what)
{
	if (!wrong[0])
		snprintf(wrong, sizeof(wrong), "%s", what);
}

void gpu_seed(uint64_t seed)
{
	(void)seed;
}
