/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>

#include "kernels/element.h"
#include "kernels/topk.h"
#include "lies.h"

enum { REST = LIE_COUNT - 2 * CX_CHUNK, FEW = 3, ABSENT = 5 };

/* The parts that lies are about: of the bodies that of the last chunk. */
struct parts {
	struct cx_sparse_head *head;
	struct cx_sparse_chunk *chunk;
	unsigned char *body, *bodies;
	uint16_t *list;
	size_t len;
};

static void say_zero(struct parts *p) { p->head->zero = 1; }
static void say_type(struct parts *p) { p->head->type = COLLX_FLOAT64; }
static void say_count(struct parts *p) { p->head->count++; }
static void say_entries(struct parts *p) { p->head->entries++; }
static void say_chunk_zero(struct parts *p) { p->chunk[1].zero = 1; }
static void say_kind(struct parts *p) { p->chunk[2].kind = CX_SPARSE_DENSE + 1; }
static void say_kind_of_none(struct parts *p) { p->chunk[1].kind = CX_SPARSE_BITMAP; }
static void say_twice(struct parts *p) { p->list[1] = p->list[0]; }
static void say_beyond(struct parts *p) { p->list[FEW - 1] = REST; }

/* As many bits as before. */
static void say_bit_beyond(struct parts *p)
{
	p->body[0] &= (unsigned char)~1;
	p->body[REST / 8] |= (unsigned char)(1 << REST % 8);
}

static void say_fewer(struct parts *p)
{
	p->chunk[2].entries--;
	p->head->entries--;
}

/* A gap before the first body; all else fits. */
static void say_later(struct parts *p)
{
	memmove(p->bodies + CX_WIRE_ALIGN, p->bodies,
		p->len - (size_t)(p->bodies - (unsigned char *)p->head));
	memset(p->bodies, 0, CX_WIRE_ALIGN);
	for (unsigned k = 0; k < 3; k++)
		p->chunk[k].at++;
	p->len += CX_WIRE_ALIGN;
	p->head->bytes = p->len;
}

static const struct lie {
	const char *name;
	enum cx_sparse_kind kind; /* of the last chunk */
	void (*say)(struct parts *p);
} lies[LIES] = {
	{ "the head's zero is not", CX_SPARSE_LIST, say_zero },
	{ "values of a type that is none", CX_SPARSE_LIST, say_type },
	{ "another count", CX_SPARSE_LIST, say_count },
	{ "an entry more than in the chunks", CX_SPARSE_LIST, say_entries },
	{ "a chunk's zero is not", CX_SPARSE_LIST, say_chunk_zero },
	{ "a kind that is none", CX_SPARSE_DENSE, say_kind },
	{ "a chunk without entries has a kind", CX_SPARSE_LIST, say_kind_of_none },
	{ "an index twice", CX_SPARSE_LIST, say_twice },
	{ "an index beyond the elements", CX_SPARSE_LIST, say_beyond },
	{ "a bit beyond the elements", CX_SPARSE_BITMAP, say_bit_beyond },
	{ "more values than entries", CX_SPARSE_DENSE, say_fewer },
	{ "a gap before the first body", CX_SPARSE_LIST, say_later },
};

size_t lie_make(unsigned char *msg, unsigned lie, const char **name)
{
	const struct lie *l = lie < LIES ? &lies[lie] : NULL;
	enum cx_sparse_kind kind = l ? l->kind : CX_SPARSE_DENSE;
	size_t step = kind == CX_SPARSE_LIST ? REST / FEW : kind == CX_SPARSE_BITMAP ? 2 : 1;
	uint32_t bits[REST + 1], index[REST + 1];
	struct parts p = { .head = (struct cx_sparse_head *)(void *)msg };
	size_t n = 0;

	index[n] = 100;
	bits[n++] = cx_float_bits(1);
	for (size_t i = 0; i < REST; i += step) {
		if (kind == CX_SPARSE_DENSE && i == ABSENT)
			continue;
		index[n] = (uint32_t)(2 * CX_CHUNK + i);
		bits[n++] = cx_float_bits((float)i - 7.5f);
	}
	p.len = cx_sparse_write(msg, COLLX_FLOAT32, LIE_COUNT, bits, index, n, NULL);
	p.chunk = (struct cx_sparse_chunk *)(void *)(msg + sizeof(*p.head));
	p.bodies = msg + cx_sparse_bodies(LIE_COUNT);
	p.body = msg + p.chunk[2].at * CX_WIRE_ALIGN;
	p.list = (uint16_t *)(void *)p.body;
	*name = l ? l->name : "nothing";
	if (p.chunk[2].kind != kind)
		return 0; /* not the message that the lie is about */
	if (l)
		l->say(&p);
	return p.len;
}
