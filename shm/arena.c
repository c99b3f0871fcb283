// SPDX-License-Identifier: MIT
/*
 * Record memory: regions of extents, free lists, retire batches.
 *
 * A table's records have one size. A region is a span with an owner word an extent and the extents behind
 * them; a shard claims an extent by one compare-and-swap of that word, so which extents are whose needs no
 * list. Within its extents a shard hands out, in this order: its free list, its oldest reusable batch, what
 * is left of its newest extent, a new extent.
 *
 * A record is in exactly one of: the index (live), the open batch or a stamped batch (retired), the free
 * list. Each step between them is one store that commits; a death in between leaves a record in none,
 * which a repair retires, or the same list in two places, which a repair tells by equal heads.
 */
#include <errno.h>

#include "internal.h"

struct region {
	uint32_t *owner; /* [extents]: shard + 1, 0: free */
	uint64_t base;   /* first extent */
	uint32_t extents;
};

uint64_t fnd_region_bytes(uint32_t extents, uint32_t extent_bytes)
{
	uint64_t owners = ((uint64_t)extents * 4 + FND_LINE - 1) & ~(uint64_t)(FND_LINE - 1);

	return sizeof(struct fnd_shm_span) + owners + (uint64_t)extents * extent_bytes;
}

static uint32_t region_count(const struct fnd_table *t)
{
	uint32_t n = fnd_load_acquire(&t->desc->regions); /* [AR-1] pairs with fnd_region_publish */

	return n < FND_REGIONS ? n : FND_REGIONS;
}

static bool region_open(struct fnd_table *t, uint32_t i, struct region *ret)
{
	uint64_t off = fnd_load_relaxed(&t->desc->region_off[i]); /* relaxed, both: [AR-1] came before */
	uint32_t n = fnd_load_relaxed(&t->desc->region_extents[i]);

	if (n == 0 || n > FND_MAX_BYTES_LIMIT / t->extent_bytes ||
	    !fnd_at(t->seg, off, fnd_region_bytes(n, t->extent_bytes)))
		return false;
	ret->owner = (uint32_t *)(t->seg->base + off + sizeof(struct fnd_shm_span));
	ret->base = off + fnd_region_bytes(n, 0);
	ret->extents = n;
	return true;
}

uint32_t fnd_extents(struct fnd_table *t)
{
	uint32_t n = 0;
	struct region r;

	for (uint32_t i = 0; i < region_count(t) && region_open(t, i, &r); i++)
		n += r.extents;
	return n;
}

uint64_t fnd_extent_off(struct fnd_table *t, uint32_t extent, uint32_t **ret_owner)
{
	struct region r;

	for (uint32_t i = 0; i < region_count(t) && region_open(t, i, &r); i++) {
		if (extent < r.extents) {
			*ret_owner = &r.owner[extent];
			return r.base + (uint64_t)extent * t->extent_bytes;
		}
		extent -= r.extents;
	}
	return 0;
}

int64_t fnd_record_number(struct fnd_table *t, uint64_t off)
{
	uint64_t before = 0;
	struct region r;

	for (uint32_t i = 0; i < region_count(t) && region_open(t, i, &r); i++) {
		uint64_t at = off - r.base, extent = at / t->extent_bytes, in = at % t->extent_bytes;

		if (off >= r.base && extent < r.extents && in % t->record_bytes == 0 &&
		    in / t->record_bytes < t->extent_records)
			return (int64_t)((before + extent) * t->extent_records + in / t->record_bytes);
		before += r.extents;
	}
	return -1;
}

void fnd_region_first(struct fnd_table *t)
{
	struct region r;

	t->first_base = UINT64_MAX; /* no offset is there */
	t->first_last = 0;
	if (region_count(t) == 0 || !region_open(t, 0, &r))
		return;
	t->first_base = r.base;
	t->first_last = (uint64_t)r.extents * t->extent_bytes - t->record_bytes;
}

struct fnd_shm_record *fnd_record_far(struct fnd_table *t, uint64_t off)
{
	struct region r;

	for (uint32_t i = 0; i < region_count(t) && region_open(t, i, &r); i++) {
		uint64_t bytes = (uint64_t)r.extents * t->extent_bytes;

		if (off >= r.base && off - r.base <= bytes - t->record_bytes && off % 8 == 0)
			return (struct fnd_shm_record *)(t->seg->base + off);
	}
	return NULL;
}

int fnd_region_publish(struct fnd_segment *seg, struct fnd_shm_table *desc, uint32_t number,
		       uint32_t extents, uint32_t extent_bytes, uint64_t *ret_need)
{
	uint32_t n = fnd_load_relaxed(&desc->regions); /* relaxed: under hdr->lock */
	uint64_t off;
	int err;

	if (n >= FND_REGIONS)
		return fnd_fail(ENOSPC, "the table has grown %u times", n);
	err = fnd_span_alloc(seg, fnd_region_bytes(extents, extent_bytes), FND_SPAN_REGION, number, n, &off,
			     ret_need);
	if (err)
		return err;
	memset(seg->base + off + sizeof(struct fnd_shm_span), 0,
	       fnd_region_bytes(extents, 0) - sizeof(struct fnd_shm_span));
	fnd_store_relaxed(&desc->growths, n);
#ifdef FND_MUTANT_REGION_COUNT_FIRST
	fnd_store_release(&desc->regions, n + 1);
#endif
	fnd_store_relaxed(&desc->region_off[n], off);
	fnd_store_relaxed(&desc->region_extents[n], extents);
	fnd_store_release(&desc->regions, n + 1); /* [AR-1] pairs with region_count */
	return 0;
}

static bool extent_free_somewhere(struct fnd_table *t)
{
	struct region r;

	for (uint32_t i = 0; i < region_count(t) && region_open(t, i, &r); i++)
		for (uint32_t k = 0; k < r.extents; k++)
			if (fnd_load_relaxed(&r.owner[k]) == 0) /* relaxed: a hint */
				return true;
	return false;
}

/* Half as much again, later as much again, or whatever smaller piece there is room for. */
int fnd_region_add(struct fnd_table *t, struct fnd_thread *th)
{
	uint32_t extents = region_count(t) < 3 ? fnd_extents(t) / 2 + 1 : fnd_extents(t);
	int err = -ENOSPC;

	for (; extents; extents /= 2) {
		uint64_t need = 0;

		err = fnd_space_lock(t->seg, th);
		if (err)
			return err;
		if (extent_free_somewhere(t)) /* somebody else was quicker */
			err = 0;
		else
			err = fnd_region_publish(t->seg, t->desc, t->number, extents, t->extent_bytes, &need);
		fnd_unlock(th, &t->seg->hdr->lock);
		if (err == -EAGAIN) {
			err = fnd_space_back(t->seg, need);
			if (err == 0) {
				extents *= 2; /* the same size once more, now that it is backed */
				continue;
			}
		}
		if (err != -ENOSPC)
			return err;
	}
	return err;
}

/* --- handing out ---------------------------------------------------------------------------------- */

static bool extent_claim(struct fnd_table *t, uint32_t shard)
{
	struct fnd_shm_shard *sh = &t->shard[shard];
	uint32_t before = 0;
	struct region r;

	for (uint32_t i = 0; i < region_count(t) && region_open(t, i, &r); i++) {
		for (uint32_t k = 0; k < r.extents; k++) {
#ifdef FND_MUTANT_BUMP_BEFORE_CLAIM
			if (fnd_load_relaxed(&r.owner[k]) == 0)
				fnd_store_relaxed(&sh->bump, (uint64_t)(before + k + 1) << 32);
#endif
			/* [AR-2] one shard wins; dying here leaves its records in no list: retired by a repair */
			if (fnd_load_relaxed(&r.owner[k]) != 0 || !fnd_cas(&r.owner[k], 0, shard + 1))
				continue;
			fnd_store_relaxed(&sh->bump, (uint64_t)(before + k + 1) << 32); /* under the lock */
			fnd_store_relaxed(&sh->extents, sh->extents + 1);
			return true;
		}
		before += r.extents;
	}
	return false;
}

static bool bump_take(struct fnd_table *t, struct fnd_shm_shard *sh, uint64_t *ret_off)
{
	uint64_t bump = fnd_load_relaxed(&sh->bump); /* relaxed: under the shard's lock */
	uint32_t used = (uint32_t)bump;
	uint32_t *owner;
	uint64_t off;

	if (bump >> 32 == 0 || used >= t->extent_records)
		return false;
	off = fnd_extent_off(t, (uint32_t)(bump >> 32) - 1, &owner);
	if (off == 0)
		return false;
	fnd_store_relaxed(&sh->bump, bump + 1);
	*ret_off = off + (uint64_t)used * t->record_bytes;
	return true;
}

/* The oldest batch no reader can be in becomes the free list. */
static bool batch_take(struct fnd_table *t, struct fnd_shm_shard *sh)
{
	struct fnd_shm_batch *oldest = NULL;

	for (unsigned int i = 0; i < FND_BATCHES; i++) {
		struct fnd_shm_batch *b = &sh->batch[i];

		if (b->head && (!oldest || b->stamp < oldest->stamp))
			oldest = b;
	}
	if (!oldest)
		return false;
#ifdef FND_MUTANT_NO_GRACE_PERIOD
	(void)t;
#else
	/* [GP-5] pairs with advance: the readers that could have reached it have ended */
	if (oldest->stamp == 0 || oldest->stamp >= fnd_load_acquire(&t->seg->hdr->safe))
		return false;
#endif
	fnd_store_relaxed(&sh->free_head, oldest->head); /* commits; equal heads tell a repair */
	fnd_store_relaxed(&sh->free_count, sh->free_count + oldest->count);
	fnd_store_relaxed(&sh->retired, sh->retired - oldest->count);
	fnd_compiler_barrier(); /* the order of stores is the order of crash states */
	fnd_store_relaxed(&oldest->head, 0);
	return true;
}

void fnd_shard_collect(struct fnd_table *t, struct fnd_shm_shard *sh)
{
	uint64_t safe = fnd_load_acquire(&t->seg->hdr->safe); /* [GP-5] */

	for (unsigned int i = 0; i < FND_BATCHES; i++) {
		struct fnd_shm_batch *b = &sh->batch[i];
		struct fnd_shm_record *last = NULL;
		uint64_t off = b->head;

		if (!off || b->stamp == 0 || b->stamp >= safe)
			continue;
		for (uint64_t n = 0; off && n < b->count; n++) {
			struct fnd_shm_record *r = fnd_record_at(t, off);

			if (!r)
				break;
			last = r;
			off = (uint64_t)fnd_load_relaxed(&r->next) << 3;
		}
		if (!last || off) /* damaged, or its count is: left to a repair */
			continue;
		fnd_store_relaxed(&last->next, (uint32_t)(sh->free_head >> 3));
		fnd_compiler_barrier(); /* until the next store the free list hangs on both: told by a mark */
		fnd_store_relaxed(&sh->free_head, b->head);
		fnd_store_relaxed(&sh->free_count, sh->free_count + b->count);
		fnd_store_relaxed(&sh->retired, sh->retired - b->count);
		fnd_compiler_barrier(); /* equal heads tell a repair */
		fnd_store_relaxed(&b->head, 0);
	}
}

/* How much may lie retired before an empty free list asks for a grace period rather than for memory. */
static uint64_t patience(const struct fnd_table *t, const struct fnd_shm_shard *sh)
{
	uint64_t few = (128u << 10) / t->record_bytes;

	few = few < 4 ? 4 : few > 64 ? 64 : few;
	return sh->live / 4 > few ? sh->live / 4 : few;
}

/* A fixed table has what its capacity needs and no more: a shard whose garbage waits for a reader must not
 * take the extents that others need for their records. */
static bool over_quota(struct fnd_table *t, const struct fnd_shm_shard *sh)
{
	return t->flags & FND_TABLE_FIXED && sh->retired > patience(t, sh) &&
	       sh->extents >= fnd_load_relaxed(&t->desc->region_extents[0]) / t->shards; /* never changes */
}

int fnd_record_alloc(struct fnd_table *t, uint32_t shard, bool last, uint64_t *ret_off)
{
	struct fnd_shm_shard *sh = &t->shard[shard];

	for (;;) {
		uint64_t head = fnd_load_relaxed(&sh->free_head); /* relaxed, all: under the lock */
		struct fnd_shm_record *r;

		if (head) {
			r = fnd_record_at(t, head);
			if (!r)
				return fnd_fail(FND_E_CORRUPT, "table %s, shard %u: free list at %llu",
						t->name, shard, (unsigned long long)head);
			fnd_store_relaxed(&sh->free_head, (uint64_t)fnd_load_relaxed(&r->next) << 3);
			fnd_store_relaxed(&sh->free_count, sh->free_count - 1);
			fnd_compiler_barrier(); /* off the list before its bytes, and its link, change */
			*ret_off = head;
			return 0;
		}
		if (batch_take(t, sh))
			continue;
		if (!last && sh->retired > patience(t, sh))
			return -EAGAIN;
		if (sh->retired >= t->shard_garbage_max)
			return last ? -FND_E_GARBAGE : -EAGAIN;
		if (bump_take(t, sh, ret_off))
			return 0;
		if (over_quota(t, sh))
			return last ? -FND_E_GARBAGE : -EAGAIN;
		if (extent_claim(t, shard))
			continue;
		return !last && sh->retired ? -EAGAIN : -ENOSPC;
	}
}

/* A record that was handed out and never published. */
void fnd_record_unalloc(struct fnd_table *t, struct fnd_shm_shard *sh, uint64_t off)
{
	struct fnd_shm_record *r = fnd_record_at(t, off);

	fnd_store_relaxed(&r->next, (uint32_t)(fnd_load_relaxed(&sh->free_head) >> 3));
	fnd_compiler_barrier(); /* linked before it is the head, for a survivor */
	fnd_store_relaxed(&sh->free_head, off);
	fnd_store_relaxed(&sh->free_count, sh->free_count + 1);
}

/* --- retiring ------------------------------------------------------------------------------------- */

void fnd_record_retire(struct fnd_table *t, struct fnd_shm_shard *sh, uint64_t off)
{
	struct fnd_shm_record *r = fnd_record_at(t, off);

	if (!r)
		return;
	fnd_store_relaxed(&r->next, (uint32_t)(fnd_load_relaxed(&sh->open_head) >> 3));
	fnd_compiler_barrier(); /* linked before it is the head, for a survivor */
	fnd_store_relaxed(&sh->open_head, off);
	fnd_store_relaxed(&sh->open_count, sh->open_count + 1);
	fnd_store_relaxed(&sh->retired, sh->retired + 1);
}

/*
 * The open batch holds what earlier critical sections retired, and nothing of this one: their unlinks are
 * visible since this section has the lock, so the epoch read now is a stamp for all of them.
 */
void fnd_shard_stamp(struct fnd_table *t, uint32_t shard, bool all)
{
	struct fnd_shm_shard *sh = &t->shard[shard];

	if (fnd_unlikely(sh->old_index))
		fnd_index_reclaim(t, shard);
	if (fnd_likely(!sh->open_head || (!all && sh->open_count < 64)))
		return;
	for (unsigned int i = 0; i < FND_BATCHES; i++) {
		struct fnd_shm_batch *b = &sh->batch[i];

		if (b->head)
			continue;
#ifdef FND_MUTANT_HEAD_BEFORE_STAMP
		fnd_store_relaxed(&b->head, sh->open_head);
#endif
		/* [GP-6] pairs with fnd_unlock of the sections that unlinked them */
		fnd_store_relaxed(&b->stamp, fnd_load_acquire(&t->seg->hdr->epoch));
		fnd_store_relaxed(&b->count, sh->open_count);
		fnd_compiler_barrier(); /* stamp before head: a batch that is there has its stamp */
		fnd_store_relaxed(&b->head, sh->open_head);
		fnd_compiler_barrier(); /* equal heads tell a repair */
		fnd_store_relaxed(&sh->open_head, 0);
		fnd_store_relaxed(&sh->open_count, 0);
		return;
	}
	/* All eight wait for readers: the open batch goes on growing, and is stamped later. */
}
