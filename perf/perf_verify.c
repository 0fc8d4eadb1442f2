/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The data of the checks, made so that every right result is a small integer,
 * exact in every type, whatever the order of the additions and the number of
 * ranks: results are compared bit by bit, and known without adding anything up.
 *
 * Element i of the result is whole(i). Of it, one rank (i mod ranks) puts in
 * whole(i), and rank r adds g(r+1) - g(r) with g(r) a random number below 16:
 * around the ring of ranks this sums to 0, no partial sum leaves the exact
 * range, yet each missing, doubled or misplaced part shows. Products use the
 * same idea with signs; an average gets whole(i) from every rank.
 *
 * All of it repeats every PERIOD elements, so that checking goes at the speed of
 * memory: a prime, which no misplaced block or segment is a multiple of.
 */
#include <string.h>

#include "perf.h"

enum { BATCH = 1024, PAD = 0x5a, PERIOD = 65521 };

struct range {
	int32_t least;
	uint32_t span;
};

static const struct range op_ranges[COLLX_OP_COUNT] = {
	[COLLX_SUM] = { 1, 15 }, [COLLX_PROD] = { 1, 15 }, [COLLX_MAX] = { 16, 15 },
	[COLLX_MIN] = { 1, 15 }, [COLLX_AVG] = { 1, 15 },
};

/* A random number below n, from the seed, a place and who asks. */
static uint32_t draw(const struct perf_case *c, int who, size_t i, uint32_t n)
{
	uint64_t x = c->seed * 0x9e3779b97f4a7c15u + (uint64_t)(who + 2) * 0xc2b2ae3d27d4eb4fu + i;

	x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
	x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
	x ^= x >> 32;
	return (uint32_t)((x & UINT32_MAX) * n >> 32);
}

static bool is_signed(collx_type type)
{
	return type != COLLX_UINT8 && type != COLLX_UINT32 && type != COLLX_UINT64;
}

/* Before the division an integer average is a sum, which must not wrap. */
static uint32_t whole_span(const struct perf_case *c)
{
	uint32_t most = 127 / (uint32_t)c->ranks;

	if (!(c->coll->flags & PERF_REDUCES))
		return 127;
	if (c->op == COLLX_AVG && c->elem == 1 && most < op_ranges[c->op].span)
		return most;
	return op_ranges[c->op].span;
}

static int32_t whole(const struct perf_case *c, size_t i, uint32_t span)
{
	bool reduces = c->coll->flags & PERF_REDUCES;
	int32_t v = (int32_t)draw(c, -1, i, span) + (reduces ? op_ranges[c->op].least : 1);

	if (!span)
		return 0;
	if (reduces && (c->op == COLLX_MAX || c->op == COLLX_MIN) && is_signed(c->type) && i % 2)
		return v - 32;
	return v;
}

/* What this rank puts in for element i. */
static int32_t part(const struct perf_case *c, size_t i, uint32_t span)
{
	int32_t v = whole(c, i, span);
	int32_t g = (int32_t)draw(c, c->rank, i, 16);
	int32_t next = (int32_t)draw(c, (c->rank + 1) % c->ranks, i, 16);
	bool owner = (uint32_t)i % (uint32_t)c->ranks == (uint32_t)c->rank;
	int32_t scale = c->elem < 4 ? 1 : c->ranks < 64 ? c->ranks : 64;

	switch (c->op) {
	case COLLX_SUM:
		return next - g + (owner ? v : 0);
	case COLLX_PROD:
		return ((next ^ g) & 1 ? -1 : 1) * (owner ? v : 1);
	case COLLX_MAX:
		return owner ? v : v - g;
	case COLLX_MIN:
		return owner ? v : v + g;
	default: /* avg; scaled, so that a fault outlives the division where there is room */
		return v + scale * (next - g);
	}
}

static void make_values(const struct perf_case *c, bool output, size_t from, size_t n, int32_t *v)
{
	bool reduces = c->coll->flags & PERF_REDUCES;
	bool silent = c->coll->flags & PERF_ROOTED && !reduces && c->rank != c->root;
	uint32_t span = whole_span(c);
	size_t i;

	for (i = 0; i < n; i++)
		if (output || (!reduces && !silent))
			v[i] = whole(c, (from + i) % PERIOD, span);
		else
			v[i] = silent ? 0 : part(c, (from + i) % PERIOD, span);
}

static uint32_t float_bits(int32_t v)
{
	float f = (float)v;
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	return bits;
}

static uint16_t half_bits(int32_t v)
{
	uint32_t bits = float_bits(v);

	/* exponents are biased by 127 and 15; nothing here needs rounding */
	return v ? (uint16_t)((bits >> 16 & 0x8000) | ((bits & 0x7fffffff) - (112u << 23)) >> 13)
		 : 0;
}

/* Small integers in the memory form of a type; dst is aligned for it. */
static void encode(collx_type type, const int32_t *v, size_t n, void *dst)
{
	uint16_t *d16 = dst;
	uint8_t *d8 = dst;
	uint32_t *d32 = dst;
	uint64_t *d64 = dst;
	double *d = dst;
	size_t i;

	for (i = 0; i < n; i++) {
		if (type == COLLX_FLOAT32)
			d32[i] = float_bits(v[i]);
		else if (type == COLLX_FLOAT64)
			d[i] = v[i];
		else if (type == COLLX_BFLOAT16)
			d16[i] = (uint16_t)(float_bits(v[i]) >> 16);
		else if (type == COLLX_FLOAT16)
			d16[i] = half_bits(v[i]);
		else if (type == COLLX_INT32 || type == COLLX_UINT32)
			d32[i] = (uint32_t)v[i];
		else if (type == COLLX_INT64 || type == COLLX_UINT64)
			d64[i] = (uint64_t)(int64_t)v[i];
		else
			d8[i] = (uint8_t)v[i];
	}
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Elements from .. to - 1 of the whole vector, the first of them at dst. */
static void put(const struct perf_case *c, bool output, size_t from, size_t to, unsigned char *dst)
{
	size_t period = PERIOD * c->elem, first = least(to - from, PERIOD), left, n;
	int32_t v[BATCH];

	left = (to - from - first) * c->elem;
	for (; first; first -= n, from += n, dst += n * c->elem) {
		n = least(first, BATCH);
		make_values(c, output, from, n, v);
		encode(c->type, v, n, dst);
	}
	for (; left; left -= n, dst += n) {
		n = least(left, period);
		memcpy(dst, dst - period, n);
	}
}

static uint64_t differing(const struct perf_case *c, bool output, size_t from, size_t to,
			  const unsigned char *have)
{
	static _Alignas(8) unsigned char want[PERIOD * 8];
	uint64_t wrong = 0;
	size_t n, i;

	put(c, output, from, from + least(to - from, PERIOD), want);
	for (; from < to; from += n, have += n * c->elem) {
		n = least(to - from, PERIOD);
		if (!memcmp(want, have, n * c->elem))
			continue;
		for (i = 0; i < n; i++)
			wrong += memcmp(want + i * c->elem, have + i * c->elem, c->elem) != 0;
	}
	return wrong;
}

static uint64_t touched(const unsigned char *p, size_t len)
{
	uint64_t wrong = 0;

	while (len--)
		wrong += *p++ != PAD;
	return wrong;
}

static uint64_t guards_touched(const unsigned char *p, size_t len)
{
	return touched(p - PERF_GUARD, PERF_GUARD) + touched(p + len, PERF_GUARD);
}

unsigned char *perf_send_at(const struct perf_case *c, const struct perf_memory *mem, bool in_place)
{
	return in_place ? mem->recv + c->send_from * c->elem : mem->send;
}

unsigned char *perf_recv_at(const struct perf_case *c, const struct perf_memory *mem, bool in_place)
{
	return in_place ? mem->recv + c->recv_from * c->elem : mem->recv;
}

void perf_fill(const struct perf_case *c, const struct perf_memory *mem, bool in_place)
{
	memset(mem->send - PERF_GUARD, PAD, c->nsend * c->elem + 2 * PERF_GUARD);
	memset(mem->recv - PERF_GUARD, PAD,
	       (in_place ? perf_case_bytes(c) : c->nrecv * c->elem) + 2 * PERF_GUARD);
	put(c, false, c->send_from, c->send_from + c->nsend, perf_send_at(c, mem, in_place));
}

/* In place, the input survives where the output does not cover it. */
static uint64_t wrong_in_place(const struct perf_case *c, const struct perf_memory *mem)
{
	size_t send_to = c->send_from + c->nsend, recv_to = c->recv_from + c->nrecv;
	uint64_t wrong = guards_touched(mem->recv, perf_case_bytes(c));

	if (!perf_case_writes(c))
		return wrong + differing(c, false, c->send_from, send_to,
					 perf_send_at(c, mem, true));
	wrong += differing(c, true, c->recv_from, recv_to, perf_recv_at(c, mem, true));
	if (c->send_from < c->recv_from)
		wrong += differing(c, false, c->send_from, c->recv_from,
				   perf_send_at(c, mem, true));
	if (recv_to < send_to)
		wrong += differing(c, false, recv_to, send_to, mem->recv + recv_to * c->elem);
	return wrong;
}

uint64_t perf_count_wrong(const struct perf_case *c, const struct perf_memory *mem, bool in_place)
{
	uint64_t wrong;

	if (in_place)
		return wrong_in_place(c, mem);
	wrong = guards_touched(mem->send, c->nsend * c->elem);
	wrong += guards_touched(mem->recv, c->nrecv * c->elem);
	wrong += differing(c, false, c->send_from, c->send_from + c->nsend, mem->send);
	if (!perf_case_writes(c))
		return wrong + touched(mem->recv, c->nrecv * c->elem);
	return wrong + differing(c, true, c->recv_from, c->recv_from + c->nrecv, mem->recv);
}
