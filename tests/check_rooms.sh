#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Who may include whom. The first line whose pattern matches a file is its room; it may
# include the headers that match the rest of the line. "pure" rooms never see each other.
set -u
cd "${srcdir:-$(dirname "$0")/..}" || exit 99

base='include/collx.h src/base/base.h'
meeting='src/wire.h src/tree.h src/place.h src/host.h src/auth.h src/boot.h'
council='src/strand.h src/council.h src/rally.h'
guarding="src/wire.h src/tree.h src/sign.h src/verdict.h src/ring.h $council"
ids='src/host.h src/uid.h'
contracts='src/plan.h transports/transport.h kernels/kernel.h'
table="
include/collx.h
src/base/*              $base
kernels/cuda/*          $base kernels/*.h kernels/cuda/*.h kernels/cuda/*.cuh
kernels/*               $base kernels/*.h
transports/*            $base transports/*.h
src/plan*|src/algo*     $base src/plan*.h src/algo*.h
src/exec.[ch]           $base $contracts src/exec.h
src/strand.[ch]         $base src/wire.h src/strand.h
src/council.[ch]        $base src/wire.h src/council.h
src/rally.[ch]          $base $meeting $council src/net.h src/vault.h src/door.h
src/comm.[ch]|src/create.c|src/request.c|src/p2p.c $base $contracts src/*.h
src/careful.c|src/faults.c|src/recover.c|src/herald.c|src/leave.c $base $contracts src/*.h
src/codec.c             $base kernels/*.h kernels/cuda/cuda.h
src/collx.c             $base $contracts src/*.h
src/select.[ch]         $base src/plan.h src/topo.h src/select.h
src/topo.[ch]           $base src/topo.h
src/auth.[ch]           $base src/auth.h
src/wire.[ch]           $base src/wire.h
src/host.[ch]           $base src/host.h
src/place*              $base src/wire.h src/host.h src/place.h
src/net.[ch]            $base $meeting src/net.h
src/uid.[ch]            $base $meeting src/net.h src/vault.h src/uid.h
src/vault.[ch]          $base src/vault.h
src/kvs*                $base src/vault.h src/kvs.h
src/door.[ch]           $base src/wire.h src/place.h src/auth.h src/door.h
src/meet.[ch]|src/mesh.[ch] $base $meeting src/net.h src/tree.h src/door.h src/meet.h src/mesh.h
src/ring.[ch]           $base $meeting src/mesh.h src/ring.h
src/launch.[ch]         $base $meeting src/vault.h src/uid.h src/kvs.h src/launch.h
src/boot.[ch]           $base $meeting src/meet.h src/tree.h
src/tree.[ch]           $base src/wire.h src/tree.h
src/sign.[ch]           $base src/plan.h src/sign.h
src/verdict.[ch]        $base src/wire.h src/sign.h src/council.h src/verdict.h
src/guard.[ch]|src/ward* $base $guarding $meeting src/door.h src/guard.h src/ward.h
perf/info.c             $base $contracts kernels/cuda/cuda.h src/topo.h src/select.h perf/info*.h
perf/info*              $base $contracts $meeting src/net.h src/topo.h src/select.h perf/info*.h
perf/perf_kernels_cuda.c $base kernels/*.h kernels/cuda/*.h perf/*.h
perf/*                  include/collx.h perf/*.h
examples/*              include/collx.h
sim/job.h|sim/uniform.c $base $contracts src/*.h sim/*.h
sim/*|tools/collx-sim.c $base $meeting $guarding $ids src/plan.h src/mesh.h src/guard.h sim/*.h
tools/*                 $base src/auth.h src/boot.h src/net.h tools/run.h
tests/*                 *
"
# Foreign libraries have one door each.
doors='cuda.h kernels/cuda/*
hwloc.h src/topo.c
openssl/* src/auth.c
pmix.h src/kvs_pmix.c
criterion/* tests/*'

bad=0
say() { echo "$1"; bad=1; }

# Prints the allowed patterns of the room that file $1 is in; fails outside any room.
room() {
	local patterns allowed p
	while read -r patterns allowed; do
		for p in ${patterns//|/ }; do
			# shellcheck disable=SC2053
			[[ -n $p && $1 == $p ]] && { echo "$allowed"; return 0; }
		done
	done <<<"$table"
	return 1
}

# The project header that `#include "$2"` in file $1 means.
resolve() {
	local d path
	for d in "$(dirname "$1")" . include src src/base; do
		[ -f "$d/$2" ] || continue
		path=$(realpath --relative-to=. "$d/$2")
		echo "$path"
		return 0
	done
	return 1
}

set -f
while IFS= read -r file; do
	allowed=$(room "$file") || { say "$file:1: in no room of this table"; continue; }
	while IFS=: read -r line text; do
		name=$(sed 's/.*include *["<]\([^">]*\)[">].*/\1/' <<<"$text")
		if [[ $text == *'"'* ]]; then
			header=$(resolve "$file" "$name") ||
				{ say "$file:$line: no such header: $name"; continue; }
			ok=0
			# shellcheck disable=SC2053
			for p in $allowed; do [[ $header == $p ]] && ok=1; done
			[ $ok = 1 ] || say "$file:$line: may not include $header"
		else
			while read -r header door; do
				# shellcheck disable=SC2053
				[[ $name == $header && $file != $door && $file != tests/* ]] &&
					say "$file:$line: <$name> belongs to $door alone"
			done <<<"$doors"
		fi
	done < <(grep -nE '^[[:space:]]*#[[:space:]]*include' "$file")
done < <(find include src kernels transports perf sim tools examples tests \
	\( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' \) 2>/dev/null |
	sort)
exit $bad
