/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libcollx: collective communication between processes.
 *
 * Conventions, valid for every function here:
 *   - Results are COLLX_OK (0), COLLX_IN_PROGRESS (1) or a negative COLLX_ERR_*.
 *     Out-parameters are written on success only.
 *   - Counts are elements, lengths are bytes, times carry their unit.
 *   - A communicator is used by one thread at a time; different communicators
 *     may be used by different threads at once.
 *   - An argument refused with COLLX_ERR_INVALID changes nothing. After any other
 *     error on a communicator every later collective or message on it returns that
 *     same error; what remains is to ask what happened and to go on without those
 *     who failed: see collx_faults(7) and the functions at the end.
 *   - Buffers belong to the caller and are not touched after a call returned.
 *   - Structures that may grow begin with their own size; set them up with the
 *     matching _INIT macro. Members left zero mean the default.
 */
#ifndef COLLX_H
#define COLLX_H

#include <stddef.h>
#include <stdint.h>

#define COLLX_VERSION_MAJOR 0
#define COLLX_VERSION_MINOR 1
#define COLLX_VERSION_PATCH 0
#define COLLX_VERSION 100 /* major * 10000 + minor * 100 + patch */

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif
#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
	COLLX_OK = 0,
	COLLX_IN_PROGRESS = 1,
	COLLX_ERR_INVALID = -1,      /* an argument or variable is wrong */
	COLLX_ERR_NOMEM = -2,        /* out of memory */
	COLLX_ERR_SYSTEM = -3,       /* a system call failed */
	COLLX_ERR_TIMEOUT = -4,      /* the operation's deadline passed */
	COLLX_ERR_INIT_TIMEOUT = -5, /* creation's deadline passed */
	COLLX_ERR_MISMATCH = -6,     /* ranks called different things */
	COLLX_ERR_AUTH = -7,         /* a peer did not prove the job's secret */
	COLLX_ERR_VERSION = -8,      /* a peer runs an incompatible libcollx */
	COLLX_ERR_PEER_DEAD = -9,    /* a rank's process ended without leaving */
	COLLX_ERR_PEER_LEFT = -10,   /* a rank destroyed its communicator */
	COLLX_ERR_PEER_SILENT = -11, /* a rank is alive in name only */
	COLLX_ERR_LINK = -12,        /* a connection or device failed */
	COLLX_ERR_CORRUPT = -13,     /* data or a header arrived damaged */
	COLLX_ERR_ABORTED = -14,
	COLLX_ERR_REVOKED = -15,
	COLLX_ERR_EXCLUDED = -16,
	COLLX_ERR_NO_QUORUM = -17,
	COLLX_ERR_NOFILES = -18,     /* out of file descriptors */
	COLLX_ERR_DEVICE = -19,
	COLLX_ERR_FORKED = -20,
	COLLX_ERR_UNSUPPORTED = -21,
	COLLX_ERR_INTERNAL = -22     /* a bug in libcollx: please report it */
} collx_result;

/* Element types. 8- and 16-bit floats are summed in float32; see collx(7). */
typedef enum {
	COLLX_INT8 = 0,
	COLLX_UINT8 = 1,
	COLLX_INT32 = 2,
	COLLX_UINT32 = 3,
	COLLX_INT64 = 4,
	COLLX_UINT64 = 5,
	COLLX_FLOAT16 = 6,
	COLLX_FLOAT32 = 7,
	COLLX_FLOAT64 = 8,
	COLLX_BFLOAT16 = 9,
	COLLX_TYPE_COUNT = 10
} collx_type;

typedef enum {
	COLLX_SUM = 0,
	COLLX_PROD = 1,
	COLLX_MAX = 2,
	COLLX_MIN = 3,
	COLLX_AVG = 4,
	COLLX_OP_COUNT = 5
} collx_op;

/* A communicator: a fixed group of ranks that call collectives together. */
typedef struct collx_comm *collx_comm_t;

/* Names one communicator to be; secret: whoever has it can join the job. */
#define COLLX_UNIQUE_ID_BYTES 128
typedef struct {
	unsigned char bytes[COLLX_UNIQUE_ID_BYTES];
} collx_unique_id;

/* How a communicator is made. NULL means COLLX_CONFIG_INIT. */
typedef struct {
	size_t size;
	uint32_t create_timeout_ms; /* 0: COLLX_CREATE_TIMEOUT_MS or 60 s */
	uint32_t op_timeout_ms;     /* 0: COLLX_TIMEOUT_MS or 60 s */
	uint32_t flags;             /* COLLX_CONTINUE, or 0 */
	uint32_t heartbeat_ms;      /* 0: COLLX_HEARTBEAT_MS or 500 */
	uint32_t silence_ms;        /* a rank that said nothing for so long is given up; 0:
				       COLLX_SILENCE_MS or 3 s; COLLX_NO_TIMEOUT: never */
	const int *abort;           /* creation ends with COLLX_ERR_ABORTED once this is not
				       0, which any thread or handler may make it; or NULL */
	uint32_t straggler_ms;      /* all are told of a rank that others waited for so long;
				       0: COLLX_STRAGGLER_MS or 1 s; COLLX_NO_TIMEOUT: never */
} collx_config;
#define COLLX_CONFIG_INIT { sizeof(collx_config), 0, 0, 0, 0, 0, NULL, 0 }

/*
 * A communicator that goes on without ranks that are lost: a call that a loss hit is made
 * again by those who are left, with the inputs it had, and succeeds. Afterwards
 * collx_comm_size, collx_comm_rank and collx_comm_origin say who they are, as does an
 * average. Where the root is lost, or the buffers' shape depends on the size
 * (allgather, reduce_scatter), that one call fails, and the next ones go on. Each call
 * costs a decision of all ranks besides.
 */
#define COLLX_CONTINUE 1u

/* How one call is made. NULL means COLLX_OPTS_INIT: blocking, defaults. */
typedef struct {
	size_t size;
	uint32_t timeout_ms; /* 0: the communicator's; COLLX_NO_TIMEOUT: none */
	uint32_t flags;      /* of those below */
} collx_opts;
#define COLLX_OPTS_INIT { sizeof(collx_opts), 0, 0 }
#define COLLX_PRESERVE 1u /* if the call fails, an in-place input is what it was before */
#define COLLX_UNIFORM 2u  /* it succeeds on all ranks that live, or on none; costs a decision */
#define COLLX_NO_TIMEOUT UINT32_MAX

/* COLLX_VERSION of the library that is linked. */
int collx_version(void);

/* A constant word for a code, "COLLX_ERR_TIMEOUT" say. Never NULL. */
const char *collx_strerror(collx_result code);

/*
 * The line that explains the last error: of that communicator, or with NULL of
 * the calling thread (for failed creations). Empty when there was none. Valid
 * until the communicator is destroyed, or the thread's next failing call.
 */
const char *collx_last_error(collx_comm_t comm);

/* Bytes of one element; 0 for an unknown type. */
size_t collx_type_size(collx_type type);

/* Makes a new id; one rank does, and hands it to all others out of band. */
collx_result collx_get_unique_id(collx_unique_id *id);

/*
 * Creates a communicator of `size` ranks; every rank calls it with the same id
 * and size and its own rank. Blocks until all have come or the deadline passes;
 * the error then names the missing ranks. Ranks may be processes or threads.
 */
collx_result collx_comm_create(collx_comm_t *comm, int size, const collx_unique_id *id, int rank,
			       const collx_config *config);

/* The same from the variables of collx-run, torchrun, Open MPI or Slurm; see
 * collx_env(7). */
collx_result collx_comm_create_from_env(collx_comm_t *comm, const collx_config *config);

/*
 * The same over a caller's own exchange: `allgather(ctx, send, recv, len)` puts
 * len bytes of every rank into recv in rank order and returns 0 on success.
 * Called a few times during creation, never later.
 */
typedef int (*collx_allgather_fn)(void *ctx, const void *send, void *recv, size_t len);
collx_result collx_comm_create_oob(collx_comm_t *comm, int size, collx_allgather_fn allgather,
				   void *ctx, int rank, const collx_config *config);

/* Leaves; does not wait for others, but for at most 2 s where they do not read what they are
 * told. NULL is fine. A call that another thread is in returns COLLX_ERR_ABORTED first; from
 * here on comm is no argument of anything, but for this function: COLLX_ERR_INVALID. */
collx_result collx_comm_destroy(collx_comm_t comm);

/* The rank or the size; COLLX_ERR_INVALID for NULL. */
int collx_comm_rank(collx_comm_t comm);
int collx_comm_size(collx_comm_t comm);

/* The number that `rank` had in the communicator from which this one came by shrinking,
 * repairing or going on, at its creation; COLLX_ERR_INVALID. */
int collx_comm_origin(collx_comm_t comm, int rank);

/*
 * Collectives. Every rank of the communicator makes the same calls in the same
 * order with the same count, type, op and root. In-place: sendbuf == recvbuf
 * (allgather: sendbuf == recvbuf + rank * count elements; reduce_scatter:
 * recvbuf == sendbuf + rank * count elements); otherwise buffers must not
 * overlap. With count 0 a call returns at once and compares nothing. All ranks
 * receive identical bits.
 */

/* recvbuf[i] = op over ranks of sendbuf[i]; both hold count elements. */
collx_result collx_allreduce(const void *sendbuf, void *recvbuf, size_t count, collx_type type,
			     collx_op op, collx_comm_t comm, const collx_opts *opts);

/* recvbuf[i] = op over ranks of sendbuf[rank * recvcount + i]; sendbuf holds
 * size * recvcount elements, recvbuf recvcount. */
collx_result collx_reduce_scatter(const void *sendbuf, void *recvbuf, size_t recvcount,
				  collx_type type, collx_op op, collx_comm_t comm,
				  const collx_opts *opts);

/* recvbuf[r * sendcount + i] = rank r's sendbuf[i]; recvbuf holds
 * size * sendcount elements. */
collx_result collx_allgather(const void *sendbuf, void *recvbuf, size_t sendcount, collx_type type,
			     collx_comm_t comm, const collx_opts *opts);

/* recvbuf = root's sendbuf; sendbuf is read on root only. */
collx_result collx_broadcast(const void *sendbuf, void *recvbuf, size_t count, collx_type type,
			     int root, collx_comm_t comm, const collx_opts *opts);

/* As allreduce, but recvbuf is written on root only. */
collx_result collx_reduce(const void *sendbuf, void *recvbuf, size_t count, collx_type type,
			  collx_op op, int root, collx_comm_t comm, const collx_opts *opts);

/* Returns when every rank has entered it. */
collx_result collx_barrier(collx_comm_t comm, const collx_opts *opts);

/*
 * Messages between two ranks. What rank a sends to b is received by b in the order of
 * sending; the other direction, other ranks and collectives in between do not matter.
 * Both name the same count and type; a receiver that names others gets
 * COLLX_ERR_MISMATCH, and its buffer stays. A message of count 0 is one. send returns
 * when buf may be reused: at once while at most 8 messages of together 32 KiB are
 * unreceived, else maybe only when the receiver takes them in. peer is another rank.
 */
collx_result collx_send(const void *buf, size_t count, collx_type type, int peer,
			collx_comm_t comm, const collx_opts *opts);
collx_result collx_recv(void *buf, size_t count, collx_type type, int peer, collx_comm_t comm,
			const collx_opts *opts);

/*
 * When something failed: collx_faults(7). These may be called at any time by any
 * thread, also while another one is in a call; the decisions, from collx_comm_agree on,
 * by the thread that makes the calls: of two at a time in one, or in a call that ends with
 * one, the second gets COLLX_ERR_INVALID.
 */

/* How a fault was known. */
typedef enum {
	COLLX_EVIDENCE_NONE = 0,
	COLLX_EVIDENCE_CALL = 1,       /* a rank's own call failed */
	COLLX_EVIDENCE_CONNECTION = 2, /* a connection ended: its process is gone */
	COLLX_EVIDENCE_SILENCE = 3,    /* no heartbeat for too long */
	COLLX_EVIDENCE_DEADLINE = 4,   /* a call's deadline passed */
	COLLX_EVIDENCE_DIFFERENCE = 5, /* ranks made different calls */
	COLLX_EVIDENCE_WISH = 6        /* a rank left, aborted or revoked */
} collx_evidence;

/* What a rank called. */
typedef enum {
	COLLX_CALL_NONE = 0,
	COLLX_CALL_ALLREDUCE = 1,
	COLLX_CALL_REDUCE_SCATTER = 2,
	COLLX_CALL_ALLGATHER = 3,
	COLLX_CALL_BROADCAST = 4,
	COLLX_CALL_REDUCE = 5,
	COLLX_CALL_BARRIER = 6,
	COLLX_CALL_SEND = 7,
	COLLX_CALL_RECV = 8,
	COLLX_CALL_COUNT = 9
} collx_call;

/* How far it was. */
typedef enum {
	COLLX_PHASE_NONE = 0,         /* in no call, or no matter: a wish */
	COLLX_PHASE_CREATION = 1,     /* some rank still made the communicator */
	COLLX_PHASE_CALL = 2,         /* in a call; how far its guard, which saw it, cannot tell */
	COLLX_PHASE_WAITING = 3,      /* in a call, to which nothing had come from others */
	COLLX_PHASE_TRANSFERRING = 4, /* in a call, of which something had come, or gone out
				       * where it only sends */
	COLLX_PHASE_DECIDING = 5,     /* in a decision, or in that at the end of a call */
	COLLX_PHASE_COUNT = 6
} collx_phase;

enum { COLLX_ERROR_RANKS = 16 /* that an error has room for */ };

/* The first error of a communicator: the same on all ranks but for the times. */
typedef struct {
	size_t size;
	collx_result code;       /* COLLX_OK: there is none */
	int origin;              /* the rank that saw it; -1: connections told, or there is none */
	int rank;                /* the first that is to blame, ranks[0]; -1: none is known */
	int nranks;              /* how many are; more than there is room for, maybe */
	int ranks[COLLX_ERROR_RANKS]; /* the first of them, ascending; then -1 */
	collx_evidence evidence;
	int sys_errno;           /* 0: no system call's */
	collx_call call;         /* that who saw it first was in */
	uint64_t op;             /* its number, of a collective; else 0 */
	collx_phase phase;       /* and how far that was */
	uint64_t since_us;       /* ago it happened, as far as is known */
	uint64_t known_us;       /* for which it has been known here */
	char text[448];          /* as collx_last_error */
} collx_error;
#define COLLX_ERROR_INIT \
	{ sizeof(collx_error), COLLX_OK, -1, -1, 0, { -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, \
	  -1, -1, -1, -1, -1 }, COLLX_EVIDENCE_NONE, 0, COLLX_CALL_NONE, 0, COLLX_PHASE_NONE, 0, \
	  0, "" }

/* Never blocks. */
collx_result collx_comm_error(collx_comm_t comm, collx_error *error);

/* The error that this communicator went on from, by a repair or by itself; the ranks in it
 * are numbered as they were then. The last one, where there were several. Never blocks. */
collx_result collx_comm_past_error(collx_comm_t comm, collx_error *error);

/* A descriptor, the communicator's, that becomes and stays readable with the first
 * error, and with a straggler until collx_comm_straggler is called; or an error. The same
 * after it went on, which makes it readable until that call, too. */
int collx_comm_event_fd(collx_comm_t comm);

/* A rank that lives, and that others wait for in a collective. It is no error. */
typedef struct {
	size_t size;
	uint64_t number;    /* how many there were, this is the last; 0: there was none */
	int rank;           /* who has not begun, when that was noticed; -1: nobody */
	uint64_t op;        /* number of the collective; each is told of once */
	uint64_t waited_ms; /* ago a rank began to wait in it */
	char call[96];      /* "allreduce(count 8, float32, sum)" */
} collx_straggler;
#define COLLX_STRAGGLER_INIT { sizeof(collx_straggler), 0, -1, 0, 0, "" }

/* Never blocks. */
collx_result collx_comm_straggler(collx_comm_t comm, collx_straggler *straggler);

typedef enum {
	COLLX_EVENT_ERROR = 0,    /* the first one: collx_comm_error. Nothing comes after it
				   * unless the communicator goes on, or is repaired; then
				   * collx_comm_past_error has it */
	COLLX_EVENT_STRAGGLER = 1 /* collx_comm_straggler. Not an error */
} collx_event;

/* fn(comm, event, ctx) is called with each event, on a thread of its own. It may do
 * whatever the caller may, but not destroy the communicator. */
typedef void (*collx_event_fn)(collx_comm_t comm, collx_event event, void *ctx);
collx_result collx_comm_set_callback(collx_comm_t comm, collx_event_fn fn, void *ctx);

/* Ends the communicator on all ranks: running and later calls return COLLX_ERR_ABORTED,
 * here at once. Again: nothing. */
collx_result collx_comm_abort(collx_comm_t comm);
/* The same from a signal handler. */
void collx_comm_abort_from_signal(collx_comm_t comm);
/* Ends the calls on all ranks, as a step before collx_comm_repair: COLLX_ERR_REVOKED. */
collx_result collx_comm_revoke(collx_comm_t comm);

/* What this rank knows of another one. */
typedef enum {
	COLLX_RANK_ALIVE = 0,
	COLLX_RANK_DEAD = 1,   /* its process ended */
	COLLX_RANK_SILENT = 2, /* nothing is heard of it */
	COLLX_RANK_LEFT = 3    /* it destroyed the communicator */
} collx_rank_state;

typedef struct {
	collx_rank_state state;
	int hears_us;          /* 1: connected with this rank by the control tree */
	uint64_t heard_ms;     /* ago, where connected; else 0 */
	uint64_t awaited_ms;   /* the others wait so long for it to begin a collective; 0: not */
	uint64_t begun, done;  /* collectives, as last heard; this rank's own are exact */
} collx_rank_health;

/* Fills health[0] to health[n - 1], n at most the size. */
collx_result collx_comm_health(collx_comm_t comm, collx_rank_health *health, int n);
/* Writes all that is known as one JSON object to a descriptor. */
collx_result collx_comm_dump(collx_comm_t comm, int fd);

/*
 * Decisions: all ranks that live call the same ones in the same order. They work on a
 * communicator that failed, and on a healthy one, and finish though further ranks fail
 * meanwhile, on all with the same result. Who is neither dead nor silent is waited for
 * until the timeout, then all get COLLX_ERR_TIMEOUT. COLLX_ERR_NO_QUORUM: too many
 * ranks cannot be reached that may be alive. COLLX_ERR_EXCLUDED: the others went on
 * without this one.
 */

/* *flags = the bitwise and of all ranks' *flags; alive[r], if not NULL, is 0 for each
 * of the `size` ranks that failed and 1 for the others. */
collx_result collx_comm_agree(collx_comm_t comm, uint64_t *flags, unsigned char *alive,
			      const collx_opts *opts);

/*
 * Makes a communicator of the ranks that are left, in their order, without those that
 * failed and without the nexclude ranks in `exclude`. The old one stays as it is and is
 * destroyed afterwards as any other.
 */
collx_result collx_comm_shrink(collx_comm_t comm, const int *exclude, int nexclude,
			       collx_comm_t *out, const collx_opts *opts);

/* Revoke, shrink and destroy in one: behind the same handle there is the communicator of
 * those who are left; *comm is not written. On an error it stays what it was. */
collx_result collx_comm_repair(collx_comm_t *comm, const collx_opts *opts);

/*
 * Makes a communicator of this one's ranks and `joiners` new ones behind them. The new
 * ones call collx_comm_create with the new size, their ranks and an id that rank 0 made
 * by collx_get_unique_id and that it alone gives here. If anybody does not come, nobody
 * has a new communicator, and the old one goes on.
 */
collx_result collx_comm_grow(collx_comm_t comm, int joiners, const collx_unique_id *id,
			     collx_comm_t *out, const collx_opts *opts);

/*
 * The library's arithmetic without a communicator: arrays of floats to and from
 * fewer bits, sums, and the largest elements. Numerics and errors of the formats:
 * collx_numerics(7). On error the outputs are untouched. Threads may call these at
 * once on different outputs. Buffers begin anywhere; an output overlaps no other
 * buffer unless it says so.
 */

typedef enum {
	COLLX_Q8 = 0,   /* 8.5 bits an element: int8, a scale for 32 elements */
	COLLX_Q4 = 1,   /* 4.5 bits an element: int4, a scale for 32 elements */
	COLLX_BF16 = 2, /* 16 bits an element: bfloat16 */
	COLLX_FORMAT_COUNT = 3
} collx_format;

/* Where buffers are, the residual and all elements of `in` too. */
typedef enum {
	COLLX_MEMORY_HOST = 0,
	COLLX_MEMORY_CUDA = 1, /* device memory; the call is queued on `stream` */
	COLLX_MEMORY_COUNT = 2
} collx_memory;

enum {
	COLLX_STOCHASTIC = 1, /* collx_encode, collx_reduce_encoded: round at random */
	COLLX_ACCUMULATE = 2, /* collx_decode: add to out, which is FLOAT32 */
	COLLX_DECODED = 4     /* collx_reduce_encoded: out is an array of out_type */
};

/* NULL means COLLX_CODEC_OPTS_INIT. */
typedef struct {
	size_t size;
	uint32_t flags;
	collx_memory memory;
	void *stream;        /* a CUstream or cudaStream_t; NULL: the default stream */
	uint64_t seed;       /* of COLLX_STOCHASTIC; another one for every call and rank */
	uint64_t index;      /* of the first element in a larger array: a multiple of 1024 */
	float *residual;     /* error feedback: count elements, or NULL */
	float decay;         /* what the residual is multiplied with before it is added */
	int own;             /* collx_reduce_encoded: this input is an array; -1: none */
	collx_type own_type; /* of its elements */
	collx_type out_type; /* of COLLX_DECODED */
} collx_codec_opts;
#define COLLX_CODEC_OPTS_INIT \
	{ sizeof(collx_codec_opts), 0, COLLX_MEMORY_HOST, NULL, 0, 0, NULL, 1.0f, -1, \
	  COLLX_FLOAT32, COLLX_FLOAT32 }

/* Bytes of count encoded elements; 0 for an unknown format or too many. */
size_t collx_encoded_size(size_t count, collx_format format);

/*
 * out = in, encoded; out_len is at least collx_encoded_size. type is FLOAT32, FLOAT16
 * or BFLOAT16. With a residual in + decay * residual is encoded, and the residual
 * becomes what that lost; where that is NaN or infinite it stays.
 */
collx_result collx_encode(void *out, size_t out_len, const void *in, size_t count, collx_type type,
			  collx_format format, const collx_codec_opts *opts);

/* out = in, decoded; in_len is at least collx_encoded_size. Whatever the bytes of in are. */
collx_result collx_decode(void *out, size_t count, collx_type type, const void *in, size_t in_len,
			  collx_format format, const collx_codec_opts *opts);

/*
 * out[i] = in[0][i] op in[1][i] op ... for 2 to 16 arrays, from the first to the last,
 * as collx_allreduce combines them; COLLX_AVG divides by their number. out may be one
 * of the inputs.
 */
collx_result collx_reduce_local(void *out, const void *const *in, int inputs, size_t count,
				collx_type type, collx_op op, const collx_codec_opts *opts);

/*
 * out = the sum (COLLX_SUM) or average (COLLX_AVG) of 1 to 16 encoded arrays, encoded again,
 * in one pass; COLLX_DECODED: as an array. One input, opts->own, may be an array. The
 * residual is as in collx_encode. out may be that array if it has the same type.
 */
collx_result collx_reduce_encoded(void *out, size_t out_len, const void *const *in, int inputs,
				  size_t count, collx_format format, collx_op op,
				  const collx_codec_opts *opts);

/* Of collx_topk, collx_sparse_add and collx_sparse_merge. NULL means COLLX_TOPK_OPTS_INIT. */
typedef struct {
	size_t size;
	uint32_t flags;        /* none yet: 0 */
	collx_memory memory;
	void *stream;
	float *residual;       /* error feedback: count elements, or NULL */
	float decay;           /* what the residual is multiplied with before it is added */
	float floor;           /* elements of a smaller magnitude are not chosen; 0: none */
	float hint;            /* what the k-th magnitude was last time; 0: unknown */
	collx_type value_type; /* of the values in the message: FLOAT32, FLOAT16 or BFLOAT16 */
	void *work;            /* host memory: NULL lets collx_topk allocate for this call */
	size_t work_len;       /* at least collx_topk_work or collx_sparse_work */
} collx_topk_opts;
#define COLLX_TOPK_OPTS_INIT \
	{ sizeof(collx_topk_opts), 0, COLLX_MEMORY_HOST, NULL, NULL, 1.0f, 0.0f, 0.0f, \
	  COLLX_FLOAT32, NULL, 0 }

/* What was chosen, added or merged. */
typedef struct {
	size_t size;
	size_t len;     /* bytes of the message */
	size_t entries; /* its entries; of top-k: k, or all that are not 0 and at least floor */
	float hint;     /* the k-th magnitude: the next call's hint; 0 if there are fewer */
	uint64_t unfit; /* elements that were NaN or infinite: their gradient was left out */
	int32_t status; /* device memory: COLLX_OK, or what the same call says on the host */
} collx_topk_info;
#define COLLX_TOPK_INFO_INIT { sizeof(collx_topk_info), 0, 0, 0.0f, 0, COLLX_OK }

/* The most bytes of a sparse message with so many entries; 0 for a wrong type or too many. */
size_t collx_sparse_size(size_t count, size_t entries, collx_type value_type);

/* Bytes of work memory; 0 for k larger than count or too many elements. */
size_t collx_topk_work(size_t count, size_t k);

/*
 * out = a sparse message of the k elements of in, or of in + decay * residual, that are
 * largest in magnitude, of equals those with the smaller index; the residual becomes
 * what was not sent. out_len is at least collx_sparse_size(count, k, value_type); count at
 * most 2^32. info may be NULL.
 */
collx_result collx_topk(void *out, size_t out_len, const void *in, size_t count, collx_type type,
			size_t k, const collx_topk_opts *opts, collx_topk_info *info);

/* Bytes of device memory that the two below need as work; 0 for too many elements, and
 * without GPU kernels. On the host they need none. */
size_t collx_sparse_work(size_t count);

/*
 * out[i] += the entries of a sparse message, which is refused, COLLX_ERR_CORRUPT, unless it is
 * one for count elements. in_len is what may be read: the message says itself how long it is.
 * Of opts memory, stream and work count. info may be NULL in host memory; in the device's it
 * has the status, which is known when the stream has come so far.
 */
collx_result collx_sparse_add(float *out, size_t count, const void *in, size_t in_len,
			      const collx_topk_opts *opts, collx_topk_info *info);

/*
 * out = the sum of 1 to 16 sparse messages for count elements, from the first to the last, as
 * a message with values of opts->value_type. out_len is at least collx_sparse_size of the
 * entries of all of them (at most count). Otherwise as collx_sparse_add.
 */
collx_result collx_sparse_merge(void *out, size_t out_len, const void *const *in,
				const size_t *in_len, int inputs, size_t count,
				const collx_topk_opts *opts, collx_topk_info *info);

#ifdef __cplusplus
}
#endif
#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#endif
