/* SPDX-License-Identifier: MIT */
/*
 * What the segment's area means: 2048 bytes in the header, there as soon as the header is.
 *
 * docs/segment-format.md has a row for each member; a test compares them with this file. Only what must be
 * readable without a table, or in a nanosecond, lives here.
 */
#ifndef FOUNDATION_RUNTIME_AREA_LAYOUT_H
#define FOUNDATION_RUNTIME_AREA_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include <foundation/area.h>

#define FND_APP_FLAGS 256u
#define FND_APP_FLAG_UNDEFINED 255u
#define FND_JOURNAL_DIR 256u

struct fnd_shm_runtime {
	uint64_t flags; /* <foundation/flags.h> says which bits; 0: never set */
	uint64_t flags_journalled; /* low 24 bits: change count up to which the journal is written */
	uint32_t flags_wake; /* futex: moves with every change of a flag */
	uint32_t shared_only; /* 1: workers may not hold private state */
	uint64_t flags_life; /* which segment of this name this is, counted in its journal; 0: not known yet */
	uint32_t flags_ahead; /* 1: the journal may be ahead of what is stored; under the journal's lock */
	uint8_t pad0[28];

	uint64_t app_root; /* generation << 1 | which block of app_flag counts */
	uint64_t app_journalled; /* generation up to which the journal is written */
	uint8_t pad1[48];
	uint8_t app_flag[2][FND_APP_FLAGS]; /* percentages, 255: not defined */

	uint64_t event_head; /* number of the last event; a hint: the records say */
	uint32_t event_wake; /* futex: moves with every event */
	uint32_t agents_indexed; /* moves with every attribute that is indexed */
	uint64_t agents_updated; /* metadata replaced so far */
	uint64_t agents_repaired_ns; /* wall clock of the last repair of the registry, 0: never */
	uint64_t events_journalled; /* number up to which what belongs there is in the journal: a hint */
	uint64_t events_source; /* whose numbers they are, for the journal; random, 0: not chosen yet */
	uint8_t pad2[16];
	char journal_dir[FND_JOURNAL_DIR]; /* where its journal is, cut, with its NUL; first byte 0: not known yet */
	uint8_t reserved[FND_AREA_BYTES - 704 - FND_JOURNAL_DIR];
};

_Static_assert(sizeof(struct fnd_shm_runtime) == FND_AREA_BYTES, "the whole area");
_Static_assert(offsetof(struct fnd_shm_runtime, app_root) == 64, "a line of its own");
_Static_assert(offsetof(struct fnd_shm_runtime, app_flag) == 128, "whole lines");
_Static_assert(offsetof(struct fnd_shm_runtime, event_head) == 640, "a line of its own");
_Static_assert(offsetof(struct fnd_shm_runtime, journal_dir) == 704, "behind the events");

#endif
