#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Do t_council, t_chair and t_councils find what they are for? Each pair of lines of the table
# plants a bug in a copy of src/council.c; one of the three tests, built with it, must fail.
# In 'make check' the first few; COLLX_MUTANTS=all for all of them.
set -u
src=$(cd "${srcdir:-$(dirname "$0")/..}" && pwd) || exit 99
command -v pkg-config >/dev/null && pkg-config criterion || { echo "no criterion"; exit 77; }
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
few=${COLLX_MUTANTS:-4} # or all

# name, and below it a sed -E expression
table='
half is a quorum
s/2 \* here > electors \|\|/2 * here >= electors ||/
the tie goes to the wrong side
s/&& is_in\(c, lowest\)\)/\&\& !is_in(c, lowest))/
decides without the last accept
s/c->proposing && t.accepted\)/c->proposing)/
what was accepted is not recorded
/^static bool hear_propose/,/^}/s/c->accepted = \*p;/;/
nobody is told what was accepted
s/if \(c->accepted.ballot\)$/if (false)/
what was accepted elsewhere is ignored
s/c->found.ballot > c->accepted.ballot \? &c->found : //
the first found is kept
s/p->ballot > c->found.ballot\)/!c->found.ballot)/
an old chair is heard
s/rank != c->chair \|\| !c->seated \|\| //
the dead are counted
s/if \(cx_set_has\(&c->dead, r\) \|\| cx_set_has\(&c->gone, r\)\)/if (cx_set_has(\&c->gone, r))/
who is out is counted
s/if \(cx_set_has\(&c->dead, r\) \|\| cx_set_has\(&c->gone, r\)\)/if (cx_set_has(\&c->dead, r))/
a chair waits for ever
/^static void preside/,/^}/s/cx_set_add\(&c->silent, r\)/(void)0/
a member waits for ever
s/&& now_ns >= c->since_ns \+ c->patience_ns\)/\&\& false)/
decides without who is missing
s/t.all_here && c->proposing && t.accepted/t.quorum \&\& c->proposing \&\& t.accepted/
decisions are not passed on
s/\ttell_all\(c, CX_FRAME_DECIDED/\tif (c->chair == c->rank)\n\t\ttell_all(c, CX_FRAME_DECIDED/
votes are not cleared
s/c->seat\[r\].voted = c->seat\[r\].accepted/c->seat[r].accepted/
accepts are not cleared
s/c->seat\[r\].voted = c->seat\[r\].accepted/c->seat[r].voted/
exclusions are not cleared
s/memset\(&c->exclude, 0, sizeof\(c->exclude\)\)/(void)0/
dead by hearsay of itself
s/&& r != c->rank && !cx_set_has\(&c->dead, r\)/\&\& !cx_set_has(\&c->dead, r)/
nobody is ever late
s/now_ns >= c->late_ns/false/
who is behind is not told
s/if \(j->decided < c->decided\)/if (false)/
who is ahead does not tell
s/^\tif \(c->decided\)/\tif (false)/
a newcomer hears no proposal
/^static bool hear_join/,/^}/s/if \(c->proposing\)/if (false)/
a seat is kept with the next chair
/^static void turn/,/^}/s/c->seated = false;/;/
the excluded does not notice
s/\(excludes && cx_set_has\(&m->out, c->rank\)\)/false/
kinds are not compared
s/return CX_MOTION_MIXED;/return (uint32_t)__builtin_ctz(others);/
a chair without quorum goes on
s/if \(t.all_here && !t.quorum\)/if (false)/
accepts of an old number count
s/if \(a->number == c->decided \+ 1 && c->seat\[rank\].sits\)/if (c->seat[rank].sits)/
an abort is not passed on
/^static bool be_aborted/,/^}/s/tell_abort\(c, r\);/;/
who aborted does not tell its chair
/^void cx_council_seated/,/^}/s/tell_abort\(c, c->chair\);/;/
who comes is not told of an abort
/^static bool hear_join/,/^}/s/tell_abort\(c, rank\);/;/
who is out can abort
/^static bool be_aborted/,/^}/s/ \|\| cx_set_has\(&c->gone, by\)//
who is out can abort for others
/^static bool hear_abort/,/^}/s/if \(cx_set_has\(&c->gone, rank\)\)/if (false)/
who is silent sits
/^static bool is_in/,/^}/s/!is_out\(c, r\) && //
a decision comes behind an abort
s/if \(c->chair == c->rank && !c->code\)/if (c->chair == c->rank)/
the last accept is enough
s/t.accepted &= /t.accepted = /
of those found the last one counts
s/ && p->ballot > c->found.ballot\)/)/
its own exclusions are left out
s/unite\(&c->exclude, &vote->out\);/;/
a visit that was none ends one
s/if \(rank == c->chair && c->seated\) \{/if (rank == c->chair) {/
any motion is sound
s/is_within\(&m->out, c->ranks\);/true;/
'

cc="${CC:-cc} -O1 -std=c11 -w -D_GNU_SOURCE -I$src/include -I$src -I$src/src -I$src/src/base
	$(pkg-config --cflags criterion)"
for f in "$src"/src/base/*.c "$src"/tests/t_{council,chair,councils}.c; do
	$cc -c "$f" -o "$work/$(basename "$f" .c).o" || { echo "does not build"; exit 1; }
done
tests=("$work/t_council.o" "$work/t_chair.o" "$work/t_councils.o")
base=()
for f in "$src"/src/base/*.c; do base+=("$work/$(basename "$f" .c).o"); done

# Builds with council.c $1 and runs: 0: all tests pass; 1: one fails; 2: no build
run() {
	local t
	$cc -c "$1" -o "$work/council.o" || return 2
	for t in "${tests[@]}"; do
		$cc "$t" "$work/council.o" "${base[@]}" -o "$work/test" \
			$(pkg-config --libs criterion) -pthread || return 2
		timeout 300 "$work/test" -j1 >"$work/out" 2>&1 || return 1
	done
}

run "$src/src/council.c" || { cat "$work/out"; exit 1; }
missed=0 found=0
while IFS= read -r name && IFS= read -r edit; do
	[ "$few" = all ] || [ $((found + missed)) -lt "$few" ] || break
	sed -E "$edit" "$src/src/council.c" >"$work/council.c"
	cmp -s "$src/src/council.c" "$work/council.c" && {
		echo "$name: the source has changed, and there is nothing to edit"
		missed=$((missed + 1))
		continue
	}
	run "$work/council.c"
	case $? in
	0) echo "$name: NOT FOUND"; missed=$((missed + 1)) ;;
	1) echo "$name: $(grep -E 'Assertion Failed|CRASH' -A 2 "$work/out" | grep -E '[a-z]' |
		tail -n 1 | cut -c 1-100)"; found=$((found + 1)) ;;
	*) echo "$name: does not build"; missed=$((missed + 1)) ;;
	esac
done < <(sed '1d;$d' <<<"$table")
echo "$found found, $missed not"
[ $missed = 0 ]
