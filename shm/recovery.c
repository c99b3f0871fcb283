// SPDX-License-Identifier: MIT
/*
 * Repair of a dead writer's shard: mark and sweep, under the stolen lock.
 *
 * What the index reaches is live. What the free list and the retire batches reach stays there, order and
 * stamps kept. Every other place of the shard's extents belongs to nobody: it becomes retired without a
 * stamp, as a reader may still be in it. Counts are derived. 80 to 110 ns a record.
 *
 * It runs again from the start when the repairer dies: each step is one store, or found half done.
 */
#include <errno.h>
#include <stdlib.h>

#include "index.h"

/* What a walk over one shard found. */
struct survey {
	struct fnd_table *t;
	uint32_t shard;
	uint8_t *seen; /* a bit a record place of the whole table */
	uint64_t places;
	uint32_t extents; /* as of the start: the table may grow meanwhile */
	uint64_t extents_owned;
	uint64_t live, retired, free_count, allocated;
	bool mend; /* cut what is damaged, instead of reporting it */
	int err;
};

static void damaged(struct survey *s, const char *what, uint64_t where)
{
	if (!s->err)
		s->err = fnd_fail(FND_E_CORRUPT, "table %s, shard %u: %s at %llu", s->t->name, s->shard,
				  what, (unsigned long long)where);
}

static bool owned(struct survey *s, uint64_t number, uint64_t *ret_off)
{
	uint32_t *owner, extent = (uint32_t)(number / s->t->extent_records);
	uint64_t off = fnd_extent_off(s->t, extent, &owner);

	/* [AR-2] pairs with extent_claim: a claim of this shard was made under its lock */
	if (off == 0 || fnd_load_acquire(owner) != s->shard + 1)
		return false;
	*ret_off = off;
	return true;
}

/* True when @off is a record place of this shard that nothing else reaches. */
static bool mark(struct survey *s, uint64_t off)
{
	int64_t n = fnd_record_number(s->t, off);
	uint64_t extent;

	if (n < 0 || (uint64_t)n >= s->places || !owned(s, (uint64_t)n, &extent) ||
	    s->seen[n / 8] & 1 << n % 8)
		return false;
	s->seen[n / 8] |= (uint8_t)(1 << n % 8);
	return true;
}

/* --- the index ------------------------------------------------------------------------------------ */

static void survey_bucket(struct survey *s, struct fnd_shm_bucket *b)
{
	for (unsigned int i = 0; i < FND_BUCKET_SLOTS; i++) {
		uint64_t w = fnd_load_relaxed(&b->slot[i]); /* relaxed, all: under the shard's lock */

		if (w == 0)
			continue;
		if (mark(s, w & FND_OFF_MASK)) {
			s->live++;
			continue;
		}
		damaged(s, "index slot", w & FND_OFF_MASK);
		if (s->mend)
			fnd_store_relaxed(&b->slot[i], 0);
	}
}

/* A bucket that was filled and never linked names a record that is in no list: empty it. */
static void empty_unlinked(struct survey *s, struct fnd_index *ix, const uint8_t *linked)
{
	uint32_t last = 0;

	for (uint32_t i = 1; i <= ix->overflow; i++) {
		struct fnd_shm_bucket *b = &ix->bucket[(1ULL << ix->log2) + i - 1];

		if (linked[i]) {
			last = i;
			continue;
		}
		for (unsigned int k = 0; s->mend && k < FND_BUCKET_SLOTS; k++)
			fnd_store_relaxed(&b->slot[k], 0); /* relaxed: under the shard's lock */
	}
	if (s->mend)
		fnd_store_relaxed(&ix->span->overflow_used, last);
	else if (fnd_load_relaxed(&ix->span->overflow_used) < last)
		damaged(s, "count of overflow buckets", last);
}

static void survey_chain(struct survey *s, struct fnd_index *ix, uint64_t i, uint8_t *linked)
{
	struct fnd_shm_bucket *b = &ix->bucket[i];

	survey_bucket(s, b);
	for (;;) {
		uint64_t link = fnd_load_relaxed(&b->link);

		if (link == 0)
			return;
		if (link > ix->overflow || linked[link]) {
			damaged(s, "bucket link", i);
			if (s->mend)
				fnd_store_relaxed(&b->link, 0);
			return;
		}
		linked[link] = 1;
		b = &ix->bucket[(1ULL << ix->log2) + link - 1];
		survey_bucket(s, b);
	}
}

static int survey_index(struct survey *s, struct fnd_index *ix)
{
	uint8_t *linked = calloc(ix->overflow + 1ULL, 1);

	if (!linked)
		return -ENOMEM;
	for (uint64_t i = 0; i < 1ULL << ix->log2; i++)
		survey_chain(s, ix, i, linked);
	empty_unlinked(s, ix, linked);
	free(linked);
	return 0;
}

/* --- lists ---------------------------------------------------------------------------------------- */

/* Walks a list and counts it; cut where it runs into something that is taken already. */
static uint64_t survey_list(struct survey *s, uint64_t *head, const char *what)
{
	struct fnd_shm_record *last = NULL;
	uint64_t n = 0, off = fnd_load_relaxed(head);

	while (off) {
		struct fnd_shm_record *r = fnd_record_at(s->t, off);

		if (!r || !mark(s, off)) {
			/* a batch that runs into the free list: fnd_shard_collect was cut short, no damage */
			if (!s->mend || off != fnd_load_relaxed(&s->t->shard[s->shard].free_head))
				damaged(s, what, off);
			if (s->mend && last)
				fnd_store_relaxed(&last->next, 0);
			else if (s->mend)
				fnd_store_relaxed(head, 0);
			break;
		}
		n++;
		last = r;
		off = (uint64_t)fnd_load_relaxed(&r->next) << 3;
	}
	return n;
}

/* A step that was cut short between its two stores shows as two equal heads: finish it. */
static void finish_moves(struct fnd_shm_shard *sh)
{
	for (unsigned int i = 0; i < FND_BATCHES; i++) {
		uint64_t head = sh->batch[i].head;

		if (head && head == sh->open_head)
			fnd_store_relaxed(&sh->open_head, 0); /* fnd_shard_stamp */
		if (head && head == sh->free_head)
			fnd_store_relaxed(&sh->batch[i].head, 0); /* batch_take */
	}
}

static void survey_lists(struct survey *s, struct fnd_shm_shard *sh)
{
	uint64_t n;

	s->free_count = survey_list(s, &sh->free_head, "free list");
	for (unsigned int i = 0; i < FND_BATCHES; i++) {
		n = survey_list(s, &sh->batch[i].head, "retire batch");
		s->retired += n;
		if (s->mend)
			fnd_store_relaxed(&sh->batch[i].count, n);
	}
	n = survey_list(s, &sh->open_head, "open batch");
	s->retired += n;
	if (s->mend)
		fnd_store_relaxed(&sh->open_count, n);
}

/* --- the sweep ------------------------------------------------------------------------------------ */

static void sweep_place(struct survey *s, struct fnd_shm_shard *sh, uint64_t n, uint64_t off)
{
	s->allocated++;
	if (s->seen[n / 8] & 1 << n % 8)
		return;
	if (!s->mend) {
		damaged(s, "record place in no list", off);
		return;
	}
#ifdef FND_MUTANT_SWEEP_FREES
	fnd_record_unalloc(s->t, sh, off);
	s->free_count++;
	return;
#endif
	fnd_record_retire(s->t, sh, off);
	s->retired++;
}

static void sweep(struct survey *s, struct fnd_shm_shard *sh)
{
	uint64_t bump = fnd_load_relaxed(&sh->bump), off;
	uint32_t extents = s->extents, er = s->t->extent_records;

	if (bump >> 32 && (bump >> 32 > extents || !owned(s, ((bump >> 32) - 1) * er, &off))) {
		damaged(s, "newest extent", bump >> 32);
		bump = 0;
		if (s->mend)
			fnd_store_relaxed(&sh->bump, 0);
	}
	for (uint32_t e = 0; e < extents; e++) {
		uint32_t used = bump >> 32 == (uint64_t)e + 1 && (uint32_t)bump < er ? (uint32_t)bump : er;

		if (!owned(s, (uint64_t)e * er, &off))
			continue;
		s->extents_owned++;
		for (uint32_t k = 0; k < used; k++)
			sweep_place(s, sh, (uint64_t)e * er + k, off + (uint64_t)k * s->t->record_bytes);
	}
}

/* --- old indexes ---------------------------------------------------------------------------------- */

bool fnd_index_in_chain(struct fnd_table *t, struct fnd_shm_shard *sh, uint64_t want)
{
	uint64_t off = fnd_load_acquire(&sh->old_index); /* [SP-3] pairs with fnd_index_retire */

	for (int i = 0; off && i < 64; i++) {
		struct fnd_shm_span *span = fnd_at(t->seg, off, sizeof(*span));

		if (!span || span->magic != FND_SPAN_MAGIC)
			return false;
		if (off == want)
			return true;
		off = span->next;
	}
	return false;
}

/* An index of this shard that is neither published nor waiting: a growth that was cut short left it. */
static void sweep_indexes(struct fnd_table *t, uint32_t shard, uint64_t current)
{
	const uint64_t mine = fnd_span_use(FND_SPAN_INDEX, t->number, shard);
	uint64_t off = 0;

	while (fnd_span_next(t->seg, &off) == 0) {
		struct fnd_shm_span *span = fnd_at(t->seg, off, sizeof(*span));

		/* [SP-2] an index of this shard stays one while its lock is held */
		if (!span || fnd_load_acquire(&span->use) != mine || off == current ||
		    fnd_index_in_chain(t, &t->shard[shard], off))
			continue;
		fnd_index_retire(t, shard, off);
	}
}

/* --- entry points --------------------------------------------------------------------------------- */

static int survey_begin(struct survey *s, struct fnd_table *t, uint32_t shard, bool mend,
			struct fnd_index *ret_ix)
{
	int err = fnd_index_open(t, shard, fnd_load_acquire(&t->index[shard]), ret_ix); /* [IX-1] */

	if (err)
		return err;
	memset(s, 0, sizeof(*s));
	s->t = t;
	s->shard = shard;
	s->mend = mend;
	s->extents = fnd_extents(t);
	s->places = (uint64_t)s->extents * t->extent_records;
	s->seen = calloc(s->places / 8 + 1, 1);
	return s->seen ? 0 : -ENOMEM;
}

int fnd_shard_repair(struct fnd_table *t, uint32_t shard)
{
	struct fnd_shm_shard *sh = &t->shard[shard];
	struct fnd_index ix;
	struct survey s;
	int err = survey_begin(&s, t, shard, true, &ix);

	if (err)
		return err;
#ifndef FND_MUTANT_MOVES_UNFINISHED
	finish_moves(sh);
#endif
	err = survey_index(&s, &ix);
	if (err) { /* no memory: the lock is left to the next one */
		free(s.seen);
		return err;
	}
	survey_lists(&s, sh);
	sweep(&s, sh);
#ifndef FND_MUTANT_INDEX_LEAKED
	sweep_indexes(t, shard, ix.off);
#endif
#ifndef FND_MUTANT_COUNT_FORGOTTEN
	fnd_store_relaxed(&sh->live, s.live);
#endif
	fnd_store_relaxed(&sh->retired, s.retired);
	fnd_store_relaxed(&sh->free_count, s.free_count);
	fnd_store_relaxed(&sh->extents, s.extents_owned);
	fnd_store_relaxed(&sh->repairs, sh->repairs + 1);
	free(s.seen);
	return 0; /* damage was cut off and is counted by the caller's next check */
}

int fnd_shard_check(struct fnd_table *t, uint32_t shard)
{
	struct fnd_shm_shard *sh = &t->shard[shard];
	struct fnd_index ix;
	struct survey s;
	int err = survey_begin(&s, t, shard, false, &ix);

	if (err)
		return err;
	err = survey_index(&s, &ix);
	if (err) {
		free(s.seen);
		return err;
	}
	survey_lists(&s, sh);
	sweep(&s, sh);
	if (s.live != sh->live)
		damaged(&s, "count of live records", sh->live);
	if (s.retired != sh->retired)
		damaged(&s, "count of retired records", sh->retired);
	if (s.free_count != sh->free_count)
		damaged(&s, "count of free records", sh->free_count);
	if (s.extents_owned != sh->extents)
		damaged(&s, "count of extents", sh->extents);
	if (s.allocated != s.live + s.retired + s.free_count)
		damaged(&s, "sum of record places", s.allocated);
	free(s.seen);
	return s.err;
}

int fnd_table_check(struct fnd_table *t)
{
	struct fnd_thread *th;
	int first = fnd_thread_self(t->seg, &th);

	if (first)
		return first;
	if (t->seg->read_only)
		return fnd_fenced_error();
	for (uint32_t i = 0; i < t->shards; i++) {
		int err = fnd_shard_lock(t, th, i);

		if (!err) {
			err = fnd_shard_check(t, i);
			fnd_unlock(th, &t->shard[i].lock);
		}
		first = first ? first : err;
	}
	return first;
}

int fnd_table_quiesce(struct fnd_table *t)
{
	struct fnd_thread *th;
	int err = fnd_thread_self(t->seg, &th);

	/* three: with all batches taken the open one is stamped in the second and collected in the third */
	for (int pass = 0; !err && pass < 3; pass++) {
		for (uint32_t i = 0; i < t->shards; i++) {
			int busy = t->seg->read_only ? -EBUSY : fnd_trylock(th, &t->shard[i].lock);

			if (busy)
				continue;
			fnd_shard_collect(t, &t->shard[i]);
			fnd_shard_stamp(t, i, true);
			fnd_unlock(th, &t->shard[i].lock);
		}
		if (pass < 2)
			err = fnd_synchronize(t->seg, 1000);
	}
	return err;
}
