// SPDX-License-Identifier: MIT
/*
 * The row of who sleeps until flags change: from the call of the change to the return of fnd_flags_wait() in
 * another process, beside a byte written to a pipe and read there.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench_runtime.h"

#define ASLEEP_US 400 /* given to a sleeper to be asleep again */
#define WOKEN_TIMEOUT_NS UINT64_C(20000000000)

enum { BY_FLAG, BY_PIPE, WAYS };

struct bed {
	uint64_t woken_ns;
	uint64_t times; /* atomic, last */
} __attribute__((aligned(64)));

struct sleepers {
	struct runtime_world w;
	struct bed *bed; /* shared, [WAYS] */
	int pipe[2];
	pid_t pid[WAYS];
	uint64_t made[WAYS];
};

static void woken(struct bed *bed)
{
	bed->woken_ns = bench_now_ns();
	__atomic_store_n(&bed->times, bed->times + 1, __ATOMIC_RELEASE);
}

static _Noreturn void sleep_on_flags(struct sleepers *s)
{
	struct fnd_segment *seg;
	struct fnd_flags *flags;
	uint64_t generation;

	if (fnd_segment_attach(s->w.name, NULL, &seg) != 0 || fnd_flags_open(seg, &flags) != 0)
		_exit(1);
	generation = fnd_flags_generation(flags);
	woken(&s->bed[BY_FLAG]); /* ready */
	for (;;) {
		if (fnd_flags_wait(flags, generation, 1000) == 0) {
			generation = fnd_flags_generation(flags);
			woken(&s->bed[BY_FLAG]);
		}
	}
}

static _Noreturn void sleep_on_pipe(struct sleepers *s)
{
	char byte;

	woken(&s->bed[BY_PIPE]);
	while (read(s->pipe[0], &byte, 1) == 1)
		woken(&s->bed[BY_PIPE]);
	_exit(0);
}

static int await_sleeper(const struct sleepers *s, unsigned int way)
{
	uint64_t deadline = bench_now_ns() + WOKEN_TIMEOUT_NS;

	while (__atomic_load_n(&s->bed[way].times, __ATOMIC_ACQUIRE) != s->made[way] + 1) { /* pairs with woken() */
		if (bench_interrupted)
			return -EINTR;
		if (bench_now_ns() > deadline)
			return -ETIMEDOUT;
	}
	return 0;
}

static int change_to(struct sleepers *s, unsigned int percent)
{
	struct fnd_flag_change change = { FND_FLAG_SHARED_ERROR_CONTEXT, percent };

	s->made[BY_FLAG]++;
	return fnd_flags_change(s->w.flags, &change, 1, -1, NULL);
}

/* What only switches on is on disk first: it is the other direction that is timed. */
static int wake(struct sleepers *s, unsigned int way, double *ret_ns)
{
	uint64_t from;
	int err = way == BY_FLAG ? change_to(s, 100) : 0;

	if (!err)
		err = await_sleeper(s, way);
	if (err)
		return err;
	usleep(ASLEEP_US);
	s->made[BY_PIPE] += way == BY_PIPE;
	from = bench_now_ns();
	if (way == BY_FLAG)
		err = change_to(s, 0);
	else
		err = write(s->pipe[1], "", 1) == 1 ? 0 : -EIO;
	if (!err)
		err = await_sleeper(s, way);
	*ret_ns = (double)(s->bed[way].woken_ns - from);
	return err;
}

static int rounds(const struct runtime_plan *plan, struct sleepers *s)
{
	static const char *const names[WAYS] = { "ours", "pipe" };
	struct bench_row row[2] = {
		{ .bench = "flag_wake", .dist = "asleep", .mix = "p50", .procs = 1, .sides = WAYS },
		{ .bench = "flag_wake", .dist = "asleep", .mix = "p99", .procs = 1, .sides = WAYS },
	};
	double at[BENCH_SAMPLES_MAX];
	int err = 0;

	for (unsigned int r = 0; r < plan->rounds; r++) {
		for (unsigned int way = 0; way < WAYS; way++) {
			for (unsigned int i = 0; i < plan->changes && !err; i++)
				err = wake(s, way, &at[i]);
			if (err)
				return err == -EINTR ? err : runtime_complain(names[way], "wake", err);
			for (unsigned int line = 0; line < 2; line++) {
				struct bench_side_figures *f = &row[line].side[way];

				f->name = names[way];
				f->value.at[r] = bench_quantile(at, plan->changes, line ? 0.99 : 0.5);
				f->value.rounds = r + 1;
			}
		}
	}
	bench_report_row(plan->json, &row[0]);
	bench_report_row(plan->json, &row[1]);
	return 0;
}

static int sleepers_start(struct sleepers *s)
{
	int err = 0;

	for (unsigned int way = 0; way < WAYS && !err; way++) {
		s->pid[way] = runtime_fork();
		if (s->pid[way] == 0) {
			if (way == BY_FLAG)
				sleep_on_flags(s);
			sleep_on_pipe(s);
		}
		err = s->pid[way] < 0 ? -EAGAIN : await_sleeper(s, way);
	}
	return err && err != -EINTR ? runtime_complain("sleepers", "start", err) : err;
}

int runtime_wake_row(const struct runtime_plan *plan)
{
	struct sleepers s = { .pipe = { -1, -1 } };
	int err;

	if (!runtime_has(plan, "flag_wake"))
		return 0;
	s.bed = mmap(NULL, WAYS * sizeof(*s.bed), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s.bed == MAP_FAILED || pipe(s.pipe) != 0)
		return runtime_complain("sleepers", "prepare", -errno);
	err = runtime_world_make(&s.w, "wake", NULL, 0, 0);
	if (!err) {
		err = sleepers_start(&s);
		if (!err)
			err = rounds(plan, &s);
		for (unsigned int way = 0; way < WAYS; way++) {
			if (s.pid[way] <= 0)
				continue;
			kill(s.pid[way], SIGKILL);
			waitpid(s.pid[way], NULL, 0);
		}
		runtime_world_end(&s.w);
	}
	close(s.pipe[0]);
	close(s.pipe[1]);
	munmap(s.bed, WAYS * sizeof(*s.bed));
	return err;
}
