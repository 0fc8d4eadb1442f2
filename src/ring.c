/* SPDX-License-Identifier: BSD-3-Clause */
/* Leaders of hosts around a ring; see ring.h. */
#include "base/base.h"
#include "mesh.h"
#include "ring.h"

static int leaders_between(const struct cx_tree *t, int from, int until)
{
	int n = 0;

	for (int r = from; r < until; r++)
		n += t->leader[r] == r;
	return n;
}

static int leaders(const struct cx_tree *t)
{
	return leaders_between(t, 0, t->ranks);
}

int cx_ring_distance(const struct cx_tree *t, int r)
{
	if (t->leader[r] != r || t->leader[t->rank] != t->rank)
		return -1;
	return r >= t->rank ? leaders_between(t, t->rank, r)
			    : leaders(t) - leaders_between(t, r, t->rank);
}

bool cx_ring_is_next(const struct cx_tree *t, int r)
{
	int d = cx_ring_distance(t, r);

	return d == 1 || (d > 0 && d == leaders(t) - 1);
}

static bool has_chord(const struct cx_tree *t, int r)
{
	int d = cx_ring_distance(t, r), back = leaders(t) - d;

	return d > 0 && (!(d & (d - 1)) || !(back & (back - 1)));
}

int cx_ring_open(int **beside, struct cx_boot *b, const struct cx_meeting *m, uint64_t nonce,
		 unsigned few)
{
	const struct cx_tree *t = cx_boot_tree(b);
	unsigned char *wanted;
	int *fds, rc = COLLX_ERR_NOMEM;

	*beside = NULL;
	if ((unsigned)leaders(t) <= few)
		return 0;
	fds = cx_alloc((size_t)t->ranks, sizeof(*fds));
	wanted = cx_alloc((size_t)t->ranks, 1);
	for (int r = 0; wanted && r < t->ranks; r++)
		wanted[r] = has_chord(t, r);
	if (fds && wanted)
		rc = cx_mesh_open(b, m, nonce, 1, wanted, fds);
	cx_free(wanted);
	if (!rc && t->leader[t->rank] == t->rank)
		*beside = fds;
	else
		cx_free(fds);
	return rc;
}
