// SPDX-License-Identifier: MIT
/*
 * Rows of events and of deduplication. An event published, beside what it is made of: a record put into a
 * table and an old one taken out. A key claimed that was seen before, beside a lookup of it; a new one, beside
 * an insert.
 */
#include <errno.h>
#include <string.h>

#include <foundation/dedup.h>

#include "bench_runtime.h"

#define KEYS 2048u /* their records fit the second cache */
#define KEPT 1000u

static const unsigned char map[] = "\x82\xa4name\xa5" "agent\xa3pid\xcd\x12\x34";

struct tables {
	struct runtime_world w;
	struct fnd_events *events;
	struct fnd_dedup *dedup;
	struct fnd_table *dedup_table; /* the dedup's own */
	struct fnd_table *ring, *keys; /* for comparison */
	struct bench_key key[KEYS];
};

static struct tables t;

/* --- events -------------------------------------------------------------------------------------------- */

static int publish(struct runtime_side *side, uint64_t count)
{
	int err = 0;

	(void)side;
	for (uint64_t i = 0; i < count; i++)
		err |= fnd_event_publish(t.events, "bench.tick", map, sizeof(map) - 1, NULL);
	return err;
}

static int publish_table(struct runtime_side *side, uint64_t count)
{
	char value[48] = "bench.tick";
	int err = 0;

	for (uint64_t i = 0; i < count; i++) {
		uint64_t key = ++side->at, old = key - KEPT;

		memcpy(value + 16, &key, sizeof(key));
		err |= fnd_table_insert(t.ring, &key, sizeof(key), value, sizeof(value));
		if (key > KEPT)
			err |= fnd_table_delete(t.ring, &old, sizeof(old));
	}
	return err;
}

/* --- deduplication -------------------------------------------------------------------------------------- */

static int claim_seen(struct runtime_side *side, uint64_t count)
{
	unsigned int wrong = 0;

	for (uint64_t i = 0; i < count; i++) {
		const struct bench_key *key = &t.key[side->at++ % KEYS];

		wrong |= fnd_dedup_claim(t.dedup, key, sizeof(*key), map, sizeof(map) - 1, FND_WINDOW_FOREVER) !=
			 FND_CLAIM_SUPPRESSED;
	}
	return wrong ? -EBADMSG : 0;
}

static int look_seen(struct runtime_side *side, uint64_t count)
{
	char value[128];
	int err = 0;

	for (uint64_t i = 0; i < count; i++) {
		const struct bench_key *key = &t.key[side->at++ % KEYS];

		err |= fnd_table_lookup(t.dedup_table, key, sizeof(*key), value, sizeof(value), NULL);
	}
	return err;
}

/* Makes all keys new again. */
static int forget(struct runtime_side *side, struct fnd_table *table)
{
	uint64_t from = bench_now_ns();
	int err = 0;

	for (unsigned int i = 0; i < KEYS && (err == 0 || err == -ENOENT); i++)
		err = fnd_table_delete(table, &t.key[i], sizeof(t.key[i]));
	side->untimed_ns += bench_now_ns() - from;
	return err == -ENOENT ? 0 : err;
}

static int claim_new(struct runtime_side *side, uint64_t count)
{
	unsigned int wrong = 0;
	int err = 0;

	for (uint64_t i = 0; i < count && !err; i++) {
		const struct bench_key *key = &t.key[i % KEYS];

		if (i % KEYS == 0)
			err = forget(side, t.dedup_table);
		wrong |= fnd_dedup_claim(t.dedup, key, sizeof(*key), map, sizeof(map) - 1, FND_WINDOW_FOREVER) !=
			 FND_CLAIM_EMITTED;
	}
	return wrong && !err ? -EBADMSG : err;
}

static int insert_new(struct runtime_side *side, uint64_t count)
{
	char value[48] = "bench.tick";
	int err = 0;

	for (uint64_t i = 0; i < count && !err; i++) {
		const struct bench_key *key = &t.key[i % KEYS];

		if (i % KEYS == 0)
			err = forget(side, t.keys);
		if (!err)
			err = fnd_table_insert(t.keys, key, sizeof(*key), value, sizeof(value));
	}
	return err;
}

/* --- rows ------------------------------------------------------------------------------------------------ */

static int event_row(const struct runtime_plan *plan)
{
	struct runtime_side sides[] = { { "ours", publish, NULL, 0, 0 }, { "table", publish_table, NULL, 0, 0 } };
	struct bench_row row = { .bench = "event", .entries = KEPT };

	return runtime_row(plan, &row, sides, 2);
}

static int dedup_rows(const struct runtime_plan *plan)
{
	struct runtime_side fresh[] = { { "ours", claim_new, NULL, 0, 0 }, { "table", insert_new, NULL, 0, 0 } };
	struct runtime_side seen[] = { { "ours", claim_seen, NULL, 0, 0 }, { "table", look_seen, NULL, 0, 0 } };
	struct bench_row fresh_row = { .bench = "dedup", .dist = "new", .entries = KEYS };
	struct bench_row seen_row = { .bench = "dedup", .dist = "seen", .entries = KEYS };
	int err = runtime_row(plan, &fresh_row, fresh, 2);

	if (!err)
		err = forget(&fresh[0], t.dedup_table);
	if (!err)
		err = claim_new(&fresh[0], KEYS); /* from here on all of them are seen */
	return err ? err : runtime_row(plan, &seen_row, seen, 2);
}

static int open_all(void)
{
	struct fnd_table_options ring = { .size = sizeof(ring), .key_max = 8, .value_max = 1200, .capacity = 1024,
					  .flags = FND_TABLE_FIXED };
	struct fnd_table_options keys = { .size = sizeof(keys), .key_max = FND_DEDUP_KEY_MAX, .value_max = 1100,
					  .capacity = 2 * KEYS };
	int err = fnd_dedup_open(t.w.seg, 2 * KEYS, &t.dedup);

	t.events = fnd_runtime_events(t.w.rt);
	if (!err)
		err = fnd_table_open(t.w.seg, FND_DEDUP_TABLE, NULL, &t.dedup_table);
	if (!err)
		err = fnd_table_open(t.w.seg, "ring", &ring, &t.ring);
	if (!err)
		err = fnd_table_open(t.w.seg, "keys", &keys, &t.keys);
	for (unsigned int i = 0; i < KEYS; i++)
		t.key[i] = bench_key_of(i);
	return err ? runtime_complain("events", "open tables", err) : 0;
}

int runtime_event_rows(const struct runtime_plan *plan)
{
	int err = runtime_world_make(&t.w, "events", NULL, 0, 0);

	if (err)
		return err;
	err = open_all();
	if (!err && runtime_has(plan, "event"))
		err = event_row(plan);
	if (!err && runtime_has(plan, "dedup"))
		err = dedup_rows(plan);
	fnd_table_close(t.keys);
	fnd_table_close(t.ring);
	fnd_table_close(t.dedup_table);
	fnd_dedup_close(t.dedup);
	runtime_world_end(&t.w);
	return err;
}
