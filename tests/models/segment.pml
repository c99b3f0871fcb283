// SPDX-License-Identifier: MIT
/*
 * Attach and destroy (shm/segment_attach.c settle, shm/segment_destroy.c) [SG-2].
 *
 * A name, and the files it has stood for. Attachers open the name, map, claim a slot, then look for the
 * mark, then at the name; who finds no name creates a new file (it has its slot before it has its name).
 * Destroyers mark, then look for participants, then compare name and file, then remove the name. Everybody
 * may be killed at any step (KILLS in all), and pids are used again (LIVES of each). Atomic accesses are
 * full barriers in the code, so one step each.
 *
 * Safety: no name is removed while somebody is attached to its file, and nobody is attached to a file
 * whose name was removed before.
 *
 * Must fail:
 *   LOOK_THEN_MARK     the destroyer looks for participants before it marks
 *   MARK_THEN_CLAIM    the attacher looks for the mark before it claims a slot
 *   NO_NAME_CHECK      the attacher does not look at the name once more
 *   BLIND_MARK         the mark is set by an exchange, cleared by an exchange, whoever set it
 *   PID_MARK           (LIVES 2) the mark is a bare pid: a late clearing hits the next user of the pid
 */
#ifndef DESTROYERS
#define DESTROYERS 2
#endif
#ifndef ATTACHERS
#define ATTACHERS 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef LIVES
#define LIVES 1
#endif
#define FILES 3
#define NONE 255

byte name = 0;          /* file that the name stands for */
byte made = 1;          /* files made */
byte mark[FILES];       /* who destroys the file: pid + 1, or its mark of this life */
bit slot[FILES * ATTACHERS]; /* taken */
bit attached[FILES * ATTACHERS]; /* attach has returned 0 */
bit slot_dead[FILES * ATTACHERS];
bit alive[DESTROYERS];
byte life[DESTROYERS];
byte kills = KILLS;

#define AT(f, a) ((f) * ATTACHERS + (a))
#define MARK_DEAD(m) (!alive[((m) - 1) % DESTROYERS]) /* the pid is gone; if reused: unknown */
#ifdef PID_MARK
#define MARK_OF(d) (1 + (d))
#define MARK_MINE(m) ((m) == MARK_OF(me)) /* somebody's who had my pid */
#else
#define MARK_OF(d) (1 + (d) + DESTROYERS * life[d]) /* with the number of the attempt */
#define MARK_MINE(m) 0
#endif

inline look()
{
	busy = 0;
	i = 0;
	do
	:: i < ATTACHERS ->
		atomic {
			if
			:: slot[AT(f, i)] && !slot_dead[AT(f, i)] -> busy = 1
			:: else
			fi;
			i++
		}
	:: else -> break
	od;
	i = 0
}

#define DIE_D if :: atomic { kills > 0 -> kills--; goto gone } :: skip fi

proctype Destroyer(byte me)
{
	byte f, o, i, n;
	bit busy;

	do
	:: n < LIVES ->
		atomic { alive[me] = 1; life[me] = n; n++; f = name };
		if
		:: f == NONE -> goto gone
		:: else
		fi;
#ifdef LOOK_THEN_MARK
		look();
		if
		:: busy -> goto gone
		:: else
		fi;
#endif
		/* mark() */
		o = mark[f];
		if
		:: atomic { o != 0 && !MARK_MINE(o) && !MARK_DEAD(o) -> goto gone }
		:: atomic { else }
		fi;
#ifdef BLIND_MARK
		mark[f] = MARK_OF(me);
#else
		atomic {
			if
			:: mark[f] == o -> mark[f] = MARK_OF(me)
			:: else -> goto gone
			fi
		};
#endif
		DIE_D;
#ifndef LOOK_THEN_MARK
		look();
#endif
		if
		:: busy ->
#ifdef BLIND_MARK
			mark[f] = 0
#else
			atomic {
				if
				:: mark[f] == MARK_OF(me) -> mark[f] = 0
				:: else
				fi
			}
#endif
		:: else ->
			/* remove_name */
			DIE_D;
			if
			:: name == f ->
				DIE_D;
				atomic {
					if
					:: name != NONE ->
						for (i : 0 .. ATTACHERS - 1) {
							assert(!attached[AT(name, i)])
						}
						i = 0
					:: else
					fi;
					name = NONE
				}
			:: else
			fi
		fi;
gone:
		atomic { alive[me] = 0; f = 0; o = 0; busy = 0; i = 0 }
	:: else -> break
	od
}

#define DIE_A                                                                                      \
	if                                                                                         \
	:: atomic { kills > 0 -> kills--; slot_dead[AT(f, me)] = slot[AT(f, me)];                   \
		attached[AT(f, me)] = 0; goto out }                                                \
	:: skip                                                                                    \
	fi

proctype Attacher(byte me)
{
	byte f, m, n;

	do
	:: n < 2 ->
		n++;
		f = name;
		if
		:: f == NONE ->
			/* create: initialised, own slot taken, then linkat */
			if
			:: atomic { made < FILES -> f = made; made++; slot[AT(f, me)] = 1 }
			:: else -> break
			fi;
			DIE_A;
			atomic {
				if
				:: name == NONE -> name = f; attached[AT(f, me)] = 1; goto inside
				:: else -> slot[AT(f, me)] = 0; goto again /* EEXIST: attach to theirs */
				fi
			}
		:: else
		fi;
#ifdef MARK_THEN_CLAIM
		m = mark[f];
		slot[AT(f, me)] = 1;
		DIE_A;
#else
		slot[AT(f, me)] = 1;
		DIE_A;
		m = mark[f];
#endif
		if
		:: m != 0 ->
			if
			:: atomic { MARK_DEAD(m) };
				DIE_A;
				atomic {
					if
					:: mark[f] == m -> mark[f] = 0
					:: else
					fi
				};
				m = mark[f]; /* somebody else's by now? */
				if
				:: m != 0 -> m = 0; slot[AT(f, me)] = 0; goto again
				:: else
				fi
			:: atomic { else -> m = 0; slot[AT(f, me)] = 0; goto again }
			fi
		:: else
		fi;
		DIE_A;
		atomic {
#ifndef NO_NAME_CHECK
			if
			:: name != f -> slot[AT(f, me)] = 0; goto again
			:: else
			fi;
#endif
			attached[AT(f, me)] = 1;
			assert(name == f)
		};
inside:
		DIE_A;
		atomic { assert(name == f); attached[AT(f, me)] = 0 };
		slot[AT(f, me)] = 0; /* detach */
again:
		f = 0
	:: else -> break
	od;
out:
	skip
}

init {
	byte i;

	atomic {
		for (i : 0 .. DESTROYERS - 1) {
			run Destroyer(i)
		}
		for (i : 0 .. ATTACHERS - 1) {
			run Attacher(i)
		}
	}
}
