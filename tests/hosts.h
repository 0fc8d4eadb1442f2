/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ranks of one machine on several hosts: in programs that are linked with hosts.c and with
 * --wrap of the functions that say which host one is on. Ranks of different hosts meet at
 * sockets of their own and are reached over TCP, as they would be.
 */
#ifndef HOSTS_H
#define HOSTS_H

/* Which host rank r of so many is on; NULL: all on one. Of the whole process, whose calling
 * thread is on rank 0's from now on. 0, or 1 where the program was linked without. */
int hosts_lay_out(int (*layout)(int rank, int ranks), int ranks);

/* Before the calling thread becomes this rank. */
void hosts_enter(int rank, int ranks);

/* Where that rank is. */
int hosts_of(int rank, int ranks);

/* What hosts.c is told of a thread; set by it. */
extern void (*hosts_move)(int host, int several);

#endif
