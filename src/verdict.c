/* SPDX-License-Identifier: BSD-3-Clause */
/* From reports and calls to one error; see verdict.h. */
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "verdict.h"

static const uint64_t doubt_ns = 500000000;
static const uint64_t answers_ns = 200000000; /* for all to say what they called */
static const uint64_t late_ns = 20000000;     /* and in it, until a late one is asked again */
static const uint64_t ask_again_ns = 1000000000;
static const uint64_t count_ns = 5000000;     /* for further deaths to be known */
static const uint64_t dying_ns = 50000000;    /* the same, while somebody is known to die */

enum { GROUPS = 4 /* different calls that a line tells of */, LIST_MAX = 120 /* its characters */ };

struct cx_known {
	struct cx_account account;
	uint64_t at_ns; /* when that came */
	uint64_t left; /* 1 + the last operation it finished; 0: it is here */
};

/* ---- accounts ---- */

size_t cx_account_len(const struct cx_account *a)
{
	return offsetof(struct cx_account, sign) + a->signs * sizeof(a->sign[0]);
}

static uint64_t begun(const struct cx_account *a)
{
	return a->state / 2 + a->state % 2;
}

bool cx_account_is_sound(const struct cx_account *a, size_t len, int ranks)
{
	if (len < offsetof(struct cx_account, sign) || a->signs > CX_SIGNS ||
	    len != cx_account_len(a) || a->signs > begun(a) ||
	    !cx_sign_is_sound(&a->elsewhere, INT_MAX))
		return false;
	for (uint32_t i = 0; i < a->signs; i++)
		if (a->sign[i].seq != begun(a) - a->signs + 1 + i ||
		    !cx_sign_is_sound(&a->sign[i], ranks))
			return false;
	return true;
}

static const struct cx_sign *sign_of(const struct cx_account *a, uint64_t seq)
{
	uint64_t first = begun(a) - a->signs + 1;

	return seq >= first && seq - first < a->signs ? &a->sign[seq - first] : NULL;
}

static bool same(const struct cx_sign *a, const struct cx_sign *b)
{
	return a->count == b->count && a->what == b->what;
}

/* ---- lines ---- */

struct line {
	char *text;
	size_t len;
};

static void add(struct line *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add(struct line *l, const char *fmt, ...)
{
	size_t room = CX_FAULT_TEXT_MAX - l->len;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(l->text + l->len, room, fmt, ap);
	va_end(ap);
	if (n > 0)
		l->len += cx_min((size_t)n, room - 1);
}

static bool fits_a_set(int rank)
{
	return rank >= 0 && rank < CX_COUNCIL_RANKS;
}

static void blame(struct cx_set *who, int rank)
{
	if (fits_a_set(rank))
		cx_set_add(who, rank);
}

static int first_of(const struct cx_set *s, int from)
{
	while (from < CX_COUNCIL_RANKS && !cx_set_has(s, from))
		from++;
	return from;
}

bool cx_cause_is_sound(const struct cx_cause *c, int ranks)
{
	int last = cx_min(ranks, CX_COUNCIL_RANKS), first = first_of(&c->who, 0);

	if (c->about < -1 || c->about >= ranks || c->origin < -1 || c->origin >= ranks ||
	    !cx_where_is_sound(&c->where))
		return false;
	if (first != (fits_a_set(c->about) ? c->about : CX_COUNCIL_RANKS))
		return false;
	return last == CX_COUNCIL_RANKS || first_of(&c->who, last) == CX_COUNCIL_RANKS;
}

bool cx_cause_is_loss(const struct cx_cause *c)
{
	return c->code == COLLX_ERR_PEER_DEAD || c->code == COLLX_ERR_PEER_SILENT;
}

/* What a rank knows by its connections is everybody's to know: nobody's in particular. So is
 * that creation failed, which each rank passes on. */
struct cx_cause cx_cause_of_report(const struct cx_report *r)
{
	struct cx_cause c = { .code = r->code, .origin = r->origin, .about = r->about,
			      .sys_errno = r->sys_errno, .where = r->where,
			      .fault_ns = r->fault_ns };

	if (cx_cause_is_loss(&c) || r->where.phase == COLLX_PHASE_CREATION)
		c.origin = -1;
	blame(&c.who, r->about);
	memcpy(c.text, r->text, sizeof(c.text));
	return c;
}

/* Behind what is there; without snprintf, of which no handler may be sure. */
static void add_number(char *text, unsigned n)
{
	char digits[12];
	int at = sizeof(digits) - 1;

	digits[at] = '\0';
	do
		digits[--at] = (char)('0' + n % 10);
	while (n /= 10);
	strcat(text, digits + at);
}

struct cx_cause cx_cause_of_wish(int code, int rank, uint64_t now_ns)
{
	struct cx_cause c = { .code = code, .origin = rank, .about = rank,
			      .fault_ns = (int64_t)now_ns, .text = "rank " };

	blame(&c.who, rank);
	/* All may revoke at once, to repair: they are to have one line. */
	if (code == COLLX_ERR_REVOKED) {
		strcpy(c.text, "a rank revoked the communicator, for it to be repaired");
		return c;
	}
	add_number(c.text, (unsigned)rank);
	strcat(c.text, " aborted the communicator");
	return c;
}

void cx_verdict_death_line(char text[CX_FAULT_TEXT_MAX], int rank)
{
	snprintf(text, CX_FAULT_TEXT_MAX,
		 "rank %d died: its process ended without leaving (control connection closed)",
		 rank);
}

void cx_verdict_silence_line(char text[CX_FAULT_TEXT_MAX], int rank, uint64_t silence_ns,
			     int state)
{
	struct line l = { text, 0 };

	add(&l, "rank %d is silent: no heartbeat for %.1f s, though its connection is open ", rank,
	    (double)silence_ns / 1e9);
	if (state == 'T' || state == 't')
		add(&l, "(its process is stopped: state %c)", state);
	else
		add(&l, "(stopped, or cut off?)");
}

void cx_verdict_left_line(char text[CX_FAULT_TEXT_MAX], int rank, uint64_t seq)
{
	snprintf(text, CX_FAULT_TEXT_MAX,
		 "rank %d left the communicator before operation %llu, which needs it", rank,
		 (unsigned long long)seq);
}

static void decide(struct cx_verdict *v, int code, int about)
{
	v->code = code;
	v->about = about;
	blame(&v->who, about);
	v->due_ns = UINT64_MAX;
}

/* ---- ranks that are lost ---- */

/* "0, 1, 3-7", no longer than a line has room for. */
static void add_ranks(struct line *l, const struct cx_set *s)
{
	int told = 0, n = cx_set_count(s);
	size_t start = l->len;

	for (int r = first_of(s, 0), end; r < CX_COUNCIL_RANKS; r = first_of(s, end)) {
		if (l->len - start > LIST_MAX) {
			add(l, " and %d more", n - told);
			return;
		}
		for (end = r + 1; end < CX_COUNCIL_RANKS && cx_set_has(s, end); end++)
			;
		add(l, told ? ", %d" : "%d", r);
		if (end - r > 1)
			add(l, end - r > 2 ? "-%d" : ", %d", end - 1);
		told += end - r;
	}
}

static void write_deaths(struct cx_verdict *v)
{
	struct line l = { v->text, 0 };

	add(&l, "ranks ");
	add_ranks(&l, &v->dead);
	add(&l, " died: their processes ended without leaving (control connections closed)");
}

static void write_silences(struct cx_verdict *v)
{
	struct line l = { v->text, 0 };

	add(&l, "ranks ");
	add_ranks(&l, &v->silent);
	add(&l, " are silent: no heartbeat for %.1f s, though their connections are open ",
	    (double)v->silence_ns / 1e9);
	if (cx_set_count(&v->stopped) == cx_set_count(&v->silent))
		add(&l, "(their processes are stopped: state T)");
	else
		add(&l, "(stopped, or cut off?)");
}

/* All that were lost together. */
static void tell_losses(struct cx_verdict *v)
{
	bool dead = v->first.code == COLLX_ERR_PEER_DEAD;

	v->who = dead ? v->dead : v->silent;
	if (cx_set_count(&v->who) == 1)
		memcpy(v->text, v->first.text, sizeof(v->text));
	else if (dead)
		write_deaths(v);
	else
		write_silences(v);
	decide(v, v->first.code, first_of(&v->who, 0));
}

static bool is_loss(const struct cx_report *r)
{
	return (r->code == COLLX_ERR_PEER_DEAD || r->code == COLLX_ERR_PEER_SILENT) &&
	       !r->hearsay && fits_a_set(r->about);
}

/* Is there nobody who could be lost besides? */
static bool is_last_one(const struct cx_verdict *v)
{
	int here = v->ranks ? v->ranks : CX_COUNCIL_RANKS;

	for (int r = 0; r < v->ranks; r++)
		here -= v->known[r].left || (fits_a_set(r) && (cx_set_has(&v->dead, r) ||
							       cx_set_has(&v->silent, r)));
	return here <= 1;
}

static void begin_counting(struct cx_verdict *v, uint64_t now_ns)
{
	v->phase = CX_COUNTING;
	v->settle_ns = now_ns + dying_ns;
	v->due_ns = now_ns + count_ns;
	cx_verdict_lost(v, v->first.about, v->first.code == COLLX_ERR_PEER_DEAD ? CX_LOSS_DEATH
									     : CX_LOSS_SILENCE);
	cx_verdict_tick(v, now_ns);
}

void cx_verdict_lost(struct cx_verdict *v, int rank, enum cx_loss how)
{
	if (v->code || !fits_a_set(rank))
		return;
	cx_set_add(how == CX_LOSS_DEATH ? &v->dead : &v->silent, rank);
	if (how == CX_LOSS_STOP)
		cx_set_add(&v->stopped, rank);
	if (v->phase == CX_COUNTING && is_last_one(v))
		v->due_ns = v->settle_ns - dying_ns; /* long ago */
}

void cx_verdict_wait(struct cx_verdict *v, uint64_t now_ns)
{
	if (v->phase == CX_COUNTING)
		v->due_ns = cx_min(now_ns + count_ns, v->settle_ns);
}

/* ---- calls that differ ---- */

/* The ranks that made this call: "rank 2", "ranks 0, 1, 3-7". */
static void add_callers(struct line *l, const struct cx_verdict *v, const struct cx_sign *s, int n)
{
	size_t start = l->len;
	int told = 0;

	add(l, n == 1 ? "rank" : "ranks");
	for (int r = 0, end; r < v->ranks; r = end + 1) {
		const struct cx_sign *t;

		for (end = r; end < v->ranks; end++) {
			t = sign_of(&v->known[end].account, s->seq);
			if (!t || !same(s, t))
				break;
		}
		if (end == r)
			continue;
		if (l->len - start > LIST_MAX) {
			add(l, " and %d more", n - told);
			return;
		}
		add(l, told ? ", %d" : " %d", r);
		if (end - r > 1)
			add(l, end - r > 2 ? "-%d" : ", %d", end - 1);
		told += end - r;
	}
}

struct group {
	const struct cx_sign *sign;
	int n;
};

/* Groups the ranks by what they called as operation seq; the smallest first. */
static int group(const struct cx_verdict *v, uint64_t seq, struct group g[GROUPS])
{
	int n = 0, i;

	for (int r = 0; r < v->ranks; r++) {
		const struct cx_sign *s = sign_of(&v->known[r].account, seq);

		for (i = 0; s && i < n && !same(g[i].sign, s); i++)
			;
		if (s && i < n)
			g[i].n++;
		else if (s && n < GROUPS)
			g[n++] = (struct group){ s, 1 };
	}
	for (i = 1; i < n; i++) /* of equal ones, rank 0's comes last */
		for (int j = i; j > 0 && g[j].n <= g[j - 1].n; j--) {
			struct group t = g[j];

			g[j] = g[j - 1];
			g[j - 1] = t;
		}
	return n;
}

/* The earliest operation at which two ranks are known to have called different
 * things; 0: none. */
static uint64_t find_difference(struct cx_verdict *v)
{
	const uint64_t slots = sizeof(v->seen) / sizeof(v->seen[0]);
	uint64_t found = 0;

	memset(v->seen, 0, sizeof(v->seen));
	for (int r = 0; r < v->ranks; r++) {
		const struct cx_account *a = &v->known[r].account;

		for (uint32_t i = 0; i < a->signs; i++) {
			const struct cx_sign *s = &a->sign[i];
			struct cx_sign *t = &v->seen[s->seq % slots];

			if (t->seq == s->seq && !same(s, t) && (!found || s->seq < found))
				found = s->seq;
			else if (t->seq < s->seq)
				*t = *s;
		}
	}
	return found;
}

static int first_with(const struct cx_verdict *v, const struct cx_sign *s)
{
	const struct cx_sign *t;

	for (int r = 0; r < v->ranks; r++) {
		t = sign_of(&v->known[r].account, s->seq);
		if (t && same(s, t))
			return r;
	}
	return -1;
}

/* The first of those whom fewest agree with. */
static int write_mismatch(struct cx_verdict *v, uint64_t seq)
{
	struct line l = { v->text, 0 };
	struct group g[GROUPS];
	int n = group(v, seq, g);
	char call[128];

	for (int i = 0; i < n; i++) {
		cx_sign_words(g[i].sign, call, sizeof(call));
		if (i)
			add(&l, "; ");
		add_callers(&l, v, g[i].sign, g[i].n);
		add(&l, " called %s", call);
		if (!i)
			add(&l, " as operation %llu", (unsigned long long)seq);
	}
	for (int r = 0; n && r < v->ranks; r++) {
		const struct cx_sign *s = sign_of(&v->known[r].account, seq);

		if (s && same(s, g[0].sign))
			blame(&v->who, r);
	}
	return n ? first_with(v, g[0].sign) : -1;
}

/* ---- calls that take too long ---- */

static void add_whereabouts(struct line *l, const struct cx_account *a)
{
	const struct cx_sign *s = sign_of(a, begun(a));
	char call[128] = "a call";

	if (a->state % 2) {
		if (s)
			cx_sign_words(s, call, sizeof(call));
		add(l, "in %s, operation %llu", call, (unsigned long long)begun(a));
		return;
	}
	add(l, "in no collective for ");
	add(l, a->still_ms < 10000 ? "%.1f s" : "%.0f s", (double)a->still_ms / 1000);
	if (begun(a))
		add(l, " after operation %llu", (unsigned long long)begun(a));
	else
		add(l, ", no operation yet");
	if (!a->elsewhere.seq)
		return;
	cx_sign_words(&a->elsewhere, call, sizeof(call));
	add(l, ", but in %s, operation %llu, of another communicator", call,
	    (unsigned long long)a->elsewhere.seq);
}

/* The ranks that hold operation v->first.where.seq up; the first of them. */
static int write_timeout(struct cx_verdict *v)
{
	struct line l = { v->text, 0 };
	size_t start;
	int told = 0, late = 0, first = -1;

	add(&l, "%s", v->first.text);
	start = l.len;
	for (int r = 0; r < v->ranks; r++) {
		const struct cx_known *k = &v->known[r];
		bool silent = k->account.answers != v->question;

		if (!silent && begun(&k->account) >= v->first.where.seq)
			continue;
		if (first < 0)
			first = r;
		blame(&v->who, r);
		if (late++ && l.len - start > LIST_MAX)
			continue;
		add(&l, late == 1 ? "; missing: rank %d (" : ", rank %d (", r);
		if (silent)
			add(&l, "does not answer");
		else
			add_whereabouts(&l, &k->account);
		add(&l, ")");
		told++;
	}
	if (late > told)
		add(&l, " and %d more", late - told);
	if (!late && v->first.where.seq)
		add(&l, "; all ranks are in it");
	return first;
}

/* ---- decisions ---- */

/* Timeouts and mismatches: all that could be learnt has been. */
static void settle(struct cx_verdict *v)
{
	uint64_t seq = find_difference(v);
	int about = v->first.about;

	if (seq)
		about = write_mismatch(v, seq);
	else if (v->first.code == COLLX_ERR_TIMEOUT)
		about = write_timeout(v);
	else
		memcpy(v->text, v->first.text, sizeof(v->text));
	decide(v, seq ? COLLX_ERR_MISMATCH : v->first.code, about);
}

static bool all_answered(const struct cx_verdict *v)
{
	for (int r = 0; r < v->ranks; r++)
		if (!v->known[r].left && v->known[r].account.answers != v->question)
			return false;
	return true;
}

static void ask(struct cx_verdict *v, uint64_t now_ns)
{
	v->question++;
	v->asked_ns = now_ns;
}

static void begin_asking(struct cx_verdict *v, uint64_t now_ns)
{
	v->phase = CX_ASKING;
	v->due_ns = v->settle_ns = now_ns + answers_ns;
	ask(v, now_ns);
}

/* Is somebody not there yet who will call the one thing or the other? */
static bool somebody_is_late(struct cx_verdict *v)
{
	uint64_t seq = find_difference(v);

	for (int r = 0; r < v->ranks; r++)
		if (begun(&v->known[r].account) < seq && !v->known[r].left)
			return true;
	return false;
}

static void hear_answers(struct cx_verdict *v, uint64_t now_ns)
{
	if (now_ns >= v->settle_ns || (all_answered(v) && !somebody_is_late(v)))
		settle(v);
	else if (all_answered(v) && v->due_ns == v->settle_ns)
		v->due_ns = cx_min(now_ns + late_ns, v->settle_ns);
	else if (now_ns >= v->due_ns) {
		v->due_ns = v->settle_ns;
		ask(v, now_ns);
	}
}

/* Hearsay with nothing behind it: a connection broke between two live ranks. */
static void believe(struct cx_verdict *v)
{
	bool dead = v->first.code == COLLX_ERR_PEER_DEAD;

	if (dead)
		snprintf(v->text, sizeof(v->text),
			 "rank %d lost a connection, %s: %.300s", v->first.origin,
			 v->ranks ? "though no process ended" : "and rank 0, who knows why, left",
			 v->first.text);
	else
		memcpy(v->text, v->first.text, sizeof(v->text));
	decide(v, dead ? COLLX_ERR_LINK : v->first.code, v->first.about);
}

/* Hearsay of an operation that somebody did not wait for has that reason. */
static void blame_leaver(struct cx_verdict *v)
{
	for (int r = 0; r < v->ranks; r++) {
		if (!v->known[r].left || v->known[r].left > v->first.where.seq)
			continue;
		cx_verdict_left_line(v->text, r, v->first.where.seq);
		decide(v, COLLX_ERR_PEER_LEFT, r);
		return;
	}
}

void cx_verdict_report(struct cx_verdict *v, const struct cx_report *r, uint64_t now_ns)
{
	bool puzzle = r->code == COLLX_ERR_TIMEOUT || r->code == COLLX_ERR_MISMATCH;
	/* What is found out besides is of no use to anybody then. */
	bool ends = r->code == COLLX_ERR_ABORTED;

	if (v->code || (v->phase >= CX_COUNTING && !ends) ||
	    (v->phase == CX_DOUBTING && r->hearsay)) {
		if (is_loss(r) && !v->code) /* which may have come before its frame */
			cx_verdict_lost(v, r->about, r->code == COLLX_ERR_PEER_DEAD
							     ? CX_LOSS_DEATH
							     : CX_LOSS_SILENCE);
		return;
	}
	v->first = *r;
	if (r->hearsay) {
		v->phase = CX_DOUBTING;
		v->due_ns = now_ns + doubt_ns;
		blame_leaver(v);
	} else if (puzzle && v->ranks) {
		begin_asking(v, now_ns);
	} else if (is_loss(r)) {
		begin_counting(v, now_ns);
	} else {
		memcpy(v->text, r->text, sizeof(v->text));
		decide(v, r->code, r->about);
	}
}

/* Does it contradict what others called? */
static bool contradicts(struct cx_verdict *v, const struct cx_account *a)
{
	const uint64_t slots = sizeof(v->seen) / sizeof(v->seen[0]);

	for (uint32_t i = 0; i < a->signs; i++) {
		struct cx_sign *t = &v->seen[a->sign[i].seq % slots];

		if (t->seq == a->sign[i].seq && !same(t, &a->sign[i]))
			return true;
		if (t->seq < a->sign[i].seq)
			*t = a->sign[i];
	}
	return false;
}

/* In its last call, as far as others know. */
static struct cx_where where(const struct cx_account *a)
{
	const struct cx_sign *s = sign_of(a, begun(a));

	return s ? cx_sign_where(s) : (struct cx_where){ 0 };
}

void cx_verdict_account(struct cx_verdict *v, int rank, const struct cx_account *a,
			uint64_t now_ns)
{
	if (v->code || rank >= v->ranks)
		return;
	v->known[rank].account = *a;
	v->known[rank].at_ns = now_ns;
	if (v->phase == CX_ASKING) {
		hear_answers(v, now_ns);
	} else if (v->phase != CX_COUNTING && contradicts(v, a)) {
		v->first = (struct cx_report){ .origin = rank, .about = -1,
					       .code = COLLX_ERR_MISMATCH, .where = where(a),
					       .fault_ns = (int64_t)now_ns,
					       .text = "ranks called different things" };
		begin_asking(v, now_ns);
	}
}

void cx_verdict_ask(struct cx_verdict *v, uint64_t now_ns)
{
	if (v->code || v->phase >= CX_COUNTING || !v->ranks)
		return;
	if (!v->question || now_ns - v->asked_ns >= ask_again_ns)
		ask(v, now_ns);
}

void cx_verdict_left(struct cx_verdict *v, int rank, uint64_t seq, uint64_t now_ns)
{
	if (v->code || rank >= v->ranks)
		return;
	v->known[rank].left = seq + 1;
	if (v->phase == CX_DOUBTING)
		blame_leaver(v);
	cx_verdict_tick(v, now_ns);
}

void cx_verdict_wait_on(struct cx_verdict *v, uint64_t more_ns)
{
	if (v->code || v->phase == CX_WATCHING || v->due_ns == UINT64_MAX)
		return;
	v->due_ns += more_ns;
	v->settle_ns += more_ns;
}

void cx_verdict_tick(struct cx_verdict *v, uint64_t now_ns)
{
	if (v->code || v->phase == CX_WATCHING)
		return;
	if (v->phase == CX_ASKING)
		hear_answers(v, now_ns);
	else if (v->phase == CX_DOUBTING && now_ns >= v->due_ns)
		believe(v);
	else if (v->phase == CX_COUNTING && now_ns >= v->due_ns)
		tell_losses(v);
}

/* ---- who is late ---- */

/* Who has waited longest in an operation behind that one. */
static const struct cx_known *longest_wait(const struct cx_verdict *v, uint64_t seq)
{
	const struct cx_known *longest = NULL;

	for (int r = 0; r < v->ranks; r++) {
		const struct cx_account *a = &v->known[r].account;

		if (a->state % 2 && begun(a) > seq &&
		    (!longest || a->still_ms > longest->account.still_ms))
			longest = &v->known[r];
	}
	return longest;
}

/* Was that rank still behind when the other one had waited so long? What is known of it may
 * be a heartbeat old, and it may have come since. */
static bool has_proof(const struct cx_known *late, const struct cx_known *waits, uint64_t least_ms)
{
	uint64_t for_ms = waits->account.still_ms - least_ms;

	return late->at_ns >= waits->at_ns - cx_min(for_ms * 1000000, waits->at_ns);
}

struct cx_late cx_verdict_late(const struct cx_verdict *v, uint64_t least_ms)
{
	struct cx_late late = { .rank = -1 };
	const struct cx_account *waits;
	const struct cx_known *longest;
	const struct cx_sign *sign;
	uint64_t least = UINT64_MAX;

	for (int r = 0; r < v->ranks; r++)
		if (!v->known[r].left && begun(&v->known[r].account) < least) {
			least = begun(&v->known[r].account);
			late.rank = r;
		}
	longest = late.rank < 0 ? NULL : longest_wait(v, least);
	waits = longest ? &longest->account : NULL;
	if (!waits || !waits->still_ms || waits->still_ms < least_ms ||
	    !has_proof(&v->known[late.rank], longest, least_ms))
		return (struct cx_late){ .rank = -1 };
	late.waited_ms = (uint32_t)cx_min(waits->still_ms, UINT32_MAX);
	sign = sign_of(waits, begun(waits));
	if (sign)
		late.sign = *sign;
	/* Who waits in a later one has its own reason; the first that lacks is this. */
	sign = sign_of(waits, least + 1);
	if (sign)
		late.sign = *sign;
	late.sign.seq = least + 1;
	return late;
}

/* ---- life ---- */

int cx_verdict_init(struct cx_verdict *v, int ranks)
{
	*v = (struct cx_verdict){ .ranks = ranks, .due_ns = UINT64_MAX };
	if (!ranks)
		return 0;
	v->known = cx_alloc((size_t)ranks, sizeof(*v->known));
	return v->known ? 0 : COLLX_ERR_NOMEM;
}

void cx_verdict_fini(struct cx_verdict *v)
{
	cx_free(v->known);
	v->known = NULL;
}
