// SPDX-License-Identifier: MIT
/*
 * The verifier: one shard, every record place of it.
 *
 * It is read between two looks at the shard's words: each committed change moves one of them, and a change
 * that is not committed holds the lock. When both looks are equal and the lock is free, what was read is one
 * state, and must be exact. When somebody holds the lock (stopped, or dead and not yet followed), a change may
 * be half done: everything must still lead to where it may, but counts, and places in no list, are not judged.
 */
#include "verify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef XXH_INLINE_ALL
#define XXH_INLINE_ALL
#endif
#include <xxhash.h>

#include "error.h"
#include "internal.h"

#define LOOKS 24
#define CHAIN_MAX 64 /* an index doubles at each growth: no shard has retired more at once */

/* Where a record place was met. */
enum place { PLACE_NOWHERE, PLACE_LIVE, PLACE_FREE, PLACE_BATCH, PLACE_OPEN };
static const char *const place_names[] = { "nowhere", "the index", "the free list", "a batch",
					   "the open batch" };

struct entry {
	uint64_t hash;
	uint64_t off;
	uint32_t key_bytes;
};

struct survey {
	struct fnd_verifier *v;
	struct fnd_verify_table *t;
	uint32_t shard;
	struct fnd_shm_shard sh;
	uint64_t sh_off, word_off;
	uint64_t word;
	bool exact;
	uint32_t *local; /* [extents]: which of this shard's it is, or UINT32_MAX */
	uint32_t mine;
	uint8_t *place; /* [mine * extent_records]: enum place */
	uint64_t index_off;
	uint32_t log2, overflow;
	struct fnd_shm_bucket *bucket;
	uint8_t *linked; /* [overflow] */
	struct entry *chain;
	size_t in_chain, chain_room;
	uint64_t live, retired, free_count;
};

#define SH(s, member) ((s)->sh_off + offsetof(struct fnd_shm_shard, member))

/* --- places --------------------------------------------------------------------------------------- */

/* The mark of the record place at @off, or NULL with what is wrong with it. */
static uint8_t *place_at(struct survey *s, uint64_t off, const char **ret_why)
{
	const struct fnd_shm_table *d = &s->t->t.d;
	uint32_t before = 0;

	*ret_why = "no record can be there";
	for (uint32_t i = 0; i < d->regions; i++) {
		uint64_t at = off - s->t->base[i], extent = at / d->extent_bytes, in = at % d->extent_bytes;

		if (off >= s->t->base[i] && extent < d->region_extents[i]) {
			uint32_t e = before + (uint32_t)extent;

			if (in % d->record_bytes || in / d->record_bytes >= d->extent_records)
				return NULL;
			*ret_why = "that record is another shard's";
			if (s->local[e] == UINT32_MAX)
				return NULL;
			return &s->place[(uint64_t)s->local[e] * d->extent_records + in / d->record_bytes];
		}
		before += d->region_extents[i];
	}
	return NULL;
}

/* Notes that @off is in @as. False: it may not be, the walk of a list ends. */
static bool take(struct survey *s, uint64_t off, enum place as, uint64_t from, const char *what)
{
	const char *why;
	uint8_t *p = place_at(s, off, &why);

	if (!p) {
		fnd_verify_note(s->v, from, FND_REMEDY_RESTORE, "%s leads to %" PRIu64 ": %s", what, off, why);
		return false;
	}
	/* a list on its way from one place to another hangs on both until the last store */
	if (!s->exact && as != PLACE_LIVE && *p != PLACE_NOWHERE && *p != PLACE_LIVE)
		return false;
	if (*p != PLACE_NOWHERE) {
		fnd_verify_note(s->v, from, FND_REMEDY_RESTORE, "%s leads to %" PRIu64 ", which is in %s already",
				what, off, place_names[*p]);
		return false;
	}
	*p = (uint8_t)as;
	return true;
}

static bool load_places(struct survey *s)
{
	const uint32_t n = s->t->extents;

	s->local = malloc((n + 1ULL) * sizeof(*s->local));
	for (uint32_t i = 0; s->local && i < n; i++)
		s->local[i] = s->t->owner[i] == s->shard + 1 ? s->mine++ : UINT32_MAX;
	s->place = calloc((uint64_t)s->mine * s->t->t.d.extent_records + 1, 1);
	if (s->local && s->place)
		return true;
	s->v->err = fnd_fail(ENOMEM, "no memory for the places of a shard");
	return false;
}

/* --- the index ------------------------------------------------------------------------------------ */

static bool load_index(struct survey *s)
{
	struct fnd_shm_span span;
	uint64_t n;

	s->index_off = s->word & ~(uint64_t)(FND_LINE - 1);
	s->log2 = (uint32_t)(s->word & (FND_LINE - 1));
	if (s->log2 > FND_INDEX_LOG2_MAX ||
	    fnd_observer_span(&s->v->o, s->index_off, FND_SPAN_INDEX, s->t->t.number, &span) ||
	    fnd_span_shard(span.use) != s->shard) {
		fnd_verify_note(s->v, s->word_off, FND_REMEDY_RESTORE, "index word 0x%016" PRIx64
				": no index of this shard is there", s->word);
		return false;
	}
	s->overflow = span.overflow;
	n = (1ULL << s->log2) + s->overflow;
	if (span.buckets_log2 != s->log2 || s->overflow != fnd_index_overflow(s->log2) ||
	    span.overflow_used > s->overflow || n > (span.bytes - sizeof(span)) / sizeof(*s->bucket)) {
		fnd_verify_note(s->v, s->index_off + offsetof(struct fnd_shm_span, buckets_log2),
				FND_REMEDY_RESTORE, "index of 2^%" PRIu32 " and %" PRIu32 " buckets, %" PRIu32
				" used, in %" PRIu64 " bytes; its word says 2^%" PRIu32, span.buckets_log2,
				s->overflow, span.overflow_used, span.bytes, s->log2);
		return false;
	}
	if (span.stamp || span.next)
		fnd_verify_note(s->v, s->index_off + offsetof(struct fnd_shm_span, stamp), FND_REMEDY_UNUSED,
				"the index is in use, and has a stamp or a link of a retired one");
	s->bucket = malloc(n * sizeof(*s->bucket));
	s->linked = calloc(s->overflow + 1ULL, 1);
	if (s->bucket && s->linked)
		return fnd_verify_read(s->v, s->index_off + sizeof(span), s->bucket, n * sizeof(*s->bucket));
	s->v->err = fnd_fail(ENOMEM, "no memory for an index of %" PRIu64 " buckets", n);
	return false;
}

static bool chain_add(struct survey *s, uint64_t hash, uint64_t off, uint32_t key_bytes)
{
	if (s->in_chain == s->chain_room) {
		size_t room = s->chain_room ? s->chain_room * 2 : 64;
		struct entry *p = realloc(s->chain, room * sizeof(*p));

		if (!p) {
			s->v->err = fnd_fail(ENOMEM, "no memory for a chain of %zu", room);
			return false;
		}
		s->chain = p;
		s->chain_room = room;
	}
	s->chain[s->in_chain++] = (struct entry){ hash, off, key_bytes };
	return true;
}

/* The record that slot word @w at @from names, in the chain of @bucket. */
static void live_record(struct survey *s, uint64_t w, uint64_t from, uint64_t bucket)
{
	const struct fnd_shm_table *d = &s->t->t.d;
	const uint64_t off = w & FND_OFF_MASK;
	const char *wrong = NULL;
	struct fnd_shm_record r;
	uint32_t key_bytes, value;
	char key[FND_KEY_MAX + 1];
	uint64_t hash, at = off;

	if (!take(s, off, PLACE_LIVE, from, "slot"))
		return;
	s->live++;
	if (!fnd_verify_peek(s->v, off, &r, sizeof(r)))
		return;
	key_bytes = r.lens & 0xff;
	value = r.lens >> 8;
	if (key_bytes == 0 || key_bytes > d->key_max || value > d->value_max) {
		fnd_verify_note(s->v, off + offsetof(struct fnd_shm_record, lens), FND_REMEDY_RESTORE,
				"record with a key of %" PRIu32 " bytes (1 to %" PRIu32 ") and a value of %" PRIu32
				" (at most %" PRIu32 ")", key_bytes, d->key_max, value, d->value_max);
		return;
	}
	if (!fnd_verify_peek(s->v, off + sizeof(r), key, key_bytes))
		return;
	hash = XXH3_64bits_withSeed(key, key_bytes, s->v->o.header.hash_seed);
	if (r.hash != (uint32_t)hash)
		wrong = "the record's hash is not that of its key";
	else if (w >> FND_OFF_BITS != hash >> FND_OFF_BITS)
		wrong = "the slot's tag is not that of the key", at = from;
	else if ((r.hash & (d->shards - 1)) != s->shard)
		wrong = "the key belongs to another shard";
	else if (((r.hash >> __builtin_ctz(d->shards)) & ((1u << s->log2) - 1)) != bucket)
		wrong = "the key belongs to another bucket";
	else if (r.birth > s->v->hot.snapshot_generation)
		wrong = "born in a snapshot generation that has not come yet";
	if (wrong)
		fnd_verify_note(s->v, at, FND_REMEDY_RESTORE, "record at %" PRIu64 ": %s", off, wrong);
	chain_add(s, hash, off, key_bytes);
}

static int by_hash(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	return x->off < y->off ? -1 : x->off > y->off;
}

static void same_keys(struct survey *s)
{
	char a[FND_KEY_MAX + 1], b[FND_KEY_MAX + 1];

	if (s->in_chain < 2)
		return;
	qsort(s->chain, s->in_chain, sizeof(*s->chain), by_hash);
	for (size_t i = 1; i < s->in_chain; i++) {
		const struct entry *x = &s->chain[i - 1], *y = &s->chain[i];

		if (x->hash != y->hash || x->key_bytes != y->key_bytes ||
		    !fnd_verify_peek(s->v, x->off + sizeof(struct fnd_shm_record), a, x->key_bytes) ||
		    !fnd_verify_peek(s->v, y->off + sizeof(struct fnd_shm_record), b, y->key_bytes) ||
		    memcmp(a, b, x->key_bytes) != 0)
			continue;
		fnd_verify_note(s->v, y->off, FND_REMEDY_RESTORE, "the key of this record is that of the one at %"
				PRIu64 " too", x->off);
	}
}

static void survey_chain(struct survey *s, uint64_t bucket, uint64_t *last)
{
	uint64_t b = bucket;

	s->in_chain = 0;
	for (;;) {
		const uint64_t off = s->index_off + sizeof(struct fnd_shm_span) + b * sizeof(*s->bucket);
		uint64_t link = s->bucket[b].link;

		for (unsigned int k = 0; k < FND_BUCKET_SLOTS && !s->v->err; k++)
			if (s->bucket[b].slot[k])
				live_record(s, s->bucket[b].slot[k], off + 8ULL * k, bucket);
		if (link == 0)
			break;
		if (link > s->overflow || s->linked[link - 1]) {
			fnd_verify_note(s->v, off + offsetof(struct fnd_shm_bucket, link), FND_REMEDY_RESTORE,
					"bucket %" PRIu64 " links to overflow bucket %" PRIu64 "%s", b, link,
					link > s->overflow ? ": there is none such" : ", which is in a chain already");
			break;
		}
		s->linked[link - 1] = 1;
		*last = link > *last ? link : *last;
		b = (1ULL << s->log2) + link - 1;
	}
	same_keys(s);
}

static void survey_index(struct survey *s)
{
	const uint64_t used_off = s->index_off + offsetof(struct fnd_shm_span, overflow_used);
	uint64_t last = 0;
	uint32_t used;

	for (uint64_t b = 0; b < 1ULL << s->log2 && !s->v->err; b++)
		survey_chain(s, b, &last);
	/* those above it were never used; one below may be in no chain any more */
	if (s->exact && fnd_verify_read(s->v, used_off, &used, sizeof(used)) && used < last)
		fnd_verify_note(s->v, used_off, FND_REMEDY_RESTORE, "%" PRIu32 " overflow buckets are said to be "
				"used, number %" PRIu64 " is", used, last);
}

/* --- lists ---------------------------------------------------------------------------------------- */

static uint64_t survey_list(struct survey *s, uint64_t head, uint64_t from, enum place as)
{
	uint64_t n = 0;
	uint32_t next;

	for (uint64_t off = head; off && !s->v->err; off = (uint64_t)next << 3) {
		if (!take(s, off, as, from, n ? "link of a list" : "head of a list"))
			break;
		n++;
		from = off + offsetof(struct fnd_shm_record, next);
		if (!fnd_verify_peek(s->v, from, &next, sizeof(next)))
			break;
	}
	return n;
}

static void count(struct survey *s, uint64_t at, const char *what, uint64_t said, uint64_t found)
{
	if (s->exact && said != found)
		fnd_verify_note(s->v, at, FND_REMEDY_FIGURE, "%s is %" PRIu64 ", %" PRIu64 " are there", what, said,
				found);
}

static void survey_lists(struct survey *s)
{
	const struct fnd_shm_shard *sh = &s->sh;
	uint64_t n;

	s->free_count = survey_list(s, sh->free_head, SH(s, free_head), PLACE_FREE);
	for (unsigned int i = 0; i < FND_BATCHES; i++) {
		const struct fnd_shm_batch *b = &sh->batch[i];
		const uint64_t at = SH(s, batch) + i * sizeof(*b);

		if (b->head == 0)
			continue;
		n = survey_list(s, b->head, at, PLACE_BATCH);
		s->retired += n;
		count(s, at + offsetof(struct fnd_shm_batch, count), "the count of a batch", b->count, n);
		if (b->stamp == 0 || fnd_verify_future(s->v, b->stamp))
			fnd_verify_note(s->v, at + offsetof(struct fnd_shm_batch, stamp), FND_REMEDY_RESTORE,
					"a batch with the stamp %" PRIu64 ", the epoch is %" PRIu64, b->stamp,
					s->v->epoch);
	}
	n = survey_list(s, sh->open_head, SH(s, open_head), PLACE_OPEN);
	s->retired += n;
	count(s, SH(s, open_count), "the count of the open batch", sh->open_count, n);
}

/* --- what is in none ------------------------------------------------------------------------------ */

static void sweep_extent(struct survey *s, uint32_t extent, uint64_t base)
{
	const struct fnd_shm_table *d = &s->t->t.d;
	const uint8_t *place = &s->place[(uint64_t)s->local[extent] * d->extent_records];
	uint64_t bump = s->sh.bump;
	uint32_t used = bump >> 32 == extent + 1ULL ? (uint32_t)bump : d->extent_records;

	for (uint32_t k = 0; k < d->extent_records; k++) {
		const uint64_t off = base + (uint64_t)k * d->record_bytes;

		if (k >= used && place[k] != PLACE_NOWHERE)
			fnd_verify_note(s->v, SH(s, bump), FND_REMEDY_RESTORE, "the record at %" PRIu64
					" was not handed out yet, and is in %s", off, place_names[place[k]]);
		else if (k < used && place[k] == PLACE_NOWHERE && s->exact)
			fnd_verify_note(s->v, off, FND_REMEDY_RESTORE, "the record place is in no index, list or "
					"batch");
	}
}

static void sweep(struct survey *s)
{
	const struct fnd_shm_table *d = &s->t->t.d;
	uint64_t extent = (s->sh.bump >> 32) - 1;
	uint32_t before = 0;

	if (s->sh.bump && (s->sh.bump >> 32 == 0 || extent >= s->t->extents ||
			   s->local[extent] == UINT32_MAX || (uint32_t)s->sh.bump > d->extent_records)) {
		fnd_verify_note(s->v, SH(s, bump), FND_REMEDY_RESTORE, "newest extent %" PRIu64 " with %" PRIu32
				" records used: it is not this shard's, or has %" PRIu32, extent,
				(uint32_t)s->sh.bump, d->extent_records);
		return;
	}
	for (uint32_t i = 0; i < d->regions; i++) {
		for (uint32_t k = 0; k < d->region_extents[i]; k++)
			if (s->local[before + k] != UINT32_MAX)
				sweep_extent(s, before + k, s->t->base[i] + (uint64_t)k * d->extent_bytes);
		before += d->region_extents[i];
	}
	count(s, SH(s, live), "the count of live records", s->sh.live, s->live);
	count(s, SH(s, retired), "the count of retired records", s->sh.retired, s->retired);
	count(s, SH(s, free_count), "the count of free records", s->sh.free_count, s->free_count);
	count(s, SH(s, extents), "the count of extents", s->sh.extents, s->mine);
}

/* --- the shard ------------------------------------------------------------------------------------ */

static bool load_words(struct survey *s, struct fnd_shm_shard *ret_sh, uint64_t *ret_word)
{
	return fnd_verify_read(s->v, s->sh_off, ret_sh, sizeof(*ret_sh)) &&
	       fnd_verify_read(s->v, s->word_off, ret_word, sizeof(*ret_word));
}

static void lock_word(struct survey *s)
{
	switch (fnd_verify_lock(s->v, s->sh.lock)) {
	case FND_LOCK_FREE:
		s->exact = true;
		break;
	case FND_LOCK_DAMAGED:
		fnd_verify_note(s->v, SH(s, lock), FND_REMEDY_LOCK, "lock word 0x%08" PRIx32
				": no thread can have written it", s->sh.lock);
		break;
	default:
		break;
	}
}

/* One look. False: the shard changed meanwhile. */
static bool look(struct survey *s)
{
	struct fnd_shm_shard again;
	uint64_t word;

	fnd_verify_forget(s->v);
	if (!load_words(s, &s->sh, &s->word))
		return true;
	lock_word(s);
	fnd_verify_zero(s->v, &s->sh.pad0, sizeof(s->sh.pad0), SH(s, pad0), "unused bytes");
	fnd_verify_zero(s->v, s->sh.pad1, sizeof(s->sh.pad1), SH(s, pad1), "unused bytes");
	if (load_places(s) && load_index(s)) {
		survey_index(s);
		survey_lists(s);
		if (!s->v->err)
			sweep(s);
	}
	if (s->v->err || !load_words(s, &again, &word))
		return true;
	return memcmp(&again, &s->sh, sizeof(again)) == 0 && word == s->word;
}

static void survey_free(struct survey *s)
{
	free(s->local);
	free(s->place);
	free(s->bucket);
	free(s->linked);
	free(s->chain);
}

/* A retired index is not used again while it is in this chain. */
static void old_indexes(struct fnd_verifier *v, const struct fnd_verify_table *t, uint32_t shard,
			uint64_t head, uint64_t from)
{
	const uint64_t use = fnd_span_use(FND_SPAN_INDEX, t->t.number, shard);
	struct fnd_shm_span span;

	for (int i = 0; head; i++) {
		if (i == CHAIN_MAX) {
			fnd_verify_note(v, from, FND_REMEDY_RESTORE, "the chain of retired indexes does not end");
			return;
		}
		if (!fnd_verify_claim(v, head, use, from, "retired index") ||
		    !fnd_verify_read(v, head, &span, sizeof(span)))
			return;
		if (fnd_verify_future(v, span.stamp))
			fnd_verify_note(v, head + offsetof(struct fnd_shm_span, stamp), FND_REMEDY_RESTORE,
					"a retired index with the stamp %" PRIu64 ", the epoch is %" PRIu64,
					span.stamp, v->epoch);
		if (span.buckets_log2 > FND_INDEX_LOG2_MAX ||
		    span.overflow != fnd_index_overflow(span.buckets_log2) || span.overflow_used > span.overflow ||
		    fnd_index_bytes(span.buckets_log2, span.overflow) > span.bytes)
			fnd_verify_note(v, head + offsetof(struct fnd_shm_span, buckets_log2), FND_REMEDY_RESTORE,
					"a retired index of 2^%" PRIu32 " and %" PRIu32 " buckets in %" PRIu64
					" bytes", span.buckets_log2, span.overflow, span.bytes);
		from = head + offsetof(struct fnd_shm_span, next);
		head = span.next;
	}
}

/* Extents are claimed, and regions added, while the walk goes on. */
static void refresh(struct fnd_verifier *v, struct fnd_verify_table *t)
{
	uint32_t before = 0;

	for (uint32_t i = 0; i < t->t.d.regions; i++) {
		fnd_verify_read(v, t->t.d.region_off[i] + sizeof(struct fnd_shm_span), t->owner + before,
				4ULL * t->t.d.region_extents[i]);
		before += t->t.d.region_extents[i];
	}
}

void fnd_verify_shard(struct fnd_verifier *v, struct fnd_verify_table *t, uint32_t shard)
{
	const struct timespec pause = { 0, 300000 };
	struct survey s;
	size_t notes = v->notes;
	bool settled = false;

	fnd_verify_where(v, "table %.31s, shard %" PRIu32, t->t.d.name, shard);
	for (int i = 0; i < LOOKS && !v->err; i++) {
		v->notes = notes;
		memset(&s, 0, sizeof(s));
		s.v = v;
		s.t = t;
		s.shard = shard;
		s.sh_off = t->t.shard_off + shard * sizeof(struct fnd_shm_shard);
		s.word_off = t->t.index_off + 8ULL * shard;
		settled = look(&s);
		survey_free(&s);
		if (settled || v->notes == notes)
			break;
		nanosleep(&pause, NULL);
		refresh(v, t);
	}
	v->result.shards++;
	v->result.records += s.live;
	if (!settled && v->notes != notes) {
		v->notes = notes; /* a moving thing looks odd: nothing is said about it */
		v->result.unsettled++;
		fnd_verify_excuse(v, fnd_span_use(FND_SPAN_INDEX, t->t.number, shard));
		return;
	}
	if (s.word)
		fnd_verify_claim(v, s.word & ~(uint64_t)(FND_LINE - 1),
				 fnd_span_use(FND_SPAN_INDEX, t->t.number, shard), s.word_off, "index");
	old_indexes(v, t, shard, s.sh.old_index, SH(&s, old_index));
}
