#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A Slurm cluster of this user's own on the loopback, for launch.sh: slurm.sh up FOLDER
# NODES, slurm.sh down FOLDER. All it keeps is in the folder. Status 3: it is not installed.
set -u
dir=$2

processes() { cat "$dir"/run/*.pid 2>/dev/null; }

down() {
	local pids
	pids=$(processes)
	[ -z "$pids" ] || kill $pids 2>/dev/null
	for _ in $(seq 100); do
		[ -z "$pids" ] || kill -0 $pids 2>/dev/null || break
		sleep 0.1
	done
	[ -z "$pids" ] || kill -9 $pids 2>/dev/null
	return 0
}

# Several nodes of one machine have TmpFS apart, where the PMIx plug-ins meet. Nobody
# listens at a real interface.
configure() {
	local port=$1 nodes=$2 plugins srun ports
	ports="[$((port + 1))-$((port + nodes))]"
	srun=$(command -v srun)
	for plugins in "${srun%/bin/srun}"/lib/*/slurm-wlm; do
		[ -d "$plugins" ] && echo "PluginDir=$plugins"
	done
	cat <<-CONF
	ClusterName=collx
	SlurmctldHost=localhost(127.0.0.1)
	SlurmctldPort=$port
	SlurmUser=$(id -un)
	SlurmdUser=$(id -un)
	AuthInfo=socket=$dir/run/munge
	CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
	StateSaveLocation=$dir/state
	SlurmdSpoolDir=$dir/spool/%n
	TmpFS=$dir/tmp/%n
	SlurmctldPidFile=$dir/run/slurmctld.pid
	SlurmdPidFile=$dir/run/%n.pid
	SlurmctldLogFile=$dir/slurmctld.log
	SlurmdLogFile=$dir/%n.log
	ProctrackType=proctrack/linuxproc
	TaskPlugin=task/none
	SelectType=select/cons_tres
	SelectTypeParameters=CR_CPU
	JobAcctGatherType=jobacct_gather/none
	AccountingStorageType=accounting_storage/none
	SchedulerType=sched/builtin
	ReturnToService=2
	SlurmdParameters=config_overrides
	NodeName=DEFAULT CPUs=4 RealMemory=100 State=UNKNOWN
	NodeName=n[1-$nodes] NodeHostname=localhost NodeAddr=127.0.0.1 Port=$ports
	PartitionName=all Nodes=ALL Default=YES State=UP OverSubscribe=YES
	CONF
}

up() {
	local nodes=$1 n step
	for n in munged slurmctld slurmd srun sinfo; do
		command -v $n >/dev/null || exit 3
	done
	mkdir -p "$dir"/{run,state}
	head -c 128 /dev/urandom >"$dir/key" && chmod 600 "$dir/key"
	munged --force --key-file="$dir/key" --socket="$dir/run/munge" \
		--pid-file="$dir/run/munged.pid" --log-file="$dir/munged.log" \
		--seed-file="$dir/seed" || return 1
	configure $((20000 + RANDOM % 10000)) "$nodes" >"$dir/slurm.conf"
	export SLURM_CONF=$dir/slurm.conf
	slurmctld -c -f "$SLURM_CONF" || return 1
	step=$(command -v slurmstepd) # where it is not where it was built for
	for n in $(seq "$nodes"); do
		mkdir -p "$dir"/{spool,tmp}/n$n
		slurmd ${step:+-d "$step"} -f "$SLURM_CONF" -N n$n || return 1
	done
	SECONDS=0
	while [ $SECONDS -lt 60 ]; do
		n=$(timeout 10 sinfo -h -N -o %T 2>/dev/null | grep -cx idle)
		[ "$n" = "$nodes" ] && return 0
		sleep 0.1
	done
	return 1
}

case $1 in
up)
	up "$3" >"$dir.out" 2>&1 && exit 0
	echo 'Slurm did not come up:'
	tail -n 5 "$dir.out" "$dir"/*.log
	down
	exit 1
	;;
down) down ;;
esac
