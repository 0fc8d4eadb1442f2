/* SPDX-License-Identifier: BSD-3-Clause */
/* Sparse messages: doc/WIRE has their bytes. */
#include <stdbool.h>
#include <string.h>

#include "kernels/element.h"
#include "kernels/topk.h"

static size_t size_of(collx_type type)
{
	return type == COLLX_FLOAT32 ? 4 : 2;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* ---- values ---- */

static float get_float(const float *p)
{
	float f;

	memcpy(&f, p, sizeof(f));
	return f;
}

/* *p = *p + y, wherever it lies. */
static void add(float *p, float y)
{
	y = cx_sum(get_float(p), y);
	memcpy(p, &y, sizeof(y));
}

/* Writes a value; returns what it stands for. */
static float put_value(unsigned char *p, collx_type type, float a)
{
	uint16_t h;

	if (type == COLLX_FLOAT32) {
		memcpy(p, &a, 4);
		return a;
	}
	h = type == COLLX_FLOAT16 ? cx_f16_limited(a) : cx_bf16_nearest(a);
	memcpy(p, &h, 2);
	return type == COLLX_FLOAT16 ? cx_f16_to_f32(h) : cx_bf16_to_f32(h);
}

static float get_value(const unsigned char *p, collx_type type)
{
	uint16_t h;
	float a;

	if (type == COLLX_FLOAT32) {
		memcpy(&a, p, 4);
		return a;
	}
	memcpy(&h, p, 2);
	return type == COLLX_FLOAT16 ? cx_f16_to_f32(h) : cx_bf16_to_f32(h);
}

/* ---- writing ---- */

size_t cx_sparse_bound(uint64_t count, uint64_t entries, collx_type type)
{
	if (count > SIZE_MAX / 16 || entries > count)
		return 0;
	return cx_sparse_most(count, entries, size_of(type));
}

/* A message under way. */
struct writer {
	unsigned char *msg, *body;
	collx_type type;
	uint64_t count, entries;
	uint32_t chunk;
};

static struct writer writer_of(void *msg, collx_type type, uint64_t count)
{
	return (struct writer){ .msg = msg, .body = (unsigned char *)msg + cx_sparse_bodies(count),
				.type = type, .count = count };
}

static size_t elements_of(uint64_t count, uint64_t chunk)
{
	uint64_t rest = count - chunk * CX_CHUNK;

	return rest < CX_CHUNK ? (size_t)rest : CX_CHUNK;
}

static enum cx_sparse_kind begin_chunk(struct writer *w, size_t entries)
{
	size_t n = elements_of(w->count, w->chunk);
	enum cx_sparse_kind kind = entries ? cx_sparse_choose(n, entries, size_of(w->type)) :
				   CX_SPARSE_LIST;
	struct cx_sparse_chunk c = { .at = (uint32_t)((size_t)(w->body - w->msg) / CX_WIRE_ALIGN),
				     .entries = (uint16_t)entries, .kind = (uint8_t)kind };

	memcpy(w->msg + sizeof(struct cx_sparse_head) + w->chunk * sizeof(c), &c, sizeof(c));
	memset(w->body, 0, cx_sparse_body(kind, n, entries, size_of(w->type)));
	return kind;
}

static void end_chunk(struct writer *w, enum cx_sparse_kind kind, size_t entries)
{
	size_t n = elements_of(w->count, w->chunk);

	w->body += cx_sparse_body(kind, n, entries, size_of(w->type));
	w->entries += entries;
	w->chunk++;
}

static size_t finish(struct writer *w)
{
	size_t bytes = (size_t)(w->body - w->msg), chunks = cx_sparse_chunks(w->count);
	size_t table = sizeof(struct cx_sparse_head) + chunks * sizeof(struct cx_sparse_chunk);
	struct cx_sparse_head head = { .magic = CX_SPARSE_MAGIC, .type = (uint16_t)w->type,
				       .count = w->count, .bytes = bytes,
				       .entries = w->entries };

	memcpy(w->msg, &head, sizeof(head));
	memset(w->msg + table, 0, cx_sparse_bodies(w->count) - table);
	return bytes;
}

/* Notes that element `place` of the chunk is its entry number i; returns where the value goes. */
static unsigned char *place_entry(struct writer *w, enum cx_sparse_kind kind, size_t entries,
				  size_t i, uint16_t place)
{
	size_t n = elements_of(w->count, w->chunk);
	unsigned char *values = w->body + cx_sparse_places(kind, n, entries);

	if (kind == CX_SPARSE_LIST)
		memcpy(w->body + i * 2, &place, 2);
	if (kind == CX_SPARSE_BITMAP)
		w->body[place / 8] |= (unsigned char)(1 << place % 8);
	return values + (kind == CX_SPARSE_DENSE ? place : i) * size_of(w->type);
}

/* The usual body. */
static void write_list(unsigned char *body, const uint32_t *bits, const uint32_t *index,
		       size_t entries)
{
	for (size_t i = 0; i < entries; i++) {
		uint16_t place = (uint16_t)(index[i] % CX_CHUNK);

		memcpy(body + i * 2, &place, 2);
	}
	memcpy(body + cx_sparse_places(CX_SPARSE_LIST, 0, entries), bits, entries * 4);
}

/* Any other. */
static void write_entries(struct writer *w, enum cx_sparse_kind kind, const uint32_t *bits,
			  const uint32_t *index, size_t entries, float *residual)
{
	for (size_t i = 0; i < entries; i++) {
		float a = cx_float_from_bits(bits[i]), y;

		y = put_value(place_entry(w, kind, entries, i, (uint16_t)(index[i] % CX_CHUNK)),
			      w->type, a);
		y = cx_left(a, y);
		if (residual && w->type != COLLX_FLOAT32)
			memcpy(residual + index[i], &y, sizeof(y));
	}
}

size_t cx_sparse_write(void *msg, collx_type type, uint64_t count, const uint32_t *bits,
		       const uint32_t *index, size_t entries, float *residual)
{
	struct writer w = writer_of(msg, type, count);
	size_t from = 0, to = 0;

	while (w.chunk < cx_sparse_chunks(count)) {
		enum cx_sparse_kind kind;

		while (to < entries && index[to] / CX_CHUNK == w.chunk)
			to++;
		kind = begin_chunk(&w, to - from);
		if (kind == CX_SPARSE_LIST && type == COLLX_FLOAT32)
			write_list(w.body, bits + from, index + from, to - from);
		else
			write_entries(&w, kind, bits + from, index + from, to - from, residual);
		end_chunk(&w, kind, to - from);
		from = to;
	}
	return finish(&w);
}

/* ---- reading ---- */

static bool list_valid(const unsigned char *body, size_t n, size_t entries)
{
	uint16_t a, b;
	unsigned bad = 0;

	for (size_t i = 0; i + 1 < entries; i++) {
		memcpy(&a, body + i * 2, 2);
		memcpy(&b, body + i * 2 + 2, 2);
		bad |= a >= b;
	}
	memcpy(&a, body + entries * 2 - 2, 2);
	return !bad && a < n;
}

static bool bitmap_valid(const unsigned char *body, size_t n, size_t entries)
{
	size_t seen = 0;

	for (size_t i = 0; i < (n + 7) / 8; i++)
		seen += (unsigned)__builtin_popcount(body[i]);
	return seen == entries && (n % 8 == 0 || body[n / 8] >> n % 8 == 0);
}

/* An entry may have become 0 when it was rounded, what is none is +0. */
static bool dense_valid(const unsigned char *body, size_t n, size_t entries, size_t size)
{
	size_t seen = 0;
	uint32_t u = 0;

	for (size_t i = 0; i < n; i++) {
		memcpy(&u, body + i * size, size);
		seen += u != 0;
	}
	return seen <= entries;
}

static bool chunk_valid(const struct cx_sparse_chunk *c, const unsigned char *body, size_t n,
			size_t size)
{
	if (c->entries == 0)
		return true;
	if (c->kind == CX_SPARSE_LIST)
		return list_valid(body, n, c->entries);
	return c->kind == CX_SPARSE_BITMAP ? bitmap_valid(body, n, c->entries) :
					     dense_valid(body, n, c->entries, size);
}

static struct cx_sparse_chunk chunk_at(const unsigned char *msg, uint64_t chunk)
{
	struct cx_sparse_chunk c;

	memcpy(&c, msg + sizeof(struct cx_sparse_head) + chunk * sizeof(c), sizeof(c));
	return c;
}

static struct cx_sparse_head head_of(const void *msg)
{
	struct cx_sparse_head head;

	memcpy(&head, msg, sizeof(head));
	return head;
}

static bool head_valid(const struct cx_sparse_head *h, size_t len, uint64_t count)
{
	return h->magic == CX_SPARSE_MAGIC && h->zero == 0 && h->count == count &&
	       h->bytes <= len &&
	       (h->type == COLLX_FLOAT32 || h->type == COLLX_FLOAT16 || h->type == COLLX_BFLOAT16);
}

int cx_sparse_valid(const void *msg, size_t len, uint64_t count)
{
	const unsigned char *p = msg;
	uint64_t entries = 0, chunks = cx_sparse_chunks(count), end = cx_sparse_bodies(count);
	struct cx_sparse_head head;
	size_t size;

	if (count > SIZE_MAX / 16 || len < sizeof(head) || len < end)
		return 0;
	head = head_of(msg);
	if (!head_valid(&head, len, count) || head.bytes < end)
		return 0;
	size = size_of((collx_type)head.type);
	for (uint64_t k = 0; k < chunks; k++) {
		struct cx_sparse_chunk c = chunk_at(p, k);
		size_t n = elements_of(count, k), bytes;

		if (c.kind > CX_SPARSE_DENSE || c.zero || c.entries > n ||
		    (!c.entries && c.kind) || (uint64_t)c.at * CX_WIRE_ALIGN != end)
			return 0;
		bytes = cx_sparse_body((enum cx_sparse_kind)c.kind, n, c.entries, size);
		if (bytes > head.bytes - end || !chunk_valid(&c, p + end, n, size))
			return 0;
		end += bytes;
		entries += c.entries;
	}
	return end == head.bytes && entries == head.entries;
}

/* Adds the entries of a chunk to the elements of dst, the chunk's own. */
static void add_chunk(float *dst, const unsigned char *msg, collx_type type, uint64_t count,
		      uint64_t chunk)
{
	struct cx_sparse_chunk c = chunk_at(msg, chunk);
	enum cx_sparse_kind kind = (enum cx_sparse_kind)c.kind;
	size_t n = elements_of(count, chunk), size = size_of(type), i;
	const unsigned char *body = msg + (size_t)c.at * CX_WIRE_ALIGN;
	const unsigned char *values = body + cx_sparse_places(kind, n, c.entries);
	uint16_t place;

	if (kind == CX_SPARSE_LIST)
		for (i = 0; i < c.entries; i++) {
			memcpy(&place, body + i * 2, 2);
			add(dst + place, get_value(values + i * size, type));
		}
	else if (kind == CX_SPARSE_BITMAP)
		for (i = 0; i < n; i++) {
			if (!(body[i / 8] >> i % 8 & 1))
				continue;
			add(dst + i, get_value(values, type));
			values += size;
		}
	else
		for (i = 0; i < n; i++) {
			float y = get_value(values + i * size, type);

			if (cx_float_bits(y))
				add(dst + i, y);
		}
}

void cx_sparse_add(float *dst, const void *msg)
{
	struct cx_sparse_head head = head_of(msg);

	for (uint64_t k = 0; k < cx_sparse_chunks(head.count); k++)
		add_chunk(dst + k * CX_CHUNK, msg, (collx_type)head.type, head.count, k);
}

/* ---- merging ---- */

static bool write_sums(struct writer *w, const float *sum, size_t len)
{
	size_t n = elements_of(w->count, w->chunk), entries = 0, i, seen = 0;
	enum cx_sparse_kind kind = CX_SPARSE_LIST;

	for (i = 0; i < n; i++)
		entries += cx_abs_bits(sum[i]) != 0;
	if (entries)
		kind = cx_sparse_choose(n, entries, size_of(w->type));
	if (cx_sparse_body(kind, n, entries, size_of(w->type)) > len - (size_t)(w->body - w->msg))
		return false;
	begin_chunk(w, entries);
	for (i = 0; i < n; i++)
		if (cx_abs_bits(sum[i]))
			put_value(place_entry(w, kind, entries, seen++, (uint16_t)i), w->type,
				  sum[i]);
	end_chunk(w, kind, entries);
	return true;
}

size_t cx_sparse_merge(void *msg, size_t len, collx_type type, const void *const *in,
		       unsigned messages)
{
	struct cx_sparse_head head = head_of(in[0]);
	struct writer w = writer_of(msg, type, head.count);
	float sum[CX_CHUNK];

	if (len < cx_sparse_bodies(head.count))
		return 0;
	while (w.chunk < cx_sparse_chunks(head.count)) {
		memset(sum, 0, least(head.count, CX_CHUNK) * sizeof(*sum));
		for (unsigned m = 0; m < messages; m++)
			add_chunk(sum, in[m], (collx_type)head_of(in[m]).type, head.count,
				  w.chunk);
		if (!write_sums(&w, sum, len))
			return 0;
	}
	return finish(&w);
}
