/* SPDX-License-Identifier: MIT */
/*
 * A small segment that can be damaged and put back as it was: for the tests of repair and of verification.
 *
 * The tests link it with --wrap for a few calls, so that one chosen call of them can be refused, or let the
 * segment change at that very moment.
 */
#ifndef FOUNDATION_TESTS_RECOVERY_WORLD_H
#define FOUNDATION_TESTS_RECOVERY_WORLD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <foundation/segment.h>
#include <foundation/table.h>
#include <foundation/verify.h>

#include "index.h"
#include "internal.h"

#define CHAINED 24u /* keys of the first bucket: three overflow buckets */
#define KEYS (CHAINED + 26u)

struct world {
	char name[FND_NAME_MAX + 1];
	struct fnd_segment *seg;
	struct fnd_thread *me;
	struct fnd_table *t;   /* one shard: KEYS records, a free list, a batch, an open batch */
	struct fnd_table *two; /* two shards, a record or more in each */
	struct fnd_shm_shard *sh; /* of t */
	struct fnd_index ix;      /* of t */
	char key[KEYS][8];
	uint32_t dead; /* thread slot of a process that is gone and was not reaped */
	char *saved;
	size_t bytes;
};

extern struct world w;
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

void world_make(void);
void world_restore(void);
int world_end(void); /* exit status */

/* How many of the committed keys are there with their value. */
unsigned int world_present(void);
uint32_t lock_word_of(uint32_t thread_slot);
/* The @k-th record of a list. */
struct fnd_shm_record *listed(uint64_t head, unsigned int k);
void *at(uint64_t off);

/* True when fnd_verify() reports a defect whose text has @text; "": when it reports none. */
bool verify_says(const char *text);

/* One call in so many is special; 0: none is. Counted down at each call; negative: it has been. */
extern long refuse_memory; /* malloc, calloc, realloc: this one returns NULL */
extern long refuse_pread;  /* pread: this one is an I/O error */
extern bool refuse_on;     /* … and every one after it */
extern long act_at_pread;  /* before this pread, act() */
extern long act_at_evidence; /* before this question for a proof of death, act() */
extern void (*act)(void);

#endif
