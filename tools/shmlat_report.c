// SPDX-License-Identifier: MIT
#include "shmlat.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <foundation/clock.h>

#include "common.h"

#define BAR 40
#define ROWS_MAX 24u

static const char *const op_names[SHMLAT_OPS] = { "lookup", "recovery" };

/* --- names ---------------------------------------------------------------------------------------- */

struct names {
	char name[SHMLAT_TABLES][FND_TABLE_NAME_MAX + 1];
	unsigned int count;
};

static int name_add(const struct fnd_table_stats *t, void *arg)
{
	struct names *n = arg;

	if (n->count < SHMLAT_TABLES)
		memcpy(n->name[n->count++], t->name, sizeof(t->name));
	return 0;
}

/* Tables are never removed, so the n-th that is handed out has number n, unless one was left out. */
static void names_read(const struct cover *c, struct names *n)
{
	n->count = 0;
	if (fnd_observer_tables(c->observer, name_add, n))
		n->count = 0;
}

static const char *name_of(const struct names *n, uint32_t table, char buf[FND_TABLE_NAME_MAX + 1])
{
	if (table < n->count)
		tool_printable(n->name[table], buf, FND_TABLE_NAME_MAX + 1);
	else
		snprintf(buf, FND_TABLE_NAME_MAX + 1, "#%" PRIu32, table);
	return buf;
}

static int series_order(const void *a, const void *b)
{
	const struct series *x = a, *y = b;

	if (x->table != y->table)
		return x->table < y->table ? -1 : 1;
	return x->op < y->op ? -1 : x->op > y->op;
}

static void sort(const struct report *r)
{
	if (r->tally->nseries)
		qsort(r->tally->series, r->tally->nseries, sizeof(struct series), series_order);
}

/* Is this worker of interest: there, or was it covered while it was? */
static bool worth_telling(const struct worker *w)
{
	return w->present || w->covered;
}

static bool present(const struct cover *c, uint32_t pid)
{
	for (size_t i = 0; i < c->workers; i++)
		if (c->worker[i].pid == pid && c->worker[i].present)
			return true;
	return false;
}

static bool known(const struct cover *c, uint32_t pid)
{
	for (size_t i = 0; i < c->workers; i++)
		if (c->worker[i].pid == pid && worth_telling(&c->worker[i]))
			return true;
	return false;
}

/* --- for programs --------------------------------------------------------------------------------- */

static json_t *worker_json(uint32_t pid, bool covered, uint64_t samples, const char *reason)
{
	json_t *o = json_object();

	json_object_set_new(o, "pid", json_integer(pid));
	json_object_set_new(o, "covered", json_boolean(covered));
	json_object_set_new(o, "samples", json_integer((json_int_t)samples));
	json_object_set_new(o, "reason",
			    covered ? json_null() : tool_json_text(reason, strlen(reason)));
	return o;
}

static json_t *workers_json(const struct report *r)
{
	json_t *array = json_array();

	for (size_t i = 0; i < r->cover->workers; i++) {
		const struct worker *w = &r->cover->worker[i];

		if (worth_telling(w))
			json_array_append_new(array,
					      worker_json(w->pid, w->covered,
							  tally_pid(r->tally, w->pid), w->reason));
	}
	for (size_t i = 0; i < r->tally->npids; i++) {
		const struct pid_samples *p = &r->tally->pid[i];

		if (!known(r->cover, p->pid) && p->samples)
			json_array_append_new(array, worker_json(p->pid, true, p->samples, ""));
	}
	return array;
}

static json_t *series_json(const struct series *s, const char *name)
{
	json_t *o = json_object(), *buckets = json_array();

	json_object_set_new(o, "table", json_string(name));
	json_object_set_new(o, "op", json_string(op_names[s->op]));
	json_object_set_new(o, "samples", json_integer((json_int_t)s->samples));
	json_object_set_new(o, "p50_ns", json_integer((json_int_t)series_percentile(s, 500)));
	json_object_set_new(o, "p95_ns", json_integer((json_int_t)series_percentile(s, 950)));
	json_object_set_new(o, "p99_ns", json_integer((json_int_t)series_percentile(s, 990)));
	json_object_set_new(o, "p999_ns", json_integer((json_int_t)series_percentile(s, 999)));
	for (uint32_t i = 0; i < SHMLAT_SLOTS; i++) {
		if (s->hist.slot[i])
			json_array_append_new(buckets,
					      json_pack("[I,I]", (json_int_t)shmlat_upper(i),
							(json_int_t)s->hist.slot[i]));
	}
	json_object_set_new(o, "buckets", buckets);
	return o;
}

int report_json(const struct report *r)
{
	json_t *root = json_object(), *array = json_array();
	char name[FND_TABLE_NAME_MAX + 1];
	struct names names;

	names_read(r->cover, &names);
	sort(r);
	json_object_set_new(root, "schema", json_string("foundation.shmlat/1"));
	json_object_set_new(root, "segment", tool_json_text(r->segment, strlen(r->segment)));
	json_object_set_new(root, "duration_s", json_real(r->seconds));
	json_object_set_new(root, "clock_step_ns", json_real(fnd_clock_step_ns()));
	json_object_set_new(root, "clock_overhead_ns", json_real(fnd_clock_overhead_ns()));
	json_object_set_new(root, "sample_every", json_integer(r->sample_every));
	json_object_set_new(root, "lost", json_integer((json_int_t)r->lost));
	json_object_set_new(root, "workers", workers_json(r));
	for (size_t i = 0; i < r->tally->nseries; i++) {
		const struct series *s = &r->tally->series[i];

		if (s->samples)
			json_array_append_new(array,
					      series_json(s, name_of(&names, s->table, name)));
	}
	json_object_set_new(root, "series", array);
	return tool_print_json(PROG, root);
}

/* --- for people ----------------------------------------------------------------------------------- */

/* The finest rows that fit: 16, 8, 4, 2 or 1 an octave. */
static uint32_t row_slots(uint32_t first, uint32_t last)
{
	uint32_t width = 1;

	while (width < SHMLAT_SUB && last / width - first / width >= ROWS_MAX)
		width *= 2;
	return width;
}

static uint64_t row_sum(const struct series *s, uint32_t row, uint32_t width)
{
	uint64_t sum = 0;

	for (uint32_t i = row * width; i < (row + 1) * width; i++)
		sum += s->hist.slot[i];
	return sum;
}

static void print_row(uint64_t count, uint64_t most)
{
	int bar = (int)((double)count / (double)most * BAR + 0.5);

	printf(": %-10" PRIu64 "|%-*.*s|\n", count, BAR, bar,
	       "****************************************");
}

/* Rows up to the 99.9th percentile, as fine as fits; the few beyond would make all of them coarse. */
static void print_histogram(const struct series *s)
{
	uint32_t first = 0, last = SHMLAT_SLOTS - 1, tail, width;
	uint64_t most = 1, rest = s->samples;
	double step = fnd_clock_step_ns();

	while (first < last && !s->hist.slot[first])
		first++;
	while (last > first && !s->hist.slot[last])
		last--;
	tail = last;
	while (last > first && shmlat_upper(last) > series_percentile(s, 999))
		last--;
	width = row_slots(first, last);
	for (uint32_t row = first / width; row <= last / width; row++)
		if (row_sum(s, row, width) > most)
			most = row_sum(s, row, width);
	printf("  %12s    %-12s  %-10s distribution\n", "ns", "", "count");
	for (uint32_t row = first / width; row <= last / width; row++) {
		uint64_t sum = row_sum(s, row, width);
		uint64_t from = shmlat_lower(row * width);
		uint64_t to = shmlat_upper((row + 1) * width - 1);

		if (sum == 0 && (double)(to - from + 1) < step)
			continue; /* between two ticks of the clock */
		rest -= sum;
		printf("  %12" PRIu64 " -> %-12" PRIu64, from, to);
		print_row(sum, most);
	}
	if (rest) {
		printf("  %12s -> %-12" PRIu64, "above", (uint64_t)shmlat_upper(tail));
		print_row(rest, most);
	}
}

/* Each worker that is there; those that have ended, which may be hundreds, in one line. */
static void print_workers(const struct report *r)
{
	size_t covered = 0, uncovered = 0, ended = 0;
	uint64_t samples = 0;

	for (size_t i = 0; i < r->cover->workers; i++) {
		const struct worker *w = &r->cover->worker[i];

		covered += w->covered && w->present;
		uncovered += !w->covered && w->present;
	}
	printf("Workers: %zu covered, %zu not covered\n", covered, uncovered);
	for (size_t i = 0; i < r->cover->workers; i++) {
		const struct worker *w = &r->cover->worker[i];

		if (w->present)
			printf("  pid %-10" PRIu32 "%10" PRIu64 " samples%s%s\n", w->pid,
			       tally_pid(r->tally, w->pid), w->covered ? "" : "  NOT COVERED: ",
			       w->covered ? "" : w->reason);
	}
	for (size_t i = 0; i < r->tally->npids; i++) {
		const struct pid_samples *p = &r->tally->pid[i];

		if (p->samples && !present(r->cover, p->pid)) {
			samples += p->samples;
			ended++;
		}
	}
	if (ended)
		printf("  ended         %10" PRIu64 " samples of %zu workers\n", samples, ended);
}

int report_text(const struct report *r)
{
	char name[FND_TABLE_NAME_MAX + 1];
	struct names names;
	bool any = false;

	names_read(r->cover, &names);
	sort(r);
	printf("Segment %s, %.1f s, one lookup in %" PRIu32 " timed in its process\n"
	       "(clock step %.1f ns; the clock's own %.1f ns are taken off)\n",
	       r->segment, r->seconds, r->sample_every, fnd_clock_step_ns(),
	       fnd_clock_overhead_ns());
	for (size_t i = 0; i < r->tally->nseries; i++) {
		const struct series *s = &r->tally->series[i];

		if (!s->samples)
			continue;
		any = true;
		printf("\nTable %s, %s: %" PRIu64 " samples\n", name_of(&names, s->table, name),
		       op_names[s->op], s->samples);
		printf("  p50 %" PRIu64 " ns   p95 %" PRIu64 " ns   p99 %" PRIu64
		       " ns   p99.9 %" PRIu64 " ns\n",
		       series_percentile(s, 500), series_percentile(s, 950),
		       series_percentile(s, 990), series_percentile(s, 999));
		print_histogram(s);
	}
	if (!any)
		printf("\nNo samples: no covered worker made enough lookups in that time.\n");
	printf("\n");
	print_workers(r);
	return 0;
}
