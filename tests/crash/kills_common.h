/* SPDX-License-Identifier: MIT */
/* What both kill tests use: random numbers, the truth about a key, who stands still, what must hold in the end. */
#ifndef FND_TESTS_KILLS_COMMON_H
#define FND_TESTS_KILLS_COMMON_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <foundation/segment.h>
#include <foundation/table.h>

#define LOCK_MS 60000 /* a worker waits so long for a lock: on a busy machine its holder may have to wait, too */
#define FAILURE_BYTES 400

/* What a key holds: sequence << 1 | present. Sequences of a key are never given out twice. */
static inline uint64_t state_of(uint64_t seq, bool present)
{
	return seq << 1 | present;
}

struct key_journal {
	uint64_t intent; /* stored before the operation */
	uint64_t done;   /* … after it */
	uint64_t issued; /* highest sequence ever given out */
	uint64_t pad;
};

static inline uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ULL;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

static inline uint64_t draw(uint64_t *random)
{
	*random += 0x9e3779b97f4a7c15ULL;
	return mix(*random);
}

static inline void spin(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* Words of a journal, which others look at meanwhile. */
static inline uint64_t load(const uint64_t *p)
{
	return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static inline void store(uint64_t *p, uint64_t v)
{
	__atomic_store_n(p, v, __ATOMIC_SEQ_CST);
}

uint64_t now_ms(void);

/* A heart, and since when it has not beaten. */
struct pulse {
	uint64_t beat, since_ms;
};
void pulse_begin(struct pulse *p);
/* Has it stood still for too long, for a machine with so much to do? */
bool pulse_stopped(struct pulse *p, uint64_t beat, uint64_t now);

/* Memory that no kill can tear. */
void *journal_map(size_t bytes);
/* [N [SEED]] [--report FILE]. Prints the seed, returns the file. */
const char *kills_arguments(int argc, char **argv, uint64_t *wanted, uint64_t *seed);

/* A worker's way out when something is wrong: the reason goes to failure_text, which its parent shows. */
extern char *failure_text;
_Noreturn void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A write whose result is known: what is there, and what shall be. */
struct wish {
	const void *value; /* NULL: delete */
	size_t bytes;
	bool keep, present;
	bool mistaken; /* the callback met something else */
};
/* For fnd_table_modify(). */
enum fnd_modify answer(void *arg, const void *old, size_t old_bytes, const void **value, size_t *bytes);
/* Makes it so by one of three calls. */
int change(struct fnd_table *t, const void *key, size_t key_bytes, struct wish *w, unsigned int how);
/* What a killed worker left of a key: the result of a lookup against what it had noted. */
void inherit_key(struct key_journal *j, const char *what, uint32_t k, int err, uint64_t seq);

/*
 * With the caller the only participant left: every table adds up, no slot is taken, no lock held, every
 * span in use belongs to something. 0, or 1 with the reasons on stderr, each behind @prefix.
 */
int structure_check(struct fnd_segment *seg, const char *prefix);

#endif
