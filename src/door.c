/* SPDX-License-Identifier: BSD-3-Clause */
/* The door of door.h. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/base.h"
#include "door.h"
#include "wire.h"

enum { STRANGERS_MAX = 64 /* connections without proof beyond two for each expected one */ };
enum { ENTER_TRIES = 3 };
enum { LET_IN_ROUND = 32 };
static const uint64_t handshake_ns = 2000000000;
static const uint64_t grace_ns = 50000000; /* that everybody gets for a proof */

/* A connection that has not proved itself yet. */
struct pending {
	int fd;
	uint64_t deadline_ns;
	size_t have;
	unsigned char challenge[CX_CHALLENGE_BYTES];
	unsigned char proof[CX_PROOF_BYTES];
};

struct cx_door {
	struct cx_place place;
	const struct cx_secret *secret;
	cx_seat_fn seat;
	void *ctx;
	int fd;
	unsigned refused; /* strangers so far */
	char why[128];    /* why the last one was */
	unsigned npending, max_pending;
	struct pending *pending;
	struct pollfd *fds; /* the listener's and those of pending */
};

/* Takes pending[i] off the list; its descriptor is the caller's. */
static int take(struct cx_door *d, unsigned i)
{
	int fd = d->pending[i].fd;

	d->pending[i] = d->pending[--d->npending];
	return fd;
}

static void refuse(struct cx_door *d, unsigned i, const char *why)
{
	d->refused++;
	snprintf(d->why, sizeof(d->why), "%s", why);
	cx_sys->close(take(d, i));
}

/* On a unix socket only our own user may speak; elsewhere the proof alone counts. */
static int may_speak(const struct cx_place *place, int fd)
{
	uint32_t uid;

	return place->addr.ss_family != AF_UNIX ||
	       (!cx_sys->peer_uid(fd, &uid) && uid == geteuid());
}

static unsigned oldest(const struct cx_door *d)
{
	unsigned first = 0;

	for (unsigned i = 1; i < d->npending; i++)
		if (d->pending[i].deadline_ns < d->pending[first].deadline_ns)
			first = i;
	return first;
}

/* The oldest may go when it has had its grace. */
static int may_go(const struct cx_door *d)
{
	return cx_now_ns() + handshake_ns >= d->pending[oldest(d)].deadline_ns + grace_ns;
}

static int has_room(const struct cx_door *d)
{
	return d->npending < d->max_pending || may_go(d);
}

/* What accept may answer because of one connection, or for want of descriptors that
 * strangers hold; the listener lives on. */
static int is_passing(struct cx_door *d, int err)
{
	if ((err == EMFILE || err == ENFILE) && d->npending) {
		if (may_go(d))
			refuse(d, oldest(d), "too many open files");
		return 1;
	}
	return err == ENETDOWN || err == EPROTO || err == ENOPROTOOPT || err == EHOSTDOWN ||
	       err == ENONET || err == EHOSTUNREACH || err == EOPNOTSUPP || err == ENETUNREACH;
}

/* Takes some new connections in; the listener's queue holds the rest meanwhile. */
static int let_in(struct cx_door *d)
{
	for (int n = 0; n < LET_IN_ROUND && has_room(d); n++) {
		int fd = cx_sys->accept(d->fd);
		struct pending *p;

		if (fd == -EAGAIN || (fd < 0 && is_passing(d, -fd)))
			return 0;
		if (fd < 0)
			return cx_fail_errno(-fd, "accepting at %s", d->place.name);
		if (d->npending == d->max_pending)
			refuse(d, oldest(d), "too many silent connections");
		p = &d->pending[d->npending++];
		*p = (struct pending){ .fd = fd, .deadline_ns = cx_now_ns() + handshake_ns };
		if (!may_speak(&d->place, fd))
			refuse(d, d->npending - 1, "a process of another user");
		else if (cx_auth_challenge(p->challenge) ||
			 cx_wire_put(fd, p->challenge, sizeof(p->challenge), 0))
			refuse(d, d->npending - 1, cx_error_text());
	}
	return 0;
}

static int confirm(struct cx_door *d, unsigned i, const struct cx_claim *claim)
{
	struct pending *p = &d->pending[i];
	unsigned char answer[CX_CONFIRM_BYTES];

	if (cx_auth_confirm(d->secret, p->challenge, p->proof, answer) ||
	    cx_wire_put(p->fd, answer, sizeof(answer), 0)) {
		refuse(d, i, cx_error_text());
		return 0;
	}
	return d->seat(d->ctx, claim, take(d, i));
}

/* Reads on at one pending connection. */
static int hear(struct cx_door *d, unsigned i)
{
	struct pending *p = &d->pending[i];
	struct iovec v = { p->proof + p->have, sizeof(p->proof) - p->have };
	struct msghdr msg = { .msg_iov = &v, .msg_iovlen = 1 };
	struct cx_claim claim;
	long n = cx_sys->recvmsg(p->fd, &msg);

	if (n == -EAGAIN)
		return 0;
	if (n <= 0) {
		refuse(d, i, "a connection closed before its proof");
		return 0;
	}
	p->have += (size_t)n;
	if (p->have < sizeof(p->proof))
		return 0;
	if (!cx_auth_check(d->secret, p->challenge, p->proof, &claim))
		return confirm(d, i, &claim);
	refuse(d, i, cx_error_text());
	return 0;
}

static int door_round(struct cx_door *d, uint64_t deadline_ns)
{
	uint64_t now = cx_now_ns();
	int rc, ready, open = has_room(d);

	if (now >= deadline_ns)
		return COLLX_ERR_INIT_TIMEOUT;
	d->fds[0] = (struct pollfd){ .fd = d->fd, .events = open ? POLLIN : 0 };
	for (unsigned i = 0; i < d->npending; i++)
		d->fds[i + 1] = (struct pollfd){ .fd = d->pending[i].fd, .events = POLLIN };
	ready = cx_sys->poll(d->fds, d->npending + 1,
			     (int)cx_min((deadline_ns - now) / 1000000 + 1, open ? 100 : 10));
	if (ready < 0)
		return cx_fail_errno(-ready, "poll");
	for (unsigned i = d->npending; i-- > 0;) {
		rc = d->fds[i + 1].revents ? hear(d, i) : 0;
		if (rc)
			return rc;
	}
	/* After hearing, so that proofs that lay there while we were stopped count. */
	for (unsigned i = d->npending; i-- > 0;)
		if (now >= d->pending[i].deadline_ns)
			refuse(d, i, "a connection sent no proof within 2 s");
	return d->fds[0].revents & POLLIN ? let_in(d) : 0;
}

int cx_door_wait(struct cx_door *d, const int *missing, uint64_t deadline_ns)
{
	int rc = 0;

	while (!rc && *missing)
		rc = door_round(d, deadline_ns);
	return rc;
}

void cx_door_strangers(const struct cx_door *d, char *text, size_t len)
{
	text[0] = '\0';
	if (d->refused)
		snprintf(text, len, "; %u connections refused, the last: %s", d->refused, d->why);
}

static int door_alloc(struct cx_door **out, int expected)
{
	struct cx_door *d = cx_alloc(1, sizeof(*d));

	if (!d)
		return COLLX_ERR_NOMEM;
	d->fd = -1;
	d->max_pending = STRANGERS_MAX + 2 * (unsigned)expected;
	d->pending = cx_alloc(d->max_pending, sizeof(*d->pending));
	d->fds = cx_alloc(d->max_pending + 1, sizeof(*d->fds));
	*out = d;
	if (d->pending && d->fds)
		return 0;
	cx_door_close(d);
	return COLLX_ERR_NOMEM;
}

int cx_door_open(struct cx_door **out, struct cx_place *place, const struct cx_secret *secret,
		 int expected, cx_seat_fn seat, void *ctx)
{
	struct cx_door *d;
	int rc = door_alloc(&d, expected);

	if (rc)
		return rc;
	rc = cx_place_listen(place);
	if (rc < 0) {
		cx_door_close(d);
		return rc;
	}
	d->fd = rc;
	d->place = *place;
	d->secret = secret;
	d->seat = seat;
	d->ctx = ctx;
	*out = d;
	return 0;
}

void cx_door_close(struct cx_door *d)
{
	if (d->fd >= 0)
		cx_place_unlisten(&d->place, d->fd);
	while (d->npending)
		cx_sys->close(take(d, 0));
	cx_free(d->pending);
	cx_free(d->fds);
	cx_free(d);
}

/* ---- the other side ---- */

static int prove(const struct cx_place *place, const struct cx_secret *secret,
		 const struct cx_claim *claim, int fd, uint64_t deadline_ns)
{
	unsigned char challenge[CX_CHALLENGE_BYTES], proof[CX_PROOF_BYTES];
	unsigned char answer[CX_CONFIRM_BYTES];
	int rc;

	if (!may_speak(place, fd))
		return cx_fail(COLLX_ERR_AUTH, "the process at %s belongs to another user",
			       place->name);
	rc = cx_wire_get(fd, challenge, sizeof(challenge), deadline_ns);
	if (!rc)
		rc = cx_auth_prove(secret, challenge, claim, proof);
	if (!rc)
		rc = cx_wire_put(fd, proof, sizeof(proof), deadline_ns);
	if (!rc)
		rc = cx_wire_get(fd, answer, sizeof(answer), deadline_ns);
	return rc ? rc : cx_auth_confirmed(secret, challenge, proof, answer);
}

/* A single place. */
static int enter_one(const struct cx_place *place, const struct cx_secret *secret,
		     const struct cx_claim *claim, uint64_t deadline_ns)
{
	uint64_t until_ns = deadline_ns;

	for (int tries = 0; tries < ENTER_TRIES; tries++) {
		int fd = cx_place_connect(place, until_ns), rc;

		if (fd == COLLX_ERR_INIT_TIMEOUT && tries)
			return cx_fail(COLLX_ERR_PEER_DEAD,
				       "%s closed before rank %u was in: its process died or "
				       "failed, see its error",
				       place->name, claim->rank);
		if (fd < 0)
			return fd;
		rc = prove(place, secret, claim, fd, deadline_ns);
		if (!rc)
			return fd;
		cx_sys->close(fd);
		if (rc != COLLX_ERR_PEER_DEAD)
			return rc;
		/* Perhaps too slow, or crowded out by strangers; but then it still listens. */
		until_ns = cx_min(deadline_ns, cx_now_ns() + handshake_ns);
	}
	return cx_fail(COLLX_ERR_AUTH,
		       "%s turned rank %u away: do all ranks have the same secret, or is the place "
		       "flooded?",
		       place->name, claim->rank);
}

/* Tries one of several places. A descriptor, or an error with the line that tells most. */
static int try_one(const struct cx_place *place, const struct cx_secret *secret,
		   const struct cx_claim *claim, uint64_t until_ns, char *answer, size_t len)
{
	int fd = cx_place_try(place, until_ns), rc;

	if (fd < 0)
		return cx_fail_errno(-fd, "%s", place->name);
	rc = prove(place, secret, claim, fd, until_ns);
	if (!rc)
		return fd;
	if (rc != COLLX_ERR_INIT_TIMEOUT || !answer[0])
		snprintf(answer, len, "%s answered, but: %s", place->name, cx_error_text());
	cx_sys->close(fd);
	return rc;
}

/* Others may listen at some of them, so the first that proves itself counts. Those that
 * are silent cost little at first; later a slow rank 0 has its time. */
static int enter_any(const struct cx_place *place, const struct cx_secret *secret,
		     const struct cx_claim *claim, uint64_t deadline_ns)
{
	int n = cx_place_count(place), nap_ms = 1, fd;
	uint64_t slice_ns = 100000000;
	char answer[256] = "";

	for (;;) {
		for (int i = 0; i < n; i++) {
			struct cx_place one;

			cx_place_nth(place, i, &one);
			fd = try_one(&one, secret, claim,
				     cx_min(deadline_ns, cx_now_ns() + slice_ns), answer,
				     sizeof(answer));
			if (fd >= 0)
				return fd;
		}
		if (cx_now_ns() >= deadline_ns)
			break;
		cx_sys->poll(NULL, 0, nap_ms);
		nap_ms = nap_ms < 20 ? 2 * nap_ms : nap_ms;
		slice_ns = cx_min(2 * slice_ns, handshake_ns);
	}
	if (!answer[0])
		snprintf(answer, sizeof(answer), "the last: %s", cx_error_text());
	return cx_fail(COLLX_ERR_INIT_TIMEOUT,
		       "rank 0 was at none of %d places from %s on before the deadline; %s", n,
		       place->name, answer);
}

int cx_door_enter(const struct cx_place *place, const struct cx_secret *secret,
		  const struct cx_claim *claim, uint64_t deadline_ns)
{
	return cx_place_count(place) == 1 ? enter_one(place, secret, claim, deadline_ns)
					  : enter_any(place, secret, claim, deadline_ns);
}
