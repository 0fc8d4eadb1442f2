/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Calls that are wrong: each gives a code and a line that names what is wrong, in
 * bounded time, leaves nothing open, and an argument error spoils nothing. Calls
 * that do not fit each other never give a wrong result.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <criterion/criterion.h>

#include "src/base/base.h"
#include "tests/cases.h"
#include "tests/world.h"

/* ---- arguments ---- */

static void refused(collx_comm_t c, int rc, const char *text, int line)
{
	const char *said = collx_last_error(c);

	EXPECT(rc == COLLX_ERR_INVALID && strstr(said, text), "line %d: %s: '%s' has no '%s'",
	       line, collx_strerror(rc), said, text);
	cx_error_clear();
}
#define REFUSED(c, call, text) refused((c), (call), (text), __LINE__)

static void null_arguments(collx_comm_t c)
{
	char b[64];

	REFUSED(NULL, collx_allreduce(b, b, 1, COLLX_INT8, COLLX_SUM, NULL, NULL), "comm");
	REFUSED(NULL, collx_reduce_scatter(b, b, 1, COLLX_INT8, COLLX_SUM, NULL, NULL), "comm");
	REFUSED(NULL, collx_allgather(b, b, 1, COLLX_INT8, NULL, NULL), "allgather: comm");
	REFUSED(NULL, collx_broadcast(b, b, 1, COLLX_INT8, 0, NULL, NULL), "broadcast: comm");
	REFUSED(NULL, collx_reduce(b, b, 1, COLLX_INT8, COLLX_SUM, 0, NULL, NULL), "reduce: comm");
	REFUSED(NULL, collx_barrier(NULL, NULL), "barrier: comm");
	REFUSED(NULL, collx_comm_rank(NULL), "comm");
	REFUSED(NULL, collx_comm_size(NULL), "comm");
	REFUSED(c, collx_allreduce(NULL, b, 1, COLLX_INT8, COLLX_SUM, c, NULL), "sendbuf");
	REFUSED(c, collx_allreduce(b, NULL, 1, COLLX_INT8, COLLX_SUM, c, NULL), "recvbuf");
	REFUSED(c, collx_reduce_scatter(NULL, b, 1, COLLX_INT8, COLLX_SUM, c, NULL), "sendbuf");
	REFUSED(c, collx_reduce_scatter(b, NULL, 1, COLLX_INT8, COLLX_SUM, c, NULL), "recvbuf");
	REFUSED(c, collx_allgather(NULL, b, 1, COLLX_INT8, c, NULL), "sendbuf");
	REFUSED(c, collx_allgather(b, NULL, 1, COLLX_INT8, c, NULL), "recvbuf");
	REFUSED(c, collx_broadcast(NULL, b, 1, COLLX_INT8, 0, c, NULL), "sendbuf");
	REFUSED(c, collx_broadcast(b, NULL, 1, COLLX_INT8, 0, c, NULL), "recvbuf");
	REFUSED(c, collx_reduce(NULL, b, 1, COLLX_INT8, COLLX_SUM, 0, c, NULL), "sendbuf");
	REFUSED(c, collx_reduce(b, NULL, 1, COLLX_INT8, COLLX_SUM, 0, c, NULL), "recvbuf");
	EXPECT(collx_comm_destroy(NULL) == COLLX_OK, "destroying NULL");
}

static void odd_values(collx_comm_t c)
{
	char a[64], b[64];

	REFUSED(c, collx_allreduce(a, b, 1, (collx_type)10, COLLX_SUM, c, NULL), "type 10");
	REFUSED(c, collx_allreduce(a, b, 1, (collx_type)-1, COLLX_SUM, c, NULL), "type -1");
	REFUSED(c, collx_allgather(a, b, 1, (collx_type)77, c, NULL), "type 77");
	REFUSED(c, collx_allreduce(a, b, 1, COLLX_INT8, (collx_op)5, c, NULL), "operation 5");
	REFUSED(c, collx_reduce(a, b, 1, COLLX_INT8, (collx_op)-3, 0, c, NULL), "operation -3");
	REFUSED(c, collx_broadcast(a, b, 1, COLLX_INT8, -1, c, NULL), "root -1");
	REFUSED(c, collx_broadcast(a, b, 1, COLLX_INT8, 1, c, NULL), "root 1 of 1");
	REFUSED(c, collx_reduce(a, b, 1, COLLX_INT8, COLLX_SUM, 99, c, NULL), "root 99");
	REFUSED(c, collx_allreduce(a, b, SIZE_MAX, COLLX_INT32, COLLX_SUM, c, NULL),
		"18446744073709551615");
	REFUSED(c, collx_allreduce(a, b, SIZE_MAX / 2, COLLX_INT8, COLLX_SUM, c, NULL),
		"9223372036854775807");
	REFUSED(c, collx_allgather(a, b, ((size_t)1 << 61) + 3, COLLX_FLOAT64, c, NULL),
		"2305843009213693955");
}

static void odd_options(collx_comm_t c)
{
	collx_opts o = COLLX_OPTS_INIT;
	char a[4], b[4];

	o.size = 0;
	REFUSED(c, collx_allreduce(a, b, 4, COLLX_INT8, COLLX_SUM, c, &o), "opts");
	o.size = sizeof(o) - 1;
	REFUSED(c, collx_barrier(c, &o), "opts");
	o = (collx_opts)COLLX_OPTS_INIT;
	o.flags = 8;
	REFUSED(c, collx_broadcast(a, b, 4, COLLX_INT8, 0, c, &o), "opts");
	o.flags = 0;
	o.timeout_ms = COLLX_NO_TIMEOUT;
	EXPECT(collx_barrier(c, &o) == 0, "no timeout: %s", collx_last_error(c));
}

static void overlaps(collx_comm_t c, int rank, int size)
{
	char b[256];

	REFUSED(c, collx_allreduce(b, b + 1, 4, COLLX_INT8, COLLX_SUM, c, NULL), "overlap");
	REFUSED(c, collx_allreduce(b + 15, b, 4, COLLX_INT32, COLLX_SUM, c, NULL), "overlap");
	if (size > 1) {
		int wrong = rank ? 0 : 4;

		REFUSED(c, collx_allgather(b + wrong, b, 4, COLLX_INT8, c, NULL), "overlap");
		REFUSED(c, collx_reduce_scatter(b, b + wrong, 4, COLLX_INT8, COLLX_SUM, c, NULL),
			"overlap");
		REFUSED(c, collx_allgather(b + 4 * size - 1, b, 4, COLLX_INT8, c, NULL), "overlap");
	}
	if (rank == 0) {
		REFUSED(c, collx_broadcast(b, b + 3, 4, COLLX_INT8, 0, c, NULL), "overlap");
		REFUSED(c, collx_reduce(b, b + 3, 4, COLLX_INT8, COLLX_SUM, 0, c, NULL), "overlap");
	}
}

/* The functions for when something failed. */
static void null_for_faults(collx_comm_t c)
{
	collx_error e = COLLX_ERROR_INIT;
	collx_straggler s = COLLX_STRAGGLER_INIT;
	collx_rank_health h[2];
	collx_comm_t none = NULL;
	uint64_t flags = 1;

	REFUSED(NULL, collx_comm_error(NULL, &e), "error: comm");
	REFUSED(NULL, collx_comm_event_fd(NULL), "event_fd: comm");
	REFUSED(NULL, collx_comm_straggler(NULL, &s), "straggler: comm");
	REFUSED(c, collx_comm_straggler(c, NULL), "COLLX_STRAGGLER_INIT");
	REFUSED(NULL, collx_comm_set_callback(NULL, NULL, NULL), "set_callback: comm");
	REFUSED(NULL, collx_comm_abort(NULL), "abort: comm");
	REFUSED(NULL, collx_comm_revoke(NULL), "revoke: comm");
	REFUSED(NULL, collx_comm_health(NULL, h, 1), "health: comm");
	REFUSED(NULL, collx_comm_dump(NULL, 1), "dump: comm");
	REFUSED(NULL, collx_comm_agree(NULL, &flags, NULL, NULL), "agree: comm");
	REFUSED(NULL, collx_comm_shrink(NULL, NULL, 0, &none, NULL), "shrink: comm");
	REFUSED(NULL, collx_comm_repair(NULL, NULL), "repair: comm");
	REFUSED(NULL, collx_comm_repair(&none, NULL), "repair: comm");
	REFUSED(NULL, collx_comm_grow(NULL, 1, NULL, &none, NULL), "grow: comm");
	REFUSED(NULL, collx_comm_origin(NULL, 0), "origin");
	REFUSED(c, collx_comm_set_callback(c, NULL, NULL), "fn");
	REFUSED(c, collx_comm_error(c, NULL), "COLLX_ERROR_INIT");
	e.size = sizeof(e) - 1;
	REFUSED(c, collx_comm_error(c, &e), "COLLX_ERROR_INIT");
	REFUSED(c, collx_comm_health(c, NULL, 1), "health");
	REFUSED(c, collx_comm_health(c, h, 2), "room for 2 of 1");
	REFUSED(c, collx_comm_health(c, h, -1), "room for -1");
	REFUSED(c, collx_comm_agree(c, NULL, NULL, NULL), "flags");
	collx_comm_abort_from_signal(NULL);
}

static void wrong_for_faults(collx_comm_t c, const collx_unique_id *id)
{
	const int beyond = 1, below = -1;
	collx_comm_t out = (void *)8;
	collx_opts o = COLLX_OPTS_INIT;
	uint64_t flags = 1;

	REFUSED(c, collx_comm_shrink(c, NULL, 0, NULL, NULL), "out");
	REFUSED(c, collx_comm_shrink(c, NULL, 1, &out, NULL), "exclude");
	REFUSED(c, collx_comm_shrink(c, &beyond, -1, &out, NULL), "exclude");
	REFUSED(c, collx_comm_shrink(c, &beyond, 2, &out, NULL), "exclude");
	REFUSED(c, collx_comm_shrink(c, &beyond, 1, &out, NULL), "rank 1 of 1");
	REFUSED(c, collx_comm_shrink(c, &below, 1, &out, NULL), "rank -1 of 1");
	REFUSED(c, collx_comm_grow(c, 1, id, NULL, NULL), "out");
	REFUSED(c, collx_comm_grow(c, 0, id, &out, NULL), "no joiners");
	REFUSED(c, collx_comm_grow(c, -1, id, &out, NULL), "no joiners");
	REFUSED(c, collx_comm_grow(c, 1, NULL, &out, NULL), "id");
	REFUSED(c, collx_comm_origin(c, 1), "rank 1 of 1");
	REFUSED(c, collx_comm_origin(c, -1), "rank -1 of 1");
	o.size = 1;
	REFUSED(c, collx_comm_agree(c, &flags, NULL, &o), "opts");
	REFUSED(c, collx_comm_shrink(c, NULL, 0, &out, &o), "opts");
	REFUSED(c, collx_comm_repair(&c, &o), "opts");
	REFUSED(c, collx_comm_grow(c, 1, id, &out, &o), "opts");
	EXPECT(out == (void *)8 && flags == 1, "an out-parameter was written");
	EXPECT(collx_comm_dump(c, 999) < 0, "a dump to no descriptor");
	EXPECT(collx_barrier(c, NULL) == 0, "spoilt: %s", collx_last_error(c));
}

/* One rank alone: everything works that makes sense. */
static void alone(collx_comm_t c)
{
	collx_error e = COLLX_ERROR_INIT;
	unsigned char alive[1] = { 7 };
	collx_comm_t next = NULL;
	uint64_t flags = 5;
	collx_rank_health h;

	EXPECT(collx_comm_error(c, &e) == 0 && e.code == COLLX_OK && e.rank == -1 &&
	       e.nranks == 0 && e.ranks[0] == -1 && e.ranks[COLLX_ERROR_RANKS - 1] == -1,
	       "%s", e.text);
	EXPECT(collx_comm_event_fd(c) >= 0, "%s", collx_last_error(c));
	EXPECT(!collx_comm_health(c, &h, 1) && h.state == COLLX_RANK_ALIVE, "health");
	EXPECT(!collx_comm_agree(c, &flags, alive, NULL) && flags == 5 && alive[0] == 1, "agree");
	EXPECT(!collx_comm_shrink(c, NULL, 0, &next, NULL) && collx_comm_size(next) == 1, "%s",
	       collx_last_error(NULL));
	EXPECT(!collx_barrier(next, NULL) && !collx_barrier(c, NULL), "they work");
	EXPECT(!collx_comm_repair(&next, NULL) && !collx_barrier(next, NULL), "repaired");
	EXPECT(!collx_comm_abort(next) && collx_barrier(next, NULL) == COLLX_ERR_ABORTED, "%s",
	       collx_last_error(next));
	EXPECT(!collx_comm_error(next, &e) && e.nranks == 1 && e.ranks[0] == 0 && e.ranks[1] == -1,
	       "%d, %d", e.nranks, e.ranks[0]);
	EXPECT(collx_comm_destroy(next) == COLLX_OK, "%s", collx_last_error(NULL));
	REFUSED(c, collx_comm_destroy(next), "destroyed already");
	REFUSED(c, collx_comm_destroy((collx_comm_t)(void *)e.text), "no communicator");
	EXPECT(!collx_barrier(c, NULL), "%s", collx_last_error(c));
}

static void faults_functions(collx_comm_t c, int rank, int size, void *arg)
{
	collx_unique_id id;

	(void)rank, (void)size, (void)arg;
	EXPECT(!collx_get_unique_id(&id), "%s", collx_last_error(NULL));
	null_for_faults(c);
	wrong_for_faults(c, &id);
	alone(c);
}

Test(arguments, of_what_is_for_faults)
{
	const struct world w = { .size = 1, .fn = faults_functions };

	cr_assert_eq(world_run(&w), 0);
}

/* Buffers that only touch, and counts of 0 with anything, are right. */
static void right_ones(collx_comm_t c)
{
	unsigned char b[64] = { 1, 2, 3, 4 };
	int rc;

	rc = collx_allreduce(b, b + 4, 4, COLLX_UINT8, COLLX_MAX, c, NULL);
	EXPECT(rc == 0 && !memcmp(b, b + 4, 4), "%s", collx_last_error(c));
	EXPECT(!collx_allreduce(NULL, NULL, 0, COLLX_INT8, COLLX_SUM, c, NULL), "count 0");
	EXPECT(!collx_allgather(NULL, b, 0, COLLX_INT8, c, NULL), "count 0");
	EXPECT(!collx_barrier(c, NULL), "%s", collx_last_error(c));
}

static void wrong_calls(collx_comm_t c, int rank, int size, void *arg)
{
	int fds = open_fds();

	(void)arg;
	if (size == 1) {
		null_arguments(c);
		odd_values(c);
	}
	odd_options(c);
	overlaps(c, rank, size);
	right_ones(c);
	EXPECT(collx_comm_rank(c) == rank && collx_comm_size(c) == size, "who am I");
	/* Fewer where others have left: the guard hangs up. */
	EXPECT(open_fds() <= fds && open_fds() > fds - size, "%d descriptors, %d before",
	       open_fds(), fds);
}

Test(arguments, of_calls)
{
	for (int size = 1; size <= 3; size++) {
		const struct world w = { .size = size, .fn = wrong_calls };

		cr_assert_eq(world_run(&w), 0);
	}
}

static int no_allgather(void *ctx, const void *send, void *recv, size_t len)
{
	(void)send;
	(void)recv;
	(void)len;
	return *(int *)ctx;
}

static void wrong_configs(const collx_unique_id *id)
{
	collx_config config = COLLX_CONFIG_INIT;
	collx_comm_t c = (void *)8;

	config.size = 3;
	REFUSED(NULL, collx_comm_create(&c, 1, id, 0, &config), "config");
	config = (collx_config)COLLX_CONFIG_INIT;
	config.flags = 2;
	REFUSED(NULL, collx_comm_create(&c, 1, id, 0, &config), "config");
	config.flags = 0;
	config.heartbeat_ms = 1000, config.silence_ms = 1500;
	REFUSED(NULL, collx_comm_create(&c, 1, id, 0, &config), "two heartbeats");
	config.heartbeat_ms = config.silence_ms = 0;
	setenv("COLLX_STRAGGLER_MS", "soon", 1);
	REFUSED(NULL, collx_comm_create(&c, 1, id, 0, &config), "COLLX_STRAGGLER_MS");
	setenv("COLLX_STRAGGLER_MS", "never", 1);
	setenv("COLLX_HEARTBEAT_MS", "never", 1);
	REFUSED(NULL, collx_comm_create(&c, 1, id, 0, &config), "two heartbeats");
	unsetenv("COLLX_HEARTBEAT_MS");
	setenv("COLLX_SILENCE_MS", "never", 1);
	REFUSED(NULL, collx_comm_create_from_env(&c, &config), "COLLX_SIZE");
	unsetenv("COLLX_SILENCE_MS");
	unsetenv("COLLX_STRAGGLER_MS");
	EXPECT(c == (void *)8, "an out-parameter was written");
}

/* The port that was kept for a communicator which does not come about is given back,
 * whether the exchange fails (1) or hands on what is no id (0). */
static void kept_ports(void)
{
	collx_comm_t c = NULL;
	int fds = open_fds();

	setenv("COLLX_ADDR", "tcp:127.0.0.1:0", 1);
	for (int fail = 0; fail < 2; fail++) {
		int rc = collx_comm_create_oob(&c, 2, no_allgather, &fail, 0, NULL);

		EXPECT(rc == (fail ? COLLX_ERR_SYSTEM : COLLX_ERR_VERSION) && !c, "%d: %s", rc,
		       collx_last_error(NULL));
		EXPECT(open_fds() == fds, "case %d: %d descriptors, %d before", fail, open_fds(),
		       fds);
	}
	unsetenv("COLLX_ADDR");
}

static void wrong_creations(const collx_unique_id *id, int rank, int size, void *arg)
{
	collx_unique_id zero = { { 0 } }, noise;
	collx_comm_t c = (void *)8;
	int fds = open_fds(), rc, fail = 1;

	(void)rank;
	(void)size;
	(void)arg;
	REFUSED(NULL, collx_get_unique_id(NULL), "id");
	REFUSED(NULL, collx_comm_create(NULL, 1, id, 0, NULL), "comm");
	REFUSED(NULL, collx_comm_create(&c, 1, NULL, 0, NULL), "id");
	REFUSED(NULL, collx_comm_create(&c, 0, id, 0, NULL), "of 0");
	REFUSED(NULL, collx_comm_create(&c, -2, id, 0, NULL), "of -2");
	REFUSED(NULL, collx_comm_create(&c, 1, id, 1, NULL), "rank 1 of 1");
	REFUSED(NULL, collx_comm_create(&c, INT32_MAX, id, 0, NULL), "65536 are the most");
	REFUSED(NULL, collx_comm_create(&c, 2, id, -1, NULL), "rank -1");
	REFUSED(NULL, collx_comm_create_oob(&c, 1, NULL, NULL, 0, NULL), "allgather");
	REFUSED(NULL, collx_comm_create_oob(NULL, 1, no_allgather, &fail, 0, NULL), "comm");
	rc = collx_comm_create_oob(&c, 1, no_allgather, &fail, 0, NULL);
	EXPECT(rc == COLLX_ERR_SYSTEM && strstr(collx_last_error(NULL), "allgather"), "%d", rc);
	rc = collx_comm_create(&c, 1, &zero, 0, NULL);
	EXPECT(rc == COLLX_ERR_VERSION && strstr(collx_last_error(NULL), "empty"), "%d", rc);
	memset(&noise, 'x', sizeof(noise));
	rc = collx_comm_create(&c, 1, &noise, 0, NULL);
	EXPECT(rc == COLLX_ERR_VERSION, "%d", rc);
	noise = *id;
	memset(noise.bytes + 64, 'x', 64);
	REFUSED(NULL, collx_comm_create(&c, 2, &noise, 1, NULL), "damaged");
	wrong_configs(id);
	kept_ports();
	EXPECT(c == (void *)8, "an out-parameter was written");
	EXPECT(fds_return(fds), "%d descriptors, %d before", open_fds(), fds);
}

Test(arguments, of_creation)
{
	const struct world w = { .size = 1, .raw = wrong_creations };

	cr_assert_eq(world_run(&w), 0);
}

Test(arguments, small_functions)
{
	cr_assert_eq(collx_version(), COLLX_VERSION);
	cr_assert_eq(collx_type_size(COLLX_BFLOAT16), 2);
	cr_assert_eq(collx_type_size(COLLX_UINT64), 8);
	cr_assert_eq(collx_type_size((collx_type)10), 0);
	cr_assert_eq(collx_type_size((collx_type)-1), 0);
}

/* ---- environment ---- */

struct setting {
	const char *name, *value; /* value NULL: unset */
	int code;
	const char *text;         /* in the line, besides the name */
	int rank;
};

/* Environment as collx-run sets it, for `rank` of two. */
static void good_env(const char *base, int rank)
{
	char text[128];
	FILE *f;

	snprintf(text, sizeof(text), "%s/secret", base);
	f = fopen(text, "w");
	for (int i = 0; f && i < 64; i++)
		fputc("0123456789abcdef"[i % 16], f);
	if (f)
		fclose(f);
	chmod(text, 0600);
	setenv("COLLX_SECRET_FILE", text, 1);
	snprintf(text, sizeof(text), "unix:%s/run/meet", base);
	setenv("COLLX_ADDR", text, 1);
	snprintf(text, sizeof(text), "%d", rank);
	setenv("COLLX_RANK", text, 1);
	setenv("COLLX_LOCAL_RANK", text, 1);
	setenv("COLLX_SIZE", "2", 1);
}

static const struct setting settings[] = {
	{ "COLLX_SIZE", NULL, COLLX_ERR_INVALID, "not set", 0 },
	{ "COLLX_SIZE", "two", COLLX_ERR_INVALID, "two", 0 },
	{ "COLLX_SIZE", "0", COLLX_ERR_INVALID, "=0", 0 },
	{ "COLLX_SIZE", "1", COLLX_ERR_INVALID, "COLLX_RANK=1 contradicts COLLX_SIZE=1", 1 },
	{ "COLLX_RANK", NULL, COLLX_ERR_INVALID, "not set", 0 },
	{ "COLLX_RANK", "-1", COLLX_ERR_INVALID, "-1", 0 },
	{ "COLLX_RANK", "0.5", COLLX_ERR_INVALID, "0.5", 0 },
	{ "COLLX_RANK", "2", COLLX_ERR_INVALID, "COLLX_RANK=2 contradicts COLLX_SIZE=2", 0 },
	{ "COLLX_LOCAL_RANK", "one", COLLX_ERR_INVALID, "one", 1 },
	{ "COLLX_LOCAL_RANK", "1", COLLX_ERR_INVALID, "contradicts COLLX_RANK=0", 0 },
	{ "COLLX_ADDR", NULL, COLLX_ERR_INVALID, "not set", 0 },
	{ "COLLX_SECRET_FILE", NULL, COLLX_ERR_INVALID, "not set", 0 },
	{ "COLLX_SECRET_FILE", "/none/such", COLLX_ERR_SYSTEM, "/none/such", 0 },
	{ "COLLX_SECRET_FILE", "/proc/self/status", COLLX_ERR_AUTH, "/proc/self/status", 1 },
	{ "COLLX_TIMEOUT_MS", "soon", COLLX_ERR_INVALID, "soon", 0 },
	{ "COLLX_TIMEOUT_MS", "0", COLLX_ERR_INVALID, "=0", 0 },
	{ "COLLX_CREATE_TIMEOUT_MS", "-5", COLLX_ERR_INVALID, "-5", 1 },
};

static void try_setting(const struct setting *s, const char *base)
{
	collx_comm_t c = (void *)8;
	uint64_t start = now_ms();
	const char *said;
	int fds = open_fds(), rc;

	if (s->value)
		setenv(s->name, s->value, 1);
	else
		unsetenv(s->name);
	rc = collx_comm_create_from_env(&c, NULL);
	said = collx_last_error(NULL);
	EXPECT(rc == s->code && strstr(said, s->text) &&
	       (strstr(said, s->name) || rc != COLLX_ERR_INVALID),
	       "%s=%s: %s: '%s'", s->name, s->value, collx_strerror(rc), said);
	EXPECT(c == (void *)8, "%s=%s: out-parameter written", s->name, s->value);
	EXPECT(fds_return(fds), "%s: %d descriptors, %d before", s->name, open_fds(), fds);
	EXPECT(now_ms() - start < 5000, "%s: took long in %s", s->name, base);
}

static void settings_of_one(const collx_unique_id *id, int rank, int size, void *arg)
{
	char base[64], secret[128];

	(void)id;
	(void)rank;
	(void)size;
	(void)arg;
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		if (folder_make(base))
			abort();
		good_env(base, settings[i].rank);
		snprintf(secret, sizeof(secret), "%s", getenv("COLLX_SECRET_FILE"));
		try_setting(&settings[i], base);
		unlink(secret);
		EXPECT(!folder_gone(base), "%s: something stays", settings[i].name);
	}
}

Test(environment, of_one_rank)
{
	const struct world w = { .size = 1, .raw = settings_of_one };

	cr_assert_eq(world_run(&w), 0);
}

/* What one rank finds wrong, both hear of: the same code and line. */
static const struct setting shared_settings[] = {
	{ "COLLX_ALGO", "allreduce:bogus", COLLX_ERR_INVALID, "allreduce:bogus", 0 },
	{ "COLLX_ALGO", "nonsense", COLLX_ERR_INVALID, "nonsense", 1 },
	{ "COLLX_TRANSPORT", "pigeon", COLLX_ERR_INVALID, "pigeon", 0 },
	{ "COLLX_TRANSPORT", "sim", COLLX_ERR_INVALID, "sim", 0 },
	{ "COLLX_KERNEL", "abacus", COLLX_ERR_INVALID, "abacus", 0 },
	{ "COLLX_KERNEL", "abacus", COLLX_ERR_INVALID, "abacus", 1 },
	{ "COLLX_SPIN_US", "x1", COLLX_ERR_INVALID, "x1", 0 },
	{ "COLLX_SPIN_US", "-7", COLLX_ERR_INVALID, "-7", 1 },
};

struct heard {
	int code[WORLD_MAX];
	char text[WORLD_MAX][512];
	const void *arg;
};

static struct heard *heard_make(const void *arg)
{
	struct heard *h = mmap(NULL, sizeof(*h), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(h, MAP_FAILED);
	h->arg = arg;
	return h;
}

static void note(struct heard *h, int rank, int code, collx_comm_t comm)
{
	h->code[rank] = code;
	snprintf(h->text[rank], sizeof(h->text[rank]), "%s", collx_last_error(comm));
}

static void setting_of_two(const collx_unique_id *id, int rank, int size, void *arg)
{
	struct heard *h = arg;
	const struct setting *s = h->arg;
	collx_comm_t c = NULL;
	int fds = open_fds();

	if (rank == s->rank)
		setenv(s->name, s->value, 1);
	note(h, rank, collx_comm_create(&c, size, id, rank, NULL), NULL);
	EXPECT(!c && fds_return(fds), "%s: %d descriptors, %d before", s->name, open_fds(), fds);
}

Test(environment, of_two_ranks)
{
	for (size_t i = 0; i < sizeof(shared_settings) / sizeof(shared_settings[0]); i++) {
		const struct setting *s = &shared_settings[i];
		struct heard *h = heard_make(s);
		const struct world w = { .size = 2, .raw = setting_of_two, .arg = h };

		cr_assert_eq(world_run(&w), 0);
		for (int r = 0; r < 2; r++)
			cr_expect(h->code[r] == s->code && strstr(h->text[r], s->name) &&
				  strstr(h->text[r], s->text), "%s=%s at rank %d: rank %d: %s: %s",
				  s->name, s->value, s->rank, r, collx_strerror(h->code[r]),
				  h->text[r]);
		cr_expect_str_eq(h->text[0], h->text[1]);
		munmap(h, sizeof(*h));
	}
}

/* ---- after an error ---- */

static void use_after_error(collx_comm_t c, int rank, int size, void *arg)
{
	struct heard *h = arg;
	collx_opts o = COLLX_OPTS_INIT;
	collx_error e = COLLX_ERROR_INIT;
	uint64_t end = now_ms() + 20000;
	char a[64] = { 0 }, b[64] = { 0 };
	int rc[8], n = 0;

	o.timeout_ms = 150;
	if (rank == size - 1) /* comes when another one has waited in vain */
		while (!e.code && now_ms() < end && !collx_comm_error(c, &e))
			nap_ms(5);
	while (!(rc[0] = collx_barrier(c, &o)) && n++ < 100)
		nap_ms(5);
	note(h, rank, rc[0], c);
	EXPECT(strlen(h->text[rank]) > 10, "rank %d: '%s'", rank, h->text[rank]);
	rc[1] = collx_allreduce(a, b, 4, COLLX_INT8, COLLX_SUM, c, NULL);
	rc[2] = collx_reduce_scatter(a, b, 4, COLLX_INT8, COLLX_SUM, c, NULL);
	rc[3] = collx_allgather(a, b, 4, COLLX_INT8, c, NULL);
	rc[4] = collx_broadcast(a, b, 4, COLLX_INT8, 0, c, NULL);
	rc[5] = collx_reduce(a, b, 4, COLLX_INT8, COLLX_SUM, 0, c, NULL);
	rc[6] = collx_allreduce(a, b, 0, COLLX_INT8, COLLX_SUM, c, NULL);
	rc[7] = collx_allreduce(a, b, 4, (collx_type)99, COLLX_SUM, c, NULL);
	for (int i = 1; i < 8; i++)
		EXPECT(rc[i] == rc[0], "rank %d: call %d gave %s after %s", rank, i,
		       collx_strerror(rc[i]), collx_strerror(rc[0]));
	EXPECT(!strcmp(collx_last_error(c), h->text[rank]), "'%s' became '%s'", h->text[rank],
	       collx_last_error(c));
	EXPECT(collx_comm_rank(c) == rank && collx_comm_size(c) == size, "rank or size is lost");
	(void)size;
}

Test(errors, stay)
{
	for (int size = 2; size <= 4; size++) {
		struct heard *h = heard_make(NULL);
		const struct world w = { .size = size, .fn = use_after_error, .arg = h };

		cr_assert_eq(world_run(&w), 0);
		for (int r = 0; r < size; r++)
			cr_expect_eq(h->code[r], COLLX_ERR_TIMEOUT, "rank %d: %s: %s", r,
				     collx_strerror(h->code[r]), h->text[r]);
		cr_expect_not_null(strstr(h->text[size - 1], "barrier"), "%s", h->text[size - 1]);
		munmap(h, sizeof(*h));
	}
}

/* ---- calls that do not fit ---- */

enum { MOST = 200000 };
/* The ranks may wait in a circle: no message is there to tell by, only the deadline. */
#define REDUCE_ROOT "reduce root"

struct mismatch {
	const char *name;
	struct cx_request usual, odd; /* odd: of one rank */
	int who;                      /* 0: the last rank, 1: the first */
};

#define CALL(coll, count, type, op, root) \
	{ CX_##coll, NULL, NULL, count, COLLX_##type, COLLX_##op, root }
static const struct mismatch mismatches[] = {
	{ "count", CALL(ALLREDUCE, 1000, INT32, SUM, 0), CALL(ALLREDUCE, 1001, INT32, SUM, 0), 0 },
	{ "much smaller count", CALL(ALLREDUCE, 1000, INT32, SUM, 0),
	  CALL(ALLREDUCE, 7, INT32, SUM, 0), 1 },
	{ "much larger count", CALL(ALLREDUCE, 1000, INT32, SUM, 0),
	  CALL(ALLREDUCE, MOST, INT32, SUM, 0), 0 },
	{ "type", CALL(ALLREDUCE, 1000, INT32, SUM, 0), CALL(ALLREDUCE, 1000, UINT32, SUM, 0), 0 },
	{ "op", CALL(ALLREDUCE, 1000, INT32, SUM, 0), CALL(ALLREDUCE, 1000, INT32, MAX, 0), 0 },
	{ "tiny op", CALL(ALLREDUCE, 1, INT32, SUM, 0), CALL(ALLREDUCE, 1, INT32, MAX, 0), 1 },
	{ "reduce_scatter type", CALL(REDUCE_SCATTER, 1000, INT32, SUM, 0),
	  CALL(REDUCE_SCATTER, 1000, FLOAT32, SUM, 0), 0 },
	{ "allgather count", CALL(ALLGATHER, 1000, INT32, SUM, 0),
	  CALL(ALLGATHER, 999, INT32, SUM, 0), 0 },
	{ REDUCE_ROOT, CALL(REDUCE, 1000, INT32, SUM, 0), CALL(REDUCE, 1000, INT32, SUM, 1), 0 },
	{ "reduce op", CALL(REDUCE, 1000, INT32, SUM, 0), CALL(REDUCE, 1000, INT32, MIN, 0), 0 },
	{ "broadcast count", CALL(BROADCAST, 1000, INT32, SUM, 0),
	  CALL(BROADCAST, 10, INT32, SUM, 0), 0 },
	{ "broadcast root", CALL(BROADCAST, 1000, INT32, SUM, 0),
	  CALL(BROADCAST, 1000, INT32, SUM, 1), 0 },
	{ "collective", CALL(ALLREDUCE, 1000, INT32, SUM, 0),
	  CALL(ALLGATHER, 1000, INT32, SUM, 0), 0 },
	{ "barrier", CALL(ALLREDUCE, 1000, INT32, SUM, 0), CALL(BARRIER, 1, INT32, SUM, 0), 0 },
	{ "barrier of the first", CALL(BROADCAST, 1000, INT32, SUM, 0),
	  CALL(BARRIER, 1, INT32, SUM, 0), 1 },
};

/* Where messages do not meet in the odd call itself they do in a barrier after it. */
static void call_mismatched(collx_comm_t c, int rank, int size, void *arg)
{
	struct heard *h = arg;
	const struct mismatch *m = h->arg;
	struct cx_request r = rank == (m->who ? 0 : size - 1) ? m->odd : m->usual;
	uint64_t start = now_ms();
	int rc;

	r.in = calloc(4 * MOST, 4);
	r.out = calloc(4 * MOST, 4);
	rc = case_call(c, &r, NULL);
	if (rc == 0 && (r.coll == CX_BROADCAST || r.coll == CX_REDUCE))
		rc = collx_barrier(c, NULL);
	note(h, rank, rc, c);
	EXPECT(now_ms() - start < 10000, "%s: rank %d took %d ms", m->name, rank,
	       (int)(now_ms() - start));
	free((void *)r.in);
	free(r.out);
}

static void check_mismatch(const struct mismatch *m, int size, int threads)
{
	collx_config config = COLLX_CONFIG_INIT;
	struct heard *h = heard_make(m);
	const struct world w = { .size = size, .threads = threads, .fn = call_mismatched,
				 .arg = h, .config = &config };
	int seen = 0;

	/* Elsewhere a rank that is late for its call is waited for. */
	config.op_timeout_ms = strcmp(m->name, REDUCE_ROOT) ? 6000 : 500;
	cr_assert_eq(world_run(&w), 0);
	for (int r = 0; r < size; r++) {
		cr_expect(h->code[r] == COLLX_ERR_MISMATCH || h->code[r] == COLLX_ERR_TIMEOUT,
			  "%s: rank %d of %d: %s: %s", m->name, r, size,
			  collx_strerror(h->code[r]), h->text[r]);
		cr_expect_gt(strlen(h->text[r]), 10);
		seen += h->code[r] == COLLX_ERR_MISMATCH;
	}
	if (!strcmp(m->name, REDUCE_ROOT))
		size = seen;
	cr_expect_eq(seen, size, "%s: %d of %d ranks got COLLX_ERR_MISMATCH; rank 0: %s, last: %s",
		     m->name, seen, size, h->text[0], h->text[w.size - 1]);
	munmap(h, sizeof(*h));
}

Test(errors, calls_that_do_not_fit, .timeout = 300)
{
	for (size_t i = 0; i < sizeof(mismatches) / sizeof(mismatches[0]); i++)
		for (int size = 2; size <= 4; size++)
			check_mismatch(&mismatches[i], size, i % 2 == 1);
}

/* Two ranks that both believe to be the root only send, and go on. What then lies
 * about must not pass for the data of a later call. */
static void stale_message(collx_comm_t c, int rank, int size, void *arg)
{
	int32_t old = 1, fresh = 2, got = 0;
	int rc;

	(void)size;
	(void)arg;
	rc = collx_broadcast(&old, &got, 1, COLLX_INT32, rank, c, NULL);
	if (!rc)
		rc = collx_broadcast(&fresh, &got, 1, COLLX_INT32, 0, c, NULL);
	if (!rc && rank == 0)
		rc = collx_barrier(c, NULL);
	EXPECT(rc == COLLX_ERR_MISMATCH, "rank %d: %s: %d: %s", rank, collx_strerror(rc), got,
	       collx_last_error(c));
}

Test(errors, an_old_message_is_not_taken_for_a_new_one)
{
	const struct world w = { .size = 2, .fn = stale_message };

	cr_assert_eq(world_run(&w), 0);
}
