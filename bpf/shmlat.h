/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Plain data that shmlat's BPF program and its user side share, and the histogram's indexing.
 *
 * HdrHistogram's log-linear indexing with 16 sub-buckets an octave, as in a segment's own cells: values
 * below 32 ns are exact, above a bucket is at most 1/16 wide. Here 512 slots, up to 2^35 ns (34 s), so
 * that one mask proves an index good.
 */
#ifndef SHMLAT_H
#define SHMLAT_H

#include <linux/types.h>

#define SHMLAT_SUB_BITS 4
#define SHMLAT_SUB (1 << SHMLAT_SUB_BITS)
#define SHMLAT_MAX_BITS 35
#define SHMLAT_SLOTS (SHMLAT_SUB + (SHMLAT_MAX_BITS - SHMLAT_SUB_BITS) * SHMLAT_SUB)
#define SHMLAT_TABLES 64
#define SHMLAT_OPS 2

struct shmlat_key {
	__u32 table; /* number in the segment's directory */
	__u32 op;
	__u32 pid; /* in shmlat's pid namespace where the process lives in it */
	__u32 pad;
};

struct shmlat_hist {
	__u64 slot[SHMLAT_SLOTS];
};

/* Without a count-leading-zeros instruction, which this BPF target lacks. */
static inline __u32 shmlat_log2(__u64 v)
{
	__u32 r = 0;

	for (__u32 shift = 32; shift; shift >>= 1) {
		if (v >> shift) {
			v >>= shift;
			r += shift;
		}
	}
	return r;
}

static inline __u32 shmlat_slot(__u64 ns)
{
	__u32 octave;

	if (ns < SHMLAT_SUB)
		return (__u32)ns;
	if (ns >> SHMLAT_MAX_BITS)
		return SHMLAT_SLOTS - 1;
	octave = shmlat_log2(ns) - SHMLAT_SUB_BITS;
	return (octave + 1) * SHMLAT_SUB + ((__u32)(ns >> octave) & (SHMLAT_SUB - 1));
}

/* The lowest value of a slot, and the highest. */
static inline __u64 shmlat_lower(__u32 slot)
{
	__u32 octave = slot / SHMLAT_SUB;
	__u64 sub = slot % SHMLAT_SUB;

	return octave ? (SHMLAT_SUB + sub) << (octave - 1) : sub;
}

static inline __u64 shmlat_upper(__u32 slot)
{
	return shmlat_lower(slot + 1) - 1;
}

#endif
