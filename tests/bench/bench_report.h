/* SPDX-License-Identifier: MIT */
/*
 * Rows of the benchmark and how they are printed: JSON lines, or a table for people. A row has one of
 * our figures and those of several peers, all from the same rounds; each peer makes a line.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "bench_util.h"

#ifndef BENCH_SCHEMA
#define BENCH_SCHEMA "foundation.bench-table/1"
#endif
#define BENCH_SIDES_MAX 8

/* What an operation takes, one figure a round. */
struct bench_series {
	double at[BENCH_ROUNDS_MAX];
	unsigned int rounds; /* 0: not measured */
};

struct bench_side_figures {
	const char *name;
	struct bench_series value;
	struct bench_series tail; /* where the row has one */
};

struct bench_row {
	const char *bench;
	uint64_t entries; /* 0: has nothing to do with a table */
	const char *dist; /* "uniform", "zipf", "none" */
	const char *mix;  /* reads/writes; "100/0" also for single operations */
	unsigned int procs;
	const char *unit; /* NULL: nanoseconds */
	const char *tail; /* NULL, or which quantile the tails are: "p99" */
	unsigned int sides;
	struct bench_side_figures side[BENCH_SIDES_MAX]; /* the first is ours */
};

/* @about: what people are told of figures and peers; NULL: those of tables. */
void bench_report_begin(bool json, const char *library_version, const char *about);
void bench_report_row(bool json, const struct bench_row *row);

/* The goals of all rows since the start, with those of other programs. */
void bench_report_count(unsigned int goals, unsigned int reached);
void bench_report_end(bool json);
unsigned int bench_report_missed(void);

double bench_median(const struct bench_series *s);

#endif
