/* SPDX-License-Identifier: BSD-3-Clause */
#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fake_libcuda.h"
#include "cuda_emu.h"
#include "gpu.h"
#include "kernels/cuda/cuda.h"

const int gpu_is_emulated = 1;

enum { MOST = 64, UNIT = 256 };
static void *made[MOST];
static unsigned nmade;
static char wrong[512];
static char library[PATH_MAX];

static void *find(const char *name)
{
	return (void *)(uintptr_t)emu_find_kernel(name);
}

static size_t args_len(void *function)
{
	return ((const struct emu_kernel *)function)->args_len;
}

static int launch(const struct fake_launch *l)
{
	struct emu_launch run = {.kernel = l->function, .grid = l->grid, .block = l->block,
				 .shared = l->shared, .args = l->args};

	if (emu_run(&run) == 0)
		return 0;
	gpu_note(emu_fault());
	return 719; /* CUDA_ERROR_LAUNCH_FAILED */
}

static int is_device(const void *p)
{
	return emu_find(p, NULL) != NULL;
}

/* Beside the program, which libtool may have put into .libs/ itself. */
static int find_library(void)
{
	char self[PATH_MAX - 64] = "", *dir;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n <= 0)
		return -1;
	dir = dirname(self);
	snprintf(library, sizeof(library), "%s/.libs/libfakecuda.so", dir);
	if (access(library, R_OK))
		snprintf(library, sizeof(library), "%s/libfakecuda.so", dir);
	return access(library, R_OK);
}

int gpu_open(char *why, size_t len)
{
	void *handle;
	struct fake_libcuda *fake;

	if (find_library()) {
		snprintf(why, len, "no libfakecuda.so beside the program");
		return 1;
	}
	handle = dlopen(library, RTLD_NOW);
	fake = handle ? dlsym(handle, "fake_libcuda") : NULL;
	if (!fake) {
		snprintf(why, len, "%s", dlerror());
		return 1;
	}
	fake->hooks = (struct fake_hooks){find, args_len, launch, emu_alloc, emu_free, is_device};
	cx_cuda_library = library;
	return 0;
}

void *gpu_stream(void)
{
	return NULL;
}

void *gpu_make(const void *host, size_t len, unsigned offset)
{
	char *p = nmade < MOST ? emu_alloc(offset + len) : NULL;

	if (!p) {
		gpu_note("no memory");
		return NULL;
	}
	made[nmade++] = p;
	if (host)
		memcpy(p + offset, host, len);
	return p + offset;
}

void gpu_take(void *host, const void *device, size_t len)
{
	memcpy(host, device, len);
}

void gpu_put(void *device, const void *host, size_t len)
{
	memcpy(device, host, len);
}

void gpu_apart(void)
{
}

void gpu_reset(void)
{
	while (nmade)
		emu_free(made[--nmade]);
}

void gpu_forgive(void)
{
	wrong[0] = '\0';
}

const char *gpu_wrong(void)
{
	return wrong[0] ? wrong : NULL;
}

void gpu_note(const char *what)
{
	if (!wrong[0])
		snprintf(wrong, sizeof(wrong), "%s", what);
}

void gpu_seed(uint64_t seed)
{
	emu_options.seed = seed;
	emu_options.resident = (unsigned)(seed % 5);
	emu_options.preempt = seed % 3 ? 0 : 97;
}
