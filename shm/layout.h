/* SPDX-License-Identifier: MIT */
/*
 * Everything that lives in a segment.
 *
 * Fixed-width members only, offsets instead of pointers, padding spelled out. docs/segment-format.md
 * has a row for each member; a test compares it with this file. `struct fnd_shm_*` is everybody's
 * memory: whatever is read from it is read once into a local, checked, then used.
 *
 * A segment, from its first byte:
 *   header | process slots | thread slots | cells | table directory | spans … brk | (not yet backed)
 */
#ifndef FOUNDATION_SHM_LAYOUT_H
#define FOUNDATION_SHM_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#define FND_MAGIC 0x0a4745534e554f46ULL /* "FOUNSEG\n" */
#define FND_LAYOUT_MAJOR 1u             /* other major: other segment */
#define FND_LAYOUT_MINOR 0u             /* newer minor: readable when no unknown incompat feature is set */
#define FND_ENDIAN 0x01020304u
#define FND_LINE 64u
#define FND_HEADER_BYTES 4096u
#define FND_PROCESSES_MAX 4095u
#define FND_THREADS_MAX 4095u
#define FND_TABLES 64u
#define FND_MAX_BYTES_LIMIT (32ULL << 30) /* record links are 32-bit counts of 8 bytes */

/* Feature words, as in ext4: unknown compat is ignored, ro_compat forbids writing, incompat attaching. */
#define FND_INCOMPAT_FENCED 1u /* every reader's begin has a full fence */
#define FND_INCOMPAT_KNOWN FND_INCOMPAT_FENCED
#define FND_RO_COMPAT_KNOWN 0u

/* The slot word: state 2 | generation 30 | pid, tid or reaper 32, changed by compare-and-swap only. */
enum fnd_slot_state { FND_SLOT_FREE = 0, FND_SLOT_CLAIMING = 1, FND_SLOT_ACTIVE = 2, FND_SLOT_REAPING = 3 };
#define FND_SLOT_GEN_MASK 0x3fffffffu

static inline uint64_t fnd_slot_word(unsigned int state, uint32_t gen, uint32_t id)
{
	return (uint64_t)state << 62 | (uint64_t)(gen & FND_SLOT_GEN_MASK) << 32 | id;
}
static inline unsigned int fnd_slot_state(uint64_t w) { return (unsigned int)(w >> 62); }
static inline uint32_t fnd_slot_gen(uint64_t w) { return (uint32_t)(w >> 32) & FND_SLOT_GEN_MASK; }
static inline uint32_t fnd_slot_id(uint64_t w) { return (uint32_t)w; }

struct fnd_shm_header {
	/* Written once, before the segment has a name; covered by checksum. */
	uint64_t magic;
	uint32_t layout_major;
	uint32_t layout_minor;
	uint64_t layout_hash; /* over every (struct, member, offset, size) */
	uint32_t endian;
	uint32_t page_bytes;
	uint32_t line_bytes;
	uint32_t header_bytes;
	uint32_t feature_compat;
	uint32_t feature_ro_compat;
	uint32_t feature_incompat;
	uint32_t processes; /* slots 1 .. processes are used, slot 0 never */
	uint32_t threads;
	uint32_t tables;
	uint8_t uuid[16];
	uint64_t hash_seed;
	uint64_t created_ns; /* wall clock */
	uint64_t max_bytes;  /* virtual size; the file's own size is what is backed */
	uint64_t default_capacity;
	uint64_t process_off;
	uint64_t thread_off;
	uint64_t cell_off;
	uint64_t area_off;    /* the threads' areas */
	uint64_t remains_off; /* what is kept of the dead */
	uint64_t table_off;
	uint64_t span_off; /* first span */
	char creator_version[16];
	uint64_t checksum; /* XXH3 of all bytes before it */

	/* Where its participants live; rewritten by a takeover, which is alone. */
	uint8_t boot_id[16];
	uint64_t pidns_ino;
	uint64_t timens_ino;
	uint64_t home_checksum; /* XXH3 of the three members before it */
	uint8_t pad0[24];

	/* One line each: what is written while running. */
	uint64_t epoch; /* G */
	uint8_t pad1[56];
	uint64_t safe; /* batches stamped below may be reused */
	uint8_t pad2[56];
	uint64_t brk; /* end of the last span */
	uint32_t lock; /* spans, directory, regions; lock word */
	uint32_t pad3;
	uint64_t destroying; /* number of the attempt << 32 | pid of who is destroying the name, or 0 */
	uint64_t snapshot_generation;
	uint8_t pad4[32];
	uint32_t process_high; /* highest slot ever claimed: bounds of every scan */
	uint32_t thread_high;
	uint32_t sample_every;  /* one lookup in so many is timed while a tracer is attached */
	uint32_t sample_always; /* … and when nobody traces; 0: then none */
	uint8_t pad5[48];
	uint64_t remains_head; /* remains ever kept; number n lies in place (n - 1) % FND_SHM_REMAINS */
	uint8_t reserved[FND_HEADER_BYTES / 2 - 520];
	uint8_t area[FND_HEADER_BYTES / 2]; /* its bytes mean what the layer above says */
};

#define FND_PROCESS_READ_ONLY 1u /* may not call membarrier(2): reads only, with a fence in begin */

struct fnd_shm_process {
	uint64_t word; /* FREE -> CLAIMING -> ACTIVE -> REAPING -> FREE; REAPING: reaper's slot and generation */
	uint64_t pidfd_ino;
	uint64_t start_time; /* clock ticks since boot, /proc/PID/stat field 22 */
	uint64_t attached_ns; /* wall clock */
	uint32_t identity_flags;
	uint32_t flags; /* FND_PROCESS_* */
	char comm[16];
	uint32_t pidns; /* inodes of the namespaces pid and start_time belong to */
	uint32_t timens;
	/* The last death in this slot; written by the reaper while REAPING. */
	uint32_t death_generation;
	uint32_t death_pid;
	uint32_t death_known; /* death_status is what waitpid(2) gives */
	uint32_t death_status;
	uint64_t death_ns; /* wall clock */
	uint8_t pad[40];
};

struct fnd_shm_thread {
	uint64_t word; /* as a process slot's, with the tid */
	uint64_t process; /* slot << 32 | generation of its process */
	/* Written by whoever finds the section in the way of a grace period, for people to read. */
	uint64_t behind_epoch; /* of the section that was found */
	uint64_t behind_ns;    /* when it was first found, CLOCK_MONOTONIC */
	uint32_t pid; /* of its process */
	uint32_t tid; /* also while a reaper has the word */
	uint8_t pad0[24];
	uint64_t epoch; /* epoch << 16 | nesting; 0: outside; a line of its own */
	uint8_t pad1[56];
};

/* Log-linear buckets, HdrHistogram's indexing with 16 sub-buckets an octave: values below 32 ns exact,
 * above within 1/16. The last bucket takes everything from 2^36 ns on. */
#define FND_HIST_SUB_BITS 4u
#define FND_HIST_MAX_BITS 36u
#define FND_HIST_BUCKETS (16u + (FND_HIST_MAX_BITS - FND_HIST_SUB_BITS) * 16u)

struct fnd_shm_histogram {
	uint64_t count;
	uint64_t sum_ns;
	uint64_t max_ns;
	uint64_t pad;
	uint64_t bucket[FND_HIST_BUCKETS];
};

#define FND_CELL_COUNTERS 16u
#define FND_CELL_OPS 2u

/* One a thread slot, written by the slot's owner only; the next owner adds on. */
struct fnd_shm_cell {
	uint64_t counter[FND_CELL_COUNTERS];
	struct fnd_shm_histogram op[FND_CELL_OPS];
};

/* A thread slot's area: its bytes mean what the layer above says, but that a first word of 0 says "nothing". */
struct fnd_shm_area {
	uint64_t word;
	uint8_t rest[2040];
};

#define FND_SHM_REMAINS 64u

/* A dead thread's area, kept by its reaper. */
struct fnd_shm_remains {
	uint64_t number; /* counts from 1; 0: being written */
	uint64_t process; /* slot << 32 | generation */
	uint32_t pid;
	uint32_t tid;
	uint64_t found_ns; /* wall clock */
	char comm[16];
	uint8_t pad[16];
	struct fnd_shm_area area;
};

/* Spans: the segment's memory from span_off to brk, each with this header, one behind the other. */
#define FND_SPAN_MAGIC 0x4e415053444e46ULL
enum fnd_span_kind { FND_SPAN_ROOT = 1, FND_SPAN_INDEX = 2, FND_SPAN_REGION = 3 };
#define FND_SPAN_FREE 0u

/* What a span is and whose, in one word, so that no look at it mixes two lives. 0: free. */
static inline uint64_t fnd_span_use(unsigned int kind, uint32_t table, uint32_t shard)
{
	return (uint64_t)kind << 56 | (uint64_t)(table & 0xffffff) << 32 | shard;
}
static inline unsigned int fnd_span_kind(uint64_t use) { return (unsigned int)(use >> 56); }
static inline uint32_t fnd_span_table(uint64_t use) { return (uint32_t)(use >> 32) & 0xffffff; }
static inline uint32_t fnd_span_shard(uint64_t use) { return (uint32_t)use; }

struct fnd_shm_span {
	uint64_t magic;
	uint64_t bytes; /* header included, a multiple of 64 */
	uint64_t use; /* kind 8 | table 24 | shard, or region number, 32; 0: free */
	uint64_t pad0;
	uint32_t buckets_log2; /* index: buckets, and overflow buckets behind them */
	uint32_t overflow;
	uint32_t overflow_used;
	uint32_t pad1;
	uint64_t stamp; /* retired index: epoch from which it may be reused, 0: none yet */
	uint64_t next;  /* retired index: the one retired before */
};

/* A bucket: one line. Slot: tag 16 | record offset 48, 0: empty. Link: overflow bucket number, 0: none. */
#define FND_BUCKET_SLOTS 7u
#define FND_OFF_BITS 48u
#define FND_OFF_MASK ((1ULL << FND_OFF_BITS) - 1)

/* Overflow buckets behind 1 << log2 buckets. */
static inline uint32_t fnd_index_overflow(uint32_t log2)
{
	return (1u << log2) / 4 + 4;
}

struct fnd_shm_bucket {
	uint64_t slot[FND_BUCKET_SLOTS];
	uint64_t link;
};

/* A record: immutable from its publication to the end of the grace period after its removal, but for
 * `next`, which no reader looks at, and cells inside a value. The key follows, then, aligned to 8, the
 * value. */
struct fnd_shm_record {
	uint32_t hash; /* low half */
	uint32_t lens; /* value bytes << 8 | key bytes; 24 and 8 bits */
	uint32_t birth; /* snapshot generation at publication */
	uint32_t next; /* free or retired list: offset / 8 */
};

/* Bytes from the end of a record's header to its value. */
static inline uint32_t fnd_value_off(uint32_t key_bytes)
{
	return (key_bytes + 7) & ~7u;
}

#define FND_BATCHES 8u

/* A stamped batch; present when head is not 0. */
struct fnd_shm_batch {
	uint64_t head; /* offset of the first record */
	uint64_t stamp; /* reusable when stamp < safe */
	uint64_t count;
};

struct fnd_shm_shard {
	uint32_t lock; /* owner thread slot 12 | its generation 18 | waiters 1 | recovering 1 */
	uint32_t pad0;
	uint64_t free_head; /* offset, 0: none */
	uint64_t bump;      /* (extent + 1) << 32 | records used of it; 0: no extent */
	uint64_t open_head; /* retired, not stamped */
	uint64_t open_count;
	uint64_t live; /* the three counts are hints between repairs, exact while nobody died */
	uint64_t retired;
	uint64_t free_count;
	struct fnd_shm_batch batch[FND_BATCHES];
	uint64_t old_index; /* newest retired index, chained by fnd_shm_span.next */
	uint64_t growths;
	uint64_t full;
	uint64_t repairs;
	uint64_t extents; /* owned; a hint between repairs */
	uint8_t pad1[24];
};

/* A table's root span: this header, then index[shards], then (64-byte aligned) shard[shards]. */
#define FND_REGIONS 16u
enum fnd_table_state { FND_TABLE_FREE = 0, FND_TABLE_MAKING = 1, FND_TABLE_READY = 2 };

struct fnd_shm_table {
	uint32_t state;
	uint32_t flags;
	char name[32];
	uint32_t key_max;
	uint32_t value_max;
	uint32_t record_bytes; /* stride */
	uint32_t shards;       /* a power of two */
	uint32_t extent_records;
	uint32_t extent_bytes; /* spacing: an odd number of lines, so that extents differ in cache sets */
	uint64_t capacity;
	uint64_t root_off;     /* of the span */
	uint64_t shard_garbage_max; /* records a shard may hold retired */
	uint64_t checksum;     /* XXH3 of the members from flags to shard_garbage_max */
	uint32_t regions;      /* published count */
	uint32_t pad0;
	uint64_t growths;
	uint64_t region_off[FND_REGIONS]; /* span: uint32 owner[extents], then the extents */
	uint32_t region_extents[FND_REGIONS];
	uint8_t pad1[208];
};

#define FND_STATIC_ASSERT _Static_assert
FND_STATIC_ASSERT(sizeof(struct fnd_shm_header) == FND_HEADER_BYTES, "header is one page");
FND_STATIC_ASSERT(offsetof(struct fnd_shm_header, epoch) == 256, "epoch on a line of its own");
FND_STATIC_ASSERT(offsetof(struct fnd_shm_header, remains_head) == 512, "hot lines");
FND_STATIC_ASSERT(offsetof(struct fnd_shm_header, area) == FND_HEADER_BYTES / 2, "half a page");
FND_STATIC_ASSERT(sizeof(struct fnd_shm_area) == 2048, "32 lines");
FND_STATIC_ASSERT(sizeof(struct fnd_shm_remains) == 2112, "33 lines");
FND_STATIC_ASSERT(sizeof(struct fnd_shm_process) == 128, "two lines");
FND_STATIC_ASSERT(sizeof(struct fnd_shm_thread) == 128, "identity line and epoch line");
FND_STATIC_ASSERT(offsetof(struct fnd_shm_thread, epoch) == 64, "epoch line");
FND_STATIC_ASSERT(sizeof(struct fnd_shm_cell) % 64 == 0, "cells do not share lines");
FND_STATIC_ASSERT(sizeof(struct fnd_shm_span) == 64, "span header is one line");
FND_STATIC_ASSERT(sizeof(struct fnd_shm_bucket) == 64, "bucket is one line");
FND_STATIC_ASSERT(sizeof(struct fnd_shm_record) == 16, "record header");
FND_STATIC_ASSERT(sizeof(struct fnd_shm_shard) == 320, "five lines");
FND_STATIC_ASSERT(sizeof(struct fnd_shm_table) == 512, "eight lines");

#endif
