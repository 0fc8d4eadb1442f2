/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A world for fuzzing the control plane: struct cx_sys with sockets that exist in memory
 * only, a clock that moves when somebody waits, and random numbers that repeat. Nothing
 * reaches the network, a name server, or the file system: what the code asks these for
 * without cx_sys is answered here as well (the linker's --wrap).
 */
#ifndef FUZZ_WORLD_H
#define FUZZ_WORLD_H

#include <stddef.h>
#include <stdint.h>

/* The engine's entry: libFuzzer's, or fuzz_main.c with the corpus. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- the input, taken from its front; zeros where it is used up ---- */

struct fuzz_input {
	const uint8_t *at, *end;
};

uint8_t fuzz_byte(struct fuzz_input *in);
unsigned fuzz_below(struct fuzz_input *in, unsigned n);
/* At most len bytes; how many. */
size_t fuzz_bytes(struct fuzz_input *in, void *out, size_t len);
size_t fuzz_left(const struct fuzz_input *in);

/* ---- connections ---- */

enum fuzz_end { FUZZ_SILENT, FUZZ_EOF, FUZZ_RESET };

/* One end of a connection: the code has the other one. */
struct fuzz_conn {
	uint8_t in[1 << 12]; /* what the code will read, */
	int state;           /* from here on zero at first */
	size_t in_len, in_at;
	size_t chunk;        /* so much at a time (0: all), */
	uint64_t pause_ns;   /* with pauses in between, */
	uint64_t ready_ns;
	enum fuzz_end end;   /* and then */
	int full;            /* takes nothing that is sent to it */
	int passes;          /* descriptors that come with the next bytes */
	uint8_t out[256];    /* what it wrote, the first of it */
	size_t out_len;
	void (*wrote)(struct fuzz_conn *c); /* called after each write; or NULL */
	int tag;
};

enum { FUZZ_CONNS = 100, FUZZ_FD_FIRST = 1000 };

/* Nothing is open, the clock begins anew. */
void fuzz_world_begin(void);
/* Aborts when a descriptor is open still. */
void fuzz_world_end(void);
/* The next one that the code accepts; NULL when there are too many. */
struct fuzz_conn *fuzz_conn_come(void);
/* What happens when the code connects: 0, or -errno. NULL: nobody listens. */
extern int (*fuzz_on_connect)(struct fuzz_conn *c);
struct fuzz_conn *fuzz_conn_of(int fd);
int fuzz_fd_of(const struct fuzz_conn *c);
void fuzz_conn_feed(struct fuzz_conn *c, const void *bytes, size_t len);

/* What must hold: aborts with the text unless ok. */
#define FUZZ_MUST(ok, ...) fuzz_must(!!(ok), __FILE__, __LINE__, __VA_ARGS__)
void fuzz_must(int ok, const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif
