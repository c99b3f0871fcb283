/* SPDX-License-Identifier: MIT */
/*
 * What happened among a segment's workers, for its journal.
 *
 * No worker touches the disk: that an agent died, or that two hold one name, is told by an event. A tool or a
 * supervisor takes it from there to the journal, where it outlives the segment.
 */
#ifndef FOUNDATION_FACTS_H
#define FOUNDATION_FACTS_H

#include <foundation/segment.h>

#ifdef __cplusplus
extern "C" {
#endif

struct fnd_facts {
	uint32_t written; /* records appended */
	uint64_t missed;  /* events that were gone before anybody took them */
};

/**
 * fnd_facts_sync - append to the journal what the events tell and it has not got yet.
 * @lock_timeout_ms: wait for another appender, 0: 5000.
 * @ret_facts: NULL, or receives what was done.
 *
 * The events agent.down and registry.conflict become records of their type, each once, however many do this
 * at the same time or die at it. A record has, beyond what all have: "source" (whose events), "event" (number),
 * "event_at" (ns since 1970), "event_pid" (who told) and "data" (what the event carries). Events that were gone
 * already are one record events.missed with "count". Does not reap: fnd_registry_reap does.
 *
 * Returns: 0 (also: nothing to write, no events, and then no file is touched), the errors of fnd_journal_append
 * when there is something to write, -EXDEV (this segment's journal is elsewhere), those of fnd_events_open.
 * Context: any thread, not in a signal handler, not inside a read section. Progress and cost: a load when there
 * is nothing new; else blocking, bounded for the lock, reading the journal's newest files, an fdatasync.
 * Ordering: none. If I die: each record is there or not; the next one goes on.
 */
FND_API int fnd_facts_sync(struct fnd_segment *seg, uint32_t lock_timeout_ms, struct fnd_facts *ret_facts);

/**
 * fnd_fact_append - append a record of one's own to the segment's journal.
 * @type, @members: as for fnd_journal_append; no member may be called "flags".
 *
 * Returns: 0: it is on disk; the errors of fnd_journal_append, -EXDEV. Context, cost, death: as there.
 */
FND_API int fnd_fact_append(struct fnd_segment *seg, const char *type, const char *members);

#ifdef __cplusplus
}
#endif
#endif
