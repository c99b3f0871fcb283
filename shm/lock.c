// SPDX-License-Identifier: MIT
/*
 * The slot lock: a futex lock whose word says who holds it.
 *
 *   word: owner's thread slot 12 | its generation 18 | waiters 1 | recovering 1        0: free
 *
 * Guarantees.
 *  A. One holder. A lock is taken from its holder only on the kernel's word that it is dead, by a
 *     compare-and-swap from the exact word that was judged. The generation in the word is what makes
 *     that safe: a slot freed and claimed again gives another word.
 *  B. A dead holder is found by whoever waits: at once before its first sleep, then at each wake-up.
 *  C. Waits are bounded: -ETIMEDOUT names the holder.
 *  D. The thief repairs what the lock protects before it goes on, and may die doing so: the word still
 *     names it, dead, and the next one does the same.
 * The reaper of slots never touches locks. No robust mutex: its list lets any peer write into the
 * owner's private memory at unlock.
 *
 * A kill between the exchange of an unlock and the wake leaves a sleeper: sleeps are 5 ms at most.
 */
#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define WAITERS 2u
#define RECOVERING 1u
#define FLAGS (WAITERS | RECOVERING)
#define SPINS 128
#define NAP_FIRST_NS 300000
#define NAP_LAST_NS 5000000
#define DEEP_ROUNDS 8 /* each eighth, from some 20 ms on: the holder may have called exec */

static uint32_t owner_index(uint32_t w)
{
	return w >> 20;
}

static inline uint32_t owner_gen18(uint32_t w)
{
	return w >> 2 & 0x3ffff;
}

static bool owner_dead(struct fnd_segment *seg, uint32_t w, bool deep)
{
#ifdef FND_MUTANT_STEAL_LIVING
	(void)seg, (void)deep;
	return w != 0;
#else
	if (owner_index(w) == 0 || owner_index(w) > seg->threads)
		return true; /* no thread writes such a word: it is damaged, and nobody's */
#ifdef FND_MUTANT_NO_GENERATION
	{
		uint64_t sw = fnd_load_acquire(&seg->thread[owner_index(w)].word); /* [SL-2] */

		return fnd_thread_slot_dead(seg, owner_index(w), fnd_slot_gen(sw) & 0x3ffff, deep);
	}
#endif
	return fnd_thread_slot_dead(seg, owner_index(w), owner_gen18(w), deep);
#endif
}

static bool same_owner(uint32_t a, uint32_t b)
{
	return (a | FLAGS) == (b | FLAGS);
}

/* Sleep until the word moves from @w (which has WAITERS) or @ns have gone by. */
static void nap(uint32_t *word, uint32_t w, long ns)
{
	struct timespec ts = { 0, ns };

	syscall(SYS_futex, word, FUTEX_WAIT, w, &ts, NULL, 0);
}

/* Free or a dead owner's: take it. True when *ret says how. */
static bool take(struct fnd_segment *seg, struct fnd_thread *th, uint32_t *word, uint32_t w, bool look,
		 bool deep, int *ret)
{
	if (w == 0) {
		/* [LK-1] pairs with fnd_unlock; WAITERS: others may sleep, a spare wake is cheap */
		*ret = FND_LOCK_TAKEN;
		return fnd_cas(word, 0, th->lock_self | WAITERS);
	}
	if (!look || !owner_dead(seg, w, deep))
		return false;
	/* [LK-2] from the exact word that was judged dead: if it moved, the verdict is void */
	*ret = FND_LOCK_STOLEN;
	return fnd_cas(word, w, th->lock_self | WAITERS | RECOVERING);
}

static int timed_out(struct fnd_segment *seg, struct fnd_thread *th, uint32_t w, const char *what)
{
	char who[96];

	fnd_cell_count(th, FND_COUNTER_LOCK_TIMEOUTS, 1);
	fnd_thread_describe(seg, owner_index(w), who, sizeof(who));
	return fnd_fail(ETIMEDOUT, "%s: locked by %s for more than %u ms", what, who,
			seg->lock_timeout_ms);
}

static int lock_slow(struct fnd_segment *seg, struct fnd_thread *th, uint32_t *word, const char *what)
{
	uint64_t deadline = 0;
	long ns = NAP_FIRST_NS;
	uint32_t w;
	int ret;

	for (int i = 0; i < SPINS; i++) {
		w = fnd_load_relaxed(word); /* relaxed: only a hint, the swap decides */
		if (same_owner(w, th->lock_self))
			return fnd_fail(EDEADLK, "%s: this thread holds it already", what);
		if (w == 0 && fnd_cas(word, 0, th->lock_self)) /* [LK-1] */
			return FND_LOCK_TAKEN;
		fnd_pause();
	}
	for (int round = 0;; round++) {
		w = fnd_load_relaxed(word); /* relaxed: the swap decides */
		if (take(seg, th, word, w, true, round % DEEP_ROUNDS == DEEP_ROUNDS - 1, &ret))
			return ret;
		if (w == 0)
			continue;
		if (deadline == 0)
			deadline = fnd_now_ns() + seg->lock_timeout_ms * 1000000ULL;
		else if (fnd_now_ns() > deadline)
			return timed_out(seg, th, w, what);
		if (!(w & WAITERS) && !fnd_cas(word, w, w | WAITERS)) /* [LK-3] before the sleep */
			continue;
		nap(word, w | WAITERS, ns);
		ns = ns * 2 < NAP_LAST_NS ? ns * 2 : NAP_LAST_NS;
	}
}

int fnd_lock(struct fnd_segment *seg, struct fnd_thread *th, uint32_t *word, const char *what)
{
	/* [LK-1] pairs with fnd_unlock: what the last holder stored is here */
	if (fnd_likely(fnd_cas(word, 0, th->lock_self)))
		return FND_LOCK_TAKEN;
	return lock_slow(seg, th, word, what);
}

/* 0, or -EBUSY: also when the holder is dead, who is left to those that need the lock. */
int fnd_trylock(struct fnd_thread *th, uint32_t *word)
{
	return fnd_cas(word, 0, th->lock_self) ? 0 : -EBUSY; /* [LK-1] */
}

void fnd_lock_repaired(struct fnd_thread *th, uint32_t *word)
{
	fnd_cas(word, th->lock_self | WAITERS | RECOVERING, th->lock_self | WAITERS); /* [LK-1] */
}

void fnd_unlock(struct fnd_thread *th, uint32_t *word)
{
#ifdef FND_MUTANT_NO_RELEASE
	uint32_t w = fnd_load_relaxed(word);

	fnd_store_relaxed(word, 0);
#else
	/* [LK-1] pairs with the next holder's swap; a full barrier, so that a stamp taken by the next
	 * holder is younger than every unlink of this one ([GP-6]) */
	uint32_t w = fnd_exchange(word, 0);
#endif

	(void)th;
	if (fnd_unlikely(w & WAITERS)) /* [LK-3] */
		syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

void fnd_lock_abandon(uint32_t *word)
{
	fnd_exchange(word, RECOVERING); /* [LK-2] no owner: the next one steals it, and repairs */
	syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}
