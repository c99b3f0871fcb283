// SPDX-License-Identifier: MIT
/* The goals, all in one table. */
#include <string.h>

#include "bench_goals.h"

#define ANY 0, UINT64_MAX
#define FROM(entries) entries, UINT64_MAX
#define AT(entries) entries, entries

static const struct bench_goal goals[] = {
	{ "lookup", "lfht-memb", "uniform", NULL, AT(1000), 1, GOAL_FASTER, 1.6, "≥ 1.6 × lfht" },
	{ "lookup", "lfht-memb", "uniform", NULL, AT(100000), 1, GOAL_FASTER, 1.6, "≥ 1.6 × lfht" },
	{ "lookup", "lfht-memb", "uniform", NULL, AT(1000000), 1, GOAL_FASTER, 2, "≥ 2 × lfht" },
	{ "lookup", "floor", "uniform", NULL, AT(1000), 1, GOAL_WITHIN, 1.7, "≤ 1.7 × floor" },
	{ "lookup", "floor", "uniform", NULL, AT(100000), 1, GOAL_WITHIN, 1.35, "≤ 1.35 × floor" },
	{ "lookup", "floor", "uniform", NULL, AT(1000000), 1, GOAL_WITHIN, 1.2, "≤ 1.2 × floor" },
	{ "lookup", "lfht-memb", "zipf", NULL, FROM(1000), 1, GOAL_FASTER, 1.6, "≥ 1.6 × lfht" },
	{ "batch", "lfht-memb", "uniform", NULL, FROM(100000), 1, GOAL_FASTER, 6, "≥ 6 × lfht" },
	{ "read_scaling", "ours-alone", NULL, NULL, FROM(1000), 2, GOAL_FASTER, 0.95, "≥ 0.95" },
	{ "replace", "lfht-memb", "uniform", NULL, FROM(1000), 1, GOAL_FASTER, 4, "≥ 4 × lfht" },
	{ "replace", "lfht-memb", "uniform", NULL, FROM(100000), 2, GOAL_FASTER, 2.5, "≥ 2.5 × lfht" },
	{ "replace", "lfht-memb", "uniform", NULL, AT(1000), 2, GOAL_FASTER, 1.3, "≥ 1.3 × lfht" },
	{ "mixed", "lfht-memb", "uniform", "95/5", FROM(1000), 0, GOAL_FASTER, 2, "≥ 2 × lfht" },
	{ "read_section", "urcu-memb", NULL, NULL, ANY, 1, GOAL_WITHIN, 1, "≤ urcu-memb" },
	{ "grace_period", "urcu-memb", NULL, NULL, ANY, 2, GOAL_WITHIN, 1, "≤ urcu-memb" },
	{ "grace_p99", "urcu-memb", NULL, NULL, ANY, 2, GOAL_ABSOLUTE, 100e3, "< 100 µs" },
	{ "lock", "robust-mutex", NULL, NULL, ANY, 1, GOAL_WITHIN, 0.5, "≤ 0.5 × robust mutex" },
	/* Nothing holds a reader up: its longest pause is one that the machine makes by itself. Two such
	 * maxima of one kind differ by chance, hence the factor. */
	{ "growth_reader", "empty-loop", NULL, NULL, AT(1000000), 2, GOAL_WITHIN, 2, "0: ≤ 2 × empty loop" },
	{ "growth_writer", "empty-loop", NULL, NULL, AT(1000000), 2, GOAL_ABSOLUTE, 1e6, "≤ 1 ms" },
	{ "record_bytes", "lfht-memb", NULL, NULL, AT(1000000), 0, GOAL_ABSOLUTE, 32, "≤ 32 bytes" },
	{ "flag_check", "plain-load", NULL, NULL, ANY, 1, GOAL_WITHIN, 1.1, "≤ 1.1 × plain load" },
	{ "flag_check", "call", NULL, NULL, ANY, 1, GOAL_ABSOLUTE, 0.6, "≤ 0.6 ns" },
	/* Who does not run cannot see: with more workers than processors it is the last old read that counts. */
	{ "flag_seen", NULL, "running", "p99", ANY, 0, GOAL_ABSOLUTE, 10e3, "≤ 10 µs" },
	{ "flag_stale", NULL, "crowd", "p99", ANY, 0, GOAL_ABSOLUTE, 10e3, "≤ 10 µs" },
	{ "flag_emergency", NULL, "running", "p99", ANY, 0, GOAL_ABSOLUTE, 100e3, "≤ 100 µs" },
	{ "context_set", "memcpy", NULL, NULL, ANY, 1, GOAL_ABSOLUTE, 60, "≤ 60 ns" },
	{ "context_scope", "memcpy", NULL, NULL, ANY, 1, GOAL_ABSOLUTE, 150, "≤ 150 ns" },
	{ "log_line", "no-context", NULL, NULL, ANY, 1, GOAL_WITHIN, 1.5, "≤ 1.5 × without" },
	{ "log_line", "snprintf-write", NULL, NULL, ANY, 1, GOAL_ABSOLUTE, 2000, "≤ 2 µs" },
	{ "dedup", "table", "seen", NULL, ANY, 1, GOAL_ABSOLUTE, 30, "≤ 30 ns" },
	{ "dedup", "table", "new", NULL, ANY, 1, GOAL_ABSOLUTE, 45, "≤ 45 ns" },
};

static bool is_or_any(const char *wanted, const char *name)
{
	return !wanted || strcmp(wanted, name) == 0;
}

/* "lfht-memb" also names "lfht-memb-calls"; the floor is one of two layouts and means itself. */
static bool names(const char *wanted, const char *name)
{
	size_t length = wanted ? strlen(wanted) : 0;

	if (is_or_any(wanted, name))
		return true;
	return strcmp(wanted, "floor") != 0 && strncmp(wanted, name, length) == 0 && name[length] == '-';
}

const struct bench_goal *bench_goal_find(const struct bench_row *row, const char *peer)
{
	for (size_t i = 0; i < sizeof(goals) / sizeof(goals[0]); i++) {
		const struct bench_goal *g = &goals[i];

		if (strcmp(g->bench, row->bench) == 0 && names(g->peer, peer) &&
		    is_or_any(g->dist, row->dist) && is_or_any(g->mix, row->mix) &&
		    row->entries >= g->least && row->entries <= g->most &&
		    (g->procs == 0 || g->procs == row->procs))
			return g;
	}
	return NULL;
}

double bench_goal_measure(const struct bench_goal *goal, double ours, double peer)
{
	switch (goal->kind) {
	case GOAL_FASTER:
		return peer / ours;
	case GOAL_WITHIN:
		return ours / peer;
	default:
		return ours;
	}
}

bool bench_goal_reached(const struct bench_goal *goal, double measured)
{
	return goal->kind == GOAL_FASTER ? measured >= goal->limit : measured <= goal->limit;
}
