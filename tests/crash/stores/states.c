// SPDX-License-Identifier: MIT
/* States that operations on tables and slots start from. The world's random numbers vary each of them from round to round. */
#include <stdio.h>
#include <stdlib.h>

#include "hooks.h"
#include "stores.h"

static void must(int err, const char *what)
{
	if (err < 0) {
		fprintf(stderr, "stores: seed %llu: preparing: %s: %s [%s]\n", (unsigned long long)w.seed,
			what, fnd_strerror(err), fnd_error_detail());
		exit(2);
	}
}

/* --- steps ---------------------------------------------------------------------------------------- */

void put(uint32_t k, uint32_t version)
{
	char key[16], value[32];
	size_t n = key_of(k, key), m = value_of(k, version, value);

	must(fnd_table_upsert(w.table, key, n, value, m), "upsert");
	for (uint32_t i = 0; i < w.nlive; i++)
		if (w.live[i] == k)
			return;
	w.live[w.nlive++] = k;
	if (k >= w.next_key)
		w.next_key = k + 1;
}

void take_out(uint32_t k)
{
	char key[16];

	must(fnd_table_delete(w.table, key, key_of(k, key)), "delete");
	for (uint32_t i = 0; i < w.nlive; i++)
		if (w.live[i] == k)
			w.live[i] = w.live[--w.nlive];
}

void reader_opens(void)
{
	if (w.reader_open)
		return;
	world_act(READER);
	must(fnd_read_begin(w.actor[READER].seg), "read section");
	world_act(FOUNDER);
	world_keep(READER);
	w.reader_open = true;
	held_take();
}

static uint64_t growths_seen;
static uint32_t regions_seen;

static uint64_t growths(void)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < w.table->shards; i++)
		n += w.table->shard[i].growths;
	return n;
}

bool index_grows(void)
{
	return growths() != growths_seen;
}

bool region_grows(void)
{
	return w.table->desc->regions != regions_seen;
}

void until(bool (*happens)(void))
{
	char key[16], value[32];

	for (uint32_t k = w.next_key; w.nlive < KEYS_MAX; k++) {
		size_t n = key_of(k, key), m = value_of(k, 1, value), mark = hooks_mark();
		bool now;
		int err;

		growths_seen = growths();
		regions_seen = w.table->desc->regions;
		world_keep(FOUNDER);
		hooks_mode = HOOKS_LOG;
		err = fnd_table_insert(w.table, key, n, value, m);
		hooks_mode = HOOKS_OFF;
		now = err || happens();
		hooks_undo(mark);
		world_reset(FOUNDER);
		w.key = k;
		if (now)
			return;
		put(k, 1);
	}
}

/* Somebody is killed in a write of key @k: just before its first store to @off, 0: at a random store. */
static void dies_writing(enum who who, uint32_t k, uint64_t off)
{
	struct fnd_table t;
	char key[16], value[32];
	size_t n = key_of(k, key), mark = hooks_mark(), end, from;

	world_join(who, true);
	world_act(who);
	t = *w.table;
	t.seg = w.actor[who].seg;
	hooks_mode = HOOKS_LOG;
	if (off || world_draw() % 2)
		fnd_table_upsert(&t, key, n, value, value_of(k, 2, value));
	else
		fnd_table_delete(&t, key, n);
	hooks_mode = HOOKS_OFF;
	end = hooks_mark();
	from = mark + world_draw() % (end - mark + 1);
	for (size_t i = end; off && i-- > mark;)
		if (hooks_entry(i)->off == off)
			from = i;
	while (end > from)
		store_revert(hooks_entry(--end));
	hooks_forget(mark);
	world_act(FOUNDER);
	world_die(who);
}

static void somebody_dies(enum who who)
{
	dies_writing(who, w.nlive ? w.live[world_draw() % w.nlive] : w.next_key, 0);
}

static uint32_t bucket_of(uint32_t k)
{
	char key[16];
	size_t n = key_of(k, key);

	return (uint32_t)fnd_table_hash(w.table, key, n) & ((1u << (w.table->index[0] & 63)) - 1);
}

/* --- the main table ------------------------------------------------------------------------------- */

static void fixed(struct shape *s)
{
	s->table.flags = FND_TABLE_FIXED;
}

static void unbacked(struct shape *s)
{
	s->backed = false;
}

static void some(void)
{
	uint32_t n = 6 + (uint32_t)(world_draw() % 5);

	for (uint32_t k = 0; k < n; k++)
		put(k, 0);
	for (uint32_t i = 0; i < 3; i++)
		put((uint32_t)(world_draw() % n), 1);
	take_out(1);
	if (world_draw() % 2)
		reader_opens();
}

static void nearly_full(void)
{
	for (uint32_t k = 0; k + 1 < w.table->capacity; k++)
		put(k, 0);
	for (uint32_t i = 0; i < world_draw() % 8; i++)
		put(i % (uint32_t)(w.table->capacity - 1), 1);
}

/* Puts @n keys of one bucket in; returns the number after the last. */
static uint32_t fill_bucket(uint32_t bucket, uint32_t n, uint32_t from)
{
	for (; n > 0; from++) {
		if (bucket_of(from) != bucket)
			continue;
		put(from, 0);
		n--;
	}
	return from;
}

/* One bucket is full, or has an overflow bucket. */
static void long_chain(void)
{
	uint32_t bucket = bucket_of(0), k;

	k = fill_bucket(bucket, FND_BUCKET_SLOTS + (uint32_t)(world_draw() % 8), 0);
	while (bucket_of(k) != bucket)
		k++;
	w.next_key = k; /* what comes next goes to the same chain */
	if (world_draw() % 2)
		reader_opens();
}

/* A dead one had filled an overflow bucket and not linked it. */
static void cut_chain(void)
{
	uint32_t bucket = bucket_of(0), k = fill_bucket(bucket, FND_BUCKET_SLOTS, 0);

	for (; bucket_of(k) != bucket; k++)
		;
	dies_writing(DEAD_1, k,
		     (w.table->index[0] & ~63ULL) + sizeof(struct fnd_shm_span) +
			     bucket * sizeof(struct fnd_shm_bucket) + offsetof(struct fnd_shm_bucket, link));
	for (k++; bucket_of(k) != bucket; k++)
		;
	w.next_key = k;
}

/* Every overflow bucket is linked and most are empty; the next key needs one from another's chain. */
static void churned(void)
{
	uint32_t k = 0, buckets = 1u << (w.table->index[0] & 63);

	for (uint32_t bucket = 1; bucket < buckets; bucket++) {
		k = fill_bucket(bucket, FND_BUCKET_SLOTS + 1, k);
		while (w.nlive)
			take_out(w.live[0]);
	}
	k = fill_bucket(0, 2 * FND_BUCKET_SLOTS, k);
	while (bucket_of(k) != 0)
		k++;
	w.next_key = k;
	if (world_draw() % 2)
		reader_opens();
}

static void mid_growth(void)
{
	for (uint32_t k = 0; k < 4; k++)
		put(k, 0);
	reader_opens();
	until(index_grows);
	put(w.key, 0);
	for (uint32_t i = 0; i < world_draw() % 3; i++)
		put(w.next_key, 0);
}

/* The oldest batch can be handed out again, and so can an old index. */
static void reclaimable(void)
{
	for (uint32_t k = 0; k < 8; k++)
		put(k, 0);
	if (world_draw() % 2) {
		until(index_grows);
		put(w.key, 0);
	}
	for (uint32_t i = 0; i < 10; i++)
		put((uint32_t)(world_draw() % 8), i);
	must(fnd_table_quiesce(w.table), "quiesce");
	for (uint32_t i = 0; i < world_draw() % 4; i++)
		put(i, 20);
	if (world_draw() % 2)
		must(fnd_table_quiesce(w.table), "quiesce"); /* a second batch */
}

/* The open batch has 64 records: the next section stamps it. */
static void stamp_due(void)
{
	for (uint32_t k = 0; k < 4; k++)
		put(k, 0);
	put(0, 1);
	must(fnd_table_quiesce(w.table), "quiesce"); /* so that a batch has been used before */
	put(0, 2);
	put(0, 3);
	if (world_draw() % 4)
		reader_opens();
	for (uint32_t i = 0; w.table->shard[0].open_count < 64 && i < 200; i++)
		put((uint32_t)(world_draw() % 4), i);
}

static void lock_of_the_dead(void)
{
	some();
	somebody_dies(DEAD_1);
}

static void history(void)
{
	uint32_t steps = 20 + (uint32_t)(world_draw() % 100);

	for (uint32_t i = 0; i < steps; i++) {
		uint32_t k = (uint32_t)(world_draw() % 28);

		switch (world_draw() % 12) {
		case 0:
			must(fnd_epoch_advance(w.actor[FOUNDER].seg), "advance");
			break;
		case 1:
			if (i > steps / 2)
				reader_opens();
			break;
		case 2:
		case 3:
		case 4:
			if (w.nlive)
				take_out(w.live[world_draw() % w.nlive]);
			break;
		default:
			put(k, i);
		}
	}
	if (world_draw() % 3 == 0)
		somebody_dies(DEAD_1);
}

static void several_shards(struct shape *s)
{
	s->table.capacity = 1024;
}

static void in_shards(void)
{
	for (uint32_t k = 0; k < 24; k++)
		put(k, 0);
	for (uint32_t k = 0; k < 4; k++)
		put(k, 1);
	if (world_draw() % 2)
		reader_opens();
	for (uint32_t i = 0; i < world_draw() % 8; i++)
		put((uint32_t)(world_draw() % 24), i);
	if (world_draw() % 3 == 0)
		somebody_dies(DEAD_1);
}

/* A hot key under a slow reader has made its shard need many extents, and they have come back empty. */
static void emptied(void)
{
	for (uint32_t k = 0; k < 6; k++)
		put(k, 0);
	w.nheld = 0;
	world_act(READER);
	must(fnd_read_begin(w.actor[READER].seg), "read section");
	world_act(FOUNDER);
	for (uint32_t i = 0; i < 150 + world_draw() % 150; i++)
		put(i % 2, i);
	world_act(READER);
	must(fnd_read_end(w.actor[READER].seg), "read section");
	world_act(FOUNDER);
	for (int i = 0; i < 4; i++)
		must(fnd_table_quiesce(w.table), "quiesce");
	if (world_draw() % 2)
		reader_opens();
}

const struct state table_states[TABLE_STATES] = {
	{ "empty", NULL, NULL },
	{ "typical", NULL, some },
	{ "nearly-full", fixed, nearly_full },
	{ "long-chain", NULL, long_chain },
	{ "cut-chain", NULL, cut_chain },
	{ "churned", NULL, churned },
	{ "mid-growth", NULL, mid_growth },
	{ "reclaimable", NULL, reclaimable },
	{ "stamp-due", NULL, stamp_due },
	{ "lock-of-the-dead", NULL, lock_of_the_dead },
	{ "unbacked", unbacked, some },
	{ "history", NULL, history },
	{ "several-shards", several_shards, in_shards },
	{ "emptied", NULL, emptied },
};

/* --- slots ---------------------------------------------------------------------------------------- */

static void dead_in_section(void)
{
	some();
	world_join(DEAD_1, true);
	world_act(DEAD_1);
	must(fnd_read_begin(w.actor[DEAD_1].seg), "read section");
	world_act(FOUNDER);
	world_die(DEAD_1);
}

/* One slot is left, of processes and of threads. */
static void few_left(void)
{
	uint32_t left = w.shape.processes - 5;

	some();
	for (uint32_t i = 0; i < left; i++) {
		world_join(DEAD_1 + i, true);
		world_die(DEAD_1 + i);
	}
}

static void none_left(void)
{
	few_left();
	if (!w.actor[VICTIM].here) {
		world_join(DEAD_1 + w.shape.processes - 5, true);
		world_die(DEAD_1 + w.shape.processes - 5);
	}
}

/* One died claiming, one was being reaped by another who died. */
static void half_done(void)
{
	struct fnd_segment *seg = w.actor[FOUNDER].seg;
	struct actor *a = &w.actor[DEAD_1], *b = &w.actor[DEAD_1 + 1], *c = &w.actor[DEAD_1 + 2];
	uint32_t reaper;

	some();
	for (enum who i = DEAD_1; i < DEAD_1 + 3; i++)
		world_join(i, true);
	reaper = c->seg->self_slot << 19 | (c->seg->self_gen & 0x7ffff);
	seg->process[a->seg->self_slot].word =
		fnd_slot_word(FND_SLOT_CLAIMING, a->seg->self_gen, a->seg->identity.pid);
	a->th->slot->word = fnd_slot_word(FND_SLOT_CLAIMING, a->th->gen, a->seg->identity.pid);
	seg->process[b->seg->self_slot].word = fnd_slot_word(FND_SLOT_REAPING, b->seg->self_gen, reaper);
	if (world_draw() % 2)
		b->th->slot->word = fnd_slot_word(FND_SLOT_REAPING, b->th->gen, reaper);
	for (enum who i = DEAD_1; i < DEAD_1 + 3; i++)
		world_die(i);
}

const struct state slot_states[SLOT_STATES] = {
	{ "empty", NULL, NULL },
	{ "typical", NULL, some },
	{ "dead-reader", NULL, dead_in_section },
	{ "lock-of-the-dead", NULL, lock_of_the_dead },
	{ "nearly-full", NULL, few_left },
	{ "full-of-dead", NULL, none_left },
	{ "half-done", NULL, half_done },
	{ "mid-growth", NULL, mid_growth },
};
