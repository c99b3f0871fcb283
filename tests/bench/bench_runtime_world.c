// SPDX-License-Identifier: MIT
/* What all rows of bench_runtime stand on: segments, a directory, rounds. See bench_runtime.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_runtime.h"

#define NAME_PREFIX "bench-runtime-"
#define CALIBRATION_OPS 64

static char directory[] = "/tmp/bench-runtime-XXXXXX";
static bool directory_made;

int runtime_complain(const char *who, const char *what, int err)
{
	const char *detail = fnd_error_detail();

	fprintf(stderr, "bench_runtime: %s: %s: %s%s%s\n", who, what,
		err == -EBADMSG ? "a wrong answer" : fnd_strerror(err), *detail ? ": " : "", detail);
	return err;
}

/* --- where journals and log files go --------------------------------------------------------------- */

static int remove_stale(const struct fnd_segment_entry *e, void *arg)
{
	(void)arg;
	/* Without force: while the bench that made it still runs, it stays. */
	if (strncmp(e->name, NAME_PREFIX, sizeof(NAME_PREFIX) - 1) == 0)
		fnd_segment_destroy(e->name, 0);
	return 0;
}

const char *runtime_directory(void)
{
	if (directory_made)
		return directory;
	if (!mkdtemp(directory)) {
		runtime_complain(directory, "make a directory", -errno);
		return NULL;
	}
	directory_made = true;
	/* The journal is part of what a change of flags takes, but not the user's journal. */
	setenv("FOUNDATION_STATE_DIR", directory, 1);
	fnd_segment_list(remove_stale, NULL);
	return directory;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st, (void)type, (void)at;
	remove(path);
	return 0;
}

void runtime_directory_remove(void)
{
	if (directory_made)
		nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	directory_made = false;
}

/* --- segments --------------------------------------------------------------------------------------- */

int runtime_world_make(struct runtime_world *w, const char *suffix, const struct fnd_flag_change *change,
		       unsigned int n, uint64_t agents)
{
	static const char *const indexed[] = { "kind" };
	struct fnd_segment_options opt = { .size = sizeof(opt), .processes = 64, .threads = 64 };
	struct fnd_runtime_options ropt = { .size = sizeof(ropt), .nindexed = 1, .indexed = indexed,
					    .identity = "bench", .registry_capacity = 2 * agents + 64 };
	int err;

	*w = (struct runtime_world){ .seg = NULL };
	snprintf(w->name, sizeof(w->name), NAME_PREFIX "%d-%s", (int)getpid(), suffix);
	err = fnd_segment_create(w->name, &opt, &w->seg);
	if (err)
		return runtime_complain(w->name, "create", err);
	err = fnd_runtime_open(w->seg, &ropt, &w->rt);
	if (err) {
		runtime_complain(w->name, "open the runtime", err);
	} else {
		w->flags = fnd_runtime_flags(w->rt);
		err = n ? fnd_flags_change(w->flags, change, n, -1, NULL) : 0;
		if (err)
			runtime_complain(w->name, "set flags", err);
	}
	if (err)
		runtime_world_end(w);
	return err;
}

void runtime_world_end(struct runtime_world *w)
{
	if (!w->seg)
		return;
	fnd_runtime_close(w->rt);
	fnd_segment_detach(w->seg);
	fnd_segment_destroy(w->name, FND_DESTROY_FORCE);
	*w = (struct runtime_world){ .seg = NULL };
}

/* --- rounds ------------------------------------------------------------------------------------------ */

static int timed(struct runtime_side *s, uint64_t count, double *ret_ns)
{
	uint64_t from, ns;
	int err;

	s->untimed_ns = 0;
	from = bench_now_ns();
	err = bench_interrupted ? -EINTR : s->run(s, count);
	ns = bench_now_ns() - from;
	if (err)
		return err == -EINTR ? err : runtime_complain(s->name, "run", err);
	ns = ns > s->untimed_ns ? ns - s->untimed_ns : 1;
	*ret_ns = (double)ns / (double)count;
	return 0;
}

/* How many operations fill the time of a stretch; the last trial is as long as that, to warm up. */
static int calibrate(const struct runtime_plan *plan, struct runtime_side *s, uint64_t *ret_count)
{
	double ns = 0, wanted = plan->time_ms * 1e6;
	uint64_t count = CALIBRATION_OPS;
	int err = 0;

	for (unsigned int i = 0; i < 3 && !err; i++) {
		err = timed(s, count, &ns);
		if (!err)
			count = (uint64_t)(wanted / (ns > 0.1 ? ns : 0.1)) + 1;
	}
	*ret_count = count;
	return err;
}

int runtime_row(const struct runtime_plan *plan, struct bench_row *row, struct runtime_side *sides,
		unsigned int count)
{
	uint64_t ops[BENCH_SIDES_MAX];
	int err = 0;

	row->sides = count;
	if (!row->mix)
		row->mix = "none";
	if (!row->dist)
		row->dist = "none";
	row->procs = 1;
	for (unsigned int i = 0; i < count && !err; i++) {
		row->side[i].name = sides[i].name;
		err = calibrate(plan, &sides[i], &ops[i]);
	}
	for (unsigned int r = 0; r < plan->rounds && !err; r++) {
		for (unsigned int i = 0; i < count && !err; i++) {
			err = timed(&sides[i], ops[i], &row->side[i].value.at[r]);
			row->side[i].value.rounds = r + 1;
		}
	}
	if (!err)
		bench_report_row(plan->json, row);
	return err;
}
