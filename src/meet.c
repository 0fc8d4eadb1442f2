/* SPDX-License-Identifier: BSD-3-Clause */
/* The meeting of meet.h. Nothing a connection sends is looked at, beyond the
 * fixed-size proof, before the proof holds. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "meet.h"

enum {
	PENDING_MAX = 128,
	JOB_NAME_CHARS = 2 * CX_JOB_BYTES
};
static const uint64_t handshake_ns = 2000000000;

/* A connection that has not proved itself yet. */
struct pending {
	int fd;
	uint64_t deadline_ns;
	size_t have;
	unsigned char challenge[CX_CHALLENGE_BYTES];
	unsigned char proof[CX_PROOF_BYTES];
};

struct host {
	const struct cx_meeting *m;
	struct cx_wire *wires;
	int door;
	int missing;
	unsigned refused;      /* strangers so far */
	char why[128];         /* why the last one was */
	unsigned npending;
	struct pending pending[PENDING_MAX];
	struct pollfd fds[PENDING_MAX + 1];
};

/* ---- the place ---- */

static int parse_place(const char *where, struct sockaddr_un *addr)
{
	const char *path = where + 5;

	if (strncmp(where, "unix:/", 6) || strlen(path) >= sizeof(addr->sun_path))
		return cx_fail(COLLX_ERR_INVALID, "meeting point '%s' is not unix:/PATH", where);
	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	strcpy(addr->sun_path, path);
	return 0;
}

static int split_folder(const struct sockaddr_un *addr, char folder[sizeof(addr->sun_path)])
{
	strcpy(folder, addr->sun_path);
	*strrchr(folder, '/') = '\0';
	return folder[0] ? 0 : cx_fail(COLLX_ERR_INVALID, "meeting point in /");
}

/* Makes or accepts the folder; it must be ours alone. */
static int private_folder(const char *folder)
{
	struct stat st;

	if (mkdir(folder, 0700) && errno != EEXIST)
		return cx_fail_errno(errno, "folder %s for the ranks to meet in", folder);
	if (lstat(folder, &st))
		return cx_fail_errno(errno, "folder %s", folder);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077))
		return cx_fail(COLLX_ERR_AUTH,
			       "folder %s must be a directory of user %u with mode 0700; "
			       "COLLX_RUNTIME_DIR names another one",
			       folder, (unsigned)geteuid());
	return 0;
}

/* Does somebody listen there? */
static int answers(const struct sockaddr_un *addr)
{
	int fd = cx_sys->socket(AF_UNIX, SOCK_STREAM);
	int rc;

	if (fd < 0)
		return 1;
	rc = cx_sys->connect(fd, (const struct sockaddr *)addr, sizeof(*addr));
	cx_sys->close(fd);
	return rc != -ECONNREFUSED && rc != -ENOENT;
}

/* Removes the sockets of jobs that were killed while they met. */
static void sweep(const char *folder)
{
	DIR *dir = opendir(folder);
	struct dirent *d;

	while (dir && (d = readdir(dir))) {
		struct sockaddr_un addr = { .sun_family = AF_UNIX };

		if (strlen(d->d_name) != JOB_NAME_CHARS ||
		    strspn(d->d_name, "0123456789abcdef") != JOB_NAME_CHARS)
			continue;
		if ((size_t)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%s", folder,
				     d->d_name) < sizeof(addr.sun_path) &&
		    !answers(&addr))
			unlink(addr.sun_path);
	}
	if (dir)
		closedir(dir);
}

static int bind_at(int fd, const struct sockaddr_un *addr)
{
	char folder[sizeof(addr->sun_path)];
	int rc = split_folder(addr, folder);

	for (int tries = 0; !rc && tries < 8; tries++) {
		rc = private_folder(folder);
		if (rc)
			return rc;
		sweep(folder);
		rc = cx_sys->bind(fd, (const struct sockaddr *)addr, sizeof(*addr));
		if (rc == -EADDRINUSE && answers(addr))
			return cx_fail(COLLX_ERR_INVALID,
				       "rank 0 is taken: another process meets at %s",
				       addr->sun_path);
		if (rc == -EADDRINUSE)
			unlink(addr->sun_path);
		else if (rc != -ENOENT) /* ENOENT: another job just removed the empty folder */
			return rc ? cx_fail_errno(-rc, "meeting point %s", addr->sun_path) : 0;
		rc = 0;
	}
	return rc ? rc
		  : cx_fail(COLLX_ERR_SYSTEM, "meeting point %s keeps vanishing", addr->sun_path);
}

static int open_door(const struct sockaddr_un *addr)
{
	int fd = cx_sys->socket(AF_UNIX, SOCK_STREAM);
	int rc;

	if (fd < 0)
		return cx_fail_errno(-fd, "socket for %s", addr->sun_path);
	rc = bind_at(fd, addr);
	if (!rc) {
		rc = cx_sys->listen(fd, 1024);
		if (!rc)
			return fd;
		rc = cx_fail_errno(-rc, "listening at %s", addr->sun_path);
		unlink(addr->sun_path);
	}
	cx_sys->close(fd);
	return rc;
}

static void close_door(int fd, const struct sockaddr_un *addr)
{
	char folder[sizeof(addr->sun_path)];

	cx_sys->close(fd);
	unlink(addr->sun_path);
	if (!split_folder(addr, folder))
		rmdir(folder); /* fails while other jobs meet there */
}

/* ---- rank 0 ---- */

static void drop(struct host *h, unsigned i)
{
	cx_sys->close(h->pending[i].fd);
	h->pending[i] = h->pending[--h->npending];
}

static void refuse(struct host *h, unsigned i, const char *why)
{
	h->refused++;
	snprintf(h->why, sizeof(h->why), "%s", why);
	drop(h, i);
}

static int same_user(int fd)
{
	uint32_t uid;

	return !cx_sys->peer_uid(fd, &uid) && uid == geteuid();
}

static unsigned oldest(const struct host *h)
{
	unsigned first = 0;

	for (unsigned i = 1; i < h->npending; i++)
		if (h->pending[i].deadline_ns < h->pending[first].deadline_ns)
			first = i;
	return first;
}

/* Takes new connections in; the oldest silent one makes room. */
static int let_in(struct host *h)
{
	for (;;) {
		int fd = cx_sys->accept(h->door);
		struct pending *p;

		if (fd == -EAGAIN)
			return 0;
		if (fd < 0)
			return cx_fail_errno(-fd, "accepting at %s", h->m->where);
		if (h->npending == PENDING_MAX)
			refuse(h, oldest(h), "too many silent connections");
		p = &h->pending[h->npending++];
		*p = (struct pending){ .fd = fd, .deadline_ns = cx_now_ns() + handshake_ns };
		if (!same_user(fd))
			refuse(h, h->npending - 1, "a process of another user");
		else if (cx_auth_challenge(p->challenge) ||
			 cx_wire_put(fd, p->challenge, sizeof(p->challenge), 0))
			refuse(h, h->npending - 1, cx_error_text());
	}
}

/* 0, or what is wrong with a proved claim. */
static int check_claim(const struct host *h, const struct cx_claim *claim)
{
	if (claim->ranks != (uint32_t)h->m->ranks)
		return cx_fail(COLLX_ERR_INVALID, "rank %u says %u ranks, rank 0 says %d",
			       claim->rank, claim->ranks, h->m->ranks);
	if (claim->rank >= claim->ranks)
		return cx_fail(COLLX_ERR_INVALID, "a process came as rank %u of %u", claim->rank,
			       claim->ranks);
	if (claim->rank == 0 || h->wires[claim->rank].fd >= 0)
		return cx_fail(COLLX_ERR_INVALID, "rank %u is taken twice", claim->rank);
	return 0;
}

/* A proved connection becomes a rank's, or is told why the meeting ends. */
static int seat(struct host *h, unsigned i, const struct cx_claim *claim)
{
	struct pending *p = &h->pending[i];
	unsigned char confirm[CX_CONFIRM_BYTES];
	struct cx_wire *w = &h->wires[claim->rank], turned_away;
	int rc;

	if (cx_auth_confirm(&h->m->secret, p->challenge, p->proof, confirm) ||
	    cx_wire_put(p->fd, confirm, sizeof(confirm), 0)) {
		refuse(h, i, cx_error_text());
		return 0;
	}
	rc = check_claim(h, claim);
	if (rc)
		w = &turned_away;
	cx_wire_init(w, p->fd);
	h->pending[i] = h->pending[--h->npending];
	if (rc) {
		cx_boot_send_fault(w, rc, cx_error_text());
		cx_wire_close(w);
		return rc;
	}
	h->missing--;
	return 0;
}

/* Reads on at one pending connection. */
static int hear(struct host *h, unsigned i)
{
	struct pending *p = &h->pending[i];
	struct iovec v = { p->proof + p->have, sizeof(p->proof) - p->have };
	struct msghdr msg = { .msg_iov = &v, .msg_iovlen = 1 };
	struct cx_claim claim;
	long n = cx_sys->recvmsg(p->fd, &msg);

	if (n == -EAGAIN)
		return 0;
	if (n <= 0) {
		refuse(h, i, "a connection closed before its proof");
		return 0;
	}
	p->have += (size_t)n;
	if (p->have < sizeof(p->proof))
		return 0;
	if (cx_auth_check(&h->m->secret, p->challenge, p->proof, &claim) ||
	    claim.kind != CX_CONN_CONTROL) {
		refuse(h, i, cx_error_text());
		return 0;
	}
	return seat(h, i, &claim);
}

void cx_meet_missing(const struct cx_wire *wires, int ranks, char *text, size_t len)
{
	size_t at = 0;

	text[0] = '\0';
	for (int r = 1; r < ranks && at + 32 < len; r++) {
		int from = r;

		if (wires[r].fd >= 0)
			continue;
		while (r + 1 < ranks && wires[r + 1].fd < 0)
			r++;
		at += (size_t)snprintf(text + at, len - at, r > from ? "%s%d-%d" : "%s%d",
				       at ? ", " : "", from, r);
	}
}

static int nobody_more(const struct host *h)
{
	char ranks[128], extra[192] = "";

	cx_meet_missing(h->wires, h->m->ranks, ranks, sizeof(ranks));
	if (h->refused)
		snprintf(extra, sizeof(extra), "; %u connections refused, the last: %s", h->refused,
			 h->why);
	return cx_fail(COLLX_ERR_INIT_TIMEOUT,
		       "creation: rank %s of %d did not come to %s before the deadline%s", ranks,
		       h->m->ranks, h->m->where, extra);
}

static int host_round(struct host *h)
{
	uint64_t now = cx_now_ns();
	int rc, ready;

	if (now >= h->m->deadline_ns)
		return nobody_more(h);
	for (unsigned i = h->npending; i-- > 0;)
		if (now >= h->pending[i].deadline_ns)
			refuse(h, i, "a connection sent no proof within 2 s");
	h->fds[0] = (struct pollfd){ .fd = h->door, .events = POLLIN };
	for (unsigned i = 0; i < h->npending; i++)
		h->fds[i + 1] = (struct pollfd){ .fd = h->pending[i].fd, .events = POLLIN };
	ready = cx_sys->poll(h->fds, h->npending + 1,
			     (int)cx_min((h->m->deadline_ns - now) / 1000000 + 1, 100));
	if (ready < 0)
		return cx_fail_errno(-ready, "poll");
	for (unsigned i = h->npending; i-- > 0;) {
		rc = h->fds[i + 1].revents ? hear(h, i) : 0;
		if (rc)
			return rc;
	}
	return h->fds[0].revents ? let_in(h) : 0;
}

int cx_meet_host(const struct cx_meeting *m, struct cx_wire *wires)
{
	struct host *h = cx_alloc(1, sizeof(*h));
	struct sockaddr_un addr;
	int rc;

	if (!h)
		return COLLX_ERR_NOMEM;
	h->m = m;
	h->wires = wires;
	h->missing = m->ranks - 1;
	rc = parse_place(m->where, &addr);
	if (!rc) {
		h->door = rc = open_door(&addr);
		while (rc >= 0 && h->missing)
			rc = host_round(h);
		if (h->door >= 0)
			close_door(h->door, &addr);
		while (h->npending)
			drop(h, 0);
	}
	cx_free(h);
	return rc < 0 ? rc : 0;
}

/* ---- the others ---- */

/* One try. 1: connected; 0: nobody is there yet; or an error. */
static int knock(const struct sockaddr_un *addr, int *out)
{
	int fd = cx_sys->socket(AF_UNIX, SOCK_STREAM);
	int rc;

	if (fd < 0)
		return cx_fail_errno(-fd, "socket for %s", addr->sun_path);
	rc = cx_sys->connect(fd, (const struct sockaddr *)addr, sizeof(*addr));
	if (!rc) {
		*out = fd;
		return 1;
	}
	cx_sys->close(fd);
	if (rc == -ENOENT || rc == -ECONNREFUSED || rc == -EAGAIN)
		return 0;
	return cx_fail_errno(-rc, "connecting to rank 0 at %s", addr->sun_path);
}

static int connect_to_host(const struct cx_meeting *m, const struct sockaddr_un *addr, int *fd)
{
	long nap_ns = 200000;

	for (;;) {
		struct timespec nap = { 0, nap_ns };
		int rc = knock(addr, fd);

		if (rc)
			return rc < 0 ? rc : 0;
		if (cx_now_ns() >= m->deadline_ns)
			return cx_fail(COLLX_ERR_INIT_TIMEOUT,
				       "creation: rank 0 did not open %s before the deadline",
				       m->where);
		nanosleep(&nap, NULL);
		nap_ns = nap_ns < 20000000 ? nap_ns * 2 : nap_ns;
	}
}

static int prove_to_host(const struct cx_meeting *m, int fd)
{
	unsigned char challenge[CX_CHALLENGE_BYTES], proof[CX_PROOF_BYTES];
	unsigned char confirm[CX_CONFIRM_BYTES];
	const struct cx_claim claim = { .rank = (uint32_t)m->rank, .ranks = (uint32_t)m->ranks,
					.kind = CX_CONN_CONTROL };
	int rc;

	if (!same_user(fd))
		return cx_fail(COLLX_ERR_AUTH, "the process at %s belongs to another user",
			       m->where);
	rc = cx_wire_get(fd, challenge, sizeof(challenge), m->deadline_ns);
	if (!rc)
		rc = cx_auth_prove(&m->secret, challenge, &claim, proof);
	if (!rc)
		rc = cx_wire_put(fd, proof, sizeof(proof), m->deadline_ns);
	if (!rc)
		rc = cx_wire_get(fd, confirm, sizeof(confirm), m->deadline_ns);
	if (rc == COLLX_ERR_PEER_DEAD)
		return cx_fail(COLLX_ERR_AUTH,
			       "rank 0 at %s turned rank %d away: do all ranks have the same "
			       "secret?",
			       m->where, m->rank);
	return rc ? rc : cx_auth_confirmed(&m->secret, challenge, proof, confirm);
}

int cx_meet_join(const struct cx_meeting *m, struct cx_wire *wire)
{
	struct sockaddr_un addr;
	int fd = -1, rc = parse_place(m->where, &addr);

	if (!rc)
		rc = connect_to_host(m, &addr, &fd);
	if (rc)
		return rc;
	rc = prove_to_host(m, fd);
	if (rc)
		cx_sys->close(fd);
	else
		cx_wire_init(wire, fd);
	return rc;
}
