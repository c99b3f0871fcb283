// SPDX-License-Identifier: MIT
/*
 * Which attributes are indexed: records of the table "agents.index" whose keys begin with a NUL, numbered from 0.
 *
 * A new one is recorded first as being built; then a count in the area moves, so that every writer, in every
 * process, keeps the index from its next change on; then what was there before is put in; then it is complete,
 * and finds use it. A builder who dies leaves an attribute that is kept and not used; the next who opens with it
 * or ensures builds on.
 */
#include <errno.h>
#include <string.h>

#include <foundation/atomic.h>

#include "registry_internal.h"

#define CHUNK_BYTES 320
#define KEY_MAX (FND_ATTRIBUTE_NAME_MAX + 1 + 1 + 40 + 8)
#define AVERAGE 2 /* values an agent has of indexed attributes, in the capacity */

struct attribute {
	uint8_t complete;
	char name[FND_ATTRIBUTE_NAME_MAX + 1];
};

static int index_open(struct fnd_registry *reg, bool make)
{
	struct fnd_table_options opt = { .size = sizeof(opt), .key_max = KEY_MAX, .value_max = CHUNK_BYTES };
	struct fnd_table_stats names;
	int err;

	if (reg->index)
		return 0;
	err = fnd_table_stats_read(reg->table, &names);
	if (err)
		return err;
	opt.capacity = AVERAGE * names.capacity;
	err = fnd_table_open(reg->seg, FND_AGENTS_INDEX_TABLE, NULL, &reg->index);
	return err == -ENOENT && make ? fnd_table_open(reg->seg, FND_AGENTS_INDEX_TABLE, &opt, &reg->index) : err;
}

static int attribute_read(struct fnd_registry *reg, unsigned int i, struct attribute *ret)
{
	unsigned char key[2] = { 0, (unsigned char)i };
	size_t bytes;
	int err = fnd_table_lookup(reg->index, key, sizeof(key), ret, sizeof(*ret), &bytes);

	if (!err && (bytes != sizeof(*ret) || !memchr(ret->name, '\0', sizeof(ret->name)) || !ret->name[0]))
		err = fnd_error_set(FND_E_CORRUPT, "indexed attribute %u", i);
	return err;
}

/* Under the mutex. */
static void attribute_known(struct fnd_registry *reg, unsigned int i, const struct attribute *a)
{
	if (i == reg->nindexed) {
		memcpy(reg->indexed[i].name, a->name, sizeof(a->name));
		fnd_store_release(&reg->nindexed, i + 1); /* [RG-3] the name is there before it counts */
	}
	if (a->complete)
		fnd_store_release(&reg->indexed[i].complete, 1); /* [RG-3] */
}

static int load(struct fnd_registry *reg)
{
	uint32_t word = fnd_load_acquire(&reg->area->agents_indexed); /* [RG-1] pairs with indexed_bump */
	struct attribute a;
	int err = index_open(reg, false);

	for (unsigned int i = 0; !err && i < FND_INDEXED_MAX; i++) {
		err = attribute_read(reg, i, &a);
		if (!err)
			attribute_known(reg, i, &a);
	}
	if (err && err != -ENOENT)
		return err;
	fnd_store_release(&reg->index_seen, word); /* [RG-3] */
	return 0;
}

int fnd_index_refresh(struct fnd_registry *reg)
{
	int err = 0;

	if (fnd_load_acquire(&reg->index_seen) == fnd_load_acquire(&reg->area->agents_indexed)) /* [RG-1] [RG-3] */
		return 0;
	pthread_mutex_lock(&reg->loading);
	err = load(reg);
	pthread_mutex_unlock(&reg->loading);
	return err;
}

static void indexed_bump(struct fnd_registry *reg)
{
	fnd_fetch_add(&reg->area->agents_indexed, 1); /* [RG-1] the attribute is recorded before */
}

/* Its number, or an error. */
static int attribute_add(struct fnd_registry *reg, const char *name)
{
	struct attribute a = { 0 }, there;

	strcpy(a.name, name);
	for (unsigned int i = 0; i < FND_INDEXED_MAX; i++) {
		unsigned char key[2] = { 0, (unsigned char)i };
		int err = fnd_table_insert(reg->index, key, sizeof(key), &a, sizeof(a));

		if (err == -EEXIST)
			err = attribute_read(reg, i, &there);
		else if (!err)
			there = a;
		if (err)
			return err;
		if (strcmp(there.name, name) == 0)
			return (int)i;
	}
	return fnd_error_set(E2BIG, "%d attributes are indexed already", FND_INDEXED_MAX);
}

static int build(struct fnd_registry *reg)
{
	uint32_t added, n;
	int err;

	indexed_bump(reg); /* also when somebody else died just before */
	err = fnd_index_refresh(reg);
	n = reg->nindexed;
	if (!err)
		err = fnd_index_fill(reg, &added);
	for (unsigned int i = 0; i < n && !err; i++) {
		unsigned char key[2] = { 0, (unsigned char)i };
		struct attribute a = { .complete = 1 };

		memcpy(a.name, reg->indexed[i].name, sizeof(a.name));
		err = fnd_table_upsert(reg->index, key, sizeof(key), &a, sizeof(a));
	}
	if (err)
		return err;
	indexed_bump(reg);
	return fnd_index_refresh(reg);
}

int fnd_index_define(struct fnd_registry *reg, const char *const *attributes, uint32_t n)
{
	bool all = true;
	int err;

	for (uint32_t i = 0; i < n; i++)
		if (!fnd_attribute_valid(attributes[i]))
			return fnd_error_set(EINVAL, "an attribute's name has 1 to %d bytes", FND_ATTRIBUTE_NAME_MAX);
	pthread_mutex_lock(&reg->loading);
	err = index_open(reg, true);
	for (uint32_t i = 0; i < n && err >= 0; i++)
		err = attribute_add(reg, attributes[i]);
	if (err >= 0)
		err = load(reg);
	pthread_mutex_unlock(&reg->loading);
	for (uint32_t i = 0; i < n && !err; i++)
		all &= fnd_index_of(reg, attributes[i]) >= 0;
	return err || all ? err : build(reg);
}

int fnd_index_complete(struct fnd_registry *reg)
{
	for (uint32_t i = 0; i < reg->nindexed; i++)
		if (!reg->indexed[i].complete)
			return build(reg);
	return 0;
}

int fnd_index_of(struct fnd_registry *reg, const char *attribute)
{
	uint32_t n = fnd_load_acquire(&reg->nindexed); /* [RG-3] pairs with attribute_known */

	for (uint32_t i = 0; i < n; i++)
		if (strcmp(reg->indexed[i].name, attribute) == 0)
			return fnd_load_acquire(&reg->indexed[i].complete) ? (int)i : -1; /* [RG-3] */
	return -1;
}
