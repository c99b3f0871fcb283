// SPDX-License-Identifier: MIT
/* Cases: participants in another time namespace, and in a sandbox without membarrier(2). */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <foundation/observer.h>

#include "identity.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

/* --- time namespaces ------------------------------------------------------------------------------ */

/* Runs @fn in a child whose clocks are @seconds ahead. SKIP: not allowed here. */
static int in_new_time(int seconds, child_fn fn, void *arg)
{
	FILE *f;

	SKIP_UNLESS(unshare(CLONE_NEWTIME) == 0, "needs root: a new time namespace");
	f = fopen("/proc/self/timens_offsets", "we");
	if (!f || fprintf(f, "monotonic %d 0\nboottime %d 0\n", seconds, seconds) < 0 || fclose(f) != 0)
		return SKIP;
	return child_run(fn, arg); /* a child is in it */
}

static int hold_with_pid(void *arg)
{
	const struct world *outer = arg;
	struct world w;

	shared->number[0] = (uint64_t)getpid();
	TRY(world_attach(&w, outer->name));
	TRY(hold_all(&w));
	return world_leave(&w);
}

static int hold_ahead(void *arg)
{
	return in_new_time(5000, hold_with_pid, arg);
}

static int look_ahead_alive(void *arg)
{
	struct fnd_participant who;
	struct world w;

	TRY(world_attach(&w, ((struct world *)arg)->name));
	NEED(fnd_segment_participant(w.seg, (uint32_t)shared->number[0], &who) == 0);
	TRY(nothing_taken(&w, &who));
	return world_leave(&w);
}

/* A stall is as old as it is, in whoever's time. */
static int age_ahead(void *arg)
{
	struct fnd_stall s;
	struct world w;

	TRY(world_attach(&w, ((struct world *)arg)->name));
	if (fnd_segment_stall(w.seg, &s) == 0)
		NEED(s.age_ns < 60000000000ULL);
	return world_leave(&w);
}

struct looking {
	struct world *w;
	child_fn look;
};

static int look_in_time(void *arg)
{
	struct looking *l = arg;

	return in_new_time(5000, l->look, l->w);
}

/*
 * The start times of one process differ by the namespace they are read in, so by them alone nobody is called
 * dead from another one. Attaching is allowed: pids mean the same.
 */
static int time_namespace(void)
{
	struct fnd_participant who;
	struct looking look;
	struct world w;
	pid_t pid;

	TRY(world_make(&w));
	pid = child_start(hold_ahead, &w); /* the victim is its child */
	for (int i = 0; i < 20000 && !word_get(&shared->word[READY]); i++) {
		int status;

		nap_us(1000);
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
	}
	NEED(fnd_segment_participant(w.seg, (uint32_t)shared->number[0], &who) == 0);
	TRY(nothing_taken(&w, &who)); /* it is ahead, this process is not */
	kill((pid_t)who.pid, SIGKILL);
	NEED(child_wait(pid) == 128 + SIGKILL);
	TRY(all_taken(&w, &who));

	pid = victim_start(&w, &who); /* now the other way round */
	NEED(pid > 0);
	shared->number[0] = who.pid;
	look = (struct looking){ &w, look_ahead_alive };
	TRY(child_run(look_in_time, &look));
	child_kill(pid);
	TRY(all_taken(&w, &who));
	return world_end(&w);
}

/* The age of a stall is counted from a note in somebody else's clock. */
static int time_namespace_stall(void)
{
	struct fnd_participant who;
	struct looking look;
	struct fnd_stall s;
	struct world w;
	pid_t pid;

	TRY(world_make(&w));
	pid = victim_start(&w, &who);
	NEED(pid > 0);
	NEED(fnd_synchronize(w.seg, 50) == -ETIMEDOUT);
	NEED(fnd_segment_stall(w.seg, &s) == 0 && s.pid == who.pid && s.age_ns < 60000000000ULL);
	look = (struct looking){ &w, age_ahead };
	TRY(child_run(look_in_time, &look));
	child_kill(pid);
	TRY(all_taken(&w, &who));
	return world_end(&w);
}

/* --- no membarrier(2) ----------------------------------------------------------------------------- */

static int refuse_membarrier(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };

	SKIP_UNLESS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
			    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0,
		    "no seccomp filter to be had");
	return 0;
}

static int note_read_only(const struct fnd_observed_participant *p, void *arg)
{
	if (p->pid == (uint32_t)getpid())
		*(uint32_t *)arg = 1 + p->read_only;
	return 0;
}

static int seen_as(const char *name, uint32_t read_only)
{
	struct fnd_observer *o;
	uint32_t seen = 0;

	NEED(fnd_observer_open(name, &o) == 0);
	NEED(fnd_observer_participants(o, note_read_only, &seen) == 0);
	fnd_observer_close(o);
	NEED(seen == 1 + read_only);
	return 0;
}

#define FENCED(call) NEED(refused((call), FND_E_FENCED, "membarrier"))

static enum fnd_modify delete_it(void *arg, const void *old, size_t old_bytes, const void **value,
				 size_t *bytes)
{
	(void)arg, (void)old, (void)old_bytes, (void)value, (void)bytes;
	return FND_MODIFY_DELETE;
}

/* Nothing that writes gets anywhere, and each says why. */
static int writes_refused(struct world *w)
{
	struct fnd_table_options o = table_options(0, 10);
	struct fnd_table *t = NULL;
	uint64_t v = 1;

	FENCED(put(w->t, 100));
	FENCED(rewrite(w->t, 1));
	FENCED(fnd_table_upsert(w->t, "k", 1, &v, sizeof(v)));
	FENCED(fnd_table_delete(w->t, "key number 1", 12));
	FENCED(fnd_table_modify(w->t, "key number 1", 12, delete_it, NULL));
	FENCED(fnd_synchronize(w->seg, 100));
	FENCED(fnd_table_check(w->t));
	FENCED(fnd_table_open(w->seg, "new", &o, &t));
	FENCED(fnd_registry_register(w->reg, "one", 0, NULL, 0, 0));
	NEED(t == NULL);
	return 0;
}

static int count_record(const struct fnd_record *r, void *arg)
{
	(void)r;
	++*(unsigned int *)arg;
	return 0;
}

static int reads_only(void *arg)
{
	struct world *outer = arg, w;
	struct fnd_view v;
	unsigned int n = 0;

	TRY(refuse_membarrier());
	TRY(world_attach(&w, outer->name));
	NEED(seen_as(w.name, 1) == 0);
	for (unsigned int i = 0; i < KEYS; i++)
		NEED(check(w.t, i) == 0);
	NEED(check(w.t, 100) == -ENOENT);
	NEED(fnd_read_begin(w.seg) == 0 && fnd_table_get(w.t, "key number 1", 12, &v) == 0);
	NEED(fnd_read_end(w.seg) == 0);
	NEED(fnd_table_iterate(w.t, 0, count_record, &n) == 0 && n == KEYS);
	TRY(writes_refused(&w));
	for (unsigned int i = 0; i < KEYS; i++)
		NEED(check(w.t, i) == 0);
	return world_leave(&w);
}

static int membarrier_read_only(void)
{
	struct world w;

	TRY(world_make(&w));
	TRY(child_run(reads_only, &w));
	NEED(rewrite(w.t, 1) == 0);
	return world_end(&w);
}

static int create_sandboxed(void *arg)
{
	struct fnd_segment_options o = small_options();
	struct fnd_table_options to = table_options(0, 64);
	struct fnd_segment *seg = NULL;
	struct fnd_table *t;
	const char *name = arg;

	TRY(refuse_membarrier());
	FENCED(fnd_segment_create(name, &o, &seg));
	NEED(seg == NULL && access(path_of(name), F_OK) != 0);
	o.flags = FND_SEGMENT_FENCED;
	NEED(fnd_segment_create(name, &o, &seg) == 0);
	NEED(seen_as(name, 0) == 0);
	NEED(fnd_table_open(seg, "a", &to, &t) == 0);
	for (unsigned int i = 0; i < 1000; i++)
		NEED(put(t, i) == 0);
	for (unsigned int i = 0; i < 1000; i++)
		NEED(rewrite(t, i) == 0 && check(t, i) == 0);
	NEED(fnd_synchronize(seg, 1000) == 0 && fnd_table_quiesce(t) == 0 && fnd_table_check(t) == 0);
	fnd_table_close(t);
	return fnd_segment_detach(seg);
}

static int membarrier_create(void)
{
	void *name = (void *)(uintptr_t)name_new();

	TRY(child_run(create_sandboxed, name));
	return fnd_segment_destroy(name, 0) == 0 ? 0 : 1;
}

/* --- readers and writers at once ------------------------------------------------------------------ */

#define HOT 16u

/* 64 bytes that vouch for each other. */
struct value {
	uint64_t key, seq, sum[6];
};

static void value_fill(struct value *v, uint64_t key, uint64_t seq)
{
	v->key = key;
	v->seq = seq;
	for (unsigned int i = 0; i < 6; i++)
		v->sum[i] = value_of((unsigned int)key) ^ seq * 0x9e3779b97f4a7c15ULL ^ i;
}

static bool value_sound(const void *p, uint64_t key)
{
	struct value v, want;

	memcpy(&v, p, sizeof(v));
	value_fill(&want, key, v.seq);
	return memcmp(&v, &want, sizeof(v)) == 0;
}

struct crew {
	struct world *w;
	bool sandboxed;
};

static int stress_writer(void *arg)
{
	struct crew *c = arg;
	struct world w;
	struct value v;
	char key[32];

	if (c->sandboxed)
		TRY(refuse_membarrier());
	TRY(world_attach(&w, c->w->name));
	word_add(&shared->word[READY], 1);
	for (uint64_t seq = 1; !word_get(&shared->word[STOP]); seq++) {
		unsigned int i = (unsigned int)(random_u64() % HOT);

		value_fill(&v, i, seq);
		NEED(fnd_table_upsert(w.t, key, key_text(key, 1000 + i), &v, sizeof(v)) == 0);
		word_add(&shared->word[COUNT], 1);
	}
	return world_leave(&w);
}

/* What a section has met stays what it is, however often it is replaced meanwhile. */
static int stress_reader(void *arg)
{
	struct fnd_view view[4];
	struct crew *c = arg;
	struct world w;
	char key[32];

	if (c->sandboxed)
		TRY(refuse_membarrier());
	TRY(world_attach(&w, c->w->name));
	word_add(&shared->word[READY], 1);
	while (!word_get(&shared->word[STOP])) {
		unsigned int first = (unsigned int)(random_u64() % HOT);

		NEED(fnd_read_begin(w.seg) == 0);
		for (unsigned int i = 0; i < 4; i++)
			NEED(fnd_table_get(w.t, key, key_text(key, 1000 + (first + i) % HOT), &view[i]) == 0);
		spin(random_u64() % 5000);
		for (unsigned int i = 0; i < 4; i++)
			NEED(value_sound(view[i].value, (first + i) % HOT));
		NEED(fnd_read_end(w.seg) == 0);
		word_add(&shared->word[OTHER], 1);
	}
	return world_leave(&w);
}

/* Two writers and two readers for a second. */
static int stress(struct world *w, bool writers_sandboxed, bool readers_sandboxed)
{
	struct crew writers = { w, writers_sandboxed }, readers = { w, readers_sandboxed };
	struct value v;
	char key[32];
	pid_t pid[4];
	int failed = 0;

	memset(shared, 0, sizeof(*shared));
	for (unsigned int i = 0; i < HOT; i++) {
		value_fill(&v, i, 0);
		NEED(fnd_table_upsert(w->t, key, key_text(key, 1000 + i), &v, sizeof(v)) == 0);
	}
	for (unsigned int i = 0; i < 4; i++)
		pid[i] = child_start(i % 2 ? stress_reader : stress_writer, i % 2 ? &readers : &writers);
	NEED(word_wait(&shared->word[READY], 4) == 0);
	nap_us(1000000);
	word_set(&shared->word[STOP], 1);
	for (unsigned int i = 0; i < 4; i++)
		failed |= child_wait(pid[i]);
	NEED(!failed);
	fprintf(stderr, "%u writes, %u sections\n", word_get(&shared->word[COUNT]),
		word_get(&shared->word[OTHER]));
	NEED(word_get(&shared->word[COUNT]) > 100 && word_get(&shared->word[OTHER]) > 100);
	return fnd_table_check(w->t) == 0 ? 0 : 1;
}

/* Readers that fence beside writers that use membarrier. */
static int membarrier_mixed(void)
{
	struct world w;

	TRY(world_make(&w));
	TRY(stress(&w, false, true));
	return world_end(&w);
}

/* In a fenced segment everybody writes, and nobody relies on membarrier. */
static int membarrier_fenced(void)
{
	struct fnd_segment_options o = small_options();
	struct fnd_table_options to = table_options(0, 64);
	struct fnd_segment *seg;
	struct fnd_table *t;
	struct world w;

	o.flags = FND_SEGMENT_FENCED;
	w.name = name_new();
	NEED(fnd_segment_create(w.name, &o, &seg) == 0);
	NEED(fnd_table_open(seg, "a", &to, &t) == 0);
	for (unsigned int i = 0; i < KEYS; i++)
		NEED(put(t, i) == 0);
	fnd_table_close(t);
	TRY(world_attach(&w, w.name));
	NEED(fnd_segment_detach(seg) == 0);
	TRY(stress(&w, true, true));
	TRY(stress(&w, true, false));
	return world_end(&w);
}

/* Sandboxed after it has attached: no grace period can be had from then on, and a write says so in time. */
static int lose_membarrier(void *arg)
{
	struct world *outer = arg, w;
	int err = 0;

	TRY(world_attach(&w, outer->name));
	NEED(rewrite(w.t, 1) == 0);
	TRY(refuse_membarrier());
	for (unsigned int i = 0; i < 1000000 && !err; i++)
		err = rewrite(w.t, i % KEYS);
	FENCED(err);
	for (unsigned int i = 0; i < KEYS; i++)
		NEED(check(w.t, i) == 0);
	return world_leave(&w);
}

static int membarrier_lost(void)
{
	struct world w;

	TRY(world_make(&w));
	TRY(child_run(lose_membarrier, &w));
	for (unsigned int i = 0; i < 1000; i++)
		NEED(rewrite(w.t, i % KEYS) == 0);
	NEED(fnd_table_quiesce(w.t) == 0);
	return world_end(&w);
}

OLD_RULE(time_namespace)

const struct test_case sandbox_cases[] = {
	BOTH(time_namespace),
	{ "time_namespace_stall", time_namespace_stall },
	{ "membarrier_read_only", membarrier_read_only },
	{ "membarrier_create", membarrier_create },
	{ "membarrier_mixed", membarrier_mixed },
	{ "membarrier_fenced", membarrier_fenced },
	{ "membarrier_lost", membarrier_lost },
	{ NULL, NULL },
};
