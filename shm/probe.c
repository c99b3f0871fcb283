/* SPDX-License-Identifier: MIT */
/*
 * Sampled timing: when, with which clock, and who is told.
 *
 * All use of <sys/sdt.h> is in this file: the semaphore macro and the operand constraint
 * (STAP_SDT_ARG_CONSTRAINT, set by the build) count per file. The probe is sdt.h's own one-byte nop. It
 * must stay that: where a probe is a five-byte nop the kernel may replace it with a call, which
 * overwrites the red zone of a leaf function.
 */
#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>

#include <foundation/clock.h>

#include "probe.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>
#endif

unsigned short foundation_lookup_semaphore __attribute__((section(".probes")));

#define EVERY_DEFAULT 1024u
#define EVERY_MAX (1u << 20)

/* --- the clock ------------------------------------------------------------------------------------ */

/*
 * Scale and overhead in one word, so that they are never seen apart: overhead in ticks (16 bits),
 * COUNTER when ticks are the processor's, nanoseconds a tick times 2^32 (47 bits). 0: not calibrated;
 * ticks are nanoseconds of CLOCK_MONOTONIC then.
 */
#define OVERHEAD_SHIFT 48u
#define COUNTER (1ULL << 47)
#define SCALE_MASK (COUNTER - 1)

static uint64_t clock_word;

static uint64_t to_ns(uint64_t word, uint64_t ticks)
{
	return (uint64_t)(((unsigned __int128)ticks * (word & SCALE_MASK)) >> 32);
}

#if defined(__x86_64__)
/* lfence: what came before has finished, so it is not counted */
static inline uint64_t counter_begin(void)
{
	uint64_t t;

	_mm_lfence();
	t = __rdtsc();
	_mm_lfence(); /* what is timed does not start before the reading either */
	return t;
}

/* rdtscp waits for what came before; lfence keeps what comes after from starting early */
static inline uint64_t counter_end(void)
{
	unsigned int cpu;
	uint64_t t = __rdtscp(&cpu);

	_mm_lfence();
	return t;
}

/* Constant rate, running in every power state, and with rdtscp. */
static bool counter_usable(void)
{
	unsigned int a, b, c, d;

	if (!__get_cpuid(0x80000007, &a, &b, &c, &d) || !(d & (1u << 8)))
		return false;
	return __get_cpuid(0x80000001, &a, &b, &c, &d) && (d & (1u << 27));
}
#else
static inline uint64_t counter_begin(void)
{
	return fnd_now_ns();
}
static inline uint64_t counter_end(void)
{
	return fnd_now_ns();
}
static bool counter_usable(void)
{
	return false;
}
#endif

/* One moment on both clocks: of several tries the one that was interrupted least. */
static void moment(uint64_t *ret_ticks, uint64_t *ret_ns)
{
	uint64_t best = UINT64_MAX;

	*ret_ticks = *ret_ns = 0;
	for (int i = 0; i < 8; i++) {
		uint64_t before = counter_begin();
		uint64_t ns = fnd_now_ns();
		uint64_t after = counter_end();

		if (after - before >= best)
			continue;
		best = after - before;
		*ret_ticks = before + best / 2;
		*ret_ns = ns;
	}
}

/* 50 µs between two moments known to some 10 ns each: right to 1 in 1,000, where a bucket is 1 in 16. */
static uint64_t scale_measured(void)
{
	uint64_t t0, n0, t1, n1;

	moment(&t0, &n0);
	while (fnd_now_ns() - n0 < 50000)
		;
	moment(&t1, &n1);
	if (t1 <= t0 || n1 <= n0 || n1 - n0 > UINT32_MAX)
		return 0; /* stopped for seconds, or the counters of two processors disagree */
	return ((n1 - n0) << 32) / (t1 - t0);
}

static inline uint64_t stop(uint64_t word)
{
	return word & COUNTER ? counter_end() : fnd_now_ns();
}

/* What a timing of nothing shows, in ticks: the least of many, so that nothing real is taken off. */
static uint64_t overhead_measured(uint64_t word)
{
	uint64_t least = 0xffff;

	for (int i = 0; i < 200; i++) {
		uint64_t begin = word & COUNTER ? counter_begin() : fnd_now_ns();
		uint64_t took = stop(word) - begin;

		if (took < least)
			least = took;
	}
	return least;
}

void fnd_probe_init(void)
{
	uint64_t scale = 0, word;

	/* relaxed, here and below: one word, and set before this process has a segment handle */
	if (fnd_load_relaxed(&clock_word))
		return;
	if (counter_usable())
		scale = scale_measured();
	word = scale && scale <= SCALE_MASK ? COUNTER | scale : 1ULL << 32;
	/* two threads may both get here: only the first word counts, the clock must not change */
	fnd_cas(&clock_word, 0, word | overhead_measured(word) << OVERHEAD_SHIFT);
}

static uint64_t divisor(uint64_t a, uint64_t b)
{
	while (b) {
		uint64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/* The greatest number of ticks that divides every difference: some counters advance by tens. */
double fnd_clock_step_ns(void)
{
	uint64_t step = 0, word, last;

	fnd_probe_init();
	word = fnd_load_relaxed(&clock_word);
	last = stop(word);
	for (int i = 0; i < 256; i++) {
		uint64_t now = stop(word);

		step = divisor(now - last, step);
		last = now;
	}
	return (double)(step ? step : 1) * (double)(word & SCALE_MASK) / 4294967296.0;
}

double fnd_clock_overhead_ns(void)
{
	uint64_t word;

	fnd_probe_init();
	word = fnd_load_relaxed(&clock_word);
	return (double)(word >> OVERHEAD_SHIFT) * (double)(word & SCALE_MASK) / 4294967296.0;
}

/* --- which operations ----------------------------------------------------------------------------- */

static uint64_t random_next(struct fnd_thread *th)
{
	uint64_t x = th->random;

	if (x == 0) /* never of itself: a thread that was not seeded */
		x = (fnd_cycles() ^ (uintptr_t)th) | 1;
	x ^= x << 13; /* Marsaglia, "Xorshift RNGs" (2003) */
	x ^= x >> 7;
	x ^= x << 17;
	th->random = x;
	return x;
}

/*
 * A gap with mean @every: 1 + floor(E * (every - 1/2)), E exponentially distributed. Fixed gaps would
 * beat with loops in the program. Integers only, as this may run in a signal handler: E is -ln of a
 * random fraction, with log2(1 + m) taken as m + 0.343 m (1 - m), right to 0.008.
 */
static uint32_t gap(struct fnd_thread *th, uint32_t every)
{
	uint64_t x = random_next(th);
	unsigned int zeros = (unsigned int)__builtin_clzll(x);   /* x is never 0 */
	uint64_t m = zeros == 63 ? 0 : (x << (zeros + 1)) >> 48; /* 16 bits behind the leading one */
	uint64_t log2_m = m + ((m * (65536 - m) >> 16) * 22479 >> 16);
	uint64_t minus_log2 = ((uint64_t)(zeros + 1) << 16) - log2_m;
	uint64_t e = minus_log2 * 45426 >> 16; /* times ln 2 */

	return 1 + (uint32_t)(e * (2 * (uint64_t)every - 1) >> 17);
}

bool fnd_sample_due(struct fnd_segment *seg, struct fnd_thread *th)
{
	/* relaxed: an interval that has just changed is seen a few lookups later */
	uint32_t every = fnd_load_relaxed(&seg->hdr->sample_always);

	if (every == 0)
		every = fnd_load_relaxed(&seg->hdr->sample_every);
	if (every == 1)
		return true;
	if (every == 0)
		every = EVERY_DEFAULT;
	if (every > EVERY_MAX)
		every = EVERY_MAX;
	/* no gap is 64 times the mean: one that is was drawn for a longer interval */
	if (th->countdown == 0 || th->countdown > 64 * every)
		th->countdown = gap(th, every);
	return --th->countdown == 0;
}

/* --- timing and telling --------------------------------------------------------------------------- */

uint64_t fnd_sample_begin(void)
{
	return fnd_load_relaxed(&clock_word) & COUNTER ? counter_begin() : fnd_now_ns();
}

/*
 * Three arguments, as each costs the tracer some 50 ns: whose segment, what, how long.
 * The breakpoint is taken after the timing and outside it. Not inlined: one place is one breakpoint.
 */
static __attribute__((noinline)) void tell(struct fnd_segment *seg, uint32_t table, enum fnd_op op, uint64_t ns)
{
	uint64_t what = (uint64_t)table << 32 | (uint32_t)op;

	/* relaxed: as in fnd_sampling() */
	if (fnd_load_relaxed(&foundation_lookup_semaphore))
		STAP_PROBE3(foundation, lookup, seg->uuid_low, what, ns);
}

void fnd_sample_end(struct fnd_segment *seg, struct fnd_thread *th, uint32_t table, enum fnd_op op,
		    uint64_t begin)
{
	uint64_t word = fnd_load_relaxed(&clock_word);
	uint64_t ticks = stop(word) - begin;
	uint64_t overhead = word >> OVERHEAD_SHIFT;
	uint64_t ns;

	if (ticks >> 62)
		return; /* ran backwards: not a latency */
	ns = to_ns(word ? word : 1ULL << 32, ticks > overhead ? ticks - overhead : 0);
	fnd_cell_record(th, op, ns);
	tell(seg, table, op, ns);
}

void fnd_probe_recovery(struct fnd_segment *seg, struct fnd_thread *th, uint32_t table, uint64_t ns)
{
	fnd_cell_record(th, FND_OP_RECOVERY, ns);
	tell(seg, table, FND_OP_RECOVERY, ns);
}
