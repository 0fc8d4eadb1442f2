/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The star of control connections around rank 0: exchanges during creation,
 * first error and leave afterwards; see boot.h. Rank 0 holds wires[1..ranks-1],
 * any other rank wires[0].
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "boot.h"
#include "meet.h"
#include "wire.h"

struct cx_boot {
	int rank, ranks;
	int fault; /* first error told or seen; 0: none */
	char text[CX_FAULT_TEXT_MAX];
	struct cx_wire *wires;
	uint64_t *left; /* of each rank: 1 + last finished operation when it left; 0: it is here */
	struct pollfd *fds;
};

/* ---- the place ---- */

int cx_boot_place(char where[CX_MEET_MAX], const unsigned char job[CX_JOB_BYTES])
{
	const char *folder = cx_env_text(CX_ENV_RUNTIME_DIR), *fixed = cx_env_text(CX_ENV_ADDR);
	char name[2 * CX_JOB_BYTES + 1];
	int n;

	if (fixed && !strncmp(fixed, "tcp:", 4)) {
		snprintf(where, CX_MEET_MAX, "%s", fixed);
		return strlen(fixed) < CX_MEET_MAX
			       ? 0
			       : cx_fail(COLLX_ERR_INVALID,
					 "COLLX_ADDR is longer than %d characters",
					 CX_MEET_MAX - 1);
	}

	for (int i = 0; i < CX_JOB_BYTES; i++)
		snprintf(name + 2 * i, 3, "%02x", job[i]);
	if (folder)
		n = snprintf(where, CX_MEET_MAX, "unix:%s/%s", folder, name);
	else
		n = snprintf(where, CX_MEET_MAX, "unix:/tmp/collx-%u/%s", (unsigned)geteuid(),
			     name);
	if (n >= CX_MEET_MAX || where[5] != '/')
		return cx_fail(COLLX_ERR_INVALID,
			       "COLLX_RUNTIME_DIR must be an absolute path of at most %d "
			       "characters",
			       CX_MEET_MAX - 7 - 2 * CX_JOB_BYTES);
	return 0;
}

int cx_boot_own_place(const struct cx_boot *b, const struct cx_meeting *m, struct cx_place *own)
{
	if (m->place.addr.ss_family == AF_UNIX)
		return cx_place_parse(own, "tcp:127.0.0.1:0");
	if (b->rank)
		return cx_place_of_connection(own, b->wires[0].fd, 0);
	*own = m->place;
	return cx_place_set_port(own, 0);
}

/* ---- faults ---- */

void cx_boot_send_fault(struct cx_wire *w, int code, const char *text)
{
	cx_wire_send(w, CX_FRAME_FAULT, code, text, cx_min(strlen(text), CX_FAULT_TEXT_MAX - 1), -1,
		     0);
}

/* The wires this rank holds are wires[first..last]. */
static int first_wire(const struct cx_boot *b)
{
	return b->rank ? 0 : 1;
}

static int last_wire(const struct cx_boot *b)
{
	return b->rank ? 0 : b->ranks - 1;
}

/* The first error stays, and is passed on once. The lines that sending may
 * record must not replace it. */
static int set_fault(struct cx_boot *b, int code, const char *text)
{
	if (!b->fault) {
		b->fault = code;
		snprintf(b->text, sizeof(b->text), "%s", text);
		for (int r = first_wire(b); r <= last_wire(b); r++)
			cx_boot_send_fault(&b->wires[r], code, b->text);
	}
	return cx_fail(b->fault, "%s", b->text);
}

void cx_boot_tell(struct cx_boot *b, int code, const char *text)
{
	char copy[CX_FAULT_TEXT_MAX];

	snprintf(copy, sizeof(copy), "%s", text); /* text may be the thread's error line */
	set_fault(b, code, copy);
}

void cx_boot_leave(struct cx_boot *b, uint64_t seq)
{
	const uint64_t patience = 2000000000, until = cx_now_ns() + patience;

	for (int r = first_wire(b); r <= last_wire(b); r++)
		if (b->wires[r].fd >= 0)
			cx_wire_send(&b->wires[r], CX_FRAME_LEAVE, b->rank, &seq, sizeof(seq), -1,
				     until);
}

/* ---- what comes in ---- */

static int hear_leave(struct cx_boot *b, int from)
{
	const struct cx_wire *w = &b->wires[from];
	uint64_t seq;
	int who = w->head.arg;

	if (w->head.len != sizeof(seq) || who < 0 || who >= b->ranks || (!b->rank && who != from))
		return set_fault(b, COLLX_ERR_CORRUPT, "a leave frame is damaged");
	memcpy(&seq, w->body, sizeof(seq));
	b->left[who] = seq + 1;
	for (int r = 1; !b->rank && r < b->ranks; r++)
		if (r != who && b->wires[r].fd >= 0)
			cx_wire_send(&b->wires[r], CX_FRAME_LEAVE, who, &seq, sizeof(seq), -1, 0);
	return 0;
}

/* Acts on the frame of wires[from] when it is not a record. */
static int hear_frame(struct cx_boot *b, int from)
{
	struct cx_wire *w = &b->wires[from];
	char text[CX_FAULT_TEXT_MAX];

	if (w->head.kind == CX_FRAME_LEAVE)
		return hear_leave(b, from);
	if (w->head.kind != CX_FRAME_FAULT || w->head.arg >= 0 ||
	    w->head.len >= CX_FAULT_TEXT_MAX)
		return set_fault(b, COLLX_ERR_CORRUPT, "a control frame is damaged");
	memcpy(text, w->body, w->head.len);
	text[w->head.len] = '\0';
	return set_fault(b, w->head.arg, text);
}

/* A connection ended: its rank left, or died. */
static int hear_end(struct cx_boot *b, int from)
{
	char text[CX_FAULT_TEXT_MAX];

	cx_wire_close(&b->wires[from]);
	if (b->left[from])
		return 0;
	snprintf(text, sizeof(text),
		 "rank %d died: its process ended without leaving (control connection closed)",
		 from);
	return set_fault(b, COLLX_ERR_PEER_DEAD, text);
}

/* Reads what wires[from] has. 1: a record is there; 0: nothing; or the fault. */
static int hear(struct cx_boot *b, int from)
{
	struct cx_wire *w = &b->wires[from];
	int rc;

	for (;;) {
		rc = cx_wire_receive(w);
		if (rc == COLLX_ERR_PEER_DEAD)
			return hear_end(b, from);
		if (rc < 0)
			return set_fault(b, rc, cx_error_text());
		if (rc == 0 || w->head.kind == CX_FRAME_RECORD)
			return rc;
		rc = hear_frame(b, from);
		cx_wire_next(w);
		if (rc)
			return rc;
	}
}

/* How many wires have something to say; fds[] tells which. */
static int poll_wires(struct cx_boot *b, int timeout_ms)
{
	int first = first_wire(b), n = last_wire(b) - first + 1;

	for (int i = 0; i < n; i++)
		b->fds[i] = (struct pollfd){ .fd = b->wires[first + i].fd, .events = POLLIN };
	return n ? cx_sys->poll(b->fds, (unsigned)n, timeout_ms) : 0;
}

/* Hears all wires; counts those on which a record waits. */
static int hear_all(struct cx_boot *b, int *records)
{
	int first = first_wire(b), rc;

	*records = 0;
	if (b->fault)
		return cx_fail(b->fault, "%s", b->text);
	if (poll_wires(b, 0) <= 0)
		return 0;
	for (int r = first; r <= last_wire(b); r++) {
		rc = b->fds[r - first].revents && b->wires[r].fd >= 0 ? hear(b, r) : 0;
		if (rc < 0)
			return rc;
		*records += rc;
	}
	return 0;
}

int cx_boot_heard(struct cx_boot *b)
{
	int records;

	return hear_all(b, &records);
}

int cx_boot_watch(struct cx_boot *b, uint64_t seq)
{
	int records, rc = hear_all(b, &records);

	if (rc)
		return rc;
	if (records)
		return set_fault(b, COLLX_ERR_CORRUPT, "a record came late");
	for (int r = 0; r < b->ranks; r++) {
		char text[CX_FAULT_TEXT_MAX];

		if (!b->left[r] || b->left[r] > seq)
			continue;
		snprintf(text, sizeof(text),
			 "rank %d left the communicator before operation %llu, which needs it", r,
			 (unsigned long long)seq);
		return set_fault(b, COLLX_ERR_PEER_LEFT, text);
	}
	return 0;
}

int cx_boot_listen(struct cx_boot *b, uint64_t seq, int wait_ms)
{
	uint64_t end = cx_now_ns() + (uint64_t)wait_ms * 1000000;

	for (;;) {
		uint64_t now = cx_now_ns();
		int rc = cx_boot_watch(b, seq);

		if (rc || now >= end)
			return rc;
		poll_wires(b, (int)((end - now) / 1000000) + 1);
	}
}

/* ---- exchange ---- */

enum { HEAR_NS = 100000000 /* between looks at the other wires */ };

struct exchange {
	char *all;
	int *fds;
	size_t len;
	uint64_t deadline_ns;
};

/* Rank 0 alone knows who is missing, so the others wait a little longer for its word. */
static uint64_t patience_ns(const struct cx_boot *b, const struct exchange *x)
{
	const uint64_t grace_ns = 1000000000;

	return b->rank && x->deadline_ns < UINT64_MAX - grace_ns ? x->deadline_ns + grace_ns
								 : x->deadline_ns;
}

/* Waits for the record `who` from wires[from] and stores it. */
static int take_record(struct cx_boot *b, const struct exchange *x, int from, int who)
{
	struct cx_wire *w = &b->wires[from];
	int rc;

	while ((rc = hear(b, from)) == 0 && w->fd >= 0) {
		uint64_t until = patience_ns(b, x);

		rc = cx_wire_wait(w->fd, POLLIN, cx_min(until, cx_now_ns() + HEAR_NS));
		if (rc < 0)
			return set_fault(b, rc, cx_error_text());
		if (rc == 0 && cx_boot_heard(b))
			return b->fault;
		if (rc == 0 && cx_now_ns() >= until) {
			char text[CX_FAULT_TEXT_MAX];

			snprintf(text, sizeof(text),
				 "creation: rank %d stopped answering before the deadline", from);
			return set_fault(b, COLLX_ERR_INIT_TIMEOUT, text);
		}
	}
	if (rc < 0)
		return rc;
	if (rc == 0)
		return set_fault(b, COLLX_ERR_PEER_LEFT, "a rank left during creation");
	if (w->head.arg != who || w->head.len != x->len || (w->passed_fd >= 0 && !x->fds))
		return set_fault(b, COLLX_ERR_VERSION,
				 "the ranks exchange records of different form: "
				 "use one version of libcollx on all ranks");
	memcpy(x->all + (size_t)who * x->len, w->body, x->len);
	if (x->fds) {
		x->fds[who] = w->passed_fd;
		w->passed_fd = -1;
	}
	cx_wire_next(w);
	return 0;
}

static int give_record(struct cx_boot *b, const struct exchange *x, int to, int who)
{
	int rc = cx_wire_send(&b->wires[to], CX_FRAME_RECORD, who, x->all + (size_t)who * x->len,
			      x->len, x->fds ? x->fds[who] : -1, x->deadline_ns);

	if (rc == COLLX_ERR_PEER_DEAD) /* why it went may be waiting to be read */
		rc = hear(b, to);
	return rc < 0 ? set_fault(b, rc, cx_error_text()) : 0;
}

static int exchange_all(struct cx_boot *b, const struct exchange *x)
{
	int rc = 0;

	if (b->rank) {
		rc = give_record(b, x, 0, b->rank);
		if (x->fds && x->fds[b->rank] >= 0) {
			cx_sys->close(x->fds[b->rank]);
			x->fds[b->rank] = -1;
		}
		for (int r = 0; !rc && r < b->ranks; r++)
			rc = take_record(b, x, 0, r);
		return rc;
	}
	for (int r = 1; !rc && r < b->ranks; r++)
		rc = take_record(b, x, r, r);
	for (int to = 1; !rc && to < b->ranks; to++)
		for (int r = 0; !rc && r < b->ranks; r++)
			rc = give_record(b, x, to, r);
	return rc;
}

int cx_boot_exchange(struct cx_boot *b, const void *mine, size_t len, int fd, void *all, int *fds,
		     uint64_t deadline_ns)
{
	struct exchange x = { all, fds, len, deadline_ns };
	int rc;

	memcpy(x.all + (size_t)b->rank * len, mine, len);
	for (int r = 0; fds && r < b->ranks; r++)
		fds[r] = -1;
	if (fds && fd >= 0) {
		fds[b->rank] = cx_sys->dup(fd);
		if (fds[b->rank] < 0)
			return cx_fail_errno(-fds[b->rank], "duplicating a descriptor");
	}
	rc = exchange_all(b, &x);
	for (int r = 0; rc && fds && r < b->ranks; r++) {
		if (fds[r] >= 0)
			cx_sys->close(fds[r]);
		fds[r] = -1;
	}
	return rc;
}

/* ---- life ---- */

static int boot_alloc(struct cx_boot **out, const struct cx_meeting *m)
{
	struct cx_boot *b = cx_alloc(1, sizeof(*b));

	if (!b)
		return COLLX_ERR_NOMEM;
	b->rank = m->rank;
	b->ranks = m->ranks;
	b->wires = cx_alloc((size_t)m->ranks, sizeof(*b->wires));
	b->left = cx_alloc((size_t)m->ranks, sizeof(*b->left));
	b->fds = cx_alloc((size_t)m->ranks, sizeof(*b->fds));
	for (int r = 0; b->wires && r < m->ranks; r++)
		cx_wire_init(&b->wires[r], -1);
	*out = b;
	if (b->wires && b->left && b->fds)
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
	if (m->rank)
		rc = cx_meet_join(m, &b->wires[0]);
	else if (m->ranks > 1)
		rc = cx_meet_host(m, b->wires);
	if (rc) {
		cx_boot_tell(b, rc, cx_error_text());
		cx_boot_close(b);
		return rc;
	}
	*out = b;
	return 0;
}

void cx_boot_close(struct cx_boot *b)
{
	for (int r = 0; b->wires && r < b->ranks; r++)
		cx_wire_close(&b->wires[r]);
	cx_free(b->wires);
	cx_free(b->left);
	cx_free(b->fds);
	cx_free(b);
}
