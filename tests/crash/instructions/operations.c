// SPDX-License-Identifier: MIT
/* The operations whose every instruction is a place to be killed. */
#include <stdio.h>

#include "hooks.h"
#include "instructions.h"

struct fnd_segment *seg;
struct fnd_table *table;
struct fnd_registry *registry;
struct fnd_dedup *dedup;

static const unsigned char a_map[] = { 0x82, 0xa1, 'a', 2, 0xa1, 'b', 3 };
static char key[16], value[32];
static size_t key_bytes, value_bytes;

void put(uint32_t k, uint32_t version)
{
	char name[16], text[32];
	size_t n = key_of(k, name), m = value_of(k, version, text);

	must(fnd_table_upsert(w.table, name, n, text, m), "preparing");
}

static void about(uint32_t k)
{
	key_bytes = key_of(k, key);
	value_bytes = value_of(k, 7777, value);
}

static void new_key(void)
{
	about(900);
}

static void old_key(void)
{
	about(3);
}

/* The next insert makes the index larger. */
static void growth_due(void)
{
	uint32_t k = 100;

	while (w.table->shard[0].live < 5ULL << (w.table->index[0] & 63))
		put(k++, 0);
	new_key();
}

/* The next insert into the key's chain links an overflow bucket. */
static void chain_full(void)
{
	uint32_t mask = (1u << (w.table->index[0] & 63)) - 1, in = 0, k = 200;
	char name[16];

	for (; in < FND_BUCKET_SLOTS; k++) {
		uint64_t slots = 0, hash = fnd_table_hash(w.table, name, key_of(k, name));
		struct fnd_shm_bucket *b;

		if ((hash & mask) != 0)
			continue;
		b = (struct fnd_shm_bucket *)(hooks_base + (w.table->index[0] & ~63ULL) +
					      sizeof(struct fnd_shm_span));
		for (unsigned int i = 0; i < FND_BUCKET_SLOTS; i++)
			slots += b->slot[i] != 0;
		in = (uint32_t)slots;
		if (in < FND_BUCKET_SLOTS)
			put(k, 0);
		else
			about(k);
	}
}

/* Free list empty, a batch ready to be handed out. */
static void batch_ready(void)
{
	for (uint32_t i = 0; i < 5; i++)
		put(i, 5);
	must(fnd_table_quiesce(w.table), "quiesce");
	old_key();
}

static int run_insert(void)
{
	return fnd_table_insert(table, key, key_bytes, value, value_bytes);
}

static int run_replace(void)
{
	return fnd_table_replace(table, key, key_bytes, value, value_bytes);
}

static int run_delete(void)
{
	return fnd_table_delete(table, key, key_bytes);
}

static int run_lookup(void)
{
	char buf[64];

	return fnd_table_lookup(table, key, key_bytes, buf, sizeof(buf), NULL);
}

static int run_quiesce(void)
{
	return fnd_table_quiesce(table);
}

static int run_create(void)
{
	struct fnd_table_options opt = { .size = sizeof(opt), .key_max = 8, .value_max = 16, .capacity = 8 };
	struct fnd_table *t;

	return fnd_table_open(seg, "made", &opt, &t);
}

static int run_register(void)
{
	return fnd_registry_register(registry, "agent", (uint32_t)parent, a_map, sizeof(a_map), 0);
}

static int run_update(void)
{
	return fnd_registry_update(registry, "ours", a_map, sizeof(a_map));
}

/* A name that goes is marked first. Nothing after it in the list has to do with that key. */
static void name_marked(void)
{
	w.passing = "ours";
}

static int run_unregister(void)
{
	return fnd_registry_unregister(registry, "ours", FND_UNREGISTER_FORCE);
}

static int run_dedup(void)
{
	return fnd_dedup_claim(dedup, "event", 5, "something happened", 18, FND_WINDOW_FOREVER);
}

static int run_detach(void)
{
	return fnd_segment_detach(seg);
}

static void leave(void)
{
	fnd_threads_release(seg);
	fnd_process_release(seg);
}

static int run_claim(void)
{
	struct fnd_thread *th;
	int err = fnd_process_claim(seg);

	return err ? err : fnd_thread_enter(seg, &th);
}

static int run_reap(void)
{
	return fnd_segment_reap(seg, NULL);
}

#define CONTEXT .note = context_note, .check = context_check
#define FLAGS .note = flags_note, .check = flags_check

const struct operation operations[] = {
	{ "insert", new_key, NULL, .run = run_insert },
	{ "insert-chain", chain_full, NULL, .run = run_insert },
	{ "growth", growth_due, NULL, .run = run_insert },
	{ "replace", old_key, NULL, .run = run_replace },
	{ "replace-reused", batch_ready, NULL, .run = run_replace },
	{ "delete", old_key, NULL, .run = run_delete },
	{ "lookup", old_key, NULL, .run = run_lookup },
	{ "retire-reclaim", batch_ready, NULL, .run = run_quiesce },
	{ "table-create", NULL, NULL, .run = run_create },
	{ "registry-register", NULL, NULL, .run = run_register },
	{ "registry-update", NULL, NULL, .run = run_update },
	{ "registry-unregister", name_marked, NULL, .run = run_unregister, .stride = 41 }, /* asks the kernel */
	{ "dedup-claim", NULL, NULL, .run = run_dedup },
	{ "slot-claim", NULL, leave, .run = run_claim },
	{ "reap", NULL, NULL, .run = run_reap, .stride = 97 }, /* reads /proc: what it says there differs, and its length */
	{ "detach", NULL, NULL, .run = run_detach },
	{ "context-set", NULL, context_first, .run = run_context_set, CONTEXT },
	{ "context-set-full", NULL, context_first_full, .run = run_context_set, CONTEXT, .stride = 3 },
	{ "context-begin", NULL, context_first, .run = run_context_begin, CONTEXT },
	{ "context-end", NULL, context_first, .run = run_context_end, CONTEXT },
	{ "context-crumb", NULL, context_first, .run = run_context_crumb, CONTEXT },
	{ "context-share", NULL, context_first_private, .run = run_context_share, CONTEXT },
	{ "context-unshare", NULL, context_first, .run = run_context_unshare, CONTEXT },
	{ "flags-change", flags_prepare, flags_first, .run = run_flags_change, FLAGS, .stride = 41 },
	{ "flags-rollback", flags_prepare, flags_first, .run = run_flags_rollback, FLAGS, .stride = 41 },
	{ "rollback-emergency", flags_prepare, NULL, .run = run_flags_emergency, FLAGS, .stride = 397 },
};
const unsigned int noperations = sizeof(operations) / sizeof(operations[0]);
