/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * NVIDIA's driver library, opened when it is first needed: libcollx is linked with
 * nothing of CUDA and runs where there is none. Private to kernels/cuda/, and to
 * the tests and benchmarks that need device memory, streams and events.
 */
#ifndef CX_CUDA_DRIVER_H
#define CX_CUDA_DRIVER_H

#include <cuda.h>

/* What we call, by the names of cuda.h; it renames some to NAME_v2. */
#define CX_CUDA_CALLS_CORE(F) \
	F(cuInit) F(cuDriverGetVersion) F(cuGetErrorName) F(cuGetErrorString) \
	F(cuDeviceGetCount) F(cuDeviceGet) F(cuDeviceGetName) F(cuDeviceGetAttribute) \
	F(cuCtxGetCurrent) F(cuCtxPushCurrent) F(cuCtxPopCurrent) F(cuCtxGetDevice) \
	F(cuStreamGetCtx) F(cuPointerGetAttribute) F(cuThreadExchangeStreamCaptureMode) \
	F(cuModuleLoadData) F(cuModuleUnload) F(cuModuleGetFunction) F(cuFuncSetAttribute) \
	F(cuLaunchKernel)
#define CX_CUDA_CALLS_MEMORY(F) \
	F(cuDevicePrimaryCtxRetain) F(cuDevicePrimaryCtxRelease) F(cuMemAlloc) F(cuMemFree) \
	F(cuMemcpyHtoD) F(cuMemcpyDtoH) F(cuMemcpyDtoDAsync) F(cuMemsetD32Async) \
	F(cuStreamCreate) F(cuStreamDestroy) F(cuStreamSynchronize) F(cuEventCreate) \
	F(cuEventRecord) F(cuEventSynchronize) F(cuEventElapsedTime) F(cuEventDestroy) \
	F(cuStreamBeginCapture) F(cuStreamEndCapture) F(cuGraphInstantiate) \
	F(cuGraphLaunch) F(cuGraphExecDestroy) F(cuGraphDestroy)

/* CUDA_VERSION of the toolkit that made the kernels; image.c, which tools/gpu-check renews
 * with them. */
extern const int cx_cuda_toolkit;

#define CX_CUDA_MEMBER(f) __typeof__(f) *f;
struct cx_cuda_driver {
	CX_CUDA_CALLS_CORE(CX_CUDA_MEMBER)
	CX_CUDA_CALLS_MEMORY(CX_CUDA_MEMBER)
	/* Of CUDA 12, or NULL: contexts that live at a former one's address can be told. */
	CUresult (*ctx_id)(CUcontext ctx, unsigned long long *id);
	int version; /* as cuDriverGetVersion says, 13000 say */
};

/*
 * 0 and *driver, or a negative code with a recorded line: no library, too old, no
 * device, not permitted. What the first call found stays so for the process.
 */
int cx_cuda_driver(const struct cx_cuda_driver **driver);

/* Records what failed and the driver's words for it; the code for our caller. */
int cx_cuda_fail(const struct cx_cuda_driver *d, CUresult r, const char *what);

#endif
