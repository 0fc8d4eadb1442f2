/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where there is no GPU, in builds with and without its kernels: every public function that is
 * given device memory says why it cannot, and touches nothing.
 */
#include <stdio.h>
#include <string.h>

#include "base.h"
#include "collx.h"
#include "kernels/cuda/cuda.h"

enum { N = 300 };

static unsigned char out[4096], as_it_was[4096], work[1 << 20];
static float in[2][N];
static int bad;

/* rc: what a call said. */
static void refused(int line, int rc)
{
	int expected = cx_cuda_built() ? COLLX_ERR_DEVICE : COLLX_ERR_UNSUPPORTED;
	const char *text = collx_last_error(NULL);

	if (rc != expected || memcmp(out, as_it_was, sizeof(out)) || strlen(text) < 30) {
		printf("tests/no_gpu.c:%d: %d, not %d, or out was touched: %s\n", line, rc,
		       expected, text);
		bad = 1;
	}
}

#define REFUSED(call) refused(__LINE__, call)

int main(void)
{
	collx_codec_opts o = COLLX_CODEC_OPTS_INIT;
	collx_topk_opts t = COLLX_TOPK_OPTS_INIT;
	collx_topk_info info = COLLX_TOPK_INFO_INIT;
	const void *const all[] = {in[0], in[1]};
	const size_t len[] = {sizeof(in[0]), sizeof(in[1])};

	cx_cuda_library = "/nonexistent/libcuda.so.1";
	memset(out, 0x5a, sizeof(out));
	memset(as_it_was, 0x5a, sizeof(as_it_was));
	o.memory = t.memory = COLLX_MEMORY_CUDA;
	t.work = work;
	t.work_len = sizeof(work);
	REFUSED(collx_encode(out, sizeof(out), in[0], N, COLLX_FLOAT32, COLLX_Q8, &o));
	REFUSED(collx_decode(out, N, COLLX_FLOAT32, in[0], sizeof(in[0]), COLLX_Q8, &o));
	REFUSED(collx_reduce_local(out, all, 2, N, COLLX_FLOAT32, COLLX_SUM, &o));
	REFUSED(collx_reduce_encoded(out, sizeof(out), all, 2, N, COLLX_Q8, COLLX_SUM, &o));
	REFUSED(collx_topk(out, sizeof(out), in[0], N, COLLX_FLOAT32, 3, &t, NULL));
	REFUSED(collx_sparse_add((float *)(void *)out, N, in[0], sizeof(in[0]), &t, &info));
	REFUSED(collx_sparse_merge(out, sizeof(out), all, len, 2, N, &t, &info));
	if (!cx_cuda_built()) {
		t.work = NULL;
		REFUSED(collx_topk(out, sizeof(out), in[0], N, COLLX_FLOAT32, 3, &t, NULL));
	}
	if (cx_cuda_memory(all, 2)) {
		printf("tests/no_gpu.c: host memory was taken for a device's\n");
		bad = 1;
	}
	return bad;
}
