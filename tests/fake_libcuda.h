/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A double of NVIDIA's driver library, built as a shared object that the loader opens
 * in its place. Device memory is the host's. Any call can be made to fail, and each does in
 * a child of the process that began; a launch
 * goes to a hook, the emulation say, or nowhere. A stream can be captured and replayed;
 * what a capture forbids is an error. Found by dlsym.
 */
#ifndef FAKE_LIBCUDA_H
#define FAKE_LIBCUDA_H

#include <stddef.h>

struct fake_launch {
	void *function; /* as `find` gave it */
	unsigned grid, block;
	size_t shared;
	const void *args;
};

/* NULL: the double does what is simplest. */
struct fake_hooks {
	void *(*find)(const char *name);
	size_t (*args_len)(void *function);
	int (*launch)(const struct fake_launch *launch); /* 0, or a CUresult */
	void *(*alloc)(size_t len);
	void (*release)(void *p);
	int (*is_device)(const void *p);
};

/* Of a call by name, "cuMemAlloc_v2": the nth from now on, 0 the next, returns this. */
struct fake_injection {
	const char *call;
	unsigned nth;
	int result;
};

struct fake_libcuda {
	struct fake_hooks hooks;
	struct fake_injection inject;
	int version, devices;
	_Atomic unsigned launches;
	unsigned last_grid, loads, unloads, allocs, pushes, pops;
	int other_context; /* another one than the stream's is current */
	unsigned long long context_id;
	unsigned load_us; /* a load takes that long */
	int sticky;   /* not 0: what every call returns from now on */
	int pageable; /* the GPU follows the host's page tables */
	int managed;  /* device memory is the host's, too */
	_Atomic unsigned asked; /* whose memory it is */
};

/* The one symbol beside the driver's: its state, to be changed at will. */
extern struct fake_libcuda fake_libcuda;

#endif
