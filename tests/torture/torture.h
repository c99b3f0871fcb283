/* SPDX-License-Identifier: MIT */
/*
 * What the torture programs share: a segment, a crew, and checks with names.
 *
 * The same program runs as threads on one mapping, where ThreadSanitizer can see, and as processes, where
 * each has a mapping of its own. A check that fails prints "CHECK name FAILED" and what it saw; the
 * program ends with 1. Built against a library with a seeded bug, exactly the check for that bug fails.
 */
#ifndef FND_TESTS_TORTURE_H
#define FND_TESTS_TORTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <foundation/segment.h>
#include <foundation/table.h>

#define CREW_MAX 8

struct torture {
	bool processes; /* a crew is made of processes, not of threads */
	unsigned int seconds;
	uint64_t seed;
	const char *only; /* one part, or NULL: all */
	char segment[64];
	struct fnd_segment *seg; /* this process's */
};

/* Shared by everybody, outside the segment. */
struct board {
	uint32_t failed;
	uint32_t stop;
	uint32_t step[4]; /* hand-shakes between two members */
	uint64_t issued;  /* sequences given out */
	int64_t balance;  /* inserts that succeeded less deletes that did */
	uint64_t inside;  /* plain: only who holds the lock touches it */
	uint64_t entered; /* plain, as well */
	uint64_t ops;
	int64_t result; /* of a member's call, for another to judge */
	char detail[256];
	uint8_t pinned[4096];
};

struct member {
	unsigned int id;
	struct fnd_segment *seg;
	struct fnd_table *table;
	uint64_t random;
};

extern struct torture torture;
extern struct board *board;

/* Options, the segment, the board. Exits with 2 on nonsense. */
void torture_begin(int argc, char **argv, const char *program);
/* Removes the segment. Returns the exit status. */
int torture_end(void);
/* Is this part to be run? */
bool torture_part(const char *name);

/* The check @name has failed; fmt says how. Once is enough: later failures of it are not repeated. */
__attribute__((format(printf, 2, 3))) void check_failed(const char *name, const char *fmt, ...);
#define CHECK(name, cond, ...)                           \
	do {                                             \
		if (!(cond))                             \
			check_failed(name, __VA_ARGS__); \
	} while (0)

typedef void (*crew_fn)(struct member *m);
/* @n members run @fn on table @name, each from its own process or thread; returns when all have ended. */
void crew_run(unsigned int n, const char *name, const struct fnd_table_options *opt, crew_fn fn);
/* A child that runs @fn, with a participation of its own, on a table that exists. */
pid_t child_start(const char *name, crew_fn fn);
void child_kill(pid_t pid);
int child_wait(pid_t pid);

void step_set(unsigned int which, uint32_t value);
void step_wait(unsigned int which, uint32_t value); /* fails the check "progress" after 20 s */
bool stopped(void);
uint64_t now_ms(void);
uint64_t draw(uint64_t *random);
void spin(uint64_t n);

/* Values whose every byte follows from key and sequence. */
struct value {
	uint64_t key, seq;
	uint64_t word[8];
};
size_t value_make(uint64_t key, uint64_t seq, struct value *v);
bool value_sound(uint64_t key, const void *value, size_t bytes, uint64_t *ret_seq);

#endif
