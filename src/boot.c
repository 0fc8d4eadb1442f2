/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The star of control connections around rank 0, and the exchanges and the first
 * error of creation; see boot.h. Rank 0 holds wires[1..ranks-1],
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
	int *leader; /* for the tree: a star is one host's */
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

/* ---- what comes in ---- */

/* Acts on the fault that wires[from] told. */
static int hear_frame(struct cx_boot *b, int from)
{
	struct cx_wire *w = &b->wires[from];
	char text[CX_FAULT_TEXT_MAX];

	if (w->head.arg >= 0 || w->head.len >= CX_FAULT_TEXT_MAX)
		return set_fault(b, COLLX_ERR_CORRUPT, "a control frame is damaged");
	memcpy(text, w->body, w->head.len);
	text[w->head.len] = '\0';
	return set_fault(b, w->head.arg, text);
}

/* A connection ended: its rank died. */
static int hear_end(struct cx_boot *b, int from)
{
	char text[CX_FAULT_TEXT_MAX];

	cx_wire_close(&b->wires[from]);
	snprintf(text, sizeof(text),
		 "rank %d died: its process ended without leaving (control connection closed)",
		 from);
	return set_fault(b, COLLX_ERR_PEER_DEAD, text);
}

/* Reads what wires[from] has. 1: a frame is there that is not a fault; 0: nothing; or
 * the fault. */
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
		if (rc == 0 || w->head.kind != CX_FRAME_FAULT)
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

int cx_boot_heard(struct cx_boot *b)
{
	int first = first_wire(b), rc;

	if (b->fault)
		return cx_fail(b->fault, "%s", b->text);
	if (poll_wires(b, 0) <= 0)
		return 0;
	for (int r = first; r <= last_wire(b); r++) {
		rc = b->fds[r - first].revents && b->wires[r].fd >= 0 ? hear(b, r) : 0;
		if (rc < 0)
			return rc;
	}
	return 0;
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

	while ((rc = hear(b, from)) == 0) {
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
	if (w->head.kind != CX_FRAME_RECORD || w->head.arg != who || w->head.len != x->len ||
	    (w->passed_fd >= 0 && !x->fds))
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
	b->leader = cx_alloc((size_t)m->ranks, sizeof(*b->leader));
	b->fds = cx_alloc((size_t)m->ranks, sizeof(*b->fds));
	for (int r = 0; b->wires && r < m->ranks; r++)
		cx_wire_init(&b->wires[r], -1);
	*out = b;
	if (b->wires && b->leader && b->fds)
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
	cx_free(b->leader);
	cx_free(b->fds);
	cx_free(b);
}

void cx_boot_finish(struct cx_boot *b, struct cx_tree *out)
{
	*out = (struct cx_tree){ .rank = b->rank, .ranks = b->ranks, .above = -1,
				 .leader = b->leader };
	cx_wire_init(&out->up, -1);
	b->leader = NULL;
	if (b->rank) {
		out->above = 0;
		out->up = b->wires[0];
		cx_wire_init(&b->wires[0], -1);
	} else {
		out->down = b->wires;
		b->wires = NULL;
	}
	cx_boot_close(b);
}
