/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control tree of a communicator: rank 0 on top; below it the other ranks of its
 * host and, of every other host, the leader; below a leader the other ranks of its
 * host. Made by boot.c while the ranks meet, served by guard.c afterwards.
 *
 *            0
 *         /  |  \
 *        1   2   5        hosts {0, 1, 2}, {5, 3, 4}
 *               / \
 *              3   4
 */
#ifndef CX_TREE_H
#define CX_TREE_H

#include "wire.h"

struct cx_tree {
	int rank, ranks;
	int above;            /* the rank at the other end of up; -1 at rank 0 */
	struct cx_wire up;    /* closed at rank 0 */
	struct cx_wire *down; /* [rank], open to ranks right below this one; NULL: there are none */
	int *leader;          /* [rank]: of its host, whose ranks met at one unix socket */
	int *beside;          /* [rank]: a connection with another leader (ring.h); -1; NULL */
};

/* The rank right below t->rank through which r is reached; -1 where r is not below. */
int cx_tree_towards(const struct cx_tree *t, int r);

/* The open connection with rank r, above or right below; NULL where there is none. */
struct cx_wire *cx_tree_wire(struct cx_tree *t, int r);

/* One rank, connected with nobody: every leader is -1, not known yet. */
int cx_tree_init(struct cx_tree *t, int rank, int ranks);
/* Makes room for ranks below. */
int cx_tree_open_down(struct cx_tree *t);

/* Closes connections with other leaders, who are to hear from rank 0 why. */
void cx_tree_part(int *beside, int ranks);
/* Closes the wires and frees the arrays. */
void cx_tree_fini(struct cx_tree *t);

#endif
