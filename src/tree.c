/* SPDX-License-Identifier: BSD-3-Clause */
/* The way through a control tree; see tree.h. */
#include "base/base.h"
#include "tree.h"

int cx_tree_towards(const struct cx_tree *t, int r)
{
	if (r < 0 || r >= t->ranks || r == t->rank || r == 0)
		return -1;
	if (t->rank == 0)
		return t->leader[r] == 0 ? r : t->leader[r];
	return t->leader[r] == t->rank ? r : -1;
}

void cx_tree_fini(struct cx_tree *t)
{
	cx_wire_close(&t->up);
	for (int r = 0; t->down && r < t->ranks; r++)
		cx_wire_close(&t->down[r]);
	cx_free(t->down);
	cx_free(t->leader);
	t->down = NULL;
	t->leader = NULL;
}
