// SPDX-License-Identifier: MIT
/*
 * The registry: a table of names whose values begin with their owner.
 *
 * Guarantees.
 *  A. A name has one record; register, update and unregister are one store each, decided under the
 *     shard's lock against the very record the decision was made on.
 *  B. lookup never returns an owner that somebody has reaped: the owner's slot is looked at, not the
 *     record alone. So removing the names of the dead is housekeeping; being late with it is harmless.
 */
#include <foundation/registry.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SWEEP_OWNERS 64 /* owners whose death was looked up, remembered within one walk */

struct fnd_registry {
	struct fnd_segment *seg;
	struct fnd_table *table;
};

/* The value of a record; its metadata follows. */
struct entry {
	struct fnd_owner owner;
	uint64_t registered_ns;
	uint64_t generation;
	uint32_t metadata_bytes;
	uint32_t reserved;
};

struct entry_max {
	struct entry e;
	unsigned char metadata[FND_METADATA_MAX];
};

_Static_assert(sizeof(struct entry) == 40, "part of the segment's format");

static uint64_t wall_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int name_check(const char *name)
{
	size_t n = name ? strnlen(name, FND_AGENT_NAME_MAX + 1) : 0;

	if (n >= 1 && n <= FND_AGENT_NAME_MAX)
		return (int)n;
	return fnd_error_set(EINVAL, "an agent's name has 1 to %d bytes", FND_AGENT_NAME_MAX);
}

/* Payload bytes and objects that follow a msgpack object's first byte, whose length field is @len. */
static void object_size(unsigned int c, uint64_t len, uint64_t *ret_bytes, uint64_t *ret_objects)
{
	static const unsigned char fixed[] = { 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 2, 3, 5, 9, 17 }; /* 0xca on */

	*ret_bytes = *ret_objects = 0;
	if (c >= 0x80 && c <= 0x8f)
		*ret_objects = 2 * (c & 15u);
	else if (c >= 0x90 && c <= 0x9f)
		*ret_objects = c & 15u;
	else if (c >= 0xa0 && c <= 0xbf)
		*ret_bytes = c & 31u;
	else if ((c >= 0xc4 && c <= 0xc6) || (c >= 0xd9 && c <= 0xdb))
		*ret_bytes = len;
	else if (c >= 0xc7 && c <= 0xc9)
		*ret_bytes = len + 1;
	else if (c >= 0xca && c <= 0xd8)
		*ret_bytes = fixed[c - 0xca];
	else if (c == 0xdc || c == 0xdd)
		*ret_objects = len;
	else if (c == 0xde || c == 0xdf)
		*ret_objects = 2 * len;
}

/* Bytes of the length field behind a first byte. */
static unsigned int length_bytes(unsigned int c)
{
	if (c >= 0xc4 && c <= 0xc9)
		return 1u << (c - 0xc4) % 3;
	if (c >= 0xd9 && c <= 0xdb)
		return 1u << (c - 0xd9);
	return c >= 0xdc && c <= 0xdf ? 2u << (c & 1) : 0;
}

/*
 * One msgpack map and nothing behind it. Objects still owed are counted rather than nested, so nothing is
 * allocated or recursed into for a size that is only declared; msgpack-c's unpacker would allocate.
 */
static int one_map(const unsigned char *p, size_t n)
{
	uint64_t owed = 1, bytes, objects;
	size_t at = 0;

	if (!((p[0] & 0xf0) == 0x80 || p[0] == 0xde || p[0] == 0xdf))
		return 0;
	while (owed) {
		unsigned int c, field;
		uint64_t len = 0;

		if (at == n || p[at] == 0xc1)
			return 0;
		c = p[at++];
		field = length_bytes(c);
		if (field > n - at)
			return 0;
		for (; field; field--)
			len = len << 8 | p[at++];
		object_size(c, len, &bytes, &objects);
		if (bytes > n - at || owed - 1 + objects > n - at - bytes)
			return 0; /* an object has a byte at least */
		at += bytes;
		owed += objects - 1;
	}
	return at == n;
}

int fnd_metadata_check(const void *p, size_t n)
{
	if (n == 0)
		return 0;
	if (n > FND_METADATA_MAX)
		return fnd_error_set(E2BIG, "metadata has %zu bytes, at most %d", n, FND_METADATA_MAX);
	if (!p)
		return fnd_error_set(EINVAL, "metadata of %zu bytes at no address", n);
	return one_map(p, n) ? 0 : fnd_error_set(EINVAL, "metadata is not one msgpack map");
}

int fnd_registry_open(struct fnd_segment *seg, uint64_t capacity, struct fnd_registry **ret_reg)
{
	struct fnd_table_options opt = { .size = sizeof(opt),
					 .flags = FND_TABLE_OWNED,
					 .key_max = FND_AGENT_NAME_MAX,
					 .value_max = sizeof(struct entry_max),
					 .capacity = capacity };
	struct fnd_registry *reg = calloc(1, sizeof(*reg));
	int err;

	if (!reg)
		return -ENOMEM;
	reg->seg = seg;
	err = fnd_table_open(seg, FND_REGISTRY_TABLE, &opt, &reg->table);
	if (err) {
		free(reg);
		return err;
	}
	*ret_reg = reg;
	return 0;
}

void fnd_registry_close(struct fnd_registry *reg)
{
	if (!reg)
		return;
	fnd_table_close(reg->table);
	free(reg);
}

/* Takes a record's value apart. 0, or -FND_E_CORRUPT: too short, or its length is a lie. */
static int entry_read(const void *value, size_t bytes, struct entry *e)
{
	if (bytes < sizeof(*e))
		return -FND_E_CORRUPT;
	memcpy(e, value, sizeof(*e));
	if (e->metadata_bytes > FND_METADATA_MAX || e->metadata_bytes != bytes - sizeof(*e))
		return -FND_E_CORRUPT;
	return 0;
}

static struct fnd_participant participant_of(const struct fnd_owner *o)
{
	return (struct fnd_participant){ .pid = o->pid, .slot = o->slot, .generation = o->generation };
}

static int active(const struct fnd_registry *reg, const struct fnd_owner *o)
{
	struct fnd_participant p = participant_of(o);

	return fnd_participant_active(reg->seg, &p);
}

static int dead(const struct fnd_registry *reg, const struct fnd_owner *o)
{
	struct fnd_participant p = participant_of(o);

	return o->slot == 0 || fnd_participant_dead(reg->seg, &p);
}

static int same_owner(const struct fnd_owner *a, const struct fnd_owner *b)
{
	return a->pid == b->pid && a->slot == b->slot && a->generation == b->generation;
}

static void agent_fill(struct fnd_agent *a, const struct entry *e, const void *value)
{
	a->owner = e->owner;
	a->registered_ns = e->registered_ns;
	a->generation = e->generation;
	a->metadata_bytes = e->metadata_bytes;
	memcpy(a->metadata, (const char *)value + sizeof(*e), e->metadata_bytes);
}

/* --- changes, decided under the shard's lock ------------------------------------------------------ */

enum change_kind { REGISTER, UPDATE, UNREGISTER };

struct change {
	enum change_kind kind;
	struct entry_max value; /* what to publish */
	struct fnd_owner judged; /* this holder was found dead, or may be overridden */
	int have_judged;
	int force;
	struct fnd_owner holder; /* out: who holds it */
	int result;
};

static enum fnd_modify publish(struct change *c, const void **new_value, size_t *new_bytes)
{
	*new_value = &c->value;
	*new_bytes = sizeof(c->value.e) + c->value.e.metadata_bytes;
	return FND_MODIFY_PUT;
}

static enum fnd_modify decide(void *arg, const void *old, size_t old_bytes, const void **new_value,
			      size_t *new_bytes)
{
	struct change *c = arg;
	struct entry e;

	c->result = 0;
	if (!old) {
		c->value.e.generation = 1;
		if (c->kind == REGISTER)
			return publish(c, new_value, new_bytes);
		c->result = -ENOENT;
		return FND_MODIFY_KEEP;
	}
	if (entry_read(old, old_bytes, &e)) {
		memset(&e, 0, sizeof(e)); /* damaged: nobody's */
	} else if (c->kind != UPDATE && !c->force && !same_owner(&e.owner, &c->value.e.owner) &&
		   !(c->have_judged && same_owner(&e.owner, &c->judged))) {
		c->holder = e.owner;
		c->result = c->kind == REGISTER ? -EEXIST : -EPERM;
		return FND_MODIFY_KEEP;
	}
	if (c->kind == UNREGISTER)
		return FND_MODIFY_DELETE;
	c->value.e.generation = e.generation + 1;
	if (c->kind == UPDATE) {
		c->value.e.owner = e.owner;
		c->value.e.registered_ns = e.registered_ns;
	}
	return publish(c, new_value, new_bytes);
}

/* Runs a change; a holder that stands in the way is looked at outside the lock, and judged once. */
static int run(struct fnd_registry *reg, const char *name, size_t n, struct change *c)
{
	for (int tries = 0; tries < 8; tries++) {
		int r = fnd_table_modify(reg->table, name, n, decide, c);

		if (r < 0)
			return r;
		if (c->result != -EEXIST && c->result != -EPERM)
			return c->result;
		if (!dead(reg, &c->holder))
			return fnd_error_set(c->result, "agent %s is held by pid %u", name,
					     c->holder.pid);
		c->judged = c->holder;
		c->have_judged = 1;
	}
	return c->result;
}

static int owner_find(struct fnd_registry *reg, uint32_t pid, struct fnd_owner *ret)
{
	struct fnd_participant p;
	int err = pid ? fnd_segment_participant(reg->seg, pid, &p) : fnd_segment_self(reg->seg, &p);

	if (!err)
		*ret = (struct fnd_owner){ .pid = p.pid, .slot = p.slot, .generation = p.generation };
	return err;
}

int fnd_registry_register(struct fnd_registry *reg, const char *name, uint32_t owner_pid,
			  const void *metadata, size_t metadata_bytes, unsigned int flags)
{
	struct change c = { .kind = REGISTER, .force = flags & FND_REGISTER_TAKE };
	int n = name_check(name), err = fnd_metadata_check(metadata, metadata_bytes);
	unsigned int swept;

	if (n < 0 || err)
		return n < 0 ? n : err;
	if (flags & ~FND_REGISTER_TAKE)
		return fnd_error_set(EINVAL, "unknown flags %#x", flags);
	err = owner_find(reg, owner_pid, &c.value.e.owner);
	if (err)
		return err;
	c.value.e.registered_ns = wall_ns();
	c.value.e.metadata_bytes = (uint32_t)metadata_bytes;
	if (metadata_bytes)
		memcpy(c.value.metadata, metadata, metadata_bytes);
	err = run(reg, name, (size_t)n, &c);
	if (err == -ENOSPC && fnd_registry_reap(reg, &swept) == 0 && swept)
		err = run(reg, name, (size_t)n, &c);
	if (!err)
		fnd_counter_add(reg->seg, FND_COUNTER_REGISTERED, 1);
	return err;
}

int fnd_registry_unregister(struct fnd_registry *reg, const char *name, unsigned int flags)
{
	struct change c = { .kind = UNREGISTER, .force = flags & FND_UNREGISTER_FORCE };
	int n = name_check(name), err;

	if (n < 0)
		return n;
	if (flags & ~FND_UNREGISTER_FORCE)
		return fnd_error_set(EINVAL, "unknown flags %#x", flags);
	err = owner_find(reg, 0, &c.value.e.owner);
	if (!err)
		err = run(reg, name, (size_t)n, &c);
	if (!err)
		fnd_counter_add(reg->seg, FND_COUNTER_UNREGISTERED, 1);
	return err;
}

int fnd_registry_update(struct fnd_registry *reg, const char *name, const void *metadata,
			size_t metadata_bytes)
{
	struct change c = { .kind = UPDATE };
	int n = name_check(name), err = fnd_metadata_check(metadata, metadata_bytes);
	struct fnd_agent a;

	if (n < 0 || err)
		return n < 0 ? n : err;
	err = fnd_registry_lookup(reg, name, &a); /* a dead holder's name is not there */
	if (err)
		return err;
	c.value.e.metadata_bytes = (uint32_t)metadata_bytes;
	if (metadata_bytes)
		memcpy(c.value.metadata, metadata, metadata_bytes);
	return run(reg, name, (size_t)n, &c);
}

/* --- reading -------------------------------------------------------------------------------------- */

int fnd_registry_lookup(struct fnd_registry *reg, const char *name, struct fnd_agent *ret_agent)
{
	int n = name_check(name), err;
	struct entry_max value;
	struct entry e;
	size_t bytes;

	if (n < 0)
		return n;
	err = fnd_table_lookup(reg->table, name, (size_t)n, &value, sizeof(value), &bytes);
	if (err)
		return err;
	err = entry_read(&value, bytes, &e);
	if (err)
		return err;
	if (e.owner.slot == 0 || !active(reg, &e.owner))
		return -ENOENT;
	if (ret_agent)
		agent_fill(ret_agent, &e, &value);
	return 0;
}

/* What the kernel said of the owners met in this walk. */
struct verdicts {
	struct fnd_owner owner[SWEEP_OWNERS];
	int dead[SWEEP_OWNERS];
	unsigned int used;
};

static int dead_once(struct fnd_registry *reg, struct verdicts *v, const struct fnd_owner *o)
{
	unsigned int i;

	for (i = 0; i < v->used && i < SWEEP_OWNERS; i++)
		if (same_owner(&v->owner[i], o))
			return v->dead[i];
	i = v->used++ % SWEEP_OWNERS;
	v->owner[i] = *o;
	v->dead[i] = dead(reg, o);
	return v->dead[i];
}

struct walk {
	struct fnd_registry *reg;
	unsigned int flags;
	int (*fn)(const char *name, const struct fnd_agent *a, void *arg);
	void *arg;
	struct verdicts verdicts;
	int64_t count;
	unsigned int removed;
};

static int list_one(const struct fnd_record *r, void *arg)
{
	char name[FND_AGENT_NAME_MAX + 1];
	struct walk *w = arg;
	struct fnd_agent a;
	struct entry e;

	if (entry_read(r->value, r->value_bytes, &e))
		return 0;
	if (e.owner.slot == 0 ? !(w->flags & FND_AGENTS_ORPHANS) :
				dead_once(w->reg, &w->verdicts, &e.owner))
		return 0;
	w->count++;
	if (!w->fn)
		return 0;
	memcpy(name, r->key, r->key_bytes);
	name[r->key_bytes] = '\0';
	agent_fill(&a, &e, r->value);
	return w->fn(name, &a, w->arg);
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

/* --- the names of the dead ------------------------------------------------------------------------ */

static int sweep_one(const struct fnd_record *r, void *arg)
{
	struct walk *w = arg;
	struct change c = { .kind = UNREGISTER, .have_judged = 1 };
	struct entry e;
	int err;

	if (entry_read(r->value, r->value_bytes, &e) || e.owner.slot == 0 ||
	    !dead_once(w->reg, &w->verdicts, &e.owner))
		return 0;
	c.judged = e.owner; /* this record or none: a new owner's is not touched */
	err = fnd_table_modify(w->reg->table, r->key, r->key_bytes, decide, &c);
	if (err < 0)
		return err;
	w->removed += c.result == 0;
	return 0;
}

int fnd_registry_reap(struct fnd_registry *reg, unsigned int *ret_names)
{
	struct walk w = { .reg = reg };
	int err = fnd_segment_reap(reg->seg, NULL);

	if (!err)
		err = fnd_table_iterate(reg->table, 0, sweep_one, &w);
	if (w.removed)
		fnd_counter_add(reg->seg, FND_COUNTER_NAMES_REAPED, w.removed);
	if (!err && ret_names)
		*ret_names = w.removed;
	return err;
}
