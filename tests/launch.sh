#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The example under other people's launchers, those that are here: Open MPI's mpirun,
# MPICH's mpiexec.hydra (PMI-2) and Slurm's srun (PMI-2 and PMIx); on one host, and on
# several, so that the secret has to come through the launcher.
set -u
cd "${builddir:-.}" || exit 99
has() { command -v "$1" >/dev/null; }
open_mpi() { has mpirun && mpirun --version 2>/dev/null | grep -q 'Open MPI'; }
open_mpi || has mpiexec.hydra || has srun ||
	{ echo "no launcher (Debian: openmpi-bin, mpich or slurm-wlm)"; exit 77; }

dir=$(mktemp -d)
trap 'slurm down "$dir/slurm"; rm -rf "$dir"' EXIT
slurm() { bash "${srcdir:-.}/tests/slurm.sh" "$@"; }
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
	timeout 120 "$@" >"$dir/out" 2>&1 || rc=$?
	if [ $rc != 0 ] || [ "$(grep -c "of $n: $n\$" "$dir/out")" != "$n" ]; then
		echo "$what: status $rc"
		tail -n 20 "$dir/out"
		failed=1
	fi
}

pmix=$(grep -c 'define HAVE_PMIX\|DCX_HAVE_PMIX' Makefile)
if open_mpi; then
	run='mpirun --oversubscribe -n'
	job 'Open MPI, one host' 4 $run 4 examples/allreduce
	far='env OMPI_COMM_WORLD_LOCAL_SIZE=1 OMPI_COMM_WORLD_LOCAL_RANK=0'
	alone='env -u OMPI_COMM_WORLD_RANK -u OMPI_COMM_WORLD_SIZE'
	if [ "$pmix" != 0 ]; then
		job 'Open MPI, several hosts' 4 $run 4 $far examples/allreduce
		job 'PMIx alone' 3 $run 3 $alone examples/allreduce
		# Why rank 0 could not begin is every rank's error.
		timeout 120 $run 3 $far sh -c '[ $OMPI_COMM_WORLD_RANK != 0 ] ||
			export COLLX_INTERFACE=none; examples/allreduce; true' >"$dir/out" 2>&1
		[ "$(grep -c 'rank 0: COLLX_INTERFACE=none: no usable' "$dir/out")" = 2 ] || {
			echo "Open MPI: rank 0's error is not everybody's"
			cat "$dir/out"
			failed=1
		}
	fi
fi
if has mpiexec.hydra; then
	job 'MPICH, one host' 4 mpiexec.hydra -n 4 examples/allreduce
	# Two that hydra takes for hosts, with a proxy each.
	job 'MPICH, two hosts' 4 mpiexec.hydra -launcher fork -hosts localhost,127.0.0.1 \
		-ppn 2 -n 4 examples/allreduce
fi
if has srun; then
	slurm up "$dir/slurm" 2
	case $? in
	0)
		export SLURM_CONF=$dir/slurm/slurm.conf
		job 'Slurm, one host' 4 srun -N 1 -n 4 --mpi=none examples/allreduce
		job 'Slurm, two hosts, PMI-2' 4 srun -N 2 -n 4 --mpi=pmi2 examples/allreduce
		if [ "$pmix" != 0 ] && srun --mpi=list 2>&1 | grep -q pmix; then
			job 'Slurm, two hosts, PMIx' 4 srun -N 2 -n 4 --mpi=pmix examples/allreduce
		fi
		;;
	3) ;; # the client alone
	*) failed=1 ;;
	esac
fi
exit $failed
