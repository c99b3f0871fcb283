/* SPDX-License-Identifier: MIT */
/*
 * A segment's tables into a snapshot.
 *
 * Each shard is copied under its lock, for as long as copying its index takes, and encoded afterwards: what
 * is slow (a pipe, a disk) never holds anybody up.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"
#include "snapshot.h"

_Static_assert(FND_TABLES == FND_SNAPSHOT_TABLES_MAX, "a snapshot holds every table of a segment");

struct save {
	struct fnd_snapshot_writer w;
	const char *table;
	bool owned;
	bool writes_seen;
};

static int save_record(const struct fnd_record *r, void *arg)
{
	struct save *s = arg;
	struct fnd_snapshot_record rec = {
		.key = r->key,
		.key_bytes = r->key_bytes,
		.value = r->value,
		.value_bytes = r->value_bytes,
	};
	struct fnd_owner owner;

	if (s->owned) {
		if (r->value_bytes < sizeof(owner))
			return fnd_fail(FND_E_CORRUPT, "table %s: a value of %zu bytes has no room for its owner",
					s->table, r->value_bytes);
		memcpy(&owner, r->value, sizeof(owner));
		rec.owner = &owner;
		rec.value = (const char *)r->value + sizeof(owner);
		rec.value_bytes -= sizeof(owner);
	}
	return fnd_snapshot_writer_record(&s->w, &rec);
}

/*
 * What every write of a table changes: where the next record will be, what is retired, which index is in
 * force. The lock's own line is left out, because taking the snapshot takes the locks.
 *
 * Words that differ mean that somebody wrote, or tidied up after a write. Words that are equal mean it only
 * as far as nothing changes and changes back; so what this notices is reported, and its silence is never
 * sold as a proof.
 */
static uint64_t fingerprint(const struct fnd_table *t)
{
	const size_t from = offsetof(struct fnd_shm_shard, free_head) / sizeof(uint64_t);
	const size_t to = offsetof(struct fnd_shm_shard, pad1) / sizeof(uint64_t);
	uint64_t h = t->shards;

	/* relaxed, both: a word that is missed while it changes is met changed by the second reading */
	for (uint32_t i = 0; i < t->shards; i++) {
		const uint64_t *word = (const uint64_t *)&t->shard[i];

		h = (h ^ fnd_load_relaxed(&t->index[i])) * 0x9e3779b97f4a7c15u;
		for (size_t k = from; k < to; k++)
			h = ((h << 23 | h >> 41) ^ fnd_load_relaxed(&word[k])) * 0x9e3779b97f4a7c15u;
	}
	return h;
}

static int save_table(struct save *s, struct fnd_table *t)
{
	struct fnd_snapshot_table def = {
		.flags = t->flags & (FND_TABLE_FIXED | FND_TABLE_OWNED),
		.key_max = t->key_max,
		.value_max = t->value_max,
		.capacity = t->capacity,
	};
	int err;

	memcpy(def.name, t->name, sizeof(def.name) - 1);
	s->table = def.name;
	s->owned = def.flags & FND_TABLE_OWNED;
	err = fnd_snapshot_writer_table(&s->w, &def);
	return err ? err : fnd_table_iterate(t, FND_ITERATE_EXACT, save_record, s);
}

static int open_tables(struct fnd_segment *seg, struct fnd_table *table[FND_TABLES], unsigned int *ret_n)
{
	unsigned int n = 0;
	int err = 0;

	for (unsigned int i = 0; i < FND_TABLES && !err; i++) {
		char name[FND_TABLE_NAME_MAX + 1];

		err = fnd_table_name(seg, i, name);
		if (!err)
			err = fnd_table_open(seg, name, NULL, &table[n]);
		if (!err)
			n++;
		else if (err == -ENOENT)
			err = 0;
	}
	*ret_n = n;
	return err;
}

/* All fingerprints before the first copy and after the last: the whole time lies between them. */
static int save_tables(struct fnd_segment *seg, struct save *s)
{
	struct fnd_table *table[FND_TABLES] = { NULL };
	uint64_t before[FND_TABLES];
	unsigned int n, i;
	int err = open_tables(seg, table, &n);

	for (i = 0; i < n; i++)
		before[i] = fingerprint(table[i]);
	for (i = 0; i < n && !err; i++)
		err = save_table(s, table[i]);
	for (i = 0; i < n; i++) {
		s->writes_seen |= before[i] != fingerprint(table[i]);
		fnd_table_close(table[i]);
	}
	return err;
}

static void describe(struct fnd_segment *seg, struct fnd_snapshot_info *info)
{
	info->created_ns = fnd_wall_ns();
	snprintf(info->segment, sizeof(info->segment), "%u/%s", seg->uid, seg->name);
	snprintf(info->creator, sizeof(info->creator), "%s", fnd_version());
	memcpy(info->uuid, seg->hdr->uuid, sizeof(info->uuid));
	info->default_capacity = seg->hdr->default_capacity;
	info->max_bytes = seg->max_bytes;
	info->processes = seg->processes;
	info->threads = seg->threads;
	info->segment_flags = seg->fenced ? FND_SEGMENT_FENCED : 0;
	info->sample_every = fnd_load_relaxed(&seg->hdr->sample_every); /* relaxed: for the record only */
}

int fnd_snapshot_write(struct fnd_segment *seg, int fd, struct fnd_snapshot_info *ret_info)
{
	struct fnd_snapshot_info info = { .version = FND_SNAPSHOT_VERSION };
	struct save s = { .writes_seen = false };
	int err;

	describe(seg, &info);
	err = fnd_snapshot_writer_start(&s.w, fd, &info);
	if (!err)
		err = save_tables(seg, &s);
	if (!err)
		err = fnd_snapshot_writer_finish(&s.w, s.writes_seen ? FND_SNAPSHOT_WRITES_SEEN : 0, &info);
	fnd_snapshot_writer_free(&s.w);
	if (!err && ret_info)
		*ret_info = info;
	return err;
}
