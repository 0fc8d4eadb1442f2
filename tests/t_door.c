/* SPDX-License-Identifier: BSD-3-Clause */
/* Visits at doors: who is found there, who is tried again, and whose word is the last. */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <criterion/criterion.h>

#include "src/base/base.h"
#include "src/boot.h"
#include "src/door.h"
#include "tests/world.h"

enum { MS = 1000000 };

static void clear(void)
{
	for (int v = 0; v < CX_ENV_COUNT; v++)
		unsetenv(cx_env_entry((enum cx_env)v)->name);
	setenv("COLLX_INTERFACE", "lo", 1);
}

static uint64_t in_ms(unsigned ms)
{
	return cx_now_ns() + (uint64_t)ms * MS;
}

static void somewhere(struct cx_place *p)
{
	char address[16], name[32];

	own_loopback(address);
	snprintf(name, sizeof(name), "tcp:%s:0", address);
	cr_assert_eq(cx_place_parse(p, name), 0);
}

/* A listener at a free port of an address that is ours alone. */
static int occupy(struct cx_place *p)
{
	int fd;

	somewhere(p);
	fd = cx_place_listen(p);
	cr_assert_geq(fd, 0, "%s", cx_error_text());
	return fd;
}

/* ---- who comes ---- */

static int take_seat(void *ctx, const struct cx_claim *claim, int fd)
{
	int *missing = ctx;

	cr_expect_eq(claim->rank, 1);
	close(fd);
	--*missing;
	return 0;
}

struct guest {
	struct cx_place place;
	struct cx_secret secret;
	unsigned ms;
	int fd; /* or an error */
	char line[512];
};

static void *enter(void *arg)
{
	const struct cx_claim claim = { .rank = 1, .ranks = 2, .kind = CX_CONN_CONTROL };
	struct guest *g = arg;
	struct pollfd fds[2];
	struct cx_poll p = { .fds = fds };
	struct cx_visit v;
	uint64_t end = in_ms(g->ms);

	cx_visit_begin(&v, &g->place, &g->secret, &claim);
	for (int rc = 0; rc == 0 && cx_now_ns() < end;) {
		cx_poll_begin(&p, 20);
		cx_visit_watch(&v, &p);
		rc = cx_poll_wait(&p);
		rc = rc ? rc : cx_visit_go_on(&v, &p);
		g->fd = rc == 1 ? v.fd : rc ? rc : COLLX_ERR_INIT_TIMEOUT;
	}
	if (g->fd == COLLX_ERR_INIT_TIMEOUT)
		cx_visit_why(&v, g->line, sizeof(g->line));
	else
		snprintf(g->line, sizeof(g->line), "%s", cx_error_text());
	cx_visit_end(&v);
	return NULL;
}

static int let_in(struct cx_door *d, const int *missing)
{
	struct cx_poll p = { .fds = calloc(cx_door_room(1), sizeof(*p.fds)) };
	uint64_t end = in_ms(30000);
	int rc = 0;

	while (!rc && *missing && cx_now_ns() < end) {
		cx_poll_begin(&p, 50);
		cx_door_watch(d, &p);
		rc = cx_poll_wait(&p);
		rc = rc ? rc : cx_door_serve(d, &p);
	}
	free(p.fds);
	return rc ? rc : *missing;
}

/* Says something else to whoever comes. */
static void *babble(void *arg)
{
	int fd;

	while ((fd = accept(*(int *)arg, NULL, NULL)) >= 0 || errno == EAGAIN) {
		if (fd >= 0 && write(fd, "SSH-2.0-nothing-of-the-kind-that-was-asked-for\r\n", 49))
			close(fd);
		nap_ms(1);
	}
	return NULL;
}

Test(several, the_one_that_proves_itself_is_rank_0, .timeout = 60)
{
	static const unsigned char key[CX_SECRET_BYTES] = { 7 };
	struct cx_place silent, loud, place;
	struct cx_secret secret;
	struct guest g = { .ms = 30000 };
	int missing = 1, held, talks;
	pthread_t guest, talker;
	struct cx_door *d;

	clear();
	held = occupy(&silent);
	loud = silent;
	loud.ports = 8;
	talks = cx_place_listen(&loud);
	place = silent;
	place.ports = 16;
	cr_assert(talks >= 0 && !cx_secret_init(&secret, key));
	g.place = place;
	g.secret = secret;
	cr_assert(!pthread_create(&talker, NULL, babble, &talks));
	cr_assert(!pthread_create(&guest, NULL, enter, &g));
	nap_ms(300); /* rank 0 comes late */
	cr_assert_eq(cx_door_open(&d, &place, &secret, 0, 1, take_seat, &missing), 0, "%s",
		     cx_error_text());
	cr_assert_eq(let_in(d, &missing), 0, "%s", cx_error_text());
	pthread_join(guest, NULL);
	cr_assert_geq(g.fd, 0, "%s", g.line);
	close(g.fd);
	cx_door_close(d);
	shutdown(talks, SHUT_RDWR);
	pthread_join(talker, NULL);
	close(talks);
	close(held);
}

Test(several, without_rank_0_the_last_answer_is_told)
{
	static const unsigned char key[CX_SECRET_BYTES] = { 7 };
	struct guest g = { .ms = 500 };
	pthread_t talker;
	int talks;

	clear();
	talks = occupy(&g.place);
	g.place.ports = 2;
	cr_assert(!cx_secret_init(&g.secret, key));
	cr_assert(!pthread_create(&talker, NULL, babble, &talks));
	enter(&g);
	cr_assert_eq(g.fd, COLLX_ERR_INIT_TIMEOUT);
	cr_assert(strstr(g.line, g.place.name) && strstr(g.line, "protocol"), "%s", g.line);
	shutdown(talks, SHUT_RDWR);
	pthread_join(talker, NULL);
	close(talks);
}

/* A way that is dead for 7.5 s: TCP's own next question would come after 11 s or more. */
Test(single, is_tried_anew_when_nobody_answers, .timeout = 60)
{
	static const unsigned char key[CX_SECRET_BYTES] = { 7 };
	struct guest g = { .ms = 10600 };
	int missing = 1, dead, fill[8];
	pthread_t guest;
	struct cx_door *d;

	clear();
	dead = occupy(&g.place);
	cr_assert(!listen(dead, 0) && !cx_secret_init(&g.secret, key));
	for (int i = 0; i < 8; i++)
		fill[i] = cx_place_try(&g.place, in_ms(20));
	cr_assert(!pthread_create(&guest, NULL, enter, &g));
	nap_ms(7500);
	for (int i = 0; i < 8; i++)
		if (fill[i] >= 0)
			close(fill[i]);
	close(dead);
	cr_assert_eq(cx_door_open(&d, &g.place, &g.secret, 0, 1, take_seat, &missing), 0, "%s",
		     cx_error_text());
	cr_expect_eq(let_in(d, &missing), 0, "%s", cx_error_text());
	pthread_join(guest, NULL);
	cr_expect_geq(g.fd, 0, "%s", g.line);
	close(g.fd);
	cx_door_close(d);
}

/* How a listener that is no rank 0 ends the connections that it takes. */
enum manner { AT_ONCE, ASKED /* after a challenge */, JUDGED /* after a proof */ };

struct closer {
	int fd;
	enum manner manner;
	atomic_uint taken;
	pthread_t thread;
};

static void *take_and_close(void *arg)
{
	struct closer *c = arg;
	int fd;

	while ((fd = accept(c->fd, NULL, NULL)) >= 0 || errno == EAGAIN) {
		unsigned char challenge[CX_CHALLENGE_BYTES], proof[CX_PROOF_BYTES];

		nap_ms(fd < 0);
		if (fd < 0)
			continue;
		if (c->manner != AT_ONCE &&
		    (cx_auth_challenge(challenge) || write(fd, challenge, sizeof(challenge)) < 0))
			abort();
		if (c->manner == JUDGED)
			recv(fd, proof, sizeof(proof), MSG_WAITALL);
		close(fd);
		atomic_fetch_add(&c->taken, 1);
	}
	return NULL;
}

static void closer_start(struct closer *c, struct guest *g)
{
	static const unsigned char key[CX_SECRET_BYTES] = { 7 };

	clear();
	c->fd = occupy(&g->place);
	cr_assert(!cx_secret_init(&g->secret, key));
	cr_assert(!pthread_create(&c->thread, NULL, take_and_close, c));
}

static void closer_end(struct closer *c)
{
	shutdown(c->fd, SHUT_RDWR);
	pthread_join(c->thread, NULL);
	close(c->fd);
}

/* A tunnel with nobody behind it yet; a door that strangers crowd. */
Test(single, is_not_given_up_for_a_door_that_did_not_judge, .timeout = 60)
{
	for (enum manner m = AT_ONCE; m <= ASKED; m++) {
		struct closer c = { .manner = m };
		struct guest g = { .ms = 30000 };
		int missing = 1;
		pthread_t guest;
		struct cx_door *d;

		closer_start(&c, &g);
		cr_assert(!pthread_create(&guest, NULL, enter, &g));
		nap_ms(2500);
		closer_end(&c);
		/* Soon in vain at first, and more and more seldom. */
		cr_expect(c.taken > 5 && c.taken < 60, "%u connections", c.taken);
		cr_assert_eq(cx_door_open(&d, &g.place, &g.secret, 0, 1, take_seat, &missing), 0,
			     "%s", cx_error_text());
		cr_expect_eq(let_in(d, &missing), 0, "%s", cx_error_text());
		pthread_join(guest, NULL);
		cr_expect_geq(g.fd, 0, "%s", g.line);
		close(g.fd);
		cx_door_close(d);
	}
}

Test(single, tells_of_a_door_that_did_not_judge)
{
	static const char *const lines[] = { "before it said a word", "before it judged a proof" };

	for (enum manner m = AT_ONCE; m <= ASKED; m++) {
		struct closer c = { .manner = m };
		struct guest g = { .ms = 500 };

		closer_start(&c, &g);
		enter(&g);
		closer_end(&c);
		cr_expect(g.fd == COLLX_ERR_INIT_TIMEOUT && strstr(g.line, lines[m]) &&
			  strstr(g.line, g.place.name), "%d: %s", g.fd, g.line);
	}
}

/* Among several there may be another one, so the last word is at the deadline. */
Test(several, one_that_judged_is_told_of)
{
	struct closer c = { .manner = JUDGED };
	struct guest g = { .ms = 700 };
	struct cx_place loud;
	pthread_t talker;
	int talks;

	closer_start(&c, &g);
	loud = g.place;
	loud.ports = 16;
	talks = cx_place_listen(&loud);
	cr_assert(talks >= 0 && !pthread_create(&talker, NULL, babble, &talks));
	g.place.ports = 16;
	enter(&g);
	closer_end(&c);
	cr_expect(g.fd == COLLX_ERR_INIT_TIMEOUT &&
		  strstr(g.line, "it turned our proof away: another secret, or another job"),
		  "%d: %s", g.fd, g.line);
	shutdown(talks, SHUT_RDWR);
	pthread_join(talker, NULL);
	close(talks);
}

Test(single, that_judged_is_believed_soon)
{
	struct closer c = { .manner = JUDGED };
	struct guest g = { .ms = 30000 };
	uint64_t began = now_ms();

	closer_start(&c, &g);
	enter(&g);
	closer_end(&c);
	cr_expect(g.fd == COLLX_ERR_AUTH && strstr(g.line, "same secret"), "%d: %s", g.fd, g.line);
	cr_expect_eq(c.taken, 3);
	cr_expect_lt(now_ms() - began, 1500);
}

/* ---- floods ---- */

/* A connection from that address of the loopback, which says nothing. */
static int come_from(const struct cx_place *place, const char *address)
{
	struct sockaddr_in from = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert(fd >= 0 && inet_pton(AF_INET, address, &from.sin_addr) == 1 &&
		  !bind(fd, (struct sockaddr *)&from, sizeof(from)) &&
		  !connect(fd, (const struct sockaddr *)&place->addr, place->len));
	return fd;
}

/* For a moment. */
static void serve(struct cx_door *d)
{
	struct pollfd fds[80];
	struct cx_poll p = { .fds = fds };

	cr_assert_leq(cx_door_room(1), 80);
	cx_poll_begin(&p, 10);
	cx_door_watch(d, &p);
	cr_assert(!cx_poll_wait(&p) && !cx_door_serve(d, &p));
}

static bool is_open(int fd)
{
	unsigned char challenge[CX_CHALLENGE_BYTES];
	ssize_t n;

	while ((n = recv(fd, challenge, sizeof(challenge), MSG_DONTWAIT)) > 0)
		;
	return n < 0 && errno == EAGAIN;
}

/* Three slow ones, and a flood from elsewhere while they may still prove themselves. Returns
 * whether it was in time, and then how many of each are left. */
static bool flood(struct cx_door *d, const struct cx_place *place, int *slow, int *flood)
{
	enum { SLOW = 3, FLOOD = 120 };
	int fd[SLOW + FLOOD];
	uint64_t began = now_ms();
	bool in_time;

	for (int i = 0; i < SLOW + FLOOD; i++) {
		fd[i] = come_from(place, i < 2 ? "127.0.0.1" : i < SLOW ? "127.0.0.3" :
				  "127.0.0.2");
		serve(d);
		nap_ms(2);
	}
	*slow = *flood = 0;
	for (int i = 0; i < SLOW + FLOOD; i++)
		*(i < SLOW ? slow : flood) += is_open(fd[i]);
	in_time = now_ms() - began < 1900;
	for (int i = 0; i < SLOW + FLOOD; i++)
		close(fd[i]);
	return in_time;
}

/* Who needs a second for a proof has it, though others need the room. */
Test(flood, drives_out_itself, .timeout = 120)
{
	static const unsigned char key[CX_SECRET_BYTES] = { 7 };
	int missing = 1, slow, others;
	struct cx_secret secret;
	struct cx_place place;
	struct cx_door *d;
	bool in_time = false;

	clear();
	close(occupy(&place));
	cr_assert(!cx_secret_init(&secret, key));
	cr_assert_eq(cx_door_open(&d, &place, &secret, 0, 1, take_seat, &missing), 0);
	for (int i = 0; i < 20 && !in_time; i++) {
		in_time = flood(d, &place, &slow, &others);
		for (int round = 0; round < 100; round++)
			serve(d);
	}
	cr_assert(in_time, "the machine is too slow to tell");
	cr_expect_eq(slow, 3);
	cr_expect_lt(others, 100);
	cx_door_close(d);
}

/* ---- other versions ---- */

/* A door of version 9, to one visitor: is it shown ours? */
static void *ask_in_9(void *arg)
{
	unsigned char bytes[CX_PROOF_BYTES] = { 0 };
	int fd;

	while ((fd = accept(*(int *)arg, NULL, NULL)) < 0 && errno == EAGAIN)
		nap_ms(1);
	EXPECT(fd >= 0 && !cx_auth_challenge(bytes), "no visitor");
	bytes[4] = 9;
	EXPECT(write(fd, bytes, CX_CHALLENGE_BYTES) == CX_CHALLENGE_BYTES, "write");
	EXPECT(recv(fd, bytes, sizeof(bytes), MSG_WAITALL) == sizeof(bytes) &&
	       cx_auth_is_proof(bytes), "it left without a word");
	close(fd);
	return (void *)(intptr_t)expect_failures();
}

Test(version, of_a_visitor_is_shown_to_a_door_of_another)
{
	static const unsigned char key[CX_SECRET_BYTES] = { 7 };
	struct guest g = { .ms = 30000 };
	pthread_t other;
	void *bad;
	int fd;

	clear();
	fd = occupy(&g.place);
	cr_assert(!cx_secret_init(&g.secret, key));
	cr_assert(!pthread_create(&other, NULL, ask_in_9, &fd));
	enter(&g);
	pthread_join(other, &bad);
	cr_expect(!bad && g.fd == COLLX_ERR_VERSION && strstr(g.line, "wire version 9"), "%d: %s",
		  g.fd, g.line);
	close(fd);
}

/* Strangers come, each with that many bytes of what a rank of version 9 shows. */
static void come_as_9(const struct cx_place *place, size_t len)
{
	unsigned char bytes[CX_PROOF_BYTES] = { 0 };
	int fd = cx_place_try(place, in_ms(20000));

	cr_assert(fd >= 0 && !cx_auth_challenge(bytes));
	bytes[4] = 9;
	cr_assert_eq(write(fd, bytes, len), (ssize_t)len);
	close(fd);
}

Test(version, of_a_stranger_is_told_of_and_ends_nothing)
{
	static const unsigned char key[CX_SECRET_BYTES] = { 7 };
	struct guest g = { .ms = 30000 };
	int missing = 1;
	pthread_t guest;
	struct cx_door *d;
	char line[192] = "";

	clear();
	close(occupy(&g.place));
	cr_assert(!cx_secret_init(&g.secret, key));
	cr_assert_eq(cx_door_open(&d, &g.place, &g.secret, 0, 1, take_seat, &missing), 0);
	come_as_9(&g.place, 0); /* as a rank that found a shorter way, which is no stranger */
	come_as_9(&g.place, CX_PROOF_BYTES);
	come_as_9(&g.place, 8);
	for (int i = 0; i < 2000 && !strstr(line, "2 connections"); i++) {
		serve(d);
		cx_door_strangers(d, line, sizeof(line));
	}
	for (int i = 0; i < 20; i++)
		serve(d);
	cx_door_strangers(d, line, sizeof(line));
	cr_expect(strstr(line, "2 connections refused, one of them: a peer speaks wire version 9"),
		  "%s", line);
	cr_assert(!pthread_create(&guest, NULL, enter, &g));
	cr_expect_eq(let_in(d, &missing), 0, "%s", cx_error_text());
	pthread_join(guest, NULL);
	cr_expect_geq(g.fd, 0, "%s", g.line);
	close(g.fd);
	cx_door_close(d);
}

/* ---- another one's door ---- */

/* A visitor that was sent to rank 0 finds rank 3 there. */
Test(owner, another_rank_takes_no_proof_for_its_own)
{
	static const unsigned char key[CX_SECRET_BYTES] = { 7 };
	struct guest g = { .ms = 30000 };
	int missing = 1;
	pthread_t guest;
	struct cx_door *d;
	char line[192] = "";

	clear();
	close(occupy(&g.place));
	cr_assert(!cx_secret_init(&g.secret, key));
	cr_assert_eq(cx_door_open(&d, &g.place, &g.secret, 3, 1, take_seat, &missing), 0);
	cr_assert(!pthread_create(&guest, NULL, enter, &g));
	for (int i = 0; i < 2000 && !strstr(line, "3 connections"); i++) {
		serve(d);
		cx_door_strangers(d, line, sizeof(line));
	}
	pthread_join(guest, NULL);
	cr_expect(g.fd == COLLX_ERR_AUTH && missing && strstr(line, "another rank's door"),
		  "%d: %s%s", g.fd, g.line, line);
	cx_door_close(d);
}
