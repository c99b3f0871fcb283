/* SPDX-License-Identifier: MIT */
/*
 * What the parent and the workers of the kill test share.
 *
 * The truth about each key lies in a journal outside the segment, in memory of the parent's that no kill
 * can tear: a writer notes what it is about to commit, commits it, and notes that it has. Whatever moment
 * it is killed at, its key then holds what the one or the other note says, and nothing else.
 */
#ifndef FND_TESTS_KILLS_H
#define FND_TESTS_KILLS_H

#include "kills_common.h"

#define WORKERS 4
#define TABLES 2
#define KEYS 640 /* of a table; key k belongs to worker k % WORKERS */
#define SPARE_TABLES 40
#define VALUE_WORDS 12

struct worker_journal {
	uint64_t beat;
	uint32_t phase; /* odd: inside an operation */
	uint32_t rare;  /* odd: inside one that makes a table, grows one, attaches or leaves */
	uint32_t order; /* of the killer's: make and fill spare table number order - 1 */
	uint32_t pad;
	uint64_t writes, attaches;
	char failure[FAILURE_BYTES];
};

struct journal {
	char segment[64];
	uint64_t seed;
	uint32_t round;
	uint32_t stop; /* leave in order */
	struct worker_journal worker[WORKERS];
	struct key_journal key[TABLES][KEYS];
};

struct value {
	uint64_t key, seq;
	uint64_t word[VALUE_WORDS]; /* as many as the sequence says */
};

extern struct journal *journal;
extern const struct fnd_table_options table_options[TABLES];
extern const char *const table_names[TABLES];

/* Key @k of a table, 8 to 24 bytes. Returns its length. */
size_t key_make(uint32_t table, uint32_t k, char buf[32]);
/* The one value key @k can have at sequence @seq. Returns its size. */
size_t value_make(uint32_t table, uint32_t k, uint64_t seq, struct value *v);
/* Is that a value key @k ever had? *ret_seq: which. */
bool value_sound(uint32_t table, uint32_t k, const void *value, size_t bytes, uint64_t *ret_seq);
/* Key number, or KEYS: no key of ours. */
uint32_t key_number(uint32_t table, const void *key, size_t bytes);

/* A worker's life; does not return. @life: how many came before it. */
_Noreturn void worker_run(unsigned int id, uint64_t life);
/* Everything that must hold once nobody is left; 0, or 1 with the reasons on stderr. */
int verdict(struct fnd_segment *seg, struct fnd_table *const table[TABLES]);

#endif
