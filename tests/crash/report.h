/* SPDX-License-Identifier: MIT */
/* One line a suite for people, one JSON line a suite for the record. */
#ifndef FND_TESTS_REPORT_H
#define FND_TESTS_REPORT_H

#include <stdint.h>

struct suite_result {
	const char *suite;
	uint64_t goal, count, violations, seed;
	uint64_t control; /* stores that were counted a second way; 0: no such control */
	double seconds;
};

/*
 * Prints the line and appends {"suite","goal","count","violations","seconds","seed","verdict"} to @file;
 * NULL: prints only. Several programs may append to one file.
 */
void report_suite(const struct suite_result *r, const char *file);

#endif
