// SPDX-License-Identifier: MIT
/*
 * Rows of the error context, in the segment: a field set and read back, and a scope with two fields begun and
 * ended, inside two others. Beside the same calls on a context in the thread's own memory, and beside a copy of
 * as many bytes into such memory: what they would be without names, scopes and a reader outside.
 */
#include <errno.h>
#include <string.h>

#include <foundation/context.h>

#include "bench_runtime.h"

struct contexts {
	struct runtime_world w;
	struct fnd_context *in_segment, *in_thread;
};

static __thread unsigned char plain[64];

static int set_get(struct runtime_side *side, uint64_t count)
{
	struct fnd_context *ctx = side->arg;
	struct fnd_value v = { .type = 0 };
	uint64_t wrong = 0;

	for (uint64_t i = 0; i < count; i++) {
		wrong |= (uint64_t)fnd_context_set(ctx, fnd_uint("step", i));
		wrong |= (uint64_t)fnd_context_get(ctx, "step", &v);
		wrong |= v.v.u ^ i;
	}
	return wrong ? -EBADMSG : 0;
}

static int set_get_plain(struct runtime_side *side, uint64_t count)
{
	uint64_t wrong = 0, v;

	(void)side;
	for (uint64_t i = 0; i < count; i++) {
		unsigned char *p = plain;

		__asm__ volatile("" : "+r"(p));
		memcpy(p, "step", 4);
		memcpy(p + 4, &i, 8);
		__asm__ volatile("" : "+r"(p) : : "memory");
		wrong |= memcmp(p, "step", 4) != 0;
		memcpy(&v, p + 4, 8);
		wrong |= v ^ i;
	}
	return wrong ? -EBADMSG : 0;
}

static int scope(struct runtime_side *side, uint64_t count)
{
	struct fnd_context *ctx = side->arg;
	unsigned int depth = fnd_context_depth(ctx), wrong = 0;

	for (uint64_t i = 0; i < count; i++) {
		FND_CONTEXT_SCOPE(ctx, fnd_str("operation", "resize"), fnd_uint("attempt", i));
	}
	wrong |= fnd_context_depth(ctx) ^ depth;
	return wrong ? -EBADMSG : 0;
}

static int scope_plain(struct runtime_side *side, uint64_t count)
{
	(void)side;
	for (uint64_t i = 0; i < count; i++) {
		unsigned char *p = plain;
		unsigned char before[16];

		__asm__ volatile("" : "+r"(p));
		memcpy(before, p, sizeof(before)); /* the way back */
		memcpy(p, "operation\6resize", 16);
		memcpy(p + 16, "attempt\1", 8);
		memcpy(p + 24, &i, 8);
		__asm__ volatile("" : "+r"(p) : : "memory");
		memcpy(p, before, sizeof(before));
	}
	return 0;
}

/* The scopes that are open around what is timed. */
static int inside(const struct runtime_plan *plan, struct contexts *c)
{
	struct runtime_side setting[] = {
		{ "ours", set_get, c->in_segment, 0, 0 },
		{ "private", set_get, c->in_thread, 0, 0 },
		{ "memcpy", set_get_plain, NULL, 0, 0 },
	};
	struct runtime_side scoping[] = {
		{ "ours", scope, c->in_segment, 0, 0 },
		{ "private", scope, c->in_thread, 0, 0 },
		{ "memcpy", scope_plain, NULL, 0, 0 },
	};
	struct bench_row set_row = { .bench = "context_set", .dist = "shared" };
	struct bench_row scope_row = { .bench = "context_scope", .dist = "shared" };
	int err = 0;

	FND_CONTEXT_SCOPE(c->in_segment, fnd_str("request_id", "7c9e6679-7425-40de"), fnd_uint("user", 4711));
	FND_CONTEXT_SCOPE(c->in_segment, fnd_str("route", "/images/thumbnail"));
	if (runtime_has(plan, "context_scope"))
		err = runtime_row(plan, &scope_row, scoping, 3);
	if (!err && runtime_has(plan, "context_set"))
		err = runtime_row(plan, &set_row, setting, 3);
	return err;
}

int runtime_context_rows(const struct runtime_plan *plan)
{
	static const struct fnd_flag_change on[] = { { FND_FLAG_SHARED_ERROR_CONTEXT, 100 } };
	struct contexts c = { .in_segment = NULL };
	int err = runtime_world_make(&c.w, "context", on, 1, 0);

	if (err)
		return err;
	err = fnd_context_open(c.w.seg, c.w.flags, NULL, &c.in_segment);
	if (!err)
		err = fnd_context_open(NULL, NULL, NULL, &c.in_thread);
	if (err)
		runtime_complain("context", "open", err);
	if (!err)
		err = inside(plan, &c);
	fnd_context_close(c.in_thread);
	fnd_context_close(c.in_segment);
	runtime_world_end(&c.w);
	return err;
}
