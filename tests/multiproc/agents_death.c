// SPDX-License-Identifier: MIT
/* Owners that die, reapers that are killed, first users by the hundred. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <foundation/area.h>
#include <foundation/context.h>
#include <foundation/events.h>
#include <foundation/registry.h>

#include "multiproc.h"

#define NAMES 300u
#define REAPERS 4u

extern const struct test_case agents_death_cases[];

static int segment_new(const char **ret_name)
{
	struct fnd_segment_options o = small_options();

	o.processes = 200;
	o.threads = 200;
	o.default_capacity = 1024;
	*ret_name = name_new();
	return fnd_segment_create(*ret_name, &o, NULL);
}

struct world {
	struct fnd_segment *seg;
	struct fnd_registry *reg;
};

static int enter(const char *name, struct world *w)
{
	NEED(fnd_segment_attach(name, NULL, &w->seg) == 0);
	NEED(fnd_registry_open(w->seg, 0, &w->reg) == 0);
	return 0;
}

static int leave(struct world *w)
{
	fnd_registry_close(w->reg);
	return fnd_segment_detach(w->seg) == 0 ? 0 : 1;
}

/* --- what the events say --------------------------------------------------------------------------- */

struct told {
	char name[64];
	char reason[16];
	int64_t status;
	uint64_t pid;
};

struct tally {
	unsigned int up[NAMES], down[NAMES], gone[NAMES], others;
	char reason[16];
	int64_t status;
	int mixed; /* not all of one reason */
};

static int field(const struct fnd_field *f, void *arg)
{
	struct told *t = arg;
	size_t n = f->value.bytes;

	if (f->value.type == FND_VALUE_STR && f->key_bytes == 4 && memcmp(f->key, "name", 4) == 0 && n < sizeof(t->name))
		memcpy(t->name, f->value.v.text, n);
	if (f->value.type == FND_VALUE_STR && f->key_bytes == 6 && memcmp(f->key, "reason", 6) == 0 &&
	    n < sizeof(t->reason))
		memcpy(t->reason, f->value.v.text, n);
	if (f->key_bytes == 6 && memcmp(f->key, "status", 6) == 0)
		t->status = f->value.v.i;
	if (f->key_bytes == 3 && memcmp(f->key, "pid", 3) == 0)
		t->pid = f->value.v.u;
	return 0;
}

static int count(const struct fnd_published *e, void *arg)
{
	struct told t = { .status = -1 };
	struct tally *a = arg;
	unsigned int i;

	if (fnd_map_iterate(e->map, e->map_bytes, field, &t) != 0 || sscanf(t.name, "n%u", &i) != 1 || i >= NAMES) {
		a->others++;
		return 0;
	}
	if (strcmp(e->name, "agent.up") == 0)
		a->up[i]++;
	else if (strcmp(e->name, "agent.gone") == 0)
		a->gone[i]++;
	else if (strcmp(e->name, "agent.down") == 0) {
		a->down[i]++;
		if (a->reason[0] && (strcmp(a->reason, t.reason) != 0 || a->status != t.status))
			a->mixed = 1;
		memcpy(a->reason, t.reason, sizeof(a->reason));
		a->status = t.status;
	}
	return 0;
}

static bool each(const unsigned int *counts, unsigned int n, unsigned int expected)
{
	for (unsigned int i = 0; i < n; i++)
		if (counts[i] != expected) {
			fprintf(stderr, "name %u: %u, not %u\n", i, counts[i], expected);
			return false;
		}
	return true;
}

/* --- owners and reapers ---------------------------------------------------------------------------- */

struct owner {
	const char *name;
	unsigned int names;
	int end; /* below 0: that signal; else exit with it; 1000: wait */
};

static int own(void *arg)
{
	struct owner *o = arg;
	struct world w;

	TRY(enter(o->name, &w));
	for (unsigned int i = 0; i < o->names; i++) {
		char agent[16];

		snprintf(agent, sizeof(agent), "n%u", i);
		NEED(fnd_registry_register(w.reg, agent, 0, NULL, 0, 0) == 0);
	}
	word_set(&shared->word[0], 1);
	NEED(word_wait(&shared->word[1], 1) == 0);
	prctl(PR_SET_DUMPABLE, 1);
	if (o->end == 1000)
		for (;;)
			pause();
	if (o->end >= 0)
		_exit(o->end);
	signal(-o->end, SIG_DFL);
	raise(-o->end);
	return 99;
}

static int reap_loop(void *name)
{
	struct world w;

	TRY(enter(name, &w));
	for (;;) {
		unsigned int names = 0;

		NEED(fnd_registry_reap(w.reg, &names) == 0);
		word_add(&shared->word[2], names);
		word_add(&shared->word[3], 1);
	}
}

/* An owner of many names ends while several reap: every name goes once, and the reason is right. */
static int reason(int end, const char *expected, int64_t status)
{
	struct tally *t = calloc(1, sizeof(*t));
	struct owner o = { .names = NAMES, .end = end };
	uint64_t cursor = 0, missed;
	pid_t reaper[REAPERS], pid;
	struct world w;
	siginfo_t info;

	NEED(t && segment_new(&o.name) == 0);
	TRY(enter(o.name, &w));
	pid = child_start(own, &o);
	NEED(word_wait(&shared->word[0], 1) == 0);
	for (unsigned int i = 0; i < REAPERS; i++)
		reaper[i] = child_start(reap_loop, (void *)(uintptr_t)o.name);
	NEED(word_wait(&shared->word[3], REAPERS) == 0);
	word_set(&shared->word[1], 1);
	NEED(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0); /* a zombie: the kernel still tells */
	NEED(word_wait(&shared->word[2], NAMES) == 0);
	child_wait(pid);
	nap_us(10000);
	for (unsigned int i = 0; i < REAPERS; i++)
		child_kill(reaper[i]);
	NEED(word_get(&shared->word[2]) == NAMES);
	NEED(fnd_registry_count(w.reg) == 0);
	NEED(fnd_events_read(fnd_registry_events(w.reg), &cursor, count, t, &missed) == 0 && missed == 0);
	NEED(each(t->up, NAMES, 1) && each(t->down, NAMES, 1) && each(t->gone, NAMES, 0) && t->others == 0);
	if (strcmp(t->reason, expected) != 0 || t->status != status || t->mixed)
		fprintf(stderr, "reason %s %lld, mixed %d\n", t->reason, (long long)t->status, t->mixed);
	NEED(strcmp(t->reason, expected) == 0 && t->status == status && !t->mixed);
	TRY(leave(&w));
	free(t);
	return fnd_segment_destroy(o.name, 0) == 0 ? 0 : 1;
}

static int reason_exit(void)
{
	return reason(3, "exit", 3);
}

static int reason_segv(void)
{
	return reason(-SIGSEGV, "signal", SIGSEGV);
}

static int reason_kill(void)
{
	return reason(-SIGKILL, "signal", SIGKILL);
}

/* Its parent has waited, and says how it ended. */
static int reason_from_parent(void)
{
	struct tally *t = calloc(1, sizeof(*t));
	struct owner o = { .names = 5, .end = 42 };
	uint64_t cursor = 0;
	unsigned int names;
	struct world w;
	int status;
	pid_t pid;

	NEED(t && segment_new(&o.name) == 0);
	TRY(enter(o.name, &w));
	pid = child_start(own, &o);
	NEED(word_wait(&shared->word[0], 1) == 0);
	word_set(&shared->word[1], 1);
	NEED(waitpid(pid, &status, 0) == pid);
	NEED(fnd_segment_child_died(w.seg, (uint32_t)pid, status) == 0);
	NEED(fnd_registry_reap(w.reg, &names) == 0 && names == 5);
	NEED(fnd_events_read(fnd_registry_events(w.reg), &cursor, count, t, NULL) == 0);
	NEED(each(t->down, 5, 1) && strcmp(t->reason, "exit") == 0 && t->status == 42);
	TRY(leave(&w));
	free(t);
	return fnd_segment_destroy(o.name, 0) == 0 ? 0 : 1;
}

/* Reapers that are killed, again and again, between any two steps. */
static int killed_reapers(void)
{
	struct tally *t = calloc(1, sizeof(*t));
	uint64_t cursor = 0, missed;
	struct world w;
	struct owner o = { .names = NAMES, .end = 1000 };

	NEED(t && segment_new(&o.name) == 0);
	TRY(enter(o.name, &w));
	for (unsigned int round = 1; round <= 12; round++) {
		pid_t reaper[REAPERS], pid;
		unsigned int names;

		memset(shared, 0, sizeof(*shared));
		pid = child_start(own, &o);
		NEED(word_wait(&shared->word[0], 1) == 0);
		for (unsigned int i = 0; i < REAPERS; i++)
			reaper[i] = child_start(reap_loop, (void *)(uintptr_t)o.name);
		NEED(word_wait(&shared->word[3], REAPERS) == 0);
		child_kill(pid);
		for (unsigned int k = 0; k < 12; k++) {
			unsigned int i = (unsigned int)(random_u64() % REAPERS);

			nap_us((unsigned int)(random_u64() % 400));
			child_kill(reaper[i]);
			reaper[i] = child_start(reap_loop, (void *)(uintptr_t)o.name);
		}
		for (unsigned int i = 0; i < REAPERS; i++)
			child_kill(reaper[i]);
		NEED(fnd_registry_reap(w.reg, &names) == 0); /* what the last of them left */
		NEED(fnd_registry_count(w.reg) == 0);
		NEED(fnd_events_read(fnd_registry_events(w.reg), &cursor, count, t, &missed) == 0 && missed == 0);
		NEED(each(t->down, NAMES, round) && each(t->up, NAMES, round));
		NEED(strcmp(t->reason, "signal") == 0 || strcmp(t->reason, "unknown") == 0);
	}
	TRY(leave(&w));
	free(t);
	return fnd_segment_destroy(o.name, 0) == 0 ? 0 : 1;
}

/* Owners that register and unregister are killed anywhere: each name that came has gone, by one way. */
static int churn(void *name)
{
	struct world w;

	TRY(enter(name, &w));
	word_add(&shared->word[0], 1);
	for (unsigned int i = 0;; i = (i + 1) % 40) {
		char agent[16];
		int err;

		snprintf(agent, sizeof(agent), "n%u", i);
		err = fnd_registry_register(w.reg, agent, 0, NULL, 0, 0);
		NEED(err == 0 || err == -EEXIST);
		if (err == 0 && i % 3)
			NEED(fnd_registry_update(w.reg, agent, "\x81\xa1k\x01", 4) == 0);
		if (err == 0 && i % 2)
			NEED(fnd_registry_unregister(w.reg, agent, 0) == 0);
	}
}

static int killed_owners(void)
{
	struct tally *t = calloc(1, sizeof(*t));
	uint64_t cursor = 0, missed;
	const char *name;
	struct world w;
	pid_t pid[3];

	NEED(t && segment_new(&name) == 0);
	TRY(enter(name, &w));
	for (unsigned int i = 0; i < 3; i++)
		pid[i] = child_start(churn, (void *)(uintptr_t)name);
	for (unsigned int k = 0; k < 150; k++) {
		unsigned int i = k % 3;

		nap_us((unsigned int)(random_u64() % 3000));
		child_kill(pid[i]);
		NEED(fnd_events_read(fnd_registry_events(w.reg), &cursor, count, t, &missed) == 0);
		if (missed) { /* too slow to add up: from here on */
			memset(t, 0, sizeof(*t));
		}
		if (k % 5 == 0)
			NEED(fnd_registry_reap(w.reg, NULL) == 0);
		pid[i] = child_start(churn, (void *)(uintptr_t)name);
	}
	for (unsigned int i = 0; i < 3; i++)
		child_kill(pid[i]);
	NEED(fnd_registry_reap(w.reg, NULL) == 0 && fnd_registry_count(w.reg) == 0);
	NEED(fnd_registry_reap(w.reg, NULL) == 0);
	{ /* the table is empty: nothing was left half removed */
		struct fnd_table_stats stats;
		struct fnd_table *table;

		NEED(fnd_table_open(w.seg, FND_REGISTRY_TABLE, NULL, &table) == 0);
		NEED(fnd_table_stats_read(table, &stats) == 0 && stats.live == 0 && fnd_table_check(table) == 0);
		fnd_table_close(table);
	}
	NEED(fnd_events_read(fnd_registry_events(w.reg), &cursor, count, t, &missed) == 0);
	TRY(leave(&w));
	free(t);
	return fnd_segment_destroy(name, 0) == 0 ? 0 : 1;
}

/* What one died in the middle of, step by step: a change that nobody was told of is told by the next reap. */
static int untold(void *name)
{
	struct world w;

	TRY(enter(name, &w));
	word_set(&shared->word[0], 1);
	NEED(word_wait(&shared->word[1], 1) == 0);
	for (;;) {
		NEED(fnd_registry_register(w.reg, "n1", (uint32_t)getppid(), NULL, 0, FND_REGISTER_TAKE) == 0);
		NEED(fnd_registry_unregister(w.reg, "n1", FND_UNREGISTER_FORCE) == 0);
	}
}

/* Somebody registers and unregisters for another and is killed: the other lives, and ups and goings alternate. */
static int told_in_the_end(void)
{
	struct tally *t = calloc(1, sizeof(*t));
	uint64_t cursor = 0, missed = 0, lost = 0;
	const char *name;
	struct world w;

	NEED(t && segment_new(&name) == 0);
	TRY(enter(name, &w));
	for (unsigned int round = 0; round < 60; round++) {
		bool there;
		pid_t pid;

		memset(shared, 0, sizeof(*shared));
		pid = child_start(untold, (void *)(uintptr_t)name);
		NEED(word_wait(&shared->word[0], 1) == 0);
		word_set(&shared->word[1], 1);
		nap_us((unsigned int)(random_u64() % 1500));
		child_kill(pid);
		NEED(fnd_registry_reap(w.reg, NULL) == 0);
		there = fnd_registry_lookup(w.reg, "n1", NULL) == 0;
		NEED(fnd_events_read(fnd_registry_events(w.reg), &cursor, count, t, &missed) == 0);
		lost += missed;
		if (lost == 0)
			NEED(t->up[1] >= t->gone[1] && t->up[1] - t->gone[1] <= 60 + (unsigned int)there);
		if (there)
			NEED(fnd_registry_unregister(w.reg, "n1", 0) == 0);
		NEED(fnd_registry_lookup(w.reg, "n1", NULL) == -ENOENT);
	}
	TRY(leave(&w));
	free(t);
	return fnd_segment_destroy(name, 0) == 0 ? 0 : 1;
}

/* --- the first of all ------------------------------------------------------------------------------ */

static int first_user(void *name)
{
	static const char *const attributes[] = { "health" };
	struct fnd_registry_options o = { .size = sizeof(o), .attributes = attributes, .nattributes = 1 };
	struct fnd_registry *reg;
	struct fnd_segment *seg;
	char agent[16];

	NEED(fnd_segment_attach(name, NULL, &seg) == 0);
	word_add(&shared->word[0], 1);
	NEED(word_wait(&shared->word[0], 100) == 0);
	if (getpid() % 2)
		NEED(fnd_registry_ensure(seg, 0, NULL) == 0);
	NEED(fnd_registry_open_with(seg, &o, &reg) == 0);
	snprintf(agent, sizeof(agent), "first.%d", (int)getpid());
	NEED(fnd_registry_register(reg, agent, 0, "\x81\xa6health\xa2ok", 11, 0) == 0);
	NEED(fnd_registry_lookup(reg, agent, NULL) == 0);
	word_add(&shared->word[1], 1);
	NEED(word_wait(&shared->word[1], 100) == 0);
	NEED(fnd_registry_count(reg) >= 100 || word_get(&shared->word[2]));
	word_set(&shared->word[2], 1);
	fnd_registry_close(reg);
	return fnd_segment_detach(seg) == 0 ? 0 : 1;
}

static int hundred_first_users(void)
{
	char table[FND_TABLE_NAME_MAX + 1];
	struct fnd_segment *seg;
	unsigned int tables = 0;
	const char *name;
	pid_t pid[100];
	int failed = 0;

	NEED(segment_new(&name) == 0);
	for (unsigned int i = 0; i < 100; i++)
		pid[i] = child_start(first_user, (void *)(uintptr_t)name);
	for (unsigned int i = 0; i < 100; i++)
		failed |= child_wait(pid[i]);
	NEED(!failed);
	NEED(fnd_segment_attach(name, NULL, &seg) == 0);
	for (unsigned int i = 0; i < 64; i++)
		tables += fnd_table_name(seg, i, table) == 0;
	NEED(tables == 3); /* names, events, index: each once */
	NEED(fnd_segment_detach(seg) == 0);
	return fnd_segment_destroy(name, 0) == 0 ? 0 : 1;
}

/* Records nobody could read are removed, the rest stays; a second time there is nothing to do. */
static int ensure_repairs(void)
{
	struct fnd_registry_repair done;
	struct fnd_registry_stats stats;
	struct fnd_segment *seg;
	struct fnd_table *t;
	const char *name;
	struct world w;

	NEED(segment_new(&name) == 0);
	NEED(fnd_segment_attach(name, NULL, &seg) == 0);
	NEED(fnd_registry_ensure(seg, 64, &done) == 0 && done.made == 2);
	TRY(enter(name, &w));
	NEED(fnd_registry_register(w.reg, "good", 0, NULL, 0, 0) == 0);
	NEED(fnd_table_open(seg, FND_REGISTRY_TABLE, NULL, &t) == 0);
	NEED(fnd_table_upsert(t, "bad", 3, "0123456789abcdef too short", 26) == 0);
	NEED(fnd_registry_ensure(seg, 64, &done) == 0 && done.damaged == 1 && done.made == 0);
	NEED(fnd_registry_stats_read(w.reg, &stats) == 0 && stats.last_repair_ns > 0 && stats.entries == 1);
	NEED(fnd_registry_lookup(w.reg, "good", NULL) == 0 && fnd_registry_lookup(w.reg, "bad", NULL) == -ENOENT);
	NEED(fnd_registry_ensure(seg, 64, &done) == 0);
	NEED(done.damaged + done.made + done.reaped + done.indexed + done.index_dropped + done.events == 0);
	NEED(fnd_registry_stats_read(w.reg, &stats) == 0 && stats.lookups == 2 && stats.misses == 1);
	NEED(stats.registered == 1 && stats.capacity >= 64 && stats.bytes > 0 && stats.events == 1);
	fnd_table_close(t);
	TRY(leave(&w));
	NEED(fnd_segment_detach(seg) == 0);
	return fnd_segment_destroy(name, 0) == 0 ? 0 : 1;
}

/* A dead one's name is told as such, also by who takes it by force after its slot was reaped. */
static int taken_after_the_reap(void)
{
	struct tally *t = calloc(1, sizeof(*t));
	struct owner o = { .names = 3, .end = -SIGKILL };
	uint64_t cursor = 0;
	struct world w;
	int status;
	pid_t pid;

	NEED(t && segment_new(&o.name) == 0);
	TRY(enter(o.name, &w));
	pid = child_start(own, &o);
	NEED(word_wait(&shared->word[0], 1) == 0);
	word_set(&shared->word[1], 1);
	NEED(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
	NEED(fnd_segment_reap(w.seg, NULL) == 0);
	NEED(fnd_registry_register(w.reg, "n0", 0, NULL, 0, FND_REGISTER_TAKE) == 0);
	NEED(fnd_registry_register(w.reg, "n1", 0, NULL, 0, 0) == 0);
	fnd_registry_unregister(w.reg, "n2", FND_UNREGISTER_FORCE);
	NEED(fnd_events_read(fnd_registry_events(w.reg), &cursor, count, t, NULL) == 0);
	for (unsigned int i = 0; i < 3; i++)
		NEED(t->down[i] == 1 && t->gone[i] == 0);
	TRY(leave(&w));
	free(t);
	return fnd_segment_destroy(o.name, 0) == 0 ? 0 : 1;
}

const struct test_case agents_death_cases[] = {
	{ "taken_after_the_reap", taken_after_the_reap },
	{ "reason_exit", reason_exit },
	{ "reason_segv", reason_segv },
	{ "reason_kill", reason_kill },
	{ "reason_from_parent", reason_from_parent },
	{ "killed_reapers", killed_reapers },
	{ "killed_owners", killed_owners },
	{ "told_in_the_end", told_in_the_end },
	{ "hundred_first_users", hundred_first_users },
	{ "ensure_repairs", ensure_repairs },
	{ NULL, NULL },
};
