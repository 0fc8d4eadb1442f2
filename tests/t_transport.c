/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Transports: the conformance suite on each, and what only one of them promises.
 *
 * Children of a test report through their exit code alone: a failing assertion
 * of the framework inside a forked child would hang the runner. They die with
 * their parent.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/transport_conformance.h"

/* ---- the suite ---- */

static void conformance(const char *transport)
{
	const struct conformance_case *c;

	for (c = conformance_cases; c->name; c++) {
		const char *why = conformance_run(c, transport);

		cr_assert(!why, "%s, %s: %s", transport, c->name, why);
	}
}

Test(transport, conformance_shm, .timeout = 120)
{
	conformance("shm");
}

Test(transport, conformance_sim, .timeout = 120)
{
	conformance("sim");
}

Test(transport, registry)
{
	cr_assert_str_eq(cx_transport_find("shm")->name, "shm");
	cr_assert_str_eq(cx_transport_find("sim")->name, "sim");
	cr_assert_null(cx_transport_find("carrier pigeon"));
	cr_assert(cx_transport_has_peek(cx_transport_find("shm")));
	cr_assert(cx_transport_has_reserve(cx_transport_find("shm")));
}

Test(transport, stubs)
{
	uint64_t start = cx_now_ns();
	struct cx_port_stats s = { .sleeps = 3 };
	const void *data;
	void *room;

	cr_assert_eq(cx_stub_peek(NULL, NULL, &data), COLLX_ERR_UNSUPPORTED);
	cr_assert_eq(cx_stub_reserve(NULL, NULL, &room), COLLX_ERR_UNSUPPORTED);
	cr_assert_eq(cx_stub_reg(NULL, NULL, 0, &room), COLLX_ERR_UNSUPPORTED);
	cx_stub_arm(NULL);
	cx_stub_sleep(NULL, 1000000000u);
	cr_assert(cx_now_ns() - start < 900000000u);
	cx_stub_stats(NULL, &s);
	cr_assert_eq(s.sleeps, 0);
}

/* ---- shm: one process ---- */

static void send8(struct world *w, int from, uint32_t tag)
{
	static uint64_t v;
	struct cx_xfer x = { .buf = &v, .len = 8, .tag = tag };

	cr_assert_eq(w->t->send(w->lane[from][0], &x), 1);
}

static uint64_t slept(struct world *w, int rank, uint64_t timeout_ns)
{
	uint64_t start = cx_now_ns();

	w->t->sleep(w->port[rank], timeout_ns);
	return cx_now_ns() - start;
}

Test(transport_shm, sleep, .timeout = 20)
{
	const uint64_t second = 1000000000u;
	struct cx_port_stats s0, s1;
	struct world w;

	cr_assert_eq(world_open(&w, "shm", NULL), 0);
	w.t->arm(w.port[0]);
	cr_assert_geq(slept(&w, 0, second / 50), second / 60); /* nobody came */
	w.t->arm(w.port[0]);
	send8(&w, 1, 0);
	send8(&w, 1, 1);
	cr_assert_lt(slept(&w, 0, 5 * second), 4 * second); /* somebody came before */
	w.t->arm(w.port[0]);
	cr_assert_geq(slept(&w, 0, second / 50), second / 60); /* that was then */
	w.t->arm(w.port[0]);
	w.t->sleep(w.port[0], 0);
	send8(&w, 1, 2);
	w.t->stats(w.port[0], &s0);
	w.t->stats(w.port[1], &s1);
	cr_assert_eq(s0.sleeps, 3);
	cr_assert_eq(s1.wakes, 1, "one call for two messages, none for the disarmed");
	world_close(&w);
}

Test(transport_shm, sleep_on_credit, .timeout = 20)
{
	const uint64_t second = 1000000000u;
	struct cx_xfer x[40], rx;
	uint64_t v[40] = { 0 };
	struct world w;
	int i;

	cr_assert_eq(world_open(&w, "shm", NULL), 0);
	for (i = 0; i < 40; i++) {
		x[i] = (struct cx_xfer){ .buf = &v[i], .len = 8 };
		cr_assert_geq(w.t->send(w.lane[0][0], &x[i]), 0);
	}
	cr_assert_eq(x[39].status, 0);
	w.t->arm(w.port[0]);
	cr_assert_eq(w.t->progress(w.port[0]), 0);
	for (i = 0; i < 16; i++) {
		rx = (struct cx_xfer){ .buf = &v[0], .len = 8 };
		cr_assert_eq(w.t->recv(w.lane[1][0], &rx), 1);
	}
	cr_assert_lt(slept(&w, 0, 5 * second), 4 * second);
	cr_assert_eq(w.t->progress(w.port[0]), 1);
	world_close(&w);
}

/* Memory of the size of real's, with that many bytes of it, sealed so. */
static int forged(int real, size_t copied, int seals, long more)
{
	static unsigned char head[4096];
	off_t size = lseek(real, 0, SEEK_END);
	int fd = memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	cr_assert(fd >= 0 && size > 0 && ftruncate(fd, size + more) == 0);
	cr_assert_eq(pread(real, head, copied, 0), (ssize_t)copied);
	cr_assert_eq(pwrite(fd, head, copied, 0), (ssize_t)copied);
	cr_assert_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

/* Port 0 has closed its lanes' world; a fresh port 0 tries to open a lane to addr. */
static void refused(struct world *w, const struct cx_addr *addr, int expected)
{
	struct cx_port_attr a = { .rank = 0, .ranks = 2, .lanes = WORLD_LANES, .chunk = 1024,
				  .numa_node = -1, .nonce = 1 };
	int fds = count_proc("fd"), maps = count_proc("maps"), got;
	struct cx_lane *lane = NULL;
	struct cx_port *port;

	cr_assert_eq(w->t->open(&port, &a), 0);
	got = w->t->lane_open(port, 1, addr, 0, &lane);
	cr_assert_eq(got, expected, "%d, expected %d: %s", got, expected, cx_error_text());
	if (!got)
		w->t->lane_close(lane);
	w->t->close(port);
	cr_assert_eq(count_proc("fd"), fds);
	cr_assert_leq(count_proc("maps"), maps + 1);
}

Test(transport_shm, hostile_memory)
{
	const int all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	struct cx_addr good, bad;
	struct world w;
	unsigned i;

	cr_assert_eq(world_open(&w, "shm", NULL), 0);
	cr_assert_eq(w.t->addr(w.port[1], &good), 0);
	bad = good;
	bad.fd = forged(good.fd, 4096, all, 0);
	refused(&w, &bad, 0); /* the forger is able */
	bad.fd = forged(good.fd, 0, all, 0);
	refused(&w, &bad, COLLX_ERR_VERSION);
	bad.fd = forged(good.fd, 4096, F_SEAL_GROW | F_SEAL_SEAL, 0);
	refused(&w, &bad, COLLX_ERR_CORRUPT);
	bad.fd = forged(good.fd, 4096, 0, 0);
	refused(&w, &bad, COLLX_ERR_CORRUPT);
	bad.fd = forged(good.fd, 4096, all, 4096);
	refused(&w, &bad, COLLX_ERR_CORRUPT);
	bad.fd = forged(good.fd, 4096, all, -4096);
	refused(&w, &bad, COLLX_ERR_CORRUPT);
	bad.fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	refused(&w, &bad, COLLX_ERR_SYSTEM);
	bad.fd = -1;
	refused(&w, &bad, COLLX_ERR_SYSTEM);
	for (i = 0; i < good.len; i++) {
		bad = good;
		bad.bytes[i] ^= 1;
		refused(&w, &bad, i < 8 ? COLLX_ERR_VERSION : COLLX_ERR_MISMATCH);
	}
	bad = good;
	bad.len--;
	refused(&w, &bad, COLLX_ERR_CORRUPT);
	world_close(&w);
}

/* Own memory overwritten by a mad peer: errors, never a stray byte. */
static void scribble(uint32_t seed, int *errors)
{
	static unsigned char buf[5000 + GUARD];
	struct cx_xfer tx = { .buf = buf, .len = 5000, .tag = 3 };
	struct cx_xfer rx = { .buf = buf, .len = seed % 3 ? 5000 : 8, .tag = 3 };
	struct world w;
	struct cx_addr addr;
	uint32_t *mem, i, r = seed;

	cr_assert_eq(world_open(&w, "shm", NULL), 0);
	cr_assert_eq(w.t->addr(w.port[1], &addr), 0);
	mem = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, addr.fd, 0);
	cr_assert_neq(mem, MAP_FAILED);
	clear(buf, 5000);
	w.t->send(w.lane[0][0], &tx);
	for (i = 0; i < 3; i++) {
		r = r * 1664525 + 1013904223;
		/* Heads, tags, lengths, credits; mostly near what is right. */
		mem[1024 + (r >> 20) % 300] ^= r & 64 ? 1u << (r >> 8 & 31) : r;
	}
	w.t->recv(w.lane[1][0], &rx);
	for (i = 0; i < 20; i++) {
		w.t->progress(w.port[0]);
		w.t->progress(w.port[1]);
	}
	cr_assert(rx.status == 1 || rx.status == 0 || rx.status == COLLX_ERR_CORRUPT ||
		  rx.status == COLLX_ERR_MISMATCH, "status %d", rx.status);
	*errors += rx.status < 0 || tx.status < 0;
	for (i = 0; i < GUARD; i++)
		cr_assert_eq(buf[5000 + i], 0xee);
	munmap(mem, 65536);
	world_close(&w);
}

Test(transport_shm, mad_peer, .timeout = 60)
{
	int errors = 0;
	uint32_t i;

	for (i = 0; i < 5000; i++)
		scribble(i * 2654435761u, &errors);
	cr_assert_gt(errors, 200);
}

/* ---- shm: two processes ---- */

struct end {
	const struct cx_transport *t;
	struct cx_port *port;
	struct cx_lane *lane;
	uint32_t random;
	int rank;
};

/* An address and its descriptor over a socket, both ways. */
static int swap_addr(int sock, struct cx_addr *addr)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} c;
	struct iovec iov = { addr, sizeof(*addr) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = c.room,
			    .msg_controllen = sizeof(c.room) };

	c.align.cmsg_level = SOL_SOCKET;
	c.align.cmsg_type = SCM_RIGHTS;
	c.align.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&c.align), &addr->fd, sizeof(int));
	if (sendmsg(sock, &m, 0) != (ssize_t)sizeof(*addr) ||
	    recvmsg(sock, &m, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(*addr))
		return 1;
	memcpy(&addr->fd, CMSG_DATA(&c.align), sizeof(int));
	return 0;
}

static int end_open(struct end *e, int rank, int sock)
{
	struct cx_port_attr a = { .rank = rank, .ranks = 2, .lanes = 1, .chunk = 4096,
				  .numa_node = -1, .nonce = 77 };
	struct cx_addr addr;
	int err;

	e->t = cx_transport_find("shm");
	e->rank = rank;
	e->random = (uint32_t)rank + 1;
	if (e->t->open(&e->port, &a) || e->t->addr(e->port, &addr) || swap_addr(sock, &addr))
		return 1;
	err = e->t->lane_open(e->port, !rank, &addr, 0, &e->lane);
	close(addr.fd);
	return err != 0;
}

static void end_close(struct end *e)
{
	e->t->lane_close(e->lane);
	e->t->close(e->port);
}

static uint32_t end_random(struct end *e)
{
	e->random = e->random * 1664525 + 1013904223;
	return e->random >> 8;
}

/* Waits by polling some times and then sleeping. 0: done; 1: error; 2: a wake-up got lost. */
static int end_wait(struct end *e, struct cx_xfer *x)
{
	const uint64_t second = 1000000000u;
	uint32_t spins = end_random(e) % 300;
	uint64_t start;

	while (!x->status) {
		if (e->t->progress(e->port) || spins-- > 0)
			continue;
		spins = end_random(e) % 300;
		e->t->arm(e->port);
		if (e->t->progress(e->port)) {
			e->t->sleep(e->port, 0);
			continue;
		}
		start = cx_now_ns();
		e->t->sleep(e->port, 10 * second);
		if (cx_now_ns() - start > 9 * second)
			return 2;
	}
	return x->status != 1;
}

static int end_send(struct end *e, void *buf, size_t len, uint32_t tag)
{
	struct cx_xfer x = { .buf = buf, .len = len, .tag = tag };

	return e->t->send(e->lane, &x) < 0 ? 1 : end_wait(e, &x);
}

static int end_recv(struct end *e, void *buf, size_t len, uint32_t tag)
{
	struct cx_xfer x = { .buf = buf, .len = len, .tag = tag };

	return e->t->recv(e->lane, &x) < 0 ? 1 : end_wait(e, &x);
}

static void end_pause(struct end *e)
{
	if (end_random(e) % 64 == 0)
		usleep(end_random(e) % 200);
}

static int ping_pong(struct end *e, int sock)
{
	uint32_t i, v, bad = 0;

	(void)sock;
	for (i = 0; i < 100000 && !bad; i++) {
		v = i ^ 0x5555;
		end_pause(e);
		bad = e->rank == 0 ? (uint32_t)end_send(e, &v, 4, i) : 0;
		v = e->rank == 0 ? 0 : v;
		bad = bad ? bad : (uint32_t)end_recv(e, &v, 4, i + (uint32_t)(e->rank == 0));
		if (!bad && e->rank)
			bad = (uint32_t)end_send(e, &v, 4, i + 1);
		bad = bad ? bad : (v == (i ^ 0x5555) ? 0 : 3);
	}
	return (int)bad;
}

/* One way, so that the sender waits for credit now and the receiver for data then. */
static int stream(struct end *e, int sock)
{
	static unsigned char buf[40000 + GUARD];
	uint32_t i, bad = 0, lens = 12345;

	(void)sock;
	for (i = 0; i < 20000 && !bad; i++) {
		size_t len;

		lens = lens * 1664525 + 1013904223;
		len = lens >> 29 ? (lens >> 8) % 300 : (lens >> 8) % 40000;
		if ((i >> 8 & 1) == (uint32_t)e->rank)
			end_pause(e);
		if (e->rank == 0)
			fill(buf, len, i);
		else
			clear(buf, len);
		bad = (uint32_t)(e->rank ? end_recv : end_send)(e, buf, len, i);
		if (!bad && e->rank && !holds(buf, len, i))
			bad = 3;
	}
	return (int)bad;
}

/* A kernel without membarrier, for this process. */
static int forbid_membarrier(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

static pid_t start_end(int rank, int sock, int plain, int (*body)(struct end *, int))
{
	pid_t pid = fork();
	struct end e;
	int code;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if ((plain && forbid_membarrier()) || end_open(&e, rank, sock))
		_exit(9);
	code = body(&e, sock);
	end_close(&e);
	_exit(code);
}

/* Both ends in processes of their own; plain: bit r set where rank r has no membarrier. */
static void two_processes(int plain, int (*body)(struct end *, int))
{
	int sock[2], r, status[2];
	pid_t pid[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock), 0);
	for (r = 0; r < 2; r++)
		pid[r] = start_end(r, sock[r], plain >> r & 1, body);
	for (r = 0; r < 2; r++)
		waitpid(pid[r], &status[r], 0);
	close(sock[0]);
	close(sock[1]);
	for (r = 0; r < 2; r++)
		cr_assert(WIFEXITED(status[r]) && WEXITSTATUS(status[r]) == 0,
			  "rank %d, plain %d: wait status %#x", r, plain, status[r]);
}

Test(transport_shm, ping_pong, .timeout = 200)
{
	two_processes(0, ping_pong);
}

Test(transport_shm, ping_pong_mixed, .timeout = 200)
{
	two_processes(2, ping_pong);
}

Test(transport_shm, ping_pong_fenced, .timeout = 200)
{
	two_processes(3, ping_pong);
}

Test(transport_shm, stream, .timeout = 200)
{
	two_processes(0, stream);
	two_processes(3, stream);
}

/* Runs until it is killed, or told by the socket to leave. */
static int survive(struct end *e, int sock)
{
	unsigned char buf[3000] = { 0 };
	struct cx_xfer tx = { .status = 1 }, rx = { .status = 1 };
	char word;

	while (recv(sock, &word, 1, MSG_DONTWAIT) < 0) {
		if (tx.status) {
			tx = (struct cx_xfer){ .buf = buf, .len = sizeof(buf), .tag = 1 };
			e->t->send(e->lane, &tx);
		}
		if (rx.status) {
			rx = (struct cx_xfer){ .buf = buf, .len = sizeof(buf), .tag = 1 };
			e->t->recv(e->lane, &rx);
		}
		e->t->arm(e->port);
		e->t->sleep(e->port, e->t->progress(e->port) ? 0 : 1000000);
	}
	return 0;
}

Test(transport_shm, killed, .timeout = 60)
{
	int fds, names, sock[2], r, status;
	pid_t pid[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock), 0);
	names = count_proc("../../dev/shm");
	fds = count_proc("fd");
	for (r = 0; r < 2; r++)
		pid[r] = start_end(r, sock[r], 0, survive);
	usleep(100000);
	kill(pid[0], SIGKILL);
	waitpid(pid[0], &status, 0);
	cr_assert(WIFSIGNALED(status));
	usleep(50000);
	cr_assert_eq(send(sock[0], "x", 1, 0), 1);
	waitpid(pid[1], &status, 0);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "survivor: %#x", status);
	/* Others of this machine have names there, too, which come and go. */
	for (int i = 0; i < 200 && count_proc("../../dev/shm") > names; i++)
		usleep(10000);
	cr_assert_leq(count_proc("../../dev/shm"), names);
	cr_assert_eq(count_proc("fd"), fds);
}

/* ---- sim ---- */

enum { SIM_RANKS = 3, SIM_COUNT = 40 };

/* A run of three ranks that all send to all; a hash of what came when. */
static uint64_t sim_run(uint64_t seed)
{
	struct cx_sim_attr attr = { .seed = seed, .min_delay_ns = 10, .max_delay_ns = 900,
				    .beta_ns_per_byte = 0.5, .window = 4, .short_io = 1 };
	static unsigned char buf[SIM_RANKS * SIM_RANKS][2][3000];
	struct cx_xfer x[SIM_RANKS * SIM_RANKS][2];
	struct cx_lane *lane[SIM_RANKS][SIM_RANKS] = { 0 };
	const struct cx_transport *t = cx_transport_find("sim");
	struct cx_port *port[SIM_RANKS];
	struct cx_sim *sim = cx_sim_create(&attr, SIM_RANKS);
	uint64_t hash = 0;
	struct cx_addr addr;
	int i, j, k, moved;

	for (i = 0; i < SIM_RANKS; i++) {
		struct cx_port_attr a = { .rank = i, .ranks = SIM_RANKS, .lanes = 1, .chunk = 256,
					  .sim = sim };

		cr_assert_eq(t->open(&port[i], &a), 0);
	}
	for (k = 0; k < SIM_RANKS * SIM_RANKS; k++) {
		i = k / SIM_RANKS, j = k % SIM_RANKS;
		t->addr(port[j], &addr);
		cr_assert(i == j || t->lane_open(port[i], j, &addr, 0, &lane[i][j]) == 0);
	}
	for (int n = 0; n < SIM_COUNT; n++) {
		for (k = 0; k < SIM_RANKS * SIM_RANKS; k++) {
			i = k / SIM_RANKS, j = k % SIM_RANKS;
			if (i == j)
				continue;
			x[k][0] = (struct cx_xfer){ .buf = buf[k][0], .len = 3000, .tag = 1 };
			x[k][1] = (struct cx_xfer){ .buf = buf[k][1], .len = 3000, .tag = 1 };
			cr_assert_geq(t->send(lane[i][j], &x[k][0]), 0);
			cr_assert_geq(t->recv(lane[i][j], &x[k][1]), 0);
		}
		do {
			for (i = 0, moved = 0; i < SIM_RANKS; i++)
				moved |= t->progress(port[cx_sim_random(sim, SIM_RANKS)]);
			for (k = 0; k < SIM_RANKS * SIM_RANKS; k++)
				if (k % (SIM_RANKS + 1))
					hash = hash * 1099511628211u + x[k][1].done;
			hash = hash * 1099511628211u + cx_sim_now_ns(sim);
		} while (moved || cx_sim_advance(sim));
		for (i = 0; i < SIM_RANKS; i++)
			while (t->progress(port[i]))
				;
		for (k = 0; k < SIM_RANKS * SIM_RANKS; k++)
			cr_assert(k % (SIM_RANKS + 1) == 0 || x[k][1].status == 1);
	}
	for (k = 0; k < SIM_RANKS * SIM_RANKS; k++)
		if (lane[k / SIM_RANKS][k % SIM_RANKS])
			t->lane_close(lane[k / SIM_RANKS][k % SIM_RANKS]);
	for (i = 0; i < SIM_RANKS; i++)
		t->close(port[i]);
	cx_sim_destroy(sim);
	return hash;
}

Test(transport_sim, seeds)
{
	cr_assert_eq(sim_run(1), sim_run(1));
	cr_assert_eq(sim_run(99), sim_run(99));
	cr_assert_neq(sim_run(1), sim_run(2));
}

Test(transport_sim, lanes_overtake)
{
	struct world_attr attr = { .sim = { .seed = 5, .max_delay_ns = 1000 } };
	int round, first[2] = { 0, 0 };

	for (round = 0; round < 40; round++) {
		struct cx_xfer tx[2], rx[2];
		uint64_t v[4] = { 0 };
		struct world w;
		int i;

		attr.sim.seed = (uint64_t)round;
		cr_assert_eq(world_open(&w, "sim", &attr), 0);
		for (i = 0; i < 2; i++) {
			tx[i] = (struct cx_xfer){ .buf = &v[i], .len = 8 };
			rx[i] = (struct cx_xfer){ .buf = &v[2 + i], .len = 8 };
			cr_assert_eq(w.t->send(w.lane[0][i], &tx[i]), 1);
			cr_assert_eq(w.t->recv(w.lane[1][i], &rx[i]), 0);
		}
		while (!rx[0].status && !rx[1].status)
			cr_assert(world_step(&w));
		first[0] += rx[0].status;
		first[1] += rx[1].status;
		world_close(&w);
	}
	cr_assert(first[0] > 5 && first[1] > 5, "%d %d", first[0], first[1]);
}

Test(transport_sim, window)
{
	struct world_attr attr = { .sim = { .window = 3 } };
	struct cx_xfer x[5], rx;
	uint64_t v = 0;
	struct world w;
	int i;

	cr_assert_eq(world_open(&w, "sim", &attr), 0);
	for (i = 0; i < 5; i++) {
		x[i] = (struct cx_xfer){ .buf = &v, .len = 8 };
		cr_assert_eq(w.t->send(w.lane[0][0], &x[i]), i < 3);
	}
	while (world_step(&w))
		;
	cr_assert_eq(x[3].status, 0);
	rx = (struct cx_xfer){ .buf = &v, .len = 8 };
	cr_assert_eq(w.t->recv(w.lane[1][0], &rx), 1);
	cr_assert(w.t->progress(w.port[0]) == 1 && x[3].status == 1 && x[4].status == 0);
	world_close(&w);
}

Test(transport_sim, kill)
{
	struct cx_xfer rx = { .buf = (uint64_t[1]){ 0 }, .len = 8 }, tx = rx;
	const void *data;
	struct world w;

	cr_assert_eq(world_open(&w, "sim", NULL), 0);
	cr_assert_eq(w.t->recv(w.lane[1][0], &rx), 0);
	cx_sim_kill(w.sim, 0);
	cr_assert_eq(world_wait(&w, &rx), COLLX_ERR_PEER_DEAD);
	cr_assert(strstr(cx_error_text(), "rank 0"));
	cr_assert_eq(w.t->send(w.lane[1][1], &tx), COLLX_ERR_PEER_DEAD);
	cr_assert_eq(w.t->peek(w.lane[1][2], &tx, &data), COLLX_ERR_PEER_DEAD);
	cr_assert_eq(w.t->recv(w.lane[1][0], &rx), COLLX_ERR_PEER_DEAD);
	world_close(&w);
}

Test(transport_sim, cut)
{
	uint64_t v[2] = { 7, 0 };
	struct cx_xfer rx = { .buf = &v[1], .len = 8 }, tx = { .buf = &v[0], .len = 8 };
	struct cx_xfer back = { .buf = &v[1], .len = 8 };
	struct world w;
	int i;

	cr_assert_eq(world_open(&w, "sim", NULL), 0);
	cx_sim_cut(w.sim, 0, 1);
	cr_assert_eq(w.t->recv(w.lane[1][0], &rx), 0);
	for (i = 0; i < 20; i++)
		cr_assert_eq(w.t->send(w.lane[0][0], &tx), 1);
	while (world_step(&w))
		;
	cr_assert_eq(rx.status, 0);
	cr_assert_eq(cx_sim_advance(w.sim), 0);
	cr_assert_eq(w.t->send(w.lane[1][0], &tx), 1);
	cr_assert_geq(w.t->recv(w.lane[0][0], &back), 0);
	cr_assert_eq(world_wait(&w, &back), 1);
	world_close(&w);
}

Test(transport_sim, flip)
{
	static const size_t lens[] = { 0, 1, 8, 500, 3000 };
	static unsigned char buf[3000];
	size_t i;

	for (i = 0; i < 5; i++) {
		struct cx_xfer rx = { .buf = buf, .len = lens[i], .tag = 4 }, tx = rx, next = rx;
		struct world w;

		cr_assert_eq(world_open(&w, "sim", NULL), 0);
		cr_assert_eq(w.t->send(w.lane[0][1], &tx), 1);
		cx_sim_flip(w.sim, 0, 1);
		cr_assert_eq(w.t->send(w.lane[0][1], &tx), 1);
		cr_assert_geq(w.t->recv(w.lane[1][1], &rx), 0);
		cr_assert_eq(world_wait(&w, &rx), 1);
		cr_assert_geq(w.t->recv(w.lane[1][1], &next), 0);
		cr_assert_eq(world_wait(&w, &next), COLLX_ERR_CORRUPT);
		world_close(&w);
	}
}
