/* SPDX-License-Identifier: MIT */
/* The gaps between the accesses of one loop, by the cycle counter: a histogram and the longest. */
#ifndef BENCH_PAUSES_H
#define BENCH_PAUSES_H

#include "bench_util.h"

#define BENCH_PAUSES_CELLS (64 * 16) /* 16 cells each power of two: known to 6 % */

struct bench_pauses {
	uint64_t before, longest, ticks; /* cycles */
	uint64_t begin, begin_ns;
	double ns_per_cycle;
	uint32_t cell[BENCH_PAUSES_CELLS];
};

static inline uint64_t bench_cycles(void)
{
#ifdef __x86_64__
	return __builtin_ia32_rdtsc();
#else
	return bench_now_ns();
#endif
}

static inline unsigned int bench_pauses_cell(uint64_t cycles)
{
	unsigned int power;

	if (cycles < 16)
		return (unsigned int)cycles;
	power = 63 - (unsigned int)__builtin_clzll(cycles);
	return (power - 3) * 16 + (unsigned int)(cycles >> (power - 4) & 15);
}

/* Once an access, when it is done. */
static inline void bench_pauses_tick(struct bench_pauses *p)
{
	uint64_t now = bench_cycles(), gap = now - p->before;

	p->before = now;
	p->ticks++;
	p->cell[bench_pauses_cell(gap)]++;
	if (gap > p->longest)
		p->longest = gap;
}

void bench_pauses_begin(struct bench_pauses *p);
void bench_pauses_end(struct bench_pauses *p);

/* Nanoseconds. 1: the longest, exactly; else the upper bound of the cell that holds it. */
double bench_pauses_quantile(const struct bench_pauses *p, double q);

#endif
