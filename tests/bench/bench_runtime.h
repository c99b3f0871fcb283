/* SPDX-License-Identifier: MIT */
/*
 * A run of bench_runtime: what a part of the runtime takes beside what a program would do without it, in
 * rounds that go from side to side.
 */
#ifndef BENCH_RUNTIME_H
#define BENCH_RUNTIME_H

#include <sys/types.h>

#include <foundation/runtime.h>

#include "bench_report.h"
#include "bench_util.h"

struct runtime_plan {
	bool json;
	unsigned int rounds;
	unsigned int time_ms; /* of each timed stretch */
	unsigned int changes; /* of a flag, each round */
	unsigned int agents;
	const char *only; /* names of rows, by commas, or NULL: all */
};

/*
 * One of those compared. run() does @count operations in a loop of its own and returns 0 or a negative
 * errno, -EBADMSG where an answer was wrong; what of it is not to be timed it adds to untimed_ns.
 */
struct runtime_side {
	const char *name;
	int (*run)(struct runtime_side *side, uint64_t count);
	void *arg;
	uint64_t at; /* where in its sequence it goes on */
	uint64_t untimed_ns;
};

/* A segment of this run's own, with what a worker holds of it. */
struct runtime_world {
	char name[64];
	struct fnd_segment *seg;
	struct fnd_runtime *rt;
	struct fnd_flags *flags; /* the runtime's */
};

/* All return 0 or a negative errno, which has been complained about. */
int runtime_complain(const char *who, const char *what, int err);

/* With @n flags changed from the start, and room for @agents names. */
int runtime_world_make(struct runtime_world *w, const char *suffix, const struct fnd_flag_change *change,
		       unsigned int n, uint64_t agents);
void runtime_world_end(struct runtime_world *w);
/* Of this run: journals and log files. NULL: it could not be made. */
const char *runtime_directory(void);
void runtime_directory_remove(void);

bool runtime_has(const struct runtime_plan *plan, const char *row);

/* Rounds over all sides of a row that is named already, then its lines. */
int runtime_row(const struct runtime_plan *plan, struct bench_row *row, struct runtime_side *sides,
		unsigned int count);

/* As fork(): the child dies with this process. */
pid_t runtime_fork(void);

int runtime_wake_row(const struct runtime_plan *plan);
int runtime_flag_rows(const struct runtime_plan *plan);
int runtime_seen_rows(const struct runtime_plan *plan);
int runtime_context_rows(const struct runtime_plan *plan);
int runtime_log_rows(const struct runtime_plan *plan);
int runtime_registry_rows(const struct runtime_plan *plan);
int runtime_event_rows(const struct runtime_plan *plan);

#endif
