/* SPDX-License-Identifier: MIT */
/* What the figures are meant to reach, and whether they did. Printed beside them, never asserted. */
#ifndef BENCH_GOALS_H
#define BENCH_GOALS_H

#include "bench_report.h"

enum bench_goal_kind {
	GOAL_FASTER,   /* the peer's time by ours is at least the limit */
	GOAL_WITHIN,   /* our figure by the peer's is at most the limit */
	GOAL_ABSOLUTE, /* our figure is at most the limit */
};

struct bench_goal {
	const char *bench;
	const char *peer; /* also of every peer whose name only goes on with a dash; NULL: any */
	const char *dist, *mix; /* NULL: any */
	uint64_t least, most;	/* entries */
	unsigned int procs;	/* 0: any */
	enum bench_goal_kind kind;
	double limit;
	const char *text;
};

/* NULL: nothing was set for this row beside this peer. */
const struct bench_goal *bench_goal_find(const struct bench_row *row, const char *peer);

/* The row's figure in the goal's terms. */
double bench_goal_measure(const struct bench_goal *goal, double ours, double peer);
bool bench_goal_reached(const struct bench_goal *goal, double measured);

#endif
