/* SPDX-License-Identifier: MIT */
/* What the tests of flags over several processes share. */
#ifndef FND_TESTS_FLAGS_TEST_H
#define FND_TESTS_FLAGS_TEST_H

#include <foundation/flags.h>

/* A small segment with its flags open, and its end, with its journal. */
int flags_begin(const char *name, struct fnd_segment **ret_seg, struct fnd_flags **ret_flags);
int flags_end(struct fnd_segment *seg, struct fnd_flags *f, const char *name);
int flags_purge(const char *name);
/* Removes the segment and makes it anew, from its journal. */
int flags_anew(const char *name, struct fnd_segment **seg, struct fnd_flags **f);

void sched_yield_some(void);

#endif
