/* SPDX-License-Identifier: MIT */
/*
 * Verifying: every structural defect of a segment, by looking alone.
 *
 * The verifier reads the file with pread(2) as an observer does: it takes no slot and no lock, maps nothing,
 * and works when nobody may attach any more.
 */
#ifndef FOUNDATION_VERIFY_H
#define FOUNDATION_VERIFY_H

#include <foundation/segment.h>

#ifdef __cplusplus
extern "C" {
#endif

struct fnd_defect {
	const char *where;  /* "header", "thread slot 3", "span", "table agents, shard 2" */
	const char *what;   /* what is there, and what should be */
	const char *remedy; /* what to do about it */
	uint64_t offset;    /* of the damaged word in the segment's file */
};

struct fnd_verify_result {
	uint64_t defects;   /* all of them; more than some thousands are counted and not handed out */
	uint32_t tables;    /* that were walked */
	uint32_t shards;
	uint32_t unsettled; /* shards that changed at every look and showed no defect that stayed */
	uint64_t records;   /* live */
};

/**
 * fnd_verify - walk a whole segment and compare everything with the format.
 * @name: NAME or UID/NAME.
 * @fn: called for each defect, in the order of the walk; returns 0 to go on, anything else ends the calls
 *      and becomes the result. Its texts are valid during the call. NULL: only count.
 * @ret_result: NULL, or receives the figures, also with -FND_E_CORRUPT.
 *
 * Checked: the header with its checksums and running words; every slot's word, link and epoch; every lock
 * word; the directory; that spans fill the memory without a gap, each free or referred to exactly once; and of
 * each shard its index, chains and links, each record's place, owner, tag, lengths and the hash of its key,
 * that no key is there twice, that every record place is in exactly one of index, free list, a batch or the
 * rest of the newest extent, counts and stamps; and that bytes without a meaning are 0.
 * Not checked, as nothing says what they should be: the bytes of values, counters and histograms, words of
 * free slots and records but for their links.
 *
 * Exact while nobody writes. Beside writers what is found is looked at again, and only what stays is
 * reported. What a death leaves behind for the next comer to repair is no defect: with a lock whose owner is
 * dead, what it protects is checked for soundness and not for exact counts.
 *
 * Returns: 0 (sound); -FND_E_CORRUPT (defects; the detail is the first one); what @fn returned; the
 * refusals of fnd_observer_open() but for those of damage, which are defects; -ENOMEM, -EIO.
 * Context: any thread, not in a signal handler. Progress and cost: reads the segment once, about 1 µs a
 * record; some 100 ms more when there are defects and writers. Ordering: none. If I die: nothing to repair.
 */
FND_API int fnd_verify(const char *name, int (*fn)(const struct fnd_defect *d, void *arg), void *arg,
		       struct fnd_verify_result *ret_result);

#ifdef __cplusplus
}
#endif
#endif
