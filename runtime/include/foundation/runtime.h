/* SPDX-License-Identifier: MIT */
/*
 * A worker's runtime: one handle for its segment's flags, events and registry, and the registry's facade.
 *
 * Two registries stand behind the facade: a private one in this process's memory, the legacy way, and the
 * shared one of <foundation/registry.h>. The flags decide at every call which is asked:
 *
 *   shared_registry  migration_monitoring   asked            a miss is asked of  written
 *   off              off                    private          nobody              private; shared too for a name
 *                                                                                published before
 *   off              on                     private          shared              both
 *   on               either                 shared           private             both
 *
 * Guarantees.
 *  A. A flag may change at any instant, also during calls: the first call under a new word waits for those
 *     under the old one, then carries over what has to be. Whoever could find a name before finds it after,
 *     but names of other processes after both flags went off.
 *  B. A name has one owner for everybody once it is published; a private entry that disagrees with its
 *     shared record loses, one whose shared record has gone is dropped.
 *  C. Two processes that own one name privately clash: the first that publishes keeps it, the other one's is
 *     answered only while the name has no shared record; fnd_runtime_clashes() lists it.
 * For the calls of one process the answers and errors are the same whatever the flags are, but for the
 * table of differences in docs/architecture.md.
 *
 * Calls of the facade run inside a read section of liburcu (urcu-bp); none may be made from within one, nor
 * from a signal handler, nor inside fnd_read_begin(). In a child of fork() they give -FND_E_FORKED.
 */
#ifndef FOUNDATION_RUNTIME_H
#define FOUNDATION_RUNTIME_H

#include <foundation/events.h>
#include <foundation/flags.h>
#include <foundation/query.h>
#include <foundation/registry.h>

#ifdef __cplusplus
extern "C" {
#endif

struct fnd_runtime; /* opaque; any thread */

/* Hold no private state: the facade asks the shared registry alone, whatever the flags say. */
#define FND_RUNTIME_SHARED 1u

struct fnd_runtime_options {
	size_t size;		    /* sizeof(struct fnd_runtime_options) */
	uint32_t flags;		    /* FND_RUNTIME_* */
	uint32_t nindexed;	    /* attributes in @indexed */
	const char *identity;	    /* who this worker is to percentages; NULL: its participant number */
	uint64_t registry_capacity; /* names; 0: what is there, or the segment's default */
	const char *const *indexed; /* attributes whose find is fast; see fnd_registry_open_with */
};

/**
 * fnd_runtime_open - what a worker holds of a segment.
 * @opt: NULL for the defaults.
 *
 * Returns: 0; -EPERM (the segment is marked shared only, and neither FND_RUNTIME_SHARED was given nor the
 * library built without private backends: the detail says so), -EINVAL, -ENOMEM, and the errors of
 * fnd_flags_open, fnd_events_open and fnd_registry_open. Only the last is passed over when the registry is
 * damaged: then the facade answers from the private one alone, and -FND_E_CORRUPT where that is not enough.
 * Context: any thread, not in a signal handler. Progress and cost: blocking; some µs once the tables are
 * there. Ordering: acquire. If I die: nothing to repair.
 */
FND_API int fnd_runtime_open(struct fnd_segment *seg, const struct fnd_runtime_options *opt,
			     struct fnd_runtime **ret_rt);

/**
 * fnd_runtime_close - free the handle and every private name; shared ones stay. NULL is allowed.
 * No thread may be in a call on it. Before fnd_segment_detach().
 */
FND_API void fnd_runtime_close(struct fnd_runtime *rt);

/**
 * fnd_runtime_segment, fnd_runtime_flags, fnd_runtime_events, fnd_runtime_registry - what it is made of.
 * Returns: the handle, valid until the runtime is closed; events, registry: NULL when they could not be opened.
 * Context: any. Progress and cost: wait-free. Ordering: none. If I die: nothing to repair.
 */
FND_API struct fnd_segment *fnd_runtime_segment(struct fnd_runtime *rt);
FND_API struct fnd_flags *fnd_runtime_flags(struct fnd_runtime *rt);
FND_API struct fnd_events *fnd_runtime_events(struct fnd_runtime *rt);
FND_API struct fnd_registry *fnd_runtime_registry(struct fnd_runtime *rt);

/** fnd_runtime_private - is there a private backend in this handle? Returns 1 or 0. Wait-free, any context. */
FND_API int fnd_runtime_private(const struct fnd_runtime *rt);

/**
 * fnd_shared_only_set - mark a segment: workers may not hold private state (@on 1), or may again (0).
 * fnd_shared_only - is it marked? Those that are open already go on as they are.
 * Returns: set nothing; 1 or 0. Context: any thread. Progress and cost: wait-free. Ordering: release, acquire.
 * If I die: marked or not.
 */
FND_API void fnd_shared_only_set(struct fnd_segment *seg, int on);
FND_API int fnd_shared_only(struct fnd_segment *seg);

/* --- the facade ------------------------------------------------------------------------------------ */

enum fnd_backend {
	FND_BACKEND_NONE = 0,
	FND_BACKEND_PRIVATE = 1,
	FND_BACKEND_SHARED = 2,
};

/** fnd_agent_backend - which one would be asked first now. Returns that one, never NONE. Wait-free, any thread. */
FND_API enum fnd_backend fnd_agent_backend(struct fnd_runtime *rt);

/**
 * fnd_agent_register, fnd_agent_lookup, fnd_agent_unregister, fnd_agent_update - as the calls of
 * <foundation/registry.h>, by the flags.
 * @ret_backend: NULL, or receives which one answered.
 *
 * Returns: as the function of <foundation/registry.h>; from the private backend also -EOPNOTSUPP
 * (@owner_pid is another process's), and from register and update -EPERM while enforce_shared_state is on
 * for this worker and shared_registry off: counted, and raised as `state.refused` once a call site.
 * Where the shared registry refuses a name to a private-first register, the call is 0 and the name a clash.
 * Context: any thread; see above. Progress and cost: lookup takes no lock and makes no system call but for
 * the first call after a change of flags, and for mending an entry it finds outdated; that first call waits
 * for those in flight and publishes what is private. Ordering: acquire; writes release.
 * If I die: what is in the segment is whole; the private part goes with the process.
 */
FND_API int fnd_agent_register(struct fnd_runtime *rt, const char *name, uint32_t owner_pid,
			       const void *metadata, size_t metadata_bytes, unsigned int flags);
FND_API int fnd_agent_lookup(struct fnd_runtime *rt, const char *name, struct fnd_agent *ret_agent,
			     enum fnd_backend *ret_backend);
FND_API int fnd_agent_unregister(struct fnd_runtime *rt, const char *name, unsigned int flags);
FND_API int fnd_agent_update(struct fnd_runtime *rt, const char *name, const void *metadata,
			     size_t metadata_bytes);

/**
 * fnd_agent_list - call @fn for every name that lookup would find, from private copies, outside any section.
 * fnd_agent_count - how many there are.
 * fnd_agent_find - those with a value of an attribute.
 * fnd_agent_query - those that meet all criteria.
 *
 * A name that is there throughout is handed out exactly once, also while flags change.
 * Returns: 0, what @fn returned, count the number; -ENOMEM, the errors of the shared ones.
 */
FND_API int fnd_agent_list(struct fnd_runtime *rt,
			   int (*fn)(const char *name, const struct fnd_agent *a, void *arg), void *arg);
FND_API int64_t fnd_agent_count(struct fnd_runtime *rt);
FND_API int fnd_agent_find(struct fnd_runtime *rt, const char *attribute, const struct fnd_value *value,
			   int (*fn)(const char *name, const struct fnd_agent *a, void *arg), void *arg);
FND_API int fnd_agent_query(struct fnd_runtime *rt, const struct fnd_criterion *criteria, size_t n,
			    int (*fn)(const char *name, const struct fnd_agent *a, void *arg), void *arg);

/* --- what is not as it should be --------------------------------------------------------------------- */

struct fnd_clash {
	const char *name;
	struct fnd_owner loser;	 /* owns it privately */
	struct fnd_owner holder; /* owned it in the shared registry when the clash was raised */
	uint64_t at_ns;		 /* wall clock */
};

/**
 * fnd_runtime_clashes - call @fn for every clash of a living loser, of all processes, from private copies.
 * Returns: 0, what @fn returned, the errors of fnd_table_iterate. Context, cost: as fnd_table_iterate.
 */
FND_API int fnd_runtime_clashes(struct fnd_runtime *rt, int (*fn)(const struct fnd_clash *c, void *arg),
				void *arg);

/* One worker's private side. */
struct fnd_worker_state {
	struct fnd_owner owner;
	uint64_t at_ns;	     /* wall clock of these figures: they are written when the worker meets new flags */
	uint64_t names;	     /* private entries */
	uint64_t published;  /* … that have a shared record */
	uint64_t uncommon;   /* names it could find before both flags went off, and no longer: other workers' */
	uint64_t clashes;    /* raised so far */
	uint64_t refused;    /* register and update refused by enforcement */
	uint64_t carried;    /* names published by a change of flags */
	uint64_t stale;	     /* private entries dropped because their shared record was gone or another's */
	uint64_t reconciled; /* changes of flags it has met */
};

/** fnd_runtime_state - of this worker, as of now. Returns 0. Any thread; a pass over the private names. */
FND_API int fnd_runtime_state(struct fnd_runtime *rt, struct fnd_worker_state *ret_state);

/**
 * fnd_runtime_workers - call @fn for every living worker, as of its last change of flags.
 * Returns, context, cost: as fnd_runtime_clashes.
 */
FND_API int fnd_runtime_workers(struct fnd_runtime *rt,
				int (*fn)(const struct fnd_worker_state *w, void *arg), void *arg);

#ifdef __cplusplus
}
#endif
#endif
