/* SPDX-License-Identifier: MIT */
/*
 * What the killer and its victims share, in anonymous memory outside the segment that no kill can tear.
 *
 * A key, a name and a claim has one worker that writes it; the worker notes what it is about to do, does
 * it, and notes that it has. Its successor, and the end of each round, compare.
 */
#ifndef FND_TESTS_KILLS_MANY_H
#define FND_TESTS_KILLS_MANY_H

#include "kills_common.h"

#include <foundation/dedup.h>
#include <foundation/registry.h>

#define WORKERS 8
#define KILLS_A_ROUND 5000
#define SPARES 50 /* tables of a round that are made and grown, one after the other */
#define FIXED 2   /* tables that are there from the start */
#define KEYS 128  /* of a table; key k is worker k % WORKERS's */
#define NAMES 2   /* in the registry, a worker */
#define CLAIMS 1024
#define VALUE_WORDS 6

enum doing { IN_ATTACH, IN_CHECK, IN_WRITE, IN_READ, IN_NAME, IN_CLAIM, IN_CARE, BETWEEN, DOINGS };

struct worker_journal {
	uint64_t done; /* operations, over all lives of a round */
	uint32_t doing;
	uint32_t pad;
	char failure[FAILURE_BYTES];
};

struct name_journal {
	uint64_t intent, done, issued; /* as of a key */
	struct fnd_participant intends, owns; /* who does, or did, the one and the other */
};

struct claim_journal {
	uint64_t author;          /* who was told EMITTED; 0: nobody that lived to note it */
	uint64_t intent[WORKERS]; /* the life that is in a claim, or was killed in one */
	uint32_t settled;         /* somebody was told something */
	uint32_t pad;
};

struct journal {
	char segment[64];
	uint64_t seed;
	uint32_t round;
	uint32_t tick; /* kills of this round */
	uint32_t stop;
	uint32_t pad;
	struct worker_journal worker[WORKERS];
	struct key_journal key[FIXED + SPARES][KEYS];
	struct name_journal name[WORKERS][NAMES];
	struct claim_journal claim[CLAIMS];
};

/* A value: every byte follows from its key and sequence. The event of a claim is one too. */
struct value {
	uint64_t key, seq, sum;
	uint64_t word[VALUE_WORDS];
};

extern struct journal *journal;

static inline uint64_t key_of(uint32_t table, uint32_t k)
{
	return (uint64_t)table << 32 | k;
}

static inline size_t value_make(uint64_t key, uint64_t seq, struct value *v)
{
	size_t words = seq % (VALUE_WORDS + 1);

	v->key = key;
	v->seq = seq;
	v->sum = mix(key ^ seq << 24);
	for (size_t i = 0; i < words; i++)
		v->word[i] = v->sum + i + 1;
	return offsetof(struct value, word) + 8 * words;
}

/* Options and name of a table. */
void table_describe(uint32_t table, struct fnd_table_options *opt, char name[32]);
/* Is that a value key ever had? *ret_seq: which. */
bool value_sound(uint64_t key, const void *value, size_t bytes, uint64_t *ret_seq);
/* The metadata of a name at a sequence: a map of three numbers. */
#define METADATA_BYTES 31
void metadata_make(uint64_t key, uint64_t seq, unsigned char buf[METADATA_BYTES]);
bool metadata_sound(uint64_t key, const struct fnd_agent *a, uint64_t *ret_seq);

_Noreturn void worker_run(unsigned int id, uint64_t life);
/* At the end of a round, with everybody gone. 0, or 1 with the reasons on stderr. */
int verdict(struct fnd_segment *seg);

#endif
