/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unique ids, and a first peer that is no rank: creation ends with an error and a line,
 * within its deadline, and leaves nothing open. Input: rank, ranks, how the peer behaves,
 * the id, what the peer sends.
 */
#include <errno.h>
#include <string.h>

#include "src/auth.h"
#include "src/base/base.h"
#include "tests/fuzz_world.h"

enum { TIMEOUT_MS = 50, STRANGERS = 3, TALK_MAX = 600 };

static uint8_t talk[TALK_MAX];
static size_t talk_len;
static unsigned manners;

static void behave(struct fuzz_conn *c)
{
	c->chunk = manners & 1 ? 7 : 0;
	c->pause_ns = manners & 2 ? 3000000 : 0;
	c->end = (enum fuzz_end)(manners / 4 % 3);
	fuzz_conn_feed(c, talk, talk_len);
}

static int answer(struct fuzz_conn *c)
{
	static const int errors[] = { 0, 0, 0, 0, ECONNREFUSED, ETIMEDOUT, EACCES, EINPROGRESS };

	behave(c);
	return -errors[manners >> 5];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, data + size };
	collx_config config = COLLX_CONFIG_INIT;
	collx_unique_id id;
	collx_comm_t comm = NULL;
	int ranks, rank, rc;
	uint64_t start;

	fuzz_world_begin();
	ranks = 2 + (int)fuzz_below(&in, 100); /* one alone would need nobody, and succeed */
	rank = (int)fuzz_below(&in, 110) - 4;
	manners = fuzz_byte(&in);
	memset(&id, 0, sizeof(id));
	fuzz_bytes(&in, &id, sizeof(id));
	/* The corpus says 1 where it means the version of the day. */
	*(uint8_t *)&id = (uint8_t)(*(uint8_t *)&id + CX_WIRE_VERSION - 1);
	talk_len = fuzz_bytes(&in, talk, sizeof(talk));
	fuzz_on_connect = answer;
	for (int i = 0; i < STRANGERS; i++)
		behave(fuzz_conn_come());
	config.create_timeout_ms = TIMEOUT_MS;
	start = cx_now_ns();
	cx_error_clear();
	rc = collx_comm_create(&comm, ranks, &id, rank, &config);
	FUZZ_MUST(rc < 0 && !comm, "rank %d of %d alone: %d", rank, ranks, rc);
	FUZZ_MUST(cx_error_text()[0], "%d without a line", rc);
	FUZZ_MUST(cx_now_ns() - start < 5000000000u, "%d after %g s of a deadline of %d ms", rc,
		  (double)(cx_now_ns() - start) * 1e-9, TIMEOUT_MS);
	fuzz_world_end();
	return 0;
}
