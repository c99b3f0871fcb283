// SPDX-License-Identifier: MIT
/* From the events to the journal: each once, by many at the same time, after kills, with some gone before. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include <foundation/area.h>
#include <foundation/events.h>
#include <foundation/facts.h>
#include <foundation/journal.h>

#include "../../runtime/area_layout.h"

#define SYNCERS 8
#define FACTS 400u

static char state[64], segment[64];
static struct fnd_segment *seg;
static struct fnd_events *ev;
static struct fnd_shm_runtime *area;

static void segment_new(void)
{
	struct fnd_segment_options opt = { .size = sizeof(opt), .processes = 32, .threads = 64 };

	cr_assert_eq(fnd_segment_create(segment, &opt, &seg), 0);
	cr_assert_eq(fnd_events_open(seg, &ev), 0);
	area = fnd_segment_area(seg);
}

static void segment_gone(void)
{
	fnd_events_close(ev);
	fnd_segment_detach(seg);
	fnd_segment_destroy(segment, FND_DESTROY_FORCE);
}

static void begin(void)
{
	static unsigned int count;

	snprintf(state, sizeof(state), "/tmp/t-facts-XXXXXX");
	cr_assert(mkdtemp(state));
	setenv("FOUNDATION_STATE_DIR", state, 1);
	snprintf(segment, sizeof(segment), "t-facts-%d-%u", (int)getpid(), count++);
	segment_new();
}

static void end(void)
{
	char command[96];

	segment_gone();
	snprintf(command, sizeof(command), "rm -rf %s", state);
	if (system(command))
		fprintf(stderr, "%s stays\n", state);
}

TestSuite(facts, .init = begin, .fini = end);

/* {"name": "w-NUMBER", "change": NUMBER} */
static void publish(const char *name, unsigned int number)
{
	unsigned char map[64] = { 0x82, 0xa4, 'n', 'a', 'm', 'e' };
	size_t n = 6;
	int len = snprintf((char *)map + n + 1, 20, "w-%u", number);

	map[n] = (unsigned char)(0xa0 | len);
	n += 1 + (size_t)len;
	memcpy(map + n, "\xa6" "change\xce", 8);
	n += 8;
	for (int shift = 24; shift >= 0; shift -= 8)
		map[n++] = (unsigned char)(number >> shift);
	cr_assert_eq(fnd_event_publish(ev, name, map, n, NULL), 0);
}

struct read {
	unsigned int down, conflict, missed, other;
	unsigned int of[2 * FACTS + 1]; /* times each was told */
	char last[2048];
};

static int one(const struct fnd_journal_record *r, void *arg)
{
	const char *name = strstr(r->json, "\"name\":\"w-");
	struct read *all = arg;
	unsigned int n = name ? (unsigned int)atoi(name + 10) : 0;

	all->down += strcmp(r->type, "agent.down") == 0;
	all->conflict += strcmp(r->type, "registry.conflict") == 0;
	all->missed += strcmp(r->type, "events.missed") == 0;
	all->other += strncmp(r->type, "flag", 4) == 0 || strncmp(r->type, "agent.u", 7) == 0;
	if (n <= 2 * FACTS)
		all->of[n]++;
	snprintf(all->last, sizeof(all->last), "%s", r->json);
	return 0;
}

static struct read journal(void)
{
	struct read all = { 0 };
	struct fnd_journal *j;
	unsigned int damaged;

	cr_assert_eq(fnd_journal_open(segment, NULL, &j), 0);
	cr_assert_eq(fnd_journal_read(j, one, &all, &damaged), 0);
	cr_assert_eq(damaged, 0);
	fnd_journal_close(j);
	return all;
}

static uint32_t sync_now(void)
{
	struct fnd_facts done = { 0 };

	cr_assert_eq(fnd_facts_sync(seg, 0, &done), 0, "%s", fnd_error_detail());
	return done.written;
}

Test(facts, what_belongs_is_written_once)
{
	struct read all;

	cr_assert_eq(sync_now(), 0);
	publish("agent.up", 1);
	cr_assert_eq(sync_now(), 0);
	cr_assert_neq(access(state, F_OK), -1);
	all = journal();
	cr_assert_eq(all.last[0], '\0', "nothing to write, and yet: %s", all.last);
	publish("agent.down", 1);
	publish("agent.up", 2);
	publish("registry.conflict", 3);
	cr_assert_eq(sync_now(), 2);
	cr_assert_eq(sync_now(), 0);
	all = journal();
	cr_assert_eq(all.down, 1);
	cr_assert_eq(all.conflict, 1);
	cr_assert_eq(all.other, 0);
	cr_assert(strstr(all.last, "\"event\":4,") && strstr(all.last, "\"data\":{\"name\":\"w-3\",\"change\":3}"), "%s",
		  all.last);
}

Test(facts, a_note_that_is_behind_or_damaged_repeats_nothing)
{
	struct read all;

	publish("agent.down", 1);
	publish("agent.down", 2);
	cr_assert_eq(sync_now(), 2);
	area->events_journalled = 0; /* killed between the disk and the note */
	cr_assert_eq(sync_now(), 0);
	publish("agent.down", 3);
	area->events_journalled = 1;
	cr_assert_eq(sync_now(), 1);
	publish("agent.down", 4);
	area->events_journalled = UINT64_MAX; /* damaged */
	cr_assert_eq(sync_now(), 1);
	cr_assert_eq(area->events_journalled, 4);
	all = journal();
	cr_assert_eq(all.down, 4);
}

Test(facts, what_was_gone_before_is_counted)
{
	struct read all;

	publish("agent.down", 1);
	cr_assert_eq(sync_now(), 1);
	for (unsigned int i = 2; i < 1300; i++)
		publish("agent.up", i);
	publish("agent.down", 2000);
	cr_assert_eq(sync_now(), 2);
	all = journal();
	cr_assert_eq(all.down, 2);
	cr_assert_eq(all.missed, 1);
	area->events_journalled = 0;
	cr_assert_eq(sync_now(), 0);
	cr_assert_eq(journal().missed, 1);
}

static void missed_text(char *buf, size_t bytes)
{
	struct read all = journal();

	snprintf(buf, bytes, "%s", all.last);
}

Test(facts, only_what_is_gone_is_counted)
{
	char last[2048];

	for (unsigned int i = 1; i <= 1300; i++)
		publish("agent.up", i);
	cr_assert_eq(sync_now(), 1);
	missed_text(last, sizeof(last));
	cr_assert(strstr(last, "\"type\":\"events.missed\""), "%s", last);
	cr_assert(strstr(last, "\"count\":300"), "%s", last);
}

/* The numbers begin anew with a segment made anew; its records are its own. */
Test(facts, another_segment_of_the_name)
{
	publish("agent.down", 1);
	publish("agent.down", 2);
	cr_assert_eq(sync_now(), 2);
	segment_gone();
	segment_new();
	publish("agent.down", 3);
	cr_assert_eq(sync_now(), 1);
	cr_assert_eq(journal().down, 3);
}

Test(facts, a_journal_that_refuses_gets_them_later)
{
	char dir[128];

	publish("agent.down", 1);
	snprintf(dir, sizeof(dir), "%s/%s", state, segment);
	cr_assert_eq(mkdir(dir, 0700), 0);
	snprintf(dir + strlen(dir), sizeof(dir) - strlen(dir), "/lock");
	cr_assert_eq(mkdir(dir, 0700), 0); /* no file can be there */
	cr_assert_lt(fnd_facts_sync(seg, 100, NULL), 0);
	cr_assert_eq(rmdir(dir), 0);
	cr_assert_eq(sync_now(), 1);
	cr_assert_eq(journal().down, 1);
}

static void syncer(void)
{
	struct fnd_segment *own;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (fnd_segment_attach(segment, NULL, &own))
		_exit(1);
	for (;;) {
		int err = fnd_facts_sync(own, 0, NULL);

		if (err && err != -ETIMEDOUT)
			_exit(2);
		usleep(500);
	}
}

Test(facts, many_at_once_and_killed, .timeout = 120)
{
	pid_t pid[SYNCERS];
	struct read all;
	int status;

	for (unsigned int i = 0; i < SYNCERS; i++) {
		pid[i] = fork();
		if (pid[i] == 0)
			syncer();
	}
	for (unsigned int n = 1; n <= FACTS; n++) {
		unsigned int i = n % SYNCERS;

		publish("agent.down", n);
		if (n % 8 == 0) {
			usleep(3000);
			kill(pid[i], SIGKILL);
			cr_assert_eq(waitpid(pid[i], &status, 0), pid[i]);
			cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%#x", status);
			pid[i] = fork();
			if (pid[i] == 0)
				syncer();
		}
	}
	for (unsigned int i = 0; i < SYNCERS; i++) {
		kill(pid[i], SIGKILL);
		waitpid(pid[i], &status, 0);
	}
	sync_now();
	all = journal();
	cr_assert_eq(all.missed, 0);
	for (unsigned int n = 1; n <= FACTS; n++)
		cr_assert_eq(all.of[n], 1, "%u was written %u times", n, all.of[n]);
}
