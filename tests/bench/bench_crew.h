/* SPDX-License-Identifier: MIT */
/*
 * Crews: the workers of one contender, processes or threads alike.
 *
 * Each worker joins the contender's table and then waits on a socket for orders. Orders go to all
 * workers at once; the answers are put together into one: the wall time from the first worker's start to
 * the last one's end.
 */
#ifndef BENCH_CREW_H
#define BENCH_CREW_H

#include <pthread.h>
#include <sys/types.h>

#include "bench_util.h"

enum bench_op {
	BENCH_RUN,	/* work off count accesses of the sequence, go on there the next time */
	BENCH_VERIFY,	/* compare a sample of all entries, and the last writes, with what they must be */
	BENCH_SECTIONS, /* count read sections */
	BENCH_SPIN,	/* look up until the next order comes; no answer of its own */
	BENCH_STOP,
};

struct bench_order {
	enum bench_op op;
	enum bench_dist dist;
	unsigned int write_percent;
	uint64_t count;
	uint64_t generation;
};

struct bench_answer {
	int err; /* negative errno; -EBADMSG: a value was wrong */
	uint64_t start_ns, end_ns;
	char detail[200]; /* what the library said of a failure */
};

struct bench_worker {
	const struct bench_contender *contender;
	void *table;
	const struct bench_data *data;
	unsigned int number;
	bool alone; /* the only worker of its crew */
	int parent_fd, worker_fd;
	pid_t pid;	  /* processes */
	pthread_t thread; /* threads */
	bool running;
};

struct bench_crew {
	unsigned int size;
	struct bench_worker worker[BENCH_WORKERS_MAX];
};

/* All return 0 or a negative errno; after a failure the crew has been stopped. */
int bench_crew_start(struct bench_crew *crew, const struct bench_contender *contender, void *table,
		     const struct bench_data *data, unsigned int workers);
int bench_crew_order(struct bench_crew *crew, const struct bench_order *order);
int bench_crew_wait(struct bench_crew *crew, struct bench_answer *ret_answer);
int bench_crew_do(struct bench_crew *crew, const struct bench_order *order,
		  struct bench_answer *ret_answer);
void bench_crew_stop(struct bench_crew *crew);

#endif
