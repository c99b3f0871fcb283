/* SPDX-License-Identifier: MIT */
/*
 * Crews: the workers of one contender, processes or threads alike.
 *
 * Each worker joins the contender's table and then waits on a socket for orders. Orders go to all
 * workers at once; each answers for itself.
 */
#ifndef BENCH_CREW_H
#define BENCH_CREW_H

#include <pthread.h>
#include <sys/types.h>

#include "bench_util.h"

enum bench_op {
	BENCH_RUN,	 /* work off count accesses of the sequence, go on there the next time */
	BENCH_RUN_BATCH, /* the same, lookups only, 16 at once */
	BENCH_VERIFY,	 /* compare a sample of all entries, and the last writes, with what they must be */
	BENCH_SECTIONS,	 /* count read sections */
	BENCH_CHURN,	 /* delete half of all keys and insert them again, count times */
	BENCH_GROW,	 /* the first worker inserts up to grows_to, the others read meanwhile */
	BENCH_IDLE,	 /* nothing, for count nanoseconds: how long the machine itself stops a loop */
	BENCH_SPIN,	 /* look up until the next order comes; no answer of its own */
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
	uint64_t remove_ns, insert_ns; /* BENCH_CHURN: in all */
	double longest_ns, p9999_ns;   /* BENCH_GROW, BENCH_IDLE: between two accesses */
	char detail[200]; /* what the library said of a failure */
};

struct bench_worker {
	const struct bench_contender *contender;
	void *table;
	const struct bench_data *data;
	unsigned int number, crew_size;
	int parent_fd, worker_fd;
	pid_t pid;	  /* processes */
	pthread_t thread; /* threads */
	bool running;
};

struct bench_crew {
	unsigned int size;
	struct bench_worker worker[BENCH_WORKERS_MAX];
};

/*
 * All return 0 or a negative errno; a crew that could not be started whole has been stopped.
 * @ret_answers: NULL, or one for each worker.
 */
int bench_crew_start(struct bench_crew *crew, const struct bench_contender *contender, void *table,
		     const struct bench_data *data, unsigned int workers);
int bench_crew_order(struct bench_crew *crew, const struct bench_order *order);
int bench_crew_wait(struct bench_crew *crew, struct bench_answer ret_answers[]);
int bench_crew_do(struct bench_crew *crew, const struct bench_order *order,
		  struct bench_answer ret_answers[]);
void bench_crew_stop(struct bench_crew *crew);

/* The worker's side: obeys until its socket says stop. */
void bench_worker_main(const struct bench_worker *w);
ssize_t bench_receive(int fd, void *buf, size_t bytes);

#endif
