// SPDX-License-Identifier: MIT
/*
 * Observers: the records of one table, read while writers go on.
 *
 * An observer is no reader in the sense of RCU: nobody waits for it, so what it reads may be reused under
 * its hands. It finds out afterwards, by the same rule that writers follow. Whatever is unlinked when the
 * epoch is E or later is stamped E or later, and reused only when `safe` is above its stamp. So: read the
 * epoch, then the slot, then the record, then `safe`. While `safe` is not above that epoch, the record was
 * not touched in between. Otherwise take the epoch anew, see whether the index is still the same one, read
 * the slot again, and so on.
 *
 * A shard is collected whole before any of it is handed out: when its index is replaced in the middle (it
 * has grown), the shard is read again from its beginning, and no record is handed out twice.
 */
#include "observer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#ifndef XXH_INLINE_ALL
#define XXH_INLINE_ALL
#endif
#include <xxhash.h>

#include "error.h"

#define RECORD_TRIES 16
#define SHARD_TRIES 32
#define INDEX_LOG2_MAX 31u

struct shard_walk {
	const struct fnd_observer *o;
	struct fnd_observed_table *t; /* its regions grow while the walk goes on */
	uint32_t shard;
	uint64_t word; /* of the index that was copied */
	uint64_t buckets;
	uint32_t log2;
	uint32_t overflow;
	struct fnd_shm_bucket *bucket; /* the copy: [1 << log2], then [overflow] */
	uint8_t *seen;                 /* [overflow]: in a chain already */
	uint64_t epoch;                /* before the copy was made */
	char *record;                  /* [record_bytes] */
	/* Collected: {u32 value bytes, u32 key bytes, value, padding to 8, key, padding to 8} … */
	char *out;
	size_t used;
	size_t room;
	uint64_t out_max; /* more than that no sound shard holds */
	bool damaged;
	size_t chain_from; /* where in `out` the records of the chain at hand begin */
};

static size_t padded(size_t n)
{
	return (n + 7) & ~(size_t)7;
}

/* --- the index ------------------------------------------------------------------------------------ */

static int read_word(const struct shard_walk *w, uint64_t *ret_word)
{
	return fnd_observer_read(w->o, w->t->index_off + w->shard * 8ULL, ret_word, sizeof(*ret_word));
}

static int size_index(struct shard_walk *w)
{
	const uint64_t off = w->word & ~(uint64_t)(FND_LINE - 1);
	struct fnd_shm_span span;
	int err;

	w->log2 = (uint32_t)(w->word & (FND_LINE - 1));
	err = fnd_observer_span(w->o, off, FND_SPAN_INDEX, w->t->number, &span);
	if (err)
		return err;
	w->overflow = span.overflow;
	w->buckets = (1ULL << (w->log2 & INDEX_LOG2_MAX)) + span.overflow;
	if (w->log2 > INDEX_LOG2_MAX || fnd_span_shard(span.use) != w->shard ||
	    w->buckets > (span.bytes - sizeof(span)) / sizeof(struct fnd_shm_bucket))
		return fnd_fail(FND_E_CORRUPT, "table %s, shard %" PRIu32 ": index word 0x%" PRIx64
				" does not fit its span", w->t->d.name, w->shard, w->word);
	return 0;
}

/* A private copy of the shard's index. -EAGAIN: it was replaced meanwhile. */
static int copy_index(struct shard_walk *w)
{
	struct fnd_observed_hot hot;
	uint64_t again;
	int err;

	err = fnd_observer_hot(w->o, &hot);
	if (!err)
		err = read_word(w, &w->word);
	if (err)
		return err;
	w->epoch = hot.epoch;
	err = size_index(w);
	if (!err) {
		free(w->bucket);
		free(w->seen);
		w->bucket = malloc(w->buckets * sizeof(*w->bucket));
		w->seen = calloc(w->overflow + 1ULL, 1);
		err = w->bucket && w->seen ?
			fnd_observer_read(w->o, (w->word & ~(uint64_t)(FND_LINE - 1)) +
					  sizeof(struct fnd_shm_span), w->bucket,
					  w->buckets * sizeof(*w->bucket)) :
			fnd_fail(ENOMEM, "no memory for an index of %" PRIu64 " buckets", w->buckets);
	}
	/* An index is never published twice: while its word stays, so does the index. */
	if (!read_word(w, &again) && again != w->word)
		return -EAGAIN;
	return err;
}

/* --- one record ----------------------------------------------------------------------------------- */

/* Is there the place of a record of this table? Any other offset is damage. */
static bool record_place(const struct fnd_shm_table *d, uint64_t off)
{
	for (uint32_t i = 0; i < d->regions; i++) {
		const uint64_t owners = (d->region_extents[i] * 4ULL + FND_LINE - 1) & ~(uint64_t)(FND_LINE - 1);
		const uint64_t base = d->region_off[i] + sizeof(struct fnd_shm_span) + owners;
		const uint64_t at = off - base;

		if (off >= base && at / d->extent_bytes < d->region_extents[i] &&
		    at % d->extent_bytes % d->record_bytes == 0 &&
		    at % d->extent_bytes / d->record_bytes < d->extent_records)
			return true;
	}
	return false;
}

/* Reads what a slot names into w->record. False: no sound record with that slot word is there. */
static bool read_record(struct shard_walk *w, uint64_t slot, size_t *ret_key, size_t *ret_value,
			uint32_t *ret_hash)
{
	const struct fnd_shm_table *d = &w->t->d;
	const uint64_t off = slot & FND_OFF_MASK;
	struct fnd_shm_record r;
	size_t key, value;
	uint64_t hash;

	if (!record_place(d, off) || fnd_observer_read(w->o, off, &r, sizeof(r)))
		return false;
	key = r.lens & 0xff;
	value = r.lens >> 8;
	if (key == 0 || key > d->key_max || value > d->value_max ||
	    sizeof(r) + fnd_value_off((uint32_t)key) + value > d->record_bytes ||
	    fnd_observer_read(w->o, off + sizeof(r), w->record, fnd_value_off((uint32_t)key) + value))
		return false;
	hash = XXH3_64bits_withSeed(w->record, key, w->o->header.hash_seed);
	if (r.hash != (uint32_t)hash || slot >> FND_OFF_BITS != hash >> FND_OFF_BITS ||
	    ((uint32_t)hash & (d->shards - 1)) != w->shard)
		return false;
	*ret_key = key;
	*ret_value = value;
	*ret_hash = r.hash;
	return true;
}

/* Has the table got more memory since its description was read? Then the place may be sound after all. */
static bool regions_grew(struct shard_walk *w)
{
	struct fnd_observed_table t;

	if (fnd_observer_table(w->o, w->t->number, &t) || t.d.checksum != w->t->d.checksum ||
	    t.d.regions <= w->t->d.regions)
		return false;
	*w->t = t;
	return true;
}

/* Is the key in w->record collected from this chain already? It may be: deleted and inserted again. */
static bool collected(const struct shard_walk *w, size_t from, size_t key)
{
	while (from < w->used) {
		uint32_t lens[2];

		memcpy(lens, w->out + from, sizeof(lens));
		if (lens[1] == key && memcmp(w->out + from + sizeof(lens) + padded(lens[0]), w->record, key) == 0)
			return true;
		from += sizeof(lens) + padded(lens[0]) + padded(lens[1]);
	}
	return false;
}

static int collect(struct shard_walk *w, size_t key, size_t value)
{
	const uint32_t lens[2] = { (uint32_t)value, (uint32_t)key };
	const size_t bytes = sizeof(lens) + padded(value) + padded(key);
	char *to;

	if (bytes > w->out_max - w->used)
		return fnd_fail(FND_E_CORRUPT, "table %s, shard %" PRIu32 ": more records than there is room for",
				w->t->d.name, w->shard);
	if (bytes > w->room - w->used) {
		size_t room = w->room * 2 + bytes + 4096;

		to = realloc(w->out, room);
		if (!to)
			return fnd_fail(ENOMEM, "no memory for %zu bytes of records", room);
		w->out = to;
		w->room = room;
	}
	to = w->out + w->used;
	memcpy(to, lens, sizeof(lens));
	memcpy(to + sizeof(lens), w->record + fnd_value_off((uint32_t)key), value);
	memcpy(to + sizeof(lens) + padded(value), w->record, key);
	w->used += bytes;
	return 0;
}

/* What slot @k of bucket @b names. -EAGAIN: the index was replaced. */
static int take_slot(struct shard_walk *w, uint64_t chain, uint64_t b, unsigned int k)
{
	const uint64_t slot_off = (w->word & ~(uint64_t)(FND_LINE - 1)) + sizeof(struct fnd_shm_span) +
				  b * sizeof(struct fnd_shm_bucket) + k * sizeof(uint64_t);
	uint64_t slot = w->bucket[b].slot[k];
	uint64_t epoch = w->epoch; /* before `slot` was read */

	for (int i = 0; slot; i++) {
		struct fnd_observed_hot hot;
		uint64_t index, again;
		size_t key = 0, value = 0;
		uint32_t hash = 0;
		bool sound = read_record(w, slot, &key, &value, &hash);
		int err = fnd_observer_hot(w->o, &hot);

		if (err)
			return err;
		if (hot.safe > epoch) {
			epoch = hot.epoch;
			err = read_word(w, &index);
			if (!err && index != w->word)
				return -EAGAIN;
			if (!err)
				err = fnd_observer_read(w->o, slot_off, &again, sizeof(again));
			if (err)
				return err;
			/* `safe` above every epoch is damage: then the slot's word is all there is to go by */
			if (i < RECORD_TRIES || again != slot) {
				slot = again;
				if (i > SHARD_TRIES * RECORD_TRIES)
					return -EAGAIN;
				continue;
			}
		}
		/* an overflow bucket may have been linked elsewhere while it was read */
		if (sound && ((hash >> __builtin_ctz(w->t->d.shards)) & ((1ULL << w->log2) - 1)) != chain)
			return 0;
		if (sound)
			return collected(w, w->chain_from, key) ? 0 : collect(w, key, value);
		if (regions_grew(w))
			continue;
		if (!w->damaged)
			fnd_fail(FND_E_CORRUPT, "table %s, shard %" PRIu32 ": no sound record at %" PRIu64,
				 w->t->d.name, w->shard, (uint64_t)(slot & FND_OFF_MASK));
		w->damaged = true;
		return 0;
	}
	return 0;
}

/* --- one shard ------------------------------------------------------------------------------------ */

/* The bucket behind @b in its chain. False: there is none. Each overflow bucket is entered once, whatever the
 * links say. */
static bool next_bucket(struct shard_walk *w, uint64_t *b)
{
	uint64_t link = w->bucket[*b].link;

	if (link == 0)
		return false;
	if (link > w->overflow || w->seen[link - 1]) {
		if (!w->damaged)
			fnd_fail(FND_E_CORRUPT, "table %s, shard %" PRIu32 ": link %" PRIu64, w->t->d.name, w->shard,
				 link);
		w->damaged = true;
		return false;
	}
	w->seen[link - 1] = 1;
	*b = (1ULL << w->log2) + link - 1;
	return true;
}

static int take_chain(struct shard_walk *w, uint64_t chain)
{
	uint64_t b = chain;

	w->chain_from = w->used;
	do {
		for (unsigned int k = 0; k < FND_BUCKET_SLOTS; k++) {
			int err = take_slot(w, chain, b, k);

			if (err)
				return err;
		}
	} while (next_bucket(w, &b));
	return 0;
}

static int changes_too_fast(const struct shard_walk *w)
{
	return fnd_fail(EAGAIN, "table %s, shard %" PRIu32 " changes too fast to be read", w->t->d.name, w->shard);
}

static int collect_shard(struct shard_walk *w)
{
	int err = -EAGAIN;

	for (int i = 0; i < SHARD_TRIES && err == -EAGAIN; i++) {
		w->used = 0;
		err = copy_index(w);
		for (uint64_t b = 0; !err && b < 1ULL << w->log2; b++)
			err = take_chain(w, b);
	}
	return err == -EAGAIN ? changes_too_fast(w) : err;
}

static int hand_out(const struct shard_walk *w, int (*fn)(const struct fnd_record *r, void *arg), void *arg)
{
	for (size_t at = 0; at < w->used;) {
		struct fnd_record r;
		uint32_t lens[2];
		int err;

		memcpy(lens, w->out + at, sizeof(lens));
		r.value_bytes = lens[0];
		r.key_bytes = lens[1];
		r.value = w->out + at + sizeof(lens);
		r.key = (const char *)r.value + padded(lens[0]);
		err = fn(&r, arg);
		if (err)
			return err;
		at += sizeof(lens) + padded(lens[0]) + padded(lens[1]);
	}
	return 0;
}

static int find_table(const struct fnd_observer *o, const char *name, struct fnd_observed_table *ret_table)
{
	int result = -ENOENT;

	for (uint32_t i = 0; i < FND_TABLES; i++) {
		int err = fnd_observer_table(o, i, ret_table);

		if (!err && strcmp(ret_table->d.name, name) == 0)
			return 0;
		if (err && err != -ENOENT)
			result = err; /* it may be the one */
	}
	return result == -ENOENT ? fnd_fail(ENOENT, "there is no table '%.31s'", name) : result;
}

int fnd_observer_records(struct fnd_observer *o, const char *table,
			 int (*fn)(const struct fnd_record *r, void *arg), void *arg)
{
	struct fnd_observed_table t;
	struct shard_walk w = { .o = o, .t = &t };
	uint64_t backed = 0;
	bool damaged = false;
	int err;

	if (!o || !table || !fn)
		return -EINVAL;
	err = find_table(o, table, &t);
	if (!err)
		err = fnd_observer_backed(o, &backed);
	if (err)
		return err;
	w.out_max = backed * 2; /* a place that is reused during the walk may be met twice */
	w.record = malloc(t.d.record_bytes);
	if (!w.record)
		err = fnd_fail(ENOMEM, "no memory for a record of %" PRIu32 " bytes", t.d.record_bytes);
	for (; w.shard < t.d.shards && !err; w.shard++) {
		err = collect_shard(&w);
		if (err == -FND_E_CORRUPT) { /* the other shards may be sound */
			damaged = true;
			err = 0;
			continue;
		}
		if (!err)
			err = hand_out(&w, fn, arg);
	}
	free(w.record);
	free(w.bucket);
	free(w.seen);
	free(w.out);
	return err || !(damaged || w.damaged) ? err : -FND_E_CORRUPT;
}

/* --- how long the chains are ----------------------------------------------------------------------- */

static int measure_shard(struct shard_walk *w, struct fnd_observed_chain *longest)
{
	int err = -EAGAIN;

	for (int i = 0; i < SHARD_TRIES && err == -EAGAIN; i++)
		err = copy_index(w);
	for (uint64_t chain = 0; !err && chain < 1ULL << w->log2; chain++) {
		struct fnd_observed_chain c = { 0 };
		uint64_t b = chain;

		do {
			c.buckets++;
			for (unsigned int k = 0; k < FND_BUCKET_SLOTS; k++)
				c.records += w->bucket[b].slot[k] != 0;
		} while (next_bucket(w, &b));
		if (c.records > longest->records)
			longest->records = c.records;
		if (c.buckets > longest->buckets)
			longest->buckets = c.buckets;
	}
	return err == -EAGAIN ? changes_too_fast(w) : err;
}

int fnd_observer_chain(struct fnd_observer *o, const char *table, struct fnd_observed_chain *ret_longest)
{
	struct fnd_observed_chain longest = { 0 };
	struct fnd_observed_table t;
	struct shard_walk w = { .o = o, .t = &t };
	int err;

	if (!o || !table || !ret_longest)
		return -EINVAL;
	err = find_table(o, table, &t);
	for (; !err && w.shard < t.d.shards; w.shard++)
		err = measure_shard(&w, &longest);
	free(w.bucket);
	free(w.seen);
	if (!err && w.damaged)
		err = -FND_E_CORRUPT;
	if (!err)
		*ret_longest = longest;
	return err;
}
