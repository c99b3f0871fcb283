// SPDX-License-Identifier: MIT
/* Looking at many names: list, count, find, query. The kernel is asked once an owner who is alive. */
#include <foundation/query.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "registry_internal.h"

#define VERDICTS 64 /* owners whose death was looked up, remembered within one walk */

struct walk {
	struct fnd_registry *reg;
	unsigned int flags;
	const struct fnd_criterion *criteria;
	size_t n;
	int (*fn)(const char *name, const struct fnd_agent *a, void *arg);
	void *arg;
	struct fnd_owner owner[VERDICTS];
	bool dead[VERDICTS];
	unsigned int used;
	int64_t count;
};

static bool dead_once(struct walk *w, const struct fnd_owner *o)
{
	unsigned int i;

	for (i = 0; i < w->used && i < VERDICTS; i++)
		if (fnd_agent_same_owner(&w->owner[i], o))
			return w->dead[i];
	i = w->used++ % VERDICTS;
	w->owner[i] = *o;
	w->dead[i] = fnd_agent_owner_dead(w->reg, o);
	return w->dead[i];
}

/* Hands a record out when it is wanted. */
static int hand_out(struct walk *w, const void *key, size_t n, const struct fnd_shm_agent_max *v)
{
	char name[FND_AGENT_NAME_MAX + 1];
	struct fnd_agent a;

	if (v->e.owner.reserved || n > FND_AGENT_NAME_MAX)
		return 0;
	if (!fnd_query_match(w->criteria, w->n, v->metadata, v->e.metadata_bytes))
		return 0;
	if (v->e.owner.slot == 0 ? !(w->flags & FND_AGENTS_ORPHANS) : dead_once(w, &v->e.owner))
		return 0;
	w->count++;
	if (!w->fn)
		return 0;
	memcpy(name, key, n);
	name[n] = '\0';
	fnd_agent_fill(&a, v);
	return w->fn(name, &a, w->arg);
}

static int list_one(const struct fnd_record *r, void *arg)
{
	struct fnd_shm_agent_max v;

	if (fnd_agent_read(r->value, r->value_bytes, &v))
		return 0;
	return hand_out(arg, r->key, r->key_bytes, &v);
}

int fnd_registry_list(struct fnd_registry *reg, unsigned int flags,
		      int (*fn)(const char *name, const struct fnd_agent *a, void *arg), void *arg)
{
	struct walk w = { .reg = reg, .flags = flags, .fn = fn, .arg = arg };

	return fnd_table_iterate(reg->table, 0, list_one, &w);
}

int64_t fnd_registry_count(struct fnd_registry *reg)
{
	struct walk w = { .reg = reg };
	int err = fnd_table_iterate(reg->table, 0, list_one, &w);

	return err ? err : w.count;
}

/* --- by what the metadata says --------------------------------------------------------------------- */

/* Names that were met already: an agent may have several values that are asked for, and entries of changes
 * that are under way. */
struct once {
	struct walk *w;
	uint64_t *seen; /* hashes of names, open addressing; 0: free */
	size_t room, used;
};

static bool put_once(uint64_t *seen, size_t room, uint64_t hash)
{
	size_t i = (size_t)hash & (room - 1);

	for (; seen[i]; i = (i + 1) & (room - 1))
		if (seen[i] == hash)
			return false;
	seen[i] = hash;
	return true;
}

static int grow(struct once *o)
{
	size_t room = o->room ? 2 * o->room : 256;
	uint64_t *seen = calloc(room, sizeof(*seen));

	if (!seen)
		return -ENOMEM;
	for (size_t i = 0; i < o->room; i++)
		if (o->seen[i])
			put_once(seen, room, o->seen[i]);
	free(o->seen);
	o->seen = seen;
	o->room = room;
	return 0;
}

/* The index says who may be meant; the record says who is. */
static int candidate(const char *name, size_t n, void *arg)
{
	unsigned char value[sizeof(struct fnd_shm_agent_max)];
	struct fnd_shm_agent_max v;
	struct once *o = arg;
	uint64_t hash = XXH3_64bits(name, n);
	size_t bytes;
	int err;

	if (2 * o->used >= o->room && grow(o))
		return -ENOMEM;
	if (!put_once(o->seen, o->room, hash ? hash : 1))
		return 0;
	o->used++;
	err = fnd_table_lookup(o->w->reg->table, name, n, value, sizeof(value), &bytes);
	if (err)
		return err == -ENOENT ? 0 : err;
	return fnd_agent_read(value, bytes, &v) ? 0 : hand_out(o->w, name, n, &v);
}

/* The criterion that the index answers best: eq before in. -1: none. */
static int indexed_criterion(struct fnd_registry *reg, const struct fnd_criterion *c, size_t n, int *ret_attribute)
{
	int best = -1;

	for (size_t i = 0; i < n; i++) {
		int attribute;

		if (c[i].op != FND_CRITERION_EQ && (c[i].op != FND_CRITERION_IN || best >= 0))
			continue;
		attribute = fnd_index_of(reg, c[i].attribute);
		if (attribute < 0)
			continue;
		best = (int)i;
		*ret_attribute = attribute;
		if (c[i].op == FND_CRITERION_EQ)
			break;
	}
	return best;
}

int fnd_registry_query(struct fnd_registry *reg, const struct fnd_criterion *criteria, size_t n,
		       int (*fn)(const char *name, const struct fnd_agent *a, void *arg), void *arg)
{
	struct walk w = { .reg = reg, .criteria = criteria, .n = n, .fn = fn, .arg = arg };
	struct once o = { .w = &w };
	int err = fnd_query_check(criteria, n), which, attribute = -1;

	if (!err)
		err = fnd_index_refresh(reg);
	if (err)
		return err;
	which = indexed_criterion(reg, criteria, n, &attribute);
	if (which < 0)
		return fnd_table_iterate(reg->table, 0, list_one, &w);
	for (uint32_t i = 0; i < criteria[which].nvalues && !err; i++)
		err = fnd_index_walk(reg, (unsigned int)attribute, &criteria[which].values[i], candidate, &o);
	free(o.seen);
	return err;
}

int fnd_registry_find(struct fnd_registry *reg, const char *attribute, const struct fnd_value *value,
		      int (*fn)(const char *name, const struct fnd_agent *a, void *arg), void *arg)
{
	struct fnd_criterion c = { .attribute = attribute, .op = FND_CRITERION_EQ, .nvalues = 1, .values = value };

	return fnd_registry_query(reg, &c, 1, fn, arg);
}
