// SPDX-License-Identifier: MIT
/*
 * Grace periods: min-scan epochs (shm/epoch.c, fnd_section_begin/end, fnd_shard_stamp, batch_take).
 *
 * One shard with one index word `idx` that names the live record. Two readers (M sections each) look the
 * record up and use it until the end of their section. NW writers replace it K times under the shard's lock
 * and advance the epoch whenever they like. A record that is given out again is poison for ever: a reader
 * that touches poison fails the run.
 *
 * x86: a store waits in its processor's buffer (rsb, wsb) until Memory lets it through, in order. A locked
 * instruction needs the own buffer empty. membarrier empties the buffers of the registered processors one
 * after the other. What only the lock's holder touches (open batch, ring, free list) is kept outside the
 * buffers: the lock's two locked instructions order it [LK-1].
 *
 * Must fail:
 *   NO_MEMBARRIER      advance without it
 *   UNREGISTERED       reader 1 is not registered and pays no fence
 *   MEMBARRIER_FIRST   before the increment of G
 *   MEMBARRIER_LAST    after the scan
 *   STAMP_AT_UNLINK    the section that unlinked stamps, buffer not drained
 *   STAMP_SAME_SECTION a second retire stamps what the first of the same section has put there
 *   STAMP_LE_SAFE      reuse when stamp <= safe
 *   STEAL_UNDRAINED    (with KILLS) the lock is stolen before the dead one's stores have arrived
 * Variants that must pass:
 *   FENCED_READER      reader 1 is not registered and pays a fence in begin
 *   FENCED             nobody is registered, no membarrier, all readers pay a fence
 *   RESCAN             fnd_synchronize: scans again for the same E, without another membarrier
 *   KILLS              a writer may die inside its critical section; the thief sweeps, then stamps
 */
#ifndef NW
#define NW 2
#endif
#ifndef K
#define K 1
#endif
#ifndef M
#define M 1
#endif
#ifndef KILLS
#define KILLS 0
#endif
#ifndef DEPTH
#define DEPTH 2 /* stores a reader's buffer holds */
#endif
#ifndef BATCHES
#define BATCHES 2 /* ring of stamped batches */
#endif
#ifdef STAMP_SAME_SECTION
#define UNLINKS 2
#else
#define UNLINKS 1
#endif
#define RECORDS (1 + NW * K * UNLINKS) /* at most 8: sets of records are bytes */
#define BIT(r) (1 << (r))

byte G = 1, safe = 1;
byte idx = 0, made = 1;
byte slot[2];
byte open_set, batch_set[BATCHES], batch_stamp[BATCHES], poison;
byte owner = 255; /* of the lock; 255: free */
bit dead[NW];
byte kills = KILLS;

chan rsb[2] = [DEPTH] of { byte };
chan wsb[NW] = [UNLINKS] of { byte };

proctype Memory()
{
end:
	do
	:: rsb[0]?slot[0]
	:: rsb[1]?slot[1]
	:: wsb[0]?idx
#if NW > 1
	:: wsb[1]?idx
#endif
	od
}

proctype Reader(byte i)
{
	byte e, r, n;

	do
	:: n < M ->
		e = G; /* [GP-3] */
		rsb[i]!e; /* [GP-1] */
#if defined(FENCED)
		empty(rsb[i]);
#elif defined(FENCED_READER)
		if
		:: i == 1 -> empty(rsb[i])
		:: else
		fi;
#endif
		atomic { r = idx; assert(!(poison & BIT(r))) };
		assert(!(poison & BIT(r))); /* still so when the section ends [GP-2] */
		d_step { rsb[i]!0; n++; e = 0; r = 0 }
	:: else -> break
	od
}

inline membarrier()
{
	skip;
#if !defined(NO_MEMBARRIER) && !defined(FENCED)
	atomic { do :: rsb[0]?slot[0] :: empty(rsb[0]) -> break od };
#if !defined(UNREGISTERED) && !defined(FENCED_READER)
	atomic { do :: rsb[1]?slot[1] :: empty(rsb[1]) -> break od };
#endif
	atomic { do :: wsb[0]?idx :: empty(wsb[0]) -> break od };
#if NW > 1
	atomic { do :: wsb[1]?idx :: empty(wsb[1]) -> break od };
#endif
#endif
}

/* fnd_shard_stamp: everything in the open batch gets one stamp, if the ring has room */
inline stamp()
{
	d_step {
		if
		:: open_set != 0 ->
			b = 0;
			do
			:: b < BATCHES && batch_set[b] != 0 -> b++
			:: else -> break
			od;
			if
			:: b < BATCHES ->
				batch_stamp[b] = G; /* [GP-6] */
				batch_set[b] = open_set;
				open_set = 0
			:: else
			fi;
			b = 0
		:: else
		fi
	}
}

/* batch_take, for every batch: memory goes back as soon as it may [GP-5] */
inline reuse()
{
	d_step {
		for (b : 0 .. BATCHES - 1) {
			if
#ifdef STAMP_LE_SAFE
			:: batch_set[b] != 0 && batch_stamp[b] <= safe ->
#else
			:: batch_set[b] != 0 && batch_stamp[b] < safe ->
#endif
				poison = poison | batch_set[b];
				batch_set[b] = 0;
				batch_stamp[b] = 0
			:: else
			fi
		}
		b = 0
	}
}

/* fnd_shard_repair: what is in no list and not live becomes retired, without a stamp */
inline repair()
{
	d_step {
		r = open_set | poison | BIT(idx);
		for (b : 0 .. BATCHES - 1) {
			r = r | batch_set[b]
		}
		for (b : 0 .. RECORDS - 1) {
			if
			:: b < made && !(r & BIT(b)) -> open_set = open_set | BIT(b)
			:: else
			fi
		}
		b = 0;
		r = 0
	}
}

#if KILLS > 0
#define DIE                                               \
	if                                                \
	:: atomic { kills > 0 -> kills--; dead[w] = 1; goto gone } \
	:: skip                                           \
	fi
#else
#define DIE skip
#endif

/* Taking the lock and what follows it up to the first buffered store are one step: a locked instruction
 * that acquires can be moved to the right over the steps of others. */
inline lock()
{
	/* the buffer is empty: compare-and-swap */
	if
	:: atomic { owner == 255 && empty(wsb[w]) -> owner = w; stamp(); reuse() }
#if KILLS > 0 && NW > 1
#ifdef STEAL_UNDRAINED
	:: atomic { owner == 1 - w && dead[1 - w] -> owner = w; repair(); stamp(); reuse() }
#else
	/* the kernel's word of a death comes after the last store of the dead */
	:: atomic { owner == 1 - w && dead[1 - w] && empty(wsb[1 - w]) ->
		owner = w; repair(); stamp(); reuse() }
#endif
#endif
	fi
}

/* replace: the new record is published, the old one retired */
inline change()
{
	DIE;
	d_step {
		old = idx; /* from memory: the buffer is empty here */
		v = made;
		made++;
		assert(made <= RECORDS)
	};
	DIE;
	wsb[w]!v;
	DIE;
	open_set = open_set | BIT(old)
}

/* advance(), and the scan of fnd_synchronize */
inline scan()
{
	m = E;
	s = slot[0];
	d_step { if :: s != 0 && s < m -> m = s :: else fi; s = 0 };
	s = slot[1];
	d_step { if :: s != 0 && s < m -> m = s :: else fi; s = 0 }
}

inline raise()
{
	d_step { if :: m > safe -> safe = m :: else fi; m = 0 } /* [GP-5] */
}

inline advance()
{
#ifdef MEMBARRIER_FIRST
	membarrier();
#endif
	atomic { empty(wsb[w]) -> G++; E = G }; /* [GP-3] locked */
#if !defined(MEMBARRIER_FIRST) && !defined(MEMBARRIER_LAST)
	membarrier();
#endif
	scan();
#ifdef MEMBARRIER_LAST
	membarrier();
#endif
	raise();
#ifdef RESCAN
	scan();
	raise();
#endif
	d_step { E = 0; m = 0; s = 0 }
}

proctype Writer(byte w)
{
	byte old, v, k, E, m, s, b, r;

	do
	:: k < K ->
		lock();
		change();
#ifdef STAMP_SAME_SECTION
		d_step { old = v; v = made; made++; assert(made <= RECORDS) };
		wsb[w]!v;
		stamp();
		open_set = open_set | BIT(old);
#endif
#ifdef STAMP_AT_UNLINK
		stamp();
#endif
		DIE;
		atomic { empty(wsb[w]) -> owner = 255; k++; old = 0; v = 0 }; /* exchange */
		if
		:: skip
		:: advance();
			/* the next section may be long in coming: one that only stamps and reuses */
			lock();
			DIE;
			atomic { empty(wsb[w]) -> owner = 255 }
		fi
	:: else -> break
	od;
gone:
	skip
}

init {
	atomic {
		run Memory();
		run Reader(0);
		run Reader(1);
		run Writer(0);
#if NW > 1
		run Writer(1)
#endif
	}
}
