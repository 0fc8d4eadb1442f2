/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The whole product of the matrix, not only its pairs: about an hour. Takes a
 * state file and goes on where it was stopped; a second argument limits how many
 * groups (one mode, number of ranks and algorithm each) this run does.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/batch.h"
#include "tests/world.h"

enum { GROUP_MAX = 5 * COLLX_TYPE_COUNT * COLLX_OP_COUNT * 2 * 3 };

struct state {
	int group; /* next one to do */
	long passed, failed, skipped;
};

static int load(const char *path, struct state *s)
{
	FILE *f = fopen(path, "r");
	int n;

	*s = (struct state){ 0 };
	if (!f)
		return 0;
	n = fscanf(f, "group %d passed %ld failed %ld skipped %ld", &s->group, &s->passed,
		   &s->failed, &s->skipped);
	fclose(f);
	return n == 4 ? 0 : -1;
}

static int save(const char *path, const struct state *s)
{
	char text[128];

	snprintf(text, sizeof(text), "group %d passed %ld failed %ld skipped %ld\n", s->group,
		 s->passed, s->failed, s->skipped);
	return file_replace(path, text);
}

/* Roots that are the same rank are one case. */
static int twin(const struct test_case *k)
{
	struct test_case other = *k;

	for (int v = 0; v < k->v[F_ROOT]; v++) {
		other.v[F_ROOT] = (unsigned char)v;
		if (case_root(&other) == case_root(k))
			return 1;
	}
	return 0;
}

/* Goes to the next combination of what varies in a group; 0 at the end. */
static int next(struct test_case *k)
{
	static const enum factor varies[] = { F_COUNT, F_TYPE, F_OP, F_PLACE, F_ROOT };

	for (size_t i = 0; i < sizeof(varies) / sizeof(varies[0]); i++) {
		if (++k->v[varies[i]] < factor_values(varies[i]))
			return 1;
		k->v[varies[i]] = 0;
	}
	return 0;
}

static int possible(const struct test_case *k)
{
	for (int f = 0; f < FACTORS; f++)
		if (!factor_allowed((enum factor)f, k->v[f], k->v[F_WHAT]))
			return 0;
	return 1;
}

static void run_group(struct state *s)
{
	static struct test_case cases[GROUP_MAX];
	struct batch b = { .cases = cases };
	int whats = factor_values(F_WHAT), ranks = factor_values(F_RANKS);
	struct test_case k = { .v = { [F_WHAT] = (unsigned char)(s->group % whats),
				      [F_RANKS] = (unsigned char)(s->group / whats % ranks),
				      [F_MODE] = (unsigned char)(s->group / whats / ranks) } };

	do {
		if (!possible(&k))
			continue;
		if (twin(&k)) {
			s->skipped++;
			continue;
		}
		k.seed = (uint32_t)mix64((uint64_t)s->group << 32 | (uint64_t)b.n);
		cases[b.n++] = k;
	} while (next(&k));
	if (batch_run(&b) && !b.failed)
		b.failed = 1;
	s->passed += b.n - b.failed;
	s->failed += b.failed;
	s->group++;
}

int main(int argc, char **argv)
{
	struct state s;
	int groups = factor_values(F_WHAT) * factor_values(F_RANKS) * factor_values(F_MODE);
	int last = groups;

	if (argc < 2 || load(argv[1], &s)) {
		fprintf(stderr, "usage: soak_matrix STATE-FILE [GROUPS]\n");
		return 2;
	}
	if (argc > 2 && s.group + atoi(argv[2]) < last)
		last = s.group + atoi(argv[2]);
	while (s.group < last) {
		run_group(&s);
		if (save(argv[1], &s)) {
			perror(argv[1]);
			return 2;
		}
		printf("group %d of %d: %ld passed, %ld failed, %ld skipped\n", s.group, groups,
		       s.passed, s.failed, s.skipped);
		fflush(stdout);
	}
	printf("%ld passed, %ld failed, %ld skipped\n", s.passed, s.failed, s.skipped);
	return s.failed != 0;
}
