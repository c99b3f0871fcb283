/* SPDX-License-Identifier: MIT */
/*
 * The peer: liburcu's lock-free hash table inside one process, over whichever flavour of RCU the
 * including file has chosen. That file defines PEER (the contender), PEER_NAME and PEER_SCHEME, and has
 * included <urcu.h> or <urcu-qsbr.h>, with or without _LGPL_SOURCE.
 *
 * Given its best: as many buckets as entries from the start and never fewer, no resizing (but where
 * growth is what is measured), no counting of nodes. Nodes come from malloc: aligning them to cache lines
 * makes no lookup faster that could be told from noise, and a replace 1.5 to 2.5 times slower. A node
 * that gave way is freed by call_rcu, whose thread runs beside the workers; waiting for it is not timed.
 */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <urcu/rculfhash.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "bench_util.h"

/* Flavours whose readers announce quiescent states do so every so many accesses; the others never. */
#define QUIESCENT_EVERY 64

struct entry {
	struct cds_lfht_node node;
	struct bench_key key; /* beside the node: a lookup compares it in the line it already has */
	struct bench_value value;
	struct rcu_head head;
};

struct peer_table {
	struct cds_lfht *ht;
	unsigned long buckets; /* at the start */
};

static unsigned long hash_of(const struct bench_key *key)
{
	return XXH3_64bits_withSeed(key, sizeof(*key), BENCH_HASH_SEED);
}

static int match(struct cds_lfht_node *node, const void *key)
{
	const struct entry *e = caa_container_of(node, struct entry, node);

	return memcmp(&e->key, key, sizeof(e->key)) == 0;
}

static void free_entry(struct rcu_head *head)
{
	free(caa_container_of(head, struct entry, head));
}

static inline struct entry *entry_new(const struct bench_key *key, uint64_t generation)
{
	struct entry *e = malloc(sizeof(*e));

	if (!e)
		return NULL;
	e->key = *key;
	bench_value_of(key, generation, &e->value);
	return e;
}

static inline int replace(struct peer_table *t, const struct bench_key *key, uint64_t generation)
{
	struct entry *e = entry_new(key, generation);
	struct cds_lfht_node *old;

	if (!e)
		return -ENOMEM;
	rcu_read_lock();
	old = cds_lfht_add_replace(t->ht, hash_of(key), match, key, &e->node);
	rcu_read_unlock();
	if (!old)
		return -ENOENT;
	call_rcu(&caa_container_of(old, struct entry, node)->head, free_entry);
	return 0;
}

static inline int add(struct peer_table *t, const struct bench_key *key, uint64_t generation)
{
	struct entry *e = entry_new(key, generation);
	struct cds_lfht_node *there;

	if (!e)
		return -ENOMEM;
	rcu_read_lock();
	there = cds_lfht_add_unique(t->ht, hash_of(key), match, key, &e->node);
	rcu_read_unlock();
	if (there == &e->node)
		return 0;
	free(e);
	return -EEXIST;
}

static inline int del(struct peer_table *t, const struct bench_key *key)
{
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;
	int err = -ENOENT;

	rcu_read_lock();
	cds_lfht_lookup(t->ht, hash_of(key), match, key, &iter);
	node = cds_lfht_iter_get_node(&iter);
	if (node)
		err = cds_lfht_del(t->ht, node);
	rcu_read_unlock();
	if (!err)
		call_rcu(&caa_container_of(node, struct entry, node)->head, free_entry);
	return err;
}

/* Inside a read section. */
static inline int copy_out(struct peer_table *t, const struct bench_key *key,
			   struct bench_value *ret_value)
{
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;

	cds_lfht_lookup(t->ht, hash_of(key), match, key, &iter);
	node = cds_lfht_iter_get_node(&iter);
	if (!node)
		return -ENOENT;
	*ret_value = caa_container_of(node, struct entry, node)->value;
	return 0;
}

static inline int get(struct peer_table *t, const struct bench_key *key,
		      struct bench_value *ret_value)
{
	int err;

	rcu_read_lock();
	err = copy_out(t, key, ret_value);
	rcu_read_unlock();
	return err;
}

static void peer_destroy(void *table)
{
	struct peer_table *t = table;
	struct cds_lfht_iter iter;
	struct entry *e;

	rcu_register_thread();
	rcu_read_lock();
	cds_lfht_for_each_entry(t->ht, &iter, e, node) {
		cds_lfht_del(t->ht, &e->node);
		call_rcu(&e->head, free_entry);
	}
	rcu_read_unlock();
	rcu_unregister_thread();
	rcu_barrier();
	cds_lfht_destroy(t->ht, NULL);
	free(t);
}

static unsigned long power_of_2(uint64_t n)
{
	unsigned long size = 1;

	while (size < n)
		size *= 2;
	return size;
}

static struct cds_lfht *new_table(const struct bench_data *data, unsigned long size)
{
	if (!data->grows_to)
		return cds_lfht_new_flavor(size, size, size, 0, &rcu_flavor, NULL);
	return cds_lfht_new_flavor(size, size, power_of_2(data->grows_to), CDS_LFHT_AUTO_RESIZE,
				   &rcu_flavor, NULL);
}

static int peer_create(const struct bench_data *data, void **ret_table)
{
	struct peer_table *t = calloc(1, sizeof(*t));
	int err = 0;

	if (t) {
		t->buckets = power_of_2(data->entries);
		t->ht = new_table(data, t->buckets);
	}
	if (!t || !t->ht) {
		free(t);
		return -ENOMEM;
	}
	rcu_register_thread();
	for (uint64_t i = 0; i < data->entries && !err && !bench_interrupted; i++) {
		struct bench_key key = bench_key_of(i);

		err = add(t, &key, 0);
		if (i % QUIESCENT_EVERY == 0)
			rcu_quiescent_state();
	}
	rcu_unregister_thread();
	if (err) {
		peer_destroy(t);
		return err;
	}
	*ret_table = t;
	return 0;
}

/* From here until wake() no grace period waits for this thread. */
static void peer_rest(void *self)
{
	(void)self;
	rcu_thread_offline();
}

static void peer_wake(void *self)
{
	(void)self;
	rcu_thread_online();
}

static int peer_join(void *table, void **ret_self)
{
	rcu_register_thread();
	peer_rest(table);
	*ret_self = table;
	return 0;
}

static void peer_leave(void *self)
{
	(void)self;
	rcu_unregister_thread();
}

static int peer_run(void *self, const struct bench_work *work, uint64_t *ret_sum)
{
	struct peer_table *t = self;
	struct bench_value value;
	uint64_t sum = 0;

	for (size_t i = 0; i < work->count; i++) {
		const struct bench_key *key = &work->keys[i];
		bool write = work->coins[i] < work->write_percent;
		int err = write ? replace(t, key, work->generation) : get(t, key, &value);

		if (err)
			return err;
		if (!write)
			sum += bench_consume(&value);
		if (i % QUIESCENT_EVERY == 0)
			rcu_quiescent_state();
	}
	rcu_quiescent_state();
	*ret_sum = sum;
	return 0;
}

/* There is no batch here: as many lookups in one read section. */
static int peer_batch(void *self, const struct bench_work *work, uint64_t *ret_sum)
{
	struct bench_value value[BENCH_BATCH];
	uint64_t sum = 0;
	int err = 0;

	for (size_t i = 0; i < work->count; i += BENCH_BATCH) {
		size_t n = work->count - i < BENCH_BATCH ? work->count - i : BENCH_BATCH;

		rcu_read_lock();
		for (size_t k = 0; k < n && !err; k++)
			err = copy_out(self, &work->keys[i + k], &value[k]);
		rcu_read_unlock();
		if (err)
			return err;
		for (size_t k = 0; k < n; k++)
			sum += bench_consume(&value[k]);
		if (i % QUIESCENT_EVERY == 0)
			rcu_quiescent_state();
	}
	rcu_quiescent_state();
	*ret_sum = sum;
	return 0;
}

static int peer_insert(void *self, const struct bench_key *keys, size_t count, uint64_t generation)
{
	int err = 0;

	for (size_t i = 0; i < count && !err; i++) {
		err = add(self, &keys[i], generation);
		if (i % QUIESCENT_EVERY == 0)
			rcu_quiescent_state();
	}
	return err;
}

static int peer_remove(void *self, const struct bench_key *keys, size_t count)
{
	int err = 0;

	for (size_t i = 0; i < count && !err; i++) {
		err = del(self, &keys[i]);
		if (i % QUIESCENT_EVERY == 0)
			rcu_quiescent_state();
	}
	return err;
}

static int peer_lookup(void *self, const struct bench_key *key, struct bench_value *ret_value)
{
	int err = get(self, key, ret_value);

	rcu_quiescent_state();
	return err;
}

static void peer_settle(void *self)
{
	(void)self;
	rcu_barrier();
}

static int peer_sections(void *self, uint64_t count)
{
	(void)self;
	for (uint64_t i = 0; i < count; i++) {
		rcu_read_lock();
		__asm__ volatile("" : : : "memory"); /* a section that is nothing is not left out whole */
		rcu_read_unlock();
	}
	return 0;
}

static int peer_grace(void *table)
{
	(void)table;
	synchronize_rcu();
	return 0;
}

/* Nodes with malloc's own word, and the buckets. */
static int peer_bytes(void *table, uint64_t *ret_bytes, uint64_t *ret_records)
{
	struct peer_table *t = table;
	struct cds_lfht_iter iter;
	struct entry *e;
	uint64_t bytes = t->buckets * sizeof(struct cds_lfht_node), records = 0;

	rcu_register_thread();
	rcu_read_lock();
	cds_lfht_for_each_entry(t->ht, &iter, e, node) {
		bytes += malloc_usable_size(e) + sizeof(size_t);
		records++;
	}
	rcu_read_unlock();
	rcu_unregister_thread();
	*ret_bytes = bytes;
	*ret_records = records;
	return 0;
}

const struct bench_contender PEER = {
	.name = PEER_NAME,
	.scheme = PEER_SCHEME,
	.create = peer_create,
	.destroy = peer_destroy,
	.join = peer_join,
	.leave = peer_leave,
	.wake = peer_wake,
	.rest = peer_rest,
	.run = peer_run,
	.batch = peer_batch,
	.insert = peer_insert,
	.remove = peer_remove,
	.lookup = peer_lookup,
	.sections = peer_sections,
	.settle = peer_settle,
	.grace = peer_grace,
	.bytes = peer_bytes,
};
