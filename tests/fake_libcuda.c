/* SPDX-License-Identifier: BSD-3-Clause */
#include <cuda.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/fake_libcuda.h"

struct fake_libcuda fake_libcuda = {.version = CUDA_VERSION, .devices = 1, .context_id = 1};

enum { MOST_NODES = 64 };
static struct node {
	struct fake_launch launch;
	unsigned char args[4096];
	CUdeviceptr set;
	unsigned value;
	size_t n;
} nodes[MOST_NODES];
static unsigned nnodes;
static int capturing;
static CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
static pid_t started; /* by whom */
static char context, other, stream_object, event_object, graph_object;

/* What this call is to return, by its name. */
static CUresult begin(const char *call)
{
	struct fake_injection *i = &fake_libcuda.inject;

	if (started && started != getpid())
		return CUDA_ERROR_NOT_INITIALIZED;
	if (fake_libcuda.sticky)
		return (CUresult)fake_libcuda.sticky;
	if (!i->call || strcmp(i->call, call))
		return CUDA_SUCCESS;
	if (i->nth--)
		return CUDA_SUCCESS;
	i->call = NULL;
	return (CUresult)i->result;
}

#define BEGIN(call) \
	CUresult r = begin(#call);

/* Calls that a capture in this thread forbids, unless relaxed. */
static CUresult unsafe(CUresult r)
{
	if (r == CUDA_SUCCESS && capturing && mode != CU_STREAM_CAPTURE_MODE_RELAXED)
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	return r;
}

CUresult cuInit(unsigned flags)
{
	CUresult r = begin("cuInit");

	(void)flags;
	if (r == CUDA_SUCCESS)
		started = getpid();
	return r;
}

CUresult cuDriverGetVersion(int *version)
{
	*version = fake_libcuda.version;
	return begin("cuDriverGetVersion");
}

CUresult cuGetErrorName(CUresult error, const char **name)
{
	*name = error == CUDA_ERROR_UNKNOWN ? NULL : "CUDA_ERROR_OF_THE_DOUBLE";
	return *name ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char **text)
{
	*text = error == CUDA_ERROR_UNKNOWN ? NULL : "words of the double";
	return *text ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDeviceGetCount(int *count)
{
	*count = fake_libcuda.devices;
	return begin("cuDeviceGetCount");
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
	*device = ordinal;
	return begin("cuDeviceGet");
}

CUresult cuDeviceGetName(char *name, int len, CUdevice device)
{
	(void)device;
	strncpy(name, "Double", (size_t)len);
	return begin("cuDeviceGetName");
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
	(void)device;
	*value = attribute == CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS ?
		 fake_libcuda.pageable : 4;
	return begin("cuDeviceGetAttribute");
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *ctx, CUdevice device)
{
	(void)device;
	*ctx = (CUcontext)&context;
	return begin("cuDevicePrimaryCtxRetain");
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
	(void)device;
	return begin("cuDevicePrimaryCtxRelease_v2");
}

CUresult cuCtxGetCurrent(CUcontext *ctx)
{
	*ctx = fake_libcuda.other_context ? (CUcontext)&other : (CUcontext)&context;
	return begin("cuCtxGetCurrent");
}

CUresult cuCtxGetId(CUcontext ctx, unsigned long long *id)
{
	(void)ctx;
	*id = fake_libcuda.context_id;
	return begin("cuCtxGetId");
}

CUresult cuCtxPushCurrent(CUcontext ctx)
{
	(void)ctx;
	fake_libcuda.pushes++;
	return begin("cuCtxPushCurrent_v2");
}

CUresult cuCtxPopCurrent(CUcontext *ctx)
{
	*ctx = (CUcontext)&context;
	fake_libcuda.pops++;
	return begin("cuCtxPopCurrent_v2");
}

CUresult cuCtxGetDevice(CUdevice *device)
{
	*device = 0;
	return begin("cuCtxGetDevice");
}

CUresult cuStreamGetCtx(CUstream stream, CUcontext *ctx)
{
	(void)stream;
	*ctx = (CUcontext)&context;
	return begin("cuStreamGetCtx");
}

CUresult cuPointerGetAttribute(void *data, CUpointer_attribute attribute, CUdeviceptr p)
{
	BEGIN(cuPointerGetAttribute)

	fake_libcuda.asked++;
	if (r != CUDA_SUCCESS)
		return r;
	if (!fake_libcuda.hooks.is_device || !fake_libcuda.hooks.is_device((const void *)p))
		return CUDA_ERROR_INVALID_VALUE;
	*(unsigned *)data = attribute == CU_POINTER_ATTRIBUTE_IS_MANAGED ?
			    (unsigned)fake_libcuda.managed : CU_MEMORYTYPE_DEVICE;
	return CUDA_SUCCESS;
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *with)
{
	CUstreamCaptureMode was = mode;

	mode = *with;
	*with = was;
	return begin("cuThreadExchangeStreamCaptureMode");
}

CUresult cuModuleLoadData(CUmodule *module, const void *image)
{
	/* A fat binary begins with this. */
	static const unsigned char magic[] = {0x50, 0xed, 0x55, 0xba};
	BEGIN(cuModuleLoadData)

	r = unsafe(r);
	if (r != CUDA_SUCCESS)
		return r;
	if (memcmp(image, magic, sizeof(magic)))
		return CUDA_ERROR_INVALID_IMAGE;
	usleep(fake_libcuda.load_us);
	fake_libcuda.loads++;
	*module = (CUmodule)(uintptr_t)image;
	return CUDA_SUCCESS;
}

CUresult cuModuleUnload(CUmodule module)
{
	BEGIN(cuModuleUnload)

	(void)module;
	fake_libcuda.unloads++;
	return unsafe(r);
}

CUresult cuModuleGetFunction(CUfunction *f, CUmodule module, const char *name)
{
	BEGIN(cuModuleGetFunction)

	(void)module;
	*f = (CUfunction)&context;
	if (r == CUDA_SUCCESS && fake_libcuda.hooks.find)
		*f = (CUfunction)fake_libcuda.hooks.find(name);
	return r == CUDA_SUCCESS && !*f ? CUDA_ERROR_NOT_FOUND : r;
}

CUresult cuFuncSetAttribute(CUfunction f, CUfunction_attribute attribute, int value)
{
	(void)f;
	(void)attribute;
	(void)value;
	return begin("cuFuncSetAttribute");
}

static CUresult carry_out(const struct fake_launch *l)
{
	fake_libcuda.launches++;
	fake_libcuda.last_grid = l->grid;
	return fake_libcuda.hooks.launch ? (CUresult)fake_libcuda.hooks.launch(l) : CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
			unsigned by, unsigned bz, unsigned shared, CUstream stream, void **params,
			void **extra)
{
	struct fake_launch l = {f, gx, bx, shared, params[0]};
	struct node *n = &nodes[nnodes];
	BEGIN(cuLaunchKernel)

	(void)stream;
	(void)extra;
	if (r != CUDA_SUCCESS)
		return r;
	if (gy != 1 || gz != 1 || by != 1 || bz != 1 || !gx || bx > 1024 || !f)
		return CUDA_ERROR_INVALID_VALUE;
	if (!capturing)
		return carry_out(&l);
	if (nnodes == MOST_NODES || !fake_libcuda.hooks.args_len)
		return CUDA_ERROR_OUT_OF_MEMORY;
	memcpy(n->args, params[0], fake_libcuda.hooks.args_len(f));
	n->launch = l;
	n->launch.args = n->args;
	n->n = 0;
	nnodes++;
	return CUDA_SUCCESS;
}

CUresult cuMemAlloc(CUdeviceptr *p, size_t len)
{
	void *room;
	BEGIN(cuMemAlloc_v2)

	r = unsafe(r);
	if (r != CUDA_SUCCESS)
		return r;
	fake_libcuda.allocs++;
	room = fake_libcuda.hooks.alloc ? fake_libcuda.hooks.alloc(len) : malloc(len);
	*p = (CUdeviceptr)(uintptr_t)room;
	return room ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemFree(CUdeviceptr p)
{
	if (fake_libcuda.hooks.release)
		fake_libcuda.hooks.release((void *)p);
	else
		free((void *)p);
	return begin("cuMemFree_v2");
}

CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t len)
{
	memcpy((void *)to, from, len);
	return begin("cuMemcpyHtoD_v2");
}

CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, size_t len)
{
	memcpy(to, (const void *)from, len);
	return begin("cuMemcpyDtoH_v2");
}

CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t len, CUstream stream)
{
	(void)stream;
	memcpy((void *)to, (const void *)from, len);
	return begin("cuMemcpyDtoDAsync_v2");
}

static void set(CUdeviceptr p, unsigned value, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((unsigned *)p)[i] = value;
}

CUresult cuMemsetD32Async(CUdeviceptr p, unsigned value, size_t n, CUstream stream)
{
	BEGIN(cuMemsetD32Async)

	(void)stream;
	if (r != CUDA_SUCCESS)
		return r;
	if (!capturing) {
		set(p, value, n);
		return CUDA_SUCCESS;
	}
	if (nnodes == MOST_NODES)
		return CUDA_ERROR_OUT_OF_MEMORY;
	nodes[nnodes].set = p;
	nodes[nnodes].value = value;
	nodes[nnodes++].n = n;
	return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *stream, unsigned flags)
{
	(void)flags;
	*stream = (CUstream)&stream_object;
	return begin("cuStreamCreate");
}

CUresult cuStreamDestroy(CUstream stream)
{
	(void)stream;
	return begin("cuStreamDestroy_v2");
}

CUresult cuStreamSynchronize(CUstream stream)
{
	(void)stream;
	return unsafe(begin("cuStreamSynchronize"));
}

CUresult cuEventCreate(CUevent *event, unsigned flags)
{
	(void)flags;
	*event = (CUevent)&event_object;
	return begin("cuEventCreate");
}

CUresult cuEventRecord(CUevent event, CUstream stream)
{
	(void)event;
	(void)stream;
	return begin("cuEventRecord");
}

CUresult cuEventSynchronize(CUevent event)
{
	(void)event;
	return begin("cuEventSynchronize");
}

CUresult cuEventElapsedTime(float *ms, CUevent from, CUevent to)
{
	(void)from;
	(void)to;
	*ms = 1.0f;
	return begin("cuEventElapsedTime");
}

CUresult cuEventDestroy(CUevent event)
{
	(void)event;
	return begin("cuEventDestroy_v2");
}

CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode how)
{
	(void)stream;
	mode = how;
	nnodes = 0;
	capturing = 1;
	return begin("cuStreamBeginCapture_v2");
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
	(void)stream;
	capturing = 0;
	*graph = (CUgraph)&graph_object;
	return begin("cuStreamEndCapture");
}

CUresult cuGraphInstantiate(CUgraphExec *exec, CUgraph graph, unsigned long long flags)
{
	(void)graph;
	(void)flags;
	*exec = (CUgraphExec)&graph_object;
	return begin("cuGraphInstantiateWithFlags");
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream)
{
	BEGIN(cuGraphLaunch)

	(void)exec;
	(void)stream;
	for (unsigned i = 0; r == CUDA_SUCCESS && i < nnodes; i++) {
		if (nodes[i].n)
			set(nodes[i].set, nodes[i].value, nodes[i].n);
		else
			r = carry_out(&nodes[i].launch);
	}
	return r;
}

CUresult cuGraphExecDestroy(CUgraphExec exec)
{
	(void)exec;
	return begin("cuGraphExecDestroy");
}

CUresult cuGraphDestroy(CUgraph graph)
{
	(void)graph;
	return begin("cuGraphDestroy");
}
