/* SPDX-License-Identifier: BSD-3-Clause */
/* The real world behind struct cx_sys. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base.h"

static uint64_t real_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int real_random(void *buf, size_t len)
{
	char *p = buf;

	while (len) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static void *real_alloc(size_t len)
{
	return aligned_alloc(CX_LINE, cx_round_up(len ? len : 1, CX_LINE));
}

static int real_socket(int domain, int type)
{
	int fd = socket(domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	cx_fd_own(fd);
	return fd;
}

static int real_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	return bind(fd, addr, len) ? -errno : 0;
}

static int real_listen(int fd, int backlog)
{
	return listen(fd, backlog) ? -errno : 0;
}

static int real_accept(int fd)
{
	int got;

	do
		got = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	while (got < 0 && (errno == EINTR || errno == ECONNABORTED));
	if (got < 0)
		return -errno;
	cx_fd_own(got);
	return got;
}

static int real_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	return connect(fd, addr, len) ? -errno : 0;
}

static long real_sendmsg(int fd, const struct msghdr *msg)
{
	ssize_t n;

	do
		n = sendmsg(fd, msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static long real_recvmsg(int fd, struct msghdr *msg)
{
	ssize_t n;

	do
		n = recvmsg(fd, msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static int real_finish(int fd)
{
	return shutdown(fd, SHUT_WR) ? -errno : 0;
}

static int real_connected(int fd)
{
	int err = 0;
	socklen_t len = sizeof(err);

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) ? -errno : -err;
}

static int real_untaken(int fd)
{
	int n;

	return ioctl(fd, SIOCOUTQ, &n) ? 0 : n;
}

static int real_setopt(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) ? -errno : 0;
}

/* By default TCP sends again after 200 ms at least, then after twice that, and twice that; a
 * network that fails for 200 ms now and then is silent for a second so. Linear times need a
 * congestion control with a threshold, which bbr is not. */
static void real_insist(int fd)
{
	enum { RTO_MIN_US = 45, DELACK_MAX_US = 46 }; /* of Linux 6.15; libc does not name them */
	const int soon_us = 50000, ack_us = 10000;

	setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
	real_setopt(fd, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1);
	real_setopt(fd, IPPROTO_TCP, RTO_MIN_US, soon_us);
	/* Acknowledgements that take their time would count as a slow way. */
	real_setopt(fd, IPPROTO_TCP, DELACK_MAX_US, ack_us);
}

static int real_local_name(int fd, struct sockaddr *addr, socklen_t *len)
{
	return getsockname(fd, addr, len) ? -errno : 0;
}

static int real_peer_name(int fd, struct sockaddr *addr, socklen_t *len)
{
	return getpeername(fd, addr, len) ? -errno : 0;
}

static int real_peer_uid(int fd, uint32_t *uid)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return -errno;
	*uid = cred.uid;
	return 0;
}

static int real_poll(struct pollfd *fds, unsigned n, int timeout_ms)
{
	int ready = poll(fds, n, timeout_ms);

	return ready < 0 ? (errno == EINTR ? 0 : -errno) : ready;
}

static int real_dup(int fd)
{
	int got = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (got < 0)
		return -errno;
	cx_fd_own(got);
	return got;
}

static int real_close(int fd)
{
	cx_fd_disown(fd);
	return close(fd) ? -errno : 0;
}

static int real_interfaces(struct ifaddrs **all)
{
	return getifaddrs(all) ? -errno : 0;
}

/* ---- names ---- */

static int real_mkdir(const char *path)
{
	return mkdir(path, 0700) ? -errno : 0;
}

static int real_rmdir(const char *path)
{
	return rmdir(path) ? -errno : 0;
}

static int real_link(const char *from, const char *to)
{
	return link(from, to) ? -errno : 0;
}

static int real_unlink(const char *path)
{
	return unlink(path) ? -errno : 0;
}

static int real_lstat(const char *path, struct stat *st)
{
	return lstat(path, st) ? -errno : 0;
}

static int real_list(const char *folder, void (*each)(void *ctx, const char *name), void *ctx)
{
	DIR *dir = opendir(folder);
	struct dirent *d;

	if (!dir)
		return -errno;
	while ((d = readdir(dir)))
		each(ctx, d->d_name);
	closedir(dir);
	return 0;
}

/* ---- threads ---- */

/* Beyond what a thread needs, as thread-local variables of the program lie there. */
enum { STACK = 512 * 1024 };

static int create_thread(pthread_t *thread, void *(*run)(void *arg), void *arg)
{
	pthread_attr_t attr;
	int err;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	err = pthread_create(thread, &attr, run, arg);
	pthread_attr_destroy(&attr);
	if (err == EINVAL) /* the program's thread-local variables need more than that */
		err = pthread_create(thread, NULL, run, arg);
	return -err;
}

/* The kernel's first struct sched_attr, which its headers and the C library's quarrel about. */
struct scheduling {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime_ns, deadline_ns, period_ns;
};

/*
 * Asks for slices as short as there are (Linux from 6.12 on; before, it is ignored): the shorter
 * they are, the sooner a thread that wakes has its turn. On a processor that 16 processes of
 * nice -10 and six other sessions want, a rank was silent for a second in 6 of 7 runs of 7 to
 * 10 s without this, in 1 of 7 with it (trial B7).
 */
static void real_hurry(void)
{
	struct scheduling s = { .size = sizeof(s) };

	if (syscall(SYS_sched_getattr, 0, &s, sizeof(s), 0) || s.policy != SCHED_OTHER)
		return;
	s.size = sizeof(s);
	s.runtime_ns = 100000;
	syscall(SYS_sched_setattr, 0, &s, 0);
}

static int real_spawn(pthread_t *thread, void *(*run)(void *arg), void *arg)
{
	sigset_t all, before;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = create_thread(thread, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return rc;
}

static void real_join(pthread_t thread)
{
	pthread_join(thread, NULL);
}

static int real_thread_id(void)
{
	return gettid();
}

static void real_yield(void)
{
	sched_yield();
}

static int real_bell(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		return -errno;
	cx_fd_own(fd);
	return fd;
}

static void real_ring(int bell)
{
	const uint64_t one = 1;

	/* EAGAIN alone is possible otherwise: it has rung often enough. */
	while (write(bell, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void real_hush(int bell)
{
	uint64_t rings;

	while (read(bell, &rings, sizeof(rings)) < 0 && errno == EINTR)
		;
}

/* A small file of /proc; bytes, 0: there is no such process, or -errno. */
static long read_proc(int number, const char *name, char *text, size_t len)
{
	char path[48];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", number, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT) /* gone, or hidden from us */
		return kill(number, 0) && errno == ESRCH ? 0 : -EPERM;
	if (fd < 0)
		return -errno;
	n = read(fd, text, len - 1);
	n = n < 0 ? -errno : n;
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	return n == -ESRCH ? 0 : n;
}

/* The state, and when it began, from /proc; 0: there is no such process. */
static int read_process(int number, char *state, uint64_t *start)
{
	const unsigned exiting = 4; /* the kernel's PF_EXITING */
	unsigned long long began;
	char text[512], *at;
	unsigned flags;
	long threads, n = read_proc(number, "stat", text, sizeof(text));

	if (n <= 0)
		return (int)n;
	at = strrchr(text, ')'); /* the name before it may contain anything */
	if (!at || sscanf(at, ") %c %*d %*d %*d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
			      "%*d %ld %*d %llu", state, &flags, &threads, &began) != 4)
		return -EIO;
	if (*state == 'Z' && threads <= 1)
		*state = CX_PROCESS_GONE;
	else if (*state != 'X' && flags & exiting)
		*state = CX_PROCESS_ENDS; /* its first thread, at least */
	*start = began;
	return 1;
}

/* It was sent a SIGKILL, and had no processor yet to die. */
static bool is_killed(int number)
{
	const unsigned long long kill_bit = 1ull << (SIGKILL - 1);
	unsigned long long pending;
	char text[2048], *at;

	if (read_proc(number, "status", text, sizeof(text)) <= 0)
		return false;
	at = strstr(text, "\nSigPnd:");
	return at && sscanf(at, " SigPnd: %llx", &pending) == 1 && pending & kill_bit;
}

static void real_say(const char *line)
{
	fprintf(stderr, "libcollx: %s\n", line);
}

static void real_process(struct cx_process *own)
{
	struct stat st;
	char state;

	*own = (struct cx_process){ .number = (int32_t)getpid() };
	if (read_process(own->number, &state, &own->start) != 1 ||
	    stat("/proc/self/ns/pid", &st))
		own->number = 0;
	else
		own->space = (uint64_t)st.st_ino;
}

static int real_process_state(const struct cx_process *p)
{
	uint64_t start;
	char state;
	int rc = read_process(p->number, &state, &start);

	if (rc < 0)
		return CX_PROCESS_UNKNOWN;
	if (rc == 0 || start != p->start)
		return CX_PROCESS_GONE;
	/* Who sleeps was not killed, as that wakes it. */
	return state != 'S' && state != CX_PROCESS_GONE && is_killed(p->number) ? CX_PROCESS_ENDS
										: state;
}

/* ---- beside the table ---- */

int cx_cancel_hold(void)
{
	int was = PTHREAD_CANCEL_ENABLE;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &was);
	return was;
}

void cx_cancel_release(int was)
{
	pthread_setcancelstate(was, NULL);
}

const struct cx_sys cx_sys_real = {
	.now_ns = real_now_ns,
	.random = real_random,
	.alloc = real_alloc,
	.release = free,
	.socket = real_socket,
	.bind = real_bind,
	.listen = real_listen,
	.accept = real_accept,
	.connect = real_connect,
	.sendmsg = real_sendmsg,
	.recvmsg = real_recvmsg,
	.finish = real_finish,
	.connected = real_connected,
	.untaken = real_untaken,
	.setopt = real_setopt,
	.insist = real_insist,
	.local_name = real_local_name,
	.peer_name = real_peer_name,
	.peer_uid = real_peer_uid,
	.poll = real_poll,
	.dup = real_dup,
	.close = real_close,
	.interfaces = real_interfaces,
	.release_interfaces = freeifaddrs,
	.mkdir = real_mkdir,
	.rmdir = real_rmdir,
	.link = real_link,
	.unlink = real_unlink,
	.lstat = real_lstat,
	.list = real_list,
	.spawn = real_spawn,
	.join = real_join,
	.hurry = real_hurry,
	.thread_id = real_thread_id,
	.yield = real_yield,
	.bell = real_bell,
	.ring = real_ring,
	.hush = real_hush,
	.process = real_process,
	.process_state = real_process_state,
	.say = real_say,
};

const struct cx_sys *cx_sys = &cx_sys_real;

void *cx_buffer(size_t n, size_t size)
{
	size_t bytes;
	void *p = NULL;

	if (!__builtin_mul_overflow(n, size, &bytes) && bytes <= SIZE_MAX - CX_LINE)
		p = cx_sys->alloc(bytes);
	if (!p)
		cx_fail(COLLX_ERR_NOMEM, "out of memory: %zu x %zu bytes", n, size);
	return p;
}

void *cx_alloc(size_t n, size_t size)
{
	void *p = cx_buffer(n, size);

	return p ? memset(p, 0, n * size) : NULL;
}

void cx_free(void *p)
{
	cx_sys->release(p);
}
