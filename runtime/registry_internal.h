/* SPDX-License-Identifier: MIT */
/* What the registry's files share: the record, the handle, and who calls whom. */
#ifndef FOUNDATION_RUNTIME_REGISTRY_INTERNAL_H
#define FOUNDATION_RUNTIME_REGISTRY_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>

#include <foundation/area.h>
#include <foundation/context.h>
#include <foundation/events.h>
#include <foundation/registry.h>

#include "area_layout.h"

#define FND_AGENTS_INDEX_TABLE "agents.index"

/*
 * Marks, in the two words of a record that are otherwise 0: who is at work on it. They are added in place
 * under the shard's lock, so marking takes no memory and a kill leaves a mark or none.
 *   owner.reserved  the name is leaving: its event comes next, then the record goes
 *   reserved	     this change has no event yet
 * A mark is a kind and the pid of whoever set it; when that pid is no live participant's any more, the next
 * reaper takes over.
 */
#define FND_MARK_PIDS 0x3fffffffu
#define FND_MARK_KIND(m) ((m) >> 30)
#define FND_MARK_PID(m) (FND_MARK_PIDS & (m))
#define FND_MARK(kind, pid) ((uint32_t)(kind) << 30 | (FND_MARK_PIDS & (pid)))
enum fnd_leaving { FND_LEAVING_GONE = 1, FND_LEAVING_DOWN = 2 };
enum fnd_pending { FND_PENDING_UP = 1, FND_PENDING_UPDATED = 2 };

/* The value of a record; its metadata follows. */
struct fnd_shm_agent {
	struct fnd_owner owner;
	uint64_t registered_ns;
	uint64_t generation;
	uint32_t metadata_bytes;
	uint32_t reserved;
};
_Static_assert(sizeof(struct fnd_shm_agent) == 40, "part of the segment's format");

struct fnd_shm_agent_max {
	struct fnd_shm_agent e;
	unsigned char metadata[FND_METADATA_MAX];
};

struct fnd_indexed {
	char name[FND_ATTRIBUTE_NAME_MAX + 1];
	uint32_t complete; /* every name that was there before is in */
};

struct fnd_registry {
	struct fnd_segment *seg;
	struct fnd_table *table;
	struct fnd_events *events; /* NULL: no room for them */
	struct fnd_shm_runtime *area;
	struct fnd_participant self;
	uint32_t changes; /* counts this handle's, for generations of their own */

	pthread_mutex_t loading;
	uint32_t index_seen; /* agents_indexed when the attributes were read */
	uint32_t nindexed; /* grows only, after the entry is there */
	struct fnd_table *index;
	struct fnd_indexed indexed[FND_INDEXED_MAX];
};

uint64_t fnd_runtime_wall_ns(void);
uint64_t fnd_generation_us(void); /* the time, as generations count it */
int fnd_agent_name_check(const char *name); /* its bytes, or -EINVAL */
/* Takes a record's value apart. 0, or -FND_E_CORRUPT: too short, or its length is a lie. */
int fnd_agent_read(const void *value, size_t bytes, struct fnd_shm_agent_max *ret);
bool fnd_agent_owner_dead(struct fnd_registry *reg, const struct fnd_owner *o);
bool fnd_agent_owner_active(struct fnd_registry *reg, const struct fnd_owner *o);
bool fnd_agent_same_owner(const struct fnd_owner *a, const struct fnd_owner *b);
void fnd_agent_fill(struct fnd_agent *a, const struct fnd_shm_agent_max *v);

/* --- registry_death.c: events, and names that leave ------------------------------------------------ */

#define FND_DEATH_CONTEXTS 8
#define FND_DEATH_CONTEXT_BYTES 448

/* How an owner ended; looked up once for all its names. */
struct fnd_ending {
	struct fnd_owner owner; /* slot 0: of nobody yet */
	const char *reason;
	int status; /* -1: not known */
	unsigned int contexts;
	struct {
		size_t bytes;
		unsigned char map[FND_DEATH_CONTEXT_BYTES];
	} context[FND_DEATH_CONTEXTS];
};

struct fnd_removal {
	const struct fnd_owner *by; /* who may: NULL: whoever */
	uint64_t generation; /* this record or none; 0: any */
	enum fnd_leaving kind;
	bool leave; /* do not delete: the caller puts another record over it */
	bool help; /* also what a living process is removing at this moment */
	struct fnd_ending *ending; /* kept over several removals; NULL: looked up */
	struct fnd_owner holder; /* out, with -EPERM */
	bool begun; /* out: it was not leaving before */
	uint32_t leaver; /* a process found dead, whose mark does not count; out, with -EBUSY */
};

/* Marks, tells, deletes. 0; -ENOENT; -EPERM (not @by's); -EBUSY (somebody else is removing it); -EAGAIN
 * (another record by now). */
int fnd_agent_remove(struct fnd_registry *reg, const void *name, size_t n, struct fnd_removal *r);
/* Publishes a change and takes its mark off. */
void fnd_agent_announce(struct fnd_registry *reg, const void *name, size_t n, const struct fnd_shm_agent_max *v,
			uint32_t taken_from);
bool fnd_agent_process_gone(struct fnd_registry *reg, uint32_t pid);

/* --- registry_attributes.c, registry_index.c ------------------------------------------------------ */

/* Reads the attributes when there may be new ones. */
int fnd_index_refresh(struct fnd_registry *reg);
int fnd_index_define(struct fnd_registry *reg, const char *const *attributes, uint32_t n);
/*
 * add: what this change says and @old (or NULL) did not; a failure leaves nothing.
 * undo: the entries of this very change. drop: what @v said and @kept (or NULL) does not, by it and all before.
 */
int fnd_index_add(struct fnd_registry *reg, const void *name, size_t n, const struct fnd_shm_agent_max *v,
		  const struct fnd_shm_agent_max *old);
void fnd_index_undo(struct fnd_registry *reg, const void *name, size_t n, const struct fnd_shm_agent_max *v);
void fnd_index_drop(struct fnd_registry *reg, const void *name, size_t n, const struct fnd_shm_agent_max *v,
		    const struct fnd_shm_agent_max *kept);
/* Builds on what somebody who died left half made. */
int fnd_index_complete(struct fnd_registry *reg);
/* The indexed attribute of that name, complete; -1: none. */
int fnd_index_of(struct fnd_registry *reg, const char *attribute);
/* Calls @fn for every name that may have the value, some several times. */
int fnd_index_walk(struct fnd_registry *reg, unsigned int attribute, const struct fnd_value *value,
		   int (*fn)(const char *name, size_t n, void *arg), void *arg);
/* Puts in what is missing; takes out what leads nowhere. */
int fnd_index_fill(struct fnd_registry *reg, uint32_t *ret_added);
int fnd_index_sweep(struct fnd_registry *reg, uint32_t *ret_dropped);

/* --- query.c --------------------------------------------------------------------------------------- */

/* The value of an attribute: 1, or 0 when there is none. */
int fnd_attribute_get(const void *map, size_t bytes, const char *path, struct fnd_value *ret);
/* Calls @fn for the value, or for each element of an array. */
int fnd_attribute_each(const struct fnd_value *v, int (*fn)(const struct fnd_value *v, void *arg), void *arg);
bool fnd_attribute_valid(const char *name);

#endif
