/* SPDX-License-Identifier: MIT */
/*
 * What the tests over several processes share: cases that run one by one in a process of their own,
 * children that report by exit status and die with their parent, names that nobody else has, and
 * fingerprints of whatever must not have been touched.
 */
#ifndef FND_TESTS_MULTIPROC_H
#define FND_TESTS_MULTIPROC_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <foundation/segment.h>
#include <foundation/table.h>

#define SKIP 77
#define NOBODY 65534

/* Memory that every child inherits. A case uses the words as it likes; all are 0 when it begins. */
struct shared {
	uint32_t word[64];
	uint64_t number[64];
};
extern struct shared *shared;

/* --- cases ---------------------------------------------------------------------------------------- */

struct test_case {
	const char *name;
	int (*run)(void); /* 0, 1 or SKIP */
};

/* Runs the cases named in argv, or all, one a line; a case that leaves a file behind has failed. */
int cases_main(int argc, char **argv, const char *prefix, const struct test_case *const *tables);

/* Says where, and what the library says about it. */
void complain(const char *file, int line, const char *what);

#define NEED(cond)                                            \
	do {                                                  \
		if (!(cond)) {                                \
			complain(__FILE__, __LINE__, #cond);  \
			return 1;                             \
		}                                             \
	} while (0)
#define TRY(x)                     \
	do {                       \
		int r_ = (x);      \
		if (r_ != 0)       \
			return r_; \
	} while (0)
#define SKIP_UNLESS(cond, why)                              \
	do {                                                \
		if (!(cond)) {                              \
			fprintf(stderr, "skip: %s\n", why); \
			return SKIP;                        \
		}                                           \
	} while (0)

/* Was the call refused with this code, and does the detail say this word? */
bool refused(int err, int code, const char *word);

/* --- names ---------------------------------------------------------------------------------------- */

/* A name nobody has; in static memory. */
const char *name_new(void);
/* Where it lives; in static memory, overwritten by the next call. */
const char *path_of(const char *name);

/* --- processes ------------------------------------------------------------------------------------ */

typedef int (*child_fn)(void *arg);

pid_t child_start(child_fn fn, void *arg);
/* Exit status, or 128 + the signal that ended it. */
int child_wait(pid_t pid);
int child_run(child_fn fn, void *arg);
void child_kill(pid_t pid); /* SIGKILL, and reap */

void nap_us(unsigned int us);
void spin(uint64_t turns); /* shorter than any nap: about 1 ns each */
uint64_t now_ns(void);
uint64_t random_u64(void); /* seeded per process; cases_main prints the seed */
void word_set(uint32_t *word, uint32_t value);
uint32_t word_get(const uint32_t *word);
uint32_t word_add(uint32_t *word, uint32_t n); /* the new value */
int word_wait(const uint32_t *word, uint32_t value); /* until it is at least that; 1 after 20 s */

/* --- segments and files --------------------------------------------------------------------------- */

/* A segment of 8 participant and 16 thread slots: small enough to be hashed often. */
struct fnd_segment_options small_options(void);
int create_small(const char *name, struct fnd_segment **ret_seg);
/* Options of a table with keys up to 32 and values up to 64 bytes. */
struct fnd_table_options table_options(uint32_t flags, uint64_t capacity);
/* Key number @i has a value that can be told from any other's. */
size_t key_text(char key[32], unsigned int i);
uint64_t value_of(unsigned int i);
int put(struct fnd_table *t, unsigned int i);
/* 0: there with its value, 1: there with another, or an error */
int check(struct fnd_table *t, unsigned int i);

struct fingerprint {
	struct stat st;
	uint64_t content;
	char link[128];
};

/* 0, or -errno: not there. Follows nothing. */
int fingerprint(const char *path, struct fingerprint *ret);
bool untouched(const char *path, const struct fingerprint *before);

/* A tmpfs of its own at /dev/shm, for this process and its children: 0, or SKIP. */
int private_shm(const char *options);
unsigned int shm_entries(void); /* names under /dev/shm */
uint64_t shm_free_bytes(void);
/* Another file takes what is left of /dev/shm but for @spare bytes. 0 or 1. */
int shm_fill(uint64_t spare);
void shm_unfill(void);

#endif
