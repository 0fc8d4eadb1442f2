/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `soak_churn STATE-FILE MINUTES`: cases A9 and I4 of the faults for so many minutes, in
 * segments of one minute of kills and 100 steps of growing and shrinking each, or 500. Takes
 * a state file and goes on where it was stopped.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/trial.h"
#include "tests/world.h"

struct state {
	int segment, minutes; /* next one; done */
	int kills, grown, steps, failed;
	unsigned long long ops, gap_ms;
};

static const char form[] = "segment %d minutes %d kills %d joined %d steps %d failed %d ops %llu "
			   "longest without one %llu ms\n";

static int load(const char *path, struct state *s)
{
	FILE *f = fopen(path, "r");
	int n;

	*s = (struct state){ 0 };
	if (!f)
		return 0;
	n = fscanf(f, form, &s->segment, &s->minutes, &s->kills, &s->grown, &s->steps, &s->failed,
		   &s->ops, &s->gap_ms);
	fclose(f);
	return n == 8 ? 0 : -1;
}

static void describe(const struct state *s, char text[256])
{
	snprintf(text, 256, form, s->segment, s->minutes, s->kills, s->grown, s->steps, s->failed,
		 s->ops, s->gap_ms);
}

static int save(const char *path, const struct state *s)
{
	char text[256];

	describe(s, text);
	return file_replace(path, text);
}

static void run(struct state *s, const char *id, struct trial *t)
{
	const struct churn *k = &t->churn;

	for (int i = 0; i < ntrial_cases; i++)
		if (!strcmp(trial_cases[i].id, id) &&
		    trial_case_run(&trial_cases[i], s->segment, t)) {
			fprintf(stderr, "case %s, variation %d\n", id, s->segment);
			s->failed++;
		}
	s->kills += k->kills;
	s->grown += k->grown;
	s->steps += t->fault == FAULT_NONE ? k->grown + k->shrunk : 0;
	s->ops += k->ops;
	s->gap_ms = s->gap_ms > k->gap_ms ? s->gap_ms : k->gap_ms;
}

int main(int argc, char **argv)
{
	struct trial *t = trial_make();
	int minutes = argc > 2 ? atoi(argv[2]) : 0;
	struct state s;
	char text[256];

	if (minutes < 1 || load(argv[1], &s)) {
		fprintf(stderr, "usage: soak_churn STATE-FILE MINUTES\n");
		return 2;
	}
	setenv("COLLX_TRIAL_SECONDS", "60", 1);
	while (s.minutes < minutes) {
		run(&s, "A9", t);
		run(&s, "I4", t);
		s.segment++;
		s.minutes++;
		describe(&s, text);
		fputs(text, stdout);
		fflush(stdout);
		if (save(argv[1], &s)) {
			perror(argv[1]);
			return 2;
		}
	}
	trial_free(t);
	return s.failed != 0;
}
