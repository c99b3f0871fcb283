/* SPDX-License-Identifier: MIT */
/*
 * Areas: plain shared memory whose bytes a layer above this library gives their meaning.
 *
 * The *segment's area* is one half page in the header: it is there as soon as the header is, and needs no
 * table. A *thread's area* belongs to the thread's slot; when its first 8 bytes are not 0 and its owner has
 * died, whoever reaps the slot keeps a copy: the *remains*. The last FND_REMAINS_MAX of them can be read.
 *
 * The caller's business: which member is written by whom, in which order, and what a death in between leaves.
 * All areas are zero when the segment is new, aligned to cache lines, never moved.
 */
#ifndef FOUNDATION_AREA_H
#define FOUNDATION_AREA_H

#include <foundation/observer.h>
#include <foundation/segment.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FND_AREA_BYTES 2048u
#define FND_THREAD_AREA_BYTES 2048u
#define FND_REMAINS_MAX 64u

/**
 * fnd_segment_area - the segment's area, FND_AREA_BYTES.
 * Valid until the segment is detached, also when it has lost its name. Wait-free; any thread, any context.
 */
FND_API void *fnd_segment_area(struct fnd_segment *seg);

/**
 * fnd_area_open - the segment's area without attaching: no slot, no table, no lock, no other process.
 * fnd_area_close - unmap it; NULL is allowed.
 * @name: NAME or UID/NAME. A header whose checksum does not fit is no obstacle, as long as magic and layout do.
 *
 * For what must work when nothing else does. Returns: 0; -EINVAL, -ENOENT, -EACCES, -FND_E_FOREIGN,
 * -FND_E_TOO_OLD, -FND_E_TOO_NEW, -FND_E_LAYOUT, -FND_E_CORRUPT, -ENOMEM. Context: any thread, not in a signal
 * handler. Progress and cost: a few system calls. Ordering: none. If I die: nothing to repair.
 */
FND_API int fnd_area_open(const char *name, void **ret_area);
FND_API void fnd_area_close(void *area);

/**
 * fnd_thread_area - the calling thread's area, FND_THREAD_AREA_BYTES.
 * @ret_area: valid in this thread until it ends or the segment is detached.
 *
 * The first 8 bytes are 0 when the thread's slot is new.
 * Returns: 0, -FND_E_FORKED, -FND_E_NOSLOT. Context: any thread; async-signal-safe once it has a slot.
 * Progress and cost: wait-free but for the first call. Ordering: none. If I die: see above.
 */
FND_API int fnd_thread_area(struct fnd_segment *seg, void **ret_area);

/**
 * fnd_area_wait - sleep while a 32-bit word of a mapped area has a value. fnd_area_wake - wake all who do.
 * @timeout_ms: bound of the wait; a waker that was killed before it woke anybody costs that long.
 *
 * Returns: 0 (the word has, or may have, another value), -ETIMEDOUT, -EINTR. wake: nothing.
 * Context: any thread. Progress and cost: blocking; wake one system call. Ordering: acquire.
 * If I die: nothing to repair.
 */
FND_API int fnd_area_wait(const uint32_t *word, uint32_t value, unsigned int timeout_ms);
FND_API void fnd_area_wake(uint32_t *word);

/* What was in the area of a thread that died. */
struct fnd_remains {
	uint64_t number; /* counts from 1; the last FND_REMAINS_MAX are there */
	uint32_t pid, tid;
	uint32_t slot, generation; /* of its process: a struct fnd_participant with pid */
	uint64_t found_ns;	   /* wall clock, when it was reaped */
	char comm[17];
	unsigned char area[FND_THREAD_AREA_BYTES];
};

/**
 * fnd_remains_iterate - call @fn for what is kept of the dead, oldest first, from private copies.
 * @ret_dropped: NULL, or receives how many older ones were written over.
 *
 * A reaper that died between two steps may leave the same remains twice: pid, tid, slot, generation agree.
 * Returns: 0, what @fn returned, -FND_E_FORKED. Context: any thread. Progress and cost: a copy each.
 * Ordering: acquire. If I die: nothing to repair.
 */
FND_API int fnd_remains_iterate(struct fnd_segment *seg, int (*fn)(const struct fnd_remains *r, void *arg),
				void *arg, uint64_t *ret_dropped);

/* How a participant ended. */
struct fnd_death {
	uint32_t known;	 /* 0: nobody was there to see; 1: status is what waitpid(2) gives */
	int32_t status;
	uint64_t found_ns; /* wall clock, when it was reaped, 0: not yet */
	char comm[17];
};

/**
 * fnd_participant_death - how and when this participant ended, as long as its slot has no new owner.
 *
 * A slot is left without a new owner for a minute after a death while there is another one.
 * What its reaper has noted; where that reaper has not come so far, or has died before, what its zombie says.
 *
 * Returns: 0; -ENOENT (it lives, or somebody else has its slot now). Context: any thread.
 * Progress and cost: wait-free; reads /proc when nothing is noted. Ordering: acquire. If I die: nothing to repair.
 */
FND_API int fnd_participant_death(const struct fnd_segment *seg, const struct fnd_participant *who,
				  struct fnd_death *ret_death);

/**
 * fnd_segment_child_died - reap a child that waitpid(2) has returned, and note how it ended.
 * @pid, @status: what waitpid() gave.
 *
 * Without it the reason is known only to a reaper that meets the zombie.
 * Returns: 0; -ESRCH (no participant had that pid, or it was reaped before); -FND_E_FORKED.
 * Context: any thread, not in a signal handler, not in a read section. Progress and cost: a scan of the
 * slots. Ordering: acq_rel. If I die: the slot is reaped by the next, the reason may be lost.
 */
FND_API int fnd_segment_child_died(struct fnd_segment *seg, uint32_t pid, int status);

/**
 * fnd_observer_area, fnd_observer_thread_area, fnd_observer_remains - the same for an observer.
 * @slot: as fnd_observer_threads() gives it.
 *
 * A thread's area is copied while its owner may write it: what needs to agree is for the reader to check.
 * Returns: 0; -EINVAL (@slot), -FND_E_CORRUPT, -EIO; remains: what @fn returned.
 */
FND_API int fnd_observer_area(struct fnd_observer *o, unsigned char ret_area[FND_AREA_BYTES]);
FND_API int fnd_observer_thread_area(struct fnd_observer *o, uint32_t slot,
				     unsigned char ret_area[FND_THREAD_AREA_BYTES]);
FND_API int fnd_observer_remains(struct fnd_observer *o,
				 int (*fn)(const struct fnd_remains *r, void *arg), void *arg,
				 uint64_t *ret_dropped);

#ifdef __cplusplus
}
#endif
#endif
