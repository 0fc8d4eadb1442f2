/* SPDX-License-Identifier: BSD-3-Clause */
/* Reports and verdicts as they go over a ward's wires; see ward.h. Nothing of a peer's is
 * taken that no rank can have said. */
#include <string.h>

#include "base/base.h"
#include "ward.h"

/* Clocks of hosts are never compared: each says how long ago it was when it tells. No deadline
 * and no silence is longer than 50 days. */
static const uint64_t age_most_us = 100ull * 86400 * 1000000;

uint64_t cx_ward_age_us(int64_t fault_ns, uint64_t now_ns)
{
	int64_t ns = (int64_t)now_ns - fault_ns;

	return ns > 0 ? cx_min((uint64_t)ns / 1000, age_most_us) : 0;
}

static int64_t happened_ns(uint64_t age_us, uint64_t now_ns)
{
	return (int64_t)now_ns - (int64_t)age_us * 1000;
}

static bool is_code(int code)
{
	return code < 0 && code >= COLLX_ERR_INTERNAL;
}

size_t cx_ward_pack_report(struct cx_report_body *b, const struct cx_report *r, uint64_t now_ns)
{
	size_t len = strnlen(r->text, sizeof(b->text) - 1);

	*b = (struct cx_report_body){ .about = r->about, .code = r->code, .hearsay = r->hearsay,
				      .sys_errno = r->sys_errno, .where = r->where,
				      .age_us = cx_ward_age_us(r->fault_ns, now_ns) };
	memcpy(b->text, r->text, len);
	return offsetof(struct cx_report_body, text) + len;
}

bool cx_ward_unpack_report(const struct cx_wire *from, int ranks, struct cx_report *r,
			   uint64_t now_ns)
{
	const size_t least = offsetof(struct cx_report_body, text), len = from->head.len;
	struct cx_report_body b;

	*r = (struct cx_report){ .origin = from->head.arg };
	if (len < least || len - least >= sizeof(r->text))
		return false;
	memcpy(&b, from->body, len);
	if (!is_code(b.code) || b.about < -1 || b.about >= ranks || b.hearsay > 1 ||
	    b.sys_errno < 0 || !cx_where_is_sound(&b.where) || b.age_us > age_most_us)
		return false;
	r->about = b.about;
	r->code = b.code;
	r->hearsay = b.hearsay;
	r->sys_errno = b.sys_errno;
	r->where = b.where;
	r->fault_ns = happened_ns(b.age_us, now_ns);
	memcpy(r->text, b.text, len - least);
	return true;
}

size_t cx_ward_pack_verdict(struct cx_verdict_body *b, const struct cx_cause *c, uint64_t now_ns)
{
	size_t len = strnlen(c->text, sizeof(b->text) - 1);

	*b = (struct cx_verdict_body){ .origin = c->origin, .about = c->about,
				       .sys_errno = c->sys_errno, .where = c->where,
				       .age_us = cx_ward_age_us(c->fault_ns, now_ns) };
	memcpy(b->text, c->text, len);
	return offsetof(struct cx_verdict_body, text) + len;
}

bool cx_ward_unpack_verdict(const struct cx_wire *from, int ranks, const struct cx_set *blamed,
			    struct cx_cause *c, uint64_t now_ns)
{
	const size_t least = offsetof(struct cx_verdict_body, text), len = from->head.len;
	struct cx_verdict_body b;

	*c = (struct cx_cause){ .code = from->head.arg, .who = *blamed };
	if (!is_code(c->code) || len < least || len - least >= sizeof(c->text))
		return false;
	memcpy(&b, from->body, len);
	c->origin = b.origin;
	c->about = b.about;
	c->sys_errno = b.sys_errno;
	c->where = b.where;
	if (c->about >= 0 && c->about < CX_COUNCIL_RANKS)
		cx_set_add(&c->who, c->about);
	if (b.sys_errno < 0 || b.unused || b.age_us > age_most_us || !cx_cause_is_sound(c, ranks))
		return false;
	c->fault_ns = happened_ns(b.age_us, now_ns);
	memcpy(c->text, b.text, len - least);
	return true;
}

/* Does somebody hang on that rank, in the tree? */
static bool leads(const struct cx_ward *w, int rank)
{
	for (int r = 0; r < w->tree.ranks; r++)
		if (r != rank && (w->tree.leader[r] == rank || rank == 0))
			return true;
	return false;
}

/* Who hangs on a rank that is lost sees that for itself, and no other's call; nor has it
 * anybody to ask where it decides for want of one above. All hold the same: of a loss nobody's
 * call, of a leaver that which lacks it, as the line says. */
void cx_ward_leave_out(const struct cx_ward *w, struct cx_cause *c)
{
	bool alone = w->tree.above >= 0;

	if (c->code == COLLX_ERR_PEER_LEFT && alone) {
		c->origin = -1;
		c->where.phase = c->where.call ? COLLX_PHASE_CALL : COLLX_PHASE_NONE;
	}
	if (!cx_cause_is_loss(c))
		return;
	for (int r = 0; !alone && r < w->tree.ranks; r++)
		alone = (r == c->about || (r < CX_COUNCIL_RANKS && cx_set_has(&c->who, r))) &&
			leads(w, r);
	if (alone)
		c->where = (struct cx_where){ 0 };
}
