#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# fuzz.sh SOURCES BUILD SECONDS [TARGET...]: builds the fuzz targets with clang in BUILD
# and runs each so long, from its corpus in tests/corpus and from what earlier runs found
# (BUILD/found). An input that fails a target is kept in BUILD and named; to look at it
# again: BUILD/tests/fuzz_NAME FILE. Prints a line a target and ends with the totals as
# `make check` has them.
set -u
src=$1 build=$2 seconds=$3
shift 3
export UBSAN_OPTIONS=print_stacktrace=1

mkdir -p "$build" && cd "$build" || exit 1
echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { return d && n < 0; }' >probe.c
clang -fsanitize=fuzzer probe.c -o probe >probe.log 2>&1 || {
	echo "no clang with libFuzzer (Debian: clang libclang-rt-14-dev)"
	exit 77
}
[ -f Makefile ] ||
	"$src/configure" -q --enable-fuzz --disable-cuda CC=clang CFLAGS=-O1 >build.log 2>&1 ||
	{ tail -n 20 build.log; exit 1; }
[ $# -gt 0 ] || set -- $(cd "$src/tests/corpus" && echo *)
make -j"$(nproc)" $(printf 'tests/fuzz_%s ' "$@") >build.log 2>&1 ||
	{ grep -E 'error|Error' build.log | head -n 20; exit 1; }

passed=0 failed=0
for name; do
	mkdir -p "found/$name"
	log=fuzz_$name.log
	if tests/fuzz_"$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 \
		-max_len=4096 -print_final_stats=1 -artifact_prefix="$build/bad-$name-" \
		"found/$name" "$src/tests/corpus/$name" >"$log" 2>&1; then
		passed=$((passed + 1))
		echo "PASS: fuzz_$name: $(awk '/number_of_executed_units/ { n = $2 }
			/cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") c = $(i + 1) }
			END { print n " runs, " c " edges" }' "$log")"
	else
		failed=$((failed + 1))
		echo "FAIL: fuzz_$name: $(grep -E '^(SUMMARY|Test unit written)|fuzz_.*: ' "$log" |
			tail -n 3 | tr '\n' ';') see $build/$log"
	fi
done
printf '# PASS: %d\n# FAIL: %d\n# SKIP: 0\n' $passed $failed
[ $failed = 0 ]
