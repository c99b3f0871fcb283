// SPDX-License-Identifier: MIT
/*
 * Lookups and replaces beside liburcu's hash table and beside the floor, in one run.
 *
 * Rounds go ours, peer, floor, ours, peer, floor …, so that drift of the machine meets all alike; the
 * figure is the median of the rounds. Every value read is checked: by a sum over each timed stretch, and
 * word by word on a sample between the stretches.
 */
#include <errno.h>
#include <foundation/error.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench_crew.h"
#include "bench_options.h"
#include "bench_report.h"
#include "bench_util.h"

#define PROBE_ROUNDS 20
#define CALIBRATION_OPS 2048
#define GRACE_SETTLE_NS 20000000

enum { EXIT_WRONG = 1, EXIT_OPEN = 3 };

/* floor_apart last: it is left out where two workers run. */
enum { OURS = 0, PEER = 1, FLOOR = 2, APART = 3, SIDES = 4 };

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
	unsigned int sides, workers;
	uint64_t generation; /* of the values being written */
};

volatile sig_atomic_t bench_interrupted;

static void on_signal(int sig)
{
	bench_interrupted = sig;
}

static int complain(const char *who, const char *what, int err)
{
	const char *detail = bench_library_detail();

	if (err == -EINTR)
		return err;
	fprintf(stderr, "bench_table: %s: %s: %s%s%s%s\n", who, what,
		err == -EBADMSG ? "a value read is not the one written" : fnd_strerror(err),
		*detail ? " (" : "", detail, *detail ? ")" : "");
	return err;
}

/* One order for one crew; the nanoseconds an operation took by the wall clock. */
static int timed(struct bench *b, struct side *s, struct bench_order order, double *ret_ns)
{
	struct bench_answer answer;
	int err;

	if (bench_interrupted)
		return -EINTR;
	if (order.write_percent > 0)
		order.generation = ++b->generation;
	err = bench_crew_do(&s->crew, &order, &answer);
	if (err)
		return complain(s->contender->name, "run", err);
	*ret_ns = (double)(answer.end_ns - answer.start_ns) / (double)order.count;
	return 0;
}

static int verify(struct bench *b, struct side *s)
{
	struct bench_order order = { .op = BENCH_VERIFY, .generation = b->generation };
	struct bench_answer answer;
	int err = bench_crew_do(&s->crew, &order, &answer);

	return err ? complain(s->contender->name, "verify", err) : 0;
}

/* How many operations fill the time of a stretch; the last trial is as long as that, to warm up. */
static int calibrate(struct bench *b, struct side *s, struct bench_order order, uint64_t *ret_count)
{
	double ns = 0, wanted = b->plan.time_ms * 1e6;
	int err;

	order.count = CALIBRATION_OPS;
	err = timed(b, s, order, &ns);
	for (unsigned int i = 0; i < 2 && !err; i++) {
		order.count = (uint64_t)(wanted / (ns > 0.1 ? ns : 0.1)) + 1;
		err = timed(b, s, order, &ns);
	}
	if (!err)
		*ret_count = (uint64_t)(wanted / (ns > 0.1 ? ns : 0.1)) + 1;
	return err;
}

static int measure(struct bench *b, struct bench_row *row, struct bench_order order,
		   struct side *sides, unsigned int count, unsigned int rounds)
{
	struct bench_series *series[SIDES] = { &row->ours, &row->peers, &row->floor,
					       &row->floor_apart };
	uint64_t ops[SIDES];
	int err = 0;

	for (unsigned int i = 0; i < count && !err; i++)
		err = calibrate(b, &sides[i], order, &ops[i]);
	for (unsigned int r = 0; r < rounds && !err; r++) {
		for (unsigned int i = 0; i < count && !err; i++) {
			order.count = ops[i];
			err = timed(b, &sides[i], order, &series[i]->ns[r]);
			if (!err)
				err = verify(b, &sides[i]);
			series[i]->rounds = r + 1;
		}
	}
	if (!err)
		bench_report_row(b->plan.json, row);
	return err;
}

static void crews_stop(struct bench *b)
{
	for (unsigned int i = 0; i < b->sides; i++)
		bench_crew_stop(&b->side[i].crew);
}

/*
 * Our processes are forked before there is any other table: forked later, they would hold its pages,
 * and each first write of the peer to one of them would copy it (7,000 ns a replace instead of 1,000).
 */
static int crews_fork(struct bench *b, const struct side *ours, unsigned int most)
{
	int err = 0;

	for (unsigned int w = 1; w <= most && !err; w++) {
		err = bench_crew_start(&b->forked[w - 1], ours->contender, ours->table, &b->data, w);
		if (err)
			complain(ours->contender->name, "start workers", err);
	}
	return err;
}

static int crew_start(struct bench *b, struct side *s, unsigned int workers)
{
	int err;

	if (s->contender->processes) {
		s->crew = b->forked[workers - 1];
		b->forked[workers - 1].size = 0;
		return 0;
	}
	err = bench_crew_start(&s->crew, s->contender, s->table, &b->data, workers);
	return err ? complain(s->contender->name, "start workers", err) : 0;
}

static int crews_start(struct bench *b, unsigned int workers)
{
	struct bench_order warm = { .op = BENCH_RUN, .count = 8 * b->data.entries };
	double ns;
	int err = 0;

	if (warm.count > b->data.seq[BENCH_UNIFORM][0].length)
		warm.count = b->data.seq[BENCH_UNIFORM][0].length;
	b->workers = workers;
	b->sides = workers == 1 ? SIDES : APART;
	for (unsigned int i = 0; i < b->sides && !err; i++)
		err = crew_start(b, &b->side[i], workers);
	for (unsigned int i = 0; i < b->sides && !err; i++)
		err = timed(b, &b->side[i], warm, &ns);
	return err;
}

static int row_of(struct bench *b, const char *name, enum bench_dist dist, const char *mix,
		  unsigned int write_percent, unsigned int rounds)
{
	struct bench_row row = {
		.bench = name,
		.entries = b->data.entries,
		.dist = dist == BENCH_ZIPF ? "zipf" : "uniform",
		.mix = mix,
		.procs = b->workers,
		.peer = b->side[PEER].contender->name,
	};
	struct bench_order order = {
		.op = BENCH_RUN,
		.dist = dist,
		.write_percent = write_percent,
	};

	return measure(b, &row, order, b->side, b->sides, rounds);
}

/* Rows of one distribution; lookups first, while records lie as they were put in. */
static int table_rows(struct bench *b, enum bench_dist dist)
{
	unsigned int rounds = b->plan.rounds;
	int err = row_of(b, "lookup", dist, "100/0", 0, rounds);

	if (!err && b->plan.full)
		err = row_of(b, "mixed", dist, "95/5", 5, rounds);
	if (!err && b->plan.full)
		err = row_of(b, "mixed", dist, "50/50", 50, rounds);
	if (!err)
		err = row_of(b, "replace", dist, "100/0", 100, rounds);
	return err;
}

static int section_row(struct bench *b, const struct bench_contender *peer)
{
	struct bench_row row = {
		.bench = "read_section", .dist = "none", .mix = "100/0", .procs = 1,
		.peer = peer == &bench_lfht ? "urcu-memb" : peer->name,
	};
	struct bench_order order = { .op = BENCH_SECTIONS };
	struct side sides[3] = { b->side[OURS], b->side[PEER], b->side[FLOOR] };
	int err;

	sides[PEER].contender = peer;
	err = bench_crew_start(&sides[PEER].crew, peer, b->side[PEER].table, &b->data, 1);
	if (err)
		return complain(peer->name, "start workers", err);
	err = measure(b, &row, order, sides, 3, b->plan.rounds);
	bench_crew_stop(&sides[PEER].crew);
	return err;
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
		return complain(s->contender->name, "grace", err);
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
		complain(s->contender->name, "grace", err);
	return err ? err : verify(b, s); /* ends the reading, and says whether it went well */
}

static int grace_row(struct bench *b)
{
	struct bench_row row = {
		.bench = "grace_period", .entries = b->data.entries, .dist = "uniform", .mix = "100/0", .procs = 2,
		.peer = "urcu-memb", /* procs: the reader and who waits for it */
	};
	struct bench_series *p50[] = { &row.ours, &row.peers, &row.floor };
	struct bench_series unused, *p99[] = { &row.ours_p99, &row.peers_p99, &unused };
	int err = 0;

	for (unsigned int r = 0; r < b->plan.rounds && !err; r++) {
		for (unsigned int i = 0; i <= FLOOR && !err; i++) {
			err = grace_round(b, &b->side[i], &p50[i]->ns[r], &p99[i]->ns[r]);
			p50[i]->rounds = p99[i]->rounds = r + 1;
		}
	}
	if (!err)
		bench_report_row(b->plan.json, &row);
	return err;
}

/* The library we are linked with beside another build of it, both called through pointers. */
static int variant_row(struct bench *b)
{
	struct bench_row row = {
		.bench = "variant", .entries = b->data.entries, .dist = "uniform", .mix = "100/0",
		.procs = 1, .peer = "variant",
	};
	struct side sides[2] = { { .contender = &bench_linked }, { .contender = &bench_variant } };
	struct bench_order order = { .op = BENCH_RUN };
	int err = 0;

	for (unsigned int i = 0; i < 2 && !err; i++) {
		err = sides[i].contender->create(&b->data, &sides[i].table);
		if (!err)
			err = bench_crew_start(&sides[i].crew, sides[i].contender, sides[i].table,
					       &b->data, 1);
		if (err)
			complain(sides[i].contender->name, "create", err);
	}
	if (!err)
		err = measure(b, &row, order, sides, 2, PROBE_ROUNDS);
	for (unsigned int i = 0; i < 2; i++) {
		bench_crew_stop(&sides[i].crew);
		if (sides[i].table)
			sides[i].contender->destroy(sides[i].table);
	}
	return err;
}

/* Rows that have nothing to do with the size; the smallest tables serve. */
static int core_rows(struct bench *b)
{
	int err = section_row(b, &bench_lfht);

	if (!err)
		err = section_row(b, &bench_urcu_inline);
	if (!err)
		err = grace_row(b);
	if (!err)
		err = row_of(b, "probe_detached", BENCH_UNIFORM, "100/0", 0, PROBE_ROUNDS);
	return err;
}

static int with_workers(struct bench *b, unsigned int workers, bool first)
{
	int err = crews_start(b, workers);

	if (!err && first && workers == 1)
		err = core_rows(b);
	if (!err)
		err = table_rows(b, BENCH_UNIFORM);
	if (!err && b->plan.full)
		err = table_rows(b, BENCH_ZIPF);
	crews_stop(b);
	return err;
}

static int with_entries(struct bench *b, uint64_t entries, bool first)
{
	static const struct bench_contender *const contenders[SIDES] = {
		&bench_ours, &bench_lfht, &bench_floor, &bench_floor_apart,
	};
	unsigned int most = b->plan.full ? BENCH_WORKERS_MAX : 1;
	int err = bench_data_make(&b->data, entries, most, b->plan.full);

	if (err)
		return complain("harness", "prepare the keys", err);
	for (unsigned int i = 0; i < SIDES && !err; i++) {
		b->side[i] = (struct side){ .contender = contenders[i] };
		err = contenders[i]->create(&b->data, &b->side[i].table);
		if (err)
			complain(contenders[i]->name, "create", err);
		if (!err && i == OURS)
			err = crews_fork(b, &b->side[i], most);
		if (!err && bench_interrupted)
			err = -EINTR;
	}
	for (unsigned int workers = 1; workers <= most && !err; workers++)
		err = with_workers(b, workers, first);
	if (!err && first && b->plan.variant)
		err = variant_row(b); /* forks: see crews_fork() */
	for (unsigned int w = 0; w < most; w++)
		bench_crew_stop(&b->forked[w]);
	for (unsigned int i = 0; i < SIDES; i++)
		if (b->side[i].table)
			contenders[i]->destroy(b->side[i].table);
	memset(b->side, 0, sizeof(b->side));
	bench_data_free(&b->data);
	return err;
}

static void catch_signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal };

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
}

int main(int argc, char **argv)
{
	struct bench b = { .generation = 0 };
	int err = 0;

	bench_options_parse(argc, argv, &b.plan);
	if (b.plan.variant) {
		err = bench_variant_load(b.plan.variant);
		if (err) {
			complain("variant", "load", err);
			return EXIT_OPEN;
		}
	}
#ifndef __OPTIMIZE__
	fprintf(stderr, "bench_table: built without optimisation: the figures mean little\n");
#endif
	catch_signals();
	bench_remove_stale();
	bench_report_begin(b.plan.json, bench_library_version());
	for (unsigned int i = 0; i < b.plan.sizes && !err; i++)
		err = with_entries(&b, b.plan.entries[i], i == 0);
	if (bench_interrupted) {
		/* In order by now: end as the signal would have ended us. */
		signal(bench_interrupted, SIG_DFL);
		raise(bench_interrupted);
	}
	if (err)
		return err == -EBADMSG ? EXIT_WRONG : EXIT_OPEN;
	return 0;
}
