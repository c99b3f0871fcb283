/* SPDX-License-Identifier: MIT */
/*
 * Log-linear histograms: which bucket a value falls into, and what a bucket stands for.
 *
 * HdrHistogram's indexing (Gil Tene) with 16 sub-buckets an octave. Below 32 a bucket is one value;
 * above, its width is at most 1/16 of its lowest value. A percentile is reported as the highest value of
 * its bucket, so it is never below the true one and at most 1/16 above.
 */
#ifndef FOUNDATION_SHM_HISTOGRAM_H
#define FOUNDATION_SHM_HISTOGRAM_H

#include <stdint.h>

#include "layout.h"

static inline unsigned int fnd_hist_index(uint64_t v)
{
	unsigned int octave;

	if (v < (1u << FND_HIST_SUB_BITS))
		return (unsigned int)v;
	if (v >> FND_HIST_MAX_BITS)
		return FND_HIST_BUCKETS - 1;
	octave = 63u - (unsigned int)__builtin_clzll(v) - FND_HIST_SUB_BITS;
	return ((octave + 1) << FND_HIST_SUB_BITS) +
	       ((unsigned int)(v >> octave) & ((1u << FND_HIST_SUB_BITS) - 1));
}

/* Lowest and highest value of a bucket; the last one also holds everything above. */
static inline uint64_t fnd_hist_lower(unsigned int index)
{
	unsigned int octave = index >> FND_HIST_SUB_BITS;
	uint64_t sub = index & ((1u << FND_HIST_SUB_BITS) - 1);

	return octave ? ((1u << FND_HIST_SUB_BITS) + sub) << (octave - 1) : sub;
}

static inline uint64_t fnd_hist_upper(unsigned int index)
{
	return fnd_hist_lower(index + 1) - 1;
}

/*
 * The bucket that holds the sample of rank ceil(total * numerator / denominator), counted from 1.
 * @total: the sum of all buckets, not 0. Returns FND_HIST_BUCKETS - 1 when the buckets hold less.
 */
static inline unsigned int fnd_hist_percentile(const uint64_t bucket[FND_HIST_BUCKETS],
					       uint64_t total, uint32_t numerator,
					       uint32_t denominator)
{
	/* in two parts: total * numerator may not fit */
	uint64_t rank = total / denominator * numerator +
			(total % denominator * numerator + denominator - 1) / denominator;
	uint64_t seen = 0;
	unsigned int i;

	if (rank == 0)
		rank = 1;
	for (i = 0; i < FND_HIST_BUCKETS - 1; i++) {
		seen += bucket[i];
		if (seen >= rank)
			break;
	}
	return i;
}

#endif
