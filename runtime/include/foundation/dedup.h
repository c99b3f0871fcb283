/* SPDX-License-Identifier: MIT */
/*
 * Deduplication across processes: of all who emit the same key within a window, exactly one goes out.
 *
 * The record in the table is the event itself, so claiming a key and publishing its event are one 8-byte
 * store: whoever is killed has either emitted or not, and never blocks the key.
 */
#ifndef FOUNDATION_DEDUP_H
#define FOUNDATION_DEDUP_H

#include <foundation/table.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FND_DEDUP_TABLE "dedup"
#define FND_DEDUP_KEY_MAX 255
#define FND_DEDUP_EVENT_MAX 1024 /* bytes */
#define FND_WINDOW_FOREVER UINT64_MAX

struct fnd_dedup; /* this process's handle */

/**
 * fnd_dedup_open - open the segment's deduplication table, making it if it is not there.
 * @capacity: keys it holds for sure within one window; 0: what is there, or the segment's default.
 *
 * Returns: 0, or the errors of fnd_table_open. Context, cost, death: as fnd_table_open.
 */
FND_API int fnd_dedup_open(struct fnd_segment *seg, uint64_t capacity, struct fnd_dedup **ret_dedup);

/** fnd_dedup_close - free the handle; the keys stay. NULL is allowed. */
FND_API void fnd_dedup_close(struct fnd_dedup *d);

enum fnd_claim {
	FND_CLAIM_SUPPRESSED = 0, /* somebody has emitted this key within the window */
	FND_CLAIM_EMITTED = 1,    /* you are the one */
	FND_CLAIM_OVERFLOWED = 2, /* emit it, but it could not be remembered: the table is full */
};

/**
 * fnd_dedup_claim - claim a key for its window, and publish its event.
 * @event: what the emission says, at most FND_DEDUP_EVENT_MAX bytes; copied.
 * @window_ns: at an age of the window or more the key goes out again; FND_WINDOW_FOREVER: never again.
 *             A suppressed call does not extend it.
 *
 * Returns: an enum fnd_claim, or -EINVAL, -E2BIG and the errors of fnd_table_modify but -ENOSPC.
 * Context: any thread, not in a signal handler. Progress and cost: suppressed wait-free; a claim as an
 * insert. A full table is swept of expired keys at most once a tenth of the window.
 * Ordering: acq_rel. If I die: the key is claimed with its event, or free.
 */
FND_API int fnd_dedup_claim(struct fnd_dedup *d, const void *key, size_t key_bytes,
			    const void *event, size_t event_bytes, uint64_t window_ns);

struct fnd_event {
	const void *key;
	size_t key_bytes;
	const void *event;
	size_t event_bytes;
	uint64_t first_ns;   /* wall clock of the claim, since 1970 */
	uint64_t suppressed; /* since then; a suppression that races with a re-emission may be missing */
};

/**
 * fnd_dedup_iterate - call @fn for every event in the table, from private copies.
 *
 * Returns, context, cost: as fnd_table_iterate.
 */
FND_API int fnd_dedup_iterate(struct fnd_dedup *d, int (*fn)(const struct fnd_event *e, void *arg),
			      void *arg);

#ifdef __cplusplus
}
#endif
#endif
