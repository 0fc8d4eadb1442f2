/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kernel_sums CASES: compares the kernels' variants of this processor with the
 * portable ones and prints checksums of all bytes that they make. tests/arm.sh
 * builds it, of the kernels alone, for two processors and compares what they print.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/element.h"
#include "kernels/kernel.h"
#include "kernels/topk.h"
#include "tests/codec_cases.h"

enum { INPUTS = 5, MOST = 300, TOPK = 40000 };

/* ---- codecs ---- */

static int sum_codecs(const struct cx_codecs *c, uint64_t cases)
{
	uint64_t sum = 0;
	char why[CODEC_WHY];

	for (uint64_t i = 0; i < cases; i++)
		if (codec_case_sum(c, i, why, &sum)) {
			printf("case %llu: %s\n", (unsigned long long)i, why);
			return -1;
		}
	printf("codecs %016llx\n", (unsigned long long)sum);
	return 0;
}

/* ---- reductions ---- */

struct arrays {
	_Alignas(16) unsigned char in[INPUTS][MOST * 8 + 16];
	unsigned char out[MOST * 8 + 16];
};

/* Any bits, and often those that make NaN, infinities and numbers next to each other. */
static void fill(unsigned char *p, size_t len, uint64_t seed)
{
	static const uint64_t often[] = {
		0x7ff0000000000000, 0x7f8000007f800001, 0xff80ff807f807fc0, 0x3f8000003f800001,
		0x7c007c017e00fc00, 0x0000000000000001, 0x8000000080000000, 0x7ff8000000000001,
	};

	for (size_t i = 0; i < len; i += 8) {
		uint64_t u = codec_mix(seed + i);

		if (u % 3 == 0)
			u = often[u >> 8 & 7] ^ (u >> 16 & 1) << 63;
		memcpy(p + i, &u, len - i < 8 ? len - i : 8);
	}
}

/* Every width of an operation for n elements, and the pass over several inputs. */
static uint64_t sum_operation(const struct cx_kernels *k, collx_type type, collx_op op, size_t n,
			      struct arrays *a, uint64_t sum)
{
	const void *in[INPUTS];
	size_t acc = collx_type_size(cx_acc_type(type, op)), size = collx_type_size(type);
	uint32_t divisor = (uint32_t)(n % 7);

	for (unsigned i = 0; i < INPUTS; i++)
		in[i] = a->in[i] + (n + i) % 16;
	for (unsigned w = 0; w < CX_WIDTHS; w++) {
		if (!k->reduce[type][op][w])
			continue;
		k->reduce[type][op][w](a->out + n % 3, in[0], in[1], n, divisor);
		sum = codec_sum(sum, a->out + n % 3, n * (w & CX_WIDE_DST ? acc : size));
	}
	k->fold[type][op](a->out, in, 2 + n % (INPUTS - 1), n, divisor);
	return codec_sum(sum, a->out, n * size);
}

static uint64_t sum_conversions(const struct cx_kernels *k, collx_type type, size_t n,
				struct arrays *a, uint64_t sum)
{
	if (!k->widen[type])
		return sum;
	k->widen[type](a->out, a->in[0], n);
	sum = codec_sum(sum, a->out, n * 4);
	k->narrow[type](a->out, a->in[1], n);
	return codec_sum(sum, a->out, n * 2);
}

static void sum_reductions(const struct cx_kernels *k)
{
	static struct arrays a;
	uint64_t sum = 0;

	for (size_t n = 0; n <= MOST; n += n < 70 ? 1 : 23)
		for (int t = 0; t < COLLX_TYPE_COUNT; t++) {
			for (unsigned i = 0; i < INPUTS; i++)
				fill(a.in[i], sizeof(a.in[i]),
				     (n * 16 + (unsigned)t) * 1000003 + i * 77777);
			for (int op = 0; op < COLLX_OP_COUNT; op++)
				sum = sum_operation(k, (collx_type)t, (collx_op)op, n, &a, sum);
			sum = sum_conversions(k, (collx_type)t, n, &a, sum);
		}
	printf("reductions %016llx\n", (unsigned long long)sum);
}

/* ---- top-k and sparse messages ---- */

static uint64_t sum_message(const struct cx_codecs *c, unsigned kind, uint64_t sum)
{
	static const collx_type types[] = { COLLX_FLOAT32, COLLX_FLOAT16, COLLX_BFLOAT16 };
	static unsigned char msg[TOPK * 8], merged[TOPK * 12];
	static uint32_t bits[TOPK + CX_SELECT_ROOM], index[TOPK + CX_SELECT_ROOM];
	static float g[TOPK], e[TOPK];
	const void *both[2] = { msg, msg };
	struct cx_topk t = { .codecs = c, .gradient = g, .type = COLLX_FLOAT32, .residual = e,
			     .decay = 0.75f, .n = TOPK - kind, .k = TOPK >> kind, .floor = 1,
			     .bits = bits, .index = index };
	size_t len;

	codec_fill(g, TOPK, kind, 1);
	codec_fill(e, TOPK, kind % 2 ? kind : 0, 2);
	t.k = t.k < t.n ? t.k : t.n;
	t.room = cx_topk_room(t.n, t.k);
	cx_topk(&t);
	len = cx_sparse_write(msg, types[kind % 3], t.n, bits, index, t.found, e);
	sum = codec_sum(codec_sum(sum, msg, len), e, sizeof(e));
	if (!cx_sparse_valid(msg, len, t.n))
		return 0;
	cx_sparse_add(g, msg);
	len = cx_sparse_merge(merged, sizeof(merged), types[kind / 3 % 3], both, 2);
	return codec_sum(codec_sum(sum, g, sizeof(g)), merged, len);
}

/* Every variant can be asked for by its name, and reductions then, too. */
static int check_names(void)
{
	for (size_t v = 0; cx_codec_variants[v]; v++) {
		const struct cx_codecs *c = cx_codec_variants[v];

		if (!c->usable() || (cx_codecs_pick(c->name) == c && cx_kernels_pick(c->name) &&
				     strstr(cx_kernels_why("").text, c->name)))
			continue;
		printf("COLLX_KERNEL=%s is refused: %s\n", c->name, cx_kernels_why(c->name).text);
		return -1;
	}
	if (cx_codecs_pick("vector"))
		return 0;
	puts("there is no vector, which collx_env(7) has everywhere");
	return -1;
}

int main(int argc, char **argv)
{
	uint64_t cases = argc > 1 ? strtoull(argv[1], NULL, 10) : CODEC_CASES;
	int bad = check_names();

	for (size_t v = 0; cx_codec_variants[v]; v++) {
		uint64_t sum = 0;

		if (v && cx_codec_variants[v]->usable()) /* the first is what it is compared with */
			bad |= sum_codecs(cx_codec_variants[v], cases);
		for (unsigned kind = 0; kind < CODEC_KINDS; kind++)
			sum = sum_message(cx_codec_variants[v], kind, sum);
		printf("messages %016llx\n", (unsigned long long)sum);
	}
	for (size_t v = 0; cx_kernel_variants[v]; v++)
		sum_reductions(cx_kernel_variants[v]);
	return bad ? 1 : 0;
}
