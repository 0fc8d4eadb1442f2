/* SPDX-License-Identifier: BSD-3-Clause */
/* Ranks that meet; see party.h. */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/base/base.h"
#include "src/mesh.h"
#include "tests/party.h"

enum { EXCHANGES = 3 };

void host_folder(const struct party *p, int host, char folder[FOLDER])
{
	snprintf(folder, FOLDER, "%s/host%d", p->base, host);
}

struct party *party_make(void)
{
	static unsigned parties;
	struct party *p = mmap(NULL, sizeof(*p), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned n = (unsigned)getpid();

	if (p == MAP_FAILED || folder_make(p->base))
		abort();
	snprintf(p->address, sizeof(p->address), "tcp:127.%u.%u.%u:%u", 1 + (n >> 16 & 63),
		 n >> 8 & 255, n & 255, 7001 + parties++ % 1000);
	return p;
}

struct guest *invite(struct party *p, int rank, int ranks, int host)
{
	struct guest *g = &p->guests[p->n++];

	*g = (struct guest){ .rank = rank, .ranks = ranks, .host = host, .timeout_ms = 20000,
			     .secret = 1, .code = 1, .above = -2 };
	return g;
}

/* ---- the world as a guest sees it ---- */

static struct cx_sys fated;
static struct guest *me;
static bool here, in_mesh, in_barrier;
static int held;

/* Linked with --wrap. */
bool __wrap_cx_place_is_here(const struct cx_place *p);

bool __wrap_cx_place_is_here(const struct cx_place *p)
{
	(void)p;
	return here;
}

/* 0, or the error that this call is to have. */
static int step(void)
{
	if (++me->steps != me->step)
		return 0;
	if (me->fate == KILLED || me->fate == STOPPED)
		raise(me->fate == KILLED ? SIGKILL : SIGSTOP);
	return me->fate == FAILING ? -me->fail_with : 0;
}

static int fated_socket(int domain, int type)
{
	int rc = step();

	return rc ? rc : cx_sys_real.socket(domain, type);
}

static int fated_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	int rc = step();

	if (!rc && in_mesh)
		rc = me->lanes_fail == EADDRINUSE ? -EADDRINUSE : 0;
	return rc ? rc : cx_sys_real.bind(fd, addr, len);
}

static int fated_listen(int fd, int backlog)
{
	int rc = step();

	me->opened += in_mesh;
	return rc ? rc : cx_sys_real.listen(fd, backlog);
}

static int fated_accept(int fd)
{
	int rc = step();

	if (!rc && in_mesh && me->lanes_fail == EIO) {
		nap_ms(300);
		me->ended_ms = now_ms();
		return -EIO;
	}
	return rc ? rc : cx_sys_real.accept(fd);
}

static int fated_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	int rc = step();

	return rc ? rc : cx_sys_real.connect(fd, addr, len);
}

static int clogged = -1;

static bool is_clogged(int fd, const struct msghdr *msg)
{
	if (me->clogs && clogged < 0 && msg->msg_iov[0].iov_len > 300)
		clogged = fd;
	return me->clogs && fd == clogged;
}

static long fated_sendmsg(int fd, const struct msghdr *msg)
{
	long rc = step();

	if (!rc && is_clogged(fd, msg))
		return -EAGAIN;
	rc = rc ? rc : cx_sys_real.sendmsg(fd, msg);
	if (in_barrier && rc > 0)
		me->last += (size_t)rc;
	return rc;
}

static long fated_recvmsg(int fd, struct msghdr *msg)
{
	long rc = step();

	rc = rc ? rc : cx_sys_real.recvmsg(fd, msg);
	me->heard += rc > 0;
	return rc;
}

static int fated_poll(struct pollfd *fds, unsigned n, int timeout_ms)
{
	for (unsigned i = 0; i < n; i++)
		if (clogged >= 0 && fds[i].fd == clogged)
			fds[i].events &= ~POLLOUT;
	return cx_sys_real.poll(fds, n, timeout_ms);
}

static int fated_close(int fd)
{
	if (me->fate != FAILING)
		step();
	return cx_sys_real.close(fd);
}

static void *fated_alloc(size_t len)
{
	if (me->fate == POOR && ++me->steps == me->step)
		return NULL;
	held++;
	return cx_sys_real.alloc(len);
}

static void fated_release(void *p)
{
	held -= p != NULL;
	cx_sys_real.release(p);
}

static void meet_fate(struct guest *g)
{
	me = g;
	here = g->host == 0;
	fated = cx_sys_real;
	fated.alloc = fated_alloc;
	fated.release = fated_release;
	fated.bind = fated_bind;
	fated.listen = fated_listen;
	if (g->fate != POOR) {
		fated.socket = fated_socket;
		fated.accept = fated_accept;
		fated.connect = fated_connect;
		fated.sendmsg = fated_sendmsg;
		fated.recvmsg = fated_recvmsg;
		fated.poll = fated_poll;
		fated.close = fated_close;
	}
	cx_sys = &fated;
}

/* ---- a guest ---- */

static int a_file(int rank)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	if (fd >= 0)
		EXPECT(write(fd, &rank, sizeof(rank)) == sizeof(rank), "memfd: %s",
		       strerror(errno));
	return fd;
}

/* Files come from the ranks with my leader, and from no other. */
static void check_files(const struct cx_tree *t, const int *fds)
{
	for (int r = 0; r < t->ranks; r++) {
		int who = -1, mine = t->leader[r] == t->leader[t->rank];

		EXPECT((fds[r] >= 0) == mine, "rank %d has descriptor %d of rank %d", t->rank,
		       fds[r], r);
		if (fds[r] < 0)
			continue;
		EXPECT(pread(fds[r], &who, sizeof(who), 0) == sizeof(who) && who == r,
		       "rank %d has a file of rank %d for %d's", t->rank, who, r);
		close(fds[r]);
	}
}

static int exchange(struct cx_boot *b, const struct cx_meeting *m, int round)
{
	enum { WORDS = 100 };
	static uint32_t mine[WORDS], all[GUESTS * WORDS];
	int fds[GUESTS], fd = round == 1 ? a_file(m->rank) : -1, rc;
	size_t words = round == 2 ? 1 : WORDS;

	if (round == 1 && fd < 0)
		return cx_fail_errno(errno, "a file of rank %d", m->rank);
	for (size_t i = 0; i < words; i++)
		mine[i] = (uint32_t)(m->rank * 1000 + round * 100) + (uint32_t)i;
	rc = cx_boot_exchange(b, mine, words * sizeof(*mine), fd, all, fd < 0 ? NULL : fds,
			      m->deadline_ns);
	if (fd >= 0)
		close(fd);
	if (rc)
		return rc;
	for (int r = 0; r < m->ranks; r++)
		for (size_t i = 0; i < words; i++)
			EXPECT(all[(size_t)r * words + i] ==
				       (uint32_t)(r * 1000 + round * 100) + (uint32_t)i,
			       "rank %d: round %d, record of %d", m->rank, round, r);
	if (fd >= 0)
		check_files(cx_boot_tree(b), fds);
	return 0;
}

/* Everybody wants the next rank and the one before. */
static int make_lanes(struct cx_boot *b, const struct cx_meeting *m)
{
	unsigned char wanted[GUESTS] = { 0 };
	int fds[2 * GUESTS], rc;

	for (int d = 1; d < m->ranks; d += m->ranks - 2 > 0 ? m->ranks - 2 : 1)
		wanted[(m->rank + d) % m->ranks] = 1;
	in_mesh = true;
	rc = cx_mesh_open(b, m, 5, 2, wanted, fds);
	in_mesh = false;
	for (int i = 0; !rc && i < 2 * m->ranks; i++) {
		EXPECT((fds[i] >= 0) == wanted[i / 2], "rank %d, lane %d: %d", m->rank, i, fds[i]);
		if (fds[i] >= 0)
			close(fds[i]);
	}
	return rc;
}

static int stop_at_barrier(struct party *p, const struct guest *g, struct cx_boot *b,
			   const struct cx_meeting *m)
{
	int rc;

	nap_ms((unsigned)g->rank * 10);
	__atomic_fetch_add(&p->at_barrier, 1, __ATOMIC_SEQ_CST);
	in_barrier = true;
	rc = cx_boot_barrier(b, m->deadline_ns);
	in_barrier = false;
	EXPECT(rc || __atomic_load_n(&p->at_barrier, __ATOMIC_SEQ_CST) == g->barrier,
	       "rank %d did not wait for all", g->rank);
	return rc;
}

static int stay(struct party *p, struct guest *g, struct cx_boot *b, const struct cx_meeting *m)
{
	struct cx_tree tree;
	int rc = 0;

	g->met = true;
	while (g->pauses)
		pause();
	for (int i = 0; !rc && i < EXCHANGES; i++)
		rc = exchange(b, m, i);
	if (!rc && g->lanes)
		rc = make_lanes(b, m);
	if (!rc && g->lanes) /* nobody goes before all have theirs */
		rc = exchange(b, m, 0);
	if (!rc && g->barrier)
		rc = stop_at_barrier(p, g, b, m);
	if (rc) {
		cx_boot_tell(b, rc, cx_error_text());
		snprintf(g->text, sizeof(g->text), "%s", cx_error_text());
		cx_boot_close(b);
		return rc;
	}
	cx_boot_finish(b, &tree);
	g->above = tree.above;
	for (int r = 0; r < tree.ranks; r++) {
		g->leader[r] = tree.leader[r];
		g->down += tree.down && tree.down[r].fd >= 0;
		EXPECT(!tree.down || (tree.down[r].fd >= 0) == (cx_tree_towards(&tree, r) == r),
		       "rank %d has a wire to %d", tree.rank, r);
	}
	EXPECT(!tree.down == !g->down, "rank %d keeps room for nobody", tree.rank);
	cx_tree_fini(&tree);
	return 0;
}

static int abort_soon(void *ctx)
{
	const struct guest *g = ctx;
	static uint64_t since;

	if (g->met && !since)
		since = now_ms();
	return since && now_ms() > since + 300 ? cx_fail(COLLX_ERR_ABORTED, "aborted") : 0;
}

static int come(struct party *p, struct guest *g)
{
	struct cx_meeting m = { .rank = g->rank, .ranks = g->ranks };
	unsigned char key[CX_SECRET_BYTES];
	char local[CX_MEET_MAX];
	struct cx_boot *b;
	int rc;

	m.deadline_ns = cx_now_ns() + (uint64_t)g->timeout_ms * 1000000;
	m.stop = g->aborts ? abort_soon : NULL;
	m.stop_ctx = g;
	memset(key, g->secret, sizeof(key));
	snprintf(local, sizeof(local), "unix:%s/host%d/meet", p->base, g->host);
	EXPECT(!cx_place_parse(&m.place, p->address) && !cx_secret_init(&m.secret, key), "%s",
	       cx_error_text());
	if (!g->no_local)
		EXPECT(!cx_place_parse(&m.local, local), "%s", cx_error_text());
	rc = cx_boot_open(&b, &m);
	snprintf(g->text, sizeof(g->text), "%s", rc ? cx_error_text() : "");
	return rc ? rc : stay(p, g, b, &m);
}

/* Have those come, and gone, whom this one comes after? */
static bool is_due(const struct party *p, const struct guest *g)
{
	for (int i = 0; i < p->n && i < 32; i++) {
		const struct guest *other = &p->guests[i];

		if ((g->after_seat >> i & 1 &&
		     __atomic_load_n(&other->heard, __ATOMIC_RELAXED) < SEAT) ||
		    (g->after_end >> i & 1 && !__atomic_load_n(&other->ended_ms, __ATOMIC_RELAXED)))
			return false;
	}
	return true;
}

static void attend(struct party *p, struct guest *g)
{
	struct rlimit limit, all;
	uint64_t start;
	int fds;

	/* Begins when all run, so that a busy machine makes nobody late. */
	__atomic_fetch_add(&p->here, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&p->here, __ATOMIC_SEQ_CST) < p->n)
		nap_ms(1);
	for (uint64_t end = now_ms() + 20000; !is_due(p, g) && now_ms() < end;)
		nap_ms(1);
	nap_ms(g->late_ms);
	fds = open_fds();
	getrlimit(RLIMIT_NOFILE, &all);
	limit = all;
	limit.rlim_cur = (rlim_t)g->step;
	if (g->fate == LIMITED)
		setrlimit(RLIMIT_NOFILE, &limit);
	start = now_ms();
	meet_fate(g);
	g->code = come(p, g);
	if (!g->ended_ms)
		g->ended_ms = now_ms();
	g->ms = (int)(now_ms() - start);
	setrlimit(RLIMIT_NOFILE, &all);
	EXPECT(fds_return(fds), "rank %d: %d descriptors, %d before", g->rank, open_fds(), fds);
	EXPECT(held == 0, "rank %d: %d allocations not given back", g->rank, held);
}

/* ---- a party ---- */

void party_start(struct party *p, int i)
{
	pid_t pid = rank_fork();

	if (pid < 0)
		abort();
	if (pid == 0) {
		attend(p, &p->guests[i]);
		rank_exit();
	}
	p->pids[i] = pid; /* what is shared must not be the child's 0 */
}

/* Waits for one; what is wrong with its end. */
int see_off(struct party *p, int i)
{
	struct guest *g = &p->guests[i];
	int status, steps;

	if (waitpid(p->pids[i], &status, WUNTRACED) < 0)
		return 1;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && g->fate == KILLED) {
		if (!g->comes_again)
			return 0;
		steps = g->steps;
		g->fate = LIVES;
		g->steps = 0;
		party_start(p, i);
		if (waitpid(p->pids[i], &status, 0) < 0)
			return 1;
		g->steps = steps;
	}
	if (WIFSTOPPED(status))
		return 0; /* ended by its host */
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	fprintf(stderr, "guest %d (rank %d) ended with %#x\n", i, g->rank, (unsigned)status);
	return 1;
}

/* Where a rank was killed its socket stays until the next job there. */
static void sweep(const char *folder)
{
	DIR *dir = opendir(folder);
	struct dirent *d;

	while (dir && (d = readdir(dir)))
		unlinkat(dirfd(dir), d->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(folder);
}

/* Waits for all from guest `first` on; those that pause are killed last. */
int party_wait(struct party *p, int first)
{
	int wrong = 0;

	/* Who comes again must be seen off at once. */
	for (int pass = 0; pass < 2; pass++)
		for (int i = first; i < p->n; i++)
			if (!p->guests[i].pauses && p->guests[i].comes_again == !pass)
				wrong += see_off(p, i);
	for (int i = first; i < p->n; i++)
		if (p->guests[i].pauses || p->guests[i].fate == STOPPED) {
			kill(p->pids[i], SIGKILL);
			waitpid(p->pids[i], NULL, 0);
		}
	return wrong;
}

int party_end(struct party *p)
{
	char folder[FOLDER];
	int wrong = 0;

	for (int i = 0; i < p->n; i++) {
		enum fate f = p->guests[i].fate;

		host_folder(p, p->guests[i].host, folder);
		if (f == KILLED || f == STOPPED || p->guests[i].comes_again || p->guests[i].pauses)
			sweep(folder);
	}
	for (int i = 0; i < p->n; i++) {
		host_folder(p, p->guests[i].host, folder);
		rmdir(folder);
	}
	wrong += folder_gone(p->base);
	munmap(p, sizeof(*p));
	return wrong;
}

int party_hold(struct party *p)
{
	for (int i = 0; i < p->n; i++)
		party_start(p, i);
	return party_wait(p, 0);
}

int ended(const struct party *p, int i, int want, const char *part, int line)
{
	const struct guest *g = &p->guests[i];

	return expect_at(g->code == want && strstr(g->text, part), __FILE__, line,
			 "guest %d (rank %d): %s after %d ms: '%s', not %s with '%s'", i, g->rank,
			 collx_strerror(g->code), g->ms, g->text, collx_strerror(want), part);
}

void nobody_waited(const struct party *p)
{
	for (int i = 0; i < p->n; i++)
		EXPECT(p->guests[i].ms < (int)p->guests[i].timeout_ms + 1000 + 4000,
		       "guest %d waited %d ms", i, p->guests[i].ms);
}
