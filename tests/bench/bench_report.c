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

static double median(const struct bench_series *s)
{
	return bench_quantile(s->ns, s->rounds, 0.5);
}

/* Two decimals are more than any of these figures is good for. */
static double rounded(double x)
{
	return round(x * 100) / 100;
}

static void emit(json_t *line)
{
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

void bench_report_begin(bool json, const char *library_version)
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
	printf("figures   nanoseconds an operation, wall time, median of the rounds [lowest highest];\n"
	       "          with two workers: wall time by the operations of one, so the same figure\n"
	       "          as with one worker means twice the work done.\n"
	       "floor     an open-addressing table in private memory without any synchronisation.\n\n");
	printf("%-14s %8s %-7s %-5s %5s  %9s %-19s  %9s %-16s %6s  %9s\n", "bench", "entries",
	       "dist", "mix", "procs", "ours", "", "peer", "", "ratio", "floor");
	fflush(stdout);
}

/* name_ns, and the spread of it. */
static void set_series(json_t *line, const char *name, const struct bench_series *s)
{
	static const struct {
		const char *suffix;
		double q;
	} figures[] = { { "ns", 0.5 }, { "min_ns", 0 }, { "max_ns", 1 },
			{ "p5_ns", 0.05 }, { "p95_ns", 0.95 } };
	enum { ALWAYS = 3 };
	char key[48];

	for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
		double value = bench_quantile(s->ns, s->rounds, figures[i].q);

		if (i >= ALWAYS && s->rounds < INTERVAL_ROUNDS)
			break;
		snprintf(key, sizeof(key), "%s_%s", name, figures[i].suffix);
		json_object_set_new(line, key, s->rounds ? json_real(rounded(value)) : json_null());
	}
}

/* What each round says by itself: drift that meets both sides alike leaves it alone. */
static void set_ratios(json_t *line, const struct bench_row *row)
{
	struct bench_series ratio = { .rounds = row->ours.rounds };

	for (unsigned int i = 0; i < ratio.rounds; i++)
		ratio.ns[i] = row->peers.ns[i] / row->ours.ns[i];
	json_object_set_new(line, "ratio_min",
			    json_real(rounded(bench_quantile(ratio.ns, ratio.rounds, 0))));
	json_object_set_new(line, "ratio_max",
			    json_real(rounded(bench_quantile(ratio.ns, ratio.rounds, 1))));
}

static void row_json(const struct bench_row *row)
{
	json_t *line = json_pack("{s:s,s:I,s:s,s:s,s:I,s:s,s:f,s:I}", "bench", row->bench, "entries",
				 (json_int_t)row->entries, "dist", row->dist, "mix", row->mix,
				 "procs", (json_int_t)row->procs, "peer", row->peer, "ratio",
				 rounded(median(&row->peers) / median(&row->ours)), "rounds",
				 (json_int_t)row->ours.rounds);

	set_series(line, "ours", &row->ours);
	set_series(line, "peer", &row->peers);
	set_series(line, "floor", &row->floor);
	if (row->floor_apart.rounds)
		set_series(line, "floor_apart", &row->floor_apart);
	if (row->ours_p99.rounds) {
		json_object_set_new(line, "ours_p99_ns", json_real(rounded(median(&row->ours_p99))));
		json_object_set_new(line, "peer_p99_ns",
				    json_real(rounded(median(&row->peers_p99))));
	}
	set_ratios(line, row);
	emit(line);
}

static void spread(char *buf, size_t bytes, const struct bench_series *s)
{
	snprintf(buf, bytes, "[%.1f %.1f]", bench_quantile(s->ns, s->rounds, 0),
		 bench_quantile(s->ns, s->rounds, 1));
}

static void row_people(const struct bench_row *row)
{
	char ours[64], peer[64], entries[24] = "-";

	if (row->entries)
		snprintf(entries, sizeof(entries), "%llu", (unsigned long long)row->entries);
	spread(ours, sizeof(ours), &row->ours);
	spread(peer, sizeof(peer), &row->peers);
	printf("%-14s %8s %-7s %-5s %5u  %9.1f %-19s  %9.1f %-16s %5.2fx  ", row->bench,
	       entries, row->dist, row->mix, row->procs,
	       median(&row->ours), ours, median(&row->peers), peer,
	       median(&row->peers) / median(&row->ours));
	if (row->floor.rounds)
		printf("%9.1f", median(&row->floor));
	else
		printf("%9s", "-");
	printf("  %s", row->peer);
	if (row->floor_apart.rounds)
		printf(", records apart %.1f", median(&row->floor_apart));
	if (row->ours_p99.rounds)
		printf(", p99 %.0f against %.0f", median(&row->ours_p99), median(&row->peers_p99));
	if (row->ours.rounds >= INTERVAL_ROUNDS)
		printf(", ours over %u rounds: 5%% to 95%% [%.2f %.2f]", row->ours.rounds,
		       bench_quantile(row->ours.ns, row->ours.rounds, 0.05),
		       bench_quantile(row->ours.ns, row->ours.rounds, 0.95));
	putchar('\n');
	fflush(stdout);
}

void bench_report_row(bool json, const struct bench_row *row)
{
	if (json)
		row_json(row);
	else
		row_people(row);
}
