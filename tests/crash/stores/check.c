// SPDX-License-Identifier: MIT
/* What must hold after a death, exactly. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "check.h"
#include "hooks.h"
#include "spans.h"

static char wrong[512];

#define WRONG(...) (snprintf(wrong, sizeof(wrong), __VA_ARGS__), wrong)

static const char *check_held(void)
{
	uint32_t off = held_broken();

	return off ? WRONG("memory at %u changed under an open read section", off) : NULL;
}

/* --- contents ------------------------------------------------------------------------------------- */

static bool is(int bytes, const unsigned char *value, int err, const void *got, size_t got_bytes)
{
	if (bytes < 0)
		return err == -ENOENT;
	return err == 0 && got_bytes == (size_t)bytes && memcmp(value, got, got_bytes) == 0;
}

bool entry_passing(const struct model_entry *e)
{
	if (w.passing_begin && strncmp((const char *)e->key, w.passing_begin, strlen(w.passing_begin)) == 0)
		return true;
	for (const char *p = w.passing; p && *p; p += strspn(p, " ")) {
		size_t n = strcspn(p, " ");

		if (n == e->key_bytes && memcmp(p, e->key, n) == 0)
			return true;
		p += n;
	}
	return false;
}

/* Each key holds what it did before or what it does after; *ret: which. @t NULL: its table is not there yet. */
static const char *check_entry(struct fnd_table *t, const struct model_entry *e, int *ret)
{
	unsigned char got[1100];
	size_t bytes = 0;
	int err = t ? fnd_table_lookup(t, e->key, e->key_bytes, got, sizeof(got), &bytes) : -ENOENT;
	bool before = is(e->before_bytes, e->before, err, got, bytes);
	bool after = is(e->after_bytes, e->after, err, got, bytes);

	if (!before && !after && err == 0 && entry_passing(e)) {
		before = true; /* as good as: it is there */
		after = e->after_bytes >= 0;
	}
	if (!before && !after)
		return WRONG("key %.*s of %s holds neither what it did before nor what it does after: %s",
			     (int)e->key_bytes, (const char *)e->key, t ? t->name : "no table",
			     err ? fnd_strerror(err) : "other");
	*ret = before && after ? 2 : after;
	return NULL;
}

static const char *check_contents(struct fnd_segment *seg, bool repaired)
{
	uint32_t bound = FND_TABLES;
	uint64_t found = 0, live = 0;
	bool there = false;
	struct fnd_table t;

	for (uint32_t i = 0; i < model.nentries; i++) {
		const char *err;
		int is_now;

		if (model.entry[i].table != bound) {
			bound = model.entry[i].table;
			there = fnd_table_bind(seg, bound, &t) == 0;
			if (!there && model.table_before[bound])
				return WRONG("table %u is not there", bound);
		}
		err = check_entry(there ? &t : NULL, &model.entry[i], &is_now);
		if (err)
			return err;
		if (repaired && model.seen[i] != is_now)
			return WRONG("key %.*s changed by the repair", (int)model.entry[i].key_bytes,
				     (const char *)model.entry[i].key);
		model.seen[i] = is_now;
		found += is_now == 0 ? model.entry[i].before_bytes >= 0 : model.entry[i].after_bytes >= 0;
	}
	if (!repaired)
		return NULL;
	for (uint32_t i = 0; i < TABLES_MAX; i++) {
		if (fnd_table_bind(seg, i, &t))
			continue;
		for (uint32_t s = 0; s < t.shards; s++)
			live += t.shard[s].live;
	}
	return live == found ? NULL : WRONG("%llu live records are counted, %llu keys are known", (unsigned long long)live, (unsigned long long)found);
}

/* --- structure ------------------------------------------------------------------------------------ */

static bool used_as(struct fnd_segment *seg, uint64_t off, uint64_t use)
{
	return ((struct fnd_shm_span *)(seg->base + off))->use == use;
}

/* What a table stands on is not free, and no index in use is waiting to be. */
static const char *check_ground(struct fnd_table *t)
{
	const struct fnd_shm_table *d = t->desc;

	if (!used_as(t->seg, d->root_off, fnd_span_use(FND_SPAN_ROOT, t->number, 0)))
		return WRONG("%s: its root span is another's", t->name);
	for (uint32_t i = 0; i < d->regions; i++)
		if (!used_as(t->seg, d->region_off[i], fnd_span_use(FND_SPAN_REGION, t->number, i)))
			return WRONG("%s: the span of region %u is another's", t->name, i);
	for (uint32_t i = 0; i < t->shards; i++) {
		uint64_t off = t->index[i] & ~63ULL, old = t->shard[i].old_index;

		if (!used_as(t->seg, off, fnd_span_use(FND_SPAN_INDEX, t->number, i)))
			return WRONG("%s: the index of shard %u is another's", t->name, i);
		for (int k = 0; old && k < 64; k++) {
			if (old == off)
				return WRONG("%s: the index of shard %u is retired", t->name, i);
			old = ((struct fnd_shm_span *)(t->seg->base + old))->next;
		}
	}
	return NULL;
}

static const char *check_table(struct fnd_table *t)
{
	struct fnd_table_stats s;
	int err = fnd_table_check(t);

	if (err)
		return WRONG("check of %s: %s [%s]", t->name, fnd_strerror(err), fnd_error_detail());
	err = fnd_table_stats_read(t, &s);
	if (err)
		return WRONG("stats of %s: %s", t->name, fnd_strerror(err));
	if (s.allocated != s.live + s.retired + s.free_records)
		return WRONG("%s: allocated %llu, live %llu, retired %llu, free %llu", t->name,
			     (unsigned long long)s.allocated, (unsigned long long)s.live,
			     (unsigned long long)s.retired, (unsigned long long)s.free_records);
	for (uint32_t i = 0; i < t->shards; i++)
		if (t->shard[i].lock)
			return WRONG("%s: the lock of shard %u stays %#x", t->name, i, t->shard[i].lock);
	return check_ground(t);
}

static const char *check_tables(struct fnd_segment *seg)
{
	for (uint32_t i = 0; i < TABLES_MAX; i++) {
		unsigned int state = seg->table[i].state;
		const char *err;
		struct fnd_table t;

		if (state == FND_TABLE_FREE && model.table_before[i])
			return WRONG("table %u is lost", i);
		if (state == FND_TABLE_FREE)
			continue;
		if (state != FND_TABLE_READY || fnd_table_bind(seg, i, &t))
			return WRONG("table %u is in state %u", i, state);
		if (!model.table_before[i] && !model.table_after[i])
			return WRONG("table %u came from nowhere", i);
		err = check_table(&t);
		if (err)
			return err;
	}
	return seg->hdr->lock ? WRONG("the segment's lock stays %#x", seg->hdr->lock) : NULL;
}

/* Taken slots belong to the living, all of them and nobody else. */
static const char *check_slots(struct fnd_segment *seg)
{
	unsigned int living = 0, processes = 0, threads = 0;

	for (uint32_t i = 1; i <= seg->processes; i++) {
		uint64_t word = seg->process[i].word;

		if (fnd_slot_state(word) == FND_SLOT_FREE)
			continue;
		processes++;
		if (fnd_slot_state(word) != FND_SLOT_ACTIVE || world_pid_dead(fnd_slot_id(word)))
			return WRONG("process slot %u is stuck: %#llx", i, (unsigned long long)word);
	}
	for (uint32_t i = 1; i <= seg->threads; i++) {
		uint64_t word = seg->thread[i].word;

		if (fnd_slot_state(word) == FND_SLOT_FREE) {
			if (seg->thread[i].epoch)
				return WRONG("thread slot %u is free inside a read section", i);
			continue;
		}
		threads++;
		if (fnd_slot_state(word) != FND_SLOT_ACTIVE || world_pid_dead(fnd_slot_id(word)))
			return WRONG("thread slot %u is stuck: %#llx", i, (unsigned long long)word);
	}
	for (enum who i = FOUNDER; i < WHO_MAX; i++) {
		struct actor *a = &w.actor[i];

		if (!a->here || a->dead)
			continue;
		living++;
		if (seg->process[a->seg->self_slot].word !=
			    fnd_slot_word(FND_SLOT_ACTIVE, a->seg->self_gen, world_pid(i)) ||
		    seg->thread[a->th->index].word != fnd_slot_word(FND_SLOT_ACTIVE, a->th->gen, world_pid(i)))
			return WRONG("participant %u lost a slot while it lives", world_pid(i));
	}
	return processes == living && threads == living ? NULL : WRONG("%u living, %u process slots, %u thread slots", living, processes, threads);
}

static uint64_t leaked_off;

static void span_is_leaked(struct fnd_segment *seg, uint64_t off)
{
	(void)seg;
	leaked_off = off;
}

static const char *check_spans(struct fnd_segment *seg)
{
	int err;
	uint64_t use;

	leaked_off = 0;
	err = spans_check(seg, span_is_leaked);
	if (err)
		return WRONG("walk of the spans: %s", fnd_strerror(err));
	if (!leaked_off)
		return NULL;
	use = ((struct fnd_shm_span *)(seg->base + leaked_off))->use;
	return WRONG("the span at %llu (kind %u, table %u, shard %u) is leaked",
		     (unsigned long long)leaked_off, fnd_span_kind(use), fnd_span_table(use),
		     fnd_span_shard(use));
}

/* --- the steps of a trial ------------------------------------------------------------------------- */

const char *check_readers(const struct trial *t)
{
	return check_contents(w.actor[t->rescuer].seg, false);
}

static const char *take_shards(struct fnd_segment *seg, struct fnd_thread *th)
{
	for (uint32_t i = 0; i < TABLES_MAX; i++) {
		struct fnd_table t;

		if (seg->table[i].state != FND_TABLE_READY || fnd_table_bind(seg, i, &t))
			continue;
		for (uint32_t s = 0; s < t.shards; s++) {
			int err = fnd_shard_lock(&t, th, s);

			if (err)
				return WRONG("lock of %s, shard %u: %s [%s]", t.name, s, fnd_strerror(err),
					     fnd_error_detail());
			fnd_unlock(th, &t.shard[s].lock);
		}
	}
	return NULL;
}

static const char *take_segment(struct fnd_segment *seg, struct fnd_thread *th)
{
	int err = fnd_space_lock(seg, th);

	if (err)
		return WRONG("the segment's lock: %s [%s]", fnd_strerror(err), fnd_error_detail());
	fnd_unlock(th, &seg->hdr->lock);
	return NULL;
}

/* Whoever suffers repairs: which lock is wanted first, and whether somebody reaps before, is chance. */
const char *recover(const struct trial *t)
{
	struct fnd_segment *seg = w.actor[t->rescuer].seg;
	struct fnd_thread *th = w.actor[t->rescuer].th;
	const char *err = NULL;

	world_corruptions();
	if (t->order == 0 && fnd_segment_reap(seg, NULL))
		return WRONG("reap failed");
	if (t->order == 1)
		err = take_segment(seg, th);
	if (!err)
		err = take_shards(seg, th);
	if (!err && t->order != 1)
		err = take_segment(seg, th);
	if (!err && t->order != 0 && fnd_segment_reap(seg, NULL))
		return WRONG("reap failed");
	if (!err && world_corruptions())
		return WRONG("a repair after a mere death met damage: %s", fnd_error_detail());
	return err;
}

const char *check_all(const struct trial *t)
{
	struct fnd_segment *seg = w.actor[t->rescuer].seg;
	const char *err = check_contents(seg, true);

	if (!err)
		err = check_tables(seg);
	if (!err)
		err = check_slots(seg);
	if (!err)
		err = check_spans(seg);
	if (!err)
		err = check_held();
	if (!err && world_corruptions())
		err = WRONG("damage was met: %s", fnd_error_detail());
	return err;
}

/* A full table may refuse; so may one that waits for a reader. */
static bool may_refuse(struct fnd_table *t, int err)
{
	uint64_t live = 0;

	for (uint32_t i = 0; i < t->shards; i++)
		live += t->shard[i].live;
	return err == -ENOSPC && (t->flags & FND_TABLE_FIXED) && (w.reader_open || live >= t->capacity);
}

static const char *work_in(struct fnd_table *t, uint32_t round)
{
	char whole[16], value[32], got[1100];
	size_t all = key_of(9000000 + round, whole), m = value_of(1, round, value), bytes;
	size_t n = all < t->key_max ? all : t->key_max;
	const char *key = whole + all - n; /* the end of it, which differs */
	int err = fnd_table_insert(t, key, n, value, t->value_max < m ? t->value_max : m);

	if (may_refuse(t, err))
		return NULL;
	if (!err)
		err = fnd_table_replace(t, key, n, value, 4);
	if (may_refuse(t, err)) /* for want of a second record */
		err = 0;
	else if (!err)
		err = fnd_table_lookup(t, key, n, got, sizeof(got), &bytes);
	if (!err)
		err = fnd_epoch_advance(t->seg);
	if (!err)
		err = fnd_table_delete(t, key, n);
	return err ? WRONG("new work in %s: %s [%s]", t->name, fnd_strerror(err), fnd_error_detail()) : NULL;
}

/* Somebody new comes and goes. */
static const char *newcomer(struct fnd_segment *of)
{
	struct fnd_segment seg = *of;
	int err;

	seg.self_slot = seg.self_gen = 0;
	seg.identity.pid = world_pid(VICTIM);
	err = fnd_process_claim(&seg);
	if (err)
		return WRONG("a newcomer gets no slot: %s", fnd_strerror(err));
	fnd_process_release(&seg);
	return NULL;
}

const char *check_new_work(const struct trial *t)
{
	struct fnd_segment *seg = w.actor[t->rescuer].seg;
	const char *err = newcomer(seg);

	for (uint32_t i = 0; !err && i < TABLES_MAX; i++) {
		struct fnd_table table;

		if (fnd_table_bind(seg, i, &table))
			continue;
		for (uint32_t round = 0; !err && round < 3; round++)
			err = work_in(&table, round);
	}
	return err ? err : check_all(t);
}
