/* SPDX-License-Identifier: MIT */
/*
 * Sampled timing of operations, and the tracing probe that reports it.
 *
 * A breakpoint costs microseconds, a lookup 20 ns: a tracer that stopped both ends of a lookup would
 * measure itself. So the program times one lookup in N itself, puts the nanoseconds into its cell, and
 * then, outside what was timed, hits the probe foundation:lookup with the figure as an argument.
 *
 * Use, in a lookup:
 *	if (fnd_unlikely(fnd_sampling(seg)) && fnd_sample_due(seg, th)) {
 *		begin = fnd_sample_begin();
 *		... the lookup ...
 *		fnd_sample_end(seg, th, table, FND_OP_LOOKUP, begin);
 *	}
 */
#ifndef FOUNDATION_SHM_PROBE_H
#define FOUNDATION_SHM_PROBE_H

#include "internal.h"

/* Raised by the kernel in every process that maps this file while a tracer is attached to the probe. */
extern unsigned short foundation_lookup_semaphore FND_HIDDEN;

/* Is anybody interested in timings? Two loads; both lines are read-mostly. */
static inline bool fnd_sampling(struct fnd_segment *seg)
{
	/* relaxed: a tracer's first or last few lookups may be missed */
	return fnd_unlikely(fnd_load_relaxed(&foundation_lookup_semaphore) |
			    fnd_load_relaxed(&seg->hdr->sample_always));
}

/* Calibrate the clock, once a process; some 60 µs. fnd_sample_begin() needs it to have happened. */
FND_HIDDEN void fnd_probe_init(void);

/* Is this operation one of those to time? Counts down a geometrically distributed gap. */
FND_HIDDEN bool fnd_sample_due(struct fnd_segment *seg, struct fnd_thread *th);

/* Async-signal-safe, no system call. @table: its number in the directory. */
FND_HIDDEN uint64_t fnd_sample_begin(void);
FND_HIDDEN void fnd_sample_end(struct fnd_segment *seg, struct fnd_thread *th, uint32_t table,
			       enum fnd_op op, uint64_t begin);

/* A repair of a dead writer's shard took @ns nanoseconds. */
FND_HIDDEN void fnd_probe_recovery(struct fnd_segment *seg, struct fnd_thread *th, uint32_t table,
				   uint64_t ns);

#endif
