#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The example under Open MPI's mpirun: as it is, and told that each rank is on a host of
# its own, so that the secret has to come through PMIx. MPICH's and Slurm's exchange runs
# in t_launch, against a launcher of the test's own.
set -u
cd "${builddir:-.}" || exit 99
command -v mpirun >/dev/null || { echo "no mpirun (Debian: openmpi-bin)"; exit 77; }
mpirun --version 2>/dev/null | grep -q 'Open MPI' || { echo "no Open MPI (openmpi-bin)"; exit 77; }

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for v in $(./collx-info env | grep -Eo '^COLLX_[A-Z_]+'); do unset "$v"; done
# Nothing but the loopback, for mpirun's own connections, too.
export COLLX_INTERFACE=lo COLLX_RUNTIME_DIR=$dir/run COLLX_CREATE_TIMEOUT_MS=60000
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_oob_tcp_if_include=lo
# libpmix keeps a few bytes until the end.
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
failed=0

# job WHAT RANKS COMMAND...: each rank prints its line with the right sum.
job() {
	local what=$1 n=$2 rc=0
	shift 2
	timeout 120 mpirun --oversubscribe -n "$n" "$@" >"$dir/out" 2>&1 || rc=$?
	if [ $rc != 0 ] || [ "$(grep -c "of $n: $n\$" "$dir/out")" != "$n" ]; then
		echo "$what: status $rc"
		tail -n 20 "$dir/out"
		failed=1
	fi
}

job 'one host' 4 examples/allreduce
if grep -q 'define HAVE_PMIX\|DCX_HAVE_PMIX' Makefile; then
	far='env OMPI_COMM_WORLD_LOCAL_SIZE=1 OMPI_COMM_WORLD_LOCAL_RANK=0'
	job 'several hosts, by PMIx' 4 $far examples/allreduce
	job 'PMIx alone' 3 env -u OMPI_COMM_WORLD_RANK -u OMPI_COMM_WORLD_SIZE examples/allreduce
fi
exit $failed
