#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Two hosts: network namespaces of this test with a cable between them, two ranks in
# each, and on both an earlier interface of one address, as a bridge for containers is. Every
# collective, every value checked: started with plain environment variables, over IPv4 and
# IPv6, and by collx-run with a list of hosts, whatever COLLX_INTERFACE says. Then a rank is
# killed, and the others must say so; and a launcher, which leaves nothing behind in either
# namespace.
set -u
cd "${builddir:-.}" || exit 99

[ "$(id -u)" = 0 ] || { echo "network namespaces need root"; exit 77; }
command -v ip >/dev/null || { echo "no ip command: apt-get install iproute2"; exit 77; }

a=cxa$$ b=cxb$$ dir=$(mktemp -d)
clean() {
	ip netns del $a 2>/dev/null
	ip netns del $b 2>/dev/null
	rm -rf "$dir"
}
trap clean EXIT
ip netns add $a && ip netns add $b || { echo "cannot make network namespaces"; exit 1; }
for ns in $a $b; do
	ip link add near0 netns $ns type veth peer name near1 netns $ns || exit 1
done
ip link add cx0 netns $a type veth peer name cx0 netns $b || exit 1
for ns in $a $b; do
	ip -n $ns link set lo up
	ip -n $ns link set near0 up
	ip -n $ns link set near1 up
	ip -n $ns addr add 10.99.0.1/24 dev near0
	ip -n $ns link set cx0 up
done
ip -n $a addr add 10.77.0.1/24 dev cx0
ip -n $b addr add 10.77.0.2/24 dev cx0
ip -n $a route add default via 10.77.0.2
ip -n $b route add default via 10.77.0.1
ip -n $a addr add fd77::1/64 dev cx0 nodad
ip -n $b addr add fd77::2/64 dev cx0 nodad

(umask 077; head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$dir/secret")
export COLLX_SIZE=4 COLLX_SECRET_FILE=$dir/secret COLLX_CREATE_TIMEOUT_MS=20000

# job ADDRESS COMMAND...: ranks 0 and 1 in the first namespace, 2 and 3 in the second.
job() {
	local rank ns
	export COLLX_ADDR=$1
	shift
	pids=()
	for rank in 0 1 2 3; do
		ns=$a
		[ $rank -lt 2 ] || ns=$b
		COLLX_RANK=$rank ip netns exec $ns "$@" >"$dir/out.$rank" 2>&1 &
		pids+=($!)
	done
}

failed=0
wrong() {
	echo "$1"
	tail -n 5 "$dir"/out.*
	failed=1
}

for coll in allreduce reduce_scatter allgather broadcast reduce barrier p2p; do
	for addr in tcp:10.77.0.1:7700 'tcp:[fd77::1]:7701'; do
		job "$addr" timeout 60 ./collx-perf $coll -b 8 -e 1M -f 16 -n 5 -c 1 -d float
		for rank in 0 1 2 3; do
			wait "${pids[$rank]}" || wrong "$coll at $addr: rank $rank: exit $?"
		done
		[ $coll = barrier ] || grep -q 'Out of bounds values : 0 OK' "$dir/out.0" ||
			wrong "$coll at $addr: no values checked"
	done
done

# The loopback as rank 0's address: every rank says that it is no way between hosts.
export WORLD_SIZE=4 LOCAL_WORLD_SIZE=2 MASTER_ADDR=localhost MASTER_PORT=29500
for rank in 0 1 2 3; do
	ns=$a
	[ $rank -lt 2 ] || ns=$b
	(unset COLLX_SIZE COLLX_ADDR
	COLLX_CREATE_TIMEOUT_MS=2000 RANK=$rank LOCAL_RANK=$((rank % 2)) ip netns exec $ns \
		timeout 60 examples/allreduce >"$dir/out.$rank" 2>&1) &
	pids[rank]=$!
done
for rank in 0 1 2 3; do
	wait "${pids[$rank]}" && wrong "MASTER_ADDR=localhost: rank $rank: no error"
	grep -q 'this host alone, and by WORLD_SIZE=4 and LOCAL_WORLD_SIZE=2' "$dir/out.$rank" ||
		wrong "MASTER_ADDR=localhost: rank $rank does not say why"
done
unset WORLD_SIZE LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT

# by_list COMMAND...: the same job by collx-run, which asks the first host for an address.
by_list() {
	(unset COLLX_SIZE COLLX_SECRET_FILE COLLX_ADDR
	timeout 60 ./collx-run --hosts $a:2,$b:2 --agent 'ip netns exec' "$@" >"$dir/out.list" 2>&1)
}
for coll in allreduce reduce_scatter allgather broadcast reduce barrier; do
	by_list ./collx-perf $coll -b 8 -e 1M -f 16 -n 5 -c 1 -d float ||
		wrong "$coll by collx-run: exit $?"
	[ $coll = barrier ] || grep -q 'Out of bounds values : 0 OK' "$dir/out.list" ||
		wrong "$coll by collx-run: no values checked"
	grep -q 'Using 4 ranks' "$dir/out.list" || wrong "$coll by collx-run: not 4 ranks"
done
by_list sh -c 'echo "$COLLX_RANK $COLLX_ADDR $(ip netns identify $$)"'
for line in "0 tcp:10.77.0.1:[0-9]* $a" "1 .* $a" "2 .* $b" "3 tcp:10.77.0.1:[0-9]* $b"; do
	grep -qx "$line" "$dir/out.list" || wrong "by collx-run: no rank '$line'"
done

# Each form of COLLX_INTERFACE; the ranks are told it, too.
for wish in cx0 cx 10.77.0.0/16 fd77::/64; do
	at='10\.77\.0\.1'
	[ $wish != fd77::/64 ] || at='\[fd77::1\]'
	COLLX_INTERFACE=$wish by_list sh -c \
		'echo "$COLLX_RANK $COLLX_ADDR"; exec examples/allreduce' ||
		wrong "COLLX_INTERFACE=$wish by collx-run: exit $?"
	grep -qx "3 tcp:$at:[0-9]*" "$dir/out.list" ||
		wrong "COLLX_INTERFACE=$wish by collx-run: another address"
done
# An address that the second host does not have is the first one's alone.
for wish in 10.77.0.1 fd77::1; do
	at='10\.77\.0\.1'
	[ $wish != fd77::1 ] || at='\[fd77::1\]'
	COLLX_INTERFACE=$wish by_list sh -c \
		'echo "$COLLX_RANK $COLLX_ADDR <$COLLX_INTERFACE>"; exec examples/allreduce' ||
		wrong "COLLX_INTERFACE=$wish by collx-run: exit $?"
	for line in "0 tcp:$at:[0-9]* <$wish>" "3 tcp:$at:[0-9]* <>"; do
		grep -qx "$line" "$dir/out.list" ||
			wrong "COLLX_INTERFACE=$wish by collx-run: no rank '$line'"
	done
done
# Jobs that start together share a range of ports.
for job in 1 2 3 4; do
	(unset COLLX_SIZE COLLX_SECRET_FILE COLLX_ADDR
	COLLX_PORT_RANGE=21000-21039 timeout 60 ./collx-run --hosts $a:2,$b:2 \
		--agent 'ip netns exec' sh -c '
		[ $COLLX_RANK != 0 ] || echo "$COLLX_ADDR"; sleep 1; exec examples/allreduce' \
		>"$dir/out.range$job" 2>&1) &
	pids[job]=$!
done
for job in 1 2 3 4; do
	wait "${pids[job]}" || wrong "job $job of 4 that share a range: exit $?"
done
[ "$(grep -hx 'tcp:10.77.0.1:210[0-3][0-9]' "$dir"/out.range* | sort -u | wc -l)" = 4 ] ||
	wrong "4 jobs that share a range do not meet at 4 ports"
COLLX_INTERFACE=10.78.0.0/16 by_list true && wrong "COLLX_INTERFACE=10.78.0.0/16: no error"
grep -q "host $a: COLLX_INTERFACE=10.78.0.0/16: no usable address: .*cx0 10.77.0.1/24" \
	"$dir/out.list" || wrong "COLLX_INTERFACE=10.78.0.0/16 by collx-run: no list of interfaces"

# sleepers: processes of this test's sleeping job, in any namespace.
sleepers() { pgrep -cf "sleep 1000[.]$$"; }
(unset COLLX_SIZE COLLX_SECRET_FILE
exec ./collx-run --hosts $a:2,$b:2 --agent 'ip netns exec' sh -c "trap '' TERM; sleep 1000.$$
	:" >"$dir/out.list" 2>&1) &
launcher=$!
for ((i = 0; i < 200 && $(sleepers) < 8; i++)); do sleep 0.1; done
[ "$(sleepers)" -ge 8 ] || wrong "the sleeping job did not start"
kill -9 $launcher
wait $launcher
for ((i = 0; i < 200 && $(sleepers) > 0; i++)); do sleep 0.1; done
[ "$(sleepers)" = 0 ] || wrong "a killed launcher left $(sleepers) processes"

job tcp:10.77.0.1:7702 timeout 60 ./collx-perf allreduce -b 4M -e 4M -n 100000 -c 0
sleep 2
kill -9 "$(pgrep -P "${pids[3]}" -f collx-perf | head -n 1)" 2>/dev/null ||
	wrong "there was no rank 3 to kill"
for rank in 0 1 2; do
	wait "${pids[$rank]}"
	[ $? = 2 ] || wrong "rank $rank did not report the death"
	grep -q 'rank 3' "$dir/out.$rank" || wrong "rank $rank does not name rank 3"
done
exit $failed
