/* SPDX-License-Identifier: MIT */
/* A run of bench_table: the sides compared, and the rows that are made of them. */
#ifndef BENCH_RUN_H
#define BENCH_RUN_H

#include "bench_crew.h"
#include "bench_options.h"
#include "bench_report.h"
#include "bench_util.h"

/* The floor with records apart last: it takes part in lookups and replaces of one worker only. */
enum { OURS = 0, MEMB, CALLS, QSBR, FLOOR, APART, SIDES };

struct side {
	const struct bench_contender *contender;
	void *table;
	struct bench_crew crew;
};

struct bench {
	struct bench_plan plan;
	struct bench_data data;
	struct side side[SIDES];
	struct bench_crew forked[BENCH_WORKERS_MAX]; /* our crews that wait for their turn */
	struct bench_crew alone; /* a worker of ours beside a crew of two, for their comparison */
	unsigned int sides, workers;
	uint64_t generation; /* of the values being written */
};

/* All return 0 or a negative errno, which has been complained about. */
int bench_complain(const char *who, const char *what, int err);

/* A row's head; its sides are named and filled by bench_measure(). */
struct bench_row bench_row_of(const struct bench *b, const char *name, enum bench_dist dist,
			      const char *mix, unsigned int procs);

/* Rounds of one order over all sides, in turn; the nanoseconds an operation took by the wall clock. */
int bench_measure(struct bench *b, struct bench_row *row, struct bench_order order,
		  struct side *sides, unsigned int count, unsigned int rounds);
/* Every side's answers to the same order, once. */
int bench_order_one(struct bench *b, struct side *s, struct bench_order order,
		    struct bench_answer ret_answers[]);
int bench_verify(struct bench *b, struct side *s);

int bench_table_rows(struct bench *b, enum bench_dist dist);
int bench_churn_rows(struct bench *b);
int bench_scaling_row(struct bench *b);
int bench_core_rows(struct bench *b);
int bench_bytes_row(struct bench *b);
int bench_variant_row(struct bench *b);
int bench_growth_rows(struct bench *b);
int bench_lock_row(const struct bench_plan *plan); /* by another program beside this one */

#endif
