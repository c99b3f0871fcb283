/* SPDX-License-Identifier: MIT */
/*
 * Observers: look at a segment without taking part in it.
 *
 * An observer reads the segment's file with pread(2) and maps nothing. It takes no slot and no lock, so it
 * can do no harm, holds nobody up, and answers when every participant is wedged, when the segment lives in
 * another pid namespace, and when the caller may read the file but not write it. Everything it reads is
 * checked before it is used: damage becomes a result, never a crash or a loop.
 *
 * An observer sees a running segment: figures of one call were read one after the other, not at once.
 *
 * All functions: any thread, but one observer in one thread at a time; not in a signal handler; usable in
 * a child of fork(). Ordering: none. If I die: nothing to repair.
 */
#ifndef FOUNDATION_OBSERVER_H
#define FOUNDATION_OBSERVER_H

#include <foundation/table.h>

#ifdef __cplusplus
extern "C" {
#endif

struct fnd_observer; /* opaque */

/**
 * fnd_observer_open - open a segment for looking.
 * @name: NAME or UID/NAME.
 *
 * Returns: 0; -EINVAL (name), -ENOENT, -EACCES, -FND_E_FOREIGN, -FND_E_TOO_OLD, -FND_E_TOO_NEW,
 * -FND_E_LAYOUT, -FND_E_CORRUPT (damaged header), -ENOMEM, -EMFILE. The detail names path and field.
 * Progress and cost: a few system calls; waits at most 2 s for a takeover that is going on.
 */
FND_API int fnd_observer_open(const char *name, struct fnd_observer **ret_observer);

/** fnd_observer_close - free the observer. NULL is allowed. */
FND_API void fnd_observer_close(struct fnd_observer *o);

/* How a later process with the same pid is told from the recorded one, on this kernel. */
enum fnd_identity_rule {
	FND_IDENTITY_RULE_NONE = 0,       /* not at all: no death is ever proven */
	FND_IDENTITY_RULE_PIDFD = 1,      /* exact: unique inode of the process (Linux 6.9) */
	FND_IDENTITY_RULE_START_TIME = 2, /* start time: a reuse within one 10 ms tick goes unseen */
};

enum fnd_liveness {
	FND_LIVENESS_UNKNOWN = 0, /* another pid namespace, or the kernel does not say */
	FND_LIVENESS_ALIVE = 1,   /* no evidence of its death */
	FND_LIVENESS_DEAD = 2,    /* by the kernel's word; its slot waits to be reaped */
};

enum fnd_participant_state {
	FND_PARTICIPANT_CLAIMING = 1, /* attaching right now, or died while it was */
	FND_PARTICIPANT_ACTIVE = 2,
	FND_PARTICIPANT_REAPING = 3, /* dead; somebody is freeing the slot */
};

struct fnd_segment_status {
	char name[FND_NAME_MAX + 16]; /* as it was opened: NAME or UID/NAME */
	uint32_t uid;                 /* owner of the file */
	uint32_t mode;                /* permission bits of the file */
	unsigned char uuid[16];
	uint32_t layout_major, layout_minor;
	char creator_version[17]; /* library that made it */
	uint32_t feature_compat, feature_ro_compat, feature_incompat;
	uint32_t fenced;       /* 1: made with FND_SEGMENT_FENCED */
	uint64_t created_ns;   /* wall clock, since 1970 */
	uint64_t bytes;        /* backed */
	uint64_t max_bytes;    /* address space: how far it may grow */
	uint64_t brk;          /* end of what is used */
	uint64_t free_bytes;   /* backed, and in no table: spans given back and what is behind brk */
	uint64_t default_capacity;
	uint32_t process_slots, thread_slots;
	uint32_t participants_live, participants_dead, participants_unknown, participants_claiming;
	uint32_t threads; /* slots taken */
	uint32_t tables;
	uint64_t epoch, safe; /* safe far behind epoch for long: a reader stays in its section */
	uint64_t snapshot_generation;
	uint64_t counter[FND_COUNTER_MAX]; /* sums over every thread slot, index: enum fnd_counter */
	uint32_t sample_every, sample_always;
	uint32_t same_boot;          /* 1: its participants live in this boot */
	uint32_t same_pid_namespace; /* 1: they live in the caller's pid namespace */
	uint32_t identity_rule;      /* enum fnd_identity_rule, in force for the caller */
	uint32_t destroying;         /* pid of who is destroying it, or 0 */
};

/**
 * fnd_observer_status - the figures of the whole segment.
 *
 * Returns: 0; -FND_E_CORRUPT (the detail names the place; also when the file was truncated), -ENOMEM, -EIO.
 * Progress and cost: some reads a table and slot, and 2 µs a participant for the look at the kernel.
 */
FND_API int fnd_observer_status(struct fnd_observer *o, struct fnd_segment_status *ret_status);

struct fnd_observed_participant {
	uint32_t slot, generation;
	uint32_t pid;        /* in the pid namespace of the segment's participants */
	uint32_t state;      /* enum fnd_participant_state */
	uint32_t liveness;   /* enum fnd_liveness */
	uint32_t read_only;  /* 1: it may not call membarrier(2) and only reads */
	uint32_t threads;    /* thread slots it holds */
	uint32_t reserved;
	uint64_t attached_ns; /* wall clock, since 1970 */
	uint64_t start_time;  /* field 22 of /proc/PID/stat */
	char comm[17];
};

/**
 * fnd_observer_participants - call @fn for every process slot that is taken.
 * @fn: returns 0 to go on; anything else ends the walk and becomes the result.
 *
 * Returns: 0, what @fn returned, or an error of fnd_observer_status. Cost: 2 µs a participant.
 */
FND_API int fnd_observer_participants(struct fnd_observer *o,
				      int (*fn)(const struct fnd_observed_participant *p, void *arg),
				      void *arg);

struct fnd_observed_thread {
	uint32_t slot, generation;
	uint32_t tid;
	uint32_t state;   /* enum fnd_participant_state */
	uint32_t process; /* slot of its process, and that slot's generation when the thread came */
	uint32_t process_generation;
	uint32_t pid;     /* of its process, 0: that slot has another owner now */
	uint32_t nesting; /* depth of the read section it is in, 0: in none */
	uint64_t epoch;   /* of that section */
	uint64_t behind_ns; /* for how long writers have found it in their way, 0: they have not */
	uint64_t samples[FND_OP_MAX]; /* operations timed by the owners of this slot so far */
};

/** fnd_observer_threads - call @fn for every thread slot that is taken. Returns: as above. */
FND_API int fnd_observer_threads(struct fnd_observer *o,
				 int (*fn)(const struct fnd_observed_thread *t, void *arg), void *arg);

/** fnd_observer_latency - as fnd_latency_read(). Returns: 0, -EINVAL (@op), -FND_E_CORRUPT, -EIO. */
FND_API int fnd_observer_latency(struct fnd_observer *o, enum fnd_op op,
				 struct fnd_latency *ret_latency);

/**
 * fnd_observer_tables - call @fn for every table.
 *
 * Returns: 0, what @fn returned, -FND_E_CORRUPT (a damaged table was left out; the others were handed out),
 * -ENOMEM, -EIO. Cost: two reads a table and one a region or index.
 */
FND_API int fnd_observer_tables(struct fnd_observer *o,
				int (*fn)(const struct fnd_table_stats *t, void *arg), void *arg);

/**
 * fnd_observer_records - call @fn for every record of one table, from private copies.
 *
 * Each shard is read on its own, while writers go on: a record present throughout is handed out exactly
 * once, any other at most once, and none is handed out half-written.
 *
 * Returns: 0, what @fn returned, -ENOENT (no such table), -EINVAL, -FND_E_CORRUPT (records that are not
 * sound were left out, the others were handed out; the detail names the first place), -EAGAIN (the table
 * changed too fast to be read), -ENOMEM, -EIO.
 * Cost: a read of each shard's index and about 1 µs a record.
 */
FND_API int fnd_observer_records(struct fnd_observer *o, const char *table,
				 int (*fn)(const struct fnd_record *r, void *arg), void *arg);

/* The longest chain of buckets, and the most records in one: what the slowest lookup may have to look at. */
struct fnd_observed_chain {
	uint64_t records, buckets;
};

/**
 * fnd_observer_chain - measure the chains of one table's index.
 *
 * Returns: 0, -ENOENT (no such table), -EINVAL, -FND_E_CORRUPT, -EAGAIN (the index was replaced too often to be
 * read), -ENOMEM, -EIO. Cost: a read of each shard's index.
 */
FND_API int fnd_observer_chain(struct fnd_observer *o, const char *table, struct fnd_observed_chain *ret_longest);

#ifdef __cplusplus
}
#endif
#endif
