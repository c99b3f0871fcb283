// SPDX-License-Identifier: MIT
/*
 * Cross-process RCU by min-scan epochs.
 *
 * liburcu keeps its reader list in process memory, so its flavours cannot work across processes; its
 * author named a reader list in shared memory as what it would take (lttng-dev, 15 September 2013). This
 * is that flavour. The rule, model-checked with explicit store buffers:
 *
 *   begin    slot = G << 16 | 1, no fence, no second look at G         (fnd_section_begin)
 *   end      slot = 0                                                  (fnd_section_end)
 *   retire   append to the shard's open batch, which has no stamp      (fnd_record_retire)
 *            a LATER critical section stamps it with G                 (fnd_shard_stamp)
 *   advance  E = ++G; membarrier; m = min(E, epochs of all sections); safe = max(safe, m)
 *   reuse    a batch iff stamped and stamp < safe
 *
 * Guarantees.
 *  A. A record a section can have reached is not reused before the section ends.
 *  B. begin and end are one store each: wait-free and async-signal-safe.
 *  C. `safe` only grows: what may be reused once may be reused for ever.
 *  D. A dead reader holds nothing back once its slot is reaped; whoever finds it in the way does that.
 *
 * It is not a check-then-advance scheme: no "+2" belongs here, and no reader is waited for to advance.
 */
#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define TICK_RETIRED 4096u       /* records retired by a thread before it advances */
#define TICK_FEW 64u             /* … or so many and TICK_CYCLES */
#define TICK_CYCLES 3000000u     /* about 1 ms */
#define TICK_SLOW_CYCLES 300000000u /* or, for one who retires little, about 100 ms: a stall is found in time */
#define STALL_CYCLES 30000000u   /* look who is in the way every 10 ms or so, not at every advance */

static int membarrier(int cmd)
{
	return (int)syscall(SYS_membarrier, cmd, 0, 0);
}

/*
 * Must come before a slot is claimed: a reader the writers' membarrier does not reach breaks the grace
 * period rarely and silently. fork() inherits the registration, exec clears it.
 */
int fnd_membarrier_register(void)
{
	if (membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED) == 0)
		return 0;
	return -errno;
}

/* The smallest epoch of any section that is open, at most @m; *ret_index is where it is, 0: nowhere. */
static uint64_t scan_readers(struct fnd_segment *seg, uint64_t m, uint32_t *ret_index)
{
	/* [GP-4] pairs with thread_claim */
	uint32_t high = fnd_load_acquire(&seg->hdr->thread_high);

	*ret_index = 0;
	if (high > seg->threads)
		high = seg->threads;
	for (uint32_t i = 1; i <= high; i++) {
		/* [GP-2] pairs with fnd_section_end: what that section read is before what follows here */
		uint64_t e = fnd_load_acquire(&seg->thread[i].epoch) >> 16;

		if (e == 0 || e >= m)
			continue;
		/* [SL-2] a slot being reaped has no living reader; one that is free or being claimed has none
		 * at all: a section begins in ACTIVE, and is over before FREE */
		if (fnd_slot_state(fnd_load_acquire(&seg->thread[i].word)) != FND_SLOT_ACTIVE)
			continue;
		m = e;
		*ret_index = i;
	}
	return m;
}

/* The reader in thread slot @index keeps the epoch from moving: is it dead? Rarely, as it costs. */
static void look_at_blocker(struct fnd_segment *seg, uint32_t index)
{
	uint64_t now = fnd_cycles();

	/* relaxed: two threads may both look, which is harmless */
	if (now - fnd_load_relaxed(&seg->stall_checked_at) < STALL_CYCLES)
		return;
	fnd_store_relaxed(&seg->stall_checked_at, now);
	if (fnd_thread_reap_dead(seg, index, true))
		fnd_reap_all(seg, false);
	else
		fnd_stall_found(seg, index);
}

/* One grace period attempt. *ret_epoch is E, *ret_blocker the thread slot that is behind it, or 0. */
static int advance(struct fnd_segment *seg, uint64_t *ret_epoch, uint32_t *ret_blocker)
{
	uint64_t m;

	if (seg->read_only)
		return fnd_fenced_error();
	*ret_epoch = fnd_fetch_add(&seg->hdr->epoch, 1) + 1; /* [GP-3] before the membarrier */
#ifndef FND_MUTANT_NO_MEMBARRIER
	/* [GP-1] pairs with fnd_section_begin: after it, a section that began before is visible, and one
	 * that is not visible will see what was unlinked before */
	if (!(seg->hdr->feature_incompat & FND_INCOMPAT_FENCED) &&
	    membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED) != 0)
		return fnd_fenced_error(); /* a sandbox that was entered after attaching */
#endif
	m = scan_readers(seg, *ret_epoch, ret_blocker);
	fnd_raise_u64(&seg->hdr->safe, m); /* [GP-5] pairs with the reuse of a batch */
	return 0;
}

/* The thread slot with the oldest open section, 0: none is open. */
uint32_t fnd_epoch_oldest(struct fnd_segment *seg)
{
	uint32_t index;

	scan_readers(seg, UINT64_MAX, &index);
	return index;
}

int fnd_epoch_advance(struct fnd_segment *seg)
{
	uint64_t epoch;
	uint32_t blocker;
	int err = advance(seg, &epoch, &blocker);

	if (!err && blocker)
		look_at_blocker(seg, blocker);
	return err;
}

void fnd_epoch_tick(struct fnd_segment *seg, struct fnd_thread *th)
{
	uint64_t now, wait = th->retired < TICK_FEW ? TICK_SLOW_CYCLES : TICK_CYCLES;

	/* of the first few only the 1st, 9th, … look at the clock */
	if (fnd_likely(th->retired < TICK_FEW && (th->retired & 7) != 1))
		return;
	now = fnd_cycles();
	if (th->retired < TICK_RETIRED && now - th->advanced_at < wait)
		return;
	th->retired = 0;
	th->advanced_at = now;
	fnd_epoch_advance(seg);
}

int fnd_synchronize(struct fnd_segment *seg, unsigned int timeout_ms)
{
	struct timespec nap = { 0, 20000 };
	uint64_t epoch, deadline;
	struct fnd_thread *th;
	uint32_t blocker;
	char who[96];
	int err = fnd_thread_self(seg, &th);

	if (err)
		return err;
	if (fnd_in_section(th))
		return fnd_fail(EDEADLK, "fnd_synchronize inside a read section would wait for itself");
	deadline = fnd_now_ns() + timeout_ms * 1000000ULL;
	err = advance(seg, &epoch, &blocker);
	for (unsigned int spin = 0; !err && blocker; spin++) {
		if (spin < 200) {
			fnd_pause();
		} else {
			look_at_blocker(seg, blocker);
			if (fnd_now_ns() > deadline) {
				fnd_thread_describe(seg, blocker, who, sizeof(who));
				return fnd_fail(ETIMEDOUT, "a read section stays open: %s", who);
			}
			nanosleep(&nap, NULL);
			if (nap.tv_nsec < 1000000)
				nap.tv_nsec *= 2;
		}
		fnd_raise_u64(&seg->hdr->safe, scan_readers(seg, epoch, &blocker)); /* [GP-5] */
	}
	return err;
}

int fnd_read_begin(struct fnd_segment *seg)
{
	struct fnd_thread *th;
	int err = fnd_thread_self(seg, &th);

	if (fnd_unlikely(err))
		return err;
	/* relaxed: own word; the library's own sections nest a few deeper */
	if (fnd_unlikely((fnd_load_relaxed(&th->slot->epoch) & 0xffff) >= FND_NESTING_MAX))
		return fnd_fail(EOVERFLOW, "read sections nest %u deep", FND_NESTING_MAX);
	fnd_section_begin(seg, th);
	return 0;
}

int fnd_read_end(struct fnd_segment *seg)
{
	struct fnd_thread *th;
	int err = fnd_thread_self(seg, &th);

	if (fnd_unlikely(err))
		return err;
	if (fnd_likely(fnd_in_section(th)))
		fnd_section_end(th);
	return 0;
}
