/* SPDX-License-Identifier: BSD-3-Clause */
/* Exchanges and the first error over the tree of connections; see boot.h. */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "boot.h"
#include "meet.h"

struct cx_boot {
	const struct cx_meeting *meeting; /* the caller's */
	struct cx_tree tree;
	int fault;           /* first error told or seen; 0: none */
	char text[CX_FAULT_TEXT_MAX];
	bool met;            /* all ranks have come */
	bool overdue;        /* a rank below has waited until its deadline */
	bool left_some;      /* frames that came while records were given are in their wires */
	unsigned char *have; /* [rank], of the exchange under way: enum have */
	struct pollfd *fds;
	int *who;            /* [i]: the rank at the other end of fds[i] */
};

/* ---- the first error ---- */

/* It stays, and is passed on once. The lines that sending may record must not
 * replace it. */
static int set_fault(struct cx_boot *b, int code, const char *text)
{
	struct cx_tree *t = &b->tree;

	if (!b->fault) {
		b->fault = code;
		snprintf(b->text, sizeof(b->text), "%s", text);
		cx_meet_send_fault(&t->up, code, b->text);
		for (int r = 0; t->down && r < t->ranks; r++)
			cx_meet_send_fault(&t->down[r], code, b->text);
	}
	return cx_fail(b->fault, "%s", b->text);
}

/*
 * What this rank lacks, others have to be told whose lack it is. So is a setting that is
 * wrong: an INVALID once all have met; before, it is about who came. What all ranks find
 * alike begins with the rank at fault.
 */
static const char *whose(const struct cx_boot *b, int code, const char *text, char who[32])
{
	bool own = code == COLLX_ERR_SYSTEM || code == COLLX_ERR_NOMEM ||
		   code == COLLX_ERR_NOFILES || (code == COLLX_ERR_INVALID && b->met);

	if (!own || !strncmp(text, "rank ", 5))
		return "";
	snprintf(who, 32, "rank %d: ", b->tree.rank);
	return who;
}

void cx_boot_tell(struct cx_boot *b, int code, const char *text)
{
	char copy[CX_FAULT_TEXT_MAX], who[32]; /* text may be the thread's error line */

	snprintf(copy, sizeof(copy), "%s%s", whose(b, code, text, who), text);
	set_fault(b, code, copy);
}

/* The same with the thread's error line. */
static int pass_on(struct cx_boot *b, int code)
{
	cx_boot_tell(b, code, cx_error_text());
	return b->fault;
}

/* ---- what comes in ---- */

/* Acts on a frame that is not a record. */
static int hear_frame(struct cx_boot *b, int from)
{
	struct cx_tree *t = &b->tree;
	const struct cx_wire *w = cx_tree_wire(t, from);
	bool below = from != t->above;
	int rc;

	switch (w->head.kind) {
	case CX_FRAME_OVERDUE:
		b->overdue |= below;
		return 0;
	case CX_FRAME_GONE: /* as rank 0 said that the meeting was complete */
		cx_fail(COLLX_ERR_PEER_DEAD, "rank %d died: its process ended when all had come",
			w->head.arg);
		return pass_on(b, COLLX_ERR_PEER_DEAD);
	case CX_FRAME_SEATED:
		cx_fail(COLLX_ERR_INVALID, "rank %d is taken twice", w->head.arg);
		return pass_on(b, COLLX_ERR_INVALID);
	default: /* it says whose it is, or is about all */
		rc = cx_meet_fault(w);
		return set_fault(b, rc, cx_error_text());
	}
}

/* A connection ended: its rank died. */
static int hear_end(struct cx_boot *b, int from)
{
	cx_wire_close(cx_tree_wire(&b->tree, from));
	cx_fail(COLLX_ERR_PEER_DEAD,
		"rank %d died: its process ended without leaving (control connection closed)",
		from);
	return pass_on(b, COLLX_ERR_PEER_DEAD);
}

/* Reads what that rank has to say. 1: a record is there; 0: nothing; or the fault. */
static int hear(struct cx_boot *b, int from)
{
	struct cx_wire *w = cx_tree_wire(&b->tree, from);
	int rc;

	while (w->fd >= 0) {
		rc = cx_wire_receive(w);
		if (rc == COLLX_ERR_PEER_DEAD)
			return hear_end(b, from);
		if (rc < 0)
			return pass_on(b, rc);
		if (rc == 0 || w->head.kind == CX_FRAME_RECORD)
			return rc;
		rc = hear_frame(b, from);
		cx_wire_next(w);
		if (rc)
			return rc;
	}
	return 0;
}

/* Waits for a word; the number of connections, of which fds[] tells who has one. */
static int poll_wires(struct cx_boot *b, int timeout_ms)
{
	struct cx_tree *t = &b->tree;
	int n = 0, rc;

	for (int r = 0; r < t->ranks; r++) {
		const struct cx_wire *w = cx_tree_wire(t, r);

		if (!w)
			continue;
		b->fds[n] = (struct pollfd){ .fd = w->fd, .events = POLLIN };
		b->who[n++] = r;
	}
	rc = cx_sys->poll(b->fds, (unsigned)n, timeout_ms);
	return rc > 0 ? n : 0;
}

int cx_boot_heard(struct cx_boot *b)
{
	int n, rc = 0;

	if (b->fault)
		return cx_fail(b->fault, "%s", b->text);
	n = poll_wires(b, 0);
	for (int i = 0; i < n && rc >= 0; i++)
		rc = b->fds[i].revents ? hear(b, b->who[i]) : 0;
	return rc < 0 ? rc : 0;
}

/* ---- exchange ---- */

/* Up the tree go the records of the ranks below, each once; down go all, or the first one. */
enum have { FROM_BELOW = 1, SENT_UP = 2, FROM_ABOVE = 4, NOT_HEARD = 8 };
enum { HEAR_MS = 100 };

struct exchange {
	char *all;
	int *fds;
	size_t len;
	int down;           /* so many records, from rank 0's on */
	uint64_t deadline_ns;
	unsigned char side; /* from where records come now */
	int missing;        /* records that will still come from there */
	bool asked;         /* above knows that the deadline has passed */
};

/* The record that waits at the connection with rank `from`. */
static int take_record(struct cx_boot *b, struct exchange *x, int from)
{
	struct cx_tree *t = &b->tree;
	struct cx_wire *w = cx_tree_wire(t, from);
	unsigned char side = from == t->above ? FROM_ABOVE : FROM_BELOW;
	int who = w->head.arg;

	if (side != x->side || who < 0 || who >= t->ranks || b->have[who] & side ||
	    (side == FROM_BELOW && cx_tree_towards(t, who) != from) || w->head.len != x->len ||
	    (w->passed_fd >= 0 && !x->fds))
		return set_fault(b, COLLX_ERR_VERSION,
				 "the ranks exchange records of different form: "
				 "use one version of libcollx on all ranks");
	if (x->len)
		memcpy(x->all + (size_t)who * x->len, w->body, x->len);
	if (x->fds && x->fds[who] < 0) {
		x->fds[who] = w->passed_fd;
		w->passed_fd = -1;
	}
	b->have[who] |= side;
	x->missing--;
	cx_wire_next(w);
	return 0;
}

/* What a failed sending means: the rank may have said why it went. */
static int not_given(struct cx_boot *b, int to, int rc)
{
	if (!b->fault && rc == COLLX_ERR_PEER_DEAD && (rc = hear(b, to)) >= 0)
		return set_fault(b, COLLX_ERR_PEER_LEFT, "a rank left during creation");
	if (b->fault)
		return rc;
	if (rc == COLLX_ERR_INIT_TIMEOUT)
		cx_fail(rc, "creation: rank %d stopped answering before the deadline", to);
	return pass_on(b, rc);
}

/* A descriptor goes among the ranks of one unix socket alone; its owner has it. */
static int fd_for(const struct cx_tree *t, const struct exchange *x, int to, int r)
{
	return x->fds && r != to && t->leader[r] == t->leader[to] &&
			       t->leader[r] == t->leader[t->rank]
		       ? x->fds[r]
		       : -1;
}

/* A fault is heard. All else waits for its time in its wire, as it may be a record of the
 * next exchange, or for the guard, where that rank is through. */
static int hear_fault(struct cx_boot *b, int from)
{
	struct cx_wire *w = cx_tree_wire(&b->tree, from);
	int rc = cx_wire_receive(w);

	if (rc < 0)
		b->have[from] |= NOT_HEARD;
	b->left_some |= rc == 1;
	if (rc < 1 || w->head.kind != CX_FRAME_FAULT)
		return 0;
	rc = hear_frame(b, from);
	cx_wire_next(w);
	return rc;
}

/* Until there may be room towards that rank. */
static int hear_faults(struct cx_boot *b, int to)
{
	struct cx_tree *t = &b->tree;
	unsigned n = 0;
	int rc;

	for (int r = 0; r < t->ranks; r++) {
		const struct cx_wire *w = cx_tree_wire(t, r);
		short events = r == to ? POLLOUT : 0;

		if (!w)
			continue;
		if (!(b->have[r] & NOT_HEARD) && !cx_wire_is_full(w))
			events |= POLLIN;
		b->fds[n] = (struct pollfd){ .fd = events ? w->fd : -1, .events = events };
		b->who[n++] = r;
	}
	rc = cx_sys->poll(b->fds, n, HEAR_MS);
	for (unsigned i = 0; rc > 0 && i < n; i++)
		if (b->fds[i].revents & ~POLLOUT && !(b->have[b->who[i]] & NOT_HEARD) &&
		    !cx_wire_is_full(cx_tree_wire(t, b->who[i])))
			rc = hear_fault(b, b->who[i]) ? b->fault : rc;
	return rc < 0 && !b->fault ? cx_fail_errno(-rc, "poll") : b->fault;
}

static int give(struct cx_boot *b, const struct exchange *x, int to, const char *batch, size_t len)
{
	struct cx_wire *w = cx_tree_wire(&b->tree, to);
	int rc = cx_wire_send_some(w, &batch, &len);

	while (rc == COLLX_ERR_INIT_TIMEOUT && cx_now_ns() < x->deadline_ns) {
		rc = hear_faults(b, to);
		if (!rc && (rc = cx_meeting_stops(b->meeting)))
			rc = pass_on(b, rc);
		if (!rc)
			rc = cx_wire_send_some(w, &batch, &len);
	}
	return rc;
}

/*
 * Gives records to a rank, several in one system call: up those that were not given
 * yet, down what all are to have. It takes none meanwhile: no ring of ranks waits for
 * each other, as above takes while below gives up, and gives down when it has taken
 * all. A rank that takes nothing holds this one until the deadline, as it would in the
 * next exchange, or until another one tells an error.
 */
static int give_records(struct cx_boot *b, const struct exchange *x, int to)
{
	struct cx_tree *t = &b->tree;
	struct cx_wire *w = cx_tree_wire(t, to);
	char batch[16 * (CX_FRAME_MAX + sizeof(struct cx_frame_head))];
	int rc = 0, end = to == t->above ? t->ranks : x->down;
	size_t n = 0, more;

	for (int r = 0; !rc && w && r < end; r++) {
		const char *record = x->len ? x->all + (size_t)r * x->len : NULL;
		int fd = fd_for(t, x, to, r);

		if (to == t->above && (b->have[r] & ~NOT_HEARD) != FROM_BELOW)
			continue;
		if (to == t->above)
			b->have[r] |= SENT_UP;
		more = fd >= 0 ? 0 : cx_wire_pack(batch + n, sizeof(batch) - n, CX_FRAME_RECORD, r,
						  record, x->len);
		n += more;
		if (more)
			continue;
		rc = n ? give(b, x, to, batch, n) : 0;
		n = 0;
		if (!rc)
			rc = cx_wire_send(w, CX_FRAME_RECORD, r, record, x->len, fd,
					  x->deadline_ns);
	}
	if (!rc && n)
		rc = give(b, x, to, batch, n);
	return rc ? not_given(b, to, rc) : 0;
}

/* Or need not, to this one. */
static int has_given(const void *ctx, int r)
{
	const struct cx_boot *b = ctx;

	return b->have[r] & FROM_BELOW || cx_tree_towards(&b->tree, r) < 0;
}

/* "ranks 4-5" of those below who have not given, or the rank that should have passed it on. */
static void name_missing(const struct cx_boot *b, char *text, size_t len)
{
	char ranks[96];
	int r = 0, leader;

	while (r < b->tree.ranks && has_given(b, r))
		r++;
	cx_meet_missing(has_given, b, b->tree.ranks, ranks, sizeof(ranks));
	leader = r < b->tree.ranks ? b->tree.leader[r] : b->tree.rank;
	if (leader == b->tree.rank || !has_given(b, leader))
		snprintf(text, len, "%s", ranks);
	else
		snprintf(text, len, "%s, or rank %d, which leads there,", ranks, leader);
}

/* The deadline has passed. Those below are known by name; of others rank 0 knows. */
static int overdue(struct cx_boot *b, struct exchange *x)
{
	char ranks[160];

	if (x->side == FROM_ABOVE && !x->asked) {
		x->asked = true;
		x->deadline_ns = cx_now_ns() + cx_meet_patience_ns(&b->tree);
		cx_wire_send(&b->tree.up, CX_FRAME_OVERDUE, b->tree.rank, NULL, 0, -1, 0);
		return 0;
	}
	if (x->side == FROM_ABOVE)
		snprintf(ranks, sizeof(ranks), "rank %d", b->tree.above);
	else
		name_missing(b, ranks, sizeof(ranks));
	cx_fail(COLLX_ERR_INIT_TIMEOUT, "creation: %s stopped answering before the deadline",
		ranks);
	return pass_on(b, COLLX_ERR_INIT_TIMEOUT);
}

/* Takes the records that this rank has sent. */
static int take_from(struct cx_boot *b, struct exchange *x, int from)
{
	int rc = 0;

	while (!rc && x->missing && cx_tree_wire(&b->tree, from)) {
		rc = hear(b, from);
		if (rc == 0 && cx_tree_wire(&b->tree, from))
			return 0;
		if (rc == 0)
			return set_fault(b, COLLX_ERR_PEER_LEFT, "a rank left during creation");
		rc = rc > 0 ? take_record(b, x, from) : rc;
	}
	return rc;
}

/* Some may have come already, where cx_boot_heard or hear_fault left them. */
static int take_left(struct cx_boot *b, struct exchange *x)
{
	int rc = 0;

	b->left_some = false;
	for (int r = 0; !rc && r < b->tree.ranks; r++)
		rc = take_from(b, x, r);
	return rc;
}

/* Gathers so many records from a side. */
static int gather(struct cx_boot *b, struct exchange *x, unsigned char side, int missing)
{
	int n, rc;

	x->side = side;
	x->missing = missing;
	rc = take_left(b, x);
	for (;;) {
		if (!rc && b->tree.rank && side == FROM_BELOW)
			rc = give_records(b, x, b->tree.above);
		if (!rc && b->left_some) {
			rc = take_left(b, x);
			continue;
		}
		if (rc || !x->missing)
			return rc;
		n = poll_wires(b, HEAR_MS);
		for (int i = 0; !rc && i < n; i++)
			rc = b->fds[i].revents ? take_from(b, x, b->who[i]) : 0;
		if (!rc && x->missing &&
		    (cx_now_ns() >= x->deadline_ns || (b->overdue && !x->asked)))
			rc = overdue(b, x);
		if (!rc && x->missing) {
			rc = cx_meeting_stops(b->meeting);
			rc = rc ? pass_on(b, rc) : 0;
		}
	}
}

static int exchange_all(struct cx_boot *b, struct exchange *x)
{
	struct cx_tree *t = &b->tree;
	int below = 0, rc;

	if (b->fault)
		return cx_fail(b->fault, "%s", b->text);
	for (int r = 0; r < t->ranks; r++) {
		b->have[r] = r == t->rank ? FROM_BELOW : 0;
		below += cx_tree_towards(t, r) >= 0;
	}
	rc = gather(b, x, FROM_BELOW, below);
	if (!rc && t->rank)
		rc = gather(b, x, FROM_ABOVE, x->down);
	for (int r = 0; !rc && t->down && r < t->ranks; r++)
		if (t->down[r].fd >= 0)
			rc = give_records(b, x, r);
	return rc;
}

int cx_boot_exchange(struct cx_boot *b, const void *mine, size_t len, int fd, void *all, int *fds,
		     uint64_t deadline_ns)
{
	struct exchange x = { .all = all, .fds = fds, .len = len, .down = b->tree.ranks,
			      .deadline_ns = deadline_ns };
	int rank = b->tree.rank, rc;

	memcpy(x.all + (size_t)rank * len, mine, len);
	for (int r = 0; fds && r < b->tree.ranks; r++)
		fds[r] = -1;
	if (fds && fd >= 0) {
		fds[rank] = cx_sys->dup(fd);
		if (fds[rank] < 0)
			return cx_fail_errno(-fds[rank], "duplicating a descriptor");
	}
	rc = exchange_all(b, &x);
	for (int r = 0; rc && fds && r < b->tree.ranks; r++) {
		if (fds[r] >= 0)
			cx_sys->close(fds[r]);
		fds[r] = -1;
	}
	return rc;
}

int cx_boot_barrier(struct cx_boot *b, uint64_t deadline_ns)
{
	struct exchange x = { .down = 1, .deadline_ns = deadline_ns };

	return exchange_all(b, &x);
}

/* ---- life ---- */

static int boot_alloc(struct cx_boot **out, const struct cx_meeting *m)
{
	struct cx_boot *b = cx_alloc(1, sizeof(*b));
	size_t ranks = (size_t)m->ranks;
	int rc;

	if (!b)
		return COLLX_ERR_NOMEM;
	rc = cx_tree_init(&b->tree, m->rank, m->ranks);
	b->have = cx_alloc(ranks, sizeof(*b->have));
	b->fds = cx_alloc(ranks, sizeof(*b->fds));
	b->who = cx_alloc(ranks, sizeof(*b->who));
	*out = b;
	if (!rc && b->have && b->fds && b->who)
		return 0;
	cx_boot_close(b);
	return COLLX_ERR_NOMEM;
}

int cx_boot_open(struct cx_boot **out, struct cx_meeting *m)
{
	struct cx_boot *b;
	int rc = boot_alloc(&b, m);

	if (rc)
		return rc;
	b->meeting = m;
	b->tree.leader[m->rank] = m->rank;
	if (m->ranks > 1)
		rc = cx_meet(m, &b->tree);
	if (rc) {
		cx_boot_tell(b, rc, cx_error_text());
		cx_boot_close(b);
		return rc;
	}
	b->met = true;
	*out = b;
	return 0;
}

const struct cx_tree *cx_boot_tree(const struct cx_boot *b)
{
	return &b->tree;
}

void cx_boot_finish(struct cx_boot *b, struct cx_tree *out)
{
	bool leads = false;

	*out = b->tree;
	for (int r = 0; out->down && r < out->ranks; r++)
		leads |= out->down[r].fd >= 0;
	if (!leads) {
		cx_free(out->down);
		out->down = NULL;
	}
	b->tree = (struct cx_tree){ .above = -1 };
	cx_wire_init(&b->tree.up, -1);
	cx_boot_close(b);
}

void cx_boot_close(struct cx_boot *b)
{
	cx_tree_fini(&b->tree);
	cx_free(b->have);
	cx_free(b->fds);
	cx_free(b->who);
	cx_free(b);
}
