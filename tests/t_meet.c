/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The meeting between hosts: trees of every shape, and what goes wrong on the way.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <criterion/criterion.h>

#include "src/base/base.h"
#include "src/door.h"
#include "tests/party.h"

/* ---- shapes ---- */

/* The host of rank r: in blocks, in turn, or with rank 0 among the last. */
static int host_of(int order, int r, int ranks, int hosts)
{
	if (order == 0)
		return r / (ranks / hosts);
	return order == 1 ? r % hosts : (ranks - r) % ranks / (ranks / hosts);
}

static void check_tree(const struct party *p, int hosts, int a_host)
{
	int leads[GUESTS];

	memset(leads, -1, sizeof(leads));
	for (int i = 0; i < p->n; i++) {
		const struct guest *g = &p->guests[i];
		int mine = g->leader[g->rank], lead = g->rank == mine;

		leads[g->host] = leads[g->host] < 0 ? mine : leads[g->host];
		EXPECT(mine == leads[g->host] && (g->host || mine == 0), "rank %d is led by %d",
		       g->rank, mine);
		EXPECT(!memcmp(g->leader, p->guests[0].leader, sizeof(g->leader)),
		       "ranks %d and 0 know different leaders", g->rank);
		EXPECT(g->above == (g->rank == 0 ? -1 : lead ? 0 : mine), "rank %d is below %d",
		       g->rank, g->above);
		EXPECT(g->down == (g->rank == 0 ? a_host - 1 + hosts - 1 : lead ? a_host - 1 : 0),
		       "rank %d has %d below", g->rank, g->down);
	}
}

static void one_shape(int hosts, int a_host, int order)
{
	struct party *p = party_make();
	int ranks = hosts * a_host;

	for (int r = 0; r < ranks; r++)
		invite(p, r, ranks, host_of(order, r, ranks, hosts))->lanes = ranks > 1;
	EXPECT(party_hold(p) == 0, "%d hosts of %d ranks, order %d", hosts, a_host, order);
	for (int i = 0; i < p->n; i++)
		ENDED(p, i, 0, "");
	if (!expect_failures())
		check_tree(p, hosts, a_host);
	EXPECT(party_end(p) == 0, "left behind");
}

Test(shapes, two_to_four_hosts, .timeout = 300)
{
	for (int hosts = 1; hosts <= 4; hosts++)
		for (int a_host = 1; a_host <= 4; a_host++)
			for (int order = 0; order < 3; order++)
				one_shape(hosts, a_host, order);
	cr_assert_eq(expect_failures(), 0);
}

Test(shapes, sixteen_hosts_of_eight, .timeout = 300)
{
	struct party *p = party_make();
	uint64_t began = now_ms();

	for (int r = 0; r < 128; r++)
		invite(p, r, 128, r / 8)->timeout_ms = 60000;
	cr_assert_eq(party_hold(p), 0);
	for (int i = 0; i < p->n; i++)
		ENDED(p, i, 0, "");
	if (!expect_failures())
		check_tree(p, 16, 8);
	fprintf(stderr, "128 ranks on 16 hosts met and exchanged in %d ms; rank 0 has %d wires\n",
		(int)(now_ms() - began), p->guests[0].down);
	cr_assert_eq(party_end(p), 0);
	cr_assert_eq(expect_failures(), 0);
}

/* Where a host has no place for its ranks, or none that can be used, they all go to
 * rank 0, and each is a leader of its own. */
Test(shapes, without_a_place_of_their_own, .timeout = 120)
{
	for (int host = 0; host < 2; host++)
		for (int way = 0; way < 2; way++) {
			struct party *p = party_make();
			char folder[FOLDER];

			host_folder(p, host, folder);
			cr_assert(way || !close(open(folder, O_CREAT | O_WRONLY, 0600)));
			for (int r = 0; r < 5; r++)
				invite(p, r, 5, r % 2)->no_local = way && r % 2 == host;
			cr_assert_eq(party_hold(p), 0);
			for (int i = 0; i < p->n; i++) {
				ENDED(p, i, 0, "");
				for (int r = host; r < 5; r += 2)
					EXPECT(p->guests[i].leader[r] == r,
					       "rank %d is led by %d", r, p->guests[i].leader[r]);
			}
			EXPECT(p->guests[0].down == (host ? 4 : 3), "%d below", p->guests[0].down);
			unlink(folder);
			EXPECT(party_end(p) == 0, "left behind");
		}
	cr_assert_eq(expect_failures(), 0);
}

/* ---- who is late, missing, or not to be ---- */

Test(late, rank_0_by_three_seconds, .timeout = 60)
{
	struct party *p = party_make();

	for (int r = 0; r < 6; r++)
		invite(p, r, 6, r / 2)->late_ms = r ? 0 : 3000;
	cr_assert_eq(party_hold(p), 0);
	for (int i = 0; i < p->n; i++)
		ENDED(p, i, 0, "");
	check_tree(p, 3, 2);
	cr_assert_eq(party_end(p), 0);
	cr_assert_eq(expect_failures(), 0);
}

Test(late, everybody_somehow, .timeout = 120)
{
	for (unsigned seed = 0; seed < 12; seed++) {
		struct party *p = party_make();

		for (int r = 0; r < 9; r++)
			invite(p, r, 9, r % 3)->late_ms =
				(unsigned)(mix64(seed * 16 + (unsigned)r) % (seed % 3 ? 30 : 400));
		cr_assert_eq(party_hold(p), 0);
		for (int i = 0; i < p->n; i++)
			ENDED(p, i, 0, "");
		check_tree(p, 3, 3);
		cr_assert_eq(party_end(p), 0);
	}
	cr_assert_eq(expect_failures(), 0);
}

/* The first deadline that passes, of whatever rank, ends it for all, and rank 0 says
 * who was missed. */
Test(missing, ranks_are_named_to_everybody, .timeout = 120)
{
	for (int hasty = 0; hasty < 6; hasty++) {
		struct party *p = party_make();

		for (int r = 0; r < 8; r++)
			if (r != 4 && r != 7)
				invite(p, r, 8, r / 4)->timeout_ms = 30000;
		p->guests[hasty].timeout_ms = 1500;
		cr_assert_eq(party_hold(p), 0);
		for (int i = 0; i < p->n; i++) {
			ENDED(p, i, COLLX_ERR_INIT_TIMEOUT,
			      "ranks 4, 7 of 8 did not come to tcp:127.");
			EXPECT(p->guests[i].ms < 6000, "guest %d took %d ms", i, p->guests[i].ms);
		}
		cr_assert_eq(party_end(p), 0);
	}
	cr_assert_eq(expect_failures(), 0);
}

Test(missing, rank_0, .timeout = 60)
{
	struct party *p = party_make();

	for (int r = 1; r < 6; r++)
		invite(p, r, 6, r / 2)->timeout_ms = r == 4 ? 500 : 1500;
	cr_assert_eq(party_hold(p), 0);
	for (int i = 0; i < p->n; i++) {
		ENDED(p, i, COLLX_ERR_INIT_TIMEOUT, "rank 0 did not open its door");
		ENDED(p, i, COLLX_ERR_INIT_TIMEOUT, p->address);
		ENDED(p, i, COLLX_ERR_INIT_TIMEOUT, "Connection refused");
	}
	nobody_waited(p);
	cr_assert_eq(party_end(p), 0);
	cr_assert_eq(expect_failures(), 0);
}

static int listener(const struct party *p, int backlog)
{
	struct cx_place place;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (cx_place_parse(&place, p->address) ||
	    bind(fd, (struct sockaddr *)&place.addr, place.len) || listen(fd, backlog))
		abort();
	return fd;
}

static int caller(const struct party *p)
{
	struct cx_place place;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (cx_place_parse(&place, p->address))
		abort();
	connect(fd, (struct sockaddr *)&place.addr, place.len);
	return fd;
}

/* Something listens there and never answers; or drops all that comes. */
static void nobody_at_home(int backlog, int callers, const char *line)
{
	struct party *p = party_make();
	int fd = listener(p, backlog), calls[8];

	for (int i = 0; i < callers; i++)
		calls[i] = caller(p);
	for (int r = 1; r < 4; r++)
		invite(p, r, 4, r / 2)->timeout_ms = 1000;
	cr_assert_eq(party_hold(p), 0);
	for (int i = 0; i < p->n; i++) {
		ENDED(p, i, COLLX_ERR_INIT_TIMEOUT, p->address);
		ENDED(p, i, COLLX_ERR_INIT_TIMEOUT, line);
	}
	nobody_waited(p);
	for (int i = 0; i < callers; i++)
		close(calls[i]);
	close(fd);
	cr_assert_eq(party_end(p), 0);
	cr_assert_eq(expect_failures(), 0);
}

Test(missing, an_answer, .timeout = 60)
{
	nobody_at_home(50, 0, "took the connection and said nothing");
}

Test(missing, a_way, .timeout = 60)
{
	nobody_at_home(0, 8, "did not answer before the deadline");
}

/* Two processes of one rank, wherever they come in. */
Test(wrong, a_rank_twice, .timeout = 60)
{
	for (int host = 0; host < 2; host++) {
		struct party *p = party_make();

		for (int r = 0; r < 5; r++)
			if (r != 2)
				invite(p, r, 5, r / 3);
		invite(p, 4, 5, host)->after_seat = 0xe; /* who comes later finds nobody */
		cr_assert_eq(party_hold(p), 0);
		for (int i = 0; i < p->n; i++) {
			ENDED(p, i, COLLX_ERR_INVALID, "rank 4 is taken twice");
			ENDED(p, i, COLLX_ERR_INVALID, p->address);
		}
		nobody_waited(p);
		cr_assert_eq(party_end(p), 0);
	}
	cr_assert_eq(expect_failures(), 0);
}

Test(wrong, a_rank_of_another_size, .timeout = 60)
{
	for (int host = 0; host < 2; host++) {
		struct party *p = party_make();

		for (int r = 0; r < 5; r++)
			if (r != 2)
				invite(p, r, 5, r / 3);
		invite(p, 2, 6, host)->after_seat = 0xe;
		cr_assert_eq(party_hold(p), 0);
		for (int i = 0; i < p->n; i++)
			ENDED(p, i, COLLX_ERR_INVALID, "rank 2 says 6 ranks, rank");
		cr_assert_eq(party_end(p), 0);
	}
	cr_assert_eq(expect_failures(), 0);
}

Test(wrong, a_secret, .timeout = 60)
{
	struct party *p = party_make();

	for (int r = 0; r < 4; r++)
		invite(p, r, 4, r / 2)->secret = 1 + r / 2;
	p->guests[0].timeout_ms = p->guests[1].timeout_ms = 1500;
	cr_assert_eq(party_hold(p), 0);
	for (int i = 0; i < 2; i++) {
		ENDED(p, i, COLLX_ERR_INIT_TIMEOUT, "ranks 2-3 of 4 did not come to tcp:");
		ENDED(p, i, COLLX_ERR_INIT_TIMEOUT, "connections refused");
		ENDED(p, 2 + i, COLLX_ERR_AUTH, p->address);
		ENDED(p, 2 + i, COLLX_ERR_AUTH, "same secret");
	}
	nobody_waited(p);
	cr_assert_eq(party_end(p), 0);
	cr_assert_eq(expect_failures(), 0);
}

/* What may stand in a claim, by somebody who knows the secret. */
static int claim_seat(const struct party *p, struct cx_claim claim)
{
	struct pollfd fds[1];
	struct cx_poll poll = { .fds = fds };
	unsigned char key[CX_SECRET_BYTES];
	uint64_t end = now_ms() + 10000;
	struct cx_secret secret;
	struct cx_place place;
	struct cx_visit v;
	int rc;

	memset(key, 1, sizeof(key));
	if (cx_place_parse(&place, p->address) || cx_secret_init(&secret, key))
		abort();
	cx_visit_begin(&v, &place, &secret, &claim);
	do {
		cx_poll_begin(&poll, 50);
		cx_visit_watch(&v, &poll);
		rc = cx_poll_wait(&poll);
		rc = rc ? rc : cx_visit_go_on(&v, &poll);
	} while (rc == 0 && now_ms() < end);
	if (rc == 1)
		close(v.fd);
	cx_visit_end(&v);
	return rc;
}

Test(wrong, a_claim, .timeout = 60)
{
	static const struct {
		struct cx_claim claim;
		const char *line;
	} wrong[] = {
		{ { 4, 4, CX_CONN_CONTROL, 0, 0 }, "rank 4 of 4" },
		{ { UINT32_MAX, 4, CX_CONN_CONTROL, 0, 0 }, "rank 4294967295 of 4" },
		{ { 0, 4, CX_CONN_CONTROL, 0, 0 }, "rank 0 is taken twice" },
		{ { 1, 4, CX_CONN_LANE, 0, 0 }, "a connection of kind 2" },
		{ { 1, 4, 0, 0, 0 }, "a connection of kind 0" },
		{ { 1, UINT32_MAX, CX_CONN_CONTROL, 0, 0 }, "rank 1 says 4294967295 ranks" },
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct party *p = party_make();

		invite(p, 0, 4, 0);
		party_start(p, 0);
		EXPECT(claim_seat(p, wrong[i].claim) == 1, "%s", cx_error_text());
		cr_assert_eq(party_wait(p, 0), 0);
		ENDED(p, 0, COLLX_ERR_INVALID, wrong[i].line);
		cr_assert_eq(party_end(p), 0);
	}
	cr_assert_eq(expect_failures(), 0);
}

/* ---- who ends while others are still to come ---- */

struct loss {
	int victims[2]; /* of ranks 0, 1, 2 on one host, 3, 4, 5 on another, where 3 leads */
	bool again;
	unsigned rank_0_late_ms;
};

static bool is_victim(const struct loss *l, int rank)
{
	return rank == l->victims[0] || rank == l->victims[1];
}

/* Rank 6 comes to a third host, 4 s later, or never. When all others sit, some end. */
static struct party *lose(const struct loss *l, uint64_t *when_ms)
{
	struct party *p = party_make();

	for (int r = 0; r < (l->again ? 7 : 6); r++) {
		struct guest *g = invite(p, r, 7, r / 3);

		g->timeout_ms = 60000;
		g->late_ms = r == 0 ? l->rank_0_late_ms : r == 6 ? 4000 : r > 3 ? 300 : 0;
		g->fate = is_victim(l, r) ? KILLED : LIVES;
		g->comes_again = is_victim(l, r) && l->again;
	}
	for (int i = 0; i < p->n; i++)
		party_start(p, i);
	for (int i = l->rank_0_late_ms ? 4 : 1; i < 6; i++)
		for (int tries = 0; tries < 20000 && *(volatile int *)&p->guests[i].heard <
						     (l->rank_0_late_ms ? 2 : 3); tries++)
			nap_ms(1);
	nap_ms(100);
	*when_ms = now_ms();
	for (int i = 0; i < 6; i++)
		if (is_victim(l, i))
			kill(p->pids[i], SIGKILL);
	EXPECT(party_wait(p, 0) == 0, "victim %d: a process failed", l->victims[0]);
	return p;
}

/* All others say who it was, when it has not come again for 1 s. */
static void expect_loss(struct loss l, const char *part)
{
	char line[64];
	uint64_t when;
	struct party *p = lose(&l, &when);

	snprintf(line, sizeof(line), part, l.victims[0]);
	for (int i = 0; i < p->n; i++) {
		int took = (int)(p->guests[i].ended_ms - when);

		if (is_victim(&l, i))
			continue;
		ENDED(p, i, COLLX_ERR_PEER_DEAD, line);
		EXPECT(took < 1500 + (int)l.rank_0_late_ms + 4000 &&
		       (took >= 1000 || l.victims[0] == 0),
		       "rank %d: %d ms after the death of %d", i, took, l.victims[0]);
	}
	cr_assert_eq(party_end(p), 0);
}

Test(loss, is_named_before_all_have_come, .timeout = 120)
{
	for (int r = 1; r < 5; r++)
		expect_loss((struct loss){ { r, -1 }, false, 0 },
			    "rank %d died while the ranks met at tcp:");
	cr_assert_eq(expect_failures(), 0);
}

Test(loss, of_rank_0_is_named_at_once, .timeout = 60)
{
	expect_loss((struct loss){ { 0, -1 }, false, 0 }, "rank %d died while the ranks met");
	expect_loss((struct loss){ { 0, 3 }, false, 0 }, "rank %d ");
	cr_assert_eq(expect_failures(), 0);
}

/* Its leader tells rank 0 when that is there. */
Test(loss, before_rank_0_is_there, .timeout = 60)
{
	expect_loss((struct loss){ { 4, -1 }, false, 2500 },
		    "rank %d died while the ranks met at tcp:");
	cr_assert_eq(expect_failures(), 0);
}

/* Who comes again is not missed any more, however long others take. */
Test(loss, is_made_good_by_who_comes_again, .timeout = 120)
{
	for (int r = 1; r < 5; r++) {
		struct loss l = { { r, -1 }, true, 0 };
		uint64_t when;
		struct party *p = lose(&l, &when);

		for (int i = 0; i < p->n; i++)
			ENDED(p, i, 0, "");
		cr_assert_eq(party_end(p), 0);
	}
	cr_assert_eq(expect_failures(), 0);
}

/* Rank 0 gives its records to rank 1, which takes none, for as long as its deadline; an error
 * of its own, or another one's, is heard and told at once. */
Test(records, that_nobody_takes_hold_no_error_back, .timeout = 120)
{
	for (int r = 0; r < 4; r += 2) {
		struct party *p = party_make();

		for (int i = 0; i < 4; i++)
			invite(p, i, 4, 0)->timeout_ms = 60000;
		p->guests[0].clogs = true;
		p->guests[r].aborts = true;
		cr_assert_eq(party_hold(p), 0);
		for (int i = 0; i < p->n; i++) {
			if (i != 1)
				ENDED(p, i, COLLX_ERR_ABORTED, "aborted");
			EXPECT(p->guests[i].code < 0 && p->guests[i].ms < 6000,
			       "rank %d: %s after %d ms", i, p->guests[i].text, p->guests[i].ms);
		}
		cr_assert_eq(party_end(p), 0);
	}
	cr_assert_eq(expect_failures(), 0);
}

/* For longer words there might be no room where a rank takes none, and those behind it would be
 * held up when others are through. */
Test(records, and_the_word_that_all_are_through_is_short, .timeout = 60)
{
	struct party *p = party_make();

	for (int r = 0; r < 6; r++)
		invite(p, r, 6, r / 3)->barrier = 6;
	cr_assert_eq(party_hold(p), 0);
	for (int r = 0; r < 6; r++)
		EXPECT(!p->guests[r].code, "rank %d: %s", r, p->guests[r].text);
	EXPECT(p->guests[0].last == 3 * sizeof(struct cx_frame_head), "%zu bytes to 3 below",
	       p->guests[0].last);
	cr_assert_eq(party_end(p), 0);
	cr_assert_eq(expect_failures(), 0);
}

/* ---- other jobs, other times ---- */

Test(jobs, the_same_id_at_the_same_time, .timeout = 60)
{
	struct party *p = party_make();

	for (int r = 0; r < 4; r++)
		invite(p, r, 4, r / 2)->after_end = r == 3 ? 0x30 : 0;
	invite(p, 0, 4, 0)->after_seat = 0x6;
	invite(p, 0, 4, 1)->after_seat = 0x6;
	cr_assert_eq(party_hold(p), 0);
	for (int i = 0; i < 6; i++)
		ENDED(p, i, i < 4 ? 0 : COLLX_ERR_INVALID, i < 4 ? "" : "rank 0 is taken");
	EXPECT(p->guests[4].ms < 1000 && p->guests[5].ms < 1000, "%d and %d ms", p->guests[4].ms,
	       p->guests[5].ms);
	cr_assert_eq(party_end(p), 0);
	cr_assert_eq(expect_failures(), 0);
}

/* Its doors are closed when a job has met, and nothing of it is left: a single process
 * finds nobody, a whole job is a new one and does not disturb the other. */
Test(jobs, the_same_id_later, .timeout = 60)
{
	struct party *p = party_make();

	for (int r = 0; r < 4; r++)
		invite(p, r, 4, r / 2)->pauses = true;
	for (int i = 0; i < 4; i++)
		party_start(p, i);
	for (int i = 0; i < 4; i++)
		for (int tries = 0; tries < 20000 && !*(volatile bool *)&p->guests[i].met; tries++)
			nap_ms(1);
	invite(p, 1, 4, 0)->timeout_ms = 500;
	invite(p, 2, 4, 1)->timeout_ms = 500;
	party_start(p, 4);
	party_start(p, 5);
	cr_assert_eq(see_off(p, 4) + see_off(p, 5), 0);
	for (int i = 4; i < 6; i++)
		ENDED(p, i, COLLX_ERR_INIT_TIMEOUT, "Connection refused");
	for (int r = 0; r < 4; r++) {
		invite(p, r, 4, r / 2);
		party_start(p, 6 + r);
	}
	cr_assert_eq(party_wait(p, 6), 0);
	for (int i = 6; i < 10; i++)
		ENDED(p, i, 0, "");
	for (int i = 0; i < 4; i++) {
		cr_assert_eq(waitpid(p->pids[i], NULL, WNOHANG), 0, "the first job ended");
		kill(p->pids[i], SIGKILL);
		waitpid(p->pids[i], NULL, 0);
	}
	cr_assert_eq(party_end(p), 0);
	cr_assert_eq(expect_failures(), 0);
}

/* Strangers pour in at rank 0 and at a leader while the others come. */
Test(strays, while_ranks_join, .timeout = 120)
{
	struct party *p = party_make();
	pid_t flood;

	for (int r = 0; r < 6; r++)
		invite(p, r, 6, r / 3)->late_ms = r == 0 || r == 3 ? 0 : 300 + 50 * (unsigned)r;
	flood = rank_fork();
	while (flood == 0) {
		static int fds[300], n;
		char junk[200];

		memset(junk, n, sizeof(junk));
		if (n >= 300)
			close(fds[n % 300]);
		fds[n % 300] = caller(p);
		if (n % 3 == 0)
			send(fds[n % 300], junk, (size_t)(n % 200), MSG_NOSIGNAL);
		nap_ms(++n > 200);
	}
	EXPECT(party_hold(p) == 0, "a rank failed");
	kill(flood, SIGKILL);
	waitpid(flood, NULL, 0);
	for (int i = 0; i < p->n; i++)
		ENDED(p, i, 0, "");
	cr_assert_eq(party_end(p), 0);
	cr_assert_eq(expect_failures(), 0);
}

Test(strays, are_in_the_report, .timeout = 60)
{
	struct party *p = party_make();
	int fd = -1;

	for (int r = 0; r < 3; r++)
		invite(p, r, 4, r / 2)->timeout_ms = 1500;
	p->guests[1].late_ms = p->guests[2].late_ms = 200;
	for (int i = 0; i < 3; i++)
		party_start(p, i);
	for (int i = 1; i < 3; i++)
		for (int tries = 0; tries < 1400 && *(volatile int *)&p->guests[i].heard < SEAT;
		     tries++)
			nap_ms(1);
	fd = caller(p);
	nap_ms(100);
	EXPECT(send(fd, "GET / HTTP/1.0\r\n\r\n", 18, MSG_NOSIGNAL) == 18, "send");
	close(fd);
	cr_assert_eq(party_wait(p, 0), 0);
	for (int i = 0; i < 3; i++)
		ENDED(p, i, COLLX_ERR_INIT_TIMEOUT,
		      "rank 3 of 4 did not come to tcp:127");
	for (int i = 0; i < 3; i++)
		ENDED(p, i, COLLX_ERR_INIT_TIMEOUT, "1 connection refused");
	cr_assert_eq(party_end(p), 0);
	cr_assert_eq(expect_failures(), 0);
}

/* ---- lanes ---- */

/* Told over the tree, a fault ends the making of lanes at once, and the first cause is
 * what everybody says. */
Test(lanes, end_when_a_fault_is_told, .timeout = 60)
{
	int best = 10000;

	for (int tries = 0; tries < 5 && best >= 100; tries++) {
		struct party *p = party_make();
		int worst = 0;

		for (int r = 0; r < 5; r++)
			invite(p, r, 5, r / 3)->lanes = true;
		p->guests[0].lanes_fail = EIO;
		cr_assert_eq(party_hold(p), 0);
		for (int i = 0; i < p->n; i++) {
			int took = (int)(p->guests[i].ended_ms - p->guests[0].ended_ms);

			ENDED(p, i, COLLX_ERR_SYSTEM, "accepting at tcp:127.");
			worst = took > worst ? took : worst;
		}
		best = worst < best ? worst : best;
		cr_assert_eq(party_end(p), 0);
	}
	cr_assert_lt(best, 100, "%d ms", best);
	cr_assert_eq(expect_failures(), 0);
}

Test(lanes, listen_only_where_somebody_comes, .timeout = 60)
{
	struct party *p = party_make();

	for (int r = 0; r < 5; r++)
		invite(p, r, 5, r / 3)->lanes = true;
	cr_assert_eq(party_hold(p), 0);
	for (int r = 0; r < 5; r++)
		EXPECT(p->guests[r].opened == (r < 4), "rank %d listened %u times", r,
		       p->guests[r].opened);
	cr_assert_eq(party_end(p), 0);
	cr_assert_eq(expect_failures(), 0);
}

Test(lanes, without_a_free_port, .timeout = 60)
{
	struct party *p = party_make();

	for (int r = 0; r < 4; r++)
		invite(p, r, 4, r / 2)->lanes = true;
	p->guests[1].lanes_fail = EADDRINUSE;
	cr_assert_eq(party_hold(p), 0);
	for (int i = 0; i < p->n; i++) {
		ENDED(p, i, p->guests[1].code, "tcp:127.");
		EXPECT(p->guests[i].code < 0, "rank %d found one", i);
	}
	nobody_waited(p);
	cr_assert_eq(party_end(p), 0);
	cr_assert_eq(expect_failures(), 0);
}
