#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The public symbols are the same in collx.h, in collx.map and in the built library;
# what the static library adds begins with cx_; a transport shows its table alone.
# The library stays below 20 MiB. Runs in the build folder.
set -u
export LC_ALL=C
src=${srcdir:-$(dirname "$0")/..}
command -v ctags >/dev/null || { echo "no ctags (Debian: universal-ctags)"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bad=0

ctags -x --_xformat='%{name}' --kinds-C=p "$src/include/collx.h" | sort >"$dir/header"
sed -n '/^global:/,/^local:/s/^[[:space:]]*\([a-z_0-9]*\);.*/\1/p' "$src/src/collx.map" |
	sort >"$dir/map"
nm -D --defined-only .libs/libcollx.so | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
	grep -Ev '^__(asan|odr_asan|gcov|llvm)' | sort >"$dir/library"

# same A B: both lists are equal.
same() {
	local only
	only=$(comm -23 "$dir/$1" "$dir/$2")
	[ -z "$only" ] || { echo "in the $1, not in the $2:" $only; bad=1; }
	only=$(comm -13 "$dir/$1" "$dir/$2")
	[ -z "$only" ] || { echo "in the $2, not in the $1:" $only; bad=1; }
}
[ -s "$dir/header" ] || { echo "include/collx.h:1: no prototypes found"; bad=1; }
same header map
same map library

# With its GPU kernels and without what a debugger alone reads, below 20 MiB.
size=$(size -A .libs/libcollx.so | awk '$1 !~ /^\.debug/ && $1 ~ /^\./ && $1 != ".comment" {
	if ($1 !~ /bss/) n += $2 } END { print n + 0 }')
[ "$size" -gt 0 ] && [ "$size" -lt $((20 << 20)) ] ||
	{ echo ".libs/libcollx.so: $size bytes, not below 20 MiB"; bad=1; }

# Defined globals of object files as "file symbol kind".
globals() { nm -A -g --defined-only "$@" | sed 's/^\([^ ]*\):[0-9a-f]* \(.\) \(.*\)/\1 \3 \2/'; }

stray=$(globals .libs/libcollx.a | awk '$2 !~ /^(cx_|collx_|__)/ { print $1 ": global " $2 }')
[ -z "$stray" ] || { echo "$stray"; bad=1; }

for c in "$src"/transports/*.c; do
	name=$(basename "$c" .c)
	[ "$name" != transport ] || continue
	object=transports/.libs/$name.o
	[ -f "$object" ] || { echo "transports/$name.c:1: no $object"; bad=1; continue; }
	seen=$(globals "$object" | awk '$2 !~ /^(cx_sim_|__)/ { print $2 "/" $3 }' | tr '\n' ' ')
	case $seen in
	cx_*/[DR]' ') ;;
	*) echo "transports/$name.c:1: its table should be its only global, not: $seen"; bad=1 ;;
	esac
done
exit $bad
