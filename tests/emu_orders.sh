#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Does the emulation, over the cases, see a wrong order? Each mutant is one expression of a
# kernel changed: operands, inputs, lanes, random numbers, ties, tiles or entries in another
# order; or a message that lies is believed; or, of launch*.c, a block too few is launched, or
# vectors are read where they do not lie.
# (Barriers and fences left out: emu_mutants.c.) Runs in the build folder.
set -u
src=${srcdir:-$(dirname "$0")/..}
[ -n "${EMU_CXX:-}" ] || { echo "no C++ compiler for the emulation (Debian: g++)"; exit 77; }
[ -x tests/emu_kernels ] || { echo "no GPU kernels in this build"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cp tests/.libs/libfakecuda.so "$dir/"
units='codec fuse fold topk sparse'
cuda=$(sed -n 's/^CUDA_CPPFLAGS = //p' Makefile)

# Three lines each: the kernel and the cases that see it; what; into what.
mutants() {
	cat <<'END'
fold.cu fold
combine<TYPE, OP>(acc[v][e], c)
combine<TYPE, OP>(c, acc[v][e])
fuse.cu codec
a.inputs[which])
a.inputs[a.count - 1 - which])
encode.cuh codec
lane_id() % 4 * 8 + lane_id() / 4
lane_id()
encode.cuh codec
odd ? w[0] : w[2], 1
odd ? w[1] : w[2], 1
device.cuh codec
round * 4 + lane_id() / 8
round * 4 + lane_id() % 4
topk.cu topk
key == h->key && same < h->places
key == h->key && same <= h->places
topk.cu topk
!is_equal || same < c.places
!is_equal || same >= c.places
order.cuh topk
tile ? STATE_OWN : STATE_ALL, own
STATE_ALL, own
sparse.cu sparse
chunk_of(a.in[m], a.count, number)
chunk_of(a.in[a.messages - 1 - m], a.count, number)
sparse.cu sparse
seen + upto - own; bits
seen + upto; bits
sparse.cu sparse
bytes_of(msg) > len
bytes_of(msg) > len + 64
sparse.cu sparse
a.work->entries[i] != entries_of(a.in[i])
false
sparse.cu sparse
min(entries, a.count)
min(entries, (uint64_t)1)
sparse.cu sparse
at <= load_any<uint16_t>
at < load_any<uint16_t>
sparse.cu sparse
bad |= at >= c.n;
bad |= false;
sparse.cu sparse
bad |= c.n - i * 32 < 32 && bits >> (c.n - i * 32);
bad |= false;
sparse.cu sparse
__reduce_add_sync(~0u, seen) > c.entries
false
sparse.cu sparse
entry >> 56 ||
false ||
sparse.cu sparse
|| (!c.entries && c.kind)
|| false
sparse.cu sparse
number == 0 && at != cx_sparse_bodies(count)
false
sparse.cu sparse
load_any<uint16_t>(p + 6) != 0
false
sparse.cu sparse
if (cx_float_bits(y))
if (true)
launch.c codec
n % CX_TILE != 0
n % CX_TILE > 1
launch.c codec
is_aligned(a->wire) && is_aligned(a->src)
is_aligned(a->src)
launch.c fold
a.aligned = a.aligned && is_aligned(in[i])
a.aligned = a.aligned
launch_sparse.c topk
a.residual_aligned = is_aligned(a.residual)
a.residual_aligned = 1
END
}

# The unit that shows a changed header.
unit_of() {
	case $1 in
	order.cuh) echo topk ;;
	*.cuh) echo codec ;;
	launch*.c) ;;
	*) echo "${1%.cu}" ;;
	esac
}

# build NUMBER FILE WHAT INTO: the test program with that mutant, $dir/NUMBER/mutant.
build() {
	local to=$dir/$1 text unit objects=() u
	unit=$(unit_of "$2")
	mkdir -p "$to/kernels/cuda"
	cp "$src"/kernels/cuda/*.cu* "$to/kernels/cuda/"
	text=$(<"$src/kernels/cuda/$2")
	[[ $text == *"$3"* ]] || { echo "$2: nothing like '$3'"; return 1; }
	printf '%s\n' "${text/"$3"/"$4"}" >"$to/kernels/cuda/$2"
	for u in $units; do
		[ "$u" = "$unit" ] || objects+=("kernels/cuda/$u.o")
	done
	# shellcheck disable=SC2086
	if [ -z "$unit" ]; then
		${CC:-cc} -std=gnu11 -O1 ${CX_CFLAGS:-} -w -I"$src" -I"$src/src/base" \
			-I"$src/include" $cuda -c -o "$to/mutant.o" "$to/kernels/cuda/$2"
	else
		$EMU_CXX -x c++ -std=c++17 -O1 -fsanitize=thread $EMU_CXXFLAGS \
			-ffp-contract=off -fno-exceptions -fno-rtti -fPIE -w -I"$to" \
			-I"$src/include" -I"$src" -include "$src/tests/cuda_emu.h" \
			-c -o "$to/mutant.o" "$to/kernels/cuda/$unit.cu"
	fi || return 1
	# shellcheck disable=SC2086
	${CC:-cc} ${CX_CFLAGS:-} -o "$dir/mutant-$1" tests/gpu_test.o tests/gpu_emulated.o \
		tests/gpu_{both,codecs,cases,api,capture}.o "$to/mutant.o" "${objects[@]}" \
		tests/.libs/libemu.a tests/.libs/libshared.a .libs/libcollx_core.a \
		$(ls .libs/libcollx_avx*.a 2>/dev/null) -lm -ldl -pthread
}

bad=0 n=0
while read -r file cases && IFS= read -r what && IFS= read -r into; do
	n=$((n + 1))
	build "$n" "$file" "$what" "$into" || { bad=1; continue; }
	if "$dir/mutant-$n" -r 0 -s 0 "$cases" >"$dir/log"; then
		echo "$file: '$into' for '$what': nothing fails"
		bad=1
	else
		echo "$file: '$into': $(tail -n 1 "$dir/log")"
	fi
done < <(mutants)
echo "$n mutants"
exit $bad
