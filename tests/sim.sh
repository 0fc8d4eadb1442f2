#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The control plane in simulated worlds: schedules of faults by seed, a kill at each system
# call, and the same events each time. Runs in the build folder.
set -u
seeds=2000
case ${CX_CFLAGS:-} in
*=thread*) echo "ThreadSanitizer does not know collx-sim's fibers"; exit 77 ;;
*sanitize*) seeds=300 ;;
esac
bad=0

sim() { ./collx-sim fault "$@" || bad=1; }
digest() { sed -n 's/.*digest \([0-9a-f]*\);.*/\1/p'; }

sim --seeds $seeds
sim --seeds $((seeds / 4)) --uniform
sim --seeds $((seeds / 4)) --grow
sim --seed 60259 --grow # joiners hear of rank 0's exclusion, which is not theirs
sim --seed 32802 # that a leader left its neighbour heard, and rank 0, cut from it, did not
sim --seeds 2 --ranks 3 --kill-everywhere
sim --seed 3 --ranks 3 --kill-everywhere # calls that are uniform
[ $seeds = 300 ] || sim --seed 12 --ranks 3 --kill-everywhere # and a joiner
first=$(sim --seeds 100 --seed 7000 | digest)
again=$(sim --seeds 100 --seed 7000 | digest)
[ -n "$first" ] && [ "$first" = "$again" ] ||
	{ echo "the same seeds gave other events: '$first' and '$again'"; bad=1; }
# What -v prints is a part of it, not another run.
loud=$(sim --seed 7005 -v | digest)
quiet=$(sim --seed 7005 | digest)
[ "$loud" = "$quiet" ] || { echo "-v changes what happens"; bad=1; }
exit $bad
