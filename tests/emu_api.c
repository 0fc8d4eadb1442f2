/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The public functions with COLLX_MEMORY_CUDA, on the emulated GPU: gpu_api.c's cases, and what
 * only the driver's double can be made to say.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "base.h"
#include "fake_libcuda.h"
#include "gpu.h"
#include "gpu_cases.h"
#include "kernels/cuda/cuda.h"

enum { N = 2500, LEN = N * 4 + 256 };

static struct fake_libcuda *fake;
static int bad;

static void need(int line, int holds, const char *what)
{
	if (holds && !gpu_wrong())
		return;
	printf("tests/emu_api.c:%d: not so: %s; the last line was: %s; %s\n", line, what,
	       cx_error_text(), gpu_wrong() ? gpu_wrong() : "no fault");
	gpu_forgive();
	bad = 1;
}

#define NEED(cond) need(__LINE__, (cond) ? 1 : 0, #cond)

static unsigned char as_it_was[LEN];

static int is_untouched(const void *device)
{
	static unsigned char mine[LEN];

	gpu_take(mine, device, LEN);
	return !memcmp(mine, as_it_was, LEN);
}

/* Memory that belongs to both is the host's as well. */
static void test_managed(void)
{
	static float x[N];
	static unsigned char wire[LEN];
	const void *there = gpu_make(x, sizeof(x), 0);

	NEED(collx_encode(wire, LEN, there, N, COLLX_FLOAT32, COLLX_Q8, NULL) ==
	     COLLX_ERR_INVALID);
	fake->managed = 1;
	NEED(collx_encode(wire, LEN, there, N, COLLX_FLOAT32, COLLX_Q8, NULL) == 0);
	fake->managed = 0;
	gpu_reset();
}

/* Where the GPU follows the host's page tables, malloc's memory is the GPU's, too. */
static void test_shared_tables(void)
{
	const void *host = as_it_was;

	NEED(!gpu_reaches_host());
	NEED(cx_cuda_reach(&host, 1, NULL) == COLLX_ERR_INVALID);
	fake->pageable = 1;
	NEED(gpu_reaches_host());
	NEED(cx_cuda_reach(&host, 1, NULL) == 0);
	NEED(gpu_api_case(0, 0, (char[GPU_WHY]){""}) == 0);
	fake->pageable = 0;
}

/* An earlier kernel went wrong: each function says so, and leaves everything as it is. */
static void test_broken(void)
{
	collx_codec_opts o = COLLX_CODEC_OPTS_INIT;
	collx_topk_opts t = COLLX_TOPK_OPTS_INIT;
	collx_result broken = COLLX_ERR_DEVICE;
	void *out = gpu_make(as_it_was, LEN, 0), *in = gpu_make(as_it_was, LEN, 0);
	const void *const two[] = {in, in};
	const size_t len[] = {LEN, LEN};
	collx_topk_info *info = gpu_make(NULL, sizeof(*info), 0);

	o.memory = t.memory = COLLX_MEMORY_CUDA;
	t.work_len = cx_max(collx_topk_work(N, 10), collx_sparse_work(N));
	t.work = gpu_make(NULL, t.work_len, 0);
	fake->launches = 0;
	fake->sticky = 700; /* CUDA_ERROR_ILLEGAL_ADDRESS */
	NEED(collx_encode(out, LEN, in, N, COLLX_FLOAT32, COLLX_Q8, &o) == broken);
	NEED(strstr(collx_last_error(NULL), "can no longer use the GPU"));
	NEED(collx_decode(out, N, COLLX_FLOAT32, in, LEN, COLLX_Q8, &o) == broken);
	NEED(collx_reduce_local(out, two, 2, N, COLLX_FLOAT32, COLLX_SUM, &o) == broken);
	NEED(collx_reduce_encoded(out, LEN, two, 2, N, COLLX_Q8, COLLX_SUM, &o) == broken);
	NEED(collx_topk(out, LEN, in, N, COLLX_FLOAT32, 10, &t, info) == broken);
	NEED(collx_sparse_add(out, N, in, LEN, &t, info) == broken);
	NEED(collx_sparse_merge(out, LEN, two, len, 2, N, &t, info) == broken);
	fake->sticky = 0;
	NEED(fake->launches == 0 && is_untouched(out) && is_untouched(in));
	gpu_reset();
}

int main(void)
{
	char why[GPU_WHY] = "";

	if (gpu_open(why, sizeof(why))) {
		puts(why);
		return 1;
	}
	fake = dlsym(dlopen(cx_cuda_library, RTLD_NOW), "fake_libcuda");
	memset(as_it_was, 0x33, LEN);
	if (gpu_api_case(0, 0, why)) {
		puts(why);
		bad = 1;
	}
	test_managed();
	test_shared_tables();
	test_broken();
	return bad;
}
