#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# collx.h stands alone in old and new C and in C++; every internal header does in C11.
# Headers without a guard are templates, made to be included several times: left out.
set -u
cd "${srcdir:-$(dirname "$0")/..}" || exit 99
cc=${CC:-cc}
cxx=${CXX:-c++}
command -v "$cxx" >/dev/null || { echo "no C++ compiler (Debian: g++)"; exit 77; }
bad=0

# try WHAT COMPILER FLAGS...: compiles stdin.
try() {
	local what=$1 out
	shift
	out=$("$@" -fsyntax-only -Wall -Wextra -Werror - 2>&1) || {
		echo "$what: does not stand alone with: $*"
		sed 's/^/    /' <<<"$out" | head -n 15
		bad=1
	}
}

for std in c99 c11 c17; do
	try include/collx.h:1 $cc -x c -std=$std -pedantic -Iinclude <<<'#include "collx.h"'
done
for std in c++11 c++17; do
	try include/collx.h:1 $cxx -x c++ -std=$std -pedantic -Iinclude <<<'#include "collx.h"'
done
# The _INIT macros are part of it.
try include/collx.h:1 $cxx -x c++ -std=c++11 -pedantic -Iinclude <<'END'
#include "collx.h"
collx_config config = COLLX_CONFIG_INIT;
collx_opts opts = COLLX_OPTS_INIT;
END

# kernels/words.h asks its includer for VEC and is no worse for that.
machine=-DVEC=32
$cc -dM -E -x c /dev/null | grep -q __x86_64__ && machine="$machine -mavx2 -mf16c"
# kernels/cuda/driver.h and who includes it are for builds that have NVIDIA's cuda.h.
for h in src/base/*.h src/*.h kernels/*.h kernels/cuda/cuda.h kernels/cuda/args.h transports/*.h \
	perf/*.h sim/*.h; do
	grep -q '^#ifndef [A-Z0-9_]*_H$' "$h" || continue
	try "$h:1" $cc -x c -std=c11 -D_GNU_SOURCE $machine -Iinclude -I. -Isrc -Isrc/base \
		-Wno-unused-function <<<"#include \"$h\""
done
exit $bad
