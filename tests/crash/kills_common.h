/* SPDX-License-Identifier: MIT */
/* What both kill tests use: random numbers, the truth about a key, what must hold when nobody is left. */
#ifndef FND_TESTS_KILLS_COMMON_H
#define FND_TESTS_KILLS_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <foundation/segment.h>
#include <foundation/table.h>

/* What a key holds: sequence << 1 | present. Sequences of a key are never given out twice. */
static inline uint64_t state_of(uint64_t seq, bool present)
{
	return seq << 1 | present;
}

struct key_journal {
	uint64_t intent; /* stored before the operation */
	uint64_t done;   /* … after it */
	uint64_t issued; /* highest sequence ever given out */
	uint64_t pad;
};

static inline uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ULL;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

static inline uint64_t draw(uint64_t *random)
{
	*random += 0x9e3779b97f4a7c15ULL;
	return mix(*random);
}

static inline void spin(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/*
 * With the caller the only participant left: every table adds up, no slot is taken, no lock held, every
 * span in use belongs to something. 0, or 1 with the reasons on stderr, each behind @prefix.
 */
int structure_check(struct fnd_segment *seg, const char *prefix);

#endif
