// SPDX-License-Identifier: MIT
/*
 * The peer: liburcu's lock-free hash table, memb flavour, inside one process.
 *
 * Given its best: as many buckets as entries from the start and never fewer, no resizing, no counting of
 * nodes, read sections inlined (_LGPL_SOURCE). Nodes come from malloc: aligning them to cache lines makes
 * no lookup faster that could be told from noise, and a replace 1.5 to 2.5 times slower. A replaced node
 * is freed by call_rcu, whose thread runs beside the workers; waiting for it is not timed.
 */
#define _LGPL_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <urcu/urcu-memb.h>
#include <urcu/rculfhash.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "bench_util.h"

struct entry {
	struct cds_lfht_node node;
	struct bench_key key; /* beside the node: a lookup compares it in the line it already has */
	struct bench_value value;
	struct rcu_head head;
};

struct peer_table {
	struct cds_lfht *ht;
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

/* Inserts or replaces; an entry that gave way is freed after a grace period. */
static int put(struct peer_table *t, const struct bench_key *key, uint64_t generation)
{
	struct cds_lfht_node *old;
	struct entry *e = malloc(sizeof(*e));

	if (!e)
		return -ENOMEM;
	e->key = *key;
	bench_value_of(key, generation, &e->value);
	urcu_memb_read_lock();
	old = cds_lfht_add_replace(t->ht, hash_of(key), match, key, &e->node);
	urcu_memb_read_unlock();
	if (old)
		urcu_memb_call_rcu(&caa_container_of(old, struct entry, node)->head, free_entry);
	return 0;
}

static inline int get(struct peer_table *t, const struct bench_key *key, struct bench_value *value)
{
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;

	urcu_memb_read_lock();
	cds_lfht_lookup(t->ht, hash_of(key), match, key, &iter);
	node = cds_lfht_iter_get_node(&iter);
	if (node)
		*value = caa_container_of(node, struct entry, node)->value;
	urcu_memb_read_unlock();
	return node ? 0 : -ENOENT;
}

static void peer_destroy(void *table)
{
	struct peer_table *t = table;
	struct cds_lfht_iter iter;
	struct entry *e;

	urcu_memb_register_thread();
	urcu_memb_read_lock();
	cds_lfht_for_each_entry(t->ht, &iter, e, node) {
		cds_lfht_del(t->ht, &e->node);
		urcu_memb_call_rcu(&e->head, free_entry);
	}
	urcu_memb_read_unlock();
	urcu_memb_unregister_thread();
	urcu_memb_barrier();
	cds_lfht_destroy(t->ht, NULL);
	free(t);
}

static int peer_create(const struct bench_data *data, void **ret_table)
{
	struct peer_table *t = calloc(1, sizeof(*t));
	unsigned long size = 1;
	int err = 0;

	while (size < data->entries)
		size *= 2;
	if (t)
		t->ht = cds_lfht_new_flavor(size, size, size, 0, &urcu_memb_flavor, NULL);
	if (!t || !t->ht) {
		free(t);
		return -ENOMEM;
	}
	urcu_memb_register_thread();
	for (uint64_t i = 0; i < data->entries && !err && !bench_interrupted; i++) {
		struct bench_key key = bench_key_of(i);

		err = put(t, &key, 0);
	}
	urcu_memb_unregister_thread();
	if (err) {
		peer_destroy(t);
		return err;
	}
	*ret_table = t;
	return 0;
}

static int peer_join(void *table, void **ret_self)
{
	urcu_memb_register_thread();
	*ret_self = table;
	return 0;
}

static void peer_leave(void *self)
{
	(void)self;
	urcu_memb_unregister_thread();
}

static int peer_run(void *self, const struct bench_work *work, uint64_t *ret_sum)
{
	struct peer_table *t = self;
	struct bench_value value;
	uint64_t sum = 0;

	for (size_t i = 0; i < work->count; i++) {
		const struct bench_key *key = &work->keys[i];
		bool write = work->coins[i] < work->write_percent;
		int err = write ? put(t, key, work->generation) : get(t, key, &value);

		if (err)
			return err;
		if (!write)
			sum += bench_consume(&value);
	}
	*ret_sum = sum;
	return 0;
}

static int peer_lookup(void *self, const struct bench_key *key, struct bench_value *ret_value)
{
	return get(self, key, ret_value);
}

static void peer_settle(void *self)
{
	(void)self;
	urcu_memb_barrier();
}

/* Through the library's functions, as a program without _LGPL_SOURCE has them. */
static int peer_sections(void *self, uint64_t count)
{
	void (*lock)(void) = urcu_memb_flavor.read_lock;
	void (*unlock)(void) = urcu_memb_flavor.read_unlock;

	(void)self;
	for (uint64_t i = 0; i < count; i++) {
		lock();
		unlock();
	}
	return 0;
}

static int peer_sections_inline(void *self, uint64_t count)
{
	(void)self;
	for (uint64_t i = 0; i < count; i++) {
		urcu_memb_read_lock();
		urcu_memb_read_unlock();
	}
	return 0;
}

static int peer_grace(void *table)
{
	(void)table;
	urcu_memb_synchronize_rcu();
	return 0;
}

const struct bench_contender bench_lfht = {
	.name = "lfht",
	.create = peer_create,
	.destroy = peer_destroy,
	.join = peer_join,
	.leave = peer_leave,
	.run = peer_run,
	.lookup = peer_lookup,
	.sections = peer_sections,
	.settle = peer_settle,
	.grace = peer_grace,
};

/* Joins a table of bench_lfht. */
const struct bench_contender bench_urcu_inline = {
	.name = "urcu-memb-inline",
	.join = peer_join,
	.leave = peer_leave,
	.run = peer_run,
	.lookup = peer_lookup,
	.sections = peer_sections_inline,
};
