// SPDX-License-Identifier: MIT
/*
 * bench_lock: our slot lock, taken and given back by one process, beside what a program would use instead:
 * a robust process-shared mutex. Both lie in shared memory. The floor is what any lock costs: one
 * compare-and-swap and one store.
 *
 * A program of its own, because the lock is no part of the public interface: it is linked with the
 * library's insides. bench_table runs it for its row.
 */
#define _GNU_SOURCE
#include <argp.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

#include "bench_report.h"

#define CALIBRATION_OPS 100000

enum { OURS, MUTEX, FLOOR, SIDES };

struct locks {
	pthread_mutex_t mutex __attribute__((aligned(64)));
	uint32_t word __attribute__((aligned(64)));
	uint32_t plain __attribute__((aligned(64)));
	uint64_t guarded __attribute__((aligned(64))); /* what they protect: counted up in each section */
	struct fnd_segment *seg;
	struct fnd_thread *thread;
};

static bool json, row_only;
static unsigned int rounds = 5, time_ms = 60;

static _Noreturn void die(const char *what, int err)
{
	fprintf(stderr, "bench_lock: %s: %s\n", what, fnd_strerror(err));
	exit(3);
}

static int ours(struct locks *l, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		if (fnd_lock(l->seg, l->thread, &l->word, "bench") != FND_LOCK_TAKEN)
			return -EBUSY;
		*(volatile uint64_t *)&l->guarded += 1;
		fnd_unlock(l->thread, &l->word);
	}
	return 0;
}

static int mutex(struct locks *l, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		if (pthread_mutex_lock(&l->mutex) != 0)
			return -EBUSY;
		*(volatile uint64_t *)&l->guarded += 1;
		pthread_mutex_unlock(&l->mutex);
	}
	return 0;
}

static int plain(struct locks *l, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		uint32_t zero = 0;

		if (!__atomic_compare_exchange_n(&l->plain, &zero, 1, false, __ATOMIC_ACQUIRE,
						 __ATOMIC_RELAXED)) /* relaxed: nothing was taken */
			return -EBUSY;
		*(volatile uint64_t *)&l->guarded += 1;
		__atomic_store_n(&l->plain, 0, __ATOMIC_RELEASE); /* pairs with the swap above */
	}
	return 0;
}

static const struct {
	const char *name;
	int (*run)(struct locks *l, uint64_t count);
} sides[SIDES] = { { "ours", ours }, { "robust-mutex", mutex }, { "floor", plain } };

/* Nanoseconds a lock and unlock; every one of them has been seen in what is guarded. */
static double timed(struct locks *l, unsigned int side, uint64_t count)
{
	uint64_t before = l->guarded, from = bench_now_ns(), ns;
	int err = sides[side].run(l, count);

	ns = bench_now_ns() - from;
	if (err || l->guarded - before != count)
		die(sides[side].name, err ? err : -EBADMSG);
	return (double)ns / (double)count;
}

static void make_mutex(struct locks *l)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	if (pthread_mutex_init(&l->mutex, &attr) != 0)
		die("mutex", -EINVAL);
	pthread_mutexattr_destroy(&attr);
}

/* A segment, to have a thread's slot in; without a name from the start, so that nothing can stay. */
static void make_thread(struct locks *l)
{
	struct fnd_segment_options opt = { .size = sizeof(opt), .processes = 4, .threads = 4 };
	char name[64];
	int err;

	snprintf(name, sizeof(name), "bench-table-%d-lock", (int)getpid());
	err = fnd_segment_create(name, &opt, &l->seg);
	if (!err)
		err = fnd_segment_destroy(name, FND_DESTROY_FORCE);
	if (!err)
		err = fnd_thread_self(l->seg, &l->thread);
	if (err)
		die("segment", err);
}

static void measure(struct locks *l, struct bench_row *row)
{
	uint64_t count[SIDES];

	for (unsigned int i = 0; i < SIDES; i++) {
		double ns = timed(l, i, CALIBRATION_OPS);

		count[i] = (uint64_t)(time_ms * 1e6 / (ns > 0.1 ? ns : 0.1)) + 1;
		row->side[i].name = sides[i].name;
	}
	for (unsigned int r = 0; r < rounds; r++) {
		for (unsigned int i = 0; i < SIDES; i++) {
			row->side[i].value.at[r] = timed(l, i, count[i]);
			row->side[i].value.rounds = r + 1;
		}
	}
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	unsigned long long n = 0;

	switch (key) {
	case 'j':
		json = true;
		return 0;
	case 'R':
		row_only = true;
		return 0;
	case 'r':
		if (bench_number(arg, BENCH_ROUNDS_MAX, &n) || n < 3)
			argp_error(state, "--rounds: 3 to %d", BENCH_ROUNDS_MAX);
		rounds = (unsigned int)n;
		return 0;
	case 't':
		if (bench_number(arg, 10000, &n))
			argp_error(state, "--time: 1 to 10000 milliseconds");
		time_ms = (unsigned int)n;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int main(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "json", 'j', NULL, 0, "One JSON object a line", 0 },
		{ "rounds", 'r', "N", 0, "Rounds, 3 to 64 (5)", 0 },
		{ "time", 't', "MS", 0, "Length of each timed stretch (60)", 0 },
		{ "row", 'R', NULL, 0, "The row alone; exit status 1: the goal was not reached", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		options, parse, NULL, "The slot lock beside a robust process-shared mutex.", NULL, NULL, NULL,
	};
	struct bench_row row = {
		.bench = "lock", .dist = "none", .mix = "none", .procs = 1, .sides = SIDES,
	};
	struct locks *l = mmap(NULL, sizeof(*l), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	argp_err_exit_status = 2;
	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	if (l == MAP_FAILED)
		die("memory", -ENOMEM);
	make_mutex(l);
	make_thread(l);
	if (!row_only)
		bench_report_begin(json, fnd_version(), NULL);
	measure(l, &row);
	bench_report_row(json, &row);
	fnd_segment_detach(l->seg);
	return row_only && bench_report_missed() ? 1 : 0;
}
