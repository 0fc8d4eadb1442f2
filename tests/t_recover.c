/* SPDX-License-Identifier: BSD-3-Clause */
/* Each case of faults once or more, with real processes; `make check-faults` has all. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include "tests/trial.h"

ParameterizedTestParameters(recovery, from)
{
	static int which[64];

	for (int i = 0; i < ntrial_cases; i++)
		which[i] = i;
	return cr_make_param_array(int, which, (size_t)ntrial_cases);
}

ParameterizedTest(const int *which, recovery, from, .timeout = 300)
{
	const struct trial_case *k = &trial_cases[*which];
	struct trial *t = trial_make();

	for (int i = 0; i < (k->slow ? 1 : 3); i++) {
		int rc = trial_case_run(k, i, t);

		cr_log_info("%s %d: told after %.0f ms, again after %.0f ms", k->id, i, t->told_ms,
			    t->again_ms);
		cr_assert_eq(rc, 0, "case %s (%s), variation %d", k->id, k->what, i);
	}
	trial_free(t);
}
