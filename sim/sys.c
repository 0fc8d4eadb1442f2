/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The system calls of simulated processes. At each one the world may turn to another
 * process, and a schedule may end this one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/base.h"
#include "wire.h"
#include "world.h"

static struct sim_proc *me(void)
{
	return sim.running->proc;
}

/* Every call but those that only read the clock begins with this. */
static struct sim_proc *begin(void)
{
	struct sim_proc *p = me();
	const struct sim_params *w = &sim.params;

	sim.now += w->call_ns;
	if (++p->calls == p->kill_at_call)
		sim_proc_kill(p);
	if (sim_rng_once_in(&sim.chance, w->preempt_in))
		sim_task_nap(sim_rng_below(&sim.chance, w->preempt_ns));
	return p;
}

/* The world in which a call has had its effect. */
static long end(struct sim_proc *p, const char *call, int fd, long rc)
{
	sim_digest((uint64_t)p->number << 32 | (uint32_t)fd, (uint64_t)rc);
	if (rc == -EBADF)
		sim_broken("%s: %s(%d) on a descriptor that is not open", p->name, call, fd);
	if (sim.verbose && rc != -EAGAIN) {
		if (rc < 0)
			sim_trace(p, "%s %d: %s", call, fd, strerror((int)-rc));
		else
			sim_trace(p, "%s %d: %ld", call, fd, rc);
	}
	return rc;
}

/* ---- descriptors ---- */

struct sim_sock *sim_fd_get(struct sim_proc *p, int fd)
{
	return fd >= 0 && fd < p->nfds ? p->fds[fd] : NULL;
}

static void make_room(struct sim_proc *p)
{
	struct sim_sock **more;

	if (p->nfds < p->fds_room)
		return;
	p->fds_room = p->fds_room ? 2 * p->fds_room : 32;
	more = sim_memory((size_t)p->fds_room * sizeof(*more));
	if (p->nfds)
		memcpy(more, p->fds, (size_t)p->nfds * sizeof(*more));
	p->fds = more;
}

int sim_fd_put(struct sim_proc *p, struct sim_sock *s)
{
	int fd = 0;

	if (p->open_fds >= p->max_fds)
		return -EMFILE;
	while (sim.params.reuse_fds ? sim_fd_get(p, fd) != NULL : fd < p->nfds)
		fd++;
	make_room(p);
	if (fd == p->nfds)
		p->nfds++;
	p->fds[fd] = s;
	p->open_fds++;
	sim_sock_ref(s);
	return fd;
}

/* ---- the table: time, chance, memory ---- */

static uint64_t sys_now_ns(void)
{
	sim.now += 30;
	return sim_proc_now(me());
}

static int sys_random(void *buf, size_t len)
{
	unsigned char *p = buf;

	for (size_t i = 0; i < len; i++)
		p[i] = (unsigned char)sim_rng_next(&me()->random);
	return 0;
}

static void *sys_alloc(size_t len)
{
	return sim_proc_alloc(begin(), len);
}

static void sys_release(void *p)
{
	sim_proc_release(me(), p);
}

/* ---- sockets ---- */

static int sys_socket(int domain, int type)
{
	struct sim_proc *p = begin();

	if (p->open_fds >= p->max_fds)
		return (int)end(p, "socket", -1, -EMFILE);
	return (int)end(p, "socket", -1, sim_fd_put(p, sim_sock_create(p, domain, type)));
}

static int sys_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	struct sim_proc *p = begin();
	struct sim_sock *s = sim_fd_get(p, fd);

	return (int)end(p, "bind", fd, s ? sim_sock_bind(p, s, addr, len) : -EBADF);
}

static int sys_listen(int fd, int backlog)
{
	struct sim_proc *p = begin();
	struct sim_sock *s = sim_fd_get(p, fd);

	return (int)end(p, "listen", fd, s ? sim_sock_listen(s, backlog) : -EBADF);
}

static int sys_accept(int fd)
{
	struct sim_proc *p = begin();
	struct sim_sock *s = sim_fd_get(p, fd);

	return (int)end(p, "accept", fd, s ? sim_sock_accept(p, s) : -EBADF);
}

static int sys_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	struct sim_proc *p = begin();
	struct sim_sock *s = sim_fd_get(p, fd);

	return (int)end(p, "connect", fd, s ? sim_sock_connect(p, s, addr, len) : -EBADF);
}

/* A frame that says what was decided? */
static bool tells_decision(const struct msghdr *msg)
{
	struct cx_frame_head head;

	if (!msg->msg_iovlen || msg->msg_iov[0].iov_len < sizeof(head))
		return false;
	memcpy(&head, msg->msg_iov[0].iov_base, sizeof(head));
	return head.kind == CX_FRAME_DECIDED;
}

static long sys_sendmsg(int fd, const struct msghdr *msg)
{
	struct sim_proc *p = begin();
	struct sim_sock *s = sim_fd_get(p, fd);
	bool tells = tells_decision(msg);
	long rc = end(p, "send", fd, s ? sim_sock_send(p, s, msg) : -EBADF);

	if (rc > 0 && tells && p->kill_when_told && !--p->kill_when_told)
		sim_proc_kill(p);
	return rc;
}

static long sys_recvmsg(int fd, struct msghdr *msg)
{
	struct sim_proc *p = begin();
	struct sim_sock *s = sim_fd_get(p, fd);

	return end(p, "receive", fd, s ? sim_sock_recv(p, s, msg) : -EBADF);
}

static int sys_finish(int fd)
{
	struct sim_proc *p = begin();
	struct sim_sock *s = sim_fd_get(p, fd);

	return (int)end(p, "finish", fd, s ? sim_sock_finish(s) : -EBADF);
}

static int sys_connected(int fd)
{
	struct sim_proc *p = begin();
	struct sim_sock *s = sim_fd_get(p, fd);

	return (int)end(p, "connected", fd, s ? sim_sock_error(s) : -EBADF);
}

static int sys_setopt(int fd, int level, int name, int value)
{
	struct sim_proc *p = begin();

	(void)level;
	(void)name;
	(void)value;
	return (int)end(p, "setopt", fd, sim_fd_get(p, fd) ? 0 : -EBADF);
}

static void sys_insist(int fd)
{
	(void)fd;
}

static int sys_untaken(int fd)
{
	(void)fd;
	return 0;
}

static void sys_hurry(void) {}

static int sys_local_name(int fd, struct sockaddr *addr, socklen_t *len)
{
	struct sim_proc *p = begin();
	struct sim_sock *s = sim_fd_get(p, fd);

	return (int)end(p, "name", fd, s ? sim_sock_name(s, addr, len) : -EBADF);
}

/* Told apart by number there. */
static int sys_peer_name(int fd, struct sockaddr *addr, socklen_t *len)
{
	return sys_local_name(fd, addr, len);
}

static void sys_say(const char *line)
{
	(void)line;
}

static int sys_peer_uid(int fd, uint32_t *uid)
{
	struct sim_proc *p = begin();
	struct sim_sock *s = sim_fd_get(p, fd);

	return (int)end(p, "uid", fd, s ? sim_sock_peer_uid(s, uid) : -EBADF);
}

static int sys_dup(int fd)
{
	struct sim_proc *p = begin();
	struct sim_sock *s = sim_fd_get(p, fd);

	return (int)end(p, "dup", fd, s ? sim_fd_put(p, s) : -EBADF);
}

static int sys_close(int fd)
{
	struct sim_proc *p = begin();
	struct sim_sock *s = sim_fd_get(p, fd);

	if (!s)
		return (int)end(p, "close", fd, -EBADF);
	p->fds[fd] = NULL;
	p->open_fds--;
	sim_sock_drop(s);
	return (int)end(p, "close", fd, 0);
}

/* ---- poll ---- */

static int look(struct sim_proc *p, struct pollfd *fds, unsigned n)
{
	const short always = POLLERR | POLLHUP;
	int ready = 0;

	for (unsigned i = 0; i < n; i++) {
		struct sim_sock *s = fds[i].fd < 0 ? NULL : sim_fd_get(p, fds[i].fd);

		fds[i].revents = 0;
		if (fds[i].fd < 0)
			continue;
		if (!s)
			end(p, "poll", fds[i].fd, -EBADF);
		else
			fds[i].revents = sim_sock_ready(s) & (short)(fds[i].events | always);
		ready += fds[i].revents != 0;
	}
	return ready;
}

static struct sim_waiter *room_for_waiters(struct sim_task *t, unsigned n)
{
	if (t->waiters_room < n) {
		t->waiters_room = 2 * n;
		t->waiters = sim_memory(t->waiters_room * sizeof(*t->waiters));
	}
	return t->waiters;
}

/* Sleeps until a descriptor changes, or until then. */
static void wait_for(struct sim_proc *p, const struct pollfd *fds, unsigned n, uint64_t until)
{
	struct sim_waiter *w = room_for_waiters(sim.running, n);
	unsigned m = 0;

	for (unsigned i = 0; i < n; i++) {
		struct sim_sock *s = fds[i].fd < 0 ? NULL : sim_fd_get(p, fds[i].fd);

		if (!s)
			continue;
		w[m].task = sim.running;
		sim_sock_wait(s, &w[m++]);
	}
	sim_task_wait(until == UINT64_MAX ? until : until - sim.now);
	while (m)
		sim_sock_unwait(&w[--m]);
}

static int sys_poll(struct pollfd *fds, unsigned n, int timeout_ms)
{
	struct sim_proc *p = begin();
	uint64_t until = UINT64_MAX;
	int ready = look(p, fds, n);

	if (timeout_ms >= 0)
		until = sim.now + sim_proc_duration(p, (uint64_t)timeout_ms * SIM_MS);
	while (!ready && timeout_ms && sim.now < until) {
		wait_for(p, fds, n, until);
		ready = look(p, fds, n);
	}
	sim_digest((uint64_t)p->number, (uint64_t)ready);
	return ready;
}

/* The loopback and one that leads to the other hosts. */
static int sys_interfaces(struct ifaddrs **all)
{
	struct {
		struct ifaddrs a;
		struct sockaddr_storage addr, mask;
	} *i = sim_memory(2 * sizeof(*i));
	struct sim_proc *p = begin();
	socklen_t len;

	for (int n = 0; n < 2; n++) {
		struct sockaddr_in *addr = (struct sockaddr_in *)&i[n].addr;
		struct sockaddr_in *mask = (struct sockaddr_in *)&i[n].mask;

		sim_net_address(p->host, &i[n].addr, &len);
		mask->sin_family = AF_INET;
		mask->sin_addr.s_addr = htonl(n ? 0xffffff00 : 0xff000000);
		if (!n)
			addr->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		i[n].a = (struct ifaddrs){
			.ifa_next = n ? NULL : &i[1].a,
			.ifa_name = n ? "eth0" : "lo",
			.ifa_flags = n ? IFF_UP | IFF_RUNNING : IFF_UP | IFF_RUNNING | IFF_LOOPBACK,
			.ifa_addr = (struct sockaddr *)addr,
			.ifa_netmask = (struct sockaddr *)mask,
		};
	}
	*all = &i[0].a;
	return 0;
}

static void sys_release_interfaces(struct ifaddrs *all)
{
	(void)all;
}

/* ---- names ---- */

static int sys_mkdir(const char *path)
{
	struct sim_proc *p = begin();

	return (int)end(p, "mkdir", -1, sim_name_mkdir(p->host, path, p->uid));
}

static int sys_rmdir(const char *path)
{
	struct sim_proc *p = begin();

	return (int)end(p, "rmdir", -1, sim_name_rmdir(p->host, path));
}

static int sys_link(const char *from, const char *to)
{
	struct sim_proc *p = begin();

	return (int)end(p, "link", -1, sim_name_link(p->host, from, to));
}

static int sys_unlink(const char *path)
{
	struct sim_proc *p = begin();

	return (int)end(p, "unlink", -1, sim_name_unlink(p->host, path));
}

static int sys_lstat(const char *path, struct stat *st)
{
	struct sim_proc *p = begin();

	return (int)end(p, "lstat", -1, sim_name_lstat(p->host, path, st));
}

static int sys_list(const char *folder, void (*each)(void *ctx, const char *name), void *ctx)
{
	struct sim_proc *p = begin();
	const char *name;

	for (int i = 0; (name = sim_name_in(p->host, folder, i)); i++) {
		char copy[108];

		strncpy(copy, name, sizeof(copy) - 1);
		copy[sizeof(copy) - 1] = '\0';
		each(ctx, copy);
	}
	return 0;
}

/* ---- threads ---- */

static int sys_spawn(pthread_t *thread, void *(*run)(void *arg), void *arg)
{
	struct sim_proc *p = begin();
	struct sim_task *t = sim_task_create(p, run, arg, sim_rng_below(&sim.chance, 100 * SIM_US));

	if (!t)
		return -EAGAIN;
	*thread = (pthread_t)(t - p->tasks);
	return 0;
}

static void sys_join(pthread_t thread)
{
	struct sim_proc *p = begin();
	struct sim_task *t = &p->tasks[(size_t)thread];

	t->joiner = sim.running;
	while (!t->done)
		sim_task_wait(UINT64_MAX);
}

static int sys_thread_id(void)
{
	return sim.running->id;
}

static void sys_yield(void)
{
	begin();
	sim_task_nap(1000 + sim_rng_below(&sim.chance, 4000));
}

static void sys_process(struct cx_process *own)
{
	*own = (struct cx_process){ .number = me()->number + 1 };
}

static int sys_process_state(const struct cx_process *process)
{
	const struct sim_proc *other = &sim.procs[process->number - 1];
	struct sim_proc *p = begin();
	int state = !other->alive ? CX_PROCESS_GONE : other->pauses ? 'T' : 'S';

	return (int)end(p, "state", process->number, state);
}

static int sys_bell(void)
{
	struct sim_proc *p = begin();

	return (int)end(p, "bell", -1, sim_fd_put(p, sim_bell_create(p)));
}

static void sys_ring(int bell)
{
	struct sim_proc *p = begin();
	struct sim_sock *s = sim_fd_get(p, bell);

	end(p, "ring", bell, s ? 0 : -EBADF);
	if (s)
		sim_bell_ring(s);
}

static void sys_hush(int bell)
{
	struct sim_proc *p = begin();
	struct sim_sock *s = sim_fd_get(p, bell);

	end(p, "hush", bell, s ? 0 : -EBADF);
	if (s)
		sim_bell_hush(s);
}

const struct cx_sys sim_sys = {
	.now_ns = sys_now_ns,
	.random = sys_random,
	.alloc = sys_alloc,
	.release = sys_release,
	.socket = sys_socket,
	.bind = sys_bind,
	.listen = sys_listen,
	.accept = sys_accept,
	.connect = sys_connect,
	.sendmsg = sys_sendmsg,
	.recvmsg = sys_recvmsg,
	.finish = sys_finish,
	.connected = sys_connected,
	.setopt = sys_setopt,
	.untaken = sys_untaken,
	.insist = sys_insist,
	.local_name = sys_local_name,
	.peer_name = sys_peer_name,
	.say = sys_say,
	.peer_uid = sys_peer_uid,
	.poll = sys_poll,
	.dup = sys_dup,
	.close = sys_close,
	.interfaces = sys_interfaces,
	.release_interfaces = sys_release_interfaces,
	.mkdir = sys_mkdir,
	.rmdir = sys_rmdir,
	.link = sys_link,
	.unlink = sys_unlink,
	.lstat = sys_lstat,
	.list = sys_list,
	.spawn = sys_spawn,
	.join = sys_join,
	.hurry = sys_hurry,
	.thread_id = sys_thread_id,
	.yield = sys_yield,
	.bell = sys_bell,
	.ring = sys_ring,
	.hush = sys_hush,
	.process = sys_process,
	.process_state = sys_process_state,
};
