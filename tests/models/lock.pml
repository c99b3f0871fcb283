// SPDX-License-Identifier: MIT
/*
 * The slot lock (shm/lock.c), with steal, repair, and slots that are used again.
 *
 * PROCS contenders, each at home in one thread slot. The lock word is {owner slot, its generation, WAITERS,
 * RECOVERING}; every access to it is one atomic step, as in the code. The lock protects a and b: a holder
 * changes a, then b; a repair copies a to b, and may be killed and run again. A kill comes at any step,
 * KILLS of them in all; then the reaper frees the slot, which knows nothing of locks, and a new process takes
 * the same slot with the next generation (REUSE). Sleeps end by a wake-up or, as FUTEX_WAIT has a timeout,
 * at any time.
 *
 * Safety: one holder; a == b whenever somebody holds the lock and is not inside its two stores.
 * Liveness (live, weak fairness): everybody who is not killed gets through.
 *
 * Must fail:
 *   NO_GENERATION      the word names the slot alone
 *   PLAIN_STEAL        a store takes the lock from the dead, not a compare-and-swap
 *   NO_REPAIR          the thief trusts what it finds
 *   STEAL_LIVING       any holder may be robbed
 *   NO_TIMEOUT         (live) sleeps end by a wake-up alone, and a kill swallows one
 *   JUDGE_SLOT         (live) dead is judged by who is in the slot now
 *   FORGET_WAITERS     (live, no kills, no timeouts) who takes the lock in the slow path leaves WAITERS out
 * Variants that must pass:
 *   ABANDON            a repair may fail: the word is nobody's, RECOVERING, and the next one repairs
 *   KILLS=0 with NO_TIMEOUT (live): [LK-3], no wake-up is lost but to a kill
 */
#ifndef PROCS
#define PROCS 3
#endif
#ifndef KILLS
#define KILLS 2
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#define NOBODY 7 /* owner of a free lock, and of an abandoned one */

/* the lock word */
byte owner = NOBODY, gen;
bit waiters, recovering;
#define WORD_FREE (owner == NOBODY && !recovering)
#define SET(o, g, w, r) owner = o; gen = g; waiters = w; recovering = r

/* thread slots, and what the kernel knows of their owners */
byte slot_gen[PROCS];
bit taken[PROCS], alive[PROCS];

byte kills = KILLS, a, b;
byte holders;
bit asleep[PROCS]; /* in the futex queue */
bool through[PROCS];
byte failures = 1; /* of a repair, for ABANDON */

#if KILLS > 0
#define DIE                                                                                      \
	if                                                                                       \
	:: atomic { kills > 0 -> kills--; alive[me] = 0; asleep[me] = 0; holders = holders - hold; \
		hold = 0; goto killed }                                                          \
	:: skip                                                                                  \
	fi
#else
#define DIE skip
#endif
#define HOLD                                                             \
	hold = 1; holders++; assert(holders == 1);                       \
	o = 0; g = 0; w = 0; rec = 0; og = 0

#ifdef FORGET_WAITERS
#define SLOW_WAITERS 0
#else
#define SLOW_WAITERS 1
#endif

/* FUTEX_WAKE of one */
inline wake()
{
	atomic {
		if
		:: asleep[0] -> asleep[0] = 0
		:: asleep[1] -> asleep[1] = 0
#if PROCS > 2
		:: asleep[2] -> asleep[2] = 0
#endif
		:: else
		fi
	}
}

proctype Contender(byte me)
{
	byte og, o, g, mine, r; /* og: generation seen in the owner's slot */
	bit w, rec, hold, verdict;

born:
	atomic { !taken[me] -> taken[me] = 1; slot_gen[me]++; mine = slot_gen[me]; alive[me] = 1; r = 0 };
next:
	/* fnd_lock, and the spins of lock_slow: no WAITERS */
	if
	:: atomic { WORD_FREE -> SET(me, mine, 0, 0); HOLD; goto locked }
	:: skip
	fi;
slow:
	DIE;
	atomic { o = owner; g = gen; w = waiters; rec = recovering };
	if
	:: o == NOBODY && !rec ->
		atomic {
			if
			:: WORD_FREE && waiters == w -> SET(me, mine, SLOW_WAITERS, 0); HOLD; goto locked
			:: else -> goto slow
			fi
		}
	:: else
	fi;
	/* owner_dead: the slot's word, then the kernel's evidence about that life */
	if
	:: o == NOBODY -> verdict = 1
	:: else ->
#ifdef STEAL_LIVING
		verdict = 1
#else
		atomic { og = slot_gen[o]; verdict = !taken[o] };
#if !defined(NO_GENERATION) && !defined(JUDGE_SLOT)
		d_step { if :: og != g -> verdict = 1 :: else fi };
#endif
		if
		:: !verdict -> atomic { verdict = (slot_gen[o] == og && !alive[o]) }
		:: else
		fi
#endif
	fi;
	DIE;
	if
	:: verdict ->
		atomic {
			verdict = 0;
			if
#ifdef PLAIN_STEAL
			:: 1 ->
#else
#ifdef NO_GENERATION
			:: owner == o && waiters == w && recovering == rec ->
#else
			/* [LK-2] the exact word that was judged */
			:: owner == o && gen == g && waiters == w && recovering == rec ->
#endif
#endif
				SET(me, mine, 1, 1);
				HOLD
			:: else -> goto slow
			fi
		};
#ifndef NO_REPAIR
		DIE;
		b = a;
#ifdef ABANDON
		if
		:: atomic { failures > 0 -> failures--; SET(NOBODY, 0, 0, 1); hold = 0; holders--; };
			goto wake_slow
		:: skip
		fi;
#endif
		DIE;
#endif
		recovering = 0; /* fnd_lock_repaired */
		goto locked
	:: else
	fi;
	/* [LK-3] WAITERS, then FUTEX_WAIT, which compares */
	atomic {
		if
		:: owner == o && gen == g && waiters == w && recovering == rec -> waiters = 1
		:: else -> goto slow
		fi
	};
	DIE;
	atomic {
		if
		:: owner == o && gen == g && waiters && recovering == rec -> asleep[me] = 1
		:: else -> goto slow
		fi
	};
	DIE;
	if
	:: !asleep[me] /* woken */
#ifndef NO_TIMEOUT
	:: asleep[me] = 0
#endif
	fi;
	goto slow;
locked:
	assert(a == b);
	DIE;
	a = 1 - a;
	DIE;
	b = a;
	DIE;
	/* fnd_unlock */
	atomic { w = waiters; SET(NOBODY, 0, 0, 0); hold = 0; holders--; r++ };
	DIE;
	if
	:: w -> w = 0; wake()
	:: else
	fi;
	if
	:: r < ROUNDS -> goto next
	:: else
	fi;
	DIE;
	atomic { taken[me] = 0; alive[me] = 0; through[me] = 1; goto out };
#ifdef ABANDON
wake_slow:
	wake();
	goto slow;
#endif
killed:
	atomic { og = 0; o = 0; g = 0; w = 0; rec = 0; verdict = 0; mine = 0; r = 0 };
#ifdef REUSE
	if
	:: !taken[me] -> goto born
	:: skip
	fi;
#endif
	through[me] = 1;
out:
	skip
}

/* fnd_thread_reap: frees slots of the dead, at any time; leaves locks alone */
proctype Reaper()
{
end:
	do
	:: atomic { taken[0] && !alive[0] -> taken[0] = 0 }
	:: atomic { taken[1] && !alive[1] -> taken[1] = 0 }
#if PROCS > 2
	:: atomic { taken[2] && !alive[2] -> taken[2] = 0 }
#endif
	od
}

init {
	atomic {
		run Contender(0);
		run Contender(1);
#if PROCS > 2
		run Contender(2);
#endif
		run Reaper()
	}
}

#ifdef LIVE
#if PROCS > 2
ltl live { <> (through[0] && through[1] && through[2]) }
#else
ltl live { <> (through[0] && through[1]) }
#endif
#endif
