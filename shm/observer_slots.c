// SPDX-License-Identifier: MIT
/*
 * Observers: participants, threads, and what their cells add up to.
 *
 * The kernel copies while participants write. Single words are whole (they are aligned, and nobody stores
 * parts of one); structs are not. A slot is therefore read between two looks at its word, which changes
 * with every owner.
 */
#include "internal.h"
#include "observer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "evidence.h"
#include "histogram.h"

#define SLOT_TRIES 8

/* A slot that begins with its word, read while that word did not change. False: it is free. */
static int read_slot(const struct fnd_observer *o, uint64_t off, void *slot, size_t bytes, bool *ret_taken)
{
	uint64_t word = 0;
	uint64_t again = 0;
	int err = 0;

	for (int i = 0; i < SLOT_TRIES && !err; i++) {
		err = fnd_observer_read(o, off, slot, bytes);
		if (!err)
			err = fnd_observer_read(o, off, &again, sizeof(again));
		memcpy(&word, slot, sizeof(word));
		if (word == again)
			break;
	}
	if (err)
		return err;
	/* still moving: nobody holds it for longer than a read takes */
	*ret_taken = word == again && fnd_slot_state(word) != FND_SLOT_FREE;
	return 0;
}

static uint32_t liveness_of(const struct fnd_observer *o, const struct fnd_shm_process *p)
{
	struct fnd_identity id = {
		.pid = fnd_slot_id(p->word),
		.flags = p->identity_flags,
		.pidfd_ino = p->pidfd_ino,
		.start_time = p->start_time,
		.pidns = p->pidns,
		.timens = p->timens,
	};
	enum fnd_evidence evidence;

	if (fnd_slot_state(p->word) == FND_SLOT_REAPING)
		return FND_LIVENESS_DEAD; /* somebody had proof */
	if (!o->same_pidns)
		return FND_LIVENESS_UNKNOWN;
	if (fnd_slot_state(p->word) == FND_SLOT_CLAIMING)
		evidence = fnd_evidence_claiming(id.pid);
	else
		evidence = fnd_evidence_process(&id, 0, 0, 0);
	if (evidence == FND_PROVEN_DEAD)
		return FND_LIVENESS_DEAD;
	return fnd_evidence_rule() == FND_RULE_NONE ? FND_LIVENESS_UNKNOWN : FND_LIVENESS_ALIVE;
}

static void describe_process(const struct fnd_observer *o, uint32_t slot, const struct fnd_shm_process *p,
			     struct fnd_observed_participant *ret)
{
	const unsigned int state = fnd_slot_state(p->word);

	memset(ret, 0, sizeof(*ret));
	ret->slot = slot;
	ret->generation = fnd_slot_gen(p->word);
	ret->state = state;
	/* a word in REAPING names the reaper */
	ret->pid = state == FND_SLOT_REAPING ? 0 : fnd_slot_id(p->word);
	ret->liveness = liveness_of(o, p);
	if (state == FND_SLOT_CLAIMING)
		return; /* its members mean nothing yet */
	ret->read_only = !!(p->flags & FND_PROCESS_READ_ONLY);
	ret->attached_ns = p->attached_ns;
	ret->start_time = p->start_time;
	memcpy(ret->comm, p->comm, sizeof(p->comm));
}

typedef int (*thread_fn)(const struct fnd_observed_thread *t, void *arg);

/* Which process slots have which word: index by slot, [0 .. processes]. NULL: no memory, or *ret_err. */
static uint64_t *process_words(const struct fnd_observer *o, int *ret_err)
{
	uint32_t n = o->header.processes + 1;
	struct fnd_shm_process *copy = calloc(n, sizeof(*copy));
	uint64_t *words = calloc(n, sizeof(*words));

	*ret_err = copy && words ?
		fnd_observer_read(o, o->header.process_off, copy, n * sizeof(*copy)) :
		fnd_fail(ENOMEM, "no memory for %" PRIu32 " slots", n);
	if (*ret_err) {
		free(words);
		words = NULL;
	}
	for (uint32_t i = 1; words && i < n; i++)
		words[i] = copy[i].word;
	free(copy);
	return words;
}

static int read_samples(const struct fnd_observer *o, struct fnd_observed_thread *t)
{
	const uint64_t cell = o->header.cell_off + (uint64_t)t->slot * sizeof(struct fnd_shm_cell);
	int err = 0;

	for (unsigned int op = 0; op < FND_CELL_OPS && !err; op++)
		err = fnd_observer_read(o, cell + offsetof(struct fnd_shm_cell, op) +
					op * sizeof(struct fnd_shm_histogram) +
					offsetof(struct fnd_shm_histogram, count),
					&t->samples[op], sizeof(t->samples[op]));
	return err;
}

static int observe_thread(const struct fnd_observer *o, uint32_t slot, const uint64_t *words,
			  thread_fn fn, void *arg)
{
	const uint64_t off = o->header.thread_off + (uint64_t)slot * sizeof(struct fnd_shm_thread);
	const uint64_t now = fnd_now_ns() - (uint64_t)o->clock_offset_ns;
	struct fnd_observed_thread t = { .slot = slot };
	struct fnd_shm_thread copy;
	bool taken;
	int err;

	err = read_slot(o, off, &copy, sizeof(copy), &taken);
	if (err || !taken)
		return err;
	t.generation = fnd_slot_gen(copy.word);
	t.state = fnd_slot_state(copy.word);
	t.tid = t.state == FND_SLOT_REAPING ? 0 : fnd_slot_id(copy.word);
	if (t.state != FND_SLOT_CLAIMING) {
		t.process = (uint32_t)(copy.process >> 32);
		t.process_generation = (uint32_t)copy.process & FND_SLOT_GEN_MASK;
	}
	if (t.process > 0 && t.process <= o->header.processes &&
	    fnd_slot_state(words[t.process]) == FND_SLOT_ACTIVE &&
	    fnd_slot_gen(words[t.process]) == t.process_generation)
		t.pid = fnd_slot_id(words[t.process]);
	t.nesting = (uint32_t)(copy.epoch & 0xffff);
	t.epoch = t.nesting ? copy.epoch >> 16 : 0;
	if (t.nesting && copy.behind_epoch == t.epoch && copy.behind_ns && now > copy.behind_ns)
		t.behind_ns = now - copy.behind_ns;
	err = read_samples(o, &t);
	return err ? err : fn(&t, arg);
}

int fnd_observer_threads(struct fnd_observer *o, thread_fn fn, void *arg)
{
	struct fnd_observed_hot hot;
	uint64_t *words;
	int err;

	if (!o || !fn)
		return -EINVAL;
	err = fnd_observer_hot(o, &hot);
	if (err)
		return err;
	words = process_words(o, &err);
	for (uint32_t i = 1; i <= hot.thread_high && !err; i++)
		err = observe_thread(o, i, words, fn, arg);
	free(words);
	return err;
}

static int observe_processes(struct fnd_observer *o, const uint32_t *threads, uint32_t high,
			     int (*fn)(const struct fnd_observed_participant *p, void *arg), void *arg)
{
	for (uint32_t i = 1; i <= high; i++) {
		const uint64_t off = o->header.process_off + (uint64_t)i * sizeof(struct fnd_shm_process);
		struct fnd_observed_participant p;
		struct fnd_shm_process copy;
		bool taken;
		int err = read_slot(o, off, &copy, sizeof(copy), &taken);

		if (!err && taken) {
			describe_process(o, i, &copy, &p);
			p.threads = threads[i];
			err = fn(&p, arg);
		}
		if (err)
			return err;
	}
	return 0;
}

struct thread_count {
	uint32_t *of_process; /* [0 .. processes] */
	uint32_t processes;
};

static int count_thread(const struct fnd_observed_thread *t, void *arg)
{
	struct thread_count *c = arg;

	if (t->process <= c->processes && t->pid)
		c->of_process[t->process]++;
	return 0;
}

int fnd_observer_participants(struct fnd_observer *o,
			      int (*fn)(const struct fnd_observed_participant *p, void *arg), void *arg)
{
	struct thread_count count;
	struct fnd_observed_hot hot;
	int err;

	if (!o || !fn)
		return -EINVAL;
	count.processes = o->header.processes;
	count.of_process = calloc(count.processes + 1ULL, sizeof(*count.of_process));
	if (!count.of_process)
		return fnd_fail(ENOMEM, "no memory for %" PRIu32 " slots", count.processes);
	err = fnd_observer_hot(o, &hot);
	if (!err)
		err = fnd_observer_threads(o, count_thread, &count);
	if (!err)
		err = observe_processes(o, count.of_process, hot.process_high, fn, arg);
	free(count.of_process);
	return err;
}

/* The highest value of the bucket the percentile falls into, but never above the maximum. */
static uint64_t percentile(const uint64_t *bucket, const struct fnd_latency *l, uint32_t per_mille)
{
	unsigned int i = fnd_hist_percentile(bucket, l->samples, per_mille, 1000);
	uint64_t upper = fnd_hist_upper(i);

	return i == FND_HIST_BUCKETS - 1 || upper > l->max_ns ? l->max_ns : upper;
}

int fnd_observer_latency(struct fnd_observer *o, enum fnd_op op, struct fnd_latency *ret_latency)
{
	uint64_t bucket[FND_HIST_BUCKETS] = { 0 };
	struct fnd_latency l = { 0 };
	struct fnd_shm_histogram h;
	int err = 0;

	if (!o || !ret_latency || (unsigned int)op >= FND_CELL_OPS)
		return -EINVAL;
	for (uint32_t slot = 1; slot <= o->header.threads && !err; slot++) {
		const uint64_t off = o->header.cell_off + slot * sizeof(struct fnd_shm_cell) +
				     offsetof(struct fnd_shm_cell, op) + op * sizeof(h);

		err = fnd_observer_read(o, off, &h, offsetof(struct fnd_shm_histogram, bucket));
		if (err || h.count == 0)
			continue;
		err = fnd_observer_read(o, off, &h, sizeof(h));
		if (h.max_ns > l.max_ns)
			l.max_ns = h.max_ns;
		for (unsigned int i = 0; i < FND_HIST_BUCKETS; i++) {
			bucket[i] += h.bucket[i];
			l.samples += h.bucket[i];
		}
	}
	if (err)
		return err;
	if (l.samples) {
		l.p50_ns = percentile(bucket, &l, 500);
		l.p95_ns = percentile(bucket, &l, 950);
		l.p99_ns = percentile(bucket, &l, 990);
		l.p999_ns = percentile(bucket, &l, 999);
	}
	*ret_latency = l;
	return 0;
}
