#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Faults of a network, on real processes: hosts are namespaces with a router between them
# that loses what a case wants. `cuts.sh [REPEATS [CASE]]`; in the ordinary check once, and
# without the long ones; make check-net has all of them. COLLX_CUTS_REPEATS says how often.
set -u
cd "${builddir:-.}" || exit 99

[ "$(id -u)" = 0 ] || { echo "network namespaces need root"; exit 77; }
for tool in ip tc; do
	command -v $tool >/dev/null && continue
	echo "no $tool command: apt-get install iproute2"
	exit 77
done

# The namespaces end with the processes; what is left is the folder of the sockets.
dir=$(mktemp -d) pid=
clean() {
	[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null
	wait
	rm -rf "$dir"
}
trap clean EXIT
trap 'exit 99' HUP INT TERM
./tests/cut_cases "$dir" "${1:-${COLLX_CUTS_REPEATS:-0}}" ${2+"$2"} &
pid=$!
wait $pid
rc=$?
pid=
exit $rc
