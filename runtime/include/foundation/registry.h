/* SPDX-License-Identifier: MIT */
/*
 * The registry of agents: names with metadata, each owned by a live participant.
 *
 * A name is found by every participant from the moment register returns until its owner unregisters it
 * or dies. Once somebody has reaped a dead owner none of its names is ever returned again.
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

/**
 * fnd_registry_open - open the segment's registry, making it if it is not there.
 * @capacity: names it holds for sure; 0: what is there, or the segment's default.
 *
 * Returns: 0, or the errors of fnd_table_open. Context, cost, death: as fnd_table_open.
 */
FND_API int fnd_registry_open(struct fnd_segment *seg, uint64_t capacity,
			      struct fnd_registry **ret_reg);

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
 * Returns: 0, -ENOENT, -EPERM (another living owner's), and the errors of fnd_table_delete.
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
 * Returns: 0, or the errors of fnd_table_iterate and fnd_table_delete.
 * Context: any thread, not in a signal handler. Progress and cost: one pass over the table when somebody
 * has died. Ordering: acq_rel. If I die: the next call goes on.
 */
FND_API int fnd_registry_reap(struct fnd_registry *reg, unsigned int *ret_names);

#ifdef __cplusplus
}
#endif
#endif
