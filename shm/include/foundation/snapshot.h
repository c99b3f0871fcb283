/* SPDX-License-Identifier: MIT */
/*
 * Snapshots: every table of a segment in one stream of bytes, and back.
 *
 * docs/snapshot-format.md describes the bytes. A stream is written and read strictly forwards, so it may be
 * a pipe. Every byte of it is covered by a checksum: a stream that was cut, or in which any byte was
 * changed, is refused with -FND_E_CORRUPT, and fnd_error_detail() names the block and the offset.
 *
 * What a snapshot promises. Each shard of each table is one cut: no write of that shard is half in. The
 * whole is one cut when no writer was active while it was taken. FND_SNAPSHOT_WRITES_SEEN says that tables
 * changed meanwhile; its absence is no proof, because a table's bookkeeping may change and change back.
 */
#ifndef FOUNDATION_SNAPSHOT_H
#define FOUNDATION_SNAPSHOT_H

#include <foundation/table.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FND_SNAPSHOT_VERSION 1u
#define FND_SNAPSHOT_TABLES_MAX 64u

#define FND_SNAPSHOT_SHARD_EXACT 1u /* each shard is one cut: always set by this version */
#define FND_SNAPSHOT_WRITES_SEEN 2u /* tables changed while it was taken: the whole is not one cut */

/* What a snapshot says of itself: its header and its footer. */
struct fnd_snapshot_info {
	uint32_t version;
	uint32_t flags;                  /* FND_SNAPSHOT_* */
	uint64_t created_ns;             /* wall clock, since 1970 */
	char segment[FND_NAME_MAX + 16]; /* it was taken from: UID/NAME */
	unsigned char uuid[16];          /* of the segment; all 0: not known */
	char creator[32];                /* version of the library that wrote it */
	/* What the segment was created with; 0 where it is not known. */
	uint64_t default_capacity, max_bytes;
	uint32_t processes, threads, segment_flags, sample_every;
	/* Counted while it was written, and again while it was read. */
	uint64_t tables, blocks, records;
	uint64_t bytes;         /* of the whole stream */
	unsigned char hash[16]; /* XXH3-128 of all that comes before it in the stream, canonical form */
};

struct fnd_snapshot_table {
	char name[FND_TABLE_NAME_MAX + 1];
	uint32_t flags; /* FND_TABLE_* */
	uint32_t key_max, value_max;
	uint64_t capacity;
};

struct fnd_snapshot_record {
	const void *key;
	size_t key_bytes;
	const void *value; /* in a table with FND_TABLE_OWNED: what follows the struct fnd_owner */
	size_t value_bytes;
	const struct fnd_owner *owner; /* NULL unless the table has FND_TABLE_OWNED */
	uint64_t block;                /* where it was met: for messages */
	uint64_t offset;
};

/* Either may be NULL. Both return 0 to go on; anything else ends the walk and becomes the result. */
struct fnd_snapshot_visitor {
	size_t size; /* sizeof(struct fnd_snapshot_visitor) */
	int (*table)(const struct fnd_snapshot_table *t, void *arg);
	int (*record)(const struct fnd_snapshot_table *t, const struct fnd_snapshot_record *r, void *arg);
	void *arg;
};

/**
 * fnd_snapshot_write - write every table of a segment.
 * @fd: a file, pipe or socket open for writing; written from its position on, never seeked, not synced.
 * @ret_info: NULL, or receives what was written.
 *
 * Returns: 0; a negative errno of write(2), after which the bytes in @fd are no
 * snapshot; -FND_E_CORRUPT (the segment is damaged; the detail names the table); -ENOMEM; the errors
 * of fnd_table_iterate with FND_ITERATE_EXACT.
 * Context: any thread, not in a signal handler, not inside a read section. A broken pipe raises SIGPIPE
 * unless the caller ignores it.
 * Progress and cost: blocking in write(2); readers of the segment never wait, a writer waits for the copy of
 * one shard's index. One shard and 1 MiB in private memory at a time. Ordering: acquire.
 * If I die: a lock I held is taken from me; the bytes written lack their footer and are refused by
 * every reader. Nothing of the segment changes.
 */
FND_API int fnd_snapshot_write(struct fnd_segment *seg, int fd, struct fnd_snapshot_info *ret_info);

/**
 * fnd_snapshot_read - check a snapshot from the first byte to the last, and hand out what is in it.
 * @fd: read from its position on, never seeked. Bytes after the footer are damage.
 * @visitor: NULL: check only. A record is handed out once its block's checksum holds; that the whole
 *           file is sound is known only when this function returns 0.
 * @ret_info: NULL, or receives what the header and the footer say.
 *
 * Never allocates more than the stream has bytes (and never more than 1 MiB and a few KiB).
 *
 * Returns: 0; -FND_E_CORRUPT (not a snapshot, cut, or changed: the detail says where); -FND_E_TOO_NEW (a
 * later version of the format); what a callback returned; a negative errno of read(2); -ENOMEM.
 * Context: any thread, not in a signal handler. Progress and cost: blocking in read(2); about 1 GB/s.
 * Ordering: none. If I die: nothing to repair.
 */
FND_API int fnd_snapshot_read(int fd, const struct fnd_snapshot_visitor *visitor,
			      struct fnd_snapshot_info *ret_info);

/** fnd_snapshot_verify - fnd_snapshot_read() without a visitor. Returns, context, cost: as that. */
FND_API int fnd_snapshot_verify(int fd, struct fnd_snapshot_info *ret_info);

enum fnd_snapshot_owners {
	FND_SNAPSHOT_OWNERS_LIVE = 0, /* drop records whose owner is no live participant of the target */
	FND_SNAPSHOT_OWNERS_ALL = 1,  /* keep them as orphans: owner.slot 0, generation 0, pid kept */
};

struct fnd_snapshot_restore_options {
	size_t size;                 /* sizeof(struct fnd_snapshot_restore_options) */
	uint32_t owners;             /* enum fnd_snapshot_owners */
	uint32_t flags;              /* none yet: 0 */
	const char *spool_directory; /* for a stream that cannot be seeked; NULL: /var/tmp, then /tmp */
};

struct fnd_snapshot_report {
	uint64_t tables;
	uint64_t records; /* restored, orphans included */
	uint64_t dropped; /* owned by nobody who is a live participant of the target */
	uint64_t orphans; /* restored without a living owner */
};

/**
 * fnd_snapshot_restore - make a new segment with the contents of a snapshot.
 * @fd: as for fnd_snapshot_read(). What cannot be seeked is first copied to a nameless temporary file.
 * @segment_name: of the new segment, the caller's own.
 * @opt: NULL: owners LIVE. In a new segment nobody participates yet, so LIVE drops every owned record.
 * @ret_report, @ret_info: NULL, or receive what was done.
 *
 * The stream is verified whole before anything is changed. The segment is then filled while it has no
 * name: it exists with all records or not at all. It is not attached.
 *
 * Returns: 0; the errors of fnd_snapshot_read() (also -FND_E_CORRUPT for a key that is there twice, or for a
 * file that changed while it was read) and of fnd_segment_create(): -EEXIST (the name is taken), -ENOSPC
 * (/dev/shm, or the spool directory: the detail says which), …; -EINVAL (options).
 * Context: any thread, not in a signal handler, not inside a read section.
 * Progress and cost: blocking; reads the stream twice, and one insert a record. Ordering: release.
 * If I die: the nameless segment and the nameless spool vanish with their last descriptor.
 */
FND_API int fnd_snapshot_restore(int fd, const char *segment_name,
				 const struct fnd_snapshot_restore_options *opt,
				 struct fnd_snapshot_report *ret_report,
				 struct fnd_snapshot_info *ret_info);

#ifdef __cplusplus
}
#endif
#endif
