/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Encoded arrays and sparse messages of a peer that lies. Whatever the bytes are: nothing
 * beyond the buffers is touched, every variant makes the same of them, and a sparse message
 * is refused as a whole or means the same to those who add and who merge it. Input: what to
 * try, sizes, and the payload.
 */
#include <stdlib.h>
#include <string.h>

#include "collx.h"
#include "kernels/topk.h"
#include "tests/fuzz_world.h"

enum { DENSE = 3000, SPARSE = 40000, INPUTS = 4, GUARD = 64, SHARE = 300 };

static const collx_type types[] = { COLLX_FLOAT32, COLLX_FLOAT16, COLLX_BFLOAT16 };

/* Exactly len bytes, so that a sanitizer sees a step beyond. */
static void *exact(size_t len)
{
	void *p = malloc(len ? len : 1);

	FUZZ_MUST(p, "no memory");
	return p;
}

/* An output with bytes behind it that must stay. */
static unsigned char *guarded(size_t len)
{
	unsigned char *p = exact(len + GUARD);

	memset(p, 0xa5, len + GUARD);
	return p;
}

static void check_guard(const unsigned char *p, size_t len)
{
	for (size_t i = len; i < len + GUARD; i++)
		FUZZ_MUST(p[i] == 0xa5, "byte %zu behind %zu was written", i - len, len);
}

/* ---- dense ---- */

/* Some of the input's bytes, again and again. */
static unsigned char *payload_take(struct fuzz_input *in, size_t len)
{
	unsigned char *p = exact(len);
	size_t n = fuzz_bytes(in, p, len < SHARE ? len : SHARE);

	for (size_t i = n; i < len; i++)
		p[i] = n ? p[i % n] : 0;
	return p;
}

static void try_decode(struct fuzz_input *in, collx_format f, size_t n)
{
	collx_type type = types[fuzz_below(in, 3)];
	collx_codec_opts o = COLLX_CODEC_OPTS_INIT;
	size_t len = collx_encoded_size(n, f), out_len = n * collx_type_size(type);
	size_t cut = fuzz_byte(in) % 8 == 0 ? 1 : 0;
	unsigned char *mine = guarded(out_len), *right = guarded(out_len), *w;
	collx_result rc, want = cut && n ? COLLX_ERR_INVALID : COLLX_OK;

	cut = cut && n;
	w = payload_take(in, len - cut);
	if (type == COLLX_FLOAT32 && len % 3 == 0)
		o.flags = COLLX_ACCUMULATE;
	rc = collx_decode(mine, n, type, w, len - cut, f, &o);
	FUZZ_MUST(rc == want, "decode of %zu elements: %d, not %d", n, rc, want);
	if (!rc && o.flags)
		cx_codec_variants[0]->accumulate[f]((float *)(void *)right, w, n);
	else if (!rc)
		cx_codec_variants[0]->decode[f][cx_float_slot(type)](right, w, n);
	FUZZ_MUST(!memcmp(mine, right, out_len), "variants differ: format %d, type %d", f, type);
	check_guard(mine, out_len);
	free(w);
	free(right);
	free(mine);
}

/* What an encoder made of anything can be decoded, so it may go on. */
static void try_reduce(struct fuzz_input *in, collx_format f, size_t n)
{
	collx_codec_opts o = COLLX_CODEC_OPTS_INIT;
	int inputs = 1 + (int)fuzz_below(in, INPUTS);
	size_t len = collx_encoded_size(n, f);
	unsigned char *w[INPUTS] = {0}, *out = guarded(len), *again = guarded(len);
	const void *all[INPUTS] = {0};
	struct cx_fuse u = { .inputs = all, .count = (unsigned)inputs, .divisor = 1 };
	collx_result rc;

	o.own = (int)fuzz_below(in, 6) - 1;
	if (o.own >= inputs)
		o.own = -1;
	o.own_type = types[fuzz_below(in, 3)];
	for (int k = 0; k < inputs; k++)
		all[k] = w[k] = payload_take(in, k == o.own ? n * collx_type_size(o.own_type) :
					     len);
	rc = collx_reduce_encoded(out, len, all, inputs, n, f, COLLX_SUM, &o);
	FUZZ_MUST(rc == COLLX_OK, "sum of %d inputs of %zu elements: %d", inputs, n, rc);
	u.own = o.own < 0 ? u.count : (unsigned)o.own;
	u.own_type = o.own_type;
	cx_codec_variants[0]->fuse[f](again, &u, n);
	FUZZ_MUST(!memcmp(out, again, len), "variants differ: format %d, %d inputs", f, inputs);
	check_guard(out, len);
	for (int k = 0; k < inputs; k++)
		free(w[k]);
	free(again);
	free(out);
}

/* ---- sparse ---- */

/* Makes the head and the table fit the bodies as far as the odd bits want it: what the
 * bodies say is the input's, and would seldom be looked at without. */
static void mend(unsigned char *msg, size_t *len, uint64_t count, unsigned odd)
{
	struct cx_sparse_head head;
	struct cx_sparse_chunk c;
	uint64_t entries = 0, at = cx_sparse_bodies(count);

	if (*len < at)
		return;
	memcpy(&head, msg, sizeof(head));
	head.magic = CX_SPARSE_MAGIC;
	head.zero = 0;
	head.type = (uint16_t)types[head.type % 3];
	for (size_t k = 0; k < cx_sparse_chunks(count); k++) {
		unsigned char *entry = msg + sizeof(head) + k * sizeof(c);
		uint64_t rest = count - k * CX_CHUNK, n = rest < CX_CHUNK ? rest : CX_CHUNK;

		memcpy(&c, entry, sizeof(c));
		c.at = odd & 1 ? c.at : (uint32_t)(at / CX_WIRE_ALIGN);
		c.kind = (uint8_t)(c.entries ? c.kind % 3 : 0);
		c.zero = 0;
		memcpy(entry, &c, sizeof(c));
		entries += c.entries;
		at += cx_sparse_body((enum cx_sparse_kind)c.kind, n, c.entries,
				     head.type == COLLX_FLOAT32 ? 4 : 2);
	}
	head.count = count;
	head.bytes = odd & 2 ? head.bytes : at;
	head.entries = odd & 4 ? head.entries : entries;
	*len = at < *len ? at : *len;
	memcpy(msg, &head, sizeof(head));
}

/* Bytes for bodies: ascending indices to begin with, since no input has so many bytes. */
static unsigned char *message_take(struct fuzz_input *in, size_t *len, uint64_t count)
{
	unsigned odd = fuzz_byte(in), step = 1 + fuzz_byte(in);
	size_t most = cx_sparse_bodies(count) + fuzz_byte(in) * 400u, n;
	unsigned char *whole = exact(most), *msg;

	for (size_t i = 0; i + 1 < most; i += 2) {
		uint16_t place = (uint16_t)((i / 2 * step) & 0x3fff);

		memcpy(whole + i, &place, 2);
	}
	n = fuzz_bytes(in, whole, most);
	*len = most;
	if (odd & 8)
		*len = n;
	else
		mend(whole, len, count, odd);
	msg = exact(*len);
	memcpy(msg, whole, *len);
	free(whole);
	return msg;
}

static void check_merged(const unsigned char *msg, size_t len, size_t n, const float *sum)
{
	struct cx_sparse_head head;
	const void *in[1] = { msg };
	collx_topk_info info = COLLX_TOPK_INFO_INIT;
	size_t room;
	unsigned char *out;
	float *again = calloc(n + 1, sizeof(*again));
	collx_result rc;

	memcpy(&head, msg, sizeof(head));
	room = collx_sparse_size(n, head.entries, COLLX_FLOAT32);
	out = guarded(room);
	FUZZ_MUST(again, "no memory");
	rc = collx_sparse_merge(out, room, in, &len, 1, n, NULL, &info);
	FUZZ_MUST(rc == COLLX_OK && info.len <= room, "merge of a sound message: %d", rc);
	rc = collx_sparse_add(again, n, out, info.len, NULL, NULL);
	FUZZ_MUST(rc == COLLX_OK, "what merge made is no message: %d", rc);
	FUZZ_MUST(!memcmp(again, sum, n * sizeof(*sum)), "merged is not added");
	check_guard(out, room);
	free(out);
	free(again);
}

static void try_sparse(struct fuzz_input *in, size_t n)
{
	collx_topk_opts o = COLLX_TOPK_OPTS_INIT;
	size_t len;
	unsigned char *msg = message_take(in, &len, n), *small = guarded(64);
	float *sum = calloc(n + 1, sizeof(*sum));
	const void *one[1] = { msg };
	collx_result rc;

	FUZZ_MUST(sum, "no memory");
	rc = collx_sparse_add(sum, n, msg, len, NULL, NULL);
	FUZZ_MUST(rc == COLLX_OK || rc == COLLX_ERR_CORRUPT, "add: %d", rc);
	if (rc == COLLX_OK) {
		check_merged(msg, len, n, sum);
	} else {
		for (size_t i = 0; i < n; i++)
			FUZZ_MUST(sum[i] == 0, "refused, but element %zu was added", i);
		o.value_type = COLLX_FLOAT16;
		rc = collx_sparse_merge(small, 64, one, &len, 1, n, &o, NULL);
		FUZZ_MUST(rc == COLLX_ERR_CORRUPT, "merge: %d", rc);
		check_guard(small, 0);
	}
	free(sum);
	free(small);
	free(msg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, data + size };
	unsigned what = fuzz_byte(&in);
	size_t n = fuzz_below(&in, 256) * 256u;

	n += fuzz_byte(&in);
	if (what % 4 == 0)
		try_decode(&in, (collx_format)(what / 4 % 3), n % DENSE);
	else if (what % 4 == 1)
		try_reduce(&in, (collx_format)(what / 4 % 3), n % DENSE);
	else
		try_sparse(&in, 1 + n % SPARSE);
	return 0;
}
