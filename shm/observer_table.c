// SPDX-License-Identifier: MIT
/* Observers: the directory of tables, and the figures of each. */
#include "observer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#ifndef XXH_INLINE_ALL
#define XXH_INLINE_ALL
#endif
#include <xxhash.h>

#include "internal.h"

int fnd_observer_span(const struct fnd_observer *o, uint64_t off, uint32_t kind, uint32_t table,
		      struct fnd_shm_span *ret_span)
{
	struct fnd_shm_span span;
	int err;

	if (off < o->header.span_off || off % FND_LINE)
		return fnd_fail(FND_E_CORRUPT, "no span can be at %" PRIu64, off);
	err = fnd_observer_read(o, off, &span, sizeof(span));
	if (err)
		return err;
	if (span.magic != FND_SPAN_MAGIC || span.bytes < sizeof(span) || span.bytes % FND_LINE ||
	    span.bytes > o->header.max_bytes - off)
		return fnd_fail(FND_E_CORRUPT, "span at %" PRIu64 ": magic 0x%" PRIx64 ", %" PRIu64 " bytes",
				off, span.magic, span.bytes);
	/* kind 0: any; a walk over all spans meets every kind and state */
	if (kind && (fnd_span_kind(span.use) != kind || fnd_span_table(span.use) != table))
		return fnd_fail(FND_E_CORRUPT, "span at %" PRIu64 ": kind %u of table %" PRIu32
				", expected kind %" PRIu32 " of table %" PRIu32, off,
				fnd_span_kind(span.use), fnd_span_table(span.use), kind, table);
	*ret_span = span;
	return 0;
}

static bool name_sound(const char name[32])
{
	size_t len = strnlen(name, 32);

	if (len == 0 || len == 32)
		return false;
	for (size_t i = 0; i < len; i++)
		if (name[i] <= ' ' || name[i] > '~')
			return false;
	return true;
}

static int check_limits(const struct fnd_shm_table *d, uint32_t number)
{
	const uint64_t record = sizeof(struct fnd_shm_record);
	const size_t from = offsetof(struct fnd_shm_table, flags);

	if (d->checksum != XXH3_64bits((const char *)d + from,
				       offsetof(struct fnd_shm_table, checksum) - from))
		return fnd_fail(FND_E_CORRUPT, "table %" PRIu32 ": checksum", number);
	if (!name_sound(d->name))
		return fnd_fail(FND_E_CORRUPT, "table %" PRIu32 ": name", number);
	if (d->key_max == 0 || d->key_max > FND_KEY_MAX || d->value_max > FND_VALUE_MAX ||
	    d->record_bytes < record + d->key_max + d->value_max || d->record_bytes % 8)
		return fnd_fail(FND_E_CORRUPT, "table %s: key_max %" PRIu32 ", value_max %" PRIu32
				", record_bytes %" PRIu32, d->name, d->key_max, d->value_max,
				d->record_bytes);
	if (d->shards == 0 || (d->shards & (d->shards - 1)) || d->shards > FND_SHARDS_MAX)
		return fnd_fail(FND_E_CORRUPT, "table %s: shards is %" PRIu32, d->name, d->shards);
	if (d->extent_records == 0 || d->extent_records > d->extent_bytes / d->record_bytes)
		return fnd_fail(FND_E_CORRUPT, "table %s: extent_records %" PRIu32 " of %" PRIu32 " bytes in "
				"extent_bytes %" PRIu32, d->name, d->extent_records, d->record_bytes,
				d->extent_bytes);
	return 0;
}

static uint64_t owners_bytes(uint32_t extents)
{
	return (extents * (uint64_t)sizeof(uint32_t) + FND_LINE - 1) & ~(uint64_t)(FND_LINE - 1);
}

static int check_regions(const struct fnd_observer *o, struct fnd_shm_table *d)
{
	if (d->regions > FND_REGIONS)
		return fnd_fail(FND_E_CORRUPT, "table %s: regions is %" PRIu32, d->name, d->regions);
	for (uint32_t i = 0; i < d->regions; i++) {
		uint64_t off = d->region_off[i];
		uint64_t extents = d->region_extents[i];

		if (off < o->header.span_off || off > o->header.max_bytes || off % FND_LINE ||
		    extents == 0 || extents > (o->header.max_bytes - off) / d->extent_bytes)
			return fnd_fail(FND_E_CORRUPT, "table %s: region %" PRIu32 " at %" PRIu64 " with %"
					PRIu64 " extents", d->name, i, off, extents);
	}
	return 0;
}

int fnd_observer_table(const struct fnd_observer *o, uint32_t number, struct fnd_observed_table *ret_table)
{
	const uint64_t off = o->header.table_off + (uint64_t)number * sizeof(struct fnd_shm_table);
	struct fnd_observed_table t = { .number = number };
	struct fnd_shm_span root;
	uint64_t indexes;
	int err;

	/* Twice: what was not ready at the first look may be half of this and half of that. */
	for (int i = 0; i < 2; i++) {
		err = fnd_observer_read(o, off, &t.d, sizeof(t.d));
		if (err)
			return err;
		if (t.d.state != FND_TABLE_READY)
			return -ENOENT;
	}
	err = check_limits(&t.d, number);
	if (!err)
		err = check_regions(o, &t.d);
	if (!err)
		err = fnd_observer_span(o, t.d.root_off, FND_SPAN_ROOT, number, &root);
	if (err)
		return err;
	indexes = (t.d.shards * 8ULL + FND_LINE - 1) & ~(uint64_t)(FND_LINE - 1);
	if (root.bytes - sizeof(root) < indexes + t.d.shards * (uint64_t)sizeof(struct fnd_shm_shard))
		return fnd_fail(FND_E_CORRUPT, "table %s: root span of %" PRIu64 " bytes for %" PRIu32
				" shards", t.d.name, root.bytes, t.d.shards);
	t.index_off = t.d.root_off + sizeof(root);
	t.shard_off = t.index_off + indexes;
	*ret_table = t;
	return 0;
}

/* --- figures -------------------------------------------------------------------------------------- */

/* Record places: all there are, and those that a shard has claimed. */
static int add_regions(const struct fnd_observer *o, const struct fnd_observed_table *t,
		       struct fnd_table_stats *s)
{
	for (uint32_t i = 0; i < t->d.regions; i++) {
		const uint32_t extents = t->d.region_extents[i];
		const size_t bytes = owners_bytes(extents);
		struct fnd_shm_span span;
		uint32_t *owner;
		int err = fnd_observer_span(o, t->d.region_off[i], FND_SPAN_REGION, t->number, &span);

		if (err)
			return err;
		owner = malloc(bytes);
		if (!owner)
			return fnd_fail(ENOMEM, "no memory for %zu bytes", bytes);
		err = fnd_observer_read(o, t->d.region_off[i] + sizeof(span), owner, bytes);
		for (uint32_t k = 0; k < extents && !err; k++)
			if (owner[k])
				s->allocated += t->d.extent_records;
		free(owner);
		if (err)
			return err;
		s->reserved += (uint64_t)extents * t->d.extent_records;
	}
	return 0;
}

static int add_shards(const struct fnd_observer *o, const struct fnd_observed_table *t,
		      struct fnd_table_stats *s)
{
	struct fnd_shm_shard sh;

	for (uint32_t i = 0; i < t->d.shards; i++) {
		int err = fnd_observer_read(o, t->shard_off + i * sizeof(sh), &sh, sizeof(sh));

		if (err)
			return err;
		s->live += sh.live;
		s->retired += sh.retired;
		s->free_records += sh.free_count;
		/* what is left of its newest extent was not handed out yet */
		if (sh.bump >> 32 && (uint32_t)sh.bump <= t->d.extent_records)
			s->allocated -= t->d.extent_records - (uint32_t)sh.bump;
		s->growths += sh.growths;
		s->full += sh.full;
	}
	return 0;
}

/* Every span in use that names the table, as fnd_table_stats_read() counts. */
static int add_spans(const struct fnd_observer *o, const struct fnd_observed_table *t,
		     struct fnd_table_stats *s)
{
	struct fnd_observed_hot hot;
	struct fnd_shm_span span;
	int err = fnd_observer_hot(o, &hot);

	for (uint64_t off = o->header.span_off; !err && off < hot.brk; off += span.bytes) {
		err = fnd_observer_span(o, off, 0, 0, &span);
		if (err)
			return err;
		if (span.use != FND_SPAN_FREE && fnd_span_table(span.use) == t->number)
			s->bytes += span.bytes;
	}
	return err;
}

static int table_stats(const struct fnd_observer *o, const struct fnd_observed_table *t,
		       struct fnd_table_stats *ret_stats)
{
	struct fnd_table_stats s = { 0 };
	int err;

	memcpy(s.name, t->d.name, sizeof(s.name));
	s.flags = t->d.flags;
	s.key_max = t->d.key_max;
	s.value_max = t->d.value_max;
	s.shards = t->d.shards;
	s.record_bytes = t->d.record_bytes;
	s.capacity = t->d.capacity;
	err = add_spans(o, t, &s);
	if (!err)
		err = add_regions(o, t, &s);
	if (!err)
		err = add_shards(o, t, &s);
	if (!err)
		*ret_stats = s;
	return err;
}

int fnd_observer_tables(struct fnd_observer *o, int (*fn)(const struct fnd_table_stats *t, void *arg),
			void *arg)
{
	struct fnd_observed_table t;
	struct fnd_table_stats s;
	int damaged = 0;

	if (!o || !fn)
		return -EINVAL;
	for (uint32_t i = 0; i < FND_TABLES; i++) {
		int err = fnd_observer_table(o, i, &t);

		if (err == -ENOENT)
			continue;
		if (!err)
			err = table_stats(o, &t, &s);
		if (err == -FND_E_CORRUPT) {
			damaged = err; /* the others may be sound */
			continue;
		}
		if (!err)
			err = fn(&s, arg);
		if (err)
			return err;
	}
	return damaged;
}
