// SPDX-License-Identifier: MIT
/*
 * Handles where they do not belong: in a child of fork(), twice in one process, in a read section, on a
 * segment that others destroy.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <foundation/dedup.h>
#include <foundation/registry.h>

#include "hostile.h"

/* --- fork ----------------------------------------------------------------------------------------- */

struct handles {
	const char *name;
	struct fnd_segment *seg;
	struct fnd_table *t;
	struct fnd_registry *reg;
	struct fnd_dedup *d;
	struct fnd_participant self;
};

static int handles_open(struct handles *h)
{
	struct fnd_table_options o = table_options(0, 64);

	h->name = name_new();
	NEED(create_small(h->name, &h->seg) == 0);
	NEED(fnd_segment_self(h->seg, &h->self) == 0);
	NEED(fnd_table_open(h->seg, "a", &o, &h->t) == 0 && put(h->t, 1) == 0);
	NEED(fnd_registry_open(h->seg, 16, &h->reg) == 0);
	NEED(fnd_dedup_open(h->seg, 16, &h->d) == 0);
	NEED(fnd_registry_register(h->reg, "one", 0, NULL, 0, 0) == 0);
	return 0;
}

static int handles_close(struct handles *h)
{
	fnd_dedup_close(h->d);
	fnd_registry_close(h->reg);
	fnd_table_close(h->t);
	NEED(fnd_segment_detach(h->seg) == 0);
	NEED(fnd_segment_destroy(h->name, 0) == 0);
	return 0;
}

static int no_record(const struct fnd_record *r, void *arg)
{
	(void)r;
	(void)arg;
	return 1;
}

static enum fnd_modify no_modify(void *arg, const void *old, size_t old_bytes, const void **value,
				 size_t *bytes)
{
	(void)arg, (void)old, (void)old_bytes, (void)value, (void)bytes;
	return FND_MODIFY_DELETE;
}

#define FORKED(call) NEED((call) == -FND_E_FORKED)

static int table_in_child(struct handles *h)
{
	struct fnd_table *t = NULL;
	struct fnd_view v;
	uint64_t value = 5;

	FORKED(check(h->t, 1));
	FORKED(put(h->t, 2));
	FORKED(fnd_table_get(h->t, "k", 1, &v));
	FORKED(fnd_table_replace(h->t, "key number 1", 12, &value, sizeof(value)));
	FORKED(fnd_table_upsert(h->t, "k", 1, &value, sizeof(value)));
	FORKED(fnd_table_delete(h->t, "key number 1", 12));
	FORKED(fnd_table_modify(h->t, "key number 1", 12, no_modify, NULL));
	FORKED(fnd_table_iterate(h->t, 0, no_record, NULL));
	FORKED(fnd_table_iterate(h->t, FND_ITERATE_EXACT, no_record, NULL));
	FORKED(fnd_table_check(h->t));
	FORKED(fnd_table_quiesce(h->t));
	FORKED(fnd_table_open(h->seg, "a", NULL, &t));
	NEED(t == NULL);
	return 0;
}

static int runtime_in_child(struct handles *h)
{
	struct fnd_registry *reg = NULL;
	struct fnd_dedup *d = NULL;
	struct fnd_agent a;

	FORKED(fnd_registry_register(h->reg, "two", 0, NULL, 0, 0));
	FORKED(fnd_registry_register(h->reg, "two", h->self.pid, NULL, 0, 0));
	FORKED(fnd_registry_lookup(h->reg, "one", &a));
	FORKED(fnd_registry_update(h->reg, "one", NULL, 0));
	FORKED(fnd_registry_unregister(h->reg, "one", 0));
	FORKED(fnd_registry_unregister(h->reg, "one", FND_UNREGISTER_FORCE));
	FORKED(fnd_registry_count(h->reg));
	FORKED(fnd_registry_reap(h->reg, NULL));
	FORKED(fnd_registry_open(h->seg, 0, &reg));
	FORKED(fnd_dedup_claim(h->d, "k", 1, "e", 1, FND_WINDOW_FOREVER));
	FORKED(fnd_dedup_open(h->seg, 0, &d));
	NEED(reg == NULL && d == NULL);
	return 0;
}

static int in_child(void *arg)
{
	struct handles *h = arg;
	struct fnd_participant p = { 0 };

	FORKED(fnd_read_end(h->seg)); /* of the guard its parent holds */
	FORKED(fnd_read_begin(h->seg));
	FORKED(fnd_synchronize(h->seg, 100));
	FORKED(fnd_counter_add(h->seg, FND_COUNTER_EMITTED, 1));
	FORKED(fnd_sampling_set(h->seg, 1));
	FORKED(fnd_segment_reap(h->seg, NULL));
	FORKED(fnd_segment_self(h->seg, &p));
	FORKED(fnd_segment_participant(h->seg, h->self.pid, &p));
	NEED(p.pid == 0);
	TRY(table_in_child(h));
	TRY(runtime_in_child(h));
	fnd_dedup_close(h->d);
	fnd_registry_close(h->reg);
	fnd_table_close(h->t);
	NEED(fnd_segment_detach(h->seg) == 0);
	return 0;
}

/* A child starts anew, beside its parent's handle and after giving that up. */
static int attach_in_child(void *arg)
{
	struct handles *h = arg;
	struct fnd_segment *seg;
	struct fnd_participant p;
	struct fnd_table *t;

	NEED(fnd_segment_attach(h->name, NULL, &seg) == 0 && seg != h->seg);
	NEED(fnd_segment_self(seg, &p) == 0 && p.pid == (uint32_t)getpid() && p.slot != h->self.slot);
	NEED(fnd_table_open(seg, "a", NULL, &t) == 0 && check(t, 1) == 0);
	NEED(fnd_segment_detach(h->seg) == 0); /* the parent's, here */
	NEED(put(t, 3) == 0 && fnd_table_delete(t, "key number 3", 12) == 0);
	fnd_table_close(t);
	return fnd_segment_detach(seg);
}

/* The parent's own, as it was: its slot, its section, its records. */
static int parent_unharmed(struct handles *h)
{
	struct fnd_participant p;

	NEED(fnd_segment_self(h->seg, &p) == 0 && memcmp(&p, &h->self, sizeof(p)) == 0);
	NEED(fnd_participant_active(h->seg, &h->self) && !fnd_participant_dead(h->seg, &h->self));
	NEED(fnd_segment_detach(h->seg) == -EBUSY); /* its section is still open */
	NEED(check(h->t, 1) == 0);
	NEED(fnd_registry_lookup(h->reg, "one", NULL) == 0);
	NEED(fnd_registry_lookup(h->reg, "two", NULL) == -ENOENT);
	NEED(fnd_counter_read(h->seg, FND_COUNTER_EMITTED) == 0);
	return 0;
}

static int after_fork(void)
{
	struct handles h;

	TRY(handles_open(&h));
	NEED(fnd_read_begin(h.seg) == 0);
	NEED(child_run(in_child, &h) == 0);
	TRY(parent_unharmed(&h));
	NEED(child_run(attach_in_child, &h) == 0);
	TRY(parent_unharmed(&h));
	NEED(fnd_read_end(h.seg) == 0);
	return handles_close(&h);
}

/* Past libc: no handler of pthread_atfork() runs. */
static int after_clone(void)
{
	struct handles h;
	pid_t pid;

	TRY(handles_open(&h));
	NEED(fnd_read_begin(h.seg) == 0);
	pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid == 0)
		_exit(in_child(&h));
	NEED(pid > 0 && child_wait(pid) == 0);
	TRY(parent_unharmed(&h));
	NEED(fnd_read_end(h.seg) == 0);
	return handles_close(&h);
}

static int after_vfork(void)
{
	struct handles h;

	TRY(handles_open(&h));
	NEED(fnd_read_begin(h.seg) == 0);
	for (int i = 0; i < 20; i++) {
		pid_t pid = vfork();

		if (pid == 0) {
			execl("/bin/true", "true", (char *)NULL);
			_exit(9);
		}
		NEED(pid > 0 && child_wait(pid) == 0);
	}
	TRY(parent_unharmed(&h));
	NEED(fnd_read_end(h.seg) == 0);
	return handles_close(&h);
}

/* A thread holds whatever it can while another forks: the child is not stuck, and can attach. */
static void *attach_for_ever(void *name)
{
	while (!word_get(&shared->word[0])) {
		struct fnd_segment *seg;

		if (fnd_segment_attach(name, NULL, &seg) == 0 && fnd_read_begin(seg) == 0 &&
		    fnd_read_end(seg) == 0)
			fnd_segment_detach(seg);
	}
	return NULL;
}

static int attach_once(void *name)
{
	struct fnd_segment *seg;

	alarm(20);
	NEED(fnd_segment_attach(name, NULL, &seg) == 0);
	NEED(fnd_read_begin(seg) == 0 && fnd_read_end(seg) == 0);
	return fnd_segment_detach(seg);
}

static int fork_among_threads(void)
{
	void *name = (void *)(uintptr_t)name_new();
	pthread_t thread;

	NEED(create_small(name, NULL) == 0);
	NEED(pthread_create(&thread, NULL, attach_for_ever, name) == 0);
	for (int i = 0; i < 100; i++)
		NEED(child_run(attach_once, name) == 0);
	word_set(&shared->word[0], 1);
	pthread_join(thread, NULL);
	return fnd_segment_destroy(name, 0) == 0 ? 0 : 1;
}

/* --- twice in one process ------------------------------------------------------------------------- */

static int attached_twice(void)
{
	struct fnd_segment *one, *two, *three;
	struct fnd_participant a, b;
	const char *name = name_new();

	NEED(create_small(name, &one) == 0);
	NEED(fnd_segment_attach(name, NULL, &two) == 0 && two == one);
	NEED(fnd_segment_attach(name, NULL, &three) == 0 && three == one);
	NEED(fnd_segment_self(one, &a) == 0);
	NEED(fnd_segment_detach(three) == 0);
	NEED(fnd_segment_detach(two) == 0);
	NEED(fnd_segment_self(one, &b) == 0 && memcmp(&a, &b, sizeof(a)) == 0);
	NEED(fnd_participant_active(one, &a));
	NEED(refused(fnd_segment_destroy(name, 0), EBUSY, "pid"));
	NEED(fnd_segment_detach(one) == 0);
	NEED(fnd_segment_destroy(name, 0) == 0);
	return 0;
}

struct joint {
	const char *name;
	struct fnd_segment *seg;
	pthread_barrier_t *barrier;
	int err;
};

static void *attach_together(void *arg)
{
	struct joint *j = arg;

	pthread_barrier_wait(j->barrier);
	j->err = fnd_segment_attach(j->name, NULL, &j->seg);
	return NULL;
}

/* Threads that attach at the same moment: one handle, one slot, and it is theirs. */
static int attached_by_threads(void)
{
	const char *name = name_new();
	pthread_barrier_t barrier;

	NEED(create_small(name, NULL) == 0);
	pthread_barrier_init(&barrier, NULL, 4);
	for (unsigned int round = 0; round < 200; round++) {
		struct fnd_participant self;
		pthread_t thread[4];
		struct joint j[4];

		for (unsigned int i = 0; i < 4; i++) {
			j[i] = (struct joint){ .name = name, .barrier = &barrier };
			NEED(pthread_create(&thread[i], NULL, attach_together, &j[i]) == 0);
		}
		for (unsigned int i = 0; i < 4; i++)
			pthread_join(thread[i], NULL);
		for (unsigned int i = 0; i < 4; i++) {
			NEED(j[i].err == 0 && j[i].seg == j[0].seg);
			NEED(fnd_segment_self(j[i].seg, &self) == 0);
			NEED(fnd_participant_active(j[i].seg, &self));
		}
		for (unsigned int i = 0; i < 4; i++)
			NEED(fnd_segment_detach(j[i].seg) == 0);
	}
	pthread_barrier_destroy(&barrier);
	return fnd_segment_destroy(name, 0) == 0 ? 0 : 1;
}

static int detach_in_section(void)
{
	const char *name = name_new();
	struct fnd_segment *seg;

	NEED(create_small(name, &seg) == 0);
	NEED(fnd_read_begin(seg) == 0 && fnd_read_begin(seg) == 0);
	NEED(refused(fnd_segment_detach(seg), EBUSY, "read section"));
	NEED(refused(fnd_synchronize(seg, 100), EDEADLK, "read section"));
	NEED(fnd_read_end(seg) == 0);
	NEED(refused(fnd_segment_detach(seg), EBUSY, "read section"));
	NEED(fnd_read_end(seg) == 0);
	NEED(fnd_segment_detach(seg) == 0 && fnd_segment_detach(NULL) == 0);
	return fnd_segment_destroy(name, 0) == 0 ? 0 : 1;
}

/* --- destroyed by others -------------------------------------------------------------------------- */

static int live_on(void *name)
{
	struct fnd_table_options o = table_options(0, 64);
	struct fnd_segment *seg;
	struct fnd_table *t;

	NEED(fnd_segment_attach(name, NULL, &seg) == 0);
	NEED(fnd_table_open(seg, "a", &o, &t) == 0 && put(t, 0) == 0);
	word_set(&shared->word[0], 1);
	NEED(word_wait(&shared->word[1], 1) == 0);
	NEED(check(t, 0) == 0);
	for (unsigned int i = 1; i < 5000; i++) /* it grows, too */
		NEED(put(t, i) == 0);
	for (unsigned int i = 0; i < 5000; i++)
		NEED(check(t, i) == 0);
	NEED(fnd_table_check(t) == 0);
	fnd_table_close(t);
	return fnd_segment_detach(seg);
}

static int destroyed_by_force(void)
{
	void *name = (void *)(uintptr_t)name_new();
	struct fnd_segment *seg = NULL;
	struct fnd_table *t = NULL;
	char who[32];
	pid_t pid;

	NEED(create_small(name, NULL) == 0);
	pid = child_start(live_on, name);
	NEED(word_wait(&shared->word[0], 1) == 0);
	snprintf(who, sizeof(who), "pid %d", (int)pid);
	NEED(refused(fnd_segment_destroy(name, 0), EBUSY, who));
	NEED(fnd_segment_destroy(name, 2) == -EINVAL);
	NEED(access(path_of(name), F_OK) == 0);
	NEED(fnd_segment_destroy(name, FND_DESTROY_FORCE) == 0);
	NEED(refused(fnd_segment_attach(name, NULL, &seg), ENOENT, name) && seg == NULL);
	NEED(refused(fnd_segment_destroy(name, FND_DESTROY_FORCE), ENOENT, name));
	NEED(create_small(name, &seg) == 0); /* another of that name */
	NEED(fnd_table_open(seg, "a", NULL, &t) == -ENOENT);
	word_set(&shared->word[1], 1);
	NEED(child_wait(pid) == 0);
	NEED(fnd_segment_detach(seg) == 0 && fnd_segment_destroy(name, 0) == 0);
	return 0;
}

/* Whoever was killed in it is in nobody's way. */
static int destroyed_after_kill(void)
{
	void *name = (void *)(uintptr_t)name_new();
	pid_t pid;

	for (unsigned int round = 0; round < 20; round++) {
		word_set(&shared->word[0], 0);
		NEED(create_small(name, NULL) == 0);
		pid = child_start(live_on, name);
		NEED(word_wait(&shared->word[0], 1) == 0);
		NEED(fnd_segment_destroy(name, 0) == -EBUSY);
		kill(pid, SIGKILL);
		if (round % 2)
			child_wait(pid);
		for (int i = 0; i < 1000 && fnd_segment_destroy(name, 0) == -EBUSY; i++)
			nap_us(1000); /* a signal takes its time */
		NEED(access(path_of(name), F_OK) != 0);
		if (round % 2 == 0)
			child_wait(pid);
	}
	return 0;
}

const struct test_case handle_cases[] = {
	{ "after_fork", after_fork },
	{ "after_clone", after_clone },
	{ "after_vfork", after_vfork },
	{ "fork_among_threads", fork_among_threads },
	{ "attached_twice", attached_twice },
	{ "attached_by_threads", attached_by_threads },
	{ "detach_in_section", detach_in_section },
	{ "destroyed_by_force", destroyed_by_force },
	{ "destroyed_after_kill", destroyed_after_kill },
	{ NULL, NULL },
};
