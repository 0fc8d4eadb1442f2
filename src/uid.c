/* SPDX-License-Identifier: BSD-3-Clause */
/* What is in a unique id; see uid.h. */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "host.h"
#include "net.h"
#include "uid.h"
#include "vault.h"

enum {
	HAS_HOST = 1, /* flag: host names the host of the place */
	KEPT_MAX = 16 /* ports; beyond that the oldest one may be lost to others */
};

/* The 128 bytes of a collx_unique_id. */
struct id {
	uint16_t version;
	uint16_t flags;
	unsigned char key[CX_SECRET_BYTES];
	union {
		char where[COLLX_UNIQUE_ID_BYTES - 4 - CX_SECRET_BYTES];
		struct {
			char text[COLLX_UNIQUE_ID_BYTES - 12 - CX_SECRET_BYTES];
			unsigned char host[8];
		} tcp;
	} at;
};
_Static_assert(sizeof(struct id) == COLLX_UNIQUE_ID_BYTES, "layout of a unique id");
_Static_assert(sizeof(((struct id *)0)->at.tcp.text) > sizeof("tcp:[]:65535") + 39,
	       "a numeric place fits");

/* ---- ports kept from others ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	struct {
		bool used;
		int fd;
		unsigned char job[CX_JOB_BYTES];
	} kept[KEPT_MAX];
	unsigned next;
} ports;
static pthread_once_t watching = PTHREAD_ONCE_INIT;

/* The descriptors closed at the fork, and their numbers may be anybody's soon. */
static void in_child(void)
{
	lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	memset(&ports, 0, sizeof(ports));
}

size_t cx_uid_swap(void *save, const void *load)
{
	if (save)
		memcpy(save, &ports, sizeof(ports));
	if (load)
		memcpy(&ports, load, sizeof(ports));
	else
		in_child();
	return sizeof(ports);
}

static void watch_forks(void)
{
	cx_fork_watch();
	pthread_atfork(NULL, NULL, in_child);
}

static void keep(int fd, const unsigned char job[CX_JOB_BYTES])
{
	int old;

	pthread_once(&watching, watch_forks);
	pthread_mutex_lock(&lock);
	old = ports.kept[ports.next].used ? ports.kept[ports.next].fd : -1;
	ports.kept[ports.next].used = true;
	ports.kept[ports.next].fd = fd;
	memcpy(ports.kept[ports.next].job, job, CX_JOB_BYTES);
	ports.next = (ports.next + 1) % KEPT_MAX;
	pthread_mutex_unlock(&lock);
	if (old >= 0)
		cx_sys->close(old);
}

void cx_uid_release(const unsigned char job[CX_JOB_BYTES])
{
	int fd = -1;

	pthread_mutex_lock(&lock);
	for (int i = 0; i < KEPT_MAX && fd < 0; i++)
		if (ports.kept[i].used && !memcmp(ports.kept[i].job, job, CX_JOB_BYTES)) {
			fd = ports.kept[i].fd;
			ports.kept[i].used = false;
		}
	pthread_mutex_unlock(&lock);
	if (fd >= 0)
		cx_sys->close(fd);
}

/* ---- making ---- */

static int too_long(const char *what, size_t len, size_t most)
{
	return cx_fail(COLLX_ERR_INVALID, "%s is %zu characters too long for a unique id", what,
		       len - most);
}

static int write_where(struct id *made, const char *where, const char *what)
{
	if (strlen(where) >= sizeof(made->at.where))
		return too_long(what, strlen(where), sizeof(made->at.where) - 1);
	strcpy(made->at.where, where);
	return 0;
}

static int at_this_host(struct id *made, const struct cx_secret *secret)
{
	char where[CX_MEET_MAX];
	int rc = cx_host_meeting(where, sizeof(where), secret->job);

	return rc ? rc : write_where(made, where, "COLLX_RUNTIME_DIR");
}

/* Keeps a port at that address and writes its place. */
static int at_port(struct id *made, const struct cx_secret *secret, struct cx_place *own)
{
	int fd = cx_place_reserve(own), rc;
	uint64_t host = cx_host_id();

	if (fd < 0)
		return fd;
	rc = write_where(made, own->name, "the place");
	if (rc) {
		cx_sys->close(fd);
		return rc;
	}
	keep(fd, secret->job);
	memcpy(made->at.tcp.host, &host, sizeof(host));
	made->flags = HAS_HOST;
	return 0;
}

static int at_chosen(struct id *made, const struct cx_secret *secret)
{
	struct cx_net *net = cx_alloc(1, sizeof(*net));
	struct cx_place own;
	char why[128];
	long port = 0;
	int rc = net ? cx_net_read(net) : COLLX_ERR_NOMEM;

	if (!rc)
		rc = cx_net_choose(net, NULL, &own, why, sizeof(why));
	cx_free(net);
	if (rc)
		return rc;
	if (cx_place_is_local(&own))
		return at_this_host(made, secret);
	rc = cx_env_int(CX_ENV_PORT, 1, 65535, &port);
	if (rc > 0)
		rc = cx_place_set_port(&own, (int)port);
	return rc ? rc : at_port(made, secret, &own);
}

/* COLLX_ADDR as it stands, as a host's name may mean different addresses to different
 * hosts; but port 0 has to become one here. */
static int at_fixed(struct id *made, const struct cx_secret *secret, const char *fixed,
		    uint64_t deadline_ns)
{
	struct cx_place own;
	size_t len = strlen(fixed);
	int rc;

	if (len < 2 || strcmp(fixed + len - 2, ":0"))
		return write_where(made, fixed, "COLLX_ADDR");
	rc = cx_place_find(&own, fixed, deadline_ns, NULL, NULL);
	return rc ? rc : at_port(made, secret, &own);
}

static int at_address(struct id *made, const struct cx_secret *secret, const struct cx_place *at)
{
	struct cx_place own = *at;
	int rc;

	if (cx_place_is_local(at))
		return at_this_host(made, secret);
	rc = cx_place_set_port(&own, 0);
	return rc ? rc : at_port(made, secret, &own);
}

static int draw(struct id *made, struct cx_secret *secret)
{
	int rc = cx_sys->random(made->key, sizeof(made->key));

	if (rc)
		return cx_fail_errno(-rc, "random numbers");
	made->version = CX_WIRE_VERSION;
	return cx_secret_init(secret, made->key);
}

/* `at` may be NULL. */
static int make(struct id *made, struct cx_secret *secret, const struct cx_place *at,
		uint64_t deadline_ns)
{
	const char *fixed = cx_env_text(CX_ENV_ADDR);
	int rc = draw(made, secret);

	if (rc)
		return rc;
	if (at)
		return at_address(made, secret, at);
	if (!fixed)
		return at_chosen(made, secret);
	return strncmp(fixed, "tcp:", 4) ? at_this_host(made, secret)
					 : at_fixed(made, secret, fixed, deadline_ns);
}

void cx_uid_drop(const collx_unique_id *id)
{
	struct {
		struct id made;
		struct cx_secret secret;
	} *v = cx_vault_create(sizeof(*v));
	char line[CX_FAULT_TEXT_MAX];

	snprintf(line, sizeof(line), "%s", cx_error_text());
	if (!v)
		return;
	memcpy(&v->made, id, sizeof(*id));
	if (!cx_secret_init(&v->secret, v->made.key))
		cx_uid_release(v->secret.job);
	cx_vault_destroy(v, sizeof(*v));
	cx_fail(0, "%s", line);
}

static int make_one(collx_unique_id *id, const struct cx_place *at, uint64_t deadline_ns)
{
	struct {
		struct id made;
		struct cx_secret secret;
	} *v = cx_vault_create(sizeof(*v));
	int rc = v ? make(&v->made, &v->secret, at, deadline_ns) : COLLX_ERR_NOMEM;

	if (!rc)
		memcpy(id, &v->made, sizeof(*id));
	cx_vault_destroy(v, sizeof(*v));
	return rc;
}

int cx_uid_make(collx_unique_id *id, uint64_t deadline_ns)
{
	return make_one(id, NULL, deadline_ns);
}

int cx_uid_make_at(collx_unique_id *id, const struct cx_place *at)
{
	return make_one(id, at, 0);
}

/* ---- failures in the place of an id ---- */

/* Of version 0, as what is empty; code 0 then: no failure. */
struct failure {
	uint16_t version, none;
	int32_t code;
	char line[COLLX_UNIQUE_ID_BYTES - 8];
};
_Static_assert(sizeof(struct failure) == COLLX_UNIQUE_ID_BYTES, "it passes for an id");

void cx_uid_put_failure(collx_unique_id *id, int code)
{
	struct failure f = { .code = code };

	snprintf(f.line, sizeof(f.line), "%s", cx_error_text());
	memcpy(id, &f, sizeof(f));
}

/* It may be an id, whose secret is to be nowhere else. */
int cx_uid_failure(const collx_unique_id *id, int rank)
{
	const char *line = (const char *)id->bytes + offsetof(struct failure, line);
	const int most = sizeof(((struct failure *)0)->line) - 1;
	struct {
		uint16_t version, none;
		int32_t code;
	} head;

	memcpy(&head, id, sizeof(head));
	if (head.version || head.none || head.code >= 0)
		return 0;
	if (head.code < COLLX_ERR_INTERNAL)
		return cx_fail(COLLX_ERR_CORRUPT, "rank %d: its unique id is damaged", rank);
	return cx_fail(head.code, "rank %d: %.*s", rank, most, line);
}

/* ---- reading ---- */

int cx_uid_local(struct cx_meeting *m)
{
	char where[CX_MEET_MAX];
	int rc;

	if (m->place.addr.ss_family == AF_UNIX)
		return 0;
	rc = cx_host_meeting(where, sizeof(where), m->secret.job);
	return rc ? rc : cx_place_parse(&m->local, where);
}

static int read_place(const struct id *got, struct cx_meeting *m)
{
	size_t room = got->flags & HAS_HOST ? sizeof(got->at.tcp.text) : sizeof(got->at.where);
	int rc;

	if (!memchr(got->at.where, '\0', room))
		return cx_fail(COLLX_ERR_INVALID, "the unique id is damaged");
	rc = cx_place_find(&m->place, got->at.where, m->deadline_ns, m->stop, m->stop_ctx);
	if (!rc && got->flags & HAS_HOST)
		memcpy(&m->place.host, got->at.tcp.host, sizeof(m->place.host));
	return rc;
}

int cx_uid_read(const collx_unique_id *id, struct cx_meeting *m)
{
	struct id *got = cx_vault_create(sizeof(*got));
	int rc = 0;

	if (!got)
		return COLLX_ERR_NOMEM;
	memcpy(got, id, sizeof(*got));
	if (got->version != CX_WIRE_VERSION || got->flags & ~HAS_HOST)
		rc = cx_fail(COLLX_ERR_VERSION,
			     "the unique id is empty (did rank 0 fail?) or of another libcollx");
	if (!rc)
		rc = read_place(got, m);
	if (!rc)
		rc = cx_secret_init(&m->secret, got->key);
	if (!rc)
		rc = cx_uid_local(m);
	cx_vault_destroy(got, sizeof(*got));
	return rc;
}
