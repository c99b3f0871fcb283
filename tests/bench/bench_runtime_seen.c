// SPDX-License-Identifier: MIT
/*
 * Rows of what others see: a flag switched off and read by every worker, each a process that reads in a loop;
 * an emergency rollback, by a call that knows the segment's name alone; a worker asleep that is woken. Beside a
 * plain word in shared memory, and a byte through a pipe.
 *
 * Time starts before the call that changes, so what the call does before its store counts against us. A
 * worker takes the time before every read, and again after one that is new. On a machine with more workers
 * than processors some are not running when the store is made: they see it when they run again, so there the
 * beginning of the last old read is what tells ("crowd"); "running" has one worker less than processors.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench_runtime.h"

#define FLAG FND_FLAG_SHARED_ERROR_CONTEXT
#define WORKERS_MAX 8u
#define CROWD 4u
#define PACE_US 500
#define SEEN_TIMEOUT_NS UINT64_C(20000000000) /* guard against a worker that is gone */

enum { BY_FLAG, BY_WORD, WAYS };

/* What one worker has seen of one way. */
struct sight {
	uint64_t last_old_ns, first_new_ns;
	uint64_t changes; /* seen so far; atomic, last */
};

struct board {
	uint64_t word __attribute__((aligned(64))); /* the plain one */
	uint64_t stop __attribute__((aligned(64)));
	struct {
		struct sight by[WAYS] __attribute__((aligned(64)));
		uint64_t ready;
	} worker[WORKERS_MAX];
};

struct crew {
	struct runtime_world w;
	struct board *board;
	unsigned int workers;
	pid_t pid[WORKERS_MAX];
	uint64_t made[WAYS]; /* changes so far */
	struct samples {
		double seen[BENCH_SAMPLES_MAX], stale[BENCH_SAMPLES_MAX];
		unsigned int count;
	} samples[WAYS];
};

/* --- a worker ------------------------------------------------------------------------------------------- */

static void note(struct sight *s, uint64_t last_old_ns)
{
	s->first_new_ns = bench_now_ns();
	s->last_old_ns = last_old_ns;
	__atomic_store_n(&s->changes, s->changes + 1, __ATOMIC_RELEASE);
}

static void watch(struct crew *c, struct fnd_flags *flags, struct sight by[WAYS])
{
	uint64_t word = __atomic_load_n(&c->board->word, __ATOMIC_RELAXED), before = bench_now_ns();
	int flag = fnd_flag_enabled(flags, FLAG);

	while (!__atomic_load_n(&c->board->stop, __ATOMIC_RELAXED)) {
		uint64_t now = bench_now_ns();
		int flag_now = fnd_flag_enabled(flags, FLAG);
		uint64_t word_now = __atomic_load_n(&c->board->word, __ATOMIC_RELAXED);

		if (flag_now != flag)
			note(&by[BY_FLAG], before);
		if (word_now != word)
			note(&by[BY_WORD], before);
		flag = flag_now;
		word = word_now;
		before = now;
	}
}

static _Noreturn void worker_main(struct crew *c, unsigned int number)
{
	struct fnd_segment *seg;
	struct fnd_flags *flags;

	if (fnd_segment_attach(c->w.name, NULL, &seg) != 0 || fnd_flags_open(seg, &flags) != 0)
		_exit(1);
	if (c->workers < CROWD)
		bench_pin(number + 1);
	__atomic_store_n(&c->board->worker[number].ready, 1, __ATOMIC_RELEASE);
	watch(c, flags, c->board->worker[number].by);
	fnd_flags_close(flags);
	fnd_segment_detach(seg);
	_exit(0);
}

pid_t runtime_fork(void)
{
	pid_t parent = getpid(), pid = fork();

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	signal(SIGINT, SIG_IGN); /* the terminal sends it to all; the parent ends us in order */
	signal(SIGHUP, SIG_IGN);
	signal(SIGTERM, SIG_DFL);
	return 0;
}

/* --- who changes ----------------------------------------------------------------------------------------- */

static int await_all(const struct crew *c, unsigned int way)
{
	uint64_t deadline = bench_now_ns() + SEEN_TIMEOUT_NS;

	for (unsigned int i = 0; i < c->workers; i++) {
		const uint64_t *changes = &c->board->worker[i].by[way].changes;

		while (__atomic_load_n(changes, __ATOMIC_ACQUIRE) != c->made[way]) { /* pairs with note() */
			if (bench_interrupted)
				return -EINTR;
			if (bench_now_ns() > deadline)
				return -ETIMEDOUT;
			if (c->workers >= CROWD)
				usleep(100); /* every processor is wanted by a worker */
		}
	}
	return 0;
}

/* In the last of the workers; not below 1 ns, which is "not at all" where it is about old reads. */
static void take_sample(struct crew *c, unsigned int way, uint64_t from)
{
	struct samples *to = &c->samples[way];
	uint64_t seen = from + 1, stale = from + 1;

	for (unsigned int i = 0; i < c->workers; i++) {
		const struct sight *s = &c->board->worker[i].by[way];

		seen = s->first_new_ns > seen ? s->first_new_ns : seen;
		stale = s->last_old_ns > stale ? s->last_old_ns : stale;
	}
	to->seen[to->count] = (double)(seen - from);
	to->stale[to->count++] = (double)(stale - from);
}

static int switch_on(struct crew *c)
{
	struct fnd_flag_change change = { FLAG, 100 };
	int err = fnd_flags_change(c->w.flags, &change, 1, -1, NULL);

	c->made[BY_FLAG]++;
	return err ? err : await_all(c, BY_FLAG);
}

static int by_flag(struct crew *c)
{
	struct fnd_flag_change change = { FLAG, 0 };
	int err = switch_on(c);
	uint64_t from;

	if (err)
		return err;
	c->made[BY_FLAG]++;
	from = bench_now_ns();
	err = fnd_flags_change(c->w.flags, &change, 1, -1, NULL);
	if (!err)
		err = await_all(c, BY_FLAG);
	take_sample(c, BY_FLAG, from);
	return err;
}

static int by_emergency(struct crew *c)
{
	int err = switch_on(c);
	uint64_t from;

	if (err)
		return err;
	c->made[BY_FLAG]++;
	from = bench_now_ns();
	err = fnd_flags_emergency(c->w.name, NULL, NULL);
	if (!err)
		err = await_all(c, BY_FLAG);
	take_sample(c, BY_FLAG, from);
	return err;
}

static int by_word(struct crew *c)
{
	uint64_t from;
	int err;

	usleep(PACE_US); /* about what a change of flags waits for its disk: workers come and go meanwhile */
	c->made[BY_WORD]++;
	from = bench_now_ns();
	__atomic_store_n(&c->board->word, c->made[BY_WORD], __ATOMIC_RELEASE); /* as the flags' */
	err = await_all(c, BY_WORD);
	take_sample(c, BY_WORD, from);
	return err;
}

/* --- rows ------------------------------------------------------------------------------------------------- */

enum { SEEN, SEEN_P99, STALE, STALE_P99, LINES };

struct way {
	const char *name;
	int (*change)(struct crew *c);
};

/* The sides in turn, change by change. */
static int one_round(const struct runtime_plan *plan, struct crew *c, const struct way ways[WAYS],
		     struct bench_row row[LINES], unsigned int round)
{
	int err = 0;

	c->samples[BY_FLAG].count = c->samples[BY_WORD].count = 0;
	for (unsigned int i = 0; i < plan->changes * WAYS && !err; i++) {
		err = ways[i % WAYS].change(c);
		if (err && err != -EINTR)
			runtime_complain(ways[i % WAYS].name, "change", err);
	}
	for (unsigned int i = 0; i < LINES * WAYS && !err; i++) {
		const struct samples *from = &c->samples[i % WAYS];
		unsigned int line = i / WAYS;
		struct bench_side_figures *f = &row[line].side[i % WAYS];

		f->name = ways[i % WAYS].name;
		f->value.at[round] = bench_quantile(line < STALE ? from->seen : from->stale, from->count,
						    line % 2 ? 0.99 : 0.5);
		f->value.rounds = round + 1;
	}
	return err;
}

static int rounds(const struct runtime_plan *plan, struct crew *c, const char *name, int (*change)(struct crew *c))
{
	const struct way ways[WAYS] = { [BY_FLAG] = { "ours", change }, [BY_WORD] = { "plain-word", by_word } };
	struct bench_row row[LINES];
	int err = 0;

	for (unsigned int line = 0; line < LINES; line++)
		row[line] = (struct bench_row){ .bench = line < STALE ? name : "flag_stale",
						.dist = c->workers >= CROWD ? "crowd" : "running",
						.mix = line % 2 ? "p99" : "p50",
						.procs = c->workers,
						.sides = WAYS };
	for (unsigned int r = 0; r < plan->rounds && !err; r++)
		err = one_round(plan, c, ways, row, r);
	/* The emergency's old reads begin before its store: its call opens the segment first. */
	for (unsigned int line = 0; line < LINES && !err; line++)
		if (runtime_has(plan, row[line].bench) && (line < STALE || change == by_flag))
			bench_report_row(plan->json, &row[line]);
	return err;
}

static int crew_start(struct crew *c)
{
	uint64_t deadline = bench_now_ns() + SEEN_TIMEOUT_NS;

	for (unsigned int i = 0; i < c->workers; i++) {
		c->pid[i] = runtime_fork();
		if (c->pid[i] == 0)
			worker_main(c, i);
		if (c->pid[i] < 0)
			return -EAGAIN;
	}
	for (unsigned int i = 0; i < c->workers; i++)
		while (!__atomic_load_n(&c->board->worker[i].ready, __ATOMIC_ACQUIRE)) {
			if (bench_interrupted)
				return -EINTR;
			if (bench_now_ns() > deadline)
				return -ETIMEDOUT;
			usleep(1000);
		}
	usleep(20000); /* all of them have read once */
	return 0;
}

static void crew_stop(struct crew *c)
{
	__atomic_store_n(&c->board->stop, 1, __ATOMIC_RELEASE);
	for (unsigned int i = 0; i < c->workers; i++)
		if (c->pid[i] > 0)
			waitpid(c->pid[i], NULL, 0);
}

static int with_crew(const struct runtime_plan *plan, unsigned int workers)
{
	static struct crew c;
	int err;

	c = (struct crew){ .workers = workers };
	c.board = mmap(NULL, sizeof(*c.board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (c.board == MAP_FAILED)
		return runtime_complain("board", "map", -ENOMEM);
	err = runtime_world_make(&c.w, "seen", NULL, 0, 0);
	if (!err) {
		if (workers < CROWD)
			bench_pin(0);
		err = crew_start(&c);
		if (err && err != -EINTR)
			runtime_complain("workers", "start", err);
		if (!err && (runtime_has(plan, "flag_seen") || runtime_has(plan, "flag_stale")))
			err = rounds(plan, &c, "flag_seen", by_flag);
		if (!err && runtime_has(plan, "flag_emergency") && workers < CROWD)
			err = rounds(plan, &c, "flag_emergency", by_emergency);
		crew_stop(&c);
		bench_unpin();
		runtime_world_end(&c.w);
	}
	munmap(c.board, sizeof(*c.board));
	return err;
}

int runtime_seen_rows(const struct runtime_plan *plan)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned int running = cores > CROWD ? CROWD - 1 : cores > 1 ? (unsigned int)cores - 1 : 1;
	int err = 0;

	if (runtime_has(plan, "flag_seen") || runtime_has(plan, "flag_stale") || runtime_has(plan, "flag_emergency"))
		err = with_crew(plan, running);
	if (!err && (runtime_has(plan, "flag_seen") || runtime_has(plan, "flag_stale")))
		err = with_crew(plan, CROWD);
	return err ? err : runtime_wake_row(plan);
}
