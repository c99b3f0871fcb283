/* SPDX-License-Identifier: MIT */
/* Snapshots in memory, to be read as they are and as somebody has changed them. */
#ifndef FND_TESTS_SNAPSHOT_IMAGES_H
#define FND_TESTS_SNAPSHOT_IMAGES_H

#include <stdbool.h>

#include "snapshot.h"

extern unsigned int failures;
extern unsigned long checks;

#define CHECK(cond, ...)                                                           \
	do {                                                                       \
		checks++;                                                          \
		if (!(cond)) {                                                     \
			failures++;                                                \
			fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #cond); \
			fprintf(stderr, __VA_ARGS__);                              \
			fprintf(stderr, " (%s)\n", fnd_error_detail());            \
		}                                                                  \
	} while (0)

/* A whole file. */
struct image {
	unsigned char *p;
	size_t bytes;
};

extern const struct fnd_snapshot_info head;
extern const struct fnd_snapshot_table plain, owned, empty;

int memory_file(void);
void begin(struct fnd_snapshot_writer *w);
struct image end(struct fnd_snapshot_writer *w);
void put(struct fnd_snapshot_writer *w, const void *key, size_t key_bytes, const void *value,
	 size_t value_bytes, const struct fnd_owner *owner);
/* With one of everything: header, definitions, two blocks of records, footer. */
struct image small_image(void);
int parse(const struct image *im, const struct fnd_snapshot_visitor *v, struct fnd_snapshot_info *ret_info,
	  size_t *ret_peak);
/* The same through a pipe, in pieces of an odd size. */
int through_pipe(const struct image *im, struct fnd_snapshot_info *ret_info);
/* Is this how the detail of the last failure begins? */
bool starts(const char *with);

/* What a hostile writer could make, with every checksum right. */
void test_hostile(void);

#endif
