/* SPDX-License-Identifier: BSD-3-Clause */
/* In libFuzzer's place: runs the inputs of the corpus, or those named, once each. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz_world.h"

enum { INPUT_MAX = 1 << 20 };

static int run_file(const char *path)
{
	uint8_t *data = malloc(INPUT_MAX), *exact;
	FILE *f = fopen(path, "rb");
	size_t n;

	if (!data || !f) {
		perror(path);
		return 1;
	}
	n = fread(data, 1, INPUT_MAX, f);
	fclose(f);
	exact = malloc(n ? n : 1); /* so that a sanitizer sees a step beyond */
	if (exact) {
		memcpy(exact, data, n);
		LLVMFuzzerTestOneInput(exact, n);
	}
	free(exact);
	free(data);
	return 0;
}

/* How many inputs there were; -1 on failure. */
static int run_folder(const char *folder)
{
	DIR *dir = opendir(folder);
	struct dirent *d;
	char path[1300];
	int n = 0;

	while (dir && n >= 0 && (d = readdir(dir))) {
		if (d->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, d->d_name);
		n = run_file(path) ? -1 : n + 1;
	}
	if (dir)
		closedir(dir);
	return n;
}

/* The corpus of tests/fuzz_NAME is tests/corpus/NAME of the sources. */
int main(int argc, char **argv)
{
	const char *src = getenv("srcdir"), *name = strrchr(argv[0], '_');
	char folder[1024];
	int n = 0;

	for (int i = 1; i < argc; i++)
		n += run_file(argv[i]) ? -argc : 1;
	if (argc == 1) {
		snprintf(folder, sizeof(folder), "%s/tests/corpus/%s", src ? src : ".",
			 name ? name + 1 : "");
		n = run_folder(folder);
	}
	printf("%d inputs\n", n);
	return n > 0 ? 0 : 1;
}
