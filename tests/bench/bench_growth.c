// SPDX-License-Identifier: MIT
/*
 * Rows of growth: the longest time between two accesses of a reader, and of the writer, while the table
 * under them grows a thousandfold. Beside it what the machine does by itself: the longest gap of a loop
 * that does nothing, in the same two workers, for as long, right after. Every record that was there when
 * a lookup began must be found, and all of them in the end.
 */
#include <errno.h>
#include <sys/mman.h>

#include "bench_run.h"

#define GROW_FACTOR 1000
#define GROW_FROM_LEAST 16
#define GROW_ROUNDS 3

enum { WRITER = 0, READER = 1, ROLES = BENCH_WORKERS_MAX };
enum { GROW_OURS, GROW_PEER, GROW_IDLE };

struct growth {
	struct bench *b;
	struct bench_data data;
	struct bench_row row[ROLES];
	unsigned int round;
};

static void note(struct growth *g, unsigned int side, const struct bench_answer answer[])
{
	for (unsigned int role = 0; role < ROLES; role++) {
		struct bench_side_figures *f = &g->row[role].side[side];

		f->value.at[g->round] = answer[role].longest_ns;
		f->tail.at[g->round] = answer[role].p9999_ns;
		f->value.rounds = f->tail.rounds = g->round + 1;
	}
}

/* Ours has its empty loop measured too, at once. */
static int grow(struct growth *g, struct side *s, unsigned int side)
{
	struct bench_order order = { .op = BENCH_GROW }, all = { .op = BENCH_VERIFY };
	struct bench_answer answer[BENCH_WORKERS_MAX];
	int err = bench_order_one(g->b, s, order, answer);

	if (err)
		return err;
	note(g, side, answer);
	if (side == GROW_OURS) {
		order.op = BENCH_IDLE;
		order.count = answer[WRITER].end_ns - answer[WRITER].start_ns;
		err = bench_order_one(g->b, s, order, answer);
		if (!err)
			note(g, GROW_IDLE, answer);
	}
	return err ? err : bench_order_one(g->b, s, all, NULL);
}

static int check_count(const struct growth *g, const struct side *s)
{
	uint64_t bytes, records;
	int err = s->contender->bytes(s->table, &bytes, &records);

	return err ? err : records == g->data.grows_to ? 0 : -EBADMSG;
}

/* A new table each time; ours are gone before the peer's are made: see crews_fork(). */
static int grow_new(struct growth *g, const struct bench_contender *contender, unsigned int side)
{
	struct side s = { .contender = contender };
	int err = bench_interrupted ? -EINTR : contender->create(&g->data, &s.table);

	if (err)
		return bench_complain(contender->name, "create", err);
	*g->data.board = (struct bench_board){ .filled = g->data.entries }; /* workers start later */
	err = bench_crew_start(&s.crew, contender, s.table, &g->data, ROLES);
	if (err)
		bench_complain(contender->name, "start workers", err);
	else
		err = grow(g, &s, side);
	bench_crew_stop(&s.crew);
	if (!err && check_count(g, &s))
		err = bench_complain(contender->name, "count", -EBADMSG);
	contender->destroy(s.table);
	return err;
}

static void name_rows(struct growth *g)
{
	static const char *const names[ROLES] = { [WRITER] = "growth_writer", [READER] = "growth_reader" };

	for (unsigned int role = 0; role < ROLES; role++) {
		struct bench_row *row = &g->row[role];

		row->bench = names[role];
		row->entries = g->data.grows_to;
		row->dist = "uniform";
		row->mix = "100/0";
		row->procs = ROLES;
		row->tail = "p9999";
		row->sides = 3;
		row->side[GROW_OURS].name = bench_ours.name;
		row->side[GROW_PEER].name = bench_lfht_memb.name;
		row->side[GROW_IDLE].name = "empty-loop";
	}
}

static int grow_rounds(struct growth *g)
{
	int err = 0;

	for (g->round = 0; g->round < GROW_ROUNDS && !err; g->round++) {
		err = grow_new(g, &bench_ours, GROW_OURS);
		if (!err)
			err = grow_new(g, &bench_lfht_memb, GROW_PEER);
	}
	return err;
}

int bench_growth_rows(struct bench *b)
{
	struct growth g = { .b = b };
	uint64_t to = b->plan.grow_to, from = to / GROW_FACTOR;
	int err;

	if (!bench_plan_has(&b->plan, "growth_reader") && !bench_plan_has(&b->plan, "growth_writer"))
		return 0;
	b->generation = 0; /* of all that is written here */
	err = bench_data_make(&g.data, from > GROW_FROM_LEAST ? from : GROW_FROM_LEAST, ROLES, false);
	if (err)
		return bench_complain("harness", "prepare the keys", err);
	g.data.grows_to = to;
	g.data.board = mmap(NULL, sizeof(*g.data.board), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (g.data.board == MAP_FAILED)
		err = bench_complain("harness", "map the board", -ENOMEM);
	name_rows(&g);
	if (!err)
		err = grow_rounds(&g);
	if (!err) {
		bench_report_row(b->plan.json, &g.row[READER]);
		bench_report_row(b->plan.json, &g.row[WRITER]);
	}
	if (g.data.board != MAP_FAILED)
		munmap(g.data.board, sizeof(*g.data.board));
	bench_data_free(&g.data);
	return err;
}
