/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the real GPU and the emulated one have in common: all of it goes through the driver that
 * the library found.
 */
#include <stdlib.h>

#include "base.h"
#include "gpu.h"
#include "kernels/cuda/driver.h"

int gpu_captures;

/* Is this what the driver said? The first time that it is not is noted. */
static int is_ok(const struct cx_cuda_driver *d, CUresult r, const char *what)
{
	if (r == CUDA_SUCCESS)
		return 1;
	cx_cuda_fail(d, r, what);
	gpu_note(cx_error_text());
	return 0;
}

static const struct cx_cuda_driver *driver(void)
{
	const struct cx_cuda_driver *d = NULL;

	if (cx_cuda_driver(&d))
		abort(); /* gpu_open had it */
	return d;
}

int gpu_reaches_host(void)
{
	const struct cx_cuda_driver *d = driver();
	CUdevice device;
	int yes = 0;

	return is_ok(d, d->cuDeviceGet(&device, 0), "cuDeviceGet") &&
	       is_ok(d, d->cuDeviceGetAttribute(&yes, CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS,
						device), "cuDeviceGetAttribute") && yes;
}

static unsigned long launched;
static __typeof__(cuLaunchKernel) *launch;

static CUresult count(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
		      unsigned by, unsigned bz, unsigned shared, CUstream stream, void **params,
		      void **extra)
{
	launched++;
	return launch(f, gx, gy, gz, bx, by, bz, shared, stream, params, extra);
}

/* The library's table of calls is constant for others; the test puts itself into it. */
unsigned long gpu_launched(void)
{
	struct cx_cuda_driver *d = (struct cx_cuda_driver *)(uintptr_t)driver();

	if (!launch) {
		launch = d->cuLaunchKernel;
		d->cuLaunchKernel = count;
	}
	return launched;
}

struct gpu_graph {
	CUgraph graph;
	CUgraphExec exec;
};

/* Of the whole process, so that whatever a capture forbids fails. */
void gpu_capture(void)
{
	const struct cx_cuda_driver *d = driver();

	is_ok(d, d->cuStreamBeginCapture(gpu_stream(), CU_STREAM_CAPTURE_MODE_GLOBAL),
	      "cuStreamBeginCapture");
}

void gpu_begin(void)
{
	if (gpu_captures)
		gpu_capture();
}

struct gpu_graph *gpu_graph(void)
{
	const struct cx_cuda_driver *d = driver();
	struct gpu_graph *g = calloc(1, sizeof(*g));

	if (!g)
		abort();
	if (is_ok(d, d->cuStreamEndCapture(gpu_stream(), &g->graph), "cuStreamEndCapture") &&
	    is_ok(d, d->cuGraphInstantiate(&g->exec, g->graph, 0), "cuGraphInstantiate"))
		return g;
	free(g);
	return NULL;
}

void gpu_run(struct gpu_graph *g)
{
	const struct cx_cuda_driver *d = driver();

	if (g)
		is_ok(d, d->cuGraphLaunch(g->exec, gpu_stream()), "cuGraphLaunch");
}

void gpu_drop(struct gpu_graph *g)
{
	const struct cx_cuda_driver *d = driver();

	if (!g)
		return;
	is_ok(d, d->cuStreamSynchronize(gpu_stream()), "a replayed graph");
	is_ok(d, d->cuGraphExecDestroy(g->exec), "cuGraphExecDestroy");
	is_ok(d, d->cuGraphDestroy(g->graph), "cuGraphDestroy");
	free(g);
}

void gpu_end(int rc)
{
	struct gpu_graph *g;

	if (rc)
		gpu_note(cx_error_text());
	if (!gpu_captures)
		return;
	g = gpu_graph();
	gpu_run(g);
	gpu_drop(g);
}
