/* SPDX-License-Identifier: MIT */
/*
 * What the files of shm/ share: this process's view of a segment, of a thread, of a table, and the
 * calls between the files. No struct here is shared memory.
 */
#ifndef FOUNDATION_SHM_INTERNAL_H
#define FOUNDATION_SHM_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define FND_READ_NO_MACROS
#include <foundation/read.h>
#include <foundation/table.h>

#include <foundation/atomic.h>
#include "error.h"
#include "evidence.h"
#include "layout.h"

#define FND_HIDDEN __attribute__((visibility("hidden")))
#define fnd_likely(x) __builtin_expect(!!(x), 1)
#define fnd_unlikely(x) __builtin_expect(!!(x), 0)

/* In a page that fork() wipes: tells a child, also of a raw clone(), that it is not its parent. */
struct fnd_fork_mark {
	uint64_t mine;
};

struct fnd_segment {
	uint64_t id; /* of this attachment in this process, never used again; first: <foundation/read.h> */
	char *base; /* max_bytes of address space, backed as far as the file goes */
	struct fnd_shm_header *hdr;
	uint64_t limit; /* bytes known to be backed; atomic, only grows */
	uint64_t hash_seed;
	struct fnd_fork_mark *fork_mark;
	struct fnd_shm_process *process; /* [0 .. processes] */
	struct fnd_shm_thread *thread;   /* [0 .. threads] */
	struct fnd_shm_cell *cell;       /* [0 .. threads] */
	struct fnd_shm_area *area;       /* [0 .. threads] */
	struct fnd_shm_remains *remains; /* [FND_SHM_REMAINS] */
	struct fnd_shm_table *table;     /* [FND_TABLES] */
	/* Copies of checked header members: nothing is trusted twice. */
	uint64_t max_bytes;
	uint64_t span_off;
	uint64_t default_capacity;
	uint64_t uuid_low; /* first half of the uuid: names the segment in a trace */
	uint32_t processes;
	uint32_t threads;

	bool fenced;    /* begin pays a full fence */
	bool read_only; /* no membarrier here: may not write */
	uint32_t lock_timeout_ms;
	uint32_t self_slot; /* process slot */
	uint32_t self_gen;
	struct fnd_identity identity;
	uint64_t dev, ino; /* of the segment's file, for the exec rule */
	int64_t clock_offset_ns; /* taken off a time that goes into the segment */
	int fd;
	char name[FND_NAME_MAX + 1];
	uint32_t uid; /* whose name space */
	unsigned int handles; /* attachments of one process share the handle */
	void (*stall)(const struct fnd_stall *stall, void *arg);
	void *stall_arg;
	uint64_t stall_reported; /* thread slot << 48 | epoch of the section reported last; atomic */
	uint64_t stall_checked_at; /* cycles; when the reader that holds a grace period back was looked at */
	struct fnd_thread *thread_list; /* under the attachments' mutex, as the next two */
	struct fnd_segment *next; /* attachments of this process */
};

/* One thread's membership in one segment; reached by a thread-local list. */
struct fnd_thread {
	struct fnd_reader reader; /* first: <foundation/read.h> */
	uint64_t seg_id;
	struct fnd_segment *seg;
	struct fnd_shm_thread *slot;
	struct fnd_shm_cell *cell;
	uint32_t index; /* slot number */
	uint32_t gen;
	uint32_t lock_self; /* lock word that says "me" */
	uint32_t writing;   /* inside a mutating call: a signal handler must not start another */
	uint32_t countdown; /* lookups until the next timed one */
	uint32_t retired;   /* records retired since this thread last advanced the epoch */
	uint64_t advanced_at; /* cycles of the last advance */
	uint64_t random;
	struct fnd_thread *next;      /* of this thread */
	struct fnd_thread *list_next; /* of the segment */
};

/* The calling thread's memberships: their list begins with what <foundation/read.h> looks at. */
static inline struct fnd_thread *fnd_thread_first(void)
{
	return (struct fnd_thread *)fnd_reader_self;
}

struct fnd_table {
	/* What a lookup needs, in one line. */
	struct fnd_segment *seg;
	char *base;	    /* the segment's */
	uint64_t *index;    /* [shards] */
	uint64_t hash_seed; /* the segment's */
	/* Checked copies. */
	uint32_t key_max, value_max, record_bytes;
	uint32_t shard_mask, shard_bits;

	struct fnd_shm_table *desc;
	struct fnd_shm_shard *shard;
	uint32_t number; /* in the directory */
	uint32_t flags;
	uint32_t shards;
	uint32_t extent_records, extent_bytes;
	uint64_t first_base, first_last; /* of the first region: where its records begin, and the last may */
	uint64_t capacity, shard_garbage_max;
	char name[FND_TABLE_NAME_MAX + 1];
};

/* --- references into the segment ------------------------------------------------------------------ */

/* slow path of fnd_at(): the file may have grown since; 1 fstat */
FND_HIDDEN bool fnd_limit_refresh(struct fnd_segment *seg, uint64_t end);

/* Is [off, off + len) backed? The one check between an offset and a pointer. */
static inline bool fnd_backed(struct fnd_segment *seg, uint64_t off, uint64_t len)
{
	/* relaxed: it only grows, and a stale value only costs the slow path */
	uint64_t limit = fnd_load_relaxed(&seg->limit);

	if (fnd_likely(off <= limit && len <= limit - off))
		return true;
	if (off > seg->max_bytes || len > seg->max_bytes - off)
		return false;
	return fnd_limit_refresh(seg, off + len);
}

/* The memory at an offset, or NULL: out of bounds or not aligned to 8. */
static inline void *fnd_at(struct fnd_segment *seg, uint64_t off, uint64_t len)
{
	if (fnd_unlikely((off & 7) || !fnd_backed(seg, off, len)))
		return NULL;
	return seg->base + off;
}

static inline uint64_t fnd_off(const struct fnd_segment *seg, const void *p)
{
	return (uint64_t)((const char *)p - seg->base);
}

/* --- slot.c: participants and threads ------------------------------------------------------------- */

FND_HIDDEN int fnd_process_claim(struct fnd_segment *seg);
FND_HIDDEN void fnd_process_release(struct fnd_segment *seg);
FND_HIDDEN int fnd_thread_enter(struct fnd_segment *seg, struct fnd_thread **ret_th);
FND_HIDDEN void fnd_threads_release(struct fnd_segment *seg);
FND_HIDDEN bool fnd_reap_process(struct fnd_segment *seg, uint32_t slot, uint64_t word);
/* Proof that thread slot @index, generation @gen18 (low 18 bits), has no living owner. */
FND_HIDDEN bool fnd_thread_slot_dead(struct fnd_segment *seg, uint32_t index, uint32_t gen18, bool deep);
FND_HIDDEN bool fnd_process_slot_dead(struct fnd_segment *seg, uint32_t slot, uint64_t word, bool deep);
FND_HIDDEN unsigned int fnd_reap_all(struct fnd_segment *seg, bool deep);
FND_HIDDEN bool fnd_thread_reap_dead(struct fnd_segment *seg, uint32_t index, bool deep);
FND_HIDDEN void fnd_attachments_lock(void);
FND_HIDDEN void fnd_attachments_unlock(void);
FND_HIDDEN struct fnd_segment *fnd_attachment_find(uint64_t id);
FND_HIDDEN bool fnd_pid_gone(uint32_t pid);
FND_HIDDEN int fnd_forked_error(void);
FND_HIDDEN int fnd_fenced_error(void);
FND_HIDDEN void fnd_printable(char *text);
FND_HIDDEN void fnd_thread_describe(struct fnd_segment *seg, uint32_t index, char *buf, size_t len);

static inline bool fnd_forked(const struct fnd_segment *seg)
{
	/* relaxed: written before the handle existed; a child of fork reads 0 */
	return fnd_load_relaxed(&seg->fork_mark->mine) == 0;
}

/* The calling thread's membership, NULL: it has none yet, or several segments, or the handle is a parent's. */
static inline struct fnd_thread *fnd_thread_known(struct fnd_segment *seg)
{
	struct fnd_thread *th = fnd_thread_first();

	return fnd_likely(th && th->seg_id == seg->id && !fnd_forked(seg)) ? th : NULL;
}

/* … takes a slot at the first call. */
static inline int fnd_thread_self(struct fnd_segment *seg, struct fnd_thread **ret_th)
{
	struct fnd_thread *th = fnd_thread_known(seg);

	if (fnd_likely(th)) {
		*ret_th = th;
		return 0;
	}
	return fnd_forked(seg) ? fnd_forked_error() : fnd_thread_enter(seg, ret_th);
}

/* --- epoch.c: cross-process RCU ------------------------------------------------------------------- */

static inline void fnd_section_begin(struct fnd_segment *seg, struct fnd_thread *th)
{
	uint64_t *slot = &th->slot->epoch;
	/* relaxed: only this thread writes it */
	uint64_t w = fnd_load_relaxed(slot);

	if (fnd_unlikely(w & 0xffff)) {
		fnd_store_relaxed(slot, w + 1);
	} else {
		/* relaxed: [GP-3] an old G only holds back more. [GP-1] pairs with advance: the membarrier
		 * there stands for the fence that is not here */
		fnd_store_relaxed(slot, fnd_load_relaxed(&seg->hdr->epoch) << 16 | 1);
		if (fnd_unlikely(seg->fenced))
			fnd_fence_full(); /* [GP-1] the fence itself, where membarrier may be missing */
	}
	fnd_compiler_barrier();
}

static inline void fnd_section_end(struct fnd_thread *th)
{
	uint64_t *slot = &th->slot->epoch;
	uint64_t w = fnd_load_relaxed(slot); /* relaxed: only this thread writes it */

	fnd_compiler_barrier();
	/* [GP-2] pairs with scan_readers: what was read in the section stays before its end */
	fnd_store_release(slot, (w & 0xffff) > 1 ? w - 1 : 0);
}

static inline bool fnd_in_section(const struct fnd_thread *th)
{
	return fnd_load_relaxed(&th->slot->epoch) & 0xffff; /* relaxed: own word */
}

/* area.c: keep what is in the area of dead thread slot @index; the caller is its reaper. */
FND_HIDDEN void fnd_remains_keep(struct fnd_segment *seg, uint32_t index);

FND_HIDDEN int fnd_membarrier_register(void);
/* Advance G and raise safe. 0, or an error: then nothing was concluded. */
FND_HIDDEN int fnd_epoch_advance(struct fnd_segment *seg);
FND_HIDDEN void fnd_stall_found(struct fnd_segment *seg, uint32_t index);
FND_HIDDEN uint32_t fnd_epoch_oldest(struct fnd_segment *seg);
/* Advance if this thread has retired enough or waited long enough. */
FND_HIDDEN void fnd_epoch_tick(struct fnd_segment *seg, struct fnd_thread *th);

/* --- lock.c: the slot lock ------------------------------------------------------------------------ */

enum fnd_lock_result { FND_LOCK_TAKEN = 0, FND_LOCK_STOLEN = 1 };
/* FND_LOCK_TAKEN, FND_LOCK_STOLEN (repair before use), -ETIMEDOUT, -EDEADLK. @what: for the detail */
FND_HIDDEN int fnd_lock(struct fnd_segment *seg, struct fnd_thread *th, uint32_t *word, const char *what);
FND_HIDDEN int fnd_trylock(struct fnd_thread *th, uint32_t *word);
FND_HIDDEN void fnd_lock_repaired(struct fnd_thread *th, uint32_t *word);
FND_HIDDEN void fnd_unlock(struct fnd_thread *th, uint32_t *word);
/* The repair failed: leave the lock to the next one, as if its holder had died. */
FND_HIDDEN void fnd_lock_abandon(uint32_t *word);

/* --- space.c: backing and spans ------------------------------------------------------------------- */

FND_HIDDEN int fnd_space_commit(int fd, uint64_t from, uint64_t to);
/* Under hdr->lock. -EAGAIN: *ret_need bytes must be backed first, outside every lock. */
FND_HIDDEN int fnd_span_alloc(struct fnd_segment *seg, uint64_t bytes, uint32_t kind, uint32_t table,
			      uint32_t shard, uint64_t *ret_off, uint64_t *ret_need);
FND_HIDDEN int fnd_space_back(struct fnd_segment *seg, uint64_t need);
/* Walks the spans; off 0 starts. 0: *off is the next span, -ENOENT: the end, -FND_E_CORRUPT */
FND_HIDDEN int fnd_span_next(struct fnd_segment *seg, uint64_t *off);
/* Takes hdr->lock, and repairs directory and spans when its holder had died. */
FND_HIDDEN int fnd_space_lock(struct fnd_segment *seg, struct fnd_thread *th);

/* --- index.c ------------------------------------------------------------------------------------- */

/* index word: offset of the span | log2 of its buckets (offsets are multiples of 64) */
#define FND_INDEX_LOG2_MAX 25u /* a record keeps 32 bits of its hash; 7 of them choose the shard */
#define FND_SHARDS_MAX 128u

struct fnd_index {
	struct fnd_shm_bucket *bucket; /* [1 << log2 + overflow] */
	struct fnd_shm_span *span;
	uint64_t off; /* of the span */
	uint32_t log2;
	uint32_t overflow;
};

FND_HIDDEN uint64_t fnd_index_bytes(uint32_t log2, uint32_t overflow);
FND_HIDDEN int fnd_index_open(struct fnd_table *t, uint32_t shard, uint64_t word, struct fnd_index *ret);
/* The record of a key, NULL, or FND_RECORD_DAMAGED. *ret_slot: where it hangs */
FND_HIDDEN struct fnd_shm_record *fnd_index_find(struct fnd_table *t, const struct fnd_index *ix,
						 uint64_t hash, const void *key, size_t key_bytes,
						 uint64_t **ret_slot);
/* -FND_E_CORRUPT, with the place: for FND_RECORD_DAMAGED */
FND_HIDDEN int fnd_record_damaged(const struct fnd_table *t, uint64_t hash);
/* Publishes a record in an empty slot. 0, or -ENOSPC: the chain is full and no overflow is left. */
FND_HIDDEN int fnd_index_put(const struct fnd_index *ix, uint32_t shard_bits, uint64_t hash, uint64_t off);
/* Under the shard's lock. 0, -EAGAIN (back *ret_need bytes and come again), -ENOSPC, the lock's errors */
FND_HIDDEN int fnd_index_grow(struct fnd_table *t, struct fnd_thread *th, uint32_t shard,
			      uint64_t *ret_need);
FND_HIDDEN int fnd_index_make(struct fnd_segment *seg, uint32_t table, uint32_t shard, uint32_t log2,
			      uint32_t overflow, uint64_t *ret_word, uint64_t *ret_need);
FND_HIDDEN void fnd_index_retire(struct fnd_table *t, uint32_t shard, uint64_t off);
FND_HIDDEN void fnd_index_reclaim(struct fnd_table *t, uint32_t shard);
FND_HIDDEN void fnd_index_sizes(uint64_t records, uint32_t *ret_log2, uint32_t *ret_overflow);

/* --- arena.c: records, retire and reclaim -------------------------------------------------------- */

/* Makes the table's record memory larger; outside every lock. */
FND_HIDDEN int fnd_region_add(struct fnd_table *t, struct fnd_thread *th);
/* Under hdr->lock: allocate, initialise, publish. -EAGAIN: back *ret_need bytes first */
FND_HIDDEN int fnd_region_publish(struct fnd_segment *seg, struct fnd_shm_table *desc, uint32_t number,
				  uint32_t extents, uint32_t extent_bytes, uint64_t *ret_need);
FND_HIDDEN uint64_t fnd_region_bytes(uint32_t extents, uint32_t extent_bytes);
/* 0, -EAGAIN (advance the epoch outside the lock and come again; not when @last), -ENOSPC,
 * -FND_E_GARBAGE, -FND_E_CORRUPT */
FND_HIDDEN int fnd_record_alloc(struct fnd_table *t, uint32_t shard, bool last, uint64_t *ret_off);
FND_HIDDEN void fnd_record_unalloc(struct fnd_table *t, struct fnd_shm_shard *sh, uint64_t off);
FND_HIDDEN void fnd_record_retire(struct fnd_table *t, struct fnd_shm_shard *sh, uint64_t off);
/* At the start of a critical section, before anything is retired in it. */
/* Moves every batch that may be reused to the free list. */
FND_HIDDEN void fnd_shard_collect(struct fnd_table *t, struct fnd_shm_shard *sh);
FND_HIDDEN void fnd_shard_stamp(struct fnd_table *t, uint32_t shard, bool all);
FND_HIDDEN struct fnd_shm_record *fnd_record_far(struct fnd_table *t, uint64_t off);
/* Into the handle, where the first region is. */
FND_HIDDEN void fnd_region_first(struct fnd_table *t);

/* NULL: not within the record memory of this table. A damaged offset must not make a writer write elsewhere. */
static inline struct fnd_shm_record *fnd_record_at(struct fnd_table *t, uint64_t off)
{
	if (fnd_likely(off - t->first_base <= t->first_last && off % 8 == 0))
		return (struct fnd_shm_record *)(t->base + off);
	return fnd_record_far(t, off);
}
/* Offset of the first record of extent @extent, 0: no such extent. */
FND_HIDDEN uint64_t fnd_extent_off(struct fnd_table *t, uint32_t extent, uint32_t **ret_owner);
/* -1: not the place of a record of this table */
FND_HIDDEN int64_t fnd_record_number(struct fnd_table *t, uint64_t off);
FND_HIDDEN uint32_t fnd_extents(struct fnd_table *t);

FND_HIDDEN uint64_t fnd_table_hash(const struct fnd_table *t, const void *key, size_t key_bytes);

/* --- table.c, table_write.c, recovery.c ----------------------------------------------------------- */

FND_HIDDEN int fnd_table_bind(struct fnd_segment *seg, uint32_t number, struct fnd_table *ret);
FND_HIDDEN void fnd_directory_repair(struct fnd_segment *seg);
/* What an entry says of a table made with @opt, but for its root and checksum; extents of its first region. */
FND_HIDDEN int fnd_table_plan(const struct fnd_segment *seg, const char *name, const struct fnd_table_options *opt,
			      struct fnd_shm_table *ret_desc, uint32_t *ret_extents);
FND_HIDDEN uint64_t fnd_table_checksum(const struct fnd_shm_table *d);
/* Gives extents nobody uses back to the table's pool, of every shard that is not busy: how many. */
FND_HIDDEN unsigned int fnd_table_trim(struct fnd_table *t, struct fnd_thread *th);
FND_HIDDEN int fnd_shard_lock(struct fnd_table *t, struct fnd_thread *th, uint32_t shard);
FND_HIDDEN int fnd_shard_repair(struct fnd_table *t, uint32_t shard);
/* Is the index at @want among the shard's retired ones? */
FND_HIDDEN bool fnd_index_in_chain(struct fnd_table *t, struct fnd_shm_shard *sh, uint64_t want);
FND_HIDDEN int fnd_shard_check(struct fnd_table *t, uint32_t shard);

static inline uint32_t fnd_shard_of(const struct fnd_table *t, uint64_t hash)
{
	return (uint32_t)hash & t->shard_mask;
}

/* --- cell.c, probe.c ------------------------------------------------------------------------------ */

FND_HIDDEN void fnd_cell_record(struct fnd_thread *th, enum fnd_op op, uint64_t ns);
static inline void fnd_cell_count(struct fnd_thread *th, enum fnd_counter id, uint64_t n)
{
	uint64_t *c = &th->cell->counter[id];

	fnd_store_relaxed(c, fnd_load_relaxed(c) + n); /* relaxed: one writer; readers sum what they see */
}

FND_HIDDEN uint64_t fnd_now_ns(void); /* CLOCK_MONOTONIC */
/* How far this process's time namespace sets CLOCK_MONOTONIC ahead: for a time that others read. */
FND_HIDDEN int64_t fnd_clock_offset_ns(void);
FND_HIDDEN uint64_t fnd_wall_ns(void);

static inline uint64_t fnd_cycles(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#else
	return fnd_now_ns();
#endif
}

#endif
