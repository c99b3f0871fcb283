// SPDX-License-Identifier: MIT
/* Rows that have nothing to do with a table's size: sections, grace periods, the probe, the lock. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench_run.h"

#define PROBE_ROUNDS 20
#define GRACE_SETTLE_NS 20000000

/* Read section begin + end, from <foundation/read.h> and by calls. */
static int section_row(struct bench *b, const char *name, const struct bench_contender *ours,
		       struct side *sides, unsigned int count)
{
	struct bench_row row = {
		.bench = name, .dist = "none", .mix = "100/0", .procs = 1,
	};
	struct bench_order order = { .op = BENCH_SECTIONS };
	int err;

	if (!bench_plan_has(&b->plan, name))
		return 0;
	for (unsigned int i = 0; i < count; i++)
		row.side[i].name = sides[i].contender->scheme;
	row.side[OURS].name = ours->scheme;
	err = bench_measure(b, &row, order, sides, count, b->plan.rounds);
	if (!err)
		bench_report_row(b->plan.json, &row);
	return err;
}

static int section_rows(struct bench *b)
{
	struct side called[2] = { b->side[OURS], b->side[CALLS] };
	int err = section_row(b, "read_section", &bench_ours, b->side, APART);

	if (err || !bench_plan_has(&b->plan, "section_calls"))
		return err;
	called[OURS].contender = &bench_ours_calls;
	called[OURS].crew = b->alone;
	return section_row(b, "section_calls", &bench_ours_calls, called, 2);
}

/* Grace periods for the time of a stretch, while the side's worker reads without a pause. */
static int grace_round(struct bench *b, struct side *s, double *ret_p50, double *ret_p99)
{
	const struct timespec settle = { .tv_nsec = GRACE_SETTLE_NS };
	struct bench_order spin = { .op = BENCH_SPIN };
	double sample[BENCH_SAMPLES_MAX];
	uint64_t start, before, now;
	size_t count = 0;
	int err;

	if (bench_interrupted)
		return -EINTR;
	err = bench_crew_order(&s->crew, &spin);
	if (err)
		return bench_complain(s->contender->name, "grace", err);
	bench_pin(0);
	nanosleep(&settle, NULL);
	start = before = bench_now_ns();
	while (!err && count < BENCH_SAMPLES_MAX && before - start < b->plan.time_ms * UINT64_C(1000000)) {
		err = s->contender->grace(s->table);
		now = bench_now_ns();
		sample[count++] = (double)(now - before);
		before = now;
	}
	bench_unpin();
	*ret_p50 = bench_quantile(sample, count, 0.5);
	*ret_p99 = bench_quantile(sample, count, 0.99);
	if (err)
		bench_complain(s->contender->name, "grace", err);
	return err ? err : bench_verify(b, s); /* ends the reading, and says whether it went well */
}

static int grace_rows(struct bench *b)
{
	static const unsigned int of[] = { OURS, MEMB, QSBR, FLOOR };
	enum { COUNT = sizeof(of) / sizeof(of[0]) };
	/* procs: the reader and who waits for it */
	struct bench_row p50 = bench_row_of(b, "grace_period", BENCH_UNIFORM, "100/0", 2), p99;
	int err = 0;

	if (!bench_plan_has(&b->plan, "grace_period") && !bench_plan_has(&b->plan, "grace_p99"))
		return 0;
	p50.sides = COUNT;
	p99 = p50;
	p99.bench = "grace_p99";
	for (unsigned int r = 0; r < b->plan.rounds && !err; r++) {
		for (unsigned int i = 0; i < COUNT && !err; i++) {
			struct side *s = &b->side[of[i]];

			p50.side[i].name = p99.side[i].name = s->contender->scheme;
			err = grace_round(b, s, &p50.side[i].value.at[r], &p99.side[i].value.at[r]);
			p50.side[i].value.rounds = p99.side[i].value.rounds = r + 1;
		}
	}
	if (!err) {
		bench_report_row(b->plan.json, &p50);
		bench_report_row(b->plan.json, &p99);
	}
	return err;
}

/* Our lookup over more rounds: an interval, to compare with one of --variant-of. */
static int probe_row(struct bench *b)
{
	struct bench_row row = bench_row_of(b, "probe_detached", BENCH_UNIFORM, "100/0", 1);
	struct side sides[] = { b->side[OURS], b->side[MEMB], b->side[FLOOR] };
	struct bench_order order = { .op = BENCH_RUN };
	int err;

	if (!bench_plan_has(&b->plan, row.bench))
		return 0;
	err = bench_measure(b, &row, order, sides, 3, PROBE_ROUNDS);
	if (!err)
		bench_report_row(b->plan.json, &row);
	return err;
}

/* The library we are linked with beside another build of it, both called through pointers. */
int bench_variant_row(struct bench *b)
{
	struct bench_row row = bench_row_of(b, "variant", BENCH_UNIFORM, "100/0", 1);
	struct side sides[2] = { { .contender = &bench_linked }, { .contender = &bench_variant } };
	struct bench_order order = { .op = BENCH_RUN };
	int err = 0;

	for (unsigned int i = 0; i < 2 && !err; i++) {
		err = sides[i].contender->create(&b->data, &sides[i].table);
		if (!err)
			err = bench_crew_start(&sides[i].crew, sides[i].contender, sides[i].table,
					       &b->data, 1);
		if (err)
			bench_complain(sides[i].contender->name, "create", err);
	}
	if (!err)
		err = bench_measure(b, &row, order, sides, 2, PROBE_ROUNDS);
	if (!err)
		bench_report_row(b->plan.json, &row);
	for (unsigned int i = 0; i < 2; i++) {
		bench_crew_stop(&sides[i].crew);
		if (sides[i].table)
			sides[i].contender->destroy(sides[i].table);
	}
	return err;
}

/* What a record takes beyond key and value, index included, in a table just filled to its capacity. */
int bench_bytes_row(struct bench *b)
{
	static const unsigned int of[] = { OURS, MEMB, FLOOR };
	enum { COUNT = sizeof(of) / sizeof(of[0]) };
	struct bench_row row = bench_row_of(b, "record_bytes", BENCH_UNIFORM, "100/0", 1);
	uint64_t bytes, records;
	int err;

	if (!bench_plan_has(&b->plan, row.bench))
		return 0;
	row.dist = row.mix = "none";
	row.unit = "bytes";
	row.sides = COUNT;
	for (unsigned int i = 0; i < COUNT; i++) {
		const struct side *s = &b->side[of[i]];

		err = s->contender->bytes(s->table, &bytes, &records);
		if (!err && records != b->data.entries)
			err = -EBADMSG;
		if (err)
			return bench_complain(s->contender->name, "count", err);
		row.side[i].name = s->contender->name;
		row.side[i].value.at[0] = (double)bytes / (double)records -
					  (double)(sizeof(struct bench_key) + sizeof(struct bench_value));
		row.side[i].value.rounds = 1;
	}
	bench_report_row(b->plan.json, &row);
	return 0;
}

static _Noreturn void lock_program(const struct bench_plan *plan, pid_t parent)
{
	char path[4096], rounds[16], time_ms[16];
	const char *args[] = { path, "--row", "--rounds", rounds, "--time", time_ms,
			       plan->json ? "--json" : NULL, NULL };
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - sizeof("bench_lock"));

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || n < 0)
		_exit(127);
	path[n] = '\0';
	strcpy(strrchr(path, '/') + 1, "bench_lock");
	snprintf(rounds, sizeof(rounds), "%u", plan->rounds);
	snprintf(time_ms, sizeof(time_ms), "%u", plan->time_ms);
	execv(path, (char **)args);
	_exit(127);
}

/*
 * The lock is no part of the public interface: a program of its own, linked with the library's insides,
 * prints that row. Its exit status says whether the goal was reached (0) or not (1).
 */
int bench_lock_row(const struct bench_plan *plan)
{
	pid_t parent = getpid(), pid;
	int status;

	if (!bench_plan_has(plan, "lock"))
		return 0;
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		lock_program(plan, parent);
	if (pid < 0)
		return bench_complain("bench_lock", "start", -errno);
	while (waitpid(pid, &status, 0) < 0)
		if (bench_interrupted)
			kill(pid, SIGKILL);
	if (bench_interrupted)
		return -EINTR;
	if (!WIFEXITED(status) || WEXITSTATUS(status) > 1)
		return bench_complain("bench_lock", "run the program beside this one", -ECHILD);
	bench_report_count(1, WEXITSTATUS(status) == 0);
	return 0;
}

int bench_core_rows(struct bench *b)
{
	int err = section_rows(b);

	if (!err)
		err = grace_rows(b);
	if (!err)
		err = probe_row(b);
	return err;
}
