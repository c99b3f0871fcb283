// SPDX-License-Identifier: MIT
/*
 * Empty extents go back to the table's pool.
 *
 * A shard keeps the extents it once needed; a hot key under a slow reader can make it need many. When
 * another shard finds the pool empty, every shard that is not busy looks through its free list for extents
 * of which every record is free, takes those records off the list, and gives the extents up.
 *
 * Each step is one store. A record that is off the list while its extent is not given up yet is in no list:
 * after a death there a repair retires it.
 */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

/* Walks the free list; counts its records by extent. False when it is damaged: then nothing is done. */
static bool count_free(struct fnd_table *t, const struct fnd_shm_shard *sh, uint32_t *count, uint32_t extents)
{
	uint64_t off = fnd_load_relaxed(&sh->free_head), left = (uint64_t)extents * t->extent_records;

	for (; off; left--) {
		int64_t n = fnd_record_number(t, off);

		if (n < 0 || left == 0 || (uint64_t)n / t->extent_records >= extents)
			return false;
		count[(uint64_t)n / t->extent_records]++;
		off = (uint64_t)fnd_load_relaxed(&fnd_record_at(t, off)->next) << 3;
	}
	return true;
}

static bool goes(struct fnd_table *t, const uint32_t *count, uint64_t off)
{
	return count[fnd_record_number(t, off) / t->extent_records] == t->extent_records;
}

/* Takes the records of extents that go off the list, each by the one store that leads past it. */
static uint64_t unlink_records(struct fnd_table *t, struct fnd_shm_shard *sh, const uint32_t *count)
{
	struct fnd_shm_record *kept = NULL;
	uint64_t off = fnd_load_relaxed(&sh->free_head), n = 0;

	while (off) {
		struct fnd_shm_record *r = fnd_record_at(t, off);
		uint32_t next = fnd_load_relaxed(&r->next);

		if (!goes(t, count, off)) {
			kept = r;
		} else {
			if (kept)
				fnd_store_relaxed(&kept->next, next);
			else
				fnd_store_relaxed(&sh->free_head, (uint64_t)next << 3);
			n++;
		}
		off = (uint64_t)next << 3;
	}
	return n;
}

/* Under the shard's lock. */
static unsigned int trim_shard(struct fnd_table *t, uint32_t shard, uint32_t *count, uint32_t extents)
{
	struct fnd_shm_shard *sh = &t->shard[shard];
	uint64_t newest = fnd_load_relaxed(&sh->bump) >> 32, off;
	unsigned int given = 0;
	uint32_t *owner;

	fnd_shard_stamp(t, shard, true);
	fnd_shard_collect(t, sh);
	memset(count, 0, extents * sizeof(*count));
	if (!sh->free_head || !count_free(t, sh, count, extents))
		return 0;
	for (uint32_t e = 0; e < extents; e++) {
		off = fnd_extent_off(t, e, &owner);
		if (off == 0 || fnd_load_relaxed(owner) != shard + 1 || newest == (uint64_t)e + 1)
			count[e] = 0; /* the newest stays: records are still to be handed out of it */
	}
	fnd_store_relaxed(&sh->free_count, sh->free_count - unlink_records(t, sh, count));
	for (uint32_t e = 0; e < extents; e++) {
		if (count[e] != t->extent_records)
			continue;
		fnd_extent_off(t, e, &owner);
		fnd_store_relaxed(&sh->extents, sh->extents - 1);
		fnd_store_release(owner, 0); /* [AR-2] pairs with extent_claim: nothing of it is in a list */
		given++;
	}
	return given;
}

unsigned int fnd_table_trim(struct fnd_table *t, struct fnd_thread *th)
{
	uint32_t extents = fnd_extents(t);
	uint32_t *count = malloc((size_t)extents * sizeof(*count) + 1);
	unsigned int given = 0;

	if (!count)
		return 0;
	for (uint32_t i = 0; i < t->shards; i++) {
		if (fnd_trylock(th, &t->shard[i].lock) != 0)
			continue; /* busy, or its holder is dead: who needs the shard repairs it */
		given += trim_shard(t, i, count, extents);
		fnd_unlock(th, &t->shard[i].lock);
	}
	free(count);
	return given;
}
