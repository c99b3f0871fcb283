/* SPDX-License-Identifier: MIT */
/*
 * The flip: how a process with two registries follows the flags (runtime/facade_flip.c, decision 0017).
 *
 * One process with THREADS threads, one name, and the flags word that somebody changes FLIPS times to any
 * mode: OFF (the private registry alone), BOTH (private asked first, everything published) or SHARED (shared
 * asked first). Threads register, give up and look up the name; each call takes its steps one at a time, and
 * is in a read section of liburcu from the look at the word to its end. Another process changes the shared
 * record (CHANGES times: a new value, or away with it) whenever it is published.
 *
 * A value is a number that never comes again; 0: not there. shared and private are the two entries, copy the
 * value of the shared record that the private entry is a copy of (its generation).
 *
 * Safety: a lookup that no change of the name overlapped answers what the name is - to its own process
 * always, to the other process (which sees the shared record alone) once a call of the process has been made
 * under flags that publish.
 *
 * Must fail:
 *   NO_SYNCHRONIZE   the first call under a new word does not wait for calls in flight
 *   COUNT_FIRST      the new word is said to be met before its names are published
 *   NO_GENERATION    a private entry is believed without a look at the shared record
 *   NO_PULL          names of ours that only the shared registry has are not taken over when it goes off
 */
#ifndef THREADS
#define THREADS 2
#endif
#ifndef FLIPS
#define FLIPS 2
#endif
#ifndef CHANGES
#define CHANGES 1
#endif
#ifndef CALLS
#define CALLS 2
#endif
#if THREADS > 1
#define QUIET (in_section[0] == 0 && in_section[1] == 0)
#else
#define QUIET (in_section[0] == 0)
#endif
#define OFF 0
#define BOTH 1
#define SHARED 2

byte mode_now = OFF, count = 0;	    /* the word: what it says, and how often it has changed */
byte met = 0, met_mode = OFF;	    /* reconciled, and its mode */
bit flip_lock, write_lock;
byte in_section[THREADS];	    /* 0, or 1 + the count it runs under */

byte private, copy, shared;	    /* values; copy: 0 unpublished */
bit private_there;
byte truth;			    /* what the name is; 0: not registered */
bit changing;			    /* a write of the name is under way */
byte changed;			    /* how many began */
byte last = 0;			    /* value handed out last */
byte changes = CHANGES;
byte published_at = 0;		    /* a whole call was made under this count */
bit published_mode;

/* Private entry and shared record become one; with p, an unpublished name is published. */
inline settle(p)
{
	if
	:: private_there && copy != 0 && shared == 0 -> atomic { private_there = 0; private = 0; copy = 0 }
	:: private_there && copy == 0 && shared == 0 && p ->
		shared = private;
		copy = private
	:: shared != 0 && !(private_there && copy == shared) ->
		atomic { private = shared; copy = shared; private_there = 1 }
	:: else
	fi
}

inline reconcile()
{
	atomic { flip_lock == 0 -> flip_lock = 1 };
	atomic { c = count; m = mode_now };
	if
	:: c != met ->
#ifdef COUNT_FIRST
		atomic { met_mode = m; met = c };
#endif
#ifndef NO_SYNCHRONIZE
		/* a grace period: sections that were open end; those that open now see the new word, and leave */
		(in_section[0] == 0 || in_section[0] == 1 + c);
#if THREADS > 1
		(in_section[1] == 0 || in_section[1] == 1 + c);
#endif
#endif
		if
		:: m != OFF -> if :: private_there -> settle(1) :: else fi
		:: else ->
#ifdef NO_PULL
			if :: private_there -> settle(0) :: else fi
#else
			settle(0)
#endif
		fi;
		atomic { met_mode = m; met = c }
	:: else
	fi;
	flip_lock = 0
}

/* One lookup by this process: answer in a. */
inline look()
{
	if
	:: mo == OFF -> a = private
	:: mo == BOTH ->
		atomic { a = private; cp = copy; there = private_there };
#ifndef NO_GENERATION
		s = shared;
		if
		:: there && s != 0 && cp == s -> skip
		:: there && cp != 0 && s == 0 -> a = 0
		:: there && s != 0 -> a = s
		:: !there -> a = s
		:: else
		fi
#else
		if :: !there -> a = shared :: else fi
#endif
	:: else ->
		a = shared;
		if
		:: a == 0 ->
			atomic { if :: private_there && copy == 0 -> a = private :: else fi }
		:: else
		fi
	fi
}

proctype Thread(byte me)
{
	byte c, m, mo, a, s, cp, before, calls;
	bit there, still;

	do
	:: calls < CALLS ->
		calls++;
enter:
		/* the section opens, then the word is looked at; both in one, as the section is what counts */
		atomic { c = count; in_section[me] = 1 + c };
		if
		:: c == met -> mo = met_mode
		:: else -> in_section[me] = 0; reconcile(); goto enter
		fi;
		if
		:: /* lookup */
			atomic { before = changed; still = !changing; s = truth };
			if
			:: still ->
				there = 0;
				look();
				atomic {
					assert(changed != before || changing || a == truth);
					a = 0; s = 0; cp = 0
				}
			:: else
			fi
		:: /* register, a new value */
			atomic { write_lock == 0 && !changing && last < 4 ->
				write_lock = 1; changing = 1; changed++; last++; a = last };
			if
			:: mo != OFF || (private_there && copy != 0) ->
				shared = a;
				atomic { private = a; copy = a; private_there = 1 }
			:: else ->
				atomic { private = a; copy = 0; private_there = 1 }
			fi;
			atomic { truth = a; changing = 0; write_lock = 0; a = 0 }
		:: /* give up */
			atomic { write_lock == 0 && !changing && truth != 0 ->
				write_lock = 1; changing = 1; changed++ };
			if
			:: shared != 0 && (mo != OFF || copy != 0) -> shared = 0
			:: else
			fi;
			atomic { private_there = 0; private = 0; copy = 0 };
			atomic { truth = 0; changing = 0; write_lock = 0 }
		:: skip
		fi;
		atomic {
			if
			:: mo != OFF && c >= published_at -> published_at = c; published_mode = 1
			:: else
			fi;
			in_section[me] = 0
		}
	:: else -> break
	od
}

proctype Flipper()
{
	byte n;

	do
	:: n < FLIPS ->
		n++;
		if
		:: atomic { mode_now = OFF; count++ }
		:: atomic { mode_now = BOTH; count++ }
		:: atomic { mode_now = SHARED; count++ }
		fi
	:: else -> break
	od
}

/* The other process: registers the name for us, gives it a new value or takes it away, as soon as all calls
 * of ours run under flags that publish; and looks at the shared record. */
proctype Other()
{
	do
	:: atomic {
		changes > 0 && !changing && mode_now != OFF && met == count && met_mode != OFF && last < 4 && QUIET ->
		changes--; changed++;
		if
		:: last++; shared = last; truth = last
		:: shared = 0; truth = 0
		fi
	   }
	:: atomic {
		!changing && mode_now != OFF && published_mode && published_at == count ->
		assert(shared == truth)
	   }
	:: timeout -> break
	od
}

init {
	atomic {
		run Thread(0);
#if THREADS > 1
		run Thread(1);
#endif
		run Flipper();
		run Other()
	}
}
