/* SPDX-License-Identifier: BSD-3-Clause */
/* Names of places, who can have them, who answers there, and at which address a host
 * listens. Other interfaces than the loopback exist in a network namespace of the test. */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <criterion/criterion.h>

#include "src/base/base.h"
#include "src/host.h"
#include "src/net.h"
#include "src/uid.h"
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

/* ---- names ---- */

static const struct {
	const char *name;
	int code;
	const char *line; /* or the name of the place */
} names[] = {
	{ "tcp:127.0.0.1:7700", 0, "tcp:127.0.0.1:7700" },
	{ "tcp:[::1]:7700", 0, "tcp:[::1]:7700" },
	{ "unix:/run/x/meet", 0, "unix:/run/x/meet" },
	{ "tcp:node1:7700", COLLX_ERR_INVALID, "node1 is no address" },
	{ "tcp:127.0.0.1", COLLX_ERR_INVALID, "is not tcp:HOST:PORT" },
	{ "tcp:127.0.0.1:", COLLX_ERR_INVALID, "is not tcp:HOST:PORT" },
	{ "tcp:127.0.0.1:65536", COLLX_ERR_INVALID, "is not tcp:HOST:PORT" },
	{ "tcp:127.0.0.1:0000000000001", COLLX_ERR_INVALID, "is not tcp:HOST:PORT" },
	{ "tcp:127.0.0.1:1x", COLLX_ERR_INVALID, "is not tcp:HOST:PORT" },
	{ "tcp::7700", COLLX_ERR_INVALID, "is not tcp:HOST:PORT" },
	{ "tcp:[]:7700", COLLX_ERR_INVALID, "is not tcp:HOST:PORT" },
	{ "tcp:[::1:7700", COLLX_ERR_INVALID, "is not tcp:HOST:PORT" },
	{ "tcp:[::1]7700", COLLX_ERR_INVALID, "is not tcp:HOST:PORT" },
	{ "tcp:fd66::1:7000", COLLX_ERR_INVALID, "brackets, tcp:[fd66::1]:7000" },
	{ "tcp:1:2:3:4:5:6:7:8:7000", COLLX_ERR_INVALID, "brackets, tcp:[1:2:3:4:5:6:7:8]:7000" },
	{ "tcp:::1:7000", COLLX_ERR_INVALID, "brackets, tcp:[::1]:7000" },
	{ "tcp:::1", COLLX_ERR_INVALID, "brackets, tcp:[::1]:PORT" },
	{ "tcp:1:2:3:4:5:6:7:8", COLLX_ERR_INVALID, "brackets, tcp:[1:2:3:4:5:6:7:8]:PORT" },
	{ "tcp:fd66::1:", COLLX_ERR_INVALID, "brackets, tcp:[fd66::1]:PORT" },
	{ "tcp:node1:7000:7700", COLLX_ERR_INVALID, "is not tcp:HOST:PORT" },
	{ "tcp:0.0.0.0:7700", COLLX_ERR_INVALID, "wildcard" },
	{ "tcp:[::]:7700", COLLX_ERR_INVALID, "wildcard" },
	{ "tcp:[fe80::1]:7700", COLLX_ERR_INVALID, "link-local" },
	{ "unix:meet", COLLX_ERR_INVALID, "is not unix:/FOLDER/NAME" },
	{ "unix:/meet", COLLX_ERR_INVALID, "is not unix:/FOLDER/NAME" },
	{ "udp:127.0.0.1:1", COLLX_ERR_INVALID, "neither unix:/PATH nor tcp:HOST:PORT" },
	{ "", COLLX_ERR_INVALID, "neither unix:/PATH nor tcp:HOST:PORT" },
	{ "tcp:a-name-that-is-longer-than-any-place-can-have-because-it-would-not-fit-into-the-id-"
	  "of-a-job:1", COLLX_ERR_INVALID, "is longer than 95 characters" },
};

Test(names, are_read_or_refused)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct cx_place p;
		int rc = cx_place_parse(&p, names[i].name);

		cr_expect(rc == names[i].code && strstr(rc ? cx_error_text() : p.name,
							names[i].line),
			  "%s: %d: %s", names[i].name, rc, rc ? cx_error_text() : p.name);
	}
}

Test(names, of_hosts_are_looked_up)
{
	struct cx_place p;

	cr_assert_eq(cx_place_find(&p, "tcp:localhost:7700", in_ms(20000), NULL, NULL), 0, "%s",
		     cx_error_text());
	cr_assert(cx_place_is_local(&p) && cx_place_port(&p) == 7700);
}

/* ---- a name that is not known yet ---- */

/* How the name rank0.job is looked up; of other names the system knows. */
static struct {
	int fails_with;
	unsigned takes_ms;
	uint64_t until_ms;
	int asked;
} names_of_job;

/* Linked with --wrap. */
int __real_getaddrinfo(const char *host, const char *port, const struct addrinfo *want,
		       struct addrinfo **got);
int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *want,
		       struct addrinfo **got);

int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *want,
		       struct addrinfo **got)
{
	if (strcmp(host, "rank0.job") || want->ai_flags & AI_NUMERICHOST)
		return __real_getaddrinfo(host, port, want, got);
	__atomic_fetch_add(&names_of_job.asked, 1, __ATOMIC_RELAXED);
	nap_ms(names_of_job.takes_ms);
	errno = EMFILE;
	return now_ms() < names_of_job.until_ms
		       ? names_of_job.fails_with
		       : __real_getaddrinfo("10.1.2.3", port, want, got);
}

static uint64_t stops_ms;

static int stop(void *ctx)
{
	(void)ctx;
	return now_ms() < stops_ms ? 0 : cx_fail(COLLX_ERR_ABORTED, "aborted");
}

/* Milliseconds that it took. */
static int look_up(int fails_with, unsigned takes_ms, unsigned for_ms, unsigned deadline_ms,
		   unsigned stop_ms, int want, const char *line)
{
	uint64_t start = now_ms();
	struct cx_place p;
	int rc;

	names_of_job.fails_with = fails_with;
	names_of_job.takes_ms = takes_ms;
	names_of_job.until_ms = start + for_ms;
	names_of_job.asked = 0;
	stops_ms = start + stop_ms;
	rc = cx_place_find(&p, "tcp:rank0.job:7700", in_ms(deadline_ms), stop_ms ? stop : NULL,
			   NULL);
	cr_expect(rc == want && strstr(rc ? cx_error_text() : p.name, line), "%d: %s", rc,
		  rc ? cx_error_text() : p.name);
	return (int)(now_ms() - start);
}

Test(unknown, names_are_asked_for_until_they_are_known)
{
	static const int reasons[] = { EAI_NONAME, EAI_NODATA, EAI_AGAIN, EAI_FAIL };

	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		int ms = look_up(reasons[i], 0, 600, 20000, 0, 0, "tcp:rank0.job:7700");

		cr_expect(ms >= 600 && ms < 6000, "%d ms", ms);
		cr_expect(names_of_job.asked > 2 && names_of_job.asked < 10, "asked %d times",
			  names_of_job.asked);
	}
}

Test(unknown, names_end_a_creation_at_its_deadline)
{
	int ms = look_up(EAI_NONAME, 0, 60000, 700, 0, COLLX_ERR_INIT_TIMEOUT,
			 "host rank0.job was not known before the deadline: ");

	cr_expect(strstr(cx_error_text(), gai_strerror(EAI_NONAME)), "%s", cx_error_text());
	cr_expect(ms >= 700 && ms < 5000, "%d ms", ms);
	ms = look_up(EAI_NONAME, 4000, 60000, 300, 0, COLLX_ERR_INIT_TIMEOUT,
		     "no answer about host rank0.job before the deadline");
	cr_expect(ms < 3000, "%d ms", ms);
	ms = look_up(EAI_SYSTEM, 0, 60000, 20000, 0, COLLX_ERR_NOFILES, "host rank0.job");
	cr_expect(ms < 5000, "%d ms", ms);
}

Test(unknown, names_are_not_asked_for_when_creation_is_to_end)
{
	int ms = look_up(EAI_NONAME, 0, 60000, 20000, 300, COLLX_ERR_ABORTED, "aborted");

	cr_expect(ms >= 300 && ms < 5000, "%d ms", ms);
	ms = look_up(EAI_NONAME, 4000, 60000, 20000, 300, COLLX_ERR_ABORTED, "aborted");
	cr_expect(ms < 3000, "%d ms", ms);
}

/* ---- one place that stands for several ---- */

Test(several, are_all_addresses_at_each_port)
{
	static const char *const want[] = { "tcp:127.0.0.1:7000", "tcp:[::1]:7000",
					    "tcp:127.0.0.1:7001", "tcp:[::1]:7001" };
	struct cx_place p, one;

	cr_assert_eq(cx_place_parse(&p, "tcp:127.0.0.1:7000"), 0);
	cr_assert_eq(cx_place_parse(&one, "tcp:[::1]:7000"), 0);
	p.ports = 2;
	memcpy(&p.more[p.nmore++], &one.addr, sizeof(p.more[0]));
	cr_assert_eq(cx_place_count(&p), 4);
	for (int i = 0; i < 4; i++) {
		cx_place_nth(&p, i, &one);
		cr_expect_str_eq(one.name, want[i]);
	}
}

Test(several, the_first_free_port_is_taken)
{
	struct cx_place taken, p;
	int held, fd, again;

	clear();
	held = occupy(&taken);
	p = taken;
	p.ports = 16;
	fd = cx_place_listen(&p);
	cr_assert_geq(fd, 0, "%s", cx_error_text());
	cr_assert(cx_place_port(&p) > cx_place_port(&taken) &&
			  cx_place_port(&p) < cx_place_port(&taken) + 16,
		  "%s beside %s", p.name, taken.name);
	cr_assert_eq(cx_place_count(&p), 1);
	taken.ports = cx_place_port(&p) - cx_place_port(&taken) + 1;
	again = cx_place_listen(&taken);
	cr_assert_eq(again, COLLX_ERR_INVALID);
	cr_assert(strstr(cx_error_text(), "rank 0 is taken") &&
			  strstr(cx_error_text(), "ports"), "%s", cx_error_text());
	close(held);
	close(fd);
}

Test(several, an_address_of_another_host_is_passed_over)
{
	struct cx_place p, own;
	int fd;

	clear();
	cr_assert_eq(cx_place_parse(&p, "tcp:198.51.100.7:0"), 0);
	fd = cx_place_listen(&p);
	cr_assert_eq(fd, COLLX_ERR_INVALID);
	cr_assert(strstr(cx_error_text(), "198.51.100.7:0: its host has no such address"), "%s",
		  cx_error_text());
	somewhere(&own);
	memcpy(&p.more[p.nmore++], &own.addr, sizeof(p.more[0]));
	fd = cx_place_listen(&p);
	cr_assert(fd >= 0 && cx_place_is_local(&p), "%s: %s", p.name, cx_error_text());
	close(fd);
}

/* ---- COLLX_PORT_RANGE ---- */

Test(range, bounds_a_free_port_and_is_named_when_it_is_full)
{
	enum { PORTS = 4 };
	int fds[PORTS], seen = 0, base;
	struct cx_place p;
	char range[32];

	clear();
	/* Four neighbours that are free now; other programs may take one meanwhile. */
	fds[0] = occupy(&p);
	base = cx_place_port(&p) < 65000 ? cx_place_port(&p) : cx_place_port(&p) - 16;
	close(fds[0]);
	snprintf(range, sizeof(range), "%d-%d", base, base + PORTS - 1);
	setenv("COLLX_PORT_RANGE", range, 1);
	for (int i = 0; i < PORTS; i++) {
		somewhere(&p);
		fds[i] = cx_place_listen(&p);
		if (fds[i] < 0)
			break;
		cr_expect(cx_place_port(&p) >= base && cx_place_port(&p) < base + PORTS, "%s",
			  p.name);
		seen++;
	}
	cr_assert_geq(seen, 1, "%s", cx_error_text());
	somewhere(&p);
	cr_assert_eq(cx_place_listen(&p), COLLX_ERR_SYSTEM);
	cr_assert(strstr(cx_error_text(), range) && strstr(cx_error_text(), "tcp:127."), "%s",
		  cx_error_text());
	while (seen)
		close(fds[--seen]);
}

Test(range, must_be_one)
{
	static const char *const bad[] = { "1", "a-b", "9-8", "0-4", "1-65536", "1-2x", "-", "1-" };
	struct cx_place p;

	clear();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		setenv("COLLX_PORT_RANGE", bad[i], 1);
		somewhere(&p);
		cr_expect(cx_place_listen(&p) == COLLX_ERR_INVALID &&
			  strstr(cx_error_text(), "COLLX_PORT_RANGE"), "%s: %s", bad[i],
			  cx_error_text());
	}
}

/* ---- a kept port ---- */

Test(reserved, port_is_for_who_asks_for_it_by_name)
{
	struct cx_place p, other;
	int kept, fd;

	clear();
	somewhere(&p);
	kept = cx_place_reserve(&p);
	cr_assert(kept >= 0 && cx_place_port(&p) > 0, "%s", cx_error_text());
	for (int i = 0; i < 64; i++) {
		fd = occupy(&other);
		cr_assert_neq(cx_place_port(&other), cx_place_port(&p));
		close(fd);
	}
	other = p;
	fd = cx_place_listen(&other);
	cr_assert_geq(fd, 0, "%s", cx_error_text());
	close(fd);
	close(kept);
}

/* Keeps a port and draws 64 times from seven around it. Is it ever drawn? */
static int is_drawn(void)
{
	struct cx_place p, other;
	char range[32];
	int kept, fd, drawn = 0;

	clear();
	somewhere(&p);
	kept = cx_place_reserve(&p);
	cr_assert_geq(kept, 0);
	snprintf(range, sizeof(range), "%d-%d", cx_place_port(&p) - 3, cx_place_port(&p) + 3);
	setenv("COLLX_PORT_RANGE", range, 1);
	for (int i = 0; i < 64; i++) {
		fd = occupy(&other);
		drawn |= cx_place_port(&other) == cx_place_port(&p);
		close(fd);
	}
	close(kept);
	return drawn;
}

/* A range passes kept ports over as long as there are others: connections of other programs may
 * have them all, but not everywhere. Drawn at random it would be drawn each time. */
Test(reserved, port_is_not_drawn_from_a_range)
{
	int drawn = 1;

	for (int i = 0; drawn && i < 8; i++)
		drawn = is_drawn();
	cr_assert_not(drawn);
}

/* ---- connecting ---- */

Test(connecting, tells_refused_from_silent)
{
	struct cx_place p;
	int fd, fill[8];

	clear();
	close(occupy(&p));
	cr_assert_eq(cx_place_try(&p, in_ms(20000)), -ECONNREFUSED);
	/* A listener whose queue is full answers as a host that drops packets does. */
	fd = cx_place_reserve(&p);
	cr_assert(fd >= 0 && !listen(fd, 0));
	for (int i = 0; i < 8; i++)
		fill[i] = cx_place_try(&p, in_ms(20));
	cr_assert_eq(cx_place_try(&p, in_ms(100)), -ETIMEDOUT);
	for (int i = 0; i < 8; i++)
		if (fill[i] >= 0)
			close(fill[i]);
	close(fd);
}

/* ---- here or elsewhere ---- */

Test(here, is_what_an_interface_or_the_host_says)
{
	struct cx_place p;

	cr_assert_eq(cx_place_parse(&p, "unix:/run/x/meet"), 0);
	cr_assert(cx_place_is_here(&p) && cx_place_is_local(&p));
	cr_assert_eq(cx_place_parse(&p, "tcp:127.0.0.1:1"), 0);
	cr_assert(cx_place_is_here(&p) && cx_place_is_local(&p));
	cr_assert_eq(cx_place_parse(&p, "tcp:198.51.100.1:1"), 0);
	cr_assert(!cx_place_is_here(&p) && !cx_place_is_local(&p));
	p.host = cx_host_id();
	cr_assert(cx_place_is_here(&p));
	p.host++;
	cr_assert(!cx_place_is_here(&p));
}

Test(here, is_another_place_with_another_folder)
{
	uint64_t id;

	clear();
	id = cx_host_id();
	cr_assert_eq(id, cx_host_id());
	setenv("COLLX_RUNTIME_DIR", "/var/tmp/elsewhere", 1);
	cr_assert_neq(id, cx_host_id());
}

/* ---- calls that block ---- */

struct sleeper {
	struct cx_aside aside;
	unsigned ms;
	int *dropped;
};

static void sleep_run(struct cx_aside *a)
{
	nap_ms(((struct sleeper *)a)->ms);
}

static void sleep_drop(struct cx_aside *a)
{
	__atomic_store_n(((struct sleeper *)a)->dropped, 1, __ATOMIC_RELEASE);
	free(a);
}

Test(aside, ends_or_is_left_behind)
{
	struct sleeper *s = malloc(sizeof(*s));
	int dropped = 0;
	uint64_t start = now_ms();

	*s = (struct sleeper){ { .run = sleep_run, .drop = sleep_drop }, 10, &dropped };
	cr_assert_eq(cx_aside_run(&s->aside, in_ms(20000)), 1);
	cr_assert(!dropped && now_ms() - start < 15000);
	s->ms = 1500;
	start = now_ms();
	cr_assert_eq(cx_aside_run(&s->aside, in_ms(100)), 0);
	cr_assert(now_ms() - start < 1400, "%d ms", (int)(now_ms() - start));
	while (!__atomic_load_n(&dropped, __ATOMIC_ACQUIRE))
		nap_ms(10);
}


/* ---- a host with few ports ---- */

static int ip(const char *args)
{
	char line[200];

	snprintf(line, sizeof(line), "ip %s", args);
	return system(line);
}

/* In a child: a namespace is for good. */
static void take_all_ports(void)
{
	struct cx_place p;
	int fds[5], n = 0;

	if (!EXPECT(!unshare(CLONE_NEWNET) && !ip("link set lo up") &&
		    !system("echo 40000 40003 >/proc/sys/net/ipv4/ip_local_port_range"),
		    "no network namespace"))
		rank_exit();
	do {
		EXPECT(!cx_place_parse(&p, "tcp:127.0.0.1:0"), "%s", cx_error_text());
		fds[n] = cx_place_listen(&p);
	} while (fds[n] >= 0 && ++n < 5);
	EXPECT(n == 4 && fds[n] == COLLX_ERR_SYSTEM &&
	       strstr(cx_error_text(), "no port is free at tcp:127.0.0.1:0"), "%d: %s", n,
	       cx_error_text());
	while (n)
		close(fds[--n]);
	rank_exit();
}

Test(ports, that_are_all_taken_are_not_said_to_be_rank_0s)
{
	pid_t pid;

	if (geteuid())
		cr_skip_test("network namespaces need root");
	clear();
	pid = rank_fork();
	if (pid == 0)
		take_all_ports();
	cr_assert_eq(ranks_wait(&pid, 1, 0, 60), 0);
}

/* ---- a host with several interfaces ---- */

/* 10.1.0.1 towards rank 0's network, 10.2.0.1 and fd77::1 elsewhere, one down. */
static int make_interfaces(void)
{
	return unshare(CLONE_NEWNET) || ip("link set lo up") ||
	       ip("link add wire0 type veth peer name far0") || ip("link set far0 up") ||
	       ip("link set wire0 up") || ip("link add wire1 type veth peer name far1") ||
	       ip("link set far1 up") || ip("link set wire1 up") ||
	       ip("addr add 10.1.0.1/24 dev wire0") || ip("addr add 10.2.0.1/24 dev wire1") ||
	       ip("addr add fd77::1/64 dev wire1 nodad") ||
	       ip("route add 10.9.0.0/16 via 10.2.0.9") ||
	       ip("link add wire9 type veth peer name far9") ||
	       ip("addr add 10.3.0.1/24 dev wire9");
}

struct choice {
	const char *interface, *to; /* COLLX_INTERFACE; NULL: not set, not known */
	int code;
	const char *own, *said; /* the place; why, or the error's line */
};

static const struct choice choices[] = {
	{ NULL, "tcp:10.1.0.7:1", 0, "tcp:10.1.0.1:0", "wire0, the route" },
	{ NULL, "tcp:10.9.8.7:1", 0, "tcp:10.2.0.1:0", "wire1, the route" },
	{ NULL, "tcp:[fd77::9]:1", 0, "tcp:[fd77::1]:0", "wire1, the route" },
	{ NULL, "tcp:10.1.0.1:1", 0, "tcp:10.1.0.1:0", "wire0" },
	{ NULL, "tcp:127.0.0.1:1", 0, "tcp:127.0.0.1:0", "lo" },
	{ NULL, "tcp:203.0.113.1:1", COLLX_ERR_INVALID, "", "no route to tcp:203.0.113.1:1" },
	{ NULL, NULL, 0, "tcp:10.1.0.1:0", "no default route" },
	{ "wire1", NULL, 0, "tcp:10.2.0.1:0", "COLLX_INTERFACE" },
	{ "wire1", "tcp:[fd77::9]:1", 0, "tcp:[fd77::1]:0", "COLLX_INTERFACE" },
	{ "wire1", "tcp:10.1.0.7:1", 0, "tcp:10.2.0.1:0", "COLLX_INTERFACE" },
	{ "wire", NULL, 0, "tcp:10.1.0.1:0", "COLLX_INTERFACE" },
	{ "10.2.0.0/16", NULL, 0, "tcp:10.2.0.1:0", "wire1" },
	{ "10.2.0.0/15", NULL, 0, "tcp:10.2.0.1:0", "wire1" },
	{ "10.2.0.1", NULL, 0, "tcp:10.2.0.1:0", "wire1" },
	{ "fd00::/8", NULL, 0, "tcp:[fd77::1]:0", "wire1" },
	{ "lo", NULL, 0, "tcp:127.0.0.1:0", "lo" },
	{ "10.2.0.2", NULL, COLLX_ERR_INVALID, "", "wire1 10.2.0.1/24 (not of that name)" },
	{ "wire9", NULL, COLLX_ERR_INVALID, "", "wire9 10.3.0.1/24 (the interface is down)" },
	{ "wire0", "tcp:[fd77::9]:1", COLLX_ERR_INVALID, "", "wire0 10.1.0.1/24 (not IPv6)" },
	{ "fe80::/10", NULL, COLLX_ERR_INVALID, "", "COLLX_INTERFACE=fe80::/10" },
	{ "ib0", NULL, COLLX_ERR_INVALID, "", "COLLX_INTERFACE=ib0" },
	{ "10.2.0.0/4294967304", NULL, COLLX_ERR_INVALID, "", "no usable address" },
};

static void choose(const struct choice *c)
{
	static struct cx_net net;
	struct cx_place to, own = { .name = "" };
	char why[128] = "";
	int rc;

	unsetenv("COLLX_INTERFACE");
	if (c->interface)
		setenv("COLLX_INTERFACE", c->interface, 1);
	EXPECT(!cx_net_read(&net) && (!c->to || !cx_place_parse(&to, c->to)), "%s",
	       cx_error_text());
	rc = cx_net_choose(&net, c->to ? &to : NULL, &own, why, sizeof(why));
	EXPECT(rc == c->code && (rc || !strcmp(own.name, c->own)) &&
	       strstr(rc ? cx_error_text() : why, c->said),
	       "COLLX_INTERFACE=%s, to %s: %d, %s, %s", c->interface, c->to, rc, own.name,
	       rc ? cx_error_text() : why);
}

/* Where the meeting is tells where lanes listen. */
static void choose_for_meetings(void)
{
	struct cx_meeting m = { .rank = 1, .ranks = 2 };
	struct cx_place own;

	unsetenv("COLLX_INTERFACE");
	EXPECT(!cx_place_parse(&m.place, "tcp:10.9.8.7:1") && !cx_net_own_place(&m, &own) &&
	       !strcmp(own.name, "tcp:10.2.0.1:0"), "%s: %s", own.name, cx_error_text());
	EXPECT(!cx_place_parse(&m.place, "unix:/run/x/meet") && !cx_net_own_place(&m, &own) &&
	       !strcmp(own.name, "tcp:127.0.0.1:0"), "%s: %s", own.name, cx_error_text());
}

/* Ids name the address of the default route, and their port is kept. */
static void make_ids(void)
{
	collx_unique_id id;
	struct cx_meeting m = { .rank = 0, .ranks = 1, .deadline_ns = in_ms(20000) };
	int fds = open_fds();

	unsetenv("COLLX_INTERFACE");
	EXPECT(!ip("route add default via 10.2.0.9"), "no default route");
	EXPECT(!collx_get_unique_id(&id) && !cx_uid_read(&id, &m), "%s", cx_error_text());
	EXPECT(!strncmp(m.place.name, "tcp:10.2.0.1:", 13) && cx_place_port(&m.place), "%s",
	       m.place.name);
	EXPECT(m.place.host == cx_host_id() && cx_place_is_here(&m.place), "another host");
	EXPECT(!strncmp(m.local.name, "unix:/", 6), "ranks of this host meet at '%s'",
	       m.local.name);
	EXPECT(open_fds() == fds + 1, "%d descriptors, %d before", open_fds(), fds);
	cx_uid_release(m.secret.job);
	EXPECT(open_fds() == fds, "the port is kept for ever");
	for (int i = 0; i < 100; i++)
		EXPECT(!collx_get_unique_id(&id), "%s", cx_error_text());
	EXPECT(open_fds() <= fds + 16, "%d descriptors, %d before", open_fds(), fds);
}

/* A name server that nobody reaches: the deadline counts, and the host is named. */
static void look_up_in_vain(void)
{
	struct cx_place p;
	uint64_t start = now_ms();
	int rc;

	if (ip("route del default") || ip("link set wire0 down") || ip("link set wire1 down"))
		EXPECT(0, "no ip");
	rc = cx_place_find(&p, "tcp:rank0.invalid:7700", in_ms(700), NULL, NULL);
	EXPECT((rc == COLLX_ERR_SYSTEM || rc == COLLX_ERR_INIT_TIMEOUT) &&
	       strstr(cx_error_text(), "rank0.invalid"), "%d: %s", rc, cx_error_text());
	EXPECT(now_ms() - start < 5000, "took %d ms", (int)(now_ms() - start));
}

Test(host, with_several_interfaces, .timeout = 120)
{
	pid_t pid;
	int status = -1;

	if (geteuid())
		cr_skip_test("network namespaces need root");
	clear();
	pid = rank_fork();
	if (pid == 0) {
		if (!EXPECT(!make_interfaces(), "no network namespace"))
			rank_exit();
		for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]); i++)
			choose(&choices[i]);
		choose_for_meetings();
		make_ids();
		look_up_in_vain();
		rank_exit();
	}
	waitpid(pid, &status, 0);
	cr_assert_eq(status, 0);
}

/* ---- unique ids ---- */

static void pass_one(collx_comm_t comm, int rank, int size, void *arg)
{
	int32_t one = 1, sum = 0;

	(void)rank;
	(void)arg;
	EXPECT(!collx_allreduce(&one, &sum, 1, COLLX_INT32, COLLX_SUM, comm, NULL) && sum == size,
	       "a sum of %d: %s", sum, collx_last_error(comm));
}

/* Rank r of three comes with an id that this process made; port 0 is drawn by it. */
Test(ids, with_an_address_of_this_host_serve_other_processes)
{
	collx_unique_id id;
	pid_t pids[3];
	char base[64];
	int fds;

	cr_assert_eq(folder_make(base), 0);
	fds = open_fds();
	setenv("COLLX_ADDR", "tcp:127.0.0.1:0", 1);
	cr_assert_eq(collx_get_unique_id(&id), 0, "%s", cx_error_text());
	unsetenv("COLLX_ADDR");
	for (int r = 0; r < 3; r++) {
		pids[r] = rank_fork();
		if (pids[r] == 0) {
			collx_comm_t c = NULL;

			EXPECT(!collx_comm_create(&c, 3, &id, r, NULL), "rank %d: %s", r,
			       collx_last_error(NULL));
			if (c)
				pass_one(c, r, 3, NULL);
			collx_comm_destroy(c);
			EXPECT(fds_return(fds), "rank %d: %d descriptors", r, open_fds());
			rank_exit();
		}
	}
	cr_assert_eq(ranks_wait(pids, 3, 0, 60), 0);
	cr_assert_eq(folder_gone(base), 0);
}

/* Two hosts of two ranks each: network namespaces with a cable between them. The id is
 * made on the first one, and is all that the ranks know. */
enum { PER_HOST = 2, HOSTS = 2 };

static void ranks_of_host(const collx_unique_id *id, int host)
{
	pid_t pids[PER_HOST];

	for (int i = 0; i < PER_HOST; i++) {
		pids[i] = rank_fork();
		if (pids[i] == 0) {
			collx_config config = COLLX_CONFIG_INIT;
			int rank = host * PER_HOST + i, fds = open_fds();
			collx_comm_t c = NULL;

			config.create_timeout_ms = 30000;
			EXPECT(!collx_comm_create(&c, HOSTS * PER_HOST, id, rank, &config),
			       "rank %d: %s", rank, collx_last_error(NULL));
			if (c)
				pass_one(c, rank, HOSTS * PER_HOST, NULL);
			collx_comm_destroy(c);
			EXPECT(fds_return(fds), "rank %d: %d descriptors, %d before", rank,
			       open_fds(), fds);
			rank_exit();
		}
	}
	EXPECT(!ranks_wait(pids, PER_HOST, 0, 60), "host %d", host);
}

/* says: to the other host; hears: from it. */
static void run_host(int host, int says, int hears)
{
	pid_t other = getppid();
	collx_unique_id id;
	char line[64], c = 0;

	if (!EXPECT(!unshare(CLONE_NEWNET) && !ip("link set lo up"), "no network namespace"))
		rank_exit();
	if (host == 0) {
		EXPECT(read(hears, &other, sizeof(other)) == sizeof(other), "no other host");
		snprintf(line, sizeof(line), "link add wire type veth peer name wire netns %d",
			 other);
		EXPECT(!ip(line) && write(says, &c, 1) == 1, "no cable");
	} else {
		other = getpid();
		EXPECT(write(says, &other, sizeof(other)) == sizeof(other) &&
			       read(hears, &c, 1) == 1, "no other host");
	}
	snprintf(line, sizeof(line), "addr add 10.6.0.%d/24 dev wire", host + 1);
	EXPECT(!ip(line) && !ip("link set wire up"), "no address");
	/* A carrier is there when both ends are up. */
	EXPECT(write(says, &c, 1) == 1 && read(hears, &c, 1) == 1, "the other host failed");
	if (host == 0)
		EXPECT(!collx_get_unique_id(&id) && write(says, &id, sizeof(id)) == sizeof(id),
		       "no id: %s", cx_error_text());
	else
		EXPECT(read(hears, &id, sizeof(id)) == sizeof(id), "no id");
	if (!expect_failures())
		ranks_of_host(&id, host);
	rank_exit();
}

Test(ids, bring_the_ranks_of_two_hosts_together, .timeout = 120)
{
	int to[HOSTS][2];
	pid_t pids[HOSTS];
	char base[64];

	if (geteuid())
		cr_skip_test("network namespaces need root");
	cr_assert_eq(folder_make(base), 0);
	unsetenv("COLLX_INTERFACE");
	cr_assert(!pipe(to[0]) && !pipe(to[1]));
	for (int h = 0; h < HOSTS; h++) {
		pids[h] = rank_fork();
		if (pids[h] == 0) {
			close(to[!h][0]);
			close(to[h][1]);
			run_host(h, to[!h][1], to[h][0]);
		}
	}
	for (int h = 0; h < HOSTS; h++)
		close(to[h][0]), close(to[h][1]);
	cr_assert_eq(ranks_wait(pids, HOSTS, 0, 90), 0);
	cr_assert_eq(folder_gone(base), 0);
}

Test(ids, of_the_loopback_alone_listen_at_no_port)
{
	collx_unique_id id;
	struct cx_meeting m = { .deadline_ns = UINT64_MAX };
	int fds;

	clear();
	fds = open_fds();
	cr_assert_eq(collx_get_unique_id(&id), 0);
	cr_assert_eq(cx_uid_read(&id, &m), 0);
	cr_assert_eq(m.place.addr.ss_family, AF_UNIX, "%s", m.place.name);
	cr_assert_eq(m.local.name[0], '\0');
	cr_assert_eq(open_fds(), fds);
}

Test(ids, that_are_damaged_are_refused)
{
	struct cx_meeting m = { .deadline_ns = UINT64_MAX };
	collx_unique_id good, id;

	clear();
	setenv("COLLX_ADDR", "tcp:127.0.0.1:7", 1);
	cr_assert_eq(collx_get_unique_id(&good), 0);
	id = good;
	id.bytes[0] ^= 1;
	cr_expect_eq(cx_uid_read(&id, &m), COLLX_ERR_VERSION);
	id = good;
	id.bytes[2] = 2;
	cr_expect_eq(cx_uid_read(&id, &m), COLLX_ERR_VERSION);
	id = good;
	memset(id.bytes + 36, 'x', sizeof(id.bytes) - 36);
	cr_expect_eq(cx_uid_read(&id, &m), COLLX_ERR_INVALID);
	id = good;
	id.bytes[36] = 'T';
	cr_expect_eq(cx_uid_read(&id, &m), COLLX_ERR_INVALID);
	memset(&id, 0, sizeof(id));
	cr_expect_eq(cx_uid_read(&id, &m), COLLX_ERR_VERSION);
	cr_expect_eq(cx_uid_read(&good, &m), 0);
}
