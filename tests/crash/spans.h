/* SPDX-License-Identifier: MIT */
/* Is every span of a segment somebody's? For all suites that look at a segment after a death. */
#ifndef FND_TESTS_SPANS_H
#define FND_TESTS_SPANS_H

#include "internal.h"

/*
 * Each span is free, or the root, a region or an index of a table that is ready; an index may wait for its
 * readers. Calls @leaked with the offset of each that is not. 0, or the walk's negative errno.
 */
int spans_check(struct fnd_segment *seg, void (*leaked)(struct fnd_segment *seg, uint64_t off));

#endif
