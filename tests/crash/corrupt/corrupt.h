/* SPDX-License-Identifier: MIT */
/*
 * Corrupt segments: flip bits of a small segment that has everything in it, then do everything with it.
 *
 * The segment's mapping lies between pages nobody may touch, and ends in pages the file does not have: an
 * access outside is a signal. Flips are made in children, who note first what they are about to flip, so that
 * a crash or a hang has a name, and the name reproduces it.
 */
#ifndef FND_TESTS_CORRUPT_H
#define FND_TESTS_CORRUPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <foundation/dedup.h>
#include <foundation/registry.h>
#include <foundation/segment.h>
#include <foundation/table.h>

#include "layout.h"

#define KEYS_A 96
#define KEYS_B 64
#define NAMES 6
#define LOCK_MS 20
#define WRITE_BOUND_NS 3000000000ULL /* lock waits of 20 ms, naps for the epoch of 50 ms: 20 times and more */
#define HANG_SECONDS 60

/* What a byte of the image is for. */
enum meaning {
	MEANING_NONE = 0,   /* values, padding, what is free: any content is sound */
	MEANING_FIGURE = 1, /* another value may be as sound: stamps, generations, lengths of values */
	MEANING_STRUCTURE = 2,
};

struct image {
	char name[64];
	char path[160];
	char *bytes; /* as it was */
	char *map;   /* the file */
	uint8_t *meaning; /* [size] */
	uint64_t *structure; /* offsets of the bytes of structure from the directory on */
	size_t structures;
	size_t size;
	pid_t peer; /* a live participant that does nothing */
	uint32_t peer_slot, dead_slot; /* thread slots */
};

/* Shared with the children. */
struct board {
	char flip[160]; /* what is being flipped, and how to do it again */
	char stage[64];
	char violation[256];
	uint64_t done;     /* children have finished up to here */
	uint64_t flips;
	uint64_t attached, refused;
	uint64_t timeouts, corrupt; /* results of calls */
	uint64_t slowest_write_ns;
	uint64_t found[3], total[3]; /* by the verifier, of single flips; index: enum meaning */
	uint64_t missed[8];          /* offsets of structure flips it did not find */
	uint64_t misses;
};

extern struct board *board;
extern struct image image;

static inline uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

static inline uint64_t draw(uint64_t *random)
{
	return mix((*random)++);
}

/* corrupt_image.c */
void image_make(void);
void image_free(void);
void image_restore(void);
void flip_bit(uint64_t bit); /* of the file */
/* Offsets of all lock words. Returns how many. */
size_t image_locks(uint64_t at[], size_t room);
uint32_t lock_word(uint32_t thread_slot);

/* corrupt_visit.c */
struct visitor {
	struct fnd_segment *seg;
	struct fnd_table *a, *b;
	struct fnd_registry *reg;
	struct fnd_dedup *dedup;
	bool skip_a, skip_b, skip_reg, skip_dedup; /* has waited long enough for it in this series */
};

void stage(const char *what);
__attribute__((format(printf, 1, 2))) void violation(const char *fmt, ...);
/* False: refused. */
bool visit_begin(struct visitor *v);
void visit_quick(struct visitor *v, uint64_t random);
void visit_all(struct visitor *v, uint64_t random);
void visit_end(struct visitor *v);
void visit_observe(void);
/* Does the verifier find anything? @bit: a single flip, counted by its meaning. */
void visit_verify(uint64_t bit);
void visit_verify_any(void);

void key_a(unsigned int i, char key[16], size_t *ret_bytes);
void key_b(unsigned int i, char key[16], size_t *ret_bytes);

#endif
