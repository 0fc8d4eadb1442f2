/* SPDX-License-Identifier: BSD-3-Clause */
/* The meeting of meet.h: one loop, whether for rank 0, a leader or a single rank. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "door.h"
#include "meet.h"

enum { LOCAL, PLACE, WAYS };
enum { SLICE_MS = 100 };
/* How long a rank that ended may stay away; others who met it may look for it as long. */
static const uint64_t again_ns = 1000000000;

struct meet {
	struct cx_meeting *m;
	struct cx_tree *t;
	bool complete;
	bool asked;         /* rank 0 was told that the deadline passed */
	bool here;          /* this is rank 0's host */
	bool lost_contest;  /* somebody else, or nobody, can listen at m->local */
	int missing;        /* rank 0: ranks that have not come */
	uint64_t *ended_ns; /* [rank]: when one that had come was seen to end; 0: it did not, or
			     * came again */
	uint64_t round_ns;  /* when the last round began */
	bool was_in;        /* rank 0 had let this one in, or the one that led it there */
	int lost;           /* the rank that led this one to rank 0 and ended; -1 */
	int way;            /* by which up was reached */
	int absent;         /* visits[LOCAL].absent when rank 0 listened; -1: it did not yet */
	uint64_t deadline_ns;
	struct cx_door *doors[WAYS];
	struct cx_visit visits[WAYS];
	struct cx_poll poll;
	int up;             /* numbers in the poll: of the wire up */
	int *down;          /* [rank], of those down */
};

static bool is_unix(const struct cx_place *p)
{
	return p->addr.ss_family == AF_UNIX;
}

/* Is the host's own place of use? Everybody is at a unix place anyway. */
static bool has_local(const struct meet *t)
{
	return t->m->local.name[0] && !is_unix(&t->m->place);
}

/* Is this an error that ends the meeting, wherever it came up? */
static bool is_fatal(int rc)
{
	return rc == COLLX_ERR_NOMEM || rc == COLLX_ERR_NOFILES;
}

/* ---- frames ---- */

int cx_meet_fault(const struct cx_wire *w)
{
	if (w->head.kind != CX_FRAME_FAULT || w->head.arg >= 0 ||
	    w->head.arg < COLLX_ERR_INTERNAL || w->head.len >= CX_FAULT_TEXT_MAX)
		return cx_fail(COLLX_ERR_CORRUPT,
			       "a control frame is damaged: kind %u, argument %d, %u bytes",
			       w->head.kind, w->head.arg, w->head.len);
	return cx_fail(w->head.arg, "%.*s", w->head.len, (const char *)w->body);
}

void cx_meet_send_fault(struct cx_wire *w, int code, const char *text)
{
	cx_wire_send(w, CX_FRAME_FAULT, code, text, cx_min(strlen(text), CX_FAULT_TEXT_MAX - 1), -1,
		     0);
}

/* Without waiting. Whether the other end is gone is seen where it is read. */
static int tell(struct cx_wire *w, enum cx_frame_kind kind, int arg)
{
	int rc = w->fd < 0 ? 0 : cx_wire_send(w, kind, arg, NULL, 0, -1, 0);

	return rc == COLLX_ERR_PEER_DEAD ? 0 : rc;
}

/* ---- who sits where ---- */

/* A rank of this one's own ended: all that it led, who did not, meet anew. */
static int forget(struct meet *t, int child)
{
	struct cx_tree *tree = t->t;

	cx_wire_close(&tree->down[child]);
	t->ended_ns[child] = cx_now_ns();
	for (int r = 0; r < tree->ranks; r++)
		if (tree->leader[r] >= 0 && (r == child || tree->leader[r] == child)) {
			tree->leader[r] = -1;
			t->missing++;
		}
	/* Before our welcome nobody is announced. */
	return tree->above >= 0 ? tell(&tree->up, CX_FRAME_GONE, child) : 0;
}

static bool has_ended(const struct cx_wire *w)
{
	struct pollfd p = { .fd = w->fd, .events = POLLRDHUP };

	return cx_sys->poll(&p, 1, 0) > 0 && p.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

/* Somebody sits there; unless that one, or its leader, ended and was not heard of yet. */
static bool is_taken(struct meet *t, int r)
{
	int child = cx_tree_towards(t->t, r);

	return t->t->leader[r] >= 0 && (child < 0 || !has_ended(&t->t->down[child]) ||
					forget(t, child));
}

static int check_rank(struct meet *t, int64_t r)
{
	if (r < 0 || r >= t->t->ranks)
		return cx_fail(COLLX_ERR_INVALID, "a process came as rank %lld of %d to %s",
			       (long long)r, t->t->ranks, t->m->place.name);
	if (r == 0 || r == t->t->rank || is_taken(t, (int)r))
		return cx_fail(COLLX_ERR_INVALID,
			       "rank %d is taken twice: two processes came to %s", (int)r,
			       t->m->place.name);
	return 0;
}

static int check_claim(struct meet *t, const struct cx_claim *claim)
{
	if (claim->kind != CX_CONN_CONTROL)
		return cx_fail(COLLX_ERR_INVALID, "a connection of kind %u came to the meeting",
			       claim->kind);
	if (claim->ranks != (uint32_t)t->t->ranks)
		return cx_fail(COLLX_ERR_INVALID, "rank %u says %u ranks, rank %d says %d",
			       claim->rank, claim->ranks, t->t->rank, t->t->ranks);
	return check_rank(t, claim->rank);
}

/* A rank that rank 0 counts has been welcomed, and knows why when its leader ends. */
static int welcome(struct meet *t, int r)
{
	int rc = tell(&t->t->down[r], CX_FRAME_WELCOME, t->t->rank);

	return rc ? rc : tell(&t->t->up, CX_FRAME_SEATED, r);
}

/* A proved connection becomes a rank's, or is told why the meeting ends. */
static int seat(struct meet *t, const struct cx_claim *claim, int fd, int leader)
{
	struct cx_tree *tree = t->t;
	struct cx_wire turned_away;
	int rc = check_claim(t, claim);

	if (rc) {
		cx_wire_init(&turned_away, fd);
		cx_meet_send_fault(&turned_away, rc, cx_error_text());
		cx_wire_close(&turned_away);
		return rc;
	}
	cx_wire_init(&tree->down[claim->rank], fd);
	tree->leader[claim->rank] = leader;
	t->ended_ns[claim->rank] = 0;
	t->missing--;
	return tree->above >= 0 || !tree->rank ? welcome(t, (int)claim->rank) : 0;
}

static int seat_here(void *ctx, const struct cx_claim *claim, int fd)
{
	struct meet *t = ctx;

	return seat(t, claim, fd, t->t->rank);
}

static int seat_leader(void *ctx, const struct cx_claim *claim, int fd)
{
	return seat(ctx, claim, fd, (int)claim->rank);
}

/* Who leads a host is known when it has been met. */
static uint32_t owner_at(int way)
{
	return way == LOCAL ? CX_TO_ANY : 0;
}

/* The ranks of this host cannot meet on it. */
static void say_without_local(int rc)
{
	char line[CX_FAULT_TEXT_MAX + 80];

	if (rc != COLLX_ERR_AUTH && rc != COLLX_ERR_SYSTEM)
		return;
	snprintf(line, sizeof(line), "%s: the ranks of this host go without shared memory",
		 cx_error_text());
	cx_sys->say(line);
}

static int open_door(struct meet *t, int way)
{
	struct cx_place *place = way == LOCAL ? &t->m->local : &t->m->place;
	int rc = t->t->down ? 0 : cx_tree_open_down(t->t);

	t->t->leader[t->t->rank] = t->t->rank;
	return rc ? rc : cx_door_open(&t->doors[way], place, &t->m->secret, owner_at(way),
				      t->t->ranks - 1, is_unix(place) ? seat_here : seat_leader, t);
}

/* Rank 0's: the one between hosts last, since whoever finds that one looks for the
 * other once more. */
static int open_doors(struct meet *t)
{
	int rc = has_local(t) ? open_door(t, LOCAL) : 0;

	say_without_local(rc);
	return is_fatal(rc) ? rc : open_door(t, PLACE);
}

static void close_doors(struct meet *t)
{
	for (int way = 0; way < WAYS; way++) {
		if (t->doors[way]) {
			t->m->wrong_proofs += cx_door_tell(t->doors[way]);
			cx_door_close(t->doors[way]);
		}
		t->doors[way] = NULL;
		cx_visit_end(&t->visits[way]);
	}
}

/* ---- the way up ---- */

static void visit(struct meet *t, int way)
{
	const struct cx_claim claim = { .rank = (uint32_t)t->t->rank,
					.ranks = (uint32_t)t->t->ranks, .kind = CX_CONN_CONTROL,
					.to = owner_at(way) };

	cx_visit_begin(&t->visits[way], way == LOCAL ? &t->m->local : &t->m->place, &t->m->secret,
		       &claim);
	t->visits[way].gives_up = way == LOCAL;
	if (t->was_in && (way == PLACE || t->here))
		t->visits[way].gone_ns = cx_now_ns() + again_ns;
}

/* Past m->local, straight to rank 0. */
static void go_straight(struct meet *t)
{
	cx_visit_end(&t->visits[LOCAL]);
	if (!t->visits[PLACE].place)
		visit(t, PLACE);
	t->visits[PLACE].hold = false;
}

/* Begins, or begins anew. */
static void set_out(struct meet *t)
{
	t->lost_contest = false;
	t->absent = -1;
	visit(t, has_local(t) ? LOCAL : PLACE);
}

/* Nobody answers at m->local: lead this host, unless somebody else is quicker. */
static int compete(struct meet *t)
{
	int rc;

	if (t->lost_contest) {
		go_straight(t);
		return 0;
	}
	rc = open_door(t, LOCAL);
	if (is_fatal(rc))
		return rc;
	if (!rc) {
		go_straight(t);
		return 0;
	}
	say_without_local(rc);
	t->lost_contest = true;
	visit(t, LOCAL);
	return 0;
}

/* Nobody was at m->local. On rank 0's host that is no place to lead from; rank 0 opens
 * it first or not at all, so when it listens between hosts one more look is enough. */
static int look_round(struct meet *t)
{
	const struct cx_visit *local = &t->visits[LOCAL];

	if (!local->place || !local->absent)
		return 0;
	if (!t->here)
		return compete(t);
	if (!t->visits[PLACE].place) {
		visit(t, PLACE);
		t->visits[PLACE].hold = true;
	} else if (t->absent < 0 && cx_visit_is_through(&t->visits[PLACE])) {
		t->absent = (int)local->absent;
	} else if (t->absent >= 0 && (int)local->absent > t->absent) {
		go_straight(t);
	}
	return 0;
}

/* A door that closed was rank 0's, unless a leader of another host kept it. */
static int name_rank_0(int rc)
{
	char why[CX_FAULT_TEXT_MAX];

	snprintf(why, sizeof(why), "%s", cx_error_text());
	return rc == COLLX_ERR_PEER_DEAD ? cx_fail(rc, "rank 0 is gone: %s", why) : rc;
}

/* m->local is there, and does not let this rank in. */
static int without_local(struct meet *t, int rc)
{
	cx_visit_end(&t->visits[LOCAL]);
	if (!t->here)
		return compete(t);
	if (rc == COLLX_ERR_PEER_DEAD)
		return name_rank_0(rc);
	go_straight(t);
	return 0;
}

static int visits_go_on(struct meet *t)
{
	for (int way = 0; way < WAYS; way++) {
		int rc = cx_visit_go_on(&t->visits[way], &t->poll);

		if (rc == 1) {
			cx_wire_init(&t->t->up, t->visits[way].fd);
			t->way = way;
			cx_visit_end(&t->visits[!way]);
			return 0;
		}
		if (rc < 0 && way == LOCAL && !is_fatal(rc))
			rc = without_local(t, rc);
		else if (rc)
			rc = name_rank_0(rc);
		if (rc)
			return rc;
	}
	return look_round(t);
}

/* The wire up closed. */
static int lose_up(struct meet *t)
{
	struct cx_tree *tree = t->t;

	cx_wire_close(&tree->up);
	if (tree->above == 0 || is_unix(&t->m->place))
		return cx_fail(COLLX_ERR_PEER_DEAD,
			       "rank 0 died while the ranks met at %s: its process ended "
			       "(control connection closed)", t->m->place.name);
	t->was_in |= t->way == PLACE || t->here || tree->above > 0;
	if (t->way == PLACE) { /* before its welcome */
		visit(t, PLACE);
		return 0;
	}
	if (tree->above > 0)
		t->lost = tree->above;
	tree->above = -1;
	tree->leader[tree->rank] = -1;
	set_out(t);
	return 0;
}

/* ---- what comes in ---- */

static int be_welcomed(struct meet *t, int by)
{
	struct cx_tree *tree = t->t;
	int rc = 0;

	if (by < 0 || by >= tree->ranks || by == tree->rank || tree->above >= 0)
		return cx_fail(COLLX_ERR_CORRUPT, "rank %d welcomes rank %d", by, tree->rank);
	tree->above = by;
	for (int r = 0; !rc && tree->down && r < tree->ranks; r++)
		rc = tree->down[r].fd >= 0 ? welcome(t, r)
		     : t->ended_ns[r]      ? tell(&tree->up, CX_FRAME_GONE, r)
					   : 0;
	return rc;
}

/* Is what rank 0 says of this rank's own host so? */
static int check_seats(const struct meet *t, const int32_t *leader)
{
	const struct cx_tree *tree = t->t;

	for (int r = 0; r < tree->ranks; r++) {
		bool mine = tree->down && tree->down[r].fd >= 0;

		if (leader[r] < 0 || leader[r] >= tree->ranks || leader[leader[r]] != leader[r] ||
		    (mine && leader[r] != tree->rank))
			return cx_fail(COLLX_ERR_CORRUPT, "rank 0 has a wrong seat for rank %d", r);
		if (r != tree->rank && !mine && leader[r] == tree->rank)
			return cx_fail(COLLX_ERR_PEER_DEAD,
				       "rank %d died: its process ended when all had come", r);
	}
	return 0;
}

/* Passes a part of the seats down; who has ended meanwhile is seen soon enough. */
static int send_part(struct meet *t, int first, const void *leaders, size_t len)
{
	struct cx_tree *tree = t->t;

	for (int r = 0; tree->down && r < tree->ranks; r++) {
		int rc = tree->down[r].fd < 0 ? 0 : cx_wire_send(&tree->down[r], CX_FRAME_SEATS,
								 first, leaders, len, -1,
								 t->deadline_ns);

		if (rc && rc != COLLX_ERR_PEER_DEAD)
			return rc;
	}
	return 0;
}

/* They are complete with the last one. */
static int take_part(struct meet *t, const struct cx_wire *w)
{
	struct cx_tree *tree = t->t;
	int first = w->head.arg, n = w->head.len / (int)sizeof(int32_t), rc;

	if (first < 0 || n == 0 || first > tree->ranks - n)
		return cx_fail(COLLX_ERR_CORRUPT, "rank 0 has %d seats from rank %d on", n, first);
	rc = send_part(t, first, w->body, (size_t)n * sizeof(int32_t));
	memcpy(tree->leader + first, w->body, (size_t)n * sizeof(int32_t));
	t->complete = first + n == tree->ranks;
	return rc || !t->complete ? rc : check_seats(t, tree->leader);
}

static int hear_from_above(struct meet *t)
{
	struct cx_wire *w = &t->t->up;

	if (w->head.kind == CX_FRAME_WELCOME)
		return be_welcomed(t, w->head.arg);
	if (w->head.kind == CX_FRAME_SEATS && t->t->above >= 0)
		return take_part(t, w);
	return cx_meet_fault(w);
}

/* A leader's word, of one that may have come to it before rank 0 was there, and may have come
 * again elsewhere. */
static void unseat(struct meet *t, int r, int leader)
{
	int *seat = &t->t->leader[r];

	if (*seat >= 0 && *seat != leader)
		return;
	t->missing += *seat >= 0;
	*seat = -1;
	t->ended_ns[r] = cx_now_ns();
}

static int hear_from_below(struct meet *t, int from)
{
	struct cx_tree *tree = t->t;
	struct cx_wire *w = &tree->down[from];
	bool leads = tree->rank == 0 && tree->leader[from] == from;
	int r = w->head.arg, rc;

	if (w->head.kind == CX_FRAME_OVERDUE) {
		if (!t->asked)
			t->deadline_ns = cx_min(t->deadline_ns, cx_now_ns());
		return 0;
	}
	if (w->head.kind == CX_FRAME_SEATED && leads) {
		rc = check_rank(t, r);
		if (!rc) {
			tree->leader[r] = from;
			t->ended_ns[r] = 0;
			t->missing--;
		}
		return rc;
	}
	if (w->head.kind == CX_FRAME_GONE && leads && r > 0 && r < tree->ranks && r != from) {
		unseat(t, r, from);
		return 0;
	}
	return cx_meet_fault(w);
}

/* All that the rank above (r == -1) or a rank below has to say. */
static int hear(struct meet *t, int r)
{
	struct cx_wire *w = r < 0 ? &t->t->up : &t->t->down[r];
	int rc = 0;

	while (!rc && !t->complete && w->fd >= 0) {
		rc = cx_wire_receive(w);
		if (rc == 0)
			return 0;
		if (rc == COLLX_ERR_PEER_DEAD)
			return r < 0 ? lose_up(t) : forget(t, r);
		if (rc < 0)
			return rc;
		rc = r < 0 ? hear_from_above(t) : hear_from_below(t, r);
		cx_wire_next(w);
	}
	return rc;
}

static int hear_all(struct meet *t)
{
	const struct cx_tree *tree = t->t;
	int rc = 0;

	/* From below first: what ranks said may be why rank 0 ends it. */
	for (int r = 0; !rc && tree->down && r < tree->ranks; r++)
		if (cx_poll_came(&t->poll, t->down[r]))
			rc = hear(t, r);
	return rc || !cx_poll_came(&t->poll, t->up) ? rc : hear(t, -1);
}

/* ---- the end ---- */

void cx_meet_missing(int (*has)(const void *ctx, int r), const void *ctx, int ranks, char *text,
		     size_t len)
{
	size_t at, start;
	int n = 0;

	for (int r = 0; r < ranks; r++)
		n += !has(ctx, r);
	start = at = (size_t)snprintf(text, len, n == 1 ? "rank " : "ranks ");
	for (int r = 0; r < ranks && at + 32 < len; r++) {
		int from = r;

		if (has(ctx, r))
			continue;
		while (r + 1 < ranks && !has(ctx, r + 1))
			r++;
		at += (size_t)snprintf(text + at, len - at, r > from ? "%s%d-%d" : "%s%d",
				       at > start ? ", " : "", from, r);
	}
}

uint64_t cx_meet_patience_ns(const struct cx_tree *t)
{
	return t->above == 0 ? 600000000 : 1000000000;
}

static int has_come(const void *ctx, int r)
{
	return ((const struct cx_tree *)ctx)->leader[r] >= 0;
}

/* The rank that has been away the longest, since before then; -1. */
static int ended_before(const struct meet *t, uint64_t then_ns)
{
	int first = -1;

	for (int r = 0; r < t->t->ranks; r++)
		if (t->ended_ns[r] && t->ended_ns[r] < then_ns) {
			then_ns = t->ended_ns[r];
			first = r;
		}
	return first;
}

/* Rank 0: those who wait shall not wait until the deadline for one that is dead. */
static int look_for_ended(struct meet *t)
{
	uint64_t now = cx_now_ns(), late = now - t->round_ns;
	int r;

	/* Who came again while this process was stopped stands at the door. */
	for (r = 0; t->round_ns && late > again_ns / 2 && r < t->t->ranks; r++)
		t->ended_ns[r] += t->ended_ns[r] ? late : 0;
	t->round_ns = now;
	r = ended_before(t, cx_max(now, again_ns) - again_ns);
	return r < 0 ? 0
		     : cx_fail(COLLX_ERR_PEER_DEAD,
			       "rank %d died while the ranks met at %s: its process ended, and "
			       "did not come again within %d s", r, t->m->place.name,
			       (int)(again_ns / 1000000000));
}

/* That the place is no way between hosts, where it is none. */
static void say_loopback(const struct meet *t, char *text, size_t len)
{
	const struct cx_meeting *m = t->m;

	text[0] = '\0';
	if (is_unix(&m->place) || !cx_place_is_local(&m->place))
		return;
	if (m->several[0])
		snprintf(text, len, "; an address of this host alone, and by %s there are others: "
			 "give one at which they reach rank 0", m->several);
	else
		snprintf(text, len, "; an address of this host alone: no other host reaches it");
}

/* Rank 0's word at the deadline. */
static int nobody_more(const struct meet *t)
{
	char ranks[96], strangers[2][160] = { "" }, ended[64] = "", local[200];
	int gone = ended_before(t, UINT64_MAX);

	cx_meet_missing(has_come, t->t, t->t->ranks, ranks, sizeof(ranks));
	for (int way = 0; way < WAYS; way++)
		if (t->doors[way])
			cx_door_strangers(t->doors[way], strangers[way], sizeof(strangers[way]));
	if (gone >= 0)
		snprintf(ended, sizeof(ended), "; rank %d had come, and its process ended", gone);
	say_loopback(t, local, sizeof(local));
	return cx_fail(COLLX_ERR_INIT_TIMEOUT,
		       "creation: %s of %d did not come to %s before the deadline%s%s%s%s",
		       ranks, t->t->ranks, t->m->place.name, ended, strangers[PLACE],
		       strangers[LOCAL], local);
}

/* The word of a rank that did not reach rank 0. */
static int nobody_there(const struct meet *t)
{
	const struct cx_visit *v = &t->visits[t->visits[PLACE].place ? PLACE : LOCAL];
	char why[CX_FAULT_TEXT_MAX], local[200];

	cx_visit_why(v, why, sizeof(why));
	say_loopback(t, local, v->refusals ? 1 : sizeof(local)); /* somebody judged us */
	/* A late rank 0 and a job that is over look alike. */
	return cx_fail(COLLX_ERR_INIT_TIMEOUT, "creation: rank 0 did not open its door: %s%s%s",
		       why,
		       v->absent && !v->refusals ? "; did it not start, or is this job over?" : "",
		       local);
}

static int overdue(struct meet *t)
{
	if (t->t->rank == 0)
		return nobody_more(t);
	if (t->t->up.fd < 0)
		return nobody_there(t);
	if (!t->asked) {
		t->asked = true;
		t->deadline_ns = cx_now_ns() + cx_meet_patience_ns(t->t);
		return tell(&t->t->up, CX_FRAME_OVERDUE, t->t->rank);
	}
	if (t->t->above < 0)
		return cx_fail(COLLX_ERR_INIT_TIMEOUT,
			       "creation: who let rank %d in at %s said nothing more before the "
			       "deadline: is its process stopped, or rank 0 not there?",
			       t->t->rank, has_local(t) ? t->m->local.name : t->m->place.name);
	return cx_fail(COLLX_ERR_INIT_TIMEOUT,
		       "creation: rank %d, met on the way to %s, stopped answering before the "
		       "deadline", t->t->above, t->m->place.name);
}

/* Rank 0: all have come; everybody learns who sits where. */
static int send_seats(struct meet *t)
{
	enum { PART = CX_FRAME_MAX / sizeof(int32_t) };
	int rc = 0;

	t->complete = true;
	for (int at = 0; !rc && at < t->t->ranks; at += PART)
		rc = send_part(t, at, t->t->leader + at,
			       cx_min(PART, (size_t)(t->t->ranks - at)) * sizeof(int32_t));
	return rc;
}

/* ---- the loop ---- */

static int wait_round(struct meet *t)
{
	struct cx_poll *p = &t->poll;
	struct cx_tree *tree = t->t;

	cx_poll_begin(p, SLICE_MS);
	p->until_ns = cx_min(p->until_ns, t->deadline_ns);
	for (int way = 0; way < WAYS; way++) {
		if (t->doors[way])
			cx_door_watch(t->doors[way], p);
		cx_visit_watch(&t->visits[way], p);
	}
	t->up = tree->up.fd >= 0 ? cx_poll_add(p, tree->up.fd, POLLIN) : -1;
	for (int r = 0; tree->down && r < tree->ranks; r++)
		t->down[r] = tree->down[r].fd >= 0 ? cx_poll_add(p, tree->down[r].fd, POLLIN) : -1;
	return cx_poll_wait(p);
}

static int meet_round(struct meet *t)
{
	int rc = wait_round(t);

	if (!rc)
		rc = hear_all(t);
	for (int way = 0; !rc && !t->complete && way < WAYS; way++)
		rc = t->doors[way] ? cx_door_serve(t->doors[way], &t->poll) : 0;
	if (!rc && !t->complete)
		rc = visits_go_on(t);
	if (!rc && !t->complete && t->t->rank == 0 && !t->missing)
		rc = send_seats(t);
	if (!rc && !t->complete && t->t->rank == 0)
		rc = look_for_ended(t);
	if (!rc && !t->complete && cx_now_ns() >= t->deadline_ns)
		rc = overdue(t);
	return rc || t->complete ? rc : cx_meeting_stops(t->m);
}

static int meet_init(struct meet *t)
{
	size_t ranks = (size_t)t->t->ranks;

	t->poll.fds = cx_alloc(WAYS * (size_t)cx_door_room(t->t->ranks) + WAYS + 1 + ranks,
			       sizeof(*t->poll.fds));
	t->down = cx_alloc(ranks, sizeof(*t->down));
	t->ended_ns = cx_alloc(ranks, sizeof(*t->ended_ns));
	if (!t->poll.fds || !t->down || !t->ended_ns)
		return COLLX_ERR_NOMEM;
	if (t->t->rank == 0)
		return open_doors(t);
	t->here = has_local(t) && cx_place_is_here(&t->m->place);
	set_out(t);
	return 0;
}

/* What a rank says whose leader ended after they had met rank 0. */
static int add_lost(const struct meet *t, int rc)
{
	char why[CX_FAULT_TEXT_MAX], who[32];

	snprintf(why, sizeof(why), "%s", cx_error_text());
	snprintf(who, sizeof(who), "rank %d", t->lost);
	if (t->lost < 0 || strstr(why, who))
		return rc;
	return cx_fail(rc, "%s, which led this host, died while the ranks met; then: %s", who, why);
}

int cx_meet(struct cx_meeting *m, struct cx_tree *tree)
{
	struct meet t = { .m = m, .t = tree, .missing = m->ranks - 1, .lost = -1, .absent = -1,
			  .deadline_ns = m->deadline_ns };
	int rc = meet_init(&t);

	while (!rc && !t.complete)
		rc = meet_round(&t);
	rc = rc ? add_lost(&t, rc) : 0;
	close_doors(&t);
	cx_free(t.poll.fds);
	cx_free(t.down);
	cx_free(t.ended_ns);
	return rc;
}
