/* SPDX-License-Identifier: BSD-3-Clause */
/* Connects ranks that want each other; see mesh.h. One loop lets the higher ones in,
 * enters at the lower ones and hears what the control tree tells, so that nobody waits
 * for somebody who waits. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "door.h"
#include "mesh.h"
#include "net.h"

enum { SLICE_MS = 50, HEAR_NS = 20000000, HEARSAY_NS = 500000000 };

static const uint64_t answers_ns = 1200000000; /* TCP asks again after a second */

struct mesh {
	const struct cx_meeting *m;
	struct cx_boot *boot;
	struct cx_secret secret;
	const unsigned char *wanted;
	int lanes;
	int *fds;
	int missing;               /* connections that higher ranks will make */
	int next;                  /* the one in fds that is to be made now */
	char (*names)[CX_MEET_MAX]; /* where the ranks listen; "": nowhere */
	struct cx_door *door;
	struct cx_place place;     /* of the visit */
	struct cx_visit visit;
	struct cx_poll poll;
	uint64_t heard_ns;
	uint64_t out_ns;           /* when the visit began */
};

static int seat(void *ctx, const struct cx_claim *claim, int fd)
{
	struct mesh *w = ctx;
	size_t i = (size_t)claim->rank * (size_t)w->lanes + claim->conn;

	if (claim->kind != CX_CONN_LANE || claim->ranks != (uint32_t)w->m->ranks ||
	    claim->rank >= claim->ranks || claim->rank <= (uint32_t)w->m->rank ||
	    !w->wanted[claim->rank] || claim->conn >= (uint32_t)w->lanes || w->fds[i] >= 0) {
		cx_sys->close(fd);
		return cx_fail(COLLX_ERR_INVALID, "rank %u came for lane %u, which is not to be",
			       claim->rank, claim->conn);
	}
	w->fds[i] = fd;
	w->missing--;
	return 0;
}

/* Sets out for the next lane of a lower rank. */
static int set_out(struct mesh *w)
{
	struct cx_claim claim = { .rank = (uint32_t)w->m->rank, .ranks = (uint32_t)w->m->ranks,
				  .kind = CX_CONN_LANE };
	int r, rc;

	while (w->next < w->m->rank * w->lanes && !w->wanted[w->next / w->lanes])
		w->next += w->lanes;
	if (w->next >= w->m->rank * w->lanes)
		return 0;
	r = w->next / w->lanes;
	claim.to = (uint32_t)r;
	claim.conn = (uint32_t)(w->next % w->lanes);
	w->names[r][CX_MEET_MAX - 1] = '\0';
	rc = claim.conn ? 0 : cx_place_parse(&w->place, w->names[r]);
	if (rc)
		return rc;
	cx_visit_begin(&w->visit, &w->place, &w->secret, &claim);
	w->out_ns = cx_now_ns();
	return 0;
}

static int enter(struct mesh *w)
{
	int rc = cx_visit_go_on(&w->visit, &w->poll);

	if (rc != 1)
		return rc;
	w->fds[w->next++] = w->visit.fd;
	return set_out(w);
}

static int is_done(const struct mesh *w)
{
	return !w->missing && !w->visit.place;
}

/* The first rank that has not made all its connections. */
static int first_missing(const struct mesh *w)
{
	for (int r = w->m->rank + 1; r < w->m->ranks; r++)
		for (int l = 0; w->wanted[r] && l < w->lanes; l++)
			if (w->fds[r * w->lanes + l] < 0)
				return r;
	return w->m->ranks;
}

static int overdue(const struct mesh *w)
{
	char why[192] = "";

	if (w->visit.place) {
		cx_visit_why(&w->visit, why, sizeof(why));
		return cx_fail(COLLX_ERR_INIT_TIMEOUT,
			       "creation: rank %d connecting to rank %d: %s", w->m->rank,
			       w->next / w->lanes, why);
	}
	cx_door_strangers(w->door, why, sizeof(why));
	return cx_fail(COLLX_ERR_INIT_TIMEOUT,
		       "creation: rank %d did not connect to rank %d at %.*s before the deadline%s",
		       first_missing(w), w->m->rank, CX_MEET_MAX, w->names[w->m->rank], why);
}

static int mesh_round(struct mesh *w)
{
	int rc;

	cx_poll_begin(&w->poll, SLICE_MS);
	w->poll.until_ns = cx_min(w->poll.until_ns, w->m->deadline_ns);
	if (w->door)
		cx_door_watch(w->door, &w->poll);
	cx_visit_watch(&w->visit, &w->poll);
	rc = cx_poll_wait(&w->poll);
	if (!rc && w->door)
		rc = cx_door_serve(w->door, &w->poll);
	if (!rc)
		rc = enter(w);
	if (!rc)
		rc = cx_meeting_stops(w->m);
	if (rc || is_done(w) || cx_now_ns() - w->heard_ns < HEAR_NS)
		return rc;
	w->heard_ns = cx_now_ns();
	rc = cx_boot_heard(w->boot);
	return rc || cx_now_ns() < w->m->deadline_ns ? rc : overdue(w);
}

/* What is seen here may be the work of an error that was told. A door that closed says
 * little: its rank failed, and the cause is on its way. */
static int hearsay(struct mesh *w, int rc)
{
	int vague = rc == COLLX_ERR_PEER_DEAD || rc == COLLX_ERR_AUTH, told;
	uint64_t until = cx_now_ns() + (vague ? HEARSAY_NS : 0);
	char text[CX_FAULT_TEXT_MAX];

	snprintf(text, sizeof(text), "%s", cx_error_text());
	while (!(told = cx_boot_heard(w->boot)) && cx_now_ns() < until)
		cx_sys->poll(NULL, 0, 10);
	return told ? told : cx_fail(rc, "%s", text);
}

/* Listens where higher ranks will come; its place for the others. */
static int listen_for_higher(struct mesh *w, char mine[CX_MEET_MAX])
{
	struct cx_place own;
	int rc;

	memset(mine, 0, CX_MEET_MAX);
	for (int r = w->m->rank + 1; r < w->m->ranks; r++)
		w->missing += w->wanted[r] ? w->lanes : 0;
	if (!w->missing)
		return 0;
	rc = cx_net_own_place(w->m, &own);
	if (!rc)
		rc = cx_door_open(&w->door, &own, &w->secret, (uint32_t)w->m->rank, w->missing,
				  seat, w);
	if (!rc)
		memcpy(mine, own.name, CX_MEET_MAX);
	return rc;
}

static int connect_wanted(struct mesh *w)
{
	char mine[CX_MEET_MAX];
	int rc = listen_for_higher(w, mine);

	if (!rc)
		rc = cx_boot_exchange(w->boot, mine, sizeof(mine), -1, w->names, NULL,
				      w->m->deadline_ns);
	if (rc)
		return rc;
	rc = set_out(w);
	while (!rc && !is_done(w))
		rc = mesh_round(w);
	return rc ? hearsay(w, rc) : 0;
}

static int mesh_init(struct mesh *w, uint64_t nonce)
{
	size_t ranks = (size_t)w->m->ranks;

	w->names = cx_alloc(ranks, sizeof(*w->names));
	w->poll.fds = cx_alloc(cx_door_room(w->m->ranks * w->lanes) + 1, sizeof(*w->poll.fds));
	if (!w->names || !w->poll.fds)
		return COLLX_ERR_NOMEM;
	return cx_secret_derive(&w->secret, &w->m->secret, nonce);
}

int cx_mesh_open(struct cx_boot *b, const struct cx_meeting *m, uint64_t nonce, int lanes,
		 const unsigned char *wanted, int *fds)
{
	struct mesh w = { .m = m, .boot = b, .wanted = wanted, .lanes = lanes, .fds = fds };
	int rc = mesh_init(&w, nonce);

	for (int i = 0; i < m->ranks * lanes; i++)
		fds[i] = -1;
	if (!rc)
		rc = connect_wanted(&w);
	if (w.door) {
		cx_door_tell(w.door);
		cx_door_close(w.door);
	}
	/* Where it failed for another reason, that one may answer next time. */
	if (rc == COLLX_ERR_INIT_TIMEOUT && m->unreached && cx_visit_is_unanswered(&w.visit) &&
	    cx_now_ns() - w.out_ns >= answers_ns)
		*m->unreached = 1 + w.next / lanes;
	cx_visit_end(&w.visit);
	for (int i = 0; rc && i < m->ranks * lanes; i++) {
		if (fds[i] >= 0)
			cx_sys->close(fds[i]);
		fds[i] = -1;
	}
	cx_secret_wipe(&w.secret);
	cx_free(w.names);
	cx_free(w.poll.fds);
	return rc;
}
