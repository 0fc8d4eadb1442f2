#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# run-tap.sh PROGRAM: runs one test program in a session of its own, with a limit
# of COLLX_TEST_SECONDS, and prints TAP. A program other than a Criterion one (t_*)
# counts as one test by its exit code; 77 is skipped, and its last line says why. A
# sanitizer's report fails the program, whatever it returned. Ranks left behind end here.

limit=${COLLX_TEST_SECONDS:-600}
name=$(basename "$1" .sh)
dir=$(mktemp -d) || exit 99
case $name in
t_*)
	# To a file: with tap:- in CRITERION_OUTPUTS, its own small leak ends it under ASan.
	set -- "$@" "--tap=$dir/tap" "-j${COLLX_TEST_JOBS:-2}"
	;;
esac

from=$(date +%s)
setsid timeout -k 5 "$limit" "$@" >"$dir/out" 2>&1 </dev/null &
pid=$!
finish() {
	kill -s KILL -- "-$pid" 2>/dev/null
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 99' HUP INT TERM
wait "$pid"
rc=$?

failure=
case $rc in
0 | 77) ;;
124 | 137) failure="$name ran longer than $limit s" ;;
*) grep -q '^not ok' "$dir/tap" 2>/dev/null || failure="$name exited with status $rc" ;;
esac
case $name in
t_*) [ -s "$dir/tap" ] || failure="${failure:-$name gave no results}" ;;
esac
# Leaks that only Criterion's own functions are in are Criterion's, and so is the exit
# status that they make.
case $(awk '
	/leak of [0-9]+ byte/ { leak = leaks = 1; next }
	/^$/ { leak = 0 }
	leak && /^ *#[1-9]/ && !/libcriterion/ { bad = 1 }
	/runtime error:|(WARNING|ERROR): (Address|Thread)Sanitizer/ { bad = 1 }
	/LeakSanitizer has encountered a fatal error/ { bad = 1 }
	END { print bad ? "ours" : leaks ? "criterion" : "none" }' "$dir/out")/$rc in
ours/*) failure="$name: a sanitizer reported" ;;
criterion/1) [ ! -s "$dir/tap" ] || failure= ;;
esac

sed 's/^/# /' "$dir/out"
if [ -s "$dir/tap" ]; then
	awk -v failure="$failure" '
		/^1\.\.[0-9]+/ { n = substr($1, 4) + (failure != ""); print "1.." n; next }
		{ print }
		END { if (failure) print "not ok - " failure }' "$dir/tap"
elif [ -n "$failure" ]; then
	echo "not ok 1 - $failure"
	echo '1..1'
elif [ $rc = 77 ]; then
	echo "ok 1 - $name # SKIP $(tail -n 1 "$dir/out")"
	echo '1..1'
else
	echo "ok 1 - $name"
	echo '1..1'
fi
echo "# $name took $(($(date +%s) - from)) s"
exit 0
