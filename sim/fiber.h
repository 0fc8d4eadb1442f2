/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stacks that take turns within one thread. The main program runs a fiber until that
 * pauses or ends; fibers never run one another.
 */
#ifndef SIM_FIBER_H
#define SIM_FIBER_H

struct sim_fiber;

/* Ready to run fn(arg), which must not return before its last sim_fiber_pause. */
struct sim_fiber *sim_fiber_create(void (*fn)(void *arg), void *arg);
/* From the main program: until it pauses. */
void sim_fiber_run(struct sim_fiber *f);
/* From within a fiber: back to the main program. */
void sim_fiber_pause(void);
/* A paused one, whatever lies on its stack, which is kept for the next. */
void sim_fiber_destroy(struct sim_fiber *f);
/* Gives kept stacks back to the system. */
void sim_fiber_drop_stacks(void);

#endif
