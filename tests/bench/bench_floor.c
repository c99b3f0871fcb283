// SPDX-License-Identifier: MIT
/*
 * The floor: a plain open-addressing table in private memory, without any synchronisation.
 *
 * It answers what the memory of this machine costs at this size, before anything is shared. Linear
 * probing, at most half full; a replace overwrites the value where it is. Each worker has a table of its
 * own: two workers share nothing. Two layouts:
 *  floor        hash, key and value lie in the slot: one miss a lookup, records can never move;
 *  floor-apart  slots name records that lie apart: two dependent misses, as in every table whose records
 *               stay where they are while the index grows.
 */
#include <errno.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "bench_util.h"

struct record {
	uint64_t hash; /* 0: an empty slot */
	struct bench_key key;
	struct bench_value value;
};

struct index_slot {
	uint32_t tag; /* upper half of the hash, never 0 */
	uint32_t at;
};

struct floor_table {
	struct record *records;	   /* floor: the slots; floor-apart: in order of insertion */
	struct index_slot *index;  /* floor-apart only */
	uint64_t mask;
	volatile uint64_t section; /* what a read section would store to */
};

typedef struct record *find_fn(const struct floor_table *t, const struct bench_key *key,
			       uint64_t hash);

static uint64_t hash_of(const struct bench_key *key)
{
	uint64_t h = XXH3_64bits_withSeed(key, sizeof(*key), BENCH_HASH_SEED);

	return h ? h : 1;
}

static uint32_t tag_of(uint64_t hash)
{
	return (uint32_t)(hash >> 32) | 1;
}

static bool holds(const struct record *r, const struct bench_key *key, uint64_t hash)
{
	return r->hash == hash && memcmp(&r->key, key, sizeof(*key)) == 0;
}

/* The slot that holds @key, or the empty one where it would go. */
static inline struct record *find_inline(const struct floor_table *t, const struct bench_key *key,
					 uint64_t hash)
{
	uint64_t at = hash & t->mask;

	while (t->records[at].hash != 0 && !holds(&t->records[at], key, hash))
		at = (at + 1) & t->mask;
	return &t->records[at];
}

static inline struct record *find_apart(const struct floor_table *t, const struct bench_key *key,
					uint64_t hash)
{
	static struct record none;
	uint32_t tag = tag_of(hash);

	for (uint64_t at = hash & t->mask;; at = (at + 1) & t->mask) {
		struct index_slot slot = t->index[at];

		if (slot.tag == 0)
			return &none;
		if (slot.tag == tag && holds(&t->records[slot.at], key, hash))
			return &t->records[slot.at];
	}
}

static struct record *place_apart(struct floor_table *t, uint64_t i, uint64_t hash)
{
	uint64_t at = hash & t->mask;

	while (t->index[at].tag != 0)
		at = (at + 1) & t->mask;
	t->index[at] = (struct index_slot){ tag_of(hash), (uint32_t)i };
	return &t->records[i];
}

static void write_record(struct record *r, const struct bench_key *key, uint64_t hash,
			 uint64_t generation)
{
	r->hash = hash;
	r->key = *key;
	bench_value_of(key, generation, &r->value);
}

static int floor_create(const struct bench_data *data, void **ret_table)
{
	*ret_table = (void *)data;
	return 0;
}

static void floor_destroy(void *table)
{
	(void)table;
}

static void floor_leave(void *self)
{
	struct floor_table *t = self;

	free(t->records);
	free(t->index);
	free(t);
}

static uint64_t slots_of(uint64_t entries)
{
	uint64_t slots = 16;

	while (slots < 2 * entries)
		slots *= 2;
	return slots;
}

static int build(const struct bench_data *data, bool apart, void **ret_self)
{
	struct floor_table *t = calloc(1, sizeof(*t));
	uint64_t slots = slots_of(data->entries), records;

	if (!t)
		return -ENOMEM;
	records = apart ? data->entries : slots;
	t->records = aligned_alloc(64, (records * sizeof(*t->records) + 63) / 64 * 64);
	if (apart)
		t->index = calloc(slots, sizeof(*t->index));
	if (!t->records || (apart && !t->index)) {
		floor_leave(t);
		return -ENOMEM;
	}
	memset(t->records, 0, records * sizeof(*t->records));
	t->mask = slots - 1;
	for (uint64_t i = 0; i < data->entries; i++) {
		struct bench_key key = bench_key_of(i);
		uint64_t hash = hash_of(&key);
		struct record *r = apart ? place_apart(t, i, hash) : find_inline(t, &key, hash);

		write_record(r, &key, hash, 0);
	}
	*ret_self = t;
	return 0;
}

static int join_inline(void *table, void **ret_self)
{
	return build(table, false, ret_self);
}

static int join_apart(void *table, void **ret_self)
{
	return build(table, true, ret_self);
}

static inline __attribute__((always_inline)) int run_with(find_fn *find, struct floor_table *t,
							  const struct bench_work *work,
							  uint64_t *ret_sum)
{
	struct bench_value value;
	uint64_t sum = 0;

	for (size_t i = 0; i < work->count; i++) {
		const struct bench_key *key = &work->keys[i];
		struct record *r = find(t, key, hash_of(key));

		if (r->hash == 0)
			return -ENOENT;
		if (work->coins[i] < work->write_percent) {
			bench_value_of(key, work->generation, &value);
			bench_consume(&value);
			r->value = value;
		} else {
			value = r->value;
			sum += bench_consume(&value);
		}
	}
	*ret_sum = sum;
	return 0;
}

static int run_inline(void *self, const struct bench_work *work, uint64_t *ret_sum)
{
	return run_with(find_inline, self, work, ret_sum);
}

static int run_apart(void *self, const struct bench_work *work, uint64_t *ret_sum)
{
	return run_with(find_apart, self, work, ret_sum);
}

/* Two passes, as the best there is: every slot's line is on its way before the first is looked at. */
static int batch_inline(void *self, const struct bench_work *work, uint64_t *ret_sum)
{
	struct floor_table *t = self;
	struct bench_value value[BENCH_BATCH];
	uint64_t hash[BENCH_BATCH], sum = 0;

	for (size_t i = 0; i < work->count; i += BENCH_BATCH) {
		size_t n = work->count - i < BENCH_BATCH ? work->count - i : BENCH_BATCH;

		for (size_t k = 0; k < n; k++) {
			hash[k] = hash_of(&work->keys[i + k]);
			__builtin_prefetch(&t->records[hash[k] & t->mask]);
			__builtin_prefetch((char *)&t->records[hash[k] & t->mask] + 64);
		}
		for (size_t k = 0; k < n; k++) {
			struct record *r = find_inline(t, &work->keys[i + k], hash[k]);

			if (r->hash == 0)
				return -ENOENT;
			value[k] = r->value;
		}
		for (size_t k = 0; k < n; k++)
			sum += bench_consume(&value[k]);
	}
	*ret_sum = sum;
	return 0;
}

static int insert_inline(void *self, const struct bench_key *keys, size_t count, uint64_t generation)
{
	struct floor_table *t = self;

	for (size_t i = 0; i < count; i++) {
		uint64_t hash = hash_of(&keys[i]);
		struct record *r = find_inline(t, &keys[i], hash);

		if (r->hash != 0)
			return -EEXIST;
		write_record(r, &keys[i], hash, generation);
	}
	return 0;
}

/* Later records of the run move up, so that no gap cuts them off. */
static void close_gap(struct floor_table *t, uint64_t gap)
{
	for (uint64_t at = (gap + 1) & t->mask; t->records[at].hash != 0; at = (at + 1) & t->mask) {
		uint64_t home = t->records[at].hash & t->mask;

		if (((at - home) & t->mask) < ((at - gap) & t->mask))
			continue;
		t->records[gap] = t->records[at];
		gap = at;
	}
	t->records[gap].hash = 0;
}

static int remove_inline(void *self, const struct bench_key *keys, size_t count)
{
	struct floor_table *t = self;

	for (size_t i = 0; i < count; i++) {
		struct record *r = find_inline(t, &keys[i], hash_of(&keys[i]));

		if (r->hash == 0)
			return -ENOENT;
		close_gap(t, (uint64_t)(r - t->records));
	}
	return 0;
}

static int copy_out(const struct record *r, struct bench_value *ret_value)
{
	if (r->hash == 0)
		return -ENOENT;
	*ret_value = r->value;
	return 0;
}

static int lookup_inline(void *self, const struct bench_key *key, struct bench_value *ret_value)
{
	return copy_out(find_inline(self, key, hash_of(key)), ret_value);
}

static int lookup_apart(void *self, const struct bench_key *key, struct bench_value *ret_value)
{
	return copy_out(find_apart(self, key, hash_of(key)), ret_value);
}

/* Two plain stores. */
static int floor_sections(void *self, uint64_t count)
{
	struct floor_table *t = self;

	for (uint64_t i = 0; i < count; i++) {
		t->section = 1;
		t->section = 0;
	}
	return 0;
}

static int bytes_inline(void *table, uint64_t *ret_bytes, uint64_t *ret_records)
{
	const struct bench_data *data = table;

	*ret_bytes = slots_of(data->entries) * sizeof(struct record);
	*ret_records = data->entries;
	return 0;
}

/* The system call that no scheme whose readers have no fence can do without. */
static int floor_grace(void *table)
{
	(void)table;
	return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) ? -errno : 0;
}

const struct bench_contender bench_floor = {
	.name = "floor",
	.scheme = "floor",
	.create = floor_create,
	.destroy = floor_destroy,
	.join = join_inline,
	.leave = floor_leave,
	.run = run_inline,
	.batch = batch_inline,
	.insert = insert_inline,
	.remove = remove_inline,
	.bytes = bytes_inline,
	.lookup = lookup_inline,
	.sections = floor_sections,
	.grace = floor_grace,
};

const struct bench_contender bench_floor_apart = {
	.name = "floor-apart",
	.scheme = "floor",
	.create = floor_create,
	.destroy = floor_destroy,
	.join = join_apart,
	.leave = floor_leave,
	.run = run_apart,
	.lookup = lookup_apart,
	.sections = floor_sections,
	.grace = floor_grace,
};
