/* SPDX-License-Identifier: MIT */
/* What the command line asks for. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

struct bench_plan {
	bool json;
	bool full; /* also two workers, Zipf, mixes, growth */
	unsigned int rounds;
	unsigned int time_ms; /* of each timed stretch */
	uint64_t entries[3];
	unsigned int sizes;
	uint64_t grow_to;    /* how large a table grows from a thousandth of that */
	const char *only;    /* names of rows, by commas, or NULL: all */
	const char *variant; /* another build of the library, or NULL */
};

/* Is this row asked for? */
bool bench_plan_has(const struct bench_plan *plan, const char *bench);
/* Is any that needs tables made for their entries? */
bool bench_plan_has_tables(const struct bench_plan *plan);

/* Does not return for --help, --version and mistakes (exit status 2). */
void bench_options_parse(int argc, char **argv, struct bench_plan *ret_plan);

#endif
