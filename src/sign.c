/* SPDX-License-Identifier: BSD-3-Clause */
/* Calls in words, and read while they are made; see sign.h. */
#include <stdio.h>

#include "base/base.h"
#include "plan.h"
#include "sign.h"

static const char *const type_names[COLLX_TYPE_COUNT] = {
	[COLLX_INT8] = "int8", [COLLX_UINT8] = "uint8", [COLLX_INT32] = "int32",
	[COLLX_UINT32] = "uint32", [COLLX_INT64] = "int64", [COLLX_UINT64] = "uint64",
	[COLLX_FLOAT16] = "float16", [COLLX_FLOAT32] = "float32", [COLLX_FLOAT64] = "float64",
	[COLLX_BFLOAT16] = "bfloat16",
};
static const char *const op_names[COLLX_OP_COUNT] = {
	[COLLX_SUM] = "sum", [COLLX_PROD] = "prod", [COLLX_MAX] = "max", [COLLX_MIN] = "min",
	[COLLX_AVG] = "avg",
};

const char *cx_type_name(unsigned type)
{
	return type < COLLX_TYPE_COUNT ? type_names[type] : "an unknown type";
}

/* ---- where a rank is ---- */

/* The public words are those of the plans, from 1 on, with messages behind. */
_Static_assert(COLLX_CALL_ALLREDUCE == CX_ALLREDUCE + 1 &&
	       COLLX_CALL_REDUCE_SCATTER == CX_REDUCE_SCATTER + 1 &&
	       COLLX_CALL_ALLGATHER == CX_ALLGATHER + 1 &&
	       COLLX_CALL_BROADCAST == CX_BROADCAST + 1 && COLLX_CALL_REDUCE == CX_REDUCE + 1 &&
	       COLLX_CALL_BARRIER == CX_BARRIER + 1 && COLLX_CALL_SEND == (int)CX_SEND &&
	       COLLX_CALL_RECV == (int)CX_RECV && CX_SEND == CX_NCOLL + 1, "calls have one name");

const char *cx_call_name(unsigned call)
{
	if (call == COLLX_CALL_NONE || call >= COLLX_CALL_COUNT)
		return "none";
	return cx_coll_name((enum cx_coll)(call > CX_NCOLL ? call : call - 1));
}

const char *cx_phase_name(unsigned phase)
{
	static const char *const names[COLLX_PHASE_COUNT] = {
		"none", "creation", "call", "waiting", "transferring", "deciding",
	};

	return names[phase < COLLX_PHASE_COUNT ? phase : COLLX_PHASE_NONE];
}

bool cx_where_is_sound(const struct cx_where *w)
{
	bool collective = w->call > COLLX_CALL_NONE && w->call <= CX_NCOLL;
	bool calls = w->phase == COLLX_PHASE_CALL || w->phase == COLLX_PHASE_WAITING ||
		     w->phase == COLLX_PHASE_TRANSFERRING;

	return w->call < COLLX_CALL_COUNT && w->phase < COLLX_PHASE_COUNT &&
	       collective == (w->seq != 0) && calls == (w->call != COLLX_CALL_NONE);
}

/* ---- calls in words ---- */

static unsigned coll_of(const struct cx_sign *s)
{
	return (unsigned)((s->what & ~CX_SIGN_UNIFORM) >> 16 & 0xffff);
}

static unsigned type_of(const struct cx_sign *s)
{
	return (unsigned)(s->what >> 8 & 0xff);
}

static unsigned op_of(const struct cx_sign *s)
{
	return (unsigned)(s->what & 0xff);
}

static uint32_t root_of(const struct cx_sign *s)
{
	return (uint32_t)(s->what >> 32);
}

bool cx_sign_is_sound(const struct cx_sign *s, int ranks)
{
	return coll_of(s) < CX_NCOLL && type_of(s) < COLLX_TYPE_COUNT &&
	       op_of(s) < COLLX_OP_COUNT && root_of(s) < (uint32_t)ranks;
}

static bool has_op(unsigned coll)
{
	return coll == CX_ALLREDUCE || coll == CX_REDUCE_SCATTER || coll == CX_REDUCE;
}

static bool has_root(unsigned coll)
{
	return coll == CX_BROADCAST || coll == CX_REDUCE;
}

void cx_sign_words(const struct cx_sign *s, char *text, size_t len)
{
	unsigned coll = coll_of(s);
	bool uniform = s->what & CX_SIGN_UNIFORM;
	char op[16] = "", root[24] = "";

	if (coll == CX_BARRIER) {
		snprintf(text, len, "%s(%s)", cx_coll_name(CX_BARRIER), uniform ? "uniform" : "");
		return;
	}
	if (has_op(coll))
		snprintf(op, sizeof(op), ", %s", op_names[op_of(s)]);
	if (has_root(coll))
		snprintf(root, sizeof(root), ", root %u", root_of(s));
	snprintf(text, len, "%s(count %llu, %s%s%s%s)", cx_coll_name((enum cx_coll)coll),
		 (unsigned long long)s->count, cx_type_name(type_of(s)), op, root,
		 uniform ? ", uniform" : "");
}

/* ---- reading them ---- */

/* The last calls as of `state`. */
static unsigned copy(const struct cx_calls *c, uint64_t state, struct cx_sign out[CX_SIGNS])
{
	uint64_t begun = (state + 1) / 2;
	unsigned n = (unsigned)cx_min(begun, CX_SIGNS);

	for (unsigned i = 0; i < n; i++) {
		uint64_t seq = begun - n + 1 + i;
		unsigned at = (unsigned)seq % (2 * CX_SIGNS);

		out[i].seq = seq;
		out[i].count = atomic_load_explicit(&c->slot[at].count, memory_order_acquire);
		out[i].what = atomic_load_explicit(&c->slot[at].what, memory_order_acquire);
	}
	return n;
}

unsigned cx_calls_read(const struct cx_calls *c, uint64_t *state, struct cx_sign out[CX_SIGNS])
{
	for (int tries = 0; tries < 16; tries++) {
		uint64_t now;
		unsigned n;

		*state = cx_calls_state(c);
		n = copy(c, *state, out);
		now = atomic_load_explicit(&c->begun, memory_order_relaxed);
		/* Call q + 16 goes to the slot of call q, once q + 15 has begun. */
		if (now < (*state + 1) / 2 + CX_SIGNS)
			return n;
	}
	return 0;
}

struct cx_where cx_sign_where(const struct cx_sign *s)
{
	return (struct cx_where){ s->seq, coll_of(s) + 1, COLLX_PHASE_CALL };
}

struct cx_where cx_calls_where(const struct cx_calls *c)
{
	struct cx_sign signs[CX_SIGNS];
	uint64_t state;
	unsigned n = cx_calls_read(c, &state, signs);

	if (!n || state % 2 == 0)
		return (struct cx_where){ 0 };
	return cx_sign_where(&signs[n - 1]);
}
