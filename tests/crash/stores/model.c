// SPDX-License-Identifier: MIT
/* What tables held before and after an operation, and what an open read section may be looking at. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "check.h"
#include "hooks.h"

struct model model;

struct capture {
	uint32_t table;
	bool after;
};

static int capture_one(const struct fnd_record *r, void *arg)
{
	struct capture *c = arg;
	struct model_entry *e = model.entry;

	while (e < model.entry + model.nentries && !(e->table == c->table && e->key_bytes == r->key_bytes &&
						     memcmp(e->key, r->key, r->key_bytes) == 0))
		e++;
	if (e == model.entry + UNION_MAX || r->value_bytes > VALUE_MAX)
		return -E2BIG;
	if (e == model.entry + model.nentries) {
		model.nentries++;
		e->table = c->table;
		e->key_bytes = (uint32_t)r->key_bytes;
		e->before_bytes = e->after_bytes = -1;
		memcpy(e->key, r->key, r->key_bytes);
	}
	memcpy(c->after ? e->after : e->before, r->value, r->value_bytes);
	*(c->after ? &e->after_bytes : &e->before_bytes) = (int)r->value_bytes;
	return 0;
}

static void capture(bool after)
{
	bool *exists = after ? model.table_after : model.table_before;

	world_reset(RESCUER);
	world_act(RESCUER);
	for (uint32_t i = 0; i < TABLES_MAX; i++) {
		struct capture c = { i, after };
		struct fnd_table t;

		exists[i] = fnd_table_bind(w.actor[RESCUER].seg, i, &t) == 0;
		if (exists[i] && fnd_table_iterate(&t, 0, capture_one, &c) != 0) {
			fprintf(stderr, "stores: the model does not hold table %u\n", i);
			exit(2);
		}
	}
	world_act(FOUNDER);
}

void model_before(void)
{
	model.nentries = 0;
	capture(false);
}

void model_after(void)
{
	capture(true);
}

void model_free(void)
{
	model.nentries = 0;
}

static void hold(uint64_t off, uint32_t bytes)
{
	struct held *h = &w.held[w.nheld];

	if (w.nheld == HELD_MAX)
		return;
	h->off = (uint32_t)off;
	h->bytes = bytes < sizeof(h->copy) ? bytes : sizeof(h->copy);
	memcpy(h->copy, hooks_base + off, h->bytes);
	w.nheld++;
}

static struct fnd_shm_record *hold_record(uint64_t off)
{
	struct fnd_shm_record *r = fnd_record_at(w.table, off);

	if (r) { /* all but its link, which no reader looks at */
		hold(off, offsetof(struct fnd_shm_record, next));
		hold(off + sizeof(*r), fnd_value_off(r->lens & 0xff) + (r->lens >> 8));
	}
	return r;
}

static void hold_list(uint64_t off)
{
	struct fnd_shm_record *r;

	for (int i = 0; off && i < 200 && (r = hold_record(off)); i++)
		off = (uint64_t)r->next << 3;
}

static void hold_shard(uint32_t shard)
{
	struct fnd_shm_shard *sh = &w.table->shard[shard];
	struct fnd_index ix;

	if (fnd_index_open(w.table, shard, w.table->index[shard], &ix))
		return;
	for (uint64_t i = 0; i < (1ULL << ix.log2) + ix.overflow; i++)
		for (unsigned int k = 0; k < FND_BUCKET_SLOTS; k++)
			hold_record(ix.bucket[i].slot[k] & FND_OFF_MASK);
	/* What is retired and cannot be old enough to be handed out before the section ends. */
	hold_list(sh->open_head);
	for (unsigned int i = 0; i < FND_BATCHES; i++) {
		const struct fnd_shm_batch *b = &sh->batch[i];

		if (b->head && b->stamp >= w.actor[READER].th->slot->epoch >> 16)
			hold_list(b->head);
	}
	for (uint64_t off = sh->old_index; off;) {
		struct fnd_shm_span *span = (struct fnd_shm_span *)(hooks_base + off);

		for (uint32_t at = sizeof(*span); at + 64 <= span->bytes; at += 64)
			hold(off + at, 64);
		off = span->next;
	}
}

/* Records that can be reached now, and indexes that could be. Once when the section opens, once more later. */
void held_take(void)
{
	for (uint32_t i = 0; w.reader_open && w.table && i < w.table->shards; i++)
		hold_shard(i);
}

uint32_t held_broken(void)
{
	for (uint32_t i = 0; i < w.nheld; i++)
		if (memcmp(w.held[i].copy, hooks_base + w.held[i].off, w.held[i].bytes) != 0)
			return w.held[i].off;
	return 0;
}
