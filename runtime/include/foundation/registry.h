/* SPDX-License-Identifier: MIT */
/*
 * The registry of agents: names with metadata, each owned by a live participant.
 *
 * A name is found by every participant from the moment register returns until its owner unregisters it
 * or dies. Once somebody has reaped a dead owner none of its names is ever returned again.
 *
 * Every change is an event (<foundation/events.h>) whose map has name, pid, slot, generation (of the owner),
 * registered (ns since 1970), change (the generation of the name) and metadata:
 *   agent.up       a name has a (new) owner; taken_from: pid of the living one it was taken from
 *   agent.updated  other metadata
 *   agent.gone     unregistered
 *   agent.down     its owner died; reason: exit, signal or unknown; status: the exit code or the signal;
 *                  contexts: what its threads were doing, as far as there is room
 * An event is published by who made the change. If that one is killed first, the next reap publishes it, so
 * none is lost; what that repeats is dropped by fnd_events_read(). A name goes for good after its event.
 */
#ifndef FOUNDATION_REGISTRY_H
#define FOUNDATION_REGISTRY_H

#include <foundation/table.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FND_REGISTRY_TABLE "agents"
#define FND_AGENT_NAME_MAX 255 /* bytes, at least 1; any bytes but NUL */
#define FND_METADATA_MAX 512   /* bytes of one msgpack map */

struct fnd_registry; /* this process's handle */
struct fnd_events;

/**
 * fnd_registry_open - open the segment's registry, making it if it is not there.
 * @capacity: names it holds for sure; 0: what is there, or the segment's default.
 *
 * Also opens the segment's events (<foundation/events.h>), making them; where there is no room for them the
 * registry works, and says nothing. Attributes: those that are indexed already.
 *
 * Returns: 0, or the errors of fnd_table_open. Context, cost, death: as fnd_table_open.
 */
FND_API int fnd_registry_open(struct fnd_segment *seg, uint64_t capacity,
			      struct fnd_registry **ret_reg);

#define FND_INDEXED_MAX 8	 /* attributes */
#define FND_ATTRIBUTE_NAME_MAX 63 /* bytes of its name, dots of a path included */

struct fnd_registry_options {
	size_t size;		       /* sizeof(struct fnd_registry_options) */
	uint64_t capacity;	       /* as fnd_registry_open */
	const char *const *attributes; /* to be indexed */
	uint32_t nattributes;	       /* 0: those that are */
};

/**
 * fnd_registry_open_with - the same with indexed attributes: a find on one costs what its answer costs.
 *
 * Attributes are indexed from now on, by every process, and for the names that are there already.
 *
 * Returns: as fnd_registry_open; -EINVAL (an attribute's name), -E2BIG (more than FND_INDEXED_MAX in all).
 * Context, death: as fnd_table_open; an index that is half made is completed by the next who opens or
 * ensures. Progress and cost: a pass over the table when an attribute is new.
 */
FND_API int fnd_registry_open_with(struct fnd_segment *seg, const struct fnd_registry_options *opt,
				   struct fnd_registry **ret_reg);

/** fnd_registry_events - what it publishes to. Returns: the events, valid until @reg is closed; NULL: none. */
FND_API struct fnd_events *fnd_registry_events(struct fnd_registry *reg);

/** fnd_registry_close - free the handle; names stay. NULL is allowed. */
FND_API void fnd_registry_close(struct fnd_registry *reg);

struct fnd_agent {
	struct fnd_owner owner;
	uint64_t registered_ns; /* wall clock, since 1970 */
	uint64_t generation;    /* changes with every change of this name */
	size_t metadata_bytes;
	unsigned char metadata[FND_METADATA_MAX];
};

/**
 * fnd_metadata_check - are these bytes one whole msgpack map, or none at all?
 *
 * Looks at declared sizes only as far as the bytes go: safe on bytes from a segment or a file.
 *
 * Returns: 0, -EINVAL, -E2BIG (above FND_METADATA_MAX). Context: any thread. Progress and cost: one pass.
 * Ordering: none. If I die: nothing to repair.
 */
FND_API int fnd_metadata_check(const void *metadata, size_t metadata_bytes);

#define FND_REGISTER_TAKE 1u /* take the name from a live owner */

/**
 * fnd_registry_register - own a name, for this process or for another live participant.
 * @owner_pid: 0: the caller; otherwise the pid of a live participant (a parent for its children, a
 *             worker for its service).
 * @metadata: one msgpack map; NULL and 0: the empty map.
 *
 * The same owner again replaces the metadata. A name whose holder is dead is taken at once: the kernel is
 * asked. Names of the dead are swept when the table is full.
 *
 * Returns: 0; -EEXIST (a live owner holds it: fnd_registry_lookup says who), -ESRCH (@owner_pid is no
 * live participant), -EINVAL (name, metadata not a msgpack map), -E2BIG (metadata), and the errors of
 * fnd_table_upsert. A refused call leaves nothing behind.
 * Context: any thread, not in a signal handler. Progress and cost: as fnd_table_modify, and 2 µs when a
 * holder must be looked at. Ordering: release. If I die: the name is registered or not.
 */
FND_API int fnd_registry_register(struct fnd_registry *reg, const char *name, uint32_t owner_pid,
				  const void *metadata, size_t metadata_bytes, unsigned int flags);

/**
 * fnd_registry_lookup - owner and metadata of a name.
 * @ret_agent: NULL: only whether it is there.
 *
 * Returns: 0, -ENOENT (also: the owner has been reaped, or is an orphan), -EINVAL, the errors of
 * fnd_table_lookup. Context: any thread. Progress and cost: wait-free, no lock, no system call.
 * Ordering: acquire. If I die: nothing to repair.
 */
FND_API int fnd_registry_lookup(struct fnd_registry *reg, const char *name,
				struct fnd_agent *ret_agent);

#define FND_UNREGISTER_FORCE 1u /* also a name of another living owner */

/**
 * fnd_registry_unregister - give a name up.
 *
 * Returns: 0; -ENOENT: no such name, or a dead owner's, which goes as such (agent.down); -EPERM (another living
 * owner's); and the errors of fnd_table_delete.
 * Context, cost, death: as register. Ordering: release.
 */
FND_API int fnd_registry_unregister(struct fnd_registry *reg, const char *name, unsigned int flags);

/**
 * fnd_registry_update - replace the metadata of a name, keep its owner.
 *
 * Returns: 0, -ENOENT, -EINVAL, -E2BIG, and the errors of fnd_table_replace.
 * Context, cost, death: as register. Ordering: release.
 */
FND_API int fnd_registry_update(struct fnd_registry *reg, const char *name, const void *metadata,
				size_t metadata_bytes);

#define FND_AGENTS_ORPHANS 1u /* hand out orphans too: owner.slot is 0 */

/**
 * fnd_registry_list - call @fn for every name with a living owner; the kernel is asked once an owner.
 * fnd_registry_count - how many there are.
 *
 * Returns: list as fnd_table_iterate; count the number, or an error.
 * Context, cost: as fnd_table_iterate, and 2 µs an owner. If I die: nothing to repair.
 */
FND_API int fnd_registry_list(struct fnd_registry *reg, unsigned int flags,
			      int (*fn)(const char *name, const struct fnd_agent *a, void *arg),
			      void *arg);
FND_API int64_t fnd_registry_count(struct fnd_registry *reg);

/**
 * fnd_registry_reap - reap dead participants and remove every name they owned.
 * @ret_names: NULL, or receives how many names went.
 *
 * Also publishes what somebody who was killed could not. A name that another reaper is at is left to it.
 *
 * Returns: 0, or the errors of fnd_table_iterate and fnd_table_delete.
 * Context: any thread, not in a signal handler. Progress and cost: one pass over the table.
 * Ordering: acq_rel. If I die: the next call goes on.
 */
FND_API int fnd_registry_reap(struct fnd_registry *reg, unsigned int *ret_names);

struct fnd_registry_stats {
	uint64_t entries; /* records, those of the dead that nobody has met included */
	uint64_t capacity;
	uint64_t bytes; /* backed, index and events included */
	double load;	/* entries / capacity */
	uint32_t nattributes;
	char attribute[FND_INDEXED_MAX][FND_ATTRIBUTE_NAME_MAX + 1];
	uint64_t registered, updated, unregistered, reaped; /* names, by all processes */
	uint64_t lookups, misses;			    /* by all processes */
	uint64_t refused;	 /* writes for want of room */
	uint64_t last_repair_ns; /* wall clock; 0: never */
	uint64_t index_records, index_bytes;
	uint64_t events; /* published so far */
};

/**
 * fnd_registry_stats_read - the registry's figures. Exact while nobody writes, close otherwise.
 *
 * Returns: 0 or an error of fnd_table_stats_read. Context: any thread, not inside a read section.
 * Progress and cost: a pass over the keys. Ordering: none. If I die: nothing to repair.
 */
FND_API int fnd_registry_stats_read(struct fnd_registry *reg, struct fnd_registry_stats *ret_stats);

struct fnd_registry_repair {
	uint32_t made;	       /* tables that were missing */
	uint32_t damaged;      /* records nobody could read, removed */
	uint32_t events;       /* published meanwhile: what somebody killed had left out, and ends */
	uint32_t reaped;       /* names of the dead */
	uint32_t indexed;      /* entries the index lacked */
	uint32_t index_dropped; /* entries of the index that led nowhere */
	uint32_t mended; /* words and shards of the tables themselves, see fnd_table_mend */
};

/**
 * fnd_registry_ensure - make what is missing, repair what is damaged, from what is sound.
 * @capacity: as fnd_registry_open. @ret_repair: NULL, or receives what was done.
 *
 * Idempotent; many may call it at once, beside all other calls.
 *
 * A table whose structure is damaged is mended in place, as far as what is sound says how: handles opened before go
 * on, and find the same names.
 *
 * Returns: 0; -FND_E_CORRUPT (it is damaged beyond that: the detail says where), and the errors of
 * fnd_registry_open and fnd_registry_reap. Context: any thread, not inside a read section. Progress and
 * cost: some passes over the tables. Ordering: acq_rel. If I die: the next call goes on.
 */
FND_API int fnd_registry_ensure(struct fnd_segment *seg, uint64_t capacity,
				struct fnd_registry_repair *ret_repair);

#ifdef __cplusplus
}
#endif
#endif
