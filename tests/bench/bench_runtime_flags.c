// SPDX-License-Identifier: MIT
/*
 * Rows of the flag check: inlined, beside a plain load and mask of a word of one's own, and beside a call
 * into the library; then percentages and evaluation by name.
 *
 * The pointer to what is read is hidden from the compiler before each check, as in a program that does
 * something else in between: a check begins with the handle, a plain load with the word's address.
 */
#include <errno.h>

#include "bench_runtime.h"

#define FOUR(x) x x x x
#define SIXTEEN(x) FOUR(FOUR(x))
/* What a program does with a check: it goes one way or the other. */
#define COUNT_IF(condition, seen)                                                                 \
	do {                                                                                      \
		if (condition) {                                                                  \
			__asm__ volatile("" : "+r"(seen));                                        \
			(seen)++;                                                                 \
		}                                                                                 \
	} while (0)
#define FLAG FND_FLAG_SHARED_ERROR_CONTEXT
#define FULL (UINT64_C(100) << FND_FLAG_SHIFT(FLAG))

struct checks {
	struct fnd_flags *flags;
	uint64_t word __attribute__((aligned(64))); /* as the segment's, in this process's own memory */
	bool on;
};

static struct checks checks;

static int judge(const struct checks *c, uint64_t seen, uint64_t done)
{
	return seen == (c->on ? done : 0) ? 0 : -EBADMSG;
}

static int check_inline(struct runtime_side *side, uint64_t count)
{
	const struct checks *c = side->arg;
	const struct fnd_flags *f = c->flags;
	uint64_t seen = 0, i;

	for (i = 0; i < count; i += 16) {
		SIXTEEN({
			__asm__ volatile("" : "+r"(f));
			COUNT_IF(fnd_flag_enabled(f, FLAG), seen);
		})
	}
	return judge(c, seen, i);
}

static int check_plain(struct runtime_side *side, uint64_t count)
{
	const struct checks *c = side->arg;
	const uint64_t *word = &c->word;
	uint64_t seen = 0, i;

	for (i = 0; i < count; i += 16) {
		SIXTEEN({
			__asm__ volatile("" : "+r"(word));
			/* relaxed: nobody writes it meanwhile */
			COUNT_IF(__atomic_load_n(word, __ATOMIC_RELAXED) & FULL, seen);
		})
	}
	return judge(c, seen, i);
}

static int check_call(struct runtime_side *side, uint64_t count)
{
	const struct checks *c = side->arg;
	uint64_t seen = 0, i;

	for (i = 0; i < count; i += 16) {
		SIXTEEN(COUNT_IF(fnd_flag_percent(c->flags, FLAG) == 100, seen);)
	}
	return judge(c, seen, i);
}

/* At a percentage between it is on for some identities: which, is known beforehand. */
static int check_for(struct runtime_side *side, uint64_t count)
{
	const struct checks *c = side->arg;
	uint64_t seen = 0;

	for (uint64_t i = 0; i < count; i++)
		seen += (unsigned int)fnd_flag_for(c->flags, FLAG, "bench");
	return judge(c, seen, count);
}

static int evaluate(struct runtime_side *side, uint64_t count)
{
	const struct checks *c = side->arg;
	struct fnd_flag_details d;
	uint64_t seen = 0;

	for (uint64_t i = 0; i < count; i++)
		seen += (unsigned int)fnd_flag_evaluate(c->flags, "bench.flag", "bench", 0, &d);
	return judge(c, seen, count);
}

static int evaluate_known(struct runtime_side *side, uint64_t count)
{
	const struct checks *c = side->arg;
	struct fnd_flag_details d;
	uint64_t seen = 0;

	for (uint64_t i = 0; i < count; i++)
		seen += (unsigned int)fnd_flag_evaluate(c->flags, "shared_error_context", "bench", 0, &d);
	return judge(c, seen, count);
}

static int set(unsigned int percent)
{
	struct fnd_flag_change change = { FLAG, percent };
	int err = fnd_flags_change(checks.flags, &change, 1, -1, NULL);

	if (err)
		return runtime_complain("flags", "change", err);
	checks.word = (uint64_t)percent << FND_FLAG_SHIFT(FLAG);
	checks.on = fnd_flag_for(checks.flags, FLAG, "bench");
	return 0;
}

static int check_row(const struct runtime_plan *plan, const char *dist, unsigned int percent)
{
	struct runtime_side sides[] = {
		{ "ours", check_inline, &checks, 0, 0 },
		{ "plain-load", check_plain, &checks, 0, 0 },
		{ "call", check_call, &checks, 0, 0 },
	};
	struct bench_row row = { .bench = "flag_check", .dist = dist };
	int err = set(percent);

	return err ? err : runtime_row(plan, &row, sides, 3);
}

static int percent_row(const struct runtime_plan *plan)
{
	struct runtime_side sides[] = {
		{ "ours", check_inline, &checks, 0, 0 },
		{ "call", check_for, &checks, 0, 0 },
	};
	struct bench_row row = { .bench = "flag_percent", .dist = "50%" };
	int err = set(50);

	return err ? err : runtime_row(plan, &row, sides, 2);
}

static int evaluate_row(const struct runtime_plan *plan)
{
	struct runtime_side sides[] = {
		{ "ours", evaluate, &checks, 0, 0 },
		{ "known-flag", evaluate_known, &checks, 0, 0 },
	};
	struct bench_row row = { .bench = "flag_evaluate", .dist = "on" };
	int id = fnd_flag_define(checks.flags, "bench.flag", NULL, 0);
	struct fnd_flag_change change = { (unsigned int)id, 100 };
	int err = id < 0 ? id : fnd_flags_change(checks.flags, &change, 1, -1, NULL);

	if (err)
		return runtime_complain("flags", "define", err);
	err = set(100);
	return err ? err : runtime_row(plan, &row, sides, 2);
}

int runtime_flag_rows(const struct runtime_plan *plan)
{
	struct runtime_world w;
	int err = runtime_world_make(&w, "flags", NULL, 0, 0);

	if (err)
		return err;
	checks.flags = w.flags;
	if (runtime_has(plan, "flag_check")) {
		err = check_row(plan, "on", 100);
		if (!err)
			err = check_row(plan, "off", 0);
	}
	if (!err && runtime_has(plan, "flag_percent"))
		err = percent_row(plan);
	if (!err && runtime_has(plan, "flag_evaluate"))
		err = evaluate_row(plan);
	runtime_world_end(&w);
	return err;
}
