/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Cases of doc/CASES that stand in no other test: strangers that speak other protocols,
 * lie about a secret, are silent by the thousand, slow or many; who knows the secret and
 * comes when all have met; an id whose job is over; and every call under signals.
 */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include <criterion/criterion.h>

#include "src/boot.h"
#include "src/base/base.h"
#include "tests/strays.h"
#include "tests/world.h"

enum { RANKS = 4, ELEMENTS = 3000, SOON_MS = 1500, LATE_MS = 8000 };

/* ---- a job of 4 ranks with a door on the loopback ---- */

struct shared {
	atomic_int up, stop, rounds;
	int code[RANKS];
	char text[RANKS][512];
	atomic_uint knocks; /* of all who flood */
};

struct job {
	char base[64], secret_path[96];
	struct cx_secret secret;
	struct sockaddr_in door;
	unsigned timeout_ms;
	pid_t ranks[RANKS];
	int said; /* where the ranks' standard error goes, and a dump; 0: nowhere else */
	struct shared *s;
};

static struct sockaddr_in free_port(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	cr_assert(fd >= 0 && !bind(fd, (struct sockaddr *)&a, sizeof(a)) &&
		  !getsockname(fd, (struct sockaddr *)&a, &len));
	close(fd);
	return a;
}

static void job_make(struct job *j, unsigned timeout_ms)
{
	char text[64];
	FILE *f;

	cr_assert_eq(folder_make(j->base), 0);
	snprintf(j->secret_path, sizeof(j->secret_path), "%s/secret", j->base);
	f = fopen(j->secret_path, "w");
	cr_assert_not_null(f);
	for (int i = 0; i < 64; i++)
		fputc("0123456789abcdef"[i * 7 % 16], f);
	fclose(f);
	cr_assert_eq(chmod(j->secret_path, 0600), 0);
	cr_assert_eq(cx_secret_read(&j->secret, j->secret_path), 0, "%s", cx_error_text());
	j->timeout_ms = timeout_ms;
	j->door = free_port();
	snprintf(text, sizeof(text), "tcp:127.0.0.1:%d", ntohs(j->door.sin_port));
	setenv("COLLX_ADDR", text, 1);
	setenv("COLLX_SECRET_FILE", j->secret_path, 1);
	setenv("COLLX_SIZE", "4", 1);
	setenv("COLLX_TRANSPORT", "tcp", 1);
	j->s = mmap(NULL, sizeof(*j->s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(j->s, MAP_FAILED);
}

static void job_end(struct job *j)
{
	atomic_store(&j->s->stop, 1);
	cr_assert_eq(ranks_wait(j->ranks, RANKS, 0, 120), 0);
	cr_assert_eq(unlink(j->secret_path), 0);
	cr_assert_eq(folder_gone(j->base), 0);
	munmap(j->s, sizeof(*j->s));
}

/* Sums until rank 0 was told to stop, which all agree on. */
static void compute(struct job *j, collx_comm_t c, int rank)
{
	static int32_t in[ELEMENTS], out[ELEMENTS];
	int32_t more = 1;
	int rc = 0;

	for (int round = 0; !rc && more && !expect_failures(); round++) {
		for (int i = 0; i < ELEMENTS; i++)
			in[i] = (i % 100 + round) * (rank + 1);
		rc = collx_allreduce(in, out, ELEMENTS, COLLX_INT32, COLLX_SUM, c, NULL);
		for (int i = 0; !rc && i < ELEMENTS; i++)
			if (!EXPECT(out[i] == (i % 100 + round) * 10, "rank %d: %d", rank, out[i]))
				break;
		more = !atomic_load(&j->s->stop);
		if (!rc)
			rc = collx_broadcast(&more, &more, 1, COLLX_INT32, 0, c, NULL);
		atomic_fetch_add(&j->s->rounds, rank == 0);
	}
	EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(c));
}

static void rank_start(struct job *j, int rank)
{
	collx_config config = COLLX_CONFIG_INIT;
	collx_comm_t c = NULL;
	char text[16];
	int fds;

	j->ranks[rank] = rank_fork();
	cr_assert_geq(j->ranks[rank], 0);
	if (j->ranks[rank])
		return;
	if (j->said)
		dup2(j->said, STDERR_FILENO);
	fds = open_fds();
	snprintf(text, sizeof(text), "%d", rank);
	setenv("COLLX_RANK", text, 1);
	config.create_timeout_ms = j->timeout_ms;
	j->s->code[rank] = collx_comm_create_from_env(&c, &config);
	snprintf(j->s->text[rank], sizeof(j->s->text[rank]), "%s", collx_last_error(NULL));
	if (!j->s->code[rank] && j->said)
		EXPECT(!collx_comm_dump(c, j->said), "rank %d: %s", rank, collx_last_error(c));
	atomic_fetch_add(&j->s->up, 1);
	if (!j->s->code[rank])
		compute(j, c, rank);
	collx_comm_destroy(c);
	EXPECT(fds_return(fds), "rank %d: %d descriptors, %d before", rank, open_fds(), fds);
	rank_exit();
}

/* All but the last rank, and rank 0 listens. */
static void begin(struct job *j)
{
	struct sockaddr_in found[8];
	uint64_t end = now_ms() + 30000;

	for (int r = 0; r < RANKS - 1; r++)
		rank_start(j, r);
	while (now_ms() < end) {
		for (int n = strays_ports_of(j->ranks[0], found, 8); n-- > 0;)
			if (found[n].sin_port == j->door.sin_port)
				return;
		nap_ms(2);
	}
	cr_assert_fail("rank 0 did not open its door");
}

static void await(const atomic_int *what, int n)
{
	uint64_t end = now_ms() + 60000;

	while (atomic_load(what) < n && now_ms() < end)
		nap_ms(1);
	cr_assert_geq(atomic_load(what), n);
}

/* The last one comes, and they compute. */
static void complete(struct job *j)
{
	rank_start(j, RANKS - 1);
	await(&j->s->up, RANKS);
	for (int r = 0; r < RANKS; r++)
		cr_expect_eq(j->s->code[r], 0, "rank %d: %s", r, j->s->text[r]);
	await(&j->s->rounds, 3);
}

/* ---- strangers ---- */

struct stranger {
	int fd;
	const char *what;
	size_t got;       /* bytes it was sent */
	uint64_t from_ms; /* when its challenge was there */
	int took_ms;      /* until it was closed; -1: it was not */
};

static void knock(const struct job *j, struct stranger *s, const char *what)
{
	*s = (struct stranger){ .what = what, .took_ms = -1, .from_ms = now_ms() };
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	cr_assert_geq(s->fd, 0, "%s", strerror(errno));
	if (connect(s->fd, (const struct sockaddr *)&j->door, sizeof(j->door)))
		cr_assert_eq(errno, EINPROGRESS, "%s", strerror(errno));
}

static void hear(struct stranger *s)
{
	char more[256];
	ssize_t n = recv(s->fd, more, sizeof(more), MSG_DONTWAIT);

	if (n > 0 && !s->got)
		s->from_ms = now_ms();
	if (n > 0)
		s->got += (size_t)n;
	if (n > 0 || (n < 0 && errno == EAGAIN))
		return;
	s->took_ms = (int)(now_ms() - s->from_ms);
	close(s->fd);
	s->fd = -1;
}

/* Until all of them are closed, or 30 s; what is still open is closed. */
static void see_off(struct stranger *s, unsigned n)
{
	static struct pollfd p[1024];
	uint64_t end = now_ms() + 30000;
	unsigned open = n;

	while (open && now_ms() < end) {
		for (unsigned i = 0; i < n; i++)
			p[i] = (struct pollfd){ .fd = s[i].fd, .events = POLLIN };
		poll(p, n, 100);
		for (unsigned i = 0; i < n; i++)
			if (p[i].revents)
				hear(&s[i]);
		open = 0;
		for (unsigned i = 0; i < n; i++)
			open += s[i].fd >= 0;
	}
	for (unsigned i = 0; i < n; i++)
		if (s[i].fd >= 0)
			close(s[i].fd);
}

/* They were sent nothing but a challenge, and closed within that time. */
static int expect_refused(const struct stranger *s, int n, int within_ms)
{
	int late = 0;

	for (int i = 0; i < n; i++) {
		cr_expect_leq(s[i].got, CX_CHALLENGE_BYTES, "%s was sent %zu bytes", s[i].what,
			      s[i].got);
		cr_expect(s[i].took_ms >= 0 && s[i].took_ms < LATE_MS, "%s: closed after %d ms",
			  s[i].what, s[i].took_ms);
		late += s[i].took_ms >= within_ms;
	}
	return late;
}

/* ---- J3: other protocols ---- */

#define GREETING(what, bytes) { what, bytes, sizeof(bytes) - 1 }
static const struct {
	const char *what, *bytes;
	size_t len;
} greetings[] = {
	GREETING("HTTP", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
	GREETING("TLS", "\x16\x03\x01\x3f\xff\x01\0\x3f\xfb\x03\x03"),
	GREETING("SSH", "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"),
	GREETING("NCCL", "\x6c\x9d\x4b\xfc\xf2\xb9\x4a\x56\x02\0\0\0\xff\xff\xff\x7f"),
	GREETING("Gloo", "\x01\0\0\0\0\0\0\x40"),
	GREETING("UCX", "\x78\x56\x34\x12\xbe\xba\xfe\xca\x01\0\0\0\xff\xff\xff\x7f"),
	GREETING("PyTorch's store", "\0\xce\xf7\x85\x3c\xff\xff\xff\x7f"),
	GREETING("Open MPI", "OPAL-TCP-BTL\0\xff\xff\xff\xff"),
	GREETING("a length", "\xff\xff\xff\x3f\0\0\0\0"),
	GREETING("zeros", "\0\0\0\0\0\0\0\0"),
};
enum { GREETINGS = sizeof(greetings) / sizeof(greetings[0]) };

/* Those of `len` bytes begin like the greeting and go on with nonsense. */
static void greet(struct stranger *s, int i, size_t len)
{
	char text[4096];

	for (size_t k = 0; k < sizeof(text); k++)
		text[k] = k < greetings[i].len ? greetings[i].bytes[k]
					       : (char)mix64(k * 64 + (size_t)i);
	if (send(s->fd, text, len ? len : greetings[i].len, MSG_NOSIGNAL) < 0)
		cr_expect(errno == EPIPE || errno == ECONNRESET, "%s", strerror(errno));
}

static long peak_kib(pid_t pid)
{
	char path[64], line[256];
	long kib = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "VmPeak: %ld", &kib);
	if (f)
		fclose(f);
	return kib;
}

static int greet_all(const struct job *j, size_t len)
{
	struct stranger s[GREETINGS];

	for (int i = 0; i < GREETINGS; i++) {
		struct pollfd p = { .events = POLLOUT };

		knock(j, &s[i], greetings[i].what);
		p.fd = s[i].fd;
		poll(&p, 1, 5000);
		greet(&s[i], i, len);
	}
	see_off(s, GREETINGS);
	return expect_refused(s, GREETINGS, SOON_MS);
}

/* What is long enough for a proof is closed at once, the rest after its 2 s; and no length
 * that they say is believed. */
Test(strangers, of_other_protocols, .timeout = 120)
{
	struct job j = { 0 };
	int late = 1;
	long before;

	job_make(&j, 60000);
	begin(&j);
	before = peak_kib(j.ranks[0]);
	for (int tries = 0; late && tries < 3; tries++)
		late = greet_all(&j, tries % 2 ? 4096 : CX_PROOF_BYTES);
	cr_expect_eq(late, 0, "%d were not closed at once", late);
	greet_all(&j, 0);
	cr_expect_lt(peak_kib(j.ranks[0]) - before, 16384, "rank 0 grew from %ld to %ld KiB",
		     before, peak_kib(j.ranks[0]));
	complete(&j);
	job_end(&j);
}

/* ---- J4, J5: who tries without the secret ---- */

enum lie {
	HONEST, MAC_BIT, MAC_OF_ANOTHER_JOB, ANOTHER_JOB, MAC_CUT, MAC_CUT_SILENT, REPLAYED,
	REFLECTED, DIRECTION, RANK, SIZE, KIND, LIES
};

static const char *const lies[LIES] = {
	"the truth", "a wrong bit in the MAC", "another job's MAC", "another job's proof",
	"a MAC that ends early", "a MAC that stops", "a replayed proof", "a reflected challenge",
	"a MAC of the other direction", "another rank", "another size", "another kind"
};

static const struct cx_claim claim = { .rank = 1, .ranks = RANKS, .kind = CX_CONN_CONTROL };

/* Where the claim stands in a proof: behind magic, version and the job's name. */
enum { CLAIM_AT = 8 + CX_JOB_BYTES, MAC_AT = CX_PROOF_BYTES - 32 };

static void make_proof(const struct job *j, enum lie lie, const unsigned char *challenge,
		       unsigned char *proof)
{
	static const unsigned char key[CX_SECRET_BYTES] = "the secret of quite another job";
	struct cx_secret other;
	unsigned char mac[CX_CONFIRM_BYTES];

	cr_assert_eq(cx_secret_init(&other, key), 0);
	if (lie == MAC_OF_ANOTHER_JOB) /* under this one's name */
		memcpy(other.job, j->secret.job, sizeof(other.job));
	if (lie == MAC_OF_ANOTHER_JOB || lie == ANOTHER_JOB)
		cr_assert_eq(cx_auth_prove(&other, challenge, &claim, proof), 0);
	else
		cr_assert_eq(cx_auth_prove(&j->secret, challenge, &claim, proof), 0);
	if (lie == MAC_BIT)
		proof[CX_PROOF_BYTES - 1] ^= 0x80;
	if (lie == REFLECTED)
		memcpy(proof, challenge, CX_CHALLENGE_BYTES);
	if (lie == DIRECTION) {
		cr_assert_eq(cx_auth_confirm(&j->secret, challenge, proof, mac), 0);
		memcpy(proof + MAC_AT, mac, sizeof(mac));
	}
	if (lie >= RANK)
		proof[CLAIM_AT + 4 * (lie - RANK)] ^= 3;
}

/* Reads its challenge; for the replay another connection's. */
static void hear_challenge(struct stranger *s, unsigned char *challenge)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };

	for (uint64_t end = now_ms() + 10000; s->got < CX_CHALLENGE_BYTES && now_ms() < end;) {
		ssize_t n;

		poll(&p, 1, 1000);
		n = recv(s->fd, challenge + s->got, CX_CHALLENGE_BYTES - s->got, MSG_DONTWAIT);
		s->got += n > 0 ? (size_t)n : 0;
	}
	s->from_ms = now_ms();
	cr_assert_eq(s->got, CX_CHALLENGE_BYTES, "%s: no challenge", s->what);
}

static struct stranger tell(const struct job *j, enum lie lie)
{
	unsigned char challenge[CX_CHALLENGE_BYTES], proof[CX_PROOF_BYTES];
	size_t len = lie == MAC_CUT || lie == MAC_CUT_SILENT ? CX_PROOF_BYTES - 1 : CX_PROOF_BYTES;
	struct stranger s;

	if (lie == REPLAYED) { /* its own connection is over */
		knock(j, &s, lies[lie]);
		hear_challenge(&s, challenge);
		make_proof(j, lie, challenge, proof);
		close(s.fd);
	}
	knock(j, &s, lies[lie]);
	hear_challenge(&s, challenge);
	if (lie != REPLAYED)
		make_proof(j, lie, challenge, proof);
	cr_assert_eq(send(s.fd, proof, len, MSG_NOSIGNAL), (ssize_t)len);
	if (lie == MAC_CUT)
		shutdown(s.fd, SHUT_WR);
	return s;
}

/* Returns how many were not closed at once. */
static int tell_lies(const struct job *j)
{
	struct stranger s[LIES];

	for (int i = MAC_BIT; i < LIES; i++)
		s[i] = tell(j, (enum lie)i);
	see_off(s + MAC_BIT, LIES - MAC_BIT);
	return expect_refused(s + MAC_BIT, LIES - MAC_BIT, SOON_MS) -
	       (s[MAC_CUT_SILENT].took_ms >= SOON_MS);
}

Test(strangers, who_lie_disturb_nobody, .timeout = 120)
{
	struct job j = { 0 };
	int late = 1;

	job_make(&j, 60000);
	begin(&j);
	for (int tries = 0; late && tries < 3; tries++)
		late = tell_lies(&j);
	cr_expect_eq(late, 0, "%d were not closed at once", late);
	complete(&j);
	job_end(&j);
}

/* In the line of the error that ends a creation; but not who said nothing, as ranks of this
 * host do that try its address and find a shorter way. */
Test(strangers, who_lie_are_counted, .timeout = 120)
{
	enum { TOLD = LIES - MAC_BIT };
	struct job j = { 0 };
	unsigned n;

	job_make(&j, 12000);
	begin(&j);
	tell_lies(&j);
	await(&j.s->up, RANKS - 1);
	for (int r = 0; r < RANKS - 1; r++) {
		const char *line = strstr(j.s->text[r], "before the deadline; ");

		cr_expect(j.s->code[r] == COLLX_ERR_INIT_TIMEOUT && line &&
			  sscanf(line, "before the deadline; %u connections refused", &n) == 1 &&
			  n == TOLD, "rank %d: %s: %s, not %d", r, collx_strerror(j.s->code[r]),
			  j.s->text[r], TOLD);
	}
	job_end(&j);
}

static int count(const char *text, const char *what)
{
	int n = 0;

	while ((text = strstr(text, what))) {
		text += strlen(what);
		n++;
	}
	return n;
}

/* In one line, however many; and in the dump. Nine of them have the form of a proof. */
Test(strangers, who_lie_are_said_once, .timeout = 120)
{
	char path[] = "/tmp/collx-said-XXXXXX", said[16384] = "";
	struct job j = { 0 };

	j.said = mkstemp(path);
	cr_assert_gt(j.said, 0);
	unlink(path);
	job_make(&j, 60000);
	begin(&j);
	tell_lies(&j);
	complete(&j);
	cr_assert_gt(pread(j.said, said, sizeof(said) - 1, 0), 0);
	job_end(&j);
	close(j.said);
	cr_expect_eq(count(said, "wrong proof"), 1, "%s", said);
	cr_expect(strstr(said, "turned 9 connections with a wrong proof away, the last from "
			       "tcp:127.0.0.1:"), "%s", said);
	cr_expect_eq(count(said, "\"wrong_proofs\": 9,"), 1, "%s", said);
	cr_expect_eq(count(said, "\"wrong_proofs\": 0,"), RANKS - 1, "%s", said);
}

/* ---- J6: who knows the secret ---- */

/* The same without a lie: it is confirmed, and that one rank is there twice is known to
 * all, as D8 has it. */
Test(strangers, who_know_the_secret_end_a_creation, .timeout = 60)
{
	struct job j = { 0 };
	struct stranger s;

	job_make(&j, 30000);
	begin(&j);
	s = tell(&j, HONEST);
	see_off(&s, 1);
	cr_expect_geq(s.got, CX_CHALLENGE_BYTES + CX_CONFIRM_BYTES);
	await(&j.s->up, RANKS - 1);
	for (int r = 0; r < RANKS - 1; r++)
		cr_expect(j.s->code[r] == COLLX_ERR_INVALID &&
			  strstr(j.s->text[r], "rank 1 is taken twice"), "rank %d: %s: %s", r,
			  collx_strerror(j.s->code[r]), j.s->text[r]);
	job_end(&j);
}

/* A connection, or not; as soon as that is clear. */
static bool is_open_for(const struct sockaddr_in *a)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), rc;

	rc = connect(fd, (const struct sockaddr *)a, sizeof(*a));
	close(fd);
	return rc == 0;
}

/* They find no open port: neither the door nor one of the ranks'. */
Test(strangers, who_know_the_secret_are_too_late, .timeout = 300)
{
	struct job j = { 0 };
	struct sockaddr_in ports[64];
	int n, all = 0, rounds;

	job_make(&j, 60000);
	begin(&j);
	complete(&j);
	cr_expect(!is_open_for(&j.door), "the door is open");
	for (int r = 0; r < RANKS; r++) {
		n = strays_ports_of(j.ranks[r], ports, 64);
		for (int i = 0; i < n; i++)
			cr_expect(!is_open_for(&ports[i]), "rank %d listens at port %d", r,
				  ntohs(ports[i].sin_port));
		all += n;
	}
	cr_expect_geq(all, RANKS, "%d ports", all);
	rounds = atomic_load(&j.s->rounds);
	await(&j.s->rounds, rounds + 3);
	job_end(&j);
}

/* ---- J2, J7, J8: silent, slow, many ---- */

static void more_files(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static void be_silent(const struct job *j, struct stranger *s, int n)
{
	for (int i = 0; i < n; i++)
		knock(j, &s[i], "a silent one");
}

/* Those before are closed while the door is open; the last rank comes through others. */
Test(strangers, a_thousand_silent_ones, .timeout = 120)
{
	static struct stranger s[1000];
	struct job j = { 0 };
	uint64_t start;

	job_make(&j, 60000);
	begin(&j);
	more_files();
	be_silent(&j, s, 1000);
	see_off(s, 1000);
	expect_refused(s, 1000, LATE_MS);
	be_silent(&j, s, 1000);
	start = now_ms();
	complete(&j);
	cr_expect_lt(now_ms() - start, 20000, "it took %d ms", (int)(now_ms() - start));
	see_off(s, 1000);
	expect_refused(s, 1000, LATE_MS);
	job_end(&j);
}

/* Each byte would be right. */
Test(strangers, a_proof_byte_by_byte, .timeout = 120)
{
	unsigned char challenge[CX_CHALLENGE_BYTES], proof[CX_PROOF_BYTES];
	struct job j = { 0 };
	struct stranger s;

	job_make(&j, 60000);
	begin(&j);
	knock(&j, &s, "a slow one");
	hear_challenge(&s, challenge);
	make_proof(&j, HONEST, challenge, proof);
	for (int i = 0; s.fd >= 0 && i < CX_PROOF_BYTES; i++) {
		if (send(s.fd, &proof[i], 1, MSG_NOSIGNAL) < 0)
			cr_expect(errno == EPIPE || errno == ECONNRESET, "%s", strerror(errno));
		nap_ms(100);
		hear(&s);
	}
	see_off(&s, 1);
	cr_expect_gt(s.took_ms, 1000);
	expect_refused(&s, 1, LATE_MS);
	complete(&j);
	job_end(&j);
}

static int fds_of(pid_t pid)
{
	char path[64];
	DIR *dir;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

/* Keeps some hundred open. */
static pid_t flood(const struct job *j)
{
	static int fds[300];
	pid_t pid = rank_fork();

	if (pid)
		return pid;
	memset(fds, -1, sizeof(fds));
	for (unsigned i = 0;; i++) {
		int *fd = &fds[i % 300];

		if (*fd >= 0)
			close(*fd);
		*fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (!connect(*fd, (const struct sockaddr *)&j->door, sizeof(j->door)))
			atomic_fetch_add(&j->s->knocks, 1);
	}
}

Test(strangers, ten_thousand_as_fast_as_they_can, .timeout = 180)
{
	struct job j = { 0 };
	pid_t floods[2];
	int before, most = 0;
	uint64_t start;

	job_make(&j, 60000);
	begin(&j);
	nap_ms(100);
	before = fds_of(j.ranks[0]);
	start = now_ms();
	for (int i = 0; i < 2; i++)
		floods[i] = flood(&j);
	while (atomic_load(&j.s->knocks) < 10000 && now_ms() - start < 60000) {
		most = cx_max(most, fds_of(j.ranks[0]));
		nap_ms(2);
	}
	cr_log_info("%u connections in %d ms; rank 0 has %d descriptors, then %d",
		    atomic_load(&j.s->knocks), (int)(now_ms() - start), before, most);
	cr_expect_geq(atomic_load(&j.s->knocks), 10000);
	/* A door keeps 64 without proof, and two for each rank that is to come. */
	cr_expect_leq(most - before, 64 + 2 * RANKS + 4, "%d descriptors", most);
	complete(&j);
	for (int i = 0; i < 2; i++) {
		kill(floods[i], SIGKILL);
		waitpid(floods[i], NULL, 0);
	}
	job_end(&j);
}

/* ---- G7: an id whose job is over ---- */

struct late {
	int code[RANKS];
	char text[RANKS][512];
};

static void come_again(const collx_unique_id *id, int rank, int size, void *arg)
{
	collx_config config = COLLX_CONFIG_INIT;
	struct late *l = arg;
	collx_comm_t c = NULL;
	int rc = collx_comm_create(&c, size, id, rank, NULL);

	EXPECT(rc == 0 && !collx_barrier(c, NULL), "rank %d: %s", rank, collx_last_error(c));
	collx_comm_destroy(c);
	c = NULL;
	if (rank == 0) /* whoever has the old id finds nobody; see jobs in t_meet */
		return;
	nap_ms(300);
	config.create_timeout_ms = 500;
	l->code[rank] = collx_comm_create(&c, size, id, rank, &config);
	snprintf(l->text[rank], sizeof(l->text[rank]), "%s", collx_last_error(NULL));
	EXPECT(!c, "rank %d has one", rank);
}

Test(ids, of_a_job_that_is_over)
{
	struct late *l = mmap(NULL, sizeof(*l), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const struct world w = { .size = RANKS, .raw = come_again, .arg = l };

	cr_assert_neq(l, MAP_FAILED);
	cr_assert_eq(world_run(&w), 0);
	for (int r = 1; r < RANKS; r++)
		cr_expect(l->code[r] == COLLX_ERR_INIT_TIMEOUT &&
			  strstr(l->text[r], "rank 0 did not open its door") &&
			  strstr(l->text[r], "or is this job over?"), "rank %d: %s: %s", r,
			  collx_strerror(l->code[r]), l->text[r]);
	munmap(l, sizeof(*l));
}

/* The port that an id keeps is given back as the communicator is made, by grow, too. */
static void grow_by_one(const collx_unique_id *id, int rank, int size, void *arg)
{
	struct { int told; collx_unique_id id; } *token = arg;
	collx_comm_t c = NULL, next = NULL;
	int before;

	(void)id;
	(void)size;
	while (rank && !__atomic_load_n(&token->told, __ATOMIC_ACQUIRE))
		nap_ms(1);
	if (rank) {
		EXPECT(!collx_comm_create(&next, 2, &token->id, 1, NULL), "%s",
		       collx_last_error(NULL));
		collx_comm_destroy(next);
		return;
	}
	setenv("COLLX_ADDR", "tcp:127.0.0.1:0", 1);
	EXPECT(!collx_get_unique_id(&token->id) &&
	       !collx_comm_create(&c, 1, &token->id, 0, NULL), "%s", collx_last_error(NULL));
	before = open_fds();
	EXPECT(!collx_get_unique_id(&token->id) && open_fds() == before + 1, "no port is kept");
	__atomic_store_n(&token->told, 1, __ATOMIC_RELEASE);
	EXPECT(!collx_comm_grow(c, 1, &token->id, &next, NULL), "%s", collx_last_error(NULL));
	collx_comm_destroy(next);
	EXPECT(fds_return(before), "%d descriptors, %d before", open_fds(), before);
	collx_comm_destroy(c);
}

Test(ids, keep_no_port_behind_a_grow)
{
	void *token = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const struct world w = { .size = 2, .raw = grow_by_one, .arg = token };

	cr_assert_neq(token, MAP_FAILED);
	cr_assert_eq(world_run(&w), 0);
	munmap(token, 4096);
}

/* ---- H1: every call under signals ---- */

static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
	(void)sig;
	signals++;
}

static void set_timers(long us)
{
	const struct itimerval each = { { 0, us }, { 0, us } };
	struct sigaction act = { .sa_handler = on_signal };

	EXPECT(!sigaction(SIGALRM, &act, NULL) && !sigaction(SIGPROF, &act, NULL) &&
	       !setitimer(ITIMER_REAL, &each, NULL) && !setitimer(ITIMER_PROF, &each, NULL), "%s",
	       strerror(errno));
}

enum { SIZE_MOST = 3, MANY = 20000 };
static int32_t in[SIZE_MOST * MANY], out[SIZE_MOST * MANY];

/* Element i of rank r's input. */
static int32_t given(int r, size_t i)
{
	return (int32_t)i * (r + 1) + r;
}

static int32_t sum_of(int size, size_t i)
{
	int32_t sum = 0;

	for (int r = 0; r < size; r++)
		sum += given(r, i);
	return sum;
}

static void check(int rc, const char *what, collx_comm_t c, size_t i, int32_t want)
{
	EXPECT(rc == 0 && out[i] == want, "rank %d: %s: %s: element %zu is %d, not %d",
	       collx_comm_rank(c), what, collx_last_error(c), i, out[i], want);
}

/* From each rank to the next one. */
static int pass_on(collx_comm_t c, size_t n, int rank, int size)
{
	int to = (rank + 1) % size, from = (rank + size - 1) % size, rc = 0;

	if (rank)
		rc = collx_recv(out, n, COLLX_INT32, from, c, NULL);
	if (!rc)
		rc = collx_send(in, n, COLLX_INT32, to, c, NULL);
	if (!rc && !rank)
		rc = collx_recv(out, n, COLLX_INT32, from, c, NULL);
	return rc;
}

static void call_all(collx_comm_t c, size_t n, int rank, int size)
{
	int before = (rank + size - 1) % size, rc;
	size_t last = n - 1, mine = (size_t)rank * n + last;
	uint64_t flags = 7;

	for (size_t i = 0; i < n * (size_t)size; i++)
		in[i] = given(rank, i);
	rc = collx_allreduce(in, out, n, COLLX_INT32, COLLX_SUM, c, NULL);
	check(rc, "allreduce", c, last, sum_of(size, last));
	rc = collx_reduce_scatter(in, out, n, COLLX_INT32, COLLX_SUM, c, NULL);
	check(rc, "reduce_scatter", c, last, sum_of(size, mine));
	rc = collx_allgather(in, out, n, COLLX_INT32, c, NULL);
	check(rc, "allgather", c, (size_t)before * n + last, given(before, last));
	rc = collx_broadcast(in, out, n, COLLX_INT32, 1, c, NULL);
	check(rc, "broadcast", c, last, given(1, last));
	rc = collx_reduce(in, out, n, COLLX_INT32, COLLX_SUM, 1, c, NULL);
	check(rc, "reduce", c, last, rank == 1 ? sum_of(size, last) : out[last]);
	rc = pass_on(c, n, rank, size);
	check(rc, "send and recv", c, last, given(before, last));
	check(collx_barrier(c, NULL), "barrier", c, 0, out[0]);
	check(collx_comm_agree(c, &flags, NULL, NULL), "agree", c, 0, out[0]);
	EXPECT(flags == 7, "rank %d: agreed on %llx", rank, (unsigned long long)flags);
}

static void call_under_signals(const collx_unique_id *id, int rank, int size, void *arg)
{
	collx_comm_t c = NULL;
	uint64_t end;
	int32_t more = 1;
	int rc;

	(void)arg;
	signals = 0;
	set_timers(1000);
	if (!EXPECT(!collx_comm_create(&c, size, id, rank, NULL), "rank %d: %s", rank,
		    collx_last_error(NULL)))
		return;
	end = now_ms() + 700;
	for (int i = 0; more && !expect_failures(); i++) {
		call_all(c, i % 3 ? 1 + (size_t)i % 9 : MANY, rank, size);
		if (i % 5 == rank) /* the others wait, asleep */
			for (int k = 0; k < 8; k++)
				nap_ms(1);
		more = now_ms() < end;
		rc = collx_broadcast(&more, &more, 1, COLLX_INT32, 0, c, NULL);
		/* Rank 0 may be at the repair. */
		more = more && !rc;
		EXPECT(!rc || rc == COLLX_ERR_REVOKED, "rank %d: %s", rank, collx_last_error(c));
	}
	EXPECT(!collx_comm_repair(&c, NULL), "rank %d: repair: %s", rank, collx_last_error(NULL));
	call_all(c, 100, rank, size);
	collx_comm_destroy(c);
	set_timers(0);
	EXPECT(signals > 50, "rank %d: %d signals", rank, (int)signals);
}

Test(signals, each_millisecond_in_every_call, .timeout = 120)
{
	for (int tcp = 0; tcp < 2; tcp++) {
		const struct world w = { .size = SIZE_MOST, .raw = call_under_signals,
					 .transport = tcp ? "tcp" : "shm" };

		cr_assert_eq(world_run(&w), 0);
	}
}
