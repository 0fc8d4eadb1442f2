/* SPDX-License-Identifier: BSD-3-Clause */
/* The doors and visits of door.h. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/base.h"
#include "door.h"
#include "wire.h"

enum { STRANGERS_MAX = 64 /* connections without proof beyond two for each expected one */ };
enum { REFUSALS_MAX = 3, CLOSINGS_MIN = 3 };
enum { LET_IN_ROUND = 32 };
static const uint64_t handshake_ns = 2000000000;
static const uint64_t grace_ns = 50000000; /* that everybody gets for a proof */
static const uint64_t full_ns = 10000000;  /* between looks for room at a crowded door, or
					    * for descriptors */
static const uint64_t nap_min_ns = 200000, nap_max_ns = 20000000;
static const uint64_t rest_min_ns = 1000000, rest_max_ns = 100000000; /* closed on */
static const uint64_t turn_min_ns = 100000000; /* twice as long in each round */
/* A single place that does not answer is tried anew: on its own, TCP asks after 1, 2, 4... s,
 * and may sleep when the way opens. */
static const uint64_t knock_min_ns = 1200000000, knock_max_ns = 3200000000;

/* A connection that has not proved itself yet. */
struct pending {
	int fd;
	uint64_t deadline_ns;
	uint64_t source;  /* whence it comes */
	unsigned kin;     /* how many are pending from there */
	size_t have;
	unsigned char challenge[CX_CHALLENGE_BYTES];
	unsigned char proof[CX_PROOF_BYTES];
};

struct cx_door {
	struct cx_place place;
	const struct cx_secret *secret;
	uint32_t rank;    /* the owner's; or CX_TO_ANY */
	cx_seat_fn seat;
	void *ctx;
	int fd;
	int number;       /* of the listener in the round's poll; those of pending follow */
	unsigned refused; /* strangers so far */
	char why[160];    /* why the last one was; or the first one of another version */
	bool foreign;
	unsigned liars;   /* those of them whose proof was wrong */
	char liar[CX_MEET_MAX]; /* the last one's address */
	uint64_t rest_ns; /* nobody is let in before: there were no descriptors */
	unsigned npending, max_pending;
	struct pending *pending;
};

/* ---- both sides ---- */

void cx_poll_begin(struct cx_poll *p, unsigned slice_ms)
{
	p->n = 0;
	p->until_ns = cx_now_ns() + (uint64_t)slice_ms * 1000000;
}

int cx_poll_add(struct cx_poll *p, int fd, short events)
{
	p->fds[p->n] = (struct pollfd){ .fd = fd, .events = events };
	return (int)p->n++;
}

int cx_poll_wait(struct cx_poll *p)
{
	uint64_t now = cx_now_ns();
	int ms = p->until_ns > now ? (int)((p->until_ns - now) / 1000000) + 1 : 0;
	int rc = cx_sys->poll(p->fds, p->n, ms);

	return rc < 0 ? cx_fail_errno(-rc, "poll") : 0;
}

bool cx_poll_came(const struct cx_poll *p, int number)
{
	return number >= 0 && p->fds[number].revents;
}

/* Reads on towards `want` bytes. 1: they are here; 0: not yet; or an error, and then
 * whether the other end closed, having taken all that it was sent; NULL: nobody asks. */
static int pull(int fd, unsigned char *buf, size_t want, size_t *have, bool *ended)
{
	struct iovec v = { buf + *have, want - *have };
	struct msghdr msg = { .msg_iov = &v, .msg_iovlen = 1 };
	long n = cx_sys->recvmsg(fd, &msg);

	if (n == -EAGAIN)
		return 0;
	if (n <= 0) {
		if (ended)
			*ended = n == 0 && !cx_sys->untaken(fd);
		return COLLX_ERR_PEER_DEAD;
	}
	*have += (size_t)n;
	return *have == want;
}

/* On a unix socket only our own user may speak; elsewhere the proof alone counts. */
static int may_speak(const struct cx_place *place, int fd)
{
	uint32_t uid;

	return place->addr.ss_family != AF_UNIX ||
	       (!cx_sys->peer_uid(fd, &uid) && uid == geteuid());
}

/* ---- the door ---- */

/* An IPv4 address, or an IPv6 network, of which one may have all addresses. */
static uint64_t source_of(int fd)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	uint64_t source = 0;

	if (cx_sys->peer_name(fd, (struct sockaddr *)&addr, &len))
		return 0;
	if (addr.ss_family == AF_INET)
		source = ((const struct sockaddr_in *)&addr)->sin_addr.s_addr;
	else if (addr.ss_family == AF_INET6)
		memcpy(&source, &((const struct sockaddr_in6 *)&addr)->sin6_addr, sizeof(source));
	return source;
}

static struct pending *add(struct cx_door *d, int fd)
{
	struct pending *p = &d->pending[d->npending++];

	*p = (struct pending){ .fd = fd, .deadline_ns = cx_now_ns() + handshake_ns,
			       .source = source_of(fd) };
	for (unsigned i = 0; i < d->npending; i++)
		p->kin += d->pending[i].source == p->source;
	for (unsigned i = 0; i < d->npending; i++)
		if (d->pending[i].source == p->source)
			d->pending[i].kin = p->kin;
	return p;
}

/* Takes pending[i] off the list; its descriptor is the caller's. */
static int take(struct cx_door *d, unsigned i)
{
	struct pending gone = d->pending[i];

	d->pending[i] = d->pending[--d->npending];
	for (unsigned j = 0; j < d->npending; j++)
		if (d->pending[j].source == gone.source)
			d->pending[j].kin--;
	return gone.fd;
}

static void refuse(struct cx_door *d, unsigned i, const char *why)
{
	d->refused++;
	if (!d->foreign)
		snprintf(d->why, sizeof(d->why), "%s", why);
	cx_sys->close(take(d, i));
}

/* It closed and had said nothing: a rank that found a shorter way does that, too. */
static void let_go(struct cx_door *d, unsigned i)
{
	cx_sys->close(take(d, i));
}

/* The oldest of those whence most come: a flood drives out itself. */
static unsigned next_out(const struct cx_door *d)
{
	unsigned next = 0;

	for (unsigned i = 1; i < d->npending; i++) {
		const struct pending *p = &d->pending[i], *q = &d->pending[next];

		if (p->kin > q->kin || (p->kin == q->kin && p->deadline_ns < q->deadline_ns))
			next = i;
	}
	return next;
}

/* It may go when it has had its grace. */
static int may_go(const struct cx_door *d)
{
	return cx_now_ns() + handshake_ns >= d->pending[next_out(d)].deadline_ns + grace_ns;
}

static int has_room(const struct cx_door *d)
{
	return d->npending < d->max_pending || may_go(d);
}

/* What accept may answer because of one connection, or for want of descriptors that
 * strangers hold; the listener lives on. */
static int is_passing(struct cx_door *d, int err)
{
	bool few = err == EMFILE || err == ENFILE;

	if (few) /* the listener stays readable */
		d->rest_ns = cx_now_ns() + full_ns;
	if (few && d->npending) {
		if (may_go(d))
			refuse(d, next_out(d), "too many open files");
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
			refuse(d, next_out(d), "too many silent connections");
		p = add(d, fd);
		if (d->place.addr.ss_family != AF_UNIX)
			cx_sys->setopt(fd, IPPROTO_TCP, TCP_NODELAY, 1);
		if (!may_speak(&d->place, fd))
			refuse(d, d->npending - 1, "a process of another user");
		else if (cx_auth_challenge(p->challenge))
			refuse(d, d->npending - 1, cx_error_text());
		else if (cx_wire_put(fd, p->challenge, sizeof(p->challenge), 0))
			let_go(d, d->npending - 1);
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

/* Another job's rank, perhaps, or one of this job with another secret. */
static void note_liar(struct cx_door *d, int fd)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	struct cx_place from;

	d->liars++;
	if (d->place.addr.ss_family != AF_UNIX &&
	    !cx_sys->peer_name(fd, (struct sockaddr *)&addr, &len) &&
	    !cx_place_of_address(&from, (const struct sockaddr *)&addr, -1))
		memcpy(d->liar, from.name, sizeof(d->liar));
}

/* Reads on at one pending connection. */
static int hear(struct cx_door *d, unsigned i)
{
	struct pending *p = &d->pending[i];
	struct cx_claim claim;
	int rc = pull(p->fd, p->proof, sizeof(p->proof), &p->have, NULL);

	if (rc < 0 && p->have)
		refuse(d, i, "a connection closed before its proof");
	else if (rc < 0)
		let_go(d, i);
	if (rc <= 0)
		return 0;
	rc = cx_auth_check(d->secret, p->challenge, p->proof, &claim);
	if (!rc && claim.to != d->rank)
		rc = cx_fail(COLLX_ERR_AUTH, "a connection is for another rank's door");
	if (!rc)
		return confirm(d, i, &claim);
	if (cx_auth_is_proof(p->proof))
		note_liar(d, p->fd);
	refuse(d, i, cx_error_text());
	d->foreign |= rc == COLLX_ERR_VERSION; /* more telling than what may come after it */
	return 0;
}

void cx_door_watch(struct cx_door *d, struct cx_poll *p)
{
	uint64_t now = cx_now_ns();
	bool open = has_room(d) && now >= d->rest_ns;

	d->number = cx_poll_add(p, d->fd, open ? POLLIN : 0);
	for (unsigned i = 0; i < d->npending; i++)
		cx_poll_add(p, d->pending[i].fd, POLLIN);
	if (!open)
		p->until_ns = cx_min(p->until_ns, now + full_ns);
}

int cx_door_serve(struct cx_door *d, const struct cx_poll *p)
{
	uint64_t now = cx_now_ns();
	int rc;

	for (unsigned i = d->npending; i-- > 0;) {
		rc = cx_poll_came(p, d->number + 1 + (int)i) ? hear(d, i) : 0;
		if (rc)
			return rc;
	}
	/* After hearing, so that proofs that lay there while we were stopped count. */
	for (unsigned i = d->npending; i-- > 0;)
		if (now >= d->pending[i].deadline_ns)
			refuse(d, i, "a connection sent no proof within 2 s");
	return cx_poll_came(p, d->number) ? let_in(d) : 0;
}

void cx_door_strangers(const struct cx_door *d, char *text, size_t len)
{
	text[0] = '\0';
	if (d->refused)
		snprintf(text, len, "; %u connection%s refused, %s: %s", d->refused,
			 d->refused > 1 ? "s" : "", d->foreign ? "one of them" : "the last",
			 d->why);
}

unsigned cx_door_tell(const struct cx_door *d)
{
	char line[400];

	snprintf(line, sizeof(line), "%s turned %u connection%s with a wrong proof away%s%s: does "
		 "another job have this address, or a rank another secret?", d->place.name,
		 d->liars, d->liars > 1 ? "s" : "", d->liar[0] ? ", the last from " : "", d->liar);
	if (d->liars)
		cx_sys->say(line);
	return d->liars;
}

unsigned cx_door_room(int expected)
{
	return 1 + STRANGERS_MAX + 2 * (unsigned)expected;
}

static int door_alloc(struct cx_door **out, int expected)
{
	struct cx_door *d = cx_alloc(1, sizeof(*d));

	if (!d)
		return COLLX_ERR_NOMEM;
	d->fd = -1;
	d->max_pending = cx_door_room(expected) - 1;
	d->pending = cx_alloc(d->max_pending, sizeof(*d->pending));
	*out = d;
	if (d->pending)
		return 0;
	cx_door_close(d);
	return COLLX_ERR_NOMEM;
}

int cx_door_open(struct cx_door **out, struct cx_place *place, const struct cx_secret *secret,
		 uint32_t rank, int expected, cx_seat_fn seat, void *ctx)
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
	d->rank = rank;
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
	cx_free(d);
}

/* ---- the other side ---- */

/* HELD: of several, one that has the form of a door; the proof is ready. */
enum step { AWAY, CONNECTING, CHALLENGED, HELD, PROVED };

static bool has_several(const struct cx_visit *v)
{
	return cx_place_count(v->place) > 1;
}

void cx_visit_begin(struct cx_visit *v, const struct cx_place *place,
		    const struct cx_secret *secret, const struct cx_claim *claim)
{
	*v = (struct cx_visit){ .place = place, .secret = secret, .claim = *claim, .fd = -1,
				.number = -1, .nap_ns = nap_min_ns, .rest_ns = rest_min_ns };
	v->turn_ns = has_several(v) ? turn_min_ns : knock_min_ns;
	cx_place_nth(place, 0, &v->at);
}

static void hang_up(struct cx_visit *v)
{
	if (v->fd >= 0)
		cx_sys->close(v->fd);
	v->fd = -1;
	v->step = AWAY;
}

void cx_visit_end(struct cx_visit *v)
{
	if (v->place)
		hang_up(v);
	v->place = NULL;
}

bool cx_visit_is_through(const struct cx_visit *v)
{
	return v->place && v->step > (has_several(v) ? CHALLENGED : CONNECTING);
}

/* Is its time limited? A single one that has taken the connection may take what it needs. */
static bool has_limit(const struct cx_visit *v)
{
	return has_several(v) || v->step == CONNECTING;
}

void cx_visit_watch(struct cx_visit *v, struct cx_poll *p)
{
	v->number = -1;
	if (!v->place || (v->hold && v->step == (has_several(v) ? HELD : CHALLENGED)))
		return;
	if (v->step == HELD)
		p->until_ns = 0;
	if (v->fd < 0)
		p->until_ns = cx_min(p->until_ns, v->next_ns);
	else if (has_limit(v))
		p->until_ns = cx_min(p->until_ns, v->until_ns);
	if (v->fd >= 0)
		v->number = cx_poll_add(p, v->fd, v->step == CONNECTING ? POLLOUT : POLLIN);
}

/* The next one's turn; a nap when all had theirs. */
static int next_turn(struct cx_visit *v)
{
	uint64_t now = cx_now_ns();

	hang_up(v);
	v->turn = (v->turn + 1) % cx_place_count(v->place);
	cx_place_nth(v->place, v->turn, &v->at);
	v->next_ns = now;
	if (v->turn)
		return 0;
	v->next_ns = now + v->nap_ns;
	v->nap_ns = cx_min(2 * v->nap_ns, nap_max_ns);
	v->turn_ns = cx_min(2 * v->turn_ns, handshake_ns);
	return 0;
}

/* Somebody else than the one that is looked for. One that knows what a proof is tells more
 * than those that do not. */
static int pass_over(struct cx_visit *v, const char *why)
{
	if (v->refused)
		v->refusals++;
	if (v->refused || !v->refusals)
		snprintf(v->stranger, sizeof(v->stranger), "; %s answered, but: %.120s",
			 v->at.name, why);
	return next_turn(v);
}

/* Nobody took the connection: is it worth another try? */
static int not_taken(struct cx_visit *v, int err)
{
	bool absent = err == ENOENT || err == ECONNREFUSED;
	uint64_t now = cx_now_ns();
	int rc;

	if (has_several(v)) {
		v->err = err;
		v->absent += err == ECONNREFUSED;
		return next_turn(v);
	}
	hang_up(v);
	v->err = err;
	v->absent += absent;
	rc = cx_place_check(v->place);
	if (rc)
		return rc;
	if (!cx_place_may_come(err))
		return cx_fail_errno(err, "connecting to %s", v->place->name);
	if (absent && v->gone_ns && now > v->gone_ns)
		return cx_fail(COLLX_ERR_PEER_DEAD,
			       "%s closed before rank %u was in: its process died or failed, see "
			       "its error",
			       v->place->name, v->claim.rank);
	v->next_ns = now + v->nap_ns;
	v->nap_ns = cx_min(2 * v->nap_ns, nap_max_ns);
	return 0;
}

/* A door that takes a whole proof and closes does not want it, and will not next time. One
 * that closes before may be a tunnel's without an end yet, or strangers crowd it. */
static int turned_away(struct cx_visit *v)
{
	uint64_t now = cx_now_ns();

	hang_up(v);
	v->gone_ns = now + handshake_ns;
	v->next_ns = now + v->rest_ns;
	v->rest_ns = cx_min(2 * v->rest_ns, rest_max_ns);
	if (v->refused && ++v->refusals < REFUSALS_MAX)
		return 0;
	if (v->refused)
		return cx_fail(COLLX_ERR_AUTH,
			       "%s turned rank %u's proof away: do all ranks have the same secret, "
			       "and is this their job?", v->place->name, v->claim.rank);
	if (!v->closings++)
		v->closing_ns = now;
	if (v->gives_up && v->closings >= CLOSINGS_MIN && now - v->closing_ns >= handshake_ns)
		return cx_fail(COLLX_ERR_AUTH, "%s closed %u connections before it judged a proof",
			       v->place->name, v->closings);
	return 0;
}

static int connected(struct cx_visit *v)
{
	int rc = cx_place_knocked(&v->at, v->fd);

	if (rc)
		return not_taken(v, -rc);
	if (!may_speak(v->place, v->fd))
		return cx_fail(COLLX_ERR_AUTH, "the process at %s belongs to another user",
			       v->place->name);
	v->step = CHALLENGED;
	v->have = 0;
	v->refused = false;
	v->until_ns = has_several(v) ? v->until_ns : cx_now_ns() + handshake_ns;
	return 0;
}

static int show_proof(struct cx_visit *v)
{
	v->have = 0;
	/* Has the form of a door: who would go on might be taken for one that came and died. */
	v->until_ns = cx_now_ns() + handshake_ns;
	v->step = PROVED;
	return cx_wire_put(v->fd, v->proof, sizeof(v->proof), 0);
}

/* So that the door can name both versions, too. Whatever becomes of it: our line is said. */
static void show_version(struct cx_visit *v)
{
	struct iovec all = { v->proof, sizeof(v->proof) };
	struct msghdr msg = { .msg_iov = &all, .msg_iovlen = 1 };

	cx_sys->sendmsg(v->fd, &msg);
}

static int prove(struct cx_visit *v)
{
	int rc = pull(v->fd, v->challenge, sizeof(v->challenge), &v->have, NULL);

	if (rc != 1)
		return rc;
	v->challenged = true;
	rc = cx_auth_prove(v->secret, v->challenge, &v->claim, v->proof);
	if (rc == COLLX_ERR_VERSION)
		show_version(v);
	if (rc || !v->hold)
		return rc ? rc : show_proof(v);
	v->step = HELD;
	return 0;
}

static int be_confirmed(struct cx_visit *v)
{
	int rc = pull(v->fd, v->answer, sizeof(v->answer), &v->have, &v->refused);

	if (rc != 1)
		return rc;
	rc = cx_auth_confirmed(v->secret, v->challenge, v->proof, v->answer);
	if (rc)
		return rc;
	v->place = NULL;
	return 1;
}

static int knock(struct cx_visit *v)
{
	v->fd = cx_place_knock(&v->at);
	v->step = CONNECTING;
	v->number = -1;
	v->until_ns = cx_now_ns() + v->turn_ns;
	return v->fd < 0 ? not_taken(v, -v->fd) : 0;
}

/* The turn is over. */
static int be_silent(struct cx_visit *v)
{
	if (!has_several(v)) {
		hang_up(v);
		v->turn_ns = cx_min(2 * v->turn_ns, knock_max_ns);
		return knock(v);
	}
	if (v->step == CONNECTING) {
		v->err = ETIMEDOUT;
		return next_turn(v);
	}
	return v->stranger[0] ? next_turn(v) : pass_over(v, "it says nothing");
}

int cx_visit_go_on(struct cx_visit *v, const struct cx_poll *p)
{
	int rc;

	if (!v->place || (v->fd < 0 && cx_now_ns() < v->next_ns))
		return 0;
	if (v->fd < 0)
		return knock(v);
	if (v->step == HELD && v->hold)
		return 0;
	if (v->step != HELD && !cx_poll_came(p, v->number))
		return has_limit(v) && cx_now_ns() >= v->until_ns ? be_silent(v) : 0;
	if (v->step == CONNECTING)
		return connected(v);
	rc = v->step == CHALLENGED ? prove(v) : v->step == HELD ? show_proof(v) : be_confirmed(v);
	if (rc < 0 && has_several(v))
		return pass_over(v, v->refused ? "it turned our proof away: another secret, or "
						 "another job"
				    : rc == COLLX_ERR_PEER_DEAD ? "it closed the connection"
								: cx_error_text());
	return rc == COLLX_ERR_PEER_DEAD ? turned_away(v) : rc;
}

bool cx_visit_is_unanswered(const struct cx_visit *v)
{
	return v->place && !has_several(v) && v->step == CONNECTING && !v->err && !v->closings;
}

void cx_visit_why(const struct cx_visit *v, char *text, size_t len)
{
	char why[96];

	if (has_several(v))
		snprintf(text, len, "it was at none of %d places from %s on (%s)%s",
			 cx_place_count(v->place), v->place->name,
			 strerror_r(v->err, why, sizeof(why)), v->stranger);
	else if (cx_visit_is_unanswered(v)) /* else the last try's end tells more */
		snprintf(text, len, "%s did not answer before the deadline: is it the right "
			 "address, and not cut off?", v->place->name);
	else if (v->closings && (v->step <= CONNECTING || cx_now_ns() < v->until_ns))
		snprintf(text, len, "%s closed %u connections before it %s", v->place->name,
			 v->closings, v->challenged ? "judged a proof: is it flooded?"
			 : "said a word: a tunnel to nobody yet, or another service?");
	else if (v->step > CONNECTING)
		snprintf(text, len, "%s took the connection and said nothing before the deadline: "
			 "is its process stopped?", v->place->name);
	else
		snprintf(text, len, "nobody answered at %s before the deadline: %s",
			 v->place->name, strerror_r(v->err, why, sizeof(why)));
}
