// SPDX-License-Identifier: MIT
/*
 * The table beside liburcu's hash table and beside the floor, in one run: see bench_rows.c for how it is
 * measured, bench_goals.c for what it is to reach.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "bench_run.h"

enum { EXIT_WRONG = 1, EXIT_OPEN = 3 };

volatile sig_atomic_t bench_interrupted;

static void on_signal(int sig)
{
	bench_interrupted = sig;
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

	for (unsigned int w = 1; w <= most && !err; w++)
		err = bench_crew_start(&b->forked[w - 1], ours->contender, ours->table, &b->data, w);
	if (!err)
		err = bench_crew_start(&b->alone, &bench_ours_calls, ours->table, &b->data, 1);
	return err ? bench_complain(ours->contender->name, "start workers", err) : 0;
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
	return err ? bench_complain(s->contender->name, "start workers", err) : 0;
}

static int crews_start(struct bench *b, unsigned int workers)
{
	struct bench_order warm = { .op = BENCH_RUN, .count = 8 * b->data.entries };
	int err = 0;

	if (warm.count > b->data.seq[BENCH_UNIFORM][0].length)
		warm.count = b->data.seq[BENCH_UNIFORM][0].length;
	b->workers = workers;
	b->sides = workers == 1 ? SIDES : APART;
	for (unsigned int i = 0; i < b->sides && !err; i++)
		err = crew_start(b, &b->side[i], workers);
	for (unsigned int i = 0; i < b->sides && !err; i++)
		err = bench_order_one(b, &b->side[i], warm, NULL);
	return err;
}

static int with_workers(struct bench *b, unsigned int workers, bool first)
{
	int err = crews_start(b, workers);

	if (!err && first && workers == 1)
		err = bench_core_rows(b);
	if (!err)
		err = bench_table_rows(b, BENCH_UNIFORM);
	if (!err && b->plan.full)
		err = bench_table_rows(b, BENCH_ZIPF);
	if (!err && workers == 2)
		err = bench_scaling_row(b);
	if (!err)
		err = bench_churn_rows(b);
	crews_stop(b);
	return err;
}

static int tables_create(struct bench *b, unsigned int most)
{
	static const struct bench_contender *const contenders[SIDES] = {
		[OURS] = &bench_ours,
		[MEMB] = &bench_lfht_memb,
		[CALLS] = &bench_lfht_memb_calls,
		[QSBR] = &bench_lfht_qsbr,
		[FLOOR] = &bench_floor,
		[APART] = &bench_floor_apart,
	};
	int err = 0;

	for (unsigned int i = 0; i < SIDES && !err; i++) {
		b->side[i] = (struct side){ .contender = contenders[i] };
		err = contenders[i]->create(&b->data, &b->side[i].table);
		if (err)
			bench_complain(contenders[i]->name, "create", err);
		if (!err && i == OURS)
			err = crews_fork(b, &b->side[i], most);
		if (!err && bench_interrupted)
			err = -EINTR;
	}
	return err;
}

static int with_entries(struct bench *b, uint64_t entries, bool first)
{
	unsigned int most = b->plan.full ? BENCH_WORKERS_MAX : 1;
	int err = bench_data_make(&b->data, entries, most, b->plan.full);

	if (err)
		return bench_complain("harness", "prepare the keys", err);
	b->generation = 0;
	err = tables_create(b, most);
	if (!err)
		err = bench_bytes_row(b);
	for (unsigned int workers = 1; workers <= most && !err; workers++)
		err = with_workers(b, workers, first);
	if (!err && first && b->plan.variant)
		err = bench_variant_row(b); /* forks: see crews_fork() */
	for (unsigned int w = 0; w < most; w++)
		bench_crew_stop(&b->forked[w]);
	bench_crew_stop(&b->alone);
	for (unsigned int i = 0; i < SIDES; i++)
		if (b->side[i].table)
			b->side[i].contender->destroy(b->side[i].table);
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
			bench_complain("variant", "load", err);
			return EXIT_OPEN;
		}
	}
#ifndef __OPTIMIZE__
	fprintf(stderr, "bench_table: built without optimisation: the figures mean little\n");
#endif
	catch_signals();
	bench_remove_stale();
	bench_report_begin(b.plan.json, bench_library_version(), NULL);
	err = bench_lock_row(&b.plan);
	for (unsigned int i = 0; i < b.plan.sizes && !err && bench_plan_has_tables(&b.plan); i++)
		err = with_entries(&b, b.plan.entries[i], i == 0);
	if (!err && b.plan.full)
		err = bench_growth_rows(&b);
	if (!err)
		bench_report_end(b.plan.json);
	if (bench_interrupted) {
		/* In order by now: end as the signal would have ended us. */
		signal(bench_interrupted, SIG_DFL);
		raise(bench_interrupted);
	}
	if (err)
		return err == -EBADMSG ? EXIT_WRONG : EXIT_OPEN;
	return 0;
}
