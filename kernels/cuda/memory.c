/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whose memory is it. Compiled with and without a CUDA toolkit; the numbers below
 * are NVIDIA's, from the documentation of cuPointerGetAttribute.
 */
#include <dlfcn.h>
#include <link.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "base.h"
#include "kernels/cuda/cuda.h"

enum { MEMORY_TYPE = 2, IS_MANAGED = 8 }; /* attributes */
enum { TYPE_DEVICE = 2 };

const char *cx_cuda_library = "libcuda.so.1";

typedef int attribute_fn(void *data, int attribute, unsigned long long p);

/* The length of a library's name without folders and version, which begins at *name. */
static size_t stem(const char **name)
{
	const char *base = strrchr(*name, '/'), *end;

	*name = base ? base + 1 : *name;
	end = strstr(*name, ".so");
	return end ? (size_t)(end - *name) : strlen(*name);
}

static int is_driver(struct dl_phdr_info *object, size_t len, void *unused)
{
	const char *mine = cx_cuda_library, *name = object->dlpi_name ? object->dlpi_name : "";
	size_t n = stem(&mine);

	(void)len;
	(void)unused;
	return stem(&name) == n && !memcmp(name, mine, n);
}

/*
 * Has another tick of the kernel's clock begun since the last "no driver"? Within one, some
 * milliseconds, nobody opens the driver, starts it and makes device memory. This clock costs
 * no system call, and a few ns; looking at what is loaded takes a lock and a hundred times that.
 */
static int is_time_to_look(void)
{
	static atomic_llong looked;
	struct timespec t;
	long long now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	now = (long long)t.tv_sec * 1000000000 + t.tv_nsec + 1;
	if (atomic_load_explicit(&looked, memory_order_relaxed) == now)
		return 0;
	atomic_store_explicit(&looked, now, memory_order_relaxed);
	return 1;
}

/* NULL while the process has no driver. It is not opened here, nor ever closed. */
static attribute_fn *driver_call(void)
{
	static _Atomic(attribute_fn *) call;
	attribute_fn *f = atomic_load_explicit(&call, memory_order_relaxed);
	void *library;

	/* A search for a library that is not there would take the file system's time. */
	if (f || !is_time_to_look() || !dl_iterate_phdr(is_driver, NULL))
		return f;
	library = dlopen(cx_cuda_library, RTLD_NOW | RTLD_NOLOAD);
	if (!library)
		return NULL;
	*(void **)&f = dlsym(library, "cuPointerGetAttribute");
	atomic_store_explicit(&call, f, memory_order_relaxed);
	return f;
}

/* What the driver does not know, or cannot say any more, is taken for the host's. */
static int is_device(attribute_fn *ask, const void *p)
{
	unsigned long long at = (uintptr_t)p;
	unsigned type = 0, managed = 0;

	return p && ask(&type, MEMORY_TYPE, at) == 0 && type == TYPE_DEVICE &&
	       !(ask(&managed, IS_MANAGED, at) == 0 && managed);
}

const void *cx_cuda_memory(const void *const *p, int n)
{
	attribute_fn *ask = driver_call();

	for (int i = 0; ask && i < n; i++)
		if (is_device(ask, p[i]))
			return p[i];
	return NULL;
}
