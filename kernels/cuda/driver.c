/* SPDX-License-Identifier: BSD-3-Clause */
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

#include "base.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/driver.h"

static struct {
	pthread_once_t once;
	struct cx_cuda_driver driver;
	int code;
	char why[400];
} opened = {.once = PTHREAD_ONCE_INIT};

#define TEXT(x) #x
#define ENTRY(f) {TEXT(f), offsetof(struct cx_cuda_driver, f)},
static const struct entry {
	const char *name;
	size_t at;
} entries[] = {CX_CUDA_CALLS_CORE(ENTRY) CX_CUDA_CALLS_MEMORY(ENTRY)};

static void decide(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void decide(int code, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(opened.why, sizeof(opened.why), fmt, args);
	va_end(args);
	opened.code = code;
}

static const char *error_name(const struct cx_cuda_driver *d, CUresult r)
{
	const char *name = NULL;

	if (!d->cuGetErrorName || d->cuGetErrorName(r, &name) != CUDA_SUCCESS || !name)
		return "an unknown error";
	return name;
}

static const char *error_text(const struct cx_cuda_driver *d, CUresult r)
{
	const char *text = NULL;

	if (!d->cuGetErrorString || d->cuGetErrorString(r, &text) != CUDA_SUCCESS || !text)
		return "no text for it";
	return text;
}

/* What to do about it; "" where the driver's own words say enough. */
static const char *hint(CUresult r)
{
	switch (r) {
	case CUDA_ERROR_NO_DEVICE:
		return "; is there a GPU, is it passed into this container, "
		       "does CUDA_VISIBLE_DEVICES hide it?";
	case CUDA_ERROR_SYSTEM_DRIVER_MISMATCH:
		return "; the kernel module and libcuda.so.1 are of different versions: reboot";
	case CUDA_ERROR_UNSUPPORTED_PTX_VERSION:
		return "; the driver is older than the toolkit that built libcollx";
	case CUDA_ERROR_NO_BINARY_FOR_GPU:
	case CUDA_ERROR_INVALID_IMAGE:
		return "; libcollx has no kernels for this GPU: see --with-cuda-arch of configure";
	case CUDA_ERROR_ILLEGAL_ADDRESS:
	case CUDA_ERROR_LAUNCH_FAILED:
	case CUDA_ERROR_LAUNCH_TIMEOUT:
	case CUDA_ERROR_ASSERT:
	case CUDA_ERROR_HARDWARE_STACK_ERROR:
	case CUDA_ERROR_ILLEGAL_INSTRUCTION:
	case CUDA_ERROR_MISALIGNED_ADDRESS:
	case CUDA_ERROR_INVALID_ADDRESS_SPACE:
	case CUDA_ERROR_INVALID_PC:
	case CUDA_ERROR_ECC_UNCORRECTABLE:
		return "; an earlier kernel failed, this process can no longer use the GPU";
	case CUDA_ERROR_NOT_INITIALIZED:
	case CUDA_ERROR_DEINITIALIZED:
		return "; a child of fork() cannot use the GPU that its parent used, "
		       "nor can a process that is ending";
	case CUDA_ERROR_CONTEXT_IS_DESTROYED:
	case CUDA_ERROR_INVALID_CONTEXT:
		return "; the stream's context is gone, or there is none";
	default:
		return "";
	}
}

static int code_of(CUresult r)
{
	switch (r) {
	case CUDA_ERROR_OUT_OF_MEMORY: return COLLX_ERR_NOMEM;
	case CUDA_ERROR_INVALID_VALUE:
	case CUDA_ERROR_INVALID_HANDLE: return COLLX_ERR_INVALID;
	case CUDA_ERROR_NO_BINARY_FOR_GPU:
	case CUDA_ERROR_INVALID_IMAGE:
	case CUDA_ERROR_UNSUPPORTED_PTX_VERSION: return COLLX_ERR_UNSUPPORTED;
	default: return COLLX_ERR_DEVICE;
	}
}

int cx_cuda_fail(const struct cx_cuda_driver *d, CUresult r, const char *what)
{
	return cx_fail(code_of(r), "CUDA: %s: %s (%s)%s", what, error_text(d, r), error_name(d, r),
		       hint(r));
}

/* The kernels' machine code asks for a driver of its toolkit's generation. */
static void check_version(struct cx_cuda_driver *d)
{
	CUresult r = d->cuDriverGetVersion(&d->version);

	if (r != CUDA_SUCCESS)
		decide(COLLX_ERR_DEVICE, "CUDA: cuDriverGetVersion: %s (%s)", error_text(d, r),
		       error_name(d, r));
	else if (d->version / 1000 < cx_cuda_toolkit / 1000)
		decide(COLLX_ERR_DEVICE, "CUDA: the driver is too old: it is for CUDA %d.%d, "
		       "libcollx was built with %d.%d; update it, or build libcollx with an older "
		       "toolkit", d->version / 1000, d->version % 1000 / 10,
		       cx_cuda_toolkit / 1000, cx_cuda_toolkit % 1000 / 10);
}

static void start(struct cx_cuda_driver *d)
{
	int count = 0;
	CUresult r;

	check_version(d);
	if (opened.code)
		return;
	r = d->cuInit(0);
	if (r == CUDA_SUCCESS)
		r = d->cuDeviceGetCount(&count);
	if (r == CUDA_SUCCESS && count == 0)
		r = CUDA_ERROR_NO_DEVICE;
	if (r != CUDA_SUCCESS)
		decide(code_of(r), "CUDA: starting the driver: %s (%s)%s", error_text(d, r),
		       error_name(d, r), hint(r));
}

static void open_driver(void)
{
	struct cx_cuda_driver *d = &opened.driver;
	void *library = dlopen(cx_cuda_library, RTLD_NOW | RTLD_LOCAL);

	if (!library) {
		const char *why = dlerror();

		decide(COLLX_ERR_DEVICE, "CUDA: %s; is NVIDIA's driver installed?",
		       why ? why : "the driver library cannot be opened");
		return;
	}
	for (size_t i = 0; i < sizeof(entries) / sizeof(*entries); i++) {
		void *f = dlsym(library, entries[i].name);

		if (!f) {
			decide(COLLX_ERR_DEVICE, "CUDA: the driver is too old: %s has no %s",
			       cx_cuda_library, entries[i].name);
			return;
		}
		*(void **)((char *)d + entries[i].at) = f;
	}
	*(void **)&d->ctx_id = dlsym(library, "cuCtxGetId");
	start(d);
}

int cx_cuda_driver(const struct cx_cuda_driver **driver)
{
	pthread_once(&opened.once, open_driver);
	if (opened.code)
		return cx_fail(opened.code, "%s", opened.why);
	*driver = &opened.driver;
	return 0;
}
