/* SPDX-License-Identifier: BSD-3-Clause */
/* The list of hosts: how many ranks each gets. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"

static int wrong(char why[RUN_TEXT_MAX], const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static int wrong(char why[RUN_TEXT_MAX], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, RUN_TEXT_MAX, fmt, ap);
	va_end(ap);
	return -1;
}

/* The name goes to the agent as an argument, and with ssh through a shell's hands. */
static int check_name(const char *name, char why[RUN_TEXT_MAX])
{
	if (!*name)
		return wrong(why, "a host without a name");
	if (*name == '-')
		return wrong(why, "host %s: a name does not begin with '-'", name);
	for (const char *c = name; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("._-:@%", *c))
			return wrong(why, "host %s: '%c' is in no name of a host", name, *c);
	return 0;
}

static int parse_count(const char *text, const char *name, int *count, char why[RUN_TEXT_MAX])
{
	char *end;
	long n = strtol(text, &end, 10);

	if (!isdigit((unsigned char)*text) || *end || n < 1 || n > RUN_RANKS_MAX)
		return wrong(why, "host %s: '%s' is not a number of ranks from 1 to %d", name,
			     text, RUN_RANKS_MAX);
	*count = (int)n;
	return 0;
}

/* "NAME", "NAME:2", "[fd77::1]" or "[fd77::1]:2"; a count of 0 was not given. */
static int parse_share(char *text, struct run_share *s, char why[RUN_TEXT_MAX])
{
	char *name = text, *colon = strchr(text, ':');

	if (*text == '[') {
		name = text + 1;
		colon = strchr(text, ']');
		if (!colon || (colon[1] && colon[1] != ':'))
			return wrong(why, "%s: [ADDRESS] or [ADDRESS]:COUNT is needed", text);
		*colon++ = '\0';
	} else if (colon && strchr(colon + 1, ':')) {
		return wrong(why, "%s: an address of IPv6 needs brackets: [ADDRESS]:COUNT", text);
	}
	if (colon && *colon)
		*colon++ = '\0';
	else
		colon = NULL;
	if (check_name(name, why) || (colon && parse_count(colon, name, &s->count, why)))
		return -1;
	s->name = strdup(name);
	return s->name ? 0 : wrong(why, "out of memory");
}

static int find(const struct run_share *shares, int n, const char *name)
{
	for (int i = 0; i < n; i++)
		if (!strcmp(shares[i].name, name))
			return i;
	return -1;
}

static int parse_all(char *list, struct run_share *shares, int *n, char why[RUN_TEXT_MAX])
{
	char *part;

	for (*n = 0; (part = strsep(&list, ",")); ++*n) {
		if (*n == RUN_HOSTS_MAX)
			return wrong(why, "more than %d hosts", RUN_HOSTS_MAX);
		if (parse_share(part, &shares[*n], why))
			return -1;
		if (find(shares, *n, shares[*n].name) < 0)
			continue;
		wrong(why, "host %s stands twice in the list", shares[*n].name);
		++*n; /* its name is to be freed */
		return -1;
	}
	return 0;
}

/* Without counts, `ranks` are dealt out in blocks; without ranks, each host gets one. */
static int deal(struct run_share *shares, int n, int *ranks, char why[RUN_TEXT_MAX])
{
	int given = 0, sum = 0;

	for (int i = 0; i < n; i++)
		given += shares[i].count > 0;
	if (!given && *ranks && *ranks < n)
		return wrong(why, "%d hosts for %d ranks: each host needs one", n, *ranks);
	for (int i = 0; i < n; i++) {
		if (!given && *ranks)
			shares[i].count = *ranks / n + (i < *ranks % n);
		else if (!shares[i].count)
			shares[i].count = 1;
		shares[i].first = sum;
		sum += shares[i].count;
	}
	if (*ranks && sum != *ranks)
		return wrong(why, "the hosts have %d ranks, but -n says %d", sum, *ranks);
	if (sum > RUN_RANKS_MAX)
		return wrong(why, "%d ranks are more than %d", sum, RUN_RANKS_MAX);
	*ranks = sum;
	return 0;
}

int run_shares_parse(const char *list, struct run_share **shares, int *n, int *ranks,
		     char why[RUN_TEXT_MAX])
{
	struct run_share *made = calloc(RUN_HOSTS_MAX + 1, sizeof(*made));
	char *copy = strdup(list);
	int rc;

	*n = 0;
	rc = made && copy ? parse_all(copy, made, n, why) : wrong(why, "out of memory");
	if (!rc)
		rc = deal(made, *n, ranks, why);
	free(copy);
	if (rc)
		run_shares_free(made, *n);
	else
		*shares = made;
	return rc;
}

void run_shares_free(struct run_share *shares, int n)
{
	for (int i = 0; shares && i < n; i++)
		free(shares[i].name);
	free(shares);
}
