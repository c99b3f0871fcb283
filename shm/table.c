// SPDX-License-Identifier: MIT
/*
 * The directory of tables: making, opening, describing.
 *
 * A table is made under hdr->lock in a directory entry that says MAKING, and exists from the one store
 * that makes it READY. Whoever steals the lock from a dead maker frees what the entry had taken.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "internal.h"

struct plan {
	struct fnd_shm_table desc;
	uint32_t extents;
	uint32_t log2, overflow; /* of each shard's index */
	uint64_t bytes;          /* all spans together, at most */
};

static uint64_t round_line(uint64_t n)
{
	return (n + FND_LINE - 1) & ~(uint64_t)(FND_LINE - 1);
}

static uint64_t root_bytes(uint32_t shards)
{
	return sizeof(struct fnd_shm_span) + round_line(8ULL * shards) +
	       (uint64_t)shards * sizeof(struct fnd_shm_shard);
}

uint64_t fnd_table_checksum(const struct fnd_shm_table *d)
{
	const char *from = (const char *)&d->flags;

	return XXH3_64bits(from, (size_t)((const char *)&d->checksum - from));
}

uint64_t fnd_table_hash(const struct fnd_table *t, const void *key, size_t key_bytes)
{
	return XXH3_64bits_withSeed(key, key_bytes, t->seg->hash_seed);
}

static uint64_t isqrt(uint64_t n)
{
	uint64_t r = 0;

	while ((r + 1) * (r + 1) <= n)
		r++;
	return r;
}

/*
 * How much memory makes "capacity N holds N" true. A shard gets its share, six standard deviations of what
 * hashing may give it above, what may lie retired before it asks for a grace period, and the rest of an
 * extent it has begun.
 */
static void plan_records(struct plan *p, uint64_t capacity)
{
	struct fnd_shm_table *d = &p->desc;
	uint64_t share, most, patience, extent, few = (128u << 10) / d->record_bytes;
	uint64_t spacing;

	for (d->shards = 1; d->shards < FND_SHARDS_MAX && capacity / d->shards >= 128;)
		d->shards *= 2;
	share = (capacity + d->shards - 1) / d->shards;
	most = share + (d->shards > 1 ? 6 * isqrt(share) + 8 : 0);
	few = few < 4 ? 4 : few > 64 ? 64 : few;
	patience = share / 4 > few ? share / 4 : few;
	extent = most / 8 > 8 ? most / 8 : 8;
	while (extent > 1 && extent * d->record_bytes > 256u << 10)
		extent /= 2;
	spacing = round_line(extent * d->record_bytes);
	if (spacing / FND_LINE % 2 == 0)
		spacing += FND_LINE; /* odd: extents differ in the cache sets of their first records */
	d->extent_records = (uint32_t)extent;
	d->extent_bytes = (uint32_t)spacing;
	p->extents = (uint32_t)(d->shards * ((most + patience + extent - 1) / extent + 1));
	fnd_index_sizes(most, &p->log2, &p->overflow);
	d->shard_garbage_max = capacity / 4;
	if (d->shard_garbage_max < (8u << 20) / d->record_bytes)
		d->shard_garbage_max = (8u << 20) / d->record_bytes;
	d->shard_garbage_max = d->shard_garbage_max / d->shards + 64;
	p->bytes = root_bytes(d->shards) + FND_LINE + fnd_region_bytes(p->extents, d->extent_bytes) +
		   FND_LINE + d->shards * (fnd_index_bytes(p->log2, p->overflow) + FND_LINE);
}

static int plan_make(const struct fnd_segment *seg, const char *name, const struct fnd_table_options *o,
		     struct plan *p)
{
	uint64_t capacity = o->capacity ? o->capacity : seg->default_capacity;

	memset(p, 0, sizeof(*p));
	if (o->size != sizeof(*o) || o->flags & ~(FND_TABLE_FIXED | FND_TABLE_OWNED))
		return fnd_fail(EINVAL, "table options of another version");
	if (o->key_max < 1 || o->key_max > FND_KEY_MAX || o->value_max > FND_VALUE_MAX)
		return fnd_fail(EINVAL, "key_max %u (1 to %d) or value_max %u (0 to %d)", o->key_max,
				FND_KEY_MAX, o->value_max, FND_VALUE_MAX);
	if (capacity > FND_MAX_BYTES_LIMIT / 32)
		return fnd_fail(ENOSPC, "a capacity of %llu records is more than a segment can hold",
				(unsigned long long)capacity);
	snprintf(p->desc.name, sizeof(p->desc.name), "%s", name);
	p->desc.flags = o->flags;
	p->desc.key_max = o->key_max;
	p->desc.value_max = o->value_max;
	p->desc.capacity = capacity;
	p->desc.record_bytes =
		(uint32_t)(sizeof(struct fnd_shm_record) + fnd_value_off(o->key_max)) +
		((o->value_max + 7) & ~7u);
	/* whole lines, so that a record touches as few as it can, where that costs at most a quarter */
	if (round_line(p->desc.record_bytes) - p->desc.record_bytes <= p->desc.record_bytes / 4)
		p->desc.record_bytes = (uint32_t)round_line(p->desc.record_bytes);
	plan_records(p, capacity);
	if (p->bytes > seg->max_bytes)
		return fnd_fail(ENOSPC,
				"table %s needs %llu bytes, the segment may have %llu: raise its max_bytes", name,
				(unsigned long long)p->bytes, (unsigned long long)seg->max_bytes);
	return 0;
}

int fnd_table_plan(const struct fnd_segment *seg, const char *name, const struct fnd_table_options *opt,
		   struct fnd_shm_table *ret_desc, uint32_t *ret_extents)
{
	struct plan p;
	int err = plan_make(seg, name, opt, &p);

	if (err)
		return err;
	*ret_desc = p.desc;
	*ret_extents = p.extents;
	return 0;
}

static bool name_valid(const char *name)
{
	size_t n = name ? strlen(name) : 0;

	return n >= 1 && n <= FND_TABLE_NAME_MAX &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n;
}

/* --- opening -------------------------------------------------------------------------------------- */

/* A handle on directory entry @number, from checked copies. -ENOENT: no table there. */
int fnd_table_bind(struct fnd_segment *seg, uint32_t number, struct fnd_table *ret)
{
	struct fnd_shm_table *d = &seg->table[number], c;

	if (fnd_load_acquire(&d->state) != FND_TABLE_READY) /* [TD-1] pairs with table_make */
		return -ENOENT;
	memcpy(&c, d, sizeof(c));
	if (fnd_table_checksum(&c) != c.checksum || c.shards == 0 || c.shards > FND_SHARDS_MAX ||
	    (c.shards & (c.shards - 1)) || c.key_max < 1 || c.key_max > FND_KEY_MAX ||
	    c.value_max > FND_VALUE_MAX || c.record_bytes % 8 || c.extent_records == 0 ||
	    c.record_bytes < sizeof(struct fnd_shm_record) + fnd_value_off(c.key_max) + c.value_max ||
	    c.extent_bytes / c.record_bytes < c.extent_records || c.extent_bytes % FND_LINE ||
	    c.root_off % FND_LINE || !fnd_at(seg, c.root_off, root_bytes(c.shards)))
		return fnd_fail(FND_E_CORRUPT, "table directory, entry %u", number);
	memset(ret, 0, sizeof(*ret));
	ret->seg = seg;
	ret->desc = d;
	ret->index = (uint64_t *)(seg->base + c.root_off + sizeof(struct fnd_shm_span));
	ret->shard = (struct fnd_shm_shard *)((char *)ret->index + round_line(8ULL * c.shards));
	ret->number = number;
	ret->flags = c.flags;
	ret->key_max = c.key_max;
	ret->value_max = c.value_max;
	ret->record_bytes = c.record_bytes;
	ret->shards = c.shards;
	ret->base = seg->base;
	ret->hash_seed = seg->hash_seed;
	ret->shard_mask = c.shards - 1;
	ret->shard_bits = (uint32_t)__builtin_ctz(c.shards);
	ret->extent_records = c.extent_records;
	ret->extent_bytes = c.extent_bytes;
	ret->capacity = c.capacity;
	ret->shard_garbage_max = c.shard_garbage_max;
	fnd_region_first(ret);
	memcpy(ret->name, c.name, sizeof(ret->name));
	ret->name[sizeof(ret->name) - 1] = '\0';
	return 0;
}

/* 0: bound, -ENOENT, or what the damaged entry of that name says */
static int find(struct fnd_segment *seg, const char *name, struct fnd_table *ret)
{
	for (uint32_t i = 0; i < FND_TABLES; i++) {
		struct fnd_shm_table *d = &seg->table[i];
		char n[sizeof(d->name)];

		if (fnd_load_acquire(&d->state) != FND_TABLE_READY) /* [TD-1] */
			continue;
		memcpy(n, d->name, sizeof(n));
		n[sizeof(n) - 1] = '\0';
		if (strcmp(n, name) == 0)
			return fnd_table_bind(seg, i, ret);
	}
	return -ENOENT;
}

static int same_limits(const struct fnd_table *t, const struct fnd_table_options *o)
{
	const char *what = !o || o->key_max == t->key_max ? NULL : "key_max";
	uint64_t has = t->key_max, want = o ? o->key_max : 0;

	if (!o)
		return 0;
	if (!what && o->value_max != t->value_max)
		what = "value_max", has = t->value_max, want = o->value_max;
	if (!what && o->capacity && o->capacity != t->capacity)
		what = "capacity", has = t->capacity, want = o->capacity;
	if (!what && o->flags != t->flags)
		what = "flags", has = t->flags, want = o->flags;
	if (!what)
		return 0;
	return fnd_fail(FND_E_LIMITS, "table %s has %s %llu, asked for %llu", t->name, what,
			(unsigned long long)has, (unsigned long long)want);
}

/* --- making: under hdr->lock ---------------------------------------------------------------------- */

/* Frees every span that belongs to directory entry @number. */
static void free_spans(struct fnd_segment *seg, uint32_t number)
{
	uint64_t off = 0;

	while (fnd_span_next(seg, &off) == 0) {
		struct fnd_shm_span *span = fnd_at(seg, off, sizeof(*span));
		uint64_t use = span ? fnd_load_acquire(&span->use) : FND_SPAN_FREE; /* [SP-2] */

		if (use != FND_SPAN_FREE && fnd_span_table(use) == number)
			fnd_store_release(&span->use, FND_SPAN_FREE); /* [SP-2] */
	}
}

static int make_spans(struct fnd_segment *seg, uint32_t number, struct plan *p, uint64_t *ret_need)
{
	struct fnd_shm_table *d = &seg->table[number];
	uint64_t off, *index;
	int err = fnd_span_alloc(seg, root_bytes(d->shards), FND_SPAN_ROOT, number, 0, &off, ret_need);

	if (err)
		return err;
	memset(seg->base + off + sizeof(struct fnd_shm_span), 0,
	       root_bytes(d->shards) - sizeof(struct fnd_shm_span));
	index = (uint64_t *)(seg->base + off + sizeof(struct fnd_shm_span));
	for (uint32_t i = 0; i < d->shards; i++) {
		uint64_t word;

		err = fnd_index_make(seg, number, i, p->log2, p->overflow, &word, ret_need);
		if (err)
			return err;
		fnd_store_release(&index[i], word); /* [IX-1] */
	}
	d->root_off = off;
	return fnd_region_publish(seg, d, number, p->extents, d->extent_bytes, ret_need);
}

static int table_make(struct fnd_segment *seg, struct plan *p, uint32_t *ret_number, uint64_t *ret_need)
{
	struct fnd_shm_table *d = NULL;
	uint32_t i;
	int err;

	for (i = 0; i < FND_TABLES; i++) {
		d = &seg->table[i];
		if (fnd_load_relaxed(&d->state) == FND_TABLE_FREE) /* relaxed: under the lock */
			break;
	}
	if (i == FND_TABLES)
		return fnd_fail(EMFILE, "the segment has %u tables already", FND_TABLES);
	fnd_store_release(&d->state, FND_TABLE_MAKING); /* [TD-2] pairs with fnd_directory_repair */
	p->desc.state = FND_TABLE_MAKING;
	memcpy(d, &p->desc, sizeof(*d));
#ifdef FND_MUTANT_READY_EARLY
	fnd_store_release(&d->state, FND_TABLE_READY);
#endif
	err = make_spans(seg, i, p, ret_need);
	if (err) {
		free_spans(seg, i);
		fnd_store_release(&d->state, FND_TABLE_FREE); /* [TD-2] */
		return err;
	}
	d->checksum = fnd_table_checksum(d);
	fnd_store_release(&d->state, FND_TABLE_READY); /* [TD-1] pairs with fnd_table_bind */
	*ret_number = i;
	return 0;
}

static int open_or_make(struct fnd_segment *seg, struct fnd_thread *th, struct plan *p,
			struct fnd_table *ret)
{
	/* relaxed: an estimate, spans are backed again if it was too low */
	uint64_t need = fnd_load_relaxed(&seg->hdr->brk) + p->bytes;
	uint32_t number = 0;
	int err;

	for (int tries = 0; tries < 16; tries++) {
		err = fnd_space_back(seg, need);
		if (err)
			return err;
		err = fnd_space_lock(seg, th);
		if (err)
			return err;
		err = find(seg, p->desc.name, ret);
		if (err == -ENOENT) {
			err = table_make(seg, p, &number, &need);
			if (!err)
				err = fnd_table_bind(seg, number, ret);
		}
		fnd_unlock(th, &seg->hdr->lock);
		if (err != -EAGAIN)
			return err;
	}
	return fnd_fail(EBUSY, "others took the memory for table %s each time", p->desc.name);
}

int fnd_table_open(struct fnd_segment *seg, const char *name, const struct fnd_table_options *opt,
		   struct fnd_table **ret_table)
{
	struct fnd_thread *th;
	struct fnd_table *t;
	struct plan plan;
	int err = fnd_thread_self(seg, &th);

	if (err)
		return err;
	if (!name_valid(name))
		return fnd_fail(EINVAL, "a table's name is 1 to %d of [a-zA-Z0-9._-]", FND_TABLE_NAME_MAX);
	t = malloc(sizeof(*t));
	if (!t)
		return -ENOMEM;
	err = find(seg, name, t);
	if (err == -ENOENT && opt) {
		err = seg->read_only ? fnd_fenced_error() : plan_make(seg, name, opt, &plan);
		if (!err)
			err = open_or_make(seg, th, &plan, t);
	} else if (err == -ENOENT) {
		err = fnd_fail(ENOENT, "there is no table %s", name);
	}
	if (!err)
		err = same_limits(t, opt);
	if (err) {
		free(t);
		return err;
	}
	*ret_table = t;
	return 0;
}

void fnd_table_close(struct fnd_table *t)
{
	free(t);
}

/* --- after a death under hdr->lock ---------------------------------------------------------------- */

static bool used_as(struct fnd_segment *seg, uint64_t off, uint64_t use)
{
	struct fnd_shm_span *span = off % FND_LINE ? NULL : fnd_at(seg, off, sizeof(*span));

	/* relaxed: set before the span is used. [SP-2] */
	return span && fnd_load_relaxed(&span->magic) == FND_SPAN_MAGIC && fnd_load_acquire(&span->use) == use;
}

/*
 * Is the span at @off what the entry @d, which is READY, refers to, or would if it were not damaged? Then it is
 * kept: fnd_table_mend() finds by it what the entry was.
 */
static bool referred(struct fnd_segment *seg, const struct fnd_shm_table *d, uint64_t off, uint64_t use)
{
	uint32_t n = fnd_span_shard(use), regions = fnd_load_relaxed(&d->regions); /* relaxed: under the lock */

	if (fnd_span_kind(use) == FND_SPAN_ROOT)
		return d->root_off == off || fnd_table_checksum(d) != d->checksum;
	if (fnd_span_kind(use) != FND_SPAN_REGION)
		return true; /* an index is its shard's matter: whoever died in a growth held the shard's lock too */
	if (n >= FND_REGIONS || (regions <= FND_REGIONS ? n >= regions : d->region_off[n] == 0))
		return false; /* never published */
	return d->region_off[n] == off || !used_as(seg, d->region_off[n], use);
}

/* Undoes half-made tables, frees spans nobody will ever link. Idempotent. */
void fnd_directory_repair(struct fnd_segment *seg)
{
	uint64_t off = 0;

	for (uint32_t i = 0; i < FND_TABLES; i++) {
		struct fnd_shm_table *d = &seg->table[i];

		if (fnd_load_acquire(&d->state) != FND_TABLE_MAKING) /* [TD-2] */
			continue;
		free_spans(seg, i);
		fnd_store_release(&d->state, FND_TABLE_FREE); /* [TD-2] */
	}
	while (fnd_span_next(seg, &off) == 0) {
		struct fnd_shm_span *span = fnd_at(seg, off, sizeof(*span));
		uint64_t use = span ? fnd_load_acquire(&span->use) : FND_SPAN_FREE; /* [SP-2] */
		struct fnd_shm_table *d;

		if (use == FND_SPAN_FREE)
			continue;
		d = fnd_span_table(use) < FND_TABLES ? &seg->table[fnd_span_table(use)] : NULL;
		if (!d || d->state != FND_TABLE_READY || !referred(seg, d, off, use))
			fnd_store_release(&span->use, FND_SPAN_FREE); /* [SP-2] */
	}
}

/* --- describing ----------------------------------------------------------------------------------- */

int fnd_table_name(struct fnd_segment *seg, unsigned int index, char ret_name[FND_TABLE_NAME_MAX + 1])
{
	struct fnd_table t;
	int err;

	if (index >= FND_TABLES)
		return -EINVAL;
	err = fnd_table_bind(seg, index, &t);
	if (!err)
		memcpy(ret_name, t.name, sizeof(t.name));
	return err;
}

static uint64_t span_bytes(struct fnd_segment *seg, uint32_t number)
{
	uint64_t off = 0, bytes = 0;

	while (fnd_span_next(seg, &off) == 0) {
		struct fnd_shm_span *span = fnd_at(seg, off, sizeof(*span));
		uint64_t use = span ? fnd_load_acquire(&span->use) : FND_SPAN_FREE; /* [SP-2] */

		if (use != FND_SPAN_FREE && fnd_span_table(use) == number)
			bytes += fnd_load_relaxed(&span->bytes); /* relaxed: never changes */
	}
	return bytes;
}

int fnd_table_stats_read(struct fnd_table *t, struct fnd_table_stats *ret_stats)
{
	struct fnd_table_stats s = { .flags = t->flags,
				     .key_max = t->key_max,
				     .value_max = t->value_max,
				     .shards = t->shards,
				     .record_bytes = t->record_bytes,
				     .capacity = t->capacity };
	uint32_t extents = fnd_extents(t);

	memcpy(s.name, t->name, sizeof(s.name));
	s.reserved = (uint64_t)extents * t->extent_records;
	for (uint32_t i = 0; i < extents; i++) {
		uint32_t *owner;

		if (fnd_extent_off(t, i, &owner) && fnd_load_relaxed(owner))
			s.allocated += t->extent_records;
	}
	for (uint32_t i = 0; i < t->shards; i++) {
		struct fnd_shm_shard *sh = &t->shard[i]; /* relaxed, all: figures, not decisions */
		uint64_t bump = fnd_load_relaxed(&sh->bump);

		s.live += fnd_load_relaxed(&sh->live);
		s.retired += fnd_load_relaxed(&sh->retired);
		s.free_records += fnd_load_relaxed(&sh->free_count);
		s.growths += fnd_load_relaxed(&sh->growths);
		s.full += fnd_load_relaxed(&sh->full);
		if (bump >> 32 && (uint32_t)bump <= t->extent_records)
			s.allocated -= t->extent_records - (uint32_t)bump;
	}
	s.growths += fnd_load_relaxed(&t->desc->growths);
	s.bytes = span_bytes(t->seg, t->number);
	*ret_stats = s;
	return 0;
}
