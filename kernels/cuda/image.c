/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The fat binaries that nvcc made, as constants of the library. The build runs at the
 * top of the build folder, where they are; Makefile.am knows that this depends on them.
 */
#include "kernels/cuda/module.h"

const int cx_cuda_toolkit = CUDA_VERSION;

#define TEXT(x) #x
#define IMAGE(name) \
	__asm__(".pushsection .rodata\n" \
		".balign 64\n.globl cx_cuda_image_" TEXT(name) "\n" \
		".hidden cx_cuda_image_" TEXT(name) "\n" \
		"cx_cuda_image_" TEXT(name) ":\n" \
		".incbin \"kernels/cuda/" TEXT(name) ".fatbin\"\n" \
		".popsection\n");

IMAGE(codec)
IMAGE(fuse)
IMAGE(fold)
IMAGE(topk)
IMAGE(sparse)
