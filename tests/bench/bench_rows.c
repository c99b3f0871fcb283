// SPDX-License-Identifier: MIT
/*
 * Measuring, and the rows of operations on tables.
 *
 * Rounds go ours, peer, peer, floor, ours, peer …, so that drift of the machine meets all alike; the
 * figure is the median of the rounds. Every value read is checked: by a sum over each timed stretch, and
 * word by word on a sample between the stretches.
 */
#include <errno.h>
#include <foundation/error.h>
#include <stdio.h>

#include "bench_run.h"

#define CALIBRATION_OPS 2048
#define CHURN_LONG 100000 /* entries from which a round of deletes and inserts takes long by itself */
#define CHURN_LONG_ROUNDS 3

int bench_complain(const char *who, const char *what, int err)
{
	const char *detail = bench_library_detail();

	if (err == -EINTR)
		return err;
	fprintf(stderr, "bench_table: %s: %s: %s%s%s%s\n", who, what,
		err == -EBADMSG ? "a value read is not the one written" : fnd_strerror(err),
		*detail ? " (" : "", detail, *detail ? ")" : "");
	return err;
}

int bench_order_one(struct bench *b, struct side *s, struct bench_order order,
		    struct bench_answer ret_answers[])
{
	int err;

	(void)b;
	if (bench_interrupted)
		return -EINTR;
	err = bench_crew_do(&s->crew, &order, ret_answers);
	return err ? bench_complain(s->contender->name, "run", err) : 0;
}

/* From the first worker's start to the last one's end. */
static int timed(struct bench *b, struct side *s, struct bench_order order, double *ret_ns)
{
	struct bench_answer answer[BENCH_WORKERS_MAX];
	uint64_t start = UINT64_MAX, end = 0;
	int err;

	if (order.write_percent > 0)
		order.generation = ++b->generation;
	err = bench_order_one(b, s, order, answer);
	if (err)
		return err;
	for (unsigned int i = 0; i < s->crew.size; i++) {
		start = answer[i].start_ns < start ? answer[i].start_ns : start;
		end = answer[i].end_ns > end ? answer[i].end_ns : end;
	}
	*ret_ns = (double)(end - start) / (double)order.count;
	return 0;
}

int bench_verify(struct bench *b, struct side *s)
{
	struct bench_order order = { .op = BENCH_VERIFY, .generation = b->generation };
	int err = bench_crew_do(&s->crew, &order, NULL);

	return err ? bench_complain(s->contender->name, "verify", err) : 0;
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

int bench_measure(struct bench *b, struct bench_row *row, struct bench_order order,
		  struct side *sides, unsigned int count, unsigned int rounds)
{
	uint64_t ops[BENCH_SIDES_MAX];
	int err = 0;

	row->sides = count;
	for (unsigned int i = 0; i < count && !err; i++) {
		if (!row->side[i].name)
			row->side[i].name = sides[i].contender->name;
		err = calibrate(b, &sides[i], order, &ops[i]);
	}
	for (unsigned int r = 0; r < rounds && !err; r++) {
		for (unsigned int i = 0; i < count && !err; i++) {
			struct bench_series *series = &row->side[i].value;

			order.count = ops[i];
			err = timed(b, &sides[i], order, &series->at[r]);
			if (!err)
				err = bench_verify(b, &sides[i]);
			series->rounds = r + 1;
		}
	}
	return err;
}

struct bench_row bench_row_of(const struct bench *b, const char *name, enum bench_dist dist,
			      const char *mix, unsigned int procs)
{
	return (struct bench_row){
		.bench = name,
		.entries = b->data.entries,
		.dist = dist == BENCH_ZIPF ? "zipf" : "uniform",
		.mix = mix,
		.procs = procs,
	};
}

static int table_row(struct bench *b, const char *name, const char *mix, struct bench_order order)
{
	struct bench_row row = bench_row_of(b, name, order.dist, mix, b->workers);
	unsigned int sides = order.op == BENCH_RUN_BATCH && b->sides > APART ? APART : b->sides;
	int err;

	if (!bench_plan_has(&b->plan, name))
		return 0;
	err = bench_measure(b, &row, order, b->side, sides, b->plan.rounds);
	if (!err)
		bench_report_row(b->plan.json, &row);
	return err;
}

/* Rows of one distribution; lookups first, while records lie as they were put in. */
int bench_table_rows(struct bench *b, enum bench_dist dist)
{
	static const struct {
		const char *name, *mix;
		bool full_only;
		enum bench_op op;
		unsigned int write_percent;
	} rows[] = {
		{ "lookup", "100/0", false, BENCH_RUN, 0 },
		{ "batch", "100/0", false, BENCH_RUN_BATCH, 0 },
		{ "mixed", "95/5", true, BENCH_RUN, 5 },
		{ "mixed", "50/50", true, BENCH_RUN, 50 },
		{ "replace", "100/0", false, BENCH_RUN, 100 },
	};
	int err = 0;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]) && !err; i++) {
		struct bench_order order = {
			.op = rows[i].op, .dist = dist, .write_percent = rows[i].write_percent,
		};

		if (!rows[i].full_only || b->plan.full)
			err = table_row(b, rows[i].name, rows[i].mix, order);
	}
	return err;
}

/* What a delete and an insert took, each by itself: of the slower worker. */
static int churn_once(struct bench *b, struct side *s, uint64_t cycles, double *ret_remove,
		      double *ret_insert)
{
	struct bench_order order = {
		.op = BENCH_CHURN, .count = cycles, .generation = ++b->generation,
	};
	double keys = (double)(b->data.churn_length / s->crew.size) * (double)cycles;
	struct bench_answer answer[BENCH_WORKERS_MAX];
	int err = bench_order_one(b, s, order, answer);

	*ret_remove = *ret_insert = 0;
	for (unsigned int i = 0; i < s->crew.size && !err; i++) {
		double remove = (double)answer[i].remove_ns / keys;
		double insert = (double)answer[i].insert_ns / keys;

		*ret_remove = remove > *ret_remove ? remove : *ret_remove;
		*ret_insert = insert > *ret_insert ? insert : *ret_insert;
	}
	return err;
}

static int churn_calibrate(struct bench *b, struct side *s, uint64_t *ret_cycles)
{
	double keys = (double)(b->data.churn_length / s->crew.size), remove = 0, insert = 0, ns;
	int err = churn_once(b, s, 1, &remove, &insert);

	ns = (remove + insert) * keys;
	*ret_cycles = (uint64_t)(b->plan.time_ms * 1e6 / (ns > 1 ? ns : 1)) + 1;
	return err;
}

/*
 * Half of all keys are deleted, then inserted again, over and over: memory goes round as it does in a
 * service that has run for long. Two workers have a half of these keys each.
 */
int bench_churn_rows(struct bench *b)
{
	struct bench_row insert = bench_row_of(b, "insert", BENCH_UNIFORM, "100/0", b->workers);
	struct bench_row remove = bench_row_of(b, "delete", BENCH_UNIFORM, "100/0", b->workers);
	unsigned int rounds = b->plan.rounds, sides = APART;
	uint64_t cycles[SIDES];
	int err = 0;

	if (!bench_plan_has(&b->plan, "insert") && !bench_plan_has(&b->plan, "delete"))
		return 0;
	if (b->data.entries > CHURN_LONG)
		rounds = CHURN_LONG_ROUNDS;
	insert.sides = remove.sides = sides;
	for (unsigned int i = 0; i < sides && !err; i++) {
		insert.side[i].name = remove.side[i].name = b->side[i].contender->name;
		err = churn_calibrate(b, &b->side[i], &cycles[i]);
	}
	for (unsigned int r = 0; r < rounds && !err; r++) {
		for (unsigned int i = 0; i < sides && !err; i++) {
			err = churn_once(b, &b->side[i], cycles[i], &remove.side[i].value.at[r],
					 &insert.side[i].value.at[r]);
			if (!err)
				err = bench_verify(b, &b->side[i]);
			insert.side[i].value.rounds = remove.side[i].value.rounds = r + 1;
		}
	}
	if (!err) {
		bench_report_row(b->plan.json, &insert);
		bench_report_row(b->plan.json, &remove);
	}
	return err;
}

/*
 * What a core loses when a second one reads too. The floor's two workers share nothing: what it loses is
 * the machine's doing.
 */
int bench_scaling_row(struct bench *b)
{
	struct bench_row all = bench_row_of(b, "read_scaling", BENCH_UNIFORM, "100/0", 2), row;
	struct side sides[4] = { b->side[OURS], b->side[OURS], b->side[FLOOR], b->side[FLOOR] };
	struct bench_order order = { .op = BENCH_RUN };
	int err;

	if (!bench_plan_has(&b->plan, "read_scaling") && !bench_plan_has(&b->plan, "machine_scaling"))
		return 0;
	sides[1].crew = b->alone;
	err = bench_crew_start(&sides[3].crew, &bench_floor, b->side[FLOOR].table, &b->data, 1);
	if (err)
		return bench_complain("floor", "start workers", err);
	all.side[1].name = "ours-alone";
	all.side[3].name = "floor-alone";
	err = bench_measure(b, &all, order, sides, 4, b->plan.rounds);
	bench_crew_stop(&sides[3].crew);
	if (err)
		return err;
	row = all;
	row.sides = 2;
	bench_report_row(b->plan.json, &row);
	row.bench = "machine_scaling"; /* the floor beside itself */
	row.side[0] = all.side[2];
	row.side[1] = all.side[3];
	bench_report_row(b->plan.json, &row);
	return 0;
}
