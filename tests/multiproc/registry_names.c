// SPDX-License-Identifier: MIT
/* Names: seen by all at once, gone with their owners, refused without a trace. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <foundation/registry.h>

#include "multiproc.h"

#define NAMES 64u

extern const struct test_case registry_cases[];

struct peer {
	const char *name;
	struct fnd_segment *seg;
	struct fnd_registry *reg;
};

static int peer_open(struct peer *p, const char *name)
{
	p->name = name;
	NEED(fnd_segment_attach(name, NULL, &p->seg) == 0);
	NEED(fnd_registry_open(p->seg, NAMES, &p->reg) == 0);
	return 0;
}

static int peer_close(struct peer *p)
{
	fnd_registry_close(p->reg);
	return fnd_segment_detach(p->seg) == 0 ? 0 : 1;
}

/* The case's own place in a new segment. */
static int begin(struct peer *p)
{
	const char *name = name_new();
	struct fnd_segment_options o = small_options();

	o.processes = 32;
	o.threads = 32;
	NEED(fnd_segment_create(name, &o, NULL) == 0);
	return peer_open(p, name);
}

static int end(struct peer *p)
{
	TRY(peer_close(p));
	return fnd_segment_destroy(p->name, 0) == 0 ? 0 : 1;
}

static uint32_t owner_of(struct peer *p, const char *agent)
{
	struct fnd_agent a;

	return fnd_registry_lookup(p->reg, agent, &a) == 0 ? a.owner.pid : 0;
}

/* Registers "mine.0" .. "mine.9" and "other", then waits to be killed. */
static int own_and_wait(void *name)
{
	struct peer p;
	char agent[16];

	TRY(peer_open(&p, name));
	for (unsigned int i = 0; i < 10; i++) {
		snprintf(agent, sizeof(agent), "mine.%u", i);
		NEED(fnd_registry_register(p.reg, agent, 0, NULL, 0, 0) == 0);
	}
	NEED(fnd_registry_register(p.reg, "other", 0, "\x81\xa1k\x07", 4, 0) == 0);
	word_set(&shared->word[0], 1);
	for (;;)
		pause();
}

static pid_t owner_start(const char *name)
{
	pid_t pid;

	word_set(&shared->word[0], 0);
	pid = child_start(own_and_wait, (void *)(uintptr_t)name);
	return word_wait(&shared->word[0], 1) == 0 ? pid : -1;
}

/* --- seen by all ---------------------------------------------------------------------------------- */

static int watch(void *name)
{
	struct peer p;

	TRY(peer_open(&p, name));
	for (unsigned int i = 0; i < 300; i++) {
		char agent[16];
		struct fnd_agent a;

		NEED(word_wait(&shared->word[1], i + 1) == 0);
		snprintf(agent, sizeof(agent), "n%u", i % 16);
		NEED(fnd_registry_lookup(p.reg, agent, &a) == (i % 3 == 2 ? -ENOENT : 0));
		if (i % 3 != 2)
			NEED(a.metadata_bytes == 4 && a.metadata[3] == i % 100 &&
			     a.owner.pid == (uint32_t)getppid());
		word_set(&shared->word[2], i + 1);
	}
	return peer_close(&p);
}

/* What has returned here is there for the other process, the moment it looks. */
static int seen_at_once(void)
{
	struct peer p;
	pid_t pid;

	TRY(begin(&p));
	pid = child_start(watch, (void *)(uintptr_t)p.name);
	for (unsigned int i = 0; i < 300; i++) {
		const unsigned char map[] = { 0x81, 0xa1, 'k', (unsigned char)(i % 100) };
		char agent[16];

		snprintf(agent, sizeof(agent), "n%u", i % 16);
		NEED(fnd_registry_register(p.reg, agent, 0, map, sizeof(map), 0) == 0);
		if (i % 3 == 1)
			NEED(fnd_registry_update(p.reg, agent, map, sizeof(map)) == 0);
		if (i % 3 == 2)
			NEED(fnd_registry_unregister(p.reg, agent, 0) == 0);
		word_set(&shared->word[1], i + 1);
		NEED(word_wait(&shared->word[2], i + 1) == 0);
	}
	NEED(child_wait(pid) == 0);
	return end(&p);
}

/* --- the dead ------------------------------------------------------------------------------------- */

static int nobodys(const char *name, const struct fnd_agent *a, void *arg)
{
	(void)name;
	return a->owner.pid == *(uint32_t *)arg ? 1 : 0;
}

/* Dead but not reaped: lookup answers, list and count know better, and the name can be had. */
static int owner_killed(void)
{
	unsigned int names = 99;
	struct peer p;
	uint32_t dead;
	pid_t pid;

	TRY(begin(&p));
	NEED(fnd_registry_register(p.reg, "keeper", 0, NULL, 0, 0) == 0);
	pid = owner_start(p.name);
	dead = (uint32_t)pid;
	NEED(fnd_registry_count(p.reg) == 12 && owner_of(&p, "mine.3") == dead);
	NEED(fnd_registry_reap(p.reg, &names) == 0 && names == 0); /* it lives */
	child_kill(pid);
	NEED(owner_of(&p, "mine.3") == dead);
	NEED(fnd_registry_count(p.reg) == 1);
	NEED(fnd_registry_list(p.reg, 0, nobodys, &dead) == 0);
	NEED(fnd_registry_list(p.reg, FND_AGENTS_ORPHANS, nobodys, &dead) == 0);
	NEED(fnd_registry_register(p.reg, "mine.3", 0, NULL, 0, 0) == 0); /* at once */
	NEED(owner_of(&p, "mine.3") == (uint32_t)getpid());
	NEED(fnd_registry_reap(p.reg, &names) == 0 && names == 10);
	NEED(fnd_registry_reap(p.reg, &names) == 0 && names == 0);
	NEED(fnd_counter_read(p.seg, FND_COUNTER_NAMES_REAPED) == 10);
	NEED(owner_of(&p, "mine.4") == 0 && owner_of(&p, "mine.3") == (uint32_t)getpid());
	NEED(fnd_registry_count(p.reg) == 2);
	return end(&p);
}

/* A lookup never returns what belonged to a participant that has been reaped. */
static int reaped_is_gone(void)
{
	unsigned int names;
	struct peer p;
	pid_t pid;

	TRY(begin(&p));
	pid = owner_start(p.name);
	child_kill(pid);
	NEED(fnd_segment_reap(p.seg, NULL) == 0); /* the slot, not the names */
	for (unsigned int i = 0; i < 10; i++) {
		char agent[16];

		snprintf(agent, sizeof(agent), "mine.%u", i);
		NEED(owner_of(&p, agent) == 0);
	}
	NEED(fnd_registry_update(p.reg, "other", NULL, 0) == -ENOENT);
	NEED(fnd_registry_unregister(p.reg, "other", 0) == -ENOENT);
	NEED(fnd_registry_unregister(p.reg, "mine.0", FND_UNREGISTER_FORCE) == -ENOENT);
	NEED(fnd_registry_reap(p.reg, &names) == 0 && names == 9); /* two have gone all the same */
	return end(&p);
}

static int reap_at_once(void *name)
{
	unsigned int names = 0;
	struct peer p;

	TRY(peer_open(&p, name));
	word_add(&shared->word[1], 1);
	while (!word_get(&shared->word[2]))
		;
	NEED(fnd_registry_reap(p.reg, &names) == 0);
	word_add(&shared->word[3], names);
	return peer_close(&p);
}

/* Six who reap at once: each name goes once. */
static int reaped_once(void)
{
	struct peer p;

	TRY(begin(&p));
	for (unsigned int round = 0; round < 20; round++) {
		pid_t pid[6], dead;
		int failed = 0;

		memset(shared, 0, sizeof(*shared));
		dead = owner_start(p.name);
		for (unsigned int i = 0; i < 6; i++)
			pid[i] = child_start(reap_at_once, (void *)(uintptr_t)p.name);
		NEED(word_wait(&shared->word[1], 6) == 0);
		child_kill(dead);
		word_set(&shared->word[2], 1);
		for (unsigned int i = 0; i < 6; i++)
			failed |= child_wait(pid[i]);
		NEED(!failed && word_get(&shared->word[3]) == 11);
		NEED(fnd_counter_read(p.seg, FND_COUNTER_NAMES_REAPED) == 11u * (round + 1));
		NEED(fnd_registry_count(p.reg) == 0);
	}
	return end(&p);
}

/* Full of the names of the dead: the next register makes room, once. */
static int full_of_the_dead(void)
{
	struct fnd_table_stats stats;
	struct fnd_table *t;
	char agent[32];
	struct peer p;
	unsigned int n = 0;
	pid_t pid;

	TRY(begin(&p));
	pid = owner_start(p.name);
	while (fnd_registry_register(p.reg, (snprintf(agent, sizeof(agent), "f%u", n), agent),
				     (uint32_t)pid, NULL, 0, 0) == 0 && n < 100000)
		n++;
	NEED(n >= NAMES - 11 && n < 100000); /* the segment is full */
	NEED(fnd_registry_register(p.reg, "one more", 0, NULL, 0, 0) == -ENOSPC);
	child_kill(pid);
	NEED(fnd_registry_register(p.reg, "one more", 0, NULL, 0, 0) == 0);
	NEED(owner_of(&p, "one more") == (uint32_t)getpid());
	NEED(fnd_registry_count(p.reg) == 1);
	NEED(fnd_counter_read(p.seg, FND_COUNTER_NAMES_REAPED) == n + 11);
	NEED(fnd_table_open(p.seg, FND_REGISTRY_TABLE, NULL, &t) == 0);
	NEED(fnd_table_check(t) == 0 && fnd_table_stats_read(t, &stats) == 0 && stats.live == 1);
	fnd_table_close(t);
	return end(&p);
}

/* --- for others, against others ------------------------------------------------------------------- */

static int leave_soon(void *name)
{
	struct peer p;

	TRY(peer_open(&p, name));
	word_set(&shared->word[0], 1);
	word_wait(&shared->word[1], 1);
	return peer_close(&p);
}

static int for_another(void)
{
	struct peer p;
	pid_t pid;

	TRY(begin(&p));
	pid = child_start(leave_soon, (void *)(uintptr_t)p.name);
	NEED(word_wait(&shared->word[0], 1) == 0);
	NEED(fnd_registry_register(p.reg, "theirs", (uint32_t)pid, NULL, 0, 0) == 0);
	NEED(owner_of(&p, "theirs") == (uint32_t)pid);
	NEED(fnd_registry_register(p.reg, "theirs", 0, NULL, 0, 0) == -EEXIST);
	word_set(&shared->word[1], 1);
	NEED(child_wait(pid) == 0);
	NEED(fnd_registry_lookup(p.reg, "theirs", NULL) == -ENOENT); /* it has left */
	NEED(fnd_registry_register(p.reg, "x", (uint32_t)pid, NULL, 0, 0) == -ESRCH);
	NEED(fnd_registry_register(p.reg, "x", (uint32_t)getppid(), NULL, 0, 0) == -ESRCH); /* not here */
	NEED(fnd_registry_register(p.reg, "x", UINT32_MAX, NULL, 0, 0) == -ESRCH);
	NEED(fnd_registry_lookup(p.reg, "x", NULL) == -ENOENT);
	NEED(fnd_registry_register(p.reg, "theirs", 0, NULL, 0, 0) == 0);
	NEED(owner_of(&p, "theirs") == (uint32_t)getpid());
	return end(&p);
}

static int against_a_holder(void)
{
	const unsigned char map[] = { 0x81, 0xa1, 'k', 9 };
	struct fnd_agent before, after;
	struct peer p;
	pid_t pid;

	TRY(begin(&p));
	pid = owner_start(p.name);
	NEED(fnd_registry_lookup(p.reg, "other", &before) == 0 && before.owner.pid == (uint32_t)pid);
	NEED(fnd_registry_register(p.reg, "other", 0, NULL, 0, 0) == -EEXIST);
	NEED(fnd_registry_unregister(p.reg, "other", 0) == -EPERM);
	NEED(fnd_registry_lookup(p.reg, "other", &after) == 0);
	NEED(after.generation == before.generation && after.metadata_bytes == 4 &&
	     memcmp(after.metadata, before.metadata, 4) == 0);
	NEED(fnd_registry_update(p.reg, "other", map, sizeof(map)) == 0); /* keeps the owner */
	NEED(fnd_registry_lookup(p.reg, "other", &after) == 0);
	NEED(after.owner.pid == (uint32_t)pid && after.generation > before.generation);
	NEED(after.registered_ns == before.registered_ns && after.metadata[3] == 9);
	NEED(fnd_registry_register(p.reg, "other", 0, NULL, 0, FND_REGISTER_TAKE) == 0);
	NEED(owner_of(&p, "other") == (uint32_t)getpid());
	NEED(fnd_registry_unregister(p.reg, "other", 0) == 0);
	NEED(fnd_registry_unregister(p.reg, "other", 0) == -ENOENT);
	NEED(fnd_registry_update(p.reg, "other", NULL, 0) == -ENOENT);
	NEED(fnd_registry_unregister(p.reg, "mine.1", FND_UNREGISTER_FORCE) == 0);
	NEED(owner_of(&p, "mine.1") == 0);
	child_kill(pid);
	/* A dead owner's is nobody's, with force or without, and whether somebody has reaped it or not. */
	NEED(fnd_registry_unregister(p.reg, "mine.2", 0) == -ENOENT);
	NEED(fnd_registry_unregister(p.reg, "mine.3", FND_UNREGISTER_FORCE) == -ENOENT);
	NEED(fnd_registry_lookup(p.reg, "mine.2", NULL) == -ENOENT && owner_of(&p, "mine.2") == 0);
	return end(&p);
}

static int register_race_one(void *name)
{
	struct peer p;

	TRY(peer_open(&p, name));
	for (unsigned int i = 0; i < 200; i++) {
		char agent[16];
		int err;

		word_add(&shared->word[0], 1);
		while (word_get(&shared->word[0]) < 6 * (i + 1))
			sched_yield();
		snprintf(agent, sizeof(agent), "race%u", i % 20);
		err = fnd_registry_register(p.reg, agent, 0, NULL, 0, 0);
		NEED(err == 0 || err == -EEXIST);
		if (err == 0)
			word_add(&shared->word[1], 1);
		word_add(&shared->word[2], 1);
		while (word_get(&shared->word[2]) < 6 * (i + 1))
			sched_yield();
		if (err == 0)
			NEED(fnd_registry_unregister(p.reg, agent, 0) == 0);
	}
	return peer_close(&p);
}

/* Of six who register one name at once, one has it. */
static int register_race(void)
{
	int failed = 0;
	struct peer p;
	pid_t pid[6];

	TRY(begin(&p));
	for (unsigned int i = 0; i < 6; i++)
		pid[i] = child_start(register_race_one, (void *)(uintptr_t)p.name);
	for (unsigned int i = 0; i < 6; i++)
		failed |= child_wait(pid[i]);
	NEED(!failed && word_get(&shared->word[1]) == 200);
	NEED(fnd_registry_count(p.reg) == 0);
	return end(&p);
}

/* --- refused without a trace ---------------------------------------------------------------------- */

static int refused_metadata(void)
{
	static const struct {
		const char *bytes;
		size_t n;
	} bad[] = {
		{ "\x01", 1 },		  /* a number */
		{ "\x90", 1 },		  /* an array */
		{ "\xa1k", 2 },		  /* a string */
		{ "\xc0", 1 },		  /* nil */
		{ "\x81\xa1k", 3 },	  /* a map cut short */
		{ "\x80\x80", 2 },	  /* two maps */
		{ "\x80\0", 2 },	  /* a map and a number */
		{ "\xc1", 1 },		  /* never used */
		{ "\xdf\xff\xff\xff\xff", 5 }, /* a map of four billion */
	};
	unsigned char deep[FND_METADATA_MAX], large[FND_METADATA_MAX + 1];
	struct fnd_table_stats before, after;
	char name[FND_AGENT_NAME_MAX + 2];
	struct fnd_table *t;
	struct peer p;

	TRY(begin(&p));
	NEED(fnd_registry_register(p.reg, "there", 0, "\x80", 1, 0) == 0);
	NEED(fnd_table_open(p.seg, FND_REGISTRY_TABLE, NULL, &t) == 0);
	NEED(fnd_table_stats_read(t, &before) == 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		NEED(fnd_registry_register(p.reg, "x", 0, bad[i].bytes, bad[i].n, 0) == -EINVAL);
		NEED(fnd_registry_register(p.reg, "there", 0, bad[i].bytes, bad[i].n, 0) == -EINVAL);
		NEED(fnd_registry_update(p.reg, "there", bad[i].bytes, bad[i].n) == -EINVAL);
	}
	memset(deep, 0x91, sizeof(deep)); /* arrays in arrays, never ending */
	deep[0] = 0x81;
	NEED(fnd_registry_register(p.reg, "x", 0, deep, sizeof(deep), 0) == -EINVAL);
	memset(large, 0xc0, sizeof(large));
	memcpy(large, "\x81\xa1k\xc5\x01\xfa", 6); /* a map with 506 bytes: 512 in all */
	NEED(fnd_registry_register(p.reg, "x", 0, large, sizeof(large), 0) == -E2BIG);
	NEED(fnd_registry_update(p.reg, "there", large, sizeof(large)) == -E2BIG);
	NEED(fnd_registry_register(p.reg, "x", 0, NULL, 5, 0) == -EINVAL);
	NEED(fnd_registry_register(p.reg, "", 0, NULL, 0, 0) == -EINVAL);
	NEED(fnd_registry_register(p.reg, NULL, 0, NULL, 0, 0) == -EINVAL);
	memset(name, 'n', sizeof(name));
	name[FND_AGENT_NAME_MAX + 1] = '\0';
	NEED(fnd_registry_register(p.reg, name, 0, NULL, 0, 0) == -EINVAL);
	NEED(fnd_registry_register(p.reg, "x", 0, NULL, 0, 0x80) == -EINVAL);
	NEED(fnd_registry_lookup(p.reg, "x", NULL) == -ENOENT);
	NEED(fnd_table_stats_read(t, &after) == 0);
	NEED(before.live == after.live && before.retired == after.retired &&
	     before.allocated == after.allocated && before.bytes == after.bytes);
	NEED(fnd_counter_read(p.seg, FND_COUNTER_REGISTERED) == 1);
	NEED(fnd_registry_register(p.reg, "x", 0, large, FND_METADATA_MAX, 0) == 0); /* the largest */
	name[FND_AGENT_NAME_MAX] = '\0';
	NEED(fnd_registry_register(p.reg, name, 0, NULL, 0, 0) == 0);
	NEED(owner_of(&p, name) == (uint32_t)getpid());
	fnd_table_close(t);
	return end(&p);
}

const struct test_case registry_cases[] = {
	{ "seen_at_once", seen_at_once },
	{ "owner_killed", owner_killed },
	{ "reaped_is_gone", reaped_is_gone },
	{ "reaped_once", reaped_once },
	{ "full_of_the_dead", full_of_the_dead },
	{ "for_another", for_another },
	{ "against_a_holder", against_a_holder },
	{ "register_race", register_race },
	{ "refused_metadata", refused_metadata },
	{ NULL, NULL },
};
