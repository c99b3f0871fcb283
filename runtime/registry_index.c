// SPDX-License-Identifier: MIT
/*
 * The index of attributes: for each value of an indexed attribute the names that have it.
 *
 * Terms. *Entry*: a name and the generation of the change that put it in. *Chunk*: a record of the table
 * "agents.index" with the entries of one value that fit. *Split*: said of a chunk that was full once; it has two
 * chunks below it. A name goes into the first chunk with room on the path that its hash takes from chunk 1 on:
 * chunk c, then 2c or 2c + 1.
 *
 * Guarantees.
 *  A. For every value that a record has there is an entry in the index, from before the record is published
 *     until after it is gone. A walk from chunk 1 down the split ones meets it: entries do not move.
 *  B. Entries that lead nowhere are harmless: who finds looks at the record. A kill leaves at most those, and
 *     fnd_index_sweep() takes them out.
 *  C. An entry is taken out by its own change, when it failed, or by a later one that does not have the value:
 *     never one of a later change. So a change that was overtaken cannot take out what is true now.
 * Cost: adding and dropping log2 of the number of chunks; a walk a lookup a chunk.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include <foundation/atomic.h>
#include <foundation/query.h>

#include "registry_internal.h"

#define CHUNK_BYTES 320
#define DEPTH_MAX 40
#define TEXT_MAX 40 /* longer values are keys by their hash */
#define KEY_MAX (FND_ATTRIBUTE_NAME_MAX + 1 + 1 + TEXT_MAX + 8)
#define ENTRY_HEAD 9 /* generation 8, bytes of the name 1 */
#define OLD_US 60000000u /* an entry of a change that has not come after this long is of the dead */

struct chunk {
	uint16_t used; /* bytes of entries */
	uint8_t split;
	uint8_t reserved;
	unsigned char entries[CHUNK_BYTES - 4];
};
_Static_assert(sizeof(struct chunk) == CHUNK_BYTES, "part of the segment's format");

struct key {
	size_t base; /* bytes before the number of the chunk */
	unsigned char bytes[KEY_MAX];
};

/* --- keys ------------------------------------------------------------------------------------------ */

static void key_put(struct key *k, const void *bytes, size_t n)
{
	memcpy(k->bytes + k->base, bytes, n);
	k->base += n;
}

static void key_number(struct key *k, const struct fnd_value *v)
{
	uint64_t u = v->v.u;
	char sign = v->type == FND_VALUE_INT && v->v.i < 0 ? '-' : '+';

	if (v->type == FND_VALUE_DOUBLE) { /* a whole number is that number */
		double d = v->v.d;

		if (d >= 0 && d < 18446744073709551616.0 && (double)(uint64_t)d == d) {
			u = (uint64_t)d;
		} else if (d < 0 && d >= -9223372036854775808.0 && (double)(int64_t)d == d) {
			u = (uint64_t)(int64_t)d;
			sign = '-';
		} else {
			sign = '.';
		}
	}
	key_put(k, &sign, 1);
	key_put(k, &u, sizeof(u));
}

/* Values that are equal have the same key. False: such a value is equal to none. */
static bool key_make(struct key *k, const char *attribute, const struct fnd_value *v)
{
	static const char kind[] = { 'n', 'b', 'i', 'i', 'i', 's', 'x' };
	char c;

	k->base = 0;
	if (v->type > FND_VALUE_BIN)
		return false;
	key_put(k, attribute, strlen(attribute) + 1);
	c = kind[v->type];
	if (c == 'i') {
		key_number(k, v);
	} else if (c == 'n') {
		key_put(k, &c, 1);
	} else if (c == 'b') {
		c = v->v.u & 1 ? 't' : 'f';
		key_put(k, &c, 1);
	} else if (v->bytes <= TEXT_MAX) {
		key_put(k, &c, 1);
		key_put(k, v->v.text, v->bytes);
	} else {
		XXH128_hash_t h = XXH3_128bits(v->v.text, v->bytes);

		c = (char)(c - 'a' + 'A');
		key_put(k, &c, 1);
		key_put(k, &h, sizeof(h));
	}
	return true;
}

static size_t key_of_chunk(struct key *k, uint64_t chunk)
{
	memcpy(k->bytes + k->base, &chunk, sizeof(chunk));
	return k->base + sizeof(chunk);
}

/* --- chunks ---------------------------------------------------------------------------------------- */

/* A private copy, with lengths that can be trusted. */
static void chunk_read(struct chunk *c, const void *bytes, size_t n)
{
	memset(c, 0, offsetof(struct chunk, entries));
	if (!bytes || n < offsetof(struct chunk, entries) || n > sizeof(*c))
		return;
	memcpy(c, bytes, n);
	if (c->used > n - offsetof(struct chunk, entries))
		c->used = (uint16_t)(n - offsetof(struct chunk, entries));
}

/* Bytes of the entry at @at, 0: none. */
static size_t entry_at(const struct chunk *c, size_t at, uint64_t *ret_generation, const unsigned char **ret_name,
		       size_t *ret_n)
{
	size_t n;

	if (at + ENTRY_HEAD > c->used)
		return 0;
	n = c->entries[at + 8];
	if (n == 0 || n > c->used - at - ENTRY_HEAD)
		return 0;
	memcpy(ret_generation, c->entries + at, 8);
	*ret_name = c->entries + at + ENTRY_HEAD;
	*ret_n = n;
	return ENTRY_HEAD + n;
}

struct edit {
	const void *name;
	size_t n;
	uint64_t generation;
	bool exact; /* of this change only; else of it and all before */
	struct chunk c;
	bool done, go_on;
};

static enum fnd_modify chunk_put(struct edit *e, const void **new_value, size_t *new_bytes)
{
	*new_value = &e->c;
	*new_bytes = offsetof(struct chunk, entries) + e->c.used;
	return FND_MODIFY_PUT;
}

static enum fnd_modify entry_add(void *arg, const void *old, size_t old_bytes, const void **new_value,
				 size_t *new_bytes)
{
	struct edit *e = arg;
	unsigned char *at;

	chunk_read(&e->c, old, old_bytes);
	e->done = e->c.used + ENTRY_HEAD + e->n <= sizeof(e->c.entries);
	if (!e->done) {
		if (e->c.split)
			return FND_MODIFY_KEEP;
		e->c.split = 1;
		return chunk_put(e, new_value, new_bytes);
	}
	at = e->c.entries + e->c.used;
	memcpy(at, &e->generation, 8);
	at[8] = (unsigned char)e->n;
	memcpy(at + ENTRY_HEAD, e->name, e->n);
	e->c.used = (uint16_t)(e->c.used + ENTRY_HEAD + e->n);
	return chunk_put(e, new_value, new_bytes);
}

static bool entry_goes(const struct edit *e, uint64_t generation, const unsigned char *name, size_t n)
{
	return n == e->n && memcmp(name, e->name, n) == 0 &&
	       (e->exact ? generation == e->generation : generation <= e->generation);
}

static enum fnd_modify entry_drop(void *arg, const void *old, size_t old_bytes, const void **new_value,
				  size_t *new_bytes)
{
	struct edit *e = arg;
	const unsigned char *name;
	size_t at = 0, bytes, n;
	uint64_t generation;

	chunk_read(&e->c, old, old_bytes);
	e->go_on = e->c.split;
	e->done = false;
	while ((bytes = entry_at(&e->c, at, &generation, &name, &n)) != 0) {
		if (!entry_goes(e, generation, name, n)) {
			at += bytes;
			continue;
		}
		memmove(e->c.entries + at, e->c.entries + at + bytes, e->c.used - at - bytes);
		e->c.used = (uint16_t)(e->c.used - bytes);
		e->done = true;
	}
	if (!e->done)
		return FND_MODIFY_KEEP;
	return e->c.used || e->c.split ? chunk_put(e, new_value, new_bytes) : FND_MODIFY_DELETE;
}

/* The next chunk on the path of a name. */
static uint64_t below(uint64_t chunk, uint64_t hash, unsigned int depth)
{
	return 2 * chunk + (hash >> depth & 1);
}

static int key_add(struct fnd_registry *reg, struct key *k, struct edit *e)
{
	uint64_t hash = XXH3_64bits(e->name, e->n), chunk = 1;

	for (unsigned int depth = 0; depth < DEPTH_MAX; depth++) {
		int r = fnd_table_modify(reg->index, k->bytes, key_of_chunk(k, chunk), entry_add, e);

		if (r < 0 || e->done)
			return r < 0 ? r : 0;
		chunk = below(chunk, hash, depth);
	}
	return -ENOSPC;
}

static bool key_drop(struct fnd_registry *reg, struct key *k, struct edit *e)
{
	uint64_t hash = XXH3_64bits(e->name, e->n), chunk = 1;
	bool any = false;

	e->go_on = true;
	for (unsigned int depth = 0; depth < DEPTH_MAX && e->go_on; depth++) {
		if (fnd_table_modify(reg->index, k->bytes, key_of_chunk(k, chunk), entry_drop, e) < 0)
			break;
		any |= e->done;
		chunk = below(chunk, hash, depth);
	}
	return any;
}

static int chunk_get(struct fnd_registry *reg, struct key *k, uint64_t chunk, struct chunk *ret)
{
	unsigned char bytes[CHUNK_BYTES];
	size_t n;
	int err = fnd_table_lookup(reg->index, k->bytes, key_of_chunk(k, chunk), bytes, sizeof(bytes), &n);

	if (!err)
		chunk_read(ret, bytes, n);
	return err;
}

/* Is there an entry for this record, whichever change of it put it in? */
static bool key_has(struct fnd_registry *reg, struct key *k, const void *name, size_t n)
{
	uint64_t hash = XXH3_64bits(name, n), chunk = 1, generation;
	const unsigned char *other;
	struct chunk c;
	size_t bytes, m;

	for (unsigned int depth = 0; depth < DEPTH_MAX; depth++) {
		if (chunk_get(reg, k, chunk, &c) != 0)
			return false;
		for (size_t at = 0; (bytes = entry_at(&c, at, &generation, &other, &m)) != 0; at += bytes)
			if (m == n && memcmp(other, name, n) == 0)
				return true;
		if (!c.split)
			return false;
		chunk = below(chunk, hash, depth);
	}
	return false;
}

/* --- what a record says ---------------------------------------------------------------------------- */

struct saying {
	struct fnd_registry *reg;
	const struct fnd_indexed *a;
	const struct fnd_shm_agent_max *other; /* values it has too are passed over */
	struct edit e;
	enum { ADD, DROP, FILL } what;
	uint32_t count;
};

static bool has_value(const struct fnd_shm_agent_max *v, const char *attribute, const struct fnd_value *value)
{
	struct fnd_criterion c = { .attribute = attribute, .op = FND_CRITERION_EQ, .nvalues = 1, .values = value };

	return v && fnd_query_match(&c, 1, v->metadata, v->e.metadata_bytes);
}

static int say_value(const struct fnd_value *v, void *arg)
{
	struct saying *s = arg;
	struct key k;
	int err = 0;

	if (!key_make(&k, s->a->name, v) || has_value(s->other, s->a->name, v))
		return 0;
	if (s->what == DROP)
		s->count += key_drop(s->reg, &k, &s->e);
	else if (s->what == ADD || !key_has(s->reg, &k, s->e.name, s->e.n))
		err = key_add(s->reg, &k, &s->e), s->count += err == 0;
	return err;
}

static int say(struct saying *s, const struct fnd_shm_agent_max *v)
{
	uint32_t n = fnd_load_acquire(&s->reg->nindexed); /* [RG-3] pairs with attribute_known */
	int err = 0;

	s->e.generation = v->e.generation;
	for (uint32_t i = 0; i < n && !err; i++) {
		struct fnd_value value;

		s->a = &s->reg->indexed[i];
		if (fnd_attribute_get(v->metadata, v->e.metadata_bytes, s->a->name, &value))
			err = fnd_attribute_each(&value, say_value, s);
	}
	return err;
}

int fnd_index_add(struct fnd_registry *reg, const void *name, size_t n, const struct fnd_shm_agent_max *v,
		  const struct fnd_shm_agent_max *old)
{
	struct saying s = { .reg = reg, .other = old, .e = { .name = name, .n = n }, .what = ADD };
	int err = say(&s, v);

	if (err)
		fnd_index_undo(reg, name, n, v);
	return err;
}

void fnd_index_undo(struct fnd_registry *reg, const void *name, size_t n, const struct fnd_shm_agent_max *v)
{
	struct saying s = { .reg = reg, .e = { .name = name, .n = n, .exact = true }, .what = DROP };

	say(&s, v);
}

void fnd_index_drop(struct fnd_registry *reg, const void *name, size_t n, const struct fnd_shm_agent_max *v,
		    const struct fnd_shm_agent_max *kept)
{
	struct saying s = { .reg = reg, .other = kept, .e = { .name = name, .n = n }, .what = DROP };

	say(&s, v);
}

/* --- walking --------------------------------------------------------------------------------------- */

int fnd_index_walk(struct fnd_registry *reg, unsigned int attribute, const struct fnd_value *value,
		   int (*fn)(const char *name, size_t n, void *arg), void *arg)
{
	uint64_t todo[DEPTH_MAX + 2], generation;
	const unsigned char *name;
	size_t at, bytes, n, top = 1;
	struct chunk c;
	struct key k;
	int err = 0;

	if (!key_make(&k, reg->indexed[attribute].name, value))
		return 0;
	todo[0] = 1;
	while (top && !err) {
		uint64_t chunk = todo[--top];

		err = chunk_get(reg, &k, chunk, &c);
		if (err) {
			err = err == -ENOENT ? 0 : err;
			continue;
		}
		for (at = 0; !err && (bytes = entry_at(&c, at, &generation, &name, &n)) != 0; at += bytes)
			err = fn((const char *)name, n, arg);
		if (c.split && chunk >> DEPTH_MAX == 0 && top + 2 <= sizeof(todo) / sizeof(todo[0])) {
			todo[top++] = 2 * chunk;
			todo[top++] = 2 * chunk + 1;
		}
	}
	return err;
}

struct filling {
	struct saying s;
	int err;
};

static int fill_one(const struct fnd_record *r, void *arg)
{
	struct filling *f = arg;
	struct fnd_shm_agent_max v;

	if (fnd_agent_read(r->value, r->value_bytes, &v) || v.e.owner.reserved)
		return 0;
	f->s.e.name = r->key;
	f->s.e.n = r->key_bytes;
	return say(&f->s, &v);
}

int fnd_index_fill(struct fnd_registry *reg, uint32_t *ret_added)
{
	struct filling f = { .s = { .reg = reg, .what = FILL } };
	int err = reg->nindexed ? fnd_table_iterate(reg->table, 0, fill_one, &f) : 0;

	*ret_added = f.s.count;
	return err;
}

/* --- entries that lead nowhere --------------------------------------------------------------------- */

struct sweeping {
	struct fnd_registry *reg;
	uint64_t now_us; /* as generations count */
	uint32_t dropped;
};

/* Does the record, as it is now, make this entry good, or may a change that does be under way? */
static bool leads_somewhere(struct sweeping *s, const char *attribute, const struct key *k, const void *name, size_t n,
			    uint64_t generation)
{
	unsigned char bytes[sizeof(struct fnd_shm_agent_max)];
	struct fnd_shm_agent_max v = { 0 };
	size_t got;
	bool there = fnd_table_lookup(s->reg->table, name, n, bytes, sizeof(bytes), &got) == 0 &&
		     fnd_agent_read(bytes, got, &v) == 0;

	if (there && v.e.generation >= generation) {
		struct fnd_value value;
		struct key own;

		if (!fnd_attribute_get(v.metadata, v.e.metadata_bytes, attribute, &value))
			return false;
		if (value.type == FND_VALUE_RAW)
			return true; /* an array: it may be one of its values */
		return key_make(&own, attribute, &value) && own.base == k->base &&
		       memcmp(own.bytes, k->bytes, k->base) == 0;
	}
	return (generation >> 13) + OLD_US > s->now_us;
}

static int sweep_one(const struct fnd_record *r, void *arg)
{
	struct sweeping *s = arg;
	struct edit e = { .exact = true };
	const unsigned char *name;
	const char *attribute = r->key;
	struct chunk c;
	struct key k;
	size_t bytes;

	if (r->key_bytes <= 8 + 2 || attribute[0] == '\0' || !memchr(attribute, '\0', r->key_bytes - 8))
		return 0;
	k.base = r->key_bytes - 8;
	memcpy(k.bytes, r->key, k.base);
	chunk_read(&c, r->value, r->value_bytes);
	for (size_t at = 0; (bytes = entry_at(&c, at, &e.generation, &name, &e.n)) != 0; at += bytes) {
		if (leads_somewhere(s, attribute, &k, name, e.n, e.generation))
			continue;
		e.name = name; /* in our copy; the edit has one of its own */
		s->dropped += key_drop(s->reg, &k, &e);
	}
	return 0;
}

int fnd_index_sweep(struct fnd_registry *reg, uint32_t *ret_dropped)
{
	struct sweeping s = { .reg = reg, .now_us = fnd_generation_us() };
	int err = reg->nindexed ? fnd_table_iterate(reg->index, 0, sweep_one, &s) : 0;

	*ret_dropped = s.dropped;
	return err;
}
