/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whose memory is it. Compiled with and without a CUDA toolkit; the numbers below
 * are NVIDIA's, from the documentation of cuPointerGetAttribute.
 */
#include <dlfcn.h>
#include <stdatomic.h>

#include "base.h"
#include "kernels/cuda/cuda.h"

enum { MEMORY_TYPE = 2, TYPE_DEVICE = 2 };
enum { SUCCESS = 0, INVALID_VALUE = 1, NOT_INITIALIZED = 3 }; /* the last two: not CUDA's */

const char *cx_cuda_library = "libcuda.so.1";

typedef int attribute_fn(void *data, int attribute, unsigned long long p);

/* NULL while the process has no driver. It is not opened here, nor ever closed. */
static attribute_fn *driver_call(void)
{
	static _Atomic(attribute_fn *) call;
	attribute_fn *f = atomic_load_explicit(&call, memory_order_relaxed);
	void *library;

	if (f)
		return f;
	library = dlopen(cx_cuda_library, RTLD_NOW | RTLD_NOLOAD);
	if (!library)
		return NULL;
	*(void **)&f = dlsym(library, "cuPointerGetAttribute");
	atomic_store_explicit(&call, f, memory_order_relaxed);
	return f;
}

int cx_cuda_memory(const void *p)
{
	attribute_fn *ask = driver_call();
	unsigned type = 0;
	int r;

	if (!ask)
		return 0;
	r = ask(&type, MEMORY_TYPE, (unsigned long long)(uintptr_t)p);
	if (r == INVALID_VALUE || r == NOT_INITIALIZED || (r == SUCCESS && type != TYPE_DEVICE))
		return 0;
	if (r != SUCCESS)
		return cx_fail(COLLX_ERR_DEVICE, "CUDA: asking whose memory %p is: error %d", p, r);
	if (!cx_cuda_built())
		return cx_fail(COLLX_ERR_UNSUPPORTED, "CUDA: %p is device memory, and this "
			       "libcollx was built without GPU kernels; build it where nvcc is", p);
	return 1;
}
