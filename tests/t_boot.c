/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How ranks meet, and who must not disturb them: ranks that never come, come
 * twice or disagree; other users, wrong secrets, strays; folders and secret files
 * that are not private; ranks killed while they meet.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <criterion/criterion.h>

#include "src/base/base.h"
#include "src/boot.h"
#include "tests/world.h"

enum { NOBODY = 65534, SECRET_SEED = 7 };

/* ---- a job whose ranks are started one by one ---- */

struct report {
	int code[8];
	int ms[8];
	uint64_t since_ms[8];
	char text[8][512];
};

struct job {
	char base[64];
	collx_unique_id id;
	struct report *report; /* shared with the ranks */
	pid_t pids[8];
	int n;
};

static struct job job_make(void)
{
	struct job j = { .n = 0 };

	cr_assert_eq(folder_make(j.base), 0);
	cr_assert_eq(collx_get_unique_id(&j.id), 0, "%s", cx_error_text());
	j.report = mmap(NULL, sizeof(*j.report), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(j.report, MAP_FAILED);
	return j;
}

/* How a rank comes: rank `rank` of `size`, or from the environment when size is 0. */
struct arrival {
	int rank, size;
	unsigned timeout_ms;
	int uid; /* 0: stay */
};

static int use(collx_comm_t c)
{
	int32_t one = 1, sum = 0;
	int rc = collx_allreduce(&one, &sum, 1, COLLX_INT32, COLLX_SUM, c, NULL);

	EXPECT(rc || sum == collx_comm_size(c), "a sum of %d", sum);
	return rc;
}

static void arrive(struct job *j, int slot, const struct arrival *a)
{
	collx_config config = COLLX_CONFIG_INIT;
	int fds = open_fds(), rc;
	uint64_t start = now_ms();
	collx_comm_t c = NULL;

	if (a->uid)
		EXPECT(!setgroups(0, NULL) && !setgid((gid_t)a->uid) && !setuid((uid_t)a->uid),
		       "becoming user %d: %s", a->uid, strerror(errno));
	config.create_timeout_ms = a->timeout_ms;
	__atomic_store_n(&j->report->since_ms[slot], start, __ATOMIC_RELEASE);
	rc = a->size ? collx_comm_create(&c, a->size, &j->id, a->rank, &config)
		     : collx_comm_create_from_env(&c, &config);
	if (!rc)
		rc = use(c);
	j->report->code[slot] = rc;
	snprintf(j->report->text[slot], sizeof(j->report->text[slot]), "%s", collx_last_error(c));
	collx_comm_destroy(c);
	j->report->ms[slot] = (int)(now_ms() - start);
	EXPECT(fds_return(fds), "slot %d: %d descriptors, %d before", slot, open_fds(), fds);
}

/* Forks a rank; its report has the number of the call. */
static int come(struct job *j, struct arrival a)
{
	int slot = j->n++;

	j->pids[slot] = rank_fork();
	cr_assert_geq(j->pids[slot], 0);
	if (j->pids[slot] == 0) {
		arrive(j, slot, &a);
		rank_exit();
	}
	return slot;
}

static void job_end(struct job *j, unsigned killed)
{
	cr_assert_eq(ranks_wait(j->pids, j->n, killed, 60), 0);
	cr_assert_eq(folder_gone(j->base), 0);
}

#define SAID(j, slot, want, part) said(&(j), (slot), (want), (part), __LINE__)
static void said(const struct job *j, int slot, int want, const char *part, int line)
{
	const struct report *r = j->report;

	cr_expect(r->code[slot] == want && strstr(r->text[slot], part),
		  "line %d, slot %d: %s after %d ms: '%s', not %s with '%s'", line, slot,
		  collx_strerror(r->code[slot]), r->ms[slot], r->text[slot], collx_strerror(want),
		  part);
}

/* ---- who does not come, comes twice, or disagrees ---- */

static void wait_for_door(const struct job *j, char path[192]);

Test(meeting, ranks_that_never_come_are_named)
{
	struct job j = job_make();
	char path[192];

	come(&j, (struct arrival){ 0, 6, 2500, 0 });
	wait_for_door(&j, path);
	come(&j, (struct arrival){ 1, 6, 2500, 0 });
	come(&j, (struct arrival){ 4, 6, 2500, 0 });
	job_end(&j, 0);
	for (int i = 0; i < 3; i++) {
		SAID(j, i, COLLX_ERR_INIT_TIMEOUT, "ranks 2-3, 5 of 6");
		cr_expect_lt(j.report->ms[i], 6000);
	}
	cr_expect_geq(j.report->ms[0], 2400);
}

/* A rank whose own deadline comes first still waits for the word of rank 0. */
Test(meeting, the_first_one_there_learns_who_is_missing_too)
{
	struct job j = job_make();

	come(&j, (struct arrival){ 1, 3, 2500, 0 });
	nap_ms(200);
	come(&j, (struct arrival){ 0, 3, 2500, 0 });
	job_end(&j, 0);
	for (int i = 0; i < 2; i++)
		SAID(j, i, COLLX_ERR_INIT_TIMEOUT, "rank 2 of 3");
}

Test(meeting, a_rank_0_that_never_comes)
{
	struct job j = job_make();

	come(&j, (struct arrival){ 1, 2, 300, 0 });
	job_end(&j, 0);
	SAID(j, 0, COLLX_ERR_INIT_TIMEOUT, "rank 0 did not open");
	cr_expect_lt(j.report->ms[0], 5000);
}

Test(meeting, a_rank_taken_twice)
{
	struct job j = job_make();

	come(&j, (struct arrival){ 0, 3, 20000, 0 });
	come(&j, (struct arrival){ 1, 3, 20000, 0 });
	come(&j, (struct arrival){ 1, 3, 20000, 0 });
	job_end(&j, 0);
	for (int i = 0; i < 3; i++) {
		SAID(j, i, COLLX_ERR_INVALID, "rank 1 is taken twice");
		cr_expect_lt(j.report->ms[i], 10000);
	}
}

Test(meeting, rank_0_taken_twice)
{
	struct job j = job_make();
	char path[192];

	come(&j, (struct arrival){ 0, 2, 20000, 0 });
	wait_for_door(&j, path);
	come(&j, (struct arrival){ 0, 2, 20000, 0 });
	cr_assert_eq(ranks_wait(j.pids + 1, 1, 0, 30), 0);
	come(&j, (struct arrival){ 1, 2, 20000, 0 });
	job_end(&j, 0);
	SAID(j, 1, COLLX_ERR_INVALID, "rank 0 is taken");
	SAID(j, 0, 0, "");
	SAID(j, 2, 0, "");
}

Test(meeting, different_sizes)
{
	struct job j = job_make();

	come(&j, (struct arrival){ 0, 3, 20000, 0 });
	come(&j, (struct arrival){ 2, 4, 20000, 0 });
	job_end(&j, 0);
	SAID(j, 0, COLLX_ERR_INVALID, "rank 2 says 4 ranks, rank 0 says 3");
	SAID(j, 1, COLLX_ERR_INVALID, "rank 2 says 4 ranks, rank 0 says 3");
}

Test(meeting, late_ranks_and_many_of_them)
{
	struct job j = job_make();

	for (int r = 7; r >= 0; r--) {
		come(&j, (struct arrival){ r, 8, 60000, 0 });
		nap_ms(r % 3 ? 0 : 60);
	}
	job_end(&j, 0);
	for (int r = 0; r < 8; r++)
		SAID(j, r, 0, "");
}

/* ---- a caller's own exchange ---- */

struct exchange {
	pthread_barrier_t *barrier;
	unsigned char *all;
	int rank;
};

static int allgather(void *ctx, const void *send, void *recv, size_t len)
{
	const struct exchange *x = ctx;
	int size = 4;

	collx_comm_rank(NULL); /* what it calls may have errors of its own */
	memcpy(x->all + (size_t)x->rank * len, send, len);
	pthread_barrier_wait(x->barrier);
	memcpy(recv, x->all, (size_t)size * len);
	pthread_barrier_wait(x->barrier);
	return 0;
}

/* The others do not wait in the exchange for a rank whose own terms are wrong. */
static void one_fails_before(struct exchange *x, int rank, int size)
{
	collx_config config = COLLX_CONFIG_INIT;
	collx_comm_t c = NULL;
	int rc;

	config.heartbeat_ms = rank == 2 ? 2000 : 0;
	rc = collx_comm_create_oob(&c, size, allgather, x, rank, &config);
	EXPECT(rc == COLLX_ERR_INVALID && !c &&
	       strstr(collx_last_error(NULL), rank == 2 ? "creation: a heartbeat"
							: "rank 2: creation: a heartbeat"),
	       "rank %d: %d: %s", rank, rc, collx_last_error(NULL));
}

static void out_of_band(const collx_unique_id *id, int rank, int size, void *arg)
{
	struct exchange x = *(struct exchange *)arg;
	collx_comm_t c = NULL;
	int rc;

	(void)id;
	x.rank = rank;
	rc = collx_comm_create_oob(&c, size, allgather, &x, rank, NULL);
	if (EXPECT(rc == 0, "rank %d: %s", rank, collx_last_error(NULL)))
		EXPECT(use(c) == 0, "rank %d: %s", rank, collx_last_error(c));
	collx_comm_destroy(c);
	one_fails_before(&x, rank, size);
	if (rank == 0)
		setenv("COLLX_RUNTIME_DIR", "not/absolute", 1);
	c = NULL;
	rc = collx_comm_create_oob(&c, size, allgather, &x, rank, NULL);
	EXPECT(rc < 0 && !c, "rank %d: %d", rank, rc);
	EXPECT(strstr(collx_last_error(NULL), rank ? "rank 0: COLLX_RUNTIME_DIR"
						   : "COLLX_RUNTIME_DIR"), "%s",
	       collx_last_error(NULL));
}

Test(meeting, by_a_callers_exchange)
{
	pthread_barrier_t barrier;
	unsigned char all[4 * 512];
	struct exchange x = { &barrier, all, 0 };
	const struct world w = { .size = 4, .threads = 1, .raw = out_of_band, .arg = &x };

	pthread_barrier_init(&barrier, NULL, 4);
	cr_assert_eq(world_run(&w), 0);
	pthread_barrier_destroy(&barrier);
}

/* ---- strangers ---- */

/* Waits until rank 0 listens; its socket's path. */
static void wait_for_door(const struct job *j, char path[192])
{
	for (int tries = 0; tries < 20000; tries++) {
		struct sockaddr_un addr = { .sun_family = AF_UNIX };
		char folder[96];
		struct dirent *d;
		DIR *dir;
		int open = 0, fd;

		snprintf(folder, sizeof(folder), "%s/run", j->base);
		dir = opendir(folder);
		while (dir && (d = readdir(dir)))
			if (!strchr(d->d_name, '.')) /* not yet under its own name */
				open = snprintf(path, 192, "%s/%.60s", folder, d->d_name) > 0;
		if (dir)
			closedir(dir);
		if (open) {
			snprintf(addr.sun_path, sizeof(addr.sun_path), "%.100s", path);
			fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
			open = !connect(fd, (struct sockaddr *)&addr, sizeof(addr));
			close(fd);
			if (open)
				return;
		}
		nap_ms(1);
	}
	cr_assert_fail("rank 0 never listened in %s", j->base);
}

static int knock(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%.100s", path);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Milliseconds until the other end closes fd; -1: it does not within 20 s. */
static int closed_after(int fd)
{
	uint64_t start = now_ms();
	char b[256];

	while (now_ms() - start < 20000) {
		ssize_t n = recv(fd, b, sizeof(b), MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno != EAGAIN))
			return (int)(now_ms() - start);
		nap_ms(2);
	}
	return -1;
}

Test(strangers, say_nothing_half_or_nonsense)
{
	struct job j = job_make();
	char path[192], junk[300];
	int silent, half, noisy, fast[4];

	signal(SIGPIPE, SIG_IGN);
	memset(junk, 'j', sizeof(junk));
	come(&j, (struct arrival){ 0, 2, 60000, 0 });
	wait_for_door(&j, path);
	silent = knock(path);
	half = knock(path);
	noisy = knock(path);
	for (int i = 0; i < 4; i++)
		fast[i] = knock(path);
	cr_assert(silent >= 0 && half >= 0 && noisy >= 0 && fast[3] >= 0);
	cr_assert_eq(send(half, junk, 50, 0), 50);
	cr_assert_eq(send(noisy, junk, sizeof(junk), 0), (ssize_t)sizeof(junk));
	for (int i = 0; i < 4; i++)
		close(fast[i]);
	cr_expect_lt((unsigned)closed_after(noisy), 1500);
	/* Bytes that drip do not win time. */
	for (int i = 0; i < 15 && send(half, junk, 1, MSG_NOSIGNAL) == 1; i++)
		nap_ms(100);
	cr_expect_lt((unsigned)closed_after(half), 8000);
	cr_expect_lt((unsigned)closed_after(silent), 8000);
	come(&j, (struct arrival){ 1, 2, 60000, 0 });
	job_end(&j, 0);
	SAID(j, 0, 0, "");
	SAID(j, 1, 0, "");
	close(silent);
	close(half);
	close(noisy);
}

Test(strangers, a_silent_one_is_dropped_in_time_and_not_before)
{
	struct job j = job_make();
	char path[192];
	int fd, ms;

	come(&j, (struct arrival){ 0, 2, 60000, 0 });
	wait_for_door(&j, path);
	fd = knock(path);
	ms = closed_after(fd);
	close(fd);
	cr_expect(ms > 1000 && ms < 10000, "after %d ms", ms);
	come(&j, (struct arrival){ 1, 2, 60000, 0 });
	job_end(&j, 0);
	SAID(j, 0, 0, "");
}

/* While strays pour in without end the others still come through. */
Test(strangers, a_flood)
{
	struct job j = job_make();
	char path[192];
	pid_t flood;

	come(&j, (struct arrival){ 0, 4, 60000, 0 });
	wait_for_door(&j, path);
	flood = rank_fork();
	cr_assert_geq(flood, 0);
	while (flood == 0) {
		static int fds[400], n;

		if (n >= 400)
			close(fds[n % 400]);
		fds[n++ % 400] = knock(path);
		if (n > 100)
			nap_ms(1);
	}
	nap_ms(100);
	for (int r = 1; r < 4; r++)
		come(&j, (struct arrival){ r, 4, 60000, 0 });
	cr_assert_eq(ranks_wait(j.pids, j.n, 0, 60), 0);
	kill(flood, SIGKILL);
	waitpid(flood, NULL, 0);
	cr_assert_eq(folder_gone(j.base), 0);
	for (int r = 0; r < 4; r++)
		SAID(j, r, 0, "");
}

/* ---- secrets ---- */

static void write_secret(const char *base, const char *name, char digit, mode_t mode)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", base, name);
	f = fopen(path, "w");
	cr_assert_not_null(f);
	for (int i = 0; i < 64; i++)
		fputc(i % 2 ? digit : '0', f);
	fclose(f);
	cr_assert_eq(chmod(path, mode), 0);
}

static void set_env(const struct job *j, int rank, const char *secret)
{
	char text[160];

	snprintf(text, sizeof(text), "unix:%s/run/meet", j->base);
	setenv("COLLX_ADDR", text, 1);
	snprintf(text, sizeof(text), "%s/%s", j->base, secret);
	setenv("COLLX_SECRET_FILE", text, 1);
	snprintf(text, sizeof(text), "%d", rank);
	setenv("COLLX_RANK", text, 1);
	setenv("COLLX_SIZE", "2", 1);
}

static void remove_secret(const struct job *j, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", j->base, name);
	cr_assert_eq(unlink(path), 0);
}

Test(secrets, a_wrong_one_is_turned_away_and_the_job_goes_on)
{
	struct job j = job_make();
	char path[192];

	write_secret(j.base, "right", '1', 0600);
	write_secret(j.base, "wrong", '2', 0600);
	set_env(&j, 0, "right");
	come(&j, (struct arrival){ 0, 0, 60000, 0 });
	wait_for_door(&j, path);
	set_env(&j, 1, "wrong");
	come(&j, (struct arrival){ 0, 0, 60000, 0 });
	cr_assert_eq(ranks_wait(j.pids + 1, 1, 0, 30), 0);
	SAID(j, 1, COLLX_ERR_AUTH, "secret");
	cr_expect_lt(j.report->ms[1], 1500);
	set_env(&j, 1, "right");
	come(&j, (struct arrival){ 0, 0, 60000, 0 });
	remove_secret(&j, "wrong");
	cr_assert_eq(ranks_wait(j.pids, j.n, 0, 60), 0);
	remove_secret(&j, "right");
	cr_assert_eq(folder_gone(j.base), 0);
	SAID(j, 0, 0, "");
	SAID(j, 2, 0, "");
}

Test(secrets, a_wrong_one_is_in_the_report_when_nobody_else_came)
{
	struct job j = job_make();

	write_secret(j.base, "right", '1', 0600);
	write_secret(j.base, "wrong", '2', 0600);
	set_env(&j, 0, "right");
	come(&j, (struct arrival){ 0, 0, 2500, 0 });
	set_env(&j, 1, "wrong");
	come(&j, (struct arrival){ 0, 0, 2500, 0 });
	cr_assert_eq(ranks_wait(j.pids, j.n, 0, 60), 0);
	remove_secret(&j, "right");
	remove_secret(&j, "wrong");
	cr_assert_eq(folder_gone(j.base), 0);
	SAID(j, 0, COLLX_ERR_INIT_TIMEOUT, "3 connections refused");
	SAID(j, 1, COLLX_ERR_AUTH, "secret");
}

Test(secrets, a_file_of_another_user)
{
	struct job j = job_make();
	char path[128];

	if (geteuid())
		cr_skip_test("only root can give a file away");
	write_secret(j.base, "theirs", '1', 0600);
	snprintf(path, sizeof(path), "%s/theirs", j.base);
	cr_assert_eq(chown(path, NOBODY, NOBODY), 0);
	set_env(&j, 0, "theirs");
	come(&j, (struct arrival){ 0, 0, 1000, 0 });
	cr_assert_eq(ranks_wait(j.pids, j.n, 0, 60), 0);
	remove_secret(&j, "theirs");
	cr_assert_eq(folder_gone(j.base), 0);
	SAID(j, 0, COLLX_ERR_AUTH, "theirs");
}

/* ---- other users ---- */

Test(users, another_one_cannot_even_knock)
{
	struct job j = job_make();
	char path[192];

	if (geteuid())
		cr_skip_test("only root can become another user");
	come(&j, (struct arrival){ 0, 2, 60000, 0 });
	wait_for_door(&j, path);
	come(&j, (struct arrival){ 1, 2, 60000, NOBODY });
	cr_assert_eq(ranks_wait(j.pids + 1, 1, 0, 30), 0);
	SAID(j, 1, COLLX_ERR_SYSTEM, "Permission denied");
	come(&j, (struct arrival){ 1, 2, 60000, 0 });
	job_end(&j, 0);
	SAID(j, 0, 0, "");
	SAID(j, 2, 0, "");
}

/* The folder's protection is gone: rank 0 looks at who it is, and does not even
 * send its challenge; a rank, too, does not prove itself to another user. */
Test(users, another_one_at_an_open_door)
{
	struct job j = job_make();
	char path[192], folder[80], b[8];
	pid_t pid;

	if (geteuid())
		cr_skip_test("only root can become another user");
	come(&j, (struct arrival){ 0, 2, 60000, 0 });
	wait_for_door(&j, path);
	snprintf(folder, sizeof(folder), "%s/run", j.base);
	cr_assert(!chmod(j.base, 0711) && !chmod(folder, 0711) && !chmod(path, 0777));
	pid = rank_fork();
	if (pid == 0) {
		int fd;

		EXPECT(!setgid(NOBODY) && !setuid(NOBODY), "setuid: %s", strerror(errno));
		fd = knock(path);
		EXPECT(fd >= 0, "the door is closed: %s", strerror(errno));
		EXPECT(recv(fd, b, sizeof(b), 0) <= 0, "rank 0 talks to another user");
		rank_exit();
	}
	cr_assert_eq(ranks_wait(&pid, 1, 0, 30), 0);
	come(&j, (struct arrival){ 1, 2, 60000, NOBODY });
	cr_assert_eq(ranks_wait(j.pids + 1, 1, 0, 30), 0);
	SAID(j, 1, COLLX_ERR_AUTH, "another user");
	cr_assert(!chmod(folder, 0700) && !chmod(j.base, 0700));
	come(&j, (struct arrival){ 1, 2, 60000, 0 });
	job_end(&j, 0);
	SAID(j, 0, 0, "");
	SAID(j, 2, 0, "");
}

/* ---- the folder ---- */

enum harm { OPEN, NOT_OURS, LINK, FILE_THERE };

static void bad_folder(enum harm harm)
{
	struct job j = job_make();
	char folder[80], other[80];

	snprintf(folder, sizeof(folder), "%s/run", j.base);
	snprintf(other, sizeof(other), "%s/other", j.base);
	if (harm == LINK)
		cr_assert(!mkdir(other, 0700) && !symlink(other, folder));
	else if (harm == FILE_THERE)
		close(open(folder, O_CREAT | O_WRONLY, 0600));
	else
		cr_assert(!mkdir(folder, 0700));
	if (harm == OPEN)
		cr_assert(!chmod(folder, 0750));
	if (harm == NOT_OURS)
		cr_assert(!chown(folder, NOBODY, NOBODY));
	come(&j, (struct arrival){ 0, 2, 1000, 0 });
	come(&j, (struct arrival){ 1, 2, 30000, 0 });
	cr_assert_eq(ranks_wait(j.pids, j.n, 0, 60), 0);
	SAID(j, 0, COLLX_ERR_AUTH, folder);
	SAID(j, 1, COLLX_ERR_AUTH, folder);
	cr_expect_lt(j.report->ms[0], 900);
	cr_expect_lt(j.report->ms[1], 15000);
	cr_assert(!(harm == LINK || harm == FILE_THERE ? unlink(folder) : rmdir(folder)));
	if (harm == LINK)
		cr_assert(!rmdir(other));
	cr_assert_eq(folder_gone(j.base), 0);
}

Test(folder, must_be_private)
{
	bad_folder(OPEN);
	bad_folder(LINK);
	bad_folder(FILE_THERE);
	if (!geteuid())
		bad_folder(NOT_OURS);
}

Test(folder, must_have_a_short_absolute_name)
{
	char longer[200];
	collx_unique_id id;

	setenv("COLLX_INTERFACE", "lo", 1);
	memset(longer, 'l', sizeof(longer));
	longer[0] = '/';
	longer[sizeof(longer) - 1] = '\0';
	for (size_t n = sizeof(longer) - 1; n > 1; n--) {
		int rc;

		longer[n] = '\0';
		setenv("COLLX_RUNTIME_DIR", longer, 1);
		rc = collx_get_unique_id(&id);
		cr_assert(rc == (n > 53 ? COLLX_ERR_INVALID : 0), "%zu characters: %d: %s", n, rc,
			  cx_error_text());
		cr_assert(!rc || strstr(cx_error_text(), "COLLX_RUNTIME_DIR"));
	}
	setenv("COLLX_RUNTIME_DIR", "relative/path", 1);
	cr_assert_eq(collx_get_unique_id(&id), COLLX_ERR_INVALID);
	cr_assert_not_null(strstr(cx_error_text(), "COLLX_RUNTIME_DIR"));
}

Test(folder, that_cannot_be_made_is_named)
{
	struct job j = job_make();

	setenv("COLLX_RUNTIME_DIR", "/proc/collx", 1);
	cr_assert_eq(collx_get_unique_id(&j.id), 0);
	come(&j, (struct arrival){ 0, 2, 1000, 0 });
	job_end(&j, 0);
	SAID(j, 0, COLLX_ERR_SYSTEM, "/proc/collx");
}

/* ---- killed while they meet ---- */

Test(killed, rank_0_leaves_a_socket_that_the_next_job_sweeps)
{
	struct job j = job_make();
	char path[192];

	come(&j, (struct arrival){ 0, 2, 60000, 0 });
	wait_for_door(&j, path);
	kill(j.pids[0], SIGKILL);
	cr_assert_eq(ranks_wait(j.pids, 1, 1, 30), 0);
	cr_assert_eq(access(path, F_OK), 0, "the kernel removed the socket?");
	cr_assert_eq(collx_get_unique_id(&j.id), 0);
	come(&j, (struct arrival){ 0, 2, 60000, 0 });
	come(&j, (struct arrival){ 1, 2, 60000, 0 });
	job_end(&j, 0);
	SAID(j, 1, 0, "");
	SAID(j, 2, 0, "");
}

Test(killed, rank_0_restarts_at_its_own_stale_socket)
{
	struct job j = job_make();
	char path[192];

	come(&j, (struct arrival){ 0, 2, 60000, 0 });
	wait_for_door(&j, path);
	kill(j.pids[0], SIGKILL);
	cr_assert_eq(ranks_wait(j.pids, 1, 1, 30), 0);
	come(&j, (struct arrival){ 1, 2, 60000, 0 });
	nap_ms(20);
	come(&j, (struct arrival){ 0, 2, 60000, 0 });
	job_end(&j, 0);
	SAID(j, 1, 0, "");
	SAID(j, 2, 0, "");
}

static struct cx_sys counting;
static int receipts, told_fd;

/* A challenge, a confirmation, a welcome: the third receipt means a seat. */
static long tell_of_seat(int fd, struct msghdr *msg)
{
	long n = cx_sys_real.recvmsg(fd, msg);

	if (n > 0 && ++receipts == 3 && write(told_fd, "x", 1) != 1)
		_exit(4);
	return n;
}

enum until { SEATED, MET };

/* A rank that says through the pipe when it has its seat, or when all have met, and
 * does nothing more. Rank 0's death is what may end it. */
static pid_t sit_down(const struct job *j, int rank, int size, int told, enum until until)
{
	struct cx_meeting m = { .rank = rank, .ranks = size, .deadline_ns = UINT64_MAX };
	struct cx_boot *b;
	pid_t pid = rank_fork();
	int rc;

	if (pid)
		return pid;
	counting = cx_sys_real;
	counting.recvmsg = tell_of_seat;
	told_fd = told;
	if (until == SEATED)
		cx_sys = &counting;
	/* The id's layout is collx.c's: version, flags, key, place. */
	if (cx_place_parse(&m.place, (const char *)j->id.bytes + 36) ||
	    cx_secret_init(&m.secret, j->id.bytes + 4))
		_exit(3);
	rc = cx_boot_open(&b, &m);
	if (rc) {
		EXPECT(rc == COLLX_ERR_PEER_DEAD && strstr(cx_error_text(), "rank 0 died"),
		       "%s: %s", collx_strerror(rc), cx_error_text());
		rank_exit();
	}
	if (until == MET && write(told, "x", 1) != 1)
		_exit(3);
	while (1)
		pause();
}

/* Starts one, waits for its word, and until then, kills it. */
static void sit_down_and_die(const struct job *j, int rank, int size, uint64_t until_ms)
{
	int told[2];
	pid_t pid;
	char c;

	cr_assert_eq(pipe(told), 0);
	pid = sit_down(j, rank, size, told[1], SEATED);
	cr_assert_eq(read(told[0], &c, 1), 1);
	while (now_ms() < until_ms)
		nap_ms(1);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(told[0]);
	close(told[1]);
}

Test(killed, a_rank_that_had_its_seat_may_come_again)
{
	struct job j = job_make();

	come(&j, (struct arrival){ 0, 3, 60000, 0 });
	for (int i = 0; i < 3; i++)
		sit_down_and_die(&j, 1, 3, 0);
	come(&j, (struct arrival){ 1, 3, 60000, 0 });
	come(&j, (struct arrival){ 2, 3, 60000, 0 });
	job_end(&j, 0);
	for (int r = 0; r < 3; r++)
		SAID(j, r, 0, "");
}

Test(killed, a_rank_that_had_its_seat_and_does_not_come_again)
{
	struct job j = job_make();

	come(&j, (struct arrival){ 0, 4, 60000, 0 });
	come(&j, (struct arrival){ 2, 4, 60000, 0 });
	sit_down_and_die(&j, 1, 4, 0);
	job_end(&j, 0);
	for (int i = 0; i < 2; i++) {
		SAID(j, i, COLLX_ERR_PEER_DEAD, "rank 1 died while the ranks met at unix:");
		cr_expect(j.report->ms[i] >= 1000 && j.report->ms[i] < 10000, "%d ms",
			  j.report->ms[i]);
	}
}

/* The deadline comes before the second is over. */
Test(killed, a_rank_that_could_still_come_again)
{
	struct job j = job_make();
	uint64_t since;

	come(&j, (struct arrival){ 0, 4, 3000, 0 });
	while (!(since = __atomic_load_n(&j.report->since_ms[0], __ATOMIC_ACQUIRE)))
		nap_ms(1);
	come(&j, (struct arrival){ 2, 4, 3000, 0 });
	sit_down_and_die(&j, 1, 4, since + 2500);
	job_end(&j, 0);
	for (int i = 0; i < 2; i++)
		SAID(j, i, COLLX_ERR_INIT_TIMEOUT,
		     "before the deadline; rank 1 had come, and its process ended");
}

Test(killed, a_rank_when_all_had_come)
{
	struct job j = job_make();
	int told[2];
	char c;
	pid_t pid;

	cr_assert_eq(pipe(told), 0);
	come(&j, (struct arrival){ 0, 3, 60000, 0 });
	come(&j, (struct arrival){ 2, 3, 60000, 0 });
	pid = sit_down(&j, 1, 3, told[1], MET);
	cr_assert_eq(read(told[0], &c, 1), 1);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	job_end(&j, 0);
	SAID(j, 0, COLLX_ERR_PEER_DEAD, "rank 1 died");
	SAID(j, 1, COLLX_ERR_PEER_DEAD, "rank 1 died");
	close(told[0]);
	close(told[1]);
}

Test(killed, rank_0_while_others_wait)
{
	struct job j = job_make();
	char path[192], c;
	int told[2];

	cr_assert_eq(pipe(told), 0);
	come(&j, (struct arrival){ 0, 3, 60000, 0 });
	wait_for_door(&j, path);
	j.pids[j.n++] = sit_down(&j, 1, 3, told[1], SEATED);
	cr_assert_eq(read(told[0], &c, 1), 1);
	kill(j.pids[0], SIGKILL);
	cr_assert_eq(ranks_wait(j.pids, 2, 1, 30), 0);
	unlink(path);
	*strrchr(path, '/') = '\0';
	rmdir(path);
	cr_assert_eq(folder_gone(j.base), 0);
	close(told[0]);
	close(told[1]);
}
