/* SPDX-License-Identifier: BSD-3-Clause */
/* Connects all ranks with all; see mesh.h. Waiting for lower ranks cannot go round
 * in a circle: rank 0 connects to nobody, and lets everybody in. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "door.h"
#include "mesh.h"

enum { HEARSAY_NS = 500000000 };

struct mesh {
	const struct cx_meeting *m;
	struct cx_boot *boot;
	struct cx_secret secret;
	int lanes;
	const unsigned char *wanted;
	int *fds;
	int missing;
};

static int seat(void *ctx, const struct cx_claim *claim, int fd)
{
	struct mesh *w = ctx;
	size_t i = (size_t)claim->rank * (size_t)w->lanes + claim->conn;

	if (claim->kind != CX_CONN_LANE || claim->ranks != (uint32_t)w->m->ranks ||
	    claim->rank >= claim->ranks || claim->rank <= (uint32_t)w->m->rank ||
	    claim->conn >= (uint32_t)w->lanes || !w->wanted[claim->rank] || w->fds[i] >= 0) {
		cx_sys->close(fd);
		return cx_fail(COLLX_ERR_INVALID, "rank %u came for lane %u, which is not to be",
			       claim->rank, claim->conn);
	}
	w->fds[i] = fd;
	w->missing--;
	return 0;
}

/* A door that closed says little: its rank failed, and the cause is on its way. */
static int hearsay(struct mesh *w, int rc)
{
	char text[CX_FAULT_TEXT_MAX];
	uint64_t until = cx_now_ns() + HEARSAY_NS;

	snprintf(text, sizeof(text), "%s", cx_error_text());
	while (rc == COLLX_ERR_PEER_DEAD && cx_now_ns() < until) {
		int told = cx_boot_heard(w->boot);

		if (told)
			return told;
		cx_sys->poll(NULL, 0, 10);
	}
	return cx_fail(rc, "%s", text);
}

static int enter_lower(struct mesh *w, char (*names)[CX_MEET_MAX])
{
	struct cx_claim claim = { .rank = (uint32_t)w->m->rank, .ranks = (uint32_t)w->m->ranks,
				  .kind = CX_CONN_LANE };
	struct cx_place place;
	int rc;

	for (int r = 0; r < w->m->rank; r++) {
		if (!w->wanted[r])
			continue;
		names[r][CX_MEET_MAX - 1] = '\0';
		rc = cx_place_parse(&place, names[r]);
		for (int l = 0; !rc && l < w->lanes; l++) {
			claim.conn = (uint32_t)l;
			rc = cx_door_enter(&place, &w->secret, &claim, w->m->deadline_ns);
			if (rc >= 0) {
				w->fds[r * w->lanes + l] = rc;
				rc = 0;
			}
		}
		if (rc)
			return hearsay(w, rc);
	}
	return 0;
}

static int let_in_higher(struct mesh *w, struct cx_door *d)
{
	char strangers[192];
	const uint64_t slice_ns = 100000000;
	int rc = 0;

	while (!rc && w->missing && cx_now_ns() < w->m->deadline_ns) {
		rc = cx_door_wait(d, &w->missing,
				  cx_min(w->m->deadline_ns, cx_now_ns() + slice_ns));
		if (rc == COLLX_ERR_INIT_TIMEOUT)
			rc = cx_boot_heard(w->boot);
	}
	if (rc || !w->missing)
		return rc;
	cx_door_strangers(d, strangers, sizeof(strangers));
	return cx_fail(COLLX_ERR_INIT_TIMEOUT,
		       "creation: %d connections to rank %d were not made before the deadline%s",
		       w->missing, w->m->rank, strangers);
}

static int connect_all(struct mesh *w, struct cx_boot *b, char (*names)[CX_MEET_MAX])
{
	char mine[CX_MEET_MAX] = "";
	struct cx_place own;
	struct cx_door *d;
	int rc = cx_boot_own_place(b, w->m, &own);

	if (!rc)
		rc = cx_door_open(&d, &own, &w->secret, w->missing, seat, w);
	if (rc)
		return rc;
	memcpy(mine, own.name, sizeof(mine));
	rc = cx_boot_exchange(b, mine, sizeof(mine), -1, names, NULL, w->m->deadline_ns);
	if (!rc)
		rc = enter_lower(w, names);
	if (!rc)
		rc = let_in_higher(w, d);
	cx_door_close(d);
	return rc;
}

int cx_mesh_open(struct cx_boot *b, const struct cx_meeting *m, uint64_t nonce, int lanes,
		 const unsigned char *wanted, int *fds)
{
	struct mesh w = { .m = m, .boot = b, .lanes = lanes, .wanted = wanted, .fds = fds };
	char (*names)[CX_MEET_MAX] = cx_alloc((size_t)m->ranks, sizeof(*names));
	int rc = names ? cx_secret_derive(&w.secret, &m->secret, nonce) : COLLX_ERR_NOMEM;

	for (int i = 0; i < m->ranks * lanes; i++)
		fds[i] = -1;
	for (int r = m->rank + 1; r < m->ranks; r++)
		w.missing += wanted[r] ? lanes : 0;
	if (!rc)
		rc = connect_all(&w, b, names);
	for (int i = 0; rc && i < m->ranks * lanes; i++) {
		if (fds[i] >= 0)
			cx_sys->close(fds[i]);
		fds[i] = -1;
	}
	cx_secret_wipe(&w.secret);
	cx_free(names);
	return rc;
}
