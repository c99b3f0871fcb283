// SPDX-License-Identifier: MIT
/*
 * Slots: claim, release, reap (shm/slot.c), pids used again.
 *
 * The word of a slot is {state, generation, id}, changed by compare-and-swap alone; id is the owner's pid,
 * or in REAPING the reaper: its own slot and generation, or its pid while it has no slot. The inode of the
 * owner's pidfd is a field, written while CLAIMING. `epoch` is what a reaper clears (a thread slot's open
 * section; the thread and the process slot follow one protocol, so one kind stands for both).
 *
 * PIDS pids live one life after the other (LIVES of each). A life attaches: reaps namesakes, claims a slot,
 * opens a section, looks once over all slots and reaps who is proven dead, closes its section, leaves; or it
 * is killed at any of these steps, KILLS times in all. In the end a supervisor looks over the slots.
 *
 * Safety: nothing but its owner changes the word or the section of a living owner; nobody takes over from a
 * living reaper; after an attach nobody else's slot bears the pid; in the end every slot is free.
 *
 * Must fail:
 *   INO_CLAIMING       the inode is trusted while CLAIMING
 *   NO_GENERATION      the compare-and-swaps compare state and pid alone
 *   REAPING_OPEN       REAPING may be taken over by anyone
 *   REAPING_BLOCKER    so may it when it was met as the reader that holds a grace period back
 *   REAPING_CLOSED     REAPING is never taken over
 *   NO_NAMESAKES       no look for the own pid before the claim
 *   LATE_NAMESAKES     that look after the claim, where the own slot cannot be told
 */
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef PIDS
#define PIDS 2
#endif
#ifndef LIVES
#define LIVES 2
#endif
#ifndef KILLS
#define KILLS 2
#endif

#define FREE 0
#define CLAIMING 1
#define ACTIVE 2
#define REAPING 3
#define NONE 255

/* ids of reapers: one with a slot, and one without */
#define BY_SLOT(s, g) (64 + (s) * 32 + (g))
#define BY_PID(p) (32 + (p))

/* shared */
byte state[SLOTS], gen[SLOTS], id[SLOTS]; /* one word */
byte ino[SLOTS];
bit epoch[SLOTS];
/* the kernel; pid PIDS is the supervisor's */
byte pid_ino[PIDS + 1];
bit pid_there[PIDS + 1];
byte next_ino = 1, kills = KILLS, ended;

#define WORD_IS(s, a, g, i) (state[s] == (a) && gen[s] == (g) && id[s] == (i))
#ifdef NO_GENERATION
#define SWAPS(s, a, g, i) (state[s] == (a) && id[s] == (i))
#else
#define SWAPS(s, a, g, i) WORD_IS(s, a, g, i)
#endif

#define DIE                                                                       \
	if                                                                        \
	:: atomic { kills > 0 && p < PIDS -> kills--; pid_there[p] = 0; goto over } \
	:: skip                                                                   \
	fi
/* a living owner's own slot is as it left it */
#define MINE(a) assert(WORD_IS(mine, a, mygen, p))
#define MYSELF (mine == NONE -> BY_PID(p) : BY_SLOT(mine, mygen))

/* fnd_thread_reap, fnd_reap_process: the word a, g, i of slot s was judged dead */
inline reap()
{
	atomic {
		if
		:: SWAPS(s, a, g, i) -> state[s] = REAPING; id[s] = MYSELF; g = gen[s]; a = REAPING
		:: else -> a = FREE
		fi
	};
	if
	:: a == REAPING ->
		DIE;
		atomic { assert(WORD_IS(s, REAPING, g, MYSELF)); epoch[s] = 0 };
		DIE;
		atomic { assert(WORD_IS(s, REAPING, g, MYSELF)); state[s] = FREE; id[s] = 0 }
	:: else
	fi
}

/* fnd_evidence_claiming, of pid q */
#define NOT_THERE(q) ((q) != p && !pid_there[q])

/* reaper_dead: who is named by i. The reaper's slot is looked at like any other. */
inline judge_reaper()
{
	if
#ifdef REAPING_OPEN
	:: 1 -> dead = 1
#endif
#ifdef REAPING_CLOSED
	:: 1 -> dead = 0
#else
	:: i < 64 -> dead = NOT_THERE(i - 32)
	:: i >= 64 && i == MYSELF -> dead = 0
	:: i >= 64 && i != MYSELF ->
		rs = (i - 64) / 32;
		rg = (i - 64) % 32;
		atomic { /* its word */
			if
			:: state[rs] == ACTIVE && gen[rs] == rg -> q = id[rs]
			:: else -> dead = 1
			fi
		};
		if
		:: !dead ->
			x = ino[rs];
			atomic {
				if
				:: WORD_IS(rs, ACTIVE, rg, q) -> dead = (!pid_there[q] || pid_ino[q] != x)
				:: else -> dead = 0
				fi
			}
		:: else
		fi;
		d_step { rs = 0; rg = 0; q = 0; x = 0 }
#endif
	fi
}

/* fnd_process_slot_dead */
inline judge()
{
	dead = 0;
	if
	:: a == FREE
	:: a == CLAIMING ->
#ifdef INO_CLAIMING
		x = ino[s];
		dead = (!pid_there[i] || pid_ino[i] != x);
		x = 0
#else
		dead = NOT_THERE(i)
#endif
	:: a == REAPING -> judge_reaper()
	:: a == ACTIVE && s == mine && g == mygen
	:: a == ACTIVE && !(s == mine && g == mygen) ->
		x = ino[s];
		if
		:: !WORD_IS(s, ACTIVE, g, i) /* of another life: no verdict */
		:: WORD_IS(s, ACTIVE, g, i) -> dead = (!pid_there[i] || pid_ino[i] != x)
		fi;
		x = 0
	fi
}

/* fnd_reap_all */
inline reap_all()
{
	s = 0;
	do
	:: s < SLOTS ->
		atomic { a = state[s]; g = gen[s]; i = id[s] };
		judge();
		if
		:: dead -> reap()
		:: else
		fi;
		d_step { a = 0; g = 0; i = 0; dead = 0; s++ }
	:: else -> break
	od;
	s = 0
}

/* advance, then look_at_blocker: slots whose section is open and that are not in REAPING hold it back */
inline look_at_blocker()
{
	s = 0;
	do
	:: s < SLOTS && s != mine && epoch[s] ->
		if
		:: state[s] != REAPING ->
			atomic { a = state[s]; g = gen[s]; i = id[s] };
			dead = 0;
			if
			:: a == FREE
#ifdef REAPING_BLOCKER
			:: a == REAPING -> dead = 1
#else
			:: a == REAPING
#endif
			:: a == ACTIVE || a == CLAIMING -> judge()
			fi;
			if
			:: dead -> reap()
			:: else
			fi;
			d_step { a = 0; g = 0; i = 0; dead = 0 }
		:: else
		fi;
		s++
	:: s < SLOTS && (s == mine || !epoch[s]) -> s++
	:: s == SLOTS -> break
	od;
	s = 0
}

inline reap_namesakes()
{
	s = 0;
	do
	:: s < SLOTS ->
		atomic { a = state[s]; g = gen[s]; i = id[s] };
		if
		:: i == p && (a == ACTIVE || a == CLAIMING) -> reap()
		:: else
		fi;
		d_step { a = 0; g = 0; i = 0; s++ }
	:: else -> break
	od;
	s = 0
}

/* process_try over all slots */
inline claim()
{
	s = 0;
	do
	:: s < SLOTS && mine == NONE ->
		a = NONE;
		atomic { if :: state[s] == FREE -> g = gen[s]; a = FREE :: else fi };
		if
		:: a == FREE ->
			atomic {
				if
				:: state[s] == FREE && gen[s] == g ->
					state[s] = CLAIMING;
					gen[s]++;
					assert(gen[s] < 32);
					id[s] = p;
					mygen = gen[s];
					a = CLAIMING
				:: else -> a = NONE
				fi
			}
		:: else
		fi;
		if
		:: a == CLAIMING ->
			DIE;
			atomic { assert(WORD_IS(s, CLAIMING, mygen, p)); ino[s] = pid_ino[p] };
			DIE;
			atomic { assert(WORD_IS(s, CLAIMING, mygen, p)); epoch[s] = 0; state[s] = ACTIVE };
			mine = s
		:: else
		fi;
		d_step { a = 0; g = 0; s++ }
	:: else -> break
	od;
	s = 0
}

proctype Process(byte p)
{
	byte n, mine, mygen;        /* lives so far; my slot */
	byte s, a, g, i, q, x, rs, rg; /* the slot looked at, and its word */
	bit dead;

	do
	:: n < LIVES ->
		atomic {
			n++;
			pid_ino[p] = next_ino;
			next_ino++;
			pid_there[p] = 1;
			mine = NONE;
			mygen = 0
		};
#if !defined(NO_NAMESAKES) && !defined(LATE_NAMESAKES)
		reap_namesakes();
#endif
		claim();
		if
		:: mine == NONE -> reap_all(); claim()
		:: else
		fi;
		if
		:: mine == NONE -> goto over
		:: else
		fi;
#ifdef LATE_NAMESAKES
		reap_namesakes();
#endif
		DIE;
		atomic {
			MINE(ACTIVE);
			for (s : 0 .. SLOTS - 1) {
				assert(s == mine || id[s] != p || state[s] == REAPING || state[s] == FREE)
			}
			s = 0;
			epoch[mine] = 1
		};
		DIE;
		if
		:: reap_all()
		:: look_at_blocker()
		fi;
		DIE;
		atomic { MINE(ACTIVE); assert(epoch[mine] == 1); epoch[mine] = 0 };
		atomic { MINE(ACTIVE); state[mine] = FREE; id[mine] = 0 };
over:
		atomic {
			pid_there[p] = 0;
			mine = 0; mygen = 0; s = 0; a = 0; g = 0; i = 0; q = 0; x = 0; rs = 0; rg = 0; dead = 0
		}
	:: else -> break
	od;
	ended++
}

/* Never killed, without a slot: as who attaches when all slots are taken. */
proctype Supervisor(byte p)
{
	byte mine = NONE, mygen;
	byte s, a, g, i, q, x, rs, rg;
	bit dead;

	ended == PIDS;
	reap_all();
	reap_all(); /* a reaper's slot may come behind the slot it was reaping */
	for (s : 0 .. SLOTS - 1) {
		assert(state[s] == FREE)
	}
	goto stop;
over:
	skip;
stop:
	skip
}

init {
	byte p;

	atomic {
		pid_there[PIDS] = 1;
		for (p : 0 .. PIDS - 1) {
			run Process(p)
		}
		run Supervisor(PIDS)
	}
}
