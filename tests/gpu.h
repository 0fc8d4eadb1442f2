/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A GPU for tests: the real one (gpu_real.c) or the emulated one (gpu_emulated.c), the
 * same test programs are linked with either. Nothing here needs a test framework.
 */
#ifndef GPU_H
#define GPU_H

#include <stddef.h>
#include <stdint.h>

extern const int gpu_is_emulated;

/* 0; 77 when there is none, or 1: why is the reason. */
int gpu_open(char *why, size_t len);
/* For cx_cuda_ functions; a CUstream. */
void *gpu_stream(void);

/* Device memory that begins `offset` bytes after a multiple of 256 and holds a copy of
 * host's len bytes; host NULL: a pattern. */
void *gpu_make(const void *host, size_t len, unsigned offset);
/* After all that was launched. */
void gpu_take(void *host, const void *device, size_t len);
void gpu_put(void *device, const void *host, size_t len);
/* All that gpu_make made is released. */
void gpu_reset(void);
/* Real alone: each piece is an allocation of its own from now on, whose ends a tool sees. */
void gpu_apart(void);

/* Waits; the first thing that went wrong, or NULL. */
const char *gpu_wrong(void);
void gpu_forgive(void);
/* The caller saw an error of the library, say: the first one stays. */
void gpu_note(const char *what);

/* ---- for both: gpu_both.c ---- */

/* Are the host's pages the GPU's, too? Then it refuses no pointer. */
int gpu_reaches_host(void);
/* Kernels that the driver was given since the first call of this. */
unsigned long gpu_launched(void);

/* A call that launches, and notes why if it does not. While gpu_captures is on, what it launches
 * is captured, and a graph made of it runs instead. Its arguments make nothing on the GPU. */
#define GPU_LAUNCH(call) (gpu_begin(), gpu_end(call))
extern int gpu_captures;
void gpu_begin(void);
void gpu_end(int rc);
/* A graph of what is launched in between, to be run again and again; NULL: gpu_wrong() says why. */
void gpu_capture(void);
struct gpu_graph *gpu_graph(void);
void gpu_run(struct gpu_graph *graph);
void gpu_drop(struct gpu_graph *graph);

/* Emulated alone: how the next launches are scheduled. */
void gpu_seed(uint64_t seed);

#endif
