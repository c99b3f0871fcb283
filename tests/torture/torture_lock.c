// SPDX-License-Identifier: MIT
/*
 * Torture of the slot lock and of the slots: one holder, never taken from the living, always from the dead.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "torture.h"

static const struct fnd_table_options one_shard = {
	.size = sizeof(struct fnd_table_options), .key_max = 8, .value_max = 64, .capacity = 16
};
static const uint64_t hot = 7;

static uint64_t sum(const struct member *m)
{
	uint64_t n = 0;

	return fnd_table_lookup(m->table, &hot, sizeof(hot), &n, sizeof(n), NULL) ? 0 : n;
}

/* --- a lock is not taken from the living ------------------------------------------------------------ */

static enum fnd_modify park(void *arg, const void *old, size_t old_bytes, const void **value, size_t *bytes)
{
	(void)arg, (void)old, (void)old_bytes, (void)value, (void)bytes;
	board->result = 0;
	step_set(0, 1); /* holds the lock */
	step_wait(1, 1);
	return FND_MODIFY_KEEP;
}

static void living_member(struct member *m)
{
	char want[32];
	uint64_t n = 1;
	int err;

	if (m->id == 0) {
		board->entered = (uint64_t)getpid();
		err = fnd_table_modify(m->table, &hot, sizeof(hot), park, NULL);
		CHECK("write", err == FND_MODIFY_KEEP, "modify: %s", fnd_strerror(err));
		return;
	}
	step_wait(0, 1);
	snprintf(want, sizeof(want), "pid %llu ", (unsigned long long)board->entered);
	err = fnd_table_upsert(m->table, &hot, sizeof(hot), &n, sizeof(n));
	CHECK("one_holder", err == -ETIMEDOUT, "a second writer got %d while the first holds the lock", err);
	if (err == -ETIMEDOUT)
		CHECK("holder_named", strstr(fnd_error_detail(), want) != NULL, "no %sin the detail", want);
	err = fnd_table_lookup(m->table, &hot, sizeof(hot), &n, sizeof(n), NULL);
	CHECK("reads_go_on", err == -ENOENT || err == 0, "lookup: %s", fnd_strerror(err));
	step_set(1, 1);
}

/* --- many at one lock -------------------------------------------------------------------------------- */

static enum fnd_modify add_one(void *arg, const void *old, size_t old_bytes, const void **value,
			       size_t *bytes)
{
	static __thread uint64_t n;
	struct member *m = arg;

	/* Plain accesses on purpose: only the lock orders them. */
	CHECK("one_holder", board->inside == 0, "member %u met member %llu", m->id,
	      (unsigned long long)board->inside - 1);
	board->inside = m->id + 1;
	n = 0;
	if (old && old_bytes == sizeof(n))
		memcpy(&n, old, sizeof(n));
	n++;
	spin(draw(&m->random) % 200);
	board->inside = 0;
	*value = &n;
	*bytes = sizeof(n);
	return FND_MODIFY_PUT;
}

static void contend_member(struct member *m)
{
	uint64_t until = now_ms() + torture.seconds * 1000, n = 0;
	int err;

	while (!stopped() && ((++n & 15) || now_ms() < until)) {
		err = fnd_table_modify(m->table, &hot, sizeof(hot), add_one, m);
		CHECK("write", err == FND_MODIFY_PUT, "modify: %s", fnd_strerror(err));
		if (err == FND_MODIFY_PUT)
			__atomic_fetch_add(&board->ops, 1, __ATOMIC_RELAXED);
	}
}

static void contend(void)
{
	struct member me = { .seg = torture.seg };
	uint64_t before = board->ops;

	crew_run(4, "contend", &one_shard, contend_member);
	if (fnd_table_open(torture.seg, "contend", NULL, &me.table))
		return;
	/* fn may run again after memory was fetched, but only one answer a call counts */
	CHECK("no_lost_update", sum(&me) == board->ops - before, "%llu counted, %llu calls",
	      (unsigned long long)sum(&me), (unsigned long long)(board->ops - before));
	fnd_table_close(me.table);
}

/* --- a lock is taken from the dead, also when their slot has a new owner --------------------------------- */

static enum fnd_modify hold_for_ever(void *arg, const void *old, size_t old_bytes, const void **value,
				     size_t *bytes)
{
	(void)old, (void)old_bytes, (void)value, (void)bytes;
	board->result = *(int64_t *)arg;
	step_set(0, 1);
	while (board->result >= 0)
		pause();
	return FND_MODIFY_KEEP;
}

/* Thread slot of the caller. */
static int64_t my_slot(struct fnd_segment *seg)
{
	struct fnd_thread *th;

	return fnd_thread_self(seg, &th) ? 0 : th->index;
}

static void dying_holder(struct member *m)
{
	int64_t slot = my_slot(m->seg);

	fnd_table_modify(m->table, &hot, sizeof(hot), hold_for_ever, &slot);
}

static void living_heir(struct member *m)
{
	board->result = my_slot(m->seg);
	step_set(0, 2);
	step_wait(1, 2);
}

static void dead_holder(bool reuse)
{
	pid_t holder, heir = 0;
	struct fnd_table *t;
	uint64_t n = 1, from;
	int64_t slot;
	int err = fnd_table_open(torture.seg, "dead", &one_shard, &t);

	if (err) {
		check_failed("open", "%s", fnd_strerror(err));
		return;
	}
	memset(board->step, 0, sizeof(board->step));
	fnd_segment_reap(torture.seg, NULL); /* so that the lowest free slot is the holder's, later the heir's */
	holder = child_start("dead", dying_holder);
	step_wait(0, 1);
	slot = board->result;
	child_kill(holder);
	if (reuse) {
		err = fnd_segment_reap(torture.seg, NULL);
		CHECK("reap", err == 0, "%s", fnd_strerror(err));
		heir = child_start("dead", living_heir);
		step_wait(0, 2);
		CHECK("slot_reuse_forced", board->result == slot, "slot %lld instead of %lld",
		      (long long)board->result, (long long)slot);
	}
	from = now_ms();
	err = fnd_table_upsert(t, &hot, sizeof(hot), &n, sizeof(n));
	CHECK(reuse ? "slot_reuse" : "dead_holder", err == 0, "after %llu ms: %s",
	      (unsigned long long)(now_ms() - from), fnd_strerror(err));
	if (reuse) {
		step_set(1, 2);
		child_wait(heir);
	}
	if (!err)
		err = fnd_table_check(t);
	CHECK(reuse ? "slot_reuse" : "dead_holder", err == 0, "check: %s", fnd_strerror(err));
	fnd_table_close(t);
}

/* --- signal handlers --------------------------------------------------------------------------------- */

static struct fnd_table *handler_table;
static volatile int handler_write, handler_lookup, handler_section, handler_ran;

static void handler(int sig)
{
	uint64_t n = 2;

	(void)sig;
	handler_write = fnd_table_upsert(handler_table, &hot, sizeof(hot), &n, sizeof(n));
	handler_lookup = fnd_table_lookup(handler_table, &hot, sizeof(hot), &n, sizeof(n), NULL);
	handler_section = fnd_read_begin(torture.seg);
	if (handler_section == 0)
		handler_section = fnd_read_end(torture.seg);
	handler_ran = 1;
}

static enum fnd_modify interrupted(void *arg, const void *old, size_t old_bytes, const void **value,
				   size_t *bytes)
{
	(void)arg, (void)old, (void)old_bytes, (void)value, (void)bytes;
	raise(SIGUSR1);
	return FND_MODIFY_KEEP;
}

static void handlers(void)
{
	struct sigaction act = { .sa_handler = handler };
	uint64_t n = 1;
	int err = fnd_table_open(torture.seg, "handler", &one_shard, &handler_table);

	if (err) {
		check_failed("open", "%s", fnd_strerror(err));
		return;
	}
	fnd_table_upsert(handler_table, &hot, sizeof(hot), &n, sizeof(n));
	sigaction(SIGUSR1, &act, NULL);
	err = fnd_table_modify(handler_table, &hot, sizeof(hot), interrupted, NULL);
	CHECK("handler", err == FND_MODIFY_KEEP && handler_ran, "modify: %s", fnd_strerror(err));
	CHECK("handler", handler_write == -EDEADLK, "a write inside a write gave %d", handler_write);
	CHECK("handler", handler_lookup == 0 && handler_section == 0, "lookup %d, section %d",
	      handler_lookup, handler_section);
	fnd_read_begin(torture.seg);
	handler_ran = 0;
	raise(SIGUSR1); /* inside a section: everything is allowed */
	CHECK("handler", handler_ran && handler_write == 0 && handler_lookup == 0 && handler_section == 0,
	      "in a section: write %d, lookup %d, section %d", handler_write, handler_lookup, handler_section);
	fnd_read_end(torture.seg);
	fnd_table_close(handler_table);
}

/* --- lives: threads, forks, attachments ----------------------------------------------------------------- */

static unsigned int slots_taken(bool threads)
{
	struct fnd_segment *seg = torture.seg;
	unsigned int n = 0;

	for (uint32_t i = 1; i <= (threads ? seg->threads : seg->processes); i++)
		n += fnd_slot_state(fnd_load_acquire(threads ? &seg->thread[i].word :
							       &seg->process[i].word)) != FND_SLOT_FREE;
	return n;
}

static void short_life(struct member *m)
{
	uint64_t n = m->id;

	fnd_read_begin(m->seg);
	fnd_read_end(m->seg);
	CHECK("write", fnd_table_upsert(m->table, &n, sizeof(n), &n, sizeof(n)) == 0, "upsert");
}

static void lives(void)
{
	unsigned int threads, processes;

	for (int i = 0; i < 50; i++) {
		crew_run(8, "lives", &one_shard, short_life);
		threads = slots_taken(true);
		processes = slots_taken(false);
		CHECK("slots_come_back", threads == 1 && processes == 1,
		      "%u thread slots and %u process slots are taken, one each is mine", threads, processes);
	}
}

static void forked_child(uint64_t *epoch)
{
	uint64_t n = 1, was = fnd_load_acquire(epoch);
	struct fnd_segment *mine;
	struct fnd_table *t;
	int bad = 0;

	bad |= fnd_read_begin(torture.seg) != -FND_E_FORKED;
	bad |= (fnd_read_end(torture.seg) != -FND_E_FORKED) << 1;
	bad |= (fnd_table_upsert(handler_table, &hot, sizeof(hot), &n, sizeof(n)) != -FND_E_FORKED) << 2;
	bad |= (fnd_table_lookup(handler_table, &hot, sizeof(hot), &n, sizeof(n), NULL) != -FND_E_FORKED) << 3;
	bad |= (fnd_load_acquire(epoch) != was) << 4;
	bad |= (fnd_segment_attach(torture.segment, NULL, &mine) != 0) << 5;
	if (!(bad & 32)) {
		bad |= (mine == torture.seg || fnd_table_open(mine, "fork", NULL, &t) != 0 ||
			fnd_table_upsert(t, &hot, sizeof(hot), &n, sizeof(n)) != 0 ||
			fnd_segment_detach(mine) != 0)
		       << 6;
	}
	bad |= (fnd_segment_detach(torture.seg) != 0) << 7;
	_exit(bad);
}

static void forks(void)
{
	struct fnd_thread *th;
	int status, err = fnd_table_open(torture.seg, "fork", &one_shard, &handler_table);
	uint64_t n;
	pid_t pid;

	if (err || fnd_thread_self(torture.seg, &th)) {
		check_failed("open", "%s", fnd_strerror(err));
		return;
	}
	fnd_read_begin(torture.seg);
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		forked_child(&th->slot->epoch);
	status = child_wait(pid);
	CHECK("fork_safety", WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with status %#x",
	      (unsigned int)status);
	CHECK("fork_safety", fnd_in_section(th), "the child ended its parent's section");
	CHECK("fork_safety", fnd_read_end(torture.seg) == 0 && !fnd_in_section(th), "end in the parent");
	err = fnd_table_lookup(handler_table, &hot, sizeof(hot), &n, sizeof(n), NULL);
	CHECK("fork_safety", err == 0 && n == 1, "what the child wrote: %s", fnd_strerror(err));
	fnd_table_close(handler_table);
}

static pthread_barrier_t together;

static void *attach_twice(void *arg)
{
	struct fnd_participant me;
	struct fnd_segment *seg;
	struct fnd_table *t;
	uint64_t n = 1;
	int err;

	(void)arg;
	pthread_barrier_wait(&together);
	err = fnd_segment_attach((const char *)arg, NULL, &seg);
	CHECK("one_handle", err == 0, "attach: %s", fnd_strerror(err));
	if (err)
		return NULL;
	pthread_barrier_wait(&together);
	fnd_segment_self(seg, &me);
	CHECK("one_handle", fnd_participant_active(seg, &me), "a living participant was reaped");
	err = fnd_table_open(seg, "t", &one_shard, &t);
	if (!err)
		err = fnd_table_upsert(t, &hot, sizeof(hot), &n, sizeof(n));
	CHECK("one_handle", err == 0, "%s", fnd_strerror(err));
	pthread_barrier_wait(&together);
	fnd_segment_detach(seg);
	return NULL;
}

/* Threads of one process attach at the same moment: nobody may take another for somebody dead. */
static void attach_together(void)
{
	struct fnd_segment_options opt = { .size = sizeof(opt), .processes = 8, .threads = 8,
					   .max_bytes = 16u << 20 };
	pthread_t thread[2];
	char name[80];
	int err;

	snprintf(name, sizeof(name), "%s-b", torture.segment);
	err = fnd_segment_create(name, &opt, NULL);
	CHECK("one_handle", err == 0, "create: %s", fnd_strerror(err));
	for (int i = 0; i < 100 && !err && !stopped(); i++) {
		pthread_barrier_init(&together, NULL, 2);
		for (int k = 0; k < 2; k++)
			pthread_create(&thread[k], NULL, attach_twice, name);
		for (int k = 0; k < 2; k++)
			pthread_join(thread[k], NULL);
		pthread_barrier_destroy(&together);
	}
	fnd_segment_destroy(name, FND_DESTROY_FORCE);
}

int main(int argc, char **argv)
{
	torture_begin(argc, argv, "torture_lock");
	if (torture_part("living"))
		crew_run(2, "living", &one_shard, living_member);
	if (torture_part("contend"))
		contend();
	if (torture_part("lives"))
		lives();
	if (torture_part("handlers"))
		handlers();
	if (torture_part("attach"))
		attach_together();
	if (torture.processes) {
		if (torture_part("dead"))
			dead_holder(false);
		if (torture_part("reuse"))
			dead_holder(true);
		if (torture_part("forks"))
			forks();
	}
	return torture_end();
}
