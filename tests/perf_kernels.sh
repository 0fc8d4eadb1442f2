#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# collx-perf kernels measures as much and as often as it is told to, also where that is what
# collectives have without -b and -n, and has a figure for every row. Runs in the build folder.
set -u
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

die() { echo "$*"; cat "$dir/log"; exit 1; }
# kernels ELEMENTS ROUNDS OPTION...: does it say that it measured that?
kernels() {
	local first="# collx-perf kernels: $1 elements, $2 rounds, one core, GB/s: R "
	shift 2
	./collx-perf kernels "$@" -J "$dir/json" >"$dir/log" 2>&1 || die "kernels $*: status $?"
	grep -qF "$first" "$dir/log" || die "kernels $*: not '$first'"
}

kernels 1048576 20 -b 4M -n 20
kernels 8388608 1 -b 32M -n 1
rows=$(grep -c $'^\t{ "[a-z]' "${srcdir:-.}/perf/perf_kernels.c")
[ "$rows" -ge 40 ] || die "the table of rows is not found"
# As many in the file as in the table, each with a time.
seconds=$(sed -n 's/.*"seconds": \([0-9.e+-]*\),.*"share_of_bound": [0-9.]*,.*/\1/p' "$dir/json")
[ "$(wc -l <<<"$seconds")" = "$rows" ] || die "not $rows rows: $seconds"
awk '$1 <= 0 { exit 1 }' <<<"$seconds" || die "a row without a time: $seconds"
