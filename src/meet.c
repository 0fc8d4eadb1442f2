/* SPDX-License-Identifier: BSD-3-Clause */
/* The meeting of meet.h: who sits where. */
#include <poll.h>
#include <stdio.h>

#include "base/base.h"
#include "door.h"
#include "meet.h"

struct host {
	const struct cx_meeting *m;
	struct cx_wire *wires;
	int missing;
};

/* 0, or what is wrong with a proved claim. */
static int check_claim(const struct host *h, const struct cx_claim *claim)
{
	if (claim->kind != CX_CONN_CONTROL)
		return cx_fail(COLLX_ERR_INVALID, "a connection of kind %u came to the meeting",
			       claim->kind);
	if (claim->ranks != (uint32_t)h->m->ranks)
		return cx_fail(COLLX_ERR_INVALID, "rank %u says %u ranks, rank 0 says %d",
			       claim->rank, claim->ranks, h->m->ranks);
	if (claim->rank >= claim->ranks)
		return cx_fail(COLLX_ERR_INVALID, "a process came as rank %u of %u", claim->rank,
			       claim->ranks);
	if (claim->rank == 0 || h->wires[claim->rank].fd >= 0)
		return cx_fail(COLLX_ERR_INVALID, "rank %u is taken twice", claim->rank);
	return 0;
}

/* A proved connection becomes a rank's, or is told why the meeting ends. */
static int seat(void *ctx, const struct cx_claim *claim, int fd)
{
	struct host *h = ctx;
	struct cx_wire turned_away;
	int rc = check_claim(h, claim);

	if (!rc) {
		cx_wire_init(&h->wires[claim->rank], fd);
		h->missing--;
		return 0;
	}
	cx_wire_init(&turned_away, fd);
	cx_boot_send_fault(&turned_away, rc, cx_error_text());
	cx_wire_close(&turned_away);
	return rc;
}

void cx_meet_missing(const struct cx_wire *wires, int ranks, char *text, size_t len)
{
	size_t at = 0;

	text[0] = '\0';
	for (int r = 1; r < ranks && at + 32 < len; r++) {
		int from = r;

		if (wires[r].fd >= 0)
			continue;
		while (r + 1 < ranks && wires[r + 1].fd < 0)
			r++;
		at += (size_t)snprintf(text + at, len - at, r > from ? "%s%d-%d" : "%s%d",
				       at ? ", " : "", from, r);
	}
}

static int nobody_more(const struct host *h, const struct cx_door *d)
{
	char ranks[128], strangers[192];

	cx_meet_missing(h->wires, h->m->ranks, ranks, sizeof(ranks));
	cx_door_strangers(d, strangers, sizeof(strangers));
	return cx_fail(COLLX_ERR_INIT_TIMEOUT,
		       "creation: rank %s of %d did not come to %s before the deadline%s", ranks,
		       h->m->ranks, h->m->place.name, strangers);
}

static int has_ended(const struct cx_wire *w)
{
	struct pollfd p = { .fd = w->fd, .events = POLLRDHUP };

	return cx_sys->poll(&p, 1, 0) > 0 && p.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

/* Hears who of the seated died, and may come again, or has failed. */
static int look_round(struct host *h)
{
	for (int r = 1; r < h->m->ranks; r++) {
		struct cx_wire *w = &h->wires[r];
		int rc = w->fd >= 0 ? cx_wire_receive(w) : 0;

		/* Behind a record that waits to be taken an end is not read. */
		if (rc == 1 && w->head.kind == CX_FRAME_RECORD && has_ended(w))
			rc = COLLX_ERR_PEER_DEAD;
		if (rc == COLLX_ERR_PEER_DEAD) {
			cx_wire_close(w);
			h->missing++;
		} else if (rc == 1 && w->head.kind == CX_FRAME_FAULT && w->head.arg < 0) {
			return cx_fail(w->head.arg, "%.*s", w->head.len, (const char *)w->body);
		} else if (rc < 0) {
			return rc;
		}
	}
	return 0;
}

static int wait_for_all(struct host *h, struct cx_door *d)
{
	const uint64_t look_ns = 100000000;
	int rc = 0;

	while (!rc && h->missing) {
		uint64_t now = cx_now_ns();

		if (now >= h->m->deadline_ns)
			return nobody_more(h, d);
		rc = cx_door_wait(d, &h->missing, cx_min(h->m->deadline_ns, now + look_ns));
		if (rc == COLLX_ERR_INIT_TIMEOUT)
			rc = look_round(h);
	}
	return rc;
}

int cx_meet_host(struct cx_meeting *m, struct cx_wire *wires)
{
	struct host h = { m, wires, m->ranks - 1 };
	struct cx_door *d;
	int rc = cx_door_open(&d, &m->place, &m->secret, h.missing, seat, &h);

	if (rc)
		return rc;
	rc = wait_for_all(&h, d);
	cx_door_close(d);
	return rc;
}

int cx_meet_join(const struct cx_meeting *m, struct cx_wire *wire)
{
	const struct cx_claim claim = { .rank = (uint32_t)m->rank, .ranks = (uint32_t)m->ranks,
					.kind = CX_CONN_CONTROL };
	int fd = cx_door_enter(&m->place, &m->secret, &claim, m->deadline_ns);
	char why[192];

	if (fd == COLLX_ERR_INIT_TIMEOUT) {
		snprintf(why, sizeof(why), "%s", cx_error_text());
		return cx_fail(fd, "creation: rank 0 did not open its door: %s", why);
	}
	if (fd < 0)
		return fd;
	cx_wire_init(wire, fd);
	return 0;
}
