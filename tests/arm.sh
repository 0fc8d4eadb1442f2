#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The kernels for 64-bit Arm (NEON) give the bytes that they give here: what
# tests/kernel_sums.c prints, built for both, is the same here and under qemu-aarch64.
# Needs gcc-aarch64-linux-gnu and qemu-user.
set -u
src=$(cd "${srcdir:-$(dirname "$0")/..}" && pwd) || exit 99
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
cases=${COLLX_ARM_CASES:-1051} # each length up to so many

arm=aarch64-linux-gnu-gcc
{ command -v $arm && command -v qemu-aarch64; } >/dev/null || {
	echo 'no native Arm'
	exit 77
}
flags='-std=gnu11 -O2 -ffp-contract=off -Wall -Wextra -Wno-psabi -static'
files=(tests/kernel_sums.c tests/codec_cases.c kernels/codec.c kernels/codec_c.c
	kernels/codec_vector.c kernels/kernel.c kernels/reduce_c.c kernels/sparse.c
	kernels/topk.c)

# sums NAME COMPILER RUN...: prints what the program says, built by that compiler.
sums() {
	local name=$1 compiler=$2
	shift 2
	# shellcheck disable=SC2086
	(cd "$src" && $compiler $flags -I include -I . -o "$work/$name" "${files[@]}") >&2 &&
		"$@" "$work/$name" "$cases" >"$work/$name.sums"
}

sums here "${CC:-cc}" &
sums arm $arm qemu-aarch64 || { cat "$work/arm.sums"; exit 1; }
wait $! || { cat "$work/here.sums"; exit 1; }
diff "$work/here.sums" "$work/arm.sums" || exit 1
cat "$work/arm.sums"
