/* SPDX-License-Identifier: MIT */
/*
 * Segments and participants.
 *
 * A segment is one file on the tmpfs at /dev/shm, named foundation.<uid>.<name>. It exists whole or not
 * at all. A process that attaches becomes a participant; each of its threads takes a slot of its own at
 * its first call. A participant may be killed at any instruction: nothing it committed is lost, and
 * whoever meets what it left behind puts it right.
 *
 * Names are [a-z0-9._-]{1,64}. NAME is the caller's own segment, UID/NAME that of another user.
 */
#ifndef FOUNDATION_SEGMENT_H
#define FOUNDATION_SEGMENT_H

#include <stddef.h>
#include <stdint.h>
#include <foundation/error.h>

#ifdef __cplusplus
extern "C" {
#endif

struct fnd_segment; /* this process's view of a segment; opaque */

#define FND_NAME_MAX 64

/* Creation flags. */
#define FND_SEGMENT_FENCED 1u /* every reader pays a fence, so processes without membarrier(2) may write */

struct fnd_segment_options {
	size_t size;               /* sizeof(struct fnd_segment_options) */
	uint32_t flags;            /* FND_SEGMENT_* */
	uint32_t processes;        /* participant slots, 0: 256, at most 4095 */
	uint32_t threads;          /* thread slots, 0: 1024, at most 4095 */
	uint32_t sample_every;     /* time one lookup in so many while traced, 0: 1024 */
	uint64_t max_bytes;        /* virtual size, 0: 1 GiB, at most 32 GiB; only what is used is backed */
	uint64_t default_capacity; /* records of a table opened without a capacity, 0: 4096 */
	uint32_t mode;             /* permission bits of the file, 0: 0600; 0660 shares with gid */
	uint32_t gid;              /* group of the file when mode has group bits */
	/* Called on the finished but still nameless segment, to open its tables; a failure undoes all. */
	int (*init)(struct fnd_segment *seg, void *arg);
	void *init_arg;
};

/* A read section that holds memory back. */
struct fnd_stall {
	uint32_t pid, tid;
	char comm[17];
	uint64_t epoch;      /* of its section */
	uint64_t age_ns;     /* since it was first found in the way: a lower bound of its section's age */
	uint64_t held_bytes; /* records that wait for readers, in all tables */
};

#define FND_STALL_NS 500000000u /* the age from which a section is reported */

struct fnd_attach_options {
	size_t size;              /* sizeof(struct fnd_attach_options) */
	uint32_t flags;           /* none yet: 0 */
	/* Called once a stalled section, by the thread whose write found it, with no lock held. It may call
	 * nothing of this library that writes. */
	void (*stall)(const struct fnd_stall *stall, void *arg);
	void *stall_arg;
	uint32_t lock_timeout_ms; /* bound of every wait for a lock, 0: 5000; of several attachments of one
				   * process the last that gives one counts */
};

/**
 * fnd_segment_create - make a segment, whole or not at all.
 * @name: see above; only the caller's own name space.
 * @opt: NULL for the defaults.
 * @ret_seg: NULL: do not stay attached; otherwise receives the attached segment.
 *
 * Backing is reserved before use, so that a full /dev/shm is an error here and never a SIGBUS later.
 *
 * Returns: 0; -EINVAL (name, option), -EEXIST (the name is taken by a segment), -FND_E_FOREIGN (by
 * something else), -ENOSPC (/dev/shm is full), -ENOMEM (more than the memory cgroup allows), -EACCES,
 * -FND_E_FENCED (no membarrier here and FND_SEGMENT_FENCED not asked for), what @init returned.
 * Context: any thread, not in a signal handler, not inside a read section.
 * Progress and cost: blocking; some milliseconds a 100 MB. Ordering: none.
 * If I die: the unnamed file vanishes with its last descriptor; nothing stays.
 */
FND_API int fnd_segment_create(const char *name, const struct fnd_segment_options *opt,
			       struct fnd_segment **ret_seg);

/**
 * fnd_segment_attach - become a participant of an existing segment.
 *
 * Each refusal has its own code: -ENOENT absent, -FND_E_FOREIGN not ours (type, owner, mode, magic),
 * -FND_E_TOO_OLD, -FND_E_TOO_NEW, -FND_E_LAYOUT, -FND_E_CORRUPT (damaged header), -FND_E_DIRTY,
 * -FND_E_PIDNS, -FND_E_NOSLOT, -EACCES, -ENOMEM, -EINVAL. A segment whose participants are all gone
 * (also those of another pid namespace or boot) is taken over.
 *
 * Returns: 0 and *@ret_seg, or one of the above with *@ret_seg untouched and nothing changed.
 * Context: any thread, not in a signal handler. In a child of fork() it must be called anew.
 * Progress and cost: lock-free but for dead slots met on the way; about 100 µs. Ordering: acquire on
 * everything committed before.
 * If I die: the slot is freed by whoever needs one, or by fnd_segment_reap().
 */
FND_API int fnd_segment_attach(const char *name, const struct fnd_attach_options *opt,
			       struct fnd_segment **ret_seg);

/**
 * fnd_segment_detach - leave, and free the handle.
 *
 * No other thread of the process may be inside a call on @seg, nor use it afterwards. In a child of
 * fork() it frees the private memory only and leaves the parent's slot alone. NULL is allowed.
 *
 * Returns: 0; -EBUSY when the calling thread is inside a read section (nothing is done).
 * Context: any thread, not in a signal handler. Progress and cost: bounded. Ordering: release.
 * If I die: as if killed while attached.
 */
FND_API int fnd_segment_detach(struct fnd_segment *seg);

#define FND_DESTROY_FORCE 1u /* also while participants live: they go on with the nameless memory */

/**
 * fnd_segment_destroy - remove the name; the memory goes with its last mapping.
 * @flags: 0 or FND_DESTROY_FORCE. With it a damaged segment of ours is removed too.
 *
 * Returns: 0; -EBUSY (a participant lives; the detail says who), -ENOENT, and the refusals of attach.
 * Context: any thread, not in a signal handler. Progress and cost: bounded. Ordering: none.
 * If I die: the name is there or is not.
 */
FND_API int fnd_segment_destroy(const char *name, unsigned int flags);

struct fnd_segment_entry {
	char name[FND_NAME_MAX + 16]; /* as the caller would name it: NAME, or UID/NAME for another user */
	uint32_t uid;
	uint64_t bytes; /* backed */
	int status;     /* 0, or what attaching would refuse with */
};

/**
 * fnd_segment_list - call @fn for every segment under /dev/shm this process can see.
 * @fn: returns 0 to go on; anything else ends the walk and becomes the result.
 *
 * Returns: 0, what @fn returned, or a negative errno.
 * Context: any thread, not in a signal handler. Progress and cost: a few system calls a segment.
 * Ordering: none. If I die: nothing to repair.
 */
FND_API int fnd_segment_list(int (*fn)(const struct fnd_segment_entry *e, void *arg), void *arg);

/**
 * fnd_segment_reap - free the slots of every dead participant and dead thread.
 * @ret_reaped: NULL, or receives how many processes were reaped.
 *
 * Death is decided by the kernel's word alone, never by time. Every step is idempotent, and done by
 * whoever suffers; calling it at once after a child's death only makes it sooner.
 *
 * Returns: 0, -FND_E_FORKED. Context: any thread, not in a signal handler, not in a read section.
 * Progress and cost: lock-free; about 2 µs a living participant. Ordering: acq_rel.
 * If I die: the slot I was reaping is taken over by the next reaper.
 */
FND_API int fnd_segment_reap(struct fnd_segment *seg, unsigned int *ret_reaped);

struct fnd_participant {
	uint32_t pid;
	uint32_t slot; /* 1 .. processes */
	uint32_t generation;
};

/**
 * fnd_segment_name - the name it was attached by: NAME, or UID/NAME of another user.
 * Returns: 0, -ENOBUFS. Wait-free, any thread; no system call but geteuid(2).
 */
FND_API int fnd_segment_name(const struct fnd_segment *seg, char *buf, size_t size);

/** fnd_segment_self - who I am here. Returns 0 or -FND_E_FORKED. Wait-free, any thread. */
FND_API int fnd_segment_self(struct fnd_segment *seg, struct fnd_participant *ret_self);

/**
 * fnd_segment_participant - the live participant of process @pid.
 *
 * Returns: 0, -ESRCH (no live participant has that pid), -FND_E_FORKED.
 * Context: any thread. Progress and cost: a scan of the slots and one look at the kernel (about 2 µs).
 * Ordering: acquire. If I die: nothing to repair.
 */
FND_API int fnd_segment_participant(struct fnd_segment *seg, uint32_t pid,
				    struct fnd_participant *ret_who);

/**
 * fnd_participant_active - is this participant still there, as far as the segment knows?
 *
 * One load and no system call: a participant that died but that nobody has reaped yet is still active.
 *
 * Returns: 1 or 0. Context: any thread, any signal handler. Progress and cost: wait-free, 1 ns.
 * Ordering: acquire. If I die: nothing to repair.
 */
FND_API int fnd_participant_active(const struct fnd_segment *seg, const struct fnd_participant *who);

/**
 * fnd_participant_dead - ask the kernel whether this participant is gone.
 *
 * Returns: 1 when it is dead, reaped or never was, 0 when it lives or nothing can be proved.
 * Context: any thread. Progress and cost: one to a few system calls, about 2 µs. Ordering: acquire.
 * If I die: nothing to repair.
 */
FND_API int fnd_participant_dead(const struct fnd_segment *seg, const struct fnd_participant *who);

#define FND_NESTING_MAX 65000u

/**
 * fnd_read_begin, fnd_read_end - a read-side critical section of the calling thread.
 *
 * Records met by fnd_table_get() inside stay what they are until the matching end. Sections nest, up
 * to FND_NESTING_MAX deep. A guard taken before fork() is invalid in the child: end does nothing there.
 *
 * Returns: 0; begin: -FND_E_FORKED, -FND_E_NOSLOT (the thread's first call, and every slot is taken),
 * -EOVERFLOW (nested too deep).
 * Context: any thread; async-signal-safe once the thread has a slot.
 * Progress and cost: wait-free, one store each, 1.5 ns. Keep sections short: memory that others retire
 * meanwhile waits for the end. Ordering: begin acquire, end release.
 * If I die: my section ends with my slot, when somebody reaps it.
 */
FND_API int fnd_read_begin(struct fnd_segment *seg);
FND_API int fnd_read_end(struct fnd_segment *seg);

/**
 * fnd_segment_stall - the oldest read section that writers have found in their way.
 *
 * Returns: 0; -ENOENT (none is); -FND_E_FORKED. Context: any thread, not in a signal handler.
 * Progress and cost: a scan of the thread slots and tables, some µs. Ordering: acquire.
 * If I die: nothing to repair.
 */
FND_API int fnd_segment_stall(struct fnd_segment *seg, struct fnd_stall *ret_stall);

/**
 * fnd_synchronize - wait until every read section that is open now has ended.
 * @timeout_ms: bound of the wait.
 *
 * Returns: 0, -ETIMEDOUT (a reader stays in its section; the detail names it), -EDEADLK (called inside
 * a read section), -FND_E_FENCED, -FND_E_FORKED.
 * Context: any thread, not in a signal handler. Progress and cost: blocking; about 20 µs when readers
 * are short. Ordering: seq_cst. If I die: nothing to repair.
 */
FND_API int fnd_synchronize(struct fnd_segment *seg, unsigned int timeout_ms);

/* Counters kept per thread slot; the sum over all slots is the figure, whoever has died meanwhile. */
enum fnd_counter {
	FND_COUNTER_RECOVERIES = 0,    /* locks taken from the dead, shard repaired */
	FND_COUNTER_REAPED = 1,        /* participants reaped */
	FND_COUNTER_FULL = 2,          /* writes refused with -ENOSPC */
	FND_COUNTER_CORRUPT = 3,       /* bad offsets, lengths or links met */
	FND_COUNTER_EMITTED = 4,       /* deduplication: emissions that went out */
	FND_COUNTER_SUPPRESSED = 5,    /* … that did not */
	FND_COUNTER_OVERFLOWED = 6,    /* … that went out because the table was full */
	FND_COUNTER_REGISTERED = 7,    /* names registered */
	FND_COUNTER_UNREGISTERED = 8,  /* names unregistered by their owners */
	FND_COUNTER_NAMES_REAPED = 9,  /* names removed because their owner had died */
	FND_COUNTER_LOCK_TIMEOUTS = 10, /* waits for a lock that ended with -ETIMEDOUT */
	FND_COUNTER_STALLS = 11,       /* reports of a read section that holds memory back */
	FND_COUNTER_FAILURES = 12,     /* failures made or enriched with a context */
	FND_COUNTER_REFUSED = 13,      /* private state refused by enforcement */
	FND_COUNTER_AGENT_READS = 14,  /* lookups of names */
	FND_COUNTER_AGENT_MISSES = 15, /* … that found none */
	FND_COUNTER_MAX = 16
};

/**
 * fnd_counter_add - add to the calling thread's cell. fnd_counter_read - the sum over all threads.
 *
 * Returns: 0; add: -EINVAL, -FND_E_FORKED, -FND_E_NOSLOT. Context: any thread.
 * Progress and cost: add wait-free, 1 ns; read one load a slot. Ordering: none.
 * If I die: what was added stays; the next owner of the slot adds on.
 */
FND_API int fnd_counter_add(struct fnd_segment *seg, enum fnd_counter id, uint64_t n);
FND_API uint64_t fnd_counter_read(const struct fnd_segment *seg, enum fnd_counter id);

/* Operations timed into the per-thread histogram cells, and named by the tracing probe. */
enum fnd_op {
	FND_OP_LOOKUP = 0,   /* one lookup in sample_every, while sampling is on */
	FND_OP_RECOVERY = 1, /* every repair of a dead writer's shard, from steal to ready */
	FND_OP_MAX = 2
};

struct fnd_latency {
	uint64_t samples;
	uint64_t p50_ns, p95_ns, p99_ns, p999_ns, max_ns;
};

/**
 * fnd_latency_read - what the histogram cells of all threads add up to.
 *
 * Returns: 0, -EINVAL. Context: any thread. Progress and cost: one pass over all cells, about 1 ms.
 * Ordering: none; cells move while they are read. If I die: nothing to repair.
 */
FND_API int fnd_latency_read(const struct fnd_segment *seg, enum fnd_op op,
			     struct fnd_latency *ret_latency);

/**
 * fnd_sampling_set - time lookups into the cells although nobody traces.
 * @every: one lookup in so many; 0: only while a tracer is attached, in the segment's own interval.
 *
 * Returns: 0, -FND_E_FORKED. Context: any thread. Progress and cost: one store. Ordering: none.
 * If I die: it stays set, for every participant.
 */
FND_API int fnd_sampling_set(struct fnd_segment *seg, uint32_t every);

#ifdef __cplusplus
}
#endif
#endif
