/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames on their way out; see strand.h. */
#include <string.h>

#include "base/base.h"
#include "strand.h"

void cx_strand_open(struct cx_strand *s, int rank, int fd, uint64_t now_ns)
{
	cx_wire_init(&s->wire, fd);
	s->rank = rank;
	s->mute = s->silent = s->deaf = s->ends = s->spoke = false;
	s->at = s->len = 0;
	s->heard_ns = s->said_ns = now_ns;
	s->number = -1;
}

bool cx_strand_say(struct cx_strand *s, enum cx_frame_kind kind, int arg, const void *body,
		   size_t len, uint64_t now_ns)
{
	const struct cx_frame_head head = cx_frame_head(kind, arg, body, len);
	size_t waiting = s->len - s->at;

	if (s->wire.fd < 0 || s->mute) {
		s->said_ns = now_ns; /* who asks when it was last is not to come again at once */
		return true;
	}
	if (waiting + sizeof(head) + len > s->room)
		return false;
	memmove(s->out, s->out + s->at, waiting);
	memcpy(s->out + waiting, &head, sizeof(head));
	if (len)
		memcpy(s->out + waiting + sizeof(head), body, len);
	s->at = 0;
	s->len = waiting + sizeof(head) + len;
	s->said_ns = now_ns;
	return true;
}

void cx_strand_flush(struct cx_strand *s)
{
	while (s->wire.fd >= 0 && !s->mute && s->at < s->len) {
		long n = cx_wire_push(&s->wire, s->out + s->at, s->len - s->at);

		if (n == 0)
			return;
		if (n < 0)
			s->mute = true; /* what it said before may still be read */
		else
			s->at += (size_t)n;
	}
	s->at = s->len = 0;
}

bool cx_strand_waits(const struct cx_strand *s)
{
	return s->wire.fd >= 0 && !s->mute && s->at < s->len;
}

void cx_strand_cut(struct cx_strand *s)
{
	cx_wire_close(&s->wire);
	s->at = s->len = 0;
}
