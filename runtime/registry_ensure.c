// SPDX-License-Identifier: MIT
/* The registry as a whole: its figures, and putting it right from what is sound. */
#include <foundation/registry.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include <foundation/atomic.h>

#include "registry_internal.h"

/* --- figures --------------------------------------------------------------------------------------- */

int fnd_registry_stats_read(struct fnd_registry *reg, struct fnd_registry_stats *ret_stats)
{
	struct fnd_registry_stats s = { 0 };
	struct fnd_table_stats t;
	struct fnd_table *events;
	int err = fnd_index_refresh(reg);

	if (!err)
		err = fnd_table_stats_read(reg->table, &t);
	if (err)
		return err;
	s.entries = t.live;
	s.capacity = t.capacity;
	s.bytes = t.bytes;
	s.refused = t.full;
	s.load = t.capacity ? (double)t.live / (double)t.capacity : 0;
	s.nattributes = reg->nindexed;
	for (uint32_t i = 0; i < s.nattributes; i++)
		memcpy(s.attribute[i], reg->indexed[i].name, sizeof(s.attribute[i]));
	if (reg->index && fnd_table_stats_read(reg->index, &t) == 0) {
		s.index_records = t.live;
		s.index_bytes = t.bytes;
		s.bytes += t.bytes;
	}
	if (fnd_table_open(reg->seg, FND_EVENTS_TABLE, NULL, &events) == 0) {
		if (fnd_table_stats_read(events, &t) == 0)
			s.bytes += t.bytes;
		fnd_table_close(events);
	}
	s.registered = fnd_counter_read(reg->seg, FND_COUNTER_REGISTERED);
	s.unregistered = fnd_counter_read(reg->seg, FND_COUNTER_UNREGISTERED);
	s.reaped = fnd_counter_read(reg->seg, FND_COUNTER_NAMES_REAPED);
	s.lookups = fnd_counter_read(reg->seg, FND_COUNTER_AGENT_READS);
	s.misses = fnd_counter_read(reg->seg, FND_COUNTER_AGENT_MISSES);
	s.updated = fnd_load_seq_cst(&reg->area->agents_updated); /* [RG-2] a count, as it stands */
	s.last_repair_ns = fnd_load_seq_cst(&reg->area->agents_repaired_ns); /* [RG-2] */
	s.events = reg->events ? fnd_events_head(reg->events) : 0;
	*ret_stats = s;
	return 0;
}

/* --- putting it right ------------------------------------------------------------------------------ */

struct damage {
	struct fnd_registry *reg;
	uint32_t removed;
};

static enum fnd_modify drop_damaged(void *arg, const void *old, size_t old_bytes, const void **new_value,
				    size_t *new_bytes)
{
	struct fnd_shm_agent_max v;

	(void)arg, (void)new_value, (void)new_bytes;
	return old && fnd_agent_read(old, old_bytes, &v) ? FND_MODIFY_DELETE : FND_MODIFY_KEEP;
}

static int damaged_one(const struct fnd_record *r, void *arg)
{
	struct fnd_shm_agent_max v;
	struct damage *d = arg;
	int err;

	if (fnd_agent_read(r->value, r->value_bytes, &v) == 0)
		return 0;
	err = fnd_table_modify(d->reg->table, r->key, r->key_bytes, drop_damaged, NULL);
	d->removed += err == FND_MODIFY_DELETE;
	return err < 0 ? err : 0;
}

/* What is missing is made later. */
static int mend(struct fnd_segment *seg, uint64_t capacity, struct fnd_registry_repair *done)
{
	static const char *const others[] = { FND_AGENTS_INDEX_TABLE, FND_EVENTS_TABLE };
	const struct fnd_table_options opt = { .size = sizeof(opt),
					       .flags = FND_TABLE_OWNED,
					       .key_max = FND_AGENT_NAME_MAX,
					       .value_max = sizeof(struct fnd_shm_agent_max),
					       .capacity = capacity };
	unsigned int n = 0;
	int err = fnd_table_mend(seg, FND_REGISTRY_TABLE, &opt, &n);

	if (err && err != -ENOENT)
		return err;
	done->mended = n;
	for (unsigned int i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		n = 0;
		err = fnd_table_mend(seg, others[i], NULL, &n);
		if (err && err != -ENOENT)
			return err;
		done->mended += n;
	}
	return 0;
}

static bool table_there(struct fnd_segment *seg, const char *name)
{
	struct fnd_table *t;
	int err = fnd_table_open(seg, name, NULL, &t);

	if (!err)
		fnd_table_close(t);
	return !err;
}

static int repair(struct fnd_registry *reg, struct fnd_registry_repair *done)
{
	struct damage d = { .reg = reg };
	uint64_t head = reg->events ? fnd_events_head(reg->events) : 0;
	unsigned int names = 0;
	int err = fnd_table_iterate(reg->table, 0, damaged_one, &d);

	done->damaged = d.removed;
	if (!err)
		err = fnd_table_check(reg->table);
	if (!err)
		err = fnd_registry_reap(reg, &names);
	done->reaped = names;
	if (!err && reg->events)
		done->events = (uint32_t)(fnd_events_head(reg->events) - head);
	if (!err)
		err = fnd_index_fill(reg, &done->indexed);
	if (!err)
		err = fnd_index_complete(reg);
	if (!err)
		err = fnd_index_sweep(reg, &done->index_dropped);
	if (!err && (done->made || done->mended || done->damaged || done->indexed || done->index_dropped))
		fnd_raise_u64(&reg->area->agents_repaired_ns, fnd_runtime_wall_ns()); /* [RG-2] */
	return err;
}

int fnd_registry_ensure(struct fnd_segment *seg, uint64_t capacity, struct fnd_registry_repair *ret_repair)
{
	struct fnd_registry_repair done = { 0 };
	struct fnd_registry *reg;
	int err = mend(seg, capacity, &done);

	if (err)
		return err;
	done.made = !table_there(seg, FND_REGISTRY_TABLE) + !table_there(seg, FND_EVENTS_TABLE);
	err = fnd_registry_open(seg, capacity, &reg);
	if (err)
		return err;
	err = repair(reg, &done);
	fnd_registry_close(reg);
	if (!err && ret_repair)
		*ret_repair = done;
	return err;
}
