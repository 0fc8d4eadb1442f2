/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `soak_uniform STATE-FILE KILLS`: calls that all succeed in or none, in which a rank is
 * killed, at any time (case I7) and at the points that matter (A3) in turn; each trial is one
 * kill. Takes a state file and goes on where it was stopped.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/trial.h"
#include "tests/world.h"

struct state {
	int kills, failed;
	unsigned long long ops; /* that succeeded, on each of those who lived */
};

static const char form[] = "kills %d failed %d ops %llu\n";

static int load(const char *path, struct state *s)
{
	FILE *f = fopen(path, "r");
	int n;

	*s = (struct state){ 0 };
	if (!f)
		return 0;
	n = fscanf(f, form, &s->kills, &s->failed, &s->ops);
	fclose(f);
	return n == 3 ? 0 : -1;
}

static int save(const char *path, const struct state *s)
{
	char text[128];

	snprintf(text, sizeof(text), form, s->kills, s->failed, s->ops);
	return file_replace(path, text);
}

static void run(struct state *s, const char *id, int variation, struct trial *t)
{
	for (int i = 0; i < ntrial_cases; i++) {
		if (strcmp(trial_cases[i].id, id))
			continue;
		if (trial_case_run(&trial_cases[i], variation, t)) {
			fprintf(stderr, "case %s, variation %d\n", id, variation);
			s->failed++;
		}
	}
	s->ops += t->note[__builtin_ctz(~t->victims)].ops;
	s->kills++;
}

int main(int argc, char **argv)
{
	struct trial *t = trial_make();
	int kills = argc > 2 ? atoi(argv[2]) : 0;
	struct state s;

	if (kills < 1 || load(argv[1], &s)) {
		fprintf(stderr, "usage: soak_uniform STATE-FILE KILLS\n");
		return 2;
	}
	while (s.kills < kills) {
		run(&s, s.kills % 2 ? "A3" : "I7", s.kills / 2, t);
		if (save(argv[1], &s)) {
			perror(argv[1]);
			return 2;
		}
		if (s.kills % 50 == 0 || s.kills == kills) {
			printf(form, s.kills, s.failed, s.ops);
			fflush(stdout);
		}
	}
	trial_free(t);
	return s.failed != 0;
}
