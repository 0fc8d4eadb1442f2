/* SPDX-License-Identifier: BSD-3-Clause */
/* Top-k's pass over memory, in the words of a variant; codec_body.h includes this. */
/* What is chosen from, and which lanes were unfit; the sums are to be where gradients were given
 * and something is left. */
ALWAYS vu32 to_choose(const struct cx_select *s, collx_type type, bool given, bool left, size_t i,
		      vi32 *unfit)
{
	vf32 e = left ? load_float(s->residual + i) : splat(0);
	vf32 a = given ? load_as(type, s->gradient, i) : e;

	if (given && left)
		a += s->decay * e;
	*unfit = ((vi32)a & INT32_MAX) >= (int32_t)CX_INF32;
	return PICK(*unfit, (vu32)e, (vu32)a);
}

/* Takes what is to be kept of a block; what is left is in the residual by now. */
ALWAYS void take_block(struct cx_select *s, collx_type type, bool left, size_t at)
{
	for (unsigned v = 0; v < NV; v++, at += L) {
		vi32 unfit;
		vu32 b = to_choose(s, type, !left, left, at, &unfit);
		vi32 key = (vi32)b & INT32_MAX;
		vi32 taken = (key > (int32_t)s->least - 1) & (vi32)(key < (int32_t)CX_INF32);
		unsigned lanes = lanes_of(taken);

		if (left)
			*(mem *)(s->residual + at) = (mem)(b & (vu32)~taken);
		keep(s->bits + s->found, s->index + s->found, b, (uint32_t)at, lanes);
		s->found += (unsigned)__builtin_popcount(lanes);
	}
}

static void count_unfit(struct cx_select *s, vu32 lanes)
{
	for (unsigned i = 0; i < L; i++)
		s->unfit += lanes[i];
}

/*
 * Blocks are gone through up to a tile's of them at a time, then once more those in which there
 * are candidates: nobody foresees which, and a wrong guess costs as much as a block.
 */
ALWAYS void choose_stretch(struct cx_select *s, collx_type type, bool given, bool left,
			   unsigned blocks)
{
	unsigned list[BLOCKS], listed = 0;
	vu32 unfit = {0};

	for (unsigned k = 0; k < blocks; k++) {
		vi32 some = {0};

		for (unsigned v = 0; v < NV; v++) {
			size_t i = s->at + k * CX_BLOCK + v * L;
			vi32 mine;
			vu32 b = to_choose(s, type, given, left, i, &mine);

			some |= ((vi32)b & INT32_MAX) > (int32_t)s->least - 1;
			unfit -= (vu32)mine;
			if (left)
				*(mem *)(s->residual + i) = (mem)b;
		}
		list[listed] = k;
		listed += lanes_of(some) != 0;
	}
	for (unsigned k = 0; k < listed; k++)
		take_block(s, type, left, s->at + list[k] * CX_BLOCK);
	if (lanes_of((vi32)(unfit != 0)))
		count_unfit(s, unfit);
	s->at += blocks * CX_BLOCK;
}

ALWAYS void choose_blocks(struct cx_select *s, collx_type type, bool given, bool left)
{
	while (s->at + CX_BLOCK <= s->n && s->room - s->found >= CX_SELECT_ROOM) {
		size_t blocks = (s->n - s->at) / CX_BLOCK;
		size_t room = (s->room - s->found - CX_SELECT_ROOM) / CX_BLOCK + 1;

		blocks = blocks < room ? blocks : room;
		choose_stretch(s, type, given, left, blocks < BLOCKS ? (unsigned)blocks : BLOCKS);
	}
}

ALWAYS void choose(struct cx_select *s, collx_type type)
{
	if (s->gradient && s->residual)
		choose_blocks(s, type, true, true);
	else if (s->gradient)
		choose_blocks(s, type, true, false);
	else
		choose_blocks(s, type, false, true);
	cx_codecs_portable.select[cx_float_slot(type)](s);
}
