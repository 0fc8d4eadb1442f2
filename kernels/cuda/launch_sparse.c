/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Top-k and sparse messages: several launches a call, see topk.cu and sparse.cu.
 */
#include "base.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/module.h"
#include "kernels/topk.h"

enum { ALIGN = 256 };

static size_t divide_up(size_t n, size_t by)
{
	return n / by + (n % by != 0);
}

static int is_aligned(const void *p)
{
	return (uintptr_t)p % 16 == 0;
}

static void *aligned_work(void *work)
{
	return (char *)work + (ALIGN - (uintptr_t)work % ALIGN) % ALIGN;
}

/* ---- top-k ---- */

/* Candidates: of a bell-shaped array, a tenth below the k-th there are twice as many. */
static size_t candidates(size_t n, size_t k)
{
	return cx_min(4 * k + 16384, n);
}

/* The parts of the work memory, each a multiple of ALIGN; NULL as base counts its bytes. */
static size_t lay_out(struct cx_topk_args *a, char *base)
{
	const size_t tiles[4] = {divide_up(a->n, CX_SELECT_TILE), divide_up(a->n, CX_SELECT_TILE),
				 divide_up(a->room, CX_PICK_TILE),
				 divide_up(cx_sparse_chunks(a->n), CX_EMIT_TILE)};
	size_t at = 0;

	a->head = (struct cx_topk_head *)(void *)base;
	at += cx_round_up(sizeof(*a->head), ALIGN);
	a->bins = (uint32_t *)(void *)(base + at);
	at += CX_DIGITS * CX_BINS * sizeof(*a->bins);
	for (int i = 0; i < 4; i++) {
		a->states[i] = (unsigned long long *)(void *)(base + at);
		at += cx_round_up(tiles[i] * sizeof(*a->states[i]), ALIGN);
	}
	/* What is above begins a call as 0, what follows as anything. */
	a->starts = (uint32_t *)(void *)(base + at);
	at += cx_round_up((cx_sparse_chunks(a->n) + 1) * sizeof(*a->starts), ALIGN);
	a->bits = (uint32_t *)(void *)(base + at);
	a->index = a->bits + a->room;
	at += cx_round_up(2 * a->room * sizeof(*a->bits), ALIGN);
	a->final_bits = (uint32_t *)(void *)(base + at);
	a->final_index = a->final_bits + a->k;
	return at + cx_round_up(2 * a->k * sizeof(*a->bits), ALIGN);
}

size_t cx_cuda_topk_work(size_t n, size_t k)
{
	struct cx_topk_args a = {.n = n, .k = k, .room = candidates(n, k)};

	if (k > n || n > INT32_MAX)
		return 0;
	return lay_out(&a, (char *)(uintptr_t)ALIGN) + ALIGN;
}

static int clear(struct cx_cuda_place *place, const struct cx_topk_args *a,
		 const struct cx_cuda_topk *t)
{
	char *from = (char *)a->head + sizeof(a->head->hint);
	int rc = 0;

	if (!t->keep)
		rc = cx_cuda_set(place, &a->head->hint, t->hint, 1);
	return rc ? rc : cx_cuda_set(place, from, 0, (size_t)((char *)a->starts - from) / 4);
}

/* Shared memory of a kernel that takes tiles of these arrays, and `more`. */
static size_t shared_of(size_t n, int aligned, size_t more)
{
	size_t rooms = aligned ? n % CX_TILE != 0 : CX_CUDA_WARPS;

	return CX_SHARED + more + rooms * CX_ROOM;
}

static int choose(struct cx_cuda_place *place, const struct cx_topk_args *a, unsigned slot)
{
	const size_t select = cx_cuda_busy(place, divide_up(a->n, CX_SELECT_TILE));
	const size_t listed = cx_cuda_busy(place, divide_up(a->room, CX_PICK_TILE));
	const size_t rooms = shared_of(a->n, a->aligned, 0);
	/* The sums are in the residual, if there is one. */
	unsigned sums = a->residual ? 0 : slot;
	int aligned = a->residual ? a->residual_aligned : a->aligned, rc;

	rc = cx_cuda_launch(place, CX_CUDA_select, 0, slot, select, rooms, a);
	if (!rc && a->residual)
		rc = cx_cuda_launch(place, CX_CUDA_restore, 0, 0, listed, 0, a);
	for (unsigned digit = 0; !rc && digit < CX_DIGITS; digit++)
		rc = cx_cuda_launch(place, CX_CUDA_count, digit, sums, select,
				    shared_of(a->n, aligned, CX_BINS * 4), a);
	if (!rc)
		rc = cx_cuda_launch(place, CX_CUDA_select, 1, slot, select, rooms, a);
	return rc ? rc : cx_cuda_launch(place, CX_CUDA_pick, 0, 0, listed, CX_SHARED, a);
}

static int emit(struct cx_cuda_place *place, const struct cx_topk_args *a)
{
	const size_t chunks = cx_sparse_chunks(a->n), maps = CX_CUDA_WARPS * CX_CHUNK / 8;
	int rc = cx_cuda_launch(place, CX_CUDA_starts, 0, 0, divide_up(chunks + 1, CX_CUDA_BLOCK),
				0, a);

	return rc ? rc : cx_cuda_launch(place, CX_CUDA_emit, 0, (unsigned)cx_float_slot(a->type),
					cx_cuda_busy(place, divide_up(chunks, CX_EMIT_TILE)),
					CX_SHARED + maps, a);
}

static int check_info(const collx_topk_info *info)
{
	if ((uintptr_t)info % _Alignof(collx_topk_info))
		return cx_fail(COLLX_ERR_INVALID, "info is at %p, no multiple of %zu",
			       (const void *)info, _Alignof(collx_topk_info));
	return 0;
}

static int check_topk(const struct cx_cuda_topk *t)
{
	if (cx_float_slot(t->type) < 0 || cx_float_slot(t->value_type) < 0)
		return cx_fail(COLLX_ERR_INVALID, "top-k: type %d or %d: float32, float16 or "
			       "bfloat16 is needed", (int)t->type, (int)t->value_type);
	if (t->k > t->n)
		return cx_fail(COLLX_ERR_INVALID, "top-k: k is %zu of %zu elements", t->k, t->n);
	if (t->n > INT32_MAX)
		return cx_fail(COLLX_ERR_UNSUPPORTED, "top-k: %zu elements: on a GPU fewer than "
			       "2^31 at a time", t->n);
	return check_info(t->info);
}

int cx_cuda_topk(const struct cx_cuda_topk *t, void *stream)
{
	struct cx_topk_args a = {.gradient = t->gradient, .residual = t->residual, .n = t->n,
				 .k = t->k, .room = candidates(t->n, t->k), .decay = t->decay,
				 .floor = t->k ? cx_max(t->floor, 1) : 0x7f800000, .msg = t->msg,
				 .type = t->value_type, .info = t->info};
	struct cx_cuda_place place;
	int rc = check_topk(t);

	rc = rc ? rc : cx_cuda_enter(&place, stream);
	if (rc)
		return rc;
	a.residual_aligned = is_aligned(a.residual);
	a.aligned = is_aligned(a.gradient) && a.residual_aligned;
	lay_out(&a, aligned_work(t->work));
	rc = cx_cuda_load(&place, CX_CUDA_TOPK);
	rc = rc ? rc : clear(&place, &a, t);
	rc = rc ? rc : choose(&place, &a, (unsigned)cx_float_slot(t->type));
	rc = rc ? rc : emit(&place, &a);
	cx_cuda_leave(&place);
	return rc;
}

/* ---- sparse messages ---- */

size_t cx_cuda_sparse_work(size_t count)
{
	return sizeof(struct cx_sparse_work) + cx_sparse_chunks(count) * 8 + ALIGN;
}

/* Clears the work memory and launches the check. */
static int check(struct cx_cuda_place *place, struct cx_sparse_args *a, void *work)
{
	size_t chunks = cx_sparse_chunks(a->count), blocks = divide_up(chunks, CX_CUDA_WARPS);
	int rc = cx_cuda_load(place, CX_CUDA_SPARSE);

	a->work = aligned_work(work);
	rc = rc ? rc : cx_cuda_set(place, a->work, 0, (sizeof(*a->work) + chunks * 8) / 4);
	return rc ? rc : cx_cuda_launch(place, CX_CUDA_check, 0, 0,
					cx_cuda_busy(place, blocks) * a->messages, CX_SHARED, a);
}

int cx_cuda_sparse_add(float *dst, size_t count, const void *msg, size_t len, void *work,
		       collx_topk_info *info, void *stream)
{
	struct cx_sparse_args a = {.in = {msg}, .len = {len}, .messages = 1, .count = count,
				   .out = dst, .room = SIZE_MAX, .info = info};
	size_t chunks = cx_sparse_chunks(count);
	struct cx_cuda_place place;
	int rc = check_info(info);

	if (!rc && count > (uint64_t)UINT32_MAX + 1)
		rc = cx_fail(COLLX_ERR_INVALID, "sparse add: %zu elements, at most 2^32", count);
	rc = rc ? rc : cx_cuda_enter(&place, stream);
	if (rc)
		return rc;
	rc = check(&place, &a, work);
	if (!rc)
		rc = cx_cuda_launch(&place, CX_CUDA_add, 0, 0,
				    cx_cuda_busy(&place, divide_up(chunks, CX_CUDA_WARPS)), 0, &a);
	cx_cuda_leave(&place);
	return rc;
}

int cx_cuda_sparse_merge(void *msg, size_t room, collx_type type, const void *const *in,
			 const size_t *len, unsigned messages, size_t count, void *work,
			 collx_topk_info *info, void *stream)
{
	struct cx_sparse_args a = {.messages = messages, .count = count, .out = msg, .room = room,
				   .type = type, .info = info};
	struct cx_cuda_place place;
	int rc = check_info(info);

	if (rc)
		return rc;
	if (messages == 0 || messages > CX_INPUTS || cx_float_slot(type) < 0)
		return cx_fail(COLLX_ERR_INVALID, "merging %u messages into type %d: 1 to %d, and "
			       "a float type are needed", messages, (int)type, CX_INPUTS);
	if (count > INT32_MAX)
		return cx_fail(COLLX_ERR_UNSUPPORTED, "sparse merge: %zu elements: on a GPU fewer "
			       "than 2^31 at a time", count);
	if (room < cx_sparse_bodies(count))
		return cx_fail(COLLX_ERR_INVALID, "a sparse message for %zu elements has at least "
			       "%zu bytes, the room has %zu", count, cx_sparse_bodies(count), room);
	for (unsigned i = 0; i < messages; i++) {
		a.in[i] = in[i];
		a.len[i] = len[i];
	}
	rc = cx_cuda_enter(&place, stream);
	if (rc)
		return rc;
	rc = check(&place, &a, work);
	if (!rc)
		rc = cx_cuda_launch(&place, CX_CUDA_merge, 0, (unsigned)cx_float_slot(type),
				    cx_cuda_busy(&place, cx_sparse_chunks(count)), CX_MERGE_SHARED,
				    &a);
	cx_cuda_leave(&place);
	return rc;
}
