/* SPDX-License-Identifier: MIT */
/*
 * The clock that lookups are timed with.
 */
#ifndef FOUNDATION_CLOCK_H
#define FOUNDATION_CLOCK_H

#include <foundation/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * fnd_clock_step_ns - the step of the clock that times lookups: a latency is known to this, no better.
 * fnd_clock_overhead_ns - what reading it twice costs; taken off every latency already.
 *
 * The processor's cycle counter where it runs at a constant rate, else CLOCK_MONOTONIC.
 *
 * Returns: nanoseconds. Context: any thread, any signal handler.
 * Progress and cost: wait-free; 100 µs at the first call in a process, 10 µs later.
 * Ordering: none. If I die: nothing to repair.
 */
FND_API double fnd_clock_step_ns(void);
FND_API double fnd_clock_overhead_ns(void);

#ifdef __cplusplus
}
#endif
#endif
