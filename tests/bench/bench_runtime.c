// SPDX-License-Identifier: MIT
/*
 * bench_runtime: flags, error context, log, registry, events and deduplication, each beside what a program
 * would do without them, in one run. bench_goals.c says what they are to reach.
 */
#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_runtime.h"

enum { EXIT_WRONG = 1, EXIT_USAGE = 2, EXIT_OPEN = 3 };
enum { KEY_QUICK = 0x100, KEY_SMOKE, KEY_ROUNDS, KEY_TIME, KEY_ONLY };

volatile sig_atomic_t bench_interrupted;

static const char about[] =
	"figures   nanoseconds an operation, wall time, median of the rounds [lowest highest].\n"
	"          flag_seen, flag_wake, flag_emergency: from the call of the change to the end of the\n"
	"          first read that is new, in the last worker that reads it, each a median or p99 of a\n"
	"          round's changes; flag_stale: from the same instant to the beginning of the last read\n"
	"          that is old, in any worker, also in those that were not running.\n"
	"peers     what stands for the same work without us: a plain word, a copy of as many bytes, a\n"
	"          line by snprintf() and write(), a table's own call, or the other backend of ours.\n\n";

static const struct {
	const char *const names[8];
	int (*run)(const struct runtime_plan *plan);
} groups[] = {
	{ { "flag_check", "flag_percent", "flag_evaluate" }, runtime_flag_rows },
	{ { "flag_seen", "flag_stale", "flag_emergency", "flag_wake" }, runtime_seen_rows },
	{ { "context_set", "context_scope" }, runtime_context_rows },
	{ { "log_line" }, runtime_log_rows },
	{ { "agent_lookup", "agent_register", "agent_find" }, runtime_registry_rows },
	{ { "event", "dedup" }, runtime_event_rows },
};

#define GROUPS (sizeof(groups) / sizeof(groups[0]))
#define NAMES (sizeof(groups[0].names) / sizeof(groups[0].names[0]))

bool runtime_has(const struct runtime_plan *plan, const char *row)
{
	return !plan->only || bench_listed(plan->only, row);
}

static bool group_has(const struct runtime_plan *plan, size_t group)
{
	for (size_t i = 0; i < NAMES && groups[group].names[i]; i++)
		if (runtime_has(plan, groups[group].names[i]))
			return true;
	return false;
}

/* Every name of the list must be that of a row. */
static void check_only(const char *only, struct argp_state *state)
{
	for (const char *at = only; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
		int length = (int)strcspn(at, ",");
		bool known = false;

		for (size_t i = 0; i < GROUPS * NAMES; i++) {
			const char *name = groups[i / NAMES].names[i % NAMES];

			known |= name && strlen(name) == (size_t)length && strncmp(at, name, (size_t)length) == 0;
		}
		if (!known)
			argp_error(state, "--only: there is no row '%.*s'", length, at);
	}
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct runtime_plan *plan = state->input;
	unsigned long long n = 0;

	switch (key) {
	case 'j':
		plan->json = true;
		return 0;
	case KEY_QUICK:
	case KEY_SMOKE:
		plan->time_ms = key == KEY_QUICK ? 10 : 1;
		plan->rounds = key == KEY_QUICK ? 5 : 3;
		plan->changes = key == KEY_QUICK ? 60 : 4;
		plan->agents = key == KEY_QUICK ? 10000 : 200;
		return 0;
	case KEY_ROUNDS:
		if (bench_number(arg, BENCH_ROUNDS_MAX, &n) || n < 3)
			argp_error(state, "--rounds: 3 to %d", BENCH_ROUNDS_MAX);
		plan->rounds = (unsigned int)n;
		return 0;
	case KEY_TIME:
		if (bench_number(arg, 10000, &n))
			argp_error(state, "--time: 1 to 10000 milliseconds");
		plan->time_ms = (unsigned int)n;
		return 0;
	case KEY_ONLY:
		check_only(arg, state);
		plan->only = arg;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "unexpected argument: %s", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option options[] = {
	{ "json", 'j', NULL, 0, "One JSON object a line", 0 },
	{ "quick", KEY_QUICK, NULL, 0, "Fewer and shorter rounds: some ten seconds", 0 },
	{ "smoke", KEY_SMOKE, NULL, 0, "Every kind of row, tiny: the figures mean nothing", 0 },
	{ "rounds", KEY_ROUNDS, "N", 0, "Rounds of each row, 3 to 64 (7)", 1 },
	{ "time", KEY_TIME, "MS", 0, "Length of each timed stretch (40)", 1 },
	{ "only", KEY_ONLY, "NAMES", 0, "These rows only, by commas: flag_check,context_set", 1 },
	{ 0 }
};

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.doc = "Flags, error context, log, registry and events beside what stands for them elsewhere, in"
	       " one run."
	       "\vRatio is the peer's figure by ours: above 1 we are better. A goal is printed beside the"
	       " figure it is for; reaching it or not changes nothing in the exit status. --quick and"
	       " --smoke come before what is to change them.\n\n"
	       "Exit status: 0 fine, 1 an answer was wrong, 2 usage, 3 a segment could not be made or a"
	       " call failed.",
};

static void on_signal(int sig)
{
	bench_interrupted = sig;
}

int main(int argc, char **argv)
{
	struct runtime_plan plan = { .rounds = 7, .time_ms = 40, .changes = 100, .agents = 10000 };
	struct sigaction sa = { .sa_handler = on_signal };
	int err = 0;

	argp_program_version = fnd_version();
	argp_err_exit_status = EXIT_USAGE;
	if (argp_parse(&argp, argc, argv, 0, NULL, &plan) != 0)
		return EXIT_USAGE;
#ifndef __OPTIMIZE__
	fprintf(stderr, "bench_runtime: built without optimisation: the figures mean little\n");
#endif
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	if (!runtime_directory())
		return EXIT_OPEN;
	bench_report_begin(plan.json, fnd_version(), about);
	for (size_t i = 0; i < GROUPS && !err; i++)
		if (group_has(&plan, i))
			err = groups[i].run(&plan);
	if (!err)
		bench_report_end(plan.json);
	runtime_directory_remove();
	if (bench_interrupted) {
		/* In order by now: end as the signal would have ended us. */
		signal(bench_interrupted, SIG_DFL);
		raise(bench_interrupted);
	}
	if (err)
		return err == -EBADMSG ? EXIT_WRONG : EXIT_OPEN;
	return 0;
}
