/* SPDX-License-Identifier: BSD-3-Clause */
/* The larger subcommands of collx-info. */
#ifndef INFO_H
#define INFO_H

/* Interfaces, the address chosen, and whether `place` answers when it is not NULL. 0,
 * or 1 with the reason on stderr, or where it does not answer. */
int info_net(const char *place);

#endif
