/* SPDX-License-Identifier: BSD-3-Clause */
/* The output of ranks, through pipes and line by line. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run.h"

int run_stream_open(struct run_stream *s, int which, int *writer)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC))
		return -1;
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	*s = (struct run_stream){ .fd = ends[0], .which = which };
	*writer = ends[1];
	return 0;
}

void run_stream_close(struct run_stream *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

/* Passes whole lines on and keeps the rest, unless it is the last or too long. */
static bool pass_lines(struct run_job *job, struct run_stream *s, int rank, bool last)
{
	char *line = s->line, *end = s->line + s->len, *newline;
	bool wanted = true;

	while (line < end && (newline = memchr(line, '\n', (size_t)(end - line)))) {
		wanted = job->line(job, s, rank, line, (size_t)(newline + 1 - line));
		line = newline + 1;
	}
	if (line < end && (last || (size_t)(end - line) >= job->line_max)) {
		wanted = job->line(job, s, rank, line, (size_t)(end - line));
		line = end;
	}
	s->len = (size_t)(end - line);
	if (s->len)
		memmove(s->line, line, s->len);
	return wanted;
}

static bool make_room(struct run_stream *s)
{
	size_t room = s->room ? 2 * s->room : 4096;
	char *line;

	if (s->len < s->room)
		return true;
	line = realloc(s->line, room);
	if (!line)
		return false;
	s->line = line;
	s->room = room;
	return true;
}

bool run_stream_pump(struct run_job *job, struct run_stream *s, int rank)
{
	bool wanted = true;
	ssize_t n = 0;

	if (s->fd < 0)
		return false;
	if (make_room(s)) {
		n = read(s->fd, s->line + s->len, s->room - s->len);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return false;
		s->len += n > 0 ? (size_t)n : 0;
		wanted = pass_lines(job, s, rank, n <= 0);
	}
	if (n > 0 && wanted)
		return true;
	run_stream_close(s);
	return false;
}

void run_stream_drain(struct run_job *job, struct run_stream *s, int rank)
{
	while (run_stream_pump(job, s, rank))
		;
	pass_lines(job, s, rank, true);
	run_stream_close(s);
	free(s->line);
	*s = (struct run_stream){ .fd = -1 };
}
