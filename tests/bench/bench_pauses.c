// SPDX-License-Identifier: MIT
/* Gaps between accesses: see bench_pauses.h. */
#include <string.h>

#include "bench_pauses.h"

void bench_pauses_begin(struct bench_pauses *p)
{
	memset(p, 0, sizeof(*p)); /* also brings its pages */
	p->begin_ns = bench_now_ns();
	p->begin = p->before = bench_cycles();
}

void bench_pauses_end(struct bench_pauses *p)
{
	uint64_t cycles = bench_cycles() - p->begin, ns = bench_now_ns() - p->begin_ns;

	p->ns_per_cycle = cycles ? (double)ns / (double)cycles : 0;
}

static double cell_end(unsigned int cell)
{
	if (cell < 16)
		return (double)cell + 1;
	return (double)((UINT64_C(16) + cell % 16 + 1) << (cell / 16 - 1));
}

double bench_pauses_quantile(const struct bench_pauses *p, double q)
{
	double wanted = q * (double)p->ticks, longest = (double)p->longest;
	uint64_t seen = 0;

	for (unsigned int i = 0; q < 1 && i < BENCH_PAUSES_CELLS; i++) {
		seen += p->cell[i];
		if ((double)seen < wanted || seen == 0)
			continue;
		return (cell_end(i) < longest ? cell_end(i) : longest) * p->ns_per_cycle;
	}
	return longest * p->ns_per_cycle;
}
