// SPDX-License-Identifier: MIT
/*
 * A shard's index: one-line buckets of seven tagged slots and a link.
 *
 * Guarantees.
 *  A. A key is in the chain of one bucket only; insert, replace and delete change one slot by one store.
 *  B. Nothing in a live index moves: a reader behind a moved slot would miss a key that was always there.
 *     Only a whole new index, published by one store, places records anew.
 *  C. Every walk is bounded by twice the number of overflow buckets, whatever the links say: a reader may
 *     stand in a bucket that is linked elsewhere meanwhile.
 *
 * Comparing seven tags at once follows the Swiss-table idea (Abseil, F14); the slot keeps its tag in the
 * word that holds the offset, so that tag and record change by the same store.
 */
#include <errno.h>
#include <stdlib.h>

#include "index.h"

uint64_t fnd_index_bytes(uint32_t log2, uint32_t overflow)
{
	return sizeof(struct fnd_shm_span) +
	       ((1ULL << log2) + overflow) * sizeof(struct fnd_shm_bucket);
}

/* Four records a bucket of seven: chains are rare, and misses mostly touch one line. */
void fnd_index_sizes(uint64_t records, uint32_t *ret_log2, uint32_t *ret_overflow)
{
	uint32_t log2 = 0;

	while (log2 < FND_INDEX_LOG2_MAX && (4ULL << log2) < records)
		log2++;
	*ret_log2 = log2;
	*ret_overflow = fnd_index_overflow(log2);
}

static void count_damage(const struct fnd_table *t)
{
	if (fnd_thread_first() && fnd_thread_first()->seg_id == t->seg->id)
		fnd_cell_count(fnd_thread_first(), FND_COUNTER_CORRUPT, 1);
}

int fnd_index_open(struct fnd_table *t, uint32_t shard, uint64_t word, struct fnd_index *ret)
{
	uint64_t off = word & ~63ULL;
	uint32_t log2 = (uint32_t)(word & 63);
	struct fnd_shm_span *span;
	uint32_t overflow;

	if (off == 0 || log2 > FND_INDEX_LOG2_MAX || !(span = fnd_at(t->seg, off, sizeof(*span))))
		goto bad;
	overflow = fnd_load_relaxed(&span->overflow); /* relaxed: [IX-1] came before, never changes */
	/* an index, of this shard: else writers would store into whatever a damaged word names */
	if (span->magic != FND_SPAN_MAGIC || span->buckets_log2 != log2 ||
	    fnd_load_acquire(&span->use) != fnd_span_use(FND_SPAN_INDEX, t->number, shard) || /* [SP-2] */
	    overflow > fnd_index_overflow(log2) || !fnd_at(t->seg, off, fnd_index_bytes(log2, overflow)))
		goto bad;
	ret->off = off;
	ret->span = span;
	ret->log2 = log2;
	ret->overflow = overflow;
	ret->bucket = (struct fnd_shm_bucket *)(span + 1);
	return 0;
bad:
	count_damage(t);
	return fnd_fail(FND_E_CORRUPT, "table %s, shard %u: index word %#llx", t->name, shard,
			(unsigned long long)word);
}

struct fnd_shm_bucket *fnd_bucket_next(const struct fnd_index *ix, const struct fnd_shm_bucket *b)
{
	/* [IX-2] pairs with fnd_index_put: a linked bucket is filled */
	uint64_t link = fnd_load_acquire(&b->link);

	if (link == 0 || link > ix->overflow)
		return NULL;
	return &ix->bucket[(1ULL << ix->log2) + link - 1];
}

struct fnd_shm_record *fnd_index_find(struct fnd_table *t, const struct fnd_index *ix, uint64_t hash,
				      const void *key, size_t key_bytes, uint64_t **ret_slot)
{
	struct fnd_shm_bucket *b = fnd_bucket_of(ix->bucket, ix->log2, t->shard_bits, hash);

	for (uint32_t hops = 0; b && hops <= 2 * ix->overflow; hops++) {
		struct fnd_shm_record *r = fnd_bucket_find(t, b, hash, key, key_bytes, ret_slot);

		/* the file may have grown since this process looked */
		if (fnd_unlikely(r == FND_RECORD_DAMAGED) &&
		    fnd_limit_refresh(t->seg, fnd_load_relaxed(&t->seg->limit) + 1))
			r = fnd_bucket_find(t, b, hash, key, key_bytes, ret_slot);
		if (r)
			return (uintptr_t)r & 7 ? FND_RECORD_DAMAGED : r;
		b = fnd_bucket_next(ix, b);
	}
	return b ? FND_RECORD_DAMAGED : NULL; /* a chain without end */
}

int fnd_record_damaged(const struct fnd_table *t, uint64_t hash)
{
	count_damage(t);
	return fnd_fail(FND_E_CORRUPT, "table %s, shard %u: a slot or link points nowhere", t->name,
			fnd_shard_of(t, hash));
}

static uint64_t slot_word(uint64_t hash, uint64_t off)
{
	return (hash >> 48) << 48 | off;
}

static bool bucket_empty(const struct fnd_shm_bucket *b)
{
	for (unsigned int i = 0; i < FND_BUCKET_SLOTS; i++)
		if (fnd_load_relaxed(&b->slot[i]) != 0) /* relaxed: under the shard's lock */
			return false;
	return true;
}

/*
 * Every overflow bucket has been linked once. One that is linked no more, or ends its chain and is empty, can
 * serve again, at once: a reader that still stands in it finds other keys there, which it compares and passes,
 * and what followed for its own key was nothing. Its number, or 0.
 */
static uint32_t overflow_reclaim(const struct fnd_index *ix, const struct fnd_shm_bucket *last)
{
	uint8_t *linked = calloc(ix->overflow + 1ULL, 1);
	uint32_t found = 0;

	for (uint64_t i = 0; linked && i < 1ULL << ix->log2; i++) {
		struct fnd_shm_bucket *before = &ix->bucket[i];

		for (uint32_t hops = 0; hops < ix->overflow; hops++) {
			uint64_t link = fnd_load_relaxed(&before->link); /* relaxed: under the shard's lock */
			struct fnd_shm_bucket *b;

			if (link == 0 || link > ix->overflow)
				break;
			b = &ix->bucket[(1ULL << ix->log2) + link - 1];
			if (!found && b != last && fnd_load_relaxed(&b->link) == 0 && bucket_empty(b)) {
				found = (uint32_t)link;
				fnd_store_release(&before->link, 0); /* [IX-2] */
				break;
			}
			linked[link] = 1;
			before = b;
		}
	}
	for (uint32_t i = 1; linked && !found && i <= ix->overflow; i++)
		if (!linked[i])
			found = i;
	free(linked);
	return found;
}

int fnd_index_put(const struct fnd_index *ix, uint32_t shard_bits, uint64_t hash, uint64_t off)
{
	struct fnd_shm_bucket *b = fnd_bucket_of(ix->bucket, ix->log2, shard_bits, hash);
	struct fnd_shm_bucket *last = b, *fresh;
	uint32_t used;

	for (uint32_t hops = 0; b && hops <= ix->overflow; hops++) {
		for (unsigned int i = 0; i < FND_BUCKET_SLOTS; i++) {
			if (fnd_load_relaxed(&b->slot[i]) != 0) /* relaxed: under the shard's lock */
				continue;
			/* [TB-1] pairs with fnd_bucket_find: the record is whole before it is reachable */
			fnd_publish(&b->slot[i], slot_word(hash, off));
			return 0;
		}
		last = b;
		b = fnd_bucket_next(ix, b);
	}
	used = fnd_load_relaxed(&ix->span->overflow_used);
	if (b)
		return -ENOSPC;
	if (used < ix->overflow)
		fnd_store_relaxed(&ix->span->overflow_used, ++used); /* a hint, derived again by a repair */
	else
		used = overflow_reclaim(ix, last);
	if (used == 0)
		return -ENOSPC;
	fresh = &ix->bucket[(1ULL << ix->log2) + used - 1];
	for (unsigned int i = 1; i < FND_BUCKET_SLOTS; i++)
		fnd_store_relaxed(&fresh->slot[i], 0); /* relaxed: not linked yet */
	fnd_store_relaxed(&fresh->link, 0);
	fnd_publish(&fresh->slot[0], slot_word(hash, off)); /* [TB-1] */
	fnd_store_release(&last->link, used); /* [IX-2] this store is the insert */
	return 0;
}

/* Allocates and clears an index span; under hdr->lock. Nobody refers to it yet. */
int fnd_index_make(struct fnd_segment *seg, uint32_t table, uint32_t shard, uint32_t log2,
		   uint32_t overflow, uint64_t *ret_word, uint64_t *ret_need)
{
	struct fnd_shm_span *span;
	uint64_t off;
	int err = fnd_span_alloc(seg, fnd_index_bytes(log2, overflow), FND_SPAN_INDEX, table, shard, &off,
				 ret_need);

	if (err)
		return err;
	span = fnd_at(seg, off, fnd_index_bytes(log2, overflow));
	memset(span + 1, 0, fnd_index_bytes(log2, overflow) - sizeof(*span));
	fnd_store_relaxed(&span->buckets_log2, log2); /* relaxed: [IX-1] publishes the whole span */
	fnd_store_relaxed(&span->overflow, overflow);
	*ret_word = off | log2;
	return 0;
}

/*
 * Copies every slot of @from into the unpublished @to. Where a slot goes is told by a bit of its record's hash,
 * which is not in the slot's word: so each record's line is asked for AHEAD slots before it is read.
 */
#define AHEAD 32

struct refill {
	struct fnd_table *t;
	const struct fnd_index *to;
	uint64_t word[AHEAD];
	unsigned int first, n;
};

static int refill_first(struct refill *f)
{
	uint64_t w = f->word[f->first];
	const struct fnd_shm_record *r = fnd_record_at(f->t, w & FND_OFF_MASK);

	f->first = (f->first + 1) % AHEAD;
	f->n--;
	if (!r)
		return fnd_fail(FND_E_CORRUPT, "table %s: slot word %#llx", f->t->name, (unsigned long long)w);
	return fnd_index_put(f->to, f->t->shard_bits, (w >> 48) << 48 | r->hash, w & FND_OFF_MASK);
}

static int refill_bucket(struct refill *f, const struct fnd_shm_bucket *b)
{
	int err = 0;

	for (unsigned int k = 0; k < FND_BUCKET_SLOTS && !err; k++) {
		uint64_t w = fnd_load_relaxed(&b->slot[k]); /* relaxed: under the shard's lock */

		if (w == 0)
			continue;
		if (f->n == AHEAD)
			err = refill_first(f);
		__builtin_prefetch(f->t->base + (w & FND_OFF_MASK));
		f->word[(f->first + f->n++) % AHEAD] = w;
	}
	return err;
}

static int refill(struct fnd_table *t, const struct fnd_index *from, const struct fnd_index *to)
{
	struct refill f = { .t = t, .to = to };
	int err = 0;

	for (uint64_t i = 0; i < 1ULL << from->log2 && !err; i++) {
		const struct fnd_shm_bucket *b = &from->bucket[i];

		for (uint32_t hops = 0; b && hops <= from->overflow && !err; hops++) {
			err = refill_bucket(&f, b);
			b = fnd_bucket_next(from, b);
		}
	}
	while (f.n && !err)
		err = refill_first(&f);
	return err;
}

int fnd_index_grow(struct fnd_table *t, struct fnd_thread *th, uint32_t shard, uint64_t *ret_need)
{
	uint64_t word = fnd_load_relaxed(&t->index[shard]), fresh; /* relaxed: under the shard's lock */
	struct fnd_index from, to;
	uint32_t log2;
	int err = fnd_index_open(t, shard, word, &from);

	if (err)
		return err;
	log2 = from.log2 + 1;
	if (log2 > FND_INDEX_LOG2_MAX)
		return -ENOSPC;
	err = fnd_space_lock(t->seg, th);
	if (err)
		return err;
	err = fnd_index_make(t->seg, t->number, shard, log2, fnd_index_overflow(log2), &fresh,
			     ret_need);
	fnd_unlock(th, &t->seg->hdr->lock);
	if (err)
		return err;
	err = fnd_index_open(t, shard, fresh, &to);
	if (err)
		return err;
	err = refill(t, &from, &to);
	if (err) {
		fnd_store_release(&to.span->use, FND_SPAN_FREE); /* [SP-2] never published */
		return err;
	}
#ifdef FND_MUTANT_INDEX_RETIRED_FIRST
	fnd_index_retire(t, shard, from.off);
	fnd_store_release(&t->index[shard], fresh);
#else
	fnd_store_release(&t->index[shard], fresh); /* [IX-1] pairs with every reader of the index word */
	fnd_index_retire(t, shard, from.off);
#endif
	fnd_store_relaxed(&t->shard[shard].growths, fnd_load_relaxed(&t->shard[shard].growths) + 1);
	return 0;
}

/* The index at @off is out of the root word: wait for its readers. Newest first. */
void fnd_index_retire(struct fnd_table *t, uint32_t shard, uint64_t off)
{
	struct fnd_shm_shard *sh = &t->shard[shard];
	struct fnd_shm_span *span = fnd_at(t->seg, off, sizeof(*span));

	if (!span)
		return;
	fnd_store_relaxed(&span->stamp, 0); /* relaxed, all: under the shard's lock */
	fnd_store_relaxed(&span->next, fnd_load_relaxed(&sh->old_index));
	fnd_store_release(&sh->old_index, off); /* [SP-3] pairs with a repair's walk */
}

/* At the start of a critical section: stamp what earlier sections retired, free what no reader is in. */
void fnd_index_reclaim(struct fnd_table *t, uint32_t shard)
{
	const uint64_t mine = fnd_span_use(FND_SPAN_INDEX, t->number, shard);
	struct fnd_shm_shard *sh = &t->shard[shard];
	uint64_t off, safe;

	for (int steps = 0; steps < 64 && (off = fnd_load_relaxed(&sh->old_index)) != 0; steps++) {
		struct fnd_shm_span *span = fnd_at(t->seg, off, sizeof(*span));

		if (!span || span->magic != FND_SPAN_MAGIC || off == (t->index[shard] & ~63ULL) ||
		    fnd_load_acquire(&span->use) != mine) { /* [SP-2] */
			fnd_store_relaxed(&sh->old_index, 0); /* damaged: the walk of a repair finds it */
			return;
		}
		if (span->stamp == 0) {
			/* [GP-6] pairs with fnd_unlock of the section that unlinked it */
			fnd_store_relaxed(&span->stamp, fnd_load_acquire(&t->seg->hdr->epoch));
			return;
		}
		safe = fnd_load_acquire(&t->seg->hdr->safe); /* [GP-5] */
		if (span->stamp >= safe)
			return;
		/* out of the chain first: dying in between leaves a span a repair finds by walking */
		fnd_store_relaxed(&sh->old_index, fnd_load_relaxed(&span->next));
		fnd_store_release(&span->use, FND_SPAN_FREE); /* [SP-2] */
	}
}
