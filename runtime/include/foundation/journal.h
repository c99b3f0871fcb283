/* SPDX-License-Identifier: MIT */
/*
 * The state journal of a segment: what happened to its flags and stages, on disk, in order.
 *
 * It outlives the segment: one made anew takes flags and stage from it. A record is a line, `CRC32C JSON`, of
 * at most FND_JOURNAL_RECORD_MAX bytes, written by one write(2) and fdatasync(2) under flock(2), so that
 * several processes append. A tail that was cut short is cut off by the next appender, and reported.
 *
 * Where: $FOUNDATION_STATE_DIR/NAME, else /var/lib/foundation/NAME for root, else
 * $XDG_STATE_HOME/foundation/NAME, else ~/.local/state/foundation/NAME.
 */
#ifndef FOUNDATION_JOURNAL_H
#define FOUNDATION_JOURNAL_H

#include <stddef.h>
#include <stdint.h>
#include <foundation/error.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FND_JOURNAL_RECORD_MAX 65536u
#define FND_JOURNAL_MAX_BYTES (16u << 20) /* of one file, before it is rotated */
#define FND_JOURNAL_KEEP 4u		   /* rotated files that are kept */
#define FND_JOURNAL_KEEP_MAX 64u
#define FND_JOURNAL_NAME_MAX 64u

struct fnd_journal; /* opaque; one thread at a time */

struct fnd_journal_options {
	size_t size;	    /* sizeof(struct fnd_journal_options) */
	uint64_t max_bytes; /* 0: FND_JOURNAL_MAX_BYTES */
	uint32_t keep;	    /* rotated files, 0: FND_JOURNAL_KEEP */
	uint32_t lock_timeout_ms; /* wait for another appender, 0: 5000 */
};

/**
 * fnd_journal_open - the journal of a segment; makes no file until something is appended.
 * @segment: NAME or UID/NAME (another user's: in a directory UID@NAME beside one's own).
 *
 * Returns: 0, -EINVAL, -ENOMEM, -ENAMETOOLONG. Context: any thread, not in a signal handler.
 * Progress and cost: no system call. Ordering: none. If I die: nothing to repair.
 */
FND_API int fnd_journal_open(const char *segment, const struct fnd_journal_options *opt,
			     struct fnd_journal **ret_journal);

/** fnd_journal_close - free the handle. NULL is allowed. */
FND_API void fnd_journal_close(struct fnd_journal *j);

/** fnd_journal_directory - where it is. Returns: its path, as long as the handle is. Any context. */
FND_API const char *fnd_journal_directory(const struct fnd_journal *j);

/**
 * fnd_journal_append - append a record, durably.
 * @type: "flag.changed" …; [a-z._]{1,63}.
 * @members: JSON members without the braces, "" for none: what follows "n", "at", "boot", "type", "pid".
 * @ret_n: NULL, or receives its number; numbers grow by one, over rotations too.
 *
 * Returns: 0: it is on disk; -EINVAL (type, members with a control character), -E2BIG, -ETIMEDOUT (another
 * appender; the detail says who to look for), -ENOSPC, -EROFS, -EACCES, -EIO … of the file: then nothing of
 * it is there. Context: any thread, not in a signal handler. Progress and cost: blocking, bounded for the
 * lock; an fdatasync. Ordering: none. If I die: the record is whole, or a tail the next appender cuts off.
 */
FND_API int fnd_journal_append(struct fnd_journal *j, const char *type, const char *members, uint64_t *ret_n);

/**
 * fnd_journal_limits_set - @max_bytes of a file, and how many rotated ones are kept, from now on.
 * Returns: 0, -EINVAL (0, or above FND_JOURNAL_KEEP_MAX). Context, progress, ordering, death: nothing to say.
 */
FND_API int fnd_journal_limits_set(struct fnd_journal *j, uint64_t max_bytes, uint32_t keep);

/**
 * fnd_journal_keep_state - what a rotated file begins with, so that it can be read alone.
 *
 * Who appends without one rotates only at four times the limit, and carries over the records since the last
 * `state` that have a member "flags". The newest record of a type "config.…" is always carried over.
 * @members: as above; a copy is kept. Type "state".
 * Returns: 0, -ENOMEM, -E2BIG.
 */
FND_API int fnd_journal_keep_state(struct fnd_journal *j, const char *members);

struct fnd_journal_record {
	uint64_t n;
	uint64_t at_ns; /* wall clock, since 1970 */
	const char *type;
	const char *json; /* the whole object, one line, with its NUL */
	size_t json_bytes;
};

/**
 * fnd_journal_read - call @fn for every record, oldest first, over rotated files too.
 * @fn: returns 0 to go on; anything else ends the walk and becomes the result.
 * @ret_damaged: NULL, or receives how many lines were passed over because their checksum does not fit.
 *
 * Reads beside appenders without a lock: a record that is being appended is not handed out.
 * Returns: 0 (also when there is no journal yet), what @fn returned, -EACCES, -EIO, -ENOMEM.
 */
FND_API int fnd_journal_read(struct fnd_journal *j, int (*fn)(const struct fnd_journal_record *r, void *arg),
			     void *arg, unsigned int *ret_damaged);

/**
 * fnd_journal_purge - remove the journal, and its directory unless something else is in it.
 * Returns: 0 (also: none there), -ETIMEDOUT (an appender), -EACCES, -EROFS … Waits for appenders as they do.
 */
FND_API int fnd_journal_purge(struct fnd_journal *j);

/** fnd_journal_writable - can it be appended to? Returns: 0, or what appending would say; writes nothing. */
FND_API int fnd_journal_writable(struct fnd_journal *j);

#ifdef __cplusplus
}
#endif
#endif
