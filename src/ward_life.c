/* SPDX-License-Identifier: BSD-3-Clause */
/* A ward's beginning and end; see ward.h. */
#include <assert.h>

#include "base/base.h"
#include "ring.h"
#include "ward.h"

enum { OUT_ROOM = 4096, OUT_ROOM_A_RANK = 24 };

static int count_wires(const struct cx_tree *t)
{
	int n = t->up.fd >= 0;

	for (int r = 0; r < t->ranks; r++) {
		n += t->down && t->down[r].fd >= 0;
		n += t->beside && t->beside[r] >= 0;
	}
	return n;
}

static void take_wire(struct cx_ward *w, struct cx_wire *from, int rank, uint64_t now_ns)
{
	struct cx_strand *s = &w->strands[w->nstrands];

	if (from->fd < 0)
		return;
	cx_strand_open(s, rank, -1, now_ns);
	cx_sys->insist(from->fd);
	atomic_init(&w->news[rank].heard_ns, now_ns);
	s->wire = *from;
	s->room = w->out_room;
	s->out = w->outs + w->out_room * (size_t)w->nstrands++;
	cx_wire_init(from, -1);
}

/* Where there is a ring it has the heartbeats of the leaders. */
static void take_ring(struct cx_ward *w, struct cx_tree *t, uint64_t now_ns)
{
	int nwires = w->nstrands;

	for (int r = 0; r < t->ranks; r++) {
		struct cx_wire wire;

		cx_wire_init(&wire, t->beside[r]);
		take_wire(w, &wire, r, now_ns);
	}
	for (int i = 0; i < w->nstrands; i++) {
		struct cx_strand *s = &w->strands[i];

		s->beside = i >= nwires;
		s->quiet = s->beside ? !cx_ring_is_next(t, s->rank) : t->leader[s->rank] == s->rank;
	}
	w->has_ring = w->ringed = true;
}

static int allocate(struct cx_ward *w, const struct cx_tree *t)
{
	size_t n = (size_t)count_wires(t), ranks = (size_t)t->ranks;

	w->out_room = OUT_ROOM + OUT_ROOM_A_RANK * ranks;
	w->left = cx_alloc(ranks, sizeof(*w->left));
	w->news = cx_alloc(ranks, sizeof(*w->news));
	w->strands = cx_alloc(n, sizeof(*w->strands));
	w->outs = cx_buffer(n, w->out_room);
	if (!w->left || !w->news || !w->strands || !w->outs)
		return COLLX_ERR_NOMEM;
	return cx_verdict_init(&w->decider, t->rank ? 0 : t->ranks);
}

int cx_ward_create(struct cx_ward **out, struct cx_tree *tree, struct cx_calls *calls,
		   struct cx_rally *rally)
{
	struct cx_ward *w = cx_alloc(1, sizeof(*w));
	int rc;

	if (!w)
		return COLLX_ERR_NOMEM;
	for (int i = 0; i < CX_BELLS; i++)
		atomic_init(&w->bell[i], -1);
	w->reply = -1;
	rc = allocate(w, tree);
	if (rc) {
		cx_ward_destroy(w);
		return rc;
	}
	assert(tree->above < 0 || tree->up.fd >= 0);
	w->calls = calls;
	w->rally = rally;
	w->decider.silence_ns = rally ? rally->silence_ns : 0;
	w->since_ns = cx_now_ns();
	w->give_up_ns = w->above_by_ns = w->leave_by_ns = w->alone_ns = UINT64_MAX;
	w->late.rank = -1;
	take_wire(w, &tree->up, tree->above, w->since_ns);
	for (int r = 0; tree->down && r < tree->ranks; r++)
		take_wire(w, &tree->down[r], r, w->since_ns);
	if (tree->beside)
		take_ring(w, tree, w->since_ns);
	w->tree = *tree;
	w->tree.down = NULL;
	w->tree.beside = NULL;
	cx_free(tree->down);
	cx_free(tree->beside);
	*tree = (struct cx_tree){ .above = -1, .up.fd = -1, .up.passed_fd = -1 };
	*out = w;
	return 0;
}

void cx_ward_destroy(struct cx_ward *w)
{
	for (int i = 0; i < w->nstrands; i++)
		cx_strand_cut(&w->strands[i]);
	if (w->rally)
		cx_rally_destroy(w->rally);
	for (int i = 0; i < CX_BELLS; i++)
		if (w->bell[i] >= 0)
			cx_sys->close(w->bell[i]);
	if (w->reply >= 0)
		cx_sys->close(w->reply);
	cx_verdict_fini(&w->decider);
	cx_free(w->tree.leader);
	cx_free(w->room);
	cx_free(w->outs);
	cx_free(w->strands);
	cx_free(w->news);
	cx_free(w->left);
	cx_free(w);
}
