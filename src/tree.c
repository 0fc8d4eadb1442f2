/* SPDX-License-Identifier: BSD-3-Clause */
/* The control tree of tree.h. */
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/base.h"
#include "tree.h"

int cx_tree_towards(const struct cx_tree *t, int r)
{
	int leader = r < 0 || r >= t->ranks || r == t->rank ? -1 : t->leader[r];

	if (leader < 0)
		return -1;
	if (leader == t->rank)
		return r;
	return t->rank == 0 ? leader : -1;
}

struct cx_wire *cx_tree_wire(struct cx_tree *t, int r)
{
	struct cx_wire *w = r == t->above ? &t->up : t->down ? &t->down[r] : NULL;

	return w && w->fd >= 0 ? w : NULL;
}

int cx_tree_init(struct cx_tree *t, int rank, int ranks)
{
	*t = (struct cx_tree){ .rank = rank, .ranks = ranks, .above = -1 };
	cx_wire_init(&t->up, -1);
	t->leader = cx_alloc((size_t)ranks, sizeof(*t->leader));
	for (int r = 0; t->leader && r < ranks; r++)
		t->leader[r] = -1;
	return t->leader ? 0 : COLLX_ERR_NOMEM;
}

int cx_tree_open_down(struct cx_tree *t)
{
	t->down = cx_alloc((size_t)t->ranks, sizeof(*t->down));
	for (int r = 0; t->down && r < t->ranks; r++)
		cx_wire_init(&t->down[r], -1);
	return t->down ? 0 : COLLX_ERR_NOMEM;
}

void cx_tree_part(int *beside, int ranks)
{
	const struct cx_frame_head part = cx_frame_head(CX_FRAME_PART, 0, NULL, 0);
	struct iovec v = { (void *)&part, sizeof(part) };
	struct cx_wire w;

	for (int r = 0; beside && r < ranks; r++) {
		cx_wire_init(&w, beside[r]);
		if (w.fd >= 0) /* no error is to take the place of the one that there is */
			cx_sys->sendmsg(w.fd, &(struct msghdr){ .msg_iov = &v, .msg_iovlen = 1 });
		cx_wire_close(&w);
	}
	cx_free(beside);
}

void cx_tree_fini(struct cx_tree *t)
{
	cx_wire_close(&t->up);
	for (int r = 0; t->down && r < t->ranks; r++)
		cx_wire_close(&t->down[r]);
	cx_tree_part(t->beside, t->ranks);
	cx_free(t->down);
	cx_free(t->leader);
	t->down = NULL;
	t->beside = NULL;
	t->leader = NULL;
}
