#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# examples/survive: a rank dies while the ranks train, the others repair, go on, admit a
# new one, and end with the right answer. Whoever it is: rank 0 and the last one, too.
set -u
cd "${builddir:-.}" || exit 99

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for v in $(./collx-info env | grep -Eo '^COLLX_[A-Z_]+'); do unset "$v"; done
export COLLX_INTERFACE=lo COLLX_RUNTIME_DIR=$dir/run
mkdir -m 700 "$dir/run"
printf '#!/bin/sh\nshift\nexec "$@"\n' >"$dir/agent"
chmod 700 "$dir/agent"
failed=0

# job MODE VICTIM RANKS OPTION...: what is printed, in this order, and no more.
job() {
	local mode=$1 victim=$2 n=$3 rc=0
	shift 3
	timeout 120 ./collx-run --keep-going "$@" examples/survive $mode "$victim" \
		>"$dir/out" 2>&1 || rc=$?
	: >"$dir/expected"
	[ -n "$mode" ] && cat >"$dir/expected" <<-EOF
		^step 100: the call went on as $((n - 1)) ranks, and took [0-9]* ms\$
	EOF
	[ -z "$mode" ] && cat >"$dir/expected" <<-EOF
		^step 100: COLLX_ERR_PEER_DEAD: rank $victim died: .*\$
		^step 100: going on as $((n - 1)) ranks, [0-9]* ms after the error was known\$
	EOF
	cat >>"$dir/expected" <<-EOF
		^step 200: $((n - 1)) ranks, largest error of a weight [0-9.]*e-[0-9]*: right\$
		^step 200: a new rank is admitted, going on as $n after [0-9]* ms\$
		^step 400: $n ranks, largest error of a weight [0-9.]*e-[0-9]*: right\$
		^collx-run: rank $victim (pid [0-9]*) was killed by signal 9 (Killed)
	EOF
	if [ $rc != 0 ] || [ "$(wc -l <"$dir/out")" != "$(wc -l <"$dir/expected")" ] ||
		! paste -d '\n' "$dir/expected" "$dir/out" |
		while read -r pattern && read -r line; do
			grep -q -e "$pattern" <<<"$line" || { echo "no '$pattern'"; exit 1; }
		done; then
		echo "$mode victim $victim of $n, $*: status $rc"
		tail -n 20 "$dir/out"
		failed=1
	fi
}

for victim in 0 1 2 3; do
	job '' $victim 4 -n 4
	job --continue $victim 4 -n 4
done
job '' 1 2 -n 2
job --continue 0 2 -n 2
job '' 0 3 -n 3
job '' 3 4 --hosts a:2,b:2 --agent "$dir/agent"
COLLX_TRANSPORT=tcp job '' 2 4 --hosts a:2,b:2 --agent "$dir/agent"
COLLX_TRANSPORT=tcp job --continue 1 4 --hosts a:2,b:2 --agent "$dir/agent"
[ -z "$(ls "$dir/run")" ] || { echo "left behind: $(ls "$dir/run")"; failed=1; }
exit $failed
