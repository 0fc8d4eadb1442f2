# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2034,SC2164
# What tools/quickstart, tools/check and .ci/run share. They set -euo pipefail and
# read this file; it goes to the top of the source tree, whatever the folder was.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
jobs=$(nproc)
export LC_ALL=C

to_build='
gcc           the C compiler
libc6-dev     the C library
make          runs the build
autoconf      makes ./configure
automake      makes Makefile.in
libtool       builds shared libraries
pkg-config    finds the two libraries below
libhwloc-dev  cores, caches and NUMA nodes
libssl-dev    libcrypto: the proof that a rank belongs to the job'
to_check='
g++               collx.h must compile in C++, too
libcriterion-dev  the unit tests
mandoc            checks the manual pages
iproute2          two hosts in network namespaces, with root
procps            finds a process to kill
universal-ctags   measures the length of functions
shellcheck        reads the scripts'
to_compare='
clang             a second compiler with warnings of its own
libclang-rt-14-dev  libFuzzer, which drives the fuzz targets
openmpi-bin       mpirun, under which the example must run
libpmix-dev       its exchange of secrets'

# Functions that step runs check each command themselves: there set -e is off.

# need LIST...: installs what is missing of these packages and says why.
need() {
	local name why have missing=() sudo=
	while read -r name why; do
		[ -n "$name" ] || continue
		have=$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) || true
		[ "$have" != installed ] || continue
		missing+=("$name")
		printf '      %-18s %s\n' "$name" "$why"
	done <<<"$(printf '%s\n' "$@")"
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$(id -u)" != 0 ]; then
		sudo=sudo
		command -v sudo >/dev/null || {
			echo "      You are not root and have no sudo. As root, please:"
			echo "      apt-get install ${missing[*]}"
			return 1
		}
	fi
	# The lists of a fresh machine are empty or old; asking again costs seconds.
	quietly $sudo apt-get -q -o DPkg::Lock::Timeout=120 update || return
	quietly $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
		-o DPkg::Lock::Timeout=120 install "${missing[@]}"
}

# quietly COMMAND...: its output goes to $log, the end of it to the terminal if it fails.
log=/dev/null
quietly() {
	local rc=0
	"$@" >>"$log" 2>&1 </dev/null || rc=$?
	[ $rc = 0 ] || { tail -n 40 "$log"; echo "      failed; all of it is in $log"; }
	return $rc
}

# step TEXT COMMAND...: runs it under a heading and says how long it took.
steps=4
step_number=0
step() {
	local from=$SECONDS rc=0
	step_number=$((step_number + 1))
	echo "[$step_number/$steps] $1 ..."
	"${@:2}" || rc=$?
	echo "      $((SECONDS - from)) s"
	return $rc
}

# build DIR CONFIGURE-ARGUMENTS...: configures and builds there, from any state.
build() {
	local dir=$1
	shift
	# A tree that was configured in place refuses to be built elsewhere.
	[ ! -f config.status ] || make distclean || return
	if [ ! -x configure ] || [ -n "$(find configure.ac m4/collx_*.m4 -newer configure)" ]; then
		./autogen.sh || return
	fi
	mkdir -p "$dir"
	if [ ! -f "$dir/Makefile" ] || [ "$(cat "$dir/.configured" 2>/dev/null)" != "$*" ]; then
		rm -f "$dir/.configured"
		(cd "$dir" && ../configure "$@") || return
		# Objects of another configuration must not be taken for this one's.
		make -C "$dir" clean || return
		echo "$*" >"$dir/.configured"
	fi
	make -C "$dir" -j"$jobs" all
}

# build_tests DIR: the test programs.
build_tests() { make -C "$1" -j"$jobs" check TESTS=; }

# run_tests DIR CALM OTHERS [COMMAND...]: Makefile's lists of tests that only compute, of which
# as many run at a time as there are processors, and of those that need the machine to
# themselves. The command runs make.
run_tests() {
	local rc=0
	"${@:4}" make -C "$1" -j"$jobs" -k check TESTS="$2" || rc=$?
	"${@:4}" make -C "$1" -k check TESTS="$3" || rc=$?
	return $rc
}

# totals LOG...: sets passed, failed and skipped from what `make check` printed.
totals() {
	local counts
	counts=$(cat "$@" 2>/dev/null | awk '
		/^# (PASS|XFAIL): / { passed += $3 }
		/^# (FAIL|XPASS|ERROR): / { failed += $3 }
		/^# SKIP: / { skipped += $3 }
		END { print passed + 0, failed + 0, skipped + 0 }')
	# shellcheck disable=SC2034
	read -r passed failed skipped <<<"$counts"
}

# lines RESULT LOG...: the tests with that result, as `make check` printed them.
lines() { grep -hE "^($1): " "${@:2}" | sed 's/^/      /'; }

# reasons LOG...: what the programs wrote in which those tests failed; there or, where they
# have no log of their own, before that line.
reasons() {
	local log program own
	for log in "$@"; do
		sed -nE 's/^(FAIL|ERROR|XPASS): ([^ ]+).*/\2/p' "$log" | uniq |
		while read -r program; do
			echo "      $program:"
			own=$(dirname "$log")/${program%.sh}.log
			{ cat "$own" 2>/dev/null ||
				grep -B 30 -E "^[A-Z]+: $program( |\$)" "$log"; } |
				grep -vE '^(ok |PASS: |#$)' | tail -n 30 | sed 's/^/        /'
		done
	done
}
