// SPDX-License-Identifier: MIT
/*
 * Other pid namespaces, creators and destroyers killed at any moment, many who create or destroy one name
 * at once.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hostile.h"

/* --- pid namespaces ------------------------------------------------------------------------------- */

/* Becomes process 1 of a new pid namespace with a /proc of its own, and does @fn there. */
static int in_new_pidns(child_fn fn, void *arg)
{
	pid_t pid;

	SKIP_UNLESS(unshare(CLONE_NEWNS | CLONE_NEWPID) == 0, "no pid namespace to be had");
	SKIP_UNLESS(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "mounts stay shared");
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (mount("proc", "/proc", "proc", 0, NULL) != 0)
			_exit(SKIP);
		_exit(fn(arg));
	}
	return child_wait(pid);
}

static int hold(void *name)
{
	struct fnd_segment *seg;
	struct fnd_table *t;

	NEED(fnd_segment_attach(name, NULL, &seg) == 0);
	NEED(fnd_table_open(seg, "a", NULL, &t) == 0);
	NEED(put(t, 1) == 0 || check(t, 1) == 0);
	word_set(&shared->word[0], 1);
	word_wait(&shared->word[1], 1);
	return fnd_segment_detach(seg);
}

/* Holds it, and is killed in a read section. */
static int hold_for_ever(void *name)
{
	struct fnd_segment *seg;

	NEED(fnd_segment_attach(name, NULL, &seg) == 0);
	NEED(fnd_read_begin(seg) == 0);
	word_set(&shared->word[0], 1);
	for (;;)
		pause();
}

static int strange(void *name)
{
	struct fnd_segment *seg = NULL;
	struct fingerprint before;

	NEED(fingerprint(path_of(name), &before) == 0);
	NEED(refused(fnd_segment_attach(name, NULL, &seg), FND_E_PIDNS, "pid namespace"));
	NEED(refused(fnd_segment_destroy(name, 0), EBUSY, "namespace"));
	NEED(fnd_segment_create(name, NULL, &seg) == -EEXIST);
	NEED(seg == NULL && untouched(path_of(name), &before));
	return 0;
}

/* Nobody is there any more: taken over, with what was committed. */
static int take_over(void *name)
{
	struct fnd_segment *seg;
	struct fnd_participant self;
	struct fnd_table *t;

	NEED(fnd_segment_attach(name, NULL, &seg) == 0);
	NEED(fnd_segment_self(seg, &self) == 0 && self.pid == (uint32_t)getpid());
	NEED(fnd_table_open(seg, "a", NULL, &t) == 0);
	NEED(check(t, 1) == 0 && put(t, 2) == 0 && fnd_table_quiesce(t) == 0);
	NEED(fnd_table_check(t) == 0);
	NEED(fnd_table_delete(t, "key number 2", 12) == 0);
	fnd_table_close(t);
	return fnd_segment_detach(seg);
}

static int strange_from_inside(void *name)
{
	return in_new_pidns(strange, name);
}

static int take_over_inside(void *name)
{
	return in_new_pidns(take_over, name);
}

static int hold_inside(void *name)
{
	return in_new_pidns(hold, name);
}

static int hold_inside_for_ever(void *name)
{
	return in_new_pidns(hold_for_ever, name);
}

static int make_with_table(void *name)
{
	struct fnd_table_options o = table_options(0, 64);
	struct fnd_segment *seg;
	struct fnd_table *t;

	NEED(create_small(name, &seg) == 0);
	NEED(fnd_table_open(seg, "a", &o, &t) == 0 && put(t, 1) == 0);
	fnd_table_close(t);
	return fnd_segment_detach(seg);
}

/* Held outside: refused inside. All outside gone: taken over inside. And the other way round. */
static int pidns(void)
{
	void *name = (void *)(uintptr_t)name_new();
	pid_t holder;

	NEED(child_run(make_with_table, name) == 0);
	holder = child_start(hold, name);
	NEED(word_wait(&shared->word[0], 1) == 0);
	TRY(child_run(strange_from_inside, name));
	word_set(&shared->word[1], 1);
	NEED(child_wait(holder) == 0);
	NEED(child_run(take_over_inside, name) == 0);
	NEED(child_run(take_over, name) == 0);

	word_set(&shared->word[0], 0);
	word_set(&shared->word[1], 0);
	holder = child_start(hold_inside, name);
	NEED(word_wait(&shared->word[0], 1) == 0);
	NEED(child_run(strange, name) == 0);
	word_set(&shared->word[1], 1);
	NEED(child_wait(holder) == 0);
	NEED(child_run(take_over, name) == 0);
	NEED(fnd_segment_destroy(name, 0) == 0);
	return 0;
}

/* The same when they did not leave but were killed, in the middle of a section. */
static int pidns_killed(void)
{
	void *name = (void *)(uintptr_t)name_new();
	pid_t holder;

	NEED(child_run(make_with_table, name) == 0);
	holder = child_start(hold_for_ever, name);
	NEED(word_wait(&shared->word[0], 1) == 0);
	TRY(child_run(strange_from_inside, name));
	child_kill(holder);
	NEED(child_run(take_over_inside, name) == 0);

	word_set(&shared->word[0], 0);
	holder = child_start(hold_inside_for_ever, name);
	NEED(word_wait(&shared->word[0], 1) == 0);
	NEED(child_run(strange, name) == 0);
	child_kill(holder); /* process 1 of the namespace follows */
	for (int i = 0; i < 1000 && fnd_segment_destroy(name, 0) == -EBUSY; i++)
		nap_us(5000);
	NEED(fnd_segment_destroy(name, 0) == -ENOENT);
	return 0;
}

/* Many who find it abandoned: one takes over, all get in. */
static int take_over_crowd(void *name)
{
	word_add(&shared->word[0], 1);
	word_wait(&shared->word[1], 1);
	for (int i = 0; i < 5; i++) {
		struct fnd_segment *seg = NULL;
		int err = fnd_segment_attach(name, NULL, &seg);

		NEED(err == 0);
		NEED(fnd_read_begin(seg) == 0 && fnd_read_end(seg) == 0);
		NEED(fnd_segment_detach(seg) == 0);
	}
	return 0;
}

static int pidns_crowd(void)
{
	for (unsigned int round = 0; round < 10; round++) {
		void *name = (void *)(uintptr_t)name_new();
		pid_t pid[8];
		int failed = 0;

		NEED(child_run(make_with_table, name) == 0);
		TRY(child_run(take_over_inside, name)); /* now its home is a namespace that is gone */
		word_set(&shared->word[0], 0);
		word_set(&shared->word[1], 0);
		for (unsigned int i = 0; i < 8; i++)
			pid[i] = child_start(take_over_crowd, name);
		NEED(word_wait(&shared->word[0], 8) == 0);
		word_set(&shared->word[1], 1);
		for (unsigned int i = 0; i < 8; i++)
			failed |= child_wait(pid[i]);
		NEED(!failed);
		NEED(fnd_segment_destroy(name, 0) == 0);
	}
	return 0;
}

/* --- killed at a random moment -------------------------------------------------------------------- */

static int create_until_killed(void *name)
{
	struct fnd_segment_options o = small_options();
	struct fnd_segment *seg;

	word_set(&shared->word[0], 1);
	while (fnd_segment_create(name, &o, &seg) == 0) {
		word_set(&shared->word[1], 1);
		NEED(fnd_segment_detach(seg) == 0 && fnd_segment_destroy(name, 0) == 0);
	}
	return 1;
}

static int attach_and_leave(void *name)
{
	struct fnd_segment *seg;
	struct fnd_table *t;
	struct fnd_table_options o = table_options(0, 10);

	NEED(fnd_segment_attach(name, NULL, &seg) == 0);
	NEED(fnd_table_open(seg, "a", &o, &t) == 0);
	NEED(put(t, 1) == 0 && check(t, 1) == 0 && fnd_table_check(t) == 0);
	fnd_table_close(t);
	return fnd_segment_detach(seg);
}

/* Dead creators and destroyers: the name exists whole, or not at all, and their memory is gone. */
static int killed_creator(void)
{
	unsigned int there = 0, absent = 0;
	void *name = (void *)(uintptr_t)name_new();
	uint64_t room = 0;
	bool alone = private_shm("size=16m") == 0; /* then nothing else can be there at all */

	if (alone)
		room = shm_free_bytes();
	for (unsigned int round = 0; round < 200; round++) {
		pid_t pid;
		int err;

		word_set(&shared->word[0], 0);
		pid = child_start(create_until_killed, name);
		NEED(word_wait(&shared->word[0], 1) == 0);
		nap_us((unsigned int)(random_u64() % 1500));
		child_kill(pid);
		if (access(path_of(name), F_OK) != 0) {
			absent++;
			NEED(!alone || (shm_entries() == 0 && shm_free_bytes() == room));
			continue;
		}
		there++;
		NEED(!alone || shm_entries() == 1);
		NEED(child_run(attach_and_leave, name) == 0);
		err = fnd_segment_destroy(name, 0);
		NEED(err == 0 && (!alone || shm_free_bytes() == room));
	}
	fprintf(stderr, "%u times there, %u times not\n", there, absent);
	NEED(word_get(&shared->word[1]) && there > 0 && absent > 0);
	return 0;
}

static int destroy_soon(void *name)
{
	word_set(&shared->word[0], 1);
	return fnd_segment_destroy(name, 0) == 0 ? 0 : 1;
}

static int attach_once(void *name)
{
	struct fnd_segment *seg;

	NEED(fnd_segment_attach(name, NULL, &seg) == 0);
	return fnd_segment_detach(seg);
}

static int killed_destroyer(void)
{
	void *name = (void *)(uintptr_t)name_new();
	unsigned int there = 0;

	for (unsigned int round = 0; round < 200; round++) {
		pid_t pid;

		if (access(path_of(name), F_OK) != 0)
			NEED(create_small(name, NULL) == 0);
		word_set(&shared->word[0], 0);
		pid = child_start(destroy_soon, name);
		NEED(word_wait(&shared->word[0], 1) == 0);
		spin(random_u64() % 20000);
		child_kill(pid);
		if (access(path_of(name), F_OK) != 0)
			continue;
		there++;
		NEED(child_run(attach_once, name) == 0);
	}
	fprintf(stderr, "%u times still there\n", there);
	NEED(fnd_segment_destroy(name, 0) == 0 || access(path_of(name), F_OK) != 0);
	return 0;
}

/* --- one name, many hands ------------------------------------------------------------------------- */

static int create_at_once(void *name)
{
	struct fnd_segment *seg = NULL;
	int err;

	word_add(&shared->word[0], 1);
	while (!word_get(&shared->word[1]))
		; /* together to the microsecond */
	err = fnd_segment_create(name, NULL, &seg);
	if (err == 0) {
		word_add(&shared->word[2], 1);
	} else {
		NEED(refused(err, EEXIST, name) && seg == NULL);
		word_add(&shared->word[3], 1);
		NEED(fnd_segment_attach(name, NULL, &seg) == 0);
	}
	word_wait(&shared->word[4], 1); /* all of them hold it */
	return fnd_segment_detach(seg);
}

static int create_race(void)
{
	for (unsigned int round = 0; round < 10; round++) {
		void *name = (void *)(uintptr_t)name_new();
		pid_t pid[20];
		int failed = 0;

		memset(shared, 0, sizeof(*shared));
		for (unsigned int i = 0; i < 20; i++)
			pid[i] = child_start(create_at_once, name);
		NEED(word_wait(&shared->word[0], 20) == 0);
		word_set(&shared->word[1], 1);
		word_set(&shared->word[4], 1);
		for (unsigned int i = 0; i < 20; i++)
			failed |= child_wait(pid[i]);
		NEED(!failed);
		NEED(word_get(&shared->word[2]) == 1 && word_get(&shared->word[3]) == 19);
		NEED(fnd_segment_destroy(name, 0) == 0);
	}
	return 0;
}

/* Attaches, says so, waits until the destroyer has an answer too. */
static int attach_at_once(void *name)
{
	struct fnd_segment *seg = NULL;

	for (;;) {
		uint32_t round = word_get(&shared->word[0]);
		int err;

		while (word_get(&shared->word[0]) == round)
			;
		if (word_get(&shared->word[0]) == UINT32_MAX)
			return 0;
		err = fnd_segment_attach(name, NULL, &seg);
		NEED(err == 0 || err == -ENOENT);
		word_set(&shared->word[2], err == 0);
		word_add(&shared->word[1], 1);
		word_wait(&shared->word[3], round + 1);
		if (err == 0)
			NEED(fnd_segment_detach(seg) == 0);
		word_add(&shared->word[4], 1);
	}
}

/* Never both: an attachment and a destruction without force that overlap. */
static int attach_destroy_race(void)
{
	void *name = (void *)(uintptr_t)name_new();
	unsigned int attached = 0, destroyed = 0;
	pid_t pid = child_start(attach_at_once, name);

	nap_us(10000);
	for (uint32_t round = 1; round <= 400; round++) {
		int err;

		if (access(path_of(name), F_OK) != 0)
			NEED(create_small(name, NULL) == 0);
		word_set(&shared->word[0], round);
		nap_us((unsigned int)(random_u64() % 200));
		err = fnd_segment_destroy(name, 0);
		NEED(err == 0 || err == -EBUSY);
		NEED(word_wait(&shared->word[1], round) == 0);
		NEED(!(err == 0 && word_get(&shared->word[2])));
		attached += word_get(&shared->word[2]);
		destroyed += err == 0;
		word_set(&shared->word[3], round);
		NEED(word_wait(&shared->word[4], round) == 0);
	}
	word_set(&shared->word[0], UINT32_MAX);
	NEED(child_wait(pid) == 0);
	fprintf(stderr, "%u times attached, %u times destroyed\n", attached, destroyed);
	fnd_segment_destroy(name, 0);
	return 0;
}

const struct test_case home_cases[] = {
	{ "pidns", pidns },
	{ "pidns_killed", pidns_killed },
	{ "pidns_crowd", pidns_crowd },
	{ "killed_creator", killed_creator },
	{ "killed_destroyer", killed_destroyer },
	{ "create_race", create_race },
	{ "attach_destroy_race", attach_destroy_race },
	{ NULL, NULL },
};
