/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * collx-run: starts the ranks of a job, gives them what collx_comm_create_from_env
 * wants to know, and sees to it that they end together and leave nothing behind.
 *
 * Two processes where the user started it: one only waits and passes signals on; its
 * child does the work, and hears from the kernel when the first dies, be it by SIGKILL,
 * and then ends the job as for SIGTERM.
 *
 *   one host      the child is the keeper: it starts the ranks itself (run_here.c).
 *   several       the child is the launcher: it starts an agent for each host, which
 *                 starts "collx-run --serve" there (run_hosts.c). That one is told the
 *                 job over its standard input, starts the ranks of its host and reports
 *                 over its standard output (run_serve.c); it ends them when its input
 *                 ends, so nothing outlives the launcher.
 *
 *   launcher -- ssh a -- collx-run --serve -- ranks 0, 1
 *           \-- ssh b -- collx-run --serve -- ranks 2, 3
 *
 * Each rank is the leader of a process group, which ends with it.
 */
#ifndef RUN_H
#define RUN_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	RUN_RANKS_MAX = 4096,
	RUN_HOSTS_MAX = 256,
	RUN_ADDR_BYTES = 96,   /* what libcollx takes as COLLX_ADDR */
	RUN_SECRET_CHARS = 64, /* hexadecimal digits */
	RUN_GRACE_MS = 2000,   /* between asking ranks to end and killing them */
	RUN_UNREAD_MS = 500,   /* without room after that: the output has no reader */
	RUN_EXIT_TIMEOUT = 124, /* as timeout(1) */
	RUN_EXIT_NOEXEC = 126,  /* as the shells */
	RUN_EXIT_NOCMD = 127
};

/* The ranks of one host of the list. */
struct run_share {
	char *name;
	int first, count;
};

struct run_options {
	int ranks;
	bool prefix;
	bool keep_going;  /* a rank that fails does not end the others */
	double timeout_s; /* 0: none */
	char **cmd;
	struct run_share *shares; /* NULL: all ranks are of this host */
	int nshares;
	const char *agent; /* words, to which a host's name is added */
	const char *addr;  /* where the ranks meet; NULL: the first host chooses */
};

/* ---- run_link.c: buffers, and frames between a launcher and its hosts ---- */

struct run_buffer {
	char *data;
	size_t at, len, room; /* what counts is data[at..len) */
};

/* Ends this process when memory is short; the others then end as well. */
void run_buffer_add(struct run_buffer *b, const void *data, size_t len);
void run_buffer_take(struct run_buffer *b, size_t len);
/* Overwrites what it held. */
void run_buffer_free(struct run_buffer *b);

enum run_frame_kind {
	/* to a host */
	RUN_FRAME_JOB = 1, /* body: see run_serve.c */
	RUN_FRAME_START,   /* body: where the ranks meet */
	RUN_FRAME_ACK,     /* arg: bytes of output that were written */
	RUN_FRAME_DEAF,    /* arg: stream (1, 2) that nobody reads */
	RUN_FRAME_END,     /* arg: signal for the ranks */
	/* from a host */
	RUN_FRAME_READY,   /* body: the place it chose, or "" */
	RUN_FRAME_REFUSED, /* arg: exit status; body: why */
	RUN_FRAME_OUT,     /* arg: rank; body: a line of its output */
	RUN_FRAME_ERR,     /* the same of its error output */
	RUN_FRAME_ENDED,   /* arg: rank; body: pid, si_code, si_status in decimal digits */
	RUN_FRAME_DONE     /* nothing runs there any more */
};

enum {
	RUN_LINE_MAX = 1 << 16,   /* longer lines are cut on their way */
	RUN_CREDIT = 1 << 18,     /* bytes of output under way from a host */
	RUN_FRAME_MAX = 16 << 20, /* an environment, mostly */
	RUN_TEXT_MAX = 512
};

struct run_frame {
	enum run_frame_kind kind;
	int arg;
	size_t len;
	const char *body; /* until the link is read again */
};

struct run_link {
	int in, out; /* non-blocking; -1: closed */
	struct run_buffer from, to;
};

/* What a serving side says first; what comes before it is a login's chatter. */
extern const char run_link_mark[];

void run_link_put(struct run_link *l, enum run_frame_kind kind, int arg, const void *body,
		  size_t len);
/* 1: a frame; 0: not yet; -1: what came is none. */
int run_link_next(struct run_link *l, struct run_frame *f);
/* Reads once without waiting: bytes, 0 for none, -1 (and closed) at the end. */
long run_link_read(struct run_link *l);
/* Writes what it can without waiting; false (and closed) at the end. */
bool run_link_write(struct run_link *l);
void run_link_close(struct run_link *l);

/* ---- run_ranks.c: the ranks of this host ---- */

/* One output of one rank; what came since the last newline. */
struct run_stream {
	int fd; /* -1: at its end */
	int which; /* 1: output, 2: errors */
	char *line;
	size_t len, room;
};

struct run_rank {
	pid_t pid; /* also its process group; 0: ended */
	struct run_stream out, err;
};

struct run_job {
	int size;         /* ranks of the job */
	int first, count; /* those of this host */
	bool piped;       /* their output comes through this process */
	bool feeds;       /* rank 0 reads this process's input */
	size_t line_max;  /* longer lines are cut */
	char **cmd;
	struct run_rank *ranks; /* [count] */
	int alive;
	int signals; /* signalfd */
	int secret;
	char dir[RUN_ADDR_BYTES];
	char addr[RUN_ADDR_BYTES]; /* where the ranks meet */
	bool ending;
	int64_t deadline_ms; /* of the next step, of the grace if ending; -1: none */
	/* Passes a line on; false when nobody wants more of this stream. */
	bool (*line)(struct run_job *job, const struct run_stream *s, int rank, const char *line,
		     size_t len);
	/* A rank ended; its pid is about to be reaped. */
	void (*ended)(struct run_job *job, int rank, const siginfo_t *end);
};

int64_t run_now_ms(void);
/* For poll: until the deadline, or for ever where it is negative. */
int run_wait_ms(int64_t deadline_ms);
int run_complain(const char *what);

/* The signals this program acts on: not those it was started to ignore (nohup). */
sigset_t run_own_signals(void);
/* Those as a descriptor; -1 on failure. */
int run_signals_open(void);
/* The next one that came, or 0. */
int run_signals_next(int signals);

/* A new secret: RUN_SECRET_CHARS digits and a final 0. */
int run_secret_make(char text[RUN_SECRET_CHARS + 1]);
/* Memory without a name: a copy of the descriptor is the only way to it. */
int run_secret_open(struct run_job *job, const char *text);

/* The folder (mkdtemp: mode 0700) of the socket that rank 0 binds, which is job->addr. */
int run_folder_make(struct run_job *job);
void run_folder_remove(const struct run_job *job);

int run_ranks_init(struct run_job *job);
void run_ranks_fini(struct run_job *job);
/* Starts job->ranks[i]: 0 when it runs; errno of what went wrong otherwise. With a pid
 * it was forked, so it is the command that failed. */
int run_ranks_start(struct run_job *job, int i);
/* "cannot start" in words, and the exit status for it. */
int run_start_error(const struct run_job *job, int i, int err, char *text, size_t len);
void run_ranks_signal(const struct run_job *job, int sig);
/* Asks them to end, once; they are killed RUN_GRACE_MS later by who keeps the deadline. */
void run_ranks_end(struct run_job *job, int sig);
/* Takes in all that ended. */
void run_ranks_reap(struct run_job *job);
/* "rank 3 (pid 17) exited with status 2" */
void run_end_text(char *text, size_t len, int rank, const siginfo_t *end);
/* Processes that left their rank's group; as subreaper this one inherits them. */
void run_strays_kill(void);

/* The ends of ranks in a job that goes on without those who fail. */
struct run_toll {
	int good, bad;           /* ranks that ended with status 0, and others */
	int status;              /* exit status for the first of the others */
	struct run_buffer lines; /* about them, to be said at the end */
};

bool run_end_is_good(const siginfo_t *end);
/* As a shell shows it. */
int run_end_status(const siginfo_t *end);
/* `host` NULL: this one. */
void run_toll_take(struct run_toll *t, int rank, const siginfo_t *end, const char *host);
/* One of which no more will be heard. */
void run_toll_miss(struct run_toll *t, const char *text);
/* The job's exit status. */
int run_toll_status(const struct run_toll *t);

/* ---- run_stream.c ---- */

int run_stream_open(struct run_stream *s, int which, int *writer);
/* Reads a stream once and passes whole lines on; false when there was nothing. Closed
 * when one side has ended, so that a rank which still writes is told by SIGPIPE. */
bool run_stream_pump(struct run_job *job, struct run_stream *s, int rank);
/* What is left when all ranks have ended. */
void run_stream_drain(struct run_job *job, struct run_stream *s, int rank);
void run_stream_close(struct run_stream *s);

/* ---- run_addr.c: where ranks of several hosts meet ---- */

/*
 * An address of this host that others reach, as cx_net_choose has it, and a free port of
 * it: COLLX_PORT, or one of COLLX_PORT_RANGE. Returns a descriptor that keeps the port from
 * being given to others while it is open, or -1 with the reason in why.
 */
int run_addr_choose(char addr[RUN_ADDR_BYTES], char why[RUN_TEXT_MAX]);
/* Leaves out COLLX_INTERFACE where it is an address that only the first host has: the ranks
 * of this one then listen where the route to it begins. */
void run_addr_forget_first(void);

/* ---- run_shares.c: the list of hosts ---- */

/*
 * "a:2,b:2" or, with `ranks` to deal out, "a,b". NULL and 0 is no list. 0, or -1 with the
 * reason in why. *ranks becomes the sum; 0 before: not given.
 */
int run_shares_parse(const char *list, struct run_share **shares, int *n, int *ranks,
		     char why[RUN_TEXT_MAX]);
void run_shares_free(struct run_share *shares, int n);

/* ---- run_agent.c: one host, as its launcher sees it ---- */

struct run_host {
	const struct run_share *share;
	pid_t agent; /* leads a session of its own; 0: ended */
	struct run_link link;
	bool marked; /* a serving side answered, */
	bool ready;  /* is prepared, */
	bool done;   /* has nothing left that runs */
	long unacked; /* bytes of output that it was not yet told of */
	int alive;    /* ranks of which no end was reported */
	int64_t patience_ms; /* after which the agent is killed; -1: none */
};

/* 0; or the exit status for it, with the reason in why. */
int run_agent_start(struct run_host *h, const struct run_options *opts, char why[RUN_TEXT_MAX]);
/* Sends the job; `place` as in run_serve.c. */
void run_agent_send_job(struct run_host *h, const struct run_options *opts, const char *place,
			const char *secret);
/* Reads up to the mark and adds what came before it to chatter. -1: there is too much. */
int run_agent_find_mark(struct run_host *h, struct run_buffer *chatter);

/* ---- the three kinds of work; each returns the exit status ---- */

int run_here(const struct run_options *opts);
int run_hosts(const struct run_options *opts);
int run_serve(void);

/* Opens one of this process's own outputs anew where it can be (run_here.c). */
int run_output_open(int fd);

#endif
