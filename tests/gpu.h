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
/* All that gpu_make made is released. */
void gpu_reset(void);

/* Waits; the first thing that went wrong, or NULL. */
const char *gpu_wrong(void);
void gpu_forgive(void);
/* The caller saw an error of the library, say: the first one stays. */
void gpu_note(const char *what);

/* Emulated alone: how the next launches are scheduled. */
void gpu_seed(uint64_t seed);

#endif
