// SPDX-License-Identifier: MIT
/*
 * Mending a table whose directory entry, index words or region list are damaged.
 *
 * Nothing is guessed. What these words say is said a second time elsewhere: a span's header names its table, its
 * kind and its shard or number, and an entry follows from the options the table was made with. A word is put
 * back only where exactly one span can be meant; an entry only when its checksum then fits, or when every other
 * member agrees with what was computed. Each is put back by one store of what was there before the damage, so
 * that handles opened earlier go on, and a mender that dies leaves a table that is as sound as before, or more.
 * One at a time, under hdr->lock; then each shard that does not add up is repaired under its own lock.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "index.h"

#define LOCK_TRIES 50 /* of 1 ms, for a writer that is at work in a shard */

struct mending {
	struct fnd_segment *seg;
	struct fnd_thread *th;
	const char *name;
	const struct fnd_table_options *opt;
	unsigned int done;
};

/* --- spans ---------------------------------------------------------------------------------------- */

/* The one span in use as @use; 0: there is none, or more than one. Retired indexes do not count. */
static uint64_t only_span(struct fnd_table *t, uint64_t use, struct fnd_shm_shard *sh)
{
	uint64_t off = 0, found = 0;

	while (fnd_span_next(t->seg, &off) == 0) {
		struct fnd_shm_span *span = fnd_at(t->seg, off, sizeof(*span));

		if (!span || fnd_load_acquire(&span->use) != use) /* [SP-2] */
			continue;
		if (sh && (fnd_load_relaxed(&span->stamp) || fnd_index_in_chain(t, sh, off))) /* relaxed: a hint */
			continue;
		if (found)
			return 0;
		found = off;
	}
	return found;
}

/* --- the entry ------------------------------------------------------------------------------------ */

static bool same_members(const struct fnd_shm_table *a, const struct fnd_shm_table *b)
{
	const size_t from = offsetof(struct fnd_shm_table, flags);

	return memcmp((const char *)a + from, (const char *)b + from,
		      offsetof(struct fnd_shm_table, checksum) - from) == 0;
}

/* What the entry was, by @o and @capacity; false: they are not what it was made with. */
static bool recompute(const struct mending *m, const struct fnd_shm_table *c, const struct fnd_table_options *o,
		      uint64_t capacity, uint64_t root, struct fnd_shm_table *ret)
{
	struct fnd_table_options with = { .size = sizeof(with), .flags = o->flags, .key_max = o->key_max,
					  .value_max = o->value_max, .capacity = capacity };
	struct fnd_shm_table d;
	uint32_t extents;

	if (fnd_table_plan(m->seg, m->name, &with, &d, &extents))
		return false;
	d.root_off = root;
	d.checksum = fnd_table_checksum(&d);
	if (d.checksum != c->checksum && !same_members(&d, c))
		return false;
	*ret = d;
	return true;
}

/* Word by word, the checksum included: whoever reads meanwhile finds it damaged, as before, or whole. */
static void put_entry(struct fnd_shm_table *d, const struct fnd_shm_table *sound)
{
	const size_t from = offsetof(struct fnd_shm_table, flags), to = offsetof(struct fnd_shm_table, regions);

	for (size_t at = from; at < to; at += 4) {
		uint32_t word, is;

		memcpy(&word, (const char *)sound + at, 4);
		is = fnd_load_relaxed((uint32_t *)((char *)d + at)); /* relaxed, both: the checksum tells who reads */
		if (is != word)
			fnd_store_relaxed((uint32_t *)((char *)d + at), word);
	}
}

static bool mend_entry(struct mending *m, uint32_t number)
{
	struct fnd_shm_table *d = &m->seg->table[number], c, sound;
	struct fnd_table t = { .seg = m->seg };
	struct fnd_table_options own = { .size = sizeof(own) };
	const struct fnd_table_options *given = m->opt ? m->opt : &own;
	uint64_t root = only_span(&t, fnd_span_use(FND_SPAN_ROOT, number, 0), NULL);

	memcpy(&c, d, sizeof(c));
	if (!root)
		return false;
	own.flags = c.flags;
	own.key_max = c.key_max;
	own.value_max = c.value_max;
	if (!recompute(m, &c, given, given->capacity, root, &sound) &&
	    !recompute(m, &c, given, c.capacity, root, &sound) &&
	    !recompute(m, &c, given, m->seg->default_capacity, root, &sound) &&
	    !recompute(m, &c, &own, c.capacity, root, &sound))
		return false;
	put_entry(d, &sound);
	m->done++;
	return true;
}

/* The sound entry of that name, mended when there is a damaged one: bound. */
static int entry(struct mending *m, struct fnd_table *ret)
{
	bool damaged = false;

	for (uint32_t i = 0; i < FND_TABLES; i++) {
		int err = fnd_table_bind(m->seg, i, ret);

		damaged = damaged || err == -FND_E_CORRUPT;
		if (err == 0 && strcmp(ret->name, m->name) == 0)
			return 0;
	}
	for (uint32_t i = 0; damaged && i < FND_TABLES; i++)
		if (fnd_table_bind(m->seg, i, ret) == -FND_E_CORRUPT && mend_entry(m, i) &&
		    fnd_table_bind(m->seg, i, ret) == 0 && strcmp(ret->name, m->name) == 0)
			return 0; /* another's entry, before it, is mended as well */
	for (uint32_t i = 0; damaged && i < FND_TABLES; i++)
		if (fnd_load_acquire(&m->seg->table[i].state) == FND_TABLE_READY && /* [TD-1] */
		    strncmp(m->seg->table[i].name, m->name, sizeof(m->seg->table[i].name)) == 0)
			return fnd_fail(FND_E_CORRUPT, "table %s, entry %u: nothing tells what it was", m->name, i);
	return fnd_fail(ENOENT, "there is no table %s", m->name);
}

/* --- regions and indexes -------------------------------------------------------------------------- */

static void mend_regions(struct mending *m, struct fnd_table *t)
{
	struct fnd_shm_table *d = t->desc;
	uint32_t regions = fnd_load_relaxed(&d->regions); /* relaxed: under hdr->lock */

	for (uint32_t i = 0; i < regions && i < FND_REGIONS; i++) {
		const uint64_t use = fnd_span_use(FND_SPAN_REGION, t->number, i);
		uint64_t off = fnd_load_relaxed(&d->region_off[i]), right; /* relaxed, both: as above */
		struct fnd_shm_span *span = off % FND_LINE ? NULL : fnd_at(m->seg, off, sizeof(*span));

		if (span && fnd_load_relaxed(&span->magic) == FND_SPAN_MAGIC && fnd_load_acquire(&span->use) == use)
			continue; /* [SP-2] */
		right = only_span(t, use, NULL);
		if (!right)
			continue; /* the check says so */
		fnd_store_relaxed(&d->region_off[i], right); /* relaxed: what it was when it was published */
		m->done++;
	}
	fnd_region_first(t);
}

static void mend_index(struct mending *m, struct fnd_table *t, uint32_t shard)
{
	const struct timespec nap = { 0, 1000000 };
	struct fnd_shm_shard *sh = &t->shard[shard];
	uint64_t word = fnd_load_acquire(&t->index[shard]), off; /* [IX-1] */
	struct fnd_shm_span *span;
	struct fnd_index ix;
	int busy = -EBUSY;

	if (fnd_index_open(t, shard, word, &ix) == 0)
		return;
	/* Who is at work there may be freeing an old index. A dead one's lock waits for a repair, which this
	 * word prevents: then it goes without. */
	for (int i = 0; busy && i < LOCK_TRIES; i++) {
		busy = fnd_trylock(m->th, &sh->lock);
		if (busy)
			nanosleep(&nap, NULL);
	}
	off = only_span(t, fnd_span_use(FND_SPAN_INDEX, t->number, shard), sh);
	span = off ? fnd_at(m->seg, off, sizeof(*span)) : NULL;
	if (span && fnd_index_open(t, shard, off | fnd_load_relaxed(&span->buckets_log2), &ix) == 0 &&
	    fnd_cas(&t->index[shard], word, off | ix.log2)) /* [IX-1] the word that was there */
		m->done++;
	if (!busy)
		fnd_unlock(m->th, &sh->lock);
}

/* --- shards --------------------------------------------------------------------------------------- */

static int mend_shard(struct mending *m, struct fnd_table *t, uint32_t shard)
{
	int err = fnd_shard_lock(t, m->th, shard);

	if (err)
		return err;
	err = fnd_shard_check(t, shard);
	if (err == -FND_E_CORRUPT) {
		err = fnd_shard_repair(t, shard);
		m->done++;
		if (!err)
			err = fnd_shard_check(t, shard);
	}
	fnd_unlock(m->th, &t->shard[shard].lock);
	return err;
}

int fnd_table_mend(struct fnd_segment *seg, const char *name, const struct fnd_table_options *opt,
		   unsigned int *ret_mended)
{
	struct mending m = { .seg = seg, .name = name, .opt = opt };
	struct fnd_table t;
	int err = fnd_thread_self(seg, &m.th), first = 0;

	if (err)
		return err;
	if (!name || (opt && opt->size != sizeof(*opt)))
		return -EINVAL;
	if (seg->read_only)
		return fnd_fenced_error();
	err = fnd_space_lock(seg, m.th);
	if (err)
		return err;
	err = entry(&m, &t);
	if (!err)
		mend_regions(&m, &t);
	for (uint32_t i = 0; !err && i < t.shards; i++)
		mend_index(&m, &t, i);
	fnd_unlock(m.th, &seg->hdr->lock);
	for (uint32_t i = 0; !err && i < t.shards; i++) {
		int one = mend_shard(&m, &t, i);

		first = first ? first : one;
	}
	if (ret_mended && !err && !first)
		*ret_mended = m.done;
	return err ? err : first;
}
