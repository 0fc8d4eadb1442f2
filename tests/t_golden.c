/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Golden bytes of whole tiles, of their sums and of sparse messages, for every variant.
 * tests/golden/codec.py made them from doc/WIRE, in exact arithmetic; and sums of inputs
 * whose scales are near and far from each other, which a variant may compute in integers,
 * against the portable variant.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <criterion/criterion.h>

#include "collx.h"
#include "kernels/element.h"
#include "kernels/topk.h"

enum { ROOM = CX_TILE * 2, INPUTS = 4 };

/* ---- the file ---- */

static FILE *open_golden(void)
{
	const char *srcdir = getenv("srcdir");
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/tests/golden/codec.txt", srcdir ? srcdir : ".");
	f = fopen(path, "r");
	cr_assert_not_null(f, "%s", path);
	return f;
}

/* The bytes of that name; returns how many. */
static size_t golden(const char *name, unsigned char bytes[ROOM])
{
	FILE *f = open_golden();
	char line[128];
	int here = 0;
	size_t len = 0;

	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (line[0] == '=') {
			here = !strcmp(line + 2, name);
			continue;
		}
		for (size_t i = 0; here && line[i]; i += 2) {
			unsigned byte;

			cr_assert(len < ROOM && sscanf(line + i, "%2x", &byte) == 1);
			bytes[len++] = (unsigned char)byte;
		}
	}
	fclose(f);
	cr_assert(len, "no golden bytes for %s", name);
	return len;
}

static void same(const char *variant, const char *name, const unsigned char *mine, size_t len)
{
	unsigned char right[ROOM];

	cr_assert_eq(golden(name, right), len, "%s: %zu bytes", name, len);
	for (size_t i = 0; i < len; i++)
		cr_assert_eq(mine[i], right[i], "%s, %s: byte %zu is %02x, should be %02x", variant,
			     name, i, mine[i], right[i]);
}

/* ---- tiles ---- */

static const char *const format_name[CX_FORMATS] = { "q8", "q4", "bf16" };

/* As codec.py makes them. */
static void numbers(float x[CX_TILE], uint32_t which)
{
	uint32_t u = 12345 + which;

	for (int i = 0; i < CX_TILE; i++) {
		int b = i / CX_BLOCK, e = -12 - b % 5 + (int)(which % 2), n;

		u = u * 1103515245u + 12345u;
		n = (int)(u >> 8 & 0xffff) - 32768;
		n = b == 9 ? 0 : b == 13 ? (int)floor(n / 4096.0) * 4096 : n;
		x[i] = ldexpf((float)n, b == 11 ? -140 : b == 14 && !which ? 105 : e);
	}
	if (which == 0) {
		x[5 * CX_BLOCK + 7] = -INFINITY;
		x[6 * CX_BLOCK + 30] = cx_float_from_bits(CX_NAN32);
	}
}

static void check_tiles(const struct cx_codecs *c, int f)
{
	struct cx_rounding r = { .seed = UINT64_C(0x0123456789abcdef), .index = 4096 };
	const size_t len = cx_wire_bytes((enum cx_format)f, CX_TILE);
	unsigned char wire[ROOM];
	float x[CX_TILE];
	char name[32];

	numbers(x, 0);
	c->encode[f][0](wire, x, CX_TILE, &r);
	same(c->name, format_name[f], wire, len);
	snprintf(name, sizeof(name), "%s stochastic", format_name[f]);
	r.stochastic = 1;
	c->encode[f][0](wire, x, CX_TILE, &r);
	same(c->name, name, wire, len);
}

static void check_sums(const struct cx_codecs *c, int f)
{
	unsigned char wire[INPUTS][ROOM], sum[ROOM];
	const void *in[INPUTS] = { wire[0], wire[1], wire[2], wire[3] };
	float x[CX_TILE];

	for (uint32_t k = 0; k < INPUTS; k++) {
		numbers(x, k + 1);
		c->encode[f][0](wire[k], x, CX_TILE, &(struct cx_rounding){0});
	}
	for (unsigned count = 2; count <= INPUTS + 1; count++) {
		unsigned inputs = count > INPUTS ? INPUTS : count;
		struct cx_fuse u = { .inputs = in, .count = inputs, .own = inputs,
				     .divisor = count > INPUTS ? INPUTS : 1 };
		char name[32];

		snprintf(name, sizeof(name), "%s %s of %u", format_name[f],
			 count > INPUTS ? "average" : "sum", inputs);
		c->fuse[f](sum, &u, CX_TILE);
		same(c->name, name, sum, cx_wire_bytes((enum cx_format)f, CX_TILE));
	}
}

Test(golden, tiles, .timeout = 120)
{
	for (size_t v = 0; cx_codec_variants[v]; v++)
		for (int f = 0; f < CX_FORMATS && cx_codec_variants[v]->usable(); f++)
			check_tiles(cx_codec_variants[v], f);
}

Test(golden, sums_of_tiles, .timeout = 120)
{
	for (size_t v = 0; cx_codec_variants[v]; v++)
		for (int f = 0; f < CX_FORMATS && cx_codec_variants[v]->usable(); f++)
			check_sums(cx_codec_variants[v], f);
}

/* ---- sparse messages: the variant chooses all that is not 0 ---- */

enum { COUNT = 2 * CX_CHUNK + 40 };
static float dense[COUNT], back[COUNT];

static size_t fill_dense(unsigned last)
{
	static const uint32_t first[] = { 0, 77, 16383 };
	size_t entries = 0;

	memset(dense, 0, sizeof(dense));
	for (unsigned i = 0; i < 3; i++)
		dense[first[i]] = 1;
	for (unsigned i = 0; i < last; i++)
		dense[2 * CX_CHUNK + (i * 7 + 3) % 40] = 1;
	for (unsigned i = 0; i < COUNT; i++) {
		if (dense[i] == 0)
			continue;
		dense[i] = (float)(4097 + 300 * (int)entries) / (entries % 2 ? -4096.0f : 4096.0f);
		entries++;
	}
	return entries;
}

static void check_message(const struct cx_codecs *c, const char *kind, collx_type type, size_t k)
{
	static uint32_t bits[COUNT + CX_SELECT_ROOM], index[COUNT + CX_SELECT_ROOM];
	struct cx_topk t = { .codecs = c, .gradient = dense, .n = COUNT, .k = k, .floor = 1,
			     .type = COLLX_FLOAT32, .bits = bits, .index = index,
			     .room = cx_topk_room(COUNT, k) };
	unsigned char msg[ROOM];
	char name[32];
	size_t len;

	cx_topk(&t);
	cr_assert_eq(t.found, k);
	len = cx_sparse_write(msg, type, COUNT, bits, index, k, NULL);
	snprintf(name, sizeof(name), "%s %d", kind, (int)type);
	same(c->name, name, msg, len);
	cr_assert(cx_sparse_valid(msg, len, COUNT));
	memset(back, 0, sizeof(back));
	cx_sparse_add(back, msg);
	for (size_t i = 0; i < COUNT; i++)
		cr_assert(type == COLLX_FLOAT32 ? back[i] == dense[i] :
			  fabsf(back[i] - dense[i]) <= fabsf(dense[i]) / 256, "%s: %zu", name, i);
}

Test(golden, sparse_messages, .timeout = 120)
{
	static const collx_type types[] = { COLLX_FLOAT32, COLLX_FLOAT16, COLLX_BFLOAT16 };
	static const struct {
		const char *kind;
		unsigned last;
	} shapes[] = { { "list", 3 }, { "bitmap", 20 }, { "dense", 38 } };

	for (size_t v = 0; cx_codec_variants[v]; v++)
		for (size_t s = 0; s < 9 && cx_codec_variants[v]->usable(); s++)
			check_message(cx_codec_variants[v], shapes[s / 3].kind, types[s % 3],
				      fill_dense(shapes[s / 3].last));
}

/* ---- sums whose scales are near each other, or not ---- */

enum { TILES = 3, WIRE = 2048 * TILES };

static uint32_t next(uint32_t *u)
{
	*u = *u * 1103515245u + 12345u;
	return *u >> 8;
}

/* Any quanta, or those of which some are opposites, and scales whose exponents are up to
 * `spread` above one, in a tile near the ends of what there is; one of 2048 is anything. */
static void fill_wire(unsigned char *wire, enum cx_format f, unsigned spread, int opposites,
		      uint32_t *u)
{
	static const unsigned char ones[] = { 0x11, 0xff, 0x1f, 0xf1 };

	for (size_t i = 0; i < cx_wire_bytes(f, TILES * CX_TILE); i++) {
		wire[i] = (unsigned char)next(u);
		if (opposites)
			wire[i] = ones[wire[i] % 4];
	}
	for (unsigned b = 0; b < TILES * CX_TILE / CX_BLOCK; b++) {
		uint32_t e = b / 32 == 1 ? 22 + b * 7 % 224 : 100 + b, any;
		uint16_t s;

		e += next(u) % (spread + 1);
		any = next(u);
		s = (uint16_t)((any & 0x807f) | e << 7);
		if ((any >> 16) % 8 == 0)
			s = 0;
		if (next(u) % 2048 == 0)
			s = (uint16_t)any;
		memcpy(wire + cx_wire_bytes(f, b / 32 * CX_TILE) + cx_wire_scales(f, CX_TILE) +
		       b % 32 * 2, &s, 2);
	}
}

static void check_spread(const struct cx_codecs *c, enum cx_format f, unsigned round)
{
	static unsigned char wire[CX_INPUTS][WIRE], right[WIRE], mine[WIRE];
	const void *in[CX_INPUTS];
	uint32_t u = round * 7919 + 1;
	unsigned count = 1 + round % CX_INPUTS;
	struct cx_fuse fuse = { .inputs = in, .count = count, .own = count,
				.divisor = round % 3 ? 1 : count };

	for (unsigned k = 0; k < count; k++) {
		fill_wire(wire[k], f, round / 16 % 10, round / 16 % 10 == 0, &u);
		in[k] = wire[k];
	}
	cx_codecs_pick("portable")->fuse[f](right, &fuse, TILES * CX_TILE);
	c->fuse[f](mine, &fuse, TILES * CX_TILE);
	cr_assert(!memcmp(mine, right, cx_wire_bytes(f, TILES * CX_TILE)), "%s: %d, round %u",
		  c->name, (int)f, round);
}

Test(golden, sums_of_any_scales, .timeout = 300)
{
	for (size_t v = 1; cx_codec_variants[v]; v++)
		for (unsigned round = 0; round < 960 && cx_codec_variants[v]->usable(); round++)
			check_spread(cx_codec_variants[v], round / 160 % 2 ? CX_Q4 : CX_Q8, round);
}
