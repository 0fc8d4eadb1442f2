#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What `make install` puts somewhere is enough to build and run the example, shared and
# static, and `make uninstall` takes all of it away. Runs in the build folder.
set -u
src=${srcdir:-$(dirname "$0")/..}
command -v pkg-config >/dev/null || { echo "no pkg-config"; exit 77; }
to=$(mktemp -d)
trap 'rm -rf "$to"' EXIT
fail() { echo "$1"; tail -n 20 "$to/log"; exit 1; }
export MAKEFLAGS='' PKG_CONFIG_SYSROOT_DIR=$to

make install DESTDIR="$to" >"$to/log" 2>&1 || fail "Makefile.am:1: make install failed"
PKG_CONFIG_PATH=$(dirname "$(find "$to" -name collx.pc)")
export PKG_CONFIG_PATH
run=$(find "$to" -name collx-run)
LD_LIBRARY_PATH=$(dirname "$(find "$to" -name libcollx.so)")
export LD_LIBRARY_PATH

# build HOW FLAGS...: compiles the example and runs it on 2 ranks.
build() {
	local how=$1
	shift
	# shellcheck disable=SC2086
	${CC:-cc} ${CX_CFLAGS:-} "$src/examples/allreduce.c" -o "$to/example" "$@" \
		>"$to/log" 2>&1 || fail "collx.pc.in:1: the example does not build, $how"
	"$run" -n 2 "$to/example" >"$to/log" 2>&1 ||
		fail "collx.pc.in:1: the example does not run, $how"
	[ "$(grep -c 'of 2: 2$' "$to/log")" = 2 ] || fail "examples/allreduce.c:1: wrong, $how"
}
build shared $(pkg-config --cflags --libs collx)
# (The foreign libraries stay shared: not everybody has them otherwise.)
private=$(pkg-config --print-requires-private collx | cut -d' ' -f1)
cflags=$(pkg-config --cflags collx)
unset PKG_CONFIG_SYSROOT_DIR
build static $cflags "$(find "$to" -name libcollx.a)" $(pkg-config --libs $private) -pthread

"$(find "$to" -name collx-perf)" --help >/dev/null 2>"$to/log" || fail "collx-perf does not start"
[ -n "$(find "$to" -name all_reduce_perf)" ] || fail "Makefile.am:1: no all_reduce_perf"
make uninstall DESTDIR="$to" >"$to/log" 2>&1 || fail "Makefile.am:1: make uninstall failed"
rm -f "$to/log" "$to/example"
left=$(find "$to" ! -type d)
[ -z "$left" ] || { echo "Makefile.am:1: make uninstall leaves:" $left; exit 1; }
