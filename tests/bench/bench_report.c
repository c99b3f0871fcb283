// SPDX-License-Identifier: MIT
/* Output of the benchmark: see bench_report.h. */
#define _GNU_SOURCE
#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench_goals.h"
#include "bench_report.h"

#ifndef BENCH_FLAGS
#define BENCH_FLAGS "unknown"
#endif

#ifdef __clang__
#define COMPILER __VERSION__
#else
#define COMPILER "gcc " __VERSION__
#endif

#define INTERVAL_ROUNDS 20 /* from so many on, the 5th and 95th percentiles say something */

static const char about_tables[] =
	"figures   nanoseconds an operation, wall time, median of the rounds [lowest highest];\n"
	"          with two workers: wall time by the operations of one, so the same figure\n"
	"          as with one worker means twice the work done.\n"
	"peers     lfht: liburcu's rculfhash, over RCU of the memb flavour inlined, the same by\n"
	"          calls into its library, and of the qsbr flavour. floor: an open-addressing\n"
	"          table in private memory without any synchronisation; floor-apart: the same\n"
	"          with records that stay where they are. Each line is ours beside one peer.\n\n";

static unsigned int goals_seen, goals_reached;

double bench_median(const struct bench_series *s)
{
	return bench_quantile(s->at, s->rounds, 0.5);
}

/* Two decimals are more than any of these figures is good for. */
static double rounded(double x)
{
	return round(x * 100) / 100;
}

static void emit(json_t *line)
{
	json_object_set_new(line, "schema", json_string(BENCH_SCHEMA));
	json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
	putchar('\n');
	fflush(stdout);
	json_decref(line);
}

static void cpu_model(char *buf, size_t bytes)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[256];

	snprintf(buf, bytes, "unknown");
	while (f && fgets(line, sizeof(line), f)) {
		char *value = strchr(line, ':');

		if (strncmp(line, "model name", 10) != 0 || !value)
			continue;
		value += strspn(value, ": \t");
		value[strcspn(value, "\n")] = '\0';
		snprintf(buf, bytes, "%s", value);
		break;
	}
	if (f)
		fclose(f);
}

static double load_average(void)
{
	double load = NAN;

	return getloadavg(&load, 1) == 1 ? load : 0;
}

void bench_report_begin(bool json, const char *library_version, const char *about)
{
	const char *commit = getenv("FOUNDATION_COMMIT");
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	struct utsname u;
	char cpu[128];

	cpu_model(cpu, sizeof(cpu));
	if (uname(&u) != 0)
		snprintf(u.release, sizeof(u.release), "unknown");
	if (!commit || !*commit)
		commit = "unknown";
	if (json) {
		emit(json_pack("{s:s,s:s,s:I,s:s,s:s,s:s,s:s,s:s,s:f}", "bench", "machine", "cpu",
			       cpu, "cores", (json_int_t)cores, "kernel", u.release, "compiler",
			       COMPILER, "flags", BENCH_FLAGS, "library", library_version,
			       "commit", commit, "load1", rounded(load_average())));
		return;
	}
	printf("machine   %s, %ld cores, Linux %s, load %.2f\n", cpu, cores, u.release,
	       load_average());
	printf("build     foundation %s (commit %s), %s %s\n", library_version, commit, COMPILER,
	       BENCH_FLAGS);
	fputs(about ? about : about_tables, stdout);
	printf("%-14s %8s %-7s %-5s %5s %11s %-21s  %-15s %11s %-21s %7s  %s\n", "bench", "entries",
	       "dist", "mix", "procs", "ours", "", "peer", "", "", "ratio", "goal");
	fflush(stdout);
}

/* name_unit, and the spread of it. */
static void set_series(json_t *line, const char *name, const char *unit,
		       const struct bench_series *s)
{
	static const struct {
		const char *prefix;
		double q;
	} figures[] = { { "", 0.5 }, { "min_", 0 }, { "max_", 1 }, { "p5_", 0.05 }, { "p95_", 0.95 } };
	enum { ALWAYS = 3 };
	char key[64];

	for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
		double value = bench_quantile(s->at, s->rounds, figures[i].q);

		if (i >= ALWAYS && s->rounds < INTERVAL_ROUNDS)
			break;
		snprintf(key, sizeof(key), "%s_%s%s", name, figures[i].prefix, unit);
		json_object_set_new(line, key, json_real(rounded(value)));
	}
}

static void set_tail(json_t *line, const struct bench_row *row, const char *name, const char *unit,
		     const struct bench_series *s)
{
	char key[64];

	if (!row->tail || !s->rounds)
		return;
	snprintf(key, sizeof(key), "%s_%s_%s", name, row->tail, unit);
	json_object_set_new(line, key, json_real(rounded(bench_median(s))));
}

/* What each round says by itself: drift that meets both sides alike leaves it alone. */
static void set_ratios(json_t *line, const struct bench_series *ours,
		       const struct bench_series *peer)
{
	struct bench_series ratio = { .rounds = ours->rounds };

	for (unsigned int i = 0; i < ratio.rounds; i++)
		ratio.at[i] = peer->at[i] / ours->at[i];
	json_object_set_new(line, "ratio_min",
			    json_real(rounded(bench_quantile(ratio.at, ratio.rounds, 0))));
	json_object_set_new(line, "ratio_max",
			    json_real(rounded(bench_quantile(ratio.at, ratio.rounds, 1))));
}

/* One of our figures beside one peer's. */
struct pair {
	const struct bench_row *row;
	const struct bench_side_figures *ours, *peer;
	double ours_median, peer_median, ratio;
	const struct bench_goal *goal;
	double measured; /* in the goal's terms */
	bool reached;
};

static void pair_json(const struct pair *p)
{
	const struct bench_row *row = p->row;
	const char *unit = row->unit ? row->unit : "ns";
	json_t *line = json_pack("{s:s,s:I,s:s,s:s,s:I,s:s,s:f,s:I}", "bench", row->bench, "entries",
				 (json_int_t)row->entries, "dist", row->dist, "mix", row->mix,
				 "procs", (json_int_t)row->procs, "peer", p->peer->name, "ratio",
				 rounded(p->ratio), "rounds", (json_int_t)p->ours->value.rounds);

	set_series(line, "ours", unit, &p->ours->value);
	set_series(line, "peer", unit, &p->peer->value);
	set_tail(line, row, "ours", unit, &p->ours->tail);
	set_tail(line, row, "peer", unit, &p->peer->tail);
	for (unsigned int i = 1; i < row->sides; i++)
		if (strcmp(row->side[i].name, "floor") == 0)
			set_series(line, "floor", unit, &row->side[i].value);
	set_ratios(line, &p->ours->value, &p->peer->value);
	json_object_set_new(line, "goal", p->goal ? json_string(p->goal->text) : json_null());
	json_object_set_new(line, "measured", p->goal ? json_real(round(p->measured * 1000) / 1000)
								: json_null());
	json_object_set_new(line, "reached", p->goal ? json_boolean(p->reached) : json_null());
	emit(line);
}

/* One more where a tenth would be much. */
static int decimals_of(double figure)
{
	return figure < 10 ? 2 : 1;
}

static void spread(char *buf, size_t bytes, const struct bench_series *s)
{
	int decimals = decimals_of(bench_median(s));

	snprintf(buf, bytes, "[%.*f %.*f]", decimals, bench_quantile(s->at, s->rounds, 0), decimals,
		 bench_quantile(s->at, s->rounds, 1));
}

static void pair_people(const struct pair *p)
{
	const struct bench_row *row = p->row;
	const struct bench_series *series = &p->ours->value;
	char ours[64], peer[64], entries[24] = "-";

	if (row->entries)
		snprintf(entries, sizeof(entries), "%llu", (unsigned long long)row->entries);
	spread(ours, sizeof(ours), series);
	spread(peer, sizeof(peer), &p->peer->value);
	printf("%-14s %8s %-7s %-5s %5u %11.*f %-21s  %-15s %11.*f %-21s %6.2fx  ", row->bench, entries,
	       row->dist, row->mix, row->procs, decimals_of(p->ours_median), p->ours_median, ours,
	       p->peer->name, decimals_of(p->peer_median), p->peer_median, peer, p->ratio);
	if (p->goal)
		printf("%s: %.*f, %s", p->goal->text,
		       p->goal->kind == GOAL_ABSOLUTE && p->goal->limit >= 10 ? 0 : 3, p->measured,
		       p->reached ? "reached" : "not reached");
	if (row->unit)
		printf("  (%s)", row->unit);
	if (row->tail && p->ours->tail.rounds && p->peer->tail.rounds)
		printf("  (%s %.0f against %.0f)", row->tail, bench_median(&p->ours->tail),
		       bench_median(&p->peer->tail));
	if (series->rounds >= INTERVAL_ROUNDS)
		printf("  (ours over %u rounds: 5%% to 95%% [%.2f %.2f])", series->rounds,
		       bench_quantile(series->at, series->rounds, 0.05),
		       bench_quantile(series->at, series->rounds, 0.95));
	putchar('\n');
	fflush(stdout);
}

static struct pair pair_of(const struct bench_row *row, unsigned int peer)
{
	struct pair p = { .row = row, .ours = &row->side[0], .peer = &row->side[peer] };

	p.ours_median = bench_median(&p.ours->value);
	p.peer_median = bench_median(&p.peer->value);
	p.ratio = p.peer_median / p.ours_median;
	p.goal = bench_goal_find(row, p.peer->name);
	if (p.goal) {
		p.measured = bench_goal_measure(p.goal, p.ours_median, p.peer_median);
		p.reached = bench_goal_reached(p.goal, p.measured);
	}
	return p;
}

void bench_report_row(bool json, const struct bench_row *row)
{
	for (unsigned int i = 1; i < row->sides; i++) {
		struct pair p = pair_of(row, i);

		if (p.goal)
			bench_report_count(1, p.reached);
		if (json)
			pair_json(&p);
		else
			pair_people(&p);
	}
}

void bench_report_count(unsigned int goals, unsigned int reached)
{
	goals_seen += goals;
	goals_reached += reached;
}

unsigned int bench_report_missed(void)
{
	return goals_seen - goals_reached;
}

void bench_report_end(bool json)
{
	if (json)
		emit(json_pack("{s:s,s:I,s:I}", "bench", "summary", "goals", (json_int_t)goals_seen,
			       "reached", (json_int_t)goals_reached));
	else
		printf("\ngoals     %u of %u reached\n", goals_reached, goals_seen);
}
