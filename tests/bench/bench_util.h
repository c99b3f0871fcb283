/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the benchmark share: keys, values, access sequences, contenders, statistics.
 *
 * Every contender gets the same keys, the same hash function and seed, and the same value copied, in the
 * same order. Keys are laid out beforehand in the order of access, so that the harness streams them and
 * the only scattered memory is the contender's own.
 */
#ifndef BENCH_UTIL_H
#define BENCH_UTIL_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_HASH_SEED UINT64_C(0x464f554e444154)
#define BENCH_ROUNDS_MAX 64
#define BENCH_SAMPLES_MAX 2048 /* what bench_quantile() takes */
#define BENCH_WORKERS_MAX 2
#define BENCH_BATCH 16

struct bench_key {
	uint64_t w[3];
};

struct bench_value {
	uint64_t w[8];
};

_Static_assert(sizeof(struct bench_key) == 24, "keys are 24 bytes");
_Static_assert(sizeof(struct bench_value) == 64, "values are 64 bytes");

enum bench_dist { BENCH_UNIFORM = 0, BENCH_ZIPF = 1, BENCH_DISTS = 2 };

/* Accesses in order. coins[i] is 0 to 99: the i-th access writes when it is below the write share. */
struct bench_sequence {
	struct bench_key *keys;
	uint8_t *coins;
	size_t length;
};

/* Shared by the workers of a crew while its table grows. */
struct bench_board {
	uint64_t filled;  /* every key below this index is in the table; atomic */
	uint64_t reading; /* how many workers have begun to read; atomic */
};

struct bench_data {
	uint64_t entries;
	uint64_t grows_to; /* 0: tables are made for their entries, otherwise they have to grow */
	struct bench_sequence seq[BENCH_DISTS][BENCH_WORKERS_MAX];
	struct bench_key *churn; /* half of the keys, in no order: deleted and inserted again */
	size_t churn_length;
	struct bench_board *board;
};

/* A stretch of a sequence, to be worked off by one worker. */
struct bench_work {
	const struct bench_key *keys;
	const uint8_t *coins;
	size_t count;
	unsigned int write_percent; /* 0: lookups only, 100: replaces only */
	uint64_t generation;	    /* goes into every value written */
};

/*
 * One of the tables compared. A table is created and filled by the main thread; each worker, a process
 * or a thread of its own, joins it. Loops are inside run() and its like: no call through a pointer an
 * operation. All return 0 or a negative errno. What a contender cannot do is NULL.
 */
struct bench_contender {
	const char *name;
	const char *scheme; /* what protects its readers, where that alone is measured */
	bool processes;	    /* workers are processes, otherwise threads */
	int (*create)(const struct bench_data *data, void **ret_table);
	void (*destroy)(void *table);
	int (*join)(void *table, void **ret_self);
	void (*leave)(void *self);
	void (*wake)(void *self); /* before a worker's order is obeyed, and after; may be NULL */
	void (*rest)(void *self);
	int (*run)(void *self, const struct bench_work *work, uint64_t *ret_sum);
	int (*batch)(void *self, const struct bench_work *work, uint64_t *ret_sum); /* lookups, 16 at once */
	int (*insert)(void *self, const struct bench_key *keys, size_t count, uint64_t generation);
	int (*remove)(void *self, const struct bench_key *keys, size_t count);
	int (*lookup)(void *self, const struct bench_key *key, struct bench_value *ret_value);
	int (*sections)(void *self, uint64_t count); /* read section begin + end, so often */
	void (*settle)(void *self);		     /* after a timed stretch, not timed; may be NULL */
	int (*grace)(void *table);		     /* one grace period, from the main thread */
	int (*bytes)(void *table, uint64_t *ret_bytes, uint64_t *ret_records); /* all that a table takes */
};

extern const struct bench_contender bench_ours;
extern const struct bench_contender bench_lfht_memb;
extern const struct bench_contender bench_lfht_memb_calls;
extern const struct bench_contender bench_lfht_qsbr;
extern const struct bench_contender bench_floor;
extern const struct bench_contender bench_floor_apart;
extern const struct bench_contender bench_ours_calls; /* joins tables of bench_ours */
extern const struct bench_contender bench_linked;	    /* bench_ours, through pointers */
extern const struct bench_contender bench_variant; /* what bench_variant_load() found */

int bench_variant_load(const char *path);
const char *bench_library_version(void);
const char *bench_library_detail(void); /* what the last failed call said, "" if nothing */
void bench_library_note(const char *detail); /* … in a worker of another process */
void bench_remove_stale(void);

/* Set by SIGINT, SIGTERM and SIGHUP; whoever works for long looks at it now and then. */
extern volatile sig_atomic_t bench_interrupted;

/* A bijection of 64-bit numbers (the finaliser of SplitMix64): distinct indexes make distinct keys. */
static inline uint64_t bench_mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static inline struct bench_key bench_key_of(uint64_t index)
{
	uint64_t a = bench_mix(index + 1);

	return (struct bench_key){ { a, bench_mix(a), bench_mix(a + 1) } };
}

/* The last word of every value, whatever its generation: the sum over a run can be known beforehand. */
static inline uint64_t bench_check_word(const struct bench_key *key)
{
	return key->w[1] ^ UINT64_C(0xa5a5a5a5a5a5a5a5);
}

static inline void bench_value_of(const struct bench_key *key, uint64_t generation,
				  struct bench_value *ret_value)
{
	uint64_t salt = generation * UINT64_C(0x9e3779b97f4a7c15);

	ret_value->w[0] = generation;
	for (unsigned int i = 1; i < 7; i++)
		ret_value->w[i] = key->w[i % 3] ^ (salt + i);
	ret_value->w[7] = bench_check_word(key);
}

/* Makes the compiler believe that all of *@value is read, so that no part of the copy is left out. */
static inline uint64_t bench_consume(const struct bench_value *value)
{
	__asm__ volatile("" : : "r"(value) : "memory");
	return value->w[7];
}

uint64_t bench_now_ns(void);

/*
 * Keep the calling thread on the @number-th CPU this program may use, or give it back all of them. Two
 * workers that woke on one CPU would otherwise share it for longer than a stretch lasts. A single worker
 * is never pinned: threads that liburcu starts from it would be pinned with it.
 */
void bench_pin(unsigned int number);
void bench_unpin(void);
int bench_data_make(struct bench_data *data, uint64_t entries, unsigned int workers,
		    bool with_zipf);
void bench_data_free(struct bench_data *data);
double bench_quantile(const double *values, size_t count, double q);

/* @text as a number from 1 to @most, or -EINVAL. */
int bench_number(const char *text, unsigned long long most, unsigned long long *ret_value);

/* Is @name in @list, names by commas? */
bool bench_listed(const char *list, const char *name);

#endif
