/* SPDX-License-Identifier: MIT */
/* What the command line asks for. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

struct bench_plan {
	bool json;
	bool full; /* also two workers, Zipf, mixes */
	unsigned int rounds;
	unsigned int time_ms; /* of each timed stretch */
	uint64_t entries[3];
	unsigned int sizes;
	const char *variant; /* another build of the library, or NULL */
};

/* Does not return for --help, --version and mistakes (exit status 2). */
void bench_options_parse(int argc, char **argv, struct bench_plan *ret_plan);

#endif
