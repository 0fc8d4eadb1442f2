/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gpu_cub MIB ROUNDS FILE: what CUB, which comes with nvcc, takes for what some of our kernels
 * do, on as much data as gpu_bench. tools/gpu-check builds it where the GPU is. In each round a
 * copy on the device is timed and then each of them; the best counts. CUB has no quantization.
 */
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_select.cuh>
#include <cub/device/device_transform.cuh>
#include <cuda_bf16.h>
#include <cuda/std/tuple>
#include <thrust/iterator/counting_iterator.h>

namespace {

struct bench {
	size_t n;
	float *x, *y, *out;
	uint32_t *keys, *index, *index_out;
	void *temp;
	size_t temp_len;
	int *chosen;
};

struct sum {
	template <class T> __device__ T operator()(T a, T b) const { return a + b; }
};

struct is_large {
	const float *x;
	float limit;
	__device__ bool operator()(uint32_t i) const { return fabsf(x[i]) >= limit; }
};

__global__ void fill(float *x, uint32_t *index, size_t n, uint32_t seed)
{
	for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n;
	     i += (size_t)gridDim.x * blockDim.x) {
		float s = -2.0f;
		uint32_t r = seed ^ (uint32_t)i * 2654435761u;

		for (int k = 0; k < 4; k++) {
			r = r * 1664525u + 1013904223u;
			s += (float)(r >> 8) * 0x1p-24f;
		}
		x[i] = s * 1e-3f;
		index[i] = (uint32_t)i;
	}
}

void must(cudaError_t e, const char *what)
{
	if (e == cudaSuccess)
		return;
	std::fprintf(stderr, "gpu_cub: %s: %s\n", what, cudaGetErrorString(e));
	std::exit(e == cudaErrorNoDevice || e == cudaErrorInsufficientDriver ? 77 : 1);
}

/* With temp NULL each but the copy says how much it needs. */
cudaError_t copy(bench &b, void *, size_t &)
{
	return cudaMemcpyAsync(b.out, b.x, b.n * 4, cudaMemcpyDeviceToDevice);
}

cudaError_t reduce_float(bench &b, void *temp, size_t &)
{
	return temp ? cub::DeviceTransform::Transform(cuda::std::make_tuple(b.x, b.y), b.out,
						      (int64_t)b.n, sum()) : cudaSuccess;
}

cudaError_t reduce_bf16(bench &b, void *temp, size_t &)
{
	auto *x = (__nv_bfloat16 *)b.x, *y = (__nv_bfloat16 *)b.y, *out = (__nv_bfloat16 *)b.out;

	return temp ? cub::DeviceTransform::Transform(cuda::std::make_tuple(x, y), out,
						      (int64_t)b.n, sum()) : cudaSuccess;
}

/* Those above a threshold that about one in a hundred is above: no residual, no exact k. */
cudaError_t select(bench &b, void *temp, size_t &len)
{
	return cub::DeviceSelect::If(temp, len, thrust::counting_iterator<uint32_t>(0),
				     b.index_out, b.chosen, (int64_t)b.n, is_large{b.x, 1.35e-3f});
}

/* Exact top-k as one has it from CUB: all keys sorted. */
cudaError_t sort(bench &b, void *temp, size_t &len)
{
	return cub::DeviceRadixSort::SortPairsDescending(temp, len, (const uint32_t *)b.x, b.keys,
							 b.index, b.index_out, (int64_t)b.n, 0, 31);
}

const struct {
	const char *name;
	cudaError_t (*run)(bench &b, void *temp, size_t &len);
} cases[] = {
	{"copy", copy}, {"reduce 2 float: DeviceTransform", reduce_float},
	{"reduce 2 bfloat16: DeviceTransform", reduce_bf16},
	{"select 1% at a threshold: DeviceSelect::If", select},
	{"top-k 1%: DeviceRadixSort::SortPairsDescending", sort},
};
enum { CASES = sizeof(cases) / sizeof(cases[0]) };

template <class T> T *allocate(size_t n)
{
	void *p = nullptr;

	must(cudaMalloc(&p, n * sizeof(T)), "allocating");
	return (T *)p;
}

void prepare(bench &b)
{
	b.x = allocate<float>(b.n);
	b.y = allocate<float>(b.n);
	b.out = allocate<float>(b.n);
	b.keys = allocate<uint32_t>(b.n);
	b.index = allocate<uint32_t>(b.n);
	b.index_out = allocate<uint32_t>(b.n);
	b.chosen = allocate<int>(2);
	fill<<<1024, 256>>>(b.y, b.index, b.n, 1);
	fill<<<1024, 256>>>(b.x, b.index, b.n, 2);
	must(cudaGetLastError(), "filling");
	for (int i = 1; i < CASES; i++) {
		size_t len = 0;

		must(cases[i].run(b, nullptr, len), cases[i].name);
		b.temp_len = len > b.temp_len ? len : b.temp_len;
	}
	b.temp = allocate<char>(b.temp_len + 1);
}

float time_of(bench &b, int which, cudaEvent_t from, cudaEvent_t to)
{
	size_t len = b.temp_len;
	float ms = 0;

	must(cudaEventRecord(from), "timing");
	must(cases[which].run(b, b.temp, len), cases[which].name);
	must(cudaEventRecord(to), "timing");
	must(cudaEventSynchronize(to), cases[which].name);
	must(cudaEventElapsedTime(&ms, from, to), "timing");
	return ms;
}

}

int main(int argc, char **argv)
{
	bench b = {};
	float best[CASES] = {};
	int rounds = argc > 2 ? std::atoi(argv[2]) : 5;
	FILE *json = argc > 3 ? std::fopen(argv[3], "w") : stdout;
	cudaEvent_t from, to;

	b.n = (argc > 1 ? std::strtoull(argv[1], nullptr, 0) : 1024) << 18;
	must(cudaEventCreate(&from), "starting");
	must(cudaEventCreate(&to), "starting");
	prepare(b);
	for (int r = 0; r < rounds * 3; r++)
		for (int i = 0; i < CASES; i++) {
			float ms = time_of(b, i, from, to);

			if (r && (best[i] == 0 || ms < best[i]))
				best[i] = ms;
		}
	if (!json)
		return 1;
	std::fprintf(json, "{\"cub\": %d, \"elements\": %zu, \"kernels\": [", CUB_VERSION, b.n);
	for (int i = 0; i < CASES; i++) {
		std::printf("%-50s %9.4f ms\n", cases[i].name, best[i]);
		std::fprintf(json, "%s\n  {\"kernel\": \"%s\", \"ms\": %.5g}", i ? "," : "",
			     cases[i].name, best[i]);
	}
	std::fprintf(json, "\n]}");
	return 0;
}
