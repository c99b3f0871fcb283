// SPDX-License-Identifier: MIT
/* Publishers that are killed: numbers without gaps, none twice; slow readers know what they missed. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <foundation/events.h>
#include <foundation/registry.h>

#include "multiproc.h"

#define PUBLISHERS 8u

extern const struct test_case agents_events_cases[];

static int segment_new(const char **ret_name, struct fnd_segment **ret_seg)
{
	struct fnd_segment_options o = small_options();

	o.processes = 128;
	o.threads = 128;
	*ret_name = name_new();
	return fnd_segment_create(*ret_name, &o, ret_seg);
}

/* Publishes {"w": its number, "i": 0, 1, 2 …} until it is killed, or has published all. */
struct job {
	const char *name;
	unsigned int who, count;
};

static int publisher(void *arg)
{
	struct job *j = arg;
	struct fnd_segment *seg;
	struct fnd_events *ev;

	NEED(fnd_segment_attach(j->name, NULL, &seg) == 0);
	NEED(fnd_events_open(seg, &ev) == 0);
	for (unsigned int i = 0; i < j->count; i++) {
		unsigned char map[] = { 0x82, 0xa1, 'w', 0xcd, (unsigned char)(j->who >> 8), (unsigned char)j->who,
					0xa1, 'i', 0xcd, (unsigned char)(i >> 8), (unsigned char)i };

		NEED(fnd_event_publish(ev, "test.tick", map, sizeof(map), NULL) == 0);
		word_add(&shared->word[0], 1);
	}
	fnd_events_close(ev);
	return fnd_segment_detach(seg) == 0 ? 0 : 1;
}

struct audit {
	uint64_t last, got;
	unsigned int next[1024]; /* by publisher: the count expected next */
	int wrong;
};

static int audit_one(const struct fnd_published *e, void *arg)
{
	struct audit *a = arg;
	unsigned int who = (unsigned int)e->map[4] << 8 | e->map[5], i = (unsigned int)e->map[9] << 8 | e->map[10];

	if (e->number <= a->last || e->map_bytes != 11 || who >= 1024)
		a->wrong = 1;
	else if (i < a->next[who])
		a->wrong = 2; /* twice, or out of its publisher's order */
	else
		a->next[who] = i + 1;
	a->last = e->number;
	a->got++;
	return 0;
}

/* A reader who is there all the time: every number once; got and missed add up to the head. */
static int killed_publishers(void)
{
	struct audit *a = calloc(1, sizeof(*a)), *slow = calloc(1, sizeof(*slow));
	uint64_t cursor = 0, missed, lost = 0, late = 0, late_lost = 0;
	struct job job[PUBLISHERS];
	struct fnd_segment *seg;
	struct fnd_events *ev;
	pid_t pid[PUBLISHERS];
	unsigned int who = 0, kills = 0;
	const char *name;

	NEED(a && slow && segment_new(&name, &seg) == 0 && fnd_events_open(seg, &ev) == 0);
	for (unsigned int i = 0; i < PUBLISHERS; i++) {
		job[i] = (struct job){ name, who++, 60000 };
		pid[i] = child_start(publisher, &job[i]);
	}
	while (kills < 200) {
		unsigned int i = (unsigned int)(random_u64() % PUBLISHERS);

		nap_us((unsigned int)(random_u64() % 2000));
		NEED(fnd_events_read(ev, &cursor, audit_one, a, &missed) == 0);
		lost += missed;
		NEED(cursor == a->last || missed);
		if (kills % 40 == 39) { /* the other reader comes seldom */
			NEED(fnd_events_read(ev, &late, audit_one, slow, &missed) == 0);
			late_lost += missed;
			NEED(slow->got + late_lost == late);
		}
		child_kill(pid[i]);
		kills++;
		job[i] = (struct job){ name, who++, 60000 };
		pid[i] = child_start(publisher, &job[i]);
	}
	for (unsigned int i = 0; i < PUBLISHERS; i++)
		child_kill(pid[i]);
	NEED(fnd_segment_reap(seg, NULL) == 0);
	NEED(fnd_events_read(ev, &cursor, audit_one, a, &missed) == 0);
	lost += missed;
	NEED(fnd_events_read(ev, &late, audit_one, slow, &missed) == 0);
	late_lost += missed;
	NEED(a->wrong == 0 && slow->wrong == 0);
	NEED(cursor == fnd_events_head(ev) && late == cursor);
	NEED(a->got + lost == cursor && slow->got + late_lost == cursor);
	/* each has published one that it had no time to count, at most */
	NEED(cursor >= word_get(&shared->word[0]) && cursor <= word_get(&shared->word[0]) + kills + PUBLISHERS);
	NEED(late_lost > 0 && cursor > 5000);
	fnd_events_close(ev);
	free(a);
	free(slow);
	NEED(fnd_segment_detach(seg) == 0);
	return fnd_segment_destroy(name, 0) == 0 ? 0 : 1;
}

static int stopper(void *arg)
{
	struct job *j = arg;
	struct fnd_segment *seg;
	struct fnd_events *ev;

	NEED(fnd_segment_attach(j->name, NULL, &seg) == 0);
	NEED(fnd_events_open(seg, &ev) == 0);
	for (;;) {
		unsigned char map[] = { 0x82, 0xa1, 'w', 0xcd, 0, (unsigned char)j->who, 0xa1, 'i', 0xcd,
					(unsigned char)(j->count >> 8), (unsigned char)j->count };

		NEED(fnd_event_publish(ev, "test.tick", map, sizeof(map), NULL) == 0);
		j->count++;
		word_add(&shared->word[1], 1);
	}
}

/* Publishers that are stopped for longer than a thousand events: an old number does not come again. */
static int stopped_publishers(void)
{
	static const unsigned char map[] = { 0x82, 0xa1, 'w', 0xcd, 0, 9, 0xa1, 'i', 0xcd, 0, 0 };
	struct fnd_attach_options quick = { .size = sizeof(quick), .lock_timeout_ms = 20 };
	unsigned int whole = 0;
	struct job job[2];
	struct fnd_segment *seg;
	struct fnd_events *ev;
	const char *name;
	pid_t pid[2];

	NEED(segment_new(&name, NULL) == 0);
	NEED(fnd_segment_attach(name, &quick, &seg) == 0 && fnd_events_open(seg, &ev) == 0);
	for (unsigned int i = 0; i < 2; i++) {
		job[i] = (struct job){ name, i, 0 };
		pid[i] = child_start(stopper, &job[i]);
	}
	NEED(word_wait(&shared->word[1], 10) == 0);
	for (unsigned int round = 0; round < 60; round++) {
		uint64_t before, after = 0, last = 0;
		uint32_t seen;
		int err = 0;

		kill(pid[0], SIGSTOP);
		kill(pid[1], SIGSTOP);
		before = fnd_events_head(ev);
		for (unsigned int i = 0; i < 1100 && !err; i++) {
			err = fnd_event_publish(ev, "test.other", map, sizeof(map), &after);
			NEED(err || after > last);
			last = after;
		}
		/* stopped with a lock in his hands, or inside a section: not this time */
		NEED(err == 0 || err == -ETIMEDOUT || err == -FND_E_GARBAGE);
		NEED(err || after >= before + 1100);
		whole += !err;
		seen = word_get(&shared->word[1]);
		kill(pid[0], SIGCONT);
		kill(pid[1], SIGCONT);
		NEED(word_wait(&shared->word[1], seen + 4) == 0);
		NEED(fnd_events_head(ev) > after);
	}
	NEED(whole > 0);
	child_kill(pid[0]);
	child_kill(pid[1]);
	{ /* the last thousand, and what those had to leave who found a lock taken: nothing old has come up */
		struct fnd_table_stats stats;
		struct fnd_table *t;

		NEED(fnd_table_open(seg, FND_EVENTS_TABLE, NULL, &t) == 0);
		NEED(fnd_table_stats_read(t, &stats) == 0 && stats.live <= FND_EVENTS_MAX + 24);
		fnd_table_close(t);
	}
	fnd_events_close(ev);
	NEED(fnd_segment_detach(seg) == 0);
	return fnd_segment_destroy(name, 0) == 0 ? 0 : 1;
}

static int wait_for_it(void *name)
{
	struct fnd_segment *seg;
	struct fnd_events *ev;
	uint64_t cursor;

	NEED(fnd_segment_attach(name, NULL, &seg) == 0);
	NEED(fnd_events_open(seg, &ev) == 0);
	cursor = fnd_events_head(ev);
	word_set(&shared->word[2], 1);
	NEED(fnd_events_wait(ev, cursor, 20000) == 0);
	NEED(fnd_events_head(ev) == cursor + 1);
	fnd_events_close(ev);
	return fnd_segment_detach(seg) == 0 ? 0 : 1;
}

static int waiters_wake(void)
{
	struct fnd_segment *seg;
	struct fnd_events *ev;
	const char *name;
	pid_t pid;

	NEED(segment_new(&name, &seg) == 0 && fnd_events_open(seg, &ev) == 0);
	pid = child_start(wait_for_it, (void *)(uintptr_t)name);
	NEED(word_wait(&shared->word[2], 1) == 0);
	nap_us(20000);
	NEED(fnd_event_publish(ev, "test.tick", NULL, 0, NULL) == 0);
	NEED(child_wait(pid) == 0);
	fnd_events_close(ev);
	NEED(fnd_segment_detach(seg) == 0);
	return fnd_segment_destroy(name, 0) == 0 ? 0 : 1;
}

const struct test_case agents_events_cases[] = {
	{ "killed_publishers", killed_publishers },
	{ "stopped_publishers", stopped_publishers },
	{ "waiters_wake", waiters_wake },
	{ NULL, NULL },
};
