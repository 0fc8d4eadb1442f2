#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Does collx-sim find what it is for? Each line of the table plants a bug in a copy of one
# source of the control plane; the simulator, built with it, must fail within so many
# seeds. In 'make check' the first few; 'make soak-mutants' all of them.
set -u
src=$(cd "${srcdir:-$(dirname "$0")/..}" && pwd) || exit 99
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
few=${COLLX_MUTANTS:-6} # or all, or words of the names

# name | source | seeds and other options, and below it a sed -E expression. What is best in
# 'make check' comes first.
table='
ward: heartbeats are not sent | ward_beat.c | 1000
s/cx_ward_tell\(w, s, CX_FRAME_BEAT, 0, NULL, 0, now_ns\);/s->said_ns = now_ns;/
ward: a verdict is not relayed | ward.c | 300
/^static void tell_verdict/,/^}/s/w->told = true;/w->told = true; return;/
ward: a leaver is forgotten | ward.c | 300
s/store_explicit\(&w->left\[who\], b.seq \+ 1/store_explicit(\&w->left[who], 0/
wire: the rest of a frame is lost | wire.c | 300
s/v->iov_len -= \(size_t\)n;/;/
verdict: hearsay is believed | verdict.c | 3000
s/doubt_ns = [0-9]+/doubt_ns = 0/
ward: the out-buffer is cut | strand.c | 1000
s/s->at \+= \(size_t\)n;/s->at = s->len;/
ward: a leaver is blamed too soon | ward.c | 1000
s/left\(w, r\) > m->where.seq/left(w, r) > m->where.seq + 1/
ward: the dead are not noticed | ward.c | 1000
/^static void ended/,/^}/s/lost\(w, &r/(void)(w, \&r/
verdict: nobody is waited for | verdict.c | 1000
/^static bool all_answered/,/^}/s/return false/return true/
verdict: no call is compared | verdict.c | 300
s/found = s->seq;/found = 0;/
guard: a report rings no bell | guard.c | 6000
/^int cx_guard_report/,/^}/s/\t\tring\(\);/\t\t;/
meet: its doors stay open | meet.c | 300
/^int cx_meet\(/,/^}/s/close_doors\(&t\);/;/
meet: rank 0 is waited for | meet.c | 3000
s/cx_now_ns\(\) \+ cx_meet_patience_ns\(t->t\)/cx_now_ns() + 9 * cx_meet_patience_ns(t->t)/
meet: seats end too early | meet.c | 300
s/first \+ n == tree->ranks/first + n > tree->ranks/
boot: records are sent up twice | boot.c | 1000
s/b->have\[r\] \|= SENT_UP;/;/
door: a part of a proof is lost | door.c | 300
s/\*have \+= \(size_t\)n;/*have = (size_t)n;/
place: a name is left | place_open.c | 300
/^void cx_place_unlisten/,/^}/s/cx_sys->unlink.*/;/
mesh: lanes are mixed up | mesh.c | 1000
s/\(size_t\)w->lanes \+ claim->conn;/(size_t)w->lanes + (claim->conn ^ 1);/
careful: a success is one though others failed | careful.c | 3000
/^static int commit/,/^}/s/if \(ok\)/if (ok || !rc)/
careful: the line is that of the decision | careful.c | 10000
s/return cx_comm_die\(c, r, rc \? rc : agreed\)/return rc ? rc : cx_comm_die(c, r, agreed)/
careful: who is excluded says that all are | careful.c | 3000
s/if \(agreed == COLLX_ERR_EXCLUDED\)/if (0)/
guard: a commit is not waited for | guard.c | 10000 --uniform
/^static uint64_t patience_ns/,/^}/s/vote->kind == CX_MOTION_COMMIT/0/
guard: its own stop is the silence of rank 0 | guard.c | 20000
/^static uint64_t nap/,/^}/s/return took > much_ns \? took - much_ns : 0/return 0/
ward: its own stop is the silence of all | ward_beat.c | 20000
/^static void wait_on/,/^}/s/if \(late_ns < much_ns\)/if (1)/
ward: a straggler is told of at once | ward.c | 10000
s/\(uint64_t\)late.waited_ms \* 1000000 >= limit_ns/true/
ward: a straggler is not told on | ward.c | 1000
s/CX_FRAME_LATE, too_late/CX_FRAME_LATE, 0/
verdict: who came is late still | verdict.c | 20000
s/!has_proof\(&v->known\[late.rank\], longest, least_ms\)/0/
verdict: the last one is late | verdict.c | 1000
/^struct cx_late cx_verdict_late/,/^}/s/late.rank = r;/late.rank = v->ranks - 1;/
ring: it is opened, and all have their time anew | ward_ring.c | 10000
s/heard_ns\(w, s->rank, now_ns\);/now_ns;/
ring: both of a pair are given up | ward_ring.c | 20000
s/s->beside && w->tree.above < 0/0/
ring: those below are told of around it | ward_beat.c | 20000
s/if \(w->tree.leader\[s->rank\] == s->rank\)/if (1)/
council: off-by-one quorum | council.c | 10000
s/2 \* here > electors \|\|/2 * here + 1 > electors ||/
council: half is enough without the lowest | council.c | 10000
s/\(2 \* here == electors && is_in\(c, lowest\)\)/(2 * here == electors)/
council: the tie goes to the wrong side | council.c | 10000
s/2 \* here == electors && is_in\(c, lowest\)/2 * here == electors \&\& !is_in(c, lowest)/
council: silent counts as dead | council.c | 10000
/^static struct tally count/,/^}/s/cx_set_has\(&c->gone, r\)/cx_set_has(\&c->silent, r)/
council: the number is not checked | council.c | 10000
s/m->number != c->decided \+ 1 \|\|/0 \&\& m->number ||/
council: an accepted motion is forgotten | council.c | 10000
/^void cx_council_seated/,/^}/s/if \(c->accepted.ballot\)/if (0)/
council: a found motion is not proposed | council.c | 10000
/^static void find_motion/,/^}/s/if \(p->ballot\)/if (0)/
council: a decision is not passed on | council.c | 10000
/^static void decide/,/^}/s/tell_all\(c, CX_FRAME_DECIDED.*/;/
council: the last decision is not told to who comes | council.c | 20100
/^static bool hear_join/,/^}/s/if \(j->decided < c->decided\)/if (0)/
council: who joins does not say what was decided | council.c | 10000
/^void cx_council_seated/,/^}/s/if \(c->decided\)/if (0)/
council: an exclusion is ignored | council.c | 10000
/^static void make_motion/,/^}/s/unite\(&m->out, &c->exclude\);/;/
council: who is excluded does not hear of it | guard.c | 10000
/^int cx_guard_decide/,/^}/s/\? cx_guard_barred\(w\)/? 0/
council: a repair does not outvote a commit | council.c | 10000
/^static uint32_t kind_of/,/^}/s/\*outvoted = 1;/return CX_MOTION_MIXED;/
council: flags of one are enough | council.c | 10000
s/&committed : &flags\) &= of;/\&committed : \&flags) = of;/
council: the silent are not missed | council.c | 10000
/^static void preside/,/^}/s/now_ns >= missed_ns\(c, r\)/0/
council: accepted by those who are here at first | council.c | 10000
/^static struct tally count/,/^}/s/t.accepted &= /t.accepted |= /
council: deaths learnt later are kept | council.c | 10000
/^static void tell_deaths/,/^}/s/tell\(c, .*/;/
council: a chair is waited for without end | council.c | 10000
s/now_ns >= c->since_ns \+ c->patience_ns/0/
council: who took part is silent | council.c | 10000
/^static void decide/,/^}/s/cx_set_drop\(.*/;/
council: its own stop is the absence of others | council.c | 10000
/^void cx_council_forgive/,/^}/s/c->since_ns = now_ns;/;/
guard: a vote is kept for the next decision | guard.c | 20000
s/int rc = await_answer\(w, w->vote.number, last_ns\);/int rc = 0;/
rally: a visit that ends is a death | rally.c | 10000
s/bool died = .*/bool died = true;/
ward: a death is not told on | ward.c | 40000
/^static void tell_death/,/^}/s/tell_below\(.*/;/
ward: who talks nonsense is cut off | ward.c | 10000
/^static void talked_nonsense/,/^}/s/s->deaf = true;/cx_strand_cut(s);/
wire: the sum is not looked at | wire.c | 10000
s/rc == 1 && w->head.sum != /0 \&\& w->head.sum != /
rally: who left with a decision is as good as dead | rally.c | 10000
s/r->left_at\[rank\] <= r->council.decided \+ 1/1/
rally: who is given up is not told | rally.c | 10000
/^static void turn_away/,/^}/s/say\(r, rank, CX_FRAME_PART, NULL, 0\);/;/
rally: no heartbeats | rally.c | 10000
/^static uint64_t keep_alive/,/^}/s/say\(r, i, CX_FRAME_BEAT, NULL, 0\);/;/
rally: it sleeps through its own stop | rally.c | 10000
s/r->silence_ns \/ 4\)/UINT64_MAX \/ 4)/
rally: a number of an earlier round | rally.c | 10000
s/r->visit.number = -1;/;/
ward: who was stopped forgives nobody | ward_beat.c | 10000
/^void cx_ward_forgive/,/^}/s/w->strands\[i\].heard_ns = now_ns/(void)i/
ward: of several dead the first is told | ward.c | 10000
/^static void tell_verdict/,/^}/s/if \(cx_set_count\(&c->who\) > 1\)/if (0)/
verdict: the silent are called dead | verdict.c | 10000
/^static void tell_losses/,/^}/s/dead \? v->dead : v->silent/v->dead/
ward: a death comes before its last words | ward.c | 10000
s/cx_rally_left\(w->rally, rank, 0, now_ns\)/cx_council_dead(\&w->rally->council, rank, now_ns)/
ward: who is silent holds up who leaves | ward_leave.c | 10000
s/ && !w->strands\[i\].silent\)/)/
ward: silence is never seen | ward_beat.c | 10000
s/now_ns - s->heard_ns >= silence_ns/0/
ward: the silent do not hear the verdict | ward.c | 10000
/^void cx_ward_give_up_on/,/^}/s/s->silent = true;/s->silent = s->mute = true;/
ward: an abort is not passed up | ward.c | 10000
/^static bool pass_abort/,/^}/s/if \(cx_ward_up\(w\) && cx_ward_up\(w\) != from\)/if (0)/
ward: an abort behind a verdict is none | ward.c | 10000
/^static bool pass_abort/,/^}/s/if \(w->aborted\)/if (w->aborted || cx_ward_code(w))/
council: an abort is forgotten | council.c | 20000
/^static bool be_aborted/,/^}/s/tell_abort\(c, .*/;/
ward: a council is not called together | ward.c | 10000
/^static void convene/,/^}/s/tell_below\(.*/;/
ward: a council is not passed up | ward.c | 10000
/^static void convene/,/^}/s/if \(cx_ward_up\(w\)\)/if (0)/
ward: a revoke is dropped | ward.c | 10000
/^static void grant/,/^}/s/pass_up\(w, &r, now_ns\);/;/
ward: nobody lingers | ward_leave.c | 10000
/^static bool lingers/,/^}/s/return .*/return 0;/
ward: it goes with the tree | ward.c | 10000
s/\(w->departed \|\| !w->rally\)/1/
ward: a report of any origin | ward.c | 2000
s/cx_tree_towards\(&w->tree, r.origin\) != s->rank/0/
ring: that rank 0 is silent is not told on | ward_ring.c | 10000
/^void cx_ward_tell_beside/,/^}/s/s != but/0/
ring: nobody beats in it | ward_life.c | 10000
s/!cx_ring_is_next\(t, s->rank\)/true/
ring: rank 0 answers or not | ward_ring.c | 10000
/^void cx_ward_expect_verdict/,/^}/s/w->above_by_ns = .*/;/
ring: who leaves it is dead | ward_ring.c | 10000
/^void cx_ward_part/,/^}/s/cx_ward_tell_beside.*/;/
ring: chords go astray | ring.c | 10000
/^static bool has_chord/,/^}/s/back = leaders\(t\) - d/back = d/
meet: a rank may come twice | meet.c | 2000
s/r == 0 \|\| r == t->t->rank \|\| is_taken\(t, \(int\)r\)/r == 0 || r == t->t->rank/
meet: who ended is waited for | meet.c | 10000
s/rc = look_for_ended\(t\)/rc = 0 \&\& look_for_ended(t)/
meet: who came again is missed still | meet.c | 10000
s/t->ended_ns\[claim->rank\] = 0;/;/
ward: a leave of any origin | ward.c | 2000
s/^.*cx_ward_is_up\(w, s\) \? towards >= 0 : towards != s->rank.*$/\tif (towards == -77)/
ward: a verdict from below | ward.c | 3000
/^static bool hear_verdict/,/^}/s/!cx_ward_is_up\(w, s\) \|\|//
ward: a question from below | ward.c | 3000
/^static bool hear_ask/,/^}/s/!cx_ward_is_up\(w, s\) \|\| //
ward: room is taken twice | strand.c | 20000
s/memmove\(s->out, s->out \+ s->at, waiting\)/memmove(s->out, s->out, waiting)/
ward: an unknown frame is skipped | ward.c | 3000
s/default: return false;/default: return true;/
ward: who leaves relays nothing | ward_leave.c | 20000
s/return below && /return 0 \&\& /
wire: the rest is not read | wire.c | 60000
s/\t\tread_rest\(w->fd\);/\t\t;/
ward: signs are not checked | ward.c | 3000
s/!cx_account_is_sound\(&a, len, w->tree.ranks\)/false/
verdict: the last cause counts | verdict.c | 20000
s/v->phase >= CX_COUNTING && !ends/false/;s/v->phase == CX_DOUBTING && r->hearsay/false/
verdict: who left is not blamed | verdict.c | 3000
/^static void blame_leaver/,/^}/s/!v->known\[r\].left \|\| v.*seq/true/
tree: any number is a rank | tree.c | 10000
s/r < 0 \|\| r >= t->ranks \|\| r == t->rank/r == t->rank/
meet: nobody hears who is gone | meet.c | 3000
s/tell\(&tree->up, CX_FRAME_GONE, child\) : 0/0 : 0/
boot: a record of any origin | boot.c | 3000
s/\(side == FROM_BELOW && cx_tree_towards\(t, who\) != from\) \|\|//
boot: nobody waits at the barrier | boot.c | 1000
/^int cx_boot_barrier/,/^}/s/return exchange_all.*/return b->fault + 0 * (int)x.len;/
boot: the barrier ends before those below came | boot.c | 1000
s/rc = gather\(b, x, FROM_BELOW, below\);/rc = x->len ? gather(b, x, FROM_BELOW, below) : 0;/
boot: an error is not passed on | boot.c | 2000
/^static int set_fault/,/^}/s/cx_meet_send_fault\(&t->down\[r\].*/;/
door: another user may speak | door.c | 3000
s/uid == geteuid\(\)/uid \|\| !uid/
auth: any proof will do | auth.c | 3000
s/if \(CRYPTO_memcmp\(want, proof \+ PROOF_MAC, MAC_BYTES\)\)/if (0)/
place: whoever listens is dead | place_open.c | 20000
s/return rc != -ECONNREFUSED && rc != -ENOENT;/return 0;/
council: who cannot connect stays | council.c | 1000
s/part_pairs\(c, &m->out\);/;/
council: of a pair the lower one goes | council.c | 1000
/^static void part_pairs/,/^}/s/cx_set_add\(out, r\);/cx_set_add(out, (int)lower - 1);/
council: of a pair both go | council.c | 1000
/^static void part_pairs/,/^}/s/cx_set_add\(out, r\);/& cx_set_add(out, (int)lower - 1);/
council: of a pair one goes though the other one does | council.c | 10000
/^static void part_pairs/,/^}/s/ && !cx_set_has\(out, \(int\)lower - 1\)//
council: whom a voter did not reach is forgotten | council.c | 1000
/^static bool hear_vote/,/^}/s/s->unreached = m->unreached;/;/
council: whom a voter did not reach is its neighbour | council.c | 10000
/^static void part_pairs/,/^}/s/\(int\)lower - 1\)/(int)lower)/
council: nobody may say whom it did not reach | council.c | 10000
s/m->kind == CX_MOTION_SHRINK \? \(uint64_t\)rank : 0/0/
mesh: whom it did not reach is a lane | mesh.c | 10000
s/1 \+ w.next \/ lanes;/1 + w.next;/
mesh: who answered is said not to have | mesh.c | 1000
s/cx_visit_is_unanswered\(&w.visit\) &&/1 \&\&/
mesh: whom it did not reach is not said | mesh.c | 1000
s/if \(rc == COLLX_ERR_INIT_TIMEOUT && m->unreached/if (0 \&\& m->unreached/
ring: who is said to be silent waits for rank 0 | ward_ring.c | 13000
s/who == w->tree.rank && w->tree.above < 0/who == w->tree.rank/
ward: a verdict does not say in which call | ward_cause.c | 300
/^size_t cx_ward_pack_verdict/,/^}/s/, .where = c->where,/,/
ward: what each saw for itself has a call | ward_cause.c | 3000
s/^\tif \(alone\)$/\tif (0)/
mesh: an error leaves lanes open | mesh.c | 3000
s/for \(int i = 0; rc && i < m->ranks \* lanes; i\+\+\)/for (int i = 0; 0 \&\& i < 1; i++)/
recover: who failed meanwhile counts | recover.c | 10000
/^static int all_have/,/^}/s/\*all = false;/;/
recover: an abort leaves the next one as it is | recover.c | 5000 --grow
/^static void drop_next/,/^}/s/cx_guard_end_now\(next->guard, rc\);/;/
recover: the next rank is one too high | recover.c | 100
/^static int rank_among/,/^}/s/i < r;/i <= r;/
recover: other decisions are this one | recover.c | 1000
s/if \(out->kind != vote->kind &&/if (0 \&\&/
recover: who was late called something else | recover.c | 3000
s/if \(out->kind == CX_MOTION_LATE\)/if (0)/
recover: an agreed no is a committed yes | recover.c | 1000
s/\*ok = m.kind == CX_MOTION_COMMIT && m.flags;/*ok = true;/
recover: whom it did not reach is another one | recover.c | 10000
/^static uint64_t as_here/,/^}/s/unreached - 1/unreached/
recover: what was not made is had | recover.c | 1000
s/all_have\(c, !made,/all_have(c, true,/
recover: a loss does not stop a meeting | recover.c | 3000
s/\.stop = cx_guard_lost_more,/.stop = NULL,/
recover: those who are out stop a meeting | recover.c | 1000
s/cx_set_count\(&m->out\) \};/0 };/
recover: origins are those of the last one | recover.c | 1000
/^static void keep_origins/,/^}/s/= c->origin\[r\];/= r;/
recover: the port of a place offered stays | recover.c | 300
s/^\t\tcx_uid_drop\(&vote.id\);/\t\t;/
recover: the port of the id for joiners stays | recover.c | 300
s/if \(c->rank == 0\) (.*as after any)/if (0) \1/
recover: joiners need the old secret | recover.c | 300
s/meet_again\(c, &m, false, joiners/meet_again(c, \&m, true, joiners/
recover: the number of joiners is not compared | recover.c | 1000 --grow
s/if \(m.flags != vote.flags\)/if (0)/
recover: grows with somebody lost | recover.c | 1000 --grow
/^int cx_recover_grow/,/^}/s/if \(cx_set_count\(&m.out\)\)/if (0)/
recover: no time for the last word | recover.c | 1000 --grow
s/cx_min\(until_ns, UINT64_MAX - patience_ns\(c\)\) \+ patience_ns\(c\)/until_ns/
recover: who cannot grow has grown | recover.c | 1000 --grow
/^int cx_recover_grow/,/^}/s/if \(!rc && all\)/if (!rc \&\& !made)/
uid: a port is not given back | uid.c | 300
/^void cx_uid_release/,/^}/s/if \(fd >= 0\)/if (0)/
'

cc="${CC:-cc} -O1 -std=c11 -w -D_GNU_SOURCE -I$src/include -I$src -I$src/src -I$src/src/base"
parts="boot meet door mesh place place_open net tree wire auth guard ward verdict sign plan
	ward_life ward_beat ward_cause ward_leave ward_ring strand council rally ring vault careful
	recover uid
	$(cd "$src/src" && ls base/*.c algo_*.c | sed 's/\.c$//')"

compile() { $cc -c "$1" -o "$2"; }
export -f compile
export cc

{
	for p in $parts; do echo "$src/src/$p.c $work/$(basename "$p").o"; done
	for f in "$src"/sim/*.c; do echo "$f $work/sim_$(basename "$f" .c).o"; done
	echo "$src/tools/collx-sim.c $work/sim_main.o"
} | xargs -P "$(nproc)" -L 1 bash -c 'compile "$0" "$1"' || { echo "does not build"; exit 1; }
link() { $cc "$work"/*.o -o "$1" -Wl,--wrap=cx_guard_decide -lcrypto -pthread; }
link "$work/sound" || { echo "does not link"; exit 1; }
"$work/sound" fault --seeds 300 >"$work/out" || { cat "$work/out"; exit 1; }

trim() { sed 's/^ *//; s/ *$//' <<<"$1"; }
missed=0 found=0 n=0
while IFS='|' read -r name file seeds && IFS= read -r edit; do
	name=$(trim "$name") file=$(trim "$file") seeds=$(trim "$seeds")
	case $few in
	all) ;;
	[0-9]*) [ $((n++)) -lt "$few" ] || break ;;
	*) [[ $name =~ $few ]] || continue ;;
	esac
	name=$(trim "$name") file=$(trim "$file") seeds=$(trim "$seeds")
	o=$work/$(basename "$file" .c).o
	sed -E "$edit" "$src/src/$file" >"$work/mutant.c"
	cmp -s "$src/src/$file" "$work/mutant.c" && {
		echo "$name: the source has changed, and there is nothing to edit"
		missed=$((missed + 1))
		continue
	}
	cp "$o" "$work/kept"
	if compile "$work/mutant.c" "$o" && link "$work/planted"; then
		rc=0
		{ timeout 300 "$work/planted" fault --seeds $seeds --stop >"$work/out"; } \
			2>/dev/null || rc=$?
		at=$(sed -n -E 's/^(seed|CRASHED: seed) ([0-9]*).*/\2/p' "$work/out" | head -n 1)
		if [ $rc = 124 ]; then
			echo "$name: NOT FOUND in 300 s"
			missed=$((missed + 1))
		elif [ $rc = 0 ]; then
			echo "$name: NOT FOUND in $seeds seeds"
			missed=$((missed + 1))
		else
			why=$(sed -n 's/^FAILED: //p' "$work/out" | head -n 1)
			echo "$name: found by seed ${at:-?}: ${why:-status $rc}"
			found=$((found + 1))
		fi
	else
		echo "$name: does not build"
		missed=$((missed + 1))
	fi
	mv "$work/kept" "$o"
done < <(sed 1d <<<"$table")
echo "$found found, $missed not"
[ $missed = 0 ]
