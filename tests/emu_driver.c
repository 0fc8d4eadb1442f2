/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The loader against a double of the driver: every error at every call gives a negative
 * code and one clear line, launches nothing, and is over with the next call, unless the
 * driver itself could not be opened. Each case is a process of its own. Then captures.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base.h"
#include "fake_libcuda.h"
#include "gpu.h"
#include "gpu_cases.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/driver.h"
#include "kernels/topk.h"

static struct fake_libcuda *fake;
static unsigned cases;

/* A child's complaint. */
#define NEED(cond) \
	do { \
		if (!(cond)) \
			complain(__LINE__, #cond); \
	} while (0)

static void complain(int line, const char *what)
{
	printf("tests/emu_driver.c:%d: not so: %s; the last line was: %s\n", line, what,
	       cx_error_text());
	fflush(stdout);
	_exit(1);
}

/* Runs it in a child; 0 when it did not complain. */
static int child(void (*f)(const void *arg), const void *arg)
{
	int status = 0;
	pid_t pid;

	cases++;
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		f(arg);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 1;
	if (WIFSIGNALED(status))
		printf("a child ended by signal %d\n", WTERMSIG(status));
	return status != 0;
}

static int encode(void)
{
	static float x[64];
	static unsigned char wire[256];

	return cx_cuda_encode(CX_Q8, COLLX_FLOAT32, wire, x, 64, NULL, NULL);
}

/* One line, with what it is about and something to go by. */
static void need_line(int rc, int code)
{
	NEED(rc == code);
	NEED(!strncmp(cx_error_text(), "CUDA: ", 6));
	NEED(strlen(cx_error_text()) > 20 && !strchr(cx_error_text(), '\n'));
}

/* ---- the driver cannot be opened ---- */

static void opens_not(const void *library)
{
	const void *in = &fake;

	cx_cuda_library = library;
	need_line(encode(), COLLX_ERR_DEVICE);
	need_line(encode(), COLLX_ERR_DEVICE);
	NEED(!cx_cuda_memory(&in, 1));
}

static void is_too_old(const void *arg)
{
	fake->version = *(const int *)arg;
	need_line(encode(), COLLX_ERR_DEVICE);
	NEED(strstr(cx_error_text(), "too old"));
}

static void has_no_device(const void *arg)
{
	(void)arg;
	fake->devices = 0;
	need_line(encode(), COLLX_ERR_DEVICE);
	NEED(fake->launches == 0);
}

/* ---- a call fails ---- */

struct injection {
	const char *call;
	int result, code;
	int stays; /* as long as the process lives */
};

static void fails(const void *arg)
{
	const struct injection *i = arg;

	fake->inject = (struct fake_injection){i->call, 0, i->result};
	need_line(encode(), i->code);
	NEED(fake->inject.call == NULL);
	NEED(fake->launches == 0);
	/* What was loaded in vain does not stay on the device. */
	NEED(fake->unloads == (strcmp(i->call, "cuLaunchKernel") ? fake->loads : 0));
	NEED(fake->pushes == fake->pops || !strcmp(i->call, "cuCtxPushCurrent_v2"));
	if (i->stays)
		need_line(encode(), i->code);
	else
		NEED(encode() == 0 && fake->launches == 1);
	NEED(fake->allocs == 0);
}

/* The same with another context current, so that ours is pushed. */
static void fails_elsewhere(const void *arg)
{
	fake->other_context = 1;
	fails(arg);
}

static int inject_all(void)
{
	static const struct injection results[] = {
		{NULL, CUDA_ERROR_INVALID_VALUE, COLLX_ERR_INVALID, 0},
		{NULL, CUDA_ERROR_OUT_OF_MEMORY, COLLX_ERR_NOMEM, 0},
		{NULL, CUDA_ERROR_NOT_INITIALIZED, COLLX_ERR_DEVICE, 0},
		{NULL, CUDA_ERROR_NO_DEVICE, COLLX_ERR_DEVICE, 0},
		{NULL, CUDA_ERROR_INVALID_IMAGE, COLLX_ERR_UNSUPPORTED, 0},
		{NULL, CUDA_ERROR_INVALID_CONTEXT, COLLX_ERR_DEVICE, 0},
		{NULL, CUDA_ERROR_NO_BINARY_FOR_GPU, COLLX_ERR_UNSUPPORTED, 0},
		{NULL, CUDA_ERROR_UNSUPPORTED_PTX_VERSION, COLLX_ERR_UNSUPPORTED, 0},
		{NULL, CUDA_ERROR_ILLEGAL_ADDRESS, COLLX_ERR_DEVICE, 0},
		{NULL, CUDA_ERROR_LAUNCH_FAILED, COLLX_ERR_DEVICE, 0},
		{NULL, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, COLLX_ERR_DEVICE, 0},
		{NULL, CUDA_ERROR_UNKNOWN, COLLX_ERR_DEVICE, 0},
	};
	static const char *const at_start[] = {"cuInit", "cuDriverGetVersion", "cuDeviceGetCount"};
	static const char *const later[] = {
		"cuStreamGetCtx", "cuCtxGetId", "cuCtxGetCurrent", "cuCtxGetDevice",
		"cuDeviceGetAttribute", "cuThreadExchangeStreamCaptureMode", "cuModuleLoadData",
		"cuModuleGetFunction", "cuLaunchKernel", "cuCtxPushCurrent_v2",
	};
	int bad = 0;

	for (size_t r = 0; r < sizeof(results) / sizeof(results[0]); r++) {
		struct injection i = results[r];

		i.stays = 1;
		for (size_t c = 0; c < sizeof(at_start) / sizeof(at_start[0]); c++) {
			i.call = at_start[c];
			if (c == 1) /* whatever it says, the driver does not know its version */
				i.code = COLLX_ERR_DEVICE;
			bad |= child(fails, &i);
			i.code = results[r].code;
		}
		i.stays = 0;
		for (size_t c = 0; c < sizeof(later) / sizeof(later[0]); c++) {
			i.call = later[c];
			bad |= child(fails_elsewhere, &i);
			if (strcmp(i.call, "cuCtxPushCurrent_v2"))
				bad |= child(fails, &i);
		}
	}
	return bad;
}

/* The several launches of top-k: each of them, and what clears the work memory. */
static void fails_within(const void *arg)
{
	static const char *const calls[] = {"cuLaunchKernel", "cuMemsetD32Async"};
	static float x[64];
	static unsigned char work[1 << 20], msg[4096];
	struct cx_cuda_topk t = {.gradient = x, .type = COLLX_FLOAT32, .n = 64, .k = 4, .floor = 1,
				 .value_type = COLLX_FLOAT32, .residual = x, .msg = msg,
				 .work = work};
	unsigned which = *(const unsigned *)arg;

	NEED(cx_cuda_topk_work(64, 4) <= sizeof(work));
	fake->inject = (struct fake_injection){calls[which % 2], which / 2, 719};
	need_line(cx_cuda_topk(&t, NULL), COLLX_ERR_DEVICE);
	NEED(fake->launches == (which % 2 ? 0 : which / 2));
	fake->launches = 0;
	NEED(cx_cuda_topk(&t, NULL) == 0 && fake->launches == 9);
}

/* The same for sparse messages, whose two kernels come after one clearing. */
static void sparse_fails_within(const void *arg)
{
	static const char *const calls[] = {"cuMemsetD32Async", "cuLaunchKernel", "cuLaunchKernel"};
	static float x[64];
	static unsigned char work[4096], msg[4096];
	static collx_topk_info info;
	unsigned which = *(const unsigned *)arg % 3, merge = *(const unsigned *)arg / 3;
	const void *const in[] = {msg};
	const size_t len = sizeof(msg);
	int rc;

	for (int again = 0; again < 2; again++) {
		if (!again)
			fake->inject = (struct fake_injection){calls[which], which / 2, 719};
		fake->launches = 0;
		rc = merge ? cx_cuda_sparse_merge(x, sizeof(x), COLLX_FLOAT32, in, &len, 1, 9, work,
						  &info, NULL) :
			     cx_cuda_sparse_add(x, 64, msg, len, work, &info, NULL);
		if (again)
			NEED(rc == 0);
		else
			need_line(rc, COLLX_ERR_DEVICE);
		NEED(fake->launches == (again ? 2 : which / 2));
	}
	NEED(fake->allocs == 0);
}

/* ---- contexts ---- */

static void reloads(const void *arg)
{
	(void)arg;
	NEED(encode() == 0 && fake->loads == 1);
	NEED(encode() == 0 && fake->loads == 1);
	fake->context_id = 2; /* a new one at the same address */
	NEED(encode() == 0 && fake->loads == 2);
	fake->context_id = 1;
	NEED(encode() == 0 && fake->loads == 2 && fake->launches == 4);
	NEED(cx_cuda_prepare(NULL) == 0 && fake->loads == 6 && fake->allocs == 0);
}

/* ---- what a process can do to itself ---- */

static void is_broken(const void *arg)
{
	(void)arg;
	NEED(encode() == 0 && fake->launches == 1);
	fake->sticky = CUDA_ERROR_ILLEGAL_ADDRESS;
	for (int i = 0; i < 3; i++) {
		need_line(encode(), COLLX_ERR_DEVICE);
		NEED(strstr(cx_error_text(), "can no longer use the GPU"));
	}
	NEED(fake->launches == 1);
}

static void in_grandchild(const void *arg)
{
	(void)arg;
	need_line(encode(), COLLX_ERR_DEVICE);
	NEED(strstr(cx_error_text(), "fork()"));
	NEED(fake->launches == 1);
}

static void is_forked(const void *arg)
{
	(void)arg;
	NEED(encode() == 0);
	NEED(child(in_grandchild, NULL) == 0);
	NEED(encode() == 0 && fake->launches == 2);
}

enum { THREADS = 8, CALLS = 200 };

static void *calls(void *start)
{
	pthread_barrier_wait(start);
	for (int i = 0; i < CALLS; i++)
		NEED(encode() == 0);
	return NULL;
}

/* All at the first call: one of them loads, once. */
static void is_threaded(const void *arg)
{
	pthread_barrier_t start;
	pthread_t threads[THREADS];

	(void)arg;
	fake->load_us = 3000;
	pthread_barrier_init(&start, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		NEED(pthread_create(&threads[i], NULL, calls, &start) == 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	NEED(fake->loads == 1 && fake->launches == THREADS * CALLS);
}

/* ---- bad input: refused before the driver is asked ---- */

static void refuses(const void *arg)
{
	float x[4] = {0};
	const void *in[2] = {x, x};
	const size_t len = 4;

	(void)arg;
	NEED(cx_cuda_encode((enum cx_format)7, COLLX_FLOAT32, x, x, 1, NULL, NULL) ==
	     COLLX_ERR_INVALID);
	NEED(cx_cuda_encode(CX_Q8, COLLX_INT8, x, x, 1, NULL, NULL) == COLLX_ERR_INVALID);
	NEED(cx_cuda_fold(x, in, 1, 1, COLLX_INT8, COLLX_SUM, 1, NULL) == COLLX_ERR_INVALID);
	NEED(cx_cuda_fold(x, in, 17, 1, COLLX_INT8, COLLX_SUM, 1, NULL) == COLLX_ERR_INVALID);
	NEED(cx_cuda_fold(x, in, 2, 1, (collx_type)99, COLLX_SUM, 1, NULL) == COLLX_ERR_INVALID);
	NEED(cx_cuda_topk(&(struct cx_cuda_topk){.type = COLLX_FLOAT32, .n = 4, .k = 5,
						 .value_type = COLLX_FLOAT32}, NULL) ==
	     COLLX_ERR_INVALID);
	NEED(cx_cuda_topk(&(struct cx_cuda_topk){.type = COLLX_FLOAT32, .n = 4, .k = 1,
						 .value_type = COLLX_FLOAT32, .info = (void *)12},
			  NULL) == COLLX_ERR_INVALID);
	NEED(cx_cuda_topk(&(struct cx_cuda_topk){.type = COLLX_FLOAT32, .n = (size_t)1 << 31,
						 .k = 1, .value_type = COLLX_FLOAT32}, NULL) ==
	     COLLX_ERR_UNSUPPORTED);
	NEED(cx_cuda_sparse_add(x, ((size_t)1 << 32) + 1, x, 4, x, NULL, NULL) ==
	     COLLX_ERR_INVALID);
	NEED(cx_cuda_sparse_add(x, 4, x, 4, x, (void *)12, NULL) == COLLX_ERR_INVALID);
	NEED(cx_cuda_sparse_merge(x, 16, COLLX_FLOAT32, in, &len, 1, 4, x, NULL, NULL) ==
	     COLLX_ERR_INVALID);
	NEED(cx_cuda_sparse_merge(x, 64, COLLX_FLOAT32, in, &len, 17, 4, x, NULL, NULL) ==
	     COLLX_ERR_INVALID);
	NEED(cx_cuda_sparse_merge(x, SIZE_MAX, COLLX_FLOAT32, in, &len, 1, (size_t)1 << 31, x,
				  NULL, NULL) == COLLX_ERR_UNSUPPORTED);
	NEED(cx_cuda_topk_work(4, 5) == 0);
	NEED(cx_cuda_encode(CX_Q8, COLLX_FLOAT32, x, x, 0, NULL, NULL) == 0);
	NEED(fake->launches == 0 && fake->loads == 0);
}

/* ---- captures: with the emulation, the first call ever within one ---- */

static void captures(const void *arg)
{
	char why[GPU_WHY] = "";

	(void)arg;
	if (gpu_capture_case(0, 0, why)) {
		puts(why);
		complain(__LINE__, "graphs give what the host does");
	}
	NEED(fake->loads > 0);
}

/* The calls are in the graph alone: nothing runs before it does. */
static void launches_nothing(const void *arg)
{
	static float x[64];
	static unsigned char wire[256];

	(void)arg;
	gpu_capture();
	NEED(cx_cuda_encode(CX_Q8, COLLX_FLOAT32, wire, x, 64, NULL, NULL) == 0);
	NEED(fake->launches == 0);
	gpu_drop(gpu_graph());
	NEED(fake->launches == 0 && !gpu_wrong());
}

/* Not a byte of these exists: what arrives at the driver is looked at. */
struct large {
	size_t count;
	unsigned grid;
};

static void is_large(const void *arg)
{
	const struct large *l = arg;
	char *x = (char *)0x100000000000, *y = (char *)0x200000000000;

	NEED(cx_cuda_encode(CX_Q8, COLLX_FLOAT32, y, x, l->count, NULL, NULL) == 0);
	NEED(fake->last_grid == l->grid);
	NEED(cx_cuda_fold(y, (const void *const[]){x, y}, 2, l->count, COLLX_FLOAT32, COLLX_SUM, 1,
			  NULL) == 0);
	NEED(fake->last_grid == (l->count + 2047) / 2048);
	NEED(cx_cuda_decode(CX_Q4, COLLX_BFLOAT16, y, x + 1, l->count, NULL) == 0);
	NEED(fake->last_grid == l->grid);
	NEED(cx_cuda_encode(CX_Q8, COLLX_FLOAT32, y, x, (size_t)1 << 50, NULL, NULL) ==
	     COLLX_ERR_INVALID);
}

/* Whose memory is it. */
static void tells_memory(const void *arg)
{
	int here = 0;
	const void *const p[] = {NULL, &here, gpu_make(NULL, 16, 0)};

	(void)arg;
	NEED(cx_cuda_memory(p, 3) == p[2] && !cx_cuda_memory(p, 2));
	fake->managed = 1;
	NEED(!cx_cuda_memory(p, 3));
	fake->managed = 0;
	fake->sticky = 700; /* the host goes on */
	NEED(!cx_cuda_memory(p, 3));
}

/* The driver comes later: seen with the next tick of the clock, and asked from then on. */
static void tells_later(const void *library)
{
	const void *p = gpu_make(NULL, 16, 0);

	cx_cuda_library = "libmissing.so.1";
	for (int i = 0; i < 1000; i++)
		NEED(!cx_cuda_memory(&p, 1));
	NEED(fake->asked == 0);
	cx_cuda_library = library;
	usleep(50000);
	NEED(cx_cuda_memory(&p, 1) == p && fake->asked == 2);
	NEED(cx_cuda_memory(&p, 1) == p && fake->asked == 4);
}

int main(void)
{
	static const struct large sizes[] = {
		{((size_t)1 << 31) + 5, (1 << 18) + 1}, {((size_t)1 << 32) + 8192, (1 << 19) + 1},
		{(size_t)1 << 40, 1 << 27},
	};
	static const int old[] = {0, 9000, CUDA_VERSION - 1000};
	char why[256];
	int bad = gpu_open(why, sizeof(why));

	if (bad) {
		puts(why);
		return bad;
	}
	fake = dlsym(dlopen(cx_cuda_library, RTLD_NOW), "fake_libcuda");
	bad |= child(captures, NULL) | child(launches_nothing, NULL) | child(tells_memory, NULL) |
	       child(tells_later, cx_cuda_library);
	fake->hooks.find = NULL;
	fake->hooks.launch = NULL;
	bad |= child(opens_not, "/nonexistent/libcuda.so.1") | child(opens_not, "libm.so.6");
	for (size_t i = 0; i < sizeof(old) / sizeof(old[0]); i++)
		bad |= child(is_too_old, &old[i]);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		bad |= child(is_large, &sizes[i]);
	bad |= child(is_broken, NULL) | child(is_forked, NULL) | child(is_threaded, NULL);
	bad |= child(has_no_device, NULL) | child(reloads, NULL) | child(refuses, NULL);
	bad |= inject_all();
	for (unsigned i = 0; i < 18; i++)
		if (i % 2 == 0 || i < 4)
			bad |= child(fails_within, &i);
	for (unsigned i = 0; i < 6; i++)
		bad |= child(sparse_fails_within, &i);
	printf("%u cases\n", cases);
	return bad;
}
