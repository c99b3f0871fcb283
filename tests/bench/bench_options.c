// SPDX-License-Identifier: MIT
/* Command line of the benchmark. */
#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench_options.h"
#include "bench_util.h"

#define EXIT_USAGE 2

const char *argp_program_version;

enum mode { MODE_QUICK, MODE_FULL, MODE_SMOKE };

/* What the command line says of itself; the rest is up to the mode. */
struct request {
	enum mode mode;
	struct bench_plan plan;
};

static void complete(struct bench_plan *plan, enum mode mode)
{
	static const uint64_t sizes[] = { 1000, 100000, 1000000 }, tiny[] = { 64, 1000 };
	bool smoke = mode == MODE_SMOKE;

	plan->full = mode != MODE_QUICK;
	if (!plan->rounds)
		plan->rounds = smoke ? 3 : plan->full ? 7 : 5;
	if (!plan->time_ms)
		plan->time_ms = smoke ? 1 : plan->full ? 60 : 40;
	if (!plan->sizes) {
		plan->sizes = smoke ? 2 : 3;
		memcpy(plan->entries, smoke ? tiny : sizes, plan->sizes * sizeof(sizes[0]));
	}
	plan->grow_to = plan->entries[plan->sizes - 1];
}

/* Every row there is, and whether it needs the tables that are made for their entries. */
static const struct {
	const char *name;
	bool tables;
} rows[] = {
	{ "lock", false },	    { "record_bytes", true },	{ "read_section", true },
	{ "section_calls", true },  { "grace_period", true },	{ "grace_p99", true },
	{ "probe_detached", true }, { "lookup", true },		{ "batch", true },
	{ "mixed", true },	    { "replace", true },	{ "insert", true },
	{ "delete", true },	    { "read_scaling", true },	{ "machine_scaling", true },
	{ "growth_reader", false }, { "growth_writer", false },
};

/* One name of the list at @at, which goes on to the next. */
static const char *next_name(const char *at)
{
	const char *comma = strchr(at, ',');

	return comma ? comma + 1 : NULL;
}

bool bench_plan_has(const struct bench_plan *plan, const char *bench)
{
	return !plan->only || bench_listed(plan->only, bench);
}

bool bench_plan_has_tables(const struct bench_plan *plan)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].tables && bench_plan_has(plan, rows[i].name))
			return true;
	return plan->variant;
}

static void check_only(const char *only, struct argp_state *state)
{
	for (const char *at = only; at; at = next_name(at)) {
		int length = (int)strcspn(at, ",");
		bool known = false;

		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
			known |= strlen(rows[i].name) == (size_t)length &&
				 strncmp(at, rows[i].name, (size_t)length) == 0;
		if (!known)
			argp_error(state, "--only: there is no row '%.*s'", length, at);
	}
}

enum { KEY_QUICK = 0x100, KEY_FULL, KEY_SMOKE, KEY_ROUNDS, KEY_TIME, KEY_ENTRIES, KEY_ONLY,
	KEY_VARIANT };

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;
	struct bench_plan *plan = &request->plan;
	unsigned long long n = 0;

	switch (key) {
	case 'j':
		plan->json = true;
		return 0;
	case KEY_QUICK:
		request->mode = MODE_QUICK;
		return 0;
	case KEY_FULL:
		request->mode = MODE_FULL;
		return 0;
	case KEY_SMOKE:
		request->mode = MODE_SMOKE;
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
	case KEY_ENTRIES:
		if (bench_number(arg, 10000000, &n) || n < 16)
			argp_error(state, "--entries: 16 to 10000000");
		plan->entries[0] = n;
		plan->sizes = 1;
		return 0;
	case KEY_ONLY:
		check_only(arg, state);
		plan->only = arg;
		return 0;
	case KEY_VARIANT:
		plan->variant = arg;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "unexpected argument: %s", arg);
		return 0;
	case ARGP_KEY_SUCCESS:
		complete(plan, request->mode);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option options[] = {
	{ "json", 'j', NULL, 0, "One JSON object a line", 0 },
	{ "quick", KEY_QUICK, NULL, 0, "The core rows, less than a minute (default)", 0 },
	{ "full", KEY_FULL, NULL, 0,
	  "Also two workers, Zipf 0.99, mixes of reads and writes, growth; five minutes", 0 },
	{ "smoke", KEY_SMOKE, NULL, 0, "Every kind of row, tiny: the figures mean nothing", 0 },
	{ "rounds", KEY_ROUNDS, "N", 0, "Rounds of each row, 3 to 64 (5; 7 with --full)", 1 },
	{ "time", KEY_TIME, "MS", 0, "Length of each timed stretch (40; 60 with --full)", 1 },
	{ "entries", KEY_ENTRIES, "N", 0, "One size of table only", 1 },
	{ "only", KEY_ONLY, "NAMES", 0, "These rows only, by commas: lookup,replace", 1 },
	{ "variant-of", KEY_VARIANT, "LIBRARY", 0,
	  "Also lookups of another build of the library beside ours, over 20 rounds", 1 },
	{ 0 }
};

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.doc = "The table beside liburcu's rculfhash and an unsynchronised table, in one run."
	       "\vRatio is the peer's figure by ours: above 1 we are better. Two workers are two"
	       " processes for us and two threads for the peer; times are wall time by the operations"
	       " of one worker. A goal is printed beside the figure it is for; reaching it or not"
	       " changes nothing in the exit status.\n\n"
	       "Exit status: 0 fine, 1 a value read was wrong, 2 usage, 3 a table could not be made or"
	       " a worker failed.",
};

void bench_options_parse(int argc, char **argv, struct bench_plan *ret_plan)
{
	struct request request = { .mode = MODE_QUICK };

	argp_program_version = bench_library_version();
	argp_err_exit_status = EXIT_USAGE;
	if (argp_parse(&argp, argc, argv, 0, NULL, &request) != 0)
		exit(EXIT_USAGE);
	*ret_plan = request.plan;
}
