// SPDX-License-Identifier: MIT
/*
 * The registry: a table of names whose values begin with their owner.
 *
 * Guarantees.
 *  A. A name has one record; register and update are one store each, decided under the shard's lock against
 *     the very record the decision was made on.
 *  B. lookup never returns an owner that somebody has reaped: the owner's slot is looked at, not the
 *     record alone. So removing the names of the dead is housekeeping; being late with it is harmless.
 *  C. A name goes in three steps: marked as leaving, from which instant nobody finds it; told; deleted.
 *     Whoever finds a mark whose maker is dead goes on from there (registry_death.c).
 *  D. What a change says of indexed attributes is in the index before the record is, and stays until after it
 *     (registry_index.c).
 */
#include <foundation/registry.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <foundation/atomic.h>

#include "mp.h"
#include "registry_internal.h"

#define TRIES 64
#define GENERATION_EPOCH_US 1577836800000000u /* 2020: 51 bits of microseconds last until 2091 */
#define LONG_NS 30000000000u /* a change that took this long looks whether its entries are still there */

uint64_t fnd_runtime_wall_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int fnd_agent_name_check(const char *name)
{
	size_t n = name ? strnlen(name, FND_AGENT_NAME_MAX + 1) : 0;

	if (n >= 1 && n <= FND_AGENT_NAME_MAX)
		return (int)n;
	return fnd_error_set(EINVAL, "an agent's name has 1 to %d bytes", FND_AGENT_NAME_MAX);
}

int fnd_metadata_check(const void *p, size_t n)
{
	uint32_t pairs;

	if (n == 0)
		return 0;
	if (n > FND_METADATA_MAX)
		return fnd_error_set(E2BIG, "metadata has %zu bytes, at most %d", n, FND_METADATA_MAX);
	if (!p)
		return fnd_error_set(EINVAL, "metadata of %zu bytes at no address", n);
	if (fnd_mp_map(p, n, &pairs) == 0 || fnd_mp_skip(p, n) != n)
		return fnd_error_set(EINVAL, "metadata is not one msgpack map");
	return 0;
}

/* --- the handle ------------------------------------------------------------------------------------ */

static int open_tables(struct fnd_registry *reg, uint64_t capacity)
{
	struct fnd_table_options opt = { .size = sizeof(opt),
					 .flags = FND_TABLE_OWNED,
					 .key_max = FND_AGENT_NAME_MAX,
					 .value_max = sizeof(struct fnd_shm_agent_max),
					 .capacity = capacity };
	int err = fnd_table_open(reg->seg, FND_REGISTRY_TABLE, &opt, &reg->table);

	if (err)
		return err;
	err = fnd_events_open(reg->seg, &reg->events);
	if (err == -ENOSPC || err == -EMFILE)
		err = 0;
	if (!err)
		err = fnd_segment_self(reg->seg, &reg->self);
	return err ? err : fnd_index_refresh(reg);
}

int fnd_registry_open_with(struct fnd_segment *seg, const struct fnd_registry_options *opt,
			   struct fnd_registry **ret_reg)
{
	struct fnd_registry *reg;
	int err;

	if (!opt || opt->size < sizeof(*opt))
		return fnd_error_set(EINVAL, "options of %zu bytes", opt ? opt->size : 0);
	reg = calloc(1, sizeof(*reg));
	if (!reg)
		return -ENOMEM;
	reg->seg = seg;
	reg->area = fnd_segment_area(seg);
	pthread_mutex_init(&reg->loading, NULL);
	err = open_tables(reg, opt->capacity);
	if (!err && opt->nattributes)
		err = fnd_index_define(reg, opt->attributes, opt->nattributes);
	if (err) {
		fnd_registry_close(reg);
		return err;
	}
	*ret_reg = reg;
	return 0;
}

int fnd_registry_open(struct fnd_segment *seg, uint64_t capacity, struct fnd_registry **ret_reg)
{
	struct fnd_registry_options opt = { .size = sizeof(opt), .capacity = capacity };

	return fnd_registry_open_with(seg, &opt, ret_reg);
}

void fnd_registry_close(struct fnd_registry *reg)
{
	if (!reg)
		return;
	fnd_table_close(reg->index);
	fnd_events_close(reg->events);
	fnd_table_close(reg->table);
	pthread_mutex_destroy(&reg->loading);
	free(reg);
}

struct fnd_events *fnd_registry_events(struct fnd_registry *reg)
{
	return reg->events;
}

/* --- records and owners ---------------------------------------------------------------------------- */

int fnd_agent_read(const void *value, size_t bytes, struct fnd_shm_agent_max *ret)
{
	if (bytes < sizeof(ret->e))
		return -FND_E_CORRUPT;
	memcpy(&ret->e, value, sizeof(ret->e));
	if (ret->e.metadata_bytes > FND_METADATA_MAX || ret->e.metadata_bytes != bytes - sizeof(ret->e))
		return -FND_E_CORRUPT;
	memcpy(ret->metadata, (const char *)value + sizeof(ret->e), ret->e.metadata_bytes);
	return 0;
}

static struct fnd_participant participant_of(const struct fnd_owner *o)
{
	return (struct fnd_participant){ .pid = o->pid, .slot = o->slot, .generation = o->generation };
}

bool fnd_agent_owner_active(struct fnd_registry *reg, const struct fnd_owner *o)
{
	struct fnd_participant p = participant_of(o);

	return o->slot != 0 && fnd_participant_active(reg->seg, &p);
}

bool fnd_agent_owner_dead(struct fnd_registry *reg, const struct fnd_owner *o)
{
	struct fnd_participant p = participant_of(o);

	return o->slot == 0 || fnd_participant_dead(reg->seg, &p);
}

bool fnd_agent_same_owner(const struct fnd_owner *a, const struct fnd_owner *b)
{
	return a->pid == b->pid && a->slot == b->slot && a->generation == b->generation;
}

void fnd_agent_fill(struct fnd_agent *a, const struct fnd_shm_agent_max *v)
{
	a->owner = v->e.owner;
	a->owner.reserved = 0;
	a->registered_ns = v->e.registered_ns;
	a->generation = v->e.generation;
	a->metadata_bytes = v->e.metadata_bytes;
	memcpy(a->metadata, v->metadata, v->e.metadata_bytes);
}

/* --- changes, decided under the shard's lock ------------------------------------------------------ */

struct change {
	struct fnd_shm_agent_max value; /* what to publish */
	struct fnd_owner judged; /* this holder may be overridden: nobody's, or an orphan's */
	bool update; /* keeps the owner; else registers */
	bool force;
	bool have_judged;
	uint64_t over; /* this record is leaving, and all are told: it may be put over */
	bool tell; /* somebody can be told */
	uint64_t seen; /* the record the index was prepared against, 0: any */
	bool replaced; /* out: `old` was there */
	struct fnd_shm_agent_max old; /* out */
	int result;
};

static enum fnd_modify refuse(struct change *c, int err)
{
	c->result = err;
	return FND_MODIFY_KEEP;
}

static enum fnd_modify put(struct change *c, enum fnd_pending what, const void **new_value, size_t *new_bytes)
{
	c->value.e.reserved = c->tell ? FND_MARK(what, c->value.e.reserved) : 0;
	*new_value = &c->value;
	*new_bytes = sizeof(c->value.e) + c->value.e.metadata_bytes;
	return FND_MODIFY_PUT;
}

/* Over a record of @c->old. */
static enum fnd_modify over_old(struct change *c, const void **new_value, size_t *new_bytes)
{
	const struct fnd_shm_agent *e = &c->old.e;
	bool own = fnd_agent_same_owner(&e->owner, &c->value.e.owner);
	enum fnd_pending what = FND_PENDING_UP;

	if (e->owner.reserved && c->update)
		return refuse(c, -ENOENT);
	if (e->owner.reserved && e->generation != c->over)
		return refuse(c, -EBUSY);
	if (!e->owner.reserved && !c->update && !c->force && !own &&
	    !(c->have_judged && fnd_agent_same_owner(&e->owner, &c->judged)))
		return refuse(c, -EEXIST);
	if (e->generation >= c->value.e.generation || (c->seen && e->generation != c->seen))
		return refuse(c, -EAGAIN);
	if (c->update) {
		c->value.e.owner = e->owner;
		c->value.e.registered_ns = e->registered_ns;
	}
	if ((c->update || (own && !e->owner.reserved)) && FND_MARK_KIND(e->reserved) != FND_PENDING_UP)
		what = FND_PENDING_UPDATED;
	return put(c, what, new_value, new_bytes);
}

static enum fnd_modify decide(void *arg, const void *old, size_t old_bytes, const void **new_value,
			      size_t *new_bytes)
{
	struct change *c = arg;

	c->result = 0;
	c->value.e.reserved = FND_MARK_PID(c->value.e.reserved);
	c->replaced = old && fnd_agent_read(old, old_bytes, &c->old) == 0;
	if (c->replaced)
		return over_old(c, new_value, new_bytes);
	if (c->seen)
		return refuse(c, -EAGAIN);
	if (c->update) /* damaged: nobody's, so it has no owner to keep */
		return refuse(c, old ? -FND_E_CORRUPT : -ENOENT);
	return put(c, FND_PENDING_UP, new_value, new_bytes);
}

uint64_t fnd_generation_us(void)
{
	return fnd_runtime_wall_ns() / 1000u - GENERATION_EPOCH_US;
}

/*
 * Of its own among all changes of a name, and above all earlier ones, also those of a record that is gone:
 * microseconds, or one more than the last; slot; a count. The index tells by it whose entry is whose.
 */
static uint64_t next_generation(struct fnd_registry *reg, uint64_t last)
{
	uint64_t us = fnd_generation_us();
	uint32_t count = __atomic_fetch_add(&reg->changes, 1, __ATOMIC_RELAXED); /* relaxed: only unlike others */

	us = (last >> 13) + 1 > us ? (last >> 13) + 1 : us;
	return us << 13 | (uint64_t)(reg->self.slot & 0xfff) << 1 | (count & 1);
}

/* What stands in the way is looked at outside the lock. 0: try again. */
static int make_way(struct fnd_registry *reg, const char *name, size_t n, struct change *c)
{
	struct fnd_removal r = { .generation = c->old.e.generation, .kind = FND_LEAVING_DOWN, .help = true,
				 .leave = true };
	int err;

	if (c->result == -EAGAIN)
		return 0;
	if (c->result == -EEXIST) {
		if (c->old.e.owner.slot == 0) {
			c->judged = c->old.e.owner;
			c->have_judged = true;
			return 0;
		}
		if (!fnd_agent_owner_dead(reg, &c->old.e.owner))
			return fnd_error_set(EEXIST, "agent %s is held by pid %u", name, c->old.e.owner.pid);
	} else if (c->result != -EBUSY) {
		return c->result;
	}
	err = fnd_agent_remove(reg, name, n, &r);
	if (!err)
		c->over = r.generation;
	return err == -ENOENT || err == -EAGAIN || err == -EBUSY ? 0 : err;
}

/* The index has what the new record says, then the record is there, then the index loses what the old one
 * said. Values that stay are not touched. */
static int exchange(struct fnd_registry *reg, const char *name, size_t n, struct change *c)
{
	uint32_t index_before = fnd_load_acquire(&reg->area->agents_indexed); /* [RG-1] pairs with indexed_bump */
	const struct fnd_shm_agent_max *old = c->replaced ? &c->old : NULL;
	uint64_t begun = fnd_runtime_wall_ns();
	int err = fnd_index_refresh(reg), r;

#ifndef FND_MUTANT_INDEX_LATE
	if (!err)
		err = fnd_index_add(reg, name, n, &c->value, old);
#endif
	if (err)
		return err;
	r = fnd_table_modify(reg->table, name, n, decide, c);
#ifdef FND_MUTANT_INDEX_LATE
	if (r == FND_MODIFY_PUT)
		fnd_index_add(reg, name, n, &c->value, old);
#endif
	if (r != FND_MODIFY_PUT) {
		fnd_index_undo(reg, name, n, &c->value);
		return r;
	}
	if ((fnd_load_acquire(&reg->area->agents_indexed) != index_before && /* [RG-1] an attribute came meanwhile */
	     fnd_index_refresh(reg) == 0) ||
	    fnd_runtime_wall_ns() - begun > LONG_NS)
		fnd_index_add(reg, name, n, &c->value, NULL);
	if (c->replaced)
		fnd_index_drop(reg, name, n, &c->old, &c->value);
	return 0;
}

/* First on a copy, so that a refusal touches nothing. */
static int attempt(struct fnd_registry *reg, const char *name, size_t n, struct change *c)
{
	unsigned char copy[sizeof(struct fnd_shm_agent_max)];
	const void *unused;
	size_t bytes = 0, none;
	int err = fnd_table_lookup(reg->table, name, n, copy, sizeof(copy), &bytes);

	if (err && err != -ENOENT)
		return err;
	c->seen = 0;
	c->value.e.generation = UINT64_MAX;
	if (decide(c, err ? NULL : copy, bytes, &unused, &none) != FND_MODIFY_PUT)
		return 0;
	c->seen = c->replaced ? c->old.e.generation : 0;
	c->value.e.generation = next_generation(reg, c->seen);
	return exchange(reg, name, n, c);
}

static int run(struct fnd_registry *reg, const char *name, size_t n, struct change *c)
{
	uint32_t taken = 0;
	int err;

	c->tell = reg->events != NULL;
	c->value.e.reserved = reg->self.pid;
	for (int tries = 0; tries < TRIES; tries++) {
		err = attempt(reg, name, n, c);
		if (err < 0)
			return err;
		if (c->result == 0) {
			if (c->force && c->replaced && c->old.e.owner.slot && !c->old.e.owner.reserved &&
			    !fnd_agent_same_owner(&c->old.e.owner, &c->value.e.owner))
				taken = c->old.e.owner.pid;
			fnd_agent_announce(reg, name, n, &c->value, taken);
			return 0;
		}
		err = make_way(reg, name, n, c);
		if (err)
			return err;
	}
	return -EAGAIN;
}

static int owner_find(struct fnd_registry *reg, uint32_t pid, struct fnd_owner *ret)
{
	struct fnd_participant p;
	int err = pid ? fnd_segment_participant(reg->seg, pid, &p) : fnd_segment_self(reg->seg, &p);

	if (!err)
		*ret = (struct fnd_owner){ .pid = p.pid, .slot = p.slot, .generation = p.generation };
	return err;
}

/* Force is against the living: what a dead one holds goes as such, also when its slot has been reaped already. */
static int bury_holder(struct fnd_registry *reg, const char *name, size_t n)
{
	struct fnd_removal r = { .kind = FND_LEAVING_DOWN, .help = true };
	unsigned char copy[sizeof(struct fnd_shm_agent_max)];
	struct fnd_shm_agent_max v;
	size_t bytes;

	if (fnd_table_lookup(reg->table, name, n, copy, sizeof(copy), &bytes) != 0 ||
	    fnd_agent_read(copy, bytes, &v) != 0)
		return 0;
	if (v.e.owner.slot == 0 || !fnd_agent_owner_dead(reg, &v.e.owner))
		return 0;
	r.generation = v.e.generation;
	return fnd_agent_remove(reg, name, n, &r);
}

int fnd_registry_register(struct fnd_registry *reg, const char *name, uint32_t owner_pid,
			  const void *metadata, size_t metadata_bytes, unsigned int flags)
{
	struct change c = { .force = flags & FND_REGISTER_TAKE };
	int n = fnd_agent_name_check(name), err = fnd_metadata_check(metadata, metadata_bytes);
	unsigned int swept;

	if (n < 0 || err)
		return n < 0 ? n : err;
	if (flags & ~FND_REGISTER_TAKE)
		return fnd_error_set(EINVAL, "unknown flags %#x", flags);
	err = owner_find(reg, owner_pid, &c.value.e.owner);
	if (err)
		return err;
	c.value.e.registered_ns = fnd_runtime_wall_ns();
	c.value.e.metadata_bytes = (uint32_t)metadata_bytes;
	if (metadata_bytes)
		memcpy(c.value.metadata, metadata, metadata_bytes);
	if (c.force)
		bury_holder(reg, name, (size_t)n);
	err = run(reg, name, (size_t)n, &c);
	if (err == -ENOSPC && fnd_registry_reap(reg, &swept) == 0 && swept)
		err = run(reg, name, (size_t)n, &c);
	if (!err)
		fnd_counter_add(reg->seg, FND_COUNTER_REGISTERED, 1);
	return err;
}

/*
 * The name is another's. A dead one's is nobody's, whether somebody has reaped it yet or not: it goes as such, and
 * there was none. An orphan has no owner who could mind.
 */
static int unregister_others(struct fnd_registry *reg, const char *name, size_t n, bool force, struct fnd_removal *r)
{
	struct fnd_owner holder = r->holder;
	bool dead = fnd_agent_owner_dead(reg, &holder);
	int err;

	if (!dead && !force)
		return fnd_error_set(EPERM, "agent %s is held by pid %u", name, holder.pid);
	*r = (struct fnd_removal){ .kind = FND_LEAVING_GONE };
	if (dead) {
		r->by = &holder; /* and not whoever has taken it meanwhile */
		r->kind = holder.slot ? FND_LEAVING_DOWN : FND_LEAVING_GONE;
	}
	err = fnd_agent_remove(reg, name, n, r);
	r->by = NULL;
	if (dead && holder.slot && err != -EPERM) {
		r->begun = false;
		err = err == 0 ? -ENOENT : err;
	}
	return err;
}

int fnd_registry_unregister(struct fnd_registry *reg, const char *name, unsigned int flags)
{
	struct fnd_removal r = { .kind = FND_LEAVING_GONE };
	int n = fnd_agent_name_check(name), err;
	struct fnd_owner self;

	if (n < 0)
		return n;
	if (flags & ~FND_UNREGISTER_FORCE)
		return fnd_error_set(EINVAL, "unknown flags %#x", flags);
	err = owner_find(reg, 0, &self);
	if (err)
		return err;
	r.by = &self;
	err = fnd_agent_remove(reg, name, (size_t)n, &r);
	for (int tries = 0; err == -EPERM && tries < 2; tries++) /* the second: it was taken from under a dead one */
		err = unregister_others(reg, name, (size_t)n, flags & FND_UNREGISTER_FORCE, &r);
	if ((err == -ENOENT || err == -EBUSY) && r.begun)
		err = 0; /* begun here, finished by somebody else: who wants the name, or the next reaper */
	if (err == -EBUSY || err == -EAGAIN)
		err = -ENOENT; /* somebody else's removal has it already */
	if (!err)
		fnd_counter_add(reg->seg, FND_COUNTER_UNREGISTERED, 1);
	return err;
}

int fnd_registry_update(struct fnd_registry *reg, const char *name, const void *metadata,
			size_t metadata_bytes)
{
	struct change c = { .update = true };
	int n = fnd_agent_name_check(name), err = fnd_metadata_check(metadata, metadata_bytes);
	struct fnd_agent a;

	if (n < 0 || err)
		return n < 0 ? n : err;
	err = fnd_registry_lookup(reg, name, &a); /* a dead holder's name is not there */
	if (err)
		return err;
	c.value.e.metadata_bytes = (uint32_t)metadata_bytes;
	if (metadata_bytes)
		memcpy(c.value.metadata, metadata, metadata_bytes);
	err = run(reg, name, (size_t)n, &c);
	if (!err)
		fnd_fetch_add(&reg->area->agents_updated, 1); /* [RG-2] a count, read by fnd_registry_stats_read */
	return err;
}

/* --- reading one ----------------------------------------------------------------------------------- */

static int lookup(struct fnd_registry *reg, const char *name, size_t n, struct fnd_agent *ret_agent)
{
	unsigned char value[sizeof(struct fnd_shm_agent_max)];
	struct fnd_shm_agent_max v;
	size_t bytes;
	int err = fnd_table_lookup(reg->table, name, n, value, sizeof(value), &bytes);

	if (!err)
		err = fnd_agent_read(value, bytes, &v);
	if (err)
		return err;
	if (v.e.owner.reserved || !fnd_agent_owner_active(reg, &v.e.owner))
		return -ENOENT;
	if (ret_agent)
		fnd_agent_fill(ret_agent, &v);
	return 0;
}

int fnd_registry_lookup(struct fnd_registry *reg, const char *name, struct fnd_agent *ret_agent)
{
	int n = fnd_agent_name_check(name), err;

	if (n < 0)
		return n;
	err = lookup(reg, name, (size_t)n, ret_agent);
	fnd_counter_add(reg->seg, FND_COUNTER_AGENT_READS, 1);
	if (err == -ENOENT)
		fnd_counter_add(reg->seg, FND_COUNTER_AGENT_MISSES, 1);
	return err;
}
