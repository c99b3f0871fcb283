/* SPDX-License-Identifier: MIT */
/* Rows of the benchmark and how they are printed: JSON lines, or a table for people. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "bench_util.h"

/* Nanoseconds an operation takes, one figure a round. */
struct bench_series {
	double ns[BENCH_ROUNDS_MAX];
	unsigned int rounds; /* 0: not measured */
};

struct bench_row {
	const char *bench;
	uint64_t entries; /* 0: has nothing to do with a table */
	const char *dist; /* "uniform", "zipf", "none" */
	const char *mix;  /* reads/writes; "100/0" also for single operations */
	unsigned int procs;
	const char *peer;
	struct bench_series ours, peers, floor, floor_apart;
	struct bench_series ours_p99; /* grace periods: the 99th percentile of each round */
	struct bench_series peers_p99;
};

void bench_report_begin(bool json, const char *library_version);
void bench_report_row(bool json, const struct bench_row *row);

#endif
