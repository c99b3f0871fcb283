/* SPDX-License-Identifier: MIT */
/*
 * Events: a bounded list of what happened in a segment - flags changed, agents came and went - that any
 * process can follow.
 *
 * Each event has a number; numbers grow by one. The last FND_EVENTS_MAX can be read; a reader that is late
 * is told how many it missed. An event is one record of a table, so a publisher that is killed has published
 * or has not, and numbers have no gaps.
 */
#ifndef FOUNDATION_EVENTS_H
#define FOUNDATION_EVENTS_H

#include <foundation/table.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FND_EVENTS_TABLE "events"
#define FND_EVENTS_MAX 1000u
#define FND_EVENT_NAME_MAX 63
#define FND_EVENT_BYTES_MAX 1024u /* of what it carries: one msgpack map */

struct fnd_events; /* this process's handle */

/**
 * fnd_events_open - the segment's events. fnd_events_close - free the handle; NULL is allowed.
 * Returns: 0, or the errors of fnd_table_open. Context, cost, death: as fnd_table_open.
 */
FND_API int fnd_events_open(struct fnd_segment *seg, struct fnd_events **ret_events);
FND_API void fnd_events_close(struct fnd_events *ev);

/**
 * fnd_event_publish - append an event.
 * @name: OBJECT.VERB, [a-z0-9._]{1,63}. @map: one msgpack map; NULL and 0: the empty one.
 * @ret_number: NULL, or receives its number.
 *
 * Returns: 0, -EINVAL, -E2BIG, and the errors of fnd_table_insert. Context: any thread, not in a signal
 * handler. Progress and cost: as fnd_table_insert, twice; a wake-up when somebody waits. Ordering: release.
 * If I die: published or not.
 */
FND_API int fnd_event_publish(struct fnd_events *ev, const char *name, const void *map, size_t map_bytes,
			      uint64_t *ret_number);

struct fnd_published {
	uint64_t number;
	uint64_t at_ns; /* wall clock, since 1970 */
	uint32_t pid;	/* of the publisher */
	char name[FND_EVENT_NAME_MAX + 1];
	size_t map_bytes;
	unsigned char map[FND_EVENT_BYTES_MAX];
};

/**
 * fnd_events_read - call @fn for every event after *@cursor, oldest first, and move the cursor.
 * @cursor: a number, 0: from the oldest there is; fnd_events_head(): only what is new.
 * @ret_missed: NULL, or receives how many after the cursor are gone already, also when it was 0.
 *
 * What repeats the same change of an agent ("change" in its map) is passed over: one who was killed between
 * telling and noting that it is told is repeated by whoever goes on for him. Known are those among the last
 * FND_EVENTS_MAX: one who was stopped there while a thousand others came tells what was told long ago.
 *
 * Returns: 0, what @fn returned (the cursor is behind that event), -FND_E_CORRUPT, -FND_E_FORKED.
 * Context: any thread, not inside a read section. Progress and cost: a lookup an event. Ordering: acquire.
 * If I die: nothing to repair.
 */
FND_API int fnd_events_read(struct fnd_events *ev, uint64_t *cursor,
			    int (*fn)(const struct fnd_published *e, void *arg), void *arg, uint64_t *ret_missed);

/** fnd_events_head - the end as it is now. Returns: number of the last event, 0: none yet. Any thread. */
FND_API uint64_t fnd_events_head(struct fnd_events *ev);

/**
 * fnd_events_wait - wait until there is an event after @cursor.
 * Returns: 0, -ETIMEDOUT. Context: any thread. Progress and cost: blocking, bounded; a publisher that was
 * killed before it woke anybody costs 100 ms. Ordering: acquire. If I die: nothing to repair.
 */
FND_API int fnd_events_wait(struct fnd_events *ev, uint64_t cursor, unsigned int timeout_ms);

#ifdef __cplusplus
}
#endif
#endif
