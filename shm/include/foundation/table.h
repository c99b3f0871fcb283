/* SPDX-License-Identifier: MIT */
/*
 * Tables: hash tables in a segment, shared by every participant.
 *
 * Terms. *Record*: a key with its value, immutable once published. *Capacity*: how many records of the
 * declared size are backed by memory reserved when the table is made. *Shard*: a part of the table with
 * a lock of its own.
 *
 * Guarantees.
 *  A. insert, replace, upsert and delete become visible by one 8-byte store: a killed writer's last
 *     operation happened whole or not at all.
 *  B. lookups take no lock and make no system call; they see the record as some writer published it.
 *  C. up to the capacity an insert never fails for want of room, as long as readers end their sections;
 *     past it growth is best effort, unless the table is fixed.
 *  D. a call that waits, waits for a bounded time (fnd_attach_options.lock_timeout_ms).
 * Progress: lookups are wait-free, writers block each other per shard and recover from the dead.
 *
 * Who may run beside whom: every call beside every other, in any process. A value handed to a callback
 * of fnd_table_modify() is read under the shard's lock: it calls nothing of this library.
 */
#ifndef FOUNDATION_TABLE_H
#define FOUNDATION_TABLE_H

#include <foundation/segment.h>

#ifdef __cplusplus
extern "C" {
#endif

struct fnd_table; /* this process's handle; valid until closed or the segment is detached */

#define FND_TABLE_NAME_MAX 31
#define FND_KEY_MAX 255
#define FND_VALUE_MAX 65536

/* never grow: at the capacity an insert is -ENOSPC (inserts that race may pass it by one each) */
#define FND_TABLE_FIXED 1u
#define FND_TABLE_OWNED 2u /* values begin with a struct fnd_owner */

/* The first bytes of a value in a table made with FND_TABLE_OWNED. slot 0: an orphan. */
struct fnd_owner {
	uint32_t pid;
	uint32_t slot;
	uint32_t generation;
	uint32_t reserved; /* 0 */
};

struct fnd_table_options {
	size_t size;       /* sizeof(struct fnd_table_options) */
	uint32_t flags;    /* FND_TABLE_* */
	uint32_t key_max;  /* bytes, 1 to 255 */
	uint32_t value_max; /* bytes, 0 to 65536 */
	uint64_t capacity; /* records, 0: the segment's default */
};

/**
 * fnd_table_open - open a table by name, making it if it is not there.
 * @name: [a-zA-Z0-9._-]{1,31}.
 * @opt: its limits; NULL opens an existing table whatever its limits are.
 *
 * Returns: 0; -EINVAL, -ENOENT (@opt NULL and no such table), -FND_E_LIMITS (it has others: the detail
 * says which), -ENOSPC (no room in /dev/shm or the segment), -EMFILE (64 tables exist), -ETIMEDOUT,
 * -ENOMEM, -FND_E_FENCED, -FND_E_CORRUPT, -FND_E_FORKED.
 * Context: any thread, not in a signal handler, not inside a read section.
 * Progress and cost: opening 1 µs; making reserves the memory. Ordering: acquire.
 * If I die: a half-made table is undone by the next who opens one.
 */
FND_API int fnd_table_open(struct fnd_segment *seg, const char *name,
			   const struct fnd_table_options *opt, struct fnd_table **ret_table);

/** fnd_table_close - free the handle; the table stays. NULL is allowed. */
FND_API void fnd_table_close(struct fnd_table *t);

/**
 * fnd_table_insert - add a record that is not there yet.
 * fnd_table_replace - change one that is. fnd_table_upsert - either. fnd_table_delete - remove one.
 *
 * Returns: 0; insert -EEXIST; replace, delete -ENOENT; -EINVAL (key length 0 or above key_max), -E2BIG
 * (value above value_max), -ENOSPC (that entry alone is refused, counted), -FND_E_GARBAGE (a stopped
 * reader; the detail names it), -ETIMEDOUT (the detail names the lock's holder), -EDEADLK (from a signal
 * handler that interrupted a write of this thread to the same shard), -FND_E_CORRUPT, -FND_E_FENCED,
 * -FND_E_FORKED, -FND_E_NOSLOT.
 * Context: any thread; allowed inside a read section of the same thread, which then cannot wait for
 * memory to come back and may get -ENOSPC earlier.
 * Progress and cost: blocking, per shard, bounded; 70 to 400 ns uncontended. Ordering: release.
 * If I die: the operation is whole or absent; the shard's lock is taken from me and the shard repaired.
 */
FND_API int fnd_table_insert(struct fnd_table *t, const void *key, size_t key_bytes,
			     const void *value, size_t value_bytes);
FND_API int fnd_table_replace(struct fnd_table *t, const void *key, size_t key_bytes,
			      const void *value, size_t value_bytes);
FND_API int fnd_table_upsert(struct fnd_table *t, const void *key, size_t key_bytes,
			     const void *value, size_t value_bytes);
FND_API int fnd_table_delete(struct fnd_table *t, const void *key, size_t key_bytes);

enum fnd_modify {
	FND_MODIFY_KEEP = 0,   /* change nothing */
	FND_MODIFY_PUT = 1,    /* publish *new_value, new_bytes */
	FND_MODIFY_DELETE = 2, /* remove the record */
};

/* Decides under the shard's lock. @old is NULL when the key is absent; neither may be kept. */
typedef enum fnd_modify (*fnd_modify_fn)(void *arg, const void *old, size_t old_bytes,
					 const void **new_value, size_t *new_bytes);

/**
 * fnd_table_modify - read, decide and change a record as one step.
 * @fn: called with the shard locked: short, no system call, nothing of this library but fnd_view_add() on
 *      the value at hand. It is called again
 *      when memory had to be fetched meanwhile; only its last answer counts.
 *
 * Returns: the action taken (an enum fnd_modify), or the errors of fnd_table_upsert.
 * Context, progress, ordering, death: as fnd_table_upsert.
 */
FND_API int fnd_table_modify(struct fnd_table *t, const void *key, size_t key_bytes,
			     fnd_modify_fn fn, void *arg);

/**
 * fnd_table_lookup - copy a value out.
 * @buf, @buf_bytes: where to; @ret_bytes: NULL, or receives the value's size, also when it did not fit.
 *
 * Returns: 0, -ENOENT, -EINVAL, -ENOBUFS (buffer too small; nothing copied, *@ret_bytes set),
 * -FND_E_CORRUPT, -FND_E_FORKED, -FND_E_NOSLOT.
 * Context: any thread; async-signal-safe once the thread has a slot. Progress and cost: wait-free; two
 * dependent cache misses and a copy. No lock, no system call (but one fstat when a table has grown past
 * what this process had seen). Ordering: acquire. If I die: nothing to repair.
 */
FND_API int fnd_table_lookup(struct fnd_table *t, const void *key, size_t key_bytes, void *buf,
			     size_t buf_bytes, size_t *ret_bytes);

struct fnd_lookup {
	const void *key;
	size_t key_bytes;
	void *buf; /* where the value goes */
	size_t buf_bytes;
	size_t value_bytes; /* out: the value's size, when result is 0 or -ENOBUFS */
	int result;         /* out: what fnd_table_lookup would have returned */
};

/**
 * fnd_table_lookup_batch - copy several values out, their cache misses side by side.
 * @batch: @n lookups; taken 16 at a time, each 16 in one read section.
 *
 * Returns: how many results are 0; -FND_E_FORKED, -FND_E_NOSLOT (no result was written).
 * Context, ordering, death: as fnd_table_lookup. Progress and cost: wait-free; at sizes beyond the cache a
 * fraction of single lookups, as up to 16 buckets, then 16 records, are fetched at once.
 */
FND_API int fnd_table_lookup_batch(struct fnd_table *t, struct fnd_lookup *batch, size_t n);

struct fnd_view {
	const void *value;
	size_t value_bytes;
};

/**
 * fnd_table_get - the value in place, inside a read section of the calling thread.
 *
 * The view is valid until the section ends. Its bytes are shared memory: never trust lengths inside.
 *
 * Returns: 0, -ENOENT, -EINVAL, -FND_E_CORRUPT, -FND_E_FORKED, -EPERM (not inside a read section).
 * Context, progress, ordering, death: as fnd_table_lookup, without the copy.
 */
FND_API int fnd_table_get(struct fnd_table *t, const void *key, size_t key_bytes,
			  struct fnd_view *ret_view);

/**
 * fnd_view_add - add to a 64-bit cell inside a value, in place.
 * @offset: of the cell in the value, a multiple of 8 (values are aligned to 8).
 *
 * The one change a published value may see. It goes with the record: a replace carries on what it read.
 *
 * Returns: the cell's new value; 0 when @offset is not that of a cell.
 * Context: inside the read section the view is from. Progress and cost: wait-free, 5 ns uncontended.
 * Ordering: seq_cst on the cell alone. If I die: added or not.
 */
FND_API uint64_t fnd_view_add(const struct fnd_view *v, size_t offset, uint64_t n);

struct fnd_record {
	const void *key;
	size_t key_bytes;
	const void *value;
	size_t value_bytes;
};

#define FND_ITERATE_EXACT 1u /* each shard is one cut: no write of that shard half in */

/**
 * fnd_table_iterate - call @fn for every record, from private copies, outside any read section.
 * @flags: 0: a record present throughout is seen exactly once, any other at most once.
 * @fn: returns 0 to go on; anything else ends the walk and becomes the result. May call this library.
 *
 * Returns: 0, what @fn returned, -ENOMEM, -FND_E_CORRUPT (records that could be read were handed out;
 * the walk went on past the damage), -FND_E_FORKED, -FND_E_NOSLOT; with EXACT also the lock's errors.
 * Context: any thread, not in a signal handler, not inside a read section.
 * Progress and cost: a read section a shard for the copy; EXACT locks each shard while its index is
 * copied (20 to 40 µs at 8,000 records). Ordering: acquire. If I die: nothing to repair.
 */
FND_API int fnd_table_iterate(struct fnd_table *t, unsigned int flags,
			      int (*fn)(const struct fnd_record *r, void *arg), void *arg);

struct fnd_table_stats {
	char name[FND_TABLE_NAME_MAX + 1];
	uint32_t flags, key_max, value_max;
	uint32_t shards, record_bytes; /* record_bytes: what one takes, header and padding included */
	uint64_t capacity;
	uint64_t live, retired, free_records; /* live + retired + free_records = allocated, when idle */
	uint64_t allocated; /* record places handed to shards so far */
	uint64_t reserved;  /* record places that are backed */
	uint64_t bytes;     /* backed bytes, indexes included */
	uint64_t growths, full;
};

/**
 * fnd_table_stats_read - the figures of one table. Exact while nobody writes, close otherwise.
 *
 * Returns: 0, -FND_E_CORRUPT. Context: any thread. Progress and cost: one pass over the shards.
 * Ordering: none. If I die: nothing to repair.
 */
FND_API int fnd_table_stats_read(struct fnd_table *t, struct fnd_table_stats *ret_stats);

/**
 * fnd_table_name - name of the @index-th table (0 to 63).
 * Returns: 0, -ENOENT (that place is empty), -EINVAL. Wait-free; any thread.
 */
FND_API int fnd_table_name(struct fnd_segment *seg, unsigned int index,
			   char ret_name[FND_TABLE_NAME_MAX + 1]);

/**
 * fnd_table_check - walk the table under its locks and compare what is there with what is counted.
 *
 * Every record place must be exactly one of live, retired or free, every link and offset sound.
 *
 * Returns: 0; -FND_E_CORRUPT with the place in the detail; the lock's errors.
 * Context: any thread, not in a signal handler, not in a read section. Progress and cost: 100 ns a
 * record, shard by shard. Ordering: acq_rel. If I die: the lock I held is taken from me.
 */
FND_API int fnd_table_check(struct fnd_table *t);

/**
 * fnd_table_mend - put a damaged table right, in place, from what is sound.
 * @opt: what it was made with, or NULL. Without it an entry of the directory that is damaged in more than its
 * root's offset or its checksum cannot be mended.
 * @ret_mended: NULL, or receives how many words and shards were put right; 0: nothing was wrong.
 *
 * The directory's entry, the index words and the list of regions are restored from the spans they refer to, where
 * there is exactly one they can have meant; then every shard that does not add up is repaired: slots and links
 * that lead nowhere are cut off. Records that were reachable stay so; handles opened before go on. Idempotent;
 * any number of processes may call it at once, beside all other calls.
 *
 * Returns: 0; -ENOENT (no such table); -FND_E_CORRUPT (what is lost is said nowhere else: the detail says what);
 * -EINVAL, -FND_E_FENCED, -FND_E_FORKED, the lock's errors. Context: any thread, not in a signal handler, not in a
 * read section. Progress and cost: a pass over the spans; then as fnd_table_check. Ordering: acq_rel.
 * If I die: some of it is done; the next call does the rest.
 */
FND_API int fnd_table_mend(struct fnd_segment *seg, const char *name, const struct fnd_table_options *opt,
			   unsigned int *ret_mended);

/**
 * fnd_table_quiesce - stamp and reclaim what can be reclaimed now, in every shard that is not busy.
 *
 * Nothing needs it: memory comes back by itself when it is wanted. Tests and tools use it.
 * Returns: 0 or an error of fnd_synchronize. Context and cost: as fnd_table_check.
 */
FND_API int fnd_table_quiesce(struct fnd_table *t);

#ifdef __cplusplus
}
#endif
#endif
