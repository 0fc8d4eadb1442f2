/* SPDX-License-Identifier: BSD-3-Clause */
/* Who does not belong to the job, and who does but speaks out of turn; see job.h. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include "base/base.h"
#include "boot.h"
#include "job.h"

/* ---- strangers ---- */

enum {
	SILENT,    /* connects and waits */
	HANG_UP,   /* connects and goes */
	NOISE,     /* sends bytes by chance, more than a proof has */
	FORGER,    /* a proof of the right length, by chance */
	REPLAY,    /* the proof of another connection, overheard */
	SLOW,      /* the same, byte by byte */
	OTHER_USER /* another user's process at a unix socket, though it knows the secret */
};

struct stranger {
	struct sim_proc *proc;
	int how;
};

static int knock(struct sim_proc *p, bool near)
{
	struct sockaddr_storage a;
	socklen_t len;
	int fd, rc;

	for (int tries = 0; tries < 40; tries++) {
		if (!sim_net_listener(p->host, near, &a, &len)) {
			sim_task_nap(5 * SIM_MS);
			continue;
		}
		fd = cx_sys->socket(a.ss_family, SOCK_STREAM);
		rc = cx_sys->connect(fd, (const struct sockaddr *)&a, len);
		if (!rc || rc == -EINPROGRESS)
			return fd;
		cx_sys->close(fd);
	}
	return -1;
}

static size_t compose(struct stranger *t, char out[256])
{
	size_t n = t->how == NOISE ? 256 : CX_PROOF_BYTES;

	if (t->how == REPLAY || t->how == SLOW) {
		n = sim_net_overheard(out, 256);
		if (n)
			return n;
		n = CX_PROOF_BYTES;
	}
	for (size_t i = 0; i < n; i++)
		out[i] = (char)sim_rng_next(&t->proc->random);
	return n;
}

static void speak(struct stranger *t, int fd)
{
	char bytes[256];
	size_t n = compose(t, bytes), step = t->how == SLOW ? 1 : n;

	for (size_t at = 0; at < n; at += step) {
		struct iovec v = { bytes + at, cx_min(step, n - at) };
		const struct msghdr msg = { .msg_iov = &v, .msg_iovlen = 1 };

		cx_sys->sendmsg(fd, &msg);
		if (t->how == SLOW)
			sim_task_nap(30 * SIM_MS);
	}
}

/* As rank 1 would come. */
static void prove(int fd)
{
	const struct cx_claim claim = { .rank = 1, .ranks = (uint32_t)sim_job.plan->ranks,
					.kind = CX_CONN_CONTROL };
	unsigned char challenge[CX_CHALLENGE_BYTES], proof[CX_PROOF_BYTES];
	uint64_t until = cx_now_ns() + SIM_S;

	if (!cx_wire_get(fd, challenge, sizeof(challenge), until) &&
	    !cx_auth_prove(&sim_job.secret, challenge, &claim, proof))
		cx_wire_put(fd, proof, sizeof(proof), until);
}

static void *bother(void *arg)
{
	struct stranger *t = arg;
	int fd = knock(t->proc, t->how == OTHER_USER);
	struct pollfd p = { .fd = fd, .events = POLLIN };

	if (fd < 0)
		return NULL;
	cx_sys->poll(&p, 1, 200);
	if (t->how == OTHER_USER)
		prove(fd);
	else if (t->how != SILENT && t->how != HANG_UP)
		speak(t, fd);
	if (t->how != HANG_UP)
		sim_task_nap(3 * SIM_S);
	cx_sys->close(fd);
	return NULL;
}

void sim_strangers_start(void)
{
	const struct sim_schedule *s = sim_job.plan;

	for (int i = 0; i < s->nstrangers; i++) {
		struct stranger *t = sim_memory(sizeof(*t));

		t->how = s->stranger[i].how % (OTHER_USER + 1);
		t->proc = sim_proc_create("stranger", s->stranger[i].host);
		if (t->how == OTHER_USER)
			t->proc->uid++;
		sim_task_create(t->proc, bother, t, s->stranger[i].at_ns);
	}
}

/* ---- a rank that says what is not its to say ---- */

/* The body of a report, as ward.c has it. */
struct report {
	int32_t about, code;
	uint32_t hearsay, sys_errno;
	struct cx_where where;
	uint64_t age_us;
	char text[16];
};

/* A rank that is neither p nor below it, for whom p may speak. */
static int someone_else(const struct sim_player *p, uint64_t how)
{
	const struct sim_schedule *s = sim_job.plan;
	int r = (int)(how / 16) % s->ranks;

	if (s->meeting != SIM_TCP_AND_LOCAL)
		return r == p->rank ? 0 : r;
	return s->host[r] == s->host[p->rank] ? 0 : r;
}

/* And of a verdict. */
struct verdict {
	int32_t origin, about, sys_errno;
	uint32_t unused;
	struct cx_where where;
	uint64_t age_us;
	char text[32];
};

static void say(struct cx_wire *up, const struct sim_player *p, uint64_t how)
{
	const int bad_ranks[] = { -1, sim_job.plan->ranks, 1 << 30, INT32_MIN };
	struct report r = { .about = -1, .code = COLLX_ERR_TIMEOUT, .text = "a lie" };
	const struct verdict lie = { .about = -1, .text = "a lie about an innocent rank" };
	struct { uint64_t state, still; uint32_t answers, signs; } a = { 0, 0, 0, 9 };
	struct cx_frame_head long_head = { CX_FRAME_LEAVE, CX_FRAME_MAX + 1, p->rank, 0 };
	int other = someone_else(p, how), bad = bad_ranks[how / 16 % 4];
	uint64_t seq[2] = { 1, 0 };

	switch (how % 12) {
	case 0: cx_wire_send(up, CX_FRAME_LEAVE, other, seq, sizeof(seq), -1, 0); break;
	case 1: cx_wire_send(up, CX_FRAME_LEAVE, bad, seq, sizeof(seq), -1, 0); break;
	case 2: cx_wire_send(up, CX_FRAME_REPORT, other, &r, sizeof(r), -1, 0); break;
	case 3: cx_wire_send(up, CX_FRAME_REPORT, bad, &r, sizeof(r), -1, 0); break;
	case 4: cx_wire_send(up, CX_FRAME_SIGNS, other, &a, sizeof(a), -1, 0); break;
	case 5: cx_wire_send(up, CX_FRAME_SIGNS, p->rank, &a, sizeof(a), -1, 0); break;
	case 6:
		cx_wire_send(up, CX_FRAME_VERDICT, COLLX_ERR_PEER_DEAD, &lie, sizeof(lie), -1, 0);
		break;
	case 7: cx_wire_send(up, CX_FRAME_ASK, 1, NULL, 0, -1, 0); break;
	case 8: cx_wire_send(up, (enum cx_frame_kind)999, 0, NULL, 0, -1, 0); break;
	case 9: cx_wire_put(up->fd, &long_head, sizeof(long_head), 0); break;
	case 10:
		r.about = sim_job.plan->ranks;
		cx_wire_send(up, CX_FRAME_REPORT, p->rank, &r, sizeof(r), -1, 0);
		break;
	default: cx_wire_send(up, CX_FRAME_LEAVE, p->rank, seq, 3, -1, 0);
	}
}

void sim_rogue_speak(struct sim_player *p, struct cx_wire *up, uint64_t how)
{
	uint64_t until = cx_now_ns() + 4 * SIM_S;

	sim_task_nap(sim_rng_below(&p->proc->random, sim_job.plan->think_ns * 4));
	say(up, p, how);
	sim_trace(p->proc, "SAYS WHAT IT MAY NOT, kind %llu", (unsigned long long)how % 12);
	while (cx_now_ns() < until) {
		struct pollfd f = { .fd = up->fd, .events = POLLIN };
		int rc = cx_wire_receive(up);

		if (rc < 0 || (rc == 1 && up->head.kind == CX_FRAME_VERDICT))
			return;

		if (rc == 1)
			cx_wire_next(up);
		else
			cx_sys->poll(&f, 1, 100);
	}
}

bool sim_rogue_is_early(const struct sim_player *p)
{
	const struct sim_fault *f = sim_schedule_find(sim_job.plan, SIM_ROGUE, p->rank);

	return f && f->n >= 48;
}

/* Says for another rank that it is through. */
void sim_rogue_record(struct sim_player *p, struct cx_wire *up)
{
	const struct sim_fault *f = sim_schedule_find(sim_job.plan, SIM_ROGUE, p->rank);

	sim_trace(p->proc, "GIVES ANOTHER RANK'S RECORD");
	cx_wire_send(up, CX_FRAME_RECORD, someone_else(p, f->n), NULL, 0, -1, 0);
}
