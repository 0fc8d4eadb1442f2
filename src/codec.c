/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The arithmetic as public functions: arguments are checked here, and handed to
 * the kernels. Everything is checked before anything is written.
 */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/base.h"
#include "kernels/codec.h"
#include "kernels/cuda/cuda.h"
#include "kernels/element.h"
#include "kernels/kernel.h"
#include "kernels/topk.h"

_Static_assert((int)COLLX_Q8 == CX_Q8 && (int)COLLX_Q4 == CX_Q4 && (int)COLLX_BF16 == CX_BF16 &&
	       (int)COLLX_FORMAT_COUNT == CX_FORMATS, "formats have one number");

/* Elements beyond which sizes in bytes would overflow. */
#define MOST (SIZE_MAX / 64)

/* ---- what all calls share ---- */

/* The kernels of this process, chosen at the first call: cpuid is slow in a virtual machine. */
static int kernels_of(const struct cx_kernels **kernels, const struct cx_codecs **codecs)
{
	static _Atomic(const struct cx_kernels *) all_kernels;
	static _Atomic(const struct cx_codecs *) all_codecs;
	const struct cx_kernels *k = atomic_load_explicit(&all_kernels, memory_order_relaxed);
	const struct cx_codecs *c = atomic_load_explicit(&all_codecs, memory_order_relaxed);

	if (!k || !c) { /* two threads find the same */
		const char *name = cx_env_text(CX_ENV_KERNEL);

		k = cx_kernels_pick(name);
		c = cx_codecs_pick(name);
		if (!k || !c)
			return cx_fail(COLLX_ERR_INVALID, "COLLX_KERNEL=%s %s", name,
				       cx_kernels_why(name).text);
		atomic_store_explicit(&all_kernels, k, memory_order_relaxed);
		atomic_store_explicit(&all_codecs, c, memory_order_relaxed);
	}
	if (kernels)
		*kernels = k;
	if (codecs)
		*codecs = c;
	return 0;
}

static int check_memory(const char *name, collx_memory memory)
{
	if (memory == COLLX_MEMORY_HOST || (memory == COLLX_MEMORY_CUDA && cx_cuda_built()))
		return 0;
	if (memory == COLLX_MEMORY_CUDA)
		return cx_fail(COLLX_ERR_UNSUPPORTED, "%s: this libcollx was built without its GPU "
			       "kernels; copy to host memory", name);
	return cx_fail(COLLX_ERR_INVALID, "%s: unknown memory %d", name, (int)memory);
}

/* `to` has the defaults. */
static int check_opts(const char *name, collx_codec_opts *to, const collx_codec_opts *from,
		      uint32_t flags)
{
	if (from && (from->size < sizeof(*from) || from->flags & ~flags))
		return cx_fail(COLLX_ERR_INVALID, "%s: opts has unknown members or flags that do "
			       "not belong here; begin with COLLX_CODEC_OPTS_INIT", name);
	if (from)
		*to = *from;
	if (to->index % CX_TILE)
		return cx_fail(COLLX_ERR_INVALID, "%s: index %llu is no multiple of %d", name,
			       (unsigned long long)to->index, CX_TILE);
	if (!isfinite(to->decay))
		return cx_fail(COLLX_ERR_INVALID, "%s: decay is not finite", name);
	return check_memory(name, to->memory);
}

static int check_count(const char *name, size_t count, size_t most)
{
	if (count <= most)
		return 0;
	return cx_fail(COLLX_ERR_INVALID, "%s: %zu elements are too many, at most %zu", name, count,
		       most);
}

static int check_float(const char *name, const char *what, collx_type type)
{
	if ((unsigned)type < COLLX_TYPE_COUNT && cx_float_slot(type) >= 0)
		return 0;
	return cx_fail(COLLX_ERR_INVALID, "%s: %s %d: float32, float16 or bfloat16 is needed", name,
		       what, (int)type);
}

static int check_format(const char *name, collx_format format, size_t len, size_t count)
{
	if ((unsigned)format >= COLLX_FORMAT_COUNT)
		return cx_fail(COLLX_ERR_INVALID, "%s: unknown format %d", name, (int)format);
	if (len < cx_wire_bytes((enum cx_format)format, count))
		return cx_fail(COLLX_ERR_INVALID, "%s: the buffer has %zu bytes, %zu are needed",
			       name, len, cx_wire_bytes((enum cx_format)format, count));
	return 0;
}

static int check_inputs(const char *name, const void *const *in, int inputs, int least,
			size_t count)
{
	if (inputs < least || inputs > CX_INPUTS)
		return cx_fail(COLLX_ERR_INVALID, "%s: %d inputs, not %d to %d", name, inputs,
			       least, CX_INPUTS);
	if (!in)
		return cx_fail(COLLX_ERR_INVALID, "%s: in is NULL", name);
	for (int k = 0; k < inputs; k++)
		if (!in[k] && count)
			return cx_fail(COLLX_ERR_INVALID, "%s: in[%d] is NULL", name, k);
	return 0;
}

/* A buffer of a call. */
struct span {
	const char *name;
	const void *at;
	size_t len;
};

/* By the distance, since a caller's length may reach beyond the end of memory. */
static int overlap(const struct span *a, const struct span *b)
{
	uintptr_t x = (uintptr_t)a->at, y = (uintptr_t)b->at;

	return a->len && b->len && (x < y ? y - x < a->len : x - y < b->len);
}

/* a is written; b may not overlap it. Neither may be NULL while it has bytes. */
static int check_apart(const char *name, const struct span *a, const struct span *b)
{
	if ((!a->at && a->len) || (!b->at && b->len))
		return cx_fail(COLLX_ERR_INVALID, "%s: %s is NULL", name,
			       !a->at && a->len ? a->name : b->name);
	if (overlap(a, b))
		return cx_fail(COLLX_ERR_INVALID, "%s: %s and %s overlap", name, a->name, b->name);
	return 0;
}

/* out, what is read, and the residual, which is both. */
static int check_buffers(const char *name, struct span out, struct span in, const float *residual,
			 size_t count)
{
	struct span left = { "residual", residual, residual ? count * sizeof(*residual) : 0 };
	int rc = check_apart(name, &out, &in);

	rc = rc ? rc : check_apart(name, &out, &left);
	return rc ? rc : check_apart(name, &left, &in);
}

/* May who does the work, the processor or the GPU of this stream, touch them? NULL aside. */
static int check_reach(const char *name, collx_memory memory, void *stream, const void *const *p,
		       int n)
{
	const void *device;

	if (memory == COLLX_MEMORY_CUDA)
		return cx_cuda_reach(p, (unsigned)n, stream);
	device = cx_cuda_memory(p, n);
	if (!device)
		return 0;
	if (!cx_cuda_built())
		return cx_fail(COLLX_ERR_UNSUPPORTED, "%s: %p is device memory, and this libcollx "
			       "was built without its GPU kernels; copy to host memory", name,
			       device);
	return cx_fail(COLLX_ERR_INVALID, "%s: %p is device memory; set memory of opts to "
		       "COLLX_MEMORY_CUDA, and stream", name, device);
}

static struct cx_rounding rounding_of(const collx_codec_opts *o)
{
	return (struct cx_rounding){ .stochastic = o->flags & COLLX_STOCHASTIC, .seed = o->seed,
				     .index = o->index };
}

/* ---- encode and decode ---- */

size_t collx_encoded_size(size_t count, collx_format format)
{
	if ((unsigned)format >= COLLX_FORMAT_COUNT || count > MOST)
		return 0;
	return cx_wire_bytes((enum cx_format)format, count);
}

collx_result collx_encode(void *out, size_t out_len, const void *in, size_t count, collx_type type,
			  collx_format format, const collx_codec_opts *opts)
{
	static const char name[] = "collx_encode";
	const struct cx_codecs *c = NULL;
	struct cx_rounding r;
	collx_codec_opts o = COLLX_CODEC_OPTS_INIT;
	int rc = check_opts(name, &o, opts, COLLX_STOCHASTIC), slot;

	rc = rc ? rc : check_count(name, count, MOST);
	rc = rc ? rc : check_float(name, "type", type);
	rc = rc ? rc : check_format(name, format, out_len, count);
	if (!rc)
		rc = check_buffers(name,
				   (struct span){ "out", out, collx_encoded_size(count, format) },
				   (struct span){ "in", in, count * collx_type_size(type) },
				   o.residual, count);
	rc = rc ? rc : kernels_of(NULL, &c);
	if (!rc && count)
		rc = check_reach(name, o.memory, o.stream,
				 (const void *[]){ out, in, o.residual }, 3);
	if (rc || count == 0)
		return rc;
	slot = cx_float_slot(type);
	r = rounding_of(&o);
	if (o.memory == COLLX_MEMORY_CUDA)
		return o.residual ?
			cx_cuda_feedback((enum cx_format)format, type, out, in, o.residual, count,
					 o.decay, &r, o.stream) :
			cx_cuda_encode((enum cx_format)format, type, out, in, count, &r, o.stream);
	if (o.residual)
		c->feedback[format][slot](out, in, o.residual, count, o.decay, &r);
	else
		c->encode[format][slot](out, in, count, &r);
	return COLLX_OK;
}

collx_result collx_decode(void *out, size_t count, collx_type type, const void *in, size_t in_len,
			  collx_format format, const collx_codec_opts *opts)
{
	static const char name[] = "collx_decode";
	const struct cx_codecs *c = NULL;
	collx_codec_opts o = COLLX_CODEC_OPTS_INIT;
	int rc = check_opts(name, &o, opts, COLLX_ACCUMULATE);

	rc = rc ? rc : check_count(name, count, MOST);
	rc = rc ? rc : check_float(name, "type", type);
	rc = rc ? rc : check_format(name, format, in_len, count);
	if (!rc && o.flags & COLLX_ACCUMULATE && type != COLLX_FLOAT32)
		rc = cx_fail(COLLX_ERR_INVALID, "%s: COLLX_ACCUMULATE needs float32", name);
	if (!rc)
		rc = check_buffers(name, (struct span){ "out", out, count * collx_type_size(type) },
				   (struct span){ "in", in, collx_encoded_size(count, format) },
				   NULL, count);
	rc = rc ? rc : kernels_of(NULL, &c);
	if (!rc && count)
		rc = check_reach(name, o.memory, o.stream, (const void *[]){ out, in }, 2);
	if (rc || count == 0)
		return rc;
	if (o.memory == COLLX_MEMORY_CUDA)
		return o.flags & COLLX_ACCUMULATE ?
			cx_cuda_accumulate((enum cx_format)format, out, in, count, o.stream) :
			cx_cuda_decode((enum cx_format)format, type, out, in, count, o.stream);
	if (o.flags & COLLX_ACCUMULATE)
		c->accumulate[format](out, in, count);
	else
		c->decode[format][cx_float_slot(type)](out, in, count);
	return COLLX_OK;
}

/* ---- several inputs ---- */

static int check_reach_all(const char *name, collx_memory memory, void *stream, const void *out,
			   const void *const *in, int inputs, const void *residual)
{
	int rc = check_reach(name, memory, stream, (const void *[]){ out, residual }, 2);

	return rc ? rc : check_reach(name, memory, stream, in, inputs);
}

collx_result collx_reduce_local(void *out, const void *const *in, int inputs, size_t count,
				collx_type type, collx_op op, const collx_codec_opts *opts)
{
	static const char name[] = "collx_reduce_local";
	const struct cx_kernels *k = NULL;
	collx_codec_opts o = COLLX_CODEC_OPTS_INIT;
	int rc = check_opts(name, &o, opts, 0);

	rc = rc ? rc : check_count(name, count, MOST);
	if (!rc && ((unsigned)type >= COLLX_TYPE_COUNT || (unsigned)op >= COLLX_OP_COUNT))
		rc = cx_fail(COLLX_ERR_INVALID, "%s: unknown type %d or operation %d", name,
			     (int)type, (int)op);
	rc = rc ? rc : check_inputs(name, in, inputs, 2, count);
	for (int i = 0; !rc && i < inputs; i++) {
		struct span a = { "out", out, count * collx_type_size(type) };
		struct span b = { "an input", in[i], a.len };

		if (out != in[i])
			rc = check_apart(name, &a, &b);
	}
	rc = rc ? rc : kernels_of(&k, NULL);
	if (!rc && count)
		rc = check_reach_all(name, o.memory, o.stream, out, in, inputs, NULL);
	if (rc || count == 0)
		return rc;
	if (o.memory == COLLX_MEMORY_CUDA)
		return cx_cuda_fold(out, in, (unsigned)inputs, count, type, op, (uint32_t)inputs,
				    o.stream);
	k->fold[type][op](out, in, (unsigned)inputs, count, (uint32_t)inputs);
	return COLLX_OK;
}

/* Bytes of input k. */
static size_t input_bytes(const collx_codec_opts *o, int k, collx_format format, size_t count)
{
	return k == o->own ? count * collx_type_size(o->own_type) :
			     collx_encoded_size(count, format);
}

static int check_fuse(const char *name, const collx_codec_opts *o, struct span out,
		      const void *const *in, int inputs, size_t count, collx_format format)
{
	int decoded = (o->flags & COLLX_DECODED) != 0, rc = 0;

	if (o->own < -1 || o->own >= inputs)
		return cx_fail(COLLX_ERR_INVALID, "%s: own is %d of %d inputs", name, o->own,
			       inputs);
	if (decoded && (o->flags & COLLX_STOCHASTIC || o->residual))
		return cx_fail(COLLX_ERR_INVALID, "%s: an array as result is neither rounded at "
			       "random nor has it a residual", name);
	for (int k = 0; !rc && k < inputs; k++) {
		struct span a = { "an input", in[k], input_bytes(o, k, format, count) };

		if (decoded && k == o->own && out.at == in[k] && o->own_type == o->out_type)
			continue;
		rc = check_buffers(name, out, a, o->residual, count);
	}
	return rc;
}

collx_result collx_reduce_encoded(void *out, size_t out_len, const void *const *in, int inputs,
				  size_t count, collx_format format, collx_op op,
				  const collx_codec_opts *opts)
{
	static const char name[] = "collx_reduce_encoded";
	const struct cx_codecs *c = NULL;
	struct span to = { "out", out, 0 };
	struct cx_fuse f;
	collx_codec_opts o = COLLX_CODEC_OPTS_INIT;
	int rc = check_opts(name, &o, opts, COLLX_STOCHASTIC | COLLX_DECODED);

	rc = rc ? rc : check_count(name, count, MOST);
	rc = rc ? rc : check_format(name, format, SIZE_MAX, count);
	rc = rc ? rc : check_float(name, "own_type", o.own_type);
	rc = rc ? rc : check_float(name, "out_type", o.out_type);
	rc = rc ? rc : check_inputs(name, in, inputs, 1, count);
	if (!rc && op != COLLX_SUM && op != COLLX_AVG)
		rc = cx_fail(COLLX_ERR_INVALID, "%s: operation %d: encoded arrays have sum and avg",
			     name, (int)op);
	if (!rc) {
		to.len = o.flags & COLLX_DECODED ? count * collx_type_size(o.out_type) :
						   collx_encoded_size(count, format);
		if (out_len < to.len)
			rc = cx_fail(COLLX_ERR_INVALID, "%s: out has %zu bytes, %zu are needed",
				     name, out_len, to.len);
	}
	rc = rc ? rc : check_fuse(name, &o, to, in, inputs, count, format);
	rc = rc ? rc : kernels_of(NULL, &c);
	if (!rc && count)
		rc = check_reach_all(name, o.memory, o.stream, out, in, inputs, o.residual);
	if (rc || count == 0)
		return rc;
	f = (struct cx_fuse){ .inputs = in, .count = (unsigned)inputs,
			      .own = o.own < 0 ? (unsigned)inputs : (unsigned)o.own,
			      .own_type = o.own_type,
			      .divisor = op == COLLX_AVG ? (uint32_t)inputs : 1,
			      .residual = o.residual, .decay = o.decay,
			      .rounding = rounding_of(&o) };
	if (o.memory == COLLX_MEMORY_CUDA)
		return o.flags & COLLX_DECODED ?
			cx_cuda_sum((enum cx_format)format, o.out_type, out, &f, count, o.stream) :
			cx_cuda_fuse((enum cx_format)format, out, &f, count, o.stream);
	if (o.flags & COLLX_DECODED)
		c->sum[format][cx_float_slot(o.out_type)](out, &f, count);
	else
		c->fuse[format](out, &f, count);
	return COLLX_OK;
}

/* ---- sparse ---- */

#define MOST_SPARSE ((size_t)cx_min((size_t)UINT32_MAX, MOST - 1) + 1)

size_t collx_sparse_size(size_t count, size_t entries, collx_type value_type)
{
	if ((unsigned)value_type >= COLLX_TYPE_COUNT || cx_float_slot(value_type) < 0 ||
	    count > MOST_SPARSE || entries > count)
		return 0;
	return cx_sparse_bound(count, entries, value_type);
}

size_t collx_topk_work(size_t count, size_t k)
{
	if (k > count || count > MOST_SPARSE)
		return 0;
	return cx_max(cx_topk_room(count, k) * 8 + CX_LINE, cx_cuda_topk_work(count, k));
}

size_t collx_sparse_work(size_t count)
{
	return count > MOST_SPARSE ? 0 : cx_cuda_sparse_work(count);
}

/* `to` has the defaults. */
static int check_topk_opts(const char *name, collx_topk_opts *to, const collx_topk_opts *from)
{
	int rc;

	if (from && (from->size < sizeof(*from) || from->flags))
		return cx_fail(COLLX_ERR_INVALID, "%s: opts has unknown members or flags; begin "
			       "with COLLX_TOPK_OPTS_INIT", name);
	if (from)
		*to = *from;
	rc = check_memory(name, to->memory);
	if (rc)
		return rc;
	return check_float(name, "value_type", to->value_type);
}

static int check_work(const char *name, const collx_topk_opts *o, size_t need)
{
	if (!o->work && o->memory == COLLX_MEMORY_CUDA)
		return cx_fail(COLLX_ERR_INVALID, "%s: for device memory work is needed", name);
	if (o->work && o->work_len < need)
		return cx_fail(COLLX_ERR_INVALID, "%s: work has %zu bytes, %zu are needed", name,
			       o->work_len, need);
	return 0;
}

/* In device memory its size is not looked at. */
static int check_info(const char *name, const collx_topk_info *info, collx_memory memory)
{
	int rc;

	if (!info || memory != COLLX_MEMORY_HOST)
		return 0;
	rc = check_reach(name, memory, NULL, (const void *[]){ info }, 1);
	if (rc || info->size >= sizeof(*info))
		return rc;
	return cx_fail(COLLX_ERR_INVALID, "%s: info has unknown members; begin with "
		       "COLLX_TOPK_INFO_INIT", name);
}

static int check_topk(const char *name, const collx_topk_opts *o, size_t count, size_t k)
{
	if (!isfinite(o->decay) || !(o->floor >= 0) || !(o->hint >= 0))
		return cx_fail(COLLX_ERR_INVALID, "%s: decay is not finite, or floor or hint is "
			       "below 0", name);
	if (k > count)
		return cx_fail(COLLX_ERR_INVALID, "%s: k is %zu of %zu elements", name, k, count);
	return check_work(name, o, collx_topk_work(count, k));
}

static int check_topk_buffers(const char *name, const collx_topk_opts *o, struct span out,
			      struct span in, size_t count, size_t k)
{
	struct span work = { "work", o->work, o->work ? collx_topk_work(count, k) : 0 };
	int rc = check_buffers(name, out, in, o->residual, count);

	rc = rc ? rc : check_apart(name, &work, &out);
	return rc ? rc : check_buffers(name, work, in, o->residual, count);
}

/* Lays the candidates into work memory. */
static void choose(struct cx_topk *t, void *work)
{
	uintptr_t off = (uintptr_t)work % CX_LINE;

	t->room = cx_topk_room(t->n, t->k);
	t->bits = (uint32_t *)(void *)((char *)work + (off ? CX_LINE - off : 0));
	t->index = t->bits + t->room;
	cx_topk(t);
}

/* The hint of the call before is in the work memory. */
static int choose_on_gpu(void *out, const struct cx_topk *t, const collx_topk_opts *o,
			 collx_topk_info *info)
{
	struct cx_cuda_topk g = { .gradient = t->gradient, .type = t->type, .residual = o->residual,
				  .decay = o->decay, .n = t->n, .k = t->k,
				  .floor = cx_abs_bits(o->floor), .keep = o->hint == 0,
				  .hint = cx_abs_bits(o->hint * 0.9f), .msg = out,
				  .value_type = o->value_type, .info = info, .work = o->work };

	return cx_cuda_topk(&g, o->stream);
}

collx_result collx_topk(void *out, size_t out_len, const void *in, size_t count, collx_type type,
			size_t k, const collx_topk_opts *opts, collx_topk_info *info)
{
	static const char name[] = "collx_topk";
	struct cx_topk t = { .gradient = in, .type = type, .n = count, .k = k };
	void *work = NULL;
	size_t len = 0;
	collx_topk_opts o = COLLX_TOPK_OPTS_INIT;
	int rc = check_topk_opts(name, &o, opts);

	rc = rc ? rc : check_topk(name, &o, count, k);
	rc = rc ? rc : check_count(name, count, MOST_SPARSE);
	rc = rc ? rc : check_float(name, "type", type);
	rc = rc ? rc : check_info(name, info, o.memory);
	if (!rc && out_len < collx_sparse_size(count, k, o.value_type))
		rc = cx_fail(COLLX_ERR_INVALID, "%s: out has %zu bytes, %zu are needed", name,
			     out_len, collx_sparse_size(count, k, o.value_type));
	if (!rc)
		rc = check_topk_buffers(name, &o,
			(struct span){ "out", out, collx_sparse_size(count, k, o.value_type) },
			(struct span){ "in", in, count * collx_type_size(type) }, count, k);
	rc = rc ? rc : kernels_of(NULL, &t.codecs);
	if (!rc)
		rc = check_reach(name, o.memory, o.stream,
				 (const void *[]){ out, o.work, info, in, o.residual },
				 count ? 5 : 3);
	if (!rc && o.memory == COLLX_MEMORY_CUDA)
		return choose_on_gpu(out, &t, &o, info);
	if (!rc && !o.work) {
		work = cx_alloc(1, collx_topk_work(count, k));
		rc = work ? 0 : COLLX_ERR_NOMEM;
	}
	if (rc)
		return rc;
	t.residual = o.residual;
	t.decay = o.decay;
	t.floor = (uint32_t)cx_max(cx_abs_bits(o.floor), 1);
	t.hint = cx_abs_bits(o.hint * 0.9f);
	choose(&t, o.work ? o.work : work);
	len = cx_sparse_write(out, o.value_type, count, t.bits, t.index, t.found, o.residual);
	cx_free(work);
	if (info)
		*info = (collx_topk_info){ info->size, len, t.found,
					   cx_float_from_bits(t.least), t.unfit, COLLX_OK };
	return COLLX_OK;
}

static int check_message(const char *name, const void *in, size_t len, size_t count)
{
	if (!cx_sparse_valid(in, len, count))
		return cx_fail(COLLX_ERR_CORRUPT, "%s: %zu bytes are no sparse message for %zu "
			       "elements", name, len, count);
	return 0;
}

/* What add and merge have in common: out, the work, and messages, of which in device memory
 * nothing is read here. */
static int check_sparse(const char *name, const collx_topk_opts *o, struct span out,
			const void *const *in, const size_t *in_len, int inputs, size_t count,
			const collx_topk_info *info)
{
	int on_gpu = o->memory == COLLX_MEMORY_CUDA; /* the host needs no work */
	struct span work = { "work", o->work, on_gpu ? collx_sparse_work(count) : 0 };
	int rc = check_count(name, count, MOST_SPARSE);

	rc = rc ? rc : check_inputs(name, in, inputs, 1, 1);
	rc = rc ? rc : check_work(name, o, work.len);
	rc = rc ? rc : check_info(name, info, o->memory);
	if (!rc && !info && on_gpu)
		rc = cx_fail(COLLX_ERR_INVALID, "%s: for device memory info is needed: it gets the "
			     "status", name);
	rc = rc ? rc : check_apart(name, &work, &out);
	for (int k = 0; !rc && k < inputs; k++) {
		struct span a = { "an input", in[k], in_len[k] };

		rc = check_apart(name, &out, &a);
		rc = rc ? rc : check_apart(name, &work, &a);
	}
	if (!rc && on_gpu)
		rc = check_reach(name, o->memory, o->stream, (const void *[]){ o->work, info }, 2);
	rc = rc ? rc : check_reach_all(name, o->memory, o->stream, out.len ? out.at : NULL, in,
				       inputs, NULL);
	for (int k = 0; !rc && !on_gpu && k < inputs; k++)
		rc = check_message(name, in[k], in_len[k], count);
	return rc;
}

static struct cx_sparse_head head_of(const void *msg)
{
	struct cx_sparse_head head;

	memcpy(&head, msg, sizeof(head));
	return head;
}

/* That a sound message was added or written. */
static void tell(collx_topk_info *info, const void *msg)
{
	struct cx_sparse_head head = head_of(msg);

	if (info)
		*info = (collx_topk_info){ info->size, (size_t)head.bytes, (size_t)head.entries,
					   0, 0, COLLX_OK };
}

collx_result collx_sparse_add(float *out, size_t count, const void *in, size_t in_len,
			      const collx_topk_opts *opts, collx_topk_info *info)
{
	static const char name[] = "collx_sparse_add";
	struct span to = { "out", out, count * sizeof(*out) };
	collx_topk_opts o = COLLX_TOPK_OPTS_INIT;
	int rc = check_topk_opts(name, &o, opts);

	rc = rc ? rc : check_sparse(name, &o, to, &in, &in_len, 1, count, info);
	if (rc)
		return rc;
	if (o.memory == COLLX_MEMORY_CUDA)
		return cx_cuda_sparse_add(out, count, in, in_len, o.work, info, o.stream);
	cx_sparse_add(out, in);
	tell(info, in);
	return COLLX_OK;
}

/* Is the room enough for the entries of all? On a GPU this is looked at where they are known. */
static int check_room(const char *name, size_t out_len, const collx_topk_opts *o,
		      const void *const *in, int inputs, size_t count)
{
	uint64_t entries = 0;
	size_t need;

	for (int k = 0; k < inputs && o->memory == COLLX_MEMORY_HOST; k++)
		entries += head_of(in[k]).entries;
	need = collx_sparse_size(count, cx_min(entries, count), o->value_type);
	if (out_len < need)
		return cx_fail(COLLX_ERR_INVALID, "%s: out has %zu bytes, %zu are needed", name,
			       out_len, need);
	return 0;
}

collx_result collx_sparse_merge(void *out, size_t out_len, const void *const *in,
				const size_t *in_len, int inputs, size_t count,
				const collx_topk_opts *opts, collx_topk_info *info)
{
	static const char name[] = "collx_sparse_merge";
	collx_topk_opts o = COLLX_TOPK_OPTS_INIT;
	int rc = check_topk_opts(name, &o, opts);

	if (!rc && !in_len)
		rc = cx_fail(COLLX_ERR_INVALID, "%s: in_len is NULL", name);
	if (!rc)
		rc = check_sparse(name, &o, (struct span){ "out", out, out_len }, in, in_len,
				  inputs, count, info);
	rc = rc ? rc : check_room(name, out_len, &o, in, inputs, count);
	if (rc)
		return rc;
	if (o.memory == COLLX_MEMORY_CUDA)
		return cx_cuda_sparse_merge(out, out_len, o.value_type, in, in_len,
					    (unsigned)inputs, count, o.work, info, o.stream);
	cx_sparse_merge(out, out_len, o.value_type, in, (unsigned)inputs);
	tell(info, out);
	return COLLX_OK;
}
