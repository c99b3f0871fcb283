/* SPDX-License-Identifier: MIT */
/* What the two files of the conformance suite share. */
#ifndef FND_TESTS_CONFORMANCE_H
#define FND_TESTS_CONFORMANCE_H

#include <stdbool.h>

#include <foundation/runtime.h>

#define SETTINGS 7u

struct setting {
	const char *name;
	int flags[2][2]; /* shared_registry and migration_monitoring, before odd steps and before even ones */
};
extern const struct setting settings[SETTINGS];

/* A segment of our own, its journal in a directory of our own. 0 or 1. */
int world_begin(struct fnd_segment **ret_seg);
int world_end(struct fnd_segment *seg);
int flags_set(struct fnd_flags *f, const int to[2]);
/* The table of differences, as cases; returns how many there are. */
unsigned int differences_run(struct fnd_segment *seg, unsigned int *failed);

#endif
