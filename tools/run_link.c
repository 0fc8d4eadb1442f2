/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames of the link between a launcher and the serving side of a host: kind, argument
 * and length as 32 bits each, least byte first, then the body. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run.h"

enum { HEAD_BYTES = 12, READ_BYTES = 1 << 16 };

const char run_link_mark[] = "\001collx-run serves, version 1\n";

/* ---- buffers ---- */

static void grow(struct run_buffer *b, size_t room)
{
	char *data = malloc(room);

	if (!data) {
		fprintf(stderr, "collx-run: out of memory\n");
		_exit(1);
	}
	if (b->len)
		memcpy(data, b->data, b->len);
	if (b->data) /* it may have held the secret */
		explicit_bzero(b->data, b->room);
	free(b->data);
	b->data = data;
	b->room = room;
}

static void make_room(struct run_buffer *b, size_t len)
{
	if (b->at && b->at == b->len) {
		b->at = b->len = 0;
	} else if (b->at && b->len + len > b->room) {
		memmove(b->data, b->data + b->at, b->len - b->at);
		b->len -= b->at;
		b->at = 0;
	}
	if (b->len + len > b->room)
		grow(b, 2 * (b->len + len));
}

void run_buffer_add(struct run_buffer *b, const void *data, size_t len)
{
	if (!len)
		return;
	make_room(b, len);
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

void run_buffer_take(struct run_buffer *b, size_t len)
{
	b->at += len;
}

void run_buffer_free(struct run_buffer *b)
{
	if (b->data)
		explicit_bzero(b->data, b->room);
	free(b->data);
	*b = (struct run_buffer){ 0 };
}

/* ---- frames ---- */

static void put32(unsigned char *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (unsigned char)(v >> 8 * i);
}

static uint32_t get32(const char *at)
{
	const unsigned char *p = (const unsigned char *)at;

	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

void run_link_put(struct run_link *l, enum run_frame_kind kind, int arg, const void *body,
		  size_t len)
{
	unsigned char head[HEAD_BYTES];

	if (l->out < 0)
		return;
	put32(head, kind);
	put32(head + 4, (uint32_t)arg);
	put32(head + 8, (uint32_t)len);
	run_buffer_add(&l->to, head, sizeof(head));
	run_buffer_add(&l->to, body, len);
}

int run_link_next(struct run_link *l, struct run_frame *f)
{
	const char *at = l->from.data + l->from.at;
	size_t have = l->from.len - l->from.at;

	if (have < HEAD_BYTES)
		return 0;
	f->kind = get32(at);
	f->arg = (int)get32(at + 4);
	f->len = get32(at + 8);
	f->body = at + HEAD_BYTES;
	if (f->kind < RUN_FRAME_JOB || f->kind > RUN_FRAME_DONE || f->len > RUN_FRAME_MAX)
		return -1;
	if (have - HEAD_BYTES < f->len)
		return 0;
	run_buffer_take(&l->from, HEAD_BYTES + f->len);
	return 1;
}

/* ---- the two descriptors ---- */

static void close_in(struct run_link *l)
{
	close(l->in);
	l->in = -1;
}

static void close_out(struct run_link *l)
{
	close(l->out);
	l->out = -1;
	run_buffer_free(&l->to);
}

long run_link_read(struct run_link *l)
{
	ssize_t n;

	if (l->in < 0)
		return -1;
	make_room(&l->from, READ_BYTES);
	n = read(l->in, l->from.data + l->from.len, READ_BYTES);
	if (n > 0) {
		l->from.len += (size_t)n;
		return n;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	close_in(l);
	return -1;
}

bool run_link_write(struct run_link *l)
{
	struct run_buffer *b = &l->to;
	ssize_t n;

	while (l->out >= 0 && b->at < b->len) {
		n = write(l->out, b->data + b->at, b->len - b->at);
		if (n > 0)
			run_buffer_take(b, (size_t)n);
		else if (n < 0 && errno == EAGAIN)
			return true;
		else if (n < 0 && errno != EINTR)
			close_out(l);
	}
	if (l->out >= 0 && b->len) { /* it may have been the job, with its secret */
		explicit_bzero(b->data, b->len);
		b->at = b->len = 0;
	}
	return l->out >= 0;
}

void run_link_close(struct run_link *l)
{
	if (l->in >= 0)
		close_in(l);
	if (l->out >= 0)
		close_out(l);
	run_buffer_free(&l->from);
}
