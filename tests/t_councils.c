/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Councils of up to 9 ranks in virtual time, with kills, cuts, late and contrary votes.
 * However they go, no two ranks ever learn different decisions, what is decided follows
 * from the votes, and everybody alive ends with all decisions or a code. A failure
 * names its seed.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <criterion/criterion.h>

#include "src/council.h"

enum {
	MAX = 9, ROUNDS = 3, EVENTS = 4096, WIRES = 4096,
	DELAY = 50, FACT = 200, BEAT = 400, RETRY = 100, PATIENCE = 1000, TIMEOUT = 5000,
	NEVER = 1 << 30
};

enum happening {
	FRAME, CONNECT, CLOSED, DEATH, SILENCE, TICK, VOTE, BEGIN, ABORT, KILL, CUT, HEAL
};

struct event {
	uint64_t at, order;
	enum happening what;
	int who, about;    /* CUT, HEAL: -1 is everybody */
	uint64_t wire;
	enum cx_frame_kind kind;
	size_t len;
	unsigned char body[CX_FRAME_MAX];
};

/* How ranks go. */
enum manner {
	KNOWN,  /* connections close, and everybody is told */
	SEEN,   /* connections close, and nobody is told */
	MUTE,   /* the host is gone: connections stay, until silence is noticed */
	MANNERS
};

struct plan {
	int n;
	enum manner manner;
	bool resets;       /* frames of who dies are lost */
	bool cuts;         /* there are some */
	bool partition;    /* the first `left` ranks, by `order`, and the others, from the start */
	bool no_exclusion; /* of anybody alive, for nothing but a vote */
	int left, order[MAX];
	int kill[2];       /* at send number kill_at, exhaustively; -1: nobody */
	int kill_at[2];
	bool steady;       /* no random delays */
};

struct world {
	struct plan p;
	uint64_t rng, now, ids, orders, last_fault;
	struct cx_council c[MAX];
	bool alive[MAX], cut[MAX][MAX], was_cut[MAX], votes_late;
	struct { int to; uint64_t wire; } up[MAX];
	uint64_t down[MAX][MAX], fifo[MAX][MAX], stuck[WIRES], ends[MAX];
	uint64_t seen[MAX], cast[MAX][ROUNDS + 1];
	int deaths, sends, contrary, victim, late, aborts;
	uint32_t kind[ROUNDS + 1];
	struct cx_motion motion[ROUNDS + 1];
	struct cx_set deciders[ROUNDS + 1];
	bool limits;       /* met the disagreement that council.h tells of, which ends it */
	struct event pool[EVENTS];
	int heap[EVENTS], spare[EVENTS], heaped, spares;
	char wrong[256];
};

static struct world w;

static void wrong(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void wrong(const char *fmt, ...)
{
	va_list ap;

	if (w.wrong[0])
		return;
	va_start(ap, fmt);
	vsnprintf(w.wrong, sizeof(w.wrong), fmt, ap);
	va_end(ap);
}

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

/* 0 .. bound - 1 */
static int dice(int bound)
{
	return (int)(mix(w.rng += 0x9e3779b97f4a7c15) % (uint64_t)bound);
}

static uint64_t within(int bound)
{
	return w.p.steady ? 1 : 1 + (uint64_t)dice(bound);
}

/* ---- events ---- */

static bool before(int a, int b)
{
	const struct event *x = &w.pool[a], *y = &w.pool[b];

	return x->at != y->at ? x->at < y->at : x->order < y->order;
}

static struct event *post(enum happening what, uint64_t at, int who, int about)
{
	struct event *e;
	int i, id;

	if (!w.spares) {
		fprintf(stderr, "t_council: too many events\n");
		abort();
	}
	id = w.spare[--w.spares];
	e = &w.pool[id];
	e->at = at;
	e->order = w.orders++;
	e->what = what;
	e->who = who;
	e->about = about;
	e->wire = 0;
	for (i = w.heaped++; i && before(id, w.heap[(i - 1) / 2]); i = (i - 1) / 2)
		w.heap[i] = w.heap[(i - 1) / 2];
	w.heap[i] = id;
	return e;
}

/* The next event; it stays valid until the next post after its release. */
static int take(void)
{
	int top = w.heap[0], last = w.heap[--w.heaped], i = 0;

	for (int k; (k = 2 * i + 1) < w.heaped; i = k) {
		if (k + 1 < w.heaped && before(w.heap[k + 1], w.heap[k]))
			k++;
		if (!before(w.heap[k], last))
			break;
		w.heap[i] = w.heap[k];
	}
	w.heap[i] = last;
	return top;
}

/* Behind all that is on the way from a to b. */
static uint64_t in_order(int a, int b)
{
	uint64_t at = w.now + within(DELAY);

	if (at < w.fifo[a][b])
		at = w.fifo[a][b];
	return w.fifo[a][b] = at;
}

/* ---- faults ---- */

static void kill_rank(int r)
{
	if (!w.alive[r])
		return;
	w.alive[r] = false;
	w.deaths++;
	w.last_fault = w.now;
	w.ends[r] = w.p.resets ? w.now + (uint64_t)(w.p.steady ? 0 : dice(DELAY)) : UINT64_MAX;
	for (int i = 0; i < w.p.n; i++) {
		if (i == r)
			continue;
		if (w.p.manner == KNOWN)
			post(DEATH, w.now + within(FACT), i, r);
		else if (w.p.manner == MUTE)
			post(SILENCE, w.now + BEAT + within(FACT), i, r);
		if (w.p.manner == MUTE)
			continue;
		if (w.up[i].to == r && w.up[i].wire)
			post(CLOSED, in_order(r, i), i, r)->wire = w.up[i].wire;
		if (w.up[r].to == i && w.up[r].wire)
			post(CLOSED, in_order(r, i), i, r)->wire = w.up[r].wire;
	}
}

/* Connections between the two hang, and are given up. */
static void hang(int a, int b)
{
	uint64_t wire = w.up[a].to == b ? w.up[a].wire : w.up[b].to == a ? w.up[b].wire : 0;

	if (!wire)
		return;
	w.stuck[wire % WIRES] |= a < b ? 1 : 2;
	post(CLOSED, w.now + BEAT + within(FACT), a, b)->wire = wire;
	post(CLOSED, w.now + BEAT + within(FACT), b, a)->wire = wire;
}

static void cut_way(int a, int b)
{
	if (a == b || w.cut[a][b])
		return;
	w.cut[a][b] = w.was_cut[a] = w.was_cut[b] = true;
	w.last_fault = w.now;
	hang(a, b);
	if (dice(2)) {
		post(SILENCE, w.now + BEAT + within(FACT), a, b);
		post(SILENCE, w.now + BEAT + within(FACT), b, a);
	}
}

static bool is_cut(int a, int b)
{
	return w.cut[a][b] || w.cut[b][a];
}

/* ---- the ranks ---- */

static uint64_t flags_of(int r, uint64_t number)
{
	return ~mix(w.p.n + r + 100 * number) | mix(7 * r + number);
}

static void make_id(collx_unique_id *id, int r, uint64_t number)
{
	memset(id, 0, sizeof(*id));
	snprintf((char *)id, 32, "%d of %d", r, (int)number);
}

static uint32_t kind_of(int r, uint64_t number)
{
	bool other = w.contrary == r + 1 && number == 2;

	return other ? CX_MOTION_AGREE + CX_MOTION_SHRINK - w.kind[number] : w.kind[number];
}

static bool votes_out(int r, uint64_t number)
{
	return w.victim >= 0 && kind_of(r, number) == CX_MOTION_SHRINK && r % 2 &&
	       number != ROUNDS;
}

static void send_frame(void *ctx, int to, enum cx_frame_kind kind, const void *body, size_t len)
{
	int me = (int)((struct cx_council *)ctx - w.c);
	uint64_t wire = to < me ? (w.up[me].to == to ? w.up[me].wire : 0) : w.down[me][to];
	struct event *e;

	w.sends++;
	for (int i = 0; i < 2; i++)
		if (w.sends == w.p.kill_at[i] && w.p.kill[i] >= 0)
			kill_rank(w.p.kill[i]);
	if (to < 0 || to >= w.p.n || to == me || len > CX_FRAME_MAX)
		wrong("rank %d sends %zu bytes to %d", me, len, to);
	if (!wire || !w.alive[me] || w.wrong[0] || w.stuck[wire % WIRES] & (me < to ? 1 : 2))
		return;
	e = post(FRAME, in_order(me, to), to, me);
	e->wire = wire;
	e->kind = kind;
	e->len = len;
	memcpy(e->body, body, len);
}

static void leave(int me)
{
	int to = w.up[me].to;

	if (w.up[me].wire && !is_cut(me, to))
		post(CLOSED, in_order(me, to), to, me)->wire = w.up[me].wire;
	w.up[me].to = -1;
	w.up[me].wire = 0;
}

static void learn(int me);

/* Does what its caller must after each call. */
static void attend(int me)
{
	struct cx_council *c = &w.c[me];

	learn(me);
	if (!w.alive[me])
		return;
	if (w.up[me].to != c->chair || cx_council_is_over(c))
		leave(me);
	if (c->chair >= 0 && c->chair != me && !cx_council_is_over(c) &&
	    w.up[me].to < 0) {
		w.up[me].to = c->chair;
		post(CONNECT, w.now + within(DELAY), me, c->chair);
	}
	if (c->due_ns != UINT64_MAX)
		post(TICK, c->due_ns < w.now ? w.now : c->due_ns, me, 0);
}

static void try_to_connect(int me, int to)
{
	struct cx_council *c = &w.c[me];

	if (c->chair != to || c->seated || cx_council_is_over(c) || w.up[me].to != to ||
	    w.up[me].wire)
		return;
	if (!w.alive[to] || is_cut(me, to)) {
		post(CONNECT, w.now + RETRY, me, to);
		return;
	}
	w.up[me].wire = ++w.ids;
	w.stuck[w.ids % WIRES] = 0;
	cx_council_seated(c, w.now);
}

static void receive(const struct event *e)
{
	struct cx_council *c = &w.c[e->who];
	int from = e->about;

	if (!w.alive[from] && w.now >= w.ends[from])
		return;
	if (from > e->who) {
		uint64_t *wire = &w.down[e->who][from];

		if (e->wire < *wire)
			return;
		if (e->wire > *wire && *wire)
			cx_council_parted(c, from, w.now);
		*wire = e->wire;
	} else if (w.up[e->who].to != from || w.up[e->who].wire != e->wire) {
		return;
	}
	if (!cx_council_hear(c, from, e->kind, e->body, e->len, w.now))
		wrong("rank %d refuses frame %d from %d", e->who, e->kind, from);
}

static void part(int me, int other, uint64_t wire)
{
	if (w.up[me].to == other && w.up[me].wire == wire) {
		w.up[me].to = -1;
		w.up[me].wire = 0;
	} else if (w.down[me][other] == wire) {
		w.down[me][other] = 0;
	} else {
		return;
	}
	cx_council_parted(&w.c[me], other, w.now);
}

static void vote(int me)
{
	struct cx_council *c = &w.c[me];
	uint64_t number = c->decided + 1;
	struct cx_motion m = { .number = number };

	if (number > ROUNDS || c->code || w.cast[me][number] != NEVER)
		return;
	m.kind = kind_of(me, number);
	m.flags = flags_of(me, number);
	make_id(&m.id, me, number);
	if (votes_out(me, number))
		cx_set_add(&m.out, w.victim);
	w.cast[me][number] = w.now;
	cx_council_vote(c, &m, w.now + TIMEOUT, w.now);
}

static void think(int me)
{
	bool late = w.late == me + 1 && w.c[me].decided == 1;

	post(VOTE, w.now + (late ? 2 * TIMEOUT : within(4 * DELAY)), me, 0);
}

/* ---- what must hold ---- */

static bool excludes(const struct cx_motion *m)
{
	return m->kind == CX_MOTION_AGREE || m->kind == CX_MOTION_SHRINK;
}

static void check_votes(const struct cx_motion *m)
{
	uint64_t in = UINT64_MAX, all = UINT64_MAX;
	int lowest = -1;
	collx_unique_id id;

	for (int r = 0; r < w.p.n; r++) {
		bool has = w.cast[r][m->number] != NEVER;

		if (has)
			all &= flags_of(r, m->number);
		if (cx_set_has(&m->out, r))
			continue;
		in &= flags_of(r, m->number);
		if (!has || kind_of(r, m->number) != m->kind)
			wrong("decision %d is not of rank %d's vote", (int)m->number, r);
		if (votes_out(r, m->number) && !cx_set_has(&m->out, w.victim))
			wrong("decision %d without rank %d's exclusion", (int)m->number, r);
		if (lowest < 0)
			lowest = r;
	}
	if ((m->flags & ~in) || (m->kind == CX_MOTION_AGREE && m->flags != in) ||
	    (all & ~m->flags))
		wrong("flags of decision %d", (int)m->number);
	if (m->kind == CX_MOTION_AGREE || lowest < 0)
		return;
	make_id(&id, lowest, m->number);
	if (memcmp(&id, &m->id, sizeof(id)))
		wrong("id of decision %d", (int)m->number);
}

static void check_late(const struct cx_motion *m)
{
	uint64_t first = NEVER;
	int others = 0;

	for (int r = 0; r < w.p.n; r++) {
		if (w.cast[r][m->number] < first)
			first = w.cast[r][m->number];
		others += !cx_set_has(&m->out, r);
	}
	if (w.now < first + TIMEOUT || !cx_set_count(&m->out) || !others)
		wrong("decision %d is late without reason", (int)m->number);
	for (int r = 0; r < w.p.n; r++)
		if (cx_set_has(&m->out, r) && w.cast[r][m->number] + 4 * DELAY < first + TIMEOUT &&
		    !w.deaths && !w.was_cut[r])
			wrong("decision %d: rank %d was not late", (int)m->number, r);
}

static void check_motion(const struct cx_motion *m)
{
	uint32_t kinds = 0;

	if (m->kind == CX_MOTION_LATE)
		check_late(m);
	else if (excludes(m))
		check_votes(m);
	for (int r = 0; r < w.p.n; r++)
		if (w.cast[r][m->number] != NEVER)
			kinds |= 1u << kind_of(r, m->number);
	if (m->kind == CX_MOTION_MIXED && kinds != (1 << CX_MOTION_AGREE | 1 << CX_MOTION_SHRINK))
		wrong("decision %d: votes are not mixed", (int)m->number);
	if (!excludes(m))
		return;
	for (int r = 0; r < w.p.n; r++) {
		bool voted_out = m->kind == CX_MOTION_SHRINK && r == w.victim &&
				 m->number != ROUNDS;
		bool out_before = false;

		for (uint64_t k = 1; k < m->number; k++)
			out_before |= excludes(&w.motion[k]) && cx_set_has(&w.motion[k].out, r);

		if (!cx_set_has(&m->out, r) || !w.alive[r] || voted_out || out_before)
			continue;
		if (w.p.no_exclusion || (!w.was_cut[r] && !w.p.cuts && w.deaths < 2))
			wrong("decision %d excludes rank %d for nothing", (int)m->number, r);
	}
}

/* Is that the disagreement that deaths and silence together may make? */
static bool is_limit(int me, uint64_t number)
{
	const struct cx_set *dead = &w.c[w.c[me].chair].dead;

	if (!w.p.cuts || w.p.partition || !w.deaths)
		return false;
	for (int r = 0; r < w.p.n; r++)
		if (cx_set_has(dead, r) && cx_set_has(&w.deciders[number], r))
			return true;
	return false;
}

/* A decision that a rank has come to know. */
static void learn(int me)
{
	const struct cx_council *c = &w.c[me];
	struct cx_motion *m;

	if (c->decided == w.seen[me])
		return;
	if (c->decided != w.seen[me] + 1 && c->code != COLLX_ERR_EXCLUDED)
		wrong("rank %d skips decision %d", me, (int)c->decided - 1);
	w.seen[me] = c->decided;
	if (c->decided > ROUNDS) {
		wrong("rank %d learns of decision %d", me, (int)c->decided);
		return;
	}
	m = &w.motion[c->decided];
	if (!m->number) {
		*m = c->last;
		for (int r = 0; r < w.p.n; r++)
			if (!cx_set_has(&c->dead, r) && !cx_set_has(&c->silent, r))
				cx_set_add(&w.deciders[c->decided], r);
		check_motion(m);
	} else if (memcmp(m, &c->last, sizeof(*m))) {
		w.limits = is_limit(me, c->decided);
		if (!w.limits)
			wrong("decision %d differs at rank %d", (int)c->decided, me);
		return;
	}
	if (excludes(&c->last) && cx_set_has(&c->last.out, me) != (c->code == COLLX_ERR_EXCLUDED))
		wrong("rank %d in spite of decision %d: code %d", me, (int)c->decided, c->code);
	if (w.alive[me])
		think(me);
}

static bool is_done(void)
{
	for (int r = 0; r < w.p.n; r++)
		if (w.alive[r] && !w.c[r].code && w.c[r].decided < ROUNDS)
			return false;
	return true;
}

/* Of a partition, one side goes on, and all of it: the one with a quorum. */
static void check_partition(void)
{
	bool zero_left = false;
	bool left_wins;

	for (int i = 0; i < w.p.left; i++)
		zero_left |= w.p.order[i] == 0;
	left_wins = 2 * w.p.left > w.p.n || (2 * w.p.left == w.p.n && zero_left);
	for (int i = 0; i < w.p.n; i++) {
		bool is_left = i < w.p.left;
		const struct cx_council *c = &w.c[w.p.order[i]];

		if (w.deaths || w.victim >= 0 || w.aborts)
			return;
		if (is_left == left_wins ? c->code != 0 : c->code != COLLX_ERR_NO_QUORUM)
			wrong("partition: rank %d has code %d", w.p.order[i], c->code);
	}
}

static void check_end(void)
{
	if (!is_done())
		wrong("no end at %d", (int)w.now);
	if (w.p.partition)
		check_partition();
	for (int r = 0; r < w.p.n; r++)
		if (w.alive[r] && w.c[r].code == COLLX_ERR_ABORTED && !w.aborts)
			wrong("rank %d: nobody aborted", r);
		else if (w.p.no_exclusion && w.alive[r] && w.c[r].code && r != w.victim &&
			 w.c[r].code != COLLX_ERR_ABORTED)
			wrong("rank %d alive has code %d", r, w.c[r].code);
}

/* ---- a world ---- */

static void start(const struct plan *p, uint64_t seed)
{
	memset(&w, 0, offsetof(struct world, pool));
	w.p = *p;
	w.rng = mix(seed);
	w.heaped = 0;
	w.wrong[0] = 0;
	for (w.spares = 0; w.spares < EVENTS; w.spares++)
		w.spare[w.spares] = w.spares;
	w.victim = -1;
	for (int k = 1; k <= ROUNDS; k++)
		w.kind[k] = CX_MOTION_AGREE + (p->steady ? (unsigned)k % 2 : (unsigned)dice(2));
	for (int r = 0; r < p->n; r++) {
		w.alive[r] = true;
		w.up[r].to = -1;
		for (int k = 0; k <= ROUNDS; k++)
			w.cast[r][k] = NEVER;
		cr_assert_eq(cx_council_init(&w.c[r], r, p->n, PATIENCE), 0);
		w.c[r].send = send_frame;
		w.c[r].ctx = &w.c[r];
		post(BEGIN, within(DELAY), r, 0);
		post(VOTE, within(4 * DELAY), r, 0);
	}
}

static void cut_about(const struct event *e)
{
	bool on = e->what == CUT;

	if (on && e->who >= 0) {
		cut_way(e->who, e->about);
	} else if (!on) {
		memset(w.cut, 0, sizeof(w.cut));
	} else {
		for (int i = 0; i < w.p.left; i++)
			for (int j = w.p.left; j < w.p.n; j++) {
				cut_way(w.p.order[i], w.p.order[j]);
				cut_way(w.p.order[j], w.p.order[i]);
			}
	}
}

static void give_up(int me)
{
	w.aborts++;
	w.last_fault = w.now;
	cx_council_abort(&w.c[me], me, w.now);
}

static void happen(const struct event *e)
{
	int me = e->who;

	if (e->what == KILL)
		kill_rank(me);
	if (e->what == CUT || e->what == HEAL)
		cut_about(e);
	if (e->what >= KILL || !w.alive[me])
		return;
	if (e->what == FRAME)
		receive(e);
	else if (e->what == CONNECT)
		try_to_connect(me, e->about);
	else if (e->what == CLOSED)
		part(me, e->about, e->wire);
	else if (e->what == DEATH && !is_cut(me, e->about))
		cx_council_dead(&w.c[me], e->about, w.now);
	else if (e->what == SILENCE)
		cx_council_silent(&w.c[me], e->about, w.now);
	else if (e->what == TICK)
		cx_council_tick(&w.c[me], w.now);
	else if (e->what == VOTE)
		vote(me);
	else if (e->what == ABORT)
		give_up(me);
	else if (e->what == BEGIN)
		cx_council_begin(&w.c[me], w.now);
	attend(me);
}

static void run_world(void)
{
	uint64_t bound = (uint64_t)(ROUNDS * 2 * TIMEOUT + (w.p.n + 4) * 4 * PATIENCE);

	for (int i = 0; w.heaped && !w.wrong[0] && !w.limits && !is_done(); i++) {
		int id = take();

		if (w.pool[id].at > w.last_fault + bound || i > 100 * EVENTS)
			break;
		w.now = w.pool[id].at;
		happen(&w.pool[id]);
		w.spare[w.spares++] = id;
	}
	if (!w.wrong[0] && !w.limits)
		check_end();
	for (int r = 0; r < w.p.n; r++)
		cx_council_fini(&w.c[r]);
}

/* ---- schedules ---- */

enum { CALM, KILLS, VOTED_OUT, PARTITION, PARTITION_AND_KILLS, CUTS, ALL, SORTS };

static void shuffle(struct plan *p, uint64_t seed)
{
	for (int i = 0; i < p->n; i++) {
		int j = (int)(mix(seed + 77 + (uint64_t)i) % (uint64_t)(i + 1));

		p->order[i] = p->order[j];
		p->order[j] = i;
	}
}

static void add_cuts(uint64_t until)
{
	int n = w.p.n, cuts = 1 + dice(2 * n);
	bool one_way = dice(2), at_once = dice(2);

	for (int i = 0; i < cuts && n > 1; i++) {
		int a = dice(n), b = dice(n);
		uint64_t at = at_once ? 0 : (uint64_t)dice((int)until);

		post(CUT, at, a, b);
		if (!one_way)
			post(CUT, at, b, a);
	}
	if (dice(3) == 0)
		post(CUT, (uint64_t)dice((int)until), -1, -1);
	if (dice(2))
		post(HEAL, (uint64_t)dice(2 * (int)until), -1, -1);
}

/* A world of that seed. A partition's two sides do not hear of each other's dead. */
static void run_seed(uint64_t seed)
{
	int sort = (int)(seed % SORTS), until;
	struct plan p = { .n = 1 + (int)(mix(seed) % MAX), .kill = { -1, -1 } };
	bool kills = sort == KILLS || sort == VOTED_OUT || sort == PARTITION_AND_KILLS ||
		     sort == ALL;

	p.manner = (enum manner)(mix(seed + 1) % MANNERS);
	p.resets = mix(seed + 2) % 2;
	p.partition = sort == PARTITION || sort == PARTITION_AND_KILLS;
	p.cuts = p.partition || sort == CUTS || sort == ALL;
	p.left = (int)(mix(seed + 3) % (uint64_t)(p.n + 1));
	p.no_exclusion = sort == CALM || (kills && !p.cuts && p.manner == KNOWN);
	shuffle(&p, seed);
	start(&p, seed);
	until = dice(3) ? 20 * DELAY : 6 * PATIENCE;
	for (int i = kills ? dice(p.n + 1) : 0; i > 0; i--)
		post(KILL, (uint64_t)dice(until), dice(p.n), 0);
	if (p.partition)
		post(CUT, 0, -1, -1);
	else if (p.cuts)
		add_cuts((uint64_t)until);
	if (sort == VOTED_OUT || (p.cuts && dice(4) == 0))
		w.victim = dice(p.n);
	w.contrary = dice(4) ? 0 : 1 + dice(p.n);
	w.late = dice(4) ? 0 : 1 + dice(p.n);
	for (int i = dice(4) ? 0 : 1 + dice(2); i > 0; i--)
		post(ABORT, (uint64_t)dice(until), dice(p.n), 0);
	run_world();
}

static uint64_t seeds(void)
{
	const char *s = getenv("COUNCIL_SEEDS");

	return s ? strtoull(s, NULL, 10) : 40000;
}

static uint64_t first_seed(void)
{
	const char *s = getenv("COUNCIL_SEED");

	return s ? strtoull(s, NULL, 10) : 0;
}

Test(councils, seeds, .timeout = 600)
{
	uint64_t first = first_seed(), limits = 0;

	for (uint64_t s = first; s < first + seeds(); s++) {
		run_seed(s);
		limits += w.limits;
		cr_assert_eq(w.wrong[0], 0, "seed %llu: %s", (unsigned long long)s, w.wrong);
	}
	if (getenv("COUNCIL_SEEDS"))
		fprintf(stderr, "%llu worlds met the limit\n", (unsigned long long)limits);
}

/* ---- every step ---- */

static void run_steps(struct plan *p)
{
	start(p, 1);
	run_world();
	cr_assert_eq(w.wrong[0], 0, "%d ranks, manner %d, resets %d, kill %d at %d, %d at %d: %s",
		     p->n, p->manner, p->resets, p->kill[0], p->kill_at[0], p->kill[1],
		     p->kill_at[1], w.wrong);
}

static struct plan steady(int n, int way)
{
	return (struct plan){ .n = n, .steady = true, .manner = (enum manner)(way / 2),
			      .resets = way % 2, .kill = { -1, -1 } };
}

Test(councils, dies_at_each_step, .timeout = 600)
{
	for (int n = 1; n <= 4; n++)
		for (int way = 0; way < 2 * MANNERS; way++)
			for (int victim = 0; victim < n; victim++) {
				struct plan p = steady(n, way);

				p.kill[0] = victim;
				do {
					p.kill_at[0]++;
					run_steps(&p);
				} while (w.sends >= p.kill_at[0]);
			}
}

static void kill_two(struct plan p)
{
	for (int pair = 0; pair < p.n * p.n; pair++) {
		p.kill[0] = pair / p.n;
		p.kill[1] = pair % p.n;
		if (p.kill[0] == p.kill[1])
			continue;
		p.kill_at[0] = 0;
		do {
			p.kill_at[1] = ++p.kill_at[0];
			do {
				run_steps(&p);
				p.kill_at[1]++;
			} while (w.sends >= p.kill_at[1] - 1);
		} while (p.kill_at[1] - 2 > p.kill_at[0]);
	}
}

Test(councils, two_die_at_each_pair_of_steps, .timeout = 600)
{
	for (int way = 0; way < 2 * MANNERS; way++)
		kill_two(steady(3, way));
	kill_two(steady(4, 0));
	kill_two(steady(4, 1));
}
