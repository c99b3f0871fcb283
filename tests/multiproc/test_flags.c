// SPDX-License-Identifier: MIT
/*
 * Flags over several processes: who sees a change when, and what changers leave that are killed.
 *
 * usage: test_flags_processes [CASE]...
 */
#define _GNU_SOURCE
#include "multiproc.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <foundation/events.h>
#include <foundation/flags.h>
#include <foundation/journal.h>

#include "flags_test.h"

extern const struct test_case visible_cases[];

static char state[64];

void sched_yield_some(void)
{
	sched_yield();
}

int flags_purge(const char *name)
{
	struct fnd_journal *j;

	NEED(fnd_journal_open(name, NULL, &j) == 0);
	fnd_journal_purge(j);
	fnd_journal_close(j);
	return 0;
}

int flags_begin(const char *name, struct fnd_segment **ret_seg, struct fnd_flags **ret_flags)
{
	struct fnd_segment_options opt = small_options();

	opt.processes = 32;
	opt.threads = 32;
	NEED(fnd_segment_create(name, &opt, ret_seg) == 0);
	NEED(fnd_flags_open(*ret_seg, ret_flags) == 0);
	return 0;
}

int flags_end(struct fnd_segment *seg, struct fnd_flags *f, const char *name)
{
	fnd_flags_close(f);
	NEED(fnd_segment_detach(seg) == 0);
	NEED(fnd_segment_destroy(name, FND_DESTROY_FORCE) == 0);
	return flags_purge(name);
}

int flags_anew(const char *name, struct fnd_segment **seg, struct fnd_flags **f)
{
	fnd_flags_close(*f);
	NEED(fnd_segment_detach(*seg) == 0);
	NEED(fnd_segment_destroy(name, FND_DESTROY_FORCE) == 0);
	return flags_begin(name, seg, f);
}

/* The same stage and percentages? The generations are of two lives. */
static bool alike(const struct fnd_flags_view *a, const struct fnd_flags_view *b)
{
	return a->stage == b->stage && memcmp(a->percent, b->percent, FND_FLAG_KNOWN) == 0;
}

/* --- killed changers ------------------------------------------------------------------------------ */

struct job {
	const char *name;
	unsigned int number;
};

static int roll_back(void *arg)
{
	const struct job *j = arg;

	while (!word_get(&shared->word[0]))
		;
	return fnd_flags_emergency(j->name, NULL, NULL) == 0 ? 0 : 1;
}

/* Steps up and down, each another stage, until it is killed. */
static int step_about(void *arg)
{
	const struct job *j = arg;
	struct fnd_segment *seg;
	struct fnd_flags *f;

	NEED(fnd_segment_attach(j->name, NULL, &seg) == 0);
	NEED(fnd_flags_open(seg, &f) == 0);
	while (!word_get(&shared->word[0]))
		;
	for (unsigned int i = 0;; i++)
		NEED(fnd_flags_stage_set(f, (i * 5 + j->number) % FND_STAGE_MAX, NULL) == 0);
}

/* What is in force when the tool has looked is what comes back, whenever its changer died. */
static int killed(child_fn child, unsigned int rounds, unsigned int children, bool only_back)
{
	struct job job[4] = { { .name = name_new() } };
	struct fnd_flags_view v, again;
	struct fnd_segment *seg;
	unsigned int stored = 0;
	struct fnd_flags *f;
	pid_t pid[4];

	TRY(flags_begin(job[0].name, &seg, &f));
	for (unsigned int r = 0; r < rounds; r++) {
		NEED(fnd_flags_stage_set(f, FND_STAGE_5, NULL) == 0);
		word_set(&shared->word[0], 0);
		for (unsigned int i = 0; i < children; i++) {
			job[i] = (struct job){ job[0].name, i };
			pid[i] = child_start(child, &job[i]);
		}
		nap_us(only_back ? 300 : 3000);
		word_set(&shared->word[0], 1);
		spin(random_u64() % 4000000);
		for (unsigned int i = 0; i < children; i++)
			child_kill(pid[i]);
		NEED(fnd_flags_catch_up(f) == 0);
		fnd_flags_view(f, &v);
		NEED(!only_back || (v.stage == FND_STAGE_5 && v.deviates == 0) || (v.stage == 0 && v.deviates == 0));
		NEED(v.deviates == 0); /* a stage is one step */
		stored += v.stage != FND_STAGE_5;
		TRY(flags_anew(job[0].name, &seg, &f));
		fnd_flags_view(f, &again);
		if (!alike(&v, &again))
			fprintf(stderr, "round %u: stage %u before, %u after\n", r, v.stage, again.stage);
		NEED(alike(&v, &again));
	}
	printf("%u of %u killed after their store\n", stored, rounds);
	fflush(stdout);
	return flags_end(seg, f, job[0].name);
}

static int killed_rollbacks(void)
{
	return killed(roll_back, 60, 1, true);
}

static int killed_changers(void)
{
	return killed(step_about, 40, 3, false);
}

/* --- many at once --------------------------------------------------------------------------------- */

#define CHANGERS 5
#define CHANGES 20

static const unsigned int own_flag[CHANGERS] = { FND_FLAG_MIGRATION_MONITORING, FND_FLAG_SHARED_ERROR_CONTEXT,
						 FND_FLAG_SHARED_TELEMETRY, FND_FLAG_SHARED_SPANS,
						 FND_FLAG_ENFORCE_SHARED_STATE };

static int change_own(void *arg)
{
	const struct job *j = arg;
	struct fnd_flag_change change = { .id = own_flag[j->number] };
	struct fnd_segment *seg;
	struct fnd_flags *f;

	NEED(fnd_segment_attach(j->name, NULL, &seg) == 0);
	NEED(fnd_flags_open(seg, &f) == 0);
	for (unsigned int i = 1; i <= CHANGES; i++) {
		change.percent = i * 37 % 101; /* up and down */
		NEED(fnd_flags_change(f, &change, 1, -1, NULL) == 0);
		NEED(fnd_flag_percent(f, change.id) == (int)change.percent);
	}
	fnd_flags_close(f);
	return fnd_segment_detach(seg) == 0 ? 0 : 1;
}

static int count_changes(const struct fnd_published *e, void *arg)
{
	if (strcmp(e->name, "flag.changed") == 0)
		++*(unsigned int *)arg;
	return 0;
}

static int concurrent_changers(void)
{
	struct job job[CHANGERS] = { { .name = name_new() } };
	unsigned int events = 0;
	struct fnd_flags_view v, again;
	struct fnd_segment *seg;
	struct fnd_events *ev;
	struct fnd_flags *f;
	uint64_t from, cursor = 0;
	pid_t pid[CHANGERS];

	TRY(flags_begin(job[0].name, &seg, &f));
	from = fnd_flags_generation(f);
	for (unsigned int i = 0; i < CHANGERS; i++) {
		job[i] = (struct job){ job[0].name, i };
		pid[i] = child_start(change_own, &job[i]);
	}
	for (unsigned int i = 0; i < CHANGERS; i++)
		NEED(child_wait(pid[i]) == 0);
	NEED(fnd_flags_generation(f) == from + CHANGERS * CHANGES); /* each was one step, none was lost */
	fnd_flags_view(f, &v);
	for (unsigned int i = 0; i < CHANGERS; i++)
		NEED(v.percent[own_flag[i]] == CHANGES * 37 % 101);
	NEED(fnd_events_open(seg, &ev) == 0);
	NEED(fnd_events_read(ev, &cursor, count_changes, &events, NULL) == 0);
	fnd_events_close(ev);
	NEED(events == CHANGERS * CHANGES);
	TRY(flags_anew(job[0].name, &seg, &f));
	fnd_flags_view(f, &again);
	NEED(alike(&v, &again));
	return flags_end(seg, f, job[0].name);
}

/* --- application flags ---------------------------------------------------------------------------- */

#define SET 10

static int define_names(void *arg)
{
	const struct job *j = arg;
	struct fnd_segment *seg;
	struct fnd_flags *f;
	char name[16];

	NEED(fnd_segment_attach(j->name, NULL, &seg) == 0);
	NEED(fnd_flags_open(seg, &f) == 0);
	for (unsigned int i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "app.%u", i);
		NEED(fnd_flag_define(f, name, "", i) >= 0);
	}
	fnd_flags_close(f);
	return fnd_segment_detach(seg) == 0 ? 0 : 1;
}

/* Definers of the same names are killed all the time: no name has two places, and none is lost. */
static int killed_definers(void)
{
	struct job job = { .name = name_new() };
	unsigned char taken[256];
	unsigned int ended = 0;
	struct fnd_segment *seg;
	struct fnd_flags *f;
	char name[16];
	pid_t pid[4];

	setenv("FOUNDATION_STATE_DIR", "/proc/no-such-place", 1); /* what counts is in memory */
	for (unsigned int round = 0; round < 12; round++) {
		TRY(flags_begin(job.name, &seg, &f));
		for (unsigned int turn = 0; turn < 6; turn++) {
			for (unsigned int i = 0; i < 4; i++)
				pid[i] = child_start(define_names, &job);
			spin(random_u64() % 6000000);
			for (unsigned int i = 0; i < 4; i++) {
				kill(pid[i], SIGKILL);
				ended += child_wait(pid[i]) == 0;
			}
		}
		memset(taken, 0, sizeof(taken));
		for (unsigned int i = 0; i < 256; i++) {
			int id;

			snprintf(name, sizeof(name), "app.%u", i);
			id = fnd_flag_define(f, name, "", i % 101);
			NEED(id >= FND_FLAG_KNOWN && id < FND_FLAG_MAX);
			NEED(!taken[id - FND_FLAG_KNOWN]++);
			NEED(fnd_flag_percent(f, (unsigned int)id) == (int)(i % 101));
		}
		NEED(fnd_flag_define(f, "one.more", "", 0) == -ENOSPC);
		TRY(flags_end(seg, f, job.name));
	}
	printf("%u definers came to their end\n", ended);
	fflush(stdout);
	return 0;
}

static int set_together(void *arg)
{
	const struct job *j = arg;
	struct fnd_flag_change change[SET];
	struct fnd_segment *seg;
	struct fnd_flags *f;

	setenv("FOUNDATION_STATE_DIR", "/proc/no-such-place", 1);
	NEED(fnd_segment_attach(j->name, NULL, &seg) == 0);
	NEED(fnd_flags_open(seg, &f) == 0);
	for (unsigned int n = j->number;; n++) {
		for (unsigned int i = 0; i < SET; i++)
			change[i] = (struct fnd_flag_change){ FND_FLAG_KNOWN + i, n % 101 };
		NEED(fnd_flags_change(f, change, SET, -1, NULL) == FND_NOT_DURABLE);
	}
}

/* Ten flags that always change together are never seen apart, although who changes them is killed. */
static int sets_are_whole(void)
{
	struct job job = { .name = name_new() };
	unsigned int views = 0, moved = 0;
	struct fnd_flags_view v;
	struct fnd_segment *seg;
	struct fnd_flags *f;
	char name[16];
	pid_t pid[2];

	setenv("FOUNDATION_STATE_DIR", "/proc/no-such-place", 1);
	TRY(flags_begin(job.name, &seg, &f));
	for (unsigned int i = 0; i < SET; i++) {
		snprintf(name, sizeof(name), "app.%u", i);
		NEED(fnd_flag_define(f, name, "", 0) == FND_FLAG_KNOWN + (int)i);
	}
	for (unsigned int round = 0; round < 40; round++) {
		uint64_t until = now_ns() + 10000000, last = 0;

		for (job.number = 0; job.number < 2; job.number++)
			pid[job.number] = child_start(set_together, &job);
		while (now_ns() < until) {
			fnd_flags_view(f, &v);
			for (unsigned int i = 1; i < SET; i++)
				NEED(v.percent[FND_FLAG_KNOWN + i] == v.percent[FND_FLAG_KNOWN]);
			views++;
			moved += v.generation != last;
			last = v.generation;
		}
		child_kill(pid[0]);
		child_kill(pid[1]);
	}
	printf("%u views, %u generations\n", views, moved);
	fflush(stdout);
	return flags_end(seg, f, job.name);
}

/* --- waiting, choosing ---------------------------------------------------------------------------- */

static int wait_for_change(void *arg)
{
	const struct job *j = arg;
	struct fnd_segment *seg;
	struct fnd_flags *f;
	uint64_t generation;

	NEED(fnd_segment_attach(j->name, NULL, &seg) == 0);
	NEED(fnd_flags_open(seg, &f) == 0);
	generation = fnd_flags_generation(f);
	NEED(fnd_flags_wait(f, generation, 1) == -ETIMEDOUT);
	word_add(&shared->word[0], 1);
	NEED(fnd_flags_wait(f, generation, 20000) == 0);
	NEED(fnd_flag_enabled(f, FND_FLAG_SHARED_REGISTRY));
	fnd_flags_close(f);
	return fnd_segment_detach(seg) == 0 ? 0 : 1;
}

static int waiters_are_woken(void)
{
	struct fnd_flag_change change = { FND_FLAG_SHARED_REGISTRY, 100 };
	struct job job = { .name = name_new() };
	struct fnd_segment *seg;
	struct fnd_flags *f;
	pid_t pid[4];

	TRY(flags_begin(job.name, &seg, &f));
	for (unsigned int i = 0; i < 4; i++)
		pid[i] = child_start(wait_for_change, &job);
	TRY(word_wait(&shared->word[0], 4));
	NEED(fnd_flags_change(f, &change, 1, -1, NULL) == 0);
	for (unsigned int i = 0; i < 4; i++)
		NEED(child_wait(pid[i]) == 0);
	return flags_end(seg, f, job.name);
}

static unsigned char chosen[1000];

static void choose(struct fnd_flags *f, unsigned char in[1000])
{
	char who[16];

	for (unsigned int i = 0; i < 1000; i++) {
		snprintf(who, sizeof(who), "agent-%u", i);
		in[i] = (unsigned char)fnd_flag_evaluate(f, "billing", who, 0, NULL);
	}
}

static int choose_alike(void *arg)
{
	unsigned char in[1000];
	const struct job *j = arg;
	struct fnd_segment *seg;
	struct fnd_flags *f;

	NEED(fnd_segment_attach(j->name, NULL, &seg) == 0);
	NEED(fnd_flags_open(seg, &f) == 0);
	choose(f, in);
	return memcmp(in, chosen, sizeof(in)) == 0 ? 0 : 1;
}

static int every_process_chooses_alike(void)
{
	struct job job = { .name = name_new() };
	unsigned char again[1000];
	struct fnd_segment *seg;
	struct fnd_flags *f;

	TRY(flags_begin(job.name, &seg, &f));
	NEED(fnd_flag_define(f, "billing", "", 50) >= 0);
	choose(f, chosen);
	for (unsigned int i = 0; i < 3; i++)
		NEED(child_run(choose_alike, &job) == 0);
	TRY(flags_anew(job.name, &seg, &f));
	choose(f, again);
	NEED(memcmp(again, chosen, sizeof(again)) == 0);
	return flags_end(seg, f, job.name);
}

/* --- who comes first ------------------------------------------------------------------------------ */

static int open_first(void *arg)
{
	const struct job *j = arg;
	struct fnd_segment *seg;
	struct fnd_flags *f;

	NEED(fnd_segment_attach(j->name, NULL, &seg) == 0);
	word_add(&shared->word[0], 1);
	while (word_get(&shared->word[0]) < 20)
		nap_us(100);
	NEED(fnd_flags_open(seg, &f) == 0);
	NEED(fnd_flag_enabled(f, FND_FLAG_SHARED_REGISTRY));
	NEED(fnd_flag_percent(f, (unsigned int)fnd_flag_find(f, "billing")) == 30);
	fnd_flags_close(f);
	return fnd_segment_detach(seg) == 0 ? 0 : 1;
}

/* Twenty open the flags of a segment made anew at once; some are killed at it. */
static int first_users(void)
{
	struct fnd_segment_options opt = small_options();
	struct job job = { .name = name_new() };
	struct fnd_segment *seg;
	struct fnd_flags *f;
	pid_t pid[20];

	opt.processes = 32;
	opt.threads = 32;
	TRY(flags_begin(job.name, &seg, &f));
	NEED(fnd_flags_stage_set(f, FND_STAGE_2, NULL) == 0);
	NEED(fnd_flag_define(f, "billing", "", 30) >= 0);
	for (unsigned int round = 0; round < 5; round++) {
		fnd_flags_close(f);
		NEED(fnd_segment_detach(seg) == 0);
		NEED(fnd_segment_destroy(job.name, 0) == 0);
		NEED(fnd_segment_create(job.name, &opt, &seg) == 0);
		word_set(&shared->word[0], 0);
		for (unsigned int i = 0; i < 20; i++)
			pid[i] = child_start(open_first, &job);
		for (unsigned int i = 0; i < 20; i++)
			NEED(child_wait(pid[i]) == 0);
		NEED(fnd_flags_open(seg, &f) == 0);
		NEED(fnd_flag_find(f, "billing") == FND_FLAG_KNOWN);
	}
	return flags_end(seg, f, job.name);
}

#define BORN 40

static void *change_until(void *arg)
{
	struct fnd_flags *f = arg;

	for (unsigned int i = 0; word_get(&shared->word[0]) == 0; i++) {
		struct fnd_flag_change c = { FND_FLAG_SHARED_SPANS, 50 + i % 50 };

		if (fnd_flags_change(f, &c, 1, -1, NULL) != 0)
			return f;
	}
	return NULL;
}

static int stay(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return 0;
}

/* Children that are born while another thread changes flags have nothing of its lock. */
static int born_in_a_change(void)
{
	struct fnd_flag_change on = { FND_FLAG_SHARED_TELEMETRY, 100 };
	const char *name = name_new();
	struct fnd_segment *seg;
	struct fnd_flags *f;
	pthread_t changer;
	pid_t pid[BORN];
	void *failed;

	TRY(flags_begin(name, &seg, &f));
	NEED(pthread_create(&changer, NULL, change_until, f) == 0);
	for (unsigned int i = 0; i < BORN; i++) {
		nap_us(2000 + i * 37);
		pid[i] = child_start(stay, NULL);
	}
	word_set(&shared->word[0], 1);
	NEED(pthread_join(changer, &failed) == 0 && !failed);
	NEED(fnd_flags_change(f, &on, 1, -1, NULL) == 0); /* on disk: 1 would be that it waited in vain */
	NEED(fnd_flags_emergency(name, NULL, NULL) == 0);
	for (unsigned int i = 0; i < BORN; i++)
		child_kill(pid[i]);
	return flags_end(seg, f, name);
}

static const struct test_case cases[] = {
	{ "born_in_a_change", born_in_a_change },
	{ "killed_rollbacks_come_back_as_they_were", killed_rollbacks },
	{ "killed_changers_come_back_as_they_were", killed_changers },
	{ "concurrent_changers_lose_nothing", concurrent_changers },
	{ "killed_definers_lose_no_place", killed_definers },
	{ "sets_are_whole", sets_are_whole },
	{ "waiters_are_woken", waiters_are_woken },
	{ "every_process_chooses_alike", every_process_chooses_alike },
	{ "first_users", first_users },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	static const struct test_case *const tables[] = { visible_cases, cases, NULL };
	int status;

	snprintf(state, sizeof(state), "/tmp/test-flags-XXXXXX");
	if (!mkdtemp(state))
		return 1;
	setenv("FOUNDATION_STATE_DIR", state, 1);
	status = cases_main(argc, argv, "flags", tables);
	if (rmdir(state) != 0 && status == 0) {
		fprintf(stderr, "a journal stayed in %s\n", state);
		status = 1;
	}
	return status;
}
