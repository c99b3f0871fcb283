/* SPDX-License-Identifier: MIT */
/* What must hold after a death. Shared by the suites that cut a log of stores and those that kill for real. */
#ifndef FND_TESTS_STORES_CHECK_H
#define FND_TESTS_STORES_CHECK_H

#include "world.h"

#define UNION_MAX 256
#define VALUE_MAX 700

/* A key of any table, with what it holds before and after the operation. bytes -1: it is not there. */
struct model_entry {
	uint32_t table; /* directory entry */
	uint32_t key_bytes;
	int before_bytes, after_bytes;
	unsigned char key[256];
	unsigned char before[VALUE_MAX], after[VALUE_MAX];
};

struct model {
	struct model_entry entry[UNION_MAX];
	uint32_t nentries;
	int seen[UNION_MAX]; /* what readers saw before the repair: 0 before, 1 after, 2 both alike */
	bool table_before[FND_TABLES], table_after[FND_TABLES];
};

extern struct model model;
/* Offset of the first byte that changed although the open read section may look at it; 0: none. */
uint32_t held_broken(void);

/* Contents before and after the whole operation: every key may show either, the others one. */
void model_before(void);
void model_after(void);
void model_free(void);
/* Is this the key that the operation changes more than once? Then it may hold other things between. */
bool entry_passing(const struct model_entry *e);
/* Adds what the open read section may look at. */
void held_take(void);

struct trial {
	enum who rescuer;
	unsigned int order; /* of the rescuer's steps */
	bool thorough;      /* new work afterwards, too */
};

/* NULL, or what is wrong. Each in turn, on the same state. */
const char *check_readers(const struct trial *t); /* before anything is repaired */
const char *recover(const struct trial *t);
const char *check_all(const struct trial *t); /* once it is */
const char *check_new_work(const struct trial *t);

#endif
