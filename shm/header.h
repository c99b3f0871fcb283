/* SPDX-License-Identifier: MIT */
/* What a segment's header must say before anybody attaches to it or looks at it. */
#ifndef FOUNDATION_SHM_HEADER_H
#define FOUNDATION_SHM_HEADER_H

#include "layout.h"

#define FND_HEADER_HIDDEN __attribute__((visibility("hidden")))

/* One member of a struct that lives in the segment. */
struct fnd_layout_member {
	const char *structure;
	const char *member;
	uint32_t offset;
	uint32_t bytes;
};

/* Every member of every struct fnd_shm_*, in the order of layout.h. */
extern const struct fnd_layout_member fnd_layout_members[] FND_HEADER_HIDDEN;
extern const uint32_t fnd_layout_member_count FND_HEADER_HIDDEN;

/* XXH3 over the table above and the sizes of the structs: other layouts have another hash. */
FND_HEADER_HIDDEN uint64_t fnd_layout_hash(void);

/* What the members `checksum` and `home_checksum` of @h must be. */
FND_HEADER_HIDDEN uint64_t fnd_header_checksum(const struct fnd_shm_header *h);
FND_HEADER_HIDDEN uint64_t fnd_home_checksum(const struct fnd_shm_header *h);

/**
 * fnd_header_check - may this library work with a segment that has this header?
 * @h: private copy of the header. @file_bytes: size of the file it is from.
 *
 * From the general to the particular: whether it is ours (magic), whether we know its version and
 * features, whether it has our layout, whether it is undamaged, whether its parts fit. So a later
 * version, whose checksum may cover other bytes, is called too new and not damaged.
 *
 * Returns: 0, -FND_E_FOREIGN, -FND_E_TOO_OLD, -FND_E_TOO_NEW, -FND_E_LAYOUT, -FND_E_CORRUPT; the detail
 * names the member. A damaged home (boot, namespaces) is -FND_E_CORRUPT too; fnd_home_check() tells it
 * apart for a caller that is about to write a new one.
 */
FND_HEADER_HIDDEN int fnd_header_check(const struct fnd_shm_header *h, uint64_t file_bytes);

/* The part of fnd_header_check() that a takeover may disregard, and the rest of it. */
FND_HEADER_HIDDEN int fnd_home_check(const struct fnd_shm_header *h);
FND_HEADER_HIDDEN int fnd_header_check_fixed(const struct fnd_shm_header *h, uint64_t file_bytes);

#endif
